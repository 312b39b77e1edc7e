// SPDX-License-Identifier: GPL-2.0-only
/*
 * SUBMIT: what it names is copied, checked and referenced, all memory it will need is allocated,
 * and only then comes the push, after which nothing can fail.
 */
#include <linux/dma-fence-chain.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>
#include <drm/drm_syncobj.h>

#include "unpu_drv.h"

#define NO_RUN	(~0u)

/* What the job's end will signal. */
struct unpu_signal {
	struct drm_syncobj *syncobj;
	struct dma_fence_chain *chain;	/* NULL: binary */
	u64 point;
};

struct unpu_submission {
	struct drm_file *file;
	struct unpu_device *udev;
	struct unpu_job *job;
	const struct drm_unpu_submit *args;
	struct drm_unpu_sync syncs[UNPU_MAX_SYNCS];
	struct unpu_signal signals[UNPU_MAX_SYNCS];
	u32 num_signals;
	u32 error_index;
};

static int unpu_submission_add_run(struct unpu_submission *sub, u32 i, u64 *total)
{
	struct unpu_job *job = sub->job;
	struct unpu_program *program;
	struct drm_unpu_run run;
	int err;

	err = unpu_copy_element(&run, sizeof(run), &sub->args->runs, i);
	if (err)
		return err;
	program = unpu_program_find(sub->file->driver_priv, run.program_id);
	if (!program)
		return -ENOENT;
	job->runs[job->num_runs].program = program;
	job->runs[job->num_runs++].repeat = run.repeat;
	job->repeats += run.repeat;
	if (program->epoch != job->ctx->epoch)
		return -ESTALE;
	return unpu_check_run(&run, program->num_dispatches, total, &sub->udev->info);
}

static int unpu_submission_add_runs(struct unpu_submission *sub)
{
	u64 total = 0;
	u32 i;
	int err;

	for (i = 0; i < sub->args->runs.count; i++) {
		err = unpu_submission_add_run(sub, i, &total);
		if (err) {
			sub->error_index = i;
			return err;
		}
	}
	return 0;
}

static int unpu_submission_copy_syncs(struct unpu_submission *sub)
{
	u32 count = sub->args->syncs.count;
	u32 i;
	int err;

	for (i = 0; i < count; i++) {
		err = unpu_copy_element(&sub->syncs[i], sizeof(sub->syncs[i]), &sub->args->syncs,
					i);
		if (err)
			return err;
	}
	return unpu_check_syncs(sub->syncs, count);
}

/* drm_sched_job_add_syncobj_dependency() would cut the point to 32 bits. */
static int unpu_submission_add_wait(struct unpu_submission *sub, const struct drm_unpu_sync *sync)
{
	struct dma_fence *fence;
	int err;

	err = drm_syncobj_find_fence(sub->file, sync->handle, sync->point, 0, &fence);
	if (err)
		return err;
	/* Takes the reference over, on error too. */
	return drm_sched_job_add_dependency(&sub->job->base, fence);
}

/* 0: the syncobj is no timeline so far. */
static u64 unpu_last_point(struct drm_syncobj *syncobj)
{
	struct dma_fence *fence = drm_syncobj_fence_get(syncobj);
	u64 point = fence && dma_fence_is_chain(fence) ? fence->seqno : 0;

	dma_fence_put(fence);
	return point;
}

/* Points of one timeline rise within one call, too, whatever handle names it. */
static bool unpu_signal_in_order(const struct unpu_submission *sub,
				 const struct unpu_signal *signal)
{
	u32 i;

	for (i = 0; i < sub->num_signals; i++)
		if (sub->signals[i].syncobj == signal->syncobj &&
		    signal->point && signal->point <= sub->signals[i].point)
			return false;
	/*
	 * Two callers who signal one point at once both come past this: the core then moves the
	 * later one up, as it does for TIMELINE_SIGNAL.
	 */
	return !signal->point || signal->point > unpu_last_point(signal->syncobj);
}

static int unpu_submission_add_signal(struct unpu_submission *sub, const struct drm_unpu_sync *sync)
{
	struct unpu_signal *signal = &sub->signals[sub->num_signals];

	signal->syncobj = drm_syncobj_find(sub->file, sync->handle);
	if (!signal->syncobj)
		return -ENOENT;
	signal->point = sync->point;
	if (!unpu_signal_in_order(sub, signal)) {
		drm_syncobj_put(signal->syncobj);
		return -EINVAL;
	}
	sub->num_signals++;
	if (!signal->point)
		return 0;
	signal->chain = dma_fence_chain_alloc();
	return signal->chain ? 0 : -ENOMEM;
}

static int unpu_submission_add_syncs(struct unpu_submission *sub)
{
	u32 i;
	int err;

	err = unpu_submission_copy_syncs(sub);
	for (i = 0; i < sub->args->syncs.count && !err; i++) {
		if (sub->syncs[i].flags == DRM_UNPU_SYNC_WAIT)
			err = unpu_submission_add_wait(sub, &sub->syncs[i]);
		else
			err = unpu_submission_add_signal(sub, &sub->syncs[i]);
	}
	return err;
}

/* Cannot fail: the chains are there. */
static void unpu_submission_signal(struct unpu_submission *sub, struct dma_fence *out)
{
	struct unpu_signal *signal;
	u32 i;

	for (i = 0; i < sub->num_signals; i++) {
		signal = &sub->signals[i];
		if (signal->chain)
			drm_syncobj_add_point(signal->syncobj, signal->chain, out, signal->point);
		else
			drm_syncobj_replace_fence(signal->syncobj, out);
		signal->chain = NULL;
	}
}

static void unpu_submission_finish(struct unpu_submission *sub)
{
	u32 i;

	for (i = 0; i < sub->num_signals; i++) {
		dma_fence_chain_free(sub->signals[i].chain);
		drm_syncobj_put(sub->signals[i].syncobj);
	}
	if (sub->job)
		unpu_job_free(sub->job);
}

/*
 * Only this is in the section: the caller's memory may take as long to read as its owner likes, and
 * an unplug, of any DRM device, waits for it.
 */
static int unpu_submission_push(struct unpu_submission *sub, u64 *seqno)
{
	struct dma_fence *out;
	int idx, err;

	if (!drm_dev_enter(&sub->udev->drm, &idx))
		return -ENODEV;
	err = unpu_job_push(sub->job, &out, seqno);
	drm_dev_exit(idx);
	if (err)
		return err;
	sub->job = NULL;
	unpu_submission_signal(sub, out);
	dma_fence_put(out);
	return 0;
}

/* Here only so that a lost context is -EIO before its programs are -ESTALE; the push decides. */
static bool unpu_ctx_takes_jobs(struct unpu_ctx *ctx)
{
	bool takes;

	spin_lock(&ctx->lock);
	takes = unpu_ctx_state(ctx) == DRM_UNPU_CTX_OK;
	spin_unlock(&ctx->lock);
	return takes;
}

static int unpu_submission_run(struct unpu_submission *sub, struct unpu_ctx *ctx, u64 *seqno)
{
	struct unpu_job *job;
	int err;

	if (!unpu_ctx_takes_jobs(ctx))
		return drm_dev_is_unplugged(&sub->udev->drm) ? -ENODEV : -EIO;
	job = unpu_job_create(ctx, sub->file);
	if (IS_ERR(job))
		return PTR_ERR(job);
	sub->job = job;
	err = unpu_submission_add_runs(sub);
	if (!err)
		err = unpu_submission_add_syncs(sub);
	return err ? err : unpu_submission_push(sub, seqno);
}

int unpu_ioctl_submit(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_submit *args = data;
	struct unpu_submission sub = {
		.file = file, .udev = udev, .args = args, .error_index = NO_RUN,
	};
	struct unpu_ctx *ctx;
	u64 seqno = 0;
	int err;

	args->error_index = NO_RUN;
	err = unpu_check_submit(args, &udev->info);
	if (err)
		return err;
	ctx = unpu_ctx_find(file->driver_priv, args->ctx_id);
	if (!ctx)
		return -ENOENT;
	err = unpu_submission_run(&sub, ctx, &seqno);
	unpu_submission_finish(&sub);
	if (!err)
		args->seqno = seqno;
	args->error_index = sub.error_index;
	unpu_ctx_put(ctx);
	return err;
}
