// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs that do not end, and devices that are lost with them: who hears what, when, and that the
 * rest goes on. The faults are made by data, which only device processes for tests understand.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL		DRM_UNPU_PRIORITY_NORMAL
#define TIMEOUT_MS	200
/* What header and design promise after a job's deadline: to be told to stop, and to signal. */
#define PROMISE_MS	(500 + 1000)

#define BEGIN(__c) \
	struct client __c = user_open(); \
	if (!has_words(&(__c))) \
		SKIP(return, NO_WORDS)

static uint32_t short_ctx(struct client *c)
{
	return ctx_create(c, NORMAL, TIMEOUT_MS * MS);
}

/* A context that works, once the device is one again. */
static uint32_t ctx_again(struct client *c)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	uint32_t ctx;
	int err;

	while ((err = ctx_try(c, NORMAL, 0, &ctx))) {
		if (err != -ENODEV || now_ns() > deadline)
			die("CTX_CREATE: %s", strerror(-err));
		sleep_ms(10);
	}
	return ctx;
}

/* Everything anew, on a file of its own, once the device is one again. */
static void device_works_again(void)
{
	struct client c = { .fd = node_open() };

	ctx_again(&c);
	client_close(&c);
	device_works();
}

/* ---- a job that hangs ---------------------------------------------------------------------- */

TEST(who_waits_hears_of_it)
{
	BEGIN(c);
	uint32_t ctx = short_ctx(&c), hang = word_program(&c, "HANG");
	uint32_t first = syncobj_create(&c), second = syncobj_create(&c);
	struct drm_unpu_dev_stats before = dev_stats(&c), after;
	struct drm_unpu_ctx_query query;
	int fds[2];
	uint64_t seqno, began = now_ns();

	submit(&c, ctx, hang, 1, first);
	submit(&c, ctx, hang, 1, second);
	fds[0] = sync_file_export(&c, first);
	fds[1] = sync_file_export(&c, second);
	ASSERT_EQ(syncobj_wait(&c, first, 0, PATIENCE_MS), 0);
	ASSERT_GE(now_ns() - began, TIMEOUT_MS * MS);
	ASSERT_EQ(syncobj_wait(&c, second, 0, PATIENCE_MS), 0);
	ASSERT_EQ(sync_file_status(fds[0], 0), -ETIME);
	ASSERT_EQ(sync_file_status(fds[1], 0), -ECANCELED);
	query = ctx_query(&c, ctx);
	ASSERT_EQ(query.state, DRM_UNPU_CTX_GUILTY);
	ASSERT_EQ(query.completed_seqno, 2);
	ASSERT_EQ(submit_try(&c, ctx, hang, 1, NULL, 0, &seqno), -EIO);
	after = dev_stats(&c);
	ASSERT_EQ(after.jobs_timed_out, before.jobs_timed_out + 1);
	ASSERT_EQ(after.jobs_cancelled, before.jobs_cancelled + 1);
	ASSERT_EQ(after.jobs_completed, before.jobs_completed + 2);
	ASSERT_EQ(after.epoch, before.epoch);
	device_works_again();
}

/* The one job of its context: that is the error CTX_QUERY tells. */
TEST(ctx_query_tells)
{
	BEGIN(c);
	uint32_t ctx = short_ctx(&c);
	struct drm_unpu_ctx_query query;

	run(&c, ctx, word_program(&c, "SLOW"), 1);
	submit(&c, ctx, word_program(&c, "HANG"), 3, 0);
	ASSERT_TRUE(ctx_wait(&c, ctx, 2, PATIENCE_MS));
	query = ctx_query(&c, ctx);
	ASSERT_EQ(query.state, DRM_UNPU_CTX_GUILTY);
	ASSERT_EQ(query.failed_seqno, 2);
	ASSERT_EQ(query.failed_errno, -ETIME);
	ASSERT_EQ(ctx_destroy(&c, ctx), 0);
}

/* Each repeat is progress: many of them may take longer than the timeout. */
TEST(slow_is_not_hung)
{
	BEGIN(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 500 * MS);

	run(&c, ctx, word_program(&c, "SLOW"), 75);
	ASSERT_GE(ctx_query(&c, ctx).busy_ns, 1500 * MS);
	ASSERT_EQ(ctx_query(&c, ctx).state, DRM_UNPU_CTX_OK);
}

/* Before, beside and after it, of this process and of another. */
TEST(innocents_go_on)
{
	BEGIN(c);
	uint32_t ctx = short_ctx(&c), mine = ctx_create(&c, NORMAL, 0), status, i;
	struct counter counter = counter_create(&c, "SLOW", 0);
	pid_t pid = fork();

	if (!pid) {
		struct client other = client_open();
		uint32_t theirs = ctx_create(&other, NORMAL, 0);
		uint32_t slow = word_program(&other, "SLOW");

		for (i = 0; i < 20; i++)
			run(&other, theirs, slow, 2);
		_exit(KSFT_PASS);
	}
	for (i = 0; i < 20; i++)
		submit(&c, mine, counter.program, 2, 0);
	submit(&c, ctx, word_program(&c, "HANG"), 1, 0);
	ASSERT_TRUE(ctx_wait(&c, mine, 20, PATIENCE_MS));
	ASSERT_EQ(counter_read(counter.map), 40);
	ASSERT_EQ(ctx_query(&c, mine).state, DRM_UNPU_CTX_OK);
	ASSERT_EQ(ctx_query(&c, mine).failed_errno, 0);
	ASSERT_TRUE(ctx_wait(&c, ctx, 1, PATIENCE_MS));
	ASSERT_EQ(waitpid(pid, (int *)&status, 0), pid);
	ASSERT_EQ(status, 0);
}

/* Who waits for the end of a job that hung starts after it, and has done nothing wrong. */
TEST(dependant_goes_on)
{
	BEGIN(c);
	uint32_t ctx = short_ctx(&c), mine = ctx_create(&c, NORMAL, 0);
	uint32_t syncobj = syncobj_create(&c);
	struct counter counter = counter_create(&c, NULL, 0);
	struct drm_unpu_sync sync = sync_wait(syncobj, 0);

	submit(&c, ctx, word_program(&c, "HANG"), 1, syncobj);
	submit_syncs(&c, mine, counter.program, 5, &sync, 1);
	ASSERT_TRUE(ctx_wait(&c, mine, 1, PATIENCE_MS));
	ASSERT_EQ(counter_read(counter.map), 5);
	ASSERT_EQ(ctx_query(&c, mine).failed_errno, 0);
}

TEST(thirty_in_a_row)
{
	BEGIN(c);
	uint32_t hang = word_program(&c, "HANG"), mine = ctx_create(&c, NORMAL, 0), i;
	struct counter counter = counter_create(&c, NULL, 0);
	struct drm_unpu_dev_stats before = dev_stats(&c);

	for (i = 0; i < 30; i++) {
		uint32_t ctx = ctx_create(&c, NORMAL, 60 * MS);

		submit(&c, ctx, hang, 1, 0);
		submit(&c, mine, counter.program, 1, 0);
		ASSERT_TRUE(ctx_wait(&c, ctx, 1, PATIENCE_MS));
		ASSERT_EQ(ctx_query(&c, ctx).failed_errno, -ETIME);
		ASSERT_TRUE(ctx_wait(&c, mine, i + 1, PATIENCE_MS));
		ASSERT_EQ(ctx_destroy(&c, ctx), 0);
	}
	ASSERT_EQ(counter_read(counter.map), 30);
	ASSERT_EQ(ctx_query(&c, mine).state, DRM_UNPU_CTX_OK);
	ASSERT_EQ(dev_stats(&c).jobs_timed_out, before.jobs_timed_out + 30);
}

/* Nobody waits for the time-out to end what is not wanted any more. */
TEST(destroyed_while_hung)
{
	BEGIN(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c);

	submit(&c, ctx, word_program(&c, "HANG"), 1, syncobj);
	sleep_ms(50);
	ASSERT_EQ(ctx_destroy(&c, ctx), 0);
	ASSERT_EQ(syncobj_wait(&c, syncobj, 0, PATIENCE_MS), 0);
	ASSERT_EQ(sync_file_status(sync_file_export(&c, syncobj), 0), -ECANCELED);
	device_works_again();
}

TEST(closed_while_hung)
{
	BEGIN(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c);
	int fd;

	submit(&c, ctx, word_program(&c, "HANG"), 1, syncobj);
	fd = sync_file_export(&c, syncobj);
	sleep_ms(50);
	client_close(&c);
	ASSERT_EQ(sync_file_status(fd, PATIENCE_MS), -ECANCELED);
	device_works_again();
}

/* In the middle of everything, some of it hung. */
TEST(killed_while_hung)
{
	BEGIN(c);
	struct drm_unpu_dev_stats before = dev_stats(&c);
	int i, status;

	for (i = 0; i < 5; i++) {
		pid_t pid = fork();

		if (!pid) {
			struct client other = client_open();
			uint32_t ctx = ctx_create(&other, NORMAL, 0);

			submit(&other, ctx, word_program(&other, i % 2 ? "HANG" : "SLOW"), 100, 0);
			for (;;)
				copy_create(&other, bo_create(&other, 4096, 0),
					    bo_create(&other, 4096, WINDOW), 4096);
		}
		sleep_ms(30 + 20 * i);
		kill(pid, SIGKILL);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(WIFSIGNALED(status));
	}
	ASSERT_TRUE(memory_is(&c, &before));
	device_works_again();
}

/* ---- a device that is lost ----------------------------------------------------------------- */

struct lost {
	struct client c;
	uint32_t guilty, busy, idle;	/* contexts */
	uint32_t bo, program;
	uint8_t *map;
	int fds[3];
	struct drm_unpu_dev_stats before;
};

static int exported(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat)
{
	uint32_t syncobj = syncobj_create(c);

	submit(c, ctx, program, repeat, syncobj);
	return sync_file_export(c, syncobj);
}

static struct lost lose(struct client *c, const char *word)
{
	struct lost lost = { .c = *c, .before = dev_stats(c) };

	lost.map = bo_mapped(c, 4096, &lost.bo);
	memset(lost.map, 0x77, 4096);
	lost.program = copy_create(c, lost.bo, bo_create(c, 4096, 0), 4096);
	lost.guilty = short_ctx(c);
	lost.busy = ctx_create(c, NORMAL, 0);
	lost.idle = ctx_create(c, NORMAL, 0);
	lost.fds[0] = exported(c, lost.busy, word_program(c, "SLOW"), 1000);
	lost.fds[1] = exported(c, lost.guilty, word_program(c, word), 1);
	lost.fds[2] = exported(c, lost.guilty, lost.program, 1);
	return lost;
}

/* All of it is gone but what the window holds for who has it mapped. */
static void check_lost(struct __test_metadata *_metadata, struct lost *lost)
{
	struct client *c = &lost->c;
	uint32_t program, ctx;
	uint64_t seqno;
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_LT(sync_file_status(lost->fds[i], 0), 0);
	ASSERT_EQ(sync_file_status(lost->fds[0], 0), -ENODEV);
	ASSERT_EQ(ctx_query(c, lost->busy).state, DRM_UNPU_CTX_LOST);
	ASSERT_EQ(ctx_query(c, lost->busy).failed_errno, -ENODEV);
	ASSERT_EQ(ctx_query(c, lost->idle).state, DRM_UNPU_CTX_LOST);
	ASSERT_NE(ctx_query(c, lost->guilty).state, DRM_UNPU_CTX_OK);
	ASSERT_EQ(submit_try(c, lost->idle, lost->program, 1, NULL, 0, &seqno), -EIO);
	ctx = ctx_again(c);
	ASSERT_GT(dev_stats(c).epoch, lost->before.epoch);
	ASSERT_EQ(submit_try(c, lost->idle, lost->program, 1, NULL, 0, &seqno), -EIO);
	ASSERT_EQ(submit_try(c, ctx, lost->program, 1, NULL, 0, &seqno), -ESTALE);
	ASSERT_EQ(copy_try(c, lost->bo, lost->bo, 4, &program), -ESTALE);
	ASSERT_EQ(lost->map[4095], 0x77);
	for (i = 0; i < 3; i++)
		close(lost->fds[i]);
}

/* It does not stop when it is told to: it is given up, within what was promised. */
TEST(stuck)
{
	BEGIN(stays);
	struct drm_unpu_dev_stats before = dev_stats(&stays);
	struct client c = client_open();
	struct lost lost = lose(&c, "STUK");
	uint64_t began = now_ns();
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_LT(sync_file_status(lost.fds[i], PATIENCE_MS), 0);
	/* The deadline counts from when the job reaches the device, behind one slow repeat. */
	ASSERT_LE(now_ns() - began, node_slowed(TIMEOUT_MS + PROMISE_MS + 1000) * MS);
	check_lost(_metadata, &lost);
	device_works_again();
	client_close(&c);
	munmap(lost.map, 4096);
	/* What the stuck job could still write to comes back with the next epoch. */
	ASSERT_TRUE(memory_is(&stays, &before));
}

TEST(worker_exits)
{
	BEGIN(c);
	struct lost lost = lose(&c, "EXIT");
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_LT(sync_file_status(lost.fds[i], PATIENCE_MS), 0);
	check_lost(_metadata, &lost);
	device_works_again();
}

/* Again and again, with others that only want to work. */
TEST(worker_exits_often)
{
	BEGIN(c);
	uint64_t epoch = dev_stats(&c).epoch;
	int i;

	for (i = 0; i < 5; i++) {
		struct client other = client_open();
		uint32_t ctx = ctx_again(&other);

		submit(&other, ctx, word_program(&other, "EXIT"), 1, 0);
		ASSERT_TRUE(ctx_wait(&other, ctx, 1, PATIENCE_MS));
		ASSERT_EQ(ctx_query(&other, ctx).state, DRM_UNPU_CTX_LOST);
		ASSERT_EQ(ctx_query(&other, ctx).failed_errno, -ENODEV);
		client_close(&other);
		device_works_again();
		ASSERT_GT(dev_stats(&c).epoch, epoch);
		epoch = dev_stats(&c).epoch;
	}
}

TEST(killed_while_stuck)
{
	BEGIN(c);
	struct drm_unpu_dev_stats before = dev_stats(&c);
	uint64_t deadline;
	pid_t pid = fork();

	if (!pid) {
		struct client other = client_open();

		submit(&other, ctx_create(&other, NORMAL, 0), word_program(&other, "STUK"), 1, 0);
		pause();
	}
	sleep_ms(200);
	kill(pid, SIGKILL);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	/* It is told to stop, and does not. */
	deadline = now_ns() + PATIENCE_MS * MS;
	while (dev_stats(&c).epoch == before.epoch && now_ns() < deadline)
		sleep_ms(10);
	ASSERT_GT(dev_stats(&c).epoch, before.epoch);
	device_works_again();
	ASSERT_TRUE(memory_is(&c, &before));
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
