/* SPDX-License-Identifier: MIT */
/* Contexts of in-process devices and the jobs in their queues. */
#include <errno.h>
#include <stdlib.h>

#include "runtime/device/inproc_priv.h"
#include "uapi/unpu_check.h"

#define NO_RUN	UINT32_MAX

/* ---- contexts ------------------------------------------------------------------------------ */

static void ctx_add(struct inproc *dev, struct inproc_ctx *ctx)
{
	ctx->next = dev->all_ctxs;
	dev->all_ctxs = ctx;
}

static void ctx_remove(struct inproc *dev, struct inproc_ctx *ctx)
{
	struct inproc_ctx **at = &dev->all_ctxs;

	while (*at != ctx)
		at = &(*at)->next;
	*at = ctx->next;
}

void unpu_inproc_ctx_put(struct inproc *dev, struct inproc_ctx *ctx)
{
	if (--ctx->refs)
		return;
	unpu_table_remove(&dev->ctxs, ctx->id);
	ctx_remove(dev, ctx);
	free(ctx);
}

static int ctx_create(struct inproc *dev, struct inproc_ctx *ctx, uint32_t *id)
{
	int err;

	if (dev->num_ctxs >= dev->info.max_contexts)
		return -ENOSPC;
	err = unpu_inproc_threads_start(dev);
	if (!err)
		err = unpu_table_add(&dev->ctxs, ctx, &ctx->id);
	if (err)
		return err;
	ctx_add(dev, ctx);
	dev->num_ctxs++;
	*id = ctx->id;
	return 0;
}

static struct inproc_ctx *ctx_get(const struct inproc *dev, uint32_t id)
{
	struct inproc_ctx *ctx = unpu_table_get(&dev->ctxs, id);

	return ctx && !ctx->destroyed ? ctx : NULL;
}

int unpu_inproc_ctx_create(struct unpu_device *base, struct drm_unpu_ctx_create *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_ctx *ctx;
	int err;

	err = unpu_check_ctx_create(args, &dev->info);
	if (err)
		return unpu_inproc_refuse(dev, "CTX_CREATE", err);
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return unpu_inproc_refuse(dev, "CTX_CREATE", -ENOMEM);
	ctx->refs = 1;
	ctx->priority = args->priority;
	ctx->timeout_ns = args->timeout_ns ? args->timeout_ns : dev->info.default_timeout_ns;
	ctx->tail = &ctx->head;
	atomic_init(&ctx->cancel, INPROC_GO_ON);
	unpu_inproc_lock(dev);
	err = ctx_create(dev, ctx, &args->ctx_id);
	unpu_inproc_unlock_quickly(dev);
	if (!err)
		return 0;
	free(ctx);
	return unpu_inproc_refuse(dev, "CTX_CREATE", err);
}

void unpu_inproc_ctx_kill(struct inproc *dev, struct inproc_ctx *ctx)
{
	ctx->destroyed = true;
	dev->num_ctxs--;
	if (dev->running == ctx)
		atomic_store(&ctx->cancel, INPROC_DESTROYED);
	else
		unpu_inproc_ctx_cancel(dev, ctx, -ECANCELED, -ECANCELED);
	unpu_inproc_ctx_put(dev, ctx);
}

int unpu_inproc_ctx_destroy(struct unpu_device *base, struct drm_unpu_ctx_destroy *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_ctx *ctx;
	int err;

	err = unpu_check_ctx_destroy(args);
	if (err)
		return unpu_inproc_refuse(dev, "CTX_DESTROY", err);
	unpu_inproc_lock(dev);
	ctx = ctx_get(dev, args->ctx_id);
	if (ctx)
		unpu_inproc_ctx_kill(dev, ctx);
	unpu_inproc_unlock_quickly(dev);
	return ctx ? 0 : unpu_inproc_refuse(dev, "CTX_DESTROY", -ENOENT);
}

int unpu_inproc_ctx_query(struct unpu_device *base, struct drm_unpu_ctx_query *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_ctx *ctx;
	int err;

	err = unpu_check_ctx_query(args);
	if (err)
		return unpu_inproc_refuse(dev, "CTX_QUERY", err);
	unpu_inproc_lock(dev);
	ctx = ctx_get(dev, args->ctx_id);
	if (ctx) {
		args->state = ctx->state;
		args->completed_seqno = ctx->completed;
		args->failed_seqno = ctx->failed;
		args->failed_errno = ctx->failed_errno;
		args->busy_ns = ctx->busy_ns;
		args->queued_ns = ctx->queued_ns;
	}
	unpu_inproc_unlock_quickly(dev);
	return ctx ? 0 : unpu_inproc_refuse(dev, "CTX_QUERY", -ENOENT);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

/* Jobs are kept for reuse: after the first few submits none is allocated. */
static void job_release(struct unpu_fence *fence)
{
	struct inproc_job *job = (struct inproc_job *)fence;

	job->next = job->dev->free_jobs;
	job->dev->free_jobs = job;
}

static struct inproc_job *job_create(struct inproc *dev)
{
	struct inproc_job *job = dev->free_jobs;

	if (job) {
		dev->free_jobs = job->next;
	} else {
		job = malloc(sizeof(*job));
		if (!job)
			return NULL;
	}
	*job = (struct inproc_job){
		.fence = { .refs = 1, .release = job_release },
		.dev = dev,
	};
	return job;
}

/* Gives back what the job holds besides its context and its points. */
static void job_drop(struct inproc *dev, struct inproc_job *job)
{
	uint32_t i;

	for (i = 0; i < job->num_runs; i++)
		unpu_inproc_program_put(dev, job->runs[i].program);
	for (i = 0; i < job->num_waits; i++)
		unpu_wait_finish(&job->waits[i]);
	job->num_runs = 0;
	job->num_waits = 0;
}

static void count_end(struct inproc *dev, struct inproc_ctx *ctx, uint64_t seqno, int error)
{
	ctx->completed = seqno;
	dev->stats.jobs_completed++;
	if (!error)
		return;
	ctx->failed = seqno;
	ctx->failed_errno = error;
	if (error == -ECANCELED)
		dev->stats.jobs_cancelled++;
	else if (error == -ETIME)
		dev->stats.jobs_timed_out++;
	else
		dev->stats.jobs_failed++;
}

void unpu_inproc_job_end(struct inproc *dev, struct inproc_ctx *ctx, int error)
{
	struct inproc_job *job = ctx->head;
	uint32_t i;

	ctx->head = job->next;
	if (!ctx->head)
		ctx->tail = &ctx->head;
	ctx->queued--;
	count_end(dev, ctx, job->seqno, error);
	if (!job->started)
		ctx->queued_ns += unpu_inproc_now() - job->submit_ns;
	job_drop(dev, job);
	if (dev->watch.job_end)
		dev->watch.job_end(dev->watch.arg, ctx->id, job->seqno, error, job->busy_ns);
	job->fence.error = error;
	job->fence.done = true;
	for (i = 0; i < job->num_points; i++)
		unpu_point_signal(&job->points[i]);
	unpu_fence_put(&job->fence);
	unpu_inproc_ctx_put(dev, ctx);
	pthread_cond_broadcast(&dev->changed);
	pthread_cond_signal(&dev->work);	/* what waited for this job */
}

void unpu_inproc_ctx_cancel(struct inproc *dev, struct inproc_ctx *ctx, int error, int rest)
{
	while (ctx->head) {
		unpu_inproc_job_end(dev, ctx, error);
		error = rest;
	}
}

/* ---- submission ---------------------------------------------------------------------------- */

/* SUBMIT as it goes: the caller's arrays copied, then looked up under the lock. */
struct submission {
	struct drm_unpu_submit *args;
	struct drm_unpu_run runs[INPROC_MAX_PROGRAMS];
	struct drm_unpu_sync syncs[INPROC_MAX_SYNCS];
	struct unpu_syncobj *objs[INPROC_MAX_SYNCS];
	struct inproc_ctx *ctx;
	struct inproc_job *job;
	uint32_t error_index;
};

static int submission_copy(struct inproc *dev, struct submission *sub)
{
	const struct drm_unpu_submit *args = sub->args;
	uint32_t i;
	int err;

	err = unpu_check_submit(args, &dev->info);
	if (err)
		return err;
	if (!unpu_inproc_pointer(args->runs.ptr) ||
	    (args->syncs.count && !unpu_inproc_pointer(args->syncs.ptr)))
		return -EFAULT;
	for (i = 0; i < args->runs.count && !err; i++) {
		err = unpu_inproc_copy_element(&sub->runs[i], sizeof(sub->runs[i]), &args->runs, i);
		if (err)
			sub->error_index = i;
	}
	for (i = 0; i < args->syncs.count && !err; i++)
		err = unpu_inproc_copy_element(&sub->syncs[i], sizeof(sub->syncs[i]), &args->syncs,
					       i);
	return err ? err : unpu_check_syncs(sub->syncs, args->syncs.count);
}

static int submission_add_runs(struct inproc *dev, struct submission *sub)
{
	struct inproc_job *job = sub->job;
	struct inproc_program *program;
	__u64 total = 0;
	uint64_t repeats = 0;
	uint32_t i;
	int err;

	for (i = 0; i < sub->args->runs.count; i++) {
		sub->error_index = i;
		program = unpu_table_get(&dev->programs, sub->runs[i].program_id);
		if (!program)
			return -ENOENT;
		err = unpu_check_run(&sub->runs[i], program->base.num_dispatches, &total,
				     &dev->info);
		if (err)
			return err;
		atomic_fetch_add(&program->base.refs, 1);
		job->runs[i] = (struct inproc_run){ program, sub->runs[i].repeat };
		job->num_runs++;
		repeats += sub->runs[i].repeat;
	}
	sub->error_index = NO_RUN;
	job->limit_ns = dev->info.max_job_time_ns;
	if (sub->ctx->timeout_ns < job->limit_ns / repeats)
		job->limit_ns = repeats * sub->ctx->timeout_ns;
	return 0;
}

static int submission_add_sync(struct inproc *dev, struct submission *sub, uint32_t i)
{
	const struct drm_unpu_sync *sync = &sub->syncs[i];
	struct inproc_job *job = sub->job;
	int err;

	sub->objs[i] = unpu_table_get(&dev->syncobjs, sync->handle);
	if (!sub->objs[i])
		return -ENOENT;
	if (sync->flags == DRM_UNPU_SYNC_SIGNAL)
		return unpu_point_check(sub->objs[i], sync->point);
	err = unpu_wait_init(&job->waits[job->num_waits], sub->objs[i], sync->point);
	if (!err)
		job->num_waits++;
	return err;
}

/* Points of one timeline rise within one call, too. */
static int check_order(const struct submission *sub, uint32_t count)
{
	uint32_t i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < i; j++)
			if (sub->syncs[i].flags & sub->syncs[j].flags & DRM_UNPU_SYNC_SIGNAL &&
			    sub->objs[i] == sub->objs[j] && sub->syncs[i].point &&
			    sub->syncs[i].point < sub->syncs[j].point)
				return -EINVAL;
	return 0;
}

static int submission_look_up(struct inproc *dev, struct submission *sub)
{
	uint32_t count = sub->args->syncs.count;
	uint32_t i;
	int err;

	sub->ctx = ctx_get(dev, sub->args->ctx_id);
	if (!sub->ctx)
		return -ENOENT;
	if (sub->ctx->state != DRM_UNPU_CTX_OK)
		return -EIO;
	sub->job = job_create(dev);
	if (!sub->job)
		return -ENOMEM;
	err = submission_add_runs(dev, sub);
	for (i = 0; i < count && !err; i++)
		err = submission_add_sync(dev, sub, i);
	if (!err)
		err = check_order(sub, count);
	if (!err && sub->ctx->queued >= dev->info.max_queued_jobs)
		err = -EBUSY;
	return err;
}

/* Nothing below may fail. */
static void submission_commit(struct inproc *dev, struct submission *sub)
{
	struct inproc_ctx *ctx = sub->ctx;
	struct inproc_job *job = sub->job;
	uint32_t i;

	job->ctx = ctx;
	job->seqno = ++ctx->submitted;
	job->submit_ns = unpu_inproc_now();
	ctx->refs++;
	ctx->queued++;
	*ctx->tail = job;
	ctx->tail = &job->next;
	for (i = 0; i < sub->args->syncs.count; i++)
		if (sub->syncs[i].flags == DRM_UNPU_SYNC_SIGNAL)
			unpu_point_add(&job->points[job->num_points++], sub->objs[i],
				       sub->syncs[i].point, &job->fence);
	dev->stats.jobs_submitted++;
	sub->args->seqno = job->seqno;
	pthread_cond_signal(&dev->work);
}

int unpu_inproc_submit(struct unpu_device *base, struct drm_unpu_submit *args)
{
	struct inproc *dev = to_inproc(base);
	struct submission sub = { .args = args, .error_index = NO_RUN };
	int err;

	err = submission_copy(dev, &sub);
	if (!err) {
		unpu_inproc_lock(dev);
		err = submission_look_up(dev, &sub);
		if (!err) {
			submission_commit(dev, &sub);
		} else if (sub.job) {
			job_drop(dev, sub.job);
			unpu_fence_put(&sub.job->fence);
		}
		unpu_inproc_unlock_quickly(dev);
	}
	args->error_index = sub.error_index;
	/* A full queue is a state, not a mistake: no message. */
	return err && err != -EBUSY ? unpu_inproc_refuse(dev, "SUBMIT", err) : err;
}
