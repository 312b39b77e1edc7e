/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Norm, Wgate and Wup, activation and product. One work-group: 32 elements of h of a tile. */
#version 450
#extension GL_GOOGLE_include_directive : require

layout(constant_id = 2) const uint HIDDEN = 576u;
layout(constant_id = 3) const uint FFN = 1536u;
layout(constant_id = 4) const uint LAYOUT = 18u;
layout(constant_id = 5) const uint NUMERIC = 0u;
layout(constant_id = 6) const uint NORM = 0u;
layout(constant_id = 7) const uint FLAGS = 8u;
layout(constant_id = 8) const uint ACT = 0u;
layout(constant_id = 9) const float EPS = 1e-5;

#define INPUTS	HIDDEN
#define XS	1024u
#include "mm.glsl"
#include "norm.glsl"

layout(std430, binding = 5) writeonly buffer Output { float h[]; };

const bool GATED = (FLAGS & FLAG_GATED) != 0u;
const uint ACT_GELU = 1u;
const uint ACT_RELU = 2u;

/* As the twin's: no cancellation, and an overflow of exp() gives the limit. NaN stays NaN. */
float activation(float gate)
{
	float u = gate, y;

	if (ACT == ACT_GELU)	/* tanh form; 2 sqrt(2 / pi) */
		u = 1.5957691216 * gate * (1.0 + 0.044715 * gate * gate);
	if (ACT == ACT_RELU)
		y = gate < 0.0 ? 0.0 : gate;
	else
		y = gate / (1.0 + exp(-u));
	return y;
}

void ffn_put(uint t, float gate, float up)
{
	uint unit = push.base + gl_WorkGroupID.x;
	uint element = unit * 32u + lane();
	uint bias = PARAMS_NEXT + (GATED ? 64u : 32u) * unit + lane();
	float y;

	if ((FLAGS & FLAG_BIAS) != 0u) {
		gate += params[bias];
		up += GATED ? params[bias + 32u] : 0.0;
	}
	y = activation(gate);
	if (GATED)
		y *= up;
	/* act(0 + bias) is not 0, and NaN x 0 in Wdown's padding is not 0. */
	if (TOKENS == 1 || t < tile_rows)
		h[(tile_first + t) * pad32(FFN) + element] = element < FFN ? y : 0.0;
}

void main()
{
	uint panel = gl_WorkGroupID.x * (GATED ? 2u : 1u);

	tile_init();
	norm_init();

	tokens_t gate = mm_panel(panel, true);
	tokens_t up = gate;

	if (GATED)
		up = mm_panel(panel + 1u, false);
	if (lane_has_sum())
		EACH_TOKEN2(ffn_put, gate, up);
}
