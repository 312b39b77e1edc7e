/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/utf8.h"
#include "runtime/text/vocab.h"
#include "tests/lib/fuzztok.h"
#include "tests/lib/vocab.h"

#define KEY(name)	"tokenizer.ggml." name

#define TEXT_MAX	64	/* bytes of a token */
#define MERGES_MAX	256

/* ---- a file ----------------------------------------------------------------------------- */

struct text {
	char bytes[TEXT_MAX];
	uint32_t length;
};

struct build {
	struct fuzz_input *in;
	struct text tokens[FUZZTOK_MAX];
	uint8_t types[FUZZTOK_MAX];
	float scores[FUZZTOK_MAX];
	uint16_t merges[MERGES_MAX][2];
	uint32_t num_tokens, num_merges, num_keys;
	uint8_t file[1 << 17];
	size_t size;
};

static void put(struct build *b, const void *data, size_t size)
{
	FUZZ_CHECK(sizeof(b->file) - b->size >= size);
	memcpy(b->file + b->size, data, size);
	b->size += size;
}

static void put_u32(struct build *b, uint32_t value)
{
	put(b, &value, sizeof(value));
}

static void put_u64(struct build *b, uint64_t value)
{
	put(b, &value, sizeof(value));
}

static void put_str(struct build *b, const char *text)
{
	put_u64(b, strlen(text));
	put(b, text, strlen(text));
}

static void key(struct build *b, const char *name, uint32_t type)
{
	put_str(b, name);
	put_u32(b, type);
	b->num_keys++;
}

static void key_str(struct build *b, const char *name, const char *value)
{
	key(b, name, UNPU_GGUF_STRING);
	put_str(b, value);
}

static void key_u32(struct build *b, const char *name, uint32_t value)
{
	key(b, name, UNPU_GGUF_U32);
	put_u32(b, value);
}

static void key_bool(struct build *b, const char *name, bool value)
{
	key(b, name, UNPU_GGUF_BOOL);
	put(b, &(uint8_t){ value }, 1);
}

static void key_array(struct build *b, const char *name, uint32_t type, uint64_t count)
{
	key(b, name, UNPU_GGUF_ARRAY);
	put_u32(b, type);
	put_u64(b, count);
}

static struct text *add_token(struct build *b, uint8_t type)
{
	b->types[b->num_tokens] = type;
	return &b->tokens[b->num_tokens++];
}

static void add_base(struct build *b, bool spm)
{
	struct text *t;
	uint32_t i;

	for (i = 0; i < 256; i++) {
		t = add_token(b, spm ? UNPU_TOKEN_BYTE : UNPU_TOKEN_NORMAL);
		snprintf(t->bytes, TEXT_MAX, spm ? "<0x%02X>" : "%.*s", i,
			 vocab_byte_char(i).text);
		if (!spm)
			snprintf(t->bytes, TEXT_MAX, "%s", vocab_byte_char(i).text);
		t->length = (uint32_t)strlen(t->bytes);
	}
	if (!spm)
		return;
	t = add_token(b, UNPU_TOKEN_NORMAL);
	memcpy(t->bytes, "\xe2\x96\x81", t->length = 3);
}

static void add_merge(struct build *b, uint32_t left, uint32_t right)
{
	if (b->num_merges == MERGES_MAX)
		return;
	b->merges[b->num_merges][0] = (uint16_t)left;
	b->merges[b->num_merges++][1] = (uint16_t)right;
}

/* Two tokens there are, one after the other, and the rule that merges them. */
static void add_joined(struct build *b)
{
	uint32_t left = fuzz_u16(b->in), right = fuzz_u16(b->in), n = b->num_tokens;
	struct text *t;

	if (!n)
		return;
	left %= n;
	right %= n;
	if (b->tokens[left].length + b->tokens[right].length > TEXT_MAX)
		return;
	t = add_token(b, UNPU_TOKEN_NORMAL);
	memcpy(t->bytes, b->tokens[left].bytes, b->tokens[left].length);
	memcpy(t->bytes + b->tokens[left].length, b->tokens[right].bytes, b->tokens[right].length);
	t->length = b->tokens[left].length + b->tokens[right].length;
	add_merge(b, left, right);
}

static void add_tokens(struct build *b)
{
	uint32_t n = fuzz_u8(b->in), i, j, head;
	struct text *t;

	for (i = 0; i < n && b->num_tokens < FUZZTOK_MAX && b->in->left; i++) {
		head = fuzz_u8(b->in);
		if (head >> 5 == 7) {
			add_joined(b);
			continue;
		}
		t = add_token(b, (uint8_t)(head >> 5));
		t->length = head & 31;
		for (j = 0; j < t->length; j++)
			t->bytes[j] = (char)fuzz_u8(b->in);
	}
	for (i = 0; i < b->num_tokens; i++)
		b->scores[i] = i < 257 ? -1000.f : -(float)fuzz_u8(b->in);
}

static void add_merges(struct build *b)
{
	uint32_t n = fuzz_u8(b->in), left;

	for (; n && b->num_tokens && b->in->left; n--) {
		left = fuzz_u16(b->in) % b->num_tokens;
		add_merge(b, left, fuzz_u16(b->in) % b->num_tokens);
	}
}

static void put_tokens(struct build *b)
{
	uint32_t i;

	key_array(b, KEY("tokens"), UNPU_GGUF_STRING, b->num_tokens);
	for (i = 0; i < b->num_tokens; i++) {
		put_u64(b, b->tokens[i].length);
		put(b, b->tokens[i].bytes, b->tokens[i].length);
	}
}

static void put_merges(struct build *b)
{
	uint32_t i;

	key_array(b, KEY("merges"), UNPU_GGUF_STRING, b->num_merges);
	for (i = 0; i < b->num_merges; i++) {
		const struct text *left = &b->tokens[b->merges[i][0]];
		const struct text *right = &b->tokens[b->merges[i][1]];

		put_u64(b, (uint64_t)left->length + 1 + right->length);
		put(b, left->bytes, left->length);
		put(b, " ", 1);
		put(b, right->bytes, right->length);
	}
}

/* A token of another type with the name of a byte hides it; U+2581 that is no text hides the one
 * that stands for a space, which then is three bytes. */
static bool hides(const struct build *b, uint32_t i)
{
	const struct text *t = &b->tokens[i];

	if (t->length == 3 && !memcmp(t->bytes, "\xe2\x96\x81", 3))
		return b->types[i] == UNPU_TOKEN_UNKNOWN || b->types[i] == UNPU_TOKEN_CONTROL ||
		       b->types[i] == UNPU_TOKEN_BYTE;
	return i > 256 && t->length == 6 && !memcmp(t->bytes, "<0x", 3) && t->bytes[5] == '>';
}

/* What a file without token types says by its ids. */
static void type_by_id(struct build *b, uint32_t id, uint8_t type)
{
	if (id < b->num_tokens)
		b->types[id] = type;
}

static void put_settings(struct build *b, uint32_t settings, bool spm)
{
	uint32_t n = b->num_tokens ? b->num_tokens : 1, i;
	uint32_t bos = fuzz_u16(b->in) % n, eos = fuzz_u16(b->in) % n;
	uint32_t unknown = fuzz_u16(b->in) % n;

	if (settings & 2)
		key_u32(b, KEY("bos_token_id"), bos);
	else
		bos = spm ? 1 : UINT32_MAX;
	if (settings & 4)
		key_u32(b, KEY("eos_token_id"), eos);
	else
		eos = spm ? 2 : UINT32_MAX;
	if (settings & 8)
		key_u32(b, KEY("unknown_token_id"), unknown);
	else
		unknown = spm ? 0 : UINT32_MAX;
	if (settings & 16)
		key_bool(b, KEY("add_space_prefix"), settings & 32);
	if (settings & 64)
		key_bool(b, KEY("add_eos_token"), true);
	if (settings & 1) {
		key_array(b, KEY("token_type"), UNPU_GGUF_I32, b->num_tokens);
		for (i = 0; i < b->num_tokens; i++)
			put_u32(b, b->types[i]);
		return;
	}
	for (i = 0; i < b->num_tokens; i++)
		b->types[i] = spm && i < 256 ? b->types[i] : UNPU_TOKEN_NORMAL;
	if (unknown != bos && unknown != eos)
		type_by_id(b, unknown, UNPU_TOKEN_UNKNOWN);
	type_by_id(b, bos, UNPU_TOKEN_CONTROL);
	type_by_id(b, eos, UNPU_TOKEN_CONTROL);
}

static void make_file(struct build *b, struct fuzztok *t, bool spm)
{
	static const char *const pres[] = {
		"gpt-2", "smollm", "llama-bpe", "qwen2", "falcon", "deepseek-llm",
		"deepseek-coder", "nonsense",
	};
	uint32_t settings = fuzz_u8(b->in), other = fuzz_u8(b->in), i;

	put(b, "GGUF\3\0\0\0", 8);
	put_u64(b, 0);
	put_u64(b, 0);
	t->flags = other & 3;
	t->bytes = settings & 128;
	if (t->bytes)
		add_base(b, spm);
	add_tokens(b);
	key_str(b, KEY("model"), spm ? "llama" : "gpt2");
	if (spm) {
		key_array(b, KEY("scores"), UNPU_GGUF_F32, b->num_tokens);
		put(b, b->scores, b->num_tokens * sizeof(b->scores[0]));
	} else {
		if (other & 4)
			key_str(b, KEY("pre"), pres[other >> 3 & 7]);
		add_merges(b);
		put_merges(b);
	}
	put_tokens(b);
	put_settings(b, settings, spm);
	for (i = 0; spm && i < b->num_tokens; i++)
		t->bytes = t->bytes && !hides(b, i);
	memcpy(b->file + 16, &(uint64_t){ b->num_keys }, 8);
}

void fuzztok_init(struct fuzztok *t, struct fuzz_input *in, bool spm)
{
	static struct build b;
	struct unpu_gguf *gguf;
	int err;

	b.in = in;
	b.num_tokens = b.num_merges = b.num_keys = 0;
	b.size = 0;
	memset(t, 0, sizeof(*t));
	fuzz_log_init(&t->log);
	make_file(&b, t, spm);
	t->num_tokens = b.num_tokens;
	memcpy(t->types, b.types, sizeof(t->types));
	t->file = fuzz_copy(b.file, b.size);
	FUZZ_CHECK(!unpu_gguf_create(t->file, b.size, &t->log.log, &gguf));
	err = unpu_tokenizer_create(gguf, &t->log.log, &t->tok);
	unpu_gguf_destroy(gguf);
	FUZZ_CHECK((err != 0) == !t->tok && t->log.errors == (err != 0));
	FUZZ_CHECK(!err || err == -EINVAL);
}

void fuzztok_finish(struct fuzztok *t)
{
	unpu_tokenizer_destroy(t->tok);
	free(t->file);
}

/* ---- what holds ------------------------------------------------------------------------- */

/* Text in two pushes is the text in one, whole characters, and at most three bytes for one. */
static void check_stream(const char *text, size_t length)
{
	struct unpu_utf8_stream one = { 0 }, two = { 0 };
	size_t half = length / 2, n, m, i, step;
	char *a = malloc(3 * (length + 3)), *b = malloc(3 * (length + 6));
	uint32_t code;

	FUZZ_CHECK(a && b);
	n = unpu_utf8_stream_push(&one, text, length, a);
	n += unpu_utf8_stream_flush(&one, a + n);
	m = unpu_utf8_stream_push(&two, text, half, b);
	m += unpu_utf8_stream_push(&two, text + half, length - half, b + m);
	m += unpu_utf8_stream_flush(&two, b + m);
	FUZZ_CHECK(n == m && !memcmp(a, b, n) && n <= 3 * length);
	for (i = 0; i < n; i += step) {
		step = unpu_utf8_decode(a + i, n - i, &code);
		FUZZ_CHECK(step);
	}
	free(a);
	free(b);
}

static char *decode(const struct fuzztok *t, const uint32_t *ids, size_t num, size_t *out)
{
	int64_t length = unpu_tokenizer_decode(t->tok, ids, num, NULL, 0), sum = 0, piece;
	size_t i, part;
	char *text, *cut;

	FUZZ_CHECK(length >= 0);
	text = malloc((size_t)length + !length);
	FUZZ_CHECK(text);
	FUZZ_CHECK(unpu_tokenizer_decode(t->tok, ids, num, text, (size_t)length) == length);
	part = (size_t)length / 3;
	cut = malloc(part + !part);
	FUZZ_CHECK(cut && unpu_tokenizer_decode(t->tok, ids, num, cut, part) == length);
	FUZZ_CHECK(!memcmp(cut, text, part));
	free(cut);
	for (i = 0; i < num; i++) {
		piece = unpu_tokenizer_piece(t->tok, ids[i], NULL, 0);
		FUZZ_CHECK(piece >= 0 && piece <= TEXT_MAX);
		sum += piece;
	}
	FUZZ_CHECK(length == sum || (length == sum - 1 && unpu_tokenizer_space_prefix(t->tok)));
	check_stream(text, (size_t)length);
	*out = (size_t)length;
	return text;
}

/* Every id stands for the very bytes that it was made of. What marks turns and ends is a control
 * token, whatever the file calls it, and gives no text. */
static bool all_text(const struct fuzztok *t, const uint32_t *ids, size_t num)
{
	size_t i;

	for (i = 0; i < num; i++)
		if ((t->types[ids[i]] >= UNPU_TOKEN_UNKNOWN &&
		     t->types[ids[i]] <= UNPU_TOKEN_USER_DEFINED) ||
		    !unpu_tokenizer_piece(t->tok, ids[i], NULL, 0))
			return false;
	return true;
}

static void check_ends(const struct fuzztok *t)
{
	uint32_t ids[40], num = unpu_tokenizer_eog(t->tok, ids, 40), i;

	FUZZ_CHECK(num <= 32);
	for (i = 0; i < num; i++)
		FUZZ_CHECK(ids[i] < t->num_tokens && unpu_tokenizer_is_eog(t->tok, ids[i]));
}

void fuzztok_use(const struct fuzztok *t, const struct fuzz_input *text, bool exact)
{
	char *copy = fuzz_copy(text->at, text->left), *back;
	uint32_t *ids, first[3];
	size_t i, length;
	int64_t num;

	FUZZ_CHECK(unpu_tokenizer_vocab(t->tok) == t->num_tokens);
	check_ends(t);
	num = unpu_tokenizer_encode(t->tok, copy, text->left, t->flags, NULL, 0);
	/* A space may be three tokens, and come before each piece between special ones. */
	FUZZ_CHECK(num >= 0 && num <= 4 * (int64_t)text->left + 5);
	ids = malloc(((size_t)num + !num) * sizeof(*ids));
	FUZZ_CHECK(ids);
	FUZZ_CHECK(unpu_tokenizer_encode(t->tok, copy, text->left, t->flags, ids,
					 (size_t)num) == num);
	FUZZ_CHECK(unpu_tokenizer_encode(t->tok, copy, text->left, t->flags, first, 3) == num);
	FUZZ_CHECK(!memcmp(first, ids, (num < 3 ? (size_t)num : 3) * sizeof(*ids)));
	for (i = 0; i < (size_t)num; i++)
		FUZZ_CHECK(ids[i] < t->num_tokens);
	back = decode(t, ids, (size_t)num, &length);
	if (exact && t->bytes && !(t->flags & UNPU_TOKENIZE_ADD_SPECIAL) &&
	    all_text(t, ids, (size_t)num))
		FUZZ_CHECK(length == text->left && !memcmp(back, copy, length));
	free(back);
	/* Any ids, not only those that text becomes. */
	for (i = 0; i < (size_t)num; i++)
		ids[i] = (ids[i] * 31 + (uint8_t)copy[i % (text->left + !text->left)]) %
			 t->num_tokens;
	free(decode(t, ids, (size_t)num, &length));
	free(ids);
	free(copy);
}
