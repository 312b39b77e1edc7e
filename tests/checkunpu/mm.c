/* SPDX-License-Identifier: MIT */
/*
 * Matrices are made as plain numbers, packed here by the words of layout.h, and multiplied here by
 * the words of ops.h: neither the packer of plan/ nor the C twin has a part in what is expected.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/mm.h"

#define MAX_TOKENS	17

static const char *const kind_names[] = {
	"random", "extreme", "alternating", "zero", "odd scales", "odd activations",
};

/* ---- numbers ------------------------------------------------------------------------------ */

static int bits4(const struct check_mm *p)
{
	return p->info->bits == 4;
}

static int8_t make_quant(const struct check_mm *p, enum check_mm_kind kind, uint32_t i)
{
	int low = bits4(p) ? -8 : -128, high = bits4(p) ? 7 : 127;

	switch (kind) {
	case EXTREME:
		return (int8_t)low;
	case ALTERNATING:
		return (int8_t)(i & 1 ? low : high);
	case ZERO:
		return 0;
	default:
		return (int8_t)(low + (int)check_below(high - low + 1));
	}
}

static float make_float(enum check_mm_kind kind, uint32_t i)
{
	switch (kind) {
	case EXTREME:
		return -3e4f;
	case ALTERNATING:
		return i & 1 ? -3e4f : 3e4f;
	case ZERO:
		return check_below(2) ? 0.f : -0.f;
	case SCALES:
		return check_any_float();
	default:
		return check_activation();
	}
}

uint16_t check_mm_scale(enum check_mm_kind kind)
{
	if (kind == SCALES)
		return (uint16_t)check_rand();	/* subnormal, infinite, NaN */
	return unpu_float_f16(check_uniform(-0.1f, 0.1f));
}

static void make_weights(struct check_mm *p, enum check_mm_kind kind)
{
	if (check_mm_is_k(p)) {
		check_mm_k_make(p, kind);
		return;
	}
	for (uint32_t r = 0; r < p->rows; r++) {
		for (uint32_t b = 0; b < p->blocks; b++)
			p->scale[r * p->blocks + b] = check_mm_scale(kind);
		for (uint32_t i = 0; i < 32 * p->blocks; i++) {
			uint32_t at = r * 32 * p->blocks + i;

			p->q[at] = i < p->k ? make_quant(p, kind, i) : 0;
			p->w[at] = i < p->k ? make_float(kind, i) : 0;
		}
	}
}

static void make_x(struct check_mm *p, enum check_mm_kind kind)
{
	for (uint32_t t = 0; t < MAX_TOKENS; t++) {
		float *x = (float *)p->x.data + t * p->ldx;

		for (uint32_t i = 0; i < 32 * p->blocks; i++) {
			float v = check_activation();

			if (kind == EXTREME || kind == ALTERNATING)
				v = t & 1 ? 1000 : -1000;
			else if (kind == ACTIVATIONS)
				v = check_any_float();
			x[i] = i < p->k ? v : 0;
		}
	}
}

static int8_t make_xq(enum check_mm_kind kind, uint32_t t, uint32_t i)
{
	if (kind == EXTREME)
		return t & 1 ? 127 : -127;
	if (kind == ALTERNATING)
		return (t ^ i) & 1 ? 127 : -127;
	return (int8_t)((int)check_below(255) - 127);
}

static void make_xq_all(struct check_mm *p, enum check_mm_kind kind)
{
	for (uint32_t t = 0; t < MAX_TOKENS; t++) {
		for (uint32_t b = 0; b < p->blocks; b++) {
			uint32_t at = t * p->blocks + b;
			int8_t *q = (int8_t *)p->xq.data + 32 * at;
			int32_t sum = 0;

			for (uint32_t i = 0; i < 32; i++) {
				q[i] = make_xq(kind, t, i);
				sum += q[i];
			}
			((int32_t *)p->xsum.data)[at] = sum;
			((float *)p->xd.data)[at] = kind == ACTIVATIONS ? check_any_float() :
						    check_uniform(0, 0.1f);
		}
	}
}

/* ---- packing ------------------------------------------------------------------------------ */

uint32_t check_mm_place(const struct check_mm *p, uint32_t r, uint32_t i, int *high)
{
	uint32_t panel = p->info->panel;

	*high = p->info->bits < 8 && i >= 16;
	switch (p->layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
	case DRM_UNPU_LAYOUT_Q8A_R8_K16:
		return r * 32 + i;
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
	case DRM_UNPU_LAYOUT_Q4K_R8_K16:
	case DRM_UNPU_LAYOUT_Q6K_R8_K16:
	case DRM_UNPU_LAYOUT_Q4_R32:
		return r * 16 + i % 16;
	case DRM_UNPU_LAYOUT_Q8_R32:
		return i / 16 * 512 + r * 16 + i % 16;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
	case DRM_UNPU_LAYOUT_Q8A_R8_K4:
	case DRM_UNPU_LAYOUT_Q8A_R16_K4U:
		return (i / 4) * panel * 4 + r * 4 + i % 4;
	default:
		return (i % 16 / 4) * panel * 4 + r * 4 + i % 4;
	}
}

static int is_unsigned(uint32_t layout)
{
	return layout == DRM_UNPU_LAYOUT_Q8_R16_K4U || layout == DRM_UNPU_LAYOUT_Q4_R8_K4U ||
	       layout == DRM_UNPU_LAYOUT_Q4_R16_K4U || layout == DRM_UNPU_LAYOUT_Q4_R32;
}

static void put_quant(const struct check_mm *p, uint8_t *block, uint32_t r, uint32_t i, int8_t q)
{
	int high;
	uint8_t *byte = block + check_mm_place(p, r, i, &high);

	if (!bits4(p)) {
		*byte = is_unsigned(p->layout) ? (uint8_t)(q + 128) : (uint8_t)q;
		return;
	}
	if (is_unsigned(p->layout))
		q += 8;
	*byte = high ? (*byte & 15) | (q & 15) << 4 : (*byte & 0xf0) | (q & 15);
}

static void pack_quants(struct check_mm *p)
{
	uint32_t panel = p->info->panel, bytes = panel * 4 * p->info->bits;

	memset(p->quants.data, 0, p->quants.bytes);
	memset(p->scales.data, 0, p->scales.bytes);
	for (uint32_t r = 0; r < p->rows; r++) {
		for (uint32_t b = 0; b < p->blocks; b++) {
			uint32_t at = r / panel * p->blocks + b;

			((uint16_t *)p->scales.data)[at * panel + r % panel] =
				p->scale[r * p->blocks + b];
			for (uint32_t i = 0; i < 32; i++)
				put_quant(p, p->quants.data + (size_t)at * bytes, r % panel, i,
					  p->q[(r * p->blocks + b) * 32 + i]);
		}
	}
}

static void pack_gguf_quants(struct check_mm *p)
{
	for (uint32_t at = 0; at < p->rows * p->blocks; at++) {
		uint8_t *block = p->quants.data + (size_t)at * p->info->block;
		const int8_t *q = p->q + 32 * at;

		memcpy(block, &p->scale[at], 2);
		for (uint32_t i = 0; i < 32; i++) {
			if (!bits4(p))
				block[2 + i] = (uint8_t)q[i];
			else if (i < 16)
				block[2 + i] = (q[i] + 8) | (q[i + 16] + 8) << 4;
		}
	}
}

/* Also what the layout can hold of each weight becomes the weight. */
static void pack_float(struct check_mm *p, uint32_t r, uint32_t i)
{
	float *w = &p->w[r * 32 * p->blocks + i];
	size_t at = p->info->packed ?
		    ((size_t)(r / 16) * 32 * p->blocks + i) * 16 + r % 16 : (size_t)r * p->k + i;
	uint32_t each = 128 / p->info->bits;	/* of a piece of 16 bytes */
	uint16_t half;

	if (p->info->panel == 32)
		at = (((size_t)(r / 32) * p->blocks + i / 32) * (32 / each) + i % 32 / each) *
		     32 * each + r % 32 * each + i % each;
	switch (p->layout) {
	case DRM_UNPU_LAYOUT_GGUF_F32:
	case DRM_UNPU_LAYOUT_F32_R16:
	case DRM_UNPU_LAYOUT_F32_R32:
		memcpy(p->quants.data + 4 * at, w, 4);
		return;
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_F16_R16:
	case DRM_UNPU_LAYOUT_F16_R32:
		half = unpu_float_f16(*w);
		*w = unpu_f16_float(half);
		break;
	default:
		half = unpu_float_bits(*w) >> 16;
		*w = unpu_bf16_float(half);
	}
	memcpy(p->quants.data + 2 * at, &half, 2);
}

static void pack(struct check_mm *p)
{
	if (check_mm_is_k(p)) {
		check_mm_k_pack(p);
	} else if (p->info->quantised && p->info->packed) {
		pack_quants(p);
	} else if (p->info->quantised) {
		pack_gguf_quants(p);
	} else {
		memset(p->quants.data, 0, p->quants.bytes);
		for (uint32_t r = 0; r < p->rows; r++)
			for (uint32_t i = 0; i < p->k; i++)
				pack_float(p, r, i);
	}
}

/* ---- what is expected --------------------------------------------------------------------- */

static float want_a8(const struct check_mm *p, uint32_t r, uint32_t t)
{
	float acc = 0;

	if (check_mm_is_k(p))
		return check_mm_k_a8(p, r, t);
	for (uint32_t b = 0; b < p->blocks; b++) {
		const int8_t *w = p->q + (r * p->blocks + b) * 32;
		const int8_t *x = (const int8_t *)p->xq.data + (t * p->blocks + b) * 32;
		float d = unpu_f16_float(p->scale[r * p->blocks + b]);
		int32_t sum = 0;

		for (int i = 0; i < 32; i++)
			sum += w[i] * x[i];
		d *= ((const float *)p->xd.data)[t * p->blocks + b];
		acc = fmaf((float)sum, d, acc);
	}
	return acc;
}

static float weight(const struct check_mm *p, uint32_t r, uint32_t i)
{
	uint32_t at = r * 32 * p->blocks + i;

	if (check_mm_is_k(p))
		return check_mm_k_weight(p, r, i);
	return p->info->quantised ? p->q[at] * unpu_f16_float(p->scale[at / 32]) : p->w[at];
}

static float want_f32(const struct check_mm *p, uint32_t r, uint32_t t)
{
	const float *x = (const float *)p->x.data + t * p->ldx;
	float s[4] = { 0 };

	for (uint32_t i = 0; i < 32 * p->blocks; i++)
		s[i % 4] = fmaf(weight(p, r, i), x[i], s[i % 4]);
	return (s[0] + s[1]) + (s[2] + s[3]);
}

/* Weight i of row r as up to two terms, exact. */
static void parts(const struct check_mm *p, uint32_t r, uint32_t i, double *scaled, double *added)
{
	uint32_t at = r * 32 * p->blocks + i;

	if (check_mm_is_k(p)) {
		check_mm_k_parts(p, r, i, scaled, added);
		return;
	}
	*added = 0;
	*scaled = p->info->quantised ? (double)p->q[at] * unpu_f16_float(p->scale[at / 32]) :
				       p->w[at];
}

/*
 * The expected bits are checked too: against double, within (terms + 4) roundings of the size,
 * where two are of a weight that has two terms.
 */
static void check_want(const struct check_mm *p, uint32_t r, uint32_t t, float want)
{
	double sum = 0, size = 0, scaled, added;

	for (uint32_t i = 0; i < 32 * p->blocks; i++) {
		uint32_t b = t * p->blocks + i / 32;
		double x = p->numeric == DRM_UNPU_CLASS_A8 ?
			   (double)((const int8_t *)p->xq.data)[32 * b + i % 32] *
			   ((const float *)p->xd.data)[b] :
			   ((const float *)p->x.data)[t * p->ldx + i];

		parts(p, r, i, &scaled, &added);
		sum += (scaled + added) * x;
		size += (fabs(scaled) + fabs(added)) * fabs(x);
	}
	if (!check_near(want, sum, (32 * p->blocks + 4) * CHECK_EPS * size))
		check_fail("the reference itself: row %u, token %u: %.9g, not %.9g", r, t, want,
			   sum);
}

static void make_want(struct check_mm *p, enum check_mm_kind kind)
{
	uint32_t padded = unpu_pad32(p->rows);

	for (uint32_t t = 0; t < MAX_TOKENS; t++) {
		for (uint32_t r = 0; r < padded; r++) {
			float want = 0;

			if (r < p->rows)
				want = p->numeric == DRM_UNPU_CLASS_A8 ? want_a8(p, r, t) :
									 want_f32(p, r, t);
			p->want[t * padded + r] = want;
			if (r < p->rows && t < 2 && kind < SCALES)
				check_want(p, r, t, want);
		}
	}
}

/* ---- one problem -------------------------------------------------------------------------- */

static void problem_init(struct check_mm *p, uint32_t layout, uint32_t numeric, uint32_t rows,
			 uint32_t k)
{
	enum check_side side = rows & 8 ? CHECK_FRONT : CHECK_BACK;
	uint32_t n;

	memset(p, 0, sizeof(*p));
	p->layout = layout;
	p->numeric = numeric;
	p->rows = rows;
	p->k = k;
	p->blocks = unpu_pad32(k) / 32;
	p->info = unpu_layout_info(layout);
	n = 32 * p->blocks;
	p->q = malloc((size_t)rows * n);
	p->w = malloc((size_t)rows * n * sizeof(float));
	p->scale = malloc((size_t)rows * p->blocks * sizeof(uint16_t));
	p->k_scales = calloc((size_t)rows * p->blocks, sizeof(*p->k_scales));
	p->want = malloc((size_t)MAX_TOKENS * unpu_pad32(rows) * sizeof(float));
	p->ldx = n + 32 * check_below(2);
	check_buf_init(&p->quants, unpu_layout_quant_bytes(layout, rows, k), side);
	check_buf_init(&p->scales, unpu_layout_scale_bytes(layout, rows, k), side);
	check_buf_init(&p->x, ((MAX_TOKENS - 1) * p->ldx + n) * 4, side);
	check_buf_init(&p->xq, MAX_TOKENS * n, side);
	check_buf_init(&p->xd, MAX_TOKENS * p->blocks * 4, side);
	check_buf_init(&p->xsum, MAX_TOKENS * p->blocks * 4, side);
}

static void problem_finish(struct check_mm *p)
{
	free(p->q);
	free(p->w);
	free(p->scale);
	free(p->k_scales);
	free(p->want);
	check_buf_finish(&p->quants);
	check_buf_finish(&p->scales);
	check_buf_finish(&p->x);
	check_buf_finish(&p->xq);
	check_buf_finish(&p->xd);
	check_buf_finish(&p->xsum);
}

static void make(struct check_mm *p, enum check_mm_kind kind)
{
	make_weights(p, kind);
	make_x(p, kind);
	make_xq_all(p, kind);
	pack(p);
	make_want(p, kind);
}

/* A class reads its own activations only: the others are NULL. */
static struct unpu_mm_args make_args(const struct check_mm *p)
{
	struct unpu_mm_args args = {
		.layout = p->layout, .rows = p->rows, .k = p->k,
		.quants = p->quants.data,
		.scales = p->info->scales ? p->scales.data : NULL,
	};

	if (p->numeric == DRM_UNPU_CLASS_A8) {
		args.q = (const int8_t *)p->xq.data;
		args.d = (const float *)p->xd.data;
		args.sum = (const int32_t *)p->xsum.data;
	} else {
		args.x = (const float *)p->x.data;
		args.ldx = p->ldx;
	}
	return args;
}

/* Tokens t0 .. t0 + tokens of rows row0 .. row1, and nothing else, are written. */
static void check_range(unpu_mm_fn *fn, const struct check_mm *p, enum check_mm_kind kind,
			uint32_t row0, uint32_t row1, uint32_t t0, uint32_t tokens)
{
	struct unpu_mm_args args = make_args(p);
	struct check_buf y;

	args.row0 = row0;
	args.row1 = row1;
	args.tokens = tokens;
	args.ldy = row1 - row0 + 8 * check_below(3);
	args.y = check_buf_init(&y, ((tokens - 1) * args.ldy + row1 - row0) * 4,
				tokens & 1 ? CHECK_BACK : CHECK_FRONT);
	if (p->numeric == DRM_UNPU_CLASS_A8) {
		args.q += t0 * 32 * p->blocks;
		args.d += t0 * p->blocks;
		args.sum += t0 * p->blocks;
	} else {
		args.x += t0 * p->ldx;
	}
	CHECK_CALL(fn(&args));
	for (uint64_t i = 0; i < y.bytes / 4 && check_going_on(); i++) {
		uint32_t t = i / args.ldy, r = row0 + i % args.ldy;

		if (r >= row1 ? !check_untouched(args.y + i) :
		    !check_same(args.y[i], p->want[(t0 + t) * unpu_pad32(p->rows) + r]))
			check_fail("%s, %u x %u, rows %u to %u, %u tokens: row %u, token %u: "
				   "%.9g, not %.9g", kind_names[kind], p->rows, p->k, row0, row1,
				   tokens, r, t, args.y[i], r >= row1 ? NAN :
				   p->want[(t0 + t) * unpu_pad32(p->rows) + r]);
	}
	check_buf_intact(&y, "y");
	check_buf_finish(&y);
}

/* Every number of tokens over all rows, then every range with some number of tokens. */
static void check_ranges(unpu_mm_fn *fn, const struct check_mm *p, enum check_mm_kind kind)
{
	uint32_t padded = unpu_pad32(p->rows);

	for (uint32_t tokens = 1; tokens <= MAX_TOKENS && check_going_on(); tokens++)
		check_range(fn, p, kind, 0, padded, MAX_TOKENS - tokens, tokens);
	for (uint32_t row0 = 0; row0 < padded; row0 += 8)
		for (uint32_t row1 = row0 + 8; row1 <= padded && check_going_on(); row1 += 8)
			check_range(fn, p, kind, row0, row1, 0, 1 + check_below(MAX_TOKENS));
}

static void check_shape(unpu_mm_fn *fn, uint32_t layout, uint32_t numeric, uint32_t rows,
			uint32_t k)
{
	struct check_mm p;

	problem_init(&p, layout, numeric, rows, k);
	for (enum check_mm_kind kind = 0; kind < NUM_KINDS && check_going_on(); kind++) {
		make(&p, kind);
		check_ranges(fn, &p, kind);
	}
	problem_finish(&p);
}

/* About k inputs: whole groups where more than a block share their scales. */
static uint32_t inputs(const struct unpu_layout_info *info, uint32_t k)
{
	return (k + info->group - 1) / info->group * info->group;
}

/* ---- time --------------------------------------------------------------------------------- */

struct bench {
	unpu_mm_fn *fn;
	struct unpu_mm_args args;
};

static void bench_call(void *arg)
{
	struct bench *b = arg;

	b->fn(&b->args);
}

/* A layer's matrix that stays in the cache, a head's that does not, and a prompt. */
static void bench(unpu_mm_fn *fn, uint32_t layout, uint32_t numeric, int slow)
{
	static const struct { const char *name; uint32_t rows, k, tokens; } shapes[] = {
		{ "1024 x 576, 1 token", 1024, 576, 1 },
		{ "49152 x 576, 1 token", 49152, 576, 1 },
		{ "1024 x 576, 4 tokens", 1024, 576, 4 },
		{ "1024 x 576, 32 tokens", 1024, 576, 32 },
		{ "576 x 1536, 32 tokens", 576, 1536, 32 },
	};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		uint32_t k = inputs(unpu_layout_info(layout), shapes[i].k);
		uint32_t rows = slow ? 64 : shapes[i].rows;
		uint32_t tokens = shapes[i].tokens;
		uint64_t quants = unpu_layout_quant_bytes(layout, rows, k);
		uint64_t scales = unpu_layout_scale_bytes(layout, rows, k);
		uint8_t *w = aligned_alloc(64, (quants + 63) / 64 * 64);
		uint8_t *s = aligned_alloc(64, scales / 64 * 64 + 64);
		float *x = calloc((size_t)tokens * k, 4), *y = calloc((size_t)tokens * rows, 4);
		struct bench b = { .fn = fn };

		memset(w, 0x11, quants);
		memset(s, 0x11, scales);
		b.args = (struct unpu_mm_args) {
			.layout = layout, .rows = rows, .k = k, .row1 = rows, .tokens = tokens,
			.quants = w, .scales = s, .x = x, .ldx = k, .q = (int8_t *)x, .d = x,
			.sum = (int32_t *)x, .y = y, .ldy = rows,
		};
		check_bench(shapes[i].name, bench_call, &b, (double)rows * k * tokens,
			    tokens == 1 ? (double)(quants + scales) : 0);
		free(w);
		free(s);
		free(x);
		free(y);
	}
	(void)numeric;
}

void check_mm(const struct check_level *level)
{
	static const struct { uint32_t rows, k; } shapes[] = {
		{ 1, 32 }, { 8, 64 }, { 24, 96 }, { 40, 32 }, { 61, 160 }, { 33, 1056 },
		{ 64, 576 }, { 16, 512 },
	};

	for (uint32_t i = 0; i < level->ops->num_matrices; i++) {
		uint32_t layout = level->ops->matrices[i].layout;
		uint32_t numeric = level->ops->matrices[i].numeric;
		const struct unpu_layout_info *info = unpu_layout_info(layout);
		unpu_mm_fn *fn = level->ops->mm[layout][numeric];

		if (!check_begin(level, CHECK_OWN(level, mm[layout][numeric]), "mm_%s_%s",
				 info->name, numeric == DRM_UNPU_CLASS_A8 ? "a8" : "f32"))
			continue;
		for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
			uint32_t k = inputs(info, shapes[s].k);

			/* only blocks of a file and groups have no padding */
			if (info->group == 32 && (info->packed || !info->quantised))
				k -= check_below(32);
			if (check_going_on())
				check_shape(fn, layout, numeric, shapes[s].rows, k);
		}
		if (check_benching())
			bench(fn, layout, numeric, !level->below);
		check_end();
	}
}
