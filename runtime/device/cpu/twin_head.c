/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <math.h>
#include <string.h>

/* Groups of 32 logits in one call of mm: 8 KiB of y stay in the first-level cache. */
#define HEAD_STEP	64u

struct maximum {
	float max;
	uint32_t id;
};

struct head {
	const struct unpu_twin_args *args;
	const struct unpu_head_spec *s;
	struct unpu_twin_norm norm;
	struct unpu_twin_matrix matrix;
	const float *bias;	/* NULL when off */
	uint32_t num_rows;	/* live rows whose logits are wanted, */
	uint32_t rows[UNPU_CPU_MAX_ROWS];	/* and which they are */
};

static uint32_t head_rows(const struct unpu_view *view, uint32_t *rows)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < view->live; i++) {
		if (!(view->rows[i].flags & UNPU_ROW_LOGITS))
			continue;
		if (rows)
			rows[n] = i;
		n++;
	}
	return n;
}

static void head_init(struct head *c, const struct unpu_twin_args *args)
{
	const struct unpu_head_spec *s = args->spec;
	const float *params = args->bindings[UNPU_HEAD_PARAMS];

	c->args = args;
	c->s = s;
	c->matrix = (struct unpu_twin_matrix){
		.layout = s->layout, .numeric = s->numeric, .rows = s->vocab, .k = s->hidden,
		.quants = args->bindings[UNPU_HEAD_QUANTS],
		.scales = args->bindings[UNPU_HEAD_SCALES],
	};
	params = unpu_twin_norm_init(&c->norm, s->norm, s->flags, s->hidden, s->eps, params);
	c->bias = s->flags & UNPU_FLAG_BIAS ? params : NULL;
	c->num_rows = head_rows(args->view, c->rows);
}

static void head_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_head_spec *s = spec;

	bounds->out = s->logit_rows;
	bounds->flags = UNPU_ROW_LOGITS;
}

static void head_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_head_spec *s = spec;

	(void)threads;
	need->shared = unpu_twin_input_bytes(s->rows, s->hidden);
	need->local = unpu_twin_input_bytes(1, s->hidden) +
		      unpu_twin_y_bytes(s->rows, UNPU_TWIN_UNIT, HEAD_STEP);
}

static int head_staged(const void *spec, const struct unpu_view *view, uint32_t threads)
{
	(void)spec;
	(void)threads;
	return head_rows(view, NULL) > 1;
}

static void head_input(const struct head *c, const struct unpu_twin_input *in, uint32_t i)
{
	const float *x = c->args->bindings[UNPU_HEAD_X];

	unpu_twin_norm_row(&c->norm, c->args->ops, x + (size_t)c->rows[i] * in->k, in, i,
			   c->s->numeric);
}

static void head_prepare(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct head c;

	head_init(&c, args);
	unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	while (unpu_twin_take(args, c.num_rows, &part))
		for (uint32_t i = part.first; i < part.last; i++)
			head_input(&c, &in, i);
}

/* y: `units` groups of row i's logits; the last of all may reach past the vocabulary, where y is
 * made too small to be a maximum and nothing is stored. */
static void head_groups(const struct head *c, uint32_t unit, uint32_t units, uint32_t i, float *y)
{
	uint32_t vocab = c->s->vocab, first = unit * UNPU_TWIN_UNIT;
	uint32_t width = units * UNPU_TWIN_UNIT, n = width;
	size_t out = c->args->view->rows[c->rows[i]].out;
	float *logits = c->args->bindings[UNPU_HEAD_LOGITS];
	struct maximum *maxima = c->args->bindings[UNPU_HEAD_MAXIMA];

	if (c->bias)
		for (uint32_t j = 0; j < width; j++)
			y[j] += c->bias[first + j];
	if (n > vocab - first)
		n = vocab - first;
	for (uint32_t j = n; j < width; j++)
		y[j] = -INFINITY;
	memcpy(logits + out * vocab + first, y, n * sizeof(*y));
	maxima += out * (unpu_pad32(vocab) / UNPU_TWIN_UNIT) + unit;
	for (uint32_t u = 0; u < units; u++) {
		uint32_t at;

		c->args->ops->max(y + u * UNPU_TWIN_UNIT, UNPU_TWIN_UNIT, &maxima[u].max, &at);
		maxima[u].id = first + u * UNPU_TWIN_UNIT + at;
	}
}

static void head_part(const struct head *c, const struct unpu_twin_input *in,
		      const struct unpu_twin_part *part, float *y)
{
	uint32_t rows = c->num_rows, unit, n;
	uint32_t step = unpu_twin_step(rows, UNPU_TWIN_UNIT, HEAD_STEP);

	for (unit = part->first; unit < part->last; unit += n) {
		uint32_t row0 = unit * UNPU_TWIN_UNIT;

		n = part->last - unit < step ? part->last - unit : step;
		unpu_twin_mm(c->args->ops, &c->matrix, in, rows, row0, row0 + n * UNPU_TWIN_UNIT,
			     y, (uint64_t)n * UNPU_TWIN_UNIT);
		for (uint32_t i = 0; i < rows; i++)
			head_groups(c, unit, n, i, y + (size_t)i * n * UNPU_TWIN_UNIT);
	}
}

static uint32_t head_prepare_units(const struct unpu_twin_args *args)
{
	return head_rows(args->view, NULL);
}

static uint32_t head_units(const struct unpu_twin_args *args)
{
	const struct unpu_head_spec *s = args->spec;

	return head_rows(args->view, NULL) ? unpu_pad32(s->vocab) / UNPU_TWIN_UNIT : 0;
}

static void head_run(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct head c;
	float *y;

	head_init(&c, args);
	if (!c.num_rows)
		return;
	y = (float *)(args->local + unpu_twin_input_bytes(1, c.s->hidden));
	if (c.num_rows == 1) {
		unpu_twin_input_init(&in, args->local, 1, c.s->hidden);
		head_input(&c, &in, 0);
	} else {
		unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	}
	while (unpu_twin_take(args, head_units(args), &part))
		head_part(&c, &in, &part, y);
}

const struct unpu_twin unpu_twin_head = {
	.bounds = head_bounds,
	.need = head_need,
	.staged = head_staged,
	.prepare = head_prepare,
	.run = head_run,
	.prepare_units = head_prepare_units,
	.units = head_units,
};
