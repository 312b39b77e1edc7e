// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens at once: a time-out and the end of its context, file, process or device; threads
 * that submit while it goes; objects that end under the jobs that use them; a caller whose memory
 * does not come; one hang after the other. For root.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "shaders/shaders.h"
#include "tests/kselftest/lib/host.h"
#include "tests/kselftest/lib/node.h"
#include "tests/kselftest/lib/slowfs.h"

#define NORMAL		DRM_UNPU_PRIORITY_NORMAL
#define TIMEOUT_MS	node_slowed(20)	/* the second SUBMIT comes before it */
/* What header and design promise after a job's deadline, and what a busy machine outside adds. */
#define PROMISE_MS	(1000 + 1000)
#define PAGE		4096u

static bool is_long(void)
{
	return getenv("UNPU_TEST_LONG");
}

static void sleep_us(uint64_t us)
{
	usleep(us);
}

/* Everything anew, on a file of its own, once the device is one again. */
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

static struct drm_unpu_dev_stats stats_now(void)
{
	struct client c = client_open();
	struct drm_unpu_dev_stats stats = dev_stats(&c);

	client_close(&c);
	return stats;
}

/* Nobody else has a file here: every job has ended, and what all of them had is back. */
static void nothing_is_left(struct __test_metadata *_metadata)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	struct drm_unpu_dev_stats now;

	do {
		now = stats_now();
		sleep_ms(1);
	} while ((now.jobs_submitted != now.jobs_completed || now.window_used_bytes ||
		  now.device_used_bytes) && now_ns() < deadline);
	ASSERT_EQ(now.jobs_submitted, now.jobs_completed);
	ASSERT_EQ(now.window_used_bytes, 0);
	ASSERT_EQ(now.device_used_bytes, 0);
}

/* ---- a time-out and something else --------------------------------------------------------- */

enum event { DESTROY, CLOSE, KILL, UNBIND, SUBMIT, NUM_EVENTS };

/* What the hung job may say when it meets that. */
static const int other_errno[NUM_EVENTS] = {
	[DESTROY] = -ECANCELED,
	[CLOSE] = -ECANCELED,
	[KILL] = -ECANCELED,
	[UNBIND] = -ENODEV,
	[SUBMIT] = -ETIME,
};

struct race {
	struct client c;
	uint32_t ctx, hang, program;
	uint64_t began;
	int fences[2];		/* of the job that hangs, and of one behind it */
	pid_t pid;
};

/* A child has the file, too, and soon alone. */
static void race_begin(struct race *r, enum event event)
{
	struct drm_unpu_sync sync;
	uint64_t seqno;
	uint32_t i;
	int err;

	r->c = client_open();
	r->ctx = ctx_create(&r->c, NORMAL, TIMEOUT_MS * MS);
	r->hang = word_program(&r->c, "HANG");
	r->program = copy_create(&r->c, bo_create(&r->c, PAGE, 0), bo_create(&r->c, PAGE, 0), PAGE);
	if (event == KILL) {
		r->pid = fork();
		if (!r->pid)
			for (;;)
				pause();
	}
	r->began = now_ns();
	for (i = 0; i < 2; i++) {
		sync = sync_signal(syncobj_create(&r->c), 0);
		err = submit_try(&r->c, r->ctx, i ? r->program : r->hang, 1, &sync, 1, &seqno);
		/* On a machine that had other things to do the first one has hung by now. */
		if (err && (!i || err != -EIO))
			die("SUBMIT: %s", strerror(-err));
		r->fences[i] = err ? -1 : sync_file_export(&r->c, sync.handle);
	}
	if (event == KILL)
		client_close(&r->c);
}

static void race_act(struct __test_metadata *_metadata, struct race *r, enum event event)
{
	uint64_t seqno;
	int err, i;

	switch (event) {
	case DESTROY:
		ASSERT_EQ(ctx_destroy(&r->c, r->ctx), 0);
		break;
	case CLOSE:
		client_close(&r->c);
		break;
	case KILL:
		ASSERT_EQ(kill(r->pid, SIGKILL), 0);
		ASSERT_EQ(waitpid(r->pid, NULL, 0), r->pid);
		break;
	case UNBIND:
		bus_unbind();
		break;
	default:
		for (i = 0; i < 20; i++) {
			err = submit_try(&r->c, r->ctx, r->program, 1, NULL, 0, &seqno);
			ASSERT_TRUE(!err || err == -EIO);
			sleep_us(500);
		}
	}
}

static void race_end(struct __test_metadata *_metadata, struct race *r, enum event event)
{
	uint64_t deadline = r->began + node_slowed(TIMEOUT_MS + PROMISE_MS) * MS, now = now_ns();
	int status = sync_file_status(r->fences[0], now < deadline ? (deadline - now) / MS : 0);

	ASSERT_TRUE(status == -ETIME || status == other_errno[event]) {
		TH_LOG("the job that hangs: %d", status);
	}
	status = r->fences[1] < 0 ? -ECANCELED : sync_file_status(r->fences[1], PATIENCE_MS);
	ASSERT_TRUE(status == -ECANCELED || status == other_errno[event]) {
		TH_LOG("the job behind it: %d", status);
	}
	close(r->fences[0]);
	close(r->fences[1]);
	if (event == UNBIND)
		bus_bind();
	if (event != CLOSE && event != KILL)
		client_close(&r->c);
}

/* When the time-out comes, in us after SUBMIT: what the device and the driver add is theirs. */
static uint64_t fires_after(struct __test_metadata *_metadata)
{
	uint64_t took, least = UINT64_MAX;
	struct race r;
	int i;

	for (i = 0; i < 3; i++) {
		race_begin(&r, DESTROY);
		ASSERT_EQ(sync_file_status(r.fences[0], PATIENCE_MS), -ETIME);
		took = (now_ns() - r.began) / 1000;
		least = took < least ? took : least;
		race_end(_metadata, &r, DESTROY);
	}
	ASSERT_GE(least, TIMEOUT_MS * 1000);
	return least;
}

FIXTURE(timeout)
{
};

FIXTURE_VARIANT(timeout)
{
	enum event event;
};

FIXTURE_VARIANT_ADD(timeout, destroy) { DESTROY };
FIXTURE_VARIANT_ADD(timeout, close) { CLOSE };
FIXTURE_VARIANT_ADD(timeout, kill) { KILL };
FIXTURE_VARIANT_ADD(timeout, unbind) { UNBIND };
FIXTURE_VARIANT_ADD(timeout, submit) { SUBMIT };

#define NEEDS_ROOT() \
	if (geteuid()) \
		SKIP(return, "root alone unbinds the device"); \
	bus_ensure_bound()

FIXTURE_SETUP(timeout)
{
	NEEDS_ROOT();
}

FIXTURE_TEARDOWN(timeout)
{
}

static bool node_has_words(void)
{
	struct client c = client_open();
	bool has = has_words(&c);

	client_close(&c);
	return has;
}

TEST_F_TIMEOUT(timeout, meets, 36000)
{
	int64_t at, left, fires, step = is_long() ? 500 : node_is_mock() ? 8000 : 4000;
	struct race r;

	if (!node_has_words())
		SKIP(return, NO_WORDS);
	fires = fires_after(_metadata);
	for (at = -20000; at <= 20000; at += step) {
		race_begin(&r, variant->event);
		left = fires + at - (int64_t)(now_ns() - r.began) / 1000;
		if (left > 0)
			sleep_us(left);
		race_act(_metadata, &r, variant->event);
		race_end(_metadata, &r, variant->event);
		works_again();
	}
	nothing_is_left(_metadata);
}

/* ---- many hangs ---------------------------------------------------------------------------- */

#define MAX_SLABS	600

struct slabs {
	uint32_t num;
	struct { char name[40]; uint64_t used; } caches[MAX_SLABS];
};

static void slabs_read(struct slabs *slabs)
{
	char line[512];
	FILE *file = fopen("/proc/slabinfo", "r");

	slabs->num = 0;
	while (file && fgets(line, sizeof(line), file) && slabs->num < MAX_SLABS)
		if (sscanf(line, "%39s %lu", slabs->caches[slabs->num].name,
			   &slabs->caches[slabs->num].used) == 2)
			slabs->num++;
	if (file)
		fclose(file);
}

/* The cache that has grown most, of those that were there. */
static int64_t slabs_growth(const struct slabs *before, const struct slabs *now, const char **name)
{
	int64_t most = 0;
	uint32_t i, k;

	for (i = 0; i < before->num; i++) {
		for (k = 0; k < now->num; k++) {
			int64_t more = now->caches[k].used - before->caches[i].used;

			if (strcmp(before->caches[i].name, now->caches[k].name) || more <= most)
				continue;
			/* What vfree() leaves, as of dumps nobody reads, goes when it is much. */
			if (!strcmp(now->caches[k].name, "vmap_area"))
				continue;
			most = more;
			*name = now->caches[k].name;
		}
	}
	return most;
}

/*
 * No cache has an object more for every second hang. Freed memory takes its time, and some that
 * came at the beginning stays. A kernel that keeps what is freed to find its use has other means.
 */
static void slabs_check(struct __test_metadata *_metadata, const struct slabs *before,
			int64_t hangs)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;
	static struct slabs now;
	const char *name = "";
	int64_t most;

	if (node_slowed(1) > 1)
		return;
	ASSERT_GT(before->num, 50);
	do {
		sleep_ms(50);
		slabs_read(&now);
		most = slabs_growth(before, &now, &name);
	} while (most >= hangs / 2 && now_ns() < deadline);
	ASSERT_LT(most, hangs / 2) {
		TH_LOG("%s has %lld objects more", name, (long long)most);
	}
}

/* One context for each: that of a job that hung is GUILTY for good. */
static uint64_t hang_once(struct __test_metadata *_metadata, struct client *c, uint32_t hang)
{
	uint32_t ctx = ctx_create(c, NORMAL, TIMEOUT_MS * MS), syncobj = syncobj_create(c);
	struct drm_unpu_ctx_query query;
	uint64_t began = now_ns(), took;
	int fd;

	submit(c, ctx, hang, 1, syncobj);
	fd = sync_file_export(c, syncobj);
	ASSERT_EQ(sync_file_status(fd, PATIENCE_MS), -ETIME);
	took = (now_ns() - began) / MS;
	ASSERT_LE(took, node_slowed(TIMEOUT_MS + PROMISE_MS));
	query = ctx_query(c, ctx);
	ASSERT_EQ(query.state, DRM_UNPU_CTX_GUILTY);
	ASSERT_EQ(query.failed_errno, -ETIME);
	ASSERT_EQ(ctx_destroy(c, ctx), 0);
	close(fd);
	syncobj_destroy(c, syncobj);
	return took;
}

FIXTURE(hangs)
{
};

FIXTURE_SETUP(hangs)
{
	NEEDS_ROOT();
}

FIXTURE_TEARDOWN(hangs)
{
}

TEST_F_TIMEOUT(hangs, in_a_row, 36000)
{
	struct client c = client_open();
	/* There is no watchdog in the mock: the driver's takes its time. */
	uint32_t hang, ctx, hangs = (is_long() ? 10 : 1) * (node_is_mock() ? 60 : 300), i;
	uint64_t slowest = 0, took;
	struct drm_unpu_dev_stats before, after;
	static struct slabs slabs;
	struct counter counter;

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	hang = word_program(&c, "HANG");
	ctx = ctx_create(&c, NORMAL, 0);
	counter = counter_create(&c, NULL, 0);
	for (i = 0; i < 20; i++)
		hang_once(_metadata, &c, hang);
	before = dev_stats(&c);
	slabs_read(&slabs);
	for (i = 0; i < hangs; i++) {
		took = hang_once(_metadata, &c, hang);
		slowest = took > slowest ? took : slowest;
		if (i % 10 == 0)
			run(&c, ctx, counter.program, 1);
	}
	after = dev_stats(&c);
	ASSERT_EQ(after.jobs_timed_out, before.jobs_timed_out + hangs);
	ASSERT_EQ(after.jobs_cancelled, before.jobs_cancelled);
	ASSERT_EQ(after.jobs_failed, before.jobs_failed);
	ASSERT_EQ(after.jobs_completed, before.jobs_completed + hangs + hangs / 10);
	ASSERT_EQ(after.jobs_submitted, after.jobs_completed);
	ASSERT_EQ(after.epoch, before.epoch);
	ASSERT_EQ(counter_read(counter.map), hangs / 10 < 63 ? hangs / 10 : 63);
	ASSERT_EQ(ctx_query(&c, ctx).state, DRM_UNPU_CTX_OK);
	ASSERT_TRUE(memory_is(&c, &before));
	slabs_check(_metadata, &slabs, hangs);
	TH_LOG("the slowest of %u after %llu ms", hangs, (unsigned long long)slowest);
	device_works();
}

/* ---- the device goes from under many threads ----------------------------------------------- */

struct crowd {
	struct client c;
	uint32_t ctxs[4], syncobjs[2], slow, program;
	volatile uint32_t waiters;
	volatile bool unbound;	/* begins; a call is -ENODEV only then */
	volatile uint32_t submitted, destroyed, waited;
	char wrong[100];
};

static bool crowd_expects(struct crowd *crowd, int err, const char *call, int a, int b)
{
	if (err == -ENODEV && crowd->unbound)
		return false;
	if (err && err != a && err != b)
		snprintf(crowd->wrong, sizeof(crowd->wrong), "%s: %s", call, strerror(-err));
	return !crowd->wrong[0];
}

static void *crowd_submits(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t seqno;
	uint32_t i = 0;
	int err;

	do {
		err = submit_try(&crowd->c, crowd->ctxs[i % 2],
				 i % 3 ? crowd->slow : crowd->program, 1 + i % 3, NULL, 0, &seqno);
		crowd->submitted += !err;
		i++;
		/* LOST comes a moment before the calls end. */
	} while (crowd_expects(crowd, err, "SUBMIT", -EBUSY, crowd->unbound ? -EIO : 0));
	return NULL;
}

static void *crowd_destroys(void *arg)
{
	struct crowd *crowd = arg;
	struct drm_unpu_bo_create bo;
	uint32_t program, ctx;
	uint64_t seqno;
	int err;

	for (;;) {
		bo = (struct drm_unpu_bo_create){ .size = PAGE, .flags = WINDOW };
		err = call(crowd->c.fd, DRM_IOCTL_UNPU_BO_CREATE, &bo);
		if (!crowd_expects(crowd, err, "BO_CREATE", 0, 0))
			break;
		err = ctx_try(&crowd->c, NORMAL, 0, &ctx);
		if (!crowd_expects(crowd, err, "CTX_CREATE", 0, 0))
			break;
		err = copy_try(&crowd->c, bo.handle, bo.handle, 64, &program);
		/* In the middle of its making the device may be lost. */
		if (!crowd_expects(crowd, err, "PROGRAM_CREATE", crowd->unbound ? -ESTALE : 0, 0))
			break;
		err = submit_try(&crowd->c, ctx, program, 3, NULL, 0, &seqno);
		if (!crowd_expects(crowd, err, "SUBMIT", crowd->unbound ? -EIO : 0,
				   crowd->unbound ? -ESTALE : 0))
			break;
		err = bo_close(&crowd->c, bo.handle);
		if (!crowd_expects(crowd, err, "GEM_CLOSE", 0, 0))
			break;
		err = program_destroy(&crowd->c, program);
		if (!crowd_expects(crowd, err, "PROGRAM_DESTROY", 0, 0))
			break;
		err = ctx_destroy(&crowd->c, ctx);
		if (!crowd_expects(crowd, err, "CTX_DESTROY", 0, 0))
			break;
		crowd->destroyed++;
	}
	return NULL;
}

static void *crowd_waits(void *arg)
{
	struct crowd *crowd = arg;
	uint32_t nr = __atomic_fetch_add(&crowd->waiters, 1, __ATOMIC_RELAXED);
	uint32_t ctx = crowd->ctxs[2 + nr], syncobj = crowd->syncobjs[nr];
	uint64_t seqno, point = 0;
	int err;

	do {
		struct drm_unpu_sync sync = sync_signal(syncobj, ++point);

		err = submit_try(&crowd->c, ctx, crowd->slow, 1, &sync, 1, &seqno);
		if (!err)
			err = syncobj_wait(&crowd->c, syncobj, point, PATIENCE_MS);
		crowd->waited += !err;
	} while (crowd_expects(crowd, err, "SYNCOBJ_WAIT", crowd->unbound ? -EIO : 0, 0));
	return NULL;
}

FIXTURE(crowd)
{
};

FIXTURE_SETUP(crowd)
{
	NEEDS_ROOT();
}

FIXTURE_TEARDOWN(crowd)
{
}

TEST_F_TIMEOUT(crowd, is_unbound, 36000)
{
	static void *(*const roles[])(void *) = {
		crowd_submits, crowd_submits, crowd_destroys, crowd_waits, crowd_waits,
	};
	uint32_t i, k, rounds = is_long() ? 200 : 15, submitted = 0, destroyed = 0, waited = 0;

	for (i = 0; i < rounds; i++) {
		struct crowd crowd = { .c = client_open() };
		uint32_t bo = bo_create(&crowd.c, PAGE, 0);
		pthread_t threads[ARRAY_SIZE(roles)];

		crowd.slow = word_program(&crowd.c, "SLOW");
		crowd.program = copy_create(&crowd.c, bo, bo, PAGE);
		for (k = 0; k < 4; k++)
			crowd.ctxs[k] = ctx_create(&crowd.c, NORMAL, 0);
		for (k = 0; k < 2; k++)
			crowd.syncobjs[k] = syncobj_create(&crowd.c);
		for (k = 0; k < ARRAY_SIZE(roles); k++)
			ASSERT_EQ(pthread_create(&threads[k], NULL, roles[k], &crowd), 0);
		sleep_us(10000 + i * 7919 % 60000);
		crowd.unbound = true;
		bus_unbind();
		for (k = 0; k < ARRAY_SIZE(roles); k++)
			ASSERT_EQ(pthread_join(threads[k], NULL), 0);
		ASSERT_STREQ(crowd.wrong, "");
		client_close(&crowd.c);
		bus_bind();
		device_works();
		submitted += crowd.submitted;
		destroyed += crowd.destroyed;
		waited += crowd.waited;
	}
	TH_LOG("%u times: %u jobs, %u sets of objects, %u waits", rounds, submitted, destroyed,
	       waited);
	ASSERT_GT(submitted, 0);
	ASSERT_GT(waited, 0);
}

/* ---- objects end under the jobs that use them ---------------------------------------------- */

/* Queued jobs keep what they need, whatever goes, in whatever order. */
TEST_F_TIMEOUT(crowd, ends_what_jobs_use, 36000)
{
	uint32_t i, k, rounds = is_long() ? 200 : 12;

	for (i = 0; i < rounds; i++) {
		struct client c = client_open();
		uint32_t ctx = ctx_create(&c, NORMAL, 0), syncobj = syncobj_create(&c);
		struct counter counter = counter_create(&c, "SLOW", 0);
		struct drm_unpu_shader_destroy shader = { .shader_id = c.copy };
		int fd = -1;

		for (k = 1; k <= 4; k++) {
			struct drm_unpu_sync sync = sync_signal(syncobj, k);

			submit_syncs(&c, ctx, counter.program, 1, &sync, 1);
		}
		sleep_us(i * 5000 % 40000);
		for (k = 0; k < 4; k++) {
			switch ((k + i) % 4) {
			case 0:
				ASSERT_EQ(bo_close(&c, counter.bo), 0);
				break;
			case 1:
				ASSERT_EQ(bo_close(&c, counter.between), 0);
				break;
			case 2:
				ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_SHADER_DESTROY, &shader), 0);
				break;
			case 3:
				ASSERT_EQ(program_destroy(&c, counter.program), 0);
			}
		}
		if (i % 2) {
			/* With the context, too: they end, though not all of them well. */
			ASSERT_EQ(syncobj_to_fd(&c, syncobj, 0, &fd), 0);
			ASSERT_EQ(ctx_destroy(&c, ctx), 0);
			ASSERT_EQ(syncobj_wait(&c, syncobj, 4, PATIENCE_MS), 0);
			ASSERT_LE(counter_read(counter.map), 4);
			close(fd);
		} else {
			ASSERT_EQ(syncobj_wait(&c, syncobj, 4, PATIENCE_MS), 0);
			ASSERT_EQ(counter_read(counter.map), 4);
			ASSERT_EQ(ctx_query(&c, ctx).failed_errno, 0);
		}
		munmap((void *)counter.map, COUNTER_BLOCKS * COUNTER_BLOCK);
		client_close(&c);
	}
	nothing_is_left(_metadata);
	device_works();
}

/* ---- a caller whose memory does not come --------------------------------------------------- */

struct blocked {
	struct client c;
	uint32_t ctx, bo;
	void *memory;		/* takes as long as slowfs likes */
	int result;
};

static int call_query(struct blocked *b)
{
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_INFO, sizeof(b->c.info), (uintptr_t)b->memory,
	};

	return call(b->c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);
}

static int call_shader(struct blocked *b)
{
	/* The words of `embed`: the device need not see them. */
	struct drm_unpu_shader_create args = {
		.name = "embed.1", .spec = (uintptr_t)b->memory, .spec_words = 2,
	};

	return call(b->c.fd, DRM_IOCTL_UNPU_SHADER_CREATE, &args);
}

static int call_program(struct blocked *b)
{
	struct unpu_copy_const constants = { 64, 0 };
	struct drm_unpu_binding bindings[2] = { { 0 }, { 0 } };
	struct drm_unpu_dispatch dispatch = {
		.shader_id = b->c.copy, .num_bindings = 2, .const_bytes = sizeof(constants),
		.grid = { 1, 1, 1 },
	};
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(struct drm_unpu_buffer), 1, (uintptr_t)b->memory },
		.dispatches = { sizeof(dispatch), 1, (uintptr_t)&dispatch },
		.bindings = { sizeof(bindings[0]), 2, (uintptr_t)bindings },
		.constants = (uintptr_t)&constants, .const_bytes = sizeof(constants),
	};
	struct drm_unpu_buffer *row = slowfs_content();

	*row = (struct drm_unpu_buffer){
		b->bo, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, 0, 64,
	};
	return call(b->c.fd, DRM_IOCTL_UNPU_PROGRAM_CREATE, &args);
}

static int call_submit(struct blocked *b)
{
	struct drm_unpu_run *run = slowfs_content();
	struct drm_unpu_submit args = {
		.ctx_id = b->ctx, .runs = { sizeof(*run), 1, (uintptr_t)b->memory },
	};

	*run = (struct drm_unpu_run){ copy_create(&b->c, b->bo, b->bo, 64), 1 };
	return call(b->c.fd, DRM_IOCTL_UNPU_SUBMIT, &args);
}

static int call_submit_syncs(struct blocked *b)
{
	struct drm_unpu_sync *sync = slowfs_content();
	struct drm_unpu_run run = { copy_create(&b->c, b->bo, b->bo, 64), 1 };
	struct drm_unpu_submit args = {
		.ctx_id = b->ctx, .runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(*sync), 1, (uintptr_t)b->memory },
	};

	*sync = sync_signal(syncobj_create(&b->c), 0);
	return call(b->c.fd, DRM_IOCTL_UNPU_SUBMIT, &args);
}

FIXTURE(caller)
{
};

FIXTURE_VARIANT(caller)
{
	int (*call)(struct blocked *b);
	int result;	/* when the memory comes after the device has gone */
};

/* What it asks for is there without the device. */
FIXTURE_VARIANT_ADD(caller, query) { call_query, 0 };
FIXTURE_VARIANT_ADD(caller, shader) { call_shader, -ENODEV };
FIXTURE_VARIANT_ADD(caller, submit) { call_submit, -ENODEV };
FIXTURE_VARIANT_ADD(caller, submit_syncs) { call_submit_syncs, -ENODEV };
FIXTURE_VARIANT_ADD(caller, program) { call_program, -ENODEV };

FIXTURE_SETUP(caller)
{
	NEEDS_ROOT();
}

FIXTURE_TEARDOWN(caller)
{
}

struct in_thread {
	int (*call)(struct blocked *b);
	struct blocked *blocked;
	volatile bool done;
};

static void *thread_calls(void *arg)
{
	struct in_thread *in = arg;

	in->blocked->result = in->call(in->blocked);
	in->done = true;
	return NULL;
}

static int unbind_call(struct blocked *b)
{
	bus_unbind();
	return 0;
}

static bool done_within(const struct in_thread *in, uint32_t ms)
{
	uint64_t deadline = now_ns() + ms * MS;

	while (!in->done && now_ns() < deadline)
		sleep_ms(1);
	return in->done;
}

/* Its owner may keep it away as long as he likes: no unplug, of any device, waits for him. */
TEST_F(caller, keeps_no_unbind_waiting)
{
	struct blocked blocked = { .c = client_open() }, unbinds = { 0 };
	struct in_thread calls = { variant->call, &blocked }, goes = { unbind_call, &unbinds };
	pthread_t threads[2];
	bool gone;

	blocked.ctx = ctx_create(&blocked.c, NORMAL, 0);
	blocked.bo = bo_create(&blocked.c, PAGE, WINDOW);
	blocked.memory = slowfs_begin();
	if (!blocked.memory)
		SKIP(return, "no FUSE");
	ASSERT_EQ(pthread_create(&threads[0], NULL, thread_calls, &calls), 0);
	ASSERT_TRUE(slowfs_asked(PATIENCE_MS));
	ASSERT_EQ(pthread_create(&threads[1], NULL, thread_calls, &goes), 0);
	gone = done_within(&goes, node_slowed(5000));
	ASSERT_FALSE(calls.done);
	slowfs_give();
	ASSERT_EQ(pthread_join(threads[0], NULL), 0);
	ASSERT_EQ(pthread_join(threads[1], NULL), 0);
	slowfs_end();
	ASSERT_TRUE(gone);
	ASSERT_EQ(blocked.result, variant->result);
	client_close(&blocked.c);
	bus_bind();
	device_works();
}

/* ---- jobs that never reach the ring -------------------------------------------------------- */

FIXTURE(ring)
{
};

FIXTURE_SETUP(ring)
{
	NEEDS_ROOT();
}

FIXTURE_TEARDOWN(ring)
{
}

#define FILES		3u
#define CTXS		16u	/* of each; the device has 64 in all */
/* Their ends wait for nobody: with two jobs of each context they are more than the ring holds. */
#define SHADERS		100u
#define NUMBERS		127u	/* that contexts have on the device, one after the other */

struct full {
	struct client files[FILES];
	uint32_t ctxs[FILES][CTXS], programs[FILES], shaders[SHADERS];
	int fences[FILES][CTXS];	/* of the second job */
};

static void full_begin(struct full *f)
{
	uint32_t i, k, bo;

	for (i = 0; i < FILES; i++) {
		f->files[i] = client_open();
		bo = bo_create(&f->files[i], PAGE, 0);
		f->programs[i] = copy_create(&f->files[i], bo, bo, PAGE);
		for (k = 0; k < CTXS; k++)
			f->ctxs[i][k] = ctx_create(&f->files[i], NORMAL, 0);
	}
	for (k = 0; k < SHADERS; k++)
		f->shaders[k] = shader_create(&f->files[0], "copy.1", NULL, 0);
}

static void full_submit(struct full *f)
{
	struct drm_unpu_shader_destroy args = { 0 };
	uint32_t i, k, syncobj;

	for (k = 0; k < SHADERS; k++) {
		args.shader_id = f->shaders[k];
		if (call(f->files[0].fd, DRM_IOCTL_UNPU_SHADER_DESTROY, &args))
			die("SHADER_DESTROY");
	}
	for (i = 0; i < FILES; i++) {
		for (k = 0; k < CTXS; k++) {
			syncobj = syncobj_create(&f->files[i]);
			submit(&f->files[i], f->ctxs[i][k], f->programs[i], 1, 0);
			submit(&f->files[i], f->ctxs[i][k], f->programs[i], 1, syncobj);
			f->fences[i][k] = sync_file_export(&f->files[i], syncobj);
		}
	}
	/* To the ring they go by a worker. */
	sleep_ms(100);
}

/* The first file goes on, the jobs of the others are cancelled. */
static void full_end(struct __test_metadata *_metadata, struct full *f)
{
	uint32_t i, k;
	int status;

	for (i = 0; i < FILES; i++) {
		for (k = 0; k < CTXS; k++) {
			status = sync_file_status(f->fences[i][k], PATIENCE_MS);
			ASSERT_EQ(status, i ? -ECANCELED : 1);
			close(f->fences[i][k]);
		}
		client_close(&f->files[i]);
	}
}

/* Each number of the device's in its turn. */
static void all_numbers_work(struct __test_metadata *_metadata)
{
	struct client c = client_open();
	uint32_t bo = bo_create(&c, PAGE, 0), program = copy_create(&c, bo, bo, PAGE), i, k, ctx;

	for (i = 0; i < NUMBERS; i++) {
		ctx = ctx_create(&c, NORMAL, 0);
		for (k = 0; k < 3; k++)
			run(&c, ctx, program, 1);
		ASSERT_EQ(ctx_query(&c, ctx).state, DRM_UNPU_CTX_OK);
		ASSERT_EQ(ctx_destroy(&c, ctx), 0);
	}
	client_close(&c);
}

/*
 * Contexts that end while the device takes nothing: the ring is full, and jobs of theirs wait for
 * room in it. Who gets their numbers next has nothing to do with them.
 */
TEST_F_TIMEOUT(ring, full_of_cancelled_jobs, 600)
{
	struct drm_unpu_dev_stats before, after;
	static struct full f;
	uint32_t tries = 0, i, k;

	if (host("vdev said ."))
		SKIP(return, "nobody outside who stops the device process");
	do {
		before = stats_now();
		full_begin(&f);
		ASSERT_EQ(host("vdev pause"), 0);
		full_submit(&f);
		for (i = 1; i < FILES; i++)
			for (k = 0; k < CTXS; k++)
				ASSERT_EQ(ctx_destroy(&f.files[i], f.ctxs[i][k]), 0);
		ASSERT_EQ(host("vdev continue"), 0);
		after = stats_now();
		/* Who does not answer for two seconds is lost: a slow machine outside. */
		if (after.epoch == before.epoch)
			break;
		for (i = 0; i < FILES; i++)
			client_close(&f.files[i]);
		works_again();
	} while (++tries < 5);
	ASSERT_LT(tries, 5);
	full_end(_metadata, &f);
	all_numbers_work(_metadata);
	nothing_is_left(_metadata);
	ASSERT_EQ(stats_now().epoch, before.epoch);
}

int main(int argc, char **argv)
{
	/* What the mock has not. */
	static char without[] = "-F", ring[] = "ring";
	char *args[20];
	int i;

	node_argument(&argc, argv);
	if (!geteuid())
		bus_remember();
	for (i = 0; i < argc && i < 16; i++)
		args[i] = argv[i];
	if (node_is_mock()) {
		args[i++] = without;
		args[i++] = ring;
	}
	args[i] = NULL;
	return test_harness_run(i, args);
}
