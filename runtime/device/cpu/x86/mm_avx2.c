/* SPDX-License-Identifier: MIT */
/*
 * A lane is one of eight rows: a whole panel of a quantised layout, half a panel of a float one. A
 * tile is eight rows by a few tokens; what one (row, token) adds, and in what order, is the same in
 * every tile.
 */
#include "runtime/device/cpu/x86/mm_avx2.h"

enum weights { Q8, Q4, F32, F16, BF16 };

/* Bytes of 32 k of a panel. */
UNPU_INLINE uint32_t block_bytes(enum weights type)
{
	static const uint32_t bytes[] = { 256, 128, 2048, 1024, 1024 };

	return bytes[type];
}

UNPU_INLINE struct strip strip_of(const struct unpu_mm_args *a, uint32_t row, enum weights type)
{
	const int quantised = type == Q8 || type == Q4;
	struct strip s = strip_at(a, row, quantised ? 8 : 16, block_bytes(type),
				  quantised ? 16 : 0);

	if (!quantised)
		s.quants += row % 16 * (type == F32 ? 4 : 2);
	return s;
}

/* ---- class a8 ----------------------------------------------------------------------------- */

/*
 * |w| * (x with w's sign): a pair of products is at most 2 * 128 * 127 = 32512 and fits int16, two
 * pairs do not.
 */
UNPU_INLINE void q8_dots(const uint8_t *quants, const int8_t *const x[4], const uint32_t tokens,
			 __m256i sum[4])
{
	const __m256i one = _mm256_set1_epi16(1);

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_setzero_si256();
	UNPU_UNROLL
	for (int g = 0; g < 8; g++) {
		__m256i w = load(quants + 32 * g), abs = _mm256_abs_epi8(w);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			__m256i v = _mm256_set1_epi32(unpu_load_word(x[t] + 4 * g));

			v = _mm256_maddubs_epi16(abs, _mm256_sign_epi8(v, w));
			sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(v, one));
		}
	}
}

/*
 * w + 8 is at most 15: all eight pairs of a block, 8 * 2 * 15 * 127 = 30480, fit int16. The caller
 * takes 8 * (sum of x) away.
 */
UNPU_INLINE void q4_dots(const uint8_t *quants, const int8_t *const x[4], const uint32_t tokens,
			 __m256i sum[4])
{
	const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi16(1);

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_setzero_si256();
	UNPU_UNROLL
	for (int g = 0; g < 4; g++) {
		__m256i w = load(quants + 32 * g);
		__m256i w0 = _mm256_and_si256(w, low);
		__m256i w1 = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			__m256i x0 = _mm256_set1_epi32(unpu_load_word(x[t] + 4 * g));
			__m256i x1 = _mm256_set1_epi32(unpu_load_word(x[t] + 16 + 4 * g));

			sum[t] = _mm256_add_epi16(sum[t], _mm256_add_epi16(
				_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1)));
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_madd_epi16(sum[t], one);
}

UNPU_INLINE void a8_tile(const struct unpu_mm_args *a, const struct strip *s, uint32_t t0,
			 const uint32_t tokens, const enum weights type)
{
	const uint32_t blocks = unpu_pad32(a->k) / 32;
	const uint8_t *quants = s->quants;
	const int8_t *x[4];
	__m256i sum[4];
	__m256 acc[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		acc[t] = _mm256_setzero_ps();
		x[t] = a->q + (uint64_t)(t0 + t) * blocks * 32;
	}
	for (uint32_t b = 0; b < blocks; b++, quants += block_bytes(type)) {
		__m256 dw = load_half(s->scales + 16 * b);

		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(type));
		if (type == Q8)
			q8_dots(quants, x, tokens, sum);
		else
			q4_dots(quants, x, tokens, sum);
		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			const uint64_t at = (uint64_t)(t0 + t) * blocks + b;
			__m256 d = _mm256_mul_ps(dw, _mm256_set1_ps(a->d[at]));

			if (type == Q4)
				sum[t] = _mm256_sub_epi32(sum[t],
							  _mm256_set1_epi32(8 * a->sum[at]));
			acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), d, acc[t]);
			x[t] += 32;
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, s, t0 + t, acc[t]);
}

UNPU_INLINE void a8(const struct unpu_mm_args *a, const enum weights type)
{
	for (uint32_t row = a->row0; row < a->row1; row += ROWS) {
		struct strip s = strip_of(a, row, type);
		uint32_t t = 0;

		for (; a->tokens - t >= 4; t += 4)
			a8_tile(a, &s, t, 4, type);
		for (; t < a->tokens; t++)
			a8_tile(a, &s, t, 1, type);
	}
}

void unpu_mm_q8_r8_k4_a8_avx2(const struct unpu_mm_args *args)
{
	a8(args, Q8);
}

void unpu_mm_q4_r8_k4u_a8_avx2(const struct unpu_mm_args *args)
{
	a8(args, Q4);
}

/* ---- class f32 ---------------------------------------------------------------------------- */

/* Byte j of each lane: signed for Q8, weight + 8 for Q4; times the scale. */
UNPU_INLINE __m256 quant_float(__m256i v, const int j, const enum weights type, __m256 d)
{
	if (type == Q8)
		v = _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * j), 24);
	else
		v = _mm256_sub_epi32(_mm256_and_si256(_mm256_srli_epi32(v, 8 * j),
						      _mm256_set1_epi32(255)),
				     _mm256_set1_epi32(8));
	return _mm256_mul_ps(_mm256_cvtepi32_ps(v), d);
}

/* k = 4g .. 4g + 3 of each row, a byte each. */
UNPU_INLINE __m256i load_quants(const uint8_t *p, const int g, const enum weights type)
{
	const __m256i low = _mm256_set1_epi8(15);

	if (type == Q8)
		return load(p + 32 * g);
	if (g < 4)
		return _mm256_and_si256(load(p + 32 * g), low);
	return _mm256_and_si256(_mm256_srli_epi16(load(p + 32 * (g - 4)), 4), low);
}

/* The weights of k = i of one block; a row of a float panel is 16 long. */
UNPU_INLINE __m256 load_float(const uint8_t *p, const int i, const enum weights type)
{
	p += i * (type == F32 ? 64 : 32);
	if (type == F32)
		return _mm256_loadu_ps((const float *)p);
	if (type == F16)
		return load_half(p);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(
		_mm_loadu_si128((const __m128i *)p)), 16));
}

UNPU_INLINE void f32_tile(const struct unpu_mm_args *a, const struct strip *s, uint32_t t0,
			  const uint32_t tokens, const enum weights type)
{
	const int quantised = type == Q8 || type == Q4;
	const uint8_t *quants = s->quants;
	__m256 acc[2][4], d = _mm256_setzero_ps();

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		UNPU_UNROLL
		for (int j = 0; j < 4; j++)
			acc[t][j] = _mm256_setzero_ps();
	for (uint32_t b = 0; b < unpu_pad32(a->k) / 32; b++, quants += block_bytes(type)) {
		const float *x = a->x + t0 * a->ldx + 32 * b;

		if (quantised)
			d = load_half(s->scales + 16 * b);
		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(type));
		UNPU_UNROLL
		for (int g = 0; g < 8; g++) {
			__m256i v = quantised ? load_quants(quants, g, type) :
						_mm256_setzero_si256();

			UNPU_UNROLL
			for (int j = 0; j < 4; j++) {
				__m256 w = quantised ? quant_float(v, j, type, d) :
						       load_float(quants, 4 * g + j, type);

				UNPU_UNROLL
				for (uint32_t t = 0; t < tokens; t++)
					acc[t][j] = _mm256_fmadd_ps(w, _mm256_set1_ps(
						x[t * a->ldx + 4 * g + j]), acc[t][j]);
			}
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, s, t0 + t, _mm256_add_ps(_mm256_add_ps(acc[t][0], acc[t][1]),
						  _mm256_add_ps(acc[t][2], acc[t][3])));
}

UNPU_INLINE void f32(const struct unpu_mm_args *a, const enum weights type)
{
	for (uint32_t row = a->row0; row < a->row1; row += ROWS) {
		struct strip s = strip_of(a, row, type);
		uint32_t t = 0;

		for (; a->tokens - t >= 2; t += 2)
			f32_tile(a, &s, t, 2, type);
		if (t < a->tokens)
			f32_tile(a, &s, t, 1, type);
	}
}

void unpu_mm_q8_r8_k4_f32_avx2(const struct unpu_mm_args *args)
{
	f32(args, Q8);
}

void unpu_mm_q4_r8_k4u_f32_avx2(const struct unpu_mm_args *args)
{
	f32(args, Q4);
}

void unpu_mm_f32_r16_avx2(const struct unpu_mm_args *args)
{
	f32(args, F32);
}

void unpu_mm_f16_r16_avx2(const struct unpu_mm_args *args)
{
	f32(args, F16);
}

void unpu_mm_bf16_r16_avx2(const struct unpu_mm_args *args)
{
	f32(args, BF16);
}
