/* SPDX-License-Identifier: MIT */
/*
 * An engine for tests of the frame of in-process devices: it copies what `copy` copies, keeps a
 * diary, and is slow, stubborn or broken when told to.
 */
#ifndef UNPU_TESTS_FAKE_H
#define UNPU_TESTS_FAKE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/device/inproc.h"

#define FAKE_DIARY	4096

struct fake {
	struct unpu_engine base;
	atomic_int prepared, released;	/* programs */
	atomic_int inside;			/* threads in run(): never above 1 */

	/* Set while nothing runs. */
	uint64_t run_ns;		/* each run takes this long */
	long release_ns;		/* and each release of a program */
	bool stubborn;			/* it does not look at cancel */
	uint32_t rounds;		/* up to so many in one run(); 0: one */
	uint32_t claims;		/* what it says it did; UINT32_MAX: 0; 0: the truth */
	bool lost_when_cancelled;
	int fail;			/* errno of each run */
	atomic_bool hold;		/* a run lasts until this is false */
	void (*hook)(struct fake *fake, void *arg);	/* at the end of each run */
	void *arg;

	/* What ran: the tag of each run's program and its nanoseconds. */
	atomic_uint runs, done;		/* calls of run() and rounds in them */
	uint32_t tags[FAKE_DIARY];
	uint64_t ns[FAKE_DIARY];
};

/* Small limits, so that tests reach them: see fake.c. The device owns the engine. */
struct unpu_device *fake_device(struct fake **fake);
/* The same, of which a thread of the frame runs the jobs. */
struct unpu_device *fake_device_threaded(struct fake **fake);
/* The same, because of the watch alone. */
struct unpu_device *fake_device_watched(const struct unpu_device_watch *watch, struct fake **fake);
/* The same with an engine that has its own memory, and none left. */
struct unpu_device *fake_device_without_memory(void);

uint64_t fake_now(void);

/* Shorthands that fail the test when a call does. */
uint32_t fake_bo(struct unpu_device *dev, uint64_t size, uint32_t flags);
void *fake_map(struct unpu_device *dev, uint32_t handle);
uint32_t fake_ctx(struct unpu_device *dev, uint32_t priority, uint64_t timeout_ns);
uint32_t fake_shader(struct unpu_device *dev, const char *name, const void *spec, uint32_t words);
uint32_t fake_syncobj(struct unpu_device *dev);
/* One `copy` of tag x 4 bytes from src to dst; stop: src has a stop word at byte 0. */
uint32_t fake_program(struct unpu_device *dev, uint32_t src, uint32_t dst, uint32_t tag,
		      bool stop);
/* One run; signals point of syncobj (0: no syncobj). Returns submit's answer. */
int fake_submit(struct unpu_device *dev, uint32_t ctx, uint32_t program, uint32_t repeat,
		uint32_t syncobj, uint64_t point);
struct drm_unpu_ctx_query fake_query(struct unpu_device *dev, uint32_t ctx);
struct drm_unpu_dev_stats fake_stats(struct unpu_device *dev);

#endif
