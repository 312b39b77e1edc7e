/* SPDX-License-Identifier: MIT */
/*
 * What training spends its time in, one table per instruction set, filled upward as the cpu
 * device's is. All in f32; matrices are rows of floats, one after the other.
 *
 * A result never depends on how the work was shared out: each element is one sum in a fixed order.
 * Instruction sets differ in rounding.
 */
#ifndef UNPU_TRAIN_KERNELS_H
#define UNPU_TRAIN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define UNPU_GEMM_K	512u	/* k of one packed block: 32 columns of it are 64 KiB */

/*
 * A tile of C (mr x nr). a: element (r, i) at a[r * row + i * step], mr rows readable; b is packed,
 * [k][nr]. c takes rows x columns elements, stored, or added when `add`.
 */
typedef void unpu_gemm_tile_fn(const float *a, size_t row, size_t step, const float *b, uint32_t k,
			       float *c, size_t ldc, uint32_t rows, uint32_t columns, int add);

/* One head's causal attention over a sequence. q, k, v, o: `stride` floats from row to row. */
struct unpu_attn_seq {
	uint32_t rows, head_dim;
	const float *q, *k, *v;
	size_t stride;
	float *o;
	size_t o_stride;
	float *lse;		/* log of each row's sum of exponentials, lse_stride apart */
	size_t lse_stride;
	float *scratch;		/* rows floats */
};
typedef void unpu_attn_forward_fn(const struct unpu_attn_seq *seq);

/* dq is stored; dk and dv are added to, since several query heads share them. */
struct unpu_attn_grad {
	struct unpu_attn_seq fwd;
	const float *d_o;	/* as o */
	float *dq, *dk, *dv;	/* as q, k, v */
	float *scratch;		/* 2 * rows floats */
};
typedef void unpu_attn_backward_fn(const struct unpu_attn_grad *grad);

struct unpu_adamw_step {
	float rate, beta1, beta2, eps, decay;
	float scale;		/* of the gradient: clipping */
	float bias1, bias2;	/* 1 - beta^step */
};

struct unpu_train_ops {
	const char *name;
	uint32_t mr, nr;	/* of unpu_gemm_tile_fn */
	unpu_gemm_tile_fn *tile;
	unpu_attn_forward_fn *attn_forward;
	unpu_attn_backward_fn *attn_backward;
	/* y = x * rstd * w; returns rstd. */
	float (*norm_forward)(const float *x, const float *w, uint32_t n, float eps, float *y);
	/* dx += what dy brings; xr is x * rstd of the row. */
	void (*norm_backward)(const float *x, float rstd, const float *w, const float *dy,
			      uint32_t n, float *dx);
	/* out = silu(gate) * up */
	void (*swiglu_forward)(const float *gate, const float *up, uint32_t n, float *out);
	/* gate and up become their gradients. */
	void (*swiglu_backward)(float *gate, float *up, const float *d_out, uint32_t n);
	/* logits become (softmax - one of target) * scale; returns -log of target's probability. */
	float (*softmax_loss)(float *logits, uint32_t n, uint32_t target, float scale);
	void (*adamw)(float *w, float *m, float *v, const float *g, size_t n,
		      const struct unpu_adamw_step *step);
};

/* The best this machine has within `flags` (UNPU_CPU_MASK_*). */
const struct unpu_train_ops *unpu_train_ops_get(uint32_t flags);

extern const struct unpu_train_ops unpu_train_ops_c, unpu_train_ops_avx2,
				   unpu_train_ops_avx512vnni, unpu_train_ops_neon;

#endif
