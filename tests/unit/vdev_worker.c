/* SPDX-License-Identifier: MIT */
/*
 * A worker of unpu-vdev and a driver as small as can be, over a window and event counters: what a
 * guest may ask, and what it may try. Programs hang, stick, dawdle and exit by what they copy.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/guest.h"
#include "tools/lib/sandbox.h"
#include "tools/unpu-vdev/vdev.h"

#define WINDOW	(4u << 20)
#define HEAP	UNPU_PROTO_HEAP
#define WAIT_MS	10000u

/* What rig_begin() has made: buffers, and programs that copy SRC. */
enum { SRC = 1, DST, OWN, STOP };
enum { AT_SRC = HEAP, AT_DST = HEAP + 4096, AT_STOP = HEAP + 2 * 4096, AT_FREE = HEAP + 8 * 4096 };
enum { TO_DST = 1, TO_OWN, FROM_OWN, STOPPED };

struct rig {
	struct vdev_config config;
	struct vdev_shared shared;
	struct guest g;
	pid_t pid;
	int report;
};

static void worker_start(struct rig *r)
{
	struct vdev_fds fds = {
		.window = r->shared.window, .doorbell = r->shared.doorbell,
		.interrupt = r->shared.interrupts[0],
	};
	int pipes[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	fds.report = pipes[1];
	fflush(NULL);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (!r->pid) {
		close(pipes[0]);
		exit(vdev_worker_run(&r->config, &fds));
	}
	close(pipes[1]);
	r->report = pipes[0];
}

/* Its exit status; waits as long as a test may last. */
static int worker_wait(struct rig *r)
{
	const struct timespec time = { 0, 2000000 };
	int status, turns;

	for (turns = 0; turns < 10000; turns++) {
		if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
			close(r->report);
			r->pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		}
		nanosleep(&time, NULL);
	}
	fail_msg("the worker does not end");
	return -1;
}

static int hang_up(struct rig *r)
{
	close(r->report);
	r->report = -1;
	return worker_wait(r);
}

static void ok(struct rig *r, struct unpu_proto_command command)
{
	assert_int_equal(guest_ask_for(&r->g, &command, NULL), 0);
}

static void refused(struct rig *r, struct unpu_proto_command command, int err)
{
	assert_int_equal(guest_ask_for(&r->g, &command, NULL), err);
}

static void make_all(struct rig *r)
{
	ok(r, guest_bo(SRC, AT_SRC, 4096));
	ok(r, guest_bo(DST, AT_DST, 4096));
	ok(r, guest_bo(STOP, AT_STOP, 4096));
	ok(r, guest_bo(OWN, 0, 4096));
	ok(r, guest_shader(1, "copy.1"));
	ok(r, guest_copy(&r->g, TO_DST, AT_FREE, 1, SRC, DST, 0));
	ok(r, guest_copy(&r->g, TO_OWN, AT_FREE, 1, SRC, OWN, 0));
	ok(r, guest_copy(&r->g, FROM_OWN, AT_FREE, 1, OWN, DST, 0));
	ok(r, guest_copy(&r->g, STOPPED, AT_FREE, 1, SRC, DST, STOP));
}

static void rig_open(struct rig *r, uint64_t memory)
{
	*r = (struct rig){
		.config = { .device = "cpu", .threads = 1, .window = WINDOW, .memory = memory },
	};
	assert_int_equal(vdev_shared_create(&r->shared, WINDOW), 0);
	worker_start(r);
	guest_init(&r->g, r->shared.window, r->shared.doorbell, r->shared.interrupts[0], WINDOW);
}

static void rig_begin(struct rig *r)
{
	rig_open(r, 64u << 20);
	guest_attach(&r->g);
	make_all(r);
}

static void rig_finish(struct rig *r)
{
	guest_finish(&r->g);
	vdev_shared_finish(&r->shared);
}

static void rig_end(struct rig *r)
{
	assert_int_equal(hang_up(r), 0);
	rig_finish(r);
}

static void put_source(struct rig *r, const char *text)
{
	memset(r->g.window + AT_SRC, 0, 4096);
	memcpy(r->g.window + AT_SRC, text, strlen(text));
}

static void send(struct rig *r, struct unpu_proto_command command)
{
	guest_send(&r->g, &command);
}

static struct unpu_proto_event event(struct rig *r)
{
	struct unpu_proto_event e;

	assert_true(guest_event(&r->g, &e, WAIT_MS));
	return e;
}

static void job_ends(struct rig *r, uint32_t ctx, uint64_t seqno, int status)
{
	struct unpu_proto_event e = event(r);

	assert_int_equal(e.type, UNPU_PROTO_EVENT_JOB);
	assert_int_equal(e.id, ctx);
	assert_int_equal(e.value, seqno);
	assert_int_equal(e.status, status);
}

static void run(struct rig *r, uint32_t ctx, uint64_t seqno, uint32_t program)
{
	send(r, guest_job(ctx, seqno, program, 1));
	job_ends(r, ctx, seqno, 0);
}

static void nothing_comes(struct rig *r)
{
	struct unpu_proto_event e;

	assert_false(guest_event(&r->g, &e, 50));
}

/* A long job of context 1 that is under way, and copies something else from its next repeat on. */
static void begin_and_turn(struct rig *r, const char *text)
{
	uint32_t progress = guest_progress(&r->g, 1);

	put_source(r, "SLOW");
	send(r, guest_job(1, 1, TO_DST, 60000));
	assert_true(guest_wait_word(&r->g, UNPU_PROTO_CTXS + sizeof(struct unpu_proto_ctx),
				    progress, false));
	memcpy(r->g.window + AT_SRC, text, strlen(text));
	/* The repeat before it may take its 20 ms, or what a busy machine makes of them. */
	do {
		progress = guest_progress(&r->g, 1);
		nothing_comes(r);
		nothing_comes(r);
	} while (progress != guest_progress(&r->g, 1));
}

/* ---- beginning ------------------------------------------------------------------------------- */

static void it_lays_out_the_window(void **state)
{
	struct unpu_proto_device device;
	struct drm_unpu_shader_name name;
	bool copy = false;
	struct rig r;
	uint32_t i;

	(void)state;
	rig_open(&r, 32u << 20);
	assert_true(GUEST_WAIT(&r.g, state, UNPU_PROTO_STATE_READY));
	device = guest_device(&r.g);
	assert_int_equal(device.magic, UNPU_PROTO_MAGIC);
	assert_int_equal(device.version, UNPU_PROTO_VERSION);
	assert_int_equal(device.window_bytes, WINDOW);
	assert_int_not_equal(device.epoch, 0);
	assert_int_equal(device.attached, 0);
	assert_int_equal(device.info.heap_window_bytes, WINDOW - HEAP);
	assert_int_equal(device.info.heap_device_bytes, 32u << 20);
	assert_int_equal(device.info.max_bo_bytes, 32u << 20);
	assert_int_equal(device.info.features &
			 (DRM_UNPU_FEATURE_UNIFIED | DRM_UNPU_FEATURE_WAIT_RUNS), 0);
	assert_true(device.info.tokens_per_submit >= 8);
	assert_true(device.num_shaders > 0 && device.num_shaders <= UNPU_PROTO_MAX_SHADERS);
	for (i = 0; i < device.num_shaders; i++) {
		memcpy(&name, r.g.window + UNPU_PROTO_SHADERS + i * sizeof(name), sizeof(name));
		copy |= !strcmp((const char *)name.name, "copy.1");
	}
	assert_true(copy);
	assert_true(GUEST_WAIT_NOT(&r.g, heartbeat, device.heartbeat));
	rig_end(&r);
}

static void an_engine_that_does_not_open_is_told(void **state)
{
	struct rig r = {
		.config = { .device = "vulkan:99", .window = WINDOW, .memory = 1u << 20 },
	};

	(void)state;
	assert_int_equal(vdev_shared_create(&r.shared, WINDOW), 0);
	worker_start(&r);
	guest_init(&r.g, r.shared.window, r.shared.doorbell, r.shared.interrupts[0], WINDOW);
	assert_true(GUEST_WAIT(&r.g, state, UNPU_PROTO_STATE_FAILED));
	rig_end(&r);
}

static void another_version_is_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_open(&r, 1u << 20);
	assert_false(guest_ask(&r.g, UNPU_PROTO_VERSION + 1, 200));
	guest_attach(&r.g);
	rig_end(&r);
}

static void a_doorbell_is_rung_when_it_is_wanted(void **state)
{
	uint64_t count = 0;
	struct rig r;

	(void)state;
	rig_begin(&r);
	/* Counted up with each event so far. */
	assert_int_equal(read(r.g.interrupt, &count, sizeof(count)), sizeof(count));
	assert_true(count >= 9);
	memset(r.g.window + UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, wants_doorbell),
	       0, 4);
	ok(&r, guest_shader(2, "copy.1"));
	assert_int_equal(read(r.g.interrupt, &count, sizeof(count)), -1);
	rig_end(&r);
}

/* ---- programs and jobs ----------------------------------------------------------------------- */

static void a_program_copies(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "through the device's own memory");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 7, TO_OWN, 1));
	send(&r, guest_job(1, 8, FROM_OWN, 3));
	job_ends(&r, 1, 7, 0);
	job_ends(&r, 1, 8, 0);
	assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	assert_true(guest_progress(&r.g, 1) >= 4);
	rig_end(&r);
}

static void several_programs_in_a_job(void **state)
{
	struct unpu_proto_command job = guest_job(1, 1, TO_OWN, 1);
	struct unpu_proto_event e;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "SLOW, and in order");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	job.job.num_runs = 2;
	job.job.runs[1] = (struct drm_unpu_run){ FROM_OWN, 1 };
	send(&r, job);
	e = event(&r);
	assert_int_equal(e.status, 0);
	assert_true(e.busy_ns >= 10000000u);
	assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	rig_end(&r);
}

static void wrong_jobs_end_with_an_error(void **state)
{
	struct unpu_proto_command job = guest_job(1, 1, TO_DST, 1);
	struct rig r;
	uint64_t n = 1;

	(void)state;
	rig_begin(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(2, n, TO_DST, 1));
	job_ends(&r, 2, n++, -ENOENT);
	send(&r, guest_job(0, n, TO_DST, 1));
	job_ends(&r, 0, n++, -ENOENT);
	send(&r, guest_job(UINT32_MAX, n, TO_DST, 1));
	job_ends(&r, UINT32_MAX, n++, -ENOENT);
	send(&r, guest_job(1, n, 99, 1));
	job_ends(&r, 1, n++, -ENOENT);
	send(&r, guest_job(1, n, UINT32_MAX, 1));
	job_ends(&r, 1, n++, -ENOENT);
	send(&r, guest_job(1, n, TO_DST, 0));
	job_ends(&r, 1, n++, -EINVAL);
	send(&r, guest_job(1, n, TO_DST, UINT32_MAX));
	job_ends(&r, 1, n++, -EINVAL);
	job.job.num_runs = 0;
	send(&r, job);
	job_ends(&r, 1, 1, -EINVAL);
	job.job.num_runs = UNPU_PROTO_MAX_RUNS + 1;
	send(&r, job);
	job_ends(&r, 1, 1, -EINVAL);
	job.job.num_runs = UINT32_MAX;
	send(&r, job);
	job_ends(&r, 1, 1, -EINVAL);
	job.job.num_runs = 1;
	job.job.pad = 1;
	send(&r, job);
	job_ends(&r, 1, 1, -EINVAL);
	run(&r, 1, n, TO_DST);
	rig_end(&r);
}

static void a_third_job_of_a_context_is_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "HANG");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 1));
	send(&r, guest_job(1, 2, TO_DST, 1));
	send(&r, guest_job(1, 3, TO_DST, 1));
	job_ends(&r, 1, 3, -EBUSY);
	rig_end(&r);
}

static void a_program_outlives_its_id_in_a_job(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "SLOW");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 5));
	send(&r, guest_plain(UNPU_PROTO_PROGRAM_DESTROY, TO_DST));
	send(&r, guest_plain(UNPU_PROTO_SHADER_DESTROY, 1));
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, OWN));
	send(&r, guest_job(1, 2, TO_DST, 1));
	job_ends(&r, 1, 2, -ENOENT);
	job_ends(&r, 1, 1, 0);
	assert_memory_equal(r.g.window + AT_DST, "SLOW", 4);
	ok(&r, guest_shader(1, "copy.1"));
	ok(&r, guest_copy(&r.g, TO_DST, AT_FREE, 1, SRC, DST, 0));
	run(&r, 1, 3, TO_DST);
	rig_end(&r);
}

static void a_stop_word_ends_a_job(void **state)
{
	uint32_t begin;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "SLOW");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	begin = guest_progress(&r.g, 1);
	send(&r, guest_job(1, 1, STOPPED, 60000));
	assert_true(guest_wait_word(&r.g, UNPU_PROTO_CTXS + sizeof(struct unpu_proto_ctx), begin,
				    false));
	__atomic_store_n((uint32_t *)(void *)(r.g.window + AT_STOP), 1, __ATOMIC_SEQ_CST);
	job_ends(&r, 1, 1, 0);
	assert_true(guest_progress(&r.g, 1) - begin < 60000);
	rig_end(&r);
}

static void a_higher_priority_goes_first(void **state)
{
	struct unpu_proto_event e;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "SLOW");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_LOW, 0));
	ok(&r, guest_ctx(2, DRM_UNPU_PRIORITY_HIGH, 0));
	send(&r, guest_job(1, 1, TO_DST, 40));
	send(&r, guest_job(2, 1, TO_DST, 3));
	e = event(&r);
	assert_int_equal(e.id, 2);
	assert_int_equal(e.status, 0);
	/* What waits while others run does not stand still. */
	send(&r, guest_job(2, 2, TO_DST, 1));
	job_ends(&r, 2, 2, 0);
	job_ends(&r, 1, 1, 0);
	rig_end(&r);
}

/* ---- time-outs and cancelling ---------------------------------------------------------------- */

static void a_hung_job_times_out(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 50000000));
	ok(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 0));
	put_source(&r, "HANG");
	send(&r, guest_job(1, 1, TO_DST, 1));
	send(&r, guest_job(1, 2, TO_DST, 1));
	job_ends(&r, 1, 1, -ETIME);
	job_ends(&r, 1, 2, -ECANCELED);
	send(&r, guest_job(1, 3, TO_DST, 1));
	job_ends(&r, 1, 3, -EIO);
	put_source(&r, "others go on");
	run(&r, 2, 1, TO_DST);
	assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	ok(&r, guest_plain(UNPU_PROTO_CTX_DESTROY, 1));
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	run(&r, 1, 1, TO_DST);
	rig_end(&r);
}

static void a_context_ends_with_its_jobs(void **state)
{
	struct unpu_proto_command end = guest_plain(UNPU_PROTO_CTX_DESTROY, 1);
	uint32_t first, second;
	struct unpu_proto_event e;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "HANG");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 1));
	send(&r, guest_job(1, 2, TO_DST, 1));
	first = guest_send(&r.g, &end);
	second = guest_send(&r.g, &end);
	job_ends(&r, 1, 1, -ECANCELED);
	job_ends(&r, 1, 2, -ECANCELED);
	e = event(&r);
	assert_int_equal(e.tag, first);
	assert_int_equal(e.status, 0);
	e = event(&r);
	/* Taken before the jobs were over, or after. */
	assert_int_equal(e.tag, second);
	assert_int_equal(e.status, 0);
	ok(&r, guest_plain(UNPU_PROTO_CTX_DESTROY, 1));
	send(&r, guest_job(1, 3, TO_DST, 1));
	job_ends(&r, 1, 3, -ENOENT);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	put_source(&r, "again");
	run(&r, 1, 1, TO_DST);
	rig_end(&r);
}

/* The device process ends rather than leave a job alive that was told to stop. */
/* Half a second more is no reason for all its guest's contexts to be lost. */
static void a_job_that_stops_late_is_waited_for(void **state)
{
	struct unpu_proto_command end = guest_plain(UNPU_PROTO_CTX_DESTROY, 1);
	struct unpu_proto_event e;
	struct rig r;

	(void)state;
	rig_begin(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	begin_and_turn(&r, "LATE");
	guest_send(&r.g, &end);
	job_ends(&r, 1, 1, -ECANCELED);
	assert_true(guest_event(&r.g, &e, WAIT_MS));
	assert_int_equal(e.type, UNPU_PROTO_EVENT_ANSWER);
	assert_int_equal(e.status, 0);
	rig_end(&r);
}

static void a_job_that_does_not_stop_ends_the_worker(void **state)
{
	struct unpu_proto_command end = guest_plain(UNPU_PROTO_CTX_DESTROY, 1);
	uint32_t epoch;
	struct rig r;

	(void)state;
	rig_begin(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	begin_and_turn(&r, "STUK");
	guest_send(&r.g, &end);
	assert_int_equal(worker_wait(&r), VDEV_EXIT_STUCK);
	epoch = GUEST_WORD(&r.g, epoch);
	worker_start(&r);
	assert_true(GUEST_WAIT_NOT(&r.g, epoch, epoch));
	assert_true(GUEST_WAIT(&r.g, attached, 0));
	guest_attach(&r.g);
	make_all(&r);
	put_source(&r, "a new worker");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	run(&r, 1, 1, TO_DST);
	rig_end(&r);
}

static void a_worker_that_dies_is_replaced_in_a_new_epoch(void **state)
{
	uint32_t epoch;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "EXIT");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 1));
	assert_int_not_equal(worker_wait(&r), 0);
	epoch = GUEST_WORD(&r.g, epoch);
	worker_start(&r);
	assert_true(GUEST_WAIT_NOT(&r.g, epoch, epoch));
	assert_true(GUEST_WAIT(&r.g, state, UNPU_PROTO_STATE_READY));
	/* It does not do once more what stands in the rings: that job would end it, too. */
	nothing_comes(&r);
	assert_int_equal(GUEST_WORD(&r.g, attached), 0);
	/* Nor does one that follows it before a driver came. */
	epoch = GUEST_WORD(&r.g, epoch);
	kill(r.pid, SIGKILL);
	assert_int_equal(worker_wait(&r), -SIGKILL);
	worker_start(&r);
	assert_true(GUEST_WAIT_NOT(&r.g, epoch, epoch));
	assert_true(GUEST_WAIT(&r.g, state, UNPU_PROTO_STATE_READY));
	nothing_comes(&r);
	assert_int_equal(GUEST_WORD(&r.g, attached), 0);
	/* What was in mapped buffers is still there. */
	assert_memory_equal(r.g.window + AT_SRC, "EXIT", 4);
	guest_attach(&r.g);
	rig_end(&r);
}

static void it_ends_with_a_job_that_hangs(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "HANG");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 1));
	send(&r, guest_job(1, 2, TO_DST, 1));
	nothing_comes(&r);
	rig_end(&r);
}

/* ---- attaching again ------------------------------------------------------------------------- */

static void attaching_forgets_everything(void **state)
{
	uint32_t epoch;
	struct rig r;

	(void)state;
	rig_begin(&r);
	put_source(&r, "HANG");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	send(&r, guest_job(1, 1, TO_DST, 1));
	send(&r, guest_bo(9, 0, 1u << 20));
	epoch = GUEST_WORD(&r.g, epoch);
	guest_attach(&r.g);
	assert_int_not_equal(GUEST_WORD(&r.g, epoch), epoch);
	/* No event of the driver before. */
	nothing_comes(&r);
	put_source(&r, "as new");
	make_all(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	ok(&r, guest_bo(9, 0, 1u << 20));
	run(&r, 1, 1, TO_DST);
	assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	rig_end(&r);
}

static void broken_rings_are_not_followed(void **state)
{
	static const uint64_t fields[] = {
		offsetof(struct unpu_proto_driver, commands_made),
		offsetof(struct unpu_proto_driver, events_taken),
	};
	uint32_t epoch, i;
	struct rig r;

	(void)state;
	rig_begin(&r);
	for (i = 0; i < 2; i++) {
		struct unpu_proto_command command = guest_ctx(1, DRM_UNPU_PRIORITY_LOW, 0);

		epoch = GUEST_WORD(&r.g, epoch);
		memset(r.g.window + UNPU_PROTO_DRIVER + fields[i], 0x55, 4);
		if (i)	/* is looked at with a command */
			guest_send(&r.g, &command);
		guest_ring(&r.g);
		assert_true(GUEST_WAIT_NOT(&r.g, epoch, epoch));
		assert_true(GUEST_WAIT(&r.g, attached, 0));
		/* Not by itself: the number it was attached by is spent. */
		nothing_comes(&r);
		assert_int_equal(GUEST_WORD(&r.g, attached), 0);
		guest_attach(&r.g);
		make_all(&r);
	}
	rig_end(&r);
}

static void events_that_are_not_taken_hold_commands_up(void **state)
{
	struct unpu_proto_command end = guest_plain(UNPU_PROTO_CTX_DESTROY, 5);
	struct unpu_proto_event e;
	uint32_t i, made, tag;
	struct rig r;

	(void)state;
	rig_open(&r, 1u << 20);
	guest_attach(&r.g);
	for (i = 0; i < UNPU_PROTO_NUM_EVENTS; i++) {
		guest_send(&r.g, &end);
		made = r.g.commands_made;
		if (made % UNPU_PROTO_NUM_COMMANDS == 0)
			assert_true(GUEST_WAIT(&r.g, commands_taken, made));
	}
	tag = guest_send(&r.g, &end);
	assert_true(GUEST_WAIT(&r.g, events_made, UNPU_PROTO_NUM_EVENTS));
	/* The one that has no room is not even taken. */
	assert_true(GUEST_WAIT_NOT(&r.g, heartbeat, GUEST_WORD(&r.g, heartbeat)));
	assert_int_equal(GUEST_WORD(&r.g, commands_taken), made);
	for (i = 0; i <= UNPU_PROTO_NUM_EVENTS; i++) {
		e = event(&r);
		assert_int_equal(e.status, 0);
	}
	assert_int_equal(e.tag, tag);
	rig_end(&r);
}

/* ---- wrong commands -------------------------------------------------------------------------- */

static void wrong_buffers_are_refused(void **state)
{
	const uint64_t end = WINDOW;
	const struct {
		uint32_t id;
		uint64_t offset, size;
		int err;
	} wrong[] = {
		{ 0, AT_FREE, 4096, -EINVAL },
		{ UNPU_PROTO_MAX_IDS, AT_FREE, 4096, -EINVAL },
		{ UINT32_MAX, AT_FREE, 4096, -EINVAL },
		{ SRC, AT_FREE, 4096, -EEXIST },
		{ 20, AT_FREE, 0, -EINVAL },
		{ 20, AT_FREE, 4095, -EINVAL },
		{ 20, AT_FREE + 8, 4096, -EINVAL },
		{ 20, HEAP - 4096, 4096, -EINVAL },
		{ 20, HEAP - 4096, 8192, -EINVAL },
		{ 20, UNPU_PROTO_COMMANDS, 4096, -EINVAL },
		{ 20, end, 4096, -EINVAL },
		{ 20, end - 4096, 8192, -EINVAL },
		{ 20, UINT64_MAX - 4095, 4096, -EINVAL },
		{ 20, UINT64_MAX - 4095, 8192, -EINVAL },
		{ 20, AT_FREE, UINT64_MAX - 4095, -EINVAL },
		{ 20, AT_SRC, 4096, -EEXIST },
		{ 20, AT_SRC, 8 * 4096, -EEXIST },
		{ 20, AT_DST, 4096, -EEXIST },
		{ 20, 0, 0, -EINVAL },
		{ 20, 0, 100, -EINVAL },
		{ 20, 0, 1ull << 40, -EINVAL },
		{ 20, 0, UINT64_MAX - 4095, -EINVAL },
	};
	struct unpu_proto_command command;
	struct rig r;
	size_t i;

	(void)state;
	rig_begin(&r);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(&r, guest_bo(wrong[i].id, wrong[i].offset, wrong[i].size), wrong[i].err);
	command = guest_bo(20, AT_FREE, 4096);
	command.bo.flags = 0;
	refused(&r, command, -EINVAL);	/* an offset of memory that is not in the window */
	command.bo.flags = 2;
	refused(&r, command, -EINVAL);
	command = guest_bo(20, AT_FREE, 4096);
	command.bo.pad = 1;
	refused(&r, command, -EINVAL);
	command = guest_bo(20, AT_FREE, 4096);
	command.pad = 1;
	refused(&r, command, -EINVAL);
	/* The last page of all, and one that nobody has any more. */
	ok(&r, guest_bo(20, WINDOW - 4096, 4096));
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, SRC));
	ok(&r, guest_bo(21, AT_SRC, 4096));
	rig_end(&r);
}

static void wrong_shaders_are_refused(void **state)
{
	struct unpu_proto_command command = guest_shader(20, "copy.1");
	struct rig r;

	(void)state;
	rig_begin(&r);
	refused(&r, guest_shader(1, "copy.1"), -EEXIST);
	refused(&r, guest_shader(0, "copy.1"), -EINVAL);
	refused(&r, guest_shader(UNPU_PROTO_MAX_IDS, "copy.1"), -EINVAL);
	refused(&r, guest_shader(20, ""), -EINVAL);
	refused(&r, guest_shader(20, "copy.2"), -ENOENT);
	refused(&r, guest_shader(20, "qkv.1"), -EINVAL);
	memset(command.shader.name.name, 'x', sizeof(command.shader.name.name));
	refused(&r, command, -EINVAL);
	command = guest_shader(20, "copy.1");
	command.shader.spec_words = 1;
	refused(&r, command, -EINVAL);
	command.shader.spec_words = UNPU_PROTO_MAX_SPEC + 1;
	refused(&r, command, -EINVAL);
	command.shader.spec_words = UINT32_MAX;
	refused(&r, command, -EINVAL);
	ok(&r, guest_shader(20, "copy.1"));
	rig_end(&r);
}

/* Changes one field of a right program. */
static void program_with(struct rig *r, uint64_t offset, uint32_t value, int err)
{
	struct unpu_proto_command command = guest_copy(&r->g, 30, AT_FREE, 1, SRC, DST, STOP);
	uint64_t error_index = 5;

	memcpy(command.bytes + offset, &value, sizeof(value));
	assert_int_equal(guest_ask_for(&r->g, &command, &error_index), err);
	assert_int_equal(error_index, UINT32_MAX);
}

#define PROGRAM_WITH(__r, __field, __value, __err) \
	program_with(__r, offsetof(struct unpu_proto_program, __field), __value, __err)

static void wrong_programs_are_refused(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	PROGRAM_WITH(&r, offset, 0, -EINVAL);
	PROGRAM_WITH(&r, offset, AT_FREE + 4, -EINVAL);
	PROGRAM_WITH(&r, offset, HEAP - 8, -EINVAL);
	PROGRAM_WITH(&r, offset, WINDOW - 8, -EINVAL);
	PROGRAM_WITH(&r, offset, UINT32_MAX - 7, -EINVAL);
	PROGRAM_WITH(&r, size, 0, -EINVAL);
	PROGRAM_WITH(&r, size, 8, -EINVAL);
	PROGRAM_WITH(&r, size, UINT32_MAX, -EINVAL);
	PROGRAM_WITH(&r, num_buffers, 0, -EINVAL);
	PROGRAM_WITH(&r, num_buffers, 4, -EINVAL);
	PROGRAM_WITH(&r, num_buffers, UINT32_MAX, -EINVAL);
	PROGRAM_WITH(&r, num_dispatches, 0, -EINVAL);
	PROGRAM_WITH(&r, num_dispatches, UINT32_MAX, -EINVAL);
	PROGRAM_WITH(&r, num_bindings, 1, -EINVAL);
	PROGRAM_WITH(&r, num_bindings, UINT32_MAX, -EINVAL);
	PROGRAM_WITH(&r, const_bytes, 4, -EINVAL);
	PROGRAM_WITH(&r, const_bytes, UINT32_MAX, -EINVAL);
	PROGRAM_WITH(&r, flags, 2, -EINVAL);
	PROGRAM_WITH(&r, flags, 0, -EINVAL);		/* stop_buffer is not 0 */
	PROGRAM_WITH(&r, stop_buffer, 3, -EINVAL);
	PROGRAM_WITH(&r, stop_offset, 2, -EINVAL);
	PROGRAM_WITH(&r, stop_offset, 4096, -EINVAL);
	PROGRAM_WITH(&r, pad, 1, -EINVAL);
	rig_end(&r);
}

/* A right program but for one word of its image; error_index is 0 for one of the dispatch. */
static void image_with(struct rig *r, uint64_t offset, uint32_t value, int err, bool dispatch)
{
	struct unpu_proto_command command = guest_copy(&r->g, 30, AT_FREE, 1, SRC, DST, 0);
	uint64_t error_index = 5;

	memcpy(r->g.window + AT_FREE + offset, &value, sizeof(value));
	assert_int_equal(guest_ask_for(&r->g, &command, &error_index), err);
	assert_int_equal(error_index, dispatch ? 0 : UINT32_MAX);
}

static void what_is_in_an_image_is_checked(void **state)
{
	const uint64_t dispatch = 3 * sizeof(struct drm_unpu_buffer);
	const uint64_t bindings = dispatch + sizeof(struct drm_unpu_dispatch);
	const uint64_t constants = bindings + 2 * sizeof(struct drm_unpu_binding);
	struct unpu_proto_command command;
	struct rig r;

	(void)state;
	rig_begin(&r);
	image_with(&r, offsetof(struct drm_unpu_buffer, handle), 0, -ENOENT, false);
	image_with(&r, offsetof(struct drm_unpu_buffer, handle), 77, -ENOENT, false);
	image_with(&r, offsetof(struct drm_unpu_buffer, handle), UINT32_MAX, -ENOENT, false);
	image_with(&r, offsetof(struct drm_unpu_buffer, flags), 4, -EINVAL, false);
	image_with(&r, offsetof(struct drm_unpu_buffer, offset), 4096, -EINVAL, false);
	image_with(&r, offsetof(struct drm_unpu_buffer, size), 8192, -EINVAL, false);
	image_with(&r, dispatch, 0, -ENOENT, true);
	image_with(&r, dispatch, UINT32_MAX, -ENOENT, true);
	image_with(&r, dispatch + offsetof(struct drm_unpu_dispatch, grid), 2, -EINVAL, true);
	image_with(&r, dispatch + offsetof(struct drm_unpu_dispatch, first_binding), 1, -EINVAL,
		   true);
	image_with(&r, bindings, 3, -EINVAL, false);
	image_with(&r, constants, 8192, -EINVAL, true);
	refused(&r, guest_copy(&r.g, TO_DST, AT_FREE, 1, SRC, DST, 0), -EEXIST);
	refused(&r, guest_copy(&r.g, 0, AT_FREE, 1, SRC, DST, 0), -EINVAL);
	/* A stop word that the CPU could not set. */
	refused(&r, guest_copy(&r.g, 30, AT_FREE, 1, SRC, DST, OWN), -EINVAL);
	command = guest_copy(&r.g, 30, AT_FREE, 1, SRC, DST, STOP);
	ok(&r, command);
	rig_end(&r);
}

static void wrong_contexts_and_ops_are_refused(void **state)
{
	struct unpu_proto_command command;
	struct rig r;

	(void)state;
	rig_begin(&r);
	refused(&r, guest_ctx(0, DRM_UNPU_PRIORITY_LOW, 0), -EINVAL);
	refused(&r, guest_ctx(UNPU_PROTO_MAX_CTXS, DRM_UNPU_PRIORITY_LOW, 0), -EINVAL);
	refused(&r, guest_ctx(1, DRM_UNPU_PRIORITY_HIGH + 1, 0), -EINVAL);
	refused(&r, guest_ctx(1, DRM_UNPU_PRIORITY_LOW, UINT64_MAX), -EINVAL);
	command = guest_ctx(1, DRM_UNPU_PRIORITY_LOW, 0);
	command.ctx.pad = 1;
	refused(&r, command, -EINVAL);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_LOW, 0));
	refused(&r, guest_ctx(1, DRM_UNPU_PRIORITY_LOW, 0), -EEXIST);
	refused(&r, guest_plain(0, 1), -EOPNOTSUPP);
	refused(&r, guest_plain(UNPU_PROTO_JOB + 1, 1), -EOPNOTSUPP);
	refused(&r, guest_plain(UINT32_MAX, 1), -EOPNOTSUPP);
	/* These never fail, and say nothing. */
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, 0));
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, 999));
	send(&r, guest_plain(UNPU_PROTO_SHADER_DESTROY, UINT32_MAX));
	send(&r, guest_plain(UNPU_PROTO_PROGRAM_DESTROY, UNPU_PROTO_MAX_IDS));
	ok(&r, guest_plain(UNPU_PROTO_CTX_DESTROY, UINT32_MAX));
	rig_end(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void pages_of_a_destroyed_buffer_are_given_back(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r);
	memset(r.g.window + AT_FREE, 0xaa, 4 * 4096);
	ok(&r, guest_bo(20, AT_FREE + 4096, 2 * 4096));
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, 20));
	assert_true(GUEST_WAIT(&r.g, commands_taken, r.g.commands_made));
	assert_int_equal(r.g.window[AT_FREE + 4095], 0xaa);
	assert_int_equal(r.g.window[AT_FREE + 4096], 0);
	assert_int_equal(r.g.window[AT_FREE + 3 * 4096 - 1], 0);
	assert_int_equal(r.g.window[AT_FREE + 3 * 4096], 0xaa);
	rig_end(&r);
}

static void device_memory_is_limited(void **state)
{
	struct unpu_proto_command program;
	struct rig r;

	(void)state;
	rig_open(&r, 8u << 20);
	guest_attach(&r.g);
	ok(&r, guest_bo(1, 0, 6u << 20));
	refused(&r, guest_bo(2, 0, 4u << 20), -ENOSPC);
	ok(&r, guest_bo(2, 0, 2u << 20));
	refused(&r, guest_bo(3, 0, 4096), -ENOSPC);
	/* Mappable ones are counted by the window they lie in. */
	ok(&r, guest_bo(3, AT_SRC, 4096));
	/* A program keeps its buffers, and so their share. */
	ok(&r, guest_shader(1, "copy.1"));
	program = guest_copy(&r.g, 1, AT_FREE, 1, 1, 3, 0);
	ok(&r, program);
	send(&r, guest_plain(UNPU_PROTO_BO_DESTROY, 1));
	refused(&r, guest_bo(1, 0, 6u << 20), -ENOSPC);
	send(&r, guest_plain(UNPU_PROTO_PROGRAM_DESTROY, 1));
	ok(&r, guest_bo(1, 0, 6u << 20));
	rig_end(&r);
}

/* As many as there can be, in turns of what the rings take at once. */
static void numbers_of_objects_are_limited(void **state)
{
	struct unpu_proto_command command;
	struct unpu_proto_event e;
	uint32_t id, limit = 0, wrong = 0;
	struct rig r;

	(void)state;
	rig_open(&r, 1u << 20);
	guest_attach(&r.g);
	for (id = 1; id < 9000; id++) {
		command = guest_shader(id, "copy.1");
		guest_send(&r.g, &command);
		if (id % 100)
			continue;
		while (r.g.events_taken < r.g.commands_made) {
			e = event(&r);
			if (!e.status)
				limit++;
			else if (e.status != -ENOMEM)
				wrong++;
		}
	}
	assert_int_equal(limit, 8192);
	assert_int_equal(wrong, 0);
	/* One less is one more. */
	while (r.g.events_taken < r.g.commands_made)
		event(&r);
	send(&r, guest_plain(UNPU_PROTO_SHADER_DESTROY, 17));
	command = guest_shader(17, "copy.1");
	e.status = guest_ask_for(&r.g, &command, NULL);
	assert_int_equal(e.status, 0);
	rig_end(&r);
}

/* ---- anything -------------------------------------------------------------------------------- */

/* A guest may have its buffers written while it makes programs of them: that is its own affair, but
 * the sanitizer of threads speaks of it. */
#if defined(__SANITIZE_THREAD__)
#define IMAGES	(128 * 4096)
#else
#define IMAGES	0
#endif

static uint32_t random_below(uint64_t *seed, uint32_t bound)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33) % bound;
}

/* One of the right commands, for small ids, and in two of three cases with a word or two of it
 * changed. */
static struct unpu_proto_command random_command(struct rig *r, uint64_t *seed)
{
	const uint32_t words[] = {
		0, 1, 2, 8, 4095, 4096, 65536, HEAP, WINDOW, INT32_MAX, UINT32_MAX,
	};
	uint32_t id = random_below(seed, 6), n;
	uint64_t page = HEAP + random_below(seed, 64) * 4096ull;
	uint64_t image = page + IMAGES;
	struct unpu_proto_command command;

	switch (random_below(seed, 8)) {
	case 0:
		command = guest_bo(id, random_below(seed, 2) ? page : 0,
				   4096ull << random_below(seed, 4));
		break;
	case 1:
		command = guest_shader(id, "copy.1");
		break;
	case 2:
		command = guest_copy(&r->g, id, image, random_below(seed, 6), random_below(seed, 6),
				     random_below(seed, 6), random_below(seed, 6));
		break;
	case 3:
		command = guest_ctx(id, random_below(seed, 3), 0);
		break;
	case 4:
	case 5:
		command = guest_job(id, r->g.commands_made, random_below(seed, 6),
				    1 + random_below(seed, 3));
		break;
	default:
		command = guest_plain(random_below(seed, 11), id);
	}
	for (n = random_below(seed, 3); n; n--)
		memcpy(command.bytes + 4 * random_below(seed, 60),
		       &words[random_below(seed, sizeof(words) / sizeof(words[0]))], 4);
	return command;
}

/* The worker lives, and serves who comes next. */
static void whatever_a_driver_sends(void **state)
{
	struct unpu_proto_command command;
	struct unpu_proto_event e;
	uint64_t seed = 20;
	uint32_t i, fine = 0;
	struct rig r;

	(void)state;
	rig_begin(&r);
	for (i = 0; i < 20000; i++) {
		command = random_command(&r, &seed);
		guest_send(&r.g, &command);
		if (i % 16)
			continue;
		assert_true(GUEST_WAIT(&r.g, commands_taken, r.g.commands_made));
		while (guest_event(&r.g, &e, 0))
			fine += !e.status;
	}
	print_message("%u of %u events without an error\n", fine, r.g.events_taken);
	assert_true(fine > 1000 && r.g.events_taken - fine > 1000);
	guest_attach(&r.g);
	make_all(&r);
	put_source(&r, "after all that");
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	run(&r, 1, 1, TO_DST);
	assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	rig_end(&r);
}

/* Programs keep the shadows of buffers that are gone: those count as the device's memory. */
static void shadows_are_limited(struct rig *r)
{
	struct unpu_proto_command command;
	uint32_t turn;
	int err = 0;

	for (turn = 0; turn < 64 && !err; turn++) {
		command = guest_bo(30, WINDOW / 2, WINDOW / 2);
		err = guest_ask_for(&r->g, &command, NULL);
		if (err)
			break;
		ok(r, guest_copy(&r->g, 40 + turn, AT_FREE, 1, 30, DST, 0));
		send(r, guest_plain(UNPU_PROTO_BO_DESTROY, 30));
	}
	assert_int_equal(err, -ENOSPC);
	while (turn--)
		send(r, guest_plain(UNPU_PROTO_PROGRAM_DESTROY, 40 + turn));
	ok(r, guest_bo(30, WINDOW / 2, WINDOW / 2));
}

/* The first GPU, or what takes its place on this machine; skips without one. */
static void on_vulkan(void **state)
{
	struct rig r = {
		.config = { .device = "vulkan:0", .window = WINDOW, .memory = 64u << 20 },
	};
	uint32_t turn;

	(void)state;
	if (strstr(sandbox_status(), "sanitizers")) {
		print_message("sanitizers do not see what a driver compiles\n");
		skip();
	}
	assert_int_equal(vdev_shared_create(&r.shared, WINDOW), 0);
	worker_start(&r);
	guest_init(&r.g, r.shared.window, r.shared.doorbell, r.shared.interrupts[0], WINDOW);
	assert_true(GUEST_WAIT_NOT(&r.g, state, UNPU_PROTO_STATE_BOOT));
	if (GUEST_WORD(&r.g, state) == UNPU_PROTO_STATE_FAILED) {
		rig_end(&r);
		print_message("no Vulkan device\n");
		skip();
	}
	guest_attach(&r.g);
	make_all(&r);
	ok(&r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
	for (turn = 0; turn < 3; turn++) {
		memset(r.g.window + AT_SRC, (int)turn + 1, 4096);
		send(&r, guest_job(1, 2 * turn, TO_OWN, 1));
		send(&r, guest_job(1, 2 * turn + 1, FROM_OWN, 3));
		job_ends(&r, 1, 2 * turn, 0);
		job_ends(&r, 1, 2 * turn + 1, 0);
		assert_memory_equal(r.g.window + AT_DST, r.g.window + AT_SRC, 4096);
	}
	/* Stopped before it begins. */
	memset(r.g.window + AT_STOP, 1, 4);
	memset(r.g.window + AT_DST, 0, 4096);
	run(&r, 1, 9, STOPPED);
	assert_int_equal(r.g.window[AT_DST], 0);
	ok(&r, guest_plain(UNPU_PROTO_CTX_DESTROY, 1));
	shadows_are_limited(&r);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_lays_out_the_window),
		cmocka_unit_test(an_engine_that_does_not_open_is_told),
		cmocka_unit_test(another_version_is_refused),
		cmocka_unit_test(a_doorbell_is_rung_when_it_is_wanted),
		cmocka_unit_test(a_program_copies),
		cmocka_unit_test(several_programs_in_a_job),
		cmocka_unit_test(wrong_jobs_end_with_an_error),
		cmocka_unit_test(a_third_job_of_a_context_is_refused),
		cmocka_unit_test(a_program_outlives_its_id_in_a_job),
		cmocka_unit_test(a_stop_word_ends_a_job),
		cmocka_unit_test(a_higher_priority_goes_first),
		cmocka_unit_test(a_hung_job_times_out),
		cmocka_unit_test(a_context_ends_with_its_jobs),
		cmocka_unit_test(a_job_that_stops_late_is_waited_for),
		cmocka_unit_test(a_job_that_does_not_stop_ends_the_worker),
		cmocka_unit_test(a_worker_that_dies_is_replaced_in_a_new_epoch),
		cmocka_unit_test(it_ends_with_a_job_that_hangs),
		cmocka_unit_test(attaching_forgets_everything),
		cmocka_unit_test(broken_rings_are_not_followed),
		cmocka_unit_test(events_that_are_not_taken_hold_commands_up),
		cmocka_unit_test(wrong_buffers_are_refused),
		cmocka_unit_test(wrong_shaders_are_refused),
		cmocka_unit_test(wrong_programs_are_refused),
		cmocka_unit_test(what_is_in_an_image_is_checked),
		cmocka_unit_test(wrong_contexts_and_ops_are_refused),
		cmocka_unit_test(pages_of_a_destroyed_buffer_are_given_back),
		cmocka_unit_test(device_memory_is_limited),
		cmocka_unit_test(numbers_of_objects_are_limited),
		cmocka_unit_test(whatever_a_driver_sends),
		cmocka_unit_test(on_vulkan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
