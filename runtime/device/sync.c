/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "runtime/device/sync.h"

struct unpu_fence *unpu_fence_get(struct unpu_fence *fence)
{
	fence->refs++;
	return fence;
}

void unpu_fence_put(struct unpu_fence *fence)
{
	if (fence && !--fence->refs)
		fence->release(fence);
}

struct unpu_syncobj *unpu_syncobj_create(void)
{
	struct unpu_syncobj *obj = calloc(1, sizeof(*obj));

	if (!obj)
		return NULL;
	obj->refs = 1;
	obj->tail = &obj->head;
	return obj;
}

struct unpu_syncobj *unpu_syncobj_get(struct unpu_syncobj *obj)
{
	obj->refs++;
	return obj;
}

/* Points in the list hold a reference, so the list is empty when the last one goes. */
void unpu_syncobj_put(struct unpu_syncobj *obj)
{
	if (!obj || --obj->refs)
		return;
	unpu_fence_put(obj->binary);
	free(obj);
}

int unpu_wait_init(struct unpu_wait *wait, struct unpu_syncobj *obj, uint64_t point)
{
	*wait = (struct unpu_wait){ .point = point };
	if (point ? point > obj->last : !obj->binary)
		return -EINVAL;
	if (point)
		wait->obj = unpu_syncobj_get(obj);
	else
		wait->fence = unpu_fence_get(obj->binary);
	return 0;
}

bool unpu_wait_ready(const struct unpu_wait *wait)
{
	return wait->obj ? wait->obj->reached >= wait->point : wait->fence->done;
}

void unpu_wait_finish(struct unpu_wait *wait)
{
	unpu_fence_put(wait->fence);
	unpu_syncobj_put(wait->obj);
	*wait = (struct unpu_wait){ 0 };
}

int unpu_point_check(const struct unpu_syncobj *obj, uint64_t value)
{
	return value && value <= obj->last ? -EINVAL : 0;
}

void unpu_point_add(struct unpu_point *point, struct unpu_syncobj *obj, uint64_t value,
		    struct unpu_fence *fence)
{
	*point = (struct unpu_point){ .value = value };
	unpu_fence_get(fence);
	if (!value) {
		struct unpu_fence *old = obj->binary;

		obj->binary = fence;
		unpu_fence_put(old);
		return;
	}
	point->obj = unpu_syncobj_get(obj);
	point->fence = fence;
	obj->last = value;
	*obj->tail = point;
	obj->tail = &point->next;
}

/*
 * A point counts when all below it have signalled: a job that ends early stays in the list until
 * the jobs before it end. Dropping a fence may free the point's memory, so it comes last.
 */
void unpu_point_signal(struct unpu_point *point)
{
	struct unpu_syncobj *obj = point->obj;

	if (!obj)
		return;
	unpu_syncobj_get(obj);
	while (obj->head && obj->head->fence->done) {
		struct unpu_point *head = obj->head;
		struct unpu_fence *fence = head->fence;

		obj->reached = head->value;
		obj->head = head->next;
		if (!obj->head)
			obj->tail = &obj->head;
		head->obj = NULL;
		unpu_fence_put(fence);
		obj->refs--;
	}
	unpu_syncobj_put(obj);
}
