/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * A block times x in class a8: x rounded to int8, 32 under one scale, products summed as integers.
 * The dot product comes as an instruction of SPIR-V, for older compilers of GLSL have no function
 * for it. Of mm.glsl.
 */
#extension GL_EXT_spirv_intrinsics : require

/* OpSDot: signed x signed; OpSUDot: signed x unsigned. Four bytes in a word: format 0. */
#ifdef MATH_SDOT
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018],
		  id = 4450)
int dot_4(int x, int w, spirv_literal int format);
const uint Q8_FLIP = 0u;
const int Q8_LESS = 0;
#else
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018],
		  id = 4452)
int dot_4(int x, int w, spirv_literal int format);
const uint Q8_FLIP = 0x80808080u;	/* weight + 128 is unsigned; so much too large, times x */
const int Q8_LESS = 128;
#endif

/*
 * Block b of row t of x, 32 floats, becomes 8 words of int8, then {scale, sum of the 32}, in its
 * own place: a word is written when what lies there has been read. As unpu_quantize_fn.
 */
void mm_prepare(uint t, uint b)
{
	uint at = (t * CHUNK + b) * 16u, top = 0u;
	int sum = 0;
	precise float m, inverse, d;

	for (uint i = 0u; i < 16u; i++) {
		/* Magnitudes order as their bits do, and NaN lies above infinity. */
		uvec2 magnitude = xs[at + i] & 0x7fffffffu;

		top = max(top, max(magnitude.x, magnitude.y));
	}
	m = uintBitsToFloat(top);
	inverse = 127.0 / m;
	d = m / 127.0;
	if (top < 0x0da24260u) {	/* 1e-30 */
		inverse = 0.0;
		d = 0.0;
	}
	for (uint i = 0u; i < 8u; i++) {
		precise vec4 x = uintBitsToFloat(uvec4(xs[at + 2u * i], xs[at + 2u * i + 1u]));
		ivec4 q = ivec4(0);

		if (top < 0x7f800000u)
			q = ivec4(clamp(roundEven(x * inverse), -127.0, 127.0));
		sum += q.x + q.y + q.z + q.w;
		q = (q & 0xff) << ivec4(0, 8, 16, 24);
		if ((i & 1u) == 0u)
			xs[at + i / 2u].x = uint(q.x | q.y | q.z | q.w);
		else
			xs[at + i / 2u].y = uint(q.x | q.y | q.z | q.w);
	}
	xs[at + 4u] = uvec2(top < 0x7f800000u ? floatBitsToUint(d) : 0x7fc00000u, uint(sum));
}

/* sum + w . x for eight k; at: their place in the first row of x. */
int octet_add(uint t, int sum, ivec2 w, uint at)
{
	ivec2 x = ivec2(xs[t * (CHUNK * 16u) + at]);

	return sum + dot_4(x.x, w.x, 0) + dot_4(x.y, w.y, 0);
}

const int LESS = LAYOUT == LAYOUT_Q8_R32 ? Q8_LESS : 8;

/* sum + d x (s less what all weights are too large by, times x). */
float block_add(uint t, float sum, int s, float d, uint at)
{
	uvec2 of_x = xs[t * (CHUNK * 16u) + at];
	precise float both = d * uintBitsToFloat(of_x.x);
	precise float next = fma(float(s - LESS * int(of_x.y)), both, sum);

	return next;
}

tokens_t mm_block(uint block, uint b, tokens_t sum)
{
	uint piece = mm_piece(block);
	uint at = b * 16u;
	float d = mm_scale(block);
	itokens_t s = itokens_t(0);
	uvec4 p;

	if (LAYOUT == LAYOUT_Q8_R32) {
		for (uint i = 0u; i < 4u; i++) {
			p = (i & 1u) == 0u ? quants[piece + 16u * i] : p.zwxy;

			ivec2 w = ivec2(p.xy ^ Q8_FLIP);

			MAP_TOKENS(s, octet_add, w, at + i);
		}
	} else {
		p = quants[piece];
		for (uint i = 0u; i < 2u; i++) {
			ivec2 low = ivec2(p.xy & 0x0f0f0f0fu);
			ivec2 high = ivec2(p.xy >> 4 & 0x0f0f0f0fu);

			MAP_TOKENS(s, octet_add, low, at + i);
			MAP_TOKENS(s, octet_add, high, at + 2u + i);
			p = p.zwxy;
		}
	}
#if TOKENS == 1
	return block_add(0u, sum, s, d, at + 4u);
#else
	sum.x = block_add(0u, sum.x, s.x, d, at + 4u);
	sum.y = block_add(1u, sum.y, s.y, d, at + 4u);
#if TOKENS == 4
	sum.z = block_add(2u, sum.z, s.z, d, at + 4u);
	sum.w = block_add(3u, sum.w, s.w, d, at + 4u);
#endif
	return sum;
#endif
}
