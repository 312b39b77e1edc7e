/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/arm/neon.h"

/* A NaN in any maximum or sum makes every output NaN. */
void unpu_merge_neon(const float *o, uint64_t ldo, const float *ms, uint64_t ldms, uint32_t chunks,
		     uint32_t head_dim, float *out)
{
	float m = ms[0], sum = 0;

	for (uint32_t c = 1; c < chunks; c++)
		m = ms[c * ldms] > m ? ms[c * ldms] : m;
	memset(out, 0, head_dim * sizeof(*out));
	for (uint32_t c = 0; c < chunks; c++) {
		float w = neon_exp1(ms[c * ldms] - m);

		sum += ms[c * ldms + 1] * w;
		for (uint32_t i = 0; i < head_dim; i += 4)
			vst1q_f32(out + i, vfmaq_n_f32(vld1q_f32(out + i),
						       vld1q_f32(o + c * ldo + i), w));
	}
	for (uint32_t i = 0; i < head_dim; i += 4)
		vst1q_f32(out + i, vdivq_f32(vld1q_f32(out + i), vdupq_n_f32(sum)));
}
