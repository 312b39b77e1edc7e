/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* x += the product + bias, for a panel of 32 elements and a tile of rows. After mm.glsl. */

layout(std430, binding = 5) buffer Residual { float x[]; };

void residual_put(uint t, float y)
{
	uint element = (push.base + gl_WorkGroupID.x) * 32u + lane();
	uint at = (tile_first + t) * pad32(HIDDEN) + element;

	if ((FLAGS & FLAG_BIAS) != 0u)
		y += params[element];
	if (TOKENS == 1 || t < tile_rows)
		x[at] += y;
}

void residual_add()
{
	tokens_t y = mm_panel(gl_WorkGroupID.x, true);

	if (lane_has_sum())
		EACH_TOKEN(residual_put, y);
}
