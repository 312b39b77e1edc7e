// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device without hardware, for tests: unpu.ko made with UNPU_MOCK=1 and loaded with mock=N has N
 * of them. Buffers are the kernel's memory, programs are checked as every device checks them, and
 * of what they do only `copy` is done. A work item runs a repeat at a time, of the context whose
 * turn it is by priority.
 *
 * What the first dispatch, when it is a copy, finds in the first four bytes of its source makes it
 * misbehave:
 *
 *   HANG  never ends, but when it is cancelled
 *   STUK  never ends, but by a reset
 *   EXIT  the device loses everything it has
 *   SLOW  each repeat takes 20 ms longer
 *
 * Fences of the mock depend on nothing but this file. It is no model of hardware: a job's work is
 * done by the processor that might wait for it.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>

#include "unpu_drv.h"
#include "shaders/shaders.h"

/* As much as comes in one piece. */
#define MOCK_WINDOW_ORDER	MAX_PAGE_ORDER
#define MOCK_WINDOW_BYTES	(PAGE_SIZE << MOCK_WINDOW_ORDER)
#define MOCK_DEVICE_BYTES	SZ_64M
#define MOCK_MAX_DEVICES	8
#define MOCK_MAX_CTXS		128	/* ids 1 .. 127 */
#define MOCK_SLOW_US		20000
/* A priority that others keep waiting gets its next repeat when these had 15 times its length. */
#define MOCK_SHARE		15

static unsigned int mock_count;
module_param_named_unsafe(mock, mock_count, uint, 0444);
MODULE_PARM_DESC(mock, "devices without hardware, for tests (0)");

static unsigned int mock_delay_us;
module_param(mock_delay_us, uint, 0644);
MODULE_PARM_DESC(mock_delay_us, "time that such a device takes longer for each repeat (0)");

enum mock_kind { MOCK_BO, MOCK_SHADER, MOCK_PROGRAM };

struct mock_object {
	struct kref ref;	/* the id, each user */
	enum mock_kind kind;
	u32 epoch;		/* of another one than the device's: forgotten */
};

struct mock_bo {
	struct mock_object base;
	void *ptr, *own;
	u64 size;
};

struct mock_shader {
	struct mock_object base;
	u32 kind;
	u32 spec[UNPU_MAX_SPEC_WORDS];
};

struct mock_copy {
	void *from, *to;
	u64 bytes;		/* 0: another shader, which does nothing here */
};

struct mock_program {
	struct mock_object base;
	const u32 *stop;	/* NULL: none */
	u32 num_bos, num_copies;
	struct mock_bo **bos;
	struct mock_copy *copies;	/* one for each dispatch */
};

struct mock_job {
	struct list_head link;
	bool used;
	u64 seqno, busy_ns;
	u32 num_runs, run, repeat;	/* what comes next */
	struct {
		struct mock_program *program;
		u32 repeat;
	} runs[UNPU_MAX_RUNS];
};

struct mock_ctx {
	bool used, cancelled;
	u32 priority, progress;
	u64 turn;
	struct list_head jobs;
	struct mock_job slots[UNPU_MAX_JOBS_IN_FLIGHT];
};

struct mock {
	struct unpu_device *udev;
	struct workqueue_struct *wq;
	struct work_struct work;
	struct work_struct exit_work;
	wait_queue_head_t wait;
	struct xarray objects;

	spinlock_t lock;		/* what follows */
	bool stop;			/* nothing runs any more: reset, suspend, the end */
	u32 epoch;
	u64 turns;
	s64 owed_ns[DRM_UNPU_PRIORITY_HIGH + 1], last_ns[DRM_UNPU_PRIORITY_HIGH + 1];
	struct mock_ctx *running;
	struct mock_ctx *telling;	/* its end of a job may not have been heard yet */
	struct mock_job ended;		/* the worker's, while it tells of it */
	struct mock_ctx ctxs[MOCK_MAX_CTXS];
};

static struct mock *to_mock(struct unpu_device *udev)
{
	return udev->hw_priv;
}

/* ---- objects ------------------------------------------------------------------------------- */

static void mock_object_release(struct kref *ref);

static void mock_put(struct mock_object *object)
{
	if (object)
		kref_put(&object->ref, mock_object_release);
}

static void mock_program_free(struct mock_program *program)
{
	u32 i;

	for (i = 0; i < program->num_bos; i++)
		mock_put(&program->bos[i]->base);
	kvfree(program->bos);
	kvfree(program->copies);
	kfree(program);
}

static void mock_object_release(struct kref *ref)
{
	struct mock_object *object = container_of(ref, struct mock_object, ref);
	struct mock_bo *bo;

	switch (object->kind) {
	case MOCK_BO:
		bo = container_of(object, struct mock_bo, base);
		kvfree(bo->own);
		kfree(bo);
		break;
	case MOCK_SHADER:
		kfree(container_of(object, struct mock_shader, base));
		break;
	case MOCK_PROGRAM:
		mock_program_free(container_of(object, struct mock_program, base));
		break;
	}
}

static void mock_object_init(struct mock *mock, struct mock_object *object, enum mock_kind kind)
{
	kref_init(&object->ref);
	object->kind = kind;
	spin_lock(&mock->lock);
	object->epoch = mock->epoch;
	spin_unlock(&mock->lock);
}

/* The id has the reference from then on; on error it is gone. */
static int mock_publish(struct mock *mock, struct mock_object *object, u32 *id)
{
	struct unpu_device *udev = mock->udev;
	int err = -ENODEV;

	if (!READ_ONCE(udev->dead) && !unpu_device_is_lost(udev))
		err = xa_alloc(&mock->objects, id, object, XA_LIMIT(1, U16_MAX), GFP_KERNEL);
	if (err)
		mock_put(object);
	return err == -EBUSY ? -ENOMEM : err;
}

static struct mock_object *mock_find(struct mock *mock, enum mock_kind kind, u32 id)
{
	struct mock_object *object;

	xa_lock(&mock->objects);
	object = xa_load(&mock->objects, id);
	if (object && object->kind == kind && object->epoch == READ_ONCE(mock->epoch))
		kref_get(&object->ref);
	else
		object = NULL;
	xa_unlock(&mock->objects);
	return object;
}

static void mock_destroy(struct unpu_device *udev, u32 hw_id)
{
	if (hw_id)
		mock_put(xa_erase(&to_mock(udev)->objects, hw_id));
}

static int mock_bo_create(struct unpu_device *udev, struct unpu_bo *bo)
{
	struct mock_bo *own = kzalloc(sizeof(*own), GFP_KERNEL);
	struct mock *mock = to_mock(udev);

	if (!own)
		return -ENOMEM;
	own->size = bo->base.size;
	/* It is the caller who asks for that much: no memory is an answer, not a stack trace. */
	if (!(bo->flags & DRM_UNPU_BO_MMAP))
		own->own = kvzalloc(own->size, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	own->ptr = own->own;
	if (bo->flags & DRM_UNPU_BO_MMAP)
		own->ptr = udev->window + bo->node.start;
	if (!own->ptr) {
		kfree(own);
		return -ENOMEM;
	}
	mock_object_init(mock, &own->base, MOCK_BO);
	return mock_publish(mock, &own->base, &bo->hw_id);
}

#define MOCK_WORD(__shader, __field)	(offsetof(struct unpu_##__shader##_spec, __field) / 4)
#define MOCK_NO_WORD			U8_MAX

/* Which specialization words are more than a size, and must be 0: f32 as in the file, all over. */
static const struct {
	u8 layout, numeric, kv_type;
} mock_words[UNPU_SHADER_COUNT] = {
	[UNPU_SHADER_EMBED] = { MOCK_WORD(embed, layout), MOCK_NO_WORD, MOCK_NO_WORD },
	[UNPU_SHADER_QKV] = { MOCK_WORD(qkv, layout), MOCK_WORD(qkv, numeric),
			      MOCK_WORD(qkv, kv_type) },
	[UNPU_SHADER_ATTN] = { MOCK_NO_WORD, MOCK_NO_WORD, MOCK_WORD(attn, kv_type) },
	[UNPU_SHADER_ATTN_OUT] = { MOCK_WORD(attn_out, layout), MOCK_WORD(attn_out, numeric),
				   MOCK_NO_WORD },
	[UNPU_SHADER_FFN_IN] = { MOCK_WORD(ffn_in, layout), MOCK_WORD(ffn_in, numeric),
				 MOCK_NO_WORD },
	[UNPU_SHADER_FFN_OUT] = { MOCK_WORD(ffn_out, layout), MOCK_WORD(ffn_out, numeric),
				  MOCK_NO_WORD },
	[UNPU_SHADER_HEAD] = { MOCK_WORD(head, layout), MOCK_WORD(head, numeric), MOCK_NO_WORD },
	[UNPU_SHADER_SAMPLE] = { MOCK_WORD(sample, layout), MOCK_NO_WORD, MOCK_NO_WORD },
	[UNPU_SHADER_COPY] = { MOCK_NO_WORD, MOCK_NO_WORD, MOCK_NO_WORD },
};

static bool mock_has_variant(u32 kind, const u32 *spec)
{
	const u8 words[] = { mock_words[kind].layout, mock_words[kind].numeric,
			     mock_words[kind].kv_type };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i] != MOCK_NO_WORD && spec[words[i]])
			return false;
	return true;
}

static int mock_shader_create(struct unpu_device *udev, struct unpu_shader *shader)
{
	int kind = unpu_shader_find(shader->name.name);
	struct mock *mock = to_mock(udev);
	struct mock_shader *own;
	int err;

	if (kind < 0)
		return kind;
	err = unpu_shader_check_spec(kind, shader->spec, shader->spec_words);
	if (err)
		return err;
	if (!mock_has_variant(kind, shader->spec))
		return -EOPNOTSUPP;
	own = kzalloc(sizeof(*own), GFP_KERNEL);
	if (!own)
		return -ENOMEM;
	own->kind = kind;
	memcpy(own->spec, shader->spec, sizeof(own->spec));
	mock_object_init(mock, &own->base, MOCK_SHADER);
	return mock_publish(mock, &own->base, &shader->hw_id);
}

/* ---- programs ------------------------------------------------------------------------------ */

struct mock_tables {
	const struct drm_unpu_buffer *buffers;
	const struct drm_unpu_dispatch *dispatches;
	const struct drm_unpu_binding *bindings;
	const void *constants;
};

static struct mock_tables mock_image_tables(const struct unpu_program_image *image)
{
	struct mock_tables tables = { .buffers = image->data };

	tables.dispatches = (const void *)(tables.buffers + image->num_buffers);
	tables.bindings = (const void *)(tables.dispatches + image->num_dispatches);
	tables.constants = tables.bindings + image->num_bindings;
	return tables;
}

/* One binding against what the shader needs; the structure was checked before. */
static int mock_bind(const struct mock_program *program, const struct mock_tables *tables,
		     u32 binding, u64 need, bool writes, void **ptr)
{
	u32 index = tables->bindings[binding].buffer;
	const struct drm_unpu_buffer *buffer = &tables->buffers[index];
	u32 access = writes ? DRM_UNPU_ACCESS_WRITE : DRM_UNPU_ACCESS_READ;

	if (buffer->size < need || (need && !(buffer->flags & access)))
		return -EINVAL;
	*ptr = program->bos[index]->ptr + buffer->offset;
	return 0;
}

static int mock_check_dispatch(struct mock_program *program, const struct mock_tables *tables,
			       const struct mock_shader *shader,
			       const struct drm_unpu_dispatch *dispatch)
{
	const struct unpu_shader_info *info = unpu_shader_info(shader->kind);
	struct mock_copy *copy = &program->copies[program->num_copies];
	struct unpu_shader_need need;
	void *ptrs[UNPU_SHADER_MAX_BINDINGS];
	int err;
	u32 b;

	if (dispatch->num_bindings != info->num_bindings)
		return -EINVAL;
	err = unpu_shader_need(shader->kind, shader->spec,
			       tables->constants + dispatch->const_offset, dispatch->const_bytes,
			       &need);
	if (err || memcmp(need.grid, dispatch->grid, sizeof(need.grid)))
		return -EINVAL;
	for (b = 0; b < info->num_bindings && !err; b++)
		err = mock_bind(program, tables, dispatch->first_binding + b, need.bytes[b],
				info->write_mask >> b & 1, &ptrs[b]);
	if (!err && shader->kind == UNPU_SHADER_COPY)
		*copy = (struct mock_copy){ ptrs[UNPU_COPY_SRC], ptrs[UNPU_COPY_DST],
					    need.bytes[UNPU_COPY_SRC] };
	return err;
}

static int mock_add_dispatch(struct mock *mock, struct mock_program *program,
			     const struct mock_tables *tables, u32 i)
{
	const struct drm_unpu_dispatch *dispatch = &tables->dispatches[i];
	struct mock_object *object = mock_find(mock, MOCK_SHADER, dispatch->shader_id);
	int err;

	if (!object)
		return -ENOENT;
	err = mock_check_dispatch(program, tables, container_of(object, struct mock_shader, base),
				  dispatch);
	program->num_copies++;
	mock_put(object);
	return err;
}

static int mock_add_buffer(struct mock *mock, struct mock_program *program,
			   const struct drm_unpu_buffer *buffer)
{
	struct mock_object *object = mock_find(mock, MOCK_BO, buffer->handle);

	if (!object)
		return -ENOENT;
	program->bos[program->num_bos++] = container_of(object, struct mock_bo, base);
	return 0;
}

static int mock_fill_program(struct mock *mock, struct mock_program *program,
			     const struct unpu_program_image *image, u32 *error_index)
{
	struct mock_tables tables = mock_image_tables(image);
	int err = 0;
	u32 i;

	for (i = 0; i < image->num_buffers && !err; i++)
		err = mock_add_buffer(mock, program, &tables.buffers[i]);
	if (err)
		return err;
	for (i = 0; i < image->num_dispatches; i++) {
		err = mock_add_dispatch(mock, program, &tables, i);
		if (err) {
			*error_index = i;
			return err;
		}
	}
	if (image->flags & DRM_UNPU_PROGRAM_STOP)
		program->stop = program->bos[image->stop_buffer]->ptr +
				tables.buffers[image->stop_buffer].offset + image->stop_offset;
	return 0;
}

static int mock_program_create(struct unpu_device *udev, struct unpu_program *program,
			       const struct unpu_program_image *image, u32 *error_index)
{
	struct mock_program *own = kzalloc(sizeof(*own), GFP_KERNEL_ACCOUNT);
	struct mock *mock = to_mock(udev);
	int err = -ENOMEM;

	if (!own)
		return -ENOMEM;
	mock_object_init(mock, &own->base, MOCK_PROGRAM);
	own->bos = kvcalloc(image->num_buffers, sizeof(*own->bos), GFP_KERNEL_ACCOUNT);
	own->copies = kvcalloc(image->num_dispatches, sizeof(*own->copies), GFP_KERNEL_ACCOUNT);
	if (own->bos && own->copies)
		err = mock_fill_program(mock, own, image, error_index);
	if (err) {
		mock_put(&own->base);
		return err;
	}
	return mock_publish(mock, &own->base, &program->hw_id);
}

/* ---- one repeat ---------------------------------------------------------------------------- */

static bool mock_is_over(const struct mock *mock, const struct mock_ctx *ctx)
{
	return READ_ONCE(ctx->cancelled) || READ_ONCE(mock->stop);
}

static void mock_sleep(struct mock *mock, const struct mock_ctx *ctx, u64 us)
{
	ktime_t end = ktime_add_us(ktime_get(), us);
	s64 left;

	while ((left = ktime_us_delta(end, ktime_get())) > 0 && !mock_is_over(mock, ctx))
		fsleep(min_t(s64, left, USEC_PER_MSEC));
}

static bool mock_source_is(const struct mock_program *program, const char *word)
{
	const struct mock_copy *first = &program->copies[0];

	return first->bytes && !memcmp(first->from, word, 4);
}

/* From here on nothing more is heard of any job. */
static void mock_exit(struct mock *mock)
{
	spin_lock(&mock->lock);
	mock->stop = true;
	spin_unlock(&mock->lock);
	queue_work(mock->wq, &mock->exit_work);
}

static void mock_misbehave(struct mock *mock, const struct mock_ctx *ctx,
			   const struct mock_program *program)
{
	if (mock_source_is(program, "HANG"))
		wait_event_idle(mock->wait, mock_is_over(mock, ctx));
	else if (mock_source_is(program, "STUK"))
		wait_event_idle(mock->wait, READ_ONCE(mock->stop));
	else if (mock_source_is(program, "EXIT"))
		mock_exit(mock);
	else if (mock_source_is(program, "SLOW"))
		mock_sleep(mock, ctx, MOCK_SLOW_US);
}

static void mock_repeat(struct mock *mock, const struct mock_ctx *ctx,
			const struct mock_program *program)
{
	u32 i;

	mock_misbehave(mock, ctx, program);
	mock_sleep(mock, ctx, READ_ONCE(mock_delay_us));
	for (i = 0; i < program->num_copies && !mock_is_over(mock, ctx); i++)
		if (program->copies[i].bytes)
			memmove(program->copies[i].to, program->copies[i].from,
				program->copies[i].bytes);
}

/* ---- turns --------------------------------------------------------------------------------- */

static struct mock_job *mock_head(struct mock_ctx *ctx)
{
	return list_first_entry_or_null(&ctx->jobs, struct mock_job, link);
}

/* The context of that priority that has waited longest. */
static struct mock_ctx *mock_oldest(struct mock *mock, u32 priority)
{
	struct mock_ctx *ctx, *best = NULL;

	for (ctx = mock->ctxs; ctx < mock->ctxs + MOCK_MAX_CTXS; ctx++)
		if (ctx->used && ctx->priority == priority && mock_head(ctx) &&
		    (!best || ctx->turn < best->turn))
			best = ctx;
	return best;
}

static struct mock_ctx *mock_pick(struct mock *mock)
{
	struct mock_ctx *ctx, *best = NULL;
	u32 priority;

	for (priority = 0; priority <= DRM_UNPU_PRIORITY_HIGH; priority++) {
		ctx = mock_oldest(mock, priority);
		if (!ctx)
			continue;
		best = ctx;
		if (mock->owed_ns[priority] >= MOCK_SHARE * mock->last_ns[priority])
			break;
	}
	return best;
}

static void mock_settle(struct mock *mock, u32 ran, u64 ns)
{
	u32 priority;

	for (priority = 0; priority < ran; priority++)
		if (mock_oldest(mock, priority))
			mock->owed_ns[priority] += ns;
	mock->owed_ns[ran] = 0;
	mock->last_ns[ran] = max_t(u64, ns, 1);
}

static bool mock_is_stopped(const struct mock_job *job)
{
	const struct mock_program *program = job->runs[job->run].program;

	return program->stop && READ_ONCE(*program->stop);
}

/* True: the job is at its end. */
static bool mock_advance(struct mock_job *job)
{
	if (++job->repeat < job->runs[job->run].repeat)
		return false;
	job->repeat = 0;
	return ++job->run == job->num_runs;
}

/* Takes a job from its context. Its slot is free before its end is told: another may come. */
static void mock_take(struct mock_job *job, struct mock_job *taken)
{
	*taken = *job;
	list_del(&job->link);
	job->used = false;
}

static void mock_put_runs(struct mock_job *job)
{
	u32 i;

	for (i = 0; i < job->num_runs; i++)
		mock_put(&job->runs[i].program->base);
}

static void mock_tell(struct mock *mock, struct mock_ctx *ctx, struct mock_job *job, int error)
{
	mock_put_runs(job);
	unpu_job_done(mock->udev, ctx - mock->ctxs, job->seqno, error, job->busy_ns);
}

/* A repeat of the context's oldest job. */
static void mock_turn(struct mock *mock, struct mock_ctx *ctx)
	__must_hold(&mock->lock)
{
	struct mock_job *job = mock_head(ctx);
	bool ended = ctx->cancelled || mock_is_stopped(job);
	int error = ctx->cancelled ? -ECANCELED : 0;
	u64 begin = ktime_get_ns();

	mock->running = ctx;
	spin_unlock(&mock->lock);
	if (!ended)
		mock_repeat(mock, ctx, job->runs[job->run].program);
	spin_lock(&mock->lock);
	mock->running = NULL;
	ctx->turn = ++mock->turns;
	ctx->progress++;
	job->busy_ns += ktime_get_ns() - begin;
	mock_settle(mock, ctx->priority, ktime_get_ns() - begin);
	if (mock->stop)
		return;
	if (!ended) {
		error = ctx->cancelled ? -ECANCELED : 0;
		ended = mock_advance(job) || error;
	}
	if (!ended)
		return;
	mock_take(job, &mock->ended);
	mock->telling = ctx;
	spin_unlock(&mock->lock);
	mock_tell(mock, ctx, &mock->ended, error);
	spin_lock(&mock->lock);
	mock->telling = NULL;
	wake_up_all(&mock->wait);
}

static void mock_work(struct work_struct *work)
{
	struct mock *mock = container_of(work, struct mock, work);
	struct mock_ctx *ctx;

	spin_lock(&mock->lock);
	while (!mock->stop && (ctx = mock_pick(mock))) {
		mock_turn(mock, ctx);
		cond_resched_lock(&mock->lock);
	}
	spin_unlock(&mock->lock);
}

/* ---- contexts and jobs --------------------------------------------------------------------- */

static int mock_ctx_create(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	struct mock *mock = to_mock(udev);
	int err = -ENOSPC;
	u32 id;

	spin_lock(&mock->lock);
	if (READ_ONCE(udev->dead) || unpu_device_is_lost(udev))
		err = -ENODEV;
	for (id = 1; id < MOCK_MAX_CTXS && err == -ENOSPC; id++) {
		struct mock_ctx *own = &mock->ctxs[id];

		if (own->used)
			continue;
		own->used = true;
		own->cancelled = false;
		own->priority = ctx->priority;
		own->turn = mock->turns;
		ctx->hw_id = id;
		err = 0;
	}
	spin_unlock(&mock->lock);
	return err;
}

/* One that does not run ends at once, whoever runs. */
static bool mock_cancel_one(struct mock *mock, struct mock_ctx *ctx)
{
	struct mock_job *last = NULL, taken;

	spin_lock(&mock->lock);
	ctx->cancelled = true;
	if (!list_empty(&ctx->jobs))
		last = list_last_entry(&ctx->jobs, struct mock_job, link);
	if (last && mock->running == ctx && list_is_first(&last->link, &ctx->jobs))
		last = NULL;
	if (last)
		mock_take(last, &taken);
	spin_unlock(&mock->lock);
	if (last)
		mock_tell(mock, ctx, &taken, -ECANCELED);
	return last;
}

static bool mock_ctx_is_quiet(struct mock *mock, struct mock_ctx *ctx)
{
	bool quiet;

	spin_lock(&mock->lock);
	/* Who gets the id next must not hear of this one's jobs. */
	quiet = list_empty(&ctx->jobs) && mock->telling != ctx;
	spin_unlock(&mock->lock);
	return quiet;
}

static int mock_ctx_destroy(struct unpu_device *udev, struct unpu_ctx *ctx, unsigned int ms)
{
	struct mock *mock = to_mock(udev);
	struct mock_ctx *own = &mock->ctxs[ctx->hw_id];

	/* Who asks again has waited before. */
	if (READ_ONCE(own->cancelled))
		ms = 0;
	while (mock_cancel_one(mock, own))
		;
	wake_up_all(&mock->wait);
	if (!wait_event_idle_timeout(mock->wait,
				     READ_ONCE(udev->dead) || mock_ctx_is_quiet(mock, own),
				     msecs_to_jiffies(ms)))
		return -ETIMEDOUT;
	if (READ_ONCE(udev->dead))
		return -ENODEV;
	spin_lock(&mock->lock);
	own->used = false;
	spin_unlock(&mock->lock);
	return 0;
}

static struct mock_job *mock_free_slot(struct mock_ctx *ctx)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(ctx->slots); i++)
		if (!ctx->slots[i].used)
			return &ctx->slots[i];
	return NULL;
}

static bool mock_queue(struct mock *mock, struct mock_ctx *ctx, const struct mock_job *job)
{
	struct mock_job *slot = NULL;

	spin_lock(&mock->lock);
	if (!mock->stop && ctx->used)
		slot = mock_free_slot(ctx);
	if (slot) {
		*slot = *job;
		slot->used = true;
		list_add_tail(&slot->link, &ctx->jobs);
	}
	spin_unlock(&mock->lock);
	return slot;
}

static int mock_run(struct unpu_device *udev, struct unpu_job *job)
{
	struct mock *mock = to_mock(udev);
	struct mock_job own = { .seqno = job->seqno };
	struct mock_object *program;
	u32 i;

	for (i = 0; i < job->num_runs; i++) {
		program = mock_find(mock, MOCK_PROGRAM, job->runs[i].program->hw_id);
		if (!program)
			break;
		own.runs[i].program = container_of(program, struct mock_program, base);
		own.runs[i].repeat = job->runs[i].repeat;
		own.num_runs++;
	}
	if (i < job->num_runs || !mock_queue(mock, &mock->ctxs[job->ctx->hw_id], &own)) {
		mock_put_runs(&own);
		return -ENODEV;
	}
	queue_work(mock->wq, &mock->work);
	return 0;
}

/* Who waits because another one runs gets on, for what the watchdog wants to know. */
static u32 mock_progress(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	struct mock *mock = to_mock(udev);
	struct mock_ctx *own = &mock->ctxs[ctx->hw_id];
	u32 progress;

	spin_lock(&mock->lock);
	progress = own->progress;
	if (mock->running && mock->running != own)
		progress = ++own->progress;
	spin_unlock(&mock->lock);
	return progress;
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Nothing runs, no event comes, nothing is known any more. */
static void mock_forget(struct mock *mock)
{
	struct mock_ctx *ctx;

	spin_lock(&mock->lock);
	mock->stop = true;
	spin_unlock(&mock->lock);
	wake_up_all(&mock->wait);
	cancel_work_sync(&mock->work);
	spin_lock(&mock->lock);
	WRITE_ONCE(mock->epoch, mock->epoch + 1);
	for (ctx = mock->ctxs; ctx < mock->ctxs + MOCK_MAX_CTXS; ctx++) {
		while (mock_head(ctx)) {
			mock_take(mock_head(ctx), &mock->ended);
			spin_unlock(&mock->lock);
			mock_put_runs(&mock->ended);
			spin_lock(&mock->lock);
		}
		ctx->used = false;
		ctx->cancelled = false;
	}
	spin_unlock(&mock->lock);
	wake_up_all(&mock->wait);
}

static void mock_go_on(struct mock *mock)
{
	spin_lock(&mock->lock);
	mock->stop = false;
	spin_unlock(&mock->lock);
}

static void mock_exit_work(struct work_struct *work)
{
	struct mock *mock = container_of(work, struct mock, exit_work);

	unpu_device_lost(mock->udev);
}

static int mock_reset(struct unpu_device *udev)
{
	mock_forget(to_mock(udev));
	mock_go_on(to_mock(udev));
	return 0;
}

static void mock_suspend(struct unpu_device *udev)
{
	mock_forget(to_mock(udev));
}

static int mock_resume(struct unpu_device *udev)
{
	mock_go_on(to_mock(udev));
	return 0;
}

static void mock_fini(struct unpu_device *udev)
{
	struct mock *mock = to_mock(udev);

	mock_forget(mock);
	cancel_work_sync(&mock->exit_work);
}

static int mock_fill_shaders(struct unpu_device *udev)
{
	u32 kind;

	udev->shaders = drmm_kcalloc(&udev->drm, UNPU_SHADER_COUNT, sizeof(*udev->shaders),
				     GFP_KERNEL);
	if (!udev->shaders)
		return -ENOMEM;
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++)
		strscpy(udev->shaders[kind].name, unpu_shader_info(kind)->name,
			sizeof(udev->shaders[kind].name));
	udev->num_shaders = UNPU_SHADER_COUNT;
	return 0;
}

static int mock_init(struct unpu_device *udev)
{
	int err;

	udev->info = (struct drm_unpu_dev_info){
		.version_major = 1,
		.heap_window_bytes = MOCK_WINDOW_BYTES,
		.heap_device_bytes = MOCK_DEVICE_BYTES,
		.max_bo_bytes = MOCK_DEVICE_BYTES,
		.max_binding_bytes = MOCK_DEVICE_BYTES,
		.binding_align = 64,
		.max_rows = 256,
		.max_dispatches = UNPU_MAX_DISPATCHES,
		.max_bindings = UNPU_MAX_BINDINGS,
		.max_buffers = UNPU_MAX_BUFFERS,
		.max_spec_words = UNPU_MAX_SPEC_WORDS,
		.max_const_bytes = UNPU_MAX_CONST_BYTES,
		.max_programs = UNPU_MAX_RUNS,
		.max_repeat = 1 << 16,
		.max_job_dispatches = 1 << 22,
		.max_syncs = UNPU_MAX_SYNCS,
		.max_contexts = UNPU_MAX_CONTEXTS,
		.max_queued_jobs = UNPU_MAX_QUEUED_JOBS,
		.tokens_per_submit = 1,
		.default_timeout_ns = 10ull * NSEC_PER_SEC,
		.max_timeout_ns = 60ull * NSEC_PER_SEC,
		.max_job_time_ns = 60ull * NSEC_PER_SEC,
		.kv_types = 1 << DRM_UNPU_KV_F32,
		.num_matrices = 1,
		.units = 1,
		.matrices = { { DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_CLASS_F32 } },
		.name = "mock",
	};
	err = mock_fill_shaders(udev);
	return err ? err : unpu_gem_init(udev, 0);
}

static const struct unpu_hw_ops mock_ops = {
	.name = "mock",
	.init = mock_init,
	.fini = mock_fini,
	.suspend = mock_suspend,
	.resume = mock_resume,
	.bo_create = mock_bo_create,
	.shader_create = mock_shader_create,
	.program_create = mock_program_create,
	.ctx_create = mock_ctx_create,
	.bo_destroy = mock_destroy,
	.shader_destroy = mock_destroy,
	.program_destroy = mock_destroy,
	.run = mock_run,
	.progress = mock_progress,
	.ctx_destroy = mock_ctx_destroy,
	.reset = mock_reset,
};

static void mock_release(struct drm_device *drm, void *data)
{
	struct mock *mock = data;

	destroy_workqueue(mock->wq);
	xa_destroy(&mock->objects);
	kvfree(mock);
}

static int mock_create(struct unpu_device *udev)
{
	struct mock *mock = kvzalloc(sizeof(*mock), GFP_KERNEL);
	u32 i;

	if (!mock)
		return -ENOMEM;
	/* Two of its own: a reset waits for one of them and the other may bring that about. */
	mock->wq = alloc_workqueue("unpu-mock", WQ_UNBOUND | WQ_MEM_RECLAIM, 2);
	if (!mock->wq) {
		kvfree(mock);
		return -ENOMEM;
	}
	mock->udev = udev;
	INIT_WORK(&mock->work, mock_work);
	INIT_WORK(&mock->exit_work, mock_exit_work);
	init_waitqueue_head(&mock->wait);
	xa_init_flags(&mock->objects, XA_FLAGS_ALLOC1);
	spin_lock_init(&mock->lock);
	for (i = 0; i < MOCK_MAX_CTXS; i++)
		INIT_LIST_HEAD(&mock->ctxs[i].jobs);
	udev->hw_priv = mock;
	return drmm_add_action_or_reset(&udev->drm, mock_release, mock);
}

/* ---- the platform device ------------------------------------------------------------------- */

static int mock_probe(struct platform_device *pdev)
{
	struct unpu_device *udev;
	unsigned long window;
	int err;

	udev = unpu_device_create(&pdev->dev, &mock_ops);
	if (IS_ERR(udev))
		return PTR_ERR(udev);
	err = mock_create(udev);
	if (err)
		return err;
	window = devm_get_free_pages(&pdev->dev, GFP_KERNEL | __GFP_ZERO, MOCK_WINDOW_ORDER);
	if (!window)
		return -ENOMEM;
	udev->window = (void *)window;
	udev->window_phys = virt_to_phys(udev->window);
	udev->window_bytes = MOCK_WINDOW_BYTES;
	platform_set_drvdata(pdev, udev);
	return unpu_device_register(udev);
}

static void mock_remove(struct platform_device *pdev)
{
	unpu_device_remove(platform_get_drvdata(pdev));
}

static int mock_pm_suspend(struct device *dev)
{
	return unpu_device_suspend(dev_get_drvdata(dev));
}

static int mock_pm_resume(struct device *dev)
{
	return unpu_device_resume(dev_get_drvdata(dev));
}

static DEFINE_SIMPLE_DEV_PM_OPS(mock_pm_ops, mock_pm_suspend, mock_pm_resume);

static struct platform_driver mock_driver = {
	.probe = mock_probe,
	.remove = mock_remove,
	.driver = {
		.name = "unpu_mock",
		.pm = pm_sleep_ptr(&mock_pm_ops),
	},
};

static struct platform_device *mock_devices[MOCK_MAX_DEVICES];

static void mock_unregister_devices(void)
{
	unsigned int i;

	for (i = 0; i < MOCK_MAX_DEVICES; i++)
		platform_device_unregister(mock_devices[i]);
}

int unpu_mock_register(void)
{
	struct platform_device *pdev;
	unsigned int i;
	int err;

	if (!mock_count)
		return 0;
	err = platform_driver_register(&mock_driver);
	for (i = 0; i < min(mock_count, MOCK_MAX_DEVICES) && !err; i++) {
		pdev = platform_device_register_simple("unpu_mock", i, NULL, 0);
		if (IS_ERR(pdev)) {
			err = PTR_ERR(pdev);
			mock_unregister_devices();
			platform_driver_unregister(&mock_driver);
		} else {
			mock_devices[i] = pdev;
		}
	}
	return err;
}

void unpu_mock_unregister(void)
{
	if (!mock_count)
		return;
	mock_unregister_devices();
	platform_driver_unregister(&mock_driver);
}
