/* SPDX-License-Identifier: MIT */
/* Who of a pool works, on a clock that is counted here: no thread takes part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "runtime/device/cpu/pool_priv.h"

#define MS	1000000u

/* What a job takes by the size of the team, in us, and the part of it that all sleep, in %. */
struct machine {
	struct unpu_pool_team team;
	uint64_t now, jobs, us;
	const uint32_t *takes;
	uint32_t lost;
};

static uint32_t run(struct machine *m, uint32_t jobs)
{
	uint32_t changes = 0;

	for (uint32_t i = 0; i < jobs; i++) {
		uint32_t size = m->team.size, us = m->takes[size];

		m->now += us * 1000ull;
		m->us += us;
		m->jobs++;
		unpu_pool_team_judge(&m->team, m->now, us * 1000ull, 1,
				     us * 10ull * m->lost * size);
		changes += m->team.size != size;
	}
	return changes;
}

static uint32_t settled(const struct machine *m)
{
	return m->team.from ? m->team.from : m->team.size;
}

/* ---- sizes ------------------------------------------------------------------------------ */

static void test_undisturbed(void **state)
{
	static const uint32_t takes[] = { 0, 5000, 3000, 2400, 2000 };
	struct machine m = { .takes = takes, .lost = 8 };

	(void)state;
	unpu_pool_team_init(&m.team, 4, 4, 0);
	assert_int_equal(run(&m, 10000), 0);
	assert_int_equal(m.team.size, 4);
	unpu_pool_team_init(&m.team, 1, 1, 1);
	assert_int_equal(run(&m, 100), 0);
}

/* Asked once: two slow tokens where more threads are better. */
static void test_ask(void **state)
{
	static const uint32_t scales[] = { 0, 8000, 4100, 3000, 2000 };
	static const uint32_t saturates[] = { 0, 2500, 2000, 2200, 2600 };
	static const uint32_t alone[] = { 0, 2000, 2200, 2200, 2600 };
	struct machine m = { .takes = scales };

	(void)state;
	unpu_pool_team_init(&m.team, 4, 4, 1);
	assert_int_equal(run(&m, 32), 2);
	assert_int_equal(m.team.size, 4);
	assert_true(m.us <= 32 * 2000 + 2 * 2100);
	assert_int_equal(run(&m, 10000), 0);

	m = (struct machine){ .takes = saturates };
	unpu_pool_team_init(&m.team, 4, 4, 1);
	run(&m, 64);
	assert_int_equal(settled(&m), 2);
	m = (struct machine){ .takes = alone };
	unpu_pool_team_init(&m.team, 4, 4, 1);
	run(&m, 64);
	assert_int_equal(settled(&m), 1);
	/* Larger ones are tried ever more seldom, and never stay. */
	run(&m, 1000);
	m.us = m.jobs = 0;
	for (int i = 0; i < 5000; i++) {
		run(&m, 1);
		assert_int_equal(settled(&m), 1);
	}
	assert_true(m.us < m.jobs * 2000 * 102 / 100);
}

static void test_disturbed(void **state)
{
	static const uint32_t quiet[] = { 0, 8000, 4100, 3000, 2000 };
	static const uint32_t crowd[] = { 0, 9000, 14000, 20000, 30000 };
	struct machine m = { .takes = quiet };

	(void)state;
	unpu_pool_team_init(&m.team, 4, 4, 0);
	run(&m, 200);
	m.takes = crowd;
	m.lost = 60;
	run(&m, 60);
	assert_int_equal(settled(&m), 1);
	m.us = m.jobs = 0;
	for (int i = 0; i < 2000; i++) {
		run(&m, 1);
		assert_int_equal(settled(&m), 1);
	}
	assert_true(m.us < m.jobs * 9000 * 115 / 100);
	/* Alone again: all of them, within two of the longest waits. */
	m.takes = quiet;
	m.lost = 5;
	m.us = 0;
	while (m.us < 3500000)
		run(&m, 1);
	assert_int_equal(m.team.size, 4);
}

/* ---- shares ----------------------------------------------------------------------------- */

static uint32_t share(const struct unpu_pool_team *team, uint32_t n, uint32_t worker)
{
	return (uint32_t)(n * team->edge[worker + 1] >> 32) -
	       (uint32_t)(n * team->edge[worker] >> 32);
}

static void test_even(void **state)
{
	struct unpu_pool_team team;

	(void)state;
	for (uint32_t size = 1; size <= UNPU_POOL_MAX_THREADS; size++) {
		unpu_pool_team_init(&team, size, UNPU_POOL_MAX_THREADS, 0);
		for (uint32_t n = 0; n < 300; n++) {
			uint32_t sum = 0;

			for (uint32_t i = 0; i < size; i++) {
				uint32_t own = share(&team, n, i);

				assert_true(own == n / size || own == (n + size - 1) / size);
				sum += own;
			}
			assert_int_equal(sum, n);
		}
		assert_int_equal(team.edge[size], 1ull << 32);
	}
}

/* Two workers of speed 3 and two of 1: what each did is what it gets. */
static void test_speeds(void **state)
{
	static const uint64_t uneven[] = { 3000, 3000, 1000, 1000 };
	static const uint64_t nearly[] = { 1050, 1000, 950, 1000 };
	struct unpu_pool_team team;

	(void)state;
	unpu_pool_team_init(&team, 4, 4, 0);
	for (int i = 0; i < 10; i++)
		unpu_pool_team_weigh(&team, nearly);
	assert_int_equal(team.uneven, 0);
	assert_int_equal(share(&team, 400, 0), 100);
	for (int i = 0; i < 60; i++)
		unpu_pool_team_weigh(&team, uneven);
	assert_int_equal(team.uneven, 1);
	assert_in_range(share(&team, 400, 0), 146, 154);
	assert_in_range(share(&team, 400, 1), 146, 154);
	assert_in_range(share(&team, 400, 2), 46, 54);
	assert_int_equal(share(&team, 400, 0) + share(&team, 400, 1) + share(&team, 400, 2) +
			 share(&team, 400, 3), 400);
	for (int i = 0; i < 60; i++)
		unpu_pool_team_weigh(&team, nearly);
	assert_int_equal(team.uneven, 0);
	assert_int_equal(share(&team, 400, 2), 100);
}

/* Who did nothing keeps a part, to show that it can. */
static void test_nothing_done(void **state)
{
	static const uint64_t one[] = { 1000, 0 }, none[] = { 0, 0 };
	struct unpu_pool_team team;

	(void)state;
	unpu_pool_team_init(&team, 2, 2, 0);
	unpu_pool_team_weigh(&team, none);
	assert_int_equal(share(&team, 100, 1), 50);
	for (int i = 0; i < 200; i++)
		unpu_pool_team_weigh(&team, one);
	assert_in_range(share(&team, 100, 1), 1, 5);
}

/* ---- quotas ----------------------------------------------------------------------------- */

static char root[64];

static void put(const char *dir, const char *name, const char *text)
{
	char path[256], *p;
	FILE *f;

	snprintf(path, sizeof(path), "%s%s/%s", root, dir, name);
	for (p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static uint32_t quota(const char *groups)
{
	put("/proc/self", "cgroup", groups);
	return unpu_pool_cpus_quota(root);
}

static void test_quota(void **state)
{
	char command[128];

	(void)state;
	snprintf(root, sizeof(root), "/tmp/unpu-quota-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(unpu_pool_cpus_quota(root), UINT32_MAX);

	/* v2: the smallest of the ancestors', rounded up. */
	put("/sys/fs/cgroup/a/b/c", "cpu.max", "max 100000\n");
	assert_int_equal(quota("0::/a/b/c\n"), UINT32_MAX);
	put("/sys/fs/cgroup/a/b", "cpu.max", "350000 100000\n");
	assert_int_equal(quota("0::/a/b/c\n"), 4);
	put("/sys/fs/cgroup/a", "cpu.max", "50000 100000\n");
	assert_int_equal(quota("0::/a/b/c\n"), 1);
	put("/sys/fs/cgroup/a", "cpu.max", "600000 100000\n");
	assert_int_equal(quota("0::/a/b/c\n"), 4);
	assert_int_equal(quota("0::/a\n"), 6);
	assert_int_equal(quota("0::/\n"), UINT32_MAX);
	assert_int_equal(quota("0::/not/there\n"), UINT32_MAX);
	put("/sys/fs/cgroup", "cpu.max", "200000 100000\n");	/* a container's root */
	assert_int_equal(quota("0::/not/there\n"), 2);

	/* v1, beside a v2 hierarchy without the controller; lines of other controllers. */
	put("/sys/fs/cgroup", "cpu.max", "max 100000\n");
	put("/sys/fs/cgroup/cpu/x/y", "cpu.cfs_quota_us", "-1\n");
	put("/sys/fs/cgroup/cpu/x/y", "cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota("5:cpuset:/x\n4:cpu,cpuacct:/x/y\n0::/\n"), UINT32_MAX);
	put("/sys/fs/cgroup/cpu/x", "cpu.cfs_quota_us", "250000\n");
	put("/sys/fs/cgroup/cpu/x", "cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota("5:cpuset:/x\n4:cpu,cpuacct:/x/y\n0::/\n"), 3);
	assert_int_equal(quota("4:cpuacct,cpu:/x\n"), 3);
	assert_int_equal(quota("4:cpuacct:/x\n"), UINT32_MAX);
	assert_int_equal(quota("4:cpu:/x"), 3);

	/* Nonsense is no quota. */
	put("/sys/fs/cgroup/a", "cpu.max", "0 0\n");
	assert_int_equal(quota("0::/a\n"), UINT32_MAX);
	put("/sys/fs/cgroup/a", "cpu.max", "18446744073709551615 1\n");
	assert_int_equal(quota("0::/a\n"), UINT32_MAX);
	put("/sys/fs/cgroup/cpu/x", "cpu.cfs_period_us", "0\n");
	assert_int_equal(quota("4:cpu:/x\n"), UINT32_MAX);
	assert_int_equal(quota("\n:\n::\n0:\n0::\n4:cpu\n4:cpu:x\n"), UINT32_MAX);
	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_undisturbed),
		cmocka_unit_test(test_ask),
		cmocka_unit_test(test_disturbed),
		cmocka_unit_test(test_even),
		cmocka_unit_test(test_speeds),
		cmocka_unit_test(test_nothing_done),
		cmocka_unit_test(test_quota),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
