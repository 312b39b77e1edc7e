/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_GROUP	8
#define MAX_DIM		256
/* Weights below exp(-70) may count as 0. */
#define CUT		0x1p-100

struct problem {
	struct unpu_attn_args args;
	uint32_t kv_type;
	struct check_buf k_buf, v_buf, q_buf, o_buf, ms_buf;
	struct check_buf k_scales, v_scales;	/* int8 only */
	/* k and v as numbers */
	float k[UNPU_CHUNK * MAX_DIM], v[UNPU_CHUNK * MAX_DIM];
	float *q;
};

/* ---- the reference ------------------------------------------------------------------------ */

struct head {
	double s[UNPU_CHUNK];	/* scores */
	double err[UNPU_CHUNK];	/* of each score, and of the exponential it becomes */
	double m, m_err;
};

/* Largest |q| of int8, where q may be rounded to 16 bits; 0 for other types. */
static double largest_q(const struct problem *p, const float *q)
{
	double m = 0;

	for (uint32_t i = 0; p->kv_type == DRM_UNPU_KV_INT8 && i < p->args.head_dim; i++)
		m = fmax(m, fabs((double)q[i]));
	return m;
}

/* A sum of n products in any order errs by (n + 1) roundings of the sum of magnitudes. */
static void naive_scores(const struct problem *p, uint32_t head, struct head *h)
{
	const struct unpu_attn_args *a = &p->args;
	const float *q = p->q + head * a->ldq;
	double step = largest_q(p, q) / 32767;

	h->m = -INFINITY;
	h->m_err = 0;
	for (uint32_t j = 0; j < a->cells; j++) {
		double sum = 0, size = 0, k_size = 0;

		for (uint32_t i = 0; i < a->head_dim; i++) {
			double term = (double)q[i] * p->k[j * a->head_dim + i];

			sum += term;
			size += fabs(term);
			k_size += fabs((double)p->k[j * a->head_dim + i]);
		}
		h->s[j] = a->scale * sum;
		size += step * k_size;
		h->err[j] = fabs(a->scale) * ((a->head_dim + 3) * CHECK_EPS * size +
					      0.5 * step * k_size);
		h->m = h->s[j] > h->m ? h->s[j] : h->m;
		h->m_err = fmax(h->m_err, h->err[j]);
	}
}

/*
 * By how much the outputs of element i may be off because weights times scales, as integers, are
 * multiples of the largest of them / 32767: half a step for each quant.
 */
static double value_step(const struct problem *p, const double *weight, uint32_t i)
{
	const uint16_t *scales = p->args.v_scales;
	const int8_t *quants = p->args.v;
	uint32_t n = p->args.head_dim;
	double largest = 0, sum = 0;

	if (p->kv_type != DRM_UNPU_KV_INT8)
		return 0;
	for (uint32_t j = 0; j < p->args.cells; j++) {
		double d = unpu_f16_float(scales[j * unpu_kv_scales(n) + i / 32]);

		largest = fmax(largest, weight[j] * d);
		sum += abs(quants[j * n + i]);
	}
	return sum * fmax(0.5 * largest / 32767, 1e-30);
}

static void compare_head(const struct problem *p, uint32_t head)
{
	const struct unpu_attn_args *a = &p->args;
	double sum = 0, sum_err = 0, weight[UNPU_CHUNK], rel[UNPU_CHUNK];
	const float *o = a->o + head * a->ldo, *ms = a->ms + 2 * head;
	struct head h;

	naive_scores(p, head, &h);
	for (uint32_t j = 0; j < a->cells; j++) {
		weight[j] = exp(h.s[j] - h.m);
		/* score, maximum, their difference, exp, and the additions that follow */
		rel[j] = expm1(h.err[j] + h.m_err) +
			 (h.m - h.s[j] + a->cells + 8) * CHECK_EPS;
		sum += weight[j];
		sum_err += weight[j] * rel[j] + CUT;
	}
	if (!check_near(ms[0], h.m, h.m_err) || !check_near(ms[1], sum, sum_err))
		check_fail("cells %u, dim %u, head %u of %u: max %.9g, sum %.9g, not %.9g, %.9g",
			   a->cells, a->head_dim, head, a->group, ms[0], ms[1], h.m, sum);
	for (uint32_t i = 0; i < a->head_dim && check_going_on(); i++) {
		double want = 0, bound = 1.01 * value_step(p, weight, i);

		for (uint32_t j = 0; j < a->cells; j++) {
			double term = weight[j] * p->v[j * a->head_dim + i];

			want += term;
			bound += fabs(term) * rel[j] + CUT * fabs(p->v[j * a->head_dim + i]);
		}
		if (!check_near(o[i], want, bound + CHECK_TINY))
			check_fail("cells %u, dim %u, head %u of %u, element %u: %.9g, not %.9g",
				   a->cells, a->head_dim, head, a->group, i, o[i], want);
	}
}

/* ---- inputs ------------------------------------------------------------------------------- */

/*
 * Element i of int8, v to the nearest by the scale of its block, which its first element chooses:
 * mostly too small, so that both ends are met, and now and then subnormal or 0. The scale past the
 * last block is a NaN that must not be seen.
 */
static void put_int8(const struct problem *p, struct check_buf *buf, float *plain, uint32_t i,
		     float v)
{
	const struct check_buf *scales = buf == &p->k_buf ? &p->k_scales : &p->v_scales;
	uint32_t n = p->args.head_dim, cell = i / n, at = i % n;
	uint16_t *scale = (uint16_t *)scales->data + cell * unpu_kv_scales(n) + at / 32;
	float d, q;

	if (isnan(v)) {
		*scale = 0x7e00;
		for (at &= ~31u; at < n && at < (i % n & ~31u) + 32; at++)
			plain[cell * n + at] = NAN;
		return;
	}
	if (at % 32 == 0) {
		d = check_uniform(0.5f, 2) * (fabsf(v) + 1e-3f) / 127;
		*scale = check_below(16) ? unpu_float_f16(d) : (uint16_t)check_below(0x500);
		if ((n - 1) / 32 % 2 == 0)
			((uint16_t *)scales->data)[(cell + 1) * unpu_kv_scales(n) - 1] = 0x7e00;
	}
	d = unpu_f16_float(*scale);
	q = d > 0 ? fmaxf(-127, fminf(127, rintf(v / d))) : (float)((int)check_below(255) - 127);
	((int8_t *)buf->data)[i] = (int8_t)q;
	plain[i] = q * d;
}

static void put(const struct problem *p, struct check_buf *buf, float *plain, uint32_t i, float v)
{
	if (p->kv_type == DRM_UNPU_KV_INT8) {
		put_int8(p, buf, plain, i, v);
	} else if (p->kv_type == DRM_UNPU_KV_F16) {
		((uint16_t *)buf->data)[i] = unpu_float_f16(v);
		plain[i] = unpu_f16_float(unpu_float_f16(v));
	} else {
		((float *)buf->data)[i] = v;
		plain[i] = v;
	}
}

static void fill(struct problem *p, int kind)
{
	const struct unpu_attn_args *a = &p->args;
	uint32_t n = a->cells * a->head_dim;
	/* kind 1: scores of some thousands, so that weights underflow; kind 2: all alike */
	float size = kind == 1 ? 30 : 1;

	for (uint32_t i = 0; i < n; i++) {
		float k = size * check_activation();

		if (kind == 2 && i >= a->head_dim)
			k = p->k[i % a->head_dim];
		put(p, &p->k_buf, p->k, i, k);
		put(p, &p->v_buf, p->v, i, check_activation());
	}
	for (uint32_t h = 0; h < a->group; h++)
		for (uint32_t i = 0; i < a->head_dim; i++)
			p->q[h * a->ldq + i] = check_activation();
}

static void problem_init(struct problem *p, uint32_t kv_type, uint32_t cells, uint32_t group,
			 uint32_t dim)
{
	enum check_side side = cells & 1 ? CHECK_FRONT : CHECK_BACK;
	size_t size = unpu_kv_cell_bytes(kv_type, dim);
	size_t scales = unpu_kv_scale_bytes(kv_type, dim);

	p->kv_type = kv_type;
	p->args = (struct unpu_attn_args) {
		.cells = cells, .group = group, .head_dim = dim,
		.scale = 1 / sqrtf((float)dim),
		.ldq = dim + 8 * check_below(2), .ldo = dim + 8 * check_below(2),
	};
	p->args.k = check_buf_init(&p->k_buf, cells * size, side);
	p->args.v = check_buf_init(&p->v_buf, cells * size, side);
	p->args.k_scales = check_buf_init(&p->k_scales, cells * scales, side);
	p->args.v_scales = check_buf_init(&p->v_scales, cells * scales, side);
	p->q = check_buf_init(&p->q_buf, ((group - 1) * p->args.ldq + dim) * 4, side);
	p->args.q = p->q;
	p->args.o = check_buf_init(&p->o_buf, ((group - 1) * p->args.ldo + dim) * 4, side);
	p->args.ms = check_buf_init(&p->ms_buf, group * 8, side);
}

static void problem_finish(struct problem *p)
{
	check_buf_intact(&p->o_buf, "o");
	check_buf_intact(&p->ms_buf, "ms");
	check_buf_finish(&p->k_buf);
	check_buf_finish(&p->v_buf);
	check_buf_finish(&p->k_scales);
	check_buf_finish(&p->v_scales);
	check_buf_finish(&p->q_buf);
	check_buf_finish(&p->o_buf);
	check_buf_finish(&p->ms_buf);
}

/* ---- checks ------------------------------------------------------------------------------- */

static void check_gaps(const struct problem *p)
{
	const struct unpu_attn_args *a = &p->args;

	for (uint32_t h = 0; h + 1 < a->group; h++)
		for (uint64_t i = a->head_dim; i < a->ldo; i++)
			if (!check_untouched(a->o + h * a->ldo + i))
				check_fail("o between heads %u and %u was written", h, h + 1);
}

/* A head alone gives what it gives among others, to the bit, wherever k and v lie. */
static void check_pure(unpu_attn_fn *fn, const struct problem *p)
{
	static uint8_t k[UNPU_CHUNK * MAX_DIM * 4 + 4], v[UNPU_CHUNK * MAX_DIM * 4 + 4];
	static const size_t shifts[] = {
		[DRM_UNPU_KV_F32] = 4, [DRM_UNPU_KV_F16] = 2, [DRM_UNPU_KV_INT8] = 1,
	};
	uint32_t head = check_below(p->args.group);
	size_t shift = shifts[p->kv_type];
	struct unpu_attn_args a = p->args;
	float o[MAX_DIM], ms[2];

	memcpy(k + shift, p->k_buf.data, p->k_buf.bytes);
	memcpy(v + shift, p->v_buf.data, p->v_buf.bytes);
	a.group = 1;
	a.k = k + shift;
	a.v = v + shift;
	a.q += head * a.ldq;
	a.o = o;
	a.ms = ms;
	CHECK_CALL(fn(&a));
	if (memcmp(o, p->args.o + head * p->args.ldo, a.head_dim * 4) ||
	    memcmp(ms, p->args.ms + 2 * head, 8))
		check_fail("cells %u, dim %u: head %u differs alone and in a group of %u",
			   a.cells, a.head_dim, head, p->args.group);
}

/* Infinity in k gives NaN in the sum of that head or weight 1 alone; NaN shows everywhere. */
static void check_not_finite(unpu_attn_fn *fn, struct problem *p)
{
	const struct unpu_attn_args *a = &p->args;
	uint32_t at = check_below(a->cells) * a->head_dim + check_below(a->head_dim);

	fill(p, 0);
	put(p, &p->k_buf, p->k, at, NAN);
	CHECK_CALL(fn(a));
	for (uint32_t h = 0; h < a->group && check_going_on(); h++) {
		if (!isnan(a->ms[2 * h + 1]))
			check_fail("NaN in k, but the sum of head %u is %g", h, a->ms[2 * h + 1]);
		for (uint32_t i = 0; i < a->head_dim && check_going_on(); i++)
			if (!isnan(a->o[h * a->ldo + i]))
				check_fail("NaN in k, but o of head %u is %g", h,
					   a->o[h * a->ldo + i]);
	}
	fill(p, 0);
	put(p, &p->v_buf, p->v, at, NAN);
	CHECK_CALL(fn(a));
	if (!isnan(a->o[at % a->head_dim]))
		check_fail("NaN in v, but o is %g", a->o[at % a->head_dim]);
}

static void check_size(unpu_attn_fn *fn, uint32_t kv_type, uint32_t cells, uint32_t group,
		       uint32_t dim)
{
	static struct problem p;

	problem_init(&p, kv_type, cells, group, dim);
	for (int kind = 0; kind < 3 && check_going_on(); kind++) {
		fill(&p, kind);
		CHECK_CALL(fn(&p.args));
		for (uint32_t h = 0; h < group && check_going_on(); h++)
			compare_head(&p, h);
		check_gaps(&p);
		check_pure(fn, &p);
	}
	check_not_finite(fn, &p);
	problem_finish(&p);
}

struct bench {
	unpu_attn_fn *fn;
	struct problem p;
};

static void bench_call(void *arg)
{
	struct bench *b = arg;

	b->fn(&b->p.args);
}

/* A token at position 1023: every chunk of K and V of 3 KV heads of 64 in 30 layers, once. */
#define STREAM_CHUNKS	(2u * 16 * 3 * 30)
#define STREAM_DIM	64u

struct stream {
	unpu_attn_fn *fn;
	struct unpu_attn_args args;
	const uint8_t *kv, *scales;
	size_t chunk, chunk_scales;
};

static void stream_call(void *arg)
{
	struct stream *s = arg;

	for (uint32_t i = 0; i < STREAM_CHUNKS; i += 2) {
		s->args.k = s->kv + i * s->chunk;
		s->args.v = s->kv + (i + 1) * s->chunk;
		s->args.k_scales = (const uint16_t *)(s->scales + i * s->chunk_scales);
		s->args.v_scales = (const uint16_t *)(s->scales + (i + 1) * s->chunk_scales);
		s->fn(&s->args);
	}
}

static void bench_stream(unpu_attn_fn *fn, uint32_t kv_type, uint32_t group)
{
	static float q[MAX_GROUP * STREAM_DIM], o[MAX_GROUP * STREAM_DIM], ms[2 * MAX_GROUP];
	size_t n = (size_t)STREAM_CHUNKS * UNPU_CHUNK;
	size_t bytes = unpu_kv_cell_bytes(kv_type, STREAM_DIM);
	size_t scales = unpu_kv_scale_bytes(kv_type, STREAM_DIM);
	uint8_t *kv = malloc(n * (bytes + scales));
	struct stream s = {
		.fn = fn, .kv = kv, .scales = kv + n * bytes,
		.chunk = UNPU_CHUNK * bytes, .chunk_scales = UNPU_CHUNK * scales,
		.args = { .cells = UNPU_CHUNK, .group = group, .head_dim = STREAM_DIM,
			  .scale = 0.125f, .q = q, .ldq = STREAM_DIM, .o = o, .ldo = STREAM_DIM,
			  .ms = ms },
	};
	char name[32];

	if (!kv)
		return;
	/* as f32, as f16 and as int8 with scales all of it is some small number */
	memset(kv, 0x11, n * (bytes + scales));
	snprintf(name, sizeof(name), "1024 positions, %u x 64", group);
	check_bench(name, stream_call, &s, (double)n * STREAM_DIM * group,
		    (double)n * (bytes + scales));
	free(kv);
}

static void bench(unpu_attn_fn *fn, uint32_t kv_type)
{
	static const struct { const char *name; uint32_t group, dim; } shapes[] = {
		{ "64 cells, 3 x 64", 3, 64 }, { "64 cells, 1 x 64", 1, 64 },
		{ "64 cells, 7 x 64", 7, 64 }, { "64 cells, 2 x 128", 2, 128 },
		{ "64 cells, 1 x 128", 1, 128 },
	};
	static struct bench b;

	b.fn = fn;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		uint32_t n = 64 * shapes[i].dim * shapes[i].group;

		problem_init(&b.p, kv_type, 64, shapes[i].group, shapes[i].dim);
		fill(&b.p, 0);
		check_bench(shapes[i].name, bench_call, &b, 2.0 * n, 0);
		problem_finish(&b.p);
	}
	bench_stream(fn, kv_type, 1);
	bench_stream(fn, kv_type, 3);
}

static void check_type(const struct check_level *level, uint32_t kv_type, const char *name)
{
	static const uint32_t dims[] = { 8, 16, 24, 40, 64, 72, 128, 256 };
	static const uint32_t groups[] = { 1, 2, 3, 4, 5, 7, 8 };
	unpu_attn_fn *fn = level->ops->attn[kv_type];

	if (!check_begin(level, CHECK_OWN(level, attn[kv_type]), "attn_%s", name))
		return;
	for (uint32_t cells = 1; cells <= UNPU_CHUNK && check_going_on(); cells++)
		check_size(fn, kv_type, cells, groups[cells % 7], dims[cells % 8]);
	for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]) && check_going_on(); d++)
		for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
			check_size(fn, kv_type, check_below(2) ? UNPU_CHUNK : 1 + check_below(64),
				   groups[g], dims[d]);
	if (check_benching())
		bench(fn, kv_type);
	check_end();
}

void check_attn(const struct check_level *level)
{
	check_type(level, DRM_UNPU_KV_F32, "f32");
	check_type(level, DRM_UNPU_KV_F16, "f16");
	check_type(level, DRM_UNPU_KV_INT8, "int8");
}
