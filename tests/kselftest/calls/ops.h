/* SPDX-License-Identifier: GPL-2.0-only */
/* The calls themselves; their arguments are told in table.c. */
#ifndef UNPU_KSELFTEST_CALLS_OPS_H
#define UNPU_KSELFTEST_CALLS_OPS_H

#include <setjmp.h>
#include <stddef.h>

#include "tests/kselftest/calls/calls.h"

#define OP(__name) int op_##__name(struct calls_runner *r, const uint64_t *a)

OP(open); OP(close); OP(query); OP(fdinfo); OP(raw); OP(core);
OP(bo_create); OP(bo_offset); OP(bo_close); OP(bo_word);
OP(map); OP(unmap); OP(touch); OP(advise);
OP(ctx_create); OP(ctx_destroy); OP(ctx_query);
OP(shader_create); OP(shader_destroy); OP(program_create); OP(program_destroy); OP(submit);
OP(syncobj_create); OP(syncobj_destroy); OP(syncobj_wait); OP(timeline_wait); OP(syncobj_set);
OP(timeline_signal); OP(syncobj_query); OP(syncobj_transfer); OP(syncobj_eventfd);
OP(syncobj_export); OP(syncobj_import); OP(sync_import); OP(sync_use); OP(sync_merge);
OP(sync_close);
OP(bo_export); OP(bo_import); OP(dmabuf_use); OP(dmabuf_close);
OP(sleep); OP(fork); OP(signal);

/* What an argument stands for. */
uint64_t arg_value(struct calls_runner *r, enum calls_kind kind, uint64_t arg);
int arg_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg);
void *arg_map(struct calls_runner *r, uint64_t arg);
void made_value(struct calls_runner *r, enum calls_kind kind, uint64_t arg, uint64_t value);
/* What was there before is closed. */
void made_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg, int fd);
/* The caller's from then on, -1: nothing was there. */
int take_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg);
/* Made again when a signal has interrupted it. 0 or -errno */
int op_ioctl(int fd, unsigned long request, void *args);
/* The op itself may take so long. */
void op_takes(struct calls_runner *r, uint64_t ms);
/* A byte of it becomes another, if `wrong` is not 0. */
void damage(uint64_t wrong, void *data, size_t bytes);

/*
 * Around what may touch an address where nothing is, or where nothing is any more: 0, or not when
 * it came to that.
 */
extern _Thread_local sigjmp_buf op_jump;
extern _Thread_local volatile bool op_guarded;
#define GUARDED(__do) \
	(sigsetjmp(op_jump, 1) ? (op_guarded = false, -1) : \
	 (op_guarded = true, (__do), op_guarded = false, 0))

#endif
