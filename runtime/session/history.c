/* SPDX-License-Identifier: MIT */
/* The session's tokens as a whole: read, shortened, replaced. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/session/session.h"

int unpu_session_check(struct unpu_session *s, uint32_t used, const uint32_t *ids, size_t count)
{
	const struct unpu_log *log = &s->model->log;
	uint32_t vocab = s->model->arch->hp.vocab;

	if (count > s->context - used)
		return unpu_fail(log, -ENOSPC,
				 "%zu tokens do not fit the context: %u of %u tokens are used",
				 count, used, s->context);
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= vocab)
			return unpu_fail(log, -EINVAL, "token %u is outside the vocabulary of %u",
					 ids[i], vocab);
	return 0;
}

void unpu_session_put(struct unpu_session *s, uint32_t at, const uint32_t *ids, size_t count)
{
	if (!count)
		return;
	if (ids != s->tokens + at)
		memcpy(s->tokens + at, ids, count * sizeof(*ids));
	if (s->attached)
		memcpy(unpu_session_history(s) + at, ids, count * sizeof(*ids));
}

void unpu_session_shorten(struct unpu_session *s, uint32_t used)
{
	s->used = used;
	/* Cells past the end are written again before they are read. */
	if (s->evaluated > used)
		s->evaluated = used;
	s->logits_ready = false;
	s->row_ready = false;
}

int unpu_session_rollback(struct unpu_session *s, uint32_t count)
{
	if (count > s->used)
		return unpu_fail(&s->model->log, -EINVAL,
				 "the session has %u tokens, not the %u to be kept", s->used,
				 count);
	if (count < s->used) {
		unpu_session_shorten(s, count);
		unpu_text_drop(s);
	}
	return 0;
}

int64_t unpu_session_tokens(const struct unpu_session *s, uint32_t first, uint32_t *ids, size_t max)
{
	uint32_t count = first < s->used ? s->used - first : 0;

	if (max > count)
		max = count;
	if (max)
		memcpy(ids, s->tokens + first, max * sizeof(*ids));
	return count;
}

static uint32_t common_prefix(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	uint32_t most = count < s->used ? (uint32_t)count : s->used, n = 0;

	while (n < most && s->tokens[n] == ids[n])
		n++;
	return n;
}

/* ids, of which the first `kept` are there, become the tokens; the last one's logits are ready. */
static int put_tokens(struct unpu_session *s, uint32_t kept, const uint32_t *ids, uint32_t count)
{
	if (kept < s->used)
		unpu_session_shorten(s, kept);
	if (kept < count) {
		unpu_session_put(s, kept, ids + kept, count - kept);
		s->used = count;
		s->logits_ready = false;
	}
	if (count && !s->logits_ready && s->evaluated == count)
		s->evaluated--;		/* its cells are there, its logits are not: it runs again */
	return unpu_session_evaluate(s, true);
}

int64_t unpu_session_replace(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	uint64_t start = unpu_now_ns(), rows = s->rows;
	uint32_t kept, before = s->used, *old = NULL;
	int ret;

	if (unpu_session_cancelled(s))
		return -ECANCELED;
	ret = unpu_session_check(s, 0, ids, count);
	if (ret)
		return ret;
	kept = common_prefix(s, ids, count);
	if (kept < before) {
		old = malloc((before - kept) * sizeof(*old));
		if (!old)
			return unpu_fail(&s->model->log, -ENOMEM, "no memory for %u tokens",
					 before - kept);
		memcpy(old, s->tokens + kept, (before - kept) * sizeof(*old));
	}
	ret = put_tokens(s, kept, ids, (uint32_t)count);
	if (ret) {
		unpu_session_shorten(s, kept);
		if (old)
			unpu_session_put(s, kept, old, before - kept);
		s->used = before;
	} else if (kept < before || kept < count) {
		unpu_text_drop(s);
	}
	free(old);
	unpu_session_count(s, start, rows);
	return ret ? ret : (int64_t)kept;
}
