// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual NPU: ids, the command ring and what waits for room in it, requests; events, which are
 * their answers and the ends of jobs.
 */
#include <linux/bitmap.h>
#include <linux/dma-fence.h>

#include <drm/drm_managed.h>

#include "unpu_proto_priv.h"

/* A tag is a number and, in its low bits, the request. */
static_assert((UNPU_PROTO_NUM_REQUESTS & (UNPU_PROTO_NUM_REQUESTS - 1)) == 0);

static const struct {
	const char *name;
	u32 size, create, destroy;
} unpu_proto_kinds[] = {
	{ "buffer", UNPU_PROTO_MAX_IDS, UNPU_PROTO_BO_CREATE, UNPU_PROTO_BO_DESTROY },
	{ "shader", UNPU_PROTO_MAX_IDS, UNPU_PROTO_SHADER_CREATE, UNPU_PROTO_SHADER_DESTROY },
	{ "program", UNPU_PROTO_MAX_IDS, UNPU_PROTO_PROGRAM_CREATE, UNPU_PROTO_PROGRAM_DESTROY },
	{ "context", UNPU_PROTO_MAX_CTXS, UNPU_PROTO_CTX_CREATE, UNPU_PROTO_CTX_DESTROY },
};

/* ---- polling ------------------------------------------------------------------------------- */

/* Under lock: the next look is not later than in ms. */
void unpu_proto_poll_within(struct unpu_proto *p, u32 ms)
{
	if (!p->poll_ms || p->poll_ms <= ms)
		return;
	p->poll_ms = ms;
	mod_delayed_work(p->wq, &p->poll, msecs_to_jiffies(ms));
}

bool unpu_proto_waits(const struct unpu_proto *p)
{
	u32 i, ending = 0;

	for (i = 0; i < UNPU_PROTO_NUM_KINDS; i++)
		ending += p->ids[i].num_ending;
	return ending || p->backlog_made != p->backlog_sent;
}

/* ---- ids ----------------------------------------------------------------------------------- */

u32 unpu_proto_id_get(struct unpu_proto_ids *ids)
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

void unpu_proto_id_put(struct unpu_proto_ids *ids, u32 id)
{
	__clear_bit(id, ids->live);
	__clear_bit(id, ids->used);
}

/* The object is not wanted any more: free when the device was told, or has never had it. */
void unpu_proto_id_end(struct unpu_proto_ids *ids, u32 id)
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
void unpu_proto_ids_forget(struct unpu_proto_ids *ids)
{
	bitmap_andnot(ids->used, ids->used, ids->ending, ids->size);
	bitmap_zero(ids->ending, ids->size);
	bitmap_zero(ids->live, ids->size);
	ids->num_ending = 0;
}

int unpu_proto_ids_init(struct unpu_device *udev, struct unpu_proto_ids *ids, u32 kind)
{
	u32 size = unpu_proto_kinds[kind].size;
	size_t bytes = BITS_TO_LONGS(size) * sizeof(long);

	ids->size = size;
	ids->next = 1;
	ids->used = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	ids->live = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	ids->ending = drmm_kzalloc(&udev->drm, bytes, GFP_KERNEL);
	return ids->used && ids->live && ids->ending ? 0 : -ENOMEM;
}

/* ---- the command ring ---------------------------------------------------------------------- */

/* After what was published: either this sees that the device sleeps, or the device sees it. */
static void unpu_proto_ring(struct unpu_proto *p)
{
	unpu_proto_fence();
	if (READ_ONCE(p->dev->wants_doorbell))
		p->transport->ring(p->transport);
}

bool unpu_proto_room(struct unpu_proto *p)
{
	u32 taken = unpu_proto_load(&p->dev->commands_taken);

	if (p->commands_made - taken > UNPU_PROTO_NUM_COMMANDS) {
		p->broken = true;
		unpu_proto_poll_within(p, UNPU_PROTO_POLL_FULL_MS);
		return false;
	}
	if (taken != p->commands_seen) {
		p->commands_seen = taken;
		p->moved = jiffies;
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

struct unpu_proto_request *
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
void unpu_proto_pump(struct unpu_proto *p)
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
void unpu_proto_request_end(struct unpu_proto *p, struct unpu_proto_request *request)
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

	p->moved = jiffies;
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

void unpu_proto_reap(struct work_struct *work)
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
