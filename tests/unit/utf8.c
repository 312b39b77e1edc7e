/* SPDX-License-Identifier: MIT */
/* UTF-8: what is a character, and the stream that never splits one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/lib/vocab.h"

/* ---- the definition, by code points rather than by bytes ------------------------------------ */

struct interval {
	uint32_t low, high;
};

#define NONE { UINT32_MAX, 0 }

static const struct interval scalars[5][2] = {
	[1] = { { 0, 0x7f }, NONE },
	[2] = { { 0x80, 0x7ff }, NONE },
	[3] = { { 0x800, 0xd7ff }, { 0xe000, 0xffff } },
	[4] = { { 0x10000, 0x10ffff }, NONE },
};

static uint32_t lead_length(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc0 && lead < 0xe0)
		return 2;
	if (lead >= 0xe0 && lead < 0xf0)
		return 3;
	return lead >= 0xf0 && lead < 0xf8 ? 4 : 0;
}

/* Whether some character begins with these n bytes. */
static bool begins_char(const uint8_t *at, uint32_t n)
{
	uint32_t length = lead_length(at[0]), rest = 6 * (length - n), low, high, i;

	if (length < n)
		return false;
	low = length == 1 ? at[0] : at[0] & (0x7fu >> length);
	for (i = 1; i < n; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return false;
		low = low << 6 | (at[i] & 0x3f);
	}
	low <<= rest;
	high = low + (1u << rest) - 1;
	for (i = 0; i < 2; i++)
		if (low <= scalars[length][i].high && high >= scalars[length][i].low)
			return true;
	return false;
}

/* The text with each maximal part of a character that is none replaced. */
static size_t repaired(const uint8_t *text, size_t length, char *out)
{
	size_t at = 0, written = 0;

	while (at < length) {
		uint32_t n = 1;

		while (n < 4 && at + n < length && begins_char(text + at, n + 1))
			n++;
		if (begins_char(text + at, n) && lead_length(text[at]) == n) {
			memcpy(out + written, text + at, n);
			written += n;
		} else {
			memcpy(out + written, "\xef\xbf\xbd", 3);
			written += 3;
		}
		at += n;
	}
	return written;
}

/* ---- tests ------------------------------------------------------------------------------ */

static void every_code(void **state)
{
	uint32_t code, decoded, need, n;
	uint8_t text[4];

	(void)state;
	for (code = 0; code < 0x120000; code++) {
		bool valid = code < 0x110000 && (code < 0xd800 || code > 0xdfff);

		n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
		text[0] = (uint8_t)(n == 1 ? code : 0xf00u >> n | code >> 6 * (n - 1));
		for (need = 1; need < n; need++)
			text[need] = (uint8_t)(0x80 | (code >> 6 * (n - 1 - need) & 0x3f));
		assert_int_equal(unpu_utf8_decode((char *)text, n, &decoded), valid ? n : 0);
		if (!valid)
			continue;
		assert_int_equal(decoded, code);
		assert_int_equal(unpu_utf8_decode((char *)text, n - 1, &decoded), 0);
		for (; n > 0; n--) {
			assert_int_equal(unpu_utf8_scan((char *)text, n, &need), n);
			assert_int_equal(need, lead_length(text[0]));
		}
	}
}

/* All that two bytes can be, and three and four with the bytes where something changes. */
static void every_prefix(void **state)
{
	static const uint8_t edges[] = {
		0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff,
	};
	const uint32_t num = sizeof(edges);
	uint32_t i, have, need, n;
	uint8_t text[4];

	(void)state;
	for (i = 0; i < 65536 * num * num; i += i < 65536 ? 1 : 7) {
		text[0] = (uint8_t)(i >> 8);
		text[1] = (uint8_t)i;
		text[2] = edges[i / 65536 % num];
		text[3] = edges[i / 65536 / num];
		have = unpu_utf8_scan((char *)text, 4, &need);
		if (!begins_char(text, 1)) {
			assert_int_equal(have, 0);
			assert_int_equal(need, 0);
			continue;
		}
		for (n = 1; n < 4 && begins_char(text, n + 1); n++)
			;
		assert_int_equal(have, n);
		assert_int_equal(need, lead_length(text[0]));
	}
}

static size_t push_all(const char *text, size_t length, size_t step, char *out)
{
	struct unpu_utf8_stream s = { 0 };
	size_t at, n, wrote, written = 0;

	for (at = 0; at < length; at += n) {
		n = length - at < step ? length - at : step;
		wrote = unpu_utf8_stream_push(&s, text + at, n, out + written);
		assert_true(wrote <= 3 * (n + 3));
		assert_true(s.num_held <= 3);
		written += wrote;
	}
	wrote = unpu_utf8_stream_flush(&s, out + written);
	assert_true(wrote == 0 || wrote == 3);
	written += wrote;
	assert_int_equal(unpu_utf8_stream_flush(&s, out + written), 0);
	return written;
}

static void check_stream(const char *text, size_t length)
{
	char out[1024], want[1024];
	size_t step, n = repaired((const uint8_t *)text, length, want);

	for (step = 1; step < 7; step++) {
		assert_int_equal(push_all(text, length, step, out), n);
		assert_memory_equal(out, want, n);
	}
}

static void streams(void **state)
{
	static const char *const texts[] = {
		"", "plain", "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80!",
		"\xf0\x9f\x98", "\xf0\x9f\x98\x41", "\xe2\x82", "\xe2\xe2\xe2\x82\xac",
		"\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\x80\x80", "\xff\xfe\xfd",
		"a\xf0\x80\x80\x80z", "\xe0\x9f\xbf", "\xf0\x9f\xc3\xa9",
	};
	static const char parts[] =
		"a \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\xff\xf4\x90\xe0";
	uint64_t seed = 3;
	uint32_t i, n;
	char text[256];

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		check_stream(texts[i], strlen(texts[i]));
	for (i = 0; i < 20000; i++) {
		for (n = 0; n < sizeof(text); n++)
			text[n] = i & 1 ? (char)vocab_random(&seed, 256) :
					  parts[vocab_random(&seed, sizeof(parts) - 1)];
		check_stream(text, vocab_random(&seed, 64));
	}
}

/* What is whole goes out at once. */
static void at_once(void **state)
{
	struct unpu_utf8_stream s = { 0 };
	char out[64];

	(void)state;
	assert_int_equal(unpu_utf8_stream_push(&s, "a\xe2\x82", 3, out), 1);
	assert_int_equal(s.num_held, 2);
	assert_int_equal(unpu_utf8_stream_push(&s, "\xac", 1, out), 3);
	assert_memory_equal(out, "\xe2\x82\xac", 3);
	assert_int_equal(unpu_utf8_stream_push(&s, "\xe2\x82", 2, out), 0);
	assert_int_equal(unpu_utf8_stream_push(&s, "b", 1, out), 4);
	assert_memory_equal(out, "\xef\xbf\xbd" "b", 4);
	assert_int_equal(unpu_utf8_stream_push(&s, "", 0, out), 0);
	assert_int_equal(unpu_utf8_stream_push(&s, "\xf0", 1, out), 0);
	assert_int_equal(unpu_utf8_stream_flush(&s, out), 3);
	assert_memory_equal(out, "\xef\xbf\xbd", 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code),
		cmocka_unit_test(every_prefix),
		cmocka_unit_test(streams),
		cmocka_unit_test(at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
