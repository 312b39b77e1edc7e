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
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/session/file.h"
#include "tests/lib/faulty.h"
#include "tests/lib/session_file.h"
#include "tests/lib/subject.h"

#define NUM_IDS		21
#define GENERATED	12
#define MAX_VOCAB	512

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const enum unpu_kv kvs[] = { UNPU_KV_F16, UNPU_KV_F32, UNPU_KV_INT8 };

static void clear_log(void)
{
	subject_errors = subject_warnings = 0;
	subject_log[0] = subject_warning[0] = 0;
}

/* ---- models and sessions ------------------------------------------------------------------- */

/* One layer, one head: a session of few bytes. */
static void open_smallest(struct subject *s, uint64_t seed)
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

static struct unpu_session_params rich_params(enum unpu_kv kv)
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

static struct unpu_session *rich_session(const struct subject *s, enum unpu_kv kv)
{
	const struct unpu_session_params params = rich_params(kv);

	return subject_session(s, &params);
}

/* With settings of its own and, if asked, tokens, all of which a load replaces. */
static struct unpu_session *other_session(const struct subject *s, enum unpu_kv kv,
					  uint32_t tokens)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[NUM_IDS];
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

static void prompt(struct unpu_session *session, const struct subject *s)
{
	uint32_t ids[NUM_IDS];

	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
}

/* How a session goes on: ids drawn, then the logits after two tokens more. */
struct future {
	int ret[3];
	uint32_t used, ids[64];
	float logits[2 * MAX_VOCAB];
};

static void look_ahead(struct unpu_session *session, struct future *f)
{
	const uint32_t ids[] = { 7, 8 };

	memset(f, 0, sizeof(*f));
	f->ret[0] = unpu_session_generate(session, GENERATED, NULL, NULL);
	f->used = (uint32_t)unpu_session_tokens(session, 0, NULL, 0);
	unpu_session_tokens(session, f->used < 64 ? 0 : f->used - 64, f->ids, 64);
	f->ret[1] = unpu_session_logits(session, ids, 2, f->logits);
	f->ret[2] = unpu_session_generate(session, 3, NULL, NULL);
}

static void assert_same_future(struct unpu_session *session, const struct future *want)
{
	struct future *got = malloc(sizeof(*got));

	assert_non_null(got);
	look_ahead(session, got);
	assert_memory_equal(got, want, sizeof(*got));
	free(got);
}

/* ---- files in memory ----------------------------------------------------------------------- */

static int memory_file(const void *data, size_t size)
{
	int fd = memfd_create("session", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static uint8_t *saved(struct unpu_session *session, uint32_t flags, size_t *size)
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

static int load_bytes(struct unpu_session *session, const void *data, size_t size)
{
	int fd = memory_file(data, size), ret = unpu_session_load_fd(session, fd);

	close(fd);
	return ret;
}

/* ---- files in a folder ---------------------------------------------------------------------- */

static char place[256];

static const char *in_place(const char *name)
{
	static char path[2][300];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", place, name);
	return path[turn];
}

static void make_place(void)
{
	snprintf(place, sizeof(place), "/tmp/unpu-session-file-XXXXXX");
	assert_non_null(mkdtemp(place));
}

/* Removes the named files, then the folder: it has no others. */
static void remove_place(const char *const *names)
{
	for (; *names; names++)
		unlink(in_place(*names));
	assert_int_equal(rmdir(place), 0);
}

static void put_text(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "precious", 8), 8);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_precious(const char *path)
{
	char text[16];
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_memory_equal(text, "precious", 8);
	close(fd);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode;
}

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
	float logits[2 * MAX_VOCAB];

	if (moment == EMPTY)
		return;
	prompt(session, s);
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
		assert_int_equal(unpu_session_rollback(session, NUM_IDS + 2), 0);
		break;
	default:
		break;
	}
}

static void check_moment(const struct subject *s, const struct subject *other_threads,
			 enum unpu_kv kv, enum moment moment)
{
	struct unpu_session *plain = rich_session(s, kv), *source = rich_session(s, kv);
	struct unpu_session *with_kv = other_session(other_threads, kv, 9);
	struct unpu_session *without = other_session(other_threads, kv, 4);
	struct future want;
	uint8_t *large, *small, *again;
	size_t large_size, small_size, again_size;

	reach(plain, s, moment);
	look_ahead(plain, &want);
	reach(source, s, moment);
	large = saved(source, UNPU_SAVE_KV, &large_size);
	small = saved(source, 0, &small_size);
	assert_true(small_size < large_size);
	clear_log();
	assert_int_equal(load_bytes(with_kv, large, large_size), 1);
	assert_int_equal(load_bytes(without, small, small_size), 0);
	assert_int_equal(subject_errors + subject_warnings, 0);
	/* Nothing is lost, nor depends on where the session has been. */
	again = saved(with_kv, UNPU_SAVE_KV, &again_size);
	assert_int_equal(again_size, large_size);
	assert_memory_equal(again, large, large_size);
	free(again);
	again = saved(without, 0, &again_size);
	assert_int_equal(again_size, small_size);
	assert_memory_equal(again, small, small_size);
	free(again);
	assert_same_future(source, &want);	/* saving changed nothing */
	assert_same_future(with_kv, &want);
	assert_same_future(without, &want);
	free(large);
	free(small);
	unpu_session_destroy(plain);
	unpu_session_destroy(source);
	unpu_session_destroy(with_kv);
	unpu_session_destroy(without);
}

/* Emulated, a third of them does. */
static bool thin(unsigned int n)
{
	return getenv("UNPU_EMULATED") && n % 3;
}

static void loaded_sessions_go_on(void **state)
{
	static const struct {
		uint32_t type, flags;
	} weights[] = {
		{ UNPU_TYPE_F32, 0 }, { UNPU_TYPE_Q8_0, 0 },
		{ UNPU_TYPE_Q8_0, UNPU_MODEL_CLASS_F32 }, { UNPU_TYPE_Q4_0, 0 },
	};
	unsigned int n = 0;

	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t w = 0; w < 4; w++) {
			struct subject s, other;

			subject_open(&s, archs[a], weights[w].type, 2, weights[w].flags);
			subject_open(&other, archs[a], weights[w].type, 3, weights[w].flags);
			for (size_t k = 0; k < 3; k++)
				for (int m = 0; m < MOMENTS; m++)
					if (!thin(n++))
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
		  .tied = 1, .context = 2048 },
	};
	static const uint32_t tokens[] = { 100, 1500 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint32_t *ids = calloc(tokens[i], sizeof(*ids));
		struct unpu_session *source, *loaded;
		struct subject s;
		struct future *want = malloc(sizeof(*want));
		uint8_t *data;
		size_t size;

		assert_true(ids && want);
		subject_open_tiny(&s, &shapes[i], 2, 0);
		source = rich_session(&s, UNPU_KV_F32);
		loaded = other_session(&s, UNPU_KV_F32, 3);
		for (uint32_t t = 0; t < tokens[i]; t++)
			ids[t] = t * 7 % s.vocab;
		assert_int_equal(unpu_session_prompt(source, ids, tokens[i]), 0);
		data = saved(source, UNPU_SAVE_KV, &size);
		assert_int_equal(load_bytes(loaded, data, size), 1);
		look_ahead(source, want);
		assert_same_future(loaded, want);
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

/* A child says by its exit status where it failed. */
#define MUST(__condition) \
	do { \
		if (!(__condition)) \
			_exit(__LINE__ % 200 + 1); \
	} while (0)

/* 100 tokens, saved; then what comes after them. */
static void child_saves(const char *path, int result)
{
	const struct tiny_params tiny = RESTORED_MODEL;
	const struct unpu_session_params params = rich_params(UNPU_KV_F16);
	const uint32_t ids[] = { 1, 2, 3, 4 };
	struct unpu_session *session;
	struct subject s;
	struct future f;

	subject_open_tiny(&s, &tiny, 2, 0);
	MUST(!unpu_session_create(s.model, &params, &session));
	MUST(!unpu_session_prompt(session, ids, 4));
	MUST(unpu_session_generate(session, 96, NULL, NULL) == UNPU_REASON_LENGTH);
	MUST(!unpu_session_save(session, path, UNPU_SAVE_KV));
	look_ahead(session, &f);
	MUST(write(result, &f, sizeof(f)) == sizeof(f));
	_exit(0);
}

static void child_loads(const char *path, uint32_t threads, int result)
{
	const struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	const struct tiny_params tiny = RESTORED_MODEL;
	struct unpu_session *session;
	struct subject s;
	struct future f;

	subject_open_tiny(&s, &tiny, threads, 0);
	MUST(!unpu_session_create(s.model, &params, &session));
	MUST(unpu_session_load(session, path) == 1);
	MUST(unpu_session_tokens(session, 0, NULL, 0) == 100);
	look_ahead(session, &f);
	MUST(write(result, &f, sizeof(f)) == sizeof(f));
	_exit(0);
}

/* threads 0: the one that saves. */
static void run_child(const char *path, uint32_t threads, struct future *f)
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
	struct future want, got;
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
	struct unpu_session *source = rich_session(from, from_kv);
	struct unpu_session *fresh = rich_session(to, to_kv), *loaded = other_session(to, to_kv, 5);
	struct future want;
	uint8_t *data;
	size_t size;

	prompt(source, from);
	prompt(fresh, from);
	look_ahead(fresh, &want);
	data = saved(source, UNPU_SAVE_KV, &size);
	clear_log();
	assert_int_equal(load_bytes(loaded, data, size), 0);
	assert_int_equal(subject_errors, 0);
	assert_int_equal(subject_warnings, 1);
	assert_non_null(strstr(subject_warning, why));
	assert_non_null(strstr(subject_warning, "file descriptor"));
	assert_same_future(loaded, &want);
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
	open_smallest(&s, 3);
	subject_open_tiny(&larger, &tiny, 1, 0);
	source = rich_session(&larger, UNPU_KV_F16);
	loaded = other_session(&s, UNPU_KV_F16, 2);
	assert_int_equal(unpu_session_prompt(source, &id, 1), 0);
	data = saved(source, UNPU_SAVE_KV, &size);
	clear_log();
	assert_int_equal(load_bytes(loaded, data, size), -EINVAL);
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
	source = rich_session(&s, UNPU_KV_F16);
	prompt(source, &s);
	data = saved(source, UNPU_SAVE_KV, &size);
	params.context = NUM_IDS - 1;
	assert_int_equal(unpu_session_create(s.model, &params, &small), 0);
	clear_log();
	assert_int_equal(load_bytes(small, data, size), -ENOSPC);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "context"));
	unpu_session_destroy(small);
	params.context = NUM_IDS;
	assert_int_equal(unpu_session_create(s.model, &params, &small), 0);
	assert_int_equal(load_bytes(small, data, size), 1);
	assert_int_equal(unpu_session_generate(small, 1, NULL, NULL), UNPU_REASON_CONTEXT);
	unpu_session_destroy(small);
	unpu_session_destroy(source);
	free(data);
	subject_close(&s);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* Of a victim's file: three biases, and stop strings of 30 bytes with their lengths. */
enum {
	TOKENS_AT = 136, BIAS_AT = TOKENS_AT + 4 * (NUM_IDS + 2), STOP_AT = BIAS_AT + 24,
	KV_AT = STOP_AT + 30 + 8,
};

/* A small session, its file, what it says next, and what another one of the model says. */
struct victim {
	struct subject s;
	uint8_t *data;
	size_t size;
	struct future saved, own;
};

static void victim_init(struct victim *v, enum unpu_kv kv)
{
	struct unpu_session *session;

	open_smallest(&v->s, 3);
	session = rich_session(&v->s, kv);
	prompt(session, &v->s);
	assert_int_equal(unpu_session_generate(session, 2, NULL, NULL), UNPU_REASON_LENGTH);
	v->data = saved(session, UNPU_SAVE_KV, &v->size);
	look_ahead(session, &v->saved);
	unpu_session_destroy(session);
	session = other_session(&v->s, kv, 6);
	look_ahead(session, &v->own);
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
	struct unpu_session *session = other_session(&v->s, kv, 6);
	int ret, parsed;

	clear_log();
	ret = load_bytes(session, data, size);
	parsed = unpu_session_file_parse(data, size, NULL);
	if (ret < 0) {
		assert_int_equal(ret, -EINVAL);
		assert_int_equal(parsed, -EINVAL);
		assert_int_equal(subject_errors, 1);
		assert_same_future(session, &v->own);
	} else {
		assert_int_equal(ret, parsed);
		assert_int_equal(subject_errors, 0);
		assert_int_equal(subject_warnings, !ret);
		assert_same_future(session, &v->saved);
	}
	unpu_session_destroy(session);
	return ret;
}

static void check_each_byte(enum unpu_kv kv)
{
	struct victim v;
	uint8_t *data;
	size_t before = 0, within = 0;

	victim_init(&v, kv);
	data = malloc(v.size);
	assert_non_null(data);
	assert_true(KV_AT < v.size);
	assert_int_equal(check_damaged(&v, kv, v.data, v.size), 1);
	for (size_t i = 0; i < v.size; i++) {
		int ret;

		memcpy(data, v.data, v.size);
		data[i] ^= (uint8_t)(1u << i % 8);
		ret = check_damaged(&v, kv, data, v.size);
		assert_int_equal(ret, i < KV_AT ? -EINVAL : 0);
		before += ret < 0;
		within += ret == 0;
	}
	assert_int_equal(before + within, v.size);
	free(data);
	for (size_t n = 0; n < v.size; n++) {
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
		if (!thin((unsigned int)k))
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
	{ 116, NUM_IDS + 3, -EINVAL, "KV cache" },	/* positions */
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
		struct unpu_session *session = other_session(&v.s, UNPU_KV_F16, 6);
		int ret;

		memcpy(data, v.data, v.size);
		put32(data + harms[i].at, harms[i].value);
		session_file_seal(data, v.size);
		clear_log();
		ret = load_bytes(session, data, v.size);
		if (ret != harms[i].ret || !strstr(subject_log, harms[i].word))
			print_error("harm %zu: %d, \"%s\"\n", i, ret, subject_log);
		assert_int_equal(ret, harms[i].ret);
		assert_non_null(strstr(subject_log, harms[i].word));
		assert_int_equal(strncmp(subject_log, "file descriptor", 15), 0);
		assert_int_equal(subject_errors, 1);
		assert_int_equal(subject_warnings, 0);
		assert_same_future(session, &v.own);
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
		session = other_session(&v.s, cases[i].kv, 6);
		clear_log();
		assert_int_equal(load_bytes(session, v.data, v.size), 0);
		assert_int_equal(subject_errors, 0);
		assert_int_equal(subject_warnings, 1);
		assert_non_null(strstr(subject_warning, cases[i].word));
		assert_same_future(session, &v.saved);
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
		struct future f;
		struct victim v;

		victim_init(&v, UNPU_KV_F32);
		for (size_t at = KV_AT; at < v.size - 8; at += 4)
			put32(v.data + at, words[i]);
		session_file_seal(v.data, v.size);
		session = other_session(&v.s, UNPU_KV_F32, 6);
		assert_int_equal(load_bytes(session, v.data, v.size), 1);
		look_ahead(session, &f);
		assert_true(f.ret[0] == UNPU_REASON_LENGTH || f.ret[0] == -EIO);
		/* and the session is as good as before */
		assert_int_equal(unpu_session_rollback(session, 0), 0);
		prompt(session, &v.s);
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
	open_smallest(&s, 3);
	session = other_session(&s, UNPU_KV_F16, 0);
	clear_log();
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
	assert_int_equal(load_bytes(session, v.data, v.size), -ECANCELED);
	assert_int_equal(subject_info(session).used, 6);
	unpu_session_cancel(session);
	assert_int_equal(load_bytes(session, v.data, v.size), -ECANCELED);
	end = 0;
	assert_same_future(session, &v.own);
	assert_int_equal(load_bytes(session, v.data, v.size), 0);
	assert_same_future(session, &v.saved);
	unpu_session_destroy(session);
	victim_finish(&v);
}

/* Whichever call of the device fails: the session that was there goes on. */
static void a_device_may_fail(void **state)
{
	static const int errs[] = { -EIO, -ENOMEM, -ENOSPC };
	struct victim v;

	(void)state;
	victim_init(&v, UNPU_KV_INT8);
	for (int e = 0; e < 3; e++) {
		uint32_t failed = 0;

		for (uint32_t nth = 1;; nth++) {
			struct unpu_session *session = other_session(&v.s, UNPU_KV_INT8, 6);
			int ret;

			faulty_begin(v.s.model);
			faulty_fail(nth, errs[e]);
			ret = load_bytes(session, v.data, v.size);
			faulty_end();
			failed += ret < 0;
			assert_true(ret == 1 || ret == -EIO || ret == -ENOMEM);
			assert_same_future(session, ret == 1 ? &v.saved : &v.own);
			unpu_session_destroy(session);
			if (ret == 1)
				break;
		}
		assert_true(failed >= 6);	/* memory, its map, shader, program, job, wait */
	}
	victim_finish(&v);
}

static void a_device_may_fail_while_saving(void **state)
{
	static const char *const names[] = { "file", NULL };
	struct victim v;
	struct unpu_session *session;
	int ret = -1;

	(void)state;
	make_place();
	victim_init(&v, UNPU_KV_F16);
	session = other_session(&v.s, UNPU_KV_F16, 6);
	put_text(in_place("file"), 0600);
	for (uint32_t nth = 1; ret; nth++) {
		faulty_begin(v.s.model);
		faulty_fail(nth, -ENOSPC);
		ret = unpu_session_save(session, in_place("file"), UNPU_SAVE_KV);
		faulty_end();
		assert_true(ret == -ENOMEM || ret == -EIO || (!ret && nth > 6));
		if (ret)
			assert_precious(in_place("file"));
	}
	assert_same_future(session, &v.own);
	unpu_session_destroy(session);
	victim_finish(&v);
	remove_place(names);
}

/* ---- pipes ---------------------------------------------------------------------------------- */

struct pipe_end {
	int fd;
	uint8_t *data;
	size_t size, step;	/* bytes at once */
};

static void *fill_pipe(void *arg)
{
	struct pipe_end *p = arg;

	for (size_t at = 0; at < p->size;) {
		size_t n = p->size - at < p->step ? p->size - at : p->step;
		ssize_t done = write(p->fd, p->data + at, n);

		if (done < 0)
			break;
		at += (size_t)done;
	}
	close(p->fd);
	return NULL;
}

static void *drain_pipe(void *arg)
{
	struct pipe_end *p = arg;
	size_t at = 0;

	for (;;) {
		size_t n = p->size - at < p->step ? p->size - at : p->step;
		ssize_t done = n ? read(p->fd, p->data + at, n) : 0;

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			break;
		at += (size_t)done;
	}
	p->size = at;
	return NULL;
}

static void nothing(int signal)
{
	(void)signal;
}

/* The calls of this thread are interrupted all the time. */
static void interrupt(bool on)
{
	const struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = nothing };

	sigaction(SIGALRM, &action, NULL);
	assert_int_equal(setitimer(ITIMER_REAL, on ? &often : &never, NULL), 0);
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	sigset_t alarm, old;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, &old);
	assert_int_equal(pthread_create(thread, NULL, run, arg), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void check_pipes(struct unpu_session *source, struct unpu_session *loaded, int flags)
{
	struct pipe_end reader = { 0 }, writer = { 0 };
	size_t size;
	uint8_t *want = saved(source, UNPU_SAVE_KV, &size), rest[3];
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 4096);
	fcntl(fds[1], F_SETFL, flags);
	reader = (struct pipe_end){ fds[0], malloc(size + 1), size + 1, 100 };
	start_thread(&thread, drain_pipe, &reader);
	interrupt(true);
	assert_int_equal(unpu_session_save_fd(source, fds[1], UNPU_SAVE_KV), 0);
	interrupt(false);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(reader.size, size);
	assert_memory_equal(reader.data, want, size);
	free(reader.data);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[0], F_SETFL, flags);
	want = realloc(want, size + 3);
	memcpy(want + size, "abc", 3);
	writer = (struct pipe_end){ fds[1], want, size + 3, 41 };
	start_thread(&thread, fill_pipe, &writer);
	interrupt(true);
	assert_int_equal(unpu_session_load_fd(loaded, fds[0]), 1);
	interrupt(false);
	pthread_join(thread, NULL);
	assert_int_equal(read(fds[0], rest, 3), 3);	/* what follows is still there */
	assert_memory_equal(rest, "abc", 3);
	close(fds[0]);
	free(want);
}

static void pipes_are_files(void **state)
{
	struct unpu_session *source, *loaded;
	struct future want;
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_F32, 1, 0);
	source = rich_session(&s, UNPU_KV_F32);
	loaded = other_session(&s, UNPU_KV_F32, 4);
	prompt(source, &s);
	check_pipes(source, loaded, 0);
	assert_int_equal(unpu_session_rollback(loaded, 0), 0);
	check_pipes(source, loaded, O_NONBLOCK);
	look_ahead(source, &want);
	assert_same_future(loaded, &want);
	unpu_session_destroy(source);
	unpu_session_destroy(loaded);
	subject_close(&s);
}

static void write_errors_are_said(void **state)
{
	struct unpu_session *source;
	struct subject s;
	int fds[2], fd;

	(void)state;
	open_smallest(&s, 3);
	source = rich_session(&s, UNPU_KV_F16);
	prompt(source, &s);
	fd = open("/dev/full", O_WRONLY);
	assert_true(fd >= 0);
	clear_log();
	assert_int_equal(unpu_session_save_fd(source, fd, UNPU_SAVE_KV), -ENOSPC);
	close(fd);
	assert_int_equal(unpu_session_save(source, "/dev/full", 0), -ENOSPC);
	assert_non_null(strstr(subject_log, "/dev/full"));
	assert_int_equal(unpu_session_save_fd(source, -1, 0), -EBADF);
	assert_int_equal(unpu_session_load_fd(source, -1), -EBADF);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(unpu_session_save_fd(source, fds[1], 0), -EPIPE);
	close(fds[1]);
	signal(SIGPIPE, SIG_DFL);
	assert_int_equal(unpu_session_save(source, "/dev/null", 8), -EINVAL);
	assert_int_equal(subject_errors, 6);
	assert_int_equal(unpu_session_save(source, "/dev/null", UNPU_SAVE_KV), 0);
	assert_int_equal(unpu_session_load(source, "/dev/null"), -EINVAL);
	assert_int_equal(unpu_session_load(source, "/dev/zero"), -EINVAL);
	assert_int_equal(unpu_session_load(source, "/tmp"), -EISDIR);
	assert_int_equal(subject_errors, 9);
	assert_int_equal(subject_info(source).used, NUM_IDS);
	unpu_session_destroy(source);
	subject_close(&s);
}

/* ---- places --------------------------------------------------------------------------------- */

static void files_are_whole_or_not_there(void **state)
{
	static const char *const names[] = { "new", "old", "link", "nowhere", "fifo", NULL };
	struct unpu_session *source, *loaded;
	struct subject s;
	mode_t mask = umask(027);

	(void)state;
	make_place();
	open_smallest(&s, 3);
	source = rich_session(&s, UNPU_KV_F16);
	loaded = other_session(&s, UNPU_KV_F16, 0);
	prompt(source, &s);
	assert_int_equal(unpu_session_save(source, in_place("new"), UNPU_SAVE_KV), 0);
	assert_int_equal(mode_of(in_place("new")), S_IFREG | 0640);
	assert_int_equal(unpu_session_load(loaded, in_place("new")), 1);
	/* what it replaces keeps its permissions, and its name when that is a link's target */
	put_text(in_place("old"), 0600);
	assert_int_equal(symlink("old", in_place("link")), 0);
	assert_int_equal(unpu_session_save(source, in_place("link"), 0), 0);
	assert_true(S_ISLNK(mode_of(in_place("link"))));
	assert_int_equal(mode_of(in_place("old")), S_IFREG | 0600);
	assert_int_equal(unpu_session_load(loaded, in_place("old")), 0);
	clear_log();
	assert_int_equal(symlink("missing/file", in_place("nowhere")), 0);
	assert_int_equal(unpu_session_save(source, in_place("nowhere"), 0), -ENOENT);
	assert_int_equal(unpu_session_save(source, in_place("missing/file"), 0), -ENOENT);
	assert_int_equal(unpu_session_save(source, place, 0), -EISDIR);
	assert_int_equal(unpu_session_save(source, "", 0), -ENOENT);
	assert_int_equal(mkfifo(in_place("fifo"), 0600), 0);
	assert_int_equal(unpu_session_save(source, in_place("fifo"), 0), -ENXIO);
	assert_int_equal(subject_errors, 5);
	assert_int_equal(unpu_session_load(loaded, in_place("missing")), -ENOENT);
	umask(mask);
	unpu_session_destroy(source);
	unpu_session_destroy(loaded);
	subject_close(&s);
	remove_place(names);
}

/* The limit lets the first bytes through: the file that was there stays, no other is left. */
static void a_file_that_stays_is_whole(void **state)
{
	static const char *const names[] = { "old", NULL };
	const struct rlimit little = { 300, RLIM_INFINITY };
	struct unpu_session *source;
	struct rlimit all;
	struct subject s;

	(void)state;
	make_place();
	open_smallest(&s, 3);
	source = rich_session(&s, UNPU_KV_F16);
	prompt(source, &s);
	put_text(in_place("old"), 0644);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	clear_log();
	assert_int_equal(unpu_session_save(source, in_place("old"), UNPU_SAVE_KV), -EFBIG);
	assert_int_equal(unpu_session_save(source, in_place("new"), UNPU_SAVE_KV), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(subject_errors, 2);
	assert_precious(in_place("old"));
	assert_int_equal(unpu_session_save(source, in_place("old"), UNPU_SAVE_KV), 0);
	unpu_session_destroy(source);
	subject_close(&s);
	remove_place(names);
}

/* In a process of its own, whose mounts nobody else sees. */
static void child_fills_disk(void)
{
	const struct tiny_params tiny = RESTORED_MODEL;
	const struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[400] = { 0 };
	struct unpu_session *session;
	struct subject s;
	struct stat st;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", place, "tmpfs", 0, "size=32k"))
		_exit(77);
	subject_open_tiny(&s, &tiny, 1, 0);
	MUST(!unpu_session_create(s.model, &params, &session));
	MUST(!unpu_session_prompt(session, ids, 400));
	MUST(!unpu_session_save(session, in_place("file"), 0));
	MUST(!stat(in_place("file"), &st) && st.st_size < 16384);
	MUST(unpu_session_save(session, in_place("file"), UNPU_SAVE_KV) == -ENOSPC);
	MUST(strstr(subject_log, "/file: No space left"));
	MUST(!unlink(in_place("file")));
	MUST(unpu_session_save(session, in_place("file"), UNPU_SAVE_KV) == -ENOSPC);
	MUST(stat(in_place("file"), &st) && errno == ENOENT);
	MUST(!unpu_session_save(session, in_place("file"), 0));	/* nothing takes up the room */
	_exit(0);
}

static void a_full_disk_is_named(void **state)
{
	static const char *const none[] = { NULL };
	int status;
	pid_t child;

	(void)state;
	make_place();
	child = fork();
	assert_true(child >= 0);
	if (!child)
		child_fills_disk();
	assert_int_equal(waitpid(child, &status, 0), child);
	remove_place(none);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no right to mount a small disk\n");
		skip();
	}
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_process_goes_on),	/* first: no thread yet */
		cmocka_unit_test(a_full_disk_is_named),
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
		cmocka_unit_test(a_device_may_fail_while_saving),
		cmocka_unit_test(pipes_are_files),
		cmocka_unit_test(write_errors_are_said),
		cmocka_unit_test(files_are_whole_or_not_there),
		cmocka_unit_test(a_file_that_stays_is_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
