/* SPDX-License-Identifier: MIT */
#include "train/data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tokenizer.h"
#include "train/jsonl.h"

/* ---- texts --------------------------------------------------------------------------------- */

/* JSON lines begin with a brace, blanks aside. */
static bool is_jsonl(const char *data, size_t size)
{
	size_t i = 0;

	while (i < size && strchr(" \t\r\n", data[i]) && data[i])
		i++;
	return i < size && data[i] == '{';
}

static bool is_blank(const char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

static int add_pair(struct unpu_texts *t, size_t *max, struct unpu_text_pair pair)
{
	if (t->num_pairs == *max) {
		size_t to = *max ? 2 * *max : 1024;
		struct unpu_text_pair *p = realloc(t->pairs, to * sizeof(*p));

		if (!p || to > UINT32_MAX / 2)
			return -ENOMEM;
		t->pairs = p;
		*max = to;
	}
	t->pairs[t->num_pairs++] = pair;
	return 0;
}

static int read_line(struct unpu_texts *t, size_t *max, char *line, size_t length, uint32_t number,
		     const struct unpu_log *log)
{
	struct unpu_jsonl pair;
	const char *what;
	size_t where;

	if (is_blank(line, length))
		return 0;
	if (unpu_jsonl_read(line, length, &pair, &what, &where))
		return unpu_fail(log, -EINVAL, "%s:%u: byte %zu: %s", t->name, number, where + 1,
				 what);
	return add_pair(t, max, (struct unpu_text_pair){
		pair.prompt, pair.answer, pair.prompt_length, pair.answer_length, number,
	}) ? unpu_fail(log, -ENOMEM, "%s: no memory for its lines", t->name) : 0;
}

static int read_lines(struct unpu_texts *t, const struct unpu_log *log)
{
	char *line = t->bytes, *end = t->bytes + t->size;
	size_t max = 0;
	int err = 0;

	for (uint32_t number = 1; !err && line < end; number++) {
		char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t length = (size_t)((newline ? newline : end) - line);

		err = read_line(t, &max, line, length, number, log);
		line += length + 1;
	}
	return err;
}

/* What is no text has bytes that no text has. */
static int read_plain(struct unpu_texts *t, const struct unpu_log *log)
{
	const char *zero = memchr(t->bytes, '\0', t->size);
	size_t max = 0;

	if (zero)
		return unpu_fail(log, -EINVAL, "%s: byte %zu is zero: this is no text", t->name,
				 (size_t)(zero - t->bytes) + 1);
	return add_pair(t, &max, (struct unpu_text_pair){ t->bytes, t->bytes, 0, t->size, 1 });
}

int unpu_texts_init(struct unpu_texts *t, const char *name, char *data, size_t size,
		    const struct unpu_log *log)
{
	int err;

	*t = (struct unpu_texts){ .bytes = data, .size = size, .name = strdup(name) };
	t->plain = !is_jsonl(data, size);
	if (!t->name)
		err = -ENOMEM;
	else
		err = t->plain ? read_plain(t, log) : read_lines(t, log);
	if (!err && (!size || !t->num_pairs))
		err = unpu_fail(log, -EINVAL, "%s: there is nothing in it to learn", t->name);
	if (err)
		unpu_texts_finish(t);
	return err;
}

void unpu_texts_finish(struct unpu_texts *t)
{
	free(t->name);
	free(t->bytes);
	free(t->pairs);
	*t = (struct unpu_texts){ 0 };
}

/* ---- samples ------------------------------------------------------------------------------- */

struct builder {
	struct unpu_samples *s;
	const struct unpu_texts *texts;
	const struct unpu_tokenizer *tok;
	const struct unpu_log *log;
	uint32_t end, context;
	size_t max_rows, max_count;
	uint32_t *ids;
	size_t max_ids;
};

static int reserve(void *array, size_t *max, size_t need, size_t size)
{
	void **p = array, *grown;
	size_t to = *max ? *max : 4096;

	while (to < need)
		to *= 2;
	if (to == *max)
		return 0;
	grown = realloc(*p, to * size);
	if (!grown)
		return -ENOMEM;
	*p = grown;
	*max = to;
	return 0;
}

static int reserve_rows(struct unpu_samples *s, size_t *max, size_t need)
{
	size_t before = *max;

	if (reserve(&s->tokens, max, need, sizeof(*s->tokens)))
		return -ENOMEM;
	return reserve(&s->targets, &before, need, sizeof(*s->targets));
}

/* The tokens of a text in b->ids; how many there are. A text has no more tokens than bytes. */
static int64_t encode(struct builder *b, const char *text, size_t length)
{
	if (reserve(&b->ids, &b->max_ids, length + 1, sizeof(*b->ids)))
		return -ENOMEM;
	return unpu_tokenizer_encode(b->tok, text, length, 0, b->ids, b->max_ids);
}

/* Rows of which each is to foretell the next; `learn` says whether these are to be foretold. */
static int append(struct builder *b, const uint32_t *ids, size_t count, bool learn)
{
	struct unpu_samples *s = b->s;

	if (reserve_rows(s, &b->max_rows, s->rows + count))
		return -ENOMEM;
	for (size_t i = 0; i < count; i++, s->rows++) {
		s->tokens[s->rows] = (int32_t)ids[i];
		s->targets[s->rows] = -1;
		if (learn && s->rows > s->starts[s->count]) {
			s->targets[s->rows - 1] = (int32_t)ids[i];
			s->num_targets++;
		}
	}
	return 0;
}

/* What was appended since the last is a sequence. */
static int end_sequence(struct builder *b)
{
	struct unpu_samples *s = b->s;
	size_t rows = s->rows - s->starts[s->count];

	if (s->rows > UINT32_MAX / 2 ||
	    reserve(&s->starts, &b->max_count, s->count + 2ull, sizeof(*s->starts)))
		return -ENOMEM;
	s->max_rows = rows > s->max_rows ? rows : s->max_rows;
	s->starts[++s->count] = (uint32_t)s->rows;
	return 0;
}

static int append_text(struct builder *b, const char *text, size_t length, bool learn)
{
	int64_t n = encode(b, text, length);

	return n < 0 ? (int)n : append(b, b->ids, (size_t)n, learn);
}

static int add_sample(struct builder *b, const struct unpu_text_pair *p)
{
	struct unpu_samples *s = b->s;
	char *prompt = malloc(p->prompt_length + 1);
	size_t rows;
	int err;

	if (!prompt)
		return -ENOMEM;
	memcpy(prompt, p->prompt, p->prompt_length);
	prompt[p->prompt_length] = '\n';
	err = append_text(b, prompt, p->prompt_length + 1, false);
	free(prompt);
	if (!err)
		err = append_text(b, p->answer, p->answer_length, true);
	if (!err)
		err = append(b, &b->end, 1, true);
	if (err)
		return err;
	/* The end of text is foretold, nothing follows it. */
	s->rows--;
	rows = s->rows - s->starts[s->count];
	if (rows > b->context)
		return unpu_fail(b->log, -EINVAL, "%s:%u: has %zu tokens, the context is %u",
				 b->texts->name, p->line, rows, b->context);
	return end_sequence(b);
}

/* A window's last token is the next one's first, so that each token but the first is foretold. */
static int add_windows(struct builder *b, const struct unpu_text_pair *p)
{
	int64_t n = encode(b, p->answer, p->answer_length);
	int err = n < 0 ? (int)n : 0;

	for (int64_t i = 0; !err && i + 1 < n; i += b->context) {
		size_t count = n - i < b->context + 1ll ? (size_t)(n - i) : b->context + 1ull;

		err = append(b, b->ids + i, count, true);
		if (err)
			break;
		b->s->rows--;
		err = end_sequence(b);
	}
	return err;
}

int unpu_samples_init(struct unpu_samples *s, const struct unpu_texts *texts,
		      const struct unpu_tokenizer *tok, uint32_t end, uint32_t context,
		      const struct unpu_log *log)
{
	struct builder b = { .s = s, .texts = texts, .tok = tok, .log = log, .end = end,
			     .context = context };
	int err;

	*s = (struct unpu_samples){ 0 };
	err = reserve(&s->starts, &b.max_count, 2, sizeof(*s->starts));
	if (!err)
		s->starts[0] = 0;
	for (uint32_t i = 0; !err && i < texts->num_pairs; i++)
		err = texts->plain ? add_windows(&b, &texts->pairs[i]) :
				     add_sample(&b, &texts->pairs[i]);
	free(b.ids);
	if (err == -ENOMEM)
		unpu_fail(log, err, "%s: no memory for its tokens", texts->name);
	if (!err && !s->num_targets)
		err = unpu_fail(log, -EINVAL, "%s: there is nothing in it to learn", texts->name);
	if (err)
		unpu_samples_finish(s);
	return err;
}

void unpu_samples_finish(struct unpu_samples *s)
{
	free(s->tokens);
	free(s->targets);
	free(s->starts);
	*s = (struct unpu_samples){ 0 };
}

/* ---- parts and orders ----------------------------------------------------------------------- */

/* Sequence i of `from` behind those of `to`, whose arrays are large enough (and may be from's). */
static void move_sequence(const struct unpu_samples *from, uint32_t i, struct unpu_samples *to)
{
	const uint32_t first = from->starts[i], rows = from->starts[i + 1] - first;

	memmove(to->tokens + to->rows, from->tokens + first, rows * sizeof(*to->tokens));
	memmove(to->targets + to->rows, from->targets + first, rows * sizeof(*to->targets));
	for (uint32_t r = 0; r < rows; r++)
		to->num_targets += to->targets[to->rows + r] >= 0;
	to->rows += rows;
	to->max_rows = rows > to->max_rows ? rows : to->max_rows;
	to->starts[++to->count] = (uint32_t)to->rows;
}

int unpu_samples_split(struct unpu_samples *s, uint32_t nth, struct unpu_samples *out)
{
	struct unpu_samples kept = { .tokens = s->tokens, .targets = s->targets };

	*out = (struct unpu_samples){ 0 };
	out->tokens = malloc(s->rows * sizeof(*out->tokens));
	out->targets = malloc(s->rows * sizeof(*out->targets));
	out->starts = calloc(s->count + 1ull, sizeof(*out->starts));
	kept.starts = calloc(s->count + 1ull, sizeof(*kept.starts));
	if (!out->tokens || !out->targets || !out->starts || !kept.starts) {
		free(kept.starts);
		unpu_samples_finish(out);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < s->count; i++)
		move_sequence(s, i, nth && i % nth == nth - 1 ? out : &kept);
	free(s->starts);
	*s = kept;
	return 0;
}

int unpu_order_init(struct unpu_order *order, uint32_t count)
{
	order->index = malloc((count + 1ull) * sizeof(*order->index));
	order->count = count;
	return order->index ? 0 : -ENOMEM;
}

/* Fisher and Yates with SplitMix64. */
void unpu_order_shuffle(struct unpu_order *order, uint64_t seed, uint64_t epoch)
{
	uint64_t state = seed ^ (epoch + 1) * 0xd1342543de82ef95;

	for (uint32_t i = 0; i < order->count; i++)
		order->index[i] = i;
	for (uint32_t i = order->count; i > 1; i--) {
		uint32_t j = (uint32_t)(unpu_net_random(&state) % i), swap = order->index[j];

		order->index[j] = order->index[i - 1];
		order->index[i - 1] = swap;
	}
}

void unpu_order_finish(struct unpu_order *order)
{
	free(order->index);
	order->index = NULL;
}

/* ---- batches -------------------------------------------------------------------------------- */

int unpu_batch_fill(struct unpu_batch *b, const struct unpu_samples *s, const uint32_t *order,
		    uint32_t count)
{
	size_t rows = 0, again = b->max_rows;
	struct unpu_samples to = { 0 };

	for (uint32_t i = 0; i < count; i++)
		rows += s->starts[order[i] + 1] - s->starts[order[i]];
	if (reserve(&b->tokens, &b->max_rows, rows, sizeof(*b->tokens)) ||
	    reserve(&b->targets, &again, rows, sizeof(*b->targets)) ||
	    reserve(&b->starts, &b->max_sequences, count + 1ull, sizeof(*b->starts)))
		return -ENOMEM;
	to = (struct unpu_samples){ b->tokens, b->targets, b->starts, 0, 0, 0, 0 };
	to.starts[0] = 0;
	for (uint32_t i = 0; i < count; i++)
		move_sequence(s, order[i], &to);
	b->num_targets = (uint32_t)to.num_targets;
	b->view = (struct unpu_net_batch){ b->tokens, b->targets, (uint32_t)to.rows, b->starts,
					   count };
	return 0;
}

void unpu_batch_finish(struct unpu_batch *b)
{
	free(b->tokens);
	free(b->targets);
	free(b->starts);
	*b = (struct unpu_batch){ 0 };
}
