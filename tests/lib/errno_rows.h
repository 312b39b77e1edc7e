/* SPDX-License-Identifier: MIT */
/*
 * The errno table of unpu_accel.h, row by row: one field of one call is wrong, the rest is valid.
 * The rows are read out of the header when this is built, each has a function here that makes just
 * its field wrong, and the same rows run on an in-process device and on a device node. Needs
 * nothing but libc.
 */
#ifndef UNPU_TESTS_ERRNO_ROWS_H
#define UNPU_TESTS_ERRNO_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "shaders/shaders.h"
#include "uapi/unpu_accel.h"

/* Those of the table, then those that only the rig makes. */
enum errno_call {
	ERRNO_CALL_DEV_QUERY, ERRNO_CALL_BO_CREATE, ERRNO_CALL_BO_MMAP_OFFSET,
	ERRNO_CALL_CTX_CREATE, ERRNO_CALL_CTX_DESTROY, ERRNO_CALL_CTX_QUERY,
	ERRNO_CALL_SHADER_CREATE, ERRNO_CALL_SHADER_DESTROY, ERRNO_CALL_PROGRAM_CREATE,
	ERRNO_CALL_PROGRAM_DESTROY, ERRNO_CALL_SUBMIT, ERRNO_CALL_GEM_CLOSE,
	ERRNO_CALL_SYNCOBJ_DESTROY, ERRNO_CALL_SYNCOBJ_WAIT,
	ERRNO_CALLS,
	ERRNO_CALL_SYNCOBJ_CREATE = ERRNO_CALLS,
	ERRNO_CALL_ANY,
};

struct errno_rig;

/* The device the rows run on. */
struct errno_device {
	/* `args` is the struct of the call; those of the DRM core are struct drm_gem_close,
	 * drm_syncobj_create, drm_syncobj_destroy and drm_syncobj_timeline_wait. 0 or -errno. */
	int (*call)(struct errno_device *device, enum errno_call call, void *args);
	void (*close)(struct errno_device *device);

	/* What calls alone cannot bring about; NULL: not on this device. 0, or -errno. */
	/* Jobs of the context wait for a long one. */
	int (*hold)(struct errno_device *device, uint32_t ctx);
	/* A context whose state is not OK. */
	int (*guilty)(struct errno_device *device, uint32_t *ctx);
	int (*no_memory)(struct errno_device *device, struct errno_rig *rig);
	int (*gone)(struct errno_device *device);
	/* It forgets everything and works again. */
	int (*lose)(struct errno_device *device);
	/* A buffer that may not be written. */
	int (*read_only)(struct errno_device *device, uint32_t *handle);
	uint64_t no_address;	/* where nothing is; 0: every number is an address */
};

/* Elements are longer than the device knows, which is fine as long as the tail is 0. */
struct errno_buffer { struct drm_unpu_buffer v1; uint64_t tail; };
struct errno_dispatch { struct drm_unpu_dispatch v1; uint32_t tail; };
struct errno_binding { struct drm_unpu_binding v1; uint32_t tail; };
struct errno_run { struct drm_unpu_run v1; uint64_t tail; };
struct errno_sync { struct drm_unpu_sync v1; uint64_t tail; };

#define ERRNO_MAX_RUNS	32

/* Valid arguments of every call, on a device where they hold. */
struct errno_rig {
	struct errno_device *device;
	uint32_t calls;			/* bits 1 << enum errno_call that the row is about */
	uint32_t window, unmappable;	/* buffers */
	uint32_t fresh;			/* a syncobj nothing has signalled */
	uint32_t timeline;		/* 4 is its last point */
	void *memory;			/* what a row has taken; freed with the rig */

	struct drm_unpu_dev_info info, info2;
	struct drm_unpu_dev_stats stats;
	struct drm_unpu_shader_name names[2];
	void *args[ERRNO_CALLS];

	struct drm_unpu_dev_query dev_query;
	struct drm_unpu_bo_create bo_create;
	struct drm_unpu_bo_mmap_offset bo_mmap_offset;
	struct drm_unpu_ctx_create ctx_create;
	struct drm_unpu_ctx_destroy ctx_destroy;
	struct drm_unpu_ctx_query ctx_query;
	struct unpu_attn_spec attn;
	struct unpu_ffn_out_spec ffn_out;
	struct drm_unpu_shader_create shader_create;
	struct drm_unpu_shader_destroy shader_destroy;
	struct errno_buffer buffers[5];
	struct errno_dispatch dispatches[2];
	struct errno_binding bindings[10];
	uint32_t constants[4];
	struct drm_unpu_program_create program_create;
	struct drm_unpu_program_destroy program_destroy;
	struct errno_run runs[ERRNO_MAX_RUNS];
	struct errno_sync syncs[3];
	struct drm_unpu_submit submit;
	struct drm_gem_close gem_close;
	struct drm_syncobj_destroy syncobj_destroy;
	uint32_t wait_handle;
	uint64_t wait_point;
	struct drm_syncobj_timeline_wait syncobj_wait;
};

#define ERRNO_NODE		1u	/* only a device node can answer */
#define ERRNO_IN_PROCESS	2u	/* only a device in process can */

struct errno_row {
	const char *name;		/* "BO_CREATE | size | 0" */
	/* Makes the field wrong, in its variant's way; returns how many variants there are, 0:
	 * none on this device, or -errno when that has failed. */
	int (*spoil)(struct errno_rig *rig, int variant);
	enum errno_call call;
	int err;
	unsigned int flags;
};

extern const struct errno_row errno_rows[];
extern const size_t errno_num_rows;

/*
 * On a new device each, which ends with its close(). The row's calls fail as the row says and
 * change neither the caller's memory but error_index, nor the device: the same calls without the
 * wrong field succeed after it. 0, or -1 with one sentence in `why`. *variants as spoil()
 * returns them.
 */
int errno_row_check(const struct errno_row *row, int variant, struct errno_device *device,
		    int *variants, char *why, size_t why_bytes);
/* Without a wrong field every call succeeds; which is what makes a row a test. */
int errno_valid_check(enum errno_call call, struct errno_device *device, char *why,
		      size_t why_bytes);
/* error_index names the element. */
int errno_index_check(struct errno_device *device, char *why, size_t why_bytes);

#endif
