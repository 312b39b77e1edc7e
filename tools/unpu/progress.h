/* SPDX-License-Identifier: MIT */
/*
 * How far a long step is: a line on stderr, when that is a terminal and the step takes longer than
 * half a second. The line is erased at the end, and before the command says something.
 */
#ifndef UNPU_TOOL_PROGRESS_H
#define UNPU_TOOL_PROGRESS_H

#include "runtime/unpu.h"

/* what: one or two words. */
void progress_begin(const char *what);
void progress_end(void);
/* Not 0 after Ctrl-C, so that the call which reports its progress ends. arg is not used. */
unpu_progress_fn progress_show;
/* Stands behind the bar from now on; up to 40 characters. */
void progress_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For a signal handler too. */
void progress_erase(void);

#endif
