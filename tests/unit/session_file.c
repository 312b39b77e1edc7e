/* SPDX-License-Identifier: MIT */
/* Sessions on disk: what is loaded goes on as what was saved would have; no file does harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/session/file.h"
#include "tests/lib/faulty.h"
#include "tests/lib/saved.h"
#include "tests/lib/session_file.h"

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const enum unpu_kv kvs[] = { UNPU_KV_F16, UNPU_KV_F32, UNPU_KV_INT8 };

/* ---- what was saved goes on ---------------------------------------------------------------- */

static int stop_at_once(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)id;
	(void)text;
	(void)length;
	return 1;
}

/* Everything that a session may be at when somebody saves it. */
enum moment {
	PROMPTED, SAMPLED, CUT_SHORT, ASKED_FOR_LOGITS, ROLLED_BACK, EMPTY, MOMENTS
};

static void reach(struct unpu_session *session, const struct subject *s, enum moment moment)
{
	const uint32_t ids[] = { 3, 4 };
	float logits[2 * SAVED_MAX_VOCAB];

	if (moment == EMPTY)
		return;
	saved_prompt(session, s);
	switch (moment) {
	case SAMPLED:
		assert_int_equal(unpu_session_generate(session, 5, NULL, NULL),
				 UNPU_REASON_LENGTH);
		break;
	case CUT_SHORT:	/* text may be waiting */
		for (int i = 0; i < 5; i++)
			assert_int_equal(unpu_session_generate(session, 5, stop_at_once, NULL),
					 UNPU_REASON_CALLBACK);
		break;
	case ASKED_FOR_LOGITS:
		assert_int_equal(unpu_session_logits(session, ids, 2, logits), 0);
		break;
	case ROLLED_BACK:
		assert_int_equal(unpu_session_generate(session, 5, NULL, NULL),
				 UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_rollback(session, SAVED_IDS + 2), 0);
		break;
	default:
		break;
	}
}

static void check_moment(const struct subject *s, const struct subject *other_threads,
			 enum unpu_kv kv, enum moment moment)
{
	struct unpu_session *plain = saved_rich_session(s, kv), *source = saved_rich_session(s, kv);
	struct unpu_session *with_kv = saved_other_session(other_threads, kv, 9);
	struct unpu_session *without = saved_other_session(other_threads, kv, 4);
	struct saved_future want;
	uint8_t *large, *small, *again;
	size_t large_size, small_size, again_size;

	reach(plain, s, moment);
	saved_look_ahead(plain, &want);
	reach(source, s, moment);
	large = saved_bytes(source, UNPU_SAVE_KV, &large_size);
	small = saved_bytes(source, 0, &small_size);
	assert_true(small_size < large_size);
	saved_clear_log();
	assert_int_equal(saved_load(with_kv, large, large_size), 1);
	assert_int_equal(saved_load(without, small, small_size), 0);
	assert_int_equal(subject_errors + subject_warnings, 0);
	/* Nothing is lost, nor depends on where the session has been. */
	again = saved_bytes(with_kv, UNPU_SAVE_KV, &again_size);
	assert_int_equal(again_size, large_size);
	assert_memory_equal(again, large, large_size);
	free(again);
	again = saved_bytes(without, 0, &again_size);
	assert_int_equal(again_size, small_size);
	assert_memory_equal(again, small, small_size);
	free(again);
	saved_assert_future(source, &want);	/* saving changed nothing */
	saved_assert_future(with_kv, &want);
	saved_assert_future(without, &want);
	free(large);
	free(small);
	unpu_session_destroy(plain);
	unpu_session_destroy(source);
	unpu_session_destroy(with_kv);
	unpu_session_destroy(without);
}

/* Emulated, one in `of` does. */
static bool thin(unsigned int n, unsigned int of)
{
	return getenv("UNPU_EMULATED") && n % of;
}

static void loaded_sessions_go_on(void **state)
{
	static const struct {
		uint32_t type, flags;
	} weights[] = {
		{ UNPU_TYPE_F32, 0 }, { UNPU_TYPE_Q8_0, 0 },
		{ UNPU_TYPE_Q8_0, UNPU_MODEL_CLASS_F32 },
	};
	unsigned int n = 0;

	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t w = 0; w < 3; w++) {
			struct subject s, other;

			subject_open(&s, archs[a], weights[w].type, 2, weights[w].flags);
			subject_open(&other, archs[a], weights[w].type, 3, weights[w].flags);
			for (size_t k = 0; k < 3; k++)
				for (int m = 0; m < MOMENTS; m++)
					if (!thin(n++, 11))
						check_moment(&s, &other, kvs[k], m);
			subject_close(&s);
			subject_close(&other);
		}
}

/* Many heads and layers; one head that is larger than what is copied at once. */
static void caches_of_any_size_are_saved(void **state)
{
	static const struct tiny_params shapes[] = {
		{ .arch = "llama", .layers = 12, .heads = 8, .kv_heads = 8, .head_dim = 8,
		  .tied = 1, .context = 512 },
		{ .arch = "llama", .layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 256,
		  .hidden = 8, .ffn = 8, .tied = 1, .context = 2048 },
	};
	static const uint32_t tokens[] = { 80, 1100 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint32_t *ids = calloc(tokens[i], sizeof(*ids));
		struct unpu_session *source, *loaded;
		struct subject s;
		struct saved_future *want = malloc(sizeof(*want));
		uint8_t *data;
		size_t size;

		assert_true(ids && want);
		subject_open_tiny(&s, &shapes[i], 2, 0);
		source = saved_rich_session(&s, UNPU_KV_F32);
		loaded = saved_other_session(&s, UNPU_KV_F32, 3);
		for (uint32_t t = 0; t < tokens[i]; t++)
			ids[t] = t * 7 % s.vocab;
		assert_int_equal(unpu_session_prompt(source, ids, tokens[i]), 0);
		data = saved_bytes(source, UNPU_SAVE_KV, &size);
		assert_int_equal(saved_load(loaded, data, size), 1);
		saved_look_ahead(source, want);
		saved_assert_future(loaded, want);
		assert_int_equal(unpu_session_file_parse(data, size, NULL), 1);
		free(data);
		free(ids);
		free(want);
		unpu_session_destroy(source);
		unpu_session_destroy(loaded);
		subject_close(&s);
	}
}

/* ---- in another process -------------------------------------------------------------------- */

#define RESTORED_MODEL { .arch = "llama", .type = UNPU_TYPE_Q8_0, .tied = -1, .seed = 7, \
			 .context = 512 }

/* 100 tokens, saved; then what comes after them. */
static void child_saves(const char *path, int result)
{
	const struct tiny_params tiny = RESTORED_MODEL;
	const struct unpu_session_params params = saved_rich_params(UNPU_KV_F16);
	const uint32_t ids[] = { 1, 2, 3, 4 };
	struct unpu_session *session;
	struct subject s;
	struct saved_future f;

	subject_open_tiny(&s, &tiny, 2, 0);
	SAVED_MUST(!unpu_session_create(s.model, &params, &session));
	SAVED_MUST(!unpu_session_prompt(session, ids, 4));
	SAVED_MUST(unpu_session_generate(session, 96, NULL, NULL) == UNPU_REASON_LENGTH);
	SAVED_MUST(!unpu_session_save(session, path, UNPU_SAVE_KV));
	saved_look_ahead(session, &f);
	SAVED_MUST(write(result, &f, sizeof(f)) == sizeof(f));
	_exit(0);
}

static void child_loads(const char *path, uint32_t threads, int result)
{
	const struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	const struct tiny_params tiny = RESTORED_MODEL;
	struct unpu_session *session;
	struct subject s;
	struct saved_future f;

	subject_open_tiny(&s, &tiny, threads, 0);
	SAVED_MUST(!unpu_session_create(s.model, &params, &session));
	SAVED_MUST(unpu_session_load(session, path) == 1);
	SAVED_MUST(unpu_session_tokens(session, 0, NULL, 0) == 100);
	saved_look_ahead(session, &f);
	SAVED_MUST(write(result, &f, sizeof(f)) == sizeof(f));
	_exit(0);
}

/* threads 0: the one that saves. */
static void run_child(const char *path, uint32_t threads, struct saved_future *f)
{
	int fd = memfd_create("result", 0), status;
	pid_t child = fork();

	assert_true(fd >= 0 && child >= 0);
	if (!child && threads)
		child_loads(path, threads, fd);
	if (!child)
		child_saves(path, fd);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(pread(fd, f, sizeof(*f), 0), sizeof(*f));
	close(fd);
}

static void another_process_goes_on(void **state)
{
	char path[] = "/tmp/unpu-session-file-XXXXXX";
	struct saved_future want, got;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	run_child(path, 0, &want);
	assert_int_equal(want.ret[0], UNPU_REASON_LENGTH);
	assert_int_equal(want.ret[1], 0);
	for (uint32_t threads = 1; threads <= 3; threads++) {
		run_child(path, threads, &got);
		assert_memory_equal(&got, &want, sizeof(got));
	}
	unlink(path);
}

/* ---- files that do not fit ------------------------------------------------------------------ */

/* The tokens run again, and say what they would have said of a session that ran them itself. */
static void check_mismatch(const struct subject *from, enum unpu_kv from_kv,
			   const struct subject *to, enum unpu_kv to_kv, const char *why)
{
	struct unpu_session *source = saved_rich_session(from, from_kv);
	struct unpu_session *fresh = saved_rich_session(to, to_kv);
	struct unpu_session *loaded = saved_other_session(to, to_kv, 5);
	struct saved_future want;
	uint8_t *data;
	size_t size;

	saved_prompt(source, from);
	saved_prompt(fresh, from);
	saved_look_ahead(fresh, &want);
	data = saved_bytes(source, UNPU_SAVE_KV, &size);
	saved_clear_log();
	assert_int_equal(saved_load(loaded, data, size), 0);
	assert_int_equal(subject_errors, 0);
	assert_int_equal(subject_warnings, 1);
	assert_non_null(strstr(subject_warning, why));
	assert_non_null(strstr(subject_warning, "file descriptor"));
	saved_assert_future(loaded, &want);
	free(data);
	unpu_session_destroy(source);
	unpu_session_destroy(fresh);
	unpu_session_destroy(loaded);
}

static void other_caches_are_built_again(void **state)
{
	struct tiny_params tiny = { .arch = "llama", .type = UNPU_TYPE_Q8_0, .tied = -1,
				    .seed = 8 };
	struct subject s, other, class_f32;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	subject_open(&class_f32, "llama", UNPU_TYPE_Q8_0, 1, UNPU_MODEL_CLASS_F32);
	subject_open_tiny(&other, &tiny, 1, 0);
	check_mismatch(&s, UNPU_KV_F16, &other, UNPU_KV_F16, "another model");
	check_mismatch(&s, UNPU_KV_F16, &class_f32, UNPU_KV_F16, "numeric class");
	check_mismatch(&class_f32, UNPU_KV_F32, &s, UNPU_KV_F32, "numeric class");
	check_mismatch(&s, UNPU_KV_F16, &s, UNPU_KV_F32, "type f16, not f32");
	check_mismatch(&s, UNPU_KV_INT8, &s, UNPU_KV_F16, "type int8, not f16");
	subject_close(&other);
	/* one byte of one tensor, and the header is the same */
	subject_open(&other, "llama", UNPU_TYPE_Q8_0, 1, 0);
	unpu_model_destroy(other.model);
	other.file[other.size - 40] ^= 1;
	{
		struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;

		params.log = subject_log_line;
		assert_int_equal(unpu_model_load_memory(other.file, other.size, &params,
							&other.model), 0);
	}
	check_mismatch(&s, UNPU_KV_F16, &other, UNPU_KV_F16, "another model");
	subject_close(&other);
	subject_close(&class_f32);
	subject_close(&s);
}

/* Tokens that the model does not have cannot run. */
static void other_vocabularies_are_refused(void **state)
{
	const struct tiny_params tiny = { .arch = "llama", .vocab = 300, .tied = 1, .seed = 3 };
	struct unpu_session *source, *loaded;
	const uint32_t id = 299;
	struct subject s, larger;
	uint8_t *data;
	size_t size;

	(void)state;
	saved_open_smallest(&s, 3);
	subject_open_tiny(&larger, &tiny, 1, 0);
	source = saved_rich_session(&larger, UNPU_KV_F16);
	loaded = saved_other_session(&s, UNPU_KV_F16, 2);
	assert_int_equal(unpu_session_prompt(source, &id, 1), 0);
	data = saved_bytes(source, UNPU_SAVE_KV, &size);
	saved_clear_log();
	assert_int_equal(saved_load(loaded, data, size), -EINVAL);
	assert_non_null(strstr(subject_log, "outside the vocabulary of 264"));
	assert_int_equal(subject_errors, 1);
	assert_int_equal(subject_info(loaded).used, 2);
	free(data);
	unpu_session_destroy(source);
	unpu_session_destroy(loaded);
	subject_close(&s);
	subject_close(&larger);
}

static void a_context_that_is_too_small_says_so(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *source, *small;
	struct subject s;
	uint8_t *data;
	size_t size;

	(void)state;
	subject_open(&s, "qwen3", UNPU_TYPE_F32, 1, 0);
	source = saved_rich_session(&s, UNPU_KV_F16);
	saved_prompt(source, &s);
	data = saved_bytes(source, UNPU_SAVE_KV, &size);
	params.context = SAVED_IDS - 1;
	assert_int_equal(unpu_session_create(s.model, &params, &small), 0);
	saved_clear_log();
	assert_int_equal(saved_load(small, data, size), -ENOSPC);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "context"));
	unpu_session_destroy(small);
	params.context = SAVED_IDS;
	assert_int_equal(unpu_session_create(s.model, &params, &small), 0);
	assert_int_equal(saved_load(small, data, size), 1);
	assert_int_equal(unpu_session_generate(small, 1, NULL, NULL), UNPU_REASON_CONTEXT);
	unpu_session_destroy(small);
	unpu_session_destroy(source);
	free(data);
	subject_close(&s);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* Of a victim's file: three biases, and stop strings of 30 bytes with their lengths. */
enum {
	TOKENS_AT = 136, BIAS_AT = TOKENS_AT + 4 * (SAVED_IDS + 2), STOP_AT = BIAS_AT + 24,
	KV_AT = STOP_AT + 30 + 8,
};

/* A small session, its file, what it says next, and what another one of the model says. */
struct victim {
	struct subject s;
	uint8_t *data;
	size_t size;
	struct saved_future saved, own;
};

static void victim_init(struct victim *v, enum unpu_kv kv)
{
	struct unpu_session *session;

	saved_open_smallest(&v->s, 3);
	session = saved_rich_session(&v->s, kv);
	saved_prompt(session, &v->s);
	assert_int_equal(unpu_session_generate(session, 2, NULL, NULL), UNPU_REASON_LENGTH);
	v->data = saved_bytes(session, UNPU_SAVE_KV, &v->size);
	saved_look_ahead(session, &v->saved);
	unpu_session_destroy(session);
	session = saved_other_session(&v->s, kv, 6);
	saved_look_ahead(session, &v->own);
	unpu_session_destroy(session);
}

static void victim_finish(struct victim *v)
{
	free(v->data);
	subject_close(&v->s);
}

/* Either the file's session goes on, or the session that was there; one line says why. */
static int check_damaged(struct victim *v, enum unpu_kv kv, const uint8_t *data, size_t size)
{
	struct unpu_session *session = saved_other_session(&v->s, kv, 6);
	int ret, parsed;

	saved_clear_log();
	ret = saved_load(session, data, size);
	parsed = unpu_session_file_parse(data, size, NULL);
	if (ret < 0) {
		assert_int_equal(ret, -EINVAL);
		assert_int_equal(parsed, -EINVAL);
		assert_int_equal(subject_errors, 1);
		saved_assert_future(session, &v->own);
	} else {
		assert_int_equal(ret, parsed);
		assert_int_equal(subject_errors, 0);
		assert_int_equal(subject_warnings, !ret);
		saved_assert_future(session, &v->saved);
	}
	unpu_session_destroy(session);
	return ret;
}

static void check_each_byte(enum unpu_kv kv)
{
	struct victim v;
	uint8_t *data;

	victim_init(&v, kv);
	data = malloc(v.size);
	assert_non_null(data);
	assert_true(KV_AT < v.size);
	assert_int_equal(check_damaged(&v, kv, v.data, v.size), 1);
	for (size_t i = 0; i < v.size; i++) {
		int ret;

		if (thin((unsigned int)i, 7))
			continue;
		memcpy(data, v.data, v.size);
		data[i] ^= (uint8_t)(1u << i % 8);
		ret = check_damaged(&v, kv, data, v.size);
		assert_int_equal(ret, i < KV_AT ? -EINVAL : 0);
	}
	free(data);
	for (size_t n = 0; n < v.size; n++) {
		if (thin((unsigned int)n, 7))
			continue;
		data = malloc(n + !n);	/* of its size, for the sanitizer */
		assert_non_null(data);
		memcpy(data, v.data, n);
		assert_int_equal(check_damaged(&v, kv, data, n), n < KV_AT ? -EINVAL : 0);
		free(data);
	}
	victim_finish(&v);
}

static void damage_is_found(void **state)
{
	(void)state;
	for (size_t k = 0; k < 3; k++)
		if (!thin((unsigned int)k, 3))
			check_each_byte(kvs[k]);
}

/* ---- harm ----------------------------------------------------------------------------------- */

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

#define QUIET_NAN	0x7fc00000

/* One word of a good file, changed, and the sums made right again. */
static const struct {
	uint32_t at, value;
	int ret;
	const char *word;
} harms[] = {
	{ 8, 2, -EINVAL, "version" },
	{ 12, 3, -EINVAL, "flags" },
	{ 32, 2, -EINVAL, "vocabulary" },
	{ 36, UINT32_MAX, -ENOSPC, "context" },		/* number of tokens */
	{ 36, 64, -EINVAL, "stop string" },
	{ 36, 0, -EINVAL, "KV cache" },
	{ 40, UINT32_MAX, -EINVAL, "settings" },	/* of biases */
	{ 40, 65, -EINVAL, "settings" },
	{ 44, UINT32_MAX, -EINVAL, "settings" },	/* of stop strings */
	{ 44, 17, -EINVAL, "settings" },
	{ 44, 3, -EINVAL, "stop string" },
	{ 44, 1, -EINVAL, "stop string" },
	{ 44, 0, -EINVAL, "settings" },
	{ 48, UINT32_MAX, -EINVAL, "settings" },	/* and of their bytes */
	{ 48, 0, -EINVAL, "stop string" },
	{ 52, 0x80, -EINVAL, "flags" },
	{ 64, QUIET_NAN, -EINVAL, "temperature" },
	{ 72, 0, -EINVAL, "top-p" },
	{ 76, 0x7f800000, -EINVAL, "min-p" },
	{ 80, 0xbf800000, -EINVAL, "repeat penalty" },
	{ 88, QUIET_NAN, -EINVAL, "frequency penalty" },
	{ 92, 0x7149f2ca, -EINVAL, "presence penalty" },
	{ 116, SAVED_IDS + 3, -EINVAL, "KV cache" },	/* positions */
	{ 124, 1, -EINVAL, "flags" },			/* reserved */
	{ TOKENS_AT + 4, UINT32_MAX, -EINVAL, "vocabulary" },
	{ TOKENS_AT, 264, -EINVAL, "vocabulary" },
	{ BIAS_AT, 1u << 20, -EINVAL, "bias" },
	{ BIAS_AT + 8, 5, -EINVAL, "two logit biases" },
	{ BIAS_AT + 4, QUIET_NAN, -EINVAL, "bias" },
	{ STOP_AT, 0, -EINVAL, "stop string" },
	{ STOP_AT, 257, -EINVAL, "stop string" },
	{ STOP_AT, 27, -EINVAL, "stop string" },
	{ STOP_AT, UINT32_MAX, -EINVAL, "stop string" },
	{ STOP_AT + 6, 'a', -EINVAL, "NUL" },
	{ STOP_AT + 6, 0xfffffffe, -EINVAL, "UTF-8" },
};

/* Sums are right; the session keeps what it had. */
static void harmful_files_are_refused(void **state)
{
	struct victim v;
	uint8_t *data;

	(void)state;
	victim_init(&v, UNPU_KV_F16);
	data = malloc(v.size);
	assert_non_null(data);
	memcpy(data, v.data, v.size);
	assert_int_equal(session_file_seal(data, v.size), v.size);
	assert_memory_equal(data, v.data, v.size);	/* two ways to the same sums */
	for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++) {
		struct unpu_session *session = saved_other_session(&v.s, UNPU_KV_F16, 6);
		int ret;

		memcpy(data, v.data, v.size);
		put32(data + harms[i].at, harms[i].value);
		session_file_seal(data, v.size);
		saved_clear_log();
		ret = saved_load(session, data, v.size);
		if (ret != harms[i].ret || !strstr(subject_log, harms[i].word))
			print_error("harm %zu: %d, \"%s\"\n", i, ret, subject_log);
		assert_int_equal(ret, harms[i].ret);
		assert_non_null(strstr(subject_log, harms[i].word));
		assert_int_equal(strncmp(subject_log, "file descriptor", 15), 0);
		assert_int_equal(subject_errors, 1);
		assert_int_equal(subject_warnings, 0);
		saved_assert_future(session, &v.own);
		unpu_session_destroy(session);
	}
	free(data);
	victim_finish(&v);
}

/* A KV cache that lies about what it is, or holds what is no number: the tokens run again. */
static void harmful_caches_are_built_again(void **state)
{
	static const struct {
		enum unpu_kv kv;
		uint32_t at, before_end, value;		/* before_end instead of at */
		const char *word;
	} cases[] = {
		{ UNPU_KV_F16, 16, 0, 1, "another model" },
		{ UNPU_KV_F16, 96, 0, 0, "type f32" },
		{ UNPU_KV_F16, 96, 0, 77, "unknown" },
		{ UNPU_KV_F16, 100, 0, 2, "class" },
		{ UNPU_KV_F16, 100, 0, UINT32_MAX, "class" },
		{ UNPU_KV_F16, 104, 0, UINT32_MAX, "shape" },
		{ UNPU_KV_F16, 108, 0, UINT32_MAX, "shape" },
		{ UNPU_KV_F16, 112, 0, UINT32_MAX, "shape" },
		{ UNPU_KV_F16, 0, 12, 0x00007c00, "numbers" },
		{ UNPU_KV_F16, 0, 12, 0xfe000000, "numbers" },
		{ UNPU_KV_F32, 0, 12, 0x7f800000, "numbers" },
		{ UNPU_KV_F32, 0, 12, 0xffc00001, "numbers" },
		{ UNPU_KV_INT8, 0, 12, 0x00007e00, "numbers" },	/* the last scale */
		{ UNPU_KV_INT8, KV_AT, 0, 0x00800000, "numbers" },	/* -128 */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct unpu_session *session;
		struct victim v;
		uint8_t *at;

		victim_init(&v, cases[i].kv);
		at = cases[i].at ? v.data + cases[i].at : v.data + v.size - cases[i].before_end;
		put32(at, cases[i].value);
		session_file_seal(v.data, v.size);
		session = saved_other_session(&v.s, cases[i].kv, 6);
		saved_clear_log();
		assert_int_equal(saved_load(session, v.data, v.size), 0);
		assert_int_equal(subject_errors, 0);
		assert_int_equal(subject_warnings, 1);
		assert_non_null(strstr(subject_warning, cases[i].word));
		saved_assert_future(session, &v.saved);
		unpu_session_destroy(session);
		victim_finish(&v);
	}
}

/* Finite values of any size and fewer positions than tokens are taken; nothing breaks. */
static void nonsense_is_only_nonsense(void **state)
{
	static const uint32_t words[] = { 0x7f7fffff, 0xff7fffff, 0x00000001, 0xc2c8c2c8 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct unpu_session *session;
		struct saved_future f;
		struct victim v;

		victim_init(&v, UNPU_KV_F32);
		for (size_t at = KV_AT; at < v.size - 8; at += 4)
			put32(v.data + at, words[i]);
		session_file_seal(v.data, v.size);
		session = saved_other_session(&v.s, UNPU_KV_F32, 6);
		assert_int_equal(saved_load(session, v.data, v.size), 1);
		saved_look_ahead(session, &f);
		assert_true(f.ret[0] == UNPU_REASON_LENGTH || f.ret[0] == -EIO);
		/* and the session is as good as before */
		assert_int_equal(unpu_session_rollback(session, 0), 0);
		saved_prompt(session, &v.s);
		assert_int_equal(unpu_session_generate(session, 2, NULL, NULL),
				 UNPU_REASON_LENGTH);
		unpu_session_destroy(session);
		victim_finish(&v);
	}
}

/* What a file says is text in a message, never a command to the terminal. */
static void names_are_text(void **state)
{
	struct unpu_session *session;
	struct subject s;

	(void)state;
	saved_open_smallest(&s, 3);
	session = saved_other_session(&s, UNPU_KV_F16, 0);
	saved_clear_log();
	assert_int_equal(unpu_session_load(session, "/none/\x1b[2J\n"), -ENOENT);
	assert_non_null(strstr(subject_log, "/none/?[2J?"));
	assert_int_equal(unpu_session_save(session, "/none/\x1b[2J\n", 0), -ENOENT);
	assert_int_equal(subject_errors, 2);
	unpu_session_destroy(session);
	subject_close(&s);
}

static int end_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return *(const int *)arg;
}

/* A load that has to run the tokens can be ended, and leaves what was there. */
static void a_load_can_be_ended(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	struct victim v;
	int end = 0;

	(void)state;
	victim_init(&v, UNPU_KV_F16);
	v.data[v.size - 20] ^= 1;	/* of the cache, which is overwritten by then */
	params.kv = UNPU_KV_F16;
	params.seed = 99;
	params.progress = end_progress;
	params.progress_arg = &end;
	assert_int_equal(unpu_session_create(v.s.model, &params, &session), 0);
	for (uint32_t i = 0; i < 6; i++) {
		const uint32_t id = i * 11 % v.s.vocab;

		assert_int_equal(unpu_session_prompt(session, &id, 1), 0);
	}
	end = 1;
	assert_int_equal(saved_load(session, v.data, v.size), -ECANCELED);
	assert_int_equal(subject_info(session).used, 6);
	unpu_session_cancel(session);
	assert_int_equal(saved_load(session, v.data, v.size), -ECANCELED);
	end = 0;
	saved_assert_future(session, &v.own);
	assert_int_equal(saved_load(session, v.data, v.size), 0);
	saved_assert_future(session, &v.saved);
	end = 1;	/* who listens is not of the file */
	assert_int_equal(saved_load(session, v.data, v.size), -ECANCELED);
	unpu_session_destroy(session);
	victim_finish(&v);
}

/* Whichever call of the device fails: the session that was there goes on. */
static void a_device_may_fail(void **state)
{
	static const int errs[] = { -EIO, -ENOMEM, -ENOSPC };
	struct victim v;

	(void)state;
	subject_needs_cpu();
	victim_init(&v, UNPU_KV_INT8);
	for (int e = 0; e < 3; e++) {
		uint32_t failed = 0;

		for (uint32_t nth = 1;; nth++) {
			struct unpu_session *session = saved_other_session(&v.s, UNPU_KV_INT8, 6);
			int ret;

			faulty_begin(v.s.model);
			faulty_fail(nth, errs[e]);
			ret = saved_load(session, v.data, v.size);
			faulty_end();
			failed += ret < 0;
			assert_true(ret == 1 || ret == -EIO || ret == -ENOMEM);
			saved_assert_future(session, ret == 1 ? &v.saved : &v.own);
			unpu_session_destroy(session);
			if (ret == 1)
				break;
		}
		assert_true(failed >= 6);	/* memory, its map, shader, program, job, wait */
	}
	victim_finish(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_process_goes_on),	/* first: no thread yet */
		cmocka_unit_test(loaded_sessions_go_on),
		cmocka_unit_test(caches_of_any_size_are_saved),
		cmocka_unit_test(other_caches_are_built_again),
		cmocka_unit_test(other_vocabularies_are_refused),
		cmocka_unit_test(a_context_that_is_too_small_says_so),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(harmful_files_are_refused),
		cmocka_unit_test(harmful_caches_are_built_again),
		cmocka_unit_test(nonsense_is_only_nonsense),
		cmocka_unit_test(names_are_text),
		cmocka_unit_test(a_load_can_be_ended),
		cmocka_unit_test(a_device_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
