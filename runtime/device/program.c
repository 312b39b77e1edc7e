/* SPDX-License-Identifier: MIT */
/* Shaders and programs of in-process devices: one flat copy, checked, then run from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/inproc_priv.h"
#include "uapi/unpu_check.h"

#define NO_DISPATCH	UINT32_MAX

/* ---- shaders ------------------------------------------------------------------------------- */

void unpu_inproc_shader_put(struct inproc_shader *shader)
{
	if (shader && atomic_fetch_sub(&shader->refs, 1) == 1)
		free(shader);
}

static int shader_check(struct inproc *dev, const struct inproc_shader *shader, uint32_t words)
{
	int err;

	err = unpu_shader_check_spec(shader->kind, shader->spec, words);
	if (err || !dev->engine->ops->shader_check)
		return err;
	pthread_mutex_lock(&dev->engine_lock);
	err = dev->engine->ops->shader_check(dev->engine, shader->kind, shader->spec);
	pthread_mutex_unlock(&dev->engine_lock);
	return err;
}

static int shader_copy(struct inproc *dev, const struct drm_unpu_shader_create *args,
		       struct inproc_shader *shader)
{
	const void *spec = unpu_inproc_pointer(args->spec);
	int kind;

	kind = unpu_shader_find(args->name);
	if (kind < 0)
		return kind;
	if (args->spec_words > UNPU_SHADER_MAX_SPEC_WORDS)
		return -EINVAL;
	if (args->spec_words && !spec)
		return -EFAULT;
	if (args->spec_words)
		memcpy(shader->spec, spec, args->spec_words * sizeof(uint32_t));
	shader->kind = (uint32_t)kind;
	return shader_check(dev, shader, args->spec_words);
}

static int shader_create(struct inproc *dev, const struct drm_unpu_shader_create *args,
			 uint32_t *id)
{
	struct inproc_shader *shader;
	int err;

	err = unpu_check_shader_create(args, &dev->info);
	if (err)
		return err;
	shader = calloc(1, sizeof(*shader));
	if (!shader)
		return -ENOMEM;
	atomic_init(&shader->refs, 1);
	err = shader_copy(dev, args, shader);
	if (!err) {
		unpu_inproc_lock(dev);
		err = unpu_table_add(&dev->shaders, shader, id);
		unpu_inproc_unlock(dev);
	}
	if (err)
		unpu_inproc_shader_put(shader);
	return err;
}

int unpu_inproc_shader_create(struct unpu_device *base, struct drm_unpu_shader_create *args)
{
	int err = shader_create(to_inproc(base), args, &args->shader_id);

	if (err)
		return unpu_fail(&base->log, err, "%s: shader %.*s with %u words refused: %s",
				 base->id, DRM_UNPU_SHADER_NAME, (const char *)args->name,
				 args->spec_words, strerror(-err));
	return 0;
}

int unpu_inproc_shader_destroy(struct unpu_device *base, struct drm_unpu_shader_destroy *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_shader *shader;
	int err;

	err = unpu_check_shader_destroy(args);
	if (err)
		return unpu_inproc_refuse(dev, "SHADER_DESTROY", err);
	unpu_inproc_lock(dev);
	shader = unpu_table_remove(&dev->shaders, args->shader_id);
	unpu_inproc_unlock(dev);
	if (!shader)
		return unpu_inproc_refuse(dev, "SHADER_DESTROY", -ENOENT);
	unpu_inproc_shader_put(shader);
	return 0;
}

/* ---- programs: memory ---------------------------------------------------------------------- */

/* What PROGRAM_CREATE works on: the caller's arrays, copied once. */
struct draft {
	const struct drm_unpu_program_create *args;
	struct drm_unpu_buffer *buffers;
	uint32_t *bindings;
	struct inproc_program *program;
	uint8_t *constants;		/* lives with the program */
	uint32_t error_index;
};

void unpu_inproc_program_free(struct inproc *dev, struct inproc_program *program)
{
	uint32_t i;

	if (program->prepared && dev->engine->ops->program_release) {
		pthread_mutex_lock(&dev->engine_lock);
		dev->engine->ops->program_release(dev->engine, &program->base);
		pthread_mutex_unlock(&dev->engine_lock);
	}
	for (i = 0; i < program->num_bos; i++)
		unpu_inproc_bo_put(dev, program->bos[i]);
	for (i = 0; i < program->base.num_dispatches; i++)
		unpu_inproc_shader_put(program->shaders[i]);
	free(program);
}

void unpu_inproc_program_put(struct inproc *dev, struct inproc_program *program)
{
	if (atomic_fetch_sub(&program->base.refs, 1) != 1)
		return;
	program->next_dead = dev->dead;
	dev->dead = program;
}

/* The program with its tables and constants in one block; the counts are checked. */
static int draft_alloc_program(struct draft *draft)
{
	uint32_t num_dispatches = draft->args->dispatches.count;
	uint32_t num_bos = draft->args->buffers.count;
	size_t size = sizeof(struct inproc_program);
	size_t dispatches, bos, shaders, constants;
	struct inproc_program *program;
	uint8_t *at;

	size = (size + 15) & ~(size_t)15;
	dispatches = size;
	size += num_dispatches * sizeof(struct unpu_job_dispatch);
	bos = size;
	size += num_bos * sizeof(struct inproc_bo *);
	shaders = size;
	size += num_dispatches * sizeof(struct inproc_shader *);
	constants = (size + 15) & ~(size_t)15;
	size = constants + draft->args->const_bytes;

	at = calloc(1, size);
	if (!at)
		return -ENOMEM;
	program = (struct inproc_program *)at;
	atomic_init(&program->base.refs, 1);
	program->base.num_dispatches = num_dispatches;
	program->base.dispatches = (struct unpu_job_dispatch *)(at + dispatches);
	program->num_bos = num_bos;
	program->bos = (struct inproc_bo **)(at + bos);
	program->shaders = (struct inproc_shader **)(at + shaders);
	draft->constants = at + constants;
	draft->program = program;
	return 0;
}

static int draft_init(struct draft *draft, const struct drm_unpu_program_create *args)
{
	*draft = (struct draft){ .args = args, .error_index = NO_DISPATCH };
	draft->buffers = calloc(args->buffers.count, sizeof(*draft->buffers));
	draft->bindings = calloc(args->bindings.count, sizeof(*draft->bindings));
	if (!draft->buffers || !draft->bindings)
		return -ENOMEM;
	return draft_alloc_program(draft);
}

/* The program is not in the table here: nobody else can have it. */
static void draft_finish(struct inproc *dev, struct draft *draft)
{
	free(draft->buffers);
	free(draft->bindings);
	if (draft->program)
		unpu_inproc_program_free(dev, draft->program);
}

/* ---- programs: structure and meaning --------------------------------------------------------- */

static struct inproc_bo *bo_get(struct inproc *dev, uint32_t handle)
{
	struct inproc_bo *bo;

	unpu_inproc_lock(dev);
	bo = unpu_table_get(&dev->bos, handle);
	if (bo)
		atomic_fetch_add(&bo->base.refs, 1);
	unpu_inproc_unlock(dev);
	return bo;
}

static struct inproc_shader *shader_get(struct inproc *dev, uint32_t id)
{
	struct inproc_shader *shader;

	unpu_inproc_lock(dev);
	shader = unpu_table_get(&dev->shaders, id);
	if (shader)
		atomic_fetch_add(&shader->refs, 1);
	unpu_inproc_unlock(dev);
	return shader;
}

static int draft_copy_buffer(struct inproc *dev, struct draft *draft, uint32_t i)
{
	struct drm_unpu_buffer *buffer = &draft->buffers[i];
	struct inproc_bo *bo;
	int err;

	err = unpu_inproc_copy_element(buffer, sizeof(*buffer), &draft->args->buffers, i);
	if (err)
		return err;
	bo = bo_get(dev, buffer->handle);
	if (!bo)
		return -ENOENT;
	draft->program->bos[i] = bo;
	if (bo->base.imported && !bo->base.writable && buffer->flags & DRM_UNPU_ACCESS_WRITE)
		return -EINVAL;
	return unpu_check_buffer(buffer, bo->base.size, &dev->info);
}

static int draft_copy_tables(struct inproc *dev, struct draft *draft)
{
	const struct drm_unpu_program_create *args = draft->args;
	uint32_t i;
	int err;

	for (i = 0; i < args->buffers.count; i++) {
		err = draft_copy_buffer(dev, draft, i);
		if (err)
			return unpu_fail(&dev->base.log, err, "%s: program refused: buffer %u: %s",
					 dev->base.id, i, strerror(-err));
	}
	for (i = 0; i < args->bindings.count; i++) {
		struct drm_unpu_binding binding;

		err = unpu_inproc_copy_element(&binding, sizeof(binding), &args->bindings, i);
		if (!err)
			err = unpu_check_binding(&binding, args);
		if (err)
			return unpu_fail(&dev->base.log, err, "%s: program refused: binding %u: %s",
					 dev->base.id, i, strerror(-err));
		draft->bindings[i] = binding.buffer;
	}
	if (args->const_bytes)
		memcpy(draft->constants, unpu_inproc_pointer(args->constants), args->const_bytes);
	return 0;
}

/* Binding b of a dispatch: who it is, whether it is large enough and may be used that way. */
static const char *bind(const struct draft *draft, const struct unpu_shader_info *info,
			const struct unpu_shader_need *need, uint32_t first, uint32_t b,
			struct unpu_job_binding *binding)
{
	uint32_t index = draft->bindings[first + b];
	const struct drm_unpu_buffer *buffer = &draft->buffers[index];
	uint32_t access = DRM_UNPU_ACCESS_READ;

	if (info->write_mask >> b & 1)
		access = DRM_UNPU_ACCESS_WRITE;
	if (buffer->size < need->bytes[b])
		return "is too small";
	if (need->bytes[b] && !(buffer->flags & access))
		return access == DRM_UNPU_ACCESS_WRITE ? "may not be written" : "may not be read";
	binding->bo = &draft->program->bos[index]->base;
	binding->offset = buffer->offset;
	binding->size = need->bytes[b];
	return NULL;
}

/* The meaning of one dispatch, on private copies only. */
static int draft_check_meaning(struct inproc *dev, struct draft *draft, uint32_t i,
			       const struct drm_unpu_dispatch *from)
{
	struct unpu_job_dispatch *to = &draft->program->base.dispatches[i];
	const struct unpu_shader_info *info = unpu_shader_info(to->kind);
	const struct unpu_log *log = &dev->base.log;
	struct unpu_shader_need need;
	const char *why;
	uint32_t b;

	if (from->num_bindings != info->num_bindings ||
	    unpu_shader_need(to->kind, to->spec, to->constants, from->const_bytes, &need))
		return unpu_fail(log, -EINVAL,
				 "%s: program refused: dispatch %u (%s): bindings or constants",
				 dev->base.id, i, info->name);
	if (memcmp(need.grid, from->grid, sizeof(need.grid)))
		return unpu_fail(log, -EINVAL, "%s: program refused: dispatch %u (%s): "
				 "grid %u,%u,%u is not %u,%u,%u",
				 dev->base.id, i, info->name, from->grid[0], from->grid[1],
				 from->grid[2], need.grid[0], need.grid[1], need.grid[2]);
	for (b = 0; b < info->num_bindings; b++) {
		why = bind(draft, info, &need, from->first_binding, b, &to->bindings[b]);
		if (why)
			return unpu_fail(log, -EINVAL, "%s: program refused: dispatch %u (%s): "
					 "binding %u %s, needs %llu bytes",
					 dev->base.id, i, info->name, b, why,
					 (unsigned long long)need.bytes[b]);
	}
	return 0;
}

static int draft_add_dispatch(struct inproc *dev, struct draft *draft, uint32_t i)
{
	struct unpu_job_dispatch *to = &draft->program->base.dispatches[i];
	struct drm_unpu_dispatch from;
	struct inproc_shader *shader;
	int err;

	err = unpu_inproc_copy_element(&from, sizeof(from), &draft->args->dispatches, i);
	if (!err)
		err = unpu_check_dispatch(&from, draft->args, &dev->info);
	if (err)
		return unpu_fail(&dev->base.log, err, "%s: program refused: dispatch %u: %s",
				 dev->base.id, i, strerror(-err));
	shader = shader_get(dev, from.shader_id);
	if (!shader)
		return unpu_fail(&dev->base.log, -ENOENT,
				 "%s: program refused: dispatch %u: no shader %u", dev->base.id, i,
				 from.shader_id);
	draft->program->shaders[i] = shader;
	to->kind = shader->kind;
	to->spec = shader->spec;
	to->num_bindings = from.num_bindings;
	to->constants = draft->constants + from.const_offset;
	memcpy(to->grid, from.grid, sizeof(to->grid));
	return draft_check_meaning(dev, draft, i, &from);
}

static int draft_set_stop(struct inproc *dev, struct draft *draft)
{
	const struct drm_unpu_program_create *args = draft->args;
	const struct drm_unpu_buffer *buffer;
	struct inproc_bo *bo;
	int err = -EINVAL;

	if (!(args->flags & DRM_UNPU_PROGRAM_STOP))
		return 0;
	if (args->stop_buffer < args->buffers.count) {
		buffer = &draft->buffers[args->stop_buffer];
		bo = draft->program->bos[args->stop_buffer];
		err = unpu_check_stop(args, buffer, bo->base.flags);
	}
	if (err)
		return unpu_fail(&dev->base.log, err, "%s: program refused: stop word",
				 dev->base.id);
	draft->program->base.stop = (_Atomic uint32_t *)(void *)
		((uint8_t *)bo->base.ptr + buffer->offset + args->stop_offset);
	draft->program->base.stop_bo = &bo->base;
	return 0;
}

static int draft_prepare(struct inproc *dev, struct draft *draft)
{
	const struct unpu_engine_ops *ops = dev->engine->ops;
	int err = 0;

	if (ops->program_prepare) {
		pthread_mutex_lock(&dev->engine_lock);
		err = ops->program_prepare(dev->engine, &draft->program->base);
		pthread_mutex_unlock(&dev->engine_lock);
	}
	draft->program->prepared = !err;
	return err;
}

static int draft_fill(struct inproc *dev, struct draft *draft)
{
	uint32_t i;
	int err;

	err = draft_copy_tables(dev, draft);
	if (err)
		return err;
	for (i = 0; i < draft->args->dispatches.count; i++) {
		err = draft_add_dispatch(dev, draft, i);
		if (err) {
			draft->error_index = i;
			return err;
		}
	}
	err = draft_set_stop(dev, draft);
	return err ? err : draft_prepare(dev, draft);
}

static int draft_publish(struct inproc *dev, struct draft *draft, uint32_t *id)
{
	int err;

	unpu_inproc_lock(dev);
	err = unpu_table_add(&dev->programs, draft->program, id);
	unpu_inproc_unlock(dev);
	if (err)
		return unpu_inproc_refuse(dev, "PROGRAM_CREATE", err);
	draft->program = NULL;
	return 0;
}

static int program_check(struct inproc *dev, const struct drm_unpu_program_create *args)
{
	int err = unpu_check_program(args, &dev->info);

	if (err)
		return err;
	if (!unpu_inproc_pointer(args->buffers.ptr) || !unpu_inproc_pointer(args->dispatches.ptr) ||
	    !unpu_inproc_pointer(args->bindings.ptr) ||
	    (args->const_bytes && !unpu_inproc_pointer(args->constants)))
		return -EFAULT;
	return 0;
}

int unpu_inproc_program_create(struct unpu_device *base, struct drm_unpu_program_create *args)
{
	struct inproc *dev = to_inproc(base);
	struct draft draft;
	int err;

	args->error_index = NO_DISPATCH;
	err = program_check(dev, args);
	if (err)
		return unpu_inproc_refuse(dev, "PROGRAM_CREATE", err);
	err = draft_init(&draft, args);
	if (err)
		unpu_inproc_refuse(dev, "PROGRAM_CREATE", err);
	else
		err = draft_fill(dev, &draft);
	if (!err)
		err = draft_publish(dev, &draft, &args->program_id);
	args->error_index = draft.error_index;
	draft_finish(dev, &draft);
	return err;
}

int unpu_inproc_program_destroy(struct unpu_device *base, struct drm_unpu_program_destroy *args)
{
	struct inproc *dev = to_inproc(base);
	struct inproc_program *program;
	int err;

	err = unpu_check_program_destroy(args);
	if (err)
		return unpu_inproc_refuse(dev, "PROGRAM_DESTROY", err);
	unpu_inproc_lock(dev);
	program = unpu_table_remove(&dev->programs, args->program_id);
	if (program)
		unpu_inproc_program_put(dev, program);
	unpu_inproc_unlock(dev);
	return program ? 0 : unpu_inproc_refuse(dev, "PROGRAM_DESTROY", -ENOENT);
}
