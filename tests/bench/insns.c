/* SPDX-License-Identifier: MIT */
/*
 * The guest of insns.sh.
 *   insns list                               the mm twins of this machine that are not plain C:
 *                                            layout, class and name of each
 *   insns LAYOUT CLASS ROWS K TOKENS TURNS   that many calls of one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/cpu/ops.h"

static int list(const struct unpu_cpu_ops *ops)
{
	struct unpu_cpu_ops c;

	unpu_cpu_ops_init(&c, UNPU_CPU_MASK_C);
	for (uint32_t i = 0; i < ops->num_matrices; i++) {
		uint32_t layout = ops->matrices[i].layout, numeric = ops->matrices[i].numeric;

		if (ops->mm[layout][numeric] != c.mm[layout][numeric])
			printf("%u %u %s_%s\n", layout, numeric, unpu_layout_info(layout)->name,
			       numeric == DRM_UNPU_CLASS_A8 ? "a8" : "f32");
	}
	return 0;
}

/* Zeros will do: no twin looks at its numbers. */
static int run(const struct unpu_cpu_ops *ops, const uint32_t arg[6])
{
	uint32_t layout = arg[0], numeric = arg[1], rows = arg[2], k = arg[3], tokens = arg[4];
	uint32_t padded = unpu_pad32(k), turns = arg[5];
	size_t n = (size_t)tokens * padded;
	struct unpu_mm_args mm = {
		.layout = layout, .rows = rows, .k = k, .row1 = unpu_pad32(rows), .tokens = tokens,
		.quants = calloc(1, unpu_layout_quant_bytes(layout, rows, k)),
		.scales = calloc(1, unpu_layout_scale_bytes(layout, rows, k) + 1),
		.x = calloc(n, sizeof(float)), .ldx = padded,
		.q = calloc(n, 1), .d = calloc(n / 32, sizeof(float)),
		.sum = calloc(n / 32, sizeof(int32_t)),
		.y = calloc((size_t)tokens * unpu_pad32(rows), sizeof(float)),
		.ldy = unpu_pad32(rows),
	};

	if (!mm.quants || !mm.scales || !mm.x || !mm.q || !mm.d || !mm.sum || !mm.y)
		return 1;
	while (turns--)
		ops->mm[layout][numeric](&mm);
	return 0;
}

int main(int argc, char **argv)
{
	struct unpu_cpu_ops ops;
	uint32_t arg[6];

	unpu_cpu_ops_init(&ops, ~0u);
	if (argc == 2 && !strcmp(argv[1], "list"))
		return list(&ops);
	if (argc != 7)
		return 2;
	for (int i = 0; i < 6; i++)
		arg[i] = strtoul(argv[i + 1], NULL, 10);
	if (arg[0] >= DRM_UNPU_LAYOUT_COUNT || arg[1] > 1 || !ops.mm[arg[0]][arg[1]])
		return 2;
	return run(&ops, arg);
}
