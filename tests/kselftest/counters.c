// SPDX-License-Identifier: GPL-2.0-only
/* What the node tells of itself: fdinfo, DEV_QUERY; counters that come back to where they were. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL	DRM_UNPU_PRIORITY_NORMAL
#define MIB	(1u << 20)

/* The value of a key; false: it is not there. */
static bool fdinfo(int fd, const char *key, char *value, size_t bytes)
{
	char path[64], line[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	while (file && !found && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		if (!colon)
			continue;
		*colon = '\0';
		line[sizeof(line) - 1] = '\0';
		found = !strcmp(line, key);
		snprintf(value, bytes, "%s", colon + 1 + strspn(colon + 1, " \t"));
		value[strcspn(value, "\n")] = '\0';
	}
	if (file)
		fclose(file);
	return found;
}

static uint64_t fdinfo_number(int fd, const char *key, const char *unit)
{
	char value[128], *end;
	uint64_t number;

	if (!fdinfo(fd, key, value, sizeof(value)))
		die("fdinfo has no %s", key);
	number = strtoull(value, &end, 10);
	if (end == value || strcmp(end, unit))
		die("fdinfo: %s is '%s'", key, value);
	return number;
}

TEST(fdinfo_of_a_new_file)
{
	struct client a = user_open(), b = client_open();
	char value[128];

	ASSERT_TRUE(fdinfo(a.fd, "drm-driver", value, sizeof(value)));
	ASSERT_STREQ(value, "unpu");
	ASSERT_NE(fdinfo_number(a.fd, "drm-client-id", ""),
		  fdinfo_number(b.fd, "drm-client-id", ""));
	if (!node_is_mock()) {
		ASSERT_TRUE(fdinfo(a.fd, "drm-pdev", value, sizeof(value)));
		ASSERT_EQ(strlen(value), strlen("0000:00:05.0"));
	}
	ASSERT_EQ(fdinfo_number(a.fd, "drm-engine-compute", " ns"), 0);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-total-window", " KiB"), 0);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-total-device", " KiB"), 0);
}

TEST(fdinfo_counts_memory)
{
	struct client a = user_open(), b = client_open();
	uint32_t window = bo_create(&a, 3 * MIB, WINDOW), theirs;
	int fd;

	bo_create(&a, 2 * MIB, 0);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-total-window", " KiB"), 3072);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-resident-window", " KiB"), 3072);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-shared-window", " KiB"), 0);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-total-device", " KiB"), 2048);
	ASSERT_EQ(fdinfo_number(b.fd, "drm-total-window", " KiB"), 0);
	ASSERT_EQ(bo_export(&a, window, &fd), 0);
	ASSERT_EQ(bo_import(&b, fd, &theirs), 0);
	close(fd);
	ASSERT_EQ(fdinfo_number(b.fd, "drm-total-window", " KiB"), 3072);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-shared-window", " KiB"), 3072);
	ASSERT_EQ(bo_close(&b, theirs), 0);
	ASSERT_EQ(fdinfo_number(b.fd, "drm-total-window", " KiB"), 0);
	ASSERT_EQ(bo_close(&a, window), 0);
	ASSERT_EQ(fdinfo_number(a.fd, "drm-total-window", " KiB"), 0);
}

/* What the device has worked is the file's, also when context and file of the job are gone. */
TEST(fdinfo_counts_time)
{
	struct client a = user_open(), b = client_open();
	uint32_t ctx = ctx_create(&a, NORMAL, 0), bo = bo_create(&a, 2 * MIB, WINDOW);
	uint32_t program = copy_create(&a, bo, bo_create(&a, 2 * MIB, 0), 2 * MIB);
	uint64_t busy, began = now_ns(), took;

	run(&a, ctx, program, 20);
	took = now_ns() - began;
	busy = fdinfo_number(a.fd, "drm-engine-compute", " ns");
	ASSERT_GT(busy, 0);
	ASSERT_LE(busy, took);
	ASSERT_EQ(busy, ctx_query(&a, ctx).busy_ns);
	ASSERT_EQ(fdinfo_number(b.fd, "drm-engine-compute", " ns"), 0);
	ASSERT_EQ(ctx_destroy(&a, ctx), 0);
	run(&a, ctx_create(&a, NORMAL, 0), program, 1);
	ASSERT_GT(fdinfo_number(a.fd, "drm-engine-compute", " ns"), busy);
}

TEST(queued_time)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), slow = word_program(&c, "SLOW");
	struct drm_unpu_ctx_query query;

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	submit(&c, ctx, slow, 5, 0);
	submit(&c, ctx, slow, 1, 0);
	submit(&c, ctx, slow, 1, 0);
	ASSERT_TRUE(ctx_wait(&c, ctx, 3, PATIENCE_MS));
	query = ctx_query(&c, ctx);
	/* 7 repeats of 20 ms; of three in flight, one has waited for five of them at least. */
	ASSERT_GE(query.busy_ns, 140 * MS);
	ASSERT_GE(query.queued_ns, 100 * MS);
}

TEST(stats_count_jobs)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), bo = bo_create(&c, MIB, WINDOW), i;
	uint32_t program = copy_create(&c, bo, bo_create(&c, MIB, 0), MIB);
	struct drm_unpu_dev_stats before = dev_stats(&c), after;

	for (i = 0; i < 10; i++)
		run(&c, ctx, program, 2);
	after = dev_stats(&c);
	ASSERT_EQ(after.jobs_submitted, before.jobs_submitted + 10);
	ASSERT_EQ(after.jobs_completed, before.jobs_completed + 10);
	ASSERT_EQ(after.jobs_failed, before.jobs_failed);
	ASSERT_EQ(after.jobs_timed_out, before.jobs_timed_out);
	ASSERT_EQ(after.jobs_cancelled, before.jobs_cancelled);
	ASSERT_EQ(after.epoch, before.epoch);
	ASSERT_GT(after.busy_ns, before.busy_ns);
}

TEST(stats_count_memory)
{
	struct client stays = user_open(), c = client_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays), now;
	uint32_t window, handle;
	uint8_t *map;

	map = bo_mapped(&c, MIB, &window);
	handle = bo_create(&c, 2 * MIB, 0);
	now = dev_stats(&stays);
	ASSERT_EQ(now.window_used_bytes, before.window_used_bytes + MIB);
	ASSERT_EQ(now.device_used_bytes, before.device_used_bytes + 2 * MIB);
	/* A program keeps its buffers. */
	copy_create(&c, window, handle, MIB);
	munmap(map, MIB);
	ASSERT_EQ(bo_close(&c, window), 0);
	ASSERT_EQ(bo_close(&c, handle), 0);
	now = dev_stats(&stays);
	ASSERT_GE(now.window_used_bytes, before.window_used_bytes + MIB);
	ASSERT_EQ(now.device_used_bytes, before.device_used_bytes + 2 * MIB);
	client_close(&c);
	ASSERT_TRUE(memory_is(&stays, &before));
}

/* All kinds of things, closed in the middle of their work, and all memory is there again. */
TEST(nothing_is_left)
{
	struct client stays = user_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays), after;
	int i;

	for (i = 0; i < 20; i++) {
		struct client c = client_open();
		uint32_t ctx = ctx_create(&c, i % 2 ? NORMAL : DRM_UNPU_PRIORITY_LOW, 0);
		struct counter counter = counter_create(&c, i % 3 ? "SLOW" : NULL, i);

		submit(&c, ctx, counter.program, 30, syncobj_create(&c));
		submit(&c, ctx, counter.program, 30, 0);
		if (i % 4 == 0)
			ctx_wait(&c, ctx, 1, 100);
		munmap((void *)counter.map, COUNTER_BLOCKS * COUNTER_BLOCK);
		client_close(&c);
	}
	ASSERT_TRUE(memory_is(&stays, &before));
	after = dev_stats(&stays);
	ASSERT_EQ(after.jobs_submitted, before.jobs_submitted + 40);
	ASSERT_EQ(after.jobs_completed, before.jobs_completed + 40);
	ASSERT_EQ(after.jobs_failed, before.jobs_failed);
}

/* Every limit is one that could be reached. */
TEST(info_is_plausible)
{
	struct client c = user_open();
	const struct drm_unpu_dev_info *info = &c.info;

	ASSERT_EQ(info->version_major, 1);
	ASSERT_EQ(info->pad, 0);
	ASSERT_FALSE(info->features & DRM_UNPU_FEATURE_WAIT_RUNS);
	ASSERT_GT(info->heap_window_bytes, MIB);
	ASSERT_GT(info->max_bo_bytes, 0);
	ASSERT_GT(info->max_binding_bytes, 0);
	ASSERT_EQ(info->binding_align & (info->binding_align - 1), 0);
	ASSERT_GT(info->max_contexts, 1);
	ASSERT_GT(info->max_queued_jobs, 1);
	ASSERT_GT(info->default_timeout_ns, 0);
	ASSERT_LE(info->default_timeout_ns, info->max_timeout_ns);
	ASSERT_LE(info->max_timeout_ns, info->max_job_time_ns);
	ASSERT_LE(info->num_matrices, DRM_UNPU_MAX_MATRICES);
	ASSERT_GT(info->kv_types, 0);
	ASSERT_NE(info->name[0], 0);
	ASSERT_EQ(info->name[sizeof(info->name) - 1], 0);
}

/* Less room, more room and none, as the header says for all three. */
TEST(query_of_any_size)
{
	struct client c = user_open();
	struct drm_unpu_dev_query query = { .type = DRM_UNPU_QUERY_DEV_INFO };
	uint8_t room[sizeof(c.info) + 64];

	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query), 0);
	ASSERT_EQ(query.size, sizeof(c.info));
	memset(room, 0xee, sizeof(room));
	query = (struct drm_unpu_dev_query){ DRM_UNPU_QUERY_DEV_INFO, sizeof(room),
					     (uintptr_t)room };
	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query), 0);
	ASSERT_EQ(memcmp(room, &c.info, sizeof(c.info)), 0);
	ASSERT_EQ(room[sizeof(c.info)], 0);
	ASSERT_EQ(room[sizeof(room) - 1], 0);
}

TEST(shaders_are_named)
{
	struct client c = user_open();
	struct drm_unpu_dev_query query = { .type = DRM_UNPU_QUERY_DEV_SHADERS };
	struct drm_unpu_shader_name names[256] = { 0 };
	bool copy = false;
	uint32_t i;

	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query), 0);
	ASSERT_GT(query.size, 0);
	ASSERT_EQ(query.size % sizeof(names[0]), 0);
	ASSERT_LE(query.size, sizeof(names));
	query.pointer = (uintptr_t)names;
	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query), 0);
	for (i = 0; i < query.size / sizeof(names[0]); i++) {
		ASSERT_NE(names[i].name[0], 0);
		ASSERT_EQ(names[i].name[DRM_UNPU_SHADER_NAME - 1], 0);
		copy = copy || !strcmp((char *)names[i].name, "copy.1");
	}
	ASSERT_TRUE(copy);
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
