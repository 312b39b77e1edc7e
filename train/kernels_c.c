/* SPDX-License-Identifier: MIT */
/* Vectors that every 64-bit machine has, and 32-bit ones emulate. */
#define VL		4
#define MR		4
#define NRV		2
#define OPS		unpu_train_ops_c
#define OPS_NAME	"c"

#include "train/kernels_impl.h"
