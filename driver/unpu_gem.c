// SPDX-License-Identifier: GPL-2.0-only
/*
 * Buffers. Those with DRM_UNPU_BO_MMAP lie in the window, which belongs to the bus device and goes
 * with it, while mappings of them live on; the others are only known here by what they take of the
 * device's own heap.
 */
#include <linux/dma-buf.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>
#include <drm/drm_prime.h>
#include <drm/drm_print.h>
#include <drm/drm_vma_manager.h>

#include "unpu_drv.h"

/* What is zeroed between two chances for others to run. */
#define ZERO_BYTES	SZ_1M

/* ---- the window's heap --------------------------------------------------------------------- */

static int unpu_heap_insert(struct unpu_device *udev, struct drm_mm_node *node, u64 size,
			    enum drm_mm_insert_mode mode)
{
	int err;

	mutex_lock(&udev->heap_lock);
	if (udev->heap_bytes)
		err = drm_mm_insert_node_generic(&udev->heap, node, size, PAGE_SIZE, 0, mode);
	else
		err = -ENOSPC;
	mutex_unlock(&udev->heap_lock);
	if (!err)
		atomic64_add(size, &udev->window_used);
	return err;
}

static void unpu_heap_remove(struct unpu_device *udev, struct drm_mm_node *node)
{
	atomic64_sub(node->size, &udev->window_used);
	mutex_lock(&udev->heap_lock);
	drm_mm_remove_node(node);
	mutex_unlock(&udev->heap_lock);
}

/* From the far end: what lives for a moment shall not lie between buffers. */
struct drm_mm_node *unpu_heap_get(struct unpu_device *udev, u64 size)
{
	struct drm_mm_node *node = kzalloc(sizeof(*node), GFP_KERNEL_ACCOUNT);

	if (!node)
		return NULL;
	/* Whole pages: no buffer's mapping may show what lies here. */
	if (unpu_heap_insert(udev, node, PAGE_ALIGN(size), DRM_MM_INSERT_HIGH)) {
		kfree(node);
		return NULL;
	}
	return node;
}

void unpu_heap_put(struct unpu_device *udev, struct drm_mm_node *node)
{
	if (!node)
		return;
	unpu_heap_remove(udev, node);
	kfree(node);
}

static void unpu_heap_release(struct drm_device *drm, void *arg)
{
	drm_mm_takedown(&to_unpu_device(drm)->heap);
}

/*
 * Mappings of users are as cacheable as the kernel's: vmf_insert_pfn() takes what memremap() could
 * reserve, and that is uncached where an MTRR says so.
 */
static bool unpu_window_is_cached(const struct unpu_device *udev)
{
#ifdef CONFIG_X86
	unsigned int level;
	const pte_t *pte = lookup_address((unsigned long)udev->window, &level);

	return !pte || !(pte_flags(*pte) & (_PAGE_PCD | _PAGE_PWT));
#else
	return true;
#endif
}

int unpu_gem_init(struct unpu_device *udev, u64 start)
{
	u64 first = PAGE_ALIGN(start);
	u64 end = round_down(udev->window_bytes, PAGE_SIZE);

	if (first < start || first >= end)
		return -EINVAL;
	if (!unpu_window_is_cached(udev))
		drm_warn(&udev->drm,
			 "window of %llu MiB is uncached; one of 1 GiB (--window 1G) is cached\n",
			 udev->window_bytes >> 20);
	drm_mm_init(&udev->heap, first, end - first);
	udev->heap_bytes = end - first;
	return drmm_add_action_or_reset(&udev->drm, unpu_heap_release, NULL);
}

/* ---- memory of a buffer -------------------------------------------------------------------- */

static int unpu_window_charge(struct unpu_device *udev, struct unpu_bo *bo)
{
	u64 size = bo->base.size;
	u64 at, bytes;
	int err;

	err = unpu_heap_insert(udev, &bo->node, size, DRM_MM_INSERT_BEST);
	if (err)
		return err;
	for (at = 0; at < size; at += bytes) {
		bytes = min_t(u64, size - at, ZERO_BYTES);
		memset(udev->window + bo->node.start + at, 0, bytes);
		cond_resched();
	}
	return 0;
}

static int unpu_device_charge(struct unpu_device *udev, struct unpu_bo *bo)
{
	u64 limit = udev->info.heap_device_bytes;
	int err = 0;

	mutex_lock(&udev->heap_lock);
	if (bo->base.size > limit - atomic64_read(&udev->device_used))
		err = -ENOSPC;
	else
		atomic64_add(bo->base.size, &udev->device_used);
	mutex_unlock(&udev->heap_lock);
	return err;
}

static void unpu_bo_uncharge(struct unpu_device *udev, struct unpu_bo *bo)
{
	if (bo->flags & DRM_UNPU_BO_MMAP)
		unpu_heap_remove(udev, &bo->node);
	else
		atomic64_sub(bo->base.size, &udev->device_used);
}

static void unpu_bo_release(struct unpu_bo *bo)
{
	drm_gem_object_release(&bo->base);
	if (bo->dead_page)
		__free_page(bo->dead_page);
	kfree(bo);
}

/* The device hears of it before the range can have another owner. */
static void unpu_gem_free(struct drm_gem_object *obj)
{
	struct unpu_device *udev = to_unpu_device(obj->dev);
	struct unpu_bo *bo = to_unpu_bo(obj);

	udev->hw->bo_destroy(udev, bo->hw_id);
	unpu_bo_uncharge(udev, bo);
	unpu_bo_release(bo);
}

/* ---- handles ------------------------------------------------------------------------------- */

static int unpu_gem_open(struct drm_gem_object *obj, struct drm_file *file)
{
	struct unpu_file *ufile = file->driver_priv;

	if (atomic_inc_return(&ufile->num_bos) <= UNPU_MAX_FILE_BOS)
		return 0;
	atomic_dec(&ufile->num_bos);
	return -ENOSPC;
}

static void unpu_gem_close(struct drm_gem_object *obj, struct drm_file *file)
{
	struct unpu_file *ufile = file->driver_priv;

	atomic_dec(&ufile->num_bos);
}

/* ---- mappings ------------------------------------------------------------------------------ */

/* After an unplug: one page for all of the buffer, which lives as long as its mappings. */
static struct page *unpu_bo_dead_page(struct unpu_bo *bo)
{
	struct page *page = READ_ONCE(bo->dead_page);
	struct page *other;

	if (page)
		return page;
	page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!page)
		return NULL;
	other = cmpxchg(&bo->dead_page, NULL, page);
	if (!other)
		return page;
	__free_page(page);
	return other;
}

/*
 * drm_dev_unplug() first waits for those in the section and then zaps all mappings, so that none
 * of the window's pages is mapped when the bus device gives it up.
 */
static vm_fault_t unpu_gem_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct drm_gem_object *obj = vma->vm_private_data;
	struct unpu_device *udev = to_unpu_device(obj->dev);
	struct unpu_bo *bo = to_unpu_bo(obj);
	/* Not from vm_start: what is left of a mapping may begin later than it. */
	u64 index = vmf->pgoff - drm_vma_node_start(&obj->vma_node);
	struct page *page;
	vm_fault_t ret;
	int idx;

	if (index >= obj->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	if (drm_dev_enter(obj->dev, &idx)) {
		ret = vmf_insert_pfn(vma, vmf->address,
				     PHYS_PFN(udev->window_phys + bo->node.start) + index);
		drm_dev_exit(idx);
		return ret;
	}
	page = unpu_bo_dead_page(bo);
	if (!page)
		return VM_FAULT_OOM;
	return vmf_insert_pfn(vma, vmf->address, page_to_pfn(page));
}

static const struct vm_operations_struct unpu_gem_vm_ops = {
	.open = drm_gem_vm_open,
	.close = drm_gem_vm_close,
	.fault = unpu_gem_fault,
};

static int unpu_gem_mmap(struct drm_gem_object *obj, struct vm_area_struct *vma)
{
	/* A mapping of bare pages cannot be copied on write: vmf_insert_pfn() is a BUG there. */
	if (!(to_unpu_bo(obj)->flags & DRM_UNPU_BO_MMAP) || is_cow_mapping(vma->vm_flags))
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = vm_get_page_prot(vma->vm_flags);
	return 0;
}

/* ---- PRIME: between files of one device ---------------------------------------------------- */

/* The window has no struct pages and device memory no address: there is nothing to map. */
static int unpu_dma_buf_attach(struct dma_buf *dma_buf, struct dma_buf_attachment *attach)
{
	return -EOPNOTSUPP;
}

static struct sg_table *unpu_dma_buf_map(struct dma_buf_attachment *attach,
					 enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void unpu_dma_buf_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
			       enum dma_data_direction dir)
{
}

/* No mmap: a mapping by the dma-buf's own file would not be zapped at an unplug. */
static const struct dma_buf_ops unpu_dma_buf_ops = {
	.attach = unpu_dma_buf_attach,
	.map_dma_buf = unpu_dma_buf_map,
	.unmap_dma_buf = unpu_dma_buf_unmap,
	.release = drm_gem_dmabuf_release,
};

static struct dma_buf *unpu_gem_export(struct drm_gem_object *obj, int flags)
{
	struct dma_buf_export_info info = {
		.exp_name = KBUILD_MODNAME,
		.owner = obj->dev->driver->fops->owner,
		.ops = &unpu_dma_buf_ops,
		.size = obj->size,
		.flags = flags,
		.priv = obj,
		.resv = obj->resv,
	};

	return drm_gem_dmabuf_export(obj->dev, &info);
}

struct drm_gem_object *unpu_gem_prime_import(struct drm_device *drm, struct dma_buf *dma_buf)
{
	struct drm_gem_object *obj;

	if (dma_buf->ops != &unpu_dma_buf_ops)
		return ERR_PTR(-EOPNOTSUPP);
	obj = dma_buf->priv;
	if (obj->dev != drm)
		return ERR_PTR(-EOPNOTSUPP);
	drm_gem_object_get(obj);
	return obj;
}

static const struct drm_gem_object_funcs unpu_gem_funcs = {
	.free = unpu_gem_free,
	.open = unpu_gem_open,
	.close = unpu_gem_close,
	.export = unpu_gem_export,
	.mmap = unpu_gem_mmap,
	.vm_ops = &unpu_gem_vm_ops,
};

/* ---- ioctls -------------------------------------------------------------------------------- */

/* Inside drm_dev_enter(). */
static struct unpu_bo *unpu_bo_create(struct unpu_device *udev,
				      const struct drm_unpu_bo_create *args)
{
	struct unpu_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL_ACCOUNT);
	int err;

	if (!bo)
		return ERR_PTR(-ENOMEM);
	bo->flags = args->flags;
	bo->base.funcs = &unpu_gem_funcs;
	drm_gem_private_object_init(&udev->drm, &bo->base, PAGE_ALIGN(args->size));
	err = unpu_epoch_get(udev, &bo->epoch);
	if (err)
		goto err_release;
	if (bo->flags & DRM_UNPU_BO_MMAP)
		err = unpu_window_charge(udev, bo);
	else
		err = unpu_device_charge(udev, bo);
	if (err)
		goto err_release;
	err = udev->hw->bo_create(udev, bo);
	if (err)
		goto err_uncharge;
	return bo;

err_uncharge:
	unpu_bo_uncharge(udev, bo);
err_release:
	unpu_bo_release(bo);
	return ERR_PTR(err);
}

int unpu_ioctl_bo_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_bo_create *args = data;
	struct unpu_bo *bo;
	u32 handle;
	int idx, err;

	err = unpu_check_bo_create(args, &udev->info);
	if (err)
		return err;
	if (!drm_dev_enter(drm, &idx))
		return -ENODEV;
	bo = unpu_bo_create(udev, args);
	drm_dev_exit(idx);
	if (IS_ERR(bo))
		return PTR_ERR(bo);
	err = drm_gem_handle_create(file, &bo->base, &handle);
	if (!err) {
		args->size = bo->base.size;
		args->handle = handle;
	}
	drm_gem_object_put(&bo->base);
	return err;
}

int unpu_ioctl_bo_mmap_offset(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_unpu_bo_mmap_offset *args = data;
	struct drm_gem_object *obj;
	int err;

	err = unpu_check_bo_mmap_offset(args);
	if (err)
		return err;
	obj = drm_gem_object_lookup(file, args->handle);
	if (!obj)
		return -ENOENT;
	err = -EINVAL;
	if (to_unpu_bo(obj)->flags & DRM_UNPU_BO_MMAP)
		err = drm_gem_create_mmap_offset(obj);
	if (!err)
		args->offset = drm_vma_node_offset_addr(&obj->vma_node);
	drm_gem_object_put(obj);
	return err;
}
