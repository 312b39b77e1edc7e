/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

/* The same forms as in act.c. */
UNPU_INLINE __m512 sigmoid_times(__m512 x, __m512 minus_u)
{
	return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), unpu_exp16(minus_u)));
}

UNPU_INLINE __m512 activate(__m512 x, const enum unpu_act act)
{
	__m512 u;

	switch (act) {
	case UNPU_ACT_SILU:
		return sigmoid_times(x, _mm512_sub_ps(_mm512_setzero_ps(), x));
	case UNPU_ACT_GELU:
		u = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f),
				    _mm512_set1_ps(1));
		u = _mm512_mul_ps(u, _mm512_mul_ps(x, _mm512_set1_ps(-2 * 0.7978845608f)));
		return sigmoid_times(x, u);
	default:	/* the second operand when one is NaN */
		return _mm512_max_ps(_mm512_setzero_ps(), x);
	}
}

UNPU_INLINE void run(const float *gate, const float *up, uint32_t n, float *out,
		     const enum unpu_act act)
{
	for (uint32_t i = 0; i < n; i += 16) {
		__mmask16 mask = n - i >= 16 ? 0xffff : 0xff;
		__m512 v = activate(_mm512_maskz_loadu_ps(mask, gate + i), act);

		if (up)
			v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, up + i));
		_mm512_mask_storeu_ps(out + i, mask, v);
	}
}

void unpu_silu_avx512vnni(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_SILU);
}

void unpu_gelu_avx512vnni(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_GELU);
}

void unpu_relu_avx512vnni(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_RELU);
}
