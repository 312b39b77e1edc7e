/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/x86.h"

/* Sixteen elements at i, as two times eight doubles; past n they are 0. */
struct wide {
	__m512d low, high;
};

UNPU_INLINE __mmask16 lanes(uint32_t left)
{
	return left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
}

UNPU_INLINE struct wide load(const float *x, uint32_t i, uint32_t n)
{
	__m512 v = _mm512_maskz_loadu_ps(lanes(n - i), x + i);

	return (struct wide) {
		_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
		_mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)),
	};
}

static double sum(const float *x, uint32_t n)
{
	struct wide s = { _mm512_setzero_pd(), _mm512_setzero_pd() };

	for (uint32_t i = 0; i < n; i += 16) {
		struct wide v = load(x, i, n);

		s.low = _mm512_add_pd(s.low, v.low);
		s.high = _mm512_add_pd(s.high, v.high);
	}
	return _mm512_reduce_add_pd(_mm512_add_pd(s.low, s.high));
}

static double sum_squares(const float *x, uint32_t n, double mean)
{
	struct wide s = { _mm512_setzero_pd(), _mm512_setzero_pd() };
	const __m512d m = _mm512_set1_pd(mean);

	for (uint32_t i = 0; i < n; i += 16) {
		struct wide v = load(x, i, n);
		__mmask16 mask = lanes(n - i);

		v.low = _mm512_maskz_sub_pd((__mmask8)mask, v.low, m);
		v.high = _mm512_maskz_sub_pd((__mmask8)(mask >> 8), v.high, m);
		s.low = _mm512_fmadd_pd(v.low, v.low, s.low);
		s.high = _mm512_fmadd_pd(v.high, v.high, s.high);
	}
	return _mm512_reduce_add_pd(_mm512_add_pd(s.low, s.high));
}

UNPU_INLINE __m512 centre(const float *x, uint32_t i, uint32_t n, double mean)
{
	const __m512d m = _mm512_set1_pd(mean);
	struct wide v = load(x, i, n);

	return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(
		_mm512_sub_pd(v.low, m))), _mm512_cvtpd_ps(_mm512_sub_pd(v.high, m)), 1);
}

/* Groups of 16 up to pad32(n): what lies past n becomes 0. */
UNPU_INLINE void scale(const float *x, const float *weight, const float *bias, uint32_t n,
		       double mean, const int centred, float r, float *y)
{
	for (uint32_t i = 0; i < unpu_pad32(n); i += 16) {
		__mmask16 mask = lanes(n > i ? n - i : 0);
		__m512 v;

		v = centred ? centre(x, i, n > i ? n : i, mean) :
			      _mm512_maskz_loadu_ps(mask, x + i);
		v = _mm512_mul_ps(_mm512_mul_ps(v, _mm512_set1_ps(r)),
				  _mm512_maskz_loadu_ps(mask, weight + i));
		if (bias)
			v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, bias + i));
		_mm512_storeu_ps(y + i, _mm512_maskz_mov_ps(mask, v));
	}
}

void unpu_rms_norm_avx512vnni(const float *x, const float *weight, const float *bias, uint32_t n,
			      float eps, float *y)
{
	float r = (float)(1 / sqrt(sum_squares(x, n, 0) / n + eps));

	scale(x, weight, bias, n, 0, 0, r, y);
}

void unpu_layer_norm_avx512vnni(const float *x, const float *weight, const float *bias, uint32_t n,
				float eps, float *y)
{
	double mean = sum(x, n) / n;
	float r = (float)(1 / sqrt(sum_squares(x, n, mean) / n + eps));

	scale(x, weight, bias, n, mean, 1, r, y);
}
