// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual NPU: what uapi/unpu_proto.h says, from the driver's end.
 *
 * The device process may be hostile. Every word of the window that it writes is loaded once, by
 * READ_ONCE() or an acquire load, or copied by unpu_proto_read(), and only the copy is checked and
 * used. What it says wrong costs a message, and at worst everything that is in the device.
 *
 * Lock order: attach_lock, event_lock, lock. `attached` changes under the latter two.
 * unpu_job_done() is called under event_lock alone, unpu_device_lost() under none. On the path that
 * signals fences are event_lock and lock: nothing allocates under them.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/dma-fence.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>
#include <drm/drm_print.h>

#include "unpu_transport.h"
#include "uapi/unpu_proto.h"

#define UNPU_PROTO_READY_MS	10000	/* for the device's engine to open, at probe */
#define UNPU_PROTO_ATTACH_MS	500	/* to attach, or to be ready later; it is asked again */
#define UNPU_PROTO_RERING_MS	100
#define UNPU_PROTO_SILENT_MS	3000	/* without a heartbeat: said once */
#define UNPU_PROTO_DEAF_MS	10000	/* without one: no caller waits for it any longer */

/* Between two looks at the rings and the epoch; interrupts may be lost. */
#define UNPU_PROTO_POLL_FULL_MS	10	/* something waits for room in the command ring */
#define UNPU_PROTO_POLL_BUSY_MS	100	/* the device owes something */
#define UNPU_PROTO_POLL_IDLE_MS	1000

#define UNPU_PROTO_NUM_REQUESTS	UNPU_PROTO_NUM_COMMANDS
#define UNPU_PROTO_SPARE	8	/* requests that only the end of contexts takes */
/* No job is ever refused for want of room in the ring. */
#define UNPU_PROTO_BACKLOG	(UNPU_PROTO_MAX_CTXS * UNPU_PROTO_MAX_JOBS)

static_assert(UNPU_MAX_RUNS <= UNPU_PROTO_MAX_RUNS);
static_assert(UNPU_MAX_SPEC_WORDS <= UNPU_PROTO_MAX_SPEC);
static_assert(UNPU_MAX_JOBS_IN_FLIGHT <= UNPU_PROTO_MAX_JOBS);
/* A tag is a number and, in its low bits, the request. */
static_assert((UNPU_PROTO_NUM_REQUESTS & (UNPU_PROTO_NUM_REQUESTS - 1)) == 0);

enum unpu_proto_kind {
	UNPU_PROTO_KIND_BO,
	UNPU_PROTO_KIND_SHADER,
	UNPU_PROTO_KIND_PROGRAM,
	UNPU_PROTO_KIND_CTX,
	UNPU_PROTO_NUM_KINDS,
};

static const struct {
	const char *name;
	u32 size, create, destroy;
} unpu_proto_kinds[] = {
	{ "buffer", UNPU_PROTO_MAX_IDS, UNPU_PROTO_BO_CREATE, UNPU_PROTO_BO_DESTROY },
	{ "shader", UNPU_PROTO_MAX_IDS, UNPU_PROTO_SHADER_CREATE, UNPU_PROTO_SHADER_DESTROY },
	{ "program", UNPU_PROTO_MAX_IDS, UNPU_PROTO_PROGRAM_CREATE, UNPU_PROTO_PROGRAM_DESTROY },
	{ "context", UNPU_PROTO_MAX_CTXS, UNPU_PROTO_CTX_CREATE, UNPU_PROTO_CTX_DESTROY },
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

static struct unpu_proto *to_unpu_proto(struct unpu_device *udev)
{
	return udev->hw_priv;
}

/* ---- the window ---------------------------------------------------------------------------- */

/* A word of the device: what it wrote before the word is seen after this. */
static u32 unpu_proto_load(const u32 *word)
{
	/* Pairs with the device's release of the same word. */
	return virt_load_acquire(word);
}

static void unpu_proto_store(u32 *word, u32 value)
{
	/* Pairs with the device's acquire of the same word. */
	virt_store_release(word, value);
}

/* Between a write of ours and a read of the device's, where the device does it the other way. */
static void unpu_proto_fence(void)
{
	/* Pairs with the device's full barrier before it goes to sleep, and after it publishes. */
	virt_mb();
}

/*
 * The only way by which more than a word is read: each word is loaded once, so that what is checked
 * is what is used.
 */
static void unpu_proto_read(const void *window, u32 offset, void *to, u32 bytes)
{
	const u32 *from = window + offset;
	u32 *words = to, i;

	for (i = 0; i < bytes / sizeof(*words); i++)
		words[i] = READ_ONCE(from[i]);
}

/* After what was published: either this sees that the device sleeps, or the device sees it. */
static void unpu_proto_ring(struct unpu_proto *p)
{
	unpu_proto_fence();
	if (READ_ONCE(p->dev->wants_doorbell))
		p->transport->ring(p->transport);
}

struct unpu_proto_header {
	u32 magic, version;
	u64 window_bytes;
};

static int unpu_proto_judge(const void *window, u64 bytes, struct unpu_proto_header *header)
{
	const struct unpu_proto_device *page = window + UNPU_PROTO_DEVICE;

	header->magic = unpu_proto_load(&page->magic);
	header->version = READ_ONCE(page->version);
	header->window_bytes = READ_ONCE(page->window_bytes);
	if (header->magic != UNPU_PROTO_MAGIC)
		return -ENODEV;
	if (header->version != UNPU_PROTO_VERSION)
		return -EPROTONOSUPPORT;
	return header->window_bytes == bytes ? 0 : -EPROTO;
}

int unpu_proto_check(struct device *dev, const void *window, u64 bytes)
{
	struct unpu_proto_header header;
	int err = unpu_proto_judge(window, bytes, &header);

	if (err == -ENODEV)
		dev_info(dev, "not a unpu device: 0x%08x in place of its magic number\n",
			 header.magic);
	else if (err == -EPROTONOSUPPORT)
		dev_err(dev, "the device process speaks version %u of its protocol, unpu.ko %u\n",
			header.version, UNPU_PROTO_VERSION);
	else if (err)
		dev_err(dev, "the device process means a window of %llu bytes, this one has %llu\n",
			header.window_bytes, bytes);
	/* For any other errno the driver core adds a line of its own. */
	return err ? -ENODEV : 0;
}

/* A device that does not attach is asked again and again: it is said once. */
static __printf(3, 4) int unpu_proto_refuse(struct unpu_proto *p, int err, const char *format, ...)
{
	struct va_format text = { .fmt = format };
	va_list args;

	if (p->refused)
		return err;
	va_start(args, format);
	text.va = &args;
	dev_err(p->udev->drm.dev, "not attached: %pV\n", &text);
	va_end(args);
	return err;
}

/* ---- polling ------------------------------------------------------------------------------- */

/* Under lock: the next look is not later than in ms. */
static void unpu_proto_poll_within(struct unpu_proto *p, u32 ms)
{
	if (!p->poll_ms || p->poll_ms <= ms)
		return;
	p->poll_ms = ms;
	mod_delayed_work(p->wq, &p->poll, msecs_to_jiffies(ms));
}

static bool unpu_proto_waits(const struct unpu_proto *p)
{
	u32 i, ending = 0;

	for (i = 0; i < UNPU_PROTO_NUM_KINDS; i++)
		ending += p->ids[i].num_ending;
	return ending || p->backlog_made != p->backlog_sent;
}

/* ---- ids ----------------------------------------------------------------------------------- */

static u32 unpu_proto_id_get(struct unpu_proto_ids *ids)
{
	u32 id = find_next_zero_bit(ids->used, ids->size, ids->next);

	if (id >= ids->size)
		id = find_next_zero_bit(ids->used, ids->size, 1);
	if (id >= ids->size)
		return 0;
	__set_bit(id, ids->used);
	ids->next = id + 1 < ids->size ? id + 1 : 1;
	return id;
}

static void unpu_proto_id_put(struct unpu_proto_ids *ids, u32 id)
{
	__clear_bit(id, ids->live);
	__clear_bit(id, ids->used);
}

/* The object is not wanted any more: free when the device was told, or has never had it. */
static void unpu_proto_id_end(struct unpu_proto_ids *ids, u32 id)
{
	if (!test_bit(id, ids->live)) {
		unpu_proto_id_put(ids, id);
		return;
	}
	__clear_bit(id, ids->live);
	__set_bit(id, ids->ending);
	ids->num_ending++;
}

/* The device has forgotten everything; ids of which somebody here will say the end stay theirs. */
static void unpu_proto_ids_forget(struct unpu_proto_ids *ids)
{
	bitmap_andnot(ids->used, ids->used, ids->ending, ids->size);
	bitmap_zero(ids->ending, ids->size);
	bitmap_zero(ids->live, ids->size);
	ids->num_ending = 0;
}

static int unpu_proto_ids_init(struct unpu_device *udev, struct unpu_proto_ids *ids, u32 size)
{
	size_t bytes = BITS_TO_LONGS(size) * sizeof(long);

	ids->size = size;
	ids->next = 1;
	ids->used = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	ids->live = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	ids->ending = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	return ids->used && ids->live && ids->ending ? 0 : -ENOMEM;
}

/* ---- the command ring ---------------------------------------------------------------------- */

static bool unpu_proto_room(struct unpu_proto *p)
{
	u32 taken = unpu_proto_load(&p->dev->commands_taken);

	if (p->commands_made - taken > UNPU_PROTO_NUM_COMMANDS) {
		p->broken = true;
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
		return false;
	}
	if ((s32)(taken - p->bo_destroy) >= 0)
		p->bo_destroy_due = false;
	return p->commands_made - taken < UNPU_PROTO_NUM_COMMANDS;
}

static void unpu_proto_send(struct unpu_proto *p, const struct unpu_proto_command *command)
{
	struct unpu_proto_command *slots = p->udev->window + UNPU_PROTO_COMMANDS;

	slots[p->commands_made % UNPU_PROTO_NUM_COMMANDS] = *command;
	p->commands_made++;
	if (command->op == UNPU_PROTO_BO_DESTROY) {
		p->bo_destroy = p->commands_made;
		p->bo_destroy_due = true;
	}
	unpu_proto_store(&p->drv->commands_made, p->commands_made);
	unpu_proto_ring(p);
}

/* NULL: none free. */
static struct unpu_proto_request *unpu_proto_request_get(struct unpu_proto *p, u32 spare)
{
	struct unpu_proto_request *request = NULL;
	u32 i, num_free = 0;

	for (i = 0; i < UNPU_PROTO_NUM_REQUESTS; i++) {
		if (p->requests[i].tag)
			continue;
		num_free++;
		request = &p->requests[i];
	}
	if (num_free <= spare)
		return NULL;
	memset(request, 0, sizeof(*request));
	do {
		p->last_tag += UNPU_PROTO_NUM_REQUESTS;
		request->tag = p->last_tag | (request - p->requests);
	} while (!request->tag);
	return request;
}

static struct unpu_proto_request *
unpu_proto_ask(struct unpu_proto *p, u32 kind, bool destroy, u32 id, u32 spare,
	       struct unpu_proto_command *command)
{
	struct unpu_proto_request *request = unpu_proto_request_get(p, spare);

	if (!request)
		return NULL;
	request->kind = kind;
	request->destroy = destroy;
	request->id = id;
	command->op = destroy ? unpu_proto_kinds[kind].destroy : unpu_proto_kinds[kind].create;
	command->id = id;
	command->tag = request->tag;
	p->due++;
	unpu_proto_send(p, command);
	unpu_proto_poll_within(p, UNPU_PROTO_POLL_BUSY_MS);
	return request;
}

/* The end of a context is answered, so that its id is not taken before. */
static bool unpu_proto_send_ctx_end(struct unpu_proto *p, u32 id)
{
	struct unpu_proto_command command = {};
	struct unpu_proto_request *request;

	request = unpu_proto_ask(p, UNPU_PROTO_KIND_CTX, true, id, 0, &command);
	if (!request)
		return false;
	request->zombie = true;
	return true;
}

static bool unpu_proto_send_end(struct unpu_proto *p, u32 kind)
{
	struct unpu_proto_ids *ids = &p->ids[kind];
	struct unpu_proto_command command = { .op = unpu_proto_kinds[kind].destroy };
	u32 id = find_first_bit(ids->ending, ids->size);

	if (kind == UNPU_PROTO_KIND_CTX) {
		if (!unpu_proto_send_ctx_end(p, id))
			return false;
	} else {
		command.id = id;
		unpu_proto_send(p, &command);
		unpu_proto_id_put(ids, id);
	}
	__clear_bit(id, ids->ending);
	ids->num_ending--;
	return true;
}

/*
 * Sends what waited for room: jobs, then what ends, users before what they use, so that the device
 * can let go of a buffer when it hears of it. Contexts first of all, as their end is waited for.
 */
static void unpu_proto_pump(struct unpu_proto *p)
{
	static const u32 order[] = { UNPU_PROTO_KIND_CTX, UNPU_PROTO_KIND_PROGRAM,
				     UNPU_PROTO_KIND_SHADER, UNPU_PROTO_KIND_BO };
	u32 i;

	while (p->backlog_made != p->backlog_sent && unpu_proto_room(p)) {
		struct unpu_proto_command *command;

		command = &p->backlog[p->backlog_sent++ % UNPU_PROTO_BACKLOG];
		if (command->op)
			unpu_proto_send(p, command);
	}
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		while (p->ids[order[i]].num_ending && unpu_proto_room(p))
			if (!unpu_proto_send_end(p, order[i]))
				break;
	}
	if (unpu_proto_waits(p))
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
}

/* ---- answers ------------------------------------------------------------------------------- */

static bool unpu_proto_gone(const struct unpu_proto *p)
{
	return !READ_ONCE(p->attached) || READ_ONCE(p->udev->dead);
}

/* What callers of the driver may see of a device's errno. */
static s32 unpu_proto_answer_errno(s32 status)
{
	switch (status) {
	case 0:
	case -EFAULT:
	case -EINVAL:
	case -ENOENT:
	case -ENOMEM:
	case -ENOSPC:
	case -EOPNOTSUPP:
		return status;
	default:
		return -EIO;
	}
}

static s32 unpu_proto_job_errno(s32 status)
{
	switch (status) {
	case 0:
	case -ECANCELED:
	case -ETIME:
		return status;
	default:
		return -EIO;
	}
}

/* Under lock. A zombie's image goes back to the heap where a mutex may be taken. */
static void unpu_proto_request_end(struct unpu_proto *p, struct unpu_proto_request *request)
{
	if (request->zombie && request->image)
		queue_work(unpu_release_wq, &p->reap);
	else if (request->zombie)
		request->tag = 0;
}

/* Under lock. Jobs that were taken out of the backlog have no event of their own. */
static void unpu_proto_flight_end(struct unpu_proto *p, struct unpu_proto_flight *flight)
{
	p->due -= flight->num;
	flight->num = 0;
	flight->owner = NULL;
}

static void unpu_proto_request_answer(struct unpu_proto *p, struct unpu_proto_request *request,
				      s32 status, u64 value)
{
	struct unpu_proto_ids *ids = &p->ids[request->kind];
	u32 id = request->id;

	request->status = unpu_proto_answer_errno(status);
	request->value = value;
	if (request->destroy) {
		/* It never fails; what it says else is of no interest. */
		request->status = 0;
		unpu_proto_flight_end(p, &p->flights[id]);
		unpu_proto_id_put(ids, id);
	} else if (request->undone) {
		/* The id went with the DESTROY. */
	} else if (request->status) {
		unpu_proto_id_put(ids, id);
	} else {
		__set_bit(id, ids->live);
		if (request->kind == UNPU_PROTO_KIND_CTX)
			p->flights[id].owner = request->owner;
		if (request->zombie)
			unpu_proto_id_end(ids, id);
	}
	request->done = true;
	p->due--;
	unpu_proto_request_end(p, request);
}

static void unpu_proto_reap(struct work_struct *work)
{
	struct unpu_proto *p = container_of(work, struct unpu_proto, reap);
	struct unpu_proto_request *request;
	struct drm_mm_node *image;
	u32 i;

	for (i = 0; i < UNPU_PROTO_NUM_REQUESTS; i++) {
		request = &p->requests[i];
		image = NULL;
		spin_lock(&p->lock);
		if (request->tag && request->zombie && request->done) {
			image = request->image;
			request->tag = 0;
		}
		spin_unlock(&p->lock);
		if (image)
			unpu_heap_put(p->udev, image);
	}
	wake_up_all(&p->wait);
}

static bool unpu_proto_take_answer(struct unpu_proto *p, const struct unpu_proto_event *event)
{
	struct unpu_proto_request *request;
	bool known;

	request = &p->requests[event->tag % UNPU_PROTO_NUM_REQUESTS];
	spin_lock(&p->lock);
	known = event->tag && request->tag == event->tag && !request->done;
	if (known)
		unpu_proto_request_answer(p, request, event->status, event->value);
	spin_unlock(&p->lock);
	return known;
}

/* Takes the job out of those that the device has. */
static bool unpu_proto_land(struct unpu_proto *p, u32 id, u64 seqno, ktime_t *start)
{
	struct unpu_proto_flight *flight;
	u32 i;

	if (!id || id >= UNPU_PROTO_MAX_CTXS)
		return false;
	flight = &p->flights[id];
	for (i = 0; i < flight->num; i++) {
		if (flight->jobs[i].seqno != seqno)
			continue;
		*start = flight->jobs[i].start;
		flight->jobs[i] = flight->jobs[--flight->num];
		p->due--;
		return true;
	}
	return false;
}

static bool unpu_proto_take_job(struct unpu_proto *p, const struct unpu_proto_event *event)
{
	ktime_t start;
	bool known;
	u64 busy;

	spin_lock(&p->lock);
	known = unpu_proto_land(p, event->id, event->value, &start);
	spin_unlock(&p->lock);
	if (!known)
		return false;
	busy = min_t(u64, event->busy_ns, ktime_to_ns(ktime_sub(ktime_get(), start)));
	unpu_job_done(p->udev, event->id, event->value, unpu_proto_job_errno(event->status), busy);
	return true;
}

static bool unpu_proto_take_event(struct unpu_proto *p, const struct unpu_proto_event *event)
{
	bool known = false;

	if (event->type == UNPU_PROTO_EVENT_ANSWER)
		known = unpu_proto_take_answer(p, event);
	else if (event->type == UNPU_PROTO_EVENT_JOB)
		known = unpu_proto_take_job(p, event);
	if (!known)
		dev_warn_ratelimited(p->udev->drm.dev,
				     "stray event: type %u, tag %u, id %u, value %llu\n",
				     event->type, event->tag, event->id, event->value);
	return known;
}

/* Under event_lock. Not more than the ring holds, however fast the device makes them. */
static unsigned int unpu_proto_take_events(struct unpu_proto *p)
{
	u32 made = unpu_proto_load(&p->dev->events_made);
	struct unpu_proto_event event;
	unsigned int num = 0;
	u32 slot;

	if (made - p->events_taken > UNPU_PROTO_NUM_EVENTS) {
		spin_lock(&p->lock);
		p->broken = true;
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
		spin_unlock(&p->lock);
		return 0;
	}
	while (p->events_taken != made) {
		slot = p->events_taken % UNPU_PROTO_NUM_EVENTS;
		unpu_proto_read(p->udev->window, UNPU_PROTO_EVENTS + slot * sizeof(event), &event,
				sizeof(event));
		p->events_taken++;
		/* The slot is the device's again only after it was read. */
		unpu_proto_store(&p->drv->events_taken, p->events_taken);
		num += unpu_proto_take_event(p, &event);
	}
	return num;
}

unsigned int unpu_proto_events(struct unpu_device *udev)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	bool cookie = dma_fence_begin_signalling();
	unsigned int num = 0;

	mutex_lock(&p->event_lock);
	if (p->attached) {
		WRITE_ONCE(p->drv->wants_doorbell, 0);
		num = unpu_proto_take_events(p);
		WRITE_ONCE(p->drv->wants_doorbell, 1);
		/* Either the device sees that we sleep, or this sees what it has made. */
		unpu_proto_fence();
		num += unpu_proto_take_events(p);
		spin_lock(&p->lock);
		unpu_proto_pump(p);
		spin_unlock(&p->lock);
	}
	mutex_unlock(&p->event_lock);
	dma_fence_end_signalling(cookie);
	wake_up_all(&p->wait);
	return num;
}

/* ---- attaching and loss -------------------------------------------------------------------- */

/*
 * Under event_lock and lock: what the device has is lost. Those who wait get -ENODEV; what nobody
 * waits for ends here.
 */
static void unpu_proto_detach(struct unpu_proto *p)
{
	u32 i;

	p->attached = false;
	p->broken = false;
	for (i = 0; i < UNPU_PROTO_NUM_REQUESTS; i++) {
		struct unpu_proto_request *request = &p->requests[i];

		if (!request->tag || request->done)
			continue;
		request->status = -ENODEV;
		request->done = true;
		if (!request->undone)
			unpu_proto_id_put(&p->ids[request->kind], request->id);
		unpu_proto_request_end(p, request);
	}
	for (i = 0; i < UNPU_PROTO_NUM_KINDS; i++)
		unpu_proto_ids_forget(&p->ids[i]);
	/* Whose context was there says nothing any more; its number is free. */
	bitmap_zero(p->ids[UNPU_PROTO_KIND_CTX].used, UNPU_PROTO_MAX_CTXS);
	memset(p->flights, 0, sizeof(p->flights));
	p->backlog_sent = p->backlog_made;
	p->bo_destroy_due = false;
	p->due = 0;
	wake_up_all(&p->wait);
}

/* Under lock: tells the device to forget all it had from us. */
static void unpu_proto_ask_attach(struct unpu_proto *p)
{
	u32 last = READ_ONCE(p->dev->attached);

	do {
		p->nonce = get_random_u32();
	} while (!p->nonce || p->nonce == last || p->nonce == READ_ONCE(p->drv->attach));
	memset(p->drv, 0, sizeof(*p->drv));
	WRITE_ONCE(p->drv->version, UNPU_PROTO_VERSION);
	unpu_proto_store(&p->drv->attach, p->nonce);
	p->transport->ring(p->transport);
}

static bool unpu_proto_ready(const struct unpu_proto *p)
{
	return unpu_proto_load(&p->dev->state) != UNPU_PROTO_STATE_BOOT;
}

static bool unpu_proto_answered(const struct unpu_proto *p)
{
	return unpu_proto_load(&p->dev->attached) == p->nonce;
}

/* Looks again now and then: there need not be an interrupt. */
static bool unpu_proto_wait_for(struct unpu_proto *p, bool (*what)(const struct unpu_proto *p),
				unsigned long deadline, bool ring)
{
	unsigned long rung = jiffies;

	while (!what(p)) {
		if (READ_ONCE(p->udev->dead) || time_after(jiffies, deadline))
			return false;
		if (ring && time_after(jiffies, rung + msecs_to_jiffies(UNPU_PROTO_RERING_MS))) {
			p->transport->ring(p->transport);
			rung = jiffies;
		}
		wait_event_timeout(p->wait, what(p) || READ_ONCE(p->udev->dead),
				   msecs_to_jiffies(UNPU_PROTO_POLL_FULL_MS));
	}
	return true;
}

static int unpu_proto_wait_ready(struct unpu_proto *p, unsigned long deadline)
{
	struct unpu_proto_header header;
	u32 state;
	int err;

	if (!unpu_proto_wait_for(p, unpu_proto_ready, deadline, false))
		return unpu_proto_refuse(p, -ETIMEDOUT, "the device process is not ready");
	/* It may be another since the probe. */
	err = unpu_proto_judge(p->udev->window, p->udev->window_bytes, &header);
	if (err)
		return unpu_proto_refuse(p, err, "magic 0x%08x, version %u (not %u), %llu bytes",
					 header.magic, header.version, UNPU_PROTO_VERSION,
					 header.window_bytes);
	state = READ_ONCE(p->dev->state);
	if (state != UNPU_PROTO_STATE_READY)
		return unpu_proto_refuse(p, -EIO, "no engine (state %u), see unpu-vdev's log",
					 state);
	return 0;
}

/* Under lock. */
static void unpu_proto_set_attached(struct unpu_proto *p)
{
	p->epoch = READ_ONCE(p->dev->epoch);
	p->commands_made = 0;
	p->bo_destroy = 0;
	p->backlog_made = 0;
	p->backlog_sent = 0;
	p->events_taken = 0;
	p->beat_time = jiffies;
	p->silent = false;
	p->attached = true;
	WRITE_ONCE(p->drv->wants_doorbell, 1);
	unpu_proto_fence();
	p->poll_ms = UNPU_PROTO_POLL_BUSY_MS;
	mod_delayed_work(p->wq, &p->poll, msecs_to_jiffies(p->poll_ms));
}

static int unpu_proto_info(struct unpu_proto *p);

/* Under attach_lock. */
static int unpu_proto_attach_within(struct unpu_proto *p, u32 ready_ms)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(ready_ms);
	int err;

	err = unpu_proto_wait_ready(p, deadline);
	if (err)
		return err;
	spin_lock(&p->lock);
	unpu_proto_ask_attach(p);
	spin_unlock(&p->lock);
	deadline = jiffies + msecs_to_jiffies(UNPU_PROTO_ATTACH_MS);
	if (!unpu_proto_wait_for(p, unpu_proto_answered, deadline, true))
		return unpu_proto_refuse(p, -ETIMEDOUT, "the device process does not answer");
	err = unpu_proto_info(p);
	if (err)
		return err;
	mutex_lock(&p->event_lock);
	spin_lock(&p->lock);
	unpu_proto_set_attached(p);
	spin_unlock(&p->lock);
	mutex_unlock(&p->event_lock);
	return 0;
}

static int unpu_proto_attach(struct unpu_proto *p, u32 ready_ms)
{
	int err = -ENODEV;

	mutex_lock(&p->attach_lock);
	mutex_lock(&p->event_lock);
	spin_lock(&p->lock);
	unpu_proto_detach(p);
	spin_unlock(&p->lock);
	mutex_unlock(&p->event_lock);
	/* Both change under attach_lock. */
	if (p->open && !p->suspended)
		err = unpu_proto_attach_within(p, ready_ms);
	p->refused = err;
	mutex_unlock(&p->attach_lock);
	return err;
}

/* Whether the device that we are attached to is still that one. */
static const char *unpu_proto_lost_why(const struct unpu_proto *p)
{
	if (READ_ONCE(p->dev->magic) != UNPU_PROTO_MAGIC)
		return "its magic number is gone";
	if (READ_ONCE(p->dev->epoch) != p->epoch)
		return "it has begun anew";
	if (p->broken)
		return "a ring index ran ahead";
	if (READ_ONCE(p->dev->attached) != p->nonce)
		return "it has forgotten us";
	if (READ_ONCE(p->dev->state) != UNPU_PROTO_STATE_READY)
		return "it is not ready any more";
	return NULL;
}

/* A device that is silent for long is only spoken of: it may have been stopped for a while. */
static void unpu_proto_watch_heart(struct unpu_proto *p)
{
	u32 beat = READ_ONCE(p->dev->heartbeat);

	if (beat != p->beat) {
		if (p->silent)
			drm_info(&p->udev->drm, "the device process is heard again\n");
		p->beat = beat;
		p->beat_time = jiffies;
		p->silent = false;
		return;
	}
	if (p->silent ||
	    time_before(jiffies, p->beat_time + msecs_to_jiffies(UNPU_PROTO_SILENT_MS)))
		return;
	p->silent = true;
	dev_warn_ratelimited(p->udev->drm.dev, "the device process was not heard for %u s\n",
			     UNPU_PROTO_SILENT_MS / 1000);
}

/* True: everything in the device is lost. */
static bool unpu_proto_watch(struct unpu_proto *p)
{
	const char *why = NULL;

	mutex_lock(&p->event_lock);
	spin_lock(&p->lock);
	if (p->attached) {
		why = unpu_proto_lost_why(p);
		if (why)
			unpu_proto_detach(p);
		else
			unpu_proto_watch_heart(p);
	}
	spin_unlock(&p->lock);
	mutex_unlock(&p->event_lock);
	if (why)
		dev_warn_ratelimited(p->udev->drm.dev, "the device is lost: %s\n", why);
	return why;
}

static void unpu_proto_poll(struct work_struct *work)
{
	struct unpu_proto *p = container_of(work, struct unpu_proto, poll.work);

	unpu_proto_events(p->udev);
	if (unpu_proto_watch(p))
		unpu_device_lost(p->udev);
	spin_lock(&p->lock);
	if (!p->attached)
		p->poll_ms = 0;
	if (p->poll_ms) {
		if (unpu_proto_waits(p) || p->broken)
			p->poll_ms = UNPU_PROTO_POLL_FULL_MS;
		else if (p->due)
			p->poll_ms = UNPU_PROTO_POLL_BUSY_MS;
		else
			p->poll_ms = UNPU_PROTO_POLL_IDLE_MS;
		queue_delayed_work(p->wq, &p->poll, msecs_to_jiffies(p->poll_ms));
	}
	spin_unlock(&p->lock);
}

/* Ends the poll and all that the device owes, and tells it so without waiting for it. */
static void unpu_proto_close(struct unpu_proto *p, bool for_good)
{
	mutex_lock(&p->attach_lock);
	spin_lock(&p->lock);
	p->poll_ms = 0;
	spin_unlock(&p->lock);
	cancel_delayed_work_sync(&p->poll);
	mutex_lock(&p->event_lock);
	spin_lock(&p->lock);
	if (p->open) {
		unpu_proto_detach(p);
		unpu_proto_ask_attach(p);
		p->open = !for_good;
		p->suspended = true;
	}
	spin_unlock(&p->lock);
	mutex_unlock(&p->event_lock);
	mutex_unlock(&p->attach_lock);
	flush_work(&p->reap);
}

/* ---- what the device says of itself -------------------------------------------------------- */

#define UNPU_PROTO_MAX_BYTES	BIT_ULL(46)	/* of anything: rounding and sums do not overflow */
#define UNPU_PROTO_MAX_NS	(3600ULL * NSEC_PER_SEC)

static int unpu_proto_clamp(struct unpu_proto *p, const char *name, __u64 *value, u64 max)
{
	if (!*value)
		return unpu_proto_refuse(p, -EPROTO, "its %s is 0", name);
	*value = min_t(u64, *value, max);
	return 0;
}

static int unpu_proto_check_counts(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	const struct {
		const char *name;
		u32 *value;
		u32 max;
	} fields[] = {
		{ "max_rows", &info->max_rows, U32_MAX },
		{ "max_dispatches", &info->max_dispatches, UNPU_MAX_DISPATCHES },
		{ "max_bindings", &info->max_bindings, UNPU_MAX_BINDINGS },
		{ "max_buffers", &info->max_buffers, UNPU_MAX_BUFFERS },
		{ "max_spec_words", &info->max_spec_words, UNPU_MAX_SPEC_WORDS },
		{ "max_const_bytes", &info->max_const_bytes, UNPU_MAX_CONST_BYTES },
		{ "max_programs", &info->max_programs, UNPU_MAX_RUNS },
		{ "max_repeat", &info->max_repeat, U32_MAX },
		{ "max_job_dispatches", &info->max_job_dispatches, U32_MAX },
		{ "max_syncs", &info->max_syncs, UNPU_MAX_SYNCS },
		{ "max_contexts", &info->max_contexts, UNPU_MAX_CONTEXTS },
		{ "max_queued_jobs", &info->max_queued_jobs, UNPU_MAX_QUEUED_JOBS },
		{ "tokens_per_submit", &info->tokens_per_submit, U32_MAX },
	};
	u64 value;
	u32 i;
	int err;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		value = *fields[i].value;
		err = unpu_proto_clamp(p, fields[i].name, &value, fields[i].max);
		if (err)
			return err;
		*fields[i].value = value;
	}
	if (info->binding_align > PAGE_SIZE || !is_power_of_2(info->binding_align))
		return unpu_proto_refuse(p, -EPROTO, "it aligns bindings to %u bytes",
					 info->binding_align);
	return 0;
}

static int unpu_proto_check_sizes(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	const struct {
		const char *name;
		__u64 *value;
		u64 max;
	} fields[] = {
		{ "heap_window_bytes", &info->heap_window_bytes,
		  p->udev->window_bytes - UNPU_PROTO_HEAP },
		{ "max_bo_bytes", &info->max_bo_bytes, UNPU_PROTO_MAX_BYTES },
		{ "max_binding_bytes", &info->max_binding_bytes, UNPU_PROTO_MAX_BYTES },
		{ "max_job_time_ns", &info->max_job_time_ns, UNPU_PROTO_MAX_NS },
		{ "max_timeout_ns", &info->max_timeout_ns, info->max_job_time_ns },
		{ "default_timeout_ns", &info->default_timeout_ns, info->max_timeout_ns },
	};
	u32 i;
	int err;

	info->heap_device_bytes = min_t(u64, info->heap_device_bytes, UNPU_PROTO_MAX_BYTES);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		err = unpu_proto_clamp(p, fields[i].name, fields[i].value, fields[i].max);
		if (err)
			return err;
	}
	/* Each bound was looked up before the one above it was lowered. */
	info->max_timeout_ns = min(info->max_timeout_ns, info->max_job_time_ns);
	info->default_timeout_ns = min(info->default_timeout_ns, info->max_timeout_ns);
	return 0;
}

/* What is no limit: it goes to clients and into messages. */
static int unpu_proto_check_rest(struct unpu_proto *p, struct drm_unpu_dev_info *info)
{
	u32 i;

	if (info->version_major != 1 || info->num_matrices > DRM_UNPU_MAX_MATRICES)
		return unpu_proto_refuse(p, -EPROTO, "its interface has version %u, %u matrices",
					 info->version_major, info->num_matrices);
	info->features &= ~DRM_UNPU_FEATURE_WAIT_RUNS;
	info->pad = 0;
	for (i = info->num_matrices; i < DRM_UNPU_MAX_MATRICES; i++)
		info->matrices[i] = (struct drm_unpu_matrix){};
	info->name[sizeof(info->name) - 1] = 0;
	for (i = 0; i < sizeof(info->name) && info->name[i]; i++)
		if (info->name[i] < ' ' || info->name[i] == 0x7f)
			info->name[i] = '?';
	memset(info->name + i, 0, sizeof(info->name) - i);
	return 0;
}

/* Printable, with a NUL at its end and nothing after it. */
static bool unpu_proto_name_ok(const struct drm_unpu_shader_name *shader)
{
	u32 length = strnlen((const char *)shader->name, sizeof(shader->name)), i;

	if (!length || length == sizeof(shader->name))
		return false;
	for (i = 0; i < length; i++)
		if (shader->name[i] <= ' ' || shader->name[i] >= 0x7f)
			return false;
	return !memchr_inv(shader->name + length, 0, sizeof(shader->name) - length);
}

static int unpu_proto_check_shaders(struct unpu_proto *p, const struct drm_unpu_shader_name *names,
				    u32 num)
{
	u32 i;

	for (i = 0; i < num; i++)
		if (!unpu_proto_name_ok(&names[i]))
			return unpu_proto_refuse(p, -EPROTO, "its shader %u has no proper name", i);
	return 0;
}

/* The first time everything is kept; later it must be the same, for clients have seen it. */
static int unpu_proto_keep(struct unpu_proto *p, const struct drm_unpu_dev_info *info,
			   const struct drm_unpu_shader_name *names, u32 num)
{
	struct unpu_device *udev = p->udev;

	if (p->known) {
		if (num == udev->num_shaders && !memcmp(info, &p->info, sizeof(*info)) &&
		    !memcmp(names, udev->shaders, num * sizeof(*names)))
			return 0;
		return unpu_proto_refuse(p, -EPROTO, "it is another now: bind the driver anew");
	}
	udev->shaders = drmm_kzalloc(&udev->drm, num * sizeof(*names), GFP_KERNEL);
	if (!udev->shaders)
		return -ENOMEM;
	memcpy(udev->shaders, names, num * sizeof(*names));
	udev->num_shaders = num;
	udev->info = *info;
	p->info = *info;
	p->known = true;
	return 0;
}

static int unpu_proto_info(struct unpu_proto *p)
{
	struct drm_unpu_shader_name *names = p->names;
	u32 num = READ_ONCE(p->dev->num_shaders);
	struct drm_unpu_dev_info info;
	int err;

	if (!num || num > UNPU_PROTO_MAX_SHADERS)
		return unpu_proto_refuse(p, -EPROTO, "it says that it has %u shaders", num);
	unpu_proto_read(p->udev->window, UNPU_PROTO_SHADERS, names, num * sizeof(*names));
	unpu_proto_read(p->udev->window,
			UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, info), &info,
			sizeof(info));
	err = unpu_proto_check_counts(p, &info);
	if (!err)
		err = unpu_proto_check_sizes(p, &info);
	if (!err)
		err = unpu_proto_check_rest(p, &info);
	if (!err)
		err = unpu_proto_check_shaders(p, names, num);
	if (!err)
		err = unpu_proto_keep(p, &info, names, num);
	return err;
}

/* ---- asking -------------------------------------------------------------------------------- */

/* A CREATE and its verdict. */
struct unpu_proto_creation {
	u32 kind;
	struct unpu_proto_command command;
	const struct unpu_ctx *owner;	/* a context: itself */
	struct drm_mm_node *image;	/* a program; NULL afterwards: the answer's */
	struct unpu_proto_request *request;
	u32 id;
	u64 value;
};

/*
 * One attempt to send a CREATE. 0: not now. What has ended goes before it, so that neither an id
 * nor a range of the window is ever taken by two on the device.
 */
static int unpu_proto_try_create(struct unpu_proto *p, struct unpu_proto_creation *creation)
{
	struct unpu_proto_ids *ids = &p->ids[creation->kind];
	struct unpu_proto_request *request;
	int ret = 0;
	u32 id;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p)) {
		ret = -ENODEV;
		goto out;
	}
	unpu_proto_pump(p);
	if (unpu_proto_waits(p) || !unpu_proto_room(p)) {
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
		goto out;
	}
	id = unpu_proto_id_get(ids);
	if (!id) {
		ret = creation->kind == UNPU_PROTO_KIND_CTX ? -ENOSPC : -ENOMEM;
		goto out;
	}
	request = unpu_proto_ask(p, creation->kind, false, id, UNPU_PROTO_SPARE,
				 &creation->command);
	if (!request) {
		unpu_proto_id_put(ids, id);
		goto out;
	}
	request->owner = creation->owner;
	creation->request = request;
	creation->id = id;
	ret = 1;
out:
	spin_unlock(&p->lock);
	return ret;
}

/*
 * A caller's wait is over: the device goes, or was not heard for so long that it may be no more.
 * That ends no job: time-outs do.
 */
static bool unpu_proto_hopeless(const struct unpu_proto *p)
{
	unsigned long end = READ_ONCE(p->beat_time) + msecs_to_jiffies(UNPU_PROTO_DEAF_MS);

	return READ_ONCE(p->udev->dead) || (READ_ONCE(p->silent) && time_after(jiffies, end));
}

/*
 * Waits of callers: they may be killed, and do not stand in the way of a suspend. UNSAFE says no
 * more than that lockdep need not warn: they are frozen inside drm_dev_enter(), for which only an
 * unplug waits.
 */
#define UNPU_PROTO_WAIT	(TASK_KILLABLE | TASK_FREEZABLE_UNSAFE)

/*
 * Nobody waits any more. The caller gives a buffer's range to the next one now, so the device must
 * hear that it ends before it hears of that: it takes commands in order.
 */
static void unpu_proto_request_leave(struct unpu_proto *p, struct unpu_proto_request *request)
{
	request->zombie = true;
	if (request->kind != UNPU_PROTO_KIND_BO)
		return;
	request->undone = true;
	__set_bit(request->id, p->ids[UNPU_PROTO_KIND_BO].live);
	unpu_proto_id_end(&p->ids[UNPU_PROTO_KIND_BO], request->id);
	unpu_proto_pump(p);
}

/*
 * The verdict on a CREATE, or nobody waits for it any more; then its image is the request's, which
 * is undone when it succeeds.
 */
static int unpu_proto_wait_answer(struct unpu_proto *p, struct unpu_proto_creation *creation)
{
	struct unpu_proto_request *request = creation->request;
	int err;

	wait_event_state(p->wait, READ_ONCE(request->done) || unpu_proto_hopeless(p),
			 UNPU_PROTO_WAIT);
	spin_lock(&p->lock);
	if (request->done) {
		err = request->status;
		creation->value = request->value;
		request->tag = 0;
	} else {
		err = fatal_signal_pending(current) ? -EINTR : -ENODEV;
		request->image = creation->image;
		creation->image = NULL;
		unpu_proto_request_leave(p, request);
	}
	spin_unlock(&p->lock);
	/* Somebody may have waited for a free request. */
	wake_up_all(&p->wait);
	return err;
}

static int unpu_proto_create_object(struct unpu_device *udev, struct unpu_proto_creation *creation,
				    u32 *hw_id)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	int ret = 0;

	wait_event_state(p->wait, (ret = unpu_proto_try_create(p, creation)) != 0 ||
			 unpu_proto_hopeless(p), UNPU_PROTO_WAIT);
	if (!ret)
		ret = fatal_signal_pending(current) ? -EINTR : -ENODEV;
	if (ret < 0)
		return ret;
	ret = unpu_proto_wait_answer(p, creation);
	if (!ret)
		*hw_id = creation->id;
	return ret;
}

static void unpu_proto_end_object(struct unpu_device *udev, u32 kind, u32 id)
{
	struct unpu_proto *p = to_unpu_proto(udev);

	if (!id)
		return;
	spin_lock(&p->lock);
	unpu_proto_id_end(&p->ids[kind], id);
	if (p->attached)
		unpu_proto_pump(p);
	spin_unlock(&p->lock);
}

static int unpu_proto_bo_create(struct unpu_device *udev, struct unpu_bo *bo)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_BO,
		.command.bo.flags = bo->flags,
		.command.bo.size = bo->base.size,
	};

	if (bo->flags & DRM_UNPU_BO_MMAP)
		creation.command.bo.offset = bo->node.start;
	return unpu_proto_create_object(udev, &creation, &bo->hw_id);
}

static void unpu_proto_bo_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_BO, hw_id);
}

static int unpu_proto_shader_create(struct unpu_device *udev, struct unpu_shader *shader)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_SHADER,
		.command.shader.name = shader->name,
		.command.shader.spec_words = shader->spec_words,
	};

	memcpy(creation.command.shader.spec, shader->spec,
	       shader->spec_words * sizeof(shader->spec[0]));
	return unpu_proto_create_object(udev, &creation, &shader->hw_id);
}

static void unpu_proto_shader_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_SHADER, hw_id);
}

/* The last BO_DESTROY before a range was taken. */
struct unpu_proto_mark {
	bool set;
	u32 nonce, index;
};

/*
 * The range may have been a buffer's whose end the device has not taken yet, and it empties the
 * range when it does. Ends that come later are of others: who waited for these, too, would wait as
 * long as somebody goes on closing buffers.
 */
static bool unpu_proto_range_clean(struct unpu_proto *p, struct unpu_proto_mark *mark)
{
	bool clean = true;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p))
		goto out;
	unpu_proto_pump(p);
	unpu_proto_room(p);
	if (!mark->set && !p->ids[UNPU_PROTO_KIND_BO].num_ending) {
		mark->set = true;
		mark->nonce = p->nonce;
		mark->index = p->bo_destroy;
	}
	clean = mark->set && (!p->bo_destroy_due || mark->nonce != p->nonce ||
			      (s32)(unpu_proto_load(&p->dev->commands_taken) - mark->index) >= 0);
	if (!clean)
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
out:
	spin_unlock(&p->lock);
	return clean;
}

static int unpu_proto_write_image(struct unpu_device *udev, const struct drm_mm_node *node,
				  const struct unpu_program_image *image)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	struct unpu_proto_mark mark = {};
	int idx;

	if (wait_event_state(p->wait, unpu_proto_range_clean(p, &mark) ||
			     unpu_proto_hopeless(p), UNPU_PROTO_WAIT))
		return -EINTR;
	if (unpu_proto_hopeless(p))
		return -ENODEV;
	if (!drm_dev_enter(&udev->drm, &idx))
		return -ENODEV;
	memcpy(udev->window + node->start, image->data, image->size);
	drm_dev_exit(idx);
	return 0;
}

static int unpu_proto_program_create(struct unpu_device *udev, struct unpu_program *program,
				     const struct unpu_program_image *image, u32 *error_index)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_PROGRAM,
		.command.program.size = image->size,
		.command.program.num_buffers = image->num_buffers,
		.command.program.num_dispatches = image->num_dispatches,
		.command.program.num_bindings = image->num_bindings,
		.command.program.const_bytes = image->const_bytes,
		.command.program.flags = image->flags,
		.command.program.stop_buffer = image->stop_buffer,
		.command.program.stop_offset = image->stop_offset,
		.image = unpu_heap_get(udev, image->size),
		.value = ~0ull,
	};
	int err;

	*error_index = ~0u;
	if (!creation.image)
		return -ENOMEM;
	creation.command.program.offset = creation.image->start;
	err = unpu_proto_write_image(udev, creation.image, image);
	if (!err)
		err = unpu_proto_create_object(udev, &creation, &program->hw_id);
	if (err && creation.value < image->num_dispatches)
		*error_index = creation.value;
	unpu_heap_put(udev, creation.image);
	return err;
}

static void unpu_proto_program_destroy(struct unpu_device *udev, u32 hw_id)
{
	unpu_proto_end_object(udev, UNPU_PROTO_KIND_PROGRAM, hw_id);
}

/* ---- contexts and jobs --------------------------------------------------------------------- */

static int unpu_proto_ctx_create(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	struct unpu_proto_creation creation = {
		.kind = UNPU_PROTO_KIND_CTX,
		.command.ctx.priority = ctx->priority,
		.command.ctx.timeout_ns = ctx->timeout_ns,
		.owner = ctx,
	};

	return unpu_proto_create_object(udev, &creation, &ctx->hw_id);
}

/* Under lock: jobs that the device has not heard of need not reach it any more. */
static void unpu_proto_drop_backlog(struct unpu_proto *p, u32 id)
{
	struct unpu_proto_command *command;
	u32 i;

	for (i = p->backlog_sent; i != p->backlog_made; i++) {
		command = &p->backlog[i % UNPU_PROTO_BACKLOG];
		if (command->id == id)
			command->op = 0;
	}
}

/* Under lock. Without room the pump does it. */
static void unpu_proto_tell_end(struct unpu_proto *p, u32 id)
{
	struct unpu_proto_ids *ids = &p->ids[UNPU_PROTO_KIND_CTX];
	u32 i;

	if (test_bit(id, ids->ending))
		return;
	for (i = 0; i < UNPU_PROTO_NUM_REQUESTS; i++) {
		const struct unpu_proto_request *request = &p->requests[i];

		if (request->tag && request->destroy && request->id == id && !request->done)
			return;
	}
	unpu_proto_drop_backlog(p, id);
	unpu_proto_id_end(ids, id);
	unpu_proto_pump(p);
}

/* -ETIMEDOUT: not yet. */
static int unpu_proto_ctx_ended(struct unpu_proto *p, const struct unpu_ctx *ctx, bool tell)
{
	int ret = 0;

	spin_lock(&p->lock);
	if (unpu_proto_gone(p)) {
		ret = -ENODEV;
	} else if (ctx->hw_id && p->flights[ctx->hw_id].owner == ctx) {
		if (tell)
			unpu_proto_tell_end(p, ctx->hw_id);
		ret = -ETIMEDOUT;
	}
	spin_unlock(&p->lock);
	return ret;
}

static int unpu_proto_ctx_destroy(struct unpu_device *udev, struct unpu_ctx *ctx,
				  unsigned int ms)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	int ret = unpu_proto_ctx_ended(p, ctx, true);

	if (ret == -ETIMEDOUT)
		wait_event_timeout(p->wait,
				   (ret = unpu_proto_ctx_ended(p, ctx, false)) != -ETIMEDOUT,
				   msecs_to_jiffies(ms));
	return ret;
}

static void unpu_proto_fill_job(struct unpu_proto_command *command, const struct unpu_job *job)
{
	u32 i;

	command->op = UNPU_PROTO_JOB;
	command->id = job->ctx->hw_id;
	command->job.seqno = job->seqno;
	command->job.num_runs = job->num_runs;
	for (i = 0; i < job->num_runs; i++) {
		command->job.runs[i].program_id = job->runs[i].program->hw_id;
		command->job.runs[i].repeat = job->runs[i].repeat;
	}
}

static int unpu_proto_run(struct unpu_device *udev, struct unpu_job *job)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	struct unpu_proto_command command = {};
	u32 id = job->ctx->hw_id;
	struct unpu_proto_flight *flight = &p->flights[id];
	int err = 0;

	unpu_proto_fill_job(&command, job);
	spin_lock(&p->lock);
	if (unpu_proto_gone(p) || flight->owner != job->ctx) {
		err = -ENODEV;
	} else if (flight->num == UNPU_PROTO_MAX_JOBS) {
		err = -EBUSY;
	} else {
		flight->jobs[flight->num].seqno = job->seqno;
		flight->jobs[flight->num].start = ktime_get();
		flight->num++;
		p->due++;
		p->backlog[p->backlog_made++ % UNPU_PROTO_BACKLOG] = command;
		unpu_proto_pump(p);
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_BUSY_MS);
	}
	spin_unlock(&p->lock);
	return err;
}

static u32 unpu_proto_progress(struct unpu_device *udev, struct unpu_ctx *ctx)
{
	const struct unpu_proto_ctx *words = udev->window + UNPU_PROTO_CTXS;
	struct unpu_proto *p = to_unpu_proto(udev);
	u32 progress = 0;

	spin_lock(&p->lock);
	if (p->attached && ctx->hw_id)
		progress = READ_ONCE(words[ctx->hw_id].progress);
	spin_unlock(&p->lock);
	return progress;
}

/* ---- life ---------------------------------------------------------------------------------- */

static int unpu_proto_init(struct unpu_device *udev)
{
	struct unpu_proto *p = to_unpu_proto(udev);
	int err;

	mutex_lock(&p->attach_lock);
	p->open = true;
	mutex_unlock(&p->attach_lock);
	err = unpu_proto_attach(p, UNPU_PROTO_READY_MS);
	if (!err)
		err = unpu_gem_init(udev, UNPU_PROTO_HEAP);
	if (err)
		unpu_proto_close(p, true);
	return err;
}

static void unpu_proto_fini(struct unpu_device *udev)
{
	unpu_proto_close(to_unpu_proto(udev), true);
}

static void unpu_proto_suspend(struct unpu_device *udev)
{
	unpu_proto_close(to_unpu_proto(udev), false);
}

static int unpu_proto_resume(struct unpu_device *udev)
{
	struct unpu_proto *p = to_unpu_proto(udev);

	mutex_lock(&p->attach_lock);
	p->suspended = false;
	p->refused = false;
	mutex_unlock(&p->attach_lock);
	return unpu_proto_attach(p, UNPU_PROTO_ATTACH_MS);
}

static int unpu_proto_reset(struct unpu_device *udev)
{
	return unpu_proto_attach(to_unpu_proto(udev), UNPU_PROTO_ATTACH_MS);
}

const struct unpu_hw_ops unpu_proto_ops = {
	.name = "virtual NPU",
	.init = unpu_proto_init,
	.fini = unpu_proto_fini,
	.suspend = unpu_proto_suspend,
	.resume = unpu_proto_resume,
	.bo_create = unpu_proto_bo_create,
	.bo_destroy = unpu_proto_bo_destroy,
	.shader_create = unpu_proto_shader_create,
	.shader_destroy = unpu_proto_shader_destroy,
	.program_create = unpu_proto_program_create,
	.program_destroy = unpu_proto_program_destroy,
	.ctx_create = unpu_proto_ctx_create,
	.ctx_destroy = unpu_proto_ctx_destroy,
	.run = unpu_proto_run,
	.progress = unpu_proto_progress,
	.reset = unpu_proto_reset,
};

static void unpu_proto_free_wq(struct drm_device *drm, void *wq)
{
	destroy_workqueue(wq);
}

static void unpu_proto_free_backlog(struct drm_device *drm, void *backlog)
{
	kvfree(backlog);
}

static int unpu_proto_alloc(struct unpu_proto *p, struct unpu_device *udev)
{
	u32 i;
	int err;

	/* Jobs end by it when interrupts are lost: it must get on when memory is short. */
	p->wq = alloc_workqueue("unpu-proto", WQ_MEM_RECLAIM, 0);
	if (!p->wq)
		return -ENOMEM;
	err = drmm_add_action_or_reset(&udev->drm, unpu_proto_free_wq, p->wq);
	if (err)
		return err;
	p->backlog = kvcalloc(UNPU_PROTO_BACKLOG, sizeof(*p->backlog), GFP_KERNEL);
	if (!p->backlog)
		return -ENOMEM;
	err = drmm_add_action_or_reset(&udev->drm, unpu_proto_free_backlog, p->backlog);
	for (i = 0; i < UNPU_PROTO_NUM_KINDS && !err; i++)
		err = unpu_proto_ids_init(udev, &p->ids[i], unpu_proto_kinds[i].size);
	return err;
}

int unpu_proto_create(struct unpu_device *udev, struct unpu_transport *transport)
{
	struct unpu_proto *p = drmm_kzalloc(&udev->drm, sizeof(*p), GFP_KERNEL);
	int err;

	if (!p)
		return -ENOMEM;
	err = unpu_proto_alloc(p, udev);
	if (err)
		return err;
	p->udev = udev;
	p->transport = transport;
	p->dev = udev->window + UNPU_PROTO_DEVICE;
	p->drv = udev->window + UNPU_PROTO_DRIVER;
	init_waitqueue_head(&p->wait);
	mutex_init(&p->attach_lock);
	mutex_init(&p->event_lock);
	spin_lock_init(&p->lock);
	INIT_DELAYED_WORK(&p->poll, unpu_proto_poll);
	INIT_WORK(&p->reap, unpu_proto_reap);
	udev->hw_priv = p;
	return 0;
}
