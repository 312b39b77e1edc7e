/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

static const char replacement[] = "\xef\xbf\xbd";	/* U+FFFD */

/* The Unicode Standard, table 3-7: what may follow the lead byte. */
static uint32_t utf8_lead(uint8_t lead, uint8_t *low, uint8_t *high)
{
	*low = 0x80;
	*high = 0xbf;
	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	if (lead < 0xe0)
		return 2;
	if (lead < 0xf0) {
		if (lead == 0xe0)
			*low = 0xa0;
		if (lead == 0xed)
			*high = 0x9f;
		return 3;
	}
	if (lead == 0xf0)
		*low = 0x90;
	if (lead == 0xf4)
		*high = 0x8f;
	return 4;
}

uint32_t unpu_utf8_scan(const char *text, size_t length, uint32_t *need)
{
	const uint8_t *at = (const uint8_t *)text;
	uint8_t low, high;
	uint32_t n = utf8_lead(at[0], &low, &high);
	uint32_t i;

	*need = n;
	if (n == 0)
		return 0;
	for (i = 1; i < n && i < length; i++) {
		if (at[i] < low || at[i] > high)
			break;
		low = 0x80;
		high = 0xbf;
	}
	return i;
}

uint32_t unpu_utf8_decode(const char *text, size_t length, uint32_t *code)
{
	static const uint8_t lead_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	const uint8_t *at = (const uint8_t *)text;
	uint32_t need, i;

	if (length == 0 || unpu_utf8_scan(text, length, &need) != need || need == 0)
		return 0;
	*code = at[0] & lead_bits[need];
	for (i = 1; i < need; i++)
		*code = *code << 6 | (at[i] & 0x3f);
	return need;
}

static size_t put(char *out, const char *bytes, size_t length)
{
	memcpy(out, bytes, length);
	return length;
}

/* Each maximal part that cannot become a character gives one U+FFFD (Unicode 3.9). */
static size_t push_byte(struct unpu_utf8_stream *s, char byte, char *out)
{
	uint32_t need, have;
	size_t written = 0;

	s->held[s->num_held++] = byte;
	have = unpu_utf8_scan(s->held, s->num_held, &need);
	if (have < s->num_held && s->num_held > 1) {
		written = put(out, replacement, 3);
		s->held[0] = byte;
		s->num_held = 1;
		have = unpu_utf8_scan(s->held, 1, &need);
	}
	if (need == 0)
		written += put(out + written, replacement, 3);
	else if (have == need)
		written += put(out + written, s->held, need);
	if (need == 0 || have == need)
		s->num_held = 0;
	return written;
}

size_t unpu_utf8_stream_push(struct unpu_utf8_stream *s, const char *text, size_t length,
			     char *out)
{
	size_t i, written = 0;

	for (i = 0; i < length; i++)
		written += push_byte(s, text[i], out + written);
	return written;
}

size_t unpu_utf8_stream_flush(struct unpu_utf8_stream *s, char *out)
{
	if (s->num_held == 0)
		return 0;
	s->num_held = 0;
	return put(out, replacement, 3);
}
