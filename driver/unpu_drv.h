/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * unpu: what the parts of the driver share.
 *
 *   unpu_drv.c      the module, the DRM device, open and close, DEV_QUERY, fdinfo
 *   unpu_gem.c      buffers: the window's heap, mappings, PRIME
 *   unpu_shader.c   shaders
 *   unpu_program.c  programs: copy-in and structural checks
 *   unpu_ctx.c      contexts
 *   unpu_submit.c   SUBMIT: copy-in and structural checks
 *   unpu_sched.c    jobs from when they are armed to their end; time-out and reset
 *   unpu_fence.c    the out-fence
 *   unpu_pci.c      the PCI function: window, doorbell, interrupts
 *   unpu_proto.c    the virtual NPU: attaching, loss, suspend
 *   unpu_proto_*.c  what it says of itself (info), its rings (ring), what is asked of it (ops)
 *   unpu_mock.c     a device without hardware, for tests
 *   unpu_dump.c     devcoredump
 *   unpu_compat.h   differences between kernels
 *
 * Lifetimes. What an open file or a fence can still reach lives until the drm_device is released
 * (drmm_*); what belongs to the bus device ends with it (devm_*). Between the two every touch of
 * the device stands inside drm_dev_enter(). A section never waits for a job and touches no memory
 * of a caller, whose owner may make that last; where it waits for an answer of the device,
 * udev->dead ends the wait, which remove() sets before drm_dev_unplug().
 *
 * Lock order, outer first:
 *
 *   unpu_ctx.submit_lock   mutex: from sched job arm to push, and the seqno
 *   unpu_device.ctx_lock   spinlock: the list of contexts
 *   unpu_ctx.lock          spinlock: state, jobs and counters of the context
 *   unpu_device.heap_lock  mutex: drm_mm; inside no other, and none inside it
 *
 * Neither submit_lock nor heap_lock is taken on the path that signals fences: run_job, the
 * completion of jobs, time-outs, loss of the device. Those allocate with GFP_ATOMIC or not at all.
 */
#ifndef UNPU_DRV_H
#define UNPU_DRV_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <drm/drm_device.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_mm.h>
#include <drm/gpu_scheduler.h>

#include "uapi/unpu_accel.h"
#include "uapi/unpu_check.h"

#ifndef __LITTLE_ENDIAN
#error "unpu: rings, programs and weights in the window are little-endian, and this kernel is not"
#endif

struct unpu_bo;
struct unpu_ctx;
struct unpu_device;
struct unpu_job;
struct unpu_program;
struct unpu_program_image;
struct unpu_shader;

/* Limits that are the driver's own; those in DEV_INFO are the smaller of both sides'. */
#define UNPU_MAX_BUFFERS	4096u	/* of a program */
#define UNPU_MAX_DISPATCHES	4096u	/* of a program */
#define UNPU_MAX_BINDINGS	8u	/* of a dispatch */
#define UNPU_MAX_CONST_BYTES	128u	/* of a dispatch */
#define UNPU_MAX_SPEC_WORDS	24u
#define UNPU_MAX_RUNS		16u	/* programs of a job */
#define UNPU_MAX_SYNCS		16u
#define UNPU_MAX_CONTEXTS	16u	/* of a file */
#define UNPU_MAX_QUEUED_JOBS	64u	/* of a context */
#define UNPU_MAX_JOBS_IN_FLIGHT	2u	/* of a context, with the device */
#define UNPU_MAX_FILE_BOS	4096u	/* of a file */
#define UNPU_MAX_FILE_SHADERS	1024u	/* of a file */
#define UNPU_MAX_FILE_PROGRAMS	1024u	/* of a file */

#define UNPU_CANCEL_MS		500	/* for the device to say that a context is quiet */

/*
 * What stands behind the DRM side: the virtual NPU, the mock, or a vendor's silicon. Process
 * context everywhere but run(). Those that ask the device return -ENODEV once it is dead or lost,
 * and -EINTR where a wait was killed: what was asked for is then undone by the implementation.
 */
struct unpu_hw_ops {
	const char *name;
	/*
	 * Fills udev->info (checked, no more than the limits above) and udev->shaders, and makes
	 * the heap by unpu_gem_init(). After it events may come.
	 */
	int (*init)(struct unpu_device *udev);
	/* The bus device goes, or never came to be: no event after it. Jobs need no answer. */
	void (*fini)(struct unpu_device *udev);
	void (*suspend)(struct unpu_device *udev);
	int (*resume)(struct unpu_device *udev);

	/*
	 * Waits, killably, for the device's verdict. On success sets bo->hw_id and its like; never
	 * 0, so that 0 may stand for none.
	 */
	int (*bo_create)(struct unpu_device *udev, struct unpu_bo *bo);
	int (*shader_create)(struct unpu_device *udev, struct unpu_shader *shader);
	int (*program_create)(struct unpu_device *udev, struct unpu_program *program,
			      const struct unpu_program_image *image, u32 *error_index);
	int (*ctx_create)(struct unpu_device *udev, struct unpu_ctx *ctx);
	/* Never fail; what still uses the object keeps it. Also called when the device is dead. */
	void (*bo_destroy)(struct unpu_device *udev, u32 hw_id);
	void (*shader_destroy)(struct unpu_device *udev, u32 hw_id);
	void (*program_destroy)(struct unpu_device *udev, u32 hw_id);

	/*
	 * On the fence-signalling path: does not allocate, and sleeps on nothing that allocates.
	 * The job's end comes by unpu_job_done(), its progress by progress(). Not more than
	 * UNPU_MAX_JOBS_IN_FLIGHT of a context at once.
	 */
	int (*run)(struct unpu_device *udev, struct unpu_job *job);
	/* Any value that changes when a job of the context gets on. */
	u32 (*progress)(struct unpu_device *udev, struct unpu_ctx *ctx);
	/*
	 * Ends the context on the device, its jobs at the next dispatch boundary, and waits for
	 * that up to `ms`. -ETIMEDOUT: the device may still write where they could.
	 * The id is free again only on success. May be called again: what has ended is a success.
	 */
	int (*ctx_destroy)(struct unpu_device *udev, struct unpu_ctx *ctx, unsigned int ms);
	/* Makes the device forget everything; 0: it is in a new epoch and works. */
	int (*reset)(struct unpu_device *udev);
};

/* A program as the device gets it: the caller's tables with handles and ids of the device. */
struct unpu_program_image {
	const void *data;	/* buffers, dispatches, bindings, constants, without gaps */
	size_t size;
	u32 num_buffers, num_dispatches, num_bindings, const_bytes;
	u32 flags, stop_buffer, stop_offset;
};

struct unpu_stats {
	atomic64_t submitted, completed, failed, timed_out, cancelled, resets, busy_ns;
};

struct unpu_device {
	struct drm_device drm;
	const struct unpu_hw_ops *hw;
	void *hw_priv;			/* the implementation's; lives as long as drm */
	struct drm_unpu_dev_info info;	/* after init() it does not change */
	struct drm_unpu_shader_name *shaders;	/* drmm */
	u32 num_shaders;

	/* Set before drm_dev_unplug(), never cleared: waits for the device end with -ENODEV. */
	bool dead;
	/*
	 * Counts up when everything in the device is lost. Objects carry the one they were made in:
	 * of an older one they are -ESTALE.
	 */
	atomic_t epoch;

	/* The window: what buffers with DRM_UNPU_BO_MMAP are carved from. devm. */
	void *window;			/* the kernel's mapping of the whole, cacheable */
	phys_addr_t window_phys;
	u64 window_bytes;
	struct drm_mm heap;		/* in bytes from the start of the window */
	u64 heap_bytes;
	struct mutex heap_lock;		/* drm_mm */
	atomic64_t window_used, device_used;

	spinlock_t ctx_lock;		/* the two lists, and what says so */
	struct list_head ctxs;		/* those that the device may have */
	/*
	 * Jobs that were with the device when it did not answer: their programs, and so their
	 * buffers, are not handed on before another epoch. Under ctx_lock.
	 */
	struct list_head quarantine;

	struct workqueue_struct *submit_wq;	/* ordered: run_job and free_job of all contexts */
	struct workqueue_struct *reset_wq;	/* ordered: time-outs, cancels, losses, attaching */
	struct delayed_work lost_work;
	/* Of contexts that were told to stop without a pause between them. */
	ktime_t cancel_begin, cancel_end;
	/* Under ctx_lock. Set before the epoch counts up, until a reset or resume has succeeded. */
	bool lost;
	u32 losses;			/* also those that came while it was lost */
	struct unpu_stats stats;
};

/* For creators, who have read the epoch before: with the new one they see that it is lost. */
static inline bool unpu_device_is_lost(const struct unpu_device *udev)
{
	/* Pairs with atomic_inc_return() in unpu_device_lose(). */
	smp_rmb();
	return READ_ONCE(udev->lost);
}

/*
 * The epoch of an object that is to be made, before the device is asked or anything is looked up
 * for it: what is lost meanwhile is rather of too old an epoch. -ENODEV: there is none now.
 */
int unpu_epoch_get(const struct unpu_device *udev, int *epoch);

static inline struct unpu_device *to_unpu_device(struct drm_device *drm)
{
	return container_of(drm, struct unpu_device, drm);
}

/* Counters that outlive the file: jobs hold it. */
struct unpu_usage {
	struct kref ref;
	atomic64_t busy_ns, jobs;
};

struct unpu_file {
	struct unpu_device *udev;
	struct unpu_usage *usage;
	struct xarray ctxs, shaders, programs;	/* ids begin at 1 */
	atomic_t num_bos, num_ctxs, num_shaders, num_programs;
};

struct unpu_usage *unpu_usage_get(struct unpu_usage *usage);
void unpu_usage_put(struct unpu_usage *usage);

/* ---- buffers ------------------------------------------------------------------------------- */

struct unpu_bo {
	struct drm_gem_object base;
	u32 flags;			/* DRM_UNPU_BO_* */
	u32 hw_id;
	int epoch;
	struct drm_mm_node node;	/* in the window, with DRM_UNPU_BO_MMAP */
	struct page *dead_page;		/* what faults map after the unplug; the buffer's own */
};

static inline struct unpu_bo *to_unpu_bo(struct drm_gem_object *obj)
{
	return container_of(obj, struct unpu_bo, base);
}

int unpu_ioctl_bo_create(struct drm_device *drm, void *data, struct drm_file *file);
int unpu_ioctl_bo_mmap_offset(struct drm_device *drm, void *data, struct drm_file *file);
struct drm_gem_object *unpu_gem_prime_import(struct drm_device *drm, struct dma_buf *dma_buf);
/* The heap over udev->window from `start` on; drmm. */
int unpu_gem_init(struct unpu_device *udev, u64 start);
/* Memory of the heap for the driver's own use, as program images. NULL: none left. */
struct drm_mm_node *unpu_heap_get(struct unpu_device *udev, u64 size);
void unpu_heap_put(struct unpu_device *udev, struct drm_mm_node *node);

/* ---- shaders and programs ------------------------------------------------------------------ */

struct unpu_shader {
	struct kref ref;		/* the id, each program */
	struct unpu_device *udev;	/* holds a reference */
	u32 hw_id;
	int epoch;
	struct drm_unpu_shader_name name;
	u32 spec_words;
	u32 spec[UNPU_MAX_SPEC_WORDS];
};

struct unpu_program {
	struct kref ref;		/* the id, each job */
	struct unpu_device *udev;	/* holds a reference */
	u32 hw_id;
	int epoch;
	u32 num_dispatches;
	u32 num_bos, num_shaders;
	struct drm_gem_object **bos;	/* a reference each */
	struct unpu_shader **shaders;	/* a reference each */
	struct work_struct release_work;	/* on the module's own */
};

int unpu_ioctl_shader_create(struct drm_device *drm, void *data, struct drm_file *file);
int unpu_ioctl_shader_destroy(struct drm_device *drm, void *data, struct drm_file *file);
/* With a reference; NULL: no such id. */
struct unpu_shader *unpu_shader_lookup(struct unpu_file *ufile, u32 id);
void unpu_shader_put(struct unpu_shader *shader);

int unpu_ioctl_program_create(struct drm_device *drm, void *data, struct drm_file *file);
int unpu_ioctl_program_destroy(struct drm_device *drm, void *data, struct drm_file *file);
struct unpu_program *unpu_program_find(struct unpu_file *ufile, u32 id);
/* From anywhere, free_job included: what may sleep is left to a work. */
void unpu_program_put(struct unpu_program *program);

/* NULL, which no copy takes, for what is no address on this machine. */
static inline void __user *unpu_user_ptr(u64 address)
{
	return address == (unsigned long)address ? u64_to_user_ptr(address) : NULL;
}

/* One element of a user's array, checked by unpu_check_array(): 0, -EFAULT or -E2BIG. */
int unpu_copy_element(void *to, u32 size, const struct drm_unpu_array *array, u32 i);

/* ---- contexts and jobs --------------------------------------------------------------------- */

/*
 * One scheduler with one entity. The scheduler is gone only after the last job was freed, on
 * another workqueue than that which frees jobs.
 */
struct unpu_ctx {
	struct kref ref;		/* the id, each job */
	struct unpu_device *udev;	/* holds a reference */
	struct unpu_usage *usage;
	struct list_head link;		/* unpu_device.ctxs */
	u32 hw_id;
	int epoch;
	u32 priority;			/* enum drm_unpu_priority */
	u64 timeout_ns;

	struct drm_gpu_scheduler sched;
	struct drm_sched_entity entity;
	struct mutex submit_lock;	/* from arm to push, and the seqno */
	u64 fence_context;		/* of hw_fences */

	spinlock_t lock;		/* what follows */
	u32 state;			/* enum drm_unpu_ctx_state */
	bool cancelled;			/* ends: no job starts any more */
	bool detached;			/* the device has it no more */
	struct list_head jobs;		/* from SUBMIT to their end, in order */
	u32 queued;			/* length of jobs */
	u64 submitted, completed, failed;
	int failed_errno;
	u64 busy_ns, queued_ns;

	/*
	 * On reset_wq: looks whether jobs get on, and ends the context on the device once it is
	 * cancelled. What progress was seen when, and when the oldest job became that.
	 */
	struct delayed_work watchdog;
	u32 progress;
	ktime_t progress_time, head_time;
	ktime_t cancel_time;
	ktime_t guilty_time;		/* under lock; when it ought to have been found out */

	struct work_struct release_work;	/* on the module's own */
};

/*
 * Under ctx->lock, what a caller may see: a loss counts the epoch up before it tells the contexts,
 * one after the other, and signals the fences of the first before it comes to the last.
 */
static inline u32 unpu_ctx_state(const struct unpu_ctx *ctx)
{
	bool lost = ctx->epoch != atomic_read(&ctx->udev->epoch);

	return lost && ctx->state == DRM_UNPU_CTX_OK ? DRM_UNPU_CTX_LOST : ctx->state;
}

enum unpu_job_state { UNPU_JOB_QUEUED, UNPU_JOB_RUNNING, UNPU_JOB_ENDED };

struct unpu_job {
	struct drm_sched_job base;	/* first filled by drm_sched_job_init(), which zeroes it */
	struct unpu_ctx *ctx;		/* a reference */
	struct list_head link;		/* unpu_ctx.jobs; then, maybe, unpu_device.quarantine */
	enum unpu_job_state state;	/* under ctx->lock */
	int error;			/* under ctx->lock; not 0: what it ends with */
	struct dma_fence *out;		/* unpu_fence_create(); the job's reference */
	struct dma_fence *hw_fence;	/* what run_job returns; made at SUBMIT */
	u64 seqno;
	u64 repeats;			/* sum over the runs */
	ktime_t submit_time, start_time;
	bool quarantined;
	u32 num_runs;
	struct unpu_run {
		struct unpu_program *program;
		u32 repeat;
	} runs[UNPU_MAX_RUNS];
};

static inline struct unpu_job *to_unpu_job(struct drm_sched_job *base)
{
	return container_of(base, struct unpu_job, base);
}

int unpu_ioctl_ctx_create(struct drm_device *drm, void *data, struct drm_file *file);
int unpu_ioctl_ctx_destroy(struct drm_device *drm, void *data, struct drm_file *file);
int unpu_ioctl_ctx_query(struct drm_device *drm, void *data, struct drm_file *file);
struct unpu_ctx *unpu_ctx_find(struct unpu_file *ufile, u32 id);
struct unpu_ctx *unpu_ctx_get(struct unpu_ctx *ctx);
void unpu_ctx_put(struct unpu_ctx *ctx);
/* The id is gone: ends its jobs, the running ones at the next dispatch boundary. Does not wait. */
void unpu_ctx_kill(struct unpu_ctx *ctx);

int unpu_ioctl_submit(struct drm_device *drm, void *data, struct drm_file *file);

/* ---- unpu_sched.c: from arming to the end -------------------------------------------------- */

/* Workqueues, lists; drmm. */
int unpu_sched_dev_init(struct unpu_device *udev);
/* The context's scheduler and entity, and its watchdog. */
int unpu_sched_ctx_init(struct unpu_ctx *ctx);
/* Without jobs. Ends it on the device if nobody has; may wait for that. */
void unpu_sched_ctx_fini(struct unpu_ctx *ctx);
/*
 * A zeroed job with its fences and drm_sched_job_init() done; runs and dependencies are added by
 * the caller, who until the push ends it by unpu_job_free().
 */
struct unpu_job *unpu_job_create(struct unpu_ctx *ctx, struct drm_file *file);
void unpu_job_free(struct unpu_job *job);
/*
 * The point of no return: numbers, arms and pushes, under submit_lock. -EBUSY: the queue is full;
 * -EIO: the context takes no job any more; else nothing can fail. On success the job belongs to the
 * scheduler and *out is a reference of the caller's on its out-fence.
 */
int unpu_job_push(struct unpu_job *job, struct dma_fence **out, u64 *seqno);
/*
 * From the hardware's side, in process or interrupt thread context; unknown or ended jobs are
 * ignored: false.
 */
bool unpu_job_done(struct unpu_device *udev, u32 ctx_hw_id, u64 seqno, int error, u64 busy_ns);
/*
 * Ends all jobs of the context: those not with the device at once, the others when it has said that
 * the context is quiet, or was given up. Does not wait.
 */
void unpu_ctx_end_jobs(struct unpu_ctx *ctx, u32 state, int error);
/*
 * Everything in the device is lost, or is given up: all contexts are LOST, all out-fences signal
 * -ENODEV, the epoch counts up. Any process context.
 */
void unpu_device_lost(struct unpu_device *udev);
/* Of that epoch: what was seen going wrong in it says nothing of a later one. */
void unpu_device_lose(struct unpu_device *udev, int epoch);
/*
 * After a resume: it works again, with nothing in it, unless it was lost once more since `losses`
 * of them: false. A reset after a loss needs no call.
 */
bool unpu_device_found(struct unpu_device *udev, u32 losses);

/* ---- unpu_fence.c -------------------------------------------------------------------------- */

/*
 * The only fence that leaves the driver: static names, its own lock, and it pins the module, so
 * that it may outlive context, file and device. drm_sched's own fences may not: their names point
 * into the scheduler (an Oops in SYNC_IOC_FILE_INFO was measured on 6.12.117).
 */
struct dma_fence *unpu_fence_create(void);
void unpu_fence_init(struct dma_fence *fence, u64 context, u64 seqno);
/* The first call decides the errno (0: success); later ones do nothing. Any context. */
void unpu_fence_end(struct dma_fence *fence, int error);
/* One that was never initialised or published. */
void unpu_fence_free(struct dma_fence *fence);

/* ---- probe and remove, for the bus side ---------------------------------------------------- */

/* devm_drm_dev_alloc() and what does not touch the device. */
struct unpu_device *unpu_device_create(struct device *parent, const struct unpu_hw_ops *hw);
/* hw->init(), limits, registration. The window is set before. */
int unpu_device_register(struct unpu_device *udev);
/* Unbind, unplug, shutdown: ends everything; mappings and files live on. */
void unpu_device_remove(struct unpu_device *udev);
int unpu_device_suspend(struct unpu_device *udev);
int unpu_device_resume(struct unpu_device *udev);

int unpu_pci_register(void);
void unpu_pci_unregister(void);
#ifdef UNPU_MOCK
int unpu_mock_register(void);
void unpu_mock_unregister(void);
#else
static inline int unpu_mock_register(void)
{
	return 0;
}

static inline void unpu_mock_unregister(void)
{
}
#endif

/* A small text about the hung or lost context, once until it is read. */
void unpu_dump(struct unpu_device *udev, struct unpu_ctx *ctx, const char *why);

/* Module-wide: frees contexts and programs away from the queues that drop them. */
extern struct workqueue_struct *unpu_release_wq;

#endif
