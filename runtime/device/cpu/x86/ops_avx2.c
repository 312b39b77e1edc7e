/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/x86/x86.h"

static void put_mm(struct unpu_cpu_ops *ops, uint32_t layout, uint32_t numeric, unpu_mm_fn *fn)
{
	ops->mm[layout][numeric] = fn;
}

void unpu_cpu_ops_init_avx2(struct unpu_cpu_ops *ops)
{
	ops->name = "avx2";
	put_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_F32, unpu_mm_q4_r8_k4u_f32_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32, unpu_mm_q8_r8_k4_f32_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32, unpu_mm_bf16_r16_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32, unpu_mm_f16_r16_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, unpu_mm_f32_r16_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_A8, unpu_mm_q4_r8_k4u_a8_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_A8, unpu_mm_q8_r8_k4_a8_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32, unpu_mm_q4k_r8_k4u_f32_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32, unpu_mm_q6k_r8_k4_f32_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32, unpu_mm_q8a_r8_k4_f32_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_A8, unpu_mm_q4k_r8_k4u_a8_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_A8, unpu_mm_q6k_r8_k4_a8_avx2);
	put_mm(ops, DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_A8, unpu_mm_q8a_r8_k4_a8_avx2);
	ops->quantize = unpu_quantize_avx2;
	ops->rms_norm = unpu_rms_norm_avx2;
	ops->layer_norm = unpu_layer_norm_avx2;
	ops->act[UNPU_ACT_SILU] = unpu_silu_avx2;
	ops->act[UNPU_ACT_GELU] = unpu_gelu_avx2;
	ops->act[UNPU_ACT_RELU] = unpu_relu_avx2;
	ops->to_f16 = unpu_to_f16_avx2;
	ops->attn[DRM_UNPU_KV_F32] = unpu_attn_f32_avx2;
	ops->attn[DRM_UNPU_KV_F16] = unpu_attn_f16_avx2;
	ops->attn[DRM_UNPU_KV_INT8] = unpu_attn_int8_avx2;
	ops->merge = unpu_merge_avx2;
	ops->max = unpu_max_avx2;
}
