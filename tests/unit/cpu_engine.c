/* SPDX-License-Identifier: MIT */
/*
 * A small model on the engine: logits and KV are the same bits for all numbers of threads and rows,
 * in all layouts; then cancelling, limits, and preparing while another program runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/cpu/cpu.h"
#include "runtime/half.h"
#include "runtime/device/cpu/ops.h"

#define LAYERS		2u
#define MAX_ROWS	32u
#define SLOTS		2u
#define CELLS		128u
#define HEADS		4u
#define KV_HEADS	2u
#define VOCAB		75u
#define PROMPT		71u	/* past the first chunk of positions */
#define TOKENS		6u
#define DISPATCHES	(5 * LAYERS + 3)
#define EPS		1e-5f

/* Of the model at hand: wider where several blocks share their scales. */
static struct widths {
	uint32_t hidden, dim, ffn;
} widths = { 64, 16, 96 };

static uint64_t rng;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 32);
}

static float uniform(float low, float high)
{
	return low + (high - low) * (float)(rnd() >> 8) * 0x1p-24f;
}

struct matrix {
	uint32_t rows, k;
	struct unpu_bo quants, scales;
};

struct model {
	uint32_t layout, numeric, kv_type;
	struct matrix embed, head, qkv[LAYERS], out[LAYERS], in[LAYERS], down[LAYERS];
	struct unpu_bo params, rope;
};

struct work {
	struct unpu_bo state, x, q, kv[LAYERS], partials, h, logits, maxima, history;
};

/* The five shaders of a layer and the three around them, for one row capacity. */
struct specs {
	struct unpu_embed_spec embed;
	struct unpu_qkv_spec qkv;
	struct unpu_attn_spec attn;
	struct unpu_attn_const attn_const;
	struct unpu_attn_out_spec out;
	struct unpu_ffn_in_spec in;
	struct unpu_ffn_out_spec down;
	struct unpu_head_spec head;
	struct unpu_sample_spec sample;
};

struct program {
	struct unpu_program base;
	struct specs specs;
	struct unpu_job_dispatch dispatches[DISPATCHES];
};

static int run(struct unpu_engine *e, struct program *p, const atomic_uint *cancel)
{
	uint32_t done = 0;
	int err = e->ops->run(e, &p->base, 1, cancel, &done);

	assert_int_equal(done, 1);
	return err;
}

static void bo_init(struct unpu_bo *bo, uint64_t size)
{
	bo->size = (size + 255) / 256 * 256 + 256;
	bo->ptr = aligned_alloc(256, bo->size);
	assert_non_null(bo->ptr);
	memset(bo->ptr, 0, bo->size);
}

/* ---- the model ------------------------------------------------------------------------------ */

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* Weights of about the size of the other layouts' with any bytes for what is no float. */
static void scales_init(uint8_t *p, const struct unpu_layout_info *info, uint64_t bytes, float d)
{
	uint64_t record = (uint64_t)info->panel * info->scales, i;
	uint32_t halves = info->family == UNPU_FAMILY_Q4K ? 2 * info->panel : info->panel;

	for (i = 0; i < bytes; i++)
		p[i] = (uint8_t)rnd();
	for (i = 0; info->family == UNPU_FAMILY_Q && i < bytes; i += 2)
		put16(p + i, unpu_float_f16(uniform(-d, d)));
	for (i = 0; info->family == UNPU_FAMILY_Q8A && i < bytes; i += 4)
		memcpy(p + i, &(float){ uniform(-d, d) }, 4);
	for (i = 0; info->group > 32 && i < bytes; i += record)
		for (uint32_t j = 0; j < halves; j++)
			put16(p + i + 2 * j, unpu_float_f16(uniform(-d, d) * 0.01f));
}

/* Any bytes are quants; scales and floats are small. */
static void matrix_init(struct matrix *m, uint32_t layout, uint32_t rows, uint32_t k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint64_t bytes = unpu_layout_quant_bytes(layout, rows, k);
	uint64_t scales = unpu_layout_scale_bytes(layout, rows, k);
	float d = info->bits < 8 ? 0.02f : 0.001f;
	uint8_t *p;

	m->rows = rows;
	m->k = k;
	bo_init(&m->quants, bytes);
	bo_init(&m->scales, scales);
	p = m->quants.ptr;
	for (uint64_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)rnd();
	for (uint64_t i = 0; info->quantised && !info->packed && i < bytes; i += info->block)
		put16(p + i, unpu_float_f16(uniform(-d, d)));
	scales_init(m->scales.ptr, info, scales, d);
	for (uint64_t i = 0; !info->quantised && i < bytes; i += info->bits / 8) {
		float v = uniform(-0.2f, 0.2f);

		if (info->bits == 32)
			memcpy(p + i, &v, sizeof(v));
		else if (layout == DRM_UNPU_LAYOUT_GGUF_F16 || layout == DRM_UNPU_LAYOUT_F16_R16 ||
			 layout == DRM_UNPU_LAYOUT_F16_R32)
			put16(p + i, unpu_float_f16(v));
		else
			put16(p + i, (uint16_t)(unpu_float_bits(v) >> 16));
	}
}

static void model_init(struct model *m, const struct drm_unpu_matrix *how, uint32_t kv_type)
{
	uint32_t group = unpu_layout_info(how->layout)->group;

	rng = 5;
	widths = group > 32 ? (struct widths){ group, group / HEADS, group } :
			      (struct widths){ 64, 16, 96 };
	m->layout = how->layout;
	m->numeric = how->numeric;
	m->kv_type = kv_type;
	matrix_init(&m->embed, m->layout, VOCAB, widths.hidden);
	matrix_init(&m->head, m->layout, VOCAB, widths.hidden);
	for (uint32_t l = 0; l < LAYERS; l++) {
		matrix_init(&m->qkv[l], m->layout, (HEADS + 2 * KV_HEADS) * widths.dim,
			    widths.hidden);
		matrix_init(&m->out[l], m->layout, widths.hidden, HEADS * widths.dim);
		matrix_init(&m->in[l], m->layout, 2 * widths.ffn, widths.hidden);
		matrix_init(&m->down[l], m->layout, widths.hidden, widths.ffn);
	}
	bo_init(&m->params, 4096);
	for (uint32_t i = 0; i < 1024; i++)
		((float *)m->params.ptr)[i] = uniform(0.5f, 1.5f);
	bo_init(&m->rope, CELLS * widths.dim * 4);
	for (uint32_t i = 0; i < CELLS * widths.dim; i++)
		((float *)m->rope.ptr)[i] = uniform(-1, 1);
}

static void matrix_finish(struct matrix *m)
{
	free(m->quants.ptr);
	free(m->scales.ptr);
}

static void model_finish(struct model *m)
{
	matrix_finish(&m->embed);
	matrix_finish(&m->head);
	for (uint32_t l = 0; l < LAYERS; l++) {
		matrix_finish(&m->qkv[l]);
		matrix_finish(&m->out[l]);
		matrix_finish(&m->in[l]);
		matrix_finish(&m->down[l]);
	}
	free(m->params.ptr);
	free(m->rope.ptr);
}

static void work_init(struct work *w)
{
	uint32_t chunks = CELLS / 64;

	bo_init(&w->state, unpu_state_bytes(MAX_ROWS, SLOTS));
	bo_init(&w->x, MAX_ROWS * widths.hidden * 4);
	bo_init(&w->q, MAX_ROWS * HEADS * widths.dim * 4);
	for (uint32_t l = 0; l < LAYERS; l++)
		bo_init(&w->kv[l], unpu_kv_bytes(DRM_UNPU_KV_F32, KV_HEADS, SLOTS, CELLS,
						  widths.dim));
	bo_init(&w->partials, MAX_ROWS * chunks * HEADS * (widths.dim + 2) * 4);
	bo_init(&w->h, MAX_ROWS * widths.ffn * 4);
	bo_init(&w->logits, MAX_ROWS * VOCAB * 4);
	bo_init(&w->maxima, MAX_ROWS * (unpu_pad32(VOCAB) / 32) * 8);
	bo_init(&w->history, SLOTS * CELLS * 4);
}

static void work_finish(struct work *w)
{
	free(w->state.ptr);
	free(w->x.ptr);
	free(w->q.ptr);
	for (uint32_t l = 0; l < LAYERS; l++)
		free(w->kv[l].ptr);
	free(w->partials.ptr);
	free(w->h.ptr);
	free(w->logits.ptr);
	free(w->maxima.ptr);
	free(w->history.ptr);
}

/* ---- programs ------------------------------------------------------------------------------- */

static void specs_init(struct specs *s, const struct model *m, uint32_t rows)
{
	*s = (struct specs){
		.embed = { rows, SLOTS, VOCAB, widths.hidden, m->layout, 0 },
		.qkv = { rows, SLOTS, CELLS, widths.hidden, HEADS, KV_HEADS, widths.dim, m->layout,
			 m->numeric, m->kv_type, UNPU_NORM_RMS,
			 UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM, EPS, UNPU_ROPE_HALVES, widths.dim,
			 CELLS },
		.attn = { rows, SLOTS, CELLS, HEADS, KV_HEADS, widths.dim, m->kv_type, 0.25f },
		.attn_const = { CELLS / 64 },
		.out = { rows, SLOTS, CELLS, widths.hidden, HEADS, widths.dim, m->layout,
			 m->numeric, UNPU_FLAG_BIAS },
		.in = { rows, SLOTS, widths.hidden, widths.ffn, m->layout, m->numeric,
			UNPU_NORM_LAYER, UNPU_FLAG_NORM_BIAS | UNPU_FLAG_GATED, UNPU_ACT_SILU,
			EPS },
		.down = { rows, SLOTS, widths.hidden, widths.ffn, m->layout, m->numeric, 0 },
		.head = { rows, SLOTS, widths.hidden, VOCAB, m->layout, m->numeric, UNPU_NORM_RMS,
			  0, EPS, MAX_ROWS },
		.sample = { rows, SLOTS, CELLS, VOCAB, widths.hidden, MAX_ROWS, m->layout, 0 },
	};
}

/* The next dispatch, its bindings in their order. */
static void add(struct unpu_engine *e, struct program *p, uint32_t kind, void *spec,
		struct unpu_bo *const *bos)
{
	struct unpu_job_dispatch *d = &p->dispatches[p->base.num_dispatches++];
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_shader_need need;

	d->kind = kind;
	d->spec = spec;
	d->constants = kind == UNPU_SHADER_ATTN ? &p->specs.attn_const : NULL;
	d->num_bindings = info->num_bindings;
	assert_int_equal(unpu_shader_check_spec(kind, d->spec, info->spec_words), 0);
	assert_int_equal(unpu_shader_need(kind, d->spec, d->constants, info->const_bytes, &need),
			 0);
	assert_int_equal(e->ops->shader_check(e, kind, d->spec), 0);
	memcpy(d->grid, need.grid, sizeof(d->grid));
	for (uint32_t i = 0; i < info->num_bindings; i++) {
		d->bindings[i].bo = bos[i];
		d->bindings[i].size = need.bytes[i];
		assert_true(need.bytes[i] <= bos[i]->size);
	}
}

#define ADD(__kind, __spec, ...) \
	add(e, p, UNPU_SHADER_ ## __kind, &p->specs.__spec, (struct unpu_bo *[]){ __VA_ARGS__ })

static void add_layer(struct unpu_engine *e, struct program *p, struct model *m, struct work *w,
		      uint32_t l)
{
	ADD(QKV, qkv, &w->state, &w->x, &m->params, &m->qkv[l].quants, &m->qkv[l].scales,
	    &m->rope, &w->q, &w->kv[l]);
	ADD(ATTN, attn, &w->state, &w->q, &w->kv[l], &w->partials);
	ADD(ATTN_OUT, out, &w->state, &w->partials, &m->params, &m->out[l].quants,
	    &m->out[l].scales, &w->x);
	ADD(FFN_IN, in, &w->state, &w->x, &m->params, &m->in[l].quants, &m->in[l].scales, &w->h);
	ADD(FFN_OUT, down, &w->state, &w->h, &m->params, &m->down[l].quants, &m->down[l].scales,
	    &w->x);
}

enum { EMBED = 1, SAMPLE = 2 };

static void program_init(struct unpu_engine *e, struct program *p, struct model *m,
			 struct work *w, uint32_t rows, int what)
{
	memset(p, 0, sizeof(*p));
	p->base.dispatches = p->dispatches;
	specs_init(&p->specs, m, rows);
	if (what & EMBED)
		ADD(EMBED, embed, &w->state, &m->embed.quants, &m->embed.scales, &m->params,
		    &w->x);
	for (uint32_t l = 0; l < LAYERS; l++)
		add_layer(e, p, m, w, l);
	ADD(HEAD, head, &w->state, &w->x, &m->params, &m->head.quants, &m->head.scales,
	    &w->logits, &w->maxima);
	if (what & SAMPLE)
		ADD(SAMPLE, sample, &w->state, &w->logits, &w->maxima, &w->history,
		    &m->embed.quants, &m->embed.scales, &m->params, &w->x);
	assert_int_equal(e->ops->program_prepare(e, &p->base), 0);
}

static struct unpu_engine *engine(uint32_t threads)
{
	const struct unpu_device_params params = { .threads = threads };
	struct unpu_engine *e;

	assert_int_equal(unpu_cpu_engine_create(&params, &e), 0);
	return e;
}

/* ---- purity --------------------------------------------------------------------------------- */

static void set_rows(const struct work *w, uint32_t first, uint32_t live)
{
	struct unpu_state_header *state = w->state.ptr;
	struct unpu_state_row *rows = (void *)((uint8_t *)w->state.ptr +
					       unpu_state_rows_offset(SLOTS));

	state->rows_live = live;
	for (uint32_t i = 0; i < live; i++)
		rows[i] = (struct unpu_state_row){
			.token = (first + i) * 7 % VOCAB, .position = first + i, .cell = first + i,
			.slot = 1, .flags = UNPU_ROW_LOGITS, .out = i,
		};
}

/* A prompt in batches of `rows`; logits of all positions to `logits`. */
static void prompt(struct unpu_engine *e, struct model *m, struct work *w, uint32_t rows,
		   float *logits)
{
	struct program p;

	program_init(e, &p, m, w, rows, EMBED);
	for (uint32_t first = 0; first < PROMPT; first += rows) {
		uint32_t live = PROMPT - first < rows ? PROMPT - first : rows;

		set_rows(w, first, live);
		assert_int_equal(run(e, &p, NULL), 0);
		memcpy(logits + first * VOCAB, w->logits.ptr, live * VOCAB * sizeof(float));
	}
	e->ops->program_release(e, &p.base);
	assert_int_equal(((struct unpu_state_header *)w->state.ptr)->fault, 0);
}

/* Then some tokens, drawn. */
static void generate(struct unpu_engine *e, struct model *m, struct work *w)
{
	struct unpu_state_sampler *set = (void *)((uint8_t *)w->state.ptr +
						  unpu_state_samplers_offset());
	struct unpu_state_row *row = (void *)((uint8_t *)w->state.ptr +
					      unpu_state_rows_offset(SLOTS));
	struct program p;

	set[1] = (struct unpu_state_sampler){
		.temperature = 1, .top_k = 20, .top_p = 1, .repeat_penalty = 1.1f,
		.repeat_last_n = 16, .seed = { 1, 2 },
	};
	set_rows(w, PROMPT, 1);
	row->flags |= UNPU_ROW_SAMPLE;
	for (uint32_t i = 0; i < TOKENS; i++) {
		/* `sample` leaves the next token's embedding in x. */
		program_init(e, &p, m, w, 1, i ? SAMPLE : EMBED | SAMPLE);
		assert_int_equal(run(e, &p, NULL), 0);
		e->ops->program_release(e, &p.base);
	}
	assert_int_equal(row->cell, PROMPT + TOKENS);
	assert_int_equal(((struct unpu_state_header *)w->state.ptr)->fault, 0);
}

struct result {
	float logits[PROMPT * VOCAB];
	struct work work;
};

static void run_all(struct model *m, uint32_t threads, uint32_t rows, struct result *r)
{
	struct unpu_engine *e = engine(threads);

	work_init(&r->work);
	prompt(e, m, &r->work, rows, r->logits);
	generate(e, m, &r->work);
	e->ops->destroy(e);
}

static void compare(const struct result *a, const struct result *b)
{
	assert_memory_equal(a->logits, b->logits, sizeof(a->logits));
	for (uint32_t l = 0; l < LAYERS; l++)
		assert_memory_equal(a->work.kv[l].ptr, b->work.kv[l].ptr, a->work.kv[l].size);
	assert_memory_equal(a->work.history.ptr, b->work.history.ptr, a->work.history.size);
}

static void check_pure(const struct drm_unpu_matrix *how, uint32_t kv_type)
{
	static const struct { uint32_t threads, rows; } ways[] = {
		{ 2, 3 }, { 3, 7 }, { 1, 32 }, { 7, 32 },
	};
	static struct result first, other;
	struct model m;

	model_init(&m, how, kv_type);
	run_all(&m, 1, 1, &first);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		run_all(&m, ways[i].threads, ways[i].rows, &other);
		compare(&first, &other);
		work_finish(&other.work);
	}
	work_finish(&first.work);
	model_finish(&m);
}

/* All layouts this machine takes, in each class. */
static void test_pure(void **state)
{
	struct drm_unpu_dev_info info = { 0 };
	struct unpu_engine *e = engine(1);
	/* Emulated, every fma is a call on some machines: a third of the layouts do. */
	uint32_t step = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED") ? 3 : 1;

	(void)state;
	e->ops->info(e, &info);
	e->ops->destroy(e);
	assert_true(info.num_matrices > 0);
	for (uint32_t i = 0; i < info.num_matrices; i += step)
		check_pure(&info.matrices[i], (i + i / 3) % 3);	/* all of enum drm_unpu_kv_type */
}

/* ---- the rest of the engine ------------------------------------------------------------------ */

static const struct drm_unpu_matrix any = { DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_CLASS_F32 };

static void test_cancel(void **state)
{
	struct unpu_engine *e = engine(2);
	atomic_uint cancel = 1;
	struct program p;
	struct model m;
	struct work w;

	(void)state;
	model_init(&m, &any, DRM_UNPU_KV_F32);
	work_init(&w);
	program_init(e, &p, &m, &w, 4, EMBED);
	set_rows(&w, 0, 4);
	assert_int_equal(run(e, &p, &cancel), -ECANCELED);
	atomic_store(&cancel, 0);
	assert_int_equal(run(e, &p, &cancel), 0);
	e->ops->program_release(e, &p.base);
	e->ops->program_release(e, &p.base);	/* as after a prepare that failed */
	e->ops->destroy(e);
	work_finish(&w);
	model_finish(&m);
}

/* Cancelled at any moment by another thread, all workers leave at the same dispatch. */
static void *cancel_often(void *arg)
{
	atomic_uint *cancel = arg;

	for (uint32_t i = 0; atomic_load(cancel) != 2; i++) {
		uint32_t from = i & 1;

		atomic_compare_exchange_strong(cancel, &from, !(i & 1));
		for (volatile uint32_t n = 0; n < i % 1000; n++)
			;
	}
	return NULL;
}

static void test_cancel_anywhere(void **state)
{
	struct unpu_engine *e = engine(3);
	atomic_uint cancel = 0;
	pthread_t thread;
	struct program p;
	struct model m;
	struct work w;
	int err;

	(void)state;
	model_init(&m, &any, DRM_UNPU_KV_F32);
	work_init(&w);
	program_init(e, &p, &m, &w, 4, EMBED);
	set_rows(&w, 0, 4);
	assert_int_equal(pthread_create(&thread, NULL, cancel_often, &cancel), 0);
	for (int i = 0; i < 200; i++) {
		err = run(e, &p, &cancel);
		assert_true(err == 0 || err == -ECANCELED);
	}
	atomic_store(&cancel, 2);
	pthread_join(thread, NULL);
	assert_int_equal(run(e, &p, NULL), 0);
	e->ops->program_release(e, &p.base);
	e->ops->destroy(e);
	work_finish(&w);
	model_finish(&m);
}

/*
 * The host's stop word ends a repeat at the next dispatch, and that is no failure; a word that the
 * sampler left does not: it is for what comes after the repeat.
 */
static void test_stop(void **state)
{
	struct unpu_engine *e = engine(3);
	_Atomic uint32_t stop = UNPU_STOP_CANCEL;
	pthread_t thread;
	struct program p;
	struct model m;
	struct work w;
	float *x;

	(void)state;
	model_init(&m, &any, DRM_UNPU_KV_F32);
	work_init(&w);
	program_init(e, &p, &m, &w, 4, EMBED);
	p.base.stop = &stop;
	set_rows(&w, 0, 4);
	x = w.x.ptr;
	memset(x, 0, 4 * widths.hidden * sizeof(*x));
	assert_int_equal(run(e, &p, NULL), 0);
	for (uint32_t i = 0; i < 4 * widths.hidden; i++)
		assert_true(x[i] == 0);
	atomic_store(&stop, UNPU_STOP_END);
	assert_int_equal(run(e, &p, NULL), 0);
	assert_true(x[0] != 0);
	atomic_store(&stop, 0);
	assert_int_equal(pthread_create(&thread, NULL, cancel_often, &stop), 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(run(e, &p, NULL), 0);
	atomic_store(&stop, 2);
	pthread_join(thread, NULL);
	e->ops->program_release(e, &p.base);
	e->ops->destroy(e);
	work_finish(&w);
	model_finish(&m);
}

/* Programs of more and more rows are prepared while another runs: the scratch moves. */
struct prepare {
	struct unpu_engine *e;
	struct model *m;
	struct work w;
	atomic_uint done;
};

static void *prepare_more(void *arg)
{
	struct prepare *c = arg;
	struct program p;

	for (uint32_t rows = 1; rows <= MAX_ROWS; rows++) {
		program_init(c->e, &p, c->m, &c->w, rows, EMBED);
		c->e->ops->program_release(c->e, &p.base);
	}
	atomic_store(&c->done, 1);
	return NULL;
}

static void test_prepare_while_running(void **state)
{
	struct prepare c = { .e = engine(2) };
	pthread_t thread;
	struct program p;
	struct model m;
	struct work w;

	(void)state;
	model_init(&m, &any, DRM_UNPU_KV_F32);
	work_init(&w);
	work_init(&c.w);
	c.m = &m;
	program_init(c.e, &p, &m, &w, 1, EMBED);
	set_rows(&w, 0, 1);
	assert_int_equal(pthread_create(&thread, NULL, prepare_more, &c), 0);
	do
		assert_int_equal(run(c.e, &p, NULL), 0);
	while (!atomic_load(&c.done));
	pthread_join(thread, NULL);
	c.e->ops->program_release(c.e, &p.base);
	c.e->ops->destroy(c.e);
	work_finish(&w);
	work_finish(&c.w);
	model_finish(&m);
}

static void test_info(void **state)
{
	struct drm_unpu_dev_info info = { 0 };
	struct unpu_engine *e = engine(2);

	(void)state;
	e->ops->info(e, &info);
	assert_int_equal(info.features & DRM_UNPU_FEATURE_PURE_ROWS, DRM_UNPU_FEATURE_PURE_ROWS);
	assert_int_equal(info.tokens_per_submit, 1);
	assert_int_equal(info.binding_align & (info.binding_align - 1), 0);
	assert_int_equal(info.kv_types, 7);
	assert_memory_equal(info.name, "cpu ", 4);
	assert_non_null(strstr((char *)info.name, ", 2 threads"));
	e->ops->destroy(e);
}

static void test_shader_check(void **state)
{
	struct unpu_engine *e = engine(1);
	struct model m = { .layout = any.layout, .numeric = any.numeric };
	struct specs s;

	(void)state;
	specs_init(&s, &m, 65);	/* the table of shaders takes 256 rows, this device 64 */
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_QKV, (void *)&s.qkv), -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_EMBED, (void *)&s.embed),
			 -EOPNOTSUPP);
	specs_init(&s, &m, 64);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_QKV, (void *)&s.qkv), 0);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_COPY, NULL), 0);
	s.qkv.numeric = s.out.numeric = s.in.numeric = s.down.numeric = s.head.numeric = 1;
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_QKV, (void *)&s.qkv), -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_ATTN_OUT, (void *)&s.out),
			 -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_FFN_IN, (void *)&s.in), -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_FFN_OUT, (void *)&s.down),
			 -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_HEAD, (void *)&s.head), -EOPNOTSUPP);
	e->ops->destroy(e);
}

static void test_refused(void **state)
{
	struct unpu_device_params params = { .cpu_mask = "pentium" };
	struct unpu_engine *e = NULL;

	(void)state;
	assert_int_equal(unpu_cpu_engine_create(&params, &e), -EINVAL);
	params.cpu_mask = "c";
	params.threads = 1000;
	assert_int_equal(unpu_cpu_engine_create(&params, &e), -EINVAL);
	assert_null(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_shader_check),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_anywhere),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_prepare_while_running),
		cmocka_unit_test(test_pure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
