/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Norm and logits of the rows with ROW_LOGITS. One work-group: 32 logits of a tile of rows. */
#version 450
#extension GL_GOOGLE_include_directive : require

layout(constant_id = 2) const uint HIDDEN = 576u;
layout(constant_id = 3) const uint VOCAB = 49152u;
layout(constant_id = 4) const uint LAYOUT = 18u;
layout(constant_id = 5) const uint NUMERIC = 0u;
layout(constant_id = 6) const uint NORM = 0u;
layout(constant_id = 7) const uint FLAGS = 0u;
layout(constant_id = 8) const float EPS = 1e-5;
layout(constant_id = 9) const uint LOGIT_ROWS = 1u;

#define INPUTS	HIDDEN
#define XS	1024u
#define OWN_TILE
#include "mm.glsl"

/* The rows of the tile that want logits: bits, then one after the other. */
shared uint wanted;

void tile_init()
{
	uint live = state_live_here();
	uint row = tile_first + lane();

	if (lane() == 0u)
		wanted = 0u;
	barrier();
	if (lane() < uint(TOKENS) && row < live &&
	    (row_word(row, ROW_FLAGS) & FLAG_LOGITS) != 0u)
		atomicOr(wanted, 1u << lane());
	barrier();
	tile_rows = bitCount(wanted);
	tile_mask = tile_rows > 0u ? ~0u : 0u;
}

uint tile_row(uint t)
{
	uint left = wanted;

	for (uint n = min(t, tile_rows - 1u); n > 0u; n--)
		left &= left - 1u;
	return tile_first + findLSB(left);
}

#include "norm.glsl"

layout(std430, binding = 5) writeonly buffer Logits { float logits[]; };
struct maximum { float value; uint id; };
layout(std430, binding = 6) writeonly buffer Maxima { maximum maxima[]; };

const uint GROUPS = (VOCAB + 31u) / 32u;

shared float ys[TOKENS * 32];
shared uint outs[TOKENS];

void head_put(uint t, float y)
{
	uint id = (push.base + gl_WorkGroupID.x) * 32u + lane();

	if ((FLAGS & FLAG_BIAS) != 0u)
		y += params[PARAMS_NEXT + id];
	if (id < VOCAB && t < tile_rows)
		logits[outs[t] * VOCAB + id] = y;
	ys[t * 32u + lane()] = id < VOCAB ? y : uintBitsToFloat(0xff800000u);
}

bool is_nan(float v)
{
	return (floatBitsToUint(v) & 0x7fffffffu) > 0x7f800000u;
}

/* The first of equals; the first NaN beats all and is never beaten. */
void head_max(uint t)
{
	uint unit = push.base + gl_WorkGroupID.x;
	float best = ys[t * 32u];
	uint at = 0u;

	for (uint i = 1u; i < 32u; i++) {
		float y = ys[t * 32u + i];

		if (!is_nan(best) && (y > best || is_nan(y))) {
			best = y;
			at = i;
		}
	}
	maxima[outs[t] * GROUPS + unit] = maximum(best, unit * 32u + at);
}

void main()
{
	tile_init();
	if (tile_is_dead())
		return;
	if (lane() < tile_rows)
		outs[lane()] = row_index(tile_row(lane()), ROW_OUT, LOGIT_ROWS);
	norm_init();

	tokens_t y = mm_panel(gl_WorkGroupID.x, true);

	if (lane_has_sum())
		EACH_TOKEN(head_put, y);
	barrier();
	if (lane() < tile_rows)
		head_max(lane());
}
