/* SPDX-License-Identifier: MIT */
/* The shader table and the layouts: names, ranges of every word, grids and least sizes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shaders/shaders.h"

#define EPS		0x3727c5acu	/* 1e-5f */
#define QUARTER		0x3e800000u	/* 0.25f */
#define INF		0x7f800000u
#define NOT_A_NUMBER	0x7fc00000u
#define MINUS_ONE	0xbf800000u

/* A small model: hidden 72, 6 heads, 2 KV heads of 24, ffn 100, vocab 250, 3 slots of 128 cells. */
static const uint32_t base_specs[UNPU_SHADER_COUNT][UNPU_SHADER_MAX_SPEC_WORDS] = {
	[UNPU_SHADER_EMBED] = { 5, 3, 250, 72, DRM_UNPU_LAYOUT_Q8_R8_K16, 40 },
	[UNPU_SHADER_QKV] = { 5, 3, 128, 72, 6, 2, 24, DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_A8,
			      DRM_UNPU_KV_F16, UNPU_NORM_LAYER, 7, EPS, UNPU_ROPE_HALVES, 20, 50 },
	[UNPU_SHADER_ATTN] = { 5, 3, 128, 6, 2, 24, DRM_UNPU_KV_F32, QUARTER },
	[UNPU_SHADER_ATTN_OUT] = { 5, 3, 128, 72, 6, 24, DRM_UNPU_LAYOUT_F16_R16,
				   DRM_UNPU_CLASS_F32, 2 },
	[UNPU_SHADER_FFN_IN] = { 5, 3, 72, 100, DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_CLASS_F32,
				 UNPU_NORM_RMS, 10, UNPU_ACT_GELU, EPS },
	[UNPU_SHADER_FFN_OUT] = { 5, 3, 72, 100, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, 0 },
	[UNPU_SHADER_HEAD] = { 5, 3, 72, 250, DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_A8,
			       UNPU_NORM_RMS, 3, EPS, 4 },
	[UNPU_SHADER_SAMPLE] = { 5, 3, 128, 250, 72, 4, DRM_UNPU_LAYOUT_BF16_R16, 0 },
};

static const uint32_t num_words[UNPU_SHADER_COUNT] = { 6, 16, 8, 9, 10, 7, 10, 8, 0 };

/* ---- names --------------------------------------------------------------------------------- */

static int find(const char *name)
{
	uint8_t padded[DRM_UNPU_SHADER_NAME] = { 0 };

	memcpy(padded, name, strlen(name));
	return unpu_shader_find(padded);
}

static void test_names(void **state)
{
	static const char *const names[UNPU_SHADER_COUNT] = {
		"embed.1", "qkv.1", "attn.1", "attn_out.1", "ffn_in.1", "ffn_out.1", "head.1",
		"sample.1", "copy.1",
	};
	static const uint32_t bindings[UNPU_SHADER_COUNT] = { 5, 8, 4, 6, 6, 6, 7, 8, 2 };
	/* Written: the state, for its fault word, and what the shader makes. */
	static const uint32_t writes[UNPU_SHADER_COUNT] = {
		0x11, 0xc1, 0x09, 0x21, 0x21, 0x21, 0x61, 0x89, 0x02,
	};
	uint8_t name[DRM_UNPU_SHADER_NAME] = "qkv.1";
	uint32_t kind;

	(void)state;
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++) {
		const struct unpu_shader_info *info = unpu_shader_info(kind);

		assert_string_equal(info->name, names[kind]);
		assert_int_equal(find(names[kind]), kind);
		assert_int_equal(info->num_bindings, bindings[kind]);
		assert_int_equal(info->spec_words, num_words[kind]);
		assert_int_equal(info->write_mask, writes[kind]);
	}
	assert_null(unpu_shader_info(UNPU_SHADER_COUNT));
	assert_int_equal(find(""), -ENOENT);
	assert_int_equal(find("qkv"), -ENOENT);
	assert_int_equal(find("qkv.2"), -ENOENT);
	assert_int_equal(find("qkv.11"), -ENOENT);
	name[31] = 1;
	assert_int_equal(unpu_shader_find(name), -ENOENT);
	memset(name, 'q', sizeof(name));
	assert_int_equal(unpu_shader_find(name), -ENOENT);
}

/* ---- ranges -------------------------------------------------------------------------------- */

struct range {
	const char *name;
	uint32_t good[3], bad[4];	/* bad ends with a repetition where it has fewer */
};

static const struct range
	rows = { "rows", { 1, 2, 256 }, { 0, 257, 0x80000000, 0xffffffff } },
	slots = { "slots", { 1, 2, 64 }, { 0, 65, 0x80000000, 0xffffffff } },
	cells = { "cells", { 64, 128, 1 << 20 }, { 0, 63, 96, (1 << 20) + 64 } },
	hidden = { "hidden", { 8, 100, 65536 }, { 0, 7, 65537, 0xffffffff } },
	heads = { "heads", { 2, 4, 1024 }, { 0, 1025, 1026, 0xfffffffe } },
	kv_heads = { "kv_heads", { 1, 2, 6 }, { 0, 4, 12, 0xffffffff } },
	head_dim = { "head_dim", { 24, 64, 256 }, { 0, 4, 260, 264 } },
	ffn = { "ffn", { 1, 172, 1 << 18 }, { 0, (1 << 18) + 1, 0x80000000, 0xffffffff } },
	vocab = { "vocab", { 1, 259, 1 << 20 }, { 0, (1 << 20) + 1, 0x80000000, 0xffffffff } },
	logit_rows = { "logit_rows", { 1, 7, 256 }, { 0, 257, 0x80000000, 0xffffffff } },
	float_layout = { "layout", { 0, 5, 18 }, { 19, 20, 0x80000000, 0xffffffff } },
	a8_layout = { "layout", { 8, 11, 18 }, { 0, 2, 5, 16 } },
	numeric_f32 = { "numeric", { 0, 0, 0 }, { 1, 2, 3, 0xffffffff } },
	numeric_any = { "numeric", { 0, 1, 1 }, { 2, 3, 4, 0xffffffff } },
	kv_type = { "kv_type", { 0, 1, 2 }, { 3, 4, 5, 0xffffffff } },
	norm = { "norm", { 0, 1, 1 }, { 2, 3, 4, 0xffffffff } },
	act = { "act", { 0, 1, 2 }, { 3, 4, 5, 0xffffffff } },
	qkv_flags = { "flags", { 0, 2, 7 }, { 8, 16, 15, 0xffffffff } },
	out_flags = { "flags", { 0, 2, 2 }, { 1, 4, 8, 0xffffffff } },
	in_flags = { "flags", { 0, 8, 11 }, { 4, 15, 16, 0xffffffff } },
	head_flags = { "flags", { 0, 1, 3 }, { 4, 8, 16, 0xffffffff } },
	positive = { "eps or scale", { 1, EPS, 0x7f7fffff }, { 0, INF, NOT_A_NUMBER, MINUS_ONE } },
	rope = { "rope", { 1, 2, 2 }, { 0, 3, 4, 0xffffffff } },
	rope_dims = { "rope_dims", { 2, 20, 24 }, { 0, 5, 26, 0xfffffffe } },
	rope_positions = { "positions", { 1, 50, 1 << 20 },
			   { 0, (1 << 20) + 1, 0x80000000, 0xffffffff } },
	positions = { "positions", { 0, 50, 1 << 20 },
		      { (1 << 20) + 1, (1 << 20) + 2, 0x80000000, 0xffffffff } };

/* In the order of the words, for base_specs. */
static const struct range *const ranges[UNPU_SHADER_COUNT][UNPU_SHADER_MAX_SPEC_WORDS] = {
	[UNPU_SHADER_EMBED] = { &rows, &slots, &vocab, &hidden, &float_layout, &positions },
	[UNPU_SHADER_QKV] = { &rows, &slots, &cells, &hidden, &heads, &kv_heads, &head_dim,
			      &a8_layout, &numeric_any, &kv_type, &norm, &qkv_flags, &positive,
			      &rope, &rope_dims, &rope_positions },
	[UNPU_SHADER_ATTN] = { &rows, &slots, &cells, &heads, &kv_heads, &head_dim, &kv_type,
			       &positive },
	[UNPU_SHADER_ATTN_OUT] = { &rows, &slots, &cells, &hidden, &heads, &head_dim,
				   &float_layout, &numeric_f32, &out_flags },
	[UNPU_SHADER_FFN_IN] = { &rows, &slots, &hidden, &ffn, &float_layout, &numeric_f32, &norm,
				 &in_flags, &act, &positive },
	[UNPU_SHADER_FFN_OUT] = { &rows, &slots, &hidden, &ffn, &float_layout, &numeric_f32,
				  &out_flags },
	[UNPU_SHADER_HEAD] = { &rows, &slots, &hidden, &vocab, &a8_layout, &numeric_any, &norm,
			       &head_flags, &positive, &logit_rows },
	[UNPU_SHADER_SAMPLE] = { &rows, &slots, &cells, &vocab, &hidden, &logit_rows,
				 &float_layout, &positions },
};

static int check(uint32_t kind, const uint32_t *spec)
{
	return unpu_shader_check_spec(kind, spec, num_words[kind]);
}

/* One word at a time, the others valid. */
static void test_ranges(void **state)
{
	uint32_t kind, word, i;

	(void)state;
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++) {
		assert_int_equal(check(kind, base_specs[kind]), 0);
		for (word = 0; word < num_words[kind]; word++) {
			const struct range *range = ranges[kind][word];
			uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS];

			memcpy(spec, base_specs[kind], sizeof(spec));
			for (i = 0; i < 3; i++) {
				spec[word] = range->good[i];
				if (check(kind, spec))
					fail_msg("%s: %s %u refused", unpu_shader_info(kind)->name,
						 range->name, spec[word]);
			}
			for (i = 0; i < 4; i++) {
				spec[word] = range->bad[i];
				if (check(kind, spec) != -EINVAL)
					fail_msg("%s: %s %u taken", unpu_shader_info(kind)->name,
						 range->name, spec[word]);
			}
		}
	}
}

static void test_spec_words(void **state)
{
	uint32_t kind;

	(void)state;
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++) {
		assert_int_equal(unpu_shader_check_spec(kind, base_specs[kind],
							num_words[kind] + 1), -EINVAL);
		if (num_words[kind])
			assert_int_equal(unpu_shader_check_spec(kind, base_specs[kind],
								num_words[kind] - 1), -EINVAL);
	}
	assert_int_equal(unpu_shader_check_spec(UNPU_SHADER_COUNT, base_specs[0], 6), -EINVAL);
	assert_int_equal(unpu_shader_check_spec(UINT32_MAX, base_specs[0], 6), -EINVAL);
}

/* Rules that take two words. */
static void test_cross_rules(void **state)
{
	struct unpu_qkv_spec qkv;
	struct unpu_ffn_out_spec out;
	struct unpu_attn_out_spec attn_out;
	struct unpu_embed_spec embed;

	(void)state;
	memcpy(&qkv, base_specs[UNPU_SHADER_QKV], sizeof(qkv));
	qkv.rope = UNPU_ROPE_NONE;
	assert_int_equal(check(UNPU_SHADER_QKV, (uint32_t *)&qkv), -EINVAL);
	qkv.rope_dims = 0;
	assert_int_equal(check(UNPU_SHADER_QKV, (uint32_t *)&qkv), -EINVAL);
	qkv.positions = 0;
	assert_int_equal(check(UNPU_SHADER_QKV, (uint32_t *)&qkv), 0);
	qkv.layout = DRM_UNPU_LAYOUT_GGUF_Q8_0;		/* 72 inputs are no whole blocks */
	assert_int_equal(check(UNPU_SHADER_QKV, (uint32_t *)&qkv), -EINVAL);
	qkv.hidden = 96;
	assert_int_equal(check(UNPU_SHADER_QKV, (uint32_t *)&qkv), 0);

	memcpy(&out, base_specs[UNPU_SHADER_FFN_OUT], sizeof(out));
	out.numeric = DRM_UNPU_CLASS_A8;
	assert_int_equal(check(UNPU_SHADER_FFN_OUT, (uint32_t *)&out), -EINVAL);
	out.layout = DRM_UNPU_LAYOUT_GGUF_Q4_0;
	assert_int_equal(check(UNPU_SHADER_FFN_OUT, (uint32_t *)&out), -EINVAL);
	out.ffn = 128;
	assert_int_equal(check(UNPU_SHADER_FFN_OUT, (uint32_t *)&out), 0);

	memcpy(&attn_out, base_specs[UNPU_SHADER_ATTN_OUT], sizeof(attn_out));
	attn_out.layout = DRM_UNPU_LAYOUT_GGUF_Q8_0;	/* 6 x 24 inputs */
	assert_int_equal(check(UNPU_SHADER_ATTN_OUT, (uint32_t *)&attn_out), -EINVAL);
	attn_out.heads = 4;
	assert_int_equal(check(UNPU_SHADER_ATTN_OUT, (uint32_t *)&attn_out), 0);

	memcpy(&embed, base_specs[UNPU_SHADER_EMBED], sizeof(embed));
	embed.layout = DRM_UNPU_LAYOUT_GGUF_Q4_0;
	assert_int_equal(check(UNPU_SHADER_EMBED, (uint32_t *)&embed), -EINVAL);
}

/* Words of a shader that has a matrix, and the product of two of them where that is its k. */
static const struct {
	uint32_t kind, layout, numeric, k, times;	/* 0: none */
} matrix_words[] = {
#define WORD(__shader, __field) (offsetof(struct unpu_ ## __shader ## _spec, __field) / 4)
	{ UNPU_SHADER_EMBED, WORD(embed, layout), 0, WORD(embed, hidden), 0 },
	{ UNPU_SHADER_QKV, WORD(qkv, layout), WORD(qkv, numeric), WORD(qkv, hidden), 0 },
	{ UNPU_SHADER_ATTN_OUT, WORD(attn_out, layout), WORD(attn_out, numeric),
	  WORD(attn_out, heads), WORD(attn_out, head_dim) },
	{ UNPU_SHADER_FFN_IN, WORD(ffn_in, layout), WORD(ffn_in, numeric), WORD(ffn_in, hidden),
	  0 },
	{ UNPU_SHADER_FFN_OUT, WORD(ffn_out, layout), WORD(ffn_out, numeric), WORD(ffn_out, ffn),
	  0 },
	{ UNPU_SHADER_HEAD, WORD(head, layout), WORD(head, numeric), WORD(head, hidden), 0 },
	{ UNPU_SHADER_SAMPLE, WORD(sample, layout), 0, WORD(sample, hidden), 0 },
#undef WORD
};

/* What k of a layout must be a multiple of; all others pad it. */
static uint32_t whole(uint32_t layout)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q4K_R8_K16:
	case DRM_UNPU_LAYOUT_Q4K_R8_K4U:
	case DRM_UNPU_LAYOUT_Q4K_R16_K4U:
	case DRM_UNPU_LAYOUT_Q6K_R8_K16:
	case DRM_UNPU_LAYOUT_Q6K_R8_K4:
	case DRM_UNPU_LAYOUT_Q6K_R16_K4:
		return 256;
	case DRM_UNPU_LAYOUT_GGUF_Q8_0:
	case DRM_UNPU_LAYOUT_GGUF_Q4_0:
		return 32;
	}
	return 1;
}

static void check_width(size_t m, uint32_t layout, uint32_t numeric, uint32_t k)
{
	uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS], kind = matrix_words[m].kind;
	int want = k % whole(layout) ? -EINVAL : 0;

	memcpy(spec, base_specs[kind], sizeof(spec));
	spec[matrix_words[m].layout] = layout;
	if (matrix_words[m].numeric)
		spec[matrix_words[m].numeric] = numeric;
	spec[matrix_words[m].k] = k;
	if (matrix_words[m].times) {
		spec[matrix_words[m].k] = k / 8;
		spec[matrix_words[m].times] = 8;
	}
	if (matrix_words[m].numeric && numeric && !unpu_layout_info(layout)->quantised)
		want = -EINVAL;
	if (check(kind, spec) != want)
		fail_msg("%s: %s, class %u, %u inputs: not %d", unpu_shader_info(kind)->name,
			 unpu_layout_info(layout)->name, numeric, k, want);
}

/* Every shader with a matrix, every layout, widths that are whole groups, blocks or neither. */
static void test_widths(void **state)
{
	static const uint32_t widths[] = {
		8, 32, 40, 72, 96, 128, 224, 248, 256, 264, 288, 384, 504, 512, 768, 2048, 2056,
	};

	(void)state;
	for (size_t m = 0; m < sizeof(matrix_words) / sizeof(matrix_words[0]); m++)
		for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++)
			for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++)
				for (uint32_t numeric = 0; numeric < 2; numeric++)
					check_width(m, layout, numeric, widths[i]);
}

/* ---- needs --------------------------------------------------------------------------------- */

struct want {
	uint32_t grid[3];
	uint64_t bytes[UNPU_SHADER_MAX_BINDINGS];
};

/*
 * By hand from the comments of shaders.h: pad32(72) = 96, pad32(100) = 128, pad32(250) = 256.
 */
#define STATE (sizeof(struct unpu_state_header) + 3 * sizeof(struct unpu_state_sampler) + \
	       5 * sizeof(struct unpu_state_row))

static const struct want wants[UNPU_SHADER_COUNT] = {
	[UNPU_SHADER_EMBED] = { { 5, 1, 1 }, {
		STATE, 256 * 96, 256 * 3 * 2, 40 * 96 * 4, 5 * 96 * 4 } },
	/* W has 10 heads of 24: 240 rows, padded 256; params 2 x 96 + 256 + 2 x 24. */
	[UNPU_SHADER_QKV] = { { 10, 1, 1 }, {
		STATE, 5 * 96 * 4, (96 + 96 + 256 + 48) * 4, 256 * 96 / 2, 256 * 3 * 2,
		50 * 20 * 4, 5 * 144 * 4, 2 * 2 * 3 * 128 * 24 * 2 } },
	/* 2 chunks; a partial is 24 outputs, a maximum and a sum. */
	[UNPU_SHADER_ATTN] = { { 2, 2, 5 }, {
		STATE, 5 * 144 * 4, 2 * 2 * 3 * 128 * 24 * 4, 5 * 2 * 6 * 26 * 4 } },
	[UNPU_SHADER_ATTN_OUT] = { { 3, 1, 1 }, {
		STATE, 5 * 2 * 6 * 26 * 4, 96 * 4, 96 * 160 * 2, 0, 5 * 96 * 4 } },
	/* Gated: 256 packed rows of 72 f32; bias in their order. */
	[UNPU_SHADER_FFN_IN] = { { 4, 1, 1 }, {
		STATE, 5 * 96 * 4, (96 + 256) * 4, 256 * 72 * 4, 0, 5 * 128 * 4 } },
	[UNPU_SHADER_FFN_OUT] = { { 3, 1, 1 }, {
		STATE, 5 * 128 * 4, 0, 96 * 128 * 4, 0, 5 * 96 * 4 } },
	[UNPU_SHADER_HEAD] = { { 8, 1, 1 }, {
		STATE, 5 * 96 * 4, (96 + 96 + 256) * 4, 256 * 96, 256 * 3 * 2, 4 * 250 * 4,
		4 * 8 * 8 } },
	[UNPU_SHADER_SAMPLE] = { { 1, 1, 1 }, {
		STATE, 4 * 250 * 4, 4 * 8 * 8, 3 * 128 * 4, 256 * 96 * 2, 0, 0, 5 * 96 * 4 } },
	[UNPU_SHADER_COPY] = { { 2, 1, 1 }, { 65540, 65540 } },
};

static void test_needs(void **state)
{
	const struct unpu_attn_const chunks = { 2 };
	const struct unpu_copy_const copy = { 65540, 0 };
	const void *constants[UNPU_SHADER_COUNT] = {
		[UNPU_SHADER_ATTN] = &chunks, [UNPU_SHADER_COPY] = &copy,
	};
	struct unpu_shader_need need;
	uint32_t kind, i;

	(void)state;
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++) {
		uint32_t bytes = unpu_shader_info(kind)->const_bytes;

		assert_int_equal(unpu_shader_need(kind, base_specs[kind], constants[kind], bytes,
						  &need), 0);
		assert_memory_equal(need.grid, wants[kind].grid, sizeof(need.grid));
		for (i = 0; i < UNPU_SHADER_MAX_BINDINGS; i++)
			if (need.bytes[i] != wants[kind].bytes[i])
				fail_msg("%s: binding %u takes %llu bytes, not %llu",
					 unpu_shader_info(kind)->name, i,
					 (unsigned long long)need.bytes[i],
					 (unsigned long long)wants[kind].bytes[i]);
		assert_int_equal(unpu_shader_need(kind, base_specs[kind], constants[kind],
						  bytes + 4, &need), -EINVAL);
	}
	assert_int_equal(unpu_shader_need(UNPU_SHADER_COUNT, base_specs[0], NULL, 0, &need),
			 -EINVAL);
}

static int attn_need(uint32_t chunks, struct unpu_shader_need *need)
{
	const struct unpu_attn_const constants = { chunks };

	return unpu_shader_need(UNPU_SHADER_ATTN, base_specs[UNPU_SHADER_ATTN], &constants,
				sizeof(constants), need);
}

static int copy_need(uint64_t bytes, struct unpu_shader_need *need)
{
	const struct unpu_copy_const constants = { (uint32_t)bytes, (uint32_t)(bytes >> 32) };

	return unpu_shader_need(UNPU_SHADER_COPY, NULL, &constants, sizeof(constants), need);
}

static void test_constants(void **state)
{
	struct unpu_shader_need need;

	(void)state;
	assert_int_equal(attn_need(0, &need), -EINVAL);
	assert_int_equal(attn_need(3, &need), -EINVAL);
	assert_int_equal(attn_need(UINT32_MAX, &need), -EINVAL);
	assert_int_equal(attn_need(1, &need), 0);
	assert_int_equal(need.grid[1], 1);
	/* Partials lie at the same place in every context bucket. */
	assert_int_equal(need.bytes[UNPU_ATTN_PARTIALS], 5 * 2 * 6 * 26 * 4);

	assert_int_equal(copy_need(0, &need), -EINVAL);
	assert_int_equal(copy_need(2, &need), -EINVAL);
	assert_int_equal(copy_need(UINT64_MAX - 3, &need), -EINVAL);
	assert_int_equal(copy_need((0xffffffffull << 16) + 4, &need), -EINVAL);
	assert_int_equal(copy_need(0xffffffffull << 16, &need), 0);
	assert_int_equal(need.grid[0], 0xffffffff);
	assert_int_equal(copy_need(4, &need), 0);
	assert_int_equal(need.grid[0], 1);
	assert_int_equal(copy_need(65536, &need), 0);
	assert_int_equal(need.grid[0], 1);
}

/* ---- the largest of everything ------------------------------------------------------------- */

static const uint32_t max_specs[UNPU_SHADER_COUNT][UNPU_SHADER_MAX_SPEC_WORDS] = {
	[UNPU_SHADER_EMBED] = { 256, 64, 1 << 20, 65536, DRM_UNPU_LAYOUT_F32_R16, 1 << 20 },
	[UNPU_SHADER_QKV] = { 256, 64, 1 << 20, 65536, 1024, 1024, 256, DRM_UNPU_LAYOUT_F32_R16, 0,
			      DRM_UNPU_KV_F32, 0, 7, EPS, UNPU_ROPE_PAIRS, 256, 1 << 20 },
	[UNPU_SHADER_ATTN] = { 256, 64, 1 << 20, 1024, 1024, 256, DRM_UNPU_KV_F32, QUARTER },
	[UNPU_SHADER_ATTN_OUT] = { 256, 64, 1 << 20, 65536, 1024, 256, DRM_UNPU_LAYOUT_F32_R16, 0,
				   2 },
	[UNPU_SHADER_FFN_IN] = { 256, 64, 65536, 1 << 18, DRM_UNPU_LAYOUT_F32_R16, 0, 0, 11, 0,
				 EPS },
	[UNPU_SHADER_FFN_OUT] = { 256, 64, 65536, 1 << 18, DRM_UNPU_LAYOUT_F32_R16, 0, 2 },
	[UNPU_SHADER_HEAD] = { 256, 64, 65536, 1 << 20, DRM_UNPU_LAYOUT_F32_R16, 0, 0, 3, EPS,
			       256 },
	[UNPU_SHADER_SAMPLE] = { 256, 64, 1 << 20, 1 << 20, 65536, 256, DRM_UNPU_LAYOUT_F32_R16,
				 1 << 20 },
};

static uint64_t max_bytes(uint32_t kind, uint32_t binding)
{
	const struct unpu_attn_const chunks = { 16384 };
	struct unpu_shader_need need;

	assert_int_equal(check(kind, max_specs[kind]), 0);
	assert_int_equal(unpu_shader_need(kind, max_specs[kind], &chunks,
					  kind == UNPU_SHADER_ATTN ? 4 : 0, &need), 0);
	return need.bytes[binding];
}

/* As powers of two, with nothing cut off at 32 bits. */
static void test_no_overflow(void **state)
{
	uint64_t partials = (258ull << 2) << (8 + 14 + 10);

	(void)state;
	assert_true(max_bytes(UNPU_SHADER_EMBED, UNPU_EMBED_QUANTS) == 1ull << 38);
	assert_true(max_bytes(UNPU_SHADER_EMBED, UNPU_EMBED_POSITIONS) == 1ull << 38);
	assert_true(max_bytes(UNPU_SHADER_QKV, UNPU_QKV_QUANTS) == (3ull << 18) * 65536 * 4);
	assert_true(max_bytes(UNPU_SHADER_QKV, UNPU_QKV_KV) == 1ull << (1 + 10 + 6 + 20 + 8 + 2));
	assert_true(max_bytes(UNPU_SHADER_QKV, UNPU_QKV_ROPE) == 1ull << 30);
	assert_true(max_bytes(UNPU_SHADER_ATTN, UNPU_ATTN_PARTIALS) == partials);
	assert_true(max_bytes(UNPU_SHADER_ATTN_OUT, UNPU_ATTN_OUT_PARTIALS) == partials);
	assert_true(max_bytes(UNPU_SHADER_ATTN_OUT, UNPU_ATTN_OUT_QUANTS) == 1ull << 36);
	assert_true(max_bytes(UNPU_SHADER_FFN_IN, UNPU_FFN_IN_QUANTS) == 1ull << 37);
	assert_true(max_bytes(UNPU_SHADER_FFN_OUT, UNPU_FFN_OUT_H) == 1ull << 28);
	assert_true(max_bytes(UNPU_SHADER_HEAD, UNPU_HEAD_LOGITS) == 1ull << 30);
	assert_true(max_bytes(UNPU_SHADER_HEAD, UNPU_HEAD_MAXIMA) == 1ull << 26);
	assert_true(max_bytes(UNPU_SHADER_SAMPLE, UNPU_SAMPLE_HISTORY) == 1ull << 28);
}

/* ---- layouts ------------------------------------------------------------------------------- */

/* 33 rows of 64, of 72 and of 512, by the description in layout.h: 64 x 64 and 64 x 96 padded. */
static void test_layouts(void **state)
{
	static const struct {
		const char *name;
		uint64_t quants64, quants72, scales72, scales512;
		unsigned int panel, scales, packed, quantised;
	} want[DRM_UNPU_LAYOUT_COUNT] = {
		{ "gguf-f32", 33 * 256, 33 * 288, 0, 0, 1, 0, 0, 0 },
		{ "gguf-f16", 33 * 128, 33 * 144, 0, 0, 1, 0, 0, 0 },
		{ "gguf-bf16", 33 * 128, 33 * 144, 0, 0, 1, 0, 0, 0 },
		{ "gguf-q8_0", 33 * 68, 33 * 102, 0, 0, 1, 0, 0, 1 },
		{ "gguf-q4_0", 33 * 36, 33 * 54, 0, 0, 1, 0, 0, 1 },
		{ "f32r16", 64 * 256, 64 * 384, 0, 0, 16, 0, 1, 0 },
		{ "f16r16", 64 * 128, 64 * 192, 0, 0, 16, 0, 1, 0 },
		{ "bf16r16", 64 * 128, 64 * 192, 0, 0, 16, 0, 1, 0 },
		{ "q8r8-k16", 64 * 64, 64 * 96, 64 * 6, 64 * 32, 8, 2, 1, 1 },
		{ "q8r8-k4", 64 * 64, 64 * 96, 64 * 6, 64 * 32, 8, 2, 1, 1 },
		{ "q8r16-k4u", 64 * 64, 64 * 96, 64 * 6, 64 * 32, 16, 2, 1, 1 },
		{ "q4r8-k16", 64 * 32, 64 * 48, 64 * 6, 64 * 32, 8, 2, 1, 1 },
		{ "q4r8-k4", 64 * 32, 64 * 48, 64 * 6, 64 * 32, 8, 2, 1, 1 },
		{ "q4r8-k4u", 64 * 32, 64 * 48, 64 * 6, 64 * 32, 8, 2, 1, 1 },
		{ "q4r16-k4u", 64 * 32, 64 * 48, 64 * 6, 64 * 32, 16, 2, 1, 1 },
		{ "f32r32", 64 * 256, 64 * 384, 0, 0, 32, 0, 1, 0 },
		{ "f16r32", 64 * 128, 64 * 192, 0, 0, 32, 0, 1, 0 },
		{ "q8r32", 64 * 64, 64 * 96, 64 * 6, 64 * 32, 32, 2, 1, 1 },
		{ "q4r32", 64 * 32, 64 * 48, 64 * 6, 64 * 32, 32, 2, 1, 1 },
		{ "q4kr8-k16", 64 * 32, 64 * 48, 64 * 20, 64 * 40, 8, 20, 1, 1 },
		{ "q4kr8-k4u", 64 * 32, 64 * 48, 64 * 20, 64 * 40, 8, 20, 1, 1 },
		{ "q4kr16-k4u", 64 * 32, 64 * 48, 64 * 20, 64 * 40, 16, 20, 1, 1 },
		{ "q6kr8-k16", 64 * 48, 64 * 72, 64 * 18, 64 * 36, 8, 18, 1, 1 },
		{ "q6kr8-k4", 64 * 48, 64 * 72, 64 * 18, 64 * 36, 8, 18, 1, 1 },
		{ "q6kr16-k4", 64 * 48, 64 * 72, 64 * 18, 64 * 36, 16, 18, 1, 1 },
		{ "q8ar8-k16", 64 * 64, 64 * 96, 64 * 36, 64 * 192, 8, 12, 1, 1 },
		{ "q8ar8-k4", 64 * 64, 64 * 96, 64 * 36, 64 * 192, 8, 12, 1, 1 },
		{ "q8ar16-k4u", 64 * 64, 64 * 96, 64 * 36, 64 * 192, 16, 12, 1, 1 },
	};
	uint32_t i;

	(void)state;
	for (i = 0; i < DRM_UNPU_LAYOUT_COUNT; i++) {
		const struct unpu_layout_info *info = unpu_layout_info(i);

		assert_string_equal(info->name, want[i].name);
		assert_int_equal(info->panel, want[i].panel);
		assert_int_equal(info->scales, want[i].scales);
		assert_int_equal(info->packed, want[i].packed);
		assert_int_equal(info->quantised, want[i].quantised);
		assert_int_equal(unpu_layout_quant_bytes(i, 33, 64), want[i].quants64);
		assert_int_equal(unpu_layout_quant_bytes(i, 33, 72), want[i].quants72);
		assert_int_equal(unpu_layout_scale_bytes(i, 33, 72), want[i].scales72);
		assert_int_equal(unpu_layout_scale_bytes(i, 33, 512), want[i].scales512);
	}
	assert_null(unpu_layout_info(DRM_UNPU_LAYOUT_COUNT));
	assert_int_equal(unpu_layout_quant_bytes(DRM_UNPU_LAYOUT_COUNT, 8, 32), 0);
	assert_int_equal(unpu_layout_scale_bytes(DRM_UNPU_LAYOUT_COUNT, 8, 32), 0);
	assert_true(unpu_layout_quant_bytes(DRM_UNPU_LAYOUT_F32_R16, 1u << 30, 1u << 30) ==
		    1ull << 62);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_spec_words),
		cmocka_unit_test(test_cross_rules),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_needs),
		cmocka_unit_test(test_constants),
		cmocka_unit_test(test_no_overflow),
		cmocka_unit_test(test_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
