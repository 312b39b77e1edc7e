/* SPDX-License-Identifier: MIT */
/*
 * What the blocks of a file's quantised types say, in one form that holds every one of them
 * exactly: a weight is scale[i / 16] * q[i] + offset.
 */
#ifndef UNPU_BLOCKS_H
#define UNPU_BLOCKS_H

#include <stdint.h>

/* 32 weights of one row. */
struct unpu_block {
	int8_t q[32];
	float scale[2];		/* of the first 16 and of the others */
	float offset;
};

/* Whether unpu_block_read() takes the type (enum unpu_type). */
int unpu_block_type(uint32_t type);
/* Block b of 32 weights of a row that begins at `row`, which may be unaligned. */
void unpu_block_read(uint32_t type, const uint8_t *row, uint32_t b, struct unpu_block *block);
/* Weight i, rounded to f32 once. */
float unpu_block_weight(const struct unpu_block *block, uint32_t i);
/* Scale and minimum of sub-block j (0..7) of the 12 bytes of a Q4_K or Q5_K superblock. */
void unpu_block_k_scale(const uint8_t scales[12], uint32_t j, uint8_t *scale, uint8_t *min);

#endif
