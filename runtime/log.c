/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "runtime/log.h"

static void log_va(const struct unpu_log *log, enum unpu_log_level level, const char *format,
		   va_list args)
{
	char text[512], *c;

	if (!log || !log->fn)
		return;
	vsnprintf(text, sizeof(text), format, args);
	/* Strings of a file or a path must not command a terminal or make two lines of one. */
	for (c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
		/* U+0080 to U+009F: U+009B begins commands as ESC [ does */
		if ((unsigned char)*c == 0xc2 && ((unsigned char)c[1] & 0xe0) == 0x80)
			c[0] = c[1] = '?';
	}
	log->fn(log->arg, level, text);
}

void unpu_log(const struct unpu_log *log, enum unpu_log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(log, level, format, args);
	va_end(args);
}

int unpu_fail(const struct unpu_log *log, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(log, UNPU_LOG_ERROR, format, args);
	va_end(args);
	return err;
}
