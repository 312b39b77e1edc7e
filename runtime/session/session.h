/* SPDX-License-Identifier: MIT */
/*
 * What stands behind struct unpu_session; for the files of this folder.
 *
 * tokens[0..used) are the session's, of which [0..evaluated) have their K and V in the cache. A
 * token that was just sampled is not evaluated yet; the device holds its row and embedding while
 * `row_ready`, else the host sends it with the next prompt rows.
 *
 * Whatever goes wrong or is cancelled leaves tokens[0..evaluated) in the cache; what is missing to
 * go on (`logits_ready`, `row_ready`) is made again by the next call that needs it.
 *
 * A device that fails and is not the last one is left (move.c): the session makes its buffers and
 * programs anew where the model is then, with nothing evaluated. What the device has to be told is
 * in the host's memory, too, so nothing that it may have spoiled is read.
 */
#ifndef UNPU_SESSION_H
#define UNPU_SESSION_H

#include "runtime/core.h"
#include "runtime/params.h"
#include "runtime/plan/compile.h"

#define UNPU_SESSION_SLOT	0u	/* one sequence a session today */

enum {
	UNPU_PROGRAM_PROMPT, UNPU_PROGRAM_PROMPT_HEAD, UNPU_PROGRAM_SAMPLE, UNPU_PROGRAM_DECODE,
	UNPU_PROGRAM_LOGITS, UNPU_PROGRAM_SPECULATE, UNPU_NUM_PROGRAMS
};

/*
 * A grid of attention counts the cells that a row may attend to: 256, 512, ... or, in the last
 * bucket and on devices whose grids follow what is live, all of the context.
 */
#define UNPU_NUM_BUCKETS	8u
#define UNPU_FIRST_BUCKET	256u

/* A buffer that several ranges share; ptr only when it is mapped. */
struct unpu_area {
	uint32_t handle;
	uint64_t bytes;
	uint8_t *ptr;
};

/* A path of its own for programs that need more rows of logits than the last one's. */
struct unpu_logits_path {
	struct unpu_work work;
	struct unpu_compiler compiler;
	struct unpu_area area;
};

/* Text on its way to the callback: whole characters that may be the beginning of a stop string. */
struct unpu_text {
	struct unpu_utf8_stream utf8;
	char *bytes;
	size_t held, room;
	bool begins;	/* SentencePiece: the space before the first word is no text */
};

/* Jobs that are submitted and not waited for, the oldest first: two where a device runs by itself,
 * so that it need not wait for us between them. */
#define UNPU_MAX_FLIGHTS	2u

struct unpu_flight {
	uint64_t seqno;
	uint32_t syncobj;
	uint32_t due;		/* tokens that it is to sample */
	bool decodes;		/* from a row that the device holds */
	bool behind;		/* another job */
};

/* Not an error: the session is on another device, where it has nothing evaluated. Begin again. */
#define UNPU_MOVED	1

struct unpu_session {
	struct unpu_model *model;
	struct unpu_home *home;
	struct unpu_device *dev;	/* these two are the home's */
	struct unpu_weights *weights;
	bool attached;		/* what follows is there: buffers, programs, context */
	uint32_t context, batch;
	bool pure;		/* rows of a job do not depend on each other here */
	enum unpu_kv kv_type;
	/* What the caller set; bias and stop point to the copies below. */
	struct unpu_session_params set;
	struct unpu_logit_bias bias[UNPU_MAX_BIAS];
	const char *stop[UNPU_MAX_STOP];
	char stop_text[UNPU_MAX_STOP][UNPU_MAX_STOP_LENGTH + 1];
	size_t stop_length[UNPU_MAX_STOP];
	struct unpu_work work;
	struct unpu_compiler compiler;
	/* the same buffers for one row: a grid counts rows that may be, not those that are */
	struct unpu_work decode_work;
	struct unpu_compiler decode_compiler;
	struct unpu_area window, scratch, kv;
	/* made on first use: for callers who want the logits of every row, and for drafts */
	struct unpu_logits_path logits, speculation;
	uint32_t programs[UNPU_NUM_PROGRAMS][UNPU_NUM_BUCKETS];	/* 0: not made yet */
	uint32_t ctx_id, decode_dispatches;
	uint32_t syncobjs[UNPU_MAX_FLIGHTS];	/* jobs take turns with them */
	bool ctx_failed;	/* it takes no more jobs: another one for the next */
	bool blamed;		/* the device failed and can be left: `why` */
	char why[288];
	struct unpu_flight flights[UNPU_MAX_FLIGHTS];
	uint32_t in_flight;
	uint64_t submits;
	uint64_t busy_ns, job_ns;	/* of the context; of the last job */
	uint32_t *tokens;
	uint32_t used, evaluated;
	bool logits_ready;	/* of the last token, in work.logits[0] */
	bool row_ready;		/* the device holds the last token's row and embedding */
	uint32_t burst;		/* tokens of a job, as far as it takes a good time */
	uint32_t ring_head;	/* before the oldest job that samples */
	/* How many drafts a step takes, how many steps take none, and how many after a bad one. */
	uint32_t draft_count, draft_wait, draft_pause;
	uint64_t drafted, drafts_right;
	uint32_t right_now;	/* of the last step, as long as nobody has taken its tokens */
	bool guessing;		/* the job that runs has drafts among its rows */
	/* Not 0: the call that runs, or the next one, ends. The stop word only brings it to the
	 * device: one that is found without this is passed over. Who cancels may be anywhere: the
	 * word goes when nobody is at it. */
	atomic_uint cancel, at_stop;
	_Atomic(uint32_t *) stop_word;	/* NULL: no buffers */
	struct unpu_text text;
	uint64_t rows;		/* that went through the layers for the host */
	uint64_t prompt_tokens, prompt_ns, generated_tokens, generate_ns;
};

static inline volatile struct unpu_state_header *unpu_session_state(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset);
}

static inline volatile struct unpu_state_row *unpu_session_rows(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset +
			unpu_state_rows_offset(s->work.shape.slots));
}

/* The device's copy of the tokens, and what it samples. */
static inline uint32_t *unpu_session_history(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.history.offset);
}

/* The model runs elsewhere by now: nothing that this device does counts. */
static inline bool unpu_session_is_left(struct unpu_session *s)
{
	return atomic_load(&s->home->left);
}

/* ---- buffers.c ---- */

/* Give range a place in area; the area is created once all have theirs. */
void unpu_area_add(struct unpu_area *area, struct unpu_range *range, uint32_t align);
int unpu_area_create(struct unpu_session *s, struct unpu_area *area, bool mapped);
/* Leaves it as it was before unpu_area_add(). */
void unpu_area_destroy(struct unpu_session *s, struct unpu_area *area);

int unpu_session_buffers(struct unpu_session *s);
/* Sizes of all buffers, by the device's limits and the session's context and KV type. */
int unpu_session_shape(struct unpu_session *s);
/* The bucket for rows that attend to so many cells. */
uint32_t unpu_session_bucket(const struct unpu_session *s, uint32_t cells);
/* Makes the program on first use. */
int unpu_session_program(struct unpu_session *s, int which, uint32_t bucket);

/* ---- job.c ---- */

uint64_t unpu_now_ns(void);
/*
 * Submit a program, and wait for the oldest job and judge how it went: -EIO and -ENOMEM were said,
 * or the device is blamed. Nothing else may be done with the buffers while one is in flight.
 */
int unpu_session_submit(struct unpu_session *s, uint32_t program_id, uint32_t repeat);
int unpu_session_wait(struct unpu_session *s);
/* Both. What its caller has made on the device must go before unpu_session_settle(). */
int unpu_session_run_id(struct unpu_session *s, uint32_t program_id, uint32_t repeat);
/* The same for UNPU_PROGRAM_*; the second submits, waits and settles. */
int unpu_session_start(struct unpu_session *s, int which, uint32_t repeat);
/* A second job behind the one that decodes or samples, when that leaves `used` tokens. */
int unpu_session_start_behind(struct unpu_session *s, int which, uint32_t repeat, uint32_t used);
int unpu_session_run(struct unpu_session *s, int which, uint32_t repeat);
/* Has the program there, wherever the session is then. Errors as unpu_session_run(). */
int unpu_session_need(struct unpu_session *s, int which);
/* Takes a cancel that came; true: the call must end. */
bool unpu_session_cancelled(struct unpu_session *s);
/* Before a job that the stop word may cut: clears it. -ECANCELED: there must be no job;
 * UNPU_MOVED; errors of moving. */
int unpu_session_begin(struct unpu_session *s);
/* The same while the session has no place to move to: false: there must be no job. */
bool unpu_session_begin_ahead(struct unpu_session *s);
/* The job that runs is to end where it is. */
void unpu_session_cut_short(struct unpu_session *s);
/* The job may not have run to its end: nothing it wrote counts but tokens it sampled. */
bool unpu_session_cut(struct unpu_session *s);
/* For this or another reason the device did not go on after what it sampled. */
bool unpu_session_stopped(struct unpu_session *s);

/* ---- move.c ---- */

/* Buffers, programs and context on the home's device, with the tokens and settings there are; and
 * without them. */
int unpu_session_attach(struct unpu_session *s);
void unpu_session_detach(struct unpu_session *s);
/* Where the model is now, for a session that is nowhere yet. */
void unpu_session_enter(struct unpu_session *s);
/* Of a new session: errors as unpu_session_create(), said. */
int unpu_session_attach_first(struct unpu_session *s);
/* A device that can be left failed: keeps why, else says it. Returns err. */
int unpu_session_blame(struct unpu_session *s, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* At the begin of what needs the device: 0, UNPU_MOVED or, said, -EIO and -ENOMEM. */
int unpu_session_ready(struct unpu_session *s);
/* At the end of a job that gave ret: UNPU_MOVED when that does not count, else ret. */
int unpu_session_settle(struct unpu_session *s, int ret);

/* ---- evaluate.c ---- */

/*
 * Evaluate all of history that is not yet; the last token's logits are ready afterwards. report: to
 * the caller's progress function. -ECANCELED, -EIO, -ENOMEM.
 */
int unpu_session_evaluate(struct unpu_session *s, bool report);
/* Row i of the next job: a token at its place. */
void unpu_session_set_row(struct unpu_session *s, uint32_t i, uint32_t token, uint32_t at,
			  uint32_t flags, uint32_t out);
/* After a call that runs tokens and began at start_ns, when s->rows was `rows`. */
void unpu_session_count(struct unpu_session *s, uint64_t start_ns, uint64_t rows);

/* ---- speculate.c ---- */

/* Whether there are drafts at all, and whether the next tokens may come from them. */
bool unpu_session_drafts(const struct unpu_session *s);
bool unpu_session_speculates(const struct unpu_session *s);
/* The last token and drafts behind it in one job: *made tokens, up to `left`, stand behind the
 * session's, 0 when it was cut. Errors as unpu_session_begin() and unpu_session_run(). */
int unpu_session_speculate(struct unpu_session *s, size_t left, uint32_t *made);
/* So many of the tokens that were made became the session's. */
void unpu_session_drafts_taken(struct unpu_session *s, uint32_t taken);

/* ---- history.c ---- */

/* -EINVAL or -ENOSPC unless the context holds `used` tokens and these. */
int unpu_session_check(struct unpu_session *s, uint32_t used, const uint32_t *ids, size_t count);
/* These are the tokens from `at` on, here and on the device. */
void unpu_session_put(struct unpu_session *s, uint32_t at, const uint32_t *ids, size_t count);
/* The first `used` of the tokens are left; text that waits stays. */
void unpu_session_shorten(struct unpu_session *s, uint32_t used);

/* ---- stream.c ---- */

/* A generation begins: is the next word the text's first? */
void unpu_text_begin(struct unpu_session *s);
/*
 * The text of a token joins what is held; the first *certain bytes of s->text.bytes may be given
 * then. 0, UNPU_REASON_STOP (what is held behind them is not text) or -errno.
 */
int unpu_text_push(struct unpu_session *s, uint32_t id, size_t *certain);
void unpu_text_given(struct unpu_session *s, size_t length);
/* What is held is dropped: the session's tokens changed. */
void unpu_text_drop(struct unpu_session *s);

/* ---- sampler.c ---- */

/* The caller's params as this library has them, all but their context, kv and batch checked. */
int unpu_sampler_read(const struct unpu_model *m, const struct unpu_log *log,
		      const struct unpu_session_params *from, struct unpu_session_params *p);
/* Checked params become the session's: copied, and written where the device reads them. */
void unpu_sampler_write(struct unpu_session *s, const struct unpu_session_params *p);
/* The second half of it, on a device that does not know them yet. */
void unpu_sampler_put(struct unpu_session *s);

#endif
