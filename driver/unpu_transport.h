/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between the file that has found a window of shared memory (unpu_pci.c; device tree, vfio-user or
 * virtio could be others) and those that talk through it (unpu_proto*.c). What the former brings:
 * the window in unpu_device, a way to ring, and calls of unpu_proto_events() when it is rung at.
 */
#ifndef UNPU_TRANSPORT_H
#define UNPU_TRANSPORT_H

#include "unpu_drv.h"

struct unpu_transport {
	/* Under a spinlock, on the path that signals fences. Not called after hw->fini(). */
	void (*ring)(struct unpu_transport *transport);
};

extern const struct unpu_hw_ops unpu_proto_ops;

/* Whether the window is one of ours, before anything is made. -ENODEV: no, which was said. */
int unpu_proto_check(struct device *dev, const void *window, u64 bytes);
/* Before unpu_device_register(). The transport outlives hw->fini(). */
int unpu_proto_create(struct unpu_device *udev, struct unpu_transport *transport);
/*
 * Takes what the device has said; from an interrupt thread or any process context, at any time
 * after unpu_proto_create(). How many answers and ends of jobs there were.
 */
unsigned int unpu_proto_events(struct unpu_device *udev);

#endif
