/* SPDX-License-Identifier: MIT */
/* Models of every quantised type and of mixed ones, through the public API. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "shaders/layout.h"
#include "tests/lib/gpuish.h"
#include "tests/lib/oracle.h"
#include "tests/lib/subject.h"

#define NUM_IDS	21
#define A8	5e-2	/* of max |logit|, class a8, f32 KV; design.md §8 */

static const struct {
	const char *name;
	struct tiny_params tiny;
	double bits;		/* of a weight with its scales on the cpu, at most */
} cases[] = {
	{ "Q4_1", { .arch = "llama", .type = UNPU_TYPE_Q4_1, .tied = -1 }, 11 },
	{ "Q5_0", { .arch = "qwen2", .type = UNPU_TYPE_Q5_0, .tied = -1 }, 8.5 },
	{ "Q5_1", { .arch = "qwen3", .type = UNPU_TYPE_Q5_1, .tied = -1 }, 11 },
	{ "IQ4_NL", { .arch = "gpt2", .type = UNPU_TYPE_IQ4_NL, .tied = -1 }, 8.5 },
	{ "Q4_K", { .arch = "llama", .type = UNPU_TYPE_Q4_K, .tied = -1 }, 4.625 },
	{ "Q5_K", { .arch = "llama", .type = UNPU_TYPE_Q5_K, .tied = -1 }, 11 },
	{ "Q6_K", { .arch = "qwen2", .type = UNPU_TYPE_Q6_K, .tied = -1 }, 6.5625 },
	{ "Q4_K in one matrix of q, k and v", { .arch = "gpt2", .type = UNPU_TYPE_Q4_K,
						.more = UNPU_TYPE_Q6_K, .tied = -1 }, 6.5625 },
	{ "Q4_K_M", { .arch = "llama", .type = UNPU_TYPE_Q4_K, .more = UNPU_TYPE_Q6_K,
		      .tied = 0 }, 7.6 },
	{ "Q4_K_M, tied", { .arch = "qwen3", .type = UNPU_TYPE_Q4_K, .more = UNPU_TYPE_Q6_K,
			    .hidden = 512, .heads = 8, .layers = 1, .tied = 1 }, 7.6 },
	{ "Q5_K_M", { .arch = "llama", .type = UNPU_TYPE_Q5_K, .more = UNPU_TYPE_Q6_K,
		      .tied = 1 }, 11 },
	{ "Q4_K_M, rows of 192", { .arch = "llama", .type = UNPU_TYPE_Q4_K, .hidden = 192,
				   .head_dim = 48, .more = UNPU_TYPE_Q6_K, .tied = -1 }, 8.5 },
	{ "Q5_K_M, rows of 160 and 512", { .arch = "qwen2", .type = UNPU_TYPE_Q5_K, .hidden = 160,
					   .head_dim = 40, .more = UNPU_TYPE_Q6_K, .tied = -1 },
	  11 },
	{ "Q4_K, ffn of 288", { .arch = "llama", .type = UNPU_TYPE_Q4_K, .ffn = 288,
				.tied = -1 }, 8.5 },
	{ "IQ4_NL and Q5_1", { .arch = "llama", .type = UNPU_TYPE_IQ4_NL, .more = UNPU_TYPE_Q5_1,
			       .tied = 0 }, 11 },
	{ "Q4_0 and Q6_K", { .arch = "llama", .type = UNPU_TYPE_Q4_0, .more = UNPU_TYPE_Q6_K,
			     .hidden = 256, .ffn = 256, .tied = 0 }, 11 },
};
#define NUM_CASES	(sizeof(cases) / sizeof(cases[0]))

static void open_case(struct subject *s, size_t i, uint32_t threads, uint32_t flags)
{
	struct tiny_params tiny = cases[i].tiny;

	tiny.seed = 7;
	subject_open_tiny(s, &tiny, threads, flags);
}

static float *logits_of(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	struct unpu_session_params params = subject_params();
	float *logits = malloc(sizeof(float) * NUM_IDS * s->vocab);
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];

	params.kv = kv;
	params.batch = batch;
	session = subject_session(s, &params);
	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	return logits;
}

static double *reference(const struct subject *s)
{
	double *logits = malloc(sizeof(double) * NUM_IDS * s->vocab);
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;
	uint32_t ids[NUM_IDS];

	subject_ids(s, ids, NUM_IDS);
	assert_int_equal(unpu_gguf_create(s->file, s->size, NULL, &gguf), 0);
	assert_int_equal(unpu_arch_create(gguf, NULL, &arch), 0);
	assert_int_equal(oracle_logits(arch, ids, NUM_IDS, logits), 0);
	unpu_arch_destroy(arch);
	unpu_gguf_destroy(gguf);
	return logits;
}

static void compare(const struct subject *s, size_t i, uint32_t flags, enum unpu_kv kv,
		    double bound)
{
	double *want = reference(s), diff = 0, most = 0;
	float *got = logits_of(s, kv, 0);

	for (size_t j = 0; j < (size_t)NUM_IDS * s->vocab; j++) {
		most = fmax(most, fabs(want[j]));
		if (!(fabs((double)got[j] - want[j]) <= diff))
			diff = fabs((double)got[j] - want[j]);
	}
	if (!(diff <= bound * most))
		fail_msg("%s, flags %u, KV %d: off by %g of the largest, bound %g", cases[i].name,
			 flags, kv, diff / most, bound);
	free(got);
	free(want);
}

static void check_reference(size_t i, uint32_t flags, enum unpu_kv kv, double bound)
{
	struct subject s;

	open_case(&s, i, 2, flags);
	compare(&s, i, flags, kv, bound);
	subject_close(&s);
}

static void logits_match_the_reference(void **state)
{
	(void)state;
	for (size_t i = 0; i < NUM_CASES; i++) {
		check_reference(i, 0, UNPU_KV_F32, A8);
		check_reference(i, 0, UNPU_KV_F16, A8);
		check_reference(i, UNPU_MODEL_CLASS_F32, UNPU_KV_F32, 2e-4);
	}
}

static bool is_slow(void)
{
	return getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");
}

/* Neither the number of threads nor where a prompt is cut is seen in any bit. */
static void check_purity(size_t i, uint32_t flags)
{
	static const uint32_t batches[] = { 1, 2, 3, 5, 8, 9, 16, 32 }, threads[] = { 1, 2, 3, 7 };
	uint32_t step = is_slow() ? 3 : 1;
	float *first = NULL;

	for (size_t t = 0; t < 4; t += step) {
		struct subject s;

		open_case(&s, i, threads[t], flags);
		for (size_t b = 0; b < 8; b += step) {
			float *got = logits_of(&s, UNPU_KV_F16, batches[b]);

			first = first ? first : got;
			assert_memory_equal(first, got, sizeof(float) * NUM_IDS * s.vocab);
			if (first != got)
				free(got);
		}
		subject_close(&s);
	}
	free(first);
}

static void rows_are_pure(void **state)
{
	(void)state;
	for (size_t i = 0; i < NUM_CASES; i++) {
		if (is_slow() && i % 5)
			continue;
		check_purity(i, 0);
		if (i % 4 == 0)
			check_purity(i, UNPU_MODEL_CLASS_F32);
	}
}

static void drafts_change_nothing(void **state)
{
	uint64_t accepted = 0;

	(void)state;
	for (size_t i = 0; i < NUM_CASES; i++) {
		struct subject_text plain = { 0 }, fast = { 0 };
		struct unpu_session_params params = subject_params();
		struct unpu_session *a, *b;
		uint32_t ids[16];
		struct subject s;

		open_case(&s, i, 1 + i % 3, 0);
		subject_ids(&s, ids, 8);
		memcpy(ids + 8, ids, 8 * sizeof(*ids));
		a = subject_session(&s, &params);
		params.speculate = 3 + i % 3;
		b = subject_session(&s, &params);
		assert_int_equal(unpu_session_prompt(a, ids, 16), 0);
		assert_int_equal(unpu_session_prompt(b, ids, 16), 0);
		assert_int_equal(unpu_session_generate(a, 64, subject_collect, &plain), 0);
		assert_int_equal(unpu_session_generate(b, 64, subject_collect, &fast), 0);
		assert_memory_equal(fast.ids, plain.ids, sizeof(plain.ids));
		accepted += subject_info(b).accepted_tokens;
		subject_assert_equal(a, b, s.vocab);
		unpu_session_destroy(a);
		unpu_session_destroy(b);
		subject_close(&s);
	}
	assert_true(accepted > 50);
}

static uint64_t weight_bytes(const struct unpu_weight *w)
{
	return w->quants.bytes + w->scales.bytes;
}

static uint64_t weight_count(const struct unpu_weight *w)
{
	return (uint64_t)unpu_pad32(w->rows) * unpu_pad32(w->k);
}

static void add_weight(const struct unpu_weight *w, size_t i, uint64_t *bytes, uint64_t *count)
{
	if (!unpu_layout_info(w->layout)->quantised || w->numeric != DRM_UNPU_CLASS_A8)
		fail_msg("%s: a matrix is %s", cases[i].name, unpu_layout_info(w->layout)->name);
	*bytes += weight_bytes(w);
	*count += weight_count(w);
}

/* No quantised matrix becomes floats on the cpu, whatever its tensors are. */
static void weights_stay_small(void **state)
{
	(void)state;
	subject_device = "cpu";
	for (size_t i = 0; i < NUM_CASES; i++) {
		const struct unpu_weights *w;
		uint64_t bytes = 0, count = 0;
		struct subject s;

		open_case(&s, i, 1, 0);
		w = s.model->home->weights;
		for (uint32_t l = 0; l < w->arch->hp.layers; l++) {
			add_weight(&w->layers[l].qkv, i, &bytes, &count);
			add_weight(&w->layers[l].out, i, &bytes, &count);
			add_weight(&w->layers[l].ffn_in, i, &bytes, &count);
			add_weight(&w->layers[l].ffn_out, i, &bytes, &count);
		}
		add_weight(&w->head, i, &bytes, &count);
		if ((double)bytes * 8 > cases[i].bits * (double)count)
			fail_msg("%s: %g bits a weight, at most %g", cases[i].name,
				 (double)bytes * 8 / (double)count, cases[i].bits);
		subject_close(&s);
	}
	subject_device = NULL;
}

/*
 * A GPU has 8 bits with one scale a block for what that is exact for; else weights become the
 * nearest f16, or f32 where all activations are to be.
 */
static void gpus_have_fewer_layouts(void **state)
{
	const struct gpuish_params params = { .r32 = true };

	(void)state;
	subject_device = "cpu";
	for (size_t i = 0; i < 2 * NUM_CASES; i++) {
		const struct tiny_params *tiny = &cases[i / 2].tiny;
		uint32_t flags = i % 2 ? UNPU_MODEL_CLASS_F32 : 0, layout;
		struct gpuish *g;
		struct subject s;

		open_case(&s, i / 2, 1, flags);
		assert_int_equal(gpuish_move_in(s.model, &params, &g), 0);
		layout = s.model->home->weights->layers[0].out.layout;
		if (tiny->type == UNPU_TYPE_Q5_0 || tiny->type == UNPU_TYPE_IQ4_NL)
			assert_int_equal(layout, DRM_UNPU_LAYOUT_Q8_R32);
		else if (tiny->type == UNPU_TYPE_Q5_K || tiny->type == UNPU_TYPE_Q6_K)
			assert_int_equal(layout, flags ? DRM_UNPU_LAYOUT_F32_R32 :
							 DRM_UNPU_LAYOUT_F16_R32);
		compare(&s, i / 2, flags, UNPU_KV_F32, flags ? 2e-4 : A8);
		subject_close(&s);
	}
	subject_device = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_match_the_reference),
		cmocka_unit_test(rows_are_pure),
		cmocka_unit_test(drafts_change_nothing),
		cmocka_unit_test(weights_stay_small),
		cmocka_unit_test(gpus_have_fewer_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
