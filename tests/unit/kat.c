/* SPDX-License-Identifier: MIT */
/*
 * Known-answer tests: another instruction set's answers are right for every type of weights and
 * class, and one wrong number in what any shader writes is found.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/kat.h"
#include "runtime/device/trial.h"
#include "runtime/model/gguf.h"

static const struct unpu_device_shape small = {
	.layers = 2, .hidden = 72, .ffn = 112, .heads = 6, .kv_heads = 2, .head_dim = 16,
	.vocab = 300, .type = UNPU_TYPE_F32, .bytes = 1 << 20,
};

static struct unpu_device *open_cpu(const char *mask)
{
	const struct unpu_device_params params = { .threads = 1, .cpu_mask = mask };
	struct unpu_device *dev;

	assert_int_equal(unpu_cpu_device_open(&params, &dev), 0);
	return dev;
}

/* ---- a device that is wrong ---------------------------------------------------------------- */

static struct wrong {
	struct unpu_device_ops ops;
	const struct unpu_device_ops *inner;
	int kind, binding;	/* what to spoil; a kind of -1: nothing */
	uint32_t at;		/* which float */
	float by;
	int now;		/* the shader made last is of that kind */
	int maps;
	float *ptr;
} wrong;

static int wrong_shader(struct unpu_device *dev, struct drm_unpu_shader_create *args)
{
	wrong.now = unpu_shader_find(args->name) == wrong.kind;
	return wrong.inner->shader_create(dev, args);
}

static int wrong_map(struct unpu_device *dev, uint32_t handle, void **ptr)
{
	int err = wrong.inner->bo_map(dev, handle, ptr);

	if (wrong.maps++ == wrong.binding)
		wrong.ptr = *ptr;
	return err;
}

static int wrong_unmap(struct unpu_device *dev, uint32_t handle, void *ptr, uint64_t size)
{
	wrong.maps = 0;
	return wrong.inner->bo_unmap(dev, handle, ptr, size);
}

static int wrong_wait(struct unpu_device *dev, uint32_t handle, uint64_t point, uint64_t deadline)
{
	int err = wrong.inner->syncobj_wait(dev, handle, point, deadline);

	if (wrong.now)
		wrong.ptr[wrong.at] += wrong.by;
	return err;
}

static struct unpu_device *open_wrong(int kind, int binding, uint32_t at, float by)
{
	struct unpu_device *dev = open_cpu(NULL);

	wrong = (struct wrong){ *dev->ops, dev->ops, kind, binding, at, by, 0, 0, NULL };
	wrong.ops.shader_create = wrong_shader;
	wrong.ops.bo_map = wrong_map;
	wrong.ops.bo_unmap = wrong_unmap;
	wrong.ops.syncobj_wait = wrong_wait;
	dev->ops = &wrong.ops;
	return dev;
}

/* The one layout it takes; DRM_UNPU_LAYOUT_COUNT: those of r32, as a GPU. */
static uint32_t only = DRM_UNPU_LAYOUT_COUNT;

static int few_query(struct unpu_device *dev, struct drm_unpu_dev_query *args)
{
	struct drm_unpu_dev_info *info = (void *)(uintptr_t)args->pointer;
	int err = wrong.inner->dev_query(dev, args);
	uint32_t i, n = 0;

	for (i = 0; !err && i < info->num_matrices; i++)
		if (only == DRM_UNPU_LAYOUT_COUNT ?
		    unpu_layout_info(info->matrices[i].layout)->panel == 32 :
		    info->matrices[i].layout == only)
			info->matrices[n++] = info->matrices[i];
	info->num_matrices = n;
	return err;
}

static int run(struct unpu_device *dev, const struct unpu_device_shape *shape, char *why)
{
	const struct unpu_kat_params params = { .shape = shape };
	struct unpu_device *cpu = open_cpu("c");
	int err;

	wrong.ops.dev_query = few_query;
	why[0] = '\0';
	err = unpu_kat_run(dev, cpu, &params, why, 160);
	cpu->ops->close(cpu);
	dev->ops->close(dev);
	return err;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void test_right(void **state)
{
	static const uint32_t types[] = { UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16,
					  UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0, UNPU_TYPE_Q5_0,
					  UNPU_TYPE_Q4_K, UNPU_TYPE_Q6_K, UNPU_TYPE_Q5_1 };
	struct unpu_device_shape shape = small;
	char why[160];
	size_t i;

	(void)state;
	for (i = 0; i < 2 * sizeof(types) / sizeof(types[0]); i++) {
		shape.type = types[i / 2];
		shape.class_f32 = i % 2;
		if (run(open_wrong(-1, 0, 0, 0), &shape, why))
			fail_msg("type %u, class f32 %u: %s", shape.type, shape.class_f32, why);
	}
}

/* Devices that are another machine's cpu take what that is best at. */
static void test_layouts(void **state)
{
	struct unpu_device_shape shape = small;
	char why[160];
	int err, want;
	uint32_t i;

	(void)state;
	for (i = 0; i < 2 * DRM_UNPU_LAYOUT_COUNT; i++) {
		const struct unpu_layout_info *is = unpu_layout_info(i / 2);

		only = i / 2;
		shape.class_f32 = i % 2;
		shape.type = is->quantised ? is->bits == 4 ? UNPU_TYPE_Q4_0 : UNPU_TYPE_Q8_0 :
			     only == DRM_UNPU_LAYOUT_BF16_R16 ? UNPU_TYPE_BF16 :
			     is->bits == 16 ? UNPU_TYPE_F16 : UNPU_TYPE_F32;
		/* The types that are asked for here have no use for the other families. */
		want = is->packed && is->family <= UNPU_FAMILY_Q ? 0 : -ENOTSUP;
		err = run(open_wrong(-1, 0, 0, 0), &shape, why);
		if (err != want)
			fail_msg("layout %s, class f32 %u: %d, %s", is->name, shape.class_f32, err,
				 why);
	}
	only = DRM_UNPU_LAYOUT_Q8_R8_K16;
	shape.type = UNPU_TYPE_Q8_0;
	assert_int_equal(run(open_wrong(UNPU_SHADER_HEAD, 4, 299, 1e-2f), &shape, why), -EBADMSG);
	only = DRM_UNPU_LAYOUT_COUNT;
}

static void test_wrong(void **state)
{
	static const struct {
		int kind, binding;	/* the how-manieth buffer that is mapped */
		uint32_t at;
		float by;
		const char *name;
	} cases[] = {
		{ UNPU_SHADER_COPY, 1, 7, 1e-3f, "copy.1" },
		{ UNPU_SHADER_EMBED, 2, 3, 1e-6f, "embed.1" },
		{ UNPU_SHADER_QKV, 5, 3, 1e-3f, "qkv.1" },
		{ UNPU_SHADER_ATTN, 3, 5, 1e-2f, "attn.1" },
		{ UNPU_SHADER_ATTN_OUT, 3, 71, 1e-3f, "attn_out.1" },
		{ UNPU_SHADER_FFN_IN, 4, 79, 1e-3f, "ffn_in.1" },
		{ UNPU_SHADER_FFN_OUT, 3, 0, 1e-3f, "ffn_out.1" },
		{ UNPU_SHADER_HEAD, 4, 299, 1e-2f, "head.1" },
		{ UNPU_SHADER_SAMPLE, 5, 2, 1e-6f, "sample.1" },
		{ UNPU_SHADER_FFN_OUT, 0, 2, 1e-30f, "ffn_out.1" },	/* the fault word */
	};
	char why[160];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int err = run(open_wrong(cases[i].kind, cases[i].binding, cases[i].at,
					 cases[i].by), &small, why);

		if (err != -EBADMSG || strncmp(why, cases[i].name, strlen(cases[i].name)))
			fail_msg("case %zu: %d, \"%s\"", i, err, why);
	}
}

static void test_trial(void **state)
{
	struct unpu_device *dev = open_cpu(NULL);
	struct unpu_device_shape shape = small;
	uint64_t ns = 0;

	(void)state;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), 0);
	assert_true(ns > 0);
	shape.type = UNPU_TYPE_Q4_0;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), 0);
	/* Rows that are no whole superblocks, then such that are. */
	shape.type = UNPU_TYPE_Q4_K;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), 0);
	shape.hidden = 256;
	shape.ffn = 512;
	shape.heads = 4;
	shape.head_dim = 64;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), 0);
	shape.type = UNPU_TYPE_Q6_K;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), 0);
	shape.type = 77;
	assert_int_equal(unpu_trial_run(dev, &shape, &ns), -ENOTSUP);
	dev->ops->close(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_trial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
