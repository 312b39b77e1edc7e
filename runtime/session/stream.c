/* SPDX-License-Identifier: MIT */
/*
 * Tokens become text for the callback: whole characters, nothing of a stop string. A stop string
 * ends the text with the character that completes it, however tokens cut it; of two completed by
 * the same one, the longer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/session/session.h"

#define SHORT_TEXT	256	/* bytes of text that want no memory: nearly all tokens have less */

/* The first max bytes of the token's text; how many there are, or -errno. */
static int64_t token_text(const struct unpu_session *s, uint32_t id, char *text, size_t max)
{
	const struct unpu_tokenizer *tok = s->model->tok;

	if (id >= unpu_tokenizer_vocab(tok))
		return 0;	/* an embedding row without a token, as padded vocabularies have */
	if (s->text.begins)
		return unpu_tokenizer_decode(tok, &id, 1, text, max);
	return unpu_tokenizer_piece(tok, id, text, max);
}

static bool has_text(const struct unpu_tokenizer *tok, uint32_t id)
{
	return id < unpu_tokenizer_vocab(tok) && unpu_tokenizer_piece(tok, id, NULL, 0) > 0;
}

void unpu_text_begin(struct unpu_session *s)
{
	s->text.begins = unpu_tokenizer_space_prefix(s->model->tok);
	for (uint32_t i = 0; i < s->used && s->text.begins; i++)
		s->text.begins = !has_text(s->model->tok, s->tokens[i]);
}

/* Room for what `length` bytes become, and for a replacement character at the end. */
static int make_room(struct unpu_session *s, size_t length)
{
	struct unpu_text *t = &s->text;
	size_t want = t->held + 3 * (length + 4);
	char *bytes;

	if (want <= t->room)
		return 0;
	want += 4 * SHORT_TEXT;
	bytes = realloc(t->bytes, want);
	if (!bytes)
		return unpu_fail(&s->model->log, -ENOMEM, "no memory for %zu bytes of text", want);
	t->bytes = bytes;
	t->room = want;
	return 0;
}

static int append(struct unpu_session *s, uint32_t id)
{
	char small[SHORT_TEXT], *text = small, *large = NULL;
	int64_t n = token_text(s, id, small, SHORT_TEXT);
	int ret;

	if (n < 0)
		return (int)n;
	ret = make_room(s, (size_t)n);
	if (!ret && n > SHORT_TEXT) {
		text = large = malloc((size_t)n);
		if (!large)
			return unpu_fail(&s->model->log, -ENOMEM,
					 "no memory for the text of token %u", id);
		token_text(s, id, large, (size_t)n);
	}
	if (!ret)
		s->text.held += unpu_utf8_stream_push(&s->text.utf8, text, (size_t)n,
						      s->text.bytes + s->text.held);
	free(large);
	if (s->text.begins)
		s->text.begins = !has_text(s->model->tok, id);
	return ret;
}

/* ---- stop strings ------------------------------------------------------------------------- */

/* Length of the longest stop string that the first n bytes end with; 0: none. */
static size_t stop_at(const struct unpu_session *s, size_t n)
{
	const char *bytes = s->text.bytes;
	size_t longest = 0;

	for (uint32_t i = 0; i < s->set.num_stop; i++) {
		size_t length = s->stop_length[i];

		if (length > longest && length <= n && s->stop[i][length - 1] == bytes[n - 1] &&
		    !memcmp(bytes + n - length, s->stop[i], length))
			longest = length;
	}
	return longest;
}

/* How many of the last bytes a stop string may begin with. */
static size_t beginning(const struct unpu_session *s)
{
	size_t n = s->text.held, longest = 0;

	for (uint32_t i = 0; i < s->set.num_stop; i++) {
		size_t part = s->stop_length[i] - 1 < n ? s->stop_length[i] - 1 : n;

		while (part > longest && memcmp(s->text.bytes + n - part, s->stop[i], part))
			part--;
		longest = part > longest ? part : longest;
	}
	return longest;
}

int unpu_text_push(struct unpu_session *s, uint32_t id, size_t *certain)
{
	size_t n = s->text.held, stop = 0;
	int ret = append(s, id);

	*certain = 0;
	if (ret)
		return ret;
	while (!stop && n < s->text.held)
		stop = stop_at(s, ++n);
	*certain = stop ? n - stop : s->text.held - beginning(s);
	return stop ? UNPU_REASON_STOP : 0;
}

void unpu_text_given(struct unpu_session *s, size_t length)
{
	struct unpu_text *t = &s->text;

	t->held -= length;
	if (t->held)
		memmove(t->bytes, t->bytes + length, t->held);
}

void unpu_text_drop(struct unpu_session *s)
{
	s->text.held = 0;
	s->text.utf8 = (struct unpu_utf8_stream){ .num_held = 0 };
}

void unpu_session_flush(struct unpu_session *s, unpu_token_fn *fn, void *arg)
{
	struct unpu_text *t = &s->text;

	if (t->bytes)
		t->held += unpu_utf8_stream_flush(&t->utf8, t->bytes + t->held);
	if (t->held && fn)
		fn(arg, UINT32_MAX, t->bytes, t->held);
	unpu_text_drop(s);
}
