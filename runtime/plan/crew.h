/* SPDX-License-Identifier: MIT */
/* Pieces of work that do not depend on each other, by threads that come for them and go. */
#ifndef UNPU_CREW_H
#define UNPU_CREW_H

#include <stdint.h>

struct unpu_crew_work {
	uint32_t pieces;
	/* Not 0: no piece is begun after it. From any thread of the crew. */
	int (*piece)(void *arg, uint32_t index);
	/* The same, on the caller's thread alone, behind each of the pieces that it did. */
	int (*report)(void *arg);
	void *arg;
};

/*
 * All pieces, by up to `threads` threads of which the caller's is one; with fewer where there are
 * no more to be had. What pieces did is visible to the caller afterwards. 0, or what the first one
 * that was not 0 returned.
 */
int unpu_crew_run(const struct unpu_crew_work *work, uint32_t threads);

#endif
