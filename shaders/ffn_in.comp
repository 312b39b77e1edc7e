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
const uint PANELS = GATED ? 2u : 1u;	/* gate, up */
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
	uint bias = PARAMS_NEXT + PANELS * 32u * unit + lane();
	float y;

	if ((FLAGS & FLAG_BIAS) != 0u) {
		gate += params[bias];
		up += GATED ? params[bias + 32u] : 0.0;
	}
	y = activation(gate);
	if (GATED)
		y *= up;
	/* act(0 + bias) is not 0, and NaN x 0 in Wdown's padding is not 0. */
	h[(tile_first + t) * pad32(FFN) + element] = element < FFN ? y : 0.0;
}

/* Sums wait here, for a register is dear and ffn_put() is there once. */
shared float gates[TOKENS * 32], ups[TOKENS * 32];

void gate_keep(uint t, float gate)
{
	gates[t * 32u + lane()] = gate;
}

void up_keep(uint t, float up)
{
	ups[t * 32u + lane()] = up;
}

void main()
{
	tile_init();
	if (tile_is_dead())
		return;
	norm_init();
	for (uint p = 0u; p < PANELS; p++) {
		tokens_t sum = mm_panel(gl_WorkGroupID.x * PANELS + p, p == 0u);

		if (lane() < 32u) {
			if (p == 0u) {
				EACH_TOKEN(gate_keep, sum);
			} else {
				EACH_TOKEN(up_keep, sum);
			}
		}
	}
	if (lane_has_sum()) {
#if TOKENS == 1
		ffn_put(0u, gates[lane()], ups[lane()]);
#else
		for (uint t = 0u; t < tile_rows; t++)
			ffn_put(t, gates[t * 32u + lane()], ups[t * 32u + lane()]);
#endif
	}
}
