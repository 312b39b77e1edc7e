/* SPDX-License-Identifier: MIT */
#include "tests/lib/gpuish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/core.h"
#include "runtime/device/cpu/cpu.h"
#include "shaders/shaders.h"

static struct gpuish *to_gpuish(struct unpu_engine *engine)
{
	return (struct gpuish *)engine;	/* base is the first member */
}

static void keep_r32(struct drm_unpu_dev_info *info)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < info->num_matrices; i++)
		if (unpu_layout_info(info->matrices[i].layout)->panel == 32)
			info->matrices[kept++] = info->matrices[i];
	info->num_matrices = kept;
}

static void info(struct unpu_engine *base, struct drm_unpu_dev_info *info)
{
	struct gpuish *g = to_gpuish(base);
	const struct gpuish_params *p = &g->params;

	g->cpu->ops->info(g->cpu, info);
	if (!p->mappable)
		info->features &= ~DRM_UNPU_FEATURE_UNIFIED;
	if (p->impure)
		info->features &= ~DRM_UNPU_FEATURE_PURE_ROWS;
	if (p->tokens_per_submit)
		info->tokens_per_submit = p->tokens_per_submit;
	if (p->device_bytes)
		info->heap_device_bytes = p->device_bytes;
	if (p->window_bytes)
		info->heap_window_bytes = p->window_bytes;
	if (p->max_bo_bytes)
		info->max_bo_bytes = p->max_bo_bytes;
	if (p->r32)
		keep_r32(info);
	info->binding_align = 256;
	if (p->timeout_ns)
		info->default_timeout_ns = p->timeout_ns;
	snprintf((char *)info->name, sizeof(info->name), "like a GPU");
}

static int shader_check(struct unpu_engine *base, uint32_t kind, const uint32_t *spec)
{
	struct gpuish *g = to_gpuish(base);

	return g->cpu->ops->shader_check(g->cpu, kind, spec);
}

static int program_prepare(struct unpu_engine *base, struct unpu_program *program)
{
	struct gpuish *g = to_gpuish(base);

	return g->cpu->ops->program_prepare(g->cpu, program);
}

static void program_release(struct unpu_engine *base, struct unpu_program *program)
{
	struct gpuish *g = to_gpuish(base);

	g->cpu->ops->program_release(g->cpu, program);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/*
 * A device that is wrong writes anywhere at any time, also where the host reads what a job before
 * has left: not a race to be reported.
 */
__attribute__((no_sanitize_thread, noinline))
static void scribble(void *to, uint32_t word, uint64_t bytes)
{
	volatile uint32_t *words = to;

	for (uint64_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = word;
}

__attribute__((no_sanitize_thread, noinline))
static void disturb(uint32_t *to, uint32_t bits, uint32_t more)
{
	*(volatile uint32_t *)to = (*(volatile uint32_t *)to | bits) + more;
}

/* Every buffer that the program writes, and the history of the session that it belongs to. */
static void spoil(struct unpu_program *program)
{
	for (uint32_t i = 0; i < program->num_dispatches; i++) {
		const struct unpu_job_dispatch *d = &program->dispatches[i];

		for (uint32_t b = 0; b < d->num_bindings; b++) {
			const struct unpu_job_binding *to = &d->bindings[b];

			if (unpu_shader_info(d->kind)->write_mask >> b & 1)
				scribble((uint8_t *)to->bo->ptr + to->offset, 0xa5a5a5a5, to->size);
		}
	}
}

/* What the last dispatch of a program that samples has to do with: NULL of any other. */
static const struct unpu_job_dispatch *sampler(const struct unpu_program *program)
{
	const struct unpu_job_dispatch *d = &program->dispatches[program->num_dispatches - 1];

	return d->kind == UNPU_SHADER_SAMPLE ? d : NULL;
}

static void *bound(const struct unpu_job_dispatch *d, uint32_t binding)
{
	return (uint8_t *)d->bindings[binding].bo->ptr + d->bindings[binding].offset;
}

static struct unpu_state_header *state_of(const struct unpu_job_dispatch *d)
{
	return bound(d, 0);
}

static void set_fault(const struct unpu_program *program, uint32_t bits)
{
	const struct unpu_job_dispatch *d = &program->dispatches[0];

	if (d->kind != UNPU_SHADER_COPY)
		disturb(&state_of(d)->fault, bits, 0);
}

/* What it does instead of a round, or afterwards. */
static int fail(struct gpuish *g, struct unpu_program *program, const atomic_uint *cancel)
{
	const struct timespec nap = { 0, 100000 };
	const struct unpu_job_dispatch *sample = sampler(program);

	switch (g->fault) {
	case GPUISH_HANG:
		while (!atomic_load(cancel))
			nanosleep(&nap, NULL);
		g->gone = true;
		return -ENODEV;
	case GPUISH_LOST:
		g->gone = true;
		return -ENODEV;
	case GPUISH_OOM:
		return -ENOMEM;
	case GPUISH_CORRUPT:
		spoil(program);
		return -EIO;
	case GPUISH_NAN:
		set_fault(program, UNPU_STATE_FAULT_VALUE);
		return 0;
	case GPUISH_INDEX:
		set_fault(program, UNPU_STATE_FAULT_INDEX);
		return 0;
	case GPUISH_TOO_MANY:
		if (sample)
			disturb(&state_of(sample)->ring_head, 0, 1000);
		return 0;
	case GPUISH_BAD_TOKEN:
		if (sample)
			scribble(bound(sample, UNPU_SAMPLE_HISTORY), 0xfffffff0,
				 sample->bindings[UNPU_SAMPLE_HISTORY].size);
		return 0;
	default:
		return 0;
	}
}

static int run(struct unpu_engine *base, struct unpu_program *program, uint32_t repeat,
	       const atomic_uint *cancel, uint32_t *done)
{
	struct gpuish *g = to_gpuish(base);
	uint32_t most = g->params.rounds ? g->params.rounds : 1;
	bool faulty = atomic_fetch_add(&g->runs, 1) + 1 == g->fault_at;
	uint32_t one;
	int err = 0;

	most = most < repeat ? most : repeat;
	if (g->hook)
		g->hook(g->arg);
	if (g->gone)
		return -ENODEV;
	for (*done = 0; !err && *done < most; (*done)++) {
		if (*done && program->stop && atomic_load(program->stop))
			break;
		err = g->cpu->ops->run(g->cpu, program, 1, cancel, &one);
		atomic_fetch_add(&g->rounds, 1);
	}
	return !err && faulty ? fail(g, program, cancel) : err;
}

/* ---- birth and death ------------------------------------------------------------------------- */

static void destroy(struct unpu_engine *base)
{
	struct gpuish *g = to_gpuish(base);

	if (g->closed)
		atomic_fetch_add(g->closed, 1);
	g->cpu->ops->destroy(g->cpu);
	free(g);
}

static const struct unpu_engine_ops ops = {
	.info = info,
	.shader_check = shader_check,
	.program_prepare = program_prepare,
	.program_release = program_release,
	.run = run,
	.destroy = destroy,
};

int gpuish_open(const struct gpuish_params *params, const struct unpu_log *log,
		struct unpu_device **dev, struct gpuish **g)
{
	const struct unpu_device_params cpu = { .threads = 1 };
	int err;

	*g = calloc(1, sizeof(**g));
	if (!*g)
		return -ENOMEM;
	err = unpu_cpu_engine_create(&cpu, &(*g)->cpu);
	if (err) {
		free(*g);
		return err;
	}
	(*g)->base.ops = &ops;
	(*g)->base.threaded = !params->waits;
	(*g)->params = *params;
	return unpu_inproc_create(&(*g)->base, "gpuish:0", log, NULL, dev);
}

int gpuish_move_in(struct unpu_model *model, const struct gpuish_params *params,
		   struct gpuish **g)
{
	struct unpu_device *dev;
	int err = gpuish_open(params, NULL, &dev, g);

	if (err)
		return err;
	unpu_home_finish(model);
	return unpu_home_settle(model, dev, NULL, NULL);
}
