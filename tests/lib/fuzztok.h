/* SPDX-License-Identifier: MIT */
/*
 * Tokenizers from a fuzzer's input, and what holds for all of them. The input is no GGUF file (the
 * target gguf takes those) but says in few bytes what goes into one, so that most inputs give a
 * tokenizer that is used.
 */
#ifndef UNPU_TESTS_FUZZTOK_H
#define UNPU_TESTS_FUZZTOK_H

#include <stdbool.h>

#include "runtime/text/tokenizer.h"
#include "tests/lib/fuzz.h"

#define FUZZTOK_MAX	512	/* tokens */

struct fuzztok {
	struct unpu_tokenizer *tok;	/* NULL: refused */
	uint8_t *file;
	uint32_t num_tokens;
	uint8_t types[FUZZTOK_MAX];	/* enum unpu_token_type, as the tokenizer has to see them */
	bool bytes;			/* there is a token for each byte */
	uint32_t flags;			/* for encode */
	struct fuzz_log log;
};

/* spm: SentencePiece, else byte-level BPE. What is left of the input is text. */
void fuzztok_init(struct fuzztok *t, struct fuzz_input *in, bool spm);
void fuzztok_finish(struct fuzztok *t);

/* Encodes the text, decodes the ids, and judges both and what lies between. exact: text of such a
 * tokenizer comes back as it was when all of its ids are of types that are text. */
void fuzztok_use(const struct fuzztok *t, const struct fuzz_input *text, bool exact);

#endif
