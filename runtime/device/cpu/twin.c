/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

const struct unpu_twin *unpu_twin_get(uint32_t kind)
{
	static const struct unpu_twin *const twins[UNPU_SHADER_COUNT] = {
		[UNPU_SHADER_EMBED] = &unpu_twin_embed,
		[UNPU_SHADER_QKV] = &unpu_twin_qkv,
		[UNPU_SHADER_ATTN] = &unpu_twin_attn,
		[UNPU_SHADER_ATTN_OUT] = &unpu_twin_attn_out,
		[UNPU_SHADER_FFN_IN] = &unpu_twin_ffn_in,
		[UNPU_SHADER_FFN_OUT] = &unpu_twin_ffn_out,
		[UNPU_SHADER_HEAD] = &unpu_twin_head,
		[UNPU_SHADER_SAMPLE] = &unpu_twin_sample,
		[UNPU_SHADER_COPY] = &unpu_twin_copy,
	};

	return kind < UNPU_SHADER_COUNT ? twins[kind] : NULL;
}

void unpu_twin_bounds(const struct unpu_twin *twin, const void *spec,
		      struct unpu_view_bounds *bounds)
{
	const uint32_t *words = spec;

	*bounds = (struct unpu_view_bounds){ 0 };
	if (twin->stateless)
		return;
	bounds->rows = words[0];	/* where all specs have rows and slots */
	bounds->num_slots = words[1];
	if (twin->bounds)
		twin->bounds(spec, bounds);
}

/* ---- shares ----------------------------------------------------------------------------- */

int unpu_twin_take(const struct unpu_twin_args *args, uint32_t n, struct unpu_twin_part *part)
{
	if (args->share)
		return unpu_pool_take(args->share, &part->first, &part->last);
	if (part->taken)
		return 0;
	part->taken = 1;
	part->first = (uint32_t)((uint64_t)n * args->thread / args->threads);
	part->last = (uint32_t)((uint64_t)n * (args->thread + 1) / args->threads);
	return part->first < part->last;
}

uint32_t unpu_twin_live(const struct unpu_twin_args *args)
{
	return args->view->live;
}

/* ---- the state buffer ------------------------------------------------------------------- */

void unpu_state_fault(struct unpu_state_header *state, uint32_t fault)
{
	__atomic_fetch_or(&state->fault, fault, __ATOMIC_RELAXED);
}

uint32_t unpu_state_clamp(struct unpu_state_header *state, uint32_t value, uint32_t bound)
{
	if (value < bound)
		return value;
	unpu_state_fault(state, UNPU_STATE_FAULT_INDEX);
	return bound - 1;
}

static uint32_t view_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void view_check(struct unpu_state_row *row, struct unpu_state_header *state,
		       const struct unpu_view_bounds *bounds)
{
	if (bounds->vocab)
		row->token = unpu_state_clamp(state, row->token, bounds->vocab);
	if (bounds->positions)
		row->position = unpu_state_clamp(state, row->position, bounds->positions);
	if (bounds->cells)
		row->cell = unpu_state_clamp(state, row->cell, bounds->cells);
	if (bounds->slots)
		row->slot = unpu_state_clamp(state, row->slot, bounds->slots);
	if (bounds->out)
		row->out = unpu_state_clamp(state, row->out, bounds->out);
}

void unpu_view_read(struct unpu_view *view, struct unpu_state_header *state,
		    const struct unpu_view_bounds *bounds)
{
	const struct unpu_state_row *rows = (const void *)((const uint8_t *)state +
					    unpu_state_rows_offset(bounds->num_slots));

	view->live = unpu_state_clamp(state, view_load(&state->rows_live), bounds->rows + 1);
	for (uint32_t i = 0; i < view->live; i++) {
		struct unpu_state_row *row = &view->rows[i];

		row->token = view_load(&rows[i].token);
		row->position = view_load(&rows[i].position);
		row->cell = view_load(&rows[i].cell);
		row->slot = view_load(&rows[i].slot);
		row->flags = view_load(&rows[i].flags);
		row->out = view_load(&rows[i].out);
		if (!bounds->flags || row->flags & bounds->flags)
			view_check(row, state, bounds);
	}
}

/* ---- the operand of a matrix ------------------------------------------------------------ */

size_t unpu_twin_input_bytes(uint32_t rows, uint32_t k)
{
	size_t n = (size_t)rows * unpu_pad32(k);

	return unpu_align64(n * sizeof(float)) + unpu_align64(n) +
	       2 * unpu_align64(n / 32 * sizeof(float));
}

void unpu_twin_input_init(struct unpu_twin_input *in, uint8_t *scratch, uint32_t rows, uint32_t k)
{
	in->k = unpu_pad32(k);
	in->x = (float *)scratch;
	scratch += unpu_align64((size_t)rows * in->k * sizeof(*in->x));
	in->q = (int8_t *)scratch;
	scratch += unpu_align64((size_t)rows * in->k * sizeof(*in->q));
	in->d = (float *)scratch;
	scratch += unpu_align64((size_t)rows * in->k / 32 * sizeof(*in->d));
	in->sum = (int32_t *)scratch;
}

static void input_quantize(const struct unpu_twin_input *in, const float *x, uint32_t i,
			   const struct unpu_cpu_ops *ops)
{
	size_t k = in->k;

	ops->quantize(x, in->k, in->q + i * k, in->d + i * (k / 32), in->sum + i * (k / 32));
}

void unpu_twin_input_quantize(const struct unpu_twin_input *in, uint32_t i, uint32_t numeric,
			      const struct unpu_cpu_ops *ops)
{
	if (numeric == DRM_UNPU_CLASS_A8)
		input_quantize(in, in->x + (size_t)i * in->k, i, ops);
}

void unpu_twin_mm(const struct unpu_cpu_ops *ops, const struct unpu_twin_matrix *m,
		  const struct unpu_twin_input *in, uint32_t tokens, uint32_t row0, uint32_t row1,
		  float *y, uint64_t ldy)
{
	const struct unpu_mm_args args = {
		.layout = m->layout, .rows = m->rows, .k = m->k, .row0 = row0, .row1 = row1,
		.tokens = tokens, .quants = m->quants, .scales = m->scales,
		.x = in->x, .ldx = in->k, .q = in->q, .d = in->d, .sum = in->sum,
		.y = y, .ldy = ldy,
	};

	ops->mm[m->layout][m->numeric](&args);
}

const float *unpu_twin_norm_init(struct unpu_twin_norm *norm, uint32_t kind, uint32_t flags,
				 uint32_t n, float eps, const float *params)
{
	norm->kind = kind;
	norm->n = n;
	norm->eps = eps;
	norm->weight = params;
	params += unpu_pad32(n);
	norm->bias = NULL;
	if (!(flags & UNPU_FLAG_NORM_BIAS))
		return params;
	norm->bias = params;
	return params + unpu_pad32(n);
}

void unpu_twin_norm_row(const struct unpu_twin_norm *norm, const struct unpu_cpu_ops *ops,
			const float *x, const struct unpu_twin_input *in, uint32_t i,
			uint32_t numeric)
{
	unpu_norm_fn *fn = norm->kind == UNPU_NORM_LAYER ? ops->layer_norm : ops->rms_norm;

	fn(x, norm->weight, norm->bias, norm->n, norm->eps, in->x + (size_t)i * in->k);
	unpu_twin_input_quantize(in, i, numeric, ops);
}

size_t unpu_twin_y_bytes(uint32_t rows, uint32_t unit, uint32_t units)
{
	size_t floats = (size_t)units * unit;	/* one live row */

	/* unpu_twin_step() keeps to 16384 floats unless one unit of all rows is more. */
	if (rows > 1 && floats < 16384)
		floats = 16384;
	if (rows > 1 && floats < (size_t)rows * unit)
		floats = (size_t)rows * unit;
	return unpu_align64(floats * sizeof(float));
}

static void add_row(float *x, const float *y, const float *bias, uint32_t n)
{
	if (bias) {
		for (uint32_t i = 0; i < n; i++)
			x[i] += y[i] + bias[i];
	} else {
		for (uint32_t i = 0; i < n; i++)
			x[i] += y[i];
	}
}

static void add_part(const struct unpu_twin_args *args, const struct unpu_twin_matrix *m,
		     const struct unpu_twin_input *in, const struct unpu_twin_part *part,
		     const float *bias, float *x, float *y)
{
	uint32_t padded = unpu_pad32(m->rows), live = args->view->live, unit, n;
	uint32_t step = unpu_twin_step(live, UNPU_TWIN_UNIT, part->last - part->first);

	for (unit = part->first; unit < part->last; unit += n) {
		uint32_t row0 = unit * UNPU_TWIN_UNIT, width;

		n = part->last - unit < step ? part->last - unit : step;
		width = n * UNPU_TWIN_UNIT;
		unpu_twin_mm(args->ops, m, in, live, row0, row0 + width, y, width);
		for (uint32_t i = 0; i < live; i++)
			add_row(x + (size_t)i * padded + row0, y + (size_t)i * width,
				bias ? bias + row0 : NULL, width);
	}
}

void unpu_twin_add_units(const struct unpu_twin_args *args, const struct unpu_twin_matrix *m,
			 const struct unpu_twin_input *in, const float *bias, float *x, float *y)
{
	struct unpu_twin_part part = { 0 };

	while (unpu_twin_take(args, unpu_pad32(m->rows) / UNPU_TWIN_UNIT, &part))
		add_part(args, m, in, &part, bias, x, y);
}
