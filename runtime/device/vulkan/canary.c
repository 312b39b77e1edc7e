/* SPDX-License-Identifier: MIT */
/*
 * The canary: a small ffn_in whose answer is known, behind every submit. It takes the way of the
 * program's largest matrix: the same module, layout and class, weights of the same memory. The
 * first answer is compared with the twin's, within a bound; every later one with the first, bit
 * for bit: the same device computes the same from the same.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/cpu/twin.h"
#include "runtime/device/vulkan/engine.h"
#include "runtime/half.h"

#define HIDDEN	256u		/* 8 blocks: all of a work-group of 256 has something to do */
#define FFN	64u
#define ROWS	(2 * FFN)	/* of the matrix: gate and up */

/* ---- what it multiplies ---------------------------------------------------------------------- */

/* Numerical Recipes' generator: any will do, as long as it is the same everywhere. */
static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static float between(uint32_t *seed, float low, float high)
{
	return low + (high - low) * (float)next(seed) * 0x1p-24f;
}

static void fill_floats(uint32_t *seed, void *to, uint32_t n, float low, float high)
{
	float *f = to;

	while (n--)
		*f++ = between(seed, low, high);
}

static void fill_halves(uint32_t *seed, void *to, uint64_t n, float low, float high)
{
	uint16_t *h = to;

	while (n--)
		*h++ = unpu_float_f16(between(seed, low, high));
}

/* Sums of 256 products about 1: where the activation bends. */
static void fill_weights(uint32_t *seed, uint32_t layout, uint8_t *quants, uint64_t num_quants,
			 uint8_t *scales, uint64_t num_scales)
{
	float d = layout == DRM_UNPU_LAYOUT_Q4_R32 ? 0.02f : 0.0012f;

	switch (layout) {
	case DRM_UNPU_LAYOUT_F32_R32:
		fill_floats(seed, quants, (uint32_t)(num_quants / 4), -0.1f, 0.1f);
		return;
	case DRM_UNPU_LAYOUT_F16_R32:
		fill_halves(seed, quants, num_quants / 2, -0.1f, 0.1f);
		return;
	}
	for (uint64_t i = 0; i < num_quants; i++)
		quants[i] = (uint8_t)(next(seed) >> 8);
	fill_halves(seed, scales, num_scales / 2, -d, d);
}

static uint8_t *at(const struct unpu_vk_canary *c, uint32_t binding)
{
	return c->buffer.ptr + c->offsets[binding];
}

static int fill(struct unpu_vk *vk, struct unpu_vk_canary *c)
{
	struct unpu_shader_need need;
	struct unpu_state_header *state;
	uint64_t bytes = 0;
	uint32_t seed = 0x756e7075;
	int err;

	err = unpu_shader_need(UNPU_SHADER_FFN_IN, (const void *)&c->spec, NULL, 0, &need);
	if (err)
		return err;
	for (uint32_t b = 0; b < UNPU_FFN_IN_BINDINGS; b++) {
		c->offsets[b] = bytes;
		c->sizes[b] = need.bytes[b];
		bytes += (need.bytes[b] + 255) & ~255ull;
	}
	err = unpu_vk_buffer_create(vk, UNPU_VK_WINDOW, bytes, &c->buffer);
	if (err)
		return err;
	state = (void *)at(c, UNPU_FFN_IN_STATE);
	state->rows_live = 1;
	fill_floats(&seed, at(c, UNPU_FFN_IN_X), HIDDEN, -1, 1);
	fill_floats(&seed, at(c, UNPU_FFN_IN_PARAMS), HIDDEN, 0.5f, 1.5f);
	fill_weights(&seed, c->spec.layout, at(c, UNPU_FFN_IN_QUANTS),
		     c->sizes[UNPU_FFN_IN_QUANTS], at(c, UNPU_FFN_IN_SCALES),
		     c->sizes[UNPU_FFN_IN_SCALES]);
	return 0;
}

/* ---- what comes out -------------------------------------------------------------------------- */

/* The twin, in plain C, on this thread. */
static int expect(const struct unpu_vk_canary *c, float h[FFN])
{
	const struct unpu_twin *twin = unpu_twin_get(UNPU_SHADER_FFN_IN);
	struct unpu_view view = { .live = 1 };
	void *bindings[UNPU_FFN_IN_BINDINGS];
	struct unpu_twin_need need = { 0 };
	struct unpu_cpu_ops *ops;
	uint8_t *scratch;

	twin->need(&c->spec, 1, &need);
	need.shared = unpu_align64(need.shared);
	scratch = aligned_alloc(64, need.shared + unpu_align64(need.local) + 64);
	ops = malloc(sizeof(*ops));
	for (uint32_t b = 0; b < UNPU_FFN_IN_BINDINGS; b++)
		bindings[b] = at(c, b);
	bindings[UNPU_FFN_IN_H] = h;
	if (scratch && ops) {
		const struct unpu_twin_args args = {
			.ops = ops, .view = &view, .spec = &c->spec, .bindings = bindings,
			.shared = scratch, .local = scratch + need.shared, .threads = 1,
		};

		unpu_cpu_ops_init(ops, UNPU_CPU_MASK_C);
		twin->run(&args);
	}
	free(ops);
	free(scratch);
	return scratch && ops ? 0 : -ENOMEM;
}

/*
 * How far a right answer may be from the twin's, by the largest of it. f32: other orders of the
 * same sums, and the driver's exp; f16: products of 11 bits; a8: an activation between two steps
 * may be rounded to either, 1 in 127. A wrong answer is off by about 1.
 */
static float bound(const struct unpu_vk_canary *c, uint32_t math)
{
	return math == UNPU_VK_F16 || c->spec.numeric == DRM_UNPU_CLASS_A8 ? 3e-2f : 1e-3f;
}

static bool agrees(const float *answer, const float *expected, float bound)
{
	float largest = 0, worst = 0;

	for (uint32_t i = 0; i < FFN; i++) {
		float error = fabsf(answer[i] - expected[i]);

		if (!(error < INFINITY))
			return false;
		worst = fmaxf(worst, error);
		largest = fmaxf(largest, fabsf(expected[i]));
	}
	return worst <= bound * largest;
}

void unpu_vk_canary_clear(struct unpu_vk_canary *c)
{
	memset(at(c, UNPU_FFN_IN_H), 0xff, c->sizes[UNPU_FFN_IN_H]);
}

int unpu_vk_canary_check(const struct unpu_vk_engine *e, const struct unpu_vk_canary *c)
{
	if (!memcmp(at(c, UNPU_FFN_IN_H), c->answer, FFN * sizeof(float)))
		return 0;
	return unpu_fail(&e->vk.log, -EIO, "vulkan: %s computes wrong numbers: a known answer did "
			 "not come", e->vk.caps.info.name);
}

/* What a faulty memory does; a test asks for it. Finite numbers, just not the right ones. */
void unpu_vk_canary_spoil(struct unpu_vk_canary *c)
{
	memset(at(c, UNPU_FFN_IN_QUANTS), 0x3c, c->sizes[UNPU_FFN_IN_QUANTS]);
}

/* ---- birth and death ------------------------------------------------------------------------- */

static void canary_destroy(struct unpu_vk_engine *e, struct unpu_vk_canary *c)
{
	struct unpu_vk *vk = &e->vk;

	if (!atomic_load(&vk->lost)) {
		vk->fn.DestroyCommandPool(vk->device, c->pool, NULL);
		vk->fn.DestroyDescriptorPool(vk->device, c->descriptors, NULL);
	}
	unpu_vk_pipeline_put(&e->shaders, c->call.pipeline);
	unpu_vk_buffer_destroy(vk, &c->buffer);
	free(c->answer);
	free(c);
}

static int record(struct unpu_vk_engine *e, struct unpu_vk_canary *c)
{
	VkDescriptorBufferInfo infos[UNPU_FFN_IN_BINDINGS];
	struct unpu_vk *vk = &e->vk;
	int err;

	for (uint32_t b = 0; b < UNPU_FFN_IN_BINDINGS; b++)
		infos[b] = (VkDescriptorBufferInfo){ c->buffer.handle, c->offsets[b],
						     c->sizes[b] ? c->sizes[b] : 256 };
	/* Where nothing is read, of what lies first. */
	if (!c->sizes[UNPU_FFN_IN_SCALES])
		infos[UNPU_FFN_IN_SCALES].offset = 0;
	c->call.groups[0] = c->call.push[1] = FFN / 32;
	c->call.groups[1] = c->call.groups[2] = 1;
	err = unpu_vk_pipeline_get(vk, &e->shaders, &e->tuning, UNPU_SHADER_FFN_IN,
				   (const void *)&c->spec, false, &c->call.pipeline);
	if (!err)
		err = unpu_vk_descriptor_pool(vk, 1, UNPU_FFN_IN_BINDINGS, &c->descriptors);
	if (!err)
		err = unpu_vk_write_set(vk, c->descriptors, e->shaders.sets[UNPU_SHADER_FFN_IN],
					infos, UNPU_FFN_IN_BINDINGS, &c->call.set);
	if (!err)
		err = unpu_vk_command_pool(vk, &c->pool);
	if (!err)
		err = unpu_vk_record(vk, c->pool, &e->shaders, &c->call, 1, 1, &c->commands);
	return err;
}

/* The first answer, on a fence of its own: a job may be running. */
static int ask(struct unpu_vk_engine *e, struct unpu_vk_canary *c)
{
	VkFence fence;
	int err = unpu_vk_fence(&e->vk, &fence);

	if (err)
		return err;
	unpu_vk_canary_clear(c);
	err = unpu_vk_submit(e, fence, &c->commands, 1, 0, NULL, NULL);
	if (!atomic_load(&e->vk.lost))
		e->vk.fn.DestroyFence(e->vk.device, fence, NULL);
	return err;
}

static int verify(struct unpu_vk_engine *e, struct unpu_vk_canary *c)
{
	const struct unpu_layout_info *layout = unpu_layout_info(c->spec.layout);
	float expected[FFN];
	int err = ask(e, c);

	c->answer = malloc(sizeof(expected));
	if (!err && (!c->answer || expect(c, expected)))
		err = unpu_fail(&e->vk.log, -ENOMEM, "vulkan: no memory for a canary");
	if (err)
		return err;
	memcpy(c->answer, at(c, UNPU_FFN_IN_H), sizeof(expected));
	if (agrees(c->answer, expected, bound(c, unpu_vk_modules[c->call.pipeline->module].math)))
		return 0;
	return unpu_fail(&e->vk.log, -EIO, "vulkan: %s computes wrong numbers with weights of "
			 "layout %s", e->vk.caps.info.name, layout->name);
}

int unpu_vk_canary_get(struct unpu_vk_engine *e, uint32_t layout, uint32_t numeric,
		       struct unpu_vk_canary **canary)
{
	struct unpu_vk_canary *c;
	int err;

	for (c = e->canaries; c; c = c->next) {
		if (c->spec.layout == layout && c->spec.numeric == numeric) {
			*canary = c;
			return 0;
		}
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return unpu_fail(&e->vk.log, -ENOMEM, "vulkan: no memory for a canary");
	c->spec = (struct unpu_ffn_in_spec){
		.rows = 1, .slots = 1, .hidden = HIDDEN, .ffn = FFN, .layout = layout,
		.numeric = numeric, .norm = UNPU_NORM_RMS, .flags = UNPU_FLAG_GATED,
		.act = UNPU_ACT_SILU, .eps = 1e-5f,
	};
	err = fill(&e->vk, c);
	if (!err)
		err = record(e, c);
	if (!err)
		err = verify(e, c);
	if (err) {
		canary_destroy(e, c);
		return err;
	}
	c->next = e->canaries;
	e->canaries = c;
	*canary = c;
	return 0;
}

void unpu_vk_canaries_finish(struct unpu_vk_engine *e)
{
	struct unpu_vk_canary *c;

	while ((c = e->canaries)) {
		e->canaries = c->next;
		canary_destroy(e, c);
	}
}
