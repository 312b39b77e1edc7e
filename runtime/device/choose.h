/* SPDX-License-Identifier: MIT */
/* Which device "auto" is, and what was found out of all of them. */
#ifndef UNPU_CHOOSE_H
#define UNPU_CHOOSE_H

#include "runtime/device/probe.h"

/* What "auto" may be besides the cpu: a GPU as unpu-probe has seen it, or a node of the kernel
 * driver's. */
struct unpu_candidate {
	char id[16];
	bool accel;
	uint32_t index;		/* of its family */
	struct unpu_probe_device is;
};

#define UNPU_MAX_CANDIDATES	(2 * UNPU_PROBE_MAX_DEVICES)

struct unpu_candidates {
	uint32_t count;
	struct unpu_candidate of[UNPU_MAX_CANDIDATES];
};

/* 0, or as unpu_probe_list(), with why: nodes are listed all the same. */
int unpu_choose_list(struct unpu_candidates *list, char *why);

/*
 * The id for a shape: from what is remembered, else after a trial of every candidate, once. "cpu"
 * when shape is NULL, and whenever there is a doubt; why is said at level info.
 */
void unpu_choose(const struct unpu_device_params *params, char id[16]);

/* The same from memory alone: 0, or -ENOENT when it takes a trial, which is "cpu" so far. shape
 * NULL: 0 says that it is the cpu for all shapes. Without a candidate, or a place to remember, it
 * is. */
int unpu_choose_remembered(const struct unpu_log *log, const struct unpu_device_shape *shape,
			   char id[16]);

/* SmolLM2-135M in Q8_0: what devices are tried with where no model is at hand. */
extern const struct unpu_device_shape unpu_choose_typical;

/* The verdict of one of a list, tried now if it never was. -errno: it could not be tried today, and
 * *verdict, which says why, is not kept. */
int unpu_choose_judge(const struct unpu_log *log, const struct unpu_candidate *candidate,
		      uint32_t threads, const struct unpu_device_shape *shape,
		      struct unpu_verdict *verdict);

#endif
