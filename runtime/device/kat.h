/* SPDX-License-Identifier: MIT */
/*
 * Known answers: every shader of a device against its twin on the cpu, of the same layout and
 * class, on the same made-up inputs.
 */
#ifndef UNPU_KAT_H
#define UNPU_KAT_H

#include "runtime/device/rig.h"

struct unpu_kat_params {
	const struct unpu_device_shape *shape;
	bool half;	/* products in f16: 2^-10 of them is no mistake */
	bool matrices;	/* only what multiplies by weights: the rest was tried before */
};

/* 0; -EBADMSG: *why says which shader was wrong and where; -errno: which call failed. */
int unpu_kat_run(struct unpu_device *dev, struct unpu_device *cpu,
		 const struct unpu_kat_params *params, char *why, size_t size);

#endif
