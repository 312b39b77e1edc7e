/* SPDX-License-Identifier: MIT */
#include "train/merges.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/pretok.h"

/* Longer pieces are runs of one character or noise; their first bytes tell enough. */
#define MAX_PIECE	64u

/* A piece that occurs `count` times: its tokens, at first its bytes. */
struct word {
	uint32_t at, length;	/* in tokens */
	uint64_t count;
};

/* How often two tokens stand side by side; 0 again when all of them were merged. */
struct pair {
	struct unpu_merge_pair of;
	uint64_t count;
};

struct unpu_merges {
	struct unpu_log log;
	struct unpu_pretok *pretok;
	struct word *words;
	uint32_t num_words, max_words;
	uint32_t *tokens;
	uint32_t num_tokens, max_tokens;
	uint32_t *slots;	/* of words by their bytes: index + 1 */
	uint32_t num_slots;
	struct pair *pairs;	/* open addressing; a count of 0 and both tokens 0: free */
	uint32_t num_pairs, max_pairs;
};

/* FNV-1a: texts to train on are the user's own. */
static uint32_t hash_bytes(const char *text, uint32_t length)
{
	uint32_t h = 2166136261u;

	for (uint32_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)text[i]) * 16777619u;
	return h;
}

/* Room for `need` elements of `size` bytes, twice as much as before at least. */
static int grow(void **array, uint32_t *max, uint32_t need, size_t size)
{
	uint32_t to = *max ? *max : 1024;
	void *p;

	if (need <= *max)
		return 0;
	while (to < need) {
		if (to > UINT32_MAX / 2)
			return -ENOMEM;
		to *= 2;
	}
	p = realloc(*array, to * size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*max = to;
	return 0;
}

/* ---- words --------------------------------------------------------------------------------- */

static bool word_is(const struct unpu_merges *m, const struct word *w, const char *text,
		    uint32_t length)
{
	if (w->length != length)
		return false;
	for (uint32_t i = 0; i < length; i++)
		if (m->tokens[w->at + i] != (uint8_t)text[i])
			return false;
	return true;
}

static int rehash(struct unpu_merges *m)
{
	uint32_t num = m->num_slots ? 2 * m->num_slots : 4096;
	uint32_t *slots = calloc(num, sizeof(*slots));
	char text[MAX_PIECE];

	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->num_words; i++) {
		const struct word *w = &m->words[i];
		uint32_t at;

		for (uint32_t j = 0; j < w->length; j++)
			text[j] = (char)m->tokens[w->at + j];
		at = hash_bytes(text, w->length) & (num - 1);
		while (slots[at])
			at = (at + 1) & (num - 1);
		slots[at] = i + 1;
	}
	free(m->slots);
	m->slots = slots;
	m->num_slots = num;
	return 0;
}

static int add_word(struct unpu_merges *m, uint32_t slot, const char *text, uint32_t length)
{
	int err = grow((void **)&m->words, &m->max_words, m->num_words + 1, sizeof(*m->words));

	if (!err)
		err = grow((void **)&m->tokens, &m->max_tokens, m->num_tokens + length,
			   sizeof(*m->tokens));
	if (err)
		return err;
	m->words[m->num_words] = (struct word){ m->num_tokens, length, 1 };
	for (uint32_t i = 0; i < length; i++)
		m->tokens[m->num_tokens++] = (uint8_t)text[i];
	m->slots[slot] = ++m->num_words;
	return 0;
}

static int count_piece(void *arg, const char *text, size_t size)
{
	struct unpu_merges *m = arg;
	uint32_t length = size < MAX_PIECE ? (uint32_t)size : MAX_PIECE, slot;
	int err = m->num_words * 2 >= m->num_slots ? rehash(m) : 0;

	if (err)
		return err;
	slot = hash_bytes(text, length) & (m->num_slots - 1);
	for (; m->slots[slot]; slot = (slot + 1) & (m->num_slots - 1)) {
		struct word *w = &m->words[m->slots[slot] - 1];

		if (word_is(m, w, text, length)) {
			w->count++;
			return 0;
		}
	}
	return add_word(m, slot, text, length);
}

int unpu_merges_add(struct unpu_merges *m, const char *text, size_t length)
{
	int err = unpu_pretok_split(m->pretok, text, length, count_piece, m);

	return err ? unpu_fail(&m->log, err, "no memory for the pieces of a text") : 0;
}

/* ---- pairs --------------------------------------------------------------------------------- */

static bool pair_free(const struct pair *p)
{
	return !p->count && !p->of.left && !p->of.right;
}

/* The pair's place, or the free one where it belongs. */
static struct pair *find_pair(struct pair *pairs, uint32_t max, uint32_t left, uint32_t right)
{
	uint32_t at = (left * 0x9e3779b1u ^ right * 0x85ebca77u) & (max - 1);

	while (!pair_free(&pairs[at]) && (pairs[at].of.left != left || pairs[at].of.right != right))
		at = (at + 1) & (max - 1);
	return &pairs[at];
}

static int grow_pairs(struct unpu_merges *m)
{
	uint32_t max = m->max_pairs ? 2 * m->max_pairs : 1u << 16;
	struct pair *pairs = calloc(max, sizeof(*pairs));

	if (!pairs)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->max_pairs; i++)
		if (!pair_free(&m->pairs[i]))
			*find_pair(pairs, max, m->pairs[i].of.left, m->pairs[i].of.right) =
				m->pairs[i];
	free(m->pairs);
	m->pairs = pairs;
	m->max_pairs = max;
	return 0;
}

/* change may be negative. The pair of two zero bytes is not counted: its place would look free. */
static int count_pair(struct unpu_merges *m, uint32_t left, uint32_t right, int64_t change)
{
	struct pair *p;

	if (!left && !right)
		return 0;
	if (m->num_pairs * 2 >= m->max_pairs && grow_pairs(m))
		return -ENOMEM;
	p = find_pair(m->pairs, m->max_pairs, left, right);
	if (pair_free(p)) {
		p->of = (struct unpu_merge_pair){ left, right };
		m->num_pairs++;
	}
	p->count += (uint64_t)change;
	return 0;
}

static int count_word(struct unpu_merges *m, const struct word *w, int sign)
{
	const uint32_t *t = m->tokens + w->at;

	for (uint32_t i = 0; i + 1 < w->length; i++)
		if (count_pair(m, t[i], t[i + 1], sign * (int64_t)w->count))
			return -ENOMEM;
	return 0;
}

static bool comes_first(const struct pair *a, const struct pair *b)
{
	if (a->count != b->count)
		return a->count > b->count;
	if (a->of.left != b->of.left)
		return a->of.left < b->of.left;
	return a->of.right < b->of.right;
}

/* NULL when none occurs twice. */
static const struct pair *best_pair(const struct unpu_merges *m)
{
	const struct pair *best = NULL;

	for (uint32_t i = 0; i < m->max_pairs; i++)
		if (m->pairs[i].count > 1 && (!best || comes_first(&m->pairs[i], best)))
			best = &m->pairs[i];
	return best;
}

static bool word_has(const struct unpu_merges *m, const struct word *w, struct unpu_merge_pair p)
{
	const uint32_t *t = m->tokens + w->at;

	for (uint32_t i = 0; i + 1 < w->length; i++)
		if (t[i] == p.left && t[i + 1] == p.right)
			return true;
	return false;
}

/* From left to right, as it is done when a text is encoded. */
static void merge_word(struct unpu_merges *m, struct word *w, struct unpu_merge_pair p,
		       uint32_t token)
{
	uint32_t *t = m->tokens + w->at, to = 0;

	for (uint32_t i = 0; i < w->length; i++) {
		if (i + 1 < w->length && t[i] == p.left && t[i + 1] == p.right) {
			t[to++] = token;
			i++;
		} else {
			t[to++] = t[i];
		}
	}
	w->length = to;
}

static int merge_all(struct unpu_merges *m, struct unpu_merge_pair p, uint32_t token)
{
	for (uint32_t i = 0; i < m->num_words; i++) {
		struct word *w = &m->words[i];

		if (!word_has(m, w, p))
			continue;
		if (count_word(m, w, -1))
			return -ENOMEM;
		merge_word(m, w, p, token);
		if (count_word(m, w, 1))
			return -ENOMEM;
	}
	return 0;
}

int64_t unpu_merges_find(struct unpu_merges *m, uint32_t most, struct unpu_merge_pair *pairs)
{
	uint32_t found = 0;
	int err = 0;

	for (uint32_t i = 0; !err && i < m->num_words; i++)
		err = count_word(m, &m->words[i], 1);
	while (!err && found < most) {
		const struct pair *best = best_pair(m);

		if (!best)
			break;
		pairs[found] = best->of;
		err = merge_all(m, pairs[found], UNPU_MERGES_BYTES + found);
		found++;
	}
	if (err)
		return unpu_fail(&m->log, err, "no memory for pairs of tokens");
	return found;
}

/* ---- creation ------------------------------------------------------------------------------ */

int unpu_merges_create(const char *pre, const struct unpu_log *log, struct unpu_merges **out)
{
	struct unpu_merges *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return unpu_fail(log, -ENOMEM, "no memory for a tokenizer");
	if (log)
		m->log = *log;
	err = unpu_pretok_create((struct unpu_str){ pre, strlen(pre) }, log, &m->pretok);
	if (err) {
		free(m);
		return err;
	}
	*out = m;
	return 0;
}

void unpu_merges_destroy(struct unpu_merges *m)
{
	if (!m)
		return;
	unpu_pretok_destroy(m->pretok);
	free(m->words);
	free(m->tokens);
	free(m->slots);
	free(m->pairs);
	free(m);
}
