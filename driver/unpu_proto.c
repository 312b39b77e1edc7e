// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtual NPU: what uapi/unpu_proto.h says, from the driver's end. Here its life: attaching,
 * watching whether it is still that device and gets on, loss, suspend and the end.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/random.h>

#include <drm/drm_managed.h>
#include <drm/drm_print.h>

#include "unpu_proto_priv.h"

#define UNPU_PROTO_READY_MS	10000	/* for the device's engine to open, at probe */
#define UNPU_PROTO_ATTACH_MS	500	/* to attach, or to be ready later; it is asked again */
#define UNPU_PROTO_RERING_MS	100
#define UNPU_PROTO_SILENT_MS	3000	/* without a heartbeat: said once */

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
int unpu_proto_refuse(struct unpu_proto *p, int err, const char *format, ...)
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
	p->stuck = false;
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
	p->device_epoch = atomic_read(&p->udev->epoch);
	p->moved = jiffies;
	p->commands_seen = 0;
	p->attached = true;
	WRITE_ONCE(p->drv->wants_doorbell, 1);
	unpu_proto_fence();
	p->poll_ms = UNPU_PROTO_POLL_BUSY_MS;
	mod_delayed_work(p->wq, &p->poll, msecs_to_jiffies(p->poll_ms));
}

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
	if (p->stuck)
		return "it takes no commands";
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

/* True: everything in the device is lost, of that epoch of the driver's. */
static bool unpu_proto_watch(struct unpu_proto *p, int *epoch)
{
	const char *why = NULL;

	mutex_lock(&p->event_lock);
	spin_lock(&p->lock);
	if (p->attached) {
		why = unpu_proto_lost_why(p);
		*epoch = p->device_epoch;
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
	int epoch;

	unpu_proto_events(p->udev);
	/* Whoever else has seen it may have attached anew by now. */
	if (unpu_proto_watch(p, &epoch))
		unpu_device_lose(p->udev, epoch);
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

/* ---- life ---------------------------------------------------------------------------------- */

int unpu_proto_init(struct unpu_device *udev)
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

void unpu_proto_fini(struct unpu_device *udev)
{
	unpu_proto_close(to_unpu_proto(udev), true);
}

void unpu_proto_suspend(struct unpu_device *udev)
{
	unpu_proto_close(to_unpu_proto(udev), false);
}

int unpu_proto_resume(struct unpu_device *udev)
{
	struct unpu_proto *p = to_unpu_proto(udev);

	mutex_lock(&p->attach_lock);
	p->suspended = false;
	p->refused = false;
	mutex_unlock(&p->attach_lock);
	return unpu_proto_attach(p, UNPU_PROTO_ATTACH_MS);
}

int unpu_proto_reset(struct unpu_device *udev)
{
	return unpu_proto_attach(to_unpu_proto(udev), UNPU_PROTO_ATTACH_MS);
}

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
		err = unpu_proto_ids_init(udev, &p->ids[i], i);
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
