/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The structural checks of the device interface, shared by the kernel driver, the in-process
 * devices and the device process: counts against limits, sizes, alignment, overflow, reserved bits.
 * Whether a handle exists and what a shader needs is the caller's to know.
 *
 * All take the callee's own copy of a struct, never memory that somebody else can still write, and
 * return 0 or the errno of the table in unpu_accel.h. Freestanding: integers only, no libc, no
 * allocation, no state.
 */
#ifndef UNPU_CHECK_H
#define UNPU_CHECK_H

#include "uapi/unpu_accel.h"

/* The sizes of version 1.0, which stay the least stride when a struct grows. */
#define UNPU_V1_DEV_INFO	464u
#define UNPU_V1_DEV_STATS	80u
#define UNPU_V1_BUFFER		24u
#define UNPU_V1_DISPATCH	32u
#define UNPU_V1_BINDING		4u
#define UNPU_V1_RUN		8u
#define UNPU_V1_SYNC		16u

/* No element of any version is larger; bounds what a caller makes the callee read. */
#define UNPU_MAX_STRIDE		4096u

/* Elements: min_stride is the UNPU_V1_* size. -EFAULT: elements but no pointer. */
int unpu_check_array(const struct drm_unpu_array *array, __u32 min_stride, __u32 min_count,
		     __u64 max_count);
/* The bytes of one element that this side does not know: -E2BIG unless all are 0. */
int unpu_check_tail(const void *tail, __u32 bytes);

/* v1_bytes: least size of the type's answer; unit: size of one element of it, 1 for a struct. */
int unpu_check_dev_query(const struct drm_unpu_dev_query *args, __u32 v1_bytes, __u32 unit);
int unpu_check_bo_create(const struct drm_unpu_bo_create *args,
			 const struct drm_unpu_dev_info *limits);
int unpu_check_bo_mmap_offset(const struct drm_unpu_bo_mmap_offset *args);
int unpu_check_ctx_create(const struct drm_unpu_ctx_create *args,
			  const struct drm_unpu_dev_info *limits);
int unpu_check_ctx_destroy(const struct drm_unpu_ctx_destroy *args);
int unpu_check_ctx_query(const struct drm_unpu_ctx_query *args);
int unpu_check_shader_create(const struct drm_unpu_shader_create *args,
			     const struct drm_unpu_dev_info *limits);
int unpu_check_shader_destroy(const struct drm_unpu_shader_destroy *args);
int unpu_check_program_destroy(const struct drm_unpu_program_destroy *args);

/* The fixed part of a program; after it every product of counts and sizes fits 64 bits. */
int unpu_check_program(const struct drm_unpu_program_create *args,
		       const struct drm_unpu_dev_info *limits);
/* One row of the buffer table; bo_bytes is the size of the buffer behind the handle. */
int unpu_check_buffer(const struct drm_unpu_buffer *buffer, __u64 bo_bytes,
		      const struct drm_unpu_dev_info *limits);
/* One dispatch against the checked fixed part. */
int unpu_check_dispatch(const struct drm_unpu_dispatch *dispatch,
			const struct drm_unpu_program_create *args,
			const struct drm_unpu_dev_info *limits);
int unpu_check_binding(const struct drm_unpu_binding *binding,
		       const struct drm_unpu_program_create *args);
/* The stop word in its buffer table row; bo_flags are DRM_UNPU_BO_*. */
int unpu_check_stop(const struct drm_unpu_program_create *args,
		    const struct drm_unpu_buffer *buffer, __u32 bo_flags);

int unpu_check_submit(const struct drm_unpu_submit *args,
		      const struct drm_unpu_dev_info *limits);
/* One run; *total counts the dispatches of the job so far. */
int unpu_check_run(const struct drm_unpu_run *run, __u32 num_dispatches, __u64 *total,
		   const struct drm_unpu_dev_info *limits);
/* All syncs of a submit together: nothing may be signalled twice. */
int unpu_check_syncs(const struct drm_unpu_sync *syncs, __u32 count);

#endif
