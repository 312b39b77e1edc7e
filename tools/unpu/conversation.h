/* SPDX-License-Identifier: MIT */
/*
 * A conversation in a session: messages and answers in the form of a chat template, and which of
 * them go when the context is full. It knows nothing of terminals.
 *
 * The session's tokens are the beginning with the system message, then for each turn the user's
 * message and the answer. When there is no room the oldest turns are dropped, at least until a
 * quarter of the context is free, so that the rest is not run again for every message. The system
 * message stays, the answers that stay keep their tokens.
 *
 * Calls return 0, or -errno after one sentence in the model's log, -ENOMEM and -ENOSPC apart, which
 * are not said; the conversation then is as it was.
 */
#ifndef UNPU_TOOL_CONVERSATION_H
#define UNPU_TOOL_CONVERSATION_H

#include <stdbool.h>

#include "runtime/unpu.h"

struct turn {
	char *text;		/* the user's message; "" in the turn of a file without any */
	size_t length;
	uint32_t answer;	/* the answer's first token */
};

struct conversation {
	struct unpu_model *model;
	struct unpu_session *session;
	const char *form;	/* of the chat template; NULL: the model's own */
	char *system;		/* NULL: none */
	uint32_t context;
	struct turn *turns;
	size_t num_turns, room;
	bool unended;		/* the last answer lacks the token that ends one */
	size_t dropped;		/* turns, since the caller last set it to 0 */
	size_t need;		/* the context that a message refused with -ENOSPC needs */
};

/* Model and session are the caller's and outlive it; form and system may be NULL. -ENOENT, -EINVAL:
 * the model has no such form, or the form cannot say system messages. */
int conversation_open(struct conversation *c, struct unpu_model *model,
		      struct unpu_session *session, const char *form, const char *system);
void conversation_close(struct conversation *c);

/* Begin anew, with another system message; NULL: with none. */
int conversation_set_system(struct conversation *c, const char *system);
/* Begin anew. */
int conversation_reset(struct conversation *c);

/* Add a message of the user; what the model says to it follows. -ENOSPC: it is larger than the
 * context; -ECANCELED: unpu_session_cancel() came before all of it was run. */
int conversation_ask(struct conversation *c, const char *text, size_t length);
/*
 * Generate the answer to the last message, with up to max tokens; fn is called as by
 * unpu_session_generate() and has got all text when this returns. Returns enum unpu_reason, or
 * -errno: then what was said so far is the answer.
 */
int conversation_answer(struct conversation *c, size_t max, unpu_token_fn *fn, void *arg);

/*
 * Take a session file from fd, which holds tokens only: messages are found by the form's markers.
 * Tokens in which there are none become one turn, which goes as a whole like any other. The system
 * message is the file's if it has messages, else what it was.
 */
int conversation_load(struct conversation *c, int fd);

#endif
