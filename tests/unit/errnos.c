/* SPDX-License-Identifier: MIT */
/*
 * The errno table of unpu_accel.h, row by row, on an in-process device: one field of one call is
 * wrong, the rest is valid, and the same call without it succeeds. The rows are read from the
 * header: one without a case here fails, and so does a case without a row.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/fake.h"

/* Elements are longer than the device knows, which is fine as long as the tail is 0. */
struct long_buffer { struct drm_unpu_buffer v1; uint64_t tail; };
struct long_dispatch { struct drm_unpu_dispatch v1; uint32_t tail; };
struct long_binding { struct drm_unpu_binding v1; uint32_t tail; };
struct long_run { struct drm_unpu_run v1; uint64_t tail; };
struct long_sync { struct drm_unpu_sync v1; uint64_t tail; };

/* Valid arguments of every call, on a device where they hold. */
struct rig {
	struct fake *fake;
	struct unpu_device *dev;

	uint32_t window, device, imported, bo_to_close;
	uint32_t old_ctx, old_shader, old_program;
	uint32_t signalled, fresh, timeline, old_syncobj;
	uint64_t wait_point;
	uint8_t memory[8192];

	struct drm_unpu_dev_stats stats;
	struct drm_unpu_dev_info info;
	struct drm_unpu_shader_name names[2];
	struct drm_unpu_dev_query query_info, query_stats, query_shaders;
	struct drm_unpu_bo_create bo_create;
	struct drm_unpu_bo_mmap_offset bo_mmap_offset;
	struct drm_unpu_ctx_create ctx_create;
	struct drm_unpu_ctx_destroy ctx_destroy;
	struct drm_unpu_ctx_query ctx_query;
	struct unpu_attn_spec spec;
	struct drm_unpu_shader_create shader_create;
	struct drm_unpu_shader_destroy shader_destroy;
	struct long_buffer buffers[9];
	struct long_dispatch dispatches[5];
	struct long_binding bindings[33];
	uint32_t constants[16];
	struct drm_unpu_program_create program_create;
	struct drm_unpu_program_destroy program_destroy;
	struct long_run runs[3];
	struct long_sync syncs[5];
	struct drm_unpu_submit submit;
};

static struct drm_unpu_array array_of(uint32_t stride, uint32_t count, const void *ptr)
{
	return (struct drm_unpu_array){ stride, count, (uintptr_t)ptr };
}

static struct drm_unpu_dev_query query_of(uint32_t type, uint32_t size, const void *ptr)
{
	return (struct drm_unpu_dev_query){ type, size, (uintptr_t)ptr };
}

/* Buffers 0: read; 1: written, not mappable; 2: both; 3: written only; 4: too small for all. */
static void rig_program(struct rig *rig, uint32_t copy, uint32_t attn)
{
	const struct drm_unpu_buffer buffers[] = {
		{ rig->window, DRM_UNPU_ACCESS_READ, 0, 65536 },
		{ rig->device, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 0, 65536 },
		{ rig->window, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 65536, 196608 },
		{ rig->window, DRM_UNPU_ACCESS_WRITE, 131072, 65536 },
		{ rig->window, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 65536, 4 },
	};
	const struct drm_unpu_dispatch dispatches[] = {
		{ copy, 0, 2, 0, 8, { 1, 1, 1 } },
		{ attn, 2, 4, 8, 4, { 2, 2, 5 } },
	};
	static const uint32_t bindings[] = { 0, 1, 2, 2, 2, 2, 0, 0, 0, 0 };
	/* copy: 8 bytes; attn: 2 chunks; then constants that no attn takes. */
	static const uint32_t constants[] = { 8, 0, 2, 3 };
	size_t i;

	for (i = 0; i < 9; i++)
		rig->buffers[i].v1 = buffers[i < 5 ? i : 0];
	for (i = 0; i < 5; i++)
		rig->dispatches[i].v1 = dispatches[i < 2 ? i : 0];
	for (i = 0; i < 10; i++)
		rig->bindings[i].v1.buffer = bindings[i];
	memcpy(rig->constants, constants, sizeof(constants));
	rig->program_create = (struct drm_unpu_program_create){
		.buffers = array_of(sizeof(rig->buffers[0]), 5, rig->buffers),
		.dispatches = array_of(sizeof(rig->dispatches[0]), 2, rig->dispatches),
		.bindings = array_of(sizeof(rig->bindings[0]), 10, rig->bindings),
		.constants = (uintptr_t)rig->constants,
		.const_bytes = sizeof(constants),
		.flags = DRM_UNPU_PROGRAM_STOP,
		.stop_buffer = 2,
		.stop_offset = 4,
	};
}

static void rig_submit(struct rig *rig)
{
	const struct drm_unpu_sync syncs[] = {
		{ rig->signalled, DRM_UNPU_SYNC_WAIT, 0 },
		{ rig->timeline, DRM_UNPU_SYNC_SIGNAL, 5 },
		{ rig->signalled, DRM_UNPU_SYNC_SIGNAL, 0 },
	};
	size_t i;

	for (i = 0; i < 3; i++)
		rig->runs[i].v1 = (struct drm_unpu_run){ rig->old_program, i ? 2 : 3 };
	for (i = 0; i < 5; i++)
		rig->syncs[i].v1 = syncs[i < 3 ? i : 0];
	rig->submit = (struct drm_unpu_submit){
		.ctx_id = rig->old_ctx,
		.runs = array_of(sizeof(rig->runs[0]), 2, rig->runs),
		.syncs = array_of(sizeof(rig->syncs[0]), 3, rig->syncs),
	};
}

static void rig_shaders(struct rig *rig)
{
	rig->spec = (struct unpu_attn_spec){ 5, 3, 128, 6, 2, 24, DRM_UNPU_KV_F32, 0.25f };
	rig->shader_create = (struct drm_unpu_shader_create){
		.name = "attn.1",
		.spec = (uintptr_t)&rig->spec,
		.spec_words = sizeof(rig->spec) / 4,
	};
	rig->old_shader = fake_shader(rig->dev, "attn.1", &rig->spec, sizeof(rig->spec) / 4);
	rig->shader_destroy.shader_id = rig->old_shader;
}

static void rig_queries(struct rig *rig)
{
	rig->query_info = query_of(DRM_UNPU_QUERY_DEV_INFO, sizeof(rig->info), &rig->info);
	rig->query_stats = query_of(DRM_UNPU_QUERY_DEV_STATS, sizeof(rig->stats), &rig->stats);
	rig->query_shaders = query_of(DRM_UNPU_QUERY_DEV_SHADERS, 64, rig->names);
}

static struct rig *rig_create(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct unpu_device *dev;
	uintptr_t aligned;

	assert_non_null(rig);
	dev = rig->dev = fake_device(&rig->fake);
	rig->window = fake_bo(dev, 1 << 18, DRM_UNPU_BO_MMAP);
	rig->device = fake_bo(dev, 1 << 21, 0);
	rig->bo_to_close = fake_bo(dev, 1, 0);
	aligned = ((uintptr_t)rig->memory + 255) & ~(uintptr_t)255;
	assert_int_equal(dev->ops->bo_import(dev, (void *)aligned, 4096, 0, &rig->imported), 0);
	rig_queries(rig);
	rig->bo_create = (struct drm_unpu_bo_create){ .size = 100, .flags = DRM_UNPU_BO_MMAP };
	rig->bo_mmap_offset.handle = rig->window;
	rig->old_ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	rig->ctx_create = (struct drm_unpu_ctx_create){ .priority = DRM_UNPU_PRIORITY_HIGH };
	rig->ctx_destroy.ctx_id = rig->old_ctx;
	rig->ctx_query.ctx_id = rig->old_ctx;
	rig_shaders(rig);
	rig_program(rig, fake_shader(dev, "copy.1", NULL, 0), rig->old_shader);
	assert_int_equal(dev->ops->program_create(dev, &rig->program_create), 0);
	rig->old_program = rig->program_create.program_id;
	rig->program_create.program_id = 0;
	rig->program_destroy.program_id = rig->old_program;
	rig->signalled = rig->old_syncobj = fake_syncobj(dev);
	rig->fresh = fake_syncobj(dev);
	rig->timeline = fake_syncobj(dev);
	assert_int_equal(fake_submit(dev, rig->old_ctx, rig->old_program, 1, rig->signalled, 0), 0);
	assert_int_equal(fake_submit(dev, rig->old_ctx, rig->old_program, 1, rig->timeline, 4), 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, rig->timeline, 4, UINT64_MAX), 0);
	rig_submit(rig);
	return rig;
}

static void rig_destroy(struct rig *rig)
{
	rig->dev->ops->close(rig->dev);
	free(rig);
}

/* ---- calls --------------------------------------------------------------------------------- */

enum call {
	QUERY_INFO, QUERY_STATS, QUERY_SHADERS, BO_CREATE, BO_MMAP_OFFSET, CTX_CREATE, CTX_DESTROY,
	CTX_QUERY, SHADER_CREATE, SHADER_DESTROY, PROGRAM_CREATE, PROGRAM_DESTROY, SUBMIT,
	GEM_CLOSE, SYNCOBJ_DESTROY, SYNCOBJ_WAIT, CALLS
};

static int call(struct rig *rig, enum call which)
{
	const struct unpu_device_ops *ops = rig->dev->ops;
	struct unpu_device *dev = rig->dev;

	switch (which) {
	case QUERY_INFO:
		return ops->dev_query(dev, &rig->query_info);
	case QUERY_STATS:
		return ops->dev_query(dev, &rig->query_stats);
	case QUERY_SHADERS:
		return ops->dev_query(dev, &rig->query_shaders);
	case BO_CREATE:
		return ops->bo_create(dev, &rig->bo_create);
	case BO_MMAP_OFFSET:
		return ops->bo_mmap_offset(dev, &rig->bo_mmap_offset);
	case CTX_CREATE:
		return ops->ctx_create(dev, &rig->ctx_create);
	case CTX_DESTROY:
		return ops->ctx_destroy(dev, &rig->ctx_destroy);
	case CTX_QUERY:
		return ops->ctx_query(dev, &rig->ctx_query);
	case SHADER_CREATE:
		return ops->shader_create(dev, &rig->shader_create);
	case SHADER_DESTROY:
		return ops->shader_destroy(dev, &rig->shader_destroy);
	case PROGRAM_CREATE:
		return ops->program_create(dev, &rig->program_create);
	case PROGRAM_DESTROY:
		return ops->program_destroy(dev, &rig->program_destroy);
	case SUBMIT:
		return ops->submit(dev, &rig->submit);
	case GEM_CLOSE:
		return ops->bo_close(dev, rig->bo_to_close);
	case SYNCOBJ_DESTROY:
		return ops->syncobj_destroy(dev, rig->old_syncobj);
	case SYNCOBJ_WAIT:
		return ops->syncobj_wait(dev, rig->signalled, rig->wait_point, UINT64_MAX);
	case CALLS:
		break;
	}
	return -ENOSYS;
}

/* ---- setups that a row needs before its call ------------------------------------------------- */

static void fill_contexts(struct rig *rig)
{
	int i;

	for (i = 0; i < 5; i++)
		fake_ctx(rig->dev, DRM_UNPU_PRIORITY_LOW, 0);
}

static void fill_heap(struct rig *rig)
{
	fake_bo(rig->dev, (1 << 24) - (1 << 18), DRM_UNPU_BO_MMAP);
}

static void fill_queue(struct rig *rig)
{
	int i;

	for (i = 0; i < 3; i++)
		assert_int_equal(fake_submit(rig->dev, rig->old_ctx, rig->old_program, 1, 0, 0), 0);
}

static void make_guilty(struct rig *rig)
{
	rig->fake->fail = EIO;
	assert_int_equal(fake_submit(rig->dev, rig->old_ctx, rig->old_program, 1, rig->fresh, 0),
			 0);
	assert_int_equal(rig->dev->ops->syncobj_wait(rig->dev, rig->fresh, 0, UINT64_MAX), 0);
	rig->fake->fail = 0;
}

static void lose_memory(struct rig *rig)
{
	rig->dev->ops->close(rig->dev);
	rig->dev = fake_device_without_memory();
}

/* ---- cases --------------------------------------------------------------------------------- */

/* `width` bytes of the rig are replaced, by a value or another word of it; or setup is called. */
struct poke {
	size_t at, width;
	uint64_t value;
	size_t from;		/* 0: value */
	void (*setup)(struct rig *rig);
};

struct errno_case {
	const char *row;	/* of the table, without its errno */
	enum call call;
	int err;
	struct poke pokes[2];
};

#define WIDTH(__field)		sizeof(((struct rig *)0)->__field)
#define SET(__field, __value) \
	{ offsetof(struct rig, __field), WIDTH(__field), (uint64_t)(__value), 0, NULL }
#define FROM(__field, __other) \
	{ offsetof(struct rig, __field), WIDTH(__field), 0, offsetof(struct rig, __other), NULL }
#define RUN(__setup)	{ 0, 0, 0, 0, __setup }
#define UNKNOWN		777

static const struct errno_case cases[] = {
	{ "any | memory | none left", BO_CREATE, ENOMEM, { RUN(lose_memory) } },

	{ "DEV_QUERY | type | unknown", QUERY_INFO, EINVAL, { SET(query_info.type, 3) } },
	{ "DEV_QUERY | size | DEV_INFO, below that of 1.0", QUERY_INFO, EINVAL,
	  { SET(query_info.size, 335) } },
	{ "DEV_QUERY | size | DEV_STATS, below that of 1.0", QUERY_STATS, EINVAL,
	  { SET(query_stats.size, 79) } },
	{ "DEV_QUERY | size | DEV_SHADERS, 0 or not a multiple of 32", QUERY_SHADERS, EINVAL,
	  { SET(query_shaders.size, 63) } },
	{ "DEV_QUERY | size | DEV_SHADERS, 0 or not a multiple of 32", QUERY_SHADERS, EINVAL,
	  { SET(query_shaders.size, 0) } },

	{ "BO_CREATE | size | 0", BO_CREATE, EINVAL, { SET(bo_create.size, 0) } },
	{ "BO_CREATE | size | above max_bo_bytes", BO_CREATE, EINVAL,
	  { SET(bo_create.size, (1 << 24) + 1) } },
	{ "BO_CREATE | size | above max_bo_bytes", BO_CREATE, EINVAL,
	  { SET(bo_create.size, UINT64_MAX) } },
	{ "BO_CREATE | size | more than the heap has left", BO_CREATE, ENOSPC,
	  { RUN(fill_heap) } },
	{ "BO_CREATE | flags | unknown bit", BO_CREATE, EINVAL, { SET(bo_create.flags, 2) } },

	{ "BO_MMAP_OFFSET | handle | 0", BO_MMAP_OFFSET, ENOENT,
	  { SET(bo_mmap_offset.handle, 0) } },
	{ "BO_MMAP_OFFSET | handle | unknown", BO_MMAP_OFFSET, ENOENT,
	  { SET(bo_mmap_offset.handle, UNKNOWN) } },
	{ "BO_MMAP_OFFSET | handle | without BO_MMAP", BO_MMAP_OFFSET, EINVAL,
	  { FROM(bo_mmap_offset.handle, device) } },
	{ "BO_MMAP_OFFSET | pad | not 0", BO_MMAP_OFFSET, EINVAL, { SET(bo_mmap_offset.pad, 1) } },

	{ "CTX_CREATE | priority | above HIGH", CTX_CREATE, EINVAL,
	  { SET(ctx_create.priority, 3) } },
	{ "CTX_CREATE | flags | not 0", CTX_CREATE, EINVAL, { SET(ctx_create.flags, 1) } },
	{ "CTX_CREATE | timeout_ns | above max_timeout_ns", CTX_CREATE, EINVAL,
	  { SET(ctx_create.timeout_ns, 20000000001) } },
	{ "CTX_CREATE | pad | not 0", CTX_CREATE, EINVAL, { SET(ctx_create.pad, 1) } },
	{ "CTX_CREATE | contexts | max_contexts reached", CTX_CREATE, ENOSPC,
	  { RUN(fill_contexts) } },

	{ "CTX_DESTROY | ctx_id | 0", CTX_DESTROY, ENOENT, { SET(ctx_destroy.ctx_id, 0) } },
	{ "CTX_DESTROY | ctx_id | unknown", CTX_DESTROY, ENOENT,
	  { SET(ctx_destroy.ctx_id, UNKNOWN) } },
	{ "CTX_DESTROY | pad | not 0", CTX_DESTROY, EINVAL, { SET(ctx_destroy.pad, 1) } },

	{ "CTX_QUERY | ctx_id | 0", CTX_QUERY, ENOENT, { SET(ctx_query.ctx_id, 0) } },
	{ "CTX_QUERY | ctx_id | unknown", CTX_QUERY, ENOENT, { SET(ctx_query.ctx_id, UNKNOWN) } },
	{ "CTX_QUERY | pad | not 0", CTX_QUERY, EINVAL, { SET(ctx_query.pad, 1) } },

	{ "SHADER_CREATE | name | empty", SHADER_CREATE, EINVAL,
	  { SET(shader_create.name[0], 0) } },
	{ "SHADER_CREATE | name | bytes after the NUL", SHADER_CREATE, EINVAL,
	  { SET(shader_create.name[7], 'x') } },
	{ "SHADER_CREATE | name | bytes after the NUL", SHADER_CREATE, EINVAL,
	  { SET(shader_create.name[31], 'x') } },
	{ "SHADER_CREATE | name | not in the set", SHADER_CREATE, ENOENT,
	  { SET(shader_create.name[0], 'b') } },
	{ "SHADER_CREATE | name | another revision", SHADER_CREATE, ENOENT,
	  { SET(shader_create.name[5], '2') } },
	{ "SHADER_CREATE | spec_words | above max_spec_words", SHADER_CREATE, EINVAL,
	  { SET(shader_create.spec_words, 25) } },
	{ "SHADER_CREATE | spec_words | not the shader's", SHADER_CREATE, EINVAL,
	  { SET(shader_create.spec_words, 7) } },
	{ "SHADER_CREATE | spec | no address", SHADER_CREATE, EFAULT,
	  { SET(shader_create.spec, 0) } },
	{ "SHADER_CREATE | spec | a word out of its range", SHADER_CREATE, EINVAL,
	  { SET(spec.rows, 257) } },
	{ "SHADER_CREATE | spec | a variant this device has not", SHADER_CREATE, EOPNOTSUPP,
	  { SET(spec.kv_type, DRM_UNPU_KV_F16) } },

	{ "SHADER_DESTROY | shader_id | 0", SHADER_DESTROY, ENOENT,
	  { SET(shader_destroy.shader_id, 0) } },
	{ "SHADER_DESTROY | shader_id | unknown", SHADER_DESTROY, ENOENT,
	  { SET(shader_destroy.shader_id, UNKNOWN) } },
	{ "SHADER_DESTROY | pad | not 0", SHADER_DESTROY, EINVAL, { SET(shader_destroy.pad, 1) } },

	{ "PROGRAM_CREATE | buffers.stride | below that of 1.0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.buffers.stride, 23) } },
	{ "PROGRAM_CREATE | buffers.stride | above 4096", PROGRAM_CREATE, E2BIG,
	  { SET(program_create.buffers.stride, 4097) } },
	{ "PROGRAM_CREATE | buffers.stride | longer, tail not 0", PROGRAM_CREATE, E2BIG,
	  { SET(buffers[4].tail, 1) } },
	{ "PROGRAM_CREATE | buffers.count | 0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.buffers.count, 0) } },
	{ "PROGRAM_CREATE | buffers.count | above max_buffers", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.buffers.count, 9) } },
	{ "PROGRAM_CREATE | buffers.ptr | no address", PROGRAM_CREATE, EFAULT,
	  { SET(program_create.buffers.ptr, 0) } },
	{ "PROGRAM_CREATE | dispatches.stride | below that of 1.0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.dispatches.stride, 31) } },
	{ "PROGRAM_CREATE | dispatches.stride | above 4096", PROGRAM_CREATE, E2BIG,
	  { SET(program_create.dispatches.stride, 4097) } },
	{ "PROGRAM_CREATE | dispatches.stride | longer, tail not 0", PROGRAM_CREATE, E2BIG,
	  { SET(dispatches[1].tail, 1) } },
	{ "PROGRAM_CREATE | dispatches.count | 0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.dispatches.count, 0) } },
	{ "PROGRAM_CREATE | dispatches.count | above max_dispatches", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.dispatches.count, 5) } },
	{ "PROGRAM_CREATE | dispatches.ptr | no address", PROGRAM_CREATE, EFAULT,
	  { SET(program_create.dispatches.ptr, 0) } },
	{ "PROGRAM_CREATE | bindings.stride | below that of 1.0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.bindings.stride, 3) } },
	{ "PROGRAM_CREATE | bindings.stride | above 4096", PROGRAM_CREATE, E2BIG,
	  { SET(program_create.bindings.stride, 4097) } },
	{ "PROGRAM_CREATE | bindings.stride | longer, tail not 0", PROGRAM_CREATE, E2BIG,
	  { SET(bindings[9].tail, 1) } },
	{ "PROGRAM_CREATE | bindings.count | 0", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.bindings.count, 0) } },
	{ "PROGRAM_CREATE | bindings.count | above max_dispatches x max_bindings", PROGRAM_CREATE,
	  EINVAL, { SET(program_create.bindings.count, 33) } },
	{ "PROGRAM_CREATE | bindings.ptr | no address", PROGRAM_CREATE, EFAULT,
	  { SET(program_create.bindings.ptr, 0) } },
	{ "PROGRAM_CREATE | constants | no address", PROGRAM_CREATE, EFAULT,
	  { SET(program_create.constants, 0) } },
	{ "PROGRAM_CREATE | const_bytes | not a multiple of 4", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.const_bytes, 18) } },
	{ "PROGRAM_CREATE | const_bytes | above max_dispatches x max_const_bytes", PROGRAM_CREATE,
	  EINVAL, { SET(program_create.const_bytes, 52) } },
	{ "PROGRAM_CREATE | flags | unknown bit", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.flags, 3) } },
	{ "PROGRAM_CREATE | stop_buffer | not 0 without PROGRAM_STOP", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.flags, 0), SET(program_create.stop_offset, 0) } },
	{ "PROGRAM_CREATE | stop_offset | not 0 without PROGRAM_STOP", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.flags, 0), SET(program_create.stop_buffer, 0) } },
	{ "PROGRAM_CREATE | stop_buffer | not in the buffer table", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.stop_buffer, 5) } },
	{ "PROGRAM_CREATE | stop_buffer | without ACCESS_READ", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.stop_buffer, 3) } },
	{ "PROGRAM_CREATE | stop_buffer | without BO_MMAP", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.stop_buffer, 1) } },
	{ "PROGRAM_CREATE | stop_offset | not a multiple of 4", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.stop_offset, 6) } },
	{ "PROGRAM_CREATE | stop_offset | past the buffer's end", PROGRAM_CREATE, EINVAL,
	  { SET(program_create.stop_offset, 196608) } },
	{ "PROGRAM_CREATE | buffer.handle | 0", PROGRAM_CREATE, ENOENT,
	  { SET(buffers[4].v1.handle, 0) } },
	{ "PROGRAM_CREATE | buffer.handle | unknown", PROGRAM_CREATE, ENOENT,
	  { SET(buffers[4].v1.handle, UNKNOWN) } },
	{ "PROGRAM_CREATE | buffer.flags | 0", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[4].v1.flags, 0) } },
	{ "PROGRAM_CREATE | buffer.flags | unknown bit", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[4].v1.flags, 5) } },
	{ "PROGRAM_CREATE | buffer.flags | ACCESS_WRITE of a read-only buffer", PROGRAM_CREATE,
	  EINVAL, { FROM(buffers[4].v1.handle, imported), SET(buffers[4].v1.offset, 0) } },
	{ "PROGRAM_CREATE | buffer.offset | not a multiple of binding_align", PROGRAM_CREATE,
	  EINVAL, { SET(buffers[4].v1.offset, 128) } },
	{ "PROGRAM_CREATE | buffer.offset | past the end of the BO", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[4].v1.offset, 1 << 18) } },
	{ "PROGRAM_CREATE | buffer.size | 0", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[4].v1.size, 0) } },
	{ "PROGRAM_CREATE | buffer.size | above max_binding_bytes", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[1].v1.size, (1 << 20) + 1) } },
	{ "PROGRAM_CREATE | buffer.size | past the end of the BO", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[4].v1.size, (1 << 18) - 65535) } },
	{ "PROGRAM_CREATE | buffer.size | offset + size overflows", PROGRAM_CREATE, EINVAL,
	  { SET(buffers[2].v1.offset, UINT64_MAX - 65535) } },
	{ "PROGRAM_CREATE | dispatch.shader_id | 0", PROGRAM_CREATE, ENOENT,
	  { SET(dispatches[1].v1.shader_id, 0) } },
	{ "PROGRAM_CREATE | dispatch.shader_id | unknown", PROGRAM_CREATE, ENOENT,
	  { SET(dispatches[1].v1.shader_id, UNKNOWN) } },
	{ "PROGRAM_CREATE | dispatch.first_binding | past the binding table", PROGRAM_CREATE,
	  EINVAL, { SET(dispatches[1].v1.first_binding, 7) } },
	{ "PROGRAM_CREATE | dispatch.first_binding | first + num overflows", PROGRAM_CREATE,
	  EINVAL, { SET(dispatches[1].v1.first_binding, 0xfffffffc) } },
	{ "PROGRAM_CREATE | dispatch.num_bindings | 0", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[0].v1.num_bindings, 0) } },
	{ "PROGRAM_CREATE | dispatch.num_bindings | above max_bindings", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[0].v1.num_bindings, 9) } },
	{ "PROGRAM_CREATE | dispatch.num_bindings | not the shader's", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[0].v1.num_bindings, 3) } },
	{ "PROGRAM_CREATE | dispatch.const_offset | not a multiple of 4", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.const_offset, 6) } },
	{ "PROGRAM_CREATE | dispatch.const_offset | past the constants", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.const_offset, 16) } },
	{ "PROGRAM_CREATE | dispatch.const_bytes | not a multiple of 4", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.const_bytes, 5) } },
	{ "PROGRAM_CREATE | dispatch.const_bytes | above max_const_bytes", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[0].v1.const_bytes, 16) } },
	{ "PROGRAM_CREATE | dispatch.const_bytes | not the shader's", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.const_bytes, 8) } },
	{ "PROGRAM_CREATE | dispatch.const_offset | names constants out of range", PROGRAM_CREATE,
	  EINVAL, { SET(dispatches[1].v1.const_offset, 12) } },
	{ "PROGRAM_CREATE | dispatch.grid | 0", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.grid[2], 0) } },
	{ "PROGRAM_CREATE | dispatch.grid | not what the shader needs", PROGRAM_CREATE, EINVAL,
	  { SET(dispatches[1].v1.grid[0], 3) } },
	{ "PROGRAM_CREATE | binding.buffer | not in the buffer table", PROGRAM_CREATE, EINVAL,
	  { SET(bindings[9].v1.buffer, 5) } },
	{ "PROGRAM_CREATE | binding.buffer | smaller than the shader needs", PROGRAM_CREATE,
	  EINVAL, { SET(bindings[0].v1.buffer, 4) } },
	{ "PROGRAM_CREATE | binding.buffer | read, without ACCESS_READ", PROGRAM_CREATE, EINVAL,
	  { SET(bindings[0].v1.buffer, 3) } },
	{ "PROGRAM_CREATE | binding.buffer | written, without ACCESS_WRITE", PROGRAM_CREATE,
	  EINVAL, { SET(bindings[1].v1.buffer, 0) } },

	{ "PROGRAM_DESTROY | program_id | 0", PROGRAM_DESTROY, ENOENT,
	  { SET(program_destroy.program_id, 0) } },
	{ "PROGRAM_DESTROY | program_id | unknown", PROGRAM_DESTROY, ENOENT,
	  { SET(program_destroy.program_id, UNKNOWN) } },
	{ "PROGRAM_DESTROY | pad | not 0", PROGRAM_DESTROY, EINVAL,
	  { SET(program_destroy.pad, 1) } },

	{ "SUBMIT | ctx_id | 0", SUBMIT, ENOENT, { SET(submit.ctx_id, 0) } },
	{ "SUBMIT | ctx_id | unknown", SUBMIT, ENOENT, { SET(submit.ctx_id, UNKNOWN) } },
	{ "SUBMIT | ctx_id | GUILTY, INNOCENT or LOST", SUBMIT, EIO, { RUN(make_guilty) } },
	{ "SUBMIT | ctx_id | max_queued_jobs queued", SUBMIT, EBUSY, { RUN(fill_queue) } },
	{ "SUBMIT | flags | not 0", SUBMIT, EINVAL, { SET(submit.flags, 1) } },
	{ "SUBMIT | pad | not 0", SUBMIT, EINVAL, { SET(submit.pad, 1) } },
	{ "SUBMIT | runs.stride | below that of 1.0", SUBMIT, EINVAL,
	  { SET(submit.runs.stride, 7) } },
	{ "SUBMIT | runs.stride | above 4096", SUBMIT, E2BIG, { SET(submit.runs.stride, 4097) } },
	{ "SUBMIT | runs.stride | longer, tail not 0", SUBMIT, E2BIG, { SET(runs[1].tail, 1) } },
	{ "SUBMIT | runs.count | 0", SUBMIT, EINVAL, { SET(submit.runs.count, 0) } },
	{ "SUBMIT | runs.count | above max_programs", SUBMIT, EINVAL,
	  { SET(submit.runs.count, 3) } },
	{ "SUBMIT | runs.ptr | no address", SUBMIT, EFAULT, { SET(submit.runs.ptr, 0) } },
	{ "SUBMIT | run.program_id | 0", SUBMIT, ENOENT, { SET(runs[1].v1.program_id, 0) } },
	{ "SUBMIT | run.program_id | unknown", SUBMIT, ENOENT,
	  { SET(runs[1].v1.program_id, UNKNOWN) } },
	{ "SUBMIT | run.repeat | 0", SUBMIT, EINVAL, { SET(runs[1].v1.repeat, 0) } },
	{ "SUBMIT | run.repeat | above max_repeat", SUBMIT, EINVAL,
	  { SET(runs[1].v1.repeat, 2001) } },
	{ "SUBMIT | run.repeat | repeats x dispatches above max_job_dispatches", SUBMIT, EINVAL,
	  { SET(runs[1].v1.repeat, 1498) } },
	{ "SUBMIT | syncs.stride | below that of 1.0", SUBMIT, EINVAL,
	  { SET(submit.syncs.stride, 15) } },
	{ "SUBMIT | syncs.stride | above 4096", SUBMIT, E2BIG, { SET(submit.syncs.stride, 4097) } },
	{ "SUBMIT | syncs.stride | longer, tail not 0", SUBMIT, E2BIG, { SET(syncs[2].tail, 1) } },
	{ "SUBMIT | syncs.count | above max_syncs", SUBMIT, EINVAL,
	  { SET(submit.syncs.count, 5) } },
	{ "SUBMIT | syncs.ptr | no address", SUBMIT, EFAULT, { SET(submit.syncs.ptr, 0) } },
	{ "SUBMIT | sync.handle | 0", SUBMIT, ENOENT, { SET(syncs[2].v1.handle, 0) } },
	{ "SUBMIT | sync.handle | unknown", SUBMIT, ENOENT, { SET(syncs[2].v1.handle, UNKNOWN) } },
	{ "SUBMIT | sync.flags | 0", SUBMIT, EINVAL, { SET(syncs[2].v1.flags, 0) } },
	{ "SUBMIT | sync.flags | WAIT and SIGNAL", SUBMIT, EINVAL, { SET(syncs[2].v1.flags, 3) } },
	{ "SUBMIT | sync.flags | unknown bit", SUBMIT, EINVAL, { SET(syncs[2].v1.flags, 6) } },
	{ "SUBMIT | sync.point | WAIT, no job signals it", SUBMIT, EINVAL,
	  { FROM(syncs[0].v1.handle, fresh) } },
	{ "SUBMIT | sync.point | WAIT, no job signals it", SUBMIT, EINVAL,
	  { FROM(syncs[0].v1.handle, timeline), SET(syncs[0].v1.point, 5) } },
	{ "SUBMIT | sync.point | SIGNAL, not above the last one", SUBMIT, EINVAL,
	  { SET(syncs[1].v1.point, 4) } },
	{ "SUBMIT | sync.point | SIGNAL, twice in the call", SUBMIT, EINVAL,
	  { FROM(syncs[2].v1.handle, timeline), SET(syncs[2].v1.point, 5) } },

	{ "GEM_CLOSE | handle | unknown", GEM_CLOSE, EINVAL, { SET(bo_to_close, UNKNOWN) } },
	{ "SYNCOBJ_DESTROY | handle | unknown", SYNCOBJ_DESTROY, EINVAL,
	  { SET(old_syncobj, UNKNOWN) } },
	{ "SYNCOBJ_WAIT | handle | unknown", SYNCOBJ_WAIT, ENOENT, { SET(signalled, UNKNOWN) } },
	{ "SYNCOBJ_WAIT | point | no job signals it", SYNCOBJ_WAIT, EINVAL,
	  { FROM(signalled, fresh) } },
	{ "SYNCOBJ_WAIT | point | no job signals it", SYNCOBJ_WAIT, EINVAL,
	  { SET(wait_point, 9) } },

#if UINTPTR_MAX == UINT32_MAX
	/* An address that this machine has not; with 64 bits every number is one. */
	{ "DEV_QUERY | pointer | no address", QUERY_INFO, EFAULT,
	  { SET(query_info.pointer, 1ull << 32) } },
	{ "SUBMIT | runs.ptr | no address", SUBMIT, EFAULT, { SET(submit.runs.ptr, 1ull << 32) } },
#endif
};

#define NUM_CASES	(sizeof(cases) / sizeof(cases[0]))

/* In process a pointer is only known to be wrong where it is too long, and a name of 32 letters is
 * set below, byte by byte. */
static const char *const elsewhere[] = {
#if UINTPTR_MAX != UINT32_MAX
	"DEV_QUERY | pointer | no address",
#endif
	"SHADER_CREATE | name | no NUL at its end",
};

static void apply(struct rig *rig, const struct poke *poke)
{
	uint64_t value = poke->value;

	if (poke->setup)
		poke->setup(rig);
	if (!poke->width)
		return;
	if (poke->from)
		memcpy(&value, (uint8_t *)rig + poke->from, sizeof(uint32_t));
	memcpy((uint8_t *)rig + poke->at, &value, poke->width);
}

/* Every call as the rig has it: so a case fails for its poke and for nothing else. */
static void test_valid_calls(void **state)
{
	int which;

	(void)state;
	for (which = 0; which < CALLS; which++) {
		struct rig *rig = rig_create();
		int err = call(rig, (enum call)which);

		if (err)
			fail_msg("valid call %d gives %d", which, err);
		rig_destroy(rig);
	}
}

static void run_case(const struct errno_case *c)
{
	struct rig *rig = rig_create();
	struct rig before, *after = rig;
	int err;

	apply(rig, &c->pokes[0]);
	apply(rig, &c->pokes[1]);
	before = *rig;
	err = call(rig, c->call);
	if (err != -c->err)
		fail_msg("%s gives %d, not %d", c->row, err, -c->err);
	/* Nothing of the caller's has changed but where the error is. */
	before.program_create.error_index = after->program_create.error_index;
	before.submit.error_index = after->submit.error_index;
	if (memcmp(&before, after, sizeof(before)))
		fail_msg("%s changes the caller's memory", c->row);
	rig_destroy(rig);
}

static void test_rows(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_CASES; i++)
		run_case(&cases[i]);
}

static void test_long_name(void **state)
{
	struct rig *rig = rig_create();

	(void)state;
	memset(rig->shader_create.name, 'a', sizeof(rig->shader_create.name));
	assert_int_equal(call(rig, SHADER_CREATE), -EINVAL);
	rig_destroy(rig);
}

/* A refused call leaves the device as it was: the valid one still works after it. */
static void test_device_unchanged(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < NUM_CASES; i++) {
		struct rig *rig, before;

		if (cases[i].pokes[0].setup)
			continue;
		rig = rig_create();
		before = *rig;
		apply(rig, &cases[i].pokes[0]);
		apply(rig, &cases[i].pokes[1]);
		assert_int_equal(call(rig, cases[i].call), -cases[i].err);
		*rig = before;
		if (call(rig, cases[i].call))
			fail_msg("after %s the valid call fails", cases[i].row);
		assert_int_equal(fake_stats(rig->dev).jobs_submitted,
				 cases[i].call == SUBMIT ? 3 : 2);
		rig_destroy(rig);
	}
}

static void test_error_index(void **state)
{
	struct rig *rig = rig_create();

	(void)state;
	rig->dispatches[1].v1.grid[0] = 3;
	assert_int_equal(call(rig, PROGRAM_CREATE), -EINVAL);
	assert_int_equal(rig->program_create.error_index, 1);
	rig->program_create.flags = 2;
	assert_int_equal(call(rig, PROGRAM_CREATE), -EINVAL);
	assert_int_equal(rig->program_create.error_index, UINT32_MAX);
	rig->runs[1].v1.program_id = UNKNOWN;
	assert_int_equal(call(rig, SUBMIT), -ENOENT);
	assert_int_equal(rig->submit.error_index, 1);
	rig->runs[1].v1.program_id = rig->old_program;
	rig->submit.flags = 1;
	assert_int_equal(call(rig, SUBMIT), -EINVAL);
	assert_int_equal(rig->submit.error_index, UINT32_MAX);
	rig_destroy(rig);
}

/* ---- the table in the header --------------------------------------------------------------- */

static bool has_case(const char *row, int err, bool *seen)
{
	bool found = false;
	size_t i;

	for (i = 0; i < NUM_CASES; i++)
		if (!strcmp(cases[i].row, row) && cases[i].err == err)
			found = seen[i] = true;
	for (i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
		if (!strcmp(elsewhere[i], row))
			found = true;
	return found;
}

static int errno_of(const char *name)
{
	static const struct { const char *name; int err; } known[] = {
		{ "EINVAL", EINVAL }, { "ENOENT", ENOENT }, { "EFAULT", EFAULT },
		{ "E2BIG", E2BIG },
		{ "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC }, { "EBUSY", EBUSY }, { "EIO", EIO },
		{ "ENODEV", ENODEV }, { "EACCES", EACCES }, { "EOPNOTSUPP", EOPNOTSUPP },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(known[i].name, name))
			return known[i].err;
	return 0;
}

static void test_table_is_covered(void **state)
{
	FILE *file = fopen("uapi/unpu_accel.h", "r");
	bool seen[NUM_CASES] = { false };
	char line[256], *bar;
	size_t i;

	(void)state;
	if (!file) {
		printf("uapi/unpu_accel.h is not here: run from the top of the source\n");
		skip();
	}
	while (fgets(line, sizeof(line), file)) {
		bar = strrchr(line, '|');
		if (strncmp(line, " *   ", 5) || !bar || strstr(line, "(node)"))
			continue;
		line[strcspn(line, "\n")] = '\0';
		bar[-1] = '\0';
		if (!has_case(line + 5, errno_of(bar + 2), seen))
			fail_msg("no case for: %s | %s", line + 5, bar + 2);
	}
	fclose(file);
	for (i = 0; i < NUM_CASES; i++)
		if (!seen[i])
			fail_msg("not in the table: %s", cases[i].row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid_calls),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_device_unchanged),
		cmocka_unit_test(test_error_index),
		cmocka_unit_test(test_table_is_covered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
