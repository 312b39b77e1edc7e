/* SPDX-License-Identifier: MIT */
/* A driver of the virtual NPU as small as can be, in user space: what a guest does in its window */
#ifndef UNPU_TESTS_GUEST_H
#define UNPU_TESTS_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "uapi/unpu_proto.h"

struct guest {
	uint8_t *window;
	uint64_t bytes;
	int doorbell, interrupt;
	uint32_t attach;		/* the last number */
	uint32_t commands_made, events_taken;
	uint32_t tag;			/* the last one */
};

/* Maps the window. */
void guest_init(struct guest *g, int window, int doorbell, int interrupt, uint64_t bytes);
void guest_finish(struct guest *g);

/* Words of the device's page, as they are now. */
uint32_t guest_word(const struct guest *g, uint64_t offset);
#define GUEST_WORD(__g, __field) \
	guest_word(__g, UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, __field))
/* Until the word is what it should be, or is not; false after 10 s. */
bool guest_wait_word(const struct guest *g, uint64_t offset, uint32_t value, bool equal);
#define GUEST_WAIT(__g, __field, __value) \
	guest_wait_word(__g, UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, __field), \
			__value, true)
#define GUEST_WAIT_NOT(__g, __field, __value) \
	guest_wait_word(__g, UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, __field), \
			__value, false)
struct unpu_proto_device guest_device(const struct guest *g);
uint32_t guest_progress(const struct guest *g, uint32_t ctx);

/* Waits for READY, asks to be attached with this version, and waits for that; false: it is not. */
bool guest_ask(struct guest *g, uint32_t version, uint32_t wait_ms);
/* As a driver does; fails the test where it is refused. */
void guest_attach(struct guest *g);
void guest_ring(const struct guest *g);

/* Fills in the tag, publishes, rings. */
uint32_t guest_send(struct guest *g, struct unpu_proto_command *command);
/* The next event; false after wait_ms. */
bool guest_event(struct guest *g, struct unpu_proto_event *event, uint32_t wait_ms);
/* Sends it and returns the status of its answer, which has to be the next event. */
int guest_ask_for(struct guest *g, struct unpu_proto_command *command, uint64_t *value);

/* The common commands, as they should be. */
struct unpu_proto_command guest_bo(uint32_t id, uint64_t offset, uint64_t size);
struct unpu_proto_command guest_shader(uint32_t id, const char *name);
struct unpu_proto_command guest_ctx(uint32_t id, uint32_t priority, uint64_t timeout_ns);
struct unpu_proto_command guest_job(uint32_t id, uint64_t seqno, uint32_t program,
				    uint32_t repeat);
struct unpu_proto_command guest_plain(uint32_t op, uint32_t id);

/* What a server of ivshmem gives who connects. */
struct guest_client {
	int fd, window, doorbell, interrupts[2];
	struct guest g;
};

/* The whole greeting, each number and descriptor as it has to be; and away again. */
int guest_connect(const char *path);
void guest_greet(struct guest_client *c, const char *path, uint64_t bytes);
void guest_leave(struct guest_client *c);

/*
 * All shaders but `copy` once, small: GUEST_LAYER_SHADERS commands that make them from first_id on,
 * and a program of one dispatch each over a buffer in the window, put at `at` in there. Every
 * binding has a range of its own in [0, GUEST_LAYER_BYTES), but for the state, with which the
 * buffer begins, and logits and maxima.
 */
#define GUEST_LAYER_SHADERS	8u
#define GUEST_LAYER_BYTES	(256u << 10)
struct unpu_proto_command guest_layer_shader(uint32_t first_id, uint32_t which);
struct unpu_proto_command guest_layer(struct guest *g, uint32_t id, uint64_t at, uint32_t first_id,
				      uint32_t bo);
/* One live row, and numbers between -1 and 1 that look random. */
void guest_layer_fill(struct guest *g, uint64_t at, uint32_t seed);

/* A program that copies one page from a buffer to another, put at `at` in the window. stop: id of
 * a buffer whose first word stops it, 0: none. */
struct unpu_proto_command guest_copy(struct guest *g, uint32_t id, uint64_t at, uint32_t shader,
				     uint32_t src, uint32_t dst, uint32_t stop);

#endif
