/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The table of shaders. Integers only, no libc: the kernel and the device process compile this
 * file as it is, so floats are judged by their bits.
 */
#ifdef __KERNEL__
#include <linux/errno.h>
#include <linux/stddef.h>
#else
#include <errno.h>
#include <stddef.h>
#endif

#include "shaders/shaders.h"

/* What a specialization word means, and with it the values it may have. */
enum word {
	ROWS = 1, SLOTS, CELLS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB, LOGIT_ROWS,
	LAYOUT, NUMERIC, KV_TYPE, NORM, ACT, ROPE, ROPE_DIMS, POSITIONS, FLAGS, POSITIVE,
	WORDS
};

/*
 * The bounds keep every size in unpu_shader_need() below 2^48 and every pad32() inside 32 bits;
 * POSITIVE is a float's bits between 0 and infinity, both excluded.
 */
static const struct {
	__u32 min, max, multiple;
} ranges[WORDS] = {
	[ROWS] = { 1, 256, 1 },
	[SLOTS] = { 1, 64, 1 },
	[CELLS] = { 64, 1u << 20, UNPU_CHUNK },
	[HIDDEN] = { 8, 65536, 1 },
	[HEADS] = { 1, 1024, 1 },
	[KV_HEADS] = { 1, 1024, 1 },
	[HEAD_DIM] = { 8, 256, 8 },
	[FFN] = { 1, 1u << 18, 1 },
	[VOCAB] = { 1, 1u << 20, 1 },
	[LOGIT_ROWS] = { 1, 256, 1 },
	[LAYOUT] = { 0, DRM_UNPU_LAYOUT_COUNT - 1, 1 },
	[NUMERIC] = { 0, DRM_UNPU_CLASS_A8, 1 },
	[KV_TYPE] = { 0, DRM_UNPU_KV_INT8, 1 },
	[NORM] = { 0, UNPU_NORM_LAYER, 1 },
	[ACT] = { 0, UNPU_ACT_RELU, 1 },
	[ROPE] = { 0, UNPU_ROPE_HALVES, 1 },
	[ROPE_DIMS] = { 0, 256, 2 },
	[POSITIONS] = { 0, 1u << 20, 1 },
	[FLAGS] = { 0, 0xffffffff, 1 },
	[POSITIVE] = { 1, 0x7f7fffff, 1 },
};

struct shader {
	struct unpu_shader_info info;
	__u32 flags;			/* UNPU_FLAG_* it knows */
	__u8 words[UNPU_SHADER_MAX_SPEC_WORDS];	/* enum word */
};

#define SPEC(__shader)		(sizeof(struct unpu_ ## __shader ## _spec) / sizeof(__u32))
#define WRITES(__binding)	(1u << (__binding))

/* A shader that reads the state buffer may set `fault` there, so all of them write it. */
static const struct shader shaders[UNPU_SHADER_COUNT] = {
	[UNPU_SHADER_EMBED] = {
		.info = { "embed.1", UNPU_EMBED_BINDINGS, SPEC(embed), 0,
			  WRITES(UNPU_EMBED_STATE) | WRITES(UNPU_EMBED_X) },
		.words = { ROWS, SLOTS, VOCAB, HIDDEN, LAYOUT, POSITIONS },
	},
	[UNPU_SHADER_QKV] = {
		.info = { "qkv.1", UNPU_QKV_BINDINGS, SPEC(qkv), 0,
			  WRITES(UNPU_QKV_STATE) | WRITES(UNPU_QKV_Q) | WRITES(UNPU_QKV_KV) },
		.flags = UNPU_FLAG_NORM_BIAS | UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM,
		.words = { ROWS, SLOTS, CELLS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYOUT, NUMERIC,
			   KV_TYPE, NORM, FLAGS, POSITIVE, ROPE, ROPE_DIMS, POSITIONS },
	},
	[UNPU_SHADER_ATTN] = {
		.info = { "attn.1", UNPU_ATTN_BINDINGS, SPEC(attn), sizeof(struct unpu_attn_const),
			  WRITES(UNPU_ATTN_STATE) | WRITES(UNPU_ATTN_PARTIALS) },
		.words = { ROWS, SLOTS, CELLS, HEADS, KV_HEADS, HEAD_DIM, KV_TYPE, POSITIVE },
	},
	[UNPU_SHADER_ATTN_OUT] = {
		.info = { "attn_out.1", UNPU_ATTN_OUT_BINDINGS, SPEC(attn_out), 0,
			  WRITES(UNPU_ATTN_OUT_STATE) | WRITES(UNPU_ATTN_OUT_X) },
		.flags = UNPU_FLAG_BIAS,
		.words = { ROWS, SLOTS, CELLS, HIDDEN, HEADS, HEAD_DIM, LAYOUT, NUMERIC, FLAGS },
	},
	[UNPU_SHADER_FFN_IN] = {
		.info = { "ffn_in.1", UNPU_FFN_IN_BINDINGS, SPEC(ffn_in), 0,
			  WRITES(UNPU_FFN_IN_STATE) | WRITES(UNPU_FFN_IN_H) },
		.flags = UNPU_FLAG_NORM_BIAS | UNPU_FLAG_BIAS | UNPU_FLAG_GATED,
		.words = { ROWS, SLOTS, HIDDEN, FFN, LAYOUT, NUMERIC, NORM, FLAGS, ACT, POSITIVE },
	},
	[UNPU_SHADER_FFN_OUT] = {
		.info = { "ffn_out.1", UNPU_FFN_OUT_BINDINGS, SPEC(ffn_out), 0,
			  WRITES(UNPU_FFN_OUT_STATE) | WRITES(UNPU_FFN_OUT_X) },
		.flags = UNPU_FLAG_BIAS,
		.words = { ROWS, SLOTS, HIDDEN, FFN, LAYOUT, NUMERIC, FLAGS },
	},
	[UNPU_SHADER_HEAD] = {
		.info = { "head.1", UNPU_HEAD_BINDINGS, SPEC(head), 0,
			  WRITES(UNPU_HEAD_STATE) | WRITES(UNPU_HEAD_LOGITS) |
			  WRITES(UNPU_HEAD_MAXIMA) },
		.flags = UNPU_FLAG_NORM_BIAS | UNPU_FLAG_BIAS,
		.words = { ROWS, SLOTS, HIDDEN, VOCAB, LAYOUT, NUMERIC, NORM, FLAGS, POSITIVE,
			   LOGIT_ROWS },
	},
	[UNPU_SHADER_SAMPLE] = {
		.info = { "sample.1", UNPU_SAMPLE_BINDINGS, SPEC(sample), 0,
			  WRITES(UNPU_SAMPLE_STATE) | WRITES(UNPU_SAMPLE_HISTORY) |
			  WRITES(UNPU_SAMPLE_X) },
		.words = { ROWS, SLOTS, CELLS, VOCAB, HIDDEN, LOGIT_ROWS, LAYOUT, POSITIONS },
	},
	[UNPU_SHADER_COPY] = {
		.info = { "copy.1", UNPU_COPY_BINDINGS, 0, sizeof(struct unpu_copy_const),
			  WRITES(UNPU_COPY_DST) },
	},
};

const struct unpu_shader_info *unpu_shader_info(__u32 kind)
{
	return kind < UNPU_SHADER_COUNT ? &shaders[kind].info : NULL;
}

static int name_equals(const __u8 name[DRM_UNPU_SHADER_NAME], const char *known)
{
	__u32 i = 0;

	for (; known[i]; i++)
		if (name[i] != (__u8)known[i])
			return 0;
	for (; i < DRM_UNPU_SHADER_NAME; i++)
		if (name[i])
			return 0;
	return 1;
}

int unpu_shader_find(const __u8 name[DRM_UNPU_SHADER_NAME])
{
	__u32 kind;

	for (kind = 0; kind < UNPU_SHADER_COUNT; kind++)
		if (name_equals(name, shaders[kind].info.name))
			return (int)kind;
	return -ENOENT;
}

/* ---- specialization words ------------------------------------------------------------------ */

/* The value of the word that means w; none where the shader has no such word. */
static __u32 spec_word(const struct shader *shader, const __u32 *spec, enum word w, __u32 none)
{
	__u32 i;

	for (i = 0; i < shader->info.spec_words; i++)
		if (shader->words[i] == w)
			return spec[i];
	return none;
}

static int check_ranges(const struct shader *shader, const __u32 *spec)
{
	__u32 i;

	for (i = 0; i < shader->info.spec_words; i++) {
		__u8 w = shader->words[i];

		if (spec[i] < ranges[w].min || spec[i] > ranges[w].max ||
		    spec[i] % ranges[w].multiple)
			return -EINVAL;
		if (w == FLAGS && spec[i] & ~shader->flags)
			return -EINVAL;
	}
	return 0;
}

/*
 * A head turns within itself; without rope there is neither a table nor anything to turn. Shaders
 * without head_dim have learned positions, which go with any.
 */
static int check_rope(const struct shader *shader, const __u32 *spec)
{
	__u32 rope = spec_word(shader, spec, ROPE, UNPU_ROPE_NONE);
	__u32 dims = spec_word(shader, spec, ROPE_DIMS, 0);
	__u32 head_dim = spec_word(shader, spec, HEAD_DIM, 0);
	__u32 positions = spec_word(shader, spec, POSITIONS, 0);

	if (rope == UNPU_ROPE_NONE)
		return dims || (positions && head_dim) ? -EINVAL : 0;
	return dims && dims <= head_dim && positions ? 0 : -EINVAL;
}

/* Rows and inputs of the shader's matrix; 0 x 0 where it has none. */
static void matrix_shape(__u32 kind, const __u32 *spec, __u32 *rows, __u32 *k)
{
	const struct shader *shader = &shaders[kind];
	__u32 hidden = spec_word(shader, spec, HIDDEN, 0);
	__u32 vocab = spec_word(shader, spec, VOCAB, 0);
	__u32 ffn = spec_word(shader, spec, FFN, 0);
	__u32 flags = spec_word(shader, spec, FLAGS, 0);

	*rows = 0;
	*k = 0;
	switch (kind) {
	case UNPU_SHADER_EMBED:
	case UNPU_SHADER_HEAD:
	case UNPU_SHADER_SAMPLE:
		*rows = vocab;
		*k = hidden;
		break;
	case UNPU_SHADER_QKV:
		*rows = unpu_qkv_rows((const void *)spec);
		*k = hidden;
		break;
	case UNPU_SHADER_ATTN_OUT:
		*rows = hidden;
		*k = spec_word(shader, spec, HEADS, 0) * spec_word(shader, spec, HEAD_DIM, 0);
		break;
	case UNPU_SHADER_FFN_IN:
		*rows = flags & UNPU_FLAG_GATED ? 2 * unpu_pad32(ffn) : ffn;
		*k = hidden;
		break;
	case UNPU_SHADER_FFN_OUT:
		*rows = hidden;
		*k = ffn;
		break;
	}
}

/* Class a8 multiplies integers; a row of quantised GGUF blocks has no padding, nor has a group of
 * blocks that share their scales. */
static int check_matrix(__u32 kind, const __u32 *spec)
{
	const struct shader *shader = &shaders[kind];
	const struct unpu_layout_info *layout;
	__u32 rows, k;

	matrix_shape(kind, spec, &rows, &k);
	if (!rows)
		return 0;
	layout = unpu_layout_info(spec_word(shader, spec, LAYOUT, 0));
	if (spec_word(shader, spec, NUMERIC, DRM_UNPU_CLASS_F32) == DRM_UNPU_CLASS_A8 &&
	    !layout->quantised)
		return -EINVAL;
	if (layout->quantised && !layout->packed && k % 32)
		return -EINVAL;
	return layout->group > 32 && k % layout->group ? -EINVAL : 0;
}

int unpu_shader_check_spec(__u32 kind, const __u32 *spec, __u32 spec_words)
{
	const struct shader *shader;

	if (kind >= UNPU_SHADER_COUNT || spec_words != shaders[kind].info.spec_words)
		return -EINVAL;
	shader = &shaders[kind];
	if (check_ranges(shader, spec) || check_rope(shader, spec) || check_matrix(kind, spec))
		return -EINVAL;
	if (spec_word(shader, spec, HEADS, 0) % spec_word(shader, spec, KV_HEADS, 1))
		return -EINVAL;
	return 0;
}

/* ---- needs --------------------------------------------------------------------------------- */

static void set_grid(struct unpu_shader_need *need, __u32 x, __u32 y, __u32 z)
{
	need->grid[0] = x;
	need->grid[1] = y;
	need->grid[2] = z;
}

static __u64 f32s(__u64 count)
{
	return count * 4;
}

/* rows x pad32(n) floats, as x and h are. */
static __u64 row_bytes(__u32 rows, __u32 n)
{
	return f32s((__u64)rows * unpu_pad32(n));
}

/* The two planes of the matrix, bound one after the other. */
static void need_matrix(__u32 kind, const __u32 *spec, __u32 quants, struct unpu_shader_need *need)
{
	__u32 layout = spec_word(&shaders[kind], spec, LAYOUT, 0);
	__u32 rows, k;

	matrix_shape(kind, spec, &rows, &k);
	need->bytes[quants] = unpu_layout_quant_bytes(layout, rows, k);
	need->bytes[quants + 1] = unpu_layout_scale_bytes(layout, rows, k);
}

/* The norm's weight and bias, then the bias of all packed rows. */
static __u64 param_bytes(__u32 norm, __u32 flags, __u32 bias)
{
	__u64 n = unpu_pad32(norm);

	if (flags & UNPU_FLAG_NORM_BIAS)
		n += unpu_pad32(norm);
	if (flags & UNPU_FLAG_BIAS)
		n += unpu_pad32(bias);
	return f32s(n);
}

static __u64 partial_bytes(__u32 rows, __u32 cells, __u32 heads, __u32 head_dim)
{
	return f32s((__u64)rows * (cells / UNPU_CHUNK) * heads * (head_dim + 2));
}

static void need_embed(const struct unpu_embed_spec *s, struct unpu_shader_need *need)
{
	set_grid(need, s->rows, 1, 1);
	need->bytes[UNPU_EMBED_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_EMBED_POSITIONS] = row_bytes(s->positions, s->hidden);
	need->bytes[UNPU_EMBED_X] = row_bytes(s->rows, s->hidden);
}

static void need_qkv(const struct unpu_qkv_spec *s, struct unpu_shader_need *need)
{
	__u64 params = param_bytes(s->hidden, s->flags, unpu_qkv_rows(s));

	if (s->flags & UNPU_FLAG_QK_NORM)
		params += f32s(2 * s->head_dim);
	set_grid(need, s->heads + 2 * s->kv_heads, 1, 1);
	need->bytes[UNPU_QKV_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_QKV_X] = row_bytes(s->rows, s->hidden);
	need->bytes[UNPU_QKV_PARAMS] = params;
	need->bytes[UNPU_QKV_ROPE] = f32s((__u64)s->positions * s->rope_dims);
	need->bytes[UNPU_QKV_Q] = f32s((__u64)s->rows * s->heads * s->head_dim);
	need->bytes[UNPU_QKV_KV] = unpu_kv_bytes(s->kv_type, s->kv_heads, s->slots, s->cells,
						 s->head_dim);
}

static int need_attn(const struct unpu_attn_spec *s, const struct unpu_attn_const *c,
		     struct unpu_shader_need *need)
{
	if (!c->chunks || c->chunks > s->cells / UNPU_CHUNK)
		return -EINVAL;
	set_grid(need, s->kv_heads, c->chunks, s->rows);
	need->bytes[UNPU_ATTN_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_ATTN_Q] = f32s((__u64)s->rows * s->heads * s->head_dim);
	need->bytes[UNPU_ATTN_KV] = unpu_kv_bytes(s->kv_type, s->kv_heads, s->slots, s->cells,
						  s->head_dim);
	need->bytes[UNPU_ATTN_PARTIALS] = partial_bytes(s->rows, s->cells, s->heads, s->head_dim);
	return 0;
}

static void need_attn_out(const struct unpu_attn_out_spec *s, struct unpu_shader_need *need)
{
	set_grid(need, unpu_pad32(s->hidden) / 32, 1, 1);
	need->bytes[UNPU_ATTN_OUT_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_ATTN_OUT_PARTIALS] = partial_bytes(s->rows, s->cells, s->heads,
							    s->head_dim);
	need->bytes[UNPU_ATTN_OUT_PARAMS] = param_bytes(0, s->flags, s->hidden);
	need->bytes[UNPU_ATTN_OUT_X] = row_bytes(s->rows, s->hidden);
}

static void need_ffn_in(const struct unpu_ffn_in_spec *s, struct unpu_shader_need *need)
{
	__u32 packed = unpu_pad32(s->ffn) * (s->flags & UNPU_FLAG_GATED ? 2 : 1);

	set_grid(need, unpu_pad32(s->ffn) / 32, 1, 1);
	need->bytes[UNPU_FFN_IN_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_FFN_IN_X] = row_bytes(s->rows, s->hidden);
	need->bytes[UNPU_FFN_IN_PARAMS] = param_bytes(s->hidden, s->flags, packed);
	need->bytes[UNPU_FFN_IN_H] = row_bytes(s->rows, s->ffn);
}

static void need_ffn_out(const struct unpu_ffn_out_spec *s, struct unpu_shader_need *need)
{
	set_grid(need, unpu_pad32(s->hidden) / 32, 1, 1);
	need->bytes[UNPU_FFN_OUT_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_FFN_OUT_H] = row_bytes(s->rows, s->ffn);
	need->bytes[UNPU_FFN_OUT_PARAMS] = param_bytes(0, s->flags, s->hidden);
	need->bytes[UNPU_FFN_OUT_X] = row_bytes(s->rows, s->hidden);
}

static __u64 maxima_bytes(__u32 logit_rows, __u32 vocab)
{
	return (__u64)logit_rows * (unpu_pad32(vocab) / 32) * 8;
}

static void need_head(const struct unpu_head_spec *s, struct unpu_shader_need *need)
{
	set_grid(need, unpu_pad32(s->vocab) / 32, 1, 1);
	need->bytes[UNPU_HEAD_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_HEAD_X] = row_bytes(s->rows, s->hidden);
	need->bytes[UNPU_HEAD_PARAMS] = param_bytes(s->hidden, s->flags, s->vocab);
	need->bytes[UNPU_HEAD_LOGITS] = f32s((__u64)s->logit_rows * s->vocab);
	need->bytes[UNPU_HEAD_MAXIMA] = maxima_bytes(s->logit_rows, s->vocab);
}

static void need_sample(const struct unpu_sample_spec *s, struct unpu_shader_need *need)
{
	set_grid(need, 1, 1, 1);
	need->bytes[UNPU_SAMPLE_STATE] = unpu_state_bytes(s->rows, s->slots);
	need->bytes[UNPU_SAMPLE_LOGITS] = f32s((__u64)s->logit_rows * s->vocab);
	need->bytes[UNPU_SAMPLE_MAXIMA] = maxima_bytes(s->logit_rows, s->vocab);
	need->bytes[UNPU_SAMPLE_HISTORY] = f32s((__u64)s->slots * s->cells);
	need->bytes[UNPU_SAMPLE_POSITIONS] = row_bytes(s->positions, s->hidden);
	need->bytes[UNPU_SAMPLE_X] = row_bytes(s->rows, s->hidden);
}

static int need_copy(const struct unpu_copy_const *c, struct unpu_shader_need *need)
{
	__u64 bytes = (__u64)c->bytes_hi << 32 | c->bytes_lo;

	/* The largest count of 64 KiB units that fits grid[0]. */
	if (!bytes || bytes % 4 || bytes > 0xffffffffull << 16)
		return -EINVAL;
	set_grid(need, (__u32)((bytes + 0xffff) >> 16), 1, 1);
	need->bytes[UNPU_COPY_SRC] = bytes;
	need->bytes[UNPU_COPY_DST] = bytes;
	return 0;
}

int unpu_shader_need(__u32 kind, const __u32 *spec, const void *constants, __u32 const_bytes,
		     struct unpu_shader_need *need)
{
	const void *s = spec;

	if (kind >= UNPU_SHADER_COUNT || const_bytes != shaders[kind].info.const_bytes)
		return -EINVAL;
	*need = (struct unpu_shader_need){ 0 };
	switch (kind) {
	case UNPU_SHADER_EMBED:
		need_embed(s, need);
		need_matrix(kind, spec, UNPU_EMBED_QUANTS, need);
		return 0;
	case UNPU_SHADER_QKV:
		need_qkv(s, need);
		need_matrix(kind, spec, UNPU_QKV_QUANTS, need);
		return 0;
	case UNPU_SHADER_ATTN:
		return need_attn(s, constants, need);
	case UNPU_SHADER_ATTN_OUT:
		need_attn_out(s, need);
		need_matrix(kind, spec, UNPU_ATTN_OUT_QUANTS, need);
		return 0;
	case UNPU_SHADER_FFN_IN:
		need_ffn_in(s, need);
		need_matrix(kind, spec, UNPU_FFN_IN_QUANTS, need);
		return 0;
	case UNPU_SHADER_FFN_OUT:
		need_ffn_out(s, need);
		need_matrix(kind, spec, UNPU_FFN_OUT_QUANTS, need);
		return 0;
	case UNPU_SHADER_HEAD:
		need_head(s, need);
		need_matrix(kind, spec, UNPU_HEAD_QUANTS, need);
		return 0;
	case UNPU_SHADER_SAMPLE:
		need_sample(s, need);
		need_matrix(kind, spec, UNPU_SAMPLE_QUANTS, need);
		return 0;
	}
	return need_copy(constants, need);
}
