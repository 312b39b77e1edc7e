/* SPDX-License-Identifier: MIT */
/*
 * Weights become a device's layouts. One struct unpu_weights per model and device; sessions share
 * it.
 */
#ifndef UNPU_PACK_H
#define UNPU_PACK_H

#include "runtime/device/device.h"
#include "runtime/model/arch.h"
#include "runtime/plan/packed.h"

/* A range of a buffer. */
struct unpu_range {
	uint32_t handle;
	uint64_t offset;
	uint64_t bytes;
};

/* One packed matrix. Layouts without scales have an empty range there. */
struct unpu_weight {
	uint32_t layout;	/* enum drm_unpu_layout */
	uint32_t numeric;	/* enum drm_unpu_class */
	uint32_t rows, k;	/* as the dispatch sees them: gate and up interleaved, unpadded k */
	struct unpu_range quants, scales;
};

/* Weights of the four matrix dispatches of a layer, and their small vectors (shaders.h: params). */
struct unpu_layer_weights {
	struct unpu_weight qkv, out, ffn_in, ffn_out;
	struct unpu_range qkv_params, out_params, ffn_in_params, ffn_out_params;
	uint32_t qkv_flags, out_flags, ffn_in_flags, ffn_out_flags;	/* UNPU_FLAG_* */
};

/*
 * Where buffers' parts begin: what the device asks for, and at least what keeps every panel of 128
 * bytes and every vector load within its cache lines.
 */
static inline uint32_t unpu_part_align(const struct drm_unpu_dev_info *info)
{
	return info->binding_align > 256 ? info->binding_align : 256;
}

struct unpu_weights {
	struct unpu_device *dev;
	const struct unpu_arch *arch;
	struct drm_unpu_dev_info info;
	struct unpu_log log;
	struct unpu_layer_weights *layers;
	struct unpu_weight embed, head;		/* the same ranges when tied */
	struct unpu_range positions, head_params;
	uint32_t head_flags;
	uint64_t bytes;				/* of all banks */
	uint32_t num_banks;
	uint32_t banks[UNPU_MAX_BANKS];
	uint32_t import;			/* buffer over the file's embedding table, or 0 */
	struct unpu_packed_key key;		/* what a file of these weights says */
	struct unpu_packed packed;		/* the one that the banks are in, or none */
};

struct unpu_pack_params {
	bool class_f32;		/* quantised weights in class f32 */
	/*
	 * The file's bytes, when they are a mapping whose pages may be dropped once packed; else
	 * NULL. Pages are dropped as packing goes, so that the peak is weights and a little.
	 */
	const void *mapping;
	uint64_t mapping_bytes;
	/* Who the model is, for files of packed weights, and the one to take them from. */
	const struct unpu_gguf *gguf;
	struct unpu_packed_stamp stamp;
	const struct unpu_cpu_isa *isa;	/* the cpu's layouts are this one's; NULL: its own */
	bool packed;
	int packed_fd;
	unpu_progress_fn *progress;	/* in bytes of packed matrices; may be NULL */
	void *progress_arg;
};

/* -E2BIG: a matrix above the device's limits, -ENOTSUP: no layout for its type, -ENOMEM, -ENOSPC,
 * -ECANCELED: progress said so */
int unpu_weights_create(struct unpu_device *dev, const struct unpu_arch *arch,
			const struct unpu_pack_params *params, const struct unpu_log *log,
			struct unpu_weights **weights);
/*
 * Write them to a file that unpu_pack_params.packed_fd takes. -ENOTSUP: the device's memory is not
 * the process's own; errors of write(2).
 */
int unpu_weights_write(const struct unpu_weights *weights, int fd);
/* The buffers go, as far as no program holds them; what describes them stays. */
void unpu_weights_release(struct unpu_weights *weights);
void unpu_weights_destroy(struct unpu_weights *weights);

#endif
