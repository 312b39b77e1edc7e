/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

/* out = o * w, or out + o * w; head_dim is a multiple of 8. */
UNPU_INLINE void add(const float *o, float w, uint32_t head_dim, const int first, float *out)
{
	for (uint32_t i = 0; i < head_dim; i += 16) {
		__mmask16 mask = head_dim - i >= 16 ? 0xffff : 0xff;
		__m512 v = _mm512_maskz_loadu_ps(mask, o + i);
		__m512 s = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out + i);

		_mm512_mask_storeu_ps(out + i, mask, _mm512_fmadd_ps(v, _mm512_set1_ps(w), s));
	}
}

static void divide(float *out, uint32_t head_dim, float sum)
{
	for (uint32_t i = 0; i < head_dim; i += 16) {
		__mmask16 mask = head_dim - i >= 16 ? 0xffff : 0xff;
		__m512 v = _mm512_maskz_loadu_ps(mask, out + i);

		_mm512_mask_storeu_ps(out + i, mask, _mm512_div_ps(v, _mm512_set1_ps(sum)));
	}
}

void unpu_merge_avx512vnni(const float *o, uint64_t ldo, const float *ms, uint64_t ldms,
			   uint32_t chunks, uint32_t head_dim, float *out)
{
	float m = -INFINITY, sum = 0, w[16] = { 0 };

	for (uint32_t c = 0; c < chunks; c++)
		m = ms[c * ldms] > m ? ms[c * ldms] : m;
	for (uint32_t c = 0; c < chunks; c++) {
		if (c % 16 == 0) {
			for (uint32_t i = 0; i < 16 && c + i < chunks; i++)
				w[i] = ms[(c + i) * ldms] - m;
			_mm512_storeu_ps(w, unpu_exp16(_mm512_loadu_ps(w)));
		}
		sum += ms[c * ldms + 1] * w[c % 16];
		if (c == 0)
			add(o, w[0], head_dim, 1, out);
		else
			add(o + c * ldo, w[c % 16], head_dim, 0, out);
	}
	divide(out, head_dim, sum);
}
