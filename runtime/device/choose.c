/* SPDX-License-Identifier: MIT */
#include "runtime/device/choose.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct unpu_device_shape unpu_choose_typical = {
	.layers = 30, .hidden = 576, .ffn = 1536, .heads = 9, .kv_heads = 3, .head_dim = 64,
	.vocab = 49152, .type = 8, .bytes = 143ull << 20,
};

#define ANY	"any"	/* instead of a shape: the cpu, whatever it is */

/* Weights, and a tenth for KV cache and work. */
static bool too_large(const struct unpu_probe_device *device,
		      const struct unpu_device_shape *shape)
{
	return shape->bytes + shape->bytes / 10 > device->heap_bytes;
}

void unpu_choose_judge(const struct unpu_log *log, uint32_t index,
		       const struct unpu_probe_device *device, uint32_t threads,
		       const struct unpu_device_shape *shape, struct unpu_verdict *verdict)
{
	char id[16], words[UNPU_VERDICT_SHAPE];
	const struct unpu_probe probe = { 0 };

	*verdict = (struct unpu_verdict){ 0 };
	snprintf(id, sizeof(id), "vulkan:%hhu", (uint8_t)index);
	unpu_verdict_shape(shape, words);
	if (device->why[0]) {
		snprintf(verdict->why, sizeof(verdict->why), "%s", device->why);
	} else if (unpu_marker_look(id) == -EBUSY) {
		snprintf(verdict->why, sizeof(verdict->why), "did not come back from its first "
			 "use; `unpu devices --retry` tests it again");
	} else if (device->type == UNPU_PROBE_TYPE_CPU) {
		snprintf(verdict->why, sizeof(verdict->why),
			 "Vulkan on a CPU, which auto never takes");
	} else if (too_large(device, shape)) {
		snprintf(verdict->why, sizeof(verdict->why), "the model's %llu MiB do not fit "
			 "its %llu MiB", (unsigned long long)(shape->bytes >> 20),
			 (unsigned long long)(device->heap_bytes >> 20));
	} else if (unpu_verdict_get(log, id, device->key, words, verdict)) {
		unpu_log(log, UNPU_LOG_INFO, "trying out %s, %s, which happens once", id,
			 device->name);
		if (!unpu_probe_test(&probe, index, threads, shape, verdict))
			unpu_verdict_put(log, id, device->key, words, verdict);
	}
}

int unpu_choose_remembered(const struct unpu_log *log, const struct unpu_device_shape *shape,
			   char id[16])
{
	char fingerprint[17], words[UNPU_VERDICT_SHAPE];

	strcpy(id, "cpu");
	if (!unpu_probe_worthwhile())
		return 0;
	unpu_probe_fingerprint(fingerprint);
	if (!unpu_verdict_auto_get(log, fingerprint, ANY, id))
		return 0;
	if (shape) {
		unpu_verdict_shape(shape, words);
		if (!unpu_verdict_auto_get(log, fingerprint, words, id))
			return 0;
	}
	/* A trial at every start would cost more than a GPU gains. */
	if (unpu_verdict_remembers())
		return -ENOENT;
	unpu_log(log, UNPU_LOG_INFO, "auto is the cpu: what a trial finds could not be kept");
	return 0;
}

/* The fastest of those that are used; "cpu" if none is. */
static void compare(const struct unpu_device_params *params, const struct unpu_probe_list *list,
		    char id[16])
{
	struct unpu_verdict verdict;
	uint64_t best = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < list->count; i++) {
		unpu_choose_judge(&params->log, i, &list->devices[i], params->threads,
				  params->shape, &verdict);
		if (verdict.use && verdict.device_ns < best) {
			best = verdict.device_ns;
			snprintf(id, 16, "vulkan:%hhu", (uint8_t)i);
		} else if (!verdict.use) {
			unpu_log(&params->log, UNPU_LOG_INFO, "not vulkan:%u: %s", i, verdict.why);
		}
	}
}

static bool has_gpu(const struct unpu_probe_list *list)
{
	uint32_t i;

	for (i = 0; i < list->count; i++)
		if (!list->devices[i].why[0] && list->devices[i].type != UNPU_PROBE_TYPE_CPU)
			return true;
	return false;
}

void unpu_choose(const struct unpu_device_params *params, char id[16])
{
	char fingerprint[17], words[UNPU_VERDICT_SHAPE] = ANY, why[UNPU_VERDICT_WHY];
	const struct unpu_probe probe = { 0 };
	struct unpu_probe_list list;
	int err;

	strcpy(id, "cpu");
	if (!params->shape || !unpu_choose_remembered(&params->log, params->shape, id))
		return;
	err = unpu_probe_list(&probe, &list, why);
	if (err)
		unpu_log(&params->log, UNPU_LOG_INFO, "auto is the cpu: %s", why);
	/* A program that is not there today may be tomorrow. */
	if (err && err != -EIO)
		return;
	if (has_gpu(&list)) {
		compare(params, &list, id);
		unpu_verdict_shape(params->shape, words);
	}
	unpu_probe_fingerprint(fingerprint);
	unpu_verdict_auto_put(&params->log, fingerprint, words, id);
}
