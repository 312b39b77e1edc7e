/* SPDX-License-Identifier: MIT */
/*
 * Panels of the families Q4K and Q6K, which take the file's bits as they are, and of Q8A, which
 * takes what unpu_block_read() says of any type.
 */
#include "runtime/model/blocks.h"
#include "runtime/model/gguf.h"
#include "runtime/plan/panels.h"
#include "runtime/plan/words.h"
#include "shaders/layout.h"

#define GROUP		8	/* blocks of 32 of a superblock */
#define Q4K_BLOCK	144	/* f16 d, f16 dmin, 12 bytes of scales and minima, 128 of quants */
#define Q6K_BLOCK	210	/* 128 bytes of low nibbles, 64 of high bits, 16 s8 scales, f16 d */
#define PANEL_MOST	16	/* of these families */

#define NIBBLES	0x0f0f0f0fu
#define PAIRS	0x03030303u

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Byte i of each of 4 rows to place[i] bytes from dst on. */
static inline void put_columns(unpu_words4 m[4], const uint16_t place[16], uint8_t *dst)
{
	unpu_bytes_transpose(m);
	for (uint32_t i = 0; i < 16; i++) {
		uint32_t column = m[i / 4][i % 4];

		memcpy(dst + place[i], &column, 4);
	}
}

/* ---- Q4_K -------------------------------------------------------------------------------- */

/* 6 bits each: 8 scales, then 8 minima, from 12 bytes. */
static unpu_words4 scales_q4k(const uint8_t *p)
{
	const uint32_t a = load32(p), b = load32(p + 4), c = load32(p + 8);

	return (unpu_words4){
		a & 0x3f3f3f3f, (c & NIBBLES) | (a >> 6 & PAIRS) << 4,
		b & 0x3f3f3f3f, (c >> 4 & NIBBLES) | (b >> 6 & PAIRS) << 4,
	};
}

static void put_scales_q4k(const uint8_t *const *src, uint32_t panel, uint8_t *dst)
{
	uint16_t place[16];

	for (uint32_t i = 0; i < 16; i++)
		place[i] = (uint16_t)((i % 8 * 2 + i / 8) * panel);
	for (uint32_t r = 0; r < panel; r++) {
		memcpy(dst + 2 * r, src[r], 2);
		memcpy(dst + 2 * (panel + r), src[r] + 2, 2);
	}
	for (uint32_t r = 0; r < panel; r += 4) {
		unpu_words4 m[4];

		for (uint32_t i = 0; i < 4; i++)
			m[i] = scales_q4k(src[r + i] + 4);
		put_columns(m, place, dst + 4 * panel + r);
	}
}

/*
 * A file's byte has quant i of one block and of the next; a layout's has those 16 apart of one.
 * Both blocks of 4 rows.
 */
static inline void turn_nibbles(const uint8_t *const *src, uint32_t at, unpu_words4 first[4],
				unpu_words4 second[4])
{
	for (uint32_t i = 0; i < 4; i++) {
		unpu_words4 a = unpu_words_load(src[i] + at), b = unpu_words_load(src[i] + at + 16);

		first[i] = (a & NIBBLES) | (b & NIBBLES) << 4;
		second[i] = (a >> 4 & NIBBLES) | (b & ~NIBBLES);
	}
}

/* 4 rows of one block, where those of the panel's row r begin. */
static inline void put_square(unpu_words4 m[4], uint32_t panel, int k16, uint32_t flip,
			      uint32_t r, uint8_t *block)
{
	if (!k16)
		unpu_words_transpose(m);
	for (uint32_t i = 0; i < 4; i++)
		unpu_words_store(block + (k16 ? 16 * (r + i) : 4 * (panel * i + r)), m[i] ^ flip);
}

static inline void pack_q4k(const uint8_t *const *src, uint32_t panel, int k16, uint8_t *quants)
{
	const uint32_t flip = k16 ? 0x88888888 : 0, step = 16 * panel;

	for (uint32_t j = 0; j < GROUP; j += 2, quants += 2 * step) {
		for (uint32_t r = 0; r < panel; r += 4) {
			unpu_words4 first[4], second[4];

			turn_nibbles(src + r, 16 + 16 * j, first, second);
			put_square(first, panel, k16, flip, r, quants);
			put_square(second, panel, k16, flip, r, quants + step);
		}
	}
}

/* ---- Q6_K -------------------------------------------------------------------------------- */

static void put_scales_q6k(const uint8_t *const *src, uint32_t panel, uint8_t *dst)
{
	uint16_t place[16];

	for (uint32_t i = 0; i < 16; i++)
		place[i] = (uint16_t)(i * panel);
	for (uint32_t r = 0; r < panel; r++)
		memcpy(dst + 2 * r, src[r] + 208, 2);
	for (uint32_t r = 0; r < panel; r += 4) {
		unpu_words4 m[4];

		for (uint32_t i = 0; i < 4; i++)
			m[i] = unpu_words_load(src[r + i] + 192);
		put_columns(m, place, dst + 2 * panel + r);
	}
}

/* Of quants i and 16 + i of block j the two high bits each, in the low nibble of byte i. */
static inline unpu_words4 high_bits(const uint8_t *src, uint32_t j)
{
	const uint8_t *p = src + 128 + 32 * (j / 4);
	unpu_words4 a = unpu_words_load(p), b = unpu_words_load(p + 16);

	return (a >> 2 * (j % 4) & PAIRS) | (b >> 2 * (j % 4) & PAIRS) << 2;
}

/* A panel's second half of nibble bytes has its high bits above those of the first. */
static inline void put_high(const uint8_t *const *src, uint32_t panel, int k16, uint32_t j,
			    uint8_t *high)
{
	for (uint32_t r = 0; k16 && r < 4; r++)
		unpu_words_store(high + 16 * r,
				 high_bits(src[r], j) | high_bits(src[4 + r], j) << 4);
	for (uint32_t r = 0; !k16 && r < panel; r += 4) {
		unpu_words4 m[4];

		for (uint32_t i = 0; i < 4; i++)
			m[i] = high_bits(src[r + i], j);
		unpu_words_transpose(m);
		unpu_words_store(high + 4 * r, m[0] | m[2] << 4);
		unpu_words_store(high + 4 * (panel + r), m[1] | m[3] << 4);
	}
}

/* Blocks j and j + 2 of the file share their bytes of low nibbles. */
static inline void pack_q6k(const uint8_t *const *src, uint32_t panel, int k16, uint8_t *quants)
{
	const uint32_t step = 24 * panel;

	for (uint32_t j = 0; j < GROUP; j += j % 4 ? 3 : 1) {
		for (uint32_t r = 0; r < panel; r += 4) {
			unpu_words4 first[4], second[4];

			turn_nibbles(src + r, 64 * (j / 4) + 32 * (j % 2), first, second);
			put_square(first, panel, k16, 0, r, quants + j * step);
			put_square(second, panel, k16, 0, r, quants + (j + 2) * step);
		}
	}
	for (uint32_t j = 0; j < GROUP; j++)
		put_high(src, panel, k16, j, quants + j * step + 16 * panel);
}

/* ---- superblocks ------------------------------------------------------------------------- */

/* The calls differ in constants only, so that each is unrolled. */
static void pack_super(uint32_t layout, const uint8_t *const *src, uint8_t *quants,
		       uint8_t *scales)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q4K_R8_K16:
		pack_q4k(src, 8, 1, quants);
		put_scales_q4k(src, 8, scales);
		break;
	case DRM_UNPU_LAYOUT_Q4K_R8_K4U:
		pack_q4k(src, 8, 0, quants);
		put_scales_q4k(src, 8, scales);
		break;
	case DRM_UNPU_LAYOUT_Q4K_R16_K4U:
		pack_q4k(src, 16, 0, quants);
		put_scales_q4k(src, 16, scales);
		break;
	case DRM_UNPU_LAYOUT_Q6K_R8_K16:
		pack_q6k(src, 8, 1, quants);
		put_scales_q6k(src, 8, scales);
		break;
	case DRM_UNPU_LAYOUT_Q6K_R8_K4:
		pack_q6k(src, 8, 0, quants);
		put_scales_q6k(src, 8, scales);
		break;
	default: /* Q6K_R16_K4 */
		pack_q6k(src, 16, 0, quants);
		put_scales_q6k(src, 16, scales);
	}
}

static void pack_supers(uint32_t layout, const struct unpu_layout_info *info,
			const struct unpu_pack_row *rows, uint32_t k, uint8_t *quants,
			uint8_t *scales)
{
	static const uint8_t zero[Q6K_BLOCK];	/* without a scale all weights are 0 */
	const uint32_t bytes = info->family == UNPU_FAMILY_Q4K ? Q4K_BLOCK : Q6K_BLOCK;
	const uint8_t *src[PANEL_MOST];

	for (uint32_t b = 0; b < k / info->group; b++) {
		for (uint32_t r = 0; r < info->panel; r++)
			src[r] = rows[r].data ? rows[r].data + (uint64_t)b * bytes : zero;
		pack_super(layout, src, quants, scales);
		quants += info->panel * info->bits * 4 * GROUP;	/* 32 quants are `bits` words */
		scales += info->panel * info->scales;
	}
}

/* ---- Q8A --------------------------------------------------------------------------------- */

static void put_scales_q8a(const struct unpu_block *blocks, uint32_t panel, uint8_t *scales)
{
	for (uint32_t r = 0; r < panel; r++, scales += 4) {
		memcpy(scales, &blocks[r].scale[0], 4);
		memcpy(scales + 4 * panel, &blocks[r].scale[1], 4);
		memcpy(scales + 8 * panel, &blocks[r].offset, 4);
	}
}

static void pack_q8a(uint32_t layout, const struct unpu_layout_info *info,
		     const struct unpu_pack_row *rows, uint32_t k, uint8_t *quants, uint8_t *scales)
{
	struct unpu_block blocks[PANEL_MOST] = { 0 };
	const uint8_t *src[PANEL_MOST];

	for (uint32_t r = 0; r < info->panel; r++)
		src[r] = (const uint8_t *)blocks[r].q;
	for (uint32_t b = 0; b < k / UNPU_PAD; b++) {
		for (uint32_t r = 0; r < info->panel; r++)
			if (rows[r].data)
				unpu_block_read(rows[r].type, rows[r].data, b, &blocks[r]);
		if (layout == DRM_UNPU_LAYOUT_Q8A_R8_K16)
			unpu_put_rows(src, 8, 8, 0, quants);
		else if (layout == DRM_UNPU_LAYOUT_Q8A_R8_K4)
			unpu_put_words(src, 8, 8, 0, quants);
		else	/* + 128 modulo 256 */
			unpu_put_words(src, 16, 8, 0x80808080, quants);
		put_scales_q8a(blocks, info->panel, scales);
		quants += info->panel * UNPU_PAD;
		scales += info->panel * info->scales;
	}
}

void unpu_pack_panel_k(uint32_t layout, const struct unpu_pack_row *rows, uint32_t k,
		       uint8_t *quants, uint8_t *scales)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (info->family == UNPU_FAMILY_Q8A)
		pack_q8a(layout, info, rows, k, quants, scales);
	else
		pack_supers(layout, info, rows, k, quants, scales);
}
