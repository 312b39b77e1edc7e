/* SPDX-License-Identifier: MIT */
#include "tests/lib/saved.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define GENERATED	12

void saved_clear_log(void)
{
	subject_errors = subject_warnings = 0;
	subject_log[0] = subject_warning[0] = 0;
}

void saved_open_smallest(struct subject *s, uint64_t seed)
{
	const struct tiny_params tiny = {
		.arch = "llama", .hidden = 8, .ffn = 8, .layers = 1, .heads = 1, .kv_heads = 1,
		.head_dim = 8, .vocab = 264, .context = 64, .tied = 1, .seed = seed,
	};

	subject_open_tiny(s, &tiny, 1, 0);
}

/* Settings of which none is a default, so that one that is lost shows. */
static const struct unpu_logit_bias biases[] = { { 5, 3.5f }, { 9, -INFINITY }, { 17, -2 } };
static const char *const stops[] = { "never said", "\xe2\x82\xac nor this" };

struct unpu_session_params saved_rich_params(enum unpu_kv kv)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;

	params.kv = kv;
	params.temperature = 1.5f;
	params.top_k = 60;
	params.top_p = 0.97f;
	params.min_p = 0.001f;
	params.repeat_penalty = 1.2f;
	params.repeat_last_n = 33;
	params.frequency_penalty = 0.25f;
	params.presence_penalty = -0.5f;
	params.seed = 0x123456789abcdefu;
	params.flags = UNPU_SESSION_NO_END;
	params.bias = biases;
	params.num_bias = 3;
	params.stop = stops;
	params.num_stop = 2;
	return params;
}

struct unpu_session *saved_rich_session(const struct subject *s, enum unpu_kv kv)
{
	const struct unpu_session_params params = saved_rich_params(kv);

	return subject_session(s, &params);
}

struct unpu_session *saved_other_session(const struct subject *s, enum unpu_kv kv,
					  uint32_t tokens)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[SAVED_IDS];
	struct unpu_session *session;

	params.kv = kv;
	params.seed = 99;
	params.batch = 7;
	session = subject_session(s, &params);
	for (uint32_t i = 0; i < tokens; i++)
		ids[i] = i * 11 % s->vocab;
	assert_int_equal(unpu_session_prompt(session, ids, tokens), 0);
	return session;
}

void saved_prompt(struct unpu_session *session, const struct subject *s)
{
	uint32_t ids[SAVED_IDS];

	subject_ids(s, ids, SAVED_IDS);
	assert_int_equal(unpu_session_prompt(session, ids, SAVED_IDS), 0);
}

void saved_look_ahead(struct unpu_session *session, struct saved_future *f)
{
	const uint32_t ids[] = { 7, 8 };

	memset(f, 0, sizeof(*f));
	f->ret[0] = unpu_session_generate(session, GENERATED, NULL, NULL);
	f->used = (uint32_t)unpu_session_tokens(session, 0, NULL, 0);
	unpu_session_tokens(session, f->used < 64 ? 0 : f->used - 64, f->ids, 64);
	f->ret[1] = unpu_session_logits(session, ids, 2, f->logits);
	f->ret[2] = unpu_session_generate(session, 3, NULL, NULL);
}

void saved_assert_future(struct unpu_session *session, const struct saved_future *want)
{
	struct saved_future *got = malloc(sizeof(*got));

	assert_non_null(got);
	saved_look_ahead(session, got);
	assert_memory_equal(got, want, sizeof(*got));
	free(got);
}

static int memory_file(const void *data, size_t size)
{
	int fd = memfd_create("session", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

uint8_t *saved_bytes(struct unpu_session *session, uint32_t flags, size_t *size)
{
	int fd = memfd_create("session", MFD_CLOEXEC);
	uint8_t *data;
	off_t end;

	assert_true(fd >= 0);
	assert_int_equal(unpu_session_save_fd(session, fd, flags), 0);
	end = lseek(fd, 0, SEEK_CUR);
	assert_true(end > 0);
	data = malloc((size_t)end);
	assert_non_null(data);
	assert_int_equal(pread(fd, data, (size_t)end, 0), end);
	close(fd);
	*size = (size_t)end;
	return data;
}

int saved_load(struct unpu_session *session, const void *data, size_t size)
{
	int fd = memory_file(data, size), ret = unpu_session_load_fd(session, fd);

	close(fd);
	return ret;
}
