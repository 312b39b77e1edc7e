// SPDX-License-Identifier: GPL-2.0-only
/* The module, the DRM device and what an open file sees of it. */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_accel.h>
#include <drm/drm_drv.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>
#include <drm/drm_print.h>

#include "unpu_compat.h"
#include "unpu_drv.h"

/* One hour, ten minutes: what a device may ask for at most before a job counts as hung. */
#define MAX_JOB_TIME_NS	(3600ull * NSEC_PER_SEC)
#define MAX_TIMEOUT_NS	(600ull * NSEC_PER_SEC)

struct workqueue_struct *unpu_release_wq;

int unpu_epoch_get(const struct unpu_device *udev, int *epoch)
{
	*epoch = atomic_read(&udev->epoch);
	return unpu_device_is_lost(udev) ? -ENODEV : 0;
}

/* ---- DEV_QUERY ----------------------------------------------------------------------------- */

static int unpu_query_answer(struct drm_unpu_dev_query *args, const void *answer, u32 bytes)
{
	void __user *to = unpu_user_ptr(args->pointer);
	u32 fit = min(args->size, bytes);

	if (args->pointer &&
	    (copy_to_user(to, answer, fit) || clear_user(to + fit, args->size - fit)))
		return -EFAULT;
	args->size = bytes;
	return 0;
}

static int unpu_query_info(struct unpu_device *udev, struct drm_unpu_dev_query *args)
{
	int err = unpu_check_dev_query(args, UNPU_V1_DEV_INFO, 1);

	return err ? err : unpu_query_answer(args, &udev->info, sizeof(udev->info));
}

static int unpu_query_stats(struct unpu_device *udev, struct drm_unpu_dev_query *args)
{
	const struct unpu_stats *from = &udev->stats;
	struct drm_unpu_dev_stats stats = {
		.window_used_bytes = atomic64_read(&udev->window_used),
		.device_used_bytes = atomic64_read(&udev->device_used),
		.jobs_submitted = atomic64_read(&from->submitted),
		.jobs_completed = atomic64_read(&from->completed),
		.jobs_failed = atomic64_read(&from->failed),
		.jobs_timed_out = atomic64_read(&from->timed_out),
		.jobs_cancelled = atomic64_read(&from->cancelled),
		.resets = atomic64_read(&from->resets),
		.epoch = atomic_read(&udev->epoch),
		.busy_ns = atomic64_read(&from->busy_ns),
	};
	int err = unpu_check_dev_query(args, UNPU_V1_DEV_STATS, 1);

	return err ? err : unpu_query_answer(args, &stats, sizeof(stats));
}

static int unpu_query_shaders(struct unpu_device *udev, struct drm_unpu_dev_query *args)
{
	int err = unpu_check_dev_query(args, sizeof(*udev->shaders), sizeof(*udev->shaders));

	return err ? err : unpu_query_answer(args, udev->shaders,
					udev->num_shaders * sizeof(*udev->shaders));
}

static int unpu_ioctl_dev_query(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_dev_query *args = data;

	switch (args->type) {
	case DRM_UNPU_QUERY_DEV_INFO:
		return unpu_query_info(udev, args);
	case DRM_UNPU_QUERY_DEV_STATS:
		return unpu_query_stats(udev, args);
	case DRM_UNPU_QUERY_DEV_SHADERS:
		return unpu_query_shaders(udev, args);
	}
	return -EINVAL;
}

/* ---- files --------------------------------------------------------------------------------- */

static void unpu_usage_release(struct kref *ref)
{
	kfree(container_of(ref, struct unpu_usage, ref));
}

struct unpu_usage *unpu_usage_get(struct unpu_usage *usage)
{
	kref_get(&usage->ref);
	return usage;
}

void unpu_usage_put(struct unpu_usage *usage)
{
	kref_put(&usage->ref, unpu_usage_release);
}

static int unpu_open(struct drm_device *drm, struct drm_file *file)
{
	struct unpu_usage *usage = kzalloc(sizeof(*usage), GFP_KERNEL_ACCOUNT);
	struct unpu_file *ufile = kzalloc(sizeof(*ufile), GFP_KERNEL_ACCOUNT);

	if (!usage || !ufile) {
		kfree(usage);
		kfree(ufile);
		return -ENOMEM;
	}
	kref_init(&usage->ref);
	ufile->udev = to_unpu_device(drm);
	ufile->usage = usage;
	xa_init_flags(&ufile->ctxs, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	xa_init_flags(&ufile->shaders, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	xa_init_flags(&ufile->programs, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	file->driver_priv = ufile;
	return 0;
}

/* The core has dropped the handles of buffers; jobs go on to their end without the file. */
static void unpu_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct unpu_file *ufile = file->driver_priv;
	struct unpu_program *program;
	struct unpu_shader *shader;
	struct unpu_ctx *ctx;
	unsigned long id;

	xa_for_each(&ufile->ctxs, id, ctx) {
		unpu_ctx_kill(ctx);
		unpu_ctx_put(ctx);
	}
	xa_for_each(&ufile->programs, id, program)
		unpu_program_put(program);
	xa_for_each(&ufile->shaders, id, shader)
		unpu_shader_put(shader);
	xa_destroy(&ufile->ctxs);
	xa_destroy(&ufile->programs);
	xa_destroy(&ufile->shaders);
	unpu_usage_put(ufile->usage);
	kfree(ufile);
}

/* What a file has of one heap; all of it is resident, always. */
static void unpu_show_heap(struct drm_printer *p, struct drm_file *file, u32 flags,
			   const char *name)
{
	struct drm_gem_object *obj;
	u64 total = 0, shared = 0;
	int id;

	spin_lock(&file->table_lock);
	idr_for_each_entry(&file->object_idr, obj, id) {
		if (to_unpu_bo(obj)->flags != flags)
			continue;
		total += obj->size;
		if (obj->handle_count > 1)
			shared += obj->size;
	}
	spin_unlock(&file->table_lock);
	drm_printf(p, "drm-total-%s:\t%llu KiB\n", name, total >> 10);
	drm_printf(p, "drm-shared-%s:\t%llu KiB\n", name, shared >> 10);
	drm_printf(p, "drm-resident-%s:\t%llu KiB\n", name, total >> 10);
}

static void unpu_show_fdinfo(struct drm_printer *p, struct drm_file *file)
{
	const struct unpu_file *ufile = file->driver_priv;

	drm_printf(p, "drm-engine-compute:\t%lld ns\n", atomic64_read(&ufile->usage->busy_ns));
	unpu_show_heap(p, file, DRM_UNPU_BO_MMAP, "window");
	unpu_show_heap(p, file, 0, "device");
	drm_printf(p, "unpu-jobs:\t%lld\n", atomic64_read(&ufile->usage->jobs));
}

/* ---- the DRM driver ------------------------------------------------------------------------ */

#define UNPU_IOCTL(__name, __func)	DRM_IOCTL_DEF_DRV(UNPU_##__name, __func, DRM_RENDER_ALLOW)
/* Without results: what is over does not fail for a caller's memory that cannot be written. */
#define UNPU_IOCTL_IN(__name, __func) \
	[DRM_IOCTL_NR(DRM_IOCTL_UNPU_##__name) - DRM_COMMAND_BASE] = { \
		.cmd = DRM_IOCTL_UNPU_##__name & ~IOC_OUT, \
		.func = __func, \
		.flags = DRM_RENDER_ALLOW, \
		.name = "UNPU_" #__name, \
	}

static const struct drm_ioctl_desc unpu_ioctls[] = {
	UNPU_IOCTL(DEV_QUERY, unpu_ioctl_dev_query),
	UNPU_IOCTL(BO_CREATE, unpu_ioctl_bo_create),
	UNPU_IOCTL(BO_MMAP_OFFSET, unpu_ioctl_bo_mmap_offset),
	UNPU_IOCTL(CTX_CREATE, unpu_ioctl_ctx_create),
	UNPU_IOCTL_IN(CTX_DESTROY, unpu_ioctl_ctx_destroy),
	UNPU_IOCTL(CTX_QUERY, unpu_ioctl_ctx_query),
	UNPU_IOCTL(SHADER_CREATE, unpu_ioctl_shader_create),
	UNPU_IOCTL_IN(SHADER_DESTROY, unpu_ioctl_shader_destroy),
	UNPU_IOCTL(PROGRAM_CREATE, unpu_ioctl_program_create),
	UNPU_IOCTL_IN(PROGRAM_DESTROY, unpu_ioctl_program_destroy),
	UNPU_IOCTL(SUBMIT, unpu_ioctl_submit),
};

/* A kernel without accel nodes, as Android's, gets the same driver as a render node. */
#if UNPU_ACCEL_NODE
#define NODE_FEATURE	DRIVER_COMPUTE_ACCEL
static const struct file_operations unpu_fops = {
	.owner = THIS_MODULE,
	DRM_ACCEL_FOPS,
	.show_fdinfo = drm_show_fdinfo,
};
#else
#define NODE_FEATURE	DRIVER_RENDER
static const struct file_operations unpu_fops = {
	.owner = THIS_MODULE,
	DRM_GEM_FOPS,
	.show_fdinfo = drm_show_fdinfo,
};
#endif

static const struct drm_driver unpu_driver = {
	.driver_features = NODE_FEATURE | DRIVER_GEM | DRIVER_SYNCOBJ | DRIVER_SYNCOBJ_TIMELINE,
	.open = unpu_open,
	.postclose = unpu_postclose,
	.gem_prime_import = unpu_gem_prime_import,
	.show_fdinfo = unpu_show_fdinfo,
	.ioctls = unpu_ioctls,
	.num_ioctls = ARRAY_SIZE(unpu_ioctls),
	.fops = &unpu_fops,
	.name = "unpu",
	.desc = "neural processing unit",
	.major = 1,
};

/* ---- probe and remove ---------------------------------------------------------------------- */

struct unpu_device *unpu_device_create(struct device *parent, const struct unpu_hw_ops *hw)
{
	struct unpu_device *udev;
	int err;

	udev = devm_drm_dev_alloc(parent, &unpu_driver, struct unpu_device, drm);
	if (IS_ERR(udev))
		return udev;
	udev->hw = hw;
	atomic_set(&udev->epoch, 1);
	err = drmm_mutex_init(&udev->drm, &udev->heap_lock);
	if (!err)
		err = unpu_sched_dev_init(udev);
	return err ? ERR_PTR(err) : udev;
}

static void unpu_at_most(u32 *value, u32 most)
{
	*value = clamp(*value, 1u, most);
}

/* Whatever the device says, no count of it makes the driver index or allocate beyond these. */
static void unpu_limit_info(struct unpu_device *udev)
{
	struct drm_unpu_dev_info *info = &udev->info;
	u64 bo_bytes;

	unpu_at_most(&info->max_dispatches, UNPU_MAX_DISPATCHES);
	unpu_at_most(&info->max_bindings, UNPU_MAX_BINDINGS);
	unpu_at_most(&info->max_buffers, UNPU_MAX_BUFFERS);
	unpu_at_most(&info->max_spec_words, UNPU_MAX_SPEC_WORDS);
	unpu_at_most(&info->max_const_bytes, UNPU_MAX_CONST_BYTES);
	unpu_at_most(&info->max_programs, UNPU_MAX_RUNS);
	unpu_at_most(&info->max_syncs, UNPU_MAX_SYNCS);
	unpu_at_most(&info->max_contexts, UNPU_MAX_CONTEXTS);
	unpu_at_most(&info->max_queued_jobs, UNPU_MAX_QUEUED_JOBS);
	info->num_matrices = min_t(u32, info->num_matrices, DRM_UNPU_MAX_MATRICES);
	info->heap_window_bytes = min(info->heap_window_bytes, udev->heap_bytes);
	/* Its page-aligned size fits the type in which the core keeps it, and no sum overflows. */
	bo_bytes = max(info->heap_window_bytes, info->heap_device_bytes);
	bo_bytes = min3(info->max_bo_bytes, bo_bytes, (u64)(SIZE_MAX >> 1));
	info->max_bo_bytes = bo_bytes & PAGE_MASK;
	info->max_binding_bytes = min(info->max_binding_bytes, info->max_bo_bytes);
	info->max_timeout_ns = clamp(info->max_timeout_ns, 1ull, MAX_TIMEOUT_NS);
	info->max_job_time_ns = clamp(info->max_job_time_ns, 1ull, MAX_JOB_TIME_NS);
	info->default_timeout_ns = clamp(info->default_timeout_ns, 1ull, info->max_timeout_ns);
	info->name[sizeof(info->name) - 1] = 0;
}

int unpu_device_register(struct unpu_device *udev)
{
	int err;

	err = udev->hw->init(udev);
	if (err)
		goto err_dead;
	unpu_limit_info(udev);
	err = drm_dev_register(&udev->drm, 0);
	if (err)
		goto err_fini;
	drm_info(&udev->drm, "%s: %s, window %llu MiB, device %llu MiB, %u shaders\n",
		 udev->hw->name, udev->info.name, udev->info.heap_window_bytes >> 20,
		 udev->info.heap_device_bytes >> 20, udev->num_shaders);
	return 0;

err_fini:
	WRITE_ONCE(udev->dead, true);
	udev->hw->fini(udev);
err_dead:
	/* It may have been lost meanwhile; what would get it back is not there any more. */
	WRITE_ONCE(udev->dead, true);
	cancel_delayed_work_sync(&udev->lost_work);
	return err;
}

/*
 * `dead` ends the waits for the device, so that the sections of drm_dev_enter() end, for which
 * drm_dev_unplug() waits. Fences signal before the hardware side goes: a silent device does not
 * delay them. What the reset queue still holds touches the bus device, which goes after this.
 */
void unpu_device_remove(struct unpu_device *udev)
{
	WRITE_ONCE(udev->dead, true);
	drm_dev_unplug(&udev->drm);
	unpu_device_lost(udev);
	udev->hw->fini(udev);
	flush_workqueue(udev->reset_wq);
}

/* The device may be without power after this, and so without memory. */
int unpu_device_suspend(struct unpu_device *udev)
{
	udev->hw->suspend(udev);
	unpu_device_lost(udev);
	/* It is not reset before the resume. */
	cancel_delayed_work_sync(&udev->lost_work);
	return 0;
}

int unpu_device_resume(struct unpu_device *udev)
{
	u32 losses;

	/* What a watchdog queued in between would attach once more under the first clients. */
	cancel_delayed_work_sync(&udev->lost_work);
	losses = READ_ONCE(udev->losses);
	if (udev->hw->resume(udev) || !unpu_device_found(udev, losses))
		unpu_device_lost(udev);
	return 0;
}

/* ---- the module ---------------------------------------------------------------------------- */

static int __init unpu_init(void)
{
	int err;

	unpu_release_wq = alloc_workqueue("unpu-release", WQ_UNBOUND, 0);
	if (!unpu_release_wq)
		return -ENOMEM;
	err = unpu_pci_register();
	if (err)
		goto err_wq;
	err = unpu_mock_register();
	if (err)
		goto err_pci;
	return 0;

err_pci:
	unpu_pci_unregister();
err_wq:
	destroy_workqueue(unpu_release_wq);
	return err;
}

/*
 * Devices are released by works, so these end first; then the callbacks in which fences free
 * themselves and let go of the module.
 */
static void __exit unpu_exit(void)
{
	unpu_mock_unregister();
	unpu_pci_unregister();
	destroy_workqueue(unpu_release_wq);
	rcu_barrier();
}

module_init(unpu_init);
module_exit(unpu_exit);

MODULE_DESCRIPTION("unpu: neural processing units, first of all a virtual one");
MODULE_LICENSE("GPL");
