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

		s.hidden = shader_whole(layout, s.hidden);
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

/* x is the row of the table, and what its position adds. */
static void compare_row(const struct shader *sh, const double *w, uint32_t i, uint32_t hidden,
			const float *x, const float *positions)
{
	const struct unpu_state_row *row = &shader_rows(sh)[i];
	uint32_t k = unpu_pad32(hidden);

	for (uint32_t j = 0; j < k; j++) {
		float want = (float)w[(size_t)row->token * k + j];

		if (positions)
			want += positions[row->position * k + j];
		if (x[i * k + j] != want)
			check_fail("row %u, %u: %g, not %g", i, j, x[i * k + j], want);
	}
}

static void check_table(const struct check_level *level, uint32_t layout)
{
	if (level->device && !ondevice_matrix(level->device, layout, DRM_UNPU_CLASS_F32))
		return;
	if (!check_begin(level, 1, "shader_embed_%s", unpu_layout_info(layout)->name))
		return;
	for (int n = 0; n < check_cases(level, 4) && check_going_on(); n++) {
		struct unpu_embed_spec s = {
			.rows = 1 + check_below(6), .slots = 2, .vocab = 1 + check_below(100),
			.hidden = 8 + check_below(100), .layout = layout,
			.positions = n & 2 ? 20 : 0,
		};
		struct shader sh;
		double *w;

		s.hidden = shader_whole(layout, s.hidden);
		shader_init(&sh, level, UNPU_SHADER_EMBED, &s, NULL, n & 1);
		w = shader_weights(layout, s.vocab, s.hidden, 0, sh.bufs[UNPU_EMBED_QUANTS].data,
				   sh.bufs[UNPU_EMBED_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_EMBED_POSITIONS), s.positions,
				   s.hidden);
		shader_rows_init(&sh, s.rows, 0, s.positions);
		for (uint32_t i = 0; i < s.rows; i++)
			shader_rows(&sh)[i].token = i ? check_below(s.vocab) : s.vocab - 1;
		shader_run_pure(&sh);
		for (uint32_t i = 0; i < s.rows; i++)
			compare_row(&sh, w, i, s.hidden, shader_floats(&sh, UNPU_EMBED_X),
				    s.positions ? shader_floats(&sh, UNPU_EMBED_POSITIONS) : NULL);
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

/* Logits with one largest, the maxima of their groups, and settings that take it. */
static void fill_sample(const struct shader *sh, const uint32_t *tokens)
{
	const struct unpu_sample_spec *s = sh->spec;
	uint32_t groups = unpu_pad32(s->vocab) / 32;

	memset(sh->bufs[UNPU_SAMPLE_HISTORY].data, 0, sh->bufs[UNPU_SAMPLE_HISTORY].bytes);
	shader_samplers(sh)[0] = (struct unpu_state_sampler){ .top_p = 1, .repeat_penalty = 1 };
	for (uint32_t i = 0; i < s->rows; i++) {
		float *logits = shader_floats(sh, UNPU_SAMPLE_LOGITS) + i * s->vocab;
		uint8_t *maxima = sh->bufs[UNPU_SAMPLE_MAXIMA].data + i * groups * 8;

		for (uint32_t r = 0; r < s->vocab; r++)
			logits[r] = r == tokens[i] ? 2 : check_uniform(-1, 1);
		for (uint32_t g = 0; g < groups; g++) {
			uint32_t best = g * 32;

			for (uint32_t r = g * 32; r < g * 32 + 32 && r < s->vocab; r++)
				if (logits[r] > logits[best])
					best = r;
			memcpy(maxima + g * 8, &logits[best], 4);
			memcpy(maxima + g * 8 + 4, &best, 4);
		}
	}
}

/* What `sample` leaves for the next token is the row of the one it chose. */
static void check_next(const struct check_level *level, uint32_t layout)
{
	if (level->device && !ondevice_matrix(level->device, layout, DRM_UNPU_CLASS_F32))
		return;
	if (!check_begin(level, 1, "shader_next_%s", unpu_layout_info(layout)->name))
		return;
	/* `sample` is the shader that takes a device longest to compile: once a layout. */
	for (int n = level->device ? 3 : 0; n < 4 && check_going_on(); n++) {
		uint32_t rows = 1 + check_below(6), tokens[6];
		struct unpu_sample_spec s = {
			.rows = rows, .slots = 1, .cells = 64, .vocab = 1 + check_below(100),
			.hidden = shader_whole(layout, 8 + check_below(100)), .logit_rows = rows,
			.layout = layout, .positions = n & 2 ? 20 : 0,
		};
		struct shader sh;
		double *w;

		shader_init(&sh, level, UNPU_SHADER_SAMPLE, &s, NULL, n & 1);
		w = shader_weights(layout, s.vocab, s.hidden, 0, sh.bufs[UNPU_SAMPLE_QUANTS].data,
				   sh.bufs[UNPU_SAMPLE_SCALES].data);
		shader_random_rows(shader_floats(&sh, UNPU_SAMPLE_POSITIONS), s.positions,
				   s.hidden);
		shader_rows_init(&sh, rows, 32, 19);
		for (uint32_t i = 0; i < rows; i++)
			tokens[i] = i ? check_below(s.vocab) : s.vocab - 1;
		fill_sample(&sh, tokens);
		shader_run(&sh, 2);
		if (shader_state(&sh)->rows_live != rows)
			check_fail("%u rows live, not %u", shader_state(&sh)->rows_live, rows);
		for (uint32_t i = 0; i < rows && check_going_on(); i++) {
			if (shader_rows(&sh)[i].token != tokens[i])
				check_fail("row %u: token %u, not %u", i,
					   shader_rows(&sh)[i].token, tokens[i]);
			else
				compare_row(&sh, w, i, s.hidden,
					    shader_floats(&sh, UNPU_SAMPLE_X), s.positions ?
					    shader_floats(&sh, UNPU_SAMPLE_POSITIONS) : NULL);
		}
		free(w);
		shader_finish(&sh);
	}
	check_end();
}

void check_shader_embed(const struct check_level *level)
{
	for (uint32_t layout = 0; !level->only_matrices && layout < DRM_UNPU_LAYOUT_COUNT;
	     layout++) {
		check_table(level, layout);
		check_next(level, layout);
	}
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
