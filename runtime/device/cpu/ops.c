/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/ops.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#include <asm/hwcap.h>
#endif

#include "runtime/device/cpu/c.h"

/*
 * Worst first, since each goes to the front of the list. R32 is a GPU's: nothing is packed so for
 * the cpu, but its twins run what was packed for another device.
 */
static const struct drm_unpu_matrix c_matrices[] = {
	{ DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_GGUF_Q4_0, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_Q8_0, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_BF16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_F16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_Q4_0, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_GGUF_Q8_0, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_A8 },
};

#define NUM_C_MATRICES	(sizeof(c_matrices) / sizeof(c_matrices[0]))

_Static_assert(NUM_C_MATRICES <= DRM_UNPU_MAX_MATRICES, "the list of pairs must fit DEV_INFO");

void unpu_cpu_ops_prefer(struct unpu_cpu_ops *ops, uint32_t layout, uint32_t numeric)
{
	uint32_t i;

	for (i = 0; i < ops->num_matrices; i++)
		if (ops->matrices[i].layout == layout && ops->matrices[i].numeric == numeric)
			break;
	if (i == DRM_UNPU_MAX_MATRICES)
		return;
	if (i == ops->num_matrices)
		ops->num_matrices++;
	memmove(ops->matrices + 1, ops->matrices, i * sizeof(ops->matrices[0]));
	ops->matrices[0].layout = layout;
	ops->matrices[0].numeric = numeric;
}

static unpu_mm_fn *mm_c(const struct drm_unpu_matrix *m)
{
	static unpu_mm_fn *const fn[2][2] = {
		{ unpu_mm_f32_c, unpu_mm_a8_c }, { unpu_mm_k_f32_c, unpu_mm_k_a8_c },
	};
	int k = unpu_layout_info(m->layout)->family > UNPU_FAMILY_Q;

	return fn[k][m->numeric == DRM_UNPU_CLASS_A8];
}

void unpu_cpu_ops_init_c(struct unpu_cpu_ops *ops)
{
	memset(ops, 0, sizeof(*ops));
	ops->name = "c";
	for (uint32_t i = 0; i < NUM_C_MATRICES; i++) {
		const struct drm_unpu_matrix *m = &c_matrices[i];

		ops->mm[m->layout][m->numeric] = mm_c(m);
		unpu_cpu_ops_prefer(ops, m->layout, m->numeric);
	}
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
	return flags;
}
#else
uint32_t unpu_cpu_detect(void)
{
	return 0;
}
#endif

int unpu_cpu_mask_parse(const char *name, uint32_t *mask)
{
	static const struct {
		const char *name;
		uint32_t mask;
	} names[] = {
		{ "c", UNPU_CPU_MASK_C },
		{ "avx2", UNPU_CPU_MASK_AVX2 },
		{ "avx512vnni", UNPU_CPU_MASK_AVX2 | UNPU_CPU_MASK_AVX512VNNI },
		{ "neon", UNPU_CPU_MASK_NEON },
		{ "neon_dotprod", UNPU_CPU_MASK_NEON | UNPU_CPU_MASK_NEON_DOTPROD },
	};

	if (!name || !*name) {
		*mask = ~0u;
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(name, names[i].name)) {
			*mask = names[i].mask;
			return 0;
		}
	}
	return -EINVAL;
}

void unpu_cpu_ops_init(struct unpu_cpu_ops *ops, uint32_t flags)
{
	const uint32_t have = flags & unpu_cpu_detect();

	unpu_cpu_ops_init_c(ops);
	if (have & UNPU_CPU_MASK_AVX2) {
#if UNPU_HAVE_AVX2
		unpu_cpu_ops_init_avx2(ops);
#endif
	}
	if (have & UNPU_CPU_MASK_AVX512VNNI) {
#if UNPU_HAVE_AVX512VNNI
		unpu_cpu_ops_init_avx512vnni(ops);
#endif
	}
	if (have & UNPU_CPU_MASK_NEON) {
#if UNPU_HAVE_NEON
		unpu_cpu_ops_init_neon(ops);
#endif
	}
	if (have & UNPU_CPU_MASK_NEON_DOTPROD) {
#if UNPU_HAVE_NEON_DOTPROD
		unpu_cpu_ops_init_neon_dotprod(ops);
#endif
	}
}
