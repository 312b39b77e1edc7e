/* SPDX-License-Identifier: MIT */
/* Rows of signed nibbles in the order of K16 against int8: what Q4_0 and Q4_K have in common. */
#ifndef UNPU_CPU_MM_K16_H
#define UNPU_CPU_MM_K16_H

#include "runtime/device/cpu/arm/mm_panel8.h"

/*
 * One row of a block: low k = 0..15, high k = 16..31. Each of the 8 lanes sums 4 products, a row
 * all 32: the largest sum is 32 * 8 * 127 = 32512 in size, as q is never -128, and so is every part
 * of it: int16 holds it, and the adds across lanes as well.
 */
NEON_INLINE int16x8_t q4_dot(int8x16_t low, int8x16_t high, const int8x16_t x[2])
{
	int16x8_t s = vmull_s8(vget_low_s8(low), vget_low_s8(x[0]));

	s = vmlal_high_s8(s, low, x[0]);
	s = vmlal_s8(s, vget_low_s8(high), vget_low_s8(x[1]));
	return vmlal_high_s8(s, high, x[1]);
}

/* Two rows, added in pairs: row 0 in the low half of s[t], row 1 in the high. */
NEON_INLINE void q4_pair(const int8_t *w, int8x16_t x[][2], int16x8_t s[], int tokens)
{
	int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
	int8x16_t low0 = vshrq_n_s8(vshlq_n_s8(w0, 4), 4), high0 = vshrq_n_s8(w0, 4);
	int8x16_t low1 = vshrq_n_s8(vshlq_n_s8(w1, 4), 4), high1 = vshrq_n_s8(w1, 4);

	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		s[t] = vpaddq_s16(q4_dot(low0, high0, x[t]), q4_dot(low1, high1, x[t]));
}

#endif
