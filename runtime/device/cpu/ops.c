/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/ops.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#include <asm/hwcap.h>
#endif

#include "runtime/device/cpu/c.h"

static unpu_mm_fn *mm_c(const struct drm_unpu_matrix *m)
{
	if (m->numeric != DRM_UNPU_CLASS_A8)
		return unpu_mm_f32_c;
	return unpu_layout_info(m->layout)->family > UNPU_FAMILY_Q ? unpu_mm_k_a8_c : unpu_mm_a8_c;
}

void unpu_cpu_ops_init_c(struct unpu_cpu_ops *ops)
{
	const struct unpu_cpu_isa *c = unpu_cpu_isa(0);

	memset(ops, 0, sizeof(*ops));
	ops->name = c->name;
	for (uint32_t i = 0; i < c->num_matrices; i++)
		ops->mm[c->matrices[i].layout][c->matrices[i].numeric] = mm_c(&c->matrices[i]);
	ops->quantize = unpu_quantize_c;
	ops->rms_norm = unpu_rms_norm_c;
	ops->layer_norm = unpu_layer_norm_c;
	ops->act[UNPU_ACT_SILU] = unpu_silu_c;
	ops->act[UNPU_ACT_GELU] = unpu_gelu_c;
	ops->act[UNPU_ACT_RELU] = unpu_relu_c;
	ops->to_f16 = unpu_to_f16_c;
	ops->attn[DRM_UNPU_KV_F32] = unpu_attn_f32_c;
	ops->attn[DRM_UNPU_KV_F16] = unpu_attn_f16_c;
	ops->attn[DRM_UNPU_KV_INT8] = unpu_attn_int8_c;
	ops->merge = unpu_merge_c;
	ops->max = unpu_max_c;
}

#if defined(__x86_64__)
uint32_t unpu_cpu_detect(void)
{
	unsigned int a, b, c = 0, d;
	uint32_t flags = 0;

	/* F16C is no name that every compiler's __builtin_cpu_supports() knows. */
	if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) &&
	    __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		flags |= UNPU_CPU_MASK_AVX2;
	if ((flags & UNPU_CPU_MASK_AVX2) && __builtin_cpu_supports("avx512f") &&
	    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
		flags |= UNPU_CPU_MASK_AVX512VNNI;
	return flags;
}
#elif defined(__aarch64__)
uint32_t unpu_cpu_detect(void)
{
	uint32_t flags = UNPU_CPU_MASK_NEON;	/* part of the base instruction set */

	if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
		flags |= UNPU_CPU_MASK_NEON_DOTPROD;
#if UNPU_HAVE_NEON
	if (!unpu_cpu_in_order())
		flags |= UNPU_CPU_MASK_NEON_REORDER;
#endif
	return flags;
}
#else
uint32_t unpu_cpu_detect(void)
{
	return 0;
}
#endif

void unpu_cpu_ops_init(struct unpu_cpu_ops *ops, uint32_t flags)
{
	const uint32_t have = flags & unpu_cpu_detect();
	uint32_t used = 0;

	unpu_cpu_ops_init_c(ops);
#if UNPU_HAVE_AVX2
	if (have & UNPU_CPU_MASK_AVX2) {
		unpu_cpu_ops_init_avx2(ops);
		used |= UNPU_CPU_MASK_AVX2;
	}
#endif
#if UNPU_HAVE_AVX512VNNI
	if (have & UNPU_CPU_MASK_AVX512VNNI) {
		unpu_cpu_ops_init_avx512vnni(ops);
		used |= UNPU_CPU_MASK_AVX512VNNI;
	}
#endif
#if UNPU_HAVE_NEON
	if (have & UNPU_CPU_MASK_NEON) {
		unpu_cpu_ops_init_neon(ops);
		if (!(have & UNPU_CPU_MASK_NEON_REORDER))
			unpu_cpu_ops_init_neon_inorder(ops);
		used |= UNPU_CPU_MASK_NEON;
	}
#endif
#if UNPU_HAVE_NEON_DOTPROD
	if (have & UNPU_CPU_MASK_NEON_DOTPROD) {
		unpu_cpu_ops_init_neon_dotprod(ops);
		used |= UNPU_CPU_MASK_NEON_DOTPROD;
	}
#endif
	(void)have;
	ops->num_matrices = unpu_cpu_isa_matrices(used, ops->matrices);
}

const struct unpu_cpu_isa *unpu_cpu_isa_here(void)
{
	struct unpu_cpu_ops ops;
	uint32_t mask;

	if (unpu_cpu_mask_parse(getenv("UNPU_CPUMASK"), &mask))
		mask = UNPU_CPU_MASK_C;
	unpu_cpu_ops_init(&ops, mask);
	return unpu_cpu_isa_find(ops.name);
}
