/* SPDX-License-Identifier: MIT */
/*
 * The forms of conversations: what stands around each message. A file's template is a program in
 * jinja; none is run, the form is found by what the program's text contains.
 */
#ifndef UNPU_TEMPLATE_H
#define UNPU_TEMPLATE_H

#include "runtime/text/tokenizer.h"

struct unpu_around {
	const char *before, *after;
};

/* In these strings \1 is BOS and \2 EOS, whatever the vocabulary calls them. */
struct unpu_template {
	const char *name;
	/* A file's template of this form has all marks and not `without`; blanks, newlines and the
	 * kind of quotes do not count. */
	const char *marks[3];
	const char *without;
	const char *begin;	/* of the text */
	struct unpu_around system, user;
	/* An answer is: answer, lead, message, end, next. A conversation that wants one ends with
	 * `answer`; the model ends it with the last token of `end`. */
	const char *answer, *lead, *end, *next;
	/* The system message that stands for none: written out in a file's template behind
	 * preamble_after or beginning with preamble_begins, and ending before preamble_until or
	 * with its string; preamble where there is no such text to look into. */
	const char *preamble_after, *preamble_begins, *preamble_until;
	const char *preamble;
	bool system_in_user;	/* it begins the first user message */
	bool trim, trim_system;	/* blanks around a message are not part of it */
	bool trim_both;		/* they are trimmed as one: what is between them stays */
	bool alternate;		/* user and assistant in turn, the user first */
};

/* A form as one file has it. */
struct unpu_form {
	const struct unpu_template *template;
	const char *begin;
	struct unpu_str preamble;	/* ptr NULL: none */
};

/* The forms, i from 0; NULL past the last. */
const struct unpu_template *unpu_template_at(uint32_t i);

/*
 * The form of a file's template text, or (name not NULL) the one of that name, with what the text
 * says if it is of that form. -ENOENT: the text is of no known form; -EINVAL: no such name. Neither
 * is logged. The text must outlive the form.
 */
int unpu_form_find(struct unpu_str text, const char *name, struct unpu_form *form);

/* A conversation as text, and where special tokens are in it. */
struct unpu_rendered {
	char *text;
	size_t length, room;
	struct unpu_span *spans;
	size_t num_spans, spans_room;
};

/*
 * What unpu_chat_tokens() of unpu.h is about, errors (logged) included. A BOS that the tokenizer
 * adds and the form does not have is a span without text. The caller finishes it in either case.
 */
int unpu_form_render(const struct unpu_form *form, const struct unpu_tokenizer *tok,
		     const struct unpu_chat_message *messages, size_t count, uint32_t flags,
		     const struct unpu_log *log, struct unpu_rendered *out);
void unpu_rendered_finish(struct unpu_rendered *out);

#endif
