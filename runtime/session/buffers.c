/* SPDX-License-Identifier: MIT */
/* A session's buffers and programs. */
#include "runtime/session/session.h"

static const uint32_t program_parts[UNPU_NUM_PROGRAMS] = {
	[UNPU_PROGRAM_PROMPT] = UNPU_PART_EMBED | UNPU_PART_LAYERS,
	[UNPU_PROGRAM_PROMPT_HEAD] = UNPU_PART_EMBED | UNPU_PART_LAYERS | UNPU_PART_HEAD,
	[UNPU_PROGRAM_SAMPLE] = UNPU_PART_SAMPLE,
	[UNPU_PROGRAM_DECODE] = UNPU_PART_LAYERS | UNPU_PART_HEAD | UNPU_PART_SAMPLE,
	[UNPU_PROGRAM_LOGITS] = UNPU_PART_EMBED | UNPU_PART_LAYERS | UNPU_PART_HEAD,
	[UNPU_PROGRAM_SPECULATE] = UNPU_PART_EMBED | UNPU_PART_LAYERS | UNPU_PART_HEAD |
				   UNPU_PART_SAMPLE,
};

void unpu_area_add(struct unpu_area *area, struct unpu_range *range, uint32_t align)
{
	area->bytes = (area->bytes + align - 1) / align * align;
	range->offset = area->bytes;
	area->bytes += range->bytes;
}

int unpu_area_create(struct unpu_session *s, struct unpu_area *area, bool mapped)
{
	struct drm_unpu_bo_create bo = { .size = area->bytes,
					 .flags = mapped ? DRM_UNPU_BO_MMAP : 0 };
	void *ptr;
	int ret;

	if (!area->bytes)
		return 0;
	ret = s->dev->ops->bo_create(s->dev, &bo);
	if (ret)
		return ret;
	area->handle = bo.handle;
	if (!mapped)
		return 0;
	ret = s->dev->ops->bo_map(s->dev, bo.handle, &ptr);
	area->ptr = ret ? NULL : ptr;
	return ret;
}

void unpu_area_destroy(struct unpu_session *s, struct unpu_area *area)
{
	if (area->ptr)
		s->dev->ops->bo_unmap(s->dev, area->handle, area->ptr, area->bytes);
	if (area->handle)
		s->dev->ops->bo_close(s->dev, area->handle);
	*area = (struct unpu_area){ 0 };
}

int unpu_session_buffers(struct unpu_session *s)
{
	struct unpu_work *w = &s->work;
	uint32_t align = unpu_part_align(&s->weights->info);
	struct unpu_range *window[] = { &w->state, &w->history, &w->rope, &w->logits };
	struct unpu_range *scratch[] = { &w->maxima, &w->x, &w->q, &w->partials, &w->h };
	int ret;

	for (size_t i = 0; i < sizeof(window) / sizeof(window[0]); i++)
		unpu_area_add(&s->window, window[i], align);
	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		unpu_area_add(&s->scratch, scratch[i], align);
	unpu_area_add(&s->kv, &w->kv, align);
	ret = unpu_area_create(s, &s->window, true);
	ret = ret ? ret : unpu_area_create(s, &s->scratch, false);
	ret = ret ? ret : unpu_area_create(s, &s->kv, false);
	if (ret)
		return ret;
	for (size_t i = 0; i < sizeof(window) / sizeof(window[0]); i++)
		window[i]->handle = s->window.handle;
	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		scratch[i]->handle = s->scratch.handle;
	w->kv.handle = s->kv.handle;
	if (w->rope.bytes)
		unpu_rope_fill(&s->model->arch->hp, w->shape.cells,
			       (float *)(void *)(s->window.ptr + w->rope.offset));
	return 0;
}

/* As many logit rows as a program has rows; only who wants all logits pays for them. */
static int create_logits_path(struct unpu_session *s, struct unpu_logits_path *path, uint32_t rows)
{
	struct unpu_shape shape = s->work.shape;
	struct unpu_work *w = &path->work;
	uint32_t align = unpu_part_align(&s->weights->info);
	struct unpu_work sizes;
	int ret;

	if (path->area.handle)
		return 0;
	shape.rows = shape.logit_rows = rows;
	unpu_work_sizes(s->model->arch, &shape, &sizes);
	*w = s->work;
	w->shape = shape;
	w->logits = sizes.logits;
	w->maxima = sizes.maxima;
	unpu_area_add(&path->area, &w->logits, align);
	unpu_area_add(&path->area, &w->maxima, align);
	ret = unpu_area_create(s, &path->area, true);
	if (ret) {
		unpu_area_destroy(s, &path->area);
		return ret;
	}
	w->logits.handle = w->maxima.handle = path->area.handle;
	unpu_compiler_init(&path->compiler, s->weights, w);
	return 0;
}

uint32_t unpu_session_bucket(const struct unpu_session *s, uint32_t cells)
{
	uint32_t bucket = 0;

	if (s->weights->info.features & DRM_UNPU_FEATURE_LIVE_GRID)
		return UNPU_NUM_BUCKETS - 1;
	while (bucket < UNPU_NUM_BUCKETS - 1 && cells > UNPU_FIRST_BUCKET << bucket)
		bucket++;
	return bucket;
}

static uint32_t bucket_chunks(uint32_t bucket, uint32_t all)
{
	uint32_t chunks = (UNPU_FIRST_BUCKET << bucket) / UNPU_CHUNK;

	return bucket < UNPU_NUM_BUCKETS - 1 && chunks < all ? chunks : all;
}

/* Who makes the program. */
static int compiler_of(struct unpu_session *s, int which, struct unpu_compiler **c)
{
	uint32_t rows = s->set.speculate + 1;

	*c = &s->compiler;
	switch (which) {
	case UNPU_PROGRAM_DECODE:
		*c = &s->decode_compiler;
		return 0;
	case UNPU_PROGRAM_LOGITS:
		*c = &s->logits.compiler;
		return create_logits_path(s, &s->logits, s->batch);
	case UNPU_PROGRAM_SPECULATE:
		*c = &s->speculation.compiler;
		return create_logits_path(s, &s->speculation, rows < s->batch ? rows : s->batch);
	}
	return 0;
}

int unpu_session_program(struct unpu_session *s, int which, uint32_t bucket)
{
	struct unpu_compiler *c;
	uint32_t dispatches;
	int ret = compiler_of(s, which, &c);

	if (ret || s->programs[which][bucket])
		return ret;
	c->chunks = bucket_chunks(bucket, c->work->shape.chunks);
	ret = unpu_compile(c, program_parts[which], &s->programs[which][bucket], &dispatches);
	if (!ret && which == UNPU_PROGRAM_DECODE)
		s->decode_dispatches = dispatches;
	return ret;
}
