/* SPDX-License-Identifier: MIT */
/*
 * A persistent pool of threads that run one function together, step by step. The thread that calls
 * unpu_pool_run() is worker 0.
 */
#ifndef UNPU_POOL_H
#define UNPU_POOL_H

#include <stdint.h>

#include "runtime/log.h"

#define UNPU_POOL_MAX_THREADS	64u

struct unpu_pool;

typedef void unpu_pool_fn(void *arg, uint32_t worker);
typedef void unpu_pool_serial_fn(void *arg);

/* Processors this process may use: affinity mask and cgroup quota; on machines with cores of
 * different size the big ones only. Never 0. */
uint32_t unpu_pool_usable_cpus(void);

/* threads 0: usable processors, up to 8. */
int unpu_pool_create(uint32_t threads, const struct unpu_log *log, struct unpu_pool **pool);
void unpu_pool_destroy(struct unpu_pool *pool);
uint32_t unpu_pool_threads(const struct unpu_pool *pool);

/* fn on all workers; returns when all of them have. One call at a time. */
void unpu_pool_run(struct unpu_pool *pool, unpu_pool_fn *fn, void *arg);

/*
 * Called by every worker inside fn. What they did before is visible to all of them after. The last
 * to arrive runs serial (which may be NULL) while the others wait.
 */
void unpu_pool_barrier(struct unpu_pool *pool, unpu_pool_serial_fn *serial, void *arg);

#endif
