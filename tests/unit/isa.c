/* SPDX-License-Identifier: MIT */
/* What isa.c says of instruction sets is what their twins are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/cpu/ops.h"

static bool lists(const struct unpu_cpu_isa *isa, uint32_t layout, uint32_t numeric)
{
	for (uint32_t i = 0; i < isa->num_matrices; i++)
		if (isa->matrices[i].layout == layout && isa->matrices[i].numeric == numeric)
			return true;
	return false;
}

/* By it or by one that it goes on from, but for plain C, which lists all. */
static bool listed(const struct unpu_cpu_isa *of, uint32_t layout, uint32_t numeric)
{
	const struct unpu_cpu_isa *isa;

	for (uint32_t i = 1; (isa = unpu_cpu_isa(i)); i++)
		if ((isa->flag & of->mask) && lists(isa, layout, numeric))
			return true;
	return false;
}

static void compare(const struct unpu_cpu_isa *isa, const struct unpu_cpu_ops *ops,
		    const struct unpu_cpu_ops *plain)
{
	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++)
		for (uint32_t numeric = 0; numeric < 2; numeric++) {
			bool fast = ops->mm[layout][numeric] != plain->mm[layout][numeric];

			if (fast != listed(isa, layout, numeric))
				fail_msg("%s, layout %s in class %u: %s", isa->name,
					 unpu_layout_info(layout)->name, numeric,
					 fast ? "not in isa.c" : "in isa.c, but plain C");
		}
}

static void listed_pairs_are_fast(void **state)
{
	const struct unpu_cpu_isa *isa;
	struct unpu_cpu_ops plain, ops;

	(void)state;
	unpu_cpu_ops_init(&plain, UNPU_CPU_MASK_C);
	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		unpu_cpu_ops_init(&ops, isa->mask);
		if (strcmp(ops.name, isa->name)) {
			print_message("skip %s: not on this machine or in this build\n", isa->name);
			continue;
		}
		if (i)
			compare(isa, &ops, &plain);
	}
}

static void a_device_tells_the_same(void **state)
{
	struct drm_unpu_matrix list[DRM_UNPU_MAX_MATRICES];
	const struct unpu_cpu_isa *isa;
	struct unpu_cpu_ops ops;

	(void)state;
	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		uint32_t count = unpu_cpu_isa_matrices(isa->mask, list);

		unpu_cpu_ops_init(&ops, isa->mask);
		if (strcmp(ops.name, isa->name))
			continue;
		assert_int_equal(count, ops.num_matrices);
		assert_memory_equal(list, ops.matrices, count * sizeof(*list));
	}
}

static void lists_are_well_formed(void **state)
{
	struct drm_unpu_matrix list[DRM_UNPU_MAX_MATRICES];
	const struct unpu_cpu_isa *isa;

	(void)state;
	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		uint32_t count = unpu_cpu_isa_matrices(isa->mask, list);

		/* All sets know the same pairs; only the order is theirs. */
		assert_int_equal(count, unpu_cpu_isa(0)->num_matrices);
		assert_true(isa->num_matrices > 0);
		for (uint32_t a = 0; a < count; a++) {
			const struct unpu_layout_info *info = unpu_layout_info(list[a].layout);

			assert_non_null(info);
			assert_true(list[a].numeric == DRM_UNPU_CLASS_F32 ||
				    (list[a].numeric == DRM_UNPU_CLASS_A8 && info->quantised));
			for (uint32_t b = 0; b < a; b++)
				assert_memory_not_equal(&list[a], &list[b], sizeof(*list));
		}
		assert_memory_equal(list, isa->matrices, sizeof(*list));
		assert_ptr_equal(unpu_cpu_isa_of(list, count), isa);
		assert_null(unpu_cpu_isa_of(list, count - 1));
	}
}

static void names(void **state)
{
	const struct unpu_cpu_isa *isa;
	uint32_t mask = 5;

	(void)state;
	assert_int_equal(unpu_cpu_mask_parse("avx", &mask), -EINVAL);
	assert_int_equal(mask, 5);
	assert_int_equal(unpu_cpu_mask_parse(NULL, &mask), 0);
	assert_int_equal(mask, ~0u);
	/* No set of its own: the other schedules of one. */
	assert_int_equal(unpu_cpu_mask_parse("neon_inorder", &mask), 0);
	assert_int_equal(mask, UNPU_CPU_MASK_NEON);
	assert_null(unpu_cpu_isa_find("neon_inorder"));
	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		assert_ptr_equal(unpu_cpu_isa_find(isa->name), isa);
		assert_int_equal(unpu_cpu_mask_parse(isa->name, &mask), 0);
		assert_int_equal(mask, isa->mask);
		assert_int_equal(mask & isa->flag, isa->flag);
	}
	assert_null(unpu_cpu_isa_find("sse2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listed_pairs_are_fast),
		cmocka_unit_test(a_device_tells_the_same),
		cmocka_unit_test(lists_are_well_formed),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
