/* SPDX-License-Identifier: MIT */
/*
 * A kernel with nodes of the driver unpu, in the process: behind them are devices of the frame.
 * tests/hooks/accel.o is linked before the library, in place of runtime/device/accel/sys.c.
 *
 * A program that sets nothing has the nodes of the environment:
 *
 *   UNPU_NODES=PATH=KIND,...   KIND: good, wrong (what it writes is), denied, hidden (denied, and
 *                              nobody says whose it is), other (another driver's), future (of
 *                              another version), stuck (it answers no call that takes the device),
 *                              lost@N|hang@N|gone@N (from its Nth run on)
 *
 * What it does not understand ends the program: a test with a misspelt node must not pass.
 */
#ifndef UNPU_TESTS_HOOKS_ACCEL_H
#define UNPU_TESTS_HOOKS_ACCEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "tests/lib/gpuish.h"

#define NODES	4

struct node {
	const char *path;		/* NULL: there is none */
	int err;			/* of open() */
	bool hidden;			/* nobody says whose it is */
	const char *driver;		/* NULL: unpu */
	/* What DEV_INFO says is changed by it; may be NULL. */
	void (*info)(struct drm_unpu_dev_info *info);
	/* A device for an open file; NULL: gpuish of these params. */
	int (*open)(struct node *node, struct unpu_device **dev);
	struct gpuish_params gpuish;
	enum gpuish_fault fault;	/* of devices opened from now on */
	uint32_t fault_at;
	bool wrong;			/* what jobs write last is */
	atomic_bool gone;		/* unplugged: -ENODEV, and who waits is woken */
	uint32_t gone_at;		/* at this run of a device */
	/* Calls that take the device wait as long as this is set. */
	atomic_bool stuck;

	/* What it has seen. */
	atomic_uint opens, files, mappings, runs;
	struct gpuish *last;		/* of the file opened last */
};

extern struct node nodes[NODES];

/* The nth call of the system from now on fails with err, and, with -ENODEV, all that come after it;
 * 0: none. Begins to count anew. */
void nodes_fail(uint32_t nth, int err);
uint32_t nodes_calls(void);
/* Every nth call is interrupted first, and so is each wait, every 2 ms; 0: none. */
void nodes_interrupt(uint32_t every);
/* Everything as at the start, without nodes. Nothing is open. */
void nodes_reset(void);

#endif
