/* SPDX-License-Identifier: MIT */
/*
 * On a device that runs by itself the next job is there before the tokens of the last one are
 * handed out; wherever a text ends, nothing of the job that ran ahead is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/session/session.h"
#include "tests/lib/gpuish.h"
#include "tests/lib/subject.h"

#define NUM_IDS	21
#define CONTEXT	90

static void nap(uint64_t ns)
{
	const struct timespec time = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	nanosleep(&time, NULL);
}

/* ---- every kind of end ----------------------------------------------------------------------- */

static struct unpu_session_params random_params(void)
{
	struct unpu_session_params params = subject_params();

	params.context = CONTEXT;
	params.temperature = 1.2f;
	params.seed = 11;
	params.repeat_penalty = 1.3f;
	params.repeat_last_n = 20;
	return params;
}

struct listener {
	struct subject_text c;
	uint32_t count, answer_at, cancel_at;	/* tokens of this call; 0: never */
	struct unpu_session *session;
};

static int listen(void *arg, uint32_t id, const char *text, size_t length)
{
	struct listener *l = arg;

	subject_collect(&l->c, id, text, length);
	if (id == UINT32_MAX)
		return 0;
	l->count++;
	if (l->count == l->cancel_at)
		unpu_session_cancel(l->session);
	return l->count == l->answer_at;
}

static int go(struct listener *l, size_t max)
{
	l->count = 0;
	return unpu_session_generate(l->session, max, listen, l);
}

/* The stop string is a piece of what the text goes on with. */
static void stop_in_the_middle(struct listener *l, const char *expected)
{
	const char *stop[1] = { expected };
	struct unpu_session_params params = random_params();

	params.stop = stop;
	params.num_stop = 1;
	assert_int_equal(unpu_session_set_sampler(l->session, &params), 0);
	go(l, 20);
	params.num_stop = 0;
	assert_int_equal(unpu_session_set_sampler(l->session, &params), 0);
}

/* Ends by count, by callback, by cancel, by stop strings, by an end token, by the context. */
static void talk(const struct subject *s, struct listener *l)
{
	static const char *const stops[] = { "a", "e", " ", "o", "th", "in" };
	struct unpu_session_params params = random_params();
	uint32_t ids[NUM_IDS];

	memset(l, 0, sizeof(*l));
	l->session = subject_session(s, &params);
	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_prompt(l->session, ids, NUM_IDS), 0);
	for (uint32_t i = 1; i <= 9; i++) {
		l->answer_at = i;
		assert_int_equal(go(l, 30), UNPU_REASON_CALLBACK);
		l->answer_at = 0;
		l->cancel_at = i;
		assert_int_equal(go(l, 30), UNPU_REASON_CANCELLED);
		l->cancel_at = 0;
		assert_int_equal(go(l, i), UNPU_REASON_LENGTH);
		stop_in_the_middle(l, stops[i % 6]);
		assert_int_equal(unpu_session_rollback(l->session, NUM_IDS), 0);
		params.seed = i;
		assert_int_equal(unpu_session_set_sampler(l->session, &params), 0);
		params.flags = 0;
		assert_int_equal(unpu_session_set_sampler(l->session, &params), 0);
		go(l, 40);
		params.flags = UNPU_SESSION_NO_END;
		assert_int_equal(unpu_session_set_sampler(l->session, &params), 0);
		go(l, 3);
		assert_int_equal(unpu_session_rollback(l->session, NUM_IDS), 0);
	}
	assert_int_equal(go(l, 1000), UNPU_REASON_CONTEXT);
	assert_int_equal(subject_info(l->session).used, CONTEXT);
	assert_int_equal(unpu_session_rollback(l->session, CONTEXT - 4), 0);
	go(l, 2);
}

static void texts_end_alike(void **state)
{
	static const uint32_t tokens[] = { 2, 3, 5, 8, 16, 64 };
	static const char *const archs[] = { "llama", "gpt2" };

	(void)state;
	for (uint32_t i = 0; i < 24; i++) {
		struct gpuish_params params = { .tokens_per_submit = tokens[i % 6],
						.rounds = i < 12 ? 1 : 1 + i % 9,
						.mappable = i % 2 };
		struct listener *want = malloc(sizeof(*want)), *got = malloc(sizeof(*got));
		struct subject right, s;
		struct gpuish *g;

		assert_non_null(want);
		assert_non_null(got);
		subject_open(&right, archs[i / 6 % 2], UNPU_TYPE_Q8_0, 1, 0);
		subject_open(&s, archs[i / 6 % 2], UNPU_TYPE_Q8_0, 1, 0);
		assert_int_equal(gpuish_move_in(s.model, &params, &g), 0);
		subject_warnings = 0;
		talk(&right, want);
		talk(&s, got);
		assert_int_equal(subject_warnings, 0);
		assert_memory_equal(&want->c, &got->c, sizeof(want->c));
		/* Room for the token that this compares by. */
		assert_int_equal(unpu_session_rollback(want->session, CONTEXT - 3), 0);
		assert_int_equal(unpu_session_rollback(got->session, CONTEXT - 3), 0);
		subject_assert_equal(want->session, got->session, s.vocab);
		unpu_session_destroy(want->session);
		unpu_session_destroy(got->session);
		free(want);
		free(got);
		subject_close(&right);
		subject_close(&s);
	}
}

/* ---- it does run ahead ----------------------------------------------------------------------- */

struct watcher {
	struct gpuish *g;
	struct unpu_session *session;
	uint32_t seen, ahead, in_flight;
};

static int count_ahead(void *arg, uint32_t id, const char *text, size_t length)
{
	struct watcher *w = arg;

	(void)id;
	(void)text;
	(void)length;
	w->in_flight = w->session->in_flight;
	for (uint32_t i = 0; i < 200000 && atomic_load(&w->g->runs) == w->seen; i++)
		nap(100000);
	w->ahead += atomic_load(&w->g->runs) > w->seen;
	return 1;
}

/* A callback that waits for the next job to begin is not let wait in vain. */
static void the_next_job_does_not_wait(void **state)
{
	const struct gpuish_params params = { .tokens_per_submit = 4, .rounds = 4 };
	struct watcher w = { 0 };
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	assert_int_equal(gpuish_move_in(s.model, &params, &w.g), 0);
	session = subject_session(&s, NULL);
	subject_ids(&s, ids, NUM_IDS);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	w.session = session;
	w.seen = atomic_load(&w.g->runs) + 1;	/* with the first token */
	assert_int_equal(unpu_session_generate(session, 100, count_ahead, &w),
			 UNPU_REASON_CALLBACK);
	assert_int_equal(w.ahead, 1);
	assert_int_equal(w.in_flight, 2);
	assert_int_equal(session->in_flight, 0);
	assert_int_equal(subject_info(session).used, NUM_IDS + 1);
	unpu_session_destroy(session);
	subject_close(&s);
}

/* ---- how many tokens a job carries ----------------------------------------------------------- */

static void slow_down(void *arg)
{
	(void)arg;
	nap(250000000);
}

static void jobs_adapt(void **state)
{
	const struct gpuish_params params = { .tokens_per_submit = 32, .rounds = 32 };
	struct unpu_session *session;
	uint32_t ids[NUM_IDS], burst, runs;
	struct gpuish *g;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	assert_int_equal(gpuish_move_in(s.model, &params, &g), 0);
	session = subject_session(&s, NULL);
	subject_ids(&s, ids, NUM_IDS);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	assert_int_equal(session->burst, 1);
	runs = atomic_load(&g->runs);
	assert_int_equal(unpu_session_generate(session, 100, NULL, NULL), UNPU_REASON_LENGTH);
	burst = session->burst;
	print_message("100 tokens in %u jobs, now of %u\n", atomic_load(&g->runs) - runs, burst);
	assert_in_range(burst, 2, 32);
	g->hook = slow_down;
	for (uint32_t i = 0; i < 8 && session->burst > 1; i++) {
		burst = session->burst;
		assert_int_equal(unpu_session_generate(session, 1, NULL, NULL),
				 UNPU_REASON_LENGTH);
		assert_int_equal(session->burst, burst / 2);
	}
	assert_int_equal(session->burst, 1);
	unpu_session_destroy(session);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_end_alike),
		cmocka_unit_test(the_next_job_does_not_wait),
		cmocka_unit_test(jobs_adapt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
