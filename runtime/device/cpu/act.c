/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/c.h"

/* An overflow of exp() gives x / inf = -0, the limit; -inf / inf is NaN, and a fault to report. */
static float silu(float x)
{
	return x / (1 + expf(-x));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), without the cancellation near tanh(u) = -1. */
static float gelu(float x)
{
	float u = 0.7978845608f * x * (1 + 0.044715f * x * x);	/* sqrt(2 / pi) */

	return x / (1 + expf(-2 * u));
}

void unpu_silu_c(const float *gate, const float *up, uint32_t n, float *out)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = up ? silu(gate[i]) * up[i] : silu(gate[i]);
}

void unpu_gelu_c(const float *gate, const float *up, uint32_t n, float *out)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = up ? gelu(gate[i]) * up[i] : gelu(gate[i]);
}

/* NaN stays NaN. */
void unpu_relu_c(const float *gate, const float *up, uint32_t n, float *out)
{
	for (uint32_t i = 0; i < n; i++) {
		float v = gate[i] < 0 ? 0 : gate[i];

		out[i] = up ? v * up[i] : v;
	}
}
