/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * x[row] = embedding of the row's token, and learned position; one work-group a row. A table in
 * several banks is one vkCmdDispatch for each: base and limit count panels of 32 tokens (not rows),
 * quants and scales are bound from panel `base` on, and a row whose token is of another bank is
 * left alone.
 */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 2) const uint VOCAB = 32u;
layout(constant_id = 3) const uint HIDDEN = 32u;
layout(constant_id = 4) const uint LAYOUT = 15u;
layout(constant_id = 5) const uint POSITIONS = 0u;

layout(std430, binding = 1) readonly buffer Quants { uint quants[]; };
layout(std430, binding = 2) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 3) readonly buffer Positions { float positions[]; };
layout(std430, binding = 4) writeonly buffer X { float x[]; };

#include "embed.glsl"

void main()
{
	uint row = gl_WorkGroupID.x, token, position = 0u;

	if (row >= state_live())
		return;
	token = row_index(row, ROW_TOKEN, VOCAB);
	if (POSITIONS > 0u)
		position = row_index(row, ROW_POSITION, POSITIONS);
	if (token / 32u < push.base || token / 32u >= push.limit)
		return;
	embed_row(row, token, position, push.base);
}
