/* SPDX-License-Identifier: MIT */
/* Class a8 with sdot (Cortex-A55, A76): a lane is a row, 4 k a step, x by lane. Sums are int32. */
#include "runtime/device/cpu/arm/mm_panel8.h"

/* s[t] += rows 0..3 and 4..7 of 4 k (w0, w1) times x[4 * lane..4 * lane + 4) of each token. */
#define DOT_STEP(s, w0, w1, x, half, lane, tokens)					\
	NEON_UNROLL									\
	for (int t_ = 0; t_ < (tokens); t_++) {						\
		s[t_][0] = vdotq_laneq_s32(s[t_][0], w0, x[t_][half], lane);		\
		s[t_][1] = vdotq_laneq_s32(s[t_][1], w1, x[t_][half], lane);		\
	}

/* acc += the sums of block b, which are 16 times too large if `times16`. */
NEON_INLINE void dot_add(const struct panel8_at *at, int32x4_t s[][2], int times16,
			 float32x4_t acc[][2], int tokens)
{
	for (int i = 0; i < 2; i++) {
		float32x4_t dw = panel8_scales(at->scales + 4 * i);

		NEON_UNROLL
		for (int t = 0; t < tokens; t++) {
			float32x4_t f = times16 ? vcvtq_n_f32_s32(s[t][i], 4)
						: vcvtq_f32_s32(s[t][i]);

			acc[t][i] = panel8_add(acc[t][i], f, dw, *at->d[t]);
		}
	}
}

/*
 * Nibbles times 16: the low ones shifted up, the high ones masked; one shift, as A76 has a single
 * pipe for shifts. A sum of 32 is then 16 * 32 * 8 * 127 = 520192 at most, and exact in f32.
 */
#define Q4_STEP(s, w, x, g, tokens)							\
	do {										\
		int8x16_t w0_ = vld1q_s8((w) + 32 * (g));				\
		int8x16_t w1_ = vld1q_s8((w) + 32 * (g) + 16);				\
		int8x16_t l0_ = vshlq_n_s8(w0_, 4), l1_ = vshlq_n_s8(w1_, 4);		\
		int8x16_t h0_ = vandq_s8(w0_, mask), h1_ = vandq_s8(w1_, mask);		\
		DOT_STEP(s, l0_, l1_, x, 0, g, tokens)					\
		DOT_STEP(s, h0_, h1_, x, 1, g, tokens)					\
	} while (0)

NEON_INLINE void q4_panels(const struct panel8 *p, int tokens)
{
	const int8x16_t mask = vdupq_n_s8((int8_t)0xf0);

	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 128, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--) {
			const int8_t *w = at.w;
			int32x4_t s[4][2] = { 0 };
			int8x16_t x[4][2];

			panel8_load(&at, x, tokens);
			Q4_STEP(s, w, x, 0, tokens);
			Q4_STEP(s, w, x, 1, tokens);
			panel8_fence(tokens);
			Q4_STEP(s, w, x, 2, tokens);
			Q4_STEP(s, w, x, 3, tokens);
			dot_add(&at, s, 1, acc, tokens);
			panel8_next(&at, 128, tokens);
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q4_r8_k4_a8_neon_dotprod, 128, q4_panels)

/* A sum of 32 is 32 * 128 * 127 = 520192 at most. */
#define Q8_STEP(s, w, x, half, lane, tokens)						\
	do {										\
		int8x16_t w0_ = vld1q_s8((w) + 128 * (half) + 32 * (lane));		\
		int8x16_t w1_ = vld1q_s8((w) + 128 * (half) + 32 * (lane) + 16);	\
		DOT_STEP(s, w0_, w1_, x, half, lane, tokens)				\
	} while (0)

NEON_INLINE void q8_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct panel8_at at = panel8_begin(p, i, 256, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--) {
			const int8_t *w = at.w;
			int32x4_t s[4][2] = { 0 };
			int8x16_t x[4][2];

			panel8_load(&at, x, tokens);
			Q8_STEP(s, w, x, 0, 0, tokens);
			Q8_STEP(s, w, x, 0, 1, tokens);
			Q8_STEP(s, w, x, 0, 2, tokens);
			Q8_STEP(s, w, x, 0, 3, tokens);
			panel8_fence(tokens);
			Q8_STEP(s, w, x, 1, 0, tokens);
			Q8_STEP(s, w, x, 1, 1, tokens);
			Q8_STEP(s, w, x, 1, 2, tokens);
			Q8_STEP(s, w, x, 1, 3, tokens);
			dot_add(&at, s, 0, acc, tokens);
			panel8_next(&at, 256, tokens);
		}
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q8_r8_k4_a8_neon_dotprod, 256, q8_panels)
