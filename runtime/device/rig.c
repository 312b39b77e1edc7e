/* SPDX-License-Identifier: MIT */
#include "runtime/device/rig.h"

#include <errno.h>
#include <string.h>
#include <time.h>

uint64_t unpu_rig_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int unpu_rig_init(struct unpu_rig *rig, struct unpu_device *dev)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_dev_query query = {
		.type = DRM_UNPU_QUERY_DEV_INFO, .size = sizeof(rig->info),
		.pointer = (uintptr_t)&rig->info,
	};
	int ret;

	*rig = (struct unpu_rig){ .dev = dev };
	ret = dev->ops->dev_query(dev, &query);
	ret = ret ? ret : dev->ops->ctx_create(dev, &ctx);
	rig->ctx_id = ctx.ctx_id;
	ret = ret ? ret : dev->ops->syncobj_create(dev, &rig->syncobj);
	if (ret)
		unpu_rig_finish(rig);
	return ret;
}

void unpu_rig_finish(struct unpu_rig *rig)
{
	struct drm_unpu_ctx_destroy ctx = { .ctx_id = rig->ctx_id };

	if (rig->syncobj)
		rig->dev->ops->syncobj_destroy(rig->dev, rig->syncobj);
	if (rig->ctx_id)
		rig->dev->ops->ctx_destroy(rig->dev, &ctx);
	rig->syncobj = rig->ctx_id = 0;
}

/* ---- buffers ------------------------------------------------------------------------------- */

int unpu_rig_alloc(struct unpu_rig *rig, uint64_t bytes, uint32_t flags,
		   struct unpu_rig_range *range)
{
	struct drm_unpu_bo_create bo = { .size = bytes, .flags = flags };
	void *ptr = NULL;
	int ret;

	*range = (struct unpu_rig_range){ 0 };
	ret = rig->dev->ops->bo_create(rig->dev, &bo);
	if (ret)
		return ret;
	if (flags & DRM_UNPU_BO_MMAP)
		ret = rig->dev->ops->bo_map(rig->dev, bo.handle, &ptr);
	if (ret) {
		rig->dev->ops->bo_close(rig->dev, bo.handle);
		return ret;
	}
	*range = (struct unpu_rig_range){ bo.handle, 0, bo.size, ptr };
	return 0;
}

void unpu_rig_free(struct unpu_rig *rig, struct unpu_rig_range *range)
{
	if (range->ptr)
		rig->dev->ops->bo_unmap(rig->dev, range->handle, range->ptr, range->bytes);
	if (range->handle)
		rig->dev->ops->bo_close(rig->dev, range->handle);
	*range = (struct unpu_rig_range){ 0 };
}

struct unpu_rig_range unpu_rig_part(const struct unpu_rig_range *range, uint64_t offset,
				    uint64_t bytes)
{
	return (struct unpu_rig_range){
		range->handle, range->offset + offset, bytes,
		range->ptr ? range->ptr + offset : NULL,
	};
}

/* ---- programs ------------------------------------------------------------------------------ */

struct tables {
	struct drm_unpu_buffer buffers[UNPU_RIG_MAX_DISPATCHES * UNPU_SHADER_MAX_BINDINGS];
	struct drm_unpu_binding bindings[UNPU_RIG_MAX_DISPATCHES * UNPU_SHADER_MAX_BINDINGS];
	struct drm_unpu_dispatch dispatches[UNPU_RIG_MAX_DISPATCHES];
	uint8_t constants[UNPU_RIG_MAX_DISPATCHES * sizeof(struct unpu_copy_const)];
	uint32_t num_buffers, num_dispatches, const_bytes;
};

static int add_shader(struct unpu_rig *rig, const struct unpu_rig_dispatch *d, uint32_t *id)
{
	const struct unpu_shader_info *info = unpu_shader_info(d->kind);
	struct drm_unpu_shader_create args = { .spec = (uintptr_t)d->spec,
					       .spec_words = info->spec_words };
	int ret;

	memcpy(args.name, info->name, strlen(info->name));
	ret = rig->dev->ops->shader_create(rig->dev, &args);
	*id = args.shader_id;
	return ret;
}

static uint32_t add_buffer(struct tables *t, const struct unpu_rig_range *range, uint32_t access)
{
	const struct drm_unpu_buffer want = { .handle = range->handle, .flags = access,
					      .offset = range->offset, .size = range->bytes };
	uint32_t i;

	for (i = 0; i < t->num_buffers; i++)
		if (!memcmp(&t->buffers[i], &want, sizeof(want)))
			return i;
	t->buffers[t->num_buffers] = want;
	return t->num_buffers++;
}

/* The shader's id is in the table when this fails, or 0. */
static int add_dispatch(struct unpu_rig *rig, struct tables *t, const struct unpu_rig_dispatch *d,
			const struct unpu_rig_range *none)
{
	const struct unpu_shader_info *info = unpu_shader_info(d->kind);
	struct drm_unpu_dispatch *to = &t->dispatches[t->num_dispatches];
	uint32_t first = t->num_dispatches * UNPU_SHADER_MAX_BINDINGS;
	struct unpu_shader_need need;
	uint32_t i;

	if (unpu_shader_check_spec(d->kind, d->spec, info->spec_words) ||
	    unpu_shader_need(d->kind, d->spec, d->constants, info->const_bytes, &need))
		return unpu_fail(&rig->dev->log, -EINVAL, "%s has no dispatch of this shape",
				 info->name);
	*to = (struct drm_unpu_dispatch){
		.first_binding = first, .num_bindings = info->num_bindings,
		.const_offset = t->const_bytes, .const_bytes = info->const_bytes,
		.grid = { need.grid[0], need.grid[1], need.grid[2] },
	};
	t->num_dispatches++;
	if (info->const_bytes)
		memcpy(t->constants + t->const_bytes, d->constants, info->const_bytes);
	t->const_bytes += info->const_bytes;
	for (i = 0; i < info->num_bindings; i++)
		t->bindings[first + i].buffer = add_buffer(t, d->bindings[i].bytes ?
			&d->bindings[i] : none, info->write_mask >> i & 1 ?
			DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE : DRM_UNPU_ACCESS_READ);
	/* The table of bindings has no holes. */
	for (; i < UNPU_SHADER_MAX_BINDINGS; i++)
		t->bindings[first + i].buffer = t->bindings[first].buffer;
	return add_shader(rig, d, &to->shader_id);
}

static int make_program(struct unpu_rig *rig, const struct tables *t, uint32_t *program_id)
{
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(t->buffers[0]), t->num_buffers, (uintptr_t)t->buffers },
		.dispatches = { sizeof(t->dispatches[0]), t->num_dispatches,
				(uintptr_t)t->dispatches },
		.bindings = { sizeof(t->bindings[0]),
			      t->num_dispatches * UNPU_SHADER_MAX_BINDINGS,
			      (uintptr_t)t->bindings },
		.constants = (uintptr_t)t->constants, .const_bytes = t->const_bytes,
	};
	int ret = rig->dev->ops->program_create(rig->dev, &args);

	*program_id = args.program_id;
	return ret;
}

int unpu_rig_program(struct unpu_rig *rig, const struct unpu_rig_dispatch *dispatches,
		     uint32_t count, uint32_t *program_id)
{
	struct drm_unpu_shader_destroy shader = { 0 };
	struct tables t;
	uint32_t i;
	int ret = 0;

	memset(&t, 0, sizeof(t));
	for (i = 0; i < count && i < UNPU_RIG_MAX_DISPATCHES && !ret; i++)
		ret = add_dispatch(rig, &t, &dispatches[i], &dispatches[0].bindings[0]);
	ret = ret ? ret : make_program(rig, &t, program_id);
	for (i = 0; i < t.num_dispatches; i++) {
		shader.shader_id = t.dispatches[i].shader_id;
		if (shader.shader_id)
			rig->dev->ops->shader_destroy(rig->dev, &shader);
	}
	return ret;
}

void unpu_rig_program_free(struct unpu_rig *rig, uint32_t program_id)
{
	struct drm_unpu_program_destroy args = { .program_id = program_id };

	rig->dev->ops->program_destroy(rig->dev, &args);
}

int unpu_rig_run(struct unpu_rig *rig, uint32_t program_id, uint32_t repeat)
{
	struct drm_unpu_run run = { .program_id = program_id, .repeat = repeat };
	struct drm_unpu_sync sync = { .handle = rig->syncobj, .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit submit = {
		.ctx_id = rig->ctx_id,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	struct drm_unpu_ctx_query query = { .ctx_id = rig->ctx_id };
	int ret = rig->dev->ops->submit(rig->dev, &submit);

	ret = ret ? ret : rig->dev->ops->syncobj_wait(rig->dev, rig->syncobj, 0, UINT64_MAX);
	ret = ret ? ret : rig->dev->ops->ctx_query(rig->dev, &query);
	if (ret)
		return ret;
	if (query.failed_seqno >= submit.seqno)
		return query.failed_errno;
	return query.state == DRM_UNPU_CTX_OK ? 0 : -EIO;
}

int unpu_rig_once(struct unpu_rig *rig, const struct unpu_rig_dispatch *dispatch)
{
	uint32_t program_id;
	int ret = unpu_rig_program(rig, dispatch, 1, &program_id);

	if (ret)
		return ret;
	ret = unpu_rig_run(rig, program_id, 1);
	unpu_rig_program_free(rig, program_id);
	return ret;
}

/* ---- layouts ------------------------------------------------------------------------------- */

/* GGUF's numbers, which are those of enum unpu_type: device/ knows no files. */
enum {
	TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q4_1 = 3, TYPE_Q5_0 = 6, TYPE_Q5_1 = 7,
	TYPE_Q8_0 = 8, TYPE_Q4_K = 12, TYPE_Q5_K = 13, TYPE_Q6_K = 14, TYPE_IQ4_NL = 20,
	TYPE_BF16 = 30,
};

static bool quantised(uint32_t type)
{
	return type != TYPE_F32 && type != TYPE_F16 && type != TYPE_BF16;
}

/* Types of more than one scale a block: where no family is theirs they are rounded to f16. */
static bool holds_k(const struct unpu_layout_info *is, uint32_t layout, uint32_t family,
		    const struct unpu_device_shape *shape)
{
	if (is->quantised)
		return is->family == family || is->family == UNPU_FAMILY_Q8A;
	if (layout == DRM_UNPU_LAYOUT_BF16_R16)
		return false;
	return is->bits == 32 || !shape->class_f32;
}

/* A layout takes a type when each of its values can be written there as it is. */
static bool holds(uint32_t layout, const struct unpu_device_shape *shape)
{
	const struct unpu_layout_info *is = unpu_layout_info(layout);

	switch (shape->type) {
	case TYPE_F32:
		return !is->quantised && is->bits == 32;
	case TYPE_F16:
		return !is->quantised && layout != DRM_UNPU_LAYOUT_BF16_R16;
	case TYPE_BF16:
		return !is->quantised && (is->bits == 32 || layout == DRM_UNPU_LAYOUT_BF16_R16);
	case TYPE_Q8_0:
	case TYPE_Q5_0:
	case TYPE_IQ4_NL:
		return is->family == UNPU_FAMILY_Q && is->bits == 8;
	case TYPE_Q4_0:
		return is->family == UNPU_FAMILY_Q;
	case TYPE_Q4_K:
		return holds_k(is, layout, UNPU_FAMILY_Q4K, shape);
	case TYPE_Q6_K:
		return holds_k(is, layout, UNPU_FAMILY_Q6K, shape);
	case TYPE_Q4_1:
	case TYPE_Q5_1:
	case TYPE_Q5_K:
		return holds_k(is, layout, UNPU_FAMILY_Q8A, shape);
	}
	return false;
}

/* A model whose rows are not all whole groups has other types beside the one that is asked for. */
static bool fits(const struct unpu_layout_info *is, const struct unpu_device_shape *s)
{
	return s->hidden % is->group == 0 && s->ffn % is->group == 0 &&
	       s->heads * s->head_dim % is->group == 0;
}

static uint32_t layout_bytes(const struct drm_unpu_matrix *m)
{
	const struct unpu_layout_info *is = unpu_layout_info(m->layout);

	return 32u * is->bits + 256u / is->group * is->scales;
}

static int smallest(const struct drm_unpu_dev_info *info, const struct unpu_device_shape *shape,
		    bool plain, uint32_t numeric, struct drm_unpu_matrix *matrix)
{
	const struct drm_unpu_matrix *best = NULL;

	for (uint32_t i = 0; i < info->num_matrices && i < DRM_UNPU_MAX_MATRICES; i++) {
		const struct drm_unpu_matrix *m = &info->matrices[i];
		const struct unpu_layout_info *is = unpu_layout_info(m->layout);

		if (m->numeric != numeric || !is || !is->packed || !holds(m->layout, shape))
			continue;
		if (is->family > UNPU_FAMILY_Q && (plain || (is->group > 32 && !fits(is, shape))))
			continue;
		if (!best || layout_bytes(m) < layout_bytes(best))
			best = m;
	}
	if (!best)
		return -ENOTSUP;
	*matrix = *best;
	return 0;
}

int unpu_rig_matrix(const struct drm_unpu_dev_info *info, const struct unpu_device_shape *shape,
		    bool plain, struct drm_unpu_matrix *matrix)
{
	/* A device without a dot product has class f32 alone. */
	if (!shape->class_f32 && quantised(shape->type) &&
	    !smallest(info, shape, plain, DRM_UNPU_CLASS_A8, matrix))
		return 0;
	return smallest(info, shape, plain, DRM_UNPU_CLASS_F32, matrix);
}
