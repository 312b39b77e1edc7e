/* SPDX-License-Identifier: MIT */
/* SentencePiece BPE (tokenizer.ggml.model "llama"): the best-scored merge first, bytes as a last
 * resort. */
#ifndef UNPU_SPM_H
#define UNPU_SPM_H

#include "runtime/text/merge.h"
#include "runtime/text/vocab.h"

struct unpu_spm {
	const struct unpu_vocab *vocab;
	const char *scores;		/* float, in the file, may be unaligned */
	uint32_t byte_ids[256];		/* UNPU_NO_TOKEN: the vocabulary lacks the byte */
	uint32_t unknown;		/* or UNPU_NO_TOKEN */
};

/* The vocab must outlive it; tokens named <0xXX> in a file without token types become byte tokens.
 * -EINVAL: one line names the key. */
int unpu_spm_init(struct unpu_spm *spm, struct unpu_vocab *vocab, const struct unpu_gguf *gguf,
		  uint32_t unknown, const struct unpu_log *log);

/* The ids of a text between special tokens, preceded by a space when prefix is set; O(n log n). */
int unpu_spm_encode(const struct unpu_spm *spm, struct unpu_merge_work *work, const char *text,
		    size_t length, bool prefix, struct unpu_ids *out);

/* A token's text with its spaces, or the byte that it stands for. Writes at most max bytes, returns
 * how many there are. */
size_t unpu_spm_decode(const struct unpu_vocab *vocab, uint32_t id, char *out, size_t max);

#endif
