/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A matrix in an r32 layout times up to TOKENS rows, by one work-group: 32 rows of the matrix (a
 * panel) x KS splits of K. An invocation owns row lid & 31 of the panel and the blocks of 32 k
 * whose number is lid >> 5 modulo KS; the rows of x lie in shared memory, a chunk of K at a time.
 *
 * A sum is taken in the same order whatever TOKENS is: within a block in order of mm_block(), then
 * the split's blocks in order, then the splits in order. Sums are by fma() and `precise`, for a
 * compiler may otherwise contract one build and not the other.
 *
 * The shader defines before including this: TOKENS; PANELS, panels an invocation has rows of (2
 * only where TOKENS is 1); XS, 16-byte words of x in shared memory; LAYOUT, NUMERIC and INPUTS, K.
 */
#ifdef MATH_F32S
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#include "common.glsl"

layout(std430, binding = 1) readonly buffer Input { vec4 source[]; };
layout(std430, binding = 2) readonly buffer Params { float params[]; };
layout(std430, binding = 2) readonly buffer Params4 { vec4 params4[]; };
layout(std430, binding = 3) readonly buffer Quants { uvec4 quants[]; };
layout(std430, binding = 4) readonly buffer Scales { uint scales[]; };

const uint KS = gl_WorkGroupSize.x / 32u;
const uint BLOCKS = (INPUTS + 31u) / 32u;
/* Blocks of one chunk: as many as there is room for, the same number for every split if possible. */
const uint ROOM = XS / (8u * TOKENS);
const uint CHUNK = KS > ROOM ? ROOM : ROOM - ROOM % KS;

const uint FLAG_NORM_BIAS = 1u;
const uint FLAG_BIAS = 2u;
const uint FLAG_QK_NORM = 4u;
const uint FLAG_GATED = 8u;
const uint NORM_LAYER = 1u;

/* One number for each token of the tile, and what an invocation sums. */
#if TOKENS == 1
#define tokens_t float
#if PANELS == 2
#define sum_t vec2
#else
#define sum_t float
#endif
#elif TOKENS == 4
#define tokens_t vec4
#define sum_t vec4
#else
#define tokens_t mat2x4
#define sum_t mat2x4
#endif

/* __f(t, number of token t) */
#if TOKENS == 1
#define EACH_TOKEN(__f, __v)	__f(0u, __v)
#elif TOKENS == 4
#define EACH_TOKEN(__f, __v) { \
	__f(0u, (__v).x); __f(1u, (__v).y); __f(2u, (__v).z); __f(3u, (__v).w); \
}
#else
#define EACH_TOKEN(__f, __v) { \
	__f(0u, (__v)[0].x); __f(1u, (__v)[0].y); __f(2u, (__v)[0].z); __f(3u, (__v)[0].w); \
	__f(4u, (__v)[1].x); __f(5u, (__v)[1].y); __f(6u, (__v)[1].z); __f(7u, (__v)[1].w); \
}
#endif

/* The same of two numbers. */
#if TOKENS == 4
#define EACH_TOKEN2(__f, __v, __w) { \
	__f(0u, (__v).x, (__w).x); __f(1u, (__v).y, (__w).y); \
	__f(2u, (__v).z, (__w).z); __f(3u, (__v).w, (__w).w); \
}
#else
#define EACH_TOKEN2(__f, __v, __w) { \
	__f(0u, (__v)[0].x, (__w)[0].x); __f(1u, (__v)[0].y, (__w)[0].y); \
	__f(2u, (__v)[0].z, (__w)[0].z); __f(3u, (__v)[0].w, (__w)[0].w); \
	__f(4u, (__v)[1].x, (__w)[1].x); __f(5u, (__v)[1].y, (__w)[1].y); \
	__f(6u, (__v)[1].z, (__w)[1].z); __f(7u, (__v)[1].w, (__w)[1].w); \
}
#endif

/*
 * x of a chunk: TOKENS == 1: [k / 4], the 4 side by side; else [k][token]. Between the panels,
 * where TOKENS > 1, what the invocations have to tell each other.
 */
shared uvec4 xs[XS];
#if TOKENS == 1
shared sum_t sums[256 - 32];
#endif

uint lane()
{
	return gl_LocalInvocationID.x;
}

/* ---- invocations tell each other a number per token -------------------------------------- */

/* Slot 0..223. */
void slot_put(uint i, sum_t v)
{
#if TOKENS == 1
	sums[i] = v;
#elif TOKENS == 4
	xs[i] = floatBitsToUint(v);
#else
	xs[2u * i] = floatBitsToUint(v[0]);
	xs[2u * i + 1u] = floatBitsToUint(v[1]);
#endif
}

sum_t slot_get(uint i)
{
#if TOKENS == 1
	return sums[i];
#elif TOKENS == 4
	return uintBitsToFloat(xs[i]);
#else
	return mat2x4(uintBitsToFloat(xs[2u * i]), uintBitsToFloat(xs[2u * i + 1u]));
#endif
}

/* Of the invocations with the same lane() & 31, in order; for lanes below 32. Slot lane() is free
 * for those afterwards, the others after a barrier. */
sum_t splits_sum(sum_t v)
{
	precise sum_t sum = v;

	if (KS == 1u)
		return v;
	if (TOKENS > 1)		/* slots lie over x */
		barrier();
	if (lane() >= 32u)
		slot_put(lane() - 32u, v);
	barrier();
	if (lane() < 32u)
		for (uint i = lane(); i < 32u * (KS - 1u); i += 32u)
			sum += slot_get(i);
	return sum;
}

/* ---- the tile of tokens ------------------------------------------------------------------ */

uint tile_first = gl_WorkGroupID.y * uint(TOKENS);
uint tile_rows;		/* that are live */

/* False: nothing to do, for all invocations alike. Called first, once. */
bool tile_init();

/* A row of x for each token, the last one again past the live. */
uint tile_row(uint t);

#ifndef OWN_TILE
bool tile_init()
{
	uint live = state_live();

	tile_rows = live > tile_first ? min(live - tile_first, uint(TOKENS)) : 0u;
	return tile_rows > 0u;
}

uint tile_row(uint t)
{
	return tile_first + min(t, tile_rows - 1u);
}
#endif

/* ---- x ----------------------------------------------------------------------------------- */

/* Of the shader: inputs 4 k4..4 k4 + 3 of this row of x. */
vec4 mm_input(uint t, uint row, uint k4);

vec4 tile_input(uint t, uint k4)
{
	return mm_input(t, tile_row(t), k4);
}

/* Blocks first_block.. of x into shared memory, by all. */
void mm_fill(uint first_block, uint blocks)
{
	for (uint i = lane(); i < blocks * 8u; i += gl_WorkGroupSize.x) {
		uint k4 = first_block * 8u + i;

#if TOKENS == 1
		xs[i] = floatBitsToUint(tile_input(0u, k4));
#else
		for (uint t = 0u; t < uint(TOKENS); t += 4u) {
			mat4 x = transpose(mat4(tile_input(t, k4), tile_input(t + 1u, k4),
						tile_input(t + 2u, k4),
						tile_input(t + 3u, k4)));
			uint at = (i * 4u * uint(TOKENS) + t) / 4u;

			xs[at] = floatBitsToUint(x[0]);
			xs[at + uint(TOKENS) / 4u] = floatBitsToUint(x[1]);
			xs[at + uint(TOKENS) / 2u] = floatBitsToUint(x[2]);
			xs[at + 3u * uint(TOKENS) / 4u] = floatBitsToUint(x[3]);
		}
#endif
	}
}

/* ---- weights ----------------------------------------------------------------------------- */

/*
 * Four weights of a row at a time, without their scale. 0x6400 is 1024 as a half, whose last bit is
 * worth 1: quants become numbers in pairs, and what is subtracted leaves them exact.
 */
vec4 q8_quad(uint bytes)
{
	vec2 even = unpackHalf2x16((bytes & 0x00ff00ffu) ^ 0x64806480u);
	vec2 odd = unpackHalf2x16((bytes >> 8 & 0x00ff00ffu) ^ 0x64806480u);

	return vec4(even.x, odd.x, even.y, odd.y) - 1152.0;
}

/* Of the low nibbles. */
vec4 q4_quad(uint bytes)
{
	vec2 even = unpackHalf2x16((bytes & 0x000f000fu) | 0x64006400u);
	vec2 odd = unpackHalf2x16((bytes >> 8 & 0x000f000fu) | 0x64006400u);

	return vec4(even.x, odd.x, even.y, odd.y) - 1032.0;
}

vec4 f16_quad(uint low, uint high)
{
	return vec4(f16_float(low), f16_float(low >> 16), f16_float(high), f16_float(high >> 16));
}

/* sum + w . x for four k; at: place of the first in xs. */
#if TOKENS == 1
float quad_add(vec4 w, vec4 x, float sum)
{
	precise float s = sum;

	s = fma(w.x, x.x, s);
	s = fma(w.y, x.y, s);
	s = fma(w.z, x.z, s);
	s = fma(w.w, x.w, s);
	return s;
}
#else
tokens_t k_add(float w, uint at, tokens_t sum)
{
#if TOKENS == 4
	precise vec4 s = fma(vec4(w), uintBitsToFloat(xs[at]), sum);

	return s;
#else
	precise vec4 a = fma(vec4(w), uintBitsToFloat(xs[at]), sum[0]);
	precise vec4 b = fma(vec4(w), uintBitsToFloat(xs[at + 1u]), sum[1]);

	return mat2x4(a, b);
#endif
}

tokens_t quad_add(vec4 w, uint at, tokens_t sum)
{
	const uint step = uint(TOKENS) / 4u;

	sum = k_add(w.x, at, sum);
	sum = k_add(w.y, at + step, sum);
	sum = k_add(w.z, at + 2u * step, sum);
	return k_add(w.w, at + 3u * step, sum);
}
#endif

/* Quad number `quad` of a block of x, and of the weights of one or two panels. */
#if TOKENS == 1
#if PANELS == 2
#define QUAD_ADD(__sum, __quad, __weights) { \
	vec4 x = uintBitsToFloat(xs[at + (__quad)]); \
	__sum.x = quad_add(__weights(p0), x, __sum.x); \
	__sum.y = quad_add(__weights(p1), x, __sum.y); \
}
#else
#define QUAD_ADD(__sum, __quad, __weights) \
	__sum = quad_add(__weights(p0), uintBitsToFloat(xs[at + (__quad)]), __sum)
#endif
#else
#define QUAD_ADD(__sum, __quad, __weights) \
	__sum = quad_add(__weights(p0), at + (__quad) * uint(TOKENS), __sum)
#endif

#if PANELS == 2
#define LOAD(__piece) \
	uvec4 p0 = quants[b0 + 32u * (__piece)], p1 = quants[b1 + 32u * (__piece)]
#else
#define LOAD(__piece) uvec4 p0 = quants[b0 + 32u * (__piece)]
#endif

/* Pieces of a block, 16 bytes of each of the 32 rows. */
const uint PIECES = LAYOUT == LAYOUT_F32_R32 ? 8u : LAYOUT == LAYOUT_F16_R32 ? 4u :
		    LAYOUT == LAYOUT_Q8_R32 ? 2u : 1u;

/* Of block number b. */
float mm_scale(uint b)
{
	uint row = lane() & 31u;

	return f16_float(scales[b * 16u + row / 2u] >> (row & 1u) * 16u);
}

/* sum + s, which is the block's sum without its scale. */
sum_t sum_add(sum_t s, uint block0, uint block1, sum_t sum)
{
#if PANELS == 2
	precise vec2 next = fma(s, vec2(mm_scale(block0), mm_scale(block1)), sum);

	return next;
#elif TOKENS == 8
	float d = mm_scale(block0);
	precise vec4 a = fma(s[0], vec4(d), sum[0]);
	precise vec4 b = fma(s[1], vec4(d), sum[1]);

	return mat2x4(a, b);
#else
	precise sum_t next = fma(s, sum_t(mm_scale(block0)), sum);

	return next;
#endif
}

#define W_F32(__p)	uintBitsToFloat(__p)
#define W_F16A(__p)	f16_quad(__p.x, __p.y)
#define W_F16B(__p)	f16_quad(__p.z, __p.w)
#define W_Q8X(__p)	q8_quad(__p.x)
#define W_Q8Y(__p)	q8_quad(__p.y)
#define W_Q8Z(__p)	q8_quad(__p.z)
#define W_Q8W(__p)	q8_quad(__p.w)
#define W_LOWX(__p)	q4_quad(__p.x)
#define W_LOWY(__p)	q4_quad(__p.y)
#define W_LOWZ(__p)	q4_quad(__p.z)
#define W_LOWW(__p)	q4_quad(__p.w)
#define W_HIGHX(__p)	q4_quad(__p.x >> 4)
#define W_HIGHY(__p)	q4_quad(__p.y >> 4)
#define W_HIGHZ(__p)	q4_quad(__p.z >> 4)
#define W_HIGHW(__p)	q4_quad(__p.w >> 4)

/* sum += the block's rows . x; b0, b1: numbers of the block in the planes, xb: in the chunk. */
sum_t mm_block(uint block0, uint block1, uint xb, sum_t sum)
{
	uint b0 = block0 * PIECES * 32u + (lane() & 31u);
	uint b1 = block1 * PIECES * 32u + (lane() & 31u);
	uint at = xb * 8u * uint(TOKENS);
	sum_t s = sum_t(0.0);

	if (LAYOUT == LAYOUT_F32_R32) {
		for (uint i = 0u; i < 8u; i++) {
			LOAD(i);

			QUAD_ADD(sum, i, W_F32);
		}
		return sum;
	}
	if (LAYOUT == LAYOUT_F16_R32) {
		for (uint i = 0u; i < 4u; i++) {
			LOAD(i);

			QUAD_ADD(sum, 2u * i, W_F16A);
			QUAD_ADD(sum, 2u * i + 1u, W_F16B);
		}
		return sum;
	}
	if (LAYOUT == LAYOUT_Q8_R32) {
		for (uint i = 0u; i < 2u; i++) {
			LOAD(i);

			QUAD_ADD(s, 4u * i, W_Q8X);
			QUAD_ADD(s, 4u * i + 1u, W_Q8Y);
			QUAD_ADD(s, 4u * i + 2u, W_Q8Z);
			QUAD_ADD(s, 4u * i + 3u, W_Q8W);
		}
	} else {
		LOAD(0u);

		QUAD_ADD(s, 0u, W_LOWX);
		QUAD_ADD(s, 1u, W_LOWY);
		QUAD_ADD(s, 2u, W_LOWZ);
		QUAD_ADD(s, 3u, W_LOWW);
		QUAD_ADD(s, 4u, W_HIGHX);
		QUAD_ADD(s, 5u, W_HIGHY);
		QUAD_ADD(s, 6u, W_HIGHZ);
		QUAD_ADD(s, 7u, W_HIGHW);
	}
	return sum_add(s, block0, block1, sum);
}

/* ---- the product ------------------------------------------------------------------------- */

/* The first block of this split in a chunk. */
uint split_first(uint first)
{
	if (CHUNK % KS == 0u)
		return lane() / 32u;
	return (lane() / 32u + KS - first % KS) % KS;
}

/*
 * Rows of the panels `panel0` and `panel1` (numbered in what is bound) times x, for lanes below 32.
 * fill: x is not in shared memory yet.
 */
sum_t mm_panels(uint panel0, uint panel1, bool fill)
{
	sum_t sum = sum_t(0.0);

	for (uint first = 0u; first < BLOCKS; first += CHUNK) {
		uint blocks = min(CHUNK, BLOCKS - first);

		if (fill || BLOCKS > CHUNK) {
			barrier();
			mm_fill(first, blocks);
			barrier();
		} else {
			barrier();	/* slots of the panels before may still be read */
		}
		for (uint b = split_first(first); b < blocks; b += KS)
			sum = mm_block(panel0 * BLOCKS + first + b, panel1 * BLOCKS + first + b, b,
				       sum);
	}
	return splits_sum(sum);
}
