/* SPDX-License-Identifier: MIT */
/*
 * Every layout in both classes: one 32-k block of eight rows is brought to plain order, then
 * multiplied. The specification of all other mm twins, and their fallback.
 */
#include <math.h>
#include <string.h>

#include "runtime/device/cpu/c.h"
#include "runtime/half.h"

#define ROWS	8	/* no range is cut finer, and every panel is a multiple */
#define TOKENS	UNPU_MM_C_TOKENS

struct a8_block {
	int8_t q[ROWS][32];
	float d[ROWS];
};

struct f32_block {
	float w[ROWS][32];
};

static uint16_t load16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---- quantised blocks -------------------------------------------------------------------- */

/* q8[row][k] and q4[row][i], p at the first row of the eight. */
static void unpack_q8_k16(const uint8_t *p, struct a8_block *out)
{
	memcpy(out->q, p, sizeof(out->q));
}

static void unpack_q4_k16(const uint8_t *p, struct a8_block *out)
{
	for (int r = 0; r < ROWS; r++) {
		for (int i = 0; i < 16; i++) {
			uint8_t byte = p[16 * r + i];

			out->q[r][i] = (int8_t)(((byte & 15) ^ 8) - 8);
			out->q[r][16 + i] = (int8_t)(((byte >> 4) ^ 8) - 8);
		}
	}
}

/* [k / 4][row of the panel][k % 4]; flip is the bias of an unsigned byte, 0 for a signed one. */
static void unpack_q8_k4(const uint8_t *p, uint32_t panel, uint8_t flip, struct a8_block *out)
{
	for (uint32_t g = 0; g < 8; g++)
		for (uint32_t r = 0; r < ROWS; r++)
			for (uint32_t j = 0; j < 4; j++)
				out->q[r][4 * g + j] = (int8_t)(p[4 * (g * panel + r) + j] ^ flip);
}

/* [g][row of the panel][j]; flip brings a two's complement nibble to weight + 8. */
static void unpack_q4_k4(const uint8_t *p, uint32_t panel, uint8_t flip, struct a8_block *out)
{
	for (uint32_t g = 0; g < 4; g++) {
		for (uint32_t r = 0; r < ROWS; r++) {
			for (uint32_t j = 0; j < 4; j++) {
				uint8_t byte = p[4 * (g * panel + r) + j] ^ flip;

				out->q[r][4 * g + j] = (int8_t)((byte & 15) - 8);
				out->q[r][16 + 4 * g + j] = (int8_t)((byte >> 4) - 8);
			}
		}
	}
}

/* [piece][row of the panel][16 bytes]; nibbles are weight + 8, as in the file. */
static void unpack_q8_r32(const uint8_t *p, struct a8_block *out)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		memcpy(out->q[r], p + 16 * r, 16);
		memcpy(out->q[r] + 16, p + 16 * (32 + r), 16);
	}
}

static void unpack_q4_r32(const uint8_t *p, struct a8_block *out)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		for (uint32_t i = 0; i < 16; i++) {
			uint8_t byte = p[16 * r + i];

			out->q[r][i] = (int8_t)((byte & 15) - 8);
			out->q[r][16 + i] = (int8_t)((byte >> 4) - 8);
		}
	}
}

/* GGUF blocks: f16 scale, then 32 int8, or 16 bytes of nibbles in the order of Q4_R8_K16 + 8. */
static void unpack_gguf_row(const uint8_t *p, uint32_t layout, uint32_t r, struct a8_block *out)
{
	out->d[r] = unpu_f16_float(load16(p));
	if (layout == DRM_UNPU_LAYOUT_GGUF_Q8_0) {
		memcpy(out->q[r], p + 2, 32);
		return;
	}
	for (int i = 0; i < 16; i++) {
		out->q[r][i] = (int8_t)((p[2 + i] & 15) - 8);
		out->q[r][16 + i] = (int8_t)((p[2 + i] >> 4) - 8);
	}
}

static void unpack_gguf(const struct unpu_mm_args *a, uint32_t row, uint32_t b, uint32_t bytes,
			struct a8_block *out)
{
	const uint8_t *p = a->quants;
	uint64_t stride = (uint64_t)(a->k / 32) * bytes;

	memset(out, 0, sizeof(*out));
	for (uint32_t r = 0; r < ROWS && row + r < a->rows; r++)
		unpack_gguf_row(p + (row + r) * stride + (uint64_t)b * bytes, a->layout, r, out);
}

static void unpack_packed(const struct unpu_mm_args *a, const struct unpu_layout_info *info,
			  uint32_t row, uint32_t b, struct a8_block *out)
{
	uint64_t at = (uint64_t)(row / info->panel) * (unpu_pad32(a->k) / 32) + b;
	uint32_t r0 = row % info->panel;
	const uint8_t *q = (const uint8_t *)a->quants + at * info->panel * 4 * info->bits;
	const uint8_t *d = (const uint8_t *)a->scales + 2 * (at * info->panel + r0);

	for (uint32_t r = 0; r < ROWS; r++)
		out->d[r] = unpu_f16_float(load16(d + 2 * r));
	switch (a->layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
		unpack_q8_k16(q, out);
		break;
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		unpack_q4_k16(q, out);
		break;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		unpack_q8_k4(q, info->panel, 0, out);
		break;
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		unpack_q8_k4(q + 4 * r0, info->panel, 0x80, out);
		break;
	case DRM_UNPU_LAYOUT_Q8_R32:
		unpack_q8_r32(q + 16 * r0, out);
		break;
	case DRM_UNPU_LAYOUT_Q4_R32:
		unpack_q4_r32(q + 16 * r0, out);
		break;
	default:
		unpack_q4_k4(q + 4 * r0, info->panel,
			     a->layout == DRM_UNPU_LAYOUT_Q4_R8_K4 ? 0x88 : 0, out);
	}
}

static void unpack_a8(const struct unpu_mm_args *a, uint32_t row, uint32_t b, struct a8_block *out)
{
	const struct unpu_layout_info *info = unpu_layout_info(a->layout);

	if (info->packed)
		unpack_packed(a, info, row, b, out);
	else
		unpack_gguf(a, row, b, info->block, out);
}

/* ---- float blocks ------------------------------------------------------------------------ */

static float load_float(const uint8_t *p, uint32_t layout)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_GGUF_F32:
	case DRM_UNPU_LAYOUT_F32_R16:
	case DRM_UNPU_LAYOUT_F32_R32: {
		float f;

		memcpy(&f, p, sizeof(f));
		return f;
	}
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_F16_R16:
	case DRM_UNPU_LAYOUT_F16_R32:
		return unpu_f16_float(load16(p));
	default:
		return unpu_bf16_float(load16(p));
	}
}

/* In GGUF layouts neither the rows nor the end of a row are padded. */
static void unpack_float(const struct unpu_mm_args *a, const struct unpu_layout_info *info,
			 uint32_t row, uint32_t b, struct f32_block *out)
{
	const uint8_t *p = a->quants;
	uint64_t k = info->packed ? unpu_pad32(a->k) : a->k;
	uint64_t step = info->packed ? info->panel : 1, size = info->bits / 8;
	uint32_t end = k - 32 * b < 32 ? k - 32 * b : 32;

	memset(out, 0, sizeof(*out));
	for (uint32_t r = 0; r < ROWS && row + r < a->rows; r++) {
		uint64_t at = (uint64_t)((row + r) / info->panel) * k * info->panel +
			      (row + r) % info->panel + 32 * b * step;

		for (uint32_t i = 0; i < end; i++)
			out->w[r][i] = load_float(p + (at + i * step) * size, a->layout);
	}
}

/* [block][piece][row of the panel][16 bytes] */
static void unpack_float_r32(const struct unpu_mm_args *a, const struct unpu_layout_info *info,
			     uint32_t row, uint32_t b, struct f32_block *out)
{
	uint64_t block = (uint64_t)(row / 32) * (unpu_pad32(a->k) / 32) + b;
	const uint8_t *p = (const uint8_t *)a->quants + block * 32 * 4 * info->bits;
	uint32_t size = info->bits / 8, each = 16 / size;

	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t i = 0; i < 32; i++)
			out->w[r][i] = load_float(p + 16 * (i / each * 32 + row % 32 + r) +
						  i % each * size, a->layout);
}

static void unpack_f32(const struct unpu_mm_args *a, uint32_t row, uint32_t b,
		       struct f32_block *out)
{
	const struct unpu_layout_info *info = unpu_layout_info(a->layout);
	struct a8_block block;

	if (info->family > UNPU_FAMILY_Q) {
		unpu_mm_k_block_c(a, row, b, out->w);
		return;
	}
	if (!info->quantised && info->panel == 32) {
		unpack_float_r32(a, info, row, b, out);
		return;
	}
	if (!info->quantised) {
		unpack_float(a, info, row, b, out);
		return;
	}
	unpack_a8(a, row, b, &block);
	for (int r = 0; r < ROWS; r++)
		for (int i = 0; i < 32; i++)
			out->w[r][i] = (float)block.q[r][i] * block.d[r];
}

/* ---- products ---------------------------------------------------------------------------- */

static int32_t dot32(const int8_t *w, const int8_t *x)
{
	int32_t sum = 0;

	for (int i = 0; i < 32; i++)
		sum += w[i] * x[i];
	return sum;
}

static void a8_tile(const struct unpu_mm_args *a, uint32_t row, uint32_t t0, uint32_t tokens)
{
	uint32_t k = unpu_pad32(a->k), rows = a->rows > row ? a->rows - row : 0;
	float acc[TOKENS][ROWS] = { 0 };
	struct a8_block block;

	for (uint32_t b = 0; b < k / 32; b++) {
		unpack_a8(a, row, b, &block);
		for (uint32_t t = 0; t < tokens; t++) {
			uint64_t at = (uint64_t)(t0 + t) * (k / 32) + b;

			for (int r = 0; r < ROWS; r++)
				acc[t][r] = fmaf((float)dot32(block.q[r], a->q + 32 * at),
						 block.d[r] * a->d[at], acc[t][r]);
		}
	}
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t r = 0; r < ROWS; r++)
			a->y[(t0 + t) * a->ldy + row - a->row0 + r] = r < rows ? acc[t][r] : 0;
}

static void f32_tile(const struct unpu_mm_args *a, uint32_t row, uint32_t t0, uint32_t tokens)
{
	uint32_t rows = a->rows > row ? a->rows - row : 0;
	float acc[TOKENS][ROWS][4] = { 0 };
	struct f32_block block;

	for (uint32_t b = 0; b < unpu_pad32(a->k) / 32; b++) {
		unpack_f32(a, row, b, &block);
		for (uint32_t t = 0; t < tokens; t++) {
			const float *x = a->x + (t0 + t) * a->ldx + 32 * b;

			for (int r = 0; r < ROWS; r++)
				for (int i = 0; i < 32; i++)
					acc[t][r][i % 4] = fmaf(block.w[r][i], x[i],
								acc[t][r][i % 4]);
		}
	}
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t r = 0; r < ROWS; r++) {
			const float *s = acc[t][r];

			a->y[(t0 + t) * a->ldy + row - a->row0 + r] =
				r < rows ? (s[0] + s[1]) + (s[2] + s[3]) : 0;
		}
	}
}

void unpu_mm_tiles_c(const struct unpu_mm_args *a, unpu_mm_tile_fn *tile)
{
	for (uint32_t row = a->row0; row < a->row1; row += ROWS)
		for (uint32_t t = 0; t < a->tokens; t += TOKENS)
			tile(a, row, t, a->tokens - t < TOKENS ? a->tokens - t : TOKENS);
}

void unpu_mm_a8_c(const struct unpu_mm_args *args)
{
	unpu_mm_tiles_c(args, a8_tile);
}

void unpu_mm_f32_c(const struct unpu_mm_args *args)
{
	unpu_mm_tiles_c(args, f32_tile);
}
