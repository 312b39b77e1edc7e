/* SPDX-License-Identifier: MIT */
/* The x86 twins, declared through the types of ops.h. Nothing here needs aligned operands. */
#ifndef UNPU_CPU_X86_H
#define UNPU_CPU_X86_H

#include <immintrin.h>
#include <string.h>

#include "runtime/device/cpu/ops.h"

unpu_mm_fn unpu_mm_q8_r8_k4_a8_avx2, unpu_mm_q4_r8_k4u_a8_avx2;
unpu_mm_fn unpu_mm_q8_r8_k4_f32_avx2, unpu_mm_q4_r8_k4u_f32_avx2;
unpu_mm_fn unpu_mm_q4k_r8_k4u_a8_avx2, unpu_mm_q4k_r8_k4u_f32_avx2;
unpu_mm_fn unpu_mm_q6k_r8_k4_a8_avx2, unpu_mm_q6k_r8_k4_f32_avx2;
unpu_mm_fn unpu_mm_q8a_r8_k4_a8_avx2, unpu_mm_q8a_r8_k4_f32_avx2;
unpu_mm_fn unpu_mm_f32_r16_avx2, unpu_mm_f16_r16_avx2, unpu_mm_bf16_r16_avx2;
unpu_quantize_fn unpu_quantize_avx2;
unpu_norm_fn unpu_rms_norm_avx2, unpu_layer_norm_avx2;
unpu_act_fn unpu_silu_avx2, unpu_gelu_avx2, unpu_relu_avx2;
unpu_to_f16_fn unpu_to_f16_avx2;
unpu_attn_fn unpu_attn_f32_avx2, unpu_attn_f16_avx2, unpu_attn_int8_avx2;
unpu_merge_fn unpu_merge_avx2;
unpu_max_fn unpu_max_avx2;

unpu_mm_fn unpu_mm_q8_r16_k4u_a8_avx512vnni, unpu_mm_q4_r16_k4u_a8_avx512vnni;
unpu_mm_fn unpu_mm_q8_r16_k4u_f32_avx512vnni, unpu_mm_q4_r16_k4u_f32_avx512vnni;
unpu_mm_fn unpu_mm_q4k_r16_k4u_a8_avx512vnni, unpu_mm_q4k_r16_k4u_f32_avx512vnni;
unpu_mm_fn unpu_mm_q6k_r16_k4_a8_avx512vnni, unpu_mm_q6k_r16_k4_f32_avx512vnni;
unpu_mm_fn unpu_mm_q8a_r16_k4u_a8_avx512vnni, unpu_mm_q8a_r16_k4u_f32_avx512vnni;
unpu_mm_fn unpu_mm_f32_r16_avx512vnni, unpu_mm_f16_r16_avx512vnni, unpu_mm_bf16_r16_avx512vnni;
unpu_quantize_fn unpu_quantize_avx512vnni;
unpu_norm_fn unpu_rms_norm_avx512vnni, unpu_layer_norm_avx512vnni;
unpu_act_fn unpu_silu_avx512vnni, unpu_gelu_avx512vnni, unpu_relu_avx512vnni;
unpu_to_f16_fn unpu_to_f16_avx512vnni;
unpu_attn_fn unpu_attn_f32_avx512vnni, unpu_attn_f16_avx512vnni, unpu_attn_int8_avx512vnni;
unpu_merge_fn unpu_merge_avx512vnni;
unpu_max_fn unpu_max_avx512vnni;

/* Bodies of tiles: their sizes must be constants of the compiler. */
#define UNPU_INLINE	static inline __attribute__((always_inline))
/* Steps of a call that all tiles take alike: one copy for all sizes of them. */
#define UNPU_SHARED	static __attribute__((noinline))

/* An array of vectors lives in registers only when the loops over it are unrolled to the end. */
#define UNPU_UNROLL	_Pragma("GCC unroll 8")
/* And one over blocks is to stay one: gcc would write out all 8 of a group (60 KB of code). */
#define UNPU_ROLLED	_Pragma("GCC unroll 1")

/* Four int8 as one word, to be repeated in each lane. */
UNPU_INLINE int32_t unpu_load_word(const void *p)
{
	int32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/*
 * One token streams the weights from memory: fetch this far ahead, past a page that the hardware
 * prefetcher does not cross.
 */
#define UNPU_PREFETCH_BYTES	4096

UNPU_INLINE void unpu_prefetch(const void *p, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)p + UNPU_PREFETCH_BYTES + i, _MM_HINT_T0);
}

/*
 * Scales are a stream of their own, several times thinner. With AVX-512 a core is quick enough to
 * wait for them; with AVX2 the instructions cost more than they bring.
 */
UNPU_INLINE void unpu_prefetch_scales(const void *p, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)p + UNPU_PREFETCH_BYTES / 4 + i, _MM_HINT_T0);
}

#endif
