/* SPDX-License-Identifier: MIT */
#include "train/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "train/quantize.h"

/* ---- the texts of tokens --------------------------------------------------------------------- */

/*
 * Bytes as GPT-2's vocabulary writes them: printable ones as themselves, the others as the
 * characters from U+0100 on, in their order. UTF-8 and NUL; returns its length.
 */
static size_t byte_text(uint32_t byte, char *out)
{
	uint32_t c = 256;

	for (uint32_t b = 0; b <= byte; b++) {
		int plain = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;

		if (b == byte && plain)
			c = byte;
		else if (b < byte && !plain)
			c++;
	}
	if (c < 0x80) {
		out[0] = (char)c;
		out[1] = '\0';
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3f));
	out[2] = '\0';
	return 2;
}

/* Tokens of merges by their parts; each text ends with NUL. */
struct texts {
	char *data;
	uint32_t *at;		/* of each token */
	size_t size, max;
	uint32_t count;
};

static int add_text(struct texts *t, const char *a, const char *b)
{
	size_t length = strlen(a) + strlen(b) + 1;

	if (t->max - t->size < length)
		return -ENOMEM;
	t->at[t->count++] = (uint32_t)t->size;
	strcpy(t->data + t->size, a);
	strcat(t->data + t->size, b);
	t->size += length;
	return 0;
}

/* Merges' numbers begin at the bytes; tokens' behind the end of text. */
static const char *text_of(const struct texts *t, uint32_t of_merges)
{
	return t->data + t->at[of_merges + UNPU_MODEL_BYTES];
}

static int token_texts(const struct unpu_model_text *text, struct texts *t)
{
	char byte[4];

	t->max = 64 + 3 * UNPU_MERGES_BYTES;
	/* A merge is at most as long as a piece may be: 64 bytes, two each here. */
	t->max += 130ull * text->num_merges;
	t->data = malloc(t->max);
	t->at = malloc((text->num_merges + 257ull) * sizeof(*t->at));
	if (!t->data || !t->at || add_text(t, "<|endoftext|>", ""))
		return -ENOMEM;
	for (uint32_t i = 0; i < UNPU_MERGES_BYTES; i++) {
		byte_text(i, byte);
		if (add_text(t, byte, ""))
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < text->num_merges; i++)
		if (add_text(t, text_of(t, text->merges[i].left),
			     text_of(t, text->merges[i].right)))
			return -ENOMEM;
	return 0;
}

static int merge_texts(const struct unpu_model_text *text, const struct texts *tokens,
		       struct texts *t)
{
	t->max = 2 * tokens->size + 2 * text->num_merges + 1;
	t->data = malloc(t->max);
	t->at = malloc((text->num_merges + 1ull) * sizeof(*t->at));
	if (!t->data || !t->at)
		return -ENOMEM;
	for (uint32_t i = 0; i < text->num_merges; i++) {
		int err = add_text(t, text_of(tokens, text->merges[i].left), " ");

		/* The right part goes over the NUL. */
		t->size--;
		t->count--;
		if (err || add_text(t, "", text_of(tokens, text->merges[i].right)))
			return -ENOMEM;
	}
	return 0;
}

static void write_types(struct unpu_ggufw *w, uint32_t count)
{
	int32_t *types = malloc(count * sizeof(*types));

	for (uint32_t i = 0; types && i < count; i++)
		types[i] = i == UNPU_MODEL_EOS ? 3 : 1;	/* control, normal */
	unpu_ggufw_i32s(w, "tokenizer.ggml.token_type", types, types ? count : 0);
	free(types);
}

static void write_tokenizer(struct unpu_ggufw *w, const struct unpu_model_text *text)
{
	struct texts tokens = { 0 }, merges = { 0 };

	if (!token_texts(text, &tokens) && !merge_texts(text, &tokens, &merges)) {
		unpu_ggufw_str(w, "tokenizer.ggml.model", "gpt2", 4);
		unpu_ggufw_str(w, "tokenizer.ggml.pre", text->pre, strlen(text->pre));
		unpu_ggufw_strings(w, "tokenizer.ggml.tokens", tokens.data, tokens.count);
		write_types(w, tokens.count);
		unpu_ggufw_strings(w, "tokenizer.ggml.merges", merges.data, text->num_merges);
	} else {
		unpu_ggufw_fail(w, -ENOMEM);
	}
	free(tokens.data);
	free(tokens.at);
	free(merges.data);
	free(merges.at);
	unpu_ggufw_u32(w, "tokenizer.ggml.eos_token_id", UNPU_MODEL_EOS);
	unpu_ggufw_bool(w, "tokenizer.ggml.add_bos_token", false);
	if (text->chat_template)
		unpu_ggufw_str(w, "tokenizer.chat_template", text->chat_template,
			       strlen(text->chat_template));
}

/* ---- hyper-parameters and tensors ------------------------------------------------------------ */

void unpu_model_write_keys(struct unpu_ggufw *w, const struct unpu_net_shape *s,
			   const struct unpu_model_text *text)
{
	unpu_ggufw_str(w, "general.architecture", "llama", 5);
	unpu_ggufw_str(w, "general.name", text->name, strlen(text->name));
	unpu_ggufw_u32(w, "llama.block_count", s->layers);
	unpu_ggufw_u32(w, "llama.context_length", s->context);
	unpu_ggufw_u32(w, "llama.embedding_length", s->hidden);
	unpu_ggufw_u32(w, "llama.feed_forward_length", s->ffn);
	unpu_ggufw_u32(w, "llama.attention.head_count", s->heads);
	unpu_ggufw_u32(w, "llama.attention.head_count_kv", s->kv_heads);
	unpu_ggufw_u32(w, "llama.attention.key_length", s->head_dim);
	unpu_ggufw_u32(w, "llama.attention.value_length", s->head_dim);
	unpu_ggufw_u32(w, "llama.rope.dimension_count", s->head_dim);
	unpu_ggufw_u32(w, "llama.vocab_size", s->vocab);
	unpu_ggufw_f32(w, "llama.attention.layer_norm_rms_epsilon", s->eps);
	unpu_ggufw_f32(w, "llama.rope.freq_base", s->rope_base);
	write_tokenizer(w, text);
}

static int write_tensor(struct unpu_ggufw *w, const struct unpu_param *p, const float *x,
			uint32_t type)
{
	size_t row, bytes;
	uint8_t *data;

	if (p->rows == 1)
		type = UNPU_TYPE_F32;
	else if (!unpu_quantize_type(type, p->columns))
		type = UNPU_TYPE_F16;
	row = unpu_quantize_bytes(type, p->columns);
	bytes = row * p->rows;
	data = malloc(bytes);
	if (!data)
		return -ENOMEM;
	for (uint32_t r = 0; r < p->rows; r++)
		unpu_quantize_row(type, x + (size_t)r * p->columns, p->columns, data + r * row);
	unpu_ggufw_tensor(w, p->name, type, p->columns, p->rows, data, bytes);
	free(data);
	return 0;
}

int unpu_model_write_tensors(struct unpu_ggufw *w, struct unpu_net *net, const float *weights,
			     uint32_t type)
{
	for (uint32_t i = 0; i < unpu_net_num_params(net); i++) {
		const struct unpu_param *p = unpu_net_param(net, i);

		if (write_tensor(w, p, weights + p->at, type))
			return -ENOMEM;
	}
	return 0;
}
