// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contexts: the id, the state and the end. What happens between the two to its jobs is told in
 * unpu_sched.c.
 */
#include <linux/capability.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>

#include "unpu_drv.h"

/* ---- references ---------------------------------------------------------------------------- */

/* One that has no scheduler, or no more. */
static void unpu_ctx_free(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;

	unpu_usage_put(ctx->usage);
	kfree(ctx);
	drm_dev_put(&udev->drm);
}

static void unpu_ctx_release_work(struct work_struct *work)
{
	struct unpu_ctx *ctx = container_of(work, struct unpu_ctx, release_work);
	struct unpu_device *udev = ctx->udev;

	spin_lock(&udev->ctx_lock);
	list_del_init(&ctx->link);
	spin_unlock(&udev->ctx_lock);
	unpu_sched_ctx_fini(ctx);
	unpu_ctx_free(ctx);
}

/* The last reference may go in free_job, on the queue that drm_sched_fini() waits for. */
static void unpu_ctx_release(struct kref *ref)
{
	struct unpu_ctx *ctx = container_of(ref, struct unpu_ctx, ref);

	queue_work(unpu_release_wq, &ctx->release_work);
}

struct unpu_ctx *unpu_ctx_get(struct unpu_ctx *ctx)
{
	kref_get(&ctx->ref);
	return ctx;
}

void unpu_ctx_put(struct unpu_ctx *ctx)
{
	if (ctx)
		kref_put(&ctx->ref, unpu_ctx_release);
}

struct unpu_ctx *unpu_ctx_find(struct unpu_file *ufile, u32 id)
{
	struct unpu_ctx *ctx;

	xa_lock(&ufile->ctxs);
	ctx = xa_load(&ufile->ctxs, id);
	if (ctx)
		kref_get(&ctx->ref);
	xa_unlock(&ufile->ctxs);
	return ctx;
}

/* ---- the end ------------------------------------------------------------------------------- */

void unpu_ctx_kill(struct unpu_ctx *ctx)
{
	/* It was nobody's fault: the state, which nobody can ask for any more, stays. */
	unpu_ctx_end_jobs(ctx, DRM_UNPU_CTX_OK, -ECANCELED);
}

/* ---- ioctls -------------------------------------------------------------------------------- */

static struct unpu_ctx *unpu_ctx_alloc(struct unpu_file *ufile,
				       const struct drm_unpu_ctx_create *args)
{
	struct unpu_ctx *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	struct unpu_device *udev = ufile->udev;

	if (!ctx)
		return NULL;
	kref_init(&ctx->ref);
	drm_dev_get(&udev->drm);
	ctx->udev = udev;
	ctx->usage = unpu_usage_get(ufile->usage);
	INIT_LIST_HEAD(&ctx->link);
	ctx->priority = args->priority;
	ctx->timeout_ns = args->timeout_ns ?: udev->info.default_timeout_ns;
	INIT_WORK(&ctx->release_work, unpu_ctx_release_work);
	return ctx;
}

/* A loss counts the epoch up before it walks the list: one of the two sees the other. */
static void unpu_ctx_link(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;

	spin_lock(&udev->ctx_lock);
	list_add_tail(&ctx->link, &udev->ctxs);
	if (ctx->epoch != atomic_read(&udev->epoch))
		ctx->state = DRM_UNPU_CTX_LOST;
	spin_unlock(&udev->ctx_lock);
}

/* Inside drm_dev_enter(); without an id yet. */
static struct unpu_ctx *unpu_ctx_create(struct unpu_file *ufile,
					const struct drm_unpu_ctx_create *args)
{
	struct unpu_ctx *ctx = unpu_ctx_alloc(ufile, args);
	struct unpu_device *udev = ufile->udev;
	int err;

	if (!ctx)
		return ERR_PTR(-ENOMEM);
	err = unpu_epoch_get(udev, &ctx->epoch);
	if (!err)
		err = udev->hw->ctx_create(udev, ctx);
	if (err)
		goto err_free;
	/* The device may have been lost and be back: it would keep one that nobody ends there. */
	err = -ENODEV;
	if (ctx->epoch != atomic_read(&udev->epoch))
		goto err_destroy;
	err = unpu_sched_ctx_init(ctx);
	if (err)
		goto err_destroy;
	unpu_ctx_link(ctx);
	return ctx;

err_destroy:
	udev->hw->ctx_destroy(udev, ctx, UNPU_CANCEL_MS);
err_free:
	unpu_ctx_free(ctx);
	return ERR_PTR(err);
}

static int unpu_ctx_publish(struct unpu_file *ufile, const struct drm_unpu_ctx_create *args,
			    u32 *id)
{
	struct unpu_ctx *ctx;
	int idx, err;

	if (!drm_dev_enter(&ufile->udev->drm, &idx))
		return -ENODEV;
	ctx = unpu_ctx_create(ufile, args);
	drm_dev_exit(idx);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	err = xa_alloc(&ufile->ctxs, id, ctx, xa_limit_31b, GFP_KERNEL);
	if (err) {
		unpu_ctx_kill(ctx);
		unpu_ctx_put(ctx);
	}
	return err;
}

int unpu_ioctl_ctx_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_ctx_create *args = data;
	struct unpu_file *ufile = file->driver_priv;
	int err;

	err = unpu_check_ctx_create(args, &udev->info);
	if (err)
		return err;
	if (args->priority == DRM_UNPU_PRIORITY_HIGH && !capable(CAP_SYS_NICE))
		return -EACCES;
	err = -ENOSPC;
	if (atomic_inc_return(&ufile->num_ctxs) <= udev->info.max_contexts)
		err = unpu_ctx_publish(ufile, args, &args->ctx_id);
	if (err)
		atomic_dec(&ufile->num_ctxs);
	return err;
}

int unpu_ioctl_ctx_destroy(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_unpu_ctx_destroy *args = data;
	struct unpu_file *ufile = file->driver_priv;
	struct unpu_ctx *ctx;
	int err;

	err = unpu_check_ctx_destroy(args);
	if (err)
		return err;
	ctx = xa_erase(&ufile->ctxs, args->ctx_id);
	if (!ctx)
		return -ENOENT;
	atomic_dec(&ufile->num_ctxs);
	unpu_ctx_kill(ctx);
	unpu_ctx_put(ctx);
	return 0;
}

int unpu_ioctl_ctx_query(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_unpu_ctx_query *args = data;
	struct unpu_ctx *ctx;
	int err;

	err = unpu_check_ctx_query(args);
	if (err)
		return err;
	ctx = unpu_ctx_find(file->driver_priv, args->ctx_id);
	if (!ctx)
		return -ENOENT;
	spin_lock(&ctx->lock);
	args->state = unpu_ctx_state(ctx);
	args->completed_seqno = ctx->completed;
	args->failed_seqno = ctx->failed;
	args->failed_errno = ctx->failed_errno;
	args->busy_ns = ctx->busy_ns;
	args->queued_ns = ctx->queued_ns;
	spin_unlock(&ctx->lock);
	unpu_ctx_put(ctx);
	return 0;
}
