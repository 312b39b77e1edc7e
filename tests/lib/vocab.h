/* SPDX-License-Identifier: MIT */
/* What the tests of text/ share: GGUF files that hold only a tokenizer, the ones in ../shared, and
 * what was logged. */
#ifndef UNPU_TESTS_VOCAB_H
#define UNPU_TESTS_VOCAB_H

#include "runtime/model/gguf.h"

/* Keys are added in any order; the file is whole after each. */
struct vocab_file {
	uint8_t *data;
	size_t size;
};

void vocab_file_init(struct vocab_file *file);
void vocab_file_finish(struct vocab_file *file);

void vocab_add_str(struct vocab_file *file, const char *key, const char *value);
void vocab_add_u32(struct vocab_file *file, const char *key, uint32_t value);
void vocab_add_bool(struct vocab_file *file, const char *key, bool value);
void vocab_add_strings(struct vocab_file *file, const char *key, uint64_t count,
		       const char *const *values);
void vocab_add_i32s(struct vocab_file *file, const char *key, uint64_t count,
		    const int32_t *values);
void vocab_add_f32s(struct vocab_file *file, const char *key, uint64_t count, const float *values);

/* The byte's character in GPT-2's alphabet, as a string. */
struct vocab_char {
	char text[4];
};
struct vocab_char vocab_byte_char(uint32_t byte);

/* A log that keeps the last line at level error and counts them. */
struct vocab_log {
	char last[512];
	uint32_t errors;
	struct unpu_log log;
};
void vocab_log_init(struct vocab_log *log);

/* A whole file with a NUL behind it, for free(); NULL when there is none. */
char *vocab_read(const char *path, size_t *size);
/* The same below $UNPU_SHARED or ../shared. */
char *vocab_read_shared(const char *name, size_t *size);

/* xorshift64*: the same numbers as those of tests/tools/pretok.py. */
uint32_t vocab_random(uint64_t *state, uint32_t below);

#endif
