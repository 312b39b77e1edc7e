/* SPDX-License-Identifier: MIT */
/*
 * Gradients against central differences of a forward pass in double, written for this test alone;
 * the same bits for any number of threads.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/cpu/ops.h"
#include "train/net.h"

#define MAX_ROWS	32
#define VOCAB		37

static const struct unpu_net_shape tied = {
	.layers = 2, .hidden = 24, .heads = 4, .kv_heads = 2, .head_dim = 6, .ffn = 20,
	.vocab = VOCAB, .context = 16, .eps = 1e-5f, .rope_base = 10000, .tied = true,
};

static const int32_t tokens[] = {
	1, 5, 9, 36, 5, 5, 0, 12, 3, 3, 8, 1, 30, 31, 32, 7, 1, 20, 2,
};
static const int32_t targets[] = {
	5, 9, -1, 5, 5, 0, 12, 3, -1, 8, 1, 30, 31, 32, 7, -1, 20, 2, -1,
};
static const uint32_t starts[] = { 0, 9, 16, 19 };
static const struct unpu_net_batch batch = { tokens, targets, 19, starts, 3 };

/* ---- the reference -------------------------------------------------------------------------- */

struct reference {
	const struct unpu_net_shape *s;
	const double *w;	/* in the order of the net's parameters */
};

static void norm(const double *x, const double *w, uint32_t n, double eps, double *y)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (uint32_t i = 0; i < n; i++)
		y[i] = x[i] / sqrt(sum / n + eps) * w[i];
}

static void matvec(const double *w, const double *x, uint32_t n, uint32_t k, double *y)
{
	for (uint32_t i = 0; i < n; i++) {
		y[i] = 0;
		for (uint32_t j = 0; j < k; j++)
			y[i] += w[(size_t)i * k + j] * x[j];
	}
}

static void turn(double *x, uint32_t heads, const struct unpu_net_shape *s, uint32_t position)
{
	for (uint32_t h = 0; h < heads; h++) {
		for (uint32_t i = 0; i < s->head_dim / 2; i++) {
			double *p = x + h * s->head_dim + 2 * i, a = p[0], b = p[1];
			double angle = position * pow(s->rope_base, -2.0 * i / s->head_dim);

			p[0] = a * cos(angle) - b * sin(angle);
			p[1] = a * sin(angle) + b * cos(angle);
		}
	}
}

/* One query head at row t over the keys and values of rows 0..t; each row's qkv is 64 apart. */
static void attend(const struct unpu_net_shape *s, double qkv[][64], uint32_t t, uint32_t head,
		   double *out)
{
	uint32_t n = s->head_dim, kv = head / (s->heads / s->kv_heads);
	uint32_t k = s->heads * n + kv * n, v = k + s->kv_heads * n;
	double p[MAX_ROWS], total = 0;

	for (uint32_t j = 0; j <= t; j++) {
		double score = 0;

		for (uint32_t i = 0; i < n; i++)
			score += qkv[t][head * n + i] * qkv[j][k + i];
		p[j] = exp(score / sqrt(n));
		total += p[j];
	}
	for (uint32_t i = 0; i < n; i++) {
		out[i] = 0;
		for (uint32_t j = 0; j <= t; j++)
			out[i] += p[j] / total * qkv[j][v + i];
	}
}

/* Adds a layer to the rows of one sequence; returns where the next one's parameters begin. */
static const double *layer(const struct unpu_net_shape *s, const double *w, double x[][64],
			   uint32_t rows)
{
	uint32_t q = s->heads * s->head_dim, all = q + 2 * s->kv_heads * s->head_dim;
	const double *qkv = w + s->hidden, *out = qkv + (size_t)all * s->hidden;
	const double *ffn_norm = out + (size_t)s->hidden * q, *gate = ffn_norm + s->hidden;
	const double *down = gate + 2ull * s->ffn * s->hidden;
	double row[MAX_ROWS][64], n[64], att[64], y[64], gu[64];

	for (uint32_t t = 0; t < rows; t++) {
		norm(x[t], w, s->hidden, s->eps, n);
		matvec(qkv, n, all, s->hidden, row[t]);
		turn(row[t], s->heads + s->kv_heads, s, t);
	}
	for (uint32_t t = 0; t < rows; t++) {
		for (uint32_t h = 0; h < s->heads; h++)
			attend(s, row, t, h, att + h * s->head_dim);
		matvec(out, att, s->hidden, q, y);
		for (uint32_t i = 0; i < s->hidden; i++)
			x[t][i] += y[i];
		norm(x[t], ffn_norm, s->hidden, s->eps, n);
		matvec(gate, n, 2 * s->ffn, s->hidden, gu);
		for (uint32_t i = 0; i < s->ffn; i++)
			gu[i] = gu[i] / (1 + exp(-gu[i])) * gu[s->ffn + i];
		matvec(down, gu, s->hidden, s->ffn, y);
		for (uint32_t i = 0; i < s->hidden; i++)
			x[t][i] += y[i];
	}
	return down + (size_t)s->hidden * s->ffn;
}

static double sequence_loss(const struct reference *r, uint32_t first, uint32_t rows)
{
	const struct unpu_net_shape *s = r->s;
	const double *w = r->w + (size_t)s->vocab * s->hidden, *head;
	double x[MAX_ROWS][64], n[64], logits[VOCAB], loss = 0;

	for (uint32_t t = 0; t < rows; t++)
		memcpy(x[t], r->w + (size_t)tokens[first + t] * s->hidden,
		       s->hidden * sizeof(double));
	for (uint32_t i = 0; i < s->layers; i++)
		w = layer(s, w, x, rows);
	head = s->tied ? r->w : w + s->hidden;
	for (uint32_t t = 0; t < rows; t++) {
		double total = 0;

		if (targets[first + t] < 0)
			continue;
		norm(x[t], w, s->hidden, s->eps, n);
		matvec(head, n, s->vocab, s->hidden, logits);
		for (uint32_t i = 0; i < s->vocab; i++)
			total += exp(logits[i]);
		loss += log(total) - logits[targets[first + t]];
	}
	return loss;
}

static double reference_loss(const struct unpu_net_shape *s, const double *w)
{
	struct reference r = { s, w };
	double loss = 0;

	for (uint32_t i = 0; i < batch.num_sequences; i++)
		loss += sequence_loss(&r, starts[i], starts[i + 1] - starts[i]);
	return loss;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static struct unpu_net *make(const struct unpu_net_shape *s, uint32_t threads, uint32_t mask)
{
	struct unpu_net *net;

	assert_int_equal(unpu_net_create(s, threads, mask, NULL, &net), 0);
	unpu_net_init_weights(net, 7);
	/* Larger than at the start of a training: gradients of all kinds are felt. */
	for (uint32_t i = 0; i < unpu_net_num_params(net); i++) {
		const struct unpu_param *p = unpu_net_param(net, i);
		float *w = unpu_net_weights(net) + p->at;

		for (uint32_t j = 0; j < p->rows * p->columns; j++)
			w[j] = p->rows > 1 ? w[j] * 8 : 1 + 0.1f * (float)(j % 7);
	}
	return net;
}

static double run(struct unpu_net *net, float dropout)
{
	struct unpu_net_pass pass = { .dropout = dropout, .seed = 5, .scale = 1, .grads = true };
	double loss;

	unpu_net_zero_grads(net);
	assert_int_equal(unpu_net_run(net, &batch, &pass, &loss, NULL), 0);
	return loss;
}

static void check_param(const struct unpu_net_shape *s, struct unpu_net *net, uint32_t p,
			double *w)
{
	const struct unpu_param *param = unpu_net_param(net, p);
	size_t count = (size_t)param->rows * param->columns, step = count / 40 + 1;
	double worst = 0, largest = 0;

	for (size_t i = param->at; i < param->at + count; i += step) {
		const double h = 1e-5, keep = w[i];
		double up, down, diff;

		w[i] = keep + h;
		up = reference_loss(s, w);
		w[i] = keep - h;
		down = reference_loss(s, w);
		w[i] = keep;
		diff = fabs((up - down) / (2 * h) - unpu_net_grads(net)[i]);
		worst = diff > worst ? diff : worst;
		largest = fmax(largest, fabs((up - down) / (2 * h)));
	}
	if (worst > 2e-5 * (1 + largest))
		fail_msg("%s: off by %g, largest %g", param->name, worst, largest);
	assert_true(largest > 0);
}

static void check_gradients(const struct unpu_net_shape *s, uint32_t mask)
{
	struct unpu_net *net = make(s, 2, mask);
	double *w = malloc(unpu_net_floats(net) * sizeof(*w)), loss = run(net, 0);

	for (size_t i = 0; i < unpu_net_floats(net); i++)
		w[i] = unpu_net_weights(net)[i];
	assert_true(fabs(loss - reference_loss(s, w)) < 1e-5 * loss);
	for (uint32_t p = 0; p < unpu_net_num_params(net); p++)
		check_param(s, net, p, w);
	free(w);
	unpu_net_destroy(net);
}

static const uint32_t masks[] = {
	UNPU_CPU_MASK_C, UNPU_CPU_MASK_AVX2, ~0u,
};

static void test_gradients(void **state)
{
	struct unpu_net_shape own_head = tied;

	(void)state;
	own_head.tied = false;
	own_head.kv_heads = 1;
	own_head.hidden = 21;
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		check_gradients(&tied, masks[i]);
		check_gradients(&own_head, masks[i]);
	}
}

static void train_a_little(uint32_t threads, float *out)
{
	struct unpu_net *net = make(&tied, threads, ~0u);

	for (uint64_t step = 1; step <= 5; step++) {
		struct unpu_net_update with = {
			.rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f,
			.decay = 0.1f, .clip = 1, .step = step,
		};

		run(net, 0.2f);
		assert_true(unpu_net_update(net, &with) > 0);
	}
	memcpy(out, unpu_net_weights(net), unpu_net_floats(net) * sizeof(*out));
	unpu_net_destroy(net);
}

static void test_threads(void **state)
{
	struct unpu_net *net = make(&tied, 1, ~0u);
	size_t bytes = unpu_net_floats(net) * sizeof(float);
	float *one = malloc(bytes), *other = malloc(bytes);

	(void)state;
	unpu_net_destroy(net);
	train_a_little(1, one);
	for (uint32_t threads = 2; threads <= 5; threads++) {
		train_a_little(threads, other);
		assert_memory_equal(one, other, bytes);
	}
	free(one);
	free(other);
}

/* A mask is made by the seed alone, and changes the loss. */
static void test_dropout(void **state)
{
	struct unpu_net *net = make(&tied, 1, ~0u);
	double a = run(net, 0.3f), b = run(net, 0.3f), none = run(net, 0);

	(void)state;
	assert_true(a == b);
	assert_true(a != none);
	unpu_net_destroy(net);
}

static void test_frozen(void **state)
{
	struct unpu_net *net = make(&tied, 2, ~0u), *all = make(&tied, 2, ~0u);
	struct unpu_net_update with = { .rate = 1e-2f, .beta1 = 0.9f, .beta2 = 0.99f,
					.eps = 1e-8f, .decay = 0.1f, .step = 1 };
	float *before = malloc(unpu_net_floats(net) * sizeof(float));

	(void)state;
	for (uint32_t i = 0; i < unpu_net_num_params(net); i++) {
		struct unpu_param *p = unpu_net_param(net, i);

		p->frozen = p->layer == 0 || !strncmp(p->name, "token_embd", 10);
	}
	memcpy(before, unpu_net_weights(net), unpu_net_floats(net) * sizeof(float));
	run(net, 0);
	run(all, 0);
	unpu_net_update(net, &with);
	for (uint32_t i = 0; i < unpu_net_num_params(net); i++) {
		const struct unpu_param *p = unpu_net_param(net, i);
		size_t bytes = (size_t)p->rows * p->columns * sizeof(float);
		int same = !memcmp(before + p->at, unpu_net_weights(net) + p->at, bytes);

		assert_int_equal(same, p->frozen);
		if (!p->frozen)
			assert_memory_equal(unpu_net_grads(net) + p->at,
					    unpu_net_grads(all) + p->at, bytes);
	}
	free(before);
	unpu_net_destroy(net);
	unpu_net_destroy(all);
}

static void test_bad(void **state)
{
	struct unpu_net *net = make(&tied, 1, ~0u), *none;
	struct unpu_net_pass pass = { .scale = 1 };
	struct unpu_net_shape odd = tied;
	int32_t wrong[19];
	struct unpu_net_batch b = batch;
	double loss;

	(void)state;
	memcpy(wrong, tokens, sizeof(wrong));
	wrong[4] = VOCAB;
	b.tokens = wrong;
	assert_int_equal(unpu_net_run(net, &b, &pass, &loss, NULL), -EINVAL);
	wrong[4] = -1;
	assert_int_equal(unpu_net_run(net, &b, &pass, &loss, NULL), -EINVAL);
	b = batch;
	b.rows = 18;
	assert_int_equal(unpu_net_run(net, &b, &pass, &loss, NULL), -EINVAL);
	unpu_net_weights(net)[3] = NAN;
	unpu_net_weights(net)[24 * 5] = NAN;
	assert_int_equal(unpu_net_run(net, &batch, &pass, &loss, NULL), -EDOM);
	unpu_net_destroy(net);
	odd.kv_heads = 3;
	assert_int_equal(unpu_net_create(&odd, 1, ~0u, NULL, &none), -EINVAL);
	odd = tied;
	odd.head_dim = 5;
	assert_int_equal(unpu_net_create(&odd, 1, ~0u, NULL, &none), -EINVAL);
	odd = tied;
	odd.layers = 0;
	assert_int_equal(unpu_net_create(&odd, 1, ~0u, NULL, &none), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_dropout), cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
