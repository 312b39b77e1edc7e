/* SPDX-License-Identifier: MIT */
/*
 * Class a8 of one token for cores that issue in order (Cortex-A53): the arithmetic of mm_neon.c in
 * a schedule of its own. A compiler's waits at each step of the chain that ends a block; here that
 * chain goes on inside the next block, and loads, which such a core does not issue beside 128-bit
 * arithmetic, stand together. Cycles a block, simulated by llvm-mca 19: 93 instead of 119 for Q4,
 * 91 instead of 106 for Q8. Calls of more tokens take the common twin.
 */
#include "runtime/device/cpu/arm/neon.h"

#define ALL_VECTORS									\
	"v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",	\
	"v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",	\
	"v26", "v27", "v28", "v29", "v30", "v31"

/*
 * v0-v7   sums of the rows, those of the last block until they are added in pairs
 * v8-v15  k = 0..15 of the rows, v16-v23 bytes of the rows, then k = 16..31
 * v24-25  activations; v26-v27 the last block's sums; v28-v29 scales; v30-v31 the result
 *
 * "left" counts up to 0: scales and d stand at those of the last block. The first block ends one of
 * zeros times zeros.
 */
static void q4_panel(const int8_t *w, const uint16_t *scales, const int8_t *q, const float *d,
		     size_t blocks, float *y)
{
	int64_t left = -(int64_t)blocks;

	scales += 8 * (blocks - 1);
	d += blocks - 1;
	__asm__ volatile(
		"movi v0.16b, #0\n movi v1.16b, #0\n movi v2.16b, #0\n movi v3.16b, #0\n"
		"movi v4.16b, #0\n movi v5.16b, #0\n movi v6.16b, #0\n movi v7.16b, #0\n"
		"movi v28.16b, #0\n movi v29.16b, #0\n movi v30.16b, #0\n movi v31.16b, #0\n"
		"1:\n"
		/* Loads. */
		"ldp q16, q17, [%[w]]\n"
		"ldp q18, q19, [%[w], #32]\n"
		"ldp q20, q21, [%[w], #64]\n"
		"ldp q22, q23, [%[w], #96]\n"
		"ldp q24, q25, [%[q]]\n"
		"adds %[left], %[left], #1\n"
		"add %[w], %[w], #128\n"
		"add %[q], %[q], #32\n"
		/* Low nibbles up; the last block's sums added in pairs. */
		"addp v0.8h, v0.8h, v1.8h\n"
		"shl v8.16b, v16.16b, #4\n"
		"shl v9.16b, v17.16b, #4\n"
		"addp v1.8h, v2.8h, v3.8h\n"
		"shl v10.16b, v18.16b, #4\n"
		"shl v11.16b, v19.16b, #4\n"
		"addp v2.8h, v4.8h, v5.8h\n"
		"shl v12.16b, v20.16b, #4\n"
		"shl v13.16b, v21.16b, #4\n"
		"addp v3.8h, v6.8h, v7.8h\n"
		"shl v14.16b, v22.16b, #4\n"
		"shl v15.16b, v23.16b, #4\n"
		/* And down, signed. */
		"sshr v8.16b, v8.16b, #4\n"
		"sshr v9.16b, v9.16b, #4\n"
		"sshr v10.16b, v10.16b, #4\n"
		"addp v0.8h, v0.8h, v1.8h\n"
		"sshr v11.16b, v11.16b, #4\n"
		"sshr v12.16b, v12.16b, #4\n"
		"sshr v13.16b, v13.16b, #4\n"
		"addp v1.8h, v2.8h, v3.8h\n"
		"sshr v14.16b, v14.16b, #4\n"
		"sshr v15.16b, v15.16b, #4\n"
		/* First products of 0..15. */
		"smull v2.8h, v10.8b, v24.8b\n"
		"smull v3.8h, v11.8b, v24.8b\n"
		"smull v4.8h, v12.8b, v24.8b\n"
		"addp v26.8h, v0.8h, v1.8h\n"
		"smull v5.8h, v13.8b, v24.8b\n"
		"smull v6.8h, v14.8b, v24.8b\n"
		"smull v7.8h, v15.8b, v24.8b\n"
		"smull v0.8h, v8.8b, v24.8b\n"
		"smull v1.8h, v9.8b, v24.8b\n"
		"sshll2 v27.4s, v26.8h, #0\n"
		"sshll v26.4s, v26.4h, #0\n"
		/* The others of 0..15; the last block's end. */
		"smlal2 v2.8h, v10.16b, v24.16b\n"
		"smlal2 v3.8h, v11.16b, v24.16b\n"
		"smlal2 v4.8h, v12.16b, v24.16b\n"
		"smlal2 v5.8h, v13.16b, v24.16b\n"
		"scvtf v27.4s, v27.4s\n"
		"scvtf v26.4s, v26.4s\n"
		"smlal2 v6.8h, v14.16b, v24.16b\n"
		"smlal2 v7.8h, v15.16b, v24.16b\n"
		"smlal2 v0.8h, v8.16b, v24.16b\n"
		"smlal2 v1.8h, v9.16b, v24.16b\n"
		"sshr v16.16b, v16.16b, #4\n"
		"fmla v31.4s, v27.4s, v29.4s\n"
		"fmla v30.4s, v26.4s, v28.4s\n"
		/* Scales of this block; high nibbles. */
		"ldr q10, [%[scales], %[left], lsl #4]\n"
		"ldr s11, [%[d], %[left], lsl #2]\n"
		"sshr v17.16b, v17.16b, #4\n"
		"sshr v18.16b, v18.16b, #4\n"
		"sshr v19.16b, v19.16b, #4\n"
		"sshr v20.16b, v20.16b, #4\n"
		"sshr v21.16b, v21.16b, #4\n"
		"sshr v22.16b, v22.16b, #4\n"
		"sshr v23.16b, v23.16b, #4\n"
		"fcvtl v28.4s, v10.4h\n"
		"fcvtl2 v29.4s, v10.8h\n"
		/* First products of 16..31. */
		"smlal v0.8h, v16.8b, v25.8b\n"
		"smlal v1.8h, v17.8b, v25.8b\n"
		"smlal v2.8h, v18.8b, v25.8b\n"
		"smlal v3.8h, v19.8b, v25.8b\n"
		"smlal v4.8h, v20.8b, v25.8b\n"
		"smlal v5.8h, v21.8b, v25.8b\n"
		"smlal v6.8h, v22.8b, v25.8b\n"
		"smlal v7.8h, v23.8b, v25.8b\n"
		"fmul v28.4s, v28.4s, v11.s[0]\n"
		"fmul v29.4s, v29.4s, v11.s[0]\n"
		/* The others of 16..31. */
		"smlal2 v0.8h, v16.16b, v25.16b\n"
		"smlal2 v1.8h, v17.16b, v25.16b\n"
		"smlal2 v2.8h, v18.16b, v25.16b\n"
		"smlal2 v3.8h, v19.16b, v25.16b\n"
		"smlal2 v4.8h, v20.16b, v25.16b\n"
		"smlal2 v5.8h, v21.16b, v25.16b\n"
		"smlal2 v6.8h, v22.16b, v25.16b\n"
		"smlal2 v7.8h, v23.16b, v25.16b\n"
		"b.ne 1b\n"
		/* The end of the last block. */
		"addp v0.8h, v0.8h, v1.8h\n"
		"addp v1.8h, v2.8h, v3.8h\n"
		"addp v2.8h, v4.8h, v5.8h\n"
		"addp v3.8h, v6.8h, v7.8h\n"
		"addp v0.8h, v0.8h, v1.8h\n"
		"addp v1.8h, v2.8h, v3.8h\n"
		"addp v26.8h, v0.8h, v1.8h\n"
		"sshll2 v27.4s, v26.8h, #0\n"
		"sshll v26.4s, v26.4h, #0\n"
		"scvtf v27.4s, v27.4s\n"
		"scvtf v26.4s, v26.4s\n"
		"fmla v31.4s, v27.4s, v29.4s\n"
		"fmla v30.4s, v26.4s, v28.4s\n"
		"stp q30, q31, [%[y]]\n"
		: [w] "+&r" (w), [q] "+&r" (q), [left] "+&r" (left)
		: [scales] "r" (scales), [d] "r" (d), [y] "r" (y)
		: "memory", "cc", ALL_VECTORS);
}

/*
 * v0-v3   sums of rows 0..3; v4-v7 of their second 16 k, then sums of rows 4..7, those of the last
 *         block until they are added in pairs
 * v8-v23  two registers of each row; of those that are done with, v8-v11 the sums of the second 16
 *         k of rows 4..7, v12-v13 scales, v14 sums
 * v24-25  activations; v26 d; v27 the last block's sums, v28 f16 scales, v29 the last block's of
 *         rows 4..7; v30-v31 the result
 */
static void q8_panel(const int8_t *w, const uint16_t *scales, const int8_t *q, const float *d,
		     size_t blocks, float *y)
{
	int64_t left = -(int64_t)blocks;

	scales += 8 * (blocks - 1);
	d += blocks - 1;
	__asm__ volatile(
		"movi v4.16b, #0\n movi v5.16b, #0\n movi v6.16b, #0\n movi v7.16b, #0\n"
		"movi v29.16b, #0\n movi v30.16b, #0\n movi v31.16b, #0\n"
		"1:\n"
		/* Loads. */
		"adds %[left], %[left], #1\n"
		"ldp q8, q9, [%[w]]\n"
		"ldp q10, q11, [%[w], #32]\n"
		"ldp q12, q13, [%[w], #64]\n"
		"ldp q14, q15, [%[w], #96]\n"
		"ldp q16, q17, [%[w], #128]\n"
		"ldp q18, q19, [%[w], #160]\n"
		"ldp q20, q21, [%[w], #192]\n"
		"ldp q22, q23, [%[w], #224]\n"
		"ldp q24, q25, [%[q]]\n"
		"ldr q28, [%[scales], %[left], lsl #4]\n"
		"ldr s26, [%[d], %[left], lsl #2]\n"
		"add %[w], %[w], #256\n"
		"add %[q], %[q], #32\n"
		/* First products of rows 0 to 3; the last block's sums of 4 to 7 in pairs. */
		"addp v4.4s, v4.4s, v5.4s\n"
		"addp v5.4s, v6.4s, v7.4s\n"
		"smull v0.8h, v8.8b, v24.8b\n"
		"smull v1.8h, v10.8b, v24.8b\n"
		"smull v2.8h, v12.8b, v24.8b\n"
		"smull v3.8h, v14.8b, v24.8b\n"
		"smull v6.8h, v13.8b, v25.8b\n"
		"smull v7.8h, v15.8b, v25.8b\n"
		"addp v27.4s, v4.4s, v5.4s\n"
		"smull v4.8h, v9.8b, v25.8b\n"
		"smull v5.8h, v11.8b, v25.8b\n"
		/* The others of them. */
		"smlal2 v0.8h, v8.16b, v24.16b\n"
		"smlal2 v1.8h, v10.16b, v24.16b\n"
		"smlal2 v2.8h, v12.16b, v24.16b\n"
		"smlal2 v3.8h, v14.16b, v24.16b\n"
		"scvtf v27.4s, v27.4s\n"
		"smlal2 v6.8h, v13.16b, v25.16b\n"
		"smlal2 v7.8h, v15.16b, v25.16b\n"
		"smlal2 v4.8h, v9.16b, v25.16b\n"
		"smlal2 v5.8h, v11.16b, v25.16b\n"
		/* Their sums; the products of rows 4 to 7, the second 16 k first. */
		"saddlp v0.4s, v0.8h\n"
		"saddlp v1.4s, v1.8h\n"
		"saddlp v2.4s, v2.8h\n"
		"saddlp v3.4s, v3.8h\n"
		"smull v8.8h, v17.8b, v25.8b\n"
		"smull v9.8h, v19.8b, v25.8b\n"
		"smull v10.8h, v21.8b, v25.8b\n"
		"smull v11.8h, v23.8b, v25.8b\n"
		"sadalp v0.4s, v4.8h\n"
		"sadalp v1.4s, v5.8h\n"
		"sadalp v2.4s, v6.8h\n"
		"sadalp v3.4s, v7.8h\n"
		"smull v4.8h, v16.8b, v24.8b\n"
		"smull v5.8h, v18.8b, v24.8b\n"
		"smull v6.8h, v20.8b, v24.8b\n"
		"smull v7.8h, v22.8b, v24.8b\n"
		"smlal2 v8.8h, v17.16b, v25.16b\n"
		"smlal2 v9.8h, v19.16b, v25.16b\n"
		"smlal2 v10.8h, v21.16b, v25.16b\n"
		"smlal2 v11.8h, v23.16b, v25.16b\n"
		"addp v0.4s, v0.4s, v1.4s\n"
		"addp v1.4s, v2.4s, v3.4s\n"
		"smlal2 v4.8h, v16.16b, v24.16b\n"
		"smlal2 v5.8h, v18.16b, v24.16b\n"
		"smlal2 v6.8h, v20.16b, v24.16b\n"
		"smlal2 v7.8h, v22.16b, v24.16b\n"
		/* Scales; the sums of rows 4 to 7. */
		"fcvtl v12.4s, v28.4h\n"
		"addp v14.4s, v0.4s, v1.4s\n"
		"fcvtl2 v13.4s, v28.8h\n"
		"saddlp v4.4s, v4.8h\n"
		"saddlp v5.4s, v5.8h\n"
		"saddlp v6.4s, v6.8h\n"
		"saddlp v7.4s, v7.8h\n"
		"fmul v12.4s, v12.4s, v26.s[0]\n"
		"scvtf v14.4s, v14.4s\n"
		"sadalp v4.4s, v8.8h\n"
		"sadalp v5.4s, v9.8h\n"
		"sadalp v6.4s, v10.8h\n"
		"sadalp v7.4s, v11.8h\n"
		"fmla v31.4s, v27.4s, v29.4s\n"
		"fmla v30.4s, v14.4s, v12.4s\n"
		"fmul v29.4s, v13.4s, v26.s[0]\n"
		"b.ne 1b\n"
		/* The end of the last block. */
		"addp v4.4s, v4.4s, v5.4s\n"
		"addp v5.4s, v6.4s, v7.4s\n"
		"addp v27.4s, v4.4s, v5.4s\n"
		"scvtf v27.4s, v27.4s\n"
		"fmla v31.4s, v27.4s, v29.4s\n"
		"stp q30, q31, [%[y]]\n"
		: [w] "+&r" (w), [q] "+&r" (q), [left] "+&r" (left)
		: [scales] "r" (scales), [d] "r" (d), [y] "r" (y)
		: "memory", "cc", ALL_VECTORS);
}

typedef void panel_fn(const int8_t *w, const uint16_t *scales, const int8_t *q, const float *d,
		      size_t blocks, float *y);

static void walk(const struct unpu_mm_args *a, size_t block_bytes, panel_fn *panel)
{
	size_t blocks = unpu_pad32(a->k) / 32;

	for (uint32_t row = a->row0; row < a->row1; row += 8) {
		size_t at = row / 8 * blocks;

		panel((const int8_t *)a->quants + block_bytes * at,
		      (const uint16_t *)a->scales + 8 * at, a->q, a->d, blocks,
		      a->y + (row - a->row0));
	}
	neon_clear_padding(a);
}

void unpu_mm_q4_r8_k16_a8_neon_inorder(const struct unpu_mm_args *a)
{
	if (a->tokens == 1 && a->k)
		walk(a, 128, q4_panel);
	else
		unpu_mm_q4_r8_k16_a8_neon(a);
}

void unpu_mm_q8_r8_k16_a8_neon_inorder(const struct unpu_mm_args *a)
{
	if (a->tokens == 1 && a->k)
		walk(a, 256, q8_panel);
	else
		unpu_mm_q8_r8_k16_a8_neon(a);
}
