/* SPDX-License-Identifier: MIT */
/* The vulkan engine to the frame of in-process devices. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/vulkan/engine.h"

static struct unpu_vk_engine *vk_engine(struct unpu_engine *base)
{
	return (struct unpu_vk_engine *)base;	/* base is the first member */
}

/* ---- what the device tells ------------------------------------------------------------------- */

static void add_matrix(struct drm_unpu_dev_info *info, uint32_t layout, uint32_t numeric)
{
	info->matrices[info->num_matrices++] = (struct drm_unpu_matrix){ (uint16_t)layout,
									 (uint16_t)numeric };
}

/*
 * Class a8 where a dot product is one instruction, and where it was asked for: without that it is
 * no faster than f32, and less exact. The baseline has none.
 */
static bool takes_a8(const struct unpu_vk_engine *e)
{
	const struct unpu_vk_caps *caps = &e->vk.caps;

	if (!unpu_vk_math_works(caps, UNPU_VK_SDOT) || e->tuning.math == UNPU_VK_F32)
		return false;
	return caps->dot_signed || caps->dot_mixed || e->tuning.math == UNPU_VK_SDOT ||
	       e->tuning.math == UNPU_VK_SUDOT;
}

static void vk_info(struct unpu_engine *base, struct drm_unpu_dev_info *info)
{
	struct unpu_vk_engine *e = vk_engine(base);
	const struct unpu_vk_caps *caps = &e->vk.caps;

	info->features = caps->unified ? DRM_UNPU_FEATURE_UNIFIED : 0;
	/* The matrix shaders keep one order of sums in all their builds; a driver keeps none for
	 * subgroup adds, whose width it may choose for each shader. */
	if (e->tuning.math == UNPU_VK_F32)
		info->features |= DRM_UNPU_FEATURE_PURE_ROWS;
	info->heap_window_bytes = caps->info.heap_bytes;
	info->heap_device_bytes = caps->info.heap_bytes;
	info->max_bo_bytes = caps->max_alloc < caps->info.heap_bytes ? caps->max_alloc :
								       caps->info.heap_bytes;
	/* Weights may be larger than a descriptor takes: the engine cuts them into banks. */
	info->max_binding_bytes = info->max_bo_bytes;
	info->binding_align = caps->buffer_align < 32 ? 32 : caps->buffer_align;
	info->max_const_bytes = UNPU_VK_PUSH_BYTES - 8;
	info->tokens_per_submit = UNPU_VK_ROUNDS;
	info->default_timeout_ns = caps->timeout_ns;
	info->units = 0;
	info->kv_types = 1u << DRM_UNPU_KV_F32 | 1u << DRM_UNPU_KV_F16;
	info->num_matrices = 0;
	if (takes_a8(e)) {
		add_matrix(info, DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_A8);
		add_matrix(info, DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_A8);
	}
	add_matrix(info, DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_F32);
	add_matrix(info, DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_F32);
	add_matrix(info, DRM_UNPU_LAYOUT_F16_R32, DRM_UNPU_CLASS_F32);
	add_matrix(info, DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32);
	snprintf((char *)info->name, sizeof(info->name), "%.*s", (int)sizeof(info->name) - 1,
		 caps->info.name);
}

static uint32_t kv_type_of(uint32_t kind, const uint32_t *spec)
{
	const void *s = spec;

	switch (kind) {
	case UNPU_SHADER_QKV:
		return ((const struct unpu_qkv_spec *)s)->kv_type;
	case UNPU_SHADER_ATTN:
		return ((const struct unpu_attn_spec *)s)->kv_type;
	}
	return DRM_UNPU_KV_F32;
}

/* Rows of the table that a shader looks tokens up in; -1: it does not. */
static int table_layout(uint32_t kind, const uint32_t *spec)
{
	const void *s = spec;

	switch (kind) {
	case UNPU_SHADER_EMBED:
		return (int)((const struct unpu_embed_spec *)s)->layout;
	case UNPU_SHADER_SAMPLE:
		return (int)((const struct unpu_sample_spec *)s)->layout;
	}
	return -1;
}

static int vk_shader_check(struct unpu_engine *base, uint32_t kind, const uint32_t *spec)
{
	struct unpu_vk_engine *e = vk_engine(base);
	int table = table_layout(kind, spec);

	if (kv_type_of(kind, spec) == DRM_UNPU_KV_INT8)
		return -EOPNOTSUPP;
	if (table >= 0 && (table < DRM_UNPU_LAYOUT_F32_R32 || table > DRM_UNPU_LAYOUT_Q4_R32))
		return -EOPNOTSUPP;
	return unpu_vk_module_find(&e->vk.caps, &e->tuning, kind, spec) < 0 ? -EOPNOTSUPP : 0;
}

/* What drivers keep of a compiled shader: lavapipe was seen to take 600 KiB, those of GPUs need
 * less. */
#define PIPELINE_BYTES	(640u << 10)

static uint64_t vk_used(struct unpu_engine *base)
{
	return (uint64_t)atomic_load(&vk_engine(base)->shaders.num_in_use) * PIPELINE_BYTES;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static int add_buffer(struct unpu_vk_engine *e, enum unpu_vk_memory kind, struct unpu_bo *bo)
{
	struct unpu_vk_buffer *buffer = calloc(1, sizeof(*buffer));
	int err;

	if (!buffer)
		return -ENOMEM;
	err = unpu_vk_buffer_create(&e->vk, kind, bo->size, buffer);
	if (err) {
		free(buffer);
		return err;
	}
	bo->priv = buffer;
	return 0;
}

static int vk_bo_alloc(struct unpu_engine *base, struct unpu_bo *bo)
{
	enum unpu_vk_memory kind = bo->flags & DRM_UNPU_BO_MMAP ? UNPU_VK_WINDOW : UNPU_VK_DEVICE;
	int err = add_buffer(vk_engine(base), kind, bo);

	if (!err)
		bo->ptr = ((struct unpu_vk_buffer *)bo->priv)->ptr;
	return err;
}

/* A shadow, which the host has to see: bo->ptr stays the caller's. */
static int vk_bo_import(struct unpu_engine *base, struct unpu_bo *bo)
{
	return add_buffer(vk_engine(base), UNPU_VK_WINDOW, bo);
}

static void vk_bo_free(struct unpu_engine *base, struct unpu_bo *bo)
{
	struct unpu_vk_engine *e = vk_engine(base);

	unpu_vk_buffer_destroy(&e->vk, bo->priv);
	free(bo->priv);
	bo->priv = NULL;
	bo->ptr = NULL;
}

/* ---- programs -------------------------------------------------------------------------------- */

static int vk_program_prepare(struct unpu_engine *base, struct unpu_program *program)
{
	return unpu_vk_program_prepare(vk_engine(base), program);
}

static void vk_program_release(struct unpu_engine *base, struct unpu_program *program)
{
	unpu_vk_program_release(vk_engine(base), program);
}

static int vk_run(struct unpu_engine *base, struct unpu_program *program, uint32_t repeat,
		  const atomic_uint *cancel, uint32_t *done)
{
	return unpu_vk_run(vk_engine(base), program, repeat, cancel, done);
}

void unpu_vulkan_counters(struct unpu_engine *base, struct unpu_vulkan_counters *counters)
{
	const struct unpu_vulkan_counters *from = &vk_engine(base)->vk.counters;

	*counters = (struct unpu_vulkan_counters){
		.submits = __atomic_load_n(&from->submits, __ATOMIC_RELAXED),
		.dispatches = __atomic_load_n(&from->dispatches, __ATOMIC_RELAXED),
		.canaries = __atomic_load_n(&from->canaries, __ATOMIC_RELAXED),
		.recordings = __atomic_load_n(&from->recordings, __ATOMIC_RELAXED),
		.allocations = __atomic_load_n(&from->allocations, __ATOMIC_RELAXED),
		.descriptor_updates = __atomic_load_n(&from->descriptor_updates, __ATOMIC_RELAXED),
		.pipelines = __atomic_load_n(&from->pipelines, __ATOMIC_RELAXED),
		.compile_ns = __atomic_load_n(&from->compile_ns, __ATOMIC_RELAXED),
	};
}

/* ---- birth and death ------------------------------------------------------------------------- */

static void vk_destroy(struct unpu_engine *base)
{
	struct unpu_vk_engine *e = vk_engine(base);

	if (!e)
		return;
	if (e->vk.device && e->vk.fn.DestroyFence) {
		if (!atomic_load(&e->vk.lost) && e->vk.fn.DeviceWaitIdle(e->vk.device))
			atomic_store(&e->vk.lost, true);
		unpu_vk_canaries_finish(e);
		unpu_vk_buffer_destroy(&e->vk, &e->none);
		if (!atomic_load(&e->vk.lost))
			e->vk.fn.DestroyFence(e->vk.device, e->fence, NULL);
	}
	unpu_vk_shaders_finish(&e->vk, &e->shaders);
	unpu_vk_close(&e->vk);
	free(e);
}

static const struct unpu_engine_ops vk_engine_ops = {
	.info = vk_info,
	.bo_alloc = vk_bo_alloc,
	.bo_free = vk_bo_free,
	.bo_import = vk_bo_import,
	.shader_check = vk_shader_check,
	.program_prepare = vk_program_prepare,
	.program_release = vk_program_release,
	.run = vk_run,
	.destroy = vk_destroy,
	.used = vk_used,
};

/* A tuning that the device's features do not carry comes from a list that was of another driver. */
static int set_tuning(struct unpu_vk_engine *e, const char *text)
{
	unpu_vk_tuning_init(&e->vk.caps, &e->tuning);
	if (!text)
		return 0;
	if (unpu_vk_tuning_parse(text, &e->tuning))
		return unpu_fail(&e->vk.log, -EINVAL, "vulkan: \"%s\" is no tuning", text);
	if (!unpu_vk_math_works(&e->vk.caps, e->tuning.math))
		return unpu_fail(&e->vk.log, -ENOTSUP, "vulkan: %s does not have what tuning %s "
				 "needs", e->vk.caps.info.name, text);
	return 0;
}

int unpu_vulkan_engine_create(uint32_t index, const struct unpu_device_params *params,
			      struct unpu_engine **engine)
{
	struct unpu_vk_engine *e = calloc(1, sizeof(*e));
	int err;

	if (!e)
		return unpu_fail(&params->log, -ENOMEM, "vulkan: no memory for the device");
	e->base.ops = &vk_engine_ops;
	e->base.threaded = true;
	e->slice_ns = params->slice_ns;
	err = unpu_vk_open(&e->vk, index, &params->log);
	if (err) {
		free(e);
		return err;
	}
	err = set_tuning(e, params->tuning);
	if (!err)
		err = unpu_vk_shaders_init(&e->vk, &e->shaders);
	if (!err)
		err = unpu_vk_fence(&e->vk, &e->fence);
	if (!err)
		err = unpu_vk_buffer_create(&e->vk, UNPU_VK_DEVICE, 4096, &e->none);
	if (err) {
		vk_destroy(&e->base);
		return err;
	}
	*engine = &e->base;
	return 0;
}

int unpu_vulkan_device_open(uint32_t index, const struct unpu_device_params *params,
			    struct unpu_device **dev)
{
	struct unpu_engine *engine;
	char id[16];
	int err = unpu_vulkan_engine_create(index, params, &engine);

	if (err)
		return err;
	snprintf(id, sizeof(id), "vulkan:%u", index);
	return unpu_inproc_create(engine, id, &params->log, params->watch, dev);
}
