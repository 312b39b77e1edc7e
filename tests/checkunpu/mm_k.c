/* SPDX-License-Identifier: MIT */
/*
 * Q4K, Q6K and Q8A by the words of shaders/layout.h and ops.h, as mm.c is: neither the packer nor
 * runtime/device/cpu/mm_k.c has a part in what is expected.
 */
#include <math.h>
#include <string.h>

#include "tests/checkunpu/mm.h"

#define GROUP	8	/* blocks of Q4K and Q6K that share d and dmin */

int check_mm_is_k(const struct check_mm *p)
{
	return p->info->family == UNPU_FAMILY_Q4K || p->info->family == UNPU_FAMILY_Q6K ||
	       p->info->family == UNPU_FAMILY_Q8A;
}

/* ---- numbers ------------------------------------------------------------------------------ */

static int lowest_quant(const struct check_mm *p)
{
	return p->info->family == UNPU_FAMILY_Q4K ? 0 : p->info->family == UNPU_FAMILY_Q6K ? -32 :
	       -128;
}

static int highest_quant(const struct check_mm *p)
{
	return p->info->family == UNPU_FAMILY_Q4K ? 15 : p->info->family == UNPU_FAMILY_Q6K ? 31 :
	       127;
}

/* Of the extremes each meets each: bit 0 of the row chooses a quant's end, the others a scale's. */
static int8_t make_quant(const struct check_mm *p, enum check_mm_kind kind, uint32_t r, uint32_t i)
{
	int low = lowest_quant(p), high = highest_quant(p);

	switch (kind) {
	case EXTREME:
		return (int8_t)(r & 1 ? low : high);
	case ALTERNATING:
		return (int8_t)((r ^ i) & 1 ? low : high);
	case ZERO:
		return 0;
	default:
		return (int8_t)(low + (int)check_below((uint32_t)(high - low + 1)));
	}
}

/* A byte of Q4K or Q6K from lowest to lowest + 255. */
static int make_byte(enum check_mm_kind kind, int lowest, uint32_t end)
{
	if (kind == EXTREME || kind == ALTERNATING)
		return end & 1 ? lowest : lowest + 255;
	return lowest + (int)check_below(256);
}

static float make_float(enum check_mm_kind kind, uint32_t end)
{
	if (kind == SCALES)
		return check_any_float();
	if (kind == EXTREME || kind == ALTERNATING)
		return end & 1 ? -0.1f : 0.1f;
	return check_uniform(-0.1f, 0.1f);
}

static void make_scales(const struct check_mm *p, enum check_mm_kind kind, uint32_t r, uint32_t b,
			struct check_mm_k *s)
{
	int lowest = p->info->family == UNPU_FAMILY_Q4K ? 0 : -128;

	s->d = check_mm_scale(kind);
	s->dmin = check_mm_scale(kind);
	if (b % GROUP) {
		s->d = s[-1].d;
		s->dmin = s[-1].dmin;
	}
	/* Alternating: the halves of a block against each other. */
	s->sc[0] = make_byte(kind, lowest, r >> 1);
	s->sc[1] = make_byte(kind, lowest, (r >> 1) + (kind == ALTERNATING));
	s->m = make_byte(kind, 0, r >> 2);
	s->s[0] = make_float(kind, r >> 1);
	s->s[1] = make_float(kind, (r >> 1) + (kind == ALTERNATING));
	s->o = make_float(kind, r >> 2);
}

void check_mm_k_make(struct check_mm *p, enum check_mm_kind kind)
{
	for (uint32_t r = 0; r < p->rows; r++) {
		for (uint32_t b = 0; b < p->blocks; b++)
			make_scales(p, kind, r, b, &p->k_scales[r * p->blocks + b]);
		for (uint32_t i = 0; i < 32 * p->blocks; i++)
			p->q[r * 32 * p->blocks + i] = i < p->k ? make_quant(p, kind, r, i) : 0;
	}
}

/* ---- packing ------------------------------------------------------------------------------ */

static void put_bits(uint8_t *byte, uint32_t shift, uint32_t mask, uint32_t value)
{
	*byte = (uint8_t)((*byte & ~(mask << shift)) | (value & mask) << shift);
}

/* h[i] has the high bits of nibble byte i below, of nibble byte 8 R + i above. */
static void put_q6k(uint8_t *block, uint32_t panel, uint32_t at, int high, int q)
{
	uint32_t value = (uint32_t)(q + 32), above = at >= 8 * panel;
	uint8_t *h = block + 16 * panel + (above ? at - 8 * panel : at);

	put_bits(block + at, high ? 4 : 0, 15, value);
	put_bits(h, (above ? 4 : 0) + (high ? 2 : 0), 3, value >> 4);
}

static void put_quant(const struct check_mm *p, uint8_t *block, uint32_t r, uint32_t i, int q)
{
	int high;
	uint32_t at = check_mm_place(p, r, i, &high);

	switch (p->layout) {
	case DRM_UNPU_LAYOUT_Q4K_R8_K16:
		put_bits(block + at, high ? 4 : 0, 15, (uint32_t)(q - 8));
		return;
	case DRM_UNPU_LAYOUT_Q4K_R8_K4U:
	case DRM_UNPU_LAYOUT_Q4K_R16_K4U:
		put_bits(block + at, high ? 4 : 0, 15, (uint32_t)q);
		return;
	case DRM_UNPU_LAYOUT_Q8A_R8_K16:
	case DRM_UNPU_LAYOUT_Q8A_R8_K4:
		block[at] = (uint8_t)q;
		return;
	case DRM_UNPU_LAYOUT_Q8A_R16_K4U:
		block[at] = (uint8_t)(q + 128);
		return;
	default:
		put_q6k(block, p->info->panel, at, high, q);
	}
}

/* The record of a group, R rows wide; b is the block's place in it. */
static void put_scales(const struct check_mm *p, uint8_t *record, uint32_t r, uint32_t b,
		       const struct check_mm_k *s)
{
	uint32_t rows = p->info->panel;
	uint8_t *each;

	switch (p->info->family) {
	case UNPU_FAMILY_Q4K:
		memcpy(record + 2 * r, &s->d, 2);
		memcpy(record + 2 * rows + 2 * r, &s->dmin, 2);
		each = record + 4 * rows + b * 2 * rows;
		each[r] = (uint8_t)s->sc[0];
		each[rows + r] = (uint8_t)s->m;
		return;
	case UNPU_FAMILY_Q6K:
		memcpy(record + 2 * r, &s->d, 2);
		each = record + 2 * rows + b * 2 * rows;
		each[r] = (uint8_t)s->sc[0];
		each[rows + r] = (uint8_t)s->sc[1];
		return;
	default:
		memcpy(record + 4 * r, &s->s[0], 4);
		memcpy(record + 4 * rows + 4 * r, &s->s[1], 4);
		memcpy(record + 8 * rows + 4 * r, &s->o, 4);
	}
}

/* Rows that fill up the last panel hold anything: what they give is 0 all the same. */
static void fill(struct check_buf *buf)
{
	for (size_t i = 0; i < buf->bytes; i++)
		buf->data[i] = (uint8_t)check_rand();
}

void check_mm_k_pack(struct check_mm *p)
{
	uint32_t panel = p->info->panel, bytes = panel * 4 * p->info->bits;
	uint32_t group = p->info->family == UNPU_FAMILY_Q8A ? 1 : GROUP;
	uint32_t row_bytes = p->info->family == UNPU_FAMILY_Q4K ? 20 :
			     p->info->family == UNPU_FAMILY_Q6K ? 18 : 12;

	fill(&p->quants);
	fill(&p->scales);
	for (uint32_t r = 0; r < p->rows; r++) {
		for (uint32_t b = 0; b < p->blocks; b++) {
			uint32_t at = r / panel * p->blocks + b;
			uint8_t *block = p->quants.data + (size_t)at * bytes;

			put_scales(p, p->scales.data + (size_t)(at / group) * row_bytes * panel,
				   r % panel, b % group, &p->k_scales[r * p->blocks + b]);
			for (uint32_t i = 0; i < 32; i++)
				put_quant(p, block, r % panel, i,
					  p->q[(r * p->blocks + b) * 32 + i]);
		}
	}
}

/* ---- what is expected --------------------------------------------------------------------- */

static int dot16(const int8_t *w, const int8_t *x)
{
	int sum = 0;

	for (int i = 0; i < 16; i++)
		sum += w[i] * x[i];
	return sum;
}

struct operands {
	const struct check_mm_k *s;
	int low, high;
	float da, sum;
};

static void operands_of(const struct check_mm *p, uint32_t r, uint32_t t, uint32_t b,
			struct operands *o)
{
	const int8_t *w = p->q + (r * p->blocks + b) * 32;
	const int8_t *x = (const int8_t *)p->xq.data + (t * p->blocks + b) * 32;

	o->s = &p->k_scales[r * p->blocks + b];
	o->low = dot16(w, x);
	o->high = dot16(w + 16, x + 16);
	o->da = ((const float *)p->xd.data)[t * p->blocks + b];
	o->sum = (float)((const int32_t *)p->xsum.data)[t * p->blocks + b];
}

static float want_q4k(const struct check_mm *p, uint32_t r, uint32_t t)
{
	float acc = 0, s = 0, n = 0;
	struct operands o;

	for (uint32_t b = 0; b < p->blocks; b++) {
		operands_of(p, r, t, b, &o);
		s = fmaf((float)(o.s->sc[0] * (o.low + o.high)), o.da, s);
		n = fmaf((float)o.s->m, o.da * o.sum, n);
		if (b % GROUP < GROUP - 1)
			continue;
		acc = fmaf(unpu_f16_float(o.s->d), s, acc);
		acc = fmaf(-unpu_f16_float(o.s->dmin), n, acc);
		s = n = 0;
	}
	return acc;
}

static float want_q6k(const struct check_mm *p, uint32_t r, uint32_t t)
{
	float acc = 0, s = 0;
	struct operands o;

	for (uint32_t b = 0; b < p->blocks; b++) {
		operands_of(p, r, t, b, &o);
		s = fmaf((float)(o.s->sc[0] * o.low + o.s->sc[1] * o.high), o.da, s);
		if (b % GROUP < GROUP - 1)
			continue;
		acc = fmaf(unpu_f16_float(o.s->d), s, acc);
		s = 0;
	}
	return acc;
}

static float want_q8a(const struct check_mm *p, uint32_t r, uint32_t t)
{
	float acc = 0, v;
	struct operands o;

	for (uint32_t b = 0; b < p->blocks; b++) {
		operands_of(p, r, t, b, &o);
		v = o.s->s[0] * (float)o.low;
		v = fmaf(o.s->s[1], (float)o.high, v);
		v = fmaf(o.s->o, o.sum, v);
		acc = fmaf(v, o.da, acc);
	}
	return acc;
}

float check_mm_k_a8(const struct check_mm *p, uint32_t r, uint32_t t)
{
	if (p->info->family == UNPU_FAMILY_Q4K)
		return want_q4k(p, r, t);
	return p->info->family == UNPU_FAMILY_Q6K ? want_q6k(p, r, t) : want_q8a(p, r, t);
}

float check_mm_k_weight(const struct check_mm *p, uint32_t r, uint32_t i)
{
	const struct check_mm_k *s = &p->k_scales[r * p->blocks + i / 32];
	int q = p->q[r * 32 * p->blocks + i], half = i % 32 / 16;
	float d = unpu_f16_float(s->d), min;

	if (p->info->family == UNPU_FAMILY_Q8A)
		return fmaf(s->s[half], (float)q, s->o);
	if (p->info->family == UNPU_FAMILY_Q6K)
		return d * (float)(s->sc[half] * q);
	min = unpu_f16_float(s->dmin) * (float)s->m;
	return fmaf(d, (float)(s->sc[0] * q), -min);
}

void check_mm_k_parts(const struct check_mm *p, uint32_t r, uint32_t i, double *scaled,
		      double *added)
{
	const struct check_mm_k *s = &p->k_scales[r * p->blocks + i / 32];
	double q = p->q[r * 32 * p->blocks + i];
	int half = i % 32 / 16;

	switch (p->info->family) {
	case UNPU_FAMILY_Q4K:
		*scaled = (double)unpu_f16_float(s->d) * s->sc[0] * q;
		*added = -(double)unpu_f16_float(s->dmin) * s->m;
		return;
	case UNPU_FAMILY_Q6K:
		*scaled = (double)unpu_f16_float(s->d) * s->sc[half] * q;
		*added = 0;
		return;
	default:
		*scaled = (double)s->s[half] * q;
		*added = (double)s->o;
	}
}
