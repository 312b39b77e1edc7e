/* SPDX-License-Identifier: MIT */
/* A device whose calls fail: calls are all or nothing, nothing leaks, what works again works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/session/session.h"
#include "tests/lib/faulty.h"
#include "tests/lib/subject.h"

#define NUM_IDS		21
#define GENERATED	9
#define MOST		64	/* tokens of a session here */

static const int errors[] = { -ENOMEM, -EIO, -ENODEV, -EINVAL, -EBUSY, -ENOENT };
#define NUM_ERRORS	(sizeof(errors) / sizeof(errors[0]))

static struct unpu_session *open_session(const struct subject *s)
{
	struct unpu_session_params params = subject_params();

	params.batch = 4;
	return subject_session(s, &params);
}

/* ---- calls while the device fails ---------------------------------------------------------- */

static int64_t run_prompt(struct unpu_session *session, const uint32_t *ids, float *logits)
{
	(void)logits;
	return unpu_session_prompt(session, ids, NUM_IDS);
}

static int64_t run_replace(struct unpu_session *session, const uint32_t *ids, float *logits)
{
	uint32_t other[NUM_IDS];

	(void)logits;
	memcpy(other, ids, sizeof(other));
	other[4]++;
	return unpu_session_replace(session, other, NUM_IDS);
}

static int64_t run_replace_by_less(struct unpu_session *session, const uint32_t *ids, float *logits)
{
	(void)logits;
	return unpu_session_replace(session, ids, 3);
}

static int64_t run_logits(struct unpu_session *session, const uint32_t *ids, float *logits)
{
	return unpu_session_logits(session, ids, NUM_IDS, logits);
}

static int64_t run_generate(struct unpu_session *session, const uint32_t *ids, float *logits)
{
	uint32_t done = subject_info(session).used - (6 + 3);

	(void)ids;
	(void)logits;
	return unpu_session_generate(session, GENERATED - done, NULL, NULL);
}

static const struct call {
	const char *name;
	int64_t (*run)(struct unpu_session *session, const uint32_t *ids, float *logits);
	bool keeps_some;
} calls[] = {
	{ "prompt", run_prompt, false },
	{ "replace", run_replace, false },
	{ "replace by less", run_replace_by_less, false },
	{ "logits", run_logits, false },
	{ "generate", run_generate, true },
};
#define NUM_CALLS	(sizeof(calls) / sizeof(calls[0]))

/* A session whose last token is not evaluated yet. */
static void start_session(struct unpu_session *session, const uint32_t *ids)
{
	assert_int_equal(unpu_session_prompt(session, ids, 6), 0);
	assert_int_equal(unpu_session_generate(session, 3, NULL, NULL), UNPU_REASON_LENGTH);
}

struct trial {
	const struct subject *s;
	const struct call *call;
	struct unpu_session *want;	/* after the call */
	uint32_t ids[NUM_IDS];
	float *logits;
};

/* Fails once, by the nth call or the nth job; false: there is no nth. */
static bool try_failure(const struct trial *t, uint32_t nth, bool job, int err)
{
	struct unpu_session *session = open_session(t->s);
	uint32_t before[MOST], after[MOST];
	int64_t count, ret;

	start_session(session, t->ids);
	count = unpu_session_tokens(session, 0, before, MOST);
	subject_errors = 0;
	faulty_fail(job ? 0 : nth, err);
	faulty_fail_job(job ? nth : 0, err);
	ret = t->call->run(session, t->ids, t->logits);
	faulty_fail(0, 0);
	faulty_fail_job(0, 0);
	if (ret < 0) {
		assert_true(ret == -EIO || ret == -ENOMEM);
		assert_true(unpu_session_tokens(session, 0, after, MOST) == count ||
			    t->call->keeps_some);
		assert_memory_equal(before, after, (size_t)count * sizeof(*before));
		assert_true(t->call->run(session, t->ids, t->logits) >= 0);
	}
	subject_assert_equal(session, t->want, t->s->vocab);
	unpu_session_destroy(session);
	return ret < 0;
}

static void calls_are_all_or_nothing(void **state)
{
	uint32_t step = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED") ? 3 : 1;
	/* the last as on a device that runs by itself, though these jobs run when waited for */
	static const uint32_t per_submit[] = { 1, 4, 4 };
	struct subject s;
	uint32_t nth;

	(void)state;
	subject_needs_cpu();
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	faulty_begin(s.model);
	for (size_t i = 0; i < 3 * NUM_CALLS; i++) {
		struct trial t = { .s = &s, .call = &calls[i % NUM_CALLS],
				   .want = open_session(&s) };

		s.model->home->weights->info.tokens_per_submit = per_submit[i / NUM_CALLS];
		if (i >= 2 * NUM_CALLS)
			s.model->home->weights->info.features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
		subject_ids(&s, t.ids, NUM_IDS);
		t.logits = calloc(NUM_IDS, s.vocab * sizeof(*t.logits));
		assert_non_null(t.logits);
		start_session(t.want, t.ids);
		assert_true(t.call->run(t.want, t.ids, t.logits) >= 0);
		for (nth = 1; try_failure(&t, nth, false, errors[nth % NUM_ERRORS]); nth += step)
			;
		/* submit, wait and query of each job */
		assert_true(nth > 3);
		for (nth = 1; try_failure(&t, nth, true, nth % 2 ? -ETIME : -EIO); nth += step)
			;
		assert_true(nth > 1);
		free(t.logits);
		unpu_session_destroy(t.want);
	}
	faulty_end();
	subject_close(&s);
}

/* Tokens that a callback was given before the device failed stay. */
static void tokens_before_a_failure_stay(void **state)
{
	struct subject_text c = { 0 };
	struct unpu_session *session;
	uint32_t ids[NUM_IDS], got[MOST];
	struct subject s;

	(void)state;
	subject_needs_cpu();
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	faulty_begin(s.model);
	session = open_session(&s);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	subject_errors = 0;
	faulty_fail_job(5, -EIO);
	assert_int_equal(unpu_session_generate(session, 9, subject_collect, &c), -EIO);
	assert_int_equal(subject_errors, 1);
	assert_int_equal(c.count, 4);
	assert_int_equal(unpu_session_tokens(session, NUM_IDS, got, MOST), 4);
	assert_memory_equal(got, c.ids, sizeof(*got) * 4);
	assert_int_equal(unpu_session_generate(session, 5, subject_collect, &c),
			 UNPU_REASON_LENGTH);
	assert_int_equal(c.count, 9);
	unpu_session_destroy(session);
	faulty_end();
	subject_close(&s);
}

/* A birth that fails at any call of the device leaves nothing. */
static void births_fail_without_a_trace(void **state)
{
	struct unpu_session_params params = subject_params();
	struct unpu_session *session = NULL;
	struct subject s;
	uint32_t nth;
	int ret = -1;

	(void)state;
	subject_needs_cpu();
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	faulty_begin(s.model);
	for (nth = 1; ret; nth++) {
		faulty_fail(nth, errors[nth % 4]);
		ret = unpu_session_create(s.model, &params, &session);
		if (ret) {
			assert_int_equal(ret, errors[nth % 4]);
			assert_null(session);
		}
	}
	assert_in_range(nth, 20, 200);
	unpu_session_destroy(session);
	faulty_end();
	subject_close(&s);
}

/* What a job said of the session's words is over with it: the cache goes to a file and back. */
static void a_fault_is_its_jobs(void **state)
{
	struct unpu_session *session, *fresh;
	int fd = memfd_create("session", 0);
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	assert_true(fd >= 0);
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	session = open_session(&s);
	fresh = open_session(&s);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_prompt(fresh, ids, NUM_IDS), 0);
	unpu_session_state(session)->fault = UNPU_STATE_FAULT_VALUE;
	assert_int_equal(unpu_session_save_fd(session, fd, UNPU_SAVE_KV), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	unpu_session_state(session)->fault = UNPU_STATE_FAULT_VALUE;
	assert_int_equal(unpu_session_load_fd(session, fd), 1);
	subject_assert_equal(session, fresh, s.vocab);
	close(fd);
	unpu_session_destroy(session);
	unpu_session_destroy(fresh);
	subject_close(&s);
}

/* ---- a device that lies -------------------------------------------------------------------- */

enum lie { ID, TOO_MANY, TOO_FEW, FAULT, STOP, LIES };

struct liar {
	struct unpu_session *session;
	enum lie lie;
	uint32_t at;
	bool told;
};

/* Before or after a call of the device, in the words that it may write. */
static void tell(void *arg, uint32_t point)
{
	struct liar *liar = arg;
	volatile struct unpu_state_header *header = unpu_session_state(liar->session);

	if (point != liar->at)
		return;
	liar->told = true;
	switch (liar->lie) {
	case ID:
		unpu_session_history(liar->session)[liar->session->used] = UINT32_MAX;
		break;
	case TOO_MANY:
		header->ring_head += 1000;
		break;
	case TOO_FEW:
		header->ring_head--;
		break;
	case FAULT:
		header->fault |= 1u << 31;
		break;
	default:
		header->stop = 77;
	}
}

/* How a generation ends in which the device lies once; what it gave are tokens. */
static int be_lied_to(const struct subject *s, const uint32_t *ids, enum lie lie, uint32_t at,
		      bool *told)
{
	struct liar liar = { .session = open_session(s), .lie = lie, .at = at };
	struct subject_text c = { 0 };
	uint32_t got[MOST];
	int ret;

	start_session(liar.session, ids);
	faulty_watch(tell, &liar);
	ret = unpu_session_generate(liar.session, GENERATED, subject_collect, &c);
	faulty_watch(NULL, NULL);
	assert_true(ret == UNPU_REASON_LENGTH || ret == -EIO);
	assert_true(ret == -EIO ? c.count < GENERATED : c.count == GENERATED);
	assert_int_equal(unpu_session_tokens(liar.session, 6 + 3, got, MOST), c.count);
	assert_memory_equal(got, c.ids, c.count * sizeof(*got));
	for (uint32_t i = 0; i < c.count; i++)
		assert_in_range(got[i], 0, s->vocab - 1);
	assert_int_equal(unpu_session_generate(liar.session, GENERATED, subject_collect, &c),
			 UNPU_REASON_LENGTH);
	unpu_session_destroy(liar.session);
	*told = liar.told;
	return ret;
}

static void lies_are_found_out(void **state)
{
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_needs_cpu();
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	faulty_begin(s.model);
	for (uint32_t i = 0; i < 3 * LIES; i++) {
		uint32_t found = 0;
		bool told = true;

		s.model->home->weights->info.tokens_per_submit = i / LIES ? 4 : 1;
		if (i / LIES == 2)
			s.model->home->weights->info.features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
		for (uint32_t at = 1; told; at++)
			found += be_lied_to(&s, ids, i % LIES, at, &told) == -EIO;
		assert_true(found || i % LIES == STOP);
	}
	faulty_end();
	subject_close(&s);
}

/* ---- leaks -------------------------------------------------------------------------------- */

struct held {
	size_t heap;
	uint32_t maps, fds;
};

static uint32_t lines_of(const char *path)
{
	FILE *f = fopen(path, "re");
	uint32_t lines = 0;

	assert_non_null(f);
	for (int c; (c = getc(f)) != EOF;)
		lines += c == '\n';
	fclose(f);
	return lines;
}

static uint32_t entries_of(const char *path)
{
	DIR *dir = opendir(path);
	uint32_t entries = 0;

	assert_non_null(dir);
	while (readdir(dir))
		entries++;
	closedir(dir);
	return entries;
}

static struct held held_now(void)
{
	struct held held = { .heap = 0 };

	held.maps = lines_of("/proc/self/maps");
	held.fds = entries_of("/proc/self/fd");
	held.heap = mallinfo2().uordblks;
	return held;
}

static void live(const struct subject *s, uint32_t i)
{
	struct unpu_session_params params = subject_params();
	struct unpu_session *session;
	float *logits;
	uint32_t ids[NUM_IDS];

	params.context = 64;
	params.batch = 4;
	session = subject_session(s, &params);
	if (i % 16 == 0) {
		logits = calloc(4, s->vocab * sizeof(*logits));
		assert_non_null(logits);
		subject_ids(s, ids, NUM_IDS);
		assert_int_equal(unpu_session_prompt(session, ids, 8), 0);
		assert_int_equal(unpu_session_generate(session, 3, NULL, NULL),
				 UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_logits(session, ids, 4, logits), 0);
		free(logits);
	}
	unpu_session_destroy(session);
}

/* The first lives fill what the library and libc keep for the next ones. */
static void lives_leave_nothing(void **state)
{
	bool slow = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");
	uint32_t lives = slow ? 300 : 10000;
	struct held before, after;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (uint32_t i = 0; i < 64; i++)
		live(&s, i);
	before = held_now();
	before = held_now();
	for (uint32_t i = 0; i < lives; i++)
		live(&s, i);
	after = held_now();
	print_message("%u lives: heap %zu to %zu bytes, %u to %u mappings, %u to %u files\n", lives,
		      before.heap, after.heap, before.maps, after.maps, before.fds, after.fds);
	assert_int_equal(after.fds, before.fds);
	/* less than a mapping or a pointer's worth of heap for each life */
	assert_true(after.maps < before.maps + 8);
	assert_true(after.heap < before.heap + 4096);
	subject_close(&s);
}

static void models_leave_nothing(void **state)
{
	bool slow = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");
	uint32_t lives = slow ? 20 : 200;
	struct held before = { .heap = 0 }, after;
	struct subject s;

	(void)state;
	for (uint32_t i = 0; i < lives + 8; i++) {
		if (i == 8)
			before = held_now();
		subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
		live(&s, 0);
		subject_close(&s);
	}
	after = held_now();
	print_message("%u models: heap %zu to %zu bytes, %u to %u mappings\n", lives, before.heap,
		      after.heap, before.maps, after.maps);
	assert_int_equal(after.fds, before.fds);
	assert_true(after.maps < before.maps + 8);
	/* what threads that ended have kept of it, and less than an object a model */
	assert_true(after.heap < before.heap + 4096 + 32 * lives);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_are_all_or_nothing),
		cmocka_unit_test(tokens_before_a_failure_stay),
		cmocka_unit_test(births_fail_without_a_trace),
		cmocka_unit_test(a_fault_is_its_jobs),
		cmocka_unit_test(lies_are_found_out),
		cmocka_unit_test(lives_leave_nothing),
		cmocka_unit_test(models_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
