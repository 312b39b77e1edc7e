/* SPDX-License-Identifier: MIT */
/* Which device "auto" is, and what was found out of all of them. */
#ifndef UNPU_CHOOSE_H
#define UNPU_CHOOSE_H

#include "runtime/device/probe.h"

/*
 * The id for a shape: from what is remembered, else after a trial of every GPU, once. "cpu" when
 * shape is NULL, and whenever there is a doubt; why is said at level info.
 */
void unpu_choose(const struct unpu_device_params *params, char id[16]);

/* The same from memory alone: 0, or -ENOENT when it takes a trial, which is "cpu" so far. shape
 * NULL: 0 says that it is the cpu for all shapes. Without a GPU, or a place to remember, it is. */
int unpu_choose_remembered(const struct unpu_log *log, const struct unpu_device_shape *shape,
			   char id[16]);

/* SmolLM2-135M in Q8_0: what GPUs are tried with where no model is at hand. */
extern const struct unpu_device_shape unpu_choose_typical;

/* The verdict of one device of a list, tried now if it never was. */
void unpu_choose_judge(const struct unpu_log *log, uint32_t index,
		       const struct unpu_probe_device *device, uint32_t threads,
		       const struct unpu_device_shape *shape, struct unpu_verdict *verdict);

#endif
