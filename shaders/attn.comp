/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * Attention of one row and one KV head over one chunk of 64 cells, for all query heads of its
 * group: scores, their softmax, and the weighted sum of V, un-normalised. Four query heads run
 * together, so that K and V are read once for them.
 *
 * Up to 256 invocations. Scores: cell i % 64, and four elements of every 4 SLICES of its K. Sums:
 * element i % HEAD_DIM of V, and every SPLITS-th cell.
 *
 * VideoCore runs four threads instead of two where a shader has no store of four words and at most
 * 16 values alive: hence arrays of floats, loops that are not to be unrolled, and places that are
 * made again from shared memory behind every barrier.
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
layout(std430, binding = 2) readonly buffer KvHalves { uvec2 kv_halves[]; };
layout(std430, binding = 2) readonly buffer KvFloats { uvec4 kv_floats[]; };
layout(std430, binding = 2) readonly buffer KvWords { uint kv_words[]; };
layout(std430, binding = 3) writeonly buffer Partials { float partials[]; };

const uint CHUNK = 64u;
const uint TILE = 4u;					/* query heads at once */
const uint PARTS = 256u;
const uint LANES = gl_WorkGroupSize.x;
const uint GROUP = HEADS / KV_HEADS;
const uint HEADS_AT_ONCE = GROUP < TILE ? GROUP : TILE;
const uint QUADS = HEAD_DIM / 4u;			/* of elements in a head */
const uint WORDS = KV_TYPE == KV_F16 ? HEAD_DIM / 2u : HEAD_DIM;
const uint SLICES = LANES > CHUNK ? LANES / CHUNK : 1u;
const uint SPLITS = LANES > HEAD_DIM ? LANES / HEAD_DIM : 1u;

shared uint shared_cell, shared_slot;
shared float weights[256];	/* [cell][head]: scores, then exp(score - max) */
shared float maxima[32];	/* [part][head] */
shared float sums[32];
shared float parts[1024];	/* [head][slice of scores or split of sums] */

/* Cells of the chunk that the row attends to. */
uint count()
{
	return min(min(shared_cell, CELLS - 1u) - gl_WorkGroupID.y * CHUNK, CHUNK - 1u) + 1u;
}

/* The first cell of the chunk in K, or in V. */
uint first_cell(uint half_of_kv)
{
	uint head = half_of_kv * KV_HEADS + push.base + gl_WorkGroupID.x;

	return (head * SLOTS + min(shared_slot, SLOTS - 1u)) * CELLS + gl_WorkGroupID.y * CHUNK;
}

/* The first query head of this turn. The last four of a group are done with some done before: that
 * spares loads a bound. */
uint first_head(uint turn)
{
	return (push.base + gl_WorkGroupID.x) * GROUP +
	       (GROUP > TILE ? min(turn * TILE, GROUP - TILE) : 0u);
}

/* That head among the partials. */
uint first_partial(uint turn)
{
	return (gl_WorkGroupID.z * (CELLS / CHUNK) + gl_WorkGroupID.y) * HEADS + first_head(turn);
}

vec4 load_k(uint quad)
{
	if (KV_TYPE == KV_F16) {
		uvec2 raw = kv_halves[quad];

		return vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
	}
	return uintBitsToFloat(kv_floats[quad]);
}

/* One slice of q . k for four heads; both begin at these quads. */
vec4 score(uint at, uint k, uint slice)
{
	vec4 s = vec4(0.0);

	[[dont_unroll]] for (uint p = slice; p < QUADS; p += SLICES) {
		vec4 e = load_k(k + p);

		s.x += dot(q[at + p], e);
		if (GROUP > 1u)
			s.y += dot(q[at + p + QUADS], e);
		if (GROUP > 2u)
			s.z += dot(q[at + p + 2u * QUADS], e);
		if (GROUP > 3u)
			s.w += dot(q[at + p + 3u * QUADS], e);
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

/* weights = scores, -infinity behind the row's own cell. */
void scores(uint turn)
{
	uint q_at = (gl_WorkGroupID.z * HEADS + first_head(turn)) * QUADS;
	uint k = first_cell(0u) * QUADS, cells = count();

	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < CHUNK * SLICES; i += LANES)
		if (i % CHUNK < cells)
			put_parts(i, score(q_at, k + i % CHUNK * QUADS, i / CHUNK));
	barrier();
	cells = count();
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < CHUNK * TILE; i += LANES) {
		uint cell = i / TILE, from = i % TILE * PARTS + cell;
		float s = 0.0;

		[[dont_unroll]] for (uint slice = 0u; slice < SLICES; slice++)
			s += parts[from + slice * CHUNK];
		weights[i] = cell < cells ? s * SCALE : uintBitsToFloat(0xff800000u);
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
void softmax()
{
	uint lane = gl_LocalInvocationID.x, cells;

	if (lane < 32u) {
		float most = weights[lane];

		[[dont_unroll]] for (uint i = lane + 32u; i < CHUNK * TILE; i += 32u)
			most = larger(most, weights[i]);
		maxima[lane] = most;
	}
	barrier();
	cells = count();
	[[dont_unroll]] for (uint i = lane; i < CHUNK * TILE; i += LANES)
		weights[i] = i / TILE < cells ? exp(weights[i] - most_of(i % TILE)) : 0.0;
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

void weighted(uint turn)
{
	uint v = first_cell(1u) * WORDS, cells = count(), to;

	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < HEAD_DIM * SPLITS; i += LANES) {
		vec4 o = vec4(0.0);

		[[dont_unroll]] for (uint cell = i / HEAD_DIM; cell < cells; cell += SPLITS) {
			float e = element(v + cell * WORDS, i % HEAD_DIM);
			uint at = cell * TILE;

			o += vec4(weights[at], weights[at + 1u], weights[at + 2u],
				  weights[at + 3u]) * e;
		}
		put_parts(i, o);
	}
	barrier();
	to = first_partial(turn) * HEAD_DIM;
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < HEAD_DIM * HEADS_AT_ONCE;
			     i += LANES) {
		uint from = i / HEAD_DIM * PARTS + i % HEAD_DIM;
		float o = 0.0;

		[[dont_unroll]] for (uint split = 0u; split < SPLITS; split++)
			o += parts[from + split * HEAD_DIM];
		partials[to + i] = o;
	}
}

/* {max, sum} of each head. */
void store_sums(uint turn)
{
	uint head = gl_LocalInvocationID.x, at;
	float sum = 0.0;

	if (head >= HEADS_AT_ONCE)
		return;
	at = ROWS * (CELLS / CHUNK) * HEADS * HEAD_DIM + 2u * (first_partial(turn) + head);
	[[dont_unroll]] for (uint i = head; i < 32u; i += TILE)
		sum += sums[i];
	partials[at] = most_of(head);
	partials[at + 1u] = sum;
}

void main()
{
	uint row = gl_WorkGroupID.z, cell;

	if (gl_LocalInvocationID.x == 0u) {
		shared_cell = row_word(row, ROW_CELL);
		shared_slot = row_word(row, ROW_SLOT);
	}
	if (row >= state_live())
		return;
	cell = state_clamp(shared_cell, CELLS);
	state_clamp(shared_slot, SLOTS);
	/* A cell inside the cache may still be past the context bucket. */
	if (cell / CHUNK >= push.words[0])
		state_fault(FAULT_INDEX);
	if (gl_WorkGroupID.y * CHUNK > cell)
		return;
	for (uint turn = 0u; turn * TILE < GROUP; turn++) {
		scores(turn);
		softmax();
		weighted(turn);
		store_sums(turn);
		barrier();
	}
}
