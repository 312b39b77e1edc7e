// SPDX-License-Identifier: GPL-2.0-only
/* Jobs that end well: what they do, in which order, what they wait for and signal. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define KIB	1024u
#define NORMAL	DRM_UNPU_PRIORITY_NORMAL

/* Where jobs have to take a while. */
#define BEGIN_SLOW(__c) \
	struct client __c = user_open(); \
	if (!has_words(&(__c))) \
		SKIP(return, NO_WORDS)

static bool is_byte(const uint8_t *map, size_t bytes, uint8_t value)
{
	return !bytes || (map[0] == value && !memcmp(map, map + 1, bytes - 1));
}

static uint8_t byte_at(uint32_t i, uint32_t seed)
{
	return (i * 2654435761u + seed) >> 24;
}

/* Into the device's own memory and out again. */
TEST(copy_copies)
{
	static const uint32_t sizes[] = { 4, 4096, 64 * KIB - 4, 64 * KIB, 64 * KIB + 4, 1 << 20 };
	struct client c = user_open();
	uint32_t from, to, between = bo_create(&c, 1 << 20, 0), ctx = ctx_create(&c, NORMAL, 0);
	uint8_t *source = bo_mapped(&c, 1 << 20, &from), *target = bo_mapped(&c, 1 << 20, &to);
	uint32_t i, k;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (k = 0; k < sizes[i]; k++)
			source[k] = byte_at(k, i);
		memset(target, 0xee, 1 << 20);
		run(&c, ctx, copy_create(&c, from, between, sizes[i]), 1);
		run(&c, ctx, copy_create(&c, between, to, sizes[i]), 1);
		ASSERT_EQ(memcmp(source, target, sizes[i]), 0);
		/* And not a byte more. */
		ASSERT_TRUE(is_byte(target + sizes[i], (1 << 20) - sizes[i], 0xee));
	}
}

/* Each job and each run takes the bytes that the one before has moved. */
TEST(in_order)
{
	struct client c = user_open();
	uint32_t handles[5], programs[4], ctx = ctx_create(&c, NORMAL, 0), i;
	struct drm_unpu_run runs[4];
	struct drm_unpu_submit args = { .ctx_id = ctx };
	uint8_t *maps[5];

	for (i = 0; i < 5; i++)
		maps[i] = bo_mapped(&c, 4096, &handles[i]);
	for (i = 0; i < 4; i++)
		programs[i] = copy_create(&c, handles[i], handles[i + 1], 4096);
	memset(maps[0], 1, 4096);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(submit(&c, ctx, programs[i], 1, 0), i + 1);
	ASSERT_TRUE(ctx_wait(&c, ctx, 4, PATIENCE_MS));
	ASSERT_EQ(maps[4][4095], 1);
	memset(maps[0], 2, 4096);
	for (i = 0; i < 4; i++)
		runs[i] = (struct drm_unpu_run){ programs[i], 1 };
	args.runs = (struct drm_unpu_array){ sizeof(runs[0]), 4, (uintptr_t)runs };
	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_SUBMIT, &args), 0);
	ASSERT_EQ(args.seqno, 5);
	ASSERT_EQ(args.error_index, UINT32_MAX);
	ASSERT_TRUE(ctx_wait(&c, ctx, 5, PATIENCE_MS));
	ASSERT_EQ(maps[4][4095], 2);
}

TEST(repeat_counts)
{
	static const uint32_t repeats[] = { 1, 2, 7, 60 };
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), i;

	for (i = 0; i < ARRAY_SIZE(repeats); i++) {
		struct counter counter = counter_create(&c, NULL, 0);

		run(&c, ctx, counter.program, repeats[i]);
		ASSERT_EQ(counter_read(counter.map), repeats[i]);
	}
}

/* The program sets its own stop word after 5 repeats; the job ends with success. */
TEST(stop_word)
{
	struct client c = user_open();
	struct counter counter = counter_create(&c, NULL, 5);
	struct counter behind = counter_create(&c, NULL, 0);
	struct drm_unpu_run runs[] = { { counter.program, 60 }, { behind.program, 3 } };
	struct drm_unpu_submit args = {
		.ctx_id = ctx_create(&c, NORMAL, 0),
		.runs = { sizeof(runs[0]), 2, (uintptr_t)runs },
	};

	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_SUBMIT, &args), 0);
	ASSERT_TRUE(ctx_wait(&c, args.ctx_id, 1, PATIENCE_MS));
	ASSERT_EQ(counter_read(counter.map), 5);
	ASSERT_EQ(counter_read(behind.map), 0);
	ASSERT_EQ(ctx_query(&c, args.ctx_id).failed_errno, 0);
	ASSERT_EQ(ctx_query(&c, args.ctx_id).state, DRM_UNPU_CTX_OK);
	/* The next job is another one: it reads its own stop word only. */
	run(&c, args.ctx_id, behind.program, 3);
	ASSERT_EQ(counter_read(behind.map), 3);
	run(&c, args.ctx_id, counter.program, 3);
	ASSERT_EQ(counter_read(counter.map), 5);
}

/* The CPU ends a long job: that is how a text is cancelled. */
TEST(stop_word_of_the_cpu)
{
	BEGIN_SLOW(c);
	struct counter counter = counter_create(&c, "SLOW", COUNTER_BLOCKS - 1);
	uint32_t ctx = ctx_create(&c, NORMAL, 0);

	submit(&c, ctx, counter.program, 2000, 0);
	sleep_ms(50);
	counter.map[(COUNTER_BLOCKS - 1) * COUNTER_BLOCK] = 1;
	ASSERT_TRUE(ctx_wait(&c, ctx, 1, PATIENCE_MS));
	ASSERT_EQ(ctx_query(&c, ctx).failed_errno, 0);
}

/* Each link moves the bytes on and waits for the one before, on the other context. */
static void chain(struct __test_metadata *_metadata, bool timeline)
{
	enum { LINKS = 12 };
	struct client c = user_open();
	uint32_t ctxs[2] = { ctx_create(&c, NORMAL, 0), ctx_create(&c, NORMAL, 0) };
	uint32_t handles[LINKS + 1], syncobjs[LINKS], i, slow = word_program(&c, "SLOW");
	uint8_t *maps[LINKS + 1];

	for (i = 0; i <= LINKS; i++)
		maps[i] = bo_mapped(&c, 4096, &handles[i]);
	for (i = 0; i < LINKS; i++)
		syncobjs[i] = i && timeline ? syncobjs[0] : syncobj_create(&c);
	memset(maps[0], 7, 4096);
	/* What runs first takes a while, so that the rest has to wait. */
	submit(&c, ctxs[0], slow, 2, 0);
	for (i = 0; i < LINKS; i++) {
		struct drm_unpu_sync syncs[] = {
			sync_signal(syncobjs[i], timeline ? 10 * (i + 1) : 0),
			i ? sync_wait(syncobjs[i - 1], timeline ? 10 * i : 0) : syncs[0],
		};

		submit_syncs(&c, ctxs[i % 2], copy_create(&c, handles[i], handles[i + 1], 4096), 1,
			     syncs, i ? 2 : 1);
	}
	ASSERT_EQ(syncobj_wait(&c, syncobjs[LINKS - 1], timeline ? 10 * LINKS : 0, PATIENCE_MS), 0);
	ASSERT_EQ(maps[LINKS][4095], 7);
	if (timeline)
		ASSERT_EQ(syncobj_point(&c, syncobjs[0]), 10 * LINKS);
}

TEST(chain_of_binary_syncobjs) { chain(_metadata, false); }
TEST(chain_on_a_timeline) { chain(_metadata, true); }

TEST(wait_for_what_nobody_signals)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), bo = bo_create(&c, 8192, WINDOW);
	uint32_t program = copy_create(&c, bo, bo, 4), timeline = syncobj_create(&c);
	struct drm_unpu_sync sync = sync_wait(timeline, 0);
	uint64_t seqno;

	ASSERT_EQ(submit_try(&c, ctx, program, 1, &sync, 1, &seqno), -EINVAL);
	sync = sync_signal(timeline, 5);
	submit_syncs(&c, ctx, program, 1, &sync, 1);
	sync = sync_wait(timeline, 6);
	ASSERT_EQ(submit_try(&c, ctx, program, 1, &sync, 1, &seqno), -EINVAL);
	/* Any point up to the last will be signalled. */
	sync = sync_wait(timeline, 3);
	ASSERT_EQ(submit_try(&c, ctx, program, 1, &sync, 1, &seqno), 0);
	/* What failed took no number. */
	ASSERT_EQ(seqno, 2);
}

TEST(points_of_64_bits)
{
	static const uint64_t points[] = {
		1, 2, UINT32_MAX, 1ull << 32, (1ull << 32) + 1, 1ull << 63, UINT64_MAX - 1,
	};
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), bo = bo_create(&c, 8192, WINDOW), i;
	uint32_t program = copy_create(&c, bo, bo, 4), timeline = syncobj_create(&c);

	for (i = 0; i < ARRAY_SIZE(points); i++) {
		struct drm_unpu_sync syncs[] = {
			sync_signal(timeline, points[i]),
			sync_wait(timeline, i ? points[i - 1] : 0),
		};

		submit_syncs(&c, ctx, program, 1, syncs, i ? 2 : 1);
		ASSERT_EQ(syncobj_wait(&c, timeline, points[i], PATIENCE_MS), 0);
		ASSERT_EQ(syncobj_point(&c, timeline), points[i]);
	}
}

/* Points are signalled as their jobs end, not all at once. */
TEST(points_one_by_one)
{
	BEGIN_SLOW(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), timeline = syncobj_create(&c), i;
	struct counter counter = counter_create(&c, "SLOW", 0);

	for (i = 1; i <= 8; i++) {
		struct drm_unpu_sync sync = sync_signal(timeline, i);

		submit_syncs(&c, ctx, counter.program, 1, &sync, 1);
	}
	for (i = 1; i <= 8; i++) {
		ASSERT_EQ(syncobj_wait(&c, timeline, i, PATIENCE_MS), 0);
		ASSERT_GE(counter_read(counter.map), i);
		ASSERT_GE(ctx_query(&c, ctx).completed_seqno, i);
	}
	ASSERT_EQ(counter_read(counter.map), 8);
}

TEST(sync_file_of_success)
{
	BEGIN_SLOW(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c);
	int fd;

	submit(&c, ctx, word_program(&c, "SLOW"), 10, syncobj);
	fd = sync_file_export(&c, syncobj);
	ASSERT_EQ(sync_file_status(fd, 0), 0);
	ASSERT_EQ(sync_file_status(fd, PATIENCE_MS), 1);
	/* It is a thing of its own. */
	client_close(&c);
	ASSERT_EQ(sync_file_status(fd, 0), 1);
	close(fd);
}

TEST(sync_file_of_cancelled)
{
	BEGIN_SLOW(c);
	uint32_t slow = word_program(&c, "SLOW"), ctx = ctx_create(&c, NORMAL, 0), i;
	uint32_t syncobjs[4];
	int fds[4];

	for (i = 0; i < 4; i++) {
		syncobjs[i] = syncobj_create(&c);
		submit(&c, ctx, slow, 1000, syncobjs[i]);
		fds[i] = sync_file_export(&c, syncobjs[i]);
	}
	ASSERT_EQ(ctx_destroy(&c, ctx), 0);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(sync_file_status(fds[i], PATIENCE_MS), -ECANCELED);
}

/* The same when the file goes: who has the fence hears of it. */
TEST(sync_file_of_closed_file)
{
	BEGIN_SLOW(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c);
	int fd;

	submit(&c, ctx, word_program(&c, "SLOW"), 1000, 0);
	submit(&c, ctx, word_program(&c, "SLOW"), 1000, syncobj);
	fd = sync_file_export(&c, syncobj);
	client_close(&c);
	ASSERT_EQ(sync_file_status(fd, PATIENCE_MS), -ECANCELED);
}

/* A job waits for a job of another file, and starts although that failed. */
TEST(sync_file_between_files)
{
	BEGIN_SLOW(a);
	struct client b = client_open();
	uint32_t ctx_a = ctx_create(&a, NORMAL, 0), ctx_b = ctx_create(&b, NORMAL, 0);
	uint32_t sync_a = syncobj_create(&a), sync_b = syncobj_create(&b);
	struct drm_syncobj_handle args = {
		.handle = sync_b,
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
	};
	struct counter counter = counter_create(&b, NULL, 0);
	struct drm_unpu_sync sync = sync_wait(sync_b, 0);

	submit(&a, ctx_a, word_program(&a, "SLOW"), 1000, sync_a);
	args.fd = sync_file_export(&a, sync_a);
	ASSERT_EQ(call(b.fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args), 0);
	submit_syncs(&b, ctx_b, counter.program, 3, &sync, 1);
	sleep_ms(50);
	ASSERT_EQ(ctx_query(&b, ctx_b).completed_seqno, 0);
	client_close(&a);
	ASSERT_TRUE(ctx_wait(&b, ctx_b, 1, PATIENCE_MS));
	ASSERT_EQ(ctx_query(&b, ctx_b).failed_errno, 0);
	ASSERT_EQ(counter_read(counter.map), 3);
}

TEST(binary_syncobj_again_and_again)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c), i;
	struct counter counter = counter_create(&c, NULL, 0);
	struct drm_unpu_sync both[] = { sync_wait(syncobj, 0), sync_signal(syncobj, 0) };

	submit(&c, ctx, counter.program, 1, syncobj);
	for (i = 0; i < 20; i++)
		submit_syncs(&c, ctx, counter.program, 1, both, 2);
	ASSERT_EQ(syncobj_wait(&c, syncobj, 0, PATIENCE_MS), 0);
	ASSERT_EQ(counter_read(counter.map), 21);
	ASSERT_EQ(ctx_query(&c, ctx).completed_seqno, 21);
}

/* As many of everything as DEV_INFO says, and no more. */
TEST(full_queue)
{
	BEGIN_SLOW(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), i, most = c.info.max_queued_jobs;
	struct counter counter = counter_create(&c, NULL, 0);
	uint64_t seqno = 0;
	int err;

	submit(&c, ctx, word_program(&c, "SLOW"), 20, 0);
	for (i = 1; i < most; i++)
		submit(&c, ctx, counter.program, 1, 0);
	err = submit_try(&c, ctx, counter.program, 1, NULL, 0, &seqno);
	if (ctx_query(&c, ctx).completed_seqno == 0)
		ASSERT_EQ(err, -EBUSY);
	ASSERT_TRUE(ctx_wait(&c, ctx, most, PATIENCE_MS));
	ASSERT_EQ(counter_read(counter.map), most - 1 < COUNTER_BLOCKS - 1 ? most - 1 :
					     COUNTER_BLOCKS - 1);
	run(&c, ctx, counter.program, 1);
}

TEST(most_of_everything)
{
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, NORMAL, 0), i;
	struct counter counter = counter_create(&c, NULL, 0);
	struct drm_unpu_run runs[64];
	struct drm_unpu_sync syncs[64];
	struct drm_unpu_submit args = {
		.ctx_id = ctx,
		.runs = { sizeof(runs[0]), c.info.max_programs, (uintptr_t)runs },
		.syncs = { sizeof(syncs[0]), c.info.max_syncs, (uintptr_t)syncs },
	};

	ASSERT_LE(c.info.max_programs, 64);
	ASSERT_LE(c.info.max_syncs, 64);
	for (i = 0; i < c.info.max_programs; i++)
		runs[i] = (struct drm_unpu_run){ counter.program, 2 };
	for (i = 0; i < c.info.max_syncs; i++)
		syncs[i] = sync_signal(syncobj_create(&c), i % 2 ? 7 : 0);
	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_SUBMIT, &args), 0);
	for (i = 0; i < c.info.max_syncs; i++)
		ASSERT_EQ(syncobj_wait(&c, syncs[i].handle, syncs[i].point, PATIENCE_MS), 0);
	ASSERT_EQ(counter_read(counter.map), 2 * c.info.max_programs);
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
