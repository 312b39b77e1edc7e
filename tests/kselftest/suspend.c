// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suspend and resume, as deep as /sys/power/pm_test lets this machine go: contexts are LOST, every
 * fence signals, mappings stay, and the device works again. For root, and only with UNPU_SUSPEND=1:
 * it stops the whole machine for some seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL	DRM_UNPU_PRIORITY_NORMAL

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static bool file_has(const char *path, const char *word)
{
	char text[256] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	if (fd >= 0)
		close(fd);
	return strstr(text, word);
}

/* The deeper ones are for a sleep in which the processors are off. */
static bool can_suspend_by(const char *level, const char *state)
{
	if (!getenv("UNPU_SUSPEND") || geteuid() || put("/sys/power/pm_test", level))
		return false;
	if (!strcmp(state, "mem") && put("/sys/power/mem_sleep", "deep"))
		return false;
	return file_has("/sys/power/state", state);
}

static bool can_suspend(void)
{
	return can_suspend_by("devices", "freeze");
}

static int suspend_to(const char *state)
{
	return put("/sys/power/state", state);
}

static int suspend(void)
{
	return suspend_to("freeze");
}

#define BEGIN(__c) \
	struct client __c; \
	if (!can_suspend()) \
		SKIP(return, "for root, with UNPU_SUSPEND=1, on a kernel with pm_test"); \
	__c = client_open()

TEST(idle)
{
	BEGIN(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), bo, program;
	uint8_t *map = bo_mapped(&c, 4096, &bo);
	uint64_t epoch = dev_stats(&c).epoch, seqno;

	program = copy_create(&c, bo, bo_create(&c, 4096, 0), 4096);
	run(&c, ctx, program, 1);
	memset(map, 0x77, 4096);
	ASSERT_EQ(suspend(), 0);
	ASSERT_EQ(ctx_query(&c, ctx).state, DRM_UNPU_CTX_LOST);
	ASSERT_EQ(submit_try(&c, ctx, program, 1, NULL, 0, &seqno), -EIO);
	ASSERT_EQ(submit_try(&c, ctx_create(&c, NORMAL, 0), program, 1, NULL, 0, &seqno), -ESTALE);
	ASSERT_GT(dev_stats(&c).epoch, epoch);
	ASSERT_EQ(map[0], 0x77);
	ASSERT_EQ(map[4095], 0x77);
	device_works();
	client_close(&c);
}

/* A job with the device, one behind it and one that waits for the first: all hear of it. */
TEST(busy)
{
	BEGIN(c);
	uint32_t first = syncobj_create(&c), second = syncobj_create(&c);
	uint32_t third = syncobj_create(&c), ctx, other, slow, i;
	struct drm_unpu_sync syncs[2] = { sync_wait(first, 0), sync_signal(third, 0) };
	int fds[3];

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	ctx = ctx_create(&c, NORMAL, 0);
	other = ctx_create(&c, NORMAL, 0);
	slow = word_program(&c, "SLOW");
	submit(&c, ctx, slow, 1000, first);
	submit(&c, ctx, slow, 1000, second);
	submit_syncs(&c, other, slow, 1000, syncs, 2);
	fds[0] = sync_file_export(&c, first);
	fds[1] = sync_file_export(&c, second);
	fds[2] = sync_file_export(&c, third);
	sleep_ms(50);
	ASSERT_EQ(suspend(), 0);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(sync_file_status(fds[i], PATIENCE_MS), -ENODEV);
		close(fds[i]);
	}
	ASSERT_EQ(ctx_query(&c, ctx).state, DRM_UNPU_CTX_LOST);
	ASSERT_EQ(ctx_query(&c, ctx).failed_errno, -ENODEV);
	ASSERT_EQ(ctx_query(&c, other).state, DRM_UNPU_CTX_LOST);
	device_works();
	client_close(&c);
}

/* What nobody uses any more when it happens. */
TEST(after_close)
{
	BEGIN(c);
	struct client other = client_open();
	uint32_t ctx = ctx_create(&other, NORMAL, 0);

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	submit(&other, ctx, word_program(&other, "SLOW"), 1000, 0);
	client_close(&other);
	ASSERT_EQ(suspend(), 0);
	device_works();
	client_close(&c);
}

/* ---- everything at once -------------------------------------------------------------------- */

#define PAGE	4096u

struct all {
	struct client c;
	uint32_t busy, hung, idle, syncobj;
	uint8_t *map;
	int fences[6];
	pthread_t waiter;
	int waited;
};

/* Once the device is one again: one that was stuck takes its time. */
static void works_again(void)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	struct client c = { .fd = node_open() };
	uint32_t ctx;
	int err;

	while ((err = ctx_try(&c, NORMAL, 0, &ctx))) {
		if (err != -ENODEV || now_ns() > deadline)
			die("CTX_CREATE: %s", strerror(-err));
		sleep_ms(10);
	}
	client_close(&c);
	device_works();
}

/* It is frozen in its wait, and goes on with it. */
static void *wait_for_job(void *arg)
{
	struct all *all = arg;

	all->waited = syncobj_wait(&all->c, all->syncobj, 0, 60000);
	return NULL;
}

static int exported(struct client *c, uint32_t ctx, uint32_t program, uint32_t syncobj)
{
	submit(c, ctx, program, 1000, syncobj);
	return sync_file_export(c, syncobj);
}

/* Three jobs of one context and two of another, one behind both. */
static void all_begin(struct __test_metadata *_metadata, struct all *all, const char *word)
{
	uint32_t slow, stands, bo, i;
	struct drm_unpu_sync syncs[2];

	all->c = client_open();
	all->busy = ctx_create(&all->c, NORMAL, 0);
	all->hung = ctx_create(&all->c, NORMAL, 0);
	all->idle = ctx_create(&all->c, NORMAL, 0);
	all->map = bo_mapped(&all->c, 2 * PAGE, &bo);
	memset(all->map, 0x77, PAGE);
	slow = word_program(&all->c, "SLOW");
	stands = word_program(&all->c, word);
	all->syncobj = syncobj_create(&all->c);
	for (i = 0; i < 5; i++)
		all->fences[i] = exported(&all->c, i < 3 ? all->busy : all->hung,
					  i < 3 ? slow : stands,
					  i == 3 ? all->syncobj : syncobj_create(&all->c));
	syncs[0] = sync_wait(all->syncobj, 0);
	syncs[1] = sync_signal(syncobj_create(&all->c), 0);
	submit_syncs(&all->c, all->idle, slow, 1000, syncs, 2);
	all->fences[5] = sync_file_export(&all->c, syncs[1].handle);
	ASSERT_EQ(pthread_create(&all->waiter, NULL, wait_for_job, all), 0);
	sleep_ms(60);
	for (i = 0; i < 6; i++)
		ASSERT_EQ(sync_file_status(all->fences[i], 0), 0);
}

static void all_check(struct __test_metadata *_metadata, struct all *all)
{
	const uint32_t ctxs[] = { all->busy, all->hung, all->idle };
	uint32_t i;

	for (i = 0; i < 6; i++) {
		ASSERT_EQ(sync_file_status(all->fences[i], PATIENCE_MS), -ENODEV);
		close(all->fences[i]);
	}
	ASSERT_EQ(pthread_join(all->waiter, NULL), 0);
	ASSERT_EQ(all->waited, 0);
	for (i = 0; i < ARRAY_SIZE(ctxs); i++) {
		ASSERT_EQ(ctx_query(&all->c, ctxs[i]).state, DRM_UNPU_CTX_LOST);
		ASSERT_EQ(ctx_query(&all->c, ctxs[i]).failed_errno, -ENODEV);
	}
	ASSERT_EQ(all->map[0], 0x77);
	ASSERT_EQ(all->map[PAGE], 0);
	all->map[PAGE] = 0x11;
}

FIXTURE(levels)
{
};

FIXTURE_VARIANT(levels)
{
	const char *level, *state, *word;
};

FIXTURE_VARIANT_ADD(levels, devices) { "devices", "freeze", "HANG" };
FIXTURE_VARIANT_ADD(levels, devices_stuck) { "devices", "freeze", "STUK" };
FIXTURE_VARIANT_ADD(levels, platform) { "platform", "freeze", "HANG" };
FIXTURE_VARIANT_ADD(levels, devices_deep) { "devices", "mem", "HANG" };
FIXTURE_VARIANT_ADD(levels, core_deep) { "core", "mem", "HANG" };

FIXTURE_SETUP(levels)
{
}

FIXTURE_TEARDOWN(levels)
{
}

TEST_F_TIMEOUT(levels, with_all_at_once, 600)
{
	uint32_t i, rounds = getenv("UNPU_TEST_LONG") ? 20 : 1;
	struct drm_unpu_dev_stats before;
	struct client stays;
	struct all all;
	uint64_t epoch;

	if (!can_suspend_by(variant->level, variant->state))
		SKIP(return, "for root, with UNPU_SUSPEND=1, on a kernel with pm_test %s for %s",
		     variant->level, variant->state);
	stays = client_open();
	if (!has_words(&stays))
		SKIP(return, NO_WORDS);
	before = dev_stats(&stays);
	for (i = 0; i < rounds; i++) {
		epoch = dev_stats(&stays).epoch;
		all_begin(_metadata, &all, variant->word);
		ASSERT_EQ(suspend_to(variant->state), 0);
		all_check(_metadata, &all);
		works_again();
		ASSERT_GT(dev_stats(&stays).epoch, epoch);
		ASSERT_EQ(all.map[PAGE], 0x11);
		ASSERT_EQ(munmap(all.map, 2 * PAGE), 0);
		client_close(&all.c);
		ASSERT_TRUE(memory_is(&stays, &before));
	}
	client_close(&stays);
}

int main(int argc, char **argv)
{
	int status;

	node_argument(&argc, argv);
	status = test_harness_run(argc, argv);
	put("/sys/power/pm_test", "none");
	return status;
}
