/* SPDX-License-Identifier: MIT */
/*
 * Pre-tokenizers: their cuts against those that python3-regex makes with the published patterns
 * (tests/data/pretok, written by tests/tools/pretok.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/pretok.h"
#include "tests/lib/vocab.h"

#define DATA	"tests/data/pretok/"
#define MAX_CUTS 4096

static const char *const names[] = {
	"default", "gpt-2", "smollm", "llama-bpe", "qwen2", "starcoder", "refact", "falcon", "mpt",
	"deepseek-llm", "deepseek-coder",
};
#define NUM_NAMES (sizeof(names) / sizeof(names[0]))

struct cuts {
	const char *at;		/* where the next piece must begin */
	uint32_t lengths[MAX_CUTS];
	uint32_t num;
};

static int add_cut(void *arg, const char *text, size_t length)
{
	struct cuts *cuts = arg;

	assert_ptr_equal(text, cuts->at);
	assert_true(length > 0);
	cuts->at += length;
	if (cuts->num < MAX_CUTS)
		cuts->lengths[cuts->num] = (uint32_t)length;
	cuts->num++;
	return 0;
}

static struct unpu_pretok *make(const char *name)
{
	struct unpu_pretok *pretok = NULL;
	struct vocab_log log;

	vocab_log_init(&log);
	if (unpu_pretok_create((struct unpu_str){ name, strlen(name) }, &log.log, &pretok))
		fail_msg("%s", log.last);
	return pretok;
}

static void split(const struct unpu_pretok *pretok, const char *text, size_t length,
		  struct cuts *cuts)
{
	cuts->at = text;
	cuts->num = 0;
	assert_int_equal(unpu_pretok_split(pretok, text, length, add_cut, cuts), 0);
	assert_ptr_equal(cuts->at, text + length);
}

static char *read_data(const char *name, size_t *size)
{
	char path[256];
	char *data;

	snprintf(path, sizeof(path), DATA "%s", name);
	data = vocab_read(path, size);
	if (!data)
		fail_msg("%s is not there: run the tests from the top of the repository", path);
	return data;
}

/* ---- texts ------------------------------------------------------------------------------ */

/* One line of a .splits file: name, number, lengths. Moves *line to the next. */
static void check_line(const struct unpu_pretok *pretok, const char *name, uint32_t number,
		       const char *text, size_t length, char **line)
{
	struct cuts cuts;
	char expected[64];
	char *at = *line;
	uint32_t i;
	int n;

	n = snprintf(expected, sizeof(expected), "%s %u", name, number);
	assert_memory_equal(at, expected, (size_t)n);
	at += n;
	split(pretok, text, length, &cuts);
	for (i = 0; *at == ' '; i++) {
		unsigned long want = strtoul(at, &at, 10);

		if (i >= cuts.num || cuts.lengths[i] != want)
			fail_msg("%s, text %u: piece %u has %u bytes, not %lu", name, number, i,
				 i < cuts.num ? cuts.lengths[i] : 0, want);
	}
	assert_int_equal(cuts.num, i);
	assert_int_equal(*at, '\n');
	*line = at + 1;
}

static void check_texts(const char *data, size_t size, const char *separator, const char *splits)
{
	size_t unused;
	char *expected = read_data(splits, &unused), *line = expected;
	size_t i;

	for (i = 0; i < NUM_NAMES; i++) {
		struct unpu_pretok *pretok = make(names[i]);
		const char *at = data, *end;
		uint32_t number = 0;

		for (;; at = end + strlen(separator)) {
			end = memmem(at, size - (size_t)(at - data), separator, strlen(separator));
			check_line(pretok, names[i], number++, at,
				   (size_t)((end ? end : data + size) - at), &line);
			if (!end)
				break;
		}
		assert_true(number > 40);
		unpu_pretok_destroy(pretok);
	}
	assert_int_equal(*line, 0);
	free(expected);
}

static void texts(void **state)
{
	size_t size;
	char *data = read_data("texts", &size);

	(void)state;
	check_texts(data, size, "\n----\n", "texts.splits");
	free(data);
}

static void vector_texts(void **state)
{
	size_t size;
	char *data = vocab_read_shared("vocabs/ggml-vocab-gpt-2.gguf.inp", &size);

	(void)state;
	if (!data) {
		print_message("no vocabs/ggml-vocab-gpt-2.gguf.inp in ../shared\n");
		skip();
	}
	check_texts(data, size, "\n__ggml_vocab_test__\n", "inp.splits");
	free(data);
}

/* ---- random strings --------------------------------------------------------------------- */

#define MAX_CLASSES	32
#define MAX_RANGES	96

struct char_class {
	uint32_t weight, num, size;
	uint32_t first[MAX_RANGES], last[MAX_RANGES];
};

static struct char_class classes[MAX_CLASSES];
static uint32_t num_classes, total_weight;

static void read_class(struct char_class *class, char *line)
{
	char *at;

	class->weight = (uint32_t)strtoul(line, &at, 10);
	while (*at == ' ') {
		assert_true(class->num < MAX_RANGES);
		class->first[class->num] = (uint32_t)strtoul(at + 1, &at, 16);
		class->last[class->num] = (uint32_t)strtoul(at + 1, &at, 16);
		class->size += class->last[class->num] - class->first[class->num] + 1;
		class->num++;
	}
	assert_true(class->size > 0);
	total_weight += class->weight;
}

static int read_classes(void **state)
{
	size_t size;
	char *data = read_data("classes", &size), *save, *line;

	(void)state;
	for (line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		assert_true(num_classes < MAX_CLASSES);
		read_class(&classes[num_classes++], line);
	}
	free(data);
	return 0;
}

static size_t put_char(uint32_t code, char *out)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

static uint32_t class_char(const struct char_class *class, uint32_t index)
{
	uint32_t i;

	for (i = 0; index > class->last[i] - class->first[i]; i++)
		index -= class->last[i] - class->first[i] + 1;
	return class->first[i] + index;
}

/* At most 12 runs of 4 characters of 4 bytes. */
static size_t random_string(uint64_t *seed, char *out)
{
	uint32_t runs = 1 + vocab_random(seed, 12);
	size_t length = 0;

	while (runs--) {
		uint32_t weight = vocab_random(seed, total_weight);
		const struct char_class *class = classes;
		uint32_t chars = 1 + vocab_random(seed, 4);

		for (; weight >= class->weight; class++)
			weight -= class->weight;
		while (chars--)
			length += put_char(class_char(class, vocab_random(seed, class->size)),
					   out + length);
	}
	return length;
}

static uint64_t hash_batch(const struct unpu_pretok *pretok, uint64_t *seed, uint32_t batch)
{
	uint64_t hash = 0xcbf29ce484222325u;
	char text[12 * 4 * 4];
	struct cuts cuts;
	uint32_t i;

	while (batch--) {
		split(pretok, text, random_string(seed, text), &cuts);
		for (i = 0; i < cuts.num; i++)
			hash = (hash ^ cuts.lengths[i]) * 0x100000001b3u;
		hash *= 0x100000001b3u;
	}
	return hash;
}

static void random_strings(void **state)
{
	size_t size;
	char *data = read_data("random", &size), *save, *line = strtok_r(data, "\n", &save);
	uint32_t strings, batch, i, j;
	uint64_t first_seed, seed;

	(void)state;
	assert_int_equal(sscanf(line, "%" SCNu64 " %u %u", &first_seed, &strings, &batch), 3);
	assert_true(strings >= 10000);
	for (i = 0; i < NUM_NAMES; i++) {
		struct unpu_pretok *pretok = make(names[i]);

		seed = first_seed;
		for (j = 0; j < strings / batch; j++) {
			char want[64], have[64];

			line = strtok_r(NULL, "\n", &save);
			assert_non_null(line);
			snprintf(want, sizeof(want), "%s", line);
			snprintf(have, sizeof(have), "%s %u %016" PRIx64, names[i], j,
				 hash_batch(pretok, &seed, batch));
			assert_string_equal(have, want);
		}
		unpu_pretok_destroy(pretok);
	}
	assert_null(strtok_r(NULL, "\n", &save));
	free(data);
}

/* ---- text that is not UTF-8, limits, names ------------------------------------------------ */

static void random_bytes(void **state)
{
	/* Half the rounds are rich in lead bytes and spaces. */
	static const char parts[] = "\xe2\x80\xa8 \n\xf0\x9f\xed\xa0\x61";
	uint64_t seed = 7;
	struct cuts cuts;
	char text[300];
	uint32_t i, round;
	size_t n;

	(void)state;
	for (i = 0; i < NUM_NAMES; i++) {
		struct unpu_pretok *pretok = make(names[i]);

		for (round = 0; round < 500; round++) {
			for (n = 0; n < sizeof(text); n++)
				text[n] = round & 1 ? (char)vocab_random(&seed, 256) :
						      parts[vocab_random(&seed, 10)];
			split(pretok, text, vocab_random(&seed, sizeof(text)), &cuts);
		}
		unpu_pretok_destroy(pretok);
	}
}

/* Bytes that are no characters part what is on either side of them. */
static void invalid_bytes(void **state)
{
	struct unpu_pretok *pretok = make("gpt-2");
	struct cuts cuts;

	(void)state;
	split(pretok, "ab\xff\xfe  cd\xed\xa0\x80", 11, &cuts);
	assert_int_equal(cuts.num, 5);
	assert_int_equal(cuts.lengths[0], 2);
	assert_int_equal(cuts.lengths[1], 2);
	assert_int_equal(cuts.lengths[2], 1);
	assert_int_equal(cuts.lengths[3], 3);
	assert_int_equal(cuts.lengths[4], 3);
	unpu_pretok_destroy(pretok);
}

/* A limit that nothing keeps leaves fragments whole, and loses nothing. */
static void match_limit(void **state)
{
	static const char text[] = "The quick brown fox, 1234 times   \n over";
	struct cuts whole, cut;
	size_t i;

	(void)state;
	for (i = 0; i < NUM_NAMES; i++) {
		struct unpu_pretok *pretok = make(names[i]);

		split(pretok, text, sizeof(text) - 1, &cut);
		unpu_pretok_set_limit(pretok, 0);
		split(pretok, text, sizeof(text) - 1, &whole);
		assert_true(whole.num < cut.num);
		unpu_pretok_destroy(pretok);
	}
}

static int stop(void *arg, const char *text, size_t length)
{
	(void)text;
	(void)length;
	return ++*(int *)arg == 3 ? -EINTR : 0;
}

static void stops(void **state)
{
	struct unpu_pretok *pretok = make("gpt-2");
	int calls = 0;

	(void)state;
	assert_int_equal(unpu_pretok_split(pretok, "a b c d e", 9, stop, &calls), -EINTR);
	assert_int_equal(calls, 3);
	unpu_pretok_destroy(pretok);
}

static void unknown_name(void **state)
{
	struct unpu_pretok *pretok = NULL;
	struct vocab_log log;
	size_t i;

	(void)state;
	vocab_log_init(&log);
	assert_int_equal(unpu_pretok_create((struct unpu_str){ "tekken", 6 }, &log.log, &pretok),
			 -EINVAL);
	assert_int_equal(log.errors, 1);
	assert_non_null(strstr(log.last, "tokenizer.ggml.pre"));
	assert_non_null(strstr(log.last, "'tekken'"));
	for (i = 0; i < NUM_NAMES; i++)
		assert_non_null(strstr(log.last, names[i]));
	/* A prefix of a name is another name. */
	assert_int_equal(unpu_pretok_create((struct unpu_str){ "gpt-2", 4 }, &log.log, &pretok),
			 -EINVAL);
	assert_null(pretok);
}

/* ---- time ------------------------------------------------------------------------------- */

static int count_piece(void *arg, const char *text, size_t length)
{
	(void)text;
	*(size_t *)arg += length;
	return 0;
}

/* The unit again and again, then last unless it is 0: runs end at the end or before it. */
static void split_long(const struct unpu_pretok *pretok, const char *unit, char last, char *text,
		       size_t size)
{
	size_t n, sum = 0;

	for (n = 0; n + strlen(unit) < size; n += strlen(unit))
		memcpy(text + n, unit, strlen(unit));
	if (last)
		text[n++] = last;
	assert_int_equal(unpu_pretok_split(pretok, text, n, count_piece, &sum), 0);
	assert_int_equal(sum, n);
}

/*
 * 256 KiB each of what makes patterns step back, or try again from everywhere. What is quadratic
 * takes 3e10 steps, and the alarm ends it; seconds are not asserted. (tokenize_vocabs takes 1 MiB.)
 */
static void long_texts(void **state)
{
	static const char *const units[] = {
		" ", "\t", "\n ", "\xe3\x80\x80", "\n", "\r\n \t", "a", "7", "!", "'",
	};
	static const char *const each[] = {
		"gpt-2", "smollm", "llama-bpe", "falcon", "deepseek-llm", "deepseek-coder",
	};
	const size_t size = 1 << 18;
	char *text = malloc(size + 8);
	size_t i, j;

	(void)state;
	assert_non_null(text);
	for (i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		struct unpu_pretok *pretok = make(each[i]);

		for (j = 0; j < sizeof(units) / sizeof(units[0]); j++) {
			alarm(20);
			split_long(pretok, units[j], 0, text, size);
			if (j < 4)
				split_long(pretok, units[j], 'x', text, size);
		}
		unpu_pretok_destroy(pretok);
	}
	alarm(0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(vector_texts),
		cmocka_unit_test_setup(random_strings, read_classes),
		cmocka_unit_test(random_bytes),
		cmocka_unit_test(invalid_bytes),
		cmocka_unit_test(match_limit),
		cmocka_unit_test(stops),
		cmocka_unit_test(unknown_name),
		cmocka_unit_test(long_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
