/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * Attention of one row and one KV head over one chunk of 64 cells, for all query heads of its
 * group: scores, their softmax, and the weighted sum of V, un-normalised. Four query heads run
 * together, so that K and V are read once for them.
 *
 * Up to 256 invocations. Scores: cell i % 64, and every SLICES-th piece of 16 bytes of its K. Sums:
 * element i % HEAD_DIM of V, and every SPLITS-th cell.
 *
 * VideoCore runs four threads instead of two where a shader has no store of four words and at most
 * 16 values alive: hence arrays of floats, and loops that are not to be unrolled.
 */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"

layout(constant_id = 2) const uint CELLS = 64u;
layout(constant_id = 3) const uint HEADS = 4u;
layout(constant_id = 4) const uint KV_HEADS = 1u;
layout(constant_id = 5) const uint HEAD_DIM = 64u;
layout(constant_id = 6) const uint KV_TYPE = 1u;
layout(constant_id = 7) const float SCALE = 1.0;

layout(std430, binding = 1) readonly buffer Q { vec4 q[]; };
layout(std430, binding = 2) readonly buffer KvPieces { uvec4 kv_pieces[]; };
layout(std430, binding = 2) readonly buffer KvWords { uint kv_words[]; };
layout(std430, binding = 3) writeonly buffer Partials { float partials[]; };

const uint CHUNK = 64u;
const uint TILE = 4u;					/* query heads at once */
const uint PARTS = 256u;
const uint LANES = gl_WorkGroupSize.x;
const uint GROUP = HEADS / KV_HEADS;
const uint HEADS_AT_ONCE = GROUP < TILE ? GROUP : TILE;
const uint STEP = HEAD_DIM / 4u;			/* from head to head in q */
const uint PIECES = KV_TYPE == KV_F16 ? HEAD_DIM / 8u : HEAD_DIM / 4u;	/* of a cell */
const uint WORDS = KV_TYPE == KV_F16 ? HEAD_DIM / 2u : HEAD_DIM;
const uint SLICES = LANES > CHUNK ? LANES / CHUNK : 1u;
const uint SPLITS = LANES > HEAD_DIM ? LANES / HEAD_DIM : 1u;

shared uint shared_cell, shared_slot;
shared float weights[256];	/* [cell][head]: scores, then exp(score - max) */
shared float maxima[32];	/* [part][head] */
shared float sums[32];
shared float parts[1024];	/* [head][slice of scores or split of sums] */

void dot4(inout vec4 s, uint at, vec4 k)
{
	s.x += dot(q[at], k);
	if (GROUP > 1u)
		s.y += dot(q[at + STEP], k);
	if (GROUP > 2u)
		s.z += dot(q[at + 2u * STEP], k);
	if (GROUP > 3u)
		s.w += dot(q[at + 3u * STEP], k);
}

/* One slice of q . k for four heads; `at` is q of the first in vec4s, k the cell in pieces. */
vec4 score(uint at, uint k, uint slice)
{
	vec4 s = vec4(0.0);

	[[dont_unroll]] for (uint p = slice; p < PIECES; p += SLICES) {
		uvec4 raw = kv_pieces[k + p];

		if (KV_TYPE == KV_F16) {
			dot4(s, at + 2u * p, vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y)));
			dot4(s, at + 2u * p + 1u,
			     vec4(unpackHalf2x16(raw.z), unpackHalf2x16(raw.w)));
		} else {
			dot4(s, at + p, uintBitsToFloat(raw));
		}
	}
	return s;
}

void put_parts(uint i, vec4 v)
{
	parts[i] = v.x;
	parts[PARTS + i] = v.y;
	parts[2u * PARTS + i] = v.z;
	parts[3u * PARTS + i] = v.w;
}

/* weights = scores of `count` cells, -infinity behind them. */
void scores(uint at, uint k, uint count)
{
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < CHUNK * SLICES; i += LANES)
		if (i % CHUNK < count)
			put_parts(i, score(at, k + i % CHUNK * PIECES, i / CHUNK));
	barrier();
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < CHUNK * TILE; i += LANES) {
		uint cell = i / TILE, from = i % TILE * PARTS + cell;
		float s = 0.0;

		[[dont_unroll]] for (uint slice = 0u; slice < SLICES; slice++)
			s += parts[from + slice * CHUNK];
		weights[i] = cell < count ? s * SCALE : uintBitsToFloat(0xff800000u);
	}
	barrier();
}

/* Not max(), which may take a NaN for the larger one. */
float larger(float a, float b)
{
	return b > a ? b : a;
}

float most_of(uint head)
{
	float most = maxima[head];

	[[dont_unroll]] for (uint i = head + TILE; i < 32u; i += TILE)
		most = larger(most, maxima[i]);
	return most;
}

/* Scores become weights; their sums are left in `sums`, to be read after a barrier. */
void softmax(uint count)
{
	uint lane = gl_LocalInvocationID.x;

	if (lane < 32u) {
		float most = weights[lane];

		[[dont_unroll]] for (uint i = lane + 32u; i < CHUNK * TILE; i += 32u)
			most = larger(most, weights[i]);
		maxima[lane] = most;
	}
	barrier();
	[[dont_unroll]] for (uint i = lane; i < CHUNK * TILE; i += LANES)
		weights[i] = i / TILE < count ? exp(weights[i] - most_of(i % TILE)) : 0.0;
	barrier();
	if (lane < 32u) {
		float sum = 0.0;

		[[dont_unroll]] for (uint i = lane; i < CHUNK * TILE; i += 32u)
			sum += weights[i];
		sums[lane] = sum;
	}
}

/* Element i of the cell at `word`. */
float element(uint word, uint i)
{
	if (KV_TYPE == KV_F16)
		return unpackHalf2x16(kv_words[word + i / 2u] >> i % 2u * 16u).x;
	return uintBitsToFloat(kv_words[word + i]);
}

/* v: the chunk's first cell in words; to: the first head among the partials. */
void weighted(uint v, uint count, uint to)
{
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < HEAD_DIM * SPLITS; i += LANES) {
		vec4 o = vec4(0.0);

		[[dont_unroll]] for (uint cell = i / HEAD_DIM; cell < count; cell += SPLITS) {
			float e = element(v + cell * WORDS, i % HEAD_DIM);
			uint at = cell * TILE;

			o += vec4(weights[at], weights[at + 1u], weights[at + 2u],
				  weights[at + 3u]) * e;
		}
		put_parts(i, o);
	}
	barrier();
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < HEAD_DIM * HEADS_AT_ONCE;
			     i += LANES) {
		uint from = i / HEAD_DIM * PARTS + i % HEAD_DIM;
		float o = 0.0;

		[[dont_unroll]] for (uint split = 0u; split < SPLITS; split++)
			o += parts[from + split * HEAD_DIM];
		partials[to * HEAD_DIM + i] = o;
	}
}

/* {max, sum} of the heads from the one at `to` on. */
void store_sums(uint to)
{
	uint head = gl_LocalInvocationID.x;
	uint at = ROWS * (CELLS / CHUNK) * HEADS * HEAD_DIM + 2u * (to + head);
	float sum = 0.0;

	if (head >= HEADS_AT_ONCE)
		return;
	[[dont_unroll]] for (uint i = head; i < 32u; i += TILE)
		sum += sums[i];
	partials[at] = most_of(head);
	partials[at + 1u] = sum;
}

void main()
{
	uint head = push.base + gl_WorkGroupID.x, chunk = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
	uint chunks = push.words[0], cell, slot, live, count, k, v;

	if (gl_LocalInvocationID.x == 0u) {
		shared_cell = row_word(row, ROW_CELL);
		shared_slot = row_word(row, ROW_SLOT);
	}
	live = state_live();
	if (row >= live)
		return;
	cell = state_clamp(shared_cell, CELLS);
	slot = state_clamp(shared_slot, SLOTS);
	/* A cell inside the cache may still be past the context bucket. */
	if (cell / CHUNK >= chunks)
		state_fault(FAULT_INDEX);
	if (chunk * CHUNK > cell)
		return;
	count = min(cell - chunk * CHUNK, CHUNK - 1u) + 1u;
	k = (head * SLOTS + slot) * CELLS + chunk * CHUNK;
	v = k + KV_HEADS * SLOTS * CELLS;
	/* The last four of a group are done with some done before: that spares loads a bound. */
	[[dont_unroll]] for (uint t = 0u; t < GROUP; t += TILE) {
		uint first = head * GROUP + (GROUP > TILE ? min(t, GROUP - TILE) : 0u);
		uint to = (row * (CELLS / CHUNK) + chunk) * HEADS + first;

		scores((row * HEADS + first) * STEP, k * PIECES, count);
		softmax(count);
		weighted(v * WORDS, count, to);
		store_sums(to);
		barrier();
	}
}
