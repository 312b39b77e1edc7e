/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * One token's row of the embedding table. Who includes this has declared VOCAB, HIDDEN, LAYOUT,
 * POSITIONS and the buffers `quants` and `scales` (words), `positions` and `x` (floats).
 */
const uint EMBED_BLOCKS = (HIDDEN + 31u) / 32u;
const uint EMBED_PADDED = EMBED_BLOCKS * 32u;

float embed_float(uint block, uint lane, uint i)
{
	uint at;

	if (LAYOUT == LAYOUT_F32_R32) {
		at = ((block * 8u + i / 4u) * 32u + lane) * 4u + i % 4u;
		return uintBitsToFloat(quants[at]);
	}
	at = ((block * 4u + i / 8u) * 32u + lane) * 4u + i % 8u / 2u;
	return f16_float(quants[at] >> i % 2u * 16u);
}

float embed_quant(uint block, uint lane, uint i)
{
	uint row = block * 32u + lane;
	float d = f16_float(scales[row / 2u] >> row % 2u * 16u);
	uint word;

	if (LAYOUT == LAYOUT_Q8_R32) {
		word = quants[((block * 2u + i / 16u) * 32u + lane) * 4u + i % 16u / 4u];
		return float(bitfieldExtract(int(word), int(i % 4u * 8u), 8)) * d;
	}
	word = quants[row * 4u + i % 16u / 4u];
	return float(int(word >> i % 4u * 8u + i / 16u * 4u & 15u) - 8) * d;
}

/*
 * x[row] = the token's embedding, and its learned position; by all invocations. The buffers begin
 * with token 32 first_panel.
 */
void embed_row(uint row, uint token, uint position, uint first_panel)
{
	uint panel = (token / 32u - first_panel) * EMBED_BLOCKS, lane = token % 32u;

	for (uint i = gl_LocalInvocationID.x; i < EMBED_PADDED; i += gl_WorkGroupSize.x) {
		float e = 0.0;

		if (i < HIDDEN) {
			if (LAYOUT == LAYOUT_F32_R32 || LAYOUT == LAYOUT_F16_R32)
				e = embed_float(panel + i / 32u, lane, i % 32u);
			else
				e = embed_quant(panel + i / 32u, lane, i % 32u);
			if (POSITIONS > 0u)
				e += positions[position * EMBED_PADDED + i];
		}
		x[row * EMBED_PADDED + i] = e;
	}
}
