/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/progress.h"

/* No text that a micro model reads comes near it; /dev/zero does. */
#define MAX_INPUT	((size_t)256 << 20)

static struct {
	char bytes[8192];
	size_t used;
	int error;
} out;

static bool library_spoke, only_warns;
static const char *library_subject;

/* ---- UTF-8 ------------------------------------------------------------------------------- */

size_t utf8_length(const char *text, size_t length, uint32_t *point)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)text;
	size_t n, i;
	uint32_t c;

	if (!length)
		return 0;
	c = s[0];
	n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
	if (!n || n > length)
		return 0;
	if (n > 1)
		c &= 0x7f >> n;
	for (i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*point = c;
	return n;
}

/* C0, DEL and C1 move a terminal's cursor or end the line. */
static bool is_control(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0);
}

/* Appends text to to[*at..size), control characters and stray bytes as \xNN; what does not fit is
 * left out. */
static void escape(char *to, size_t size, size_t *at, const char *text)
{
	size_t left = strlen(text), n, i;
	uint32_t point;

	while (left) {
		n = utf8_length(text, left, &point);
		if (n && !is_control(point)) {
			if (size - *at < n)
				return;
			memcpy(to + *at, text, n);
			*at += n;
		} else {
			n = n ? n : 1;
			if (size - *at < 4 * n + 1)
				return;
			for (i = 0; i < n; i++)
				*at += (size_t)sprintf(to + *at, "\\x%02X", text[i] & 0xff);
		}
		text += n;
		left -= n;
	}
}

/* ---- stderr ------------------------------------------------------------------------------ */

static void say_line(const char *format, va_list args)
{
	char text[1024], line[1200] = "unpu: ";
	size_t at = 6;

	vsnprintf(text, sizeof(text), format, args);
	escape(line, sizeof(line) - 1, &at, text);
	line[at++] = '\n';
	progress_erase();
	/* One write, so that lines of two processes do not mix. Nobody can be told of an error. */
	if (write(STDERR_FILENO, line, at) < 0)
		return;
}

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_line(format, args);
	va_end(args);
}

int fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_line(format, args);
	va_end(args);
	return EXIT_ERROR;
}

int fail_usage(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_line(format, args);
	va_end(args);
	return EXIT_USAGE;
}

void log_library(void *arg, enum unpu_log_level level, const char *text)
{
	const char *subject = library_subject ? library_subject : "";
	const char *colon = library_subject ? ": " : "";
	bool error = level == UNPU_LOG_ERROR && !only_warns;
	static const char fd[] = "file descriptor ";
	const char *name = library_subject ? strchr(text, ':') : NULL;

	(void)arg;
	/* The library knows a file that it did not open by its number. */
	if (name && name[1] && !strncmp(text, fd, strlen(fd)))
		text = name + 2;
	/* After Ctrl-C the call that it ended has nothing to complain about. */
	if (level > UNPU_LOG_WARN || interrupted() || (level == UNPU_LOG_ERROR && library_spoke))
		return;
	library_spoke = library_spoke || level == UNPU_LOG_ERROR;
	say("%s%s%s%s", error ? "" : "warning: ", subject, colon, text);
}

void log_subject(const char *subject)
{
	library_subject = subject;
}

void log_again(void)
{
	library_spoke = false;
}

void log_only_warns(bool yes)
{
	only_warns = yes;
	library_spoke = false;
}

int fail_library(int err, const char *subject)
{
	if (!library_spoke)
		say("%s: %s", subject, strerror(-err));
	library_spoke = true;
	return EXIT_ERROR;
}

/* ---- stdout ------------------------------------------------------------------------------ */

int write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	ssize_t n;

	while (length) {
		n = write(fd, at, length);
		if (n < 0 && errno == EINTR && !interrupted())
			continue;
		if (n < 0)
			return -errno;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

bool out_flush(void)
{
	int err;

	if (out.error)
		return false;
	err = write_all(STDOUT_FILENO, out.bytes, out.used);
	out.used = 0;
	/* Interrupted is not broken: the newline that ends the text must still get out. */
	if (err && err != -EINTR)
		out.error = -err;
	return !err;
}

void out_write(const void *data, size_t length)
{
	const char *at = data;
	size_t n;

	while (length && !out.error) {
		if (out.used == sizeof(out.bytes))
			out_flush();
		n = sizeof(out.bytes) - out.used;
		n = n < length ? n : length;
		memcpy(out.bytes + out.used, at, n);
		out.used += n;
		at += n;
		length -= n;
	}
}

void out_text(const char *text)
{
	out_write(text, strlen(text));
}

void out_printf(const char *format, ...)
{
	char text[1024];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n > 0)
		out_write(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Bytes at the beginning of text that a terminal shows and nothing else. */
static size_t harmless(const char *text, size_t length)
{
	uint32_t point;
	size_t at = 0, n;

	while ((n = utf8_length(text + at, length - at, &point)) &&
	       (!is_control(point) || point == '\n' || point == '\t'))
		at += n;
	return at;
}

void out_model(const char *text, size_t length)
{
	size_t n = isatty(STDOUT_FILENO) ? harmless(text, length) : length;

	out_write(text, n);
	while (n < length) {
		out_printf("\\x%02X", text[n++] & 0xff);
		text += n;
		length -= n;
		n = harmless(text, length);
		out_write(text, n);
	}
}

void out_escaped(const char *text)
{
	char shown[1024];
	size_t at = 0;

	escape(shown, sizeof(shown), &at, text);
	out_write(shown, at);
}

int out_finish(int status)
{
	out_flush();
	if (!out.error || out.error == EPIPE || status)
		return status;
	return fail("cannot write standard output: %s", strerror(out.error));
}

/* ---- input ------------------------------------------------------------------------------- */

static int grow(char **text, size_t *room)
{
	size_t want = *room ? *room * 2 : 4096;
	char *more;

	if (*room >= MAX_INPUT)
		return -EFBIG;
	more = realloc(*text, want);
	if (!more)
		return -ENOMEM;
	*text = more;
	*room = want;
	return 0;
}

int read_fd(int fd, char **text, size_t *length)
{
	size_t room = 0, used = 0;
	ssize_t n = 1;
	int err = 0;

	*text = NULL;
	while (n) {
		if (used == room)
			err = grow(text, &room);
		if (err)
			break;
		n = read(fd, *text + used, room - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err = -errno;
			break;
		}
		used += (size_t)n;
	}
	if (err) {
		free(*text);
		*text = NULL;
	}
	*length = used;
	return err;
}

/* ---- measures ---------------------------------------------------------------------------- */

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t peak_memory(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[128];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
			break;
	}
	fclose(file);
	return (uint64_t)kib * 1024;
}

double mebibytes(uint64_t bytes)
{
	return (double)bytes / 1048576;
}
