/* SPDX-License-Identifier: MIT */
/*
 * What fuzz targets share. A target is one file of tests/fuzz: `make fuzz` links it with libFuzzer,
 * all other builds with replay.c, whose main() runs the files of its corpus.
 */
#ifndef UNPU_TESTS_FUZZ_H
#define UNPU_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold; says where it did not and aborts, which libFuzzer takes for a finding. */
#define FUZZ_CHECK(__condition) \
	do { \
		if (!(__condition)) \
			fuzz_die(__FILE__, __LINE__, #__condition); \
	} while (0)
void fuzz_die(const char *file, int line, const char *condition) __attribute__((noreturn));

/* An input as a row of numbers, little-endian; 0 past its end. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};
uint64_t fuzz_take(struct fuzz_input *in, size_t bytes);
static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	return (uint8_t)fuzz_take(in, 1);
}
static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	return (uint16_t)fuzz_take(in, 2);
}
static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
	return (uint32_t)fuzz_take(in, 4);
}
static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
	return fuzz_take(in, 8);
}

/* A copy in memory of exactly its size, for free(): the sanitizers see a read past it. */
void *fuzz_copy(const void *data, size_t size);

/* A log that counts: a call that fails says one sentence at level error, one that does not none. */
struct fuzz_log {
	uint32_t errors, others;
	struct unpu_log log;
};
void fuzz_log_init(struct fuzz_log *log);

#endif
