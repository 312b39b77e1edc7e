/* SPDX-License-Identifier: MIT */
/*
 * A twin is what a shader is on the cpu: the same bindings, constants and results as
 * shaders/shaders.h says, computed by all threads of the pool together.
 */
#ifndef UNPU_CPU_TWIN_H
#define UNPU_CPU_TWIN_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/device/cpu/ops.h"
#include "runtime/device/cpu/pool.h"
#include "shaders/layout.h"

#define UNPU_CPU_MAX_ROWS	64u

/*
 * The live rows of the state buffer, each word read once and clamped: what the threads of a
 * dispatch see, so that they agree even while somebody writes to the buffer.
 */
struct unpu_view {
	uint32_t live;
	struct unpu_state_row rows[UNPU_CPU_MAX_ROWS];
};

/* What the words of a row are compared with; 0: this shader does not use the word. */
struct unpu_view_bounds {
	uint32_t rows, num_slots;	/* of the state buffer; 0 rows: the shader has none */
	uint32_t vocab, positions, cells, slots, out;
	uint32_t flags;		/* only rows with these flags are looked at; 0: all */
};

/* Reads the state buffer into view; sets UNPU_STATE_FAULT_INDEX there when a word is clamped. */
void unpu_view_read(struct unpu_view *view, struct unpu_state_header *state,
		    const struct unpu_view_bounds *bounds);
void unpu_state_fault(struct unpu_state_header *state, uint32_t fault);
/* value, or the largest below bound (> 0) and a fault. */
uint32_t unpu_state_clamp(struct unpu_state_header *state, uint32_t value, uint32_t bound);

struct unpu_twin_args {
	const struct unpu_cpu_ops *ops;
	const struct unpu_view *view;
	const void *spec, *constants;
	void *const *bindings;
	uint8_t *shared;	/* scratch of all threads, 64-byte aligned */
	uint8_t *local;		/* scratch of this thread, 64-byte aligned */
	uint32_t thread, threads;
	/* Where the units of this thread come from; NULL: they are part `thread` of `threads`. */
	struct unpu_pool_share *share;
};

/* Bytes of scratch for `threads` threads. */
struct unpu_twin_need {
	size_t shared, local;
};

typedef void unpu_twin_fn(const struct unpu_twin_args *args);
typedef uint32_t unpu_twin_count_fn(const struct unpu_twin_args *args);

struct unpu_twin {
	int stateless;		/* binds no state buffer; all others have it as binding 0 */
	/* What its rows' words are compared with, but for the number of rows. NULL: nothing. */
	void (*bounds)(const void *spec, struct unpu_view_bounds *bounds);
	void (*need)(const void *spec, uint32_t threads, struct unpu_twin_need *need);
	/* Not 0: prepare by all threads, a barrier, then run. NULL: never. */
	int (*staged)(const void *spec, const struct unpu_view *view, uint32_t threads);
	unpu_twin_fn *prepare;
	unpu_twin_fn *run;
	/* Units of both, that threads share: by spec, constants and view. */
	unpu_twin_count_fn *prepare_units, *units;
};

extern const struct unpu_twin unpu_twin_embed, unpu_twin_qkv, unpu_twin_attn, unpu_twin_attn_out,
			      unpu_twin_ffn_in, unpu_twin_ffn_out, unpu_twin_head,
			      unpu_twin_sample, unpu_twin_copy;

/* By enum unpu_shader_kind. */
const struct unpu_twin *unpu_twin_get(uint32_t kind);
/* All of them for a twin with these specialization words. */
void unpu_twin_bounds(const struct unpu_twin *twin, const void *spec,
		      struct unpu_view_bounds *bounds);

/* Begins zeroed; then units [first, last) are this thread's to do. */
struct unpu_twin_part {
	uint32_t first, last;
	int taken;
};

/* The next part of n units, which are as many as units() says; 0: there is none. Who computes what
 * changes no result. */
int unpu_twin_take(const struct unpu_twin_args *args, uint32_t n, struct unpu_twin_part *part);

static inline size_t unpu_align64(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

/* ---- the operand of a matrix ------------------------------------------------------------ */

/*
 * Up to `rows` rows as unpu_mm_args wants them. One live row is made by every thread for itself, in
 * local scratch (1 to 2 us, less than a barrier and cold caches cost); several are shared out.
 */
struct unpu_twin_input {
	uint32_t k;		/* padded to 32 */
	float *x;
	int8_t *q;
	float *d;
	int32_t *sum;
};

size_t unpu_twin_input_bytes(uint32_t rows, uint32_t k);
void unpu_twin_input_init(struct unpu_twin_input *in, uint8_t *scratch, uint32_t rows, uint32_t k);
/* Rounds row `i` of in->x to int8 in class a8. */
void unpu_twin_input_quantize(const struct unpu_twin_input *in, uint32_t i, uint32_t numeric,
			      const struct unpu_cpu_ops *ops);

struct unpu_twin_matrix {
	uint32_t layout, numeric;
	uint32_t rows, k;
	const void *quants, *scales;
};

/* y[t * ldy + r - row0] for `tokens` rows of in. */
void unpu_twin_mm(const struct unpu_cpu_ops *ops, const struct unpu_twin_matrix *m,
		  const struct unpu_twin_input *in, uint32_t tokens, uint32_t row0, uint32_t row1,
		  float *y, uint64_t ldy);

struct unpu_twin_norm {
	uint32_t kind;		/* enum unpu_norm */
	uint32_t n;
	float eps;
	const float *weight, *bias;	/* bias may be NULL */
};

/* weight and bias from the front of `params`; returns what follows them. */
const float *unpu_twin_norm_init(struct unpu_twin_norm *norm, uint32_t kind, uint32_t flags,
				 uint32_t n, float eps, const float *params);
/* Row i of in becomes the norm of x, in both classes. */
void unpu_twin_norm_row(const struct unpu_twin_norm *norm, const struct unpu_cpu_ops *ops,
			const float *x, const struct unpu_twin_input *in, uint32_t i,
			uint32_t numeric);

/*
 * Units of a matrix that one call of mm computes: all of a thread's for one row; for several rows
 * few enough that y, `unit` floats wide for each row, stays in the second-level cache.
 */
static inline uint32_t unpu_twin_step(uint32_t rows, uint32_t unit, uint32_t units)
{
	uint32_t step = 16384 / (rows * unit);

	if (rows == 1 || step > units)
		return units ? units : 1;
	return step ? step : 1;
}

/* Bytes of y for any number of live rows up to `rows`. */
size_t unpu_twin_y_bytes(uint32_t rows, uint32_t unit, uint32_t units);

#define UNPU_TWIN_UNIT	32u	/* rows of a matrix in one unit of the grid */

/* A part of the rows of Wo or Wdown for all live rows: x += m . in + bias (may be NULL); y is
 * scratch of unpu_twin_y_bytes(). */
void unpu_twin_add_units(const struct unpu_twin_args *args, const struct unpu_twin_matrix *m,
			 const struct unpu_twin_input *in, const float *bias, float *x, float *y);

uint32_t unpu_twin_live(const struct unpu_twin_args *args);	/* a unit is a live row */

static inline int unpu_twin_several_rows(const void *spec, const struct unpu_view *view,
					 uint32_t threads)
{
	(void)spec;
	(void)threads;
	return view->live > 1;
}

/* ---- embedding -------------------------------------------------------------------------- */

/* Row `row` of a matrix in any layout, dequantised: out[0..k), and zeros up to pad32(k). */
void unpu_cpu_weight_row(uint32_t layout, const void *quants, const void *scales, uint32_t rows,
			 uint32_t k, uint32_t row, float *out);

/* x = row `token` (+ learned position when positions is not NULL). */
void unpu_twin_embed_row(uint32_t layout, const void *quants, const void *scales, uint32_t vocab,
			 uint32_t hidden, const float *positions, uint32_t token,
			 uint32_t position, float *x);

#endif
