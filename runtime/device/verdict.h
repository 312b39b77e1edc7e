/* SPDX-License-Identifier: MIT */
/*
 * What one run leaves for the next about devices that may fail: verdicts of trials, which device
 * has given good answers, and the marker of a first use that has not ended. All of it lies below
 * $XDG_CACHE_HOME/unpu, else ~/.cache/unpu; without such a place nothing is remembered.
 */
#ifndef UNPU_VERDICT_H
#define UNPU_VERDICT_H

#include <stdbool.h>

#include "runtime/device/device.h"

#define UNPU_VERDICT_KEY	80
#define UNPU_VERDICT_SHAPE	96
#define UNPU_VERDICT_TUNING	32
#define UNPU_VERDICT_WHY	128

struct unpu_verdict {
	bool use;		/* faster than the cpu, and right */
	char tuning[UNPU_VERDICT_TUNING];	/* the best of those that are right; "": none is */
	uint64_t device_ns, cpu_ns;		/* a token; 0: was not measured */
	char why[UNPU_VERDICT_WHY];		/* when it is not used */
};

/* A shape in words, as verdicts are kept by it. */
void unpu_verdict_shape(const struct unpu_device_shape *shape, char text[UNPU_VERDICT_SHAPE]);

/*
 * Verdicts by the device's id, its key (unpu_vulkan_info) and a shape, of this build of the
 * library. -ENOENT: there is none, or what is there is not one.
 */
int unpu_verdict_get(const struct unpu_log *log, const char *id, const char *key,
		     const char *shape, struct unpu_verdict *verdict);
void unpu_verdict_put(const struct unpu_log *log, const char *id, const char *key,
		      const char *shape, const struct unpu_verdict *verdict);

/* Which device "auto" is for a shape while the machine's drivers are what fingerprint says. */
int unpu_verdict_auto_get(const struct unpu_log *log, const char *fingerprint, const char *shape,
			  char id[16]);
void unpu_verdict_auto_put(const struct unpu_log *log, const char *fingerprint, const char *shape,
			   const char *id);

/* The key of the device that has given good answers under this id: 0 or -ENOENT. */
int unpu_verdict_good_get(const struct unpu_log *log, const char *id, char key[UNPU_VERDICT_KEY]);
void unpu_verdict_good_put(const struct unpu_log *log, const char *id, const char *key);

/* Whether there is a place that can be written to; its folder is made. */
bool unpu_verdict_remembers(void);

/* All of it, markers and compiled shaders too. */
void unpu_verdict_forget(const struct unpu_log *log);

/*
 * The marker of a first use. unpu_marker_set(): 1 when it is this process's now, 0 when a process
 * that lives has it or there is no place for one; -EBUSY: whoever had it is gone.
 * unpu_marker_look() says the same without setting it.
 */
int unpu_marker_look(const char *id);
int unpu_marker_set(const char *id);
void unpu_marker_clear(const char *id);

#endif
