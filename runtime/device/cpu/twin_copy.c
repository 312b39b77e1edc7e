/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

#define COPY_UNIT	65536u

static void copy_run(const struct unpu_twin_args *args)
{
	const struct unpu_copy_const *c = args->constants;
	uint64_t bytes = (uint64_t)c->bytes_hi << 32 | c->bytes_lo;
	uint64_t first, last;

	unpu_twin_share(args, (bytes + COPY_UNIT - 1) / COPY_UNIT, &first, &last);
	first *= COPY_UNIT;
	last = last * COPY_UNIT < bytes ? last * COPY_UNIT : bytes;
	if (first < last)
		memmove((uint8_t *)args->bindings[UNPU_COPY_DST] + first,
			(const uint8_t *)args->bindings[UNPU_COPY_SRC] + first, last - first);
}

const struct unpu_twin unpu_twin_copy = {
	.stateless = 1,
	.run = copy_run,
};
