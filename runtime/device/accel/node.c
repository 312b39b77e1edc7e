/* SPDX-License-Identifier: MIT */
/* Which device nodes are the driver's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/device/accel/accel.h"
#include "runtime/device/accel/sys.h"

#define DRIVER		"unpu"
/* A folder need not be read for this, which a sandbox may not allow. */
#define MAX_ACCEL	64u
#define FIRST_RENDER	128u
#define MAX_RENDER	64u

int unpu_accel_ioctl(int fd, unsigned long request, void *arg)
{
	int err;

	do
		err = unpu_accel_sys_ioctl(fd, request, arg);
	while (err == -EINTR || err == -EAGAIN);
	return err;
}

/* ---- one node ------------------------------------------------------------------------------ */

/* "unpu 1.0.0". -ENODEV: it is somebody else's. */
static int ask_driver(int fd, char *driver, size_t size)
{
	char name[16] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };
	int err = unpu_accel_ioctl(fd, DRM_IOCTL_VERSION, &version);

	if (err)
		return err;
	name[version.name_len < sizeof(name) ? version.name_len : sizeof(name) - 1] = '\0';
	if (strcmp(name, DRIVER))
		return -ENODEV;
	snprintf(driver, size, "%s %d.%d.%d", name, version.version_major, version.version_minor,
		 version.version_patchlevel);
	return 0;
}

/*
 * Whether the node is the driver's; node->fd is then open or why it is not. A node of another
 * driver is left alone where that can be seen from outside: to open a GPU's may wake it. One that
 * may not be opened is counted where it can be ours.
 */
static bool look_at(struct unpu_accel_node *node, bool maybe)
{
	char name[32];
	int err = unpu_accel_sys_driver(node->path, name, sizeof(name));

	if (err == -ENOENT || (!err && strncmp(name, DRIVER, strlen(DRIVER))))
		return false;
	snprintf(node->driver, sizeof(node->driver), DRIVER);
	node->fd = unpu_accel_sys_open(node->path);
	if (node->fd < 0)
		return !err || (maybe && (node->fd == -EACCES || node->fd == -EPERM));
	err = ask_driver(node->fd, node->driver, sizeof(node->driver));
	if (!err)
		return true;
	unpu_accel_sys_close(node->fd);
	node->fd = err;
	return false;
}

/* ---- all of them --------------------------------------------------------------------------- */

int unpu_accel_find(uint32_t index, struct unpu_accel_node *node, uint32_t *count)
{
	uint32_t i;

	*count = 0;
	for (i = 0; i < MAX_ACCEL + MAX_RENDER; i++) {
		if (i < MAX_ACCEL)
			snprintf(node->path, sizeof(node->path), "/dev/accel/accel%u", i);
		else
			snprintf(node->path, sizeof(node->path), "/dev/dri/renderD%u",
				 FIRST_RENDER + i - MAX_ACCEL);
		if (!look_at(node, i < MAX_ACCEL))
			continue;
		if ((*count)++ == index)
			return 0;
		if (node->fd >= 0)
			unpu_accel_sys_close(node->fd);
	}
	return -ENODEV;
}

static bool is_sane(const struct drm_unpu_dev_info *info)
{
	return info->binding_align && !(info->binding_align & (info->binding_align - 1)) &&
	       info->binding_align <= 65536 && info->max_bo_bytes && info->max_binding_bytes &&
	       info->max_rows && info->max_dispatches && info->max_bindings &&
	       info->max_buffers && info->max_spec_words && info->max_const_bytes &&
	       info->max_programs && info->max_repeat && info->max_job_dispatches &&
	       info->max_syncs && info->max_contexts && info->max_queued_jobs &&
	       info->tokens_per_submit && info->num_matrices <= DRM_UNPU_MAX_MATRICES &&
	       !info->name[sizeof(info->name) - 1];
}

int unpu_accel_ask_info(const struct unpu_accel_node *node, const struct unpu_log *log,
			struct drm_unpu_dev_info *info)
{
	struct drm_unpu_dev_query query = {
		.type = DRM_UNPU_QUERY_DEV_INFO, .size = sizeof(*info),
		.pointer = (uintptr_t)info,
	};
	int err = unpu_accel_ioctl(node->fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);

	if (err)
		return unpu_fail(log, err, "%s does not say what it is: %s", node->path,
				 strerror(-err));
	if (info->version_major != 1)
		return unpu_fail(log, -ENOTSUP, "%s has version %u.%u of the device interface, "
				 "unpu " UNPU_VERSION_STRING " speaks 1", node->path,
				 info->version_major, info->version_minor);
	if (!is_sane(info))
		return unpu_fail(log, -EPROTO, "%s reports limits that make no sense", node->path);
	return 0;
}

/* ---- for lists ----------------------------------------------------------------------------- */

static void keep_why(void *arg, enum unpu_log_level level, const char *text)
{
	struct unpu_accel_info *is = arg;

	if (level == UNPU_LOG_ERROR && !is->why[0])
		snprintf(is->why, sizeof(is->why), "%s", text);
}

static void mix(uint32_t *hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t i;

	for (i = 0; i < size; i++)	/* FNV-1a */
		*hash = (*hash ^ bytes[i]) * 0x01000193u;
}

/* What a verdict depends on; how much memory there is differs from boot to boot. */
static void make_key(const struct unpu_accel_node *node, const struct drm_unpu_dev_info *info,
		     char key[UNPU_VERDICT_KEY])
{
	uint32_t hash = 0x811c9dc5u;

	mix(&hash, node->driver, strlen(node->driver));
	mix(&hash, &info->features, sizeof(info->features));
	mix(&hash, &info->units, sizeof(info->units));
	mix(&hash, &info->kv_types, sizeof(info->kv_types));
	mix(&hash, info->matrices, sizeof(info->matrices));
	mix(&hash, info->name, sizeof(info->name));
	snprintf(key, UNPU_VERDICT_KEY, "%.14s-%08x-%.40s", node->driver, hash,
		 (const char *)info->name);
}

static void describe(const struct unpu_accel_node *node, struct unpu_accel_info *is)
{
	const struct unpu_log log = { keep_why, is };
	struct drm_unpu_dev_info info = { 0 };

	*is = (struct unpu_accel_info){ 0 };
	memcpy(is->path, node->path, sizeof(is->path));
	memcpy(is->driver, node->driver, sizeof(is->driver));
	if (node->fd == -EACCES || node->fd == -EPERM)
		snprintf(is->why, sizeof(is->why), "no permission for %s: needs group "
			 UNPU_ACCEL_GROUP " and udev rule " UNPU_ACCEL_RULE, node->path);
	else if (node->fd < 0)
		snprintf(is->why, sizeof(is->why), "%s does not open: %s", node->path,
			 strerror(-node->fd));
	else if (!unpu_accel_ask_info(node, &log, &info))
		make_key(node, &info, is->key);
	snprintf(is->name, sizeof(is->name), "%.*s", (int)sizeof(info.name) - 1,
		 (const char *)info.name);
	is->heap_bytes = info.features & DRM_UNPU_FEATURE_UNIFIED ? info.heap_window_bytes :
								     info.heap_device_bytes;
}

uint32_t unpu_accel_list(struct unpu_accel_info infos[UNPU_ACCEL_MAX_NODES])
{
	struct unpu_accel_node node;
	uint32_t i, count;

	for (i = 0; i < UNPU_ACCEL_MAX_NODES; i++) {
		if (unpu_accel_find(i, &node, &count))
			break;
		describe(&node, &infos[i]);
		if (node.fd >= 0)
			unpu_accel_sys_close(node.fd);
	}
	return i;
}
