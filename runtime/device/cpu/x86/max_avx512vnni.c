/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/x86.h"

/* Past n: what is never larger, nor NaN. */
UNPU_INLINE __m512 load(const float *x, uint32_t i, uint32_t n)
{
	return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), n - i >= 16 ? 0xffff : 0xff, x + i);
}

/* The first NaN, or the first element equal to v; there is one. */
UNPU_INLINE uint32_t find(const float *x, uint32_t n, __m512 v, const int nan)
{
	for (uint32_t i = 0;; i += 16) {
		__m512 e = load(x, i, n);
		__mmask16 hits = nan ? _mm512_cmp_ps_mask(e, e, _CMP_UNORD_Q) :
				       _mm512_cmp_ps_mask(e, v, _CMP_EQ_OQ);

		if (hits)
			return i + (uint32_t)__builtin_ctz(hits);
	}
}

void unpu_max_avx512vnni(const float *x, uint32_t n, float *max, uint32_t *at)
{
	__m512 m = _mm512_set1_ps(-INFINITY);
	__mmask16 nan = 0;

	for (uint32_t i = 0; i < n; i += 16) {
		__m512 v = load(x, i, n);

		nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
		m = _mm512_max_ps(v, m);
	}
	if (nan)
		*at = find(x, n, m, 1);
	else
		*at = find(x, n, _mm512_set1_ps(_mm512_reduce_max_ps(m)), 0);
	*max = x[*at];
}
