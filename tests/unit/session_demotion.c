/* SPDX-License-Identifier: MIT */
/*
 * A device that fails while sessions use it: whatever fails, at whichever job, every call goes on
 * on the cpu as if nothing had happened, after one warning, and what follows is what a fresh
 * session there makes of the same history.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "tests/lib/gpuish.h"
#include "tests/lib/subject.h"

#define NUM_IDS		21
#define GENERATED	14
#define MOST		128

static const struct gpuish_params gpus[] = {
	{ .mappable = true, .tokens_per_submit = 1 },
	{ .tokens_per_submit = 8, .rounds = 4 },
	{ .tokens_per_submit = 4, .rounds = 8, .r32 = true },
	{ .tokens_per_submit = 4, .waits = true, .mappable = true },
};
#define NUM_GPUS	(sizeof(gpus) / sizeof(gpus[0]))

static const char *const names[] = {
	"none", "lost", "hang", "oom", "corrupt", "nan", "index", "too many", "bad token",
};

/* A model on the cpu, for what is right, and the same one on a device that is about to fail. */
struct pair {
	struct subject right, s;
	struct gpuish *g;
	atomic_uint closed;
};

static void pair_open(struct pair *p, const char *arch, uint32_t type,
		      const struct gpuish_params *params)
{
	memset(p, 0, sizeof(*p));
	subject_open(&p->right, arch, type, 1, 0);
	subject_open(&p->s, arch, type, 1, 0);
	assert_int_equal(gpuish_move_in(p->s.model, params, &p->g), 0);
	p->g->closed = &p->closed;
	subject_errors = subject_warnings = 0;
}

static void pair_close(struct pair *p)
{
	subject_close(&p->s);
	assert_int_equal(atomic_load(&p->closed), 1);
	subject_close(&p->right);
}

static const char *device_of(const struct subject *s)
{
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;

	assert_int_equal(unpu_model_info(s->model, &info), 0);
	return info.device;
}

/* ---- a conversation -------------------------------------------------------------------------- */

struct talk {
	uint32_t ids[MOST];	/* the session's in the end */
	int64_t count;
	struct subject_text c;
	uint32_t given_before;	/* tokens that the callback had when the device was left */
	bool moved;
	int stops;		/* not 0: ends a generation after so many tokens */
	int reason[3];
	float *logits;		/* of 5 tokens */
	int loaded;
};

static int talk_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct talk *t = arg;

	if (id != UINT32_MAX && !subject_warnings)
		t->given_before = t->c.count + 1;
	return subject_collect(&t->c, id, text, length);
}

static struct unpu_session_params talk_params(bool random)
{
	struct unpu_session_params params = subject_params();

	params.batch = 4;
	params.context = 96;
	if (random) {
		params.temperature = 1.5f;
		params.seed = 77;
		params.repeat_penalty = 1.2f;
		params.repeat_last_n = 16;
	}
	return params;
}

/* Everything that a session does with its device. */
static void talk(const struct subject *s, bool random, struct talk *t)
{
	struct unpu_session_params params = talk_params(random);
	struct unpu_session *session = subject_session(s, &params);
	int fd = memfd_create("session", 0);
	uint32_t ids[NUM_IDS];

	assert_true(fd >= 0);
	memset(t, 0, sizeof(*t));
	t->logits = calloc(5, s->vocab * sizeof(float));
	assert_non_null(t->logits);
	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	t->reason[0] = unpu_session_generate(session, GENERATED, talk_token, t);
	t->c.stop_after = t->c.count + 5;
	t->reason[1] = unpu_session_generate(session, GENERATED, talk_token, t);
	t->c.stop_after = 0;
	assert_int_equal(unpu_session_logits(session, ids, 5, t->logits), 0);
	assert_int_equal(unpu_session_save_fd(session, fd, UNPU_SAVE_KV), 0);
	assert_int_equal(unpu_session_rollback(session, 7), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	t->loaded = unpu_session_load_fd(session, fd);
	assert_true(t->loaded == 0 || t->loaded == 1);
	t->reason[2] = unpu_session_generate(session, GENERATED, talk_token, t);
	assert_true(unpu_session_replace(session, ids + 1, NUM_IDS - 1) >= 0);
	t->reason[2] |= unpu_session_generate(session, 3, talk_token, t);
	t->count = unpu_session_tokens(session, 0, t->ids, MOST);
	t->moved = !strcmp(subject_info(session).device, "cpu");
	close(fd);
	unpu_session_destroy(session);
}

static void compare_talks(const struct talk *a, const struct talk *b, uint32_t vocab)
{
	assert_int_equal(a->c.count, b->c.count);
	assert_memory_equal(a->c.ids, b->c.ids, a->c.count * sizeof(a->c.ids[0]));
	assert_int_equal(a->c.length, b->c.length);
	assert_memory_equal(a->c.text, b->c.text, a->c.length);
	assert_memory_equal(a->reason, b->reason, sizeof(a->reason));
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->ids, b->ids, (size_t)a->count * sizeof(a->ids[0]));
	assert_memory_equal(a->logits, b->logits, 5 * vocab * sizeof(float));
}

/* ---- any fault at any job -------------------------------------------------------------------- */

/* false: there is no nth job. */
static bool try_fault(const struct gpuish_params *params, bool random, enum gpuish_fault fault,
		      uint32_t nth)
{
	struct gpuish_params with = *params;
	struct talk want, got;
	struct pair p;
	bool reached;

	if (fault == GPUISH_HANG)
		with.timeout_ns = 200000000;
	/* The device multiplies as the cpu does, so all of the talk is the same. */
	with.r32 = false;
	pair_open(&p, "llama", UNPU_TYPE_Q8_0, &with);
	talk(&p.right, random, &want);
	p.g->fault = fault;
	p.g->fault_at = nth ? atomic_load(&p.g->runs) + nth : 0;
	talk(&p.s, random, &got);
	compare_talks(&want, &got, p.s.vocab);
	assert_int_equal(subject_errors, 0);
	assert_int_equal(subject_warnings, got.moved);
	assert_int_equal(!strcmp(device_of(&p.s), "cpu"), got.moved);
	/* A fault that needs no certain kind of job has come, if this was reached. */
	reached = got.moved || atomic_load(&p.g->runs) >= p.g->fault_at;
	if (nth && reached && fault <= GPUISH_CORRUPT)
		assert_true(got.moved);
	if (got.moved)
		assert_non_null(strstr(subject_warning, "; going on on cpu"));
	if (got.moved)
		assert_non_null(strstr(subject_warning, "gpuish:0"));
	assert_int_equal(atomic_load(&p.closed), got.moved);
	free(want.logits);
	free(got.logits);
	pair_close(&p);
	return reached;
}

static void any_fault_at_any_job(void **state)
{
	bool slow = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");

	(void)state;
	for (size_t i = 0; i < NUM_GPUS; i++) {
		assert_true(try_fault(&gpus[i], i % 2, GPUISH_NONE, 0));
		for (int fault = GPUISH_LOST; fault < GPUISH_FAULTS; fault++) {
			uint32_t step = slow || fault == GPUISH_HANG ? 7 : 1, nth = 1;

			while (try_fault(&gpus[i], i % 2, (enum gpuish_fault)fault, nth))
				nth += step;
			print_message("device %zu, %s: %u jobs\n", i, names[fault], nth - 1);
			assert_true(nth > 20);
		}
	}
}

/* ---- the rule -------------------------------------------------------------------------------- */

/*
 * On a device whose sums have another order the tokens before the move are its own; those after it
 * are the cpu's over the same history.
 */
static void what_follows_is_the_cpus(void **state)
{
	static const struct { const char *arch; uint32_t type; } models[] = {
		{ "llama", UNPU_TYPE_Q8_0 }, { "qwen2", UNPU_TYPE_Q4_0 },
		{ "gpt2", UNPU_TYPE_F32 }, { "qwen3", UNPU_TYPE_F16 },
	};
	struct unpu_session_params params = talk_params(false);

	(void)state;
	for (uint32_t i = 0; i < 40; i++) {
		struct subject_text c = { 0 };
		struct unpu_session *session;
		uint32_t ids[MOST];
		struct talk t = { 0 };
		struct pair p;

		pair_open(&p, models[i % 4].arch, models[i % 4].type, &gpus[2]);
		session = subject_session(&p.s, &params);
		assert_string_equal(subject_info(session).device, "gpuish:0");
		subject_ids(&p.s, ids, NUM_IDS);
		assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
		p.g->fault = i % 2 ? GPUISH_LOST : GPUISH_CORRUPT;
		p.g->fault_at = atomic_load(&p.g->runs) + 1 + i / 4;
		assert_int_equal(unpu_session_generate(session, 60, talk_token, &t),
				 UNPU_REASON_LENGTH);
		assert_string_equal(subject_info(session).device, "cpu");
		assert_int_equal(subject_warnings, 1);
		unpu_session_destroy(session);
		session = subject_session(&p.right, &params);
		memcpy(ids + NUM_IDS, t.c.ids, t.given_before * sizeof(*ids));
		assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS + t.given_before), 0);
		assert_int_equal(unpu_session_generate(session, 60 - t.given_before,
						       subject_collect, &c), UNPU_REASON_LENGTH);
		assert_int_equal(t.c.count, 60);
		assert_memory_equal(t.c.ids + t.given_before, c.ids, c.count * sizeof(*c.ids));
		unpu_session_destroy(session);
		pair_close(&p);
	}
}

/* ---- sessions that share a model ------------------------------------------------------------- */

#define THREADS	4

struct talker {
	pthread_t thread;
	const struct subject *s;
	struct talk talk;
	bool random;
};

static void *talker_main(void *arg)
{
	struct talker *t = arg;

	talk(t->s, t->random, &t->talk);
	return NULL;
}

static void sessions_in_threads_survive(void **state)
{
	struct talk want[2];
	uint32_t rounds = getenv("UNPU_EMULATED") ? 3 : 12;

	(void)state;
	for (uint32_t i = 0; i < rounds; i++) {
		struct gpuish_params params = gpus[i % NUM_GPUS];
		struct talker talkers[THREADS] = { 0 };
		struct pair p;

		params.r32 = false;
		pair_open(&p, "qwen2", UNPU_TYPE_Q8_0, &params);
		talk(&p.right, false, &want[0]);
		talk(&p.right, true, &want[1]);
		p.g->fault = i % 3 ? i % 3 == 1 ? GPUISH_CORRUPT : GPUISH_OOM : GPUISH_LOST;
		p.g->fault_at = atomic_load(&p.g->runs) + 3 + 11 * i;
		for (uint32_t j = 0; j < THREADS; j++) {
			talkers[j] = (struct talker){ .s = &p.s, .random = j % 2 };
			assert_int_equal(pthread_create(&talkers[j].thread, NULL, talker_main,
							&talkers[j]), 0);
		}
		for (uint32_t j = 0; j < THREADS; j++) {
			assert_int_equal(pthread_join(talkers[j].thread, NULL), 0);
			compare_talks(&want[j % 2], &talkers[j].talk, p.s.vocab);
			free(talkers[j].talk.logits);
		}
		assert_int_equal(subject_errors, 0);
		assert_int_equal(subject_warnings, 1);
		assert_int_equal(atomic_load(&p.closed), 1);
		free(want[0].logits);
		free(want[1].logits);
		pair_close(&p);
	}
}

/* One that sleeps through it finds the device closed by nobody until it has left. */
static void who_comes_late(void **state)
{
	struct unpu_session *early, *late, *later;
	uint32_t ids[NUM_IDS];
	struct pair p;

	(void)state;
	pair_open(&p, "llama", UNPU_TYPE_F32, &gpus[1]);
	subject_ids(&p.s, ids, NUM_IDS);
	early = subject_session(&p.s, NULL);
	late = subject_session(&p.s, NULL);
	assert_int_equal(unpu_session_prompt(late, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(late, 3, NULL, NULL), UNPU_REASON_LENGTH);
	p.g->fault = GPUISH_OOM;
	p.g->fault_at = atomic_load(&p.g->runs) + 1;
	assert_int_equal(unpu_session_prompt(early, ids, NUM_IDS), 0);
	assert_string_equal(subject_info(early).device, "cpu");
	assert_string_equal(subject_info(late).device, "gpuish:0");
	assert_string_equal(device_of(&p.s), "cpu");
	assert_int_equal(atomic_load(&p.closed), 0);
	later = subject_session(&p.s, NULL);
	assert_string_equal(subject_info(later).device, "cpu");
	assert_int_equal(unpu_session_generate(late, 3, NULL, NULL), UNPU_REASON_LENGTH);
	assert_string_equal(subject_info(late).device, "cpu");
	assert_int_equal(atomic_load(&p.closed), 1);
	assert_int_equal(unpu_session_generate(early, 6, NULL, NULL), UNPU_REASON_LENGTH);
	subject_assert_equal(early, late, p.s.vocab);
	assert_int_equal(subject_warnings, 1);
	assert_int_equal(subject_errors, 0);
	unpu_session_destroy(early);
	unpu_session_destroy(late);
	unpu_session_destroy(later);
	pair_close(&p);
}

/* ---- cancelled at any time ------------------------------------------------------------------- */

struct canceller {
	struct unpu_session *session;
	atomic_bool over;
};

static void *cancel_all_the_time(void *arg)
{
	struct canceller *c = arg;

	while (!atomic_load(&c->over))
		unpu_session_cancel(c->session);
	return NULL;
}

static void cancels_meet_a_move(void **state)
{
	uint32_t rounds = getenv("UNPU_EMULATED") ? 2 : 10;

	(void)state;
	for (uint32_t i = 0; i < rounds; i++) {
		struct subject_text c = { 0 }, want = { 0 };
		struct canceller canceller = { 0 };
		uint32_t ids[NUM_IDS];
		pthread_t thread;
		struct unpu_session *right;
		struct pair p;
		int ret;

		pair_open(&p, "llama", UNPU_TYPE_F32, &gpus[i % 2]);
		subject_ids(&p.s, ids, NUM_IDS);
		right = subject_session(&p.right, NULL);
		assert_int_equal(unpu_session_prompt(right, ids, NUM_IDS), 0);
		assert_int_equal(unpu_session_generate(right, 30, subject_collect, &want),
				 UNPU_REASON_LENGTH);
		canceller.session = subject_session(&p.s, NULL);
		assert_int_equal(unpu_session_prompt(canceller.session, ids, NUM_IDS), 0);
		p.g->fault = GPUISH_LOST;
		p.g->fault_at = atomic_load(&p.g->runs) + 2 + i;
		assert_int_equal(pthread_create(&thread, NULL, cancel_all_the_time, &canceller), 0);
		for (uint32_t tries = 0; tries < 2000 && c.count < 30; tries++) {
			ret = unpu_session_generate(canceller.session, 30 - c.count,
						    subject_collect, &c);
			assert_true(ret == UNPU_REASON_LENGTH || ret == UNPU_REASON_CANCELLED);
		}
		atomic_store(&canceller.over, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		unpu_session_uncancel(canceller.session);
		assert_int_equal(unpu_session_generate(canceller.session, 30 - c.count,
						       subject_collect, &c), UNPU_REASON_LENGTH);
		assert_int_equal(c.count, 30);
		assert_memory_equal(c.ids, want.ids, sizeof(c.ids));
		assert_int_equal(subject_errors, 0);
		unpu_session_destroy(right);
		unpu_session_destroy(canceller.session);
		pair_close(&p);
	}
}

/* ---- the next device fails, too -------------------------------------------------------------- */

/* The cpu cannot be opened: the call says so, and the next one finds it again. */
static void nowhere_to_go(void **state)
{
	struct unpu_session *session, *right;
	uint32_t ids[NUM_IDS];
	struct pair p;

	(void)state;
	pair_open(&p, "llama", UNPU_TYPE_Q8_0, &gpus[1]);
	subject_ids(&p.s, ids, NUM_IDS);
	session = subject_session(&p.s, NULL);
	right = subject_session(&p.right, NULL);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(session, 4, NULL, NULL), UNPU_REASON_LENGTH);
	assert_int_equal(setenv("UNPU_CPUMASK", "none of them", 1), 0);
	p.g->fault = GPUISH_LOST;
	p.g->fault_at = atomic_load(&p.g->runs) + 1;
	for (int i = 0; i < 3; i++) {
		subject_errors = 0;
		assert_int_equal(unpu_session_generate(session, 5, NULL, NULL), -EIO);
		assert_int_equal(subject_errors, 1);
		assert_int_equal(subject_info(session).used, NUM_IDS + 4);
		assert_int_equal(unpu_session_prompt(session, ids, 2), -EIO);
		assert_int_equal(subject_info(session).used, NUM_IDS + 4);
	}
	unpu_session_cancel(session);
	unpu_session_uncancel(session);
	assert_int_equal(subject_warnings, 0);
	unsetenv("UNPU_CPUMASK");
	assert_int_equal(unpu_session_generate(session, 5, NULL, NULL), UNPU_REASON_LENGTH);
	assert_int_equal(subject_warnings, 1);
	assert_int_equal(unpu_session_prompt(right, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(right, 9, NULL, NULL), UNPU_REASON_LENGTH);
	subject_assert_equal(session, right, p.s.vocab);
	unpu_session_destroy(session);
	unpu_session_destroy(right);
	pair_close(&p);
}

/* A device without room for any session's buffers is left at once, one that is full is not. */
static void no_room_for_a_session(void **state)
{
	struct gpuish_params params = gpus[1];
	struct unpu_session *first = NULL, *second = NULL;
	struct unpu_session_params small = subject_params(), large = subject_params();
	struct subject s;
	struct gpuish *g;
	struct drm_unpu_dev_stats stats;
	struct drm_unpu_dev_query query = { DRM_UNPU_QUERY_DEV_STATS, sizeof(stats),
					    (uintptr_t)&stats };

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	assert_int_equal(gpuish_move_in(s.model, &params, &g), 0);
	small.context = 64;
	small.batch = 1;
	first = subject_session(&s, &small);
	assert_int_equal(s.model->home->dev->ops->dev_query(s.model->home->dev, &query), 0);
	unpu_session_destroy(first);
	params.device_bytes = stats.device_used_bytes;
	assert_int_equal(gpuish_move_in(s.model, &params, &g), 0);
	subject_errors = subject_warnings = 0;
	first = subject_session(&s, &small);
	assert_string_equal(subject_info(first).device, "gpuish:0");
	large.kv = UNPU_KV_F32;
	large.batch = 64;
	assert_int_equal(unpu_session_create(s.model, &large, &second), -ENOSPC);
	assert_null(second);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "no room"));
	unpu_session_destroy(first);
	assert_int_equal(unpu_session_create(s.model, &large, &second), 0);
	assert_string_equal(subject_info(second).device, "cpu");
	assert_int_equal(subject_errors, 1);
	assert_int_equal(subject_warnings, 1);
	unpu_session_destroy(second);
	subject_close(&s);
}

/* ---- a file ---------------------------------------------------------------------------------- */

/* Its pages are dropped while they are packed and come again for the next device. */
static void weights_come_from_the_file_again(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	const struct tiny_params tiny = { .arch = "llama", .type = UNPU_TYPE_Q8_0, .hidden = 256,
					  .ffn = 2048, .vocab = 4000, .tied = 0, .seed = 9 };
	char path[] = "/tmp/unpu-demotion-XXXXXX";
	int fd = mkstemp(path);
	struct talk want, got;
	struct subject s;
	struct gpuish *g;

	(void)state;
	assert_true(fd >= 0);
	params.log = subject_log_line;
	params.threads = 2;
	memset(&s, 0, sizeof(s));
	s.file = tiny_model(&tiny, &s.size);
	assert_non_null(s.file);
	assert_int_equal(write(fd, s.file, s.size), (ssize_t)s.size);
	assert_int_equal(unpu_model_load(path, &params, &s.model), 0);
	unlink(path);
	close(fd);
	s.vocab = s.model->arch->hp.vocab;
	talk(&s, false, &want);
	assert_int_equal(gpuish_move_in(s.model, &gpus[1], &g), 0);
	subject_errors = subject_warnings = 0;
	g->fault = GPUISH_CORRUPT;
	g->fault_at = atomic_load(&g->runs) + 9;
	talk(&s, false, &got);
	assert_true(got.moved);
	compare_talks(&want, &got, s.vocab);
	assert_int_equal(subject_errors, 0);
	assert_int_equal(subject_warnings, 1);
	free(want.logits);
	free(got.logits);
	subject_close(&s);
}

/* A pipe cannot be written again: saying so is all that is left, and the session goes on. */
static void a_pipe_is_not_written_twice(void **state)
{
	struct unpu_session_params params = talk_params(false);
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	struct pair p;
	int fds[2];

	(void)state;
	pair_open(&p, "llama", UNPU_TYPE_F32, &gpus[1]);
	subject_ids(&p.s, ids, NUM_IDS);
	session = subject_session(&p.s, &params);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	assert_int_equal(pipe(fds), 0);
	p.g->fault = GPUISH_LOST;
	p.g->fault_at = atomic_load(&p.g->runs) + 1;
	assert_int_equal(unpu_session_save_fd(session, fds[1], UNPU_SAVE_KV), -EIO);
	assert_int_equal(subject_errors, 1);
	assert_int_equal(subject_warnings, 1);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(unpu_session_save_fd(session, fds[1], 0), 0);
	assert_int_equal(unpu_session_generate(session, 5, NULL, NULL), UNPU_REASON_LENGTH);
	close(fds[0]);
	close(fds[1]);
	unpu_session_destroy(session);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_fault_at_any_job),
		cmocka_unit_test(what_follows_is_the_cpus),
		cmocka_unit_test(sessions_in_threads_survive),
		cmocka_unit_test(who_comes_late),
		cmocka_unit_test(cancels_meet_a_move),
		cmocka_unit_test(nowhere_to_go),
		cmocka_unit_test(no_room_for_a_session),
		cmocka_unit_test(weights_come_from_the_file_again),
		cmocka_unit_test(a_pipe_is_not_written_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
