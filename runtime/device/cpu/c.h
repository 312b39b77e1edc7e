/* SPDX-License-Identifier: MIT */
/* The plain C twins: the specification, and what runs where no instruction set is known. */
#ifndef UNPU_CPU_C_H
#define UNPU_CPU_C_H

#include "runtime/device/cpu/ops.h"

unpu_mm_fn unpu_mm_f32_c, unpu_mm_a8_c;
unpu_mm_fn unpu_mm_k_a8_c;
/* The 8 rows from `row` on of block b of such a family, as class f32 multiplies them. */
void unpu_mm_k_block_c(const struct unpu_mm_args *args, uint32_t row, uint32_t b, float out[][32]);
/* Row `row` of a matrix of such a family, dequantised: pad32(k) floats. */
void unpu_mm_k_row_c(uint32_t layout, const void *quants, const void *scales, uint32_t k,
		     uint32_t row, float *out);
/* 8 rows by so many tokens share one unpacked block. */
#define UNPU_MM_C_TOKENS	8u
typedef void unpu_mm_tile_fn(const struct unpu_mm_args *args, uint32_t row, uint32_t t0,
			     uint32_t tokens);
/* All of a product, tile by tile. */
void unpu_mm_tiles_c(const struct unpu_mm_args *args, unpu_mm_tile_fn *tile);
unpu_quantize_fn unpu_quantize_c;
unpu_norm_fn unpu_rms_norm_c, unpu_layer_norm_c;
unpu_act_fn unpu_silu_c, unpu_gelu_c, unpu_relu_c;
unpu_to_f16_fn unpu_to_f16_c;
unpu_attn_fn unpu_attn_f32_c, unpu_attn_f16_c, unpu_attn_int8_c;
unpu_merge_fn unpu_merge_c;
unpu_max_fn unpu_max_c;

#endif
