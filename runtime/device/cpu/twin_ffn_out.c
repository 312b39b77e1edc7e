/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

static void ffn_out_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_ffn_out_spec *s = spec;
	uint32_t units = unpu_pad32(s->hidden) / UNPU_TWIN_UNIT;

	(void)threads;
	need->shared = unpu_twin_input_bytes(s->rows, s->ffn);
	need->local = unpu_twin_input_bytes(1, s->ffn) +
		      unpu_twin_y_bytes(s->rows, UNPU_TWIN_UNIT, units);
}

/* Class f32 reads h where it lies. */
static int ffn_out_staged(const void *spec, const struct unpu_view *view, uint32_t threads)
{
	const struct unpu_ffn_out_spec *s = spec;

	(void)threads;
	return view->live > 1 && s->numeric == DRM_UNPU_CLASS_A8;
}

/* The operand with x over h itself: only its int8 lies in scratch. */
static void ffn_out_input(const struct unpu_twin_args *args, uint8_t *scratch, uint32_t rows,
			  struct unpu_twin_input *in)
{
	const struct unpu_ffn_out_spec *s = args->spec;

	unpu_twin_input_init(in, scratch, rows, s->ffn);
	in->x = args->bindings[UNPU_FFN_OUT_H];
}

static void ffn_out_prepare(const struct unpu_twin_args *args)
{
	const struct unpu_ffn_out_spec *s = args->spec;
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;

	ffn_out_input(args, args->shared, s->rows, &in);
	while (unpu_twin_take(args, args->view->live, &part))
		for (uint32_t i = part.first; i < part.last; i++)
			unpu_twin_input_quantize(&in, i, s->numeric, args->ops);
}

static uint32_t ffn_out_units(const struct unpu_twin_args *args)
{
	const struct unpu_ffn_out_spec *s = args->spec;

	return args->view->live ? unpu_pad32(s->hidden) / UNPU_TWIN_UNIT : 0;
}

static void ffn_out_run(const struct unpu_twin_args *args)
{
	const struct unpu_ffn_out_spec *s = args->spec;
	const struct unpu_twin_matrix matrix = {
		.layout = s->layout, .numeric = s->numeric, .rows = s->hidden, .k = s->ffn,
		.quants = args->bindings[UNPU_FFN_OUT_QUANTS],
		.scales = args->bindings[UNPU_FFN_OUT_SCALES],
	};
	struct unpu_twin_input in;

	if (!args->view->live)
		return;
	if (args->view->live == 1) {
		ffn_out_input(args, args->local, 1, &in);
		unpu_twin_input_quantize(&in, 0, s->numeric, args->ops);
	} else {
		ffn_out_input(args, args->shared, s->rows, &in);
	}
	unpu_twin_add_units(args, &matrix, &in, s->flags & UNPU_FLAG_BIAS ?
			    args->bindings[UNPU_FFN_OUT_PARAMS] : NULL,
			    args->bindings[UNPU_FFN_OUT_X],
			    (float *)(args->local + unpu_twin_input_bytes(1, s->ffn)));
}

const struct unpu_twin unpu_twin_ffn_out = {
	.need = ffn_out_need,
	.staged = ffn_out_staged,
	.prepare = ffn_out_prepare,
	.run = ffn_out_run,
	.prepare_units = unpu_twin_live,
	.units = ffn_out_units,
};
