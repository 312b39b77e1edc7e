/* SPDX-License-Identifier: MIT */
/*
 * The families Q4K, Q6K and Q8A. In class a8 some tokens' inputs are prepared once, then a tile is
 * one panel by these tokens; where k has more blocks than inputs fit, the sums wait in y. What one
 * (row, token) adds, and in what order, is the same in every tile.
 */
#include "runtime/device/cpu/x86/mm_avx2.h"
#include "runtime/device/cpu/x86/mm_k.h"

enum family { Q4K, Q6K, Q8A };

/* Bytes of 32 k of a panel. */
UNPU_INLINE uint32_t block_bytes(enum family family)
{
	static const uint32_t bytes[] = { 128, 192, 256 };

	return bytes[family];
}

UNPU_INLINE uint32_t scale_bytes(enum family family)
{
	static const uint32_t bytes[] = { 20, 18, 96 };

	return bytes[family];
}

/* ---- weights ------------------------------------------------------------------------------ */

/* The two high bits of nibble bytes 32 g .., those of the low nibbles or of the high ones. */
UNPU_INLINE __m256i load_top(const uint8_t *p, const int g, const int high)
{
	const int shift = g / 2 * 4 + high * 2;
	__m256i v = load(p + 128 + 32 * (g % 2));

	if (shift < 4)
		return _mm256_slli_epi16(v, 4 - shift);
	return _mm256_srli_epi16(v, shift - 4);
}

/* k = 4g .. 4g + 3 of each row as bytes: q of Q4K and Q8A, q + 32 of Q6K. */
UNPU_INLINE __m256i load_quants(const uint8_t *p, const int g, const enum family family)
{
	const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(0x30);
	__m256i v;

	if (family == Q8A)
		return load(p + 32 * g);
	v = load(p + 32 * (g % 4));
	if (g >= 4)
		v = _mm256_srli_epi16(v, 4);
	v = _mm256_and_si256(v, low);
	if (family == Q6K)
		v = _mm256_or_si256(v, _mm256_and_si256(load_top(p, g % 4, g >= 4), top));
	return v;
}

UNPU_INLINE __m256 load_u8(const uint8_t *p)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

UNPU_INLINE __m256 load_s8(const uint8_t *p)
{
	return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

UNPU_INLINE __m256 load_floats(const uint8_t *p)
{
	return _mm256_loadu_ps((const float *)p);
}

/* ---- class a8 ----------------------------------------------------------------------------- */

/* Where a tile's tokens are: their q at block b0, the first one's `stride` before the next. */
struct tile {
	const struct input *in;
	const int8_t *q;
	uint64_t stride;
};

/* k = 4g .. 4g + 3 of a token's block, in each lane. */
UNPU_INLINE __m256i load_x(const struct tile *x, uint32_t t, const int g)
{
	return _mm256_set1_epi32(unpu_load_word(x->q + t * x->stride + 4 * g));
}

/*
 * All eight pairs of a block, 8 * 2 * 15 * 127 = 30480, fit int16; sc * sum is exact as a float: at
 * most 255 * 15 * 127 * 32 < 2^24.
 */
UNPU_INLINE void q4k_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m256 s[4])
{
	const __m256i one = _mm256_set1_epi16(1);
	__m256 sc = load_u8(scales);
	__m256i sum[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_setzero_si256();
	UNPU_UNROLL
	for (int g = 0; g < 4; g++) {
		__m256i w0 = load_quants(quants, g, Q4K), w1 = load_quants(quants, g + 4, Q4K);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++)
			sum[t] = _mm256_add_epi16(sum[t], _mm256_add_epi16(
				_mm256_maddubs_epi16(w0, load_x(x, t, g)),
				_mm256_maddubs_epi16(w1, load_x(x, t, g + 4))));
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		__m256 v = _mm256_cvtepi32_ps(_mm256_madd_epi16(sum[t], one));

		s[t] = _mm256_fmadd_ps(_mm256_mul_ps(sc, v), _mm256_set1_ps(x->in[t].d), s[t]);
	}
}

/*
 * sc * (sum of 16 k) of one half: q + 32 is at most 63, two pairs, 2 * 2 * 63 * 127 = 32004, fit
 * int16, four do not.
 */
UNPU_INLINE void q6k_half(const struct tile *x, const uint8_t *quants, const int g, __m256i sc,
			  const uint32_t tokens, __m256i sum[4])
{
	UNPU_UNROLL
	for (int i = g; i < g + 4; i += 2) {
		__m256i w0 = load_quants(quants, i, Q6K), w1 = load_quants(quants, i + 1, Q6K);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			__m256i v = _mm256_add_epi16(_mm256_maddubs_epi16(w0, load_x(x, t, i)),
						     _mm256_maddubs_epi16(w1, load_x(x, t, i + 1)));

			sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(v, sc));
		}
	}
}

/*
 * The sums begin with 2 * sc * (-16 * sum of 16 q) of both halves, products of int16. What they end
 * with is exact as a float: at most 2 * 128 * 32 * 127 * 16 < 2^24.
 */
UNPU_INLINE void q6k_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m256 s[4])
{
	const __m128i mix = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
	const __m256i first = _mm256_set1_epi64x(0x0504050401000100);
	const __m256i second = _mm256_set1_epi64x(0x0706070603020302);
	const __m256i other = _mm256_setr_epi64x(0, 0x0808080808080808, 0, 0x0808080808080808);
	__m128i bytes = _mm_loadu_si128((const __m128i *)scales);
	__m256i sc = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, mix)), sum[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_madd_epi16(_mm256_add_epi16(sc, sc),
					   _mm256_set1_epi32(x->in[t].low));
	q6k_half(x, quants, 0, _mm256_shuffle_epi8(sc, _mm256_add_epi8(first, other)), tokens, sum);
	q6k_half(x, quants, 4, _mm256_shuffle_epi8(sc, _mm256_add_epi8(second, other)), tokens,
		 sum);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		s[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), _mm256_set1_ps(x->in[t].d),
				       s[t]);
}

/*
 * |w| * (x with w's sign): a pair of products is at most 2 * 128 * 127 = 32512 and fits int16, two
 * pairs do not.
 */
UNPU_INLINE void q8a_half(const struct tile *x, const uint8_t *quants, const int g,
			  const uint32_t tokens, __m256i sum[4])
{
	const __m256i one = _mm256_set1_epi16(1);

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		sum[t] = _mm256_setzero_si256();
	UNPU_UNROLL
	for (int i = g; i < g + 4; i++) {
		__m256i w = load_quants(quants, i, Q8A), abs = _mm256_abs_epi8(w);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++) {
			__m256i v = _mm256_sign_epi8(load_x(x, t, i), w);

			v = _mm256_madd_epi16(_mm256_maddubs_epi16(abs, v), one);
			sum[t] = _mm256_add_epi32(sum[t], v);
		}
	}
}

UNPU_INLINE void q8a_block(const struct tile *x, const uint8_t *quants, const uint8_t *scales,
			   const uint32_t tokens, __m256 acc[4])
{
	__m256i sum[4];
	__m256 v[4];

	q8a_half(x, quants, 0, tokens, sum);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		v[t] = _mm256_mul_ps(load_floats(scales), _mm256_cvtepi32_ps(sum[t]));
	q8a_half(x, quants, 4, tokens, sum);
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++) {
		v[t] = _mm256_fmadd_ps(load_floats(scales + 32), _mm256_cvtepi32_ps(sum[t]), v[t]);
		v[t] = _mm256_fmadd_ps(load_floats(scales + 64), _mm256_set1_ps(x->in[t].sum),
				       v[t]);
		acc[t] = _mm256_fmadd_ps(v[t], _mm256_set1_ps(x->in[t].d), acc[t]);
	}
}

/* The mins of a group, from its record on. */
UNPU_INLINE void q4k_mins(const struct input *in, const uint8_t *record, const uint32_t tokens,
			  __m256 acc[4])
{
	__m256 dmin = load_half(record + 16), n[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		n[t] = _mm256_setzero_ps();
	UNPU_ROLLED
	for (uint32_t b = 0; b < GROUP; b++, in += tokens) {
		__m256 m = load_u8(record + 32 + 16 * b + 8);

		UNPU_UNROLL
		for (uint32_t t = 0; t < tokens; t++)
			n[t] = _mm256_fmadd_ps(m, _mm256_set1_ps(in[t].sum), n[t]);
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = _mm256_fnmadd_ps(dmin, n[t], acc[t]);
}

/* Eight blocks; the record of a group is that of Q4K or Q6K. */
UNPU_INLINE void group(struct tile *x, const uint8_t *quants, const uint8_t *record,
		       const uint32_t tokens, const enum family family, __m256 acc[4])
{
	const struct input *in = x->in;
	__m256 d = load_half(record), s[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		s[t] = _mm256_setzero_ps();
	UNPU_ROLLED
	for (uint32_t b = 0; b < GROUP; b++, quants += block_bytes(family)) {
		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(family));
		if (family == Q4K)
			q4k_block(x, quants, record + 32 + 16 * b, tokens, s);
		else
			q6k_block(x, quants, record + 16 + 16 * b, tokens, s);
		x->in += tokens;
		x->q += 32;
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = _mm256_fmadd_ps(d, s[t], acc[t]);
	if (family == Q4K)
		q4k_mins(in, record, tokens, acc);
}

UNPU_INLINE void a8_tile(const struct unpu_mm_args *a, const struct strip *p,
			 const struct inputs *in, const uint32_t tokens, const enum family family)
{
	const uint64_t k = unpu_pad32(a->k);
	const uint32_t step = family == Q8A ? 1 : GROUP;
	const uint8_t *quants = p->quants + (uint64_t)in->b0 * block_bytes(family);
	const uint8_t *scales = p->scales + (uint64_t)in->b0 * scale_bytes(family);
	struct tile x = { in->at, a->q + in->t0 * k + 32 * in->b0, k };
	__m256 acc[4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		acc[t] = in->b0 ? _mm256_loadu_ps(p->y + (in->t0 + t) * a->ldy) :
				  _mm256_setzero_ps();
	for (uint32_t b = in->b0; in->b1 - b >= step; b += step) {
		if (family != Q8A) {
			group(&x, quants, scales, tokens, family, acc);
		} else {
			if (tokens == 1)
				unpu_prefetch(quants, block_bytes(family));
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

/* Both beginnings of Q6K's sums as a pair of int16: at most 16 * 16 * 127 = 32512. */
UNPU_INLINE void pair_inputs(struct inputs *in, const uint32_t tokens)
{
	for (uint32_t i = 0; i < (in->b1 - in->b0) * tokens; i++)
		in->at[i].low = (int32_t)(((uint32_t)in->at[i].low & 0xffff) |
					  (uint32_t)in->at[i].high << 16);
}

UNPU_INLINE void a8_tokens(const struct unpu_mm_args *a, struct inputs *in, const uint32_t tokens,
			   const enum family family)
{
	const uint32_t blocks = unpu_pad32(a->k) / 32;

	for (in->b0 = 0; in->b0 < blocks; in->b0 = in->b1) {
		in->b1 = blocks - in->b0 < MAX_INPUTS / tokens ? blocks :
			 in->b0 + MAX_INPUTS / tokens;
		set_inputs(a, in, tokens, family == Q6K ? 16 : 0, family == Q4K);
		if (family == Q6K)
			pair_inputs(in, tokens);
		for (uint32_t row = a->row0; row < a->row1; row += ROWS) {
			struct strip s = strip_at(a, row, 8, block_bytes(family),
						  scale_bytes(family));

			a8_tile(a, &s, in, tokens, family);
		}
	}
}

UNPU_INLINE void a8(const struct unpu_mm_args *a, const enum family family)
{
	struct inputs in;

	for (in.t0 = 0; a->tokens - in.t0 >= 4; in.t0 += 4)
		a8_tokens(a, &in, 4, family);
	for (; a->tokens - in.t0 >= 2; in.t0 += 2)
		a8_tokens(a, &in, 2, family);
	if (in.t0 < a->tokens)
		a8_tokens(a, &in, 1, family);
}

void unpu_mm_q4k_r8_k4u_a8_avx2(const struct unpu_mm_args *args)
{
	a8(args, Q4K);
}

void unpu_mm_q6k_r8_k4_a8_avx2(const struct unpu_mm_args *args)
{
	a8(args, Q6K);
}

void unpu_mm_q8a_r8_k4_a8_avx2(const struct unpu_mm_args *args)
{
	a8(args, Q8A);
}

/* ---- class f32 ---------------------------------------------------------------------------- */

/* Of one block: a weight is fma(s[half], q, o). */
struct scales {
	__m256 s[2], o;
};

/* d * sc is exact: 11 bits by 8. */
UNPU_INLINE struct scales scales_at(const uint8_t *p, uint32_t b, const enum family family)
{
	const uint8_t *block;
	struct scales v;

	p += (uint64_t)(family == Q8A ? b : b / GROUP * GROUP) * scale_bytes(family);
	if (family == Q8A)
		return (struct scales) {
			{ load_floats(p), load_floats(p + 32) }, load_floats(p + 64),
		};
	block = p + (family == Q4K ? 32 : 16) + 16 * (b % GROUP);
	v.o = _mm256_setzero_ps();
	if (family == Q4K) {
		v.s[0] = v.s[1] = _mm256_mul_ps(load_half(p), load_u8(block));
		v.o = _mm256_mul_ps(load_half(p + 16), load_u8(block + 8));
	} else {
		v.s[0] = _mm256_mul_ps(load_half(p), load_s8(block));
		v.s[1] = _mm256_mul_ps(load_half(p), load_s8(block + 8));
	}
	return v;
}

/* Byte j of each lane as a weight; o of Q4K is to be taken away. */
UNPU_INLINE __m256 weight(__m256i v, const int j, const struct scales *s, const int half,
			  const enum family family)
{
	__m256 q;

	if (family == Q8A)
		v = _mm256_srai_epi32(_mm256_slli_epi32(v, 24 - 8 * j), 24);
	else
		v = _mm256_sub_epi32(_mm256_and_si256(_mm256_srli_epi32(v, 8 * j),
						      _mm256_set1_epi32(255)),
				     _mm256_set1_epi32(family == Q6K ? 32 : 0));
	q = _mm256_cvtepi32_ps(v);
	if (family == Q6K)
		return _mm256_mul_ps(s->s[half], q);
	return family == Q4K ? _mm256_fmsub_ps(s->s[half], q, s->o) :
			       _mm256_fmadd_ps(s->s[half], q, s->o);
}

UNPU_INLINE void f32_tile(const struct unpu_mm_args *a, const struct strip *p, uint32_t t0,
			  const uint32_t tokens, const enum family family)
{
	const uint8_t *quants = p->quants;
	__m256 acc[2][4];

	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		UNPU_UNROLL
		for (int j = 0; j < 4; j++)
			acc[t][j] = _mm256_setzero_ps();
	for (uint32_t b = 0; b < unpu_pad32(a->k) / 32; b++, quants += block_bytes(family)) {
		const float *x = a->x + t0 * a->ldx + 32 * b;
		struct scales s = scales_at(p->scales, b, family);

		if (tokens == 1)
			unpu_prefetch(quants, block_bytes(family));
		UNPU_UNROLL
		for (int g = 0; g < 8; g++) {
			__m256i v = load_quants(quants, g, family);

			UNPU_UNROLL
			for (int j = 0; j < 4; j++) {
				__m256 w = weight(v, j, &s, g / 4, family);

				UNPU_UNROLL
				for (uint32_t t = 0; t < tokens; t++)
					acc[t][j] = _mm256_fmadd_ps(w, _mm256_set1_ps(
						x[t * a->ldx + 4 * g + j]), acc[t][j]);
			}
		}
	}
	UNPU_UNROLL
	for (uint32_t t = 0; t < tokens; t++)
		store(a, p, t0 + t, _mm256_add_ps(_mm256_add_ps(acc[t][0], acc[t][1]),
						  _mm256_add_ps(acc[t][2], acc[t][3])));
}

UNPU_INLINE void f32(const struct unpu_mm_args *a, const enum family family)
{
	for (uint32_t row = a->row0; row < a->row1; row += ROWS) {
		struct strip s = strip_at(a, row, 8, block_bytes(family), scale_bytes(family));
		uint32_t t = 0;

		for (; a->tokens - t >= 2; t += 2)
			f32_tile(a, &s, t, 2, family);
		if (t < a->tokens)
			f32_tile(a, &s, t, 1, family);
	}
}

void unpu_mm_q4k_r8_k4u_f32_avx2(const struct unpu_mm_args *args)
{
	f32(args, Q4K);
}

void unpu_mm_q6k_r8_k4_f32_avx2(const struct unpu_mm_args *args)
{
	f32(args, Q6K);
}

void unpu_mm_q8a_r8_k4_f32_avx2(const struct unpu_mm_args *args)
{
	f32(args, Q8A);
}
