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

/* Low nibbles are the first 16. */
static void nibbles(const uint8_t *p, int bias, int8_t *q)
{
	for (int i = 0; i < 16; i++) {
		q[i] = (int8_t)((p[i] & 15) - bias);
		q[16 + i] = (int8_t)((p[i] >> 4) - bias);
	}
}

/* The fifth bits of 32 quants. */
static void add_fifth(uint32_t bits, int8_t *q)
{
	for (int i = 0; i < 32; i++)
		q[i] = (int8_t)(q[i] + (int)(bits >> i & 1) * 16);
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
	nibbles(p + 6, 16, block->q);
	add_fifth(word_at(p + 2), block->q);
}

static void read_q5_1(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), half_at(p + 2));
	nibbles(p + 8, 0, block->q);
	add_fifth(word_at(p + 4), block->q);
}

static void read_iq4_nl(const uint8_t *p, struct unpu_block *block)
{
	set_scale(block, half_at(p), 0);
	nibbles(p + 2, 0, block->q);
	for (int i = 0; i < 32; i++)
		block->q[i] = iq4_nl[block->q[i]];
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
static void read_k(const uint8_t *p, uint32_t j, const uint8_t *nibble, struct unpu_block *block)
{
	uint8_t scale, min;

	unpu_block_k_scale(p + 4, j, &scale, &min);
	set_scale(block, half_at(p) * scale, -(half_at(p + 2) * min));
	for (int i = 0; i < 32; i++)
		block->q[i] = (int8_t)(nibble[32 * (j / 2) + i] >> 4 * (j % 2) & 15);
}

static void read_q5_k(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	read_k(p, j, p + 48, block);
	for (int i = 0; i < 32; i++)
		block->q[i] = (int8_t)(block->q[i] + (p[16 + i] >> j & 1) * 16);
}

/* Blocks of 32 come in two halves of four, which share the bytes of both planes. */
static void read_q6_k(const uint8_t *p, uint32_t j, struct unpu_block *block)
{
	const uint8_t *low = p + 64 * (j / 4) + 32 * (j % 2), *high = p + 128 + 32 * (j / 4);
	const float d = half_at(p + 208);

	block->scale[0] = d * (int8_t)p[192 + 2 * j];
	block->scale[1] = d * (int8_t)p[192 + 2 * j + 1];
	block->offset = 0;
	for (int i = 0; i < 32; i++)
		block->q[i] = (int8_t)(((low[i] >> 4 * (j % 4 / 2) & 15) |
					(high[i] >> 2 * (j % 4) & 3) << 4) - 32);
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
		read_k(p, b % 8, p + 16, block);
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
