/* SPDX-License-Identifier: MIT */
/*
 * Attention of one chunk. Up to 4 query heads of a group go together, so that a cell is read once
 * for all of them. Sums: q . k by d % 4, then pairs; p . v and the sum of p in order of cells.
 *
 * int8 is multiplied as int16 by q, and by the weights times their scales, both of 16 bits: 32 of a
 * score and 64 cells of an output fit an int32.
 */
#include <float.h>
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

/* ---- int8 --------------------------------------------------------------------------------- */

#define BLOCK	32	/* elements that share a scale */

/* q of 4 heads at 16 bits, padded with zeros, and what 1 of it is. */
struct rounded_q {
	int16_t q[HEADS][256];	/* the largest head_dim */
	float step[HEADS];
};

/* Weights times scales, at 16 bits, side by side as above, and what 1 of them is. */
struct rounded_weights {
	int16_t p[UNPU_CHUNK][HEADS];
	float step[HEADS];
};

/* The factor to 16 bits of numbers up to m, and what 1 is then: NaN when m is not finite. */
NEON_INLINE float round_by(float m, float *step)
{
	*step = m <= FLT_MAX ? m / 32767 : NAN;
	return m < 1e-30f ? 0 : 32767 / m;
}

NEON_INLINE int16x4_t round4(float32x4_t v, float by)
{
	return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(v, by)));
}

NEON_INLINE void round_q(const struct unpu_attn_args *a, const float *q, struct rounded_q *r,
			 int heads)
{
	for (int h = 0; h < heads; h++, q += a->ldq) {
		float32x4_t m = vdupq_n_f32(0);
		float by;

		for (uint32_t d = 0; d < a->head_dim; d += 4)
			m = vmaxq_f32(m, vabsq_f32(vld1q_f32(q + d)));
		by = round_by(vmaxvq_f32(m), &r->step[h]);
		for (uint32_t d = 0; d < a->head_dim; d += 4)
			vst1_s16(r->q[h] + d, round4(vld1q_f32(q + d), by));
		for (uint32_t d = a->head_dim; d % BLOCK; d += 4)
			vst1_s16(r->q[h] + d, vdup_n_s16(0));
	}
}

/* Scales of block b of 4 cells. */
NEON_INLINE float32x4_t scales4(const uint16_t *scales, const size_t cell[4], uint32_t per_cell,
				uint32_t b)
{
	uint16x4_t h = vdup_n_u16(0);

	h = vld1_lane_u16(scales + cell[0] * per_cell + b, h, 0);
	h = vld1_lane_u16(scales + cell[1] * per_cell + b, h, 1);
	h = vld1_lane_u16(scales + cell[2] * per_cell + b, h, 2);
	h = vld1_lane_u16(scales + cell[3] * per_cell + b, h, 3);
	return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

/* Up to 32 int8 of one cell as int16, the rest zeros. */
NEON_INLINE void load_block(const int8_t *k, uint32_t left, int16x8_t out[4])
{
	NEON_UNROLL
	for (uint32_t i = 0; i < 4; i++)
		out[i] = 8 * i < left ? vmovl_s8(vld1_s8(k + 8 * i)) : vdupq_n_s16(0);
}

NEON_INLINE float32x4_t dot_block(const int16x8_t k[4], const int16_t *q)
{
	int32x4_t acc = vdupq_n_s32(0);

	NEON_UNROLL
	for (int i = 0; i < 4; i++) {
		int16x8_t v = vld1q_s16(q + 8 * i);

		acc = vmlal_s16(acc, vget_low_s16(k[i]), vget_low_s16(v));
		acc = vmlal_high_s16(acc, k[i], v);
	}
	return vcvtq_f32_s32(acc);
}

/* One block of 4 cells, added to the scores' sums. */
NEON_INLINE void dot4_block(const struct unpu_attn_args *a, const struct rounded_q *r,
			    const size_t cell[4], uint32_t d, float32x4_t acc[HEADS][4], int heads)
{
	float32x4_t scale = scales4(a->k_scales, cell, unpu_kv_scales(a->head_dim), d / BLOCK);

	NEON_UNROLL
	for (int i = 0; i < 4; i++) {
		int16x8_t k[4];

		load_block((const int8_t *)a->k + cell[i] * a->head_dim + d, a->head_dim - d, k);
		NEON_UNROLL
		for (int h = 0; h < heads; h++)
			acc[h][i] = vfmaq_f32(acc[h][i], dot_block(k, r->q[h] + d),
					      vdupq_n_f32(scale[i]));
	}
}

/* As scores() does. */
NEON_INLINE void scores_int8(const struct unpu_attn_args *a, const float *q,
			     float s[HEADS][UNPU_CHUNK], int heads)
{
	struct rounded_q r;

	round_q(a, q, &r, heads);
	for (uint32_t j = 0; j < a->cells; j += 4) {
		float32x4_t acc[HEADS][4] = { 0 };
		size_t cell[4];

		NEON_UNROLL
		for (uint32_t i = 0; i < 4; i++)
			cell[i] = j + i < a->cells ? j + i : a->cells - 1;
		for (uint32_t d = 0; d < a->head_dim; d += BLOCK)
			dot4_block(a, &r, cell, d, acc, heads);
		NEON_UNROLL
		for (int h = 0; h < heads; h++) {
			float32x4_t sum = vpaddq_f32(vpaddq_f32(acc[h][0], acc[h][1]),
						     vpaddq_f32(acc[h][2], acc[h][3]));

			vst1q_f32(s[h] + j, vmulq_n_f32(sum, a->scale * r.step[h]));
		}
	}
	for (uint32_t j = a->cells; j % 4; j++)
		for (int h = 0; h < heads; h++)
			s[h][j] = -INFINITY;
}

/* Weights times the scales of V of block b. */
NEON_INLINE void round_weights(const struct unpu_attn_args *a, const struct weights *w, uint32_t b,
			       struct rounded_weights *r, int heads)
{
	float32x4_t p[HEADS][UNPU_CHUNK / 4], m[HEADS] = { 0 };
	float by[HEADS];

	for (uint32_t j = 0; j < a->cells; j += 4) {
		float32x4x4_t e = vld4q_f32(w->p[j]);
		float32x4_t scale;
		size_t cell[4];

		NEON_UNROLL
		for (uint32_t i = 0; i < 4; i++)
			cell[i] = j + i < a->cells ? j + i : a->cells - 1;
		scale = scales4(a->v_scales, cell, unpu_kv_scales(a->head_dim), b);
		NEON_UNROLL
		for (int h = 0; h < heads; h++) {
			p[h][j / 4] = vmulq_f32(e.val[h], scale);
			m[h] = vmaxq_f32(m[h], vabsq_f32(p[h][j / 4]));
		}
	}
	for (int h = 0; h < heads; h++)
		by[h] = round_by(vmaxvq_f32(m[h]), &r->step[h]);
	for (uint32_t j = 0; j < a->cells; j += 4) {
		int16x4x4_t e = { 0 };

		NEON_UNROLL
		for (int h = 0; h < heads; h++)
			e.val[h] = round4(p[h][j / 4], by[h]);
		vst4_s16(r->p[j], e);
	}
}

#define VALUE_STEP_INT8(acc, v, p, h, heads, parts)					\
	NEON_UNROLL									\
	for (int i_ = 0; (h) < (heads) && i_ < (parts); i_++)				\
		acc[h][i_] = vmlal_lane_s16(acc[h][i_], v[i_], p, h);

/* As values() does, within one block. */
NEON_INLINE void values_int8(const struct unpu_attn_args *a, const struct rounded_weights *r,
			     float *o, uint32_t d, int heads, int parts)
{
	int32x4_t acc[HEADS][4] = { 0 };

	for (uint32_t j = 0; j < a->cells; j++) {
		const int8_t *from = (const int8_t *)a->v + (size_t)j * a->head_dim + d;
		int16x4_t p = vld1_s16(r->p[j]), v[4];

		NEON_UNROLL
		for (int i = 0; i < parts; i += 2) {
			int16x8_t wide = vmovl_s8(vld1_s8(from + 4 * i));

			v[i] = vget_low_s16(wide);
			v[i + 1] = vget_high_s16(wide);
		}
		VALUE_STEP_INT8(acc, v, p, 0, heads, parts)
		VALUE_STEP_INT8(acc, v, p, 1, heads, parts)
		VALUE_STEP_INT8(acc, v, p, 2, heads, parts)
		VALUE_STEP_INT8(acc, v, p, 3, heads, parts)
	}
	NEON_UNROLL
	for (int h = 0; h < heads; h++)
		NEON_UNROLL
		for (int i = 0; i < parts; i++)
			vst1q_f32(o + h * a->ldo + d + 4 * i,
				  vmulq_n_f32(vcvtq_f32_s32(acc[h][i]), r->step[h]));
}

/* The outputs, block by block. */
NEON_INLINE void outputs_int8(const struct unpu_attn_args *a, const struct weights *w, float *o,
			      int heads)
{
	struct rounded_weights r;

	for (uint32_t d = 0; d < a->head_dim;) {
		if (d % BLOCK == 0)
			round_weights(a, w, d / BLOCK, &r, heads);
		if (a->head_dim - d >= 16) {
			values_int8(a, &r, o, d, heads, 4);
			d += 16;
		} else {
			values_int8(a, &r, o, d, heads, 2);
			d += 8;
		}
	}
}

/* ---- the chunk ---------------------------------------------------------------------------- */

NEON_INLINE void attn(const struct unpu_attn_args *a, uint32_t head, int heads, int kv_type)
{
	float s[HEADS][UNPU_CHUNK];
	struct weights w;
	float *o = a->o + head * a->ldo;
	uint32_t d = 0;

	if (kv_type == DRM_UNPU_KV_INT8) {
		scores_int8(a, a->q + head * a->ldq, s, heads);
		softmax(a, s, &w, a->ms + 2 * head, heads);
		outputs_int8(a, &w, o, heads);
		return;
	}
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
ATTN_TWIN(int8, DRM_UNPU_KV_INT8)
