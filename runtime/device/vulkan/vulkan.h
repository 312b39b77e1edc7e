/* SPDX-License-Identifier: MIT */
/*
 * The vulkan engine to the rest of the runtime: which devices there are, and one of them as an
 * engine. Nothing here needs Vulkan on the machine: without a loader there are no devices.
 */
#ifndef UNPU_VULKAN_H
#define UNPU_VULKAN_H

#include "runtime/device/inproc.h"

#define UNPU_VULKAN_MAX_DEVICES	16
#define UNPU_VULKAN_TUNING	32

enum unpu_vulkan_type {
	UNPU_VULKAN_OTHER = 0, UNPU_VULKAN_INTEGRATED, UNPU_VULKAN_DISCRETE, UNPU_VULKAN_VIRTUAL,
	UNPU_VULKAN_CPU,
};

struct unpu_vulkan_info {
	char name[64];
	char driver[64];	/* name and version, for people */
	/* Changes with the device, the driver and its compiler: pipelineCacheUUID and versions in
	 * hexadecimal. Verdicts and pipeline caches are kept by it. */
	char key[80];
	enum unpu_vulkan_type type;
	uint64_t heap_bytes;	/* of the largest heap a shader reads at full speed */
	char why[128];		/* not empty: why unpu cannot use it */
};

/* How many devices the loader offers, 0 without one; said once in the log why. -ENOMEM. */
int unpu_vulkan_count(const struct unpu_log *log, uint32_t *count);
int unpu_vulkan_describe(uint32_t index, const struct unpu_log *log, struct unpu_vulkan_info *info);

/*
 * The tunings of this device that are worth a timed trial for weights of this type (enum
 * unpu_type) and class, the one it would take by itself first. 0, and *count of up to `max`.
 */
int unpu_vulkan_tunings(uint32_t index, uint32_t type, uint32_t numeric, const struct unpu_log *log,
			char (*tunings)[UNPU_VULKAN_TUNING], uint32_t max, uint32_t *count);

/* params: tuning, slice_ns and log count. -ENODEV: no such device; -ENOTSUP: said why. */
int unpu_vulkan_engine_create(uint32_t index, const struct unpu_device_params *params,
			      struct unpu_engine **engine);

/* What an engine has done since it was created; for tests and --stats. */
struct unpu_vulkan_counters {
	uint64_t submits;		/* to the queue */
	uint64_t dispatches;		/* in them, canaries included */
	uint64_t canaries;
	uint64_t recordings;		/* of command buffers */
	uint64_t allocations;		/* of device memory */
	uint64_t descriptor_updates;
	uint64_t pipelines;		/* created */
	uint64_t compile_ns;		/* spent on that */
};
void unpu_vulkan_counters(struct unpu_engine *engine, struct unpu_vulkan_counters *counters);

#endif
