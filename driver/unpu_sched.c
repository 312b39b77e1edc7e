// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs from when they are armed to their end.
 *
 * A job ends once: who takes it from unpu_ctx.jobs, under unpu_ctx.lock, decides what it ends with
 * and then, without the lock, signals its two fences. That may be the device's answer, the end of
 * its context, a time-out, the loss of the device or its refusal; they may all come at once. The
 * out-fence is what the world waits for. The hardware fence is what the scheduler waits for before
 * it frees the job, and with it, maybe, the memory the job works on.
 *
 * A job that is not with the device ends at once, whatever it waits for itself. One that is ends
 * when the device has answered for it, or for its context, or was given up; until then only its
 * error is fixed, in unpu_job.error.
 *
 * All of this is on the path that signals fences: nothing here allocates, and no lock is taken that
 * is ever held over an allocation.
 */
#include <linux/dma-fence.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>

#include "unpu_compat.h"
#include "unpu_drv.h"

#define CREATE_TRACE_POINTS
#include "unpu_trace.h"

/*
 * The device's own watchdog knows whose job it is that does not get on, this one does not: the
 * device goes first. Together with a tick and UNPU_CANCEL_MS it stays below the second that is
 * promised.
 */
#define UNPU_GRACE_MS		100
#define UNPU_MIN_TICK_MS	50
#define UNPU_MAX_TICK_MS	250
/*
 * A job that is cancelled within its time may be at a long dispatch: nobody has done anything
 * wrong, so the device gets more than one UNPU_CANCEL_MS before all its clients lose it.
 */
#define UNPU_CANCEL_PATIENCE_MS	2000
/*
 * For all that need not be over at once. The watchdogs of all contexts stand in one queue: a client
 * that goes with many of them, while the device does not answer, must not keep others waiting.
 */
#define UNPU_CANCEL_GLANCE_MS	10
/* Between attempts to get a lost device back. */
#define UNPU_RESET_RETRY_MS	500

/* ---- the end of a job ---------------------------------------------------------------------- */

/* What is left to do for a job that has ended, when the lock is dropped. The job may be gone. */
struct unpu_end {
	struct dma_fence *out, *hw_fence;
	int error;
};

static bool unpu_ctx_is_stale(const struct unpu_ctx *ctx)
{
	return ctx->epoch != atomic_read(&ctx->udev->epoch);
}

static void unpu_job_count(struct unpu_ctx *ctx, int error, u64 busy_ns)
{
	struct unpu_stats *stats = &ctx->udev->stats;

	atomic64_inc(&stats->completed);
	if (error == -ETIME)
		atomic64_inc(&stats->timed_out);
	else if (error == -ECANCELED)
		atomic64_inc(&stats->cancelled);
	else if (error)
		atomic64_inc(&stats->failed);
	atomic64_add(busy_ns, &stats->busy_ns);
	atomic64_add(busy_ns, &ctx->usage->busy_ns);
	atomic64_inc(&ctx->usage->jobs);
}

static void unpu_job_end_locked(struct unpu_job *job, int error, u64 busy_ns, struct unpu_end *end)
{
	struct unpu_ctx *ctx = job->ctx;
	ktime_t now = ktime_get();

	lockdep_assert_held(&ctx->lock);

	if (job->error)
		error = job->error;
	/* The device says it, so it may be anything. */
	if (job->state == UNPU_JOB_RUNNING)
		busy_ns = min_t(u64, busy_ns, ktime_to_ns(ktime_sub(now, job->start_time)));
	else
		busy_ns = 0;
	ctx->busy_ns += busy_ns;
	ctx->queued_ns += ktime_to_ns(ktime_sub(now, job->submit_time)) - busy_ns;
	ctx->completed = max(ctx->completed, job->seqno);
	if (error && job->seqno > ctx->failed) {
		ctx->failed = job->seqno;
		ctx->failed_errno = error;
	}
	ctx->queued--;
	/* The next one's turn. */
	if (list_is_first(&job->link, &ctx->jobs))
		ctx->head_time = now;
	list_del_init(&job->link);
	job->state = UNPU_JOB_ENDED;
	unpu_job_count(ctx, error, busy_ns);
	trace_unpu_job_done(ctx, job->seqno, error, busy_ns);

	end->out = dma_fence_get(job->out);
	end->hw_fence = dma_fence_get(job->hw_fence);
	end->error = error;
}

/*
 * The caller keeps the context: the scheduler is told by a callback that goes on after the job may
 * be freed.
 */
static void unpu_end_signal(struct unpu_end *end)
{
	unpu_fence_end(end->out, end->error);
	unpu_fence_end(end->hw_fence, end->error);
	dma_fence_put(end->out);
	dma_fence_put(end->hw_fence);
}

static bool unpu_ctx_end_one(struct unpu_ctx *ctx, enum unpu_job_state state, int error)
{
	struct unpu_job *job;
	struct unpu_end end;
	u64 busy_ns;

	spin_lock(&ctx->lock);
	list_for_each_entry(job, &ctx->jobs, link) {
		if (job->state != state)
			continue;
		/* Only the first can have been at work. */
		busy_ns = list_is_first(&job->link, &ctx->jobs) ?
			  ktime_to_ns(ktime_sub(ktime_get(), ctx->head_time)) : 0;
		unpu_job_end_locked(job, error, busy_ns, &end);
		spin_unlock(&ctx->lock);
		unpu_end_signal(&end);
		return true;
	}
	spin_unlock(&ctx->lock);
	return false;
}

static void unpu_ctx_end_all(struct unpu_ctx *ctx, enum unpu_job_state state, int error)
{
	while (unpu_ctx_end_one(ctx, state, error))
		;
}

/*
 * A job has left the device that had been with it since then, and not gone well. What came after it
 * may have waited for it, so its time begins anew; what came before has no such excuse, or jobs
 * that fail one after the other could keep one that hangs alive.
 */
static void unpu_device_unblock(struct unpu_device *udev, ktime_t since)
{
	ktime_t now = ktime_get();
	struct unpu_ctx *ctx;

	spin_lock(&udev->ctx_lock);
	list_for_each_entry(ctx, &udev->ctxs, link) {
		spin_lock(&ctx->lock);
		if (ktime_after(ctx->head_time, since))
			ctx->progress_time = now;
		spin_unlock(&ctx->lock);
	}
	spin_unlock(&udev->ctx_lock);
}

/* From here on no job of the context starts, and those with the device can only end so. */
static void unpu_ctx_condemn_locked(struct unpu_ctx *ctx, u32 state, int error)
{
	struct unpu_job *job;

	lockdep_assert_held(&ctx->lock);

	ctx->cancelled = true;
	if (ctx->state == DRM_UNPU_CTX_OK) {
		ctx->state = state;
		ctx->guilty_time = ktime_get();
	}
	list_for_each_entry(job, &ctx->jobs, link)
		if (!job->error)
			job->error = error;
}

void unpu_ctx_end_jobs(struct unpu_ctx *ctx, u32 state, int error)
{
	bool cookie = dma_fence_begin_signalling();

	spin_lock(&ctx->lock);
	unpu_ctx_condemn_locked(ctx, state, error);
	spin_unlock(&ctx->lock);
	unpu_ctx_end_all(ctx, UNPU_JOB_QUEUED, error);
	/* Those with the device: without a reference, unpu_sched_ctx_fini() waits or does it. */
	mod_delayed_work(ctx->udev->reset_wq, &ctx->watchdog, 0);
	dma_fence_end_signalling(cookie);
}

/* ---- from SUBMIT to the device ------------------------------------------------------------- */

struct unpu_job *unpu_job_create(struct unpu_ctx *ctx, struct drm_file *file)
{
	struct unpu_job *job = kzalloc(sizeof(*job), GFP_KERNEL_ACCOUNT);
	int ret = -ENOMEM;

	if (!job)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&job->link);
	job->out = unpu_fence_create();
	job->hw_fence = unpu_fence_create();
	if (job->out && job->hw_fence)
		ret = unpu_sched_job_init(&job->base, &ctx->entity, file);
	if (ret) {
		unpu_fence_free(job->out);
		unpu_fence_free(job->hw_fence);
		kfree(job);
		return ERR_PTR(ret);
	}
	job->ctx = unpu_ctx_get(ctx);
	return job;
}

static void unpu_job_put_runs(struct unpu_job *job)
{
	u32 i;

	for (i = 0; i < job->num_runs; i++)
		unpu_program_put(job->runs[i].program);
	kfree(job);
}

/* A job in quarantine keeps its programs; without a context its turn here is over. */
static bool unpu_job_is_kept(struct unpu_job *job)
{
	struct unpu_device *udev = job->ctx->udev;
	bool kept;

	spin_lock(&udev->ctx_lock);
	kept = job->quarantined;
	if (kept)
		job->ctx = NULL;
	spin_unlock(&udev->ctx_lock);
	return kept;
}

void unpu_job_free(struct unpu_job *job)
{
	struct dma_fence *out = job->out, *hw_fence = job->hw_fence;
	struct unpu_ctx *ctx = job->ctx;
	bool pushed = job->seqno;

	drm_sched_job_cleanup(&job->base);
	if (!unpu_job_is_kept(job))
		unpu_job_put_runs(job);
	unpu_ctx_put(ctx);
	/* Last, as they pin the module. */
	if (pushed) {
		dma_fence_put(hw_fence);
		dma_fence_put(out);
	} else {
		unpu_fence_free(hw_fence);
		unpu_fence_free(out);
	}
}

static int unpu_job_queue(struct unpu_job *job)
{
	struct unpu_ctx *ctx = job->ctx;
	int ret = 0;

	spin_lock(&ctx->lock);
	if (ctx->cancelled || ctx->state != DRM_UNPU_CTX_OK || unpu_ctx_is_stale(ctx)) {
		ret = -EIO;
	} else if (ctx->queued >= ctx->udev->info.max_queued_jobs) {
		ret = -EBUSY;
	} else {
		job->seqno = ++ctx->submitted;
		job->submit_time = ktime_get();
		/*
		 * Out-fences do not signal in order: what was cancelled overtakes what runs. Fences
		 * of one context must, so each has its own.
		 */
		unpu_fence_init(job->out, dma_fence_context_alloc(1), job->seqno);
		unpu_fence_init(job->hw_fence, ctx->fence_context, job->seqno);
		list_add_tail(&job->link, &ctx->jobs);
		ctx->queued++;
	}
	spin_unlock(&ctx->lock);
	return ret;
}

int unpu_job_push(struct unpu_job *job, struct dma_fence **out, u64 *seqno)
{
	struct unpu_ctx *ctx = job->ctx;
	bool cookie;
	int ret;

	mutex_lock(&ctx->submit_lock);
	cookie = dma_fence_begin_signalling();
	ret = unpu_job_queue(job);
	if (!ret) {
		/*
		 * From here on somebody else may end the job, but only the scheduler frees it, and
		 * it gets it last.
		 */
		*out = dma_fence_get(job->out);
		*seqno = job->seqno;
		atomic64_inc(&ctx->udev->stats.submitted);
		trace_unpu_job_submit(ctx, job->seqno, 0, 0);
		drm_sched_job_arm(&job->base);
		drm_sched_entity_push_job(&job->base);
	}
	dma_fence_end_signalling(cookie);
	mutex_unlock(&ctx->submit_lock);
	return ret;
}

static unsigned long unpu_ctx_tick(const struct unpu_ctx *ctx)
{
	u64 ms = div_u64(ctx->timeout_ns, 4 * NSEC_PER_MSEC);

	return msecs_to_jiffies(clamp_t(u64, ms, UNPU_MIN_TICK_MS, UNPU_MAX_TICK_MS));
}

static bool unpu_job_start(struct unpu_job *job)
{
	struct unpu_ctx *ctx = job->ctx;
	ktime_t now = ktime_get();
	bool start;

	spin_lock(&ctx->lock);
	/* Who cancels the context, or lost the device, ends the job. */
	start = job->state == UNPU_JOB_QUEUED && !ctx->cancelled && !unpu_ctx_is_stale(ctx);
	if (start) {
		job->state = UNPU_JOB_RUNNING;
		job->start_time = now;
		if (list_is_first(&job->link, &ctx->jobs))
			ctx->head_time = now;
		trace_unpu_job_run(ctx, job->seqno, 0,
				   ktime_to_ns(ktime_sub(now, job->submit_time)));
	}
	spin_unlock(&ctx->lock);
	return start;
}

/* The hardware takes no job: it is gone, or its queue is not as it should be. */
static void unpu_job_refused(struct unpu_job *job, int ret)
{
	struct unpu_ctx *ctx = job->ctx;
	u32 state = ret == -ENODEV ? DRM_UNPU_CTX_LOST : DRM_UNPU_CTX_GUILTY;
	int rest = ret == -ENODEV ? -ENODEV : -ECANCELED;
	struct unpu_end end;
	bool ended;

	spin_lock(&ctx->lock);
	ended = job->state == UNPU_JOB_RUNNING;
	if (ended) {
		if (!job->error)
			job->error = ret == -ENODEV ? -ENODEV : -EIO;
		unpu_ctx_condemn_locked(ctx, state, rest);
		unpu_job_end_locked(job, job->error, 0, &end);
	}
	spin_unlock(&ctx->lock);
	if (!ended)
		return;
	unpu_end_signal(&end);
	unpu_ctx_end_jobs(ctx, state, rest);
}

static struct dma_fence *unpu_sched_run_job(struct drm_sched_job *base)
{
	struct unpu_job *job = to_unpu_job(base);
	struct unpu_device *udev = job->ctx->udev;
	bool cookie = dma_fence_begin_signalling();
	int ret = -ENODEV;
	int idx;

	if (unpu_job_start(job)) {
		queue_delayed_work(udev->reset_wq, &job->ctx->watchdog, unpu_ctx_tick(job->ctx));
		if (drm_dev_enter(&udev->drm, &idx)) {
			ret = udev->hw->run(udev, job);
			drm_dev_exit(idx);
		}
		if (ret)
			unpu_job_refused(job, ret);
	}
	dma_fence_end_signalling(cookie);
	/* Also for a job that did not start: who ended it signals this, or has. */
	return dma_fence_get(job->hw_fence);
}

static void unpu_sched_free_job(struct drm_sched_job *base)
{
	unpu_job_free(to_unpu_job(base));
}

/* No .timedout_job: the scheduler's own time limit is off. */
static const struct drm_sched_backend_ops unpu_sched_ops = {
	.run_job = unpu_sched_run_job,
	.free_job = unpu_sched_free_job,
};

/* ---- the device's answer ------------------------------------------------------------------- */

static struct unpu_ctx *unpu_ctx_by_hw_id(struct unpu_device *udev, u32 hw_id)
{
	struct unpu_ctx *ctx, *found = NULL;

	spin_lock(&udev->ctx_lock);
	/*
	 * The latest: the number may have gone to another before the end of the first one was seen
	 * here.
	 */
	list_for_each_entry_reverse(ctx, &udev->ctxs, link) {
		if (ctx->hw_id != hw_id || unpu_ctx_is_stale(ctx))
			continue;
		if (kref_get_unless_zero(&ctx->ref))
			found = ctx;
		break;
	}
	spin_unlock(&udev->ctx_lock);
	return found;
}

static struct unpu_job *unpu_job_find_locked(struct unpu_ctx *ctx, u64 seqno)
{
	struct unpu_job *job;

	list_for_each_entry(job, &ctx->jobs, link)
		if (job->seqno == seqno && job->state == UNPU_JOB_RUNNING)
			return job;
	return NULL;
}

/* The errors that a job can have, whatever the device says. */
static int unpu_job_verdict(int error)
{
	switch (error) {
	case 0:
	case -ETIME:
	case -ENODEV:
		return error;
	default:
		return -EIO;
	}
}

static bool unpu_ctx_job_done(struct unpu_ctx *ctx, u64 seqno, int error, u64 busy_ns)
{
	u32 state = error == -ENODEV ? DRM_UNPU_CTX_LOST : DRM_UNPU_CTX_GUILTY;
	int rest = error == -ENODEV ? -ENODEV : -ECANCELED;
	struct unpu_job *job;
	struct unpu_end end;
	bool guilty = false;
	ktime_t since;

	spin_lock(&ctx->lock);
	job = unpu_job_find_locked(ctx, seqno);
	since = ctx->head_time;
	if (job) {
		guilty = error && !job->error;
		if (guilty) {
			job->error = error;
			/* Before the fence signals: who was waiting asks for the state next. */
			unpu_ctx_condemn_locked(ctx, state, rest);
		}
		unpu_job_end_locked(job, error, busy_ns, &end);
	}
	spin_unlock(&ctx->lock);
	if (!job)
		return false;
	unpu_end_signal(&end);
	if (error)
		unpu_device_unblock(ctx->udev, since);
	if (guilty)
		unpu_ctx_end_jobs(ctx, state, rest);
	return true;
}

bool unpu_job_done(struct unpu_device *udev, u32 ctx_hw_id, u64 seqno, int error, u64 busy_ns)
{
	bool cookie = dma_fence_begin_signalling();
	struct unpu_ctx *ctx = unpu_ctx_by_hw_id(udev, ctx_hw_id);
	bool found = false;

	if (ctx) {
		error = unpu_job_verdict(error);
		found = unpu_ctx_job_done(ctx, seqno, error, busy_ns);
		unpu_ctx_put(ctx);
	}
	dma_fence_end_signalling(cookie);
	return found;
}

/* ---- the end of a context on the device ---------------------------------------------------- */

static int unpu_ctx_hw_destroy(struct unpu_ctx *ctx, unsigned int ms)
{
	struct unpu_device *udev = ctx->udev;
	int ret, idx;

	if (!ctx->hw_id || READ_ONCE(ctx->detached))
		return 0;
	/* What it has with a lost device ends by the loss, which keeps what that may write to. */
	if (unpu_ctx_is_stale(ctx) || !drm_dev_enter(&udev->drm, &idx))
		return -ENODEV;
	ret = udev->hw->ctx_destroy(udev, ctx, ms);
	drm_dev_exit(idx);
	return ret;
}

static struct unpu_job *unpu_ctx_head_locked(struct unpu_ctx *ctx)
{
	struct unpu_job *job = list_first_entry_or_null(&ctx->jobs, struct unpu_job, link);

	return job && job->state == UNPU_JOB_RUNNING ? job : NULL;
}

/* How long the job at the head may still go on as it does. */
static s64 unpu_ctx_time_left(const struct unpu_ctx *ctx, ktime_t now)
{
	ktime_t since = ctx->head_time;
	s64 stand, run;

	if (ktime_after(ctx->progress_time, since))
		since = ctx->progress_time;
	stand = ctx->timeout_ns - ktime_to_ns(ktime_sub(now, since));
	run = ctx->udev->info.max_job_time_ns - ktime_to_ns(ktime_sub(now, ctx->head_time));
	return min(stand, run) + UNPU_GRACE_MS * NSEC_PER_MSEC;
}

/* Whether the device was told only lately and has time to get to where it can stop. */
static bool unpu_ctx_has_patience(struct unpu_ctx *ctx)
{
	ktime_t now = ktime_get();
	s64 told_ms;
	bool has;

	spin_lock(&ctx->lock);
	if (!ctx->cancel_time)
		ctx->cancel_time = now;
	told_ms = ktime_ms_delta(now, ctx->cancel_time);
	has = ctx->state == DRM_UNPU_CTX_OK && told_ms < UNPU_CANCEL_PATIENCE_MS &&
	      (told_ms < UNPU_CANCEL_MS || unpu_ctx_time_left(ctx, now) >= 0);
	spin_unlock(&ctx->lock);
	return has;
}

static bool unpu_ctx_runs(struct unpu_ctx *ctx)
{
	bool runs;

	spin_lock(&ctx->lock);
	runs = unpu_ctx_head_locked(ctx);
	spin_unlock(&ctx->lock);
	return runs;
}

/* Under both locks: one that is kept by what its jobs wait for does not make the list long. */
static void unpu_ctx_detach_locked(struct unpu_ctx *ctx)
{
	lockdep_assert_held(&ctx->udev->ctx_lock);
	lockdep_assert_held(&ctx->lock);

	ctx->detached = true;
	list_del_init(&ctx->link);
}

static void unpu_ctx_set_detached(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;
	ktime_t since;
	bool ran;

	spin_lock(&udev->ctx_lock);
	spin_lock(&ctx->lock);
	unpu_ctx_detach_locked(ctx);
	since = ctx->head_time;
	ran = unpu_ctx_head_locked(ctx);
	spin_unlock(&ctx->lock);
	spin_unlock(&udev->ctx_lock);
	if (!ran)
		return;
	unpu_ctx_end_all(ctx, UNPU_JOB_RUNNING, -ECANCELED);
	unpu_device_unblock(udev, since);
}

/*
 * Guilty ones: what they have waited for their turn, while others' jobs were told to stop, is taken
 * from their own time. A device that stops each at the last moment must not make the last fence of
 * many late. How long a watchdog was not run for other reasons is no fault of the device.
 */
static unsigned int unpu_ctx_guilty_ms(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;
	ktime_t now = ktime_get();
	s64 late_ms;

	if (ktime_ms_delta(now, READ_ONCE(udev->cancel_end)) > UNPU_MIN_TICK_MS)
		udev->cancel_begin = now;
	spin_lock(&ctx->lock);
	late_ms = min(ktime_ms_delta(now, ctx->guilty_time),
		      ktime_ms_delta(now, udev->cancel_begin));
	spin_unlock(&ctx->lock);
	return max_t(s64, UNPU_CANCEL_MS - late_ms, UNPU_CANCEL_GLANCE_MS);
}

/* How long the device may keep the queue of the watchdogs waiting for it. */
static unsigned int unpu_ctx_cancel_ms(struct unpu_ctx *ctx)
{
	bool told = ctx->cancel_time;

	if (unpu_ctx_has_patience(ctx) || !unpu_ctx_runs(ctx))
		return UNPU_CANCEL_GLANCE_MS;
	return told ? 0 : unpu_ctx_guilty_ms(ctx);
}

/*
 * The jobs' errors are in them already; they signal when the device is quiet, or is given up. It
 * need not be when it has no job of the context and is only slow to say so.
 */
static void unpu_ctx_detach(struct unpu_ctx *ctx)
{
	bool cookie;
	int ret;

	/*
	 * No run_job is under way, and none that follows starts a job. Not in a section of its own:
	 * run_job is one, and lockdep would see two that wait for each other.
	 */
	drm_sched_wqueue_stop(&ctx->sched);
	cookie = dma_fence_begin_signalling();
	ret = unpu_ctx_hw_destroy(ctx, unpu_ctx_cancel_ms(ctx));
	WRITE_ONCE(ctx->udev->cancel_end, ktime_get());
	if (!ret || (ret == -ETIMEDOUT && !unpu_ctx_runs(ctx)))
		unpu_ctx_set_detached(ctx);
	else if (ret == -ETIMEDOUT && unpu_ctx_has_patience(ctx))
		queue_delayed_work(ctx->udev->reset_wq, &ctx->watchdog,
				   msecs_to_jiffies(UNPU_MIN_TICK_MS));
	else
		unpu_device_lose(ctx->udev, ctx->epoch);
	dma_fence_end_signalling(cookie);
	/* Those that never started go through the scheduler to be freed. */
	drm_sched_wqueue_start(&ctx->sched);
}

/* ---- time-out ------------------------------------------------------------------------------ */

static u32 unpu_ctx_progress(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;
	u32 progress = ctx->progress;
	int idx;

	if (drm_dev_enter(&udev->drm, &idx)) {
		progress = udev->hw->progress(udev, ctx);
		drm_dev_exit(idx);
	}
	return progress;
}

/* True: the job at the head has hung, and is condemned with its context. */
static bool unpu_ctx_check_time(struct unpu_ctx *ctx, u64 *seqno, u64 *ns)
{
	u32 progress = unpu_ctx_progress(ctx);
	ktime_t now = ktime_get();
	struct unpu_job *job;
	bool hung;
	s64 left;

	spin_lock(&ctx->lock);
	if (progress != ctx->progress) {
		ctx->progress = progress;
		ctx->progress_time = now;
	}
	job = unpu_ctx_head_locked(ctx);
	left = unpu_ctx_time_left(ctx, now);
	hung = job && left < 0;
	if (hung) {
		*seqno = job->seqno;
		*ns = ktime_to_ns(ktime_sub(now, ctx->head_time));
		job->error = -ETIME;
		unpu_ctx_condemn_locked(ctx, DRM_UNPU_CTX_GUILTY, -ECANCELED);
		ctx->guilty_time = ktime_add_ns(now, left);
	}
	spin_unlock(&ctx->lock);
	if (job && !hung)
		queue_delayed_work(ctx->udev->reset_wq, &ctx->watchdog,
				   min(unpu_ctx_tick(ctx), nsecs_to_jiffies(left) + 1));
	return hung;
}

static void unpu_ctx_hang(struct unpu_ctx *ctx, u64 seqno, u64 ns)
{
	struct unpu_device *udev = ctx->udev;

	trace_unpu_job_timeout(ctx, seqno, -ETIME, ns);
	dev_warn_ratelimited(udev->drm.dev, "context %u: job %llu hung, after %llu ms\n",
			     ctx->hw_id, seqno, div_u64(ns, NSEC_PER_MSEC));
	unpu_dump(udev, ctx, "hung");
	unpu_ctx_end_all(ctx, UNPU_JOB_QUEUED, -ECANCELED);
}

static void unpu_ctx_watchdog(struct work_struct *work)
{
	struct unpu_ctx *ctx = container_of(work, struct unpu_ctx, watchdog.work);
	bool cookie = dma_fence_begin_signalling();
	bool cancelled, detached, hung = false;
	u64 seqno, ns;

	spin_lock(&ctx->lock);
	cancelled = ctx->cancelled;
	detached = ctx->detached;
	spin_unlock(&ctx->lock);
	if (!detached && !cancelled) {
		hung = unpu_ctx_check_time(ctx, &seqno, &ns);
		if (hung)
			unpu_ctx_hang(ctx, seqno, ns);
	}
	dma_fence_end_signalling(cookie);
	if (!detached && (cancelled || hung))
		unpu_ctx_detach(ctx);
}

/* ---- loss and return of the device --------------------------------------------------------- */

/* One that the device has no more, with a reference. */
static struct unpu_ctx *unpu_ctx_next_lost(struct unpu_device *udev)
{
	struct unpu_ctx *ctx, *next, *found = NULL;

	spin_lock(&udev->ctx_lock);
	list_for_each_entry_safe(ctx, next, &udev->ctxs, link) {
		spin_lock(&ctx->lock);
		if (unpu_ctx_is_stale(ctx)) {
			unpu_ctx_detach_locked(ctx);
			unpu_ctx_condemn_locked(ctx, DRM_UNPU_CTX_LOST, -ENODEV);
			if (kref_get_unless_zero(&ctx->ref))
				found = ctx;
		}
		spin_unlock(&ctx->lock);
		if (found)
			break;
	}
	spin_unlock(&udev->ctx_lock);
	return found;
}

static bool unpu_ctx_lose_one(struct unpu_ctx *ctx)
{
	struct unpu_device *udev = ctx->udev;
	struct unpu_job *job;
	struct unpu_end end;
	bool running;

	spin_lock(&udev->ctx_lock);
	spin_lock(&ctx->lock);
	job = list_first_entry_or_null(&ctx->jobs, struct unpu_job, link);
	if (job) {
		running = job->state == UNPU_JOB_RUNNING;
		unpu_job_end_locked(job, -ENODEV, 0, &end);
		/* Of a device that is removed nothing is handed on. */
		if (running && !READ_ONCE(udev->dead)) {
			job->quarantined = true;
			list_add_tail(&job->link, &udev->quarantine);
		}
	}
	spin_unlock(&ctx->lock);
	spin_unlock(&udev->ctx_lock);
	if (job)
		unpu_end_signal(&end);
	return job;
}

static void unpu_quarantine_release(struct unpu_device *udev)
{
	struct unpu_job *job;
	bool freed;

	for (;;) {
		spin_lock(&udev->ctx_lock);
		job = list_first_entry_or_null(&udev->quarantine, struct unpu_job, link);
		if (job) {
			list_del_init(&job->link);
			job->quarantined = false;
			freed = !job->ctx;
		}
		spin_unlock(&udev->ctx_lock);
		if (!job)
			return;
		if (freed)
			unpu_job_put_runs(job);
	}
}

void unpu_device_lose(struct unpu_device *udev, int epoch)
{
	bool cookie = dma_fence_begin_signalling();
	bool dead = READ_ONCE(udev->dead);
	struct unpu_ctx *ctx;
	bool lost = false;

	spin_lock(&udev->ctx_lock);
	if (epoch == atomic_read(&udev->epoch)) {
		udev->losses++;
		lost = !udev->lost;
		if (lost) {
			WRITE_ONCE(udev->lost, true);
			/* Pairs with unpu_device_is_lost(). */
			atomic_inc_return(&udev->epoch);
			atomic64_inc(&udev->stats.resets);
		}
	}
	spin_unlock(&udev->ctx_lock);
	if (lost) {
		trace_unpu_device_lost(udev, epoch + 1, dead ? -ENODEV : 0);
		if (!dead)
			dev_warn_ratelimited(udev->drm.dev, "device lost, with all contexts\n");
	}
	while ((ctx = unpu_ctx_next_lost(udev))) {
		while (unpu_ctx_lose_one(ctx))
			;
		unpu_ctx_put(ctx);
	}
	if (dead)
		unpu_quarantine_release(udev);
	else
		queue_delayed_work(udev->reset_wq, &udev->lost_work, 0);
	dma_fence_end_signalling(cookie);
}

void unpu_device_lost(struct unpu_device *udev)
{
	unpu_device_lose(udev, atomic_read(&udev->epoch));
}

bool unpu_device_found(struct unpu_device *udev, u32 losses)
{
	bool found;

	spin_lock(&udev->ctx_lock);
	found = udev->losses == losses;
	if (found)
		WRITE_ONCE(udev->lost, false);
	spin_unlock(&udev->ctx_lock);
	if (found)
		unpu_quarantine_release(udev);
	return found;
}

static void unpu_device_reset(struct unpu_device *udev)
{
	u32 losses = READ_ONCE(udev->losses);
	int ret = -ENODEV;
	int idx;

	/* A run_job that began before the epoch went up does not reach the next one. */
	flush_workqueue(udev->submit_wq);
	if (drm_dev_enter(&udev->drm, &idx)) {
		ret = udev->hw->reset(udev);
		drm_dev_exit(idx);
	}
	trace_unpu_device_reset(udev, atomic_read(&udev->epoch), ret);
	if (!ret && unpu_device_found(udev, losses))
		dev_info_ratelimited(udev->drm.dev, "device works again\n");
	else if (!READ_ONCE(udev->dead))
		queue_delayed_work(udev->reset_wq, &udev->lost_work,
				   msecs_to_jiffies(UNPU_RESET_RETRY_MS));
}

static void unpu_lost_work(struct work_struct *work)
{
	struct unpu_device *udev = container_of(work, struct unpu_device, lost_work.work);

	if (READ_ONCE(udev->lost) && !READ_ONCE(udev->dead))
		unpu_device_reset(udev);
}

/* ---- beginning and end --------------------------------------------------------------------- */

static void unpu_sched_dev_fini(struct drm_device *drm, void *data)
{
	struct unpu_device *udev = to_unpu_device(drm);

	cancel_delayed_work_sync(&udev->lost_work);
	if (udev->reset_wq)
		destroy_workqueue(udev->reset_wq);
	if (udev->submit_wq)
		destroy_workqueue(udev->submit_wq);
}

/* Lockdep need not wait for memory to run short to see an allocation under the lock. */
static void unpu_sched_prime_lockdep(struct unpu_device *udev)
{
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&udev->ctx_lock);
	fs_reclaim_release(GFP_KERNEL);
}

int unpu_sched_dev_init(struct unpu_device *udev)
{
	int ret;

	spin_lock_init(&udev->ctx_lock);
	INIT_LIST_HEAD(&udev->ctxs);
	INIT_LIST_HEAD(&udev->quarantine);
	INIT_DELAYED_WORK(&udev->lost_work, unpu_lost_work);
	ret = drmm_add_action_or_reset(&udev->drm, unpu_sched_dev_fini, NULL);
	if (ret)
		return ret;
	udev->submit_wq = alloc_ordered_workqueue("unpu-submit", WQ_MEM_RECLAIM);
	udev->reset_wq = alloc_ordered_workqueue("unpu-reset", WQ_MEM_RECLAIM);
	if (!udev->submit_wq || !udev->reset_wq)
		return -ENOMEM;
	unpu_sched_prime_lockdep(udev);
	return 0;
}

int unpu_sched_ctx_init(struct unpu_ctx *ctx)
{
	struct drm_gpu_scheduler *sched = &ctx->sched;
	struct unpu_device *udev = ctx->udev;
	int ret;

	mutex_init(&ctx->submit_lock);
	spin_lock_init(&ctx->lock);
	INIT_LIST_HEAD(&ctx->jobs);
	INIT_DELAYED_WORK(&ctx->watchdog, unpu_ctx_watchdog);
	ctx->fence_context = dma_fence_context_alloc(1);
	ctx->progress_time = ktime_get();
	ret = unpu_sched_init(sched, &unpu_sched_ops, udev->submit_wq, udev->reset_wq,
			      UNPU_MAX_JOBS_IN_FLIGHT, "unpu", udev->drm.dev);
	if (ret)
		return ret;
	/* The highest of one run queue. */
	ret = drm_sched_entity_init(&ctx->entity, DRM_SCHED_PRIORITY_KERNEL, &sched, 1, NULL);
	if (ret)
		drm_sched_fini(sched);
	return ret;
}

void unpu_sched_ctx_fini(struct unpu_ctx *ctx)
{
	cancel_delayed_work_sync(&ctx->watchdog);
	unpu_ctx_detach(ctx);
	drm_sched_entity_fini(&ctx->entity);
	drm_sched_fini(&ctx->sched);
	mutex_destroy(&ctx->submit_lock);
}
