/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/bpe.h"
#include "runtime/text/hash.h"
#include "runtime/text/utf8.h"

#define KEY_MERGES	"tokenizer.ggml.merges"

/*
 * GPT-2's byte alphabet: printable bytes of Latin-1 stand for themselves, the other 68 for U+0100
 * and up in their order (0 to 0x20, 0x7f to 0xa0, 0xad).
 */
static uint32_t byte_to_code(uint32_t byte)
{
	if (byte <= 0x20)
		return 0x100 + byte;
	if (byte >= 0x7f && byte <= 0xa0)
		return 0x121 + byte - 0x7f;
	return byte == 0xad ? 0x143 : byte;
}

/* -1: the character stands for no byte. */
static int code_to_byte(uint32_t code)
{
	if (code > 0x143)
		return -1;
	if (code == 0x143)
		return 0xad;
	if (code >= 0x121)
		return (int)(code - 0x121 + 0x7f);
	if (code >= 0x100)
		return (int)(code - 0x100);
	return byte_to_code(code) == code ? (int)code : -1;
}

/* out has room for 2 bytes; all of the alphabet is below U+0800. */
static size_t put_byte(uint32_t byte, char *out)
{
	uint32_t code = byte_to_code(byte);

	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	out[0] = (char)(0xc0 | code >> 6);
	out[1] = (char)(0x80 | (code & 0x3f));
	return 2;
}

size_t unpu_bpe_decode(struct unpu_str text, char *out, size_t max)
{
	size_t num = 0, i = 0, j, step;
	uint32_t code;
	int byte;

	while (i < text.len) {
		step = unpu_utf8_decode(text.ptr + i, text.len - i, &code);
		byte = step ? code_to_byte(code) : -1;
		if (byte >= 0) {
			if (num < max)
				out[num] = (char)byte;
			num++;
			i += step;
			continue;
		}
		for (j = step ? step : 1; j > 0; j--, i++, num++)
			if (num < max)
				out[num] = text.ptr[i];
	}
	return num;
}

/* The slot of the pair's rank, or the free one where it belongs. */
static uint32_t *find_slot(const struct unpu_bpe *bpe, uint32_t left, uint32_t right)
{
	uint32_t i = unpu_hash_slot(unpu_hash_pair(bpe->key, left, right), bpe->num_slots);

	while (bpe->slots[i] != UINT32_MAX) {
		const struct unpu_bpe_rule *rule = &bpe->rules[bpe->slots[i]];

		if (rule->left == left && rule->right == right)
			break;
		if (++i == bpe->num_slots)
			i = 0;
	}
	return &bpe->slots[i];
}

/* "left right": the first space that is not the first byte parts them. */
static bool parse_rule(const struct unpu_vocab *vocab, struct unpu_str text, char *scratch,
		       struct unpu_bpe_rule *rule)
{
	const char *space = text.len > 1 ? memchr(text.ptr + 1, ' ', text.len - 1) : NULL;
	size_t left, right;

	if (!space)
		return false;
	left = (size_t)(space - text.ptr);
	right = text.len - left - 1;
	if (right == 0 || left + right > vocab->max_length)
		return false;
	memcpy(scratch, text.ptr, left);
	memcpy(scratch + left, space + 1, right);
	rule->left = unpu_vocab_find(vocab, scratch, left);
	rule->right = unpu_vocab_find(vocab, scratch + left, right);
	rule->merged = unpu_vocab_find(vocab, scratch, left + right);
	return rule->left != UNPU_NO_TOKEN && rule->right != UNPU_NO_TOKEN &&
	       rule->merged != UNPU_NO_TOKEN &&
	       vocab->tokens[rule->merged].type != UNPU_TOKEN_CONTROL;
}

/* A rule of tokens that the vocabulary lacks can never apply; it keeps its rank and is no error,
 * since vocabularies are cut down at times and their merges are not. Text never merges to a control
 * token either. */
static void read_rules(struct unpu_bpe *bpe, struct unpu_gguf_strings *strings, char *scratch)
{
	struct unpu_str text;
	uint32_t rank, *slot;

	for (rank = 0; rank < bpe->num_rules && unpu_gguf_strings_next(strings, &text); rank++) {
		struct unpu_bpe_rule *rule = &bpe->rules[rank];

		if (!parse_rule(bpe->vocab, text, scratch, rule))
			continue;
		slot = find_slot(bpe, rule->left, rule->right);
		if (*slot == UINT32_MAX)
			*slot = rank;
	}
}

static int make_rules(struct unpu_bpe *bpe, struct unpu_gguf_strings *strings, uint32_t num)
{
	uint32_t num_slots = num + num / 2 + 1;
	char *scratch;

	unpu_hash_key(bpe->key);
	bpe->rules = calloc((size_t)num + 1, sizeof(*bpe->rules));
	bpe->slots = malloc((size_t)num_slots * sizeof(*bpe->slots));
	scratch = malloc((size_t)bpe->vocab->max_length + 1);
	if (!bpe->rules || !bpe->slots || !scratch) {
		free(scratch);
		return -ENOMEM;
	}
	memset(bpe->slots, 0xff, (size_t)num_slots * sizeof(*bpe->slots));
	bpe->num_slots = num_slots;
	bpe->num_rules = num;
	read_rules(bpe, strings, scratch);
	free(scratch);
	return 0;
}

/* The other types hold raw text: such a token would not give the byte back. */
static bool is_bytes(const struct unpu_token *token)
{
	return token->type != UNPU_TOKEN_USER_DEFINED && token->type != UNPU_TOKEN_CONTROL &&
	       token->type != UNPU_TOKEN_UNKNOWN;
}

static void find_bytes(struct unpu_bpe *bpe)
{
	char text[2];
	uint32_t byte, id;

	for (byte = 0; byte < 256; byte++) {
		id = unpu_vocab_find(bpe->vocab, text, put_byte(byte, text));
		if (id != UNPU_NO_TOKEN && !is_bytes(&bpe->vocab->tokens[id]))
			id = UNPU_NO_TOKEN;
		bpe->byte_ids[byte] = id;
	}
}

/* Encoding U+FFFD itself leaves lost_ids empty when the vocabulary lacks a byte of it. */
static int find_lost(struct unpu_bpe *bpe)
{
	static const char replacement[] = "\xef\xbf\xbd";
	struct unpu_merge_work work = { 0 };
	struct unpu_ids out = { .ids = bpe->lost_ids, .max = 3 };
	int err;

	err = unpu_bpe_encode(bpe, &work, replacement, 3, &out);
	unpu_merge_work_finish(&work);
	if (err)
		return err;
	if (bpe->byte_ids[0xef] != UNPU_NO_TOKEN && bpe->byte_ids[0xbf] != UNPU_NO_TOKEN &&
	    bpe->byte_ids[0xbd] != UNPU_NO_TOKEN)
		bpe->num_lost_ids = (uint32_t)out.num;
	return 0;
}

int unpu_bpe_init(struct unpu_bpe *bpe, const struct unpu_vocab *vocab,
		  const struct unpu_gguf *gguf, bool ignore_merges, const struct unpu_log *log)
{
	struct unpu_gguf_strings strings;
	uint64_t count;
	int err;

	memset(bpe, 0, sizeof(*bpe));
	bpe->vocab = vocab;
	bpe->ignore_merges = ignore_merges;
	err = unpu_gguf_strings(gguf, KEY_MERGES, &strings, &count);
	if (err == -ENOENT)
		return unpu_fail(log, -EINVAL, KEY_MERGES " is missing");
	if (err)
		return err;
	if (count > UINT32_MAX / 2)
		return unpu_fail(log, -EINVAL, KEY_MERGES " has %llu entries",
				 (unsigned long long)count);
	err = make_rules(bpe, &strings, (uint32_t)count);
	if (err)
		return err;
	find_bytes(bpe);
	return find_lost(bpe);
}

void unpu_bpe_finish(struct unpu_bpe *bpe)
{
	free(bpe->rules);
	free(bpe->slots);
}

/* The queue's key is the rank; a candidate holds while its two symbols are what its rule says. */
static int push_pair(const struct unpu_bpe *bpe, struct unpu_merge_work *work, uint32_t left)
{
	const struct unpu_symbol *symbol;
	uint32_t right, rank;

	if (left == UNPU_SYMBOL_NONE)
		return 0;
	symbol = &work->symbols[left];
	if (symbol->next == UNPU_SYMBOL_NONE || symbol->id == UNPU_NO_TOKEN)
		return 0;
	right = work->symbols[symbol->next].id;
	if (right == UNPU_NO_TOKEN)
		return 0;
	rank = *find_slot(bpe, symbol->id, right);
	if (rank == UINT32_MAX)
		return 0;
	return unpu_merge_queue_push(&work->queue, rank, left);
}

static int merge_all(const struct unpu_bpe *bpe, struct unpu_merge_work *work)
{
	uint32_t rank, at;
	int err = 0;

	while (!err && unpu_merge_queue_pop(&work->queue, &rank, &at)) {
		const struct unpu_bpe_rule *rule = &bpe->rules[rank];
		struct unpu_symbol *left = &work->symbols[at];
		struct unpu_symbol *right;

		if (left->id != rule->left || left->next == UNPU_SYMBOL_NONE)
			continue;
		right = &work->symbols[left->next];
		if (right->id != rule->right)
			continue;
		right->id = UNPU_NO_TOKEN;
		left->id = rule->merged;
		unpu_merge_work_join(work, at);
		err = push_pair(bpe, work, left->prev);
		if (!err)
			err = push_pair(bpe, work, at);
	}
	return err;
}

/* The token that the piece is as a whole. */
static uint32_t find_whole(const struct unpu_bpe *bpe, const char *piece, size_t length)
{
	char text[512];
	size_t i, at = 0;
	uint32_t id;

	if (length > sizeof(text) / 2)
		return UNPU_NO_TOKEN;
	for (i = 0; i < length; i++)
		at += put_byte((uint8_t)piece[i], text + at);
	id = unpu_vocab_find(bpe->vocab, text, at);
	if (id != UNPU_NO_TOKEN && bpe->vocab->tokens[id].type != UNPU_TOKEN_NORMAL)
		return UNPU_NO_TOKEN;
	return id;
}

static void add_ids(const struct unpu_bpe *bpe, const struct unpu_merge_work *work,
		    struct unpu_ids *out)
{
	uint32_t i, j;

	for (i = 0; i != UNPU_SYMBOL_NONE; i = work->symbols[i].next) {
		if (work->symbols[i].id != UNPU_NO_TOKEN)
			unpu_ids_add(out, work->symbols[i].id);
		else
			for (j = 0; j < bpe->num_lost_ids; j++)
				unpu_ids_add(out, bpe->lost_ids[j]);
	}
}

int unpu_bpe_encode(const struct unpu_bpe *bpe, struct unpu_merge_work *work, const char *piece,
		    size_t length, struct unpu_ids *out)
{
	uint32_t id = UNPU_NO_TOKEN;
	size_t i;
	int err;

	if (length == 0)
		return 0;
	if (bpe->ignore_merges)
		id = find_whole(bpe, piece, length);
	if (id != UNPU_NO_TOKEN) {
		unpu_ids_add(out, id);
		return 0;
	}
	err = unpu_merge_work_reset(work, length);
	if (err)
		return err;
	for (i = 0; i < length; i++)
		work->symbols[i].id = bpe->byte_ids[(uint8_t)piece[i]];
	unpu_merge_work_link(work);
	for (i = 0; !err && i < length; i++)
		err = push_pair(bpe, work, (uint32_t)i);
	if (!err)
		err = merge_all(bpe, work);
	if (!err)
		add_ids(bpe, work, out);
	return err;
}
