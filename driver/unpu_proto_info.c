// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual NPU: what the device says of itself, its limits and the names of its shaders.
 */
#include <linux/log2.h>
#include <linux/mm.h>

#include <drm/drm_managed.h>

#include "unpu_proto_priv.h"

#define UNPU_PROTO_MAX_BYTES	BIT_ULL(46)	/* of anything: rounding and sums do not overflow */
#define UNPU_PROTO_MAX_NS	(3600ULL * NSEC_PER_SEC)

static int unpu_proto_clamp(struct unpu_proto *p, const char *name, __u64 *value, u64 max)
{
	if (!*value)
		return unpu_proto_refuse(p, -EPROTO, "its %s is 0", name);
	*value = min_t(u64, *value, max);
	return 0;
}

static int unpu_proto_check_counts(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	const struct {
		const char *name;
		u32 *value;
		u32 max;
	} fields[] = {
		{ "max_rows", &info->max_rows, U32_MAX },
		{ "max_dispatches", &info->max_dispatches, UNPU_MAX_DISPATCHES },
		{ "max_bindings", &info->max_bindings, UNPU_MAX_BINDINGS },
		{ "max_buffers", &info->max_buffers, UNPU_MAX_BUFFERS },
		{ "max_spec_words", &info->max_spec_words, UNPU_MAX_SPEC_WORDS },
		{ "max_const_bytes", &info->max_const_bytes, UNPU_MAX_CONST_BYTES },
		{ "max_programs", &info->max_programs, UNPU_MAX_RUNS },
		{ "max_repeat", &info->max_repeat, U32_MAX },
		{ "max_job_dispatches", &info->max_job_dispatches, U32_MAX },
		{ "max_syncs", &info->max_syncs, UNPU_MAX_SYNCS },
		{ "max_contexts", &info->max_contexts, UNPU_MAX_CONTEXTS },
		{ "max_queued_jobs", &info->max_queued_jobs, UNPU_MAX_QUEUED_JOBS },
		{ "tokens_per_submit", &info->tokens_per_submit, U32_MAX },
	};
	u64 value;
	u32 i;
	int err;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		value = *fields[i].value;
		err = unpu_proto_clamp(p, fields[i].name, &value, fields[i].max);
		if (err)
			return err;
		*fields[i].value = value;
	}
	if (info->binding_align > PAGE_SIZE || !is_power_of_2(info->binding_align))
		return unpu_proto_refuse(p, -EPROTO, "it aligns bindings to %u bytes",
					 info->binding_align);
	return 0;
}

static int unpu_proto_check_sizes(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	const struct {
		const char *name;
		__u64 *value;
		u64 max;
	} fields[] = {
		{ "heap_window_bytes", &info->heap_window_bytes,
		  p->udev->window_bytes - UNPU_PROTO_HEAP },
		{ "max_bo_bytes", &info->max_bo_bytes, UNPU_PROTO_MAX_BYTES },
		{ "max_binding_bytes", &info->max_binding_bytes, UNPU_PROTO_MAX_BYTES },
		{ "max_job_time_ns", &info->max_job_time_ns, UNPU_PROTO_MAX_NS },
		{ "max_timeout_ns", &info->max_timeout_ns, info->max_job_time_ns },
		{ "default_timeout_ns", &info->default_timeout_ns, info->max_timeout_ns },
	};
	u32 i;
	int err;

	info->heap_device_bytes = min_t(u64, info->heap_device_bytes, UNPU_PROTO_MAX_BYTES);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		err = unpu_proto_clamp(p, fields[i].name, fields[i].value, fields[i].max);
		if (err)
			return err;
	}
	/* Each bound was looked up before the one above it was lowered. */
	info->max_timeout_ns = min(info->max_timeout_ns, info->max_job_time_ns);
	info->default_timeout_ns = min(info->default_timeout_ns, info->max_timeout_ns);
	return 0;
}

/* What is no limit: it goes to clients and into messages. */
static int unpu_proto_check_rest(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	u32 i;

	if (info->version_major != 1 || info->num_matrices > DRM_UNPU_MAX_MATRICES)
		return unpu_proto_refuse(p, -EPROTO, "its interface has version %u, %u matrices",
					 info->version_major, info->num_matrices);
	info->features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
	info->pad = 0;
	for (i = info->num_matrices; i < DRM_UNPU_MAX_MATRICES; i++)
		info->matrices[i] = (struct drm_unpu_matrix){};
	info->name[sizeof(info->name) - 1] = 0;
	for (i = 0; i < sizeof(info->name) && info->name[i]; i++)
		if (info->name[i] < ' ' || info->name[i] == 0x7f)
			info->name[i] = '?';
	memset(info->name + i, 0, sizeof(info->name) - i);
	return 0;
}

/* Printable, with a NUL at its end and nothing after it. */
static bool unpu_proto_name_ok(const struct drm_unpu_shader_name *shader)
{
	u32 length = strnlen((const char *)shader->name, sizeof(shader->name)), i;

	if (!length || length == sizeof(shader->name))
		return false;
	for (i = 0; i < length; i++)
		if (shader->name[i] <= ' ' || shader->name[i] >= 0x7f)
			return false;
	return !memchr_inv(shader->name + length, 0, sizeof(shader->name) - length);
}

static int unpu_proto_check_shaders(struct unpu_proto *p, const struct drm_unpu_shader_name *names,
				    u32 num)
{
	u32 i;

	for (i = 0; i < num; i++)
		if (!unpu_proto_name_ok(&names[i]))
			return unpu_proto_refuse(p, -EPROTO, "its shader %u has no proper name", i);
	return 0;
}

/* The first time everything is kept; later it must be the same, for clients have seen it. */
static int unpu_proto_keep(struct unpu_proto *p, const struct drm_unpu_dev_info *info,
			   const struct drm_unpu_shader_name *names, u32 num)
{
	struct unpu_device *udev = p->udev;

	if (p->known) {
		if (num == udev->num_shaders && !memcmp(info, &p->info, sizeof(*info)) &&
		    !memcmp(names, udev->shaders, num * sizeof(*names)))
			return 0;
		return unpu_proto_refuse(p, -EPROTO, "it is another now: bind the driver anew");
	}
	udev->shaders = drmm_kzalloc(&udev->drm, num * sizeof(*names), GFP_KERNEL);
	if (!udev->shaders)
		return -ENOMEM;
	memcpy(udev->shaders, names, num * sizeof(*names));
	udev->num_shaders = num;
	udev->info = *info;
	p->info = *info;
	p->known = true;
	return 0;
}

int unpu_proto_info(struct unpu_proto *p)
{
	struct drm_unpu_shader_name *names = p->names;
	u32 num = READ_ONCE(p->dev->num_shaders);
	struct drm_unpu_dev_info info;
	int err;

	if (!num || num > UNPU_PROTO_MAX_SHADERS)
		return unpu_proto_refuse(p, -EPROTO, "it says that it has %u shaders", num);
	unpu_proto_read(p->udev->window, UNPU_PROTO_SHADERS, names, num * sizeof(*names));
	unpu_proto_read(p->udev->window,
			UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, info), &info,
			sizeof(info));
	err = unpu_proto_check_counts(p, &info);
	if (!err)
		err = unpu_proto_check_sizes(p, &info);
	if (!err)
		err = unpu_proto_check_rest(p, &info);
	if (!err)
		err = unpu_proto_check_shaders(p, names, num);
	if (!err)
		err = unpu_proto_keep(p, &info, names, num);
	return err;
}
