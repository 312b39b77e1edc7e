/* SPDX-License-Identifier: MIT */
/*
 * GPUs seen through unpu-probe, a process that may crash and hang. What it writes is believed no
 * more than a file would be.
 */
#ifndef UNPU_PROBE_H
#define UNPU_PROBE_H

#include "runtime/device/verdict.h"

#define UNPU_PROBE_MAX_DEVICES	16

/* As enum unpu_vulkan_type has them: the probe's numbers, without Vulkan here. */
#define UNPU_PROBE_TYPE_CPU	4

struct unpu_probe_device {
	uint32_t type;
	uint64_t heap_bytes;
	char key[UNPU_VERDICT_KEY];
	char name[64], driver[64];
	char why[UNPU_VERDICT_WHY];	/* not empty: unpu cannot use it */
};

struct unpu_probe_list {
	uint32_t count;
	struct unpu_probe_device devices[UNPU_PROBE_MAX_DEVICES];
};

struct unpu_probe {
	const char *program;	/* NULL: where it is installed */
	uint32_t timeout_ms;	/* 0: enough for slow compilers of shaders */
};

/*
 * 0; -ENOENT: there is no such program; -EPERM: it cannot be started, as in a sandbox; -EIO: it
 * died, hung or wrote what it should not. *why, of UNPU_VERDICT_WHY bytes, has the reason.
 */
int unpu_probe_list(const struct unpu_probe *probe, struct unpu_probe_list *list, char *why);
/* The device's verdict, also when the probe died of it: then 0 too, since that is one. */
int unpu_probe_test(const struct unpu_probe *probe, uint32_t index, uint32_t threads,
		    const struct unpu_device_shape *shape, struct unpu_verdict *verdict);

/*
 * Whether a GPU is possible and can be tried out: there is a probe, and the kernel has a node for a
 * GPU. A caller who names a probe in UNPU_PROBE is believed without.
 */
bool unpu_probe_worthwhile(void);

/* Changes when a driver is installed, removed or chosen by the environment. */
void unpu_probe_fingerprint(char text[17]);

#endif
