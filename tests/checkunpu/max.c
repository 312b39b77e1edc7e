/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_N	264

/* Where the answer is, by the words of ops.h. */
static uint32_t naive(const float *x, uint32_t n)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < n; i++)
		if (isnan(x[i]))
			return i;
	for (uint32_t i = 0; i < n; i++)
		if (x[i] > x[at])
			at = i;
	return at;
}

static void check_case(const struct check_level *level, const float *x, uint32_t n,
		       const char *what)
{
	static float max;
	static uint32_t at;
	uint32_t want;

	max = 0;
	at = ~0u;
	CHECK_CALL(level->ops->max(x, n, &max, &at));
	want = naive(x, n);
	if (at != want || !check_same(max, x[want]))
		check_fail("%s, n %u: %g at %u, not %g at %u", what, n, max, at, x[want], want);
}

static void check_n(const struct check_level *level, uint32_t n)
{
	struct check_buf buf;
	float *x = check_buf_init(&buf, n * sizeof(float), n & 8 ? CHECK_FRONT : CHECK_BACK);

	for (uint32_t i = 0; i < n; i++)
		x[i] = check_activation();
	check_case(level, x, n, "random");
	for (uint32_t i = 0; i < n; i++) {
		x[i] = 200;
		check_case(level, x, n, "several equal");
		x[i] = 200 + i;
		check_case(level, x, n, "growing");
		x[i] = -300 + check_activation();
	}
	check_case(level, x, n, "all negative");
	for (uint32_t i = 0; i < n; i++)
		x[i] = -INFINITY;
	check_case(level, x, n, "all -inf");
	for (uint32_t i = 0; i < n; i++) {
		x[i] = NAN;
		x[check_below(n)] = INFINITY;
		check_case(level, x, n, "NaN");
		x[i] = check_below(2) ? 0.f : -0.f;
	}
	for (uint32_t i = 0; i < n; i++)
		x[i] = check_below(2) ? 0.f : -0.f;
	check_case(level, x, n, "zeros of both signs");
	for (uint32_t i = 0; i < n; i++)
		x[i] = check_any_float();
	check_case(level, x, n, "any bits");
	check_buf_finish(&buf);
}

struct bench {
	unpu_max_fn *fn;
	float x[32];
};

static void bench_call(void *arg)
{
	struct bench *b = arg;
	uint32_t at;
	float max;

	b->fn(b->x, 32, &max, &at);
}

void check_max(const struct check_level *level)
{
	if (!check_begin(level, CHECK_OWN(level, max), "max"))
		return;
	for (uint32_t n = 8; n <= MAX_N && check_going_on(); n += n < 72 ? 8 : 48)
		check_n(level, n);
	if (check_benching()) {
		struct bench b = { .fn = level->ops->max };

		for (int i = 0; i < 32; i++)
			b.x[i] = check_activation();
		check_bench("n 32", bench_call, &b, 0, sizeof(b.x));
	}
	check_end();
}
