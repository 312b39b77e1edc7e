/* SPDX-License-Identifier: MIT */
/* Which devices there are, and which one an id means. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/device/choose.h"
#include "runtime/device/device.h"
#include "runtime/device/first_use.h"

#if UNPU_VULKAN
#include "runtime/device/vulkan/vulkan.h"
#define KNOWN_VULKAN	", vulkan:N"
#else
#define KNOWN_VULKAN	""
#endif

#if UNPU_ACCEL
#define KNOWN_ACCEL	", accel:N"
#else
#define KNOWN_ACCEL	""
#endif

#define KNOWN	"auto, cpu" KNOWN_VULKAN KNOWN_ACCEL

/* "name:N", N in its shortest form below 100. */
static int is_of(const char *family, const char *id, uint32_t *index)
{
	size_t length = strlen(family);
	const char *digits = id + length;

	if (strncmp(id, family, length) || digits[0] < '0' || digits[0] > '9')
		return 0;
	*index = (uint32_t)(digits[0] - '0');
	if (digits[1] >= '0' && digits[1] <= '9' && digits[0] != '0') {
		*index = *index * 10 + (uint32_t)(digits[1] - '0');
		digits++;
	}
	return !digits[1];
}

#if UNPU_VULKAN

/* The best tuning that a trial with this shape, or else with the typical one, has found. */
static const char *known_tuning(const struct unpu_device_params *params, const char *id,
				const char *key, struct unpu_verdict *verdict)
{
	char words[UNPU_VERDICT_SHAPE];

	if (params->tuning)
		return params->tuning;
	if (!params->shape)
		return NULL;
	unpu_verdict_shape(params->shape, words);
	if (unpu_verdict_get(&params->log, id, key, words, verdict) || !verdict->tuning[0])
		return NULL;
	return verdict->tuning;
}

static int open_known(uint32_t index, const struct unpu_device_params *params,
		      struct unpu_first_use *use, struct unpu_device **dev)
{
	struct unpu_device_params with = *params;
	struct unpu_verdict verdict;
	struct unpu_vulkan_info info;
	int err = unpu_vulkan_describe(index, &params->log, &info);

	if (!err && info.why[0])
		err = unpu_fail(&params->log, -ENOTSUP, "%s cannot be used: %s", use->id,
				info.why);
	err = err ? err : unpu_first_use_key(use, &params->log, info.key);
	if (err)
		return err;
	with.tuning = known_tuning(params, use->id, info.key, &verdict);
	err = unpu_vulkan_device_open(index, &with, dev);
	if (!err && unpu_first_use_watch(use, info.key, *dev)) {
		(*dev)->ops->close(*dev);
		*dev = NULL;
		err = unpu_fail(&params->log, -ENOMEM, "no memory for %s", use->id);
	}
	return err;
}

static int open_vulkan(const char *id, uint32_t index, const struct unpu_device_params *params,
		       struct unpu_device **dev)
{
	struct unpu_first_use use;
	int err = unpu_first_use_begin(&use, &params->log, id);

	if (err)
		return err;
	err = open_known(index, params, &use, dev);
	if (err)
		unpu_first_use_end(&use);
	return err;
}

#else

static int open_vulkan(const char *id, uint32_t index, const struct unpu_device_params *params,
		       struct unpu_device **dev)
{
	(void)id;
	(void)index;
	(void)params;
	(void)dev;
	return -ENODEV;
}

#endif

#if !UNPU_ACCEL
int unpu_accel_device_open(uint32_t index, const struct unpu_device_params *params,
			   struct unpu_device **dev)
{
	(void)index;
	(void)params;
	(void)dev;
	return -ENODEV;
}
#endif

/* 1: this build has no family of that name. */
static int open_one(const char *id, const struct unpu_device_params *params,
		    struct unpu_device **dev)
{
	uint32_t index;

	if (!strcmp(id, "cpu"))
		return unpu_cpu_device_open(params, dev);
	if (UNPU_VULKAN && is_of("vulkan:", id, &index))
		return open_vulkan(id, index, params, dev);
	if (UNPU_ACCEL && is_of("accel:", id, &index))
		return unpu_accel_device_open(index, params, dev);
	return 1;
}

/* A device that was the best and does not open is no reason to stop. 1: as open_one(). */
static int open_chosen(const char *id, const struct unpu_device_params *params,
		       struct unpu_device **dev)
{
	int ret = open_one(id, params, dev);

	if (ret >= 0 || !strcmp(id, "cpu"))
		return ret;
	unpu_log(&params->log, UNPU_LOG_WARN, "%s does not open; the cpu takes its place", id);
	return unpu_cpu_device_open(params, dev);
}

static int open_auto(const struct unpu_device_params *params, struct unpu_device **dev)
{
	char id[16] = "cpu";

	if (UNPU_VULKAN || UNPU_ACCEL)
		unpu_choose(params, id);
	return open_chosen(id, params, dev);
}

/* "name:N" of a family that is known to the interface, but not to this build. */
static int is_absent_family(const char *id)
{
	return (!UNPU_VULKAN && !strncmp(id, "vulkan:", 7)) ||
	       (!UNPU_ACCEL && !strncmp(id, "accel:", 6));
}

int unpu_device_open(const char *id, const struct unpu_device_params *params,
		     struct unpu_device **dev)
{
	int ret;

	if (!id || !strcmp(id, "auto"))
		return open_auto(params, dev);
	if (strncmp(id, "auto:", 5))
		ret = open_one(id, params, dev);
	else
		ret = open_chosen(id + 5, params, dev);
	if (ret != 1)
		return ret;
	return unpu_fail(&params->log, -ENODEV, is_absent_family(id) ?
			 "device \"%s\" is not in this build, which has: " KNOWN :
			 "no device is called \"%s\"; there are: " KNOWN, id);
}

/* ---- enumeration --------------------------------------------------------------------------- */

typedef int device_fn(void *arg, const struct unpu_device_info *info);

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

static int tell_cpu(device_fn *fn, void *arg)
{
	struct unpu_device_info info = { .id = "cpu" };
	const struct unpu_device_params params = { .log = { .fn = keep_why, .arg = &info } };
	struct unpu_device *dev;
	int err = unpu_cpu_device_open(&params, &dev);

	if (!err) {
		err = ask_name(dev, &info);
		dev->ops->close(dev);
	}
	info.usable = !err;
	if (err && !info.why[0])
		snprintf(info.why, sizeof(info.why), "%s", strerror(-err));
	return fn(arg, &info);
}

/* What there is to say of a device that can be used, and why auto takes it or does not. err: it
 * could not be tried. */
static void describe(struct unpu_device_info *info, const struct unpu_candidate *c,
		     const struct unpu_verdict *verdict, int err)
{
	snprintf(info->name, sizeof(info->name), "%s", c->is.name);
	snprintf(info->driver, sizeof(info->driver), "%s", c->is.driver);
	info->usable = !c->is.why[0] && !(c->accel ? err : unpu_marker_look(info->id) == -EBUSY);
	if (!info->usable)
		snprintf(info->why, sizeof(info->why), "%s", verdict->why);
	else if (verdict->use)
		snprintf(info->verdict, sizeof(info->verdict),
			 "faster than the cpu: %.2f ms a token, the cpu %.2f%s%s",
			 (double)verdict->device_ns / 1e6, (double)verdict->cpu_ns / 1e6,
			 verdict->tuning[0] ? "; " : "", verdict->tuning);
	else
		snprintf(info->verdict, sizeof(info->verdict), "%s", verdict->why);
	info->preferred = verdict->use;
}

/* Those that auto would take, or the others. */
static int tell_some(const struct unpu_candidates *list, const struct unpu_verdict *verdicts,
		     const int *errs, bool preferred, device_fn *fn, void *arg)
{
	struct unpu_device_info info;
	uint32_t i;
	int err = 0;

	for (i = 0; i < list->count && !err; i++) {
		if (verdicts[i].use != preferred)
			continue;
		info = (struct unpu_device_info){ 0 };
		memcpy(info.id, list->of[i].id, sizeof(info.id));
		describe(&info, &list->of[i], &verdicts[i], errs[i]);
		err = fn(arg, &info);
	}
	return err;
}

int unpu_devices(int (*fn)(void *arg, const struct unpu_device_info *info), void *arg)
{
	const struct unpu_log log = { NULL, NULL };
	struct unpu_device_info all = { .id = "vulkan" };
	struct unpu_verdict verdicts[UNPU_MAX_CANDIDATES];
	int errs[UNPU_MAX_CANDIDATES];
	struct unpu_candidates list;
	int ret, err = unpu_choose_list(&list, all.why);
	uint32_t i;

	for (i = 0; i < list.count; i++)
		errs[i] = unpu_choose_judge(&log, &list.of[i], 0, &unpu_choose_typical,
					    &verdicts[i]);
	ret = tell_some(&list, verdicts, errs, true, fn, arg);
	ret = ret ? ret : tell_cpu(fn, arg);
	ret = ret ? ret : tell_some(&list, verdicts, errs, false, fn, arg);
	return ret || !err ? ret : fn(arg, &all);
}

void unpu_devices_forget(unpu_log_fn *fn, void *arg)
{
	const struct unpu_log log = { fn, arg };

	unpu_verdict_forget(&log);
}
