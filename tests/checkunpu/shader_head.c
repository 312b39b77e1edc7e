/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

#define MAX_K	1536u

/* ---- head --------------------------------------------------------------------------------- */

static void compare_logits(const struct shader *sh, const double *w, uint32_t i)
{
	const struct unpu_head_spec *s = sh->spec;
	uint32_t k = unpu_pad32(s->hidden), out = shader_rows(sh)[i].out;
	const float *x = shader_floats(sh, UNPU_HEAD_X) + (size_t)i * k;
	const float *norm = shader_floats(sh, UNPU_HEAD_PARAMS), *bias = norm + k;
	const float *norm_bias = NULL;
	struct ball in[MAX_K];

	if (s->flags & UNPU_FLAG_NORM_BIAS) {
		norm_bias = bias;
		bias += k;
	}
	for (uint32_t j = 0; j < k; j++)
		in[j] = ball_of(x[j]);
	ball_norm(s->norm, in, norm, norm_bias, s->hidden, s->eps, in);
	ball_quantize(s->numeric, in, k);
	for (uint32_t r = 0; r < s->vocab; r++) {
		struct ball y = ball_dot(w + (size_t)r * k, in, k);

		if (s->flags & UNPU_FLAG_BIAS)
			y = ball_add(y, ball_of(bias[r]));
		shader_compare("logits", i, r,
			       shader_floats(sh, UNPU_HEAD_LOGITS)[out * s->vocab + r], y);
	}
}

/* Of the logits as they are: exact. */
static void compare_maxima(const struct shader *sh, uint32_t out)
{
	const struct unpu_head_spec *s = sh->spec;
	const float *logits = shader_floats(sh, UNPU_HEAD_LOGITS) + out * s->vocab;
	const uint8_t *maxima = sh->bufs[UNPU_HEAD_MAXIMA].data +
				out * (unpu_pad32(s->vocab) / 32) * 8;

	for (uint32_t g = 0; g < unpu_pad32(s->vocab) / 32; g++) {
		uint32_t best = g * 32, id;
		float max;
		int nan = 0;

		for (uint32_t r = g * 32; r < g * 32 + 32 && r < s->vocab; r++) {
			nan |= isnan(logits[r]);
			if (logits[r] > logits[best])
				best = r;
		}
		memcpy(&max, maxima + g * 8, 4);
		memcpy(&id, maxima + g * 8 + 4, 4);
		if (nan ? !isnan(max) : max != logits[best] || id != best)
			check_fail("group %u: max %g at %u, not %g at %u", g, max, id,
				   logits[best], best);
	}
}

static void check_matrix(const struct check_level *level, uint32_t layout, uint32_t numeric)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!check_begin(level, 1, "shader_head_%s_%s", info->name, numeric ? "a8" : "f32"))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_head_spec s = {
			.rows = shader_row_count(level, n), .slots = 1,
			.hidden = shader_width(level, n, 208),
			.vocab = 1 + check_below(600), .layout = layout, .numeric = numeric,
			.norm = check_below(2), .flags = check_below(4), .eps = 1e-5f,
		};
		uint32_t dropped;
		struct shader sh;
		double *w;

		if (info->quantised && !info->packed)
			s.hidden = unpu_pad32(s.hidden);
		s.logit_rows = s.rows;
		dropped = check_below(s.rows + 1);
		shader_init(&sh, level, UNPU_SHADER_HEAD, &s, NULL, n & 1);
		w = shader_weights(layout, s.vocab, s.hidden, 0, sh.bufs[UNPU_HEAD_QUANTS].data,
				   sh.bufs[UNPU_HEAD_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_HEAD_X), s.rows, s.hidden);
		if (n == 3)
			shader_floats(&sh, UNPU_HEAD_X)[0] = NAN;
		shader_random(shader_floats(&sh, UNPU_HEAD_PARAMS),
			      (uint32_t)(sh.need.bytes[UNPU_HEAD_PARAMS] / 4));
		shader_rows_init(&sh, s.rows, 0, 0);
		if (dropped < s.rows)
			shader_rows(&sh)[dropped].flags = 0;
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++) {
			if (i != dropped && (n != 3 || i))
				compare_logits(&sh, w, i);
			if (i != dropped)
				compare_maxima(&sh, i);
			else if (!check_untouched(shader_floats(&sh, UNPU_HEAD_LOGITS) +
						  i * s.vocab))
				check_fail("logits of row %u were not asked for", i);
		}
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_head(const struct check_level *level)
{
	shader_each_matrix(level, check_matrix);
}

/* ---- embed -------------------------------------------------------------------------------- */

static void check_table(const struct check_level *level, uint32_t layout)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (level->device && !ondevice_matrix(level->device, layout, DRM_UNPU_CLASS_F32))
		return;
	if (!check_begin(level, 1, "shader_embed_%s", info->name))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_embed_spec s = {
			.rows = 1 + check_below(6), .slots = 2, .vocab = 1 + check_below(100),
			.hidden = 8 + check_below(100), .layout = layout,
			.positions = n & 2 ? 20 : 0,
		};
		struct shader sh;
		uint32_t k;
		double *w;

		if (info->quantised && !info->packed)
			s.hidden = unpu_pad32(s.hidden);
		k = unpu_pad32(s.hidden);
		shader_init(&sh, level, UNPU_SHADER_EMBED, &s, NULL, n & 1);
		w = shader_weights(layout, s.vocab, s.hidden, 0, sh.bufs[UNPU_EMBED_QUANTS].data,
				   sh.bufs[UNPU_EMBED_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_EMBED_POSITIONS), s.positions,
				   s.hidden);
		shader_rows_init(&sh, s.rows, 0, s.positions);
		for (uint32_t i = 0; i < s.rows; i++)
			shader_rows(&sh)[i].token = i ? check_below(s.vocab) : s.vocab - 1;
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++) {
			const struct unpu_state_row *row = &shader_rows(&sh)[i];

			for (uint32_t j = 0; j < k; j++) {
				float want = (float)w[(size_t)row->token * k + j];

				if (s.positions)
					want += shader_floats(&sh, UNPU_EMBED_POSITIONS)
						[row->position * k + j];
				if (shader_floats(&sh, UNPU_EMBED_X)[i * k + j] != want)
					check_fail("row %u, %u: %g, not %g", i, j,
						   shader_floats(&sh, UNPU_EMBED_X)[i * k + j],
						   want);
			}
		}
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_embed(const struct check_level *level)
{
	for (uint32_t layout = 0; !level->only_matrices && layout < DRM_UNPU_LAYOUT_COUNT;
	     layout++)
		check_table(level, layout);
}

/* ---- copy --------------------------------------------------------------------------------- */

void check_shader_copy(const struct check_level *level)
{
	static const uint32_t sizes[] = { 4, 65532, 65536, 65540, 7 * 65536 + 12 };

	if (!check_begin(level, !level->only_matrices, "shader_copy"))
		return;
	for (uint32_t n = 0; n < 5; n++) {
		struct unpu_copy_const c = { .bytes_lo = sizes[n] };
		struct shader sh;

		for (uint32_t threads = 1; threads < 8; threads++) {
			shader_init(&sh, level, UNPU_SHADER_COPY, NULL, &c, threads & 1);
			for (uint32_t i = 0; i < sizes[n]; i++)
				sh.bufs[UNPU_COPY_SRC].data[i] = (uint8_t)check_rand();
			shader_run(&sh, threads);
			if (memcmp(sh.bufs[UNPU_COPY_SRC].data, sh.bufs[UNPU_COPY_DST].data,
				   sizes[n]))
				check_fail("%u bytes, %u threads: not the same", sizes[n],
					   threads);
			shader_finish(&sh);
		}
	}
	check_end();
}
