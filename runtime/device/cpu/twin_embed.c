/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

#include "runtime/device/cpu/c.h"
#include "runtime/half.h"

/* 16-bit values have no alignment of their own inside GGUF blocks. */
static uint16_t row_load16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void row_floats(uint32_t layout, const uint8_t *p, size_t stride, uint32_t k, float *out)
{
	for (uint32_t i = 0; i < k; i++, p += stride) {
		switch (layout) {
		case DRM_UNPU_LAYOUT_GGUF_F32:
		case DRM_UNPU_LAYOUT_F32_R16:
		case DRM_UNPU_LAYOUT_F32_R32:
			memcpy(&out[i], p, sizeof(*out));
			break;
		case DRM_UNPU_LAYOUT_GGUF_F16:
		case DRM_UNPU_LAYOUT_F16_R16:
		case DRM_UNPU_LAYOUT_F16_R32:
			out[i] = unpu_f16_float(row_load16(p));
			break;
		default:
			out[i] = unpu_bf16_float(row_load16(p));
		}
	}
}

/* 16 bytes of the row, then those of the 31 others; p is where the row's first lie. */
static void row_pieces(uint32_t layout, const uint8_t *p, size_t size, uint32_t k, float *out)
{
	uint32_t each = 16 / (uint32_t)size;

	for (uint32_t i = 0; i < k; i += each, p += 32 * 16)
		row_floats(layout, p, size, k - i < each ? k - i : each, out + i);
}

/* A block of 32 as int8: where quant k of row r lies is what layouts differ in. */
static int block_q8(uint32_t layout, const uint8_t *block, uint32_t r, uint32_t k)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		return (int8_t)block[k / 4 * 32 + r * 4 + k % 4];
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		return block[k / 4 * 64 + r * 4 + k % 4] - 128;
	case DRM_UNPU_LAYOUT_Q8_R32:
		return (int8_t)block[k / 16 * 512 + r * 16 + k % 16];
	default:	/* Q8_R8_K16 and GGUF_Q8_0: a row's 32 in order */
		return (int8_t)block[r * 32 + k];
	}
}

static int block_q4(uint32_t layout, const uint8_t *block, uint32_t r, uint32_t k)
{
	uint32_t i = k % 16, panel = layout == DRM_UNPU_LAYOUT_Q4_R16_K4U ? 16 : 8;
	int nibble;

	if (layout == DRM_UNPU_LAYOUT_Q4_R8_K16 || layout == DRM_UNPU_LAYOUT_GGUF_Q4_0 ||
	    layout == DRM_UNPU_LAYOUT_Q4_R32)
		nibble = block[r * 16 + i];
	else
		nibble = block[(i / 4 * panel + r) * 4 + i % 4];
	nibble = k < 16 ? nibble & 15 : nibble >> 4;
	if (layout == DRM_UNPU_LAYOUT_Q4_R8_K16 || layout == DRM_UNPU_LAYOUT_Q4_R8_K4)
		return (nibble ^ 8) - 8;	/* two's complement */
	return nibble - 8;
}

static void row_block(const struct unpu_layout_info *info, uint32_t layout, const uint8_t *block,
		      uint32_t r, float d, float *out)
{
	for (uint32_t i = 0; i < 32; i++)
		out[i] = (float)(info->bits == 8 ? block_q8(layout, block, r, i) :
						   block_q4(layout, block, r, i)) * d;
}

static void row_gguf(const struct unpu_layout_info *info, uint32_t layout, const uint8_t *quants,
		     uint32_t k, uint32_t row, float *out)
{
	uint32_t blocks = k / 32;
	const uint8_t *p = quants + (size_t)row * blocks * info->block;

	for (uint32_t b = 0; b < blocks; b++, p += info->block)
		row_block(info, layout, p + 2, 0, unpu_f16_float(row_load16(p)), out + b * 32);
}

static void row_panel(const struct unpu_layout_info *info, uint32_t layout, const uint8_t *quants,
		      const uint8_t *scales, uint32_t k, uint32_t row, float *out)
{
	uint32_t blocks = unpu_pad32(k) / 32, r = row % info->panel;
	size_t first = (size_t)(row / info->panel) * blocks;
	size_t bytes = (size_t)info->panel * 4 * info->bits;

	for (uint32_t b = 0; b < blocks; b++) {
		const uint8_t *d = scales + ((first + b) * info->panel + r) * 2;

		row_block(info, layout, quants + (first + b) * bytes, r,
			  unpu_f16_float(row_load16(d)), out + b * 32);
	}
}

void unpu_cpu_weight_row(uint32_t layout, const void *quants, const void *scales, uint32_t rows,
			 uint32_t k, uint32_t row, float *out)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	const uint8_t *p = quants;
	size_t bytes = info->bits / 8;

	if (row >= rows)
		row = rows - 1;
	if (info->family > UNPU_FAMILY_Q) {
		unpu_mm_k_row_c(layout, quants, scales, k, row, out);
	} else if (info->quantised && info->packed) {
		row_panel(info, layout, p, scales, k, row, out);
	} else if (info->quantised) {
		row_gguf(info, layout, p, k, row, out);
	} else if (info->packed && info->panel == 32) {
		p += (size_t)(row / 32) * unpu_pad32(k) * 32 * bytes + row % 32 * 16;
		row_pieces(layout, p, bytes, k, out);
	} else if (info->packed) {
		p += ((size_t)(row / 16) * unpu_pad32(k) * 16 + row % 16) * bytes;
		row_floats(layout, p, 16 * bytes, k, out);
	} else {
		row_floats(layout, p + (size_t)row * k * bytes, bytes, k, out);
	}
	for (uint32_t i = k; i < unpu_pad32(k); i++)
		out[i] = 0.0f;
}

void unpu_twin_embed_row(uint32_t layout, const void *quants, const void *scales, uint32_t vocab,
			 uint32_t hidden, const float *positions, uint32_t token,
			 uint32_t position, float *x)
{
	unpu_cpu_weight_row(layout, quants, scales, vocab, hidden, token, x);
	if (!positions)
		return;
	positions += (size_t)position * unpu_pad32(hidden);
	for (uint32_t i = 0; i < hidden; i++)
		x[i] += positions[i];
}

static void embed_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_embed_spec *s = spec;

	bounds->vocab = s->vocab;
	bounds->positions = s->positions;
}

static void embed_run(const struct unpu_twin_args *args)
{
	const struct unpu_embed_spec *s = args->spec;
	const float *positions = s->positions ? args->bindings[UNPU_EMBED_POSITIONS] : NULL;
	float *x = args->bindings[UNPU_EMBED_X];
	struct unpu_twin_part part = { 0 };

	while (unpu_twin_take(args, args->view->live, &part)) {
		for (uint32_t i = part.first; i < part.last; i++) {
			const struct unpu_state_row *row = &args->view->rows[i];

			unpu_twin_embed_row(s->layout, args->bindings[UNPU_EMBED_QUANTS],
					    args->bindings[UNPU_EMBED_SCALES], s->vocab, s->hidden,
					    positions, row->token, row->position,
					    x + (size_t)i * unpu_pad32(s->hidden));
		}
	}
}

const struct unpu_twin unpu_twin_embed = {
	.bounds = embed_bounds,
	.run = embed_run,
	.units = unpu_twin_live,
};
