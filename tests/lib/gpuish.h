/* SPDX-License-Identifier: MIT */
/*
 * A device that behaves as a GPU does, on the twins of the cpu: its jobs run by themselves, several
 * rounds at once, memory need not be mappable, and it is lost, hangs, runs out of memory or gives
 * wrong results when a test says so.
 */
#ifndef UNPU_TESTS_GPUISH_H
#define UNPU_TESTS_GPUISH_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/device/inproc.h"

enum gpuish_fault {
	GPUISH_NONE = 0,
	GPUISH_LOST,		/* -ENODEV, now and for ever */
	GPUISH_HANG,		/* until it is told to end; then as lost */
	GPUISH_OOM,		/* -ENOMEM */
	GPUISH_CORRUPT,		/* writes nonsense wherever it may, and its canary tells: -EIO */
	GPUISH_NAN,		/* the largest logit is not finite */
	GPUISH_INDEX,		/* a word was out of range */
	GPUISH_TOO_MANY,	/* says that it sampled more tokens than it was to */
	GPUISH_BAD_TOKEN,	/* samples ids that are none */
	GPUISH_FAULTS,
};

struct gpuish_params {
	bool mappable;		/* all of its memory */
	bool r32;		/* takes no other layouts */
	bool impure;		/* it says that rows depend on those beside them */
	bool waits;		/* jobs run on the thread that waits, all the same */
	uint32_t tokens_per_submit;	/* 0: 1 */
	uint32_t rounds;	/* in one run(); 0: 1 */
	uint64_t device_bytes, window_bytes, max_bo_bytes;	/* 0: as the cpu */
	uint64_t timeout_ns;	/* of a context: 0: longer than any test */
};

struct gpuish {
	struct unpu_engine base;
	struct unpu_engine *cpu;
	struct gpuish_params params;
	bool gone;
	/* Set while nothing runs. */
	enum gpuish_fault fault;
	uint32_t fault_at;		/* the run() it comes with, from 1; 0: none */
	void (*hook)(void *arg);	/* before each run() */
	void *arg;
	atomic_uint runs, rounds;
	atomic_uint *closed;		/* counts destroyed engines; may be NULL */
};

struct unpu_model;

/* The model, which a test has loaded on the cpu, is there instead. */
int gpuish_move_in(struct unpu_model *model, const struct gpuish_params *params,
		   struct gpuish **g);

/* Called "gpuish:0". 0 or -errno; *g is the device's. */
int gpuish_open(const struct gpuish_params *params, const struct unpu_log *log,
		struct unpu_device **dev, struct gpuish **g);

#endif
