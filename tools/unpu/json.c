/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "tools/unpu/json.h"
#include "tools/unpu/out.h"

static int depth;
static bool has_elements;

static void put_string(const char *text, size_t left)
{
	uint32_t point;
	size_t n;

	out_text("\"");
	while (left) {
		n = utf8_length(text, left, &point);
		if (!n)
			out_text("\xef\xbf\xbd");
		else if (point < 0x20 || point == 0x7f)
			out_printf("\\u%04x", (unsigned int)point);
		else if (point == '"' || point == '\\')
			out_printf("\\%c", (char)point);
		else
			out_write(text, n);
		n = n ? n : 1;
		text += n;
		left -= n;
	}
	out_text("\"");
}

static void begin(const char *key)
{
	out_text(!depth ? "" : has_elements ? ",\n" : "\n");
	out_printf("%*s", 2 * depth, "");
	if (key) {
		put_string(key, strlen(key));
		out_text(": ");
	}
	has_elements = true;
}

void json_open(const char *key, char bracket)
{
	begin(key);
	out_write(&bracket, 1);
	depth++;
	has_elements = false;
}

void json_close(char bracket)
{
	depth--;
	if (has_elements)
		out_printf("\n%*s", 2 * depth, "");
	out_write(&bracket, 1);
	has_elements = true;
	if (!depth)
		out_text("\n");
}

void json_text(const char *key, const char *text)
{
	if (text) {
		json_string(key, text, strlen(text));
		return;
	}
	begin(key);
	out_text("null");
}

void json_string(const char *key, const char *text, size_t length)
{
	begin(key);
	put_string(text, length);
}

void json_count(const char *key, uint64_t value)
{
	begin(key);
	out_printf("%" PRIu64, value);
}

void json_number(const char *key, double value)
{
	begin(key);
	if (isfinite(value))
		out_printf("%.3f", value);
	else
		out_text("null");
}

void json_exact(const char *key, double value)
{
	begin(key);
	if (isfinite(value))
		out_printf("%.9g", value);
	else
		out_text("null");
}

void json_bool(const char *key, bool value)
{
	begin(key);
	out_text(value ? "true" : "false");
}
