/* SPDX-License-Identifier: MIT */
/*
 * Real tokenizers from ../shared/vocabs (or $UNPU_SHARED): every text of their .inp against the ids
 * of their .out, and 1 MiB of what is hard.
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

#define SEPARATOR	"\n__ggml_vocab_test__\n"

static char *read_shared(const char *name, const char *suffix, size_t *size)
{
	char path[256], *data;

	snprintf(path, sizeof(path), "vocabs/ggml-vocab-%s.gguf%s", name, suffix);
	data = vocab_read_shared(path, size);
	if (!data) {
		print_message("no %s in ../shared\n", path);
		skip();
	}
	return data;
}

struct opened {
	char *data;
	struct vocab_log log;
	struct unpu_tokenizer *tok;
	int err;
};

static void open_vocab(struct opened *o, const char *name)
{
	struct unpu_gguf *gguf;
	size_t size;

	memset(o, 0, sizeof(*o));
	vocab_log_init(&o->log);
	o->data = read_shared(name, "", &size);
	assert_int_equal(unpu_gguf_create(o->data, size, &o->log.log, &gguf), 0);
	o->err = unpu_tokenizer_create(gguf, &o->log.log, &o->tok);
	unpu_gguf_destroy(gguf);
}

static void close_vocab(struct opened *o)
{
	unpu_tokenizer_destroy(o->tok);
	free(o->data);
}

static void check_back(const struct unpu_tokenizer *tok, const uint32_t *ids, size_t num,
		       const char *text, size_t length)
{
	char *back = malloc(length + 1);

	assert_non_null(back);
	assert_int_equal(unpu_tokenizer_decode(tok, ids, num, back, length), length);
	assert_memory_equal(back, text, length);
	free(back);
}

/* One text against one line of ids; *line moves to the next. */
static void check_text(const struct unpu_tokenizer *tok, uint32_t number, const char *text,
		       size_t length, char **line)
{
	uint32_t *ids = malloc((length + 2) * sizeof(*ids));
	int64_t num, i;
	char *at = *line, *end;

	assert_non_null(ids);
	num = unpu_tokenizer_encode(tok, text, length, 0, ids, length + 2);
	for (i = 0; *at && *at != '\n'; i++, at = end + strspn(end, " ")) {
		unsigned long want = strtoul(at, &end, 10);

		assert_ptr_not_equal(at, end);
		if (i >= num || ids[i] != want)
			fail_msg("text %u: id %d is %d, not %lu", number, (int)i,
				 i < num ? (int)ids[i] : -1, want);
	}
	assert_int_equal(num, i);
	*line = at + (*at == '\n');
	check_back(tok, ids, (size_t)num, text, length);
	free(ids);
}

static void vectors(void **state)
{
	struct opened o;
	size_t size, unused;
	char *inp, *out, *line, *at, *end;
	uint32_t number = 0;

	open_vocab(&o, *state);
	assert_int_equal(o.err, 0);
	inp = read_shared(*state, ".inp", &size);
	line = out = read_shared(*state, ".out", &unused);
	for (at = inp; at; at = end ? end + strlen(SEPARATOR) : NULL) {
		end = memmem(at, size - (size_t)(at - inp), SEPARATOR, strlen(SEPARATOR));
		check_text(o.tok, number++, at, (size_t)((end ? end : inp + size) - at), &line);
	}
	assert_int_equal(line[strspn(line, "\n ")], 0);
	assert_true(number >= 40);
	free(inp);
	free(out);
	close_vocab(&o);
}

static void refused(void **state)
{
	struct opened o;

	open_vocab(&o, *state);
	assert_int_equal(o.err, -EINVAL);
	assert_int_equal(o.log.errors, 1);
	assert_non_null(strstr(o.log.last, "'bert'"));
	assert_non_null(strstr(o.log.last, "gpt2, llama"));
	close_vocab(&o);
	print_message("WordPiece is refused by name, as it should be; its texts are not tested\n");
	skip();
}

/* ---- 1 MiB ------------------------------------------------------------------------------ */

/* Some published vocabularies lack bytes that no UTF-8 text has: those do not come back. */
static bool has_all_bytes(const struct unpu_tokenizer *tok)
{
	uint32_t ids[4], i;
	char byte;

	for (i = 0; i < 256; i++)
		if (unpu_tokenizer_encode(tok, &(char){ (char)i }, 1, 0, ids, 4) < 1 ||
		    unpu_tokenizer_decode(tok, ids, 1, &byte, 1) > 1 || (uint8_t)byte != i)
			return false;
	return true;
}

static void fill(char *text, size_t size, uint32_t kind)
{
	uint64_t seed = 17;
	size_t i;

	for (i = 0; i < size; i++)
		text[i] = kind == 0 ? 'a' : kind == 1 ? ' ' :
			  (char)vocab_random(&seed, 256);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What is quadratic takes minutes, and the alarm ends it; seconds are printed, not asserted. */
static void long_texts(void **state)
{
	static const char *const kinds[] = { "one letter", "spaces", "random bytes" };
	const size_t size = 1 << 20;
	struct opened o;
	uint32_t *ids, kind;
	double start;
	int64_t num;
	char *text;

	open_vocab(&o, *state);
	assert_int_equal(o.err, 0);
	text = malloc(size);
	ids = malloc((size + 2) * sizeof(*ids));
	assert_true(text && ids);
	for (kind = 0; kind < 3; kind++) {
		fill(text, size, kind);
		alarm(60);
		start = seconds();
		num = unpu_tokenizer_encode(o.tok, text, size, 0, ids, size + 2);
		print_message("%s, 1 MiB of %s: %.3f s, %d ids\n", (char *)*state, kinds[kind],
			      seconds() - start, (int)num);
		assert_true(num > 0);
		if (kind < 2 || has_all_bytes(o.tok))
			check_back(o.tok, ids, (size_t)num, text, size);
	}
	alarm(0);
	free(text);
	free(ids);
	close_vocab(&o);
}

#define FOR(test, vocab) { #test " " vocab, test, NULL, NULL, (void *)vocab }

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOR(vectors, "gpt-2"),
		FOR(vectors, "smollm2"),
		FOR(vectors, "starcoder"),
		FOR(vectors, "deepseek-llm"),
		FOR(vectors, "llama-spm"),
		FOR(refused, "bert-bge"),
		FOR(long_texts, "gpt-2"),
		FOR(long_texts, "smollm2"),
		FOR(long_texts, "starcoder"),
		FOR(long_texts, "deepseek-llm"),
		FOR(long_texts, "llama-spm"),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
