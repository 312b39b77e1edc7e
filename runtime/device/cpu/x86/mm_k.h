/* SPDX-License-Identifier: MIT */
/*
 * What the x86 twins of the families Q4K, Q6K and Q8A share: the token's share of each block of a
 * product is worked out once for all panels of a call.
 */
#ifndef UNPU_CPU_X86_MM_K_H
#define UNPU_CPU_X86_MM_K_H

#include "runtime/device/cpu/x86/x86.h"

#define GROUP		8	/* blocks that share d and dmin */
#define MAX_INPUTS	1024	/* 16 KiB of a stack */

/* One block of one token. */
struct input {
	float d;
	float sum;		/* Q8A: of the 32 q; Q4K: times d */
	int32_t low, high;	/* what the sums of its halves begin with */
};

/* Some tokens' inputs, [block][token], for blocks b0 .. b1 of their rows. */
struct inputs {
	struct input at[MAX_INPUTS];
	uint32_t t0, b0, b1;
};

/*
 * A quant is stored with `bias` added to it: the sum of each half begins at -bias * (sum of its 16
 * q). scaled: sum is that of the values, not of q.
 */
UNPU_INLINE void set_input(struct input *in, const int8_t *q, float d, int32_t sum, int32_t bias,
			   int scaled)
{
	in->d = d;
	in->sum = scaled ? d * (float)sum : (float)sum;
	if (bias) {
		/* a pair of q fits int16; each half of the vector has 16 k */
		__m256i v = _mm256_maddubs_epi16(_mm256_set1_epi8(1),
						 _mm256_loadu_si256((const __m256i *)q));

		v = _mm256_madd_epi16(v, _mm256_set1_epi16((int16_t)-bias));
		v = _mm256_hadd_epi32(v, v);
		v = _mm256_hadd_epi32(v, v);
		in->low = _mm256_cvtsi256_si32(v);
		in->high = _mm_cvtsi128_si32(_mm256_extracti128_si256(v, 1));
	}
}

UNPU_SHARED void set_inputs(const struct unpu_mm_args *a, struct inputs *in, uint32_t tokens,
			    int32_t bias, int scaled)
{
	const uint32_t blocks = unpu_pad32(a->k) / 32;
	struct input *to = in->at;

	for (uint32_t b = in->b0; b < in->b1; b++)
		for (uint32_t t = 0; t < tokens; t++, to++) {
			uint64_t at = (uint64_t)(in->t0 + t) * blocks + b;

			set_input(to, a->q + 32 * at, a->d[at], a->sum[at], bias, scaled);
		}
}

#endif
