/* SPDX-License-Identifier: MIT */
/*
 * Tiny models on a Vulkan device, dispatch by dispatch: each is a program of its own and runs on
 * its twin, too, with the inputs that the device had. What a token of theirs goes through is what
 * unpu_compile() makes, taken from the call that creates the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/rig.h"
#include "runtime/device/vulkan/vulkan.h"
#include "runtime/half.h"
#include "runtime/model/gguf.h"
#include "runtime/plan/compile.h"
#include "tests/lib/tiny.h"

#define TOKENS		8u
#define FIRST_CELL	60u	/* the second chunk of 64 begins among the tokens */
#define CELLS		128u
#define MAX_DISPATCHES	32u
#define MAX_SHADERS	UNPU_MAX_SHADERS
#define BINDINGS	UNPU_SHADER_MAX_BINDINGS

/* Of one rounding of an f32, and of an f16. */
#define EPS32	0x1p-24
#define EPS16	0x1p-11

enum { DEVICE, TWIN, SIDES };

/* Compilers take longer over two rows: one case of each class has them. */
static const struct choice {
	const char *name, *arch, *tuning;
	uint32_t type, rows, kv_type;
} choices[] = {
	{ "Q8_0 llama f32/256", "llama", "f32/256", UNPU_TYPE_Q8_0, 1, DRM_UNPU_KV_F16 },
	{ "Q8_0 qwen2 f32s/32", "qwen2", "f32s/32", UNPU_TYPE_Q8_0, 1, DRM_UNPU_KV_F32 },
	{ "Q8_0 qwen3 sdot/256", "qwen3", "sdot/256", UNPU_TYPE_Q8_0, 1, DRM_UNPU_KV_F32 },
	{ "Q8_0 qwen2 sudot/256", "qwen2", "sudot/256", UNPU_TYPE_Q8_0, 1, DRM_UNPU_KV_F16 },
	{ "Q4_0 qwen3 f32/256", "qwen3", "f32/256", UNPU_TYPE_Q4_0, 2, DRM_UNPU_KV_F16 },
	{ "Q4_0 llama f32s/32", "llama", "f32s/32", UNPU_TYPE_Q4_0, 1, DRM_UNPU_KV_F32 },
	{ "Q4_0 llama sdot/256", "llama", "sdot/256", UNPU_TYPE_Q4_0, 2, DRM_UNPU_KV_F32 },
	{ "Q4_0 qwen2 sudot/256", "qwen2", "sudot/256", UNPU_TYPE_Q4_0, 1, DRM_UNPU_KV_F16 },
};
#define NUM_CHOICES	(sizeof(choices) / sizeof(choices[0]))

/* One dispatch, on both. */
struct replay {
	const struct unpu_shader_info *info;
	uint32_t kind, spec[UNPU_SHADER_MAX_SPEC_WORDS];
	struct unpu_copy_const constants;	/* the largest of all shaders */
	struct unpu_rig_range at[SIDES][BINDINGS];
	uint32_t programs[SIDES];
	uint8_t *in[BINDINGS], *got[SIDES][BINDINGS];
	/* How far two right answers may be apart, an element; NULL: they are the same bits. */
	double *bound[BINDINGS];
	bool f16[BINDINGS];			/* its elements */
};

struct model {
	uint8_t *file;
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;
	struct unpu_weights *weights;
	struct unpu_work work;
	struct unpu_rig_range areas[10];	/* of work */
	struct unpu_rig_range banks[UNPU_MAX_BANKS];
	struct unpu_device *devs[SIDES];
	struct unpu_rig rigs[SIDES];
	struct replay replays[MAX_DISPATCHES];
	uint32_t count;
	uint32_t compared, spoiled;
	double nearest;				/* of all differences, as a part of its bound */
};

static bool have_device;

/* ---- what is compiled, from the calls ------------------------------------------------------ */

static struct {
	struct unpu_device_ops ops;
	const struct unpu_device_ops *real;
	struct model *model;
	uint32_t num_shaders;
	struct {
		uint32_t id, kind, spec[UNPU_SHADER_MAX_SPEC_WORDS];
	} shaders[MAX_SHADERS];
} tap;

/* The host looks into all of them. */
static int tap_bo(struct unpu_device *dev, struct drm_unpu_bo_create *args)
{
	args->flags |= DRM_UNPU_BO_MMAP;
	return tap.real->bo_create(dev, args);
}

static int tap_shader(struct unpu_device *dev, struct drm_unpu_shader_create *args)
{
	int ret = tap.real->shader_create(dev, args);
	uint32_t i = tap.num_shaders;

	if (ret)
		return ret;
	assert_true(i < MAX_SHADERS);
	tap.shaders[i].id = args->shader_id;
	tap.shaders[i].kind = (uint32_t)unpu_shader_find(args->name);
	memcpy(tap.shaders[i].spec, (void *)(uintptr_t)args->spec, 4ull * args->spec_words);
	tap.num_shaders++;
	return 0;
}

static uint8_t *pointer(const struct model *m, uint32_t handle)
{
	uint32_t i;

	for (i = 0; i < sizeof(m->areas) / sizeof(m->areas[0]); i++)
		if (m->areas[i].handle == handle)
			return m->areas[i].ptr;
	for (i = 0; i < m->weights->num_banks; i++)
		if (m->banks[i].handle == handle)
			return m->banks[i].ptr;
	fail_msg("buffer %u is no part of the model", handle);
	return NULL;
}

static void tap_dispatch(const struct drm_unpu_program_create *p,
			 const struct drm_unpu_dispatch *d)
{
	const struct drm_unpu_buffer *buffers = (void *)(uintptr_t)p->buffers.ptr;
	const struct drm_unpu_binding *bindings = (void *)(uintptr_t)p->bindings.ptr;
	struct replay *r = &tap.model->replays[tap.model->count++];
	struct unpu_shader_need need;
	uint32_t i;

	assert_true(tap.model->count <= MAX_DISPATCHES);
	for (i = 0; tap.shaders[i].id != d->shader_id; i++)
		assert_true(i + 1 < tap.num_shaders);
	r->kind = tap.shaders[i].kind;
	r->info = unpu_shader_info(r->kind);
	memcpy(r->spec, tap.shaders[i].spec, sizeof(r->spec));
	memcpy(&r->constants, (uint8_t *)(uintptr_t)p->constants + d->const_offset,
	       d->const_bytes);
	assert_int_equal(unpu_shader_need(r->kind, r->spec, &r->constants, d->const_bytes, &need),
			 0);
	assert_memory_equal(need.grid, d->grid, sizeof(need.grid));
	for (i = 0; i < r->info->num_bindings; i++) {
		const struct drm_unpu_buffer *b = &buffers[bindings[d->first_binding + i].buffer];

		if (need.bytes[i])
			r->at[DEVICE][i] = (struct unpu_rig_range){
				b->handle, b->offset, b->size,
				pointer(tap.model, b->handle) + b->offset,
			};
	}
}

static int tap_program(struct unpu_device *dev, struct drm_unpu_program_create *args)
{
	const struct drm_unpu_dispatch *dispatches = (void *)(uintptr_t)args->dispatches.ptr;

	for (uint32_t i = 0; i < args->dispatches.count; i++)
		tap_dispatch(args, &dispatches[i]);
	return tap.real->program_create(dev, args);
}

static void tap_begin(struct model *m)
{
	memset(&tap, 0, sizeof(tap));
	tap.model = m;
	tap.real = m->devs[DEVICE]->ops;
	tap.ops = *tap.real;
	tap.ops.bo_create = tap_bo;
	tap.ops.bo_import = NULL;
	tap.ops.shader_create = tap_shader;
	tap.ops.program_create = tap_program;
	m->devs[DEVICE]->ops = &tap.ops;
}

static void tap_end(struct model *m)
{
	m->devs[DEVICE]->ops = tap.real;
}

/* ---- a model ------------------------------------------------------------------------------- */

static void pack(struct model *m, const struct choice *c)
{
	const struct tiny_params tiny = { .arch = c->arch, .type = c->type, .tied = -1,
					  .seed = 7 };
	const struct unpu_pack_params params = { .class_f32 = c->tuning[0] == 'f' };
	struct unpu_device *dev = m->devs[DEVICE];
	size_t size;

	m->file = tiny_model(&tiny, &size);
	assert_non_null(m->file);
	assert_int_equal(unpu_gguf_create(m->file, size, NULL, &m->gguf), 0);
	assert_int_equal(unpu_arch_create(m->gguf, NULL, &m->arch), 0);
	assert_int_equal(unpu_weights_create(dev, m->arch, &params, NULL, &m->weights), 0);
	assert_int_equal(m->weights->layers[0].qkv.numeric,
			 params.class_f32 ? DRM_UNPU_CLASS_F32 : DRM_UNPU_CLASS_A8);
	assert_int_equal(m->weights->layers[0].qkv.layout, c->type == UNPU_TYPE_Q8_0 ?
			 DRM_UNPU_LAYOUT_Q8_R32 : DRM_UNPU_LAYOUT_Q4_R32);
	for (uint32_t i = 0; i < m->weights->num_banks; i++) {
		void *ptr = NULL;

		assert_int_equal(dev->ops->bo_map(dev, m->weights->banks[i], &ptr), 0);
		m->banks[i] = (struct unpu_rig_range){ m->weights->banks[i], 0, 0, ptr };
	}
}

static void make_buffers(struct model *m, const struct choice *c)
{
	struct unpu_work *w = &m->work;
	struct unpu_range *ranges[] = { &w->state, &w->history, &w->rope, &w->logits, &w->maxima,
					&w->x, &w->q, &w->partials, &w->h, &w->kv };
	const struct unpu_shape shape = { .rows = c->rows, .slots = c->rows, .cells = CELLS,
					  .chunks = CELLS / UNPU_CHUNK, .logit_rows = c->rows,
					  .kv_type = c->kv_type };

	unpu_work_sizes(m->arch, &shape, w);
	for (uint32_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		assert_int_equal(unpu_rig_alloc(&m->rigs[DEVICE], ranges[i]->bytes,
						DRM_UNPU_BO_MMAP, &m->areas[i]), 0);
		ranges[i]->handle = m->areas[i].handle;
	}
	unpu_rope_fill(&m->arch->hp, CELLS, (float *)(void *)m->areas[2].ptr);
}

static float made_up(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (float)(*seed >> 8) * 0x1p-23f - 1;
}

/* A text before the first token: the cells that a prompt would have left. */
static void fill_past(struct model *m, const struct choice *c)
{
	uint32_t *history = (void *)m->areas[1].ptr, seed = 1;
	uint64_t i, count = m->work.kv.bytes / (c->kv_type == DRM_UNPU_KV_F16 ? 2 : 4);

	for (i = 0; i < (uint64_t)c->rows * CELLS; i++)
		history[i] = (uint32_t)(i * 37 + 5) % m->arch->hp.vocab;
	for (i = 0; i < count; i++) {
		float value = made_up(&seed);
		uint16_t half = unpu_float_f16(value);

		if (c->kv_type == DRM_UNPU_KV_F16)
			memcpy(m->areas[9].ptr + 2 * i, &half, sizeof(half));
		else
			memcpy(m->areas[9].ptr + 4 * i, &value, sizeof(value));
	}
}

/* The first row takes the likeliest token; the second one draws, with penalties. */
static void fill_state(struct model *m, const struct choice *c)
{
	struct unpu_state_header *header = (void *)m->areas[0].ptr;
	struct unpu_state_sampler *s = (void *)(m->areas[0].ptr + unpu_state_samplers_offset());
	struct unpu_state_row *rows = (void *)(m->areas[0].ptr + unpu_state_rows_offset(c->rows));

	header->rows_live = c->rows;
	for (uint32_t i = 0; i < c->rows; i++) {
		rows[i] = (struct unpu_state_row){
			.token = 11 + 37 * i, .position = FIRST_CELL, .cell = FIRST_CELL,
			.slot = i, .flags = UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE, .out = i,
		};
		s[i] = (struct unpu_state_sampler){
			.temperature = i ? 0.8f : 0, .top_k = i ? 40 : 0, .top_p = 1,
			.min_p = i ? 0.05f : 0, .repeat_penalty = i ? 1.25f : 1,
			.repeat_last_n = i ? 16 : 0, .seed = { 7, 11 },
		};
	}
}

static void make_replay(struct model *m, struct replay *r)
{
	for (uint32_t b = 0; b < r->info->num_bindings; b++) {
		uint64_t bytes = r->at[DEVICE][b].bytes;

		if (!bytes)
			continue;
		assert_int_equal(unpu_rig_alloc(&m->rigs[TWIN], bytes, DRM_UNPU_BO_MMAP,
						&r->at[TWIN][b]), 0);
		r->at[TWIN][b].bytes = bytes;
		r->in[b] = malloc(bytes);
		r->got[DEVICE][b] = malloc(bytes);
		r->got[TWIN][b] = malloc(bytes);
	}
	for (uint32_t side = 0; side < SIDES; side++) {
		struct unpu_rig_dispatch d = { r->kind, r->spec, &r->constants, { { 0 } } };

		memcpy(d.bindings, r->at[side], sizeof(d.bindings));
		assert_int_equal(unpu_rig_program(&m->rigs[side], &d, 1, &r->programs[side]), 0);
	}
}

static void compile_parts(struct model *m)
{
	const uint32_t parts[] = { UNPU_PART_EMBED,
				   UNPU_PART_LAYERS | UNPU_PART_HEAD | UNPU_PART_SAMPLE };
	struct drm_unpu_program_destroy gone = { 0 };
	struct unpu_device *dev = m->devs[DEVICE];
	struct unpu_compiler compiler;

	unpu_compiler_init(&compiler, m->weights, &m->work);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(unpu_compile(&compiler, parts[i], &gone.program_id, NULL), 0);
		assert_int_equal(dev->ops->program_destroy(dev, &gone), 0);
	}
	unpu_compiler_finish(&compiler);
	assert_int_equal(m->count, 1 + 5 * m->arch->hp.layers + 2);
}

static void model_open(struct model *m, const struct choice *c)
{
	tap_begin(m);
	assert_int_equal(unpu_rig_init(&m->rigs[DEVICE], m->devs[DEVICE]), 0);
	assert_int_equal(unpu_rig_init(&m->rigs[TWIN], m->devs[TWIN]), 0);
	pack(m, c);
	make_buffers(m, c);
	fill_past(m, c);
	fill_state(m, c);
	compile_parts(m);
	tap_end(m);
	for (uint32_t i = 0; i < m->count; i++)
		make_replay(m, &m->replays[i]);
}

static void model_close(struct model *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		for (uint32_t b = 0; b < BINDINGS; b++) {
			free(m->replays[i].in[b]);
			free(m->replays[i].got[DEVICE][b]);
			free(m->replays[i].got[TWIN][b]);
		}
	unpu_weights_destroy(m->weights);
	for (uint32_t side = 0; side < SIDES; side++)	/* with all that is theirs */
		m->devs[side]->ops->close(m->devs[side]);
	unpu_arch_destroy(m->arch);
	unpu_gguf_destroy(m->gguf);
	free(m->file);
	free(m);
}

/* ---- how far two right answers may be apart ------------------------------------------------ */

/* Weights of a dispatch, and what they make of one row: m results and their bounds. */
struct product {
	const uint8_t *quants, *scales;
	uint32_t bits, m, k;	/* both padded */
	bool a8;
	double *x, *y, *e;
};

static struct product product_begin(const struct replay *r, uint32_t quants, uint32_t layout,
				    uint32_t numeric, uint32_t rows, uint32_t k)
{
	struct product p = { .quants = r->in[quants], .scales = r->in[quants + 1],
			     .bits = unpu_layout_info(layout)->bits, .m = unpu_pad32(rows),
			     .k = unpu_pad32(k), .a8 = numeric == DRM_UNPU_CLASS_A8 };

	p.x = calloc(p.k, sizeof(double));
	p.y = calloc(p.m, sizeof(double));
	p.e = calloc(p.m, sizeof(double));
	return p;
}

static void product_end(struct product *p)
{
	free(p->x);
	free(p->y);
	free(p->e);
}

/* Q8_R32 and Q4_R32, as shaders/layout.h has them. */
static double weight(const struct product *p, uint32_t row, uint32_t k)
{
	uint64_t block = (uint64_t)(row / 32) * (p->k / 32) + k / 32;
	const uint8_t *at = p->quants + block * 128 * p->bits + row % 32 * 16;
	uint16_t scale;
	int quant;

	memcpy(&scale, p->scales + 2 * (block * 32 + row % 32), sizeof(scale));
	if (p->bits == 8)
		quant = (int8_t)at[k % 32 / 16 * 512 + k % 16];
	else
		quant = (at[k % 16] >> (k % 32 < 16 ? 0 : 4) & 15) - 8;
	return quant * (double)unpu_f16_float(scale);
}

/* In class a8 what the int8 of x stand for; returns the largest step of one of them. */
static double quantize(const struct product *p)
{
	double step, most = 0;
	uint32_t i, j;

	for (i = 0; p->a8 && i < p->k; i += 32) {
		step = 0;
		for (j = i; j < i + 32; j++)
			step = fmax(step, fabs(p->x[j]) / 127);
		for (j = i; j < i + 32; j++)
			p->x[j] = step > 0 ? rint(p->x[j] / step) * step : 0;
		most = fmax(most, step);
	}
	return most;
}

/*
 * y = W x and its bound: sums of k products in two orders, k / 2 roundings of the absolute sum and
 * what came before. computed: the two make x by sums of their own, so that in class a8 it may lie
 * on two sides of a tie, in two places at most.
 */
static void multiply(struct product *p, bool computed)
{
	double step = quantize(p), rel = (p->k / 2.0 + 64) * EPS32;

	for (uint32_t r = 0; r < p->m; r++) {
		double sum = 0, absolute = 0, largest = 0;

		for (uint32_t k = 0; k < p->k; k++) {
			double w = weight(p, r, k);

			sum += w * p->x[k];
			absolute += fabs(w * p->x[k]);
			largest = fmax(largest, fabs(w));
		}
		p->y[r] = sum;
		p->e[r] = rel * absolute + (computed ? 2 * step * largest : 0);
	}
}

static const float *floats(const struct replay *r, uint32_t binding)
{
	return (const float *)(const void *)r->in[binding];
}

static const struct unpu_state_row *live_row(const struct replay *r, uint32_t slots, uint32_t i)
{
	const struct unpu_state_header *header = (const void *)r->in[0];
	const struct unpu_state_row *rows;

	rows = (const void *)(r->in[0] + unpu_state_rows_offset(slots));
	return i < header->rows_live ? &rows[i] : NULL;
}

/* x of row i, normed. These models have no norms with a mean or a bias. */
static void norm(struct product *p, const struct replay *r, uint32_t x_binding, uint32_t params,
		 uint32_t row, uint32_t n, float eps)
{
	const float *x = floats(r, x_binding) + (size_t)row * p->k, *w = floats(r, params);
	double sum = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	for (i = 0; i < p->k; i++)
		p->x[i] = i < n ? x[i] / sqrt(sum / n + eps) * w[i] : 0;
}

/* One head of q or k through a norm of its own: the root is as far off as all of it. */
static void norm_head(double *y, double *e, const float *w, uint32_t d, float eps)
{
	double sum = 0, errors = 0, root, off;
	uint32_t i;

	for (i = 0; i < d; i++) {
		sum += y[i] * y[i];
		errors += e[i] * e[i];
	}
	root = sqrt(sum / d + eps);
	off = 1.1 * sqrt(errors / d) / root + 32 * EPS32;
	for (i = 0; i < d; i++) {
		y[i] *= w[i] / root;
		e[i] = 1.1 * e[i] * fabs(w[i]) / root + off * fabs(y[i]);
	}
}

static void bias_and_norms(const struct unpu_qkv_spec *s, struct product *p, const float *params)
{
	const float *bias = params + unpu_pad32(s->hidden);
	const float *norms = bias + (s->flags & UNPU_FLAG_BIAS ? p->m : 0);
	uint32_t d = s->head_dim, i;

	for (i = 0; s->flags & UNPU_FLAG_BIAS && i < unpu_qkv_rows(s); i++) {
		p->e[i] += 2 * EPS32 * (fabs(p->y[i]) + fabs(bias[i]));
		p->y[i] += bias[i];
	}
	for (i = 0; s->flags & UNPU_FLAG_QK_NORM && i < s->heads + s->kv_heads; i++)
		norm_head(p->y + i * d, p->e + i * d, norms + (i < s->heads ? 0 : d), d, s->eps);
}

/* The bound of element i of a head, which turned with another one; *most: of its value. */
static double turned(const struct unpu_qkv_spec *s, const struct product *p, uint32_t unit,
		     uint32_t i, double *most)
{
	const double *y = p->y + unit * s->head_dim, *e = p->e + unit * s->head_dim;
	uint32_t half = s->rope_dims / 2, other = i < half ? i + half : i - half;

	if (s->rope == UNPU_ROPE_PAIRS)
		other = i ^ 1;
	*most = fabs(y[i]) + e[i];
	if (unit >= s->heads + s->kv_heads || i >= s->rope_dims)
		return e[i] + 4 * EPS32 * *most;
	*most += fabs(y[other]) + e[other];
	return e[i] + e[other] + 8 * EPS32 * *most;
}

static void bound_heads(struct replay *r, const struct unpu_qkv_spec *s, const struct product *p,
			uint32_t row, const struct unpu_state_row *at)
{
	for (uint32_t unit = 0; unit < s->heads + 2 * s->kv_heads; unit++)
		for (uint32_t i = 0; i < s->head_dim; i++) {
			double most, e = turned(s, p, unit, i, &most);
			size_t q = (size_t)row * s->heads + unit;
			size_t slot = (size_t)(unit - s->heads) * s->slots + at->slot;
			size_t cell = slot * s->cells + at->cell;

			if (unit < s->heads)
				r->bound[UNPU_QKV_Q][q * s->head_dim + i] = e;
			else	/* two f16 may lie on either side of it */
				r->bound[UNPU_QKV_KV][cell * s->head_dim + i] =
					r->f16[UNPU_QKV_KV] ? e + 2 * EPS16 * most + EPS32 : e;
		}
}

static void bound_qkv(struct replay *r)
{
	const struct unpu_qkv_spec *s = (const void *)r->spec;
	struct product p = product_begin(r, UNPU_QKV_QUANTS, s->layout, s->numeric,
					 unpu_qkv_rows(s), s->hidden);
	const struct unpu_state_row *at;

	assert_int_equal(s->flags & ~(UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM), 0);
	assert_int_equal(s->norm, UNPU_NORM_RMS);
	r->f16[UNPU_QKV_KV] = s->kv_type == DRM_UNPU_KV_F16;
	for (uint32_t i = 0; (at = live_row(r, s->slots, i)); i++) {
		norm(&p, r, UNPU_QKV_X, UNPU_QKV_PARAMS, i, s->hidden, s->eps);
		multiply(&p, true);
		bias_and_norms(s, &p, floats(r, UNPU_QKV_PARAMS));
		bound_heads(r, s, &p, i, at);
	}
	product_end(&p);
}

static double kv_value(const struct unpu_attn_spec *s, const struct replay *r, uint64_t i)
{
	uint16_t half;

	if (s->kv_type == DRM_UNPU_KV_F32)
		return floats(r, UNPU_ATTN_KV)[i];
	memcpy(&half, r->in[UNPU_ATTN_KV] + 2 * i, sizeof(half));
	return unpu_f16_float(half);
}

/* score[n] of a chunk whose keys begin at k; returns how far one of them may be off. */
static double scores(const struct unpu_attn_spec *s, const struct replay *r, const float *q,
		     size_t k, uint32_t n, double *score)
{
	uint32_t d = s->head_dim;
	double off = 0;

	for (uint32_t j = 0; j < n; j++) {
		double dot = 0, absolute = 0;

		for (uint32_t i = 0; i < d; i++) {
			double product = q[i] * kv_value(s, r, k + (size_t)j * d + i);

			dot += product;
			absolute += fabs(product);
		}
		score[j] = dot * s->scale;
		off = fmax(off, (d / 2.0 + 16) * EPS32 * absolute * s->scale);
	}
	return off;
}

/* As the known answers' (runtime/device/kat.c, bound_chunk()), which says why. */
static void bound_chunk(struct replay *r, uint32_t row, const struct unpu_state_row *in,
			uint32_t head, uint32_t chunk)
{
	const struct unpu_attn_spec *s = (const void *)r->spec;
	uint32_t group = s->heads / s->kv_heads, d = s->head_dim, n, i, j;
	size_t chunks = s->cells / UNPU_CHUNK;
	size_t k = ((head / group * s->slots + in->slot) * (size_t)s->cells +
		    chunk * UNPU_CHUNK) * d;
	size_t v = (size_t)s->kv_heads * s->slots * s->cells * d + k;
	size_t at = ((size_t)row * chunks + chunk) * s->heads + head;
	double *bound = r->bound[UNPU_ATTN_PARTIALS];
	double *ms = bound + (size_t)s->rows * chunks * s->heads * d + 2 * at;
	double score[UNPU_CHUNK], most = -INFINITY, sum = 0, rel;

	n = in->cell - chunk * UNPU_CHUNK + 1;
	n = n < UNPU_CHUNK ? n : UNPU_CHUNK;
	ms[0] = scores(s, r, floats(r, UNPU_ATTN_Q) + ((size_t)row * s->heads + head) * d, k, n,
		       score);
	rel = 2 * ms[0] + 160 * EPS32;
	for (j = 0; j < n; j++)
		most = fmax(most, score[j]);
	for (j = 0; j < n; j++)
		sum += exp(score[j] - most);
	ms[1] = rel * sum;
	for (i = 0; i < d; i++)
		for (j = 0; j < n; j++)
			bound[at * d + i] += rel * exp(score[j] - most) *
					     fabs(kv_value(s, r, v + (size_t)j * d + i));
}

static void bound_attn(struct replay *r)
{
	const struct unpu_attn_spec *s = (const void *)r->spec;
	const struct unpu_state_row *at;

	for (uint32_t row = 0; (at = live_row(r, s->slots, row)); row++)
		for (uint32_t head = 0; head < s->heads; head++)
			for (uint32_t chunk = 0; chunk <= at->cell / UNPU_CHUNK; chunk++)
				bound_chunk(r, row, at, head, chunk);
}

/* One head of a row, merged as a reader of the partials does it. */
static void merge(const struct unpu_attn_out_spec *s, const struct replay *r, uint32_t row,
		  uint32_t head, uint32_t cell, double *out)
{
	uint32_t d = s->head_dim, n = cell / UNPU_CHUNK + 1;
	size_t chunks = s->cells / UNPU_CHUNK, at;
	const float *o = floats(r, UNPU_ATTN_OUT_PARTIALS);
	const float *ms = o + (size_t)s->rows * chunks * s->heads * d;
	double most = -INFINITY, sum = 0;

	memset(out, 0, d * sizeof(*out));
	for (uint32_t c = 0; c < n; c++)
		most = fmax(most, ms[2 * ((row * chunks + c) * s->heads + head)]);
	for (uint32_t c = 0; c < n; c++) {
		at = (row * chunks + c) * s->heads + head;
		sum += exp(ms[2 * at] - most) * ms[2 * at + 1];
		for (uint32_t i = 0; i < d; i++)
			out[i] += exp(ms[2 * at] - most) * o[at * d + i];
	}
	for (uint32_t i = 0; i < d; i++)
		out[i] /= sum;
}

/* x += y. */
static void bound_add(struct replay *r, uint32_t binding, const struct product *p, uint32_t row,
		      uint32_t hidden)
{
	size_t at = (size_t)row * unpu_pad32(hidden);

	for (uint32_t i = 0; i < hidden; i++)
		r->bound[binding][at + i] = p->e[i] + 4 * EPS32 *
			(fabs(floats(r, binding)[at + i]) + fabs(p->y[i]));
}

static void bound_attn_out(struct replay *r)
{
	const struct unpu_attn_out_spec *s = (const void *)r->spec;
	struct product p = product_begin(r, UNPU_ATTN_OUT_QUANTS, s->layout, s->numeric, s->hidden,
					 s->heads * s->head_dim);
	const struct unpu_state_row *at;

	assert_int_equal(s->flags, 0);
	for (uint32_t i = 0; (at = live_row(r, s->slots, i)); i++) {
		memset(p.x, 0, p.k * sizeof(*p.x));
		for (uint32_t head = 0; head < s->heads; head++)
			merge(s, r, i, head, at->cell, p.x + head * s->head_dim);
		multiply(&p, true);
		bound_add(r, UNPU_ATTN_OUT_X, &p, i, s->hidden);
	}
	product_end(&p);
}

/* h = act(g) u: |silu'| is below 1.2. */
static void bound_ffn_in(struct replay *r)
{
	const struct unpu_ffn_in_spec *s = (const void *)r->spec;
	struct product p = product_begin(r, UNPU_FFN_IN_QUANTS, s->layout, s->numeric,
					 2 * unpu_pad32(s->ffn), s->hidden);

	assert_int_equal(s->flags, UNPU_FLAG_GATED);
	assert_int_equal(s->norm, UNPU_NORM_RMS);
	for (uint32_t row = 0; live_row(r, s->slots, row); row++) {
		norm(&p, r, UNPU_FFN_IN_X, UNPU_FFN_IN_PARAMS, row, s->hidden, s->eps);
		multiply(&p, true);
		for (uint32_t i = 0; i < s->ffn; i++) {
			uint32_t g = i / 32 * 64 + i % 32, u = g + 32;
			double e = 1.2 * p.e[g] + 64 * EPS32 * fabs(p.y[g]);

			r->bound[UNPU_FFN_IN_H][(size_t)row * unpu_pad32(s->ffn) + i] =
				e * (fabs(p.y[u]) + p.e[u]) + p.e[u] * fabs(p.y[g]) +
				64 * EPS32 * fabs(p.y[g] * p.y[u]);
		}
	}
	product_end(&p);
}

static void bound_ffn_out(struct replay *r)
{
	const struct unpu_ffn_out_spec *s = (const void *)r->spec;
	struct product p = product_begin(r, UNPU_FFN_OUT_QUANTS, s->layout, s->numeric, s->hidden,
					 s->ffn);

	assert_int_equal(s->flags, 0);
	for (uint32_t row = 0; live_row(r, s->slots, row); row++) {
		for (uint32_t i = 0; i < p.k; i++)
			p.x[i] = floats(r, UNPU_FFN_OUT_H)[(size_t)row * p.k + i];
		multiply(&p, false);
		bound_add(r, UNPU_FFN_OUT_X, &p, row, s->hidden);
	}
	product_end(&p);
}

static void bound_head(struct replay *r)
{
	const struct unpu_head_spec *s = (const void *)r->spec;
	struct product p = product_begin(r, UNPU_HEAD_QUANTS, s->layout, s->numeric, s->vocab,
					 s->hidden);
	const struct unpu_state_row *at;

	assert_int_equal(s->flags, 0);
	assert_int_equal(s->norm, UNPU_NORM_RMS);
	for (uint32_t row = 0; (at = live_row(r, s->slots, row)); row++) {
		norm(&p, r, UNPU_HEAD_X, UNPU_HEAD_PARAMS, row, s->hidden, s->eps);
		multiply(&p, true);
		memcpy(r->bound[UNPU_HEAD_LOGITS] + (size_t)at->out * s->vocab, p.e,
		       s->vocab * sizeof(double));
	}
	product_end(&p);
}

/* Where there is none, embed and sample, both have the same bits. */
static const struct {
	uint32_t bindings;	/* that have bounds */
	void (*fill)(struct replay *r);
} bounds[UNPU_SHADER_COUNT] = {
	[UNPU_SHADER_QKV] = { 1u << UNPU_QKV_Q | 1u << UNPU_QKV_KV, bound_qkv },
	[UNPU_SHADER_ATTN] = { 1u << UNPU_ATTN_PARTIALS, bound_attn },
	[UNPU_SHADER_ATTN_OUT] = { 1u << UNPU_ATTN_OUT_X, bound_attn_out },
	[UNPU_SHADER_FFN_IN] = { 1u << UNPU_FFN_IN_H, bound_ffn_in },
	[UNPU_SHADER_FFN_OUT] = { 1u << UNPU_FFN_OUT_X, bound_ffn_out },
	[UNPU_SHADER_HEAD] = { 1u << UNPU_HEAD_LOGITS, bound_head },
};

/* ---- comparing ----------------------------------------------------------------------------- */

static double element(const struct replay *r, uint32_t side, uint32_t binding, uint64_t i)
{
	uint16_t half;
	float f;

	if (r->f16[binding]) {
		memcpy(&half, r->got[side][binding] + 2 * i, sizeof(half));
		return unpu_f16_float(half);
	}
	memcpy(&f, r->got[side][binding] + 4 * i, sizeof(f));
	return f;
}

/* The maxima of a head are those of the device's own logits, the first of equals, to the bit. */
static bool maxima_are_right(const struct replay *r)
{
	const struct unpu_head_spec *s = (const void *)r->spec;
	const float *logits = (const void *)r->got[DEVICE][UNPU_HEAD_LOGITS];
	uint32_t groups = unpu_pad32(s->vocab) / 32, best = 0;

	for (uint32_t row = 0; live_row(r, s->slots, row); row++)
		for (uint32_t i = 0; i < s->vocab; i++) {
			const float *x = logits + (size_t)row * s->vocab;
			const uint8_t *at = r->got[DEVICE][UNPU_HEAD_MAXIMA] +
					    8 * ((size_t)row * groups + i / 32);

			best = i % 32 && !(x[i] > x[best]) ? best : i;
			if ((i % 32 == 31 || i + 1 == s->vocab) &&
			    (memcmp(at, &x[best], 4) || memcmp(at + 4, &best, 4)))
				return false;
		}
	return true;
}

/* Whether this binding is what the twin made of it; *nearest grows. */
static bool same(const struct replay *r, uint32_t binding, double *nearest)
{
	const uint8_t *a = r->got[DEVICE][binding], *b = r->got[TWIN][binding];
	uint32_t size = r->f16[binding] ? 2 : 4;

	if (r->kind == UNPU_SHADER_HEAD && binding == UNPU_HEAD_MAXIMA)
		return maxima_are_right(r);
	for (uint64_t i = 0; i < r->at[DEVICE][binding].bytes / size; i++) {
		double bound = r->bound[binding] ? r->bound[binding][i] : 0, apart;

		if (!memcmp(a + i * size, b + i * size, size))
			continue;
		apart = fabs(element(r, DEVICE, binding, i) - element(r, TWIN, binding, i));
		if (!r->bound[binding] || !(apart <= bound))
			return false;
		*nearest = fmax(*nearest, bound > 0 ? apart / bound : 0);
	}
	return true;
}

/* A bound as large as what it is of would let anything pass. */
static void check_bounds(const struct replay *r, uint32_t binding)
{
	double bound = 0, most = 0;

	for (uint64_t i = 0; i < r->at[DEVICE][binding].bytes / (r->f16[binding] ? 2 : 4); i++)
		if (r->bound[binding][i] > 0) {
			bound = fmax(bound, r->bound[binding][i]);
			most = fmax(most, fabs(element(r, TWIN, binding, i)));
		}
	if (!(bound > 0 && bound < most / 8))
		fail_msg("%s: binding %u: bound %g of values up to %g", r->info->name, binding,
			 bound, most);
}

/* One element that is off by twice its bound, or by one bit where it has none, is noticed. */
static void spoil(struct model *m, struct replay *r, uint32_t binding)
{
	uint32_t size = r->f16[binding] ? 2 : 4;
	uint64_t i, count = r->at[DEVICE][binding].bytes / size;
	double unused = 0, value;
	uint8_t was[4], *word;
	uint16_t half;
	float f;

	for (i = 0; r->bound[binding] && i < count && !(r->bound[binding][i] > 0);)
		i++;
	assert_true(i < count);
	word = r->got[DEVICE][binding] + i * size;
	memcpy(was, word, size);
	value = r->bound[binding] ? element(r, TWIN, binding, i) + 2 * r->bound[binding][i] : 0;
	f = (float)value;
	half = unpu_float_f16(f);
	if (!r->bound[binding])
		word[0] ^= 1;
	else
		memcpy(word, size == 2 ? (void *)&half : (void *)&f, size);
	assert_false(same(r, binding, &unused));
	memcpy(word, was, size);
	m->spoiled++;
}

static void compare(struct model *m, struct replay *r)
{
	for (uint32_t b = 0; b < r->info->num_bindings; b++) {
		if (!r->in[b])
			continue;
		if (!(r->info->write_mask >> b & 1)) {
			assert_memory_equal(r->in[b], r->got[DEVICE][b], r->at[DEVICE][b].bytes);
			continue;
		}
		if (r->bound[b])
			check_bounds(r, b);
		if (!same(r, b, &m->nearest))
			fail_msg("%s: binding %u is not what the twin writes", r->info->name, b);
		spoil(m, r, b);
	}
	m->compared++;
}

static void run_on(struct model *m, struct replay *r, uint32_t side)
{
	assert_int_equal(unpu_rig_run(&m->rigs[side], r->programs[side], 1), 0);
	for (uint32_t b = 0; b < r->info->num_bindings; b++)
		if (r->in[b])
			memcpy(r->got[side][b], r->at[side][b].ptr, r->at[side][b].bytes);
}

static void replay(struct model *m, struct replay *r)
{
	for (uint32_t b = 0; b < r->info->num_bindings; b++) {
		if (!r->in[b])
			continue;
		memcpy(r->in[b], r->at[DEVICE][b].ptr, r->at[DEVICE][b].bytes);
		memcpy(r->at[TWIN][b].ptr, r->in[b], r->at[DEVICE][b].bytes);
		if (bounds[r->kind].bindings >> b & 1)
			r->bound[b] = calloc(r->at[DEVICE][b].bytes / 2, sizeof(double));
	}
	if (bounds[r->kind].fill)
		bounds[r->kind].fill(r);
	run_on(m, r, DEVICE);
	run_on(m, r, TWIN);
	compare(m, r);
	for (uint32_t b = 0; b < BINDINGS; b++) {
		free(r->bound[b]);
		r->bound[b] = NULL;
	}
}

/* ---- the tests ----------------------------------------------------------------------------- */

static int count_devices(void **state)
{
	const struct unpu_log quiet = { NULL, NULL };
	uint32_t count;

	(void)state;
	if (unpu_vulkan_count(&quiet, &count))
		return -1;
	have_device = count > 0;
	return 0;
}

static struct model *open_devices(const struct choice *c)
{
	const struct unpu_device_params params = { .threads = 1, .tuning = c->tuning };
	struct model *m = calloc(1, sizeof(*m));
	int ret;

	assert_non_null(m);
	ret = unpu_vulkan_device_open(0, &params, &m->devs[DEVICE]);
	if (ret == -ENOTSUP) {
		free(m);
		return NULL;
	}
	assert_int_equal(ret, 0);
	assert_int_equal(unpu_cpu_device_open(&params, &m->devs[TWIN]), 0);
	return m;
}

static void every_dispatch_is_its_twin(void **state)
{
	const struct choice *c = *state;
	const struct unpu_state_header *header;
	struct model *m = have_device ? open_devices(c) : NULL;

	if (!m) {
		print_message("%s: %s\n", c->name, have_device ? "this device does not take it" :
			      "no Vulkan device on this machine");
		skip();
	}
	model_open(m, c);
	replay(m, &m->replays[0]);	/* the embedding of the first token */
	for (uint32_t token = 0; token < TOKENS; token++)
		for (uint32_t i = 1; i < m->count; i++)
			replay(m, &m->replays[i]);
	header = (const void *)m->areas[0].ptr;
	assert_int_equal(header->ring_head, TOKENS * c->rows);
	assert_int_equal(header->fault, 0);
	assert_int_equal(m->compared, 1 + TOKENS * (5 * m->arch->hp.layers + 2));
	print_message("%s: %u dispatches, the nearest at %.2g of its bound; %u spoiled words "
		      "noticed\n", c->name, m->compared, m->nearest, m->spoiled);
	model_close(m);
}

int main(void)
{
	struct CMUnitTest tests[NUM_CHOICES];

	for (size_t i = 0; i < NUM_CHOICES; i++)
		tests[i] = (struct CMUnitTest){ choices[i].name, every_dispatch_is_its_twin, NULL,
						NULL, (void *)(uintptr_t)&choices[i] };
	return cmocka_run_group_tests(tests, count_devices, NULL);
}
