/* SPDX-License-Identifier: MIT */
/*
 * Up to two query heads go through a chunk together and share what is loaded of K and V. A score
 * is summed in 8 lanes over head_dim, then by a tree; an output in order of the cells: neither
 * order knows how many heads or cells there are.
 */
#include <math.h>

#include "runtime/device/cpu/x86/avx2.h"
#include "runtime/device/cpu/x86/exp.h"

#define HEADS	2	/* at a time: with four cells, 8 of the 16 registers */
#define CELLS	4	/* scores of one head at a time */

UNPU_INLINE __m256 load_kv(const void *p, uint64_t i, const int half)
{
	if (half)
		return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)p + i)));
	return _mm256_loadu_ps((const float *)p + i);
}

/* Sums of the lanes of four vectors. */
UNPU_INLINE __m128 sum4(const __m256 v[CELLS])
{
	__m256 all = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));

	return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/* Scores of cells j .. j + 3; past the last cell the last one again. */
UNPU_INLINE void scores4(const struct unpu_attn_args *a, const float *q, const uint32_t heads,
			 uint32_t j, float s[HEADS][UNPU_CHUNK], const int half)
{
	const uint32_t n = a->head_dim, last = a->cells - 1;
	__m256 acc[HEADS][CELLS], k[CELLS];
	uint64_t at[CELLS];

	UNPU_UNROLL
	for (uint32_t c = 0; c < CELLS; c++) {
		at[c] = (uint64_t)(j + c < last ? j + c : last) * n;
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			acc[h][c] = _mm256_setzero_ps();
	}
	for (uint32_t i = 0; i < n; i += 8) {
		UNPU_UNROLL
		for (int c = 0; c < CELLS; c++)
			k[c] = load_kv(a->k, at[c] + i, half);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++) {
			__m256 v = _mm256_loadu_ps(q + h * a->ldq + i);

			UNPU_UNROLL
			for (int c = 0; c < CELLS; c++)
				acc[h][c] = _mm256_fmadd_ps(k[c], v, acc[h][c]);
		}
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		_mm_storeu_ps(s[h] + j, _mm_mul_ps(sum4(acc[h]), _mm_set1_ps(a->scale)));
}

/* Turns scores into weights in place. A NaN among them stays in its own weight and in the sum. */
UNPU_INLINE void softmax(float s[UNPU_CHUNK], uint32_t cells, float *ms)
{
	__m256 m = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();

	for (uint32_t j = cells; j % 8; j++)
		s[j] = -INFINITY;
	for (uint32_t j = 0; j < cells; j += 8)
		m = _mm256_max_ps(_mm256_loadu_ps(s + j), m);
	ms[0] = unpu_hmax(m);
	m = _mm256_set1_ps(ms[0]);
	for (uint32_t j = 0; j < cells; j += 8) {
		__m256 v = unpu_weight8(_mm256_sub_ps(_mm256_loadu_ps(s + j), m));

		_mm256_storeu_ps(s + j, v);
		sum = _mm256_add_ps(sum, v);
	}
	ms[1] = unpu_hsum(sum);
}

/* 8 * parts elements of the outputs, from element i on. */
UNPU_INLINE void outputs(const struct unpu_attn_args *a, float *o, const uint32_t heads, uint32_t i,
			 float s[HEADS][UNPU_CHUNK], const int parts, const int half)
{
	__m256 acc[HEADS][4], v[4];

	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			acc[h][p] = _mm256_setzero_ps();
	for (uint32_t j = 0; j < a->cells; j++) {
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			v[p] = load_kv(a->v, (uint64_t)j * a->head_dim + i + 8 * p, half);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			UNPU_UNROLL
			for (int p = 0; p < parts; p++)
				acc[h][p] = _mm256_fmadd_ps(v[p], _mm256_set1_ps(s[h][j]),
							    acc[h][p]);
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			_mm256_storeu_ps(o + h * a->ldo + i + 8 * p, acc[h][p]);
}

UNPU_INLINE void attn_heads(const struct unpu_attn_args *a, uint32_t head, const uint32_t heads,
			    const int half)
{
	float s[HEADS][UNPU_CHUNK], *o = a->o + head * a->ldo;
	uint32_t i = 0;

	for (uint32_t j = 0; j < a->cells; j += CELLS)
		scores4(a, a->q + head * a->ldq, heads, j, s, half);
	for (uint32_t h = 0; h < heads; h++)
		softmax(s[h], a->cells, a->ms + 2 * (head + h));
	for (; a->head_dim - i >= 32; i += 32)
		outputs(a, o, heads, i, s, 4, half);
	for (; i < a->head_dim; i += 8)
		outputs(a, o, heads, i, s, 1, half);
}

UNPU_INLINE void attn(const struct unpu_attn_args *a, const int half)
{
	uint32_t head = 0;

	for (; a->group - head >= 2; head += 2)
		attn_heads(a, head, 2, half);
	if (head < a->group)
		attn_heads(a, head, 1, half);
}

void unpu_attn_f32_avx2(const struct unpu_attn_args *args)
{
	attn(args, 0);
}

void unpu_attn_f16_avx2(const struct unpu_attn_args *args)
{
	attn(args, 1);
}
