/* SPDX-License-Identifier: MIT */
/*
 * Which pairs of layout and class an instruction set multiplies by, best first. Data on every
 * machine, so that weights can be packed for another one.
 */
#include "runtime/device/cpu/isa.h"

#include <errno.h>
#include <string.h>

/*
 * Plain C runs whatever was packed for any device. R32 is a GPU's: nothing is packed so for the
 * cpu.
 */
static const struct drm_unpu_matrix c[] = {
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_Q8_0, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_GGUF_Q4_0, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_F16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_BF16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_Q8_0, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_GGUF_Q4_0, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R32, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32 },
};

_Static_assert(sizeof(c) / sizeof(c[0]) <= DRM_UNPU_MAX_MATRICES,
	       "the list of pairs must fit DEV_INFO");

static const struct drm_unpu_matrix avx2[] = {
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32 },
};

static const struct drm_unpu_matrix avx512vnni[] = {
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R16_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R16_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R16_K4U, DRM_UNPU_CLASS_F32 },
};

/* Of two layouts for the same weights the first is taken: K16, which class a8 has here. */
static const struct drm_unpu_matrix neon[] = {
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_BF16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32 },
};

/* A matrix may be used in both classes from one packing, so K4 leads in class f32 as well. */
static const struct drm_unpu_matrix neon_dotprod[] = {
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_A8 },
	{ DRM_UNPU_LAYOUT_Q4_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q4K_R8_K4U, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q6K_R8_K4, DRM_UNPU_CLASS_F32 },
	{ DRM_UNPU_LAYOUT_Q8A_R8_K4, DRM_UNPU_CLASS_F32 },
};

#define ISA(n, f, all)	{ #n, f, all, sizeof(n) / sizeof(n[0]), n }

/* Each behind those it goes on from. */
static const struct unpu_cpu_isa isas[] = {
	ISA(c, UNPU_CPU_MASK_C, UNPU_CPU_MASK_C),
	ISA(avx2, UNPU_CPU_MASK_AVX2, UNPU_CPU_MASK_AVX2),
	ISA(avx512vnni, UNPU_CPU_MASK_AVX512VNNI,
	    UNPU_CPU_MASK_AVX2 | UNPU_CPU_MASK_AVX512VNNI),
	ISA(neon, UNPU_CPU_MASK_NEON, UNPU_CPU_MASK_NEON | UNPU_CPU_MASK_NEON_REORDER),
	ISA(neon_dotprod, UNPU_CPU_MASK_NEON_DOTPROD,
	    UNPU_CPU_MASK_NEON | UNPU_CPU_MASK_NEON_REORDER | UNPU_CPU_MASK_NEON_DOTPROD),
};

const struct unpu_cpu_isa *unpu_cpu_isa(uint32_t i)
{
	return i < sizeof(isas) / sizeof(isas[0]) ? &isas[i] : NULL;
}

const struct unpu_cpu_isa *unpu_cpu_isa_find(const char *name)
{
	const struct unpu_cpu_isa *isa;

	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++)
		if (!strcmp(isa->name, name))
			return isa;
	return NULL;
}

int unpu_cpu_mask_parse(const char *name, uint32_t *mask)
{
	const struct unpu_cpu_isa *isa;

	if (!name || !*name) {
		*mask = ~0u;
		return 0;
	}
	if (!strcmp(name, "neon_inorder")) {
		*mask = UNPU_CPU_MASK_NEON;
		return 0;
	}
	isa = unpu_cpu_isa_find(name);
	if (!isa)
		return -EINVAL;
	*mask = isa->mask;
	return 0;
}

/* A pair goes to the front, from where it was or as a new one. */
static uint32_t prefer(struct drm_unpu_matrix *list, uint32_t count, struct drm_unpu_matrix pair)
{
	uint32_t i = 0;

	while (i < count && (list[i].layout != pair.layout || list[i].numeric != pair.numeric))
		i++;
	if (i == DRM_UNPU_MAX_MATRICES)
		return count;
	memmove(list + 1, list, i * sizeof(*list));
	list[0] = pair;
	return i < count ? count : count + 1;
}

uint32_t unpu_cpu_isa_matrices(uint32_t flags, struct drm_unpu_matrix *list)
{
	const struct unpu_cpu_isa *isa;
	uint32_t count = 0;

	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++) {
		if ((flags & isa->flag) != isa->flag)
			continue;
		for (uint32_t n = isa->num_matrices; n--;)
			count = prefer(list, count, isa->matrices[n]);
	}
	return count;
}

const struct unpu_cpu_isa *unpu_cpu_isa_of(const struct drm_unpu_matrix *list, uint32_t count)
{
	struct drm_unpu_matrix its[DRM_UNPU_MAX_MATRICES];
	const struct unpu_cpu_isa *isa;

	for (uint32_t i = 0; (isa = unpu_cpu_isa(i)); i++)
		if (unpu_cpu_isa_matrices(isa->mask, its) == count &&
		    !memcmp(its, list, count * sizeof(*list)))
			return isa;
	return NULL;
}
