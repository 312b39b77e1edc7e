/* SPDX-License-Identifier: MIT */
#include "tests/lib/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* ---- the socket ------------------------------------------------------------------------------ */

int guest_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path));
	if (connect(fd, (void *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* One message of the server: its number, and the descriptor beside it or -1. */
static bool receive(int fd, int64_t *number, int *with)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	uint8_t bytes[8];
	struct iovec part = { bytes, sizeof(bytes) };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	struct cmsghdr *header;
	int i;

	*with = -1;
	if (poll(&ready, 1, WAIT_MS) != 1 ||
	    recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != sizeof(bytes))
		return false;
	assert_false(message.msg_flags & MSG_CTRUNC);
	for (i = 7, *number = 0; i >= 0; i--)
		*number = (int64_t)((uint64_t)*number << 8 | bytes[i]);
	header = CMSG_FIRSTHDR(&message);
	if (header)
		memcpy(with, CMSG_DATA(header), sizeof(*with));
	return true;
}

static int expect(int fd, int64_t number, bool with)
{
	int64_t got;
	int got_fd;

	assert_true(receive(fd, &got, &got_fd));
	assert_int_equal(got, number);
	assert_int_equal(got_fd >= 0, with);
	return got_fd;
}

void guest_greet(struct guest_client *c, const char *path, uint64_t bytes)
{
	c->fd = guest_connect(path);
	assert_true(c->fd >= 0);
	expect(c->fd, 0, false);
	expect(c->fd, UNPU_PROTO_PEER_DRIVER, false);
	c->window = expect(c->fd, -1, true);
	c->doorbell = expect(c->fd, UNPU_PROTO_PEER_DEVICE, true);
	c->interrupts[0] = expect(c->fd, UNPU_PROTO_PEER_DRIVER, true);
	c->interrupts[1] = expect(c->fd, UNPU_PROTO_PEER_DRIVER, true);
	guest_init(&c->g, c->window, c->doorbell, c->interrupts[0], bytes);
}

void guest_leave(struct guest_client *c)
{
	guest_finish(&c->g);
	close(c->fd);
	close(c->window);
	close(c->doorbell);
	close(c->interrupts[0]);
	close(c->interrupts[1]);
}

/* ---- a layer --------------------------------------------------------------------------------- */

static const struct unpu_embed_spec embed = { 2, 1, 40, 32, DRM_UNPU_LAYOUT_GGUF_F16, 8 };
static const struct unpu_qkv_spec qkv = {
	2, 1, 64, 32, 2, 1, 16, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, DRM_UNPU_KV_F16,
	UNPU_NORM_RMS, 0, 1e-5f, UNPU_ROPE_HALVES, 16, 8 };
static const struct unpu_attn_spec attn = { 2, 1, 64, 2, 1, 16, DRM_UNPU_KV_INT8, 0.25f };
static const struct unpu_attn_out_spec attn_out = {
	2, 1, 64, 32, 2, 16, DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32, UNPU_FLAG_BIAS };
static const struct unpu_ffn_in_spec ffn_in = {
	2, 1, 32, 40, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, UNPU_NORM_LAYER,
	UNPU_FLAG_NORM_BIAS | UNPU_FLAG_GATED, UNPU_ACT_GELU, 1e-5f };
static const struct unpu_ffn_out_spec ffn_out = {
	2, 1, 32, 40, DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32, UNPU_FLAG_BIAS };
static const struct unpu_head_spec head = {
	2, 1, 32, 40, DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32, UNPU_NORM_RMS, 0, 1e-5f, 2 };
static const struct unpu_sample_spec sample = { 2, 1, 64, 40, 32, 2, DRM_UNPU_LAYOUT_GGUF_F16, 8 };

static const void *const layer_specs[GUEST_LAYER_SHADERS] = {
	[UNPU_SHADER_EMBED] = &embed, [UNPU_SHADER_QKV] = &qkv, [UNPU_SHADER_ATTN] = &attn,
	[UNPU_SHADER_ATTN_OUT] = &attn_out, [UNPU_SHADER_FFN_IN] = &ffn_in,
	[UNPU_SHADER_FFN_OUT] = &ffn_out, [UNPU_SHADER_HEAD] = &head,
	[UNPU_SHADER_SAMPLE] = &sample,
};

#define LAYER_STATE	4096u		/* ranges of the others begin there */
#define LAYER_BUFFERS	64u

struct unpu_proto_command guest_layer_shader(uint32_t first_id, uint32_t which)
{
	const struct unpu_shader_info *info = unpu_shader_info(which);
	struct unpu_proto_command command = guest_shader(first_id + which, info->name);

	command.shader.spec_words = info->spec_words;
	memcpy(command.shader.spec, layer_specs[which], info->spec_words * sizeof(uint32_t));
	return command;
}

struct layer {
	struct drm_unpu_buffer buffers[LAYER_BUFFERS];
	struct drm_unpu_dispatch dispatches[GUEST_LAYER_SHADERS];
	struct drm_unpu_binding bindings[LAYER_BUFFERS];
	uint32_t chunks;		/* the constant of attn */
	uint32_t num;			/* buffers, and bindings: the first one is the state */
	uint64_t end;			/* of the ranges so far */
	uint64_t head[UNPU_HEAD_BINDINGS];	/* where those of that shader are */
};

/* What `sample` reads is what `head` wrote. */
static uint64_t layer_place(struct layer *l, uint32_t kind, uint32_t binding, uint64_t size)
{
	uint64_t at = l->end;

	if (!binding)
		return 0;
	if (kind == UNPU_SHADER_SAMPLE && binding == UNPU_SAMPLE_LOGITS)
		return l->head[UNPU_HEAD_LOGITS];
	if (kind == UNPU_SHADER_SAMPLE && binding == UNPU_SAMPLE_MAXIMA)
		return l->head[UNPU_HEAD_MAXIMA];
	l->end += (size + 63) / 64 * 64;
	if (kind == UNPU_SHADER_HEAD)
		l->head[binding] = at;
	return at;
}

static void layer_add(struct layer *l, uint32_t kind, uint32_t first_id, uint32_t bo)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_shader_need need;
	uint32_t b;

	assert_int_equal(unpu_shader_need(kind, layer_specs[kind], &l->chunks, info->const_bytes,
					  &need), 0);
	l->dispatches[kind] = (struct drm_unpu_dispatch){
		first_id + kind, l->num, info->num_bindings, 0, info->const_bytes,
		{ need.grid[0], need.grid[1], need.grid[2] },
	};
	for (b = 0; b < info->num_bindings; b++, l->num++) {
		uint64_t size = need.bytes[b] ? need.bytes[b] : 32;

		assert_true(l->num < LAYER_BUFFERS);
		l->bindings[l->num].buffer = l->num;
		l->buffers[l->num] = (struct drm_unpu_buffer){
			bo, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE,
			layer_place(l, kind, b, size), size,
		};
	}
}

struct unpu_proto_command guest_layer(struct guest *g, uint32_t id, uint64_t at, uint32_t first_id,
				      uint32_t bo)
{
	struct unpu_proto_command command = guest_plain(UNPU_PROTO_PROGRAM_CREATE, id);
	struct layer l = { .chunks = 1, .end = LAYER_STATE };
	uint8_t *to = g->window + at;
	uint32_t kind;

	for (kind = 0; kind < GUEST_LAYER_SHADERS; kind++)
		layer_add(&l, kind, first_id, bo);
	assert_true(l.end <= GUEST_LAYER_BYTES);
	memcpy(to, l.buffers, l.num * sizeof(l.buffers[0]));
	to += l.num * sizeof(l.buffers[0]);
	memcpy(to, l.dispatches, sizeof(l.dispatches));
	to += sizeof(l.dispatches);
	memcpy(to, l.bindings, l.num * sizeof(l.bindings[0]));
	to += l.num * sizeof(l.bindings[0]);
	memcpy(to, &l.chunks, sizeof(l.chunks));
	to += sizeof(l.chunks);
	command.program = (struct unpu_proto_program){
		.offset = at, .size = (uint64_t)(to - g->window) - at, .num_buffers = l.num,
		.num_dispatches = GUEST_LAYER_SHADERS, .num_bindings = l.num, .const_bytes = 4,
	};
	return command;
}

void guest_layer_fill(struct guest *g, uint64_t at, uint32_t seed)
{
	uint64_t rows = unpu_state_rows_offset(1), i;
	const struct unpu_state_header header = { .rows_live = 1 };
	const struct unpu_state_row row = { 3, 1, 1, 0, UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE, 0,
					    { 0 } };
	/* As f16 they are small, as int8 any, as f32 between 2^-31 and 2^-15. */
	for (i = LAYER_STATE; i < GUEST_LAYER_BYTES; i += 2) {
		uint16_t half;

		seed = seed * 1664525u + 1013904223u;
		half = (uint16_t)(0x3000 | (seed >> 16 & 0x83ff));
		memcpy(g->window + at + i, &half, sizeof(half));
	}
	memset(g->window + at, 0, LAYER_STATE);
	memcpy(g->window + at, &header, sizeof(header));
	memcpy(g->window + at + rows, &row, sizeof(row));
}
