/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/arch.h"

/* The widest shapes that the shader set takes (shaders.h). */
#define HIDDEN_MAX	65536u
#define FFN_MAX		(1u << 18)
#define HEADS_MAX	1024u
#define HEAD_DIM_MAX	256u
#define VOCAB_MAX	(1u << 20)
#define CONTEXT_MAX	(1u << 20)

#define VECTOR_TYPES	"F32, F16, BF16"

/* ---- the table of architectures --------------------------------------------------------- */

enum bias {
	BIAS_NONE = 0,	/* a file that has it is refused */
	BIAS_MAYBE,	/* what layer 0 has, all layers have */
	BIAS_ALWAYS,
};

struct arch_row {
	const char *name;
	struct unpu_layer_plan plan;
	enum bias attn_bias, out_bias, ffn_bias;	/* settle the flags of that name */
};

/* GGUF's llama weights have their rows permuted for rope on neighbouring pairs. */
static const struct arch_row rows[] = {
	{
		.name = "llama",
		.plan = { .norm = UNPU_NORM_RMS, .gated = true, .act = UNPU_ACT_SILU,
			  .rope = UNPU_ROPE_PAIRS },
		.attn_bias = BIAS_MAYBE, .out_bias = BIAS_MAYBE, .ffn_bias = BIAS_MAYBE,
	}, {
		.name = "qwen2",
		.plan = { .norm = UNPU_NORM_RMS, .gated = true, .act = UNPU_ACT_SILU,
			  .rope = UNPU_ROPE_HALVES },
		.attn_bias = BIAS_ALWAYS,
	}, {
		.name = "qwen3",
		.plan = { .norm = UNPU_NORM_RMS, .qk_norm = true, .gated = true,
			  .act = UNPU_ACT_SILU, .rope = UNPU_ROPE_HALVES },
		.attn_bias = BIAS_MAYBE,
	}, {
		.name = "gpt2",
		.plan = { .norm = UNPU_NORM_LAYER, .norm_bias = true, .fused_qkv = true,
			  .act = UNPU_ACT_GELU, .rope = UNPU_ROPE_NONE,
			  .learned_positions = true },
		.attn_bias = BIAS_ALWAYS, .out_bias = BIAS_ALWAYS, .ffn_bias = BIAS_ALWAYS,
	},
};
#define NUM_ROWS	(sizeof(rows) / sizeof(rows[0]))

struct loader {
	const struct unpu_gguf *gguf;
	const struct unpu_log *log;
	const struct arch_row *row;
	struct unpu_arch *arch;
	uint32_t window;	/* of attention; 0: none */
	bool *placed;		/* which tensors of the file have a place */
};

/* ---- the table of a layer's tensors ----------------------------------------------------- */

enum dim { DIM_NONE = 0, DIM_HIDDEN, DIM_FFN, DIM_Q, DIM_KV, DIM_QKV, DIM_HEAD };

enum when {
	ALWAYS, IF_NORM_BIAS, IF_SPLIT, IF_FUSED, IF_QK_NORM, IF_SPLIT_BIAS, IF_FUSED_BIAS,
	IF_OUT_BIAS, IF_GATED, IF_GATED_BIAS, IF_FFN_BIAS
};

struct slot {
	const char *name;	/* after "blk.N." */
	size_t offset;		/* in struct unpu_layer */
	enum when when;
	enum dim dims[2];	/* DIM_NONE in the second: a vector */
};

#define SLOT(__name, __field, ...) \
	{ __name, offsetof(struct unpu_layer, __field), __VA_ARGS__ }

static const struct slot slots[] = {
	SLOT("attn_norm.weight", attn_norm, ALWAYS, { DIM_HIDDEN }),
	SLOT("attn_norm.bias", attn_norm_b, IF_NORM_BIAS, { DIM_HIDDEN }),
	SLOT("attn_qkv.weight", q, IF_FUSED, { DIM_HIDDEN, DIM_QKV }),
	SLOT("attn_qkv.bias", q_b, IF_FUSED_BIAS, { DIM_QKV }),
	SLOT("attn_q.weight", q, IF_SPLIT, { DIM_HIDDEN, DIM_Q }),
	SLOT("attn_k.weight", k, IF_SPLIT, { DIM_HIDDEN, DIM_KV }),
	SLOT("attn_v.weight", v, IF_SPLIT, { DIM_HIDDEN, DIM_KV }),
	SLOT("attn_q.bias", q_b, IF_SPLIT_BIAS, { DIM_Q }),
	SLOT("attn_k.bias", k_b, IF_SPLIT_BIAS, { DIM_KV }),
	SLOT("attn_v.bias", v_b, IF_SPLIT_BIAS, { DIM_KV }),
	SLOT("attn_q_norm.weight", q_norm, IF_QK_NORM, { DIM_HEAD }),
	SLOT("attn_k_norm.weight", k_norm, IF_QK_NORM, { DIM_HEAD }),
	SLOT("attn_output.weight", out, ALWAYS, { DIM_Q, DIM_HIDDEN }),
	SLOT("attn_output.bias", out_b, IF_OUT_BIAS, { DIM_HIDDEN }),
	SLOT("ffn_norm.weight", ffn_norm, ALWAYS, { DIM_HIDDEN }),
	SLOT("ffn_norm.bias", ffn_norm_b, IF_NORM_BIAS, { DIM_HIDDEN }),
	SLOT("ffn_gate.weight", gate, IF_GATED, { DIM_HIDDEN, DIM_FFN }),
	SLOT("ffn_gate.bias", gate_b, IF_GATED_BIAS, { DIM_FFN }),
	SLOT("ffn_up.weight", up, ALWAYS, { DIM_HIDDEN, DIM_FFN }),
	SLOT("ffn_up.bias", up_b, IF_FFN_BIAS, { DIM_FFN }),
	SLOT("ffn_down.weight", down, ALWAYS, { DIM_FFN, DIM_HIDDEN }),
	SLOT("ffn_down.bias", down_b, IF_FFN_BIAS, { DIM_HIDDEN }),
};

static bool slot_wanted(const struct unpu_layer_plan *plan, enum when when)
{
	switch (when) {
	case IF_NORM_BIAS:
		return plan->norm_bias;
	case IF_SPLIT:
		return !plan->fused_qkv;
	case IF_FUSED:
		return plan->fused_qkv;
	case IF_QK_NORM:
		return plan->qk_norm;
	case IF_SPLIT_BIAS:
		return plan->attn_bias && !plan->fused_qkv;
	case IF_FUSED_BIAS:
		return plan->attn_bias && plan->fused_qkv;
	case IF_OUT_BIAS:
		return plan->out_bias;
	case IF_GATED:
		return plan->gated;
	case IF_GATED_BIAS:
		return plan->gated && plan->ffn_bias;
	case IF_FFN_BIAS:
		return plan->ffn_bias;
	default:
		return true;
	}
}

static uint64_t dim_size(const struct unpu_hparams *hp, enum dim dim)
{
	uint64_t q = (uint64_t)hp->heads * hp->head_dim;
	uint64_t kv = (uint64_t)hp->kv_heads * hp->head_dim;

	switch (dim) {
	case DIM_HIDDEN:
		return hp->hidden;
	case DIM_FFN:
		return hp->ffn;
	case DIM_Q:
		return q;
	case DIM_KV:
		return kv;
	case DIM_QKV:
		return q + 2 * kv;
	case DIM_HEAD:
		return hp->head_dim;
	default:
		return 1;
	}
}

/* ---- keys ------------------------------------------------------------------------------- */

struct key {
	char text[64];
};

/* "llama." and name. */
static struct key arch_key(const struct loader *l, const char *name)
{
	struct key key;

	snprintf(key.text, sizeof(key.text), "%s.%s", l->row->name, name);
	return key;
}

static int need_u32(const struct loader *l, const char *name, uint32_t max, uint32_t *value)
{
	struct key key = arch_key(l, name);
	int err = unpu_gguf_u32(l->gguf, key.text, 1, max, value);

	if (err == -ENOENT)
		return unpu_fail(l->log, -EINVAL, "key '%s' is missing", key.text);
	return err;
}

/* *value stays when the key is not there. */
static int may_u32(const struct loader *l, const char *name, uint32_t min, uint32_t max,
		   uint32_t *value)
{
	int err = unpu_gguf_u32(l->gguf, arch_key(l, name).text, min, max, value);

	return err == -ENOENT ? 0 : err;
}

/* A positive float; *value stays when the key is not there. 1 when it is. */
static int may_f32(const struct loader *l, const char *name, float *value)
{
	struct key key = arch_key(l, name);
	float v;
	int err;

	err = unpu_gguf_f32(l->gguf, key.text, &v);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (!isfinite(v) || v <= 0)
		return unpu_fail(l->log, -EINVAL, "key '%s' is %g; it must be above 0", key.text,
				 (double)v);
	*value = v;
	return 1;
}

static int read_heads(const struct loader *l, struct unpu_hparams *hp)
{
	uint32_t value_dim;
	int err;

	err = need_u32(l, "attention.head_count", HEADS_MAX, &hp->heads);
	if (err)
		return err;
	hp->kv_heads = hp->heads;
	err = may_u32(l, "attention.head_count_kv", 1, HEADS_MAX, &hp->kv_heads);
	if (err)
		return err;
	if (hp->heads % hp->kv_heads)
		return unpu_fail(l->log, -EINVAL, "%" PRIu32 " heads cannot share %" PRIu32
				 " KV heads", hp->heads, hp->kv_heads);
	hp->head_dim = hp->hidden / hp->heads;
	err = may_u32(l, "attention.key_length", 1, UINT32_MAX, &hp->head_dim);
	value_dim = hp->head_dim;
	if (!err)
		err = may_u32(l, "attention.value_length", 1, UINT32_MAX, &value_dim);
	if (err)
		return err;
	if (value_dim != hp->head_dim)
		return unpu_fail(l->log, -EINVAL, "%s.attention.value_length is %" PRIu32
				 "; it must be key_length, %" PRIu32, l->row->name, value_dim,
				 hp->head_dim);
	if (!hp->head_dim || hp->head_dim % 8 || hp->head_dim > HEAD_DIM_MAX)
		return unpu_fail(l->log, -EINVAL, "heads of %" PRIu32 " values are not supported; "
				 "multiples of 8 up to %u are", hp->head_dim, HEAD_DIM_MAX);
	hp->attn_scale = (float)(1 / sqrt(hp->head_dim));
	return 0;
}

static int read_rope_scaling(const struct loader *l, struct unpu_hparams *hp)
{
	struct key key = arch_key(l, "rope.scaling.type");
	struct unpu_str type;
	int err;

	hp->rope_scale = 1;
	err = unpu_gguf_str(l->gguf, key.text, &type);
	if (err && err != -ENOENT)
		return err;
	if (!err && unpu_str_is(type, "none"))
		return 0;
	if (!err && !unpu_str_is(type, "linear"))
		return unpu_fail(l->log, -EINVAL, "rope scaling '%s' (%s) is not supported; "
				 "none and linear are", unpu_str_text(type).text, key.text);
	err = may_f32(l, "rope.scaling.factor", &hp->rope_scale);
	if (!err)
		err = may_f32(l, "rope.scale_linear", &hp->rope_scale);
	return err < 0 ? err : 0;
}

static int read_rope(const struct loader *l, struct unpu_hparams *hp)
{
	int err;

	hp->rope_base = 10000;
	hp->rope_scale = 1;
	hp->rope_dims = 0;
	if (l->row->plan.rope == UNPU_ROPE_NONE)
		return 0;
	hp->rope_dims = hp->head_dim;
	err = may_u32(l, "rope.dimension_count", 1, HEAD_DIM_MAX, &hp->rope_dims);
	if (err)
		return err;
	if (hp->rope_dims % 2 || hp->rope_dims > hp->head_dim)
		return unpu_fail(l->log, -EINVAL, "%s.rope.dimension_count is %" PRIu32
				 "; it must be even and at most the head's %" PRIu32,
				 l->row->name, hp->rope_dims, hp->head_dim);
	err = may_f32(l, "rope.freq_base", &hp->rope_base);
	return err < 0 ? err : read_rope_scaling(l, hp);
}

static int read_norm_eps(const struct loader *l, struct unpu_hparams *hp)
{
	const char *name = l->row->plan.norm == UNPU_NORM_RMS ?
			   "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
	int err = may_f32(l, name, &hp->norm_eps);

	if (err < 0)
		return err;
	if (!err)
		return unpu_fail(l->log, -EINVAL, "key '%s' is missing", arch_key(l, name).text);
	return 0;
}

static int read_context(struct loader *l, struct unpu_hparams *hp)
{
	int err;

	err = need_u32(l, "context_length", UINT32_MAX, &hp->context);
	if (!err)
		err = may_u32(l, "attention.sliding_window", 0, UINT32_MAX, &l->window);
	return err;
}

/*
 * After the positions' shape was checked against the file's own number. Up to the length of a
 * sliding window, attention to the window is attention to all.
 */
static void clamp_context(const struct loader *l, struct unpu_hparams *hp)
{
	if (l->window && l->window < hp->context)
		hp->context = l->window;
	if (hp->context > CONTEXT_MAX)
		hp->context = CONTEXT_MAX;
}

static int refuse_experts(const struct loader *l)
{
	uint32_t experts = 0;
	int err;

	err = may_u32(l, "expert_count", 0, UINT32_MAX, &experts);
	if (!err && experts)
		return unpu_fail(l->log, -EINVAL, "%s.expert_count is %" PRIu32
				 "; mixtures of experts are not supported", l->row->name, experts);
	return err;
}

static int read_hparams(struct loader *l, struct unpu_hparams *hp)
{
	int err;

	err = refuse_experts(l);
	if (!err)
		err = need_u32(l, "embedding_length", HIDDEN_MAX, &hp->hidden);
	if (!err)
		err = need_u32(l, "block_count", UINT32_MAX, &hp->layers);
	if (!err)
		err = need_u32(l, "feed_forward_length", FFN_MAX, &hp->ffn);
	if (!err)
		err = read_context(l, hp);
	if (!err)
		err = read_heads(l, hp);
	if (!err)
		err = read_norm_eps(l, hp);
	if (!err)
		err = read_rope(l, hp);
	if (!err && hp->hidden < 8)
		err = unpu_fail(l->log, -EINVAL, "%s.embedding_length is %" PRIu32
				"; the least is 8", l->row->name, hp->hidden);
	return err;
}

/* ---- tensors ---------------------------------------------------------------------------- */

/* Vectors and positions become f32 as they are read; matrices keep their type. */
static int check_type(const struct loader *l, const struct unpu_tensor *t, bool matrix)
{
	bool plain = t->type == UNPU_TYPE_F32 || t->type == UNPU_TYPE_F16 ||
		     t->type == UNPU_TYPE_BF16;

	if (matrix ? !!unpu_type_info(t->type) : plain)
		return 0;
	return unpu_fail(l->log, -EINVAL, "tensor '%s' has type %s; supported there are %s: "
			 "make the file anew with one of them",
			 unpu_str_text(t->name).text, unpu_type_name(t->type),
			 matrix ? UNPU_TYPES : VECTOR_TYPES);
}

static int check_shape(const struct loader *l, const struct unpu_tensor *t, uint64_t d0,
		       uint64_t d1)
{
	if (t->dims[0] == d0 && t->dims[1] == d1 && t->dims[2] == 1 && t->dims[3] == 1)
		return 0;
	return unpu_fail(l->log, -EINVAL, "tensor '%s' is %" PRIu64 " x %" PRIu64 " x %" PRIu64
			 " x %" PRIu64 "; %" PRIu64 " x %" PRIu64 " is needed",
			 unpu_str_text(t->name).text, t->dims[0], t->dims[1], t->dims[2],
			 t->dims[3], d0, d1);
}

static int need_tensor(const struct loader *l, const char *name, const struct unpu_tensor **out)
{
	*out = unpu_gguf_tensor(l->gguf, name);
	if (!*out)
		return unpu_fail(l->log, -EINVAL, "tensor '%s' is missing", name);
	l->placed[*out - unpu_gguf_tensor_at(l->gguf, 0)] = true;
	return 0;
}

static int need_shaped(const struct loader *l, const char *name, uint64_t d0, uint64_t d1,
		       bool matrix, const struct unpu_tensor **out)
{
	int err = need_tensor(l, name, out);

	if (!err)
		err = check_shape(l, *out, d0, d1);
	return err ? err : check_type(l, *out, matrix);
}

static void layer_name(char name[64], uint32_t layer, const char *rest)
{
	snprintf(name, 64, "blk.%" PRIu32 ".%s", layer, rest);
}

static int load_layer(const struct loader *l, uint32_t i, struct unpu_layer *layer)
{
	const struct unpu_hparams *hp = &l->arch->hp;
	const struct slot *s;
	char name[64];
	int err;

	memset(layer, 0, sizeof(*layer));
	for (s = slots; s < slots + sizeof(slots) / sizeof(slots[0]); s++) {
		if (!slot_wanted(&l->arch->plan, s->when))
			continue;
		layer_name(name, i, s->name);
		err = need_shaped(l, name, dim_size(hp, s->dims[0]), dim_size(hp, s->dims[1]),
				  s->dims[1] != DIM_NONE,
				  (const struct unpu_tensor **)((char *)layer + s->offset));
		if (err)
			return err;
	}
	return 0;
}

/* Twice: a layer count from the file is worth memory only when all those layers are there. */
static int load_layers(const struct loader *l)
{
	struct unpu_arch *arch = l->arch;
	struct unpu_layer scratch;
	uint32_t i;
	int err;

	for (i = 0; i < arch->hp.layers; i++) {
		err = load_layer(l, i, &scratch);
		if (err)
			return err;
	}
	arch->layers = calloc(arch->hp.layers, sizeof(*arch->layers));
	if (!arch->layers)
		return unpu_fail(l->log, -ENOMEM, "no memory for %" PRIu32 " layers",
				 arch->hp.layers);
	for (i = 0; i < arch->hp.layers; i++)
		load_layer(l, i, &arch->layers[i]);
	return 0;
}

/* Does layer 0 have one of the three? */
static bool bias_there(const struct loader *l, enum bias bias, const char *a, const char *b,
		       const char *c)
{
	const char *names[] = { a, b, c };
	char name[64];
	size_t i;

	for (i = 0; i < 3 && bias == BIAS_MAYBE; i++) {
		layer_name(name, 0, names[i]);
		if (unpu_gguf_tensor(l->gguf, name))
			return true;
	}
	return bias == BIAS_ALWAYS;
}

static void settle_biases(const struct loader *l, struct unpu_layer_plan *plan)
{
	plan->attn_bias = bias_there(l, l->row->attn_bias, "attn_q.bias", "attn_k.bias",
				     "attn_v.bias");
	plan->out_bias = bias_there(l, l->row->out_bias, "attn_output.bias", "attn_output.bias",
				    "attn_output.bias");
	plan->ffn_bias = bias_there(l, l->row->ffn_bias, "ffn_gate.bias", "ffn_up.bias",
				    "ffn_down.bias");
}

static int load_embed(const struct loader *l)
{
	struct unpu_arch *arch = l->arch;
	int err;

	if (!unpu_gguf_num_tensors(l->gguf))
		return unpu_fail(l->log, -EINVAL, "the file holds no tensors, only keys: "
				 "tensor 'token_embd.weight' is missing");
	err = need_tensor(l, "token_embd.weight", &arch->embed);
	if (err)
		return err;
	if (arch->embed->dims[1] > VOCAB_MAX)
		return unpu_fail(l->log, -EINVAL, "tensor 'token_embd.weight' has %" PRIu64
				 " rows; at most %u are supported", arch->embed->dims[1],
				 VOCAB_MAX);
	err = check_shape(l, arch->embed, arch->hp.hidden, arch->embed->dims[1]);
	if (err)
		return err;
	arch->hp.vocab = arch->embed->dims[1];
	return check_type(l, arch->embed, true);
}

static int load_outside(const struct loader *l)
{
	struct unpu_arch *arch = l->arch;
	const struct unpu_hparams *hp = &arch->hp;
	int err;

	err = load_embed(l);
	if (!err && arch->plan.learned_positions)
		err = need_shaped(l, "position_embd.weight", hp->hidden, hp->context, false,
				  &arch->positions);
	if (!err)
		err = need_shaped(l, "output_norm.weight", hp->hidden, 1, false, &arch->out_norm);
	if (!err && arch->plan.norm_bias)
		err = need_shaped(l, "output_norm.bias", hp->hidden, 1, false,
				  &arch->out_norm_b);
	if (err)
		return err;
	arch->head = arch->embed;
	if (!unpu_gguf_tensor(l->gguf, "output.weight"))
		return 0;
	return need_shaped(l, "output.weight", hp->hidden, hp->vocab, true, &arch->head);
}

/* A tensor that nothing reads means that the model computes something else than the plan. */
static int refuse_others(const struct loader *l)
{
	const struct unpu_tensor *t;
	uint32_t i;

	for (i = 0; i < unpu_gguf_num_tensors(l->gguf); i++) {
		t = unpu_gguf_tensor_at(l->gguf, i);
		if (!l->placed[i])
			return unpu_fail(l->log, -EINVAL, "tensor '%s' has no place in a %s "
					 "model as unpu knows it", unpu_str_text(t->name).text,
					 l->row->name);
	}
	return 0;
}

/* ---- the whole -------------------------------------------------------------------------- */

static int find_row(const struct unpu_gguf *gguf, const struct unpu_log *log,
		    const struct arch_row **row)
{
	struct unpu_str name;
	char list[128] = "";
	size_t i;
	int err;

	err = unpu_gguf_str(gguf, "general.architecture", &name);
	if (err == -ENOENT)
		return unpu_fail(log, -EINVAL, "key 'general.architecture' is missing");
	if (err)
		return err;
	for (i = 0; i < NUM_ROWS; i++) {
		*row = &rows[i];
		if (unpu_str_is(name, rows[i].name))
			return 0;
		strcat(strcat(list, i ? ", " : ""), rows[i].name);
	}
	return unpu_fail(log, -EINVAL, "architecture '%s' is not supported; supported are %s",
			 unpu_str_text(name).text, list);
}

static int arch_load(struct loader *l)
{
	struct unpu_arch *arch = l->arch;
	int err;

	arch->name = l->row->name;
	arch->plan = l->row->plan;
	err = read_hparams(l, &arch->hp);
	if (err)
		return err;
	if (unpu_gguf_tensor(l->gguf, "rope_freqs.weight"))
		return unpu_fail(l->log, -EINVAL, "tensor 'rope_freqs.weight' (rope scaled by "
				 "frequency, as in Llama 3.1 and later) is not supported");
	settle_biases(l, &arch->plan);
	err = load_outside(l);
	if (!err)
		err = load_layers(l);
	if (!err)
		err = refuse_others(l);
	clamp_context(l, &arch->hp);
	return err;
}

int unpu_arch_create(const struct unpu_gguf *gguf, const struct unpu_log *log,
		     struct unpu_arch **arch)
{
	struct loader l = { .gguf = gguf, .log = log };
	int err;

	err = find_row(gguf, log, &l.row);
	if (err)
		return err;
	l.arch = calloc(1, sizeof(*l.arch));
	l.placed = calloc(unpu_gguf_num_tensors(gguf) + 1ul, sizeof(*l.placed));
	if (l.arch && l.placed)
		err = arch_load(&l);
	else
		err = unpu_fail(log, -ENOMEM, "no memory for a model's layers");
	free(l.placed);
	if (err)
		unpu_arch_destroy(l.arch);
	else
		*arch = l.arch;
	return err;
}

void unpu_arch_destroy(struct unpu_arch *arch)
{
	if (!arch)
		return;
	free(arch->layers);
	free(arch);
}
