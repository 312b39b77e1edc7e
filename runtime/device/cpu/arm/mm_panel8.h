/* SPDX-License-Identifier: MIT */
/* Class a8 over panels of 8 rows: the walk over panels and tokens, and the end of a block. */
#ifndef UNPU_CPU_MM_PANEL8_H
#define UNPU_CPU_MM_PANEL8_H

#include "runtime/device/cpu/arm/neon.h"

/* Panels one after the other against 1 to 4 tokens. */
struct panel8 {
	const int8_t *w;
	const void *scales;
	const int8_t *q;
	const float *d;
	const int32_t *sum;
	size_t blocks;
	uint32_t panels;
	float *y;
	uint64_t ldy;
};
typedef void panel8_fn(const struct panel8 *p);

/*
 * fn[n - 1] takes n tokens. More than it takes go through one panel after the other: a weight comes
 * from memory once.
 */
static inline void panel8_walk(const struct unpu_mm_args *a, size_t block_bytes,
			       panel8_fn *const fn[4])
{
	const struct unpu_layout_info *info = unpu_layout_info(a->layout);
	size_t blocks = unpu_pad32(a->k) / 32;
	size_t scale_bytes = blocks / (info->group / 32) * 8 * info->scales;
	uint32_t panels = (a->row1 - a->row0) / 8, at_once = a->tokens > 4 ? 1 : panels;

	for (uint32_t done = 0; done < panels; done += at_once) {
		size_t panel = a->row0 / 8 + done;
		struct panel8 p = {
			.w = (const int8_t *)a->quants + panel * blocks * block_bytes,
			.scales = (const uint8_t *)a->scales + panel * scale_bytes,
			.q = a->q, .d = a->d, .sum = a->sum,
			.blocks = blocks, .panels = at_once,
			.y = a->y + done * 8, .ldy = a->ldy,
		};

		for (uint32_t left = a->tokens; left > 0;) {
			uint32_t n = left < 4 ? left : 4;

			fn[n - 1](&p);
			p.q += n * 32 * blocks;
			p.d += n * blocks;
			p.sum += n * blocks;
			p.y += n * p.ldy;
			left -= n;
		}
	}
	neon_clear_padding(a);
}

/* The twin `name`: `panel`(p, tokens) as a function of its own for each count of tokens. */
#define PANEL8_TWIN(name, block_bytes, panel)					\
	static void panel##_1(const struct panel8 *p) { panel(p, 1); }		\
	static void panel##_2(const struct panel8 *p) { panel(p, 2); }		\
	static void panel##_3(const struct panel8 *p) { panel(p, 3); }		\
	static void panel##_4(const struct panel8 *p) { panel(p, 4); }		\
	void name(const struct unpu_mm_args *a)					\
	{									\
		static panel8_fn *const fn[4] = {				\
			panel##_1, panel##_2, panel##_3, panel##_4,		\
		};								\
		panel8_walk(a, block_bytes, fn);				\
	}

/*
 * Where a panel function stands; a pointer for each token, as loads step them for nothing. scales
 * is for one f16 scale a row and block: other families walk their records by themselves.
 */
struct panel8_at {
	const int8_t *w;
	const uint16_t *scales;
	const int8_t *q[4];
	const float *d[4];
	const int32_t *sum[4];
};

/* The first block of panel i. */
NEON_INLINE struct panel8_at panel8_begin(const struct panel8 *p, uint32_t i, size_t block_bytes,
					  int tokens)
{
	struct panel8_at at = {
		.w = p->w + i * p->blocks * block_bytes,
		.scales = (const uint16_t *)p->scales + i * p->blocks * 8,
	};

	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		at.q[t] = p->q + t * 32 * p->blocks;
		at.d[t] = p->d + t * p->blocks;
		at.sum[t] = p->sum + t * p->blocks;
	}
	return at;
}

NEON_INLINE void panel8_next(struct panel8_at *at, size_t block_bytes, int tokens)
{
	at->w += block_bytes;
	at->scales += 8;
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		at->q[t] += 32;
		at->d[t]++;
		at->sum[t]++;
	}
}

/* x[t]: the 32 activations of this block of each token. */
NEON_INLINE void panel8_load(const struct panel8_at *at, int8x16_t x[][2], int tokens)
{
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		x[t][0] = vld1q_s8(at->q[t]);
		x[t][1] = vld1q_s8(at->q[t] + 16);
	}
}

/* The f16 scales of 4 rows as f32. */
NEON_INLINE float32x4_t panel8_scales(const uint16_t *scales)
{
	return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(scales)));
}

/*
 * Weights after this are loaded after it: with 3 tokens and more the registers are full, and gcc
 * would load all of a block at its start and spill the sums (0.02 instructions a MAC).
 */
NEON_INLINE void panel8_fence(int tokens)
{
	if (tokens >= 3)
		__asm__ volatile("" ::: "memory");
}

/* acc += isum * (dw * da), rounded as ops.h says. */
NEON_INLINE float32x4_t panel8_add(float32x4_t acc, float32x4_t isum, float32x4_t dw, float da)
{
	return vfmaq_f32(acc, isum, vmulq_n_f32(dw, da));
}

NEON_INLINE void panel8_store(float *y, uint64_t ldy, float32x4_t acc[][2], int tokens)
{
	NEON_UNROLL
	for (int t = 0; t < tokens; t++) {
		vst1q_f32(y + t * ldy, acc[t][0]);
		vst1q_f32(y + t * ldy + 4, acc[t][1]);
	}
}

#endif
