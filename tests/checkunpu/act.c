/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_N	1536

static const char *const names[3] = { "silu", "gelu", "relu" };

/*
 * The value, and its relative error in roundings: exp 4, its argument's own error times the
 * argument, one each for sum, quotient and product.
 */
static double naive(uint32_t act, double x, double *roundings)
{
	double u = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);

	switch (act) {
	case UNPU_ACT_SILU:
		*roundings = 8;
		return x < -800 ? x * 0 : x / (1 + exp(-x));
	case UNPU_ACT_GELU:
		*roundings = 8 + 7 * fabs(2 * u);
		return u < -400 ? x * 0 : x / (1 + exp(-2 * u));
	default:
		*roundings = 1;
		return x < 0 ? 0 : x;
	}
}

static void compare(uint32_t act, float gate, const float *up, float got)
{
	double roundings, want = naive(act, gate, &roundings);
	double size = up ? fabs((double)*up) : 1;
	/* exp overflows to infinity and 88 / inf = 0 stands for 88 / 2^128 */
	double bound = fabs(want) * size * roundings * CHECK_EPS + 0x1p-121 * (size > 1 ? size : 1);

	if (isnan(gate) || gate == -INFINITY || (up && !isfinite(*up))) {
		if (isnan(gate) && !isnan(got))
			check_fail("%g became %g", gate, got);
		return;
	}
	if (!check_near(got, want * (up ? *up : 1), bound))
		check_fail("x %.9g, up %g: %.9g, not %.9g", gate, up ? *up : 1, got,
			   want * (up ? *up : 1));
}

static void fill(float *gate, float *up, uint32_t n, int kind)
{
	for (uint32_t i = 0; i < n; i++) {
		gate[i] = kind == 0 ? 3 * check_activation() :
			  kind == 1 ? check_uniform(-130, 130) : check_any_float();
		up[i] = kind == 2 ? check_any_float() : check_activation();
	}
}

/* The value does not depend on its place, nor on what stands beside it. */
static void check_pure(const struct check_level *level, uint32_t act, const float *gate, uint32_t n,
		       const float *out)
{
	float eight[8], again[8];
	uint32_t at = check_below(n);

	for (int i = 0; i < 8; i++)
		eight[i] = i == 5 ? gate[at] : check_any_float();
	CHECK_CALL(level->ops->act[act](eight, NULL, 8, again));
	if (!check_same(again[5], out[at]))
		check_fail("x %.9g gives %.9g and %.9g elsewhere", gate[at], out[at], again[5]);
}

static void check_n(const struct check_level *level, uint32_t act, uint32_t n)
{
	enum check_side side = n & 8 ? CHECK_FRONT : CHECK_BACK;
	struct check_buf gate_buf, up_buf, out_buf;
	float *gate = check_buf_init(&gate_buf, 4 * n, side);
	float *up = check_buf_init(&up_buf, 4 * n, side);
	float *out = check_buf_init(&out_buf, 4 * n, side);

	for (int kind = 0; kind < 3 && check_going_on(); kind++) {
		fill(gate, up, n, kind);
		CHECK_CALL(level->ops->act[act](gate, up, n, out));
		for (uint32_t i = 0; i < n && check_going_on(); i++)
			compare(act, gate[i], up + i, out[i]);
		CHECK_CALL(level->ops->act[act](gate, NULL, n, out));
		for (uint32_t i = 0; i < n && check_going_on(); i++)
			compare(act, gate[i], NULL, out[i]);
		check_pure(level, act, gate, n, out);
		check_buf_intact(&out_buf, "out");
		/* in place */
		memcpy(up, gate, 4 * n);
		CHECK_CALL(level->ops->act[act](up, NULL, n, up));
		for (uint32_t i = 0; i < n && check_going_on(); i++)
			if (!check_same(up[i], out[i]))
				check_fail("in place: %.9g, not %.9g", up[i], out[i]);
	}
	check_buf_finish(&gate_buf);
	check_buf_finish(&up_buf);
	check_buf_finish(&out_buf);
}

struct bench {
	unpu_act_fn *fn;
	float gate[MAX_N], up[MAX_N], out[MAX_N];
};

static void bench_call(void *arg)
{
	struct bench *b = arg;

	b->fn(b->gate, b->up, MAX_N, b->out);
}

void check_act(const struct check_level *level)
{
	for (uint32_t act = 0; act < 3; act++) {
		if (!check_begin(level, CHECK_OWN(level, act[act]), "%s", names[act]))
			continue;
		for (uint32_t n = 8; n < 80 && check_going_on(); n += 8)
			check_n(level, act, n);
		check_n(level, act, MAX_N);
		if (check_benching()) {
			static struct bench b;

			b.fn = level->ops->act[act];
			fill(b.gate, b.up, MAX_N, 0);
			check_bench("n 1536", bench_call, &b, 0, 0);
		}
		check_end();
	}
}
