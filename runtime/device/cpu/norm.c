/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/c.h"

static void scale(const float *x, const float *weight, const float *bias, uint32_t n, double mean,
		  float r, float *y)
{
	for (uint32_t i = 0; i < n; i++)
		y[i] = (float)(x[i] - mean) * r * weight[i] + (bias ? bias[i] : 0);
	for (uint32_t i = n; i < unpu_pad32(n); i++)
		y[i] = 0;
}

/* Sums are double: the square of a large f32 is no f32, and n rounding errors do not show. */
void unpu_rms_norm_c(const float *x, const float *weight, const float *bias, uint32_t n, float eps,
		     float *y)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	scale(x, weight, bias, n, 0, (float)(1 / sqrt(sum / n + eps)), y);
}

void unpu_layer_norm_c(const float *x, const float *weight, const float *bias, uint32_t n,
		       float eps, float *y)
{
	double mean = 0, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		mean += x[i];
	mean /= n;
	for (uint32_t i = 0; i < n; i++)
		sum += (x[i] - mean) * (x[i] - mean);
	scale(x, weight, bias, n, mean, (float)(1 / sqrt(sum / n + eps)), y);
}
