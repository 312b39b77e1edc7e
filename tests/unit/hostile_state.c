/* SPDX-License-Identifier: MIT */
/*
 * The cpu's twins on memory that somebody else rewrites while they run, as a guest may with its
 * window: states, samplers, histories and everything else that is bound, random and extreme. Behind
 * each range lies memory that cannot be touched. Nothing outside of the ranges is, and runs end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
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
#define HIDDEN		64u
#define HEADS		4u
#define KV_HEADS	2u
#define DIM		24u
#define VOCAB		75u
#define LOGIT_ROWS	5u
#define MAX_DISPATCHES	8u
#define ALIGN		32u	/* DEV_INFO.binding_align */
#define CANARY		0xee
#define RUNS		14u	/* of each program in each layout */

/* What the dispatches of one layer bind. */
enum range_id {
	STATE, X, Q, KV, PARTIALS, H, LOGITS, MAXIMA, HISTORY,
	QKV_PARAMS, OUT_PARAMS, IN_PARAMS, HEAD_PARAMS, ROPE, POSITIONS,
	EMBED, EMBED_D, QKV, QKV_D, OUT, OUT_D, IN, IN_D, DOWN, DOWN_D, HEAD, HEAD_D,
	NUM_RANGES
};

/* One buffer: [map, ptr) and what is left behind the range are canaries, then comes the guard. */
struct range {
	struct unpu_bo bo;
	uint8_t *map;
	size_t map_bytes;
	uint64_t size;
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
	struct unpu_attn_out_spec out;
	struct unpu_ffn_in_spec in;
	struct unpu_ffn_out_spec down;
	struct unpu_head_spec head;
	struct unpu_sample_spec sample;
};

static size_t page;
static uint32_t runs = RUNS;

/* ---- ranges --------------------------------------------------------------------------------- */

/* The range ends where its guard begins, as near as its alignment allows. */
static void range_init(struct range *r)
{
	size_t bytes = ((size_t)r->size + ALIGN - 1) / ALIGN * ALIGN;

	r->map_bytes = (bytes + page - 1) / page * page;
	r->map = mmap(NULL, r->map_bytes + page, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r->map, MAP_FAILED);
	assert_int_equal(mprotect(r->map + r->map_bytes, page, PROT_NONE), 0);
	memset(r->map, CANARY, r->map_bytes);
	r->bo.ptr = r->map + r->map_bytes - bytes;
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
	munmap(r->map, r->map_bytes + page);
}

/* ---- a layer, and what is around it --------------------------------------------------------- */

static void specs_init(struct rig *r, const struct drm_unpu_matrix *m, uint32_t kv_type)
{
	const struct unpu_layout_info *layout = unpu_layout_info(m->layout);
	uint32_t rows = r->rows, positions = kv_type == DRM_UNPU_KV_F16 ? 77 : 0;
	/* no whole panel, where the layout has a padding */
	uint32_t ffn = layout->quantised && !layout->packed ? 96 : 72;

	r->embed = (struct unpu_embed_spec){ rows, SLOTS, VOCAB, HIDDEN, m->layout, positions };
	r->qkv = (struct unpu_qkv_spec){
		rows, SLOTS, CELLS, HIDDEN, HEADS, KV_HEADS, DIM, m->layout, m->numeric, kv_type,
		UNPU_NORM_RMS, UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM, 1e-5f, UNPU_ROPE_HALVES, DIM,
		101,
	};
	r->attn = (struct unpu_attn_spec){ rows, SLOTS, CELLS, HEADS, KV_HEADS, DIM, kv_type,
					   0.25f };
	r->attn_const = (struct unpu_attn_const){ CHUNKS };
	r->out = (struct unpu_attn_out_spec){ rows, SLOTS, CELLS, HIDDEN, HEADS, DIM, m->layout,
					      m->numeric, UNPU_FLAG_BIAS };
	r->in = (struct unpu_ffn_in_spec){
		rows, SLOTS, HIDDEN, ffn, m->layout, m->numeric, UNPU_NORM_LAYER,
		UNPU_FLAG_NORM_BIAS | UNPU_FLAG_GATED, UNPU_ACT_SILU, 1e-5f,
	};
	r->down = (struct unpu_ffn_out_spec){ rows, SLOTS, HIDDEN, ffn, m->layout, m->numeric, 0 };
	r->head = (struct unpu_head_spec){ rows, SLOTS, HIDDEN, VOCAB, m->layout, m->numeric,
					   UNPU_NORM_RMS, 0, 1e-5f, LOGIT_ROWS };
	r->sample = (struct unpu_sample_spec){ rows, SLOTS, CELLS, VOCAB, HIDDEN, LOGIT_ROWS,
					       m->layout, positions };
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
	d->constants = kind == UNPU_SHADER_ATTN ? &r->attn_const : NULL;
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

	add(r, UNPU_SHADER_EMBED, &r->embed, embed);
	add(r, UNPU_SHADER_QKV, &r->qkv, qkv);
	add(r, UNPU_SHADER_ATTN, &r->attn, attn);
	add(r, UNPU_SHADER_ATTN_OUT, &r->out, out);
	add(r, UNPU_SHADER_FFN_IN, &r->in, in);
	add(r, UNPU_SHADER_FFN_OUT, &r->down, down);
	add(r, UNPU_SHADER_HEAD, &r->head, head);
	add(r, UNPU_SHADER_SAMPLE, &r->sample, sample);
}

static void rig_init(struct rig *r, struct unpu_engine *e, const struct drm_unpu_matrix *m,
		     uint32_t kv_type, uint32_t rows)
{
	*r = (struct rig){ .e = e, .rows = rows };
	r->program.dispatches = r->dispatches;
	specs_init(r, m, kv_type);
	add_all(r);
	for (uint32_t id = 0; id < NUM_RANGES; id++)
		range_init(&r->ranges[id]);
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

static void attack_rig(struct rig *r, uint64_t seed)
{
	struct attack a = { .rig = r, .rng = seed };
	pthread_t thread;
	uint32_t done;

	assert_int_equal(pthread_create(&thread, NULL, attack_main, &a), 0);
	for (uint32_t i = 0; i < runs; i++) {
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

static void attack_engine(const char *mask, uint32_t threads)
{
	const struct unpu_device_params params = { .threads = threads, .cpu_mask = mask };
	static const uint32_t capacities[] = { 1, 2, 9 };
	struct drm_unpu_dev_info info = { 0 };
	struct unpu_engine *e;
	struct rig r;

	assert_int_equal(unpu_cpu_engine_create(&params, &e), 0);
	e->ops->info(e, &info);
	for (uint32_t m = 0; m < info.num_matrices; m++) {
		for (uint32_t i = 0; i < 3; i++) {
			rig_init(&r, e, &info.matrices[m], DRM_UNPU_KV_F32 + (m + i) % 3,
				 capacities[i]);
			attack_rig(&r, m * 3 + i);
			rig_finish(&r);
		}
	}
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

static void test_best(void **state)
{
	(void)state;
	skip_races();
	attack_engine(NULL, 1);
}

static void test_best_threads(void **state)
{
	(void)state;
	skip_races();
	attack_engine(NULL, 2);
}

static void test_avx2(void **state)
{
	(void)state;
	skip_races();
	if (!(unpu_cpu_detect() & UNPU_CPU_MASK_AVX2)) {
		print_message("SKIP: this processor has no avx2\n");
		skip();
	}
	attack_engine("avx2", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_plain_threads),
		cmocka_unit_test(test_best),
		cmocka_unit_test(test_best_threads),
		cmocka_unit_test(test_avx2),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	if (getenv("UNPU_EMULATED"))
		runs = 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
