/* SPDX-License-Identifier: MIT */
/*
 * The frame's hook before runs: a program that brings its own takes the place of the library's,
 * with nothing but its object, and can hold a job up as long as it is not cancelled.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/fake.h"

#define MS	1000000ull
#define SECOND	1000000000ull

static atomic_uint calls, dispatches;
static atomic_bool hang;

void unpu_inproc_hook_run(const struct unpu_program *program, const atomic_uint *cancel)
{
	const struct timespec nap = { 0, 100000 };

	atomic_fetch_add(&calls, 1);
	atomic_store(&dispatches, program->num_dispatches);
	while (atomic_load(&hang) && !atomic_load(cancel))
		nanosleep(&nap, NULL);
}

static void it_is_called_before_each_run(void **state)
{
	struct fake *fake;
	struct unpu_device *dev = fake_device_threaded(&fake);
	uint32_t src = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	uint32_t dst = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	uint32_t ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 10 * MS);
	uint32_t syncobj = fake_syncobj(dev), id = fake_program(dev, src, dst, 1, false);
	struct drm_unpu_ctx_query query;

	(void)state;
	assert_int_equal(fake_submit(dev, ctx, id, 3, syncobj, 1), 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 1, fake_now() + 60 * SECOND), 0);
	assert_int_equal(atomic_load(&calls), 3);
	assert_int_equal(atomic_load(&dispatches), 1);
	/* It counts as part of the run: time limits and cancelling apply. */
	atomic_store(&hang, true);
	assert_int_equal(fake_submit(dev, ctx, id, 1, syncobj, 2), 0);
	assert_int_equal(dev->ops->syncobj_wait(dev, syncobj, 2, fake_now() + 60 * SECOND), 0);
	query = fake_query(dev, ctx);
	assert_int_equal(query.state, DRM_UNPU_CTX_GUILTY);
	assert_int_equal(query.failed_errno, -ETIME);
	assert_true(query.busy_ns >= 10 * MS);
	dev->ops->close(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_called_before_each_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
