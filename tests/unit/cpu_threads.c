/* SPDX-License-Identifier: MIT */
/*
 * Answers do not depend on who computed what: the same text and the same logits, bit for bit, with
 * any number of threads, while workers are slowed down here and there and take each other's work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/device/cpu/pool.h"
#include "tests/lib/subject.h"

#define PROMPT	70	/* more than one batch, and a last one that is not full */
#define TOKENS	40

static atomic_uint pieces, by_worker[UNPU_POOL_MAX_THREADS];
static atomic_uint slow;	/* one piece in so many takes long; 0: none */

void unpu_pool_hook_piece(uint32_t worker, uint32_t units)
{
	const struct timespec nap = { .tv_nsec = 150000 };
	uint32_t n = atomic_fetch_add(&pieces, 1), every = atomic_load(&slow);

	(void)units;
	atomic_fetch_add(&by_worker[worker], 1);
	if (every && n * 2654435761u >> 8 & 1 && n % every == 0)
		nanosleep(&nap, NULL);
}

static struct unpu_session *text(const struct subject *s, float temperature)
{
	struct unpu_session_params params = subject_params();
	struct subject_text out = { 0 };
	struct unpu_session *session;
	uint32_t ids[PROMPT];

	params.temperature = temperature;
	params.seed = 3;
	session = subject_session(s, &params);
	subject_ids(s, ids, PROMPT);
	assert_int_equal(unpu_session_prompt(session, ids, PROMPT), 0);
	assert_int_equal(unpu_session_generate(session, TOKENS, subject_collect, &out), 0);
	assert_int_equal(out.count, TOKENS);
	return session;
}

static void compare(uint32_t type, float temperature)
{
	static const struct { uint32_t threads, flags, slow; } ways[] = {
		{ 2, 0, 0 }, { 2, 0, 5 }, { 3, 0, 3 }, { 7, 0, 40 }, { 0, 0, 7 },
		{ 5, UNPU_MODEL_CLAMP, 7 },
	};
	struct subject one, other;
	struct unpu_session *first, *next;

	subject_open(&one, "llama", type, 1, 0);
	first = text(&one, temperature);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		atomic_store(&slow, ways[i].slow);
		subject_open(&other, "llama", type, ways[i].threads, ways[i].flags);
		next = text(&other, temperature);
		atomic_store(&slow, 0);
		subject_assert_equal(first, next, one.vocab);
		unpu_session_destroy(next);
		subject_close(&other);
	}
	unpu_session_destroy(first);
	subject_close(&one);
}

static void test_q8_0(void **state)
{
	(void)state;
	compare(UNPU_TYPE_Q8_0, 0.0f);
}

static void test_q4_0_drawn(void **state)
{
	(void)state;
	compare(UNPU_TYPE_Q4_0, 0.9f);
}

static void test_f32(void **state)
{
	(void)state;
	compare(UNPU_TYPE_F32, 0.0f);
	/* Or nothing was compared: the second of three has computed something. */
	assert_true(atomic_load(&by_worker[1]) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_q8_0),
		cmocka_unit_test(test_q4_0_drawn),
		cmocka_unit_test(test_f32),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
