/* SPDX-License-Identifier: MIT */
#include "runtime/model/blocks.h"

#include <math.h>
#include <string.h>

#include "runtime/half.h"
#include "runtime/model/gguf.h"

/* What the 16 values of an IQ4_NL nibble stand for: part of the format. */
static const int8_t iq4_nl[16] = {
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
};

static float half_at(const uint8_t *p)
{
	uint16_t bits;

	memcpy(&bits, p, sizeof(bits));
	return unpu_f16_float(bits);
}

static uint32_t word_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void set_scale(struct unpu_block *block, float scale, float offset)
{
	block->scale[0] = scale;
	block->scale[1] = scale;
	block->offset = offset;
}

/* What the compiler makes of it is SSE2 or NEON. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t longs2 __attribute__((vector_size(16)));

/* Low nibbles are the first 16. */
static void nibbles(const uint8_t *p, int bias, int8_t *q)
{
	for (int i = 0; i < 16; i++) {
		q[i] = (int8_t)((p[i] & 15) - bias);
		q[16 + i] = (int8_t)((p[i] >> 4) - bias);
	}
}

/* 8 bits to 16 in 8 bytes. */
static uint64_t fifths(uint32_t bits)
{
	uint64_t v = (bits & 255) * 0x0101010101010101u & 0x8040201008040201u;

	/* A bit that is set reaches its byte's highest, and no other byte. */
	return ((v + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
}

/* Nibbles with a fifth bit each. */
static void five_bits(const uint8_t *p, uint32_t bits, uint8_t bias, int8_t *q)
{
	longs2 low = { fifths(bits), fifths(bits >> 8) };
	longs2 high = { fifths(bits >> 16), fifths(bits >> 24) };
	bytes16 n, five[2];

	memcpy(&n, p, sizeof(n));
	five[0] = (n & 15) + (bytes16)low - bias;
	five[1] = (n >> 4) + (bytes16)high - bias;
	memcpy(q, five, sizeof(five));
}

/* Bytes one at a time would be waited for by whoever reads them 16 at a time. */
static uint64_t look_up(const int8_t *table, uint64_t nibble)
{
	uint64_t v = 0;

	for (int i = 0; i < 64; i += 8)
		v |= (uint64_t)(uint8_t)table[nibble >> i & 15] << i;
	return v;
}

/* The bits of a mask from `shift` on of each of 32 bytes; no bit of another byte gets there. */
static void load_words(const uint8_t *p, int shift, uint32_t mask, uint32_t out[8])
{
	memcpy(out, p, 32);
	for (int i = 0; i < 8; i++)
		out[i] = out[i] >> shift & mask;
}

static void read_q8_0(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), 0);
	memcpy(block->q, p + 2, 32);
}

static void read_q4_0(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), 0);
	nibbles(p + 2, 8, block->q);
}

static void read_q4_1(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), half_at(p + 2));
	nibbles(p + 4, 0, block->q);
}

static void read_q5_0(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), 0);
	five_bits(p + 6, word_at(p + 2), 16, block->q);
}

static void read_q5_1(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), half_at(p + 2));
	five_bits(p + 8, word_at(p + 4), 0, block->q);
}

static void read_iq4_nl(const uint8_t *p, struct unpu_block *block)
{
	uint64_t n[2], q[4];

	set_scale(block, half_at(p), 0);
	memcpy(n, p + 2, sizeof(n));
	for (int i = 0; i < 2; i++) {
		q[i] = look_up(iq4_nl, n[i]);
		q[2 + i] = look_up(iq4_nl, n[i] >> 4);
	}
	memcpy(block->q, q, sizeof(q));
}

void unpu_block_k_scale(const uint8_t scales[12], uint32_t j, uint8_t *scale, uint8_t *min)
{
	if (j < 4) {
		*scale = scales[j] & 63;
		*min = scales[j + 4] & 63;
		return;
	}
	*scale = (uint8_t)((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4);
	*min = (uint8_t)((scales[j + 4] >> 4) | (scales[j] >> 6) << 4);
}

/* Two factors of 11 and of 6 bits: the products are exact. */
static void k_scales(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	uint8_t scale, min;

	unpu_block_k_scale(p + 4, j, &scale, &min);
	set_scale(block, half_at(p) * scale, -(half_at(p + 2) * min));
}

static void read_q4_k(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	uint32_t q[8];

	k_scales(p, j, block);
	load_words(p + 16 + 32 * (j / 2), 4 * (j % 2), 0x0f0f0f0f, q);
	memcpy(block->q, q, 32);
}

static void read_q5_k(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	uint32_t q[8], fifth[8];

	k_scales(p, j, block);
	load_words(p + 48 + 32 * (j / 2), 4 * (j % 2), 0x0f0f0f0f, q);
	load_words(p + 16, (int)j, 0x01010101, fifth);
	for (int i = 0; i < 8; i++)
		q[i] |= fifth[i] << 4;
	memcpy(block->q, q, 32);
}

/* Blocks of 32 come in two halves of four, which share the bytes of both planes. */
static void read_q6_k(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	const float d = half_at(p + 208);
	uint32_t q[8], high[8];

	block->scale[0] = d * (int8_t)p[192 + 2 * j];
	block->scale[1] = d * (int8_t)p[192 + 2 * j + 1];
	block->offset = 0;
	load_words(p + 64 * (j / 4) + 32 * (j % 2), 4 * (j % 4 / 2), 0x0f0f0f0f, q);
	load_words(p + 128 + 32 * (j / 4), 2 * (j % 4), 0x03030303, high);
	for (int i = 0; i < 8; i++)	/* less 32 in each byte, borrowing from its highest bit */
		q[i] = ((q[i] | high[i] << 4 | 0x80808080) - 0x20202020) ^ 0x80808080;
	memcpy(block->q, q, 32);
}

int unpu_block_type(uint32_t type)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	return info && info->block > 1;
}

void unpu_block_read(uint32_t type, const uint8_t *row, uint32_t b, struct unpu_block *block)
{
	const struct unpu_type_info *info = unpu_type_info(type);
	const uint8_t *p = row + (uint64_t)(b / (info->block / 32)) * info->bytes;

	switch (type) {
	case UNPU_TYPE_Q8_0:
		read_q8_0(p, block);
		break;
	case UNPU_TYPE_Q4_0:
		read_q4_0(p, block);
		break;
	case UNPU_TYPE_Q4_1:
		read_q4_1(p, block);
		break;
	case UNPU_TYPE_Q5_0:
		read_q5_0(p, block);
		break;
	case UNPU_TYPE_Q5_1:
		read_q5_1(p, block);
		break;
	case UNPU_TYPE_IQ4_NL:
		read_iq4_nl(p, block);
		break;
	case UNPU_TYPE_Q4_K:
		read_q4_k(p, b % 8, block);
		break;
	case UNPU_TYPE_Q5_K:
		read_q5_k(p, b % 8, block);
		break;
	default: /* UNPU_TYPE_Q6_K */
		read_q6_k(p, b % 8, block);
	}
}

float unpu_block_weight(const struct unpu_block *block, uint32_t i)
{
	return fmaf(block->scale[i / 16], (float)block->q[i], block->offset);
}
