/* SPDX-License-Identifier: MIT */
/*
 * The inner functions of the twins, one table per instruction set, filled from the lowest to the
 * highest that the machine has and UNPU_CPUMASK allows. Each type is declared once, here; plain C,
 * x86/ and arm/ implement it under the same stem (mm, quantize, norm, act, attn).
 *
 * Purity: a result depends on the operands of its own row and token, never on `tokens`, on where
 * the range is cut or on alignment.
 */
#ifndef UNPU_CPU_OPS_H
#define UNPU_CPU_OPS_H

#include <stdint.h>

#include "runtime/device/cpu/isa.h"
#include "shaders/shaders.h"

/*
 * y[t * ldy + r - row0] = W[r] . x[t] for row0 <= r < row1, 0 <= t < tokens.
 *
 * row0 and row1 are multiples of 8 up to pad32(rows); rows past `rows` give 0. k is padded to 32
 * (GGUF layouts: the file's k; x is padded all the same).
 *
 * Class f32 reads x, ldx floats apart: partial sums over k % 4, each by fma in order of k, then
 * (s0 + s1) + (s2 + s3); a quantised weight is q * d as one f32 first.
 *
 * Class a8 reads q (int8 in [-127, 127]), d and sum, one of each per 32 k, pad32(k) and
 * pad32(k) / 32 elements apart per token. Over blocks in order:
 * acc = fma((float)isum, dw * da, acc), isum the exact integer sum of the block, dw the f16 scale
 * as f32. Equal to the bit on all instruction sets.
 *
 * Families with more scales (layout.h) in class a8, low and high being the exact sums of the first
 * 16 and the other k of a block, each step one rounding (products of integers have none, whatever
 * the bytes are: they stay below 2^24):
 *
 *   Q4K  per block s = fma((float)(sc * (low + high)), da, s) with q in 0..15, and with the
 *        block's own m: n = fma((float)m, da * (float)sum, n); after 8 blocks
 *        acc = fma(d, s, acc), acc = fma(-dmin, n, acc), s = n = 0
 *   Q6K  per block s = fma((float)(sc0 * low + sc1 * high), da, s) with q in -32..31; after 8
 *        blocks acc = fma(d, s, acc), s = 0
 *   Q8A  per block t = fma(s1, (float)high, s0 * (float)low), t = fma(o, (float)sum, t),
 *        acc = fma(t, da, acc)
 *
 * In class f32 their weights are fma(d, (float)(sc * q), -(dmin * (float)m)), d * (float)(sc * q)
 * and fma(s, (float)q, o).
 */
struct unpu_mm_args {
	uint32_t layout;
	uint32_t rows, k;
	uint32_t row0, row1;
	uint32_t tokens;
	const void *quants;
	const void *scales;
	const float *x;
	uint64_t ldx;
	const int8_t *q;
	const float *d;
	const int32_t *sum;	/* of the 32 q */
	float *y;
	uint64_t ldy;
};
typedef void unpu_mm_fn(const struct unpu_mm_args *args);

/*
 * k (a multiple of 32) floats to int8: m = max |x| of 32; d = m / 127, q = rint(x * (127 / m)),
 * ties to even; m < 1e-30: d = 0, q = 0; a value not finite in the block: d = NaN, q = 0. sum = of
 * the q.
 */
typedef void unpu_quantize_fn(const float *x, uint32_t k, int8_t *q, float *d, int32_t *sum);

/* y = norm(x) * weight + bias (may be NULL); n true elements, y[n..pad32(n)) = 0. y may be x. */
typedef void unpu_norm_fn(const float *x, const float *weight, const float *bias, uint32_t n,
			  float eps, float *y);

/* out[i] = act(gate[i]) * up[i], or act(gate[i]) when up is NULL. n is a multiple of 8. */
typedef void unpu_act_fn(const float *gate, const float *up, uint32_t n, float *out);

/* IEEE round to nearest even; n is a multiple of 8. */
typedef void unpu_to_f16_fn(const float *x, uint32_t n, uint16_t *out);

/*
 * One KV head, one chunk of up to 64 cells, all `group` query heads that share it, one row:
 * s[j] = scale * q . k[j]; m = max s; o = sum exp(s[j] - m) v[j]; ms = {m, sum exp(s[j] - m)}.
 * k and v: [cells][head_dim] of the table's kv type; int8 with k_scales and v_scales,
 * [cells][unpu_kv_scales(head_dim)] f16. q and o are head_dim floats, ldq and ldo apart per query
 * head; ms is 2 floats, 2 apart. A row's order of sums depends on head_dim alone.
 *
 * int8 may be multiplied as integers: q rounded to multiples of max |q| / 32767 of its head, and
 * exp(s[j] - m) times a scale of v to multiples of the largest such product / 32767 of the chunk
 * (below 1e-30: to 0). Against the rounding of k and v to 8 bits that is nothing.
 */
struct unpu_attn_args {
	uint32_t cells, group, head_dim;
	float scale;
	const void *k, *v;
	const uint16_t *k_scales, *v_scales;	/* int8 only */
	const float *q;
	uint64_t ldq;
	float *o;
	uint64_t ldo;
	float *ms;
};
typedef void unpu_attn_fn(const struct unpu_attn_args *args);

/*
 * One head: merge `chunks` partials in order. o: head_dim floats, ldo apart per chunk; ms: 2
 * floats, ldms apart. out = sum(o_c * exp(m_c - m)) / sum(s_c * exp(m_c - m)).
 */
typedef void unpu_merge_fn(const float *o, uint64_t ldo, const float *ms, uint64_t ldms,
			   uint32_t chunks, uint32_t head_dim, float *out);

/* Largest of n (a multiple of 8, > 0) logits and where; NaN when any is. The first of equals. */
typedef void unpu_max_fn(const float *x, uint32_t n, float *max, uint32_t *at);

struct unpu_cpu_ops {
	const char *name;	/* of struct unpu_cpu_isa */
	unpu_mm_fn *mm[DRM_UNPU_LAYOUT_COUNT][2];	/* [layout][enum drm_unpu_class] */
	unpu_quantize_fn *quantize;
	unpu_norm_fn *rms_norm, *layer_norm;
	unpu_act_fn *act[3];				/* [enum unpu_act] */
	unpu_to_f16_fn *to_f16;
	unpu_attn_fn *attn[3];				/* [enum drm_unpu_kv_type] */
	unpu_merge_fn *merge;
	unpu_max_fn *max;
	/* Best first, from isa.c; what DEV_INFO tells. */
	uint32_t num_matrices;
	struct drm_unpu_matrix matrices[DRM_UNPU_MAX_MATRICES];
};

/* The instruction sets of this machine, as UNPU_CPU_MASK_* bits. */
uint32_t unpu_cpu_detect(void);
/* What the device cpu uses here: the best of this machine and build that UNPU_CPUMASK allows. */
const struct unpu_cpu_isa *unpu_cpu_isa_here(void);
/* Fill from plain C upward with what `flags` allows. */
void unpu_cpu_ops_init(struct unpu_cpu_ops *ops, uint32_t flags);

/* Each overrides what it has better, the pairs that isa.c lists, in this order. */
void unpu_cpu_ops_init_c(struct unpu_cpu_ops *ops);
void unpu_cpu_ops_init_avx2(struct unpu_cpu_ops *ops);
void unpu_cpu_ops_init_avx512vnni(struct unpu_cpu_ops *ops);
void unpu_cpu_ops_init_neon(struct unpu_cpu_ops *ops);
void unpu_cpu_ops_init_neon_inorder(struct unpu_cpu_ops *ops);
void unpu_cpu_ops_init_neon_dotprod(struct unpu_cpu_ops *ops);
/* 1: all cores that this process may use issue in order. */
int unpu_cpu_in_order(void);

#endif
