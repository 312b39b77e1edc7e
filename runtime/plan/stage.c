/* SPDX-License-Identifier: MIT */
#include "runtime/plan/stage.h"

#include <errno.h>
#include <string.h>

int unpu_stage_init(struct unpu_stage *stage, const struct unpu_weights *weights, uint64_t bytes)
{
	const struct drm_unpu_dev_info *info = &weights->info;
	struct drm_unpu_bo_create bo = { .size = bytes, .flags = DRM_UNPU_BO_MMAP };
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct unpu_device *dev = weights->dev;
	void *ptr;
	int ret;

	memset(stage, 0, sizeof(*stage));
	stage->weights = weights;
	unpu_compiler_init(&stage->compiler, weights, &stage->none);
	stage->max_copies = UNPU_STAGE_COPIES;
	if (stage->max_copies > info->max_dispatches)
		stage->max_copies = info->max_dispatches;
	if (stage->max_copies > info->max_buffers / 2)
		stage->max_copies = info->max_buffers / 2;
	ret = dev->ops->bo_create(dev, &bo);
	if (ret)
		return ret;
	stage->handle = bo.handle;
	stage->bytes = bytes;
	ret = dev->ops->bo_map(dev, bo.handle, &ptr);
	if (ret)
		return ret;
	stage->ptr = ptr;
	ret = dev->ops->ctx_create(dev, &ctx);
	if (ret)
		return ret;
	stage->ctx_id = ctx.ctx_id;
	return dev->ops->syncobj_create(dev, &stage->syncobj);
}

void unpu_stage_finish(struct unpu_stage *stage)
{
	struct drm_unpu_ctx_destroy ctx = { .ctx_id = stage->ctx_id };
	struct unpu_device *dev;

	if (!stage->weights)
		return;
	dev = stage->weights->dev;
	unpu_compiler_finish(&stage->compiler);
	if (stage->ctx_id)
		dev->ops->ctx_destroy(dev, &ctx);
	if (stage->syncobj)
		dev->ops->syncobj_destroy(dev, stage->syncobj);
	if (stage->ptr)
		dev->ops->bo_unmap(dev, stage->handle, stage->ptr, stage->bytes);
	if (stage->handle)
		dev->ops->bo_close(dev, stage->handle);
	memset(stage, 0, sizeof(*stage));
}

static int run(struct unpu_stage *stage, uint32_t program_id)
{
	struct unpu_device *dev = stage->weights->dev;
	struct drm_unpu_run run = { .program_id = program_id, .repeat = 1 };
	struct drm_unpu_sync sync = { .handle = stage->syncobj, .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit submit = {
		.ctx_id = stage->ctx_id,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	struct drm_unpu_ctx_query query = { .ctx_id = stage->ctx_id };
	int ret = dev->ops->submit(dev, &submit);

	ret = ret ? ret : dev->ops->syncobj_wait(dev, stage->syncobj, 0, UINT64_MAX);
	ret = ret ? ret : dev->ops->ctx_query(dev, &query);
	if (!ret && query.failed_seqno >= submit.seqno)
		ret = query.failed_errno;
	return ret ? unpu_fail(&stage->weights->log, ret, "%s failed to take the weights: %s",
			       dev->id, strerror(-ret)) : 0;
}

int unpu_stage_flush(struct unpu_stage *stage)
{
	struct unpu_device *dev = stage->weights->dev;
	struct drm_unpu_program_destroy program = { 0 };
	int ret;

	if (!stage->num_copies)
		return 0;
	ret = unpu_compile_copies(&stage->compiler, stage->copies, stage->num_copies,
				  &program.program_id);
	if (ret)
		return ret;
	ret = run(stage, program.program_id);
	dev->ops->program_destroy(dev, &program);
	stage->num_copies = 0;
	stage->used = 0;
	return ret;
}

static uint64_t aligned(const struct unpu_stage *stage, uint64_t bytes)
{
	uint64_t align = unpu_part_align(&stage->weights->info);

	return (bytes + align - 1) / align * align;
}

int unpu_stage_room(struct unpu_stage *stage, uint64_t bytes, uint32_t count)
{
	uint64_t most = aligned(stage, bytes) + (uint64_t)count * aligned(stage, 1);

	if (most > stage->bytes || count > stage->max_copies)
		return unpu_fail(&stage->weights->log, -E2BIG, "a piece of %llu bytes of the "
				 "weights is too large to be brought to %s",
				 (unsigned long long)bytes, stage->weights->dev->id);
	if (most <= stage->bytes - stage->used && count <= stage->max_copies - stage->num_copies)
		return 0;
	return unpu_stage_flush(stage);
}

uint8_t *unpu_stage_piece(struct unpu_stage *stage, const struct unpu_range *to)
{
	struct unpu_copy *copy = &stage->copies[stage->num_copies++];
	uint64_t bytes = (to->bytes + 3) / 4 * 4;	/* parts of buffers begin at far more */
	uint8_t *ptr = stage->ptr + stage->used;

	copy->src = (struct unpu_range){ stage->handle, stage->used, bytes };
	copy->dst = (struct unpu_range){ to->handle, to->offset, bytes };
	stage->used += aligned(stage, bytes);
	return ptr;
}
