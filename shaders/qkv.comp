/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Norm, [Wq; Wk; Wv], bias, q/k norm, rope. One work-group: one head of q, k or v of a tile. */
#version 450
#extension GL_GOOGLE_include_directive : require

layout(constant_id = 2) const uint CELLS = 256u;
layout(constant_id = 3) const uint HIDDEN = 576u;
layout(constant_id = 4) const uint HEADS = 9u;
layout(constant_id = 5) const uint KV_HEADS = 3u;
layout(constant_id = 6) const uint HEAD_DIM = 64u;
layout(constant_id = 7) const uint LAYOUT = 18u;
layout(constant_id = 8) const uint NUMERIC = 0u;
layout(constant_id = 9) const uint KV_TYPE = 1u;
layout(constant_id = 10) const uint NORM = 0u;
layout(constant_id = 11) const uint FLAGS = 0u;
layout(constant_id = 12) const float EPS = 1e-5;
layout(constant_id = 13) const uint ROPE = 1u;
layout(constant_id = 14) const uint ROPE_DIMS = 64u;
layout(constant_id = 15) const uint POSITIONS = 256u;

#define INPUTS	HIDDEN
#define XS	1024u
#include "mm.glsl"
#include "norm.glsl"

layout(std430, binding = 5) readonly buffer Rope { vec2 turns[]; };	/* {cos, sin} */
layout(std430, binding = 6) writeonly buffer Query { vec2 q[]; };
layout(std430, binding = 7) writeonly buffer Cache { uint kv[]; };
layout(std430, binding = 7) writeonly buffer Cache2 { uvec2 kv2[]; };

const uint ROPE_PAIRS = 1u;
const uint MATRIX_ROWS = (HEADS + 2u * KV_HEADS) * HEAD_DIM;
const uint HEAD_NORMS = PARAMS_NEXT + ((FLAGS & FLAG_BIAS) != 0u ? (MATRIX_ROWS + 31u) & ~31u : 0u);

shared float ys[TOKENS * 256];		/* of the head */
shared float squares[TOKENS * 8];

uint head()	/* of q, then of k, then of v */
{
	return push.base + gl_WorkGroupID.x;
}

uint head_row;	/* of the head, that this lane's sum is; large where it is of another */

void head_put(uint t, float y)
{
	ys[t * 256u + head_row] = y;
}

/* Where the head's rows begin in the first of its panels. */
uint head_begin()
{
	return HEAD_DIM % 32u == 0u ? 0u : head() * HEAD_DIM % 32u;
}

/* Its first panel, numbered from the one that the planes are bound from. */
uint head_panel()
{
	return HEAD_DIM % 32u == 0u ? gl_WorkGroupID.x * (HEAD_DIM / 32u) :
				      head() * HEAD_DIM / 32u - push.base * HEAD_DIM / 32u;
}

void head_part(uint p)
{
	tokens_t y = mm_panel(head_panel() + p, p == 0u);

	head_row = p * 32u + lane() - head_begin();
	if (lane() < 32u && head_row < HEAD_DIM) {
		if ((FLAGS & FLAG_BIAS) != 0u)
			y += params[PARAMS_NEXT + head() * HEAD_DIM + head_row];
		EACH_TOKEN(head_put, y);
	}
}

/* All panels with rows of the head; the first and the last may be others' too. The commonest head
 * without a loop, whose counter is a register too many. */
void head_rows()
{
	if (TOKENS == 1 && HEAD_DIM == 64u) {
		head_part(0u);
		head_part(1u);
	} else {
		for (uint p = 0u; p * 32u < head_begin() + HEAD_DIM; p++)
			head_part(p);
	}
	barrier();
}

bool normed()
{
	return (FLAGS & FLAG_QK_NORM) != 0u && head() < HEADS + KV_HEADS;
}

/* Eight sums for each row of the tile. */
void head_squares()
{
	if (normed()) {
		for (uint i = lane(); i < tile_rows * 8u; i += gl_WorkGroupSize.x) {
			precise float sum = 0.0;

			for (uint j = i % 8u, end = live_only(HEAD_DIM); j < end; j += 8u) {
				float y = ys[i / 8u * 256u + j];

				sum = fma(y, y, sum);
			}
			squares[i] = sum;
		}
	}
	barrier();
}

float head_scale(uint t)
{
	precise float sum = 0.0;
	float scale = 1.0;

	if (normed()) {
		for (uint i = 0u, end = live_only(8u); i < end; i++)
			sum += squares[t * 8u + i];
		scale = 1.0 / sqrt(sum / float(HEAD_DIM) + EPS);
	}
	return scale;
}

/* Element j before the turn. */
float head_element(uint t, uint j, float scale)
{
	float y = ys[t * 256u + j];

	if (normed())
		y *= scale * params[HEAD_NORMS + (head() < HEADS ? 0u : HEAD_DIM) + j];
	return y;
}

/* Element j at last. */
float head_turned(uint t, uint j, float scale, uint position)
{
	uint other = j ^ 1u, i = j / 2u;
	float y = head_element(t, j, scale), z;
	vec2 turn;

	if (ROPE != 0u && j < ROPE_DIMS && head() < HEADS + KV_HEADS) {
		if (ROPE != ROPE_PAIRS) {
			other = j < ROPE_DIMS / 2u ? j + ROPE_DIMS / 2u : j - ROPE_DIMS / 2u;
			i = min(j, other);
		}
		z = head_element(t, other, scale);
		turn = turns[position * (ROPE_DIMS / 2u) + i];
		y = j < other ? y * turn.x - z * turn.y : z * turn.y + y * turn.x;
	}
	return y;
}

/* Elements 2w and 2w + 1 of the tile's row t go where they belong. */
void head_store(uint t, uint w)
{
	uint row = tile_first + t, position = 0u, cell, at;
	float scale = head_scale(t);
	vec2 y;

	if (ROPE != 0u)
		position = row_index(row, ROW_POSITION, POSITIONS);
	y = vec2(head_turned(t, 2u * w, scale, position),
		 head_turned(t, 2u * w + 1u, scale, position));
	if (head() < HEADS) {
		q[(row * HEADS + head()) * (HEAD_DIM / 2u) + w] = y;
	} else {
		cell = row_index(row, ROW_CELL, CELLS);
		at = (head() - HEADS) * SLOTS + row_index(row, ROW_SLOT, SLOTS);
		at = (at * CELLS + cell) * (HEAD_DIM / 2u) + w;
		if (KV_TYPE == KV_F16)
			kv[at] = float_f16(y.x) | float_f16(y.y) << 16;
		else
			kv2[at] = floatBitsToUint(y);
	}
}

void main()
{
	tile_init();
	if (tile_is_dead())
		return;
	norm_init();
	head_rows();
	head_squares();
#if TOKENS == 1
	for (uint w = lane(), end = live_only(HEAD_DIM / 2u); w < end; w += gl_WorkGroupSize.x)
		head_store(0u, w);
#else
	for (uint i = lane(); i < tile_rows * (HEAD_DIM / 2u); i += gl_WorkGroupSize.x)
		head_store(i / (HEAD_DIM / 2u), i % (HEAD_DIM / 2u));
#endif
}
