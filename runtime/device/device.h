/* SPDX-License-Identifier: MIT */
/*
 * The device interface as the runtime sees it: the calls of uapi/unpu_accel.h and what the DRM core
 * gives a kernel driver for free. Each op takes the uapi struct and returns 0 or -errno from the
 * table in that header, after one sentence to dev->log; time-outs (-ETIME) and full queues (-EBUSY)
 * are the caller's to judge and say nothing. All are thread-safe.
 */
#ifndef UNPU_DEVICE_H
#define UNPU_DEVICE_H

#include <stdint.h>

#include "runtime/log.h"
#include "uapi/unpu_accel.h"

struct unpu_device;

struct unpu_device_ops {
	int (*dev_query)(struct unpu_device *dev, struct drm_unpu_dev_query *args);
	int (*bo_create)(struct unpu_device *dev, struct drm_unpu_bo_create *args);
	int (*bo_mmap_offset)(struct unpu_device *dev, struct drm_unpu_bo_mmap_offset *args);
	int (*ctx_create)(struct unpu_device *dev, struct drm_unpu_ctx_create *args);
	int (*ctx_destroy)(struct unpu_device *dev, struct drm_unpu_ctx_destroy *args);
	int (*ctx_query)(struct unpu_device *dev, struct drm_unpu_ctx_query *args);
	int (*shader_create)(struct unpu_device *dev, struct drm_unpu_shader_create *args);
	int (*shader_destroy)(struct unpu_device *dev, struct drm_unpu_shader_destroy *args);
	int (*program_create)(struct unpu_device *dev, struct drm_unpu_program_create *args);
	int (*program_destroy)(struct unpu_device *dev, struct drm_unpu_program_destroy *args);
	int (*submit)(struct unpu_device *dev, struct drm_unpu_submit *args);

	/* What the DRM core gives: GEM_CLOSE, mmap, munmap, syncobjs, close. */
	int (*bo_close)(struct unpu_device *dev, uint32_t handle);
	int (*bo_map)(struct unpu_device *dev, uint32_t handle, void **ptr);
	int (*bo_unmap)(struct unpu_device *dev, uint32_t handle, void *ptr, uint64_t size);
	int (*syncobj_create)(struct unpu_device *dev, uint32_t *handle);
	int (*syncobj_destroy)(struct unpu_device *dev, uint32_t handle);
	/* Until the point (0: binary) has signalled or deadline_ns (CLOCK_MONOTONIC) has passed:
	 * -ETIME. 0 says nothing of the job's success: ctx_query does. */
	int (*syncobj_wait)(struct unpu_device *dev, uint32_t handle, uint64_t point,
			    uint64_t deadline_ns);
	/*
	 * Optional (may be NULL, or answer -EOPNOTSUPP): a buffer over the caller's memory, which
	 * must outlive the buffer, its programs and their jobs. ptr is aligned to
	 * DEV_INFO.binding_align. writable 0: a program that names it with ACCESS_WRITE is refused.
	 * Else programs may write there and have their stop word in it, and who owns the memory may
	 * change it at any time: a device never reads or writes outside of what a program names,
	 * whatever stands there. Where a device cannot work in place it copies what a program reads
	 * before a submission and what it writes after it, and never undoes a stop word that was
	 * set meanwhile. There is no mapping and no mmap offset of it; it counts in no heap.
	 */
	int (*bo_import)(struct unpu_device *dev, void *ptr, uint64_t size, int writable,
			 uint32_t *handle);
	/* Cancels what runs, wakes who waits and ends all mappings. No other call may
	 * begin meanwhile. */
	void (*close)(struct unpu_device *dev);
};

struct unpu_device {
	const struct unpu_device_ops *ops;
	struct unpu_log log;
	char id[16];		/* "cpu", "vulkan:0", "accel:0" */
};

/* What a device will be asked to run: by it "auto" compares devices. */
struct unpu_device_shape {
	uint32_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab;
	uint32_t type;		/* of most weights: enum unpu_type */
	uint32_t class_f32;	/* not 0: quantised weights in class f32 */
	uint64_t bytes;		/* of all weights in the file */
};

/*
 * Who wants to know how jobs go; all members may be NULL. Calls come one at a time, with the
 * device's lock held, from a thread of the device or out of ctx_destroy() and close(): they must
 * not call the device, nor wait for a thread that does. None comes after close() has returned;
 * params.watch is copied when the device opens.
 */
struct unpu_device_watch {
	/*
	 * done: repeats of the context's oldest job that have just come to their end. 0: none, but
	 * it waits while others run, each of them within its own time; at least every 20 ms as long
	 * as that is so.
	 */
	void (*progress)(void *arg, uint32_t ctx_id, uint32_t done);
	/*
	 * The job has ended and the device does not touch its buffers any more: once for each that
	 * submit() took, in the order of seqno within a context, whichever way it ended. error: 0
	 * or -errno: -ETIME (it hung), -ECANCELED (CTX_DESTROY, close, or one before it failed),
	 * -ENODEV (the device is lost), ... busy_ns: time it ran. It may come before submit() has
	 * returned the seqno; seqnos count up from 1. An id is not given to another context before
	 * the last job of its owner has ended here.
	 */
	void (*job_end)(void *arg, uint32_t ctx_id, uint64_t seqno, int error, uint64_t busy_ns);
	void *arg;
};

struct unpu_device_params {
	uint32_t threads;	/* 0: the device's choice */
	int clamp_threads;	/* the cpu takes no more than there are usable processors */
	const char *cpu_mask;	/* highest instruction set to use; NULL: $UNPU_CPUMASK */
	/* A choice among the device's variants in its own words (unpu_vulkan_tunings()); NULL: by
	 * what it reports. */
	const char *tuning;
	const struct unpu_device_shape *shape;	/* NULL: unknown; "auto" then takes the cpu */
	/* Not NULL: jobs run by themselves on any in-process device, without DEV_INFO's feature
	 * WAIT_RUNS: waiting is not needed. */
	const struct unpu_device_watch *watch;
	/* At most so much measured work in one submission to the hardware, where a single repeat
	 * allows; 0: the device's choice. Devices that return after each repeat ignore it. */
	uint64_t slice_ns;
	struct unpu_log log;
};

/* Open a device by id, or the best there is for "auto" and NULL. *dev ends with ops->close(). */
int unpu_device_open(const char *id, const struct unpu_device_params *params,
		     struct unpu_device **dev);

/* The engines; select.c and probing alone call these. */
int unpu_cpu_device_open(const struct unpu_device_params *params, struct unpu_device **dev);
/* index: of vulkan:N. In builds without Vulkan (UNPU_VULKAN 0) there is no such function. */
int unpu_vulkan_device_open(uint32_t index, const struct unpu_device_params *params,
			    struct unpu_device **dev);
/* index: of accel:N; likewise (UNPU_ACCEL 0). -ETIMEDOUT, said: it does not answer. Of params it
 * takes the log. */
int unpu_accel_device_open(uint32_t index, const struct unpu_device_params *params,
			   struct unpu_device **dev);

#endif
