/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

/* The same forms as in act.c. */
UNPU_INLINE __m256 sigmoid_times(__m256 x, __m256 minus_u)
{
	return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1), unpu_exp8(minus_u)));
}

UNPU_INLINE __m256 activate(__m256 x, const enum unpu_act act)
{
	__m256 u;

	switch (act) {
	case UNPU_ACT_SILU:
		return sigmoid_times(x, _mm256_sub_ps(_mm256_setzero_ps(), x));
	case UNPU_ACT_GELU:
		u = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f),
				    _mm256_set1_ps(1));
		u = _mm256_mul_ps(u, _mm256_mul_ps(x, _mm256_set1_ps(-2 * 0.7978845608f)));
		return sigmoid_times(x, u);
	default:	/* the second operand when one is NaN */
		return _mm256_max_ps(_mm256_setzero_ps(), x);
	}
}

UNPU_INLINE void run(const float *gate, const float *up, uint32_t n, float *out,
		     const enum unpu_act act)
{
	for (uint32_t i = 0; i < n; i += 8) {
		__m256 v = activate(_mm256_loadu_ps(gate + i), act);

		if (up)
			v = _mm256_mul_ps(v, _mm256_loadu_ps(up + i));
		_mm256_storeu_ps(out + i, v);
	}
}

void unpu_silu_avx2(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_SILU);
}

void unpu_gelu_avx2(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_GELU);
}

void unpu_relu_avx2(const float *gate, const float *up, uint32_t n, float *out)
{
	run(gate, up, n, out, UNPU_ACT_RELU);
}
