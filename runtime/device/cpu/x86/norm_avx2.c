/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/avx2.h"

/* Eight elements at i, as two times four doubles; past n they are 0. */
struct wide {
	__m256d low, high;
};

UNPU_INLINE struct wide widen(__m256 v)
{
	return (struct wide) {
		_mm256_cvtps_pd(_mm256_castps256_ps128(v)),
		_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)),
	};
}

UNPU_INLINE __m256 load(const float *x, uint32_t i, uint32_t n)
{
	return n - i >= 8 ? _mm256_loadu_ps(x + i) :
			    _mm256_maskload_ps(x + i, unpu_lanes(n - i));
}

static double sum(const float *x, uint32_t n)
{
	struct wide s = { _mm256_setzero_pd(), _mm256_setzero_pd() };

	for (uint32_t i = 0; i < n; i += 8) {
		struct wide v = widen(load(x, i, n));

		s.low = _mm256_add_pd(s.low, v.low);
		s.high = _mm256_add_pd(s.high, v.high);
	}
	return unpu_hsum_pd(_mm256_add_pd(s.low, s.high));
}

UNPU_INLINE struct wide centre(__m256 v, double mean)
{
	struct wide w = widen(v);

	w.low = _mm256_sub_pd(w.low, _mm256_set1_pd(mean));
	w.high = _mm256_sub_pd(w.high, _mm256_set1_pd(mean));
	return w;
}

static double sum_squares(const float *x, uint32_t n, double mean)
{
	struct wide s = { _mm256_setzero_pd(), _mm256_setzero_pd() };
	uint32_t i = 0;
	double tail = 0;

	for (; n - i >= 8; i += 8) {
		struct wide v = centre(_mm256_loadu_ps(x + i), mean);

		s.low = _mm256_fmadd_pd(v.low, v.low, s.low);
		s.high = _mm256_fmadd_pd(v.high, v.high, s.high);
	}
	for (; i < n; i++)
		tail += (x[i] - mean) * (x[i] - mean);
	return unpu_hsum_pd(_mm256_add_pd(s.low, s.high)) + tail;
}

/* Eight at i; past n all is 0. */
UNPU_INLINE __m256 scale8(const float *x, const float *weight, const float *bias, uint32_t i,
			  uint32_t n, double mean, const int centred, float r)
{
	__m256 v = load(x, i, n);

	if (centred) {
		struct wide w = centre(v, mean);

		v = _mm256_set_m128(_mm256_cvtpd_ps(w.high), _mm256_cvtpd_ps(w.low));
	}
	v = _mm256_mul_ps(_mm256_mul_ps(v, _mm256_set1_ps(r)), load(weight, i, n));
	if (bias)
		v = _mm256_add_ps(v, load(bias, i, n));
	return _mm256_and_ps(v, _mm256_castsi256_ps(unpu_lanes(n - i)));
}

UNPU_INLINE void scale(const float *x, const float *weight, const float *bias, uint32_t n,
		       double mean, const int centred, float r, float *y)
{
	uint32_t i = 0;

	for (; i < n; i += 8)
		_mm256_storeu_ps(y + i, scale8(x, weight, bias, i, n, mean, centred, r));
	for (; i < unpu_pad32(n); i += 8)
		_mm256_storeu_ps(y + i, _mm256_setzero_ps());
}

void unpu_rms_norm_avx2(const float *x, const float *weight, const float *bias, uint32_t n,
			float eps, float *y)
{
	float r = (float)(1 / sqrt(sum_squares(x, n, 0) / n + eps));

	scale(x, weight, bias, n, 0, 0, r, y);
}

void unpu_layer_norm_avx2(const float *x, const float *weight, const float *bias, uint32_t n,
			  float eps, float *y)
{
	double mean = sum(x, n) / n;
	float r = (float)(1 / sqrt(sum_squares(x, n, mean) / n + eps));

	scale(x, weight, bias, n, mean, 1, r, y);
}
