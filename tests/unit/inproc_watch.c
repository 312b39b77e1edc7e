/* SPDX-License-Identifier: MIT */
/*
 * Who watches a device hears of each repeat and of each job's end: once, in order, whichever way
 * it ended. Imported memory that programs may write.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/fake.h"

#define MS		1000000ull
#define SECOND		1000000000ull
#define MAX_EVENTS	4096
#define MAX_CTXS	64

struct event {
	uint32_t ctx_id;
	uint64_t seqno;
	int error;
	uint64_t busy_ns;
};

/* What was heard; `lock` is taken inside the device's, never the other way round. */
static struct heard {
	pthread_mutex_t lock;
	struct event ends[MAX_EVENTS];
	uint32_t num_ends;
	uint32_t done[MAX_CTXS];	/* repeats, by context */
	uint32_t calls[MAX_CTXS];	/* that told of them */
	uint32_t others[MAX_CTXS];	/* calls that told of others */
} heard = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct fake *fake;
static struct unpu_device *dev;
static uint32_t src, dst;	/* 4 KiB each, mappable */

static void on_progress(void *arg, uint32_t ctx_id, uint32_t done)
{
	struct heard *h = arg;

	pthread_mutex_lock(&h->lock);
	assert_true(ctx_id && ctx_id < MAX_CTXS);
	h->done[ctx_id] += done;
	if (done)
		h->calls[ctx_id]++;
	else
		h->others[ctx_id]++;
	pthread_mutex_unlock(&h->lock);
}

static void on_job_end(void *arg, uint32_t ctx_id, uint64_t seqno, int error, uint64_t busy_ns)
{
	struct heard *h = arg;

	pthread_mutex_lock(&h->lock);
	assert_true(h->num_ends < MAX_EVENTS);
	h->ends[h->num_ends++] = (struct event){ ctx_id, seqno, error, busy_ns };
	pthread_mutex_unlock(&h->lock);
}

static const struct unpu_device_watch watch = { on_progress, on_job_end, &heard };

static int setup(void **state)
{
	(void)state;
	heard.num_ends = 0;
	memset(heard.done, 0, sizeof(heard.done));
	memset(heard.calls, 0, sizeof(heard.calls));
	memset(heard.others, 0, sizeof(heard.others));
	dev = fake_device_watched(&watch, &fake);
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

static void nap(uint64_t ns)
{
	const struct timespec time = { (time_t)(ns / SECOND), (long)(ns % SECOND) };

	nanosleep(&time, NULL);
}

static uint32_t num_ends(void)
{
	uint32_t n;

	pthread_mutex_lock(&heard.lock);
	n = heard.num_ends;
	pthread_mutex_unlock(&heard.lock);
	return n;
}

static uint32_t others(uint32_t ctx)
{
	uint32_t n;

	pthread_mutex_lock(&heard.lock);
	n = heard.others[ctx];
	pthread_mutex_unlock(&heard.lock);
	return n;
}

static void until_ends(uint32_t n)
{
	uint64_t begin = fake_now();

	while (num_ends() < n) {
		assert_true(fake_now() - begin < 60 * SECOND);
		nap(MS / 10);
	}
}

static void wait_inside(void)
{
	while (!atomic_load(&fake->inside))
		nap(MS / 10);
}

static void expect_end(uint32_t i, uint32_t ctx, uint64_t seqno, int error)
{
	struct event e;

	pthread_mutex_lock(&heard.lock);
	assert_true(i < heard.num_ends);
	e = heard.ends[i];
	pthread_mutex_unlock(&heard.lock);
	assert_int_equal(e.ctx_id, ctx);
	assert_int_equal(e.seqno, seqno);
	assert_int_equal(e.error, error);
}

static uint32_t new_ctx(uint64_t timeout_ns)
{
	return fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, timeout_ns);
}

static uint32_t program(uint32_t tag)
{
	return fake_program(dev, src, dst, tag, false);
}

static void submit(uint32_t ctx, uint32_t id, uint32_t repeat)
{
	assert_int_equal(fake_submit(dev, ctx, id, repeat, 0, 0), 0);
}

static void destroy_ctx(uint32_t ctx)
{
	struct drm_unpu_ctx_destroy args = { .ctx_id = ctx };

	assert_int_equal(dev->ops->ctx_destroy(dev, &args), 0);
}

/* ---- jobs that go well ----------------------------------------------------------------------- */

static void jobs_are_heard_of(void **state)
{
	struct drm_unpu_dev_info info;
	struct drm_unpu_dev_query query = { DRM_UNPU_QUERY_DEV_INFO, sizeof(info),
					    (uintptr_t)&info };
	uint32_t ctx = new_ctx(0), id = program(1);

	(void)state;
	assert_int_equal(dev->ops->dev_query(dev, &query), 0);
	assert_false(info.features & DRM_UNPU_FEATURE_WAIT_RUNS);
	fake->run_ns = MS;
	*(uint32_t *)fake_map(dev, src) = 77;
	submit(ctx, id, 3);
	submit(ctx, id, 1);
	submit(ctx, id, 2);
	until_ends(3);
	for (uint32_t i = 0; i < 3; i++)
		expect_end(i, ctx, i + 1, 0);
	assert_true(heard.ends[0].busy_ns >= 3 * MS);
	assert_true(heard.ends[1].busy_ns >= MS);
	assert_int_equal(heard.done[ctx], 6);
	assert_int_equal(heard.calls[ctx], 6);
	assert_int_equal(heard.others[ctx], 0);
	assert_int_equal(*(uint32_t *)fake_map(dev, dst), 77);
}

static void several_rounds_at_once(void **state)
{
	uint32_t ctx = new_ctx(0);

	(void)state;
	fake->rounds = 8;
	submit(ctx, program(1), 21);
	until_ends(1);
	assert_int_equal(heard.done[ctx], 21);
	assert_int_equal(heard.calls[ctx], 3);
}

/* A stop word that is set before the job begins ends it well, without a repeat. */
static void stopped_jobs(void **state)
{
	_Atomic uint32_t *word = fake_map(dev, src);
	uint32_t ctx = new_ctx(0);

	(void)state;
	atomic_store(word, 2);
	submit(ctx, fake_program(dev, src, dst, 1, true), 5);
	until_ends(1);
	expect_end(0, ctx, 1, 0);
	assert_int_equal(heard.calls[ctx], 0);
	assert_int_equal(heard.ends[0].busy_ns, 0);
}

/* ---- those who wait for others --------------------------------------------------------------- */

static void who_waits_is_heard_of(void **state)
{
	uint32_t slow = new_ctx(0), ctx = new_ctx(0), idle = new_ctx(0), id = program(1);
	uint64_t begin = fake_now();

	(void)state;
	atomic_store(&fake->hold, true);
	submit(slow, id, 2);
	wait_inside();
	submit(ctx, id, 1);
	/* in the middle of one repeat of the other */
	while (others(ctx) < 4) {
		assert_true(fake_now() - begin < 60 * SECOND);
		nap(MS);
	}
	assert_int_equal(others(slow), 0);
	assert_int_equal(num_ends(), 0);
	atomic_store(&fake->hold, false);
	until_ends(2);
	assert_int_equal(others(idle), 0);
	assert_int_equal(heard.done[slow], 2);
	assert_int_equal(heard.done[ctx], 1);
}

/* Turn by turn, however short: each is told to the one that let the other go first. */
static void each_turn_is_heard_of(void **state)
{
	uint32_t one = new_ctx(0), two = new_ctx(0), id = program(1);

	(void)state;
	atomic_store(&fake->hold, true);
	submit(one, id, 8);
	wait_inside();
	submit(two, id, 8);
	atomic_store(&fake->hold, false);
	until_ends(2);
	assert_true(heard.others[one] >= 7);
	assert_true(heard.others[two] >= 8);
	assert_int_equal(heard.done[one], 8);
	assert_int_equal(heard.done[two], 8);
	expect_end(0, one, 1, 0);
	expect_end(1, two, 1, 0);
}

/* What hangs and cannot be ended is no excuse for ever. */
static void patience_ends(void **state)
{
	uint32_t hung = new_ctx(20 * MS), ctx = new_ctx(0), id = program(1), before;

	(void)state;
	fake->stubborn = true;
	atomic_store(&fake->hold, true);
	submit(hung, id, 1);
	wait_inside();
	submit(ctx, id, 1);
	nap(3500 * MS);
	before = others(ctx);
	assert_true(before > 0);
	nap(200 * MS);
	assert_int_equal(others(ctx), before);
	atomic_store(&fake->hold, false);
	until_ends(2);
	expect_end(0, hung, 1, -ETIME);
	expect_end(1, ctx, 1, 0);
}

/* ---- jobs that end otherwise ----------------------------------------------------------------- */

static void cancelled_before_they_began(void **state)
{
	uint32_t busy = new_ctx(0), ctx = new_ctx(0), id = program(1);

	(void)state;
	atomic_store(&fake->hold, true);
	submit(busy, id, 1);
	wait_inside();
	submit(ctx, id, 1);
	submit(ctx, id, 1);
	destroy_ctx(ctx);
	/* within the call: nothing of them runs */
	assert_int_equal(num_ends(), 2);
	expect_end(0, ctx, 1, -ECANCELED);
	expect_end(1, ctx, 2, -ECANCELED);
	assert_int_equal(new_ctx(0), ctx);
	atomic_store(&fake->hold, false);
	until_ends(3);
	expect_end(2, busy, 1, 0);
}

/* The id stays taken as long as something is to be heard of its jobs. */
static void cancelled_while_they_ran(void **state)
{
	uint32_t ctx = new_ctx(0), id = program(1), next, i;
	struct drm_unpu_ctx_query query = { .ctx_id = ctx };
	struct drm_unpu_ctx_destroy again = { .ctx_id = ctx };

	(void)state;
	fake->stubborn = true;
	atomic_store(&fake->hold, true);
	submit(ctx, id, 3);
	submit(ctx, id, 1);
	wait_inside();
	destroy_ctx(ctx);
	assert_int_equal(dev->ops->ctx_destroy(dev, &again), -ENOENT);
	assert_int_equal(dev->ops->ctx_query(dev, &query), -ENOENT);
	assert_int_equal(fake_submit(dev, ctx, id, 1, 0, 0), -ENOENT);
	for (i = 0; i < 3; i++) {
		next = new_ctx(0);
		assert_int_not_equal(next, ctx);
		destroy_ctx(next);
	}
	assert_int_equal(num_ends(), 0);
	atomic_store(&fake->hold, false);
	until_ends(2);
	expect_end(0, ctx, 1, -ECANCELED);
	expect_end(1, ctx, 2, -ECANCELED);
	/* What was destroyed while it ran does not count among the contexts. */
	fake->stubborn = false;
	assert_int_equal(new_ctx(0), ctx);
	submit(ctx, id, 1);
	until_ends(3);
	expect_end(2, ctx, 1, 0);
}

static void timed_out(void **state)
{
	uint32_t ctx = new_ctx(10 * MS), other = new_ctx(0), id = program(1);

	(void)state;
	fake->run_ns = 20 * SECOND;
	submit(ctx, id, 1);
	submit(ctx, id, 1);
	until_ends(2);
	expect_end(0, ctx, 1, -ETIME);
	expect_end(1, ctx, 2, -ECANCELED);
	assert_true(heard.ends[0].busy_ns >= 10 * MS);
	assert_int_equal(heard.done[ctx], 0);
	fake->run_ns = 0;
	submit(other, id, 1);
	until_ends(3);
	expect_end(2, other, 1, 0);
}

static void failed(void **state)
{
	uint32_t ctx = new_ctx(0), id = program(1);

	(void)state;
	fake->fail = EIO;
	submit(ctx, id, 4);
	until_ends(1);
	expect_end(0, ctx, 1, -EIO);
	assert_int_equal(heard.done[ctx], 0);
	assert_int_equal(fake_submit(dev, ctx, id, 1, 0, 0), -EIO);
}

static void lost(void **state)
{
	uint32_t ctx = new_ctx(SECOND / 2), other = new_ctx(0), id = program(1);
	uint32_t of_ctx = 0, of_other = 0;

	(void)state;
	fake->run_ns = 20 * SECOND;
	fake->lost_when_cancelled = true;
	submit(ctx, id, 1);
	wait_inside();
	submit(ctx, id, 1);
	submit(other, id, 1);
	submit(other, id, 1);
	until_ends(4);
	for (uint32_t i = 0; i < 4; i++) {
		if (heard.ends[i].ctx_id == ctx) {
			expect_end(i, ctx, of_ctx + 1, of_ctx ? -ENODEV : -ETIME);
			of_ctx++;
		} else {
			expect_end(i, other, of_other + 1, -ENODEV);
			of_other++;
		}
	}
	assert_int_equal(of_ctx, 2);
	assert_int_equal(fake_submit(dev, other, id, 1, 0, 0), -EIO);
}

static void closed(void **state)
{
	uint32_t ctx = new_ctx(0), other = new_ctx(0), id = program(1);

	(void)state;
	atomic_store(&fake->hold, true);
	submit(ctx, id, 1);
	submit(ctx, id, 1);
	wait_inside();
	submit(other, id, 1);
	dev->ops->close(dev);
	dev = NULL;
	assert_int_equal(num_ends(), 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(heard.ends[i].error, -ECANCELED);
	nap(30 * MS);
	assert_int_equal(num_ends(), 3);
}

/* A watch that wants to know nothing makes jobs run by themselves all the same. */
static void nothing_to_hear(void **state)
{
	static const struct unpu_device_watch deaf;
	uint32_t ctx;

	(void)state;
	dev->ops->close(dev);
	dev = fake_device_watched(&deaf, &fake);
	src = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	dst = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	ctx = new_ctx(0);
	submit(ctx, program(1), 2);
	while (fake_query(dev, ctx).completed_seqno < 1)
		nap(MS / 10);
	assert_int_equal(atomic_load(&fake->runs), 2);
}

/* ---- everything at once ---------------------------------------------------------------------- */

#define CLIENTS	4
#define LIVES	25

struct client {
	pthread_t thread;
	uint32_t seed;
	uint32_t submitted;
};

static uint32_t draw(struct client *client, uint32_t below)
{
	client->seed = client->seed * 1664525 + 1013904223;
	return (client->seed >> 8) % below;
}

/* Contexts that live shortly: some end by themselves, some are destroyed at once, some hang. */
static void *client_main(void *arg)
{
	struct client *client = arg;
	uint32_t id = program(1);

	for (uint32_t life = 0; life < LIVES; life++) {
		uint32_t ctx = new_ctx(draw(client, 8) ? 0 : 2 * MS), jobs = draw(client, 3) + 1;
		uint32_t accepted = 0;

		for (uint32_t i = 0; i < jobs; i++)
			accepted += !fake_submit(dev, ctx, id, draw(client, 4) + 1, 0, 0);
		client->submitted += accepted;
		if (draw(client, 2))
			while (fake_query(dev, ctx).completed_seqno < accepted)
				nap(MS / 10);
		destroy_ctx(ctx);
	}
	return NULL;
}

/* Of each life of an id, the jobs end in order and without a gap. */
static void check_order(void)
{
	uint64_t last[MAX_CTXS] = { 0 };

	for (uint32_t i = 0; i < heard.num_ends; i++) {
		const struct event *e = &heard.ends[i];

		assert_true(e->seqno == last[e->ctx_id] + 1 || e->seqno == 1);
		last[e->ctx_id] = e->seqno;
	}
}

static void many_clients(void **state)
{
	struct client clients[CLIENTS] = { { .seed = 1 }, { .seed = 2 }, { .seed = 3 },
					   { .seed = 4 } };
	uint32_t submitted = 0;

	(void)state;
	fake->run_ns = MS / 2;
	for (uint32_t i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main,
						&clients[i]), 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
		submitted += clients[i].submitted;
	}
	dev->ops->close(dev);
	dev = NULL;
	assert_true(submitted > CLIENTS * LIVES / 2);
	assert_int_equal(num_ends(), submitted);
	check_order();
}

/* ---- memory that is the caller's ------------------------------------------------------------- */

static uint8_t *pages(size_t bytes)
{
	uint8_t *memory = aligned_alloc(4096, bytes);

	assert_non_null(memory);
	memset(memory, 0, bytes);
	return memory;
}

static void imports_are_written(void **state)
{
	uint8_t *memory = pages(8192);
	uint64_t used = fake_stats(dev).window_used_bytes;
	uint32_t ctx = new_ctx(0), in, out;
	void *ptr;
	struct drm_unpu_bo_mmap_offset offset;

	(void)state;
	memset(memory, 0x5a, 4);
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 1, &in), 0);
	assert_int_equal(dev->ops->bo_import(dev, memory + 4096, 4096, 1, &out), 0);
	assert_int_equal(fake_stats(dev).window_used_bytes, used);
	offset = (struct drm_unpu_bo_mmap_offset){ .handle = out };
	assert_int_equal(dev->ops->bo_map(dev, out, &ptr), -EINVAL);
	assert_int_equal(dev->ops->bo_mmap_offset(dev, &offset), -EINVAL);
	submit(ctx, fake_program(dev, in, out, 2, true), 1);
	until_ends(1);
	expect_end(0, ctx, 1, 0);	/* what is in its stop word: skipped */
	assert_int_equal(memory[4096], 0);
	memset(memory, 0, 4);
	memory[4] = 0x77;
	submit(ctx, fake_program(dev, in, out, 2, true), 1);
	until_ends(2);
	assert_int_equal(memory[4100], 0x77);
	assert_int_equal(dev->ops->bo_close(dev, in), 0);
	assert_int_equal(dev->ops->bo_close(dev, out), 0);
	dev->ops->close(dev);
	dev = NULL;
	assert_int_equal(memory[4], 0x77);
	free(memory);
}

/* PROGRAM_CREATE of one copy from `in` to `out`; stop: the word at the beginning of in. */
static int create(uint32_t in, uint32_t out, bool stop)
{
	const uint32_t constants[2] = { 4, 0 };
	const struct drm_unpu_binding bindings[] = { { 0 }, { 1 } };
	const struct drm_unpu_buffer buffers[] = {
		{ in, DRM_UNPU_ACCESS_READ, 0, 4096 },
		{ out, DRM_UNPU_ACCESS_WRITE, 0, 4096 },
	};
	const struct drm_unpu_dispatch dispatch = {
		.shader_id = fake_shader(dev, "copy.1", NULL, 0),
		.num_bindings = 2, .const_bytes = 8, .grid = { 1, 1, 1 },
	};
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(buffers[0]), 2, (uintptr_t)buffers },
		.dispatches = { sizeof(dispatch), 1, (uintptr_t)&dispatch },
		.bindings = { sizeof(bindings[0]), 2, (uintptr_t)bindings },
		.constants = (uintptr_t)constants,
		.const_bytes = sizeof(constants),
		.flags = stop ? DRM_UNPU_PROGRAM_STOP : 0,
	};

	return dev->ops->program_create(dev, &args);
}

static void imports_that_are_read_only(void **state)
{
	uint8_t *memory = pages(4096);
	uint32_t fixed, open;

	(void)state;
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 0, &fixed), 0);
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 1, &open), 0);
	assert_int_equal(create(fixed, dst, false), 0);
	assert_int_equal(create(fixed, open, false), 0);
	assert_int_equal(create(src, fixed, false), -EINVAL);
	assert_int_equal(create(fixed, dst, true), -EINVAL);
	assert_int_equal(create(open, dst, true), 0);
	dev->ops->close(dev);
	dev = NULL;
	free(memory);
}

/* ---- the hook before runs -------------------------------------------------------------------- */

/* The library's does nothing: less than a microsecond, where a run takes a hundred and more. */
static void the_hook_is_free(void **state)
{
	const struct unpu_program none = { 0 };
	atomic_uint cancel = 0;
	uint64_t begin = fake_now();

	(void)state;
	for (uint32_t i = 0; i < 1000000; i++)
		unpu_inproc_hook_run(&none, &cancel);
	assert_true(fake_now() - begin < SECOND);
}

/* ---- a real engine --------------------------------------------------------------------------- */

static void the_cpu_runs_by_itself(void **state)
{
	const struct unpu_device_params params = { .threads = 2, .watch = &watch };
	struct drm_unpu_dev_info info;
	struct drm_unpu_dev_query query = { DRM_UNPU_QUERY_DEV_INFO, sizeof(info),
					    (uintptr_t)&info };
	uint8_t *memory = pages(8192);
	uint32_t ctx, in, out;

	(void)state;
	dev->ops->close(dev);
	assert_int_equal(unpu_device_open("cpu", &params, &dev), 0);
	assert_int_equal(dev->ops->dev_query(dev, &query), 0);
	assert_false(info.features & DRM_UNPU_FEATURE_WAIT_RUNS);
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 1, &in), 0);
	assert_int_equal(dev->ops->bo_import(dev, memory + 4096, 4096, 1, &out), 0);
	ctx = new_ctx(0);
	for (uint32_t i = 0; i < 50; i++) {
		memset(memory + 4, (int)i + 1, 4);
		submit(ctx, fake_program(dev, in, out, 2, true), 2);
		until_ends(i + 1);
		expect_end(i, ctx, i + 1, 0);
		assert_memory_equal(memory + 4096, memory, 8);
	}
	assert_int_equal(heard.done[ctx], 100);
	dev->ops->close(dev);
	dev = NULL;
	free(memory);
}

#define TEST(__name)	cmocka_unit_test_setup_teardown(__name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(jobs_are_heard_of),
		TEST(several_rounds_at_once),
		TEST(stopped_jobs),
		TEST(who_waits_is_heard_of),
		TEST(each_turn_is_heard_of),
		TEST(patience_ends),
		TEST(cancelled_before_they_began),
		TEST(cancelled_while_they_ran),
		TEST(timed_out),
		TEST(failed),
		TEST(lost),
		TEST(closed),
		TEST(nothing_to_hear),
		TEST(many_clients),
		TEST(imports_are_written),
		TEST(imports_that_are_read_only),
		TEST(the_hook_is_free),
		TEST(the_cpu_runs_by_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
