/* SPDX-License-Identifier: MIT */
/*
 * The window as uapi/unpu_proto.h lays it out, seen from the device: who the driver is, commands
 * out of their ring, events into theirs, doorbells. Not one word of the driver's is read twice.
 *
 * Nothing here has a lock: the worker's guards all of it but vdev_link_ring().
 */
#ifndef UNPU_VDEV_LINK_H
#define UNPU_VDEV_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "uapi/unpu_proto.h"

struct vdev_link {
	uint8_t *window;
	uint64_t bytes;
	int interrupt;
	uint32_t epoch;
	/* The device's own of what it also writes there: the window's is the driver's to spoil. */
	uint32_t commands_taken, events_made, heartbeat;
	uint32_t due;		/* events that commands taken will yet make */
	uint32_t refused;	/* the last attach that was refused */
	uint32_t attached;	/* 0: nobody is */
	bool full;		/* a command is there that cannot be taken now */
};

/* Lays out the device's page with state BOOT and an epoch other than what was there. */
void vdev_link_init(struct vdev_link *link, void *window, uint64_t bytes, int interrupt);
/* READY: all of info and names is written before. FAILED: they stay as they are. */
void vdev_link_ready(struct vdev_link *link, const struct drm_unpu_dev_info *info,
		     const struct drm_unpu_shader_name *names, uint32_t num_names);
void vdev_link_fail(struct vdev_link *link);

/* The number of a driver that wants to attach, 0: none does. */
uint32_t vdev_link_asked(const struct vdev_link *link);
/* The version that driver speaks. */
uint32_t vdev_link_version(const struct vdev_link *link);
/* Both rings are empty from here on, in a new epoch. */
void vdev_link_attach(struct vdev_link *link, uint32_t number);

/* The driver is told that all it had is gone, and not listened to until it attaches again. */
void vdev_link_detach(struct vdev_link *link);
/* So the number is not asked about again. */
void vdev_link_refuse(struct vdev_link *link, uint32_t number);

/* The next command: 1, 0: none, or no room for its event, -EPROTO: the rings are broken. */
int vdev_link_peek(struct vdev_link *link, struct unpu_proto_command *command);
/* It is dealt with. */
void vdev_link_take(struct vdev_link *link);

/* One that was due. True: the driver wants to hear of it, by vdev_link_ring(). */
bool vdev_link_event(struct vdev_link *link, const struct unpu_proto_event *event);
void vdev_link_ring(const struct vdev_link *link);

/* Before sleeping: the doorbell is wanted, and there is nothing to do yet. */
bool vdev_link_sleeps(struct vdev_link *link);
void vdev_link_wakes(struct vdev_link *link);

void vdev_link_beat(struct vdev_link *link);
void vdev_link_progress(struct vdev_link *link, uint32_t ctx, uint32_t progress);

/* Whether [offset, offset + size) lies in the heap. */
bool vdev_link_in_heap(const struct vdev_link *link, uint64_t offset, uint64_t size);

#endif
