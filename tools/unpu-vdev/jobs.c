/* SPDX-License-Identifier: MIT */
/* Contexts of the guest, one of the device each, and their jobs. */
#include <errno.h>
#include <string.h>

#include "tools/unpu-vdev/worker.h"

static void job_event(struct vdev_worker *w, uint32_t id, uint64_t seqno, int status,
		      uint64_t busy_ns)
{
	const struct unpu_proto_event event = {
		.type = UNPU_PROTO_EVENT_JOB, .id = id, .status = status, .value = seqno,
		.busy_ns = busy_ns,
	};

	vdev_event(w, &event);
}

static struct vdev_ctx *ctx_get(struct vdev_worker *w, uint32_t id)
{
	struct vdev_ctx *ctx = id < UNPU_PROTO_MAX_CTXS ? &w->ctxs[id] : NULL;

	return ctx && ctx->used ? ctx : NULL;
}

static uint32_t ctx_id(const struct vdev_worker *w, const struct vdev_ctx *ctx)
{
	return (uint32_t)(ctx - w->ctxs);
}

/* ---- what the device tells ------------------------------------------------------------------ */

/* The device gives no id again while jobs of its owner are on their way. */
static struct vdev_ctx *ctx_of_host(struct vdev_worker *w, uint32_t host)
{
	uint32_t i;

	for (i = 1; i < UNPU_PROTO_MAX_CTXS; i++)
		if (w->ctxs[i].used && w->ctxs[i].host == host && w->ctxs[i].num_jobs)
			return &w->ctxs[i];
	return NULL;
}

static void watch_progress(void *arg, uint32_t host, uint32_t done)
{
	struct vdev_worker *w = arg;
	struct vdev_ctx *ctx;

	(void)done;	/* 0, too, says that nothing hangs */
	vdev_lock(w);
	ctx = ctx_of_host(w, host);
	if (ctx)
		vdev_link_progress(&w->link, ctx_id(w, ctx), ++ctx->progress);
	vdev_unlock(w);
}

/* Nothing of the context runs any more. */
static void ctx_ended(struct vdev_worker *w, struct vdev_ctx *ctx)
{
	uint32_t i;

	for (i = 0; i < ctx->num_ends; i++)
		vdev_answer(w, ctx->ends[i], 0, 0);
	*ctx = (struct vdev_ctx){ 0 };
	w->report.contexts--;
	if (w->attaching)
		vdev_wake(w);
}

static void drop_programs(struct vdev_worker *w, struct vdev_job *job)
{
	uint32_t i;

	for (i = 0; i < job->num_programs; i++)
		vdev_object_put(w, job->programs[i]);
	job->num_programs = 0;
}

static void count_job(struct vdev_worker *w, uint32_t id, uint64_t seqno, int error,
		      uint64_t busy_ns)
{
	w->report.jobs++;
	w->report.busy_ns += busy_ns;
	if (!error || error == -ECANCELED)
		return;
	w->report.failed++;
	vdev_log_rarely("job %llu of context %u failed: %s", (unsigned long long)seqno, id,
			strerror(-error));
}

static void watch_job_end(void *arg, uint32_t host, uint64_t seqno, int error, uint64_t busy_ns)
{
	struct vdev_worker *w = arg;
	struct vdev_ctx *ctx;
	struct vdev_job job;

	(void)seqno;	/* jobs end in their order: it is the oldest */
	if (error == -ENODEV)
		vdev_die(VDEV_EXIT_LOST, "the device is lost");
	vdev_lock(w);
	ctx = ctx_of_host(w, host);
	if (ctx) {
		job = ctx->jobs[0];
		ctx->jobs[0] = ctx->jobs[1];
		ctx->num_jobs--;
		drop_programs(w, &job);
		vdev_link_progress(&w->link, ctx_id(w, ctx), ++ctx->progress);
		count_job(w, ctx_id(w, ctx), job.seqno, error, busy_ns);
		if (!w->attaching)
			job_event(w, ctx_id(w, ctx), job.seqno, error, busy_ns);
		if (ctx->ending && !ctx->num_jobs)
			ctx_ended(w, ctx);
	}
	if (error) {
		w->suspect = true;
		vdev_wake(w);
	}
	vdev_unlock(w);
}

const struct unpu_device_watch vdev_watch = {
	.progress = watch_progress,
	.job_end = watch_job_end,
};

/* ---- contexts ------------------------------------------------------------------------------- */

int vdev_ctx_create(struct vdev_worker *w, uint32_t id, const struct unpu_proto_ctx_create *from)
{
	struct drm_unpu_ctx_create args = {
		.priority = from->priority, .timeout_ns = from->timeout_ns,
	};
	bool used;
	int err;

	if (!id || id >= UNPU_PROTO_MAX_CTXS || from->pad)
		return -EINVAL;
	vdev_lock(w);
	used = w->ctxs[id].used;
	vdev_unlock(w);
	if (used)
		return -EEXIST;
	err = w->dev->ops->ctx_create(w->dev, &args);
	if (err)
		return err;
	vdev_lock(w);
	w->ctxs[id] = (struct vdev_ctx){ .used = true, .host = args.ctx_id };
	w->report.contexts++;
	vdev_unlock(w);
	return 0;
}

/* The device ends what is queued before this returns, a running job at its next dispatch. */
static void host_destroy(struct vdev_worker *w, uint32_t host)
{
	struct drm_unpu_ctx_destroy args = { .ctx_id = host };

	w->dev->ops->ctx_destroy(w->dev, &args);
}

/* True: it does not end yet, and host is to be destroyed. */
static bool ctx_end(struct vdev_worker *w, struct vdev_ctx *ctx, uint32_t *host)
{
	if (ctx->ending)
		return false;
	ctx->ending = true;
	ctx->told = vdev_now();
	*host = ctx->host;
	/* With jobs the last of them ends it. */
	if (!ctx->num_jobs)
		ctx_ended(w, ctx);
	return true;
}

void vdev_ctx_destroy(struct vdev_worker *w, uint32_t id, uint32_t tag)
{
	struct vdev_ctx *ctx;
	uint32_t host;
	bool ends = false;

	vdev_lock(w);
	ctx = ctx_get(w, id);
	if (!ctx) {
		vdev_answer(w, tag, 0, 0);
	} else if (ctx->num_ends == VDEV_MAX_ENDS) {
		vdev_answer(w, tag, -EBUSY, 0);
	} else {
		ctx->ends[ctx->num_ends++] = tag;
		ends = ctx_end(w, ctx, &host);
	}
	vdev_unlock(w);
	if (ends)
		host_destroy(w, host);
}

void vdev_ctxs_cancel(struct vdev_worker *w)
{
	uint32_t id, host;
	bool ends;

	for (id = 1; id < UNPU_PROTO_MAX_CTXS; id++) {
		vdev_lock(w);
		w->ctxs[id].num_ends = 0;
		ends = w->ctxs[id].used && ctx_end(w, &w->ctxs[id], &host);
		vdev_unlock(w);
		if (ends)
			host_destroy(w, host);
	}
}

bool vdev_ctxs_gone(const struct vdev_worker *w)
{
	return !w->report.contexts;
}

uint64_t vdev_ctxs_deadline(const struct vdev_worker *w)
{
	uint64_t told = UINT64_MAX;
	uint32_t id;

	for (id = 1; id < UNPU_PROTO_MAX_CTXS; id++)
		if (w->ctxs[id].used && w->ctxs[id].ending && w->ctxs[id].told < told)
			told = w->ctxs[id].told;
	if (told == UINT64_MAX)
		return told;
	return told + (w->attaching ? VDEV_ATTACH_NS : VDEV_CANCEL_NS);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static int name_runs(struct vdev_worker *w, const struct unpu_proto_job *from,
		     struct vdev_job *job, struct drm_unpu_run *runs)
{
	struct vdev_object *object;
	uint32_t i;

	for (i = 0; i < from->num_runs; i++) {
		object = vdev_object_get(w, VDEV_PROGRAM, from->runs[i].program_id);
		if (!object)
			return -ENOENT;
		object->refs++;
		job->programs[job->num_programs++] = object;
		runs[i] = (struct drm_unpu_run){ object->handle, from->runs[i].repeat };
	}
	return 0;
}

/* Under the lock. On success the job is the context's newest. */
static int job_begin(struct vdev_worker *w, struct vdev_ctx *ctx,
		     const struct unpu_proto_job *from, struct drm_unpu_run *runs)
{
	struct vdev_job job = { .seqno = from->seqno };
	int err;

	if (!ctx)
		return -ENOENT;
	if (ctx->ending)
		return -ECANCELED;
	if (!from->num_runs || from->num_runs > UNPU_PROTO_MAX_RUNS || from->pad)
		return -EINVAL;
	if (ctx->num_jobs == UNPU_PROTO_MAX_JOBS)
		return -EBUSY;
	err = name_runs(w, from, &job, runs);
	if (err)
		drop_programs(w, &job);
	else
		ctx->jobs[ctx->num_jobs++] = job;
	return err;
}

/* The device took none: nothing of it ends there, so it is still the newest. */
static void job_undo(struct vdev_worker *w, uint32_t id, struct vdev_ctx *ctx, int err)
{
	struct vdev_job *job;

	vdev_lock(w);
	job = &ctx->jobs[--ctx->num_jobs];
	drop_programs(w, job);
	job_event(w, id, job->seqno, err, 0);
	vdev_unlock(w);
}

void vdev_job_submit(struct vdev_worker *w, uint32_t id, const struct unpu_proto_job *job)
{
	struct drm_unpu_run runs[UNPU_PROTO_MAX_RUNS];
	struct drm_unpu_submit args = {
		.runs = { sizeof(runs[0]), job->num_runs, (uintptr_t)runs },
	};
	struct vdev_ctx *ctx;
	int err;

	vdev_lock(w);
	ctx = ctx_get(w, id);
	err = job_begin(w, ctx, job, runs);
	if (err)
		job_event(w, id, job->seqno, err, 0);
	else
		args.ctx_id = ctx->host;
	vdev_unlock(w);
	if (err)
		return;
	/* From here the job may end at any time, and only this thread adds others. */
	err = w->dev->ops->submit(w->dev, &args);
	if (err)
		job_undo(w, id, ctx, err);
}
