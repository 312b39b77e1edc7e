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
/* Of the time of all workers, the part slept in waiting for others: undisturbed, ends of phases and
 * the choice of the token are a tenth at most. */
#define LOST_PART	6u
#define LOST_MUCH	2u	/* speaks for itself */
#define ASK_JOBS	3u
#define ASK_SLOWER	1.1

/* Giving way, workers wait less for each other: that is no sign that the others are gone. */
#define CROWDED_NS	500000000u
/* Longer windows then: some turns of a queue for a processor. */
#define CROWDED_WINDOW	4u

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
	team->ask = ask && size > 1 ? UNPU_POOL_ASK_WARM : UNPU_POOL_ASKED;
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
	if (team->size > 1 && disturbed && now >= team->shrink_at)
		team_try(team, (team->size + 1) / 2);
	else if (team->size < team->most && now >= team->grow_at)
		team_try(team, team->size * 2 < team->most ? team->size * 2 : team->most);
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

static int window_full(const struct unpu_pool_team *team, uint64_t now)
{
	const struct unpu_pool_window *w = &team->window;
	uint64_t enough = now < team->crowded_until ? CROWDED_WINDOW * WINDOW_NS : WINDOW_NS;

	if (team->ask == UNPU_POOL_ASK_WARM || team->ask == UNPU_POOL_ASK_FIRST)
		return w->jobs >= ASK_JOBS;
	/* Two tokens at half the speed are all that the answer costs where it is no. */
	if (team->ask && w->jobs >= SHORT_JOBS &&
	    (double)w->ns > ASK_SLOWER * team->steady * (double)w->amount)
		return 1;
	/* Twice as slow as the size it is tried against. */
	if (team->from && w->ns >= WINDOW_NS && w->jobs >= SHORT_JOBS &&
	    (double)w->ns > 2.0 * team->steady * (double)w->amount)
		return 1;
	if (w->lost * LOST_MUCH >= w->ns * team->size && w->jobs >= SHORT_JOBS &&
	    w->ns >= WINDOW_NS)
		return 1;
	return w->jobs >= WINDOW_JOBS && w->ns >= enough;
}

/* One window further; a size that is better is followed by the question for the next. */
static void team_ask(struct unpu_pool_team *team, uint64_t now, double ns)
{
	uint32_t size = team->size;

	if (team->ask == UNPU_POOL_ASK_WARM) {
		team->ask = UNPU_POOL_ASK_FIRST;
		return;
	}
	if (team->ask == UNPU_POOL_ASK_FIRST) {
		team->ask = UNPU_POOL_ASK_LESS;
		team->steady = ns;
	} else {
		team_decide(team, now, ns);
	}
	if (team->size == size && size > 1)
		team_try(team, (size + 1) / 2);
	else
		team->ask = UNPU_POOL_ASKED;
}

/* Of a whole window, in ns a row. */
static void team_window(struct unpu_pool_team *team, uint64_t now, double ns, int disturbed)
{
	int crowded = now < team->crowded_until;

	if (disturbed)
		team->crowded_until = now + CROWDED_NS;
	if (team->ask) {
		team_ask(team, now, ns);
		return;
	}
	if (team->from)
		team_decide(team, now, ns);
	else
		team->steady = ns;
	/* Giving way has just begun, and may be enough. */
	if (disturbed && !crowded)
		return;
	if (!team->from)
		team_choose(team, now, disturbed);
}

void unpu_pool_team_judge(struct unpu_pool_team *team, uint64_t now, uint64_t ns, uint32_t amount,
			  uint64_t lost)
{
	struct unpu_pool_window *w = &team->window, whole;

	if (team->most == 1)
		return;
	w->ns += ns;
	w->amount += amount ? amount : 1;
	w->jobs++;
	w->lost += lost;
	if (!window_full(team, now))
		return;
	whole = *w;
	*w = (struct unpu_pool_window){ 0 };
	team_window(team, now, (double)whole.ns / (double)whole.amount,
		    whole.lost * LOST_PART >= whole.ns * team->size);
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
