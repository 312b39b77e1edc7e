/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

#include <string.h>

#define COPY_UNIT	65536u

static uint64_t copy_bytes(const struct unpu_twin_args *args)
{
	const struct unpu_copy_const *c = args->constants;

	return (uint64_t)c->bytes_hi << 32 | c->bytes_lo;
}

static uint32_t copy_units(const struct unpu_twin_args *args)
{
	uint64_t bytes = copy_bytes(args);

	return (uint32_t)(bytes / COPY_UNIT + !!(bytes % COPY_UNIT));
}

static void copy_run(const struct unpu_twin_args *args)
{
	uint64_t bytes = copy_bytes(args);
	struct unpu_twin_part part = { 0 };

	while (unpu_twin_take(args, copy_units(args), &part)) {
		uint64_t first = (uint64_t)part.first * COPY_UNIT;
		uint64_t last = (uint64_t)part.last * COPY_UNIT;

		last = last < bytes ? last : bytes;
		memmove((uint8_t *)args->bindings[UNPU_COPY_DST] + first,
			(const uint8_t *)args->bindings[UNPU_COPY_SRC] + first, last - first);
	}
}

const struct unpu_twin unpu_twin_copy = {
	.stateless = 1,
	.run = copy_run,
	.units = copy_units,
};
