/* SPDX-License-Identifier: MIT */
/* SentencePiece: merges against the plain definition, spaces, bytes, special tokens, bad files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/spm.h"
#include "runtime/text/tokenizer.h"
#include "tests/lib/vocab.h"

#define PARSE	UNPU_TOKENIZE_PARSE_SPECIAL
#define ADD	UNPU_TOKENIZE_ADD_SPECIAL

/* U+2581 */
#define S	"\xe2\x96\x81"

/* ---- a small vocabulary ------------------------------------------------------------------- */

enum {
	T_UNK, T_BOS, T_EOS, T_BYTE, T_SPACE = T_BYTE + 256, T_H, T_E, T_L, T_O, T_HE, T_LL, T_LLO,
	T_HELLO, T_SPACE_HELLO, T_SPACES, T_E_ACUTE, T_TOOL, T_TAG, NUM_TOKENS,
};

/* From T_SPACE on. "<s" + ">" must not become BOS, whose score is the best of all. */
static const struct {
	const char *text;
	float score;
} words[] = {
	{ S, -20 }, { "h", -21 }, { "e", -22 }, { "l", -23 }, { "o", -24 }, { "he", -3 },
	{ "ll", -1 }, { "llo", -2 }, { "hello", -4 }, { S "hello", -5 }, { S S, -6 },
	{ "\xc3\xa9", -30 }, { "<tool>", 0 }, { "<s", -7 },
};

struct fixture {
	char bytes[256][8];
	const char *tokens[NUM_TOKENS];
	float scores[NUM_TOKENS];
	int32_t types[NUM_TOKENS];
	struct vocab_file file;
	struct vocab_log log;
	struct unpu_tokenizer *tok;
};

static void make_vocab(struct fixture *f)
{
	uint32_t i;

	f->tokens[T_UNK] = "<unk>";
	f->tokens[T_BOS] = "<s>";
	f->tokens[T_EOS] = "</s>";
	f->types[T_UNK] = UNPU_TOKEN_UNKNOWN;
	f->types[T_BOS] = f->types[T_EOS] = UNPU_TOKEN_CONTROL;
	for (i = 0; i < 256; i++) {
		snprintf(f->bytes[i], sizeof(f->bytes[i]), "<0x%02X>", i);
		f->tokens[T_BYTE + i] = f->bytes[i];
		f->types[T_BYTE + i] = UNPU_TOKEN_BYTE;
	}
	for (i = T_SPACE; i < NUM_TOKENS; i++) {
		f->tokens[i] = words[i - T_SPACE].text;
		f->scores[i] = words[i - T_SPACE].score;
		f->types[i] = UNPU_TOKEN_NORMAL;
	}
	f->types[T_TOOL] = UNPU_TOKEN_USER_DEFINED;
}

static void add_keys(struct fixture *f, const char *without)
{
	vocab_file_init(&f->file);
	vocab_add_str(&f->file, "tokenizer.ggml.model", "llama");
	if (strcmp(without, "tokens"))
		vocab_add_strings(&f->file, "tokenizer.ggml.tokens", NUM_TOKENS, f->tokens);
	if (strcmp(without, "scores"))
		vocab_add_f32s(&f->file, "tokenizer.ggml.scores", NUM_TOKENS, f->scores);
	if (strcmp(without, "token_type"))
		vocab_add_i32s(&f->file, "tokenizer.ggml.token_type", NUM_TOKENS, f->types);
}

static struct fixture *make(const char *without)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	make_vocab(f);
	add_keys(f, without);
	return f;
}

static int create(struct fixture *f)
{
	struct unpu_gguf *gguf;
	int err;

	vocab_log_init(&f->log);
	assert_int_equal(unpu_gguf_create(f->file.data, f->file.size, &f->log.log, &gguf), 0);
	err = unpu_tokenizer_create(gguf, &f->log.log, &f->tok);
	unpu_gguf_destroy(gguf);
	return err;
}

static struct fixture *open_without(const char *without)
{
	struct fixture *f = make(without);

	if (create(f))
		fail_msg("%s", f->log.last);
	return f;
}

static void finish(struct fixture *f)
{
	unpu_tokenizer_destroy(f->tok);
	vocab_file_finish(&f->file);
	free(f);
}

static void check_ids(const struct unpu_tokenizer *tok, const char *text, size_t length,
		      uint32_t flags, size_t count, const uint32_t *want)
{
	uint32_t ids[64];
	size_t i;

	assert_int_equal(unpu_tokenizer_encode(tok, text, length, flags, ids, 64), count);
	for (i = 0; i < count; i++)
		assert_int_equal(ids[i], want[i]);
}

#define CHECK(tok, text, flags, ...) do { \
	const uint32_t want[] = { __VA_ARGS__ }; \
	check_ids(tok, text, sizeof(text) - 1, flags, sizeof(want) / sizeof(want[0]), want); \
} while (0)

#define BYTE(b)	(T_BYTE + (b))

/* ---- encoding --------------------------------------------------------------------------- */

static void spaces(void **state)
{
	struct fixture *f = open_without("");

	(void)state;
	assert_true(unpu_tokenizer_space_prefix(f->tok));
	assert_int_equal(unpu_tokenizer_encode(f->tok, "", 0, 0, NULL, 0), 0);
	CHECK(f->tok, "", ADD, T_BOS);
	CHECK(f->tok, "hello", 0, T_SPACE_HELLO);
	CHECK(f->tok, "hello hello", ADD, T_BOS, T_SPACE_HELLO, T_SPACE_HELLO);
	/* "ll" scores better than "he", so that "hell" falls apart where "hello" does not. */
	CHECK(f->tok, "hell", 0, T_SPACE, T_HE, T_LL);
	CHECK(f->tok, " hello", 0, T_SPACE, T_SPACE_HELLO);
	CHECK(f->tok, "   ", 0, T_SPACES, T_SPACES);
	finish(f);
	f = make("");
	vocab_add_bool(&f->file, "tokenizer.ggml.add_space_prefix", false);
	vocab_add_bool(&f->file, "tokenizer.ggml.add_bos_token", false);
	vocab_add_bool(&f->file, "tokenizer.ggml.add_eos_token", true);
	assert_int_equal(create(f), 0);
	assert_false(unpu_tokenizer_space_prefix(f->tok));
	CHECK(f->tok, "hello hello", ADD, T_HELLO, T_SPACE_HELLO, T_EOS);
	finish(f);
}

static void bytes(void **state)
{
	struct fixture *f = open_without("");

	(void)state;
	CHECK(f->tok, "\xc3\xa9z", 0, T_SPACE, T_E_ACUTE, BYTE('z'));
	CHECK(f->tok, "\xe2\x82\xac", 0, T_SPACE, BYTE(0xe2), BYTE(0x82), BYTE(0xac));
	CHECK(f->tok, "o\xff\xc3\x00l", 0, T_SPACE, T_O, BYTE(0xff), BYTE(0xc3), BYTE(0), T_L);
	/* Byte tokens are not made of their names. */
	assert_int_equal(unpu_tokenizer_encode(f->tok, "<0x41>", 6, PARSE, NULL, 0), 7);
	finish(f);
	/* A character with a byte that the vocabulary lacks is unknown as a whole. */
	f = calloc(1, sizeof(*f));
	make_vocab(f);
	f->types[BYTE(0x82)] = UNPU_TOKEN_NORMAL;
	add_keys(f, "");
	assert_int_equal(create(f), 0);
	CHECK(f->tok, "\xe2\x82\xac\xe2", 0, T_SPACE, T_UNK, BYTE(0xe2));
	finish(f);
}

static void special_tokens(void **state)
{
	struct fixture *f = open_without("");
	uint32_t eog[4];

	(void)state;
	/* A space goes before the text after each special token. */
	CHECK(f->tok, "hello</s>hello", PARSE, T_SPACE_HELLO, T_EOS, T_SPACE_HELLO);
	CHECK(f->tok, "<s>", PARSE, T_BOS);
	CHECK(f->tok, "<unk>", PARSE, T_UNK);
	CHECK(f->tok, "<s>", 0, T_SPACE, T_TAG, BYTE('>'));
	CHECK(f->tok, "<tool>hello", 0, T_TOOL, T_SPACE_HELLO);
	assert_int_equal(unpu_tokenizer_eog(f->tok, eog, 4), 1);
	assert_int_equal(eog[0], T_EOS);
	finish(f);
}

static void pieces(void **state)
{
	struct fixture *f = open_without("");
	uint32_t ids[] = { T_BOS, T_SPACE_HELLO, T_SPACES, BYTE(0xe9), T_TOOL, T_UNK, T_EOS };
	char text[64];
	uint32_t i;

	(void)state;
	for (i = 0; i < 256; i++) {
		assert_int_equal(unpu_tokenizer_piece(f->tok, BYTE(i), text, 64), 1);
		assert_int_equal((uint8_t)text[0], i);
	}
	assert_int_equal(unpu_tokenizer_piece(f->tok, T_SPACE_HELLO, text, 64), 6);
	assert_memory_equal(text, " hello", 6);
	assert_int_equal(unpu_tokenizer_piece(f->tok, T_SPACES, text, 1), 2);
	assert_int_equal(unpu_tokenizer_piece(f->tok, T_BOS, text, 64), 0);
	assert_int_equal(unpu_tokenizer_piece(f->tok, NUM_TOKENS, text, 64), -EINVAL);
	/* The first space is the tokenizer's, not the text's. */
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, NULL, 0), 14);
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, text, 64), 14);
	assert_memory_equal(text, "hello  \xe9<tool>", 14);
	memset(text, '#', sizeof(text));
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, text, 3), 14);
	assert_memory_equal(text, "hel#", 4);
	finish(f);
}

static void round_trips(void **state)
{
	static const char parts[] = "hello  <s>\xc3\xa9\xe2\x96\x81\xff";
	struct fixture *f = open_without("");
	uint32_t ids[256], flags, i, n;
	uint64_t seed = 9;
	char text[64], back[256];
	int64_t num;

	(void)state;
	for (i = 0; i < 5000; i++) {
		for (n = 0; n < sizeof(text); n++)
			text[n] = parts[vocab_random(&seed, sizeof(parts) - 1)];
		n = vocab_random(&seed, sizeof(text));
		flags = i & 1 ? ADD : 0;
		if (memmem(text, n, S, 3))
			continue;	/* comes back as a space */
		num = unpu_tokenizer_encode(f->tok, text, n, flags, ids, 256);
		assert_true(num >= 0 && num <= 256);
		assert_int_equal(unpu_tokenizer_decode(f->tok, ids, (size_t)num, back, 256), n);
		assert_memory_equal(back, text, n);
	}
	finish(f);
}

/* ---- merges against the definition --------------------------------------------------------- */

#define MAX_RANDOM	150
#define MAX_TEXT	120

struct random_vocab {
	char texts[MAX_RANDOM][32];
	const char *tokens[MAX_RANDOM];
	float scores[MAX_RANDOM];
	uint32_t num;
};

static int find(const struct random_vocab *v, const char *text, size_t length)
{
	uint32_t i;

	for (i = 0; i < v->num; i++)
		if (strlen(v->tokens[i]) == length && memcmp(v->tokens[i], text, length) == 0)
			return (int)i;
	return -1;
}

/* Strings of three letters, with scores that often are equal. */
static void random_tokens(struct random_vocab *v, uint64_t *seed, uint32_t num)
{
	uint32_t i, n, length;

	v->num = 0;
	for (i = 0; i < num; i++) {
		length = i < 3 ? 1 : 2 + vocab_random(seed, 5);
		for (n = 0; n < length; n++)
			v->texts[v->num][n] = (char)('a' + (i < 3 ? i : vocab_random(seed, 3)));
		v->texts[v->num][n] = 0;
		if (find(v, v->texts[v->num], length) >= 0)
			continue;
		v->tokens[v->num] = v->texts[v->num];
		v->scores[v->num] = (float)vocab_random(seed, 20) - 10;
		if (vocab_random(seed, 30) == 0)
			v->scores[v->num] = vocab_random(seed, 2) ? -INFINITY : -0.0f;
		v->num++;
	}
}

/* Again and again, the leftmost pair that makes the best-scored token becomes one. */
static uint32_t plain_spm(const struct random_vocab *v, const char *text, uint32_t *lengths,
			  uint32_t num)
{
	uint32_t i, at, best_at;
	int id, best;

	for (;;) {
		best = -1;
		best_at = at = 0;
		for (i = 0; i + 1 < num; at += lengths[i++]) {
			id = find(v, text + at, lengths[i] + lengths[i + 1]);
			if (id >= 0 && (best < 0 || v->scores[id] > v->scores[best])) {
				best = id;
				best_at = i;
			}
		}
		if (best < 0)
			return num;
		lengths[best_at] += lengths[best_at + 1];
		memmove(&lengths[best_at + 1], &lengths[best_at + 2],
			(num - best_at - 2) * sizeof(*lengths));
		num--;
	}
}

static void compare_merges(const struct random_vocab *v, const struct unpu_tokenizer *tok,
			   uint64_t *seed)
{
	uint32_t round, i, n, num, at, ids[MAX_TEXT], lengths[MAX_TEXT];
	char text[MAX_TEXT];

	for (round = 0; round < 100; round++) {
		n = 1 + vocab_random(seed, MAX_TEXT - 1);
		for (i = 0; i < n; i++) {
			text[i] = (char)('a' + vocab_random(seed, 3));
			lengths[i] = 1;
		}
		num = plain_spm(v, text, lengths, n);
		assert_int_equal(unpu_tokenizer_encode(tok, text, n, 0, ids, MAX_TEXT), num);
		for (i = 0, at = 0; i < num; at += lengths[i++])
			assert_int_equal(ids[i], find(v, text + at, lengths[i]));
	}
}

static void random_merges(void **state)
{
	struct random_vocab *v = calloc(1, sizeof(*v));
	struct fixture *f;
	uint64_t seed = 21;
	uint32_t round;

	(void)state;
	for (round = 0; round < 12; round++) {
		int32_t types[MAX_RANDOM];
		uint32_t i;

		random_tokens(v, &seed, 10 + 12 * round);
		for (i = 0; i < v->num; i++)
			types[i] = UNPU_TOKEN_NORMAL;
		f = calloc(1, sizeof(*f));
		vocab_file_init(&f->file);
		vocab_add_str(&f->file, "tokenizer.ggml.model", "llama");
		vocab_add_bool(&f->file, "tokenizer.ggml.add_space_prefix", false);
		vocab_add_strings(&f->file, "tokenizer.ggml.tokens", v->num, v->tokens);
		vocab_add_f32s(&f->file, "tokenizer.ggml.scores", v->num, v->scores);
		vocab_add_i32s(&f->file, "tokenizer.ggml.token_type", v->num, types);
		assert_int_equal(create(f), 0);
		compare_merges(v, f->tok, &seed);
		finish(f);
	}
	free(v);
}

/* ---- files ------------------------------------------------------------------------------ */

static void check_refused(struct fixture *f, const char *a)
{
	assert_int_equal(create(f), -EINVAL);
	assert_null(f->tok);
	assert_int_equal(f->log.errors, 1);
	if (!strstr(f->log.last, a))
		fail_msg("'%s' does not name %s", f->log.last, a);
	finish(f);
}

static void files(void **state)
{
	struct fixture *f;

	(void)state;
	check_refused(make("tokens"), "tokenizer.ggml.tokens");
	check_refused(make("scores"), "tokenizer.ggml.scores");
	f = make("scores");
	vocab_add_f32s(&f->file, "tokenizer.ggml.scores", NUM_TOKENS - 1, f->scores);
	check_refused(f, "tokenizer.ggml.scores");
	f = make("scores");
	vocab_add_i32s(&f->file, "tokenizer.ggml.scores", NUM_TOKENS, f->types);
	check_refused(f, "tokenizer.ggml.scores");
	f = make("");
	vocab_add_u32(&f->file, "tokenizer.ggml.bos_token_id", NUM_TOKENS);
	check_refused(f, "tokenizer.ggml.bos_token_id");
	/* Without types, names and ids say what tokens are. */
	f = open_without("token_type");
	CHECK(f->tok, "hello\xff", ADD, T_BOS, T_SPACE_HELLO, BYTE(0xff));
	CHECK(f->tok, "<s>", PARSE, T_BOS);
	finish(f);
	/* Scores that are not numbers are the worst, and do no harm. */
	f = calloc(1, sizeof(*f));
	make_vocab(f);
	f->scores[T_LL] = NAN;
	add_keys(f, "");
	assert_int_equal(create(f), 0);
	CHECK(f->tok, "ll", 0, T_SPACE, T_LL);
	finish(f);
}

/* What is quadratic takes 3e10 steps, and the alarm ends it; seconds are not asserted. */
static void long_texts(void **state)
{
	struct fixture *f = open_without("");
	const size_t size = 1 << 18;
	char *text = malloc(size), *back = malloc(size);
	uint32_t *ids = malloc((size + 1) * sizeof(*ids));
	uint64_t seed = 5;
	int64_t num;
	size_t i;
	int round;

	(void)state;
	assert_true(text && back && ids);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < size; i++)
			text[i] = round == 0 ? 'l' : round == 1 ? ' ' : round == 2 ?
				  "hello"[i % 5] : (char)vocab_random(&seed, 256);
		alarm(20);
		num = unpu_tokenizer_encode(f->tok, text, size, 0, ids, size + 1);
		assert_true(num > 0 && num <= (int64_t)size + 1);
		assert_int_equal(unpu_tokenizer_decode(f->tok, ids, (size_t)num, back, size), size);
		assert_memory_equal(back, text, size);
	}
	alarm(0);
	free(text);
	free(back);
	free(ids);
	finish(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spaces),
		cmocka_unit_test(bytes),
		cmocka_unit_test(special_tokens),
		cmocka_unit_test(pieces),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(random_merges),
		cmocka_unit_test(files),
		cmocka_unit_test(long_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
