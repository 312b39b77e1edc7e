/* SPDX-License-Identifier: MIT */
/* What the tests of sessions share: tiny models, sessions on them, and what they say. */
#ifndef UNPU_TESTS_SUBJECT_H
#define UNPU_TESTS_SUBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/model/gguf.h"
#include "runtime/unpu.h"
#include "tests/lib/tiny.h"

/* A model and the file's bytes that it uses in place. */
struct subject {
	uint8_t *file;
	size_t size;
	struct unpu_model *model;
	uint32_t vocab;
};

/* Errors and warnings that the models of this program have logged, and the last ones. */
extern char subject_log[512], subject_warning[512];
extern atomic_int subject_errors, subject_warnings;
/* Where models are opened from now on; NULL, as at first: $UNPU_SUBJECT_DEVICE, else "auto". */
extern const char *subject_device;
unpu_log_fn subject_log_line;
/* Skips a test of the device that no other follows, where models are opened on another. */
void subject_needs_cpu(void);

void subject_open(struct subject *s, const char *arch, uint32_t type, uint32_t threads,
		  uint32_t flags);
/* The same of any tiny model. */
void subject_open_tiny(struct subject *s, const struct tiny_params *tiny, uint32_t threads,
		       uint32_t flags);
void subject_close(struct subject *s);

/* Different ones, always the same. */
void subject_ids(const struct subject *s, uint32_t *ids, uint32_t count);
/* Greedy, and without an end. */
struct unpu_session_params subject_params(void);
struct unpu_session *subject_session(const struct subject *s,
				     const struct unpu_session_params *params);
struct unpu_session_info subject_info(const struct unpu_session *session);

/* What a generation gave to its callback. */
struct subject_text {
	uint32_t ids[1024], count, stop_after;	/* stop_after 0: never */
	char text[16384];
	size_t length;
	uint32_t flushed;	/* calls with text that was held back */
};
unpu_token_fn subject_collect;

/* The tokens of b are those of a, and both have the same logits after them, bit for bit. */
void subject_assert_equal(struct unpu_session *a, struct unpu_session *b, uint32_t vocab);

#endif
