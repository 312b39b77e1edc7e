/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifdef __KERNEL__
#include <linux/stddef.h>
#else
#include <stddef.h>
#endif

#include "shaders/layout.h"

#define GGUF(__name, __family, __bits, __block, __quantised) \
	{ .name = __name, .family = __family, .panel = 1, .bits = __bits, .block = __block, \
	  .quantised = __quantised, .group = 32 }
#define GGUF_FLOATS(__name, __bits, __block) \
	GGUF(__name, UNPU_FAMILY_FLOAT, __bits, __block, 0)
#define GGUF_QUANTS(__name, __bits, __block) GGUF(__name, UNPU_FAMILY_Q, __bits, __block, 1)
#define FLOATS(__name, __panel, __bits) \
	{ .name = __name, .family = UNPU_FAMILY_FLOAT, .panel = __panel, .bits = __bits, \
	  .packed = 1, .group = 32 }
#define SCALED(__name, __family, __panel, __bits, __scales, __group) \
	{ .name = __name, .family = __family, .panel = __panel, .bits = __bits, \
	  .scales = __scales, .packed = 1, .quantised = 1, .group = __group }
#define QUANTS(__name, __panel, __bits) SCALED(__name, UNPU_FAMILY_Q, __panel, __bits, 2, 32)
#define Q4K(__name, __panel) SCALED(__name, UNPU_FAMILY_Q4K, __panel, 4, 20, 256)
#define Q6K(__name, __panel) SCALED(__name, UNPU_FAMILY_Q6K, __panel, 6, 18, 256)
#define Q8A(__name, __panel) SCALED(__name, UNPU_FAMILY_Q8A, __panel, 8, 12, 32)

static const struct unpu_layout_info layouts[DRM_UNPU_LAYOUT_COUNT] = {
	[DRM_UNPU_LAYOUT_GGUF_F32] = GGUF_FLOATS("gguf-f32", 32, 128),
	[DRM_UNPU_LAYOUT_GGUF_F16] = GGUF_FLOATS("gguf-f16", 16, 64),
	[DRM_UNPU_LAYOUT_GGUF_BF16] = GGUF_FLOATS("gguf-bf16", 16, 64),
	[DRM_UNPU_LAYOUT_GGUF_Q8_0] = GGUF_QUANTS("gguf-q8_0", 8, 34),
	[DRM_UNPU_LAYOUT_GGUF_Q4_0] = GGUF_QUANTS("gguf-q4_0", 4, 18),
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
	[DRM_UNPU_LAYOUT_Q4K_R8_K16] = Q4K("q4kr8-k16", 8),
	[DRM_UNPU_LAYOUT_Q4K_R8_K4U] = Q4K("q4kr8-k4u", 8),
	[DRM_UNPU_LAYOUT_Q4K_R16_K4U] = Q4K("q4kr16-k4u", 16),
	[DRM_UNPU_LAYOUT_Q6K_R8_K16] = Q6K("q6kr8-k16", 8),
	[DRM_UNPU_LAYOUT_Q6K_R8_K4] = Q6K("q6kr8-k4", 8),
	[DRM_UNPU_LAYOUT_Q6K_R16_K4] = Q6K("q6kr16-k4", 16),
	[DRM_UNPU_LAYOUT_Q8A_R8_K16] = Q8A("q8ar8-k16", 8),
	[DRM_UNPU_LAYOUT_Q8A_R8_K4] = Q8A("q8ar8-k4", 8),
	[DRM_UNPU_LAYOUT_Q8A_R16_K4U] = Q8A("q8ar16-k4u", 16),
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
	return (__u64)unpu_pad32(rows) * ((k + info->group - 1) / info->group) * info->scales;
}
