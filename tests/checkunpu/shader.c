/* SPDX-License-Identifier: MIT */
#include "tests/checkunpu/shader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers with a bound --------------------------------------------------------------- */

/*
 * Vulkan rounds sums and products to either neighbour, so an operation is a whole unit off at most,
 * twice of what IEEE says; a division 2.5 units, an inverse square root 2, exp 3 + 2 |x|.
 */
static struct {
	double eps;	/* of one operation */
	int loose;
	int half;	/* products of the matrix at hand are rounded to f16 */
} rules = { .eps = CHECK_EPS };

double ball_eps(void)
{
	return rules.eps;
}

static struct ball rounded(double v, double e)
{
	return (struct ball){ v, e + (fabs(v) + e) * rules.eps + CHECK_TINY };
}

struct ball ball_of(double v)
{
	return (struct ball){ v, 0 };
}

struct ball ball_add(struct ball a, struct ball b)
{
	return rounded(a.v + b.v, a.e + b.e);
}

struct ball ball_mul(struct ball a, struct ball b)
{
	return rounded(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e);
}

/*
 * A weight, an activation and their product are rounded to f16, by 2^-10 each as no rounding mode
 * is promised; below 2^-14 they may become 0. Activations come scaled to at most 1 by their largest
 * of 32, weights as they are.
 */
static double half_error(const double *w, const struct ball *x, uint32_t n, double size)
{
	double tiny = 0;

	for (uint32_t b = 0; b < n; b += 32) {
		double max = 0, w_max = 0;

		for (uint32_t i = b; i < b + 32 && i < n; i++) {
			max = fmax(max, fabs(x[i].v) + x[i].e);
			w_max = fmax(w_max, fabs(w[i]));
		}
		tiny += 32 * 0x1p-14 * (max + w_max * max + max * w_max);
	}
	return 3.01 * 0x1p-10 * size + tiny;
}

struct ball ball_dot(const double *w, const struct ball *x, uint32_t n)
{
	double v = 0, e = 0, size = 0;

	for (uint32_t i = 0; i < n; i++) {
		v += w[i] * x[i].v;
		e += fabs(w[i]) * x[i].e;
		size += fabs(w[i]) * (fabs(x[i].v) + x[i].e);
	}
	/* Each product takes part in at most n sums; a weight may have been rounded once. */
	e += (n + 2) * rules.eps * size + CHECK_TINY;
	if (rules.half)
		e += half_error(w, x, n, size);
	return (struct ball){ v, e };
}

struct ball ball_act(uint32_t act, struct ball x)
{
	double u = sqrt(2 / M_PI) * (x.v + 0.044715 * x.v * x.v * x.v), v;

	switch (act) {
	case UNPU_ACT_SILU:
		v = x.v / (1 + exp(-x.v));
		break;
	case UNPU_ACT_GELU:
		v = x.v / (1 + exp(-2 * u));
		break;
	default:
		v = x.v > 0 ? x.v : 0;
	}
	/* No activation is steeper than 1.13; roundings as in act.c here. */
	return (struct ball){ v, 1.13 * x.e + fabs(v) * (8 + 14 * fabs(u)) * rules.eps +
			      CHECK_TINY };
}

struct ball ball_f16(struct ball x)
{
	return (struct ball){ x.v, x.e + (fabs(x.v) + x.e) * 0x1p-11 + 0x1p-25 };
}

void ball_norm(uint32_t kind, const struct ball *x, const float *weight, const float *bias,
	       uint32_t n, float eps, struct ball *y)
{
	double mean = 0, mean_e = 0, squares = 0, squares_e = 0, inv, inv_e;

	for (uint32_t i = 0; kind == UNPU_NORM_LAYER && i < n; i++) {
		mean += x[i].v / n;
		mean_e += (x[i].e + (n + 1) * rules.eps * fabs(x[i].v)) / n;
	}
	for (uint32_t i = 0; i < n; i++) {
		double v = x[i].v - mean, e = x[i].e + mean_e + fabs(v) * rules.eps;

		squares += v * v / n;
		squares_e += (2 * fabs(v) * e + e * e) / n;
	}
	inv = 1 / sqrt(squares + eps);
	/* sqrt halves the relative error of its operand */
	inv_e = inv * (((n + 4) * rules.eps * squares + squares_e) / 2 / (squares + eps) +
		       (4 + 8 * rules.loose) * rules.eps);
	for (uint32_t i = 0; i < unpu_pad32(n); i++) {
		struct ball d = { 0, 0 };

		if (i < n) {
			d.v = x[i].v - mean;
			d.e = x[i].e + mean_e + fabs(d.v) * rules.eps;
			d = ball_mul(d, (struct ball){ inv, inv_e });
			d = ball_mul(d, ball_of(weight[i]));
			if (bias)
				d = ball_add(d, ball_of(bias[i]));
		}
		y[i] = d;
	}
}

void ball_quantize(uint32_t numeric, struct ball *x, uint32_t k)
{
	for (uint32_t b = 0; numeric == DRM_UNPU_CLASS_A8 && b < k; b += 32) {
		double max = 0, max_e = 0, d;

		for (uint32_t i = b; i < b + 32; i++) {
			max = fmax(max, fabs(x[i].v));
			max_e = fmax(max_e, x[i].e);
		}
		d = max / 127;
		for (uint32_t i = b; i < b + 32; i++) {
			double s = d > 0 ? x[i].v / d : 0, q = rint(s), e;

			/* How far x / d, computed, may be from s. */
			e = d > 0 ? (x[i].e + fabs(s) / 127 * max_e) / d +
				    (4 + 3 * rules.loose) * rules.eps * fabs(s) : 0;
			x[i].v = q * d;
			x[i].e = fabs(q) * (max_e / 127 + (3 + rules.loose) * rules.eps * d);
			if (fabs(fabs(s - q) - 0.5) <= e || e > 0.5)
				x[i].e += d * ceil(e);
		}
	}
}

/* ---- a dispatch ------------------------------------------------------------------------- */

/* Where a shader's layout is among its words; 0: it has none. */
static const uint8_t layout_word[UNPU_SHADER_COUNT] = {
	[UNPU_SHADER_EMBED] = offsetof(struct unpu_embed_spec, layout) / 4,
	[UNPU_SHADER_QKV] = offsetof(struct unpu_qkv_spec, layout) / 4,
	[UNPU_SHADER_ATTN_OUT] = offsetof(struct unpu_attn_out_spec, layout) / 4,
	[UNPU_SHADER_FFN_IN] = offsetof(struct unpu_ffn_in_spec, layout) / 4,
	[UNPU_SHADER_FFN_OUT] = offsetof(struct unpu_ffn_out_spec, layout) / 4,
	[UNPU_SHADER_HEAD] = offsetof(struct unpu_head_spec, layout) / 4,
	[UNPU_SHADER_SAMPLE] = offsetof(struct unpu_sample_spec, layout) / 4,
};

static void set_rules(const struct shader *s)
{
	uint32_t word = layout_word[s->kind], layout;

	rules.loose = !!s->device;
	rules.eps = (1 + rules.loose) * CHECK_EPS;
	rules.half = 0;
	if (!s->device || !word || !ondevice_half(s->device))
		return;
	layout = ((const uint32_t *)s->spec)[word];
	rules.half = layout != DRM_UNPU_LAYOUT_F32_R32;
}

void shader_init(struct shader *s, const struct check_level *level, uint32_t kind,
		 const void *spec, const void *constants, enum check_side side)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);

	memset(s, 0, sizeof(*s));
	s->ops = level->ops;
	s->device = level->device;
	s->kind = kind;
	s->spec = spec;
	s->constants = constants;
	s->side = side;
	if (unpu_shader_check_spec(kind, spec, info->spec_words) ||
	    unpu_shader_need(kind, spec, constants, info->const_bytes, &s->need))
		check_fail("%s: the test's own constants are refused", info->name);
	for (uint32_t i = 0; i < info->num_bindings; i++)
		check_buf_init(&s->bufs[i], s->need.bytes[i], side);
	set_rules(s);
	if (s->device)
		s->program = ondevice_program_create(s->device, kind, spec, constants, &s->need);
	if (s->device && !s->program)
		check_fail("%s", ondevice_why(s->device));
}

void shader_finish(struct shader *s)
{
	ondevice_program_destroy(s->program);
	for (uint32_t i = 0; i < unpu_shader_info(s->kind)->num_bindings; i++)
		check_buf_finish(&s->bufs[i]);
}

static void run_thread(const struct unpu_twin_args *args, unpu_twin_fn *fn)
{
	CHECK_CALL(fn(args));
}

static void run_threads(uint32_t threads, struct unpu_twin_args *args,
			const struct check_buf *locals, unpu_twin_fn *fn)
{
	for (uint32_t t = 0; t < threads; t++) {
		args->thread = t;
		args->local = locals[t].data;
		run_thread(args, fn);
	}
}

static void check_intact(const struct shader *s, const struct check_buf *shared,
			 const struct check_buf *locals, uint32_t threads)
{
	for (uint32_t i = 0; i < unpu_shader_info(s->kind)->num_bindings; i++)
		check_buf_intact(&s->bufs[i], "around a binding");
	check_buf_intact(shared, "around shared scratch");
	for (uint32_t t = 0; t < threads; t++)
		check_buf_intact(&locals[t], "around a thread's scratch");
}

static void run_twin(struct shader *s, uint32_t threads)
{
	const struct unpu_shader_info *info = unpu_shader_info(s->kind);
	const struct unpu_twin *twin = unpu_twin_get(s->kind);
	struct check_buf shared, locals[UNPU_CPU_MAX_ROWS];
	struct unpu_view_bounds bounds;
	struct unpu_twin_need need = { 0 };
	struct unpu_view view = { 0 };
	void *bindings[UNPU_SHADER_MAX_BINDINGS] = { 0 };
	struct unpu_twin_args args = {
		.ops = s->ops, .view = &view, .spec = s->spec, .constants = s->constants,
		.bindings = bindings, .threads = threads,
	};

	for (uint32_t i = 0; i < info->num_bindings; i++)
		bindings[i] = s->need.bytes[i] ? s->bufs[i].data : NULL;
	if (twin->need)
		twin->need(s->spec, threads, &need);
	args.shared = check_buf_init(&shared, need.shared, s->side);
	for (uint32_t t = 0; t < threads; t++)
		check_buf_init(&locals[t], need.local, s->side);
	unpu_twin_bounds(twin, s->spec, &bounds);
	if (!twin->stateless)
		unpu_view_read(&view, bindings[0], &bounds);
	if (twin->staged && twin->staged(s->spec, &view, threads))
		run_threads(threads, &args, locals, twin->prepare);
	run_threads(threads, &args, locals, twin->run);
	check_intact(s, &shared, locals, threads);
	for (uint32_t t = 0; t < threads; t++)
		check_buf_finish(&locals[t]);
	check_buf_finish(&shared);
}

static void run_device(struct shader *s)
{
	void *data[UNPU_SHADER_MAX_BINDINGS];
	volatile int ret = 0;

	for (uint32_t b = 0; b < UNPU_SHADER_MAX_BINDINGS; b++)
		data[b] = s->bufs[b].data;
	CHECK_CALL(ret = ondevice_program_run(s->program, data));
	if (ret)
		check_fail("%s", ondevice_why(s->device));
	if (ret == -2)
		exit(1);
}

void shader_run(struct shader *s, uint32_t threads)
{
	if (!s->device)
		run_twin(s, threads);
	else if (s->program)
		run_device(s);
}

struct unpu_state_header *shader_state(const struct shader *s)
{
	return (void *)s->bufs[0].data;
}

struct unpu_state_row *shader_rows(const struct shader *s)
{
	return (void *)(s->bufs[0].data + unpu_state_rows_offset(((const uint32_t *)s->spec)[1]));
}

struct unpu_state_sampler *shader_samplers(const struct shader *s)
{
	return (void *)(s->bufs[0].data + unpu_state_samplers_offset());
}

void shader_rows_init(const struct shader *s, uint32_t live, uint32_t cells, uint32_t positions)
{
	const uint32_t *words = s->spec;
	struct unpu_state_row *rows = shader_rows(s);

	memset(s->bufs[0].data, 0, s->bufs[0].bytes);
	shader_state(s)->rows_live = live;
	for (uint32_t i = 0; i < live; i++) {
		rows[i].slot = i % words[1];
		/* One cell for each row, spread over the context, the last one among them. */
		rows[i].cell = cells ? (cells - 1 - i * (cells / words[0])) % cells : 0;
		rows[i].position = positions ? check_below(positions) : check_rand();
		rows[i].out = i;
		rows[i].flags = UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE;
	}
}

void shader_random(float *x, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		x[i] = check_activation();
}

void shader_random_rows(float *x, uint32_t rows, uint32_t n)
{
	for (uint32_t r = 0; r < rows; r++, x += unpu_pad32(n)) {
		shader_random(x, n);
		memset(x + n, 0, (unpu_pad32(n) - n) * sizeof(*x));
		if (r == 1)	/* a row of zeros among the others */
			memset(x, 0, n * sizeof(*x));
	}
}

void shader_compare(const char *what, uint32_t row, uint32_t at, float got, struct ball want)
{
	if (!check_near(got, want.v, want.e) && check_going_on())
		check_fail("%s: row %u, %u: %.9g, not %.9g +- %.2g", what, row, at, got, want.v,
			   want.e);
}

/* ---- purity ----------------------------------------------------------------------------- */

struct copy {
	uint8_t *data[UNPU_SHADER_MAX_BINDINGS];
};

static void copy_take(const struct shader *s, struct copy *copy)
{
	memset(copy, 0, sizeof(*copy));
	for (uint32_t b = 0; b < unpu_shader_info(s->kind)->num_bindings; b++) {
		copy->data[b] = malloc(s->bufs[b].bytes + 1);
		memcpy(copy->data[b], s->bufs[b].data, s->bufs[b].bytes);
	}
}

static void copy_free(struct copy *copy)
{
	for (uint32_t b = 0; b < UNPU_SHADER_MAX_BINDINGS; b++)
		free(copy->data[b]);
}

static void copy_compare(const struct shader *s, const struct copy *copy, uint32_t b,
			 const char *when)
{
	if (memcmp(copy->data[b], s->bufs[b].data, s->bufs[b].bytes))
		check_fail("binding %u %s", b, when);
}

/* Where the rows of a binding lie: `count` arrays of one element a row. */
struct row_arrays {
	uint32_t count;
	size_t offset[2], bytes[2];
};

static void row_arrays(const struct shader *s, uint32_t b, struct row_arrays *a)
{
	static const uint32_t by_row[UNPU_SHADER_COUNT] = {
		[UNPU_SHADER_EMBED] = 1u << UNPU_EMBED_X,
		[UNPU_SHADER_QKV] = 1u << UNPU_QKV_X | 1u << UNPU_QKV_Q,
		[UNPU_SHADER_ATTN] = 1u << UNPU_ATTN_Q | 1u << UNPU_ATTN_PARTIALS,
		[UNPU_SHADER_ATTN_OUT] = 1u << UNPU_ATTN_OUT_PARTIALS | 1u << UNPU_ATTN_OUT_X,
		[UNPU_SHADER_FFN_IN] = 1u << UNPU_FFN_IN_X | 1u << UNPU_FFN_IN_H,
		[UNPU_SHADER_FFN_OUT] = 1u << UNPU_FFN_OUT_H | 1u << UNPU_FFN_OUT_X,
		[UNPU_SHADER_HEAD] = 1u << UNPU_HEAD_X,
	};
	uint32_t rows = *(const uint32_t *)s->spec, d = 0;
	size_t bytes = s->need.bytes[b];

	*a = (struct row_arrays){ .count = by_row[s->kind] >> b & 1, .bytes = { bytes / rows } };
	if (s->kind == UNPU_SHADER_ATTN && b == UNPU_ATTN_PARTIALS)
		d = ((const struct unpu_attn_spec *)s->spec)->head_dim;
	if (s->kind == UNPU_SHADER_ATTN_OUT && b == UNPU_ATTN_OUT_PARTIALS)
		d = ((const struct unpu_attn_out_spec *)s->spec)->head_dim;
	if (!d)
		return;
	a->count = 2;
	a->offset[1] = bytes / (d + 2) * d;
	a->bytes[0] = a->offset[1] / rows;
	a->bytes[1] = (bytes - a->offset[1]) / rows;
}

/* Row i alone, as the first row; what lies row by row is compared, the rest adds up. */
static void run_alone(struct shader *s, uint32_t i, const struct copy *before,
		      const struct copy *after)
{
	uint32_t n = unpu_shader_info(s->kind)->num_bindings;
	struct unpu_state_row *rows = shader_rows(s);
	struct row_arrays a;

	for (uint32_t b = 1; b < n; b++) {
		row_arrays(s, b, &a);
		for (uint32_t j = 0; j < a.count; j++)
			memcpy(s->bufs[b].data + a.offset[j],
			       before->data[b] + a.offset[j] + i * a.bytes[j], a.bytes[j]);
	}
	memcpy(s->bufs[0].data, before->data[0], s->bufs[0].bytes);
	rows[0] = rows[i];
	shader_state(s)->rows_live = 1;
	shader_run(s, 2);
	for (uint32_t b = 1; b < n; b++) {
		row_arrays(s, b, &a);
		for (uint32_t j = 0; j < a.count; j++)
			if (memcmp(s->bufs[b].data + a.offset[j],
				   after->data[b] + a.offset[j] + i * a.bytes[j], a.bytes[j]))
				check_fail("binding %u: row %u differs when alone", b, i);
	}
}

static void restore(struct shader *s, const struct copy *copy)
{
	for (uint32_t b = 0; b < unpu_shader_info(s->kind)->num_bindings; b++)
		memcpy(s->bufs[b].data, copy->data[b], s->bufs[b].bytes);
}

void shader_run_pure(struct shader *s)
{
	static const uint32_t threads[] = { 2, 7 };
	const struct unpu_shader_info *info = unpu_shader_info(s->kind);
	uint32_t live = shader_state(s)->rows_live;
	struct copy before, after;
	struct row_arrays a;
	int alone;

	copy_take(s, &before);
	shader_run(s, 1);
	copy_take(s, &after);
	for (uint32_t b = 0; b < info->num_bindings; b++)
		if (!(info->write_mask >> b & 1) || b == 0)
			copy_compare(s, &before, b, "was written");
	for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
		restore(s, &before);
		shader_run(s, threads[i]);
		for (uint32_t b = 0; b < info->num_bindings; b++)
			copy_compare(s, &after, b, s->device ? "differs when run again" :
				     "depends on the number of threads");
	}
	restore(s, &before);
	alone = !s->device || ondevice_pure(s->device);
	for (uint32_t i = 0; alone && i < live; i++)
		run_alone(s, i, &before, &after);
	for (uint32_t b = 1; alone && b < info->num_bindings; b++) {
		row_arrays(s, b, &a);
		if (!a.count)
			copy_compare(s, &after, b, "depends on the number of rows");
	}
	restore(s, &after);
	copy_free(&before);
	copy_free(&after);
}

/* ---- weights ---------------------------------------------------------------------------- */

static void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* One quant of an 8- or 4-bit layout where shaders/layout.h says. */
static void put_quant(uint32_t layout, uint8_t *quants, uint32_t k, uint32_t r, uint32_t i, int q)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint32_t blocks = unpu_pad32(k) / 32, b = i / 32, panel = info->panel, pr = r % panel;
	uint8_t *block = quants + ((size_t)(r / panel) * blocks + b) * panel * 4 * info->bits;
	uint8_t *byte;

	i %= 32;
	switch (layout) {
	case DRM_UNPU_LAYOUT_GGUF_Q8_0:
		quants[((size_t)r * blocks + b) * 34 + 2 + i] = (uint8_t)q;
		return;
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
		block[pr * 32 + i] = (uint8_t)q;
		return;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		block[(i / 4 * 8 + pr) * 4 + i % 4] = (uint8_t)q;
		return;
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		block[(i / 4 * 16 + pr) * 4 + i % 4] = (uint8_t)(q + 128);
		return;
	case DRM_UNPU_LAYOUT_Q8_R32:
		block[i / 16 * 512 + pr * 16 + i % 16] = (uint8_t)q;
		return;
	case DRM_UNPU_LAYOUT_GGUF_Q4_0:
		byte = &quants[((size_t)r * blocks + b) * 18 + 2 + i % 16];
		q += 8;
		break;
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		byte = &block[pr * 16 + i % 16];
		break;
	case DRM_UNPU_LAYOUT_Q4_R32:
		byte = &block[pr * 16 + i % 16];
		q += 8;
		break;
	default:
		byte = &block[(i % 16 / 4 * panel + pr) * 4 + i % 4];
		if (layout != DRM_UNPU_LAYOUT_Q4_R8_K4)
			q += 8;
	}
	*byte |= (uint8_t)((q & 15) << (i < 16 ? 0 : 4));
}

static void put_scale(uint32_t layout, uint8_t *quants, uint8_t *scales, uint32_t k, uint32_t r,
		      uint32_t b, uint16_t d)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	size_t blocks = unpu_pad32(k) / 32;

	if (info->packed)
		put16(scales + ((r / info->panel * blocks + b) * info->panel + r % info->panel) * 2,
		      d);
	else
		put16(quants + (r * blocks + b) * info->block, d);
}

static void quant_row(uint32_t layout, uint32_t k, uint32_t r, uint8_t *quants, uint8_t *scales,
		      double *w)
{
	int half = unpu_layout_info(layout)->bits == 8 ? 128 : 8;
	uint32_t extreme = check_below(8);

	for (uint32_t b = 0; b < unpu_pad32(k) / 32; b++) {
		uint16_t d = unpu_float_f16(check_uniform(-1, 1) / (float)half);

		put_scale(layout, quants, scales, k, r, b, d);
		for (uint32_t i = b * 32; i < b * 32 + 32 && i < k; i++) {
			int q = (int)check_below(2 * (uint32_t)half) - half;

			if (!extreme)
				q = -half;
			put_quant(layout, quants, k, r, i, q);
			w[i] = (double)q * (double)unpu_f16_float(d);
		}
	}
}

/* One weight of a float layout; returns it as it is kept. */
static float put_float(uint32_t layout, uint8_t *quants, uint32_t k, uint32_t r, uint32_t i,
		       float v)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	size_t bytes = info->bits / 8, each = 16 / bytes;
	size_t at = info->packed ? ((size_t)(r / 16) * unpu_pad32(k) + i) * 16 + r % 16 :
				   (size_t)r * k + i;

	if (info->panel == 32)
		at = (size_t)(r / 32) * unpu_pad32(k) * 32 + i / each * each * 32 + r % 32 * each +
		     i % each;
	switch (layout) {
	case DRM_UNPU_LAYOUT_GGUF_F32:
	case DRM_UNPU_LAYOUT_F32_R16:
	case DRM_UNPU_LAYOUT_F32_R32:
		memcpy(quants + at * bytes, &v, sizeof(v));
		return v;
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_F16_R16:
	case DRM_UNPU_LAYOUT_F16_R32:
		put16(quants + at * bytes, unpu_float_f16(v));
		return unpu_f16_float(unpu_float_f16(v));
	}
	put16(quants + at * bytes, (uint16_t)(unpu_float_bits(v) >> 16));
	return unpu_bf16_float((uint16_t)(unpu_float_bits(v) >> 16));
}

static void float_row(uint32_t layout, uint32_t k, uint32_t r, uint8_t *quants, double *w)
{
	for (uint32_t i = 0; i < k; i++)
		w[i] = (double)put_float(layout, quants, k, r, i, check_uniform(-1, 1));
}

/* Offset-binary zero, in what padding remains. */
static void put_zeros(uint32_t layout, uint32_t rows, uint32_t k, uint8_t *quants)
{
	uint64_t bytes = unpu_layout_quant_bytes(layout, rows, k);
	int fill = layout == DRM_UNPU_LAYOUT_Q8_R16_K4U ? 0x80 : 0;

	memset(quants, fill, bytes);
}

static void pad_quants(uint32_t layout, uint32_t rows, uint32_t k, uint32_t r, uint8_t *quants)
{
	if (layout != DRM_UNPU_LAYOUT_Q4_R8_K4U && layout != DRM_UNPU_LAYOUT_Q4_R16_K4U &&
	    layout != DRM_UNPU_LAYOUT_Q4_R32)
		return;
	for (uint32_t i = r < rows ? k : 0; i < unpu_pad32(k); i++)
		put_quant(layout, quants, k, r, i, 0);
}

double *shader_weights(uint32_t layout, uint32_t rows, uint32_t k, uint32_t ffn, uint8_t *quants,
		       uint8_t *scales)
{
	uint32_t padded = unpu_layout_info(layout)->packed ? unpu_pad32(rows) : rows;
	double *w;

	if (unpu_layout_info(layout)->family > UNPU_FAMILY_Q)
		return shader_k_weights(layout, rows, k, ffn, quants, scales);
	w = calloc((size_t)unpu_pad32(rows) * unpu_pad32(k), sizeof(*w));
	put_zeros(layout, rows, k, quants);
	memset(scales, 0, unpu_layout_scale_bytes(layout, rows, k));
	for (uint32_t r = 0; r < padded; r++) {
		int real = r < rows && (!ffn || r / 64 * 32 + r % 32 < ffn);
		double *row = w + (size_t)r * unpu_pad32(k);

		pad_quants(layout, real ? rows : 0, k, r, quants);
		if (!real && layout == DRM_UNPU_LAYOUT_GGUF_Q4_0)
			for (uint32_t i = 0; i < k; i++)
				put_quant(layout, quants, k, r, i, 0);
		if (real && unpu_layout_info(layout)->quantised)
			quant_row(layout, k, r, quants, scales, row);
		else if (real)
			float_row(layout, k, r, quants, row);
	}
	return w;
}

double *shader_weights_exact(uint32_t layout, uint32_t rows, uint32_t k, uint32_t limit,
			     uint8_t *quants, uint8_t *scales)
{
	uint32_t blocks = unpu_pad32(k) / 32;
	double *w;

	if (unpu_layout_info(layout)->family > UNPU_FAMILY_Q)
		return shader_k_weights_exact(layout, rows, k, limit, quants, scales);
	w = calloc((size_t)rows * unpu_pad32(k), sizeof(*w));
	put_zeros(layout, rows, k, quants);
	memset(scales, 0, unpu_layout_scale_bytes(layout, rows, k));
	for (uint32_t r = 0; r < (unpu_layout_info(layout)->packed ? unpu_pad32(rows) : rows); r++)
		pad_quants(layout, rows, k, r, quants);
	for (uint32_t n = 0; n < rows * blocks; n++) {
		uint32_t r = n / blocks, b = n % blocks;
		float d = check_below(2) ? 0x1p-3f : 0x1p-4f;

		if (unpu_layout_info(layout)->quantised)
			put_scale(layout, quants, scales, k, r, b, unpu_float_f16(d));
		for (uint32_t i = b * 32; i < b * 32 + 32 && i < k; i++) {
			int q = (int)check_below(2 * limit + 1) - (int)limit;

			w[(size_t)r * blocks * 32 + i] = (double)((float)q * d);
			if (!unpu_layout_info(layout)->quantised) {
				put_float(layout, quants, k, r, i, (float)q * d);
				continue;
			}
			put_quant(layout, quants, k, r, i, q);
		}
	}
	return w;
}

uint32_t shader_whole(uint32_t layout, uint32_t k)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	if (info->group > 32)
		return (k + info->group - 1) / info->group * info->group;
	return info->quantised && !info->packed ? unpu_pad32(k) : k;
}

uint32_t shader_row_count(const struct check_level *level, int n)
{
	if (!level->device)
		return 1 + check_below(6);
	/* One, more than a tile of a device, and others. */
	return n == 0 ? 1 : n == 1 ? 9 + check_below(9) : 2 + check_below(7);
}

uint32_t shader_width(const struct check_level *level, int n, uint32_t most)
{
	static const uint32_t some[] = { 32, 64, 96, 160 };

	if (!level->device || n > 1)
		return 8 + check_below(most - 8);
	return n == 0 ? 576 : some[check_below(4)];
}

int shader_has_kv(const struct check_level *level, uint32_t kv_type)
{
	return !level->device || ondevice_kv(level->device, kv_type);
}

void shader_each_matrix(const struct check_level *level,
			void (*check)(const struct check_level *level, uint32_t layout,
				      uint32_t numeric))
{
	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++)
		for (uint32_t numeric = 0; numeric < 2; numeric++)
			if (level->device ? ondevice_matrix(level->device, layout, numeric) :
			    level->ops->mm[layout][numeric] != NULL)
				check(level, layout, numeric);
}

void check_shader(const struct check_level *level)
{
	static check_family_fn *const all[] = {
		check_shader_qkv, check_shader_attn, check_shader_attn_out, check_shader_ffn_in,
		check_shader_ffn_out, check_shader_head, check_shader_embed, check_shader_copy,
		check_shader_state, check_shader_exact,
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		all[i](level);
}
