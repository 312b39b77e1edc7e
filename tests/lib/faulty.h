/* SPDX-License-Identifier: MIT */
/*
 * A device whose calls fail, or are looked at, when a test says so: it stands between a model and
 * the device that the model has. One at a time.
 */
#ifndef UNPU_TESTS_FAULTY_H
#define UNPU_TESTS_FAULTY_H

#include "runtime/core.h"

void faulty_begin(struct unpu_model *model);
void faulty_end(void);

/*
 * The nth call of the device from now on does nothing but return err; a wait has waited then. 0:
 * none fails. Begins to count anew.
 */
void faulty_fail(uint32_t nth, int err);
/* The nth job from now on ends with err, as ctx_query tells; its context takes no more jobs. */
void faulty_fail_job(uint32_t nth, int err);
/* Calls since faulty_fail(). */
uint32_t faulty_calls(void);

/* Called before and after each call of the device, with their number from 1; NULL: not. Begins to
 * count anew. */
void faulty_watch(void (*hook)(void *arg, uint32_t point), void *arg);

#endif
