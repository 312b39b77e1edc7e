/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "runtime/device/cpu/c.h"
#include "runtime/half.h"

/* Of a copy: x may change meanwhile, and what no longer is below m has no int8. */
static void quantize_block(const float *from, int8_t *q, float *d, int32_t *sum)
{
	uint32_t top = 0;
	float x[32], m, inv;
	int32_t s = 0;

	memcpy(x, from, sizeof(x));
	/* Magnitudes order as their bits do, and NaN lies above infinity. */
	for (int i = 0; i < 32; i++) {
		uint32_t abs = unpu_float_bits(x[i]) & 0x7fffffff;

		top = abs > top ? abs : top;
	}
	m = unpu_bits_float(top);
	*sum = 0;
	if (!(m >= 1e-30f) || top >= 0x7f800000) {
		memset(q, 0, 32);
		*d = top >= 0x7f800000 ? NAN : 0;
		return;
	}
	inv = 127 / m;
	for (int i = 0; i < 32; i++) {
		/* |x| <= m, so |x * inv| < 127.5 whatever the two roundings do */
		q[i] = (int8_t)rintf(x[i] * inv);
		s += q[i];
	}
	*d = m / 127;
	*sum = s;
}

void unpu_quantize_c(const float *x, uint32_t k, int8_t *q, float *d, int32_t *sum)
{
	for (uint32_t b = 0; b < k / 32; b++)
		quantize_block(x + 32 * b, q + 32 * b, d + b, sum + b);
}

void unpu_to_f16_c(const float *x, uint32_t n, uint16_t *out)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = unpu_float_f16(x[i]);
}
