/* SPDX-License-Identifier: MIT */
#include "runtime/device/kat.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/half.h"

#define SLOTS	2u
#define CELLS	192u
#define CHUNKS	(CELLS / UNPU_CHUNK)
#define MANY	8u	/* rows of the programs for several, */
#define LIVE	5u	/* and how many of them are live */
#define EPS	1e-5f
#define VOCAB	1000u	/* at most: not a multiple of 32 */
#define OUTPUTS	80u	/* of a matrix whose inputs are what matters */

/* Of one rounding of an f32, and of an f16. */
#define EPS32	0x1p-24
#define EPS16	0x1p-11

enum { DEVICE, CPU, RIGS };

struct kat {
	struct unpu_rig rigs[RIGS];
	struct drm_unpu_matrix matrix;
	struct unpu_device_shape shape;
	bool half;
	uint64_t random;
	char *why;
	size_t why_size;
};

/* Cells of the live rows: the first and last of a chunk are among them. */
static const uint32_t cells[LIVE] = { 130, 0, 63, 64, 31 };

struct test {
	struct kat *kat;
	const char *what;
	uint32_t kind, rows, live;
	const void *spec, *constants;
	struct unpu_shader_need need;
	uint8_t *data[UNPU_SHADER_MAX_BINDINGS];	/* before the dispatch */
	uint8_t *got[RIGS][UNPU_SHADER_MAX_BINDINGS];	/* after it */
	/* How far two right answers may be apart, an element; NULL: they are the same bits. */
	double *bound[UNPU_SHADER_MAX_BINDINGS];
	bool f16[UNPU_SHADER_MAX_BINDINGS];		/* its elements */
	uint32_t unjudged;				/* bindings that are judged elsewhere */
	/* The matrix as it is: m x padded k, and what it makes of the live rows. */
	uint32_t m, k;
	float *w;
	double *y, *e;		/* [live][m]: result, and its bound */
};

/* ---- made-up numbers ----------------------------------------------------------------------- */

static uint32_t rnd(struct kat *kat)
{
	kat->random = kat->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(kat->random >> 32);
}

static float uniform(struct kat *kat, float low, float high)
{
	return low + (high - low) * (float)(rnd(kat) >> 8) * 0x1p-24f;
}

static void fill(struct kat *kat, void *to, uint64_t count, float low, float high)
{
	float *x = to;
	uint64_t i;

	for (i = 0; i < count; i++)
		x[i] = uniform(kat, low, high);
}

/* Rows of n floats whose padding is 0. */
static void fill_rows(struct test *t, uint32_t binding, uint32_t rows, uint32_t n)
{
	float *x = (float *)t->data[binding];
	uint32_t i;

	for (i = 0; i < rows; i++)
		fill(t->kat, x + (size_t)i * unpu_pad32(n), n, -1, 1);
}

/* ---- a test -------------------------------------------------------------------------------- */

static int say(struct kat *kat, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int say(struct kat *kat, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(kat->why, kat->why_size, format, args);
	va_end(args);
	return err;
}

static int test_init(struct test *t, struct kat *kat, uint32_t kind, uint32_t rows,
		     const void *spec, const void *constants)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	uint32_t i;

	*t = (struct test){ .kat = kat, .kind = kind, .rows = rows, .live = rows > 1 ? LIVE : 1,
			    .spec = spec, .constants = constants, .what = info->name };
	if (unpu_shader_check_spec(kind, spec, info->spec_words) ||
	    unpu_shader_need(kind, spec, constants, info->const_bytes, &t->need))
		return say(kat, -EINVAL, "%s has no dispatch of this shape", info->name);
	for (i = 0; i < info->num_bindings; i++) {
		if (!t->need.bytes[i])
			continue;
		t->data[i] = calloc(1, t->need.bytes[i]);
		t->got[DEVICE][i] = malloc(t->need.bytes[i]);
		t->got[CPU][i] = malloc(t->need.bytes[i]);
		if (!t->data[i] || !t->got[DEVICE][i] || !t->got[CPU][i])
			return say(kat, -ENOMEM, "no memory for %s", info->name);
	}
	return 0;
}

static void test_finish(struct test *t)
{
	uint32_t i;

	for (i = 0; i < UNPU_SHADER_MAX_BINDINGS; i++) {
		free(t->data[i]);
		free(t->got[DEVICE][i]);
		free(t->got[CPU][i]);
		free(t->bound[i]);
	}
	free(t->w);
	free(t->y);
	free(t->e);
}

static int bound_alloc(struct test *t, uint32_t binding)
{
	uint64_t elements = t->need.bytes[binding] / (t->f16[binding] ? 2 : 4);

	t->bound[binding] = calloc(elements, sizeof(double));
	return t->bound[binding] ? 0 : say(t->kat, -ENOMEM, "no memory for %s", t->what);
}

static void set_rows(struct test *t, uint32_t flags)
{
	struct unpu_state_header *state = (void *)t->data[0];
	struct unpu_state_row *rows = (void *)(t->data[0] + unpu_state_rows_offset(SLOTS));
	uint32_t i;

	state->rows_live = t->live;
	for (i = 0; i < t->live; i++)
		rows[i] = (struct unpu_state_row){
			.token = (i * 37 + 11) % 97, .position = cells[i], .cell = cells[i],
			.slot = i % SLOTS, .flags = flags, .out = i,
		};
}

/* One buffer a binding, in the window: filled, run over and read back. */
static int run_on(struct test *t, uint32_t which)
{
	struct unpu_rig *rig = &t->kat->rigs[which];
	struct unpu_rig_dispatch d = { t->kind, t->spec, t->constants, { { 0 } } };
	struct unpu_rig_range buffers[UNPU_SHADER_MAX_BINDINGS] = { 0 };
	uint32_t i;
	int ret = 0;

	for (i = 0; i < UNPU_SHADER_MAX_BINDINGS && !ret; i++) {
		if (!t->data[i])
			continue;
		ret = unpu_rig_alloc(rig, t->need.bytes[i], DRM_UNPU_BO_MMAP, &buffers[i]);
		if (ret)
			break;
		memcpy(buffers[i].ptr, t->data[i], t->need.bytes[i]);
		d.bindings[i] = unpu_rig_part(&buffers[i], 0, t->need.bytes[i]);
	}
	ret = ret ? ret : unpu_rig_once(rig, &d);
	for (i = 0; i < UNPU_SHADER_MAX_BINDINGS; i++) {
		if (!ret && t->data[i])
			memcpy(t->got[which][i], buffers[i].ptr, t->need.bytes[i]);
		unpu_rig_free(rig, &buffers[i]);
	}
	if (ret)
		return say(t->kat, ret, "%s for %u row%s fails on %s: %s", t->what, t->rows,
			   t->rows == 1 ? "" : "s", rig->dev->id, strerror(-ret));
	return 0;
}

static double element(const struct test *t, uint32_t which, uint32_t binding, uint64_t i)
{
	const uint8_t *data = t->got[which][binding];
	uint16_t half;
	float f;

	if (t->f16[binding]) {
		memcpy(&half, data + 2 * i, sizeof(half));
		return unpu_f16_float(half);
	}
	memcpy(&f, data + 4 * i, sizeof(f));
	return f;
}

static int judge(struct test *t, uint32_t binding)
{
	uint32_t size = t->f16[binding] ? 2 : 4;
	const uint8_t *a = t->got[DEVICE][binding], *b = t->got[CPU][binding];
	uint64_t i;

	for (i = 0; i < t->need.bytes[binding] / size; i++) {
		double got = element(t, DEVICE, binding, i), want = element(t, CPU, binding, i);
		double bound = t->bound[binding] ? t->bound[binding][i] : 0;

		if (!memcmp(a + i * size, b + i * size, size))
			continue;
		if (!t->bound[binding] || !(fabs(got - want) <= bound))
			return say(t->kat, -EBADMSG, "%s for %u row%s: binding %u[%llu] is %.9g, "
				   "not %.9g", t->what, t->rows, t->rows == 1 ? "" : "s", binding,
				   (unsigned long long)i, got, want);
	}
	return 0;
}

/* Also what is only read, and what lies between the rows, must come out as it went in. */
static int test_run(struct test *t)
{
	uint32_t i;
	int ret = run_on(t, CPU);

	ret = ret ? ret : run_on(t, DEVICE);
	for (i = 0; i < UNPU_SHADER_MAX_BINDINGS && !ret; i++)
		if (t->data[i] && !(t->unjudged >> i & 1))
			ret = judge(t, i);
	return ret;
}

/* ---- weights ------------------------------------------------------------------------------- */

/* Where the weight of a row and k lies, as shaders/layout.h says. */
struct place {
	uint64_t byte;
	uint32_t shift;		/* of a quant of 4 bits */
	int bias;		/* what is written is that much more than the weight */
};

static struct place place_of(uint32_t layout, uint32_t k_padded, uint32_t row, uint32_t k)
{
	const struct unpu_layout_info *is = unpu_layout_info(layout);
	uint32_t panel = is->panel, r = row % panel, in = k % 32, bytes = is->bits / 8;
	struct place at = {
		((uint64_t)(row / panel) * (k_padded / 32) + k / 32) * panel * 4 * is->bits,
		is->bits == 4 ? in / 16 * 4 : 0, 0,
	};
	uint32_t j = is->bits == 4 ? in % 16 : in;

	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		at.byte += r * (is->bits == 4 ? 16 : 32) + j;
		break;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
	case DRM_UNPU_LAYOUT_Q4_R8_K4:
		at.byte += j / 4 * 4 * panel + 4 * r + j % 4;
		break;
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
	case DRM_UNPU_LAYOUT_Q4_R8_K4U:
	case DRM_UNPU_LAYOUT_Q4_R16_K4U:
		at.byte += j / 4 * 4 * panel + 4 * r + j % 4;
		at.bias = is->bits == 4 ? 8 : 128;
		break;
	case DRM_UNPU_LAYOUT_Q4_R32:
		at.byte += 16 * r + j;
		at.bias = 8;
		break;
	case DRM_UNPU_LAYOUT_F32_R32:
	case DRM_UNPU_LAYOUT_F16_R32:
	case DRM_UNPU_LAYOUT_Q8_R32:
		at.byte += j * bytes / 16 * 512 + 16 * r + j * bytes % 16;
		break;
	default:	/* floats in panels of 16 */
		at.byte += (j * panel + r) * bytes;
	}
	return at;
}

static float put_float(uint8_t *at, uint32_t layout, float value)
{
	uint32_t bits, size = unpu_layout_info(layout)->bits / 8;
	uint16_t half = unpu_float_f16(value);
	float kept = unpu_f16_float(half);

	memcpy(&bits, &value, sizeof(bits));
	if (layout == DRM_UNPU_LAYOUT_BF16_R16) {
		half = (uint16_t)(bits >> 16);
		kept = unpu_bf16_float(half);
	}
	if (size == 4)
		memcpy(at, &value, size);
	else
		memcpy(at, &half, size);
	return size == 4 ? value : kept;
}

static int put_quant(uint8_t *data, uint32_t bits, const struct place *at, int value)
{
	uint8_t *byte = data + at->byte, quant = (uint8_t)(value + at->bias);

	if (bits == 8)
		*byte = quant;
	else
		*byte = (uint8_t)((*byte & 0xf0 >> at->shift) | (quant & 0x0f) << at->shift);
	return value;
}

/* One weight of a quantised block; its scale is there already. */
static float put_weight(struct test *t, uint32_t binding, uint32_t row, uint32_t k, float scale,
			bool zero)
{
	uint32_t layout = t->kat->matrix.layout;
	const struct unpu_layout_info *is = unpu_layout_info(layout);
	const struct place at = place_of(layout, t->k, row, k);
	int span = is->bits == 4 ? 16 : 255, low = is->bits == 4 ? -8 : -127;
	float most = 1 / sqrtf((float)t->k);

	if (!is->quantised)
		return put_float(t->data[binding] + at.byte, layout,
				 zero ? 0 : uniform(t->kat, -most, most));
	return (float)put_quant(t->data[binding], is->bits, &at, zero ? 0 :
				low + (int)(rnd(t->kat) % (uint32_t)span)) * scale;
}

static void put_block(struct test *t, uint32_t binding, uint32_t row, uint32_t block,
		      uint32_t live_k)
{
	const struct unpu_layout_info *is = unpu_layout_info(t->kat->matrix.layout);
	float most = 1 / sqrtf((float)t->k) / (is->bits == 4 ? 8 : 127), scale = 0;
	uint64_t at = ((uint64_t)(row / is->panel) * (t->k / 32) + block) * is->panel +
		      row % is->panel;
	uint16_t half;
	uint32_t k;

	if (is->scales) {
		half = unpu_float_f16(uniform(t->kat, most / 2, most));
		scale = unpu_f16_float(half);
		memcpy(t->data[binding + 1] + 2 * at, &half, sizeof(half));
	}
	for (k = block * 32; k < block * 32 + 32; k++)
		t->w[(size_t)row * t->k + k] = put_weight(t, binding, row, k, scale, k >= live_k);
}

/* gated: how many outputs there are, whose rows of gate and up take turns by 32; else 0. */
static int matrix_fill(struct test *t, uint32_t binding, uint32_t rows, uint32_t k, uint32_t gated)
{
	uint32_t row, block, out;

	t->m = unpu_pad32(rows);
	t->k = unpu_pad32(k);
	t->w = calloc((size_t)t->m * t->k, sizeof(*t->w));
	t->y = calloc((size_t)t->live * t->m, sizeof(*t->y));
	t->e = calloc((size_t)t->live * t->m, sizeof(*t->e));
	if (!t->w || !t->y || !t->e)
		return say(t->kat, -ENOMEM, "no memory for %s", t->what);
	for (row = 0; row < t->m; row++) {
		out = gated ? row / 64 * 32 + row % 32 : row;
		for (block = 0; block < t->k / 32; block++)
			put_block(t, binding, row, block,
				  out < (gated ? gated : rows) ? k : 0);
	}
	return 0;
}

/* ---- what comes out, in double ------------------------------------------------------------- */

/* In class a8 what the int8 of x stand for; returns the largest step of one of them. */
static double quantize(const struct test *t, double *x)
{
	double step, most = 0;
	uint32_t i, j;

	if (t->kat->matrix.numeric != DRM_UNPU_CLASS_A8)
		return 0;
	for (i = 0; i < t->k; i += 32) {
		step = 0;
		for (j = i; j < i + 32; j++)
			step = fmax(step, fabs(x[j]) / 127);
		for (j = i; j < i + 32; j++)
			x[j] = step > 0 ? rint(x[j] / step) * step : 0;
		most = fmax(most, step);
	}
	return most;
}

/*
 * y = W x of one row and its bound. Sums of k products in any order are within k roundings of
 * their absolute sum, twice for two of them; an error bound of half of that is never met, since the
 * longest chain of additions of either is a fraction of k. computed: x comes from sums that the two
 * round otherwise, so that its int8 may differ where it is near a tie, in two places at most.
 */
static void multiply(struct test *t, uint32_t row, const double *in, bool computed)
{
	double rel = (t->k / 2.0 + 64) * EPS32 + (t->kat->half ? 2 * EPS16 : 0);
	double step, flips, *x = malloc(t->k * sizeof(*x));
	uint32_t r, k;

	if (!x)
		return;	/* bounds of 0 fail */
	memcpy(x, in, t->k * sizeof(*x));
	step = quantize(t, x);
	for (r = 0; r < t->m; r++) {
		const float *w = t->w + (size_t)r * t->k;
		double sum = 0, absolute = 0, largest = 0;

		for (k = 0; k < t->k; k++) {
			sum += w[k] * x[k];
			absolute += fabs(w[k] * x[k]);
			largest = fmax(largest, fabs(w[k]));
		}
		flips = computed ? 2 * step * largest : 0;
		t->y[(size_t)row * t->m + r] = sum;
		t->e[(size_t)row * t->m + r] = rel * absolute + flips;
	}
	free(x);
}

/* The norm of a row of floats, as the operand. */
static int multiply_norm(struct test *t, uint32_t x_binding, uint32_t params, uint32_t n,
			 uint32_t norm)
{
	const float *weight = (float *)t->data[params], *bias = weight + t->k;
	double mean, sum, *x = calloc(t->k, sizeof(*x));
	uint32_t row, i;

	if (!x)
		return say(t->kat, -ENOMEM, "no memory for %s", t->what);
	for (row = 0; row < t->live; row++) {
		const float *in = (float *)t->data[x_binding] + (size_t)row * t->k;

		mean = sum = 0;
		for (i = 0; i < n && norm == UNPU_NORM_LAYER; i++)
			mean += in[i] / (double)n;
		for (i = 0; i < n; i++)
			sum += (in[i] - mean) * (in[i] - mean);
		for (i = 0; i < n; i++)
			x[i] = (in[i] - mean) / sqrt(sum / n + EPS) * weight[i] +
			       (norm == UNPU_NORM_LAYER ? bias[i] : 0);
		multiply(t, row, x, true);
	}
	free(x);
	return 0;
}

/* ---- the shaders --------------------------------------------------------------------------- */

static int test_embed(struct kat *kat, uint32_t rows)
{
	const struct unpu_embed_spec spec = { rows, SLOTS, kat->shape.vocab, kat->shape.hidden,
					      kat->matrix.layout, 0 };
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_EMBED, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_EMBED_QUANTS, spec.vocab, spec.hidden, 0);
	if (!ret) {
		set_rows(&t, 0);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

/* The bound of one head's element, after it turned with its other half; *most: of its value. */
static double turned(const struct test *t, const struct unpu_qkv_spec *s, uint32_t row,
		     uint32_t unit, uint32_t i, double *most)
{
	const double *y = t->y + (size_t)row * t->m + unit * s->head_dim;
	const double *e = t->e + (size_t)row * t->m + unit * s->head_dim;
	uint32_t half = s->rope_dims / 2, other = i < half ? i + half : i - half;

	*most = fabs(y[i]) + e[i];
	if (unit >= s->heads + s->kv_heads || i >= s->rope_dims)
		return e[i] + 4 * EPS32 * *most;
	*most += fabs(y[other]) + e[other];
	return e[i] + e[other] + 8 * EPS32 * *most;
}

static void bound_qkv(struct test *t, const struct unpu_qkv_spec *s)
{
	uint32_t row, unit, i, units = s->heads + 2 * s->kv_heads;
	size_t cell, q;
	double e, most;

	for (row = 0; row < t->live; row++)
		for (unit = 0; unit < units; unit++)
			for (i = 0; i < s->head_dim; i++) {
				e = turned(t, s, row, unit, i, &most);
				q = (size_t)row * s->heads + unit;
				cell = ((size_t)(unit - s->heads) * SLOTS + row % SLOTS) * CELLS +
				       cells[row];
				if (unit < s->heads)
					t->bound[UNPU_QKV_Q][q * s->head_dim + i] = e;
				else	/* two f16 may lie on either side of it */
					t->bound[UNPU_QKV_KV][cell * s->head_dim + i] =
						!t->f16[UNPU_QKV_KV] ? e :
						e + 2 * EPS16 * most + EPS32;
			}
}

static void fill_rope(struct test *t, const struct unpu_qkv_spec *s)
{
	float *table = (float *)t->data[UNPU_QKV_ROPE];
	uint32_t p, i;

	for (p = 0; p < s->positions; p++)
		for (i = 0; i < s->rope_dims / 2; i++) {
			double angle = p * pow(10000, -2.0 * i / s->rope_dims);

			*table++ = (float)cos(angle);
			*table++ = (float)sin(angle);
		}
}

static int test_qkv(struct kat *kat, uint32_t rows, uint32_t kv_type)
{
	const struct unpu_device_shape *shape = &kat->shape;
	const struct unpu_qkv_spec spec = {
		rows, SLOTS, CELLS, shape->hidden, shape->heads, shape->kv_heads, shape->head_dim,
		kat->matrix.layout, kat->matrix.numeric, kv_type, UNPU_NORM_RMS, 0, EPS,
		UNPU_ROPE_HALVES, shape->head_dim, CELLS,
	};
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_QKV, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_QKV_QUANTS, unpu_qkv_rows(&spec), spec.hidden, 0);
	t.f16[UNPU_QKV_KV] = kv_type == DRM_UNPU_KV_F16;
	ret = ret ? ret : bound_alloc(&t, UNPU_QKV_Q);
	ret = ret ? ret : bound_alloc(&t, UNPU_QKV_KV);
	if (!ret) {
		set_rows(&t, 0);
		fill_rows(&t, UNPU_QKV_X, t.live, spec.hidden);
		fill(kat, t.data[UNPU_QKV_PARAMS], spec.hidden, 0.5f, 1.5f);
		fill_rope(&t, &spec);
		ret = multiply_norm(&t, UNPU_QKV_X, UNPU_QKV_PARAMS, spec.hidden, UNPU_NORM_RMS);
	}
	if (!ret) {
		bound_qkv(&t, &spec);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

static double kv_value(const struct test *t, uint64_t i)
{
	uint16_t half;
	float f;

	if (t->f16[UNPU_ATTN_KV]) {
		memcpy(&half, t->data[UNPU_ATTN_KV] + 2 * i, sizeof(half));
		return unpu_f16_float(half);
	}
	memcpy(&f, t->data[UNPU_ATTN_KV] + 4 * i, sizeof(f));
	return f;
}

/*
 * A score is within e of its own, so the maximum is, and each weight exp(score - maximum) within
 * 2 e of itself; exp() of a GPU is within 3 + 2 |x| units in the last place (Vulkan, precision of
 * SPIR-V instructions), which is least where the weight is most.
 */
static void bound_chunk(struct test *t, const struct unpu_attn_spec *s, uint32_t row,
			uint32_t head, uint32_t chunk)
{
	uint32_t group = s->heads / s->kv_heads, d = s->head_dim, n, i, j;
	const float *q = (float *)t->data[UNPU_ATTN_Q] + ((size_t)row * s->heads + head) * d;
	size_t k = ((head / group * SLOTS + row % SLOTS) * (size_t)CELLS + chunk * UNPU_CHUNK) * d;
	size_t v = (size_t)s->kv_heads * SLOTS * CELLS * d + k;
	size_t at = ((size_t)row * CHUNKS + chunk) * s->heads + head;
	double *bound = t->bound[UNPU_ATTN_PARTIALS], *ms = bound + (size_t)s->rows * CHUNKS *
			s->heads * d + 2 * at;
	double score[UNPU_CHUNK], most = -INFINITY, e = 0, rel, sum = 0;

	n = cells[row] - chunk * UNPU_CHUNK + 1;
	n = n < UNPU_CHUNK ? n : UNPU_CHUNK;
	for (j = 0; j < n; j++) {
		double dot = 0, absolute = 0;

		for (i = 0; i < d; i++) {
			dot += q[i] * kv_value(t, k + (size_t)j * d + i);
			absolute += fabs(q[i] * kv_value(t, k + (size_t)j * d + i));
		}
		score[j] = dot * s->scale;
		most = fmax(most, score[j]);
		e = fmax(e, (d / 2.0 + 16) * EPS32 * absolute * s->scale);
	}
	e += t->kat->half ? 2 * EPS16 : 0;
	rel = 2 * e + 160 * EPS32;
	for (j = 0; j < n; j++) {
		score[j] = exp(score[j] - most);
		sum += score[j];
	}
	ms[0] = e;
	ms[1] = rel * sum;
	for (i = 0; i < d; i++) {
		double absolute = 0;

		for (j = 0; j < n; j++)
			absolute += score[j] * fabs(kv_value(t, v + (size_t)j * d + i));
		bound[at * d + i] = (rel + (t->kat->half ? 2 * EPS16 : 0)) * absolute;
	}
}

static void fill_kv(struct test *t, uint64_t bytes)
{
	uint64_t i, count = bytes / (t->f16[UNPU_ATTN_KV] ? 2 : 4);
	uint16_t half;

	if (!t->f16[UNPU_ATTN_KV]) {
		fill(t->kat, t->data[UNPU_ATTN_KV], count, -1, 1);
		return;
	}
	for (i = 0; i < count; i++) {
		half = unpu_float_f16(uniform(t->kat, -1, 1));
		memcpy(t->data[UNPU_ATTN_KV] + 2 * i, &half, sizeof(half));
	}
}

static int test_attn(struct kat *kat, uint32_t rows, uint32_t kv_type)
{
	const struct unpu_device_shape *shape = &kat->shape;
	const struct unpu_attn_spec spec = {
		rows, SLOTS, CELLS, shape->heads, shape->kv_heads, shape->head_dim, kv_type,
		1 / sqrtf((float)shape->head_dim),
	};
	const struct unpu_attn_const constants = { CHUNKS };
	uint32_t row, head, chunk;
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_ATTN, rows, &spec, &constants);

	t.f16[UNPU_ATTN_KV] = kv_type == DRM_UNPU_KV_F16;
	ret = ret ? ret : bound_alloc(&t, UNPU_ATTN_PARTIALS);
	if (!ret) {
		set_rows(&t, 0);
		fill(kat, t.data[UNPU_ATTN_Q], t.need.bytes[UNPU_ATTN_Q] / 4, -2, 2);
		fill_kv(&t, t.need.bytes[UNPU_ATTN_KV]);
		for (row = 0; row < t.live; row++)
			for (head = 0; head < spec.heads; head++)
				for (chunk = 0; chunk <= cells[row] / UNPU_CHUNK; chunk++)
					bound_chunk(&t, &spec, row, head, chunk);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

/* One head of a row, merged as a reader of the partials does it. */
static void merge(const struct test *t, const struct unpu_attn_out_spec *s, uint32_t row,
		  uint32_t head, double *out)
{
	const float *o = (float *)t->data[UNPU_ATTN_OUT_PARTIALS];
	const float *ms = o + (size_t)s->rows * CHUNKS * s->heads * s->head_dim;
	uint32_t c, i, n = cells[row] / UNPU_CHUNK + 1;
	double most = -INFINITY, sum = 0;
	size_t at;

	memset(out, 0, s->head_dim * sizeof(*out));
	for (c = 0; c < n; c++)
		most = fmax(most, ms[2 * (((size_t)row * CHUNKS + c) * s->heads + head)]);
	for (c = 0; c < n; c++) {
		at = ((size_t)row * CHUNKS + c) * s->heads + head;
		sum += exp(ms[2 * at] - most) * ms[2 * at + 1];
		for (i = 0; i < s->head_dim; i++)
			out[i] += exp(ms[2 * at] - most) * o[at * s->head_dim + i];
	}
	for (i = 0; i < s->head_dim; i++)
		out[i] /= sum;
}

/* x += y. */
static void bound_add(struct test *t, uint32_t binding, uint32_t hidden)
{
	const float *x = (float *)t->data[binding];
	uint32_t row, i;

	for (row = 0; row < t->live; row++)
		for (i = 0; i < hidden; i++) {
			size_t at = (size_t)row * unpu_pad32(hidden) + i;
			size_t from = (size_t)row * t->m + i;

			t->bound[binding][at] = t->e[from] +
				4 * EPS32 * (fabs(x[at]) + fabs(t->y[from]));
		}
}

static int multiply_merged(struct test *t, const struct unpu_attn_out_spec *s)
{
	double *x = calloc(t->k, sizeof(*x));
	uint32_t row, head;

	if (!x)
		return say(t->kat, -ENOMEM, "no memory for %s", t->what);
	for (row = 0; row < t->live; row++) {
		for (head = 0; head < s->heads; head++)
			merge(t, s, row, head, x + head * s->head_dim);
		multiply(t, row, x, true);
	}
	free(x);
	return 0;
}

static int test_attn_out(struct kat *kat, uint32_t rows)
{
	const struct unpu_attn_out_spec spec = {
		rows, SLOTS, CELLS, OUTPUTS, kat->shape.heads, kat->shape.head_dim,
		kat->matrix.layout, kat->matrix.numeric, 0,
	};
	uint32_t k = spec.heads * spec.head_dim;
	struct test t;
	size_t i, outputs;
	float *ms;
	int ret = test_init(&t, kat, UNPU_SHADER_ATTN_OUT, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_ATTN_OUT_QUANTS, spec.hidden, k, 0);
	ret = ret ? ret : bound_alloc(&t, UNPU_ATTN_OUT_X);
	if (!ret) {
		set_rows(&t, 0);
		fill_rows(&t, UNPU_ATTN_OUT_X, t.live, spec.hidden);
		outputs = (size_t)rows * CHUNKS * k;
		fill(kat, t.data[UNPU_ATTN_OUT_PARTIALS], outputs, -4, 4);
		ms = (float *)t.data[UNPU_ATTN_OUT_PARTIALS] + outputs;
		for (i = 0; i < (size_t)rows * CHUNKS * spec.heads; i++) {
			ms[2 * i] = uniform(kat, -2, 2);
			ms[2 * i + 1] = uniform(kat, 1, 32);
		}
		ret = multiply_merged(&t, &spec);
	}
	if (!ret) {
		bound_add(&t, UNPU_ATTN_OUT_X, spec.hidden);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

/* h = act(g) u: |silu'| and |gelu'| are below 1.2. */
static void bound_ffn_in(struct test *t, const struct unpu_ffn_in_spec *s)
{
	uint32_t row, i, gated = s->flags & UNPU_FLAG_GATED;

	for (row = 0; row < t->live; row++)
		for (i = 0; i < s->ffn; i++) {
			size_t g = (size_t)row * t->m + (gated ? i / 32 * 64 + i % 32 : i);
			size_t u = g + 32;
			double e = 1.2 * t->e[g] + 64 * EPS32 * fabs(t->y[g]);

			if (gated)
				e = e * (fabs(t->y[u]) + t->e[u]) + t->e[u] * fabs(t->y[g]) +
				    64 * EPS32 * fabs(t->y[g] * t->y[u]);
			t->bound[UNPU_FFN_IN_H][(size_t)row * unpu_pad32(s->ffn) + i] = e;
		}
}

static int test_ffn_in(struct kat *kat, uint32_t rows, uint32_t flags, uint32_t norm, uint32_t act)
{
	const struct unpu_ffn_in_spec spec = {
		rows, SLOTS, kat->shape.hidden, OUTPUTS, kat->matrix.layout, kat->matrix.numeric,
		norm, flags, act, EPS,
	};
	uint32_t gated = flags & UNPU_FLAG_GATED;
	uint32_t m = gated ? 2 * unpu_pad32(spec.ffn) : spec.ffn;
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_FFN_IN, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_FFN_IN_QUANTS, m, spec.hidden,
				      gated ? spec.ffn : 0);
	ret = ret ? ret : bound_alloc(&t, UNPU_FFN_IN_H);
	if (!ret) {
		set_rows(&t, 0);
		fill_rows(&t, UNPU_FFN_IN_X, t.live, spec.hidden);
		fill(kat, t.data[UNPU_FFN_IN_PARAMS], spec.hidden, 0.5f, 1.5f);
		if (flags & UNPU_FLAG_NORM_BIAS)
			fill(kat, t.data[UNPU_FFN_IN_PARAMS] + 4 * unpu_pad32(spec.hidden),
			     spec.hidden, -0.5f, 0.5f);
		ret = multiply_norm(&t, UNPU_FFN_IN_X, UNPU_FFN_IN_PARAMS, spec.hidden, norm);
	}
	if (!ret) {
		bound_ffn_in(&t, &spec);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

static int multiply_rows(struct test *t, uint32_t binding)
{
	double *x = calloc(t->k, sizeof(*x));
	uint32_t row, i;

	if (!x)
		return say(t->kat, -ENOMEM, "no memory for %s", t->what);
	for (row = 0; row < t->live; row++) {
		for (i = 0; i < t->k; i++)
			x[i] = ((float *)t->data[binding])[(size_t)row * t->k + i];
		multiply(t, row, x, false);
	}
	free(x);
	return 0;
}

static int test_ffn_out(struct kat *kat, uint32_t rows)
{
	const struct unpu_ffn_out_spec spec = {
		rows, SLOTS, OUTPUTS, kat->shape.ffn, kat->matrix.layout, kat->matrix.numeric, 0,
	};
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_FFN_OUT, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_FFN_OUT_QUANTS, spec.hidden, spec.ffn, 0);
	ret = ret ? ret : bound_alloc(&t, UNPU_FFN_OUT_X);
	if (!ret) {
		set_rows(&t, 0);
		fill_rows(&t, UNPU_FFN_OUT_X, t.live, spec.hidden);
		fill_rows(&t, UNPU_FFN_OUT_H, t.live, spec.ffn);
		ret = multiply_rows(&t, UNPU_FFN_OUT_H);
	}
	if (!ret) {
		bound_add(&t, UNPU_FFN_OUT_X, spec.hidden);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

struct maximum {
	float max;
	uint32_t id;
};

/* Of each 32 logits the largest, the first of equals. */
static void find_maxima(const float *logits, uint32_t rows, uint32_t vocab, struct maximum *maxima)
{
	uint32_t groups = unpu_pad32(vocab) / 32, row, i;

	for (row = 0; row < rows; row++)
		for (i = 0; i < vocab; i++) {
			struct maximum *m = &maxima[(size_t)row * groups + i / 32];
			float x = logits[(size_t)row * vocab + i];

			if (i % 32 == 0 || x > m->max)
				*m = (struct maximum){ x, i };
		}
}

/* The device's maxima are those of its own logits, to the bit. */
static int judge_maxima(struct test *t, const struct unpu_head_spec *s)
{
	size_t bytes = (size_t)t->live * (unpu_pad32(s->vocab) / 32) * sizeof(struct maximum);
	struct maximum *want = calloc(1, bytes);
	int ret = 0;

	if (!want)
		return say(t->kat, -ENOMEM, "no memory for %s", t->what);
	find_maxima((float *)t->got[DEVICE][UNPU_HEAD_LOGITS], t->live, s->vocab, want);
	if (memcmp(want, t->got[DEVICE][UNPU_HEAD_MAXIMA], bytes))
		ret = say(t->kat, -EBADMSG, "%s for %u row%s: the maxima are not those of the "
			  "logits", t->what, t->rows, t->rows == 1 ? "" : "s");
	free(want);
	return ret;
}

static int test_head(struct kat *kat, uint32_t rows)
{
	const struct unpu_head_spec spec = {
		rows, SLOTS, kat->shape.hidden, kat->shape.vocab, kat->matrix.layout,
		kat->matrix.numeric, UNPU_NORM_RMS, 0, EPS, rows,
	};
	uint32_t row, i;
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_HEAD, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_HEAD_QUANTS, spec.vocab, spec.hidden, 0);
	ret = ret ? ret : bound_alloc(&t, UNPU_HEAD_LOGITS);
	t.unjudged = 1u << UNPU_HEAD_MAXIMA;
	if (!ret) {
		set_rows(&t, UNPU_ROW_LOGITS);
		fill_rows(&t, UNPU_HEAD_X, t.live, spec.hidden);
		fill(kat, t.data[UNPU_HEAD_PARAMS], spec.hidden, 0.5f, 1.5f);
		ret = multiply_norm(&t, UNPU_HEAD_X, UNPU_HEAD_PARAMS, spec.hidden, UNPU_NORM_RMS);
	}
	if (!ret) {
		for (row = 0; row < t.live; row++)
			for (i = 0; i < spec.vocab; i++)
				t.bound[UNPU_HEAD_LOGITS][(size_t)row * spec.vocab + i] =
					t.e[(size_t)row * t.m + i];
		ret = test_run(&t);
	}
	ret = ret ? ret : judge_maxima(&t, &spec);
	test_finish(&t);
	return ret;
}

/* Slot 0 takes the likeliest token, slot 1 draws one, both with penalties. */
static void set_samplers(struct test *t)
{
	struct unpu_state_sampler *s = (void *)(t->data[0] + unpu_state_samplers_offset());
	uint32_t i;

	for (i = 0; i < SLOTS; i++) {
		s[i] = (struct unpu_state_sampler){
			.temperature = i ? 0.8f : 0, .top_k = i ? 40 : 0, .top_p = i ? 0.95f : 1,
			.min_p = i ? 0.05f : 0, .repeat_penalty = 1.25f, .repeat_last_n = 16,
			.seed = { 7, 11 }, .num_eog = 1, .num_bias = 1,
		};
		s[i].eog[0] = 1;
		s[i].bias[0] = (struct unpu_state_bias){ 3, -1 };
	}
}

static int test_sample(struct kat *kat, uint32_t rows)
{
	const struct unpu_sample_spec spec = {
		rows, SLOTS, CELLS, kat->shape.vocab, kat->shape.hidden, rows,
		kat->matrix.layout, 0,
	};
	uint32_t *history, i;
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_SAMPLE, rows, &spec, NULL);

	ret = ret ? ret : matrix_fill(&t, UNPU_SAMPLE_QUANTS, spec.vocab, spec.hidden, 0);
	if (!ret) {
		set_rows(&t, UNPU_ROW_SAMPLE);
		set_samplers(&t);
		fill(kat, t.data[UNPU_SAMPLE_LOGITS], (uint64_t)rows * spec.vocab, -8, 8);
		find_maxima((float *)t.data[UNPU_SAMPLE_LOGITS], rows, spec.vocab,
			    (struct maximum *)t.data[UNPU_SAMPLE_MAXIMA]);
		history = (uint32_t *)t.data[UNPU_SAMPLE_HISTORY];
		for (i = 0; i < SLOTS * CELLS; i++)
			history[i] = rnd(kat) % spec.vocab;
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

static int test_copy(struct kat *kat)
{
	const struct unpu_copy_const constants = { 3 * 65536 + 1236, 0 };
	const uint32_t no_spec[1] = { 0 };
	struct test t;
	int ret = test_init(&t, kat, UNPU_SHADER_COPY, 1, no_spec, &constants);
	uint32_t i;

	if (!ret) {
		for (i = 0; i < constants.bytes_lo / 4; i++)
			((uint32_t *)t.data[UNPU_COPY_SRC])[i] = rnd(kat);
		ret = test_run(&t);
	}
	test_finish(&t);
	return ret;
}

/* ---- all of them --------------------------------------------------------------------------- */

/* The model's sums are as long as they are; of its outputs a part is enough. */
static void cut_shape(struct unpu_device_shape *shape)
{
	uint32_t group = shape->heads / shape->kv_heads;

	shape->kv_heads = shape->kv_heads < 2 ? shape->kv_heads : 2;
	shape->heads = group * shape->kv_heads;
	shape->vocab = shape->vocab < VOCAB ? shape->vocab : VOCAB;
}

static int test_matrices(struct kat *kat, uint32_t rows)
{
	int ret = test_qkv(kat, rows, DRM_UNPU_KV_F16);

	ret = ret ? ret : test_attn_out(kat, rows);
	ret = ret ? ret : test_ffn_in(kat, rows, UNPU_FLAG_GATED, UNPU_NORM_RMS, UNPU_ACT_SILU);
	ret = ret ? ret : test_ffn_out(kat, rows);
	return ret ? ret : test_head(kat, rows);
}

static int test_others(struct kat *kat, uint32_t rows)
{
	int ret = test_embed(kat, rows);

	ret = ret ? ret : test_qkv(kat, rows, DRM_UNPU_KV_F32);
	ret = ret ? ret : test_ffn_in(kat, rows, UNPU_FLAG_NORM_BIAS, UNPU_NORM_LAYER,
				      UNPU_ACT_GELU);
	ret = ret ? ret : test_attn(kat, rows, DRM_UNPU_KV_F16);
	ret = ret ? ret : test_attn(kat, rows, DRM_UNPU_KV_F32);
	return ret ? ret : test_sample(kat, rows);
}

static int test_all(struct kat *kat, const struct unpu_kat_params *params)
{
	static const uint32_t rows[] = { 1, MANY };
	uint32_t i;
	int ret = params->matrices ? 0 : test_copy(kat);

	for (i = 0; i < 2 && !ret; i++) {
		ret = test_matrices(kat, rows[i]);
		if (!ret && !params->matrices)
			ret = test_others(kat, rows[i]);
	}
	return ret;
}

int unpu_kat_run(struct unpu_device *dev, struct unpu_device *cpu,
		 const struct unpu_kat_params *params, char *why, size_t size)
{
	struct kat kat = { .shape = *params->shape, .half = params->half, .random = 4,
			   .why = why, .why_size = size };
	int ret;

	cut_shape(&kat.shape);
	ret = unpu_rig_init(&kat.rigs[DEVICE], dev);
	if (ret)
		return say(&kat, ret, "%s does not start: %s", dev->id, strerror(-ret));
	ret = unpu_rig_init(&kat.rigs[CPU], cpu);
	if (ret)
		ret = say(&kat, ret, "the cpu does not start: %s", strerror(-ret));
	else if (unpu_rig_matrix(&kat.rigs[DEVICE].info, params->shape, true, &kat.matrix))
		ret = say(&kat, -ENOTSUP, "%s has no layout for such weights", dev->id);
	else
		ret = test_all(&kat, params);
	unpu_rig_finish(&kat.rigs[CPU]);
	unpu_rig_finish(&kat.rigs[DEVICE]);
	return ret;
}
