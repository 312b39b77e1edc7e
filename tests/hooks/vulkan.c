/* SPDX-License-Identifier: MIT */
/*
 * Vulkan devices that fail, or are smaller than they are, as the environment says. Linked before
 * the library, in place of runtime/device/vulkan/hooks.c:
 *
 *   UNPU_FAULT=vulkan:lost@N|hang@N|corrupt@N|oom@N   at submit N of an engine, from 1
 *             |oom-alloc@N                           at allocation N of device memory
 *             |crash-in-probe
 *   SIGRTMIN + 1 lost, 2 hang, 3 corrupt, 4 oom        at the next submit
 *   UNPU_VK_LIMITS=v3d42|v3d71|mali-g31|adreno6xx-low  what these report (research, 1.1)
 *   UNPU_VK_RANGE=BYTES   the most that one binding takes, below what is refused too
 *   UNPU_VK_TIMEOUT=SECONDS   that a job may take: lavapipe on a busy machine
 *   UNPU_VK_TYPE=integrated|discrete|virtual|cpu|other; discrete: the host sees the window alone
 *
 * What it does not understand ends the program: a test with a misspelt fault must not pass.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/vulkan/vk.h"

/* In a probe only the probe itself fails: its submits are not those that a test counts. */
static bool in_probe;

static void wrong(const char *name, const char *value)
{
	fprintf(stderr, "tests/hooks: %s=%s is not understood\n", name, value);
	abort();
}

/* ---- faults ---------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	enum unpu_vk_fault fault;
} faults[] = {
	{ "lost", UNPU_VK_FAULT_LOST },
	{ "hang", UNPU_VK_FAULT_HANG },
	{ "corrupt", UNPU_VK_FAULT_CORRUPT },
	{ "oom", UNPU_VK_FAULT_OOM },
	{ "oom-alloc", UNPU_VK_FAULT_NONE },
	{ "crash-in-probe", UNPU_VK_FAULT_NONE },
};

/* The number behind `name@` if that is the fault asked for, else 0; of a name alone it is 1. */
static uint64_t fault_number(const char *name)
{
	const char *value = getenv("UNPU_FAULT"), *at;
	unsigned long long n;
	char *end;
	size_t length;

	if (!value || strncmp(value, "vulkan:", 7))
		return 0;
	value += 7;
	length = strcspn(value, "@");
	at = value + length;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		if (strlen(faults[i].name) != length || strncmp(value, faults[i].name, length))
			continue;
		n = *at ? strtoull(at + 1, &end, 10) : 1;
		if (!n || (*at && (end == at + 1 || *end)))
			break;
		return strcmp(faults[i].name, name) ? 0 : n;
	}
	wrong("UNPU_FAULT", value);
	return 0;
}

/* What a signal has asked for, until a submit takes it. */
static atomic_int armed;

static void arm(int number)
{
	static const enum unpu_vk_fault order[] = {
		UNPU_VK_FAULT_LOST, UNPU_VK_FAULT_HANG, UNPU_VK_FAULT_CORRUPT, UNPU_VK_FAULT_OOM,
	};

	atomic_store(&armed, (int)order[number - SIGRTMIN - 1]);
}

/* Before main(): processes that it forks have them, too. */
__attribute__((constructor)) static void hear_signals(void)
{
	struct sigaction action = { .sa_handler = arm, .sa_flags = SA_RESTART };

	for (int i = 1; i <= 4; i++)
		sigaction(SIGRTMIN + i, &action, NULL);
}

enum unpu_vk_fault unpu_vk_hook_submit(uint64_t n)
{
	int asked;

	if (in_probe)
		return UNPU_VK_FAULT_NONE;
	asked = atomic_exchange(&armed, UNPU_VK_FAULT_NONE);
	if (asked)
		return (enum unpu_vk_fault)asked;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		if (faults[i].fault && fault_number(faults[i].name) == n)
			return faults[i].fault;
	return UNPU_VK_FAULT_NONE;
}

bool unpu_vk_hook_allocate(uint64_t n)
{
	return !in_probe && fault_number("oom-alloc") == n;
}

void unpu_vk_hook_probe(void)
{
	in_probe = true;
	if (fault_number("crash-in-probe"))
		abort();
}

/* Asked by a leak sanitizer at the end: what a lost device holds is left, on purpose. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return fault_number("lost") || fault_number("hang");
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* 0 for what is not clamped. None of them has subgroup adds, f16 or dot products that Vulkan of
 * their version reports. */
static const struct profile {
	const char *name;
	uint32_t api_version, invocations, shared_bytes, storage_buffers, push_bytes;
	uint32_t buffer_align, atom, subgroup_size;
	uint64_t range;
} profiles[] = {
	{ "v3d42", VK_API_VERSION_1_2, 256, 16384, 8, 128, 32, 256, 16, 1u << 30 },
	{ "v3d71", VK_API_VERSION_1_3, 256, 16384, 8, 128, 32, 256, 16, 1u << 30 },
	{ "mali-g31", VK_API_VERSION_1_0, 256, 32768, 0, 256, 16, 64, 0, UINT32_MAX },
	{ "adreno6xx-low", VK_API_VERSION_1_0, 1024, 16384, 0, 256, 64, 64, 0, 1u << 27 },
};

static void clamp(uint32_t *value, uint32_t limit)
{
	if (limit && *value > limit)
		*value = limit;
}

static void lift(uint32_t *value, uint32_t limit)
{
	if (*value < limit)
		*value = limit;
}

static void apply(const struct profile *p, struct unpu_vk_caps *caps)
{
	clamp(&caps->api_version, p->api_version);
	clamp(&caps->max_invocations, p->invocations);
	clamp(&caps->shared_bytes, p->shared_bytes);
	clamp(&caps->storage_buffers, p->storage_buffers);
	clamp(&caps->push_bytes, p->push_bytes);
	lift(&caps->buffer_align, p->buffer_align);
	lift(&caps->atom, p->atom);
	if (caps->subgroup_size)
		caps->subgroup_size = p->subgroup_size;
	if (caps->max_range > p->range)
		caps->max_range = p->range;
	for (int i = 0; i < 3; i++)
		clamp(&caps->max_groups[i], 65535);
	caps->subgroup_add = caps->f16 = caps->dot = caps->dot_signed = caps->dot_mixed = false;
	caps->ext_f16 = caps->ext_dot = false;
	caps->info.type = UNPU_VULKAN_INTEGRATED;
}

static void limit(struct unpu_vk_caps *caps)
{
	const char *value = getenv("UNPU_VK_LIMITS");

	if (!value || !*value)
		return;
	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		if (strcmp(profiles[i].name, value))
			continue;
		apply(&profiles[i], caps);
		return;
	}
	wrong("UNPU_VK_LIMITS", value);
}

static void change_type(struct unpu_vk_caps *caps)
{
	static const char *const names[] = {
		[UNPU_VULKAN_OTHER] = "other", [UNPU_VULKAN_INTEGRATED] = "integrated",
		[UNPU_VULKAN_DISCRETE] = "discrete", [UNPU_VULKAN_VIRTUAL] = "virtual",
		[UNPU_VULKAN_CPU] = "cpu",
	};
	const char *value = getenv("UNPU_VK_TYPE");

	if (!value || !*value)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], value))
			continue;
		caps->info.type = (enum unpu_vulkan_type)i;
		if (i == UNPU_VULKAN_DISCRETE)
			caps->unified = false;
		return;
	}
	wrong("UNPU_VK_TYPE", value);
}

/* What is kept of one disguise is not for another. */
static void change_key(struct unpu_vulkan_info *info)
{
	static const char *const names[] = { "UNPU_VK_LIMITS", "UNPU_VK_RANGE", "UNPU_VK_TYPE" };
	uint32_t hash = 2166136261u;
	size_t n = strlen(info->key);
	bool any = false;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		for (any |= value && *value; value && *value; value++)
			hash = (hash ^ (uint8_t)*value) * 16777619u;
		hash = (hash ^ (uint8_t)i) * 16777619u;
	}
	if (any)
		snprintf(info->key + n, sizeof(info->key) - n, "-%08x", hash);
}

void unpu_vk_hook_caps(struct unpu_vk_caps *caps)
{
	/* Nobody waits a minute for what is known to hang. */
	if (fault_number("hang"))
		caps->timeout_ns = 5000000000u;
	else if (getenv("UNPU_VK_TIMEOUT"))
		caps->timeout_ns = 1000000000u * (uint64_t)atoi(getenv("UNPU_VK_TIMEOUT"));
	limit(caps);
	change_type(caps);
	change_key(&caps->info);
}

void unpu_vk_hook_range(struct unpu_vk_caps *caps)
{
	const char *value = getenv("UNPU_VK_RANGE");
	unsigned long long range;
	char *end;

	if (!value || !*value)
		return;
	range = strtoull(value, &end, 10);
	if (!range || *end)
		wrong("UNPU_VK_RANGE", value);
	if (caps->max_range > range)
		caps->max_range = range;
}
