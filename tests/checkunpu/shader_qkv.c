/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

#define SLOTS	3u
#define MAX_DIM	256u
#define MAX_K	1536u

static uint32_t pick(const uint32_t *list, uint32_t n)
{
	return list[check_below(n)];
}

static void make_spec(struct unpu_qkv_spec *s, const struct check_level *level, uint32_t layout,
		      uint32_t numeric, int n)
{
	static const uint32_t dims[] = { 8, 16, 24, 40, 64, 96, 128, 256 }, kv[] = { 1, 2, 3 };

	*s = (struct unpu_qkv_spec){
		.rows = shader_row_count(level, n), .slots = SLOTS,
		.cells = 64 * (1 + check_below(2)), .hidden = shader_width(level, n, 208),
		.kv_heads = pick(kv, 3), .head_dim = pick(dims, 8),
		.layout = layout, .numeric = numeric, .kv_type = check_below(3),
		.norm = check_below(2), .eps = 1e-5f, .rope = check_below(3),
	};
	while (!shader_has_kv(level, s->kv_type))
		s->kv_type = check_below(3);
	s->hidden = shader_whole(layout, s->hidden);
	s->heads = s->kv_heads * (1 + check_below(3));
	s->flags = check_below(8);	/* NORM_BIAS, BIAS and */
	s->flags = (s->flags & 3) | (s->flags & 4 ? UNPU_FLAG_QK_NORM : 0);
	if (s->rope) {
		s->rope_dims = 2 * (1 + check_below(s->head_dim / 2));
		s->positions = 100;
	}
}

struct params {
	const float *norm, *norm_bias, *bias, *q_norm, *k_norm;
};

static void split_params(const struct unpu_qkv_spec *s, const float *p, struct params *out)
{
	*out = (struct params){ .norm = p };
	p += unpu_pad32(s->hidden);
	if (s->flags & UNPU_FLAG_NORM_BIAS) {
		out->norm_bias = p;
		p += unpu_pad32(s->hidden);
	}
	if (s->flags & UNPU_FLAG_BIAS) {
		out->bias = p;
		p += unpu_pad32(unpu_qkv_rows(s));
	}
	if (s->flags & UNPU_FLAG_QK_NORM) {
		out->q_norm = p;
		out->k_norm = p + s->head_dim;
	}
}

static void turn(const struct unpu_qkv_spec *s, const float *table, uint32_t position,
		 struct ball *y)
{
	for (uint32_t i = 0; i < s->rope_dims / 2; i++) {
		uint32_t a = s->rope == UNPU_ROPE_PAIRS ? 2 * i : i;
		uint32_t b = s->rope == UNPU_ROPE_PAIRS ? 2 * i + 1 : i + s->rope_dims / 2;
		struct ball cos = ball_of(table[position * s->rope_dims + 2 * i]);
		struct ball sin = ball_of(table[position * s->rope_dims + 2 * i + 1]);
		struct ball minus_sin = ball_of(-sin.v), u = y[a], v = y[b];

		y[a] = ball_add(ball_mul(u, cos), ball_mul(v, minus_sin));
		y[b] = ball_add(ball_mul(u, sin), ball_mul(v, cos));
	}
}

/* What was stored is near the numbers that come of y; the scale past the last block is 0. */
static void compare_int8(const struct shader *sh, uint32_t i, uint32_t unit, const struct ball *y,
			 size_t cell)
{
	const struct unpu_qkv_spec *s = sh->spec;
	size_t n = 2ul * s->kv_heads * s->slots * s->cells * s->head_dim;
	uint32_t d = s->head_dim, blocks = unpu_pad32(d) / 32;
	const uint8_t *kv = sh->bufs[UNPU_QKV_KV].data;
	const uint16_t *scales = (const uint16_t *)(kv + n) + cell * unpu_kv_scales(d);
	struct ball x[MAX_DIM] = { 0 };

	memcpy(x, y, d * sizeof(*x));
	ball_quantize(DRM_UNPU_CLASS_A8, x, unpu_pad32(d));
	for (uint32_t j = 0; j < d; j++) {
		int q = ((const int8_t *)kv)[cell * d + j];
		float scale = unpu_f16_float(scales[j / 32]);

		/* 127 times the half of a step, were it subnormal; else 2^-11 of the value */
		x[j].e += (fabs(x[j].v) + x[j].e) * 0x1p-11 + 127 * 0x1p-25;
		shader_compare("kv", i, unit, (float)q * scale, x[j]);
		if (q == -128)
			check_fail("row %u, unit %u: a quant is -128", i, unit);
	}
	if (blocks % 2 && scales[blocks])
		check_fail("row %u, unit %u: the last scale is %#x", i, unit, scales[blocks]);
}

static void compare_head(const struct shader *sh, uint32_t i, uint32_t unit, const struct ball *y)
{
	const struct unpu_qkv_spec *s = sh->spec;
	const struct unpu_state_row *row = &shader_rows(sh)[i];
	size_t cell = ((size_t)(unit - s->heads) * s->slots + row->slot) * s->cells + row->cell;

	if (unit >= s->heads && s->kv_type == DRM_UNPU_KV_INT8) {
		compare_int8(sh, i, unit, y, cell);
		return;
	}
	cell *= s->head_dim;
	for (uint32_t j = 0; j < s->head_dim; j++) {
		if (unit < s->heads)
			shader_compare("q", i, unit * s->head_dim + j,
				       shader_floats(sh, UNPU_QKV_Q)[(i * s->heads + unit) *
								     s->head_dim + j], y[j]);
		else if (s->kv_type == DRM_UNPU_KV_F32)
			shader_compare("kv", i, unit, shader_floats(sh, UNPU_QKV_KV)[cell + j],
				       y[j]);
		else
			shader_compare("kv", i, unit,
				       unpu_f16_float(((uint16_t *)sh->bufs[UNPU_QKV_KV].data)
						      [cell + j]), ball_f16(y[j]));
	}
}

static void compare_row(const struct shader *sh, const double *w, uint32_t i)
{
	const struct unpu_qkv_spec *s = sh->spec;
	uint32_t k = unpu_pad32(s->hidden), d = s->head_dim;
	const float *x = shader_floats(sh, UNPU_QKV_X) + (size_t)i * k;
	struct ball in[MAX_K], y[MAX_DIM], normed[MAX_DIM];
	struct params p;

	split_params(s, shader_floats(sh, UNPU_QKV_PARAMS), &p);
	for (uint32_t j = 0; j < k; j++)
		in[j] = ball_of(x[j]);
	ball_norm(s->norm, in, p.norm, p.norm_bias, s->hidden, s->eps, in);
	ball_quantize(s->numeric, in, k);
	for (uint32_t unit = 0; unit < s->heads + 2 * s->kv_heads; unit++) {
		const float *weight = unit < s->heads ? p.q_norm : p.k_norm;

		for (uint32_t j = 0; j < d; j++) {
			y[j] = ball_dot(w + (size_t)(unit * d + j) * k, in, k);
			if (p.bias)
				y[j] = ball_add(y[j], ball_of(p.bias[unit * d + j]));
		}
		if (unit < s->heads + s->kv_heads) {
			if (weight) {
				ball_norm(UNPU_NORM_RMS, y, weight, NULL, d, s->eps, normed);
				memcpy(y, normed, d * sizeof(*y));
			}
			turn(s, shader_floats(sh, UNPU_QKV_ROPE), shader_rows(sh)[i].position, y);
		}
		compare_head(sh, i, unit, y);
	}
}

/* Nothing but the rows' own cells is touched. */
static void compare_rest(const struct shader *sh, uint32_t live)
{
	const struct unpu_qkv_spec *s = sh->spec;
	size_t bytes = unpu_kv_cell_bytes(s->kv_type, s->head_dim);
	size_t scale_bytes = unpu_kv_scale_bytes(s->kv_type, s->head_dim);
	const uint8_t *kv = sh->bufs[UNPU_QKV_KV].data;
	const uint8_t *scales = kv + 2 * s->kv_heads * s->slots * s->cells * bytes;
	const struct unpu_state_row *rows = shader_rows(sh);

	for (uint32_t n = 0; n < 2 * s->kv_heads * s->slots * s->cells; n++) {
		uint32_t slot = n / s->cells % s->slots, cell = n % s->cells, i = 0;

		while (i < live && (rows[i].slot != slot || rows[i].cell != cell))
			i++;
		if (i == live && (!check_untouched(kv + n * bytes) ||
				  (scale_bytes && !check_untouched(scales + n * scale_bytes))))
			check_fail("cell %u of slot %u was written", cell, slot);
	}
}

static void check_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	struct unpu_qkv_spec s;
	struct shader sh;

	if (!check_begin(level, 1, "shader_qkv_%s_%s", unpu_layout_info(layout)->name,
			 numeric ? "a8" : "f32"))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		double *w;

		make_spec(&s, level, layout, numeric, n);
		shader_init(&sh, level, UNPU_SHADER_QKV, &s, NULL, n & 1);
		w = shader_weights(layout, unpu_qkv_rows(&s), s.hidden, 0,
				   sh.bufs[UNPU_QKV_QUANTS].data, sh.bufs[UNPU_QKV_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_QKV_X), s.rows, s.hidden);
		shader_random(shader_floats(&sh, UNPU_QKV_PARAMS),
			      (uint32_t)(sh.need.bytes[UNPU_QKV_PARAMS] / 4));
		for (uint32_t i = 0; i < sh.need.bytes[UNPU_QKV_ROPE] / 4; i++)
			shader_floats(&sh, UNPU_QKV_ROPE)[i] = check_uniform(-1, 1);
		shader_rows_init(&sh, s.rows, s.cells, s.positions);
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			compare_row(&sh, w, i);
		compare_rest(&sh, s.rows);
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_qkv(const struct check_level *level)
{
	shader_each_matrix(level, check_matrix);
}
