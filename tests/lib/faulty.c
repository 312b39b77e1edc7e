/* SPDX-License-Identifier: MIT */
#include "tests/lib/faulty.h"

#include <errno.h>
#include <string.h>

static struct {
	struct unpu_device *dev;
	const struct unpu_device_ops *real;
	uint32_t calls, fail_at, jobs, fail_job, points;
	int err, job_err;
	uint32_t guilty;	/* id of a context */
	void (*hook)(void *arg, uint32_t point);
	void *arg;
} f;

static void look(void)
{
	if (f.hook)
		f.hook(f.arg, ++f.points);
}

/* Counts a call; true: it is to do its work. */
static bool begin(bool *fails)
{
	look();
	*fails = ++f.calls == f.fail_at;
	return !*fails;
}

static int end(bool fails, int ret)
{
	look();
	return fails ? f.err : ret;
}

#define CALL(name, type) \
	static int name(struct unpu_device *dev, type args) \
	{ \
		bool fails; \
		int ret = begin(&fails) ? f.real->name(dev, args) : 0; \
\
		return end(fails, ret); \
	}
CALL(dev_query, struct drm_unpu_dev_query *)
CALL(bo_create, struct drm_unpu_bo_create *)
CALL(bo_mmap_offset, struct drm_unpu_bo_mmap_offset *)
CALL(ctx_create, struct drm_unpu_ctx_create *)
CALL(shader_create, struct drm_unpu_shader_create *)
CALL(program_create, struct drm_unpu_program_create *)
CALL(syncobj_create, uint32_t *)

static int ctx_query(struct unpu_device *dev, struct drm_unpu_ctx_query *args)
{
	bool fails;
	int ret = begin(&fails) ? f.real->ctx_query(dev, args) : 0;

	if (!ret && ++f.jobs == f.fail_job) {
		args->failed_seqno = args->completed_seqno;
		args->failed_errno = f.job_err;
		args->state = DRM_UNPU_CTX_GUILTY;
		f.guilty = args->ctx_id;
	}
	return end(fails, ret);
}

static int ctx_destroy(struct unpu_device *dev, struct drm_unpu_ctx_destroy *args)
{
	if (args->ctx_id == f.guilty)
		f.guilty = 0;
	return f.real->ctx_destroy(dev, args);
}

static int submit(struct unpu_device *dev, struct drm_unpu_submit *args)
{
	bool fails;
	int ret = 0;

	if (begin(&fails))
		ret = args->ctx_id == f.guilty ? -EIO : f.real->submit(dev, args);
	return end(fails, ret);
}

static int bo_map(struct unpu_device *dev, uint32_t handle, void **ptr)
{
	bool fails;
	int ret = begin(&fails) ? f.real->bo_map(dev, handle, ptr) : 0;

	return end(fails, ret);
}

static int syncobj_wait(struct unpu_device *dev, uint32_t handle, uint64_t point,
			uint64_t deadline_ns)
{
	bool fails;
	/* A job that nobody waited for would still be there: a wait that fails has waited. */
	int ret = f.real->syncobj_wait(dev, handle, point, deadline_ns);

	begin(&fails);
	return end(fails, ret);
}

static struct unpu_device_ops ops;

void faulty_begin(struct unpu_model *model)
{
	memset(&f, 0, sizeof(f));
	f.dev = model->home->dev;
	f.real = f.dev->ops;
	ops = *f.real;
	ops.dev_query = dev_query;
	ops.bo_create = bo_create;
	ops.bo_mmap_offset = bo_mmap_offset;
	ops.ctx_create = ctx_create;
	ops.ctx_destroy = ctx_destroy;
	ops.ctx_query = ctx_query;
	ops.shader_create = shader_create;
	ops.program_create = program_create;
	ops.submit = submit;
	ops.bo_map = bo_map;
	ops.syncobj_create = syncobj_create;
	ops.syncobj_wait = syncobj_wait;
	f.dev->ops = &ops;
}

void faulty_end(void)
{
	f.dev->ops = f.real;
}

void faulty_fail(uint32_t nth, int err)
{
	f.calls = 0;
	f.fail_at = nth;
	f.err = err;
}

void faulty_fail_job(uint32_t nth, int err)
{
	f.jobs = 0;
	f.fail_job = nth;
	f.job_err = err;
}

uint32_t faulty_calls(void)
{
	return f.calls;
}

void faulty_watch(void (*hook)(void *arg, uint32_t point), void *arg)
{
	f.points = 0;
	f.hook = hook;
	f.arg = arg;
}
