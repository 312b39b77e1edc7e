/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "tests/checkunpu/checkunpu.h"

#define MAX_K	1536

/* ---- to int8 ------------------------------------------------------------------------------ */

/* One block by the words of ops.h. */
static void naive(const float *x, int8_t *q, float *d, int32_t *sum)
{
	int finite = 1;
	float m = 0;

	memset(q, 0, 32);
	*sum = 0;
	for (int i = 0; i < 32; i++) {
		finite &= !!isfinite(x[i]);
		m = fmaxf(m, fabsf(x[i]));
	}
	*d = finite ? 0 : NAN;
	if (!finite || m < 1e-30f)
		return;
	*d = m / 127;
	for (int i = 0; i < 32; i++) {
		q[i] = (int8_t)nearbyintf(x[i] * (127 / m));
		*sum += q[i];
	}
}

static void fill(float *x, uint32_t k, int kind)
{
	static const float scales[] = { 1, 1e-31f, 1e-29f, 1e37f, 1e-38f };

	for (uint32_t i = 0; i < k; i++) {
		switch (kind) {
		case 0: case 1: case 2: case 3: case 4:
			x[i] = scales[kind] * check_activation();
			break;
		case 5:		/* ties: multiples of a half, the largest 127 */
			x[i] = i % 32 ? 0.5f * (float)((int)check_below(509) - 254) : 127;
			break;
		case 6:		/* the largest magnitude everywhere */
			x[i] = check_below(2) ? 3.3f : -3.3f;
			break;
		case 7:
			x[i] = 0;
			break;
		case 8:		/* one value of any bits in a block */
			x[i] = i % 32 == 7 ? check_any_float() : check_activation();
			break;
		default:
			x[i] = check_any_float();
		}
	}
}

static void compare(const float *x, uint32_t k, const int8_t *q, const float *d,
		    const int32_t *sum, int kind)
{
	for (uint32_t b = 0; b < k / 32 && check_going_on(); b++) {
		int8_t want_q[32];
		int32_t want_sum;
		float want_d;

		naive(x + 32 * b, want_q, &want_d, &want_sum);
		if (memcmp(q + 32 * b, want_q, 32))
			check_fail("kind %d, k %u: quants of block %u differ", kind, k, b);
		if (!check_same(d[b], want_d) || sum[b] != want_sum)
			check_fail("kind %d, k %u, block %u: d %g, sum %d, not %g, %d", kind, k, b,
				   d[b], sum[b], want_d, want_sum);
	}
}

static void check_k(const struct check_level *level, uint32_t k)
{
	enum check_side side = k & 32 ? CHECK_FRONT : CHECK_BACK;
	struct check_buf x_buf, q_buf, d_buf, sum_buf;
	float *x = check_buf_init(&x_buf, 4 * k, side);
	int8_t *q = check_buf_init(&q_buf, k, side);
	float *d = check_buf_init(&d_buf, k / 8, side);
	int32_t *sum = check_buf_init(&sum_buf, k / 8, side);

	for (int kind = 0; kind < 10; kind++) {
		fill(x, k, kind);
		CHECK_CALL(level->ops->quantize(x, k, q, d, sum));
		compare(x, k, q, d, sum, kind);
	}
	check_buf_intact(&q_buf, "q");
	check_buf_intact(&d_buf, "d");
	check_buf_intact(&sum_buf, "sum");
	check_buf_finish(&x_buf);
	check_buf_finish(&q_buf);
	check_buf_finish(&d_buf);
	check_buf_finish(&sum_buf);
}

struct bench {
	const struct unpu_cpu_ops *ops;
	float x[576], d[18];
	int8_t q[576];
	int32_t sum[18];
	uint16_t half[576];
};

static void bench_quantize(void *arg)
{
	struct bench *b = arg;

	b->ops->quantize(b->x, 576, b->q, b->d, b->sum);
}

/* ---- to f16 ------------------------------------------------------------------------------- */

static void bench_to_f16(void *arg)
{
	struct bench *b = arg;

	b->ops->to_f16(b->x, 576, b->half);
}

/* In double, where a division by a power of two and a rounding to an integer are exact. */
static uint16_t naive_f16(float x)
{
	double a = fabs((double)x), step;
	int exp;

	if (isnan(x))
		return 0x7e00;	/* only that it is one is compared */
	exp = a < 0x1p-14 ? -14 : isinf(a) ? 16 : ilogb(a);
	step = ldexp(1, exp - 10);
	a = nearbyint(a / step) * step;
	if (a >= 65536)
		return signbit(x) ? 0xfc00 : 0x7c00;
	if (a < 0x1p-14)
		return (signbit(x) ? 0x8000 : 0) | (uint16_t)(a * 0x1p24);
	exp = ilogb(a);
	return (signbit(x) ? 0x8000 : 0) | (exp + 15) << 10 |
	       (uint16_t)((ldexp(a, -exp) - 1) * 1024);
}

static int same_f16(uint16_t a, uint16_t b)
{
	return a == b || ((a & 0x7fff) > 0x7c00 && (b & 0x7fff) > 0x7c00);
}

static void check_f16_n(const struct check_level *level, uint32_t n)
{
	enum check_side side = n & 8 ? CHECK_FRONT : CHECK_BACK;
	struct check_buf x_buf, out_buf;
	float *x = check_buf_init(&x_buf, 4 * n, side);
	uint16_t *out = check_buf_init(&out_buf, 2 * n, side);

	for (int kind = 0; kind < 3; kind++) {
		for (uint32_t i = 0; i < n; i++) {
			/* the last: near the middle between two halves, subnormal ones too */
			x[i] = kind == 0 ? check_activation() :
			       kind == 1 ? check_any_float() :
			       ldexpf((float)(2 * check_below(4096) + 1) +
				      (float)((int)check_below(3) - 1) * 0x1p-10f,
				      (int)check_below(34) - 26);
		}
		CHECK_CALL(level->ops->to_f16(x, n, out));
		for (uint32_t i = 0; i < n && check_going_on(); i++)
			if (!same_f16(out[i], naive_f16(x[i])))
				check_fail("%.9g became %04x, not %04x", x[i], out[i],
					   naive_f16(x[i]));
	}
	check_buf_intact(&out_buf, "out");
	check_buf_finish(&x_buf);
	check_buf_finish(&out_buf);
}

/* Every half comes back from float as it was. */
static void check_f16_all(const struct check_level *level)
{
	static float x[65536];
	static uint16_t out[65536];

	for (uint32_t i = 0; i < 65536; i++)
		x[i] = unpu_f16_float((uint16_t)i);
	CHECK_CALL(level->ops->to_f16(x, 65536, out));
	for (uint32_t i = 0; i < 65536 && check_going_on(); i++)
		if (!same_f16(out[i], (uint16_t)i))
			check_fail("%04x became %.9g and then %04x", i, x[i], out[i]);
}

void check_quantize(const struct check_level *level)
{
	static struct bench b;

	b.ops = level->ops;
	for (int i = 0; i < 576; i++)
		b.x[i] = check_activation();
	if (check_begin(level, CHECK_OWN(level, quantize), "quantize")) {
		for (uint32_t k = 32; k <= 320 && check_going_on(); k += 32)
			check_k(level, k);
		check_k(level, MAX_K);
		if (check_benching())
			check_bench("k 576", bench_quantize, &b, 0, 0);
		check_end();
	}
	if (check_begin(level, CHECK_OWN(level, to_f16), "to_f16")) {
		for (uint32_t n = 8; n <= 256 && check_going_on(); n += 8)
			check_f16_n(level, n);
		check_f16_all(level);
		if (check_benching())
			check_bench("n 576", bench_to_f16, &b, 0, 0);
		check_end();
	}
}
