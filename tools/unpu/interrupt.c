/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/progress.h"

static volatile sig_atomic_t soft, count, terminal, ended_line, only_cancels;
static struct unpu_session *volatile running;
static struct {
	volatile sig_atomic_t dir;
	const char *volatile name;	/* NULL: free */
} files[4];
#define NUM_FILES	(sizeof(files) / sizeof(files[0]))

static void remove_files(void)
{
	size_t i;

	for (i = 0; i < NUM_FILES; i++) {
		if (files[i].name)
			unlinkat(files[i].dir, files[i].name, 0);
	}
}

static void on_interrupt(int signal)
{
	(void)signal;
	if (only_cancels) {
		unpu_session_cancel(running);
		return;
	}
	count = count + 1;
	if (soft && count == 1) {
		if (running)
			unpu_session_cancel(running);
		return;
	}
	remove_files();
	progress_erase();
	/* Behind the terminal's ^C. The second one comes because stdout takes nothing. */
	if (count == 1 && terminal)
		ended_line = write(STDOUT_FILENO, "\n", 1) == 1;
	_exit(EXIT_INTERRUPTED);
}

/* SA_RESETHAND: the signal comes again with its own effect once this returns. */
static void on_death(int signal)
{
	remove_files();
	raise(signal);
}

static void catch(int signal, void (*handler)(int signal), int flags)
{
	struct sigaction now, want = { .sa_handler = handler, .sa_flags = flags };

	if (!sigaction(signal, NULL, &now) && now.sa_handler == SIG_IGN)
		return;
	sigemptyset(&want.sa_mask);
	sigaction(signal, &want, NULL);
}

void interrupt_catch(void)
{
	terminal = isatty(STDOUT_FILENO);
	/* No SA_RESTART: a write to a reader that has stopped must end. */
	catch(SIGINT, on_interrupt, 0);
	catch(SIGTERM, on_death, (int)SA_RESETHAND);
	catch(SIGHUP, on_death, (int)SA_RESETHAND);
}

void interrupt_handle_softly(bool softly)
{
	soft = softly;
}

void interrupt_cancels(struct unpu_session *session)
{
	only_cancels = 0;
	running = session;
	soft = session != NULL;
}

void interrupt_only_cancels(struct unpu_session *session)
{
	running = session;
	only_cancels = 1;
}

bool interrupted(void)
{
	return count > 0;
}

void interrupt_add_file(int dir, const char *name)
{
	size_t i;

	for (i = 0; i < NUM_FILES; i++) {
		if (files[i].name)
			continue;
		files[i].dir = dir;
		files[i].name = name;
		return;
	}
}

void interrupt_drop_file(const char *name)
{
	size_t i;

	for (i = 0; i < NUM_FILES; i++) {
		if (files[i].name == name)
			files[i].name = NULL;
	}
}
