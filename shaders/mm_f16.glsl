/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A block times x in f16, two products at a time; all further sums in f32. x is scaled by a power
 * of two for every 32, so that nothing overflows. Of mm.glsl.
 */
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require

/*
 * Block b of row t of x, 32 floats, becomes 16 words of two halves, then its scale, in its own
 * place: a word is written when what lies there has been read. Halves are paired as the weights.
 */
void mm_prepare(uint t, uint b)
{
	uint at = (t * CHUNK + b) * 16u, top = 0u, scale;
	float inverse;

	for (uint i = 0u; i < 16u; i++) {
		/* Magnitudes order as their bits do, and NaN lies above infinity. */
		uvec2 magnitude = xs[at + i] & 0x7fffffffu;

		top = max(top, max(magnitude.x, magnitude.y));
	}
	scale = min(top & 0x7f800000u, 0x7e800000u);	/* whose inverse is not subnormal */
	inverse = top < 0x0da24260u ? 0.0 : uintBitsToFloat(0x7f000000u - scale);	/* 1e-30 */
	for (uint i = 0u; i < 8u; i++) {
		vec4 x = uintBitsToFloat(uvec4(xs[at + 2u * i], xs[at + 2u * i + 1u]));

		x = top < 0x7f800000u ? x * inverse : vec4(0.0);
		if (QUANTISED)
			x = x.xzyw;
		xs[at + i] = uvec2(packFloat2x16(f16vec2(x.xy)), packFloat2x16(f16vec2(x.zw)));
	}
	xs[at + 8u].x = top < 0x7f800000u ? scale : 0x7fc00000u;
}

/* Four weights of a row, 0 and 2, then 1 and 3; as in mm_f32.glsl. */
struct quad_t {
	f16vec2 even, odd;
};

quad_t q8_quad(uint bytes)
{
	return quad_t(unpackFloat2x16((bytes & 0x00ff00ffu) ^ 0x64806480u) - float16_t(1152.0),
		      unpackFloat2x16((bytes >> 8 & 0x00ff00ffu) ^ 0x64806480u) -
		      float16_t(1152.0));
}

quad_t q4_quad(uint bytes)
{
	return quad_t(unpackFloat2x16((bytes & 0x000f000fu) | 0x64006400u) - float16_t(1032.0),
		      unpackFloat2x16((bytes >> 8 & 0x000f000fu) | 0x64006400u) -
		      float16_t(1032.0));
}

/* sum + w . x for four k; at: their place in the first row of x. */
float quad_add(uint t, float sum, quad_t w, uint at)
{
	uvec2 x = xs[t * (CHUNK * 16u) + at];
	precise f16vec2 products = fma(w.odd, unpackFloat2x16(x.y), w.even * unpackFloat2x16(x.x));
	precise float s = sum + (float(products.x) + float(products.y));

	return s;
}

#define QUAD(__i, __w) { \
	quad_t w = __w; \
	MAP_TOKENS(s, quad_add, w, at + (__i)); \
}

float x_scale(uint t, float unused, uint at, uint nothing)
{
	return uintBitsToFloat(xs[t * (CHUNK * 16u) + at].x);
}

tokens_t mm_block(uint block, uint b, tokens_t sum)
{
	uint piece = mm_piece(block);
	uint at = b * 16u;
	tokens_t s = tokens_t(0.0), d = tokens_t(0.0);
	uvec4 p;

	if (LAYOUT == LAYOUT_F16_R32) {
		for (uint i = 0u; i < 8u; i++) {
			p = (i & 1u) == 0u ? quants[piece + 16u * i] : p.zwxy;
			QUAD(i, quad_t(unpackFloat2x16(p.x), unpackFloat2x16(p.y)));
		}
	} else if (LAYOUT == LAYOUT_Q8_R32) {
		for (uint i = 0u; i < 8u; i++) {
			p = (i & 3u) == 0u ? quants[piece + 8u * i] : p.yzwx;
			QUAD(i, q8_quad(p.x));
		}
	} else {
		p = quants[piece];
		for (uint i = 0u; i < 4u; i++) {
			QUAD(i, q4_quad(p.x));
			QUAD(i + 4u, q4_quad(p.x >> 4));
			p = p.yzwx;
		}
	}
	MAP_TOKENS(d, x_scale, at + 8u, 0u);
	return sum_scaled(s, d * (QUANTISED ? mm_scale(block) : 1.0), sum);
}
