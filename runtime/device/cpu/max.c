/* SPDX-License-Identifier: MIT */
#include <math.h>

#include "runtime/device/cpu/c.h"

void unpu_max_c(const float *x, uint32_t n, float *max, uint32_t *at)
{
	uint32_t best = 0;

	/* The first NaN beats all and is never beaten. */
	for (uint32_t i = 1; i < n && !isnan(x[best]); i++)
		if (x[i] > x[best] || isnan(x[i]))
			best = i;
	*max = x[best];
	*at = best;
}
