/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/half.h"
#include "runtime/device/cpu/x86/x86.h"

static void quantize_block(const float *x, int8_t *q, float *d, int32_t *sum)
{
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	__m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
	__m512i q0, q1;
	uint32_t top;
	__m512 inv;
	float m;

	/* magnitudes order as their bits do, and NaN lies above infinity */
	top = _mm512_reduce_max_epu32(_mm512_max_epu32(
		_mm512_and_si512(_mm512_castps_si512(x0), magnitude),
		_mm512_and_si512(_mm512_castps_si512(x1), magnitude)));
	m = unpu_bits_float(top);
	if (top >= 0x7f800000 || m < 1e-30f) {
		memset(q, 0, 32);
		*d = top >= 0x7f800000 ? NAN : 0;
		*sum = 0;
		return;
	}
	inv = _mm512_set1_ps(127 / m);
	/* |x| <= m, so |q| <= 127 and the narrowing loses nothing */
	q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inv));
	q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inv));
	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(q0));
	_mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(q1));
	*d = m / 127;
	*sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
}

void unpu_quantize_avx512vnni(const float *x, uint32_t k, int8_t *q, float *d, int32_t *sum)
{
	for (uint32_t b = 0; b < k / 32; b++)
		quantize_block(x + 32 * b, q + 32 * b, d + b, sum + b);
}

void unpu_to_f16_avx512vnni(const float *x, uint32_t n, uint16_t *out)
{
	uint32_t i = 0;

	for (; n - i >= 16; i += 16)
		_mm256_storeu_si256((__m256i *)(out + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i),
			_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
	if (i < n)
		_mm_storeu_si128((__m128i *)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i),
			_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
