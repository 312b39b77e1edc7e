#version 450
// SPDX-License-Identifier: MIT
// dst[0, bytes) = src[0, bytes). One work-group a unit of 64 KiB.
layout(local_size_x_id = 30) in;
layout(std430, binding = 0) readonly buffer Src { uint src[]; };
layout(std430, binding = 1) writeonly buffer Dst { uint dst[]; };
layout(push_constant) uniform Push { uint base; uint limit; uint bytes_lo; uint bytes_hi; };

const uint UNIT = 16384u;	// words of 64 KiB

void main()
{
	uint words = (bytes_lo >> 2) | (bytes_hi << 30);
	uint begin = (base + gl_WorkGroupID.x) * UNIT;
	uint end = min(begin + UNIT, words);

	for (uint i = begin + gl_LocalInvocationID.x; i < end; i += gl_WorkGroupSize.x)
		dst[i] = src[i];
}
