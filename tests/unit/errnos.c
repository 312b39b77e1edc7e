/* SPDX-License-Identifier: MIT */
/*
 * The errno table of unpu_accel.h, row by row, on an in-process device; tests/lib/errno_rows.c has
 * the rows, tests/kselftest/errno.c runs them on a node.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/errno_rows.h"
#include "tests/lib/fake.h"

struct in_process {
	struct errno_device base;
	struct fake *fake;
	struct unpu_device *dev;
	uint8_t memory[8192];
};

static struct in_process *to_in_process(struct errno_device *device)
{
	return (struct in_process *)device;
}

static int wait_syncobj(struct unpu_device *dev, const struct drm_syncobj_timeline_wait *args)
{
	const uint32_t *handles = (const uint32_t *)(uintptr_t)args->handles;
	const uint64_t *points = (const uint64_t *)(uintptr_t)args->points;

	return dev->ops->syncobj_wait(dev, handles[0], points[0], (uint64_t)args->timeout_nsec);
}

static int core_call(struct unpu_device *dev, enum errno_call call, void *args)
{
	switch (call) {
	case ERRNO_CALL_GEM_CLOSE:
		return dev->ops->bo_close(dev, ((struct drm_gem_close *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_CREATE:
		return dev->ops->syncobj_create(dev, &((struct drm_syncobj_create *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_DESTROY:
		return dev->ops->syncobj_destroy(dev,
						 ((struct drm_syncobj_destroy *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_WAIT:
		return wait_syncobj(dev, args);
	default:
		return -ENOSYS;
	}
}

static int in_process_call(struct errno_device *device, enum errno_call call, void *args)
{
	struct unpu_device *dev = to_in_process(device)->dev;
	const struct unpu_device_ops *ops = dev->ops;

	switch (call) {
	case ERRNO_CALL_DEV_QUERY:
		return ops->dev_query(dev, args);
	case ERRNO_CALL_BO_CREATE:
		return ops->bo_create(dev, args);
	case ERRNO_CALL_BO_MMAP_OFFSET:
		return ops->bo_mmap_offset(dev, args);
	case ERRNO_CALL_CTX_CREATE:
		return ops->ctx_create(dev, args);
	case ERRNO_CALL_CTX_DESTROY:
		return ops->ctx_destroy(dev, args);
	case ERRNO_CALL_CTX_QUERY:
		return ops->ctx_query(dev, args);
	case ERRNO_CALL_SHADER_CREATE:
		return ops->shader_create(dev, args);
	case ERRNO_CALL_SHADER_DESTROY:
		return ops->shader_destroy(dev, args);
	case ERRNO_CALL_PROGRAM_CREATE:
		return ops->program_create(dev, args);
	case ERRNO_CALL_PROGRAM_DESTROY:
		return ops->program_destroy(dev, args);
	case ERRNO_CALL_SUBMIT:
		return ops->submit(dev, args);
	default:
		return core_call(dev, call, args);
	}
}

static void in_process_close(struct errno_device *device)
{
	to_in_process(device)->dev->ops->close(to_in_process(device)->dev);
}

static int in_process_guilty(struct errno_device *device, uint32_t *ctx)
{
	struct in_process *p = to_in_process(device);
	uint32_t window = fake_bo(p->dev, 4096, DRM_UNPU_BO_MMAP);
	uint32_t syncobj = fake_syncobj(p->dev);
	int err;

	*ctx = fake_ctx(p->dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	p->fake->fail = EIO;
	err = fake_submit(p->dev, *ctx, fake_program(p->dev, window, window, 1, false), 1,
			  syncobj, 0);
	err = err ? err : p->dev->ops->syncobj_wait(p->dev, syncobj, 0, UINT64_MAX);
	p->fake->fail = 0;
	return err;
}

static int in_process_no_memory(struct errno_device *device, struct errno_rig *rig)
{
	struct in_process *p = to_in_process(device);

	p->dev->ops->close(p->dev);
	p->dev = fake_device_without_memory();
	rig->calls = 1u << ERRNO_CALL_BO_CREATE;
	return 0;
}

static int in_process_read_only(struct errno_device *device, uint32_t *handle)
{
	struct in_process *p = to_in_process(device);
	uintptr_t aligned = ((uintptr_t)p->memory + 255) & ~(uintptr_t)255;

	return p->dev->ops->bo_import(p->dev, (void *)aligned, 4096, 0, handle);
}

/* An address that a 32-bit machine has not; with 64 bits every number is one. */
static const struct errno_device template = {
	.call = in_process_call,
	.close = in_process_close,
	.guilty = in_process_guilty,
	.no_memory = in_process_no_memory,
	.read_only = in_process_read_only,
	.no_address = UINTPTR_MAX == UINT32_MAX ? 1ull << 32 : 0,
};

static struct errno_device *open_device(struct in_process *p)
{
	p->base = template;
	p->dev = fake_device(&p->fake);
	return &p->base;
}

static void test_valid_calls(void **state)
{
	struct in_process p;
	char why[200];
	int call;

	(void)state;
	for (call = 0; call < ERRNO_CALLS; call++)
		if (errno_valid_check((enum errno_call)call, open_device(&p), why, sizeof(why)))
			fail_msg("%s", why);
}

static void test_rows(void **state)
{
	struct in_process p;
	char why[200];
	size_t i;

	(void)state;
	for (i = 0; i < errno_num_rows; i++) {
		const struct errno_row *row = &errno_rows[i];
		int variant, variants = row->flags & ERRNO_NODE ? 0 : 1;

		for (variant = 0; variant < variants; variant++)
			if (errno_row_check(row, variant, open_device(&p), &variants, why,
					    sizeof(why)))
				fail_msg("%s, variant %d: %s", row->name, variant, why);
		if (!variants && !(row->flags & ERRNO_NODE))
			print_message("%s: not on this machine\n", row->name);
	}
}

static void test_error_index(void **state)
{
	struct in_process p;
	char why[200];

	(void)state;
	if (errno_index_check(open_device(&p), why, sizeof(why)))
		fail_msg("%s", why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid_calls),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_error_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
