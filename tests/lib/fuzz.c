/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fuzz.h"

void fuzz_die(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

uint64_t fuzz_take(struct fuzz_input *in, size_t bytes)
{
	size_t have = bytes < in->left ? bytes : in->left, i;
	uint64_t value = 0;

	for (i = 0; i < have; i++)
		value |= (uint64_t)in->at[i] << 8 * i;
	in->at += have;
	in->left -= have;
	return value;
}

void *fuzz_copy(const void *data, size_t size)
{
	void *copy = malloc(size + !size);

	if (!copy)
		abort();
	if (size)
		memcpy(copy, data, size);
	return copy;
}

/* Walks the text, so that the sanitizers see one that is not whole. */
static void count_line(void *arg, enum unpu_log_level level, const char *text)
{
	struct fuzz_log *log = arg;

	FUZZ_CHECK(text[0] && !strchr(text, '\n'));
	if (level == UNPU_LOG_ERROR)
		log->errors++;
	else
		log->others++;
}

void fuzz_log_init(struct fuzz_log *log)
{
	memset(log, 0, sizeof(*log));
	log->log = (struct unpu_log){ count_line, log };
}
