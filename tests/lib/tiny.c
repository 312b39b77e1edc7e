/* SPDX-License-Identifier: MIT */
/*
 * Deterministic on all machines: integers, and floating point only in operations that IEEE rounds
 * exactly (+ - * / sqrt and conversions).
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "tests/lib/tiny.h"

#define ALIGN	32

/* ---- bytes ------------------------------------------------------------------------------ */

struct bytes {
	uint8_t *data;
	size_t size, room;
	bool failed;		/* no memory: nothing is written any more */
};

static void put(struct bytes *b, const void *data, size_t size)
{
	size_t room = b->room ? b->room : 4096;
	uint8_t *grown;

	while (room - b->size < size)
		room *= 2;
	if (room != b->room && !b->failed) {
		grown = realloc(b->data, room);
		b->failed = !grown;
		if (grown) {
			b->data = grown;
			b->room = room;
		}
	}
	if (b->failed)
		return;
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

static void put_int(struct bytes *b, uint64_t value, int size)
{
	uint8_t le[8];
	int i;

	for (i = 0; i < size; i++)
		le[i] = value >> 8 * i;
	put(b, le, size);
}

static void put_f32(struct bytes *b, float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_int(b, bits, 4);
}

static void put_str(struct bytes *b, const char *text)
{
	put_int(b, strlen(text), 8);
	put(b, text, strlen(text));
}

static void put_align(struct bytes *b)
{
	while (b->size % ALIGN && !b->failed)
		put_int(b, 0, 1);
}

/* ---- random numbers --------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t random_u64(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Nearly normal with deviation 1: four uniform numbers of 16 bits, whose sum has the variance
 * 4 * (2^32 - 1) / 12. */
static double random_normal(uint64_t *state)
{
	uint64_t r = random_u64(state);
	int sum = (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) +
		  (int)(r >> 48);

	return (sum - 131070) / 37837.2;
}

/* ---- types ------------------------------------------------------------------------------ */

static uint16_t f32_to_f16(float value)
{
	uint32_t x, sign, mant, half;
	int exp, shift;

	memcpy(&x, &value, sizeof(x));
	sign = x >> 16 & 0x8000;
	exp = (int)(x >> 23 & 0xff) - 127 + 15;
	mant = (x & 0x7fffff) | 0x800000;
	if (exp >= 31)
		return sign | 0x7c00;
	if (exp < -10)
		return sign;
	/* A subnormal half loses as many more bits as its exponent is below the least. */
	shift = exp > 0 ? 13 : 14 - exp;
	half = mant >> shift;
	if (mant >> (shift - 1) & 1 && (half & 1 || mant & ((1u << (shift - 1)) - 1)))
		half++;
	/* The hidden bit adds 1 to the exponent of a normal half, a carry likewise. */
	return sign | (half + (exp > 0 ? (uint32_t)(exp - 1) << 10 : 0));
}

static uint16_t f32_to_bf16(float value)
{
	uint32_t x;

	memcpy(&x, &value, sizeof(x));
	return (x + 0x7fff + (x >> 16 & 1)) >> 16;
}

/* The value of largest magnitude, with its sign. */
static float block_extreme(const float *x)
{
	float extreme = 0;
	int i;

	for (i = 0; i < 32; i++) {
		if (fabsf(x[i]) > fabsf(extreme))
			extreme = x[i];
	}
	return extreme;
}

static void put_q8_0(struct bytes *b, const float *x)
{
	float d = fabsf(block_extreme(x)) / 127;
	int i;

	put_int(b, f32_to_f16(d), 2);
	for (i = 0; i < 32; i++)
		put_int(b, (uint64_t)(int64_t)floorf((d > 0 ? x[i] / d : 0) + 0.5f), 1);
}

static int to_nibble(float x, float d)
{
	int q = d < 0 || d > 0 ? (int)(x / d + 8.5f) : 8;

	return q < 0 ? 0 : q > 15 ? 15 : q;
}

static void put_q4_0(struct bytes *b, const float *x)
{
	float d = block_extreme(x) / -8;
	int i;

	put_int(b, f32_to_f16(d), 2);
	for (i = 0; i < 16; i++)
		put_int(b, to_nibble(x[i], d) | to_nibble(x[i + 16], d) << 4, 1);
}

/* Of n values the least, 0 at most, and how far the others reach above it. */
static float range(const float *x, int n, float *least)
{
	float most = 0;
	int i;

	*least = 0;
	for (i = 0; i < n; i++) {
		*least = x[i] < *least ? x[i] : *least;
		most = x[i] > most ? x[i] : most;
	}
	return most - *least;
}

/* Nearest, 0 to most. */
static int to_quant(float x, float d, int most)
{
	int q = d < 0 || d > 0 ? (int)(x / d + 0.5f) : 0;

	return q < 0 ? 0 : q > most ? most : q;
}

/* Quants of 5 bits: the fifth ones together, before the nibbles. 4 bits: nibbles alone. */
static void put_pairs(struct bytes *b, const int q[32], bool fifth)
{
	uint32_t bits = 0;
	int i;

	for (i = 0; i < 32; i++)
		bits |= (uint32_t)(q[i] >> 4) << i;
	if (fifth)
		put_int(b, bits, 4);
	for (i = 0; i < 16; i++)
		put_int(b, (q[i] & 15) | (q[i + 16] & 15) << 4, 1);
}

static void put_q5_0(struct bytes *b, const float *x)
{
	float d = block_extreme(x) / -16;
	int i, q[32];

	put_int(b, f32_to_f16(d), 2);
	for (i = 0; i < 32; i++)
		q[i] = to_quant(x[i] + 16 * d, d, 31);
	put_pairs(b, q, true);
}

/* Q4_1, and Q5_1 with the fifth bits. */
static void put_offset(struct bytes *b, const float *x, int most)
{
	float least, d = range(x, 32, &least) / most;
	int i, q[32];

	put_int(b, f32_to_f16(d), 2);
	put_int(b, f32_to_f16(least), 2);
	for (i = 0; i < 32; i++)
		q[i] = to_quant(x[i] - least, d, most);
	put_pairs(b, q, most > 15);
}

static void put_iq4_nl(struct bytes *b, const float *x)
{
	static const int values[16] = {
		-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
	};
	float d = block_extreme(x) / -127;
	int i, j, q[32] = { 0 };

	put_int(b, f32_to_f16(d), 2);
	for (i = 0; i < 32; i++)
		for (j = 1; j < 16; j++)
			if (fabsf(x[i] - d * values[j]) < fabsf(x[i] - d * values[q[i]]))
				q[i] = j;
	put_pairs(b, q, false);
}

/* 8 scales and 8 minima of 6 bits. */
static void put_six_bits(struct bytes *b, const int scale[8], const int min[8])
{
	int j;

	for (j = 0; j < 4; j++)
		put_int(b, scale[j] | scale[j + 4] >> 4 << 6, 1);
	for (j = 0; j < 4; j++)
		put_int(b, min[j] | min[j + 4] >> 4 << 6, 1);
	for (j = 4; j < 8; j++)
		put_int(b, (scale[j] & 15) | (min[j] & 15) << 4, 1);
}

/* Q4_K, and Q5_K with its fifth bits: byte i has bit j of value i of block j. */
static void put_super(struct bytes *b, const float *x, int most)
{
	float least[8], step[8], d = 0, dmin = 0;
	int scale[8], min[8], q[256], i, j, bits;

	for (j = 0; j < 8; j++) {
		step[j] = range(x + 32 * j, 32, &least[j]) / most;
		d = step[j] / 63 > d ? step[j] / 63 : d;
		dmin = -least[j] / 63 > dmin ? -least[j] / 63 : dmin;
	}
	for (j = 0; j < 8; j++) {
		scale[j] = to_quant(step[j], d, 63);
		min[j] = to_quant(-least[j], dmin, 63);
		for (i = 32 * j; i < 32 * j + 32; i++)
			q[i] = to_quant(x[i] + dmin * min[j], d * scale[j], most);
	}
	put_int(b, f32_to_f16(d), 2);
	put_int(b, f32_to_f16(dmin), 2);
	put_six_bits(b, scale, min);
	for (i = 0; i < 32 && most > 15; i++) {
		for (j = 0, bits = 0; j < 8; j++)
			bits |= q[32 * j + i] >> 4 << j;
		put_int(b, bits, 1);
	}
	for (j = 0; j < 8; j += 2)
		for (i = 32 * j; i < 32 * j + 32; i++)
			put_int(b, (q[i] & 15) | (q[i + 32] & 15) << 4, 1);
}

/* Halves of 128: 64 bytes of nibbles, then for both 32 bytes of four high pairs of bits. */
static void put_q6_k_quants(struct bytes *b, const int q[256])
{
	int h, i;

	for (h = 0; h < 256; h += 128)
		for (i = h; i < h + 64; i++)
			put_int(b, (q[i] & 15) | (q[i + 64] & 15) << 4, 1);
	for (h = 0; h < 256; h += 128)
		for (i = h; i < h + 32; i++)
			put_int(b, q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 |
				   q[i + 96] >> 4 << 6, 1);
}

static void put_q6_k(struct bytes *b, const float *x)
{
	float step[16], d = 0;
	int scale[16], q[256], i, j;

	for (j = 0; j < 16; j++) {
		step[j] = 0;
		for (i = 16 * j; i < 16 * j + 16; i++)
			step[j] = fabsf(x[i]) > fabsf(step[j]) ? x[i] : step[j];
		step[j] /= -32;
		d = fabsf(step[j]) / 127 > d ? fabsf(step[j]) / 127 : d;
	}
	for (j = 0; j < 16; j++) {
		scale[j] = to_quant(fabsf(step[j]), d, 127) * (step[j] < 0 ? -1 : 1);
		for (i = 16 * j; i < 16 * j + 16; i++)
			q[i] = to_quant(x[i] + 32 * d * scale[j], d * scale[j], 63);
	}
	put_q6_k_quants(b, q);
	for (j = 0; j < 16; j++)
		put_int(b, (uint64_t)(int64_t)scale[j], 1);
	put_int(b, f32_to_f16(d), 2);
}

static void put_block(struct bytes *b, uint32_t type, const float *x)
{
	switch (type) {
	case UNPU_TYPE_F32:
		put_f32(b, *x);
		break;
	case UNPU_TYPE_F16:
		put_int(b, f32_to_f16(*x), 2);
		break;
	case UNPU_TYPE_BF16:
		put_int(b, f32_to_bf16(*x), 2);
		break;
	case UNPU_TYPE_Q8_0:
		put_q8_0(b, x);
		break;
	case UNPU_TYPE_Q4_0:
		put_q4_0(b, x);
		break;
	case UNPU_TYPE_Q4_1:
		put_offset(b, x, 15);
		break;
	case UNPU_TYPE_Q5_0:
		put_q5_0(b, x);
		break;
	case UNPU_TYPE_Q5_1:
		put_offset(b, x, 31);
		break;
	case UNPU_TYPE_IQ4_NL:
		put_iq4_nl(b, x);
		break;
	case UNPU_TYPE_Q4_K:
		put_super(b, x, 15);
		break;
	case UNPU_TYPE_Q5_K:
		put_super(b, x, 31);
		break;
	case UNPU_TYPE_Q6_K:
		put_q6_k(b, x);
		break;
	}
}

/* ---- the model -------------------------------------------------------------------------- */

enum { KEY_U32 = 4, KEY_I32 = 5, KEY_F32 = 6, KEY_BOOL = 7, KEY_STR = 8, KEY_ARRAY = 9 };

struct writer {
	struct tiny_params p;
	bool gpt2, tied;
	struct bytes keys, table, data;
	uint32_t num_keys, num_tensors;
	uint64_t random;
};

static void key(struct writer *w, const char *name, uint32_t type)
{
	put_str(&w->keys, name);
	put_int(&w->keys, type, 4);
	w->num_keys++;
}

static void key_str(struct writer *w, const char *name, const char *value)
{
	key(w, name, KEY_STR);
	put_str(&w->keys, value);
}

static void key_u32(struct writer *w, const char *name, uint32_t value)
{
	key(w, name, KEY_U32);
	put_int(&w->keys, value, 4);
}

static void key_bool(struct writer *w, const char *name, bool value)
{
	key(w, name, KEY_BOOL);
	put_int(&w->keys, value, 1);
}

static void key_array(struct writer *w, const char *name, uint32_t type, uint64_t count)
{
	key(w, name, KEY_ARRAY);
	put_int(&w->keys, type, 4);
	put_int(&w->keys, count, 8);
}

static const char *arch_key(char buf[64], const struct writer *w, const char *name)
{
	snprintf(buf, 64, "%s.%s", w->p.arch, name);
	return buf;
}

static void arch_u32(struct writer *w, const char *name, uint32_t value)
{
	char buf[64];

	key_u32(w, arch_key(buf, w, name), value);
}

static void arch_f32(struct writer *w, const char *name, float value)
{
	char buf[64];

	key(w, arch_key(buf, w, name), KEY_F32);
	put_f32(&w->keys, value);
}

static void put_hparams(struct writer *w)
{
	char name[64];

	key_str(w, "general.architecture", w->p.arch);
	snprintf(name, sizeof(name), "tiny %s %s", w->p.arch, unpu_type_name(w->p.type));
	key_str(w, "general.name", name);
	arch_u32(w, "context_length", w->p.context);
	arch_u32(w, "embedding_length", w->p.hidden);
	arch_u32(w, "block_count", w->p.layers);
	arch_u32(w, "feed_forward_length", w->p.ffn);
	arch_u32(w, "attention.head_count", w->p.heads);
	arch_u32(w, "attention.head_count_kv", w->p.kv_heads);
	arch_u32(w, "attention.key_length", w->p.head_dim);
	arch_u32(w, "attention.value_length", w->p.head_dim);
	if (w->gpt2) {
		arch_f32(w, "attention.layer_norm_epsilon", 1e-5f);
		return;
	}
	arch_f32(w, "attention.layer_norm_rms_epsilon", 1e-5f);
	arch_f32(w, "rope.freq_base", w->p.arch[0] == 'q' ? 1e6f : 1e4f);
}

/* ---- tokenizers ------------------------------------------------------------------------- */

static const char *const pieces[] = {
	"t", "h", "e", "a", "n", "d", "i", "o", "s", "r", "l", "u", "m", "w", "c", "y", "g", "f",
	"b", "p", "k", "v", "x", "j", "q", "z", "I", "O", "T", "H", ".", ",", "!", "?", "'",
	"he", "th", "in", "an", "re", "on", "er", "at", "ing", "and", "the", "of", "to", "is",
};
#define NUM_PIECES	(sizeof(pieces) / sizeof(pieces[0]))
#define SPM_FIRST	259	/* <unk>, <s>, </s> and the bytes */

/* The text of an spm token: pieces, pieces after a space, then made-up words. */
static void spm_token(char text[32], uint32_t id)
{
	static const char *const control[] = { "<unk>", "<s>", "</s>" };
	uint32_t i = id - SPM_FIRST;

	if (id < 3)
		snprintf(text, 32, "%s", control[id]);
	else if (id < SPM_FIRST)
		snprintf(text, 32, "<0x%02X>", id - 3);
	else if (i == 0)
		snprintf(text, 32, "\xe2\x96\x81");
	else if (i <= NUM_PIECES)
		snprintf(text, 32, "%s", pieces[i - 1]);
	else if (i <= 2 * NUM_PIECES)
		snprintf(text, 32, "\xe2\x96\x81%s", pieces[i - 1 - NUM_PIECES]);
	else
		snprintf(text, 32, "word%u", id);
}

/* The markers are the last tokens of a vocabulary, before what else stands at its end. */
enum { CHAT_START, CHAT_END, NUM_CHAT };
static const char *const chat_markers[NUM_CHAT] = { "<|im_start|>", "<|im_end|>" };

static void put_chat(struct writer *w)
{
	key_str(w, "tokenizer.chat_template",
		"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
		"message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
		"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
}

static void put_spm(struct writer *w)
{
	uint32_t n = w->p.vocab, first = w->p.chat ? n - NUM_CHAT : n, i;
	char text[32];

	key_str(w, "tokenizer.ggml.model", "llama");
	key_array(w, "tokenizer.ggml.tokens", KEY_STR, n);
	for (i = 0; i < n; i++) {
		spm_token(text, i);
		put_str(&w->keys, i < first ? text : chat_markers[i - first]);
	}
	key_array(w, "tokenizer.ggml.scores", KEY_F32, n);
	for (i = 0; i < n; i++)
		put_f32(&w->keys, i < SPM_FIRST ? 0 : -(float)(i - SPM_FIRST));
	key_array(w, "tokenizer.ggml.token_type", KEY_I32, n);
	for (i = 0; i < n; i++)
		put_int(&w->keys, i == 0 ? 2 : i < 3 || i >= first ? 3 : i < SPM_FIRST ? 6 : 1, 4);
	key_u32(w, "tokenizer.ggml.bos_token_id", 1);
	key_u32(w, "tokenizer.ggml.eos_token_id", w->p.chat ? first + CHAT_END : 2);
	key_u32(w, "tokenizer.ggml.unknown_token_id", 0);
	key_bool(w, "tokenizer.ggml.add_bos_token", true);
	key_bool(w, "tokenizer.ggml.add_eos_token", false);
}

/* The character that stands for a byte in byte-level BPE: itself when it prints in Latin-1, else
 * the next of those from U+0100 on. */
static bool prints(int byte)
{
	return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

static uint32_t byte_char(int byte)
{
	uint32_t c = 0x100;
	int b;

	if (prints(byte))
		return byte;
	for (b = 0; b < byte; b++)
		c += !prints(b);
	return c;
}

/* UTF-8 of a character below U+0800, after what is in text. */
static void append_char(char *text, uint32_t c)
{
	char *p = text + strlen(text);

	if (c >= 0x80) {
		*p++ = 0xc0 | c >> 6;
		c = 0x80 | (c & 0x3f);
	}
	*p++ = c;
	*p = 0;
}

#define NUM_MERGES	(NUM_WORD_MERGES + 26 * 26)
#define NUM_WORD_MERGES	10

/* Merge i as its two halves: a few words, then pairs of letters that no word begins with. */
static void bpe_merge(uint32_t i, char left[32], char right[32])
{
	static const char *const words[NUM_WORD_MERGES][2] = {
		{ "\xc4\xa0", "t" }, { "h", "e" }, { "\xc4\xa0t", "he" }, { "i", "n" },
		{ "in", "g" }, { "\xc4\xa0", "a" }, { "n", "d" }, { "\xc4\xa0" "a", "nd" },
		{ "r", "e" }, { "\xc4\xa0", "\xc4\xa0" },
	};

	if (i < NUM_WORD_MERGES) {
		strcpy(left, words[i][0]);
		strcpy(right, words[i][1]);
		return;
	}
	i -= NUM_WORD_MERGES;
	snprintf(left, 32, "%c", 'A' + i / 26);
	snprintf(right, 32, "%c", 'a' + i % 26);
}

static void bpe_token(char text[64], uint32_t id, uint32_t n)
{
	char left[32], right[32];

	text[0] = 0;
	if (id == n - 1) {
		strcpy(text, "<|endoftext|>");
	} else if (id < 256) {
		append_char(text, byte_char(id));
	} else if (id - 256 < NUM_MERGES) {
		bpe_merge(id - 256, left, right);
		snprintf(text, 64, "%s%s", left, right);
	} else {
		snprintf(text, 64, "word%u", id);
	}
}

static void put_bpe(struct writer *w)
{
	uint32_t n = w->p.vocab, first = n - 1 - (w->p.chat ? NUM_CHAT : 0), merges = first - 256;
	char text[64], left[32], right[32];
	uint32_t i;

	if (merges > NUM_MERGES)
		merges = NUM_MERGES;
	key_str(w, "tokenizer.ggml.model", "gpt2");
	key_str(w, "tokenizer.ggml.pre", "gpt-2");
	key_array(w, "tokenizer.ggml.tokens", KEY_STR, n);
	for (i = 0; i < n; i++) {
		bpe_token(text, i, n);
		put_str(&w->keys, i < first || i == n - 1 ? text : chat_markers[i - first]);
	}
	key_array(w, "tokenizer.ggml.token_type", KEY_I32, n);
	for (i = 0; i < n; i++)
		put_int(&w->keys, i >= first ? 3 : 1, 4);
	key_array(w, "tokenizer.ggml.merges", KEY_STR, merges);
	for (i = 0; i < merges; i++) {
		bpe_merge(i, left, right);
		snprintf(text, sizeof(text), "%s %s", left, right);
		put_str(&w->keys, text);
	}
	key_u32(w, "tokenizer.ggml.bos_token_id", n - 1);
	key_u32(w, "tokenizer.ggml.eos_token_id", w->p.chat ? first + CHAT_END : n - 1);
}

/* ---- tensors ---------------------------------------------------------------------------- */

static void put_values(struct writer *w, uint32_t type, uint64_t count, double mean, double scale)
{
	uint32_t block = unpu_type_info(type)->block, i;
	float x[256];

	for (; count; count -= block) {
		for (i = 0; i < block; i++)
			x[i] = (float)(mean + scale * random_normal(&w->random));
		put_block(&w->data, type, x);
	}
	put_align(&w->data);
}

static void describe(struct writer *w, const char *name, uint32_t type, uint64_t d0, uint64_t d1)
{
	put_str(&w->table, name);
	put_int(&w->table, d1 ? 2 : 1, 4);
	put_int(&w->table, d0, 8);
	if (d1)
		put_int(&w->table, d1, 8);
	put_int(&w->table, type, 4);
	put_int(&w->table, w->data.size, 8);
	w->num_tensors++;
}

/* Which matrices converters give more bits, where they give some more. */
static bool has_more(const char *name)
{
	static const char *const names[] = { "attn_v", "ffn_down", "token_embd", "output.weight" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strstr(name, names[i]) && !strstr(name, "attn_output"))
			return true;
	return false;
}

/* Rows that are not whole superblocks become what has blocks of 32 and about the same size; those
 * that are not whole blocks stay F32, as converters do. */
static uint32_t type_of(const struct writer *w, const char *name, uint32_t k)
{
	uint32_t type = w->p.more && has_more(name) ? w->p.more : w->p.type;

	if (unpu_type_info(type)->block == 256 && k % 256)
		type = type == UNPU_TYPE_Q4_K ? UNPU_TYPE_Q5_0 :
		       type == UNPU_TYPE_Q5_K ? UNPU_TYPE_Q5_1 : UNPU_TYPE_Q8_0;
	return k % unpu_type_info(type)->block ? UNPU_TYPE_F32 : type;
}

static void matrix(struct writer *w, const char *name, uint32_t k, uint32_t rows)
{
	uint32_t type = type_of(w, name, k);

	describe(w, name, type, k, rows);
	put_values(w, type, (uint64_t)k * rows, 0, 1 / sqrt(k));
}

static void vector(struct writer *w, const char *name, uint32_t n, double mean)
{
	describe(w, name, UNPU_TYPE_F32, n, 0);
	put_values(w, UNPU_TYPE_F32, n, mean, 0.1);
}

static const char *layer_name(char buf[64], uint32_t layer, const char *name, const char *kind)
{
	snprintf(buf, 64, "blk.%u.%s.%s", layer, name, kind);
	return buf;
}

static void layer_norm(struct writer *w, uint32_t layer, const char *name, uint32_t n)
{
	char buf[64];

	vector(w, layer_name(buf, layer, name, "weight"), n, 1);
	if (w->gpt2)
		vector(w, layer_name(buf, layer, name, "bias"), n, 0);
}

static void layer_matrix(struct writer *w, uint32_t layer, const char *name, uint32_t k,
			 uint32_t rows, bool bias)
{
	char buf[64];

	matrix(w, layer_name(buf, layer, name, "weight"), k, rows);
	if (bias)
		vector(w, layer_name(buf, layer, name, "bias"), rows, 0);
}

static void put_layer(struct writer *w, uint32_t i)
{
	const struct tiny_params *p = &w->p;
	uint32_t q = p->heads * p->head_dim, kv = p->kv_heads * p->head_dim;
	bool bias = w->gpt2 || !strcmp(p->arch, "qwen2");

	layer_norm(w, i, "attn_norm", p->hidden);
	if (w->gpt2) {
		layer_matrix(w, i, "attn_qkv", p->hidden, q + 2 * kv, true);
	} else {
		layer_matrix(w, i, "attn_q", p->hidden, q, bias);
		layer_matrix(w, i, "attn_k", p->hidden, kv, bias);
		layer_matrix(w, i, "attn_v", p->hidden, kv, bias);
	}
	if (!strcmp(p->arch, "qwen3")) {
		layer_norm(w, i, "attn_q_norm", p->head_dim);
		layer_norm(w, i, "attn_k_norm", p->head_dim);
	}
	layer_matrix(w, i, "attn_output", q, p->hidden, w->gpt2);
	layer_norm(w, i, "ffn_norm", p->hidden);
	if (!w->gpt2)
		layer_matrix(w, i, "ffn_gate", p->hidden, p->ffn, false);
	layer_matrix(w, i, "ffn_up", p->hidden, p->ffn, w->gpt2);
	layer_matrix(w, i, "ffn_down", p->ffn, p->hidden, w->gpt2);
}

static void put_tensors(struct writer *w)
{
	const struct tiny_params *p = &w->p;
	uint32_t i;

	matrix(w, "token_embd.weight", p->hidden, p->vocab + p->padding);
	if (w->gpt2) {
		describe(w, "position_embd.weight", UNPU_TYPE_F32, p->hidden, p->context);
		put_values(w, UNPU_TYPE_F32, (uint64_t)p->hidden * p->context, 0,
			   0.5 / sqrt(p->hidden));
	}
	for (i = 0; i < p->layers; i++)
		put_layer(w, i);
	vector(w, "output_norm.weight", p->hidden, 1);
	if (w->gpt2)
		vector(w, "output_norm.bias", p->hidden, 0);
	if (!w->tied)
		matrix(w, "output.weight", p->hidden, p->vocab + p->padding);
}

/* ---- the whole -------------------------------------------------------------------------- */

static void set_default(uint32_t *value, uint32_t otherwise)
{
	if (!*value)
		*value = otherwise;
}

/* Shapes that are a multiple of nothing where the type lets them. */
static void set_defaults(struct writer *w)
{
	struct tiny_params *p = &w->p;
	bool blocks = unpu_type_info(p->type)->block > 1;
	bool supers = unpu_type_info(p->type)->block == 256;

	w->gpt2 = !strcmp(p->arch, "gpt2");
	w->tied = p->tied < 0 ? strcmp(p->arch, "llama") != 0 : p->tied;
	set_default(&p->heads, blocks ? 4 : 3);
	set_default(&p->kv_heads, w->gpt2 ? p->heads : blocks ? 2 : 1);
	set_default(&p->head_dim, supers ? 64 : blocks ? 16 : 24);
	set_default(&p->hidden, supers ? 256 : blocks ? 64 : 72);
	set_default(&p->ffn, supers ? 512 : blocks ? 160 : 172);
	set_default(&p->layers, 2);
	set_default(&p->vocab, 331);
	set_default(&p->context, 128);
	if (!p->tokenizer)
		p->tokenizer = w->gpt2 ? "bpe" : "spm";
}

static void assemble(struct writer *w, struct bytes *out)
{
	put(out, "GGUF", 4);
	put_int(out, 3, 4);
	put_int(out, w->num_tensors, 8);
	put_int(out, w->num_keys, 8);
	put(out, w->keys.data, w->keys.size);
	put(out, w->table.data, w->table.size);
	put_align(out);
	put(out, w->data.data, w->data.size);
}

uint8_t *tiny_model(const struct tiny_params *params, size_t *size)
{
	struct writer w = { .p = *params, .random = params->seed };
	struct bytes out = { 0 };

	set_defaults(&w);
	if (w.p.vocab < 262)
		return NULL;
	put_hparams(&w);
	if (!strcmp(w.p.tokenizer, "bpe"))
		put_bpe(&w);
	else
		put_spm(&w);
	if (w.p.chat)
		put_chat(&w);
	put_tensors(&w);
	if (!w.keys.failed && !w.table.failed && !w.data.failed)
		assemble(&w, &out);
	free(w.keys.data);
	free(w.table.data);
	free(w.data.data);
	if (w.keys.failed || w.table.failed || w.data.failed || out.failed) {
		free(out.data);
		return NULL;
	}
	*size = out.size;
	return out.data;
}
