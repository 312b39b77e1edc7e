/* SPDX-License-Identifier: MIT */
#include "tests/lib/subject.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char subject_log[512], subject_warning[512];
atomic_int subject_errors, subject_warnings;
const char *subject_device;

/* Models of one test may log at once, from threads of their own. */
void subject_log_line(void *arg, enum unpu_log_level level, const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	(void)arg;
	pthread_mutex_lock(&lock);
	if (level == UNPU_LOG_ERROR) {
		subject_errors++;
		snprintf(subject_log, sizeof(subject_log), "%s", text);
	} else if (level == UNPU_LOG_WARN) {
		subject_warnings++;
		snprintf(subject_warning, sizeof(subject_warning), "%s", text);
	}
	pthread_mutex_unlock(&lock);
}

void subject_needs_cpu(void)
{
	if (!getenv("UNPU_SUBJECT_DEVICE"))
		return;
	print_message("what the cpu's own failures do: %s is left for it\n",
		      getenv("UNPU_SUBJECT_DEVICE"));
	skip();
}

void subject_open_tiny(struct subject *s, const struct tiny_params *tiny, uint32_t threads,
		       uint32_t flags)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;

	params.threads = threads;
	params.flags = flags;
	params.log = subject_log_line;
	params.device = subject_device ? subject_device : getenv("UNPU_SUBJECT_DEVICE");
	s->file = tiny_model(tiny, &s->size);
	assert_non_null(s->file);
	assert_int_equal(unpu_model_load_memory(s->file, s->size, &params, &s->model), 0);
	assert_int_equal(unpu_model_info(s->model, &info), 0);
	s->vocab = info.vocab;
}

void subject_open(struct subject *s, const char *arch, uint32_t type, uint32_t threads,
		  uint32_t flags)
{
	const struct tiny_params tiny = { .arch = arch, .type = type, .tied = -1, .seed = 7 };

	subject_open_tiny(s, &tiny, threads, flags);
}

void subject_close(struct subject *s)
{
	unpu_model_destroy(s->model);
	free(s->file);
}

void subject_ids(const struct subject *s, uint32_t *ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ids[i] = (i * 37 + 5) % s->vocab;
}

struct unpu_session_params subject_params(void)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;

	params.temperature = 0;
	params.flags = UNPU_SESSION_NO_END;
	return params;
}

struct unpu_session *subject_session(const struct subject *s,
				     const struct unpu_session_params *params)
{
	const struct unpu_session_params greedy = subject_params();
	struct unpu_session *session = NULL;

	assert_int_equal(unpu_session_create(s->model, params ? params : &greedy, &session), 0);
	return session;
}

struct unpu_session_info subject_info(const struct unpu_session *session)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;

	assert_int_equal(unpu_session_info(session, &info), 0);
	return info;
}

int subject_collect(void *arg, uint32_t id, const char *text, size_t length)
{
	struct subject_text *c = arg;

	assert_true(c->length + length < sizeof(c->text));
	memcpy(c->text + c->length, text, length);
	c->length += length;
	if (id == UINT32_MAX) {
		c->flushed++;
		return 0;
	}
	assert_true(c->count < sizeof(c->ids) / sizeof(c->ids[0]));
	c->ids[c->count++] = id;
	return c->stop_after && c->count == c->stop_after;
}

void subject_assert_equal(struct unpu_session *a, struct unpu_session *b, uint32_t vocab)
{
	int64_t count = unpu_session_tokens(a, 0, NULL, 0);
	uint32_t *ids = calloc((size_t)count + 1, 2 * sizeof(*ids)), next = 1;
	float *logits = calloc(vocab, 2 * sizeof(*logits));

	assert_non_null(ids);
	assert_non_null(logits);
	assert_int_equal(unpu_session_tokens(b, 0, NULL, 0), count);
	assert_int_equal(unpu_session_tokens(a, 0, ids, (size_t)count), count);
	assert_int_equal(unpu_session_tokens(b, 0, ids + count, (size_t)count), count);
	assert_memory_equal(ids, ids + count, (size_t)count * sizeof(*ids));
	assert_int_equal(unpu_session_logits(a, &next, 1, logits), 0);
	assert_int_equal(unpu_session_logits(b, &next, 1, logits + vocab), 0);
	assert_memory_equal(logits, logits + vocab, vocab * sizeof(*logits));
	assert_int_equal(unpu_session_rollback(a, (uint32_t)count), 0);
	assert_int_equal(unpu_session_rollback(b, (uint32_t)count), 0);
	free(ids);
	free(logits);
}
