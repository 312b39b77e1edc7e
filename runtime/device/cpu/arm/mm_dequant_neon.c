/* SPDX-License-Identifier: MIT */
/* Class f32 over quantised panels: a lane is a k % 4, each weight q * d rounded to f32 first. */
#include "runtime/device/cpu/arm/neon.h"

enum order { Q8_K16, Q8_K4, Q4_K16, Q4_K4 };

/* 4 rows against 1 to 4 tokens. */
struct quad {
	const int8_t *w;
	const uint16_t *scales;
	const float *x;
	uint64_t ldx;
	float *y;
	uint64_t ldy;
};

NEON_INLINE int is_k16(enum order order)
{
	return order == Q8_K16 || order == Q4_K16;
}

/*
 * 16 of the 128 quants of 4 rows and 32 k (w: their first byte). K16: row i / 2, k 16 * (i % 2)
 * on; K4: 4 rows, 4 k from 4 * i on.
 */
NEON_INLINE int8x16_t quants(const int8_t *w, int i, enum order order)
{
	int8x16_t q;

	switch (order) {
	case Q8_K16:
		return vld1q_s8(w + 16 * i);
	case Q8_K4:
		return vld1q_s8(w + 32 * i);
	case Q4_K16:
		q = vld1q_s8(w + 16 * (i / 2));
		return vshrq_n_s8(i % 2 ? q : vshlq_n_s8(q, 4), 4);
	default:
		q = vld1q_s8(w + 32 * (i % 4));
		return vshrq_n_s8(i / 4 ? q : vshlq_n_s8(q, 4), 4);
	}
}

NEON_INLINE void widen(int8x16_t q, float32x4_t f[4])
{
	int16x8_t low = vmovl_s8(vget_low_s8(q)), high = vmovl_high_s8(q);

	f[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
	f[1] = vcvtq_f32_s32(vmovl_high_s16(low));
	f[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
	f[3] = vcvtq_f32_s32(vmovl_high_s16(high));
}

/* acc[t][r] += the block, in order of k in each row. */
NEON_INLINE void block(const int8_t *w, const float d[4], const float *x, uint64_t ldx,
		       float32x4_t acc[4][4], int tokens, enum order order)
{
	NEON_UNROLL
	for (int i = 0; i < 8; i++) {
		float32x4_t f[4];

		widen(quants(w, i, order), f);
		NEON_UNROLL
		for (int j = 0; j < 4; j++) {
			int r = is_k16(order) ? i / 2 : j;
			int k = is_k16(order) ? 16 * (i % 2) + 4 * j : 4 * i;

			f[j] = vmulq_n_f32(f[j], d[r]);
			NEON_UNROLL
			for (int t = 0; t < tokens; t++)
				acc[t][r] = vfmaq_f32(acc[t][r], f[j], vld1q_f32(x + t * ldx + k));
		}
	}
}

NEON_INLINE void quad(const struct quad *p, size_t blocks, int tokens, enum order order)
{
	size_t bytes = order == Q8_K16 || order == Q8_K4 ? 256 : 128;
	float32x4_t acc[4][4] = { 0 };

	for (size_t b = 0; b < blocks; b++) {
		float d[4];

		vst1q_f32(d, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p->scales + 8 * b))));
		block(p->w + b * bytes, d, p->x + 32 * b, p->ldx, acc, tokens, order);
	}
	for (int t = 0; t < tokens; t++) {
		float32x4_t s01 = vpaddq_f32(acc[t][0], acc[t][1]);
		float32x4_t s23 = vpaddq_f32(acc[t][2], acc[t][3]);

		vst1q_f32(p->y + t * p->ldy, vpaddq_f32(s01, s23));
	}
}

NEON_INLINE void walk(const struct unpu_mm_args *a, enum order order)
{
	size_t blocks = unpu_pad32(a->k) / 32;
	size_t row_bytes = order == Q8_K16 || order == Q8_K4 ? 32 : 16;
	/* Bytes from the first row of a panel to its fifth. */
	size_t half = order == Q8_K16 ? 128 : order == Q4_K16 ? 64 : 16;

	for (uint32_t row = a->row0; row < a->row1; row += 4) {
		struct quad p = {
			.w = (const int8_t *)a->quants + row / 8 * 8 * row_bytes * blocks +
			     row / 4 % 2 * half,
			.scales = (const uint16_t *)a->scales + row / 8 * 8 * blocks + row % 8,
			.x = a->x, .ldx = a->ldx,
			.y = a->y + (row - a->row0), .ldy = a->ldy,
		};
		uint32_t t = 0;

		for (; a->tokens - t >= 4; t += 4) {
			quad(&p, blocks, 4, order);
			p.x += 4 * p.ldx;
			p.y += 4 * p.ldy;
		}
		for (; t < a->tokens; t++) {
			quad(&p, blocks, 1, order);
			p.x += p.ldx;
			p.y += p.ldy;
		}
	}
	neon_clear_padding(a);
}

void unpu_mm_q8_r8_k16_neon(const struct unpu_mm_args *a)
{
	walk(a, Q8_K16);
}

void unpu_mm_q8_r8_k4_neon(const struct unpu_mm_args *a)
{
	walk(a, Q8_K4);
}

void unpu_mm_q4_r8_k16_neon(const struct unpu_mm_args *a)
{
	walk(a, Q4_K16);
}

void unpu_mm_q4_r8_k4_neon(const struct unpu_mm_args *a)
{
	walk(a, Q4_K4);
}
