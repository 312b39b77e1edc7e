/* SPDX-License-Identifier: MIT */
/* What the parts of the pool share: pool.c works, pool_team.c says who does, pool_cpus.c where. */
#ifndef UNPU_POOL_PRIV_H
#define UNPU_POOL_PRIV_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/device/cpu/pool.h"

#define POOL_LINE	64

/* Processors that the process may use. */
struct unpu_pool_cpus {
	uint32_t count;		/* that decode, at least 1 */
	uint32_t helpers;	/* slower ones, for prompts */
	int pinned;		/* big and little hold what their names say */
	cpu_set_t big, little;
	double little_speed;	/* of a helper, by that of a big one */
};

void unpu_pool_cpus_find(struct unpu_pool_cpus *cpus);
/* The smallest quota of the cgroup and those around it, in processors rounded up; UINT32_MAX: none.
 * root: "", or where a test keeps its /proc and /sys. */
uint32_t unpu_pool_cpus_quota(const char *root);

/* Of a window: jobs that are judged together. */
struct unpu_pool_window {
	uint64_t ns, amount, lost;
	uint32_t jobs;
};

/* How many threads are best, when that is the pool's to choose: asked once, at the first tokens. */
enum unpu_pool_ask {
	UNPU_POOL_ASKED,	/* or never */
	UNPU_POOL_ASK_WARM,	/* jobs that do not count: pages and caches are cold */
	UNPU_POOL_ASK_FIRST,	/* those of the size at first */
	UNPU_POOL_ASK_LESS	/* those of a smaller one */
};

struct unpu_pool_team {
	uint32_t size, most;
	uint32_t from;		/* != 0: size is on trial against this one, */
	double steady;		/* which took so many ns a row */
	enum unpu_pool_ask ask;
	struct unpu_pool_window window;
	uint64_t crowded_until;	/* others want its processors too */
	uint64_t shrink_at, grow_at, shrink_wait, grow_wait;	/* ns of the monotonic clock */
	double speed[UNPU_POOL_MAX_THREADS];	/* of the work lately; 1: as much as the mean */
	int uneven;		/* shares are by speed; else alike */
	/* Worker's units of n are [n * edge[worker] >> 32, n * edge[worker + 1] >> 32). */
	uint64_t edge[UNPU_POOL_MAX_THREADS + 1];
};

void unpu_pool_team_init(struct unpu_pool_team *team, uint32_t size, uint32_t most, int ask);
/* After a job that took ns, of which the workers together slept `lost`. */
void unpu_pool_team_judge(struct unpu_pool_team *team, uint64_t now, uint64_t ns, uint32_t amount,
			  uint64_t lost);
/* done: what each worker did of the job, in any unit. */
void unpu_pool_team_weigh(struct unpu_pool_team *team, const uint64_t *done);
/* The shares by speed, when speeds were set. */
void unpu_pool_team_cut(struct unpu_pool_team *team);

#endif
