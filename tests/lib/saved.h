/* SPDX-License-Identifier: MIT */
/* What the tests of sessions on disk share: sessions with something to lose, and their files. */
#ifndef UNPU_TESTS_SAVED_H
#define UNPU_TESTS_SAVED_H

#include "tests/lib/subject.h"

#define SAVED_IDS	21	/* tokens of a prompt */
#define SAVED_MAX_VOCAB	512

/* Of the subjects: nothing was said so far. */
void saved_clear_log(void);

/* One layer, one head: a session of few bytes. */
void saved_open_smallest(struct subject *s, uint64_t seed);
/* Settings of which none is a default, so that one that is lost shows: 3 biases, 2 stop strings. */
struct unpu_session_params saved_rich_params(enum unpu_kv kv);
struct unpu_session *saved_rich_session(const struct subject *s, enum unpu_kv kv);
/* With settings of its own and, if asked, tokens, all of which a load replaces. */
struct unpu_session *saved_other_session(const struct subject *s, enum unpu_kv kv,
					 uint32_t tokens);
void saved_prompt(struct unpu_session *session, const struct subject *s);

/* How a session goes on: ids drawn, then the logits after two tokens more. */
struct saved_future {
	int ret[3];
	uint32_t used, ids[64];
	float logits[2 * SAVED_MAX_VOCAB];
};
void saved_look_ahead(struct unpu_session *session, struct saved_future *f);
void saved_assert_future(struct unpu_session *session, const struct saved_future *want);

/* The file that a session becomes, for free(). */
uint8_t *saved_bytes(struct unpu_session *session, uint32_t flags, size_t *size);
/* What unpu_session_load_fd() says of a file of these bytes. */
int saved_load(struct unpu_session *session, const void *data, size_t size);

/* A child says by its exit status where it failed. */
#define SAVED_MUST(__condition) \
	do { \
		if (!(__condition)) \
			_exit(__LINE__ % 200 + 1); \
	} while (0)

#endif
