/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The virtual NPU, between the files that are it: unpu_proto*.c.
 *
 * The device process may be hostile. Every word of the window that it writes is loaded once, by
 * READ_ONCE() or an acquire load, or copied by unpu_proto_read(), and only the copy is checked and
 * used. What it says wrong costs a message, and at worst everything that is in the device.
 *
 * Lock order: attach_lock, event_lock, lock. `attached` changes under the latter two.
 * unpu_job_done() is called under event_lock alone, unpu_device_lost() under none. On the path that
 * signals fences are event_lock and lock: nothing allocates under them.
 */
#ifndef UNPU_PROTO_PRIV_H
#define UNPU_PROTO_PRIV_H

#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "unpu_transport.h"
#include "uapi/unpu_proto.h"

/* Between two looks at the rings and the epoch; interrupts may be lost. */
#define UNPU_PROTO_POLL_FULL_MS	10	/* something waits for room in the command ring */
#define UNPU_PROTO_POLL_BUSY_MS	100	/* the device owes something */
#define UNPU_PROTO_POLL_IDLE_MS	1000

#define UNPU_PROTO_NUM_REQUESTS	UNPU_PROTO_NUM_COMMANDS
/* No job is ever refused for want of room in the ring. */
#define UNPU_PROTO_BACKLOG	(UNPU_PROTO_MAX_CTXS * UNPU_PROTO_MAX_JOBS)

enum unpu_proto_kind {
	UNPU_PROTO_KIND_BO,
	UNPU_PROTO_KIND_SHADER,
	UNPU_PROTO_KIND_PROGRAM,
	UNPU_PROTO_KIND_CTX,
	UNPU_PROTO_NUM_KINDS,
};

/* Bitmaps, so that neither taking an id nor giving it back allocates or fails. */
struct unpu_proto_ids {
	unsigned long *used;	/* somebody here has it */
	unsigned long *live;	/* the device has it */
	unsigned long *ending;	/* its DESTROY waits for room in the ring; then it is free */
	u32 size, next, num_ending;
};

/* A command that is to be answered. */
struct unpu_proto_request {
	u32 tag;		/* 0: free */
	u32 kind, id;
	bool destroy;
	bool done;
	bool zombie;		/* nobody waits: the answer is undone, `image` freed */
	bool undone;		/* a DESTROY was sent after it already */
	s32 status;
	u64 value;
	struct drm_mm_node *image;
	const struct unpu_ctx *owner;	/* of a context that is made */
};

/* A context's jobs that the device has. */
struct unpu_proto_flight {
	const struct unpu_ctx *owner;	/* only compared; from the answer to the end */
	u32 num;
	struct {
		u64 seqno;
		ktime_t start;
	} jobs[UNPU_PROTO_MAX_JOBS];
};

struct unpu_proto {
	struct unpu_device *udev;
	struct unpu_transport *transport;
	const struct unpu_proto_device *dev;
	struct unpu_proto_driver *drv;
	struct workqueue_struct *wq;
	wait_queue_head_t wait;		/* answers, room in the ring, attaching, loss */

	struct mutex attach_lock;	/* one attaches at a time; what follows */
	struct drm_unpu_dev_info info;	/* as said at the first time */
	bool known;			/* that, and udev->shaders */
	bool refused;			/* the last attempt failed, which was said */
	/* Here, as nothing on the way out of a loss should allocate. */
	struct drm_unpu_shader_name names[UNPU_PROTO_MAX_SHADERS];

	struct mutex event_lock;	/* who takes events; what follows */
	u32 events_taken;
	u32 beat;
	unsigned long beat_time;	/* jiffies */
	bool silent;

	spinlock_t lock;		/* what follows */
	bool open;			/* between init and fini: the window may be touched */
	bool suspended;
	bool attached;
	bool broken;			/* the device has said what cannot be */
	bool stuck;			/* it has taken nothing for as long as callers wait */
	int device_epoch;		/* unpu_device.epoch when it attached */
	unsigned long moved;		/* jiffies: it took a command, or answered one */
	u32 commands_seen;		/* commands_taken then */
	u32 nonce, epoch;
	u32 commands_made;
	u32 bo_destroy;			/* index after the last BO_DESTROY */
	bool bo_destroy_due;		/* the device has not taken that yet */
	u32 last_tag;
	u32 due;			/* answers and jobs that the device owes */
	u32 poll_ms;			/* 0: the poll is off */
	struct delayed_work poll;
	struct work_struct reap;
	struct unpu_proto_ids ids[UNPU_PROTO_NUM_KINDS];
	struct unpu_proto_request requests[UNPU_PROTO_NUM_REQUESTS];
	struct unpu_proto_flight flights[UNPU_PROTO_MAX_CTXS];
	u32 backlog_made, backlog_sent;
	struct unpu_proto_command *backlog;
};

static inline struct unpu_proto *to_unpu_proto(struct unpu_device *udev)
{
	return udev->hw_priv;
}

/* ---- the window ---------------------------------------------------------------------------- */

/* A word of the device: what it wrote before the word is seen after this. */
static inline u32 unpu_proto_load(const u32 *word)
{
	/* Pairs with the device's release of the same word. */
	return virt_load_acquire(word);
}

static inline void unpu_proto_store(u32 *word, u32 value)
{
	/* Pairs with the device's acquire of the same word. */
	virt_store_release(word, value);
}

/* Between a write of ours and a read of the device's, where the device does it the other way. */
static inline void unpu_proto_fence(void)
{
	/* Pairs with the device's full barrier before it goes to sleep, and after it publishes. */
	virt_mb();
}

/*
 * The only way by which more than a word is read: each word is loaded once, so that what is checked
 * is what is used.
 */
static inline void unpu_proto_read(const void *window, u32 offset, void *to, u32 bytes)
{
	const u32 *from = window + offset;
	u32 *words = to, i;

	for (i = 0; i < bytes / sizeof(*words); i++)
		words[i] = READ_ONCE(from[i]);
}

/* ---- unpu_proto_ring.c --------------------------------------------------------------------- */

int unpu_proto_ids_init(struct unpu_device *udev, struct unpu_proto_ids *ids, u32 kind);

/* Under lock, all of these. */
void unpu_proto_poll_within(struct unpu_proto *p, u32 ms);
bool unpu_proto_waits(const struct unpu_proto *p);
u32 unpu_proto_id_get(struct unpu_proto_ids *ids);
void unpu_proto_id_put(struct unpu_proto_ids *ids, u32 id);
void unpu_proto_id_end(struct unpu_proto_ids *ids, u32 id);
void unpu_proto_ids_forget(struct unpu_proto_ids *ids);
bool unpu_proto_room(struct unpu_proto *p);
struct unpu_proto_request *
unpu_proto_ask(struct unpu_proto *p, u32 kind, bool destroy, u32 id, u32 spare,
	       struct unpu_proto_command *command);
void unpu_proto_pump(struct unpu_proto *p);
void unpu_proto_request_end(struct unpu_proto *p, struct unpu_proto_request *request);

void unpu_proto_reap(struct work_struct *work);

/* ---- unpu_proto.c -------------------------------------------------------------------------- */

__printf(3, 4) int unpu_proto_refuse(struct unpu_proto *p, int err, const char *format, ...);

/* The parts of unpu_proto_ops, which is in unpu_proto_ops.c, that are the device's life. */
int unpu_proto_init(struct unpu_device *udev);
void unpu_proto_fini(struct unpu_device *udev);
void unpu_proto_suspend(struct unpu_device *udev);
int unpu_proto_resume(struct unpu_device *udev);
int unpu_proto_reset(struct unpu_device *udev);

/* ---- unpu_proto_info.c --------------------------------------------------------------------- */

/* Under attach_lock. */
int unpu_proto_info(struct unpu_proto *p);

#endif
