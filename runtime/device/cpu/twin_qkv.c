/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

/* One dispatch, its parameters taken apart. */
struct qkv {
	const struct unpu_twin_args *args;
	const struct unpu_qkv_spec *s;
	struct unpu_twin_norm norm;
	struct unpu_twin_matrix matrix;
	const float *bias, *q_norm, *k_norm;	/* NULL when off */
};

static void qkv_init(struct qkv *c, const struct unpu_twin_args *args)
{
	const struct unpu_qkv_spec *s = args->spec;
	const float *params = args->bindings[UNPU_QKV_PARAMS];

	*c = (struct qkv){ .args = args, .s = s };
	c->matrix = (struct unpu_twin_matrix){
		.layout = s->layout, .numeric = s->numeric,
		.rows = unpu_qkv_rows(s), .k = s->hidden,
		.quants = args->bindings[UNPU_QKV_QUANTS],
		.scales = args->bindings[UNPU_QKV_SCALES],
	};
	params = unpu_twin_norm_init(&c->norm, s->norm, s->flags, s->hidden, s->eps, params);
	if (s->flags & UNPU_FLAG_BIAS) {
		c->bias = params;
		params += unpu_pad32(c->matrix.rows);
	}
	if (s->flags & UNPU_FLAG_QK_NORM) {
		c->q_norm = params;
		c->k_norm = params + s->head_dim;
	}
}

static void qkv_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_qkv_spec *s = spec;

	bounds->cells = s->cells;
	bounds->slots = s->slots;
	bounds->positions = s->positions;
}

static void qkv_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_qkv_spec *s = spec;
	uint32_t units = s->heads + 2 * s->kv_heads;

	(void)threads;
	need->shared = unpu_twin_input_bytes(s->rows, s->hidden);
	need->local = unpu_twin_input_bytes(1, s->hidden) +
		      unpu_twin_y_bytes(s->rows, s->head_dim, units);
}

static void qkv_input(const struct qkv *c, const struct unpu_twin_input *in, uint32_t i)
{
	const float *x = c->args->bindings[UNPU_QKV_X];

	unpu_twin_norm_row(&c->norm, c->args->ops, x + (size_t)i * in->k, in, i, c->s->numeric);
}

static void qkv_prepare(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct qkv c;

	qkv_init(&c, args);
	unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	while (unpu_twin_take(args, args->view->live, &part))
		for (uint32_t i = part.first; i < part.last; i++)
			qkv_input(&c, &in, i);
}

/* y may be shorter than the padding that a norm writes, so it goes by way of a buffer. */
static void qkv_head_norm(const struct qkv *c, const float *weight, float *y)
{
	float normed[256];	/* the largest head_dim */

	c->args->ops->rms_norm(y, weight, NULL, c->s->head_dim, c->s->eps, normed);
	memcpy(y, normed, c->s->head_dim * sizeof(*y));
}

static void qkv_rope(const struct qkv *c, uint32_t position, float *y)
{
	uint32_t n = c->s->rope_dims / 2;
	const float *turn = c->args->bindings[UNPU_QKV_ROPE];
	uint32_t step = c->s->rope == UNPU_ROPE_PAIRS ? 2 : 1;
	float *other = c->s->rope == UNPU_ROPE_PAIRS ? y + 1 : y + n;

	turn += (size_t)position * c->s->rope_dims;
	for (uint32_t i = 0; i < n; i++) {
		float a = y[i * step], b = other[i * step];
		float cos = turn[2 * i], sin = turn[2 * i + 1];

		y[i * step] = a * cos - b * sin;
		other[i * step] = a * sin + b * cos;
	}
}

/* Blocks of 32, the last one filled up with zeros, which change no maximum. */
static void qkv_store_int8(const struct qkv *c, const float *y, size_t cell)
{
	const struct unpu_qkv_spec *s = c->s;
	uint32_t n = s->head_dim, scales = unpu_kv_scales(n);
	size_t cells = 2ul * s->kv_heads * s->slots * s->cells;
	uint8_t *kv = c->args->bindings[UNPU_QKV_KV];
	float padded[256] = { 0 }, d[8] = { 0 };	/* the largest head_dim and its blocks */
	int8_t q[256];
	int32_t sum[8];
	uint16_t half[8];

	memcpy(padded, y, n * sizeof(*y));
	c->args->ops->quantize(padded, unpu_pad32(n), q, d, sum);
	c->args->ops->to_f16(d, 8, half);
	memcpy(kv + cell * n, q, n);
	memcpy(kv + cells * n + cell * scales * sizeof(*half), half, scales * sizeof(*half));
}

/* K or V of one head into its cell. */
static void qkv_store(const struct qkv *c, uint32_t head, const struct unpu_state_row *row,
		      const float *y)
{
	const struct unpu_qkv_spec *s = c->s;
	size_t at = ((size_t)head * s->slots + row->slot) * s->cells + row->cell;
	void *kv = c->args->bindings[UNPU_QKV_KV];

	if (s->kv_type == DRM_UNPU_KV_INT8)
		qkv_store_int8(c, y, at);
	else if (s->kv_type == DRM_UNPU_KV_F16)
		c->args->ops->to_f16(y, s->head_dim, (uint16_t *)kv + at * s->head_dim);
	else
		memcpy((float *)kv + at * s->head_dim, y, s->head_dim * sizeof(*y));
}

/* y is row i's output of one unit: a head of q, k or v. */
static void qkv_head(const struct qkv *c, uint32_t unit, uint32_t i, float *y)
{
	const struct unpu_qkv_spec *s = c->s;
	const struct unpu_state_row *row = &c->args->view->rows[i];
	int is_q = unit < s->heads, is_v = unit >= s->heads + s->kv_heads;
	float *q = c->args->bindings[UNPU_QKV_Q];

	if (c->bias)
		for (uint32_t j = 0; j < s->head_dim; j++)
			y[j] += c->bias[(size_t)unit * s->head_dim + j];
	if (c->q_norm && !is_v)
		qkv_head_norm(c, is_q ? c->q_norm : c->k_norm, y);
	if (s->rope != UNPU_ROPE_NONE && !is_v)
		qkv_rope(c, row->position, y);
	if (is_q)
		memcpy(q + ((size_t)i * s->heads + unit) * s->head_dim, y,
		       s->head_dim * sizeof(*y));
	else	/* heads of V follow all heads of K, as in the matrix */
		qkv_store(c, unit - s->heads, row, y);
}

static void qkv_part(const struct qkv *c, const struct unpu_twin_input *in,
		     const struct unpu_twin_part *part, float *y)
{
	uint32_t live = c->args->view->live, d = c->s->head_dim, unit, n;
	uint32_t step = unpu_twin_step(live, d, part->last - part->first);

	for (unit = part->first; unit < part->last; unit += n) {
		n = part->last - unit < step ? part->last - unit : step;
		unpu_twin_mm(c->args->ops, &c->matrix, in, live, unit * d, (unit + n) * d, y,
			     (uint64_t)n * d);
		for (uint32_t i = 0; i < live; i++)
			for (uint32_t u = 0; u < n; u++)
				qkv_head(c, unit + u, i, y + ((size_t)i * n + u) * d);
	}
}

static uint32_t qkv_units(const struct unpu_twin_args *args)
{
	const struct unpu_qkv_spec *s = args->spec;

	return args->view->live ? s->heads + 2 * s->kv_heads : 0;
}

static void qkv_run(const struct unpu_twin_args *args)
{
	struct unpu_twin_part part = { 0 };
	struct unpu_twin_input in;
	struct qkv c;
	float *y;

	if (!args->view->live)
		return;
	qkv_init(&c, args);
	y = (float *)(args->local + unpu_twin_input_bytes(1, c.s->hidden));
	if (args->view->live == 1) {
		unpu_twin_input_init(&in, args->local, 1, c.s->hidden);
		qkv_input(&c, &in, 0);
	} else {
		unpu_twin_input_init(&in, args->shared, c.s->rows, c.s->hidden);
	}
	while (unpu_twin_take(args, qkv_units(args), &part))
		qkv_part(&c, &in, &part, y);
}

const struct unpu_twin unpu_twin_qkv = {
	.bounds = qkv_bounds,
	.need = qkv_need,
	.staged = unpu_twin_several_rows,
	.prepare = qkv_prepare,
	.run = qkv_run,
	.prepare_units = unpu_twin_live,
	.units = qkv_units,
};
