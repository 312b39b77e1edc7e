/* SPDX-License-Identifier: MIT */
/* Files of packed weights: the same model from them, and nothing from any other file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "runtime/device/cpu/ops.h"
#include "runtime/text/hash.h"
#include "tests/lib/subject.h"

#define NUM_IDS	12

static const uint32_t types[] = {
	UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0,
	UNPU_TYPE_Q4_1, UNPU_TYPE_Q5_0, UNPU_TYPE_Q5_1, UNPU_TYPE_IQ4_NL, UNPU_TYPE_Q4_K,
	UNPU_TYPE_Q5_K, UNPU_TYPE_Q6_K,
};
#define NUM_TYPES	(sizeof(types) / sizeof(types[0]))

static int temporary(void)
{
	char name[] = "/tmp/unpu-packed-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	return fd;
}

static uint64_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

static uint8_t *content(int fd)
{
	uint64_t size = size_of(fd);
	uint8_t *bytes = malloc(size);

	assert_non_null(bytes);
	assert_int_equal(pread(fd, bytes, size, 0), size);
	return bytes;
}

/* fd -1: none; isa NULL: this machine's. */
static int load_for(const struct subject *s, int fd, const char *isa, struct unpu_model **model)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;

	params.flags = fd >= 0 ? UNPU_MODEL_PACKED : 0;
	params.packed_fd = fd;
	params.pack_for = isa;
	params.device = "cpu";
	params.threads = 2;
	params.log = subject_log_line;
	subject_errors = subject_warnings = 0;
	return unpu_model_load_memory(s->file, s->size, &params, model);
}

static int load(const struct subject *s, int fd, struct unpu_model **model)
{
	return load_for(s, fd, NULL, model);
}

static float *logits_of(struct unpu_model *model)
{
	const struct unpu_session_params params = subject_params();
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	float *logits;

	assert_int_equal(unpu_model_info(model, &info), 0);
	for (uint32_t i = 0; i < NUM_IDS; i++)
		ids[i] = (i * 37 + 5) % info.vocab;
	logits = malloc(sizeof(*logits) * NUM_IDS * info.vocab);
	assert_non_null(logits);
	assert_int_equal(unpu_session_create(model, &params, &session), 0);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	return logits;
}

/* The model loads with what is in fd, and is the one that it is without. */
static void compare(const struct subject *s, int fd, bool mapped)
{
	struct unpu_model *model;
	float *want = logits_of(s->model), *got;

	assert_int_equal(load(s, fd, &model), 0);
	assert_int_equal(subject_errors, 0);
	assert_int_equal(subject_warnings, !mapped);
	assert_int_equal(!!model->home->weights->packed.map, mapped);
	got = logits_of(model);
	assert_memory_equal(want, got, sizeof(*want) * NUM_IDS * s->vocab);
	unpu_model_destroy(model);
	free(want);
	free(got);
}

static void every_model(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };

	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < NUM_TYPES; t++) {
			int fd = temporary();
			struct subject s;

			subject_open(&s, archs[a], types[t], 1 + (uint32_t)(a + t) % 3, 0);
			assert_int_equal(unpu_model_pack_fd(s.model, fd), 0);
			compare(&s, fd, true);
			subject_close(&s);
			close(fd);
		}
}

/* Whoever packs, with how many threads, from the file or from what was packed. */
static void the_same_file(void **state)
{
	struct subject one, two;
	int a = temporary(), b = temporary(), c = temporary();
	struct unpu_model *again;
	uint8_t *x, *y, *z;

	(void)state;
	subject_open(&one, "llama", UNPU_TYPE_Q4_0, 1, 0);
	subject_open(&two, "llama", UNPU_TYPE_Q4_0, 3, 0);
	assert_int_equal(unpu_model_pack_fd(one.model, a), 0);
	assert_int_equal(unpu_model_pack_fd(two.model, b), 0);
	assert_int_equal(load(&one, a, &again), 0);
	assert_int_equal(unpu_model_pack_fd(again, c), 0);
	unpu_model_destroy(again);
	assert_int_equal(size_of(a), size_of(b));
	assert_int_equal(size_of(a), size_of(c));
	x = content(a);
	y = content(b);
	z = content(c);
	assert_memory_equal(x, y, size_of(a));
	assert_memory_equal(x, z, size_of(a));
	free(x);
	free(y);
	free(z);
	subject_close(&one);
	subject_close(&two);
	close(a);
	close(b);
	close(c);
}

static void what_another_packed(void **state)
{
	const struct tiny_params seed = { .arch = "llama", .type = UNPU_TYPE_Q8_0, .tied = -1,
					  .seed = 8 };
	struct subject s, other;
	int fd = temporary();

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	assert_int_equal(unpu_model_pack_fd(s.model, fd), 0);
	/* The same header, other weights. */
	subject_open_tiny(&other, &seed, 2, 0);
	compare(&other, fd, false);
	assert_non_null(strstr(subject_warning, "for another model: packing them"));
	subject_close(&other);
	subject_open(&other, "qwen2", UNPU_TYPE_Q8_0, 2, 0);
	compare(&other, fd, false);
	assert_non_null(strstr(subject_warning, "is packed for another model"));
	subject_close(&other);
	compare(&s, fd, true);
	subject_close(&s);
	close(fd);
}

/* The weights as another machine has them: the same logits, and the same file as it makes. */
static void one_for(const struct subject *s, const struct unpu_cpu_isa *isa)
{
	float *want = logits_of(s->model), *got;
	struct unpu_model *model, *again;
	int fd = temporary(), copy = temporary();
	uint8_t *a, *b;

	assert_int_equal(load_for(s, -1, isa->name, &model), 0);
	assert_int_equal(unpu_model_pack_fd(model, fd), 0);
	got = logits_of(model);
	assert_memory_equal(want, got, sizeof(*want) * NUM_IDS * s->vocab);
	assert_int_equal(load_for(s, fd, isa->name, &again), 0);
	assert_int_equal(subject_warnings, 0);
	assert_true(again->home->weights->packed.map);
	assert_int_equal(unpu_model_pack_fd(again, copy), 0);
	a = content(fd);
	b = content(copy);
	assert_int_equal(size_of(fd), size_of(copy));
	assert_memory_equal(a, b, size_of(fd));
	unpu_model_destroy(model);
	unpu_model_destroy(again);
	free(want);
	free(got);
	free(a);
	free(b);
	close(fd);
	close(copy);
}

static void for_other_machines(void **state)
{
	const struct unpu_cpu_isa *isa;
	struct subject s;

	(void)state;
	for (size_t t = 0; t < NUM_TYPES; t++) {
		subject_open(&s, t % 2 ? "qwen2" : "llama", types[t], 2, 0);
		for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++)
			one_for(&s, isa);
		subject_close(&s);
	}
}

/* What is made for an instruction set is what a machine that has no better one makes and takes. */
static void as_that_machine_does(void **state)
{
	const struct unpu_cpu_isa *isa;
	struct unpu_cpu_ops ops;
	struct subject s;

	(void)state;
	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		int made = temporary(), its = temporary();
		struct unpu_model *model;
		uint8_t *a, *b;

		subject_open(&s, "llama", UNPU_TYPE_Q4_0, 2, 0);
		assert_int_equal(load_for(&s, -1, isa->name, &model), 0);
		assert_int_equal(unpu_model_pack_fd(model, made), 0);
		unpu_model_destroy(model);
		subject_close(&s);
		unpu_cpu_ops_init(&ops, isa->mask);
		if (strcmp(ops.name, isa->name)) {
			print_message("skip %s: not on this machine or in this build\n", isa->name);
			continue;
		}
		assert_int_equal(setenv("UNPU_CPUMASK", isa->name, 1), 0);
		subject_open(&s, "llama", UNPU_TYPE_Q4_0, 2, 0);
		assert_int_equal(unpu_model_pack_fd(s.model, its), 0);
		a = content(made);
		b = content(its);
		assert_int_equal(size_of(made), size_of(its));
		assert_memory_equal(a, b, size_of(made));
		compare(&s, made, true);
		unsetenv("UNPU_CPUMASK");
		subject_close(&s);
		free(a);
		free(b);
		close(made);
		close(its);
	}
}

/* Passed over by a machine that has other layouts, and both are named. */
static void for_another_machine(void **state)
{
	struct unpu_model *model;
	struct subject s;
	int fd = temporary();

	(void)state;
	assert_int_equal(setenv("UNPU_CPUMASK", "c", 1), 0);
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	assert_int_equal(load_for(&s, -1, "avx512vnni", &model), 0);
	assert_int_equal(unpu_model_pack_fd(model, fd), 0);
	compare(&s, fd, false);
	assert_non_null(strstr(subject_warning, "packed for avx512vnni, which is not c: packing"));
	unpu_model_destroy(model);
	subject_errors = 0;
	assert_int_equal(load_for(&s, -1, "avx1024", &model), -EINVAL);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "\"avx1024\" is no instruction set"));
	unsetenv("UNPU_CPUMASK");
	subject_close(&s);
	close(fd);
}

static void no_such_file(void **state)
{
	struct subject s;
	int fd = temporary(), pipes[2], folder = open("/tmp", O_RDONLY | O_DIRECTORY);

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q4_0, 2, 0);
	compare(&s, fd, false);
	assert_non_null(strstr(subject_warning, "is no file of packed weights"));
	assert_int_equal(pipe(pipes), 0);
	compare(&s, pipes[0], false);
	compare(&s, folder, false);
	compare(&s, pipes[1] + 100, false);
	close(pipes[0]);
	close(pipes[1]);
	close(folder);
	close(fd);
	subject_close(&s);
}

/* A head that differs anywhere is another's; the weights themselves are only numbers. */
static void damage(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 7, 300, 600, 4096, 65535, 65536 };
	struct subject s;
	int fd = temporary();
	uint64_t size;
	uint8_t *bytes;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q4_0, 1, 0);
	assert_int_equal(unpu_model_pack_fd(s.model, fd), 0);
	size = size_of(fd);
	bytes = content(fd);
	for (uint32_t at = 0; at < 600; at += at < 96 ? 1 : 11) {
		uint8_t bad = bytes[at] ^ (uint8_t)(1u << at % 8);

		assert_int_equal(pwrite(fd, &bad, 1, at), 1);
		compare(&s, fd, false);
		assert_int_equal(pwrite(fd, &bytes[at], 1, at), 1);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		compare(&s, fd, false);
	}
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	assert_int_equal(ftruncate(fd, (off_t)size - 1), 0);
	compare(&s, fd, false);
	assert_non_null(strstr(subject_warning, "cut short"));
	assert_int_equal(ftruncate(fd, (off_t)size + 1), 0);
	compare(&s, fd, false);
	assert_non_null(strstr(subject_warning, "longer than"));
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	compare(&s, fd, true);
	free(bytes);
	subject_close(&s);
	close(fd);
}

/* Heads that somebody made whole again after changing them: none but the right one is taken. */
static void made_to_harm(void **state)
{
	const size_t sums = 640 - 2 * sizeof(uint64_t);
	struct unpu_packed_key key;
	struct unpu_packed packed;
	uint32_t seed = 1, taken = 0;
	uint8_t head[640], bad[640];
	int fd = temporary();
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q4_0, 1, 0);
	assert_int_equal(unpu_model_pack_fd(s.model, fd), 0);
	key = s.model->home->weights->key;
	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	for (uint32_t n = 0; n < 20000; n++) {
		memcpy(bad, head, sizeof(bad));
		for (uint32_t i = 0; i < 1 + n % 4; i++) {
			seed = seed * 1664525 + 1013904223;
			/* Rarely what is looked at before the sums. */
			bad[(n % 16 ? 12 : 0) + (seed >> 8) % (sums - 12)] =
				(seed & 3) ? (uint8_t)(seed >> 20) : 0xff;
		}
		for (uint64_t i = 0; i < 2; i++) {
			const uint64_t sum_key[2] = { i, 2 };
			uint64_t sum = unpu_hash_bytes(sum_key, bad, sums);

			memcpy(bad + sums + i * sizeof(sum), &sum, sizeof(sum));
		}
		assert_int_equal(pwrite(fd, bad, sizeof(bad), 0), sizeof(bad));
		if (!unpu_packed_map(fd, &key, &packed)) {
			assert_memory_equal(head + 96, bad + 96, 16);	/* places */
			unpu_packed_unmap(&packed);
			taken++;
		}
	}
	/* Some change only who the file is for by name, or when its model was written. */
	assert_true(taken > 0 && taken < 15000);
	close(fd);
	subject_close(&s);
}

static void where_it_cannot_be_written(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	int full = open("/dev/full", O_WRONLY);
	struct unpu_model *vocab;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_errors = 0;
	assert_int_equal(unpu_model_pack_fd(s.model, full), -ENOSPC);
	assert_int_equal(subject_errors, 1);
	assert_int_equal(unpu_model_pack_fd(s.model, -1), -EBADF);
	params.flags = UNPU_MODEL_VOCAB_ONLY;
	params.log = subject_log_line;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &vocab), 0);
	assert_int_equal(unpu_model_pack_fd(vocab, full), -ENOTSUP);
	unpu_model_destroy(vocab);
	close(full);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_model),
		cmocka_unit_test(the_same_file),
		cmocka_unit_test(what_another_packed),
		cmocka_unit_test(for_other_machines),
		cmocka_unit_test(as_that_machine_does),
		cmocka_unit_test(for_another_machine),
		cmocka_unit_test(no_such_file),
		cmocka_unit_test(damage),
		cmocka_unit_test(made_to_harm),
		cmocka_unit_test(where_it_cannot_be_written),
	};

	subject_device = "cpu";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
