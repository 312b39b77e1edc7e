/* SPDX-License-Identifier: MIT */
/* Tokens through the layers: prompts, and logits for callers who want them. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "runtime/session/session.h"

uint64_t unpu_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int check_job(struct unpu_session *s, uint64_t seqno)
{
	struct drm_unpu_ctx_query query = { .ctx_id = s->ctx_id };
	uint32_t fault = unpu_session_state(s)->fault;
	int ret = s->dev->ops->ctx_query(s->dev, &query);

	if (ret || query.failed_seqno >= seqno || query.state != DRM_UNPU_CTX_OK)
		return unpu_fail(&s->model->log, -EIO, "%s failed: %s", s->dev->id,
				 strerror(ret ? -ret : -query.failed_errno));
	if (fault & UNPU_STATE_FAULT_VALUE)
		return unpu_fail(&s->model->log, -EIO,
				 "the model gives logits that are not finite numbers");
	if (fault)
		return unpu_fail(&s->model->log, -EIO, "%s met a word out of range in the session",
				 s->dev->id);
	return 0;
}

int unpu_session_run_id(struct unpu_session *s, uint32_t program_id, uint32_t repeat)
{
	struct drm_unpu_run run = { .program_id = program_id, .repeat = repeat };
	struct drm_unpu_sync sync = { .handle = s->syncobj, .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit submit = {
		.ctx_id = s->ctx_id,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	int ret = s->dev->ops->submit(s->dev, &submit);

	ret = ret ? ret : s->dev->ops->syncobj_wait(s->dev, s->syncobj, 0, UINT64_MAX);
	if (ret == -EBUSY || ret == -ETIME)
		return unpu_fail(&s->model->log, -EIO, "%s does not run: %s", s->dev->id,
				 strerror(-ret));
	if (ret)
		return ret == -ENOMEM ? ret : -EIO;
	return check_job(s, submit.seqno);
}

int unpu_session_run(struct unpu_session *s, int which, uint32_t repeat)
{
	int ret = unpu_session_program(s, which);

	if (ret)
		return ret == -ENOMEM ? ret : -EIO;
	return unpu_session_run_id(s, s->programs[which], repeat);
}

static void set_row(struct unpu_session *s, uint32_t i, uint32_t at, uint32_t flags, uint32_t out)
{
	volatile struct unpu_state_row *row = &unpu_session_rows(s)[i];

	row->token = unpu_session_history(s)[at];
	row->position = at;
	row->cell = at;
	row->slot = UNPU_SESSION_SLOT;
	row->flags = flags;
	row->out = out;
}

static void begin_rows(struct unpu_session *s, uint32_t count)
{
	volatile struct unpu_state_header *header = unpu_session_state(s);

	header->rows_live = count;
	header->stop = 0;
	header->fault = 0;
}

int unpu_session_evaluate(struct unpu_session *s)
{
	s->row_ready = false;
	while (s->evaluated < s->used) {
		uint32_t left = s->used - s->evaluated, count = left < s->batch ? left : s->batch;
		bool last = count == left;
		int ret;

		begin_rows(s, count);
		for (uint32_t i = 0; i < count; i++)
			set_row(s, i, s->evaluated + i, last && i + 1 == count ?
				UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE : 0, 0);
		ret = unpu_session_run(s, last ? UNPU_PROGRAM_PROMPT_HEAD : UNPU_PROGRAM_PROMPT, 1);
		if (ret)
			return ret;
		s->evaluated += count;
		s->logits_ready = last;
	}
	return 0;
}

static int append(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	const struct unpu_log *log = &s->model->log;
	uint32_t vocab = s->model->arch->hp.vocab;

	if (count > s->context - s->used)
		return unpu_fail(log, -ENOSPC,
				 "%zu tokens do not fit the context: %u of %u tokens are used",
				 count, s->used, s->context);
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= vocab)
			return unpu_fail(log, -EINVAL, "token %u is outside the vocabulary of %u",
					 ids[i], vocab);
	memcpy(unpu_session_history(s) + s->used, ids, count * sizeof(*ids));
	s->used += (uint32_t)count;
	if (count)
		s->logits_ready = false;
	return 0;
}

/* What a call that failed had appended; cells past the end are written again before use. */
static void take_back(struct unpu_session *s, uint32_t used)
{
	s->used = used;
	if (s->evaluated > used)
		s->evaluated = used;
	s->logits_ready = false;
	s->row_ready = false;
}

int unpu_session_prompt(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	uint64_t start = unpu_now_ns();
	uint32_t before = s->used;
	int ret = append(s, ids, count);

	if (!ret) {
		ret = unpu_session_evaluate(s);
		if (ret)
			take_back(s, before);
	}
	s->prompt_ns += unpu_now_ns() - start;
	s->prompt_tokens += ret ? 0 : count;
	return ret;
}

int unpu_session_logits(struct unpu_session *s, const uint32_t *ids, size_t count, float *logits)
{
	uint64_t vocab = s->model->arch->hp.vocab;
	uint32_t first = s->used;
	int ret = unpu_session_program(s, UNPU_PROGRAM_LOGITS);

	if (ret)	/* before a token is appended; -ENOSPC would mean those */
		return ret == -ENOSPC ? -ENOMEM : ret;
	ret = append(s, ids, count);
	if (ret)
		return ret;
	s->row_ready = false;
	while (!ret && s->evaluated < s->used) {
		uint32_t left = s->used - s->evaluated, rows = left < s->batch ? left : s->batch;
		uint32_t out = 0;

		begin_rows(s, rows);
		for (uint32_t i = 0; i < rows; i++) {
			bool wanted = s->evaluated + i >= first;

			set_row(s, i, s->evaluated + i, wanted ? UNPU_ROW_LOGITS : 0, out);
			out += wanted;
		}
		ret = unpu_session_run(s, UNPU_PROGRAM_LOGITS, 1);
		if (ret)
			break;
		memcpy(logits, s->logits_area.ptr + s->logits_work.logits.offset,
		       out * vocab * sizeof(*logits));
		logits += out * vocab;
		s->evaluated += rows;
	}
	/* Generation samples from the other path's buffer: the last token goes through it again. */
	if (ret)
		take_back(s, first);
	else if (count)
		s->evaluated = s->used - 1;
	return ret;
}
