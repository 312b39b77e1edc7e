/* SPDX-License-Identifier: MIT */
/*
 * Drafts: where the session's last tokens stood before, what followed them then is likely to follow
 * again (prompt lookup). The model looks at the last token and its drafts in one run, a row each,
 * which costs little more than one row where memory is what takes the time. Every row is sampled as
 * if the tokens before it were right; as long as they are, so is it.
 *
 * The text is the same as without drafts: a row's logits do not depend on the rows beside it, and a
 * draw depends on the seed, the place and the tokens before it, penalties included (sample's rows
 * go in order, so each finds its predecessor's token in the history). What rejected rows have
 * written, cells and history, lies behind the session's end and is written again.
 */
#include <errno.h>
#include <string.h>

#include "runtime/session/session.h"

/* Tokens that must be alike for a draft, and how many are looked at for the best place. */
#define LEAST_MATCH	2u
#define MOST_MATCH	8u
/* Steps without drafts after steps whose drafts were all wrong. */
#define LONGEST_PAUSE	16u

bool unpu_session_drafts(const struct unpu_session *s)
{
	return s->set.speculate && s->batch > 1 && s->pure;
}

bool unpu_session_speculates(const struct unpu_session *s)
{
	return unpu_session_drafts(s) && !s->in_flight && !s->logits_ready &&
	       s->evaluated + 1 == s->used;
}

/* How many tokens before `end` are those at the session's end. */
static uint32_t match(const struct unpu_session *s, uint32_t end)
{
	const uint32_t *tokens = s->tokens;
	uint32_t n = 0;

	while (n < MOST_MATCH && n < end && tokens[end - 1 - n] == tokens[s->used - 1 - n])
		n++;
	return n;
}

/* Of equally good places the last one. */
static uint32_t draft(const struct unpu_session *s, uint32_t count, uint32_t *ids)
{
	uint32_t best = LEAST_MATCH - 1, from = 0;

	for (uint32_t end = s->used - 1; count && end && best < MOST_MATCH; end--) {
		uint32_t n = match(s, end);

		if (n > best) {
			best = n;
			from = end;
		}
	}
	if (!from)
		return 0;
	/* What repeats with a short period goes on into its own drafts. */
	for (uint32_t i = 0; i < count; i++)
		ids[i] = from + i < s->used ? s->tokens[from + i] : ids[from + i - s->used];
	return count;
}

/* As many drafts as there is room for, a row is left for the last token, and lately were right. */
static uint32_t next_drafts(struct unpu_session *s, size_t left, uint32_t *ids)
{
	uint32_t most = s->context - s->used;

	if (s->draft_wait) {
		s->draft_wait--;
		return 0;
	}
	if (left < most)
		most = (uint32_t)left;
	if (s->batch < most)
		most = s->batch;
	return draft(s, most - 1 < s->draft_count ? most - 1 : s->draft_count, ids);
}

static void adapt(struct unpu_session *s, uint32_t drafts, uint32_t right)
{
	s->drafted += drafts;
	s->drafts_right += right;
	s->right_now = right;
	if (!drafts)
		return;
	if (right == drafts)
		s->draft_count *= 2;
	else if (right < drafts / 2)
		s->draft_count = right + 1;
	if (s->draft_count > s->set.speculate)
		s->draft_count = s->set.speculate;
	if (right)
		s->draft_pause = 0;
	else
		s->draft_pause = s->draft_pause ? s->draft_pause * 2 : 1;
	if (s->draft_pause > LONGEST_PAUSE)
		s->draft_pause = LONGEST_PAUSE;
	s->draft_wait = s->draft_pause;
}

static void put_rows(struct unpu_session *s, const uint32_t *ids, uint32_t drafts)
{
	memcpy(unpu_session_history(s) + s->used, ids, drafts * sizeof(*ids));
	for (uint32_t i = 0; i <= drafts; i++)
		unpu_session_set_row(s, i, i ? ids[i - 1] : s->tokens[s->used - 1],
				     s->used - 1 + i, UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE, i);
	unpu_session_state(s)->rows_live = drafts + 1;
	s->ring_head = unpu_session_state(s)->ring_head;
}

/* What the rows gave, as far as the drafts before them were right; nothing when it was cut. */
static int take_rows(struct unpu_session *s, const uint32_t *ids, uint32_t drafts, uint32_t *made)
{
	uint32_t all = __atomic_load_n(&unpu_session_state(s)->ring_head, __ATOMIC_RELAXED) -
		       s->ring_head, *tokens = s->tokens + s->used, right = 0;

	if (all != drafts + 1 && unpu_session_cut(s))
		return 0;
	/* Which row gave no finite logits nobody knows: the step is done again without drafts,
	 * which adapt() sees to. */
	if (drafts && unpu_session_state(s)->fault == UNPU_STATE_FAULT_VALUE) {
		adapt(s, drafts, 0);
		return 0;
	}
	if (all != drafts + 1)
		return unpu_session_blame(s, -EIO, "%s sampled %u tokens where %u were due",
					  s->dev->id, all, drafts + 1);
	memcpy(tokens, unpu_session_history(s) + s->used, all * sizeof(*tokens));
	while (right < drafts && tokens[right] == ids[right])
		right++;
	if (!s->home->last && tokens[right] >= s->model->arch->hp.vocab)
		return unpu_session_blame(s, -EIO, "%s sampled token %u of a vocabulary of %u",
					  s->dev->id, tokens[right], s->model->arch->hp.vocab);
	adapt(s, drafts, right);
	*made = right + 1;
	return 0;
}

/* A text that ends has no use for the drafts behind its end, right as they may be. */
void unpu_session_drafts_taken(struct unpu_session *s, uint32_t taken)
{
	if (s->right_now > taken)
		s->drafts_right -= s->right_now - taken;
	s->right_now = 0;
}

int unpu_session_speculate(struct unpu_session *s, size_t left, uint32_t *made)
{
	uint32_t ids[UNPU_MAX_SPECULATE], drafts;
	int ret = unpu_session_begin(s);

	*made = 0;
	if (ret)
		return ret;
	s->row_ready = false;
	drafts = next_drafts(s, left, ids);
	put_rows(s, ids, drafts);
	s->guessing = drafts;
	ret = unpu_session_start(s, UNPU_PROGRAM_SPECULATE, 1);
	ret = ret ? ret : unpu_session_wait(s);
	s->guessing = false;
	ret = ret ? ret : take_rows(s, ids, drafts, made);
	return unpu_session_settle(s, ret);
}
