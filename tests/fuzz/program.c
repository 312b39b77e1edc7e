/* SPDX-License-Identifier: MIT */
/*
 * Programs of any shaders over ranges of two imported buffers, as unpu-vdev makes them of what a
 * guest says: one that the cpu takes names ranges that are there and large enough, and its runs
 * touch nothing else, whatever words are in them: all other memory of the buffers is poisoned, and
 * what no dispatch may write stays as it was.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include <sanitizer/asan_interface.h>

#include "runtime/device/device.h"
#include "shaders/shaders.h"
#include "tests/lib/fuzz.h"
#include "uapi/unpu_check.h"

#define NUM_DEVICES	3
#define NUM_BOS		2		/* the second is not written */
#define BO_BYTES	(48u << 10)
#define MAX_DISPATCHES	4u
#define MAX_BUFFERS	16u
#define MAX_BINDINGS	(MAX_DISPATCHES * UNPU_SHADER_MAX_BINDINGS)
#define MAX_STRIDE	64u
#define SPEC_WORDS	UNPU_SHADER_MAX_SPEC_WORDS

static struct machine {
	struct unpu_device *dev;
	uint32_t bos[NUM_BOS], sync;
} machines[NUM_DEVICES];
static uint8_t *memory[NUM_BOS], before[NUM_BOS][BO_BYTES];
static bool may_write[NUM_BOS][BO_BYTES];

/* What the call is given; tables lie a stride apart. */
struct draft {
	struct drm_unpu_program_create args;
	uint32_t kinds[MAX_DISPATCHES], shaders[MAX_DISPATCHES];
	uint32_t specs[MAX_DISPATCHES][SPEC_WORDS];
	uint32_t constants[2 * MAX_DISPATCHES];
	struct drm_unpu_buffer buffers[MAX_BUFFERS];
	struct drm_unpu_dispatch dispatches[MAX_DISPATCHES];
	struct drm_unpu_binding bindings[MAX_BINDINGS];
	uint32_t num_buffers, num_dispatches, num_bindings;
	_Alignas(8) uint8_t tables[3][MAX_BINDINGS * MAX_STRIDE];
};

/* ---- devices --------------------------------------------------------------------------------- */

/* A guard behind each: what has no sanitizer of its own, as a masked load, is seen there. */
static uint8_t *guarded(void)
{
	uint8_t *at = mmap(NULL, BO_BYTES + 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(at != MAP_FAILED && !mprotect(at, BO_BYTES, PROT_READ | PROT_WRITE));
	return at;
}

static struct machine *machine_of(uint32_t n)
{
	static const char *const masks[NUM_DEVICES] = { "c", "avx2", NULL };
	struct machine *m = &machines[n % NUM_DEVICES];
	const struct unpu_device_params params = { .threads = 1 + n / NUM_DEVICES % 2,
						   .cpu_mask = masks[n % NUM_DEVICES] };
	uint32_t i;

	if (m->dev)
		return m;
	FUZZ_CHECK(!unpu_cpu_device_open(&params, &m->dev));
	for (i = 0; i < NUM_BOS; i++) {
		if (!memory[i])
			memory[i] = guarded();
		FUZZ_CHECK(!m->dev->ops->bo_import(m->dev, memory[i], BO_BYTES, !i, &m->bos[i]));
	}
	FUZZ_CHECK(!m->dev->ops->syncobj_create(m->dev, &m->sync));
	return m;
}

/* ---- shaders of small numbers ---------------------------------------------------------------- */

static uint32_t below(struct fuzz_input *in, uint32_t n)
{
	uint32_t byte = fuzz_u8(in);

	return byte == 0xff ? fuzz_u32(in) : byte % n;
}

/* The numbers that most shaders share; some of them odd, few of them wrong. */
struct numbers {
	uint32_t rows, slots, cells, hidden, ffn, vocab, heads, kv_heads, dim;
	uint32_t layout, numeric, kv, norm, flags, act, positions, rope, turn, logits;
};

static struct numbers make_numbers(struct fuzz_input *in)
{
	struct numbers n = {
		.rows = 1 + below(in, 4), .slots = 1 + below(in, 3),
		.cells = 64 + 64 * below(in, 2),
		.hidden = 8 + below(in, 57), .ffn = 8 + below(in, 57), .vocab = 1 + below(in, 90),
		.kv_heads = 1 + below(in, 2), .dim = 8 + 8 * below(in, 4),
		.layout = below(in, DRM_UNPU_LAYOUT_COUNT), .numeric = below(in, 2),
		.kv = below(in, 3), .norm = below(in, 2), .flags = below(in, 16),
		.act = below(in, 3), .positions = below(in, 40), .rope = below(in, 3),
		.logits = 1 + below(in, 3),
	};

	n.heads = n.kv_heads * (1 + below(in, 3));
	if (n.rope && !n.positions)
		n.positions = 1;
	n.turn = n.rope ? 2 + 2 * below(in, n.dim / 2 ? n.dim / 2 : 1) : 0;
	return n;
}

/* Most often what a layout takes, where groups of blocks share their scales. */
static uint32_t whole(uint32_t layout, uint32_t k)
{
	if (layout < DRM_UNPU_LAYOUT_Q4K_R8_K16 || layout > DRM_UNPU_LAYOUT_Q6K_R16_K4)
		return k;
	return k % 8 == 7 ? k : 256;
}

/* What one shader has of them: its own k is whole, the others stay small. */
static struct numbers of_kind(const struct numbers *all, uint32_t kind)
{
	struct numbers n = *all;

	if (kind == UNPU_SHADER_FFN_OUT) {
		n.ffn = whole(n.layout, n.ffn);
	} else if (kind != UNPU_SHADER_ATTN_OUT) {
		n.hidden = whole(n.layout, n.hidden);
	} else if (whole(n.layout, 0) && n.hidden % 8 != 7) {
		n.heads = 8;
		n.dim = 32;
	}
	return n;
}

static void make_spec(const struct numbers *all, uint32_t kind, uint32_t *spec)
{
	const struct numbers one = of_kind(all, kind), *n = &one;
	const float eps = 1e-5f, scale = 0.25f;

	switch (kind) {
	case UNPU_SHADER_EMBED:
		*(struct unpu_embed_spec *)spec = (struct unpu_embed_spec){
			n->rows, n->slots, n->vocab, n->hidden, n->layout, n->positions };
		break;
	case UNPU_SHADER_QKV:
		*(struct unpu_qkv_spec *)spec = (struct unpu_qkv_spec){
			n->rows, n->slots, n->cells, n->hidden, n->heads, n->kv_heads, n->dim,
			n->layout, n->numeric, n->kv, n->norm, n->flags & 7, eps, n->rope, n->turn,
			n->rope ? n->positions : 0 };
		break;
	case UNPU_SHADER_ATTN:
		*(struct unpu_attn_spec *)spec = (struct unpu_attn_spec){
			n->rows, n->slots, n->cells, n->heads, n->kv_heads, n->dim, n->kv, scale };
		break;
	case UNPU_SHADER_ATTN_OUT:
		*(struct unpu_attn_out_spec *)spec = (struct unpu_attn_out_spec){
			n->rows, n->slots, n->cells, n->hidden, n->heads, n->dim, n->layout,
			n->numeric, n->flags & 2 };
		break;
	case UNPU_SHADER_FFN_IN:
		*(struct unpu_ffn_in_spec *)spec = (struct unpu_ffn_in_spec){
			n->rows, n->slots, n->hidden, n->ffn, n->layout, n->numeric, n->norm,
			n->flags & 11, n->act, eps };
		break;
	case UNPU_SHADER_FFN_OUT:
		*(struct unpu_ffn_out_spec *)spec = (struct unpu_ffn_out_spec){
			n->rows, n->slots, n->hidden, n->ffn, n->layout, n->numeric, n->flags & 2 };
		break;
	case UNPU_SHADER_HEAD:
		*(struct unpu_head_spec *)spec = (struct unpu_head_spec){
			n->rows, n->slots, n->hidden, n->vocab, n->layout, n->numeric, n->norm,
			n->flags & 3, eps, n->logits };
		break;
	case UNPU_SHADER_SAMPLE:
		*(struct unpu_sample_spec *)spec = (struct unpu_sample_spec){
			n->rows, n->slots, n->cells, n->vocab, n->hidden, n->logits, n->layout,
			n->positions };
		break;
	}
}

/* ---- programs -------------------------------------------------------------------------------- */

/* Somewhere, at the very end, or what another binding has. */
static uint32_t add_buffer(struct draft *d, struct fuzz_input *in, const struct machine *m,
			   uint64_t bytes, bool written)
{
	uint32_t how = fuzz_u8(in), bo = !written && how & 1;
	uint64_t size = (bytes ? bytes : 1) + (how & 16 ? 32 : 0);
	uint64_t room = size < BO_BYTES ? (BO_BYTES - size) / 32 : 0;
	struct drm_unpu_buffer *b = &d->buffers[d->num_buffers];

	if (d->num_buffers == MAX_BUFFERS || (how & 6 && how < 8 && d->num_buffers))
		return fuzz_u8(in) % d->num_buffers;
	*b = (struct drm_unpu_buffer){
		m->bos[bo], DRM_UNPU_ACCESS_READ | (bo ? 0 : DRM_UNPU_ACCESS_WRITE),
		32 * (how & 32 ? room : fuzz_u16(in) % (room + 1)), size,
	};
	return d->num_buffers++;
}

static bool add_dispatch(struct draft *d, struct fuzz_input *in, const struct machine *m,
			 const struct numbers *n)
{
	uint32_t i = d->num_dispatches, kind = below(in, UNPU_SHADER_COUNT) % UNPU_SHADER_COUNT, b;
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct drm_unpu_shader_create shader = { .spec = (uintptr_t)d->specs[i],
						 .spec_words = info->spec_words };
	uint32_t *constants = &d->constants[2 * i];
	struct unpu_shader_need need;

	make_spec(n, kind, d->specs[i]);
	memcpy(shader.name, info->name, strlen(info->name));
	constants[0] = kind == UNPU_SHADER_COPY ? 4u * (1 + fuzz_u16(in) % 4096) :
						  1 + below(in, 2);
	if (m->dev->ops->shader_create(m->dev, &shader))
		return false;
	d->kinds[i] = kind;
	d->shaders[i] = shader.shader_id;
	d->num_dispatches++;
	if (unpu_shader_need(kind, d->specs[i], constants, info->const_bytes, &need))
		memset(&need, 0, sizeof(need));
	d->dispatches[i] = (struct drm_unpu_dispatch){
		shader.shader_id, d->num_bindings, info->num_bindings, 8 * i, info->const_bytes,
		{ need.grid[0], need.grid[1], need.grid[2] },
	};
	for (b = 0; b < info->num_bindings; b++)
		d->bindings[d->num_bindings++].buffer =
			add_buffer(d, in, m, need.bytes[b], info->write_mask >> b & 1 || !b);
	return true;
}

/* Some words of the tables, and of the call. */
static void change(struct draft *d, struct fuzz_input *in)
{
	uint32_t changes = fuzz_u8(in), at, value;

	for (changes = changes < 128 ? 0 : changes % 4; changes; changes--) {
		at = fuzz_u16(in);
		value = fuzz_u8(in) & 1 ? fuzz_u8(in) : fuzz_u32(in);
		switch (at >> 14) {
		case 0:
			((uint32_t *)d->buffers)[at % (d->num_buffers * 6)] = value;
			break;
		case 1:
			((uint32_t *)d->dispatches)[at % (d->num_dispatches * 8)] = value;
			break;
		case 2:
			if (at & 1)
				d->bindings[at / 2 % d->num_bindings].buffer = value;
			else
				d->constants[at / 2 % (2 * MAX_DISPATCHES)] = value;
			break;
		default:
			*(&d->args.flags + at % 3) = value % 8;
		}
	}
}

static void table(struct draft *d, struct fuzz_input *in, uint32_t which, const void *rows,
		  uint32_t size, uint32_t count, struct drm_unpu_array *array)
{
	uint32_t how = fuzz_u8(in), stride = size + (how > 240 ? 4 * (how - 240) : 0), i;

	stride = stride > MAX_STRIDE ? MAX_STRIDE : stride;
	memset(d->tables[which], 0, sizeof(d->tables[which]));
	for (i = 0; i < count; i++)
		memcpy(d->tables[which] + i * stride, (const uint8_t *)rows + i * size, size);
	if (how == 255)
		d->tables[which][stride - 1] = 1;
	if (how == 239 && count)
		count--;
	*array = (struct drm_unpu_array){ stride, count, (uintptr_t)d->tables[which] };
}

static bool make_draft(struct draft *d, struct fuzz_input *in, const struct machine *m)
{
	uint32_t dispatches = 1 + fuzz_u8(in) % MAX_DISPATCHES, i;
	struct numbers n = make_numbers(in);

	memset(d, 0, sizeof(*d));
	for (i = 0; i < dispatches; i++) {
		if (fuzz_u8(in) > 200)
			n = make_numbers(in);
		if (!add_dispatch(d, in, m, &n))
			return false;
	}
	d->args.constants = (uintptr_t)d->constants;
	d->args.const_bytes = sizeof(d->constants);
	if (fuzz_u8(in) & 1) {
		d->args.flags = DRM_UNPU_PROGRAM_STOP;
		d->args.stop_buffer = fuzz_u8(in) % d->num_buffers;
		d->args.stop_offset = 4 * (fuzz_u8(in) % 16);
	}
	change(d, in);
	table(d, in, 0, d->buffers, 24, d->num_buffers, &d->args.buffers);
	table(d, in, 1, d->dispatches, 32, d->num_dispatches, &d->args.dispatches);
	table(d, in, 2, d->bindings, 4, d->num_bindings, &d->args.bindings);
	return true;
}

/* ---- what was taken -------------------------------------------------------------------------- */

static bool inside(uint64_t at, uint64_t size, uint64_t bytes)
{
	uint64_t end;

	return !__builtin_add_overflow(at, size, &end) && end <= bytes;
}

static uint32_t bo_of(const struct machine *m, uint32_t handle)
{
	FUZZ_CHECK(handle == m->bos[0] || handle == m->bos[1]);
	return handle == m->bos[1];
}

/* These bytes may be read, and those of a binding that is written, written. */
static void open_range(uint32_t bo, uint64_t at, uint64_t size, bool written)
{
	ASAN_UNPOISON_MEMORY_REGION(memory[bo] + at, size);
	if (written)
		memset(&may_write[bo][at], 1, size);
}

static void open_dispatch(const struct draft *d, const struct machine *m, uint32_t which)
{
	const struct drm_unpu_dispatch *of = &d->dispatches[which];
	const struct unpu_shader_info *info;
	const struct drm_unpu_buffer *b;
	struct unpu_shader_need need;
	uint32_t i, shader, bo, index;

	for (shader = 0; d->shaders[shader] != of->shader_id; shader++)
		FUZZ_CHECK(shader + 1 < d->num_dispatches);
	info = unpu_shader_info(d->kinds[shader]);
	FUZZ_CHECK(of->num_bindings == info->num_bindings &&
		   of->const_bytes == info->const_bytes && of->const_offset % 4 == 0 &&
		   inside(of->const_offset, of->const_bytes, d->args.const_bytes) &&
		   inside(of->first_binding, of->num_bindings, d->args.bindings.count));
	FUZZ_CHECK(!unpu_shader_need(d->kinds[shader], d->specs[shader],
				     &d->constants[of->const_offset / 4], info->const_bytes,
				     &need));
	FUZZ_CHECK(!memcmp(need.grid, of->grid, sizeof(of->grid)));
	for (i = 0; i < info->num_bindings; i++) {
		bool written = info->write_mask >> i & 1;

		index = d->bindings[of->first_binding + i].buffer;
		FUZZ_CHECK(index < d->args.buffers.count);
		b = &d->buffers[index];
		bo = bo_of(m, b->handle);
		FUZZ_CHECK(inside(b->offset, b->size, BO_BYTES) && b->offset % 32 == 0 &&
			   need.bytes[i] <= b->size);
		FUZZ_CHECK(!need.bytes[i] || b->flags & (written ? DRM_UNPU_ACCESS_WRITE :
							  DRM_UNPU_ACCESS_READ));
		FUZZ_CHECK(!bo || !(b->flags & DRM_UNPU_ACCESS_WRITE));
		open_range(bo, b->offset, need.bytes[i], written);
	}
}

static void open_ranges(const struct draft *d, const struct machine *m)
{
	const struct drm_unpu_buffer *b;
	uint32_t i;

	memset(may_write, 0, sizeof(may_write));
	for (i = 0; i < NUM_BOS; i++)
		ASAN_POISON_MEMORY_REGION(memory[i], BO_BYTES);
	for (i = 0; i < d->args.dispatches.count; i++)
		open_dispatch(d, m, i);
	if (!d->args.flags)
		return;
	FUZZ_CHECK(d->args.stop_buffer < d->args.buffers.count);
	b = &d->buffers[d->args.stop_buffer];
	FUZZ_CHECK(d->args.stop_offset % 4 == 0 && inside(d->args.stop_offset, 4, b->size));
	/* One word of a region of eight may be nobody's: then the reads are not checked there. */
	ASAN_UNPOISON_MEMORY_REGION(memory[bo_of(m, b->handle)] + b->offset +
				    d->args.stop_offset / 8 * 8, 8);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static uint32_t random_word(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* Numbers that are small or any, and at the state of the first dispatch what the input says. */
static void fill(const struct draft *d, const struct machine *m, struct fuzz_input *in)
{
	uint64_t seed = fuzz_u32(in);
	const struct drm_unpu_buffer *state = &d->buffers[d->bindings[0].buffer % MAX_BUFFERS];
	uint32_t how = fuzz_u8(in), i, at, word;
	size_t size;

	for (i = 0; i < NUM_BOS; i++)
		for (at = 0; at < BO_BYTES; at += 4) {
			word = random_word(&seed);
			word = how & 1 ? word : how & 2 ? word % 200 : 0x3c003c00u ^ word % 4096;
			memcpy(memory[i] + at, &word, 4);
		}
	if (!inside(state->offset, state->size, BO_BYTES))
		return;
	size = in->left < state->size ? in->left : (size_t)state->size;
	memset(memory[bo_of(m, state->handle)] + state->offset, 0,
	       state->size < 64 ? (size_t)state->size : 64);
	memcpy(memory[bo_of(m, state->handle)] + state->offset, in->at, size);
}

static void run(struct machine *m, uint32_t program)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_run runs = { program, 2 };
	struct drm_unpu_sync sync = { m->sync, DRM_UNPU_SYNC_SIGNAL, 0 };
	struct drm_unpu_submit submit = {
		.runs = { sizeof(runs), 1, (uintptr_t)&runs },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	struct drm_unpu_ctx_query query = { 0 };
	struct drm_unpu_ctx_destroy destroy = { 0 };

	FUZZ_CHECK(!m->dev->ops->ctx_create(m->dev, &ctx));
	submit.ctx_id = query.ctx_id = destroy.ctx_id = ctx.ctx_id;
	FUZZ_CHECK(!m->dev->ops->submit(m->dev, &submit));
	FUZZ_CHECK(!m->dev->ops->syncobj_wait(m->dev, m->sync, 0, UINT64_MAX));
	FUZZ_CHECK(!m->dev->ops->ctx_query(m->dev, &query));
	FUZZ_CHECK(query.state == DRM_UNPU_CTX_OK && query.completed_seqno == 1);
	FUZZ_CHECK(!m->dev->ops->ctx_destroy(m->dev, &destroy));
}

#if defined(__clang__) || defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize("address", "undefined")))
#endif
static bool changed(const uint8_t *now, const uint8_t *was, const bool *may)
{
	uint32_t at;
	int bad = 0;

	for (at = 0; at < BO_BYTES; at++)
		bad |= (now[at] ^ was[at]) & (may[at] - 1);
	return bad;
}

static void run_taken(const struct draft *d, struct machine *m, struct fuzz_input *in)
{
	uint32_t i;

	fill(d, m, in);
	for (i = 0; i < NUM_BOS; i++)
		memcpy(before[i], memory[i], BO_BYTES);
	open_ranges(d, m);
	run(m, d->args.program_id);
	for (i = 0; i < NUM_BOS; i++)
		ASAN_UNPOISON_MEMORY_REGION(memory[i], BO_BYTES);
	for (i = 0; i < NUM_BOS; i++)
		FUZZ_CHECK(!changed(memory[i], before[i], may_write[i]));
}

static void destroy_all(struct draft *d, struct machine *m, int err)
{
	struct drm_unpu_program_destroy program = { .program_id = d->args.program_id };
	struct drm_unpu_shader_destroy shader = { 0 };
	uint32_t i;

	if (!err)
		FUZZ_CHECK(!m->dev->ops->program_destroy(m->dev, &program));
	for (i = 0; i < d->num_dispatches; i++) {
		shader.shader_id = d->shaders[i];
		FUZZ_CHECK(!m->dev->ops->shader_destroy(m->dev, &shader));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct machine *m = machine_of(fuzz_u8(&in));
	static struct draft d;
	int err = -EINVAL;

	if (make_draft(&d, &in, m))
		err = m->dev->ops->program_create(m->dev, &d.args);
	FUZZ_CHECK(err <= 0);
	if (!err)
		run_taken(&d, m, &in);
	else
		FUZZ_CHECK(err == -EINVAL || err == -ENOENT || err == -E2BIG || err == -EFAULT ||
			   err == -EOPNOTSUPP);
	destroy_all(&d, m, err);
	return 0;
}
