/* SPDX-License-Identifier: MIT */
/* What several AVX2 twins need. */
#ifndef UNPU_CPU_X86_AVX2_H
#define UNPU_CPU_X86_AVX2_H

#include "runtime/device/cpu/x86/x86.h"

UNPU_INLINE float unpu_hmax(__m256 v)
{
	__m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	m = _mm_max_ps(m, _mm_movehl_ps(m, m));
	return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

UNPU_INLINE float unpu_hsum(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

UNPU_INLINE double unpu_hsum_pd(__m256d v)
{
	__m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));

	return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

/* Lanes below n all ones, for masked loads and stores. */
UNPU_INLINE __m256i unpu_lanes(uint32_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int32_t)n : 8),
				  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

#endif
