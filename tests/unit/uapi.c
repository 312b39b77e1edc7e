/* SPDX-License-Identifier: MIT */
/*
 * The device interface, held still: where every field lies and what every number is, on 64 and 32
 * bits alike (the cross builds compile this file too), and the errno table's form.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "uapi/unpu_check.h"

#define SIZE(__struct, __bytes) \
	_Static_assert(sizeof(struct drm_unpu_ ## __struct) == (__bytes), #__struct)
#define AT(__struct, __field, __offset) \
	_Static_assert(offsetof(struct drm_unpu_ ## __struct, __field) == (__offset), #__field)
#define IS(__name, __value) \
	_Static_assert(DRM_UNPU_ ## __name == (__value), #__name)

/* ---- layouts ------------------------------------------------------------------------------- */

SIZE(array, 16);
AT(array, stride, 0);
AT(array, count, 4);
AT(array, ptr, 8);

SIZE(dev_query, 16);
AT(dev_query, type, 0);
AT(dev_query, size, 4);
AT(dev_query, pointer, 8);

SIZE(matrix, 4);
AT(matrix, layout, 0);
AT(matrix, numeric, 2);

SIZE(dev_info, 464);
AT(dev_info, version_major, 0);
AT(dev_info, version_minor, 4);
AT(dev_info, features, 8);
AT(dev_info, heap_window_bytes, 16);
AT(dev_info, heap_device_bytes, 24);
AT(dev_info, max_bo_bytes, 32);
AT(dev_info, max_binding_bytes, 40);
AT(dev_info, binding_align, 48);
AT(dev_info, max_rows, 52);
AT(dev_info, max_dispatches, 56);
AT(dev_info, max_bindings, 60);
AT(dev_info, max_buffers, 64);
AT(dev_info, max_spec_words, 68);
AT(dev_info, max_const_bytes, 72);
AT(dev_info, max_programs, 76);
AT(dev_info, max_repeat, 80);
AT(dev_info, max_job_dispatches, 84);
AT(dev_info, max_syncs, 88);
AT(dev_info, max_contexts, 92);
AT(dev_info, max_queued_jobs, 96);
AT(dev_info, tokens_per_submit, 100);
AT(dev_info, default_timeout_ns, 104);
AT(dev_info, max_timeout_ns, 112);
AT(dev_info, max_job_time_ns, 120);
AT(dev_info, kv_types, 128);
AT(dev_info, num_matrices, 132);
AT(dev_info, units, 136);
AT(dev_info, pad, 140);
AT(dev_info, matrices, 144);
AT(dev_info, name, 400);

SIZE(dev_stats, 80);
AT(dev_stats, window_used_bytes, 0);
AT(dev_stats, device_used_bytes, 8);
AT(dev_stats, jobs_submitted, 16);
AT(dev_stats, jobs_completed, 24);
AT(dev_stats, jobs_failed, 32);
AT(dev_stats, jobs_timed_out, 40);
AT(dev_stats, jobs_cancelled, 48);
AT(dev_stats, resets, 56);
AT(dev_stats, epoch, 64);
AT(dev_stats, busy_ns, 72);

SIZE(shader_name, 32);
AT(shader_name, name, 0);

SIZE(bo_create, 16);
AT(bo_create, size, 0);
AT(bo_create, flags, 8);
AT(bo_create, handle, 12);

SIZE(bo_mmap_offset, 16);
AT(bo_mmap_offset, handle, 0);
AT(bo_mmap_offset, pad, 4);
AT(bo_mmap_offset, offset, 8);

SIZE(ctx_create, 24);
AT(ctx_create, priority, 0);
AT(ctx_create, flags, 4);
AT(ctx_create, timeout_ns, 8);
AT(ctx_create, ctx_id, 16);
AT(ctx_create, pad, 20);

SIZE(ctx_destroy, 8);
AT(ctx_destroy, ctx_id, 0);
AT(ctx_destroy, pad, 4);

SIZE(ctx_query, 48);
AT(ctx_query, ctx_id, 0);
AT(ctx_query, state, 4);
AT(ctx_query, completed_seqno, 8);
AT(ctx_query, failed_seqno, 16);
AT(ctx_query, failed_errno, 24);
AT(ctx_query, pad, 28);
AT(ctx_query, busy_ns, 32);
AT(ctx_query, queued_ns, 40);

SIZE(shader_create, 48);
AT(shader_create, name, 0);
AT(shader_create, spec, 32);
AT(shader_create, spec_words, 40);
AT(shader_create, shader_id, 44);

SIZE(shader_destroy, 8);
AT(shader_destroy, shader_id, 0);
AT(shader_destroy, pad, 4);

SIZE(buffer, 24);
AT(buffer, handle, 0);
AT(buffer, flags, 4);
AT(buffer, offset, 8);
AT(buffer, size, 16);

SIZE(dispatch, 32);
AT(dispatch, shader_id, 0);
AT(dispatch, first_binding, 4);
AT(dispatch, num_bindings, 8);
AT(dispatch, const_offset, 12);
AT(dispatch, const_bytes, 16);
AT(dispatch, grid, 20);

SIZE(binding, 4);
AT(binding, buffer, 0);

SIZE(program_create, 80);
AT(program_create, buffers, 0);
AT(program_create, dispatches, 16);
AT(program_create, bindings, 32);
AT(program_create, constants, 48);
AT(program_create, const_bytes, 56);
AT(program_create, flags, 60);
AT(program_create, stop_buffer, 64);
AT(program_create, stop_offset, 68);
AT(program_create, program_id, 72);
AT(program_create, error_index, 76);

SIZE(program_destroy, 8);
AT(program_destroy, program_id, 0);
AT(program_destroy, pad, 4);

SIZE(run, 8);
AT(run, program_id, 0);
AT(run, repeat, 4);

SIZE(sync, 16);
AT(sync, handle, 0);
AT(sync, flags, 4);
AT(sync, point, 8);

SIZE(submit, 56);
AT(submit, ctx_id, 0);
AT(submit, flags, 4);
AT(submit, runs, 8);
AT(submit, syncs, 24);
AT(submit, seqno, 40);
AT(submit, error_index, 48);
AT(submit, pad, 52);

/* ---- numbers: append-only ------------------------------------------------------------------ */

IS(DEV_QUERY, 0);
IS(BO_CREATE, 1);
IS(BO_MMAP_OFFSET, 2);
IS(CTX_CREATE, 3);
IS(CTX_DESTROY, 4);
IS(CTX_QUERY, 5);
IS(SHADER_CREATE, 6);
IS(SHADER_DESTROY, 7);
IS(PROGRAM_CREATE, 8);
IS(PROGRAM_DESTROY, 9);
IS(SUBMIT, 10);

IS(QUERY_DEV_INFO, 0);
IS(QUERY_DEV_STATS, 1);
IS(QUERY_DEV_SHADERS, 2);

IS(LAYOUT_GGUF_F32, 0);
IS(LAYOUT_GGUF_F16, 1);
IS(LAYOUT_GGUF_BF16, 2);
IS(LAYOUT_GGUF_Q8_0, 3);
IS(LAYOUT_GGUF_Q4_0, 4);
IS(LAYOUT_F32_R16, 5);
IS(LAYOUT_F16_R16, 6);
IS(LAYOUT_BF16_R16, 7);
IS(LAYOUT_Q8_R8_K16, 8);
IS(LAYOUT_Q8_R8_K4, 9);
IS(LAYOUT_Q8_R16_K4U, 10);
IS(LAYOUT_Q4_R8_K16, 11);
IS(LAYOUT_Q4_R8_K4, 12);
IS(LAYOUT_Q4_R8_K4U, 13);
IS(LAYOUT_Q4_R16_K4U, 14);
IS(LAYOUT_F32_R32, 15);
IS(LAYOUT_F16_R32, 16);
IS(LAYOUT_Q8_R32, 17);
IS(LAYOUT_Q4_R32, 18);
IS(LAYOUT_Q4K_R8_K16, 19);
IS(LAYOUT_Q4K_R8_K4U, 20);
IS(LAYOUT_Q4K_R16_K4U, 21);
IS(LAYOUT_Q6K_R8_K16, 22);
IS(LAYOUT_Q6K_R8_K4, 23);
IS(LAYOUT_Q6K_R16_K4, 24);
IS(LAYOUT_Q8A_R8_K16, 25);
IS(LAYOUT_Q8A_R8_K4, 26);
IS(LAYOUT_Q8A_R16_K4U, 27);

IS(CLASS_F32, 0);
IS(CLASS_A8, 1);

IS(KV_F32, 0);
IS(KV_F16, 1);
IS(KV_INT8, 2);

IS(PRIORITY_LOW, 0);
IS(PRIORITY_NORMAL, 1);
IS(PRIORITY_HIGH, 2);

IS(CTX_OK, 0);
IS(CTX_GUILTY, 1);
IS(CTX_INNOCENT, 2);
IS(CTX_LOST, 3);

IS(FEATURE_UNIFIED, 1);
IS(FEATURE_LIVE_GRID, 2);
IS(FEATURE_PURE_ROWS, 4);
IS(FEATURE_WAIT_RUNS, 8);
IS(BO_MMAP, 1);
IS(ACCESS_READ, 1);
IS(ACCESS_WRITE, 2);
IS(PROGRAM_STOP, 1);
IS(SYNC_WAIT, 1);
IS(SYNC_SIGNAL, 2);
IS(SHADER_NAME, 32);
IS(MAX_MATRICES, 64);

/* Version 1.0 has these sizes for ever; the structs may grow. */
_Static_assert(sizeof(struct drm_unpu_dev_info) >= UNPU_V1_DEV_INFO, "dev_info");
_Static_assert(sizeof(struct drm_unpu_dev_stats) >= UNPU_V1_DEV_STATS, "dev_stats");
_Static_assert(sizeof(struct drm_unpu_buffer) >= UNPU_V1_BUFFER, "buffer");
_Static_assert(sizeof(struct drm_unpu_dispatch) >= UNPU_V1_DISPATCH, "dispatch");
_Static_assert(sizeof(struct drm_unpu_binding) >= UNPU_V1_BINDING, "binding");
_Static_assert(sizeof(struct drm_unpu_run) >= UNPU_V1_RUN, "run");
_Static_assert(sizeof(struct drm_unpu_sync) >= UNPU_V1_SYNC, "sync");

/* ---- ioctl numbers ------------------------------------------------------------------------- */

/* Read and write, type 'd', 0x40 + the call, and the size of version 1.0. */
static void test_ioctl_numbers(void **state)
{
	static const struct {
		unsigned long number;
		unsigned int call, bytes;
	} calls[] = {
		{ DRM_IOCTL_UNPU_DEV_QUERY, 0, 16 },
		{ DRM_IOCTL_UNPU_BO_CREATE, 1, 16 },
		{ DRM_IOCTL_UNPU_BO_MMAP_OFFSET, 2, 16 },
		{ DRM_IOCTL_UNPU_CTX_CREATE, 3, 24 },
		{ DRM_IOCTL_UNPU_CTX_DESTROY, 4, 8 },
		{ DRM_IOCTL_UNPU_CTX_QUERY, 5, 48 },
		{ DRM_IOCTL_UNPU_SHADER_CREATE, 6, 48 },
		{ DRM_IOCTL_UNPU_SHADER_DESTROY, 7, 8 },
		{ DRM_IOCTL_UNPU_PROGRAM_CREATE, 8, 80 },
		{ DRM_IOCTL_UNPU_PROGRAM_DESTROY, 9, 8 },
		{ DRM_IOCTL_UNPU_SUBMIT, 10, 56 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_int_equal(calls[i].number, 3ul << 30 | (unsigned long)calls[i].bytes << 16 |
				 'd' << 8 | (0x40 + calls[i].call));
}

/* ---- the errno table ----------------------------------------------------------------------- */

/* A line of the table: "   CALL | field | bad value | ERRNO" after the comment's star. */
static int count_fields(const char *line)
{
	int bars = 0;

	for (; *line; line++)
		bars += *line == '|';
	return bars + 1;
}

static int is_errno(const char *name)
{
	static const char *const known[] = {
		"EINVAL", "ENOENT", "EFAULT", "E2BIG", "ENOMEM", "ENOSPC", "EBUSY", "EIO", "ENODEV",
		"EACCES", "EOPNOTSUPP", "ESTALE",
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(name, known[i]))
			return 1;
	return 0;
}

/* A generator of tests reads these lines: four fields, no line twice, a known errno at the end. */
static void test_errno_table(void **state)
{
	static char lines[256][128];
	char line[256];
	size_t count = 0, i;
	FILE *file = fopen("uapi/unpu_accel.h", "r");

	(void)state;
	if (!file) {
		printf("uapi/unpu_accel.h is not here: run from the top of the source\n");
		skip();
	}
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, " *   ", 5) || !strchr(line, '|'))
			continue;
		line[strcspn(line, "\n")] = '\0';
		assert_int_equal(count_fields(line), 4);
		assert_true(is_errno(strrchr(line, '|') + 2));
		assert_true(count < 256 && strlen(line) < sizeof(lines[0]));
		for (i = 0; i < count; i++)
			assert_string_not_equal(lines[i], line);
		strcpy(lines[count++], line);
	}
	fclose(file);
	assert_true(count > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ioctl_numbers),
		cmocka_unit_test(test_errno_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
