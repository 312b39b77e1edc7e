/* SPDX-License-Identifier: MIT */
#include "tests/lib/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "shaders/shaders.h"

#define WAIT_MS		10000u

static void nap(void)
{
	const struct timespec time = { 0, 200000 };

	nanosleep(&time, NULL);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void guest_init(struct guest *g, int window, int doorbell, int interrupt, uint64_t bytes)
{
	*g = (struct guest){ .bytes = bytes, .doorbell = doorbell, .interrupt = interrupt };
	g->window = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, window, 0);
	assert_true(g->window != MAP_FAILED);
}

void guest_finish(struct guest *g)
{
	munmap(g->window, g->bytes);
}

/* ---- words ----------------------------------------------------------------------------------- */

uint32_t guest_word(const struct guest *g, uint64_t offset)
{
	return __atomic_load_n((const uint32_t *)(const void *)(g->window + offset),
			       __ATOMIC_SEQ_CST);
}

static void put(struct guest *g, uint64_t offset, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(g->window + offset), value, __ATOMIC_SEQ_CST);
}

#define PUT(__g, __field, __value) \
	put(__g, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, __field), __value)

bool guest_wait_word(const struct guest *g, uint64_t offset, uint32_t value, bool equal)
{
	uint64_t end = now_ms() + WAIT_MS;

	while ((guest_word(g, offset) == value) != equal) {
		if (now_ms() > end)
			return false;
		nap();
	}
	return true;
}

struct unpu_proto_device guest_device(const struct guest *g)
{
	struct unpu_proto_device device;

	memcpy(&device, g->window + UNPU_PROTO_DEVICE, sizeof(device));
	return device;
}

uint32_t guest_progress(const struct guest *g, uint32_t ctx)
{
	return guest_word(g, UNPU_PROTO_CTXS + ctx * sizeof(struct unpu_proto_ctx));
}

void guest_ring(const struct guest *g)
{
	const uint64_t one = 1;

	assert_int_equal(write(g->doorbell, &one, sizeof(one)), sizeof(one));
}

/* ---- attaching ------------------------------------------------------------------------------- */

bool guest_ask(struct guest *g, uint32_t version, uint32_t wait_ms)
{
	uint64_t end = now_ms() + wait_ms;

	assert_true(GUEST_WAIT(g, state, UNPU_PROTO_STATE_READY));
	memset(g->window + UNPU_PROTO_DRIVER, 0, sizeof(struct unpu_proto_driver));
	g->commands_made = 0;
	g->events_taken = 0;
	PUT(g, wants_doorbell, 1);
	PUT(g, version, version);
	PUT(g, attach, ++g->attach);
	guest_ring(g);
	while (GUEST_WORD(g, attached) != g->attach) {
		if (now_ms() > end)
			return false;
		nap();
	}
	return true;
}

void guest_attach(struct guest *g)
{
	assert_true(guest_ask(g, UNPU_PROTO_VERSION, WAIT_MS));
}

/* ---- commands and events --------------------------------------------------------------------- */

uint32_t guest_send(struct guest *g, struct unpu_proto_command *command)
{
	uint32_t slot = g->commands_made % UNPU_PROTO_NUM_COMMANDS;

	command->tag = ++g->tag;
	memcpy(g->window + UNPU_PROTO_COMMANDS + slot * sizeof(*command), command,
	       sizeof(*command));
	PUT(g, commands_made, ++g->commands_made);
	guest_ring(g);
	return command->tag;
}

bool guest_event(struct guest *g, struct unpu_proto_event *event, uint32_t wait_ms)
{
	uint64_t end = now_ms() + wait_ms;
	uint32_t slot = g->events_taken % UNPU_PROTO_NUM_EVENTS;

	while (GUEST_WORD(g, events_made) == g->events_taken) {
		if (now_ms() > end)
			return false;
		nap();
	}
	memcpy(event, g->window + UNPU_PROTO_EVENTS + slot * sizeof(*event), sizeof(*event));
	PUT(g, events_taken, ++g->events_taken);
	return true;
}

int guest_ask_for(struct guest *g, struct unpu_proto_command *command, uint64_t *value)
{
	uint32_t tag = guest_send(g, command);
	struct unpu_proto_event event;

	assert_true(guest_event(g, &event, WAIT_MS));
	assert_int_equal(event.type, UNPU_PROTO_EVENT_ANSWER);
	assert_int_equal(event.tag, tag);
	if (value)
		*value = event.value;
	return event.status;
}

struct unpu_proto_command guest_plain(uint32_t op, uint32_t id)
{
	struct unpu_proto_command command;

	memset(&command, 0, sizeof(command));
	command.op = op;
	command.id = id;
	return command;
}

struct unpu_proto_command guest_bo(uint32_t id, uint64_t offset, uint64_t size)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_BO_CREATE, id);

	command.bo.flags = offset ? DRM_UNPU_BO_MMAP : 0;
	command.bo.offset = offset;
	command.bo.size = size;
	return command;
}

struct unpu_proto_command guest_shader(uint32_t id, const char *name)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_SHADER_CREATE, id);

	memcpy(command.shader.name.name, name, strlen(name));
	return command;
}

struct unpu_proto_command guest_ctx(uint32_t id, uint32_t priority, uint64_t timeout_ns)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_CTX_CREATE, id);

	command.ctx.priority = priority;
	command.ctx.timeout_ns = timeout_ns;
	return command;
}

struct unpu_proto_command guest_job(uint32_t id, uint64_t seqno, uint32_t program,
				    uint32_t repeat)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_JOB, id);

	command.job.seqno = seqno;
	command.job.num_runs = 1;
	command.job.runs[0].program_id = program;
	command.job.runs[0].repeat = repeat;
	return command;
}

struct unpu_proto_command guest_copy(struct guest *g, uint32_t id, uint64_t at, uint32_t shader,
				     uint32_t src, uint32_t dst, uint32_t stop)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_PROGRAM_CREATE, id);
	const struct {
		struct drm_unpu_buffer buffers[3];
		struct drm_unpu_dispatch dispatch;
		struct drm_unpu_binding bindings[2];
		struct unpu_copy_const constants;
	} image = {
		.buffers = {
			{ src, DRM_UNPU_ACCESS_READ, 0, 4096 },
			{ dst, DRM_UNPU_ACCESS_WRITE, 0, 4096 },
			{ stop ? stop : src, DRM_UNPU_ACCESS_READ, 0, 4096 },
		},
		.dispatch = {
			.shader_id = shader, .num_bindings = 2, .const_bytes = 8,
			.grid = { 1, 1, 1 },
		},
		.bindings = { { 0 }, { 1 } },
		.constants = { .bytes_lo = 4096 },
	};

	_Static_assert(sizeof(image) == 3 * 24 + 32 + 8 + 8, "no gaps");
	memcpy(g->window + at, &image, sizeof(image));
	command.program.offset = at;
	command.program.size = sizeof(image);
	command.program.num_buffers = 3;
	command.program.num_dispatches = 1;
	command.program.num_bindings = 2;
	command.program.const_bytes = sizeof(image.constants);
	command.program.flags = stop ? DRM_UNPU_PROGRAM_STOP : 0;
	command.program.stop_buffer = stop ? 2 : 0;
	return command;
}
