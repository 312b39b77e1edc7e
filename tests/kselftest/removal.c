// SPDX-License-Identifier: GPL-2.0-only
/*
 * The matrix of removal: each way in which a device goes, with each thing that a client may hold
 * then, again and again. What is expected stands in the tables `ways` and `things`. For root.
 *
 * The ways by which a machine takes a device out need one in a slot of its own, which is for
 * tests/vm/guest/55_device_del.sh to bring; without it (UNPU_SLOT) they are no part of the matrix.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/host.h"
#include "tests/kselftest/lib/node.h"

#define NORMAL		DRM_UNPU_PRIORITY_NORMAL
#define PAGE		4096u
#define PAGES		4u
#define NUM_JOBS	6u
/* Header and design: every fence signals so much later than its context was lost, at most. */
#define PROMISE_MS	node_slowed(1000)

/* ---- what is expected ---------------------------------------------------------------------- */

enum jobs { NO_JOB, RUNNING, HUNG };
enum kept { NOTHING, MAPPING, DMA_BUF, SYNC_FILE, SYNCOBJ };

struct thing {
	enum jobs jobs;
	enum kept kept;		/* beyond the file */
	int removed;		/* what the fences say when the device has gone; 0: none is there */
	int closed;		/* the same when not the device, but the file was closed */
	int alone;		/* rmmod when this is all that is left */
};

/* A file that is open keeps the module, whatever else there is: rmmod is -EAGAIN. */
static const struct thing idle = { NO_JOB, NOTHING, 0, 0, 0 };
static const struct thing busy = { RUNNING, NOTHING, -ENODEV, -ECANCELED, 0 };
static const struct thing hung = { HUNG, NOTHING, -ENODEV, -ECANCELED, 0 };
/* It is a user of the file, too, whose jobs would go on. */
static const struct thing mapping = { NO_JOB, MAPPING, 0, 0, -EAGAIN };
static const struct thing dma_buf = { NO_JOB, DMA_BUF, 0, 0, -EAGAIN };
static const struct thing sync_file = { RUNNING, SYNC_FILE, -ENODEV, -ECANCELED, -EAGAIN };
static const struct thing syncobj = { RUNNING, SYNCOBJ, -ENODEV, -ECANCELED, -EAGAIN };

struct held;
struct way {
	unsigned int loops, loops_long;
	/* NULL: rmmod, which needs more */
	void (*remove)(struct __test_metadata *_metadata, struct held *h);
	void (*bring)(struct __test_metadata *_metadata);
};

static unsigned int num_loops(const struct way *way)
{
	if (getenv("UNPU_TEST_LONG"))
		return way->loops_long;
	/* The mock has the same way out of the kernel, and less behind it. */
	return node_is_mock() ? way->loops / 4 : way->loops;
}

/* ---- what a client holds ------------------------------------------------------------------- */

struct held {
	const struct thing *thing;
	struct client c;
	uint32_t ctx, bo, program, syncobj;
	uint8_t *map;			/* half of its pages were touched */
	int ended, fences[NUM_JOBS];	/* sync_files: of one that has ended, of those not */
	int dma_buf, syncobj_fd;
	pthread_t waiter;
	volatile int waited;
};

#define WAITS	1000	/* no errno */

static void *wait_for_job(void *arg)
{
	struct held *h = arg;

	h->waited = syncobj_wait(&h->c, h->syncobj, 0, 60000);
	return NULL;
}

/* With the device, queued behind it, and waiting for one of these. */
static void begin_jobs(struct held *h)
{
	uint32_t other = ctx_create(&h->c, NORMAL, 0), i;
	uint32_t program = word_program(&h->c, h->thing->jobs == HUNG ? "HANG" : "SLOW");

	for (i = 0; i < NUM_JOBS; i++) {
		uint32_t handle = i ? syncobj_create(&h->c) : h->syncobj;
		struct drm_unpu_sync syncs[2] = {
			sync_signal(handle, 0), sync_wait(h->syncobj, 0),
		};
		bool last = i == NUM_JOBS - 1;

		submit_syncs(&h->c, last ? other : h->ctx, program, 1000, syncs, last ? 2 : 1);
		h->fences[i] = sync_file_export(&h->c, handle);
	}
}

static void hold(struct __test_metadata *_metadata, struct held *h, const struct thing *thing)
{
	uint32_t other;

	memset(h, 0, sizeof(*h));
	h->thing = thing;
	h->dma_buf = h->syncobj_fd = -1;
	h->c = client_open();
	h->ctx = ctx_create(&h->c, NORMAL, 0);
	h->map = bo_mapped(&h->c, PAGES * PAGE, &h->bo);
	memset(h->map, 0xa5, PAGES / 2 * PAGE);
	h->program = copy_create(&h->c, h->bo, bo_create(&h->c, PAGE, 0), PAGE);
	other = syncobj_create(&h->c);
	submit(&h->c, h->ctx, h->program, 1, other);
	h->ended = sync_file_export(&h->c, other);
	ASSERT_EQ(sync_file_status(h->ended, PATIENCE_MS), 1);
	h->syncobj = syncobj_create(&h->c);
	if (thing->jobs != NO_JOB)
		begin_jobs(h);
	if (thing->kept == DMA_BUF)
		ASSERT_EQ(bo_export(&h->c, h->bo, &h->dma_buf), 0);
	if (thing->kept == SYNCOBJ)
		ASSERT_EQ(syncobj_to_fd(&h->c, h->syncobj, 0, &h->syncobj_fd), 0);
	if (thing->kept != MAPPING) {
		munmap(h->map, PAGES * PAGE);
		h->map = NULL;
	}
}

static void close_fences(struct held *h)
{
	uint32_t i;

	close(h->ended);
	for (i = 0; i < NUM_JOBS && h->thing->jobs != NO_JOB; i++)
		if (i || h->thing->kept != SYNC_FILE)
			close(h->fences[i]);
}

static void check_fences(struct __test_metadata *_metadata, struct held *h, int status,
			 uint64_t deadline)
{
	uint64_t now;
	uint32_t i;

	ASSERT_EQ(sync_file_status(h->ended, 0), 1);
	for (i = 0; i < NUM_JOBS && h->thing->jobs != NO_JOB; i++) {
		now = now_ns();
		now = now < deadline ? deadline - now : 0;
		ASSERT_EQ(sync_file_status(h->fences[i], now / MS), status) {
			TH_LOG("fence %u of %u", i, NUM_JOBS);
		}
	}
}

/* Zeroes where there was something and where there was not; what is written there then stays. */
static void check_mapping(struct __test_metadata *_metadata, struct held *h)
{
	volatile uint8_t *map = h->map;
	uint32_t i;

	for (i = 0; i < PAGES * PAGE; i += 61)
		ASSERT_EQ(map[i], 0);
	for (i = 0; i < PAGES; i++)
		map[i * PAGE] = 0x33;
	ASSERT_EQ(map[(PAGES - 1) * PAGE], 0x33);
}

/* The last thing of a client that has nothing else any more. */
static void let_go(struct __test_metadata *_metadata, struct held *h)
{
	const struct thing *thing = h->thing;

	if (thing->kept == MAPPING)
		ASSERT_EQ(munmap(h->map, PAGES * PAGE), 0);
	if (thing->kept == DMA_BUF)
		ASSERT_EQ(close(h->dma_buf), 0);
	if (thing->kept == SYNC_FILE)
		ASSERT_EQ(close(h->fences[0]), 0);
	if (thing->kept == SYNCOBJ)
		ASSERT_EQ(close(h->syncobj_fd), 0);
}

/* ---- from under an open file --------------------------------------------------------------- */

static void check_calls(struct __test_metadata *_metadata, struct held *h)
{
	uint32_t nr, handle;
	uint8_t args[256];
	int fd;

	for (nr = DRM_UNPU_DEV_QUERY; nr <= DRM_UNPU_SUBMIT; nr++) {
		memset(args, 0, sizeof(args));
		ASSERT_EQ(call(h->c.fd, DRM_IOWR(DRM_COMMAND_BASE + nr, struct drm_unpu_ctx_create),
			       args), -ENODEV);
	}
	ASSERT_EQ(bo_close(&h->c, h->bo), -ENODEV);
	ASSERT_EQ(bo_export(&h->c, h->bo, &fd), -ENODEV);
	ASSERT_EQ(syncobj_wait(&h->c, h->syncobj, 0, 0), -ENODEV);
	ASSERT_EQ(syncobj_to_fd(&h->c, h->syncobj, 0, &fd), -ENODEV);
	ASSERT_EQ(syncobj_destroy(&h->c, h->syncobj), -ENODEV);
	if (h->dma_buf >= 0)
		ASSERT_EQ(bo_import(&h->c, h->dma_buf, &handle), -ENODEV);
	ASSERT_EQ(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, h->c.fd, 1ull << 32), MAP_FAILED);
	ASSERT_EQ(errno, ENODEV);
}

/* What came from the device before this one is nothing of it, but a syncobj is nobody's. */
static void check_beside_new(struct __test_metadata *_metadata, struct held *h)
{
	struct drm_syncobj_handle args = { .fd = h->syncobj_fd };
	struct client c = client_open();
	uint32_t handle;
	int fd;

	if (h->dma_buf >= 0)
		ASSERT_EQ(bo_import(&c, h->dma_buf, &handle), -EOPNOTSUPP);
	if (h->syncobj_fd >= 0) {
		ASSERT_EQ(call(c.fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args), 0);
		ASSERT_EQ(syncobj_wait(&c, args.handle, 0, 0), 0);
		fd = sync_file_export(&c, args.handle);
		ASSERT_EQ(sync_file_status(fd, 0), h->thing->removed);
		close(fd);
	}
	client_close(&c);
	device_works();
}

static void from_under(struct __test_metadata *_metadata, const struct way *way,
		       const struct thing *thing, unsigned int loop)
{
	uint64_t before;
	struct held h;

	hold(_metadata, &h, thing);
	h.waited = WAITS;
	if (thing->jobs != NO_JOB) {
		ASSERT_EQ(pthread_create(&h.waiter, NULL, wait_for_job, &h), 0);
		/* Some of the time it is not yet asleep, and then it may also come too late. */
		sleep_ms(loop % 4 * 10);
		ASSERT_EQ(h.waited, WAITS);
		ASSERT_EQ(sync_file_status(h.fences[0], 0), 0);
	}
	before = now_ns();
	way->remove(_metadata, &h);
	/* Nobody is waited for but a device that is told to stop. */
	ASSERT_LT(now_ns() - before, PATIENCE_MS * MS);
	check_fences(_metadata, &h, thing->removed, now_ns() + PROMISE_MS * MS);
	if (thing->jobs != NO_JOB) {
		ASSERT_EQ(pthread_join(h.waiter, NULL), 0);
		ASSERT_TRUE(h.waited == 0 || (loop % 4 == 0 && h.waited == -ENODEV));
	}
	check_calls(_metadata, &h);
	if (thing->kept == MAPPING)
		check_mapping(_metadata, &h);
	close_fences(&h);
	/* Closed while there is no device, and beside its successor. */
	if (loop % 2)
		client_close(&h.c);
	way->bring(_metadata);
	check_beside_new(_metadata, &h);
	if (thing->kept == MAPPING)
		ASSERT_EQ(h.map[PAGE], 0x33);
	if (h.c.fd >= 0) {
		ASSERT_EQ(syncobj_wait(&h.c, h.syncobj, 0, 0), -ENODEV);
		client_close(&h.c);
	}
	let_go(_metadata, &h);
	device_works();
}

/* ---- the module ---------------------------------------------------------------------------- */

/* What was closed last is let go by a worker of the kernel. */
static int remove_soon(void)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	int err;

	while ((err = module_remove()) == -EAGAIN && now_ns() < deadline)
		sleep_ms(5);
	return err;
}

static void module_refused(struct __test_metadata *_metadata, struct held *h)
{
	ASSERT_EQ(module_remove(), -EAGAIN);
	/* Nothing has happened. */
	if (h->thing->jobs == NO_JOB) {
		run(&h->c, h->ctx, h->program, 1);
	} else {
		ASSERT_EQ(sync_file_status(h->fences[0], 0), 0);
	}
	if (h->thing->kept == MAPPING)
		ASSERT_EQ(h->map[PAGE], 0xa5);
}

static void with_module(struct __test_metadata *_metadata, const struct thing *thing,
			unsigned int loop)
{
	struct held h;

	hold(_metadata, &h, thing);
	if (thing->jobs != NO_JOB)
		sleep_ms(loop % 4 * 10);
	module_refused(_metadata, &h);
	client_close(&h.c);
	check_fences(_metadata, &h, thing->closed, now_ns() + PATIENCE_MS * MS);
	close_fences(&h);
	if (thing->alone) {
		/* Long enough, now and then, for all else to be gone: this is what holds it. */
		sleep_ms(loop % 10 ? 20 : 300);
		ASSERT_EQ(module_remove(), thing->alone);
		let_go(_metadata, &h);
	}
	ASSERT_EQ(remove_soon(), 0);
	ASSERT_EQ(module_remove(), -ENOENT);
	ASSERT_EQ(module_insert(), 0);
	device_works();
}

/* ---- the ways ------------------------------------------------------------------------------ */

static void node_is_gone(struct __test_metadata *_metadata)
{
	ASSERT_FALSE(bus_is_bound());
	ASSERT_EQ(open(node_path(), O_RDWR), -1);
	ASSERT_EQ(errno, ENOENT);
}

static void by_sysfs(struct __test_metadata *_metadata, struct held *h)
{
	bus_unbind();
	node_is_gone(_metadata);
}

static void sysfs_again(struct __test_metadata *_metadata)
{
	bus_bind();
}

/* The kernel is told, lets go of it, and says so, before it goes. */
static void by_eject(struct __test_metadata *_metadata, struct held *h)
{
	ASSERT_EQ(host("slot unplug"), 0);
	node_is_gone(_metadata);
}

/* The file `name` of the device in sysfs, or of the port that it is behind. */
static int open_pci(const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", name);
	return open(path, flags | O_CLOEXEC);
}

#define PCI_CAPABILITIES	0x34
#define PCI_CAP_EXPRESS		0x10
#define EXPRESS_SLOT_CONTROL	0x18
/* Power controller and indicator: off. */
#define SLOT_OFF		0x0700

static char port_config[64];

/* The slot's power, by the registers of its port: no driver of the guest's looks after them. */
static void set_power(struct __test_metadata *_metadata, bool on)
{
	uint8_t config[256];
	uint16_t control;
	uint32_t at, i;
	int fd = open_pci(port_config, O_RDWR);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(pread(fd, config, sizeof(config), 0), sizeof(config));
	at = config[PCI_CAPABILITIES];
	for (i = 0; i < 48 && at && config[at] != PCI_CAP_EXPRESS; i++)
		at = config[at + 1];
	ASSERT_EQ(config[at], PCI_CAP_EXPRESS);
	at += EXPRESS_SLOT_CONTROL;
	control = (config[at] | config[at + 1] << 8) & ~SLOT_OFF;
	control |= on ? 0x100 : SLOT_OFF;
	ASSERT_EQ(pwrite(fd, &control, sizeof(control), at), sizeof(control));
	close(fd);
}

/* It is gone while the kernel thinks that it is there: reads are all ones, or zeroes. */
static void check_absent(struct __test_metadata *_metadata, struct held *h)
{
	uint64_t seqno, deadline = now_ns() + PATIENCE_MS * MS;
	struct drm_unpu_bo_create bo = { .size = PAGE };

	check_fences(_metadata, h, h->thing->removed, now_ns() + PROMISE_MS * MS);
	/* One that has nothing to do is looked at now and then. */
	while (ctx_query(&h->c, h->ctx).state == DRM_UNPU_CTX_OK && now_ns() < deadline)
		sleep_ms(1);
	ASSERT_EQ(ctx_query(&h->c, h->ctx).state, DRM_UNPU_CTX_LOST);
	ASSERT_EQ(submit_try(&h->c, h->ctx, h->program, 1, NULL, 0, &seqno), -EIO);
	ASSERT_EQ(call(h->c.fd, DRM_IOCTL_UNPU_BO_CREATE, &bo), -ENODEV);
	/* No signal, whatever is read. */
	if (h->map)
		h->map[1] = h->map[2 * PAGE];
}

static void forget_device(struct __test_metadata *_metadata)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/remove", bus_name());
	fd = open_pci(path, O_WRONLY);
	ASSERT_EQ(write(fd, "1", 1), 1);
	close(fd);
}

/* What an ejection does in the kernel, without what it does in the machine. */
static void by_remove(struct __test_metadata *_metadata, struct held *h)
{
	forget_device(_metadata);
	node_is_gone(_metadata);
}

static void by_surprise(struct __test_metadata *_metadata, struct held *h)
{
	set_power(_metadata, false);
	check_absent(_metadata, h);
	forget_device(_metadata);
	node_is_gone(_metadata);
}

/* Nobody waits for the probe, and the node is there before it can be opened. */
static void wait_for_probe(struct __test_metadata *_metadata)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	int fd = -1;

	while (fd < 0 && now_ns() < deadline) {
		if (bus_has_node())
			fd = open(node_path(), O_RDWR | O_CLOEXEC);
		if (fd < 0)
			sleep_ms(5);
	}
	ASSERT_GE(fd, 0);
	close(fd);
}

static void plug(struct __test_metadata *_metadata)
{
	ASSERT_EQ(host("slot plug"), 0);
	wait_for_probe(_metadata);
}

/* The same device, as its power has left it. */
static void power_up(struct __test_metadata *_metadata)
{
	int fd = open("/sys/bus/pci/rescan", O_WRONLY | O_CLOEXEC);

	set_power(_metadata, true);
	ASSERT_EQ(write(fd, "1", 1), 1);
	close(fd);
	wait_for_probe(_metadata);
}

static const struct way unbind = { 20, 200, by_sysfs, sysfs_again };
static const struct way rmmod = { 20, 200 };
static const struct way remove_ = { 5, 200, by_remove, power_up };
static const struct way surprise = { 5, 200, by_surprise, power_up };
static const struct way eject = { 5, 200, by_eject, plug };

FIXTURE(matrix)
{
};

FIXTURE_VARIANT(matrix)
{
	const struct way *way;
	const struct thing *thing;
};

FIXTURE_SETUP(matrix)
{
	if (geteuid())
		SKIP(return, "root alone takes a device away");
	/* What a test before this one has taken out. */
	if (!port_config[0]) {
		bus_ensure_bound();
	} else if (!bus_is_bound()) {
		variant->way->bring(_metadata);
	} else if (variant->way == &surprise) {
		forget_device(_metadata);
		power_up(_metadata);
	} else {
		/* Its number may be another. */
		wait_for_probe(_metadata);
	}
}

FIXTURE_TEARDOWN(matrix)
{
}

#define ROW(__way, __thing) \
FIXTURE_VARIANT_ADD(matrix, __way##_##__thing) { &(__way), &(__thing) };

#define ROWS(__way) \
	ROW(__way, idle) \
	ROW(__way, busy) \
	ROW(__way, hung) \
	ROW(__way, mapping) \
	ROW(__way, dma_buf) \
	ROW(__way, sync_file) \
	ROW(__way, syncobj)

ROWS(unbind)
ROWS(rmmod)
ROWS(remove_)
ROWS(surprise)
ROWS(eject)

/* The case it runs in has a limit. */
TEST_F_TIMEOUT(matrix, loops, 36000)
{
	const struct way *way = variant->way;
	const struct thing *thing = variant->thing;
	uint64_t began = now_ns();
	unsigned int i, loops = num_loops(way);
	struct client c = client_open();
	bool words = has_words(&c);

	client_close(&c);
	if (thing->jobs != NO_JOB && !words)
		SKIP(return, NO_WORDS);
	for (i = 0; i < loops; i++) {
		if (way->remove)
			from_under(_metadata, way, thing, i);
		else
			with_module(_metadata, thing, i);
	}
	TH_LOG("%u loops, %llu ms", loops, (unsigned long long)(now_ns() - began) / MS);
}

/* The port that the device is behind: the folder that its own is in. */
static void find_port(void)
{
	char path[64], to[512];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bus_name());
	n = readlink(path, to, sizeof(to) - 1);
	to[n < 0 ? 0 : n] = 0;
	if (strrchr(to, '/'))
		*strrchr(to, '/') = 0;
	if (!strrchr(to, '/'))
		die("%s: not behind a port", path);
	snprintf(port_config, sizeof(port_config), "%.40s/config", strrchr(to, '/') + 1);
}

/* The rows of some of the ways. */
static int run_ways(char *self, const char *const *ways)
{
	static const char *const things[] = {
		"idle", "busy", "hung", "mapping", "dma_buf", "sync_file", "syncobj",
	};
	char names[21][40], option[] = "-v", *args[2 * 21 + 1] = { self };
	uint32_t i, n = 0;

	for (; *ways; ways++) {
		for (i = 0; i < ARRAY_SIZE(things); i++) {
			snprintf(names[n], sizeof(names[n]), "%s_%s", *ways, things[i]);
			args[1 + 2 * n] = option;
			args[2 + 2 * n] = names[n];
			n++;
		}
	}
	return test_harness_run(1 + 2 * n, args);
}

int main(int argc, char **argv)
{
	static const char *const without_slot[] = { "unbind", "rmmod", NULL };
	static const char *const with_slot[] = { "remove_", "surprise", NULL };
	static const char *const with_eject[] = { "remove_", "surprise", "eject", NULL };
	const char *const *ways = without_slot;

	node_argument(&argc, argv);
	if (!geteuid())
		bus_remember();
	if (argc > 1)
		return test_harness_run(argc, argv);
	if (getenv("UNPU_SLOT")) {
		find_port();
		ways = getenv("UNPU_EJECT") ? with_eject : with_slot;
	}
	return run_ways(argv[0], ways);
}
