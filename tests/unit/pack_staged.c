/* SPDX-License-Identifier: MIT */
/*
 * Weights on a device whose memory cannot be mapped are those on one whose can, byte for byte, and
 * what does not fit is said with its sizes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "runtime/plan/stage.h"
#include "tests/lib/gpuish.h"
#include "tests/lib/subject.h"

/* A device with the model's weights, and everything they are copied to. */
struct packed {
	struct unpu_device *dev;
	struct gpuish *g;
	struct unpu_weights *w;
};

static void log_line(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	subject_log_line(NULL, level, text);
}

static int pack(struct packed *p, const struct subject *s, const struct gpuish_params *params)
{
	const struct unpu_pack_params how = { 0 };
	const struct unpu_log log = { .fn = log_line };

	memset(p, 0, sizeof(*p));
	assert_int_equal(gpuish_open(params, &log, &p->dev, &p->g), 0);
	return unpu_weights_create(p->dev, s->model->arch, &how, &log, &p->w);
}

static void unpack(struct packed *p)
{
	unpu_weights_destroy(p->w);
	p->dev->ops->close(p->dev);
}

/* The bytes of a range, through a program of `copy`. */
static uint8_t *read_back(const struct packed *p, const struct unpu_range *from)
{
	struct drm_unpu_program_destroy gone = { 0 };
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_bo_create bo = { .size = from->bytes, .flags = DRM_UNPU_BO_MMAP };
	struct drm_unpu_run run = { .repeat = 1 };
	struct drm_unpu_sync sync = { .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit submit = { .runs = { sizeof(run), 1, (uintptr_t)&run },
					  .syncs = { sizeof(sync), 1, (uintptr_t)&sync } };
	struct drm_unpu_ctx_destroy ctx_gone;
	const struct unpu_device_ops *ops = p->dev->ops;
	struct unpu_work none = { .shape.rows = 0 };
	struct unpu_compiler compiler;
	struct unpu_copy copy = { .src = *from };
	uint8_t *bytes = malloc(from->bytes);
	void *map = NULL;

	assert_non_null(bytes);
	assert_int_equal(ops->bo_create(p->dev, &bo), 0);
	assert_int_equal(ops->bo_map(p->dev, bo.handle, &map), 0);
	copy.dst = (struct unpu_range){ bo.handle, 0, from->bytes };
	unpu_compiler_init(&compiler, p->w, &none);
	assert_int_equal(unpu_compile_copies(&compiler, &copy, 1, &run.program_id), 0);
	assert_int_equal(ops->ctx_create(p->dev, &ctx), 0);
	assert_int_equal(ops->syncobj_create(p->dev, &sync.handle), 0);
	submit.ctx_id = ctx.ctx_id;
	assert_int_equal(ops->submit(p->dev, &submit), 0);
	assert_int_equal(ops->syncobj_wait(p->dev, sync.handle, 0, UINT64_MAX), 0);
	memcpy(bytes, map, from->bytes);
	gone.program_id = run.program_id;
	ctx_gone = (struct drm_unpu_ctx_destroy){ .ctx_id = ctx.ctx_id };
	assert_int_equal(ops->program_destroy(p->dev, &gone), 0);
	assert_int_equal(ops->ctx_destroy(p->dev, &ctx_gone), 0);
	assert_int_equal(ops->syncobj_destroy(p->dev, sync.handle), 0);
	unpu_compiler_finish(&compiler);
	assert_int_equal(ops->bo_unmap(p->dev, bo.handle, map, from->bytes), 0);
	assert_int_equal(ops->bo_close(p->dev, bo.handle), 0);
	return bytes;
}

static void compare(const struct packed *a, const struct packed *b, const struct unpu_range *ra,
		    const struct unpu_range *rb)
{
	uint8_t *of_a, *of_b;

	assert_int_equal(ra->bytes, rb->bytes);
	assert_int_equal(ra->offset, rb->offset);
	if (!ra->bytes)
		return;
	of_a = read_back(a, ra);
	of_b = read_back(b, rb);
	assert_memory_equal(of_a, of_b, ra->bytes);
	free(of_a);
	free(of_b);
}

static void compare_weight(const struct packed *a, const struct packed *b,
			   const struct unpu_weight *wa, const struct unpu_weight *wb)
{
	assert_int_equal(wa->layout, wb->layout);
	compare(a, b, &wa->quants, &wb->quants);
	compare(a, b, &wa->scales, &wb->scales);
}

static void compare_all(const struct packed *a, const struct packed *b)
{
	for (uint32_t i = 0; i < a->w->arch->hp.layers; i++) {
		const struct unpu_layer_weights *la = &a->w->layers[i], *lb = &b->w->layers[i];

		compare_weight(a, b, &la->qkv, &lb->qkv);
		compare_weight(a, b, &la->out, &lb->out);
		compare_weight(a, b, &la->ffn_in, &lb->ffn_in);
		compare_weight(a, b, &la->ffn_out, &lb->ffn_out);
		compare(a, b, &la->qkv_params, &lb->qkv_params);
		compare(a, b, &la->out_params, &lb->out_params);
		compare(a, b, &la->ffn_in_params, &lb->ffn_in_params);
		compare(a, b, &la->ffn_out_params, &lb->ffn_out_params);
	}
	compare_weight(a, b, &a->w->head, &b->w->head);
	compare_weight(a, b, &a->w->embed, &b->w->embed);
	compare(a, b, &a->w->positions, &b->w->positions);
	compare(a, b, &a->w->head_params, &b->w->head_params);
}

static void staged_is_mapped(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
	static const uint32_t types[] = { UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16,
					  UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0 };

	(void)state;
	for (uint32_t i = 0; i < 40; i++) {
		struct gpuish_params params = { .mappable = true, .r32 = i >= 20 };
		struct packed mapped, staged;
		struct subject s;

		subject_open(&s, archs[i % 4], types[i / 4 % 5], 1, 0);
		assert_int_equal(pack(&mapped, &s, &params), 0);
		params.mappable = false;
		assert_int_equal(pack(&staged, &s, &params), 0);
		assert_int_equal(atomic_load(&mapped.g->runs), 0);
		assert_true(atomic_load(&staged.g->runs) > 0);
		compare_all(&mapped, &staged);
		unpack(&mapped);
		unpack(&staged);
		subject_close(&s);
	}
}

/* Weights of more than the stage holds, cut into many pieces and several banks. */
static void larger_than_the_stage(void **state)
{
	const struct tiny_params tiny = { .arch = "llama", .type = UNPU_TYPE_Q8_0, .hidden = 608,
					  .heads = 19, .kv_heads = 19, .head_dim = 32, .ffn = 4000,
					  .layers = 2, .vocab = 24000, .tied = 0, .seed = 3 };
	struct gpuish_params params = { .mappable = true, .max_bo_bytes = 24u << 20 };
	struct packed mapped, staged;
	struct subject s;

	(void)state;
	subject_open_tiny(&s, &tiny, 1, 0);
	for (int r32 = 0; r32 < 2; r32++) {
		params.r32 = r32;
		params.mappable = true;
		assert_int_equal(pack(&mapped, &s, &params), 0);
		params.mappable = false;
		assert_int_equal(pack(&staged, &s, &params), 0);
		assert_true(staged.w->num_banks > 1);
		assert_int_equal(staged.w->num_banks, mapped.w->num_banks);
		compare_all(&mapped, &staged);
		unpack(&mapped);
		unpack(&staged);
	}
	subject_close(&s);
}

/* Others have nearly all of what can be mapped: smaller pieces. */
static void a_small_window(void **state)
{
	static const uint64_t windows[] = { 6u << 20, 3u << 20, 1u << 20 };
	struct gpuish_params params = { .mappable = false };
	struct packed whole, p;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	assert_int_equal(pack(&whole, &s, &params), 0);
	for (size_t i = 0; i < 3; i++) {
		params.window_bytes = windows[i];
		assert_int_equal(pack(&p, &s, &params), 0);
		compare_all(&whole, &p);
		unpack(&p);
	}
	unpack(&whole);
	params.window_bytes = 65536;
	assert_int_equal(pack(&p, &s, &params), -ENOSPC);
	unpack(&p);
	subject_close(&s);
}

static void too_large(void **state)
{
	struct gpuish_params params = { .device_bytes = 65536 };
	struct packed p;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_errors = 0;
	assert_int_equal(pack(&p, &s, &params), -ENOSPC);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "do not fit gpuish:0 (0 MiB)"));
	unpack(&p);
	params = (struct gpuish_params){ .max_bo_bytes = 16384 };
	subject_errors = 0;
	assert_int_equal(pack(&p, &s, &params), -E2BIG);
	assert_int_equal(subject_errors, 1);
	unpack(&p);
	subject_close(&s);
}

/* Any job of the packing fails: its errno, one sentence, nothing left behind. */
static void the_device_fails(void **state)
{
	static const struct {
		enum gpuish_fault fault;
		int err;
	} faults[] = { { GPUISH_LOST, -ENODEV }, { GPUISH_OOM, -ENOMEM },
		       { GPUISH_CORRUPT, -EIO }, { GPUISH_HANG, -ETIME } };
	const struct unpu_pack_params how = { 0 };
	const struct unpu_log log = { .fn = log_line };
	const struct gpuish_params params = { .timeout_ns = 300000000 };
	struct subject s;

	(void)state;
	subject_open(&s, "qwen2", UNPU_TYPE_Q4_0, 1, 0);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct packed p = { 0 };
		struct drm_unpu_dev_stats stats;
		struct drm_unpu_dev_query query = { DRM_UNPU_QUERY_DEV_STATS, sizeof(stats),
						    (uintptr_t)&stats };

		assert_int_equal(gpuish_open(&params, &log, &p.dev, &p.g), 0);
		p.g->fault = faults[i].fault;
		p.g->fault_at = 1;
		subject_errors = 0;
		assert_int_equal(unpu_weights_create(p.dev, s.model->arch, &how, &log, &p.w),
				 faults[i].err);
		assert_int_equal(subject_errors, 1);
		assert_int_equal(p.dev->ops->dev_query(p.dev, &query), 0);
		assert_int_equal(stats.device_used_bytes, 0);
		assert_int_equal(stats.window_used_bytes, 0);
		p.dev->ops->close(p.dev);
	}
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(staged_is_mapped),
		cmocka_unit_test(larger_than_the_stage),
		cmocka_unit_test(a_small_window),
		cmocka_unit_test(too_large),
		cmocka_unit_test(the_device_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
