// SPDX-License-Identifier: GPL-2.0-only
#include "tests/kselftest/lib/storm.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

/* Shared with those that the program forks; NULL: there is no storm. */
static atomic_ulong *signals;
static pid_t first, joined;

static void on_alarm(int sig)
{
	(void)sig;
	atomic_fetch_add(signals, 1);
}

static void tell(void)
{
	if (getpid() == first)
		printf("# storm: %lu signals\n", atomic_load(signals));
}

__attribute__((constructor)) static void storm_begin(void)
{
	if (!getenv("UNPU_STORM"))
		return;
	first = getpid();
	signals = mmap(NULL, sizeof(*signals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (signals == MAP_FAILED || atexit(tell))
		abort();
}

/* A timer is not inherited. */
void storm_join(void)
{
	const struct itimerval each = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction action = { .sa_handler = on_alarm };

	if (!signals || joined == getpid())
		return;
	joined = getpid();
	if (!strcmp(getenv("UNPU_STORM"), "restart"))
		action.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &each, NULL);
}
