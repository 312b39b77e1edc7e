/* SPDX-License-Identifier: MIT */
/* Syncobjs of in-process devices: what is reached when, and who keeps whom alive. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/device/sync.h"

/* A job as far as syncobjs know one. */
struct job {
	struct unpu_fence fence;
	struct unpu_point points[2];
	uint32_t num_points;
	int released;
};

static void release(struct unpu_fence *fence)
{
	((struct job *)fence)->released++;
}

static void job_init(struct job *job)
{
	*job = (struct job){ .fence = { .refs = 1, .release = release } };
}

static void job_signals(struct job *job, struct unpu_syncobj *obj, uint64_t point)
{
	assert_int_equal(unpu_point_check(obj, point), 0);
	unpu_point_add(&job->points[job->num_points++], obj, point, &job->fence);
}

static void job_end(struct job *job)
{
	uint32_t i;

	job->fence.done = true;
	for (i = 0; i < job->num_points; i++)
		unpu_point_signal(&job->points[i]);
	unpu_fence_put(&job->fence);
}

static void test_binary(void **state)
{
	struct unpu_syncobj *obj = unpu_syncobj_create();
	struct unpu_wait wait, again;
	struct job job;

	(void)state;
	job_init(&job);
	assert_int_equal(unpu_wait_init(&wait, obj, 0), -EINVAL);
	job_signals(&job, obj, 0);
	assert_int_equal(unpu_wait_init(&wait, obj, 0), 0);
	assert_false(unpu_wait_ready(&wait));
	job_end(&job);
	assert_true(unpu_wait_ready(&wait));
	assert_int_equal(unpu_wait_init(&again, obj, 0), 0);
	assert_true(unpu_wait_ready(&again));
	unpu_wait_finish(&again);
	unpu_wait_finish(&wait);
	assert_int_equal(job.released, 0);	/* the syncobj has it still */
	unpu_syncobj_put(obj);
	assert_int_equal(job.released, 1);
}

/* A wait is for the job of its time, not for one that comes later. */
static void test_binary_replaced(void **state)
{
	struct unpu_syncobj *obj = unpu_syncobj_create();
	struct unpu_wait first, second;
	struct job a, b;

	(void)state;
	job_init(&a);
	job_init(&b);
	job_signals(&a, obj, 0);
	assert_int_equal(unpu_wait_init(&first, obj, 0), 0);
	job_signals(&b, obj, 0);
	assert_int_equal(unpu_wait_init(&second, obj, 0), 0);
	job_end(&a);
	assert_true(unpu_wait_ready(&first));
	assert_false(unpu_wait_ready(&second));
	unpu_wait_finish(&first);
	assert_int_equal(a.released, 1);
	unpu_syncobj_put(obj);
	job_end(&b);
	assert_true(unpu_wait_ready(&second));
	assert_int_equal(b.released, 0);
	unpu_wait_finish(&second);
	assert_int_equal(b.released, 1);
}

static bool reached(struct unpu_syncobj *obj, uint64_t point)
{
	struct unpu_wait wait;
	bool ready;

	assert_int_equal(unpu_wait_init(&wait, obj, point), 0);
	ready = unpu_wait_ready(&wait);
	unpu_wait_finish(&wait);
	return ready;
}

static void test_timeline(void **state)
{
	struct unpu_syncobj *obj = unpu_syncobj_create();
	struct unpu_wait wait;
	struct job a, b;

	(void)state;
	job_init(&a);
	job_init(&b);
	job_signals(&a, obj, 3);
	assert_int_equal(unpu_point_check(obj, 3), -EINVAL);
	assert_int_equal(unpu_point_check(obj, 2), -EINVAL);
	job_signals(&b, obj, 1ull << 40);
	assert_int_equal(unpu_wait_init(&wait, obj, (1ull << 40) + 1), -EINVAL);
	assert_false(reached(obj, 1));
	job_end(&a);
	assert_true(reached(obj, 1));
	assert_true(reached(obj, 3));
	assert_false(reached(obj, 4));
	job_end(&b);
	assert_true(reached(obj, 1ull << 40));
	assert_int_equal(a.released + b.released, 2);
	unpu_syncobj_put(obj);
}

/* A point stands for all below it, whatever the order of the ends. */
static void test_timeline_out_of_order(void **state)
{
	struct unpu_syncobj *obj = unpu_syncobj_create();
	struct job jobs[3];
	int i;

	(void)state;
	for (i = 0; i < 3; i++) {
		job_init(&jobs[i]);
		job_signals(&jobs[i], obj, (uint64_t)i + 1);
	}
	job_end(&jobs[1]);
	job_end(&jobs[2]);
	assert_false(reached(obj, 1));
	assert_false(reached(obj, 3));
	assert_int_equal(jobs[1].released + jobs[2].released, 0);
	job_end(&jobs[0]);
	assert_true(reached(obj, 3));
	for (i = 0; i < 3; i++)
		assert_int_equal(jobs[i].released, 1);
	unpu_syncobj_put(obj);
}

/* The syncobj's handle goes while its jobs are on their way; then the other way round. */
static void test_lifetimes(void **state)
{
	struct unpu_syncobj *obj = unpu_syncobj_create();
	struct unpu_wait wait;
	struct job job;

	(void)state;
	job_init(&job);
	job_signals(&job, obj, 1);
	job_signals(&job, obj, 2);
	assert_int_equal(unpu_wait_init(&wait, obj, 2), 0);
	unpu_syncobj_put(obj);
	job_end(&job);
	assert_int_equal(job.released, 1);
	assert_true(unpu_wait_ready(&wait));
	unpu_wait_finish(&wait);

	obj = unpu_syncobj_create();
	job_init(&job);
	job_signals(&job, obj, 1);
	unpu_syncobj_put(obj);
	job_end(&job);
	assert_int_equal(job.released, 1);
	unpu_syncobj_put(NULL);
	unpu_fence_put(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_binary),
		cmocka_unit_test(test_binary_replaced),
		cmocka_unit_test(test_timeline),
		cmocka_unit_test(test_timeline_out_of_order),
		cmocka_unit_test(test_lifetimes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
