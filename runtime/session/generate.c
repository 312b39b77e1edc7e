/* SPDX-License-Identifier: MIT */
/* Tokens sampled by the device, and why they end. */
#include <errno.h>

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

/*
 * Have the device sample up to `want` tokens more; *made is how many stand in history now, 0 when
 * the job was cut. -ECANCELED.
 */
static int sample_some(struct unpu_session *s, uint32_t want, uint32_t *made)
{
	volatile struct unpu_state_header *header = unpu_session_state(s);
	uint32_t best = s->model->weights->info.tokens_per_submit, before;
	int ret = make_ready(s);

	*made = 0;
	ret = ret ? ret : unpu_session_begin(s);
	if (ret)
		return ret;
	want = !s->row_ready ? 1 : want < best ? want : best;
	before = header->ring_head;
	ret = unpu_session_run(s, s->row_ready ? UNPU_PROGRAM_DECODE : UNPU_PROGRAM_SAMPLE, want);
	*made = header->ring_head - before;
	if (!ret && (*made > want || (!*made && !unpu_session_cut(s))))
		ret = unpu_fail(&s->model->log, -EIO,
				"%s sampled %u tokens where up to %u were due", s->dev->id, *made,
				want);
	/* Of what stands in history now, all but the newest token has been through the layers. */
	if (ret || *made)
		s->logits_ready = false;
	s->row_ready = !ret && *made && !unpu_session_stopped(s);
	return ret;
}

static bool ends_text(const struct unpu_session *s, uint32_t id)
{
	return !(s->set.flags & UNPU_SESSION_NO_END) && unpu_tokenizer_is_eog(s->model->tok, id);
}

/* The next token of history joins the session's: 0 to go on, a reason or -errno. */
static int take_token(struct unpu_session *s, unpu_token_fn *fn, void *arg)
{
	uint32_t id = ((volatile uint32_t *)unpu_session_history(s))[s->used];
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

static int generate(struct unpu_session *s, size_t max, unpu_token_fn *fn, void *arg)
{
	for (size_t done = 0; done < max;) {
		uint32_t room = s->context - s->used, made;
		uint32_t want = max - done < room ? (uint32_t)(max - done) : room;
		int ret;

		if (!room)
			return UNPU_REASON_CONTEXT;
		ret = sample_some(s, want, &made);
		if (ret)
			return ret == -ECANCELED ? UNPU_REASON_CANCELLED : ret;
		done += made;
		for (uint32_t i = 0; i < made; i++) {
			ret = take_token(s, fn, arg);
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
	uint64_t start = unpu_now_ns();
	int ret;

	if (unpu_session_cancelled(s))
		return UNPU_REASON_CANCELLED;
	if (!s->used)
		return unpu_fail(&s->model->log, -EINVAL,
				 "there is nothing to continue: the session has no tokens");
	unpu_text_begin(s);
	ret = generate(s, max, fn, arg);
	/* A text that ends by itself takes along the cancel that came meanwhile. */
	if (ret == UNPU_REASON_END || ret == UNPU_REASON_STOP || ret == UNPU_REASON_CONTEXT)
		unpu_session_uncancel(s);
	if (ret == UNPU_REASON_END || ret == UNPU_REASON_CONTEXT)
		unpu_session_flush(s, fn, arg);
	s->generate_ns += unpu_now_ns() - start;
	return ret;
}
