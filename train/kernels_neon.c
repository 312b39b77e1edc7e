/* SPDX-License-Identifier: MIT */
/* 16 sums, 2 vectors of b and 2 of a in 32 registers. */
#define VL		4
#define MR		8
#define NRV		2
#define OPS		unpu_train_ops_neon
#define OPS_NAME	"neon"

#include "train/kernels_impl.h"
