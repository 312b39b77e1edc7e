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
 * The shader defines before including this: TOKENS (1, 2 or 4); XS, 8-byte words of x in shared
 * memory; LAYOUT and INPUTS, K; X_DIRECT where x needs no preparing.
 *
 * For V3D, whose registers are 16 where 4 threads share them: no store of 16 bytes, and whatever is
 * loaded is loaded next to its use.
 */
/* Classes that round x to something else, block by block. */
#if !defined(MATH_F32) && !defined(MATH_F32S)
#define PREPARE
#endif
#ifdef MATH_F32S
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#include "common.glsl"

layout(std430, binding = 1) readonly buffer Input { vec4 source[]; };
layout(std430, binding = 1) readonly buffer Input2 { vec2 source2[]; };
layout(std430, binding = 2) readonly buffer Params { float params[]; };
layout(std430, binding = 2) readonly buffer Params2 { vec2 params2[]; };
layout(std430, binding = 3) readonly buffer Quants { uvec4 quants[]; };
layout(std430, binding = 4) readonly buffer Scales { uint scales[]; };

const uint KS = gl_WorkGroupSize.x / 32u;
const uint BLOCKS = (INPUTS + 31u) / 32u;
/* Blocks of one chunk: as many as there is room for, the same number for every split. */
const uint ROOM = XS / (16u * TOKENS);
#if defined(X_DIRECT) && !defined(PREPARE)
const uint CHUNK = BLOCKS;
#else
const uint CHUNK = ROOM - ROOM % KS;
#endif

const uint FLAG_NORM_BIAS = 1u;
const uint FLAG_BIAS = 2u;
const uint FLAG_QK_NORM = 4u;
const uint FLAG_GATED = 8u;
const uint NORM_LAYER = 1u;

/* One number for each token of the tile. */
#if TOKENS == 1
#define tokens_t float
#define itokens_t int
#define EACH_TOKEN(__f, __v)	__f(0u, __v)
#define EACH_TOKEN2(__f, __v, __w)	__f(0u, __v, __w)
#elif TOKENS == 2
#define tokens_t vec2
#define itokens_t ivec2
#define EACH_TOKEN(__f, __v) { __f(0u, (__v).x); __f(1u, (__v).y); }
#define EACH_TOKEN2(__f, __v, __w) { __f(0u, (__v).x, (__w).x); __f(1u, (__v).y, (__w).y); }
#else
#define tokens_t vec4
#define itokens_t ivec4
#define EACH_TOKEN(__f, __v) { \
	__f(0u, (__v).x); __f(1u, (__v).y); __f(2u, (__v).z); __f(3u, (__v).w); \
}
#define EACH_TOKEN2(__f, __v, __w) { \
	__f(0u, (__v).x, (__w).x); __f(1u, (__v).y, (__w).y); \
	__f(2u, (__v).z, (__w).z); __f(3u, (__v).w, (__w).w); \
}
#endif

/* __v = __f(t, number of token t, a, b) */
#if TOKENS == 1
#define MAP_TOKENS(__v, __f, __a, __b) __v = __f(0u, __v, __a, __b)
#elif TOKENS == 2
#define MAP_TOKENS(__v, __f, __a, __b) { \
	__v.x = __f(0u, __v.x, __a, __b); \
	__v.y = __f(1u, __v.y, __a, __b); \
}
#else
#define MAP_TOKENS(__v, __f, __a, __b) { \
	__v.x = __f(0u, __v.x, __a, __b); \
	__v.y = __f(1u, __v.y, __a, __b); \
	__v.z = __f(2u, __v.z, __a, __b); \
	__v.w = __f(3u, __v.w, __a, __b); \
}
#endif

/*
 * x of a chunk: [token][k / 2]. Between the panels, where TOKENS > 1, what invocations have to tell
 * each other.
 */
shared uvec2 xs[XS];
#if TOKENS == 1
shared float sums[256];
#endif

uint lane()
{
	return gl_LocalInvocationID.x;
}

/* ---- the tile of tokens ------------------------------------------------------------------ */

uint tile_first = gl_WorkGroupID.y * uint(TOKENS);
uint tile_rows;		/* that are live */
uint tile_mask;		/* ~0, or 0 without any */

/*
 * Called first, once. With one row a tile, invocations need not agree on whether there are rows,
 * but for barriers: one that reads for all is a barrier more for every token. With several, they
 * do, and a tile of a prompt that is shorter than the program leaves at once.
 */
void tile_init();

bool tile_is_dead()
{
	return TOKENS > 1 && tile_rows == 0u;
}

/* A row of x for each token, the last one again past the live. */
uint tile_row(uint t);

#ifndef OWN_TILE
void tile_init()
{
#if TOKENS == 1
	uint live = state_live_here();
#else
	uint live = state_live();
#endif

	tile_rows = min(live - min(live, tile_first), uint(TOKENS));
	tile_mask = tile_rows > 0u ? ~0u : 0u;
}

uint tile_row(uint t)
{
	return tile_first + (TOKENS > 1 ? min(t, tile_rows - 1u) : 0u);
}
#endif

/*
 * The bound of a loop that is left out where there are no live rows. Compilers cannot know it,
 * which keeps them from unrolling: all loads would go to the front and take registers there are
 * not.
 */
uint live_only(uint n)
{
	return n & tile_mask;
}

/* ---- invocations tell each other a number per token -------------------------------------- */

/* Slot 0..255. Those of one invocation lie apart: neighbours would become one store of 16 bytes. */
void slot_put(uint i, tokens_t v)
{
#if TOKENS == 1
	sums[i] = v;
#elif TOKENS == 2
	xs[i] = floatBitsToUint(v);
#else
	xs[i] = floatBitsToUint(v.xy);
	xs[256u + i] = floatBitsToUint(v.zw);
#endif
}

tokens_t slot_get(uint i)
{
#if TOKENS == 1
	return sums[i];
#elif TOKENS == 2
	return uintBitsToFloat(xs[i]);
#else
	return vec4(uintBitsToFloat(xs[i]), uintBitsToFloat(xs[256u + i]));
#endif
}

/* Of the invocations with the same lane() & 31, in order; for lanes below 32. Slots 0..31 are free
 * for those afterwards, the others after a barrier. */
tokens_t splits_sum(tokens_t v)
{
	precise tokens_t sum = v;

	if (KS > 1u) {
		if (TOKENS > 1)		/* slots lie over x */
			barrier();
		slot_put(lane(), v);
		barrier();
#ifdef X_DIRECT		/* has the registers */
		const uint end = KS;
#else
		uint end = live_only(KS);
#endif
		for (uint i = 1u; i < end; i++)
			sum += slot_get((lane() & 31u) + 32u * i);
	}
	return sum;
}

/* ---- x ----------------------------------------------------------------------------------- */

/* Of the shader: inputs 2 k2 and 2 k2 + 1 of this row of x, the tile's row t. */
vec2 mm_input(uint t, uint row, uint k2);

/* Blocks first_block.. of x into shared memory, by all. */
void mm_fill(uint first_block, uint blocks)
{
	uint end = live_only(blocks * 16u * uint(TOKENS));

	for (uint i = lane(); i < end; i += gl_WorkGroupSize.x) {
		uint t = i / (blocks * 16u), k2 = i - t * blocks * 16u;

		xs[t * (CHUNK * 16u) + k2] =
			floatBitsToUint(mm_input(t, tile_row(t), first_block * 16u + k2));
	}
}

/* ---- weights ----------------------------------------------------------------------------- */

/* Pieces of a block, 16 bytes of each of the 32 rows. */
const uint PIECES = LAYOUT == LAYOUT_F32_R32 ? 8u : LAYOUT == LAYOUT_F16_R32 ? 4u :
		    LAYOUT == LAYOUT_Q8_R32 ? 2u : 1u;
const bool QUANTISED = LAYOUT == LAYOUT_Q8_R32 || LAYOUT == LAYOUT_Q4_R32;

/* Of this lane's row of block number `block` in the planes: the first 16 bytes, and the scale. */
uint mm_piece(uint block)
{
	return block * (32u * PIECES) + (lane() & 31u);
}

float mm_scale(uint block)
{
	return f16_float(scales[block * 16u + (lane() & 31u) / 2u] >> lane() * 16u % 32u);
}

tokens_t sum_scaled(tokens_t s, tokens_t d, tokens_t sum)
{
	precise tokens_t next = fma(s, d, sum);

	return next;
}

/*
 * Of mm_f32.glsl, mm_f16.glsl or mm_a8.glsl: sum += the panel's row of block number `block` in the
 * planes . x of block b of the chunk.
 */
tokens_t mm_block(uint block, uint b, tokens_t sum);

#if defined(MATH_SDOT) || defined(MATH_SUDOT)
#include "mm_a8.glsl"
#elif defined(MATH_F16)
#include "mm_f16.glsl"
#else
#include "mm_f32.glsl"
#endif

/* The lanes that a whole sum comes to, where there are rows. */
bool lane_has_sum()
{
	return lane() < live_only(32u);
}

/* ---- the product ------------------------------------------------------------------------- */

/*
 * sum += this split's share of a chunk. All splits take as many turns, so that V3D need not ask
 * whose turn it is.
 */
tokens_t mm_chunk(uint panel, uint first, uint blocks, bool fill, tokens_t sum)
{
	uint split = lane() / 32u;
	uint block = panel * BLOCKS + first + split;

#if !defined(X_DIRECT) || defined(PREPARE)
	barrier();	/* slots of the panels before may still be read */
	if (fill || BLOCKS > CHUNK || TOKENS > 1) {
		mm_fill(first, blocks);
		barrier();
#ifdef PREPARE
		for (uint i = lane(), end = live_only(blocks * uint(TOKENS)); i < end;
		     i += gl_WorkGroupSize.x)
			mm_prepare(i / blocks, i % blocks);
		barrier();
#endif
	}
#endif
	for (uint b = 0u, end = live_only(blocks); b < end; b += KS)
		if (BLOCKS % KS == 0u || b + split < blocks)
			sum = mm_block(block + b, b + split, sum);
	return sum;
}

/*
 * Rows of a panel (numbered in what is bound) times x, for lanes below 32. fill: x is not in shared
 * memory yet.
 */
tokens_t mm_panel(uint panel, bool fill)
{
	tokens_t sum = tokens_t(0.0);

	/* No driver unrolls a loop around loops, not even one of one turn. */
	if (BLOCKS <= CHUNK) {
		sum = mm_chunk(panel, 0u, BLOCKS, fill, sum);
	} else {
		for (uint first = 0u; first < BLOCKS; first += CHUNK)
			sum = mm_chunk(panel, first, min(CHUNK, BLOCKS - first), fill, sum);
	}
	return splits_sum(sum);
}
