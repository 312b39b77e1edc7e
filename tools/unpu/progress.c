/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/progress.h"

#define BAR		30
#define FIRST_NS	500000000u	/* nothing is shown before */
#define EVERY_NS	100000000u

static struct {
	const char *what;	/* NULL: nobody is to see anything */
	uint64_t next;		/* when to draw again */
	char note[48];
} progress;
static volatile sig_atomic_t shown;

static bool terminal(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb");
}

void progress_begin(const char *what)
{
	progress.what = terminal() ? what : NULL;
	progress.next = now_ns() + FIRST_NS;
	progress.note[0] = 0;
}

void progress_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(progress.note, sizeof(progress.note), format, args);
	va_end(args);
}

/* A line that is as wide as the terminal would wrap and could not be erased. */
static size_t columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || !size.ws_col ? 80 : size.ws_col;
}

static void draw(uint64_t done, uint64_t total)
{
	unsigned int full = total ? (unsigned int)((double)done / (double)total * BAR) : 0;
	size_t room = columns();
	char line[160];
	int n;

	full = full > BAR ? BAR : full;
	n = snprintf(line, sizeof(line), "%s [%.*s%*s] %3u%%%s%s", progress.what, (int)full,
		     "##############################", (int)(BAR - full), "",
		     total ? (unsigned int)((double)done / (double)total * 100) : 0,
		     *progress.note ? "  " : "", progress.note);
	room = room > (size_t)n ? (size_t)n : room - 1;
	shown = 1;
	if (dprintf(STDERR_FILENO, "\r%.*s\033[K", (int)room, line) < 0)
		progress.what = NULL;
}

int progress_show(void *arg, uint64_t done, uint64_t total)
{
	uint64_t now;

	(void)arg;
	if (!progress.what)
		return interrupted();
	now = now_ns();
	if (now >= progress.next) {
		draw(done, total);
		progress.next = now + EVERY_NS;
	}
	return interrupted();
}

void progress_erase(void)
{
	if (!shown)
		return;
	shown = 0;
	if (write(STDERR_FILENO, "\r\033[K", 4) < 0)
		return;
}

void progress_end(void)
{
	progress_erase();
	progress.what = NULL;
}
