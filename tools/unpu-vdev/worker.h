/* SPDX-License-Identifier: MIT */
/*
 * Inside a worker: worker.c (its life, attaching, the loop), commands.c (what each command asks),
 * objects.c (buffers, shaders and programs, and the thread that makes and ends them), jobs.c
 * (contexts, jobs and what the device tells of them).
 *
 * Threads. The main one takes commands, submits, cancels and beats; it never waits for the engine.
 * The maker does what may take long: buffers, shaders, programs. Threads of the device call the
 * watch.
 *
 * `lock` guards everything here, and is never held over a call of the device: the device calls the
 * watch, which takes it, with its own lock held. Maker and main thread hand objects to each other
 * through the queue: from the moment an object is queued for its end, only the maker has it.
 */
#ifndef UNPU_VDEV_WORKER_H
#define UNPU_VDEV_WORKER_H

#include <pthread.h>

#include "runtime/device/device.h"
#include "tools/unpu-vdev/link.h"
#include "tools/unpu-vdev/vdev.h"

/* Of one guest, so that a hostile one cannot take the host's memory: numbers of objects, and bytes
 * that the host spends on them, by a generous guess. */
#define VDEV_MAX_BOS		16384u
#define VDEV_MAX_SHADERS	8192u
#define VDEV_MAX_PROGRAMS	8192u
#define VDEV_MAX_HOST_BYTES	(256ull << 20)

/* For a context to end once it was told to: a long dispatch is nobody's fault, and the driver waits
 * 2 s for it. One that attaches anew waits no more. */
#define VDEV_CANCEL_NS		1800000000ull
#define VDEV_ATTACH_NS		400000000ull

#define VDEV_PAGE		4096u	/* of a guest; the unit in which the heap is shared out */
#define VDEV_MAX_ENDS		4u	/* answers due to several CTX_DESTROY of one context */

enum vdev_kind { VDEV_BO = 0, VDEV_SHADER, VDEV_PROGRAM, VDEV_NUM_KINDS };

struct vdev_task {
	struct vdev_task *next;
	struct vdev_object *object;
	bool end;			/* else: make it */
};

struct vdev_object {
	struct vdev_task make, end;
	uint32_t kind, id;
	uint32_t generation;
	/* The table or the maker, and each job with the device: the last one gives host_bytes
	 * back. */
	uint32_t refs;
	bool ended;			/* not in the table any more */
	uint32_t handle;		/* the device's; 0: not made yet, or refused */
	uint64_t offset, size;		/* buffers; offset 0: in the device's memory */
	uint64_t host_bytes;
	struct unpu_proto_command *command;	/* until it is made */
};

/* A job with the device. */
struct vdev_job {
	uint64_t seqno;			/* the driver's */
	uint32_t num_programs;
	struct vdev_object *programs[UNPU_PROTO_MAX_RUNS];
};

struct vdev_ctx {
	bool used, ending;
	uint32_t host;			/* the device's id */
	uint32_t progress;
	uint32_t num_jobs;
	struct vdev_job jobs[UNPU_PROTO_MAX_JOBS];	/* oldest first */
	uint32_t num_ends;
	uint32_t ends[VDEV_MAX_ENDS];	/* tags to answer when nothing runs any more */
	uint64_t told;			/* when it was told to end */
};

struct vdev_worker {
	const struct vdev_config *config;
	struct vdev_fds fds;
	struct unpu_device *dev;
	struct drm_unpu_dev_info info;	/* as the driver is told */
	int wake;			/* eventfd: the main thread has something to look at */

	pthread_mutex_t lock;
	struct vdev_link link;
	uint32_t generation;		/* of who is attached: what is made for another is ended */
	bool attaching;
	uint64_t broken_since;		/* 0: the rings are as they should be */

	struct vdev_object **objects[VDEV_NUM_KINDS];	/* by id */
	uint32_t num_objects[VDEV_NUM_KINDS];
	uint8_t *pages;			/* a bit for each page of the heap: a buffer has it */
	uint64_t host_bytes;

	pthread_cond_t work;		/* for the maker */
	pthread_t maker;
	bool maker_started, maker_stop;
	struct vdev_task *queue, **queue_tail;

	struct vdev_ctx ctxs[UNPU_PROTO_MAX_CTXS];
	bool suspect;			/* a job failed, and the device with it, perhaps */
	struct vdev_report report;
};

static inline void vdev_lock(struct vdev_worker *w)
{
	pthread_mutex_lock(&w->lock);
}

static inline void vdev_unlock(struct vdev_worker *w)
{
	pthread_mutex_unlock(&w->lock);
}

/* ---- worker.c ------------------------------------------------------------------------------- */

/*
 * Its life in parts, for a test that sees to it itself: the device, and a window that is laid out,
 * NULL without memory for them. alone: there is no maker, vdev_objects_make() takes its place.
 */
struct vdev_worker *vdev_worker_begin(const struct vdev_config *config,
				      const struct vdev_fds *fds, bool alone);
/* Who attaches, and some commands; true: there may be more of these. */
bool vdev_worker_turn(struct vdev_worker *w);
void vdev_worker_end(struct vdev_worker *w);

/* Under the lock. */
void vdev_answer(struct vdev_worker *w, uint32_t tag, int status, uint64_t value);
void vdev_event(struct vdev_worker *w, const struct unpu_proto_event *event);
void vdev_wake(struct vdev_worker *w);
/* The process ends; the broker begins another one. */
void vdev_die(enum vdev_exit how, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/* ---- commands.c ----------------------------------------------------------------------------- */

/* Deals with one command and takes it: its event is made, or will be. Not under the lock. */
void vdev_command(struct vdev_worker *w, const struct unpu_proto_command *command);

/* ---- objects.c ------------------------------------------------------------------------------ */

int vdev_objects_init(struct vdev_worker *w, bool alone);
void vdev_objects_finish(struct vdev_worker *w);
/* Under the lock, which it leaves meanwhile: makes or ends what is next in the queue. False: it is
 * empty. */
bool vdev_objects_make(struct vdev_worker *w);
/* Checks a *_CREATE, takes what it needs and hands it to the maker, who answers; -errno: answer
 * now. Under the lock. */
int vdev_object_create(struct vdev_worker *w, const struct unpu_proto_command *command);
/* Under the lock; unknown ids are ignored. The pages of a buffer are given back here. */
void vdev_object_destroy(struct vdev_worker *w, enum vdev_kind kind, uint32_t id);
/* All of them; the pages stay as they are: the driver's buffers outlive an epoch. */
void vdev_objects_forget(struct vdev_worker *w);
/* NULL: there is none, or it is not made yet. Under the lock. */
struct vdev_object *vdev_object_get(const struct vdev_worker *w, enum vdev_kind kind, uint32_t id);
/* Drops a reference. Under the lock. */
void vdev_object_put(struct vdev_worker *w, struct vdev_object *object);

/* ---- programs.c ----------------------------------------------------------------------------- */

/* A PROGRAM_CREATE by its numbers alone: 0 or -errno; *host_bytes: what it will cost. */
int vdev_program_check(const struct vdev_worker *w, const struct unpu_proto_program *program,
		       uint64_t *host_bytes);
/* Copies the image, names the host's objects in it, and has the device check and keep it. Not
 * under the lock. */
int vdev_program_make(struct vdev_worker *w, const struct unpu_proto_program *program,
		      uint32_t *handle, uint64_t *error_index);

/* ---- jobs.c --------------------------------------------------------------------------------- */

extern const struct unpu_device_watch vdev_watch;

/* Not under the lock, as they call the device. */
int vdev_ctx_create(struct vdev_worker *w, uint32_t id, const struct unpu_proto_ctx_create *args);
void vdev_ctx_destroy(struct vdev_worker *w, uint32_t id, uint32_t tag);
void vdev_job_submit(struct vdev_worker *w, uint32_t id, const struct unpu_proto_job *job);
/* Ends all contexts, without answers. */
void vdev_ctxs_cancel(struct vdev_worker *w);

/* Under the lock. */
bool vdev_ctxs_gone(const struct vdev_worker *w);
/* The next time a context has to be over, UINT64_MAX: none has. */
uint64_t vdev_ctxs_deadline(const struct vdev_worker *w);

#endif
