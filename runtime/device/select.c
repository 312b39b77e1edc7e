/* SPDX-License-Identifier: MIT */
/* Which devices there are, and which one an id means. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/device/device.h"

/* A family of devices, in the order of preference of "auto". */
struct family {
	const char *name;	/* of ids: "cpu", or "name:N" */
	int (*open)(const struct unpu_device_params *params, struct unpu_device **dev);
};

static const struct family families[] = {
	{ "cpu", unpu_cpu_device_open },
};

#define NUM_FAMILIES	(sizeof(families) / sizeof(families[0]))

static const char *known_devices(char *text, size_t size)
{
	size_t used = 0;
	size_t i;

	text[0] = '\0';
	for (i = 0; i < NUM_FAMILIES && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
					 families[i].name);
	return text;
}

/* "name:N" of a family that is known to the interface, but not to this build. */
static int is_absent_family(const char *id)
{
	return !strncmp(id, "vulkan:", 7) || !strncmp(id, "accel:", 6);
}

int unpu_device_open(const char *id, const struct unpu_device_params *params,
		     struct unpu_device **dev)
{
	char known[64];
	size_t i;

	if (!id || !strcmp(id, "auto"))
		return families[0].open(params, dev);
	for (i = 0; i < NUM_FAMILIES; i++)
		if (!strcmp(id, families[i].name))
			return families[i].open(params, dev);
	known_devices(known, sizeof(known));
	return unpu_fail(&params->log, -ENODEV, is_absent_family(id) ?
			 "device \"%s\" is not in this build, which has: auto, %s" :
			 "no device is called \"%s\"; there are: auto, %s", id, known);
}

/* ---- enumeration --------------------------------------------------------------------------- */

/* Keeps the first sentence: what went wrong before what that led to. */
static void keep_why(void *arg, enum unpu_log_level level, const char *text)
{
	struct unpu_device_info *info = arg;

	if (level == UNPU_LOG_ERROR && !info->why[0])
		snprintf(info->why, sizeof(info->why), "%s", text);
}

static int ask_name(struct unpu_device *dev, struct unpu_device_info *info)
{
	struct drm_unpu_dev_info about = { 0 };
	struct drm_unpu_dev_query query = {
		.type = DRM_UNPU_QUERY_DEV_INFO,
		.size = sizeof(about),
		.pointer = (uintptr_t)&about,
	};
	int err = dev->ops->dev_query(dev, &query);

	if (!err)
		snprintf(info->name, sizeof(info->name), "%.*s", (int)sizeof(about.name),
			 (const char *)about.name);
	return err;
}

static void describe(const struct family *family, struct unpu_device_info *info)
{
	const struct unpu_device_params params = { .log = { .fn = keep_why, .arg = info } };
	struct unpu_device *dev;
	int err;

	*info = (struct unpu_device_info){ 0 };
	snprintf(info->id, sizeof(info->id), "%s", family->name);
	err = family->open(&params, &dev);
	if (!err) {
		err = ask_name(dev, info);
		dev->ops->close(dev);
	}
	info->usable = !err;
	if (err && !info->why[0])
		snprintf(info->why, sizeof(info->why), "%s", strerror(-err));
}

int unpu_devices(int (*fn)(void *arg, const struct unpu_device_info *info), void *arg)
{
	struct unpu_device_info info;
	size_t i;
	int err;

	for (i = 0; i < NUM_FAMILIES; i++) {
		describe(&families[i], &info);
		err = fn(arg, &info);
		if (err)
			return err;
	}
	return 0;
}
