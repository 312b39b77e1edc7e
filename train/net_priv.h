/* SPDX-License-Identifier: MIT */
#ifndef UNPU_TRAIN_NET_PRIV_H
#define UNPU_TRAIN_NET_PRIV_H

#include "train/net.h"

/* Where a layer's tensors begin among the parameters, in floats; q, k, v and gate, up adjoin. */
struct unpu_net_layer {
	size_t attn_norm, qkv, out, ffn_norm, gate_up, down;
	/* What a pass leaves for the way back, a row each: */
	float *x, *norm1, *qkv_rows, *att, *mid, *norm2, *gate_up_rows, *act;
	float *rstd1, *rstd2, *lse;
};

struct unpu_net {
	struct unpu_net_shape shape;
	struct unpu_log log;
	struct unpu_team team;
	uint32_t num_params;
	struct unpu_param *params;
	size_t floats;
	float *weights, *grads, *moments[2];
	size_t embed, out_norm, head;
	struct unpu_net_layer *layers;
	float *cosines, *sines;		/* [context][head_dim / 2] */
	/* For `capacity` rows, one allocation. */
	uint32_t capacity;
	float *rows;
	float *x_out, *x_grad, *wide, *narrow, *picked, *picked_grad, *rstd, *logits;
	uint32_t *pick;			/* rows that have a target */
	float *row_loss;
	uint8_t *row_right;
	double *partial;		/* of the gradient's norm, one each UNPU_NET_CHUNK floats */
};

#define UNPU_NET_CHUNK	4096u

static inline uint32_t unpu_net_q(const struct unpu_net_shape *s)
{
	return s->heads * s->head_dim;
}

static inline uint32_t unpu_net_qkv(const struct unpu_net_shape *s)
{
	return (s->heads + 2 * s->kv_heads) * s->head_dim;
}

/* Room for this many rows; what was there is lost. */
int unpu_net_reserve(struct unpu_net *net, uint32_t rows);

#endif
