/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/arm/neon.h"

/* x / (1 + e^z); e^z = inf gives -0, the limit, and NaN at x = -inf as in plain C. */
NEON_INLINE float32x4_t over_one_plus_exp(float32x4_t x, float32x4_t z)
{
	return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1), neon_exp(z)));
}

NEON_INLINE float32x4_t silu(float32x4_t x)
{
	return over_one_plus_exp(x, vnegq_f32(x));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), without the cancellation near tanh(u) = -1. */
NEON_INLINE float32x4_t gelu(float32x4_t x)
{
	/* u = sqrt(2 / pi) * x * (1 + 0.044715 * x^2), rounded as in plain C: e^2u magnifies. */
	float32x4_t p = vaddq_f32(vdupq_n_f32(1), vmulq_f32(vmulq_n_f32(x, 0.044715f), x));
	float32x4_t u = vmulq_f32(vmulq_n_f32(x, 0.7978845608f), p);

	return over_one_plus_exp(x, vmulq_n_f32(u, -2));
}

/* NaN and -0 stay as they are. */
NEON_INLINE float32x4_t relu(float32x4_t x)
{
	return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltzq_f32(x)));
}

typedef float32x4_t act_fn(float32x4_t x);

NEON_INLINE void apply(const float *gate, const float *up, uint32_t n, float *out, act_fn *act)
{
	for (uint32_t i = 0; i < n; i += 4) {
		float32x4_t v = act(vld1q_f32(gate + i));

		if (up)
			v = vmulq_f32(v, vld1q_f32(up + i));
		vst1q_f32(out + i, v);
	}
}

void unpu_act_silu_neon(const float *gate, const float *up, uint32_t n, float *out)
{
	apply(gate, up, n, out, silu);
}

void unpu_act_gelu_neon(const float *gate, const float *up, uint32_t n, float *out)
{
	apply(gate, up, n, out, gelu);
}

void unpu_act_relu_neon(const float *gate, const float *up, uint32_t n, float *out)
{
	apply(gate, up, n, out, relu);
}
