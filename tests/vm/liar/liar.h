/* SPDX-License-Identifier: MIT */
/*
 * A device process for tests that lies when it is told to. It speaks to QEMU as unpu-vdev does, and
 * to the driver as uapi/unpu_proto.h says, with one guest, one process and nothing but the shader
 * `copy`.
 *
 *   liar.c     the socket, what it is told on stdin, the loop, attaching
 *   engine.c   buffers, programs, contexts, jobs
 *   lies.c     what is said in place of, or beside, the truth
 *
 * One thread does all but flipping words of the window, which does a second one as fast as it can.
 */
#ifndef UNPU_TESTS_LIAR_H
#define UNPU_TESTS_LIAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/unpu-vdev/link.h"
#include "tools/unpu-vdev/vdev.h"

#define LIAR_WINDOW	(8ull << 20)
#define LIAR_MS		1000000ull
#define LIAR_MAX_LATE	256u

/* Where a lie can be told: at commands that are answered, and at jobs. */
enum liar_op {
	LIAR_BO, LIAR_SHADER, LIAR_PROGRAM, LIAR_CTX, LIAR_END, LIAR_JOB, LIAR_NUM_OPS,
};

enum liar_how {
	LIAR_HONEST = 0,
	LIAR_OFF,	/* no device at all */
	LIAR_ATTACH,	/* something is wrong with how it attaches: enum liar_attach */
	LIAR_INFO,	/* one of liar_num_infos() */
	LIAR_MUTE,	/* no answer */
	LIAR_DOUBLE,	/* each twice */
	LIAR_STRAY,	/* before the truth, what nobody waits for */
	LIAR_KIND,	/* before the truth, the same in events of other types */
	LIAR_ABSURD,	/* errors, values and times that cannot be */
	LIAR_EARLY,	/* jobs are done before they write */
	LIAR_LATE,	/* after arg ms */
	LIAR_INDEX,	/* ring indices of all kinds at each command */
	LIAR_EPOCH,	/* another epoch at each command: enum liar_epoch */
	LIAR_DIE,	/* BOOT and epoch 0 at a command, a new one arg ms later */
	LIAR_STOP,	/* nothing at a command, a new one arg ms later */
	LIAR_FLIP,	/* words change all the time: enum liar_words */
	LIAR_STORM,	/* interrupts without end on vector arg */
	LIAR_SILENT,	/* no interrupts */
	LIAR_PROGRESS,	/* jobs do not end, their progress words run; contexts do after arg ms */
	LIAR_RANDOM,	/* any of these at any time */
};

enum liar_attach {
	LIAR_NEVER, LIAR_WRONG, LIAR_BOOT, LIAR_FAILED, LIAR_MAGIC, LIAR_VERSION, LIAR_SIZE,
	LIAR_FORGETS, LIAR_NUM_ATTACH,
};

enum liar_epoch { LIAR_BACK, LIAR_JUMP, LIAR_ZERO, LIAR_NUM_EPOCHS };

enum liar_words {
	LIAR_RINGS, LIAR_BELLS, LIAR_HEAD, LIAR_HEART, LIAR_LIMITS, LIAR_EVENTS, LIAR_CTXS,
	LIAR_EPOCHS, LIAR_ALL, LIAR_NUM_WORDS,
};

struct liar_lie {
	enum liar_how how;
	uint32_t ops;		/* bits 1 << enum liar_op */
	uint32_t arg;
};

struct liar_late {
	uint64_t at;		/* 0: none */
	struct unpu_proto_event event;
};

struct liar {
	struct vdev_socket sock;
	struct vdev_shared shared;
	int guest;		/* -1: not yet */
	uint8_t *window;
	struct vdev_link link;
	struct liar_lie lie;
	uint64_t beat_at, back_at;	/* back_at: it stands still, or is dead, until then */
	uint64_t forgets_at, dies_at;
	uint32_t random, beside;	/* states of liar_random(): beside is the flipper's */
	struct liar_late late[LIAR_MAX_LATE];
	/* Commands seen, and those with bytes in them that should be 0. */
	uint64_t commands, leaks;
	pthread_t flipper;
	bool flips;
	atomic_bool flip_stop;
};

/* ---- liar.c --------------------------------------------------------------------------------- */

/* Another process in its place: a new epoch, with nothing in it. */
void liar_begin(struct liar *liar);
uint32_t liar_random(uint32_t *state);

/* ---- engine.c ------------------------------------------------------------------------------- */

/* What it says of itself when it is honest. */
struct drm_unpu_dev_info liar_info(void);
/* Does it, and answers by liar_tell(). */
void engine_command(struct liar *liar, const struct unpu_proto_command *command);
/* Goes on writing where the context's last job did. */
void engine_write_on(struct liar *liar);
void engine_forget(void);

/* ---- lies.c --------------------------------------------------------------------------------- */

/* 0, or -EINVAL: there is no such lie. */
int lie_parse(const char *text, struct liar_lie *lie);
/* Begins and ends what goes on all the time. */
void lie_start(struct liar *liar);
void lie_stop(struct liar *liar);
/* The truth about a command or job; what is said, and when, is another matter. */
void liar_tell(struct liar *liar, enum liar_op op, const struct unpu_proto_event *event);
/* Before a command is done; true: it is not. */
bool lie_before(struct liar *liar, const struct unpu_proto_command *command);
/* Now and then. Until when it may sleep. */
uint64_t lie_now_and_then(struct liar *liar, uint64_t now);
/* True: it attaches nobody, or as somebody else. */
bool lie_attach(struct liar *liar, uint32_t number);
/* After READY: what the page says else. */
void lie_page(struct liar *liar);
uint32_t lie_num_infos(void);
void lie_info(struct drm_unpu_dev_info *info, uint32_t *num_shaders,
	      struct drm_unpu_shader_name *names, uint32_t which);

#endif
