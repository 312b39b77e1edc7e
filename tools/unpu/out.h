/* SPDX-License-Identifier: MIT */
/* What the command says and reads: stdout with its errors kept, one-line errors, whole inputs. */
#ifndef UNPU_TOOL_OUT_H
#define UNPU_TOOL_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/unpu.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* `unpu: ` and one sentence, written to stderr as one line whatever bytes are in it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same; returns EXIT_ERROR or EXIT_USAGE, so that a check reads `return fail(...)`. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int fail_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The library says one sentence for each error: it becomes the one line, and later errors of the
 * same failure stay unsaid. fail_library() returns EXIT_ERROR and speaks only if it said nothing.
 */
unpu_log_fn log_library;
int fail_library(int err, const char *subject);
/* What the library speaks of from now on and cannot name, as the file behind a descriptor. */
void log_subject(const char *subject);
/* The command goes on after an error: the next one is said again. */
void log_again(void);
/* Errors are warnings from now on: the command goes on without what failed. */
void log_only_warns(bool yes);

/* Buffered stdout. The first error is kept and makes all later calls do nothing. */
void out_write(const void *data, size_t length);
void out_text(const char *text);
void out_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Text of a model, which must not drive a terminal: there, control characters but newline and tab,
 * and bytes that are not UTF-8, are shown as \xNN. */
void out_model(const char *text, size_t length);
/* Text from a file: control characters and bytes that are not UTF-8 are shown as \xNN. */
void out_escaped(const char *text);
/* False when stdout can take no more. */
bool out_flush(void);
/* Flushes and turns a write error into the exit status: a closed pipe is no failure. */
int out_finish(int status);

/* Bytes of the UTF-8 character at text, 0 when there is none; *point is its code point. */
size_t utf8_length(const char *text, size_t length, uint32_t *point);

/* All bytes to the end, to be freed with free(); -errno. */
int read_fd(int fd, char **text, size_t *length);
/* Writes all bytes; -errno. EINTR is returned only when interrupted() says so. */
int write_all(int fd, const void *data, size_t length);

uint64_t now_ns(void);
/* Peak memory of this process in bytes, file pages included; 0 when the kernel does not say. */
uint64_t peak_memory(void);
double mebibytes(uint64_t bytes);

#endif
