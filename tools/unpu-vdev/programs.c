/* SPDX-License-Identifier: MIT */
/* Programs: out of the window once, the guest's ids for the device's, then to the device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu-vdev/worker.h"
#include "uapi/unpu_check.h"

#define NO_DISPATCH	UINT32_MAX

/* What a program costs the host, by a generous guess: descriptors, recorded commands. */
#define HOST_DISPATCH	768u
#define HOST_BUFFER	64u
#define HOST_PROGRAM	4096u

/* Where its parts lie in the image. */
struct image {
	uint64_t dispatches, bindings, constants, size;
};

/* No count is above 2^32, no element above 32 bytes: nothing overflows. */
static struct image image_of(const struct unpu_proto_program *program)
{
	struct image image;

	image.dispatches = (uint64_t)program->num_buffers * UNPU_V1_BUFFER;
	image.bindings = image.dispatches + (uint64_t)program->num_dispatches * UNPU_V1_DISPATCH;
	image.constants = image.bindings + (uint64_t)program->num_bindings * UNPU_V1_BINDING;
	image.size = image.constants + program->const_bytes;
	return image;
}

int vdev_program_check(const struct vdev_worker *w, const struct unpu_proto_program *program,
		       uint64_t *host_bytes)
{
	const struct drm_unpu_dev_info *info = &w->info;

	if (program->pad || program->offset % 8 || program->num_buffers > info->max_buffers ||
	    program->num_dispatches > info->max_dispatches ||
	    program->num_bindings > (uint64_t)info->max_dispatches * info->max_bindings ||
	    program->const_bytes > (uint64_t)info->max_dispatches * info->max_const_bytes)
		return -EINVAL;
	if (program->size != image_of(program).size ||
	    !vdev_link_in_heap(&w->link, program->offset, program->size))
		return -EINVAL;
	*host_bytes = HOST_PROGRAM + program->num_dispatches * HOST_DISPATCH +
		      program->num_buffers * HOST_BUFFER + program->size;
	return 0;
}

/* The id, or 0 for one that is not there. */
static uint32_t handle_of(const struct vdev_worker *w, enum vdev_kind kind, uint32_t id)
{
	const struct vdev_object *object = vdev_object_get(w, kind, id);

	return object ? object->handle : 0;
}

static int name_buffers(struct vdev_worker *w, struct drm_unpu_buffer *buffers, uint32_t count)
{
	uint32_t i, missing = 0;

	vdev_lock(w);
	for (i = 0; i < count; i++) {
		buffers[i].handle = handle_of(w, VDEV_BO, buffers[i].handle);
		missing += !buffers[i].handle;
	}
	vdev_unlock(w);
	return missing ? -ENOENT : 0;
}

static int name_shaders(struct vdev_worker *w, struct drm_unpu_dispatch *dispatches,
			uint32_t count, uint64_t *error_index)
{
	uint32_t i;

	vdev_lock(w);
	for (i = 0; i < count; i++) {
		dispatches[i].shader_id = handle_of(w, VDEV_SHADER, dispatches[i].shader_id);
		if (!dispatches[i].shader_id)
			break;
	}
	vdev_unlock(w);
	if (i == count)
		return 0;
	*error_index = i;
	return -ENOENT;
}

static int create(struct vdev_worker *w, const struct unpu_proto_program *program, uint8_t *copy,
		  uint32_t *handle, uint64_t *error_index)
{
	const struct image image = image_of(program);
	struct drm_unpu_program_create args = {
		.buffers = { UNPU_V1_BUFFER, program->num_buffers, (uintptr_t)copy },
		.dispatches = { UNPU_V1_DISPATCH, program->num_dispatches,
				(uintptr_t)(copy + image.dispatches) },
		.bindings = { UNPU_V1_BINDING, program->num_bindings,
			      (uintptr_t)(copy + image.bindings) },
		.constants = program->const_bytes ? (uintptr_t)(copy + image.constants) : 0,
		.const_bytes = program->const_bytes,
		.flags = program->flags,
		.stop_buffer = program->stop_buffer, .stop_offset = program->stop_offset,
	};
	int err;

	err = name_buffers(w, (void *)copy, program->num_buffers);
	if (!err)
		err = name_shaders(w, (void *)(copy + image.dispatches), program->num_dispatches,
				   error_index);
	if (err)
		return err;
	err = w->dev->ops->program_create(w->dev, &args);
	*handle = args.program_id;
	*error_index = args.error_index;
	return err;
}

int vdev_program_make(struct vdev_worker *w, const struct unpu_proto_program *program,
		      uint32_t *handle, uint64_t *error_index)
{
	uint8_t *copy = malloc(program->size + 1);	/* an empty one is the device's to refuse */
	int err;

	*error_index = NO_DISPATCH;
	if (!copy)
		return -ENOMEM;
	memcpy(copy, w->link.window + program->offset, program->size);
	err = create(w, program, copy, handle, error_index);
	free(copy);
	return err;
}
