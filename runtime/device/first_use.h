/* SPDX-License-Identifier: MIT */
/*
 * The first use of a device that may take the process, or the machine, with it: a marker is there
 * before the driver is loaded, and gone after the first good answer. One that is found belongs to
 * somebody whom the device has killed, and refuses it.
 */
#ifndef UNPU_FIRST_USE_H
#define UNPU_FIRST_USE_H

#include "runtime/device/verdict.h"

struct unpu_first_use {
	char id[16];
	bool marked;
};

/* Before anything of the device runs in this process. -ENODEV, said: it is refused. */
int unpu_first_use_begin(struct unpu_first_use *use, const struct unpu_log *log, const char *id);
/* When the key shows that it is another device, or driver, than what gave good answers. */
int unpu_first_use_key(struct unpu_first_use *use, const struct unpu_log *log, const char *key);
/* It did not come to that: no device was opened. */
void unpu_first_use_end(struct unpu_first_use *use);
/* Looks at the device's jobs until one ends well; over at once where no marker is set. -ENOMEM. */
int unpu_first_use_watch(const struct unpu_first_use *use, const char *key,
			 struct unpu_device *dev);

#endif
