/* SPDX-License-Identifier: MIT */
/*
 * The families Q4K, Q6K and Q8A. In class a8 some tokens' inputs are prepared once, then a tile is
 * one panel by these tokens; where k has more blocks than inputs fit, the sums wait in y. What one
 * (row, token) adds, and in what order, is the same in every tile.
 */
#include "runtime/device/cpu/x86/mm_avx512vnni.h"
#include "runtime/device/cpu/x86/mm_k.h"

enum family { Q4K, Q6K, Q8A };

/* Bytes of 32 k of a panel. */
UNPU_INLINE uint32_t block_bytes(enum family family)
{
	static const uint32_t bytes[] = { 256, 384, 512 };

	return bytes[family];
}

UNPU_INLINE uint32_t scale_bytes(enum family family)
{
	static const uint32_t bytes[] = { 40, 36, 192 };

	return bytes[family];
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The two high bits of nibble bytes 64 g .., those of the low nibbles or of the high ones. */
UNPU_INLINE __m512i load_top(const uint8_t *p, const int g, const int high)
{
	const int shift = g / 2 * 4 + high * 2;
	__m512i v = load(p + 256 + 64 * (g % 2));

	if (shift < 4)
		return _mm512_slli_epi16(v, 4 - shift);
	return _mm512_srli_epi16(v, shift - 4);
}

/* k = 4g .. 4g + 3 of each row as unsigned bytes: q, q + 32 or q + 128. */
UNPU_INLINE __m512i load_quants(const uint8_t *p, const int g, const enum family family)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i v;

	if (family == Q8A)
		return load(p + 64 * g);
	v = load(p + 64 * (g % 4));
	if (g >= 4)
		v = _mm512_srli_epi16(v, 4);
	v = _mm512_and_si512(v, low);
	if (family == Q6K)	/* v | top & 0x30 */
		v = _mm512_ternarylogic_epi32(v, load_top(p, g % 4, g >= 4),
					      _mm512_set1_epi8(0x30), 0xf8);
	return v;
}

UNPU_INLINE __m512 load_u8(const uint8_t *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

UNPU_INLINE __m512 load_s8(const uint8_t *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* ---- class a8 ----------------------------------------------------------------------------- */

/* Where a tile's tokens are: their q at block b0, the first one's `stride` before the next. */
struct tile {
	const struct input *in;
	const int8_t *q;
	uint64_t stride;
};

/* k = 4g .. 4g + 3 of a token's block, in each lane. */
UNPU_INLINE __m512i load_x(const struct tile *x, uint32_t t, const int g)
{
	return _mm512_set1_epi32(unpu_load_word(x->q + t * x->stride + 4 * g));
}

/*
 * Sums of steps first .. last - 1. Each adds four products of at most 255 * 127 to an int32. All
 * tokens take a step before the next, since one step waits for the one before it.
 */
UNPU_INLINE void add_dots(const struct tile *x, const uint8_t *quants, const int first,
			  const int last, const uint32_t tokens, const enum family family,
			  __m512i sum[8])
{
	UNPU_UNROLL
	for (int g = first; g < last; g++) {
		__m512i w = load_quants(quants, g, family);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++)
			sum[t] = _mm512_dpbusd_epi32(sum[t], w, load_x(x, t, g));
	}
}

/* The sums of both halves of a block, exact as floats. */
UNPU_INLINE void half_dots(const struct tile *x, const uint8_t *quants, const uint32_t tokens,
			   const enum family family, __m512i low[8], __m512i high[8])
{
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		low[t] = _mm512_set1_epi32(x->in[t].low);
		high[t] = _mm512_set1_epi32(x->in[t].high);
	}
	add_dots(x, quants, 0, 4, tokens, family, low);
	add_dots(x, quants, 4, 8, tokens, family, high);
}

/* sc * sum is exact: at most 255 * 15 * 127 * 32 < 2^24. */
UNPU_INLINE void q4k_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m512 s[8])
{
	__m512 sc = load_u8(scales);
	__m512i sum[8];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm512_setzero_si512();
	add_dots(x, quants, 0, 8, tokens, Q4K, sum);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		s[t] = _mm512_fmadd_ps(_mm512_mul_ps(sc, _mm512_cvtepi32_ps(sum[t])),
				       _mm512_set1_ps(x->in[t].d), s[t]);
}

/* Both products and their sum are exact: at most 2 * 128 * 32 * 127 * 16 < 2^24. */
UNPU_INLINE void q6k_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m512 s[8])
{
	__m512 sc0 = load_s8(scales), sc1 = load_s8(scales + 16);
	__m512i low[8], high[8];

	half_dots(x, quants, tokens, Q6K, low, high);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		__m512 v = _mm512_mul_ps(sc0, _mm512_cvtepi32_ps(low[t]));

		v = _mm512_fmadd_ps(sc1, _mm512_cvtepi32_ps(high[t]), v);
		s[t] = _mm512_fmadd_ps(v, _mm512_set1_ps(x->in[t].d), s[t]);
	}
}

UNPU_INLINE void q8a_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m512 acc[8])
{
	__m512 s0 = _mm512_loadu_ps(scales), s1 = _mm512_loadu_ps(scales + 64);
	__m512 o = _mm512_loadu_ps(scales + 128);
	__m512i low[8], high[8];

	half_dots(x, quants, tokens, Q8A, low, high);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		__m512 v = _mm512_mul_ps(s0, _mm512_cvtepi32_ps(low[t]));

		v = _mm512_fmadd_ps(s1, _mm512_cvtepi32_ps(high[t]), v);
		v = _mm512_fmadd_ps(o, _mm512_set1_ps(x->in[t].sum), v);
		acc[t] = _mm512_fmadd_ps(v, _mm512_set1_ps(x->in[t].d), acc[t]);
	}
}

/* The mins of a group, from its record on. */
UNPU_INLINE void q4k_mins(const struct input *in, const uint8_t *record, const uint32_t tokens,
			  __m512 acc[8])
{
	__m512 dmin = load_half(record + 32), n[8];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		n[t] = _mm512_setzero_ps();
	UNPU_ROLLED
	for (uint32_t b = 0; b < GROUP; b++, in += tokens) {
		__m512 m = load_u8(record + 64 + 32 * b + 16);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++)
			n[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(in[t].sum), n[t]);
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = _mm512_fnmadd_ps(dmin, n[t], acc[t]);
}

/* Eight blocks; the record of a group is that of Q4K or Q6K. */
UNPU_INLINE void group(struct tile *x, const uint8_t *quants, const uint8_t *record,
		       const uint32_t tokens, const enum family family, __m512 acc[8])
{
	const struct input *in = x->in;
	__m512 d = load_half(record), s[8];

	if (tokens == 1)
		unpu_prefetch_scales(record, GROUP * scale_bytes(family));
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		s[t] = _mm512_setzero_ps();
	UNPU_ROLLED
	for (uint32_t b = 0; b < GROUP; b++, quants += block_bytes(family)) {
		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(family));
		if (family == Q4K)
			q4k_block(x, quants, record + 64 + 32 * b, tokens, s);
		else
			q6k_block(x, quants, record + 32 + 32 * b, tokens, s);
		x->in += tokens;
		x->q += 32;
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = _mm512_fmadd_ps(d, s[t], acc[t]);
	if (family == Q4K)
		q4k_mins(in, record, tokens, acc);
}

UNPU_INLINE void a8_tile(const struct unpu_mm_args *a, const struct panel *p,
			 const struct inputs *in, const uint32_t tokens, const enum family family)
{
	const uint64_t k = unpu_pad32(a->k);
	const uint32_t step = family == Q8A ? 1 : GROUP;
	const uint8_t *quants = p->quants + (uint64_t)in->b0 * block_bytes(family);
	const uint8_t *scales = p->scales + (uint64_t)in->b0 * scale_bytes(family);
	struct tile x = { in->at, a->q + in->t0 * k + 32 * in->b0, k };
	__m512 acc[8];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = in->b0 ? _mm512_maskz_loadu_ps(p->stored, p->y + (in->t0 + t) * a->ldy) :
				  _mm512_setzero_ps();
	for (uint32_t b = in->b0; in->b1 - b >= step; b += step) {
		if (family != Q8A) {
			group(&x, quants, scales, tokens, family, acc);
		} else {
			if (tokens == 1) {
				unpu_prefetch(quants, block_bytes(family));
				unpu_prefetch_scales(scales, scale_bytes(family));
			}
			q8a_block(&x, quants, scales, tokens, acc);
			x.in += tokens;
			x.q += 32;
		}
		quants += step * block_bytes(family);
		scales += step * scale_bytes(family);
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, p, in->t0 + t, acc[t]);
}

UNPU_INLINE void a8_tokens(const struct unpu_mm_args *a, struct inputs *in, const uint32_t tokens,
			   const enum family family)
{
	static const int32_t bias[] = { 0, 32, 128 };
	const uint32_t blocks = unpu_pad32(a->k) / 32;

	for (in->b0 = 0; in->b0 < blocks; in->b0 = in->b1) {
		in->b1 = blocks - in->b0 < MAX_INPUTS / tokens ? blocks :
			 in->b0 + MAX_INPUTS / tokens;
		set_inputs(a, in, tokens, bias[family], family == Q4K);
		for (uint32_t row = a->row0 & ~15u; row < a->row1; row += 16) {
			struct panel p = panel_at(a, row, block_bytes(family), scale_bytes(family));

			a8_tile(a, &p, in, tokens, family);
		}
	}
}

UNPU_INLINE void a8(const struct unpu_mm_args *a, const enum family family)
{
	struct inputs in;

	for (in.t0 = 0; a->tokens - in.t0 >= 8; in.t0 += 8)
		a8_tokens(a, &in, 8, family);
	for (; a->tokens - in.t0 >= 4; in.t0 += 4)
		a8_tokens(a, &in, 4, family);
	for (; a->tokens - in.t0 >= 2; in.t0 += 2)
		a8_tokens(a, &in, 2, family);
	if (in.t0 < a->tokens)
		a8_tokens(a, &in, 1, family);
}

void unpu_mm_q4k_r16_k4u_a8_avx512vnni(const struct unpu_mm_args *args)
{
	a8(args, Q4K);
}

void unpu_mm_q6k_r16_k4_a8_avx512vnni(const struct unpu_mm_args *args)
{
	a8(args, Q6K);
}

void unpu_mm_q8a_r16_k4u_a8_avx512vnni(const struct unpu_mm_args *args)
{
	a8(args, Q8A);
}

/* ---- class f32 ---------------------------------------------------------------------------- */

/* Of one block: a weight is fma(s[half], q, o). */
struct scales {
	__m512 s[2], o;
};

/* d * sc is exact: 11 bits by 8. */
UNPU_INLINE struct scales scales_at(const uint8_t *p, uint32_t b, const enum family family)
{
	const uint8_t *block;
	struct scales v;

	p += (uint64_t)(family == Q8A ? b : b / GROUP * GROUP) * scale_bytes(family);
	if (family == Q8A)
		return (struct scales) {
			{ _mm512_loadu_ps(p), _mm512_loadu_ps(p + 64) }, _mm512_loadu_ps(p + 128),
		};
	block = p + (family == Q4K ? 64 : 32) + 32 * (b % GROUP);
	v.o = _mm512_setzero_ps();
	if (family == Q4K) {
		v.s[0] = v.s[1] = _mm512_mul_ps(load_half(p), load_u8(block));
		v.o = _mm512_mul_ps(load_half(p + 32), load_u8(block + 16));
	} else {
		v.s[0] = _mm512_mul_ps(load_half(p), load_s8(block));
		v.s[1] = _mm512_mul_ps(load_half(p), load_s8(block + 16));
	}
	return v;
}

/* Byte j of each lane as a weight; o of Q4K is to be taken away. */
UNPU_INLINE __m512 weight(__m512i v, const int j, const struct scales *s, const int half,
			  const enum family family)
{
	static const int32_t bias[] = { 0, 32, 128 };
	__m512 q;

	v = _mm512_and_si512(_mm512_srli_epi32(v, 8 * j), _mm512_set1_epi32(255));
	q = _mm512_cvtepi32_ps(_mm512_sub_epi32(v, _mm512_set1_epi32(bias[family])));
	if (family == Q6K)
		return _mm512_mul_ps(s->s[half], q);
	return family == Q4K ? _mm512_fmsub_ps(s->s[half], q, s->o) :
			       _mm512_fmadd_ps(s->s[half], q, s->o);
}

UNPU_INLINE void f32_tile(const struct unpu_mm_args *a, const struct panel *p, uint32_t t0,
			  const uint32_t tokens, const enum family family)
{
	const uint8_t *quants = p->quants;
	__m512 acc[4][4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		UNPU_UNROLL
		for (int j = 0; j < 4; j++)
			acc[t][j] = _mm512_setzero_ps();
	for (uint32_t b = 0; b < unpu_pad32(a->k) / 32; b++, quants += block_bytes(family)) {
		const float *x = a->x + t0 * a->ldx + 32 * b;
		struct scales s = scales_at(p->scales, b, family);

		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(family));
		UNPU_UNROLL
		for (int g = 0; g < 8; g++) {
			__m512i v = load_quants(quants, g, family);

			UNPU_UNROLL
			for (int j = 0; j < 4; j++) {
				__m512 w = weight(v, j, &s, g / 4, family);

				UNPU_UNROLL
				for (uint32_t t = 0; t < tokens; t++)
					acc[t][j] = _mm512_fmadd_ps(w, _mm512_set1_ps(
						x[t * a->ldx + 4 * g + j]), acc[t][j]);
			}
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, p, t0 + t, _mm512_add_ps(_mm512_add_ps(acc[t][0], acc[t][1]),
						  _mm512_add_ps(acc[t][2], acc[t][3])));
}

UNPU_INLINE void f32(const struct unpu_mm_args *a, const enum family family)
{
	for (uint32_t row = a->row0 & ~15u; row < a->row1; row += 16) {
		struct panel p = panel_at(a, row, block_bytes(family), scale_bytes(family));
		uint32_t t = 0;

		for (; a->tokens - t >= 4; t += 4)
			f32_tile(a, &p, t, 4, family);
		for (; t < a->tokens; t++)
			f32_tile(a, &p, t, 1, family);
	}
}

void unpu_mm_q4k_r16_k4u_f32_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, Q4K);
}

void unpu_mm_q6k_r16_k4_f32_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, Q6K);
}

void unpu_mm_q8a_r16_k4u_f32_avx512vnni(const struct unpu_mm_args *args)
{
	f32(args, Q8A);
}
