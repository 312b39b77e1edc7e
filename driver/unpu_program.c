// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs: copied once from the user, checked for structure, their handles and ids replaced by the
 * device's. What the dispatches mean the device checks on its own copy.
 */
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>

#include "unpu_drv.h"

#define NO_DISPATCH	(~0u)

/* ---- references ---------------------------------------------------------------------------- */

static void unpu_program_free(struct unpu_program *program)
{
	struct unpu_device *udev = program->udev;
	u32 i;

	if (program->hw_id)
		udev->hw->program_destroy(udev, program->hw_id);
	for (i = 0; i < program->num_shaders; i++)
		unpu_shader_put(program->shaders[i]);
	for (i = 0; i < program->num_bos; i++)
		drm_gem_object_put(program->bos[i]);
	kvfree(program->shaders);
	kvfree(program->bos);
	kfree(program);
	drm_dev_put(&udev->drm);
}

static void unpu_program_release_work(struct work_struct *work)
{
	unpu_program_free(container_of(work, struct unpu_program, release_work));
}

static void unpu_program_release(struct kref *ref)
{
	struct unpu_program *program = container_of(ref, struct unpu_program, ref);

	queue_work(unpu_release_wq, &program->release_work);
}

void unpu_program_put(struct unpu_program *program)
{
	if (program)
		kref_put(&program->ref, unpu_program_release);
}

struct unpu_program *unpu_program_find(struct unpu_file *ufile, u32 id)
{
	struct unpu_program *program;

	xa_lock(&ufile->programs);
	program = xa_load(&ufile->programs, id);
	if (program)
		kref_get(&program->ref);
	xa_unlock(&ufile->programs);
	return program;
}

/* ---- from the user ------------------------------------------------------------------------- */

int unpu_copy_element(void *to, u32 size, const struct drm_unpu_array *array, u32 i)
{
	u64 address;

	if (check_add_overflow(array->ptr, (u64)array->stride * i, &address))
		return -EFAULT;
	return copy_struct_from_user(to, size, unpu_user_ptr(address), array->stride);
}

/*
 * What PROGRAM_CREATE works on. The image is filled once from the user's memory and looked at only
 * here, so that what was checked is what the device gets.
 */
struct unpu_draft {
	struct drm_file *file;
	struct unpu_device *udev;
	const struct drm_unpu_program_create *args;
	struct unpu_program *program;
	struct unpu_program_image image;
	struct drm_unpu_buffer *buffers;	/* in the image, as what follows */
	struct drm_unpu_dispatch *dispatches;
	struct drm_unpu_binding *bindings;
	void *constants;
	u32 error_index;
};

/* The counts are checked: below 1 MiB. */
static int unpu_draft_alloc_image(struct unpu_draft *draft)
{
	const struct drm_unpu_program_create *args = draft->args;
	size_t dispatches = args->buffers.count * sizeof(*draft->buffers);
	size_t bindings = dispatches + args->dispatches.count * sizeof(*draft->dispatches);
	size_t constants = bindings + args->bindings.count * sizeof(*draft->bindings);
	size_t size = constants + args->const_bytes;
	void *data = kvzalloc(size, GFP_KERNEL_ACCOUNT);

	if (!data)
		return -ENOMEM;
	draft->buffers = data;
	draft->dispatches = data + dispatches;
	draft->bindings = data + bindings;
	draft->constants = data + constants;
	draft->image = (struct unpu_program_image){
		.data = data,
		.size = size,
		.num_buffers = args->buffers.count,
		.num_dispatches = args->dispatches.count,
		.num_bindings = args->bindings.count,
		.const_bytes = args->const_bytes,
		.flags = args->flags,
		.stop_buffer = args->stop_buffer,
		.stop_offset = args->stop_offset,
	};
	return 0;
}

static int unpu_draft_alloc_program(struct unpu_draft *draft)
{
	struct unpu_program *program = kzalloc(sizeof(*program), GFP_KERNEL_ACCOUNT);
	struct unpu_device *udev = draft->udev;

	if (!program)
		return -ENOMEM;
	kref_init(&program->ref);
	drm_dev_get(&udev->drm);
	program->udev = udev;
	INIT_WORK(&program->release_work, unpu_program_release_work);
	program->num_dispatches = draft->image.num_dispatches;
	draft->program = program;
	program->bos = kvcalloc(draft->image.num_buffers, sizeof(*program->bos),
				GFP_KERNEL_ACCOUNT);
	program->shaders = kvcalloc(draft->image.num_dispatches, sizeof(*program->shaders),
				    GFP_KERNEL_ACCOUNT);
	if (!program->bos || !program->shaders)
		return -ENOMEM;
	return unpu_epoch_get(udev, &program->epoch);
}

static int unpu_draft_add_buffer(struct unpu_draft *draft, u32 i)
{
	struct drm_unpu_buffer *buffer = &draft->buffers[i];
	struct unpu_program *program = draft->program;
	struct drm_gem_object *obj;
	int err;

	err = unpu_copy_element(buffer, sizeof(*buffer), &draft->args->buffers, i);
	if (err)
		return err;
	obj = drm_gem_object_lookup(draft->file, buffer->handle);
	if (!obj)
		return -ENOENT;
	program->bos[program->num_bos++] = obj;
	if (to_unpu_bo(obj)->epoch != program->epoch)
		return -ESTALE;
	buffer->handle = to_unpu_bo(obj)->hw_id;
	return unpu_check_buffer(buffer, obj->size, &draft->udev->info);
}

static int unpu_draft_add_binding(struct unpu_draft *draft, u32 i)
{
	struct drm_unpu_binding *binding = &draft->bindings[i];
	int err;

	err = unpu_copy_element(binding, sizeof(*binding), &draft->args->bindings, i);
	return err ? err : unpu_check_binding(binding, draft->args);
}

static int unpu_draft_add_dispatch(struct unpu_draft *draft, u32 i)
{
	struct drm_unpu_dispatch *dispatch = &draft->dispatches[i];
	struct unpu_program *program = draft->program;
	struct unpu_shader *shader;
	int err;

	err = unpu_copy_element(dispatch, sizeof(*dispatch), &draft->args->dispatches, i);
	if (!err)
		err = unpu_check_dispatch(dispatch, draft->args, &draft->udev->info);
	if (err)
		return err;
	shader = unpu_shader_lookup(draft->file->driver_priv, dispatch->shader_id);
	if (!shader)
		return -ENOENT;
	program->shaders[program->num_shaders++] = shader;
	if (shader->epoch != program->epoch)
		return -ESTALE;
	dispatch->shader_id = shader->hw_id;
	return 0;
}

static int unpu_draft_check_stop(const struct unpu_draft *draft)
{
	const struct drm_unpu_program_create *args = draft->args;
	u32 stop = args->stop_buffer;

	if (!(args->flags & DRM_UNPU_PROGRAM_STOP))
		return 0;
	if (stop >= draft->image.num_buffers)
		return -EINVAL;
	stop = array_index_nospec(stop, draft->image.num_buffers);
	return unpu_check_stop(args, &draft->buffers[stop],
			       to_unpu_bo(draft->program->bos[stop])->flags);
}

static int unpu_draft_fill(struct unpu_draft *draft)
{
	const struct drm_unpu_program_create *args = draft->args;
	int err = 0;
	u32 i;

	for (i = 0; i < args->buffers.count && !err; i++)
		err = unpu_draft_add_buffer(draft, i);
	for (i = 0; i < args->bindings.count && !err; i++)
		err = unpu_draft_add_binding(draft, i);
	if (!err && copy_from_user(draft->constants, unpu_user_ptr(args->constants),
				   args->const_bytes))
		err = -EFAULT;
	for (i = 0; i < args->dispatches.count && !err; i++) {
		err = unpu_draft_add_dispatch(draft, i);
		if (err)
			draft->error_index = i;
	}
	return err ? err : unpu_draft_check_stop(draft);
}

/* ---- the device's verdict ------------------------------------------------------------------ */

static int unpu_draft_load(struct unpu_draft *draft)
{
	struct unpu_device *udev = draft->udev;
	u32 index = NO_DISPATCH;
	int idx, err;

	if (!drm_dev_enter(&udev->drm, &idx))
		return -ENODEV;
	err = udev->hw->program_create(udev, draft->program, &draft->image, &index);
	drm_dev_exit(idx);
	if (err && index < draft->image.num_dispatches)
		draft->error_index = index;
	/* The device may have lost, and so not know, what was looked up here. */
	if (err && err != -EINTR && atomic_read(&udev->epoch) != draft->program->epoch)
		err = -ESTALE;
	return err;
}

static int unpu_draft_publish(struct unpu_draft *draft, u32 *id)
{
	struct unpu_file *ufile = draft->file->driver_priv;
	int err;

	err = xa_alloc(&ufile->programs, id, draft->program, xa_limit_31b, GFP_KERNEL);
	/* From here on it may be somebody else's who destroys it. */
	if (!err)
		draft->program = NULL;
	return err;
}

static int unpu_program_create(struct unpu_draft *draft, u32 *id)
{
	int err;

	err = unpu_draft_alloc_image(draft);
	if (!err)
		err = unpu_draft_alloc_program(draft);
	if (!err)
		err = unpu_draft_fill(draft);
	if (!err)
		err = unpu_draft_load(draft);
	if (!err)
		err = unpu_draft_publish(draft, id);
	kvfree(draft->image.data);
	if (draft->program)
		unpu_program_free(draft->program);
	return err;
}

/* ---- ioctls -------------------------------------------------------------------------------- */

int unpu_ioctl_program_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_program_create *args = data;
	struct unpu_file *ufile = file->driver_priv;
	struct unpu_draft draft = {
		.file = file, .udev = udev, .args = args, .error_index = NO_DISPATCH,
	};
	u32 id = 0;
	int err;

	args->error_index = NO_DISPATCH;
	err = unpu_check_program(args, &udev->info);
	if (err)
		return err;
	err = -ENOSPC;
	if (atomic_inc_return(&ufile->num_programs) <= UNPU_MAX_FILE_PROGRAMS)
		err = unpu_program_create(&draft, &id);
	if (err)
		atomic_dec(&ufile->num_programs);
	else
		args->program_id = id;
	args->error_index = draft.error_index;
	return err;
}

int unpu_ioctl_program_destroy(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_unpu_program_destroy *args = data;
	struct unpu_file *ufile = file->driver_priv;
	struct unpu_program *program;
	int err;

	err = unpu_check_program_destroy(args);
	if (err)
		return err;
	program = xa_erase(&ufile->programs, args->program_id);
	if (!program)
		return -ENOENT;
	atomic_dec(&ufile->num_programs);
	unpu_program_put(program);
	return 0;
}
