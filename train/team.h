/* SPDX-License-Identifier: MIT */
/* What every function that all threads run together is told. */
#ifndef UNPU_TRAIN_TEAM_H
#define UNPU_TRAIN_TEAM_H

#include "runtime/device/cpu/pool.h"
#include "train/kernels.h"

struct unpu_team {
	const struct unpu_train_ops *ops;
	struct unpu_pool *pool;
	uint32_t threads;
	float *packed[2];	/* of all: the second operand of a product, in turn */
	float **own;		/* of each thread: a tile of the first operand, and rows */
	size_t own_floats;
};

/* One thread's view. */
struct unpu_member {
	struct unpu_team *team;
	uint32_t thread;
};

/* What they did before is visible to all of them after. */
static inline void unpu_member_wait(const struct unpu_member *me)
{
	unpu_pool_barrier(me->team->pool, NULL, NULL);
}

/* Items [*first, *last) of n are this thread's, in whole units. */
static inline void unpu_member_share(const struct unpu_member *me, size_t n, size_t unit,
				     size_t *first, size_t *last)
{
	size_t units = (n + unit - 1) / unit, threads = me->team->threads;

	*first = units * me->thread / threads * unit;
	*last = units * (me->thread + 1) / threads * unit;
	if (*first > n)
		*first = n;
	if (*last > n)
		*last = n;
}

#endif
