/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_CHUNKS	40
#define MAX_DIM		256

struct problem {
	uint32_t chunks, dim;
	uint64_t ldo, ldms;
	struct check_buf o_buf, ms_buf, out_buf;
	float *o, *ms, *out;
};

/*
 * Each weight carries the rounding of m_c - m, relative to the exponent, and of exp (4 u); a
 * product and a sum per chunk follow, and one division.
 */
static void compare(const struct problem *p)
{
	double m = -INFINITY, sum = 0, err = 0;
	double weight[MAX_CHUNKS];

	for (uint32_t c = 0; c < p->chunks; c++)
		m = p->ms[c * p->ldms] > m ? p->ms[c * p->ldms] : m;
	for (uint32_t c = 0; c < p->chunks; c++) {
		weight[c] = exp(p->ms[c * p->ldms] - m);
		sum += weight[c] * p->ms[c * p->ldms + 1];
	}
	for (uint32_t i = 0; i < p->dim && check_going_on(); i++) {
		double out = 0, size = 0;

		err = 0;
		for (uint32_t c = 0; c < p->chunks; c++) {
			double term = weight[c] * p->o[c * p->ldo + i];
			double rel = (m - p->ms[c * p->ldms] + 2 * p->chunks + 12) * CHECK_EPS;

			out += term;
			size += fabs(term);
			/* of this term, and of its share in the sum below */
			err += fabs(term) * rel;
		}
		for (uint32_t c = 0; c < p->chunks; c++)
			err += size / sum * weight[c] * p->ms[c * p->ldms + 1] *
			       (m - p->ms[c * p->ldms] + 2 * p->chunks + 12) * CHECK_EPS;
		if (!check_near(p->out[i], out / sum, err / sum + CHECK_TINY))
			check_fail("%u chunks of %u, element %u: %.9g, not %.9g", p->chunks, p->dim,
				   i, p->out[i], out / sum);
	}
}

static void fill(struct problem *p, int far)
{
	for (uint32_t c = 0; c < p->chunks; c++) {
		for (uint32_t i = 0; i < p->dim; i++)
			p->o[c * p->ldo + i] = check_activation();
		p->ms[c * p->ldms] = far ? check_uniform(-200, 100) : check_activation();
		p->ms[c * p->ldms + 1] = check_uniform(1, 64);
	}
}

static void call(const struct check_level *level, struct problem *p)
{
	CHECK_CALL(level->ops->merge(p->o, p->ldo, p->ms, p->ldms, p->chunks, p->dim, p->out));
	check_buf_intact(&p->out_buf, "out");
}

static void check_not_finite(const struct check_level *level, struct problem *p)
{
	uint32_t c = check_below(p->chunks);

	fill(p, 0);
	p->ms[c * p->ldms + check_below(2)] = NAN;
	call(level, p);
	for (uint32_t i = 0; i < p->dim; i++)
		if (!isnan(p->out[i]))
			check_fail("NaN in chunk %u of %u, but element %u is %g", c, p->chunks, i,
				   p->out[i]);
	fill(p, 0);
	p->o[c * p->ldo + p->dim - 1] = INFINITY;
	call(level, p);
	if (isfinite(p->out[p->dim - 1]))
		check_fail("an infinity in chunk %u of %u became %g", c, p->chunks,
			   p->out[p->dim - 1]);
}

/* A chunk without weight changes nothing, wherever it stands. */
static void check_dead(const struct check_level *level, struct problem *p)
{
	float alone[MAX_DIM];

	fill(p, 0);
	for (uint32_t c = 1; c < p->chunks; c++)
		p->ms[c * p->ldms] = -1e30f;
	call(level, p);
	memcpy(alone, p->out, p->dim * sizeof(float));
	p->chunks = 1;
	call(level, p);
	for (uint32_t i = 0; i < p->dim; i++)
		if (alone[i] != p->out[i])
			check_fail("element %u: %.9g with dead chunks, %.9g without", i, alone[i],
				   p->out[i]);
}

static void check_size(const struct check_level *level, uint32_t chunks, uint32_t dim)
{
	struct problem p = { .chunks = chunks, .dim = dim };
	enum check_side side = chunks & 1 ? CHECK_FRONT : CHECK_BACK;

	p.ldo = dim + 8 * check_below(3);
	p.ldms = 2 + check_below(3);
	p.o = check_buf_init(&p.o_buf, ((chunks - 1) * p.ldo + dim) * 4, side);
	p.ms = check_buf_init(&p.ms_buf, ((chunks - 1) * p.ldms + 2) * 4, side);
	p.out = check_buf_init(&p.out_buf, dim * 4, side);
	for (int far = 0; far < 2; far++) {
		fill(&p, far);
		call(level, &p);
		compare(&p);
	}
	check_not_finite(level, &p);
	check_dead(level, &p);
	check_buf_finish(&p.o_buf);
	check_buf_finish(&p.ms_buf);
	check_buf_finish(&p.out_buf);
}

struct bench {
	unpu_merge_fn *fn;
	float o[8 * 64], ms[8 * 2], out[64];
	uint32_t chunks;
};

static void bench_call(void *arg)
{
	struct bench *b = arg;

	b->fn(b->o, 64, b->ms, 2, b->chunks, 64, b->out);
}

void check_merge(const struct check_level *level)
{
	static const uint32_t dims[] = { 8, 16, 24, 64, 72, 128, 200, 256 };

	if (!check_begin(level, CHECK_OWN(level, merge), "merge"))
		return;
	for (uint32_t chunks = 1; chunks <= MAX_CHUNKS; chunks += chunks < 18 ? 1 : 7)
		for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]) && check_going_on(); i++)
			check_size(level, chunks, dims[i]);
	if (check_benching()) {
		struct bench b = { .fn = level->ops->merge };

		for (int i = 0; i < 16; i++)
			b.ms[i] = check_uniform(1, 2);
		b.chunks = 4;
		check_bench("4 chunks of 64", bench_call, &b, 0, 0);
	}
	check_end();
}
