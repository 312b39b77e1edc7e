/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the kernel driver and the device process of the virtual NPU say to each other through their
 * shared window (BAR2 of ivshmem), two doorbells and nothing else.
 *
 * Both ends are little-endian. Either may be hostile: who reads a word of the window reads it once,
 * by an acquire load or a copy, and checks the copy; whole structs are copied before they are
 * looked at. The window is laid out as follows, everything else of it is the heap, which the driver
 * shares out:
 *
 *   UNPU_PROTO_DEVICE   struct unpu_proto_device     written by the device
 *   UNPU_PROTO_DRIVER   struct unpu_proto_driver     written by the driver
 *   UNPU_PROTO_SHADERS  struct drm_unpu_shader_name[num_shaders], by the device before READY
 *   UNPU_PROTO_CTXS     struct unpu_proto_ctx[UNPU_PROTO_MAX_CTXS], by the device
 *   UNPU_PROTO_COMMANDS struct unpu_proto_command[UNPU_PROTO_NUM_COMMANDS], by the driver
 *   UNPU_PROTO_EVENTS   struct unpu_proto_event[UNPU_PROTO_NUM_EVENTS], by the device
 *   UNPU_PROTO_HEAP     buffers with DRM_UNPU_BO_MMAP, and what PROGRAM_CREATE carries
 *
 * Rings. Indices run freely over 32 bits; slot = index % number. The producer fills the slot and
 * then store-releases its index; the consumer load-acquires that, copies the slot and then
 * store-releases its own. An index that runs more than the ring's number ahead is a broken peer.
 * Each command that asks for an answer, and each job, makes exactly one event: the device takes a
 * command only when its event will have a slot.
 *
 * Doorbells. Who has published looks, after a full barrier, at the other's `wants_doorbell` and
 * rings when it is not 0; who goes to sleep sets its own, makes a full barrier and looks once more
 * at the ring. Rings may be lost (an ivshmem peer that is not there takes none): the driver polls
 * with a job in flight or an answer due, the device at each heartbeat.
 *
 * Attaching. The device process lays out its page with state BOOT, opens its engine, and sets
 * READY. A driver that begins (boot, bind, resume, a device that is not trusted any more) zeroes
 * its page, sets `version` and then `attach` to a number other than 0 and unlike the last, and
 * rings. The device cancels and forgets everything of the driver before, takes both rings as empty
 * with all four indices 0, counts `epoch` up and sets `attached` to the same number. Until then the
 * driver reads nothing but state, epoch and attached. A device process that starts anew finds the
 * window as its predecessor left it: it sets BOOT, counts `epoch` up, `attached` 0, and rings once
 * it is READY; the driver sees another epoch than the one it attached to: everything it had is
 * gone, and it attaches again.
 *
 * Liveness. `heartbeat` counts up every UNPU_PROTO_HEARTBEAT_MS; a missed one alone proves nothing.
 * unpu_proto_ctx.progress changes after each repeat of a job of the context, and when the device
 * let others go before it.
 */
#ifndef UNPU_PROTO_H
#define UNPU_PROTO_H

#include "uapi/unpu_accel.h"

#define UNPU_PROTO_MAGIC	0x55504e55u	/* "UNPU" */
/*
 * Another number is another protocol: no two versions talk to each other. 2: unpu_proto_device is
 * larger, as drm_unpu_dev_info has room for 64 matrices, and its indices lie elsewhere.
 */
#define UNPU_PROTO_VERSION	2u

/* ivshmem: the device process is peer 0 with one vector, each guest peer 1 with two. */
#define UNPU_PROTO_PEER_DEVICE	0u
#define UNPU_PROTO_PEER_DRIVER	1u
#define UNPU_PROTO_VECTORS	2u

#define UNPU_PROTO_HEARTBEAT_MS	100u

#define UNPU_PROTO_DEVICE	0x0000u
#define UNPU_PROTO_DRIVER	0x1000u
#define UNPU_PROTO_SHADERS	0x2000u
#define UNPU_PROTO_CTXS		0x3000u
#define UNPU_PROTO_COMMANDS	0x8000u
#define UNPU_PROTO_EVENTS	0x10000u
#define UNPU_PROTO_HEAP		0x20000u
#define UNPU_PROTO_MIN_WINDOW	0x400000u	/* 4 MiB; a power of two, as a BAR is */

#define UNPU_PROTO_MAX_SHADERS	128u
#define UNPU_PROTO_MAX_CTXS	128u		/* ids 1 .. 127 */
#define UNPU_PROTO_MAX_IDS	65536u		/* of buffers, shaders, programs: 1 .. 65535 */
#define UNPU_PROTO_NUM_COMMANDS	128u
#define UNPU_PROTO_NUM_EVENTS	512u
/* Per context, so that what is due always fits the events: 127 x 2 jobs + 128 commands. */
#define UNPU_PROTO_MAX_JOBS	2u
#define UNPU_PROTO_MAX_RUNS	16u
#define UNPU_PROTO_MAX_SPEC	24u

enum unpu_proto_state {
	UNPU_PROTO_STATE_BOOT = 0,
	UNPU_PROTO_STATE_READY,
	UNPU_PROTO_STATE_FAILED,	/* the engine does not open; see the device process's log */
};

struct unpu_proto_device {
	__u32 magic;
	__u32 version;
	__u64 window_bytes;
	__u32 state;			/* enum unpu_proto_state */
	__u32 epoch;			/* never 0 */
	__u32 attached;			/* unpu_proto_driver.attach, answered */
	__u32 heartbeat;
	__u32 num_shaders;
	__u32 pad;
	struct drm_unpu_dev_info info;	/* heap_window_bytes: without what lies below the heap */
	__u8 reserved[640];

	/* Words that change often, apart from the rest. */
	__u32 wants_doorbell;
	__u32 commands_taken;		/* index of the command ring's consumer */
	__u32 events_made;		/* index of the event ring's producer */
	__u32 pad2;
};

struct unpu_proto_driver {
	__u32 version;
	__u32 attach;
	__u8 reserved[1016];

	__u32 wants_doorbell;
	__u32 commands_made;
	__u32 events_taken;
};

struct unpu_proto_ctx {
	__u32 progress;
	__u32 reserved[3];
};

/*
 * Commands. `id` names the object; the driver chooses it, and an id in use is -EEXIST. An answer is
 * an event with the command's tag. DESTROY never fails and has no answer but that of a context:
 * jobs end with -ECANCELED, each with its event, and then the answer says that nothing of the
 * context runs any more. What jobs and programs still use goes after them.
 *
 * The range of a buffer is free at once. The device gives its pages back to the machine, so that
 * they read 0, before it counts that BO_DESTROY as taken: what the driver writes there before
 * `commands_taken` has passed the command may be lost.
 */
enum unpu_proto_op {
	UNPU_PROTO_BO_CREATE = 1,	/* answered */
	UNPU_PROTO_BO_DESTROY,
	UNPU_PROTO_SHADER_CREATE,	/* answered */
	UNPU_PROTO_SHADER_DESTROY,
	UNPU_PROTO_PROGRAM_CREATE,	/* answered, value: error_index */
	UNPU_PROTO_PROGRAM_DESTROY,
	UNPU_PROTO_CTX_CREATE,		/* answered */
	UNPU_PROTO_CTX_DESTROY,		/* answered */
	UNPU_PROTO_JOB,			/* a JOB event */
};

struct unpu_proto_bo {
	__u32 flags;		/* DRM_UNPU_BO_MMAP: in the window, at offset; else the device's */
	__u32 pad;
	__u64 offset;		/* in the window, at least UNPU_PROTO_HEAP, whole pages */
	__u64 size;		/* whole pages */
};

struct unpu_proto_shader {
	struct drm_unpu_shader_name name;
	__u32 spec_words;
	__u32 spec[UNPU_PROTO_MAX_SPEC];
};

/*
 * A program lies in the heap, [offset, offset + size), until it is answered: an array of struct
 * drm_unpu_buffer, each `handle` an id of a buffer; of struct drm_unpu_dispatch, each `shader_id`
 * an id of a shader; of struct drm_unpu_binding; and the constants; without gaps, in the sizes of
 * version 1.0.
 */
struct unpu_proto_program {
	__u64 offset;		/* a multiple of 8 */
	__u64 size;
	__u32 num_buffers;
	__u32 num_dispatches;
	__u32 num_bindings;
	__u32 const_bytes;
	__u32 flags;		/* DRM_UNPU_PROGRAM_STOP */
	__u32 stop_buffer;
	__u32 stop_offset;
	__u32 pad;
};

struct unpu_proto_ctx_create {
	__u32 priority;		/* enum drm_unpu_priority */
	__u32 pad;
	__u64 timeout_ns;
};

/* ids of programs in place of the file's */
struct unpu_proto_job {
	__u64 seqno;		/* of the context: rises */
	__u32 num_runs;
	__u32 pad;
	struct drm_unpu_run runs[UNPU_PROTO_MAX_RUNS];
};

struct unpu_proto_command {
	__u32 op;		/* enum unpu_proto_op */
	__u32 id;
	__u32 tag;		/* comes back in the answer */
	__u32 pad;
	union {
		struct unpu_proto_bo bo;
		struct unpu_proto_shader shader;
		struct unpu_proto_program program;
		struct unpu_proto_ctx_create ctx;
		struct unpu_proto_job job;
		__u8 bytes[240];
	};
};

enum unpu_proto_event_type {
	UNPU_PROTO_EVENT_ANSWER = 1,
	UNPU_PROTO_EVENT_JOB,
};

struct unpu_proto_event {
	__u32 type;
	__u32 tag;		/* ANSWER: of the command */
	__u32 id;		/* JOB: the context */
	__s32 status;		/* 0 or -errno */
	__u64 value;		/* ANSWER: error_index of PROGRAM_CREATE; JOB: seqno */
	__u64 busy_ns;		/* JOB: time it ran */
};

#define UNPU_PROTO_ASSERT(expr)	_Static_assert(expr, #expr)
/* Where each side finds these is part of UNPU_PROTO_VERSION. */
UNPU_PROTO_ASSERT(UNPU_PROTO_VERSION == 2);
UNPU_PROTO_ASSERT(sizeof(struct unpu_proto_device) == 1160);
UNPU_PROTO_ASSERT(sizeof(struct unpu_proto_driver) == 1036);
UNPU_PROTO_ASSERT(sizeof(struct unpu_proto_ctx) == 16);
UNPU_PROTO_ASSERT(sizeof(struct unpu_proto_command) == 256);
UNPU_PROTO_ASSERT(sizeof(struct unpu_proto_event) == 32);
UNPU_PROTO_ASSERT(UNPU_PROTO_MAX_CTXS * sizeof(struct unpu_proto_ctx) <=
		  UNPU_PROTO_COMMANDS - UNPU_PROTO_CTXS);
UNPU_PROTO_ASSERT(UNPU_PROTO_COMMANDS + UNPU_PROTO_NUM_COMMANDS * 256 <= UNPU_PROTO_EVENTS);
UNPU_PROTO_ASSERT(UNPU_PROTO_EVENTS + UNPU_PROTO_NUM_EVENTS * 32 <= UNPU_PROTO_HEAP);

#endif
