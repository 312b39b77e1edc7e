/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/x86/exp.h"
#include "runtime/device/cpu/x86/x86.h"

typedef __m512 vec;
typedef __m512i vec_block;

#define WIDTH	16
#define HEADS	4	/* with four cells, 16 of the 32 registers */

#include "runtime/device/cpu/x86/attn.h"

UNPU_INLINE __mmask16 lanes(uint32_t left)
{
	return left < WIDTH ? 0xff : 0xffff;
}

UNPU_INLINE vec vec_load(const float *p, uint32_t left)
{
	return _mm512_maskz_loadu_ps(lanes(left), p);
}

UNPU_INLINE vec vec_load_f16(const uint16_t *p, uint32_t left)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(left), p));
}

UNPU_INLINE vec vec_load_int8(const int8_t *p, uint32_t left)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes(left), p)));
}

UNPU_INLINE void vec_store(float *p, vec v, uint32_t left)
{
	_mm512_mask_storeu_ps(p, lanes(left), v);
}

UNPU_INLINE vec vec_set1(float v)
{
	return _mm512_set1_ps(v);
}

UNPU_INLINE vec vec_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

UNPU_INLINE vec vec_sub(vec a, vec b)
{
	return _mm512_sub_ps(a, b);
}

UNPU_INLINE vec vec_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

UNPU_INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

UNPU_INLINE vec_block vec_block_load(const int8_t *p, uint32_t left)
{
	__mmask32 mask = left < 32 ? (1u << left) - 1 : 0xffffffff;

	return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, p));
}

UNPU_INLINE vec vec_block_dot(const vec_block *k, const int16_t *q)
{
	return _mm512_cvtepi32_ps(_mm512_madd_epi16(*k, _mm512_loadu_si512(q)));
}

UNPU_INLINE vec vec_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

UNPU_INLINE vec vec_weight(vec v)
{
	return unpu_weight16(v);
}

UNPU_INLINE float vec_hmax(vec v)
{
	return _mm512_reduce_max_ps(v);
}

UNPU_INLINE float vec_hsum(vec v)
{
	return _mm512_reduce_add_ps(v);
}

UNPU_INLINE __m128 vec_sum4(const vec v[4])
{
	__m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
	__m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
	__m512 all = _mm512_add_ps(
		_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0)),
		_mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2)));
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));

	return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

void unpu_attn_f32_avx512vnni(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_F32);
}

void unpu_attn_f16_avx512vnni(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_F16);
}

void unpu_attn_int8_avx512vnni(const struct unpu_attn_args *args)
{
	attn(args, DRM_UNPU_KV_INT8);
}
