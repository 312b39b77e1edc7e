/* SPDX-License-Identifier: MIT */
/*
 * The frame of in-process devices on a fake engine: queries, memory, lifetimes, queues, priorities,
 * time limits, cancelling, waiting by several threads. Wrong input is tested in errnos.c.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/fake.h"

#define MS		1000000ull
#define SECOND		1000000000ull

static struct fake *fake;
static struct unpu_device *dev;
static uint32_t src, dst;	/* 4 KiB each, mappable */

static int setup(void **state)
{
	(void)state;
	dev = fake_device(&fake);
	src = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	dst = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (dev)
		dev->ops->close(dev);
	dev = NULL;
	return 0;
}

static uint32_t program(uint32_t tag)
{
	return fake_program(dev, src, dst, tag, false);
}

static int wait_for(uint32_t syncobj, uint64_t point)
{
	return dev->ops->syncobj_wait(dev, syncobj, point, fake_now() + 20 * SECOND);
}

static int destroy_ctx(uint32_t ctx)
{
	struct drm_unpu_ctx_destroy args = { .ctx_id = ctx };

	return dev->ops->ctx_destroy(dev, &args);
}

static int destroy_program(uint32_t id)
{
	struct drm_unpu_program_destroy args = { .program_id = id };

	return dev->ops->program_destroy(dev, &args);
}

static void nap(uint64_t ns)
{
	const struct timespec time = { (time_t)(ns / SECOND), (long)(ns % SECOND) };

	nanosleep(&time, NULL);
}

/* Until a run is in progress. */
static void wait_inside(void)
{
	while (!atomic_load(&fake->inside))
		nap(MS / 10);
}

/* A thread that waits for a syncobj. */
struct waiter {
	pthread_t thread;
	uint32_t syncobj;
	uint64_t point;
	uint64_t deadline_ns;
	int err;
};

static void *waiter_main(void *arg)
{
	struct waiter *waiter = arg;

	waiter->err = dev->ops->syncobj_wait(dev, waiter->syncobj, waiter->point,
					     waiter->deadline_ns);
	return NULL;
}

static void waiter_start_until(struct waiter *waiter, uint32_t syncobj, uint64_t point,
			       uint64_t deadline_ns)
{
	*waiter = (struct waiter){
		.syncobj = syncobj, .point = point, .deadline_ns = deadline_ns, .err = 1,
	};
	assert_int_equal(pthread_create(&waiter->thread, NULL, waiter_main, waiter), 0);
}

static void waiter_start(struct waiter *waiter, uint32_t syncobj, uint64_t point)
{
	waiter_start_until(waiter, syncobj, point, fake_now() + 20 * SECOND);
}

static int waiter_join(struct waiter *waiter)
{
	assert_int_equal(pthread_join(waiter->thread, NULL), 0);
	return waiter->err;
}

/* ---- queries ------------------------------------------------------------------------------- */

static void test_query_size(void **state)
{
	uint8_t bytes[sizeof(struct drm_unpu_dev_info) + 64];
	struct drm_unpu_dev_query args = { DRM_UNPU_QUERY_DEV_INFO, 0, 0 };
	const struct drm_unpu_dev_info *info = (const void *)bytes;
	size_t i;

	(void)state;
	assert_int_equal(dev->ops->dev_query(dev, &args), 0);
	assert_int_equal(args.size, sizeof(*info));
	memset(bytes, 0xa5, sizeof(bytes));
	args.size = sizeof(bytes);
	args.pointer = (uintptr_t)bytes;
	assert_int_equal(dev->ops->dev_query(dev, &args), 0);
	assert_int_equal(args.size, sizeof(*info));
	for (i = sizeof(*info); i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], 0);
	assert_int_equal(info->version_major, 1);
	assert_true(info->features & DRM_UNPU_FEATURE_WAIT_RUNS);
	assert_int_equal(info->max_bindings, UNPU_SHADER_MAX_BINDINGS);
	assert_int_equal(info->max_programs, 2);
	assert_string_equal((const char *)info->name, "fake");
}

static void test_query_shaders(void **state)
{
	struct drm_unpu_shader_name names[UNPU_SHADER_COUNT + 1];
	struct drm_unpu_dev_query args = {
		DRM_UNPU_QUERY_DEV_SHADERS, sizeof(names), (uintptr_t)names,
	};
	uint32_t kind;

	(void)state;
	memset(names, 0xa5, sizeof(names));
	assert_int_equal(dev->ops->dev_query(dev, &args), 0);
	assert_int_equal(args.size, UNPU_SHADER_COUNT * sizeof(names[0]));
	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++)
		assert_int_equal(unpu_shader_find(names[kind].name), kind);
	assert_int_equal(names[UNPU_SHADER_COUNT].name[0], 0);
}

/* ---- buffers ------------------------------------------------------------------------------- */

static void test_bo_is_zeroed_and_rounded(void **state)
{
	static const uint64_t sizes[] = { 1, 4096, 4097, (2 << 20) - 1, (2 << 20) + 1, 5 << 20 };
	struct drm_unpu_bo_create args;
	uint64_t used = fake_stats(dev).window_used_bytes;
	uint64_t at;
	uint8_t *ptr;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		args = (struct drm_unpu_bo_create){ sizes[i], DRM_UNPU_BO_MMAP, 0 };
		assert_int_equal(dev->ops->bo_create(dev, &args), 0);
		assert_true(args.size >= sizes[i] && args.size < sizes[i] + 65536);
		assert_int_equal(args.size % 4096, 0);
		assert_int_equal(fake_stats(dev).window_used_bytes, used + args.size);
		ptr = fake_map(dev, args.handle);
		assert_int_equal((uintptr_t)ptr % 256, 0);
		for (at = 0; at < args.size; at++)
			assert_int_equal(ptr[at], 0);
		memset(ptr, 0xff, args.size);
		/* The mapping goes on without the handle, and takes the memory with it. */
		assert_int_equal(dev->ops->bo_close(dev, args.handle), 0);
		ptr[args.size - 1] = 1;
		assert_int_equal(dev->ops->bo_unmap(dev, args.handle, ptr, sizes[i]), 0);
		assert_int_equal(fake_stats(dev).window_used_bytes, used);
	}
}

static void test_bo_map(void **state)
{
	uint32_t private = fake_bo(dev, 4096, 0);
	void *ptr = NULL, *again;

	(void)state;
	assert_int_equal(dev->ops->bo_map(dev, private, &ptr), -EINVAL);
	assert_int_equal(dev->ops->bo_map(dev, 777, &ptr), -ENOENT);
	assert_null(ptr);
	ptr = fake_map(dev, src);
	again = fake_map(dev, src);
	assert_ptr_equal(ptr, again);
	assert_int_equal(dev->ops->bo_unmap(dev, src, (uint8_t *)ptr + 1, 4096), -EINVAL);
	assert_int_equal(dev->ops->bo_unmap(dev, src, ptr, 8192), -EINVAL);
	assert_int_equal(dev->ops->bo_unmap(dev, src, ptr, 4096), 0);
	*(uint8_t *)again = 1;
	assert_int_equal(dev->ops->bo_unmap(dev, src, again, 4096), 0);
	assert_int_equal(dev->ops->bo_unmap(dev, src, again, 4096), -EINVAL);
}

static void test_heaps(void **state)
{
	struct drm_unpu_bo_create args = { 1 << 22, 0, 0 };
	uint32_t handle;

	(void)state;
	assert_int_equal(dev->ops->bo_create(dev, &args), 0);
	handle = args.handle;
	args.size = 1;
	assert_int_equal(dev->ops->bo_create(dev, &args), -ENOSPC);
	fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);	/* the other heap is not full */
	assert_int_equal(dev->ops->bo_close(dev, handle), 0);
	assert_int_equal(fake_stats(dev).device_used_bytes, 0);
	assert_int_equal(dev->ops->bo_create(dev, &args), 0);
	assert_int_equal(args.handle, handle);	/* the lowest free number */
}

static void test_import(void **state)
{
	uint8_t *memory = aligned_alloc(4096, 4096);
	uint32_t *out = fake_map(dev, dst);
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint64_t used = fake_stats(dev).window_used_bytes;
	uint32_t handle, id;
	void *ptr;

	(void)state;
	memset(memory, 0x5a, 4096);
	assert_int_equal(dev->ops->bo_import(dev, memory + 1, 100, 0, &handle), -EINVAL);
	assert_int_equal(dev->ops->bo_import(dev, memory, 0, 0, &handle), -EINVAL);
	assert_int_equal(dev->ops->bo_import(dev, NULL, 4096, 0, &handle), -EINVAL);
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 0, &handle), 0);
	assert_int_equal(fake_stats(dev).window_used_bytes, used);
	assert_int_equal(dev->ops->bo_map(dev, handle, &ptr), -EINVAL);
	id = fake_program(dev, handle, dst, 3, false);
	assert_int_equal(dev->ops->bo_close(dev, handle), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(out[2], 0x5a5a5a5a);
	assert_int_equal(out[3], 0);
	assert_int_equal(destroy_program(id), 0);
	free(memory);
}

/* ---- lifetimes ----------------------------------------------------------------------------- */

/* A program lives on without the handles of its buffers and the id of its shader. */
static void test_program_keeps_buffers(void **state)
{
	uint32_t *in = fake_map(dev, src), *out = fake_map(dev, dst);
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(2);

	(void)state;
	in[0] = 11;
	in[1] = 22;
	assert_int_equal(dev->ops->bo_close(dev, src), 0);
	assert_int_equal(dev->ops->bo_close(dev, dst), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(out[0], 11);
	assert_int_equal(out[1], 22);
	assert_int_equal(dev->ops->bo_unmap(dev, src, in, 4096), 0);
	assert_int_equal(dev->ops->bo_unmap(dev, dst, out, 4096), 0);
	assert_int_not_equal(fake_stats(dev).window_used_bytes, 0);
	assert_int_equal(destroy_program(id), 0);
	assert_int_equal(fake_stats(dev).window_used_bytes, 0);
	assert_int_equal(atomic_load(&fake->released), 1);
}

/* A job runs to its end without the id of its program. */
static void test_job_keeps_program(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);

	(void)state;
	assert_int_equal(fake_submit(dev, ctx, id, 3, syncobj, 0), 0);
	assert_int_equal(destroy_program(id), 0);
	assert_int_equal(destroy_program(id), -ENOENT);
	assert_int_equal(fake_submit(dev, ctx, id, 1, 0, 0), -ENOENT);
	assert_int_equal(atomic_load(&fake->released), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_int_equal(atomic_load(&fake->released), 1);
}

/* A syncobj's handle goes while a job still has to signal it and a thread waits for it. */
static void test_syncobj_destroyed(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	struct waiter waiter;

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, program(1), 1, syncobj, 7), 0);
	waiter_start(&waiter, syncobj, 7);
	wait_inside();
	assert_int_equal(dev->ops->syncobj_destroy(dev, syncobj), 0);
	assert_int_equal(wait_for(syncobj, 7), -ENOENT);
	atomic_store(&fake->hold, false);
	assert_int_equal(waiter_join(&waiter), 0);
}

static void test_ctx_destroyed_while_queued(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);

	(void)state;
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 2), 0);
	assert_int_equal(destroy_program(id), 0);
	assert_int_equal(destroy_ctx(ctx), 0);
	assert_int_equal(atomic_load(&fake->released), 1);
	assert_int_equal(wait_for(syncobj, 2), 0);
	assert_int_equal(atomic_load(&fake->runs), 0);
	assert_int_equal(fake_stats(dev).jobs_cancelled, 2);
	assert_int_equal(destroy_ctx(ctx), -ENOENT);
}

/* The engine is told at once, and the waiting thread wakes. */
static void test_ctx_destroyed_while_running(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);
	struct waiter waiter;

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, id, 5, syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 5, syncobj, 2), 0);
	waiter_start(&waiter, syncobj, 2);
	wait_inside();
	assert_int_equal(destroy_ctx(ctx), 0);
	assert_int_equal(waiter_join(&waiter), 0);
	assert_int_equal(atomic_load(&fake->runs), 1);
	assert_int_equal(fake_stats(dev).jobs_cancelled, 2);
	atomic_store(&fake->hold, false);
	ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 3), 0);
	assert_int_equal(wait_for(syncobj, 3), 0);
	assert_int_equal(fake_query(dev, ctx).failed_seqno, 0);
}

/* One thread runs, one waits for it, a third closes the device under both. */
static void test_close_while_waiting(void **state)
{
	uint32_t syncobj = fake_syncobj(dev), other = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t ctx2 = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	struct waiter running, waiting;

	(void)state;
	fake_map(dev, src);
	fake_map(dev, src);
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, program(1), 1000, syncobj, 0), 0);
	assert_int_equal(fake_submit(dev, ctx2, program(2), 1, other, 9), 0);
	waiter_start(&running, syncobj, 0);
	wait_inside();
	waiter_start(&waiting, other, 9);
	nap(5 * MS);
	dev->ops->close(dev);
	dev = NULL;
	assert_int_equal(waiter_join(&running), 0);
	assert_int_equal(waiter_join(&waiting), 0);
}

/* The thread that waits gives back the last job's program, and close waits for that. */
static void test_close_while_releasing(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);
	struct waiter waiter;

	(void)state;
	fake->release_ns = 50 * MS;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(destroy_program(id), 0);
	waiter_start(&waiter, syncobj, 0);
	wait_inside();
	dev->ops->close(dev);	/* the engine knows whether a program is left */
	dev = NULL;
	assert_int_equal(waiter_join(&waiter), 0);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void test_seqnos(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);
	struct drm_unpu_run run = { id, 2 };
	struct drm_unpu_submit args = {
		.ctx_id = ctx, .runs = { sizeof(run), 1, (uintptr_t)&run }, .seqno = 99,
	};

	(void)state;
	fake->run_ns = MS;
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(args.seqno, 1);
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(args.seqno, 2);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 3);
	assert_int_equal(fake_query(dev, ctx).failed_seqno, 0);
	assert_int_equal(fake_query(dev, ctx).state, DRM_UNPU_CTX_OK);
	assert_true(fake_query(dev, ctx).busy_ns >= 5 * MS);
	assert_true(fake_query(dev, ctx).queued_ns >= 2 * MS);
	assert_int_equal(fake_stats(dev).jobs_completed, 3);
	assert_true(fake_stats(dev).busy_ns >= 5 * MS);
}

/* Runs in order, each its number of times. */
static void test_runs_in_order(void **state)
{
	static const uint32_t want[] = { 5, 5, 5, 6, 6 };
	uint32_t syncobj = fake_syncobj(dev);
	struct drm_unpu_run runs[] = { { program(5), 3 }, { program(6), 2 } };
	struct drm_unpu_sync sync = { syncobj, DRM_UNPU_SYNC_SIGNAL, 0 };
	struct drm_unpu_submit args = {
		.ctx_id = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0),
		.runs = { sizeof(runs[0]), 2, (uintptr_t)runs },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};

	(void)state;
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 5);
	assert_memory_equal(fake->tags, want, sizeof(want));
}

static void test_queue_full(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);
	uint64_t i;

	(void)state;
	for (i = 1; i <= 3; i++)
		assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, i), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 4), -EBUSY);
	/* The refused job has not touched the timeline. */
	assert_int_equal(wait_for(syncobj, 4), -EINVAL);
	assert_int_equal(wait_for(syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 4), 0);
	assert_int_equal(wait_for(syncobj, 4), 0);
	assert_int_equal(atomic_load(&fake->runs), 4);
}

static _Atomic uint32_t *stop_word;

static void stop_at_third(struct fake *f, void *arg)
{
	(void)arg;
	if (atomic_load(&f->runs) == 3)
		atomic_store(stop_word, 2);
}

/* The stop word skips what is left of the job, the other program too, and is no error. */
static void test_stop_word(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t stoppable = fake_program(dev, src, dst, 1, true);
	struct drm_unpu_run runs[] = { { stoppable, 10 }, { program(2), 5 } };
	struct drm_unpu_sync sync = { syncobj, DRM_UNPU_SYNC_SIGNAL, 0 };
	struct drm_unpu_submit args = {
		.ctx_id = ctx,
		.runs = { sizeof(runs[0]), 2, (uintptr_t)runs },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};

	(void)state;
	stop_word = fake_map(dev, src);
	fake->hook = stop_at_third;
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_int_equal(fake_query(dev, ctx).failed_seqno, 0);
	/* Set before the job: nothing runs at all. */
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 2);
	atomic_store(stop_word, 0);
	assert_int_equal(fake_submit(dev, ctx, stoppable, 2, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 5);
}

/* ---- failures ------------------------------------------------------------------------------ */

static void expect_failure(uint32_t ctx, uint32_t state, int err)
{
	struct drm_unpu_ctx_query query = fake_query(dev, ctx);

	assert_int_equal(query.state, state);
	assert_int_equal(query.failed_errno, err);
}

/* A hung job: -ETIME for it, -ECANCELED for those behind it, others are not touched. */
static void time_out(bool stubborn)
{
	uint32_t syncobj = fake_syncobj(dev), other = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 20 * MS);
	uint32_t innocent = fake_ctx(dev, DRM_UNPU_PRIORITY_LOW, 0);
	uint32_t id = program(1);
	uint64_t begin = fake_now();

	fake->run_ns = stubborn ? 60 * MS : 10 * SECOND;
	fake->stubborn = stubborn;
	assert_int_equal(fake_submit(dev, ctx, id, 2, syncobj, 1), 0);
	assert_int_equal(wait_for(syncobj, 1), 0);
	assert_true(fake_now() - begin < 5 * SECOND);
	assert_true(fake_now() - begin >= 20 * MS);
	expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -ETIME);
	assert_int_equal(fake_stats(dev).jobs_timed_out, 1);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 2), -EIO);
	assert_int_equal(atomic_load(&fake->runs), 1);
	fake->run_ns = 0;
	assert_int_equal(fake_submit(dev, innocent, id, 1, other, 0), 0);
	assert_int_equal(wait_for(other, 0), 0);
	expect_failure(innocent, DRM_UNPU_CTX_OK, 0);
}

static void test_timeout(void **state)
{
	(void)state;
	time_out(false);
}

/* An engine that goes on regardless and says that all was well. */
static void test_timeout_ignored(void **state)
{
	(void)state;
	time_out(true);
}

static void test_timeout_cancels_queue(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 10 * MS);
	uint32_t id = program(1);

	(void)state;
	fake->run_ns = 10 * SECOND;
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 2), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 3), 0);
	assert_int_equal(wait_for(syncobj, 3), 0);
	assert_int_equal(atomic_load(&fake->runs), 1);
	assert_int_equal(fake_stats(dev).jobs_timed_out, 1);
	assert_int_equal(fake_stats(dev).jobs_cancelled, 2);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 3);
	expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -ECANCELED);
}

/* The guard sleeps until woken, or until the end of a longer time limit. */
static void test_guard_wakes(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t patient = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 20 * SECOND);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 10 * MS);
	uint32_t hasty = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 10 * MS);
	uint32_t id = program(1);
	uint64_t begin;

	(void)state;
	nap(20 * MS);
	begin = fake_now();
	fake->run_ns = 10 * SECOND;
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -ETIME);
	fake->run_ns = 0;
	assert_int_equal(fake_submit(dev, patient, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	nap(20 * MS);
	fake->run_ns = 10 * SECOND;
	assert_int_equal(fake_submit(dev, hasty, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	expect_failure(hasty, DRM_UNPU_CTX_GUILTY, -ETIME);
	assert_true(fake_now() - begin < 8 * SECOND);
}

/* Each repeat is progress: a job far longer than its timeout is fine. */
static void test_progress_is_no_timeout(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 500 * MS);

	(void)state;
	fake->run_ns = 3 * MS;
	assert_int_equal(fake_submit(dev, ctx, program(1), 250, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	expect_failure(ctx, DRM_UNPU_CTX_OK, 0);
	assert_true(fake_query(dev, ctx).busy_ns > 500 * MS);
}

static void test_engine_fails(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t id = program(1);

	(void)state;
	fake->fail = ENOMEM;
	assert_int_equal(fake_submit(dev, ctx, id, 4, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 1);
	expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -ENOMEM);
	assert_int_equal(fake_query(dev, ctx).failed_seqno, 1);
	assert_int_equal(fake_stats(dev).jobs_failed, 1);
}

/* The device went: everybody has lost, at once. */
static void test_device_lost(void **state)
{
	uint32_t syncobj = fake_syncobj(dev), other = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	uint32_t bystander = fake_ctx(dev, DRM_UNPU_PRIORITY_LOW, 0);
	uint32_t id = program(1);

	(void)state;
	fake->fail = ENODEV;
	assert_int_equal(fake_submit(dev, bystander, id, 1, other, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 1), 0);
	assert_int_equal(wait_for(syncobj, 1), 0);
	assert_int_equal(wait_for(other, 1), 0);
	assert_int_equal(atomic_load(&fake->runs), 1);
	expect_failure(ctx, DRM_UNPU_CTX_LOST, -ENODEV);
	expect_failure(bystander, DRM_UNPU_CTX_LOST, -ENODEV);
	assert_int_equal(fake_submit(dev, bystander, id, 1, other, 2), -EIO);
	assert_int_equal(fake_stats(dev).epoch, 1);
}

/* ---- order --------------------------------------------------------------------------------- */

/* HIGH before NORMAL, whoever came first. */
static void test_priority(void **state)
{
	static const uint32_t want[] = { 3, 3, 2, 2 };
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t normal = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t high = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);

	(void)state;
	fake->run_ns = MS;
	assert_int_equal(fake_submit(dev, normal, program(2), 2, syncobj, 0), 0);
	assert_int_equal(fake_submit(dev, high, program(3), 2, 0, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 4);
	assert_memory_equal(fake->tags, want, sizeof(want));
}

static uint32_t late_ctx, late_program, late_syncobj;

static void submit_late(struct fake *f, void *arg)
{
	(void)arg;
	if (atomic_load(&f->runs) == 2)
		assert_int_equal(fake_submit(dev, late_ctx, late_program, 1, late_syncobj, 0), 0);
}

/* Between two repeats of a job a higher priority overtakes it. */
static void test_overtake(void **state)
{
	static const uint32_t want[] = { 2, 2, 3, 2, 2 };
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t normal = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);

	(void)state;
	late_ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	late_program = program(3);
	late_syncobj = fake_syncobj(dev);
	fake->hook = submit_late;
	fake->run_ns = MS;
	assert_int_equal(fake_submit(dev, normal, program(2), 4, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_memory_equal(fake->tags, want, sizeof(want));
	assert_int_equal(wait_for(late_syncobj, 0), 0);
}

/* Equals take turns. */
static void test_equals_take_turns(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t a = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t b = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t i;

	(void)state;
	assert_int_equal(fake_submit(dev, a, program(4), 3, syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, b, program(5), 3, syncobj, 2), 0);
	assert_int_equal(wait_for(syncobj, 2), 0);
	for (i = 0; i < 6; i += 2)
		assert_int_equal(fake->tags[i] + fake->tags[i + 1], 4 + 5);
}

/*
 * LOW has its sixteenth while HIGH has work, and no more than that. The bounds allow for turns
 * of unequal length, which a busy machine makes.
 */
static void test_low_share(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t low = fake_ctx(dev, DRM_UNPU_PRIORITY_LOW, 0);
	uint32_t high = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	int64_t low_ns = 0, high_ns = 0, longest = 0;
	uint32_t i;

	(void)state;
	fake->run_ns = MS / 2;
	assert_int_equal(fake_submit(dev, low, program(1), 400, 0, 0), 0);
	assert_int_equal(fake_submit(dev, high, program(3), 400, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	for (i = 0; i < atomic_load(&fake->runs); i++) {
		int64_t ns = (int64_t)fake->ns[i];

		*(fake->tags[i] == 1 ? &low_ns : &high_ns) += ns;
		longest = ns > longest ? ns : longest;
	}
	assert_true(low_ns > 0);
	assert_true(high_ns - 15 * low_ns <= 20 * longest + (int64_t)(20 * MS));
	assert_true(15 * low_ns - high_ns <= 20 * longest + (int64_t)(20 * MS));
}

/* A job waits for what another signals, whatever their priorities. */
static void test_dependency(void **state)
{
	static const uint32_t want[] = { 1, 1, 3 };
	uint32_t first = fake_syncobj(dev), second = fake_syncobj(dev);
	uint32_t low = fake_ctx(dev, DRM_UNPU_PRIORITY_LOW, 0);
	uint32_t high = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	struct drm_unpu_run run = { program(3), 1 };
	struct drm_unpu_sync syncs[] = {
		{ first, DRM_UNPU_SYNC_WAIT, 5 },
		{ second, DRM_UNPU_SYNC_SIGNAL, 0 },
	};
	struct drm_unpu_submit args = {
		.ctx_id = high,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(syncs[0]), 2, (uintptr_t)syncs },
	};

	(void)state;
	assert_int_equal(fake_submit(dev, low, program(1), 2, first, 6), 0);
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(dev->ops->syncobj_destroy(dev, first), 0);
	assert_int_equal(wait_for(second, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_memory_equal(fake->tags, want, sizeof(want));
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void test_deadline(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);

	(void)state;
	fake->run_ns = 5 * MS;
	assert_int_equal(fake_submit(dev, ctx, program(1), 20, syncobj, 0), 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 0, 0), -ETIME);
	assert_int_equal(atomic_load(&fake->runs), 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 0, fake_now() + 12 * MS), -ETIME);
	assert_in_range(atomic_load(&fake->runs), 1, 19);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 0, UINT64_MAX), 0);
	assert_int_equal(atomic_load(&fake->runs), 20);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 0, 0), 0);
}

/* A thread whose deadline comes while another runs. */
static void test_deadline_of_second(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	struct waiter waiter;

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, program(1), 1, syncobj, 3), 0);
	waiter_start(&waiter, syncobj, 3);
	wait_inside();
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 3, fake_now() + 5 * MS), -ETIME);
	atomic_store(&fake->hold, false);
	assert_int_equal(waiter_join(&waiter), 0);
}

/* The runner gives up in the middle of a job: who waits for it takes over. */
static void test_runner_gives_up(void **state)
{
	uint32_t syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	struct waiter waiter;

	(void)state;
	fake->run_ns = 3 * MS;
	assert_int_equal(fake_submit(dev, ctx, program(1), 40, syncobj, 0), 0);
	waiter_start_until(&waiter, syncobj, 0, fake_now() + 30 * MS);
	wait_inside();
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(waiter_join(&waiter), -ETIME);
	assert_int_equal(atomic_load(&fake->runs), 40);
}

/* A job ends while its runner goes on with others: who waits for it need not wait for those. */
static void test_woken_by_other_runner(void **state)
{
	uint32_t long_syncobj = fake_syncobj(dev), syncobj = fake_syncobj(dev);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t high = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	struct waiter waiter;

	(void)state;
	fake->run_ns = 10 * MS;
	assert_int_equal(fake_submit(dev, ctx, program(1), 100, long_syncobj, 0), 0);
	waiter_start(&waiter, long_syncobj, 0);
	wait_inside();
	assert_int_equal(fake_submit(dev, high, program(2), 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(fake_query(dev, ctx).completed_seqno, 0);
	assert_int_equal(waiter_join(&waiter), 0);
}

/* The runner leaves when its own point is reached; who waits for another takes over. */
static void test_two_waiters(void **state)
{
	uint32_t first = fake_syncobj(dev), second = fake_syncobj(dev);
	uint32_t a = fake_ctx(dev, DRM_UNPU_PRIORITY_HIGH, 0);
	uint32_t b = fake_ctx(dev, DRM_UNPU_PRIORITY_LOW, 0);
	struct waiter waiters[2];

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, a, program(1), 3, first, 0), 0);
	assert_int_equal(fake_submit(dev, b, program(2), 40, second, 0), 0);
	waiter_start(&waiters[0], first, 0);
	wait_inside();
	waiter_start(&waiters[1], second, 0);
	atomic_store(&fake->hold, false);
	assert_int_equal(waiter_join(&waiters[0]), 0);
	assert_int_equal(waiter_join(&waiters[1]), 0);
	assert_int_equal(atomic_load(&fake->runs), 43);
}

#define CLIENTS		4
#define JOBS		100

struct client {
	pthread_t thread;
	uint32_t number;
	int wrong;
};

/* Its own context, buffers and programs, made and dropped on the way. */
static void *client_main(void *arg)
{
	struct client *client = arg;
	uint32_t ctx = fake_ctx(dev, client->number % 3, 0);
	uint32_t syncobj = fake_syncobj(dev);
	uint64_t i;

	for (i = 1; i <= JOBS; i++) {
		uint32_t in = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
		uint32_t out = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
		uint32_t id = fake_program(dev, in, out, 1, i % 2);
		uint32_t *from = fake_map(dev, in), *to = fake_map(dev, out);

		from[0] = i % 2 ? 0 : client->number + 1;
		to[0] = 99;
		client->wrong |= fake_submit(dev, ctx, id, 3, syncobj, i);
		dev->ops->bo_close(dev, in);
		dev->ops->bo_close(dev, out);
		client->wrong |= destroy_program(id);
		client->wrong |= wait_for(syncobj, i);
		client->wrong |= to[0] != from[0];
		dev->ops->bo_unmap(dev, in, from, 4096);
		dev->ops->bo_unmap(dev, out, to, 4096);
	}
	client->wrong |= fake_query(dev, ctx).completed_seqno != JOBS;
	client->wrong |= fake_query(dev, ctx).failed_seqno != 0;
	client->wrong |= destroy_ctx(ctx);
	client->wrong |= dev->ops->syncobj_destroy(dev, syncobj);
	return NULL;
}

static void test_many_clients(void **state)
{
	struct client clients[CLIENTS];
	uint64_t used = fake_stats(dev).window_used_bytes;
	uint32_t i;

	(void)state;
	for (i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){ .number = i };
		assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main,
						&clients[i]), 0);
	}
	for (i = 0; i < CLIENTS; i++) {
		assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
		assert_int_equal(clients[i].wrong, 0);
	}
	assert_int_equal(atomic_load(&fake->runs), CLIENTS * JOBS * 3);
	assert_int_equal(atomic_load(&fake->released), CLIENTS * JOBS);
	assert_int_equal(fake_stats(dev).window_used_bytes, used);
	assert_int_equal(fake_stats(dev).jobs_completed, CLIENTS * JOBS);
}

#define TEST(__name)	cmocka_unit_test_setup_teardown(__name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_query_size),
		TEST(test_query_shaders),
		TEST(test_bo_is_zeroed_and_rounded),
		TEST(test_bo_map),
		TEST(test_heaps),
		TEST(test_import),
		TEST(test_program_keeps_buffers),
		TEST(test_job_keeps_program),
		TEST(test_syncobj_destroyed),
		TEST(test_ctx_destroyed_while_queued),
		TEST(test_ctx_destroyed_while_running),
		TEST(test_close_while_waiting),
		TEST(test_close_while_releasing),
		TEST(test_seqnos),
		TEST(test_runs_in_order),
		TEST(test_queue_full),
		TEST(test_stop_word),
		TEST(test_timeout),
		TEST(test_timeout_ignored),
		TEST(test_timeout_cancels_queue),
		TEST(test_guard_wakes),
		TEST(test_progress_is_no_timeout),
		TEST(test_engine_fails),
		TEST(test_device_lost),
		TEST(test_priority),
		TEST(test_overtake),
		TEST(test_equals_take_turns),
		TEST(test_low_share),
		TEST(test_dependency),
		TEST(test_deadline),
		TEST(test_deadline_of_second),
		TEST(test_runner_gives_up),
		TEST(test_woken_by_other_runner),
		TEST(test_two_waiters),
		TEST(test_many_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
