/* SPDX-License-Identifier: MIT */
#include "tests/lib/errno_rows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN		777u
#define WINDOW_BYTES	(1u << 18)
#define DEVICE_BYTES	(1u << 21)

/* ---- the rig ------------------------------------------------------------------------------- */

static int do_call(struct errno_rig *r, enum errno_call call, void *args)
{
	return r->device->call(r->device, call, args);
}

static struct drm_unpu_array array_of(uint32_t stride, uint32_t count, const void *ptr)
{
	return (struct drm_unpu_array){ stride, count, (uintptr_t)ptr };
}

static struct drm_unpu_dev_query query_of(uint32_t type, uint32_t size, const void *ptr)
{
	return (struct drm_unpu_dev_query){ type, size, (uintptr_t)ptr };
}

static int rig_info(struct errno_rig *r)
{
	struct drm_unpu_dev_query query = query_of(DRM_UNPU_QUERY_DEV_INFO, sizeof(r->info),
						   &r->info);

	return do_call(r, ERRNO_CALL_DEV_QUERY, &query);
}

static int rig_bo(struct errno_rig *r, uint64_t size, uint32_t flags, uint32_t *handle)
{
	struct drm_unpu_bo_create args = { .size = size, .flags = flags };
	int err = do_call(r, ERRNO_CALL_BO_CREATE, &args);

	*handle = args.handle;
	return err;
}

static int rig_ctx(struct errno_rig *r, uint32_t *id)
{
	struct drm_unpu_ctx_create args = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	int err = do_call(r, ERRNO_CALL_CTX_CREATE, &args);

	*id = args.ctx_id;
	return err;
}

static int rig_shader(struct errno_rig *r, const char *name, const void *spec, uint32_t words,
		      uint32_t *id)
{
	struct drm_unpu_shader_create args = { .spec = (uintptr_t)spec, .spec_words = words };
	int err;

	memcpy(args.name, name, strlen(name));
	err = do_call(r, ERRNO_CALL_SHADER_CREATE, &args);
	*id = args.shader_id;
	return err;
}

static int rig_syncobj(struct errno_rig *r, uint32_t *handle)
{
	struct drm_syncobj_create args = { 0 };
	int err = do_call(r, ERRNO_CALL_SYNCOBJ_CREATE, &args);

	*handle = args.handle;
	return err;
}

/* One run of the program. */
static int rig_submit(struct errno_rig *r, uint32_t syncobj, uint64_t point)
{
	struct drm_unpu_run run = { r->program_destroy.program_id, 1 };
	struct drm_unpu_sync sync = { syncobj, DRM_UNPU_SYNC_SIGNAL, point };
	struct drm_unpu_submit args = {
		.ctx_id = r->ctx_query.ctx_id,
		.runs = array_of(sizeof(run), 1, &run),
		.syncs = array_of(sizeof(sync), syncobj ? 1 : 0, &sync),
	};

	return do_call(r, ERRNO_CALL_SUBMIT, &args);
}

static int rig_wait(struct errno_rig *r, uint32_t handle, uint64_t point)
{
	struct drm_syncobj_timeline_wait args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point,
		.timeout_nsec = INT64_MAX, .count_handles = 1,
	};

	return do_call(r, ERRNO_CALL_SYNCOBJ_WAIT, &args);
}

/* Buffers 0: read; 1: written, not mappable; 2: both; 3: written only; 4: too small for all. */
static void rig_program(struct errno_rig *r, uint32_t copy, uint32_t attn)
{
	const struct drm_unpu_buffer buffers[] = {
		{ r->window, DRM_UNPU_ACCESS_READ, 0, 65536 },
		{ r->unmappable, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 0, 65536 },
		{ r->window, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 65536, 196608 },
		{ r->window, DRM_UNPU_ACCESS_WRITE, 131072, 65536 },
		{ r->window, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 65536, 4 },
	};
	const struct drm_unpu_dispatch dispatches[] = {
		{ copy, 0, 2, 0, 8, { 1, 1, 1 } },
		{ attn, 2, 4, 8, 4, { 2, 2, 5 } },
	};
	static const uint32_t bindings[] = { 0, 1, 2, 2, 2, 2, 0, 0, 0, 0 };
	/* copy: 8 bytes; attn: 2 chunks; then constants that no attn takes. */
	static const uint32_t constants[] = { 8, 0, 2, 3 };
	size_t i;

	for (i = 0; i < 5; i++)
		r->buffers[i].v1 = buffers[i];
	for (i = 0; i < 2; i++)
		r->dispatches[i].v1 = dispatches[i];
	for (i = 0; i < 10; i++)
		r->bindings[i].v1.buffer = bindings[i];
	memcpy(r->constants, constants, sizeof(constants));
	r->program_create = (struct drm_unpu_program_create){
		.buffers = array_of(sizeof(r->buffers[0]), 5, r->buffers),
		.dispatches = array_of(sizeof(r->dispatches[0]), 2, r->dispatches),
		.bindings = array_of(sizeof(r->bindings[0]), 10, r->bindings),
		.constants = (uintptr_t)r->constants,
		.const_bytes = sizeof(constants),
		.flags = DRM_UNPU_PROGRAM_STOP,
		.stop_buffer = 2,
		.stop_offset = 4,
	};
}

static void rig_submit_args(struct errno_rig *r)
{
	const struct drm_unpu_sync syncs[] = {
		{ r->wait_handle, DRM_UNPU_SYNC_WAIT, 0 },
		{ r->timeline, DRM_UNPU_SYNC_SIGNAL, 5 },
		{ r->wait_handle, DRM_UNPU_SYNC_SIGNAL, 0 },
	};
	size_t i;

	for (i = 0; i < ERRNO_MAX_RUNS; i++)
		r->runs[i].v1 = (struct drm_unpu_run){ r->program_destroy.program_id, i ? 2 : 3 };
	for (i = 0; i < 3; i++)
		r->syncs[i].v1 = syncs[i];
	r->submit = (struct drm_unpu_submit){
		.ctx_id = r->ctx_query.ctx_id,
		.runs = array_of(sizeof(r->runs[0]), 2, r->runs),
		.syncs = array_of(sizeof(r->syncs[0]), 3, r->syncs),
	};
}

static uint32_t first_kv_type(const struct drm_unpu_dev_info *info)
{
	uint32_t type = 0;

	while (type < 31 && !(info->kv_types & 1u << type))
		type++;
	return type;
}

static int rig_shaders(struct errno_rig *r, uint32_t *copy)
{
	const uint32_t words = sizeof(r->attn) / 4;
	int err;

	r->attn = (struct unpu_attn_spec){ 5, 3, 128, 6, 2, 24, first_kv_type(&r->info), 0.25f };
	r->shader_create = (struct drm_unpu_shader_create){
		.name = "attn.1", .spec = (uintptr_t)&r->attn, .spec_words = words,
	};
	err = rig_shader(r, "attn.1", &r->attn, words, &r->shader_destroy.shader_id);
	return err ? err : rig_shader(r, "copy.1", NULL, 0, copy);
}

/* The objects that the arguments name, and a job that has signalled both kinds of syncobj. */
static int rig_objects(struct errno_rig *r)
{
	uint32_t copy = 0;
	int err;

	err = rig_info(r);
	err = err ? err : rig_bo(r, WINDOW_BYTES, DRM_UNPU_BO_MMAP, &r->window);
	err = err ? err : rig_bo(r, DEVICE_BYTES, 0, &r->unmappable);
	err = err ? err : rig_bo(r, 1, 0, &r->gem_close.handle);
	err = err ? err : rig_ctx(r, &r->ctx_query.ctx_id);
	err = err ? err : rig_shaders(r, &copy);
	if (err)
		return err;
	rig_program(r, copy, r->shader_destroy.shader_id);
	err = do_call(r, ERRNO_CALL_PROGRAM_CREATE, &r->program_create);
	r->program_destroy.program_id = r->program_create.program_id;
	r->program_create.program_id = 0;
	err = err ? err : rig_syncobj(r, &r->wait_handle);
	err = err ? err : rig_syncobj(r, &r->fresh);
	err = err ? err : rig_syncobj(r, &r->timeline);
	err = err ? err : rig_submit(r, r->wait_handle, 0);
	err = err ? err : rig_submit(r, r->timeline, 4);
	return err ? err : rig_wait(r, r->timeline, 4);
}

static void rig_args(struct errno_rig *r)
{
	void *const args[ERRNO_CALLS] = {
		&r->dev_query, &r->bo_create, &r->bo_mmap_offset, &r->ctx_create, &r->ctx_destroy,
		&r->ctx_query, &r->shader_create, &r->shader_destroy, &r->program_create,
		&r->program_destroy, &r->submit, &r->gem_close, &r->syncobj_destroy,
		&r->syncobj_wait,
	};

	memcpy(r->args, args, sizeof(args));
	r->dev_query = query_of(DRM_UNPU_QUERY_DEV_INFO, sizeof(r->info2), &r->info2);
	r->bo_create = (struct drm_unpu_bo_create){ .size = 100, .flags = DRM_UNPU_BO_MMAP };
	r->bo_mmap_offset.handle = r->window;
	r->ctx_create = (struct drm_unpu_ctx_create){ .priority = DRM_UNPU_PRIORITY_NORMAL };
	r->ctx_destroy.ctx_id = r->ctx_query.ctx_id;
	r->syncobj_destroy.handle = r->wait_handle;
	r->syncobj_wait = (struct drm_syncobj_timeline_wait){
		.handles = (uintptr_t)&r->wait_handle, .points = (uintptr_t)&r->wait_point,
		.timeout_nsec = INT64_MAX, .count_handles = 1,
	};
	rig_submit_args(r);
}

static struct errno_rig *rig_create(struct errno_device *device, int *err)
{
	struct errno_rig *r = calloc(1, sizeof(*r));

	*err = -ENOMEM;
	if (!r)
		return NULL;
	r->device = device;
	*err = rig_objects(r);
	rig_args(r);
	return r;
}

static void rig_destroy(struct errno_rig *r)
{
	r->device->close(r->device);
	free(r->memory);
	free(r);
}

/* ---- rows ---------------------------------------------------------------------------------- */

#define ROW(__row)	static int row_ ## __row(struct errno_rig *r, int variant)

/* One field, one value. */
#define SET(__row, __field, __value) \
	ROW(__row) { (void)variant; r->__field = (__value); return 1; }
/* One field, two values. */
#define SET2(__row, __field, __value, __other) \
	ROW(__row) { r->__field = variant ? (__other) : (__value); return 2; }
/* No pointer at all and, where there is such a number, no address. */
#define POINTER(__row, __field) \
	ROW(__row) { r->__field = variant ? r->device->no_address : 0; return missing(r); }
/* One more element than allowed, each of them valid. */
#define LONGER(__row, __array, __count) \
	ROW(__row) { (void)variant; return lengthen(r, &r->__array, (__count) + 1); }

static int missing(const struct errno_rig *r)
{
	return r->device->no_address ? 2 : 1;
}

static int lengthen(struct errno_rig *r, struct drm_unpu_array *array, uint64_t count)
{
	const uint8_t *from = (const uint8_t *)(uintptr_t)array->ptr;
	const size_t stride = array->stride;
	uint8_t *to = calloc(count, stride);
	uint64_t i;

	if (!to)
		return -ENOMEM;
	for (i = 0; i < count; i++)
		memcpy(to + i * stride, from + (i < array->count ? i : 0) * stride, stride);
	r->memory = to;
	array->ptr = (uintptr_t)to;
	array->count = (uint32_t)count;
	return 1;
}

static int lengthen_constants(struct errno_rig *r, uint64_t bytes)
{
	r->memory = calloc(1, bytes);
	if (!r->memory)
		return -ENOMEM;
	memcpy(r->memory, r->constants, sizeof(r->constants));
	r->program_create.constants = (uintptr_t)r->memory;
	r->program_create.const_bytes = (uint32_t)bytes;
	return 1;
}

static uint64_t most_constants(const struct errno_rig *r)
{
	return (uint64_t)r->info.max_dispatches * r->info.max_const_bytes;
}

ROW(any_pointer_not_the_caller_s_memory)
{
	if (!r->device->no_address)
		return 0;
	r->calls = 1u << variant;
	r->args[variant] = (void *)(uintptr_t)r->device->no_address;
	return ERRNO_CALLS;
}

ROW(any_device_gone)
{
	int err = r->device->gone ? r->device->gone(r->device) : -EOPNOTSUPP;

	(void)variant;
	r->calls = (1u << ERRNO_CALLS) - 1;
	return err ? err : 1;
}

ROW(any_memory_none_left)
{
	int err = r->device->no_memory ? r->device->no_memory(r->device, r) : -EOPNOTSUPP;

	(void)variant;
	return err ? err : 1;
}

SET2(dev_query_type_unknown, dev_query.type, 3, UINT32_MAX)
SET2(dev_query_size_dev_info_below_that_of_1_0, dev_query.size, 335, 1)

ROW(dev_query_size_dev_stats_below_that_of_1_0)
{
	r->dev_query = query_of(DRM_UNPU_QUERY_DEV_STATS, variant ? 0 : 79, &r->stats);
	return 2;
}

ROW(dev_query_size_dev_shaders_0_or_not_a_multiple_of_32)
{
	r->dev_query = query_of(DRM_UNPU_QUERY_DEV_SHADERS, variant ? 0 : 63, r->names);
	return 2;
}

ROW(dev_query_pointer_no_address)
{
	(void)variant;
	r->dev_query.pointer = r->device->no_address;
	return r->device->no_address ? 1 : 0;
}

SET(bo_create_size_0, bo_create.size, 0)
SET2(bo_create_size_above_max_bo_bytes, bo_create.size, r->info.max_bo_bytes + 1, UINT64_MAX)
SET2(bo_create_flags_unknown_bit, bo_create.flags, 3, 1u << 31)

ROW(bo_create_size_more_than_the_heap_has_left)
{
	uint64_t size = r->info.max_bo_bytes;
	uint32_t handle;

	(void)variant;
	while (size) {
		if (rig_bo(r, size, DRM_UNPU_BO_MMAP, &handle))
			size /= 2;
	}
	return 1;
}

/* What a file may have is no limit that DEV_INFO tells; nobody comes near it. */
#define FULL(__row, __create) \
	ROW(__row) \
	{ \
		uint32_t i, id; \
		int err = 0; \
		(void)variant; \
		for (i = 0; !err && i < 100000; i++) \
			err = __create; \
		return err == -ENOSPC ? 1 : err ? err : -ERANGE; \
	}

static int copy_program(struct errno_rig *r, uint32_t *id)
{
	struct drm_unpu_program_create args = r->program_create;
	int err;

	args.dispatches.count = 1;
	err = do_call(r, ERRNO_CALL_PROGRAM_CREATE, &args);
	*id = args.program_id;
	return err;
}

FULL(bo_create_buffers_as_many_as_a_file_may_have, rig_bo(r, 1, 0, &id))
FULL(shader_create_shaders_as_many_as_a_file_may_have, rig_shader(r, "copy.1", NULL, 0, &id))
FULL(program_create_programs_as_many_as_a_file_may_have, copy_program(r, &id))

SET(bo_mmap_offset_handle_0, bo_mmap_offset.handle, 0)
SET(bo_mmap_offset_handle_unknown, bo_mmap_offset.handle, UNKNOWN)
SET(bo_mmap_offset_handle_without_bo_mmap, bo_mmap_offset.handle, r->unmappable)
SET(bo_mmap_offset_pad_not_0, bo_mmap_offset.pad, 1)

SET2(ctx_create_priority_above_high, ctx_create.priority, 3, UINT32_MAX)
SET(ctx_create_priority_high_without_cap_sys_nice, ctx_create.priority, DRM_UNPU_PRIORITY_HIGH)
SET2(ctx_create_flags_not_0, ctx_create.flags, 1, 1u << 31)
SET2(ctx_create_timeout_ns_above_max_timeout_ns, ctx_create.timeout_ns,
     r->info.max_timeout_ns + 1, UINT64_MAX)
SET(ctx_create_pad_not_0, ctx_create.pad, 1)

ROW(ctx_create_contexts_max_contexts_reached)
{
	uint32_t i, id;

	(void)variant;
	for (i = 1; i < r->info.max_contexts; i++) {
		int err = rig_ctx(r, &id);

		if (err)
			return err;
	}
	return 1;
}

SET(ctx_destroy_ctx_id_0, ctx_destroy.ctx_id, 0)
SET2(ctx_destroy_ctx_id_unknown, ctx_destroy.ctx_id, UNKNOWN, UINT32_MAX)
SET(ctx_destroy_pad_not_0, ctx_destroy.pad, 1)
SET(ctx_query_ctx_id_0, ctx_query.ctx_id, 0)
SET2(ctx_query_ctx_id_unknown, ctx_query.ctx_id, UNKNOWN, UINT32_MAX)
SET(ctx_query_pad_not_0, ctx_query.pad, 1)

SET(shader_create_name_empty, shader_create.name[0], 0)
SET2(shader_create_name_not_in_the_set, shader_create.name[0], 'b', 0xff)
SET(shader_create_name_another_revision, shader_create.name[5], '2')

ROW(shader_create_name_no_nul_at_its_end)
{
	(void)variant;
	memset(r->shader_create.name, 'a', sizeof(r->shader_create.name));
	return 1;
}

ROW(shader_create_name_bytes_after_the_nul)
{
	r->shader_create.name[variant ? 30 : 7] = 'x';
	return 2;
}

ROW(shader_create_spec_words_above_max_spec_words)
{
	r->memory = calloc(r->info.max_spec_words + 1, 4);
	if (!r->memory)
		return -ENOMEM;
	memcpy(r->memory, &r->attn, sizeof(r->attn));
	r->shader_create.spec = (uintptr_t)r->memory;
	/* The other one is past its memory, but nobody reads as many. */
	r->shader_create.spec_words = variant ? UINT32_MAX : r->info.max_spec_words + 1;
	return 2;
}

SET2(shader_create_spec_words_not_the_shader_s, shader_create.spec_words, 7, 0)
POINTER(shader_create_spec_no_address, shader_create.spec)
SET(shader_create_spec_a_word_out_of_its_range, attn.rows, 257)

static int has_matrix(const struct drm_unpu_dev_info *info, uint32_t layout, uint32_t numeric)
{
	uint32_t i;

	for (i = 0; i < info->num_matrices && i < DRM_UNPU_MAX_MATRICES; i++)
		if (info->matrices[i].layout == layout && info->matrices[i].numeric == numeric)
			return 1;
	return 0;
}

/* How the device does not multiply, in the words of a shader; 0: it does in all ways. */
static int lacks_matrix(const struct drm_unpu_dev_info *info, struct unpu_ffn_out_spec *spec)
{
	uint32_t layout, numeric;

	for (layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++) {
		const uint32_t classes = unpu_layout_info(layout)->quantised ? 2 : 1;

		for (numeric = DRM_UNPU_CLASS_F32; numeric < classes; numeric++) {
			*spec = (struct unpu_ffn_out_spec){ 1, 1, 32, 256, layout, numeric, 0 };
			if (!has_matrix(info, layout, numeric))
				return 1;
		}
	}
	return 0;
}

/* A KV type, else a way to multiply, that DEV_INFO does not name. */
ROW(shader_create_spec_a_variant_this_device_has_not)
{
	(void)variant;
	for (r->attn.kv_type = 0; r->attn.kv_type <= DRM_UNPU_KV_INT8; r->attn.kv_type++)
		if (!(r->info.kv_types & 1u << r->attn.kv_type))
			return 1;
	memcpy(r->shader_create.name, "ffn_out.1", 10);
	r->shader_create.spec = (uintptr_t)&r->ffn_out;
	r->shader_create.spec_words = sizeof(r->ffn_out) / 4;
	return lacks_matrix(&r->info, &r->ffn_out);
}

SET(shader_destroy_shader_id_0, shader_destroy.shader_id, 0)
SET2(shader_destroy_shader_id_unknown, shader_destroy.shader_id, UNKNOWN, UINT32_MAX)
SET(shader_destroy_pad_not_0, shader_destroy.pad, 1)

SET2(program_create_buffers_stride_below_that_of_1_0, program_create.buffers.stride, 23, 0)
SET2(program_create_buffers_stride_above_4096, program_create.buffers.stride, 4097, UINT32_MAX)
SET(program_create_buffers_stride_longer_tail_not_0, buffers[4].tail, 1)
SET(program_create_buffers_count_0, program_create.buffers.count, 0)
LONGER(program_create_buffers_count_above_max_buffers, program_create.buffers,
       (uint64_t)r->info.max_buffers)
POINTER(program_create_buffers_ptr_no_address, program_create.buffers.ptr)
SET2(program_create_dispatches_stride_below_that_of_1_0, program_create.dispatches.stride, 31, 0)
SET2(program_create_dispatches_stride_above_4096, program_create.dispatches.stride, 4097,
     UINT32_MAX)
SET(program_create_dispatches_stride_longer_tail_not_0, dispatches[1].tail, 1)
SET(program_create_dispatches_count_0, program_create.dispatches.count, 0)
LONGER(program_create_dispatches_count_above_max_dispatches, program_create.dispatches,
       (uint64_t)r->info.max_dispatches)
POINTER(program_create_dispatches_ptr_no_address, program_create.dispatches.ptr)
SET2(program_create_bindings_stride_below_that_of_1_0, program_create.bindings.stride, 3, 0)
SET2(program_create_bindings_stride_above_4096, program_create.bindings.stride, 4097, UINT32_MAX)
SET(program_create_bindings_stride_longer_tail_not_0, bindings[9].tail, 1)
SET(program_create_bindings_count_0, program_create.bindings.count, 0)
LONGER(program_create_bindings_count_above_max_dispatches_x_max_bindings,
       program_create.bindings, (uint64_t)r->info.max_dispatches * r->info.max_bindings)
POINTER(program_create_bindings_ptr_no_address, program_create.bindings.ptr)
POINTER(program_create_constants_no_address, program_create.constants)
/* In between: what a dispatch of the program does not take. */
SET(program_create_const_bytes_not_a_multiple_of_4, program_create.const_bytes, 14)

ROW(program_create_const_bytes_above_max_dispatches_x_max_const_bytes)
{
	(void)variant;
	return lengthen_constants(r, most_constants(r) + 4);
}

SET2(program_create_flags_unknown_bit, program_create.flags, 3, 1u << 31 | 1)

ROW(program_create_stop_buffer_not_0_without_program_stop)
{
	(void)variant;
	r->program_create.flags = 0;
	r->program_create.stop_offset = 0;
	return 1;
}

ROW(program_create_stop_offset_not_0_without_program_stop)
{
	(void)variant;
	r->program_create.flags = 0;
	r->program_create.stop_buffer = 0;
	return 1;
}

SET2(program_create_stop_buffer_not_in_the_buffer_table, program_create.stop_buffer, 5, UINT32_MAX)
SET(program_create_stop_buffer_without_access_read, program_create.stop_buffer, 3)
SET(program_create_stop_buffer_without_bo_mmap, program_create.stop_buffer, 1)
SET2(program_create_stop_offset_not_a_multiple_of_4, program_create.stop_offset, 6, 7)
SET2(program_create_stop_offset_past_the_buffer_s_end, program_create.stop_offset, 196608,
     UINT32_MAX - 3)
SET(program_create_buffer_handle_0, buffers[4].v1.handle, 0)
/* All but one object are new. */
static int lose(struct errno_rig *r)
{
	int err = r->device->lose ? r->device->lose(r->device) : -EOPNOTSUPP;

	err = err ? err : rig_objects(r);
	rig_args(r);
	return err ? err : 1;
}

ROW(program_create_buffer_handle_from_before_the_device_was_lost)
{
	uint32_t old = r->window;
	int ret = lose(r);

	(void)variant;
	r->buffers[4].v1.handle = old;
	return ret;
}

ROW(program_create_dispatch_shader_id_from_before_the_device_was_lost)
{
	uint32_t old = r->shader_destroy.shader_id;
	int ret = lose(r);

	(void)variant;
	r->dispatches[1].v1.shader_id = old;
	return ret;
}

ROW(submit_run_program_id_from_before_the_device_was_lost)
{
	uint32_t old = r->program_destroy.program_id;
	int ret = lose(r);

	(void)variant;
	r->runs[1].v1.program_id = old;
	return ret;
}

SET2(program_create_buffer_handle_unknown, buffers[4].v1.handle, UNKNOWN, UINT32_MAX)
SET(program_create_buffer_flags_0, buffers[4].v1.flags, 0)
SET2(program_create_buffer_flags_unknown_bit, buffers[4].v1.flags, 5, 1u << 31 | 1)

ROW(program_create_buffer_flags_access_write_of_a_read_only_buffer)
{
	int err = r->device->read_only(r->device, &r->buffers[4].v1.handle);

	(void)variant;
	r->buffers[4].v1.offset = 0;
	return err ? err : 1;
}

SET2(program_create_buffer_offset_not_a_multiple_of_binding_align, buffers[4].v1.offset,
     65536 + r->info.binding_align / 2, 65537)
SET2(program_create_buffer_offset_past_the_end_of_the_bo, buffers[4].v1.offset, WINDOW_BYTES,
     UINT64_MAX & ~0xffffull)
SET(program_create_buffer_size_0, buffers[4].v1.size, 0)
SET2(program_create_buffer_size_past_the_end_of_the_bo, buffers[4].v1.size,
     WINDOW_BYTES - 65535, 1ull << 40)
/* Where that is more than the device's memory it is past the end of the BO as well. */
SET2(program_create_buffer_size_above_max_binding_bytes, buffers[1].v1.size,
     r->info.max_binding_bytes + 1, UINT64_MAX)
SET(program_create_buffer_size_offset_size_overflows, buffers[2].v1.offset, UINT64_MAX - 65535)

SET(program_create_dispatch_shader_id_0, dispatches[1].v1.shader_id, 0)
SET2(program_create_dispatch_shader_id_unknown, dispatches[1].v1.shader_id, UNKNOWN, UINT32_MAX)
SET2(program_create_dispatch_first_binding_past_the_binding_table,
     dispatches[1].v1.first_binding, 7, 10)
SET2(program_create_dispatch_first_binding_first_num_overflows,
     dispatches[1].v1.first_binding, UINT32_MAX - 3, UINT32_MAX)
SET(program_create_dispatch_num_bindings_0, dispatches[0].v1.num_bindings, 0)
SET2(program_create_dispatch_num_bindings_above_max_bindings, dispatches[0].v1.num_bindings,
     r->info.max_bindings + 1, UINT32_MAX)
SET2(program_create_dispatch_num_bindings_not_the_shader_s, dispatches[0].v1.num_bindings, 3, 1)
SET2(program_create_dispatch_const_offset_not_a_multiple_of_4,
     dispatches[1].v1.const_offset, 6, 9)
SET2(program_create_dispatch_const_offset_past_the_constants,
     dispatches[1].v1.const_offset, 16, UINT32_MAX - 3)
SET(program_create_dispatch_const_offset_names_constants_out_of_range,
    dispatches[1].v1.const_offset, 12)
SET2(program_create_dispatch_const_bytes_not_a_multiple_of_4, dispatches[1].v1.const_bytes, 5, 2)
SET2(program_create_dispatch_const_bytes_not_the_shader_s, dispatches[1].v1.const_bytes, 8, 0)

ROW(program_create_dispatch_const_bytes_above_max_const_bytes)
{
	(void)variant;
	r->dispatches[0].v1.const_bytes = r->info.max_const_bytes + 4;
	return lengthen_constants(r, most_constants(r));
}

SET(program_create_dispatch_grid_0, dispatches[1].v1.grid[2], 0)
SET2(program_create_dispatch_grid_not_what_the_shader_needs, dispatches[1].v1.grid[0], 3, 1)
SET2(program_create_binding_buffer_not_in_the_buffer_table, bindings[5].v1.buffer, 5, UINT32_MAX)
SET2(program_create_binding_buffer_smaller_than_the_shader_needs,
     bindings[variant ? 4 : 0].v1.buffer, 4, 4)
SET(program_create_binding_buffer_read_without_access_read, bindings[0].v1.buffer, 3)
SET(program_create_binding_buffer_written_without_access_write, bindings[1].v1.buffer, 0)

SET(program_destroy_program_id_0, program_destroy.program_id, 0)
SET2(program_destroy_program_id_unknown, program_destroy.program_id, UNKNOWN, UINT32_MAX)
SET(program_destroy_pad_not_0, program_destroy.pad, 1)

SET(submit_ctx_id_0, submit.ctx_id, 0)
SET2(submit_ctx_id_unknown, submit.ctx_id, UNKNOWN, UINT32_MAX)

ROW(submit_ctx_id_guilty_innocent_or_lost)
{
	int err = r->device->guilty ? r->device->guilty(r->device, &r->submit.ctx_id) : -EOPNOTSUPP;

	(void)variant;
	return err ? err : 1;
}

ROW(submit_ctx_id_max_queued_jobs_queued)
{
	int err = r->device->hold ? r->device->hold(r->device, r->submit.ctx_id) : 0;
	uint32_t i;

	(void)variant;
	for (i = 0; !err && i < r->info.max_queued_jobs; i++)
		err = rig_submit(r, 0, 0);
	return err == -EBUSY || !err ? 1 : err;
}

SET2(submit_flags_not_0, submit.flags, 1, 1u << 31)
SET(submit_pad_not_0, submit.pad, 1)
SET2(submit_runs_stride_below_that_of_1_0, submit.runs.stride, 7, 0)
SET2(submit_runs_stride_above_4096, submit.runs.stride, 4097, UINT32_MAX)
SET(submit_runs_stride_longer_tail_not_0, runs[1].tail, 1)
SET(submit_runs_count_0, submit.runs.count, 0)
LONGER(submit_runs_count_above_max_programs, submit.runs, (uint64_t)r->info.max_programs)
POINTER(submit_runs_ptr_no_address, submit.runs.ptr)
SET(submit_run_program_id_0, runs[1].v1.program_id, 0)
SET2(submit_run_program_id_unknown, runs[1].v1.program_id, UNKNOWN, UINT32_MAX)
SET(submit_run_repeat_0, runs[1].v1.repeat, 0)
SET2(submit_run_repeat_above_max_repeat, runs[1].v1.repeat, r->info.max_repeat + 1, UINT32_MAX)

/* Of so many dispatches that all runs with all their repeats are too much. */
static int make_long_program(struct errno_rig *r)
{
	const uint64_t most = (uint64_t)r->info.max_programs * r->info.max_repeat;
	struct drm_unpu_program_create args = r->program_create;
	int err = lengthen(r, &args.dispatches, r->info.max_job_dispatches / most + 2);
	uint32_t i;

	err = err < 0 ? err : do_call(r, ERRNO_CALL_PROGRAM_CREATE, &args);
	if (err)
		return err;
	for (i = 0; i < ERRNO_MAX_RUNS; i++)
		r->runs[i].v1.program_id = args.program_id;
	return (int)args.dispatches.count;
}

/* As many runs as that takes, each with as many repeats as it may have. */
ROW(submit_run_repeat_repeats_x_dispatches_above_max_job_dispatches)
{
	int num_dispatches = make_long_program(r);
	uint64_t total = 0;
	uint32_t i;

	(void)variant;
	if (num_dispatches < 0)
		return num_dispatches;
	for (i = 0; i < r->info.max_programs && i < ERRNO_MAX_RUNS; i++) {
		uint64_t repeat = (r->info.max_job_dispatches - total) / num_dispatches + 1;

		if (repeat > r->info.max_repeat)
			repeat = r->info.max_repeat;
		r->runs[i].v1.repeat = (uint32_t)repeat;
		total += repeat * num_dispatches;
		r->submit.runs.count = i + 1;
		if (total > r->info.max_job_dispatches)
			return 1;
	}
	return -ERANGE;
}

SET2(submit_syncs_stride_below_that_of_1_0, submit.syncs.stride, 15, 0)
SET2(submit_syncs_stride_above_4096, submit.syncs.stride, 4097, UINT32_MAX)
SET(submit_syncs_stride_longer_tail_not_0, syncs[2].tail, 1)
LONGER(submit_syncs_count_above_max_syncs, submit.syncs, (uint64_t)r->info.max_syncs)
POINTER(submit_syncs_ptr_no_address, submit.syncs.ptr)
SET2(submit_sync_handle_0, syncs[variant ? 0 : 2].v1.handle, 0, 0)
SET2(submit_sync_handle_unknown, syncs[variant ? 0 : 2].v1.handle, UNKNOWN, UINT32_MAX)
SET(submit_sync_flags_0, syncs[2].v1.flags, 0)
SET(submit_sync_flags_wait_and_signal, syncs[2].v1.flags, 3)
SET2(submit_sync_flags_unknown_bit, syncs[2].v1.flags, 6, 1u << 31 | 2)

ROW(submit_sync_point_wait_no_job_signals_it)
{
	r->syncs[0].v1.handle = variant ? r->timeline : r->fresh;
	r->syncs[0].v1.point = variant ? 5 : 0;
	return 2;
}

SET2(submit_sync_point_signal_not_above_the_last_one, syncs[1].v1.point, 4, 1)

ROW(submit_sync_point_signal_twice_in_the_call)
{
	r->syncs[2].v1.handle = variant ? r->wait_handle : r->timeline;
	r->syncs[2].v1.point = variant ? 0 : 5;
	if (variant)
		r->syncs[0].v1.flags = DRM_UNPU_SYNC_SIGNAL;
	return 2;
}

SET2(gem_close_handle_unknown, gem_close.handle, UNKNOWN, 0)
SET2(syncobj_destroy_handle_unknown, syncobj_destroy.handle, UNKNOWN, 0)
SET2(syncobj_wait_handle_unknown, wait_handle, UNKNOWN, 0)

ROW(syncobj_wait_point_no_job_signals_it)
{
	r->wait_handle = variant ? r->timeline : r->fresh;
	r->wait_point = variant ? 9 : 0;
	return 2;
}

const struct errno_row errno_rows[] = {
#include "errno_table.h"
};

const size_t errno_num_rows = sizeof(errno_rows) / sizeof(errno_rows[0]);

/* ---- running them -------------------------------------------------------------------------- */

static int say(char *why, size_t bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, bytes, format, args);
	va_end(args);
	return -1;
}

static uint64_t jobs_submitted(struct errno_rig *r)
{
	struct drm_unpu_dev_stats stats = { 0 };
	struct drm_unpu_dev_query query = query_of(DRM_UNPU_QUERY_DEV_STATS, sizeof(stats),
						   &stats);

	do_call(r, ERRNO_CALL_DEV_QUERY, &query);
	return stats.jobs_submitted;
}

static int check_calls(struct errno_rig *r, const struct errno_row *row, char *why, size_t bytes)
{
	struct errno_rig before = *r, after;
	int call;

	for (call = 0; call < ERRNO_CALLS; call++) {
		int err;

		if (!(r->calls & 1u << call))
			continue;
		err = do_call(r, (enum errno_call)call, r->args[call]);
		if (err != -row->err)
			return say(why, bytes, "call %d gives %d, not %d", call, err, -row->err);
		after = *r;
		after.program_create.error_index = before.program_create.error_index;
		after.submit.error_index = before.submit.error_index;
		if (memcmp(&before, &after, sizeof(before)))
			return say(why, bytes, "call %d fails and changes the caller's memory",
				   call);
	}
	return 0;
}

/* `valid` is the rig before the row. Rows that change more than the caller's memory, which they do
 * by calls of their own, leave the device another one. */
static int check_after(struct errno_rig *r, const struct errno_rig *valid,
		       const struct errno_row *row, char *why, size_t bytes)
{
	void *memory = r->memory;
	int err;

	*r = *valid;
	r->memory = memory;
	err = do_call(r, row->call, r->args[row->call]);
	if (err)
		return say(why, bytes, "after it the valid call gives %d", err);
	return 0;
}

static int changes_device(const struct errno_row *row)
{
	return row->call == ERRNO_CALL_ANY || row->err == ENOSPC || row->err == EBUSY ||
	       row->err == EIO || row->err == ESTALE;
}

int errno_row_check(const struct errno_row *row, int variant, struct errno_device *device,
		    int *variants, char *why, size_t why_bytes)
{
	int err, result = -1;
	struct errno_rig *r = rig_create(device, &err), *valid = malloc(sizeof(*valid));
	uint64_t submitted;

	*variants = 1;
	if (err || !valid) {
		say(why, why_bytes, "a valid call of the rig gives %d", err);
		goto out;
	}
	*valid = *r;
	r->calls = row->call == ERRNO_CALL_ANY ? 0 : 1u << row->call;
	*variants = row->spoil(r, variant);
	result = 0;
	if (!*variants)
		goto out;
	if (*variants < 0) {
		result = say(why, why_bytes, "what comes before the call gives %d", *variants);
		goto out;
	}
	submitted = jobs_submitted(r);
	result = check_calls(r, row, why, why_bytes);
	if (!result && jobs_submitted(r) != submitted)
		result = say(why, why_bytes, "a refused job counts as submitted");
	if (!result && !changes_device(row))
		result = check_after(r, valid, row, why, why_bytes);
out:
	if (r)
		rig_destroy(r);
	free(valid);
	return result;
}

int errno_valid_check(enum errno_call call, struct errno_device *device, char *why,
		      size_t why_bytes)
{
	int err;
	struct errno_rig *r = rig_create(device, &err);

	if (!r)
		return say(why, why_bytes, "no memory");
	err = err ? err : do_call(r, call, r->args[call]);
	rig_destroy(r);
	return err ? say(why, why_bytes, "valid call %d gives %d", (int)call, err) : 0;
}

static int index_is(struct errno_rig *r, enum errno_call call, int want_err, uint32_t want)
{
	int err = do_call(r, call, r->args[call]);
	uint32_t index = call == ERRNO_CALL_SUBMIT ? r->submit.error_index :
						     r->program_create.error_index;

	return err == -want_err && index == want;
}

int errno_index_check(struct errno_device *device, char *why, size_t why_bytes)
{
	int err, result = 0;
	struct errno_rig *r = rig_create(device, &err);

	if (!r)
		return say(why, why_bytes, "no memory");
	r->dispatches[1].v1.grid[0] = 3;
	if (err || !index_is(r, ERRNO_CALL_PROGRAM_CREATE, EINVAL, 1))
		result = say(why, why_bytes, "the dispatch refused is not named");
	r->program_create.flags = 2;
	if (!index_is(r, ERRNO_CALL_PROGRAM_CREATE, EINVAL, UINT32_MAX))
		result = say(why, why_bytes, "a dispatch is named where none was refused");
	r->runs[1].v1.program_id = UNKNOWN;
	if (!index_is(r, ERRNO_CALL_SUBMIT, ENOENT, 1))
		result = say(why, why_bytes, "the run refused is not named");
	r->runs[1].v1.program_id = r->program_destroy.program_id;
	r->submit.flags = 1;
	if (!index_is(r, ERRNO_CALL_SUBMIT, EINVAL, UINT32_MAX))
		result = say(why, why_bytes, "a run is named where none was refused");
	rig_destroy(r);
	return result;
}
