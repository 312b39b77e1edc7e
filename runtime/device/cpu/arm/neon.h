/* SPDX-License-Identifier: MIT */
/* What the NEON twins share: their names, how a range of panels is walked, exp. */
#ifndef UNPU_CPU_NEON_H
#define UNPU_CPU_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

#include "runtime/device/cpu/ops.h"

#define NEON_INLINE static inline __attribute__((always_inline))

/* Before loops of a constant length whose arrays must become registers. */
#ifdef __clang__
#define NEON_UNROLL _Pragma("clang loop unroll(full)")
#else
#define NEON_UNROLL _Pragma("GCC unroll 16")
#endif

unpu_mm_fn unpu_mm_f32_r16_neon, unpu_mm_f16_r16_neon, unpu_mm_bf16_r16_neon;
unpu_mm_fn unpu_mm_q8_r8_k16_neon, unpu_mm_q4_r8_k16_neon;
unpu_mm_fn unpu_mm_q8_r8_k4_neon, unpu_mm_q4_r8_k4_neon;
unpu_mm_fn unpu_mm_q4k_r8_k16_neon, unpu_mm_q6k_r8_k16_neon, unpu_mm_q8a_r8_k16_neon;
unpu_mm_fn unpu_mm_q4k_r8_k4u_neon, unpu_mm_q6k_r8_k4_neon, unpu_mm_q8a_r8_k4_neon;
unpu_mm_fn unpu_mm_q8_r8_k16_a8_neon, unpu_mm_q4_r8_k16_a8_neon;
unpu_mm_fn unpu_mm_q4k_r8_k16_a8_neon, unpu_mm_q6k_r8_k16_a8_neon, unpu_mm_q8a_r8_k16_a8_neon;
unpu_mm_fn unpu_mm_q8_r8_k16_a8_neon_inorder, unpu_mm_q4_r8_k16_a8_neon_inorder;
unpu_mm_fn unpu_mm_q8_r8_k4_a8_neon_dotprod, unpu_mm_q4_r8_k4_a8_neon_dotprod;
unpu_mm_fn unpu_mm_q4k_r8_k4u_a8_neon_dotprod, unpu_mm_q6k_r8_k4_a8_neon_dotprod;
unpu_mm_fn unpu_mm_q8a_r8_k4_a8_neon_dotprod;
unpu_quantize_fn unpu_quantize_neon;
unpu_norm_fn unpu_rms_norm_neon, unpu_layer_norm_neon;
unpu_act_fn unpu_act_silu_neon, unpu_act_gelu_neon, unpu_act_relu_neon;
unpu_to_f16_fn unpu_to_f16_neon;
unpu_attn_fn unpu_attn_f32_neon, unpu_attn_f16_neon, unpu_attn_int8_neon;
unpu_merge_fn unpu_merge_neon;
unpu_max_fn unpu_max_neon;

/* Rows past the matrix are 0 even where a padding weight of 0 met a NaN or an infinity. */
NEON_INLINE void neon_clear_padding(const struct unpu_mm_args *a)
{
	uint32_t first = a->rows > a->row0 ? a->rows : a->row0;

	for (uint32_t t = 0; first < a->row1 && t < a->tokens; t++)
		memset(a->y + t * a->ldy + (first - a->row0), 0,
		       (a->row1 - first) * sizeof(*a->y));
}

/* e^x, within 2 ulp; NaN stays NaN, +-inf give inf and 0, results below 2^-126 are gradual. */
NEON_INLINE float32x4_t neon_exp(float32x4_t x)
{
	/* Past these ends the result is inf or 0 all the same; n stays in [-150, 128]. */
	x = vminq_f32(vmaxq_f32(x, vdupq_n_f32(-104.0f)), vdupq_n_f32(89.0f));
	float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 0x1.715476p+0f));
	/* ln 2 in two parts, the first with 15 bits, so that n times it is exact. */
	float32x4_t r = vfmaq_n_f32(x, n, -0x1.62e4p-1f);
	r = vfmaq_n_f32(r, n, -0x1.7f7d1cp-20f);
	/* Taylor to r^7: |r| <= ln 2 / 2, the next term is below 2^-27. */
	float32x4_t p = vdupq_n_f32(1.0f / 5040);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 720), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f / 2), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
	p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
	/* 2^n in two steps: one exponent field holds neither 128 nor -150. */
	int32x4_t e = vcvtq_s32_f32(n), half = vshrq_n_s32(e, 1);
	int32x4_t bias = vdupq_n_s32(127);
	p = vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
	e = vaddq_s32(vsubq_s32(e, half), bias);
	return vmulq_f32(p, vreinterpretq_f32_s32(vshlq_n_s32(e, 23)));
}

NEON_INLINE float neon_exp1(float x)
{
	return vgetq_lane_f32(neon_exp(vdupq_n_f32(x)), 0);
}

#endif
