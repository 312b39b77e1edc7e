/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

struct ffn_in {
	const struct unpu_twin_args *args;
	const struct unpu_ffn_in_spec *s;
	struct unpu_twin_norm norm;
	struct unpu_twin_matrix matrix;
	const float *bias;	/* NULL when off */
	uint32_t wide;		/* packed rows of one unit of 32 outputs */
};

static uint32_t ffn_in_wide(const struct unpu_ffn_in_spec *s)
{
	return s->flags & UNPU_FLAG_GATED ? 2 * UNPU_TWIN_UNIT : UNPU_TWIN_UNIT;
}

static void ffn_in_init(struct ffn_in *c, const struct unpu_twin_args *args)
{
	const struct unpu_ffn_in_spec *s = args->spec;
	const float *params = args->bindings[UNPU_FFN_IN_PARAMS];

	*c = (struct ffn_in){ .args = args, .s = s, .wide = ffn_in_wide(s) };
	c->matrix = (struct unpu_twin_matrix){
		.layout = s->layout, .numeric = s->numeric, .k = s->hidden,
		.rows = s->flags & UNPU_FLAG_GATED ? 2 * unpu_pad32(s->ffn) : s->ffn,
		.quants = args->bindings[UNPU_FFN_IN_QUANTS],
		.scales = args->bindings[UNPU_FFN_IN_SCALES],
	};
	params = unpu_twin_norm_init(&c->norm, s->norm, s->flags, s->hidden, s->eps, params);
	if (s->flags & UNPU_FLAG_BIAS)
		c->bias = params;
}

static void ffn_in_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_ffn_in_spec *s = spec;
	uint32_t units = unpu_pad32(s->ffn) / UNPU_TWIN_UNIT;

	(void)threads;
	need->shared = unpu_twin_input_bytes(s->rows, s->hidden);
	need->local = unpu_twin_input_bytes(1, s->hidden) +
		      unpu_twin_y_bytes(s->rows, ffn_in_wide(s), units);
}

static void ffn_in_input(const struct ffn_in *c, const struct unpu_twin_input *in, uint32_t i)
{
	const float *x = c->args->bindings[UNPU_FFN_IN_X];

	unpu_twin_norm_row(&c->norm, c->args->ops, x + (size_t)i * in->k, in, i, c->s->numeric);
}

static void ffn_in_prepare(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct ffn_in c;

	ffn_in_init(&c, args);
	unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	while (unpu_twin_take(args, args->view->live, &part))
		for (uint32_t i = part.first; i < part.last; i++)
			ffn_in_input(&c, &in, i);
}

/* Unit's outputs of row i. Rows of W past ffn are zero and act(0) is 0, but a bias is not: the
 * padding of h is what Wdown's padding is multiplied by, and NaN x 0 is not 0. */
static void ffn_in_unit(const struct ffn_in *c, uint32_t unit, uint32_t i, float *y)
{
	uint32_t first = unit * UNPU_TWIN_UNIT, ffn = c->s->ffn;
	float *h = c->args->bindings[UNPU_FFN_IN_H];

	h += (size_t)i * unpu_pad32(ffn) + first;
	if (c->bias)
		for (uint32_t j = 0; j < c->wide; j++)
			y[j] += c->bias[(size_t)unit * c->wide + j];
	c->args->ops->act[c->s->act](y, c->s->flags & UNPU_FLAG_GATED ? y + UNPU_TWIN_UNIT : NULL,
				     UNPU_TWIN_UNIT, h);
	for (uint32_t j = ffn - first; j < UNPU_TWIN_UNIT; j++)
		h[j] = 0.0f;
}

static void ffn_in_part(const struct ffn_in *c, const struct unpu_twin_input *in,
			const struct unpu_twin_part *part, float *y)
{
	uint32_t live = c->args->view->live, wide = c->wide, unit, n;
	uint32_t step = unpu_twin_step(live, wide, part->last - part->first);

	for (unit = part->first; unit < part->last; unit += n) {
		n = part->last - unit < step ? part->last - unit : step;
		unpu_twin_mm(c->args->ops, &c->matrix, in, live, unit * wide, (unit + n) * wide, y,
			     (uint64_t)n * wide);
		for (uint32_t i = 0; i < live; i++)
			for (uint32_t u = 0; u < n; u++)
				ffn_in_unit(c, unit + u, i, y + ((size_t)i * n + u) * wide);
	}
}

static uint32_t ffn_in_units(const struct unpu_twin_args *args)
{
	const struct unpu_ffn_in_spec *s = args->spec;

	return args->view->live ? unpu_pad32(s->ffn) / UNPU_TWIN_UNIT : 0;
}

static void ffn_in_run(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct ffn_in c;
	float *y;

	if (!args->view->live)
		return;
	ffn_in_init(&c, args);
	y = (float *)(args->local + unpu_twin_input_bytes(1, c.s->hidden));
	if (args->view->live == 1) {
		unpu_twin_input_init(&in, args->local, 1, c.s->hidden);
		ffn_in_input(&c, &in, 0);
	} else {
		unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	}
	while (unpu_twin_take(args, ffn_in_units(args), &part))
		ffn_in_part(&c, &in, &part, y);
}

const struct unpu_twin unpu_twin_ffn_in = {
	.need = ffn_in_need,
	.staged = unpu_twin_several_rows,
	.prepare = ffn_in_prepare,
	.run = ffn_in_run,
	.prepare_units = unpu_twin_live,
	.units = ffn_in_units,
};
