/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/spm.h"
#include "runtime/text/utf8.h"

#define KEY_SCORES	"tokenizer.ggml.scores"

/* U+2581 stands for a space. */
static const char space_mark[] = "\xe2\x96\x81";

/* The byte that a text of the form <0xXX> names, or -1. */
static int parse_byte(struct unpu_str text)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *high, *low;

	if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>')
		return -1;
	high = memchr(digits, text.ptr[3], 16);
	low = memchr(digits, text.ptr[4], 16);
	return high && low ? (int)(high - digits) << 4 | (int)(low - digits) : -1;
}

static void find_bytes(struct unpu_spm *spm, struct unpu_vocab *vocab, bool typed)
{
	uint32_t byte, id;
	char name[8];

	for (byte = 0; byte < 256; byte++) {
		snprintf(name, sizeof(name), "<0x%02X>", byte);
		id = unpu_vocab_find(vocab, name, 6);
		if (id != UNPU_NO_TOKEN && !typed)
			vocab->tokens[id].type = UNPU_TOKEN_BYTE;
		if (id != UNPU_NO_TOKEN && vocab->tokens[id].type != UNPU_TOKEN_BYTE)
			id = UNPU_NO_TOKEN;
		spm->byte_ids[byte] = id;
	}
}

int unpu_spm_init(struct unpu_spm *spm, struct unpu_vocab *vocab, const struct unpu_gguf *gguf,
		  uint32_t unknown, const struct unpu_log *log)
{
	const void *data;
	uint64_t count;
	int err;

	spm->vocab = vocab;
	spm->unknown = unknown;
	err = unpu_gguf_array(gguf, KEY_SCORES, UNPU_GGUF_F32, &data, &count);
	if (err == -ENOENT)
		return unpu_fail(log, -EINVAL, KEY_SCORES " is missing");
	if (err)
		return err;
	if (count != vocab->num_tokens)
		return unpu_fail(log, -EINVAL, KEY_SCORES " has %llu entries for %u tokens",
				 (unsigned long long)count, vocab->num_tokens);
	spm->scores = data;
	err = unpu_gguf_array(gguf, "tokenizer.ggml.token_type", UNPU_GGUF_I32, &data, &count);
	find_bytes(spm, vocab, err != -ENOENT);
	return 0;
}

/* A score as the queue's key: the best is the lowest; not a number is the worst. */
static uint32_t score_key(const struct unpu_spm *spm, uint32_t id)
{
	uint32_t bits;

	memcpy(&bits, spm->scores + (size_t)id * sizeof(float), sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return UINT32_MAX;
	if (bits == 0x80000000)
		bits = 0;
	return bits & 0x80000000 ? bits : 0x7fffffff - bits;
}

/* Control, unknown and byte tokens are not made of characters. */
static uint32_t find_token(const struct unpu_spm *spm, const char *text, size_t length)
{
	uint32_t id = unpu_vocab_find(spm->vocab, text, length);

	if (id == UNPU_NO_TOKEN)
		return id;
	switch (spm->vocab->tokens[id].type) {
	case UNPU_TOKEN_CONTROL:
	case UNPU_TOKEN_UNKNOWN:
	case UNPU_TOKEN_BYTE:
		return UNPU_NO_TOKEN;
	default:
		return id;
	}
}

/* The token that a symbol and the one after it make; symbol->id is a length here. */
static uint32_t find_pair(const struct unpu_spm *spm, const struct unpu_merge_work *work,
			  const char *text, uint32_t left)
{
	const struct unpu_symbol *symbol = &work->symbols[left];

	if (symbol->id == 0 || symbol->next == UNPU_SYMBOL_NONE)
		return UNPU_NO_TOKEN;
	return find_token(spm, text + symbol->at, symbol->id + work->symbols[symbol->next].id);
}

static int push_pair(const struct unpu_spm *spm, struct unpu_merge_work *work, const char *text,
		     uint32_t left)
{
	uint32_t id = UNPU_NO_TOKEN;

	if (left != UNPU_SYMBOL_NONE)
		id = find_pair(spm, work, text, left);
	if (id == UNPU_NO_TOKEN)
		return 0;
	return unpu_merge_queue_push(&work->queue, score_key(spm, id), left);
}

/* A candidate holds while its two symbols make a token of that score, be it another one. */
static int merge_all(const struct unpu_spm *spm, struct unpu_merge_work *work, const char *text)
{
	uint32_t key, at, id;
	int err = 0;

	while (!err && unpu_merge_queue_pop(&work->queue, &key, &at)) {
		struct unpu_symbol *left = &work->symbols[at];
		struct unpu_symbol *right;

		id = find_pair(spm, work, text, at);
		if (id == UNPU_NO_TOKEN || score_key(spm, id) != key)
			continue;
		right = &work->symbols[left->next];
		left->id += right->id;
		right->id = 0;
		unpu_merge_work_join(work, at);
		err = push_pair(spm, work, text, left->prev);
		if (!err)
			err = push_pair(spm, work, text, at);
	}
	return err;
}

static void add_bytes(const struct unpu_spm *spm, const char *text, uint32_t length,
		      struct unpu_ids *out)
{
	uint32_t i;

	for (i = 0; i < length; i++) {
		if (spm->byte_ids[(uint8_t)text[i]] == UNPU_NO_TOKEN) {
			if (spm->unknown != UNPU_NO_TOKEN)
				unpu_ids_add(out, spm->unknown);
			return;
		}
	}
	for (i = 0; i < length; i++)
		unpu_ids_add(out, spm->byte_ids[(uint8_t)text[i]]);
}

static void add_ids(const struct unpu_spm *spm, const struct unpu_merge_work *work,
		    const char *text, struct unpu_ids *out)
{
	uint32_t i, id;

	for (i = 0; i != UNPU_SYMBOL_NONE; i = work->symbols[i].next) {
		const struct unpu_symbol *symbol = &work->symbols[i];

		id = find_token(spm, text + symbol->at, symbol->id);
		if (id != UNPU_NO_TOKEN)
			unpu_ids_add(out, id);
		else
			add_bytes(spm, text + symbol->at, symbol->id, out);
	}
}

/* One symbol per character, and per byte that is none. */
static int make_symbols(struct unpu_merge_work *work, const char *text, size_t length)
{
	uint32_t code;
	size_t at, num = 0, step;
	int err;

	for (at = 0; at < length; at += step, num++) {
		step = unpu_utf8_decode(text + at, length - at, &code);
		step = step ? step : 1;
	}
	err = unpu_merge_work_reset(work, num);
	if (err)
		return err;
	for (at = 0, num = 0; at < length; at += step, num++) {
		step = unpu_utf8_decode(text + at, length - at, &code);
		step = step ? step : 1;
		work->symbols[num].at = (uint32_t)at;
		work->symbols[num].id = (uint32_t)step;
	}
	unpu_merge_work_link(work);
	return 0;
}

/* The text with its spaces escaped, which is up to three times as long. */
static char *escape(const char *text, size_t length, bool prefix, size_t *escaped)
{
	size_t i, at = 0, spaces = prefix;
	char *out;

	for (i = 0; i < length; i++)
		spaces += text[i] == ' ';
	out = malloc(length + 3 * spaces);
	if (!out)
		return NULL;
	if (prefix) {
		memcpy(out, space_mark, 3);
		at = 3;
	}
	for (i = 0; i < length; i++) {
		if (text[i] == ' ') {
			memcpy(out + at, space_mark, 3);
			at += 3;
		} else {
			out[at++] = text[i];
		}
	}
	*escaped = at;
	return out;
}

int unpu_spm_encode(const struct unpu_spm *spm, struct unpu_merge_work *work, const char *text,
		    size_t length, bool prefix, struct unpu_ids *out)
{
	size_t escaped, i;
	char *copy;
	int err;

	if (length == 0)
		return 0;
	if (length > INT32_MAX / 4)
		return -EFBIG;
	copy = escape(text, length, prefix, &escaped);
	if (!copy)
		return -ENOMEM;
	err = make_symbols(work, copy, escaped);
	for (i = 0; !err && i < work->num; i++)
		err = push_pair(spm, work, copy, (uint32_t)i);
	if (!err)
		err = merge_all(spm, work, copy);
	if (!err)
		add_ids(spm, work, copy, out);
	free(copy);
	return err;
}

size_t unpu_spm_decode(const struct unpu_vocab *vocab, uint32_t id, char *out, size_t max)
{
	struct unpu_str text = unpu_vocab_text(vocab, id);
	bool is_byte = vocab->tokens[id].type == UNPU_TOKEN_BYTE;
	int byte = is_byte ? parse_byte(text) : -1;
	size_t i, num = 0;
	char c;

	for (i = 0; i < text.len; i++, num++) {
		c = text.ptr[i];
		if (byte >= 0) {
			c = (char)byte;
			i = text.len;
		} else if (text.len - i >= 3 && memcmp(text.ptr + i, space_mark, 3) == 0) {
			c = ' ';
			i += 2;
		}
		if (num < max)
			out[num] = c;
	}
	return num;
}
