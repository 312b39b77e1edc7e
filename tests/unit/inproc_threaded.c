/* SPDX-License-Identifier: MIT */
/* The frame around an engine whose jobs run on a thread of its own. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/fake.h"

#define MS	1000000ull
#define SECOND	1000000000ull

static struct fake *fake;
static struct unpu_device *dev;
static uint32_t src, dst;	/* 4 KiB each, mappable */

static int setup(void **state)
{
	(void)state;
	dev = fake_device_threaded(&fake);
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

static uint32_t new_ctx(uint64_t timeout_ns)
{
	return fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, timeout_ns);
}

static int wait_for(uint32_t syncobj, uint64_t point)
{
	return dev->ops->syncobj_wait(dev, syncobj, point, fake_now() + 20 * SECOND);
}

static void nap(void)
{
	const struct timespec time = { 0, (long)(MS / 10) };

	nanosleep(&time, NULL);
}

/* Looked at only: nobody waits. */
static void until_completed(uint32_t ctx, uint64_t seqno)
{
	while (fake_query(dev, ctx).completed_seqno < seqno)
		nap();
}

static void wait_inside(void)
{
	while (!atomic_load(&fake->inside))
		nap();
}

static void expect_failure(uint32_t ctx, uint32_t state, int err)
{
	struct drm_unpu_ctx_query query = fake_query(dev, ctx);

	assert_int_equal(query.state, state);
	assert_int_equal(query.failed_errno, err);
}

static void jobs_run_by_themselves(void **state)
{
	struct drm_unpu_dev_info info;
	struct drm_unpu_dev_query query = { DRM_UNPU_QUERY_DEV_INFO, sizeof(info),
					    (uintptr_t)&info };
	uint32_t ctx = new_ctx(0), syncobj = fake_syncobj(dev);
	uint32_t id = fake_program(dev, src, dst, 1, false);

	(void)state;
	assert_int_equal(dev->ops->dev_query(dev, &query), 0);
	assert_false(info.features & DRM_UNPU_FEATURE_WAIT_RUNS);
	*(uint32_t *)fake_map(dev, src) = 77;
	assert_int_equal(fake_submit(dev, ctx, id, 3, 0, 0), 0);
	until_completed(ctx, 1);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_int_equal(*(uint32_t *)fake_map(dev, dst), 77);
	/* asleep by now, and woken again */
	for (uint32_t i = 0; i < 20; i++)
		nap();
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 4);
}

/* Several repeats in one call of the engine are as much progress. */
static void several_rounds_at_once(void **state)
{
	uint32_t ctx = new_ctx(0), syncobj = fake_syncobj(dev);
	uint32_t id = fake_program(dev, src, dst, 1, false);

	(void)state;
	fake->rounds = 8;
	assert_int_equal(fake_submit(dev, ctx, id, 21, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(atomic_load(&fake->runs), 3);
	assert_int_equal(atomic_load(&fake->done), 21);
	expect_failure(ctx, DRM_UNPU_CTX_OK, 0);
}

/* An engine that says it did none, or more than it was told to. */
static void claims_are_checked(void **state)
{
	static const uint32_t claims[] = { UINT32_MAX, 5, 1u << 31 };
	uint32_t syncobj = fake_syncobj(dev), id = fake_program(dev, src, dst, 1, false);

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t ctx = new_ctx(0);

		fake->claims = claims[i];
		assert_int_equal(fake_submit(dev, ctx, id, 4, syncobj, 0), 0);
		assert_int_equal(wait_for(syncobj, 0), 0);
		expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -EIO);
	}
	fake->claims = 4;
	assert_int_equal(fake_submit(dev, new_ctx(0), id, 4, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	assert_int_equal(fake_stats(dev).jobs_failed, 3);
	assert_int_equal(atomic_load(&fake->runs), 4);
}

static void a_job_hangs(void **state)
{
	uint32_t ctx = new_ctx(10 * MS), other = new_ctx(0), syncobj = fake_syncobj(dev);
	uint32_t id = fake_program(dev, src, dst, 1, false);

	(void)state;
	fake->run_ns = 20 * SECOND;
	assert_int_equal(fake_submit(dev, ctx, id, 1, 0, 0), 0);
	until_completed(ctx, 1);
	expect_failure(ctx, DRM_UNPU_CTX_GUILTY, -ETIME);
	fake->run_ns = 0;
	assert_int_equal(fake_submit(dev, other, id, 1, syncobj, 0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	expect_failure(other, DRM_UNPU_CTX_OK, 0);
}

/* An engine that cannot end what hangs gives up its device: everybody learns, the job why. */
static void a_hang_takes_the_device(void **state)
{
	uint32_t ctx = new_ctx(SECOND / 2), other = new_ctx(0), syncobj = fake_syncobj(dev);
	uint32_t id = fake_program(dev, src, dst, 1, false);

	(void)state;
	fake->run_ns = 20 * SECOND;
	fake->lost_when_cancelled = true;
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 1), 0);
	wait_inside();
	assert_int_equal(fake_submit(dev, other, id, 1, syncobj, 2), 0);
	assert_int_equal(wait_for(syncobj, 2), 0);
	expect_failure(ctx, DRM_UNPU_CTX_LOST, -ETIME);
	expect_failure(other, DRM_UNPU_CTX_LOST, -ENODEV);
	assert_int_equal(fake_stats(dev).resets, 1);
	assert_int_equal(atomic_load(&fake->runs), 1);
}

static void *waiter(void *arg)
{
	return (void *)(intptr_t)wait_for(*(uint32_t *)arg, 1);
}

/* What runs is told to end, who waits is let go, nothing is left behind. */
static void close_while_running(void **state)
{
	uint32_t ctx = new_ctx(0), syncobj = fake_syncobj(dev);
	uint32_t id = fake_program(dev, src, dst, 1, false);
	struct drm_unpu_program_destroy gone = { .program_id = id };
	pthread_t thread;
	void *err;

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, ctx, id, 2, syncobj, 1), 0);
	assert_int_equal(fake_submit(dev, ctx, id, 2, syncobj, 2), 0);
	wait_inside();
	assert_int_equal(dev->ops->program_destroy(dev, &gone), 0);
	assert_int_equal(pthread_create(&thread, NULL, waiter, &syncobj), 0);
	for (uint32_t i = 0; i < 20; i++)
		nap();
	dev->ops->close(dev);
	dev = NULL;
	assert_int_equal(pthread_join(thread, &err), 0);
	assert_int_equal((intptr_t)err, 0);
}

static void close_while_idle(void **state)
{
	(void)state;
	new_ctx(0);
	dev->ops->close(dev);
	/* none was started */
	dev = fake_device_threaded(&fake);
}

/* Of another context, whose job ends without having run. */
static void what_waited_for_a_cancelled_job(void **state)
{
	uint32_t first = new_ctx(0), second = new_ctx(0), third = new_ctx(0);
	uint32_t syncobj = fake_syncobj(dev), id = fake_program(dev, src, dst, 1, false);
	const struct drm_unpu_run run = { id, 1 };
	const struct drm_unpu_sync sync = { syncobj, DRM_UNPU_SYNC_WAIT, 1 };
	struct drm_unpu_submit args = {
		.ctx_id = third,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	struct drm_unpu_ctx_destroy gone = { .ctx_id = second };

	(void)state;
	atomic_store(&fake->hold, true);
	assert_int_equal(fake_submit(dev, first, id, 1, 0, 0), 0);
	wait_inside();
	assert_int_equal(fake_submit(dev, second, id, 1, syncobj, 1), 0);
	assert_int_equal(dev->ops->submit(dev, &args), 0);
	assert_int_equal(dev->ops->ctx_destroy(dev, &gone), 0);
	atomic_store(&fake->hold, false);
	until_completed(third, 1);
	expect_failure(third, DRM_UNPU_CTX_OK, 0);
}

static void keep_mask(struct fake *f, void *arg)
{
	(void)f;
	pthread_sigmask(SIG_SETMASK, NULL, arg);
}

/* The process's signals never interrupt it. */
static void signals_are_blocked(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGPIPE };
	uint32_t ctx = new_ctx(0), syncobj = fake_syncobj(dev);
	sigset_t mask;

	(void)state;
	sigemptyset(&mask);
	fake->hook = keep_mask;
	fake->arg = &mask;
	assert_int_equal(fake_submit(dev, ctx, fake_program(dev, src, dst, 1, false), 1, syncobj,
				     0), 0);
	assert_int_equal(wait_for(syncobj, 0), 0);
	for (uint32_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		assert_int_equal(sigismember(&mask, signals[i]), 1);
}

/* ---- many threads ---------------------------------------------------------------------------- */

#define CLIENTS	4
#define JOBS	40

struct client {
	pthread_t thread;
	int wrong;
};

/* A job that is waited for, and one that is left to itself. */
static int client_jobs(uint32_t ctx, uint32_t syncobj, uint64_t point)
{
	uint32_t id = fake_program(dev, src, dst, 1, false);
	struct drm_unpu_program_destroy gone = { .program_id = id };
	int err = fake_submit(dev, ctx, id, 3, syncobj, point);

	err |= fake_submit(dev, ctx, id, 2, 0, 0);
	err |= wait_for(syncobj, point);
	return err | dev->ops->program_destroy(dev, &gone);
}

static void *client_main(void *arg)
{
	struct client *client = arg;
	uint32_t ctx = new_ctx(0), syncobj = fake_syncobj(dev);
	struct drm_unpu_ctx_destroy gone = { .ctx_id = ctx };

	for (uint64_t i = 1; i <= JOBS; i++) {
		client->wrong |= client_jobs(ctx, syncobj, i);
		until_completed(ctx, 2 * i);
	}
	client->wrong |= dev->ops->ctx_destroy(dev, &gone);
	client->wrong |= dev->ops->syncobj_destroy(dev, syncobj);
	return NULL;
}

static void many_clients(void **state)
{
	struct client clients[CLIENTS] = { 0 };

	(void)state;
	fake->rounds = 2;
	for (uint32_t i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main,
						&clients[i]), 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
		assert_int_equal(clients[i].wrong, 0);
	}
	assert_int_equal(atomic_load(&fake->done), CLIENTS * JOBS * 5);
	assert_int_equal(fake_stats(dev).jobs_completed, CLIENTS * JOBS * 2);
	while (atomic_load(&fake->released) < CLIENTS * JOBS)
		nap();
}

#define TEST(__name)	cmocka_unit_test_setup_teardown(__name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(jobs_run_by_themselves),
		TEST(several_rounds_at_once),
		TEST(claims_are_checked),
		TEST(a_job_hangs),
		TEST(a_hang_takes_the_device),
		TEST(close_while_running),
		TEST(close_while_idle),
		TEST(what_waited_for_a_cancelled_job),
		TEST(signals_are_blocked),
		TEST(many_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
