/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/hash.h"
#include "runtime/text/vocab.h"

#define KEY_TOKENS	"tokenizer.ggml.tokens"
#define KEY_TYPES	"tokenizer.ggml.token_type"

/* The slot that holds text, or the free one where it belongs. */
static uint32_t *find_slot(const struct unpu_vocab *vocab, const char *text, size_t length)
{
	uint64_t hash = unpu_hash_bytes(vocab->key, text, length);
	uint32_t i = unpu_hash_slot(hash, vocab->num_slots);

	while (vocab->slots[i] != UNPU_NO_TOKEN) {
		struct unpu_str have = unpu_vocab_text(vocab, vocab->slots[i]);

		if (have.len == length && memcmp(have.ptr, text, length) == 0)
			break;
		if (++i == vocab->num_slots)
			i = 0;
	}
	return &vocab->slots[i];
}

uint32_t unpu_vocab_find(const struct unpu_vocab *vocab, const char *text, size_t length)
{
	if (length > vocab->max_length)
		return UNPU_NO_TOKEN;
	return *find_slot(vocab, text, length);
}

/* Half as many slots again as tokens, so that a probe ends soon. */
static int make_slots(struct unpu_vocab *vocab)
{
	uint32_t num = vocab->num_tokens + vocab->num_tokens / 2 + 1;

	vocab->slots = malloc((size_t)num * sizeof(*vocab->slots));
	if (!vocab->slots)
		return -ENOMEM;
	memset(vocab->slots, 0xff, (size_t)num * sizeof(*vocab->slots));
	vocab->num_slots = num;
	unpu_hash_key(vocab->key);
	return 0;
}

/*
 * Of several tokens with one text, the last is the one that text becomes, as in other runtimes, but
 * one of ordinary text comes before others: published byte-level vocabularies have the user-defined
 * token U+00F8, say, and the byte 0xf8 is written with the same character.
 */
static void index_token(struct unpu_vocab *vocab, uint32_t id)
{
	struct unpu_str text = unpu_vocab_text(vocab, id);
	uint32_t *slot = find_slot(vocab, text.ptr, text.len);

	if (*slot == UNPU_NO_TOKEN || vocab->tokens[id].type == UNPU_TOKEN_NORMAL ||
	    vocab->tokens[*slot].type != UNPU_TOKEN_NORMAL)
		*slot = id;
}

static int read_tokens(struct unpu_vocab *vocab, struct unpu_gguf_strings *strings,
		       const struct unpu_log *log)
{
	struct unpu_str text;
	uint32_t id = 0;

	while (id < vocab->num_tokens && unpu_gguf_strings_next(strings, &text)) {
		struct unpu_token *token = &vocab->tokens[id];

		if (!vocab->base)
			vocab->base = text.ptr;
		if (text.len >= 1u << 24 || (uint64_t)(text.ptr - vocab->base) > UINT32_MAX)
			return unpu_fail(log, -EINVAL, KEY_TOKENS ": token %u is too long", id);
		token->offset = (uint32_t)(text.ptr - vocab->base);
		token->length = (uint32_t)text.len;
		if (text.len > vocab->max_length)
			vocab->max_length = (uint32_t)text.len;
		index_token(vocab, id++);
	}
	if (id < vocab->num_tokens)
		return unpu_fail(log, -EINVAL, KEY_TOKENS " ends after %u tokens", id);
	return 0;
}

static int read_types(struct unpu_vocab *vocab, const struct unpu_gguf *gguf,
		      const struct unpu_log *log)
{
	const void *types;
	uint64_t count;
	uint32_t i;
	int32_t type;
	int err;

	for (i = 0; i < vocab->num_tokens; i++)
		vocab->tokens[i].type = UNPU_TOKEN_NORMAL;
	err = unpu_gguf_array(gguf, KEY_TYPES, UNPU_GGUF_I32, &types, &count);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (count != vocab->num_tokens)
		return unpu_fail(log, -EINVAL, KEY_TYPES " has %llu entries for %u tokens",
				 (unsigned long long)count, vocab->num_tokens);
	for (i = 0; i < count; i++) {
		memcpy(&type, (const char *)types + (size_t)i * sizeof(type), sizeof(type));
		if (type > UNPU_TOKEN_NORMAL && type <= UNPU_TOKEN_BYTE)
			vocab->tokens[i].type = (uint8_t)type;
	}
	return 0;
}

int unpu_vocab_init(struct unpu_vocab *vocab, const struct unpu_gguf *gguf,
		    const struct unpu_log *log)
{
	struct unpu_gguf_strings strings;
	uint64_t count;
	int err;

	memset(vocab, 0, sizeof(*vocab));
	err = unpu_gguf_strings(gguf, KEY_TOKENS, &strings, &count);
	if (err == -ENOENT)
		return unpu_fail(log, -EINVAL, KEY_TOKENS " is missing");
	if (err)
		return err;
	if (count == 0 || count > UINT32_MAX / 2)
		return unpu_fail(log, -EINVAL, KEY_TOKENS " has %llu tokens",
				 (unsigned long long)count);
	vocab->num_tokens = (uint32_t)count;
	vocab->tokens = calloc(vocab->num_tokens, sizeof(*vocab->tokens));
	if (!vocab->tokens)
		return -ENOMEM;
	err = make_slots(vocab);
	if (!err)
		err = read_types(vocab, gguf, log);
	if (!err)
		err = read_tokens(vocab, &strings, log);
	return err;
}

void unpu_vocab_finish(struct unpu_vocab *vocab)
{
	free(vocab->tokens);
	free(vocab->slots);
	free(vocab->special);
}

static bool is_special(const struct unpu_token *token)
{
	return token->length > 0 && token->length <= UNPU_SPECIAL_MAX &&
	       (token->type == UNPU_TOKEN_CONTROL || token->type == UNPU_TOKEN_UNKNOWN ||
		token->type == UNPU_TOKEN_USER_DEFINED);
}

static int compare_texts(const void *a, const void *b, void *arg)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	struct unpu_str x = unpu_vocab_text(arg, left);
	struct unpu_str y = unpu_vocab_text(arg, right);
	int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);

	if (order)
		return order;
	if (x.len != y.len)
		return x.len < y.len ? -1 : 1;
	return left < right ? -1 : left > right;
}

static void index_first(struct unpu_vocab *vocab)
{
	uint32_t i = 0, c;

	for (c = 0; c < 256; c++) {
		vocab->first[c] = i;
		while (i < vocab->num_special &&
		       (uint8_t)unpu_vocab_text(vocab, vocab->special[i]).ptr[0] == c)
			i++;
	}
	vocab->first[256] = i;
}

int unpu_vocab_index_special(struct unpu_vocab *vocab)
{
	uint32_t i, num = 0;

	for (i = 0; i < vocab->num_tokens; i++)
		num += is_special(&vocab->tokens[i]);
	if (num == 0)
		return 0;
	vocab->special = malloc((size_t)num * sizeof(*vocab->special));
	if (!vocab->special)
		return -ENOMEM;
	for (i = 0; i < vocab->num_tokens; i++) {
		if (!is_special(&vocab->tokens[i]))
			continue;
		vocab->special[vocab->num_special++] = i;
		vocab->num_user_defined += vocab->tokens[i].type == UNPU_TOKEN_USER_DEFINED;
	}
	qsort_r(vocab->special, num, sizeof(*vocab->special), compare_texts, vocab);
	index_first(vocab);
	return 0;
}

/* The first of special[low .. high), which agree in all bytes before depth, whose byte there is
 * at least c. */
static uint32_t lower_bound(const struct unpu_vocab *vocab, uint32_t low, uint32_t high,
			    size_t depth, uint32_t c)
{
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct unpu_str text = unpu_vocab_text(vocab, vocab->special[middle]);

		if (text.len <= depth || (uint8_t)text.ptr[depth] < c)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint32_t unpu_vocab_special_at(const struct unpu_vocab *vocab, const char *text, size_t length,
			       bool all)
{
	uint32_t low = vocab->first[(uint8_t)text[0]];
	uint32_t high = vocab->first[(uint8_t)text[0] + 1];
	uint32_t best = UNPU_NO_TOKEN;
	size_t depth;

	for (depth = 1; low < high; depth++) {
		/* Those that end here sort first. */
		for (; low < high; low++) {
			const struct unpu_token *token = &vocab->tokens[vocab->special[low]];

			if (token->length > depth)
				break;
			if (all || token->type == UNPU_TOKEN_USER_DEFINED)
				best = vocab->special[low];
		}
		if (depth == length)
			break;
		low = lower_bound(vocab, low, high, depth, (uint8_t)text[depth]);
		high = lower_bound(vocab, low, high, depth, (uint8_t)text[depth] + 1u);
	}
	return best;
}
