/* SPDX-License-Identifier: MIT */
/* Buffers of in-process devices. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/device/inproc_priv.h"
#include "uapi/unpu_check.h"

#define HUGE_PAGE	(2u << 20)

static uint64_t page_align(uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) & ~(page - 1);
}

/*
 * Whether the machine hands out huge pages at the speed of its memory. A guest whose host has taken
 * free memory back does not: there a first 2 MiB took 6 ms where zeroing it takes 0.1, and 145 MiB
 * of weights half a second instead of 60 ms through small pages.
 */
static bool huge_pages_are_quick(uint8_t *ptr)
{
	uint64_t begin = unpu_inproc_now(), faulted;

	madvise(ptr, HUGE_PAGE, MADV_HUGEPAGE);
	*(volatile uint8_t *)ptr = 0;
	faulted = unpu_inproc_now();
	memset(ptr, 0, HUGE_PAGE);
	return faulted - begin < 16 * (unpu_inproc_now() - faulted);
}

/*
 * Zeroed memory. Large buffers begin at a huge page: older kernels leave anonymous mappings where
 * they fall, and weights read through 4 KiB pages cost a TLB miss a page. Only what the caller maps
 * is about to be filled whole; of a KV cache no more should become resident than is used.
 */
static void *map_zeroed(uint64_t size, bool filled)
{
	uint64_t slack = filled && size >= HUGE_PAGE ? HUGE_PAGE : 0;
	uint64_t skip;
	uint8_t *ptr;

	if (size + slack > SIZE_MAX / 2)
		return NULL;
	ptr = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ptr == MAP_FAILED)
		return NULL;
	if (!slack)
		return ptr;
	skip = -(uintptr_t)ptr & (HUGE_PAGE - 1);
	if (skip)
		munmap(ptr, skip);
	if (skip < slack)
		munmap(ptr + skip + size, slack - skip);
	ptr += skip;
	if (huge_pages_are_quick(ptr))
		madvise(ptr, size, MADV_HUGEPAGE);
	return ptr;
}

static int bo_alloc(struct inproc *dev, struct inproc_bo *bo)
{
	const struct unpu_engine_ops *ops = dev->engine->ops;
	int err;

	if (!ops->bo_alloc) {
		bo->base.ptr = map_zeroed(bo->base.size,
					  bo->base.flags & DRM_UNPU_BO_MMAP);
		return bo->base.ptr ? 0 : -ENOMEM;
	}
	pthread_mutex_lock(&dev->engine_lock);
	err = ops->bo_alloc(dev->engine, &bo->base);
	pthread_mutex_unlock(&dev->engine_lock);
	return err;
}

static void bo_release(struct inproc *dev, struct inproc_bo *bo)
{
	if (!dev->engine->ops->bo_alloc) {
		if (!bo->base.imported)
			munmap(bo->base.ptr, bo->base.size);
		return;
	}
	pthread_mutex_lock(&dev->engine_lock);
	dev->engine->ops->bo_free(dev->engine, &bo->base);
	pthread_mutex_unlock(&dev->engine_lock);
}

/* Takes size from the buffer's heap: -ENOSPC when it is not there. */
static int heap_charge(struct inproc *dev, uint32_t flags, uint64_t size)
{
	bool window = flags & DRM_UNPU_BO_MMAP;
	__u64 *used = window ? &dev->stats.window_used_bytes : &dev->stats.device_used_bytes;
	uint64_t heap = window ? dev->info.heap_window_bytes : dev->info.heap_device_bytes;
	int err = 0;

	unpu_inproc_lock(dev);
	if (size > heap || *used > heap - size)
		err = -ENOSPC;
	else
		*used += size;
	unpu_inproc_unlock(dev);
	return err;
}

/* Imported memory is the caller's; what an engine makes for itself to work on is not. */
static bool has_shadow(const struct inproc *dev, const struct inproc_bo *bo)
{
	return bo->base.imported && dev->engine->ops->bo_import;
}

static void heap_uncharge(struct inproc *dev, const struct inproc_bo *bo)
{
	bool shadow = has_shadow(dev, bo);

	if (bo->base.imported && !shadow)
		return;
	unpu_inproc_lock(dev);
	if (shadow || bo->base.flags & DRM_UNPU_BO_MMAP)
		dev->stats.window_used_bytes -= bo->base.size;
	else
		dev->stats.device_used_bytes -= bo->base.size;
	unpu_inproc_unlock(dev);
}

void unpu_inproc_bo_put(struct inproc *dev, struct inproc_bo *bo)
{
	if (!bo || atomic_fetch_sub(&bo->base.refs, 1) != 1)
		return;
	bo_release(dev, bo);
	heap_uncharge(dev, bo);
	free(bo);
}

static int bo_publish(struct inproc *dev, struct inproc_bo *bo, uint32_t *handle)
{
	int err;

	unpu_inproc_lock(dev);
	err = unpu_table_add(&dev->bos, bo, handle);
	unpu_inproc_unlock(dev);
	if (err)
		unpu_inproc_bo_put(dev, bo);
	return err;
}

static int bo_create(struct inproc *dev, uint32_t flags, uint64_t size, uint32_t *handle)
{
	struct inproc_bo *bo;
	int err;

	err = heap_charge(dev, flags, size);
	if (err)
		return err;
	bo = calloc(1, sizeof(*bo));
	if (bo) {
		atomic_init(&bo->base.refs, 1);
		bo->base.flags = flags;
		bo->base.size = size;
		err = bo_alloc(dev, bo);
		if (!err)
			return bo_publish(dev, bo, handle);
	}
	heap_uncharge(dev, &(struct inproc_bo){ .base = { .flags = flags, .size = size } });
	free(bo);
	return err ? err : -ENOMEM;
}

int unpu_inproc_bo_create(struct unpu_device *base, struct drm_unpu_bo_create *args)
{
	struct inproc *dev = to_inproc(base);
	uint64_t size;
	uint32_t handle;
	int err;

	err = unpu_check_bo_create(args, &dev->info);
	if (err)
		return unpu_inproc_refuse(dev, "BO_CREATE", err);
	size = page_align(args->size);
	err = bo_create(dev, args->flags, size, &handle);
	if (err)
		return unpu_fail(&base->log, err, "%s: no room for a buffer of %llu bytes",
				 base->id, (unsigned long long)size);
	args->size = size;
	args->handle = handle;
	return 0;
}

static int bo_import(struct inproc *dev, struct inproc_bo *bo)
{
	const struct unpu_engine_ops *ops = dev->engine->ops;
	int err;

	if (!has_shadow(dev, bo))
		return 0;
	err = heap_charge(dev, DRM_UNPU_BO_MMAP, bo->base.size);
	if (err)
		return err;
	pthread_mutex_lock(&dev->engine_lock);
	err = ops->bo_import(dev->engine, &bo->base);
	pthread_mutex_unlock(&dev->engine_lock);
	if (err)
		heap_uncharge(dev, bo);
	return err;
}

int unpu_inproc_bo_import(struct unpu_device *base, void *ptr, uint64_t size, int writable,
			  uint32_t *handle)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_bo *bo;
	int err;

	if (dev->engine->ops->bo_alloc && !dev->engine->ops->bo_import)
		return -EOPNOTSUPP;
	if (!ptr || !size || size > dev->info.max_bo_bytes ||
	    (uintptr_t)ptr & (dev->info.binding_align - 1))
		return unpu_inproc_refuse(dev, "BO_IMPORT", -EINVAL);
	bo = calloc(1, sizeof(*bo));
	if (!bo)
		return unpu_inproc_refuse(dev, "BO_IMPORT", -ENOMEM);
	atomic_init(&bo->base.refs, 1);
	/* The caller sees its memory, so a stop word may lie there; a mapping there is not. */
	bo->base.flags = writable ? DRM_UNPU_BO_MMAP : 0;
	bo->base.size = size;
	bo->base.ptr = ptr;
	bo->base.imported = 1;
	bo->base.writable = writable;
	err = bo_import(dev, bo);
	if (!err)
		return bo_publish(dev, bo, handle);
	free(bo);
	return unpu_fail(&base->log, err, "%s: no room for what %llu imported bytes need", base->id,
			 (unsigned long long)size);
}

static bool bo_has_mapping(const struct inproc_bo *bo)
{
	return bo->base.flags & DRM_UNPU_BO_MMAP && !bo->base.imported;
}

int unpu_inproc_bo_close(struct unpu_device *base, uint32_t handle)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_bo *bo;

	unpu_inproc_lock(dev);
	bo = unpu_table_remove(&dev->bos, handle);
	unpu_inproc_unlock(dev);
	if (!bo)
		return unpu_inproc_refuse(dev, "GEM_CLOSE", -EINVAL);
	unpu_inproc_bo_put(dev, bo);
	return 0;
}

/* There is no node to map from; the number is unique as it is on one. */
int unpu_inproc_bo_mmap_offset(struct unpu_device *base, struct drm_unpu_bo_mmap_offset *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_bo *bo;
	int err;

	err = unpu_check_bo_mmap_offset(args);
	if (err)
		return unpu_inproc_refuse(dev, "BO_MMAP_OFFSET", err);
	unpu_inproc_lock(dev);
	bo = unpu_table_get(&dev->bos, args->handle);
	if (!bo)
		err = -ENOENT;
	else if (!bo_has_mapping(bo))
		err = -EINVAL;
	unpu_inproc_unlock(dev);
	if (err)
		return unpu_inproc_refuse(dev, "BO_MMAP_OFFSET", err);
	args->offset = (uint64_t)args->handle << 32;
	return 0;
}

/* A mapping outlives the handle, as it does on a node: it has its own reference. */
int unpu_inproc_bo_map(struct unpu_device *base, uint32_t handle, void **ptr)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_bo *bo;
	int err = 0;

	unpu_inproc_lock(dev);
	bo = unpu_table_get(&dev->bos, handle);
	if (!bo) {
		err = -ENOENT;
	} else if (!bo_has_mapping(bo)) {
		err = -EINVAL;
	} else {
		atomic_fetch_add(&bo->base.refs, 1);
		if (!bo->maps++) {
			bo->next_mapped = dev->mapped;
			dev->mapped = bo;
		}
		*ptr = bo->base.ptr;
	}
	unpu_inproc_unlock(dev);
	return err ? unpu_inproc_refuse(dev, "mmap", err) : 0;
}

int unpu_inproc_bo_unmap(struct unpu_device *base, uint32_t handle, void *ptr, uint64_t size)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_bo **at, *bo;

	(void)handle;	/* may be closed, or somebody else's by now */
	unpu_inproc_lock(dev);
	at = &dev->mapped;
	while (*at && (*at)->base.ptr != ptr)
		at = &(*at)->next_mapped;
	bo = *at;
	if (bo && page_align(size) != bo->base.size)
		bo = NULL;
	if (bo && !--bo->maps)
		*at = bo->next_mapped;
	unpu_inproc_unlock(dev);
	if (!bo)
		return unpu_inproc_refuse(dev, "munmap", -EINVAL);
	unpu_inproc_bo_put(dev, bo);
	return 0;
}
