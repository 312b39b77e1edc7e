/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random sequences of calls. A sequence is data: what a thread does, on what, after what. Each is
 * made from a seed, and from other sequences where it is a mutation, so that a line of the kernel's
 * log is enough to make it again.
 */
#ifndef UNPU_KSELFTEST_CALLS_H
#define UNPU_KSELFTEST_CALLS_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CALLS_MAX_OPS		48
#define CALLS_MAX_ARGS		12
#define CALLS_MAX_THREADS	4
#define CALLS_MAX_FORKS		3
/* Who can be in a call: the threads, and one for each process that they fork. */
#define CALLS_MAX_RUNNERS	(CALLS_MAX_THREADS + CALLS_MAX_FORKS)
#define CALLS_SLOTS		8

/* What calls make and name. */
enum calls_kind {
	KIND_FILE, KIND_BO, KIND_CTX, KIND_SHADER, KIND_PROGRAM, KIND_SYNCOBJ,
	KIND_DMABUF,	/* file descriptors: of a buffer, */
	KIND_SYNC,	/* of a syncobj or a sync_file, */
	KIND_MAP,	/* and mappings */
	KINDS,
};

/*
 * What an argument is. One that names an object holds a slot in the lowest byte, or, with
 * ARG_LITERAL, the number itself in the upper half, or, with ARG_OTHER, a slot of the kind in the
 * byte above.
 */
enum calls_arg {
	ARG_NONE,
	ARG_USE,			/* + kind */
	ARG_MAKE = ARG_USE + KINDS,	/* + kind */
	ARG_DROP = ARG_MAKE + KINDS,	/* + kind */
	ARG_VALUES = ARG_DROP + KINDS,	/* + index of struct calls_values */
};
/* It counts for nothing when the argument before it is 0. */
#define ARG_MAYBE	0x80
#define ARG_OTHER	(1ull << 16)
#define ARG_LITERAL	(1ull << 17)

struct calls_op {
	uint8_t call, thread;
	uint16_t delay_us;
	uint32_t wild;		/* it need not succeed: nobody counts on what it makes */
	uint64_t args[CALLS_MAX_ARGS];
};

enum calls_ending {
	ENDING_CLOSE,	/* all is closed */
	ENDING_EXIT,	/* by the end of the process */
	ENDING_KILL,	/* which is killed meanwhile */
};

struct calls_sequence {
	uint32_t num_ops, split;	/* from there on the threads go at once, */
	uint32_t threads, rounds;	/* so many, so often */
	uint32_t ending, kill_us;
	struct calls_op ops[CALLS_MAX_OPS];
};

/* Values that an argument takes, each as likely as the others; the first are good for something. */
struct calls_values {
	const char *name;
	const uint64_t *values;
	uint32_t count, good;
};

/* In place of a value: another one each time. */
#define CALLS_SEED	(~0ull - 1)

/* Of whom an op is done. */
struct calls_runner;

struct calls_call {
	const char *name;
	/* 0 or -errno */
	int (*run)(struct calls_runner *runner, const uint64_t *args);
	uint8_t weight;
	uint8_t args[CALLS_MAX_ARGS];	/* enum calls_arg */
};

extern const struct calls_call calls_table[];
extern const uint32_t calls_count;
extern const struct calls_values calls_values[];
/* The calls that make an object of a kind, of which one is taken. */
uint32_t calls_maker(enum calls_kind kind);

/* ---- what the two processes share ---------------------------------------------------------- */

struct calls_watch {
	atomic_uint_least64_t since;	/* 0: in no call */
	atomic_uint_least64_t limit_ns;
	atomic_uint op, pid, tid;
};

struct calls_shared {
	struct calls_sequence sequence;
	sem_t start, done;
	struct calls_watch watches[CALLS_MAX_RUNNERS];
	/* By call: it was done, it was refused. */
	atomic_uint_least64_t good[64], bad[64];
	int killed_forks;
};

/* ---- random numbers ------------------------------------------------------------------------ */

struct calls_random {
	uint64_t state;
};

static inline uint64_t random_next(struct calls_random *r)
{
	uint64_t x = r->state += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint32_t random_below(struct calls_random *r, uint32_t n)
{
	return (random_next(r) >> 32) * n >> 32;
}

static inline bool random_percent(struct calls_random *r, uint32_t percent)
{
	return random_below(r, 100) < percent;
}

/* ---- make.c -------------------------------------------------------------------------------- */

void calls_make(struct calls_sequence *sequence, uint64_t seed);
void calls_mutate(struct calls_sequence *sequence, const struct calls_sequence *parent,
		  const struct calls_sequence *other, uint64_t seed);
/* Into lines that begin with "# ". */
void calls_print(const struct calls_sequence *sequence);

/* ---- run.c --------------------------------------------------------------------------------- */

/* Does the sequences in `shared` until it is killed. kcov: a descriptor per thread, or -1. */
__attribute__((noreturn)) void calls_executor(struct calls_shared *shared, const int *kcov);

/* ---- table.c ------------------------------------------------------------------------------- */

struct calls_state {
	struct calls_shared *shared;
	atomic_uint_least64_t slots[KINDS][CALLS_SLOTS];
	atomic_uint forks;
	atomic_int pids[CALLS_MAX_FORKS];
	pid_t pid;
	void *area;		/* where mappings lie */
};

struct calls_runner {
	struct calls_state *state;
	struct calls_watch *watch;
	const struct calls_sequence *sequence;
	uint32_t thread, op, left;	/* left: ops that a forked process still does */
	bool forked;
};

#define CALLS_MAP_BYTES	(1u << 20)

bool calls_prepare(struct calls_state *state);
/* What one that runs must have: a handler for addresses where nothing is. */
void calls_runner_init(struct calls_runner *runner);
int calls_run_op(struct calls_runner *runner, uint32_t op);
/* Everything that is still there. */
void calls_clean(struct calls_runner *runner);
/* How much longer everything takes here. */
uint32_t calls_slowness(void);

/* ---- cover.c ------------------------------------------------------------------------------- */

struct calls_cover {
	int fds[CALLS_MAX_THREADS];	/* -1: this kernel has no KCOV */
	unsigned long *areas[CALLS_MAX_THREADS];
	uint32_t pcs, edges;
};

bool cover_open(struct calls_cover *cover);
void cover_begin(struct calls_cover *cover);
/* Whether something new was reached since then. */
bool cover_end(struct calls_cover *cover);
/* Of the thread that calls it. */
void cover_enable(int fd);

#endif
