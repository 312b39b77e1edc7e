/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

/* ---- attn ------------------------------------------------------------------------------- */

static double cache_at(const struct shader *sh, size_t at)
{
	const struct unpu_attn_spec *s = sh->spec;

	const uint8_t *kv = sh->bufs[UNPU_ATTN_KV].data;
	size_t n = 2ul * s->kv_heads * s->slots * s->cells * s->head_dim;

	if (s->kv_type == DRM_UNPU_KV_INT8)
		return (double)((const int8_t *)kv)[at] *
		       (double)unpu_f16_float(((const uint16_t *)(kv + n))
					      [at / s->head_dim * unpu_kv_scales(s->head_dim) +
					       at % s->head_dim / 32]);
	if (s->kv_type == DRM_UNPU_KV_F16)
		return (double)unpu_f16_float(((const uint16_t *)kv)[at]);
	return (double)shader_floats(sh, UNPU_ATTN_KV)[at];
}

/* Half a step of q, where int8 may round it to 16 bits of the head's largest. */
static double half_q_step(const struct unpu_attn_spec *s, const float *q)
{
	double m = 0;

	for (uint32_t e = 0; s->kv_type == DRM_UNPU_KV_INT8 && e < s->head_dim; e++)
		m = fmax(m, fabs((double)q[e]));
	return 0.505 * m / 32767;
}

/* The same of weights times scales of V, summed over quants of at most 127 of n cells. */
static double half_value_step(const struct shader *sh, size_t first, uint32_t n, uint32_t e,
			      const double *weight)
{
	const struct unpu_attn_spec *s = sh->spec;
	size_t cells = 2ul * s->kv_heads * s->slots * s->cells;
	const uint16_t *scales = (const uint16_t *)(sh->bufs[UNPU_ATTN_KV].data +
						    cells * s->head_dim);
	double m = 0;

	if (s->kv_type != DRM_UNPU_KV_INT8)
		return 0;
	scales += first * unpu_kv_scales(s->head_dim) + e / 32;
	for (uint32_t j = 0; j < n; j++)
		m = fmax(m, weight[j] * unpu_f16_float(scales[j * unpu_kv_scales(s->head_dim)]));
	return n * 127.0 * 0.505 * m / 32767;
}

/* The partial of query head h over one chunk. */
static void compare_chunk(const struct shader *sh, uint32_t i, uint32_t h, uint32_t chunk)
{
	const struct unpu_attn_spec *s = sh->spec;
	const struct unpu_state_row *row = &shader_rows(sh)[i];
	uint32_t d = s->head_dim, first = chunk * 64, chunks = s->cells / 64;
	uint32_t n = row->cell + 1 - first < 64 ? row->cell + 1 - first : 64;
	const float *q = shader_floats(sh, UNPU_ATTN_Q) + (i * s->heads + h) * d;
	size_t head = h / (s->heads / s->kv_heads), at = (i * chunks + chunk) * s->heads + h;
	size_t kv = (head * s->slots + row->slot) * s->cells + first;
	size_t v = (size_t)s->kv_heads * s->slots * s->cells;
	const float *o = shader_floats(sh, UNPU_ATTN_PARTIALS) + at * d;
	const float *ms = shader_floats(sh, UNPU_ATTN_PARTIALS) +
			  (size_t)s->rows * chunks * s->heads * d + at * 2;
	double score[64], weight[64], score_e = 0, sum = 0, max = -INFINITY, rel;
	double step = half_q_step(s, q);

	for (uint32_t j = 0; j < n; j++) {
		double size = 0, k_size = 0;

		score[j] = 0;
		for (uint32_t e = 0; e < d; e++) {
			double k = cache_at(sh, (kv + j) * d + e) * s->scale;

			score[j] += q[e] * k;
			size += fabs(q[e] * k);
			k_size += fabs(k);
		}
		score_e = fmax(score_e, (d + 4) * ball_eps() * size + step * k_size);
		max = fmax(max, score[j]);
	}
	/* exp's argument is off by two scores' errors; then exp itself and the sum. */
	rel = 2.1 * score_e + (64 + 8) * ball_eps();
	for (uint32_t j = 0; j < n; j++) {
		rel = fmax(rel, 2.1 * score_e + (64 + 8 + 2 * (max - score[j])) *
					      ball_eps());
		weight[j] = exp(score[j] - max);
		sum += weight[j];
	}
	shader_compare("max", i, h, ms[0], (struct ball){ max, score_e });
	shader_compare("sum", i, h, ms[1], (struct ball){ sum, sum * rel });
	for (uint32_t e = 0; e < d; e++) {
		double out = 0, size = 0;

		for (uint32_t j = 0; j < n; j++) {
			double p = weight[j] * cache_at(sh, (v + kv + j) * d + e);

			out += p;
			size += fabs(p);
		}
		size = size * rel + half_value_step(sh, v + kv, n, e, weight) + 1e-30;
		shader_compare("o", i, h * d + e, o[e], (struct ball){ out, size });
	}
}

static void fill_cache(const struct shader *sh)
{
	const struct unpu_attn_spec *s = sh->spec;
	size_t cells = 2ul * s->kv_heads * s->slots * s->cells, n = cells * s->head_dim;
	uint8_t *kv = sh->bufs[UNPU_ATTN_KV].data;

	for (size_t i = 0; s->kv_type == DRM_UNPU_KV_INT8 &&
	     i < cells * unpu_kv_scales(s->head_dim); i++)
		((uint16_t *)(kv + n))[i] = unpu_float_f16(check_uniform(0, 2.0f / 127));
	for (size_t i = 0; i < n; i++) {
		float v = check_uniform(-2, 2);

		if (s->kv_type == DRM_UNPU_KV_INT8)
			((int8_t *)kv)[i] = (int8_t)((int)check_below(255) - 127);
		else if (s->kv_type == DRM_UNPU_KV_F16)
			((uint16_t *)kv)[i] = unpu_float_f16(v);
		else
			shader_floats(sh, UNPU_ATTN_KV)[i] = v;
	}
}

static void check_attn_chunks(const struct check_level *level, uint32_t kv_type, const char *name)
{
	static const uint32_t dims[] = { 8, 16, 24, 64, 128, 256 };
	static const uint32_t edges[] = { 0, 1, 31, 32, 63, 64, 127, 191 };

	if (!check_begin(level, shader_has_kv(level, kv_type), "shader_attn_%s", name))
		return;
	for (int n = 0; n < 7 && check_going_on(); n += check_cases(level, 2) == 2 ? 1 : 3) {
		struct unpu_attn_spec s = {
			.rows = n ? 1 + check_below(5) : 8, .slots = 1 + check_below(3),
			.cells = 64 * (n ? 1 + check_below(3) : 3),
			.kv_heads = 1 + check_below(3), .head_dim = dims[n < 6 ? n : 3],
			.kv_type = kv_type, .scale = 0.125f,
		};
		struct unpu_attn_const c = { .chunks = s.cells / 64 };
		struct shader sh;

		s.heads = n == 6 ? 16 : s.kv_heads * (1 + check_below(8));
		s.kv_heads = n == 6 ? 2 : s.kv_heads;
		shader_init(&sh, level, UNPU_SHADER_ATTN, &s, &c, n & 1);
		fill_cache(&sh);
		shader_random(shader_floats(&sh, UNPU_ATTN_Q), s.rows * s.heads * s.head_dim);
		shader_rows_init(&sh, s.rows, s.cells, 0);
		for (uint32_t i = 0; !n && i < 8; i++)
			shader_rows(&sh)[i].cell = edges[i];
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			for (uint32_t h = 0; h < s.heads; h++)
				for (uint32_t k = 0; k <= shader_rows(&sh)[i].cell / 64; k++)
					compare_chunk(&sh, i, h, k);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_attn(const struct check_level *level)
{
	if (level->only_matrices)
		return;
	check_attn_chunks(level, DRM_UNPU_KV_F32, "f32");
	check_attn_chunks(level, DRM_UNPU_KV_F16, "f16");
	check_attn_chunks(level, DRM_UNPU_KV_INT8, "int8");
}

/* ---- attn_out ----------------------------------------------------------------------------- */

/* The merged heads of row i. */
static void merge(const struct shader *sh, uint32_t i, struct ball *y)
{
	const struct unpu_attn_out_spec *s = sh->spec;
	uint32_t chunks = s->cells / 64, live = shader_rows(sh)[i].cell / 64 + 1, d = s->head_dim;
	const float *o = shader_floats(sh, UNPU_ATTN_OUT_PARTIALS);
	const float *ms = o + (size_t)s->rows * chunks * s->heads * d;

	for (uint32_t n = 0; n < s->heads * d; n++) {
		double max = -INFINITY, sum = 0, out = 0, size = 0, rel = 0;

		for (uint32_t c = 0; c < live; c++)
			max = fmax(max, ms[((i * chunks + c) * s->heads + n / d) * 2]);
		for (uint32_t c = 0; c < live; c++) {
			size_t at = (i * chunks + c) * s->heads + n / d;
			double e = exp(ms[at * 2] - max);

			sum += e * ms[at * 2 + 1];
			out += e * o[at * d + n % d];
			size += e * fabs(o[at * d + n % d]);
			rel = fmax(rel, (2 * live + 16 + 2 * (max - ms[at * 2])) *
					ball_eps());
		}
		y[n] = (struct ball){ out / sum, 2 * rel * size / sum + 1e-30 };
	}
	for (uint32_t n = s->heads * d; n < unpu_pad32(s->heads * d); n++)
		y[n] = ball_of(0);
}

static void fill_partials(const struct shader *sh)
{
	const struct unpu_attn_out_spec *s = sh->spec;
	uint32_t n = s->rows * (s->cells / 64) * s->heads;
	float *p = shader_floats(sh, UNPU_ATTN_OUT_PARTIALS);

	shader_random(p, n * s->head_dim);
	p += n * s->head_dim;
	for (uint32_t i = 0; i < n; i++) {
		p[2 * i] = check_uniform(-5, 5);
		p[2 * i + 1] = check_uniform(1, 64);
	}
}

static void compare_out(const struct shader *sh, const double *w, const float *before, uint32_t i)
{
	const struct unpu_attn_out_spec *s = sh->spec;
	uint32_t k = unpu_pad32(s->heads * s->head_dim), h = unpu_pad32(s->hidden);
	const float *bias = shader_floats(sh, UNPU_ATTN_OUT_PARAMS);
	struct ball *in = malloc(k * sizeof(*in));

	merge(sh, i, in);
	ball_quantize(s->numeric, in, k);
	for (uint32_t r = 0; r < h; r++) {
		struct ball y = r < s->hidden ? ball_dot(w + (size_t)r * k, in, k) : ball_of(0);

		if (s->flags & UNPU_FLAG_BIAS && r < s->hidden)
			y = ball_add(y, ball_of(bias[r]));
		y = ball_add(ball_of(before[i * h + r]), y);
		shader_compare("x", i, r, shader_floats(sh, UNPU_ATTN_OUT_X)[i * h + r],
			       r < s->hidden ? y : ball_of(0));
	}
	free(in);
}

static void check_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!check_begin(level, 1, "shader_attn_out_%s_%s", info->name, numeric ? "a8" : "f32"))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_attn_out_spec s = {
			.rows = shader_row_count(level, n), .slots = 2,
			.cells = n < 3 ? 128 : 4096,
			.hidden = 8 + check_below(150), .heads = 1 + check_below(5),
			.head_dim = 8 + 8 * check_below(4),
			.layout = layout, .numeric = numeric,
			.flags = n & 2 ? UNPU_FLAG_BIAS : 0,
		};
		struct shader sh;
		float *x, *before;
		double *w;

		if (info->group > 32)
			s.heads = info->group / (s.head_dim = 32u << check_below(3));
		else if (info->quantised && !info->packed)
			s.head_dim = 32;
		shader_init(&sh, level, UNPU_SHADER_ATTN_OUT, &s, NULL, n & 1);
		w = shader_weights(layout, s.hidden, s.heads * s.head_dim, 0,
				   sh.bufs[UNPU_ATTN_OUT_QUANTS].data,
				   sh.bufs[UNPU_ATTN_OUT_SCALES].data);
		fill_partials(&sh);
		shader_random_rows(shader_floats(&sh, UNPU_ATTN_OUT_PARAMS),
				   !!(s.flags & UNPU_FLAG_BIAS), s.hidden);
		x = shader_floats(&sh, UNPU_ATTN_OUT_X);
		shader_random_rows(x, s.rows, s.hidden);
		before = malloc(sh.need.bytes[UNPU_ATTN_OUT_X]);
		memcpy(before, x, sh.need.bytes[UNPU_ATTN_OUT_X]);
		shader_rows_init(&sh, s.rows, s.cells, 0);
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			compare_out(&sh, w, before, i);
		free(before);
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_attn_out(const struct check_level *level)
{
	shader_each_matrix(level, check_matrix);
}
