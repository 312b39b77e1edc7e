/* SPDX-License-Identifier: MIT */
/*
 * Attention of one chunk in vectors of WIDTH floats, for all types of KV cache. The file of an
 * instruction set includes this once, after WIDTH, HEADS and the few operations on a `vec` that it
 * lists below.
 *
 * Up to HEADS query heads go through a chunk together and share what is loaded of K and V. A score
 * is summed in WIDTH lanes over head_dim, then by a tree; an output in order of the cells: neither
 * order knows how many heads or cells there are.
 *
 * int8: K is multiplied as int16 by q of 16 bits, 32 to an int32 sum that its scale makes a float.
 * The scale of V goes into the cell's weight, once for the 32 that share it.
 */
#ifndef UNPU_CPU_X86_ATTN_H
#define UNPU_CPU_X86_ATTN_H

#include <math.h>

#include "runtime/half.h"
#include "runtime/device/cpu/x86/x86.h"

#define CELLS		4	/* scores of one head at a time */
#define MAX_BLOCKS	8	/* of 32 in the largest head_dim */
#define PARTS		4	/* vectors of one head's output at a time */
#define PART_BLOCKS	(PARTS * WIDTH / 32)

/* `left` elements are valid, 8 or at least WIDTH; what is not is neither read nor written. */
UNPU_INLINE vec vec_load(const float *p, uint32_t left);
UNPU_INLINE vec vec_load_f16(const uint16_t *p, uint32_t left);
UNPU_INLINE vec vec_load_int8(const int8_t *p, uint32_t left);
UNPU_INLINE void vec_store(float *p, vec v, uint32_t left);
UNPU_INLINE vec vec_set1(float v);
UNPU_INLINE vec vec_add(vec a, vec b);
UNPU_INLINE vec vec_sub(vec a, vec b);
UNPU_INLINE vec vec_mul(vec a, vec b);
UNPU_INLINE vec vec_fma(vec a, vec b, vec c);
/* 32 int8 as int16, and their products with 32 int16, summed up to WIDTH sums. */
UNPU_INLINE vec_block vec_block_load(const int8_t *p, uint32_t left);
UNPU_INLINE vec vec_block_dot(const vec_block *k, const int16_t *q);
/* b when a is NaN. */
UNPU_INLINE vec vec_max(vec a, vec b);
/* exp of a score less the largest. */
UNPU_INLINE vec vec_weight(vec v);
UNPU_INLINE float vec_hmax(vec v);
UNPU_INLINE float vec_hsum(vec v);
/* Sums of the lanes of four vectors. */
UNPU_INLINE __m128 vec_sum4(const vec v[4]);

/* What the heads of one call share, and what is worked out for those at hand. */
struct chunk {
	_Alignas(64) float s[HEADS][UNPU_CHUNK];	/* scores, then weights */
	const struct unpu_attn_args *a;
	int16_t q[HEADS][MAX_BLOCKS * 32];	/* of int8, padded with zeros */
	float q_step[HEADS];			/* what 1 of it is */
	float k_scales[MAX_BLOCKS][UNPU_CHUNK], v_scales[MAX_BLOCKS][UNPU_CHUNK];
	float w[PART_BLOCKS][HEADS][UNPU_CHUNK];	/* weights times scales of V */
};

UNPU_INLINE vec load_kv(const void *p, uint64_t i, uint32_t left, const int type)
{
	if (type == DRM_UNPU_KV_INT8)
		return vec_load_int8((const int8_t *)p + i, left);
	if (type == DRM_UNPU_KV_F16)
		return vec_load_f16((const uint16_t *)p + i, left);
	return vec_load((const float *)p + i, left);
}

/* 8 words with two f16 each: the first ones to low, the second ones to high. */
UNPU_INLINE void split_scales(__m256i v, float *low, float *high)
{
	/* the pack works in halves of the vector */
	v = _mm256_packus_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)),
				_mm256_srli_epi32(v, 16));
	v = _mm256_permute4x64_epi64(v, _MM_SHUFFLE(3, 1, 2, 0));
	_mm256_storeu_ps(low, _mm256_cvtph_ps(_mm256_castsi256_si128(v)));
	_mm256_storeu_ps(high, _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}

/* From [cells][S] f16 to [S][cells], in words of two; past the last cell anything finite. */
UNPU_SHARED void load_scales(const struct unpu_attn_args *a, const uint16_t *scales,
			     float out[MAX_BLOCKS][UNPU_CHUNK])
{
	const int words = (int)unpu_kv_scales(a->head_dim) / 2;
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	for (uint32_t j = 0; j < a->cells; j += 8) {
		const int *from = (const int *)scales + (uint64_t)j * words;
		__m256i valid = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(a->cells - j)), lane);
		__m256i at = _mm256_mullo_epi32(lane, _mm256_set1_epi32(words));

		for (int t = 0; t < words; t++)
			split_scales(words == 1 ? _mm256_maskload_epi32(from, valid) :
				     _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), from + t,
								 at, valid, 4),
				     out[2 * t] + j, out[2 * t + 1] + j);
	}
}

/* One head of q to 16 bits; what is not finite makes the step NaN, and with it all scores. */
UNPU_SHARED void round_q(struct chunk *c, const float *q, uint32_t h)
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	const uint32_t n = c->a->head_dim;
	__m256i m = _mm256_setzero_si256();
	uint32_t bits[8], top = 0;
	float largest;
	__m256 inv;

	/* magnitudes order as their bits do, and NaN lies above infinity */
	for (uint32_t i = 0; i < n; i += 8)
		m = _mm256_max_epi32(m, _mm256_and_si256(
			_mm256_loadu_si256((const __m256i *)(q + i)), magnitude));
	_mm256_storeu_si256((__m256i *)bits, m);
	for (int i = 0; i < 8; i++)
		top = bits[i] > top ? bits[i] : top;
	largest = unpu_bits_float(top);
	c->q_step[h] = top < 0x7f800000 ? largest / 32767 : NAN;
	inv = _mm256_set1_ps(largest < 1e-30f ? 0 : 32767 / largest);
	for (uint32_t i = 0; i < n; i += 8) {
		__m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(q + i), inv));

		_mm_storeu_si128((__m128i *)(c->q[h] + i), _mm_packs_epi32(
			_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
	}
	for (uint32_t i = n; i % 32; i += 8)
		_mm_storeu_si128((__m128i *)(c->q[h] + i), _mm_setzero_si128());
}

/* Scores of int8, as below. */
UNPU_INLINE void scores4_int8(struct chunk *c, const uint32_t heads, uint32_t j)
{
	const struct unpu_attn_args *a = c->a;
	const uint32_t n = a->head_dim, last = a->cells - 1;
	vec acc[HEADS][CELLS];
	const int8_t *at[CELLS];

	UNPU_UNROLL
	for (uint32_t e = 0; e < CELLS; e++) {
		at[e] = (const int8_t *)a->k + (uint64_t)(j + e < last ? j + e : last) * n;
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			acc[h][e] = vec_set1(0);
	}
	for (uint32_t i = 0; i < n; i += 32) {
		UNPU_UNROLL
		for (uint32_t e = 0; e < CELLS; e++) {
			vec_block k = vec_block_load(at[e] + i, n - i);
			vec scale = vec_set1(c->k_scales[i / 32][j + e]);

			UNPU_UNROLL
			for (uint32_t h = 0; h < heads; h++)
				acc[h][e] = vec_fma(vec_block_dot(&k, c->q[h] + i), scale,
						    acc[h][e]);
		}
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		_mm_storeu_ps(c->s[h] + j, _mm_mul_ps(vec_sum4(acc[h]),
						      _mm_set1_ps(a->scale * c->q_step[h])));
}

/* Scores of cells j .. j + 3; past the last cell the last one again. */
UNPU_INLINE void scores4(struct chunk *c, const float *q, const uint32_t heads, uint32_t j,
			 const int type)
{
	const struct unpu_attn_args *a = c->a;
	const uint32_t n = a->head_dim, last = a->cells - 1;
	vec acc[HEADS][CELLS], k[CELLS];
	uint64_t at[CELLS];

	UNPU_UNROLL
	for (uint32_t e = 0; e < CELLS; e++) {
		at[e] = (uint64_t)(j + e < last ? j + e : last) * n;
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			acc[h][e] = vec_set1(0);
	}
	for (uint32_t i = 0; i < n; i += WIDTH) {
		UNPU_UNROLL
		for (uint32_t e = 0; e < CELLS; e++)
			k[e] = load_kv(a->k, at[e] + i, n - i, type);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++) {
			vec v = vec_load(q + h * a->ldq + i, n - i);

			UNPU_UNROLL
			for (int e = 0; e < CELLS; e++)
				acc[h][e] = vec_fma(k[e], v, acc[h][e]);
		}
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		_mm_storeu_ps(c->s[h] + j, _mm_mul_ps(vec_sum4(acc[h]), _mm_set1_ps(a->scale)));
}

/* Turns scores into weights in place. A NaN among them stays in its own weight and in the sum. */
UNPU_SHARED void softmax(float s[UNPU_CHUNK], uint32_t cells, float *ms)
{
	vec m = vec_set1(-INFINITY), sum = vec_set1(0);

	for (uint32_t j = cells; j % WIDTH; j++)
		s[j] = -INFINITY;
	for (uint32_t j = 0; j < cells; j += WIDTH)
		m = vec_max(vec_load(s + j, WIDTH), m);
	ms[0] = vec_hmax(m);
	m = vec_set1(ms[0]);
	for (uint32_t j = 0; j < cells; j += WIDTH) {
		vec v = vec_weight(vec_sub(vec_load(s + j, WIDTH), m));

		vec_store(s + j, v, WIDTH);
		sum = vec_add(sum, v);
	}
	ms[1] = vec_hsum(sum);
}

/* The weights of int8 for elements from i on. */
UNPU_INLINE void scale_weights(struct chunk *c, const uint32_t heads, uint32_t i, const int parts)
{
	for (int b = 0; b < (parts * WIDTH + 31) / 32; b++)
		for (uint32_t j = 0; j < c->a->cells; j += WIDTH) {
			vec scale = vec_load(c->v_scales[i / 32 + b] + j, WIDTH);

			UNPU_UNROLL
			for (uint32_t h = 0; h < heads; h++)
				vec_store(c->w[b][h] + j,
					  vec_mul(vec_load(c->s[h] + j, WIDTH), scale), WIDTH);
		}
}

/* WIDTH * parts elements of the outputs, from element i on. */
UNPU_INLINE void outputs(struct chunk *c, float *o, const uint32_t heads, uint32_t i,
			 const int parts, const int type)
{
	const struct unpu_attn_args *a = c->a;
	const uint32_t left = a->head_dim - i;
	vec acc[HEADS][PARTS], v[PARTS];

	if (type == DRM_UNPU_KV_INT8)
		scale_weights(c, heads, i, parts);
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			acc[h][p] = vec_set1(0);
	for (uint32_t j = 0; j < a->cells; j++) {
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			v[p] = load_kv(a->v, (uint64_t)j * a->head_dim + i + WIDTH * p, left, type);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			UNPU_UNROLL
			for (int p = 0; p < parts; p++) {
				const float *w = type == DRM_UNPU_KV_INT8 ?
						 c->w[WIDTH * p / 32][h] : c->s[h];

				acc[h][p] = vec_fma(v[p], vec_set1(w[j]), acc[h][p]);
			}
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			vec_store(o + h * a->ldo + i + WIDTH * p, acc[h][p], left);
}

UNPU_INLINE void attn_heads(struct chunk *c, uint32_t head, const uint32_t heads, const int type)
{
	const struct unpu_attn_args *a = c->a;
	const float *q = a->q + head * a->ldq;
	float *o = a->o + head * a->ldo;
	uint32_t i = 0;

	for (uint32_t h = 0; type == DRM_UNPU_KV_INT8 && h < heads; h++)
		round_q(c, q + h * a->ldq, h);
	for (uint32_t j = 0; j < a->cells; j += CELLS)
		if (type == DRM_UNPU_KV_INT8)
			scores4_int8(c, heads, j);
		else
			scores4(c, q, heads, j, type);
	for (uint32_t h = 0; h < heads; h++)
		softmax(c->s[h], a->cells, a->ms + 2 * (head + h));
	for (; a->head_dim - i >= PARTS * WIDTH; i += PARTS * WIDTH)
		outputs(c, o, heads, i, PARTS, type);
	for (; i < a->head_dim; i += WIDTH)
		outputs(c, o, heads, i, 1, type);
}

UNPU_INLINE void attn(const struct unpu_attn_args *a, const int type)
{
	struct chunk c;
	uint32_t head = 0;

	c.a = a;
	if (type == DRM_UNPU_KV_INT8) {
		load_scales(a, a->k_scales, c.k_scales);
		load_scales(a, a->v_scales, c.v_scales);
	}
	for (; a->group - head >= HEADS; head += HEADS)
		attn_heads(&c, head, HEADS, type);
	switch (a->group - head) {
#if HEADS > 2
	case 3:
		attn_heads(&c, head, 3, type);
		break;
	case 2:
		attn_heads(&c, head, 2, type);
		break;
#endif
	case 1:
		attn_heads(&c, head, 1, type);
		break;
	}
}

#endif
