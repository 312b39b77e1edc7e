/* SPDX-License-Identifier: MIT */
#include "tools/unpu-vdev/link.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* A word that the other side may change at any time. */
static uint32_t get(const volatile uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void put(volatile uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static volatile struct unpu_proto_device *device(const struct vdev_link *link)
{
	return (void *)(link->window + UNPU_PROTO_DEVICE);
}

static const volatile struct unpu_proto_driver *driver(const struct vdev_link *link)
{
	return (const void *)(link->window + UNPU_PROTO_DRIVER);
}

/* ---- beginning ------------------------------------------------------------------------------ */

void vdev_link_init(struct vdev_link *link, void *window, uint64_t bytes, int interrupt)
{
	volatile struct unpu_proto_device *dev = window;
	const volatile struct unpu_proto_driver *drv =
		(const void *)((const uint8_t *)window + UNPU_PROTO_DRIVER);
	uint32_t epoch = get(&dev->epoch) + 1;

	*link = (struct vdev_link){
		.window = window, .bytes = bytes, .interrupt = interrupt,
		.epoch = epoch ? epoch : 1,
		/* The rings of who was attached are full of what the one before has done; when that
		 * ended before anybody attached, of what one before it has. */
		.refused = get(&dev->attached) ? get(&dev->attached) : get(&drv->attach),
	};
	/* A driver of the epoch before looks at state and epoch first: nothing of that survives. */
	put(&dev->state, UNPU_PROTO_STATE_BOOT);
	put(&dev->attached, 0);
	put(&dev->epoch, link->epoch);
	dev->window_bytes = bytes;
	put(&dev->version, UNPU_PROTO_VERSION);
	/* Who finds the magic number finds the rest. */
	put(&dev->magic, UNPU_PROTO_MAGIC);
}

void vdev_link_ready(struct vdev_link *link, const struct drm_unpu_dev_info *info,
		     const struct drm_unpu_shader_name *names, uint32_t num_names)
{
	volatile struct unpu_proto_device *dev = device(link);

	if (num_names > UNPU_PROTO_MAX_SHADERS)
		num_names = UNPU_PROTO_MAX_SHADERS;
	memcpy((void *)&dev->info, info, sizeof(*info));
	memcpy(link->window + UNPU_PROTO_SHADERS, names, num_names * sizeof(*names));
	dev->num_shaders = num_names;
	put(&dev->state, UNPU_PROTO_STATE_READY);
	vdev_link_ring(link);
}

void vdev_link_fail(struct vdev_link *link)
{
	put(&device(link)->state, UNPU_PROTO_STATE_FAILED);
	vdev_link_ring(link);
}

uint32_t vdev_link_asked(const struct vdev_link *link)
{
	uint32_t number = get(&driver(link)->attach);

	return number == link->attached || number == link->refused ? 0 : number;
}

uint32_t vdev_link_version(const struct vdev_link *link)
{
	return get(&driver(link)->version);
}

void vdev_link_attach(struct vdev_link *link, uint32_t number)
{
	volatile struct unpu_proto_device *dev = device(link);

	link->commands_taken = 0;
	link->events_made = 0;
	link->due = 0;
	if (!++link->epoch)
		link->epoch = 1;
	link->attached = number;
	memset(link->window + UNPU_PROTO_CTXS, 0,
	       UNPU_PROTO_MAX_CTXS * sizeof(struct unpu_proto_ctx));
	put(&dev->commands_taken, 0);
	put(&dev->events_made, 0);
	put(&dev->epoch, link->epoch);
	put(&dev->attached, number);
	vdev_link_ring(link);
}

void vdev_link_detach(struct vdev_link *link)
{
	volatile struct unpu_proto_device *dev = device(link);

	link->refused = link->attached;
	link->attached = 0;
	link->due = 0;
	if (!++link->epoch)
		link->epoch = 1;
	put(&dev->attached, 0);
	put(&dev->epoch, link->epoch);
	vdev_link_ring(link);
}

void vdev_link_refuse(struct vdev_link *link, uint32_t number)
{
	link->refused = number;
}

/* ---- commands ------------------------------------------------------------------------------- */

static int link_room(const struct vdev_link *link)
{
	uint32_t out = link->events_made - get(&driver(link)->events_taken);

	if (out > UNPU_PROTO_NUM_EVENTS)
		return -EPROTO;
	return out + link->due < UNPU_PROTO_NUM_EVENTS;
}

int vdev_link_peek(struct vdev_link *link, struct unpu_proto_command *command)
{
	uint32_t ready = get(&driver(link)->commands_made) - link->commands_taken;
	uint32_t slot = link->commands_taken % UNPU_PROTO_NUM_COMMANDS;
	int room;

	link->full = false;
	if (!ready)
		return 0;
	room = ready > UNPU_PROTO_NUM_COMMANDS ? -EPROTO : link_room(link);
	link->full = room <= 0;
	if (room <= 0)
		return room;
	memcpy(command, link->window + UNPU_PROTO_COMMANDS + slot * sizeof(*command),
	       sizeof(*command));
	return 1;
}

void vdev_link_take(struct vdev_link *link)
{
	put(&device(link)->commands_taken, ++link->commands_taken);
}

/* ---- events --------------------------------------------------------------------------------- */

/* Full barriers stand between what is published and the other side's wish to hear of it: each side
 * writes its own and then reads the other's, and one of them has to see. */
static void full_barrier(void)
{
#if defined(__SANITIZE_THREAD__)
	static atomic_uint order;

	atomic_fetch_add(&order, 1);	/* that sanitizer does not know fences */
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

bool vdev_link_event(struct vdev_link *link, const struct unpu_proto_event *event)
{
	uint32_t slot = link->events_made % UNPU_PROTO_NUM_EVENTS;

	link->due--;
	memcpy(link->window + UNPU_PROTO_EVENTS + slot * sizeof(*event), event, sizeof(*event));
	put(&device(link)->events_made, ++link->events_made);
	full_barrier();
	return get(&driver(link)->wants_doorbell);
}

void vdev_link_ring(const struct vdev_link *link)
{
	const uint64_t one = 1;

	/* A counter at its end has rung already. */
	if (write(link->interrupt, &one, sizeof(one)) < 0)
		return;
}

/* ---- sleeping ------------------------------------------------------------------------------- */

bool vdev_link_sleeps(struct vdev_link *link)
{
	put(&device(link)->wants_doorbell, 1);
	full_barrier();
	return !vdev_link_asked(link) &&
	       (!link->attached || link->full ||
		get(&driver(link)->commands_made) == link->commands_taken);
}

void vdev_link_wakes(struct vdev_link *link)
{
	put(&device(link)->wants_doorbell, 0);
}

void vdev_link_beat(struct vdev_link *link)
{
	put(&device(link)->heartbeat, ++link->heartbeat);
}

void vdev_link_progress(struct vdev_link *link, uint32_t ctx, uint32_t progress)
{
	struct unpu_proto_ctx *ctxs = (void *)(link->window + UNPU_PROTO_CTXS);

	put(&ctxs[ctx].progress, progress);
}

bool vdev_link_in_heap(const struct vdev_link *link, uint64_t offset, uint64_t size)
{
	return offset >= UNPU_PROTO_HEAP && offset <= link->bytes && size <= link->bytes - offset;
}
