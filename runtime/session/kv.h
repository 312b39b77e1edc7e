/* SPDX-License-Identifier: MIT */
/* A session's KV cache on its way to and from a file. */
#ifndef UNPU_SESSION_KV_H
#define UNPU_SESSION_KV_H

#include "runtime/model/id.h"
#include "runtime/session/file.h"
#include "runtime/session/session.h"

/* ---- kv.c ---- */

/* What a head says of the session's cache, all but `positions`. */
void unpu_kv_describe(struct unpu_session *s, struct unpu_session_head *head);

/*
 * The cells of the first `positions` tokens, through a mapped buffer of at most 1 MiB. Negative
 * errnos are of the device or of memory; *file_err is 0, or what is wrong with the file:
 * UNPU_FILE_*, -ERANGE for values that no cache holds, or an errno of read(2) and write(2). Then
 * the call returns 0, as only its caller knows what that means.
 */
int unpu_kv_save(struct unpu_session *s, uint32_t positions, struct unpu_file *f, int *file_err);
int unpu_kv_load(struct unpu_session *s, uint32_t positions, struct unpu_file *f, int *file_err);

#endif
