/* SPDX-License-Identifier: MIT */
/*
 * Cuts text into the pieces that byte-level BPE merges within. Text that is not UTF-8 is allowed:
 * a run of bytes that are no characters is a piece of its own.
 */
#ifndef UNPU_PRETOK_H
#define UNPU_PRETOK_H

#include "runtime/model/gguf.h"

struct unpu_pretok;

/* name is the value of tokenizer.ggml.pre. -EINVAL: not supported, the message lists those that
 * are; -ENOMEM. */
int unpu_pretok_create(struct unpu_str name, const struct unpu_log *log,
		       struct unpu_pretok **pretok);
void unpu_pretok_destroy(struct unpu_pretok *pretok);

/* What comes with the tokenizers of that name: a piece that is a token as a whole is not merged;
 * texts begin with BOS unless the file says otherwise. */
bool unpu_pretok_ignore_merges(const struct unpu_pretok *pretok);
bool unpu_pretok_add_bos(const struct unpu_pretok *pretok);

/* For tests: regex steps a match may take before its fragment is left whole. */
void unpu_pretok_set_limit(struct unpu_pretok *pretok, uint32_t limit);

/* Not 0 ends the splitting and is returned. */
typedef int unpu_piece_fn(void *arg, const char *text, size_t length);

/*
 * Calls fn with every piece in order; together they are the text. Thread-safe. -ENOMEM. A match
 * that takes more steps than the limit allows leaves the rest of its fragment uncut: bytes are
 * never lost and the time stays linear, only the tokens may be others.
 */
int unpu_pretok_split(const struct unpu_pretok *pretok, const char *text, size_t length,
		      unpu_piece_fn *fn, void *arg);

#endif
