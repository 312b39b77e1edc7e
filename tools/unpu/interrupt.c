/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"

static volatile sig_atomic_t soft, count, ended_line;
static const char *volatile half_written;

static void on_interrupt(int signal)
{
	(void)signal;
	count = count + 1;
	if (soft && count == 1)
		return;
	if (half_written)
		unlink(half_written);
	/* The second one comes because stdout takes nothing. */
	if (count == 1)
		ended_line = write(STDOUT_FILENO, "\n", 1) == 1;
	_exit(EXIT_INTERRUPTED);
}

void interrupt_catch(void)
{
	struct sigaction now, catch = { .sa_handler = on_interrupt };

	if (!sigaction(SIGINT, NULL, &now) && now.sa_handler == SIG_IGN)
		return;
	sigemptyset(&catch.sa_mask);
	/* No SA_RESTART: a write to a reader that has stopped must end. */
	sigaction(SIGINT, &catch, NULL);
}

void interrupt_handle_softly(bool softly)
{
	soft = softly;
}

bool interrupted(void)
{
	return count > 0;
}

void interrupt_remove_file(const char *path)
{
	half_written = path;
}
