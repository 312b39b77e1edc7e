/* SPDX-License-Identifier: MIT */
/*
 * Threads that walk the same steps side by side, unlike those of the cpu device's pool, which take
 * what there is: a step of training is long, and a barrier between two of them is cheap beside it.
 */
#ifndef UNPU_TRAIN_TEAM_H
#define UNPU_TRAIN_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "train/kernels.h"

#define UNPU_TEAM_MAX	64u

struct unpu_team;

/* One thread's view. */
struct unpu_member {
	struct unpu_team *team;
	uint32_t thread;
};

struct unpu_team {
	const struct unpu_train_ops *ops;
	uint32_t threads;
	float *packed[2];	/* of all: the second operand of a product, in turn */
	float **own;		/* of each thread: a tile of the first operand, and rows */
	/* The rest is team.c's. */
	atomic_uint arrived, generation;
	uint32_t started, spins;
	int quit;
	void (*run)(void *arg, uint32_t thread);
	void *arg;
	struct unpu_member members[UNPU_TEAM_MAX];
	pthread_t ids[UNPU_TEAM_MAX];
};

/* threads 0: as many as there are processors to use. -EAGAIN and the like: no threads to be had. */
int unpu_team_start(struct unpu_team *team, uint32_t threads);
void unpu_team_stop(struct unpu_team *team);
/* run(arg, 0..threads - 1), thread 0 being the caller; returns when all have. */
void unpu_team_run(struct unpu_team *team, void (*run)(void *arg, uint32_t thread), void *arg);

/* Called by every member inside run. What they did before is visible to all of them after. */
void unpu_member_wait(const struct unpu_member *me);

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
