/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

#define MAX_K	1536u

/* Odd widths, so that padding is met; a row of quantised GGUF blocks or of groups has none. */
static uint32_t width(const struct check_level *level, int n, uint32_t layout, uint32_t most)
{
	return shader_whole(layout, shader_width(level, n, most));
}

/* ---- ffn_in ------------------------------------------------------------------------------- */

static void compare_in(const struct shader *sh, const double *w, uint32_t i)
{
	const struct unpu_ffn_in_spec *s = sh->spec;
	uint32_t k = unpu_pad32(s->hidden), gated = s->flags & UNPU_FLAG_GATED;
	const float *x = shader_floats(sh, UNPU_FFN_IN_X) + (size_t)i * k;
	const float *norm = shader_floats(sh, UNPU_FFN_IN_PARAMS), *bias = norm + k;
	const float *norm_bias = NULL;
	const float *h = shader_floats(sh, UNPU_FFN_IN_H) + (size_t)i * unpu_pad32(s->ffn);
	struct ball in[MAX_K];

	if (s->flags & UNPU_FLAG_NORM_BIAS) {
		norm_bias = bias;
		bias += k;
	}
	for (uint32_t j = 0; j < k; j++)
		in[j] = ball_of(x[j]);
	ball_norm(s->norm, in, norm, norm_bias, s->hidden, s->eps, in);
	ball_quantize(s->numeric, in, k);
	for (uint32_t j = 0; j < unpu_pad32(s->ffn); j++) {
		uint32_t r = gated ? j / 32 * 64 + j % 32 : j;
		struct ball y = ball_of(0);

		for (uint32_t half = gated ? 2 : 1; half-- > 0 && j < s->ffn;) {
			struct ball z = ball_dot(w + (size_t)(r + 32 * half) * k, in, k);

			if (s->flags & UNPU_FLAG_BIAS)
				z = ball_add(z, ball_of(bias[r + 32 * half]));
			if (half)
				y = z;
			else
				y = gated ? ball_mul(ball_act(s->act, z), y) : ball_act(s->act, z);
		}
		shader_compare("h", i, j, h[j], y);
	}
}

static void check_in_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	if (!check_begin(level, 1, "shader_ffn_in_%s_%s", unpu_layout_info(layout)->name,
			 numeric ? "a8" : "f32"))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_ffn_in_spec s = {
			.rows = shader_row_count(level, n), .slots = 1,
			.hidden = width(level, n, layout, 200), .ffn = 1 + check_below(400),
			.layout = layout, .numeric = numeric, .norm = check_below(2),
			.act = check_below(3), .eps = 1e-6f,
			.flags = check_below(4) | (n & 1 ? UNPU_FLAG_GATED : 0),
		};
		int gated = n & 1;
		struct shader sh;
		double *w;

		shader_init(&sh, level, UNPU_SHADER_FFN_IN, &s, NULL, n >> 1 & 1);
		w = shader_weights(layout, gated ? 2 * unpu_pad32(s.ffn) : s.ffn, s.hidden,
				   gated ? s.ffn : 0, sh.bufs[UNPU_FFN_IN_QUANTS].data,
				   sh.bufs[UNPU_FFN_IN_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_FFN_IN_X), s.rows, s.hidden);
		shader_random(shader_floats(&sh, UNPU_FFN_IN_PARAMS),
			      (uint32_t)(sh.need.bytes[UNPU_FFN_IN_PARAMS] / 4));
		shader_rows_init(&sh, s.rows, 0, 0);
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			compare_in(&sh, w, i);
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_ffn_in(const struct check_level *level)
{
	shader_each_matrix(level, check_in_matrix);
}

/* ---- ffn_out ------------------------------------------------------------------------------ */

static void compare_out(const struct shader *sh, const double *w, const float *before, uint32_t i)
{
	const struct unpu_ffn_out_spec *s = sh->spec;
	uint32_t k = unpu_pad32(s->ffn), hidden = unpu_pad32(s->hidden);
	const float *h = shader_floats(sh, UNPU_FFN_OUT_H) + (size_t)i * k;
	const float *bias = shader_floats(sh, UNPU_FFN_OUT_PARAMS);
	struct ball in[MAX_K];

	for (uint32_t j = 0; j < k; j++)
		in[j] = ball_of(h[j]);
	ball_quantize(s->numeric, in, k);
	for (uint32_t r = 0; r < hidden; r++) {
		struct ball y = ball_of(0);

		if (r < s->hidden) {
			y = ball_dot(w + (size_t)r * k, in, k);
			if (s->flags & UNPU_FLAG_BIAS)
				y = ball_add(y, ball_of(bias[r]));
			y = ball_add(ball_of(before[i * hidden + r]), y);
		}
		shader_compare("x", i, r, shader_floats(sh, UNPU_FFN_OUT_X)[i * hidden + r], y);
	}
}

static void check_out_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	if (!check_begin(level, 1, "shader_ffn_out_%s_%s", unpu_layout_info(layout)->name,
			 numeric ? "a8" : "f32"))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_ffn_out_spec s = {
			.rows = shader_row_count(level, n), .slots = 1,
			.hidden = 8 + check_below(200), .ffn = width(level, n, layout, 400),
			.layout = layout, .numeric = numeric, .flags = n & 2 ? UNPU_FLAG_BIAS : 0,
		};
		struct shader sh;
		float *x, *before;
		double *w;

		shader_init(&sh, level, UNPU_SHADER_FFN_OUT, &s, NULL, n & 1);
		w = shader_weights(layout, s.hidden, s.ffn, 0, sh.bufs[UNPU_FFN_OUT_QUANTS].data,
				   sh.bufs[UNPU_FFN_OUT_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_FFN_OUT_H), s.rows, s.ffn);
		shader_random_rows(shader_floats(&sh, UNPU_FFN_OUT_PARAMS),
				   !!(s.flags & UNPU_FLAG_BIAS), s.hidden);
		x = shader_floats(&sh, UNPU_FFN_OUT_X);
		shader_random_rows(x, s.rows, s.hidden);
		before = malloc(sh.need.bytes[UNPU_FFN_OUT_X]);
		memcpy(before, x, sh.need.bytes[UNPU_FFN_OUT_X]);
		shader_rows_init(&sh, s.rows, 0, 0);
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			compare_out(&sh, w, before, i);
		free(before);
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_ffn_out(const struct check_level *level)
{
	shader_each_matrix(level, check_out_matrix);
}
