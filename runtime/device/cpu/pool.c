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

#define POOL_DEFAULT_THREADS	8u
#define POOL_LINE		64

/* More than three times the imbalance of the longest phase of a small model; a futex costs 50 to
 * 90 us where a spin costs less than 2. */
#define POOL_SPIN_NS		40000u
/* Between two tokens the caller detokenizes and prints. */
#define POOL_IDLE_SPIN_NS	100000u

struct pool_worker {
	struct unpu_pool *pool;
	pthread_t thread;
	uint32_t index;
};

/* Each word that threads share for writing has a cache line of its own. */
struct unpu_pool {
	_Alignas(POOL_LINE) atomic_uint arrived;
	_Alignas(POOL_LINE) atomic_uint generation;
	_Alignas(POOL_LINE) atomic_uint sleepers;
	_Alignas(POOL_LINE) uint32_t threads;
	uint32_t started;	/* threads that exist, without worker 0 */
	uint32_t spins, idle_spins;
	int quit;
	unpu_pool_fn *fn;
	void *arg;
	struct pool_worker workers[UNPU_POOL_MAX_THREADS];
};

/* ---- which processors ------------------------------------------------------------------- */

/* One small file of /proc or /sys; 0 when it cannot be read. */
static size_t pool_read(const char *path, char *text, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return 0;
	n = fread(text, 1, size - 1, f);
	fclose(f);
	text[n] = '\0';
	return n;
}

/* Processors that the cgroup's quota amounts to, rounded up; a large number without one. */
static uint32_t pool_quota(void)
{
	char text[512], path[640];
	unsigned long long quota, period;
	char *line, *end;

	if (!pool_read("/proc/self/cgroup", text, sizeof(text)))
		return UINT32_MAX;
	line = strstr(text, "0::/");
	if (!line)
		return UINT32_MAX;
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", line + 3);
	if (!pool_read(path, text, sizeof(text)))
		return UINT32_MAX;
	if (sscanf(text, "%llu %llu", &quota, &period) != 2 || !quota || !period)
		return UINT32_MAX;
	quota = (quota + period - 1) / period;
	return quota > UINT32_MAX ? UINT32_MAX : (uint32_t)quota;
}

/* Relative speed as the kernel tells it; 1024 on machines whose cores are alike. */
static unsigned int pool_capacity(int cpu)
{
	char text[32], path[80];
	unsigned int capacity;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/cpu_capacity", cpu);
	if (!pool_read(path, text, sizeof(text)) || sscanf(text, "%u", &capacity) != 1)
		return 1024;
	return capacity;
}

/* Drops the processors slower than 3/4 of the fastest: with static shares the slowest thread sets
 * the pace (8 threads on 4 big and 4 little cores were measured at a quarter of 4 big ones). */
static int pool_keep_big(cpu_set_t *cpus)
{
	unsigned int capacity[CPU_SETSIZE] = { 0 }, top = 0;
	int i, dropped = 0;

	for (i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, cpus))
			continue;
		capacity[i] = pool_capacity(i);
		if (capacity[i] > top)
			top = capacity[i];
	}
	for (i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, cpus) && capacity[i] < top - top / 4) {
			CPU_CLR(i, cpus);
			dropped++;
		}
	}
	return dropped;
}

/* How many, which, and whether that is fewer than the affinity mask allows. */
static uint32_t pool_usable(cpu_set_t *cpus, int *dropped)
{
	uint32_t count, quota = pool_quota();

	CPU_ZERO(cpus);
	*dropped = 0;
	if (sched_getaffinity(0, sizeof(*cpus), cpus)) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);

		count = online > 0 ? (uint32_t)online : 1;
	} else {
		*dropped = pool_keep_big(cpus);
		count = (uint32_t)CPU_COUNT(cpus);
	}
	if (count > quota)
		count = quota;
	return count ? count : 1;
}

uint32_t unpu_pool_usable_cpus(void)
{
	cpu_set_t cpus;
	int dropped;

	return pool_usable(&cpus, &dropped);
}

/* ---- the barrier ------------------------------------------------------------------------ */

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

/* A pause takes 4 to 140 cycles, by the core: the bound in turns is measured. */
static uint32_t pool_spins_per_100us(void)
{
	uint64_t best = UINT64_MAX;

	for (int try = 0; try < 3; try++) {
		struct timespec a, b;
		uint64_t ns;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < 256; i++)
			pool_relax();
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u +
		     (uint64_t)(b.tv_nsec - a.tv_nsec);
		if (ns < best)
			best = ns;
	}
	return (uint32_t)(256 * 100000ull / (best + 256));	/* + 1 ns for the load */
}

/*
 * A sleeper counts itself before the futex compares the generation, the last arriver raises the
 * generation before it reads the count, both sequentially consistent: one of them sees the other.
 */
static void pool_wait(struct unpu_pool *pool, unsigned int gen, uint32_t spins)
{
	for (uint32_t i = 0; i < spins; i++) {
		if (atomic_load_explicit(&pool->generation, memory_order_acquire) != gen)
			return;
		pool_relax();
	}
	atomic_fetch_add(&pool->sleepers, 1);
	while (atomic_load(&pool->generation) == gen)
		syscall(SYS_futex, &pool->generation, FUTEX_WAIT_PRIVATE, gen, NULL, NULL, 0);
	atomic_fetch_sub(&pool->sleepers, 1);
}

/* `count` arrivals at once. */
static void pool_arrive(struct unpu_pool *pool, uint32_t count, uint32_t spins,
			unpu_pool_serial_fn *serial, void *arg)
{
	unsigned int gen = atomic_load_explicit(&pool->generation, memory_order_relaxed);

	if (atomic_fetch_add_explicit(&pool->arrived, count, memory_order_acq_rel) + count !=
	    pool->threads) {
		pool_wait(pool, gen, spins);
		return;
	}
	if (serial)
		serial(arg);
	atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
	/* Not a store: emulators of ARM on x86 let the load below pass a release store. */
	atomic_exchange(&pool->generation, gen + 1);
	if (atomic_load(&pool->sleepers))
		syscall(SYS_futex, &pool->generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL,
			0);
}

void unpu_pool_barrier(struct unpu_pool *pool, unpu_pool_serial_fn *serial, void *arg)
{
	if (pool->threads == 1) {
		if (serial)
			serial(arg);
		return;
	}
	pool_arrive(pool, 1, pool->spins, serial, arg);
}

/* ---- threads ---------------------------------------------------------------------------- */

static void *pool_thread(void *arg)
{
	struct pool_worker *worker = arg;
	struct unpu_pool *pool = worker->pool;

	for (;;) {
		pool_arrive(pool, 1, pool->idle_spins, NULL, NULL);
		if (pool->quit)
			return NULL;
		pool->fn(pool->arg, worker->index);
		pool_arrive(pool, 1, pool->spins, NULL, NULL);
	}
}

void unpu_pool_run(struct unpu_pool *pool, unpu_pool_fn *fn, void *arg)
{
	if (pool->threads == 1) {
		fn(arg, 0);
		return;
	}
	pool->fn = fn;
	pool->arg = arg;
	pool_arrive(pool, 1, pool->spins, NULL, NULL);
	fn(arg, 0);
	pool_arrive(pool, 1, pool->spins, NULL, NULL);
}

static int pool_start_one(struct unpu_pool *pool, uint32_t index, const pthread_attr_t *attr)
{
	struct pool_worker *worker = &pool->workers[index];
	int err;

	worker->pool = pool;
	worker->index = index;
	err = pthread_create(&worker->thread, attr, pool_thread, worker);
	if (!err)
		pool->started++;
	return -err;
}

/* The caller's own affinity is not the library's to change: only workers are kept to the big
 * cores. A spinner without a core of its own holds the one a straggler needs. */
static int pool_start(struct unpu_pool *pool, const cpu_set_t *keep)
{
	pthread_attr_t attr;
	uint32_t i = 1;
	int err = 0;

	if (keep && !pthread_attr_init(&attr)) {
		err = pthread_attr_setaffinity_np(&attr, sizeof(*keep), keep);
		for (; !err && i < pool->threads; i++)
			err = pool_start_one(pool, i, &attr);
		pthread_attr_destroy(&attr);
		if (!err || pool->started)
			return err;
		pool->spins /= 2;
		pool->idle_spins /= 2;
		i = 1;
	}
	for (err = 0; !err && i < pool->threads; i++)
		err = pool_start_one(pool, i, NULL);
	return err;
}

int unpu_pool_create(uint32_t threads, const struct unpu_log *log, struct unpu_pool **out)
{
	struct unpu_pool *pool;
	sigset_t all, old;
	cpu_set_t cpus;
	uint32_t usable;
	int err, dropped;

	if (threads > UNPU_POOL_MAX_THREADS)
		return unpu_fail(log, -EINVAL, "cpu: %u threads, at most %u are supported",
				 threads, UNPU_POOL_MAX_THREADS);
	pool = aligned_alloc(POOL_LINE, (sizeof(*pool) + POOL_LINE - 1) / POOL_LINE * POOL_LINE);
	if (!pool)
		return unpu_fail(log, -ENOMEM, "cpu: no memory for the thread pool");
	memset(pool, 0, sizeof(*pool));
	usable = pool_usable(&cpus, &dropped);
	if (!threads)
		threads = usable < POOL_DEFAULT_THREADS ? usable : POOL_DEFAULT_THREADS;
	pool->threads = threads;
	if (threads > 1 && threads <= usable) {
		uint32_t turns = pool_spins_per_100us();

		pool->spins = (uint32_t)((uint64_t)turns * POOL_SPIN_NS / 100000);
		pool->idle_spins = (uint32_t)((uint64_t)turns * POOL_IDLE_SPIN_NS / 100000);
	}

	/* Signals are the application's threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pool_start(pool, dropped && threads <= usable ? &cpus : NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		unpu_pool_destroy(pool);
		return unpu_fail(log, err, "cpu: cannot start %u threads: %s", threads,
				 strerror(-err));
	}
	*out = pool;
	return 0;
}

void unpu_pool_destroy(struct unpu_pool *pool)
{
	if (!pool)
		return;
	if (pool->started) {
		pool->quit = 1;
		/* Stands in for the threads that could not be started. */
		pool_arrive(pool, pool->threads - pool->started, 0, NULL, NULL);
		for (uint32_t i = 1; i <= pool->started; i++)
			pthread_join(pool->workers[i].thread, NULL);
	}
	free(pool);
}

uint32_t unpu_pool_threads(const struct unpu_pool *pool)
{
	return pool->threads;
}
