/* SPDX-License-Identifier: MIT */
/*
 * Attention of one chunk. Up to 4 query heads of a group go together, so that a cell is read once
 * for all of them. Sums: q . k by d % 4, then pairs; p . v and the sum of p in order of cells.
 */
#include <math.h>

#include "runtime/device/cpu/arm/neon.h"

#define HEADS	4

/* Weights of 4 heads side by side: the lanes that a cell of V is multiplied by. */
struct weights {
	float p[UNPU_CHUNK][HEADS];
};

NEON_INLINE float32x4x2_t load8(const void *p, size_t at, int kv_type)
{
	float32x4x2_t f;

	if (kv_type == DRM_UNPU_KV_F32) {
		f.val[0] = vld1q_f32((const float *)p + at);
		f.val[1] = vld1q_f32((const float *)p + at + 4);
	} else {
		float16x8_t h = vreinterpretq_f16_u16(vld1q_u16((const uint16_t *)p + at));

		f.val[0] = vcvt_f32_f16(vget_low_f16(h));
		f.val[1] = vcvt_high_f32_f16(h);
	}
	return f;
}

/* s[h][i] = q[h] . k of 4 cells, cell[i] their places in K. */
NEON_INLINE void dot4(const struct unpu_attn_args *a, const float *q, const size_t cell[4],
		      float32x4_t s[HEADS], int heads, int kv_type)
{
	float32x4_t acc[HEADS][4] = { 0 };

	for (uint32_t d = 0; d < a->head_dim; d += 8) {
		NEON_UNROLL
		for (int i = 0; i < 4; i++) {
			float32x4x2_t k = load8(a->k, cell[i] + d, kv_type);

			NEON_UNROLL
			for (int h = 0; h < heads; h++) {
				const float *qd = q + h * a->ldq + d;

				acc[h][i] = vfmaq_f32(acc[h][i], k.val[0], vld1q_f32(qd));
				acc[h][i] = vfmaq_f32(acc[h][i], k.val[1], vld1q_f32(qd + 4));
			}
		}
	}
	NEON_UNROLL
	for (int h = 0; h < heads; h++)
		s[h] = vpaddq_f32(vpaddq_f32(acc[h][0], acc[h][1]),
				  vpaddq_f32(acc[h][2], acc[h][3]));
}

/* s[h][j] = scale * q[h] . k[j]; -inf from the last cell to the next multiple of 4. */
NEON_INLINE void scores(const struct unpu_attn_args *a, const float *q,
			float s[HEADS][UNPU_CHUNK], int heads, int kv_type)
{
	for (uint32_t j = 0; j < a->cells; j += 4) {
		float32x4_t dot[HEADS];
		size_t cell[4];

		/* Past the end the last cell again: nothing outside K is read. */
		NEON_UNROLL
		for (uint32_t i = 0; i < 4; i++)
			cell[i] = (size_t)(j + i < a->cells ? j + i : a->cells - 1) * a->head_dim;
		dot4(a, q, cell, dot, heads, kv_type);
		NEON_UNROLL
		for (int h = 0; h < heads; h++)
			vst1q_f32(s[h] + j, vmulq_n_f32(dot[h], a->scale));
	}
	for (uint32_t j = a->cells; j % 4; j++)
		for (int h = 0; h < heads; h++)
			s[h][j] = -INFINITY;
}

/* NaN scores are passed over, as in plain C; they show in the sum. */
NEON_INLINE float largest(const float *s, uint32_t cells)
{
	float32x4_t m = vdupq_n_f32(-INFINITY);

	for (uint32_t j = 0; j < cells; j += 4)
		m = vmaxnmq_f32(m, vld1q_f32(s + j));
	return vmaxnmvq_f32(m);
}

NEON_INLINE void softmax(const struct unpu_attn_args *a, float s[HEADS][UNPU_CHUNK],
			 struct weights *w, float *ms, int heads)
{
	float32x4_t sum[HEADS] = { 0 };
	float m[HEADS];

	for (int h = 0; h < heads; h++)
		m[h] = largest(s[h], a->cells);
	for (uint32_t j = 0; j < a->cells; j += 4) {
		float32x4x4_t e = { 0 };

		NEON_UNROLL
		for (int h = 0; h < heads; h++) {
			e.val[h] = neon_exp(vsubq_f32(vld1q_f32(s[h] + j), vdupq_n_f32(m[h])));
			sum[h] = vaddq_f32(sum[h], e.val[h]);
		}
		vst4q_f32(w->p[j], e);
	}
	NEON_UNROLL
	for (int h = 0; h < heads; h++) {
		ms[2 * h] = m[h];
		ms[2 * h + 1] = vaddvq_f32(sum[h]);
	}
}

#define VALUE_STEP(acc, v, p, h, heads, parts)						\
	NEON_UNROLL									\
	for (int i_ = 0; (h) < (heads) && i_ < (parts); i_++)				\
		acc[h][i_] = vfmaq_laneq_f32(acc[h][i_], v[i_], p, h);

/* o[h][d..d + 4 * parts) = sum of p v, parts 2 or 4. */
NEON_INLINE void values(const struct unpu_attn_args *a, const struct weights *w, float *o,
			uint32_t d, int heads, int parts, int kv_type)
{
	float32x4_t acc[HEADS][4] = { 0 };

	for (uint32_t j = 0; j < a->cells; j++) {
		float32x4_t p = vld1q_f32(w->p[j]);
		float32x4_t v[4];

		NEON_UNROLL
		for (int i = 0; i < parts; i += 2) {
			float32x4x2_t f = load8(a->v, (size_t)j * a->head_dim + d + 4 * i,
						kv_type);

			v[i] = f.val[0];
			v[i + 1] = f.val[1];
		}
		VALUE_STEP(acc, v, p, 0, heads, parts)
		VALUE_STEP(acc, v, p, 1, heads, parts)
		VALUE_STEP(acc, v, p, 2, heads, parts)
		VALUE_STEP(acc, v, p, 3, heads, parts)
	}
	NEON_UNROLL
	for (int h = 0; h < heads; h++)
		NEON_UNROLL
		for (int i = 0; i < parts; i++)
			vst1q_f32(o + h * a->ldo + d + 4 * i, acc[h][i]);
}

NEON_INLINE void attn(const struct unpu_attn_args *a, uint32_t head, int heads, int kv_type)
{
	float s[HEADS][UNPU_CHUNK];
	struct weights w;
	float *o = a->o + head * a->ldo;
	uint32_t d = 0;

	scores(a, a->q + head * a->ldq, s, heads, kv_type);
	softmax(a, s, &w, a->ms + 2 * head, heads);
	for (; a->head_dim - d >= 16; d += 16)
		values(a, &w, o, d, heads, 4, kv_type);
	if (d < a->head_dim)
		values(a, &w, o, d, heads, 2, kv_type);
}

/* A function of its own for each count of heads: what depends on it is then constant. */
#define ATTN_TWIN(type, kv_type)							\
	static void type##_1(const struct unpu_attn_args *a, uint32_t head)		\
	{										\
		attn(a, head, 1, kv_type);						\
	}										\
	static void type##_2(const struct unpu_attn_args *a, uint32_t head)		\
	{										\
		attn(a, head, 2, kv_type);						\
	}										\
	static void type##_3(const struct unpu_attn_args *a, uint32_t head)		\
	{										\
		attn(a, head, 3, kv_type);						\
	}										\
	static void type##_4(const struct unpu_attn_args *a, uint32_t head)		\
	{										\
		attn(a, head, 4, kv_type);						\
	}										\
	void unpu_attn_##type##_neon(const struct unpu_attn_args *args)			\
	{										\
		static void (*const fn[HEADS])(const struct unpu_attn_args *, uint32_t) = { \
			type##_1, type##_2, type##_3, type##_4,				\
		};									\
		for (uint32_t h = 0, n; h < args->group; h += n) {			\
			n = args->group - h < HEADS ? args->group - h : HEADS;		\
			fn[n - 1](args, h);						\
		}									\
	}

ATTN_TWIN(f32, DRM_UNPU_KV_F32)
ATTN_TWIN(f16, DRM_UNPU_KV_F16)
