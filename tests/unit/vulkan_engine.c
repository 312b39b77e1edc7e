/* SPDX-License-Identifier: MIT */
/*
 * The vulkan engine below the frame: the same small model on it and on the cpu's twins; replays,
 * rounds and stops, banks, poisoned scratch, hostile state words, faults, the cache on disk. Built
 * with tests/hooks/vulkan.c. Without a device all of it is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/cpu/cpu.h"
#include "runtime/device/vulkan/engine.h"
#include "runtime/half.h"
#include "tests/lib/fake.h"

#define LAYERS		2u
#define HIDDEN		72u	/* not a multiple of 32 */
#define HEADS		4u
#define KV_HEADS	2u
#define DIM		24u	/* a head is no whole panel */
#define FFN		104u
#define TOKENS		24u	/* generated */
#define GUARD		256u
#define MAX_DISPATCHES	(5 * LAYERS + 3)
#define EPS		1e-5f
#define PER_TOKEN	(5 * LAYERS + 2)

/* What differs between tests. */
struct shape {
	uint32_t layout, numeric, kv_type;
	uint32_t rows, slots, cells, vocab, logit_rows;
	uint32_t positions;	/* learned ones instead of rope */
};

static const struct shape usual = {
	DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32, DRM_UNPU_KV_F32, 32, 2, 128, 331, 32, 0,
};

/* Ranges of one buffer, a guard before and behind each. */
enum range_id {
	STATE, X, Q, KV0, KV1, PARTIALS, H, LOGITS, MAXIMA, HISTORY,
	NUM_WORK,
	QKV_PARAMS = NUM_WORK, OUT_PARAMS, IN_PARAMS, HEAD_PARAMS, ROPE, POSITIONS,
	EMBED, EMBED_D, HEAD, HEAD_D,
	QKV, QKV_D = QKV + LAYERS, OUT = QKV_D + LAYERS, OUT_D = OUT + LAYERS,
	IN = OUT_D + LAYERS, IN_D = IN + LAYERS, DOWN = IN_D + LAYERS, DOWN_D = DOWN + LAYERS,
	NUM_RANGES = DOWN_D + LAYERS
};

struct range {
	uint64_t offset, size;
};

/* A model and all it works on, on one engine. */
struct rig {
	struct unpu_engine *e;
	struct shape shape;
	struct unpu_bo bo;
	void *memory;				/* imported; NULL: the engine's own */
	struct range ranges[NUM_RANGES];
	enum range_id order[NUM_RANGES];	/* as they lie */
	int num_ranges;
};

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
	struct unpu_job_dispatch dispatches[MAX_DISPATCHES];
};

static char last_log[512];
static int num_warnings;

static void keep_log(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level <= UNPU_LOG_WARN)
		snprintf(last_log, sizeof(last_log), "%s", text);
	num_warnings += level == UNPU_LOG_WARN;
	if (getenv("V"))
		print_message("[%d] %s\n", level, text);
}

static const struct unpu_log to_last_log = { .fn = keep_log };

/* ---- the machine's device -------------------------------------------------------------------- */

static const char *no_device;	/* why there is none */
static struct unpu_vulkan_info device_info;

static int find_device(void **state)
{
	uint32_t count = 0;

	(void)state;
	unsetenv("UNPU_FAULT");
	unsetenv("UNPU_VK_RANGE");
	if (unpu_vulkan_count(NULL, &count) || !count)
		no_device = "this machine has no Vulkan device";
	else if (unpu_vulkan_describe(0, NULL, &device_info) || device_info.why[0])
		no_device = device_info.why;
	if (no_device)
		print_message("SKIP: all that needs a device: %s\n", no_device);
	return 0;
}

#define NEEDS_DEVICE() do { if (no_device) skip(); } while (0)

static int create(uint32_t index, const char *tuning, struct unpu_engine **e)
{
	const struct unpu_device_params params = { .tuning = tuning, .log = to_last_log };

	return unpu_vulkan_engine_create(index, &params, e);
}

static struct unpu_engine *vulkan(const char *tuning)
{
	struct unpu_engine *e = NULL;

	assert_int_equal(create(0, tuning, &e), 0);
	return e;
}

static struct unpu_engine *cpu(void)
{
	const struct unpu_device_params params = { .threads = 1 };
	struct unpu_engine *e;

	assert_int_equal(unpu_cpu_engine_create(&params, &e), 0);
	return e;
}

static struct unpu_vulkan_counters counters(const struct rig *r)
{
	struct unpu_vulkan_counters c;

	unpu_vulkan_counters(r->e, &c);
	return c;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

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

static void *at(const struct rig *r, enum range_id id)
{
	return (uint8_t *)r->bo.ptr + r->ranges[id].offset;
}

static void add_range(struct rig *r, enum range_id id, uint64_t size)
{
	uint64_t offset = (r->bo.size + GUARD + 255) & ~255ull;

	r->ranges[id] = (struct range){ offset, size };
	r->order[r->num_ranges++] = id;
	r->bo.size = offset + size;
}

static void add_matrix(struct rig *r, enum range_id id, enum range_id scales, uint32_t rows,
		       uint32_t k)
{
	add_range(r, id, unpu_layout_quant_bytes(r->shape.layout, rows, k));
	add_range(r, scales, unpu_layout_scale_bytes(r->shape.layout, rows, k));
}

static void add_ranges(struct rig *r)
{
	const struct shape *s = &r->shape;
	uint32_t h = unpu_pad32(HIDDEN);

	add_range(r, STATE, unpu_state_bytes(s->rows, s->slots));
	add_range(r, X, 4ull * s->rows * h);
	add_range(r, Q, 4ull * s->rows * HEADS * DIM);
	add_range(r, KV0, unpu_kv_bytes(s->kv_type, KV_HEADS, s->slots, s->cells, DIM));
	add_range(r, KV1, r->ranges[KV0].size);
	add_range(r, PARTIALS, 4ull * s->rows * (s->cells / 64) * HEADS * (DIM + 2));
	add_range(r, H, 4ull * s->rows * unpu_pad32(FFN));
	add_range(r, LOGITS, 4ull * s->logit_rows * s->vocab);
	add_range(r, MAXIMA, 8ull * s->logit_rows * (unpu_pad32(s->vocab) / 32));
	add_range(r, HISTORY, 4ull * s->slots * s->cells);
	for (int id = QKV_PARAMS; id <= HEAD_PARAMS; id++)
		add_range(r, (enum range_id)id, 4096);
	add_range(r, ROPE, 4ull * s->cells * DIM);
	add_range(r, POSITIONS, 4ull * s->positions * h);
	add_matrix(r, EMBED, EMBED_D, s->vocab, HIDDEN);
	add_matrix(r, HEAD, HEAD_D, s->vocab, HIDDEN);
	for (uint32_t l = 0; l < LAYERS; l++) {
		add_matrix(r, QKV + l, QKV_D + l, (HEADS + 2 * KV_HEADS) * DIM, HIDDEN);
		add_matrix(r, OUT + l, OUT_D + l, HIDDEN, HEADS * DIM);
		add_matrix(r, IN + l, IN_D + l, 2 * unpu_pad32(FFN), HIDDEN);
		add_matrix(r, DOWN + l, DOWN_D + l, HIDDEN, FFN);
	}
	r->bo.size = (r->bo.size + GUARD + 4095) & ~4095ull;
}

static void fill_floats(float *p, uint64_t bytes, float low, float high)
{
	for (uint64_t i = 0; i < bytes / 4; i++)
		p[i] = uniform(low, high);
}

/* A number of the plane for row r of a panel and one of 32 inputs of a block. */
static float plane_number(uint32_t r, uint32_t rows, uint32_t panel, float most)
{
	float v = uniform(-most, most);

	return panel * 32 + r < rows ? v : 0;	/* rows are padded with zeros */
}

/*
 * Any bytes are quants; scales and floats are small. Inputs past the last are not zero here, as
 * they are in packed weights: what they are multiplied by is.
 */
static void fill_matrix(const struct rig *r, enum range_id id, enum range_id scales, uint32_t rows)
{
	const struct unpu_layout_info *info = unpu_layout_info(r->shape.layout);
	uint32_t panels = unpu_pad32(rows) / 32, per_row = info->bits == 32 ? 4 : 8;
	uint64_t panel_bytes = r->ranges[id].size / panels, d_bytes = r->ranges[scales].size;
	float d = info->bits == 4 ? 0.02f : 0.001f;

	for (uint64_t i = 0; i < r->ranges[id].size; i++)
		((uint8_t *)at(r, id))[i] = (uint8_t)rnd();
	for (uint64_t i = 0; !info->quantised && i < r->ranges[id].size * 8 / info->bits; i++) {
		uint32_t panel = (uint32_t)(i * info->bits / 8 / panel_bytes);
		float v = plane_number(i / per_row % 32, rows, panel, 0.2f);

		if (info->bits == 32)
			((float *)at(r, id))[i] = v;
		else
			((uint16_t *)at(r, id))[i] = unpu_float_f16(v);
	}
	for (uint64_t i = 0; i < d_bytes / 2; i++) {
		uint32_t panel = (uint32_t)(i / (d_bytes / 2 / panels));

		((uint16_t *)at(r, scales))[i] =
			unpu_float_f16(plane_number(i % 32, rows, panel, d));
	}
}

/* Vectors one after the other, padded with zeros. */
static void fill_params(float *p, const uint32_t *sizes)
{
	for (; *sizes; p += unpu_pad32(*sizes++))
		fill_floats(p, 4 * *sizes, 0.5f, 1.5f);
}

static void fill(const struct rig *r)
{
	rng = 5;
	fill_params(at(r, QKV_PARAMS), (uint32_t[]){ HIDDEN, (HEADS + 2 * KV_HEADS) * DIM, 0 });
	/* q and k norm are not padded. */
	fill_floats((float *)at(r, QKV_PARAMS) + unpu_pad32(HIDDEN) +
		    unpu_pad32((HEADS + 2 * KV_HEADS) * DIM), 8 * DIM, 0.5f, 1.5f);
	fill_params(at(r, OUT_PARAMS), (uint32_t[]){ HIDDEN, 0 });
	fill_params(at(r, IN_PARAMS), (uint32_t[]){ HIDDEN, HIDDEN, 0 });
	fill_params(at(r, HEAD_PARAMS), (uint32_t[]){ HIDDEN, 0 });
	fill_floats(at(r, ROPE), r->ranges[ROPE].size, -1, 1);
	fill_floats(at(r, POSITIONS), r->ranges[POSITIONS].size, -1, 1);
	fill_matrix(r, EMBED, EMBED_D, r->shape.vocab);
	fill_matrix(r, HEAD, HEAD_D, r->shape.vocab);
	for (uint32_t l = 0; l < LAYERS; l++) {
		fill_matrix(r, QKV + l, QKV_D + l, (HEADS + 2 * KV_HEADS) * DIM);
		fill_matrix(r, OUT + l, OUT_D + l, HIDDEN);
		fill_matrix(r, IN + l, IN_D + l, 2 * unpu_pad32(FFN));
		fill_matrix(r, DOWN + l, DOWN_D + l, HIDDEN);
	}
}

/* The pattern is a NaN: a shader that reads past a range spoils its result. */
static uint32_t guard_word(uint64_t offset)
{
	return 0xffc00000u | (uint32_t)(offset & 0xffff);
}

/* Calls fn for every word that belongs to no range. */
static void each_guard(const struct rig *r, void (*fn)(uint32_t *word, uint64_t offset))
{
	uint64_t offset = 0;

	for (int i = 0; i <= NUM_RANGES; i++) {
		const struct range *next = i < NUM_RANGES ? &r->ranges[r->order[i]] : NULL;
		uint64_t end = next ? next->offset : r->bo.size;

		for (; offset < end; offset += 4)
			fn((uint32_t *)((uint8_t *)r->bo.ptr + offset), offset);
		offset = next ? end + next->size : offset;
	}
}

static void set_guard(uint32_t *word, uint64_t offset)
{
	*word = guard_word(offset);
}

static uint32_t broken_guards;

static void check_guard(uint32_t *word, uint64_t offset)
{
	broken_guards += *word != guard_word(offset);
}

static void assert_guards(const struct rig *r)
{
	broken_guards = 0;
	each_guard(r, check_guard);
	assert_int_equal(broken_guards, 0);
}

static bool imports;	/* what a rig works on is the test's memory, imported */

static void rig_import(struct rig *r)
{
	r->memory = r->bo.ptr = aligned_alloc(4096, (r->bo.size + 4095) / 4096 * 4096);
	assert_non_null(r->memory);
	memset(r->memory, 0, r->bo.size);
	r->bo.imported = r->bo.writable = 1;
	assert_int_equal(r->e->ops->bo_import(r->e, &r->bo), 0);
	assert_ptr_equal(r->bo.ptr, r->memory);
}

static void rig_init(struct rig *r, struct unpu_engine *e, const struct shape *shape)
{
	*r = (struct rig){ .e = e, .shape = *shape };
	r->bo.flags = DRM_UNPU_BO_MMAP;
	add_ranges(r);
	if (imports && e->ops->bo_import) {
		rig_import(r);
	} else if (e->ops->bo_alloc) {
		assert_int_equal(e->ops->bo_alloc(e, &r->bo), 0);
		for (uint64_t i = 0; i < r->bo.size; i++)
			assert_int_equal(((uint8_t *)r->bo.ptr)[i], 0);
	} else {
		r->bo.ptr = aligned_alloc(4096, r->bo.size);
		memset(r->bo.ptr, 0, r->bo.size);
	}
	each_guard(r, set_guard);
	fill(r);
}

static void rig_finish(struct rig *r)
{
	assert_guards(r);
	if (r->e->ops->bo_free)
		r->e->ops->bo_free(r->e, &r->bo);
	else
		free(r->bo.ptr);
	free(r->memory);
	r->e->ops->destroy(r->e);
}

/* The engine is lost or given up: its memory may not be looked at. */
static void rig_abandon(struct rig *r)
{
	r->e->ops->bo_free(r->e, &r->bo);
	free(r->memory);
	r->e->ops->destroy(r->e);
}

/* ---- programs -------------------------------------------------------------------------------- */

static void specs_init(struct specs *s, const struct shape *m, uint32_t rows, uint32_t chunks)
{
	bool rope = !m->positions;

	*s = (struct specs){
		.embed = { rows, m->slots, m->vocab, HIDDEN, m->layout, m->positions },
		.qkv = { rows, m->slots, m->cells, HIDDEN, HEADS, KV_HEADS, DIM, m->layout,
			 m->numeric, m->kv_type, UNPU_NORM_RMS, UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM,
			 EPS, rope ? UNPU_ROPE_HALVES : UNPU_ROPE_NONE, rope ? DIM : 0,
			 rope ? m->cells : 0 },
		.attn = { rows, m->slots, m->cells, HEADS, KV_HEADS, DIM, m->kv_type, 0.2f },
		.attn_const = { chunks },
		.out = { rows, m->slots, m->cells, HIDDEN, HEADS, DIM, m->layout, m->numeric,
			 UNPU_FLAG_BIAS },
		.in = { rows, m->slots, HIDDEN, FFN, m->layout, m->numeric, UNPU_NORM_LAYER,
			UNPU_FLAG_NORM_BIAS | UNPU_FLAG_GATED, UNPU_ACT_SILU, EPS },
		.down = { rows, m->slots, HIDDEN, FFN, m->layout, m->numeric, 0 },
		.head = { rows, m->slots, HIDDEN, m->vocab, m->layout, m->numeric, UNPU_NORM_RMS, 0,
			  EPS, m->logit_rows },
		.sample = { rows, m->slots, m->cells, m->vocab, HIDDEN, m->logit_rows, m->layout,
			    m->positions },
	};
}

static void add(struct rig *r, struct program *p, uint32_t kind, void *spec,
		const enum range_id *ids)
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
	assert_int_equal(r->e->ops->shader_check(r->e, kind, d->spec), 0);
	memcpy(d->grid, need.grid, sizeof(d->grid));
	for (uint32_t i = 0; i < info->num_bindings; i++) {
		d->bindings[i].bo = &r->bo;
		d->bindings[i].offset = r->ranges[ids[i]].offset;
		d->bindings[i].size = need.bytes[i];
		assert_true(need.bytes[i] <= r->ranges[ids[i]].size);
	}
}

#define ADD(__kind, __spec, ...) \
	add(r, p, UNPU_SHADER_ ## __kind, &p->specs.__spec, (enum range_id[]){ __VA_ARGS__ })

enum { DO_EMBED = 1, DO_LAYERS = 2, DO_HEAD = 4, DO_SAMPLE = 8, DECODE = 14, PROMPT = 7 };

static int program_init(struct rig *r, struct program *p, uint32_t rows, uint32_t chunks, int what)
{
	memset(p, 0, sizeof(*p));
	p->base.dispatches = p->dispatches;
	p->base.stop = (_Atomic uint32_t *)((uint8_t *)at(r, STATE) +
					    offsetof(struct unpu_state_header, stop));
	p->base.stop_bo = &r->bo;
	specs_init(&p->specs, &r->shape, rows, chunks);
	if (what & DO_EMBED)
		ADD(EMBED, embed, STATE, EMBED, EMBED_D, POSITIONS, X);
	for (uint32_t l = 0; what & DO_LAYERS && l < LAYERS; l++) {
		ADD(QKV, qkv, STATE, X, QKV_PARAMS, QKV + l, QKV_D + l, ROPE, Q, KV0 + l);
		ADD(ATTN, attn, STATE, Q, KV0 + l, PARTIALS);
		ADD(ATTN_OUT, out, STATE, PARTIALS, OUT_PARAMS, OUT + l, OUT_D + l, X);
		ADD(FFN_IN, in, STATE, X, IN_PARAMS, IN + l, IN_D + l, H);
		ADD(FFN_OUT, down, STATE, H, OUT_PARAMS, DOWN + l, DOWN_D + l, X);
	}
	if (what & DO_HEAD)
		ADD(HEAD, head, STATE, X, HEAD_PARAMS, HEAD, HEAD_D, LOGITS, MAXIMA);
	if (what & DO_SAMPLE)
		ADD(SAMPLE, sample, STATE, LOGITS, MAXIMA, HISTORY, EMBED, EMBED_D, POSITIONS, X);
	return r->e->ops->program_prepare(r->e, &p->base);
}

static void program_make(struct rig *r, struct program *p, uint32_t rows, uint32_t chunks, int what)
{
	assert_int_equal(program_init(r, p, rows, chunks, what), 0);
}

static void program_end(struct rig *r, struct program *p)
{
	r->e->ops->program_release(r->e, &p->base);
	assert_null(p->base.priv);
}

static int run(struct rig *r, struct program *p, uint32_t repeat, uint32_t *done)
{
	return r->e->ops->run(r->e, &p->base, repeat, NULL, done);
}

/* As often as asked, however the engine cuts it. */
static void run_all(struct rig *r, struct program *p, uint32_t repeat)
{
	uint32_t done;

	for (; repeat; repeat -= done) {
		int err = run(r, p, repeat, &done);

		if (err)
			print_error("%s\n", last_log);
		assert_int_equal(err, 0);
		assert_in_range(done, 1, repeat);
	}
}

/* ---- rows and tokens ------------------------------------------------------------------------- */

static struct unpu_state_header *header(const struct rig *r)
{
	return at(r, STATE);
}

static struct unpu_state_row *row(const struct rig *r, uint32_t i)
{
	return (struct unpu_state_row *)((uint8_t *)at(r, STATE) +
					 unpu_state_rows_offset(r->shape.slots)) + i;
}

static struct unpu_state_sampler *sampler(const struct rig *r, uint32_t slot)
{
	return (struct unpu_state_sampler *)((uint8_t *)at(r, STATE) +
					     unpu_state_samplers_offset()) + slot;
}

static uint32_t *history(const struct rig *r, uint32_t slot)
{
	return (uint32_t *)at(r, HISTORY) + slot * r->shape.cells;
}

static uint32_t prompt_token(const struct rig *r, uint32_t i)
{
	return (i * 7 + 3) % r->shape.vocab;
}

static void set_rows(const struct rig *r, uint32_t slot, uint32_t first, uint32_t live)
{
	header(r)->rows_live = live;
	for (uint32_t i = 0; i < live; i++) {
		*row(r, i) = (struct unpu_state_row){
			.token = prompt_token(r, first + i), .position = first + i,
			.cell = first + i, .slot = slot, .flags = UNPU_ROW_LOGITS,
			.out = i % r->shape.logit_rows,
		};
		history(r, slot)[first + i] = prompt_token(r, first + i);
	}
}

static void greedy(const struct rig *r)
{
	for (uint32_t slot = 0; slot < r->shape.slots; slot++)
		*sampler(r, slot) = (struct unpu_state_sampler){ .top_p = 1, .repeat_penalty = 1 };
}

static void clear_header(const struct rig *r)
{
	*header(r) = (struct unpu_state_header){ 0 };
	greedy(r);
}

/* The first n tokens of the prompt in batches of `rows`. */
static void prompt(struct rig *r, uint32_t slot, uint32_t n, uint32_t rows)
{
	struct program p;

	program_make(r, &p, rows, r->shape.cells / 64, PROMPT);
	for (uint32_t first = 0; first < n; first += rows) {
		set_rows(r, slot, first, n - first < rows ? n - first : rows);
		run_all(r, &p, 1);
	}
	program_end(r, &p);
	assert_int_equal(header(r)->fault, 0);
	assert_int_equal(header(r)->stop, 0);
}

/* The row after which `sample` goes on: the last of the prompt. */
static void set_sampling(const struct rig *r, uint32_t n)
{
	struct unpu_state_row last = *row(r, header(r)->rows_live - 1);

	assert_int_equal(last.cell, n - 1);
	last.flags |= UNPU_ROW_SAMPLE;
	*row(r, 0) = last;
	header(r)->rows_live = 1;
}

/* The first token by `sample` alone, the others by the decode program. */
static void first_token(struct rig *r, uint32_t n)
{
	struct program p;

	set_sampling(r, n);
	program_make(r, &p, 1, r->shape.cells / 64, DO_SAMPLE);
	run_all(r, &p, 1);
	program_end(r, &p);
	row(r, 0)->out = 0;
}

static void generate(struct rig *r, uint32_t n, uint32_t count)
{
	struct program p;

	first_token(r, n);
	program_make(r, &p, 1, r->shape.cells / 64, DECODE);
	run_all(r, &p, count - 1);
	program_end(r, &p);
}

static void text(struct rig *r, uint32_t n, uint32_t rows, uint32_t count)
{
	clear_header(r);
	prompt(r, r->shape.slots - 1, n, rows);
	generate(r, n, count);
}

/* The largest difference by the largest number. */
static double distance(const float *a, const float *b, size_t n)
{
	double most = 0, largest = 0;

	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - b[i]);

		if (!(d < INFINITY))
			return INFINITY;
		most = fmax(most, d);
		largest = fmax(largest, fabs((double)b[i]));
	}
	return largest > 0 ? most / largest : INFINITY;
}

/* ---- the same as the cpu --------------------------------------------------------------------- */

static void check_as_cpu(const struct shape *shape, const char *tuning, double bound, bool ids)
{
	const uint32_t n = 45, slot = shape->slots - 1;
	struct rig a, b;
	double far;

	rig_init(&a, vulkan(tuning), shape);
	rig_init(&b, cpu(), shape);
	clear_header(&a);
	clear_header(&b);
	prompt(&a, slot, n, 32);
	prompt(&b, slot, n, 32);
	far = distance(at(&a, LOGITS), at(&b, LOGITS), (size_t)(n - 32) * shape->vocab);
	if (far > bound)
		print_error("layout %u kv %u %s: %g\n", shape->layout, shape->kv_type,
			    tuning ? tuning : "", far);
	assert_true(far <= bound);
	generate(&a, n, TOKENS);
	generate(&b, n, TOKENS);
	assert_int_equal(row(&a, 0)->cell, n - 1 + TOKENS);
	assert_int_equal(header(&a)->ring_head, TOKENS);
	assert_int_equal(header(&a)->fault, 0);
	if (ids)
		assert_memory_equal(history(&a, slot), history(&b, slot), 4 * (n + TOKENS));
	rig_finish(&a);
	rig_finish(&b);
}

static void test_as_cpu(void **state)
{
	struct shape s = usual;

	(void)state;
	NEEDS_DEVICE();
	check_as_cpu(&s, NULL, 2e-5, true);
	check_as_cpu(&s, "f32/64", 2e-5, true);
	s.positions = 128;
	check_as_cpu(&s, NULL, 2e-5, true);
	s = usual;
	s.kv_type = DRM_UNPU_KV_F16;
	check_as_cpu(&s, NULL, 5e-3, true);
	for (s.layout = DRM_UNPU_LAYOUT_F16_R32; s.layout <= DRM_UNPU_LAYOUT_Q4_R32; s.layout++)
		check_as_cpu(&s, NULL, 5e-3, false);
}

/* ---- replay ---------------------------------------------------------------------------------- */

static void test_counters(void **state)
{
	struct unpu_vulkan_counters before, after;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	prompt(&r, 1, 20, 32);
	first_token(&r, 20);
	program_make(&r, &p, 1, 2, DECODE);
	run_all(&r, &p, 20);	/* both recordings have been used by now, or never will be */
	before = counters(&r);
	run_all(&r, &p, 40);
	after = counters(&r);
	assert_int_equal(after.recordings, before.recordings);
	assert_int_equal(after.allocations, before.allocations);
	assert_int_equal(after.descriptor_updates, before.descriptor_updates);
	assert_int_equal(after.pipelines, before.pipelines);
	assert_int_equal(after.canaries - before.canaries, after.submits - before.submits);
	assert_int_equal(after.dispatches - before.dispatches,
			 40 * PER_TOKEN + after.submits - before.submits);
	assert_true(after.compile_ns > 0);
	assert_int_equal(row(&r, 0)->cell, 20 + 60);
	program_end(&r, &p);
	/* The same shaders again: nothing is compiled. */
	program_make(&r, &p, 1, 1, DECODE);
	assert_int_equal(counters(&r).pipelines, after.pipelines);
	program_end(&r, &p);
	rig_finish(&r);
}

/* Several rounds in one submit are several submits of one; and they are told. */
static void test_rounds(void **state)
{
	const uint32_t count = 41;
	uint32_t done, most = 0;
	struct program p;
	struct rig a, b;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&a, vulkan(NULL), &usual);
	rig_init(&b, vulkan(NULL), &usual);
	clear_header(&a);
	clear_header(&b);
	prompt(&a, 1, 30, 32);
	prompt(&b, 1, 30, 32);
	first_token(&a, 30);
	first_token(&b, 30);
	program_make(&a, &p, 1, 2, DECODE);
	for (uint32_t i = 0; i < count; i += done) {
		assert_int_equal(run(&a, &p, count - i, &done), 0);
		most = done > most ? done : most;
	}
	program_end(&a, &p);
	program_make(&b, &p, 1, 2, DECODE);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(run(&b, &p, 1, &done), 0);
		assert_int_equal(done, 1);
	}
	program_end(&b, &p);
	if (most == 1)
		print_message("SKIP: eight rounds in a submit: this device is too slow for them\n");
	assert_memory_equal(at(&a, HISTORY), at(&b, HISTORY), a.ranges[HISTORY].size);
	assert_memory_equal(at(&a, KV0), at(&b, KV0), a.ranges[KV0].size);
	assert_memory_equal(at(&a, X), at(&b, X), 4 * HIDDEN);
	assert_memory_equal(header(&a), header(&b), sizeof(struct unpu_state_header));
	rig_finish(&a);
	rig_finish(&b);
}

/* Buckets of context, two programs and two sequences in turn: one text each, whatever happens to
 * the other. */
static void test_buckets_in_turn(void **state)
{
	struct program small, large, other;
	uint32_t want[2][4] = { { 0 } };
	struct unpu_state_row saved[2];
	struct rig r, one;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&one, vulkan(NULL), &usual);
	for (uint32_t slot = 0; slot < 2; slot++) {
		clear_header(&one);
		prompt(&one, slot, 60 + slot, 32);
		generate(&one, 60 + slot, 4);
		memcpy(want[slot], history(&one, slot) + 60 + slot, sizeof(want[slot]));
	}
	rig_finish(&one);

	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	for (uint32_t slot = 0; slot < 2; slot++) {
		prompt(&r, slot, 60 + slot, 7);
		first_token(&r, 60 + slot);
		saved[slot] = *row(&r, 0);
	}
	/* x holds the second one's embedding: the decode program of the test makes its own. */
	program_make(&r, &small, 1, 1, DO_EMBED | DECODE);
	program_make(&r, &large, 1, 2, DO_EMBED | DECODE);
	program_make(&r, &other, 4, 2, DO_EMBED | DECODE);
	for (uint32_t i = 0; i < 3; i++)
		for (uint32_t slot = 0; slot < 2; slot++) {
			bool fits = saved[slot].cell < 64;

			*row(&r, 0) = saved[slot];
			header(&r)->rows_live = 1;
			run_all(&r, slot && i == 1 ? &other : fits ? &small : &large, 1);
			saved[slot] = *row(&r, 0);
		}
	for (uint32_t slot = 0; slot < 2; slot++)
		assert_memory_equal(history(&r, slot) + 60 + slot, want[slot], sizeof(want[slot]));
	program_end(&r, &small);
	program_end(&r, &large);
	program_end(&r, &other);
	rig_finish(&r);
}

/* The same from the same, to the bit. */
static void test_hundred_times(void **state)
{
	float *first;
	struct program p;
	struct rig r;
	size_t bytes;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	bytes = 4 * 17 * r.shape.vocab;
	first = malloc(bytes);
	program_make(&r, &p, 32, 1, PROMPT);
	for (int i = 0; i < 100; i++) {
		memset(at(&r, LOGITS), 0xff, bytes);
		set_rows(&r, 1, 0, 17);
		run_all(&r, &p, 1);
		if (!i)
			memcpy(first, at(&r, LOGITS), bytes);
		assert_memory_equal(at(&r, LOGITS), first, bytes);
	}
	program_end(&r, &p);
	free(first);
	rig_finish(&r);
}

/* A row's bits do not depend on its batch, where the device says so. */
static void test_pure_rows(void **state)
{
	static const uint32_t batches[] = { 1, 3, 8, 32 };
	struct drm_unpu_dev_info info = { 0 };
	float *want = NULL;
	size_t bytes = 4ull * usual.vocab;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	want = malloc(bytes);
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		const float *got;

		rig_init(&r, vulkan("f32/256"), &usual);
		r.e->ops->info(r.e, &info);
		assert_true(info.features & DRM_UNPU_FEATURE_PURE_ROWS);
		clear_header(&r);
		prompt(&r, 1, 70, batches[i]);
		got = (const float *)at(&r, LOGITS) + 69 % batches[i] * usual.vocab;
		if (!i)
			memcpy(want, got, bytes);
		assert_memory_equal(got, want, bytes);
		rig_finish(&r);
	}
	free(want);
}

/* ---- what must not matter -------------------------------------------------------------------- */

static void poison(const struct rig *r)
{
	static const enum range_id scratch[] = { X, Q, PARTIALS, H, LOGITS, MAXIMA, KV0, KV1 };

	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		memset(at(r, scratch[i]), 0xff, r->ranges[scratch[i]].size);
}

/* NaN wherever nothing has been written yet: nothing of it is read. */
static void test_poisoned(void **state)
{
	struct shape s = usual;
	struct rig a, b;

	(void)state;
	NEEDS_DEVICE();
	for (s.kv_type = DRM_UNPU_KV_F32; s.kv_type <= DRM_UNPU_KV_F16; s.kv_type++) {
		rig_init(&a, vulkan(NULL), &s);
		rig_init(&b, vulkan(NULL), &s);
		poison(&b);
		text(&a, 67, 32, 8);
		text(&b, 67, 32, 8);
		assert_memory_equal(at(&a, HISTORY), at(&b, HISTORY), a.ranges[HISTORY].size);
		assert_memory_equal(at(&a, LOGITS), at(&b, LOGITS), 4 * s.vocab);
		assert_int_equal(header(&b)->fault, 0);
		rig_finish(&a);
		rig_finish(&b);
	}
}

/* ---- hostile words --------------------------------------------------------------------------- */

/* Every word of the header and the first rows takes every kind of wrong value, in a program of one
 * row and in one of many: a fault at most. */
static void check_hostile(struct rig *r, struct program *p, uint32_t rows)
{
	static const uint32_t values[] = { 0xffffffff, 0x80000000, 0x7fffffff, 1000, 128, 65 };
	uint32_t words = (uint32_t)(unpu_state_bytes(rows, r->shape.slots) / 4), step;
	uint32_t *at_state = at(r, STATE);

	for (uint32_t w = 0; w < words; w += step) {
		bool in_sampler = w >= 16 && w < unpu_state_rows_offset(r->shape.slots) / 4;

		step = in_sampler ? 13 : 1;
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			memset(at_state, 0, r->ranges[STATE].size);
			greedy(r);
			set_rows(r, 1, 5, rows);
			for (uint32_t i = 0; i < rows; i++)
				row(r, i)->flags |= UNPU_ROW_SAMPLE;
			at_state[w] = values[v];
			run_all(r, p, 1);
		}
		if (w > 24 * 8 && rows > 2)
			w += 5;
	}
	assert_guards(r);
}

static void test_hostile_words(void **state)
{
	static const struct {
		size_t offset;
		uint32_t bound;
	} words[] = {
		{ offsetof(struct unpu_state_row, cell), 128 },
		{ offsetof(struct unpu_state_row, slot), 2 },
		{ offsetof(struct unpu_state_row, out), 32 },
		{ offsetof(struct unpu_state_row, token), 331 },
		{ offsetof(struct unpu_state_row, position), 128 },
	};
	struct program one, many;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	program_make(&r, &one, 1, 2, DO_EMBED | DECODE);
	program_make(&r, &many, 4, 2, DO_EMBED | DECODE);
	check_hostile(&r, &one, 1);
	check_hostile(&r, &many, 4);
	/* Those that are indices set the fault, exactly from their bound on. */
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (uint32_t over = 0; over < 2; over++) {
			clear_header(&r);
			set_rows(&r, 1, 5, 1);
			memcpy((uint8_t *)row(&r, 0) + words[i].offset,
			       &(uint32_t){ words[i].bound - 1 + over }, 4);
			run_all(&r, &one, 1);
			assert_int_equal(header(&r)->fault, over ? UNPU_STATE_FAULT_INDEX : 0);
		}
	clear_header(&r);
	set_rows(&r, 1, 5, 1);
	header(&r)->rows_live = 2;
	run_all(&r, &one, 1);
	assert_int_equal(header(&r)->fault, UNPU_STATE_FAULT_INDEX);
	program_end(&r, &one);
	program_end(&r, &many);
	rig_finish(&r);
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* Drawn, for greedy texts of random weights soon repeat themselves. */
static void draw(const struct rig *r)
{
	for (uint32_t slot = 0; slot < r->shape.slots; slot++) {
		sampler(r, slot)->temperature = 2;
		sampler(r, slot)->top_k = 100;
		sampler(r, slot)->seed[0] = 7;
	}
}

/* An end-of-text token in the middle of a submit: the rounds behind it do nothing. */
static void test_end_in_the_middle(void **state)
{
	uint32_t tokens[TOKENS], fifth;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	draw(&r);
	prompt(&r, 1, 30, 32);
	generate(&r, 30, TOKENS);
	memcpy(tokens, history(&r, 1) + 30, sizeof(tokens));
	/* The first token that none before it is. */
	for (fifth = 5; fifth < TOKENS; fifth++) {
		uint32_t i = 0;

		while (tokens[i] != tokens[fifth])
			i++;
		if (i == fifth)
			break;
	}
	assert_in_range(fifth, 5, TOKENS - 1);

	clear_header(&r);
	draw(&r);
	sampler(&r, 1)->num_eog = 1;
	sampler(&r, 1)->eog[0] = tokens[fifth];
	prompt(&r, 1, 30, 32);
	first_token(&r, 30);
	program_make(&r, &p, 1, 2, DECODE);
	memset(history(&r, 1) + 31, 0xaa, 4 * TOKENS);
	run_all(&r, &p, TOKENS - 1);
	assert_memory_equal(history(&r, 1) + 30, tokens, 4 * (fifth + 1));
	assert_int_equal(history(&r, 1)[31 + fifth], 0xaaaaaaaa);
	assert_int_equal(header(&r)->stop, UNPU_STOP_END);
	assert_int_equal(header(&r)->rows_live, 0);
	assert_int_equal(header(&r)->ring_head, fifth + 1);
	program_end(&r, &p);
	rig_finish(&r);
}

/* The host's word: nothing at all is written, and the word is left. */
static void test_host_stop(void **state)
{
	uint8_t *before;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	prompt(&r, 1, 30, 32);
	set_sampling(&r, 30);
	header(&r)->stop = UNPU_STOP_CANCEL;
	before = malloc(r.bo.size);
	memcpy(before, r.bo.ptr, r.bo.size);
	program_make(&r, &p, 1, 2, DO_EMBED | DECODE);
	run_all(&r, &p, 9);
	assert_memory_equal(before, r.bo.ptr, r.bo.size);
	program_end(&r, &p);
	free(before);
	rig_finish(&r);
}

static void test_cancelled(void **state)
{
	atomic_uint cancel = 1;
	uint32_t done = 7;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	program_make(&r, &p, 32, 2, PROMPT);
	set_rows(&r, 1, 0, 32);
	assert_int_equal(r.e->ops->run(r.e, &p.base, 1, &cancel, &done), -ECANCELED);
	assert_int_equal(header(&r)->stop, 0);
	atomic_store(&cancel, 0);
	assert_int_equal(r.e->ops->run(r.e, &p.base, 1, &cancel, &done), 0);
	assert_int_equal(done, 1);
	program_end(&r, &p);
	rig_finish(&r);
}

/* ---- imported memory ------------------------------------------------------------------------- */

static int import_on(void **state)
{
	(void)state;
	imports = true;
	return 0;
}

static int import_off(void **state)
{
	(void)state;
	imports = false;
	return 0;
}

/* Bit for bit what is computed in the engine's own memory. */
static void test_import_is_the_same(void **state)
{
	struct rig own, theirs;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&own, vulkan(NULL), &usual);
	text(&own, 67, 32, TOKENS);
	imports = true;
	rig_init(&theirs, vulkan(NULL), &usual);
	text(&theirs, 67, 32, TOKENS);
	for (int id = 0; id < NUM_RANGES; id++)
		assert_memory_equal(at(&own, id), at(&theirs, id), own.ranges[id].size);
	rig_finish(&own);
	rig_finish(&theirs);
}

/* Of what a program does not bind nothing is copied, in either direction. */
static void test_import_copies_what_is_bound(void **state)
{
	uint8_t *before, *mirror;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	mirror = ((struct unpu_vk_buffer *)r.bo.priv)->ptr;
	clear_header(&r);
	set_rows(&r, 1, 0, 32);
	memset(mirror, 0xa5, r.bo.size);
	before = malloc(r.bo.size);
	memcpy(before, r.memory, r.bo.size);
	program_make(&r, &p, 32, 2, DO_EMBED);
	run_all(&r, &p, 1);
	for (int i = 0; i < r.num_ranges; i++) {
		const struct range *range = &r.ranges[r.order[i]];
		bool bound = r.order[i] == STATE || r.order[i] == EMBED || r.order[i] == EMBED_D ||
			     r.order[i] == POSITIONS || r.order[i] == X;

		if (r.order[i] != X)
			assert_memory_equal((uint8_t *)r.memory + range->offset,
					    before + range->offset, range->size);
		for (uint64_t b = range->offset; !bound && b < range->offset + range->size; b++)
			assert_int_equal(mirror[b], 0xa5);
	}
	assert_memory_not_equal(at(&r, X), before + r.ranges[X].offset, 4 * HIDDEN);
	program_end(&r, &p);
	free(before);
	rig_finish(&r);
}

/* Memory that cannot be written: nothing tries. */
static void test_import_read_only(void **state)
{
	struct unpu_bo bo = { .size = 8192, .imported = 1 };
	struct unpu_copy_const bytes = { 8192, 0 };
	struct unpu_job_dispatch d = {
		.kind = UNPU_SHADER_COPY, .num_bindings = UNPU_COPY_BINDINGS,
		.constants = &bytes, .grid = { 1, 1, 1 },
	};
	struct unpu_program p = { .num_dispatches = 1, .dispatches = &d };
	struct unpu_bo to = { .size = 8192, .flags = DRM_UNPU_BO_MMAP };
	struct unpu_engine *e;
	uint32_t done;

	(void)state;
	NEEDS_DEVICE();
	e = vulkan(NULL);
	bo.ptr = mmap(NULL, bo.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(bo.ptr, MAP_FAILED);
	memset(bo.ptr, 0x3c, bo.size);
	assert_int_equal(mprotect(bo.ptr, bo.size, PROT_READ), 0);
	d.bindings[UNPU_COPY_SRC] = (struct unpu_job_binding){ &bo, 0, bo.size };
	d.bindings[UNPU_COPY_DST] = (struct unpu_job_binding){ &to, 0, to.size };
	assert_int_equal(e->ops->bo_import(e, &bo), 0);
	assert_int_equal(e->ops->bo_alloc(e, &to), 0);
	assert_int_equal(e->ops->program_prepare(e, &p), 0);
	assert_int_equal(e->ops->run(e, &p, 1, NULL, &done), 0);
	assert_memory_equal(to.ptr, bo.ptr, bo.size);
	e->ops->program_release(e, &p);
	e->ops->bo_free(e, &to);
	munmap(bo.ptr, bo.size);
	e->ops->bo_free(e, &bo);
	e->ops->destroy(e);
}

/* One program writes what the next reads, each in its own copy of the memory. */
static void test_import_is_coherent(void **state)
{
	struct program embed, layers, head;
	struct rig own, theirs;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&own, vulkan(NULL), &usual);
	clear_header(&own);
	prompt(&own, 1, 32, 32);
	imports = true;
	rig_init(&theirs, vulkan(NULL), &usual);
	clear_header(&theirs);
	set_rows(&theirs, 1, 0, 32);
	program_make(&theirs, &embed, 32, 2, DO_EMBED);
	program_make(&theirs, &layers, 32, 2, DO_LAYERS);
	program_make(&theirs, &head, 32, 2, DO_HEAD);
	run_all(&theirs, &embed, 1);
	run_all(&theirs, &layers, 1);
	run_all(&theirs, &head, 1);
	assert_memory_equal(at(&own, LOGITS), at(&theirs, LOGITS), own.ranges[LOGITS].size);
	program_end(&theirs, &embed);
	program_end(&theirs, &layers);
	program_end(&theirs, &head);
	rig_finish(&own);
	rig_finish(&theirs);
}

/* Who sets a stop word wins over the device, and the device over a word that is as it was. */
static void test_import_stop_word(void **state)
{
	struct unpu_vk_imports *imported;
	_Atomic uint32_t *ours, *theirs;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	program_make(&r, &p, 1, 2, DECODE);
	imported = &((struct unpu_vk_program *)p.base.priv)->imports;
	assert_int_equal(imported->num_words, 1);
	theirs = imported->words[0].theirs;
	ours = imported->words[0].ours;
	assert_ptr_equal(theirs, &header(&r)->stop);
	assert_ptr_equal(ours, imported->stop);

	unpu_vk_imports_in(imported);
	atomic_store(ours, UNPU_STOP_END);
	unpu_vk_imports_out(imported);
	assert_int_equal(atomic_load(theirs), UNPU_STOP_END);

	atomic_store(theirs, 0);
	unpu_vk_imports_in(imported);
	atomic_store(theirs, UNPU_STOP_CANCEL);
	assert_int_equal(atomic_load(ours), 0);
	unpu_vk_imports_look(imported);
	assert_int_equal(atomic_load(ours), UNPU_STOP_CANCEL);
	unpu_vk_imports_out(imported);
	assert_int_equal(atomic_load(theirs), UNPU_STOP_CANCEL);

	atomic_store(theirs, 0);
	unpu_vk_imports_in(imported);
	atomic_store(ours, UNPU_STOP_END);
	atomic_store(theirs, UNPU_STOP_CANCEL);
	unpu_vk_imports_out(imported);
	assert_int_equal(atomic_load(theirs), UNPU_STOP_CANCEL);
	program_end(&r, &p);
	rig_finish(&r);
}

static void *stop_soon(void *arg)
{
	const struct rig *r = arg;
	const struct timespec nap = { 0, (long)(rnd() % 3000000) };

	nanosleep(&nap, NULL);
	atomic_store((_Atomic uint32_t *)(void *)&header(r)->stop, UNPU_STOP_CANCEL);
	return NULL;
}

/* Set by another thread at any time during a run: it is there afterwards. */
static void test_import_stop_is_not_lost(void **state)
{
	struct unpu_state_row first;
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	rig_init(&r, vulkan(NULL), &usual);
	clear_header(&r);
	prompt(&r, 1, 30, 32);
	first_token(&r, 30);
	first = *row(&r, 0);
	program_make(&r, &p, 1, 2, DECODE);
	for (int i = 0; i < 60; i++) {
		pthread_t thread;
		uint32_t done;

		*row(&r, 0) = first;
		header(&r)->rows_live = 1;
		header(&r)->stop = 0;
		assert_int_equal(pthread_create(&thread, NULL, stop_soon, &r), 0);
		assert_int_equal(run(&r, &p, 8, &done), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(header(&r)->stop, UNPU_STOP_CANCEL);
	}
	program_end(&r, &p);
	rig_finish(&r);
}

static atomic_uint ended;

static void count_end(void *arg, uint32_t ctx_id, uint64_t seqno, int error, uint64_t busy_ns)
{
	(void)arg;
	(void)ctx_id;
	(void)seqno;
	(void)busy_ns;
	assert_int_equal(error, 0);
	atomic_fetch_add(&ended, 1);
}

/* As the device process has it: below the frame, watched, the stop word in memory of the guest. */
static void test_import_through_the_frame(void **state)
{
	const struct unpu_device_watch watch = { .job_end = count_end };
	const struct unpu_device_params params = { .watch = &watch, .slice_ns = 50000000,
						   .log = to_last_log };
	const struct timespec nap = { 0, 1000000 };
	uint8_t *memory = aligned_alloc(4096, 8192);
	struct unpu_device *dev;
	uint32_t in, out, ctx, id;

	(void)state;
	if (no_device)
		free(memory);
	NEEDS_DEVICE();
	memset(memory, 0, 8192);
	atomic_store(&ended, 0);
	assert_int_equal(unpu_vulkan_device_open(0, &params, &dev), 0);
	assert_int_equal(dev->ops->bo_import(dev, memory, 4096, 1, &in), 0);
	assert_int_equal(dev->ops->bo_import(dev, memory + 4096, 4096, 1, &out), 0);
	id = fake_program(dev, in, out, 256, true);
	ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	for (uint32_t i = 0; i < 20; i++) {
		bool stopped = i % 5 == 4;

		memset(memory + 4, (int)i + 1, 1020);
		*(uint32_t *)(void *)memory = stopped ? UNPU_STOP_CANCEL : 0;
		assert_int_equal(fake_submit(dev, ctx, id, 9, 0, 0), 0);
		while (atomic_load(&ended) <= i)
			nanosleep(&nap, NULL);
		assert_int_equal(memory[4096 + 4], stopped ? i : i + 1);
		assert_int_equal(memory[4096 + 1023], stopped ? i : i + 1);
		assert_int_equal(memory[4096 + 1024], 0);
	}
	dev->ops->close(dev);
	free(memory);
}

/* Rounds that would not fit the slice go one by one. */
static void test_slice(void **state)
{
	const struct unpu_device_params params = { .slice_ns = 1, .log = to_last_log };
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	assert_int_equal(unpu_vulkan_engine_create(0, &params, &r.e), 0);
	rig_init(&r, r.e, &usual);
	clear_header(&r);
	prompt(&r, 1, 30, 32);
	first_token(&r, 30);
	program_make(&r, &p, 1, 2, DECODE);
	for (uint32_t done, i = 0; i < 24; i++) {
		assert_int_equal(run(&r, &p, 24, &done), 0);
		assert_int_equal(done, 1);
	}
	program_end(&r, &p);
	rig_finish(&r);
}

/* ---- banks ----------------------------------------------------------------------------------- */

/* The same bits as in one piece: the order of no sum changes. */
static void check_banks(const struct shape *s, const char *range, uint64_t calls)
{
	struct rig a, b;

	rig_init(&a, vulkan(NULL), s);
	setenv("UNPU_VK_RANGE", range, 1);
	rig_init(&b, vulkan(NULL), s);
	unsetenv("UNPU_VK_RANGE");
	text(&a, 20, 4, 12);
	text(&b, 20, 4, 12);
	assert_memory_equal(at(&a, HISTORY), at(&b, HISTORY), a.ranges[HISTORY].size);
	assert_memory_equal(at(&a, LOGITS), at(&b, LOGITS), a.ranges[LOGITS].size);
	assert_memory_equal(at(&a, MAXIMA), at(&b, MAXIMA), a.ranges[MAXIMA].size);
	assert_memory_equal(at(&a, KV1), at(&b, KV1), a.ranges[KV1].size);
	assert_memory_equal(at(&a, X), at(&b, X), 4 * unpu_pad32(HIDDEN));
	assert_true(counters(&b).dispatches > counters(&a).dispatches + calls);
	rig_finish(&a);
	rig_finish(&b);
}

static void test_banks(void **state)
{
	struct shape s = { DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_CLASS_F32, DRM_UNPU_KV_F16, 4, 1, 64,
			   1000, 4, 0 };

	(void)state;
	NEEDS_DEVICE();
	check_banks(&s, "40000", 100);	/* 4 heads are 3 whole panels of 12 KiB */
	s.positions = 64;
	s.layout = DRM_UNPU_LAYOUT_F16_R32;
	check_banks(&s, "25000", 100);
	s.positions = 0;
	s.layout = DRM_UNPU_LAYOUT_Q8_R32;
	check_banks(&s, "16384", 50);
	s.layout = DRM_UNPU_LAYOUT_Q4_R32;
	check_banks(&s, "16384", 20);
}

/* What cannot be cut is refused, with the sizes. */
static void test_too_large(void **state)
{
	struct program p;
	struct rig r;

	(void)state;
	NEEDS_DEVICE();
	setenv("UNPU_VK_RANGE", "16384", 1);
	rig_init(&r, vulkan(NULL), &usual);
	unsetenv("UNPU_VK_RANGE");
	assert_int_equal(program_init(&r, &p, 1, 2, DECODE), -EOPNOTSUPP);
	assert_non_null(strstr(last_log, "16384"));
	assert_null(p.base.priv);
	rig_finish(&r);
}

/* ---- copies ---------------------------------------------------------------------------------- */

static void check_copy(uint64_t bytes, const char *range)
{
	const struct unpu_copy_const constants = { .bytes_lo = (uint32_t)bytes };
	struct unpu_bo bos[2] = { { .size = 1u << 20, .flags = DRM_UNPU_BO_MMAP },
				  { .size = 1u << 20, .flags = DRM_UNPU_BO_MMAP } };
	struct unpu_job_dispatch d = {
		.kind = UNPU_SHADER_COPY, .num_bindings = 2, .constants = &constants,
		.grid = { (uint32_t)((bytes + 65535) / 65536), 1, 1 },
		.bindings = { { &bos[0], 256, bytes }, { &bos[1], 512, bytes } },
	};
	struct unpu_program p = { .num_dispatches = 1, .dispatches = &d };
	struct unpu_engine *e;
	uint32_t done, spec = 0;
	uint8_t *to;

	d.spec = &spec;
	if (range)
		setenv("UNPU_VK_RANGE", range, 1);
	e = vulkan(NULL);
	unsetenv("UNPU_VK_RANGE");
	for (int i = 0; i < 2; i++)
		assert_int_equal(e->ops->bo_alloc(e, &bos[i]), 0);
	to = bos[1].ptr;
	for (uint32_t i = 0; i < bos[0].size; i++)
		((uint8_t *)bos[0].ptr)[i] = (uint8_t)(i * 31 >> 3);
	memset(to, 0xee, bos[1].size);
	assert_int_equal(e->ops->program_prepare(e, &p), 0);
	assert_int_equal(e->ops->run(e, &p, 1, NULL, &done), 0);
	assert_memory_equal(to + 512, (uint8_t *)bos[0].ptr + 256, bytes);
	for (uint32_t i = 0; i < 512; i++) {
		assert_int_equal(to[i], 0xee);
		assert_int_equal(to[512 + bytes + i], 0xee);
	}
	e->ops->program_release(e, &p);
	for (int i = 0; i < 2; i++)
		e->ops->bo_free(e, &bos[i]);
	e->ops->destroy(e);
}

static void test_copy(void **state)
{
	(void)state;
	NEEDS_DEVICE();
	check_copy(4, NULL);
	check_copy(65536, NULL);
	check_copy(65540, NULL);
	check_copy(1000004, NULL);
	check_copy(1000004, "140000");	/* two units and a little */
}

/* ---- faults ---------------------------------------------------------------------------------- */

struct failing {
	struct rig r;
	struct program p;
};

/* Ready for its third submit, which fails; the prompt is the first, `sample` the second. */
static void failing_init(struct failing *f, const char *fault)
{
	setenv("UNPU_FAULT", fault, 1);
	rig_init(&f->r, vulkan(NULL), &usual);
	clear_header(&f->r);
	prompt(&f->r, 1, 20, 32);
	first_token(&f->r, 20);
	program_make(&f->r, &f->p, 1, 2, DECODE);
}

static void failing_finish(struct failing *f)
{
	unsetenv("UNPU_FAULT");
	program_end(&f->r, &f->p);
	rig_abandon(&f->r);
}

static void test_lost(void **state)
{
	struct failing f;
	uint32_t done;

	(void)state;
	NEEDS_DEVICE();
	failing_init(&f, "vulkan:lost@3");
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENODEV);
	assert_non_null(strstr(last_log, "LOST"));
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENODEV);
	failing_finish(&f);
}

static void test_out_of_memory(void **state)
{
	struct failing f;
	uint32_t done;

	(void)state;
	NEEDS_DEVICE();
	failing_init(&f, "vulkan:oom@3");
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENOMEM);
	unsetenv("UNPU_FAULT");
	assert_int_equal(run(&f.r, &f.p, 1, &done), 0);	/* nothing is broken */
	assert_int_equal(row(&f.r, 0)->cell, 21);
	failing_finish(&f);
}

static void test_corrupt(void **state)
{
	struct failing f;
	uint32_t done = 5;

	(void)state;
	NEEDS_DEVICE();
	failing_init(&f, "vulkan:corrupt@3");
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENODEV);
	assert_int_equal(done, 0);
	assert_non_null(strstr(last_log, "wrong numbers"));
	for (uint32_t i = 0; i < f.r.ranges[HEAD].size / 4; i++)
		assert_int_equal(((uint32_t *)at(&f.r, HEAD))[i], 0x3c3c3c3c);
	assert_guards(&f.r);
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENODEV);
	failing_finish(&f);
}

static void *cancel_soon(void *arg)
{
	usleep(50000);
	atomic_store((atomic_uint *)arg, 2);
	return NULL;
}

static void test_hang(void **state)
{
	atomic_uint cancel = 0;
	struct failing f;
	pthread_t thread;
	uint32_t done;

	(void)state;
	NEEDS_DEVICE();
	failing_init(&f, "vulkan:hang@3");
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
	assert_int_equal(f.r.e->ops->run(f.r.e, &f.p.base, 1, &cancel, &done), -ENODEV);
	pthread_join(thread, NULL);
	assert_non_null(strstr(last_log, "hangs"));
	assert_int_equal(run(&f.r, &f.p, 1, &done), -ENODEV);
	failing_finish(&f);
}

/* At any allocation: the call says so, and nothing is left behind that a second try minds. */
static void test_no_memory(void **state)
{
	char fault[32];
	int at_all = 0;

	(void)state;
	NEEDS_DEVICE();
	for (int n = 1; n < 8; n++) {
		struct unpu_engine *e = NULL;
		struct unpu_bo bo = { .size = 1 << 20 };
		int err;

		snprintf(fault, sizeof(fault), "vulkan:oom-alloc@%d", n);
		setenv("UNPU_FAULT", fault, 1);
		err = create(0, NULL, &e);
		if (!err)
			err = e->ops->bo_alloc(e, &bo);
		at_all += err == -ENOMEM;
		assert_true(!err || err == -ENOMEM);
		if (e && err)
			assert_int_equal(e->ops->bo_alloc(e, &bo), 0);
		if (e)
			e->ops->bo_free(e, &bo);
		if (e)
			e->ops->destroy(e);
	}
	unsetenv("UNPU_FAULT");
	assert_true(at_all <= 7);
}

/* ---- the rest of the engine ------------------------------------------------------------------ */

static void test_info(void **state)
{
	struct drm_unpu_dev_info info = { .features = DRM_UNPU_FEATURE_WAIT_RUNS };
	struct unpu_engine *e;

	(void)state;
	NEEDS_DEVICE();
	e = vulkan(NULL);
	e->ops->info(e, &info);
	assert_true(e->threaded);
	assert_int_equal(info.features & DRM_UNPU_FEATURE_WAIT_RUNS, 0);
	assert_int_equal(info.tokens_per_submit, 8);
	assert_int_equal(info.kv_types, 3);
	assert_in_range(info.num_matrices, 4, 6);
	assert_int_equal(info.binding_align & (info.binding_align - 1), 0);
	assert_true(info.max_bo_bytes <= info.heap_device_bytes);
	assert_string_equal((char *)info.name, device_info.name);
	e->ops->destroy(e);
}

static void test_shader_check(void **state)
{
	struct shape s = usual;
	struct unpu_engine *e;
	struct specs specs;

	(void)state;
	NEEDS_DEVICE();
	e = vulkan("f32/256");
	s.kv_type = DRM_UNPU_KV_INT8;
	specs_init(&specs, &s, 1, 1);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_QKV, (void *)&specs.qkv), -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_ATTN, (void *)&specs.attn),
			 -EOPNOTSUPP);
	s = usual;
	s.layout = DRM_UNPU_LAYOUT_GGUF_F32;
	specs_init(&specs, &s, 1, 1);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_EMBED, (void *)&specs.embed),
			 -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_SAMPLE, (void *)&specs.sample),
			 -EOPNOTSUPP);
	assert_int_equal(e->ops->shader_check(e, UNPU_SHADER_HEAD, (void *)&specs.head),
			 -EOPNOTSUPP);
	e->ops->destroy(e);
}

static void test_tunings(void **state)
{
	static const char *const wrong[] = { "", "f32", "f32/", "f32/0", "f32/31", "f32/288",
					     "f32/256 ", "f64/256", "/256", "f32s/-32" };
	char list[16][UNPU_VULKAN_TUNING];
	struct unpu_vk_tuning taken, listed;
	struct unpu_engine *e = NULL;
	uint32_t count = 0;

	(void)state;
	NEEDS_DEVICE();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(create(0, wrong[i], &e), -EINVAL);
	assert_int_equal(create(99, NULL, &e), -ENODEV);
	assert_int_equal(unpu_vulkan_tunings(0, 0, DRM_UNPU_CLASS_F32, NULL, list, 16, &count), 0);
	assert_true(count > 0);
	e = vulkan(NULL);
	taken = ((const struct unpu_vk_engine *)e)->tuning;
	e->ops->destroy(e);
	for (uint32_t i = 0; i < count; i++) {
		e = vulkan(list[i]);
		listed = ((const struct unpu_vk_engine *)e)->tuning;
		/* What it takes by itself is on trial before the others. */
		assert_int_equal(!i, listed.math == taken.math &&
				     listed.local == taken.local);
		e->ops->destroy(e);
	}
	assert_int_equal(unpu_vulkan_tunings(0, 0, DRM_UNPU_CLASS_F32, NULL, list, 1, &count), 0);
	assert_int_equal(count, 1);
	/* F32 weights have no class a8. */
	assert_int_equal(unpu_vulkan_tunings(0, 0, DRM_UNPU_CLASS_A8, NULL, list, 16, &count), 0);
	assert_int_equal(count, 0);
}

/* ---- the cache on disk ----------------------------------------------------------------------- */

static char cache_folder[64], cache_file[256];

static void use_device(void)
{
	struct program p;
	struct rig r;

	rig_init(&r, vulkan(NULL), &usual);
	program_make(&r, &p, 1, 1, DECODE);
	program_end(&r, &p);
	rig_finish(&r);
}

/* 0: there is none. */
static size_t cache_size(void)
{
	struct stat st;

	return stat(cache_file, &st) ? 0 : (size_t)st.st_size;
}

static void write_file(const char *bytes, size_t size)
{
	int fd = open(cache_file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), (ssize_t)size);
	close(fd);
}

/* A layer of the loader's may have left something of its own. */
static void remove_folder(void)
{
	DIR *folder = opendir(cache_folder);
	struct dirent *entry;

	assert_non_null(folder);
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(folder), entry->d_name, 0);
	closedir(folder);
	assert_int_equal(rmdir(cache_folder), 0);
}

static void test_cache(void **state)
{
	const char *old = getenv("XDG_CACHE_HOME");
	char keep[4096], home[4096], *bytes;
	size_t size;
	int fd;

	(void)state;
	NEEDS_DEVICE();
	snprintf(keep, sizeof(keep), "%s", old ? old : "");
	snprintf(home, sizeof(home), "%s", getenv("HOME") ? getenv("HOME") : "/");
	setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);	/* it lies there, too */
	snprintf(cache_folder, sizeof(cache_folder), "/tmp/unpu-vk-cache-XXXXXX");
	assert_non_null(mkdtemp(cache_folder));
	setenv("XDG_CACHE_HOME", cache_folder, 1);
	snprintf(cache_file, sizeof(cache_file), "%s/unpu/vulkan-%s.cache", cache_folder,
		 device_info.key);
	num_warnings = 0;
	use_device();
	size = cache_size();
	assert_true(size > 100);
	use_device();
	assert_int_equal(num_warnings, 0);

	/* Damaged in the header, in the middle, at the end, and not a file. */
	bytes = malloc(size);
	fd = open(cache_file, O_RDONLY);
	assert_int_equal(read(fd, bytes, size), size);
	close(fd);
	for (size_t i = 0; i < size; i += size / 7 + 1) {
		bytes[i] ^= 1;
		write_file(bytes, size);
		bytes[i] ^= 1;
		use_device();
	}
	assert_true(num_warnings >= 4);
	num_warnings = 0;
	write_file(bytes, size / 2);
	use_device();
	assert_int_equal(num_warnings, 1);
	assert_int_equal(cache_size(), size);	/* written anew */
	write_file(bytes, 0);
	use_device();
	assert_int_equal(num_warnings, 2);
	unlink(cache_file);
	assert_int_equal(mkdir(cache_file, 0700), 0);
	use_device();
	assert_int_equal(num_warnings, 3);
	rmdir(cache_file);
	free(bytes);

	/* Nowhere to write to is no error; neither is no home at all. */
	fd = open(cache_folder, O_RDONLY | O_DIRECTORY);
	unlinkat(fd, "unpu", AT_REMOVEDIR);
	assert_true(close(openat(fd, "unpu", O_WRONLY | O_CREAT, 0600)) == 0);
	use_device();
	unlinkat(fd, "unpu", 0);
	close(fd);
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	use_device();
	assert_int_equal(num_warnings, 3);
	remove_folder();
	unsetenv("MESA_SHADER_CACHE_DISABLE");
	if (*keep)
		setenv("XDG_CACHE_HOME", keep, 1);
	setenv("HOME", home, 1);
}

#define IMPORT(__name)	cmocka_unit_test_setup_teardown(__name, import_on, import_off)
/* Of the engine's own memory and of imported. */
#define BOTH(__name)	cmocka_unit_test(__name), \
			{ #__name "_imported", __name, import_on, import_off, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_shader_check),
		cmocka_unit_test(test_tunings),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_as_cpu),
		cmocka_unit_test(test_counters),
		BOTH(test_rounds),
		BOTH(test_buckets_in_turn),
		cmocka_unit_test(test_hundred_times),
		cmocka_unit_test(test_pure_rows),
		BOTH(test_poisoned),
		cmocka_unit_test(test_hostile_words),
		BOTH(test_end_in_the_middle),
		BOTH(test_host_stop),
		BOTH(test_cancelled),
		cmocka_unit_test_teardown(test_import_is_the_same, import_off),
		cmocka_unit_test_teardown(test_import_is_coherent, import_off),
		IMPORT(test_import_copies_what_is_bound),
		cmocka_unit_test(test_import_read_only),
		IMPORT(test_import_stop_word),
		IMPORT(test_import_stop_is_not_lost),
		cmocka_unit_test(test_import_through_the_frame),
		cmocka_unit_test(test_slice),
		cmocka_unit_test(test_banks),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_corrupt),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_cache),
	};

	return cmocka_run_group_tests(tests, find_device, NULL);
}
