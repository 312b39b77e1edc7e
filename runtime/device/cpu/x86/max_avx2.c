/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/avx2.h"

/* The first NaN, or the first element equal to v; there is one. */
UNPU_INLINE uint32_t find(const float *x, __m256 v, const int nan)
{
	for (uint32_t i = 0;; i += 8) {
		__m256 e = _mm256_loadu_ps(x + i);
		int hits = _mm256_movemask_ps(nan ? _mm256_cmp_ps(e, e, _CMP_UNORD_Q) :
						    _mm256_cmp_ps(e, v, _CMP_EQ_OQ));

		if (hits)
			return i + (uint32_t)__builtin_ctz((unsigned int)hits);
	}
}

void unpu_max_avx2(const float *x, uint32_t n, float *max, uint32_t *at)
{
	__m256 m = _mm256_set1_ps(-INFINITY), nan = _mm256_setzero_ps();

	for (uint32_t i = 0; i < n; i += 8) {
		__m256 v = _mm256_loadu_ps(x + i);

		nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
		m = _mm256_max_ps(v, m);
	}
	*at = _mm256_movemask_ps(nan) ? find(x, m, 1) : find(x, _mm256_set1_ps(unpu_hmax(m)), 0);
	*max = x[*at];
}
