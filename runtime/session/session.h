/* SPDX-License-Identifier: MIT */
/*
 * What stands behind struct unpu_session; for the files of this folder.
 *
 * history[0..used) are the session's tokens, of which [0..evaluated) have their K and V in the
 * cache. A token that was just sampled is not evaluated yet; the device holds its row and embedding
 * while `row_ready`, else the host sends it with the next prompt rows.
 */
#ifndef UNPU_SESSION_H
#define UNPU_SESSION_H

#include "runtime/core.h"
#include "runtime/plan/compile.h"

#define UNPU_SESSION_SLOT	0u	/* one sequence a session today */

enum {
	UNPU_PROGRAM_PROMPT, UNPU_PROGRAM_PROMPT_HEAD, UNPU_PROGRAM_SAMPLE, UNPU_PROGRAM_DECODE,
	UNPU_PROGRAM_LOGITS, UNPU_NUM_PROGRAMS
};

/* A buffer that several ranges share; ptr only when it is mapped. */
struct unpu_area {
	uint32_t handle;
	uint64_t bytes;
	uint8_t *ptr;
};

struct unpu_session {
	struct unpu_model *model;
	struct unpu_device *dev;
	uint32_t context, batch, flags;
	uint64_t seed;
	struct unpu_work work;
	struct unpu_compiler compiler;
	struct unpu_area window, scratch, kv;
	/* the path that hands out logits of every row; made on first use */
	struct unpu_work logits_work;
	struct unpu_compiler logits_compiler;
	struct unpu_area logits_area;
	uint32_t programs[UNPU_NUM_PROGRAMS];	/* 0: not made yet */
	uint32_t ctx_id, syncobj, decode_dispatches;
	uint32_t used, evaluated;
	bool logits_ready;	/* of the last token, in work.logits[0] */
	bool row_ready;		/* the device holds the last token's row and embedding */
	uint64_t prompt_tokens, prompt_ns, generated_tokens, generate_ns;
};

uint64_t unpu_now_ns(void);

static inline volatile struct unpu_state_header *unpu_session_state(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset);
}

static inline volatile struct unpu_state_row *unpu_session_rows(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset +
			unpu_state_rows_offset(s->work.shape.slots));
}

static inline uint32_t *unpu_session_history(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.history.offset);
}

/* ---- buffers.c ---- */

/* Give range a place in area; the area is created once all have theirs. */
void unpu_area_add(struct unpu_area *area, struct unpu_range *range, uint32_t align);
int unpu_area_create(struct unpu_session *s, struct unpu_area *area, bool mapped);
/* Leaves it as it was before unpu_area_add(). */
void unpu_area_destroy(struct unpu_session *s, struct unpu_area *area);

int unpu_session_buffers(struct unpu_session *s);
/* Makes the program on first use. */
int unpu_session_program(struct unpu_session *s, int which);

/* ---- evaluate.c ---- */

/* Run a program of the device, wait for it and judge how it went; -EIO was said. */
int unpu_session_run_id(struct unpu_session *s, uint32_t program_id, uint32_t repeat);
/* The same for UNPU_PROGRAM_*. */
int unpu_session_run(struct unpu_session *s, int which, uint32_t repeat);
/* Evaluate all of history that is not yet; the last token's logits are ready afterwards. */
int unpu_session_evaluate(struct unpu_session *s);

/* ---- sampler.c ---- */

int unpu_check_size(const struct unpu_log *log, size_t size, size_t want);
int unpu_sampler_check(const struct unpu_log *log, const struct unpu_session_params *p);
void unpu_sampler_write(struct unpu_session *s, const struct unpu_session_params *p);

#endif
