/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/arm/neon.h"

/* Sum of x - mean (power 1) or its square (2), in double as the plain C twin. */
NEON_INLINE double sum(const float *x, uint32_t n, double mean, int power)
{
	float64x2_t m = vdupq_n_f64(mean), s0 = vdupq_n_f64(0), s1 = s0;
	uint32_t i = 0;
	double s;

	for (; i + 4 <= n; i += 4) {
		float32x4_t v = vld1q_f32(x + i);
		float64x2_t a = vsubq_f64(vcvt_f64_f32(vget_low_f32(v)), m);
		float64x2_t b = vsubq_f64(vcvt_high_f64_f32(v), m);

		s0 = power == 1 ? vaddq_f64(s0, a) : vfmaq_f64(s0, a, a);
		s1 = power == 1 ? vaddq_f64(s1, b) : vfmaq_f64(s1, b, b);
	}
	s = vaddvq_f64(vaddq_f64(s0, s1));
	for (; i < n; i++)
		s += power == 1 ? x[i] - mean : (x[i] - mean) * (x[i] - mean);
	return s;
}

NEON_INLINE float32x4_t minus(float32x4_t v, float64x2_t mean)
{
	float64x2_t a = vsubq_f64(vcvt_f64_f32(vget_low_f32(v)), mean);
	float64x2_t b = vsubq_f64(vcvt_high_f64_f32(v), mean);

	return vcvt_high_f32_f64(vcvt_f32_f64(a), b);
}

/* y = (x - mean) * r * weight + bias; y may be x. */
static void scale(const float *x, const float *weight, const float *bias, uint32_t n, double mean,
		  float r, float *y)
{
	float64x2_t m = vdupq_n_f64(mean);
	uint32_t i = 0;

	for (; i + 4 <= n; i += 4) {
		float32x4_t v = minus(vld1q_f32(x + i), m);

		v = vmulq_f32(vmulq_n_f32(v, r), vld1q_f32(weight + i));
		if (bias)
			v = vaddq_f32(v, vld1q_f32(bias + i));
		vst1q_f32(y + i, v);
	}
	for (; i < n; i++)
		y[i] = (float)(x[i] - mean) * r * weight[i] + (bias ? bias[i] : 0);
	memset(y + n, 0, (unpu_pad32(n) - n) * sizeof(*y));
}

void unpu_rms_norm_neon(const float *x, const float *weight, const float *bias, uint32_t n,
			float eps, float *y)
{
	double s = sum(x, n, 0, 2);

	scale(x, weight, bias, n, 0, (float)(1 / sqrt(s / n + eps)), y);
}

void unpu_layer_norm_neon(const float *x, const float *weight, const float *bias, uint32_t n,
			  float eps, float *y)
{
	double mean = sum(x, n, 0, 1) / n;
	double s = sum(x, n, mean, 2);

	scale(x, weight, bias, n, mean, (float)(1 / sqrt(s / n + eps)), y);
}
