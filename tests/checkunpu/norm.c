/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_N	2053

struct problem {
	uint32_t n;
	float eps;
	struct check_buf x_buf, w_buf, b_buf, y_buf;
	float *x, *w, *b, *y;
};

/* f32 roundings of x - mean, 1 / sqrt, two products and a sum. */
static void compare(const struct problem *p, int layer, const float *bias)
{
	double mean = 0, sum = 0;

	for (uint32_t i = 0; i < p->n && layer; i++)
		mean += p->x[i];
	mean /= p->n;
	for (uint32_t i = 0; i < p->n; i++)
		sum += (p->x[i] - mean) * (p->x[i] - mean);
	for (uint32_t i = 0; i < p->n && check_going_on(); i++) {
		double want = (p->x[i] - mean) / sqrt(sum / p->n + p->eps) * p->w[i];
		double bound = 5 * CHECK_EPS * fabs(want) + 8 * CHECK_TINY;

		if (bias) {
			bound += CHECK_EPS * fabs(want + bias[i]);
			want += bias[i];
		}
		/* what double loses in the mean */
		bound += layer ? fabs(p->w[i]) * p->n * 0x1p-53 : 0;
		if (!check_near(p->y[i], want, bound))
			check_fail("n %u, element %u: %.9g, not %.9g", p->n, i, p->y[i], want);
	}
	for (uint32_t i = p->n; i < unpu_pad32(p->n); i++)
		if (unpu_float_bits(p->y[i]) != 0)
			check_fail("n %u: padding element %u is %g", p->n, i, p->y[i]);
}

static void fill(struct problem *p, int kind)
{
	float offset = kind == 3 ? 1000 : 0;
	float scale = kind == 1 ? 1e18f : kind == 2 ? 1e-20f : 1;

	for (uint32_t i = 0; i < p->n; i++) {
		p->x[i] = offset + scale * check_activation();
		p->w[i] = check_uniform(-2, 2);
		p->b[i] = check_activation();
	}
}

static void check_not_finite(unpu_norm_fn *fn, struct problem *p)
{
	float bad = check_below(2) ? NAN : INFINITY;
	uint32_t at = check_below(p->n);

	fill(p, 0);
	p->x[at] = bad;
	CHECK_CALL(fn(p->x, p->w, NULL, p->n, p->eps, p->y));
	if (isfinite(p->y[at]))
		check_fail("n %u: %g became %g", p->n, bad, p->y[at]);
}

static void check_n(unpu_norm_fn *fn, int layer, uint32_t n)
{
	struct problem p = { .n = n, .eps = 1e-5f };
	enum check_side side = n & 1 ? CHECK_FRONT : CHECK_BACK;

	p.x = check_buf_init(&p.x_buf, 4 * n, side);
	p.w = check_buf_init(&p.w_buf, 4 * n, side);
	p.b = check_buf_init(&p.b_buf, 4 * n, side);
	p.y = check_buf_init(&p.y_buf, 4 * unpu_pad32(n), side);
	for (int kind = 0; kind < 4; kind++) {
		fill(&p, kind);
		CHECK_CALL(fn(p.x, p.w, NULL, n, p.eps, p.y));
		compare(&p, layer, NULL);
		CHECK_CALL(fn(p.x, p.w, p.b, n, p.eps, p.y));
		compare(&p, layer, p.b);
		check_buf_intact(&p.y_buf, "y");
	}
	check_not_finite(fn, &p);
	check_buf_finish(&p.x_buf);
	check_buf_finish(&p.w_buf);
	check_buf_finish(&p.b_buf);
	check_buf_finish(&p.y_buf);
}

static void check_in_place(unpu_norm_fn *fn, uint32_t n)
{
	static float x[MAX_N + 32], w[MAX_N], y[MAX_N + 32];

	for (uint32_t i = 0; i < n; i++) {
		x[i] = check_activation();
		w[i] = check_activation();
	}
	CHECK_CALL(fn(x, w, NULL, n, 1e-6f, y));
	CHECK_CALL(fn(x, w, NULL, n, 1e-6f, x));
	if (memcmp(x, y, 4 * unpu_pad32(n)))
		check_fail("n %u: in place differs", n);
}

struct bench {
	unpu_norm_fn *fn;
	float x[576], w[576], y[576];
};

static void bench_call(void *arg)
{
	struct bench *b = arg;

	b->fn(b->x, b->w, NULL, 576, 1e-5f, b->y);
}

static void check_one(const struct check_level *level, unpu_norm_fn *fn, int own, int layer)
{
	static const uint32_t more[] = { 96, 172, 576, 1000, 2048, MAX_N };

	if (!check_begin(level, own, layer ? "layer_norm" : "rms_norm"))
		return;
	for (uint32_t n = 1; n <= 70 && check_going_on(); n++)
		check_n(fn, layer, n);
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]) && check_going_on(); i++) {
		check_n(fn, layer, more[i]);
		check_in_place(fn, more[i]);
	}
	if (check_benching()) {
		static struct bench b;

		b.fn = fn;
		for (int i = 0; i < 576; i++)
			b.x[i] = b.w[i] = check_activation();
		check_bench("n 576", bench_call, &b, 0, 0);
	}
	check_end();
}

void check_norm(const struct check_level *level)
{
	check_one(level, level->ops->rms_norm, CHECK_OWN(level, rms_norm), 0);
	check_one(level, level->ops->layer_norm, CHECK_OWN(level, layer_norm), 1);
}
