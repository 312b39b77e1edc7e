/* SPDX-License-Identifier: MIT */
/* The cpu engine: programs run on the twins, by all threads of a pool together. */
#ifndef UNPU_CPU_H
#define UNPU_CPU_H

#include "runtime/device/inproc.h"

/* The engine without the frame around it, for tests; unpu_cpu_device_open() wraps it. Ends with
 * ops->destroy(). */
int unpu_cpu_engine_create(const struct unpu_device_params *params, struct unpu_engine **engine);

#endif
