// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is to say of a context whose job hung, as a devcoredump: a small text without anything
 * of a client's data in it. It is written down where the time-out is, which signals fences and so
 * must not wait for memory, and handed over where one may. The core keeps one at a time for a
 * device until it is read or some minutes old, and drops others.
 */
#include <linux/devcoredump.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include <drm/drm_drv.h>
#include <drm/drm_print.h>

#include "unpu_drv.h"

#define UNPU_DUMP_BYTES 4096

struct unpu_dump {
	struct work_struct work;
	struct unpu_device *udev;	/* holds a reference */
	size_t len;
	char text[UNPU_DUMP_BYTES];
};

static void unpu_dump_work(struct work_struct *work)
{
	struct unpu_dump *dump = container_of(work, struct unpu_dump, work);
	struct unpu_device *udev = dump->udev;
	void *data;
	int idx;

	/* After the unplug there is no device that the dump could be linked to. */
	if (drm_dev_enter(&udev->drm, &idx)) {
		data = vmalloc(dump->len);
		if (data) {
			memcpy(data, dump->text, dump->len);
			dev_coredumpv(udev->drm.dev, data, dump->len, GFP_KERNEL);
		}
		drm_dev_exit(idx);
	}
	kfree(dump);
	drm_dev_put(&udev->drm);
}

static void unpu_dump_device(struct drm_printer *p, struct unpu_device *udev)
{
	const struct unpu_stats *stats = &udev->stats;

	drm_printf(p, "device: %s, %.*s\n", udev->hw->name, (int)sizeof(udev->info.name),
		   udev->info.name);
	drm_printf(p, "epoch: %d\n", atomic_read(&udev->epoch));
	drm_printf(p, "jobs: %lld submitted, %lld completed\n", atomic64_read(&stats->submitted),
		   atomic64_read(&stats->completed));
	drm_printf(p, "jobs: %lld failed, %lld timed out, %lld cancelled\n",
		   atomic64_read(&stats->failed), atomic64_read(&stats->timed_out),
		   atomic64_read(&stats->cancelled));
}

static void unpu_dump_job(struct drm_printer *p, const struct unpu_job *job)
{
	static const char * const states[] = {
		[UNPU_JOB_QUEUED] = "queued",
		[UNPU_JOB_RUNNING] = "running",
		[UNPU_JOB_ENDED] = "ended",
	};
	s64 age = ktime_ms_delta(ktime_get(), job->submit_time);
	u32 i;

	drm_printf(p, "  job %llu: %s, submitted %lld ms ago, error %d, runs", job->seqno,
		   states[job->state], age, job->error);
	for (i = 0; i < job->num_runs; i++)
		drm_printf(p, " %u (%u dispatches) x %u", job->runs[i].program->hw_id,
			   job->runs[i].program->num_dispatches, job->runs[i].repeat);
	drm_puts(p, "\n");
}

static void unpu_dump_ctx(struct drm_printer *p, struct unpu_ctx *ctx, const char *what)
{
	const struct unpu_job *job;
	ktime_t now = ktime_get();

	spin_lock(&ctx->lock);
	drm_printf(p, "%s %u: priority %u, timeout %llu ns, state %u, epoch %d\n", what, ctx->hw_id,
		   ctx->priority, ctx->timeout_ns, ctx->state, ctx->epoch);
	drm_printf(p, "  %llu submitted, %llu completed, %u queued, busy %llu ns\n", ctx->submitted,
		   ctx->completed, ctx->queued, ctx->busy_ns);
	drm_printf(p, "  progress %u, seen %lld ms ago, its turn since %lld ms\n", ctx->progress,
		   ktime_ms_delta(now, ctx->progress_time), ktime_ms_delta(now, ctx->head_time));
	list_for_each_entry(job, &ctx->jobs, link)
		unpu_dump_job(p, job);
	spin_unlock(&ctx->lock);
}

static void unpu_dump_write(struct unpu_dump *dump, struct unpu_ctx *culprit, const char *why)
{
	struct drm_print_iterator iter = {
		.data = dump->text,
		.remain = sizeof(dump->text),
	};
	struct drm_printer p = drm_coredump_printer(&iter);
	struct unpu_device *udev = dump->udev;
	struct unpu_ctx *ctx;

	drm_printf(&p, "unpu: context %u %s\n", culprit->hw_id, why);
	unpu_dump_device(&p, udev);
	unpu_dump_ctx(&p, culprit, "context");
	spin_lock(&udev->ctx_lock);
	list_for_each_entry(ctx, &udev->ctxs, link)
		if (ctx != culprit)
			unpu_dump_ctx(&p, ctx, "other context");
	spin_unlock(&udev->ctx_lock);
	dump->len = sizeof(dump->text) - iter.remain;
}

void unpu_dump(struct unpu_device *udev, struct unpu_ctx *ctx, const char *why)
{
	struct unpu_dump *dump = kmalloc(sizeof(*dump), GFP_NOWAIT | __GFP_NOWARN);

	if (!dump)
		return;
	INIT_WORK(&dump->work, unpu_dump_work);
	drm_dev_get(&udev->drm);
	dump->udev = udev;
	unpu_dump_write(dump, ctx, why);
	queue_work(unpu_release_wq, &dump->work);
}
