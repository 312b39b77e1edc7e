// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual NPU: what the driver's other parts ask of it. Objects, whose making is waited for,
 * contexts and jobs.
 */
#include <linux/module.h>
#include <linux/sched/signal.h>

#include <drm/drm_drv.h>

#include "unpu_proto_priv.h"

#define UNPU_PROTO_DEAF_MS	10000	/* without a heartbeat: no caller waits any longer */
#define UNPU_PROTO_SPARE	8	/* requests that only the end of contexts takes */

static_assert(UNPU_MAX_RUNS <= UNPU_PROTO_MAX_RUNS);
static_assert(UNPU_MAX_SPEC_WORDS <= UNPU_PROTO_MAX_SPEC);
static_assert(UNPU_MAX_JOBS_IN_FLIGHT <= UNPU_PROTO_MAX_JOBS);

/*
 * What the slowest shader compilers of boards need for a whole program, and half of what the kernel
 * takes for a hung task: who unplugs a device of DRM waits for the caller.
 */
static unsigned int unpu_proto_verdict_ms = 60000;
#ifdef UNPU_MOCK
/* A test that waits it out has not as long. */
module_param_named(verdict_ms, unpu_proto_verdict_ms, uint, 0644);
MODULE_PARM_DESC(verdict_ms,
		 "how long a call waits for what it asks a device that lives (60000)");
#endif

static bool unpu_proto_gone(const struct unpu_proto *p)
{
	return !READ_ONCE(p->attached) || READ_ONCE(p->udev->dead);
}

/* ---- asking -------------------------------------------------------------------------------- */

/* A CREATE and its verdict. */
struct unpu_proto_creation {
	u32 kind;
	struct unpu_proto_command command;
	const struct unpu_ctx *owner;	/* a context: itself */
	struct drm_mm_node *image;	/* a program; NULL afterwards: the answer's */
	struct unpu_proto_request *request;
	unsigned long deadline;		/* jiffies; the caller's */
	u32 id;
	u64 value;
};

/*
 * One attempt to send a CREATE. 0: not now. What has ended goes before it, so that neither an id
 * nor a range of the window is ever taken by two on the device.
 */
static int unpu_proto_try_create(struct unpu_proto *p, struct unpu_proto_creation *creation)
{
	struct unpu_proto_ids *ids = &p->ids[creation->kind];
	struct unpu_proto_request *request;
	int ret = 0;
	u32 id;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p)) {
		ret = -ENODEV;
		goto out;
	}
	unpu_proto_pump(p);
	if (unpu_proto_waits(p) || !unpu_proto_room(p)) {
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
		goto out;
	}
	id = unpu_proto_id_get(ids);
	if (!id) {
		ret = creation->kind == UNPU_PROTO_KIND_CTX ? -ENOSPC : -ENOMEM;
		goto out;
	}
	request = unpu_proto_ask(p, creation->kind, false, id, UNPU_PROTO_SPARE,
				 &creation->command);
	if (!request) {
		unpu_proto_id_put(ids, id);
		goto out;
	}
	request->owner = creation->owner;
	creation->request = request;
	creation->id = id;
	ret = 1;
out:
	spin_unlock(&p->lock);
	return ret;
}

static unsigned long unpu_proto_verdict_time(void)
{
	return msecs_to_jiffies(max(READ_ONCE(unpu_proto_verdict_ms), 1000U));
}

static unsigned long unpu_proto_deadline(void)
{
	return jiffies + unpu_proto_verdict_time();
}

/*
 * A caller's wait is over: the device goes, was not heard for so long that it may be no more, or
 * has had its time. That ends no job: time-outs do. Looked at whenever the poll wakes who waits.
 */
static bool unpu_proto_hopeless(const struct unpu_proto *p, unsigned long deadline)
{
	unsigned long end = READ_ONCE(p->beat_time) + msecs_to_jiffies(UNPU_PROTO_DEAF_MS);

	return READ_ONCE(p->udev->dead) || time_after(jiffies, deadline) ||
	       (READ_ONCE(p->silent) && time_after(jiffies, end));
}

/*
 * Waits of callers: they may be killed, and do not stand in the way of a suspend. UNSAFE says no
 * more than that lockdep need not warn: they are frozen inside drm_dev_enter(), for which only an
 * unplug waits.
 */
#define UNPU_PROTO_WAIT	(TASK_KILLABLE | TASK_FREEZABLE_UNSAFE)

/*
 * Nobody waits any more. The caller gives a buffer's range to the next one now, so the device must
 * hear that it ends before it hears of that: it takes commands in order.
 */
static void unpu_proto_request_leave(struct unpu_proto *p, struct unpu_proto_request *request)
{
	request->zombie = true;
	if (request->kind != UNPU_PROTO_KIND_BO)
		return;
	request->undone = true;
	__set_bit(request->id, p->ids[UNPU_PROTO_KIND_BO].live);
	unpu_proto_id_end(&p->ids[UNPU_PROTO_KIND_BO], request->id);
	unpu_proto_pump(p);
}

/*
 * The verdict on a CREATE, or nobody waits for it any more; then its image is the request's, which
 * is undone when it succeeds.
 */
static int unpu_proto_wait_answer(struct unpu_proto *p, struct unpu_proto_creation *creation)
{
	struct unpu_proto_request *request = creation->request;
	int err;

	wait_event_state(p->wait, READ_ONCE(request->done) ||
			 unpu_proto_hopeless(p, creation->deadline), UNPU_PROTO_WAIT);
	spin_lock(&p->lock);
	if (request->done) {
		err = request->status;
		creation->value = request->value;
		request->tag = 0;
	} else {
		err = fatal_signal_pending(current) ? -EINTR : -ENODEV;
		request->image = creation->image;
		creation->image = NULL;
		unpu_proto_request_leave(p, request);
	}
	spin_unlock(&p->lock);
	/* Somebody may have waited for a free request. */
	wake_up_all(&p->wait);
	return err;
}

/*
 * It could not even be asked. Where the device has taken and answered nothing from anybody for as
 * long, it will not, and only attaching anew makes room; else there were others before this one.
 */
static int unpu_proto_give_up(struct unpu_proto *p, const struct unpu_proto_creation *creation)
{
	if (fatal_signal_pending(current))
		return -EINTR;
	spin_lock(&p->lock);
	if (p->attached && time_after(jiffies, creation->deadline) &&
	    time_after(jiffies, p->moved + unpu_proto_verdict_time())) {
		p->stuck = true;
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
	}
	spin_unlock(&p->lock);
	return -ENODEV;
}

static int unpu_proto_create_object(struct unpu_device *udev, struct unpu_proto_creation *creation,
				    u32 *hw_id)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	int ret = 0;

	if (!creation->deadline)
		creation->deadline = unpu_proto_deadline();
	wait_event_state(p->wait, (ret = unpu_proto_try_create(p, creation)) != 0 ||
			 unpu_proto_hopeless(p, creation->deadline), UNPU_PROTO_WAIT);
	if (!ret)
		ret = unpu_proto_give_up(p, creation);
	if (ret < 0)
		return ret;
	ret = unpu_proto_wait_answer(p, creation);
	if (!ret)
		*hw_id = creation->id;
	return ret;
}

static void unpu_proto_end_object(struct unpu_device *udev, u32 kind, u32 id)
{
	struct unpu_proto *p = to_unpu_proto(udev);

	if (!id)
		return;
	spin_lock(&p->lock);
	unpu_proto_id_end(&p->ids[kind], id);
	if (p->attached)
		unpu_proto_pump(p);
	spin_unlock(&p->lock);
}

static int unpu_proto_bo_create(struct unpu_device *udev, struct unpu_bo *bo)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_BO,
		.command.bo.flags = bo->flags,
		.command.bo.size = bo->base.size,
	};

	if (bo->flags & DRM_UNPU_BO_MMAP)
		creation.command.bo.offset = bo->node.start;
	return unpu_proto_create_object(udev, &creation, &bo->hw_id);
}

static void unpu_proto_bo_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_BO, hw_id);
}

static int unpu_proto_shader_create(struct unpu_device *udev, struct unpu_shader *shader)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_SHADER,
		.command.shader.name = shader->name,
		.command.shader.spec_words = shader->spec_words,
	};

	memcpy(creation.command.shader.spec, shader->spec,
	       shader->spec_words * sizeof(shader->spec[0]));
	return unpu_proto_create_object(udev, &creation, &shader->hw_id);
}

static void unpu_proto_shader_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_SHADER, hw_id);
}

/* The last BO_DESTROY before a range was taken. */
struct unpu_proto_mark {
	bool set;
	u32 nonce, index;
};

/*
 * The range may have been a buffer's whose end the device has not taken yet, and it empties the
 * range when it does. Ends that come later are of others: who waited for these, too, would wait as
 * long as somebody goes on closing buffers.
 */
static bool unpu_proto_range_clean(struct unpu_proto *p, struct unpu_proto_mark *mark)
{
	bool clean = true;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p))
		goto out;
	unpu_proto_pump(p);
	unpu_proto_room(p);
	if (!mark->set && !p->ids[UNPU_PROTO_KIND_BO].num_ending) {
		mark->set = true;
		mark->nonce = p->nonce;
		mark->index = p->bo_destroy;
	}
	clean = mark->set && (!p->bo_destroy_due || mark->nonce != p->nonce ||
			      (s32)(unpu_proto_load(&p->dev->commands_taken) - mark->index) >= 0);
	if (!clean)
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
out:
	spin_unlock(&p->lock);
	return clean;
}

static int unpu_proto_write_image(struct unpu_device *udev, const struct drm_mm_node *node,
				  const struct unpu_program_image *image, unsigned long deadline)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	struct unpu_proto_mark mark = {};
	int idx;

	if (wait_event_state(p->wait, unpu_proto_range_clean(p, &mark) ||
			     unpu_proto_hopeless(p, deadline), UNPU_PROTO_WAIT))
		return -EINTR;
	if (unpu_proto_hopeless(p, deadline))
		return -ENODEV;
	if (!drm_dev_enter(&udev->drm, &idx))
		return -ENODEV;
	memcpy(udev->window + node->start, image->data, image->size);
	drm_dev_exit(idx);
	return 0;
}

static int unpu_proto_program_create(struct unpu_device *udev, struct unpu_program *program,
				     const struct unpu_program_image *image, u32 *error_index)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_PROGRAM,
		.command.program.size = image->size,
		.command.program.num_buffers = image->num_buffers,
		.command.program.num_dispatches = image->num_dispatches,
		.command.program.num_bindings = image->num_bindings,
		.command.program.const_bytes = image->const_bytes,
		.command.program.flags = image->flags,
		.command.program.stop_buffer = image->stop_buffer,
		.command.program.stop_offset = image->stop_offset,
		.image = unpu_heap_get(udev, image->size),
		.deadline = unpu_proto_deadline(),
		.value = ~0ull,
	};
	int err;

	*error_index = ~0u;
	if (!creation.image)
		return -ENOMEM;
	creation.command.program.offset = creation.image->start;
	err = unpu_proto_write_image(udev, creation.image, image, creation.deadline);
	if (!err)
		err = unpu_proto_create_object(udev, &creation, &program->hw_id);
	if (err && creation.value < image->num_dispatches)
		*error_index = creation.value;
	unpu_heap_put(udev, creation.image);
	return err;
}

static void unpu_proto_program_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_PROGRAM, hw_id);
}

/* ---- contexts and jobs --------------------------------------------------------------------- */

static int unpu_proto_ctx_create(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_CTX,
		.command.ctx.priority = ctx->priority,
		.command.ctx.timeout_ns = ctx->timeout_ns,
		.owner = ctx,
	};

	return unpu_proto_create_object(udev, &creation, &ctx->hw_id);
}

/* Under lock: jobs that the device has not heard of need not reach it any more. */
static void unpu_proto_drop_backlog(struct unpu_proto *p, u32 id)
{
	struct unpu_proto_command *command;
	u32 i;

	for (i = p->backlog_sent; i != p->backlog_made; i++) {
		command = &p->backlog[i % UNPU_PROTO_BACKLOG];
		if (command->id == id)
			command->op = 0;
	}
}

/* Under lock. Without room the pump does it. */
static void unpu_proto_tell_end(struct unpu_proto *p, u32 id)
{
	struct unpu_proto_ids *ids = &p->ids[UNPU_PROTO_KIND_CTX];
	u32 i;

	if (test_bit(id, ids->ending))
		return;
	for (i = 0; i < UNPU_PROTO_NUM_REQUESTS; i++) {
		const struct unpu_proto_request *request = &p->requests[i];

		if (request->tag && request->destroy && request->id == id && !request->done)
			return;
	}
	unpu_proto_drop_backlog(p, id);
	unpu_proto_id_end(ids, id);
	unpu_proto_pump(p);
}

/* -ETIMEDOUT: not yet. */
static int unpu_proto_ctx_ended(struct unpu_proto *p, const struct unpu_ctx *ctx, bool tell)
{
	int ret = 0;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p)) {
		ret = -ENODEV;
	} else if (ctx->hw_id && p->flights[ctx->hw_id].owner == ctx) {
		if (tell)
			unpu_proto_tell_end(p, ctx->hw_id);
		ret = -ETIMEDOUT;
	}
	spin_unlock(&p->lock);
	return ret;
}

static int unpu_proto_ctx_destroy(struct unpu_device *udev, struct unpu_ctx *ctx,
				  unsigned int ms)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	int ret = unpu_proto_ctx_ended(p, ctx, true);

	if (ret == -ETIMEDOUT)
		wait_event_timeout(p->wait,
				   (ret = unpu_proto_ctx_ended(p, ctx, false)) != -ETIMEDOUT,
				   msecs_to_jiffies(ms));
	return ret;
}

static void unpu_proto_fill_job(struct unpu_proto_command *command, const struct unpu_job *job)
{
	u32 i;

	command->op = UNPU_PROTO_JOB;
	command->id = job->ctx->hw_id;
	command->job.seqno = job->seqno;
	command->job.num_runs = job->num_runs;
	for (i = 0; i < job->num_runs; i++) {
		command->job.runs[i].program_id = job->runs[i].program->hw_id;
		command->job.runs[i].repeat = job->runs[i].repeat;
	}
}

static int unpu_proto_run(struct unpu_device *udev, struct unpu_job *job)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	struct unpu_proto_command command = {};
	u32 id = job->ctx->hw_id;
	struct unpu_proto_flight *flight = &p->flights[id];
	int err = 0;

	unpu_proto_fill_job(&command, job);
	spin_lock(&p->lock);
	if (unpu_proto_gone(p) || flight->owner != job->ctx) {
		err = -ENODEV;
	} else if (flight->num == UNPU_PROTO_MAX_JOBS) {
		err = -EBUSY;
	} else {
		flight->jobs[flight->num].seqno = job->seqno;
		flight->jobs[flight->num].start = ktime_get();
		flight->num++;
		p->due++;
		p->backlog[p->backlog_made++ % UNPU_PROTO_BACKLOG] = command;
		unpu_proto_pump(p);
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_BUSY_MS);
	}
	spin_unlock(&p->lock);
	return err;
}

static u32 unpu_proto_progress(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	const struct unpu_proto_ctx *words = udev->window + UNPU_PROTO_CTXS;
	struct unpu_proto *p = to_unpu_proto(udev);
	u32 progress = 0;

	spin_lock(&p->lock);
	if (p->attached && ctx->hw_id)
		progress = READ_ONCE(words[ctx->hw_id].progress);
	spin_unlock(&p->lock);
	return progress;
}

const struct unpu_hw_ops unpu_proto_ops = {
	.name = "virtual NPU",
	.init = unpu_proto_init,
	.fini = unpu_proto_fini,
	.suspend = unpu_proto_suspend,
	.resume = unpu_proto_resume,
	.bo_create = unpu_proto_bo_create,
	.bo_destroy = unpu_proto_bo_destroy,
	.shader_create = unpu_proto_shader_create,
	.shader_destroy = unpu_proto_shader_destroy,
	.program_create = unpu_proto_program_create,
	.program_destroy = unpu_proto_program_destroy,
	.ctx_create = unpu_proto_ctx_create,
	.ctx_destroy = unpu_proto_ctx_destroy,
	.run = unpu_proto_run,
	.progress = unpu_proto_progress,
	.reset = unpu_proto_reset,
};
