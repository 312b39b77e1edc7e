/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Merge of the chunks in order, Wo, bias, x += . One work-group: 32 elements of x of a tile. */
#version 450
#extension GL_GOOGLE_include_directive : require

layout(constant_id = 2) const uint CELLS = 256u;
layout(constant_id = 3) const uint HIDDEN = 576u;
layout(constant_id = 4) const uint HEADS = 9u;
layout(constant_id = 5) const uint HEAD_DIM = 64u;
layout(constant_id = 6) const uint LAYOUT = 18u;
layout(constant_id = 7) const uint NUMERIC = 0u;
layout(constant_id = 8) const uint FLAGS = 0u;

const uint INPUTS = HEADS * HEAD_DIM;
#define XS	1024u
#include "mm.glsl"
#include "residual.glsl"

/* {max, sum} of [row][chunk][head] lie behind the outputs. */
const uint CHUNKS = CELLS / 64u;
const uint PAIRS = ROWS * CHUNKS * INPUTS / 2u;

shared uint cells[TOKENS];

/* A NaN in any maximum or sum makes every output NaN. */
vec2 mm_input(uint t, uint row, uint k2)
{
	uint head = k2 * 2u / HEAD_DIM;
	uint at = row * CHUNKS;
	uint last = cells[min(t, tile_rows - 1u)] / 64u;
	float top, sum = 0.0;
	vec2 merged = vec2(0.0);

	if (k2 * 2u >= INPUTS)
		return merged;
	top = source2[PAIRS + at * HEADS + head].x;
	for (uint c = 1u; c <= last; c++) {
		float other = source2[PAIRS + (at + c) * HEADS + head].x;

		top = other > top ? other : top;
	}
	for (uint c = 0u; c <= last; c++) {
		vec2 pair = source2[PAIRS + (at + c) * HEADS + head];
		float w = exp(pair.x - top);

		sum = fma(pair.y, w, sum);
		merged = fma(source2[(at + c) * (INPUTS / 2u) + k2], vec2(w), merged);
	}
	return merged / sum;
}

void main()
{
	tile_init();
	if (tile_is_dead())
		return;
	if (lane() < tile_rows)
		cells[lane()] = row_index(tile_row(lane()), ROW_CELL, CELLS);
	residual_add();
}
