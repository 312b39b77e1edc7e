/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifdef __KERNEL__
#include <linux/errno.h>
#else
#include <errno.h>
#endif

#include "uapi/unpu_check.h"

#define ACCESS	(DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE)

/* [offset, offset + size) lies in [0, bytes). */
static int within(__u64 offset, __u64 size, __u64 bytes)
{
	return size <= bytes && offset <= bytes - size;
}

int unpu_check_array(const struct drm_unpu_array *array, __u32 min_stride, __u32 min_count,
		     __u64 max_count)
{
	if (array->stride < min_stride || array->count < min_count || array->count > max_count)
		return -EINVAL;
	if (array->stride > UNPU_MAX_STRIDE)
		return -E2BIG;
	return array->count && !array->ptr ? -EFAULT : 0;
}

int unpu_check_tail(const void *tail, __u32 bytes)
{
	const __u8 *at = tail;
	__u32 i;

	for (i = 0; i < bytes; i++)
		if (at[i])
			return -E2BIG;
	return 0;
}

int unpu_check_dev_query(const struct drm_unpu_dev_query *args, __u32 v1_bytes, __u32 unit)
{
	if (!args->pointer)
		return 0;
	return args->size < v1_bytes || args->size % unit ? -EINVAL : 0;
}

int unpu_check_bo_create(const struct drm_unpu_bo_create *args,
			 const struct drm_unpu_dev_info *limits)
{
	if (!args->size || args->size > limits->max_bo_bytes || args->flags & ~DRM_UNPU_BO_MMAP)
		return -EINVAL;
	return 0;
}

int unpu_check_bo_mmap_offset(const struct drm_unpu_bo_mmap_offset *args)
{
	return args->pad ? -EINVAL : 0;
}

int unpu_check_ctx_create(const struct drm_unpu_ctx_create *args,
			  const struct drm_unpu_dev_info *limits)
{
	if (args->priority > DRM_UNPU_PRIORITY_HIGH || args->flags || args->pad ||
	    args->timeout_ns > limits->max_timeout_ns)
		return -EINVAL;
	return 0;
}

int unpu_check_ctx_destroy(const struct drm_unpu_ctx_destroy *args)
{
	return args->pad ? -EINVAL : 0;
}

int unpu_check_ctx_query(const struct drm_unpu_ctx_query *args)
{
	return args->pad ? -EINVAL : 0;
}

int unpu_check_shader_create(const struct drm_unpu_shader_create *args,
			     const struct drm_unpu_dev_info *limits)
{
	__u32 i = 0;

	while (i < DRM_UNPU_SHADER_NAME && args->name[i])
		i++;
	if (!i || i == DRM_UNPU_SHADER_NAME || args->spec_words > limits->max_spec_words)
		return -EINVAL;
	if (unpu_check_tail(args->name + i, DRM_UNPU_SHADER_NAME - i))
		return -EINVAL;
	return args->spec_words && !args->spec ? -EFAULT : 0;
}

int unpu_check_shader_destroy(const struct drm_unpu_shader_destroy *args)
{
	return args->pad ? -EINVAL : 0;
}

int unpu_check_program_destroy(const struct drm_unpu_program_destroy *args)
{
	return args->pad ? -EINVAL : 0;
}

/* ---- programs ------------------------------------------------------------------------------ */

int unpu_check_program(const struct drm_unpu_program_create *args,
		       const struct drm_unpu_dev_info *limits)
{
	__u64 bindings = (__u64)limits->max_dispatches * limits->max_bindings;
	__u64 constants = (__u64)limits->max_dispatches * limits->max_const_bytes;
	int err;

	err = unpu_check_array(&args->buffers, UNPU_V1_BUFFER, 1, limits->max_buffers);
	if (!err)
		err = unpu_check_array(&args->dispatches, UNPU_V1_DISPATCH, 1,
				       limits->max_dispatches);
	if (!err)
		err = unpu_check_array(&args->bindings, UNPU_V1_BINDING, 1, bindings);
	if (err)
		return err;
	if (args->const_bytes > constants || args->const_bytes % 4 ||
	    args->flags & ~DRM_UNPU_PROGRAM_STOP)
		return -EINVAL;
	if (!(args->flags & DRM_UNPU_PROGRAM_STOP) && (args->stop_buffer || args->stop_offset))
		return -EINVAL;
	return args->const_bytes && !args->constants ? -EFAULT : 0;
}

int unpu_check_buffer(const struct drm_unpu_buffer *buffer, __u64 bo_bytes,
		      const struct drm_unpu_dev_info *limits)
{
	if (!buffer->flags || buffer->flags & ~ACCESS)
		return -EINVAL;
	if (buffer->offset & (limits->binding_align - 1))
		return -EINVAL;
	if (!buffer->size || buffer->size > limits->max_binding_bytes)
		return -EINVAL;
	return within(buffer->offset, buffer->size, bo_bytes) ? 0 : -EINVAL;
}

int unpu_check_dispatch(const struct drm_unpu_dispatch *dispatch,
			const struct drm_unpu_program_create *args,
			const struct drm_unpu_dev_info *limits)
{
	if (!dispatch->num_bindings || dispatch->num_bindings > limits->max_bindings ||
	    !within(dispatch->first_binding, dispatch->num_bindings, args->bindings.count))
		return -EINVAL;
	if (dispatch->const_offset % 4 || dispatch->const_bytes % 4 ||
	    dispatch->const_bytes > limits->max_const_bytes ||
	    !within(dispatch->const_offset, dispatch->const_bytes, args->const_bytes))
		return -EINVAL;
	if (!dispatch->grid[0] || !dispatch->grid[1] || !dispatch->grid[2])
		return -EINVAL;
	return 0;
}

int unpu_check_binding(const struct drm_unpu_binding *binding,
		       const struct drm_unpu_program_create *args)
{
	return binding->buffer < args->buffers.count ? 0 : -EINVAL;
}

/* The host writes the word and the device reads it: it has to lie where both can. */
int unpu_check_stop(const struct drm_unpu_program_create *args,
		    const struct drm_unpu_buffer *buffer, __u32 bo_flags)
{
	if (args->stop_offset % 4 || !within(args->stop_offset, 4, buffer->size) ||
	    !(buffer->flags & DRM_UNPU_ACCESS_READ) || !(bo_flags & DRM_UNPU_BO_MMAP))
		return -EINVAL;
	return 0;
}

/* ---- submission ---------------------------------------------------------------------------- */

int unpu_check_submit(const struct drm_unpu_submit *args, const struct drm_unpu_dev_info *limits)
{
	int err;

	if (args->flags || args->pad)
		return -EINVAL;
	err = unpu_check_array(&args->runs, UNPU_V1_RUN, 1, limits->max_programs);
	if (err)
		return err;
	/* Without syncs the array is not looked at, so that it may be left zero. */
	if (!args->syncs.count)
		return 0;
	return unpu_check_array(&args->syncs, UNPU_V1_SYNC, 0, limits->max_syncs);
}

int unpu_check_run(const struct drm_unpu_run *run, __u32 num_dispatches, __u64 *total,
		   const struct drm_unpu_dev_info *limits)
{
	if (!run->repeat || run->repeat > limits->max_repeat)
		return -EINVAL;
	/* Below 2^32 before, by the check that follows, plus 32 x 32 bits: no overflow. */
	*total += (__u64)run->repeat * num_dispatches;
	return *total > limits->max_job_dispatches ? -EINVAL : 0;
}

int unpu_check_syncs(const struct drm_unpu_sync *syncs, __u32 count)
{
	__u32 i, j;

	for (i = 0; i < count; i++) {
		if (syncs[i].flags != DRM_UNPU_SYNC_WAIT && syncs[i].flags != DRM_UNPU_SYNC_SIGNAL)
			return -EINVAL;
		for (j = 0; j < i; j++)
			if (syncs[i].flags == DRM_UNPU_SYNC_SIGNAL &&
			    syncs[j].flags == DRM_UNPU_SYNC_SIGNAL &&
			    syncs[i].handle == syncs[j].handle &&
			    syncs[i].point == syncs[j].point)
				return -EINVAL;
	}
	return 0;
}
