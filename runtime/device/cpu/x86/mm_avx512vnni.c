/* SPDX-License-Identifier: MIT */
/*
 * A lane is a row of a panel of 16; a tile is one panel by 1 to 8 tokens, so that a block of
 * weights is brought into registers once for all of them. What one (row, token) adds, and in what
 * order, is the same in every tile.
 */
#include "runtime/device/cpu/x86/mm_avx512vnni.h"

enum weights { Q8, Q4, F32, F16, BF16 };

UNPU_INLINE uint32_t block_bytes(enum weights type)
{
	static const uint32_t bytes[] = { 512, 256, 2048, 1024, 1024 };

	return bytes[type];
}

UNPU_INLINE uint32_t scale_bytes(enum weights type)
{
	return type == Q8 || type == Q4 ? 32 : 0;
}

/* ---- class a8 ----------------------------------------------------------------------------- */

/* k = 4g .. 4g + 3 of each row, as weight + 128 or weight + 8. */
UNPU_INLINE __m512i load_quants(const uint8_t *p, const int g, const enum weights type)
{
	const __m512i low = _mm512_set1_epi8(15);

	if (type == Q8)
		return load(p + 64 * g);
	if (g < 4)
		return _mm512_and_si512(load(p + 64 * g), low);
	return _mm512_and_si512(_mm512_srli_epi16(load(p + 64 * (g - 4)), 4), low);
}

/*
 * The sum of (weight + bias) * x starts at -bias * sum of x. Each step adds four products below
 * 255 * 127 to an int32: the whole block stays below 2^21. All tokens take a step before the next,
 * since one step waits for the one before it.
 */
UNPU_INLINE void block_dots(const struct unpu_mm_args *a, const uint8_t *quants, uint64_t at,
			    const uint32_t tokens, const enum weights type, __m512i sum[8])
{
	const uint32_t blocks = unpu_pad32(a->k) / 32;

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm512_set1_epi32(a->sum[at + t * blocks] * (type == Q8 ? -128 : -8));
	UNPU_UNROLL
	for (int g = 0; g < 8; g++) {
		__m512i w = load_quants(quants, g, type);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			const int8_t *x = a->q + 32 * (at + t * blocks) + 4 * g;

			sum[t] = _mm512_dpbusd_epi32(sum[t], w,
						     _mm512_set1_epi32(unpu_load_word(x)));
		}
	}
}

UNPU_INLINE void a8_tile(const struct unpu_mm_args *a, const struct panel *p, uint32_t t0,
			 const uint32_t tokens, const enum weights type)
{
	const uint32_t blocks = unpu_pad32(a->k) / 32;
	const uint8_t *quants = p->quants;
	__m512 acc[8];
	__m512i sum[8];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = _mm512_setzero_ps();
	for (uint32_t b = 0; b < blocks; b++, quants += block_bytes(type)) {
		const uint64_t at = (uint64_t)t0 * blocks + b;
		__m512 dw = load_half(p->scales + 32 * b);

		if (tokens == 1) {
			unpu_prefetch(quants, block_bytes(type));
			unpu_prefetch_scales(p->scales + 32 * b, 32);
		}
		block_dots(a, quants, at, tokens, type, sum);
		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			__m512 d = _mm512_mul_ps(dw, _mm512_set1_ps(a->d[at + t * blocks]));

			acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]), d, acc[t]);
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, p, t0 + t, acc[t]);
}

UNPU_INLINE void a8(const struct unpu_mm_args *a, const enum weights type)
{
	for (uint32_t row = a->row0 & ~15u; row < a->row1; row += 16) {
		struct panel p = panel_at(a, row, block_bytes(type), scale_bytes(type));
		uint32_t t = 0;

		for (; a->tokens - t >= 8; t += 8)
			a8_tile(a, &p, t, 8, type);
		for (; a->tokens - t >= 4; t += 4)
			a8_tile(a, &p, t, 4, type);
		for (; a->tokens - t >= 2; t += 2)
			a8_tile(a, &p, t, 2, type);
		if (t < a->tokens)
			a8_tile(a, &p, t, 1, type);
	}
}

void unpu_mm_q8_r16_k4u_a8_avx512vnni(const struct unpu_mm_args *args)
{
	a8(args, Q8);
}

void unpu_mm_q4_r16_k4u_a8_avx512vnni(const struct unpu_mm_args *args)
{
	a8(args, Q4);
}

/* ---- class f32 ---------------------------------------------------------------------------- */

/* Byte j of each lane, unbiased, times the scale. */
UNPU_INLINE __m512 quant_float(__m512i v, int j, int32_t bias, __m512 d)
{
	v = _mm512_and_si512(_mm512_srli_epi32(v, 8 * j), _mm512_set1_epi32(255));
	return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(v, _mm512_set1_epi32(bias))), d);
}

/* w[j] = the weights of k = 4g + j of one block. */
UNPU_INLINE void load_group(const uint8_t *p, const int g, const enum weights type, __m512 d,
			    __m512 w[4])
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i v = _mm512_setzero_si512();

	if (type == Q8)
		v = load(p + 64 * g);
	else if (type == Q4 && g < 4)
		v = _mm512_and_si512(load(p + 64 * g), low);
	else if (type == Q4)
		v = _mm512_and_si512(_mm512_srli_epi16(load(p + 64 * (g - 4)), 4),
				     low);
	UNPU_UNROLL
	for (int j = 0; j < 4; j++) {
		const uint8_t *row = p + (4 * g + j) * (type == F32 ? 64 : 32);

		if (type == F32)
			w[j] = _mm512_loadu_ps(row);
		else if (type == F16)
			w[j] = load_half(row);
		else if (type == BF16)
			w[j] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(
				_mm256_loadu_si256((const __m256i *)row)), 16));
		else
			w[j] = quant_float(v, j, type == Q8 ? 128 : 8, d);
	}
}

UNPU_INLINE void f32_tile(const struct unpu_mm_args *a, const struct panel *p, uint32_t t0,
			  const uint32_t tokens, const enum weights type)
{
	const uint8_t *quants = p->quants;
	__m512 acc[4][4], w[4], d = _mm512_setzero_ps();

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		UNPU_UNROLL
		for (int j = 0; j < 4; j++)
			acc[t][j] = _mm512_setzero_ps();
	for (uint32_t b = 0; b < unpu_pad32(a->k) / 32; b++, quants += block_bytes(type)) {
		const float *x = a->x + t0 * a->ldx + 32 * b;

		if (type == Q8 || type == Q4)
			d = load_half(p->scales + 32 * b);
		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(type));
		UNPU_UNROLL
		for (int g = 0; g < 8; g++) {
			load_group(quants, g, type, d, w);
			UNPU_UNROLL
			for (uint32_t t = 0; t < tokens; t++)
				UNPU_UNROLL
				for (int j = 0; j < 4; j++)
					acc[t][j] = _mm512_fmadd_ps(w[j], _mm512_set1_ps(
						x[t * a->ldx + 4 * g + j]), acc[t][j]);
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, p, t0 + t, _mm512_add_ps(_mm512_add_ps(acc[t][0], acc[t][1]),
						  _mm512_add_ps(acc[t][2], acc[t][3])));
}

UNPU_INLINE void f32(const struct unpu_mm_args *a, const enum weights type)
{
	for (uint32_t row = a->row0 & ~15u; row < a->row1; row += 16) {
		struct panel p = panel_at(a, row, block_bytes(type), scale_bytes(type));
		uint32_t t = 0;

		for (; a->tokens - t >= 4; t += 4)
			f32_tile(a, &p, t, 4, type);
		for (; t < a->tokens; t++)
			f32_tile(a, &p, t, 1, type);
	}
}

void unpu_mm_q8_r16_k4u_f32_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, Q8);
}

void unpu_mm_q4_r16_k4u_f32_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, Q4);
}

void unpu_mm_f32_r16_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, F32);
}

void unpu_mm_f16_r16_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, F16);
}

void unpu_mm_bf16_r16_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, BF16);
}
