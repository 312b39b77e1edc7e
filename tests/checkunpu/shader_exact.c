/* SPDX-License-Identifier: MIT */
/*
 * Inputs whose results no order of additions and no rounding to int8 changes: weights are small
 * integers times 2^-3 or 2^-4, activations integers times 2^-7 whose largest of each 32 is 127.
 * What is integer arithmetic on a device is so compared bit for bit; and the same a hundred times.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

#define UNIT	0x1p-11		/* of all sums */

struct exact {
	uint32_t layout, numeric, rows, hidden;
	uint32_t k;		/* a multiple of 32 */
	int half;
	double *w;
	float *in, *bias;	/* [rows][k], [pad32(hidden)] */
};

/* Products of f16 arithmetic, and sums of a few of them, must have 11 bits. */
static uint32_t weight_limit(const struct exact *e)
{
	if (e->half)
		return 7;
	return unpu_layout_info(e->layout)->bits == 4 ? 7 : 127;
}

static void fill_inputs(struct exact *e)
{
	uint32_t limit = e->half ? 15 : 127;

	for (uint32_t n = 0; n < e->rows * e->k; n++)
		e->in[n] = (float)((int)check_below(2 * limit + 1) - (int)limit) * 0x1p-7f;
	for (uint32_t n = 0; n < e->rows * e->k; n += 32)
		e->in[n + check_below(32)] = (float)limit * (check_below(2) ? -0x1p-7f : 0x1p-7f);
	for (uint32_t i = 0; i < e->hidden; i++)
		e->bias[i] = (float)((int)check_below(255) - 127) * 0x1p-4f;
}

static void compare(const struct exact *e, const float *x, int inexact)
{
	uint32_t k = e->k;

	for (uint32_t i = 0; i < e->rows; i++)
		for (uint32_t r = 0; r < e->hidden; r++) {
			float got = x[i * unpu_pad32(e->hidden) + r];
			double want = (double)e->bias[r];

			for (uint32_t j = 0; j < k; j++)
				want += e->w[(size_t)r * k + j] * (double)e->in[i * k + j];
			if (!(fabs((double)got - want) <= (inexact ? UNIT / 4 : 0)) &&
			    check_going_on())
				check_fail("row %u, %u: %.9g, not %.9g", i, r, got, want);
		}
}

/* Bit-equal a hundred times; x begins as zeros each time. */
static void run(struct shader *sh, const struct exact *e, float *x, int inexact)
{
	size_t bytes = (size_t)e->rows * unpu_pad32(e->hidden) * sizeof(*x);
	float *first = malloc(bytes);

	for (int n = 0; n < (sh->device ? 100 : 2) && check_going_on(); n++) {
		memset(x, 0, bytes);
		shader_run(sh, 1 + (uint32_t)n);
		if (!n)
			memcpy(first, x, bytes);
		else if (memcmp(first, x, bytes))
			check_fail("run %d differs from the first", n);
	}
	compare(e, x, inexact);
	free(first);
}

static void begin(struct exact *e, struct shader *sh, uint32_t quants)
{
	e->half = sh->device && ondevice_half(sh->device);
	e->w = shader_weights_exact(e->layout, e->hidden, e->k, weight_limit(e),
				    sh->bufs[quants].data, sh->bufs[quants + 1].data);
	e->in = calloc((size_t)e->rows * e->k, sizeof(*e->in));
	e->bias = calloc(unpu_pad32(e->hidden), sizeof(*e->bias));
	fill_inputs(e);
}

static void finish(struct exact *e, struct shader *sh)
{
	free(e->w);
	free(e->in);
	free(e->bias);
	shader_finish(sh);
}

static void check_ffn_out(const struct check_level *level, struct exact *e)
{
	const struct unpu_ffn_out_spec s = {
		.rows = e->rows, .slots = 1, .hidden = e->hidden, .ffn = e->k,
		.layout = e->layout, .numeric = e->numeric, .flags = UNPU_FLAG_BIAS,
	};
	struct shader sh;

	shader_init(&sh, level, UNPU_SHADER_FFN_OUT, &s, NULL, CHECK_BACK);
	begin(e, &sh, UNPU_FFN_OUT_QUANTS);
	memcpy(shader_floats(&sh, UNPU_FFN_OUT_H), e->in, sh.need.bytes[UNPU_FFN_OUT_H]);
	memcpy(shader_floats(&sh, UNPU_FFN_OUT_PARAMS), e->bias,
	       sh.need.bytes[UNPU_FFN_OUT_PARAMS]);
	shader_rows_init(&sh, e->rows, 0, 0);
	/* What Vulkan lets a division by 127 be off cannot hide a wrong sum. */
	run(&sh, e, shader_floats(&sh, UNPU_FFN_OUT_X),
	    sh.device && e->numeric == DRM_UNPU_CLASS_A8);
	finish(e, &sh);
}

/* One chunk whose weights sum up to 1: merging changes nothing. */
static void check_attn_out(const struct check_level *level, struct exact *e)
{
	const struct unpu_attn_out_spec s = {
		.rows = e->rows, .slots = 1, .cells = 64, .hidden = e->hidden, .heads = e->k / 32,
		.head_dim = 32, .layout = e->layout, .numeric = e->numeric,
		.flags = UNPU_FLAG_BIAS,
	};
	struct shader sh;
	float *partials;

	shader_init(&sh, level, UNPU_SHADER_ATTN_OUT, &s, NULL, CHECK_FRONT);
	begin(e, &sh, UNPU_ATTN_OUT_QUANTS);
	partials = shader_floats(&sh, UNPU_ATTN_OUT_PARTIALS);
	memcpy(partials, e->in, (size_t)e->rows * e->k * sizeof(float));
	for (uint32_t i = 0; i < e->rows * s.heads; i++) {
		partials[e->rows * e->k + 2 * i] = check_uniform(-5, 5);
		partials[e->rows * e->k + 2 * i + 1] = 1;
	}
	memcpy(shader_floats(&sh, UNPU_ATTN_OUT_PARAMS), e->bias,
	       sh.need.bytes[UNPU_ATTN_OUT_PARAMS]);
	shader_rows_init(&sh, e->rows, 64, 0);
	run(&sh, e, shader_floats(&sh, UNPU_ATTN_OUT_X), !!sh.device);
	finish(e, &sh);
}

static void check_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	static const uint32_t widths[] = { 32, 64, 96, 160, 576 }, rows[] = { 1, 3, 8, 17 };

	if (!check_begin(level, 1, "shader_exact_%s_%s", unpu_layout_info(layout)->name,
			 numeric ? "a8" : "f32"))
		return;
	for (uint32_t n = 0; n < (uint32_t)check_cases(level, 4) && check_going_on(); n++) {
		struct exact e = {
			.layout = layout, .numeric = numeric, .rows = rows[n],
			.k = widths[check_below(5)], .hidden = 8 + check_below(100),
		};

		e.k = shader_whole(layout, e.k);

		if (n & 1)
			check_attn_out(level, &e);
		else
			check_ffn_out(level, &e);
	}
	check_end();
}

void check_shader_exact(const struct check_level *level)
{
	shader_each_matrix(level, check_matrix);
}
