/* SPDX-License-Identifier: MIT */
/*
 * The frame of in-process devices: handle tables, contexts, queues, syncobjs and all checks of the
 * interface, once. An engine adds memory and execution.
 */
#ifndef UNPU_INPROC_H
#define UNPU_INPROC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/device/device.h"
#include "shaders/shaders.h"

struct unpu_engine;

/* A buffer; engines with their own memory keep what they need behind `priv`. */
struct unpu_bo {
	atomic_uint refs;
	uint32_t flags;		/* DRM_UNPU_BO_* */
	uint64_t size;		/* bytes, rounded up to pages */
	void *ptr;		/* host address; NULL when the engine has none */
	int imported;		/* ptr is the caller's */
	int writable;		/* when imported; any other is */
	void *priv;
};

/* One dispatch, checked: grid and binding sizes are exactly what unpu_shader_need() says. */
struct unpu_job_binding {
	struct unpu_bo *bo;
	uint64_t offset;
	uint64_t size;
};

struct unpu_job_dispatch {
	uint32_t kind;			/* enum unpu_shader_kind */
	uint32_t num_bindings;
	const uint32_t *spec;		/* specialization words of the shader, live with it */
	const void *constants;
	uint32_t grid[3];
	struct unpu_job_binding bindings[UNPU_SHADER_MAX_BINDINGS];
	void *priv;			/* the engine's; set by program_prepare */
};

struct unpu_program {
	atomic_uint refs;
	uint32_t num_dispatches;
	struct unpu_job_dispatch *dispatches;
	_Atomic uint32_t *stop;		/* NULL: the program names none */
	struct unpu_bo *stop_bo;	/* it lies there; of no meaning without one */
	void *priv;			/* the engine's */
	/* the frame's own follows in inproc_priv.h */
};

/*
 * One call at a time, except that run() may be in progress during any other, on another thread: the
 * same one always when the engine is threaded or the device watched, else that of whoever waits.
 * Optional: bo_alloc with bo_free, bo_import, shader_check, program_prepare, program_release.
 */
struct unpu_engine_ops {
	/* Limits, features, layouts and name, over the frame's own, which are filled in already. */
	void (*info)(struct unpu_engine *engine, struct drm_unpu_dev_info *info);
	/* Zeroed memory of bo->size bytes, aligned to binding_align. NULL: the frame mmaps. */
	int (*bo_alloc)(struct unpu_engine *engine, struct unpu_bo *bo);
	void (*bo_free)(struct unpu_engine *engine, struct unpu_bo *bo);
	/* With bo_alloc: what the engine needs to work on the caller's memory at bo->ptr, undone by
	 * bo_free. NULL: no imports. Engines without bo_alloc work in place. */
	int (*bo_import)(struct unpu_engine *engine, struct unpu_bo *bo);
	/* 0, or -EOPNOTSUPP when the engine has no such variant, before shader_create succeeds. */
	int (*shader_check)(struct unpu_engine *engine, uint32_t kind, const uint32_t *spec);
	/* Reserve all that runs will need: run() may not allocate. */
	int (*program_prepare)(struct unpu_engine *engine, struct unpu_program *program);
	void (*program_release)(struct unpu_engine *engine, struct unpu_program *program);
	/*
	 * All dispatches in order, 1 to `repeat` times as the engine chooses: *done. It returns
	 * between two rounds when the program's stop word is set. cancel is read now and then: not
	 * 0 ends it with -ECANCELED. -ENODEV: the device is lost, with all contexts; another error:
	 * this job, of which what this call did counts as not done.
	 */
	int (*run)(struct unpu_engine *engine, struct unpu_program *program, uint32_t repeat,
		   const atomic_uint *cancel, uint32_t *done);
	void (*destroy)(struct unpu_engine *engine);
	/* Bytes that it has taken besides those of buffers. At any time; NULL: none. */
	uint64_t (*used)(struct unpu_engine *engine);
};

struct unpu_engine {
	const struct unpu_engine_ops *ops;
	/* Jobs run by themselves, on a thread of the frame; else on the one that waits for them.
	 * Set before unpu_inproc_create(). */
	bool threaded;
};

/* Takes the engine over, on error too. watch: see unpu_device_params; may be NULL. */
int unpu_inproc_create(struct unpu_engine *engine, const char *id, const struct unpu_log *log,
		       const struct unpu_device_watch *watch, struct unpu_device **dev);

/*
 * Called before each run of an engine, on its thread, and counted as part of the run. Does nothing:
 * programs of the tests are linked with another one, which makes jobs hang, crash or dawdle by what
 * they copy.
 */
void unpu_inproc_hook_run(const struct unpu_program *program, const atomic_uint *cancel);

#endif
