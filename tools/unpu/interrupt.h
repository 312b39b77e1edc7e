/* SPDX-License-Identifier: MIT */
/* Ctrl-C. */
#ifndef UNPU_TOOL_INTERRUPT_H
#define UNPU_TOOL_INTERRUPT_H

#include <stdbool.h>

struct unpu_session;

/*
 * From now on SIGINT ends the process with exit status 130: at once, after a newline, unless the
 * command says that it looks at interrupted() itself. A second SIGINT always ends it. A SIGINT that
 * the parent ignores (nohup, a shell's background job) stays ignored.
 */
void interrupt_catch(void);
void interrupt_handle_softly(bool softly);
/* The same; and the first SIGINT cancels what the session does. NULL before it is destroyed. */
void interrupt_cancels(struct unpu_session *session);
/* The same; but no SIGINT ends the process, nor makes it interrupted(). */
void interrupt_only_cancels(struct unpu_session *session);
bool interrupted(void);

/* Files that must not outlive the process, as half-written ones, SIGTERM and SIGHUP included.
 * The name must live until it is dropped. */
void interrupt_add_file(int dir, const char *name);
void interrupt_drop_file(const char *name);

#endif
