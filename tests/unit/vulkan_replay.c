/* SPDX-License-Identifier: MIT */
/*
 * Whole models on a Vulkan device: tiny ones of every architecture and type, beside the reference
 * and the cpu. The environment says which implementation vulkan:0 is; without one all is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/vulkan/vulkan.h"
#include "runtime/model/arch.h"
#include "tests/lib/oracle.h"
#include "tests/lib/subject.h"

#define NUM_IDS		21u
#define NUM_GREEDY	64u

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
/* design.md, 8: x max |logit| against the reference. */
static const struct {
	uint32_t type;
	const char *name;
	double bound;
} types[] = {
	{ UNPU_TYPE_F32, "F32", 2e-4 }, { UNPU_TYPE_F16, "F16", 2e-4 },
	{ UNPU_TYPE_Q8_0, "Q8_0", 5e-2 }, { UNPU_TYPE_Q4_0, "Q4_0", 5e-2 },
};

static int have_device(void **state)
{
	const struct unpu_log quiet = { NULL, NULL };
	uint32_t count;

	*state = NULL;
	if (unpu_vulkan_count(&quiet, &count))
		return -1;
	if (count)
		*state = (void *)archs;
	return 0;
}

#define NEED_DEVICE(state) \
	do { \
		if (!*(state)) { \
			print_message("no Vulkan device on this machine\n"); \
			skip(); \
		} \
	} while (0)

static void open_on(struct subject *s, const char *device, const char *arch, uint32_t type)
{
	subject_device = device;
	subject_open(s, arch, type, 1, 0);
	subject_device = NULL;
}

static struct unpu_session *new_session(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	struct unpu_session_params params = subject_params();

	params.kv = kv;
	params.batch = batch;
	return subject_session(s, &params);
}

/* ---- logits -------------------------------------------------------------------------------- */

static double *reference(const struct subject *s)
{
	uint32_t ids[NUM_IDS];
	double *logits = malloc(sizeof(double) * NUM_IDS * s->vocab);
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

static double distance(const float *got, const double *want, size_t n)
{
	double diff = 0, max = 0;

	for (size_t i = 0; i < n; i++) {
		max = fmax(max, fabs(want[i]));
		if (!(fabs((double)got[i] - want[i]) <= diff))
			diff = fabs((double)got[i] - want[i]);
	}
	return diff / max;
}

static void check_logits(const struct subject *s, enum unpu_kv kv, uint32_t batch, double bound,
			 const char *what)
{
	struct unpu_session *session = new_session(s, kv, batch);
	float *got = malloc(sizeof(float) * NUM_IDS * s->vocab);
	double *want = reference(s), far;
	uint32_t ids[NUM_IDS];

	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, got), 0);
	far = distance(got, want, (size_t)NUM_IDS * s->vocab);
	if (!(far <= bound))
		print_error("%s, kv %d, batch %u: %g, bound %g\n", what, kv, batch, far, bound);
	assert_true(far <= bound);
	unpu_session_destroy(session);
	free(got);
	free(want);
}

static void logits_match_the_reference(void **state)
{
	NEED_DEVICE(state);
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 4; t++) {
			char what[32];
			struct subject s;

			snprintf(what, sizeof(what), "%s %s", archs[a], types[t].name);
			open_on(&s, "vulkan:0", archs[a], types[t].type);
			check_logits(&s, UNPU_KV_F32, 0, types[t].bound, what);
			if (a == 0)	/* the same shaders: one architecture is enough */
				check_logits(&s, UNPU_KV_F16, 1, fmax(types[t].bound, 5e-3), what);
			subject_close(&s);
		}
}

/* ---- greedy text --------------------------------------------------------------------------- */

static void greedy(struct unpu_session *session, const uint32_t *ids, uint32_t count,
		   struct subject_text *text)
{
	memset(text, 0, sizeof(*text));
	assert_int_equal(unpu_session_prompt(session, ids, count), 0);
	assert_int_equal(unpu_session_generate(session, NUM_GREEDY, subject_collect, text),
			 UNPU_REASON_LENGTH);
	assert_int_equal(text->count, NUM_GREEDY);
}

/* Of F32 weights: what the cpu says, in whatever batches the device works. */
static void greedy_ids_are_the_cpus(void **state)
{
	static struct subject_text want, got;
	uint32_t ids[NUM_IDS];

	NEED_DEVICE(state);
	for (size_t a = 0; a < 4; a++) {
		struct subject cpu, gpu;
		struct unpu_session *x, *y;

		open_on(&cpu, "cpu", archs[a], UNPU_TYPE_F32);
		open_on(&gpu, "vulkan:0", archs[a], UNPU_TYPE_F32);
		subject_ids(&cpu, ids, NUM_IDS);
		x = new_session(&cpu, UNPU_KV_F32, 0);
		y = new_session(&gpu, UNPU_KV_F32, 0);
		greedy(x, ids, NUM_IDS, &want);
		greedy(y, ids, NUM_IDS, &got);
		assert_memory_equal(want.ids, got.ids, NUM_GREEDY * sizeof(uint32_t));
		assert_string_equal(subject_info(y).device, "vulkan:0");
		unpu_session_destroy(x);
		unpu_session_destroy(y);
		subject_close(&cpu);
		subject_close(&gpu);
	}
}

/* What was said once is said again: after going back, after prompts in pieces, beside another. */
static void sessions_repeat_themselves(void **state)
{
	static struct subject_text first, again;
	struct unpu_session *a, *b;
	uint32_t ids[NUM_IDS];
	struct subject s;

	NEED_DEVICE(state);
	open_on(&s, "vulkan:0", "llama", UNPU_TYPE_Q8_0);
	subject_ids(&s, ids, NUM_IDS);
	a = new_session(&s, UNPU_KV_F16, 0);
	greedy(a, ids, NUM_IDS, &first);
	/* back to the middle of the prompt; from there in two pieces */
	assert_int_equal(unpu_session_rollback(a, 7), 0);
	assert_int_equal(unpu_session_prompt(a, ids + 7, 5), 0);
	greedy(a, ids + 12, NUM_IDS - 12, &again);
	assert_memory_equal(first.ids, again.ids, sizeof(first.ids));
	/* another one in between, in turn, some tokens each */
	assert_int_equal(unpu_session_rollback(a, NUM_IDS), 0);
	b = new_session(&s, UNPU_KV_F16, 3);
	assert_int_equal(unpu_session_prompt(b, ids, NUM_IDS), 0);
	memset(&again, 0, sizeof(again));
	for (uint32_t i = 0; i < NUM_GREEDY; i += 16) {
		static struct subject_text other;

		memset(&other, 0, sizeof(other));
		assert_int_equal(unpu_session_generate(a, 16, subject_collect, &again), 0);
		assert_int_equal(unpu_session_generate(b, 16, subject_collect, &other), 0);
		assert_memory_equal(other.ids, first.ids + i, 16 * sizeof(uint32_t));
	}
	assert_memory_equal(first.ids, again.ids, sizeof(first.ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	subject_close(&s);
}

/* A callback that ends the text in the middle of what one submit has made. */
static void text_ends_where_the_caller_says(void **state)
{
	static struct subject_text all, part;
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	struct subject s;

	NEED_DEVICE(state);
	open_on(&s, "vulkan:0", "llama", UNPU_TYPE_F32);
	subject_ids(&s, ids, NUM_IDS);
	session = new_session(&s, UNPU_KV_F32, 0);
	greedy(session, ids, NUM_IDS, &all);
	for (uint32_t stop = 1; stop < 20; stop += 3) {
		assert_int_equal(unpu_session_rollback(session, NUM_IDS), 0);
		memset(&part, 0, sizeof(part));
		part.stop_after = stop;
		assert_int_equal(unpu_session_generate(session, NUM_GREEDY, subject_collect,
						       &part), UNPU_REASON_CALLBACK);
		assert_int_equal(part.count, stop);
		assert_int_equal(subject_info(session).used, NUM_IDS + stop);
		part.stop_after = 0;
		assert_int_equal(unpu_session_generate(session, 30 - stop, subject_collect, &part),
				 UNPU_REASON_LENGTH);
		assert_memory_equal(all.ids, part.ids, 30 * sizeof(uint32_t));
	}
	unpu_session_destroy(session);
	subject_close(&s);
}

/* ---- from one device to another ------------------------------------------------------------ */

/* A cache that one device wrote is read by another: same model, type and class. */
static void carry(const char *from, const char *to)
{
	static struct subject_text want, got;
	struct subject x, y;
	struct unpu_session *a, *b;
	uint32_t ids[NUM_IDS];
	int fd = memfd_create("session", 0);

	assert_true(fd >= 0);
	open_on(&x, from, "llama", UNPU_TYPE_F32);
	open_on(&y, to, "llama", UNPU_TYPE_F32);
	subject_ids(&x, ids, NUM_IDS);
	a = new_session(&x, UNPU_KV_F32, 0);
	b = new_session(&y, UNPU_KV_F32, 0);
	assert_int_equal(unpu_session_prompt(a, ids, NUM_IDS - 1), 0);
	assert_int_equal(unpu_session_save_fd(a, fd, UNPU_SAVE_KV), 0);
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	assert_true(unpu_session_load_fd(b, fd) >= 0);
	greedy(a, ids + NUM_IDS - 1, 1, &want);
	greedy(b, ids + NUM_IDS - 1, 1, &got);
	assert_memory_equal(want.ids, got.ids, sizeof(want.ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	subject_close(&x);
	subject_close(&y);
	close(fd);
}

static void sessions_move_by_file(void **state)
{
	NEED_DEVICE(state);
	carry("cpu", "vulkan:0");
	carry("vulkan:0", "cpu");
	carry("vulkan:0", "vulkan:0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_match_the_reference),
		cmocka_unit_test(greedy_ids_are_the_cpus),
		cmocka_unit_test(sessions_repeat_themselves),
		cmocka_unit_test(text_ends_where_the_caller_says),
		cmocka_unit_test(sessions_move_by_file),
	};

	return cmocka_run_group_tests(tests, have_device, NULL);
}
