/* SPDX-License-Identifier: MIT */
/*
 * Programs and jobs of any kind. unpu_check says of each struct what the table of errors in
 * unpu_accel.h says, which is written down here once more; and a device takes a program only when
 * all that it names is there and large enough, and then runs it, whatever is in its buffers.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/device.h"
#include "shaders/shaders.h"
#include "tests/lib/fuzz.h"
#include "uapi/unpu_check.h"

/* A number that is near a bound more often than not. */
static uint64_t any(struct fuzz_input *in, uint64_t bound)
{
	switch (fuzz_u8(in) & 7) {
	case 0:
		return fuzz_u64(in);
	case 1:
		return fuzz_u32(in);
	case 2:
		return bound - fuzz_u8(in) % 3;
	case 3:
		return bound + fuzz_u8(in);
	case 4:
		return UINT64_MAX - fuzz_u8(in);
	case 5:
		return (uint64_t)fuzz_u8(in) << fuzz_u8(in) % 57;
	default:
		return bound ? fuzz_u16(in) % bound : 0;
	}
}

/* ---- the rules, once more --------------------------------------------------------------- */

/* [at, at + size) within [0, bytes), in numbers that cannot wrap. */
static bool inside(uint64_t at, uint64_t size, uint64_t bytes)
{
	uint64_t end;

	return !__builtin_add_overflow(at, size, &end) && end <= bytes;
}

static bool good_array(const struct drm_unpu_array *a, uint32_t least, uint64_t min, uint64_t max)
{
	return a->stride >= least && a->stride <= 4096 && a->count >= min && a->count <= max &&
	       (a->ptr || !a->count);
}

static bool good_program(const struct drm_unpu_program_create *p,
			 const struct drm_unpu_dev_info *l)
{
	uint64_t most = l->max_dispatches;

	return good_array(&p->buffers, 24, 1, l->max_buffers) &&
	       good_array(&p->dispatches, 32, 1, most) &&
	       good_array(&p->bindings, 4, 1, most * l->max_bindings) &&
	       p->const_bytes % 4 == 0 && p->const_bytes <= most * l->max_const_bytes &&
	       (p->constants || !p->const_bytes) && p->flags <= DRM_UNPU_PROGRAM_STOP &&
	       (p->flags || (!p->stop_buffer && !p->stop_offset));
}

static bool good_buffer(const struct drm_unpu_buffer *b, uint64_t bo_bytes,
			const struct drm_unpu_dev_info *l)
{
	return b->flags >= 1 && b->flags <= 3 && b->offset % l->binding_align == 0 && b->size &&
	       b->size <= l->max_binding_bytes && inside(b->offset, b->size, bo_bytes);
}

static bool good_dispatch(const struct drm_unpu_dispatch *d,
			  const struct drm_unpu_program_create *p,
			  const struct drm_unpu_dev_info *l)
{
	return d->num_bindings && d->num_bindings <= l->max_bindings &&
	       inside(d->first_binding, d->num_bindings, p->bindings.count) &&
	       d->const_offset % 4 == 0 && d->const_bytes % 4 == 0 &&
	       d->const_bytes <= l->max_const_bytes &&
	       inside(d->const_offset, d->const_bytes, p->const_bytes) &&
	       d->grid[0] && d->grid[1] && d->grid[2];
}

static bool good_stop(const struct drm_unpu_program_create *p, const struct drm_unpu_buffer *b,
		      uint32_t bo_flags)
{
	return p->stop_offset % 4 == 0 && inside(p->stop_offset, 4, b->size) &&
	       b->flags & DRM_UNPU_ACCESS_READ && bo_flags & DRM_UNPU_BO_MMAP;
}

/* ---- structs of any kind ---------------------------------------------------------------- */

static void make_limits(struct drm_unpu_dev_info *l, struct fuzz_input *in)
{
	*l = (struct drm_unpu_dev_info){
		.max_bo_bytes = any(in, 1 << 20),
		.max_binding_bytes = any(in, 1 << 20),
		.binding_align = 1u << fuzz_u8(in) % 32,
		.max_dispatches = (uint32_t)any(in, 64) | 1,
		.max_bindings = (uint32_t)any(in, 8) | 1,
		.max_buffers = (uint32_t)any(in, 64) | 1,
		.max_spec_words = (uint32_t)any(in, 24) | 1,
		.max_const_bytes = (uint32_t)any(in, 128),
		.max_programs = (uint32_t)any(in, 8) | 1,
		.max_repeat = (uint32_t)any(in, 64) | 1,
		.max_job_dispatches = (uint32_t)any(in, 64) | 1,
		.max_syncs = (uint32_t)any(in, 8),
		.max_timeout_ns = any(in, 1000),
	};
}

static void make_array(struct drm_unpu_array *a, struct fuzz_input *in, uint32_t stride,
		       uint64_t max)
{
	a->stride = (uint32_t)any(in, stride);
	a->count = (uint32_t)any(in, max);
	a->ptr = fuzz_u8(in) ? 4096 : 0;
}

static void check_programs(struct fuzz_input *in, const struct drm_unpu_dev_info *l)
{
	struct drm_unpu_program_create p = { 0 };
	struct drm_unpu_dispatch d;
	struct drm_unpu_buffer b;
	struct drm_unpu_binding binding;
	uint64_t bo_bytes = any(in, 4096);
	uint32_t bo_flags;

	make_array(&p.buffers, in, 24, l->max_buffers);
	make_array(&p.dispatches, in, 32, l->max_dispatches);
	make_array(&p.bindings, in, 4, (uint64_t)l->max_dispatches * l->max_bindings);
	p.const_bytes = (uint32_t)any(in, (uint64_t)l->max_dispatches * l->max_const_bytes);
	p.constants = fuzz_u8(in);
	p.flags = (uint32_t)any(in, 2);
	p.stop_buffer = (uint32_t)any(in, p.buffers.count);
	b = (struct drm_unpu_buffer){ fuzz_u8(in), (uint32_t)any(in, 4), any(in, bo_bytes),
				      any(in, l->max_binding_bytes) };
	p.stop_offset = (uint32_t)any(in, b.size);
	d = (struct drm_unpu_dispatch){
		1, (uint32_t)any(in, p.bindings.count), (uint32_t)any(in, l->max_bindings),
		(uint32_t)any(in, p.const_bytes), (uint32_t)any(in, l->max_const_bytes),
		{ fuzz_u8(in), fuzz_u8(in), fuzz_u32(in) },
	};
	binding.buffer = (uint32_t)any(in, p.buffers.count);
	bo_flags = fuzz_u8(in);
	FUZZ_CHECK(!unpu_check_program(&p, l) == good_program(&p, l));
	FUZZ_CHECK(!unpu_check_buffer(&b, bo_bytes, l) == good_buffer(&b, bo_bytes, l));
	FUZZ_CHECK(!unpu_check_dispatch(&d, &p, l) == good_dispatch(&d, &p, l));
	FUZZ_CHECK(!unpu_check_binding(&binding, &p) == (binding.buffer < p.buffers.count));
	FUZZ_CHECK(!unpu_check_stop(&p, &b, bo_flags) == good_stop(&p, &b, bo_flags));
}

/* No sum of a job's dispatches wraps: it only grows until it is refused. */
static void check_runs(struct fuzz_input *in, const struct drm_unpu_dev_info *l)
{
	uint64_t want = 0, got = 0, add;
	struct drm_unpu_run run;
	uint32_t i, dispatches;
	__u64 total = 0;
	int err = 0;

	for (i = 0; i < 8 && !err; i++) {
		run = (struct drm_unpu_run){ 1, (uint32_t)any(in, l->max_repeat) };
		dispatches = (uint32_t)any(in, l->max_dispatches);
		err = unpu_check_run(&run, dispatches, &total, l);
		got = total;
		add = (uint64_t)run.repeat * dispatches;
		if (!run.repeat || run.repeat > l->max_repeat) {
			FUZZ_CHECK(err == -EINVAL);
			return;
		}
		FUZZ_CHECK(!__builtin_add_overflow(want, add, &want) && want == got);
		FUZZ_CHECK(!err == (want <= l->max_job_dispatches));
	}
}

static void check_jobs(struct fuzz_input *in, const struct drm_unpu_dev_info *l)
{
	struct drm_unpu_submit s = { 1, (uint32_t)any(in, 1), { 0 }, { 0 }, 0, 0, 0 };
	struct drm_unpu_sync syncs[6];
	bool good = true;
	uint32_t i, j;

	make_array(&s.runs, in, 8, l->max_programs);
	make_array(&s.syncs, in, 16, l->max_syncs);
	s.pad = fuzz_u8(in) > 200;
	FUZZ_CHECK(!unpu_check_submit(&s, l) ==
		   (!s.flags && !s.pad && good_array(&s.runs, 8, 1, l->max_programs) &&
		    (!s.syncs.count || good_array(&s.syncs, 16, 0, l->max_syncs))));
	for (i = 0; i < 6; i++) {
		syncs[i] = (struct drm_unpu_sync){ fuzz_u8(in) & 3, fuzz_u8(in) % 5,
						   fuzz_u8(in) & 3 };
		good = good && (syncs[i].flags == 1 || syncs[i].flags == 2);
		for (j = 0; j < i; j++)
			good = good && !(syncs[i].flags == 2 && syncs[j].flags == 2 &&
					 syncs[i].handle == syncs[j].handle &&
					 syncs[i].point == syncs[j].point);
	}
	FUZZ_CHECK(!unpu_check_syncs(syncs, 6) == good);
}

static void check_others(struct fuzz_input *in, const struct drm_unpu_dev_info *l)
{
	struct drm_unpu_shader_create s = { { 0 }, 0, 0, 0 };
	struct drm_unpu_bo_create bo = { any(in, l->max_bo_bytes), (uint32_t)any(in, 2), 0 };
	struct drm_unpu_ctx_create ctx = { (uint32_t)any(in, 3), fuzz_u8(in) >> 7,
					   any(in, l->max_timeout_ns), 0, fuzz_u8(in) >> 7 };
	uint32_t i, end = 0, rest = 0;

	for (i = 0; i < sizeof(s.name); i++)
		s.name[i] = fuzz_u8(in);
	s.spec_words = (uint32_t)any(in, l->max_spec_words);
	s.spec = fuzz_u8(in);
	while (end < sizeof(s.name) && s.name[end])
		end++;
	for (i = end; i < sizeof(s.name); i++)
		rest |= s.name[i];
	FUZZ_CHECK(!unpu_check_shader_create(&s, l) ==
		   (end && end < sizeof(s.name) && !rest && s.spec_words <= l->max_spec_words &&
		    (s.spec || !s.spec_words)));
	FUZZ_CHECK(!unpu_check_bo_create(&bo, l) ==
		   (bo.size && bo.size <= l->max_bo_bytes && bo.flags <= DRM_UNPU_BO_MMAP));
	FUZZ_CHECK(!unpu_check_ctx_create(&ctx, l) ==
		   (ctx.priority <= DRM_UNPU_PRIORITY_HIGH && !ctx.flags && !ctx.pad &&
		    ctx.timeout_ns <= l->max_timeout_ns));
}

/* ---- programs on a device --------------------------------------------------------------- */

#define NUM_BOS		4
#define NUM_BUFFERS	6
#define MAX_DISPATCHES	3
#define MAX_BINDINGS	(MAX_DISPATCHES * UNPU_SHADER_MAX_BINDINGS)

static struct unpu_device *dev;
static const uint64_t bo_bytes[NUM_BOS] = { 1 << 16, 1 << 18, 1 << 18, 4096 };
static uint32_t bos[NUM_BOS], shaders[8], shader_kinds[8];
static uint8_t *states;		/* of the first of them */

/* Small ones, so that all of their bindings find room; of a kind and its numbers of rows. */
static void make_shader(uint32_t i, uint32_t kind, const void *spec)
{
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct drm_unpu_shader_create args = { { 0 }, (uintptr_t)spec, info->spec_words, 0 };

	memcpy(args.name, info->name, strlen(info->name));
	FUZZ_CHECK(!dev->ops->shader_create(dev, &args));
	shaders[i] = args.shader_id;
	shader_kinds[i] = kind;
}

static const struct unpu_embed_spec embed = { 2, 1, 40, 32, DRM_UNPU_LAYOUT_GGUF_F16, 8 };
static const struct unpu_qkv_spec qkv = {
	2, 1, 64, 32, 2, 1, 16, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, DRM_UNPU_KV_F16,
	UNPU_NORM_RMS, 0, 1e-5f, UNPU_ROPE_HALVES, 16, 8 };
static const struct unpu_attn_spec attn = { 2, 1, 64, 2, 1, 16, DRM_UNPU_KV_INT8, 0.25f };
static const struct unpu_attn_out_spec attn_out = {
	2, 1, 64, 32, 2, 16, DRM_UNPU_LAYOUT_Q8_R8_K16, DRM_UNPU_CLASS_F32, UNPU_FLAG_BIAS };
static const struct unpu_ffn_in_spec ffn_in = {
	2, 1, 32, 40, DRM_UNPU_LAYOUT_F32_R16, DRM_UNPU_CLASS_F32, UNPU_NORM_LAYER,
	UNPU_FLAG_NORM_BIAS | UNPU_FLAG_GATED, UNPU_ACT_GELU, 1e-5f };
static const struct unpu_head_spec head = {
	2, 1, 32, 40, DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_CLASS_F32, UNPU_NORM_RMS, 0, 1e-5f, 2 };
static const struct unpu_sample_spec sample = { 2, 1, 64, 40, 32, 2, DRM_UNPU_LAYOUT_GGUF_F16, 8 };

static void *map(uint32_t handle)
{
	void *ptr;

	FUZZ_CHECK(!dev->ops->bo_map(dev, handle, &ptr));
	return ptr;
}

static void make_device(void)
{
	static const void *const specs[8] = {
		&embed, &qkv, &attn, &attn_out, &ffn_in, &head, &sample, NULL };
	static const uint32_t kinds[8] = {
		UNPU_SHADER_EMBED, UNPU_SHADER_QKV, UNPU_SHADER_ATTN, UNPU_SHADER_ATTN_OUT,
		UNPU_SHADER_FFN_IN, UNPU_SHADER_HEAD, UNPU_SHADER_SAMPLE, UNPU_SHADER_COPY };
	const struct unpu_device_params params = { .threads = 1, .cpu_mask = "c" };
	_Alignas(4096) static uint8_t imported[4096];
	struct drm_unpu_bo_create bo;
	uint32_t i;

	FUZZ_CHECK(!unpu_device_open("cpu", &params, &dev));
	for (i = 0; i + 1 < NUM_BOS; i++) {
		bo = (struct drm_unpu_bo_create){ bo_bytes[i], i == 1 ? 0 : DRM_UNPU_BO_MMAP, 0 };
		FUZZ_CHECK(!dev->ops->bo_create(dev, &bo) && bo.size == bo_bytes[i]);
		bos[i] = bo.handle;
	}
	FUZZ_CHECK(!dev->ops->bo_import(dev, imported, sizeof(imported), 0, &bos[i]));
	states = map(bos[0]);
	for (i = 0; i < 8; i++)
		make_shader(i, kinds[i], specs[i]);
}

/* A program that is whole, and the arrays that it points to. */
struct flat {
	struct drm_unpu_program_create args;
	struct drm_unpu_buffer buffers[NUM_BUFFERS];
	struct drm_unpu_dispatch dispatches[MAX_DISPATCHES];
	struct drm_unpu_binding bindings[MAX_BINDINGS];
	uint32_t constants[2 * MAX_DISPATCHES];
};

static const void *spec_of(uint32_t shader)
{
	static const void *const specs[8] = {
		&embed, &qkv, &attn, &attn_out, &ffn_in, &head, &sample, NULL };

	return specs[shader];
}

static void add_dispatch(struct flat *f, struct fuzz_input *in, uint32_t i)
{
	uint32_t which = fuzz_u8(in) % 8, kind = shader_kinds[which], b;
	struct drm_unpu_dispatch *d = &f->dispatches[i];
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_shader_need need;

	f->constants[2 * i] = kind == UNPU_SHADER_COPY ? 4u * (1 + fuzz_u8(in)) : 1;
	d->shader_id = shaders[which];
	d->first_binding = f->args.bindings.count;
	d->num_bindings = info->num_bindings;
	d->const_offset = 8 * i;
	d->const_bytes = info->const_bytes;
	FUZZ_CHECK(!unpu_shader_need(kind, spec_of(which), &f->constants[2 * i],
				     info->const_bytes, &need));
	memcpy(d->grid, need.grid, sizeof(d->grid));
	for (b = 0; b < info->num_bindings; b++)
		f->bindings[d->first_binding + b].buffer = b == 0 ? 0 : 1 + b % (NUM_BUFFERS - 1);
	f->args.bindings.count += info->num_bindings;
}

static void make_flat(struct flat *f, struct fuzz_input *in)
{
	uint32_t n = 1 + fuzz_u8(in) % MAX_DISPATCHES, i;

	memset(f, 0, sizeof(*f));
	for (i = 0; i < NUM_BUFFERS; i++) {
		/* The state first, all others beside it. */
		f->buffers[i] = (struct drm_unpu_buffer){
			bos[i ? 1 + i % 2 : 0], 3, i ? (uint64_t)(i / 2) << 16 : 0, 1 << 16 };
	}
	for (i = 0; i < n; i++)
		add_dispatch(f, in, i);
	f->args.buffers = (struct drm_unpu_array){ 24, NUM_BUFFERS, (uintptr_t)f->buffers };
	f->args.dispatches = (struct drm_unpu_array){ 32, n, (uintptr_t)f->dispatches };
	f->args.bindings.stride = 4;
	f->args.bindings.ptr = (uintptr_t)f->bindings;
	f->args.constants = (uintptr_t)f->constants;
	f->args.const_bytes = 8 * n;
	if (fuzz_u8(in) & 1) {
		f->args.flags = DRM_UNPU_PROGRAM_STOP;
		f->args.stop_offset = offsetof(struct unpu_state_header, stop);
	}
}

/* Words of the tables and of the call, the counts and addresses apart: they say what is read. */
static void change_flat(struct flat *f, struct fuzz_input *in)
{
	uint32_t changes = fuzz_u8(in) % 4, value, at;
	uint32_t *const fields[] = {
		&f->args.const_bytes, &f->args.flags, &f->args.stop_buffer, &f->args.stop_offset,
	};

	for (; changes; changes--) {
		at = fuzz_u8(in);
		value = fuzz_u8(in) & 1 ? fuzz_u8(in) : (uint32_t)any(in, 1 << 16);
		if (at < 64)
			((uint32_t *)f->buffers)[at % (sizeof(f->buffers) / 4)] = value;
		else if (at < 160)
			((uint32_t *)f->dispatches)[at % (sizeof(f->dispatches) / 4)] = value;
		else if (at < 200)
			f->bindings[at % MAX_BINDINGS].buffer = value;
		else if (at < 220)
			f->constants[at % (2 * MAX_DISPATCHES)] = value;
		else
			*fields[at % 4] = value;
	}
	if (f->args.const_bytes > sizeof(f->constants))
		f->args.const_bytes = sizeof(f->constants);
}

static int number_of(const uint32_t *ids, uint32_t n, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (ids[i] == id)
			return (int)i;
	return -1;
}

/* What a program that was taken names. */
static void check_taken_dispatch(const struct flat *f, const struct drm_unpu_dispatch *d)
{
	int which = number_of(shaders, 8, d->shader_id);
	const struct unpu_shader_info *info;
	struct unpu_shader_need need;
	uint32_t b;

	FUZZ_CHECK(which >= 0);
	info = unpu_shader_info(shader_kinds[which]);
	FUZZ_CHECK(d->num_bindings == info->num_bindings && d->const_bytes == info->const_bytes);
	FUZZ_CHECK(inside(d->const_offset, d->const_bytes, f->args.const_bytes));
	FUZZ_CHECK(!unpu_shader_need(shader_kinds[which], spec_of((uint32_t)which),
				     &f->constants[d->const_offset / 4], info->const_bytes,
				     &need));
	FUZZ_CHECK(!memcmp(need.grid, d->grid, sizeof(d->grid)));
	for (b = 0; b < info->num_bindings; b++) {
		const struct drm_unpu_buffer *buffer;
		uint32_t index = f->bindings[d->first_binding + b].buffer;
		int bo;

		FUZZ_CHECK(index < NUM_BUFFERS);
		buffer = &f->buffers[index];
		bo = number_of(bos, NUM_BOS, buffer->handle);
		FUZZ_CHECK(bo >= 0 && inside(buffer->offset, buffer->size, bo_bytes[bo]));
		FUZZ_CHECK(buffer->size >= need.bytes[b] && buffer->offset % 32 == 0);
		if (need.bytes[b] && info->write_mask >> b & 1)
			FUZZ_CHECK(bo != 3 && buffer->flags & DRM_UNPU_ACCESS_WRITE);
		else if (need.bytes[b])
			FUZZ_CHECK(buffer->flags & DRM_UNPU_ACCESS_READ);
	}
}

static void check_taken(const struct flat *f)
{
	uint32_t i;

	for (i = 0; i < f->args.dispatches.count; i++)
		check_taken_dispatch(f, &f->dispatches[i]);
	for (i = 0; i < f->args.bindings.count; i++)
		FUZZ_CHECK(f->bindings[i].buffer < NUM_BUFFERS);
	if (f->args.flags)
		FUZZ_CHECK(f->args.stop_buffer < NUM_BUFFERS && f->args.stop_offset % 4 == 0 &&
			   f->args.stop_offset < f->buffers[f->args.stop_buffer].size);
}

/* Twice, in a context of its own; nothing that is in a buffer makes it fail. */
static void run_taken(struct fuzz_input *in, uint32_t program)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_run run = { program, 2 };
	struct drm_unpu_sync sync = { 0, DRM_UNPU_SYNC_SIGNAL, 0 };
	struct drm_unpu_submit submit = {
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	struct drm_unpu_ctx_query query = { 0 };
	struct drm_unpu_ctx_destroy destroy = { 0 };

	memset(states, 0, 4096);
	memcpy(states, in->at, in->left < 4096 ? in->left : 4096);
	FUZZ_CHECK(!dev->ops->ctx_create(dev, &ctx));
	FUZZ_CHECK(!dev->ops->syncobj_create(dev, &sync.handle));
	submit.ctx_id = ctx.ctx_id;
	FUZZ_CHECK(!dev->ops->submit(dev, &submit) && submit.seqno == 1);
	FUZZ_CHECK(!dev->ops->syncobj_wait(dev, sync.handle, 0, UINT64_MAX));
	query.ctx_id = ctx.ctx_id;
	FUZZ_CHECK(!dev->ops->ctx_query(dev, &query));
	FUZZ_CHECK(query.state == DRM_UNPU_CTX_OK && query.completed_seqno == 1);
	destroy.ctx_id = ctx.ctx_id;
	FUZZ_CHECK(!dev->ops->ctx_destroy(dev, &destroy));
	FUZZ_CHECK(!dev->ops->syncobj_destroy(dev, sync.handle));
}

static void check_device(struct fuzz_input *in)
{
	struct drm_unpu_program_destroy destroy = { 0 };
	struct flat f;
	int err;

	if (!dev)
		make_device();
	make_flat(&f, in);
	change_flat(&f, in);
	err = dev->ops->program_create(dev, &f.args);
	if (err) {
		FUZZ_CHECK(err == -EINVAL || err == -ENOENT || err == -EFAULT || err == -E2BIG);
		FUZZ_CHECK(f.args.error_index == UINT32_MAX ||
			   f.args.error_index < f.args.dispatches.count);
		return;
	}
	check_taken(&f);
	run_taken(in, f.args.program_id);
	destroy.program_id = f.args.program_id;
	FUZZ_CHECK(!dev->ops->program_destroy(dev, &destroy));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct drm_unpu_dev_info limits;

	switch (fuzz_u8(&in) % 3) {
	case 0:
		make_limits(&limits, &in);
		check_programs(&in, &limits);
		break;
	case 1:
		make_limits(&limits, &in);
		check_runs(&in, &limits);
		check_jobs(&in, &limits);
		check_others(&in, &limits);
		break;
	default:
		check_device(&in);
	}
	return 0;
}
