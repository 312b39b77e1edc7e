/* SPDX-License-Identifier: MIT */
/*
 * The structural checks at their edges, where sums and products would overflow. Rows of the errno
 * table are tested through a device, in inproc.c.
 *
 * That unpu_check.c, shaders.c and layout.c need neither libc nor a float register shows in
 *   gcc -ffreestanding -mgeneral-regs-only -I. -idirafter /usr/include/libdrm -c uapi/unpu_check.c
 * and the undefined symbols of the objects (nm -u), which are their own only.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "uapi/unpu_check.h"

static const struct drm_unpu_dev_info limits = {
	.max_bo_bytes = 1ull << 40,
	.max_binding_bytes = 1ull << 32,
	.binding_align = 64,
	.max_dispatches = 0xffffffff,
	.max_bindings = 8,
	.max_buffers = 16,
	.max_spec_words = 4,
	.max_const_bytes = 0x80000000,
	.max_programs = 4,
	.max_repeat = 0xffffffff,
	.max_job_dispatches = 0xffffffff,
	.max_syncs = 4,
	.max_timeout_ns = 1000,
};

static void test_array(void **state)
{
	struct drm_unpu_array array = { 24, 1, 4096 };

	(void)state;
	assert_int_equal(unpu_check_array(&array, 24, 1, 1), 0);
	assert_int_equal(unpu_check_array(&array, 25, 1, 1), -EINVAL);
	assert_int_equal(unpu_check_array(&array, 24, 2, 2), -EINVAL);
	array.count = 0xffffffff;
	assert_int_equal(unpu_check_array(&array, 24, 1, 0xfffffffe), -EINVAL);
	assert_int_equal(unpu_check_array(&array, 24, 1, 1ull << 34), 0);
	array.ptr = 0;
	assert_int_equal(unpu_check_array(&array, 24, 1, 1ull << 34), -EFAULT);
	array.count = 0;
	assert_int_equal(unpu_check_array(&array, 24, 0, 1), 0);
	array = (struct drm_unpu_array){ UNPU_MAX_STRIDE, 1, 1 };
	assert_int_equal(unpu_check_array(&array, 24, 1, 1), 0);
	array.stride++;
	assert_int_equal(unpu_check_array(&array, 24, 1, 1), -E2BIG);
}

static void test_tail(void **state)
{
	uint8_t bytes[8] = { 0 };
	uint32_t i;

	(void)state;
	assert_int_equal(unpu_check_tail(bytes, 0), 0);
	assert_int_equal(unpu_check_tail(bytes, 8), 0);
	for (i = 0; i < 8; i++) {
		memset(bytes, 0, sizeof(bytes));
		bytes[i] = 0x80;
		assert_int_equal(unpu_check_tail(bytes, 8), -E2BIG);
		assert_int_equal(unpu_check_tail(bytes, i), 0);
	}
}

static int buffer_at(uint64_t offset, uint64_t size, uint64_t bo_bytes)
{
	const struct drm_unpu_buffer buffer = { 1, DRM_UNPU_ACCESS_READ, offset, size };

	return unpu_check_buffer(&buffer, bo_bytes, &limits);
}

static void test_buffer_edges(void **state)
{
	(void)state;
	assert_int_equal(buffer_at(0, 1, 1), 0);
	assert_int_equal(buffer_at(0, 2, 1), -EINVAL);
	assert_int_equal(buffer_at(64, 64, 128), 0);
	assert_int_equal(buffer_at(64, 65, 128), -EINVAL);
	assert_int_equal(buffer_at(128, 1, 128), -EINVAL);
	assert_int_equal(buffer_at(UINT64_MAX - 63, 64, 128), -EINVAL);
	assert_int_equal(buffer_at(UINT64_MAX - 63, 128, 128), -EINVAL);
	assert_int_equal(buffer_at(64, UINT64_MAX, 128), -EINVAL);
	assert_int_equal(buffer_at(0, 1ull << 32, 1ull << 40), 0);
	assert_int_equal(buffer_at(0, (1ull << 32) + 1, 1ull << 40), -EINVAL);
	assert_int_equal(buffer_at(UINT64_MAX - 63, 63, UINT64_MAX), 0);
	assert_int_equal(buffer_at(UINT64_MAX - 63, 64, UINT64_MAX), -EINVAL);
	assert_int_equal(buffer_at(32, 1, 128), -EINVAL);
}

static void test_dispatch_edges(void **state)
{
	const struct drm_unpu_program_create args = {
		.bindings = { 4, 0xffffffff, 1 },
		.const_bytes = 0xfffffffc,
	};
	struct drm_unpu_dispatch dispatch = { 1, 0xfffffff7, 8, 0, 0, { 1, 1, 1 } };

	(void)state;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), 0);
	dispatch.first_binding++;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), -EINVAL);
	dispatch.first_binding = 0xffffffff;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), -EINVAL);
	dispatch.first_binding = 0;
	dispatch.const_offset = 0xfffffffc;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), 0);
	dispatch.const_bytes = 4;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), -EINVAL);
	dispatch.const_offset = 0x80000000;
	dispatch.const_bytes = 0x80000000;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), -EINVAL);
	dispatch.const_offset = 0x7ffffffc;
	assert_int_equal(unpu_check_dispatch(&dispatch, &args, &limits), 0);
}

static void test_stop_edges(void **state)
{
	struct drm_unpu_program_create args = { .stop_offset = 60 };
	struct drm_unpu_buffer buffer = { 1, DRM_UNPU_ACCESS_READ, 0, 64 };

	(void)state;
	assert_int_equal(unpu_check_stop(&args, &buffer, DRM_UNPU_BO_MMAP), 0);
	args.stop_offset = 64;
	assert_int_equal(unpu_check_stop(&args, &buffer, DRM_UNPU_BO_MMAP), -EINVAL);
	args.stop_offset = 0xfffffffc;
	assert_int_equal(unpu_check_stop(&args, &buffer, DRM_UNPU_BO_MMAP), -EINVAL);
	args.stop_offset = 0;
	buffer.size = 3;
	assert_int_equal(unpu_check_stop(&args, &buffer, DRM_UNPU_BO_MMAP), -EINVAL);
}

/* repeat x dispatches has 64 bits, and so has the sum. */
static void test_run_edges(void **state)
{
	const struct drm_unpu_run most = { 1, 0xffffffff }, two = { 1, 2 }, one = { 1, 1 };
	__u64 total = 0;

	(void)state;
	assert_int_equal(unpu_check_run(&most, 0xffffffff, &total, &limits), -EINVAL);
	total = 0;
	assert_int_equal(unpu_check_run(&two, 0x80000000, &total, &limits), -EINVAL);
	total = 0;
	assert_int_equal(unpu_check_run(&most, 1, &total, &limits), 0);
	assert_int_equal(unpu_check_run(&one, 1, &total, &limits), -EINVAL);
}

static void test_sync_pairs(void **state)
{
	struct drm_unpu_sync syncs[3] = {
		{ 1, DRM_UNPU_SYNC_SIGNAL, 1 },
		{ 1, DRM_UNPU_SYNC_SIGNAL, 2 },
		{ 1, DRM_UNPU_SYNC_WAIT, 1 },
	};

	(void)state;
	assert_int_equal(unpu_check_syncs(syncs, 0), 0);
	assert_int_equal(unpu_check_syncs(syncs, 3), 0);
	syncs[1].point = 1;
	assert_int_equal(unpu_check_syncs(syncs, 3), -EINVAL);
	syncs[1].handle = 2;
	assert_int_equal(unpu_check_syncs(syncs, 3), 0);
	syncs[0].flags = DRM_UNPU_SYNC_WAIT;
	syncs[1] = syncs[0];
	assert_int_equal(unpu_check_syncs(syncs, 3), 0);
}

static int program_with(uint32_t num_bindings, uint32_t const_bytes)
{
	const struct drm_unpu_program_create args = {
		.buffers = { UNPU_V1_BUFFER, 1, 1 },
		.dispatches = { UNPU_V1_DISPATCH, 1, 1 },
		.bindings = { UNPU_V1_BINDING, num_bindings, 1 },
		.constants = 1,
		.const_bytes = const_bytes,
	};

	return unpu_check_program(&args, &limits);
}

static void test_program_edges(void **state)
{
	(void)state;
	assert_int_equal(program_with(0xffffffff, 0xfffffffc), 0);
	assert_int_equal(program_with(0, 0), -EINVAL);
	assert_int_equal(program_with(1, 0xffffffff), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_array),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_buffer_edges),
		cmocka_unit_test(test_dispatch_edges),
		cmocka_unit_test(test_stop_edges),
		cmocka_unit_test(test_run_edges),
		cmocka_unit_test(test_sync_pairs),
		cmocka_unit_test(test_program_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
