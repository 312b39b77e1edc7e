/* SPDX-License-Identifier: MIT */
/*
 * Twins whole: a dispatch on buffers between guard pages against a naive reference whose numbers
 * carry their own bound of error, and against itself with other numbers of threads and rows.
 */
#ifndef UNPU_CHECK_SHADER_H
#define UNPU_CHECK_SHADER_H

#include "runtime/device/cpu/twin.h"
#include "tests/checkunpu/checkunpu.h"
#include "tests/lib/ondevice.h"

check_family_fn check_shader_qkv, check_shader_attn, check_shader_attn_out, check_shader_ffn_in,
	check_shader_ffn_out, check_shader_head, check_shader_embed, check_shader_copy,
	check_shader_state, check_shader_exact;

/* ---- numbers with a bound --------------------------------------------------------------- */

/* The exact result, and how far the f32 computation may be from it. */
struct ball {
	double v, e;
};

/* Of one operation: CHECK_EPS, or what Vulkan promises. */
double ball_eps(void);
struct ball ball_of(double v);
struct ball ball_add(struct ball a, struct ball b);
struct ball ball_mul(struct ball a, struct ball b);
/* Sum of n products in f32, in any order. */
struct ball ball_dot(const double *w, const struct ball *x, uint32_t n);
struct ball ball_act(uint32_t act, struct ball x);
struct ball ball_f16(struct ball x);
/* RMS or layer norm; y is padded to 32 with zeros. */
void ball_norm(uint32_t kind, const struct ball *x, const float *weight, const float *bias,
	       uint32_t n, float eps, struct ball *y);
/* In class a8: what the int8 of x stand for; where x is near a tie either neighbour may be it. */
void ball_quantize(uint32_t numeric, struct ball *x, uint32_t k);

/* ---- a dispatch ------------------------------------------------------------------------- */

struct shader {
	const struct unpu_cpu_ops *ops;
	struct ondevice *device;		/* NULL: the twin */
	struct ondevice_program *program;
	uint32_t kind;
	const void *spec, *constants;
	uint32_t threads;
	enum check_side side;
	struct unpu_shader_need need;
	struct check_buf bufs[UNPU_SHADER_MAX_BINDINGS];
};

/* Bindings of exactly the bytes that unpu_shader_need() wants; all of them hold the pattern. */
void shader_init(struct shader *s, const struct check_level *level, uint32_t kind,
		 const void *spec, const void *constants, enum check_side side);
void shader_finish(struct shader *s);
/* As the engine runs it, but thread after thread; on a device as it likes. Then no guard, scratch
 * or input has changed. */
void shader_run(struct shader *s, uint32_t threads);

static inline float *shader_floats(const struct shader *s, uint32_t binding)
{
	return (float *)s->bufs[binding].data;
}

struct unpu_state_header *shader_state(const struct shader *s);
/* Its rows and samplers, for a spec that begins with rows and slots. */
struct unpu_state_row *shader_rows(const struct shader *s);
struct unpu_state_sampler *shader_samplers(const struct shader *s);

/* Zeroes the state and fills `live` rows with cells of their own: slot i % slots. */
void shader_rows_init(const struct shader *s, uint32_t live, uint32_t cells, uint32_t positions);

void shader_random(float *x, uint32_t n);
/* [rows][pad32(n)] with zeros behind n. */
void shader_random_rows(float *x, uint32_t rows, uint32_t n);
void shader_compare(const char *what, uint32_t row, uint32_t at, float got, struct ball want);

/*
 * Runs the dispatch with one thread, then again with several and with its rows one after the other
 * (on a device where rows are pure): all bindings hold the same bits each time, and those that are
 * not written what they held before.
 */
void shader_run_pure(struct shader *s);

/* ---- weights ---------------------------------------------------------------------------- */

/* Fills the two planes with random weights; returns [rows][pad32(k)] as they are, to be freed.
 * ffn > 0: rows are gate and up interleaved, and what is past ffn is zero. */
double *shader_weights(uint32_t layout, uint32_t rows, uint32_t k, uint32_t ffn, uint8_t *quants,
		       uint8_t *scales);

/* Weights q * 2^-3 or q * 2^-4 (one of them for 32 of a row) with |q| <= limit. */
double *shader_weights_exact(uint32_t layout, uint32_t rows, uint32_t k, uint32_t limit,
			     uint8_t *quants, uint8_t *scales);

/* The same of Q4K, Q6K and Q8A. */
double *shader_k_weights(uint32_t layout, uint32_t rows, uint32_t k, uint32_t ffn,
			 uint8_t *quants, uint8_t *scales);
double *shader_k_weights_exact(uint32_t layout, uint32_t rows, uint32_t k, uint32_t limit,
			       uint8_t *quants, uint8_t *scales);

/* k, or the next that a row of this layout may have. */
uint32_t shader_whole(uint32_t layout, uint32_t k);
/* Rows and K of case n: on a device some that its tiles and splits of K are met by. */
uint32_t shader_row_count(const struct check_level *level, int n);
uint32_t shader_width(const struct check_level *level, int n, uint32_t most);

/* Whether a KV cache may be of this type. */
int shader_has_kv(const struct check_level *level, uint32_t kv_type);

/* Each layout with each class it has in this table or on this device, called in turn. */
void shader_each_matrix(const struct check_level *level,
			void (*check)(const struct check_level *level, uint32_t layout,
				      uint32_t numeric));

#endif
