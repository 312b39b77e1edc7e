/* SPDX-License-Identifier: MIT */
/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef UNPU_UTF8_H
#define UNPU_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * How many of the bytes begin, or are, a character: its *need bytes when it is whole, fewer when
 * the text ends or goes wrong within it, 0 when the first byte begins none (*need is 0 then too).
 * length is not 0.
 */
uint32_t unpu_utf8_scan(const char *text, size_t length, uint32_t *need);

/* Length of the whole character at text (1 to 4) and its code point, or 0. length may be 0. */
uint32_t unpu_utf8_decode(const char *text, size_t length, uint32_t *code);

#endif
