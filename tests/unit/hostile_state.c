/* SPDX-License-Identifier: MIT */
/*
 * The cpu's twins on memory that somebody else rewrites while they run, as a guest may with its
 * window: states, samplers, histories and everything else that is bound, random and extreme. Behind
 * each range, or before it, lies memory that cannot be touched. Nothing outside of the ranges is,
 * and runs end. With UNPU_TEST_LONG more of everything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/cpu/cpu.h"
#include "runtime/device/cpu/ops.h"

#define SLOTS		3u
#define CELLS		192u
#define CHUNKS		2u	/* fewer than the cache has */
#define HEADS		4u
#define KV_HEADS	2u
#define VOCAB		75u
#define LOGIT_ROWS	5u
#define MAX_DISPATCHES	9u
#define ALIGN		32u	/* DEV_INFO.binding_align */
#define CANARY		0xee
#define RUNS		14u	/* of each program in each layout */

/* What the dispatches of one layer bind. */
enum range_id {
	STATE, X, Q, KV, PARTIALS, H, LOGITS, MAXIMA, HISTORY,
	QKV_PARAMS, OUT_PARAMS, IN_PARAMS, HEAD_PARAMS, ROPE, POSITIONS,
	EMBED, EMBED_D, QKV, QKV_D, OUT, OUT_D, IN, IN_D, DOWN, DOWN_D, HEAD, HEAD_D, COPIED,
	NUM_RANGES
};

/* One buffer: what is left of [map, map + map_bytes) are canaries, before and behind it are guards;
 * the range touches one of them, as near as its alignment allows. */
struct range {
	struct unpu_bo bo;
	uint8_t *map;
	size_t map_bytes;
	uint64_t size;
};

/* The widths of a layer, such that a layout's rows are whole. */
struct widths {
	uint32_t hidden, dim, ffn;
};

struct rig {
	struct unpu_engine *e;
	struct unpu_program program;
	struct unpu_job_dispatch dispatches[MAX_DISPATCHES];
	const enum range_id *ids[MAX_DISPATCHES];
	struct range ranges[NUM_RANGES];
	uint32_t rows;

	struct unpu_embed_spec embed;
	struct unpu_qkv_spec qkv;
	struct unpu_attn_spec attn;
	struct unpu_attn_const attn_const;
	struct unpu_copy_const copy;
	struct unpu_attn_out_spec out;
	struct unpu_ffn_in_spec in;
	struct unpu_ffn_out_spec down;
	struct unpu_head_spec head;
	struct unpu_sample_spec sample;
};

static size_t page;
static uint32_t runs = RUNS;
static bool is_long;

/* ---- ranges --------------------------------------------------------------------------------- */

static void range_init(struct range *r, bool front)
{
	size_t bytes = ((size_t)r->size + ALIGN - 1) / ALIGN * ALIGN;

	r->map_bytes = (bytes + page - 1) / page * page;
	r->map = mmap(NULL, r->map_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(r->map, MAP_FAILED);
	r->map += page;
	/* qemu-user refuses to do nothing. */
	if (r->map_bytes)
		assert_int_equal(mprotect(r->map, r->map_bytes, PROT_READ | PROT_WRITE), 0);
	memset(r->map, CANARY, r->map_bytes);
	r->bo.ptr = front ? r->map : r->map + r->map_bytes - bytes;
	r->bo.size = r->size;
	r->bo.imported = r->bo.writable = 1;
	memset(r->bo.ptr, 0, (size_t)r->size);
}

static void range_check(const struct range *r)
{
	const uint8_t *begin = r->bo.ptr, *end = begin + r->size;

	for (const uint8_t *p = r->map; p < begin; p++)
		assert_int_equal(*p, CANARY);
	for (const uint8_t *p = end; p < r->map + r->map_bytes; p++)
		assert_int_equal(*p, CANARY);
}

static void range_finish(struct range *r)
{
	range_check(r);
	munmap(r->map - page, r->map_bytes + 2 * page);
}

/* ---- a layer, and what is around it --------------------------------------------------------- */

/* No whole panel, where the layout has a padding; whole groups, where blocks share scales. */
static struct widths widths_of(uint32_t layout)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (info->group > 32)
		return (struct widths){ info->group, info->group / HEADS, info->group };
	return (struct widths){ 64, 24, info->quantised && !info->packed ? 96 : 72 };
}

/* `other` changes what has no part in the sizes, so that every way is taken with some layout. */
static void specs_init(struct rig *r, const struct drm_unpu_matrix *m, uint32_t kv_type,
		       uint32_t other)
{
	uint32_t rows = r->rows, positions = kv_type == DRM_UNPU_KV_F16 ? 77 : 0;
	struct widths w = widths_of(m->layout);

	r->embed = (struct unpu_embed_spec){ rows, SLOTS, VOCAB, w.hidden, m->layout, positions };
	r->qkv = (struct unpu_qkv_spec){
		rows, SLOTS, CELLS, w.hidden, HEADS, KV_HEADS, w.dim, m->layout, m->numeric,
		kv_type, other % 2,
		UNPU_FLAG_BIAS | (other & 2 ? UNPU_FLAG_NORM_BIAS : UNPU_FLAG_QK_NORM),
		1e-5f, 1 + other % 2, other % 3 ? w.dim : w.dim - 8, 101,
	};
	r->attn = (struct unpu_attn_spec){ rows, SLOTS, CELLS, HEADS, KV_HEADS, w.dim, kv_type,
					   0.25f };
	r->attn_const = (struct unpu_attn_const){ CHUNKS };
	r->out = (struct unpu_attn_out_spec){ rows, SLOTS, CELLS, w.hidden, HEADS, w.dim, m->layout,
					      m->numeric, UNPU_FLAG_BIAS };
	r->in = (struct unpu_ffn_in_spec){
		rows, SLOTS, w.hidden, w.ffn, m->layout, m->numeric, (other + 1) % 2,
		UNPU_FLAG_NORM_BIAS | (other & 4 ? UNPU_FLAG_BIAS : UNPU_FLAG_GATED), other % 3,
		1e-5f,
	};
	r->down = (struct unpu_ffn_out_spec){ rows, SLOTS, w.hidden, w.ffn, m->layout, m->numeric,
					      UNPU_FLAG_BIAS };
	r->head = (struct unpu_head_spec){ rows, SLOTS, w.hidden, VOCAB, m->layout, m->numeric,
					   other % 2, other & 2 ? UNPU_FLAG_BIAS : 0, 1e-5f,
					   LOGIT_ROWS };
	r->sample = (struct unpu_sample_spec){ rows, SLOTS, CELLS, VOCAB, w.hidden, LOGIT_ROWS,
					       m->layout, positions };
	/* More than one unit of the grid, and not whole. */
	r->copy = (struct unpu_copy_const){ 65536 + 4 * (1 + other), 0 };
}

static const void *constants_of(const struct rig *r, uint32_t kind)
{
	return kind == UNPU_SHADER_ATTN ? &r->attn_const :
	       kind == UNPU_SHADER_COPY ? (const void *)&r->copy : NULL;
}

/* The next dispatch; its ranges grow to what it needs. */
static void add(struct rig *r, uint32_t kind, const void *spec, const enum range_id *ids)
{
	uint32_t at = r->program.num_dispatches++;
	struct unpu_job_dispatch *d = &r->dispatches[at];
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_shader_need need;

	r->ids[at] = ids;
	d->kind = kind;
	d->spec = spec;
	d->constants = constants_of(r, kind);
	d->num_bindings = info->num_bindings;
	assert_int_equal(unpu_shader_check_spec(kind, d->spec, info->spec_words), 0);
	assert_int_equal(unpu_shader_need(kind, d->spec, d->constants, info->const_bytes, &need),
			 0);
	assert_int_equal(r->e->ops->shader_check(r->e, kind, d->spec), 0);
	memcpy(d->grid, need.grid, sizeof(d->grid));
	for (uint32_t b = 0; b < info->num_bindings; b++) {
		d->bindings[b].size = need.bytes[b];
		if (need.bytes[b] > r->ranges[ids[b]].size)
			r->ranges[ids[b]].size = need.bytes[b];
	}
}

static void add_all(struct rig *r)
{
	static const enum range_id embed[] = { STATE, EMBED, EMBED_D, POSITIONS, X };
	static const enum range_id qkv[] = { STATE, X, QKV_PARAMS, QKV, QKV_D, ROPE, Q, KV };
	static const enum range_id attn[] = { STATE, Q, KV, PARTIALS };
	static const enum range_id out[] = { STATE, PARTIALS, OUT_PARAMS, OUT, OUT_D, X };
	static const enum range_id in[] = { STATE, X, IN_PARAMS, IN, IN_D, H };
	static const enum range_id down[] = { STATE, H, OUT_PARAMS, DOWN, DOWN_D, X };
	static const enum range_id head[] = { STATE, X, HEAD_PARAMS, HEAD, HEAD_D, LOGITS, MAXIMA };
	static const enum range_id sample[] = { STATE, LOGITS, MAXIMA, HISTORY, EMBED, EMBED_D,
						POSITIONS, X };
	static const enum range_id copy[] = { KV, COPIED };

	add(r, UNPU_SHADER_EMBED, &r->embed, embed);
	add(r, UNPU_SHADER_QKV, &r->qkv, qkv);
	add(r, UNPU_SHADER_ATTN, &r->attn, attn);
	add(r, UNPU_SHADER_ATTN_OUT, &r->out, out);
	add(r, UNPU_SHADER_FFN_IN, &r->in, in);
	add(r, UNPU_SHADER_FFN_OUT, &r->down, down);
	add(r, UNPU_SHADER_HEAD, &r->head, head);
	add(r, UNPU_SHADER_SAMPLE, &r->sample, sample);
	add(r, UNPU_SHADER_COPY, NULL, copy);
}

/* Weights are anybody's bytes as well: in every third layout, from the start. */
static void weights_init(struct rig *r, uint32_t other)
{
	uint32_t seed = other;

	for (uint32_t id = EMBED; other % 3 == 0 && id <= HEAD_D; id++)
		for (uint64_t i = 0; i < r->ranges[id].size; i++)
			((uint8_t *)r->ranges[id].bo.ptr)[i] =
				(uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
}

static void rig_init(struct rig *r, struct unpu_engine *e, const struct drm_unpu_matrix *m,
		     uint32_t kv_type, uint32_t rows, uint32_t other)
{
	*r = (struct rig){ .e = e, .rows = rows };
	r->program.dispatches = r->dispatches;
	specs_init(r, m, kv_type, other);
	add_all(r);
	for (uint32_t id = 0; id < NUM_RANGES; id++)
		range_init(&r->ranges[id], (id + other) & 1);
	weights_init(r, other);
	for (uint32_t i = 0; i < r->program.num_dispatches; i++)
		for (uint32_t b = 0; b < r->dispatches[i].num_bindings; b++)
			r->dispatches[i].bindings[b].bo = &r->ranges[r->ids[i][b]].bo;
	r->program.stop = (void *)((uint8_t *)r->ranges[STATE].bo.ptr +
				   offsetof(struct unpu_state_header, stop));
	r->program.stop_bo = &r->ranges[STATE].bo;
	assert_int_equal(e->ops->program_prepare(e, &r->program), 0);
}

static void rig_finish(struct rig *r)
{
	r->e->ops->program_release(r->e, &r->program);
	for (uint32_t id = 0; id < NUM_RANGES; id++)
		range_finish(&r->ranges[id]);
}

/* ---- who writes to it ----------------------------------------------------------------------- */

struct attack {
	const struct rig *rig;
	uint64_t rng;
	atomic_bool stop;
};

static uint32_t draw(struct attack *a)
{
	a->rng = a->rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(a->rng >> 32);
}

static void put(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Bounds and what is just beyond, all of the number's ends, floats that are none. */
static uint32_t value(struct attack *a)
{
	static const uint32_t extremes[] = {
		0, 1, 2, 0xffffffff, 0x80000000, 0x7fffffff, SLOTS, CELLS - 1, CELLS, CELLS + 1,
		64 * CHUNKS - 1, 64 * CHUNKS, VOCAB - 1, VOCAB, LOGIT_ROWS, 77, 101,
		UNPU_MAX_EOG + 1, UNPU_STATE_MAX_BIAS + 1, 0x00010000, 0xfffffff0,
		0x7f800000, 0xff800000, 0x7fc00000, 0x3f800000, 0xbf800000, 0x7f7fffff, 0x00000001,
	};
	uint32_t n = draw(a);

	switch (n % 4) {
	case 0:
		return draw(a);
	case 1:
		return draw(a) % CELLS;
	}
	return extremes[n / 4 % (sizeof(extremes) / sizeof(extremes[0]))];
}

/* Mostly where indices and counts are, now and then anywhere. */
static void hit(struct attack *a)
{
	static const enum range_id words[] = { STATE, STATE, STATE, HISTORY, MAXIMA, LOGITS };
	uint32_t n = draw(a);
	const struct range *r = &a->rig->ranges[n % 8 ? words[n / 8 % 6] : n / 8 % NUM_RANGES];

	if (r->size >= 4)
		put((uint32_t *)r->bo.ptr + draw(a) % (r->size / 4), value(a));
}

static void *attack_main(void *arg)
{
	struct attack *a = arg;

	while (!atomic_load(&a->stop))
		for (int i = 0; i < 64; i++)
			hit(a);
	return NULL;
}

/* A state as a client would leave it, word by word into what the other one writes to. */
static void set_state(const struct rig *r, uint32_t first)
{
	uint8_t *state = r->ranges[STATE].bo.ptr;
	uint32_t *header = (uint32_t *)(void *)state;
	const struct unpu_state_sampler set = {
		.temperature = first % 3 ? 0.8f : 0, .top_k = first % 5 * 10, .top_p = 0.9f,
		.min_p = 0.01f, .repeat_penalty = 1.1f, .repeat_last_n = first, .num_eog = 1,
		.eog = { 3 }, .num_bias = 2, .bias = { { 5, 1 }, { 6, -1 } },
	};

	put(&header[offsetof(struct unpu_state_header, stop) / 4], 0);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		uint32_t words[sizeof(set) / 4];

		memcpy(words, &set, sizeof(set));
		for (uint32_t w = 0; w < sizeof(set) / 4; w++)
			put((uint32_t *)(void *)(state + unpu_state_samplers_offset() +
						 slot * sizeof(set)) + w, words[w]);
	}
	for (uint32_t i = 0; i < r->rows; i++) {
		const uint32_t row[8] = { (first + i) % VOCAB, first % 64 + i, first % 100 + i,
					  i % SLOTS, UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE,
					  i % LOGIT_ROWS, 0, 0 };

		for (uint32_t w = 0; w < 8; w++)
			put((uint32_t *)(void *)(state + unpu_state_rows_offset(SLOTS)) + i * 8 + w,
			    row[w]);
	}
	put(&header[offsetof(struct unpu_state_header, rows_live) / 4], r->rows);
}

static void attack_rig(struct rig *r, uint64_t seed, uint32_t times)
{
	struct attack a = { .rig = r, .rng = seed };
	pthread_t thread;
	uint32_t done;

	assert_int_equal(pthread_create(&thread, NULL, attack_main, &a), 0);
	for (uint32_t i = 0; i < times; i++) {
		set_state(r, i * 7);
		for (int token = 0; token < 3; token++) {
			done = 0;
			assert_int_equal(r->e->ops->run(r->e, &r->program, 1, NULL, &done), 0);
			assert_int_equal(done, 1);
		}
	}
	atomic_store(&a.stop, true);
	pthread_join(thread, NULL);
}

static void attack_matrix(struct unpu_engine *e, const struct drm_unpu_matrix *m, uint32_t n)
{
	static const uint32_t capacities[] = { 1, 2, 9 };
	uint32_t kvs = is_long ? 3 : 1;
	/* Whole groups are ten times the work of the other layouts' rows. */
	uint32_t times = unpu_layout_info(m->layout)->group > 32 ? (runs + 3) / 4 : runs;
	struct rig r;

	for (uint32_t i = 0; i < 3; i++) {
		for (uint32_t kv = 0; kv < kvs; kv++) {
			uint32_t type = DRM_UNPU_KV_F32 + (n + i + kv) % 3;

			rig_init(&r, e, m, type, capacities[i], n + i);
			attack_rig(&r, n * 3 + i, times);
			rig_finish(&r);
		}
	}
}

static uint32_t count_pairs(void)
{
	uint32_t n = 0;

	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++)
		n += 1 + !!unpu_layout_info(layout)->quantised;
	return n;
}

/* All pairs that the engine takes, also those that it prefers others to. */
static void attack_engine(const char *mask, uint32_t threads)
{
	const struct unpu_device_params params = { .threads = threads, .cpu_mask = mask };
	struct drm_unpu_matrix m;
	struct unpu_engine *e;
	uint32_t tried = 0;

	assert_int_equal(unpu_cpu_engine_create(&params, &e), 0);
	memset(&m, 0, sizeof(m));
	for (m.layout = 0; m.layout < DRM_UNPU_LAYOUT_COUNT; m.layout++) {
		for (m.numeric = 0; m.numeric < 2; m.numeric++) {
			struct widths w = widths_of(m.layout);
			const struct unpu_ffn_out_spec spec = { 1, 1, w.hidden, w.ffn, m.layout,
								m.numeric, 0 };

			if (e->ops->shader_check(e, UNPU_SHADER_FFN_OUT, (const void *)&spec))
				continue;
			attack_matrix(e, &m, tried++);
		}
	}
	/* The table of plain C has each layout in each of its classes. */
	assert_int_equal(tried, count_pairs());
	e->ops->destroy(e);
}

/* A sanitizer of threads finds, rightly, that two write to the same memory. */
#if defined(__SANITIZE_THREAD__)
#define RACES	1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES	1
#endif
#endif
#ifndef RACES
#define RACES	0
#endif

static void skip_races(void)
{
	if (!RACES)
		return;
	print_message("SKIP: a race on purpose, under a sanitizer that reports them\n");
	skip();
}

static void test_plain(void **state)
{
	(void)state;
	skip_races();
	attack_engine("c", 1);
}

static void test_plain_threads(void **state)
{
	(void)state;
	skip_races();
	attack_engine("c", 3);
}

/* An instruction set of this machine's, and all below it; one that it has not would test those
 * alone. */
static void test_mask(const char *name, uint32_t bit, uint32_t threads)
{
	skip_races();
	if (!(unpu_cpu_detect() & bit)) {
		print_message("SKIP: this processor has no %s\n", name);
		skip();
	}
	attack_engine(name, threads);
}

static void test_avx2(void **state)
{
	(void)state;
	test_mask("avx2", UNPU_CPU_MASK_AVX2, 1);
}

static void test_avx512vnni(void **state)
{
	(void)state;
	test_mask("avx512vnni", UNPU_CPU_MASK_AVX512VNNI, 1);
}

static void test_neon(void **state)
{
	(void)state;
	test_mask("neon", UNPU_CPU_MASK_NEON, 1);
}

static void test_neon_dotprod(void **state)
{
	(void)state;
	test_mask("neon_dotprod", UNPU_CPU_MASK_NEON_DOTPROD, 1);
}

static void test_best_threads(void **state)
{
	(void)state;
	skip_races();
	attack_engine(NULL, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_plain_threads),
		cmocka_unit_test(test_avx2),
		cmocka_unit_test(test_avx512vnni),
		cmocka_unit_test(test_neon),
		cmocka_unit_test(test_neon_dotprod),
		cmocka_unit_test(test_best_threads),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	is_long = getenv("UNPU_TEST_LONG");
	if (is_long)
		runs *= 20;
	else if (getenv("UNPU_EMULATED"))
		runs = 2;
	else if (getenv("UNPU_SANITIZED"))
		runs = runs / 4 + 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
