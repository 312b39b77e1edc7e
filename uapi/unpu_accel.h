/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The unpu device interface: what a kernel driver, an in-process device and the device process
 * of the virtual NPU all speak.
 */
#ifndef UNPU_ACCEL_H
#define UNPU_ACCEL_H

#include "drm.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* Call numbers are append-only. */
enum drm_unpu_ioctl_id {
	DRM_UNPU_DEV_QUERY = 0,
	DRM_UNPU_BO_CREATE,
	DRM_UNPU_BO_MMAP_OFFSET,
	DRM_UNPU_CTX_CREATE,
	DRM_UNPU_CTX_DESTROY,
	DRM_UNPU_CTX_QUERY,
	DRM_UNPU_SHADER_CREATE,
	DRM_UNPU_SHADER_DESTROY,
	DRM_UNPU_PROGRAM_CREATE,
	DRM_UNPU_PROGRAM_DESTROY,
	DRM_UNPU_SUBMIT,
};

/* An array in user memory; stride is the caller's element size, so that elements can grow. */
struct drm_unpu_array {
	__u32 stride;
	__u32 count;
	__u64 ptr;
};

enum drm_unpu_query_type {
	DRM_UNPU_QUERY_DEV_INFO = 0,
	DRM_UNPU_QUERY_DEV_STATS,
	DRM_UNPU_QUERY_DEV_SHADERS,	/* packed array of struct drm_unpu_shader_name */
};

struct drm_unpu_dev_query {
	__u32 type;	/* enum drm_unpu_query_type */
	__u32 size;	/* in: bytes at pointer; out: bytes the device has */
	__u64 pointer;	/* 0 asks for the size only */
};

/*
 * How weights lie in a buffer. Rows and K are padded to 32 with zeros. A quantised packed layout
 * has two planes, quants and f16 scales, each bound on its own.
 */
enum drm_unpu_layout {
	DRM_UNPU_LAYOUT_GGUF_F32 = 0,
	DRM_UNPU_LAYOUT_GGUF_F16,
	DRM_UNPU_LAYOUT_GGUF_BF16,
	DRM_UNPU_LAYOUT_GGUF_Q8_0,
	DRM_UNPU_LAYOUT_GGUF_Q4_0,
	DRM_UNPU_LAYOUT_F32_R16,
	DRM_UNPU_LAYOUT_F16_R16,
	DRM_UNPU_LAYOUT_BF16_R16,
	DRM_UNPU_LAYOUT_Q8_R8_K16,
	DRM_UNPU_LAYOUT_Q8_R8_K4,
	DRM_UNPU_LAYOUT_Q8_R16_K4U,
	DRM_UNPU_LAYOUT_Q4_R8_K16,
	DRM_UNPU_LAYOUT_Q4_R8_K4,
	DRM_UNPU_LAYOUT_Q4_R8_K4U,
	DRM_UNPU_LAYOUT_Q4_R16_K4U,
	DRM_UNPU_LAYOUT_COUNT,		/* not ABI */
};

enum drm_unpu_class {
	DRM_UNPU_CLASS_F32 = 0,
	DRM_UNPU_CLASS_A8,
};

enum drm_unpu_kv_type {
	DRM_UNPU_KV_F32 = 0,
	DRM_UNPU_KV_F16,
};

#define DRM_UNPU_MAX_MATRICES	32

/* One way in which a device multiplies by weights; drm_unpu_dev_info lists the best first. */
struct drm_unpu_matrix {
	__u16 layout;	/* enum drm_unpu_layout */
	__u16 numeric;	/* enum drm_unpu_class */
};

/* The device's memory is the caller's: a mappable buffer is as fast as an unmappable one. */
#define DRM_UNPU_FEATURE_UNIFIED	(1ULL << 0)
/* Dispatches skip grid units past the live positions: one context bucket is enough. */
#define DRM_UNPU_FEATURE_LIVE_GRID	(1ULL << 1)
/* A row's result depends on its inputs and constants only. */
#define DRM_UNPU_FEATURE_PURE_ROWS	(1ULL << 2)
/* Jobs run on the thread that waits for them. */
#define DRM_UNPU_FEATURE_WAIT_RUNS	(1ULL << 3)

struct drm_unpu_dev_info {
	__u32 version_major;
	__u32 version_minor;
	__u64 features;
	__u64 heap_window_bytes;	/* buffers with DRM_UNPU_BO_MMAP */
	__u64 heap_device_bytes;	/* buffers without */
	__u64 max_bo_bytes;
	__u64 max_binding_bytes;
	__u32 binding_align;		/* of a binding's offset, bytes, power of two */
	__u32 max_rows;			/* row capacity of a program */
	__u32 max_dispatches;		/* in one program */
	__u32 max_bindings;		/* of one dispatch */
	__u32 max_buffers;		/* in one program's buffer table */
	__u32 max_spec_words;
	__u32 max_const_bytes;		/* of one dispatch */
	__u32 max_programs;		/* in one submit */
	__u32 max_repeat;
	__u32 max_job_dispatches;
	__u32 max_syncs;
	__u32 max_contexts;		/* per file */
	__u32 max_queued_jobs;		/* per context */
	__u32 tokens_per_submit;	/* how many the device likes best */
	__u64 default_timeout_ns;
	__u64 max_timeout_ns;
	__u64 max_job_time_ns;
	__u32 kv_types;			/* bit 1 << enum drm_unpu_kv_type */
	__u32 num_matrices;
	__u32 units;			/* threads or cores that share a dispatch, 0: unknown */
	__u32 pad;
	struct drm_unpu_matrix matrices[DRM_UNPU_MAX_MATRICES];
	__u8 name[64];
};

struct drm_unpu_dev_stats {
	__u64 window_used_bytes;
	__u64 device_used_bytes;
	__u64 jobs_submitted;
	__u64 jobs_completed;
	__u64 jobs_failed;
	__u64 jobs_timed_out;
	__u64 jobs_cancelled;
	__u64 resets;
	__u64 epoch;
	__u64 busy_ns;
};

#define DRM_UNPU_SHADER_NAME	32

struct drm_unpu_shader_name {
	__u8 name[DRM_UNPU_SHADER_NAME];	/* "qkv.1", NUL-padded */
};

#define DRM_UNPU_BO_MMAP	(1U << 0)

struct drm_unpu_bo_create {
	__u64 size;	/* in: bytes; out: rounded up */
	__u32 flags;
	__u32 handle;	/* out */
};

struct drm_unpu_bo_mmap_offset {
	__u32 handle;
	__u32 pad;
	__u64 offset;	/* out: for mmap() on the node */
};

enum drm_unpu_priority {
	DRM_UNPU_PRIORITY_LOW = 0,
	DRM_UNPU_PRIORITY_NORMAL,
	DRM_UNPU_PRIORITY_HIGH,
};

struct drm_unpu_ctx_create {
	__u32 priority;
	__u32 flags;
	__u64 timeout_ns;	/* 0: the device's default */
	__u32 ctx_id;		/* out */
	__u32 pad;
};

struct drm_unpu_ctx_destroy {
	__u32 ctx_id;
	__u32 pad;
};

enum drm_unpu_ctx_state {
	DRM_UNPU_CTX_OK = 0,
	DRM_UNPU_CTX_GUILTY,
	DRM_UNPU_CTX_INNOCENT,
	DRM_UNPU_CTX_LOST,
};

struct drm_unpu_ctx_query {
	__u32 ctx_id;
	__u32 state;		/* out: enum drm_unpu_ctx_state */
	__u64 completed_seqno;	/* out: the last job that ended, 0 before the first */
	__u64 failed_seqno;	/* out: the last job that ended with an error, 0: none */
	__s32 failed_errno;	/* out: its errno, negative */
	__u32 pad;
	__u64 busy_ns;		/* out */
	__u64 queued_ns;	/* out */
};

struct drm_unpu_shader_create {
	__u8 name[DRM_UNPU_SHADER_NAME];
	__u64 spec;		/* pointer to spec_words __u32 words */
	__u32 spec_words;
	__u32 shader_id;	/* out */
};

struct drm_unpu_shader_destroy {
	__u32 shader_id;
	__u32 pad;
};

#define DRM_UNPU_ACCESS_READ	(1U << 0)
#define DRM_UNPU_ACCESS_WRITE	(1U << 1)

struct drm_unpu_buffer {
	__u32 handle;
	__u32 flags;		/* DRM_UNPU_ACCESS_* */
	__u64 offset;
	__u64 size;
};

struct drm_unpu_dispatch {
	__u32 shader_id;
	__u32 first_binding;	/* in the program's binding table */
	__u32 num_bindings;
	__u32 const_offset;	/* in the program's constants, bytes, multiple of 4 */
	__u32 const_bytes;
	__u32 grid[3];		/* logical units, none 0 */
};

struct drm_unpu_binding {
	__u32 buffer;		/* index in the program's buffer table */
};

#define DRM_UNPU_PROGRAM_STOP	(1U << 0)	/* stop_buffer and stop_offset name a word */

struct drm_unpu_program_create {
	struct drm_unpu_array buffers;		/* struct drm_unpu_buffer */
	struct drm_unpu_array dispatches;	/* struct drm_unpu_dispatch */
	struct drm_unpu_array bindings;		/* struct drm_unpu_binding */
	__u64 constants;			/* pointer */
	__u32 const_bytes;
	__u32 flags;
	__u32 stop_buffer;			/* index in the buffer table */
	__u32 stop_offset;			/* bytes from that binding's start, multiple of 4 */
	__u32 program_id;			/* out */
	__u32 error_index;			/* out: the dispatch refused, ~0: none */
};

struct drm_unpu_program_destroy {
	__u32 program_id;
	__u32 pad;
};

struct drm_unpu_run {
	__u32 program_id;
	__u32 repeat;
};

#define DRM_UNPU_SYNC_WAIT	(1U << 0)
#define DRM_UNPU_SYNC_SIGNAL	(1U << 1)

struct drm_unpu_sync {
	__u32 handle;
	__u32 flags;	/* exactly one of DRM_UNPU_SYNC_* */
	__u64 point;	/* 0: binary */
};

struct drm_unpu_submit {
	__u32 ctx_id;
	__u32 flags;
	struct drm_unpu_array runs;	/* struct drm_unpu_run */
	struct drm_unpu_array syncs;	/* struct drm_unpu_sync */
	__u64 seqno;			/* out: 1, 2, ... per context */
	__u32 error_index;		/* out: the run refused, ~0: none */
	__u32 pad;
};

#define DRM_IOCTL_UNPU(__id, __type) \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_UNPU_ ## __id, struct drm_unpu_ ## __type)
#define DRM_IOCTL_UNPU_DEV_QUERY	DRM_IOCTL_UNPU(DEV_QUERY, dev_query)
#define DRM_IOCTL_UNPU_BO_CREATE	DRM_IOCTL_UNPU(BO_CREATE, bo_create)
#define DRM_IOCTL_UNPU_BO_MMAP_OFFSET	DRM_IOCTL_UNPU(BO_MMAP_OFFSET, bo_mmap_offset)
#define DRM_IOCTL_UNPU_CTX_CREATE	DRM_IOCTL_UNPU(CTX_CREATE, ctx_create)
#define DRM_IOCTL_UNPU_CTX_DESTROY	DRM_IOCTL_UNPU(CTX_DESTROY, ctx_destroy)
#define DRM_IOCTL_UNPU_CTX_QUERY	DRM_IOCTL_UNPU(CTX_QUERY, ctx_query)
#define DRM_IOCTL_UNPU_SHADER_CREATE	DRM_IOCTL_UNPU(SHADER_CREATE, shader_create)
#define DRM_IOCTL_UNPU_SHADER_DESTROY	DRM_IOCTL_UNPU(SHADER_DESTROY, shader_destroy)
#define DRM_IOCTL_UNPU_PROGRAM_CREATE	DRM_IOCTL_UNPU(PROGRAM_CREATE, program_create)
#define DRM_IOCTL_UNPU_PROGRAM_DESTROY	DRM_IOCTL_UNPU(PROGRAM_DESTROY, program_destroy)
#define DRM_IOCTL_UNPU_SUBMIT		DRM_IOCTL_UNPU(SUBMIT, submit)

#if defined(__cplusplus)
}
#endif
#endif
