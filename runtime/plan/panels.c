/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "runtime/model/gguf.h"
#include "runtime/plan/panels.h"
#include "shaders/layout.h"

#define Q8_BLOCK	34	/* f16 scale, 32 int8 */
#define Q4_BLOCK	18	/* f16 scale, 16 bytes of nibble pairs */

float unpu_half_to_float(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exp = half >> 10 & 31, man = half & 1023;
	uint32_t bits;
	float value;

	if (exp == 0) {
		value = (float)man * 0x1p-24f;
		return sign ? -value : value;
	}
	bits = sign | man << 13 | (exp == 31 ? 0x7f800000 : (exp + 112) << 23);
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint16_t load16(const uint8_t *p)
{
	uint16_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* How the 32-bit words of one row's block lie in a panel's block, and what turns their sign. */
struct word_map {
	uint32_t row_step, word_step;
	uint32_t flip;
};

static struct word_map word_map(uint32_t layout)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
		return (struct word_map){ 32, 4, 0 };
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		return (struct word_map){ 4, 32, 0 };
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		return (struct word_map){ 4, 64, 0x80808080 };	/* + 128 modulo 256 */
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		return (struct word_map){ 16, 4, 0x88888888 };	/* file: + 8; to two's complement */
	case DRM_UNPU_LAYOUT_Q4_R8_K4:
		return (struct word_map){ 4, 32, 0x88888888 };
	case DRM_UNPU_LAYOUT_Q4_R8_K4U:
		return (struct word_map){ 4, 32, 0 };
	default: /* DRM_UNPU_LAYOUT_Q4_R16_K4U */
		return (struct word_map){ 4, 64, 0 };
	}
}

/* Q4_0 blocks hold no value that Q8_0 has not: the same scale, q - 8. */
static void widen_q4(const uint8_t *q4, uint8_t *q8)
{
	memcpy(q8, q4, 2);
	for (int i = 0; i < 16; i++) {
		q8[2 + i] = (uint8_t)((q4[2 + i] & 15) - 8);
		q8[18 + i] = (uint8_t)((q4[2 + i] >> 4) - 8);
	}
}

/* flip of the layout makes this the layout's own zero for 4-bit layouts: nibble 8 is weight 0. */
static const uint8_t zero_q4[Q4_BLOCK] = {
	0, 0, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
	0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
};
static const uint8_t zero_q8[Q8_BLOCK];

static const uint8_t *quant_block(const struct unpu_pack_row *row, uint32_t b, int four_bits,
				  uint8_t *scratch)
{
	if (!row->data)
		return four_bits ? zero_q4 : zero_q8;
	if (four_bits)
		return row->data + (uint64_t)b * Q4_BLOCK;
	if (row->type == UNPU_TYPE_Q8_0)
		return row->data + (uint64_t)b * Q8_BLOCK;
	widen_q4(row->data + (uint64_t)b * Q4_BLOCK, scratch);
	return scratch;
}

static void pack_quants(uint32_t layout, const struct unpu_layout_info *info,
			const struct unpu_pack_row *rows, uint32_t k, uint8_t *quants,
			uint8_t *scales)
{
	const struct word_map map = word_map(layout);
	const uint32_t panel = info->panel, words = info->bits;	/* 32 quants are `bits` words */
	uint8_t scratch[Q8_BLOCK];

	for (uint32_t b = 0; b < k / UNPU_PAD; b++) {
		for (uint32_t r = 0; r < panel; r++) {
			const uint8_t *src = quant_block(&rows[r], b, info->bits == 4, scratch);
			uint8_t *dst = quants + r * map.row_step;

			memcpy(scales + 2 * r, src, 2);
			for (uint32_t w = 0; w < words; w++) {
				uint32_t v;

				memcpy(&v, src + 2 + 4 * w, 4);
				v ^= map.flip;
				memcpy(dst + w * map.word_step, &v, 4);
			}
		}
		quants += panel * words * 4;
		scales += panel * 2;
	}
}

static float dequantise(const uint8_t *data, uint32_t type, uint32_t i)
{
	const uint8_t *block;
	uint32_t bits;
	float value;

	switch (type) {
	case UNPU_TYPE_F32:
		memcpy(&value, data + 4ull * i, 4);
		return value;
	case UNPU_TYPE_F16:
		return unpu_half_to_float(load16(data + 2ull * i));
	case UNPU_TYPE_BF16:
		bits = (uint32_t)load16(data + 2ull * i) << 16;
		memcpy(&value, &bits, 4);
		return value;
	case UNPU_TYPE_Q8_0:
		block = data + (uint64_t)(i / 32) * Q8_BLOCK;
		return unpu_half_to_float(load16(block)) * (int8_t)block[2 + i % 32];
	default: /* UNPU_TYPE_Q4_0 */
		block = data + (uint64_t)(i / 32) * Q4_BLOCK;
		bits = block[2 + i % 16] >> (i % 32 < 16 ? 0 : 4) & 15;
		return unpu_half_to_float(load16(block)) * ((int)bits - 8);
	}
}

/* K past k stays as the buffer was created: zero. */
static void pack_floats(const struct unpu_layout_info *info, const struct unpu_pack_row *rows,
			uint32_t k, uint8_t *out)
{
	const uint32_t panel = info->panel;

	for (uint32_t r = 0; r < panel; r++) {
		const uint8_t *src = rows[r].data;

		if (!src)
			continue;
		for (uint32_t i = 0; i < k; i++) {
			if (info->bits == 16) {
				memcpy(out + 2ull * ((uint64_t)i * panel + r), src + 2ull * i, 2);
			} else {
				float v = dequantise(src, rows[r].type, i);

				memcpy(out + 4ull * ((uint64_t)i * panel + r), &v, 4);
			}
		}
	}
}

static void pack_gguf(const struct unpu_layout_info *info, const struct unpu_pack_row *row,
		      uint32_t k, uint8_t *out)
{
	uint64_t bytes = info->block ? (uint64_t)k / UNPU_PAD * info->block
				     : (uint64_t)k * info->bits / 8;

	if (row->data)
		memcpy(out, row->data, bytes);
	else
		memset(out, 0, bytes);	/* a zero scale makes any quant zero */
}

uint64_t unpu_panel_bytes(uint32_t layout, uint32_t k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!info->packed)
		return unpu_layout_quant_bytes(layout, 1, k);
	return (uint64_t)info->panel * unpu_pad32(k) * info->bits / 8;
}

void unpu_pack_panel(uint32_t layout, const struct unpu_pack_row *rows, uint32_t k,
		     uint8_t *quants, uint8_t *scales)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!info->packed)
		pack_gguf(info, rows, k, quants);
	else if (info->scales)
		pack_quants(layout, info, rows, k, quants, scales);
	else
		pack_floats(info, rows, k, quants);
}

int unpu_layout_holds(uint32_t layout, uint32_t type)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_F32_R16:
		return 1;
	case DRM_UNPU_LAYOUT_GGUF_F32:
		return type == UNPU_TYPE_F32;
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_F16_R16:
		return type == UNPU_TYPE_F16;
	case DRM_UNPU_LAYOUT_GGUF_BF16:
	case DRM_UNPU_LAYOUT_BF16_R16:
		return type == UNPU_TYPE_BF16;
	case DRM_UNPU_LAYOUT_GGUF_Q8_0:
		return type == UNPU_TYPE_Q8_0;
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		return type == UNPU_TYPE_Q8_0 || type == UNPU_TYPE_Q4_0;
	default: /* the Q4 layouts */
		return type == UNPU_TYPE_Q4_0;
	}
}
