/* SPDX-License-Identifier: MIT */
/* 24 sums, 2 vectors of b and one of a in 32 registers; VNNI has no part in it. */
#define VL		16
#define MR		12
#define NRV		2
#define OPS		unpu_train_ops_avx512vnni
#define OPS_NAME	"avx512vnni"

#include "train/kernels_impl.h"
