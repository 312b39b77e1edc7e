// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of the module the threads have reached, as KCOV tells. It tells of the calls themselves:
 * what the module does in works and interrupts is not seen.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kselftest/calls/calls.h"
#include "tests/kselftest/lib/node.h"

#define KCOV_PATH	"/sys/kernel/debug/kcov"
#define KCOV_INIT_TRACE	_IOR('c', 1, unsigned long)
#define KCOV_ENABLE	_IO('c', 100)
#define KCOV_TRACE_PC	0ul
#define WORDS		(256ul << 10)

/* Hashed: two that share a place are one. */
#define PLACES		(1u << 18)
static uint8_t seen_pcs[PLACES / 8], seen_edges[PLACES / 8];

bool cover_open(struct calls_cover *cover)
{
	int i;

	for (i = 0; i < CALLS_MAX_THREADS; i++)
		cover->fds[i] = -1;
	for (i = 0; i < CALLS_MAX_THREADS; i++) {
		cover->fds[i] = open(KCOV_PATH, O_RDWR | O_CLOEXEC);
		if (cover->fds[i] < 0)
			return false;
		if (ioctl(cover->fds[i], KCOV_INIT_TRACE, WORDS))
			die("KCOV does not begin");
		cover->areas[i] = mmap(NULL, WORDS * sizeof(long), PROT_READ | PROT_WRITE,
				       MAP_SHARED, cover->fds[i], 0);
		if (cover->areas[i] == MAP_FAILED)
			die("KCOV cannot be mapped");
	}
	return true;
}

void cover_enable(int fd)
{
	if (fd >= 0 && ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		die("KCOV does not trace");
}

void cover_begin(struct calls_cover *cover)
{
	int i;

	for (i = 0; i < CALLS_MAX_THREADS && cover->areas[i]; i++)
		__atomic_store_n(&cover->areas[i][0], 0, __ATOMIC_RELAXED);
}

static bool take(uint8_t *seen, uint64_t key, uint32_t *count)
{
	uint32_t place = key * 0x9e3779b97f4a7c15ull >> 46;
	uint8_t bit = 1u << (place & 7);

	if (seen[place >> 3] & bit)
		return false;
	seen[place >> 3] |= bit;
	(*count)++;
	return true;
}

bool cover_end(struct calls_cover *cover)
{
	unsigned long i, n, pc, last;
	bool found = false;
	int thread;

	for (thread = 0; thread < CALLS_MAX_THREADS && cover->areas[thread]; thread++) {
		n = __atomic_load_n(&cover->areas[thread][0], __ATOMIC_RELAXED);
		if (n > WORDS - 1)
			n = WORDS - 1;
		for (i = 1, last = 0; i <= n; i++, last = pc) {
			pc = cover->areas[thread][i];
			found |= take(seen_pcs, pc, &cover->pcs);
			found |= take(seen_edges, last * 31 + pc, &cover->edges);
		}
	}
	return found;
}
