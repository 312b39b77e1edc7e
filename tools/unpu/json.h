/* SPDX-License-Identifier: MIT */
/*
 * JSON to stdout. Not cJSON: Debian has no static library of it, and names in a model file may hold
 * bytes that are not UTF-8, which cJSON would pass on and no parser takes.
 */
#ifndef UNPU_TOOL_JSON_H
#define UNPU_TOOL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* key is NULL for the outermost value and for the elements of an array. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
/* NULL is null; bytes that are not UTF-8 become U+FFFD. */
void json_text(const char *key, const char *text);
/* The same for text that may hold a NUL. */
void json_string(const char *key, const char *text, size_t length);
void json_count(const char *key, uint64_t value);
/* Three decimals; null when the value is not finite. */
void json_number(const char *key, double value);
/* The same with nine digits that count. */
void json_exact(const char *key, double value);
void json_bool(const char *key, bool value);

#endif
