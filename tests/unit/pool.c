/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <errno.h>
#include <sched.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/device/cpu/pool.h"

#define STEPS	200u

struct steps {
	struct unpu_pool *pool;
	uint32_t threads;
	uint32_t seen[UNPU_POOL_MAX_THREADS];	/* plain words: the barrier orders them */
	uint32_t serials, wrong;
	atomic_uint bad;
};

/* All others have done as many steps, and the serial part as many as they. */
static void count_serial(void *arg)
{
	struct steps *s = arg;

	s->serials++;
	for (uint32_t i = 0; i < s->threads; i++)
		if (s->seen[i] != s->serials)
			s->wrong++;
}

static void step(void *arg, uint32_t worker)
{
	struct steps *s = arg;

	for (uint32_t i = 1; i <= STEPS; i++) {
		s->seen[worker]++;
		unpu_pool_barrier(s->pool, count_serial, s);
		if (s->serials != i)
			atomic_fetch_add(&s->bad, 1);
		unpu_pool_barrier(s->pool, NULL, NULL);
	}
}

static void nap(long ns)
{
	const struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static void run_steps(uint32_t threads, int runs)
{
	struct steps s;

	s.threads = threads;
	assert_int_equal(unpu_pool_create(threads, NULL, &s.pool), 0);
	assert_int_equal(unpu_pool_threads(s.pool), threads);
	for (int i = 0; i < runs; i++) {
		for (uint32_t w = 0; w < threads; w++)
			s.seen[w] = 0;
		s.serials = s.wrong = 0;
		atomic_init(&s.bad, 0);
		unpu_pool_run(s.pool, step, &s);
		assert_int_equal(s.serials, STEPS);
		assert_int_equal(s.wrong, 0);
		assert_int_equal(atomic_load(&s.bad), 0);
		for (uint32_t w = 0; w < threads; w++)
			assert_int_equal(s.seen[w], STEPS);
		if (i & 1)
			nap(500000);	/* longer than the workers spin between runs */
	}
	unpu_pool_destroy(s.pool);
}

static void test_steps(void **state)
{
	(void)state;
	run_steps(1, 3);
	run_steps(2, 20);
	run_steps(3, 6);
	run_steps(7, 4);
}

/* A straggler that is slower than the bound of the spin: the others sleep and are woken. */
static void straggle(void *arg, uint32_t worker)
{
	struct steps *s = arg;

	for (uint32_t i = 0; i < 20; i++) {
		if (worker == i % s->threads)
			nap(300000);
		s->seen[worker]++;
		unpu_pool_barrier(s->pool, NULL, NULL);
		for (uint32_t w = 0; w < s->threads; w++)
			if (s->seen[w] != i + 1)
				atomic_fetch_add(&s->bad, 1);
		unpu_pool_barrier(s->pool, NULL, NULL);
	}
}

static void test_stragglers(void **state)
{
	(void)state;
	for (uint32_t threads = 2; threads < 5; threads++) {
		struct steps s = { .threads = threads };

		assert_int_equal(unpu_pool_create(threads, NULL, &s.pool), 0);
		unpu_pool_run(s.pool, straggle, &s);
		assert_int_equal(atomic_load(&s.bad), 0);
		unpu_pool_destroy(s.pool);
	}
}

static void test_birth_and_death(void **state)
{
	struct unpu_pool *pool;

	(void)state;
	unpu_pool_destroy(NULL);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(unpu_pool_create(1 + (uint32_t)i % 5, NULL, &pool), 0);
		unpu_pool_destroy(pool);
	}
	assert_int_equal(unpu_pool_create(UNPU_POOL_MAX_THREADS + 1, NULL, &pool), -EINVAL);
	assert_int_equal(unpu_pool_create(UNPU_POOL_MAX_THREADS, NULL, &pool), 0);
	unpu_pool_destroy(pool);
}

/* The default is what the affinity mask leaves. */
static void test_affinity(void **state)
{
	cpu_set_t all, one;
	struct unpu_pool *pool;
	int cpu = 0;

	(void)state;
	assert_true(unpu_pool_usable_cpus() >= 1);
	assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(unpu_pool_usable_cpus(), 1);
	assert_int_equal(unpu_pool_create(0, NULL, &pool), 0);
	assert_int_equal(unpu_pool_threads(pool), 1);
	unpu_pool_destroy(pool);
	run_steps(2, 2);	/* two threads on one processor: no spinning, and no deadlock */
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	assert_int_equal(unpu_pool_create(0, NULL, &pool), 0);
	assert_true(unpu_pool_threads(pool) <= 8);
	unpu_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_stragglers),
		cmocka_unit_test(test_birth_and_death),
		cmocka_unit_test(test_affinity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
