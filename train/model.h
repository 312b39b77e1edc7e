/* SPDX-License-Identifier: MIT */
/* A trained network and its tokenizer as a model file. */
#ifndef UNPU_TRAIN_MODEL_H
#define UNPU_TRAIN_MODEL_H

#include "train/ggufw.h"
#include "train/merges.h"
#include "train/net.h"

/* Token 0 ends a text; 1..256 are the bytes; 257 + i is merge i. */
#define UNPU_MODEL_EOS		0u
#define UNPU_MODEL_BYTES	1u

struct unpu_model_text {
	const char *name;	/* general.name */
	const char *pre;	/* tokenizer.ggml.pre */
	const char *chat_template;	/* may be NULL */
	const struct unpu_merge_pair *merges;
	uint32_t num_merges;
};

/* Hyper-parameters and tokenizer; shape->vocab is num_merges + 257. */
void unpu_model_write_keys(struct unpu_ggufw *w, const struct unpu_net_shape *shape,
			   const struct unpu_model_text *text);
/*
 * All tensors of weights (in the net's order). Matrices become `type`, or F16 where a row is no
 * multiple of its block; vectors stay F32. -ENOMEM.
 */
int unpu_model_write_tensors(struct unpu_ggufw *w, struct unpu_net *net, const float *weights,
			     uint32_t type);

#endif
