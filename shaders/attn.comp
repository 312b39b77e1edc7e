/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * Attention of one row and one KV head over one chunk of 64 cells, for all query heads of its
 * group: scores, their softmax, and the weighted sum of V, un-normalised. Four query heads run
 * together, as the components of a vector, so that K and V are read once for them.
 *
 * Up to 256 invocations. Scores: cell i % 64, and every SLICES-th piece of 16 bytes of its K. Sums:
 * two elements of V, and every SPLITS-th cell.
 */
#extension GL_GOOGLE_include_directive : require
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
const uint LANES = gl_WorkGroupSize.x;
const uint GROUP = HEADS / KV_HEADS;
const uint PIECES = KV_TYPE == KV_F16 ? HEAD_DIM / 8u : HEAD_DIM / 4u;	/* of a cell */
const uint WORDS = KV_TYPE == KV_F16 ? HEAD_DIM / 2u : HEAD_DIM;
const uint SLICES = LANES > CHUNK ? LANES / CHUNK : 1u;
const uint PAIRS = HEAD_DIM / 2u;
const uint SPLITS = LANES > PAIRS ? LANES / PAIRS : 1u;

shared uint shared_cell, shared_slot;
shared vec4 weights[64];	/* of each cell, for four heads: scores, then exp(score - max) */
shared vec4 maxima[8];
shared vec4 sums[8];
shared vec4 parts[512];		/* of scores or sums */

/* Not max(), which may drop a NaN's order: here a NaN is never the larger one. */
vec4 larger(vec4 a, vec4 b)
{
	return mix(a, b, greaterThan(b, a));
}

/* One slice of q . k for four heads; `at` is q of the first in vec4s, k the cell in pieces. */
vec4 score(uint at, uint k, uint slice)
{
	const uint STEP = HEAD_DIM / 4u;
	vec4 s = vec4(0.0);

	for (uint p = slice; p < PIECES; p += SLICES) {
		uvec4 raw = kv_pieces[k + p];

		if (KV_TYPE == KV_F16) {
			vec4 a = vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
			vec4 b = vec4(unpackHalf2x16(raw.z), unpackHalf2x16(raw.w));
			uint i = at + 2u * p;

			s.x += dot(q[i], a) + dot(q[i + 1u], b);
			if (GROUP > 1u)
				s.y += dot(q[i + STEP], a) + dot(q[i + STEP + 1u], b);
			if (GROUP > 2u)
				s.z += dot(q[i + 2u * STEP], a) + dot(q[i + 2u * STEP + 1u], b);
			if (GROUP > 3u)
				s.w += dot(q[i + 3u * STEP], a) + dot(q[i + 3u * STEP + 1u], b);
		} else {
			vec4 a = uintBitsToFloat(raw);
			uint i = at + p;

			s.x += dot(q[i], a);
			if (GROUP > 1u)
				s.y += dot(q[i + STEP], a);
			if (GROUP > 2u)
				s.z += dot(q[i + 2u * STEP], a);
			if (GROUP > 3u)
				s.w += dot(q[i + 3u * STEP], a);
		}
	}
	return s;
}

/* weights = scores of `count` cells, -infinity behind them. */
void scores(uint at, uint k, uint count)
{
	const float NONE = uintBitsToFloat(0xff800000u);

	for (uint i = gl_LocalInvocationID.x; i < CHUNK * SLICES; i += LANES) {
		uint cell = i % CHUNK;
		vec4 s = vec4(NONE);

		if (cell < count)
			s = score(at, k + cell * PIECES, i / CHUNK) * SCALE;
		if (SLICES == 1u)
			weights[cell] = s;
		else
			parts[i] = s;
	}
	barrier();
	if (SLICES == 1u)
		return;
	if (gl_LocalInvocationID.x < CHUNK) {
		vec4 s = parts[gl_LocalInvocationID.x];

		for (uint i = 1u; i < SLICES; i++)
			s += parts[i * CHUNK + gl_LocalInvocationID.x];
		weights[gl_LocalInvocationID.x] = s;
	}
	barrier();
}

/* Scores become weights; their largest is returned and their sum, in eight parts, in `sums`. */
vec4 softmax(uint count)
{
	uint lane = gl_LocalInvocationID.x;
	vec4 most, sum;

	if (lane < 8u) {
		most = weights[lane];
		for (uint i = 8u; i < CHUNK; i += 8u)
			most = larger(most, weights[i + lane]);
		maxima[lane] = most;
	}
	barrier();
	most = maxima[0];
	for (uint i = 1u; i < 8u; i++)
		most = larger(most, maxima[i]);
	for (uint i = lane; i < CHUNK; i += LANES)
		weights[i] = i < count ? exp(weights[i] - most) : vec4(0.0);
	barrier();
	if (lane < 8u) {
		sum = weights[lane];
		for (uint i = 8u; i < CHUNK; i += 8u)
			sum += weights[i + lane];
		sums[lane] = sum;
	}
	return most;
}

vec2 load_pair(uint word)
{
	if (KV_TYPE == KV_F16)
		return unpackHalf2x16(kv_words[word]);
	return uintBitsToFloat(uvec2(kv_words[word], kv_words[word + 1u]));
}

/* Element i of the heads from the one at `to` on. */
void store(uint to, uint i, vec4 o)
{
	partials[to * HEAD_DIM + i] = o.x;
	if (GROUP > 1u)
		partials[(to + 1u) * HEAD_DIM + i] = o.y;
	if (GROUP > 2u)
		partials[(to + 2u) * HEAD_DIM + i] = o.z;
	if (GROUP > 3u)
		partials[(to + 3u) * HEAD_DIM + i] = o.w;
}

/* v: the chunk's first cell in words. */
void weighted(uint v, uint count, uint to)
{
	for (uint i = gl_LocalInvocationID.x; i < PAIRS * SPLITS; i += LANES) {
		uint pair = i % PAIRS, word = v + pair * (WORDS / PAIRS);
		vec4 even = vec4(0.0), odd = vec4(0.0);

		for (uint cell = i / PAIRS; cell < count; cell += SPLITS) {
			vec2 e = load_pair(word + cell * WORDS);
			vec4 w = weights[cell];

			even += w * e.x;
			odd += w * e.y;
		}
		if (SPLITS == 1u) {
			store(to, 2u * pair, even);
			store(to, 2u * pair + 1u, odd);
		} else {
			parts[2u * i] = even;
			parts[2u * i + 1u] = odd;
		}
	}
	barrier();
	if (SPLITS == 1u)
		return;
	for (uint i = gl_LocalInvocationID.x; i < HEAD_DIM; i += LANES) {
		vec4 o = parts[i];

		for (uint s = 1u; s < SPLITS; s++)
			o += parts[s * HEAD_DIM + i];
		store(to, i, o);
	}
}

/* {max, sum} of the heads from the one at `to` on. */
void store_sums(uint to, vec4 most)
{
	uint at = ROWS * (CELLS / CHUNK) * HEADS * HEAD_DIM + 2u * to;
	vec4 sum = sums[0];

	for (uint i = 1u; i < 8u; i++)
		sum += sums[i];
	partials[at] = most.x;
	partials[at + 1u] = sum.x;
	if (GROUP > 1u) {
		partials[at + 2u] = most.y;
		partials[at + 3u] = sum.y;
	}
	if (GROUP > 2u) {
		partials[at + 4u] = most.z;
		partials[at + 5u] = sum.z;
	}
	if (GROUP > 3u) {
		partials[at + 6u] = most.w;
		partials[at + 7u] = sum.w;
	}
}

void main()
{
	uint head = push.base + gl_WorkGroupID.x, chunk = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
	uint chunks = push.words[0], cell, slot, live, count, first, k, v;

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
	/* The last four of a group are done with some done before: that spares every load a bound. */
	for (uint t = 0u; t < GROUP; t += 4u) {
		uint to;
		vec4 most;

		first = head * GROUP + (GROUP > 4u ? min(t, GROUP - 4u) : 0u);
		to = (row * (CELLS / CHUNK) + chunk) * HEADS + first;
		scores((row * HEADS + first) * (HEAD_DIM / 4u), k * PIECES, count);
		most = softmax(count);
		weighted(v * WORDS, count, to);
		if (gl_LocalInvocationID.x == 0u)
			store_sums(to, most);
		barrier();
	}
}
