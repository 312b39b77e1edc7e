// SPDX-License-Identifier: GPL-2.0-only
/* Who runs first. Nothing here is judged by the clock: repeats that were done are counted. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define LOW	DRM_UNPU_PRIORITY_LOW
#define NORMAL	DRM_UNPU_PRIORITY_NORMAL
#define HIGH	DRM_UNPU_PRIORITY_HIGH

/* Opens before it drops what it may not need. */
#define BEGIN(__c) \
	struct client __c = client_open(); \
	if (!has_words(&(__c))) \
		SKIP(return, NO_WORDS)
#define NEEDS_ROOT() \
	do { \
		if (geteuid()) \
			SKIP(return, "HIGH takes CAP_SYS_NICE: run by root"); \
	} while (0)

static void drop_nice(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		die("capget: %s", strerror(errno));
	data[0].effective &= ~(1u << CAP_SYS_NICE);
	if (syscall(SYS_capset, &header, data))
		die("capset: %s", strerror(errno));
}

TEST(high_takes_cap_sys_nice)
{
	struct client c = client_open();
	uint32_t ctx;

	if (!geteuid()) {
		ASSERT_EQ(ctx_try(&c, HIGH, 0, &ctx), 0);
		drop_nice();
		ASSERT_EQ(ctx_try(&c, HIGH, 0, &ctx), -EACCES);
		become_nobody();
	}
	ASSERT_EQ(ctx_try(&c, HIGH, 0, &ctx), -EACCES);
	ASSERT_EQ(ctx_try(&c, NORMAL, 0, &ctx), 0);
	ASSERT_EQ(ctx_try(&c, LOW, 0, &ctx), 0);
}

/*
 * A long job counts its repeats, and a HIGH job copies that count at its start. From just before
 * its SUBMIT until then the long job has done no more than the repeat it was in, and what the way
 * to the device took: the best of a few tries is the way that took nothing.
 */
static void overtakes(struct __test_metadata *_metadata, struct client *c, uint32_t priority)
{
	const uint32_t bytes = COUNTER_BLOCKS * COUNTER_BLOCK;
	uint32_t ctx = ctx_create(c, priority, 0), high = ctx_create(c, HIGH, 0), seen;
	struct counter counter = counter_create(c, "SLOW", 0);
	uint32_t program, best = UINT32_MAX, i;
	uint8_t *map = bo_mapped(c, bytes, &seen);
	uint64_t seqno;

	program = copy_create(c, counter.bo, seen, bytes);
	seqno = submit(c, ctx, counter.program, COUNTER_BLOCKS - 1, 0);
	for (i = 0; i < 10; i++) {
		uint32_t before = counter_read(counter.map), after;

		run(c, high, program, 1);
		after = counter_read(map);
		if (after < COUNTER_BLOCKS - 2 && after - before < best)
			best = after - before;
		sleep_ms(35);
	}
	ASSERT_LE(best, 1);
	/* Overtaken is not cancelled. */
	ASSERT_TRUE(ctx_wait(c, ctx, seqno, PATIENCE_MS));
	ASSERT_EQ(ctx_query(c, ctx).failed_errno, 0);
	ASSERT_EQ(counter_read(counter.map), COUNTER_BLOCKS - 1);
}

TEST(high_overtakes_low)
{
	NEEDS_ROOT();
	BEGIN(c);

	overtakes(_metadata, &c, LOW);
}

TEST(high_overtakes_normal)
{
	NEEDS_ROOT();
	BEGIN(c);

	overtakes(_metadata, &c, NORMAL);
}

/* While a flood of the priority runs, LOW gets its 1/16 of what both have. */
static void low_gets_its_share(struct __test_metadata *_metadata, struct client *c,
			       uint32_t priority)
{
	const uint32_t flood = 8, repeat = 16;
	uint32_t high = ctx_create(c, priority, 0), low = ctx_create(c, LOW, 0);
	uint32_t slow = word_program(c, "SLOW"), own = word_program(c, "SLOW"), i;
	uint64_t all, part;

	for (i = 0; i < flood; i++)
		submit(c, high, slow, repeat, 0);
	for (i = 0; i < 60; i++)
		submit(c, low, own, 1, 0);
	ASSERT_TRUE(ctx_wait(c, high, flood, PATIENCE_MS));
	part = ctx_query(c, low).busy_ns;
	all = ctx_query(c, high).busy_ns + part;
	TH_LOG("LOW had %llu of %llu ms", (unsigned long long)(part / MS),
	       (unsigned long long)(all / MS));
	/* One repeat less: it may be in it. */
	ASSERT_GE(part + 40 * MS, all / 16);
	ASSERT_GE(part, 40 * MS);
	ASSERT_TRUE(ctx_wait(c, low, 60, PATIENCE_MS));
}

TEST(low_beside_high)
{
	NEEDS_ROOT();
	BEGIN(c);

	low_gets_its_share(_metadata, &c, HIGH);
}

TEST(low_beside_normal)
{
	BEGIN(c);

	low_gets_its_share(_metadata, &c, NORMAL);
}

/* Equals take turns: none of three waits until the others are done. */
TEST(equals_take_turns)
{
	BEGIN(c);
	uint32_t ctxs[3], i, slow = word_program(&c, "SLOW");
	uint64_t first;

	for (i = 0; i < 3; i++)
		ctxs[i] = ctx_create(&c, NORMAL, 0);
	for (i = 0; i < 45; i++)
		submit(&c, ctxs[i / 15], slow, 1, 0);
	ASSERT_TRUE(ctx_wait(&c, ctxs[0], 15, PATIENCE_MS));
	first = ctx_query(&c, ctxs[2]).completed_seqno;
	ASSERT_GE(first, 5);
	ASSERT_TRUE(ctx_wait(&c, ctxs[2], 15, PATIENCE_MS));
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
