/* SPDX-License-Identifier: MIT */
/* The tokens of a GGUF file: their texts stay in the file, a hash finds them. */
#ifndef UNPU_VOCAB_H
#define UNPU_VOCAB_H

#include "runtime/model/gguf.h"

#define UNPU_NO_TOKEN	UINT32_MAX

/* tokenizer.ggml.token_type, numbered as in the file format. */
enum unpu_token_type {
	UNPU_TOKEN_NORMAL = 1,
	UNPU_TOKEN_UNKNOWN = 2,
	UNPU_TOKEN_CONTROL = 3,
	UNPU_TOKEN_USER_DEFINED = 4,
	UNPU_TOKEN_UNUSED = 5,
	UNPU_TOKEN_BYTE = 6,
};

/* 8 bytes: a file justifies no more than about twice its size, and a token of it may be 8 bytes. */
struct unpu_token {
	uint32_t offset;	/* of the text, from unpu_vocab.base */
	uint32_t length : 24;
	uint32_t type : 8;	/* enum unpu_token_type */
};

struct unpu_vocab {
	const char *base;
	struct unpu_token *tokens;
	uint32_t num_tokens;
	uint32_t max_length;	/* of a token's text */
	uint32_t *slots;	/* open addressing: token ids or UNPU_NO_TOKEN */
	uint32_t num_slots;
	uint64_t key[2];	/* random: texts of a file cannot be made to collide */
	uint32_t *special;	/* ids of tokens found in text as a whole, sorted by their bytes */
	uint32_t num_special;
	uint32_t num_user_defined;	/* how many of them are looked for always */
	uint32_t first[257];	/* special[first[c] .. first[c + 1]) begin with byte c */
};

/* Special tokens longer than this are not looked for: it bounds the work per byte of text. */
#define UNPU_SPECIAL_MAX	255

/* -EINVAL: one line names the key; -ENOMEM. The caller finishes the vocab in either case. */
int unpu_vocab_init(struct unpu_vocab *vocab, const struct unpu_gguf *gguf,
		    const struct unpu_log *log);
void unpu_vocab_finish(struct unpu_vocab *vocab);

/* To be called once, after the last change of a token's type. -ENOMEM. */
int unpu_vocab_index_special(struct unpu_vocab *vocab);

/* The token with this text, or UNPU_NO_TOKEN; of several the last normal one, else the last. */
uint32_t unpu_vocab_find(const struct unpu_vocab *vocab, const char *text, size_t length);

/*
 * The longest special token that text begins with, or UNPU_NO_TOKEN. Control and unknown tokens
 * count only when all is set.
 */
uint32_t unpu_vocab_special_at(const struct unpu_vocab *vocab, const char *text, size_t length,
			       bool all);

static inline struct unpu_str unpu_vocab_text(const struct unpu_vocab *vocab, uint32_t id)
{
	const struct unpu_token *token = &vocab->tokens[id];

	return (struct unpu_str){ vocab->base + token->offset, token->length };
}

#endif
