/* SPDX-License-Identifier: MIT */
#include "train/quantize.h"

#include <math.h>
#include <string.h>

#include "runtime/half.h"
#include "runtime/model/gguf.h"

#define BLOCK	32u

bool unpu_quantize_type(uint32_t type, uint32_t k)
{
	switch (type) {
	case UNPU_TYPE_F32:
	case UNPU_TYPE_F16:
		return true;
	case UNPU_TYPE_Q8_0:
	case UNPU_TYPE_Q4_0:
		return k % BLOCK == 0;
	}
	return false;
}

size_t unpu_quantize_bytes(uint32_t type, uint32_t k)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	return (size_t)k / info->block * info->bytes;
}

static uint8_t *put_half(uint8_t *out, float value)
{
	uint16_t bits = unpu_float_f16(value);

	memcpy(out, &bits, sizeof(bits));
	return out + sizeof(bits);
}

static void row_q8_0(const float *x, uint32_t k, uint8_t *out)
{
	for (uint32_t b = 0; b < k; b += BLOCK, x += BLOCK) {
		float most = 0, d;

		for (uint32_t i = 0; i < BLOCK; i++)
			most = fmaxf(most, fabsf(x[i]));
		d = unpu_f16_float(unpu_float_f16(most / 127));
		out = put_half(out, d);
		for (uint32_t i = 0; i < BLOCK; i++) {
			float q = d > 0 ? rintf(x[i] / d) : 0;

			*out++ = (uint8_t)(int8_t)fminf(fmaxf(q, -127), 127);
		}
	}
}

static float quant4(float x, float inverse)
{
	return fminf(fmaxf(rintf(x * inverse), -8), 7);
}

static float error4(const float *x, float d)
{
	float sum = 0;

	for (uint32_t i = 0; i < BLOCK; i++) {
		float e = x[i] - d * quant4(x[i], 1 / d);

		sum += e * e;
	}
	return sum;
}

/* As it is stored, so that the quants fit it. */
static float half_of(float x)
{
	return unpu_f16_float(unpu_float_f16(x));
}

/* Scales from 6.5 to 9.5 steps to the largest weight, on either side. */
static float scale4(const float *x)
{
	float most = 0, best = 0, least = INFINITY;

	for (uint32_t i = 0; i < BLOCK; i++)
		if (fabsf(x[i]) > fabsf(most))
			most = x[i];
	for (int step = 26; step <= 38; step++) {
		for (int sign = -1; sign <= 1; sign += 2) {
			float d = half_of(sign * 4 * most / (float)step), error;

			if (d == 0)
				continue;
			error = error4(x, d);
			if (error < least) {
				least = error;
				best = d;
			}
		}
	}
	return best;
}

static void row_q4_0(const float *x, uint32_t k, uint8_t *out)
{
	for (uint32_t b = 0; b < k; b += BLOCK, x += BLOCK) {
		float d = scale4(x), inverse = d != 0 ? 1 / d : 0;

		out = put_half(out, d);
		for (uint32_t i = 0; i < BLOCK / 2; i++) {
			int low = (int)quant4(x[i], inverse) + 8;
			int high = (int)quant4(x[i + BLOCK / 2], inverse) + 8;

			*out++ = (uint8_t)(low | high << 4);
		}
	}
}

void unpu_quantize_row(uint32_t type, const float *x, uint32_t k, void *out)
{
	uint8_t *p = out;

	switch (type) {
	case UNPU_TYPE_F16:
		for (uint32_t i = 0; i < k; i++)
			p = put_half(p, x[i]);
		break;
	case UNPU_TYPE_Q8_0:
		row_q8_0(x, k, p);
		break;
	case UNPU_TYPE_Q4_0:
		row_q4_0(x, k, p);
		break;
	default:
		memcpy(p, x, (size_t)k * sizeof(*x));
	}
}
