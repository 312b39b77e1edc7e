/* SPDX-License-Identifier: MIT */
/*
 * A persistent pool of threads that work off a job together, phase by phase. A phase is a number of
 * units; each worker has a share of them and takes it in pieces, then from the shares of others. A
 * phase ends with its last unit, so that a worker without a processor holds up the others with no
 * more than the piece that it is at. The thread that calls unpu_pool_run() is worker 0.
 */
#ifndef UNPU_POOL_H
#define UNPU_POOL_H

#include <stdint.h>

#include "runtime/log.h"

#define UNPU_POOL_MAX_THREADS	64u

struct unpu_pool;

/* Of a worker in a phase; the pool's own. */
struct unpu_pool_share {
	struct unpu_pool *pool;
	uint32_t worker;
	uint32_t first, last;	/* a piece that was taken and not asked for yet */
	uint32_t taken;
};

/* Which team works: each has its own size and shares. */
enum unpu_pool_kind {
	UNPU_POOL_DECODE,
	UNPU_POOL_PROMPT,
	UNPU_POOL_KINDS
};

struct unpu_pool_job {
	/*
	 * Sets the next phase up; returns its units, 0: the job is over. Called while no unit is
	 * being worked on, by any worker; sees all that was done and is seen by all that will be.
	 */
	uint32_t (*next)(void *arg);
	/*
	 * By any worker, or none: works on what unpu_pool_take() gives until it gives nothing. What
	 * the phase reads may be read before the first piece is asked for.
	 */
	void (*work)(void *arg, struct unpu_pool_share *share);
	void *arg;
	enum unpu_pool_kind kind;
	uint32_t amount;	/* of work, in rows: what the time of jobs is compared by */
};

struct unpu_pool_params {
	uint32_t threads;	/* 0: usable processors, up to 8; the best number of them works */
	int clamp;		/* no more threads than usable processors */
};

/* Processors this process may use: affinity mask and cgroup quota; on machines with cores of
 * different size the big ones only. Never 0. */
uint32_t unpu_pool_usable_cpus(void);

/* With fewer threads, and a warning, when the system refuses more. */
int unpu_pool_create(const struct unpu_pool_params *params, const struct unpu_log *log,
		     struct unpu_pool **pool);
void unpu_pool_destroy(struct unpu_pool *pool);
/* All of them, and those that work at present. */
uint32_t unpu_pool_threads(const struct unpu_pool *pool);
uint32_t unpu_pool_team(const struct unpu_pool *pool, enum unpu_pool_kind kind);

/* Returns when the job is over. One call at a time. */
void unpu_pool_run(struct unpu_pool *pool, const struct unpu_pool_job *job);

/* Units [*first, *last) are this worker's to do; 0: there are none left. */
int unpu_pool_take(struct unpu_pool_share *share, uint32_t *first, uint32_t *last);

/* Called by each worker before each piece, with how many units it has. Does nothing: tests are
 * linked with another one, which makes workers slow. */
void unpu_pool_hook_piece(uint32_t worker, uint32_t units);

#endif
