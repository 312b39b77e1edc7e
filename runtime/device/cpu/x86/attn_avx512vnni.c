/* SPDX-License-Identifier: MIT */
/*
 * Up to four query heads go through a chunk together and share what is loaded of K and V. A score
 * is summed in 16 lanes over head_dim, then by a tree; an output in order of the cells: neither
 * order knows how many heads or cells there are.
 */
#include <math.h>

#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

#define HEADS	4	/* at a time */
#define CELLS	4	/* scores of one head at a time */

/* Elements i .. i + 15 of a vector of K or V, of which the masked are read. */
UNPU_INLINE __m512 load_kv(const void *p, uint64_t i, __mmask16 mask, const int half)
{
	if (half)
		return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i));
	return _mm512_maskz_loadu_ps(mask, (const float *)p + i);
}

/* Sums of the lanes of four vectors. */
UNPU_INLINE __m128 sum4(const __m512 v[CELLS])
{
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
	__m512 all = _mm512_add_ps(
		_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
		_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));

	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* Scores of cells j .. j + 3; past the last cell the last one again. */
UNPU_INLINE void scores4(const struct unpu_attn_args *a, const float *q, const uint32_t heads,
			 uint32_t j, float s[HEADS][UNPU_CHUNK], const int half)
{
	const uint32_t n = a->head_dim, last = a->cells - 1;
	__m512 acc[HEADS][CELLS], k[CELLS];
	uint64_t at[CELLS];

	UNPU_UNROLL
	for (uint32_t c = 0; c < CELLS; c++) {
		at[c] = (uint64_t)(j + c < last ? j + c : last) * n;
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			acc[h][c] = _mm512_setzero_ps();
	}
	for (uint32_t i = 0; i < n; i += 16) {
		__mmask16 mask = n - i >= 16 ? 0xffff : 0xff;

		UNPU_UNROLL
		for (int c = 0; c < CELLS; c++)
			k[c] = load_kv(a->k, at[c] + i, mask, half);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++) {
			__m512 v = _mm512_maskz_loadu_ps(mask, q + h * a->ldq + i);

			UNPU_UNROLL
			for (int c = 0; c < CELLS; c++)
				acc[h][c] = _mm512_fmadd_ps(k[c], v, acc[h][c]);
		}
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		_mm_storeu_ps(s[h] + j, _mm_mul_ps(sum4(acc[h]), _mm_set1_ps(a->scale)));
}

/* Turns scores into weights in place. A NaN among them stays in its own weight and in the sum. */
UNPU_INLINE void softmax(float s[UNPU_CHUNK], uint32_t cells, float *ms)
{
	const __m512 none = _mm512_set1_ps(-INFINITY);
	__m512 m = none, sum = _mm512_setzero_ps();

	for (uint32_t j = 0; j < cells; j += 16) {
		uint32_t left = cells - j;
		__mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
		__m512 v = _mm512_mask_loadu_ps(none, mask, s + j);

		_mm512_storeu_ps(s + j, v);
		m = _mm512_max_ps(v, m);
	}
	ms[0] = _mm512_reduce_max_ps(m);
	m = _mm512_set1_ps(ms[0]);
	for (uint32_t j = 0; j < cells; j += 16) {
		__m512 v = unpu_weight16(_mm512_sub_ps(_mm512_loadu_ps(s + j), m));

		_mm512_storeu_ps(s + j, v);
		sum = _mm512_add_ps(sum, v);
	}
	ms[1] = _mm512_reduce_add_ps(sum);
}

/* 16 * parts elements of the outputs, from element i on. */
UNPU_INLINE void outputs(const struct unpu_attn_args *a, float *o, const uint32_t heads, uint32_t i,
			 float s[HEADS][UNPU_CHUNK], const int parts, __mmask16 mask,
			 const int half)
{
	__m512 acc[HEADS][4], v[4];

	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			acc[h][p] = _mm512_setzero_ps();
	for (uint32_t j = 0; j < a->cells; j++) {
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			v[p] = load_kv(a->v, (uint64_t)j * a->head_dim + i + 16 * p, mask, half);
		UNPU_UNROLL
		for (uint32_t h = 0; h < heads; h++)
			UNPU_UNROLL
			for (int p = 0; p < parts; p++)
				acc[h][p] = _mm512_fmadd_ps(v[p], _mm512_set1_ps(s[h][j]),
							    acc[h][p]);
	}
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		UNPU_UNROLL
		for (int p = 0; p < parts; p++)
			_mm512_mask_storeu_ps(o + h * a->ldo + i + 16 * p, mask, acc[h][p]);
}

UNPU_INLINE void attn_heads(const struct unpu_attn_args *a, uint32_t head, const uint32_t heads,
			    const int half)
{
	float s[HEADS][UNPU_CHUNK], *o = a->o + head * a->ldo;
	uint32_t i = 0;

	for (uint32_t j = 0; j < a->cells; j += CELLS)
		scores4(a, a->q + head * a->ldq, heads, j, s, half);
	UNPU_UNROLL
	for (uint32_t h = 0; h < heads; h++)
		softmax(s[h], a->cells, a->ms + 2 * (head + h));
	for (; a->head_dim - i >= 64; i += 64)
		outputs(a, o, heads, i, s, 4, 0xffff, half);
	for (; i < a->head_dim; i += 16)
		outputs(a, o, heads, i, s, 1, a->head_dim - i >= 16 ? 0xffff : 0xff, half);
}

UNPU_INLINE void attn(const struct unpu_attn_args *a, const int half)
{
	uint32_t head = 0;

	for (; a->group - head >= 4; head += 4)
		attn_heads(a, head, 4, half);
	switch (a->group - head) {
	case 3:
		attn_heads(a, head, 3, half);
		break;
	case 2:
		attn_heads(a, head, 2, half);
		break;
	case 1:
		attn_heads(a, head, 1, half);
		break;
	}
}

void unpu_attn_f32_avx512vnni(const struct unpu_attn_args *args)
{
	attn(args, 0);
}

void unpu_attn_f16_avx512vnni(const struct unpu_attn_args *args)
{
	attn(args, 1);
}
