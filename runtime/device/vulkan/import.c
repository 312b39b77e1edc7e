/* SPDX-License-Identifier: MIT */
/*
 * Imported memory: shaders work on a shadow of it, into which a submission copies what its program
 * binds, and out of which it copies what the program may have written. What was only partly written
 * so keeps the rest, and shaders never see memory that somebody else changes under them. Stop words
 * are no part of that: the owner sets them at any time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/cpu/twin.h"
#include "runtime/device/vulkan/engine.h"

#define WORD	4u

/* Bytes of an imported buffer that a dispatch binds. */
struct span {
	const struct unpu_bo *bo;
	uint64_t begin, end;
	bool written;
};

/* Everything of one program, while it is prepared. */
struct plan {
	struct span *spans, *words;
	uint32_t num_spans, num_words;
};

/* ---- what a program binds -------------------------------------------------------------------- */

static void add_span(struct plan *plan, const struct unpu_job_binding *binding, bool written)
{
	plan->spans[plan->num_spans++] = (struct span){
		.bo = binding->bo, .begin = binding->offset,
		.end = binding->offset + binding->size, .written = written,
	};
}

/* Programs share their words: most have one. */
static void add_word(struct plan *plan, const struct unpu_bo *bo, uint64_t offset)
{
	for (uint32_t i = 0; i < plan->num_words; i++)
		if (plan->words[i].bo == bo && plan->words[i].begin == offset)
			return;
	plan->words[plan->num_words++] = (struct span){
		.bo = bo, .begin = offset, .end = offset + WORD,
	};
}

static void add_dispatch(struct plan *plan, const struct unpu_job_dispatch *d)
{
	const struct unpu_job_binding *state = &d->bindings[0];
	uint32_t write_mask = unpu_shader_info(d->kind)->write_mask;

	for (uint32_t b = 0; b < d->num_bindings; b++)
		if (d->bindings[b].bo && d->bindings[b].bo->imported && d->bindings[b].size)
			add_span(plan, &d->bindings[b], write_mask >> b & 1);
	if (!unpu_twin_get(d->kind)->stateless && state->bo && state->bo->imported)
		add_word(plan, state->bo, state->offset + offsetof(struct unpu_state_header, stop));
}

/* The buffer in which the program's stop word lies, if that is imported. */
static void add_stop(struct plan *plan, const struct unpu_program *program)
{
	const uint8_t *stop = (const uint8_t *)program->stop;

	if (program->stop && program->stop_bo->imported)
		add_word(plan, program->stop_bo,
			 (uint64_t)(stop - (const uint8_t *)program->stop_bo->ptr));
}

static int by_place(const void *left, const void *right)
{
	const struct span *a = left, *b = right;

	if (a->bo != b->bo)
		return (uintptr_t)a->bo < (uintptr_t)b->bo ? -1 : 1;
	return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static int plan_init(struct plan *plan, const struct unpu_program *program)
{
	uint32_t most = program->num_dispatches;

	*plan = (struct plan){
		.spans = calloc(most * UNPU_SHADER_MAX_BINDINGS + 1, sizeof(*plan->spans)),
		.words = calloc(most + 1, sizeof(*plan->words)),
	};
	if (!plan->spans || !plan->words)
		return -ENOMEM;
	for (uint32_t i = 0; i < program->num_dispatches; i++)
		add_dispatch(plan, &program->dispatches[i]);
	add_stop(plan, program);
	qsort(plan->spans, plan->num_spans, sizeof(*plan->spans), by_place);
	qsort(plan->words, plan->num_words, sizeof(*plan->words), by_place);
	return 0;
}

static void plan_finish(struct plan *plan)
{
	free(plan->spans);
	free(plan->words);
}

/* ---- what that means to copy ----------------------------------------------------------------- */

static uint8_t *shadow(const struct unpu_bo *bo)
{
	return ((const struct unpu_vk_buffer *)bo->priv)->ptr;
}

static void add_copy(struct unpu_vk_copies *copies, const struct span *span, uint64_t begin,
		     uint64_t end)
{
	if (begin < end)
		copies->list[copies->count++] = (struct unpu_vk_copy){
			.ours = shadow(span->bo) + begin,
			.theirs = (uint8_t *)span->bo->ptr + begin,
			.size = (size_t)(end - begin),
		};
}

/* A span without the words in it. */
static void cut(const struct plan *plan, struct unpu_vk_copies *copies, const struct span *span)
{
	uint64_t begin = span->begin;

	for (uint32_t i = 0; i < plan->num_words; i++) {
		const struct span *word = &plan->words[i];

		if (word->bo != span->bo || word->end <= begin || word->begin >= span->end)
			continue;
		add_copy(copies, span, begin, word->begin);
		begin = word->end;
	}
	add_copy(copies, span, begin, span->end);
}

/* Spans that touch become one; of those that are written alone, if so asked. */
static int list_copies(const struct plan *plan, bool written, struct unpu_vk_copies *copies)
{
	struct span all = { 0 };

	copies->list = calloc(plan->num_spans + plan->num_words + 1, sizeof(*copies->list));
	if (!copies->list)
		return -ENOMEM;
	for (uint32_t i = 0; i < plan->num_spans; i++) {
		const struct span *span = &plan->spans[i];

		if (written && !span->written)
			continue;
		if (span->bo == all.bo && span->begin <= all.end) {
			all.end = span->end > all.end ? span->end : all.end;
			continue;
		}
		cut(plan, copies, &all);
		all = *span;
	}
	cut(plan, copies, &all);
	return 0;
}

static bool is_written(const struct plan *plan, const struct span *word)
{
	for (uint32_t i = 0; i < plan->num_spans; i++)
		if (plan->spans[i].written && plan->spans[i].bo == word->bo &&
		    plan->spans[i].begin <= word->begin && plan->spans[i].end >= word->end)
			return true;
	return false;
}

static int list_words(const struct plan *plan, struct unpu_vk_imports *imports)
{
	imports->words = calloc(plan->num_words + 1, sizeof(*imports->words));
	if (!imports->words)
		return -ENOMEM;
	for (uint32_t i = 0; i < plan->num_words; i++) {
		const struct span *word = &plan->words[i];

		imports->words[imports->num_words++] = (struct unpu_vk_word){
			.ours = (void *)(shadow(word->bo) + word->begin),
			.theirs = (void *)((uint8_t *)word->bo->ptr + word->begin),
			.written = is_written(plan, word),
		};
	}
	return 0;
}

int unpu_vk_imports_prepare(struct unpu_vk_engine *e, const struct unpu_program *program,
			    struct unpu_vk_imports *imports)
{
	struct plan plan;
	int err = plan_init(&plan, program);

	imports->stop = program->stop;
	if (!err && (plan.num_spans || plan.num_words)) {
		err = list_copies(&plan, false, &imports->in);
		err = err ? err : list_copies(&plan, true, &imports->out);
		err = err ? err : list_words(&plan, imports);
	}
	for (uint32_t i = 0; i < imports->num_words; i++)
		if (imports->words[i].theirs == program->stop)
			imports->stop = imports->words[i].ours;
	plan_finish(&plan);
	return err ? unpu_fail(&e->vk.log, err, "vulkan: no memory for a program") : 0;
}

void unpu_vk_imports_release(struct unpu_vk_imports *imports)
{
	free(imports->in.list);
	free(imports->out.list);
	free(imports->words);
	*imports = (struct unpu_vk_imports){ 0 };
}

/* ---- around a submission --------------------------------------------------------------------- */

void unpu_vk_imports_in(struct unpu_vk_imports *imports)
{
	for (uint32_t i = 0; i < imports->in.count; i++)
		memcpy(imports->in.list[i].ours, imports->in.list[i].theirs,
		       imports->in.list[i].size);
	for (uint32_t i = 0; i < imports->num_words; i++) {
		struct unpu_vk_word *word = &imports->words[i];

		word->was = atomic_load(word->theirs);
		atomic_store(word->ours, word->was);
	}
}

/* A stop word that the owner sets meanwhile ends the rounds that are left, too. */
void unpu_vk_imports_look(struct unpu_vk_imports *imports)
{
	for (uint32_t i = 0; i < imports->num_words; i++) {
		struct unpu_vk_word *word = &imports->words[i];
		uint32_t now = atomic_load(word->theirs);

		if (now && now != word->was && !atomic_load(word->ours))
			atomic_store(word->ours, now);
	}
}

/*
 * What the owner has set since the copy was taken stays; what the device has set gets there if the
 * word is still as it was.
 */
static void word_out(struct unpu_vk_word *word)
{
	uint32_t was = word->was, now = atomic_load(word->ours);

	if (word->written && now != was)
		atomic_compare_exchange_strong(word->theirs, &was, now);
}

void unpu_vk_imports_out(struct unpu_vk_imports *imports)
{
	for (uint32_t i = 0; i < imports->out.count; i++)
		memcpy(imports->out.list[i].theirs, imports->out.list[i].ours,
		       imports->out.list[i].size);
	for (uint32_t i = 0; i < imports->num_words; i++)
		word_out(&imports->words[i]);
}
