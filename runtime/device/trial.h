/* SPDX-License-Identifier: MIT */
/* How long a device takes for a token of a model of some shape, with made-up weights. */
#ifndef UNPU_TRIAL_H
#define UNPU_TRIAL_H

#include "runtime/device/rig.h"

/*
 * As many of the model's layers as make a fair part of it, and its head, in well under a second.
 * -ENOTSUP: no layout for such weights; else what the device said, -ENOMEM for one.
 */
int unpu_trial_run(struct unpu_device *dev, const struct unpu_device_shape *shape, uint64_t *ns);

#endif
