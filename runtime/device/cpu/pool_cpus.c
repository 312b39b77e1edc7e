/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/pool_priv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One small file of /proc or /sys; 0 when it cannot be read. */
static size_t cpus_read(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return 0;
	n = fread(text, 1, size - 1, f);
	fclose(f);
	text[n] = '\0';
	return n;
}

/* ---- quota ------------------------------------------------------------------------------ */

static uint32_t quota_cpus(unsigned long long quota, unsigned long long period)
{
	if (!quota || !period)
		return UINT32_MAX;
	quota = quota / period + !!(quota % period);
	return quota > UINT32_MAX ? UINT32_MAX : (uint32_t)quota;
}

static uint32_t quota_v2(const char *dir)
{
	unsigned long long quota, period;
	char text[64], path[768];

	snprintf(path, sizeof(path), "%s/cpu.max", dir);
	if (!cpus_read(path, text, sizeof(text)) ||
	    sscanf(text, "%llu %llu", &quota, &period) != 2)
		return UINT32_MAX;	/* "max 100000" too */
	return quota_cpus(quota, period);
}

static uint32_t quota_v1(const char *dir)
{
	unsigned long long period;
	char text[64], path[768];
	long long quota;

	snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
	if (!cpus_read(path, text, sizeof(text)) || sscanf(text, "%lld", &quota) != 1 ||
	    quota <= 0)
		return UINT32_MAX;	/* -1: none */
	snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
	if (!cpus_read(path, text, sizeof(text)) || sscanf(text, "%llu", &period) != 1)
		return UINT32_MAX;
	return quota_cpus((unsigned long long)quota, period);
}

/* The smallest of the group's and its ancestors': each holds for all that is below. Inside a
 * container the path may be one of the host's, of which only the root is there. */
static uint32_t quota_path(const char *mount, const char *group, uint32_t (*of)(const char *dir))
{
	size_t root = strlen(mount);
	uint32_t least = UINT32_MAX;
	char dir[704];

	if (snprintf(dir, sizeof(dir), "%s%s", mount, group) >= (int)sizeof(dir))
		return UINT32_MAX;
	for (;;) {
		uint32_t quota = of(dir);
		char *slash;

		least = quota < least ? quota : least;
		if (strlen(dir) <= root)
			return least;
		slash = strrchr(dir + root, '/');
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* "4:cpu,cpuacct:/a/b": whether cpu is among the controllers. */
static int is_v1_cpu(const char *list, size_t length)
{
	const char *end = list + length;

	while (list < end) {
		const char *comma = memchr(list, ',', (size_t)(end - list));
		size_t n = (size_t)((comma ? comma : end) - list);

		if (n == 3 && !memcmp(list, "cpu", 3))
			return 1;
		list += n + 1;
	}
	return 0;
}

static uint32_t quota_line(const char *root, char *line)
{
	static const char *const mounts[] = { "cpu", "cpu,cpuacct" };
	char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
	uint32_t least = UINT32_MAX;
	char mount[256];

	if (!group || group[1] != '/')
		return UINT32_MAX;
	list++;
	if (list == group) {
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup", root);
		return quota_path(mount, group + 1, quota_v2);
	}
	if (!is_v1_cpu(list, (size_t)(group - list)))
		return UINT32_MAX;
	for (size_t i = 0; i < 2; i++) {
		uint32_t quota;

		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/%s", root, mounts[i]);
		quota = quota_path(mount, group + 1, quota_v1);
		least = quota < least ? quota : least;
	}
	return least;
}

uint32_t unpu_pool_cpus_quota(const char *root)
{
	char text[4096], path[256], *line, *next;
	uint32_t least = UINT32_MAX;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	if (!cpus_read(path, text, sizeof(text)))
		return UINT32_MAX;
	for (line = text; line; line = next) {
		uint32_t quota;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		quota = quota_line(root, line);
		least = quota < least ? quota : least;
	}
	return least;
}

/* ---- processors ------------------------------------------------------------------------- */

/* Relative speed as the kernel tells it; 1024 on machines whose cores are alike. */
static unsigned int cpus_capacity(int cpu)
{
	char text[32], path[80];
	unsigned int capacity;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpu);
	if (!cpus_read(path, text, sizeof(text)) || sscanf(text, "%u", &capacity) != 1)
		return 1024;
	return capacity;
}

/*
 * Processors slower than 3/4 of the fastest are apart: one token's phases are too short to be cut
 * by speed (8 threads on 4 big and 4 little cores were measured at a quarter of 4 big ones).
 */
static void cpus_sort(struct unpu_pool_cpus *cpus, const cpu_set_t *all)
{
	unsigned int capacity[CPU_SETSIZE] = { 0 }, top = 0, slow = 0;

	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, all))
			continue;
		capacity[i] = cpus_capacity(i);
		top = capacity[i] > top ? capacity[i] : top;
	}
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, all))
			continue;
		if (capacity[i] >= top - top / 4) {
			CPU_SET(i, &cpus->big);
			continue;
		}
		CPU_SET(i, &cpus->little);
		slow = capacity[i] > slow ? capacity[i] : slow;
	}
	cpus->count = (uint32_t)CPU_COUNT(&cpus->big);
	cpus->helpers = (uint32_t)CPU_COUNT(&cpus->little);
	cpus->pinned = cpus->helpers > 0;
	cpus->little_speed = top ? (double)slow / top : 1.0;
}

void unpu_pool_cpus_find(struct unpu_pool_cpus *cpus)
{
	uint32_t quota = unpu_pool_cpus_quota("");
	cpu_set_t all;

	memset(cpus, 0, sizeof(*cpus));
	if (sched_getaffinity(0, sizeof(all), &all)) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);

		cpus->count = online > 0 ? (uint32_t)online : 1;
	} else {
		cpus_sort(cpus, &all);
	}
	if (cpus->count > quota)
		cpus->count = quota;
	if (cpus->helpers > quota - cpus->count)
		cpus->helpers = quota - cpus->count;
	if (!cpus->count)
		cpus->count = 1;
}

uint32_t unpu_pool_usable_cpus(void)
{
	struct unpu_pool_cpus cpus;

	unpu_pool_cpus_find(&cpus);
	return cpus.count;
}
