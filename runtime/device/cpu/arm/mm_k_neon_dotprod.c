/* SPDX-License-Identifier: MIT */
/*
 * Class a8 with sdot for the families Q4K, Q6K and Q8A: as mm_neon_dotprod.c, with more scales. All
 * integers fit for any bytes, so the order in which they are summed is free; that of the floats is
 * ops.h's.
 */
#include "runtime/device/cpu/arm/mm_panel8.h"

#define GROUP		8	/* blocks that share a record of Q4K and Q6K */

/* Where a panel function stands. */
struct k_at {
	const int8_t *w;
	const uint8_t *record;
	const int8_t *q[4];
	const float *d[4];
	const int32_t *sum[4];
};

/* The first block of panel i. */
NEON_INLINE struct k_at k_begin(const struct panel8 *p, uint32_t i, size_t block_bytes,
				size_t record_bytes, int tokens)
{
	struct k_at at = {
		.w = p->w + i * p->blocks * block_bytes,
		.record = (const uint8_t *)p->scales + i * record_bytes,
	};

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		at.q[t] = p->q + t * 32 * p->blocks;
		at.d[t] = p->d + t * p->blocks;
		at.sum[t] = p->sum + t * p->blocks;
	}
	return at;
}

NEON_INLINE void k_load(struct k_at *at, int8x16_t x[][2], int tokens)
{
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		x[t][0] = vld1q_s8(at->q[t]);
		x[t][1] = vld1q_s8(at->q[t] + 16);
		at->q[t] += 32;
	}
}

/* What is loaded after this is loaded after it: see panel8_fence(). */
NEON_INLINE void k_fence(void)
{
	__asm__ volatile("" ::: "memory");
}

/* s[t] += 4 rows of 4 k (w) times x[4 * lane..4 * lane + 4) of a half of each token's block. */
#define DOT(s, w, x, half, lane, tokens)						\
	NEON_UNROLL									\
	for (int t_ = 0; t_ < (tokens); t_++)						\
		s[t_] = vdotq_laneq_s32(s[t_], vreinterpretq_s8_u8(w), x[t_][half], lane);

/* ---- Q4K ---------------------------------------------------------------------------------- */

#define Q4K_RECORD	160

/* One look-up puts 4 bytes into 4 lanes; widening is two shifts, with one pipe for them on A76. */
NEON_INLINE uint32x4_t lanes_of(uint8x16_t bytes, int first)
{
	uint64_t at = 0xffffff00ffffff00 | (uint64_t)(first + 1) << 32 | (unsigned int)first;
	uint8x16_t index = vcombine_u8(vcreate_u8(at), vcreate_u8(at + 0x200000002));

	return vreinterpretq_u32_u8(vqtbl1q_u8(bytes, index));
}

/* n[t] += m * (da * sum) of block b of a group, f[t] holding its eight da * sum. */
#define Q4K_MIN(n, f, record, b, tokens)						\
	do {										\
		uint8x16_t m_ = vld1q_u8((record) + 32 + 16 * (b));			\
		float32x4_t m0_ = vcvtq_f32_u32(lanes_of(m_, 8));			\
		float32x4_t m1_ = vcvtq_f32_u32(lanes_of(m_, 12));			\
		NEON_UNROLL								\
		for (int t_ = 0; t_ < (tokens); t_++) {					\
			float32x4_t f_ = f[t_][(b) / 4];				\
			n[t_][0] = vfmaq_laneq_f32(n[t_][0], m0_, f_, (b) % 4);		\
			n[t_][1] = vfmaq_laneq_f32(n[t_][1], m1_, f_, (b) % 4);		\
		}									\
	} while (0)

NEON_INLINE void q4k_mins(struct k_at *at, float32x4_t n[][2], int tokens)
{
	float32x4_t f[4][2];

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		for (int i = 0; i < 2; i++) {
			float32x4_t sum = vcvtq_f32_s32(vld1q_s32(at->sum[t] + 4 * i));

			f[t][i] = vmulq_f32(vld1q_f32(at->d[t] + 4 * i), sum);
		}
		at->sum[t] += GROUP;
	}
	Q4K_MIN(n, f, at->record, 0, tokens);
	Q4K_MIN(n, f, at->record, 1, tokens);
	Q4K_MIN(n, f, at->record, 2, tokens);
	Q4K_MIN(n, f, at->record, 3, tokens);
	Q4K_MIN(n, f, at->record, 4, tokens);
	Q4K_MIN(n, f, at->record, 5, tokens);
	Q4K_MIN(n, f, at->record, 6, tokens);
	Q4K_MIN(n, f, at->record, 7, tokens);
}

#define Q4K_STEP(s0, s1, w, x, g, tokens)						\
	do {										\
		uint8x16_t w0_ = vld1q_u8((w) + 32 * (g));				\
		uint8x16_t w1_ = vld1q_u8((w) + 32 * (g) + 16);				\
		uint8x16_t l0_ = vandq_u8(w0_, mask), h0_ = vshrq_n_u8(w0_, 4);		\
		uint8x16_t l1_ = vandq_u8(w1_, mask), h1_ = vshrq_n_u8(w1_, 4);		\
		DOT(s0, l0_, x, 0, g, tokens)						\
		DOT(s1, l1_, x, 0, g, tokens)						\
		DOT(s0, h0_, x, 1, g, tokens)						\
		DOT(s1, h1_, x, 1, g, tokens)						\
	} while (0)

/* s += the block at hand, whose scales are the first 8 bytes of `scale`. */
NEON_INLINE void q4k_block(struct k_at *at, const uint8_t *scale, float32x4_t s[][2], int tokens)
{
	const uint8_t *w = (const uint8_t *)at->w;
	const uint8x16_t mask = vdupq_n_u8(15);
	int32x4_t s0[4] = { 0 }, s1[4] = { 0 };
	int8x16_t x[4][2];

	k_load(at, x, tokens);
	Q4K_STEP(s0, s1, w, x, 0, tokens);
	Q4K_STEP(s0, s1, w, x, 1, tokens);
	panel8_fence(tokens);
	Q4K_STEP(s0, s1, w, x, 2, tokens);
	Q4K_STEP(s0, s1, w, x, 3, tokens);
	panel8_fence(tokens);
	uint8x16_t scales = vld1q_u8(scale);
	int32x4_t sc0 = vreinterpretq_s32_u32(lanes_of(scales, 0));
	int32x4_t sc1 = vreinterpretq_s32_u32(lanes_of(scales, 4));
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		float da = *at->d[t]++;

		s[t][0] = vfmaq_n_f32(s[t][0], vcvtq_f32_s32(vmulq_s32(s0[t], sc0)), da);
		s[t][1] = vfmaq_n_f32(s[t][1], vcvtq_f32_s32(vmulq_s32(s1[t], sc1)), da);
	}
	at->w += 128;
}

/* Sums of the minima first: they and `acc` wait in memory while the blocks fill the registers. */
NEON_INLINE void q4k_group(struct k_at *at, float32x4_t acc[][2], int tokens)
{
	float32x4_t n[4][2] = { 0 }, s[4][2] = { 0 };
	const uint8_t *record = at->record;

	q4k_mins(at, n, tokens);
	for (int b = 0; b < GROUP; b++)
		q4k_block(at, record + 32 + 16 * b, s, tokens);
	for (int i = 0; i < 2; i++) {
		float32x4_t d = panel8_scales((const uint16_t *)record + 4 * i);
		float32x4_t dmin = panel8_scales((const uint16_t *)record + 8 + 4 * i);

		NEON_UNROLL
		for (int t = 0; t < tokens; t++) {
			acc[t][i] = vfmaq_f32(acc[t][i], d, s[t][i]);
			acc[t][i] = vfmsq_f32(acc[t][i], dmin, n[t][i]);
		}
	}
	at->record += Q4K_RECORD;
}

NEON_INLINE void q4k_panels(const struct panel8 *p, int tokens)
{
	size_t groups = p->blocks / GROUP;

	for (uint32_t i = 0; i < p->panels; i++) {
		struct k_at at = k_begin(p, i, 128, groups * Q4K_RECORD, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = groups; left > 0; left--)
			q4k_group(&at, acc, tokens);
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q4k_r8_k4u_a8_neon_dotprod, 128, q4k_panels)

/* ---- Q6K ---------------------------------------------------------------------------------- */

#define Q6K_RECORD	144

/*
 * Four times (q - 32), which is an int8 with q's highest bit flipped and its six bits at the top:
 * so one flip of a byte of high bits does for four weights, and nothing is subtracted. n and m are
 * the nibble bytes of groups g and g + 2, h their high bits; out: low and high of n, of m.
 */
NEON_INLINE void q6k_weights(const uint8_t *w, int g, int half, uint8x16_t out[4])
{
	const uint8x16_t low = vdupq_n_u8(0x0f), top = vdupq_n_u8(0xfc);
	uint8x16_t n = vld1q_u8(w + 32 * g + 16 * half);
	uint8x16_t m = vld1q_u8(w + 32 * (g + 2) + 16 * half);
	uint8x16_t h = veorq_u8(vld1q_u8(w + 128 + 32 * g + 16 * half), vdupq_n_u8(0xaa));

	out[0] = vsliq_n_u8(vshlq_n_u8(n, 2), h, 6);
	out[1] = vandq_u8(vsriq_n_u8(vshlq_n_u8(h, 4), n, 2), top);
	out[3] = vandq_u8(vsriq_n_u8(h, m, 2), top);
	/* m comes after out[3], so that its register is free for the result. */
	__asm__("" : "+w"(m) : "w"(out[3]));
	out[2] = vshlq_n_u8(vbslq_u8(low, m, h), 2);
}

/* The sums of a block, four rows each. */
struct k_sums {
	int32x4_t low[4], high[4];
};

#define Q6K_STEP(sums, w, x, g, half, tokens)						\
	do {										\
		uint8x16_t w_[4];							\
		q6k_weights(w, g, half, w_);						\
		DOT((sums).low, w_[0], x, 0, g, tokens)					\
		DOT((sums).high, w_[1], x, 1, g, tokens)				\
		DOT((sums).low, w_[2], x, 0, (g) + 2, tokens)				\
		DOT((sums).high, w_[3], x, 1, (g) + 2, tokens)				\
	} while (0)

/*
 * s += (sc0 * low + sc1 * high) * da. The sums are four times too large, 2 * 128 * 4 * 32 * 128 *
 * 16 = 2^26 at most, and exact once divided.
 */
NEON_INLINE void q6k_add(const struct k_at *at, const struct k_sums *sums, int16x4_t sc0,
			 int16x4_t sc1, int half, float32x4_t s[][2], int tokens)
{
	int32x4_t wide0 = vmovl_s16(sc0), wide1 = vmovl_s16(sc1);

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		int32x4_t sum = vmulq_s32(sums->low[t], wide0);

		sum = vmlaq_s32(sum, sums->high[t], wide1);
		s[t][half] = vfmaq_n_f32(s[t][half], vcvtq_n_f32_s32(sum, 2), *at->d[t]);
	}
}

/* Four rows after the other four where the registers hold no more, else both. */
NEON_INLINE void q6k_block(struct k_at *at, const uint8_t *scales, float32x4_t s[][2], int tokens)
{
	const uint8_t *w = (const uint8_t *)at->w;
	struct k_sums sums[2] = { 0 };
	int8x16_t x[4][2], sc;

	k_load(at, x, tokens);
	Q6K_STEP(sums[0], w, x, 0, 0, tokens);
	if (tokens <= 2)
		Q6K_STEP(sums[1], w, x, 0, 1, tokens);
	k_fence();
	Q6K_STEP(sums[0], w, x, 1, 0, tokens);
	if (tokens <= 2)
		Q6K_STEP(sums[1], w, x, 1, 1, tokens);
	k_fence();
	sc = vld1q_s8((const int8_t *)scales);
	int16x8_t sc0 = vmovl_s8(vget_low_s8(sc)), sc1 = vmovl_high_s8(sc);
	q6k_add(at, &sums[0], vget_low_s16(sc0), vget_low_s16(sc1), 0, s, tokens);
	if (tokens > 2) {
		Q6K_STEP(sums[1], w, x, 0, 1, tokens);
		k_fence();
		Q6K_STEP(sums[1], w, x, 1, 1, tokens);
	}
	q6k_add(at, &sums[1], vget_high_s16(sc0), vget_high_s16(sc1), 1, s, tokens);
	at->w += 192;
	NEON_UNROLL
	for (int t = 0; t < tokens; t++)
		at->d[t]++;
}

NEON_INLINE void q6k_group(struct k_at *at, float32x4_t acc[][2], int tokens)
{
	float32x4_t s[4][2] = { 0 };
	const uint8_t *record = at->record;

	for (int b = 0; b < GROUP; b++)
		q6k_block(at, record + 16 + 16 * b, s, tokens);
	for (int i = 0; i < 2; i++) {
		float32x4_t d = panel8_scales((const uint16_t *)record + 4 * i);

		NEON_UNROLL
		for (int t = 0; t < tokens; t++)
			acc[t][i] = vfmaq_f32(acc[t][i], d, s[t][i]);
	}
	at->record += Q6K_RECORD;
}

NEON_INLINE void q6k_panels(const struct panel8 *p, int tokens)
{
	size_t groups = p->blocks / GROUP;

	for (uint32_t i = 0; i < p->panels; i++) {
		struct k_at at = k_begin(p, i, 192, groups * Q6K_RECORD, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = groups; left > 0; left--)
			q6k_group(&at, acc, tokens);
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q6k_r8_k4_a8_neon_dotprod, 192, q6k_panels)

/* ---- Q8A ---------------------------------------------------------------------------------- */

#define Q8A_RECORD	96

#define Q8A_STEP(s, w, x, k_half, lane, half, tokens)					\
	do {										\
		uint8x16_t w_ = vld1q_u8((w) + 128 * (k_half) + 32 * (lane) + 16 * (half)); \
		DOT(s, w_, x, k_half, lane, tokens)					\
	} while (0)

#define Q8A_STEPS(sums, w, x, half, tokens)						\
	do {										\
		Q8A_STEP((sums).low, w, x, 0, 0, half, tokens);				\
		Q8A_STEP((sums).low, w, x, 0, 1, half, tokens);				\
		Q8A_STEP((sums).low, w, x, 0, 2, half, tokens);				\
		Q8A_STEP((sums).low, w, x, 0, 3, half, tokens);				\
		panel8_fence(tokens);							\
		Q8A_STEP((sums).high, w, x, 1, 0, half, tokens);			\
		Q8A_STEP((sums).high, w, x, 1, 1, half, tokens);			\
		Q8A_STEP((sums).high, w, x, 1, 2, half, tokens);			\
		Q8A_STEP((sums).high, w, x, 1, 3, half, tokens);			\
	} while (0)

/* Four rows: acc += (s0 * low + s1 * high + o * sum) * da. */
NEON_INLINE void q8a_add(const struct k_at *at, const struct k_sums *sums, int half,
			 float32x4_t acc[][2], int tokens)
{
	const float *scale = (const float *)at->record + 4 * half;
	float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 8), o = vld1q_f32(scale + 16);

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		float32x4_t v = vmulq_f32(s0, vcvtq_f32_s32(sums->low[t]));

		v = vfmaq_f32(v, s1, vcvtq_f32_s32(sums->high[t]));
		v = vfmaq_n_f32(v, o, (float)*at->sum[t]);
		acc[t][half] = vfmaq_n_f32(acc[t][half], v, *at->d[t]);
	}
}

NEON_INLINE void q8a_block(struct k_at *at, float32x4_t acc[][2], int tokens)
{
	const uint8_t *w = (const uint8_t *)at->w;
	struct k_sums sums[2] = { 0 };
	int8x16_t x[4][2];

	k_load(at, x, tokens);
	Q8A_STEPS(sums[0], w, x, 0, tokens);
	if (tokens > 2)
		q8a_add(at, &sums[0], 0, acc, tokens);
	panel8_fence(tokens);
	Q8A_STEPS(sums[1], w, x, 1, tokens);
	if (tokens <= 2)
		q8a_add(at, &sums[0], 0, acc, tokens);
	q8a_add(at, &sums[1], 1, acc, tokens);
	at->w += 256;
	at->record += Q8A_RECORD;
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		at->d[t]++;
		at->sum[t]++;
	}
}

NEON_INLINE void q8a_panels(const struct panel8 *p, int tokens)
{
	for (uint32_t i = 0; i < p->panels; i++) {
		struct k_at at = k_begin(p, i, 256, p->blocks * Q8A_RECORD, tokens);
		float32x4_t acc[4][2] = { 0 };

		for (size_t left = p->blocks; left > 0; left--)
			q8a_block(&at, acc, tokens);
		panel8_store(p->y + 8 * i, p->ldy, acc, tokens);
	}
}

PANEL8_TWIN(unpu_mm_q8a_r8_k4_a8_neon_dotprod, 256, q8a_panels)
