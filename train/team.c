/* SPDX-License-Identifier: MIT */
#include "train/team.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/device/cpu/pool.h"

/* About 50 us on cores that have one each; a futex costs as much. */
#define SPINS	20000u

/* The last to arrive lets the others go; who has waited long sleeps. */
static void arrive(struct unpu_team *team, uint32_t count)
{
	unsigned int now = atomic_load_explicit(&team->generation, memory_order_relaxed);

	if (atomic_fetch_add(&team->arrived, count) + count == team->threads) {
		atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
		atomic_fetch_add(&team->generation, 1);
		syscall(SYS_futex, &team->generation, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL,
			0);
		return;
	}
	for (uint32_t i = 0; i < team->spins; i++)
		if (atomic_load_explicit(&team->generation, memory_order_acquire) != now)
			return;
	while (atomic_load(&team->generation) == now)
		syscall(SYS_futex, &team->generation, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
}

void unpu_member_wait(const struct unpu_member *me)
{
	if (me->team->threads > 1)
		arrive(me->team, 1);
}

static void *walk(void *arg)
{
	const struct unpu_member *me = arg;
	struct unpu_team *team = me->team;

	for (;;) {
		arrive(team, 1);
		if (team->quit)
			return NULL;
		team->run(team->arg, me->thread);
		arrive(team, 1);
	}
}

static int start_threads(struct unpu_team *team)
{
	int err = 0;

	for (uint32_t i = 1; !err && i < team->threads; i++) {
		team->members[i] = (struct unpu_member){ team, i };
		err = pthread_create(&team->ids[i], NULL, walk, &team->members[i]);
		team->started += !err;
	}
	return -err;
}

int unpu_team_start(struct unpu_team *team, uint32_t threads)
{
	uint32_t usable = unpu_pool_usable_cpus();
	sigset_t all, old;
	int err;

	if (!threads)
		threads = usable;
	team->threads = threads < UNPU_TEAM_MAX ? threads : UNPU_TEAM_MAX;
	/* A spinner without a processor of its own holds the one that a straggler needs. */
	team->spins = team->threads <= usable ? SPINS : 0;
	/* Signals are the first thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = start_threads(team);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		unpu_team_stop(team);
	return err;
}

void unpu_team_stop(struct unpu_team *team)
{
	if (team->started) {
		team->quit = 1;
		/* Also for those that could not be started. */
		arrive(team, team->threads - team->started);
	}
	for (uint32_t i = 1; i <= team->started; i++)
		pthread_join(team->ids[i], NULL);
	team->started = 0;
}

void unpu_team_run(struct unpu_team *team, void (*run)(void *arg, uint32_t thread), void *arg)
{
	team->run = run;
	team->arg = arg;
	if (team->threads > 1)
		arrive(team, 1);
	run(arg, 0);
	if (team->threads > 1)
		arrive(team, 1);
}
