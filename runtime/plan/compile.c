/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/plan/compile.h"

#define PHASES_PER_LAYER	5
#define MAX_CONST_BYTES		sizeof(struct unpu_copy_const)	/* of all shaders */

/* Tables of one program while it is built; large enough from the start. */
struct builder {
	struct unpu_compiler *c;
	struct drm_unpu_buffer *buffers;
	struct drm_unpu_binding *bindings;
	struct drm_unpu_dispatch *dispatches;
	uint8_t *constants;
	uint32_t num_buffers, num_bindings, num_dispatches, const_bytes;
};

/* ---- sizes -------------------------------------------------------------------------------- */

void unpu_work_sizes(const struct unpu_arch *arch, const struct unpu_shape *shape,
		     struct unpu_work *work)
{
	const struct unpu_hparams *hp = &arch->hp;
	uint64_t rows = shape->rows, chunks = shape->chunks;

	memset(work, 0, sizeof(*work));
	work->shape = *shape;
	work->state.bytes = unpu_state_bytes(shape->rows, shape->slots);
	work->history.bytes = 4ull * shape->slots * shape->cells;
	if (arch->plan.rope != UNPU_ROPE_NONE)
		work->rope.bytes = 4ull * shape->cells * hp->rope_dims;
	work->logits.bytes = 4ull * shape->logit_rows * hp->vocab;
	work->maxima.bytes = 8ull * shape->logit_rows * (unpu_pad32(hp->vocab) / UNPU_PAD);
	work->x.bytes = 4 * rows * unpu_pad32(hp->hidden);
	work->q.bytes = 4 * rows * hp->heads * hp->head_dim;
	work->partials.bytes = 4 * rows * chunks * hp->heads * (hp->head_dim + 2);
	work->h.bytes = 4 * rows * unpu_pad32(hp->ffn);
	work->kv.bytes = hp->layers * unpu_kv_bytes(shape->kv_type, hp->kv_heads, shape->slots,
						    shape->cells, hp->head_dim);
}

void unpu_rope_fill(const struct unpu_hparams *hp, uint32_t positions, float *table)
{
	uint32_t half = hp->rope_dims / 2;

	for (uint32_t i = 0; i < half; i++) {
		double freq = pow(hp->rope_base, -2.0 * i / hp->rope_dims) / hp->rope_scale;

		for (uint32_t p = 0; p < positions; p++) {
			float *pair = table + 2 * ((uint64_t)p * half + i);

			pair[0] = (float)cos(p * freq);
			pair[1] = (float)sin(p * freq);
		}
	}
}

/* ---- pieces of a program ------------------------------------------------------------------ */

static int shader_get(struct unpu_compiler *c, uint32_t kind, const void *spec, uint32_t *id)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_device *dev = c->weights->dev;
	struct drm_unpu_shader_create args = { .spec = (uintptr_t)spec,
					       .spec_words = info->spec_words };
	int ret;

	for (uint32_t i = 0; i < c->num_shaders; i++) {
		if (c->shaders[i].kind == kind &&
		    !memcmp(c->shaders[i].spec, spec, 4ull * info->spec_words)) {
			*id = c->shaders[i].id;
			return 0;
		}
	}
	if (c->num_shaders == UNPU_MAX_SHADERS)
		return unpu_fail(&c->weights->log, -ENOSPC, "the model's layers differ in more "
				 "than %u ways", UNPU_MAX_SHADERS);
	memcpy(args.name, info->name, strlen(info->name));
	ret = dev->ops->shader_create(dev, &args);
	if (ret)
		return ret;
	c->shaders[c->num_shaders].kind = kind;
	c->shaders[c->num_shaders].id = args.shader_id;
	memcpy(c->shaders[c->num_shaders].spec, spec, 4ull * info->spec_words);
	c->num_shaders++;
	*id = args.shader_id;
	return 0;
}

static uint32_t buffer_index(struct builder *b, const struct unpu_range *range, uint32_t access)
{
	struct drm_unpu_buffer want = { .handle = range->handle, .flags = access,
					.offset = range->offset, .size = range->bytes };

	for (uint32_t i = b->num_buffers; i-- > 0;)
		if (!memcmp(&b->buffers[i], &want, sizeof(want)))
			return i;
	b->buffers[b->num_buffers] = want;
	return b->num_buffers++;
}

/*
 * Append one dispatch. ranges are in the shader's binding order; one that the constants make
 * meaningless (bytes 0) is bound to the state buffer, of which nothing is read there.
 */
static int emit(struct builder *b, uint32_t kind, const void *spec, const void *constants,
		const struct unpu_range *const *ranges)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct drm_unpu_dispatch *d = &b->dispatches[b->num_dispatches++];
	struct unpu_shader_need need;
	int ret;

	if (unpu_shader_check_spec(kind, spec, info->spec_words) ||
	    unpu_shader_need(kind, spec, constants, info->const_bytes, &need))
		return unpu_fail(&b->c->weights->log, -EINVAL,
				 "the model's shape is outside what %s takes", info->name);
	ret = shader_get(b->c, kind, spec, &d->shader_id);
	if (ret)
		return ret;
	d->first_binding = b->num_bindings;
	d->num_bindings = info->num_bindings;
	d->const_offset = b->const_bytes;
	d->const_bytes = info->const_bytes;
	memcpy(d->grid, need.grid, sizeof(d->grid));
	if (info->const_bytes)
		memcpy(b->constants + b->const_bytes, constants, info->const_bytes);
	b->const_bytes += info->const_bytes;
	for (uint32_t i = 0; i < info->num_bindings; i++) {
		const struct unpu_range *r = ranges[i]->bytes ? ranges[i] : &b->c->work->state;
		uint32_t access = DRM_UNPU_ACCESS_READ;

		if (info->write_mask >> i & 1)
			access |= DRM_UNPU_ACCESS_WRITE;
		b->bindings[b->num_bindings++].buffer = buffer_index(b, r, access);
	}
	return 0;
}

static int emit_embed(struct builder *b)
{
	const struct unpu_weights *w = b->c->weights;
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &w->arch->hp;
	const struct unpu_embed_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots,
		.vocab = hp->vocab, .hidden = hp->hidden,
		.layout = w->embed.layout,
		.positions = w->arch->plan.learned_positions ? hp->context : 0,
	};
	const struct unpu_range *ranges[] = { &work->state, &w->embed.quants, &w->embed.scales,
					      &w->positions, &work->x };

	return emit(b, UNPU_SHADER_EMBED, &spec, NULL, ranges);
}

static int emit_qkv(struct builder *b, const struct unpu_layer_weights *lw,
		    const struct unpu_range *kv)
{
	const struct unpu_weights *w = b->c->weights;
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &w->arch->hp;
	const struct unpu_layer_plan *plan = &w->arch->plan;
	const struct unpu_qkv_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots, .cells = work->shape.cells,
		.hidden = hp->hidden, .heads = hp->heads, .kv_heads = hp->kv_heads,
		.head_dim = hp->head_dim,
		.layout = lw->qkv.layout, .numeric = lw->qkv.numeric,
		.kv_type = work->shape.kv_type,
		.norm = plan->norm, .flags = lw->qkv_flags, .eps = hp->norm_eps,
		.rope = plan->rope, .rope_dims = plan->rope ? hp->rope_dims : 0,
		.positions = plan->rope ? work->shape.cells : 0,
	};
	const struct unpu_range *ranges[] = { &work->state, &work->x, &lw->qkv_params,
					      &lw->qkv.quants, &lw->qkv.scales, &work->rope,
					      &work->q, kv };

	return emit(b, UNPU_SHADER_QKV, &spec, NULL, ranges);
}

static struct unpu_attn_const attn_const(const struct builder *b)
{
	uint32_t all = b->c->work->shape.chunks;

	return (struct unpu_attn_const){ .chunks = b->c->chunks ? b->c->chunks : all };
}

static int emit_attn(struct builder *b, const struct unpu_range *kv)
{
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &b->c->weights->arch->hp;
	const struct unpu_attn_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots, .cells = work->shape.cells,
		.heads = hp->heads, .kv_heads = hp->kv_heads, .head_dim = hp->head_dim,
		.kv_type = work->shape.kv_type, .scale = hp->attn_scale,
	};
	const struct unpu_attn_const constants = attn_const(b);
	const struct unpu_range *ranges[] = { &work->state, &work->q, kv, &work->partials };

	return emit(b, UNPU_SHADER_ATTN, &spec, &constants, ranges);
}

static int emit_attn_out(struct builder *b, const struct unpu_layer_weights *lw)
{
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &b->c->weights->arch->hp;
	const struct unpu_attn_out_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots, .cells = work->shape.cells,
		.hidden = hp->hidden, .heads = hp->heads, .head_dim = hp->head_dim,
		.layout = lw->out.layout, .numeric = lw->out.numeric, .flags = lw->out_flags,
	};
	const struct unpu_attn_const constants = attn_const(b);
	const struct unpu_range *ranges[] = { &work->state, &work->partials, &lw->out_params,
					      &lw->out.quants, &lw->out.scales, &work->x };

	return emit(b, UNPU_SHADER_ATTN_OUT, &spec, &constants, ranges);
}

static int emit_ffn_in(struct builder *b, const struct unpu_layer_weights *lw)
{
	const struct unpu_work *work = b->c->work;
	const struct unpu_arch *arch = b->c->weights->arch;
	const struct unpu_ffn_in_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots,
		.hidden = arch->hp.hidden, .ffn = arch->hp.ffn,
		.layout = lw->ffn_in.layout, .numeric = lw->ffn_in.numeric,
		.norm = arch->plan.norm, .flags = lw->ffn_in_flags, .act = arch->plan.act,
		.eps = arch->hp.norm_eps,
	};
	const struct unpu_range *ranges[] = { &work->state, &work->x, &lw->ffn_in_params,
					      &lw->ffn_in.quants, &lw->ffn_in.scales, &work->h };

	return emit(b, UNPU_SHADER_FFN_IN, &spec, NULL, ranges);
}

static int emit_ffn_out(struct builder *b, const struct unpu_layer_weights *lw)
{
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &b->c->weights->arch->hp;
	const struct unpu_ffn_out_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots,
		.hidden = hp->hidden, .ffn = hp->ffn,
		.layout = lw->ffn_out.layout, .numeric = lw->ffn_out.numeric,
		.flags = lw->ffn_out_flags,
	};
	const struct unpu_range *ranges[] = { &work->state, &work->h, &lw->ffn_out_params,
					      &lw->ffn_out.quants, &lw->ffn_out.scales, &work->x };

	return emit(b, UNPU_SHADER_FFN_OUT, &spec, NULL, ranges);
}

static int emit_head(struct builder *b)
{
	const struct unpu_weights *w = b->c->weights;
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &w->arch->hp;
	const struct unpu_head_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots,
		.hidden = hp->hidden, .vocab = hp->vocab,
		.layout = w->head.layout, .numeric = w->head.numeric,
		.norm = w->arch->plan.norm, .flags = w->head_flags, .eps = hp->norm_eps,
		.logit_rows = work->shape.logit_rows,
	};
	const struct unpu_range *ranges[] = { &work->state, &work->x, &w->head_params,
					      &w->head.quants, &w->head.scales, &work->logits,
					      &work->maxima };

	return emit(b, UNPU_SHADER_HEAD, &spec, NULL, ranges);
}

static int emit_sample(struct builder *b)
{
	const struct unpu_weights *w = b->c->weights;
	const struct unpu_work *work = b->c->work;
	const struct unpu_hparams *hp = &w->arch->hp;
	const struct unpu_sample_spec spec = {
		.rows = work->shape.rows, .slots = work->shape.slots, .cells = work->shape.cells,
		.vocab = hp->vocab, .hidden = hp->hidden,
		.logit_rows = work->shape.logit_rows,
		.layout = w->embed.layout,
		.positions = w->arch->plan.learned_positions ? hp->context : 0,
	};
	const struct unpu_range *ranges[] = { &work->state, &work->logits, &work->maxima,
					      &work->history, &w->embed.quants, &w->embed.scales,
					      &w->positions, &work->x };

	return emit(b, UNPU_SHADER_SAMPLE, &spec, NULL, ranges);
}

static int emit_layer(struct builder *b, uint32_t i)
{
	const struct unpu_weights *w = b->c->weights;
	const struct unpu_layer_weights *lw = &w->layers[i];
	struct unpu_range kv = b->c->work->kv;
	int ret;

	kv.bytes /= w->arch->hp.layers;
	kv.offset += i * kv.bytes;
	ret = emit_qkv(b, lw, &kv);
	ret = ret ? ret : emit_attn(b, &kv);
	ret = ret ? ret : emit_attn_out(b, lw);
	ret = ret ? ret : emit_ffn_in(b, lw);
	return ret ? ret : emit_ffn_out(b, lw);
}

static int emit_parts(struct builder *b, uint32_t parts)
{
	int ret = 0;

	if (parts & UNPU_PART_EMBED)
		ret = emit_embed(b);
	for (uint32_t i = 0; parts & UNPU_PART_LAYERS && i < b->c->weights->arch->hp.layers; i++)
		ret = ret ? ret : emit_layer(b, i);
	if (parts & UNPU_PART_HEAD)
		ret = ret ? ret : emit_head(b);
	if (parts & UNPU_PART_SAMPLE)
		ret = ret ? ret : emit_sample(b);
	return ret;
}

/* ---- the program -------------------------------------------------------------------------- */

static int builder_init(struct builder *b, struct unpu_compiler *c, size_t dispatches)
{
	size_t bindings = dispatches * UNPU_SHADER_MAX_BINDINGS;

	*b = (struct builder){ .c = c };
	b->dispatches = calloc(dispatches, sizeof(*b->dispatches));
	b->bindings = calloc(bindings, sizeof(*b->bindings));
	b->buffers = calloc(bindings + 1, sizeof(*b->buffers));
	b->constants = calloc(dispatches, MAX_CONST_BYTES);
	if (!b->dispatches || !b->bindings || !b->buffers || !b->constants)
		return unpu_fail(&c->weights->log, -ENOMEM, "no memory for a program");
	return 0;
}

static void builder_finish(struct builder *b)
{
	free(b->dispatches);
	free(b->bindings);
	free(b->buffers);
	free(b->constants);
}

static struct drm_unpu_array array(const void *ptr, uint32_t count, size_t stride)
{
	return (struct drm_unpu_array){ .stride = (uint32_t)stride, .count = count,
					.ptr = (uintptr_t)ptr };
}

static int create_program(struct builder *b, bool stops, uint32_t *program_id)
{
	struct unpu_device *dev = b->c->weights->dev;
	struct drm_unpu_program_create args = { 0 };
	int ret;

	if (stops) {
		args.flags = DRM_UNPU_PROGRAM_STOP;
		args.stop_offset = offsetof(struct unpu_state_header, stop);
		args.stop_buffer = buffer_index(b, &b->c->work->state,
						DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE);
	}
	args.buffers = array(b->buffers, b->num_buffers, sizeof(*b->buffers));
	args.dispatches = array(b->dispatches, b->num_dispatches, sizeof(*b->dispatches));
	args.bindings = array(b->bindings, b->num_bindings, sizeof(*b->bindings));
	args.constants = (uintptr_t)b->constants;
	args.const_bytes = b->const_bytes;
	ret = dev->ops->program_create(dev, &args);
	*program_id = args.program_id;
	return ret;
}

int unpu_compile(struct unpu_compiler *c, uint32_t parts, uint32_t *program_id,
		 uint32_t *dispatches)
{
	struct builder b;
	int ret = builder_init(&b, c, PHASES_PER_LAYER * c->weights->arch->hp.layers + 3);

	ret = ret ? ret : emit_parts(&b, parts);
	ret = ret ? ret : create_program(&b, true, program_id);
	if (!ret && dispatches)
		*dispatches = b.num_dispatches;
	builder_finish(&b);
	return ret;
}

static int emit_copy(struct builder *b, const struct unpu_copy *copy)
{
	const struct unpu_copy_const constants = {
		.bytes_lo = (uint32_t)copy->src.bytes,
		.bytes_hi = (uint32_t)(copy->src.bytes >> 32),
	};
	const struct unpu_range *ranges[] = { &copy->src, &copy->dst };
	const uint32_t no_spec[1] = { 0 };

	return emit(b, UNPU_SHADER_COPY, no_spec, &constants, ranges);
}

int unpu_compile_copies(struct unpu_compiler *c, const struct unpu_copy *copies, uint32_t count,
			uint32_t *program_id)
{
	struct builder b;
	int ret = builder_init(&b, c, count);

	for (uint32_t i = 0; i < count; i++)
		ret = ret ? ret : emit_copy(&b, &copies[i]);
	ret = ret ? ret : create_program(&b, false, program_id);
	builder_finish(&b);
	return ret;
}

void unpu_compiler_init(struct unpu_compiler *c, const struct unpu_weights *weights,
			const struct unpu_work *work)
{
	memset(c, 0, sizeof(*c));
	c->weights = weights;
	c->work = work;
}

void unpu_compiler_finish(struct unpu_compiler *c)
{
	struct drm_unpu_shader_destroy args = { 0 };

	for (uint32_t i = 0; i < c->num_shaders; i++) {
		args.shader_id = c->shaders[i].id;
		c->weights->dev->ops->shader_destroy(c->weights->dev, &args);
	}
	c->num_shaders = 0;
}
