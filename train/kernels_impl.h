/* SPDX-License-Identifier: MIT */
/*
 * One set of kernels, for the vector unit of whoever includes this: VL floats a vector, tiles of
 * MR rows and NRV vectors, OPS the table's name. Loops over floats are written so that the compiler
 * makes vectors of them; the Makefile lets it contract and reorder nothing but what is said here.
 */
#include <math.h>
#include <string.h>

#include "train/kernels.h"

typedef float vec __attribute__((vector_size(VL * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(VL * sizeof(float))));

#define NR	(NRV * VL)

static inline vec load(const float *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void store(float *p, vec v)
{
	memcpy(p, &v, sizeof(v));
}

static inline vec splat(float x)
{
	return x - (vec){ 0 };
}

/* a where mask is all ones, b where it is 0. */
static inline vec pick(ivec mask, vec a, vec b)
{
	return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

/* In a fixed order, by halves. */
static inline float sum(vec v)
{
	for (uint32_t half = VL / 2; half; half /= 2)
		for (uint32_t i = 0; i < half; i++)
			v[i] += v[i + half];
	return v[0];
}

/* ---- matrices ----------------------------------------------------------------------------- */

static inline void put_tile(vec acc[MR][NRV], float *c, size_t ldc, int add)
{
	for (uint32_t r = 0; r < MR; r++)
		for (uint32_t j = 0; j < NRV; j++)
			store(c + r * ldc + j * VL,
			      add ? load(c + r * ldc + j * VL) + acc[r][j] : acc[r][j]);
}

static void put_edge(vec acc[MR][NRV], float *c, size_t ldc, uint32_t rows, uint32_t columns,
		     int add)
{
	float tile[MR][NR];

	memcpy(tile, acc, sizeof(tile));
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t i = 0; i < columns; i++)
			c[r * ldc + i] = add ? c[r * ldc + i] + tile[r][i] : tile[r][i];
}

/* Rows of a are reached from every third: x86 has no addresses for more, nor enough pointers. */
static void gemm_tile(const float *a, size_t row, size_t step, const float *b, uint32_t k,
		      float *c, size_t ldc, uint32_t rows, uint32_t columns, int add)
{
	vec acc[MR][NRV] = { 0 };
	const float *p[(MR + 2) / 3];

	for (uint32_t i = 0; i < (MR + 2) / 3; i++)
		p[i] = a + 3 * i * row;
	for (; k > 0; k--, b += NR) {
		vec w[NRV];

		for (uint32_t j = 0; j < NRV; j++)
			w[j] = load(b + j * VL);
#pragma GCC unroll 16
		for (uint32_t r = 0; r < MR; r++)
#pragma GCC unroll 4
			for (uint32_t j = 0; j < NRV; j++)
				acc[r][j] += p[r / 3][r % 3 * row] * w[j];
#pragma GCC unroll 16
		for (uint32_t i = 0; i < (MR + 2) / 3; i++)
			p[i] += step;
	}
	if (rows == MR && columns == NR)
		put_tile(acc, c, ldc, add);
	else
		put_edge(acc, c, ldc, rows, columns, add);
}

/* ---- vectors ------------------------------------------------------------------------------ */

/* n is any; the tail is a vector of its own with zeros behind. */
static inline vec load_tail(const float *p, uint32_t n)
{
	vec v = { 0 };

	memcpy(&v, p, n * sizeof(float));
	return v;
}

static inline float dot(const float *a, const float *b, uint32_t n)
{
	vec s = { 0 };
	uint32_t i;

	for (i = 0; i + VL <= n; i += VL)
		s += load(a + i) * load(b + i);
	if (i < n)
		s += load_tail(a + i, n - i) * load_tail(b + i, n - i);
	return sum(s);
}

static inline void axpy(float x, const float *a, uint32_t n, float *y)
{
	for (uint32_t i = 0; i < n; i++)
		y[i] += x * a[i];
}

/*
 * e^x: 2^n * p(f), p of degree 6 by Taylor about 0 on |f| <= ln 2 / 2: 1.2e-7 relative. Below -87
 * the result is 0, as a softmax wants it; above 88 it stays finite.
 */
static inline vec exp_vec(vec x)
{
	const vec high = splat(88.0f), low = splat(-87.0f);
	const ivec under = x < low;
	vec t, f, p;
	ivec n;

	x = pick(x > high, high, x);
	x = pick(under, low, x);
	t = x * 1.44269504f + 12582912.0f;	/* 1.5 * 2^23 rounds to an integer */
	n = (ivec)t;
	t -= 12582912.0f;
	f = x - t * 0.693359375f;
	f = f + t * 2.12194440e-4f;
	p = splat(1.0f / 720);
	p = p * f + 1.0f / 120;
	p = p * f + 1.0f / 24;
	p = p * f + 1.0f / 6;
	p = p * f + 0.5f;
	p = p * f + 1.0f;
	p = p * f + 1.0f;
	p = (vec)((ivec)p + (n << 23));
	return pick(under, (vec){ 0 }, p);
}

/* x[i] = e^(x[i] - max); returns their sum. */
static inline float exp_row(float *x, uint32_t n, float max)
{
	vec s = { 0 };
	uint32_t i;

	for (i = 0; i + VL <= n; i += VL) {
		vec e = exp_vec(load(x + i) - max);

		store(x + i, e);
		s += e;
	}
	if (i < n) {
		vec e = exp_vec(load_tail(x + i, n - i) - max);

		memcpy(x + i, &e, (n - i) * sizeof(float));
		for (uint32_t j = n - i; j < VL; j++)
			e[j] = 0;
		s += e;
	}
	return sum(s);
}

static inline float max_row(const float *x, uint32_t n)
{
	float max = x[0];

	for (uint32_t i = 1; i < n; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

/* ---- attention ---------------------------------------------------------------------------- */

static void attn_forward(const struct unpu_attn_seq *s)
{
	const float scale = 1 / sqrtf((float)s->head_dim);

	for (uint32_t t = 0; t < s->rows; t++) {
		float *p = s->scratch, *o = s->o + t * s->o_stride, max, total;

		for (uint32_t j = 0; j <= t; j++)
			p[j] = scale * dot(s->q + t * s->stride, s->k + j * s->stride,
					   s->head_dim);
		max = max_row(p, t + 1);
		total = exp_row(p, t + 1, max);
		s->lse[t * s->lse_stride] = max + logf(total);
		memset(o, 0, s->head_dim * sizeof(*o));
		for (uint32_t j = 0; j <= t; j++)
			axpy(p[j] / total, s->v + j * s->stride, s->head_dim, o);
	}
}

/*
 * With p the row of weights and dp[j] = do . v[j]: ds[j] = p[j] * (dp[j] - do . o), since
 * sum(p * dp) = do . o.
 */
static void attn_backward(const struct unpu_attn_grad *g)
{
	const struct unpu_attn_seq *s = &g->fwd;
	const float scale = 1 / sqrtf((float)s->head_dim);
	const uint32_t n = s->head_dim;

	for (uint32_t t = 0; t < s->rows; t++) {
		const float *d_o = g->d_o + t * s->o_stride, *q = s->q + t * s->stride;
		float *p = g->scratch, *dq = g->dq + t * s->stride;
		float d_oo = dot(d_o, s->o + t * s->o_stride, n);

		for (uint32_t j = 0; j <= t; j++)
			p[j] = scale * dot(q, s->k + j * s->stride, n);
		exp_row(p, t + 1, s->lse[t * s->lse_stride]);
		memset(dq, 0, n * sizeof(*dq));
		for (uint32_t j = 0; j <= t; j++) {
			float dp = dot(d_o, s->v + j * s->stride, n);
			float ds = scale * p[j] * (dp - d_oo);

			axpy(p[j], d_o, n, g->dv + j * s->stride);
			axpy(ds, s->k + j * s->stride, n, dq);
			axpy(ds, q, n, g->dk + j * s->stride);
		}
	}
}

/* ---- rows --------------------------------------------------------------------------------- */

static float norm_forward(const float *x, const float *w, uint32_t n, float eps, float *y)
{
	float rstd = 1 / sqrtf(dot(x, x, n) / (float)n + eps);

	for (uint32_t i = 0; i < n; i++)
		y[i] = x[i] * rstd * w[i];
	return rstd;
}

static void norm_backward(const float *x, float rstd, const float *w, const float *dy, uint32_t n,
			  float *dx)
{
	vec s = { 0 };
	uint32_t i;
	float c;

	for (i = 0; i + VL <= n; i += VL)
		s += load(x + i) * load(w + i) * load(dy + i);
	if (i < n)
		s += load_tail(x + i, n - i) * load_tail(w + i, n - i) * load_tail(dy + i, n - i);
	c = sum(s) * rstd * rstd * rstd / (float)n;
	for (i = 0; i < n; i++)
		dx[i] += rstd * w[i] * dy[i] - c * x[i];
}

static void swiglu_forward(const float *gate, const float *up, uint32_t n, float *out)
{
	uint32_t i;

	for (i = 0; i + VL <= n; i += VL) {
		vec x = load(gate + i);

		store(out + i, x / (1.0f + exp_vec(-x)) * load(up + i));
	}
	for (; i < n; i++)
		out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

static void swiglu_backward(float *gate, float *up, const float *d_out, uint32_t n)
{
	uint32_t i;

	for (i = 0; i + VL <= n; i += VL) {
		vec x = load(gate + i), d = load(d_out + i), s = 1.0f / (1.0f + exp_vec(-x));

		store(gate + i, d * load(up + i) * s * (1.0f + x * (1.0f - s)));
		store(up + i, d * x * s);
	}
	for (; i < n; i++) {
		float x = gate[i], s = 1 / (1 + expf(-x));

		gate[i] = d_out[i] * up[i] * s * (1 + x * (1 - s));
		up[i] = d_out[i] * x * s;
	}
}

static float softmax_loss(float *logits, uint32_t n, uint32_t target, float scale)
{
	float max = max_row(logits, n), of_target = logits[target] - max;
	float total = exp_row(logits, n, max), each = scale / total;

	for (uint32_t i = 0; i < n; i++)
		logits[i] *= each;
	logits[target] -= scale;
	return logf(total) - of_target;
}

static void adamw(float *w, float *m, float *v, const float *g, size_t n,
		  const struct unpu_adamw_step *s)
{
	const float keep = 1 - s->rate * s->decay, rate = s->rate / s->bias1;
	const float root = 1 / sqrtf(s->bias2);

	for (size_t i = 0; i < n; i++) {
		float x = g[i] * s->scale;

		m[i] = s->beta1 * m[i] + (1 - s->beta1) * x;
		v[i] = s->beta2 * v[i] + (1 - s->beta2) * x * x;
		w[i] = keep * w[i] - rate * m[i] / (sqrtf(v[i]) * root + s->eps);
	}
}

const struct unpu_train_ops OPS = {
	.name = OPS_NAME,
	.mr = MR,
	.nr = NR,
	.tile = gemm_tile,
	.attn_forward = attn_forward,
	.attn_backward = attn_backward,
	.norm_forward = norm_forward,
	.norm_backward = norm_backward,
	.swiglu_forward = swiglu_forward,
	.swiglu_backward = swiglu_backward,
	.softmax_loss = softmax_loss,
	.adamw = adamw,
};
