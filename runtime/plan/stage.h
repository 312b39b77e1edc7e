/* SPDX-License-Identifier: MIT */
/*
 * A mapped buffer through which memory of the device's own is filled: pieces are written there and
 * brought to their places by programs of `copy`, as many at once as there is room for.
 */
#ifndef UNPU_STAGE_H
#define UNPU_STAGE_H

#include "runtime/plan/compile.h"

#define UNPU_STAGE_COPIES	64u	/* of one program */

struct unpu_stage {
	const struct unpu_weights *weights;	/* its device and limits */
	struct unpu_work none;
	struct unpu_compiler compiler;
	uint32_t ctx_id, syncobj, handle;
	uint8_t *ptr;
	uint64_t bytes, used;
	uint32_t num_copies, max_copies;
	struct unpu_copy copies[UNPU_STAGE_COPIES];
};

/* On error, too, it ends with unpu_stage_finish(). */
int unpu_stage_init(struct unpu_stage *stage, const struct unpu_weights *weights, uint64_t bytes);
void unpu_stage_finish(struct unpu_stage *stage);

/*
 * Make room for `count` pieces of up to `bytes` in all: what is there already goes its way when
 * there is none beside it. -E2BIG: there never is; other errors are the device's.
 */
int unpu_stage_room(struct unpu_stage *stage, uint64_t bytes, uint32_t count);
/* Where to write what belongs at `to`; there is room. */
uint8_t *unpu_stage_piece(struct unpu_stage *stage, const struct unpu_range *to);
/* Everything is at its place afterwards. */
int unpu_stage_flush(struct unpu_stage *stage);

#endif
