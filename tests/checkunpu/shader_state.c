/* SPDX-License-Identifier: MIT */
/*
 * Whoever can write the state buffer can write anything there, into the history, and into the
 * maxima: the twins stay inside their buffers and say so in `fault`.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/shader.h"

#define ROWS		3u
#define SLOTS		2u
#define CELLS		128u
#define HIDDEN		40u
#define VOCAB		70u
#define POSITIONS	50u

/* set_layout() puts in what the device at hand has. */
#define LAYOUT		DRM_UNPU_LAYOUT_F32_R16

static struct unpu_embed_spec embed = { ROWS, SLOTS, VOCAB, HIDDEN, LAYOUT, POSITIONS };
static struct unpu_qkv_spec qkv = {
	.rows = ROWS, .slots = SLOTS, .cells = CELLS, .hidden = HIDDEN, .heads = 4, .kv_heads = 2,
	.head_dim = 8, .layout = LAYOUT, .kv_type = DRM_UNPU_KV_F16, .eps = 1e-5f,
	.rope = UNPU_ROPE_HALVES, .rope_dims = 8, .positions = POSITIONS,
};
static const struct unpu_attn_spec attn = { ROWS, SLOTS, CELLS, 4, 2, 8, DRM_UNPU_KV_F16, 1.0f };
static struct unpu_qkv_spec qkv_int8 = {
	.rows = ROWS, .slots = SLOTS, .cells = CELLS, .hidden = HIDDEN, .heads = 4, .kv_heads = 2,
	.head_dim = 40, .layout = LAYOUT, .kv_type = DRM_UNPU_KV_INT8, .eps = 1e-5f,
	.rope = UNPU_ROPE_HALVES, .rope_dims = 8, .positions = POSITIONS,
};
static const struct unpu_attn_spec attn_int8 = {
	ROWS, SLOTS, CELLS, 4, 2, 40, DRM_UNPU_KV_INT8, 1.0f
};
static const struct unpu_attn_const attn_const = { CELLS / 64 };
static struct unpu_attn_out_spec attn_out = {
	ROWS, SLOTS, CELLS, HIDDEN, 4, 8, LAYOUT, DRM_UNPU_CLASS_F32, 0
};
static struct unpu_ffn_in_spec ffn_in = {
	.rows = ROWS, .slots = SLOTS, .hidden = HIDDEN, .ffn = 33, .layout = LAYOUT, .eps = 1e-5f,
};
static struct unpu_ffn_out_spec ffn_out = {
	.rows = ROWS, .slots = SLOTS, .hidden = HIDDEN, .ffn = 33, .layout = LAYOUT,
};
static struct unpu_head_spec head = {
	.rows = ROWS, .slots = SLOTS, .hidden = HIDDEN, .vocab = VOCAB, .layout = LAYOUT,
	.eps = 1e-5f, .logit_rows = ROWS,
};
static struct unpu_sample_spec sample = {
	ROWS, SLOTS, CELLS, VOCAB, HIDDEN, ROWS, LAYOUT, POSITIONS
};

static void set_layout(const struct check_level *level)
{
	uint32_t layout = level->device ? DRM_UNPU_LAYOUT_F32_R32 : LAYOUT;

	embed.layout = qkv.layout = qkv_int8.layout = attn_out.layout = layout;
	ffn_in.layout = ffn_out.layout = head.layout = sample.layout = layout;
}

enum word { TOKEN = 0, POSITION, CELL, SLOT, FLAGS, OUT, LIVE, WORDS };

static const struct victim {
	const char *name;
	uint32_t kind;
	const void *spec, *constants;
	uint32_t bounds[WORDS];		/* 0: the word is no index of this shader */
} victims[] = {
	{ "embed", UNPU_SHADER_EMBED, &embed, NULL,
	  { [TOKEN] = VOCAB, [POSITION] = POSITIONS, [LIVE] = ROWS + 1 } },
	{ "qkv", UNPU_SHADER_QKV, &qkv, NULL,
	  { [POSITION] = POSITIONS, [CELL] = CELLS, [SLOT] = SLOTS, [LIVE] = ROWS + 1 } },
	{ "attn", UNPU_SHADER_ATTN, &attn, &attn_const,
	  { [CELL] = CELLS, [SLOT] = SLOTS, [LIVE] = ROWS + 1 } },
	{ "qkv_int8", UNPU_SHADER_QKV, &qkv_int8, NULL,
	  { [POSITION] = POSITIONS, [CELL] = CELLS, [SLOT] = SLOTS, [LIVE] = ROWS + 1 } },
	{ "attn_int8", UNPU_SHADER_ATTN, &attn_int8, &attn_const,
	  { [CELL] = CELLS, [SLOT] = SLOTS, [LIVE] = ROWS + 1 } },
	{ "attn_out", UNPU_SHADER_ATTN_OUT, &attn_out, NULL,
	  { [CELL] = CELLS, [LIVE] = ROWS + 1 } },
	{ "ffn_in", UNPU_SHADER_FFN_IN, &ffn_in, NULL, { [LIVE] = ROWS + 1 } },
	{ "ffn_out", UNPU_SHADER_FFN_OUT, &ffn_out, NULL, { [LIVE] = ROWS + 1 } },
	{ "head", UNPU_SHADER_HEAD, &head, NULL, { [OUT] = ROWS, [LIVE] = ROWS + 1 } },
	{ "sample", UNPU_SHADER_SAMPLE, &sample, NULL,
	  { [CELL] = CELLS, [SLOT] = SLOTS, [OUT] = ROWS, [LIVE] = ROWS + 1 } },
};

/* Finite floats everywhere, an honest state and settings that make `sample` look at everything. */
static void fill(struct shader *sh)
{
	for (uint32_t b = 1; b < unpu_shader_info(sh->kind)->num_bindings; b++)
		for (uint32_t i = 0; i < sh->bufs[b].bytes / 4; i++)
			shader_floats(sh, b)[i] = check_uniform(-1, 1);
	if (sh->kind == UNPU_SHADER_SAMPLE)
		memset(sh->bufs[UNPU_SAMPLE_HISTORY].data, 0, sh->bufs[UNPU_SAMPLE_HISTORY].bytes);
	for (uint32_t i = 0; sh->kind == UNPU_SHADER_SAMPLE &&
	     i < sh->bufs[UNPU_SAMPLE_MAXIMA].bytes / 8; i++)
		memcpy(sh->bufs[UNPU_SAMPLE_MAXIMA].data + i * 8 + 4, &(uint32_t){ 1 }, 4);
	shader_rows_init(sh, ROWS, CELLS / 2, POSITIONS / 2);
	for (uint32_t i = 0; i < SLOTS; i++)
		shader_samplers(sh)[i] = (struct unpu_state_sampler){
			.temperature = 1, .top_k = i ? 5 : 0, .top_p = 0.9f, .min_p = 0.01f,
			.repeat_penalty = 1.1f, .repeat_last_n = 64, .num_bias = 3 * i,
			.bias = { { 1, 2 }, { VOCAB, 3 }, { 1, -INFINITY } },
		};
}

static void put(const struct shader *sh, enum word word, uint32_t row, uint32_t value)
{
	struct unpu_state_row *r = &shader_rows(sh)[row];
	uint32_t *const words[WORDS] = {
		&r->token, &r->position, &r->cell, &r->slot, &r->flags, &r->out,
		&shader_state(sh)->rows_live,
	};

	*words[word] = value;
}

/* Each row comes with its flags, so a word is an index wherever the shader uses it at all. */
static void check_word(struct shader *sh, const struct victim *v, enum word word)
{
	const uint32_t bound = v->bounds[word];
	const uint32_t values[] = { 0, bound - 1, bound, bound + 1, 0x7fffffff, 0x80000000,
				    0xffffffff, bound * 0x10001u, 0x40000000 };

	for (uint32_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		uint32_t fault, want = 0;

		fill(sh);
		if (word != LIVE || values[i] <= ROWS)
			put(sh, LIVE, 0, ROWS);
		put(sh, word, check_below(ROWS), values[i]);
		shader_run(sh, 1 + check_below(3));
		fault = shader_state(sh)->fault & UNPU_STATE_FAULT_INDEX;
		if (bound && values[i] >= bound)
			want = UNPU_STATE_FAULT_INDEX;
		/* The next position of a learned table may be past its end. */
		if (v->kind == UNPU_SHADER_SAMPLE && (word == POSITION || fault == want))
			continue;
		if (fault != want)
			check_fail("word %u is %#x: fault %#x", word, values[i], fault);
	}
}

static void check_victim(const struct check_level *level, const struct victim *v)
{
	int int8 = v->spec == &qkv_int8 || v->spec == &attn_int8;

	if (!check_begin(level, !int8 || shader_has_kv(level, DRM_UNPU_KV_INT8),
			 "shader_state_%s", v->name))
		return;
	for (int side = 0; side < (level->device ? 1 : 2); side++) {
		struct shader sh;

		shader_init(&sh, level, v->kind, v->spec, v->constants, side);
		for (uint32_t word = 0; word < WORDS && check_going_on(); word++)
			check_word(&sh, v, word);
		/* Random words everywhere in the state. */
		for (int n = 0; n < (level->device ? 30 : 100) && check_going_on(); n++) {
			fill(&sh);
			for (uint32_t i = 0; i < sh.bufs[0].bytes / 4; i++)
				if (check_below(3))
					((uint32_t *)sh.bufs[0].data)[i] = check_rand() >>
									   check_below(32);
			shader_run(&sh, 1 + check_below(3));
		}
		shader_finish(&sh);
	}
	check_end();
}

/* A context bucket that is smaller than the cell. */
static void check_bucket(const struct check_level *level)
{
	const struct unpu_attn_const one = { 1 };
	struct shader sh;

	if (!check_begin(level, 1, "shader_state_bucket"))
		return;
	shader_init(&sh, level, UNPU_SHADER_ATTN, &attn, &one, CHECK_BACK);
	fill(&sh);
	put(&sh, CELL, 1, 64);
	shader_run(&sh, 2);
	if (shader_state(&sh)->fault != UNPU_STATE_FAULT_INDEX)
		check_fail("a cell past the bucket: fault %#x", shader_state(&sh)->fault);
	shader_finish(&sh);
	check_end();
}

/* Everything that `sample` reads besides the state. */
static void check_sample_inputs(const struct check_level *level)
{
	struct shader sh;

	if (!check_begin(level, 1, "shader_state_sample_inputs"))
		return;
	for (int n = 0; n < (level->device ? 60 : 200) && check_going_on(); n++) {
		uint32_t binding = UNPU_SAMPLE_LOGITS + n % 3;
		uint32_t *words;

		/* A device would compile the shader each time. */
		if (!level->device || !n)
			shader_init(&sh, level, UNPU_SHADER_SAMPLE, &sample, NULL, n & 1);
		fill(&sh);
		for (uint32_t i = 0; i < SLOTS; i++) {
			struct unpu_state_sampler *set = &shader_samplers(&sh)[i];
			float *const settings[] = {
				&set->temperature, &set->top_p, &set->min_p, &set->repeat_penalty,
				&set->frequency_penalty, &set->presence_penalty,
				&set->bias[0].bias, &set->bias[2].bias,
			};

			if (check_below(2))
				*settings[check_below(8)] = check_any_float();
		}
		words = (uint32_t *)sh.bufs[binding].data;
		for (uint32_t i = 0; i < sh.bufs[binding].bytes / 4; i++)
			if (!check_below(4))
				words[i] = unpu_float_bits(check_any_float());
		shader_run(&sh, 1);
		if (binding == UNPU_SAMPLE_HISTORY &&
		    !(shader_state(&sh)->fault & UNPU_STATE_FAULT_INDEX) &&
		    shader_samplers(&sh)[0].repeat_penalty == 1.1f &&
		    shader_rows(&sh)[0].cell > 40)
			check_fail("tokens past the vocabulary in the history went unseen");
		if (!level->device)
			shader_finish(&sh);
	}
	if (level->device)
		shader_finish(&sh);
	check_end();
}

void check_shader_state(const struct check_level *level)
{
	if (level->only_matrices)
		return;
	set_layout(level);
	for (size_t i = 0; i < sizeof(victims) / sizeof(victims[0]); i++)
		check_victim(level, &victims[i]);
	check_bucket(level);
	check_sample_inputs(level);
}
