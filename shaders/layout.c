/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifdef __KERNEL__
#include <linux/stddef.h>
#else
#include <stddef.h>
#endif

#include "shaders/layout.h"

#define GGUF(__name, __bits, __block, __quantised) \
	{ .name = __name, .panel = 1, .bits = __bits, .block = __block, .quantised = __quantised }
#define FLOATS(__name, __panel, __bits) \
	{ .name = __name, .panel = __panel, .bits = __bits, .packed = 1 }
#define QUANTS(__name, __panel, __bits) \
	{ .name = __name, .panel = __panel, .bits = __bits, .scales = 1, .packed = 1, \
	  .quantised = 1 }

static const struct unpu_layout_info layouts[DRM_UNPU_LAYOUT_COUNT] = {
	[DRM_UNPU_LAYOUT_GGUF_F32] = GGUF("gguf-f32", 32, 128, 0),
	[DRM_UNPU_LAYOUT_GGUF_F16] = GGUF("gguf-f16", 16, 64, 0),
	[DRM_UNPU_LAYOUT_GGUF_BF16] = GGUF("gguf-bf16", 16, 64, 0),
	[DRM_UNPU_LAYOUT_GGUF_Q8_0] = GGUF("gguf-q8_0", 8, 34, 1),
	[DRM_UNPU_LAYOUT_GGUF_Q4_0] = GGUF("gguf-q4_0", 4, 18, 1),
	[DRM_UNPU_LAYOUT_F32_R16] = FLOATS("f32r16", 16, 32),
	[DRM_UNPU_LAYOUT_F16_R16] = FLOATS("f16r16", 16, 16),
	[DRM_UNPU_LAYOUT_BF16_R16] = FLOATS("bf16r16", 16, 16),
	[DRM_UNPU_LAYOUT_Q8_R8_K16] = QUANTS("q8r8-k16", 8, 8),
	[DRM_UNPU_LAYOUT_Q8_R8_K4] = QUANTS("q8r8-k4", 8, 8),
	[DRM_UNPU_LAYOUT_Q8_R16_K4U] = QUANTS("q8r16-k4u", 16, 8),
	[DRM_UNPU_LAYOUT_Q4_R8_K16] = QUANTS("q4r8-k16", 8, 4),
	[DRM_UNPU_LAYOUT_Q4_R8_K4] = QUANTS("q4r8-k4", 8, 4),
	[DRM_UNPU_LAYOUT_Q4_R8_K4U] = QUANTS("q4r8-k4u", 8, 4),
	[DRM_UNPU_LAYOUT_Q4_R16_K4U] = QUANTS("q4r16-k4u", 16, 4),
	[DRM_UNPU_LAYOUT_F32_R32] = FLOATS("f32r32", 32, 32),
	[DRM_UNPU_LAYOUT_F16_R32] = FLOATS("f16r32", 32, 16),
	[DRM_UNPU_LAYOUT_Q8_R32] = QUANTS("q8r32", 32, 8),
	[DRM_UNPU_LAYOUT_Q4_R32] = QUANTS("q4r32", 32, 4),
};

const struct unpu_layout_info *unpu_layout_info(__u32 layout)
{
	return layout < DRM_UNPU_LAYOUT_COUNT ? &layouts[layout] : NULL;
}

__u64 unpu_layout_quant_bytes(__u32 layout, __u32 rows, __u32 k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!info)
		return 0;
	if (info->packed)
		return (__u64)unpu_pad32(rows) * unpu_pad32(k) / 8 * info->bits;
	if (info->quantised)
		return (__u64)rows * (unpu_pad32(k) / 32) * info->block;
	return (__u64)rows * k * (info->bits / 8);
}

__u64 unpu_layout_scale_bytes(__u32 layout, __u32 rows, __u32 k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!info || !info->scales)
		return 0;
	return (__u64)unpu_pad32(rows) * (unpu_pad32(k) / 32) * 2;
}
