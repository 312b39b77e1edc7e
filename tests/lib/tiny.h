/* SPDX-License-Identifier: MIT */
/* Writes tiny GGUF models of every architecture and type, with seeded random weights. */
#ifndef UNPU_TESTS_TINY_H
#define UNPU_TESTS_TINY_H

#include <stddef.h>
#include <stdint.h>

struct tiny_params {
	const char *arch;	/* "llama", "qwen2", "qwen3", "gpt2" */
	uint32_t type;		/* enum unpu_type of the matrices */
	/* Of attn_v, ffn_down, the embedding and the head, as in files whose name ends in _M; 0:
	 * the same. */
	uint32_t more;
	/* 0: a default */
	uint32_t hidden, ffn, layers, heads, kv_heads, head_dim, vocab, context;
	uint32_t padding;	/* rows of the embedding table past the last token */
	int tied;		/* -1: as the architecture has it */
	uint64_t seed;
	const char *tokenizer;	/* "spm" (byte fallback) or "bpe"; NULL: spm, gpt2: bpe */
	int chat;		/* ChatML: its template, and control tokens for its markers */
};

/* The file's bytes, to be freed with free(); NULL without memory. */
uint8_t *tiny_model(const struct tiny_params *params, size_t *size);

#endif
