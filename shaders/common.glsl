/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the shaders share: the state buffer and its clamps (the twins' unpu_state_clamp() and
 * unpu_view_read()), halves as integers, push constants. Word i of a shader's spec is constant i;
 * the first two are rows and slots wherever there is a state buffer.
 */
layout(local_size_x = 256, local_size_x_id = 30) in;
layout(constant_id = 0) const uint ROWS = 1u;
layout(constant_id = 1) const uint SLOTS = 1u;

layout(std430, binding = 0) buffer State { uint state[]; };

layout(push_constant) uniform Push {
	uint base;	/* first unit of grid[0] of this vkCmdDispatch */
	uint limit;	/* the first that is not its */
	uint words[6];	/* constants of the dispatch */
} push;

/* Words of struct unpu_state_header, of struct unpu_state_row, and sizes (shaders.h). */
const uint STATE_LIVE = 0u;
const uint STATE_STOP = 1u;
const uint STATE_FAULT = 2u;
const uint STATE_RING_HEAD = 3u;
const uint STATE_SAMPLERS = 16u;
const uint STATE_SAMPLER_WORDS = 160u;
const uint STATE_ROWS = STATE_SAMPLERS + SLOTS * STATE_SAMPLER_WORDS;
const uint ROW_WORDS = 8u;
const uint ROW_TOKEN = 0u;
const uint ROW_POSITION = 1u;
const uint ROW_CELL = 2u;
const uint ROW_SLOT = 3u;
const uint ROW_FLAGS = 4u;
const uint ROW_OUT = 5u;

const uint FAULT_INDEX = 1u;
const uint FAULT_VALUE = 2u;
const uint FLAG_LOGITS = 1u;	/* in ROW_FLAGS */
const uint FLAG_SAMPLE = 2u;

/* enum drm_unpu_layout, enum drm_unpu_kv_type */
const uint LAYOUT_F32_R32 = 15u;
const uint LAYOUT_F16_R32 = 16u;
const uint LAYOUT_Q8_R32 = 17u;
const uint LAYOUT_Q4_R32 = 18u;
const uint KV_F32 = 0u;
const uint KV_F16 = 1u;

uint pad32(uint n)
{
	return (n + 31u) & ~31u;
}

void state_fault(uint fault)
{
	atomicOr(state[STATE_FAULT], fault);
}

/* value, or the largest below bound (> 0) and a fault. */
uint state_clamp(uint value, uint bound)
{
	if (value >= bound)
		state_fault(FAULT_INDEX);
	return min(value, bound - 1u);
}

uint row_word(uint row, uint word)
{
	return state[STATE_ROWS + row * ROW_WORDS + word];
}

/* A word of a live row that becomes an index: read once, compared with its bound. */
uint row_index(uint row, uint word, uint bound)
{
	return state_clamp(row_word(row, word), bound);
}

shared uint shared_live;

/*
 * Live rows, 0 after a stop. The host may write `stop` at any time, so invocations of a work-group
 * need not agree: none may leave out a barrier for it.
 */
uint state_live_here()
{
	uint live = state_clamp(state[STATE_LIVE], ROWS + 1u);

	return state[STATE_STOP] != 0u ? 0u : live;
}

/* The same for a work-group as a whole: one invocation reads. Called by all, first, once. */
uint state_live()
{
	if (gl_LocalInvocationID.x == 0u)
		shared_live = state_live_here();
	barrier();
	return shared_live;
}

/* ---- halves: what drivers do to subnormals, and how they round, is their own ----------------- */

/*
 * Of the low 16 bits. A subnormal is made normal before the driver sees it, by 2^-14 that is taken
 * off again.
 */
float f16_float(uint half_bits)
{
	uint one = (half_bits & 0x7c00u) == 0u ? 0x400u : 0u;

	return unpackHalf2x16(half_bits | one).x -
	       unpackHalf2x16((half_bits & 0x8000u) | one).x;
}

/* To nearest, ties to even; too large gives infinity, NaN stays NaN. */
uint float_f16(float value)
{
	uint bits = floatBitsToUint(value);
	uint sign = bits >> 16 & 0x8000u;
	uint magnitude = bits & 0x7fffffffu;
	uint result;

	if (magnitude > 0x7f800000u) {
		result = 0x7e00u | (magnitude >> 13 & 0x3ffu);
	} else if (magnitude >= 0x477ff000u) {	/* 65520, half way past the largest half */
		result = 0x7c00u;
	} else if (magnitude >= 0x38800000u) {	/* 2^-14 */
		result = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
	} else if (magnitude > 0x33000000u) {	/* 2^-25: in units of 2^-24 from here on */
		uint mantissa = (magnitude & 0x7fffffu) | 0x800000u;
		uint shift = 126u - (magnitude >> 23);

		result = mantissa + (1u << (shift - 1u)) - 1u + (mantissa >> shift & 1u);
		result >>= shift;
	} else {
		result = 0u;
	}
	return sign | result;
}
