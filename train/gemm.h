/* SPDX-License-Identifier: MIT */
/* C = A . B or C += A . B, by all threads of a team. */
#ifndef UNPU_TRAIN_GEMM_H
#define UNPU_TRAIN_GEMM_H

#include <stdbool.h>

#include "train/team.h"

/* C is m x n, A is m x k (or k x m when turned), B is k x n (or n x k when turned). */
struct unpu_gemm {
	uint32_t m, n, k;
	const float *a, *b;
	size_t lda, ldb;	/* floats from row to row, as they lie */
	bool turn_a, turn_b;
	float *c;
	size_t ldc;
	bool add;
};

/* Floats of team->packed[i] for the widest n, and of own[i], for any product. */
size_t unpu_gemm_packed_floats(const struct unpu_train_ops *ops, uint32_t n);
size_t unpu_gemm_own_floats(const struct unpu_train_ops *ops);

/*
 * Called by every member with the same arguments. A, B and C may be written by others until the
 * call and after it only behind a barrier of the caller's; inside there are barriers of its own.
 */
void unpu_gemm(const struct unpu_member *me, const struct unpu_gemm *g);

#endif
