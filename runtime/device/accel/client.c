/* SPDX-License-Identifier: MIT */
/*
 * struct unpu_device_ops over ioctls of a node. The kernel has the objects; kept here is what it
 * cannot be asked for: how large buffers are, what is mapped, and which contexts there are, since
 * to close a descriptor does not end a call that waits on it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/device/accel/accel.h"
#include "runtime/device/accel/sys.h"

/* One of a kind: a buffer or context by its number, a mapping by its address. */
struct item {
	struct item *next;
	uintptr_t key;
	uint64_t size;
};

/* For one run of a program: 64 rows of the largest models on one small core take 20 s. A job that a
 * device process has lost is waited for so long. */
#define RUN_NS		60000000000ull
#define LOOK_NS		5000000000ull	/* between two looks whether anybody is there */

struct accel {
	struct unpu_device base;	/* first: an op gets its address */
	int fd;
	uint64_t timeout_ns;
	pthread_mutex_t lock;		/* what follows */
	pthread_cond_t left;
	struct item *bos, *ctxs, *maps;
	uint32_t waiters;
};

static struct accel *to_accel(struct unpu_device *dev)
{
	return (struct accel *)dev;
}

/* ---- what is kept -------------------------------------------------------------------------- */

/* Into a list; item may be NULL. */
static void item_add(struct accel *a, struct item **list, struct item *item, uintptr_t key,
		     uint64_t size)
{
	item->key = key;
	item->size = size;
	pthread_mutex_lock(&a->lock);
	item->next = *list;
	*list = item;
	pthread_mutex_unlock(&a->lock);
}

static struct item *item_take(struct accel *a, struct item **list, uintptr_t key)
{
	struct item *item;

	pthread_mutex_lock(&a->lock);
	while ((item = *list) && item->key != key)
		list = &item->next;
	if (item)
		*list = item->next;
	pthread_mutex_unlock(&a->lock);
	return item;
}

static uint64_t item_size(struct accel *a, const struct item *const *list, uintptr_t key)
{
	const struct item *item;
	uint64_t size;

	pthread_mutex_lock(&a->lock);
	for (item = *list; item && item->key != key; item = item->next)
		;
	size = item ? item->size : 0;
	pthread_mutex_unlock(&a->lock);
	return size;
}

/* ---- calls --------------------------------------------------------------------------------- */

static int refuse(struct accel *a, const char *call, int err)
{
	if (err == -ENODEV)
		return unpu_fail(&a->base.log, err, "%s: the device is gone", a->base.id);
	return unpu_fail(&a->base.log, err, "%s: %s refused: %s", a->base.id, call, strerror(-err));
}

static int call(struct unpu_device *dev, unsigned long request, void *args, const char *name)
{
	struct accel *a = to_accel(dev);
	int err = unpu_accel_ioctl(a->fd, request, args);

	return err ? refuse(a, name, err) : 0;
}

static int accel_dev_query(struct unpu_device *dev, struct drm_unpu_dev_query *args)
{
	return call(dev, DRM_IOCTL_UNPU_DEV_QUERY, args, "DEV_QUERY");
}

static int accel_ctx_create(struct unpu_device *dev, struct drm_unpu_ctx_create *args)
{
	struct accel *a = to_accel(dev);
	struct drm_unpu_ctx_create with = *args;
	struct item *item = malloc(sizeof(*item));
	int err = item ? 0 : -ENOMEM;

	if (!with.timeout_ns)
		with.timeout_ns = a->timeout_ns;
	if (!err)
		err = unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_CTX_CREATE, &with);
	if (err) {
		free(item);
		return refuse(a, "CTX_CREATE", err);
	}
	args->ctx_id = with.ctx_id;
	item_add(a, &a->ctxs, item, with.ctx_id, 0);
	return 0;
}

static int accel_ctx_destroy(struct unpu_device *dev, struct drm_unpu_ctx_destroy *args)
{
	struct accel *a = to_accel(dev);

	/* The number may be another context's as soon as the kernel has let go of it. */
	if (!args->pad)
		free(item_take(a, &a->ctxs, args->ctx_id));
	return call(dev, DRM_IOCTL_UNPU_CTX_DESTROY, args, "CTX_DESTROY");
}

static int accel_ctx_query(struct unpu_device *dev, struct drm_unpu_ctx_query *args)
{
	return call(dev, DRM_IOCTL_UNPU_CTX_QUERY, args, "CTX_QUERY");
}

static int accel_shader_create(struct unpu_device *dev, struct drm_unpu_shader_create *args)
{
	struct accel *a = to_accel(dev);
	int err = unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_SHADER_CREATE, args);

	if (err && err != -ENODEV)
		return unpu_fail(&dev->log, err, "%s: shader \"%.*s\" refused: %s", dev->id,
				 (int)sizeof(args->name), (const char *)args->name, strerror(-err));
	return err ? refuse(a, "SHADER_CREATE", err) : 0;
}

static int accel_shader_destroy(struct unpu_device *dev, struct drm_unpu_shader_destroy *args)
{
	return call(dev, DRM_IOCTL_UNPU_SHADER_DESTROY, args, "SHADER_DESTROY");
}

static int accel_program_create(struct unpu_device *dev, struct drm_unpu_program_create *args)
{
	int err = unpu_accel_ioctl(to_accel(dev)->fd, DRM_IOCTL_UNPU_PROGRAM_CREATE, args);

	if (err && err != -ENODEV && args->error_index != UINT32_MAX)
		return unpu_fail(&dev->log, err, "%s: program refused: dispatch %u: %s", dev->id,
				 args->error_index, strerror(-err));
	return err ? refuse(to_accel(dev), "PROGRAM_CREATE", err) : 0;
}

static int accel_program_destroy(struct unpu_device *dev, struct drm_unpu_program_destroy *args)
{
	return call(dev, DRM_IOCTL_UNPU_PROGRAM_DESTROY, args, "PROGRAM_DESTROY");
}

static int accel_submit(struct unpu_device *dev, struct drm_unpu_submit *args)
{
	int err = unpu_accel_ioctl(to_accel(dev)->fd, DRM_IOCTL_UNPU_SUBMIT, args);

	/* A full queue is a state, not a mistake: no message. */
	return err && err != -EBUSY ? refuse(to_accel(dev), "SUBMIT", err) : err;
}

/* ---- buffers ------------------------------------------------------------------------------- */

static int accel_bo_create(struct unpu_device *dev, struct drm_unpu_bo_create *args)
{
	struct accel *a = to_accel(dev);
	struct item *item = malloc(sizeof(*item));
	int err = item ? 0 : -ENOMEM;

	if (!err)
		err = unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_BO_CREATE, args);
	if (!err) {
		item_add(a, &a->bos, item, args->handle, args->size);
		return 0;
	}
	free(item);
	if (err == -ENOSPC || err == -ENOMEM)
		return unpu_fail(&dev->log, err, "%s: no room for a buffer of %llu bytes", dev->id,
				 (unsigned long long)args->size);
	return refuse(a, "BO_CREATE", err);
}

static int accel_bo_mmap_offset(struct unpu_device *dev, struct drm_unpu_bo_mmap_offset *args)
{
	return call(dev, DRM_IOCTL_UNPU_BO_MMAP_OFFSET, args, "BO_MMAP_OFFSET");
}

static int accel_bo_close(struct unpu_device *dev, uint32_t handle)
{
	struct drm_gem_close args = { .handle = handle };

	free(item_take(to_accel(dev), &to_accel(dev)->bos, handle));
	return call(dev, DRM_IOCTL_GEM_CLOSE, &args, "GEM_CLOSE");
}

static int map(struct accel *a, uint32_t handle, uint64_t *size, void **ptr)
{
	struct drm_unpu_bo_mmap_offset at = { .handle = handle };
	int err = unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_BO_MMAP_OFFSET, &at);

	if (err)
		return err;
	*size = item_size(a, (const struct item *const *)&a->bos, handle);
	if (!*size)
		return -ENOENT;		/* closed meanwhile */
	return unpu_accel_sys_mmap(a->fd, at.offset, *size, ptr);
}

static int accel_bo_map(struct unpu_device *dev, uint32_t handle, void **ptr)
{
	struct accel *a = to_accel(dev);
	struct item *item = malloc(sizeof(*item));
	uint64_t size = 0;
	void *at = NULL;
	int err = item ? map(a, handle, &size, &at) : -ENOMEM;

	if (err) {
		free(item);
		return refuse(a, "mmap", err);
	}
	item_add(a, &a->maps, item, (uintptr_t)at, size);
	*ptr = at;
	return 0;
}

static uint64_t page_align(uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) & ~(page - 1);
}

static int accel_bo_unmap(struct unpu_device *dev, uint32_t handle, void *ptr, uint64_t size)
{
	struct accel *a = to_accel(dev);
	struct item *item = item_take(a, &a->maps, (uintptr_t)ptr);

	(void)handle;	/* may be closed, or somebody else's by now */
	if (item && page_align(size) != item->size) {
		item_add(a, &a->maps, item, item->key, item->size);
		item = NULL;
	}
	if (!item)
		return refuse(a, "munmap", -EINVAL);
	unpu_accel_sys_munmap(ptr, item->size);
	free(item);
	return 0;
}

/* ---- syncobjs ------------------------------------------------------------------------------ */

static int accel_syncobj_create(struct unpu_device *dev, uint32_t *handle)
{
	struct drm_syncobj_create args = { 0 };
	int err = call(dev, DRM_IOCTL_SYNCOBJ_CREATE, &args, "SYNCOBJ_CREATE");

	if (!err)
		*handle = args.handle;
	return err;
}

static int accel_syncobj_destroy(struct unpu_device *dev, uint32_t handle)
{
	struct drm_syncobj_destroy args = { .handle = handle };

	return call(dev, DRM_IOCTL_SYNCOBJ_DESTROY, &args, "SYNCOBJ_DESTROY");
}

/* Without WAIT_FOR_SUBMIT: what no job will signal is -EINVAL, as in the table. */
static int wait_for(struct accel *a, uint32_t handle, uint64_t point, uint64_t deadline_ns)
{
	const int64_t until = deadline_ns > INT64_MAX ? INT64_MAX : (int64_t)deadline_ns;
	struct drm_syncobj_timeline_wait timeline = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point,
		.timeout_nsec = until, .count_handles = 1,
	};
	struct drm_syncobj_wait binary = {
		.handles = (uintptr_t)&handle, .timeout_nsec = until, .count_handles = 1,
	};

	if (point)
		return unpu_accel_ioctl(a->fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &timeline);
	return unpu_accel_ioctl(a->fd, DRM_IOCTL_SYNCOBJ_WAIT, &binary);
}

/*
 * A job may take minutes on a slow device, so its time-out says late that nobody is there any more.
 * Making a context is answered in moments, or with -ENODEV where the driver has heard nothing for
 * seconds.
 */
static int look(struct accel *a)
{
	struct drm_unpu_ctx_create made = { .priority = DRM_UNPU_PRIORITY_LOW };
	struct drm_unpu_ctx_destroy done;
	int err = unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_CTX_CREATE, &made);

	if (err)
		return err == -ENODEV ? err : 0;
	done = (struct drm_unpu_ctx_destroy){ .ctx_id = made.ctx_id };
	unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_CTX_DESTROY, &done);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int wait_and_look(struct accel *a, uint32_t handle, uint64_t point, uint64_t deadline_ns)
{
	uint64_t until;
	int err;

	for (;;) {
		until = now_ns() + LOOK_NS;
		until = until < deadline_ns ? until : deadline_ns;
		err = wait_for(a, handle, point, until);
		if (err != -ETIME || until == deadline_ns)
			return err;
		err = look(a);
		if (err)
			return err;
	}
}

static void waiters_add(struct accel *a, int count)
{
	pthread_mutex_lock(&a->lock);
	a->waiters += (uint32_t)count;
	if (!a->waiters)
		pthread_cond_broadcast(&a->left);
	pthread_mutex_unlock(&a->lock);
}

static int accel_syncobj_wait(struct unpu_device *dev, uint32_t handle, uint64_t point,
			      uint64_t deadline_ns)
{
	struct accel *a = to_accel(dev);
	int err;

	waiters_add(a, 1);
	err = wait_and_look(a, handle, point, deadline_ns);
	if (err && err != -ETIME)
		refuse(a, "SYNCOBJ_WAIT", err);
	waiters_add(a, -1);
	return err;
}

/* ---- end ----------------------------------------------------------------------------------- */

/* Who waits, waits for a job of one of these: their end signals it. */
static void cancel_all(struct accel *a)
{
	struct item *item;

	while ((item = a->ctxs)) {
		struct drm_unpu_ctx_destroy args = { .ctx_id = (uint32_t)item->key };

		a->ctxs = item->next;
		unpu_accel_ioctl(a->fd, DRM_IOCTL_UNPU_CTX_DESTROY, &args);
		free(item);
	}
	pthread_mutex_lock(&a->lock);
	while (a->waiters)
		pthread_cond_wait(&a->left, &a->lock);
	pthread_mutex_unlock(&a->lock);
}

static void accel_close(struct unpu_device *dev)
{
	struct accel *a = to_accel(dev);
	struct item *item;

	if (!dev)
		return;
	cancel_all(a);
	while ((item = a->maps)) {
		a->maps = item->next;
		unpu_accel_sys_munmap((void *)item->key, item->size);
		free(item);
	}
	while ((item = a->bos)) {
		a->bos = item->next;
		free(item);
	}
	unpu_accel_sys_close(a->fd);
	pthread_cond_destroy(&a->left);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* ---- begin --------------------------------------------------------------------------------- */

static const struct unpu_device_ops accel_ops = {
	.dev_query = accel_dev_query,
	.bo_create = accel_bo_create,
	.bo_mmap_offset = accel_bo_mmap_offset,
	.ctx_create = accel_ctx_create,
	.ctx_destroy = accel_ctx_destroy,
	.ctx_query = accel_ctx_query,
	.shader_create = accel_shader_create,
	.shader_destroy = accel_shader_destroy,
	.program_create = accel_program_create,
	.program_destroy = accel_program_destroy,
	.submit = accel_submit,
	.bo_close = accel_bo_close,
	.bo_map = accel_bo_map,
	.bo_unmap = accel_bo_unmap,
	.syncobj_create = accel_syncobj_create,
	.syncobj_destroy = accel_syncobj_destroy,
	.syncobj_wait = accel_syncobj_wait,
	.close = accel_close,
};

/* What is missing: the device, the module, a node or the right to it. */
static int no_node(const struct unpu_log *log, uint32_t index, uint32_t count)
{
	if (count)
		return unpu_fail(log, -ENODEV, "there is no accel:%u: the driver unpu has %u %s",
				 index, count, count == 1 ? "node" : "nodes");
	if (access("/sys/module/unpu", F_OK))
		return unpu_fail(log, -ENODEV, "there is no accel:%u: /dev/accel has no node of "
				 "unpu, whose module is not loaded (modprobe unpu)", index);
	return unpu_fail(log, -ENODEV, "there is no accel:%u: /dev/accel has no node of unpu, "
			 "whose module is loaded and has found no device", index);
}

static int open_node(uint32_t index, const struct unpu_log *log, struct unpu_accel_node *node)
{
	uint32_t count;

	if (unpu_accel_find(index, node, &count))
		return no_node(log, index, count);
	if (node->fd == -EACCES || node->fd == -EPERM)
		return unpu_fail(log, -EACCES, "accel:%u: no permission for %s, which is given to "
				 "the group " UNPU_ACCEL_GROUP " by the udev rule " UNPU_ACCEL_RULE,
				 index, node->path);
	if (node->fd < 0)
		return unpu_fail(log, node->fd, "accel:%u: %s does not open: %s", index, node->path,
				 strerror(-node->fd));
	return 0;
}

int unpu_accel_client_create(uint32_t index, uint64_t timeout_ns, const struct unpu_log *log,
			     struct unpu_device **dev)
{
	struct drm_unpu_dev_info info = { 0 };
	struct unpu_accel_node node;
	struct accel *a;
	int err = open_node(index, log, &node);

	if (err)
		return err;
	err = unpu_accel_ask_info(&node, log, &info);
	a = err ? NULL : calloc(1, sizeof(*a));
	if (!a) {
		unpu_accel_sys_close(node.fd);
		return err ? err : unpu_fail(log, -ENOMEM, "no memory for accel:%u", index);
	}
	a->base.ops = &accel_ops;
	if (log)
		a->base.log = *log;
	snprintf(a->base.id, sizeof(a->base.id), "accel:%hhu", (uint8_t)index);
	a->fd = node.fd;
	if (!timeout_ns)
		timeout_ns = info.default_timeout_ns < RUN_NS ? info.default_timeout_ns : RUN_NS;
	a->timeout_ns = timeout_ns < info.max_timeout_ns ? timeout_ns : info.max_timeout_ns;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->left, NULL);
	*dev = &a->base;
	return 0;
}
