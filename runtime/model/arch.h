/* SPDX-License-Identifier: MIT */
/*
 * From a file to named tensors, hyper-parameters and layer plans. An architecture is a row of one
 * table; nothing outside this folder knows tensor names or keys.
 */
#ifndef UNPU_ARCH_H
#define UNPU_ARCH_H

#include "runtime/model/gguf.h"
#include "shaders/shaders.h"

/* What one layer of an architecture does. */
struct unpu_layer_plan {
	enum unpu_norm norm;		/* before attention and the ffn, applied by the reader */
	bool norm_bias;
	bool fused_qkv;			/* the file has one attn_qkv tensor, rows q, k, v */
	bool qk_norm;
	bool attn_bias;			/* q, k, v biases may be there */
	bool out_bias;			/* attn_output bias may be there */
	bool ffn_bias;
	bool gated;
	enum unpu_act act;
	enum unpu_rope rope;
	bool learned_positions;
};

struct unpu_hparams {
	uint32_t context, layers, hidden, ffn, heads, kv_heads, head_dim, vocab;
	float norm_eps;
	float rope_base, rope_scale;	/* angle = position / rope_scale * base^(-2i / rope_dims) */
	uint32_t rope_dims;
	float attn_scale;
};

/* Tensors of one layer; NULL where the plan has none. Shapes are checked. */
struct unpu_layer {
	const struct unpu_tensor *attn_norm, *attn_norm_b;
	const struct unpu_tensor *q, *k, *v;	/* fused: q is the fused tensor, k and v are NULL */
	const struct unpu_tensor *q_b, *k_b, *v_b;	/* fused: q_b is the fused bias */
	const struct unpu_tensor *q_norm, *k_norm;
	const struct unpu_tensor *out, *out_b;
	const struct unpu_tensor *ffn_norm, *ffn_norm_b;
	const struct unpu_tensor *gate, *up, *down;
	const struct unpu_tensor *gate_b, *up_b, *down_b;
};

struct unpu_arch {
	const char *name;		/* "llama" */
	struct unpu_layer_plan plan;
	struct unpu_hparams hp;
	const struct unpu_tensor *embed, *positions;
	const struct unpu_tensor *out_norm, *out_norm_b;
	const struct unpu_tensor *head;	/* == embed when tied */
	struct unpu_layer *layers;	/* hp.layers of them */
};

/* -EINVAL: one line names the unknown architecture, the missing or misshaped tensor or the
 * unsupported type, and lists what is supported. The gguf must outlive the arch. */
int unpu_arch_create(const struct unpu_gguf *gguf, const struct unpu_log *log,
		     struct unpu_arch **arch);
void unpu_arch_destroy(struct unpu_arch *arch);

#endif
