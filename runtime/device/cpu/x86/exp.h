/* SPDX-License-Identifier: MIT */
/*
 * exp(x) = 2^n exp(r), n = rint(x / ln 2), |r| <= ln(2) / 2. The polynomial is the least worst of
 * degree 6 by relative error (2^-28) with f32 coefficients, found by reweighted least squares; with
 * its roundings the result is within 2 ulp, denormals included. Infinities give 0 and infinity, NaN
 * stays NaN.
 */
#ifndef UNPU_CPU_X86_EXP_H
#define UNPU_CPU_X86_EXP_H

#include <immintrin.h>

#define EXP_LOG2E	0x1.715476p+0f
#define EXP_LN2_HIGH	0.693359375f		/* 9 bits: its product with n is exact */
#define EXP_LN2_LOW	-0x1.bd0106p-13f
#define EXP_C6		0x1.6a4cb4p-10f
#define EXP_C5		0x1.123986p-7f
#define EXP_C4		0x1.5558b0p-5f
#define EXP_C3		0x1.555492p-3f
#define EXP_C2		0x1.fffffcp-2f
/* Past these it is 0 and infinity. */
#define EXP_LOW		-104.0f
#define EXP_HIGH	89.0f
/*
 * Weights this small beside one of 1 change no sum of f32, and as denormals they and their products
 * would make each instruction that meets them a hundred times slower.
 */
#define EXP_CUT		-70.0f

#ifdef __AVX512F__
static inline __m512 unpu_exp16(__m512 x)
{
	__m512 n, r, p;

	/* min and max give their second operand when one is NaN */
	x = _mm512_min_ps(_mm512_set1_ps(EXP_HIGH), _mm512_max_ps(_mm512_set1_ps(EXP_LOW), x));
	n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(EXP_LOG2E)),
				 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_HIGH), x);
	r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_LN2_LOW), r);
	p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_C6), r, _mm512_set1_ps(EXP_C5));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C4));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C3));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C2));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	return _mm512_scalef_ps(p, n);
}

/* exp of a score less the largest; 0 below EXP_CUT, and NaN stays NaN. */
static inline __m512 unpu_weight16(__m512 x)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_CUT), _CMP_NLT_UQ),
				   unpu_exp16(x));
}
#endif

static inline __m256 unpu_exp8(__m256 x)
{
	__m256i i, half;
	__m256 n, r, p;

	x = _mm256_min_ps(_mm256_set1_ps(EXP_HIGH), _mm256_max_ps(_mm256_set1_ps(EXP_LOW), x));
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(EXP_LOG2E)),
			    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
	p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_C6), r, _mm256_set1_ps(EXP_C5));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C4));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C3));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C2));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
	/* 2^n for n in -150..128 is no float, 2^(n/2) twice is; only the last product rounds */
	i = _mm256_cvtps_epi32(n);
	half = _mm256_srai_epi32(i, 1);
	i = _mm256_sub_epi32(i, half);
	half = _mm256_slli_epi32(_mm256_add_epi32(half, _mm256_set1_epi32(127)), 23);
	i = _mm256_slli_epi32(_mm256_add_epi32(i, _mm256_set1_epi32(127)), 23);
	return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(half)), _mm256_castsi256_ps(i));
}

/* exp of a score less the largest; 0 below EXP_CUT, and NaN stays NaN. */
static inline __m256 unpu_weight8(__m256 x)
{
	return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_set1_ps(EXP_CUT), _CMP_NLT_UQ), unpu_exp8(x));
}

#endif
