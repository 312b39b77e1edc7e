/* SPDX-License-Identifier: MIT */
/* A cancel ends one call, wherever it hits, and leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/time.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/session/session.h"
#include "tests/lib/faulty.h"
#include "tests/lib/subject.h"

#define NUM_IDS		21
#define GENERATED	9
#define BATCH		4
#define NEVER		UINT32_MAX

static struct unpu_session *open_session(const struct subject *s)
{
	struct unpu_session_params params = subject_params();

	params.batch = BATCH;
	return subject_session(s, &params);
}

/* ---- calls that may be cancelled ---------------------------------------------------------- */

/* What all of them begin with: nothing ready, a row ready, or logits ready. */
enum start { AFTER_ROLLBACK, AFTER_GENERATION, AFTER_PROMPT, NUM_STARTS };

static void start_session(struct unpu_session *session, enum start start, const uint32_t *ids)
{
	assert_int_equal(unpu_session_prompt(session, ids, 6), 0);
	if (start == AFTER_PROMPT)
		return;
	assert_int_equal(unpu_session_generate(session, 3, NULL, NULL), UNPU_REASON_LENGTH);
	if (start == AFTER_ROLLBACK)
		assert_int_equal(unpu_session_rollback(session, 5), 0);
}

struct call {
	const char *name;
	/* On a session that had `first` tokens: 0, or 1 when it was cancelled. */
	int (*run)(struct unpu_session *session, const uint32_t *ids, uint32_t first);
	bool keeps_some;	/* cancelled, it keeps what it has done */
};

static int judge(int64_t ret)
{
	if (ret == -ECANCELED)
		return 1;
	assert_true(ret >= 0);
	return 0;
}

static int run_prompt(struct unpu_session *session, const uint32_t *ids, uint32_t first)
{
	(void)first;
	return judge(unpu_session_prompt(session, ids + 6, NUM_IDS - 6));
}

static int run_replace(struct unpu_session *session, const uint32_t *ids, uint32_t first)
{
	uint32_t other[NUM_IDS];

	(void)first;
	memcpy(other, ids, sizeof(other));
	other[4]++;
	return judge(unpu_session_replace(session, other, NUM_IDS));
}

static int run_replace_by_less(struct unpu_session *session, const uint32_t *ids, uint32_t first)
{
	(void)first;
	return judge(unpu_session_replace(session, ids, 4));
}

static int run_logits(struct unpu_session *session, const uint32_t *ids, uint32_t first)
{
	float *logits = calloc(NUM_IDS, session->model->arch->hp.vocab * sizeof(*logits));
	int ret;

	(void)first;
	assert_non_null(logits);
	ret = judge(unpu_session_logits(session, ids, NUM_IDS, logits));
	free(logits);
	return ret;
}

/* What a cancelled one has left to do. */
static int run_generate(struct unpu_session *session, const uint32_t *ids, uint32_t first)
{
	uint32_t done = subject_info(session).used - first;
	int ret = unpu_session_generate(session, GENERATED - done, NULL, NULL);

	(void)ids;
	if (ret == UNPU_REASON_CANCELLED)
		return 1;
	assert_int_equal(ret, UNPU_REASON_LENGTH);
	return 0;
}

static const struct call calls[] = {
	{ "prompt", run_prompt, false },
	{ "replace", run_replace, false },
	{ "replace by less", run_replace_by_less, false },
	{ "logits", run_logits, false },
	{ "generate", run_generate, true },
};
#define NUM_CALLS	(sizeof(calls) / sizeof(calls[0]))

/* ---- at every call of the device ---------------------------------------------------------- */

struct aim {
	struct unpu_session *session;
	uint32_t at;
	bool hit, word_only;
};

static void shoot(void *arg, uint32_t point)
{
	struct aim *aim = arg;

	if (point != aim->at)
		return;
	aim->hit = true;
	if (aim->word_only)
		unpu_session_state(aim->session)->stop = UNPU_STOP_CANCEL;
	else
		unpu_session_cancel(aim->session);
}

static void assert_same_tokens(struct unpu_session *session, const uint32_t *before, int64_t count)
{
	uint32_t now[64];

	assert_int_equal(unpu_session_tokens(session, 0, now, 64), count);
	assert_memory_equal(before, now, (size_t)count * sizeof(*now));
}

/* One shot at one point of one call; false: there is no such point. */
static bool try_point(const struct subject *s, const struct call *call, enum start start,
		      uint32_t at, bool word_only, struct unpu_session *want)
{
	struct aim aim = { .session = open_session(s), .at = at, .word_only = word_only };
	uint32_t ids[NUM_IDS], before[64];
	int64_t count;
	int cancelled;

	subject_ids(s, ids, NUM_IDS);
	start_session(aim.session, start, ids);
	count = unpu_session_tokens(aim.session, 0, before, 64);
	faulty_watch(shoot, &aim);
	cancelled = call->run(aim.session, ids, (uint32_t)count);
	faulty_watch(NULL, NULL);
	if (cancelled && !call->keeps_some)
		assert_same_tokens(aim.session, before, count);
	assert_false(word_only && cancelled);
	/* One that came after the last look ends the next call, which has nothing to lose. */
	if (aim.hit && !word_only && !cancelled)
		assert_int_equal(unpu_session_generate(aim.session, 1, NULL, NULL),
				 UNPU_REASON_CANCELLED);
	if (cancelled)
		assert_int_equal(call->run(aim.session, ids, (uint32_t)count), 0);
	subject_assert_equal(aim.session, want, s->vocab);
	unpu_session_destroy(aim.session);
	return aim.hit;
}

/* How many points there are; where each is slow, a quarter of them is tried. */
static uint32_t try_call(const struct subject *s, const struct call *call, enum start start)
{
	uint32_t step = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED") ? 4 : 1, points = 0;
	struct unpu_session *want = open_session(s);
	uint32_t ids[NUM_IDS];

	subject_ids(s, ids, NUM_IDS);
	start_session(want, start, ids);
	assert_int_equal(call->run(want, ids, subject_info(want).used), 0);
	for (uint32_t at = 1 + start; try_point(s, call, start, at, false, want); at += step)
		points = at;
	for (uint32_t at = 2 + start; try_point(s, call, start, at, true, want); at += step)
		;
	unpu_session_destroy(want);
	return points;
}

static void cancel_at_every_point(void **state)
{
	/* the last as on a device that runs by itself, though these jobs run when waited for */
	static const uint32_t per_submit[] = { 1, 4, 4 };
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	faulty_begin(s.model);
	subject_errors = 0;
	for (size_t p = 0; p < 3; p++) {
		s.model->home->weights->info.tokens_per_submit = per_submit[p];
		if (p == 2)
			s.model->home->weights->info.features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
		for (size_t i = 0; i < NUM_CALLS; i++)
			for (int start = 0; start < NUM_STARTS; start++)
				/* submit, wait and query of at least one job, before and after */
				if (try_call(&s, &calls[i], start) < 3)
					fail_msg("%s: nothing to cancel", calls[i].name);
	}
	assert_int_equal(subject_errors, 0);
	faulty_end();
	subject_close(&s);
}

static void pending_cancels_end_the_next_call(void **state)
{
	struct unpu_session *session, *want;
	uint32_t ids[NUM_IDS], before[64];
	struct subject s;
	int64_t count;

	(void)state;
	subject_open(&s, "qwen2", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	subject_errors = 0;
	for (size_t i = 0; i < NUM_CALLS; i++) {
		session = open_session(&s);
		want = open_session(&s);
		start_session(session, AFTER_GENERATION, ids);
		start_session(want, AFTER_GENERATION, ids);
		count = unpu_session_tokens(session, 0, before, 64);
		unpu_session_cancel(session);
		unpu_session_cancel(session);
		assert_int_equal(calls[i].run(session, ids, (uint32_t)count), 1);
		assert_same_tokens(session, before, count);
		unpu_session_cancel(session);
		unpu_session_uncancel(session);
		assert_int_equal(calls[i].run(session, ids, (uint32_t)count), 0);
		assert_int_equal(calls[i].run(want, ids, (uint32_t)count), 0);
		subject_assert_equal(session, want, s.vocab);
		unpu_session_destroy(session);
		unpu_session_destroy(want);
	}
	session = open_session(&s);
	unpu_session_cancel(session);
	assert_int_equal(unpu_session_prompt(session, ids, 0), -ECANCELED);
	assert_int_equal(unpu_session_prompt(session, ids, 3), 0);
	unpu_session_cancel(session);
	assert_int_equal(unpu_session_generate(session, 0, NULL, NULL), UNPU_REASON_CANCELLED);
	assert_int_equal(unpu_session_generate(session, 1, NULL, NULL), UNPU_REASON_LENGTH);
	unpu_session_destroy(session);
	assert_int_equal(subject_errors, 0);
	subject_close(&s);
}

/* ---- from callbacks ----------------------------------------------------------------------- */

struct caller {
	struct unpu_session *session;
	uint32_t at, count;
	int answer;
	bool cancels;
};

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct caller *c = arg;

	(void)id;
	(void)text;
	(void)length;
	if (++c->count != c->at)
		return 0;
	if (c->cancels)
		unpu_session_cancel(c->session);
	return c->answer;
}

static void callbacks_may_cancel(void **state)
{
	struct caller c = { .at = 5, .cancels = true };
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	for (int last = 0; last < 2; last++) {
		c.session = open_session(&s);
		assert_int_equal(unpu_session_prompt(c.session, ids, NUM_IDS), 0);
		for (c.answer = 0; c.answer < 2; c.answer++) {
			c.count = 0;
			assert_int_equal(unpu_session_generate(c.session, last ? 5 : 10, on_token,
							       &c), UNPU_REASON_CANCELLED);
			assert_int_equal(c.count, 5);
		}
		assert_int_equal(unpu_session_generate(c.session, 2, on_token, &c),
				 UNPU_REASON_LENGTH);
		assert_int_equal(subject_info(c.session).used, NUM_IDS + 12);
		unpu_session_destroy(c.session);
	}
	subject_close(&s);
}

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct caller *c = arg;

	assert_true(done > 0 && done <= total);
	assert_int_equal(total, NUM_IDS);
	assert_int_equal(done, c->count * BATCH + BATCH < NUM_IDS ? c->count * BATCH + BATCH :
			 NUM_IDS);
	if (++c->count != c->at)
		return 0;
	if (c->cancels)
		unpu_session_cancel(c->session);
	return c->answer;
}

/* After each batch, the last too. */
static void progress_may_cancel(void **state)
{
	const uint32_t batches = (NUM_IDS + BATCH - 1) / BATCH;
	struct unpu_session_params params = subject_params();
	uint32_t ids[NUM_IDS];
	struct subject s;
	struct caller c;
	float *logits;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q4_0, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	logits = calloc(NUM_IDS, s.vocab * sizeof(*logits));
	params.batch = BATCH;
	params.progress = on_progress;
	params.progress_arg = &c;
	c = (struct caller){ .session = subject_session(&s, &params), .cancels = true };
	subject_errors = 0;
	for (uint32_t at = 1; at <= 2 * batches; at++) {
		c.at = (at + 1) / 2;
		c.cancels = at % 2;
		c.answer = !c.cancels;
		c.count = 0;
		assert_int_equal(unpu_session_prompt(c.session, ids, NUM_IDS), -ECANCELED);
		assert_int_equal(c.count, c.at);
		c.count = 0;
		assert_int_equal(unpu_session_replace(c.session, ids, NUM_IDS), -ECANCELED);
		c.count = 0;
		assert_int_equal(unpu_session_logits(c.session, ids, NUM_IDS, logits), -ECANCELED);
		assert_int_equal(subject_info(c.session).used, 0);
	}
	c.at = c.count = 0;
	assert_int_equal(unpu_session_prompt(c.session, ids, NUM_IDS), 0);
	assert_int_equal(c.count, batches);
	/* a token that goes through the layers again is no prompt */
	assert_int_equal(unpu_session_rollback(c.session, NUM_IDS - 1), 0);
	assert_int_equal(unpu_session_generate(c.session, 2, NULL, NULL), UNPU_REASON_LENGTH);
	assert_int_equal(c.count, batches);
	assert_int_equal(subject_errors, 0);
	free(logits);
	unpu_session_destroy(c.session);
	subject_close(&s);
}

/* A text that ends by itself takes the cancel along: it does not hit the next one. */
static void an_end_takes_a_cancel_along(void **state)
{
	struct unpu_session_params params = subject_params();
	struct unpu_logit_bias bias = { .bias = 100 };
	struct aim aim = { 0 };
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	while (!unpu_token_is_end(s.model, bias.id))
		bias.id++;
	params.flags = 0;
	params.bias = &bias;
	params.num_bias = 1;
	aim.session = subject_session(&s, &params);
	assert_int_equal(unpu_session_prompt(aim.session, ids, NUM_IDS), 0);
	faulty_begin(s.model);
	aim.at = 6;	/* after the query, the last call of a job */
	faulty_watch(shoot, &aim);
	assert_int_equal(unpu_session_generate(aim.session, 3, NULL, NULL), UNPU_REASON_END);
	faulty_end();
	assert_true(aim.hit);
	assert_int_equal(unpu_session_prompt(aim.session, ids, 2), 0);
	unpu_session_destroy(aim.session);
	subject_close(&s);
}

/* ---- from threads and signal handlers ----------------------------------------------------- */

#define ROUNDS	100

struct canceller {
	struct unpu_session *session;
	atomic_uint wanted, seen;	/* cancels asked for, and calls that they ended */
};

static void *cancel_once_each(void *arg)
{
	struct canceller *c = arg;

	for (uint32_t i = 1; i <= ROUNDS; i++) {
		while (atomic_load(&c->wanted) < i)
			sched_yield();
		for (uint32_t spin = 0; spin < i * 97 % 1009; spin++)
			atomic_load(&c->seen);
		unpu_session_cancel(c->session);
	}
	return NULL;
}

/* Runs calls until one is cancelled: a lost cancel is one that the test waits for in vain. */
static void run_until_cancelled(struct unpu_session *session, const uint32_t *ids, uint32_t i)
{
	for (;;) {
		int64_t ret = unpu_session_replace(session, ids, NUM_IDS - i % 5);

		if (ret == -ECANCELED)
			return;
		assert_true(ret >= 0);
		ret = unpu_session_generate(session, 3, NULL, NULL);
		if (ret == UNPU_REASON_CANCELLED)
			return;
		assert_int_equal(ret, UNPU_REASON_LENGTH);
	}
}

static void assert_goes_on(struct unpu_session *session, const uint32_t *ids)
{
	assert_true(unpu_session_replace(session, ids, NUM_IDS) >= 0);
	assert_int_equal(unpu_session_generate(session, 3, NULL, NULL), UNPU_REASON_LENGTH);
}

static void threads_cancel(void **state)
{
	struct canceller c = { 0 };
	struct unpu_session *want;
	uint32_t ids[NUM_IDS];
	pthread_t thread;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	subject_ids(&s, ids, NUM_IDS);
	c.session = open_session(&s);
	want = open_session(&s);
	subject_errors = 0;
	assert_int_equal(pthread_create(&thread, NULL, cancel_once_each, &c), 0);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		atomic_store(&c.wanted, i);
		run_until_cancelled(c.session, ids, i);
		assert_goes_on(c.session, ids);
		atomic_store(&c.seen, i);
	}
	pthread_join(thread, NULL);
	assert_int_equal(subject_errors, 0);
	assert_goes_on(want, ids);
	subject_assert_equal(c.session, want, s.vocab);
	unpu_session_destroy(c.session);
	unpu_session_destroy(want);
	subject_close(&s);
}

static struct unpu_session *signalled;

static void on_signal(int number)
{
	(void)number;
	unpu_session_cancel(signalled);
}

static void signal_handlers_cancel(void **state)
{
	struct sigaction old, action = { .sa_handler = on_signal };
	struct itimerval in = { .it_value = { .tv_usec = 500 } };
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_F32, 2, 0);
	subject_ids(&s, ids, NUM_IDS);
	signalled = open_session(&s);
	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	for (uint32_t i = 0; i < ROUNDS / 4; i++) {
		in.it_value.tv_usec = 100 + i * 97 % 1009;
		assert_int_equal(setitimer(ITIMER_REAL, &in, NULL), 0);
		run_until_cancelled(signalled, ids, i);
		assert_goes_on(signalled, ids);
	}
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	unpu_session_destroy(signalled);
	subject_close(&s);
}

/* Two sessions of one model, each used by its thread, while a third thread cancels both. */
struct talker {
	struct unpu_session *session;
	const uint32_t *ids;
	uint32_t cancelled;
};

static void *talk(void *arg)
{
	struct talker *t = arg;

	for (uint32_t i = 0; i < 60; i++) {
		if (unpu_session_replace(t->session, t->ids, 1 + i % NUM_IDS) == -ECANCELED)
			t->cancelled++;
		if (unpu_session_generate(t->session, 3, NULL, NULL) == UNPU_REASON_CANCELLED)
			t->cancelled++;
	}
	return NULL;
}

static void sessions_are_cancelled_apart(void **state)
{
	struct talker talkers[2] = { { 0 } };
	pthread_t threads[2];
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	subject_ids(&s, ids, NUM_IDS);
	subject_errors = 0;
	for (int i = 0; i < 2; i++) {
		talkers[i].ids = ids;
		talkers[i].session = open_session(&s);
		assert_true(unpu_session_replace(talkers[i].session, ids, 3) == 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, talk, &talkers[i]), 0);
	for (uint32_t i = 0; i < 50; i++) {
		unpu_session_cancel(talkers[0].session);
		sched_yield();
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(talkers[0].cancelled <= 50);
	assert_int_equal(talkers[1].cancelled, 0);
	unpu_session_uncancel(talkers[0].session);
	for (int i = 0; i < 2; i++)
		assert_goes_on(talkers[i].session, ids);
	subject_assert_equal(talkers[0].session, talkers[1].session, s.vocab);
	assert_int_equal(subject_errors, 0);
	for (int i = 0; i < 2; i++)
		unpu_session_destroy(talkers[i].session);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancel_at_every_point),
		cmocka_unit_test(pending_cancels_end_the_next_call),
		cmocka_unit_test(callbacks_may_cancel),
		cmocka_unit_test(progress_may_cancel),
		cmocka_unit_test(an_end_takes_a_cancel_along),
		cmocka_unit_test(threads_cancel),
		cmocka_unit_test(signal_handlers_cancel),
		cmocka_unit_test(sessions_are_cancelled_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
