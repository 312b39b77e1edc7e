/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/c.h"

/* A NaN in any maximum or sum makes every output NaN. */
void unpu_merge_c(const float *o, uint64_t ldo, const float *ms, uint64_t ldms, uint32_t chunks,
		  uint32_t head_dim, float *out)
{
	float m = ms[0], sum = 0;

	for (uint32_t c = 1; c < chunks; c++)
		m = ms[c * ldms] > m ? ms[c * ldms] : m;
	for (uint32_t i = 0; i < head_dim; i++)
		out[i] = 0;
	for (uint32_t c = 0; c < chunks; c++) {
		float w = expf(ms[c * ldms] - m);

		sum += ms[c * ldms + 1] * w;
		for (uint32_t i = 0; i < head_dim; i++)
			out[i] += o[c * ldo + i] * w;
	}
	for (uint32_t i = 0; i < head_dim; i++)
		out[i] /= sum;
}
