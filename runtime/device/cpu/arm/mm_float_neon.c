/* SPDX-License-Identifier: MIT */
/* Class f32 over float panels: a lane is a row, one sum for each k % 4. */
#include "runtime/device/cpu/arm/neon.h"

enum weight { WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16 };

/* k of one turn of the tile: 128 * 16 rows * 4 bytes = 8 KiB stay in the smallest L1. */
#define SLICE	128u

NEON_INLINE size_t weight_bytes(enum weight type)
{
	return type == WEIGHT_F32 ? 4 : 2;
}

NEON_INLINE float32x4_t load4(const uint8_t *w, enum weight type)
{
	if (type == WEIGHT_F32)
		return vreinterpretq_f32_u8(vld1q_u8(w));

	uint16x4_t h = vreinterpret_u16_u8(vld1_u8(w));

	if (type == WEIGHT_F16)
		return vcvt_f32_f16(vreinterpret_f16_u16(h));
	return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* 8 rows of a k; one load where the type is narrow. */
NEON_INLINE float32x4x2_t load8(const uint8_t *w, enum weight type)
{
	float32x4x2_t f;

	if (type == WEIGHT_F32) {
		f.val[0] = load4(w, type);
		f.val[1] = load4(w + 16, type);
		return f;
	}

	uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8(w));

	if (type == WEIGHT_F16) {
		f.val[0] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h)));
		f.val[1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(h));
	} else {
		f.val[0] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16));
		f.val[1] = vreinterpretq_f32_u32(vshll_high_n_u16(h, 16));
	}
	return f;
}

NEON_INLINE float32x4_t sum4(const float32x4_t s[4])
{
	return vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3]));
}

/* s[..][lane] += the weights of one k times x[lane]. */
#define VECTOR_STEP(s, w, x, lane, halves, type)					\
	NEON_UNROLL									\
	for (int h_ = 0; h_ < (halves); h_++) {						\
		float32x4x2_t w_ = load8((w) + 8 * h_ * weight_bytes(type), type);	\
		s[2 * h_][lane] = vfmaq_laneq_f32(s[2 * h_][lane], w_.val[0], x, lane);	\
		s[2 * h_ + 1][lane] =							\
			vfmaq_laneq_f32(s[2 * h_ + 1][lane], w_.val[1], x, lane);	\
	}

/* 8 rows (halves 1) or 16 of a panel, one token. */
NEON_INLINE void vector(const uint8_t *w, const float *x, size_t k, float *y, int halves,
			enum weight type)
{
	size_t step = 16 * weight_bytes(type);
	float32x4_t s[4][4] = { 0 };

	for (; k > 0; k -= 4, w += 4 * step, x += 4) {
		float32x4_t x4 = vld1q_f32(x);

		VECTOR_STEP(s, w, x4, 0, halves, type)
		VECTOR_STEP(s, w + step, x4, 1, halves, type)
		VECTOR_STEP(s, w + 2 * step, x4, 2, halves, type)
		VECTOR_STEP(s, w + 3 * step, x4, 3, halves, type)
	}
	NEON_UNROLL
	for (int v = 0; v < 2 * halves; v++)
		vst1q_f32(y + 4 * v, sum4(s[v]));
}

#define TILE_STEP(s, w, x, lane, tokens, type)						\
	do {										\
		float32x4_t w_ = load4(w, type);					\
		NEON_UNROLL								\
		for (int t_ = 0; t_ < (tokens); t_++)					\
			s[t_][lane] = vfmaq_laneq_f32(s[t_][lane], w_, x[t_], lane);	\
	} while (0)

/* sum[t] += 4 rows of a panel times a slice of k, 2 to 4 tokens. */
NEON_INLINE void tile(const uint8_t *w, const float *x, uint64_t ldx, size_t k,
		      float32x4_t sum[4][4], int tokens, enum weight type)
{
	size_t step = 16 * weight_bytes(type);
	const float *at[4];
	float32x4_t s[4][4];

	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		at[t] = x + t * ldx;
	memcpy(s, sum, sizeof(s));
	for (; k > 0; k -= 4, w += 4 * step) {
		float32x4_t x4[4];

		NEON_UNROLL
		for (int t = 0; t < tokens; t++) {
			x4[t] = vld1q_f32(at[t]);
			at[t] += 4;
		}
		TILE_STEP(s, w, x4, 0, tokens, type);
		TILE_STEP(s, w + step, x4, 1, tokens, type);
		TILE_STEP(s, w + 2 * step, x4, 2, tokens, type);
		TILE_STEP(s, w + 3 * step, x4, 3, tokens, type);
	}
	memcpy(sum, s, sizeof(s));
}

/* `rows` (8 or 16) of a panel; slice by slice, so that the tokens meet it in L1. */
NEON_INLINE void panel(const struct unpu_mm_args *a, const uint8_t *w, uint32_t rows,
		       const float *x, float *y, int tokens, enum weight type)
{
	uint32_t k = unpu_pad32(a->k);
	float32x4_t sum[4][4][4] = { 0 };

	for (uint32_t k0 = 0; k0 < k; k0 += SLICE) {
		uint32_t n = k - k0 < SLICE ? k - k0 : SLICE;

		for (uint32_t g = 0; g < rows / 4; g++)
			tile(w + (16 * (size_t)k0 + 4 * g) * weight_bytes(type), x + k0, a->ldx, n,
			     sum[g], tokens, type);
	}
	for (uint32_t g = 0; g < rows / 4; g++)
		for (int t = 0; t < tokens; t++)
			vst1q_f32(y + t * a->ldy + 4 * g, sum4(sum[g][t]));
}

NEON_INLINE void panel_tokens(const struct unpu_mm_args *a, const uint8_t *w, uint32_t rows,
			      float *y, enum weight type)
{
	uint32_t k = unpu_pad32(a->k), t = 0;

	for (; a->tokens - t >= 4; t += 4)
		panel(a, w, rows, a->x + t * a->ldx, y + t * a->ldy, 4, type);
	for (; a->tokens - t >= 2; t += 2)
		panel(a, w, rows, a->x + t * a->ldx, y + t * a->ldy, 2, type);
	if (t == a->tokens)
		return;
	if (rows == 16)
		vector(w, a->x + t * a->ldx, k, y + t * a->ldy, 2, type);
	else
		vector(w, a->x + t * a->ldx, k, y + t * a->ldy, 1, type);
}

/* A range may begin and end in the middle of a panel. */
NEON_INLINE void walk(const struct unpu_mm_args *a, enum weight type)
{
	size_t row_bytes = unpu_pad32(a->k) * weight_bytes(type);

	for (uint32_t row = a->row0, n; row < a->row1; row += n) {
		const uint8_t *w = (const uint8_t *)a->quants + row / 16 * 16 * row_bytes +
				   row % 16 * weight_bytes(type);

		n = row % 16 || a->row1 - row < 16 ? 8 : 16;
		panel_tokens(a, w, n, a->y + (row - a->row0), type);
	}
	neon_clear_padding(a);
}

void unpu_mm_f32_r16_neon(const struct unpu_mm_args *a)
{
	walk(a, WEIGHT_F32);
}

void unpu_mm_f16_r16_neon(const struct unpu_mm_args *a)
{
	walk(a, WEIGHT_F16);
}

void unpu_mm_bf16_r16_neon(const struct unpu_mm_args *a)
{
	walk(a, WEIGHT_BF16);
}
