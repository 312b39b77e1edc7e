/* SPDX-License-Identifier: MIT */
#include "runtime/device/trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CELLS	256u
#define CELL	191u	/* of the token: three chunks of attention */
#define EPS	1e-5f
/* Layers until their weights no longer fit the caches that a board has: 12 of 135M in Q8_0. */
#define ENOUGH	(32ull << 20)
#define MAX_LAYERS	12u	/* 5 dispatches each within UNPU_RIG_MAX_DISPATCHES */
#define STAGING	(4ull << 20)
#define LONG_NS		60000000ull	/* that a timed run lasts at least, if it can */

enum { QKV, OUT, IN, DOWN, MATRICES };

struct trial {
	struct unpu_rig rig;
	const struct unpu_device_shape *shape;
	struct drm_unpu_matrix matrix;
	uint32_t layers, kv_type;
	struct unpu_rig_range weights, work, state;
	uint64_t at;		/* what of `weights` is given out */
	struct unpu_rig_range x, q, partials, h, kv, rope, params, logits, maxima;
};

/* ---- memory -------------------------------------------------------------------------------- */

static uint64_t align(uint64_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

static void matrix_shape(const struct unpu_device_shape *s, uint32_t which, uint32_t *rows,
			 uint32_t *k)
{
	*rows = s->hidden;
	*k = s->hidden;
	switch (which) {
	case QKV:
		*rows = (s->heads + 2 * s->kv_heads) * s->head_dim;
		break;
	case OUT:
		*k = s->heads * s->head_dim;
		break;
	case IN:
		*rows = 2 * unpu_pad32(s->ffn);
		break;
	case DOWN:
		*k = s->ffn;
		break;
	default:
		*rows = s->vocab;
	}
}

static uint64_t matrix_bytes(const struct trial *t, uint32_t which)
{
	uint32_t rows, k;

	matrix_shape(t->shape, which, &rows, &k);
	return align(unpu_layout_quant_bytes(t->matrix.layout, rows, k)) +
	       align(unpu_layout_scale_bytes(t->matrix.layout, rows, k));
}

/* The next pieces of the weights for one matrix. */
static void take_matrix(struct trial *t, uint32_t which, struct unpu_rig_range *quants)
{
	uint32_t layout = t->matrix.layout, rows, k;
	uint64_t bytes;

	matrix_shape(t->shape, which, &rows, &k);
	bytes = unpu_layout_quant_bytes(layout, rows, k);
	quants[0] = unpu_rig_part(&t->weights, t->at, bytes);
	t->at += align(bytes);
	bytes = unpu_layout_scale_bytes(layout, rows, k);
	quants[1] = unpu_rig_part(&t->weights, t->at, bytes);
	t->at += align(bytes);
}

/*
 * What all bytes of the weights are, so that they are small, yet nothing becomes subnormal on the
 * way, which some processors are slow at: 0x3c.. is 0.01 as an f32 and a bf16, 0x2020 is 0.008 as
 * an f16; 12 as a quant under a scale of 0x0c0c is 0.003.
 */
static int weight_byte(uint32_t layout)
{
	const struct unpu_layout_info *is = unpu_layout_info(layout);

	if (is->quantised)
		return 0x0c;
	return is->bits == 32 || layout == DRM_UNPU_LAYOUT_BF16_R16 ? 0x3c : 0x20;
}

static int fill_weights(struct trial *t)
{
	const int byte = weight_byte(t->matrix.layout);
	struct unpu_copy_const constants = { 0, 0 };
	const uint32_t no_spec[1] = { 0 };
	struct unpu_rig_dispatch d = { UNPU_SHADER_COPY, no_spec, &constants, { { 0 } } };
	struct unpu_rig_range staging;
	uint64_t at, bytes;
	int ret;

	if (t->weights.ptr) {
		memset(t->weights.ptr, byte, t->weights.bytes);
		return 0;
	}
	ret = unpu_rig_alloc(&t->rig, STAGING, DRM_UNPU_BO_MMAP, &staging);
	if (ret)
		return ret;
	memset(staging.ptr, byte, staging.bytes);
	for (at = 0; at < t->weights.bytes && !ret; at += bytes) {
		bytes = t->weights.bytes - at < STAGING ? t->weights.bytes - at : STAGING;
		constants.bytes_lo = (uint32_t)bytes;
		d.bindings[UNPU_COPY_SRC] = unpu_rig_part(&staging, 0, bytes);
		d.bindings[UNPU_COPY_DST] = unpu_rig_part(&t->weights, at, bytes);
		ret = unpu_rig_once(&t->rig, &d);
	}
	unpu_rig_free(&t->rig, &staging);
	return ret;
}

/* Weights where a model's would be: in the device's own memory, unless it is one with ours. */
static int make_weights(struct trial *t)
{
	uint64_t layer = 0, head = matrix_bytes(t, MATRICES);
	uint32_t i, flags = t->rig.info.features & DRM_UNPU_FEATURE_UNIFIED ? DRM_UNPU_BO_MMAP : 0;
	int ret;

	for (i = 0; i < MATRICES; i++)
		layer += matrix_bytes(t, i);
	t->layers = (uint32_t)((ENOUGH + layer - 1) / layer);
	t->layers = t->layers > MAX_LAYERS ? MAX_LAYERS : t->layers;
	t->layers = t->layers > t->shape->layers ? t->shape->layers : t->layers;
	ret = unpu_rig_alloc(&t->rig, layer * t->layers + head, flags, &t->weights);
	return ret ? ret : fill_weights(t);
}

static int make_work(struct trial *t)
{
	const struct unpu_device_shape *s = t->shape;
	const struct {
		struct unpu_rig_range *range;
		uint64_t bytes;
	} parts[] = {
		{ &t->x, 4ull * unpu_pad32(s->hidden) },
		{ &t->q, 4ull * s->heads * s->head_dim },
		{ &t->partials, 4ull * (CELLS / UNPU_CHUNK) * s->heads * (s->head_dim + 2) },
		{ &t->h, 4ull * unpu_pad32(s->ffn) },
		{ &t->kv, unpu_kv_bytes(t->kv_type, s->kv_heads, 1, CELLS, s->head_dim) },
		{ &t->rope, 4ull * CELLS * s->head_dim },
		{ &t->params, 4ull * unpu_pad32(s->hidden) },
		{ &t->logits, 4ull * s->vocab },
		{ &t->maxima, 8ull * (unpu_pad32(s->vocab) / 32) },
		{ &t->state, unpu_state_bytes(1, 1) },
	};
	struct unpu_state_header *state;
	struct unpu_state_row *row;
	uint64_t at = 0;
	size_t i;
	int ret;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		at += align(parts[i].bytes);
	ret = unpu_rig_alloc(&t->rig, at, DRM_UNPU_BO_MMAP, &t->work);
	if (ret)
		return ret;
	memset(t->work.ptr, 0x3f, t->work.bytes);	/* 0.7 */
	for (at = 0, i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		*parts[i].range = unpu_rig_part(&t->work, at, parts[i].bytes);
		at += align(parts[i].bytes);
	}
	memset(t->state.ptr, 0, t->state.bytes);
	state = (void *)t->state.ptr;
	state->rows_live = 1;
	row = (void *)(t->state.ptr + unpu_state_rows_offset(1));
	*row = (struct unpu_state_row){ .position = CELL, .cell = CELL,
					.flags = UNPU_ROW_LOGITS };
	return 0;
}

/* ---- programs ------------------------------------------------------------------------------ */

struct specs {
	struct unpu_qkv_spec qkv;
	struct unpu_attn_spec attn;
	struct unpu_attn_const attn_const;
	struct unpu_attn_out_spec out;
	struct unpu_ffn_in_spec in;
	struct unpu_ffn_out_spec down;
	struct unpu_head_spec head;
};

static void make_specs(const struct trial *t, struct specs *s)
{
	const struct unpu_device_shape *m = t->shape;
	uint32_t layout = t->matrix.layout, numeric = t->matrix.numeric;

	*s = (struct specs){
		.qkv = { 1, 1, CELLS, m->hidden, m->heads, m->kv_heads, m->head_dim, layout,
			 numeric, t->kv_type, UNPU_NORM_RMS, 0, EPS, UNPU_ROPE_HALVES,
			 m->head_dim, CELLS },
		.attn = { 1, 1, CELLS, m->heads, m->kv_heads, m->head_dim, t->kv_type, 0.125f },
		.attn_const = { CELLS / UNPU_CHUNK },
		.out = { 1, 1, CELLS, m->hidden, m->heads, m->head_dim, layout, numeric, 0 },
		.in = { 1, 1, m->hidden, m->ffn, layout, numeric, UNPU_NORM_RMS, UNPU_FLAG_GATED,
			UNPU_ACT_SILU, EPS },
		.down = { 1, 1, m->hidden, m->ffn, layout, numeric, 0 },
		.head = { 1, 1, m->hidden, m->vocab, layout, numeric, UNPU_NORM_RMS, 0, EPS, 1 },
	};
}

static void make_layer(struct trial *t, const struct specs *s, struct unpu_rig_dispatch *d)
{
	const struct unpu_rig_range none = { 0 };
	struct unpu_rig_range w[MATRICES][2];
	uint32_t i;

	for (i = 0; i < MATRICES; i++)
		take_matrix(t, i, w[i]);
	d[0] = (struct unpu_rig_dispatch){ UNPU_SHADER_QKV, &s->qkv, NULL,
		{ t->state, t->x, t->params, w[QKV][0], w[QKV][1], t->rope, t->q, t->kv } };
	d[1] = (struct unpu_rig_dispatch){ UNPU_SHADER_ATTN, &s->attn, &s->attn_const,
		{ t->state, t->q, t->kv, t->partials } };
	d[2] = (struct unpu_rig_dispatch){ UNPU_SHADER_ATTN_OUT, &s->out, NULL,
		{ t->state, t->partials, none, w[OUT][0], w[OUT][1], t->x } };
	d[3] = (struct unpu_rig_dispatch){ UNPU_SHADER_FFN_IN, &s->in, NULL,
		{ t->state, t->x, t->params, w[IN][0], w[IN][1], t->h } };
	d[4] = (struct unpu_rig_dispatch){ UNPU_SHADER_FFN_OUT, &s->down, NULL,
		{ t->state, t->h, none, w[DOWN][0], w[DOWN][1], t->x } };
}

/* ---- time ---------------------------------------------------------------------------------- */

static int time_once(struct trial *t, uint32_t program_id, uint32_t repeat, uint64_t *ns)
{
	uint64_t began = unpu_rig_now();
	int ret = unpu_rig_run(&t->rig, program_id, repeat);

	*ns = unpu_rig_now() - began;
	return ret;
}

/* ns of one repeat: the better of two runs, after one that makes everything warm. */
static int time_program(struct trial *t, const struct unpu_rig_dispatch *d, uint32_t count,
			uint64_t *ns)
{
	uint32_t program_id, repeat = 1, most = t->rig.info.max_job_dispatches / count, i;
	uint64_t took;
	int ret = unpu_rig_program(&t->rig, d, count, &program_id);

	if (ret)
		return ret;
	most = most > t->rig.info.max_repeat ? t->rig.info.max_repeat : most;
	ret = time_once(t, program_id, 1, &took);
	ret = ret ? ret : time_once(t, program_id, 1, &took);
	*ns = took;
	if (!ret && took < LONG_NS && most > 1) {
		took = took ? took : 1;
		repeat = LONG_NS / took < most ? (uint32_t)(LONG_NS / took) : most;
		for (i = 0; i < 2 && !ret; i++) {
			ret = time_once(t, program_id, repeat, &took);
			*ns = took / repeat < *ns ? took / repeat : *ns;
		}
	}
	unpu_rig_program_free(&t->rig, program_id);
	return ret;
}

static int time_all(struct trial *t, uint64_t *ns)
{
	struct unpu_rig_dispatch *d = calloc(UNPU_RIG_MAX_DISPATCHES, sizeof(*d));
	struct unpu_rig_range head[2];
	uint64_t layers_ns, head_ns;
	struct specs specs;
	uint32_t i;
	int ret;

	if (!d)
		return -ENOMEM;
	make_specs(t, &specs);
	for (i = 0; i < t->layers; i++)
		make_layer(t, &specs, d + 5ul * i);
	ret = time_program(t, d, 5 * t->layers, &layers_ns);
	take_matrix(t, MATRICES, head);
	d[0] = (struct unpu_rig_dispatch){ UNPU_SHADER_HEAD, &specs.head, NULL,
		{ t->state, t->x, t->params, head[0], head[1], t->logits, t->maxima } };
	ret = ret ? ret : time_program(t, d, 1, &head_ns);
	if (!ret)
		*ns = layers_ns * t->shape->layers / t->layers + head_ns;
	free(d);
	return ret;
}

int unpu_trial_run(struct unpu_device *dev, const struct unpu_device_shape *shape, uint64_t *ns)
{
	struct trial t = { .shape = shape };
	int ret = unpu_rig_init(&t.rig, dev);

	if (ret)
		return ret;
	t.kv_type = t.rig.info.kv_types & 1u << DRM_UNPU_KV_F16 ? DRM_UNPU_KV_F16 :
								   DRM_UNPU_KV_F32;
	ret = unpu_rig_matrix(&t.rig.info, shape, false, &t.matrix);
	ret = ret ? ret : make_weights(&t);
	ret = ret ? ret : make_work(&t);
	ret = ret ? ret : time_all(&t, ns);
	unpu_rig_free(&t.rig, &t.work);
	unpu_rig_free(&t.rig, &t.weights);
	unpu_rig_finish(&t.rig);
	return ret;
}
