/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "runtime/half.h"
#include "runtime/model/blocks.h"
#include "runtime/model/gguf.h"
#include "runtime/plan/panels.h"
#include "runtime/plan/words.h"
#include "shaders/layout.h"

#define Q8_BLOCK	34	/* f16 scale, 32 int8 */
#define Q4_BLOCK	18	/* f16 scale, 16 bytes of nibble pairs */

static uint16_t load16(const uint8_t *p)
{
	uint16_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

/* What turns the sign of a file's quants into the layout's, 32 bits at a time. */
static uint32_t sign_flip(uint32_t layout)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		return 0x80808080;	/* + 128 modulo 256 */
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
	case DRM_UNPU_LAYOUT_Q4_R8_K4:
		return 0x88888888;	/* the file's + 8, to two's complement */
	default:
		return 0;
	}
}

/* The same scale and q - 8. */
static void widen_q4(const uint8_t *q4, uint8_t *q8)
{
	memcpy(q8, q4, 2);
	for (int i = 0; i < 16; i++) {
		q8[2 + i] = (uint8_t)((q4[2 + i] & 15) - 8);
		q8[18 + i] = (uint8_t)((q4[2 + i] >> 4) - 8);
	}
}

/* Blocks of other types that begin with their only scale hold no value that Q8_0 has not. */
static void widen(const struct unpu_pack_row *row, uint32_t b, uint8_t *q8)
{
	const uint8_t *p = row->data + (uint64_t)b * unpu_type_info(row->type)->bytes;
	struct unpu_block block;

	if (row->type == UNPU_TYPE_Q4_0) {
		widen_q4(p, q8);
		return;
	}
	unpu_block_read(row->type, row->data, b, &block);
	memcpy(q8, p, 2);
	memcpy(q8 + 2, block.q, sizeof(block.q));
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
	widen(row, b, scratch);
	return scratch;
}

/* Piece 0 of all rows, then piece 1: 16 bytes each. */
static inline void put_pieces(const uint8_t *const *src, uint32_t panel, uint32_t pieces,
			      uint8_t *dst)
{
	for (uint32_t p = 0; p < pieces; p++)
		for (uint32_t r = 0; r < panel; r++, dst += 16)
			memcpy(dst, src[r] + 16 * p, 16);
}

/* One block of one panel; the calls differ in constants only, so that each is unrolled. */
static void put_block(uint32_t layout, const uint8_t *const *src, uint8_t *dst)
{
	const uint32_t flip = sign_flip(layout);

	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
		unpu_put_rows(src, 8, 8, flip, dst);
		break;
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		unpu_put_rows(src, 8, 4, flip, dst);
		break;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		unpu_put_words(src, 8, 8, flip, dst);
		break;
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		unpu_put_words(src, 16, 8, flip, dst);
		break;
	case DRM_UNPU_LAYOUT_Q4_R16_K4U:
		unpu_put_words(src, 16, 4, flip, dst);
		break;
	case DRM_UNPU_LAYOUT_Q8_R32:
		put_pieces(src, 32, 2, dst);
		break;
	case DRM_UNPU_LAYOUT_Q4_R32:
		put_pieces(src, 32, 1, dst);
		break;
	default: /* Q4_R8_K4, Q4_R8_K4U */
		unpu_put_words(src, 8, 4, flip, dst);
	}
}

static void pack_quants(uint32_t layout, const struct unpu_layout_info *info,
			const struct unpu_pack_row *rows, uint32_t k, uint8_t *quants,
			uint8_t *scales)
{
	uint8_t scratch[UNPU_PANEL_MAX][Q8_BLOCK];
	const uint8_t *src[UNPU_PANEL_MAX];

	for (uint32_t b = 0; b < k / UNPU_PAD; b++) {
		for (uint32_t r = 0; r < info->panel; r++) {
			src[r] = quant_block(&rows[r], b, info->bits == 4, scratch[r]);
			memcpy(scales + 2 * r, src[r], 2);
			src[r] += 2;
		}
		put_block(layout, src, quants);
		quants += info->panel * info->bits * 4;	/* 32 quants are `bits` words */
		scales += info->panel * 2;
	}
}

static float plain_float(const uint8_t *data, uint32_t type, uint32_t i)
{
	float value;

	if (type == UNPU_TYPE_F16)
		return unpu_f16_float(load16(data + 2ull * i));
	if (type == UNPU_TYPE_BF16)
		return unpu_bf16_float(load16(data + 2ull * i));
	memcpy(&value, data + 4ull * i, 4);
	return value;
}

/* i is a multiple of 32, as blocks are. */
static void dequantise(const struct unpu_pack_row *row, uint32_t i, uint32_t n, float *out)
{
	struct unpu_block block;

	if (!unpu_block_type(row->type)) {
		for (uint32_t j = 0; j < n; j++)
			out[j] = plain_float(row->data, row->type, i + j);
		return;
	}
	unpu_block_read(row->type, row->data, i / 32, &block);
	if (block.offset == 0) {	/* fma is a call where no instruction for it is known */
		for (uint32_t j = 0; j < 32; j++)
			out[j] = block.scale[j / 16] * (float)block.q[j];
		return;
	}
	for (uint32_t j = 0; j < n; j++)
		out[j] = unpu_block_weight(&block, j);
}

/* Up to 32 values from i on, as the layout holds them. */
static void load_floats(const struct unpu_pack_row *row, uint32_t bits, uint32_t i, uint32_t n,
			uint8_t *out)
{
	float values[UNPU_PAD];

	if (bits == 16 && !unpu_block_type(row->type)) {
		memcpy(out, row->data + 2ull * i, 2ull * n);
		return;
	}
	if (row->type == UNPU_TYPE_F32) {
		memcpy(out, row->data + 4ull * i, 4ull * n);
		return;
	}
	dequantise(row, i, n, values);
	if (bits == 32)
		memcpy(out, values, 4ull * n);
	for (uint32_t j = 0; bits == 16 && j < n; j++) {
		uint16_t half = unpu_float_f16(values[j]);

		memcpy(out + 2 * j, &half, 2);
	}
}

/* One row's share of a block, element after element between those of the other rows. */
static inline void put_elements(const uint8_t *src, uint32_t size, uint32_t panel, uint32_t r,
				uint32_t n, uint8_t *dst)
{
	for (uint32_t i = 0; i < n; i++)
		memcpy(dst + (uint64_t)size * (i * panel + r), src + (uint64_t)size * i, size);
}

/* The same, 16 bytes after 16 bytes. */
static void put_float_pieces(const uint8_t *src, uint32_t size, uint32_t panel, uint32_t r,
			     uint32_t n, uint8_t *dst)
{
	for (uint32_t at = 0; at < n * size; at += 16)
		memcpy(dst + panel * at + 16 * r, src + at,
		       n * size - at < 16 ? n * size - at : 16);
}

/* K past k stays as the buffer was created: zero. */
static void pack_floats(uint32_t layout, const struct unpu_layout_info *info,
			const struct unpu_pack_row *rows, uint32_t k, uint8_t *out)
{
	const uint32_t panel = info->panel, size = info->bits / 8;
	const int pieces = layout == DRM_UNPU_LAYOUT_F32_R32 || layout == DRM_UNPU_LAYOUT_F16_R32;
	uint8_t values[UNPU_PAD * 4];

	for (uint32_t i = 0; i < k; i += UNPU_PAD, out += (uint64_t)UNPU_PAD * panel * size) {
		uint32_t n = k - i < UNPU_PAD ? k - i : UNPU_PAD;

		for (uint32_t r = 0; r < panel; r++) {
			if (!rows[r].data)
				continue;
			load_floats(&rows[r], info->bits, i, n, values);
			if (pieces)
				put_float_pieces(values, size, panel, r, n, out);
			else if (size == 4)	/* constants, so that each copy is one store */
				put_elements(values, 4, panel, r, n, out);
			else
				put_elements(values, 2, panel, r, n, out);
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

uint64_t unpu_panel_scale_bytes(uint32_t layout, uint32_t k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	return (uint64_t)info->panel * ((k + info->group - 1) / info->group) * info->scales;
}

void unpu_pack_panel(uint32_t layout, const struct unpu_pack_row *rows, uint32_t k,
		     uint8_t *quants, uint8_t *scales)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (!info->packed)
		pack_gguf(info, rows, k, quants);
	else if (info->family > UNPU_FAMILY_Q)
		unpu_pack_panel_k(layout, rows, k, quants, scales);
	else if (info->scales)
		pack_quants(layout, info, rows, k, quants, scales);
	else
		pack_floats(layout, info, rows, k, quants);
}

static int family_holds(const struct unpu_layout_info *info, uint32_t type)
{
	switch (info->family) {
	case UNPU_FAMILY_Q4K:
		return type == UNPU_TYPE_Q4_K;
	case UNPU_FAMILY_Q6K:
		return type == UNPU_TYPE_Q6_K;
	case UNPU_FAMILY_Q8A:
		return unpu_block_type(type);
	default:
		if (type == UNPU_TYPE_Q4_0 || info->bits == 4)
			return type == UNPU_TYPE_Q4_0;
		return type == UNPU_TYPE_Q8_0 || type == UNPU_TYPE_Q5_0 || type == UNPU_TYPE_IQ4_NL;
	}
}

int unpu_layout_holds(uint32_t layout, uint32_t type)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_F32_R16:
	case DRM_UNPU_LAYOUT_F32_R32:
		return 1;
	case DRM_UNPU_LAYOUT_GGUF_F32:
		return type == UNPU_TYPE_F32;
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_F16_R16:
	case DRM_UNPU_LAYOUT_F16_R32:
		return type == UNPU_TYPE_F16;
	case DRM_UNPU_LAYOUT_GGUF_BF16:
	case DRM_UNPU_LAYOUT_BF16_R16:
		return type == UNPU_TYPE_BF16;
	case DRM_UNPU_LAYOUT_GGUF_Q8_0:
		return type == UNPU_TYPE_Q8_0;
	case DRM_UNPU_LAYOUT_GGUF_Q4_0:
		return type == UNPU_TYPE_Q4_0;
	default:
		return family_holds(unpu_layout_info(layout), type);
	}
}

int unpu_layout_takes(uint32_t layout, uint32_t type)
{
	if (layout == DRM_UNPU_LAYOUT_F16_R16 || layout == DRM_UNPU_LAYOUT_F16_R32)
		return type == UNPU_TYPE_F16 || unpu_block_type(type);
	return unpu_layout_holds(layout, type);
}
