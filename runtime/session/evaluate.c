/* SPDX-License-Identifier: MIT */
/* Tokens through the layers: prompts, and logits for callers who want them. */
#include <errno.h>
#include <string.h>

#include "runtime/session/session.h"

void unpu_session_set_row(struct unpu_session *s, uint32_t i, uint32_t token, uint32_t at,
			  uint32_t flags, uint32_t out)
{
	volatile struct unpu_state_row *row = &unpu_session_rows(s)[i];

	row->token = token;
	row->position = at;
	row->cell = at;
	row->slot = UNPU_SESSION_SLOT;
	row->flags = flags;
	row->out = out;
}

static void set_row(struct unpu_session *s, uint32_t i, uint32_t at, uint32_t flags, uint32_t out)
{
	unpu_session_set_row(s, i, s->tokens[at], at, flags, out);
}

static int begin_rows(struct unpu_session *s, uint32_t count)
{
	int ret = unpu_session_begin(s);

	if (!ret)
		unpu_session_state(s)->rows_live = count;
	return ret;
}

static uint32_t next_rows(const struct unpu_session *s)
{
	uint32_t left = s->used - s->evaluated;

	return left < s->batch ? left : s->batch;
}

/*
 * Rows went through the layers. Of the tokens that were not in the cache when the call began, from
 * `first` on, the caller hears; not of those that run again after a move.
 */
static int rows_done(struct unpu_session *s, uint32_t rows, uint32_t first, bool report)
{
	s->evaluated += rows;
	s->rows += rows;
	if (report && s->set.progress && s->evaluated > first &&
	    s->set.progress(s->set.progress_arg, s->evaluated - first, s->used - first))
		return -ECANCELED;
	return unpu_session_cancelled(s) ? -ECANCELED : 0;
}

int unpu_session_evaluate(struct unpu_session *s, bool report)
{
	uint32_t first = s->evaluated;
	int ret = 0;

	s->row_ready = false;
	while (!ret && s->evaluated < s->used) {
		uint32_t rows = next_rows(s);
		bool last = s->evaluated + rows == s->used;

		ret = begin_rows(s, rows);
		for (uint32_t i = 0; i < rows && !ret; i++)
			set_row(s, i, s->evaluated + i, last && i + 1 == rows ?
				UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE : 0, 0);
		if (!ret)
			ret = unpu_session_run(s, last ? UNPU_PROGRAM_PROMPT_HEAD :
					       UNPU_PROGRAM_PROMPT, 1);
		if (!ret && !unpu_session_cut(s)) {
			s->logits_ready = last;
			ret = rows_done(s, rows, first, report);
		}
		if (ret == UNPU_MOVED)
			ret = 0;
	}
	return ret;
}

void unpu_session_count(struct unpu_session *s, uint64_t start_ns, uint64_t rows)
{
	s->prompt_ns += unpu_now_ns() - start_ns;
	s->prompt_tokens += s->rows - rows;
}

static void append(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	if (!count)
		return;
	unpu_session_put(s, s->used, ids, count);
	s->used += (uint32_t)count;
	s->logits_ready = false;
}

/* 0 or -errno of a call that appended tokens to the first `before`. */
static int finish(struct unpu_session *s, uint32_t before, int ret)
{
	if (ret)
		unpu_session_shorten(s, before);
	else if (s->used > before)
		unpu_text_drop(s);
	return ret;
}

int unpu_session_prompt(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	uint64_t start = unpu_now_ns(), rows = s->rows;
	uint32_t before = s->used;
	int ret;

	if (unpu_session_cancelled(s))
		return -ECANCELED;
	ret = unpu_session_check(s, before, ids, count);
	if (ret || !count)
		return ret;
	append(s, ids, count);
	ret = unpu_session_evaluate(s, true);
	unpu_session_count(s, start, rows);
	return finish(s, before, ret);
}

/* The rows from `first` on are wanted: *out of these. */
static int logits_rows(struct unpu_session *s, uint32_t first, uint32_t rows, uint32_t *out)
{
	int ret = begin_rows(s, rows);

	*out = 0;
	for (uint32_t i = 0; i < rows && !ret; i++) {
		bool wanted = s->evaluated + i >= first;

		set_row(s, i, s->evaluated + i, wanted ? UNPU_ROW_LOGITS : 0, *out);
		*out += wanted;
	}
	return ret ? ret : unpu_session_run(s, UNPU_PROGRAM_LOGITS, 1);
}

static int evaluate_logits(struct unpu_session *s, uint32_t first, float *logits)
{
	size_t vocab = s->model->arch->hp.vocab;
	uint32_t begin = s->evaluated;	/* of progress; `first` is the next whose logits are due */
	int ret = 0;

	s->row_ready = false;
	while (!ret && s->evaluated < s->used) {
		uint32_t rows = next_rows(s), out;

		ret = logits_rows(s, first, rows, &out);
		if (!ret && !unpu_session_cut(s)) {
			memcpy(logits, s->logits.area.ptr + s->logits.work.logits.offset,
			       out * vocab * sizeof(*logits));
			logits += out * vocab;
			first += out;
			ret = rows_done(s, rows, begin, true);
		}
		if (ret == UNPU_MOVED)
			ret = 0;
	}
	return ret;
}

int unpu_session_logits(struct unpu_session *s, const uint32_t *ids, size_t count, float *logits)
{
	uint64_t start = unpu_now_ns(), rows = s->rows;
	uint32_t before = s->used;
	int ret;

	if (unpu_session_cancelled(s))
		return -ECANCELED;
	ret = unpu_session_check(s, before, ids, count);
	if (ret || !count)
		return ret;
	ret = unpu_session_need(s, UNPU_PROGRAM_LOGITS);
	if (ret)	/* before a token is appended */
		return ret;
	append(s, ids, count);
	ret = evaluate_logits(s, before, logits);
	unpu_session_count(s, start, rows);
	return finish(s, before, ret);
}
