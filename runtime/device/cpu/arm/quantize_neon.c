/* SPDX-License-Identifier: MIT */
#include <float.h>
#include <math.h>

#include "runtime/device/cpu/arm/neon.h"

/* The largest magnitude of 32; NaN when there is one, as FMAX hands NaN on. */
static float largest(const float *x)
{
	float32x4_t m = vabsq_f32(vld1q_f32(x));

	NEON_UNROLL
	for (int i = 4; i < 32; i += 4)
		m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + i)));
	return vmaxvq_f32(m);
}

/* |x * scale| <= 127 but for two roundings, far below 127.5: saturation never happens. */
static int8x16_t round16(const float *x, float scale)
{
	int16x8_t h[2];

	NEON_UNROLL
	for (int i = 0; i < 2; i++) {
		int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * i), scale));
		int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8 * i + 4), scale));

		h[i] = vqmovn_high_s32(vqmovn_s32(a), b);
	}
	return vqmovn_high_s16(vqmovn_s16(h[0]), h[1]);
}

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
	float m = largest(x);

	if (!(m >= 1e-30f) || m > FLT_MAX) {
		memset(q, 0, 32);
		*d = m < 1e-30f ? 0 : NAN;
		*sum = 0;
		return;
	}

	int8x16_t q0 = round16(x, 127 / m), q1 = round16(x + 16, 127 / m);

	vst1q_s8(q, q0);
	vst1q_s8(q + 16, q1);
	*d = m / 127;
	/* 16 lanes of 2 * 127: int16 */
	*sum = vaddvq_s16(vaddq_s16(vpaddlq_s8(q0), vpaddlq_s8(q1)));
}

void unpu_quantize_neon(const float *x, uint32_t k, int8_t *q, float *d, int32_t *sum)
{
	for (uint32_t b = 0; b < k / 32; b++)
		quantize_block(x + 32 * b, q + 32 * b, d + b, sum + b);
}

void unpu_to_f16_neon(const float *x, uint32_t n, uint16_t *out)
{
	for (uint32_t i = 0; i < n; i += 8) {
		float16x4_t low = vcvt_f16_f32(vld1q_f32(x + i));
		float16x8_t h = vcvt_high_f16_f32(low, vld1q_f32(x + i + 4));

		vst1q_u16(out + i, vreinterpretq_u16_f16(h));
	}
}
