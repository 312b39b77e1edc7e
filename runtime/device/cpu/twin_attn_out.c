/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

/* Floats of partials that a thread merges in about the time of a barrier. */
#define OUT_MERGE_ALONE	4096u

static void out_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_attn_out_spec *s = spec;

	bounds->cells = s->cells;
}

static uint32_t out_k(const struct unpu_attn_out_spec *s)
{
	return s->heads * s->head_dim;
}

static void out_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_attn_out_spec *s = spec;
	uint32_t units = unpu_pad32(s->hidden) / UNPU_TWIN_UNIT;

	(void)threads;
	need->shared = unpu_twin_input_bytes(s->rows, out_k(s));
	need->local = unpu_twin_input_bytes(1, out_k(s)) +
		      unpu_twin_y_bytes(s->rows, UNPU_TWIN_UNIT, units);
}

static int out_staged(const void *spec, const struct unpu_view *view, uint32_t threads)
{
	const struct unpu_attn_out_spec *s = spec;

	if (view->live != 1 || threads == 1)
		return view->live > 1;
	return (uint64_t)(view->rows[0].cell / UNPU_CHUNK + 1) * out_k(s) > OUT_MERGE_ALONE;
}

/* Heads [head, last) of row i into x. */
static void out_merge(const struct unpu_twin_args *args, uint32_t i, uint32_t head, uint32_t last,
		      float *x)
{
	const struct unpu_attn_out_spec *s = args->spec;
	size_t chunks = s->cells / UNPU_CHUNK;
	const float *o = args->bindings[UNPU_ATTN_OUT_PARTIALS];
	const float *ms = o + s->rows * chunks * s->heads * s->head_dim;

	for (; head < last; head++) {
		size_t at = i * chunks * s->heads + head;

		args->ops->merge(o + at * s->head_dim, (uint64_t)s->heads * s->head_dim,
				 ms + at * 2, (uint64_t)s->heads * 2,
				 args->view->rows[i].cell / UNPU_CHUNK + 1, s->head_dim,
				 x + (size_t)head * s->head_dim);
	}
}

/* The merged row i, its padding and, in class a8, its int8. */
static void out_finish(const struct unpu_twin_args *args, const struct unpu_twin_input *in,
		       uint32_t i)
{
	const struct unpu_attn_out_spec *s = args->spec;

	for (uint32_t k = out_k(s); k < in->k; k++)
		in->x[(size_t)i * in->k + k] = 0.0f;
	unpu_twin_input_quantize(in, i, s->numeric, args->ops);
}

static uint32_t out_prepare_units(const struct unpu_twin_args *args)
{
	const struct unpu_attn_out_spec *s = args->spec;

	return args->view->live == 1 ? s->heads : args->view->live;
}

/* Several rows: whole rows for each thread; one row with many chunks: heads for each. */
static void out_prepare(const struct unpu_twin_args *args)
{
	const struct unpu_attn_out_spec *s = args->spec;
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;

	unpu_twin_input_init(&in, args->shared, s->rows, out_k(s));
	while (unpu_twin_take(args, out_prepare_units(args), &part)) {
		if (args->view->live == 1) {
			out_merge(args, 0, part.first, part.last, in.x);
			continue;
		}
		for (uint32_t i = part.first; i < part.last; i++) {
			out_merge(args, i, 0, s->heads, in.x + (size_t)i * in.k);
			out_finish(args, &in, i);
		}
	}
}

static void out_add(const struct unpu_twin_args *args, const struct unpu_twin_input *in, float *y)
{
	const struct unpu_attn_out_spec *s = args->spec;
	const struct unpu_twin_matrix matrix = {
		.layout = s->layout, .numeric = s->numeric, .rows = s->hidden, .k = out_k(s),
		.quants = args->bindings[UNPU_ATTN_OUT_QUANTS],
		.scales = args->bindings[UNPU_ATTN_OUT_SCALES],
	};

	unpu_twin_add_units(args, &matrix, in, s->flags & UNPU_FLAG_BIAS ?
			    args->bindings[UNPU_ATTN_OUT_PARAMS] : NULL,
			    args->bindings[UNPU_ATTN_OUT_X], y);
}

static uint32_t out_units(const struct unpu_twin_args *args)
{
	const struct unpu_attn_out_spec *s = args->spec;

	return args->view->live ? unpu_pad32(s->hidden) / UNPU_TWIN_UNIT : 0;
}

static void out_run(const struct unpu_twin_args *args)
{
	const struct unpu_attn_out_spec *s = args->spec;
	struct unpu_twin_input in;
	float *y = (float *)(args->local + unpu_twin_input_bytes(1, out_k(s)));

	if (!args->view->live)
		return;
	if (args->view->live == 1) {
		unpu_twin_input_init(&in, args->local, 1, out_k(s));
		if (out_staged(s, args->view, args->threads))
			memcpy(in.x, args->shared, out_k(s) * sizeof(*in.x));
		else
			out_merge(args, 0, 0, s->heads, in.x);
		out_finish(args, &in, 0);
	} else {
		unpu_twin_input_init(&in, args->shared, s->rows, out_k(s));
	}
	out_add(args, &in, y);
}

const struct unpu_twin unpu_twin_attn_out = {
	.bounds = out_bounds,
	.need = out_need,
	.staged = out_staged,
	.prepare = out_prepare,
	.run = out_run,
	.prepare_units = out_prepare_units,
	.units = out_units,
};
