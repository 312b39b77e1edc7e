/* SPDX-License-Identifier: MIT */
#include "runtime/device/choose.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if UNPU_ACCEL
#include "runtime/device/accel/accel.h"
#endif

const struct unpu_device_shape unpu_choose_typical = {
	.layers = 30, .hidden = 576, .ffn = 1536, .heads = 9, .kv_heads = 3, .head_dim = 64,
	.vocab = 49152, .type = 8, .bytes = 143ull << 20,
};

#define ANY	"any"	/* instead of a shape: the cpu, whatever it is */

/* ---- nodes of the kernel driver ------------------------------------------------------------ */

#if UNPU_ACCEL

static void list_accel(struct unpu_candidates *list)
{
	struct unpu_accel_info infos[UNPU_ACCEL_MAX_NODES];
	uint32_t i, count = unpu_accel_list(infos);

	for (i = 0; i < count && list->count < UNPU_MAX_CANDIDATES; i++) {
		struct unpu_candidate *c = &list->of[list->count++];

		*c = (struct unpu_candidate){ .accel = true, .index = i };
		snprintf(c->id, sizeof(c->id), "accel:%hhu", (uint8_t)i);
		c->is.heap_bytes = infos[i].heap_bytes;
		memcpy(c->is.key, infos[i].key, sizeof(c->is.key));
		memcpy(c->is.name, infos[i].name, sizeof(c->is.name));
		memcpy(c->is.driver, infos[i].driver, sizeof(c->is.driver));
		memcpy(c->is.why, infos[i].why, sizeof(c->is.why));
	}
}

static int test_accel(const struct unpu_candidate *c, uint32_t threads,
		      const struct unpu_device_shape *shape, struct unpu_verdict *verdict)
{
	return unpu_accel_test(c->index, threads, shape, verdict);
}

#else

static void list_accel(struct unpu_candidates *list)
{
	(void)list;
}

static int test_accel(const struct unpu_candidate *c, uint32_t threads,
		      const struct unpu_device_shape *shape, struct unpu_verdict *verdict)
{
	(void)c;
	(void)threads;
	(void)shape;
	(void)verdict;
	return -ENODEV;
}

#endif

/* ---- one of them --------------------------------------------------------------------------- */

/* Weights, and a tenth for KV cache and work. */
static bool too_large(const struct unpu_probe_device *device,
		      const struct unpu_device_shape *shape)
{
	return shape->bytes + shape->bytes / 10 > device->heap_bytes;
}

static int try_out(const struct unpu_log *log, const struct unpu_candidate *c, uint32_t threads,
		   const struct unpu_device_shape *shape, const char *words,
		   struct unpu_verdict *verdict)
{
	const struct unpu_probe probe = { 0 };
	int err;

	unpu_log(log, UNPU_LOG_INFO, "trying out %s, %s, which happens once", c->id, c->is.name);
	err = c->accel ? test_accel(c, threads, shape, verdict) :
			 unpu_probe_test(&probe, c->index, threads, shape, verdict);
	if (!err)
		unpu_verdict_put(log, c->id, c->is.key, words, verdict);
	return err;
}

int unpu_choose_judge(const struct unpu_log *log, const struct unpu_candidate *c, uint32_t threads,
		      const struct unpu_device_shape *shape, struct unpu_verdict *verdict)
{
	char words[UNPU_VERDICT_SHAPE];
	const struct unpu_probe_device *device = &c->is;

	*verdict = (struct unpu_verdict){ 0 };
	unpu_verdict_shape(shape, words);
	if (device->why[0])
		snprintf(verdict->why, sizeof(verdict->why), "%s", device->why);
	else if (!c->accel && unpu_marker_look(c->id) == -EBUSY)
		snprintf(verdict->why, sizeof(verdict->why), "did not come back from its first "
			 "use; `unpu devices --retry` tests it again");
	else if (!c->accel && device->type == UNPU_PROBE_TYPE_CPU)
		snprintf(verdict->why, sizeof(verdict->why),
			 "Vulkan on a CPU, which auto never takes");
	else if (too_large(device, shape))
		snprintf(verdict->why, sizeof(verdict->why), "the model's %llu MiB do not fit "
			 "its %llu MiB", (unsigned long long)(shape->bytes >> 20),
			 (unsigned long long)(device->heap_bytes >> 20));
	else if (unpu_verdict_get(log, c->id, device->key, words, verdict))
		return try_out(log, c, threads, shape, words, verdict);
	return 0;
}

/* ---- all of them --------------------------------------------------------------------------- */

static int list_gpus(struct unpu_candidates *list, char *why)
{
	const struct unpu_probe probe = { 0 };
	struct unpu_probe_list gpus;
	int err = unpu_probe_list(&probe, &gpus, why);
	uint32_t i;

	for (i = 0; i < gpus.count; i++) {
		struct unpu_candidate *c = &list->of[list->count++];

		*c = (struct unpu_candidate){ .index = i, .is = gpus.devices[i] };
		snprintf(c->id, sizeof(c->id), "vulkan:%hhu", (uint8_t)i);
	}
	return err;
}

int unpu_choose_list(struct unpu_candidates *list, char *why)
{
	int err = 0;

	list->count = 0;
	if (UNPU_VULKAN)
		err = list_gpus(list, why);
	list_accel(list);
	return err;
}

/* What there is: it changes with the machine's drivers, and with the nodes and who may use them. */
static void fingerprint(const struct unpu_candidates *nodes, char text[17])
{
	uint64_t hash;
	uint32_t i, j;

	unpu_probe_fingerprint(text);
	hash = strtoull(text, NULL, 16);
	for (i = 0; i < nodes->count; i++)
		for (j = 0; j < sizeof(nodes->of[i].is.key); j++)	/* FNV-1a */
			hash = (hash ^ (uint8_t)nodes->of[i].is.key[j]) * 0x100000001b3ull;
	snprintf(text, 17, "%016llx", (unsigned long long)hash);
}

static bool gpus_are_worthwhile(void)
{
	return UNPU_VULKAN && unpu_probe_worthwhile();
}

int unpu_choose_remembered(const struct unpu_log *log, const struct unpu_device_shape *shape,
			   char id[16])
{
	char text[17], words[UNPU_VERDICT_SHAPE];
	struct unpu_candidates nodes = { 0 };

	strcpy(id, "cpu");
	list_accel(&nodes);
	if (!nodes.count && !gpus_are_worthwhile())
		return 0;
	fingerprint(&nodes, text);
	if (!unpu_verdict_auto_get(log, text, ANY, id))
		return 0;
	if (shape) {
		unpu_verdict_shape(shape, words);
		if (!unpu_verdict_auto_get(log, text, words, id))
			return 0;
	}
	/* A trial at every start would cost more than a GPU gains. */
	if (unpu_verdict_remembers())
		return -ENOENT;
	unpu_log(log, UNPU_LOG_INFO, "auto is the cpu: what a trial finds could not be kept");
	return 0;
}

/* The fastest of those that are used; "cpu" if none is. -errno: not all could be tried. */
static int compare(const struct unpu_device_params *params, const struct unpu_candidates *list,
		   char id[16])
{
	struct unpu_verdict verdict;
	uint64_t best = UINT64_MAX;
	uint32_t i;
	int ret = 0;

	for (i = 0; i < list->count; i++) {
		int err = unpu_choose_judge(&params->log, &list->of[i], params->threads,
					    params->shape, &verdict);

		ret = ret ? ret : err;
		if (verdict.use && verdict.device_ns < best) {
			best = verdict.device_ns;
			memcpy(id, list->of[i].id, 16);
		} else if (!verdict.use) {
			unpu_log(&params->log, UNPU_LOG_INFO, "not %s: %s", list->of[i].id,
				 verdict.why);
		}
	}
	return ret;
}

static bool has_any(const struct unpu_candidates *list)
{
	uint32_t i;

	for (i = 0; i < list->count; i++)
		if (!list->of[i].is.why[0] &&
		    (list->of[i].accel || list->of[i].is.type != UNPU_PROBE_TYPE_CPU))
			return true;
	return false;
}

static void choose(const struct unpu_device_params *params, char id[16])
{
	char text[17], words[UNPU_VERDICT_SHAPE] = ANY, why[UNPU_VERDICT_WHY];
	struct unpu_candidates list = { 0 }, nodes = { 0 };
	int err = 0;

	if (gpus_are_worthwhile())
		err = list_gpus(&list, why);
	if (err)
		unpu_log(&params->log, UNPU_LOG_INFO, "auto is no GPU: %s", why);
	/* A program that is not there today may be tomorrow; one that crashes does so again. */
	if (err == -EIO)
		err = 0;
	list_accel(&list);
	list_accel(&nodes);
	if (has_any(&list)) {
		err = compare(params, &list, id) ? -EIO : err;
		unpu_verdict_shape(params->shape, words);
	}
	fingerprint(&nodes, text);
	if (!err)
		unpu_verdict_auto_put(&params->log, text, words, id);
}

void unpu_choose(const struct unpu_device_params *params, char id[16])
{
	strcpy(id, "cpu");
	if (params->shape && unpu_choose_remembered(&params->log, params->shape, id))
		choose(params, id);
}
