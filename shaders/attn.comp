/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * Attention of one row and up to four query heads of one KV head over one chunk of 64 cells:
 * scores, their softmax, and the weighted sum of V, un-normalised. Heads run together so that K
 * and V are read once for them.
 *
 * Up to 256 invocations. Scores: cell i / 4, head i % 4. Sums: element i % HEAD_DIM of V, all four
 * heads, and every SPLITS-th cell.
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
const uint TILE = 4u;			/* query heads at once: UNPU_VK_HEADS */
const uint PARTS = 256u;
const uint LANES = gl_WorkGroupSize.x;
const uint GROUP = HEADS / KV_HEADS;
const uint HEADS_AT_ONCE = GROUP < TILE ? GROUP : TILE;
const uint TILES = (GROUP + TILE - 1u) / TILE;
const uint QUADS = HEAD_DIM / 4u;			/* of elements in a head */
const uint WORDS = KV_TYPE == KV_F16 ? HEAD_DIM / 2u : HEAD_DIM;
const uint SPLITS = LANES > HEAD_DIM ? LANES / HEAD_DIM : 1u;

/* All items; no loop where there is one for each invocation, for compilers keep even that. */
#define EACH(i, items, call) \
	if ((items) <= LANES) { \
		uint i = gl_LocalInvocationID.x; \
		if (i < (items)) \
			call; \
	} else { \
		[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < (items); i += LANES) \
			call; \
	}

shared uint shared_cell, shared_slot;
shared float weights[256];	/* [cell][head]: scores, then exp(score - max) */
shared float maxima[32];	/* [part][head] */
shared float sums[32];
shared float parts[1024];	/* [head][split of the sums of V] */

/* Cells of the chunk that the row attends to. */
uint count()
{
	return min(min(shared_cell, CELLS - 1u) - gl_WorkGroupID.y * CHUNK, CHUNK - 1u) + 1u;
}

/* Tiles of a KV head's query heads are work-groups of their own. */
uint kv_head()
{
	return (push.base + gl_WorkGroupID.x) / TILES;
}

/* The first cell of the chunk in K, or in V. */
uint first_cell(uint half_of_kv)
{
	uint head = half_of_kv * KV_HEADS + kv_head();

	return (head * SLOTS + min(shared_slot, SLOTS - 1u)) * CELLS + gl_WorkGroupID.y * CHUNK;
}

/* The first query head. The last four of a group are done with some that others do too, to the same
 * bits: that spares loads a bound. */
uint first_head()
{
	uint tile = (push.base + gl_WorkGroupID.x) % TILES;

	return kv_head() * GROUP + (GROUP > TILE ? min(tile * TILE, GROUP - TILE) : 0u);
}

/* That head among the partials. */
uint first_partial()
{
	return (gl_WorkGroupID.z * (CELLS / CHUNK) + gl_WorkGroupID.y) * HEADS + first_head();
}

vec4 load_k(uint quad)
{
	if (KV_TYPE == KV_F16) {
		uvec2 raw = kv_halves[quad];

		return vec4(unpackHalf2x16(raw.x), unpackHalf2x16(raw.y));
	}
	return uintBitsToFloat(kv_floats[quad]);
}

/* Not max(), which may take a NaN for the larger one. */
float larger(float a, float b)
{
	return b > a ? b : a;
}

/* Element i of the cell at `word`. */
float element(uint word, uint i)
{
	if (KV_TYPE == KV_F16)
		return unpackHalf2x16(kv_words[word + i / 2u] >> i % 2u * 16u).x;
	return uintBitsToFloat(kv_words[word + i]);
}

/* ---- the phases of a turn, a barrier behind each -------------------------------------------- */

/* weights = scores, -infinity behind the row's own cell. */
void find_score(uint i)
{
	uint cell = i / TILE, head = i % TILE;
	float s = uintBitsToFloat(0xff800000u);

	if (cell < count() && head < HEADS_AT_ONCE) {
		uint at = (gl_WorkGroupID.z * HEADS + first_head() + head) * QUADS;
		uint k = (first_cell(0u) + cell) * QUADS;

		s = 0.0;
		[[dont_unroll]] for (uint p = 0u; p < QUADS; p++)
			s += dot(q[at + p], load_k(k + p));
		s *= SCALE;
	}
	weights[i] = s;
}

/* The largest score of each head, in eight parts. */
void find_maxima()
{
	uint lane = gl_LocalInvocationID.x;
	float most;

	if (lane >= 32u)
		return;
	most = weights[lane];
	[[dont_unroll]] for (uint i = lane + 32u; i < CHUNK * TILE; i += 32u)
		most = larger(most, weights[i]);
	maxima[lane] = most;
}

/* Scores become weights. */
void weigh(uint i)
{
	float most = maxima[i % TILE];

	[[dont_unroll]] for (uint j = i % TILE + TILE; j < 32u; j += TILE)
		most = larger(most, maxima[j]);
	weights[i] = i / TILE < count() ? exp(weights[i] - most) : 0.0;
}

/* The sum of the weights of each head, in eight parts. */
void sum_weights()
{
	uint lane = gl_LocalInvocationID.x;
	float sum = 0.0;

	if (lane >= 32u)
		return;
	[[dont_unroll]] for (uint i = lane; i < CHUNK * TILE; i += 32u)
		sum += weights[i];
	sums[lane] = sum;
}

/* Splits of the sums of V. */
void split_sums(uint i)
{
	uint cells = count(), cell = i / HEAD_DIM;
	uint v = (first_cell(1u) + cell) * WORDS;
	vec4 o = vec4(0.0);

	[[dont_unroll]] for (; cell < cells; cell += SPLITS, v += SPLITS * WORDS) {
		float e = element(v, i % HEAD_DIM);
		uint at = cell * TILE;

		o += vec4(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]) * e;
	}
	parts[i] = o.x;
	parts[PARTS + i] = o.y;
	parts[2u * PARTS + i] = o.z;
	parts[3u * PARTS + i] = o.w;
}

/* Element i of the heads of this turn. */
void store_sum(uint i)
{
	uint from = i / HEAD_DIM * PARTS + i % HEAD_DIM;
	float o = 0.0;

	[[dont_unroll]] for (uint split = 0u; split < SPLITS; split++)
		o += parts[from + split * HEAD_DIM];
	partials[first_partial() * HEAD_DIM + i] = o;
}

/* {max, sum} of each head: one word an invocation. */
void store_softmax()
{
	uint lane = gl_LocalInvocationID.x, head = lane / 2u;
	uint at = ROWS * (CELLS / CHUNK) * HEADS * HEAD_DIM + 2u * first_partial();
	float v;

	if (head >= HEADS_AT_ONCE)
		return;
	v = lane % 2u == 0u ? maxima[head] : sums[head];
	[[dont_unroll]] for (uint i = head + TILE; i < 32u; i += TILE)
		v = lane % 2u == 0u ? larger(v, maxima[i]) : v + sums[i];
	partials[at + lane] = v;
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
	EACH(i, CHUNK * TILE, find_score(i))
	barrier();
	find_maxima();
	barrier();
	EACH(i, CHUNK * TILE, weigh(i))
	barrier();
	sum_weights();
	EACH(i, HEAD_DIM * SPLITS, split_sums(i))
	barrier();
	EACH(i, HEAD_DIM * HEADS_AT_ONCE, store_sum(i))
	store_softmax();
}
