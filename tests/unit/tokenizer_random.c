/* SPDX-License-Identifier: MIT */
/*
 * Mutated vocabularies, random bytes and random ids: either one line refuses the file, or all that
 * the tokenizer gives is within its bounds. A second, or five minutes with UNPU_TEST_LONG; what a
 * round does follows from its number, which a failure prints, and UNPU_TEST_ROUND begins at one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/text/tokenizer.h"
#include "tests/lib/vocab.h"

#define MAX_TOKENS	400
#define MAX_TEXT	4096

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	return vocab_random(&seed, n);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- vocabularies that are good before they are mutated -------------------------------------- */

struct source {
	char texts[MAX_TOKENS][32];
	const char *tokens[MAX_TOKENS];
	char rules[MAX_TOKENS][64];
	const char *merges[MAX_TOKENS];
	float scores[MAX_TOKENS];
	int32_t types[MAX_TOKENS];
	uint32_t num;
};

static void make_tokens(struct source *s, bool spm)
{
	static const char *const parts[] = {
		"a", "b", "ab", "<", "|", ">", "\xe2\x96\x81", "\xc4\xa0", "\xc3\xa9", "im_end",
	};
	uint32_t i, a, b;

	s->num = 256 + below(MAX_TOKENS - 256);
	for (i = 0; i < s->num; i++) {
		s->tokens[i] = s->texts[i];
		s->merges[i] = s->rules[i];
		s->scores[i] = (float)below(30) - 20;
		s->types[i] = spm && i < 256 ? 6 : 1;
		a = below(10);
		b = below(10);
		if (i >= 256) {
			snprintf(s->texts[i], 32, "%s%s", parts[a], parts[b]);
			s->types[i] = below(4) ? 1 : (int32_t)below(8);
		} else if (spm) {
			snprintf(s->texts[i], 32, "<0x%02X>", i);
		} else {
			snprintf(s->texts[i], 32, "%s", vocab_byte_char(i).text);
		}
		snprintf(s->rules[i], 64, "%s %s", parts[a], parts[b]);
	}
}

static void make_file(struct vocab_file *file)
{
	static const char *const pres[] = {
		"default", "gpt-2", "smollm", "llama-bpe", "qwen2", "starcoder", "refact", "falcon",
		"mpt", "deepseek-llm", "deepseek-coder", "nonsense",
	};
	static struct source s;
	bool spm = below(2);

	make_tokens(&s, spm);
	vocab_file_init(file);
	vocab_add_str(file, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	if (below(8))
		vocab_add_str(file, "tokenizer.ggml.pre", pres[below(12)]);
	vocab_add_strings(file, "tokenizer.ggml.tokens", s.num, s.tokens);
	if (below(8))
		vocab_add_i32s(file, "tokenizer.ggml.token_type", s.num, s.types);
	if (spm || below(2))
		vocab_add_f32s(file, "tokenizer.ggml.scores", s.num, s.scores);
	if (!spm || below(2))
		vocab_add_strings(file, "tokenizer.ggml.merges", s.num, s.merges);
	if (below(2))
		vocab_add_u32(file, "tokenizer.ggml.bos_token_id", below(s.num + 1));
	if (below(2))
		vocab_add_u32(file, "tokenizer.ggml.eos_token_id", below(s.num));
	if (below(2))
		vocab_add_u32(file, "tokenizer.ggml.unknown_token_id", below(s.num));
	if (below(2))
		vocab_add_bool(file, "tokenizer.ggml.add_space_prefix", below(2));
	if (below(2))
		vocab_add_bool(file, "tokenizer.ggml.add_eos_token", below(2));
}

static void mutate(struct vocab_file *file)
{
	uint32_t n = below(4) ? below(6) : 0;

	while (n--) {
		uint32_t at = below((uint32_t)file->size), i;

		switch (below(4)) {
		case 0:
			file->data[at] ^= (uint8_t)(1 << below(8));
			break;
		case 1:
			file->data[at] = (uint8_t)below(256);
			break;
		case 2:
			for (i = at; i < file->size && i < at + 8; i++)
				file->data[i] = below(2) ? 0xff : 0;
			break;
		default:
			if (below(8) == 0)
				file->size = at + 1;
			break;
		}
	}
}

/* ---- what must hold ----------------------------------------------------------------------- */

static size_t random_text(char *text)
{
	static const char parts[] = "ab<|>im_end 0x4\n'\xe2\x96\x81\xc4\xa0\xc3\xa9 \xf0\x9f\xff";
	size_t length = below(below(8) ? 200 : MAX_TEXT), i, run;
	char c = 0;

	for (i = 0, run = 0; i < length; i++, run -= run > 0) {
		if (run == 0) {
			run = below(20) ? 1 : below(300);
			c = below(8) ? parts[below(sizeof(parts) - 1)] : (char)below(256);
		}
		text[i] = c;
	}
	return length;
}

static void check_ids(const struct unpu_tokenizer *tok, const uint32_t *ids, size_t num)
{
	int64_t length = unpu_tokenizer_decode(tok, ids, num, NULL, 0), i, sum = 0;
	struct unpu_utf8_stream stream = { 0 };
	char *text, *out;
	size_t n;

	assert_true(length >= 0);
	/* To the exact size, so that ASan sees a write past it. */
	text = malloc((size_t)length + !length);
	assert_int_equal(unpu_tokenizer_decode(tok, ids, num, text, (size_t)length), length);
	for (i = 0; i < (int64_t)num; i++) {
		int64_t piece = unpu_tokenizer_piece(tok, ids[i], NULL, 0);

		assert_true(piece >= 0);
		sum += piece;
	}
	assert_true(length == sum || (length == sum - 1 && unpu_tokenizer_space_prefix(tok)));
	out = malloc(3 * ((size_t)length + 3));
	n = unpu_utf8_stream_push(&stream, text, (size_t)length, out);
	n += unpu_utf8_stream_flush(&stream, out + n);
	assert_true(n <= 3 * (size_t)length);
	free(out);
	free(text);
}

static void use(const struct unpu_tokenizer *tok)
{
	uint32_t vocab = unpu_tokenizer_vocab(tok), flags, i, *ids, eog[32];
	char *text = malloc(MAX_TEXT), *exact;
	size_t length = random_text(text);
	int64_t num;

	exact = malloc(length + !length);
	memcpy(exact, text, length);
	free(text);
	flags = below(4);
	num = unpu_tokenizer_encode(tok, exact, length, flags, NULL, 0);
	/* A space may be three tokens, and come before each piece between one-byte tokens. */
	assert_true(num >= 0 && num <= 4 * (int64_t)length + 5);
	ids = malloc(((size_t)num + !num) * sizeof(*ids));
	assert_int_equal(unpu_tokenizer_encode(tok, exact, length, flags, ids, (size_t)num), num);
	for (i = 0; i < num; i++)
		assert_true(ids[i] < vocab);
	check_ids(tok, ids, (size_t)num);
	for (i = 0; i < num; i++)
		ids[i] = below(vocab);
	check_ids(tok, ids, (size_t)num);
	free(ids);
	free(exact);
	for (i = unpu_tokenizer_eog(tok, eog, 32); i > 0; i--)
		assert_true(eog[i - 1] < vocab && unpu_tokenizer_is_eog(tok, eog[i - 1]));
}

static bool try_file(const struct vocab_file *file)
{
	struct unpu_tokenizer *tok;
	struct unpu_gguf *gguf;
	struct vocab_log log;
	uint32_t i;
	int err;

	vocab_log_init(&log);
	if (unpu_gguf_create(file->data, file->size, &log.log, &gguf))
		return false;
	err = unpu_tokenizer_create(gguf, &log.log, &tok);
	unpu_gguf_destroy(gguf);
	assert_int_equal(log.errors, err ? 1 : 0);
	if (err) {
		assert_int_equal(err, -EINVAL);
		return false;
	}
	for (i = 0; i < 8; i++)
		use(tok);
	unpu_tokenizer_destroy(tok);
	return true;
}

/* ---- rounds ----------------------------------------------------------------------------- */

static uint32_t round_number;

/* The sanitizers', where they are. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void say_round(void)
{
	fprintf(stderr, "in round %u\n", round_number);
}

static int end_rounds(void **state)
{
	(void)state;
	alarm(0);
	if (round_number)
		say_round();
	return 0;
}

static void rounds(void (*one)(void), double limit)
{
	const char *first = getenv("UNPU_TEST_ROUND");
	double end = seconds() + (getenv("UNPU_TEST_LONG") ? 300 : limit);

	for (round_number = first ? (uint32_t)atoi(first) : 1; seconds() < end; round_number++) {
		seed = round_number * 0x9e3779b97f4a7c15u;
		alarm(60);
		one();
	}
	round_number = 0;
}

static uint32_t num_good, num_bad;

static void tiny_round(void)
{
	struct vocab_file file;
	uint8_t *exact;

	make_file(&file);
	mutate(&file);
	/* A truncated file ends where its memory does. */
	exact = realloc(file.data, file.size);
	assert_non_null(exact);
	file.data = exact;
	if (try_file(&file))
		num_good++;
	else
		num_bad++;
	vocab_file_finish(&file);
}

static void tiny_files(void **state)
{
	(void)state;
	rounds(tiny_round, 1);
	print_message("%u vocabularies used, %u refused\n", num_good, num_bad);
	assert_true(num_good > 0 && num_bad > 0);
}

static char *real_data;
static size_t real_size;

/* Most mutations fall into tokens, merges, scores and types. */
static void real_round(void)
{
	struct vocab_file file = { malloc(real_size), real_size };

	assert_non_null(file.data);
	memcpy(file.data, real_data, real_size);
	mutate(&file);
	try_file(&file);
	vocab_file_finish(&file);
}

static void real_files(void **state)
{
	real_data = vocab_read_shared(*state, &real_size);
	if (!real_data) {
		print_message("no %s in ../shared\n", (char *)*state);
		skip();
	}
	rounds(real_round, 1);
	free(real_data);
}

#define REAL(name) { "real_files " name, real_files, NULL, end_rounds, \
	(void *)("vocabs/ggml-vocab-" name ".gguf") }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(tiny_files, end_rounds),
		REAL("llama-spm"),
		REAL("smollm2"),
	};


	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(say_round);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
