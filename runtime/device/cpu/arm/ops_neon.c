/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/arm/neon.h"

static void set_mm(struct unpu_cpu_ops *ops, uint32_t layout, uint32_t numeric, unpu_mm_fn *fn)
{
	ops->mm[layout][numeric] = fn;
}

static void init_mm(struct unpu_cpu_ops *ops)
{
	const uint32_t f32 = DRM_UNPU_CLASS_F32, a8 = DRM_UNPU_CLASS_A8;

	set_mm(ops, DRM_UNPU_LAYOUT_F32_R16, f32, unpu_mm_f32_r16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_F16_R16, f32, unpu_mm_f16_r16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_BF16_R16, f32, unpu_mm_bf16_r16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K4, f32, unpu_mm_q8_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K4, f32, unpu_mm_q4_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K16, f32, unpu_mm_q8_r8_k16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K16, f32, unpu_mm_q4_r8_k16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K4U, f32, unpu_mm_q4k_r8_k4u_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K4, f32, unpu_mm_q6k_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K4, f32, unpu_mm_q8a_r8_k4_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K16, f32, unpu_mm_q4k_r8_k16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K16, f32, unpu_mm_q6k_r8_k16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K16, f32, unpu_mm_q8a_r8_k16_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K16, a8, unpu_mm_q8_r8_k16_a8_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K16, a8, unpu_mm_q4_r8_k16_a8_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K16, a8, unpu_mm_q4k_r8_k16_a8_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K16, a8, unpu_mm_q6k_r8_k16_a8_neon);
	set_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K16, a8, unpu_mm_q8a_r8_k16_a8_neon);
}

void unpu_cpu_ops_init_neon(struct unpu_cpu_ops *ops)
{
	ops->name = "neon";
	init_mm(ops);
	ops->quantize = unpu_quantize_neon;
	ops->rms_norm = unpu_rms_norm_neon;
	ops->layer_norm = unpu_layer_norm_neon;
	ops->act[UNPU_ACT_SILU] = unpu_act_silu_neon;
	ops->act[UNPU_ACT_GELU] = unpu_act_gelu_neon;
	ops->act[UNPU_ACT_RELU] = unpu_act_relu_neon;
	ops->to_f16 = unpu_to_f16_neon;
	ops->attn[DRM_UNPU_KV_F32] = unpu_attn_f32_neon;
	ops->attn[DRM_UNPU_KV_F16] = unpu_attn_f16_neon;
	ops->attn[DRM_UNPU_KV_INT8] = unpu_attn_int8_neon;
	ops->merge = unpu_merge_neon;
	ops->max = unpu_max_neon;
}

void unpu_cpu_ops_init_neon_inorder(struct unpu_cpu_ops *ops)
{
	const uint32_t a8 = DRM_UNPU_CLASS_A8;

	set_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K16, a8, unpu_mm_q8_r8_k16_a8_neon_inorder);
	set_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K16, a8, unpu_mm_q4_r8_k16_a8_neon_inorder);
}
