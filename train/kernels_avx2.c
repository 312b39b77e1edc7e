/* SPDX-License-Identifier: MIT */
/* 12 sums, 2 vectors of b and one of a in 16 registers. */
#define VL		8
#define MR		6
#define NRV		2
#define OPS		unpu_train_ops_avx2
#define OPS_NAME	"avx2"

#include "train/kernels_impl.h"
