// SPDX-License-Identifier: GPL-2.0-only
/* The calls, what they take, and how an op is done. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kselftest/calls/ops.h"
#include "tests/kselftest/lib/node.h"

#define SEED	CALLS_SEED
#define ALL	(~0ull)

#define WORD(__a, __b, __c, __d) \
	((uint32_t)(__a) | (__b) << 8 | (__c) << 16 | (uint32_t)(__d) << 24)

static const uint64_t pads[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x80000000 };
static const uint64_t sizes[] = {
	4096, 4096, 4096, 65536, 65536, 8192, 1, 4097, 1 << 20, 8 << 20, 0, ALL, 1ull << 32,
	1ull << 63, 1ull << 40,
};
static const uint64_t bo_flags[] = { 1, 1, 1, 1, 0, 0, 2, 3 };
static const uint64_t nonblocks[] = { 0, 0, O_NONBLOCK };
static const uint64_t query_types[] = { 0, 1, 2, 3, ALL };
static const uint64_t query_sizes[] = { 0, 31, 32, 64, 80, 200, 512, 4096, 0x10000, ALL };
static const uint64_t query_wheres[] = { 0, 1, 1, 2, 3, 4 };
static const uint64_t few[] = { 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 };
static const uint64_t seeds[] = { SEED };
static const uint64_t wrongs[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, SEED };
static const uint64_t numbers[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x3f, 0x5f };
static const uint64_t raw_sizes[] = { 0, 4, 8, 16, 24, 32, 40, 48, 64, 96, 128, 500 };
static const uint64_t directions[] = { 3, 3, 3, 0, 1, 2 };
/* HANG, LATE, STUK, EXIT, SLOW: tests/hooks/vdev.c. Two of them take the whole device. */
static const uint64_t words[] = {
	0, 0, 0, 0, 0, WORD('S', 'L', 'O', 'W'), WORD('S', 'L', 'O', 'W'),
	WORD('S', 'L', 'O', 'W'), WORD('S', 'L', 'O', 'W'), WORD('S', 'L', 'O', 'W'),
	WORD('H', 'A', 'N', 'G'), WORD('H', 'A', 'N', 'G'), WORD('H', 'A', 'N', 'G'),
	WORD('H', 'A', 'N', 'G'), WORD('L', 'A', 'T', 'E'), WORD('S', 'L', 'O', 'W'),
	WORD('S', 'L', 'O', 'W'), WORD('S', 'L', 'O', 'W'), WORD('S', 'T', 'U', 'K'),
	WORD('E', 'X', 'I', 'T'),
};
static const uint64_t map_sizes[] = { 4096, 4096, 8192, 65536, 1, 0, 1 << 20 };
static const uint64_t protections[] = { 3, 3, 3, 1, 2, 0, 7 };
static const uint64_t map_flags[] = {
	MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_PRIVATE, MAP_SHARED | MAP_POPULATE,
	MAP_SHARED | MAP_LOCKED, MAP_SHARED_VALIDATE,
};
static const uint64_t map_offsets[] = { 0, 0, 0, 0, 4096, 65536, 1 };
static const uint64_t offsets[] = { 0, 0, 0, 4, 4092, 4096, 65532, 65536, 131072, 1 << 19 };
static const uint64_t touches[] = {
	0, 1, 1, 2, 3, WORD('S', 'L', 'O', 'W'), WORD('H', 'A', 'N', 'G'),
};
static const uint64_t priorities[] = { 1, 0, 1, 1, 2, 3, ALL };
static const uint64_t timeouts[] = {
	100 * MS, 0, 0, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 1, MS, SECOND, 600 * SECOND, ALL,
};
static const uint64_t shader_names[] = { 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
static const uint64_t spec_words[] = { 0, 0, 0, 0, 0, 1, 4, 5, 6, 7, 8, 9, 10, 12, 24, 25, ALL };
static const uint64_t shapes[] = { 0, 0, 0, SEED, SEED };
/* With the stop word: its row and offset, in the upper half. */
static const uint64_t program_flags[] = { 0, 0, 0, 0, 1, 1, 1, 1ull << 32 | 1, 64ull << 48 | 1, 2 };
static const uint64_t places[] = { 0, 0, 0, 0, 0, 0, 1, 2 };
static const uint64_t repeats[] = {
	1, 1, 1, 1, 2, 5, 40, 1 | 1ull << 32, 3 | 1ull << 32, 0, 0xffffffff, 100000,
};
#define POINT(__flags, __point)	((__flags) | (uint64_t)(__point) << 8)
static const uint64_t job_syncs[] = {
	0, 0, 0, 0, POINT(2, 0), POINT(2, 0), POINT(1, 0), POINT(2, 1), POINT(2, 2), POINT(2, 7),
	POINT(1, 1), POINT(1, 2),
	POINT(1, 7), POINT(2, 1ull << 40), POINT(3, 0), POINT(4, 1),
};
static const uint64_t points[] = { 0, 1, 1, 2, 3, 4, 7, 8, 1ull << 40, ALL >> 1, ALL };
static const uint64_t signalled[] = { 0, 0, 0, 1, 2 };
static const uint64_t wait_flags[] = { 0, 0, 1, 2, 2, 3, 4, 6, 8 };
static const uint64_t waits_ms[] = { 0, 0, 1, 1, 2, 5, 20 };
static const uint64_t bits[] = { 0, 0, 1 };
static const uint64_t open_flags[] = { 02, 02, 02000002, 0, 1, 02000000 };
static const uint64_t dmabuf_flags[] = { 0, 1, 2, 3, 5, 6, 7 };

/* Their order is that of the enum. */
#define COUNT(__name)		(sizeof(__name) / sizeof((__name)[0]))
#define VALUES(__name)		{ #__name, __name, COUNT(__name), COUNT(__name) }
#define GOOD(__name, __good)	{ #__name, __name, COUNT(__name), __good }
const struct calls_values calls_values[] = {
	GOOD(pads, 9), GOOD(sizes, 10), GOOD(bo_flags, 5), VALUES(nonblocks),
	GOOD(query_types, 3), VALUES(query_sizes), GOOD(query_wheres, 3), VALUES(few),
	VALUES(seeds), GOOD(wrongs, 11), VALUES(numbers), VALUES(raw_sizes), VALUES(directions),
	VALUES(words), GOOD(map_sizes, 4), GOOD(protections, 3), GOOD(map_flags, 3),
	GOOD(map_offsets, 4), VALUES(offsets), VALUES(touches), GOOD(priorities, 4),
	GOOD(timeouts, 8), GOOD(shader_names, 7), GOOD(spec_words, 5), VALUES(shapes),
	GOOD(program_flags, 7), GOOD(places, 6), GOOD(repeats, 9), GOOD(job_syncs, 8),
	VALUES(points), GOOD(signalled, 4), VALUES(wait_flags), VALUES(waits_ms), VALUES(bits),
	GOOD(open_flags, 3), VALUES(dmabuf_flags),
};
enum {
	V_PAD = ARG_VALUES, V_SIZE, V_BO_FLAGS, V_NONBLOCK, V_QUERY_TYPE,
	V_QUERY_SIZE, V_QUERY_WHERE, V_FEW, V_SEED, V_WRONG,
	V_NUMBER, V_RAW_SIZE, V_DIRECTION, V_WORD, V_MAP_SIZE,
	V_PROT, V_MAP_FLAGS, V_MAP_OFFSET, V_OFFSET,
	V_TOUCH, V_PRIORITY, V_TIMEOUT, V_SHADER_NAME,
	V_SPEC_WORDS, V_SHAPE, V_PROGRAM_FLAGS, V_PLACE, V_REPEAT,
	V_JOB_SYNC, V_POINT, V_SIGNALLED, V_WAIT_FLAGS, V_WAIT_MS,
	V_BIT, V_OPEN_FLAGS, V_DMABUF_FLAGS,
	V_END,
};
_Static_assert(sizeof(calls_values) / sizeof(calls_values[0]) == V_END - ARG_VALUES,
	       "as many as there are");

#define USE(__kind)	(ARG_USE + KIND_##__kind)
#define MAKE(__kind)	(ARG_MAKE + KIND_##__kind)
#define DROP(__kind)	(ARG_DROP + KIND_##__kind)
#define MAYBE(__kind)	(ARG_MAYBE | USE(__kind))
#define CALL(__name, __weight, ...)	{ #__name, op_##__name, __weight, { __VA_ARGS__ } }

const struct calls_call calls_table[] = {
	CALL(open, 3, MAKE(FILE), V_NONBLOCK),
	CALL(close, 3, DROP(FILE)),
	CALL(query, 4, USE(FILE), V_QUERY_TYPE, V_QUERY_SIZE, V_QUERY_WHERE, MAYBE(MAP)),
	CALL(fdinfo, 2, USE(FILE)),
	CALL(raw, 6, USE(FILE), V_NUMBER, V_SEED, V_RAW_SIZE, V_DIRECTION),
	CALL(core, 1, USE(FILE), V_FEW, V_FEW),
	CALL(bo_create, 6, USE(FILE), MAKE(BO), V_SIZE, V_BO_FLAGS),
	CALL(bo_offset, 1, USE(FILE), USE(BO), V_PAD),
	CALL(bo_close, 4, USE(FILE), DROP(BO)),
	CALL(bo_word, 6, USE(FILE), USE(BO), V_WORD),
	CALL(map, 4, USE(FILE), USE(BO), MAKE(MAP), V_MAP_SIZE, V_PROT, V_MAP_FLAGS, V_MAP_OFFSET),
	CALL(unmap, 2, DROP(MAP), V_OFFSET, V_BIT),
	CALL(touch, 5, USE(MAP), V_OFFSET, V_TOUCH),
	CALL(advise, 3, USE(MAP), V_FEW, V_OFFSET, V_FEW),
	CALL(ctx_create, 5, USE(FILE), MAKE(CTX), V_PRIORITY, V_TIMEOUT, V_PAD),
	CALL(ctx_destroy, 4, USE(FILE), DROP(CTX), V_PAD),
	CALL(ctx_query, 4, USE(FILE), USE(CTX), V_PAD),
	CALL(shader_create, 3, USE(FILE), MAKE(SHADER), V_SHADER_NAME, V_SPEC_WORDS, V_SEED,
	     V_WRONG),
	CALL(shader_destroy, 2, USE(FILE), DROP(SHADER), V_PAD),
	CALL(program_create, 9, USE(FILE), MAKE(PROGRAM), USE(SHADER), USE(BO), USE(BO), V_SHAPE,
	     V_PROGRAM_FLAGS, V_WRONG, V_WRONG, V_PLACE, MAYBE(MAP)),
	CALL(program_destroy, 3, USE(FILE), DROP(PROGRAM), V_PAD),
	CALL(submit, 24, USE(FILE), USE(CTX), USE(PROGRAM), USE(PROGRAM), V_REPEAT,
	     V_JOB_SYNC, MAYBE(SYNCOBJ), V_JOB_SYNC, MAYBE(SYNCOBJ), V_WRONG, V_PLACE, MAYBE(MAP)),
	CALL(syncobj_create, 3, USE(FILE), MAKE(SYNCOBJ), V_SIGNALLED),
	CALL(syncobj_destroy, 3, USE(FILE), DROP(SYNCOBJ)),
	CALL(syncobj_wait, 4, USE(FILE), USE(SYNCOBJ), USE(SYNCOBJ), V_WAIT_FLAGS, V_WAIT_MS),
	CALL(timeline_wait, 4, USE(FILE), USE(SYNCOBJ), V_POINT, V_WAIT_FLAGS, V_WAIT_MS),
	CALL(syncobj_set, 2, USE(FILE), USE(SYNCOBJ), V_BIT),
	CALL(timeline_signal, 2, USE(FILE), USE(SYNCOBJ), V_POINT),
	CALL(syncobj_query, 2, USE(FILE), USE(SYNCOBJ), V_BIT),
	CALL(syncobj_transfer, 2, USE(FILE), USE(SYNCOBJ), V_POINT, USE(SYNCOBJ), V_POINT),
	CALL(syncobj_eventfd, 2, USE(FILE), USE(SYNCOBJ), V_POINT, V_WAIT_FLAGS),
	CALL(syncobj_export, 3, USE(FILE), USE(SYNCOBJ), MAKE(SYNC), V_BIT),
	CALL(syncobj_import, 2, USE(FILE), MAKE(SYNCOBJ), USE(SYNC)),
	CALL(sync_import, 2, USE(FILE), USE(SYNCOBJ), USE(SYNC)),
	CALL(sync_use, 2, USE(SYNC), V_BIT, V_WAIT_MS),
	CALL(sync_merge, 1, USE(SYNC), USE(SYNC), MAKE(SYNC)),
	CALL(sync_close, 2, DROP(SYNC)),
	CALL(bo_export, 2, USE(FILE), USE(BO), MAKE(DMABUF), V_OPEN_FLAGS),
	CALL(bo_import, 3, USE(FILE), MAKE(BO), USE(DMABUF)),
	CALL(dmabuf_use, 2, USE(DMABUF), V_FEW, V_DMABUF_FLAGS),
	CALL(dmabuf_close, 2, DROP(DMABUF)),
	CALL(sleep, 2, V_WAIT_MS),
	CALL(fork, 1, V_FEW),
	CALL(signal, 2, V_FEW),
};
const uint32_t calls_count = sizeof(calls_table) / sizeof(calls_table[0]);

/* The first that makes one. Mappings and exports come with a buffer of their own. */
uint32_t calls_maker(enum calls_kind kind)
{
	uint32_t i, j;

	for (i = 0;; i++)
		for (j = 0; j < CALLS_MAX_ARGS; j++)
			if (calls_table[i].args[j] == ARG_MAKE + kind)
				return i;
}

/* ---- arguments ----------------------------------------------------------------------------- */

uint64_t arg_value(struct calls_runner *r, enum calls_kind kind, uint64_t arg)
{
	if (arg & ARG_LITERAL)
		return arg >> 32;
	if (arg & ARG_OTHER)
		kind = (arg >> 8 & 0xff) % KINDS;
	return r->state->slots[kind][arg % CALLS_SLOTS];
}

int arg_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg)
{
	/* Slots hold one more than the descriptor, so that 0 is none. */
	return (int)r->state->slots[kind][arg % CALLS_SLOTS] - 1;
}

void *arg_map(struct calls_runner *r, uint64_t arg)
{
	return (char *)r->state->area + arg % CALLS_SLOTS * CALLS_MAP_BYTES;
}

void made_value(struct calls_runner *r, enum calls_kind kind, uint64_t arg, uint64_t value)
{
	r->state->slots[kind][arg % CALLS_SLOTS] = value;
}

void made_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg, int fd)
{
	uint64_t old = atomic_exchange(&r->state->slots[kind][arg % CALLS_SLOTS], fd + 1);

	if (old)
		close(old - 1);
}

int take_fd(struct calls_runner *r, enum calls_kind kind, uint64_t arg)
{
	return (int)atomic_exchange(&r->state->slots[kind][arg % CALLS_SLOTS], 0) - 1;
}

int op_ioctl(int fd, unsigned long request, void *args)
{
	return call(fd, request, args);
}

void damage(uint64_t wrong, void *data, size_t bytes)
{
	if (wrong)
		((uint8_t *)data)[(wrong >> 8) % bytes] ^= (wrong & 0xff) | !(wrong & 0xff);
}

/* ---- an op --------------------------------------------------------------------------------- */

_Thread_local sigjmp_buf op_jump;
_Thread_local volatile bool op_guarded;

uint32_t calls_slowness(void)
{
	const char *slow = getenv("UNPU_SLOW");

	return slow && atoi(slow) > 0 ? atoi(slow) : 1;
}

/* Calls wait for an answer of the device for 10 s where it is silent, and for nothing else. */
#define LIMIT	(20 * SECOND)

void op_takes(struct calls_runner *r, uint64_t ms)
{
	r->watch->limit_ns = LIMIT * calls_slowness() + ms * MS;
}

int calls_run_op(struct calls_runner *r, uint32_t op)
{
	const struct calls_op *one = &r->sequence->ops[op];
	int err;

	if (one->delay_us)
		usleep(one->delay_us);
	r->op = op;
	op_takes(r, 0);
	r->watch->op = op;
	r->watch->since = now_ns();
	err = calls_table[one->call].run(r, one->args);
	r->watch->since = 0;
	atomic_fetch_add(err ? &r->state->shared->bad[one->call] :
			 &r->state->shared->good[one->call], 1);
	return err;
}

static void on_bad_address(int signal)
{
	struct sigaction none = { .sa_handler = SIG_DFL };

	if (op_guarded)
		siglongjmp(op_jump, 1);
	sigaction(signal, &none, NULL);
}

static void on_signal(int signal)
{
}

bool calls_prepare(struct calls_state *state)
{
	struct sigaction bad = { .sa_handler = on_bad_address }, one = { .sa_handler = on_signal };

	state->area = mmap(NULL, CALLS_SLOTS * CALLS_MAP_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return state->area != MAP_FAILED && !sigaction(SIGSEGV, &bad, NULL) &&
	       !sigaction(SIGBUS, &bad, NULL) && !sigaction(SIGUSR1, &one, NULL);
}

static void reap(struct calls_runner *r)
{
	uint32_t i;
	int status;

	for (i = 0; i < CALLS_MAX_FORKS; i++) {
		pid_t pid = atomic_exchange(&r->state->pids[i], 0);

		if (pid <= 0)
			continue;
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			r->state->shared->killed_forks++;
		r->state->shared->watches[CALLS_MAX_THREADS + i].since = 0;
	}
	r->state->forks = 0;
}

void calls_clean(struct calls_runner *r)
{
	static const enum calls_kind fds[] = { KIND_FILE, KIND_DMABUF, KIND_SYNC };
	uint32_t i, slot;
	int fd;

	op_takes(r, 0);
	r->watch->op = ~0u;
	r->watch->since = now_ns();
	reap(r);
	for (i = 0; i < 3; i++) {
		for (slot = 0; slot < CALLS_SLOTS; slot++) {
			fd = take_fd(r, fds[i], slot);
			if (fd >= 0)
				close(fd);
		}
	}
	if (mmap(r->state->area, CALLS_SLOTS * CALLS_MAP_BYTES, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		die("the mappings do not go");
	for (i = 0; i < KINDS; i++)
		for (slot = 0; slot < CALLS_SLOTS; slot++)
			r->state->slots[i][slot] = 0;
	r->watch->since = 0;
}
