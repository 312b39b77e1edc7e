/* SPDX-License-Identifier: MIT */
/*
 * Syncobjs of in-process devices, binary and timeline, with the meaning the DRM core gives them. No
 * lock of their own: the device's lock guards all of this. Nothing here allocates but
 * unpu_syncobj_create(), so that a job can signal on the way.
 */
#ifndef UNPU_SYNC_H
#define UNPU_SYNC_H

#include <stdbool.h>
#include <stdint.h>

/* What a job signals at its end, once. Embedded in the job, which `release` gives back. */
struct unpu_fence {
	uint32_t refs;
	bool done;
	int error;		/* of the job, negative; valid when done */
	void (*release)(struct unpu_fence *fence);
};

struct unpu_syncobj;

/* A fence at a point of a timeline. The memory is the job's, kept by the reference on the fence. */
struct unpu_point {
	struct unpu_point *next;
	struct unpu_syncobj *obj;
	struct unpu_fence *fence;
	uint64_t value;		/* 0: binary */
};

struct unpu_syncobj {
	uint32_t refs;
	struct unpu_fence *binary;	/* NULL before the first signal was asked for */
	uint64_t last;			/* the highest point asked for */
	uint64_t reached;		/* it and all points below have signalled */
	struct unpu_point *head;	/* points above `reached`, rising */
	struct unpu_point **tail;
};

/* Something to wait for, as it was when it was looked up. */
struct unpu_wait {
	struct unpu_fence *fence;	/* binary */
	struct unpu_syncobj *obj;	/* timeline */
	uint64_t point;
};

struct unpu_fence *unpu_fence_get(struct unpu_fence *fence);
void unpu_fence_put(struct unpu_fence *fence);

struct unpu_syncobj *unpu_syncobj_create(void);
struct unpu_syncobj *unpu_syncobj_get(struct unpu_syncobj *obj);
void unpu_syncobj_put(struct unpu_syncobj *obj);

/* -EINVAL: no job was ever asked to signal this. Ends with unpu_wait_finish(). */
int unpu_wait_init(struct unpu_wait *wait, struct unpu_syncobj *obj, uint64_t point);
bool unpu_wait_ready(const struct unpu_wait *wait);
void unpu_wait_finish(struct unpu_wait *wait);

/* Points rise: -EINVAL for one not above the last. */
int unpu_point_check(const struct unpu_syncobj *obj, uint64_t value);
/* Ask that fence signals value of obj; checked before. */
void unpu_point_add(struct unpu_point *point, struct unpu_syncobj *obj, uint64_t value,
		    struct unpu_fence *fence);
/* The point's fence is done: let the timeline advance. */
void unpu_point_signal(struct unpu_point *point);

#endif
