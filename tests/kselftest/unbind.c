// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device goes while something of it is in use: by sysfs, from under whoever has it open.
 * Nothing hangs, nothing is read that was not the holder's, all of it can be closed, and the device
 * works when it is bound again. For root.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL	DRM_UNPU_PRIORITY_NORMAL
#define PAGE	4096u

#define BEGIN(__c) \
	struct client __c; \
	if (geteuid()) \
		SKIP(return, "root alone unbinds the device"); \
	bus_ensure_bound(); \
	__c = client_open()

static void again(void)
{
	bus_bind();
	device_works();
}

/* ---- files --------------------------------------------------------------------------------- */

TEST(calls_of_an_open_file)
{
	BEGIN(c);
	uint32_t ctx = ctx_create(&c, NORMAL, 0), bo = bo_create(&c, PAGE, WINDOW);
	uint32_t program = copy_create(&c, bo, bo_create(&c, PAGE, 0), PAGE);
	uint32_t syncobj = syncobj_create(&c), nr;
	uint8_t args[256];

	run(&c, ctx, program, 1);
	bus_unbind();
	for (nr = DRM_UNPU_DEV_QUERY; nr <= DRM_UNPU_SUBMIT; nr++) {
		memset(args, 0, sizeof(args));
		ASSERT_EQ(call(c.fd, DRM_IOWR(DRM_COMMAND_BASE + nr, struct drm_unpu_ctx_create),
			       args), -ENODEV);
	}
	ASSERT_EQ(bo_close(&c, bo), -ENODEV);
	ASSERT_EQ(syncobj_destroy(&c, syncobj), -ENODEV);
	ASSERT_EQ(syncobj_wait(&c, syncobj, 0, 0), -ENODEV);
	client_close(&c);
	again();
}

/* The node goes with the device; who has kept a name of it opens nothing, nor its successor. */
TEST(open_of_a_dead_node)
{
	BEGIN(c);
	char name[] = "/tmp/unpu-dead-node";
	struct stat st;

	ASSERT_EQ(stat(node_path(), &st), 0);
	unlink(name);
	ASSERT_EQ(mknod(name, S_IFCHR | 0600, st.st_rdev), 0);
	bus_unbind();
	ASSERT_EQ(open(node_path(), O_RDWR), -1);
	ASSERT_EQ(errno, ENOENT);
	ASSERT_EQ(open(name, O_RDWR), -1);
	ASSERT_TRUE(errno == ENODEV || errno == ENXIO);
	unlink(name);
	client_close(&c);
	again();
}

TEST(new_file_beside_an_old_one)
{
	BEGIN(c);
	bus_unbind();
	again();
	ASSERT_EQ(bo_close(&c, 1), -ENODEV);
	client_close(&c);
	device_works();
}

/* ---- jobs ---------------------------------------------------------------------------------- */

/* Running, with the device, queued, and waiting for one of these: all end, and at once. */
TEST(jobs_end)
{
	BEGIN(c);
	uint32_t ctxs[2] = { ctx_create(&c, NORMAL, 0), ctx_create(&c, NORMAL, 0) };
	uint32_t slow = word_program(&c, "SLOW"), syncobjs[6], i;
	int fds[6];

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	for (i = 0; i < 6; i++) {
		struct drm_unpu_sync syncs[2] = {
			sync_signal(syncobjs[i] = syncobj_create(&c), 0),
			i == 5 ? sync_wait(syncobjs[0], 0) : syncs[0],
		};

		submit_syncs(&c, ctxs[i == 5], slow, 1000, syncs, i == 5 ? 2 : 1);
		fds[i] = sync_file_export(&c, syncobjs[i]);
	}
	sleep_ms(40);
	ASSERT_EQ(sync_file_status(fds[0], 0), 0);
	bus_unbind();
	for (i = 0; i < 6; i++)
		ASSERT_EQ(sync_file_status(fds[i], PATIENCE_MS), -ENODEV);
	client_close(&c);
	for (i = 0; i < 6; i++)
		ASSERT_EQ(sync_file_status(fds[i], 0), -ENODEV);
	again();
}

TEST(hung_job_ends)
{
	static const char *const words[] = { "HANG", "STUK" };
	uint32_t i;

	for (i = 0; i < 2; i++) {
		BEGIN(c);
		uint32_t syncobj = syncobj_create(&c);
		int fd;

		if (!has_words(&c))
			SKIP(return, NO_WORDS);
		submit(&c, ctx_create(&c, NORMAL, 0), word_program(&c, words[i]), 1, syncobj);
		fd = sync_file_export(&c, syncobj);
		sleep_ms(40);
		bus_unbind();
		ASSERT_EQ(sync_file_status(fd, PATIENCE_MS), -ENODEV);
		client_close(&c);
		close(fd);
		again();
	}
}

struct waiter {
	struct client *c;
	uint32_t syncobj;
	int result;
};

static void *wait_for_ever(void *arg)
{
	struct waiter *w = arg;

	w->result = syncobj_wait(w->c, w->syncobj, 0, 20000);
	return NULL;
}

/* A thread sleeps in SYNCOBJ_WAIT, which is in the middle of the DRM core. */
TEST(waiter_wakes_up)
{
	BEGIN(c);
	struct waiter w = { &c, syncobj_create(&c), 1 };
	uint64_t began = now_ns();
	pthread_t thread;

	submit(&c, ctx_create(&c, NORMAL, 0), word_program(&c, "SLOW"), 2000, w.syncobj);
	ASSERT_EQ(pthread_create(&thread, NULL, wait_for_ever, &w), 0);
	sleep_ms(50);
	bus_unbind();
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_TRUE(w.result == 0 || w.result == -ENODEV);
	ASSERT_LT(now_ns() - began, PATIENCE_MS * MS);
	client_close(&c);
	again();
}

/* ---- memory -------------------------------------------------------------------------------- */

static void check_zeroes(struct __test_metadata *_metadata, volatile uint8_t *map, uint32_t pages)
{
	uint32_t i;

	for (i = 0; i < pages * PAGE; i += 61)
		ASSERT_EQ(map[i], 0);
	/* Written to, it is still memory of nobody else's. */
	for (i = 0; i < pages; i++)
		map[i * PAGE] = 0x33;
}

/* Pages that were touched before and pages that were not: nothing of the device is in them. */
TEST(mappings_read_zeroes)
{
	BEGIN(c);
	uint32_t one, two;
	uint8_t *touched = bo_mapped(&c, 8 * PAGE, &one), *fresh = bo_mapped(&c, 8 * PAGE, &two);

	memset(touched, 0xa5, 8 * PAGE);
	bus_unbind();
	check_zeroes(_metadata, fresh, 8);
	check_zeroes(_metadata, touched, 8);
	client_close(&c);
	ASSERT_EQ(touched[0], 0x33);
	again();
	/* Not the new device's memory either. */
	ASSERT_EQ(touched[0], 0x33);
	ASSERT_EQ(munmap(touched, 8 * PAGE), 0);
	ASSERT_EQ(munmap(fresh, 8 * PAGE), 0);
}

/* Somebody reads and writes all the time, and is never killed for it. */
TEST(mapping_in_use)
{
	BEGIN(c);
	uint32_t bo, i;
	volatile uint8_t *map = bo_mapped(&c, 16 * PAGE, &bo);
	volatile uint32_t *stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid = fork();

	if (!pid) {
		for (i = 0; !*stop; i++)
			map[i % 16 * PAGE + i % 251] += i;
		_exit(KSFT_PASS);
	}
	sleep_ms(50);
	bus_unbind();
	sleep_ms(50);
	*stop = 1;
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	client_close(&c);
	again();
}

TEST(dma_buf_outlives_the_device)
{
	BEGIN(c);
	uint32_t bo = bo_create(&c, PAGE, WINDOW), handle;
	struct client later;
	int fd;

	ASSERT_EQ(bo_export(&c, bo, &fd), 0);
	bus_unbind();
	ASSERT_EQ(bo_import(&c, fd, &handle), -ENODEV);
	client_close(&c);
	bus_bind();
	/* What is bound again is another device. */
	later = client_open();
	ASSERT_EQ(bo_import(&later, fd, &handle), -EOPNOTSUPP);
	client_close(&later);
	ASSERT_EQ(close(fd), 0);
	device_works();
}

/* ---- everything at once, again and again ---------------------------------------------------- */

static void churn(void)
{
	for (;;) {
		int fd = open(node_path(), O_RDWR | O_CLOEXEC);
		struct client c;

		/* Not there, or just going. */
		if (fd < 0) {
			sleep_ms(1);
			continue;
		}
		close(fd);
		c = client_open();
		submit(&c, ctx_create(&c, NORMAL, 0), word_program(&c, "SLOW"), 100,
		       syncobj_create(&c));
		client_close(&c);
	}
}

TEST(unbind_in_the_middle)
{
	BEGIN(c);
	int i, k;

	client_close(&c);
	for (i = 0; i < 6; i++) {
		pid_t pids[2];

		for (k = 0; k < 2; k++) {
			pids[k] = fork();
			if (!pids[k]) {
				/* It ends, with a line of its own, when a call is -ENODEV. */
				ASSERT_NE(freopen("/dev/null", "w", stdout), NULL);
				churn();
			}
		}
		sleep_ms(20 + 13 * i);
		bus_unbind();
		for (k = 0; k < 2; k++) {
			kill(pids[k], SIGKILL);
			ASSERT_EQ(waitpid(pids[k], NULL, 0), pids[k]);
		}
		again();
	}
}

/* ---- the module ---------------------------------------------------------------------------- */

static bool can_insert(void)
{
	const char *path = getenv("UNPU_MODULE");

	return !access(path ? path : "/lib/modules/unpu.ko", R_OK);
}

/* What was closed last is let go by a worker of the kernel. */
static int remove_soon(void)
{
	uint64_t deadline = now_ns() + node_slowed(5000) * MS;
	int err;

	while ((err = module_remove()) == -EAGAIN && now_ns() < deadline)
		sleep_ms(20);
	return err;
}

enum held { HELD_FILE, HELD_MAPPING, HELD_FENCE, HELD_SYNCOBJ, HELD_DMA_BUF, NUM_HELD };

/* One thing alone is held, with the device bound or not. */
static void module_held_by(struct __test_metadata *_metadata, enum held held, bool bound)
{
	BEGIN(c);
	uint32_t bo, syncobj = syncobj_create(&c), ctx = ctx_create(&c, NORMAL, 0);
	uint8_t *map = bo_mapped(&c, PAGE, &bo);
	int fence, dma_buf, syncobj_fd;

	submit(&c, ctx, copy_create(&c, bo, bo_create(&c, PAGE, 0), PAGE), 1, syncobj);
	ASSERT_EQ(syncobj_wait(&c, syncobj, 0, PATIENCE_MS), 0);
	fence = sync_file_export(&c, syncobj);
	ASSERT_EQ(syncobj_to_fd(&c, syncobj, 0, &syncobj_fd), 0);
	ASSERT_EQ(bo_export(&c, bo, &dma_buf), 0);
	if (held != HELD_MAPPING)
		munmap(map, PAGE);
	if (held != HELD_FENCE)
		close(fence);
	if (held != HELD_SYNCOBJ)
		close(syncobj_fd);
	if (held != HELD_DMA_BUF)
		close(dma_buf);
	if (held != HELD_FILE)
		client_close(&c);
	if (!bound)
		bus_unbind();
	/* Long enough for all that was let go to be gone: what is left is what holds. */
	sleep_ms(200);
	ASSERT_EQ(module_remove(), -EAGAIN);
	if (held == HELD_FENCE)
		ASSERT_EQ(sync_file_status(fence, 0), 1);
	if (held == HELD_MAPPING)
		munmap(map, PAGE);
	close(fence);
	close(syncobj_fd);
	close(dma_buf);
	if (held == HELD_FILE)
		client_close(&c);
	ASSERT_EQ(remove_soon(), 0);
	ASSERT_EQ(module_insert(), 0);
	device_works();
}

#define MODULE_TEST(__name, __held, __bound) \
TEST(__name) \
{ \
	if (!can_insert()) \
		SKIP(return, "no module file to load again (UNPU_MODULE)"); \
	module_held_by(_metadata, __held, __bound); \
}

MODULE_TEST(module_held_by_file, HELD_FILE, true)
MODULE_TEST(module_held_by_mapping, HELD_MAPPING, true)
MODULE_TEST(module_held_by_fence, HELD_FENCE, true)
MODULE_TEST(module_held_by_syncobj, HELD_SYNCOBJ, true)
MODULE_TEST(module_held_by_dma_buf, HELD_DMA_BUF, true)
MODULE_TEST(unbound_module_held_by_file, HELD_FILE, false)
MODULE_TEST(unbound_module_held_by_mapping, HELD_MAPPING, false)
MODULE_TEST(unbound_module_held_by_fence, HELD_FENCE, false)
MODULE_TEST(unbound_module_held_by_dma_buf, HELD_DMA_BUF, false)

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	if (!geteuid())
		bus_remember();
	return test_harness_run(argc, argv);
}
