/* SPDX-License-Identifier: MIT */
/*
 * A worker of unpu-vdev that drives a GPU: the first one of this machine, which the group of the
 * tests makes lavapipe or SwiftShader. Shadows of the window, words that stop jobs, programs and
 * devices that fail, and a guest that writes where the device reads.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shaders/shaders.h"
#include "tests/lib/guest.h"
#include "tools/lib/sandbox.h"
#include "tools/unpu-vdev/vdev.h"

#define WINDOW	(4u << 20)
#define HEAP	UNPU_PROTO_HEAP
/* These implementations compile at a shader's first run, on a machine with other things to do. */
#define WAIT_MS	120000u

/* Buffers: two in the window, one in the device's memory, and one page with a stop word. */
enum { LEFT = 1, RIGHT, OWN, STOP };
#define BYTES	(256u << 10)
enum { AT_LEFT = HEAP, AT_RIGHT = AT_LEFT + BYTES, AT_STOP = AT_RIGHT + BYTES,
       AT_IMAGE = AT_STOP + 4096 };

struct rig {
	struct vdev_config config;
	struct vdev_shared shared;
	struct guest g;
	struct drm_unpu_dev_info info;
	pid_t pid;
	int report;
};

/* ---- a worker -------------------------------------------------------------------------------- */

static void worker_start(struct rig *r, const char *fault)
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
		if (fault)
			setenv("UNPU_FAULT", fault, 1);
		/* The driver's threads do not live to see what exit() does to their library. */
		_exit(vdev_worker_run(&r->config, &fds));
	}
	close(pipes[1]);
	r->report = pipes[0];
}

/* What the validation layer had to say of this worker: the next one begins its file anew. */
static void assert_valid(void)
{
	const char *folder = getenv("VK_LAYER_SETTINGS_PATH");
	char path[4200], line[400];
	FILE *said;

	if (!folder)
		return;
	snprintf(path, sizeof(path), "%s/said", folder);
	said = fopen(path, "r");
	while (said && fgets(line, sizeof(line), said))
		if (strstr(line, "Validation Error") || strstr(line, "Validation Warning") ||
		    strstr(line, "SYNC-HAZARD"))
			fail_msg("%s", line);
	if (said)
		fclose(said);
}

static int worker_wait(struct rig *r)
{
	const struct timespec time = { 0, 5000000 };
	int status, turns;

	for (turns = 0; turns < 24000; turns++) {
		if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
			close(r->report);
			r->pid = 0;
			assert_valid();
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		}
		nanosleep(&time, NULL);
	}
	fail_msg("the worker does not end");
	return -1;
}

static void skip_without_device(void)
{
	if (strstr(sandbox_status(), "sanitizers")) {
		print_message("sanitizers do not see what a driver compiles\n");
		skip();
	}
}

static struct unpu_proto_event event(struct rig *r)
{
	struct unpu_proto_event e;

	assert_true(guest_event(&r->g, &e, WAIT_MS));
	return e;
}

static int ask(struct rig *r, struct unpu_proto_command command)
{
	uint32_t tag = guest_send(&r->g, &command);
	struct unpu_proto_event e = event(r);

	assert_int_equal(e.type, UNPU_PROTO_EVENT_ANSWER);
	assert_int_equal(e.tag, tag);
	return e.status;
}

#define OK(__r, __command)	assert_int_equal(ask(__r, __command), 0)

/* It has no answer; the ring is not for many. */
static void destroy(struct rig *r, uint32_t op, uint32_t id)
{
	struct unpu_proto_command command = guest_plain(op, id);

	guest_send(&r->g, &command);
	assert_true(GUEST_WAIT(&r->g, commands_taken, r->g.commands_made));
}

/* From booting to attached. */
static void attach(struct rig *r)
{
	struct unpu_proto_device device;
	uint32_t turns = WAIT_MS / 10000;

	while (turns-- && !GUEST_WAIT_NOT(&r->g, state, UNPU_PROTO_STATE_BOOT))
		;
	if (GUEST_WORD(&r->g, state) == UNPU_PROTO_STATE_FAILED) {
		print_message("no Vulkan device\n");
		skip();
	}
	guest_attach(&r->g);
	device = guest_device(&r->g);
	r->info = device.info;
}

static void make_all(struct rig *r)
{
	OK(r, guest_bo(LEFT, AT_LEFT, BYTES));
	OK(r, guest_bo(RIGHT, AT_RIGHT, BYTES));
	OK(r, guest_bo(STOP, AT_STOP, 4096));
	OK(r, guest_bo(OWN, 0, BYTES));
	OK(r, guest_shader(1, "copy.1"));
	OK(r, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
}

static void rig_begin(struct rig *r, const char *fault)
{
	skip_without_device();
	*r = (struct rig){
		.config = { .device = "vulkan:0", .window = WINDOW, .memory = 64u << 20,
			    .no_sandbox = getenv("VK_INSTANCE_LAYERS") },
	};
	assert_int_equal(vdev_shared_create(&r->shared, WINDOW), 0);
	worker_start(r, fault);
	guest_init(&r->g, r->shared.window, r->shared.doorbell, r->shared.interrupts[0], WINDOW);
	attach(r);
	make_all(r);
}

static void rig_finish(struct rig *r)
{
	guest_finish(&r->g);
	vdev_shared_finish(&r->shared);
}

static void rig_end(struct rig *r)
{
	close(r->report);
	r->report = -1;
	assert_int_equal(worker_wait(r), 0);
	rig_finish(r);
}

/* Another one in place of it, as the broker begins one. */
static void rig_again(struct rig *r)
{
	uint32_t epoch = GUEST_WORD(&r->g, epoch);

	worker_start(r, NULL);
	while (GUEST_WORD(&r->g, epoch) == epoch)
		assert_true(GUEST_WAIT_NOT(&r->g, epoch, epoch));
	attach(r);
	make_all(r);
}

/* ---- programs and jobs ----------------------------------------------------------------------- */

struct copy {
	uint32_t from, to;		/* buffers */
	uint64_t from_at, to_at, bytes;
	uint32_t stop;			/* a buffer, 0: none; its word at stop_at */
	uint32_t stop_at;
};

static struct unpu_proto_command copy_command(struct rig *r, uint32_t id, const struct copy *c)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_PROGRAM_CREATE, id);
	const struct {
		struct drm_unpu_buffer buffers[3];
		struct drm_unpu_dispatch dispatch;
		struct drm_unpu_binding bindings[2];
		struct unpu_copy_const constants;
	} image = {
		.buffers = {
			{ c->from, DRM_UNPU_ACCESS_READ, c->from_at, c->bytes },
			{ c->to, DRM_UNPU_ACCESS_WRITE, c->to_at, c->bytes },
			{ c->stop ? c->stop : c->from, DRM_UNPU_ACCESS_READ,
			  c->stop ? 0 : c->from_at, c->stop ? 4096 : c->bytes },
		},
		.dispatch = {
			.shader_id = 1, .num_bindings = 2, .const_bytes = 8,
			.grid = { (uint32_t)((c->bytes + 65535) / 65536), 1, 1 },
		},
		.bindings = { { 0 }, { 1 } },
		.constants = { .bytes_lo = (uint32_t)c->bytes },
	};

	memcpy(r->g.window + AT_IMAGE, &image, sizeof(image));
	command.program.offset = AT_IMAGE;
	command.program.size = sizeof(image);
	command.program.num_buffers = 3;
	command.program.num_dispatches = 1;
	command.program.num_bindings = 2;
	command.program.const_bytes = sizeof(image.constants);
	command.program.flags = c->stop ? DRM_UNPU_PROGRAM_STOP : 0;
	command.program.stop_buffer = c->stop ? 2 : 0;
	command.program.stop_offset = c->stop_at;
	return command;
}

static void job_ends(struct rig *r, uint32_t ctx, uint64_t seqno, int status)
{
	struct unpu_proto_event e = event(r);

	assert_int_equal(e.type, UNPU_PROTO_EVENT_JOB);
	assert_int_equal(e.id, ctx);
	assert_int_equal(e.value, seqno);
	assert_int_equal(e.status, status);
}

static void submit(struct rig *r, uint32_t ctx, uint64_t seqno, uint32_t program, uint32_t repeat)
{
	struct unpu_proto_command job = guest_job(ctx, seqno, program, repeat);

	guest_send(&r->g, &job);
}

static void run(struct rig *r, uint64_t seqno, uint32_t program, uint32_t repeat)
{
	submit(r, 1, seqno, program, repeat);
	job_ends(r, 1, seqno, 0);
}

/* A job of context ctx is under way. */
static void moves(struct rig *r, uint32_t ctx, uint32_t progress)
{
	uint64_t word = UNPU_PROTO_CTXS + ctx * sizeof(struct unpu_proto_ctx);
	uint32_t turns = WAIT_MS / 10000;

	while (turns-- && guest_word(&r->g, word) == progress)
		guest_wait_word(&r->g, word, progress, false);
	assert_int_not_equal(guest_word(&r->g, word), progress);
}

static void nap(uint32_t us)
{
	const struct timespec time = { 0, (long)us * 1000 };

	nanosleep(&time, NULL);
}

static uint32_t random_below(uint64_t *seed, uint32_t n)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*seed >> 33) % n;
}

static void fill(struct rig *r, uint64_t at, uint64_t bytes, uint64_t seed)
{
	for (uint64_t i = 0; i < bytes; i++)
		r->g.window[at + i] = (uint8_t)(random_below(&seed, 255) + 1);
}

/* ---- what is there --------------------------------------------------------------------------- */

static void what_it_says_of_itself(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	assert_int_not_equal(r.info.name[0], 0);
	assert_true(r.info.binding_align >= 32);
	assert_int_equal(r.info.binding_align & (r.info.binding_align - 1), 0);
	assert_int_equal(r.info.features & DRM_UNPU_FEATURE_UNIFIED, 0);
	assert_int_equal(r.info.heap_window_bytes, WINDOW - HEAP);
	assert_true(r.info.heap_device_bytes <= 64u << 20);
	assert_true(r.info.tokens_per_submit >= 8);
	assert_int_equal(r.info.kv_types >> DRM_UNPU_KV_INT8 & 1, 0);
	assert_true(r.info.num_matrices > 0);
	rig_end(&r);
}

/* ---- ranges of the window -------------------------------------------------------------------- */

/* Random ranges of two buffers of the window and one of the device's: what is copied gets there,
 * what lies around it stays. */
static void ranges_of_all_sizes(void **state)
{
	uint8_t *want = malloc(2 * BYTES);
	uint64_t seed = 6;
	struct rig r;
	uint32_t i;

	(void)state;
	assert_non_null(want);
	rig_begin(&r, NULL);
	fill(&r, AT_LEFT, 2 * BYTES, 1);
	memcpy(want, r.g.window + AT_LEFT, 2 * BYTES);
	for (i = 0; i < 60; i++) {
		uint32_t align = r.info.binding_align, most = i % 3 ? 600 : BYTES;
		struct copy in = { .to = OWN }, out = { .from = OWN, .to = LEFT };

		in.bytes = out.bytes = 4 + 4 * random_below(&seed, most / 4);
		in.from = LEFT + random_below(&seed, 2);
		out.to = LEFT + random_below(&seed, 2);
		in.from_at = random_below(&seed, (uint32_t)(BYTES - in.bytes) / align + 1) * align;
		out.to_at = random_below(&seed, (uint32_t)(BYTES - in.bytes) / align + 1) * align;
		in.to_at = out.from_at =
			random_below(&seed, (uint32_t)(BYTES - in.bytes) / align + 1) * align;
		OK(&r, copy_command(&r, 1, &in));
		OK(&r, copy_command(&r, 2, &out));
		run(&r, 2 * i, 1, 1);
		run(&r, 2 * i + 1, 2, 1 + i % 9);
		/* The two lie side by side. */
		memmove(want + (out.to - LEFT) * BYTES + out.to_at,
			want + (in.from - LEFT) * BYTES + in.from_at, in.bytes);
		assert_memory_equal(want, r.g.window + AT_LEFT, 2 * BYTES);
		destroy(&r, UNPU_PROTO_PROGRAM_DESTROY, 1);
		destroy(&r, UNPU_PROTO_PROGRAM_DESTROY, 2);
	}
	free(want);
	rig_end(&r);
}

/* Two halves of one buffer that touch, in both directions. */
static void ranges_that_touch(void **state)
{
	struct copy up = { LEFT, LEFT, 0, 4096, 4096, 0, 0 };
	struct copy down = { LEFT, LEFT, 4096, 0, 4096, 0, 0 };
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	fill(&r, AT_LEFT, BYTES, 3);
	OK(&r, copy_command(&r, 1, &up));
	OK(&r, copy_command(&r, 2, &down));
	run(&r, 1, 1, 3);
	assert_memory_equal(r.g.window + AT_LEFT, r.g.window + AT_LEFT + 4096, 4096);
	fill(&r, AT_LEFT + 4096, 4096, 4);
	run(&r, 2, 2, 1);
	assert_memory_equal(r.g.window + AT_LEFT, r.g.window + AT_LEFT + 4096, 4096);
	rig_end(&r);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct copy c = { LEFT, RIGHT, 0, 0, 4096, 0, 0 };
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	c.from_at = r.info.binding_align / 2;
	assert_int_equal(ask(&r, copy_command(&r, 1, &c)), -EINVAL);
	c.from_at = 0;
	c.to_at = r.info.binding_align - 4;
	assert_int_equal(ask(&r, copy_command(&r, 1, &c)), -EINVAL);
	c.to_at = BYTES - 2048;
	assert_int_equal(ask(&r, copy_command(&r, 1, &c)), -EINVAL);
	c.to_at = UINT64_MAX - 4095;
	assert_int_equal(ask(&r, copy_command(&r, 1, &c)), -EINVAL);
	c.to_at = BYTES - 4096;
	OK(&r, copy_command(&r, 1, &c));
	run(&r, 1, 1, 1);
	rig_end(&r);
}

/* ---- stopping -------------------------------------------------------------------------------- */

/*
 * The word that stops the program lies in what it writes, with zeros, each time. The guest sets it
 * at any moment: the job ends, and the word is as it was set.
 */
static void a_stop_word_is_not_lost(void **state)
{
	struct copy c = { LEFT, STOP, 0, 0, 4096, STOP, 64 };
	uint32_t *word, turn;
	uint64_t seed = 9;
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	word = (uint32_t *)(void *)(r.g.window + AT_STOP + 64);
	memset(r.g.window + AT_LEFT, 0, 4096);
	OK(&r, copy_command(&r, 1, &c));
	run(&r, 1, 1, 1);
	for (turn = 0; turn < 40; turn++) {
		uint32_t value = 1 + random_below(&seed, 1000);

		__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
		submit(&r, 1, 2 + turn, 1, 60000);
		moves(&r, 1, guest_progress(&r.g, 1));
		nap(random_below(&seed, 3000));
		__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
		job_ends(&r, 1, 2 + turn, 0);
		assert_int_equal(__atomic_load_n(word, __ATOMIC_SEQ_CST), value);
	}
	/* And what the program sets is there, after one repeat. */
	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
	memset(r.g.window + AT_LEFT, 7, 4096);
	run(&r, 100, 1, 60000);
	assert_int_equal(__atomic_load_n(word, __ATOMIC_SEQ_CST), 0x07070707);
	rig_end(&r);
}

/* Contexts that are ended in the middle of their work end as soon as the worker allows, which would
 * end itself else, and others have theirs done. */
static void cancelled_in_the_middle(void **state)
{
	struct copy c = { OWN, OWN, 0, BYTES / 2, BYTES / 2, 0, 0 }, small = { LEFT, RIGHT, 0, 0,
		4096, 0, 0 };
	struct unpu_proto_command end;
	struct unpu_proto_event e;
	uint32_t turn, answers;
	uint64_t seed = 11;
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	OK(&r, copy_command(&r, 1, &c));
	OK(&r, copy_command(&r, 2, &small));
	run(&r, 1, 1, 16);
	run(&r, 2, 2, 1);
	for (turn = 0; turn < 12; turn++) {
		fill(&r, AT_LEFT, 4096, turn);
		OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_HIGH, 0));
		submit(&r, 2, 1, 1, 60000);
		submit(&r, 2, 2, 1, 60000);
		moves(&r, 2, 0);
		nap(random_below(&seed, 20000));
		submit(&r, 1, 10 + turn, 2, 1);
		end = guest_plain(UNPU_PROTO_CTX_DESTROY, 2);
		guest_send(&r.g, &end);
		/* Two jobs that end, the answer, and the other context's job. */
		for (answers = 0; answers < 4; answers++) {
			e = event(&r);
			if (e.type == UNPU_PROTO_EVENT_JOB)
				assert_int_equal(e.status, e.id == 2 ? -ECANCELED : 0);
			else
				assert_int_equal(e.status, 0);
		}
		assert_memory_equal(r.g.window + AT_LEFT, r.g.window + AT_RIGHT, 4096);
	}
	rig_end(&r);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

static void put_source(struct rig *r, const char *word)
{
	memset(r->g.window + AT_LEFT, 0, 4096);
	memcpy(r->g.window + AT_LEFT, word, strlen(word));
}

static const struct copy plain = { LEFT, RIGHT, 0, 0, 4096, 0, 0 };

/* The guest's page is where it was, the device another one: all is made anew, and works. */
static void serves_again(struct rig *r)
{
	fill(r, AT_LEFT, 4096, 77);
	OK(r, copy_command(r, 1, &plain));
	run(r, 1, 1, 5);
	assert_memory_equal(r->g.window + AT_LEFT, r->g.window + AT_RIGHT, 4096);
}

static void programs_that_hang(void **state)
{
	struct unpu_proto_command end = guest_plain(UNPU_PROTO_CTX_DESTROY, 2);
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	OK(&r, copy_command(&r, 1, &plain));
	run(&r, 1, 1, 1);
	put_source(&r, "HANG");
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 200000000));
	submit(&r, 2, 1, 1, 1);
	submit(&r, 2, 2, 1, 1);
	job_ends(&r, 2, 1, -ETIME);
	job_ends(&r, 2, 2, -ECANCELED);
	OK(&r, end);
	put_source(&r, "LATE");
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 0));
	submit(&r, 2, 1, 1, 1);
	nap(100000);
	guest_send(&r.g, &end);
	job_ends(&r, 2, 1, -ECANCELED);
	assert_int_equal(event(&r).status, 0);
	put_source(&r, "STUK");
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 0));
	submit(&r, 2, 1, 1, 1);
	nap(100000);
	guest_send(&r.g, &end);
	assert_int_equal(worker_wait(&r), VDEV_EXIT_STUCK);
	put_source(&r, "");
	rig_again(&r);
	serves_again(&r);
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 0));
	put_source(&r, "EXIT");
	submit(&r, 2, 1, 1, 1);
	assert_int_equal(worker_wait(&r), 3);
	put_source(&r, "");
	rig_again(&r);
	serves_again(&r);
	rig_end(&r);
}

/* The worker does not outlive its device; the next one serves. */
static void a_device_that_is_lost(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r, "vulkan:lost@2");
	OK(&r, copy_command(&r, 1, &plain));
	run(&r, 1, 1, 1);
	submit(&r, 1, 2, 1, 8);
	assert_int_equal(worker_wait(&r), VDEV_EXIT_LOST);
	rig_again(&r);
	serves_again(&r);
	rig_end(&r);
}

/* Until it is told to end; then it has a second. */
static void a_device_that_hangs(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r, "vulkan:hang@2");
	OK(&r, copy_command(&r, 1, &plain));
	run(&r, 1, 1, 1);
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 300000000));
	submit(&r, 2, 2, 1, 1);
	assert_int_equal(worker_wait(&r), VDEV_EXIT_LOST);
	rig_again(&r);
	serves_again(&r);
	rig_end(&r);
}

/* The job alone is to blame. */
static void a_device_without_memory(void **state)
{
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	OK(&r, copy_command(&r, 1, &plain));
	run(&r, 1, 1, 1);
	assert_int_equal(kill(r.pid, SIGRTMIN + 4), 0);
	OK(&r, guest_ctx(2, DRM_UNPU_PRIORITY_NORMAL, 0));
	submit(&r, 2, 1, 1, 1);
	job_ends(&r, 2, 1, -ENOMEM);
	run(&r, 2, 1, 3);
	rig_end(&r);
}

/* ---- a guest that writes meanwhile ----------------------------------------------------------- */

#define ROWS	4u
#define VOCAB	96u
#define HIDDEN	64u
#define CELLS	64u

static const struct unpu_embed_spec embed = {
	ROWS, 2, VOCAB, HIDDEN, DRM_UNPU_LAYOUT_F32_R32, 16 };
static const struct unpu_qkv_spec qkv = {
	ROWS, 2, CELLS, HIDDEN, 2, 1, 32, DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32,
	DRM_UNPU_KV_F16, UNPU_NORM_RMS, 0, 1e-5f, UNPU_ROPE_HALVES, 32, 16 };
static const struct unpu_attn_spec attn = {
	ROWS, 2, CELLS, 2, 1, 32, DRM_UNPU_KV_F16, 0.25f };
static const struct unpu_head_spec head = {
	ROWS, 2, HIDDEN, VOCAB, DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32, UNPU_NORM_RMS, 0,
	1e-5f, ROWS };
static const struct unpu_sample_spec sample = {
	ROWS, 2, CELLS, VOCAB, HIDDEN, ROWS, DRM_UNPU_LAYOUT_F32_R32, 16 };

static const struct { uint32_t kind; const void *spec; } reading[] = {
	{ UNPU_SHADER_EMBED, &embed }, { UNPU_SHADER_QKV, &qkv }, { UNPU_SHADER_ATTN, &attn },
	{ UNPU_SHADER_HEAD, &head }, { UNPU_SHADER_SAMPLE, &sample },
};

#define READERS	(sizeof(reading) / sizeof(reading[0]))

/* All that it binds lies in one buffer of the window, one range after the other. */
static struct unpu_proto_command reader_command(struct rig *r, uint32_t which, uint64_t *end)
{
	uint32_t kind = reading[which].kind, chunks = 1, b;
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_PROGRAM_CREATE, 10 + which);
	struct {
		struct drm_unpu_buffer buffers[UNPU_SHADER_MAX_BINDINGS];
	} tables;
	struct drm_unpu_dispatch dispatch = { .shader_id = 10 + which,
		.num_bindings = info->num_bindings, .const_bytes = info->const_bytes };
	struct unpu_shader_need need;
	uint8_t *to = r->g.window + AT_IMAGE;

	assert_int_equal(unpu_shader_need(kind, reading[which].spec, &chunks, info->const_bytes,
					  &need), 0);
	memcpy(dispatch.grid, need.grid, sizeof(dispatch.grid));
	for (*end = 0, b = 0; b < info->num_bindings; b++) {
		uint64_t size = need.bytes[b] ? need.bytes[b] : 256;

		tables.buffers[b] = (struct drm_unpu_buffer){
			LEFT, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, *end, size };
		*end += (size + 4095) / 4096 * 4096;
	}
	assert_true(*end <= BYTES);
	memcpy(to, tables.buffers, b * sizeof(tables.buffers[0]));
	to += b * sizeof(tables.buffers[0]);
	memcpy(to, &dispatch, sizeof(dispatch));
	to += sizeof(dispatch);
	for (b = 0; b < info->num_bindings; b++, to += sizeof(struct drm_unpu_binding))
		memcpy(to, &(struct drm_unpu_binding){ b }, sizeof(struct drm_unpu_binding));
	memcpy(to, &chunks, info->const_bytes);
	to += info->const_bytes;
	command.program = (struct unpu_proto_program){
		.offset = AT_IMAGE, .size = (uint64_t)(to - r->g.window) - AT_IMAGE,
		.num_buffers = info->num_bindings, .num_dispatches = 1,
		.num_bindings = info->num_bindings, .const_bytes = info->const_bytes,
	};
	return command;
}

static struct unpu_proto_command reader_shader(uint32_t which)
{
	const struct unpu_shader_info *info = unpu_shader_info(reading[which].kind);
	struct unpu_proto_command command = guest_shader(10 + which, info->name);

	command.shader.spec_words = info->spec_words;
	memcpy(command.shader.spec, reading[which].spec, info->spec_words * sizeof(uint32_t));
	return command;
}

static struct { struct rig *r; volatile bool stop; } scribbler;

/* The words of the state are what shaders look things up by; now and then anything at all. */
static void *scribble(void *arg)
{
	static const uint32_t words[] = { 0, 1, 2, 3, 63, 64, 95, 96, 0x7fffffff, 0x80000000,
					  0xffffffff, 0x7fc00000, 0x00010000 };
	uint32_t *window = (uint32_t *)(void *)(scribbler.r->g.window + AT_LEFT);
	uint64_t seed = 21;

	(void)arg;
	while (!scribbler.stop) {
		uint32_t at = random_below(&seed, 4) ? random_below(&seed, 1024) :
						       random_below(&seed, BYTES / 4);

		__atomic_store_n(&window[at], words[random_below(&seed, 13)], __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * Nothing outside the ranges is written: RIGHT, which lies behind them, stays; what the jobs end
 * with is theirs to say, the worker lives, and right programs have right results after it.
 */
static void a_guest_that_writes_meanwhile(void **state)
{
	uint8_t *right = malloc(BYTES);
	uint32_t which, turn;
	uint64_t end, seqno = 0;
	pthread_t thread;
	struct rig r;

	(void)state;
	assert_non_null(right);
	rig_begin(&r, NULL);
	for (which = 0; which < READERS; which++) {
		OK(&r, reader_shader(which));
		OK(&r, reader_command(&r, which, &end));
	}
	fill(&r, AT_RIGHT, BYTES, 5);
	memcpy(right, r.g.window + AT_RIGHT, BYTES);
	scribbler.r = &r;
	scribbler.stop = false;
	assert_int_equal(pthread_create(&thread, NULL, scribble, NULL), 0);
	for (turn = 0; turn < 60; turn++) {
		struct unpu_proto_event e;

		submit(&r, 1, ++seqno, 10 + turn % READERS, 1 + turn % 12);
		e = event(&r);
		assert_int_equal(e.value, seqno);
		assert_int_equal(e.status, 0);
	}
	scribbler.stop = true;
	pthread_join(thread, NULL);
	assert_memory_equal(right, r.g.window + AT_RIGHT, BYTES);
	free(right);
	serves_again(&r);
	rig_end(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t resident(pid_t pid)
{
	char path[64];
	unsigned long all, pages = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	file = fopen(path, "r");
	if (file && fscanf(file, "%lu %lu", &all, &pages) != 2)
		pages = 0;
	if (file)
		fclose(file);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A shader that is another one for each n. */
static struct unpu_proto_command another_shader(uint32_t id, uint32_t n)
{
	struct unpu_embed_spec spec = embed;
	struct unpu_proto_command command = guest_shader(id, "embed.1");

	/* No larger: what it binds stays as it is. */
	spec.vocab -= n % 32;
	spec.positions -= n / 32 % 16;
	spec.slots -= n / 512;
	command.shader.spec_words = sizeof(spec) / 4;
	memcpy(command.shader.spec, &spec, sizeof(spec));
	return command;
}

/* They count as the device's memory, and give it back: the driver's code for each of as many as a
 * guest likes is the host's memory. */
static void compiled_shaders_are_limited(void **state)
{
	uint32_t n, made[2] = { 0 }, turn;
	uint64_t end, before, after;
	struct rig r;

	(void)state;
	rig_begin(&r, NULL);
	before = resident(r.pid);
	for (turn = 0; turn < 2; turn++) {
		for (n = 0; n < 1000; n++) {
			struct unpu_proto_command program = reader_command(&r, 0, &end);
			int err;

			program.id = 100 + n;
			OK(&r, another_shader(10, n));
			err = ask(&r, program);
			if (!turn && !err)
				run(&r, n, 100 + n, 1);
			destroy(&r, UNPU_PROTO_SHADER_DESTROY, 10);
			if (err) {
				assert_int_equal(err, -ENOMEM);
				break;
			}
		}
		made[turn] = n;
		after = resident(r.pid);
		while (n--)
			destroy(&r, UNPU_PROTO_PROGRAM_DESTROY, 100 + n);
	}
	print_message("%u programs, %llu KiB each\n", made[0],
		      (unsigned long long)(after - before) / 1024 / made[0]);
	/* Of 64 MiB; some are the engine's own. */
	assert_in_range(made[0], 50, 110);
	assert_int_equal(made[1], made[0]);
	rig_end(&r);
}

/* ---- what is left ---------------------------------------------------------------------------- */

static uint32_t count_files(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	uint32_t count = 0;

	while (folder && (entry = readdir(folder)))
		count += entry->d_name[0] != '.';
	if (folder)
		closedir(folder);
	return count;
}

/* Neither ours nor the driver's: another guest, or this user, would take from there. */
static void nothing_is_kept_on_disk(void **state)
{
	char folder[] = "/tmp/unpu-vdev-XXXXXX";
	const char *was = getenv("XDG_CACHE_HOME");
	char *old = was ? strdup(was) : NULL;
	struct rig r;

	(void)state;
	skip_without_device();
	assert_non_null(mkdtemp(folder));
	setenv("XDG_CACHE_HOME", folder, 1);
	rig_begin(&r, NULL);
	if (old)
		setenv("XDG_CACHE_HOME", old, 1);
	else
		unsetenv("XDG_CACHE_HOME");
	free(old);
	serves_again(&r);
	rig_end(&r);
	assert_int_equal(count_files(folder), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says_of_itself),
		cmocka_unit_test(ranges_of_all_sizes),
		cmocka_unit_test(ranges_that_touch),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_stop_word_is_not_lost),
		cmocka_unit_test(cancelled_in_the_middle),
		cmocka_unit_test(programs_that_hang),
		cmocka_unit_test(a_device_that_is_lost),
		cmocka_unit_test(a_device_that_hangs),
		cmocka_unit_test(a_device_without_memory),
		cmocka_unit_test(a_guest_that_writes_meanwhile),
		cmocka_unit_test(compiled_shaders_are_limited),
		cmocka_unit_test(nothing_is_kept_on_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
