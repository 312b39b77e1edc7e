/* SPDX-License-Identifier: MIT */
/*
 * The families Q4K, Q6K and Q8A: class a8, and their weights for class f32 (mm.c). The
 * specification of all other twins of theirs, and their fallback. shaders/layout.h says what lies
 * where.
 */
#include <math.h>
#include <string.h>

#include "runtime/device/cpu/c.h"
#include "runtime/half.h"

#define ROWS	8	/* no range is cut finer, and every panel is a multiple */
#define TOKENS	UNPU_MM_C_TOKENS
#define GROUP	8	/* blocks that share d and dmin */

/* One 32-k block of eight rows. Integer scales of Q4K and Q6K, floats of Q8A. */
struct k_block {
	int8_t q[ROWS][32];
	int32_t scale[2][ROWS], min[ROWS];
	float d[ROWS], dmin[ROWS];
	float s[2][ROWS], o[ROWS];
};

/* What a token's row has gathered: of the group at hand, and of those before. */
struct k_sum {
	float scaled, min, acc;
};

static float load_half(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return unpu_f16_float(v);
}

static void load_floats(const uint8_t *p, float out[ROWS])
{
	memcpy(out, p, ROWS * sizeof(*out));
}

/* ---- quants ------------------------------------------------------------------------------ */

/* Which byte of a panel's block has the nibble of (row, i), and which byte those of 8 bits. */
static uint32_t nibble_at(uint32_t layout, uint32_t panel, uint32_t r, uint32_t i)
{
	if (layout == DRM_UNPU_LAYOUT_Q4K_R8_K16 || layout == DRM_UNPU_LAYOUT_Q6K_R8_K16)
		return 16 * r + i % 16;
	return 4 * (i % 16 / 4 * panel + r) + i % 4;
}

static int quant_q4k(uint32_t layout, uint32_t panel, const uint8_t *p, uint32_t r, uint32_t i)
{
	int nibble = p[nibble_at(layout, panel, r, i)] >> i / 16 * 4 & 15;

	return layout == DRM_UNPU_LAYOUT_Q4K_R8_K16 ? nibble ^ 8 : nibble;
}

static int quant_q6k(uint32_t layout, uint32_t panel, const uint8_t *p, uint32_t r, uint32_t i)
{
	uint32_t at = nibble_at(layout, panel, r, i), half = 8 * panel;
	int low = p[at] >> i / 16 * 4 & 15;
	int high = p[2 * half + at % half] >> (at / half * 4 + i / 16 * 2) & 3;

	return (low | high << 4) - 32;
}

static int quant_q8a(uint32_t layout, uint32_t panel, const uint8_t *p, uint32_t r, uint32_t i)
{
	if (layout == DRM_UNPU_LAYOUT_Q8A_R8_K16)
		return (int8_t)p[32 * r + i];
	p += 4 * (i / 4 * panel + r) + i % 4;
	return layout == DRM_UNPU_LAYOUT_Q8A_R16_K4U ? *p - 128 : (int8_t)*p;
}

/* ---- blocks ------------------------------------------------------------------------------ */

static void scales_q4k(const uint8_t *p, uint32_t panel, uint32_t r0, uint32_t b,
		       struct k_block *out)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		out->d[r] = load_half(p + 2 * (r0 + r));
		out->dmin[r] = load_half(p + 2 * (panel + r0 + r));
		out->scale[0][r] = p[4 * panel + 2 * b * panel + r0 + r];
		out->min[r] = p[4 * panel + (2 * b + 1) * panel + r0 + r];
	}
}

static void scales_q6k(const uint8_t *p, uint32_t panel, uint32_t r0, uint32_t b,
		       struct k_block *out)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		out->d[r] = load_half(p + 2 * (r0 + r));
		out->scale[0][r] = (int8_t)p[2 * panel + 2 * b * panel + r0 + r];
		out->scale[1][r] = (int8_t)p[2 * panel + (2 * b + 1) * panel + r0 + r];
	}
}

static void scales_q8a(const uint8_t *p, uint32_t panel, uint32_t r0, struct k_block *out)
{
	load_floats(p + 4 * r0, out->s[0]);
	load_floats(p + 4 * (panel + r0), out->s[1]);
	load_floats(p + 4 * (2 * panel + r0), out->o);
}

static void unpack(uint32_t layout, const void *quants, const void *scales, uint32_t k,
		   uint32_t row, uint32_t b, struct k_block *out)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint32_t panel = info->panel, r0 = row % panel, blocks = unpu_pad32(k) / 32;
	uint64_t block = (uint64_t)(row / panel) * blocks + b;
	const uint8_t *q = (const uint8_t *)quants + block * panel * 4 * info->bits;
	const uint8_t *s = (const uint8_t *)scales +
			   block / (info->group / 32) * panel * info->scales;

	if (info->family == UNPU_FAMILY_Q4K)
		scales_q4k(s, panel, r0, b % GROUP, out);
	else if (info->family == UNPU_FAMILY_Q6K)
		scales_q6k(s, panel, r0, b % GROUP, out);
	else
		scales_q8a(s, panel, r0, out);
	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t i = 0; i < 32; i++)
			out->q[r][i] = (int8_t)(info->family == UNPU_FAMILY_Q4K ?
						quant_q4k(layout, panel, q, r0 + r, i) :
						info->family == UNPU_FAMILY_Q6K ?
						quant_q6k(layout, panel, q, r0 + r, i) :
						quant_q8a(layout, panel, q, r0 + r, i));
}

/* ---- class a8 ---------------------------------------------------------------------------- */

static int32_t dot16(const int8_t *w, const int8_t *x)
{
	int32_t sum = 0;

	for (int i = 0; i < 16; i++)
		sum += w[i] * x[i];
	return sum;
}

/*
 * (float) of these products is exact whatever the bytes are: 255 * 15 * 127 * 32 and
 * 2 * 128 * 32 * 127 * 16 are below 2^24.
 */
static void add_block(uint32_t family, const struct k_block *w, uint32_t r, const int8_t *x,
		      float da, int32_t sum, struct k_sum *to)
{
	int32_t low = dot16(w->q[r], x), high = dot16(w->q[r] + 16, x + 16);
	float t;

	if (family == UNPU_FAMILY_Q4K) {
		to->scaled = fmaf((float)(w->scale[0][r] * (low + high)), da, to->scaled);
		to->min = fmaf((float)w->min[r], da * (float)sum, to->min);
	} else if (family == UNPU_FAMILY_Q6K) {
		to->scaled = fmaf((float)(w->scale[0][r] * low + w->scale[1][r] * high), da,
				  to->scaled);
	} else {
		t = fmaf(w->s[1][r], (float)high, w->s[0][r] * (float)low);
		t = fmaf(w->o[r], (float)sum, t);
		to->acc = fmaf(t, da, to->acc);
	}
}

static void end_group(uint32_t family, const struct k_block *w, uint32_t r, struct k_sum *to)
{
	if (family == UNPU_FAMILY_Q8A)
		return;
	to->acc = fmaf(w->d[r], to->scaled, to->acc);
	if (family == UNPU_FAMILY_Q4K)
		to->acc = fmaf(-w->dmin[r], to->min, to->acc);
	to->scaled = 0;
	to->min = 0;
}

static void a8_tile(const struct unpu_mm_args *a, uint32_t row, uint32_t t0, uint32_t tokens)
{
	uint32_t blocks = unpu_pad32(a->k) / 32, rows = a->rows > row ? a->rows - row : 0;
	uint32_t family = unpu_layout_info(a->layout)->family;
	struct k_sum sum[TOKENS][ROWS] = { 0 };
	struct k_block w;

	for (uint32_t b = 0; b < blocks; b++) {
		unpack(a->layout, a->quants, a->scales, a->k, row, b, &w);
		for (uint32_t t = 0; t < tokens; t++) {
			uint64_t at = (uint64_t)(t0 + t) * blocks + b;

			for (uint32_t r = 0; r < ROWS; r++) {
				add_block(family, &w, r, a->q + 32 * at, a->d[at], a->sum[at],
					  &sum[t][r]);
				if (b % GROUP == GROUP - 1)
					end_group(family, &w, r, &sum[t][r]);
			}
		}
	}
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t r = 0; r < ROWS; r++)
			a->y[(t0 + t) * a->ldy + row - a->row0 + r] = r < rows ? sum[t][r].acc : 0;
}

/* ---- class f32 --------------------------------------------------------------------------- */

/* Rounded once: the products of scales are exact. */
static float weight(uint32_t family, const struct k_block *w, uint32_t r, uint32_t i)
{
	if (family == UNPU_FAMILY_Q4K)
		return fmaf(w->d[r], (float)(w->scale[0][r] * w->q[r][i]),
			    -(w->dmin[r] * (float)w->min[r]));
	if (family == UNPU_FAMILY_Q6K)
		return w->d[r] * (float)(w->scale[i / 16][r] * w->q[r][i]);
	return fmaf(w->s[i / 16][r], (float)w->q[r][i], w->o[r]);
}

void unpu_mm_k_block_c(const struct unpu_mm_args *a, uint32_t row, uint32_t b, float out[][32])
{
	uint32_t family = unpu_layout_info(a->layout)->family;
	struct k_block w;

	unpack(a->layout, a->quants, a->scales, a->k, row, b, &w);
	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t i = 0; i < 32; i++)
			out[r][i] = weight(family, &w, r, i);
}

void unpu_mm_k_a8_c(const struct unpu_mm_args *args)
{
	unpu_mm_tiles_c(args, a8_tile);
}

void unpu_mm_k_row_c(uint32_t layout, const void *quants, const void *scales, uint32_t k,
		     uint32_t row, float *out)
{
	uint32_t family = unpu_layout_info(layout)->family;
	struct k_block w;

	for (uint32_t b = 0; b < unpu_pad32(k) / 32; b++) {
		unpack(layout, quants, scales, k, row / ROWS * ROWS, b, &w);
		for (uint32_t i = 0; i < 32; i++)
			out[32 * b + i] = weight(family, &w, row % ROWS, i);
	}
}
