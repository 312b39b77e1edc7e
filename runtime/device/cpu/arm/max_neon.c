/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/arm/neon.h"

/* Where x equals m first; a NaN m stands for any NaN. m is there. */
static uint32_t find(const float *x, float m)
{
	uint32_t i = 0;

	for (;; i += 4) {
		float32x4_t v = vld1q_f32(x + i);
		uint32x4_t hit = isnan(m) ? vmvnq_u32(vceqq_f32(v, v))
					  : vceqq_f32(v, vdupq_n_f32(m));

		if (vmaxvq_u32(hit))
			break;
	}
	while (isnan(m) ? !isnan(x[i]) : x[i] != m)
		i++;
	return i;
}

/* FMAX hands NaN on; 0 and -0 are equal to find(), so the first of them wins. */
void unpu_max_neon(const float *x, uint32_t n, float *max, uint32_t *at)
{
	float32x4_t m0 = vld1q_f32(x), m1 = vld1q_f32(x + 4);

	for (uint32_t i = 8; i < n; i += 8) {
		m0 = vmaxq_f32(m0, vld1q_f32(x + i));
		m1 = vmaxq_f32(m1, vld1q_f32(x + i + 4));
	}
	*at = find(x, vmaxvq_f32(vmaxq_f32(m0, m1)));
	*max = x[*at];
}
