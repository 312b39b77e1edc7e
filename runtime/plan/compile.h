/* SPDX-License-Identifier: MIT */
/* Layer plans become programs of the five phases, head and sample. */
#ifndef UNPU_COMPILE_H
#define UNPU_COMPILE_H

#include "runtime/plan/pack.h"

/* What a program does, in this order. */
#define UNPU_PART_EMBED		(1u << 0)
#define UNPU_PART_LAYERS	(1u << 1)
#define UNPU_PART_HEAD		(1u << 2)
#define UNPU_PART_SAMPLE	(1u << 3)

#define UNPU_MAX_SHADERS	32

/* A session's buffers on the device, and how large they are. */
struct unpu_shape {
	uint32_t rows;		/* capacity of a program */
	uint32_t slots;
	uint32_t cells;		/* of one slot, a multiple of 64 */
	uint32_t chunks;	/* context bucket / 64 */
	uint32_t logit_rows;
	uint32_t kv_type;	/* enum drm_unpu_kv_type */
};

struct unpu_work {
	struct unpu_shape shape;
	struct unpu_range state, history, rope, logits, maxima;
	struct unpu_range x, q, partials, h;
	struct unpu_range kv;	/* all layers, one after the other */
};

/* Sizes of all ranges, their handles and offsets 0. */
void unpu_work_sizes(const struct unpu_arch *arch, const struct unpu_shape *shape,
		     struct unpu_work *work);

/* cos and sin of every position, computed in double, as shaders.h lays the table out. */
void unpu_rope_fill(const struct unpu_hparams *hp, uint32_t positions, float *table);

/* Shaders are made once for all programs of one compiler. */
struct unpu_compiler {
	const struct unpu_weights *weights;
	const struct unpu_work *work;
	uint32_t chunks;	/* of the programs to come, up to the shape's; 0: all of them */
	uint32_t num_shaders;
	struct {
		uint32_t kind, id, words;
		uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS];
	} shaders[UNPU_MAX_SHADERS];
};

void unpu_compiler_init(struct unpu_compiler *c, const struct unpu_weights *weights,
			const struct unpu_work *work);
/* Drops the shaders; programs made from them live on. */
void unpu_compiler_finish(struct unpu_compiler *c);

/* One program of the given parts. *dispatches (may be NULL) is how many it has. */
int unpu_compile(struct unpu_compiler *c, uint32_t parts, uint32_t *program_id,
		 uint32_t *dispatches);

/* Of the same size, a multiple of 4; offsets at what the device asks of bindings. */
struct unpu_copy {
	struct unpu_range src, dst;
};

/* One program that copies all of them, without a stop word: nobody sees a part of it. */
int unpu_compile_copies(struct unpu_compiler *c, const struct unpu_copy *copies, uint32_t count,
			uint32_t *program_id);

#endif
