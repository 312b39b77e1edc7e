/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/cpu/pool.h"

#define PHASES	200u
#define UNITS	97u

/* Units of each phase count up in plain words: the pool orders them. */
struct job {
	struct unpu_pool *pool;
	uint32_t threads, phases, phase;
	uint32_t units;			/* of the phase */
	uint32_t done[UNITS];		/* how often each unit was worked on, of all phases */
	uint32_t expected[UNITS];
	uint32_t wrong;			/* found between phases, by one thread */
	atomic_uint bad;		/* found in them */
	atomic_uint working;
};

/* Sleeps in the middle of what these workers do; unit tests are linked with this one. */
static long slow_ns[UNPU_POOL_MAX_THREADS];
static long each_ns;
static atomic_uint pieces_of[UNPU_POOL_MAX_THREADS], units_of[UNPU_POOL_MAX_THREADS], largest;

static void nap(long ns)
{
	const struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

void unpu_pool_hook_piece(uint32_t worker, uint32_t units)
{
	atomic_fetch_add(&pieces_of[worker], 1);
	atomic_fetch_add(&units_of[worker], units);
	for (uint32_t most = atomic_load(&largest); units > most;)
		if (atomic_compare_exchange_weak(&largest, &most, units))
			break;
	if (slow_ns[worker])
		nap(slow_ns[worker]);
	if (each_ns)
		nap((long)units * each_ns);
}

/* 1, 2, 96 and 97 units among others, and phases of none are the caller's to pass over. */
static uint32_t units_of_phase(uint32_t phase)
{
	static const uint32_t units[] = { 1, UNITS, 2, 1, 1, 7, UNITS - 1, 3, 40 };

	return units[phase % (sizeof(units) / sizeof(units[0]))];
}

static uint32_t job_next(void *arg)
{
	struct job *j = arg;

	if (atomic_load(&j->working))
		j->wrong++;
	for (uint32_t i = 0; i < UNITS; i++)
		if (j->done[i] != j->expected[i])
			j->wrong++;
	if (j->phase == j->phases)
		return 0;
	j->units = units_of_phase(j->phase++);
	for (uint32_t i = 0; i < j->units; i++)
		j->expected[i]++;
	return j->units;
}

static void job_work(void *arg, struct unpu_pool_share *share)
{
	struct job *j = arg;
	uint32_t first, last;

	atomic_fetch_add(&j->working, 1);
	while (unpu_pool_take(share, &first, &last)) {
		if (first >= last || last > j->units)
			atomic_fetch_add(&j->bad, 1);
		for (uint32_t i = first; i < last && i < UNITS; i++)
			j->done[i]++;
	}
	atomic_fetch_sub(&j->working, 1);
}

static struct unpu_pool *create(uint32_t threads)
{
	const struct unpu_pool_params params = { .threads = threads };
	struct unpu_pool *pool = NULL;

	assert_int_equal(unpu_pool_create(&params, NULL, &pool), 0);
	return pool;
}

static void run_job(struct unpu_pool *pool, uint32_t phases, enum unpu_pool_kind kind)
{
	struct job j = { .pool = pool, .threads = unpu_pool_threads(pool), .phases = phases };
	const struct unpu_pool_job job = {
		.next = job_next, .work = job_work, .arg = &j, .kind = kind, .amount = 1,
	};

	unpu_pool_run(pool, &job);
	assert_int_equal(j.phase, phases);
	assert_int_equal(j.wrong, 0);
	assert_int_equal(atomic_load(&j.bad), 0);
}

static void run_jobs(uint32_t threads, int runs)
{
	struct unpu_pool *pool = create(threads);

	assert_int_equal(unpu_pool_threads(pool), threads);
	for (int i = 0; i < runs; i++) {
		run_job(pool, PHASES, i % 3 ? UNPU_POOL_DECODE : UNPU_POOL_PROMPT);
		if (i & 1)
			nap(500000);	/* longer than the workers spin between jobs */
	}
	run_job(pool, 0, UNPU_POOL_DECODE);
	run_job(pool, 1, UNPU_POOL_DECODE);
	unpu_pool_destroy(pool);
}

static void test_phases(void **state)
{
	(void)state;
	run_jobs(1, 3);
	run_jobs(2, 20);
	run_jobs(3, 6);
	run_jobs(7, 6);
}

/* Workers that are slower than the bound of the spin, in turn: the others sleep and are woken. */
static void test_stragglers(void **state)
{
	(void)state;
	for (uint32_t threads = 2; threads < 5; threads++) {
		struct unpu_pool *pool = create(threads);

		for (uint32_t i = 0; i < 2 * threads; i++) {
			slow_ns[i % threads] = 300000;
			run_job(pool, 9, UNPU_POOL_DECODE);
			slow_ns[i % threads] = 0;
		}
		unpu_pool_destroy(pool);
	}
}

/* Whoever loses its processor holds up the others with the piece that it is at, no more: what is
 * left of its share is theirs. */
static void test_others_take_its_share(void **state)
{
	struct unpu_pool *pool = create(2);

	(void)state;
	memset(pieces_of, 0, sizeof(pieces_of));
	slow_ns[1] = 20000000;
	for (int i = 0; i < 3; i++)
		run_job(pool, 2, UNPU_POOL_DECODE);	/* 1 unit, then 97 */
	slow_ns[1] = 0;
	assert_true(atomic_load(&pieces_of[0]) > atomic_load(&pieces_of[1]));
	unpu_pool_destroy(pool);
}

/* Phases of a unit or two say where shares are cut, not who is slow: the next ones stay alike. */
static void test_few_units_are_no_speed(void **state)
{
	struct unpu_pool *pool;
	uint32_t team = 0;

	(void)state;
	for (int try = 0; try < 20 && team != 2; try++) {
		pool = create(2);
		for (int i = 0; i < 60; i++)
			run_job(pool, 1, UNPU_POOL_DECODE);	/* 1 unit: worker 0's */
		atomic_store(&largest, 0);
		team = unpu_pool_team(pool, UNPU_POOL_DECODE);
		run_job(pool, 2, UNPU_POOL_DECODE);		/* and 97 */
		unpu_pool_destroy(pool);
	}
	assert_int_equal(team, 2);
	/* Half of a half. */
	assert_in_range(atomic_load(&largest), 1, (UNITS / 2 + 1 + 1) / 2);
}

static void test_birth_and_death(void **state)
{
	const struct unpu_pool_params many = { .threads = UNPU_POOL_MAX_THREADS + 1 };
	struct unpu_pool *pool;

	(void)state;
	unpu_pool_destroy(NULL);
	for (uint32_t i = 0; i < 50; i++)
		unpu_pool_destroy(create(1 + i % 5));
	assert_int_equal(unpu_pool_create(&many, NULL, &pool), -EINVAL);
	unpu_pool_destroy(create(UNPU_POOL_MAX_THREADS));
}

/* The default is what the affinity mask leaves, and so is what a clamped pool has at most. */
static void test_affinity(void **state)
{
	const struct unpu_pool_params clamped = { .threads = 5, .clamp = 1 };
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
	pool = create(0);
	assert_int_equal(unpu_pool_threads(pool), 1);
	unpu_pool_destroy(pool);
	assert_int_equal(unpu_pool_create(&clamped, NULL, &pool), 0);
	assert_int_equal(unpu_pool_threads(pool), 1);
	unpu_pool_destroy(pool);
	run_jobs(2, 2);	/* two threads on one processor: no spinning, and no deadlock */
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	pool = create(0);
	assert_true(unpu_pool_threads(pool) <= 8);
	unpu_pool_destroy(pool);
}

/* ---- what a process may do around it ------------------------------------------------------ */

/* A child has none of the threads: its own does all of the work, and destroys the pool. */
static void test_fork(void **state)
{
	struct unpu_pool *pool = create(3);
	int status = -1;
	pid_t child;

	(void)state;
	run_job(pool, 20, UNPU_POOL_DECODE);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		struct job j = { .pool = pool, .phases = 20 };
		const struct unpu_pool_job job = {
			.next = job_next, .work = job_work, .arg = &j, .amount = 1,
		};

		alarm(60);
		unpu_pool_run(pool, &job);
		unpu_pool_destroy(pool);
		_exit(j.phase == 20 && !j.wrong && !atomic_load(&j.bad) ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	run_job(pool, 20, UNPU_POOL_DECODE);
	unpu_pool_destroy(pool);
}

static atomic_uint signals;
static pid_t signalled;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&signals, 1);
	if ((pid_t)gettid() != signalled)
		abort();
}

/* Signals to the process are handled by its own thread, and interrupt no wait. */
static void test_signals(void **state)
{
	const struct itimerspec every = { { 0, 200000 }, { 0, 200000 } }, never = { 0 };
	struct sigaction act = { .sa_handler = on_signal }, old;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct unpu_pool *pool = create(3);
	timer_t timer;

	(void)state;
	signalled = gettid();
	assert_int_equal(sigaction(SIGUSR1, &act, &old), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
	slow_ns[1] = 100000;
	for (int i = 0; i < 20000 && atomic_load(&signals) < 20; i++)
		run_job(pool, 9, UNPU_POOL_DECODE);
	slow_ns[1] = 0;
	assert_int_equal(timer_settime(timer, 0, &never, NULL), 0);
	timer_delete(timer);
	assert_true(atomic_load(&signals) >= 20);
	unpu_pool_destroy(pool);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

static char said[256];

static void on_log(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level == UNPU_LOG_WARN)
		snprintf(said, sizeof(said), "%s", text);
}

/* In a child: the limit holds for all of a user's threads, and root has none. */
static int without_threads(void)
{
	const struct rlimit none = { 1, 1 };
	const struct unpu_pool_params params = { .threads = 4 };
	const struct unpu_log log = { on_log, NULL };
	struct unpu_pool *pool;

	if (!getuid() && (setgid(65534) || setuid(65534)))
		return 77;
	if (setrlimit(RLIMIT_NPROC, &none))
		return 77;
	if (unpu_pool_create(&params, &log, &pool))
		return 2;
	if (unpu_pool_threads(pool) == 4)
		return 77;	/* a system that keeps no count */
	run_job(pool, 20, UNPU_POOL_PROMPT);
	if (unpu_pool_threads(pool) != 1 || !strstr(said, "1 of 4 threads"))
		return 3;
	unpu_pool_destroy(pool);
	return 0;
}

static void test_no_threads(void **state)
{
	int status = -1;
	pid_t child;

	(void)state;
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(without_threads());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* After the bound of the spin nobody takes processor time: far less than one thread would. */
static void test_idle(void **state)
{
	struct unpu_pool *pool = create(3);
	uint64_t before;

	(void)state;
	run_job(pool, 20, UNPU_POOL_DECODE);
	nap(50000000);
	before = cpu_ns();
	nap(200000000);
	assert_true(cpu_ns() - before < 20000000);
	unpu_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_phases),
		cmocka_unit_test(test_stragglers),
		cmocka_unit_test(test_others_take_its_share),
		cmocka_unit_test(test_few_units_are_no_speed),
		cmocka_unit_test(test_birth_and_death),
		cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_no_threads),
		cmocka_unit_test(test_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
