/* SPDX-License-Identifier: MIT */
/*
 * A device to try out: buffers, small programs and timed runs of them, through the device interface
 * alone. What known-answer tests and timed trials have in common.
 */
#ifndef UNPU_RIG_H
#define UNPU_RIG_H

#include <stdbool.h>

#include "runtime/device/device.h"
#include "shaders/shaders.h"

struct unpu_rig {
	struct unpu_device *dev;
	struct drm_unpu_dev_info info;
	uint32_t ctx_id, syncobj;
};

/* A range of a buffer. ptr: where the host sees it; NULL in the device's own memory. */
struct unpu_rig_range {
	uint32_t handle;
	uint64_t offset, bytes;
	uint8_t *ptr;
};

struct unpu_rig_dispatch {
	uint32_t kind;
	const void *spec, *constants;
	/* In the shader's order; bytes 0: nothing is read there. */
	struct unpu_rig_range bindings[UNPU_SHADER_MAX_BINDINGS];
};

#define UNPU_RIG_MAX_DISPATCHES	64

/* The device stays the caller's. 0 or -errno, as all calls here. */
int unpu_rig_init(struct unpu_rig *rig, struct unpu_device *dev);
void unpu_rig_finish(struct unpu_rig *rig);

/* A whole buffer, zeroed; mapped with DRM_UNPU_BO_MMAP. */
int unpu_rig_alloc(struct unpu_rig *rig, uint64_t bytes, uint32_t flags,
		   struct unpu_rig_range *range);
void unpu_rig_free(struct unpu_rig *rig, struct unpu_rig_range *range);
/* A piece of it. */
struct unpu_rig_range unpu_rig_part(const struct unpu_rig_range *range, uint64_t offset,
				    uint64_t bytes);

/* Binding 0 of the first dispatch stands in for ranges without bytes. */
int unpu_rig_program(struct unpu_rig *rig, const struct unpu_rig_dispatch *dispatches,
		     uint32_t count, uint32_t *program_id);
void unpu_rig_program_free(struct unpu_rig *rig, uint32_t program_id);
/* The program, repeat times, to its end. */
int unpu_rig_run(struct unpu_rig *rig, uint32_t program_id, uint32_t repeat);
/* The same with one dispatch that is made for it. */
int unpu_rig_once(struct unpu_rig *rig, const struct unpu_rig_dispatch *dispatch);

/*
 * How the device would multiply by weights of the shape's type, plain: in floats or in
 * quants with one scale a block alone. -ENOTSUP: it does not.
 */
int unpu_rig_matrix(const struct drm_unpu_dev_info *info, const struct unpu_device_shape *shape,
		    bool plain, struct drm_unpu_matrix *matrix);

uint64_t unpu_rig_now(void);

#endif
