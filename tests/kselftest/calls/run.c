// SPDX-License-Identifier: GPL-2.0-only
/* The process that does the sequences: the first thread leads, the others do what is at once. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/kselftest/calls/calls.h"
#include "tests/kselftest/lib/node.h"

struct executor {
	struct calls_state state;
	pthread_barrier_t begin, end;
	int kcov[CALLS_MAX_THREADS];
};
static struct executor executor;

struct helper {
	uint32_t thread;
};

static struct calls_runner runner_of(uint32_t thread)
{
	struct calls_shared *shared = executor.state.shared;

	return (struct calls_runner){
		.state = &executor.state, .sequence = &shared->sequence, .thread = thread,
		.watch = &shared->watches[thread],
	};
}

static void enlist(uint32_t thread)
{
	struct calls_watch *watch = &executor.state.shared->watches[thread];

	watch->pid = executor.state.pid;
	watch->tid = syscall(SYS_gettid);
	cover_enable(executor.kcov[thread]);
}

/* Of the ops from `split` on those of this thread, so often. */
static void run_at_once(struct calls_runner *runner)
{
	const struct calls_sequence *s = runner->sequence;
	uint32_t round, op;

	for (round = 0; round < s->rounds; round++)
		for (op = s->split; op < s->num_ops; op++)
			if (s->ops[op].thread == runner->thread)
				calls_run_op(runner, op);
}

static void *helper_main(void *arg)
{
	uint32_t thread = (uintptr_t)arg;
	struct calls_runner runner = runner_of(thread);

	enlist(thread);
	for (;;) {
		pthread_barrier_wait(&executor.begin);
		run_at_once(&runner);
		pthread_barrier_wait(&executor.end);
	}
	return NULL;
}

static void run_sequence(struct calls_runner *runner)
{
	const struct calls_sequence *s = runner->sequence;
	uint32_t op;

	for (op = 0; op < s->split; op++)
		calls_run_op(runner, op);
	if (s->split < s->num_ops) {
		pthread_barrier_wait(&executor.begin);
		run_at_once(runner);
		pthread_barrier_wait(&executor.end);
	}
	if (s->ending == ENDING_CLOSE)
		calls_clean(runner);
}

static void start_helpers(void)
{
	uintptr_t i;
	pthread_t thread;

	pthread_barrier_init(&executor.begin, NULL, CALLS_MAX_THREADS);
	pthread_barrier_init(&executor.end, NULL, CALLS_MAX_THREADS);
	for (i = 1; i < CALLS_MAX_THREADS; i++)
		if (pthread_create(&thread, NULL, helper_main, (void *)i))
			die("no thread");
}

void calls_executor(struct calls_shared *shared, const int *kcov)
{
	struct calls_runner runner;

	executor.state.shared = shared;
	memcpy(executor.kcov, kcov, sizeof(executor.kcov));
	become_nobody();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Its own files in /proc are its own again. */
	prctl(PR_SET_DUMPABLE, 1);
	executor.state.pid = getpid();
	if (!calls_prepare(&executor.state))
		die("no memory for mappings");
	runner = runner_of(0);
	enlist(0);
	start_helpers();
	for (;;) {
		bool last;

		while (sem_wait(&shared->start))
			;
		/* From `done` on it is the next one. */
		last = shared->sequence.ending == ENDING_EXIT;
		run_sequence(&runner);
		sem_post(&shared->done);
		if (last)
			_exit(0);
	}
}
