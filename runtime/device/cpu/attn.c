/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/c.h"
#include "runtime/half.h"

/* Element i of cell j of K or V. */
typedef float load_fn(const void *p, const uint16_t *scales, uint32_t n, uint64_t j, uint32_t i);

static float load_f32(const void *p, const uint16_t *scales, uint32_t n, uint64_t j, uint32_t i)
{
	(void)scales;
	return ((const float *)p)[j * n + i];
}

static float load_f16(const void *p, const uint16_t *scales, uint32_t n, uint64_t j, uint32_t i)
{
	(void)scales;
	return unpu_f16_float(((const uint16_t *)p)[j * n + i]);
}

static float load_int8(const void *p, const uint16_t *scales, uint32_t n, uint64_t j, uint32_t i)
{
	return (float)((const int8_t *)p)[j * n + i] *
	       unpu_f16_float(scales[j * unpu_kv_scales(n) + i / 32]);
}

/* Turns scores into weights in place. A NaN among them stays in its own weight and in the sum. */
static void softmax(float *s, uint32_t cells, float *ms)
{
	float m = -INFINITY, sum = 0;

	for (uint32_t j = 0; j < cells; j++)
		m = s[j] > m ? s[j] : m;
	for (uint32_t j = 0; j < cells; j++) {
		s[j] = expf(s[j] - m);
		sum += s[j];
	}
	ms[0] = m;
	ms[1] = sum;
}

static inline void attn_head(const struct unpu_attn_args *a, uint32_t head, load_fn *load)
{
	const float *q = a->q + head * a->ldq;
	float *o = a->o + head * a->ldo;
	uint32_t n = a->head_dim;
	float s[UNPU_CHUNK];

	for (uint32_t j = 0; j < a->cells; j++) {
		float part[8] = { 0 };

		for (uint32_t i = 0; i < n; i++)
			part[i % 8] += q[i] * load(a->k, a->k_scales, n, j, i);
		s[j] = a->scale * (((part[0] + part[1]) + (part[2] + part[3])) +
				   ((part[4] + part[5]) + (part[6] + part[7])));
	}
	softmax(s, a->cells, a->ms + 2 * head);
	for (uint32_t i = 0; i < n; i++)
		o[i] = 0;
	for (uint32_t j = 0; j < a->cells; j++)
		for (uint32_t i = 0; i < n; i++)
			o[i] += s[j] * load(a->v, a->v_scales, n, j, i);
}

void unpu_attn_f32_c(const struct unpu_attn_args *args)
{
	for (uint32_t head = 0; head < args->group; head++)
		attn_head(args, head, load_f32);
}

void unpu_attn_f16_c(const struct unpu_attn_args *args)
{
	for (uint32_t head = 0; head < args->group; head++)
		attn_head(args, head, load_f16);
}

void unpu_attn_int8_c(const struct unpu_attn_args *args)
{
	for (uint32_t head = 0; head < args->group; head++)
		attn_head(args, head, load_int8);
}
