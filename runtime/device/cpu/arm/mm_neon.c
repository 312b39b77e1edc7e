/* SPDX-License-Identifier: MIT */
/* Class a8 for cores without dotprod (Cortex-A53, A72): K in lanes, int16 sums that stay exact. */
#include "runtime/device/cpu/arm/mm_k16.h"

/* Four rows of block b; acc: one float32x4_t every two per token. */
NEON_INLINE void q4_half(const struct panel8_at *at, int half, int8x16_t x[][2],
			 float32x4_t acc[][2], int tokens)
{
	const int8_t *w = at->w + 64 * half;
	float32x4_t dw = panel8_scales(at->scales + 4 * half);
	int16x8_t s01[4], s23[4];

	q4_pair(w, x, s01, tokens);
	q4_pair(w + 32, x, s23, tokens);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		int32x4_t sum = vpaddlq_s16(vpaddq_s16(s01[t], s23[t]));

		acc[t][half] = panel8_add(acc[t][half], vcvtq_f32_s32(sum), dw,
					  *at->d[t]);
	}
}

NEON_INLINE void q4_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 128, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--) {
			int8x16_t x[4][2];

			panel8_load(&at, x, tokens);
			q4_half(&at, 0, x, acc, tokens);
			panel8_fence(tokens);
			q4_half(&at, 1, x, acc, tokens);
			panel8_next(&at, 128, tokens);
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q4_r8_k16_a8_neon, 128, q4_panels)

/*
 * One row of a block. Two products fit int16: 2 * 128 * 127 = 32512; the third might not, so each
 * pair is widened as it is added.
 */
NEON_INLINE int32x4_t q8_dot(int8x16_t w0, int8x16_t w1, const int8x16_t x[2])
{
	int16x8_t s0 = vmull_s8(vget_low_s8(w0), vget_low_s8(x[0]));
	int16x8_t s1 = vmull_s8(vget_low_s8(w1), vget_low_s8(x[1]));

	s0 = vmlal_high_s8(s0, w0, x[0]);
	s1 = vmlal_high_s8(s1, w1, x[1]);
	return vpadalq_s16(vpaddlq_s16(s0), s1);
}

/* Two rows, added in pairs: row 0 in the low half of s[t], row 1 in the high. */
NEON_INLINE void q8_pair(const int8_t *w, int8x16_t x[][2], int32x4_t s[], int tokens)
{
	int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
	int8x16_t w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);

	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		s[t] = vpaddq_s32(q8_dot(w0, w1, x[t]), q8_dot(w2, w3, x[t]));
}

NEON_INLINE void q8_half(const struct panel8_at *at, int half, int8x16_t x[][2],
			 float32x4_t acc[][2], int tokens)
{
	const int8_t *w = at->w + 128 * half;
	float32x4_t dw = panel8_scales(at->scales + 4 * half);
	int32x4_t s01[4], s23[4];

	q8_pair(w, x, s01, tokens);
	q8_pair(w + 64, x, s23, tokens);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		acc[t][half] = panel8_add(acc[t][half],
					  vcvtq_f32_s32(vpaddq_s32(s01[t], s23[t])), dw,
					  *at->d[t]);
}

NEON_INLINE void q8_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 256, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--) {
			int8x16_t x[4][2];

			panel8_load(&at, x, tokens);
			q8_half(&at, 0, x, acc, tokens);
			panel8_fence(tokens);
			q8_half(&at, 1, x, acc, tokens);
			panel8_next(&at, 256, tokens);
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q8_r8_k16_a8_neon, 256, q8_panels)
