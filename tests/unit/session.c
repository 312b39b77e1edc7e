/* SPDX-License-Identifier: MIT */
/* Models and sessions through the public API: their numbers, what is refused, where files lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/model/arch.h"
#include "tests/lib/edit.h"
#include "tests/lib/oracle.h"
#include "tests/lib/subject.h"

#define NUM_IDS	21

#if defined(__has_feature)
#define FEATURE(x)	__has_feature(x)
#else
#define FEATURE(x)	0
#endif

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const struct {
	uint32_t type;
	const char *name;
	double bound;	/* x max |logit|, class the device's own, f32 KV; design.md §8 */
} types[] = {
	{ UNPU_TYPE_F32, "F32", 2e-4 }, { UNPU_TYPE_F16, "F16", 2e-4 },
	{ UNPU_TYPE_BF16, "BF16", 2e-4 }, { UNPU_TYPE_Q8_0, "Q8_0", 5e-2 },
	{ UNPU_TYPE_Q4_0, "Q4_0", 5e-2 },
};

static struct unpu_session *new_session(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	struct unpu_session_params params = subject_params();

	params.kv = kv;
	params.batch = batch;
	return subject_session(s, &params);
}

static float *logits_of(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	uint32_t vocab = s->vocab, ids[NUM_IDS];
	float *logits = malloc(sizeof(float) * NUM_IDS * vocab);
	struct unpu_session *session = new_session(s, kv, batch);

	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	return logits;
}

/* The reference's logits of the same ids. */
static double *reference(const struct subject *s)
{
	uint32_t vocab = s->vocab, ids[NUM_IDS];
	double *logits = malloc(sizeof(double) * NUM_IDS * vocab);
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;

	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_gguf_create(s->file, s->size, NULL, &gguf), 0);
	assert_int_equal(unpu_arch_create(gguf, NULL, &arch), 0);
	assert_int_equal(oracle_logits(arch, ids, NUM_IDS, logits), 0);
	unpu_arch_destroy(arch);
	unpu_gguf_destroy(gguf);
	return logits;
}

/* Largest difference, as a share of the largest logit. */
static double distance(const float *got, const double *want, size_t n)
{
	double diff = 0, max = 0;

	for (size_t i = 0; i < n; i++) {
		max = fmax(max, fabs(want[i]));
		if (!(fabs(got[i] - want[i]) <= diff))
			diff = fabs(got[i] - want[i]);
	}
	return diff / max;
}

static void check_model(const char *arch, size_t t, uint32_t flags, enum unpu_kv kv, double bound)
{
	struct subject s;
	double *want, far;
	float *got;

	subject_open(&s, arch, types[t].type, 2, flags);
	want = reference(&s);
	got = logits_of(&s, kv, 0);
	far = distance(got, want, (size_t)NUM_IDS * s.vocab);
	if (!(far <= bound))
		print_error("%s %s flags %u kv %d: %g, bound %g\n", arch, types[t].name, flags, kv,
			    far, bound);
	assert_true(far <= bound);
	free(got);
	free(want);
	subject_close(&s);
}

static void logits_match_the_reference(void **state)
{
	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 5; t++) {
			double f16_kv = fmax(types[t].bound, 5e-3);

			check_model(archs[a], t, 0, UNPU_KV_F32, types[t].bound);
			check_model(archs[a], t, 0, UNPU_KV_F16, f16_kv);
			check_model(archs[a], t, UNPU_MODEL_CLASS_F32, UNPU_KV_F32, 2e-4);
		}
}

static void check_purity(const char *arch, uint32_t type, enum unpu_kv kv)
{
	static const uint32_t batches[] = { 1, 3, 7, 32 }, threads[] = { 1, 2, 3, 7 };
	int step = getenv("UNPU_EMULATED") ? 2 : 1;
	float *first = NULL;

	for (int i = 0; i < 4; i += step) {
		struct subject s;
		size_t bytes;

		subject_open(&s, arch, type, threads[i], 0);
		bytes = sizeof(float) * NUM_IDS * s.vocab;
		for (int b = 0; b < 4; b++) {
			float *got = logits_of(&s, kv, batches[b]);

			if (!first)
				first = got;
			assert_memory_equal(first, got, bytes);
			if (first != got)
				free(got);
		}
		subject_close(&s);
	}
	free(first);
}

/* Emulated, every fma is a call on some machines: a third of the models do. */
static bool thin(size_t a, size_t t)
{
	return getenv("UNPU_EMULATED") && (a + 2 * t) % 3;
}

static void rows_are_pure(void **state)
{
	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 5; t++) {
			if (thin(a, t))
				continue;
			check_purity(archs[a], types[t].type, UNPU_KV_F16);
			check_purity(archs[a], types[t].type, UNPU_KV_F32);
		}
}

static void bad_settings_are_named(void **state)
{
	static const struct {
		const char *word;
		struct unpu_session_params params;
	} cases[] = {
		{ "temperature", { .temperature = -1, .top_p = 1, .repeat_penalty = 1 } },
		{ "temperature", { .temperature = NAN, .top_p = 1, .repeat_penalty = 1 } },
		{ "top-p", { .top_p = 0, .repeat_penalty = 1 } },
		{ "top-p", { .top_p = 1.5f, .repeat_penalty = 1 } },
		{ "min-p", { .top_p = 1, .min_p = -0.5f, .repeat_penalty = 1 } },
		{ "repeat", { .top_p = 1, .repeat_penalty = 0 } },
		{ "flags", { .top_p = 1, .repeat_penalty = 1, .flags = 2 } },
		{ "KV", { .top_p = 1, .repeat_penalty = 1, .kv = UNPU_KV_INT8 + 1 } },
		{ "size", { .size = 8 } },
	};
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct unpu_session_params params = cases[i].params;
		struct unpu_session *session = NULL;

		params.size = params.size ? params.size : sizeof(params);
		subject_errors = 0;
		assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
		assert_null(session);
		assert_int_equal(subject_errors, 1);
		assert_non_null(strstr(subject_log, cases[i].word));
	}
	subject_close(&s);
}

static void bad_tokens_are_refused(void **state)
{
	struct unpu_session *session;
	uint32_t ids[2] = { 1, 0 };
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_F16, 1, 0);
	session = new_session(&s, UNPU_KV_F16, 0);
	ids[1] = s.vocab;
	subject_errors = 0;
	assert_int_equal(unpu_session_prompt(session, ids, 2), -EINVAL);
	assert_int_equal(subject_errors, 1);
	ids[1] = UINT32_MAX;
	assert_int_equal(unpu_session_prompt(session, ids, 2), -EINVAL);
	unpu_session_destroy(session);
	subject_close(&s);
}

/* The memory for logits is asked for at the first call: without it nothing has happened. */
static void logits_want_memory(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	FEATURE(address_sanitizer) || FEATURE(thread_sanitizer)
	(void)state;
	print_message("a sanitizer itself ends without memory\n");
	skip();
#else
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
	struct rlimit all, none;
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	uint64_t work_bytes;
	struct subject s;
	float *logits;
	void *page;
	int ret;

	(void)state;
	subject_needs_cpu();
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, NUM_IDS);
	session = new_session(&s, UNPU_KV_F16, 0);
	logits = calloc(NUM_IDS * (size_t)s.vocab, sizeof(*logits));
	assert_int_equal(unpu_session_info(session, &info), 0);
	work_bytes = info.work_bytes;
	assert_int_equal(getrlimit(RLIMIT_AS, &all), 0);
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = all.rlim_max };
	subject_errors = 0;
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ret = unpu_session_logits(session, ids, NUM_IDS, logits);
	assert_int_equal(setrlimit(RLIMIT_AS, &all), 0);
	if (page != MAP_FAILED) {
		munmap(page, 4096);
		unpu_session_destroy(session);
		free(logits);
		subject_close(&s);
		print_message("under qemu RLIMIT_AS does not limit the program\n");
		skip();
	}
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(subject_errors, 1);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 0);
	assert_int_equal(info.work_bytes, work_bytes);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	free(logits);
	subject_close(&s);
#endif
}

static void vocab_only_has_no_sessions(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	struct subject s;
	uint32_t ids[16];

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, UNPU_MODEL_VOCAB_ONLY);
	assert_true(unpu_tokenize(s.model, "abc", 3, 0, ids, 16) > 0);
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	subject_close(&s);
}

/* Looking at a file needs neither a device nor an architecture that runs. */
static void any_file_can_be_looked_at(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model_info info = { .size = sizeof(info) };
	struct unpu_tensor_info tensor = UNPU_TENSOR_INFO_INIT;
	struct subject s;
	struct edit edit;
	uint8_t *arch;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	unpu_model_destroy(s.model);
	params.flags = UNPU_MODEL_INFO_ONLY;
	params.log = subject_log_line;
	subject_errors = 0;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_int_equal(info.weight_bytes, 0);
	assert_string_equal(info.device, "none");
	assert_true(info.layers > 0 && info.context > 0 && info.vocab > 0);
	assert_string_equal(info.weight_type, "Q8_0");
	/* a type of other runtimes, smaller */
	edit = (struct edit){ s.file, s.size };
	for (uint32_t i = 0; !unpu_model_tensor(s.model, i, &tensor); i++)
		if (!strcmp(tensor.type, "Q8_0"))
			edit_type(&edit, tensor.name, 20);
	unpu_model_destroy(s.model);
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_string_equal(info.weight_type, "IQ4_NL");
	unpu_model_destroy(s.model);

	/* the value of general.architecture follows its key, type and length */
	arch = memmem(s.file, s.size, "general.architecture", 20);
	assert_non_null(arch);
	memcpy(arch + 20 + 4 + 8, "lambd", 5);
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_int_equal(info.layers, 0);
	assert_string_equal(info.architecture, "lambd");
	assert_int_equal(unpu_model_tensor(s.model, 0, &tensor), 0);
	assert_int_equal(subject_errors, 0);
	unpu_model_destroy(s.model);
	/* a key of the wrong type is in the way as well, and no error */
	edit_key_u32(&edit, "tokenizer.ggml.model", 1);
	s.file = edit.data;
	s.size = edit.size;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(subject_errors, 0);
	subject_close(&s);
}

/* An offset inside a file, not a multiple of a page or of the file's alignment. */
static void files_may_lie_in_files(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	char path[] = "/tmp/unpu-session-XXXXXX";
	struct subject s, in_file = { 0 };
	float *want, *got;
	int fd;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, s.file, s.size, 4096 + 13), (ssize_t)s.size);
	in_file.vocab = s.vocab;
	assert_int_equal(unpu_model_load_fd(fd, 4096 + 13, s.size, &params, &in_file.model), 0);
	close(fd);
	want = logits_of(&s, UNPU_KV_F16, 0);
	got = logits_of(&in_file, UNPU_KV_F16, 0);
	assert_memory_equal(want, got, sizeof(float) * NUM_IDS * s.vocab);
	free(want);
	free(got);
	subject_close(&s);
	unpu_model_destroy(in_file.model);
}

/* A name that comes from elsewhere neither commands a terminal nor begins a line. */
static void messages_are_text(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;

	(void)state;
	params.log = subject_log_line;
	assert_int_equal(unpu_model_load("/none/a\x1b[2J\nb\xc2\x9b" "2J\xc3\x9b\x7f", &params,
					 &model), -ENOENT);
	assert_ptr_equal(strstr(subject_log, "/none/a?[2J?b??2J\xc3\x9b?: "), subject_log);
}

/* 3 GiB of nothing: more than 32 bits map, and no model anywhere. */
static void large_files_are_named(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	char path[] = "/tmp/unpu-session-XXXXXX";
	struct unpu_model *model;
	int fd = mkstemp(path), ret;

	(void)state;
	params.log = subject_log_line;
	subject_errors = 0;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 3ll << 30), 0);
	ret = unpu_model_load(path, &params, &model);
	unlink(path);
	close(fd);
	assert_int_equal(ret, sizeof(void *) == 4 ? -EFBIG : -EINVAL);
	assert_int_equal(subject_errors, 1);
}

static int temporary_file(const struct subject *s)
{
	char path[] = "/tmp/unpu-session-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, s->file, s->size, 0), (ssize_t)s->size);
	return fd;
}

/* A table that no head shares stays in the file's pages, and gives what a packed one gives. */
static void untied_embeddings_stay_in_the_file(void **state)
{
	(void)state;
	for (size_t t = 0; t < 5; t++) {
		struct tiny_params tiny = { .arch = "llama", .type = types[t].type, .tied = 0 };
		struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
		struct unpu_model_info packed = { .size = sizeof(packed) };
		struct unpu_model_info mapped = { .size = sizeof(mapped) };
		struct subject memory, file;
		float *want, *got;
		int fd;

		/* Others pack what they cannot map. */
		params.device = "cpu";
		memory.file = tiny_model(&tiny, &memory.size);
		fd = temporary_file(&memory);
		file = memory;
		assert_int_equal(unpu_model_load_memory(memory.file, memory.size, &params,
							&memory.model), 0);
		assert_int_equal(unpu_model_load_fd(fd, 0, file.size, &params, &file.model), 0);
		close(fd);
		assert_int_equal(unpu_model_info(memory.model, &packed), 0);
		assert_int_equal(unpu_model_info(file.model, &mapped), 0);
		assert_true(mapped.weight_bytes < packed.weight_bytes);
		memory.vocab = file.vocab = packed.vocab;
		want = logits_of(&memory, UNPU_KV_F16, 0);
		got = logits_of(&file, UNPU_KV_F16, 0);
		assert_memory_equal(want, got, sizeof(float) * NUM_IDS * packed.vocab);
		free(want);
		free(got);
		unpu_model_destroy(file.model);
		subject_close(&memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_match_the_reference),
		cmocka_unit_test(rows_are_pure),
		cmocka_unit_test(bad_settings_are_named),
		cmocka_unit_test(bad_tokens_are_refused),
		cmocka_unit_test(logits_want_memory),
		cmocka_unit_test(vocab_only_has_no_sessions),
		cmocka_unit_test(any_file_can_be_looked_at),
		cmocka_unit_test(files_may_lie_in_files),
		cmocka_unit_test(messages_are_text),
		cmocka_unit_test(large_files_are_named),
		cmocka_unit_test(untied_embeddings_stay_in_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
