/* SPDX-License-Identifier: MIT */
/* All tokens of a text go through a layer together; every sum is a plain loop in double. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/oracle.h"

/* ---- dequantisation --------------------------------------------------------------------- */

static uint16_t bits16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static double from_f16(uint16_t h)
{
	int sign = h >> 15, exp = h >> 10 & 31, mant = h & 1023;
	double value;

	if (exp == 31)
		value = mant ? NAN : INFINITY;
	else if (exp)
		value = ldexp(1024 + mant, exp - 25);
	else
		value = ldexp(mant, -24);
	return sign ? -value : value;
}

static double from_f32(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static double f32_at(const uint8_t *p)
{
	return from_f32(bits16(p) | (uint32_t)bits16(p + 2) << 16);
}

/* ---- one value of a block --------------------------------------------------------------- */

/* Bit i of a field of bits that begins at p. */
static int bit_of(const uint8_t *p, uint32_t i)
{
	return p[i / 8] >> i % 8 & 1;
}

/* In the types with blocks of 32 the low nibbles are the first 16 values. */
static int split_nibble(const uint8_t *p, uint32_t i)
{
	return i < 16 ? p[i] % 16 : p[i - 16] / 16;
}

static double value_q8_0(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * (int8_t)p[2 + i];
}

static double value_q4_0(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * (split_nibble(p + 2, i) - 8);
}

static double value_q4_1(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * split_nibble(p + 4, i) + from_f16(bits16(p + 2));
}

static double value_q5_0(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * (split_nibble(p + 6, i) + 16 * bit_of(p + 2, i) - 16);
}

static double value_q5_1(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * (split_nibble(p + 8, i) + 16 * bit_of(p + 4, i)) +
	       from_f16(bits16(p + 2));
}

static double value_iq4_nl(const uint8_t *p, uint32_t i)
{
	static const int values[] = {
		-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
	};

	return from_f16(bits16(p)) * values[split_nibble(p + 2, i)];
}

/*
 * 8 scales and 8 minima of 6 bits in 12 bytes: the first 4 of each are the low bits of bytes 0-3
 * and 4-7; of the others, the low 4 bits are the nibbles of bytes 8-11, and the high 2 bits are the
 * highest of the byte that has the one 4 before.
 */
static int six_bits(const uint8_t *p, uint32_t j, int min)
{
	const uint8_t *own = p + (min ? 4 : 0);

	if (j < 4)
		return own[j] % 64;
	return (min ? p[4 + j] / 16 : p[4 + j] % 16) + own[j - 4] / 64 * 16;
}

/* 64 values at a time: the low nibbles of 32 bytes, then the high ones. */
static int k_nibble(const uint8_t *p, uint32_t i)
{
	uint8_t byte = p[i / 64 * 32 + i % 32];

	return i % 64 < 32 ? byte % 16 : byte / 16;
}

static double value_q4_k(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p)) * six_bits(p + 4, i / 32, 0) * k_nibble(p + 16, i) -
	       from_f16(bits16(p + 2)) * six_bits(p + 4, i / 32, 1);
}

/* Byte i % 32 of the fifth bits has that of value i in bit i / 32. */
static double value_q5_k(const uint8_t *p, uint32_t i)
{
	int q = k_nibble(p + 48, i) + 16 * (p[16 + i % 32] >> i / 32 & 1);

	return from_f16(bits16(p)) * six_bits(p + 4, i / 32, 0) * q -
	       from_f16(bits16(p + 2)) * six_bits(p + 4, i / 32, 1);
}

/*
 * Halves of 128: 64 bytes have their nibbles, the low ones those of the first 64; 32 bytes have
 * their high pairs of bits, the lowest those of the first 32.
 */
static double value_q6_k(const uint8_t *p, uint32_t i)
{
	uint32_t half = i / 128, at = i % 128;
	uint8_t low = p[64 * half + at % 64], high = p[128 + 32 * half + at % 32];
	int q = (at < 64 ? low % 16 : low / 16) + 16 * (high >> 2 * (at / 32) & 3) - 32;

	return from_f16(bits16(p + 208)) * (int8_t)p[192 + i / 16] * q;
}

static double value_f16(const uint8_t *p, uint32_t i)
{
	return from_f16(bits16(p + 2ul * i));
}

static double value_bf16(const uint8_t *p, uint32_t i)
{
	return from_f32((uint32_t)bits16(p + 2ul * i) << 16);
}

static double value_f32(const uint8_t *p, uint32_t i)
{
	return f32_at(p + 4ul * i);
}

typedef double value_fn(const uint8_t *p, uint32_t i);

static const struct {
	uint32_t block, bytes;
	value_fn *value;
} blocks[] = {
	[UNPU_TYPE_F32] = { 1, 4, value_f32 },
	[UNPU_TYPE_F16] = { 1, 2, value_f16 },
	[UNPU_TYPE_BF16] = { 1, 2, value_bf16 },
	[UNPU_TYPE_Q8_0] = { 32, 34, value_q8_0 },
	[UNPU_TYPE_Q4_0] = { 32, 18, value_q4_0 },
	[UNPU_TYPE_Q4_1] = { 32, 20, value_q4_1 },
	[UNPU_TYPE_Q5_0] = { 32, 22, value_q5_0 },
	[UNPU_TYPE_Q5_1] = { 32, 24, value_q5_1 },
	[UNPU_TYPE_IQ4_NL] = { 32, 18, value_iq4_nl },
	[UNPU_TYPE_Q4_K] = { 256, 144, value_q4_k },
	[UNPU_TYPE_Q5_K] = { 256, 176, value_q5_k },
	[UNPU_TYPE_Q6_K] = { 256, 210, value_q6_k },
};

double oracle_value(uint32_t type, const uint8_t *row, uint64_t i)
{
	uint32_t block = blocks[type].block;

	return blocks[type].value(row + i / block * blocks[type].bytes, (uint32_t)(i % block));
}

void oracle_row(const struct unpu_tensor *tensor, uint64_t row, double *out)
{
	uint64_t k = tensor->dims[0], i;
	const uint8_t *p = tensor->data + row * (k / blocks[tensor->type].block) *
			   blocks[tensor->type].bytes;

	for (i = 0; i < k; i++)
		out[i] = oracle_value(tensor->type, p, i);
}

/* ---- the pieces ------------------------------------------------------------------------- */

struct oracle {
	const struct unpu_arch *arch;
	oracle_gelu_fn *gelu;
	oracle_kv_fn *kv;	/* NULL: K and V stay as they are */
	size_t n;		/* tokens */
	double *x;		/* n x hidden: the residual stream */
	double *y;		/* n x hidden: a normed stream, or what is added to it */
	double *qkv;		/* n x (heads + 2 kv_heads) head_dim: a token's q, k, v */
	double *attn;		/* n x heads head_dim */
	double *gate, *up;	/* n x ffn */
	double *row;		/* the widest row */
	double *scores;		/* n */
};

/* out[t][at + r] = W[r] . in[t] + bias[r]; tokens of out are ldo apart. */
static void linear(const struct oracle *o, const struct unpu_tensor *w,
		   const struct unpu_tensor *bias, const double *in, double *out, size_t ldo)
{
	uint64_t k = w->dims[0], r, i;
	size_t t;
	double sum;

	for (r = 0; r < w->dims[1]; r++) {
		oracle_row(w, r, o->row);
		for (t = 0; t < o->n; t++) {
			sum = 0;
			for (i = 0; i < k; i++)
				sum += o->row[i] * in[t * k + i];
			out[t * ldo + r] = sum;
		}
	}
	if (!bias)
		return;
	oracle_row(bias, 0, o->row);
	for (t = 0; t < o->n; t++) {
		for (r = 0; r < w->dims[1]; r++)
			out[t * ldo + r] += o->row[r];
	}
}

static void normalise(const struct oracle *o, bool layer_norm, const struct unpu_tensor *weight,
		      const struct unpu_tensor *bias, const double *in, double *out, uint32_t n)
{
	double mean = 0, var = 0;
	uint32_t i;

	for (i = 0; i < n && layer_norm; i++)
		mean += in[i] / n;
	for (i = 0; i < n; i++)
		var += (in[i] - mean) * (in[i] - mean) / n;
	oracle_row(weight, 0, o->row);
	for (i = 0; i < n; i++)
		out[i] = (in[i] - mean) / sqrt(var + o->arch->hp.norm_eps) * o->row[i];
	if (!bias)
		return;
	oracle_row(bias, 0, o->row);
	for (i = 0; i < n; i++)
		out[i] += o->row[i];
}

static void normalise_all(const struct oracle *o, const struct unpu_tensor *weight,
			  const struct unpu_tensor *bias)
{
	uint32_t n = o->arch->hp.hidden;
	size_t t;

	for (t = 0; t < o->n; t++)
		normalise(o, o->arch->plan.norm == UNPU_NORM_LAYER, weight, bias, o->x + t * n,
			  o->y + t * n, n);
}

static void turn(double *a, double *b, double angle)
{
	double x = *a, y = *b;

	*a = x * cos(angle) - y * sin(angle);
	*b = x * sin(angle) + y * cos(angle);
}

static void rope(const struct oracle *o, double *head, size_t position)
{
	const struct unpu_hparams *hp = &o->arch->hp;
	uint32_t half = hp->rope_dims / 2, i;
	double angle;

	for (i = 0; i < half && o->arch->plan.rope != UNPU_ROPE_NONE; i++) {
		angle = (double)position / hp->rope_scale *
			pow(hp->rope_base, -2.0 * i / hp->rope_dims);
		if (o->arch->plan.rope == UNPU_ROPE_PAIRS)
			turn(&head[2 * i], &head[2 * i + 1], angle);
		else
			turn(&head[i], &head[i + half], angle);
	}
}

static double gelu_tanh(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double activate(const struct oracle *o, double x)
{
	switch (o->arch->plan.act) {
	case UNPU_ACT_SILU:
		return x / (1 + exp(-x));
	case UNPU_ACT_GELU:
		return o->gelu(x);
	case UNPU_ACT_RELU:
		return x > 0 ? x : 0;
	}
	return NAN;
}

/* ---- a layer ---------------------------------------------------------------------------- */

/* One query head of token t over the tokens up to it. */
static void attend(const struct oracle *o, size_t t, uint32_t head)
{
	const struct unpu_hparams *hp = &o->arch->hp;
	uint32_t d = hp->head_dim, ld = (hp->heads + 2 * hp->kv_heads) * d, i;
	uint32_t kv_head = head / (hp->heads / hp->kv_heads);
	const double *q = o->qkv + t * ld + head * d;
	const double *k = o->qkv + (hp->heads + kv_head) * d;
	const double *v = o->qkv + (hp->heads + hp->kv_heads + kv_head) * d;
	double *out = o->attn + (t * hp->heads + head) * d;
	double max = -INFINITY, sum = 0;
	size_t j;

	for (j = 0; j <= t; j++) {
		o->scores[j] = 0;
		for (i = 0; i < d; i++)
			o->scores[j] += q[i] * k[j * ld + i];
		o->scores[j] *= hp->attn_scale;
		max = fmax(max, o->scores[j]);
	}
	for (j = 0; j <= t; j++) {
		o->scores[j] = exp(o->scores[j] - max);
		sum += o->scores[j];
	}
	for (i = 0; i < d; i++) {
		out[i] = 0;
		for (j = 0; j <= t; j++)
			out[i] += o->scores[j] / sum * v[j * ld + i];
	}
}

static void prepare_heads(const struct oracle *o, const struct unpu_layer *l, size_t t)
{
	const struct unpu_hparams *hp = &o->arch->hp;
	uint32_t d = hp->head_dim, ld = (hp->heads + 2 * hp->kv_heads) * d, h;
	const struct unpu_tensor *norm;
	double *head;

	for (h = 0; h < hp->heads + hp->kv_heads; h++) {
		head = o->qkv + t * ld + h * d;
		norm = h < hp->heads ? l->q_norm : l->k_norm;
		if (norm)
			normalise(o, false, norm, NULL, head, head, d);
		rope(o, head, t);
	}
}

double oracle_f16(double x)
{
	int exp;

	frexp(x, &exp);
	exp = exp < -13 ? -24 : exp - 11;
	return ldexp(nearbyint(ldexp(x, -exp)), exp);
}

void oracle_kv_f16(double *head, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		head[i] = oracle_f16(head[i]);
}

/* As shaders/shaders.h has it: 32 and their scale. */
void oracle_kv_int8(double *head, uint32_t n)
{
	for (uint32_t b = 0; b < n; b += 32) {
		uint32_t end = b + 32 < n ? b + 32 : n;
		double m = 0, scale;

		for (uint32_t i = b; i < end; i++)
			m = fmax(m, fabs(head[i]));
		scale = oracle_f16(m / 127);
		for (uint32_t i = b; i < end; i++)
			head[i] = m < 1e-30 ? 0 : nearbyint(head[i] / m * 127) * scale;
	}
}

static void round_kv(const struct oracle *o)
{
	const struct unpu_hparams *hp = &o->arch->hp;
	uint32_t d = hp->head_dim, heads = hp->heads + 2 * hp->kv_heads;

	for (size_t t = 0; t < o->n; t++)
		for (uint32_t h = hp->heads; h < heads; h++)
			o->kv(o->qkv + (t * heads + h) * d, d);
}

static void add_to_stream(const struct oracle *o)
{
	size_t i;

	for (i = 0; i < o->n * o->arch->hp.hidden; i++)
		o->x[i] += o->y[i];
}

static void attention(const struct oracle *o, const struct unpu_layer *l)
{
	const struct unpu_hparams *hp = &o->arch->hp;
	uint32_t d = hp->head_dim, ld = (hp->heads + 2 * hp->kv_heads) * d, h;
	size_t t;

	normalise_all(o, l->attn_norm, l->attn_norm_b);
	linear(o, l->q, l->q_b, o->y, o->qkv, ld);
	if (l->k) {
		linear(o, l->k, l->k_b, o->y, o->qkv + hp->heads * d, ld);
		linear(o, l->v, l->v_b, o->y, o->qkv + (hp->heads + hp->kv_heads) * d, ld);
	}
	for (t = 0; t < o->n; t++)
		prepare_heads(o, l, t);
	if (o->kv)
		round_kv(o);
	for (t = 0; t < o->n; t++) {
		for (h = 0; h < hp->heads; h++)
			attend(o, t, h);
	}
	linear(o, l->out, l->out_b, o->attn, o->y, hp->hidden);
	add_to_stream(o);
}

static void feed_forward(const struct oracle *o, const struct unpu_layer *l)
{
	uint32_t hidden = o->arch->hp.hidden, ffn = o->arch->hp.ffn;
	size_t i;

	normalise_all(o, l->ffn_norm, l->ffn_norm_b);
	linear(o, l->up, l->up_b, o->y, o->up, ffn);
	if (l->gate)
		linear(o, l->gate, l->gate_b, o->y, o->gate, ffn);
	for (i = 0; i < o->n * ffn; i++) {
		if (l->gate)
			o->up[i] *= activate(o, o->gate[i]);
		else
			o->up[i] = activate(o, o->up[i]);
	}
	linear(o, l->down, l->down_b, o->up, o->y, hidden);
	add_to_stream(o);
}

/* ---- the whole -------------------------------------------------------------------------- */

static void embed(const struct oracle *o, const uint32_t *ids)
{
	uint32_t n = o->arch->hp.hidden, i;
	size_t t;

	for (t = 0; t < o->n; t++) {
		oracle_row(o->arch->embed, ids[t], o->x + t * n);
		if (!o->arch->positions)
			continue;
		oracle_row(o->arch->positions, t, o->row);
		for (i = 0; i < n; i++)
			o->x[t * n + i] += o->row[i];
	}
}

static void oracle_finish(struct oracle *o)
{
	free(o->x);
	free(o->y);
	free(o->qkv);
	free(o->attn);
	free(o->gate);
	free(o->up);
	free(o->row);
	free(o->scores);
}

static int oracle_init(struct oracle *o, const struct unpu_arch *arch, size_t n)
{
	const struct unpu_hparams *hp = &arch->hp;
	size_t q = (size_t)hp->heads * hp->head_dim, qkv = q + 2ul * hp->kv_heads * hp->head_dim;

	*o = (struct oracle){ .arch = arch, .n = n };
	o->x = calloc(n * hp->hidden, sizeof(double));
	o->y = calloc(n * hp->hidden, sizeof(double));
	o->qkv = calloc(n * qkv, sizeof(double));
	o->attn = calloc(n * q, sizeof(double));
	o->gate = calloc(n * hp->ffn, sizeof(double));
	o->up = calloc(n * hp->ffn, sizeof(double));
	o->row = calloc(hp->hidden + hp->ffn + qkv, sizeof(double));
	o->scores = calloc(n, sizeof(double));
	if (o->x && o->y && o->qkv && o->attn && o->gate && o->up && o->row && o->scores)
		return 0;
	oracle_finish(o);
	return -ENOMEM;
}

static int forward(const struct unpu_arch *arch, const uint32_t *ids, size_t n,
		   oracle_gelu_fn *gelu, oracle_kv_fn *kv, double *logits)
{
	struct oracle o;
	uint32_t i;
	int err;

	err = oracle_init(&o, arch, n);
	if (err)
		return err;
	o.gelu = gelu;
	o.kv = kv;
	embed(&o, ids);
	for (i = 0; i < arch->hp.layers; i++) {
		attention(&o, &arch->layers[i]);
		feed_forward(&o, &arch->layers[i]);
	}
	normalise_all(&o, arch->out_norm, arch->out_norm_b);
	linear(&o, arch->head, NULL, o.y, logits, arch->hp.vocab);
	oracle_finish(&o);
	return 0;
}

int oracle_logits(const struct unpu_arch *arch, const uint32_t *ids, size_t n, double *logits)
{
	return forward(arch, ids, n, gelu_tanh, NULL, logits);
}

int oracle_logits_gelu(const struct unpu_arch *arch, const uint32_t *ids, size_t n,
		       oracle_gelu_fn *gelu, double *logits)
{
	return forward(arch, ids, n, gelu, NULL, logits);
}

int oracle_logits_kv(const struct unpu_arch *arch, const uint32_t *ids, size_t n, oracle_kv_fn *kv,
		     double *logits)
{
	return forward(arch, ids, n, gelu_tanh, kv, logits);
}
