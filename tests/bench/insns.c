/* SPDX-License-Identifier: MIT */
/*
 * The guest of insns.sh: insns [again]. Calls every mm twin of NEON, in the schedule for in-order
 * cores where that is another, and with dotprod, for 1 and for 4 tokens. A system call that no
 * kernel has, with the number of the cell, is a mark before and after: the plugin counts in
 * between. Prints a line for each: number, instruction set, twin, tokens, multiply-adds. "again":
 * one panel of rows is done twice, which a gate has to notice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/device/cpu/ops.h"
#include "tests/bench/insncount.h"

/* As in SmolLM2-135M. Rows of families whose scales lie in groups of 256 are as long again. */
#define ROWS	192u
#define K	576u

static void mark(long what, uint32_t cell)
{
	syscall(INSNCOUNT_MARK, what, (long)cell);
}

/* Zeros will do: no twin looks at its numbers. */
static int prepare(struct unpu_mm_args *mm, uint32_t layout, uint32_t tokens)
{
	uint32_t group = unpu_layout_info(layout)->group;
	uint32_t k = group > UNPU_PAD ? (K + group - 1) / group * group : K;
	size_t n = (size_t)tokens * k;

	*mm = (struct unpu_mm_args){
		.layout = layout, .rows = ROWS, .k = k, .row1 = ROWS, .tokens = tokens,
		.quants = calloc(1, unpu_layout_quant_bytes(layout, ROWS, k)),
		.scales = calloc(1, unpu_layout_scale_bytes(layout, ROWS, k) + 1),
		.x = calloc(n, sizeof(float)), .ldx = k,
		.q = calloc(n, 1), .d = calloc(n / 32, sizeof(float)),
		.sum = calloc(n / 32, sizeof(int32_t)),
		.y = calloc((size_t)tokens * ROWS, sizeof(float)), .ldy = ROWS,
	};
	return mm->quants && mm->scales && mm->x && mm->q && mm->d && mm->sum && mm->y ? 0 : -1;
}

static void release(struct unpu_mm_args *mm)
{
	const void *parts[] = { mm->quants, mm->scales, mm->x, mm->q, mm->d, mm->sum, mm->y };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		free((void *)parts[i]);
}

/* The multiply-adds; 0 without memory. */
static uint32_t count(unpu_mm_fn *fn, uint32_t layout, uint32_t tokens, uint32_t cell, int again)
{
	struct unpu_mm_args mm, first;
	int err = prepare(&mm, layout, tokens);

	first = mm;
	first.row1 = 8;
	if (!err) {
		fn(&mm);	/* what is bound at the first call */
		mark(INSNCOUNT_BEGIN, cell);
		fn(&mm);
		if (again)
			fn(&first);
		mark(INSNCOUNT_END, cell);
	}
	release(&mm);
	return err ? 0 : mm.rows * mm.k * tokens;
}

/* The twins that one mask has and another has not. */
static int count_all(const char *isa, uint32_t mask, uint32_t mask_below, uint32_t *cell,
		     int again)
{
	struct unpu_cpu_ops ops, below;

	unpu_cpu_ops_init(&ops, mask);
	unpu_cpu_ops_init(&below, mask_below);
	for (uint32_t i = 0; i < DRM_UNPU_LAYOUT_COUNT * 2; i++) {
		uint32_t layout = i / 2, numeric = i % 2;
		unpu_mm_fn *fn = ops.mm[layout][numeric];

		if (!fn || fn == below.mm[layout][numeric])
			continue;
		for (uint32_t tokens = 1; tokens <= 4; tokens += 3) {
			uint32_t macs = count(fn, layout, tokens, *cell, again);

			if (!macs)
				return 1;
			printf("%u %s %s_%s %u %u\n", (*cell)++, isa,
			       unpu_layout_info(layout)->name,
			       numeric == DRM_UNPU_CLASS_A8 ? "a8" : "f32", tokens, macs);
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const uint32_t neon = UNPU_CPU_MASK_NEON | UNPU_CPU_MASK_NEON_REORDER;
	const uint32_t dotprod = neon | UNPU_CPU_MASK_NEON_DOTPROD;
	int again = argc == 2 && !strcmp(argv[1], "again");
	uint32_t cell = 0;

	if (argc > 2 || (argc == 2 && !again)) {
		fputs("usage: insns [again]\n", stderr);
		return 2;
	}
	return count_all("neon", neon, UNPU_CPU_MASK_C, &cell, again) ||
	       count_all("neon_inorder", UNPU_CPU_MASK_NEON, neon, &cell, again) ||
	       count_all("neon_dotprod", dotprod, neon, &cell, again);
}
