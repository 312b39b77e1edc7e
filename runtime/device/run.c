/* SPDX-License-Identifier: MIT */
/*
 * Jobs of in-process devices on their way. Who waits runs what is queued, one repeat of one program
 * at a time, until what it waits for has signalled; a threaded engine's jobs are run so by a thread
 * of their own, from when they are submitted.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "runtime/device/inproc_priv.h"

/*
 * A priority gets at least 1/16 of the time when those above it have work: a turn for each 14 of
 * theirs, so that it is still that when one turn more goes before it.
 */
#define SHARE	14
/* Those who wait for a run are heard of so often, while it has time and as long after that as the
 * driver takes to see it (1/4 s) and to give the device up (2 s). */
#define WATCH_NS	20000000u
#define WATCH_GRACE_NS	3000000000u

uint64_t unpu_inproc_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
	/* Half the range of a 32-bit time_t is enough to come round and look again. */
	uint64_t most = 1u << 30;
	uint64_t seconds = deadline_ns / 1000000000u;
	struct timespec end = {
		.tv_sec = (time_t)(seconds < most ? seconds : most),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	if (deadline_ns == INPROC_NEVER)
		pthread_cond_wait(cond, lock);
	else
		pthread_cond_timedwait(cond, lock, &end);
}

/* ---- the watch ----------------------------------------------------------------------------- */

static void watch_done(struct inproc *dev, const struct inproc_ctx *ctx, uint32_t done)
{
	if (dev->watch.progress)
		dev->watch.progress(dev->watch.arg, ctx->id, done);
}

/* Who has a job and is not to blame that it stands still. */
static void watch_others(struct inproc *dev, const struct inproc_ctx *ran)
{
	struct inproc_ctx *ctx;

	if (!dev->watch.progress)
		return;
	for (ctx = dev->all_ctxs; ctx; ctx = ctx->next)
		if (ctx != ran && ctx->head)
			dev->watch.progress(dev->watch.arg, ctx->id, 0);
}

/* ---- the guard ----------------------------------------------------------------------------- */

/* A run that its time has ended for, and that does not end, is not waited for any more. */
static bool guard_watches(const struct inproc *dev, uint64_t now)
{
	return dev->watch.progress && dev->running && now < dev->run_due + WATCH_GRACE_NS;
}

static void *guard(void *arg)
{
	struct inproc *dev = arg;

	unpu_inproc_lock(dev);
	while (!dev->guard_stop) {
		uint64_t now = unpu_inproc_now();

		if (dev->running && dev->run_ends <= now) {
			atomic_store(&dev->running->cancel, INPROC_TIMED_OUT);
			dev->run_ends = INPROC_NEVER;
		}
		dev->guard_wakes = dev->run_ends;
		if (guard_watches(dev, now)) {
			watch_others(dev, dev->running);
			if (dev->guard_wakes > now + WATCH_NS)
				dev->guard_wakes = now + WATCH_NS;
		}
		wait_until(&dev->guard_kick, &dev->lock, dev->guard_wakes);
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

/*
 * The run that begins has until `ends`. The guard is not woken for each run: it sleeps on to the
 * end it knows and then looks again.
 */
static void guard_set(struct inproc *dev, uint64_t now, uint64_t ends)
{
	dev->run_ends = ends;
	dev->run_due = ends;
	if (dev->watch.progress && ends > now + WATCH_NS)
		ends = now + WATCH_NS;
	if (ends < dev->guard_wakes)
		pthread_cond_signal(&dev->guard_kick);
}

/* ---- what runs next ------------------------------------------------------------------------ */

static bool ctx_ready(const struct inproc_ctx *ctx)
{
	const struct inproc_job *job = ctx->head;
	uint32_t i;

	if (!job)
		return false;
	for (i = 0; i < job->num_waits; i++)
		if (!unpu_wait_ready(&job->waits[i]))
			return false;
	return true;
}

/* Of equals, the one whose last turn is longest ago. */
static void pick_per_priority(const struct inproc *dev, struct inproc_ctx **best)
{
	struct inproc_ctx *ctx;

	for (ctx = dev->all_ctxs; ctx; ctx = ctx->next)
		if (ctx_ready(ctx) &&
		    (!best[ctx->priority] || ctx->turn < best[ctx->priority]->turn))
			best[ctx->priority] = ctx;
}

/* The highest priority, unless a lower one is owed more than a turn of it will pay back. */
static int pick_priority(const struct inproc *dev, struct inproc_ctx *const *best)
{
	int priority, highest = -1;

	for (priority = DRM_UNPU_PRIORITY_LOW; priority <= DRM_UNPU_PRIORITY_HIGH; priority++)
		if (best[priority])
			highest = priority;
	for (priority = DRM_UNPU_PRIORITY_LOW; priority < highest; priority++)
		if (best[priority] && dev->owed_ns[priority] > SHARE * dev->last_ns)
			return priority;
	return highest;
}

/* Time that a ready priority leaves to those above is owed to it; its own turns pay it back. */
static void settle(struct inproc *dev, struct inproc_ctx *const *best, uint32_t ran, uint64_t ns)
{
	uint32_t priority;
	bool above = false;

	for (priority = 0; priority < ran; priority++)
		if (best[priority])
			dev->owed_ns[priority] += (int64_t)ns;
	for (priority = ran + 1; priority <= DRM_UNPU_PRIORITY_HIGH; priority++)
		if (best[priority])
			above = true;
	dev->owed_ns[ran] = above ? dev->owed_ns[ran] - SHARE * (int64_t)ns : 0;
	dev->last_ns = (int64_t)ns;
}

/* ---- one turn ------------------------------------------------------------------------------ */

static void job_start(struct inproc_job *job, uint64_t now)
{
	if (job->started)
		return;
	job->started = true;
	job->ctx->queued_ns += now - job->submit_ns;
}

/* Progress by `done` repeats: true when the job is at its end. */
static bool job_advance(struct inproc_job *job, uint32_t done)
{
	job->repeat += done;
	if (job->repeat < job->runs[job->run].repeat)
		return false;
	job->repeat = 0;
	return ++job->run == job->num_runs;
}

/* The job that `culprit` ran ends with err, all others with -ENODEV. */
static void device_lost(struct inproc *dev, const struct inproc_ctx *culprit, int err)
{
	struct inproc_ctx *ctx, *next;

	dev->stats.resets++;
	dev->stats.epoch++;
	for (ctx = dev->all_ctxs; ctx; ctx = next) {
		ctx->refs++;
		ctx->state = DRM_UNPU_CTX_LOST;
		unpu_inproc_ctx_cancel(dev, ctx, ctx == culprit ? err : -ENODEV, -ENODEV);
		next = ctx->next;
		unpu_inproc_ctx_put(dev, ctx);
	}
}

static void run_failed(struct inproc *dev, struct inproc_ctx *ctx, int err)
{
	if (err != -ECANCELED)
		ctx->state = DRM_UNPU_CTX_GUILTY;
	unpu_inproc_ctx_cancel(dev, ctx, err, -ECANCELED);
}

/* The engine's answer, unless it was told to end: then the reason for that. */
static int run_verdict(const struct inproc_ctx *ctx, int err)
{
	switch (atomic_load(&ctx->cancel)) {
	case INPROC_DESTROYED:
		return -ECANCELED;
	case INPROC_TIMED_OUT:
		return -ETIME;
	}
	return err == -ECANCELED ? -EIO : err;
}

/*
 * A turn of the context's oldest job: as many repeats as the engine takes at once, without the
 * lock. Its nanoseconds.
 */
static uint64_t run_turn(struct inproc *dev, struct inproc_ctx *ctx)
{
	struct inproc_job *job = ctx->head;
	struct unpu_program *program = &job->runs[job->run].program->base;
	uint64_t begin = unpu_inproc_now();
	uint64_t left = job->limit_ns - job->busy_ns;
	uint32_t repeat = job->runs[job->run].repeat - job->repeat;
	uint32_t done = 0;
	uint64_t ns;
	int err, verdict;

	dev->running = ctx;
	guard_set(dev, begin, begin + (left < ctx->timeout_ns ? left : ctx->timeout_ns));
	pthread_mutex_unlock(&dev->lock);
	unpu_inproc_hook_run(program, &ctx->cancel);
	err = dev->engine->ops->run(dev->engine, program, repeat, &ctx->cancel, &done);
	if (!err && (!done || done > repeat))
		err = unpu_fail(&dev->base.log, -EIO, "%s: %u rounds done where up to %u were due",
				dev->base.id, done, repeat);
	unpu_inproc_lock(dev);
	ns = unpu_inproc_now() - begin;
	dev->running = NULL;
	dev->run_ends = INPROC_NEVER;
	job->busy_ns += ns;
	ctx->busy_ns += ns;
	dev->stats.busy_ns += ns;
	verdict = run_verdict(ctx, err);
	if (!verdict)
		watch_done(dev, ctx, done);
	watch_others(dev, ctx);
	if (err == -ENODEV)
		device_lost(dev, ctx, verdict);
	else if (verdict)
		run_failed(dev, ctx, verdict);
	else if (job_advance(job, done))
		unpu_inproc_job_end(dev, ctx, 0);
	else if (job->busy_ns >= job->limit_ns)
		run_failed(dev, ctx, -ETIME);
	return ns;
}

static bool job_stopped(const struct inproc_job *job)
{
	_Atomic uint32_t *stop = job->runs[job->run].program->base.stop;

	return stop && atomic_load(stop);
}

/* Something of what is ready; false when nothing is. */
static bool run_some(struct inproc *dev)
{
	struct inproc_ctx *best[DRM_UNPU_PRIORITY_HIGH + 1] = { NULL };
	struct inproc_ctx *ctx;
	int priority;

	pick_per_priority(dev, best);
	priority = pick_priority(dev, best);
	if (priority < 0)
		return false;
	ctx = best[priority];
	job_start(ctx->head, unpu_inproc_now());
	if (job_stopped(ctx->head)) {
		unpu_inproc_job_end(dev, ctx, 0);
		return true;
	}
	ctx->refs++;
	ctx->turn = ++dev->turns;
	settle(dev, best, (uint32_t)priority, run_turn(dev, ctx));
	unpu_inproc_ctx_put(dev, ctx);
	return true;
}

/* ---- threads ------------------------------------------------------------------------------- */

/* Also frees the programs that its jobs were the last to hold. */
static void *runner(void *arg)
{
	struct inproc *dev = arg;

	unpu_inproc_lock(dev);
	while (!dev->runner_stop) {
		if (!dev->closing && run_some(dev))
			continue;
		if (dev->dead) {
			unpu_inproc_unlock(dev);
			unpu_inproc_lock(dev);
			continue;
		}
		pthread_cond_wait(&dev->work, &dev->lock);
	}
	unpu_inproc_unlock(dev);
	return NULL;
}

static int thread_start(struct inproc *dev, pthread_t *thread, void *(*fn)(void *arg),
			bool *started)
{
	sigset_t all, old;

	if (*started)
		return 0;
	/* The process's signals are for the threads of its program. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	*started = !pthread_create(thread, NULL, fn, dev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return *started ? 0 : -ENOMEM;
}

int unpu_inproc_threads_start(struct inproc *dev)
{
	int err = thread_start(dev, &dev->guard, guard, &dev->guard_started);

	if (!err && dev->threaded)
		err = thread_start(dev, &dev->runner, runner, &dev->runner_started);
	return err;
}

void unpu_inproc_threads_stop(struct inproc *dev)
{
	unpu_inproc_lock(dev);
	dev->guard_stop = true;
	dev->runner_stop = true;
	pthread_cond_signal(&dev->guard_kick);
	pthread_cond_signal(&dev->work);
	pthread_mutex_unlock(&dev->lock);
	if (dev->guard_started)
		pthread_join(dev->guard, NULL);
	if (dev->runner_started)
		pthread_join(dev->runner, NULL);
}

/* ---- waiting ------------------------------------------------------------------------------- */

int unpu_inproc_syncobj_create(struct unpu_device *base, uint32_t *handle)
{
	struct inproc *dev = to_inproc(base);
	struct unpu_syncobj *obj = unpu_syncobj_create();
	int err;

	if (!obj)
		return unpu_inproc_refuse(dev, "SYNCOBJ_CREATE", -ENOMEM);
	unpu_inproc_lock(dev);
	err = unpu_table_add(&dev->syncobjs, obj, handle);
	if (err)
		unpu_syncobj_put(obj);
	unpu_inproc_unlock(dev);
	return err ? unpu_inproc_refuse(dev, "SYNCOBJ_CREATE", err) : 0;
}

int unpu_inproc_syncobj_destroy(struct unpu_device *base, uint32_t handle)
{
	struct inproc *dev = to_inproc(base);
	struct unpu_syncobj *obj;

	unpu_inproc_lock(dev);
	obj = unpu_table_remove(&dev->syncobjs, handle);
	unpu_syncobj_put(obj);
	unpu_inproc_unlock(dev);
	return obj ? 0 : unpu_inproc_refuse(dev, "SYNCOBJ_DESTROY", -EINVAL);
}

/*
 * Runs jobs, or sleeps while another thread does, until the wait is over. A job only waits for
 * jobs submitted before it, so the oldest of all can always run: nobody sleeps with none running,
 * and a new job need wake nobody but the runner.
 */
static int wait_and_run(struct inproc *dev, const struct unpu_wait *wait, uint64_t deadline_ns)
{
	while (!unpu_wait_ready(wait)) {
		if (deadline_ns != INPROC_NEVER && unpu_inproc_now() >= deadline_ns)
			return -ETIME;
		if (!dev->threaded && !dev->running && !dev->closing && run_some(dev))
			continue;
		if (dev->dead) {
			unpu_inproc_unlock(dev);
			unpu_inproc_lock(dev);
			continue;
		}
		wait_until(&dev->changed, &dev->lock, deadline_ns);
	}
	return 0;
}

int unpu_inproc_syncobj_wait(struct unpu_device *base, uint32_t handle, uint64_t point,
			     uint64_t deadline_ns)
{
	struct inproc *dev = to_inproc(base);
	struct unpu_syncobj *obj;
	struct unpu_wait wait;
	int err = -ENOENT;

	unpu_inproc_lock(dev);
	obj = unpu_table_get(&dev->syncobjs, handle);
	if (obj)
		err = unpu_wait_init(&wait, obj, point);
	if (!err) {
		dev->waiters++;
		err = wait_and_run(dev, &wait, deadline_ns);
		unpu_wait_finish(&wait);
		/* close waits for who waits, and for what they have yet to free. */
		while (dev->dead) {
			unpu_inproc_unlock(dev);
			unpu_inproc_lock(dev);
		}
		dev->waiters--;
		/* Another thread that waits has to run what is left. */
		pthread_cond_broadcast(&dev->changed);
	}
	unpu_inproc_unlock(dev);
	return err && err != -ETIME ? unpu_inproc_refuse(dev, "SYNCOBJ_WAIT", err) : err;
}
