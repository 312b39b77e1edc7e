// SPDX-License-Identifier: GPL-2.0-only
/* Shaders: a name of the device's set and its words. What they mean the device knows. */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>

#include "unpu_drv.h"

static void unpu_shader_release(struct kref *ref)
{
	struct unpu_shader *shader = container_of(ref, struct unpu_shader, ref);
	struct unpu_device *udev = shader->udev;

	if (shader->hw_id)
		udev->hw->shader_destroy(udev, shader->hw_id);
	kfree(shader);
	drm_dev_put(&udev->drm);
}

void unpu_shader_put(struct unpu_shader *shader)
{
	if (shader)
		kref_put(&shader->ref, unpu_shader_release);
}

struct unpu_shader *unpu_shader_lookup(struct unpu_file *ufile, u32 id)
{
	struct unpu_shader *shader;

	xa_lock(&ufile->shaders);
	shader = xa_load(&ufile->shaders, id);
	if (shader)
		kref_get(&shader->ref);
	xa_unlock(&ufile->shaders);
	return shader;
}

/* Without an id yet. */
static struct unpu_shader *unpu_shader_create(struct unpu_device *udev,
					      const struct drm_unpu_shader_create *args)
{
	struct unpu_shader *shader = kzalloc(sizeof(*shader), GFP_KERNEL_ACCOUNT);
	int idx, err;

	if (!shader)
		return ERR_PTR(-ENOMEM);
	kref_init(&shader->ref);
	drm_dev_get(&udev->drm);
	shader->udev = udev;
	shader->spec_words = args->spec_words;
	memcpy(shader->name.name, args->name, sizeof(shader->name.name));
	err = unpu_epoch_get(udev, &shader->epoch);
	if (err)
		goto err_put;
	err = -EFAULT;
	if (copy_from_user(shader->spec, unpu_user_ptr(args->spec),
			   args->spec_words * sizeof(u32)))
		goto err_put;
	err = -ENODEV;
	if (!drm_dev_enter(&udev->drm, &idx))
		goto err_put;
	err = udev->hw->shader_create(udev, shader);
	drm_dev_exit(idx);
	if (err)
		goto err_put;
	return shader;

err_put:
	unpu_shader_put(shader);
	return ERR_PTR(err);
}

static int unpu_shader_publish(struct unpu_file *ufile, const struct drm_unpu_shader_create *args,
			       u32 *id)
{
	struct unpu_shader *shader = unpu_shader_create(ufile->udev, args);
	int err;

	if (IS_ERR(shader))
		return PTR_ERR(shader);
	err = xa_alloc(&ufile->shaders, id, shader, xa_limit_31b, GFP_KERNEL);
	if (err)
		unpu_shader_put(shader);
	return err;
}

int unpu_ioctl_shader_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct unpu_device *udev = to_unpu_device(drm);
	struct drm_unpu_shader_create *args = data;
	struct unpu_file *ufile = file->driver_priv;
	int err;

	err = unpu_check_shader_create(args, &udev->info);
	if (err)
		return err;
	err = -ENOSPC;
	if (atomic_inc_return(&ufile->num_shaders) <= UNPU_MAX_FILE_SHADERS)
		err = unpu_shader_publish(ufile, args, &args->shader_id);
	if (err)
		atomic_dec(&ufile->num_shaders);
	return err;
}

int unpu_ioctl_shader_destroy(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_unpu_shader_destroy *args = data;
	struct unpu_file *ufile = file->driver_priv;
	struct unpu_shader *shader;
	int err;

	err = unpu_check_shader_destroy(args);
	if (err)
		return err;
	shader = xa_erase(&ufile->shaders, args->shader_id);
	if (!shader)
		return -ENOENT;
	atomic_dec(&ufile->num_shaders);
	unpu_shader_put(shader);
	return 0;
}
