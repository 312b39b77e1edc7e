/* SPDX-License-Identifier: MIT */
#include "tests/hooks/accel.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "runtime/device/accel/sys.h"

#define FILES		64
#define FIRST_FD	1000000	/* none that the process may have */
#define SLICE_NS	2000000u

struct node nodes[NODES];

/* What open() gives. */
struct file {
	struct node *node;
	struct unpu_device *dev;
};

static struct {
	pthread_mutex_t lock;		/* files and maps */
	struct file files[FILES];
	struct map {
		struct map *next;
		struct file *file;
		void *ptr;
		uint64_t size;
	} *maps;
	atomic_uint calls, interrupts;
	uint32_t fail_at, interrupt_every;
	int err;
	bool from_environment, set;
} k = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- the environment ------------------------------------------------------------------------- */

static void wrong(const char *value)
{
	fprintf(stderr, "tests/hooks: UNPU_NODES=%s is not understood\n", value);
	abort();
}

static void say_future(struct drm_unpu_dev_info *info)
{
	info->version_major = 2;
}

static void set_fault(struct node *node, const char *kind, const char *all)
{
	static const struct {
		const char *name;
		enum gpuish_fault fault;
	} faults[] = { { "lost@", GPUISH_LOST }, { "hang@", GPUISH_HANG }, { "gone@", 0 } };
	char *end = NULL;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		uint32_t at;

		if (strncmp(kind, faults[i].name, 5))
			continue;
		at = (uint32_t)strtoul(kind + 5, &end, 10);
		if (faults[i].fault)
			node->fault_at = at;
		else
			node->gone_at = at;
		node->fault = faults[i].fault;
		node->gpuish.timeout_ns = 200000000;
	}
	if (!end || *end)
		wrong(all);
}

static void set_kind(struct node *node, const char *kind, const char *all)
{
	node->gpuish = (struct gpuish_params){ .tokens_per_submit = 8 };
	if (!strcmp(kind, "denied") || !strcmp(kind, "hidden"))
		node->err = -EACCES;
	if (!strcmp(kind, "hidden"))
		node->hidden = true;
	else if (!strcmp(kind, "other"))
		node->driver = "another";
	else if (!strcmp(kind, "future"))
		node->info = say_future;
	else if (!strcmp(kind, "stuck"))
		node->stuck = true;
	else if (!strcmp(kind, "wrong"))
		node->wrong = true;
	else if (strcmp(kind, "good") && strcmp(kind, "denied"))
		set_fault(node, kind, all);
}

static void read_environment(void)
{
	static char text[256];
	const char *all = getenv("UNPU_NODES");
	char *at, *next, *kind;
	int count = 0;

	if (k.from_environment || k.set || !all)
		return;
	k.from_environment = true;
	if (snprintf(text, sizeof(text), "%s", all) >= (int)sizeof(text))
		wrong(all);
	for (at = text; at; at = next) {
		next = strchr(at, ',');
		if (next)
			*next++ = '\0';
		kind = strchr(at, '=');
		if (!kind || count == NODES)
			wrong(all);
		*kind++ = '\0';
		nodes[count].path = at;
		set_kind(&nodes[count++], kind, all);
	}
}

void nodes_reset(void)
{
	memset(nodes, 0, sizeof(nodes));
	k.set = true;
	nodes_fail(0, 0);
	nodes_interrupt(0);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

void nodes_fail(uint32_t nth, int err)
{
	atomic_store(&k.calls, 0);
	k.fail_at = nth;
	k.err = err;
}

uint32_t nodes_calls(void)
{
	return atomic_load(&k.calls);
}

void nodes_interrupt(uint32_t every)
{
	atomic_store(&k.interrupts, 0);
	k.interrupt_every = every;
}

static int fault(void)
{
	uint32_t n = atomic_fetch_add(&k.calls, 1) + 1;

	if (!k.fail_at || n < k.fail_at || (n > k.fail_at && k.err != -ENODEV))
		return 0;
	return k.err;
}

static bool interrupted(void)
{
	return k.interrupt_every &&
	       (atomic_fetch_add(&k.interrupts, 1) + 1) % k.interrupt_every == 0;
}

static void wait_until_it_answers(struct node *node)
{
	const struct timespec nap = { 0, SLICE_NS };

	while (atomic_load(&node->stuck))
		nanosleep(&nap, NULL);
}

/* Between two runs of a device: it is unplugged, or writes what it should not. */
static void before_run(void *arg)
{
	struct node *node = arg;

	atomic_fetch_add(&node->runs, 1);
	if (node->gone_at && atomic_load(&node->last->runs) == node->gone_at)
		node->gone = true;
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct node *find_node(const char *path)
{
	read_environment();
	for (int i = 0; i < NODES; i++)
		if (nodes[i].path && !strcmp(nodes[i].path, path))
			return &nodes[i];
	return NULL;
}

static int open_gpuish(struct node *node, struct unpu_device **dev)
{
	int err = gpuish_open(&node->gpuish, NULL, dev, &node->last);

	if (err)
		return err;
	node->last->fault = node->fault;
	node->last->fault_at = node->fault_at;
	node->last->hook = before_run;
	node->last->arg = node;
	return 0;
}

int unpu_accel_sys_driver(const char *path, char *name, size_t size)
{
	const struct node *node = find_node(path);

	if (!node)
		return -ENOENT;
	if (node->hidden)
		return -ENODATA;
	snprintf(name, size, "%s", node->driver ? node->driver : "unpu");
	return 0;
}

int unpu_accel_sys_open(const char *path)
{
	struct node *node = find_node(path);
	struct unpu_device *dev;
	int i, err = node ? fault() : -ENOENT;

	if (err || node->err)
		return err ? err : node->err;
	atomic_fetch_add(&node->opens, 1);
	if (node->gone)
		return -ENODEV;
	err = node->open ? node->open(node, &dev) : open_gpuish(node, &dev);
	if (err)
		return err;
	pthread_mutex_lock(&k.lock);
	for (i = 0; i < FILES && k.files[i].dev; i++)
		;
	if (i == FILES)
		abort();
	k.files[i] = (struct file){ node, dev };
	pthread_mutex_unlock(&k.lock);
	atomic_fetch_add(&node->files, 1);
	return FIRST_FD + i;
}

static struct file *find_file(int fd)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + FILES || !k.files[fd - FIRST_FD].dev)
		abort();
	return &k.files[fd - FIRST_FD];
}

void unpu_accel_sys_close(int fd)
{
	struct file *file = find_file(fd);
	struct unpu_device *dev = file->dev;

	atomic_fetch_sub(&file->node->files, 1);
	dev->ops->close(dev);
	pthread_mutex_lock(&k.lock);
	file->dev = NULL;
	pthread_mutex_unlock(&k.lock);
}

int unpu_accel_sys_mmap(int fd, uint64_t offset, uint64_t size, void **ptr)
{
	struct file *file = find_file(fd);
	struct map *map = calloc(1, sizeof(*map));
	int err = fault();

	if (!map)
		abort();
	err = err ? err : file->dev->ops->bo_map(file->dev, (uint32_t)(offset >> 32), ptr);
	if (err) {
		free(map);
		return err;
	}
	*map = (struct map){ NULL, file, *ptr, size };
	pthread_mutex_lock(&k.lock);
	map->next = k.maps;
	k.maps = map;
	pthread_mutex_unlock(&k.lock);
	atomic_fetch_add(&file->node->mappings, 1);
	return 0;
}

void unpu_accel_sys_munmap(void *ptr, uint64_t size)
{
	struct map **at = &k.maps, *map;

	pthread_mutex_lock(&k.lock);
	while ((map = *at) && map->ptr != ptr)
		at = &map->next;
	if (!map || map->size != size)
		abort();
	*at = map->next;
	pthread_mutex_unlock(&k.lock);
	atomic_fetch_sub(&map->file->node->mappings, 1);
	if (map->file->dev->ops->bo_unmap(map->file->dev, 0, ptr, size))
		abort();
	free(map);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int give_version(struct node *node, struct drm_version *version)
{
	const char *name = node->driver ? node->driver : "unpu";
	size_t length = strlen(name);

	memcpy(version->name, name, length < version->name_len ? length : version->name_len);
	version->name_len = length;
	version->version_major = 1;
	return 0;
}

/* A float of what was mapped last is another one. */
static int spoil(struct node *node)
{
	pthread_mutex_lock(&k.lock);
	if (node->wrong && k.maps)
		((uint8_t *)k.maps->ptr)[3] ^= 0x40;
	pthread_mutex_unlock(&k.lock);
	return 0;
}

/* A piece of the wait: the whole of one is interrupted now and then. */
static int wait_some(struct file *file, uint32_t handle, uint64_t point, int64_t deadline)
{
	const struct unpu_device_ops *ops = file->dev->ops;
	int err;

	for (;;) {
		uint64_t until = now_ns() + SLICE_NS, end = deadline < 0 ? 0 : (uint64_t)deadline;

		err = ops->syncobj_wait(file->dev, handle, point, until < end ? until : end);
		if (err != -ETIME || until >= end)
			return err ? err : spoil(file->node);
		if (file->node->gone)
			return 0;	/* its fence has signalled, with an error */
		if (k.interrupt_every)
			return -EINTR;
	}
}

static int core_call(struct file *file, unsigned long request, void *arg)
{
	const struct unpu_device_ops *ops = file->dev->ops;
	struct drm_syncobj_wait *wait = arg;
	struct drm_syncobj_timeline_wait *timeline = arg;

	switch (request) {
	case DRM_IOCTL_VERSION:
		return give_version(file->node, arg);
	case DRM_IOCTL_GEM_CLOSE:
		return ops->bo_close(file->dev, ((struct drm_gem_close *)arg)->handle);
	case DRM_IOCTL_SYNCOBJ_CREATE:
		return ops->syncobj_create(file->dev, &((struct drm_syncobj_create *)arg)->handle);
	case DRM_IOCTL_SYNCOBJ_DESTROY:
		return ops->syncobj_destroy(file->dev, ((struct drm_syncobj_destroy *)arg)->handle);
	case DRM_IOCTL_SYNCOBJ_WAIT:
		if (wait->count_handles != 1 || wait->flags)
			abort();
		return wait_some(file, *(uint32_t *)(uintptr_t)wait->handles, 0,
				 wait->timeout_nsec);
	case DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT:
		if (timeline->count_handles != 1 || timeline->flags)
			abort();
		return wait_some(file, *(uint32_t *)(uintptr_t)timeline->handles,
				 *(uint64_t *)(uintptr_t)timeline->points, timeline->timeout_nsec);
	default:
		abort();
	}
}

static int query(struct file *file, struct drm_unpu_dev_query *args)
{
	struct drm_unpu_dev_info *info = (void *)(uintptr_t)args->pointer;
	int err = file->dev->ops->dev_query(file->dev, args);

	if (!err && info && file->node->info && args->type == DRM_UNPU_QUERY_DEV_INFO)
		file->node->info(info);
	return err;
}

/* Those that the device itself answers. */
static int device_call(struct file *file, unsigned long request, void *arg)
{
	const struct unpu_device_ops *ops = file->dev->ops;

	wait_until_it_answers(file->node);
	switch (request) {
	case DRM_IOCTL_UNPU_BO_CREATE:
		return ops->bo_create(file->dev, arg);
	case DRM_IOCTL_UNPU_CTX_CREATE:
		return ops->ctx_create(file->dev, arg);
	case DRM_IOCTL_UNPU_SHADER_CREATE:
		return ops->shader_create(file->dev, arg);
	default:
		return ops->program_create(file->dev, arg);
	}
}

static int call(struct file *file, unsigned long request, void *arg)
{
	const struct unpu_device_ops *ops = file->dev->ops;

	switch (request) {
	case DRM_IOCTL_UNPU_DEV_QUERY:
		return query(file, arg);
	case DRM_IOCTL_UNPU_BO_CREATE:
	case DRM_IOCTL_UNPU_CTX_CREATE:
	case DRM_IOCTL_UNPU_SHADER_CREATE:
	case DRM_IOCTL_UNPU_PROGRAM_CREATE:
		return device_call(file, request, arg);
	case DRM_IOCTL_UNPU_BO_MMAP_OFFSET:
		return ops->bo_mmap_offset(file->dev, arg);
	case DRM_IOCTL_UNPU_CTX_DESTROY:
		return ops->ctx_destroy(file->dev, arg);
	case DRM_IOCTL_UNPU_CTX_QUERY:
		return ops->ctx_query(file->dev, arg);
	case DRM_IOCTL_UNPU_SHADER_DESTROY:
		return ops->shader_destroy(file->dev, arg);
	case DRM_IOCTL_UNPU_PROGRAM_DESTROY:
		return ops->program_destroy(file->dev, arg);
	case DRM_IOCTL_UNPU_SUBMIT:
		return ops->submit(file->dev, arg);
	default:
		return core_call(file, request, arg);
	}
}

/* As the DRM core: the struct is copied, and copied back whatever came of the call. */
int unpu_accel_sys_ioctl(int fd, unsigned long request, void *arg)
{
	struct file *file = find_file(fd);
	uint64_t args[64];
	size_t size = _IOC_SIZE(request);
	int err = interrupted() ? -EINTR : fault();

	if (size > sizeof(args))
		abort();
	if (!err && file->node->gone)
		err = -ENODEV;
	if (err)
		return err;
	memcpy(args, arg, size);
	err = call(file, request, args);
	memcpy(arg, args, size);
	return err;
}
