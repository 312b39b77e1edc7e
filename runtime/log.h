/* SPDX-License-Identifier: MIT */
#ifndef UNPU_LOG_H
#define UNPU_LOG_H

#include "runtime/unpu.h"

/* Where messages go; NULL or a NULL fn drops them. Copied by value into the objects that log. */
struct unpu_log {
	unpu_log_fn *fn;
	void *arg;
};

/* One sentence, no newline at its end. */
void unpu_log(const struct unpu_log *log, enum unpu_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Logs at level error and returns err, so that a check reads `return unpu_fail(...)`. */
int unpu_fail(const struct unpu_log *log, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
