/* SPDX-License-Identifier: MIT */
/* The frame of in-process devices: the device itself, its limits and its end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/device/inproc_priv.h"
#include "uapi/unpu_check.h"

void unpu_inproc_unlock(struct inproc *dev)
{
	struct inproc_program *dead = dev->dead;

	dev->dead = NULL;
	pthread_mutex_unlock(&dev->lock);
	while (dead) {
		struct inproc_program *next = dead->next_dead;

		unpu_inproc_program_free(dev, dead);
		dead = next;
	}
}

void unpu_inproc_unlock_quickly(struct inproc *dev)
{
	if (!dev->runner_started) {
		unpu_inproc_unlock(dev);
		return;
	}
	if (dev->dead)
		pthread_cond_signal(&dev->work);
	pthread_mutex_unlock(&dev->lock);
}

int unpu_inproc_refuse(struct inproc *dev, const char *call, int err)
{
	return unpu_fail(&dev->base.log, err, "%s: %s refused: %s", dev->base.id, call,
			 strerror(-err));
}

void *unpu_inproc_pointer(uint64_t ptr)
{
	return (uintptr_t)ptr == ptr ? (void *)(uintptr_t)ptr : NULL;
}

int unpu_inproc_copy_element(void *to, uint32_t size, const struct drm_unpu_array *array,
			     uint32_t i)
{
	const uint8_t *from = unpu_inproc_pointer(array->ptr);
	uint32_t known = size < array->stride ? size : array->stride;

	from += (size_t)i * array->stride;
	memset(to, 0, size);
	memcpy(to, from, known);
	return unpu_check_tail(from + known, array->stride - known);
}

/* ---- queries ------------------------------------------------------------------------------- */

/* What fits is copied, what the caller has room for beyond it is zeroed. */
static void put_answer(struct drm_unpu_dev_query *args, const void *answer, uint32_t size)
{
	uint32_t known = size < args->size ? size : args->size;
	uint8_t *to = unpu_inproc_pointer(args->pointer);

	if (to) {
		memcpy(to, answer, known);
		memset(to + known, 0, args->size - known);
	}
	args->size = size;
}

static void shader_names(struct drm_unpu_shader_name names[UNPU_SHADER_COUNT])
{
	uint32_t kind;

	memset(names, 0, UNPU_SHADER_COUNT * sizeof(*names));
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++)
		memcpy(names[kind].name, unpu_shader_info(kind)->name,
		       strlen(unpu_shader_info(kind)->name));
}

static int dev_query(struct inproc *dev, struct drm_unpu_dev_query *args)
{
	struct drm_unpu_shader_name names[UNPU_SHADER_COUNT];
	struct drm_unpu_dev_stats stats;
	const void *answer;
	uint32_t size, least, unit = 1;
	int err;

	switch (args->type) {
	case DRM_UNPU_QUERY_DEV_INFO:
		answer = &dev->info;
		size = sizeof(dev->info);
		least = UNPU_V1_DEV_INFO;
		break;
	case DRM_UNPU_QUERY_DEV_STATS:
		unpu_inproc_lock(dev);
		stats = dev->stats;
		unpu_inproc_unlock(dev);
		if (dev->engine->ops->used)
			stats.device_used_bytes += dev->engine->ops->used(dev->engine);
		answer = &stats;
		size = sizeof(stats);
		least = UNPU_V1_DEV_STATS;
		break;
	case DRM_UNPU_QUERY_DEV_SHADERS:
		shader_names(names);
		answer = names;
		size = sizeof(names);
		least = unit = sizeof(names[0]);
		break;
	default:
		return -EINVAL;
	}
	err = unpu_check_dev_query(args, least, unit);
	if (err)
		return err;
	if (args->pointer && !unpu_inproc_pointer(args->pointer))
		return -EFAULT;
	put_answer(args, answer, size);
	return 0;
}

static int inproc_dev_query(struct unpu_device *base, struct drm_unpu_dev_query *args)
{
	int err = dev_query(to_inproc(base), args);

	return err ? unpu_inproc_refuse(to_inproc(base), "DEV_QUERY", err) : 0;
}

/* ---- end ----------------------------------------------------------------------------------- */

/* Everything that runs or waits comes to an end; later calls are the caller's mistake. */
static void cancel_all(struct inproc *dev)
{
	struct inproc_ctx *ctx, *next;

	unpu_inproc_lock(dev);
	dev->closing = true;
	for (ctx = dev->all_ctxs; ctx; ctx = next) {
		next = ctx->next;
		if (!ctx->destroyed)
			unpu_inproc_ctx_kill(dev, ctx);
	}
	while (dev->waiters || dev->running)
		pthread_cond_wait(&dev->changed, &dev->lock);
	unpu_inproc_unlock(dev);
}

static void free_tables(struct inproc *dev)
{
	struct inproc_program *program;
	struct inproc_shader *shader;
	struct inproc_bo *bo;
	struct unpu_syncobj *obj;

	unpu_inproc_lock(dev);
	while ((obj = unpu_table_pop(&dev->syncobjs)))
		unpu_syncobj_put(obj);
	while ((program = unpu_table_pop(&dev->programs)))
		unpu_inproc_program_put(dev, program);
	unpu_inproc_unlock(dev);
	while ((shader = unpu_table_pop(&dev->shaders)))
		unpu_inproc_shader_put(shader);
	while ((bo = dev->mapped)) {
		dev->mapped = bo->next_mapped;
		while (bo->maps > 1) {
			bo->maps--;
			unpu_inproc_bo_put(dev, bo);
		}
		unpu_inproc_bo_put(dev, bo);
	}
	while ((bo = unpu_table_pop(&dev->bos)))
		unpu_inproc_bo_put(dev, bo);
}

static void inproc_destroy(struct inproc *dev)
{
	struct inproc_job *job;

	while ((job = dev->free_jobs)) {
		dev->free_jobs = job->next;
		free(job);
	}
	unpu_table_finish(&dev->bos);
	unpu_table_finish(&dev->ctxs);
	unpu_table_finish(&dev->shaders);
	unpu_table_finish(&dev->programs);
	unpu_table_finish(&dev->syncobjs);
	dev->engine->ops->destroy(dev->engine);
	pthread_cond_destroy(&dev->work);
	pthread_cond_destroy(&dev->guard_kick);
	pthread_cond_destroy(&dev->changed);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->engine_lock);
	free(dev);
}

static void inproc_close(struct unpu_device *base)
{
	struct inproc *dev;

	if (!base)
		return;
	dev = to_inproc(base);
	cancel_all(dev);
	unpu_inproc_threads_stop(dev);
	free_tables(dev);
	inproc_destroy(dev);
}

/* ---- begin --------------------------------------------------------------------------------- */

static const struct unpu_device_ops inproc_ops = {
	.dev_query = inproc_dev_query,
	.bo_create = unpu_inproc_bo_create,
	.bo_mmap_offset = unpu_inproc_bo_mmap_offset,
	.ctx_create = unpu_inproc_ctx_create,
	.ctx_destroy = unpu_inproc_ctx_destroy,
	.ctx_query = unpu_inproc_ctx_query,
	.shader_create = unpu_inproc_shader_create,
	.shader_destroy = unpu_inproc_shader_destroy,
	.program_create = unpu_inproc_program_create,
	.program_destroy = unpu_inproc_program_destroy,
	.submit = unpu_inproc_submit,
	.bo_close = unpu_inproc_bo_close,
	.bo_map = unpu_inproc_bo_map,
	.bo_unmap = unpu_inproc_bo_unmap,
	.syncobj_create = unpu_inproc_syncobj_create,
	.syncobj_destroy = unpu_inproc_syncobj_destroy,
	.syncobj_wait = unpu_inproc_syncobj_wait,
	.bo_import = unpu_inproc_bo_import,
	.close = inproc_close,
};

static void at_most(uint32_t *value, uint32_t most)
{
	if (!*value || *value > most)
		*value = most;
}

/*
 * The frame's own limits, which the engine may lower. Five minutes without progress: one repeat may
 * be a whole prompt batch of a 1.5B model on a slow core, or under emulation.
 */
static void fill_info(struct inproc *dev)
{
	struct drm_unpu_dev_info *info = &dev->info;
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	*info = (struct drm_unpu_dev_info){
		.version_major = 1,
		.features = DRM_UNPU_FEATURE_WAIT_RUNS,
		.heap_window_bytes = memory,
		.heap_device_bytes = memory,
		.max_bo_bytes = memory,
		.max_binding_bytes = memory,
		.binding_align = 64,
		.max_rows = 256,
		.max_dispatches = 4096,
		.max_buffers = 4096,
		.max_const_bytes = 128,
		.max_repeat = 1u << 16,
		.max_job_dispatches = 1u << 22,
		.max_contexts = 64,
		.max_queued_jobs = 64,
		.tokens_per_submit = 1,
		.default_timeout_ns = 300000000000u,
		.max_timeout_ns = 3600000000000u,
		.max_job_time_ns = 3600000000000u,
		.kv_types = 1u << DRM_UNPU_KV_F32 | 1u << DRM_UNPU_KV_F16,
	};
	dev->engine->ops->info(dev->engine, info);
	if (dev->threaded)
		info->features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
	at_most(&info->max_bindings, UNPU_SHADER_MAX_BINDINGS);
	at_most(&info->max_spec_words, UNPU_SHADER_MAX_SPEC_WORDS);
	at_most(&info->max_programs, INPROC_MAX_PROGRAMS);
	at_most(&info->max_syncs, INPROC_MAX_SYNCS);
}

static int init_locks(struct inproc *dev)
{
	pthread_condattr_t attr;

	if (pthread_condattr_init(&attr))
		return -ENOMEM;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&dev->engine_lock, NULL);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->changed, &attr);
	pthread_cond_init(&dev->guard_kick, &attr);
	pthread_cond_init(&dev->work, &attr);
	pthread_condattr_destroy(&attr);
	return 0;
}

int unpu_inproc_create(struct unpu_engine *engine, const char *id, const struct unpu_log *log,
		       const struct unpu_device_watch *watch, struct unpu_device **base)
{
	struct inproc *dev = calloc(1, sizeof(*dev));

	if (!dev || init_locks(dev)) {
		free(dev);
		engine->ops->destroy(engine);
		return unpu_fail(log, -ENOMEM, "%s: no memory for the device", id);
	}
	dev->base.ops = &inproc_ops;
	if (log)
		dev->base.log = *log;
	snprintf(dev->base.id, sizeof(dev->base.id), "%s", id);
	dev->engine = engine;
	dev->watched = watch;
	if (watch)
		dev->watch = *watch;
	dev->threaded = engine->threaded || watch;
	dev->guard_wakes = 0;
	dev->run_ends = INPROC_NEVER;
	fill_info(dev);
	*base = &dev->base;
	return 0;
}
