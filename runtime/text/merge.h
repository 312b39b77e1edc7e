/* SPDX-License-Identifier: MIT */
/*
 * What BPE and SentencePiece share: a queue of candidate merges, lowest key first and, among equal
 * keys, leftmost first. Candidates are never removed when a merge makes them void; who takes one
 * checks that it still holds. At most twice as many are pushed as there are symbols.
 */
#ifndef UNPU_MERGE_H
#define UNPU_MERGE_H

#include <stddef.h>
#include <stdint.h>

struct unpu_merge_queue {
	uint64_t *items;	/* key << 32 | symbol that merges with the one after it */
	size_t num, room;
};

/* A text or a piece of it, as a list of symbols; NONE ends it. */
#define UNPU_SYMBOL_NONE	UINT32_MAX

struct unpu_symbol {
	uint32_t prev, next;
	uint32_t at;		/* SentencePiece: offset of its text */
	uint32_t id;		/* BPE: token; SentencePiece: length of its text, 0 when gone */
};

/* Scratch memory of one encode call, reused from piece to piece. */
struct unpu_merge_work {
	struct unpu_merge_queue queue;
	struct unpu_symbol *symbols;
	size_t num, room;
};

/* Makes room for num symbols and empties the queue. -ENOMEM, -EFBIG: more than 2^31. */
int unpu_merge_work_reset(struct unpu_merge_work *work, size_t num);
void unpu_merge_work_finish(struct unpu_merge_work *work);

/* Links symbols 0 .. num - 1 into a list. */
void unpu_merge_work_link(struct unpu_merge_work *work);

/* The symbol after left becomes part of it. */
void unpu_merge_work_join(struct unpu_merge_work *work, uint32_t left);

int unpu_merge_queue_push(struct unpu_merge_queue *queue, uint32_t key, uint32_t left);
/* 0 when empty. */
int unpu_merge_queue_pop(struct unpu_merge_queue *queue, uint32_t *key, uint32_t *left);

/* Where ids go: all are counted, the first max are kept. */
struct unpu_ids {
	uint32_t *ids;
	size_t max;
	int64_t num;
};

static inline void unpu_ids_add(struct unpu_ids *out, uint32_t id)
{
	if ((uint64_t)out->num < out->max)
		out->ids[out->num] = id;
	out->num++;
}

#endif
