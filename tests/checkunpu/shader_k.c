/* SPDX-License-Identifier: MIT */
/* Weights of Q4K, Q6K and Q8A for whole shaders; mm_k.c packs them. */
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/mm.h"
#include "tests/checkunpu/shader.h"

static void matrix_init(struct check_mm *p, uint32_t layout, uint32_t rows, uint32_t k,
			uint8_t *quants, uint8_t *scales)
{
	memset(p, 0, sizeof(*p));
	p->layout = layout;
	p->info = unpu_layout_info(layout);
	p->rows = rows;
	p->k = k;
	p->blocks = unpu_pad32(k) / 32;
	p->q = calloc((size_t)rows * 32 * p->blocks, 1);
	p->k_scales = calloc((size_t)rows * p->blocks, sizeof(*p->k_scales));
	p->quants.data = quants;
	p->quants.bytes = unpu_layout_quant_bytes(layout, rows, k);
	p->scales.data = scales;
	p->scales.bytes = unpu_layout_scale_bytes(layout, rows, k);
}

/* Packs it; the weights as class f32 has them. */
static double *matrix_finish(struct check_mm *p)
{
	uint32_t width = 32 * p->blocks;
	double *w = calloc((size_t)unpu_pad32(p->rows) * width, sizeof(*w));

	check_mm_k_pack(p);
	for (uint32_t r = 0; r < p->rows; r++)
		for (uint32_t i = 0; i < p->k; i++)
			w[(size_t)r * width + i] = (double)check_mm_k_weight(p, r, i);
	free(p->q);
	free(p->k_scales);
	return w;
}

/* Weights of about one: scales are bytes, quants up to 127. */
static void random_row(struct check_mm *p, uint32_t r)
{
	struct check_mm_k *s = &p->k_scales[r * p->blocks];

	for (uint32_t b = 0; b < p->blocks; b++) {
		if (b % 8 == 0) {
			s[b].d = unpu_float_f16(check_uniform(-1, 1) * 0x1p-12f);
			s[b].dmin = unpu_float_f16(check_uniform(-1, 1) * 0x1p-9f);
		} else {
			s[b].d = s[b - 1].d;
			s[b].dmin = s[b - 1].dmin;
		}
		s[b].s[0] = check_uniform(-1, 1) * 0x1p-7f;
		s[b].s[1] = check_uniform(-1, 1) * 0x1p-7f;
		s[b].o = check_uniform(-0.5f, 0.5f);
	}
}

double *shader_k_weights(uint32_t layout, uint32_t rows, uint32_t k, uint32_t ffn,
			 uint8_t *quants, uint8_t *scales)
{
	struct check_mm p;

	matrix_init(&p, layout, rows, k, quants, scales);
	check_mm_k_make(&p, RANDOM);
	for (uint32_t r = 0; r < rows; r++) {
		random_row(&p, r);
		if (!ffn || r / 64 * 32 + r % 32 < ffn)
			continue;
		/* quants of any value: scales make them nothing */
		memset(&p.k_scales[r * p.blocks], 0, p.blocks * sizeof(*p.k_scales));
	}
	return matrix_finish(&p);
}

/* q * d, where `scale` is d in units of 2^-4. */
static void exact_block(struct check_mm *p, uint32_t r, uint32_t b, uint32_t limit, int scale)
{
	struct check_mm_k *s = &p->k_scales[r * p->blocks + b];
	int8_t *q = p->q + (r * p->blocks + b) * 32;
	/* Q4K's quants and, now and then, Q8A's are moved, and what is added moves them back. */
	int by = p->info->family == UNPU_FAMILY_Q4K ? 8 : 0;

	if (p->info->family == UNPU_FAMILY_Q8A)
		by = (int)check_below(9) - 4;
	if (limit > (uint32_t)(p->info->bits == 6 ? 31 : 123))
		limit = p->info->bits == 6 ? 31 : 123;
	for (uint32_t i = 0; i < 32 && b * 32 + i < p->k; i++)
		q[i] = (int8_t)((int)check_below(2 * limit + 1) - (int)limit + by);
	s->d = s->dmin = unpu_float_f16(0x1p-4f);
	s->sc[0] = s->sc[1] = scale;
	s->m = by * scale;
	s->s[0] = s->s[1] = (float)scale * 0x1p-4f;
	s->o = (float)(-by * scale) * 0x1p-4f;
}

double *shader_k_weights_exact(uint32_t layout, uint32_t rows, uint32_t k, uint32_t limit,
			       uint8_t *quants, uint8_t *scales)
{
	struct check_mm p;

	matrix_init(&p, layout, rows, k, quants, scales);
	for (uint32_t n = 0; n < rows * p.blocks; n++)
		exact_block(&p, n / p.blocks, n % p.blocks, limit, 1 + (int)check_below(2));
	return matrix_finish(&p);
}
