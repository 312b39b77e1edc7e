/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Wdown, bias, x += . One work-group: 32 elements of x of a tile of rows. */
#version 450
#extension GL_GOOGLE_include_directive : require

layout(constant_id = 2) const uint HIDDEN = 576u;
layout(constant_id = 3) const uint FFN = 1536u;
layout(constant_id = 4) const uint LAYOUT = 18u;
layout(constant_id = 5) const uint NUMERIC = 0u;
layout(constant_id = 6) const uint FLAGS = 0u;

#define INPUTS	FFN
#define XS	1024u
#define X_DIRECT
#include "mm.glsl"
#include "residual.glsl"

vec2 mm_input(uint t, uint row, uint k2)
{
	return source2[row * (BLOCKS * 16u) + k2];
}

void main()
{
	tile_init();
	if (tile_is_dead())
		return;
	residual_add();
}
