/* SPDX-License-Identifier: MIT */
/* Tokens sampled by the device, and their text as it becomes whole. */
#include <errno.h>
#include <stdlib.h>

#include "runtime/session/session.h"

/* Text of tokens as they come, whole characters at a time. */
struct stream {
	struct unpu_session *s;
	unpu_token_fn *fn;
	void *arg;
	struct unpu_utf8_stream utf8;
	bool begins;	/* SentencePiece: the space before the first word is no text */
};

#define SHORT_TEXT	256	/* bytes of text that want no memory: nearly all tokens have less */

/* The first max bytes of the token's text; how many there are, or -errno. */
static int64_t token_text(const struct stream *st, uint32_t id, char *text, size_t max)
{
	const struct unpu_tokenizer *tok = st->s->model->tok;

	if (id >= unpu_tokenizer_vocab(tok))
		return 0;	/* an embedding row without a token, as padded vocabularies have */
	if (st->begins)
		return unpu_tokenizer_decode(tok, &id, 1, text, max);
	return unpu_tokenizer_piece(tok, id, text, max);
}

static bool has_text(const struct unpu_tokenizer *tok, uint32_t id)
{
	return id < unpu_tokenizer_vocab(tok) && unpu_tokenizer_piece(tok, id, NULL, 0) > 0;
}

/* 0 to go on, UNPU_REASON_CALLBACK or -errno. */
static int stream_token(struct stream *st, uint32_t id)
{
	char small[4 * SHORT_TEXT + 9], *text = small, *large = NULL, *out;
	int64_t n;
	size_t length;
	int stop;

	if (!st->fn)
		return 0;
	n = token_text(st, id, small, SHORT_TEXT);
	if (n > SHORT_TEXT) {
		text = large = malloc(4 * (size_t)n + 9);
		if (!large)
			return unpu_fail(&st->s->model->log, -ENOMEM,
					 "no memory for the text of token %u", id);
		n = token_text(st, id, large, (size_t)n);
	}
	if (n < 0) {
		free(large);
		return (int)n;
	}
	if (st->begins)
		st->begins = !has_text(st->s->model->tok, id);
	out = text + n;
	length = unpu_utf8_stream_push(&st->utf8, text, (size_t)n, out);
	stop = st->fn(st->arg, id, out, length);
	free(large);
	return stop ? UNPU_REASON_CALLBACK : 0;
}

static void stream_flush(struct stream *st)
{
	char out[4];
	size_t n = unpu_utf8_stream_flush(&st->utf8, out);

	if (n && st->fn)
		st->fn(st->arg, UINT32_MAX, out, n);
}

static bool no_text_yet(struct unpu_session *s)
{
	for (uint32_t i = 0; i < s->used; i++)
		if (has_text(s->model->tok, unpu_session_history(s)[i]))
			return false;
	return true;
}

/* Have the device sample up to `want` tokens more; *made is how many stand in history now. */
static int sample_some(struct unpu_session *s, uint32_t want, uint32_t *made)
{
	volatile struct unpu_state_header *header = unpu_session_state(s);
	uint32_t before = header->ring_head;
	int ret = 0;

	if (!s->row_ready && !s->logits_ready) {
		if (s->evaluated == s->used)
			s->evaluated--;	/* logits were given up: the last token again */
		ret = unpu_session_evaluate(s);
	}
	if (ret)
		return ret;
	if (s->row_ready) {
		uint32_t best = s->model->weights->info.tokens_per_submit;

		ret = unpu_session_run(s, UNPU_PROGRAM_DECODE, want < best ? want : best);
	} else {
		ret = unpu_session_run(s, UNPU_PROGRAM_SAMPLE, 1);
	}
	*made = header->ring_head - before;
	if (!ret && (*made == 0 || *made > s->context - s->used))
		ret = unpu_fail(&s->model->log, -EIO,
				"%s sampled %u tokens where up to %u were due", s->dev->id, *made,
				want);
	/* Of what stands in history now, all but the newest token has been through the layers. */
	s->logits_ready = false;
	s->row_ready = !ret && header->stop == 0;
	return ret;
}

static bool ends_text(const struct unpu_session *s, uint32_t id)
{
	return !(s->flags & UNPU_SESSION_NO_END) && unpu_tokenizer_is_eog(s->model->tok, id);
}

static int generate(struct unpu_session *s, size_t max, struct stream *st)
{
	for (size_t done = 0; done < max;) {
		uint32_t room = s->context - s->used, made, id;
		uint32_t want = max - done < room ? (uint32_t)(max - done) : room;
		int ret;

		if (!room)
			return UNPU_REASON_CONTEXT;
		ret = sample_some(s, want, &made);
		if (ret)
			return ret;
		for (uint32_t i = 0; i < made; i++) {
			id = unpu_session_history(s)[s->used];
			s->evaluated = s->used++;
			done++;
			s->generated_tokens++;
			ret = ends_text(s, id) ? UNPU_REASON_END : stream_token(st, id);
			if (ret) {
				/* The device may have gone on from the tokens after this one. */
				s->row_ready = s->row_ready && i + 1 == made;
				return ret;
			}
		}
	}
	return UNPU_REASON_LENGTH;
}

int unpu_session_generate(struct unpu_session *s, size_t max, unpu_token_fn *fn, void *arg)
{
	struct stream st = { .s = s, .fn = fn, .arg = arg };
	uint64_t start = unpu_now_ns();
	int ret;

	if (!s->used)
		return unpu_fail(&s->model->log, -EINVAL,
				 "there is nothing to continue: the session has no tokens");
	st.begins = unpu_tokenizer_space_prefix(s->model->tok) && no_text_yet(s);
	ret = generate(s, max, &st);
	if (ret >= 0)
		stream_flush(&st);
	s->generate_ns += unpu_now_ns() - start;
	return ret;
}
