/* SPDX-License-Identifier: MIT */
#include "runtime/device/cpu/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/device/cpu/pool.h"
#include "runtime/device/cpu/twin.h"

/* As many rows take about as long as one: decoding, of several texts or with drafts. */
#define CPU_DECODE_ROWS	8u

/* A dispatch as it runs: addresses instead of buffers. Lives in dispatch->priv. */
struct cpu_call {
	const struct unpu_twin *twin;
	const void *spec, *constants;
	struct unpu_state_header *state;	/* NULL: the shader has none */
	struct unpu_view_bounds bounds;
	void *bindings[UNPU_SHADER_MAX_BINDINGS];
};

struct cpu_program {
	uint32_t num_calls;
	struct cpu_call calls[];
};

/* Shared bytes, then each thread's. */
struct cpu_scratch {
	uint8_t *base;
	size_t shared, local, bytes;
};

/* What the threads of one run share; the fields change only while all of them wait. */
struct cpu_run {
	struct cpu_engine *engine;
	const struct cpu_program *program;
	const atomic_uint *cancel;
	const _Atomic uint32_t *stop;	/* NULL: none */
	uint32_t index;		/* of the dispatch at hand */
	int preparing;
	int over;		/* the dispatch at hand is not run, nor what follows */
	int err;
	struct unpu_view view;
};

struct cpu_engine {
	struct unpu_engine base;
	struct unpu_cpu_ops ops;
	struct unpu_log log;
	struct unpu_pool *pool;
	uint32_t threads;
	/* A run uses `scratch`; what a new program needs besides waits in `next` for the next
	 * run, so that neither waits for the other but to look. */
	pthread_mutex_t lock;
	struct cpu_scratch scratch, next;
	struct cpu_run run;
};

static struct cpu_engine *cpu_engine(struct unpu_engine *base)
{
	return (struct cpu_engine *)base;	/* base is the first member */
}

/* ---- what the device tells ---------------------------------------------------------------- */

static uint64_t cpu_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 1ull << 30;
}

static void cpu_info(struct unpu_engine *base, struct drm_unpu_dev_info *info)
{
	struct cpu_engine *e = cpu_engine(base);
	uint64_t memory = cpu_memory();

	info->features = DRM_UNPU_FEATURE_UNIFIED | DRM_UNPU_FEATURE_LIVE_GRID |
			 DRM_UNPU_FEATURE_PURE_ROWS | DRM_UNPU_FEATURE_WAIT_RUNS;
	info->heap_window_bytes = memory;
	info->heap_device_bytes = memory;
	info->max_bo_bytes = memory;
	info->max_binding_bytes = memory;
	info->binding_align = 32;	/* GGUF's: its embedding tables are read in place */
	info->max_rows = UNPU_CPU_MAX_ROWS;
	info->max_dispatches = 4096;
	info->tokens_per_submit = 1;
	info->units = e->threads;
	info->kv_types = 1u << DRM_UNPU_KV_F32 | 1u << DRM_UNPU_KV_F16 | 1u << DRM_UNPU_KV_INT8;
	info->num_matrices = e->ops.num_matrices;
	memcpy(info->matrices, e->ops.matrices, sizeof(info->matrices));
	snprintf((char *)info->name, sizeof(info->name), "cpu %s, %u thread%s", e->ops.name,
		 e->threads, e->threads == 1 ? "" : "s");
}

/* Which words of a shader say how it multiplies and how many rows it takes. */
static int cpu_shader_check(struct unpu_engine *base, uint32_t kind, const uint32_t *spec)
{
	struct cpu_engine *e = cpu_engine(base);
	const struct unpu_twin *twin = unpu_twin_get(kind);
	struct unpu_view_bounds bounds;
	uint32_t layout = 0, numeric = DRM_UNPU_CLASS_F32;

	if (!twin)
		return -EOPNOTSUPP;
	unpu_twin_bounds(twin, spec, &bounds);
	if (bounds.rows > UNPU_CPU_MAX_ROWS)
		return -EOPNOTSUPP;
	switch (kind) {
	case UNPU_SHADER_QKV:
		layout = ((const struct unpu_qkv_spec *)spec)->layout;
		numeric = ((const struct unpu_qkv_spec *)spec)->numeric;
		break;
	case UNPU_SHADER_ATTN_OUT:
		layout = ((const struct unpu_attn_out_spec *)spec)->layout;
		numeric = ((const struct unpu_attn_out_spec *)spec)->numeric;
		break;
	case UNPU_SHADER_FFN_IN:
		layout = ((const struct unpu_ffn_in_spec *)spec)->layout;
		numeric = ((const struct unpu_ffn_in_spec *)spec)->numeric;
		break;
	case UNPU_SHADER_FFN_OUT:
		layout = ((const struct unpu_ffn_out_spec *)spec)->layout;
		numeric = ((const struct unpu_ffn_out_spec *)spec)->numeric;
		break;
	case UNPU_SHADER_HEAD:
		layout = ((const struct unpu_head_spec *)spec)->layout;
		numeric = ((const struct unpu_head_spec *)spec)->numeric;
		break;
	default:	/* no matrix, or one whose rows are only looked up, in any layout */
		return 0;
	}
	return e->ops.mm[layout][numeric] ? 0 : -EOPNOTSUPP;
}

/* ---- programs ----------------------------------------------------------------------------- */

static void cpu_scratch_free(struct cpu_scratch *scratch)
{
	if (scratch->base)
		munmap(scratch->base, scratch->bytes);
	*scratch = (struct cpu_scratch){ 0 };
}

/* Room for the scratch of a new program; called with the lock held. Never shrinks. */
static int cpu_reserve(struct cpu_engine *e, size_t shared, size_t local)
{
	const struct cpu_scratch *old = e->next.base ? &e->next : &e->scratch;
	struct cpu_scratch new = {
		.shared = shared > old->shared ? shared : old->shared,
		.local = local > old->local ? local : old->local,
	};
	void *base;

	if (new.shared == old->shared && new.local == old->local)
		return 0;
	new.bytes = new.shared + new.local * e->threads;
	base = mmap(NULL, new.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return unpu_fail(&e->log, -ENOMEM, "cpu: no memory for %zu bytes of scratch",
				 new.bytes);
	new.base = base;
	cpu_scratch_free(&e->next);
	e->next = new;
	return 0;
}

/* At the start of a run: nobody uses the old one. */
static void cpu_scratch_adopt(struct cpu_engine *e)
{
	pthread_mutex_lock(&e->lock);
	if (e->next.base) {
		cpu_scratch_free(&e->scratch);
		e->scratch = e->next;
		e->next = (struct cpu_scratch){ 0 };
	}
	pthread_mutex_unlock(&e->lock);
}

static void cpu_call_init(struct cpu_call *call, const struct unpu_job_dispatch *d)
{
	call->twin = unpu_twin_get(d->kind);
	call->spec = d->spec;
	call->constants = d->constants;
	for (uint32_t i = 0; i < d->num_bindings; i++)
		if (d->bindings[i].bo)
			call->bindings[i] = (uint8_t *)d->bindings[i].bo->ptr +
					    d->bindings[i].offset;
	unpu_twin_bounds(call->twin, call->spec, &call->bounds);
	if (!call->twin->stateless)
		call->state = call->bindings[0];
}

static int cpu_program_prepare(struct unpu_engine *base, struct unpu_program *program)
{
	struct cpu_engine *e = cpu_engine(base);
	struct cpu_program *p;
	size_t shared = 64, local = 64;	/* never none: arithmetic on NULL is undefined */
	int err;

	p = calloc(1, sizeof(*p) + program->num_dispatches * sizeof(p->calls[0]));
	if (!p)
		return unpu_fail(&e->log, -ENOMEM, "cpu: no memory for a program");
	p->num_calls = program->num_dispatches;
	for (uint32_t i = 0; i < p->num_calls; i++) {
		struct unpu_twin_need need = { 0 };

		cpu_call_init(&p->calls[i], &program->dispatches[i]);
		if (p->calls[i].twin->need)
			p->calls[i].twin->need(p->calls[i].spec, e->threads, &need);
		shared = need.shared > shared ? need.shared : shared;
		local = need.local > local ? need.local : local;
	}
	pthread_mutex_lock(&e->lock);
	err = cpu_reserve(e, unpu_align64(shared), unpu_align64(local));
	pthread_mutex_unlock(&e->lock);
	if (err) {
		free(p);
		return err;
	}
	program->priv = p;
	return 0;
}

static void cpu_program_release(struct unpu_engine *base, struct unpu_program *program)
{
	(void)base;
	free(program->priv);
	program->priv = NULL;
}

/* ---- a run -------------------------------------------------------------------------------- */

static struct unpu_twin_args cpu_args(const struct cpu_run *run, uint32_t worker)
{
	const struct cpu_call *call = &run->program->calls[run->index];
	struct cpu_engine *e = run->engine;

	return (struct unpu_twin_args){
		.ops = &e->ops, .view = &run->view,
		.spec = call->spec, .constants = call->constants, .bindings = call->bindings,
		.shared = e->scratch.base,
		.local = e->scratch.base + e->scratch.shared + worker * e->scratch.local,
		.thread = worker, .threads = e->threads,
	};
}

/* Before dispatch run->index, while no thread works. */
static void cpu_begin(struct cpu_run *run)
{
	const struct cpu_call *call = &run->program->calls[run->index];

	if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed))
		run->err = -ECANCELED;
	/* A prompt's rows take a slow board seconds: too long for one who wants it to end. */
	run->over = run->err || (run->stop && atomic_load_explicit(run->stop, memory_order_relaxed)
					      == UNPU_STOP_CANCEL);
	if (run->over)
		return;
	if (call->state)
		unpu_view_read(&run->view, call->state, &call->bounds);
	run->preparing = call->twin->staged &&
			 call->twin->staged(call->spec, &run->view, run->engine->threads);
}

/* The next dispatch that has units, or the second half of one with two. */
static uint32_t cpu_next(void *arg)
{
	struct cpu_run *run = arg;
	uint32_t units = 0;

	while (!units) {
		if (run->preparing) {
			run->preparing = 0;
		} else {
			if (++run->index == run->program->num_calls)
				return 0;
			cpu_begin(run);
		}
		if (run->over)
			return 0;

		const struct unpu_twin *twin = run->program->calls[run->index].twin;
		const struct unpu_twin_args args = cpu_args(run, 0);

		units = run->preparing ? twin->prepare_units(&args) : twin->units(&args);
	}
	return units;
}

static void cpu_work(void *arg, struct unpu_pool_share *share)
{
	const struct cpu_run *run = arg;
	const struct unpu_twin *twin = run->program->calls[run->index].twin;
	struct unpu_twin_args args = cpu_args(run, share->worker);

	args.share = share;
	if (run->preparing)
		twin->prepare(&args);
	else
		twin->run(&args);
}

/* What the first dispatch with a state finds there: for the pool's statistics alone. */
static uint32_t cpu_rows(const struct cpu_program *program)
{
	for (uint32_t i = 0; i < program->num_calls; i++) {
		if (program->calls[i].state) {
			uint32_t rows = __atomic_load_n(&program->calls[i].state->rows_live,
							__ATOMIC_RELAXED);

			/* More are not run: nobody's jobs are to look as if they cost nothing. */
			return rows < UNPU_CPU_MAX_ROWS ? rows : UNPU_CPU_MAX_ROWS;
		}
	}
	return 1;
}

/* One round: nothing is won by more, and the frame looks at other contexts in between. */
static int cpu_run(struct unpu_engine *base, struct unpu_program *program, uint32_t repeat,
		   const atomic_uint *cancel, uint32_t *done)
{
	struct cpu_engine *e = cpu_engine(base);
	struct cpu_run *run = &e->run;
	struct unpu_pool_job job = { .next = cpu_next, .work = cpu_work, .arg = run, .amount = 1 };
	uint32_t rows;

	(void)repeat;
	*done = 1;
	cpu_scratch_adopt(e);
	run->engine = e;
	run->program = program->priv;
	run->cancel = cancel;
	run->stop = program->stop;
	run->index = UINT32_MAX;	/* before the first */
	run->preparing = 0;
	run->over = 0;
	run->err = 0;
	rows = cpu_rows(run->program);
	if (rows > CPU_DECODE_ROWS) {
		job.kind = UNPU_POOL_PROMPT;
		job.amount = rows;
	}
	unpu_pool_run(e->pool, &job);
	return run->err;
}

/* ---- birth and death ---------------------------------------------------------------------- */

static void cpu_destroy(struct unpu_engine *base)
{
	struct cpu_engine *e = cpu_engine(base);

	if (!e)
		return;
	unpu_pool_destroy(e->pool);
	cpu_scratch_free(&e->scratch);
	cpu_scratch_free(&e->next);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static const struct unpu_engine_ops cpu_engine_ops = {
	.info = cpu_info,
	.shader_check = cpu_shader_check,
	.program_prepare = cpu_program_prepare,
	.program_release = cpu_program_release,
	.run = cpu_run,
	.destroy = cpu_destroy,
};

int unpu_cpu_engine_create(const struct unpu_device_params *params, struct unpu_engine **engine)
{
	const struct unpu_pool_params pool = {
		.threads = params->threads, .clamp = params->clamp_threads,
	};
	const char *name = params->cpu_mask ? params->cpu_mask : getenv("UNPU_CPUMASK");
	struct cpu_engine *e;
	uint32_t mask;
	int err;

	if (unpu_cpu_mask_parse(name, &mask))
		return unpu_fail(&params->log, -EINVAL, "cpu: \"%s\" is no instruction set", name);
	e = calloc(1, sizeof(*e));
	if (!e)
		return unpu_fail(&params->log, -ENOMEM, "cpu: no memory for the device");
	e->base.ops = &cpu_engine_ops;
	e->log = params->log;
	pthread_mutex_init(&e->lock, NULL);
	unpu_cpu_ops_init(&e->ops, mask & unpu_cpu_detect());
	err = unpu_pool_create(&pool, &params->log, &e->pool);
	if (err) {
		cpu_destroy(&e->base);
		return err;
	}
	e->threads = unpu_pool_threads(e->pool);
	*engine = &e->base;
	return 0;
}

int unpu_cpu_device_open(const struct unpu_device_params *params, struct unpu_device **dev)
{
	struct unpu_engine *engine;
	int err = unpu_cpu_engine_create(params, &engine);

	if (err)
		return err;
	return unpu_inproc_create(engine, "cpu", &params->log, params->watch, dev);
}
