// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suspend and resume of all devices, by /sys/power/pm_test: contexts are LOST, mappings stay, and
 * the device works again. For root, and only with UNPU_SUSPEND=1: it stops the whole machine for
 * some seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
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

static bool can_suspend(void)
{
	return getenv("UNPU_SUSPEND") && !geteuid() && !put("/sys/power/pm_test", "devices");
}

static int suspend(void)
{
	return put("/sys/power/state", "freeze");
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

int main(int argc, char **argv)
{
	int status;

	node_argument(&argc, argv);
	status = test_harness_run(argc, argv);
	put("/sys/power/pm_test", "none");
	return status;
}
