/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The shader set: names, bindings, constants, grids. One table drives the compiler of programs,
 * the check of meaning on every device, the twins and the tests.
 *
 * A shader is created from its name and its specialization words (`struct unpu_<shader>_spec`, all
 * 32-bit words); a dispatch adds constants (`struct unpu_<shader>_const`, mostly empty), bindings
 * in the order of `enum unpu_<shader>_binding` and a grid.
 *
 * Buffers between dispatches, all f32; H = pad32(hidden), D = head_dim, C = cells:
 *
 *   x        [rows][H]                     the residual stream, padding 0
 *   q        [rows][heads * D]
 *   kv       one layer: K then V, each [kv_heads][slots * C][D] of kv_type; for int8 see below
 *   partials [rows][C / 64][heads][D] un-normalised outputs, then
 *            [rows][C / 64][heads]{max, sum}; C / 64 whatever the context bucket
 *   h        [rows][pad32(ffn)]
 *   logits   [logit_rows][vocab]
 *   maxima   [logit_rows][pad32(vocab) / 32]{f32 max (NaN: a logit of the group is NaN), u32 id}
 *   history  [slots][C] u32: the token at each cell
 *   rope     [positions][rope_dims / 2]{cos, sin}
 *   positions (learned) [positions][H]
 *   params   small f32 vectors of one dispatch, one after the other in the order named there
 *
 * kv of type int8, S = unpu_kv_scales(D):
 *
 *   quants   K then V, each [kv_heads][slots * C][D] int8 in [-127, 127], then
 *   scales   K then V, each [kv_heads][slots * C][S] f16
 *
 * Element i of a cell is quant[i] * scale[i / 32]; the last scale may stand for less than 32. Per
 * 32 and m = max |x|: scale = m / 127 to the nearest f16, quant = rint(x * (127 / m)), ties to
 * even; m < 1e-30: all 0; one that is not finite: scale NaN and quants 0, so that `sample` sees the
 * fault.
 *
 * A cell is whole 32-bit words in both planes (D is a multiple of 8, S is even, and the scale past
 * the last block, if any, is 0): a device without 8- and 16-bit storage reads and writes it as u32,
 * and two tokens of one batch never meet in a word. Every piece of whole cells begins and ends at a
 * multiple of 4 bytes, as `copy` wants.
 */
#ifndef UNPU_SHADERS_H
#define UNPU_SHADERS_H

#include "shaders/layout.h"

/* ---- the state buffer ------------------------------------------------------------------- */

#define UNPU_STATE_FAULT_INDEX	(1u << 0)	/* a word read from a buffer was out of range */
#define UNPU_STATE_FAULT_VALUE	(1u << 1)	/* the largest logit is not finite */

#define UNPU_STOP_CANCEL	1u	/* written by the host */
#define UNPU_STOP_END		2u	/* every row met an end-of-text token */
#define UNPU_STOP_FULL		3u	/* a row's context is full */

struct unpu_state_header {
	__u32 rows_live;
	__u32 stop;		/* not 0: the device skips what is left of the job */
	__u32 fault;		/* UNPU_STATE_FAULT_* */
	__u32 ring_head;	/* tokens sampled so far, all rows */
	__u32 reserved[12];
};

#define UNPU_ROW_LOGITS		(1u << 0)	/* `head` writes logits[out] */
#define UNPU_ROW_SAMPLE		(1u << 1)	/* `sample` takes the next token from logits[out] */

struct unpu_state_row {
	__u32 token;
	__u32 position;		/* for rope and learned positions */
	__u32 cell;		/* where K and V go; the row attends to cells 0..cell of its slot */
	__u32 slot;
	__u32 flags;		/* UNPU_ROW_* */
	__u32 out;		/* which row of logits */
	__u32 reserved[2];
};

#define UNPU_MAX_EOG		8
#define UNPU_STATE_MAX_BIAS	64

struct unpu_state_bias {
	__u32 token;		/* one out of range is passed over; of two alike the last counts */
	float bias;		/* added to the logit; -inf: never drawn */
};

/* Sampler settings of one slot. temperature 0 is greedy, in the order: bias, penalties, top-k,
 * top-p, min-p, temperature, draw. */
struct unpu_state_sampler {
	float temperature;
	__u32 top_k;		/* 0: off */
	float top_p;		/* 1: off */
	float min_p;		/* 0: off */
	float repeat_penalty;	/* 1: off */
	__u32 repeat_last_n;	/* how many of the latest tokens are penalised */
	float frequency_penalty;
	float presence_penalty;
	__u32 seed[2];
	__u32 num_eog;		/* up to UNPU_MAX_EOG */
	__u32 eog[UNPU_MAX_EOG];
	__u32 num_bias;		/* up to UNPU_STATE_MAX_BIAS */
	__u32 reserved[12];
	struct unpu_state_bias bias[UNPU_STATE_MAX_BIAS];
};

/*
 * The state buffer: one header, `slots` samplers, then the rows, so that programs of several row
 * capacities share one.
 */
static inline __u64 unpu_state_samplers_offset(void)
{
	return sizeof(struct unpu_state_header);
}

static inline __u64 unpu_state_rows_offset(__u32 slots)
{
	return unpu_state_samplers_offset() + (__u64)slots * sizeof(struct unpu_state_sampler);
}

static inline __u64 unpu_state_bytes(__u32 rows, __u32 slots)
{
	return unpu_state_rows_offset(slots) + (__u64)rows * sizeof(struct unpu_state_row);
}

/* ---- constants -------------------------------------------------------------------------- */

enum unpu_norm { UNPU_NORM_RMS = 0, UNPU_NORM_LAYER };
/* PAIRS: (2i, 2i + 1), HALVES: (i, i + n/2) */
enum unpu_rope { UNPU_ROPE_NONE = 0, UNPU_ROPE_PAIRS, UNPU_ROPE_HALVES };
enum unpu_act { UNPU_ACT_SILU = 0, UNPU_ACT_GELU, UNPU_ACT_RELU };	/* GELU: the tanh form */

#define UNPU_FLAG_NORM_BIAS	(1u << 0)
#define UNPU_FLAG_BIAS		(1u << 1)
#define UNPU_FLAG_QK_NORM	(1u << 2)
#define UNPU_FLAG_GATED		(1u << 3)

/* x[row] = embedding of the row's token (+ learned position). Grid: rows. */
struct unpu_embed_spec {
	__u32 rows, slots;
	__u32 vocab, hidden;
	__u32 layout;		/* of the embedding table */
	__u32 positions;	/* learned positions, 0: none */
};
enum unpu_embed_binding {
	UNPU_EMBED_STATE, UNPU_EMBED_QUANTS, UNPU_EMBED_SCALES, UNPU_EMBED_POSITIONS, UNPU_EMBED_X,
	UNPU_EMBED_BINDINGS
};

/*
 * Norm, [Wq; Wk; Wv], bias, q/k norm, rope; q out, K and V into the cell.
 * Grid: heads + 2 kv_heads (heads of q, then k, then v).
 * params: norm weight [H], norm bias [H] if NORM_BIAS, bias [pad32(rows of W)] if BIAS,
 * q norm [D] and k norm [D] if QK_NORM.
 */
struct unpu_qkv_spec {
	__u32 rows, slots, cells;
	__u32 hidden, heads, kv_heads, head_dim;
	__u32 layout, numeric, kv_type;
	__u32 norm, flags;
	float eps;
	__u32 rope, rope_dims;	/* the first rope_dims of a head turn; even; 0 without rope */
	__u32 positions;	/* length of the rope table; 0 without rope */
};
enum unpu_qkv_binding {
	UNPU_QKV_STATE, UNPU_QKV_X, UNPU_QKV_PARAMS, UNPU_QKV_QUANTS, UNPU_QKV_SCALES,
	UNPU_QKV_ROPE, UNPU_QKV_Q, UNPU_QKV_KV, UNPU_QKV_BINDINGS
};

/* Attention of one chunk of 64 positions. Grid: kv_heads, chunks, rows. */
struct unpu_attn_spec {
	__u32 rows, slots, cells;
	__u32 heads, kv_heads, head_dim;
	__u32 kv_type;
	float scale;		/* of q . k */
};
struct unpu_attn_const {
	__u32 chunks;		/* context bucket / 64, up to cells / 64 */
};
enum unpu_attn_binding {
	UNPU_ATTN_STATE, UNPU_ATTN_Q, UNPU_ATTN_KV, UNPU_ATTN_PARTIALS, UNPU_ATTN_BINDINGS
};

/* Merge of the chunks in order, Wo, bias, x += . Grid: H / 32. params: bias [H] if BIAS. */
struct unpu_attn_out_spec {
	__u32 rows, slots, cells;
	__u32 hidden, heads, head_dim;
	__u32 layout, numeric, flags;
};
enum unpu_attn_out_binding {
	UNPU_ATTN_OUT_STATE, UNPU_ATTN_OUT_PARTIALS, UNPU_ATTN_OUT_PARAMS, UNPU_ATTN_OUT_QUANTS,
	UNPU_ATTN_OUT_SCALES, UNPU_ATTN_OUT_X, UNPU_ATTN_OUT_BINDINGS
};

/*
 * Norm, Wgate and Wup, activation and product. Grid: pad32(ffn) / 32.
 * Gated: packed row 64u + i is gate row 32u + i, row 64u + 32 + i is up row 32u + i, i < 32.
 * params: norm weight [H], norm bias [H] if NORM_BIAS, bias in the order of packed rows if BIAS.
 */
struct unpu_ffn_in_spec {
	__u32 rows, slots;
	__u32 hidden, ffn;
	__u32 layout, numeric;
	__u32 norm, flags, act;
	float eps;
};
enum unpu_ffn_in_binding {
	UNPU_FFN_IN_STATE, UNPU_FFN_IN_X, UNPU_FFN_IN_PARAMS, UNPU_FFN_IN_QUANTS,
	UNPU_FFN_IN_SCALES, UNPU_FFN_IN_H, UNPU_FFN_IN_BINDINGS
};

/* Wdown, bias, x += . Grid: H / 32. params: bias [H] if BIAS. */
struct unpu_ffn_out_spec {
	__u32 rows, slots;
	__u32 hidden, ffn;
	__u32 layout, numeric, flags;
};
enum unpu_ffn_out_binding {
	UNPU_FFN_OUT_STATE, UNPU_FFN_OUT_H, UNPU_FFN_OUT_PARAMS, UNPU_FFN_OUT_QUANTS,
	UNPU_FFN_OUT_SCALES, UNPU_FFN_OUT_X, UNPU_FFN_OUT_BINDINGS
};

/*
 * Norm and logits of the rows with UNPU_ROW_LOGITS. Grid: pad32(vocab) / 32.
 * params: norm weight [H], norm bias [H] if NORM_BIAS, bias [pad32(vocab)] if BIAS.
 */
struct unpu_head_spec {
	__u32 rows, slots;
	__u32 hidden, vocab;
	__u32 layout, numeric;
	__u32 norm, flags;
	float eps;
	__u32 logit_rows;
};
enum unpu_head_binding {
	UNPU_HEAD_STATE, UNPU_HEAD_X, UNPU_HEAD_PARAMS, UNPU_HEAD_QUANTS, UNPU_HEAD_SCALES,
	UNPU_HEAD_LOGITS, UNPU_HEAD_MAXIMA, UNPU_HEAD_BINDINGS
};

/*
 * For each live row with UNPU_ROW_SAMPLE, in order: choose a token from logits[out]. Not the end of
 * the text and not a full context: write it to history[slot][cell + 1] and leave the row, advanced
 * by one (token, position, cell; out and flags kept), among the first rows with its embedding in x.
 * All other rows are dropped; rows_live is what is left. An end-of-text token is written to history
 * as well (when a cell is left). No row left: stop is set. Grid: 1.
 */
struct unpu_sample_spec {
	__u32 rows, slots, cells;
	__u32 vocab, hidden;
	__u32 logit_rows;
	__u32 layout;		/* of the embedding table */
	__u32 positions;	/* learned positions, 0: none */
};
enum unpu_sample_binding {
	UNPU_SAMPLE_STATE, UNPU_SAMPLE_LOGITS, UNPU_SAMPLE_MAXIMA, UNPU_SAMPLE_HISTORY,
	UNPU_SAMPLE_QUANTS, UNPU_SAMPLE_SCALES, UNPU_SAMPLE_POSITIONS, UNPU_SAMPLE_X,
	UNPU_SAMPLE_BINDINGS
};

/* dst[0, bytes) = src[0, bytes). Grid: 64 KiB units. */
struct unpu_copy_const {
	__u32 bytes_lo, bytes_hi;	/* multiple of 4 */
};
enum unpu_copy_binding { UNPU_COPY_SRC, UNPU_COPY_DST, UNPU_COPY_BINDINGS };

/* ---- the table --------------------------------------------------------------------------- */

enum unpu_shader_kind {
	UNPU_SHADER_EMBED = 0,
	UNPU_SHADER_QKV,
	UNPU_SHADER_ATTN,
	UNPU_SHADER_ATTN_OUT,
	UNPU_SHADER_FFN_IN,
	UNPU_SHADER_FFN_OUT,
	UNPU_SHADER_HEAD,
	UNPU_SHADER_SAMPLE,
	UNPU_SHADER_COPY,
	UNPU_SHADER_COUNT,
};

#define UNPU_SHADER_MAX_BINDINGS	8
#define UNPU_SHADER_MAX_SPEC_WORDS	24

struct unpu_shader_info {
	const char *name;		/* "qkv.1" */
	__u32 num_bindings;
	__u32 spec_words;
	__u32 const_bytes;
	__u32 write_mask;		/* bit b: binding b is written */
};

/* What one dispatch must look like, computed from its constants. */
struct unpu_shader_need {
	__u32 grid[3];
	__u64 bytes[UNPU_SHADER_MAX_BINDINGS];	/* least size of each binding; 0: not read */
};

/* NULL for a number that is no shader. */
const struct unpu_shader_info *unpu_shader_info(__u32 kind);
/* The kind of a NUL-padded name, or -ENOENT (as a negative int). */
int unpu_shader_find(const __u8 name[DRM_UNPU_SHADER_NAME]);
/* 0, or -EINVAL when a word is out of its range; after it no size below overflows. */
int unpu_shader_check_spec(__u32 kind, const __u32 *spec, __u32 spec_words);
/* Fills need from checked specialization words; -EINVAL when the constants are out of range. */
int unpu_shader_need(__u32 kind, const __u32 *spec, const void *constants, __u32 const_bytes,
		     struct unpu_shader_need *need);

/* Rows of W of qkv, unpadded; and pieces of `params` in floats, 0 where a flag is off. */
static inline __u32 unpu_qkv_rows(const struct unpu_qkv_spec *s)
{
	return (s->heads + 2 * s->kv_heads) * s->head_dim;
}

/* Scales of one cell of one head of an int8 cache. */
static inline __u32 unpu_kv_scales(__u32 head_dim)
{
	return (head_dim + 63) / 64 * 2;
}

/* Bytes of one cell of one head of K or V, its scales apart; and of its scales. */
static inline __u32 unpu_kv_cell_bytes(__u32 kv_type, __u32 head_dim)
{
	switch (kv_type) {
	case DRM_UNPU_KV_INT8:
		return head_dim;
	case DRM_UNPU_KV_F16:
		return head_dim * 2;
	}
	return head_dim * 4;
}

static inline __u32 unpu_kv_scale_bytes(__u32 kv_type, __u32 head_dim)
{
	return kv_type == DRM_UNPU_KV_INT8 ? unpu_kv_scales(head_dim) * 2 : 0;
}

/* Of one layer. */
static inline __u64 unpu_kv_bytes(__u32 kv_type, __u32 kv_heads, __u32 slots, __u32 cells,
				  __u32 head_dim)
{
	return 2ull * kv_heads * slots * cells *
	       (unpu_kv_cell_bytes(kv_type, head_dim) + unpu_kv_scale_bytes(kv_type, head_dim));
}

#endif
