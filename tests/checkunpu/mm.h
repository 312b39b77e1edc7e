/* SPDX-License-Identifier: MIT */
/*
 * A matrix as plain numbers, its activations and what the product is. mm.c has the problem, the
 * layouts with one scale a block and the float ones; mm_k.c the families with more scales.
 */
#ifndef UNPU_CHECK_MM_H
#define UNPU_CHECK_MM_H

#include "tests/checkunpu/checkunpu.h"

/* What the numbers are like. */
enum check_mm_kind { RANDOM, EXTREME, ALTERNATING, ZERO, SCALES, ACTIVATIONS, NUM_KINDS };

/* The scales of 32 k of a row: of Q4K and Q6K, then of Q8A. */
struct check_mm_k {
	uint16_t d, dmin;	/* the same for 8 blocks */
	int sc[2], m;		/* Q4K: sc[0] alone */
	float s[2], o;
};

struct check_mm {
	uint32_t layout, numeric, rows, k;	/* k as the file has it */
	uint32_t blocks;			/* of 32 k, padding included */
	const struct unpu_layout_info *info;
	/* plain, [rows][32 * blocks] */
	int8_t *q;
	float *w;
	uint16_t *scale;			/* [rows][blocks] */
	struct check_mm_k *k_scales;		/* the same */
	/* activations of as many tokens as are tried */
	uint64_t ldx;
	struct check_buf quants, scales, x, xq, xd, xsum;
	float *want;				/* [tokens][pad32(rows)] */
};

/* An f16; of the kind SCALES any bits. */
uint16_t check_mm_scale(enum check_mm_kind kind);

/*
 * Where quant i of 32 of a panel's row r lies, for layouts of 4 and 8 bits and the low nibbles of
 * 6: the byte of its block, and whether it is the high nibble.
 */
uint32_t check_mm_place(const struct check_mm *p, uint32_t r, uint32_t i, int *high);

/* ---- families with more scales than one a block -------------------------------------------- */

int check_mm_is_k(const struct check_mm *p);
void check_mm_k_make(struct check_mm *p, enum check_mm_kind kind);
void check_mm_k_pack(struct check_mm *p);
/* Bit for bit as ops.h says. */
float check_mm_k_a8(const struct check_mm *p, uint32_t r, uint32_t t);
float check_mm_k_weight(const struct check_mm *p, uint32_t r, uint32_t i);
/* Weight i of row r as a scaled part and what is added to it, both exact. */
void check_mm_k_parts(const struct check_mm *p, uint32_t r, uint32_t i, double *scaled,
		      double *added);

#endif
