/* SPDX-License-Identifier: MIT */
/* IEEE half and bfloat16 in integers: for packing, and where there are no instructions for them. */
#ifndef UNPU_HALF_H
#define UNPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline float unpu_bits_float(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint32_t unpu_float_bits(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline float unpu_bf16_float(uint16_t b)
{
	return unpu_bits_float((uint32_t)b << 16);
}

static inline float unpu_f16_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exp = h >> 10 & 31;
	uint32_t man = h & 0x3ff;

	/* Subnormal: man * 2^-24 is exact, and the integer keeps its sign apart (man may be 0). */
	if (exp == 0)
		return unpu_bits_float(sign | unpu_float_bits((float)man * 0x1p-24f));
	if (exp == 31)	/* NaNs come out quiet, as from the instructions */
		return unpu_bits_float(sign | 0x7f800000 | (man ? 0x400000 | man << 13 : 0));
	return unpu_bits_float(sign | (exp + 112) << 23 | man << 13);
}

/* Round to nearest even; too large gives infinity, NaN stays NaN (quiet, upper payload kept). */
static inline uint16_t unpu_float_f16(float f)
{
	uint32_t bits = unpu_float_bits(f);
	uint16_t sign = bits >> 16 & 0x8000;
	uint32_t abs = bits & 0x7fffffff;

	if (abs > 0x7f800000)
		return sign | 0x7e00 | (abs >> 13 & 0x3ff);
	if (abs >= 0x477ff000)	/* 65520, half way from the largest half to the next power */
		return sign | 0x7c00;
	if (abs < 0x38800000)	/* below 2^-14: adding 1/2 leaves the rounded subnormal below it */
		return sign | (unpu_float_bits(unpu_bits_float(abs) + 0.5f) - 0x3f000000);
	return sign | ((abs - 0x38000000 + 0xfff + (abs >> 13 & 1)) >> 13);
}

#endif
