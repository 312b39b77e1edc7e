/* SPDX-License-Identifier: MIT */
/*
 * Lines that somebody types, edited on a terminal, or lines of a file or pipe.
 *
 * On a terminal Ctrl-C clears the line, Ctrl-Z stops the process, SIGTERM, SIGHUP and SIGQUIT end
 * the reading; all leave the terminal as it was. The history is kept in memory, and in the file
 * that UNPU_HISTORY names when it is set: it is read here and written once, by line_close().
 */
#ifndef UNPU_TOOL_LINE_H
#define UNPU_TOOL_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct line;

enum line_result {
	LINE_TEXT,
	LINE_CLEARED,	/* Ctrl-C; what was typed is lost */
	LINE_END,	/* the end of input, Ctrl-D, a signal, or interrupted() */
	LINE_FAILED,	/* after one line that says why */
};

/* Before a model is loaded: it opens files. An exit status, after one line on error. */
int line_open(struct line **line);
/* Somebody types: the input is a terminal, and so is what the prompt goes to. */
bool line_is_typed(const struct line *line);
/* Text without its newline and with a NUL behind it, to be freed with free(); the prompt is for who
 * types. */
enum line_result line_read(struct line *line, const char *prompt, char **text, size_t *length);
/* After LINE_CLEARED: nothing had been typed. */
bool line_was_empty(const struct line *line);
/* After LINE_END: the signal that ended the reading, 0: none. */
int line_signal(const struct line *line);
/* Writes the history; takes NULL. */
int line_close(struct line *line);

#endif
