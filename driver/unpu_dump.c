// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is to say of a context whose job hung, as a devcoredump: a small text without anything
 * of a client's data in it. It is written down where the time-out is, which signals fences and so
 * must not wait for memory (a drm_printer may), and handed over where one may. The core keeps one
 * at a time for a device until it is read or some minutes old, and drops others.
 */
#include <linux/devcoredump.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/seq_buf.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include <drm/drm_drv.h>

#include "unpu_drv.h"

#define UNPU_DUMP_BYTES 4096

/* The core looks for a dump that is there and adds its own without a lock between the two. */
static DEFINE_MUTEX(unpu_dump_lock);

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
		/* A dump that there is no memory for is not worth a stack trace in the log. */
		data = __vmalloc(dump->len, GFP_KERNEL | __GFP_NOWARN);
		if (data) {
			memcpy(data, dump->text, dump->len);
			mutex_lock(&unpu_dump_lock);
			dev_coredumpv(udev->drm.dev, data, dump->len, GFP_KERNEL);
			mutex_unlock(&unpu_dump_lock);
		}
		drm_dev_exit(idx);
	}
	kfree(dump);
	drm_dev_put(&udev->drm);
}

static void unpu_dump_device(struct seq_buf *s, struct unpu_device *udev)
{
	const struct unpu_stats *stats = &udev->stats;

	seq_buf_printf(s, "device: %s, %.*s\n", udev->hw->name, (int)sizeof(udev->info.name),
		       udev->info.name);
	seq_buf_printf(s, "epoch: %d\n", atomic_read(&udev->epoch));
	seq_buf_printf(s, "jobs: %lld submitted, %lld completed\n",
		       atomic64_read(&stats->submitted), atomic64_read(&stats->completed));
	seq_buf_printf(s, "jobs: %lld failed, %lld timed out, %lld cancelled\n",
		       atomic64_read(&stats->failed), atomic64_read(&stats->timed_out),
		       atomic64_read(&stats->cancelled));
}

static void unpu_dump_job(struct seq_buf *s, const struct unpu_job *job)
{
	s64 age = ktime_ms_delta(ktime_get(), job->submit_time);
	u32 i;

	seq_buf_printf(s, "  job %llu: %s, submitted %lld ms ago, error %d, runs", job->seqno,
		       job->state == UNPU_JOB_RUNNING ? "running" : "queued", age, job->error);
	for (i = 0; i < job->num_runs; i++)
		seq_buf_printf(s, " %u (%u dispatches) x %u", job->runs[i].program->hw_id,
			       job->runs[i].program->num_dispatches, job->runs[i].repeat);
	seq_buf_puts(s, "\n");
}

static void unpu_dump_ctx(struct seq_buf *s, struct unpu_ctx *ctx, const char *what)
{
	const struct unpu_job *job;
	ktime_t now = ktime_get();

	spin_lock(&ctx->lock);
	seq_buf_printf(s, "%s %u: priority %u, timeout %llu ns, state %u, epoch %d\n", what,
		       ctx->hw_id, ctx->priority, ctx->timeout_ns, ctx->state, ctx->epoch);
	seq_buf_printf(s, "  %llu submitted, %llu completed, %u queued, busy %llu ns\n",
		       ctx->submitted, ctx->completed, ctx->queued, ctx->busy_ns);
	seq_buf_printf(s, "  progress %u, seen %lld ms ago, its turn since %lld ms\n",
		       ctx->progress, ktime_ms_delta(now, ctx->progress_time),
		       ktime_ms_delta(now, ctx->head_time));
	list_for_each_entry(job, &ctx->jobs, link)
		unpu_dump_job(s, job);
	spin_unlock(&ctx->lock);
}

static void unpu_dump_write(struct unpu_dump *dump, struct unpu_ctx *culprit, const char *why)
{
	struct unpu_device *udev = dump->udev;
	struct unpu_ctx *ctx;
	struct seq_buf s;

	seq_buf_init(&s, dump->text, sizeof(dump->text));
	seq_buf_printf(&s, "unpu: context %u %s\n", culprit->hw_id, why);
	unpu_dump_device(&s, udev);
	unpu_dump_ctx(&s, culprit, "context");
	spin_lock(&udev->ctx_lock);
	list_for_each_entry(ctx, &udev->ctxs, link)
		if (ctx != culprit)
			unpu_dump_ctx(&s, ctx, "other context");
	spin_unlock(&udev->ctx_lock);
	dump->len = seq_buf_used(&s);
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
