/* SPDX-License-Identifier: MIT */
/*
 * One line of training data: {"prompt":"...","answer":...}. An answer that is a string is its text;
 * any other value is its own JSON without blanks. Other members are skipped.
 */
#ifndef UNPU_TRAIN_JSONL_H
#define UNPU_TRAIN_JSONL_H

#include <stddef.h>

/* Both point into the line, which is changed; prompt and answer are not NUL-terminated. */
struct unpu_jsonl {
	const char *prompt, *answer;
	size_t prompt_length, answer_length;
};

/* -EINVAL: *what is wrong at byte *where. */
int unpu_jsonl_read(char *line, size_t length, struct unpu_jsonl *out, const char **what,
		    size_t *where);

#endif
