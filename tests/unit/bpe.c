/* SPDX-License-Identifier: MIT */
/* Byte-level BPE: merges against the plain definition, special tokens, decoding, bad files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/bpe.h"
#include "runtime/text/tokenizer.h"
#include "tests/lib/vocab.h"

/* ---- a small vocabulary ------------------------------------------------------------------- */

/* Tokens 0 to 255 are the bytes. G stands for the space's character, U+0120. */
#define G	"\xc4\xa0"
static const char *const merges[] = {
	"h e", "l l", "he ll", "hell o", G " w", "o r", G "w or", "l d", G "wor ld",
	"\xc3\x83 \xc2\xa9",
};
enum {
	T_HELLO = 256 + 3, T_WORLD = 256 + 8, T_E_ACUTE = 256 + 9, T_END = 256 + 10, T_IM_END,
	T_TOOL, T_TOOLS, T_UNKNOWN, T_WHOLE, T_ACCENT, NUM_TOKENS,
};

struct vocab {
	struct vocab_char bytes[256];
	char merged[16][32];
	const char *tokens[NUM_TOKENS];
	int32_t types[NUM_TOKENS];
};

static void make_vocab(struct vocab *v)
{
	static const char *const last[] = {
		"<|endoftext|>", "<|im_end|>", "<tool>", "<tool>>", "<unk>", "whole", "\xc3\xa9",
	};
	uint32_t i;

	for (i = 0; i < 256; i++) {
		v->bytes[i] = vocab_byte_char(i);
		v->tokens[i] = v->bytes[i].text;
	}
	for (i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
		const char *space = strchr(merges[i], ' ');

		snprintf(v->merged[i], sizeof(v->merged[i]), "%.*s%s", (int)(space - merges[i]),
			 merges[i], space + 1);
		v->tokens[256 + i] = v->merged[i];
	}
	for (i = T_END; i < NUM_TOKENS; i++)
		v->tokens[i] = last[i - T_END];
	for (i = 0; i < NUM_TOKENS; i++)
		v->types[i] = UNPU_TOKEN_NORMAL;
	v->types[T_END] = v->types[T_IM_END] = UNPU_TOKEN_CONTROL;
	v->types[T_TOOL] = v->types[T_TOOLS] = v->types[T_ACCENT] = UNPU_TOKEN_USER_DEFINED;
	v->types[T_UNKNOWN] = UNPU_TOKEN_UNKNOWN;
}

/* The keys that are there unless a test leaves them out by name. */
static void add_keys(struct vocab_file *file, const struct vocab *v, const char *without)
{
	vocab_file_init(file);
	if (strcmp(without, "model"))
		vocab_add_str(file, "tokenizer.ggml.model", "gpt2");
	if (strcmp(without, "pre"))
		vocab_add_str(file, "tokenizer.ggml.pre", "gpt-2");
	if (strcmp(without, "tokens"))
		vocab_add_strings(file, "tokenizer.ggml.tokens", NUM_TOKENS, v->tokens);
	if (strcmp(without, "token_type"))
		vocab_add_i32s(file, "tokenizer.ggml.token_type", NUM_TOKENS, v->types);
	if (strcmp(without, "merges"))
		vocab_add_strings(file, "tokenizer.ggml.merges",
				  sizeof(merges) / sizeof(merges[0]), merges);
	if (strcmp(without, "eos_token_id"))
		vocab_add_u32(file, "tokenizer.ggml.eos_token_id", T_END);
}

static int create(const struct vocab_file *file, struct vocab_log *log,
		  struct unpu_tokenizer **tok)
{
	struct unpu_gguf *gguf;
	int err;

	vocab_log_init(log);
	*tok = NULL;
	err = unpu_gguf_create(file->data, file->size, &log->log, &gguf);
	assert_int_equal(err, 0);
	err = unpu_tokenizer_create(gguf, &log->log, tok);
	unpu_gguf_destroy(gguf);
	return err;
}

struct fixture {
	struct vocab vocab;
	struct vocab_file file;
	struct vocab_log log;
	struct unpu_tokenizer *tok;
};

static struct fixture *make(const char *without)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	make_vocab(&f->vocab);
	add_keys(&f->file, &f->vocab, without);
	return f;
}

static void finish(struct fixture *f)
{
	unpu_tokenizer_destroy(f->tok);
	vocab_file_finish(&f->file);
	free(f);
}

static struct fixture *open_plain(void)
{
	struct fixture *f = make("");

	if (create(&f->file, &f->log, &f->tok))
		fail_msg("%s", f->log.last);
	return f;
}

static void check_ids(const struct unpu_tokenizer *tok, const char *text, size_t length,
		      uint32_t flags, size_t count, const uint32_t *want)
{
	uint32_t ids[64];
	size_t i;

	assert_int_equal(unpu_tokenizer_encode(tok, text, length, flags, NULL, 0), count);
	assert_int_equal(unpu_tokenizer_encode(tok, text, length, flags, ids, 64), count);
	for (i = 0; i < count; i++)
		assert_int_equal(ids[i], want[i]);
}

#define CHECK(tok, text, flags, ...) do { \
	const uint32_t want[] = { __VA_ARGS__ }; \
	check_ids(tok, text, sizeof(text) - 1, flags, sizeof(want) / sizeof(want[0]), want); \
} while (0)

#define PARSE	UNPU_TOKENIZE_PARSE_SPECIAL
#define ADD	UNPU_TOKENIZE_ADD_SPECIAL

/* ---- encoding and decoding ------------------------------------------------------------------ */

static void words(void **state)
{
	struct fixture *f = open_plain();
	uint32_t ids[2] = { 7, 7 };

	(void)state;
	assert_int_equal(unpu_tokenizer_vocab(f->tok), NUM_TOKENS);
	assert_false(unpu_tokenizer_space_prefix(f->tok));
	assert_int_equal(unpu_tokenizer_encode(f->tok, "", 0, PARSE | ADD, NULL, 0), 0);
	CHECK(f->tok, "hello world", 0, T_HELLO, T_WORLD);
	CHECK(f->tok, "hellx", 0, 256 + 2, 'x');
	CHECK(f->tok, "\xe9\xff\x00", 0, 0xe9, 0xff, 0);
	CHECK(f->tok, "hello\xff", 0, T_HELLO, 0xff);
	/* Those that do not fit are counted and not written. */
	assert_int_equal(unpu_tokenizer_encode(f->tok, "hello world", 11, 0, ids, 1), 2);
	assert_int_equal(ids[0], T_HELLO);
	assert_int_equal(ids[1], 7);
	finish(f);
}

static void special_tokens(void **state)
{
	struct fixture *f = open_plain();
	uint32_t eog[4] = { 0 };

	(void)state;
	CHECK(f->tok, "hello<|im_end|>hello", PARSE, T_HELLO, T_IM_END, T_HELLO);
	CHECK(f->tok, "<|im_end", PARSE, '<', '|', 'i', 'm', '_', 'e', 'n', 'd');
	CHECK(f->tok, "<unk>", PARSE, T_UNKNOWN);
	assert_int_equal(unpu_tokenizer_encode(f->tok, "<|im_end|>", 10, 0, NULL, 0), 10);
	/* User-defined tokens are looked for always, the longest first, and hold raw text. */
	CHECK(f->tok, "<tool>hello<tool>>", 0, T_TOOL, T_HELLO, T_TOOLS);
	CHECK(f->tok, "<tool", 0, '<', 't', 'o', 'o', 'l');
	CHECK(f->tok, "\xc3\xa9", 0, T_ACCENT);
	/* No BOS unless the file says so. */
	CHECK(f->tok, "hello", ADD, T_HELLO);
	assert_int_equal(unpu_tokenizer_eog(f->tok, eog, 4), 2);
	assert_int_equal(eog[0], T_END);
	assert_int_equal(eog[1], T_IM_END);
	assert_true(unpu_tokenizer_is_eog(f->tok, T_IM_END));
	assert_false(unpu_tokenizer_is_eog(f->tok, T_TOOL));
	finish(f);
}

static void bos_and_eos(void **state)
{
	struct fixture *f = make("");

	(void)state;
	vocab_add_u32(&f->file, "tokenizer.ggml.bos_token_id", T_IM_END);
	vocab_add_bool(&f->file, "tokenizer.ggml.add_bos_token", true);
	vocab_add_bool(&f->file, "tokenizer.ggml.add_eos_token", true);
	vocab_add_u32(&f->file, "tokenizer.ggml.eot_token_id", T_TOOL);
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hello", ADD, T_IM_END, T_HELLO, T_END);
	CHECK(f->tok, "hello", 0, T_HELLO);
	CHECK(f->tok, "", ADD, T_IM_END, T_END);
	assert_int_equal(unpu_tokenizer_encode(f->tok, NULL, 0, ADD, NULL, 0), 2);
	assert_int_equal(unpu_tokenizer_encode_spans(f->tok, NULL, 0, NULL, 0, true, NULL, 0), 0);
	assert_true(unpu_tokenizer_is_eog(f->tok, T_TOOL));
	finish(f);
}

static void pieces(void **state)
{
	struct fixture *f = open_plain();
	uint32_t ids[] = { T_HELLO, T_END, T_WORLD, 0xff, T_TOOL, T_ACCENT, T_UNKNOWN };
	char text[64];
	uint32_t i;

	(void)state;
	for (i = 0; i < 256; i++) {
		assert_int_equal(unpu_tokenizer_piece(f->tok, i, text, sizeof(text)), 1);
		assert_int_equal((uint8_t)text[0], i);
	}
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, NULL, 0), 20);
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, text, sizeof(text)), 20);
	assert_memory_equal(text, "hello world\xff<tool>\xc3\xa9", 20);
	memset(text, '#', sizeof(text));
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, text, 7), 20);
	assert_memory_equal(text, "hello w#", 8);
	assert_int_equal(unpu_tokenizer_piece(f->tok, T_WORLD, text, 2), 6);
	assert_int_equal(unpu_tokenizer_piece(f->tok, T_E_ACUTE, text, 2), 2);
	assert_memory_equal(text, "\xc3\xa9", 2);
	assert_int_equal(unpu_tokenizer_piece(f->tok, NUM_TOKENS, text, 2), -EINVAL);
	assert_non_null(strstr(f->log.last, "outside the vocabulary"));
	ids[3] = UINT32_MAX;
	assert_int_equal(unpu_tokenizer_decode(f->tok, ids, 7, text, 64), -EINVAL);
	finish(f);
}

/* llama-bpe takes a piece that is a token as it is, whatever the merges say. */
static void ignore_merges(void **state)
{
	struct fixture *f = make("pre");

	(void)state;
	vocab_add_str(&f->file, "tokenizer.ggml.pre", "llama-bpe");
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "whole", 0, T_WHOLE);
	CHECK(f->tok, "hello", 0, T_HELLO);
	finish(f);
	f = open_plain();
	CHECK(f->tok, "whole", 0, 'w', 'h', 'o', 'l', 'e');
	finish(f);
}

/* Published vocabularies lack bytes that no text had: they become U+FFFD, or nothing. */
static void lacking_bytes(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)state;
	make_vocab(&f->vocab);
	f->vocab.tokens[0xfe] = "gone";
	f->vocab.tokens['z'] = "gone too";
	add_keys(&f->file, &f->vocab, "");
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hello\xfe", 0, T_HELLO, 0xef, 0xbf, 0xbd);
	CHECK(f->tok, "az", 0, 'a', 0xef, 0xbf, 0xbd);
	finish(f);
	f = calloc(1, sizeof(*f));
	make_vocab(&f->vocab);
	f->vocab.tokens[0xfe] = "gone";
	f->vocab.tokens[0xbf] = "gone too";
	add_keys(&f->file, &f->vocab, "");
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hello\xfe", 0, T_HELLO);
	finish(f);
}

/* ---- merges against the definition --------------------------------------------------------- */

#define MAX_RULES	200
#define MAX_TEXT	200

struct random_vocab {
	char texts[256 + MAX_RULES][64];
	const char *tokens[256 + MAX_RULES];
	char rules[MAX_RULES][96];
	const char *rule_texts[MAX_RULES];
	uint32_t left[MAX_RULES], right[MAX_RULES];
	uint32_t num_rules;
};

static bool known(const struct random_vocab *v, const char *text)
{
	uint32_t i;

	for (i = 0; i < 256 + v->num_rules; i++)
		if (strcmp(v->tokens[i], text) == 0)
			return true;
	return false;
}

/* Rules join two tokens of a three-letter alphabet, or of what came of it. */
static void random_rules(struct random_vocab *v, uint64_t *seed, uint32_t num)
{
	char a[sizeof(v->texts[0])], b[sizeof(v->texts[0])];
	uint32_t i, left, right;

	for (i = 0; i < 256; i++) {
		snprintf(v->texts[i], sizeof(v->texts[i]), "%s", vocab_byte_char(i).text);
		v->tokens[i] = v->texts[i];
	}
	v->num_rules = 0;
	for (i = 0; i < 20 * num && v->num_rules < num; i++) {
		uint32_t n = v->num_rules;

		left = vocab_random(seed, n + 3);
		right = vocab_random(seed, n + 3);
		left = left < n ? 256 + left : 'a' + left - n;
		right = right < n ? 256 + right : 'a' + right - n;
		if (strlen(v->texts[left]) + strlen(v->texts[right]) > 16)
			continue;
		memcpy(a, v->texts[left], sizeof(a));
		memcpy(b, v->texts[right], sizeof(b));
		snprintf(v->texts[256 + n], sizeof(v->texts[0]), "%.20s%.20s", a, b);
		if (known(v, v->texts[256 + n]))
			continue;
		v->tokens[256 + n] = v->texts[256 + n];
		snprintf(v->rules[n], sizeof(v->rules[n]), "%.20s %.20s", a, b);
		v->rule_texts[n] = v->rules[n];
		v->left[n] = left;
		v->right[n] = right;
		v->num_rules++;
	}
}

/* Again and again, the leftmost pair of the lowest rank becomes one. */
static uint32_t plain_bpe(const struct random_vocab *v, uint32_t *ids, uint32_t num)
{
	uint32_t i, rank, best, at = 0;

	for (;;) {
		best = UINT32_MAX;
		for (i = 0; i + 1 < num; i++)
			for (rank = 0; rank < v->num_rules && rank < best; rank++)
				if (v->left[rank] == ids[i] && v->right[rank] == ids[i + 1]) {
					best = rank;
					at = i;
				}
		if (best == UINT32_MAX)
			return num;
		ids[at] = 256 + best;
		memmove(&ids[at + 1], &ids[at + 2], (num - at - 2) * sizeof(*ids));
		num--;
	}
}

static void compare_merges(const struct random_vocab *v, const struct unpu_bpe *bpe,
			   uint64_t *seed)
{
	struct unpu_merge_work work = { 0 };
	uint32_t round, i, n, ids[MAX_TEXT], want[MAX_TEXT];
	char text[MAX_TEXT];

	for (round = 0; round < 60; round++) {
		struct unpu_ids out = { .ids = ids, .max = MAX_TEXT };

		n = 1 + vocab_random(seed, MAX_TEXT - 1);
		for (i = 0; i < n; i++) {
			text[i] = (char)('a' + vocab_random(seed, 3));
			want[i] = (uint8_t)text[i];
		}
		assert_int_equal(unpu_bpe_encode(bpe, &work, text, n, &out), 0);
		assert_int_equal(out.num, plain_bpe(v, want, n));
		for (i = 0; i < out.num; i++)
			assert_int_equal(ids[i], want[i]);
	}
	unpu_merge_work_finish(&work);
}

static void random_merges(void **state)
{
	struct random_vocab *v = calloc(1, sizeof(*v));
	struct vocab_file file;
	struct vocab_log log;
	struct unpu_vocab vocab;
	struct unpu_bpe bpe;
	struct unpu_gguf *gguf;
	uint64_t seed = 11;
	uint32_t round;

	(void)state;
	vocab_log_init(&log);
	for (round = 0; round < 12; round++) {
		random_rules(v, &seed, 5 + 16 * round);
		vocab_file_init(&file);
		vocab_add_strings(&file, "tokenizer.ggml.tokens", 256 + v->num_rules, v->tokens);
		vocab_add_strings(&file, "tokenizer.ggml.merges", v->num_rules, v->rule_texts);
		assert_int_equal(unpu_gguf_create(file.data, file.size, &log.log, &gguf), 0);
		assert_int_equal(unpu_vocab_init(&vocab, gguf, &log.log), 0);
		assert_int_equal(unpu_bpe_init(&bpe, &vocab, gguf, false, &log.log), 0);
		compare_merges(v, &bpe, &seed);
		unpu_bpe_finish(&bpe);
		unpu_vocab_finish(&vocab);
		unpu_gguf_destroy(gguf);
		vocab_file_finish(&file);
	}
	free(v);
}

/* ---- files ------------------------------------------------------------------------------ */

static void check_refused(struct fixture *f, const char *a, const char *b)
{
	assert_int_equal(create(&f->file, &f->log, &f->tok), -EINVAL);
	assert_null(f->tok);
	assert_int_equal(f->log.errors, 1);
	if (!strstr(f->log.last, a) || !strstr(f->log.last, b))
		fail_msg("'%s' does not name %s and %s", f->log.last, a, b);
	finish(f);
}

static void bad_files(void **state)
{
	static const char *const models[] = { "bert", "t5", "rwkv", "" };
	struct fixture *f;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		f = make("model");
		vocab_add_str(&f->file, "tokenizer.ggml.model", models[i]);
		check_refused(f, models[i], "gpt2, llama");
	}
	check_refused(make("model"), "tokenizer.ggml.model", "missing");
	check_refused(make("tokens"), "tokenizer.ggml.tokens", "missing");
	check_refused(make("merges"), "tokenizer.ggml.merges", "missing");
	f = make("pre");
	vocab_add_str(&f->file, "tokenizer.ggml.pre", "superb");
	check_refused(f, "superb", "deepseek-coder");
	f = make("eos_token_id");
	vocab_add_u32(&f->file, "tokenizer.ggml.eos_token_id", NUM_TOKENS);
	check_refused(f, "tokenizer.ggml.eos_token_id", "");
	f = make("token_type");
	vocab_add_i32s(&f->file, "tokenizer.ggml.token_type", NUM_TOKENS - 1, f->vocab.types);
	check_refused(f, "tokenizer.ggml.token_type", "");
	f = make("tokens");
	vocab_add_strings(&f->file, "tokenizer.ggml.tokens", 0, f->vocab.tokens);
	check_refused(f, "tokenizer.ggml.tokens", "");
	f = make("tokens");
	vocab_add_u32(&f->file, "tokenizer.ggml.tokens", 5);
	check_refused(f, "tokenizer.ggml.tokens", "");
	f = make("merges");
	vocab_add_i32s(&f->file, "tokenizer.ggml.merges", NUM_TOKENS, f->vocab.types);
	check_refused(f, "tokenizer.ggml.merges", "");
}

/* What can be left out, and merges that can never apply. */
static void tolerated(void **state)
{
	static const char *const odd[] = {
		"h e", "", " ", "  ", "h", "h ", " e", "nope e", "h nope", "h l", "h e", "l l",
		"he ll", "hell o",
	};
	struct fixture *f = make("pre");

	(void)state;
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hello world", 0, T_HELLO, T_WORLD);
	finish(f);
	f = make("token_type");
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "<|endoftext|>hello", PARSE, T_END, T_HELLO);
	finish(f);
	f = make("merges");
	vocab_add_strings(&f->file, "tokenizer.ggml.merges", sizeof(odd) / sizeof(odd[0]), odd);
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hello", 0, T_HELLO);
	finish(f);
	f = make("merges");
	vocab_add_strings(&f->file, "tokenizer.ggml.merges", 0, merges);
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "he", 0, 'h', 'e');
	finish(f);
	/* Of two tokens with one text, text becomes the last; both give it. */
	f = calloc(1, sizeof(*f));
	make_vocab(&f->vocab);
	f->vocab.tokens[T_WHOLE] = "h";
	add_keys(&f->file, &f->vocab, "");
	assert_int_equal(create(&f->file, &f->log, &f->tok), 0);
	CHECK(f->tok, "hey", 0, 256, 'y');
	CHECK(f->tok, "ah", 0, 'a', T_WHOLE);
	finish(f);
	unpu_tokenizer_destroy(NULL);
}

/* ---- length ----------------------------------------------------------------------------- */

/* What is quadratic takes 3e10 steps, and the alarm ends it; seconds are not asserted. */
static void long_pieces(void **state)
{
	struct fixture *f = open_plain();
	const size_t size = 1 << 18;
	char *text = malloc(size), *back = malloc(size);
	uint32_t *ids = malloc(size * sizeof(*ids));
	uint64_t seed = 5;
	size_t i;
	int round;
	int64_t num;

	(void)state;
	assert_true(text && back && ids);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < size; i++)
			text[i] = round == 0 ? 'l' : round == 1 ? "hello"[i % 5] :
						     (char)vocab_random(&seed, 256);
		alarm(20);
		num = unpu_tokenizer_encode(f->tok, text, size, 0, ids, size);
		assert_true(num > 0);
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
		cmocka_unit_test(words),
		cmocka_unit_test(special_tokens),
		cmocka_unit_test(bos_and_eos),
		cmocka_unit_test(pieces),
		cmocka_unit_test(ignore_merges),
		cmocka_unit_test(lacking_bytes),
		cmocka_unit_test(random_merges),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(tolerated),
		cmocka_unit_test(long_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
