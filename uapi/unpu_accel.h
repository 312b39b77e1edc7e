/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
#ifndef UNPU_ACCEL_H
#define UNPU_ACCEL_H

#include "drm.h"

#if defined(__cplusplus)
extern "C" {
#endif

/**
 * DOC: Introduction
 *
 * The unpu device interface. A kernel driver offers it as ioctls, the in-process devices of the
 * runtime as functions over the same structs, and the device process of the virtual NPU takes its
 * programs and jobs in them.
 *
 * A client makes buffers, names shaders of a fixed set, puts them together to programs, which are
 * checked once, and submits programs to contexts many times. Synchronization is explicit: syncobjs,
 * binary or timeline, nothing else.
 *
 * Rules for all structs:
 *
 * - Fields have a fixed width and their natural alignment, there is no implicit padding, and the
 *   layout is the same for 32-bit and 64-bit clients. Pointers are __u64.
 * - Padding, reserved fields and unknown flag bits must be 0, or the call fails with -EINVAL.
 *   Fields marked Output are not read.
 * - Call numbers, enum values, flag bits and shader names are append-only: none is ever renumbered,
 *   reused, or given another meaning.
 * - A struct may grow at its end. A new field means what was before when it is 0. Elements of
 *   arrays say their size in &struct drm_unpu_array.stride: less than that of version 1.0 is
 *   -EINVAL, bytes beyond what the device knows must be 0, or the call fails with -E2BIG.
 * - There are no unions, and no struct has a version field.
 * - Handles and ids belong to one open file. They begin at 1; 0 is never valid. Dropping one only
 *   drops the number: what uses the object keeps it.
 * - Every count has a maximum, which DRM_UNPU_QUERY_DEV_INFO tells. Nothing is clamped silently.
 * - A call that fails has changed nothing but its error_index.
 * - Calls may be interrupted by a signal before they change anything and are then restarted;
 *   -EAGAIN is never returned. None waits for a job.
 */

/**
 * DOC: Jobs
 *
 * A job is one SUBMIT. The jobs of a context run in order; those of different contexts as their
 * priorities say, between two repeats of a program at the soonest. Within a job the runs are
 * executed in order, each its number of times, and the dispatches of a program in order, each with
 * the results of those before it.
 *
 * A job starts when everything it waits for has signalled, with success or not, and signals once,
 * at its end. Streaming is several small jobs in flight.
 *
 * Before each repeat of a program that names a stop word the device reads that word, and when it is
 * not 0 skips what is left of the job, which then ends with success. Shaders set the word at the
 * end of a text; the CPU may set it at any time. A device may look for a word that the CPU has set
 * more often and then skip the rest of a repeat, too: who sets it counts on none of its results.
 *
 * A job hangs when a repeat takes longer than its context's timeout, or the job longer than the
 * smaller of repeats x timeout and max_job_time_ns, from when it reaches the device. It ends with
 * -ETIME, its context is GUILTY, and what was queued behind it ends with -ECANCELED.
 *
 * What the CPU has written to mapped buffers before SUBMIT is visible to the job. What the job has
 * written is visible to the CPU after its fence. Nothing else is promised but the stop word, which
 * is a 32-bit atomic.
 *
 * That a wait for a syncobj succeeds says that the job has ended, not that it succeeded: CTX_QUERY
 * tells. The errors of jobs, in &struct drm_unpu_ctx_query.failed_errno and in fences:
 *
 * - -ETIME: this job hung
 * - -ECANCELED: its context or file went, or a job before it failed
 * - -EIO: the device reported a failure
 * - -ENODEV: the device went
 */

/**
 * DOC: Lifetimes
 *
 * Buffers, shaders, programs and contexts belong to the file that made them. Shaders and programs
 * run on any of its contexts and may be pending several times. A program holds references on its
 * buffers and shaders, a job on its programs, a mapping on its buffer. GEM_CLOSE, SHADER_DESTROY
 * and PROGRAM_DESTROY drop the id at once and never wait. CTX_DESTROY and closing the file cancel
 * jobs at the next dispatch boundary; their fences signal.
 *
 * When everything in the device is lost (&struct drm_unpu_dev_stats.epoch changes), contexts made
 * before are LOST and buffers, shaders and programs made before are -ESTALE: the client makes them
 * anew. Buffers that are mapped stay as they were for the CPU. A mapping keeps the file open: its
 * contexts live until the last one is gone, too.
 */

/**
 * DOC: Errors
 *
 * One line for each wrong input: call | field | bad value | errno. With several wrong inputs in one
 * call any of their errnos may come. `array.field` is a field of &struct drm_unpu_array and
 * `element.field` one of its elements; (node) and (in process) mark what only such a device can
 * answer.
 *
 *   any | pointer | not the caller's memory (node) | EFAULT
 *   any | device | gone (node) | ENODEV
 *   any | memory | none left | ENOMEM
 *   DEV_QUERY | type | unknown | EINVAL
 *   DEV_QUERY | size | DEV_INFO, below that of 1.0 | EINVAL
 *   DEV_QUERY | size | DEV_STATS, below that of 1.0 | EINVAL
 *   DEV_QUERY | size | DEV_SHADERS, 0 or not a multiple of 32 | EINVAL
 *   DEV_QUERY | pointer | no address | EFAULT
 *   BO_CREATE | size | 0 | EINVAL
 *   BO_CREATE | size | above max_bo_bytes | EINVAL
 *   BO_CREATE | size | more than the heap has left | ENOSPC
 *   BO_CREATE | flags | unknown bit | EINVAL
 *   BO_CREATE | buffers | as many as a file may have (node) | ENOSPC
 *   BO_MMAP_OFFSET | handle | 0 | ENOENT
 *   BO_MMAP_OFFSET | handle | unknown | ENOENT
 *   BO_MMAP_OFFSET | handle | without BO_MMAP | EINVAL
 *   BO_MMAP_OFFSET | pad | not 0 | EINVAL
 *   CTX_CREATE | priority | above HIGH | EINVAL
 *   CTX_CREATE | priority | HIGH without CAP_SYS_NICE (node) | EACCES
 *   CTX_CREATE | flags | not 0 | EINVAL
 *   CTX_CREATE | timeout_ns | above max_timeout_ns | EINVAL
 *   CTX_CREATE | pad | not 0 | EINVAL
 *   CTX_CREATE | contexts | max_contexts reached | ENOSPC
 *   CTX_DESTROY | ctx_id | 0 | ENOENT
 *   CTX_DESTROY | ctx_id | unknown | ENOENT
 *   CTX_DESTROY | pad | not 0 | EINVAL
 *   CTX_QUERY | ctx_id | 0 | ENOENT
 *   CTX_QUERY | ctx_id | unknown | ENOENT
 *   CTX_QUERY | pad | not 0 | EINVAL
 *   SHADER_CREATE | name | empty | EINVAL
 *   SHADER_CREATE | name | no NUL at its end | EINVAL
 *   SHADER_CREATE | name | bytes after the NUL | EINVAL
 *   SHADER_CREATE | name | not in the set | ENOENT
 *   SHADER_CREATE | name | another revision | ENOENT
 *   SHADER_CREATE | spec_words | above max_spec_words | EINVAL
 *   SHADER_CREATE | spec_words | not the shader's | EINVAL
 *   SHADER_CREATE | spec | no address | EFAULT
 *   SHADER_CREATE | spec | a word out of its range | EINVAL
 *   SHADER_CREATE | spec | a variant this device has not | EOPNOTSUPP
 *   SHADER_CREATE | shaders | as many as a file may have (node) | ENOSPC
 *   SHADER_DESTROY | shader_id | 0 | ENOENT
 *   SHADER_DESTROY | shader_id | unknown | ENOENT
 *   SHADER_DESTROY | pad | not 0 | EINVAL
 *   PROGRAM_CREATE | buffers.stride | below that of 1.0 | EINVAL
 *   PROGRAM_CREATE | buffers.stride | above 4096 | E2BIG
 *   PROGRAM_CREATE | buffers.stride | longer, tail not 0 | E2BIG
 *   PROGRAM_CREATE | buffers.count | 0 | EINVAL
 *   PROGRAM_CREATE | buffers.count | above max_buffers | EINVAL
 *   PROGRAM_CREATE | buffers.ptr | no address | EFAULT
 *   PROGRAM_CREATE | dispatches.stride | below that of 1.0 | EINVAL
 *   PROGRAM_CREATE | dispatches.stride | above 4096 | E2BIG
 *   PROGRAM_CREATE | dispatches.stride | longer, tail not 0 | E2BIG
 *   PROGRAM_CREATE | dispatches.count | 0 | EINVAL
 *   PROGRAM_CREATE | dispatches.count | above max_dispatches | EINVAL
 *   PROGRAM_CREATE | dispatches.ptr | no address | EFAULT
 *   PROGRAM_CREATE | bindings.stride | below that of 1.0 | EINVAL
 *   PROGRAM_CREATE | bindings.stride | above 4096 | E2BIG
 *   PROGRAM_CREATE | bindings.stride | longer, tail not 0 | E2BIG
 *   PROGRAM_CREATE | bindings.count | 0 | EINVAL
 *   PROGRAM_CREATE | bindings.count | above max_dispatches x max_bindings | EINVAL
 *   PROGRAM_CREATE | bindings.ptr | no address | EFAULT
 *   PROGRAM_CREATE | constants | no address | EFAULT
 *   PROGRAM_CREATE | const_bytes | not a multiple of 4 | EINVAL
 *   PROGRAM_CREATE | const_bytes | above max_dispatches x max_const_bytes | EINVAL
 *   PROGRAM_CREATE | flags | unknown bit | EINVAL
 *   PROGRAM_CREATE | stop_buffer | not 0 without PROGRAM_STOP | EINVAL
 *   PROGRAM_CREATE | stop_offset | not 0 without PROGRAM_STOP | EINVAL
 *   PROGRAM_CREATE | stop_buffer | not in the buffer table | EINVAL
 *   PROGRAM_CREATE | stop_buffer | without ACCESS_READ | EINVAL
 *   PROGRAM_CREATE | stop_buffer | without BO_MMAP | EINVAL
 *   PROGRAM_CREATE | stop_offset | not a multiple of 4 | EINVAL
 *   PROGRAM_CREATE | stop_offset | past the buffer's end | EINVAL
 *   PROGRAM_CREATE | buffer.handle | 0 | ENOENT
 *   PROGRAM_CREATE | buffer.handle | unknown | ENOENT
 *   PROGRAM_CREATE | buffer.handle | from before the device was lost (node) | ESTALE
 *   PROGRAM_CREATE | buffer.flags | 0 | EINVAL
 *   PROGRAM_CREATE | buffer.flags | unknown bit | EINVAL
 *   PROGRAM_CREATE | buffer.flags | ACCESS_WRITE of a read-only buffer (in process) | EINVAL
 *   PROGRAM_CREATE | buffer.offset | not a multiple of binding_align | EINVAL
 *   PROGRAM_CREATE | buffer.offset | past the end of the BO | EINVAL
 *   PROGRAM_CREATE | buffer.size | 0 | EINVAL
 *   PROGRAM_CREATE | buffer.size | above max_binding_bytes | EINVAL
 *   PROGRAM_CREATE | buffer.size | past the end of the BO | EINVAL
 *   PROGRAM_CREATE | buffer.size | offset + size overflows | EINVAL
 *   PROGRAM_CREATE | dispatch.shader_id | 0 | ENOENT
 *   PROGRAM_CREATE | dispatch.shader_id | unknown | ENOENT
 *   PROGRAM_CREATE | dispatch.shader_id | from before the device was lost (node) | ESTALE
 *   PROGRAM_CREATE | dispatch.first_binding | past the binding table | EINVAL
 *   PROGRAM_CREATE | dispatch.first_binding | first + num overflows | EINVAL
 *   PROGRAM_CREATE | dispatch.num_bindings | 0 | EINVAL
 *   PROGRAM_CREATE | dispatch.num_bindings | above max_bindings | EINVAL
 *   PROGRAM_CREATE | dispatch.num_bindings | not the shader's | EINVAL
 *   PROGRAM_CREATE | dispatch.const_offset | not a multiple of 4 | EINVAL
 *   PROGRAM_CREATE | dispatch.const_offset | past the constants | EINVAL
 *   PROGRAM_CREATE | dispatch.const_bytes | not a multiple of 4 | EINVAL
 *   PROGRAM_CREATE | dispatch.const_bytes | above max_const_bytes | EINVAL
 *   PROGRAM_CREATE | dispatch.const_bytes | not the shader's | EINVAL
 *   PROGRAM_CREATE | dispatch.const_offset | names constants out of range | EINVAL
 *   PROGRAM_CREATE | dispatch.grid | 0 | EINVAL
 *   PROGRAM_CREATE | dispatch.grid | not what the shader needs | EINVAL
 *   PROGRAM_CREATE | binding.buffer | not in the buffer table | EINVAL
 *   PROGRAM_CREATE | binding.buffer | smaller than the shader needs | EINVAL
 *   PROGRAM_CREATE | binding.buffer | read, without ACCESS_READ | EINVAL
 *   PROGRAM_CREATE | binding.buffer | written, without ACCESS_WRITE | EINVAL
 *   PROGRAM_CREATE | programs | as many as a file may have (node) | ENOSPC
 *   PROGRAM_DESTROY | program_id | 0 | ENOENT
 *   PROGRAM_DESTROY | program_id | unknown | ENOENT
 *   PROGRAM_DESTROY | pad | not 0 | EINVAL
 *   SUBMIT | ctx_id | 0 | ENOENT
 *   SUBMIT | ctx_id | unknown | ENOENT
 *   SUBMIT | ctx_id | GUILTY, INNOCENT or LOST | EIO
 *   SUBMIT | ctx_id | max_queued_jobs queued | EBUSY
 *   SUBMIT | flags | not 0 | EINVAL
 *   SUBMIT | pad | not 0 | EINVAL
 *   SUBMIT | runs.stride | below that of 1.0 | EINVAL
 *   SUBMIT | runs.stride | above 4096 | E2BIG
 *   SUBMIT | runs.stride | longer, tail not 0 | E2BIG
 *   SUBMIT | runs.count | 0 | EINVAL
 *   SUBMIT | runs.count | above max_programs | EINVAL
 *   SUBMIT | runs.ptr | no address | EFAULT
 *   SUBMIT | run.program_id | 0 | ENOENT
 *   SUBMIT | run.program_id | unknown | ENOENT
 *   SUBMIT | run.program_id | from before the device was lost (node) | ESTALE
 *   SUBMIT | run.repeat | 0 | EINVAL
 *   SUBMIT | run.repeat | above max_repeat | EINVAL
 *   SUBMIT | run.repeat | repeats x dispatches above max_job_dispatches | EINVAL
 *   SUBMIT | syncs.stride | below that of 1.0 | EINVAL
 *   SUBMIT | syncs.stride | above 4096 | E2BIG
 *   SUBMIT | syncs.stride | longer, tail not 0 | E2BIG
 *   SUBMIT | syncs.count | above max_syncs | EINVAL
 *   SUBMIT | syncs.ptr | no address | EFAULT
 *   SUBMIT | sync.handle | 0 | ENOENT
 *   SUBMIT | sync.handle | unknown | ENOENT
 *   SUBMIT | sync.flags | 0 | EINVAL
 *   SUBMIT | sync.flags | WAIT and SIGNAL | EINVAL
 *   SUBMIT | sync.flags | unknown bit | EINVAL
 *   SUBMIT | sync.point | WAIT, no job signals it | EINVAL
 *   SUBMIT | sync.point | SIGNAL, not above the last one | EINVAL
 *   SUBMIT | sync.point | SIGNAL, twice in the call | EINVAL
 *   GEM_CLOSE | handle | unknown | EINVAL
 *   SYNCOBJ_DESTROY | handle | unknown | EINVAL
 *   SYNCOBJ_WAIT | handle | unknown | ENOENT
 *   SYNCOBJ_WAIT | point | no job signals it | EINVAL
 */

/**
 * enum drm_unpu_ioctl_id - The calls
 *
 * Append-only: never renumber, never reuse.
 */
enum drm_unpu_ioctl_id {
	/** @DRM_UNPU_DEV_QUERY: What the device is and does. */
	DRM_UNPU_DEV_QUERY = 0,

	/** @DRM_UNPU_BO_CREATE: Make a buffer. It ends with the DRM core's GEM_CLOSE. */
	DRM_UNPU_BO_CREATE,

	/** @DRM_UNPU_BO_MMAP_OFFSET: Where on the node a buffer can be mapped. */
	DRM_UNPU_BO_MMAP_OFFSET,

	/** @DRM_UNPU_CTX_CREATE: Make a queue of jobs. */
	DRM_UNPU_CTX_CREATE,

	/** @DRM_UNPU_CTX_DESTROY: End a queue, its jobs with it. */
	DRM_UNPU_CTX_DESTROY,

	/** @DRM_UNPU_CTX_QUERY: How a queue and its jobs are. */
	DRM_UNPU_CTX_QUERY,

	/** @DRM_UNPU_SHADER_CREATE: Name a shader of the set and its specialization. */
	DRM_UNPU_SHADER_CREATE,

	/** @DRM_UNPU_SHADER_DESTROY: Drop a shader's id. */
	DRM_UNPU_SHADER_DESTROY,

	/** @DRM_UNPU_PROGRAM_CREATE: Check a list of dispatches and keep it. */
	DRM_UNPU_PROGRAM_CREATE,

	/** @DRM_UNPU_PROGRAM_DESTROY: Drop a program's id. */
	DRM_UNPU_PROGRAM_DESTROY,

	/** @DRM_UNPU_SUBMIT: Queue a job. */
	DRM_UNPU_SUBMIT,
};

/**
 * struct drm_unpu_array - An array in the caller's memory
 */
struct drm_unpu_array {
	/**
	 * @stride: Input, bytes from one element to the next: the caller's size of the element.
	 * At least that of version 1.0, at most 4096.
	 */
	__u32 stride;

	/** @count: Input, number of elements. With 0, where allowed, nothing else is read. */
	__u32 count;

	/** @ptr: Input, address of the first element. */
	__u64 ptr;
};

/* ---- DEV_QUERY ----------------------------------------------------------------------------- */

/**
 * enum drm_unpu_query_type - What DEV_QUERY can be asked for
 */
enum drm_unpu_query_type {
	/** @DRM_UNPU_QUERY_DEV_INFO: One &struct drm_unpu_dev_info; does not change. */
	DRM_UNPU_QUERY_DEV_INFO = 0,

	/** @DRM_UNPU_QUERY_DEV_STATS: One &struct drm_unpu_dev_stats, as of now. */
	DRM_UNPU_QUERY_DEV_STATS,

	/** @DRM_UNPU_QUERY_DEV_SHADERS: A packed array of &struct drm_unpu_shader_name. */
	DRM_UNPU_QUERY_DEV_SHADERS,
};

/**
 * struct drm_unpu_dev_query - Argument of DRM_UNPU_DEV_QUERY
 *
 * Copies what fits into @size bytes at @pointer and zeroes the rest of them.
 */
struct drm_unpu_dev_query {
	/** @type: Input, &enum drm_unpu_query_type. */
	__u32 type;

	/**
	 * @size: Input, bytes at @pointer; not read when that is 0. Output, bytes the device has.
	 */
	__u32 size;

	/** @pointer: Input, where the answer goes; 0 asks for the size only. */
	__u64 pointer;
};

/**
 * enum drm_unpu_layout - How weights lie in a buffer
 *
 * Rows and K are padded to 32 with zeros, in the GGUF layouts K to the type's block only; K of Q4K
 * and Q6K is a multiple of 256. A quantised packed layout has two planes, quants and scales, each
 * bound on its own: f16 scales, in Q4K and Q6K with 8-bit ones beside them, in Q8A f32. Rn: panels
 * of n rows; Kn: n inputs of a row side by side; U: unsigned quants. shaders/layout.h says where
 * each byte lies.
 */
enum drm_unpu_layout {
	/** @DRM_UNPU_LAYOUT_GGUF_F32: As in the file, 4 bytes an element. */
	DRM_UNPU_LAYOUT_GGUF_F32 = 0,

	/** @DRM_UNPU_LAYOUT_GGUF_F16: As in the file, 2 bytes an element. */
	DRM_UNPU_LAYOUT_GGUF_F16,

	/** @DRM_UNPU_LAYOUT_GGUF_BF16: As in the file, 2 bytes an element. */
	DRM_UNPU_LAYOUT_GGUF_BF16,

	/** @DRM_UNPU_LAYOUT_GGUF_Q8_0: As in the file, 34 bytes for 32 elements. */
	DRM_UNPU_LAYOUT_GGUF_Q8_0,

	/** @DRM_UNPU_LAYOUT_GGUF_Q4_0: As in the file, 18 bytes for 32 elements. */
	DRM_UNPU_LAYOUT_GGUF_Q4_0,

	/** @DRM_UNPU_LAYOUT_F32_R16: f32 in panels of 16 rows. */
	DRM_UNPU_LAYOUT_F32_R16,

	/** @DRM_UNPU_LAYOUT_F16_R16: f16 in panels of 16 rows. */
	DRM_UNPU_LAYOUT_F16_R16,

	/** @DRM_UNPU_LAYOUT_BF16_R16: bf16 in panels of 16 rows. */
	DRM_UNPU_LAYOUT_BF16_R16,

	/** @DRM_UNPU_LAYOUT_Q8_R8_K16: 8 bits, rows of a block one after the other. */
	DRM_UNPU_LAYOUT_Q8_R8_K16,

	/** @DRM_UNPU_LAYOUT_Q8_R8_K4: 8 bits, 4 inputs of each of 8 rows in turn. */
	DRM_UNPU_LAYOUT_Q8_R8_K4,

	/** @DRM_UNPU_LAYOUT_Q8_R16_K4U: 8 bits plus 128, 4 inputs of each of 16 rows in turn. */
	DRM_UNPU_LAYOUT_Q8_R16_K4U,

	/** @DRM_UNPU_LAYOUT_Q4_R8_K16: 4 bits, rows of a block one after the other. */
	DRM_UNPU_LAYOUT_Q4_R8_K16,

	/** @DRM_UNPU_LAYOUT_Q4_R8_K4: 4 bits, 4 inputs of each of 8 rows in turn. */
	DRM_UNPU_LAYOUT_Q4_R8_K4,

	/** @DRM_UNPU_LAYOUT_Q4_R8_K4U: 4 bits plus 8, 4 inputs of each of 8 rows in turn. */
	DRM_UNPU_LAYOUT_Q4_R8_K4U,

	/** @DRM_UNPU_LAYOUT_Q4_R16_K4U: 4 bits plus 8, 4 inputs of each of 16 rows in turn. */
	DRM_UNPU_LAYOUT_Q4_R16_K4U,

	/** @DRM_UNPU_LAYOUT_F32_R32: f32, 16 bytes of each of 32 rows in turn. */
	DRM_UNPU_LAYOUT_F32_R32,

	/** @DRM_UNPU_LAYOUT_F16_R32: f16, 16 bytes of each of 32 rows in turn. */
	DRM_UNPU_LAYOUT_F16_R32,

	/** @DRM_UNPU_LAYOUT_Q8_R32: 8 bits, 16 bytes of each of 32 rows in turn. */
	DRM_UNPU_LAYOUT_Q8_R32,

	/** @DRM_UNPU_LAYOUT_Q4_R32: 4 bits plus 8, 16 bytes of each of 32 rows in turn. */
	DRM_UNPU_LAYOUT_Q4_R32,

	/** @DRM_UNPU_LAYOUT_Q4K_R8_K16: 4 bits, 6-bit scales and minima; as Q4_R8_K16. */
	DRM_UNPU_LAYOUT_Q4K_R8_K16,

	/** @DRM_UNPU_LAYOUT_Q4K_R8_K4U: 4 bits, 6-bit scales and minima; as Q4_R8_K4U. */
	DRM_UNPU_LAYOUT_Q4K_R8_K4U,

	/** @DRM_UNPU_LAYOUT_Q4K_R16_K4U: 4 bits, 6-bit scales and minima; as Q4_R16_K4U. */
	DRM_UNPU_LAYOUT_Q4K_R16_K4U,

	/** @DRM_UNPU_LAYOUT_Q6K_R8_K16: 6 bits plus 32, rows of a block one after the other. */
	DRM_UNPU_LAYOUT_Q6K_R8_K16,

	/** @DRM_UNPU_LAYOUT_Q6K_R8_K4: 6 bits plus 32, 4 inputs of each of 8 rows in turn. */
	DRM_UNPU_LAYOUT_Q6K_R8_K4,

	/** @DRM_UNPU_LAYOUT_Q6K_R16_K4: 6 bits plus 32, 4 inputs of each of 16 rows in turn. */
	DRM_UNPU_LAYOUT_Q6K_R16_K4,

	/** @DRM_UNPU_LAYOUT_Q8A_R8_K16: 8 bits, f32 scales and an offset; as Q8_R8_K16. */
	DRM_UNPU_LAYOUT_Q8A_R8_K16,

	/** @DRM_UNPU_LAYOUT_Q8A_R8_K4: 8 bits, f32 scales and an offset; as Q8_R8_K4. */
	DRM_UNPU_LAYOUT_Q8A_R8_K4,

	/** @DRM_UNPU_LAYOUT_Q8A_R16_K4U: 8 bits, f32 scales and an offset; as Q8_R16_K4U. */
	DRM_UNPU_LAYOUT_Q8A_R16_K4U,

	/** @DRM_UNPU_LAYOUT_COUNT: Not ABI. */
	DRM_UNPU_LAYOUT_COUNT,
};

/**
 * enum drm_unpu_class - Numeric class of a matrix shader
 */
enum drm_unpu_class {
	/** @DRM_UNPU_CLASS_F32: Activations stay f32. */
	DRM_UNPU_CLASS_F32 = 0,

	/** @DRM_UNPU_CLASS_A8: Activations are rounded to int8, 32 under one scale. */
	DRM_UNPU_CLASS_A8,
};

/**
 * enum drm_unpu_kv_type - Type of a KV cache
 */
enum drm_unpu_kv_type {
	/** @DRM_UNPU_KV_F32: 4 bytes an element. */
	DRM_UNPU_KV_F32 = 0,

	/** @DRM_UNPU_KV_F16: 2 bytes an element. */
	DRM_UNPU_KV_F16,

	/**
	 * @DRM_UNPU_KV_INT8: 1 byte an element, an f16 scale for every 32 of a head.
	 * shaders/shaders.h says where they lie.
	 */
	DRM_UNPU_KV_INT8,
};

#define DRM_UNPU_MAX_MATRICES	64

/**
 * struct drm_unpu_matrix - One way in which a device multiplies by weights
 */
struct drm_unpu_matrix {
	/** @layout: &enum drm_unpu_layout. */
	__u16 layout;

	/** @numeric: &enum drm_unpu_class. */
	__u16 numeric;
};

/** The device's memory is the caller's: a mappable buffer is as fast as an unmappable one. */
#define DRM_UNPU_FEATURE_UNIFIED	(1ULL << 0)
/** Dispatches skip grid units past the live positions: one context bucket is enough. */
#define DRM_UNPU_FEATURE_LIVE_GRID	(1ULL << 1)
/** A row's result depends on its inputs and constants only. */
#define DRM_UNPU_FEATURE_PURE_ROWS	(1ULL << 2)
/** Jobs run on the thread that waits for them. In-process devices only. */
#define DRM_UNPU_FEATURE_WAIT_RUNS	(1ULL << 3)

/**
 * struct drm_unpu_dev_info - What a device is and its limits
 *
 * Every field is Output. Counts without 0 in their range are at least 1.
 */
struct drm_unpu_dev_info {
	/** @version_major: 1; another number is another interface. */
	__u32 version_major;

	/** @version_minor: Grows with the interface. */
	__u32 version_minor;

	/** @features: DRM_UNPU_FEATURE_* bits. */
	__u64 features;

	/** @heap_window_bytes: Memory for buffers with DRM_UNPU_BO_MMAP. */
	__u64 heap_window_bytes;

	/** @heap_device_bytes: Memory for buffers without. */
	__u64 heap_device_bytes;

	/** @max_bo_bytes: Largest buffer. */
	__u64 max_bo_bytes;

	/** @max_binding_bytes: Largest row of a program's buffer table. */
	__u64 max_binding_bytes;

	/** @binding_align: Of a buffer row's offset, bytes, a power of two. */
	__u32 binding_align;

	/** @max_rows: Row capacity that shaders of this device take. */
	__u32 max_rows;

	/** @max_dispatches: In one program. */
	__u32 max_dispatches;

	/** @max_bindings: Of one dispatch. */
	__u32 max_bindings;

	/** @max_buffers: In one program's buffer table. */
	__u32 max_buffers;

	/** @max_spec_words: Of one shader. */
	__u32 max_spec_words;

	/** @max_const_bytes: Of one dispatch. */
	__u32 max_const_bytes;

	/** @max_programs: Runs in one submit. */
	__u32 max_programs;

	/** @max_repeat: Of one run. */
	__u32 max_repeat;

	/** @max_job_dispatches: Sum over the runs of a job of repeat x dispatches. */
	__u32 max_job_dispatches;

	/** @max_syncs: In one submit. */
	__u32 max_syncs;

	/** @max_contexts: Per file. */
	__u32 max_contexts;

	/** @max_queued_jobs: Per context, the running one included. */
	__u32 max_queued_jobs;

	/** @tokens_per_submit: How many repeats of a decode program the device likes in one job. */
	__u32 tokens_per_submit;

	/** @default_timeout_ns: A context's timeout when none is asked for. */
	__u64 default_timeout_ns;

	/** @max_timeout_ns: Largest timeout of a context. */
	__u64 max_timeout_ns;

	/** @max_job_time_ns: Longest time of a job, whatever its repeats. */
	__u64 max_job_time_ns;

	/** @kv_types: Bits 1 << &enum drm_unpu_kv_type. */
	__u32 kv_types;

	/** @num_matrices: Valid elements of @matrices, up to DRM_UNPU_MAX_MATRICES. */
	__u32 num_matrices;

	/** @units: Threads or cores that share a dispatch, 0: unknown. */
	__u32 units;

	/** @pad: 0. */
	__u32 pad;

	/** @matrices: Pairs of layout and class the device multiplies by, the best first. */
	struct drm_unpu_matrix matrices[DRM_UNPU_MAX_MATRICES];

	/** @name: For people, UTF-8, NUL-padded, ends with a NUL. */
	__u8 name[64];
};

/**
 * struct drm_unpu_dev_stats - What a device has done so far
 *
 * Every field is Output. On a node these count all files.
 */
struct drm_unpu_dev_stats {
	/** @window_used_bytes: Of heap_window_bytes. */
	__u64 window_used_bytes;

	/** @device_used_bytes: Of heap_device_bytes. */
	__u64 device_used_bytes;

	/** @jobs_submitted: Jobs taken by SUBMIT. */
	__u64 jobs_submitted;

	/** @jobs_completed: Jobs that ended, with success or not. */
	__u64 jobs_completed;

	/** @jobs_failed: Of these, with an error that has no counter of its own. */
	__u64 jobs_failed;

	/** @jobs_timed_out: Of these, with -ETIME. */
	__u64 jobs_timed_out;

	/** @jobs_cancelled: Of these, with -ECANCELED. */
	__u64 jobs_cancelled;

	/** @resets: Times the device was reset. */
	__u64 resets;

	/** @epoch: Changes when everything that was in the device is lost. */
	__u64 epoch;

	/** @busy_ns: Time spent on jobs. */
	__u64 busy_ns;
};

#define DRM_UNPU_SHADER_NAME	32

/**
 * struct drm_unpu_shader_name - One shader the device has
 */
struct drm_unpu_shader_name {
	/** @name: Output, name and revision, "qkv.1", NUL-padded, ends with a NUL. */
	__u8 name[DRM_UNPU_SHADER_NAME];
};

/* ---- buffers ------------------------------------------------------------------------------- */

/** The buffer can be mapped; it lies in the window heap. */
#define DRM_UNPU_BO_MMAP	(1U << 0)

/**
 * struct drm_unpu_bo_create - Argument of DRM_UNPU_BO_CREATE
 *
 * The memory is zeroed. Without DRM_UNPU_BO_MMAP it is the device's own and is filled by the shader
 * `copy`. Buffers can be shared by PRIME between files of the same device.
 */
struct drm_unpu_bo_create {
	/** @size: Input, bytes, 1 to max_bo_bytes. Output, rounded up to what was taken. */
	__u64 size;

	/** @flags: Input, DRM_UNPU_BO_MMAP or 0. */
	__u32 flags;

	/** @handle: Output, GEM handle. */
	__u32 handle;
};

/**
 * struct drm_unpu_bo_mmap_offset - Argument of DRM_UNPU_BO_MMAP_OFFSET
 */
struct drm_unpu_bo_mmap_offset {
	/** @handle: Input, a buffer with DRM_UNPU_BO_MMAP. */
	__u32 handle;

	/** @pad: MBZ. */
	__u32 pad;

	/** @offset: Output, for mmap() on the node; valid as long as the buffer lives. */
	__u64 offset;
};

/* ---- contexts ------------------------------------------------------------------------------ */

/**
 * enum drm_unpu_priority - Which context runs first
 */
enum drm_unpu_priority {
	/** @DRM_UNPU_PRIORITY_LOW: Gets at least 1/16 of the time when it has work. */
	DRM_UNPU_PRIORITY_LOW = 0,

	/** @DRM_UNPU_PRIORITY_NORMAL: Between the two. */
	DRM_UNPU_PRIORITY_NORMAL,

	/** @DRM_UNPU_PRIORITY_HIGH: First; on a node for those with CAP_SYS_NICE. */
	DRM_UNPU_PRIORITY_HIGH,
};

/**
 * struct drm_unpu_ctx_create - Argument of DRM_UNPU_CTX_CREATE
 */
struct drm_unpu_ctx_create {
	/** @priority: Input, &enum drm_unpu_priority. */
	__u32 priority;

	/** @flags: MBZ. */
	__u32 flags;

	/** @timeout_ns: Input, up to max_timeout_ns; 0 takes default_timeout_ns. */
	__u64 timeout_ns;

	/** @ctx_id: Output, id of the context. */
	__u32 ctx_id;

	/** @pad: MBZ. */
	__u32 pad;
};

/**
 * struct drm_unpu_ctx_destroy - Argument of DRM_UNPU_CTX_DESTROY
 *
 * Jobs that have not started end with -ECANCELED at once, a running one at its next dispatch
 * boundary. The call does not wait for that.
 */
struct drm_unpu_ctx_destroy {
	/** @ctx_id: Input, id of the context. */
	__u32 ctx_id;

	/** @pad: MBZ. */
	__u32 pad;
};

/**
 * enum drm_unpu_ctx_state - Whether a context takes jobs
 *
 * All but OK are final.
 */
enum drm_unpu_ctx_state {
	/** @DRM_UNPU_CTX_OK: It does. */
	DRM_UNPU_CTX_OK = 0,

	/** @DRM_UNPU_CTX_GUILTY: One of its jobs hung or failed. */
	DRM_UNPU_CTX_GUILTY,

	/** @DRM_UNPU_CTX_INNOCENT: Its jobs were lost in a reset that another context caused. */
	DRM_UNPU_CTX_INNOCENT,

	/** @DRM_UNPU_CTX_LOST: The device went, or came back with nothing in it. */
	DRM_UNPU_CTX_LOST,
};

/**
 * struct drm_unpu_ctx_query - Argument of DRM_UNPU_CTX_QUERY
 */
struct drm_unpu_ctx_query {
	/** @ctx_id: Input, id of the context. */
	__u32 ctx_id;

	/** @state: Output, &enum drm_unpu_ctx_state. */
	__u32 state;

	/** @completed_seqno: Output, the last job that ended, 0 before the first. */
	__u64 completed_seqno;

	/** @failed_seqno: Output, the last job that ended with an error, 0: none did. */
	__u64 failed_seqno;

	/** @failed_errno: Output, the error of that job, negative, 0: none. */
	__s32 failed_errno;

	/** @pad: MBZ. */
	__u32 pad;

	/** @busy_ns: Output, time its jobs have run. */
	__u64 busy_ns;

	/** @queued_ns: Output, time its jobs have waited from SUBMIT to their start, summed. */
	__u64 queued_ns;
};

/* ---- shaders ------------------------------------------------------------------------------- */

/**
 * struct drm_unpu_shader_create - Argument of DRM_UNPU_SHADER_CREATE
 *
 * The set with its words, bindings, constants and grids is shaders/shaders.h; under one name none
 * of them ever changes.
 */
struct drm_unpu_shader_create {
	/** @name: Input, name and revision, NUL-padded, ends with a NUL. */
	__u8 name[DRM_UNPU_SHADER_NAME];

	/** @spec: Input, address of @spec_words 32-bit words, copied. */
	__u64 spec;

	/** @spec_words: Input, exactly as many as the shader has; up to max_spec_words. */
	__u32 spec_words;

	/** @shader_id: Output, id of the shader. */
	__u32 shader_id;
};

/**
 * struct drm_unpu_shader_destroy - Argument of DRM_UNPU_SHADER_DESTROY
 */
struct drm_unpu_shader_destroy {
	/** @shader_id: Input, id of the shader. Programs with it go on. */
	__u32 shader_id;

	/** @pad: MBZ. */
	__u32 pad;
};

/* ---- programs ------------------------------------------------------------------------------ */

/** Dispatches read it. */
#define DRM_UNPU_ACCESS_READ	(1U << 0)
/** Dispatches write it. */
#define DRM_UNPU_ACCESS_WRITE	(1U << 1)

/**
 * struct drm_unpu_buffer - One row of a program's buffer table
 */
struct drm_unpu_buffer {
	/** @handle: Input, GEM handle; the program holds a reference on the buffer. */
	__u32 handle;

	/** @flags: Input, one or both of DRM_UNPU_ACCESS_*. */
	__u32 flags;

	/** @offset: Input, bytes, a multiple of binding_align. */
	__u64 offset;

	/** @size: Input, bytes, 1 to max_binding_bytes; @offset + @size lies in the buffer. */
	__u64 size;
};

/**
 * struct drm_unpu_dispatch - One shader, what it works on and how much
 */
struct drm_unpu_dispatch {
	/** @shader_id: Input, id of the shader; the program holds a reference on it. */
	__u32 shader_id;

	/** @first_binding: Input, index in the program's binding table. */
	__u32 first_binding;

	/** @num_bindings: Input, exactly as many as the shader has. */
	__u32 num_bindings;

	/** @const_offset: Input, bytes into the program's constants, a multiple of 4. */
	__u32 const_offset;

	/** @const_bytes: Input, exactly as many as the shader has; may be 0. */
	__u32 const_bytes;

	/** @grid: Input, logical units, exactly what the shader needs for its constants. */
	__u32 grid[3];
};

/**
 * struct drm_unpu_binding - What one binding of a dispatch is
 */
struct drm_unpu_binding {
	/** @buffer: Input, index in the program's buffer table. */
	__u32 buffer;
};

/** stop_buffer and stop_offset name a stop word. */
#define DRM_UNPU_PROGRAM_STOP	(1U << 0)

/**
 * struct drm_unpu_program_create - Argument of DRM_UNPU_PROGRAM_CREATE
 *
 * Everything is copied and checked, structure and meaning. On a node the call waits, killably, for
 * the device's verdict.
 */
struct drm_unpu_program_create {
	/** @buffers: Input, 1 to max_buffers &struct drm_unpu_buffer. */
	struct drm_unpu_array buffers;

	/** @dispatches: Input, 1 to max_dispatches &struct drm_unpu_dispatch, in order. */
	struct drm_unpu_array dispatches;

	/**
	 * @bindings: Input, 1 to max_dispatches x max_bindings &struct drm_unpu_binding.
	 * Dispatches may share them.
	 */
	struct drm_unpu_array bindings;

	/** @constants: Input, address of @const_bytes bytes. */
	__u64 constants;

	/** @const_bytes: Input, a multiple of 4, up to max_dispatches x max_const_bytes. */
	__u32 const_bytes;

	/** @flags: Input, DRM_UNPU_PROGRAM_STOP or 0. */
	__u32 flags;

	/**
	 * @stop_buffer: Input with DRM_UNPU_PROGRAM_STOP, else MBZ: index in the buffer table, of a
	 * row with DRM_UNPU_ACCESS_READ and a buffer with DRM_UNPU_BO_MMAP.
	 */
	__u32 stop_buffer;

	/**
	 * @stop_offset: Input with DRM_UNPU_PROGRAM_STOP, else MBZ: bytes from the start of that
	 * row, a multiple of 4.
	 */
	__u32 stop_offset;

	/** @program_id: Output, id of the program. */
	__u32 program_id;

	/** @error_index: Output, also on error: the dispatch refused, ~0 when it was none. */
	__u32 error_index;
};

/**
 * struct drm_unpu_program_destroy - Argument of DRM_UNPU_PROGRAM_DESTROY
 */
struct drm_unpu_program_destroy {
	/** @program_id: Input, id of the program. Jobs with it go on. */
	__u32 program_id;

	/** @pad: MBZ. */
	__u32 pad;
};

/* ---- SUBMIT -------------------------------------------------------------------------------- */

/**
 * struct drm_unpu_run - One program of a job
 */
struct drm_unpu_run {
	/** @program_id: Input, id of the program; the job holds a reference on it. */
	__u32 program_id;

	/** @repeat: Input, how often it runs, 1 to max_repeat. */
	__u32 repeat;
};

/** The job waits for this. */
#define DRM_UNPU_SYNC_WAIT	(1U << 0)
/** The job's end signals this. */
#define DRM_UNPU_SYNC_SIGNAL	(1U << 1)

/**
 * struct drm_unpu_sync - What a job waits for or signals
 *
 * A syncobj is used as a binary or as a timeline one, not as both.
 */
struct drm_unpu_sync {
	/** @handle: Input, syncobj of the DRM core, or of the device in process. */
	__u32 handle;

	/** @flags: Input, exactly one of DRM_UNPU_SYNC_*. */
	__u32 flags;

	/**
	 * @point: Input, 0: binary. Else a point of the timeline: WAIT takes one that a job
	 * submitted before will signal, SIGNAL one above all there were.
	 */
	__u64 point;
};

/**
 * struct drm_unpu_submit - Argument of DRM_UNPU_SUBMIT
 *
 * All or nothing; never waits.
 */
struct drm_unpu_submit {
	/** @ctx_id: Input, id of the context. */
	__u32 ctx_id;

	/** @flags: MBZ. */
	__u32 flags;

	/** @runs: Input, 1 to max_programs &struct drm_unpu_run, in order. */
	struct drm_unpu_array runs;

	/** @syncs: Input, 0 to max_syncs &struct drm_unpu_sync; their order says nothing. */
	struct drm_unpu_array syncs;

	/** @seqno: Output, the job's number in its context: 1, 2, ... */
	__u64 seqno;

	/** @error_index: Output, also on error: the run refused, ~0 when it was none. */
	__u32 error_index;

	/** @pad: MBZ. */
	__u32 pad;
};

/**
 * DRM_IOCTL_UNPU() - The number of a call
 * @__id: Its name in &enum drm_unpu_ioctl_id without the prefix DRM_UNPU_.
 * @__type: Its struct without the prefix drm_unpu_.
 */
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
