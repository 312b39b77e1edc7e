/* SPDX-License-Identifier: MIT */
#include "runtime/plan/crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/* More have nothing to do: memory is what they wait for. */
#define MOST_THREADS	8u

struct crew {
	const struct unpu_crew_work *work;
	atomic_uint next;
	atomic_int ret;
};

static void fail(struct crew *c, int ret)
{
	int none = 0;

	atomic_compare_exchange_strong(&c->ret, &none, ret);
}

static void work(struct crew *c, int reports)
{
	const struct unpu_crew_work *w = c->work;

	while (!atomic_load(&c->ret)) {
		uint32_t index = atomic_fetch_add(&c->next, 1);
		int ret;

		if (index >= w->pieces)
			return;
		ret = w->piece(w->arg, index);
		if (!ret && reports)
			ret = w->report(w->arg);
		if (ret)
			fail(c, ret);
	}
}

static void *helper(void *arg)
{
	work(arg, 0);
	return NULL;
}

int unpu_crew_run(const struct unpu_crew_work *w, uint32_t threads)
{
	struct crew c = { .work = w };
	pthread_t helpers[MOST_THREADS];
	sigset_t all, before;
	uint32_t count = 0;

	if (threads > MOST_THREADS)
		threads = MOST_THREADS;
	if (threads > w->pieces)
		threads = w->pieces;
	/* Signals are the application's threads' business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (count + 1 < threads && !pthread_create(&helpers[count], NULL, helper, &c))
		count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	work(&c, 1);
	while (count)
		pthread_join(helpers[--count], NULL);
	return atomic_load(&c.ret);
}
