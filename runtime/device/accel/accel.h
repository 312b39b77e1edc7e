/* SPDX-License-Identifier: MIT */
/*
 * The client of the kernel driver (driver/): a device node as a device of the runtime. accel:N is
 * the Nth of the driver's nodes, those of /dev/accel before those of /dev/dri. In builds without it
 * (UNPU_ACCEL 0) nothing of this is there.
 */
#ifndef UNPU_ACCEL_CLIENT_H
#define UNPU_ACCEL_CLIENT_H

#include "runtime/device/verdict.h"

#define UNPU_ACCEL_MAX_NODES	16
/* The group that may use the nodes, and the rule that gives them to it. */
#define UNPU_ACCEL_GROUP	"render"
#define UNPU_ACCEL_RULE		"60-unpu.rules"

struct unpu_accel_info {
	char path[32];
	char name[64];		/* of the device */
	char driver[64];	/* and its version, for people */
	/* Changes with the driver, the device behind it and what that can do: verdicts are kept by
	 * it. "": the node cannot be asked. */
	char key[UNPU_VERDICT_KEY];
	uint64_t heap_bytes;	/* for weights */
	char why[128];		/* not empty: why unpu cannot use it */
};

/* The driver's nodes, in order. Asks none of them anything that the device itself answers. */
uint32_t unpu_accel_list(struct unpu_accel_info infos[UNPU_ACCEL_MAX_NODES]);

/*
 * Whether the device is right and how fast it is beside the cpu, tried out now. 0: that is a
 * verdict to be kept; -errno: it failed or did not answer, today, and *verdict says so.
 */
int unpu_accel_test(uint32_t index, uint32_t threads, const struct unpu_device_shape *shape,
		    struct unpu_verdict *verdict);

/* ---- for the files of this folder, and tests ---- */

/*
 * The node as it is, not asked for a sign of life; unpu_accel_device_open() is for everybody else.
 * timeout_ns: of contexts whose creator asks for none; 0: the device's own, a minute at most.
 */
int unpu_accel_client_create(uint32_t index, uint64_t timeout_ns, const struct unpu_log *log,
			     struct unpu_device **dev);

struct unpu_accel_node {
	int fd;			/* open, or -errno */
	char path[32];
	char driver[64];	/* "unpu 1.0.0" */
};

/* The Nth node, opened if that can be. -ENODEV: there are fewer: *count. */
int unpu_accel_find(uint32_t index, struct unpu_accel_node *node, uint32_t *count);
/* The call until it was not interrupted. */
int unpu_accel_ioctl(int fd, unsigned long request, void *arg);
/* Limits and name. -ENOTSUP, said: of another version; -EPROTO: nonsense. */
int unpu_accel_ask_info(const struct unpu_accel_node *node, const struct unpu_log *log,
			struct drm_unpu_dev_info *info);

#endif
