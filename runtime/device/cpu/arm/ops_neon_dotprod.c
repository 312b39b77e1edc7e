/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/arm/neon.h"

static void set_mm(struct unpu_cpu_ops *ops, uint32_t layout, uint32_t numeric, unpu_mm_fn *fn)
{
	ops->mm[layout][numeric] = fn;
}

void unpu_cpu_ops_init_neon_dotprod(struct unpu_cpu_ops *ops)
{
	const uint32_t f32 = DRM_UNPU_CLASS_F32, a8 = DRM_UNPU_CLASS_A8;

	ops->name = "neon_dotprod";
	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K4, f32, unpu_mm_q8_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K4, f32, unpu_mm_q4_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K4, a8, unpu_mm_q8_r8_k4_a8_neon_dotprod);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K4, a8, unpu_mm_q4_r8_k4_a8_neon_dotprod);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K4, a8, unpu_mm_q8a_r8_k4_a8_neon_dotprod);
	set_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K4, a8, unpu_mm_q6k_r8_k4_a8_neon_dotprod);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K4U, a8, unpu_mm_q4k_r8_k4u_a8_neon_dotprod);
}
