// SPDX-License-Identifier: GPL-2.0-only
/* The calls under a thousand signals a second: the same results, and nothing left behind. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL	DRM_UNPU_PRIORITY_NORMAL

static volatile sig_atomic_t signals;

static void on_alarm(int sig)
{
	signals++;
}

static void storm(int flags)
{
	const struct itimerval each = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = flags };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each, NULL);
}

static void calm(void)
{
	const struct itimerval none = { 0 };

	setitimer(ITIMER_REAL, &none, NULL);
}

/* One of everything, from its making to its end. */
static void round_of_calls(struct __test_metadata *_metadata, struct client *c, uint8_t value)
{
	uint32_t from, to, between = bo_create(c, 65536, 0), ctx = ctx_create(c, NORMAL, 0);
	uint8_t *source = bo_mapped(c, 65536, &from), *target = bo_mapped(c, 65536, &to);
	uint32_t in = copy_create(c, from, between, 65536);
	uint32_t out = copy_create(c, between, to, 65536), syncobj = syncobj_create(c);

	memset(source, value, 65536);
	ASSERT_EQ(submit(c, ctx, in, 2, 0), 1);
	ASSERT_EQ(submit(c, ctx, out, 3, syncobj), 2);
	ASSERT_EQ(syncobj_wait(c, syncobj, 0, PATIENCE_MS), 0);
	ASSERT_EQ(memcmp(source, target, 65536), 0);
	ASSERT_EQ(sync_file_status(sync_file_export(c, syncobj), 0), 1);
	ASSERT_EQ(ctx_query(c, ctx).completed_seqno, 2);
	ASSERT_EQ(ctx_query(c, ctx).failed_errno, 0);
	ASSERT_EQ(program_destroy(c, in), 0);
	ASSERT_EQ(program_destroy(c, out), 0);
	ASSERT_EQ(syncobj_destroy(c, syncobj), 0);
	ASSERT_EQ(ctx_destroy(c, ctx), 0);
	ASSERT_EQ(munmap(source, 65536), 0);
	ASSERT_EQ(munmap(target, 65536), 0);
	ASSERT_EQ(bo_close(c, from), 0);
	ASSERT_EQ(bo_close(c, to), 0);
	ASSERT_EQ(bo_close(c, between), 0);
}

static void under_signals(struct __test_metadata *_metadata, int flags)
{
	struct client stays = user_open(), c = client_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays), after;
	int i;

	storm(flags);
	for (i = 0; i < 40; i++)
		round_of_calls(_metadata, &c, i);
	calm();
	ASSERT_GT(signals, 20);
	ASSERT_TRUE(memory_is(&stays, &before));
	after = dev_stats(&stays);
	ASSERT_EQ(after.jobs_submitted, before.jobs_submitted + 80);
	ASSERT_EQ(after.jobs_completed, before.jobs_completed + 80);
	ASSERT_EQ(after.jobs_failed, before.jobs_failed);
	ASSERT_EQ(after.jobs_cancelled, before.jobs_cancelled);
}

/* Handlers whose calls return with EINTR and are made again, as libdrm does. */
TEST(interrupted) { under_signals(_metadata, 0); }
/* Handlers whose calls the kernel makes again. */
TEST(restarted) { under_signals(_metadata, SA_RESTART); }

/* A refusal stays what it is. */
TEST(refused)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), program, bo = bo_create(&c, 4096, WINDOW), i;
	uint64_t seqno;

	storm(0);
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(copy_try(&c, bo, bo + 1, 64, &program), -ENOENT);
		ASSERT_EQ(copy_try(&c, bo, bo, 8192, &program), -EINVAL);
		ASSERT_EQ(submit_try(&c, ctx, 99, 1, NULL, 0, &seqno), -ENOENT);
		ASSERT_EQ(submit_try(&c, ctx + 1, 99, 1, NULL, 0, &seqno), -ENOENT);
	}
	calm();
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
