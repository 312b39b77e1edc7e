/* SPDX-License-Identifier: MIT */
/* A lane is one of eight rows: what the AVX2 twins of all layouts share. */
#ifndef UNPU_CPU_X86_MM_AVX2_H
#define UNPU_CPU_X86_MM_AVX2_H

#include "runtime/device/cpu/x86/x86.h"

#define ROWS	8

/* Eight rows: where their weights begin, and which of them are rows at all. */
struct strip {
	const uint8_t *quants;
	const uint8_t *scales;
	float *y;		/* of token 0 */
	__m256 live;		/* lanes of all ones: r < rows */
};

/* Bytes of both planes in 32 k of a panel that starts with this row; 0: no scales. */
UNPU_INLINE struct strip strip_at(const struct unpu_mm_args *a, uint32_t row, uint32_t panel,
				  uint32_t quants, uint32_t scales)
{
	const uint64_t blocks = (uint64_t)(row / panel) * (unpu_pad32(a->k) / 32);
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	const int32_t left = a->rows > row ? (int32_t)(a->rows - row) : 0;

	return (struct strip) {
		.quants = (const uint8_t *)a->quants + blocks * quants,
		.scales = scales ? (const uint8_t *)a->scales + blocks * scales : NULL,
		.y = a->y + (row - a->row0),
		.live = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(left), lane)),
	};
}

UNPU_INLINE void store(const struct unpu_mm_args *a, const struct strip *s, uint32_t t, __m256 v)
{
	_mm256_storeu_ps(s->y + t * a->ldy, _mm256_and_ps(v, s->live));
}

UNPU_INLINE __m256i load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

UNPU_INLINE __m256 load_half(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

#endif
