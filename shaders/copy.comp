/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * dst[0, bytes) = src[0, bytes), a work-group a unit of 64 KiB. Both are bound from their own
 * beginning, whatever `base` is: more than one binding reaches is several dispatches of the
 * device's own, each with its share as `bytes`. Two words at a time, for with stores of four
 * VideoCore runs half as many threads; what is left one by one.
 */
layout(local_size_x_id = 30) in;

layout(std430, binding = 0) readonly buffer Src { uint src[]; };
layout(std430, binding = 0) readonly buffer Src2 { uvec2 src2[]; };
layout(std430, binding = 1) writeonly buffer Dst { uint dst[]; };
layout(std430, binding = 1) writeonly buffer Dst2 { uvec2 dst2[]; };

layout(push_constant) uniform Push {
	uint base;
	uint limit;
	uint bytes_lo;
	uint bytes_hi;
} push;

const uint UNIT = 16384u;	/* words of 64 KiB */

void main()
{
	uint words = push.bytes_lo >> 2 | push.bytes_hi << 30;
	uint unit = push.base + gl_WorkGroupID.x;
	uint begin = unit * UNIT, end = min(begin + UNIT, words), whole = end & ~1u;

	if (unit >= push.limit)
		return;
	for (uint i = begin / 2u + gl_LocalInvocationID.x; i < whole / 2u; i += gl_WorkGroupSize.x)
		dst2[i] = src2[i];
	if (whole + gl_LocalInvocationID.x < end)
		dst[whole + gl_LocalInvocationID.x] = src[whole + gl_LocalInvocationID.x];
}
