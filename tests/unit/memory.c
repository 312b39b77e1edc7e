/* SPDX-License-Identifier: MIT */
/* Each allocation of a session's life fails once: one sentence, -ENOMEM, nothing has changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/model/gguf.h"
#include "runtime/unpu.h"
#include "tests/lib/tiny.h"

#if defined(__has_feature)
#define FEATURE(x)	__has_feature(x)
#else
#define FEATURE(x)	0
#endif
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
	!FEATURE(address_sanitizer) && !FEATURE(thread_sanitizer)
#define CAN_FAIL	1
#else
#define CAN_FAIL	0	/* sanitizers have their own allocator */
#endif

#define NEVER	(-1)

/* Which allocation from now on fails, and how many there were. */
static atomic_long fails = NEVER, allocations;

#if CAN_FAIL
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static int fail_this(void)
{
	if (atomic_fetch_add(&allocations, 1) != atomic_load(&fails))
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fail_this() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fail_this() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	return fail_this() ? NULL : __libc_realloc(old, size);
}
#endif

static void fail_from_now(long which)
{
	atomic_store(&allocations, 0);
	atomic_store(&fails, which);
}

struct life {
	struct unpu_model *model;
	struct unpu_session *session;
	uint32_t used;		/* tokens of prompts that were no failure, and those told */
	float *logits;
	char last[256];
	int errors;
};

static void log_line(void *arg, enum unpu_log_level level, const char *text)
{
	struct life *l = arg;

	if (level != UNPU_LOG_ERROR)
		return;
	l->errors++;
	snprintf(l->last, sizeof(l->last), "%s", text);
}

static int count_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct life *l = arg;

	(void)text;
	(void)length;
	l->used += id != UINT32_MAX;
	return 0;
}

/* What a session does once, with what takes memory for the first time. */
static int live(struct life *l, const uint8_t *file, size_t size)
{
	struct unpu_session_params session = UNPU_SESSION_PARAMS_INIT;
	struct unpu_model_params model = UNPU_MODEL_PARAMS_INIT;
	uint32_t ids[16];
	int64_t count;
	int ret;

	model.log = log_line;
	model.log_arg = l;
	model.threads = 1;
	ret = unpu_model_load_memory(file, size, &model, &l->model);
	if (ret)
		return ret;
	count = unpu_tokenize(l->model, "the other", 9, UNPU_TOKENIZE_ADD_SPECIAL, ids, 16);
	if (count < 0)
		return (int)count;
	session.flags = UNPU_SESSION_NO_END;
	ret = unpu_session_create(l->model, &session, &l->session);
	if (!ret)
		ret = unpu_session_prompt(l->session, ids, (size_t)count);
	if (ret)
		return ret;
	l->used += (uint32_t)count;
	ret = unpu_session_generate(l->session, 3, count_token, l);
	if (ret < 0)
		return ret;
	ret = unpu_session_logits(l->session, ids, 2, l->logits);
	l->used += ret ? 0 : 2;
	return ret;
}

/* A session holds the tokens of whole calls only, and goes on. */
static void check_session(const struct life *l)
{
	struct unpu_session_info info = { .size = sizeof(info) };
	const uint32_t id = 5;

	if (!l->session)
		return;
	assert_int_equal(unpu_session_info(l->session, &info), 0);
	assert_int_equal(info.used, l->used);
	assert_int_equal(unpu_session_prompt(l->session, &id, 1), 0);
	assert_int_equal(unpu_session_generate(l->session, 1, NULL, NULL), UNPU_REASON_LENGTH);
}

/* The answer when allocation `which` fails; *count is how many there were. */
static int live_without(const uint8_t *file, size_t size, float *logits, long which, long *count)
{
	struct life l = { .logits = logits };
	int ret;

	fail_from_now(which);
	ret = live(&l, file, size);
	*count = atomic_load(&allocations);
	fail_from_now(NEVER);
	if (ret && (ret != -ENOMEM || l.errors != 1))
		fail_msg("allocation %ld: %d, %d errors, the last: %s", which, ret, l.errors,
			 l.last);
	assert_true(ret || !l.errors);
	check_session(&l);
	unpu_session_destroy(l.session);
	unpu_model_destroy(l.model);
	return ret;
}

static void any_allocation_may_fail(void **state)
{
	static const char *const archs[] = { "llama", "gpt2" };	/* SentencePiece and BPE */
	long failed = 0, which, count;

	(void)state;
	if (!CAN_FAIL) {
		print_message("only glibc's own allocator can be made to fail here\n");
		skip();
	}
	for (size_t a = 0; a < sizeof(archs) / sizeof(archs[0]); a++) {
		struct tiny_params tiny = { .arch = archs[a], .type = UNPU_TYPE_Q8_0 };
		size_t size;
		uint8_t *file = tiny_model(&tiny, &size);
		float *logits = malloc(2 * 331 * sizeof(*logits));

		assert_non_null(file);
		assert_non_null(logits);
		which = 0;
		do
			failed += !!live_without(file, size, logits, which, &count);
		while (count > which++);	/* that one there was */
		free(logits);
		free(file);
	}
	assert_true(failed > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
