/* SPDX-License-Identifier: MIT */
/*
 * Byte-level BPE from texts: the pieces that a pre-tokenizer cuts are counted, then the most
 * frequent pair of neighbours becomes a token, again and again (Sennrich et al., 2016; over bytes:
 * Radford et al., 2019).
 */
#ifndef UNPU_TRAIN_MERGES_H
#define UNPU_TRAIN_MERGES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"

#define UNPU_MERGES_BYTES	256u	/* tokens 0..255 are the bytes */

struct unpu_merge_pair {
	uint32_t left, right;		/* token 256 + i is pair i */
};

struct unpu_merges;

/* pre: a name that unpu_pretok_create() takes. */
int unpu_merges_create(const char *pre, const struct unpu_log *log, struct unpu_merges **merges);
void unpu_merges_destroy(struct unpu_merges *merges);

/* Counts the pieces of a text. -ENOMEM. */
int unpu_merges_add(struct unpu_merges *merges, const char *text, size_t length);

/*
 * At most `most` pairs into `pairs`, ends before when no pair occurs twice; returns how many. Of
 * pairs as frequent as one another the one of the lower tokens comes first: the texts alone decide.
 */
int64_t unpu_merges_find(struct unpu_merges *merges, uint32_t most, struct unpu_merge_pair *pairs);

#endif
