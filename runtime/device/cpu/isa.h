/* SPDX-License-Identifier: MIT */
/* Instruction sets by name, and what each prefers: of any machine, not of this one. */
#ifndef UNPU_CPU_ISA_H
#define UNPU_CPU_ISA_H

#include <stdint.h>

#include "uapi/unpu_accel.h"

#define UNPU_CPU_MASK_C			0u
#define UNPU_CPU_MASK_AVX2		(1u << 0)	/* with FMA and F16C */
#define UNPU_CPU_MASK_AVX512VNNI	(1u << 1)	/* with F, BW, VL, DQ */
#define UNPU_CPU_MASK_NEON		(1u << 2)
#define UNPU_CPU_MASK_NEON_DOTPROD	(1u << 3)
/* Cores issue out of order. Without it some NEON twins have a schedule for those that do not. */
#define UNPU_CPU_MASK_NEON_REORDER	(1u << 4)

struct unpu_cpu_isa {
	const char *name;	/* "c", "avx2", "avx512vnni", "neon", "neon_dotprod" */
	uint32_t flag;		/* UNPU_CPU_MASK_* */
	uint32_t mask;		/* it and all below it */
	uint32_t num_matrices;	/* best first, those that it has better than what is below */
	const struct drm_unpu_matrix *matrices;
};

/* i from 0, lowest first; NULL past the last. */
const struct unpu_cpu_isa *unpu_cpu_isa(uint32_t i);
/* NULL: a name of none. */
const struct unpu_cpu_isa *unpu_cpu_isa_find(const char *name);

/*
 * All pairs of a machine with these instruction sets, best first, as its DEV_INFO tells them;
 * returns how many. list has room for DRM_UNPU_MAX_MATRICES.
 */
uint32_t unpu_cpu_isa_matrices(uint32_t flags, struct drm_unpu_matrix *list);
/* The one whose list this is; NULL: of none. */
const struct unpu_cpu_isa *unpu_cpu_isa_of(const struct drm_unpu_matrix *list, uint32_t count);

/* Bits of a mask name ("c", "avx2", "neon", ...: it and all below it); NULL or "": all ones. 0, or
 * -EINVAL for a name that is none. "neon_inorder": as "neon" on cores that issue in order. */
int unpu_cpu_mask_parse(const char *name, uint32_t *mask);

#endif
