/* SPDX-License-Identifier: MIT */
/*
 * The llama family's network in f32 with its gradients: RMSNorm, grouped-query attention with
 * rotary positions (pairs of neighbours, as architecture "llama" has it), SwiGLU, a head tied to
 * the embeddings or not. Method: reverse-mode differentiation by hand, layer by layer.
 *
 * All parameters lie in one array of floats, gradients and moments beside it in the same order.
 */
#ifndef UNPU_TRAIN_NET_H
#define UNPU_TRAIN_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"
#include "train/team.h"

struct unpu_net_shape {
	uint32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
	float eps, rope_base;
	bool tied;
};

/* A tensor of the parameters. rows 1: a vector. */
struct unpu_param {
	char name[48];		/* as in a GGUF file */
	size_t at;		/* in floats */
	uint32_t rows, columns;
	int32_t layer;		/* -1: embeddings, final norm and head */
	bool frozen;
};

/* Sequences one after the other. A target below 0 is not learned. */
struct unpu_net_batch {
	const int32_t *tokens, *targets;
	uint32_t rows;
	const uint32_t *starts;		/* num_sequences + 1 of them, the last is rows */
	uint32_t num_sequences;
};

struct unpu_net;

/* -EINVAL names the figure that cannot be; -ENOMEM. threads 0: usable processors. */
int unpu_net_create(const struct unpu_net_shape *shape, uint32_t threads, uint32_t cpu_mask,
		    const struct unpu_log *log, struct unpu_net **net);
void unpu_net_destroy(struct unpu_net *net);

const struct unpu_net_shape *unpu_net_shape(const struct unpu_net *net);
uint32_t unpu_net_num_params(const struct unpu_net *net);
struct unpu_param *unpu_net_param(struct unpu_net *net, uint32_t i);
size_t unpu_net_floats(const struct unpu_net *net);
float *unpu_net_weights(struct unpu_net *net);
float *unpu_net_grads(struct unpu_net *net);
/* First and second moments of AdamW. */
float *unpu_net_moments(struct unpu_net *net, uint32_t which);

/* SplitMix64 (Steele, Lea and Flood, 2014): where all chance in training comes from. */
uint64_t unpu_net_random(uint64_t *state);

/* Normal with deviation 0.02, projections back into the stream less by 1 / sqrt(2 layers), norms
 * 1. By the seed alone. */
void unpu_net_init_weights(struct unpu_net *net, uint64_t seed);

struct unpu_net_pass {
	float dropout;		/* of what layers add to the stream, and of embeddings; 0: none */
	uint64_t seed;		/* of its masks: another for each pass */
	float scale;		/* of the loss, as gradients see it: 1 / targets of a whole step */
	bool grads;		/* gradients are added to; else only the loss */
};
/*
 * loss: the sum over all targets of -log p, not scaled; right: how many targets were the most
 * probable token (may be NULL). -EINVAL: a token or sequence out of range; -ENOMEM: for this many
 * rows; -EDOM: a loss that is not finite.
 */
int unpu_net_run(struct unpu_net *net, const struct unpu_net_batch *batch,
		 const struct unpu_net_pass *pass, double *loss, uint32_t *right);

void unpu_net_zero_grads(struct unpu_net *net);

struct unpu_net_update {
	float rate, beta1, beta2, eps, decay;	/* decay: of matrices only */
	float clip;		/* of the whole gradient's norm; 0: none */
	uint64_t step;		/* from 1 */
};
/* AdamW (Loshchilov and Hutter, 2019) on what is not frozen; returns the norm before clipping,
 * and changes nothing when that is not finite. */
float unpu_net_update(struct unpu_net *net, const struct unpu_net_update *update);

#endif
