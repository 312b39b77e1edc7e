/* SPDX-License-Identifier: MIT */
/* The honest part: as much of a device as copies need. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shaders/shaders.h"
#include "tests/vm/liar/liar.h"

struct bo {
	bool used;
	uint64_t offset, size;	/* offset 0: `own` */
	uint8_t *own;
};

struct program {
	uint8_t *image;
	struct unpu_proto_program is;
};

static struct bo bos[UNPU_PROTO_MAX_IDS];
static struct program programs[UNPU_PROTO_MAX_IDS];
static bool shaders[UNPU_PROTO_MAX_IDS];
static struct {
	bool used;
	uint32_t progress;
} ctxs[UNPU_PROTO_MAX_CTXS];
static uint8_t *last_to;
static uint64_t last_bytes;

struct drm_unpu_dev_info liar_info(void)
{
	struct drm_unpu_dev_info info = {
		.version_major = 1,
		.heap_window_bytes = LIAR_WINDOW - UNPU_PROTO_HEAP,
		.heap_device_bytes = 16 << 20,
		.max_bo_bytes = 16 << 20, .max_binding_bytes = 16 << 20, .binding_align = 16,
		.max_rows = 64, .max_dispatches = 4096, .max_bindings = 8, .max_buffers = 4096,
		.max_spec_words = UNPU_PROTO_MAX_SPEC, .max_const_bytes = 128,
		.max_programs = UNPU_PROTO_MAX_RUNS, .max_repeat = 1 << 16,
		.max_job_dispatches = 1 << 20, .max_syncs = 16, .max_contexts = 16,
		.max_queued_jobs = 64, .tokens_per_submit = 8,
		.default_timeout_ns = 1000 * LIAR_MS, .max_timeout_ns = 2000 * LIAR_MS,
		.max_job_time_ns = 2000 * LIAR_MS,
		.kv_types = 1, .units = 1,
		.name = "liar",
	};

	return info;
}

/* ---- objects -------------------------------------------------------------------------------- */

static int bo_create(const struct liar *liar, uint32_t id, const struct unpu_proto_bo *from)
{
	struct bo bo = { .used = true, .offset = from->offset, .size = from->size };

	if (!id || id >= UNPU_PROTO_MAX_IDS || bo.size > LIAR_WINDOW * 4)
		return -EINVAL;
	if (bos[id].used)
		return -EEXIST;
	if (from->flags & DRM_UNPU_BO_MMAP) {
		if (!bo.offset || !vdev_link_in_heap(&liar->link, bo.offset, bo.size))
			return -EINVAL;
	} else {
		bo.offset = 0;
		bo.own = calloc(1, bo.size);
		if (!bo.own)
			return -ENOMEM;
	}
	bos[id] = bo;
	return 0;
}

static void bo_destroy(const struct liar *liar, uint32_t id)
{
	if (id >= UNPU_PROTO_MAX_IDS || !bos[id].used)
		return;
	if (last_to && bos[id].own && last_to >= bos[id].own &&
	    last_to < bos[id].own + bos[id].size)
		last_to = NULL;
	if (bos[id].offset)
		memset(liar->window + bos[id].offset, 0, bos[id].size);
	free(bos[id].own);
	bos[id] = (struct bo){ .used = false };
}

static int shader_create(uint32_t id, const struct unpu_proto_shader *from)
{
	if (!id || id >= UNPU_PROTO_MAX_IDS)
		return -EINVAL;
	if (shaders[id])
		return -EEXIST;
	if (memcmp(from->name.name, "copy.1", 7))
		return -ENOENT;
	shaders[id] = true;
	return 0;
}

static uint64_t image_size(const struct unpu_proto_program *is)
{
	return (uint64_t)is->num_buffers * sizeof(struct drm_unpu_buffer) +
	       (uint64_t)is->num_dispatches * sizeof(struct drm_unpu_dispatch) +
	       (uint64_t)is->num_bindings * sizeof(struct drm_unpu_binding) + is->const_bytes;
}

static int program_create(const struct liar *liar, uint32_t id,
			  const struct unpu_proto_program *is)
{
	if (!id || id >= UNPU_PROTO_MAX_IDS || is->size != image_size(is) ||
	    !vdev_link_in_heap(&liar->link, is->offset, is->size))
		return -EINVAL;
	if (programs[id].image)
		return -EEXIST;
	programs[id].image = malloc(is->size + 1);
	if (!programs[id].image)
		return -ENOMEM;
	memcpy(programs[id].image, liar->window + is->offset, is->size);
	programs[id].is = *is;
	return 0;
}

static void program_destroy(uint32_t id)
{
	if (id >= UNPU_PROTO_MAX_IDS)
		return;
	free(programs[id].image);
	programs[id].image = NULL;
}

static int ctx_create(uint32_t id)
{
	if (!id || id >= UNPU_PROTO_MAX_CTXS)
		return -EINVAL;
	if (ctxs[id].used)
		return -EEXIST;
	ctxs[id].used = true;
	return 0;
}

void engine_forget(void)
{
	uint32_t id;

	for (id = 0; id < UNPU_PROTO_MAX_IDS; id++) {
		free(bos[id].own);
		bos[id] = (struct bo){ .used = false };
		program_destroy(id);
		shaders[id] = false;
	}
	memset(ctxs, 0, sizeof(ctxs));
	last_to = NULL;
}

/* ---- jobs ----------------------------------------------------------------------------------- */

/* NULL: there are no such bytes. */
static uint8_t *bytes_of(const struct liar *liar, const struct drm_unpu_buffer *row,
			 uint64_t bytes)
{
	const struct bo *bo = row->handle < UNPU_PROTO_MAX_IDS ? &bos[row->handle] : NULL;

	if (!bo || !bo->used || row->offset > bo->size || bytes > row->size ||
	    bytes > bo->size - row->offset)
		return NULL;
	return (bo->offset ? liar->window + bo->offset : bo->own) + row->offset;
}

static int run_copy(const struct liar *liar, const struct program *program,
		    const struct drm_unpu_dispatch *dispatch)
{
	const struct unpu_proto_program *is = &program->is;
	const struct drm_unpu_buffer *rows = (const void *)program->image;
	const struct drm_unpu_dispatch *dispatches = (const void *)(rows + is->num_buffers);
	const struct drm_unpu_binding *bindings = (const void *)(dispatches + is->num_dispatches);
	const uint8_t *constants = (const void *)(bindings + is->num_bindings);
	struct unpu_copy_const of;
	const uint8_t *from;
	uint32_t src, dst;

	if (dispatch->shader_id >= UNPU_PROTO_MAX_IDS || !shaders[dispatch->shader_id] ||
	    dispatch->num_bindings != 2 ||
	    (uint64_t)dispatch->first_binding + 2 > is->num_bindings ||
	    (uint64_t)dispatch->const_offset + sizeof(of) > is->const_bytes)
		return -EIO;
	memcpy(&of, constants + dispatch->const_offset, sizeof(of));
	src = bindings[dispatch->first_binding + UNPU_COPY_SRC].buffer;
	dst = bindings[dispatch->first_binding + UNPU_COPY_DST].buffer;
	if (src >= is->num_buffers || dst >= is->num_buffers || of.bytes_hi)
		return -EIO;
	from = bytes_of(liar, &rows[src], of.bytes_lo);
	last_to = bytes_of(liar, &rows[dst], of.bytes_lo);
	last_bytes = of.bytes_lo;
	if (!from || !last_to)
		return -EIO;
	memmove(last_to, from, last_bytes);
	return 0;
}

static int run_program(struct liar *liar, uint32_t ctx, const struct drm_unpu_run *run)
{
	const struct program *program;
	const struct drm_unpu_dispatch *dispatches;
	uint32_t turn, i;
	int err = 0;

	program = run->program_id < UNPU_PROTO_MAX_IDS ? &programs[run->program_id] : NULL;
	if (!program || !program->image)
		return -ENOENT;
	dispatches = (const void *)(program->image +
				    program->is.num_buffers * sizeof(struct drm_unpu_buffer));
	for (turn = 0; turn < run->repeat && !err; turn++) {
		for (i = 0; i < program->is.num_dispatches && !err; i++)
			err = run_copy(liar, program, &dispatches[i]);
		vdev_link_progress(&liar->link, ctx, ++ctxs[ctx].progress);
	}
	return err;
}

static int run_job(struct liar *liar, uint32_t ctx, const struct unpu_proto_job *job)
{
	uint32_t i;
	int err = 0;

	if (ctx >= UNPU_PROTO_MAX_CTXS || !ctxs[ctx].used)
		return -ENOENT;
	if (job->num_runs > UNPU_PROTO_MAX_RUNS)
		return -EINVAL;
	for (i = 0; i < job->num_runs && !err; i++)
		err = run_program(liar, ctx, &job->runs[i]);
	return err;
}

void engine_write_on(struct liar *liar)
{
	uint32_t i;

	for (i = 0; last_to && i < 100; i++)
		memset(last_to, (int)liar_random(&liar->random), last_bytes);
}

/* ---- commands ------------------------------------------------------------------------------- */

static void answer(struct liar *liar, const struct unpu_proto_command *command, enum liar_op op,
		   int status)
{
	const struct unpu_proto_event event = {
		.type = UNPU_PROTO_EVENT_ANSWER, .tag = command->tag, .status = status,
	};

	liar_tell(liar, op, &event);
}

static void job(struct liar *liar, const struct unpu_proto_command *command)
{
	struct unpu_proto_event event = {
		.type = UNPU_PROTO_EVENT_JOB, .id = command->id, .value = command->job.seqno,
	};
	uint64_t began = vdev_now();

	/* What is early is only told early. */
	if (liar->lie.how != LIAR_EARLY)
		event.status = run_job(liar, command->id, &command->job);
	event.busy_ns = vdev_now() - began;
	liar_tell(liar, LIAR_JOB, &event);
	if (liar->lie.how == LIAR_EARLY) {
		run_job(liar, command->id, &command->job);
		engine_write_on(liar);
	}
}

void engine_command(struct liar *liar, const struct unpu_proto_command *command)
{
	uint32_t id = command->id;

	switch (command->op) {
	case UNPU_PROTO_BO_CREATE:
		answer(liar, command, LIAR_BO, bo_create(liar, id, &command->bo));
		break;
	case UNPU_PROTO_SHADER_CREATE:
		answer(liar, command, LIAR_SHADER, shader_create(id, &command->shader));
		break;
	case UNPU_PROTO_PROGRAM_CREATE:
		answer(liar, command, LIAR_PROGRAM, program_create(liar, id, &command->program));
		break;
	case UNPU_PROTO_CTX_CREATE:
		answer(liar, command, LIAR_CTX, ctx_create(id));
		break;
	case UNPU_PROTO_CTX_DESTROY:
		if (id < UNPU_PROTO_MAX_CTXS)
			ctxs[id].used = false;
		answer(liar, command, LIAR_END, 0);
		break;
	case UNPU_PROTO_JOB:
		job(liar, command);
		break;
	case UNPU_PROTO_BO_DESTROY:
		bo_destroy(liar, id);
		break;
	case UNPU_PROTO_SHADER_DESTROY:
		if (id < UNPU_PROTO_MAX_IDS)
			shaders[id] = false;
		break;
	case UNPU_PROTO_PROGRAM_DESTROY:
		program_destroy(id);
		break;
	}
}
