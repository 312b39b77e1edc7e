/* SPDX-License-Identifier: MIT */
/* Tokens sampled by the device, and why they end. */
#include <errno.h>
#include <string.h>

#include "runtime/session/session.h"

/* What sampling starts from: a row that the device advanced, or logits. */
static int make_ready(struct unpu_session *s)
{
	if (s->row_ready || s->logits_ready)
		return 0;
	if (s->evaluated == s->used)
		s->evaluated--;	/* logits were given up: the last token again */
	return unpu_session_evaluate(s, s->used - s->evaluated > 1);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

/*
 * A job takes as many tokens as it takes a good time for: text should neither come in bursts nor
 * wait for a submit each.
 */
#define SHORT_JOB_NS	100000000u
#define LONG_JOB_NS	200000000u

static void adapt_burst(struct unpu_session *s, uint32_t made)
{
	uint32_t best = s->weights->info.tokens_per_submit;

	if (made == s->burst && s->job_ns < SHORT_JOB_NS)
		s->burst *= 2;
	else if (s->job_ns > LONG_JOB_NS && s->burst > 1)
		s->burst /= 2;
	if (s->burst > best)
		s->burst = best;
}

/* Have the device sample up to `want` tokens more, of those that have a place in the context. */
static int sample_start(struct unpu_session *s, size_t want)
{
	bool decodes = s->row_ready;
	uint32_t most = decodes ? s->burst : 1;
	int ret;

	s->ring_head = unpu_session_state(s)->ring_head;
	ret = unpu_session_start(s, decodes ? UNPU_PROGRAM_DECODE : UNPU_PROGRAM_SAMPLE,
				 want < most ? (uint32_t)want : most);
	if (!ret)
		s->flights[0].decodes = decodes;
	return ret;
}

/* Tokens that the jobs in flight may sample. */
static uint32_t all_due(const struct unpu_session *s)
{
	uint32_t due = 0;

	for (uint32_t i = 0; i < s->in_flight; i++)
		due += s->flights[i].due;
	return due;
}

/*
 * There are `all` new tokens since the job began, of which `made` are its own: others are of what
 * has followed it meanwhile. When a text ends, what follows samples none.
 */
static int check_tokens(struct unpu_session *s, const struct unpu_flight *job, uint32_t all,
			uint32_t made)
{
	uint32_t vocab = s->model->arch->hp.vocab;
	bool none = unpu_session_cut(s) || (job->behind && unpu_session_stopped(s));

	if (all - made > all_due(s) || (!made && !none))
		return unpu_session_blame(s, -EIO, "%s sampled %u tokens where up to %u were due",
					  s->dev->id, all, job->due + all_due(s));
	memcpy(s->tokens + s->used, unpu_session_history(s) + s->used, made * sizeof(*s->tokens));
	for (uint32_t i = 0; i < made && !s->home->last; i++)
		if (s->tokens[s->used + i] >= vocab)
			return unpu_session_blame(s, -EIO, "%s sampled token %u of a vocabulary "
						  "of %u", s->dev->id, s->tokens[s->used + i],
						  vocab);
	return 0;
}

/* The end of the oldest job: *made tokens stand behind the session's, 0 when it was cut. */
static int sample_finish(struct unpu_session *s, uint32_t *made)
{
	const struct unpu_flight job = s->flights[0];
	int ret = unpu_session_wait(s);
	uint32_t all = __atomic_load_n(&unpu_session_state(s)->ring_head, __ATOMIC_RELAXED) -
		       s->ring_head;

	*made = all < job.due ? all : job.due;
	ret = ret ? ret : check_tokens(s, &job, all, *made);
	s->ring_head += *made;
	/* Of what stands in history now, all but the newest token has been through the layers. */
	if (ret || *made || job.decodes)
		s->logits_ready = false;
	s->row_ready = !ret && *made && !unpu_session_stopped(s);
	if (!ret)
		adapt_burst(s, *made);
	return unpu_session_settle(s, ret);
}

/* ---- tokens --------------------------------------------------------------------------------- */

static bool ends_text(const struct unpu_session *s, uint32_t id)
{
	return !(s->set.flags & UNPU_SESSION_NO_END) && unpu_tokenizer_is_eog(s->model->tok, id);
}

/* The next token of history joins the session's: 0 to go on, a reason or -errno. */
static int take_token(struct unpu_session *s, unpu_token_fn *fn, void *arg)
{
	uint32_t id = s->tokens[s->used];
	size_t certain;
	int ret, end = 0;

	if (id >= s->model->arch->hp.vocab) {
		s->row_ready = false;	/* what the device goes on from is no token of ours */
		return unpu_fail(&s->model->log, -EIO, "%s sampled token %u of a vocabulary of %u",
				 s->dev->id, id, s->model->arch->hp.vocab);
	}
	s->evaluated = s->used++;
	s->generated_tokens++;
	if (ends_text(s, id))
		return UNPU_REASON_END;
	ret = unpu_text_push(s, id, &certain);
	if (ret < 0) {
		/* The caller never hears of it: it is sampled again. */
		unpu_session_shorten(s, s->used - 1);
		s->generated_tokens--;
		return ret;
	}
	if (fn)
		end = fn(arg, id, s->text.bytes, certain);
	unpu_text_given(s, certain);
	if (ret == UNPU_REASON_STOP) {
		unpu_text_drop(s);
		return ret;
	}
	if (unpu_session_cancelled(s))
		return UNPU_REASON_CANCELLED;
	return end ? UNPU_REASON_CALLBACK : 0;
}

/* ---- the text ------------------------------------------------------------------------------- */

/* How many more of `left` tokens the context has room for. */
static size_t room_for(const struct unpu_session *s, uint32_t used, size_t left)
{
	size_t room = s->context - used;

	return left < room ? left : room;
}

static int begin(struct unpu_session *s, size_t left)
{
	int ret = make_ready(s);

	ret = ret ? ret : unpu_session_begin(s);
	if (ret)
		return ret;
	ret = sample_start(s, room_for(s, s->used, left));
	return ret ? unpu_session_settle(s, ret) : 0;
}

/* Whether the text may go on behind tokens that nobody has seen yet. */
static bool goes_on(const struct unpu_session *s, uint32_t made)
{
	for (uint32_t i = 0; i < made; i++)
		if (ends_text(s, s->tokens[s->used + i]))
			return false;
	return true;
}

static bool runs_by_itself(const struct unpu_session *s)
{
	const struct drm_unpu_dev_info *info = &s->weights->info;

	return info->tokens_per_submit > 1 && info->max_queued_jobs > 1 &&
	       !(info->features & DRM_UNPU_FEATURE_WAIT_RUNS);
}

/* Behind the job in flight, of which nobody knows yet how it ends. */
static int start_behind(struct unpu_session *s, uint32_t used, size_t left)
{
	int ret = unpu_session_start_behind(s, UNPU_PROGRAM_DECODE,
					    left < s->burst ? (uint32_t)left : s->burst, used);

	if (!ret) {
		s->flights[s->in_flight - 1].decodes = true;
		s->flights[s->in_flight - 1].behind = true;
	}
	return ret;
}

/*
 * A device that runs by itself has its next two jobs before the last one's `made` tokens are given
 * to the caller: it need not wait for anybody.
 */
static int run_ahead(struct unpu_session *s, uint32_t made, size_t left)
{
	int ret = 0;

	/* What follows drafts is known only when they are. */
	if (unpu_session_drafts(s) || !runs_by_itself(s) || !goes_on(s, made))
		return 0;
	while (!ret && s->in_flight < UNPU_MAX_FLIGHTS) {
		uint32_t due = all_due(s), used = s->used + made + due;
		size_t want = due < left ? room_for(s, used, left - due) : 0;

		if (!want)
			return 0;
		if (s->in_flight) {
			if (unpu_session_is_left(s) || unpu_session_stopped(s))
				return 0;
			ret = start_behind(s, used, want);
		} else {
			if (!s->row_ready || !unpu_session_begin_ahead(s))
				return 0;
			ret = sample_start(s, want);
		}
	}
	return ret;
}

/* The text has ended before the jobs that run: what they write is behind the session's end. */
static void give_up_ahead(struct unpu_session *s)
{
	if (!s->in_flight)
		return;
	unpu_session_cut_short(s);
	while (s->in_flight)
		unpu_session_wait(s);
	s->row_ready = false;
	s->logits_ready = false;
}

static int take_tokens(struct unpu_session *s, uint32_t made, unpu_token_fn *fn, void *arg)
{
	uint32_t i = 0;
	int ret = 0;

	while (i < made && !ret) {
		ret = take_token(s, fn, arg);
		i++;
	}
	/* The device may have gone on from the tokens after this one. */
	if (i < made)
		s->row_ready = false;
	unpu_session_drafts_taken(s, i);
	return ret;
}

/* Tokens of the oldest of the jobs that there are then. UNPU_MOVED: begin again. */
static int next_tokens(struct unpu_session *s, size_t left, uint32_t *made)
{
	int ret;

	if (unpu_session_speculates(s))
		return unpu_session_speculate(s, left, made);
	ret = s->in_flight ? 0 : begin(s, left);
	if (ret)
		return ret;
	ret = run_ahead(s, 0, left);
	return ret ? unpu_session_settle(s, ret) : sample_finish(s, made);
}

/* Jobs are left in flight where a text ends early. */
static int generate(struct unpu_session *s, size_t max, unpu_token_fn *fn, void *arg)
{
	for (size_t left = max; left;) {
		uint32_t made = 0;
		int ahead, ret;

		if (s->used == s->context)
			return UNPU_REASON_CONTEXT;
		ret = next_tokens(s, left, &made);
		if (ret == UNPU_MOVED)
			continue;
		if (ret)
			return ret == -ECANCELED ? UNPU_REASON_CANCELLED : ret;
		left -= made;
		ahead = run_ahead(s, made, left);
		ret = take_tokens(s, made, fn, arg);
		if (ret)
			return ret;
		if (ahead && (ret = unpu_session_settle(s, ahead)) != UNPU_MOVED)
			return ret;
	}
	return UNPU_REASON_LENGTH;
}

int unpu_session_generate(struct unpu_session *s, size_t max, unpu_token_fn *fn, void *arg)
{
	uint64_t start = unpu_now_ns();
	int ret;

	if (unpu_session_cancelled(s))
		return UNPU_REASON_CANCELLED;
	if (!s->used)
		return unpu_fail(&s->model->log, -EINVAL,
				 "there is nothing to continue: the session has no tokens");
	unpu_text_begin(s);
	ret = generate(s, max, fn, arg);
	give_up_ahead(s);
	/* A text that ends by itself takes along the cancel that came meanwhile. */
	if (ret == UNPU_REASON_END || ret == UNPU_REASON_STOP || ret == UNPU_REASON_CONTEXT)
		unpu_session_uncancel(s);
	if (ret == UNPU_REASON_END || ret == UNPU_REASON_CONTEXT)
		unpu_session_flush(s, fn, arg);
	s->generate_ns += unpu_now_ns() - start;
	return ret;
}
