/* SPDX-License-Identifier: MIT */
/* Class a8 without dotprod, the families Q4K, Q6K and Q8A: K in lanes, as in mm_neon.c. */
#include "runtime/device/cpu/arm/mm_k16.h"

#define GROUP	8	/* blocks that share d and dmin */

/* Bytes of scales of a block of 8 rows; on average over a group for Q4K and Q6K. */
#define Q4K_SCALES	20
#define Q6K_SCALES	18
#define Q8A_SCALES	96

NEON_INLINE const uint8_t *record_of(const struct panel8 *p, uint32_t i, size_t scale_bytes)
{
	return (const uint8_t *)p->scales + i * p->blocks * scale_bytes;
}

/* ---- Q4K ---------------------------------------------------------------------------------- */

/* Four rows of a block in pairs of lanes, each of signed nibbles. */
NEON_INLINE void q4k_half(const struct panel8_at *at, int half, int8x16_t x[][2], int16x8_t rows[],
			  int tokens)
{
	const int8_t *w = at->w + 64 * half;
	int16x8_t s01[4], s23[4];

	q4_pair(w, x, s01, tokens);
	q4_pair(w + 32, x, s23, tokens);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		rows[t] = vpaddq_s16(s01[t], s23[t]);
}

/*
 * A block, s += sc * isum * da; sc: 8 of it. isum is the sum of signed nibbles, in int16, and of 8
 * times the sum of x: by8 = 8 * sc <= 2040 and the sum <= 4064 fit int16 as well.
 */
NEON_INLINE void q4k_block(const struct panel8_at *at, const uint8_t *sc, float32x4_t s[][2],
			   int tokens)
{
	int16x8_t by, by8, low[4], high[4];
	int8x16_t x[4][2];
	uint8x8_t bytes;

	panel8_load(at, x, tokens);
	q4k_half(at, 0, x, low, tokens);
	panel8_fence(4);	/* for one token as well: gcc copies sums about otherwise */
	q4k_half(at, 1, x, high, tokens);
	bytes = vld1_u8(sc);
	by = vreinterpretq_s16_u16(vmovl_u8(bytes));
	by8 = vreinterpretq_s16_u16(vshll_n_u8(bytes, 3));
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		int16x8_t row = vpaddq_s16(low[t], high[t]);
		int32x4_t v0 = vmull_n_s16(vget_low_s16(by8), (int16_t)*at->sum[t]);
		int32x4_t v1 = vmull_high_n_s16(by8, (int16_t)*at->sum[t]);

		v0 = vmlal_s16(v0, vget_low_s16(row), vget_low_s16(by));
		v1 = vmlal_high_s16(v1, row, by);
		s[t][0] = vfmaq_n_f32(s[t][0], vcvtq_f32_s32(v0), *at->d[t]);
		s[t][1] = vfmaq_n_f32(s[t][1], vcvtq_f32_s32(v1), *at->d[t]);
	}
}

/* n[t] = the sum over a group of m * da * sum, `at` behind its end; m: of its first block. */
NEON_INLINE void q4k_mins(const struct panel8_at *at, const uint8_t *m, float32x4_t n[][2],
			  int tokens)
{
	float32x4_t by[4][2];

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		NEON_UNROLL
		for (int i = 0; i < 2; i++) {
			int32x4_t sum = vld1q_s32(at->sum[t] - GROUP + 4 * i);

			by[t][i] = vmulq_f32(vld1q_f32(at->d[t] - GROUP + 4 * i),
					     vcvtq_f32_s32(sum));
			n[t][i] = vdupq_n_f32(0);
		}
	}
	NEON_UNROLL
	for (int b = 0; b < GROUP; b++) {
		uint16x8_t wide = vmovl_u8(vld1_u8(m + 16 * b));
		float32x4_t m0 = vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
		float32x4_t m1 = vcvtq_f32_u32(vmovl_high_u16(wide));

		NEON_UNROLL
		for (int t = 0; t < tokens; t++) {
			float v = by[t][b / 4][b % 4];

			n[t][0] = vfmaq_n_f32(n[t][0], m0, v);
			n[t][1] = vfmaq_n_f32(n[t][1], m1, v);
		}
	}
}

NEON_INLINE void q4k_group(struct panel8_at *at, const uint8_t *record, float32x4_t acc[][2],
			   int tokens)
{
	const uint16_t *d = (const uint16_t *)record;
	float32x4_t s[4][2] = { 0 }, n[4][2];

	for (int b = 0; b < GROUP; b++) {
		q4k_block(at, record + 32 + 16 * b, s, tokens);
		panel8_next(at, 128, tokens);
	}
	q4k_mins(at, record + 40, n, tokens);
	NEON_UNROLL
	for (int i = 0; i < 2; i++) {
		float32x4_t d0 = panel8_scales(d + 4 * i), dmin = panel8_scales(d + 8 + 4 * i);

		NEON_UNROLL
		for (int t = 0; t < tokens; t++) {
			acc[t][i] = vfmaq_f32(acc[t][i], d0, s[t][i]);
			acc[t][i] = vfmsq_f32(acc[t][i], dmin, n[t][i]);
		}
	}
}

NEON_INLINE void q4k_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 128, tokens);
		const uint8_t *record = record_of(p, i, Q4K_SCALES);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left -= GROUP) {
			q4k_group(&at, record, acc, tokens);
			record += GROUP * Q4K_SCALES;
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q4k_r8_k16_a8_neon, 128, q4k_panels)

/* ---- Q6K ---------------------------------------------------------------------------------- */

/*
 * One row of a block, its first 16 k in the low half, the others in the high one. Two products of
 * -32..31 and x a lane, then pairs: 4 * 32 * 127 = 16256 in size; pairs of two rows 32512: int16.
 */
NEON_INLINE int16x8_t q6k_dot(int8x16_t low, int8x16_t high, const int8x16_t x[2])
{
	int16x8_t s0 = vmull_s8(vget_low_s8(low), vget_low_s8(x[0]));
	int16x8_t s1 = vmull_s8(vget_low_s8(high), vget_low_s8(x[1]));

	return vpaddq_s16(vmlal_high_s8(s0, low, x[0]), vmlal_high_s8(s1, high, x[1]));
}

/*
 * q - 32 of 32 k of a row, from its nibbles and the byte of high bits, whose upper bit of each two
 * is inverted: six bits of two's complement, brought to the top of a byte and back.
 */
NEON_INLINE void q6k_unpack(uint8x16_t w, uint8x16_t h, int half, int8x16_t out[2])
{
	uint8x16_t low = half ? vbslq_u8(vdupq_n_u8(15), w, h) : vsliq_n_u8(w, h, 4);
	uint8x16_t high = vsriq_n_u8(half ? h : vshlq_n_u8(h, 4), w, 2);

	out[0] = vshrq_n_s8(vreinterpretq_s8_u8(vshlq_n_u8(low, 2)), 2);
	out[1] = vshrq_n_s8(vreinterpretq_s8_u8(high), 2);
}

/* Two rows; the sums of 16 k are in pairs of lanes, low and high of row 0, then of row 1. */
NEON_INLINE void q6k_pair(const uint8_t *w, const uint8_t *h, int half, int8x16_t x[][2],
			  int16x8_t s[], int tokens)
{
	const uint8x16_t flip = vdupq_n_u8(0xaa);
	int8x16_t q0[2], q1[2];

	q6k_unpack(vld1q_u8(w), veorq_u8(vld1q_u8(h), flip), half, q0);
	q6k_unpack(vld1q_u8(w + 16), veorq_u8(vld1q_u8(h + 16), flip), half, q1);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		s[t] = vpaddq_s16(q6k_dot(q0[0], q0[1], x[t]), q6k_dot(q1[0], q1[1], x[t]));
}

/* Four rows of a block; sc: both scales of each. */
NEON_INLINE void q6k_half(const struct panel8_at *at, int half, int16x8_t sc, int8x16_t x[][2],
			  float32x4_t s[][2], int tokens)
{
	const uint8_t *w = (const uint8_t *)at->w + 64 * half, *h = (const uint8_t *)at->w + 128;
	int32x4_t sc01 = vmovl_s16(vget_low_s16(sc)), sc23 = vmovl_high_s16(sc);
	int16x8_t s01[4], s23[4];

	q6k_pair(w, h, half, x, s01, tokens);
	q6k_pair(w + 32, h + 32, half, x, s23, tokens);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		int32x4_t v = vpaddq_s32(vmulq_s32(vpaddlq_s16(s01[t]), sc01),
					 vmulq_s32(vpaddlq_s16(s23[t]), sc23));

		s[t][half] = vfmaq_n_f32(s[t][half], vcvtq_f32_s32(v), *at->d[t]);
	}
}

/* sc: 8 of the first halves, then 8 of the others. */
NEON_INLINE void q6k_block(const struct panel8_at *at, const int8_t *sc, float32x4_t s[][2],
			   int tokens)
{
	int8x8x2_t by = vzip_s8(vld1_s8(sc), vld1_s8(sc + 8));
	int8x16_t x[4][2];

	panel8_load(at, x, tokens);
	q6k_half(at, 0, vmovl_s8(by.val[0]), x, s, tokens);
	panel8_fence(tokens);
	q6k_half(at, 1, vmovl_s8(by.val[1]), x, s, tokens);
}

NEON_INLINE void q6k_group(struct panel8_at *at, const uint8_t *record, float32x4_t acc[][2],
			   int tokens)
{
	float32x4_t s[4][2] = { 0 };

	for (int b = 0; b < GROUP; b++) {
		q6k_block(at, (const int8_t *)record + 16 + 16 * b, s, tokens);
		panel8_next(at, 192, tokens);
	}
	NEON_UNROLL
	for (int i = 0; i < 2; i++) {
		float32x4_t d = panel8_scales((const uint16_t *)record + 4 * i);

		NEON_UNROLL
		for (int t = 0; t < tokens; t++)
			acc[t][i] = vfmaq_f32(acc[t][i], d, s[t][i]);
	}
}

NEON_INLINE void q6k_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 192, tokens);
		const uint8_t *record = record_of(p, i, Q6K_SCALES);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left -= GROUP) {
			q6k_group(&at, record, acc, tokens);
			record += GROUP * Q6K_SCALES;
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q6k_r8_k16_a8_neon, 192, q6k_panels)

/* ---- Q8A ---------------------------------------------------------------------------------- */

/* 16 k of a row. Two products fit int16: 2 * 128 * 127 = 32512. */
NEON_INLINE int32x4_t q8a_dot(int8x16_t w, int8x16_t x)
{
	int16x8_t s = vmull_s8(vget_low_s8(w), vget_low_s8(x));

	return vpaddlq_s16(vmlal_high_s8(s, w, x));
}

/* Two rows: row 0 in the low half of low[t] (the first 16 k) and high[t], row 1 in the high. */
NEON_INLINE void q8a_pair(const int8_t *w, int8x16_t x[][2], int32x4_t low[], int32x4_t high[],
			  int tokens)
{
	int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);
	int8x16_t w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		low[t] = vpaddq_s32(q8a_dot(w0, x[t][0]), q8a_dot(w2, x[t][0]));
		high[t] = vpaddq_s32(q8a_dot(w1, x[t][1]), q8a_dot(w3, x[t][1]));
	}
}

/* Four rows of a block; scales: of the panel's first row. */
NEON_INLINE void q8a_half(const struct panel8_at *at, int half, const float *scales,
			  int8x16_t x[][2], float32x4_t acc[][2], int tokens)
{
	const int8_t *w = at->w + 128 * half;
	float32x4_t s0, s1, o;
	int32x4_t low[4], high[4], low23[4], high23[4];

	q8a_pair(w, x, low, high, tokens);
	q8a_pair(w + 64, x, low23, high23, tokens);
	s0 = vld1q_f32(scales + 4 * half);
	s1 = vld1q_f32(scales + 8 + 4 * half);
	o = vld1q_f32(scales + 16 + 4 * half);
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		float32x4_t lf = vcvtq_f32_s32(vpaddq_s32(low[t], low23[t]));
		float32x4_t hf = vcvtq_f32_s32(vpaddq_s32(high[t], high23[t]));
		float32x4_t v = vfmaq_f32(vmulq_f32(s0, lf), s1, hf);

		v = vfmaq_n_f32(v, o, (float)*at->sum[t]);
		acc[t][half] = vfmaq_n_f32(acc[t][half], v, *at->d[t]);
	}
}

NEON_INLINE void q8a_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 256, tokens);
		const float *scales = (const float *)record_of(p, i, Q8A_SCALES);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--) {
			int8x16_t x[4][2];

			panel8_load(&at, x, tokens);
			q8a_half(&at, 0, scales, x, acc, tokens);
			panel8_fence(tokens);
			q8a_half(&at, 1, scales, x, acc, tokens);
			panel8_next(&at, 256, tokens);
			scales += Q8A_SCALES / sizeof(*scales);
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q8a_r8_k16_a8_neon, 256, q8a_panels)
