/* SPDX-License-Identifier: MIT */
/*
 * Who works. A team that is disturbed (its workers have to wait for one who has lost his processor)
 * tries whether fewer are faster, and later whether more are: jobs of a window are timed, those of
 * the next one with another size, and the faster size stays. Trials that fail are repeated ever
 * more seldom; where nobody falls asleep there are none.
 */
#include "runtime/device/cpu/pool_priv.h"

#include <string.h>

/* Several of the scheduler's slices, which are 1 to 4 ms. */
#define WINDOW_NS	16000000u
#define WINDOW_JOBS	4u
/* What speaks for itself is seen sooner. */
#define SHORT_JOBS	2u
/* The first tokens after a load fetch weights into caches and pages into tables. */
#define ASK_AFTER	6u

#define WAIT_LEAST	50000000u
#define WAIT_MOST	1600000000u
/* What another size has to gain before it is taken. */
#define GAIN		0.95

/* Who is slower by UNEVEN gets less, until all are within EVEN. Shares stay as they are otherwise:
 * the rows that a thread computes are then the same every token. */
#define UNEVEN		1.3
#define EVEN		1.15
#define SLOWEST		0.05

void unpu_pool_team_init(struct unpu_pool_team *team, uint32_t size, uint32_t most, int ask)
{
	memset(team, 0, sizeof(*team));
	team->size = size;
	team->most = most;
	team->ask = ask;
	team->shrink_wait = WAIT_LEAST;
	team->grow_wait = WAIT_LEAST;
	for (uint32_t i = 0; i < most; i++)
		team->speed[i] = 1.0;
	unpu_pool_team_cut(team);
}

static void team_try(struct unpu_pool_team *team, uint32_t size)
{
	team->from = team->size;
	team->size = size;
}

/* A smaller team may be better once workers wait for each other; a larger one always. */
static void team_choose(struct unpu_pool_team *team, uint64_t now, int disturbed)
{
	if (team->size > 1 && (team->ask || (disturbed && now >= team->shrink_at)))
		team_try(team, (team->size + 1) / 2);
	else if (team->size < team->most && now >= team->grow_at)
		team_try(team, team->size * 2 < team->most ? team->size * 2 : team->most);
	team->ask = 0;
}

/* The trial is over. */
static void team_decide(struct unpu_pool_team *team, uint64_t now, double ns)
{
	int grown = team->size > team->from;
	uint64_t *wait = grown ? &team->grow_wait : &team->shrink_wait;

	if (ns < team->steady * GAIN) {
		*wait = WAIT_LEAST;
		/* On in this direction, not back at once. */
		if (grown)
			team->shrink_at = now + team->shrink_wait;
		else
			team->grow_at = now + team->grow_wait;
		team->steady = ns;
		team->from = 0;
		return;
	}
	team->size = team->from;
	team->from = 0;
	if (grown)
		team->grow_at = now + *wait;
	else
		team->shrink_at = now + *wait;
	*wait = *wait * 2 < WAIT_MOST ? *wait * 2 : WAIT_MOST;
}

static int window_full(const struct unpu_pool_team *team)
{
	const struct unpu_pool_window *w = &team->window;

	if (team->ask)
		return w->jobs >= ASK_AFTER;
	/* Twice as slow as the size it is tried against. */
	if (team->from && w->jobs >= SHORT_JOBS)
		return (double)w->ns > 2.0 * team->steady * (double)w->amount ||
		       (w->jobs >= WINDOW_JOBS && w->ns >= WINDOW_NS);
	if (w->jobs >= SHORT_JOBS && w->slept >= 8 * w->jobs && w->ns >= WINDOW_NS / 2)
		return 1;
	return w->jobs >= WINDOW_JOBS && w->ns >= WINDOW_NS;
}

void unpu_pool_team_judge(struct unpu_pool_team *team, uint64_t now, uint64_t ns, uint32_t amount,
			  uint32_t slept)
{
	struct unpu_pool_window *w = &team->window;
	double each;
	int disturbed;

	if (team->most == 1)
		return;
	w->ns += ns;
	w->amount += amount ? amount : 1;
	w->jobs++;
	w->slept += slept;
	if (!window_full(team))
		return;
	each = (double)w->ns / (double)w->amount;
	disturbed = w->slept >= w->jobs;
	*w = (struct unpu_pool_window){ 0 };
	if (team->from)
		team_decide(team, now, each);
	else
		team->steady = each;
	if (!team->from)
		team_choose(team, now, disturbed);
}

/* ---- shares ----------------------------------------------------------------------------- */

void unpu_pool_team_cut(struct unpu_pool_team *team)
{
	double sum = 0.0, most = 0.0, least = 1e30, before = 0.0;
	uint32_t n = team->size;

	for (uint32_t i = 0; i < n; i++) {
		sum += team->speed[i];
		most = team->speed[i] > most ? team->speed[i] : most;
		least = team->speed[i] < least ? team->speed[i] : least;
	}
	team->uneven = most > least * (team->uneven ? EVEN : UNEVEN);
	for (uint32_t i = 0; i < n; i++) {
		/* Rounded up, or the third of 3 units would be two workers'. */
		team->edge[i] = team->uneven ? (uint64_t)(before / sum * 0x1p32) :
					       (((uint64_t)i << 32) + n - 1) / n;
		before += team->speed[i];
	}
	team->edge[n] = 1ull << 32;
}

void unpu_pool_team_weigh(struct unpu_pool_team *team, const uint64_t *done)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < team->size; i++)
		sum += done[i];
	for (uint32_t i = 0; sum && i < team->size; i++) {
		double part = (double)done[i] * team->size / (double)sum;

		team->speed[i] += (part - team->speed[i]) / 8;
		/* Never none: who gets nothing cannot show that it is faster now. */
		if (team->speed[i] < SLOWEST)
			team->speed[i] = SLOWEST;
	}
	unpu_pool_team_cut(team);
}
