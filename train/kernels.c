/* SPDX-License-Identifier: MIT */
#include "train/kernels.h"

#include "runtime/device/cpu/ops.h"

const struct unpu_train_ops *unpu_train_ops_get(uint32_t flags)
{
	const uint32_t have = flags & unpu_cpu_detect();
	const struct unpu_train_ops *ops = &unpu_train_ops_c;

	if (have & UNPU_CPU_MASK_AVX2) {
#if UNPU_HAVE_AVX2
		ops = &unpu_train_ops_avx2;
#endif
	}
	if (have & UNPU_CPU_MASK_AVX512VNNI) {
#if UNPU_HAVE_AVX512VNNI
		ops = &unpu_train_ops_avx512vnni;
#endif
	}
	if (have & UNPU_CPU_MASK_NEON) {
#if UNPU_HAVE_NEON
		ops = &unpu_train_ops_neon;
#endif
	}
	return ops;
}
