/* SPDX-License-Identifier: MIT */
/*
 * Inside the frame of in-process devices, cut by object: bo.c, program.c (with shaders), ctx.c
 * (with submission), run.c (jobs on their way, waiting) and inproc.c (the device).
 */
#ifndef UNPU_INPROC_PRIV_H
#define UNPU_INPROC_PRIV_H

#include <pthread.h>

#include "runtime/device/inproc.h"
#include "runtime/device/sync.h"
#include "runtime/device/table.h"

#define INPROC_MAX_PROGRAMS	16
#define INPROC_MAX_SYNCS	16
#define INPROC_NEVER		UINT64_MAX

struct inproc_bo {
	struct unpu_bo base;
	struct inproc_bo *next_mapped;
	uint32_t maps;
};

struct inproc_shader {
	atomic_uint refs;
	uint32_t kind;
	uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS];
};

struct inproc_program {
	struct unpu_program base;
	struct inproc_program *next_dead;
	bool prepared;
	uint32_t num_bos;
	struct inproc_bo **bos;			/* one reference a row of the buffer table */
	struct inproc_shader **shaders;		/* one a dispatch */
};

struct inproc_run {
	struct inproc_program *program;
	uint32_t repeat;
};

struct inproc_ctx;

struct inproc_job {
	struct unpu_fence fence;	/* first: fence.release finds the job by it */
	struct inproc *dev;
	struct inproc_ctx *ctx;
	struct inproc_job *next;	/* in the queue or among the free ones */
	uint64_t seqno;
	uint64_t submit_ns;
	uint64_t busy_ns;
	uint64_t limit_ns;		/* of busy_ns */
	bool started;
	uint32_t num_runs, num_waits, num_points;
	uint32_t run, repeat;		/* what comes next: the progress */
	struct inproc_run runs[INPROC_MAX_PROGRAMS];
	struct unpu_wait waits[INPROC_MAX_SYNCS];
	struct unpu_point points[INPROC_MAX_SYNCS];
};

enum inproc_cancel { INPROC_GO_ON = 0, INPROC_DESTROYED, INPROC_TIMED_OUT };

struct inproc_ctx {
	uint32_t refs;			/* the id, each job */
	uint32_t id;			/* kept from others until the last reference is gone */
	bool destroyed;			/* the id names it no more */
	struct inproc_ctx *next;	/* of all contexts */
	uint32_t priority;
	uint32_t state;
	uint64_t timeout_ns;
	atomic_uint cancel;		/* enum inproc_cancel; the engine reads it */
	struct inproc_job *head, **tail;
	uint32_t queued;
	uint64_t turn;			/* when it last ran: equals take turns */
	uint64_t submitted, completed, failed;
	int failed_errno;
	uint64_t busy_ns, queued_ns;
};

/*
 * Locks. `lock` guards everything here, tables and syncobjs included, and is never held over a call
 * of the engine. `engine_lock` makes the engine's calls but run() one at a time and is taken with
 * `lock` not held; neither is taken inside the other. run() is called with neither, by the one
 * thread that set `running`: the runner, or any that waits where there is none. References of
 * buffers and shaders are atomic, those of programs, contexts and jobs change under `lock`.
 */
struct inproc {
	struct unpu_device base;	/* first: an op gets its address */
	struct unpu_engine *engine;
	struct unpu_device_watch watch;
	bool watched;
	bool threaded;			/* the runner runs the jobs, not who waits */
	struct drm_unpu_dev_info info;
	pthread_mutex_t engine_lock;
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* a job ended, `running` or `waiters` changed */
	struct unpu_table bos, ctxs, shaders, programs, syncobjs;
	struct inproc_bo *mapped;
	struct inproc_program *dead;	/* programs that unlock_and_reap() frees */
	struct inproc_job *free_jobs;
	struct drm_unpu_dev_stats stats;

	struct inproc_ctx *all_ctxs;
	uint32_t num_ctxs;		/* without those destroyed */
	struct inproc_ctx *running;	/* whose dispatches a thread runs now */
	uint64_t turns;
	int64_t owed_ns[DRM_UNPU_PRIORITY_HIGH + 1];	/* to a priority by those above it */
	int64_t last_ns;				/* of the last turn */
	uint32_t waiters;
	bool closing;

	/* The guard cancels a run that takes too long and tells the watch of those who wait for
	 * it, the runner runs a threaded device's jobs; they start with the first context. */
	pthread_t guard, runner;
	bool guard_started, guard_stop;
	bool runner_started, runner_stop;
	pthread_cond_t work;		/* for the runner: something may be ready */
	pthread_cond_t guard_kick;
	uint64_t guard_wakes;		/* when it looks next */
	uint64_t run_ends;		/* when the run in progress has to be over */
	uint64_t run_due;		/* the same, still known when the guard has cancelled it */
};

static inline struct inproc *to_inproc(struct unpu_device *dev)
{
	return (struct inproc *)dev;
}

static inline void unpu_inproc_lock(struct inproc *dev)
{
	pthread_mutex_lock(&dev->lock);
}

/* Unlocks and frees what died meanwhile. */
void unpu_inproc_unlock(struct inproc *dev);
/* The same where nobody may wait for the engine, which may be busy making a program: what died is
 * the runner's to free, if there is one. */
void unpu_inproc_unlock_quickly(struct inproc *dev);
uint64_t unpu_inproc_now(void);

/* Logs that a call was refused and returns err. */
int unpu_inproc_refuse(struct inproc *dev, const char *call, int err);
/* The caller's pointer, or NULL for one that is none on this machine. */
void *unpu_inproc_pointer(uint64_t ptr);
/* One element of an array that unpu_check_array() passed: 0 or -E2BIG. */
int unpu_inproc_copy_element(void *to, uint32_t size, const struct drm_unpu_array *array,
			     uint32_t i);

/* bo.c */
int unpu_inproc_bo_create(struct unpu_device *dev, struct drm_unpu_bo_create *args);
int unpu_inproc_bo_mmap_offset(struct unpu_device *dev, struct drm_unpu_bo_mmap_offset *args);
int unpu_inproc_bo_close(struct unpu_device *dev, uint32_t handle);
int unpu_inproc_bo_map(struct unpu_device *dev, uint32_t handle, void **ptr);
int unpu_inproc_bo_unmap(struct unpu_device *dev, uint32_t handle, void *ptr, uint64_t size);
int unpu_inproc_bo_import(struct unpu_device *dev, void *ptr, uint64_t size, int writable,
			  uint32_t *handle);
/* Not under `lock`. */
void unpu_inproc_bo_put(struct inproc *dev, struct inproc_bo *bo);

/* program.c */
int unpu_inproc_shader_create(struct unpu_device *dev, struct drm_unpu_shader_create *args);
int unpu_inproc_shader_destroy(struct unpu_device *dev, struct drm_unpu_shader_destroy *args);
int unpu_inproc_program_create(struct unpu_device *dev, struct drm_unpu_program_create *args);
int unpu_inproc_program_destroy(struct unpu_device *dev, struct drm_unpu_program_destroy *args);
void unpu_inproc_shader_put(struct inproc_shader *shader);
/* Under `lock`: the last reference moves the program to the dead. */
void unpu_inproc_program_put(struct inproc *dev, struct inproc_program *program);
/* Not under `lock`. */
void unpu_inproc_program_free(struct inproc *dev, struct inproc_program *program);

/* ctx.c */
int unpu_inproc_ctx_create(struct unpu_device *dev, struct drm_unpu_ctx_create *args);
int unpu_inproc_ctx_destroy(struct unpu_device *dev, struct drm_unpu_ctx_destroy *args);
int unpu_inproc_ctx_query(struct unpu_device *dev, struct drm_unpu_ctx_query *args);
int unpu_inproc_submit(struct unpu_device *dev, struct drm_unpu_submit *args);
/* All under `lock`. Ends the oldest job of the context. */
void unpu_inproc_job_end(struct inproc *dev, struct inproc_ctx *ctx, int error);
/* Ends the oldest job with `error`, the others with `rest`. The caller holds a reference. */
void unpu_inproc_ctx_cancel(struct inproc *dev, struct inproc_ctx *ctx, int error, int rest);
/* Drop the id: cancels now, or at the next boundary when a job runs. Once. */
void unpu_inproc_ctx_kill(struct inproc *dev, struct inproc_ctx *ctx);
void unpu_inproc_ctx_put(struct inproc *dev, struct inproc_ctx *ctx);

/* run.c */
int unpu_inproc_syncobj_create(struct unpu_device *dev, uint32_t *handle);
int unpu_inproc_syncobj_destroy(struct unpu_device *dev, uint32_t handle);
int unpu_inproc_syncobj_wait(struct unpu_device *dev, uint32_t handle, uint64_t point,
			     uint64_t deadline_ns);
/* Guard and runner. Under `lock`; -ENOMEM. */
int unpu_inproc_threads_start(struct inproc *dev);
/* Not under it. */
void unpu_inproc_threads_stop(struct inproc *dev);

#endif
