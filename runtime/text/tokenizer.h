/* SPDX-License-Identifier: MIT */
/* Text to tokens and back. A tokenizer is read-only after creation: thread-safe. */
#ifndef UNPU_TOKENIZER_H
#define UNPU_TOKENIZER_H

#include "runtime/model/gguf.h"

struct unpu_tokenizer;

/* Reads tokenizer.* keys; nothing of the gguf is needed afterwards but its bytes. -EINVAL: one line
 * names the key, or the tokenizer or pre-tokenizer that is not supported and lists the others. */
int unpu_tokenizer_create(const struct unpu_gguf *gguf, const struct unpu_log *log,
			  struct unpu_tokenizer **tok);
void unpu_tokenizer_destroy(struct unpu_tokenizer *tok);

uint32_t unpu_tokenizer_vocab(const struct unpu_tokenizer *tok);

/* As unpu_tokenize() and unpu_detokenize() of unpu.h. */
int64_t unpu_tokenizer_encode(const struct unpu_tokenizer *tok, const char *text, size_t length,
			      uint32_t flags, uint32_t *ids, size_t max);
int64_t unpu_tokenizer_decode(const struct unpu_tokenizer *tok, const uint32_t *ids, size_t count,
			      char *text, size_t max);

/* A stretch of a text: special tokens in it count, or it is as a whole the one that is named. */
struct unpu_span {
	size_t at, length;	/* length may be 0 for a token */
	uint32_t token;		/* or UNPU_SPAN_PARSE */
};
#define UNPU_SPAN_PARSE	UINT32_MAX

/*
 * Text whose special tokens count within spans only, which are in order and do not overlap. What
 * lies between special tokens is tokenized as one, be it inside or outside of spans. begins: the
 * text stands at a beginning or after a special token (where SentencePiece puts its space), else
 * it goes on from other text.
 */
int64_t unpu_tokenizer_encode_spans(const struct unpu_tokenizer *tok, const char *text,
				    size_t length, const struct unpu_span *spans, size_t num_spans,
				    bool begins, uint32_t *ids, size_t max);

/* The tokens that begin and end a text, if there are such. */
bool unpu_tokenizer_bos(const struct unpu_tokenizer *tok, uint32_t *id, struct unpu_str *text);
bool unpu_tokenizer_eos(const struct unpu_tokenizer *tok, uint32_t *id, struct unpu_str *text);
/* Texts begin with BOS unless somebody else puts it there. */
bool unpu_tokenizer_adds_bos(const struct unpu_tokenizer *tok);

/* The bytes of one token, decoded; control tokens give none. At most max are written; returns how
 * many there are. SentencePiece: the leading space of the first token of a text is the caller's to
 * drop (unpu_tokenizer_space_prefix). -EINVAL: no such id. */
int64_t unpu_tokenizer_piece(const struct unpu_tokenizer *tok, uint32_t id, char *text, size_t max);
bool unpu_tokenizer_space_prefix(const struct unpu_tokenizer *tok);

/* Ids that end a text: EOS, EOT, and tokens of their kind; at most max are written. */
uint32_t unpu_tokenizer_eog(const struct unpu_tokenizer *tok, uint32_t *ids, uint32_t max);
bool unpu_tokenizer_is_eog(const struct unpu_tokenizer *tok, uint32_t id);

/* Streaming: bytes in, whole UTF-8 characters out; at most 3 bytes are held back. */
struct unpu_utf8_stream {
	char held[4];
	uint32_t num_held;
};
/* Appends text to what is held and moves all whole characters (and bytes that can never become one,
 * as U+FFFD) to out, which has room for 3 * (length + 3) bytes. Returns the bytes written. */
size_t unpu_utf8_stream_push(struct unpu_utf8_stream *s, const char *text, size_t length,
			     char *out);
/* What is held becomes one U+FFFD (3 bytes) or nothing. */
size_t unpu_utf8_stream_flush(struct unpu_utf8_stream *s, char *out);

#endif
