/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/half.h"
#include "runtime/device/cpu/x86/avx2.h"

/* Magnitudes order as their bits do, and NaN lies above infinity. */
UNPU_INLINE uint32_t largest_magnitude(const __m256 x[4])
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i m = _mm256_setzero_si256();
	__m128i h;

	UNPU_UNROLL
	for (int i = 0; i < 4; i++)
		m = _mm256_max_epi32(m, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
	h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
	h = _mm_max_epi32(h, _mm_shuffle_epi32(h, _MM_SHUFFLE(1, 0, 3, 2)));
	h = _mm_max_epi32(h, _mm_shuffle_epi32(h, _MM_SHUFFLE(2, 3, 0, 1)));
	return (uint32_t)_mm_cvtsi128_si32(h);
}

UNPU_INLINE int32_t sum_lanes(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1))));
}

static void quantize_block(const float *src, int8_t *q, float *d, int32_t *sum)
{
	__m256i v[4], packed;
	__m256 x[4], inv;
	uint32_t top;
	float m;

	UNPU_UNROLL
	for (int i = 0; i < 4; i++)
		x[i] = _mm256_loadu_ps(src + 8 * i);
	top = largest_magnitude(x);
	m = unpu_bits_float(top);
	if (top >= 0x7f800000 || m < 1e-30f) {
		memset(q, 0, 32);
		*d = top >= 0x7f800000 ? NAN : 0;
		*sum = 0;
		return;
	}
	inv = _mm256_set1_ps(127 / m);
	/* |x| <= m, so |q| <= 127 and no step of the narrowing saturates */
	UNPU_UNROLL
	for (int i = 0; i < 4; i++)
		v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inv));
	packed = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
	/* the packs work in halves: words 0 2 4 6 of the low one, 1 3 5 7 of the high one */
	packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
	_mm256_storeu_si256((__m256i *)q, packed);
	*d = m / 127;
	*sum = sum_lanes(_mm256_add_epi32(_mm256_add_epi32(v[0], v[1]),
					  _mm256_add_epi32(v[2], v[3])));
}

void unpu_quantize_avx2(const float *x, uint32_t k, int8_t *q, float *d, int32_t *sum)
{
	for (uint32_t b = 0; b < k / 32; b++)
		quantize_block(x + 32 * b, q + 32 * b, d + b, sum + b);
}

void unpu_to_f16_avx2(const float *x, uint32_t n, uint16_t *out)
{
	for (uint32_t i = 0; i < n; i += 8)
		_mm_storeu_si128((__m128i *)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i),
			_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
