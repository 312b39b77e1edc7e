/* SPDX-License-Identifier: MIT */
/* A session's tokens: rolled back, replaced, read; sessions in turn on one model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/model/gguf.h"
#include "tests/lib/subject.h"
#include "tests/lib/vocab.h"

#define CONTEXT	120

/* The session says what a fresh one says that was given its tokens in one prompt. */
static void assert_as_fresh(const struct subject *s, struct unpu_session *session,
			    const struct unpu_session_params *params)
{
	struct unpu_session *fresh = subject_session(s, params);
	struct subject_text a = { 0 }, b = { 0 };
	uint32_t ids[CONTEXT], n;

	n = (uint32_t)unpu_session_tokens(session, 0, ids, CONTEXT);
	assert_int_equal(unpu_session_prompt(fresh, ids, n), 0);
	subject_assert_equal(session, fresh, s->vocab);
	if (n) {
		assert_int_equal(unpu_session_generate(session, 2, subject_collect, &a),
				 UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_generate(fresh, 2, subject_collect, &b),
				 UNPU_REASON_LENGTH);
		assert_memory_equal(a.ids, b.ids, 2 * sizeof(*a.ids));
		assert_int_equal(unpu_session_rollback(session, n), 0);
	}
	unpu_session_destroy(fresh);
}

/* ---- prefixes that are kept --------------------------------------------------------------- */

static uint64_t rows_run(struct unpu_session *session)
{
	static uint64_t before;
	uint64_t now = subject_info(session).prompt_tokens, rows = now - before;

	before = now;
	return rows;
}

static void only_new_tokens_run(void **state)
{
	const struct tiny_params tiny = { .arch = "llama", .type = UNPU_TYPE_Q8_0, .tied = -1,
					   .context = 256 };
	struct unpu_session *session, *fresh;
	uint32_t ids[256];
	struct subject s;

	(void)state;
	subject_open_tiny(&s, &tiny, 1, 0);
	subject_ids(&s, ids, 256);
	session = subject_session(&s, NULL);
	assert_int_equal(unpu_session_replace(session, ids, 200), 0);
	assert_int_equal(rows_run(session), 200);
	assert_int_equal(unpu_session_replace(session, ids, 210), 200);
	assert_int_equal(rows_run(session), 10);
	fresh = subject_session(&s, NULL);
	assert_int_equal(unpu_session_prompt(fresh, ids, 210), 0);
	subject_assert_equal(session, fresh, s.vocab);
	rows_run(session);

	/* its logits were given up by the rollback of that comparison, then they are there */
	assert_int_equal(unpu_session_replace(session, ids, 210), 210);
	assert_int_equal(rows_run(session), 1);
	assert_int_equal(unpu_session_replace(session, ids, 210), 210);
	assert_int_equal(rows_run(session), 0);
	assert_int_equal(unpu_session_generate(session, 5, NULL, NULL), UNPU_REASON_LENGTH);
	assert_int_equal(unpu_session_tokens(session, 0, ids, 256), 215);
	/* a token that was sampled last has not been through the layers */
	assert_int_equal(unpu_session_replace(session, ids, 215), 215);
	assert_int_equal(rows_run(session), 1);
	assert_int_equal(unpu_session_replace(session, ids, 216), 215);
	assert_int_equal(rows_run(session), 1);
	assert_int_equal(unpu_session_replace(session, ids, 100), 100);
	assert_int_equal(rows_run(session), 1);
	ids[50]++;
	assert_int_equal(unpu_session_replace(session, ids, 60), 50);
	assert_int_equal(rows_run(session), 10);
	assert_int_equal(unpu_session_replace(session, ids, 0), 0);
	assert_int_equal(rows_run(session), 0);
	assert_int_equal(subject_info(session).used, 0);
	assert_int_equal(unpu_session_generate(session, 1, NULL, NULL), -EINVAL);
	unpu_session_destroy(session);
	unpu_session_destroy(fresh);
	subject_close(&s);
}

/* ---- mistakes ----------------------------------------------------------------------------- */

static void mistakes_change_nothing(void **state)
{
	struct unpu_session_params params = subject_params();
	uint32_t ids[CONTEXT + 1], bad[3] = { 1, 2 };
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, CONTEXT + 1);
	bad[2] = s.vocab;
	params.context = CONTEXT;
	session = subject_session(&s, &params);
	assert_int_equal(unpu_session_prompt(session, ids, 9), 0);
	subject_errors = 0;
	assert_int_equal(unpu_session_replace(session, ids, CONTEXT + 1), -ENOSPC);
	assert_int_equal(unpu_session_replace(session, bad, 3), -EINVAL);
	assert_int_equal(unpu_session_rollback(session, 10), -EINVAL);
	assert_int_equal(subject_errors, 3);
	assert_non_null(strstr(subject_log, "10"));
	assert_int_equal(subject_info(session).used, 9);
	assert_as_fresh(&s, session, &params);
	assert_int_equal(unpu_session_replace(session, ids, CONTEXT), 9);
	assert_int_equal(unpu_session_generate(session, 1, NULL, NULL), UNPU_REASON_CONTEXT);
	unpu_session_destroy(session);
	subject_close(&s);
}

static void tokens_are_read_in_parts(void **state)
{
	uint32_t ids[20], got[20] = { 0 };
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, 20);
	session = subject_session(&s, NULL);
	assert_int_equal(unpu_session_tokens(session, 0, NULL, 0), 0);
	assert_int_equal(unpu_session_prompt(session, ids, 20), 0);
	assert_int_equal(unpu_session_tokens(session, 7, got, 5), 13);
	assert_memory_equal(got, ids + 7, 5 * sizeof(*ids));
	assert_int_equal(got[5], 0);
	assert_int_equal(unpu_session_tokens(session, 18, got, 20), 2);
	assert_memory_equal(got, ids + 18, 2 * sizeof(*ids));
	assert_int_equal(unpu_session_tokens(session, 20, got, 20), 0);
	assert_int_equal(unpu_session_tokens(session, UINT32_MAX, got, 20), 0);
	unpu_session_destroy(session);
	subject_close(&s);
}

/* A draw depends on the seed and the place: going back says the same again. */
static void going_back_says_the_same(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject_text first = { 0 }, second = { 0 };
	struct unpu_session *session;
	uint32_t ids[10];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	subject_ids(&s, ids, 10);
	params.temperature = 2;
	params.frequency_penalty = 0.5f;
	params.seed = 3;
	session = subject_session(&s, &params);
	assert_int_equal(unpu_session_prompt(session, ids, 10), 0);
	assert_int_equal(unpu_session_generate(session, 30, subject_collect, &first),
			 UNPU_REASON_LENGTH);
	for (uint32_t back = 10; back < 40; back += 7) {
		second.count = back - 10;
		second.length = 0;
		assert_int_equal(unpu_session_rollback(session, back), 0);
		assert_int_equal(unpu_session_generate(session, 40 - back, subject_collect,
						       &second), UNPU_REASON_LENGTH);
		assert_memory_equal(first.ids + back - 10, second.ids + back - 10,
				    (40 - back) * sizeof(*ids));
	}
	unpu_session_destroy(session);
	subject_close(&s);
}

/* ---- any order of calls ------------------------------------------------------------------- */

static void step(const struct subject *s, struct unpu_session *session, uint64_t *random)
{
	uint32_t ids[CONTEXT], used, n, fill;
	float *logits;

	used = (uint32_t)unpu_session_tokens(session, 0, ids, CONTEXT);
	for (fill = used; fill < CONTEXT; fill++)
		ids[fill] = vocab_random(random, s->vocab);
	n = vocab_random(random, 12);
	n = n < CONTEXT - 4 - used ? n : CONTEXT - 4 - used;
	switch (vocab_random(random, 6)) {
	case 0:
		assert_int_equal(unpu_session_prompt(session, ids + used, n), 0);
		break;
	case 1:
		assert_int_equal(unpu_session_rollback(session, vocab_random(random, used + 1)), 0);
		break;
	case 2:
		assert_int_equal(unpu_session_replace(session, ids, used + n), used);
		break;
	case 3:
		n = vocab_random(random, used + 1);
		ids[n] = (ids[n] + 1) % s->vocab;
		fill = n + vocab_random(random, 20);
		fill = fill < CONTEXT - 4 ? fill : CONTEXT - 4;
		n = fill < n ? fill : n;
		assert_in_range(unpu_session_replace(session, ids, fill), n, fill);
		break;
	case 4:
		if (used)
			assert_int_equal(unpu_session_generate(session, n, NULL, NULL),
					 UNPU_REASON_LENGTH);
		break;
	case 5:
		logits = calloc(n + 1, s->vocab * sizeof(*logits));
		assert_non_null(logits);
		assert_int_equal(unpu_session_logits(session, ids + used, n, logits), 0);
		free(logits);
		break;
	}
}

/* Three sessions of one model in turn, each of its own kind, in any order of calls. */
static void any_order_of_calls(void **state)
{
	static const char *const archs[] = { "llama", "gpt2" };
	static const enum unpu_kv kvs[] = { UNPU_KV_F16, UNPU_KV_F32, UNPU_KV_INT8 };
	bool slow = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");
	uint32_t steps = slow ? 60 : 300;
	uint64_t random = 5;

	(void)state;
	for (size_t a = 0; a < 2; a++) {
		struct unpu_session_params params[3];
		struct unpu_session *sessions[3];
		struct subject s;

		subject_open(&s, archs[a], a ? UNPU_TYPE_F16 : UNPU_TYPE_Q8_0, 1, 0);
		for (uint32_t i = 0; i < 3; i++) {
			params[i] = subject_params();
			params[i].context = CONTEXT;
			params[i].kv = kvs[i];
			params[i].batch = 3 + 5 * i;
			params[i].temperature = (float)i;
			params[i].seed = i;
			sessions[i] = subject_session(&s, &params[i]);
		}
		for (uint32_t i = 0; i < steps; i++) {
			uint32_t which = vocab_random(&random, 3);

			step(&s, sessions[which], &random);
			if (vocab_random(&random, 3) == 0)
				assert_as_fresh(&s, sessions[which], &params[which]);
		}
		for (uint32_t i = 0; i < 3; i++) {
			assert_as_fresh(&s, sessions[i], &params[i]);
			unpu_session_destroy(sessions[i]);
		}
		subject_close(&s);
	}
}

/* No tokens may be NULL, and nobody need listen; far too many are refused before one is read. */
static void nothing_may_be_null(void **state)
{
	uint32_t ids[20];
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, 20);
	session = subject_session(&s, NULL);
	assert_int_equal(unpu_session_prompt(session, ids, 20), 0);
	assert_int_equal(unpu_session_generate(session, 3, NULL, NULL), UNPU_REASON_LENGTH);
	unpu_session_flush(session, NULL, NULL);
	assert_int_equal(unpu_session_prompt(session, NULL, 0), 0);
	assert_int_equal(unpu_session_logits(session, NULL, 0, NULL), 0);
	assert_int_equal(unpu_session_prompt(session, NULL, SIZE_MAX), -ENOSPC);
	assert_int_equal(unpu_session_logits(session, NULL, SIZE_MAX, NULL), -ENOSPC);
	assert_int_equal(unpu_session_replace(session, NULL, SIZE_MAX), -ENOSPC);
	assert_int_equal(unpu_session_tokens(session, 0, NULL, 0), 23);
	assert_int_equal(unpu_session_replace(session, NULL, 0), 0);
	assert_int_equal(unpu_session_tokens(session, 0, NULL, 0), 0);
	unpu_session_destroy(session);
	unpu_session_destroy(NULL);
	unpu_model_destroy(NULL);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_new_tokens_run),
		cmocka_unit_test(mistakes_change_nothing),
		cmocka_unit_test(tokens_are_read_in_parts),
		cmocka_unit_test(going_back_says_the_same),
		cmocka_unit_test(any_order_of_calls),
		cmocka_unit_test(nothing_may_be_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
