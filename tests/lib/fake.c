/* SPDX-License-Identifier: MIT */
#include "tests/lib/fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

uint64_t fake_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the engine ---------------------------------------------------------------------------- */

static struct fake *to_fake(struct unpu_engine *engine)
{
	return (struct fake *)engine;
}

static void info(struct unpu_engine *engine, struct drm_unpu_dev_info *info)
{
	(void)engine;
	info->heap_window_bytes = 1 << 24;
	info->heap_device_bytes = 1 << 22;
	info->max_bo_bytes = 1 << 24;
	info->max_binding_bytes = 1 << 20;
	info->binding_align = 256;
	info->max_dispatches = 4;
	info->max_buffers = 8;
	info->max_const_bytes = 12;
	info->max_programs = 2;
	info->max_repeat = 2000;
	info->max_job_dispatches = 3000;
	info->max_syncs = 4;
	info->max_contexts = 6;
	info->max_queued_jobs = 3;
	info->default_timeout_ns = 10000000000u;
	info->max_timeout_ns = 20000000000u;
	info->max_job_time_ns = 30000000000u;
	info->kv_types = 1u << DRM_UNPU_KV_F32;
	memcpy(info->name, "fake", 5);
}

static int bo_alloc(struct unpu_engine *engine, struct unpu_bo *bo)
{
	(void)engine;
	(void)bo;
	return -ENOMEM;
}

static void bo_free(struct unpu_engine *engine, struct unpu_bo *bo)
{
	(void)engine;
	(void)bo;
}

/* It has attention over f32 cells alone. */
static int shader_check(struct unpu_engine *engine, uint32_t kind, const uint32_t *spec)
{
	const struct unpu_attn_spec *attn = (const struct unpu_attn_spec *)(const void *)spec;

	(void)engine;
	return kind == UNPU_SHADER_ATTN && attn->kv_type != DRM_UNPU_KV_F32 ? -EOPNOTSUPP : 0;
}

/* What an engine may rely on: the grid and the sizes are exactly what the shader needs. */
static void check_dispatch(const struct unpu_job_dispatch *dispatch)
{
	const struct unpu_shader_info *info = unpu_shader_info(dispatch->kind);
	struct unpu_shader_need need;
	uint32_t i;

	assert_int_equal(unpu_shader_need(dispatch->kind, dispatch->spec, dispatch->constants,
					  info->const_bytes, &need), 0);
	assert_memory_equal(dispatch->grid, need.grid, sizeof(need.grid));
	assert_int_equal(dispatch->num_bindings, info->num_bindings);
	for (i = 0; i < info->num_bindings; i++) {
		const struct unpu_job_binding *binding = &dispatch->bindings[i];

		assert_int_equal(binding->size, need.bytes[i]);
		assert_true(binding->offset + binding->size <= binding->bo->size);
		assert_non_null(binding->bo->ptr);
	}
}

static int program_prepare(struct unpu_engine *engine, struct unpu_program *program)
{
	uint32_t i;

	for (i = 0; i < program->num_dispatches; i++)
		check_dispatch(&program->dispatches[i]);
	atomic_fetch_add(&to_fake(engine)->prepared, 1);
	program->priv = engine;
	return 0;
}

static void program_release(struct unpu_engine *engine, struct unpu_program *program)
{
	const struct timespec nap = { 0, to_fake(engine)->release_ns };

	assert_ptr_equal(program->priv, engine);
	nanosleep(&nap, NULL);
	atomic_fetch_add(&to_fake(engine)->released, 1);
}

static void copy(const struct unpu_job_dispatch *dispatch)
{
	const struct unpu_job_binding *src = &dispatch->bindings[UNPU_COPY_SRC];
	const struct unpu_job_binding *dst = &dispatch->bindings[UNPU_COPY_DST];

	memcpy((uint8_t *)dst->bo->ptr + dst->offset, (uint8_t *)src->bo->ptr + src->offset,
	       src->size);
}

static int work(struct fake *fake, const atomic_uint *cancel)
{
	const struct timespec nap = { 0, 200000 };
	uint64_t begin = fake_now();

	while (atomic_load(&fake->hold) || fake_now() - begin < fake->run_ns) {
		if (!fake->stubborn && atomic_load(cancel))
			return fake->lost_when_cancelled ? -ENODEV : -ECANCELED;
		if (atomic_load(&fake->hold) || fake->run_ns > 2000000)
			nanosleep(&nap, NULL);
	}
	return -fake->fail;
}

static int run(struct unpu_engine *engine, struct unpu_program *program, uint32_t repeat,
	       const atomic_uint *cancel, uint32_t *done)
{
	struct fake *fake = to_fake(engine);
	const struct unpu_copy_const *first = program->dispatches[0].constants;
	uint64_t begin = fake_now();
	uint32_t at, i;
	int err;

	assert_true(repeat > 0);
	*done = fake->rounds < 2 ? 1 : repeat < fake->rounds ? repeat : fake->rounds;
	assert_int_equal(atomic_fetch_add(&fake->inside, 1), 0);
	at = atomic_fetch_add(&fake->runs, 1) % FAKE_DIARY;
	fake->tags[at] = first->bytes_lo / 4;
	err = work(fake, cancel);
	for (i = 0; !err && i < program->num_dispatches; i++)
		if (program->dispatches[i].kind == UNPU_SHADER_COPY)
			copy(&program->dispatches[i]);
	fake->ns[at] = fake_now() - begin;
	atomic_fetch_add(&fake->done, *done);
	if (fake->claims)
		*done = fake->claims == UINT32_MAX ? 0 : fake->claims;
	if (fake->hook)
		fake->hook(fake, fake->arg);
	atomic_fetch_sub(&fake->inside, 1);
	return err;
}

static void destroy(struct unpu_engine *engine)
{
	struct fake *fake = to_fake(engine);

	assert_int_equal(atomic_load(&fake->prepared), atomic_load(&fake->released));
	free(fake);
}

static const struct unpu_engine_ops ops = {
	.info = info,
	.shader_check = shader_check,
	.program_prepare = program_prepare,
	.program_release = program_release,
	.run = run,
	.destroy = destroy,
};

static const struct unpu_engine_ops ops_without_memory = {
	.info = info,
	.bo_alloc = bo_alloc,
	.bo_free = bo_free,
	.run = run,
	.destroy = destroy,
};

static struct unpu_device *open_device(const struct unpu_engine_ops *with, bool threaded,
				       const struct unpu_device_watch *watch, struct fake **fake)
{
	struct unpu_device *dev = NULL;

	*fake = calloc(1, sizeof(**fake));
	assert_non_null(*fake);
	(*fake)->base.ops = with;
	(*fake)->base.threaded = threaded;
	assert_int_equal(unpu_inproc_create(&(*fake)->base, "fake", NULL, watch, &dev), 0);
	return dev;
}

struct unpu_device *fake_device(struct fake **fake)
{
	return open_device(&ops, false, NULL, fake);
}

struct unpu_device *fake_device_threaded(struct fake **fake)
{
	return open_device(&ops, true, NULL, fake);
}

struct unpu_device *fake_device_watched(const struct unpu_device_watch *watch, struct fake **fake)
{
	return open_device(&ops, false, watch, fake);
}

struct unpu_device *fake_device_without_memory(void)
{
	struct fake *fake;

	return open_device(&ops_without_memory, false, NULL, &fake);
}

/* ---- shorthands ---------------------------------------------------------------------------- */

uint32_t fake_bo(struct unpu_device *dev, uint64_t size, uint32_t flags)
{
	struct drm_unpu_bo_create args = { .size = size, .flags = flags };

	assert_int_equal(dev->ops->bo_create(dev, &args), 0);
	assert_true(args.size >= size);
	return args.handle;
}

void *fake_map(struct unpu_device *dev, uint32_t handle)
{
	void *ptr = NULL;

	assert_int_equal(dev->ops->bo_map(dev, handle, &ptr), 0);
	assert_non_null(ptr);
	return ptr;
}

uint32_t fake_ctx(struct unpu_device *dev, uint32_t priority, uint64_t timeout_ns)
{
	struct drm_unpu_ctx_create args = { .priority = priority, .timeout_ns = timeout_ns };

	assert_int_equal(dev->ops->ctx_create(dev, &args), 0);
	return args.ctx_id;
}

uint32_t fake_shader(struct unpu_device *dev, const char *name, const void *spec, uint32_t words)
{
	struct drm_unpu_shader_create args = { .spec = (uintptr_t)spec, .spec_words = words };

	memcpy(args.name, name, strlen(name));
	assert_int_equal(dev->ops->shader_create(dev, &args), 0);
	return args.shader_id;
}

uint32_t fake_syncobj(struct unpu_device *dev)
{
	uint32_t handle = 0;

	assert_int_equal(dev->ops->syncobj_create(dev, &handle), 0);
	return handle;
}

uint32_t fake_program(struct unpu_device *dev, uint32_t src, uint32_t dst, uint32_t tag, bool stop)
{
	const uint32_t constants[2] = { 4 * tag, 0 };
	const struct drm_unpu_binding bindings[] = { { 0 }, { 1 } };
	const struct drm_unpu_buffer buffers[] = {
		{ src, DRM_UNPU_ACCESS_READ, 0, 4096 },
		{ dst, DRM_UNPU_ACCESS_WRITE, 0, 4096 },
	};
	const struct drm_unpu_dispatch dispatch = {
		.shader_id = fake_shader(dev, "copy.1", NULL, 0),
		.num_bindings = 2, .const_bytes = 8, .grid = { 1, 1, 1 },
	};
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(buffers[0]), 2, (uintptr_t)buffers },
		.dispatches = { sizeof(dispatch), 1, (uintptr_t)&dispatch },
		.bindings = { sizeof(bindings[0]), 2, (uintptr_t)bindings },
		.constants = (uintptr_t)constants,
		.const_bytes = sizeof(constants),
		.flags = stop ? DRM_UNPU_PROGRAM_STOP : 0,
	};
	struct drm_unpu_shader_destroy gone = { .shader_id = dispatch.shader_id };

	assert_int_equal(dev->ops->program_create(dev, &args), 0);
	assert_int_equal(args.error_index, UINT32_MAX);
	assert_int_equal(dev->ops->shader_destroy(dev, &gone), 0);
	return args.program_id;
}

int fake_submit(struct unpu_device *dev, uint32_t ctx, uint32_t program, uint32_t repeat,
		uint32_t syncobj, uint64_t point)
{
	const struct drm_unpu_run run = { program, repeat };
	const struct drm_unpu_sync sync = { syncobj, DRM_UNPU_SYNC_SIGNAL, point };
	struct drm_unpu_submit args = {
		.ctx_id = ctx,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), syncobj ? 1 : 0, (uintptr_t)&sync },
	};

	return dev->ops->submit(dev, &args);
}

struct drm_unpu_ctx_query fake_query(struct unpu_device *dev, uint32_t ctx)
{
	struct drm_unpu_ctx_query args = { .ctx_id = ctx };

	assert_int_equal(dev->ops->ctx_query(dev, &args), 0);
	return args;
}

struct drm_unpu_dev_stats fake_stats(struct unpu_device *dev)
{
	struct drm_unpu_dev_stats stats;
	struct drm_unpu_dev_query args = {
		DRM_UNPU_QUERY_DEV_STATS, sizeof(stats), (uintptr_t)&stats,
	};

	assert_int_equal(dev->ops->dev_query(dev, &args), 0);
	return stats;
}
