/* SPDX-License-Identifier: MIT */
/* Jobs of a session: run, judged, cancelled. */
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

/* A context that hung or was lost stays so; buffers and programs live on. */
static int renew_ctx(struct unpu_session *s)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_ctx_destroy old = { .ctx_id = s->ctx_id };
	int ret;

	if (s->ctx_id)	/* first, or there may be one too many */
		s->dev->ops->ctx_destroy(s->dev, &old);
	s->ctx_id = 0;
	ret = s->dev->ops->ctx_create(s->dev, &ctx);
	if (ret)
		return ret;
	s->ctx_id = ctx.ctx_id;
	s->ctx_failed = false;
	s->busy_ns = 0;
	return 0;
}

static int submit(struct unpu_session *s, uint32_t program_id, uint32_t repeat)
{
	struct drm_unpu_run run = { .program_id = program_id, .repeat = repeat };
	struct drm_unpu_sync sync = { .handle = s->syncobjs[s->submits % UNPU_MAX_FLIGHTS],
				      .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit args = {
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	int ret = s->ctx_failed ? renew_ctx(s) : 0;

	args.ctx_id = s->ctx_id;
	/* What an earlier job left there is not this one's. */
	if (!s->in_flight)
		unpu_session_state(s)->fault = 0;
	ret = ret ? ret : s->dev->ops->submit(s->dev, &args);
	if (ret)
		return ret;
	s->flights[s->in_flight++] = (struct unpu_flight){
		.seqno = args.seqno, .syncobj = sync.handle, .due = repeat,
	};
	s->submits++;
	return 0;
}

/* A call for a job failed, which the device has said, but what is no mistake there. */
static int call_failed(struct unpu_session *s, int err)
{
	s->ctx_failed = true;
	if (err == -EBUSY || err == -ETIME)
		return unpu_session_blame(s, -EIO, "%s does not run: %s", s->dev->id,
					  strerror(-err));
	if (!s->home->last)
		unpu_session_blame(s, err, "%s failed: %s", s->dev->id, strerror(-err));
	return err == -ENOMEM ? err : -EIO;
}

int unpu_session_submit(struct unpu_session *s, uint32_t program_id, uint32_t repeat)
{
	int ret = submit(s, program_id, repeat);

	return ret ? call_failed(s, ret) : 0;
}

/* A device that is not the last one has no part in what the model gives: the next one will say. */
static int check_fault(struct unpu_session *s)
{
	uint32_t fault = __atomic_load_n(&unpu_session_state(s)->fault, __ATOMIC_RELAXED);

	/* What comes of a token that the text will not have is no fault of the model's. */
	if (fault == UNPU_STATE_FAULT_VALUE && s->guessing && s->home->last)
		return 0;
	if (fault & UNPU_STATE_FAULT_VALUE)
		return unpu_session_blame(s, -EIO, s->home->last ?
					  "the model gives logits that are not finite numbers" :
					  "%s gives logits that are not finite numbers",
					  s->dev->id);
	if (fault)
		return unpu_session_blame(s, -EIO, "%s met a word out of range in the session",
					  s->dev->id);
	return 0;
}

static int check_job(struct unpu_session *s, uint64_t seqno)
{
	struct drm_unpu_ctx_query query = { .ctx_id = s->ctx_id };
	int ret = s->dev->ops->ctx_query(s->dev, &query);
	bool failed = ret || query.state != DRM_UNPU_CTX_OK;

	s->ctx_failed |= failed;
	if (failed || query.failed_seqno >= seqno)
		return unpu_session_blame(s, -EIO, "%s failed: %s", s->dev->id,
					  strerror(ret ? -ret : -query.failed_errno));
	s->job_ns = query.busy_ns - s->busy_ns;
	s->busy_ns = query.busy_ns;
	return check_fault(s);
}

int unpu_session_wait(struct unpu_session *s)
{
	const struct unpu_flight job = s->flights[0];
	int ret = s->dev->ops->syncobj_wait(s->dev, job.syncobj, 0, UINT64_MAX);

	s->flights[0] = s->flights[1];
	s->in_flight--;
	return ret ? call_failed(s, ret) : check_job(s, job.seqno);
}

int unpu_session_run_id(struct unpu_session *s, uint32_t program_id, uint32_t repeat)
{
	int ret = unpu_session_submit(s, program_id, repeat);

	return ret ? ret : unpu_session_wait(s);
}

/* Programs that are made on first use. */
static int make_program(struct unpu_session *s, int which, uint32_t bucket)
{
	int ret = unpu_session_program(s, which, bucket);

	if (ret && !s->home->last)
		unpu_session_blame(s, ret, "%s failed: %s", s->dev->id, strerror(-ret));
	return !ret ? 0 : ret == -ENOSPC || ret == -ENOMEM ? -ENOMEM : -EIO;
}

int unpu_session_need(struct unpu_session *s, int which)
{
	int ret = unpu_session_ready(s);

	while (ret >= 0) {
		ret = make_program(s, which, unpu_session_bucket(s, s->used));
		if (!ret)
			break;
		ret = unpu_session_settle(s, ret);
	}
	return ret;
}

/* How many cells the rows that stand in the state buffer attend to, `repeat` tokens on. */
static uint32_t cells_of(struct unpu_session *s, uint32_t repeat)
{
	uint32_t live = unpu_session_state(s)->rows_live, cells = 0;

	if (live > s->work.shape.rows)
		live = s->work.shape.rows;
	for (uint32_t i = 0; i < live; i++) {
		uint32_t cell = unpu_session_rows(s)[i].cell;

		if (cell >= s->work.shape.cells)
			cell = s->work.shape.cells - 1;
		if (cell + repeat > cells)
			cells = cell + repeat;
	}
	return cells;
}

static int start(struct unpu_session *s, int which, uint32_t repeat, uint32_t cells)
{
	uint32_t bucket = unpu_session_bucket(s, cells);
	int ret = make_program(s, which, bucket);

	return ret ? ret : unpu_session_submit(s, s->programs[which][bucket], repeat);
}

int unpu_session_start(struct unpu_session *s, int which, uint32_t repeat)
{
	return start(s, which, repeat, cells_of(s, repeat));
}

/* The state is the running job's: what it will be is known from here. */
int unpu_session_start_behind(struct unpu_session *s, int which, uint32_t repeat, uint32_t used)
{
	return start(s, which, repeat, used - 1 + repeat);
}

int unpu_session_run(struct unpu_session *s, int which, uint32_t repeat)
{
	int ret = unpu_session_start(s, which, repeat);

	ret = ret ? ret : unpu_session_wait(s);
	return unpu_session_settle(s, ret);
}

/* ---- cancelling --------------------------------------------------------------------------- */

static uint32_t *stop_word(struct unpu_session *s)
{
	return (uint32_t *)&unpu_session_state(s)->stop;
}

bool unpu_session_cancelled(struct unpu_session *s)
{
	return atomic_load(&s->cancel) && atomic_exchange(&s->cancel, 0);
}

/*
 * The word is cleared before the flag is looked at, and unpu_session_cancel() writes them the other
 * way round: a cancel that the look misses writes the word once it is cleared, for the job to see.
 */
static void clear_stop(struct unpu_session *s)
{
	/* No exchange: the memory of GPUs on boards is not cached, and there ARM's exclusive and
	 * atomic instructions may never succeed, or fault. */
	__atomic_store_n(stop_word(s), 0, __ATOMIC_SEQ_CST);
	/* Emulators of ARM on x86 let the look at the flag pass a release store, but not this. */
	atomic_fetch_add(&s->at_stop, 0);
}

int unpu_session_begin(struct unpu_session *s)
{
	int ret = unpu_session_ready(s);

	if (ret)
		return ret;
	clear_stop(s);
	return unpu_session_cancelled(s) ? -ECANCELED : 0;
}

bool unpu_session_begin_ahead(struct unpu_session *s)
{
	if (unpu_session_is_left(s))
		return false;
	clear_stop(s);
	return !atomic_load(&s->cancel);
}

void unpu_session_cut_short(struct unpu_session *s)
{
	__atomic_store_n(stop_word(s), UNPU_STOP_CANCEL, __ATOMIC_SEQ_CST);
}

bool unpu_session_cut(struct unpu_session *s)
{
	return __atomic_load_n(stop_word(s), __ATOMIC_SEQ_CST) == UNPU_STOP_CANCEL;
}

bool unpu_session_stopped(struct unpu_session *s)
{
	return __atomic_load_n(stop_word(s), __ATOMIC_SEQ_CST) != 0;
}

/* From any thread or signal handler: while it is at the word, that stays where it is. */
void unpu_session_cancel(struct unpu_session *s)
{
	uint32_t *word;

	atomic_store(&s->cancel, 1);
	atomic_fetch_add(&s->at_stop, 1);
	word = atomic_load(&s->stop_word);
	if (word)
		__atomic_store_n(word, UNPU_STOP_CANCEL, __ATOMIC_SEQ_CST);
	atomic_fetch_sub(&s->at_stop, 1);
}

void unpu_session_uncancel(struct unpu_session *s)
{
	atomic_store(&s->cancel, 0);
}
