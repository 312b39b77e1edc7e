/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "tools/unpu/files.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/line.h"
#include "tools/unpu/out.h"

#define MAX_HISTORY	500
#define MAX_LINE	((size_t)16 << 20)

/* What a terminal sends while a line is typed. */
static const int signals[] = {
	SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH,
};
#define NUM_SIGNALS	(sizeof(signals) / sizeof(signals[0]))

/* libedit's keys, as bound below */
#define KEY_TO_END	L'\005'
#define KEY_CLEAR	L'\003'

struct line {
	EditLine *edit;		/* NULL: nobody types */
	History *history;
	FILE *screen;
	const char *prompt;
	mbstate_t partial;	/* a character of which some bytes are here */
	bool to_clear;		/* the next key is KEY_CLEAR */
	bool cleared, was_empty;
	int signal;
	int pipe[2];		/* signals come through it, one byte each */
	struct sigaction before[NUM_SIGNALS];
	struct output saved;	/* the history; path NULL: not to be saved */
};

/* ---- signals ----------------------------------------------------------------------------- */

static volatile sig_atomic_t signal_pipe = -1;

/* What they do is done where libedit waits for a key: it is not made for signal handlers. */
static void on_signal(int signal)
{
	int saved = errno;
	char byte = (char)signal;

	if (write(signal_pipe, &byte, 1) < 0)
		errno = saved;
	errno = saved;
}

static void catch_signals(struct line *line)
{
	struct sigaction catch = { .sa_handler = on_signal };
	size_t i;

	signal_pipe = line->pipe[1];
	sigemptyset(&catch.sa_mask);
	for (i = 0; i < NUM_SIGNALS; i++) {
		sigaction(signals[i], NULL, &line->before[i]);
		if (line->before[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &catch, NULL);
	}
}

static void restore_signals(struct line *line)
{
	size_t i;

	for (i = 0; i < NUM_SIGNALS; i++)
		sigaction(signals[i], &line->before[i], NULL);
}

/* The terminal may be another one's in between, and a shell writes to it. */
static void redraw(struct line *line)
{
	el_set(line->edit, EL_PREP_TERM, 0);
	el_set(line->edit, EL_PREP_TERM, 1);
	fputs("\r", line->screen);
	el_set(line->edit, EL_REFRESH);
}

/* What el_gets() gets instead of a key: 1 with one, 0 for the end of input, -1 for none. */
static int take_signal(struct line *line, wchar_t *key)
{
	char signal;

	if (read(line->pipe[0], &signal, 1) != 1)
		return -1;
	switch (signal) {
	case SIGINT:
		/* What is written next must not stand within the line. */
		line->to_clear = true;
		*key = KEY_TO_END;
		return 1;
	case SIGTSTP:
		el_set(line->edit, EL_PREP_TERM, 0);
		kill(getpid(), SIGSTOP);
		redraw(line);
		return -1;
	case SIGCONT:
		redraw(line);
		return -1;
	case SIGWINCH:
		el_resize(line->edit);
		return -1;
	default:
		line->signal = signal;
		return 0;
	}
}

/* ---- keys -------------------------------------------------------------------------------- */

/* A byte of a key: 1 when a character is whole, 0 at the end of input, -1 for none yet. */
static int take_byte(struct line *line, wchar_t *key)
{
	size_t n;
	char byte;

	switch (read(STDIN_FILENO, &byte, 1)) {
	case 0:
		return 0;
	case 1:
		break;
	default:
		return errno == EINTR || errno == EAGAIN ? -1 : 0;
	}
	n = mbrtowc(key, &byte, 1, &line->partial);
	if (n == (size_t)-1)
		memset(&line->partial, 0, sizeof(line->partial));
	return n == (size_t)-1 || n == (size_t)-2 ? -1 : 1;
}

static int read_key(EditLine *edit, wchar_t *key)
{
	struct line *line;
	struct pollfd fds[2];
	int got = -1;

	el_get(edit, EL_CLIENTDATA, &line);
	if (line->to_clear) {
		line->to_clear = false;
		*key = KEY_CLEAR;
		return 1;
	}
	fds[0] = (struct pollfd){ .fd = line->pipe[0], .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	while (got < 0) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			got = take_signal(line, key);
		else if (fds[1].revents)
			got = take_byte(line, key);
	}
	return got;
}

static unsigned char clear_line(EditLine *edit, int key)
{
	const LineInfo *info = el_line(edit);
	struct line *line;

	(void)key;
	el_get(edit, EL_CLIENTDATA, &line);
	line->was_empty = info->lastchar == info->buffer;
	line->cleared = true;
	return CC_NEWLINE;
}

static char *prompt_of(EditLine *edit)
{
	static char text[16];
	struct line *line;

	el_get(edit, EL_CLIENTDATA, &line);
	snprintf(text, sizeof(text), "%s", line->prompt);
	return text;
}

/* ---- history ----------------------------------------------------------------------------- */

/* What is no history is not overwritten at the end. */
static int load_history(struct line *line, const char *path)
{
	HistEvent event;
	struct stat st;

	if (stat(path, &st) && errno == ENOENT)
		return EXIT_OK;
	if (!stat(path, &st) && S_ISREG(st.st_mode) &&
	    (!st.st_size || history(line->history, &event, H_LOAD, path) >= 0))
		return EXIT_OK;
	return fail("%s is not a file with a history (UNPU_HISTORY names it)", path);
}

static int open_history(struct line *line)
{
	const char *path = getenv("UNPU_HISTORY");
	HistEvent event;
	int status;

	line->history = history_init();
	if (!line->history)
		return fail("the history: %s", strerror(ENOMEM));
	history(line->history, &event, H_SETSIZE, MAX_HISTORY);
	history(line->history, &event, H_SETUNIQUE, 1);
	if (!path || !*path)
		return EXIT_OK;
	status = load_history(line, path);
	return status ? status : output_open(&line->saved, path);
}

static int save_history(struct line *line)
{
	HistEvent event;
	FILE *file;
	int fd, ok;

	if (!line->saved.path)
		return EXIT_OK;
	fd = dup(line->saved.fd);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file && fd >= 0)
		close(fd);
	ok = file && history(line->history, &event, H_SAVE_FP, file) >= 0;
	if (file && fclose(file))
		ok = 0;
	if (ok)
		return output_commit(&line->saved);
	return fail("cannot write %s: %s", line->saved.path, strerror(errno));
}

/* ---- typed lines ------------------------------------------------------------------------- */

static enum line_result read_typed(struct line *line, char **text, size_t *length)
{
	HistEvent event;
	const char *got;
	int n = 0;

	line->cleared = line->to_clear = false;
	catch_signals(line);
	/* el_gets() shows the prompt first, and what is typed to it would be echoed twice. */
	el_set(line->edit, EL_PREP_TERM, 1);
	got = el_gets(line->edit, &n);
	restore_signals(line);
	if (line->cleared || !got || n <= 0) {
		fputs(line->cleared ? "^C\n" : "\n", line->screen);
		fflush(line->screen);
		return line->cleared ? LINE_CLEARED : LINE_END;
	}
	*length = strcspn(got, "\n");
	*text = strndup(got, *length);
	if (!*text) {
		fail("the line: %s", strerror(ENOMEM));
		return LINE_FAILED;
	}
	if (**text)
		history(line->history, &event, H_ENTER, *text);
	return LINE_TEXT;
}

/* Keys of a terminal are UTF-8, whatever a board's locale says. */
static void use_utf8(void)
{
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
}

static int open_edit(struct line *line)
{
	use_utf8();
	if (pipe2(line->pipe, O_CLOEXEC | O_NONBLOCK))
		return fail("the terminal: %s", strerror(errno));
	line->edit = el_init("unpu", stdin, line->screen, stderr);
	if (!line->edit)
		return fail("the terminal: %s", strerror(ENOMEM));
	el_set(line->edit, EL_CLIENTDATA, line);
	el_set(line->edit, EL_PROMPT, prompt_of);
	el_set(line->edit, EL_EDITOR, "emacs");
	el_set(line->edit, EL_GETCFN, read_key);
	/* el_set() would copy the two texts and forget the copies. */
	el_wset(line->edit, EL_ADDFN, L"unpu-clear", L"clear the line", clear_line);
	el_set(line->edit, EL_BIND, "^E", "ed-move-to-end", NULL);
	el_set(line->edit, EL_BIND, "^C", "unpu-clear", NULL);
	el_set(line->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_set(line->edit, EL_BIND, "^W", "ed-delete-prev-word", NULL);
	el_set(line->edit, EL_HIST, history, line->history);
	return EXIT_OK;
}

/* ---- lines of a file or pipe ------------------------------------------------------------- */

static enum line_result cannot_read(char *text, int err)
{
	free(text);
	fail("cannot read standard input: %s", strerror(err));
	return LINE_FAILED;
}

/* EOF at the end, after an error and when interrupted(). */
static int next_char(void)
{
	int c;

	for (;;) {
		errno = 0;
		c = getc_unlocked(stdin);
		if (c != EOF || errno != EINTR || interrupted())
			return c;
		clearerr(stdin);
	}
}

static enum line_result read_plain(char **text, size_t *length)
{
	size_t room = 0, used = 0;
	char *got = NULL, *more;
	int c;

	do {
		if (used == room) {
			room = room ? room * 2 : 256;
			more = used < MAX_LINE ? realloc(got, room) : NULL;
			if (!more)
				return cannot_read(got, used < MAX_LINE ? ENOMEM : EFBIG);
			got = more;
		}
		c = next_char();
		if (c != EOF && c != '\n')
			got[used++] = (char)c;
	} while (c != EOF && c != '\n');
	if (ferror(stdin) && !interrupted())
		return cannot_read(got, errno);
	if (c == EOF && (!used || interrupted())) {
		free(got);
		return LINE_END;
	}
	/* written on a system whose lines end with two characters */
	used -= used && got[used - 1] == '\r';
	got[used] = 0;
	*text = got;
	*length = used;
	return LINE_TEXT;
}

/* ---- both -------------------------------------------------------------------------------- */

int line_open(struct line **line)
{
	struct line *l = calloc(1, sizeof(*l));
	int status = EXIT_OK;

	if (!l)
		return fail("the input: %s", strerror(ENOMEM));
	l->pipe[0] = l->pipe[1] = -1;
	*line = l;
	l->screen = isatty(STDOUT_FILENO) ? stdout : isatty(STDERR_FILENO) ? stderr : NULL;
	if (!isatty(STDIN_FILENO) || !l->screen)
		return EXIT_OK;
	status = open_history(l);
	return status ? status : open_edit(l);
}

bool line_is_typed(const struct line *line)
{
	return line->edit != NULL;
}

enum line_result line_read(struct line *line, const char *prompt, char **text, size_t *length)
{
	line->prompt = prompt;
	return line->edit ? read_typed(line, text, length) : read_plain(text, length);
}

bool line_was_empty(const struct line *line)
{
	return line->was_empty;
}

int line_signal(const struct line *line)
{
	return line->signal;
}

int line_close(struct line *line)
{
	int status = EXIT_OK;

	if (!line)
		return EXIT_OK;
	if (line->edit) {
		status = save_history(line);
		el_end(line->edit);
	}
	output_discard(&line->saved);
	if (line->history)
		history_end(line->history);
	if (line->pipe[0] >= 0) {
		close(line->pipe[0]);
		close(line->pipe[1]);
	}
	free(line);
	return status;
}
