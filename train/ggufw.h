/* SPDX-License-Identifier: MIT */
/*
 * A GGUF v3 file in memory, key by key and tensor by tensor, then its bytes. Errors stick: only the
 * last call tells of them.
 */
#ifndef UNPU_TRAIN_GGUFW_H
#define UNPU_TRAIN_GGUFW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"

struct unpu_ggufw;

/* -ENOMEM */
int unpu_ggufw_create(const struct unpu_log *log, struct unpu_ggufw **w);
void unpu_ggufw_destroy(struct unpu_ggufw *w);

/* An error of the caller's, as if it were one of w's own. */
void unpu_ggufw_fail(struct unpu_ggufw *w, int err);

void unpu_ggufw_u32(struct unpu_ggufw *w, const char *key, uint32_t value);
void unpu_ggufw_f32(struct unpu_ggufw *w, const char *key, float value);
void unpu_ggufw_bool(struct unpu_ggufw *w, const char *key, bool value);
void unpu_ggufw_str(struct unpu_ggufw *w, const char *key, const char *text, size_t length);
/* Texts behind one another, NUL after each. */
void unpu_ggufw_strings(struct unpu_ggufw *w, const char *key, const char *texts, uint32_t count);
void unpu_ggufw_i32s(struct unpu_ggufw *w, const char *key, const int32_t *values, uint32_t count);
/* Bytes of a key-value pair as they lie in another file, its key included. */
void unpu_ggufw_copy(struct unpu_ggufw *w, const void *pair, size_t bytes);

/* All tensors after all keys. rows 1: of one dimension. The data is copied. */
void unpu_ggufw_tensor(struct unpu_ggufw *w, const char *name, uint32_t type, uint32_t columns,
		       uint32_t rows, const void *data, size_t bytes);

/* The whole file, which lives as long as w does. -ENOMEM, also of any call before. */
int unpu_ggufw_finish(struct unpu_ggufw *w, const void **data, size_t *size);

#endif
