/* SPDX-License-Identifier: MIT */
/* Byte-level BPE (tokenizer.ggml.model "gpt2"): merges of a piece, and what a token's text is. */
#ifndef UNPU_BPE_H
#define UNPU_BPE_H

#include "runtime/text/merge.h"
#include "runtime/text/vocab.h"

struct unpu_bpe_rule {
	uint32_t left, right, merged;	/* tokens; left is UNPU_NO_TOKEN when one is none */
};

struct unpu_bpe {
	const struct unpu_vocab *vocab;
	struct unpu_bpe_rule *rules;	/* by rank */
	uint32_t num_rules;
	uint32_t *slots;		/* open addressing by (left, right): ranks */
	uint32_t num_slots;
	uint64_t key[2];
	bool ignore_merges;
	uint32_t byte_ids[256];		/* UNPU_NO_TOKEN: the vocabulary lacks the byte */
	uint32_t lost_ids[3];		/* U+FFFD in tokens: for bytes that the vocabulary lacks */
	uint32_t num_lost_ids;
};

/* The vocab must outlive it. -EINVAL: one line names the key; -ENOMEM. The caller finishes it in
 * either case. */
int unpu_bpe_init(struct unpu_bpe *bpe, const struct unpu_vocab *vocab,
		  const struct unpu_gguf *gguf, bool ignore_merges, const struct unpu_log *log);
void unpu_bpe_finish(struct unpu_bpe *bpe);

/* The ids of one piece; O(n log n) in its length. */
int unpu_bpe_encode(const struct unpu_bpe *bpe, struct unpu_merge_work *work, const char *piece,
		    size_t length, struct unpu_ids *out);

/* A token's text as the bytes it stands for; characters outside the byte alphabet stay. Writes at
 * most max bytes, returns how many there are. */
size_t unpu_bpe_decode(struct unpu_str text, char *out, size_t max);

#endif
