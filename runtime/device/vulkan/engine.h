/* SPDX-License-Identifier: MIT */
/*
 * Inside the vulkan engine, above an open device: shaders become pipelines (pipeline.c, cache.c),
 * programs become recorded command buffers (program.c), which run.c submits with a canary
 * (canary.c) behind them and, for imported memory, between two copies (import.c).
 *
 * run() may be in progress during any other call. It touches its program's command pool, the queue
 * and the fence, and nothing that the others write; counters are atomic.
 */
#ifndef UNPU_VK_ENGINE_H
#define UNPU_VK_ENGINE_H

#include "runtime/device/vulkan/vk.h"

/* Bytes that one binding takes at most, whatever the device allows: below every device's 128 MiB
 * by a margin. */
#define UNPU_VK_BANK		(120ull << 20)
/* Rounds of the longer of a program's two recordings. */
#define UNPU_VK_ROUNDS		8
/* sample: the embedding is written by dispatches of `embed` behind it. */
#define UNPU_VK_ID_NO_EMBED	31

struct unpu_vk_engine;

/* ---- pipeline.c ------------------------------------------------------------------------------ */

/* One shader with its constants, shared by all programs that use it and kept behind them. */
struct unpu_vk_pipeline {
	struct unpu_vk_pipeline *next;
	uint32_t refs;
	uint32_t kind, module, local, no_embed;
	uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS];
	VkPipeline handle;
};

struct unpu_vk_shaders {
	VkDescriptorSetLayout sets[UNPU_SHADER_COUNT];
	VkPipelineLayout layouts[UNPU_SHADER_COUNT];
	VkShaderModule *modules;		/* of unpu_vk_modules[], when needed */
	struct unpu_vk_pipeline *pipelines;
	atomic_uint num_in_use;			/* of them, by programs */
	VkPipelineCache cache;
	uint64_t cache_hash;			/* of what the disk held */
};

/* What a shader multiplies by; layout is DRM_UNPU_LAYOUT_COUNT where it does not. */
struct unpu_vk_matrix {
	uint32_t layout, numeric;
	uint32_t unit;		/* rows of the matrix that one unit of grid[0] takes */
	uint32_t k;
	uint32_t quants;	/* binding; the scales' is the next */
};

void unpu_vk_matrix_get(uint32_t kind, const uint32_t *spec, struct unpu_vk_matrix *matrix);

/* "f32s/256"; -EINVAL. */
int unpu_vk_tuning_parse(const char *text, struct unpu_vk_tuning *tuning);
/* What the device takes by itself. */
void unpu_vk_tuning_init(const struct unpu_vk_caps *caps, struct unpu_vk_tuning *tuning);
/* Whether the device's features carry modules of this math. */
bool unpu_vk_math_works(const struct unpu_vk_caps *caps, uint32_t math);
/* Index of the module for a shader, or -EOPNOTSUPP. */
int unpu_vk_module_find(const struct unpu_vk_caps *caps, const struct unpu_vk_tuning *tuning,
			uint32_t kind, const uint32_t *spec);

int unpu_vk_shaders_init(struct unpu_vk *vk, struct unpu_vk_shaders *shaders);
void unpu_vk_shaders_finish(struct unpu_vk *vk, struct unpu_vk_shaders *shaders);
int unpu_vk_pipeline_get(struct unpu_vk *vk, struct unpu_vk_shaders *shaders,
			 const struct unpu_vk_tuning *tuning, uint32_t kind, const uint32_t *spec,
			 bool no_embed, struct unpu_vk_pipeline **pipeline);
/* pipeline may be NULL. */
void unpu_vk_pipeline_put(struct unpu_vk_shaders *shaders, struct unpu_vk_pipeline *pipeline);
/* Of those that no program uses any more only some are kept. */
void unpu_vk_pipelines_trim(struct unpu_vk *vk, struct unpu_vk_shaders *shaders);

/* ---- cache.c --------------------------------------------------------------------------------- */

/* What an earlier process left for this device and driver, to be freed with free(); NULL: nothing
 * of use. A damaged file is said once and ignored. */
void *unpu_vk_cache_load(const struct unpu_vk *vk, size_t *size);
/* Replaces the file, or leaves it as it is: a cache is never worth an error. */
void unpu_vk_cache_store(const struct unpu_vk *vk, const void *data, size_t size);
uint64_t unpu_vk_cache_hash(const void *data, size_t size);

/* ---- import.c -------------------------------------------------------------------------------- */

/* Of the shadow that shaders see, and of the memory it stands for. */
struct unpu_vk_copy {
	uint8_t *ours, *theirs;
	size_t size;
};

struct unpu_vk_copies {
	struct unpu_vk_copy *list;
	uint32_t count;
};

/* A stop word; `was`: theirs, when it was copied. */
struct unpu_vk_word {
	_Atomic uint32_t *ours, *theirs;
	uint32_t was;
	bool written;		/* by the program, perhaps */
};

/* What a program binds of imported memory: nothing, nearly always. */
struct unpu_vk_imports {
	struct unpu_vk_copies in, out;
	struct unpu_vk_word *words;
	uint32_t num_words;
	_Atomic uint32_t *stop;		/* the program's, where shaders see it; NULL: none */
};

/* -ENOMEM, said; release() takes what it left. */
int unpu_vk_imports_prepare(struct unpu_vk_engine *e, const struct unpu_program *program,
			    struct unpu_vk_imports *imports);
void unpu_vk_imports_release(struct unpu_vk_imports *imports);
/* Before a submission, now and then in the middle, and when its results count. */
void unpu_vk_imports_in(struct unpu_vk_imports *imports);
void unpu_vk_imports_look(struct unpu_vk_imports *imports);
void unpu_vk_imports_out(struct unpu_vk_imports *imports);

/* ---- program.c ------------------------------------------------------------------------------- */

/* One vkCmdDispatch. */
struct unpu_vk_call {
	struct unpu_vk_pipeline *pipeline;
	VkDescriptorSet set;
	uint32_t groups[3];
	uint32_t push[UNPU_VK_PUSH_BYTES / 4];
};

struct unpu_vk_program {
	uint32_t num_calls;
	struct unpu_vk_call *calls;
	VkDescriptorPool descriptors;
	VkCommandPool commands;
	VkCommandBuffer one, rounds;		/* rounds: NULL until it is first wanted */
	struct unpu_vk_canary *canary;		/* NULL: no matrix, and none has been made */
	struct unpu_vk_imports imports;
	uint64_t round_ns;			/* measured; 0: not yet */
};

int unpu_vk_program_prepare(struct unpu_vk_engine *e, struct unpu_program *program);
void unpu_vk_program_release(struct unpu_vk_engine *e, struct unpu_program *program);
/* The recording of UNPU_VK_ROUNDS rounds. */
int unpu_vk_program_rounds(struct unpu_vk_engine *e, struct unpu_vk_program *p);

/* Records `rounds` rounds of the calls into a new command buffer of the pool. */
int unpu_vk_record(struct unpu_vk *vk, VkCommandPool pool, const struct unpu_vk_shaders *shaders,
		   const struct unpu_vk_call *calls, uint32_t num_calls, uint32_t rounds,
		   VkCommandBuffer *commands);
int unpu_vk_command_pool(struct unpu_vk *vk, VkCommandPool *pool);
int unpu_vk_descriptor_pool(struct unpu_vk *vk, uint32_t sets, uint32_t descriptors,
			    VkDescriptorPool *pool);
/* A new set of the pool; binding i is buffers[i]. */
int unpu_vk_write_set(struct unpu_vk *vk, VkDescriptorPool pool, VkDescriptorSetLayout layout,
		      const VkDescriptorBufferInfo *buffers, uint32_t num_bindings,
		      VkDescriptorSet *set);

/* ---- canary.c -------------------------------------------------------------------------------- */

/* A small ffn_in of one layout and class, whose answer is known. */
struct unpu_vk_canary {
	struct unpu_vk_canary *next;
	struct unpu_ffn_in_spec spec;
	struct unpu_vk_buffer buffer;		/* all its bindings, one behind the other */
	uint64_t offsets[UNPU_FFN_IN_BINDINGS], sizes[UNPU_FFN_IN_BINDINGS];
	struct unpu_vk_call call;
	VkDescriptorPool descriptors;
	VkCommandPool pool;
	VkCommandBuffer commands;
	float *answer;				/* the device's, verified; [ffn] */
};

/* The canary for this layout and class, made and verified if there is none yet. */
int unpu_vk_canary_get(struct unpu_vk_engine *e, uint32_t layout, uint32_t numeric,
		       struct unpu_vk_canary **canary);
/* Before a submit: the answer is not there. After its fence: 0, or -EIO and a sentence. */
void unpu_vk_canary_clear(struct unpu_vk_canary *canary);
int unpu_vk_canary_check(const struct unpu_vk_engine *e, const struct unpu_vk_canary *canary);
void unpu_vk_canary_spoil(struct unpu_vk_canary *canary);
void unpu_vk_canaries_finish(struct unpu_vk_engine *e);

/* ---- run.c ----------------------------------------------------------------------------------- */

struct unpu_vk_engine {
	struct unpu_engine base;		/* first: an op gets its address */
	struct unpu_vk vk;
	struct unpu_vk_tuning tuning;
	struct unpu_vk_shaders shaders;
	struct unpu_vk_canary *canaries;
	struct unpu_vk_buffer none;		/* bound where a shader reads nothing */
	VkFence fence;				/* of run() */
	uint64_t slice_ns;			/* of a submit with several rounds; 0: SUBMIT_NS */
	/* Its numbers are wrong: nothing more is run, but unlike a lost one it is at rest. */
	atomic_bool bad;
};

uint64_t unpu_vk_now_ns(void);
int unpu_vk_fence(struct unpu_vk *vk, VkFence *fence);
int unpu_vk_run(struct unpu_vk_engine *e, struct unpu_program *program, uint32_t repeat,
		const atomic_uint *cancel, uint32_t *done);
/*
 * Submits and waits until the fence has signalled. -ECANCELED: it has, but there was a cancel;
 * -ENODEV: it has not, long after a cancel or, where cancel is NULL, after long enough. imports:
 * of the program whose commands these are, or NULL.
 */
int unpu_vk_submit(struct unpu_vk_engine *e, VkFence fence, const VkCommandBuffer *commands,
		   uint32_t count, uint64_t expected_ns, const atomic_uint *cancel,
		   struct unpu_vk_imports *imports);

static inline void unpu_vk_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

#endif
