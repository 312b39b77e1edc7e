/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/device/cpu/pool_priv.h"

#define POOL_DEFAULT_THREADS	8u

/* More than three times the imbalance of the longest phase of a small model; a futex costs 50 to
 * 90 us where a spin costs less than 2. */
#define POOL_SPIN_NS		40000u
/* Between two tokens the caller detokenizes and prints. */
#define POOL_IDLE_SPIN_NS	100000u

/*
 * On processors that others want too, a worker gives its own up between two phases before the
 * scheduler takes it in the middle of a piece, which would hold up all workers until it is back.
 * Slices are 0.75 ms at least; who was away for longer than POOL_AWAY_NS has a new one.
 */
#define POOL_TURN_NS		2400000u
#define POOL_AWAY_NS		400000u

/* A share is taken in halves, the last ones at least such a part of it: what is left when a worker
 * loses its processor can be had by others. Undisturbed, a share is four pieces of a token; phases
 * of prompts are long enough for more, and for their ends to differ by more. */
static const uint32_t pool_least_part[UNPU_POOL_KINDS] = {
	[UNPU_POOL_DECODE] = 8, [UNPU_POOL_PROMPT] = 16,
};

struct pool_worker {
	/* Units left of its share: from the lower to the upper 32 bits. Anybody takes from it. */
	_Alignas(POOL_LINE) _Atomic uint64_t left;
	/* Its own alone; worker 0 reads it between jobs. */
	_Alignas(POOL_LINE) uint64_t done;	/* parts of phases, each whole one pool->weight */
	uint64_t turn, seen;	/* when its slice began and when it was last looked at */
	struct unpu_pool *pool;
	pthread_t thread;
	uint32_t index;
};

#define POOL_WHOLE	(1u << 20)
/* Of fewer units for each worker, how many it does says where shares are cut, not how fast it is: a
 * unit more or less has to be well below what makes shares uneven. */
#define POOL_WEIGH_UNITS	8u

/* Each word that threads share for writing has a cache line of its own. */
struct unpu_pool {
	_Alignas(POOL_LINE) atomic_uint generation;	/* of phases; odd or even, no matter */
	_Alignas(POOL_LINE) atomic_uint unfinished;	/* units of the phase */
	_Alignas(POOL_LINE) atomic_uint sleepers;
	/* Written by who sets a phase up, read by all. */
	_Alignas(POOL_LINE) atomic_uint size;	/* workers that have shares; the others are off */
	atomic_uint piece;			/* the least one to take */
	atomic_uint running, quit, crowded;
	_Atomic uint64_t lost;			/* ns that workers slept in the job */
	_Alignas(POOL_LINE) const struct unpu_pool_job *job;
	uint32_t units, weight;			/* of the phase */
	struct unpu_pool_team *team;		/* of the job */
	uint32_t threads, usable;
	uint32_t started;			/* threads that exist, without worker 0 */
	uint32_t spins, idle_spins;
	pid_t process;
	struct unpu_pool_team teams[UNPU_POOL_KINDS];
	struct pool_worker workers[UNPU_POOL_MAX_THREADS];
};

/* ---- waiting ---------------------------------------------------------------------------- */

static inline void pool_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
	__asm__ volatile("yield" ::: "memory");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

static uint64_t pool_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A pause takes 4 to 140 cycles, by the core: the bound in turns is measured. */
static uint32_t pool_spins_per_100us(void)
{
	uint64_t best = UINT64_MAX;

	for (int try = 0; try < 3; try++) {
		uint64_t start = pool_now(), ns;

		for (int i = 0; i < 256; i++)
			pool_relax();
		ns = pool_now() - start;
		best = ns < best ? ns : best;
	}
	return (uint32_t)(256 * 100000ull / (best + 256));	/* + 1 ns for the load */
}

static void pool_futex(atomic_uint *word, int op, unsigned int value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/*
 * Until the generation is another one. A sleeper counts itself before the futex compares the
 * generation, who changes it does so before reading the count, both sequentially consistent: one of
 * them sees the other.
 */
static void pool_wait(struct unpu_pool *pool, unsigned int gen)
{
	int running = atomic_load_explicit(&pool->running, memory_order_relaxed) != 0;
	uint32_t spins = running ? pool->spins : pool->idle_spins;
	uint64_t start = 0;

	/* A spinner without a processor of its own holds the one that a straggler needs. */
	if (atomic_load_explicit(&pool->size, memory_order_relaxed) > pool->usable)
		spins = 0;
	for (uint32_t i = 0; i < spins; i++) {
		if (atomic_load_explicit(&pool->generation, memory_order_acquire) != gen)
			return;
		pool_relax();
	}
	if (running)
		start = pool_now();
	atomic_fetch_add(&pool->sleepers, 1);
	while (atomic_load(&pool->generation) == gen)
		pool_futex(&pool->generation, FUTEX_WAIT_PRIVATE, gen);
	atomic_fetch_sub(&pool->sleepers, 1);
	if (running)
		atomic_fetch_add_explicit(&pool->lost, pool_now() - start, memory_order_relaxed);
}

static void pool_wake(struct unpu_pool *pool)
{
	/* Not a store: emulators of ARM on x86 let the load below pass a release store. */
	atomic_fetch_add(&pool->generation, 1);
	if (atomic_load(&pool->sleepers))
		pool_futex(&pool->generation, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

/* Those past the team's size, until it grows. */
static void pool_park(struct unpu_pool *pool, unsigned int size)
{
	pool_futex(&pool->size, FUTEX_WAIT_PRIVATE, size);
}

/* ---- phases ----------------------------------------------------------------------------- */

static uint64_t pool_range(uint64_t first, uint64_t last)
{
	return first | last << 32;
}

/*
 * Deals the units out. The job and its phase were written before by this thread; who takes a piece
 * sees them by the release of `left`, of which all that happens to it is a read-modify-write until
 * the phase is over.
 */
static void pool_deal(struct unpu_pool *pool, uint32_t units, uint32_t dealer)
{
	const struct unpu_pool_team *team = pool->team;
	uint32_t size = team->size, piece = units;

	if (size > 1)
		piece = units / size / pool_least_part[pool->job->kind];

	pool->units = units;
	pool->weight = units / POOL_WEIGH_UNITS >= size ? POOL_WHOLE : 0;
	atomic_store_explicit(&pool->unfinished, units, memory_order_relaxed);
	atomic_store_explicit(&pool->piece, piece ? piece : 1, memory_order_relaxed);
	if (units == 1 && dealer < size) {
		/* The dealer is awake and goes on at once: nobody else needs to know. */
		atomic_store_explicit(&pool->workers[dealer].left, pool_range(0, 1),
				      memory_order_release);
		return;
	}
	for (uint32_t i = 0; i < size; i++)
		atomic_store_explicit(&pool->workers[i].left,
				      pool_range(units * team->edge[i] >> 32,
						 units * team->edge[i + 1] >> 32),
				      memory_order_release);
	pool_wake(pool);
}

/* All units of a phase are done, or a job begins: by the one thread that knows. */
static void pool_next(struct unpu_pool *pool, uint32_t dealer)
{
	uint32_t units = pool->job->next(pool->job->arg);

	if (units) {
		pool_deal(pool, units, dealer);
		return;
	}
	atomic_store_explicit(&pool->running, 0, memory_order_release);
	pool_wake(pool);
}

/*
 * From one worker's share: half of what is left of it. Between load and exchange the phase may have
 * become another one and the word the same again: then it is a piece of that, which is as good,
 * since all that is known of a phase is read after this.
 */
static int pool_take_from(struct unpu_pool *pool, struct pool_worker *victim, uint32_t *first,
			  uint32_t *last)
{
	uint64_t left = atomic_load_explicit(&victim->left, memory_order_relaxed);

	for (;;) {
		uint32_t from = (uint32_t)left, to = (uint32_t)(left >> 32), n = to - from;
		uint32_t least = atomic_load_explicit(&pool->piece, memory_order_relaxed);

		if (!n)
			return 0;
		if (n > least)
			n = n / 2 > least ? n - n / 2 : least;
		if (atomic_compare_exchange_weak_explicit(&victim->left, &left,
							  pool_range(from + n, to),
							  memory_order_acquire,
							  memory_order_relaxed)) {
			*first = from;
			*last = from + n;
			return 1;
		}
	}
}

/* Its own share, then the others'. */
static int pool_find(struct unpu_pool *pool, uint32_t worker, uint32_t *first, uint32_t *last)
{
	uint32_t size = atomic_load_explicit(&pool->size, memory_order_relaxed);

	for (uint32_t i = 0; i < size; i++)
		if (pool_take_from(pool, &pool->workers[(worker + i) % size], first, last))
			return 1;
	return 0;
}

int unpu_pool_take(struct unpu_pool_share *share, uint32_t *first, uint32_t *last)
{
	if (share->first == share->last &&
	    !pool_find(share->pool, share->worker, &share->first, &share->last))
		return 0;
	*first = share->first;
	*last = share->last;
	share->taken += share->last - share->first;
	share->first = share->last;
	unpu_pool_hook_piece(share->worker, *last - *first);
	return 1;
}

/*
 * Work until there is none, then 0. With the piece in hand the phase cannot end, and the job, the
 * phase and what it reads stay as they are.
 */
static int pool_work(struct unpu_pool *pool, struct pool_worker *worker)
{
	struct unpu_pool_share share = { .pool = pool, .worker = worker->index };

	if (!pool_find(pool, worker->index, &share.first, &share.last))
		return 0;
	pool->job->work(pool->job->arg, &share);
	worker->done += (uint64_t)share.taken * pool->weight / pool->units;
	if (atomic_fetch_sub_explicit(&pool->unfinished, share.taken, memory_order_acq_rel) ==
	    share.taken)
		pool_next(pool, worker->index);
	return 1;
}

/* Between two phases, of which it may be that none is left. */
static void pool_give_way(struct unpu_pool *pool, struct pool_worker *worker)
{
	uint64_t now;

	if (!atomic_load_explicit(&pool->crowded, memory_order_relaxed))
		return;
	now = pool_now();
	if (now - worker->seen > POOL_AWAY_NS) {
		worker->turn = now;
	} else if (now - worker->turn > POOL_TURN_NS) {
		sched_yield();
		now = pool_now();
		worker->turn = now;
	}
	worker->seen = now;
}

/* ---- jobs ------------------------------------------------------------------------------- */

static void *pool_thread(void *arg)
{
	struct pool_worker *worker = arg;
	struct unpu_pool *pool = worker->pool;

	for (;;) {
		unsigned int gen = atomic_load_explicit(&pool->generation, memory_order_acquire);
		unsigned int size = atomic_load_explicit(&pool->size, memory_order_relaxed);

		/* After the generation, the last of which comes behind it: or who has read that
		 * and missed this would sleep for good. */
		if (atomic_load_explicit(&pool->quit, memory_order_acquire))
			return NULL;
		if (worker->index >= size)
			pool_park(pool, size);
		else if (!pool_work(pool, worker))
			pool_wait(pool, gen);
		else
			pool_give_way(pool, worker);
	}
}

static void pool_set_size(struct unpu_pool *pool, unsigned int size)
{
	unsigned int old = atomic_load_explicit(&pool->size, memory_order_relaxed);

	if (size == old)
		return;
	atomic_store(&pool->size, size);
	if (size > old)
		pool_futex(&pool->size, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

/* What the team is to be the next time, by what this job took. */
static void pool_judge(struct unpu_pool *pool, uint64_t start)
{
	struct unpu_pool_team *team = pool->team;
	uint64_t now = pool_now(), done[UNPU_POOL_MAX_THREADS];
	uint32_t size = team->size;

	for (uint32_t i = 0; i < pool->threads; i++) {
		done[i] = pool->workers[i].done;
		pool->workers[i].done = 0;
	}
	unpu_pool_team_weigh(team, done);
	unpu_pool_team_judge(team, now, now - start, pool->job->amount,
			     atomic_exchange_explicit(&pool->lost, 0, memory_order_relaxed));
	if (team->size != size)
		unpu_pool_team_cut(team);
}

void unpu_pool_run(struct unpu_pool *pool, const struct unpu_pool_job *job)
{
	uint64_t start = pool_now();

	pool->job = job;
	pool->team = &pool->teams[job->kind];
	pool_set_size(pool, pool->team->size);
	atomic_store_explicit(&pool->crowded, start < pool->team->crowded_until,
			      memory_order_relaxed);
	atomic_store_explicit(&pool->running, 1, memory_order_relaxed);
	pool_next(pool, 0);
	for (;;) {
		unsigned int gen = atomic_load_explicit(&pool->generation, memory_order_acquire);

		if (!atomic_load_explicit(&pool->running, memory_order_acquire))
			break;
		if (!pool_work(pool, &pool->workers[0]))
			pool_wait(pool, gen);
		else
			pool_give_way(pool, &pool->workers[0]);
	}
	if (pool->threads > 1)
		pool_judge(pool, start);
}

/* ---- threads ---------------------------------------------------------------------------- */

/* The caller's own affinity is not the library's to change: only workers are kept to cores. */
static int pool_start_one(struct unpu_pool *pool, const cpu_set_t *keep)
{
	struct pool_worker *worker = &pool->workers[pool->started + 1];
	pthread_attr_t attr;
	int err = -1;

	if (keep && !pthread_attr_init(&attr)) {
		err = pthread_attr_setaffinity_np(&attr, sizeof(*keep), keep);
		if (!err)
			err = pthread_create(&worker->thread, &attr, pool_thread, worker);
		pthread_attr_destroy(&attr);
	}
	if (err)
		err = pthread_create(&worker->thread, NULL, pool_thread, worker);
	if (!err)
		pool->started++;
	return err;
}

static int pool_start(struct unpu_pool *pool, const struct unpu_pool_cpus *cpus)
{
	int err = 0, pinned = cpus->pinned && pool->threads <= cpus->count + cpus->helpers;
	sigset_t all, old;

	/* Signals are the application's threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (!err && pool->started + 1 < pool->threads)
		err = pool_start_one(pool, !pinned ? NULL : pool->started + 1 < cpus->count ?
						    &cpus->big : &cpus->little);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* 0 threads: all processors work on prompts, the big ones decode. */
static void pool_teams(struct unpu_pool *pool, const struct unpu_pool_cpus *cpus, int chosen)
{
	uint32_t decode = pool->threads;

	if (chosen && decode > cpus->count)
		decode = cpus->count;
	unpu_pool_team_init(&pool->teams[UNPU_POOL_DECODE], decode, pool->threads, chosen);
	unpu_pool_team_init(&pool->teams[UNPU_POOL_PROMPT], pool->threads, pool->threads, 0);
	if (!cpus->pinned || pool->threads > cpus->count + cpus->helpers)
		return;
	for (uint32_t kind = 0; kind < UNPU_POOL_KINDS; kind++) {
		for (uint32_t i = cpus->count; i < pool->threads; i++)
			pool->teams[kind].speed[i] = cpus->little_speed;
		unpu_pool_team_cut(&pool->teams[kind]);
	}
}

static uint32_t pool_count(const struct unpu_pool_params *params,
			   const struct unpu_pool_cpus *cpus, const struct unpu_log *log)
{
	uint32_t most = cpus->count + cpus->helpers;

	if (!params->threads)
		return most < POOL_DEFAULT_THREADS ? most : POOL_DEFAULT_THREADS;
	if (!params->clamp || params->threads <= most)
		return params->threads;
	unpu_log(log, UNPU_LOG_INFO, "cpu: %u threads on %u processor%s: %u work", params->threads,
		 most, most == 1 ? "" : "s", most);
	return most;
}

static struct unpu_pool *pool_alloc(uint32_t threads, uint32_t usable)
{
	struct unpu_pool *pool = aligned_alloc(POOL_LINE, sizeof(*pool));

	if (!pool)
		return NULL;
	memset(pool, 0, sizeof(*pool));
	pool->threads = threads;
	pool->usable = usable;
	pool->process = getpid();
	for (uint32_t i = 0; i < threads; i++) {
		pool->workers[i].pool = pool;
		pool->workers[i].index = i;
	}
	if (threads > 1) {
		uint32_t turns = pool_spins_per_100us();

		pool->spins = (uint32_t)((uint64_t)turns * POOL_SPIN_NS / 100000);
		pool->idle_spins = (uint32_t)((uint64_t)turns * POOL_IDLE_SPIN_NS / 100000);
	}
	return pool;
}

int unpu_pool_create(const struct unpu_pool_params *params, const struct unpu_log *log,
		     struct unpu_pool **out)
{
	struct unpu_pool_cpus cpus;
	struct unpu_pool *pool;
	int err;

	if (params->threads > UNPU_POOL_MAX_THREADS)
		return unpu_fail(log, -EINVAL, "cpu: %u threads, at most %u are supported",
				 params->threads, UNPU_POOL_MAX_THREADS);
	unpu_pool_cpus_find(&cpus);
	pool = pool_alloc(pool_count(params, &cpus, log), cpus.count + cpus.helpers);
	if (!pool)
		return unpu_fail(log, -ENOMEM, "cpu: no memory for the thread pool");
	pool->size = pool->threads;
	/* Never 0, to a thread that sees the first share before the phase's: a piece of nothing
	 * is counted off when the phase may be over. */
	pool->piece = 1;
	err = pool_start(pool, &cpus);
	if (err) {
		unpu_log(log, UNPU_LOG_WARN, "cpu: %u of %u threads: %s", pool->started + 1,
			 pool->threads, strerror(err));
		pool->threads = pool->started + 1;
	}
	pool_teams(pool, &cpus, !params->threads);
	*out = pool;
	return 0;
}

void unpu_pool_destroy(struct unpu_pool *pool)
{
	if (!pool)
		return;
	/* In a child of the process there is no thread but the one that forked. */
	if (pool->process == getpid()) {
		atomic_store_explicit(&pool->quit, 1, memory_order_release);
		atomic_store(&pool->size, pool->threads);
		pool_futex(&pool->size, FUTEX_WAKE_PRIVATE, INT32_MAX);
		pool_wake(pool);
		for (uint32_t i = 1; i <= pool->started; i++)
			pthread_join(pool->workers[i].thread, NULL);
	}
	free(pool);
}

uint32_t unpu_pool_threads(const struct unpu_pool *pool)
{
	return pool->threads;
}

uint32_t unpu_pool_team(const struct unpu_pool *pool, enum unpu_pool_kind kind)
{
	return pool->teams[kind].size;
}
