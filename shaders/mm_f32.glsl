/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* A block times x in f32. Of mm.glsl. */

/* Quad number `quad` of the tile's row t. */
vec4 x_quad(uint t, uint quad)
{
#ifdef X_DIRECT
	return source[tile_row(t) * (BLOCKS * 8u) + quad];
#else
	uint at = t * (CHUNK * 16u) + quad * 2u;

	return uintBitsToFloat(uvec4(xs[at], xs[at + 1u]));
#endif
}

/*
 * Four weights of a row at a time, without their scale. 0x6400 is 1024 as a half, whose last bit is
 * worth 1: quants become numbers in pairs, and what is subtracted leaves them exact.
 */
vec4 q8_quad(uint bytes)
{
	vec2 even = unpackHalf2x16((bytes & 0x00ff00ffu) ^ 0x64806480u);
	vec2 odd = unpackHalf2x16((bytes >> 8 & 0x00ff00ffu) ^ 0x64806480u);

	return vec4(even.x, odd.x, even.y, odd.y) - 1152.0;
}

/* Of the low nibbles. */
vec4 q4_quad(uint bytes)
{
	vec2 even = unpackHalf2x16((bytes & 0x000f000fu) | 0x64006400u);
	vec2 odd = unpackHalf2x16((bytes >> 8 & 0x000f000fu) | 0x64006400u);

	return vec4(even.x, odd.x, even.y, odd.y) - 1032.0;
}

vec4 f16_quad(uint low, uint high)
{
	return vec4(f16_float(low), f16_float(low >> 16), f16_float(high), f16_float(high >> 16));
}

/* sum + w . x for four k. */
float quad_add(uint t, float sum, vec4 w, uint quad)
{
	vec4 x = x_quad(t, quad);
	precise float s = sum;

	s = fma(w.x, x.x, s);
	s = fma(w.y, x.y, s);
	s = fma(w.z, x.z, s);
	s = fma(w.w, x.w, s);
	return s;
}

#define QUAD(__i, __w) { \
	vec4 w = __w; \
	MAP_TOKENS(s, quad_add, w, b * 8u + (__i)); \
}

/* Turns of the loops within a block: unrolled where devices have subgroups, and registers. */
#ifdef MATH_F32S
#define TURNS(__n)	(__n)
#else
#define TURNS(__n)	live_only(__n)
#endif

tokens_t mm_block(uint block, uint b, tokens_t sum)
{
	uint piece = mm_piece(block);
	tokens_t s = tokens_t(0.0);
	uvec4 p;

	if (LAYOUT == LAYOUT_F32_R32) {
		for (uint i = 0u, end = TURNS(8u); i < end; i++)
			QUAD(i, uintBitsToFloat(quants[piece + 32u * i]));
	} else if (LAYOUT == LAYOUT_F16_R32) {
		for (uint i = 0u, end = TURNS(8u); i < end; i++) {
			p = (i & 1u) == 0u ? quants[piece + 16u * i] : p.zwxy;
			QUAD(i, f16_quad(p.x, p.y));
		}
	} else if (LAYOUT == LAYOUT_Q8_R32) {
		for (uint i = 0u, end = TURNS(8u); i < end; i++) {
			p = (i & 3u) == 0u ? quants[piece + 8u * i] : p.yzwx;
			QUAD(i, q8_quad(p.x));
		}
	} else {
		p = quants[piece];
		for (uint i = 0u, end = TURNS(4u); i < end; i++) {
			QUAD(i, q4_quad(p.x));
			QUAD(i + 4u, q4_quad(p.x >> 4));
			p = p.yzwx;
		}
	}
	return sum_scaled(s, tokens_t(QUANTISED ? mm_scale(block) : 1.0), sum);
}
