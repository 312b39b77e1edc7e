/* SPDX-License-Identifier: MIT */
/*
 * JSON to stdout. Not cJSON: Debian has no static library of it, and names in a model file may hold
 * bytes that are not UTF-8, which cJSON would pass on and no parser takes.
 */
#ifndef UNPU_TOOL_JSON_H
#define UNPU_TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>

/* key is NULL for the outermost value and for the elements of an array. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
void json_text(const char *key, const char *text);
void json_count(const char *key, uint64_t value);
/* Three decimals; null when the value is not finite. */
void json_number(const char *key, double value);
void json_bool(const char *key, bool value);

#endif
