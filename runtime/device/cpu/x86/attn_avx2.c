/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/x86/avx2.h"
#include "runtime/device/cpu/x86/exp.h"

typedef __m256 vec;
typedef struct {
	__m256i low, high;
} vec_block;

#define WIDTH	8
#define HEADS	2	/* with four cells, 8 of the 16 registers */

#include "runtime/device/cpu/x86/attn.h"

UNPU_INLINE vec vec_load(const float *p, uint32_t left)
{
	(void)left;	/* never less than a vector */
	return _mm256_loadu_ps(p);
}

UNPU_INLINE vec vec_load_f16(const uint16_t *p, uint32_t left)
{
	(void)left;
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

UNPU_INLINE vec vec_load_int8(const int8_t *p, uint32_t left)
{
	(void)left;
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

UNPU_INLINE void vec_store(float *p, vec v, uint32_t left)
{
	(void)left;
	_mm256_storeu_ps(p, v);
}

UNPU_INLINE vec vec_set1(float v)
{
	return _mm256_set1_ps(v);
}

UNPU_INLINE vec vec_add(vec a, vec b)
{
	return _mm256_add_ps(a, b);
}

UNPU_INLINE vec vec_sub(vec a, vec b)
{
	return _mm256_sub_ps(a, b);
}

UNPU_INLINE vec vec_mul(vec a, vec b)
{
	return _mm256_mul_ps(a, b);
}

UNPU_INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

UNPU_INLINE __m256i load16_int8(const void *p)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128(p));
}

UNPU_INLINE vec_block vec_block_load(const int8_t *p, uint32_t left)
{
	int8_t part[32] = { 0 };

	if (left < 32) {
		for (uint32_t i = 0; i < left; i += 8)
			memcpy(part + i, p + i, 8);
		p = part;
	}
	return (vec_block){ load16_int8(p), load16_int8(p + 16) };
}

UNPU_INLINE vec vec_block_dot(const vec_block *k, const int16_t *q)
{
	__m256i low = _mm256_madd_epi16(k->low, _mm256_loadu_si256((const __m256i *)q));
	__m256i high = _mm256_madd_epi16(k->high, _mm256_loadu_si256((const __m256i *)(q + 16)));

	return _mm256_cvtepi32_ps(_mm256_add_epi32(low, high));
}

UNPU_INLINE vec vec_max(vec a, vec b)
{
	return _mm256_max_ps(a, b);
}

UNPU_INLINE vec vec_weight(vec v)
{
	return unpu_weight8(v);
}

UNPU_INLINE float vec_hmax(vec v)
{
	return unpu_hmax(v);
}

UNPU_INLINE float vec_hsum(vec v)
{
	return unpu_hsum(v);
}

UNPU_INLINE __m128 vec_sum4(const vec v[4])
{
	__m256 all = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));

	return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

void unpu_attn_f32_avx2(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_F32);
}

void unpu_attn_f16_avx2(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_F16);
}

void unpu_attn_int8_avx2(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_INT8);
}
