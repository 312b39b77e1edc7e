/* SPDX-License-Identifier: MIT */
/* A lane is a row of a panel of 16: what the AVX-512 twins of all layouts share. */
#ifndef UNPU_CPU_X86_MM_AVX512VNNI_H
#define UNPU_CPU_X86_MM_AVX512VNNI_H

#include "runtime/device/cpu/x86/x86.h"

/* One panel, and the rows of it that are stored. */
struct panel {
	const uint8_t *quants;
	const uint8_t *scales;
	float *y;		/* row 0 of the panel, token 0; maybe before the buffer */
	__mmask16 stored;	/* row0 <= r < row1 */
	__mmask16 live;		/* r < rows, the others are 0 */
};

/* Lanes below n. */
UNPU_INLINE __mmask16 lanes(uint32_t n)
{
	return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff;
}

/* Bytes of both planes in 32 k of a panel; 0: no scales. */
UNPU_INLINE struct panel panel_at(const struct unpu_mm_args *a, uint32_t row, uint32_t quants,
				  uint32_t scales)
{
	uint64_t blocks = (uint64_t)(row / 16) * (unpu_pad32(a->k) / 32);
	uint32_t first = a->row0 > row ? a->row0 - row : 0;

	return (struct panel) {
		.quants = (const uint8_t *)a->quants + blocks * quants,
		.scales = scales ? (const uint8_t *)a->scales + blocks * scales : NULL,
		.y = a->y + ((int64_t)row - a->row0),
		.stored = lanes(a->row1 - row) & ~lanes(first),
		.live = lanes(a->rows > row ? a->rows - row : 0),
	};
}

UNPU_INLINE void store(const struct unpu_mm_args *a, const struct panel *p, uint32_t t, __m512 v)
{
	_mm512_mask_storeu_ps(p->y + t * a->ldy, p->stored, _mm512_maskz_mov_ps(p->live, v));
}

UNPU_INLINE __m512i load(const uint8_t *p)
{
	return _mm512_loadu_si512(p);
}

UNPU_INLINE __m512 load_half(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

#endif
