/* SPDX-License-Identifier: MIT */
/*
 * RFC 8259, read in place: what is unescaped or loses its blanks never grows, so that it is written
 * over itself.
 */
#include "train/jsonl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MAX_DEPTH	32	/* of arrays and objects in one another: recursion */

struct reader {
	char *at, *end;
	const char *what;	/* the first error; at stands there */
};

struct text {
	char *ptr;
	size_t length;
};

static bool wrong(struct reader *r, const char *what)
{
	if (!r->what)
		r->what = what;
	return false;
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r'))
		r->at++;
}

static bool take(struct reader *r, char c)
{
	skip_blanks(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* ---- strings ------------------------------------------------------------------------------ */

static bool read_hex(struct reader *r, uint32_t *value)
{
	*value = 0;
	if (r->end - r->at < 4)
		return wrong(r, "an escape is cut off");
	for (int i = 0; i < 4; i++, r->at++) {
		char c = *r->at;

		if (c >= '0' && c <= '9')
			*value = *value * 16 + (uint32_t)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*value = *value * 16 + (uint32_t)((c | 32) - 'a' + 10);
		else
			return wrong(r, "an escape is no hexadecimal number");
	}
	return true;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 63));
		}
		*out++ = (char)(0x80 | (c >> 6 & 63));
	}
	*out++ = (char)(0x80 | (c & 63));
	return out;
}

/* Behind \u. Halves of a pair that stand alone become U+FFFD. */
static char *read_unicode(struct reader *r, char *out)
{
	uint32_t c, low;

	if (!read_hex(r, &c))
		return NULL;
	if (c >= 0xd800 && c < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' &&
	    r->at[1] == 'u') {
		r->at += 2;
		if (!read_hex(r, &low))
			return NULL;
		c = low >= 0xdc00 && low < 0xe000 ?
		    0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff)) : 0xfffd;
	}
	return put_utf8(out, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
}

static char *read_escape(struct reader *r, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (r->at == r->end) {
		wrong(r, "an escape is cut off");
		return NULL;
	}
	if (*r->at == 'u') {
		r->at++;
		return read_unicode(r, out);
	}
	found = *r->at ? strchr(from, *r->at) : NULL;
	if (!found) {
		wrong(r, "there is no such escape");
		return NULL;
	}
	r->at++;
	*out++ = to[found - from];
	return out;
}

/* Behind the first quote; what it says goes over it. */
static bool read_string(struct reader *r, struct text *text)
{
	char *out = r->at;

	text->ptr = out;
	while (r->at < r->end && *r->at != '"') {
		if ((uint8_t)*r->at < 0x20)
			return wrong(r, "a control character stands in a string");
		if (*r->at != '\\') {
			*out++ = *r->at++;
			continue;
		}
		r->at++;
		out = read_escape(r, out);
		if (!out)
			return false;
	}
	if (r->at == r->end)
		return wrong(r, "a string does not end");
	r->at++;
	text->length = (size_t)(out - text->ptr);
	return true;
}

/* ---- values, copied without blanks to `out`, which is never ahead of the reader ------------- */

static bool copy_value(struct reader *r, char **out, int depth);

static bool copy_char(struct reader *r, char **out, char c, const char *what)
{
	if (!take(r, c))
		return wrong(r, what);
	*(*out)++ = c;
	return true;
}

static bool copy_string(struct reader *r, char **out)
{
	if (!copy_char(r, out, '"', "a string should begin here"))
		return false;
	for (; r->at < r->end && *r->at != '"'; *(*out)++ = *r->at++) {
		if ((uint8_t)*r->at < 0x20)
			return wrong(r, "a control character stands in a string");
		if (*r->at == '\\' && r->end - r->at > 1)
			*(*out)++ = *r->at++;
	}
	return copy_char(r, out, '"', "a string does not end");
}

static bool copy_members(struct reader *r, char **out, char end, int depth)
{
	bool first = true;

	(*out)[0] = *r->at++;
	(*out)++;
	while (!take(r, end)) {
		if (!first && !copy_char(r, out, ',', "a comma is missing"))
			return false;
		skip_blanks(r);
		if (end == '}' && (!copy_string(r, out) ||
				   !copy_char(r, out, ':', "a colon is missing")))
			return false;
		if (!copy_value(r, out, depth + 1))
			return false;
		first = false;
	}
	*(*out)++ = end;
	return true;
}

static bool is_plain(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' ||
	       c == '.' || c == 'E';
}

/* Numbers, true, false and null are taken as they are written. */
static bool copy_plain(struct reader *r, char **out)
{
	char *from = r->at;

	while (r->at < r->end && is_plain(*r->at))
		*(*out)++ = *r->at++;
	return r->at > from || wrong(r, "a value is missing");
}

static bool copy_value(struct reader *r, char **out, int depth)
{
	if (depth > MAX_DEPTH)
		return wrong(r, "values lie too deep in one another");
	skip_blanks(r);
	if (r->at == r->end)
		return wrong(r, "a value is missing");
	switch (*r->at) {
	case '"':
		return copy_string(r, out);
	case '{':
		return copy_members(r, out, '}', depth);
	case '[':
		return copy_members(r, out, ']', depth);
	}
	return copy_plain(r, out);
}

/* ---- the line ------------------------------------------------------------------------------ */

static bool read_answer(struct reader *r, struct text *text)
{
	char *out;

	if (take(r, '"'))
		return read_string(r, text);
	out = r->at;
	text->ptr = out;
	if (!copy_value(r, &out, 0))
		return false;
	text->length = (size_t)(out - text->ptr);
	return true;
}

static bool is(const struct text *text, const char *name)
{
	return text->length == strlen(name) && !memcmp(text->ptr, name, text->length);
}

static bool read_member(struct reader *r, struct text *prompt, struct text *answer)
{
	struct text name, skipped;

	if (!take(r, '"'))
		return wrong(r, "a name should begin here");
	if (!read_string(r, &name))
		return false;
	if (!take(r, ':'))
		return wrong(r, "a colon is missing");
	if (is(&name, "prompt"))
		return take(r, '"') ? read_string(r, prompt) : wrong(r, "prompt is no string");
	return read_answer(r, is(&name, "answer") ? answer : &skipped);
}

static bool read_line(struct reader *r, struct text *prompt, struct text *answer)
{
	if (!take(r, '{'))
		return wrong(r, "a line should begin with {");
	do {
		if (!read_member(r, prompt, answer))
			return false;
	} while (take(r, ','));
	if (!take(r, '}'))
		return wrong(r, "a comma or } is missing");
	skip_blanks(r);
	if (r->at != r->end)
		return wrong(r, "something stands behind }");
	if (!prompt->ptr)
		return wrong(r, "prompt is missing");
	return answer->ptr || wrong(r, "answer is missing");
}

int unpu_jsonl_read(char *line, size_t length, struct unpu_jsonl *out, const char **what,
		    size_t *where)
{
	struct reader r = { line, line + length, NULL };
	struct text prompt = { 0 }, answer = { 0 };

	if (!read_line(&r, &prompt, &answer)) {
		*what = r.what;
		*where = (size_t)(r.at - line);
		return -EINVAL;
	}
	*out = (struct unpu_jsonl){ prompt.ptr, answer.ptr, prompt.length, answer.length };
	return 0;
}
