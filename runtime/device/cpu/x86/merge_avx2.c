/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

/* out = o * w, or out + o * w; head_dim is a multiple of 8. */
UNPU_INLINE void add(const float *o, float w, uint32_t head_dim, const int first, float *out)
{
	for (uint32_t i = 0; i < head_dim; i += 8) {
		__m256 s = first ? _mm256_setzero_ps() : _mm256_loadu_ps(out + i);

		s = _mm256_fmadd_ps(_mm256_loadu_ps(o + i), _mm256_set1_ps(w), s);
		_mm256_storeu_ps(out + i, s);
	}
}

void unpu_merge_avx2(const float *o, uint64_t ldo, const float *ms, uint64_t ldms,
		     uint32_t chunks, uint32_t head_dim, float *out)
{
	float m = -INFINITY, sum = 0, w[8] = { 0 };

	for (uint32_t c = 0; c < chunks; c++)
		m = ms[c * ldms] > m ? ms[c * ldms] : m;
	for (uint32_t c = 0; c < chunks; c++) {
		if (c % 8 == 0) {
			for (uint32_t i = 0; i < 8 && c + i < chunks; i++)
				w[i] = ms[(c + i) * ldms] - m;
			_mm256_storeu_ps(w, unpu_exp8(_mm256_loadu_ps(w)));
		}
		sum += ms[c * ldms + 1] * w[c % 8];
		if (c == 0)
			add(o, w[0], head_dim, 1, out);
		else
			add(o + c * ldo, w[c % 8], head_dim, 0, out);
	}
	for (uint32_t i = 0; i < head_dim; i += 8)
		_mm256_storeu_ps(out + i, _mm256_div_ps(_mm256_loadu_ps(out + i),
							_mm256_set1_ps(sum)));
}
