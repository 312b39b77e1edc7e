/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/twin.h"

static void attn_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_attn_spec *s = spec;

	bounds->cells = s->cells;
	bounds->slots = s->slots;
}

/* Chunks that row i attends to: a cell inside the cache may still be past the context bucket. */
static uint32_t attn_chunks(const struct unpu_twin_args *args, uint32_t i)
{
	const struct unpu_attn_const *c = args->constants;
	uint32_t chunks = args->view->rows[i].cell / UNPU_CHUNK + 1;

	if (chunks > c->chunks) {
		unpu_state_fault(args->bindings[UNPU_ATTN_STATE], UNPU_STATE_FAULT_INDEX);
		return c->chunks;
	}
	return chunks;
}

static void attn_item(const struct unpu_twin_args *args, uint32_t head, uint32_t chunk, uint32_t i)
{
	const struct unpu_attn_spec *s = args->spec;
	const struct unpu_state_row *row = &args->view->rows[i];
	size_t chunks = s->cells / UNPU_CHUNK, group = s->heads / s->kv_heads;
	size_t first = (size_t)chunk * UNPU_CHUNK;
	size_t k = ((size_t)head * s->slots + row->slot) * s->cells + first;
	size_t v = (size_t)s->kv_heads * s->slots * s->cells + k;
	size_t bytes = unpu_kv_cell_bytes(s->kv_type, s->head_dim);
	size_t at = (i * chunks + chunk) * s->heads + head * group;
	const uint8_t *cache = args->bindings[UNPU_ATTN_KV];
	float *partials = args->bindings[UNPU_ATTN_PARTIALS];
	struct unpu_attn_args attn = {
		.cells = row->cell - first < UNPU_CHUNK ? (uint32_t)(row->cell - first) + 1 :
							  UNPU_CHUNK,
		.group = (uint32_t)group, .head_dim = s->head_dim, .scale = s->scale,
		.k = cache + k * bytes, .v = cache + v * bytes,
		.q = (const float *)args->bindings[UNPU_ATTN_Q] +
		     ((size_t)i * s->heads + head * group) * s->head_dim,
		.ldq = s->head_dim,
		.o = partials + at * s->head_dim, .ldo = s->head_dim,
		.ms = partials + s->rows * chunks * s->heads * s->head_dim + at * 2,
	};

	if (s->kv_type == DRM_UNPU_KV_INT8) {
		const uint16_t *scales = (const void *)(cache + 2 * (v - k) * bytes);

		attn.k_scales = scales + k * unpu_kv_scales(s->head_dim);
		attn.v_scales = scales + v * unpu_kv_scales(s->head_dim);
	}
	args->ops->attn[s->kv_type](&attn);
}

/* Chunks of each live row; returns those of all. */
static uint32_t attn_count(const struct unpu_twin_args *args, uint32_t *chunks, uint32_t *most)
{
	uint32_t total = 0;

	*most = 0;
	for (uint32_t i = 0; i < args->view->live; i++) {
		chunks[i] = attn_chunks(args, i);
		total += chunks[i];
		*most = chunks[i] > *most ? chunks[i] : *most;
	}
	return total;
}

static uint32_t attn_units(const struct unpu_twin_args *args)
{
	const struct unpu_attn_spec *s = args->spec;
	uint32_t chunks[UNPU_CPU_MAX_ROWS], most;

	return attn_count(args, chunks, &most) * s->kv_heads;
}

/* Rows run innermost, so that a chunk of K and V serves all rows of a prompt from the cache. Chunks
 * past a row's cell are no items: threads share what is left. */
static void attn_part(const struct unpu_twin_args *args, const struct unpu_twin_part *part,
		      const uint32_t *chunks, uint32_t most, uint32_t total)
{
	uint32_t head = part->first / total, item = head * total, live = args->view->live;

	for (;; head++) {
		for (uint32_t c = 0; c < most; c++) {
			for (uint32_t i = 0; i < live; i++) {
				if (c >= chunks[i])
					continue;
				if (item >= part->last)
					return;
				if (item++ >= part->first)
					attn_item(args, head, c, i);
			}
		}
	}
}

static void attn_run(const struct unpu_twin_args *args)
{
	const struct unpu_attn_spec *s = args->spec;
	uint32_t chunks[UNPU_CPU_MAX_ROWS], most, total = attn_count(args, chunks, &most);
	struct unpu_twin_part part = { 0 };

	while (unpu_twin_take(args, total * s->kv_heads, &part))
		attn_part(args, &part, chunks, most, total);
}

const struct unpu_twin unpu_twin_attn = {
	.bounds = attn_bounds,
	.run = attn_run,
	.units = attn_units,
};
