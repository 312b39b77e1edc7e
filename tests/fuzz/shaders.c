/* SPDX-License-Identifier: MIT */
/*
 * Specialization words and constants of every shader. What the table lets pass has the sizes that
 * shaders.h and layout.h describe, worked out here once more without its code, and none overflows;
 * and when it is small, its twin runs on bindings of exactly these sizes, whatever is in them.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <sanitizer/asan_interface.h>

#include "runtime/device/cpu/twin.h"
#include "tests/lib/fuzz.h"

#define ROOM		(96u << 10)	/* of one binding or scratch */
#define MAX_THREADS	4u

/* ---- sizes, once more ------------------------------------------------------------------- */

/* Every size is below 2^48, so no product of two that is not too large overflows. */
static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t product;

	FUZZ_CHECK(!__builtin_mul_overflow(a, b, &product) && product >> 48 == 0);
	return product;
}

static uint64_t pad(uint64_t n)
{
	return (n + 31) / 32 * 32;
}

static uint64_t quant_bytes(uint32_t layout, uint64_t rows, uint64_t k)
{
	switch (layout) {
	case DRM_UNPU_LAYOUT_GGUF_F32:
		return times(times(rows, k), 4);
	case DRM_UNPU_LAYOUT_GGUF_F16:
	case DRM_UNPU_LAYOUT_GGUF_BF16:
		return times(times(rows, k), 2);
	case DRM_UNPU_LAYOUT_GGUF_Q8_0:
		return times(times(rows, k / 32), 34);
	case DRM_UNPU_LAYOUT_GGUF_Q4_0:
		return times(times(rows, k / 32), 18);
	case DRM_UNPU_LAYOUT_F32_R16:
	case DRM_UNPU_LAYOUT_F32_R32:
		return times(times(pad(rows), pad(k)), 4);
	case DRM_UNPU_LAYOUT_F16_R16:
	case DRM_UNPU_LAYOUT_BF16_R16:
	case DRM_UNPU_LAYOUT_F16_R32:
		return times(times(pad(rows), pad(k)), 2);
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
	case DRM_UNPU_LAYOUT_Q8_R32:
	case DRM_UNPU_LAYOUT_Q8A_R8_K16:
	case DRM_UNPU_LAYOUT_Q8A_R8_K4:
	case DRM_UNPU_LAYOUT_Q8A_R16_K4U:
		return times(pad(rows), pad(k));
	case DRM_UNPU_LAYOUT_Q6K_R8_K16:
	case DRM_UNPU_LAYOUT_Q6K_R8_K4:
	case DRM_UNPU_LAYOUT_Q6K_R16_K4:
		return times(pad(rows), pad(k)) / 4 * 3;
	default:
		return times(pad(rows), pad(k)) / 2;
	}
}

static uint64_t scale_bytes(uint32_t layout, uint64_t rows, uint64_t k)
{
	if (layout < DRM_UNPU_LAYOUT_Q8_R8_K16 || layout == DRM_UNPU_LAYOUT_F32_R32 ||
	    layout == DRM_UNPU_LAYOUT_F16_R32)
		return 0;
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q4K_R8_K16:
	case DRM_UNPU_LAYOUT_Q4K_R8_K4U:
	case DRM_UNPU_LAYOUT_Q4K_R16_K4U:
		FUZZ_CHECK(k % 256 == 0);
		return times(pad(rows), k / 256) * (2 + 2 + 8 * 2);
	case DRM_UNPU_LAYOUT_Q6K_R8_K16:
	case DRM_UNPU_LAYOUT_Q6K_R8_K4:
	case DRM_UNPU_LAYOUT_Q6K_R16_K4:
		FUZZ_CHECK(k % 256 == 0);
		return times(pad(rows), k / 256) * (2 + 8 * 2);
	case DRM_UNPU_LAYOUT_Q8A_R8_K16:
	case DRM_UNPU_LAYOUT_Q8A_R8_K4:
	case DRM_UNPU_LAYOUT_Q8A_R16_K4U:
		return times(pad(rows), pad(k) / 32) * 3 * 4;
	}
	return times(pad(rows), pad(k) / 32) * 2;
}

static uint64_t state_bytes(uint64_t rows, uint64_t slots)
{
	return sizeof(struct unpu_state_header) + slots * sizeof(struct unpu_state_sampler) +
	       rows * sizeof(struct unpu_state_row);
}

/* K and V of one layer; 32 values under an f16, as many of these as make whole words. */
static uint64_t cache_bytes(uint32_t type, uint64_t heads, uint64_t cells, uint64_t dim)
{
	uint64_t cell = type == DRM_UNPU_KV_F32 ? 4 * dim : 2 * dim;

	if (type == DRM_UNPU_KV_INT8)
		cell = dim + ((dim + 31) / 32 + 1) / 2 * 4;
	return 2 * times(times(heads, cells), cell);
}

struct sizes {
	uint64_t bytes[UNPU_SHADER_MAX_BINDINGS];
	uint64_t grid[3];
};

static void matrix(struct sizes *z, uint32_t binding, uint32_t layout, uint64_t rows, uint64_t k)
{
	z->bytes[binding] = quant_bytes(layout, rows, k);
	z->bytes[binding + 1] = scale_bytes(layout, rows, k);
}

static uint64_t floats(uint64_t a, uint64_t b)
{
	return times(times(a, b), 4);
}

static void qkv_sizes(struct sizes *z, const struct unpu_qkv_spec *s)
{
	uint64_t h = pad(s->hidden), rows = ((uint64_t)s->heads + 2 * s->kv_heads) * s->head_dim;
	uint64_t params = h;

	params += s->flags & UNPU_FLAG_NORM_BIAS ? h : 0;
	params += s->flags & UNPU_FLAG_BIAS ? pad(rows) : 0;
	params += s->flags & UNPU_FLAG_QK_NORM ? 2 * s->head_dim : 0;
	*z = (struct sizes){
		{ [UNPU_QKV_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_QKV_X] = floats(s->rows, h),
		  [UNPU_QKV_PARAMS] = floats(params, 1),
		  [UNPU_QKV_ROPE] = floats(s->positions, s->rope_dims),
		  [UNPU_QKV_Q] = floats(s->rows, (uint64_t)s->heads * s->head_dim),
		  [UNPU_QKV_KV] = cache_bytes(s->kv_type, s->kv_heads,
					      (uint64_t)s->slots * s->cells, s->head_dim) },
		{ (uint64_t)s->heads + 2 * s->kv_heads, 1, 1 },
	};
	matrix(z, UNPU_QKV_QUANTS, s->layout, rows, s->hidden);
}

static uint64_t partials(uint64_t rows, uint64_t cells, uint64_t heads, uint64_t dim)
{
	return floats(times(rows, cells / 64), times(heads, dim + 2));
}

static void attn_sizes(struct sizes *z, const struct unpu_attn_spec *s, uint32_t chunks)
{
	FUZZ_CHECK(chunks && chunks <= s->cells / 64);
	*z = (struct sizes){
		{ [UNPU_ATTN_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_ATTN_Q] = floats(s->rows, (uint64_t)s->heads * s->head_dim),
		  [UNPU_ATTN_KV] = cache_bytes(s->kv_type, s->kv_heads,
					       (uint64_t)s->slots * s->cells, s->head_dim),
		  [UNPU_ATTN_PARTIALS] = partials(s->rows, s->cells, s->heads, s->head_dim) },
		{ s->kv_heads, chunks, s->rows },
	};
}

static void attn_out_sizes(struct sizes *z, const struct unpu_attn_out_spec *s)
{
	*z = (struct sizes){
		{ [UNPU_ATTN_OUT_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_ATTN_OUT_PARTIALS] = partials(s->rows, s->cells, s->heads, s->head_dim),
		  [UNPU_ATTN_OUT_PARAMS] = s->flags & UNPU_FLAG_BIAS ? pad(s->hidden) * 4 : 0,
		  [UNPU_ATTN_OUT_X] = floats(s->rows, pad(s->hidden)) },
		{ pad(s->hidden) / 32, 1, 1 },
	};
	matrix(z, UNPU_ATTN_OUT_QUANTS, s->layout, s->hidden, (uint64_t)s->heads * s->head_dim);
}

static void ffn_in_sizes(struct sizes *z, const struct unpu_ffn_in_spec *s)
{
	uint64_t h = pad(s->hidden), params = h;
	uint64_t rows = s->flags & UNPU_FLAG_GATED ? 2 * pad(s->ffn) : s->ffn;

	params += s->flags & UNPU_FLAG_NORM_BIAS ? h : 0;
	params += s->flags & UNPU_FLAG_BIAS ? pad(rows) : 0;
	*z = (struct sizes){
		{ [UNPU_FFN_IN_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_FFN_IN_X] = floats(s->rows, h),
		  [UNPU_FFN_IN_PARAMS] = params * 4,
		  [UNPU_FFN_IN_H] = floats(s->rows, pad(s->ffn)) },
		{ pad(s->ffn) / 32, 1, 1 },
	};
	matrix(z, UNPU_FFN_IN_QUANTS, s->layout, rows, s->hidden);
}

static void ffn_out_sizes(struct sizes *z, const struct unpu_ffn_out_spec *s)
{
	*z = (struct sizes){
		{ [UNPU_FFN_OUT_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_FFN_OUT_H] = floats(s->rows, pad(s->ffn)),
		  [UNPU_FFN_OUT_PARAMS] = s->flags & UNPU_FLAG_BIAS ? pad(s->hidden) * 4 : 0,
		  [UNPU_FFN_OUT_X] = floats(s->rows, pad(s->hidden)) },
		{ pad(s->hidden) / 32, 1, 1 },
	};
	matrix(z, UNPU_FFN_OUT_QUANTS, s->layout, s->hidden, s->ffn);
}

static void head_sizes(struct sizes *z, const struct unpu_head_spec *s)
{
	uint64_t h = pad(s->hidden), params = h;

	params += s->flags & UNPU_FLAG_NORM_BIAS ? h : 0;
	params += s->flags & UNPU_FLAG_BIAS ? pad(s->vocab) : 0;
	*z = (struct sizes){
		{ [UNPU_HEAD_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_HEAD_X] = floats(s->rows, h),
		  [UNPU_HEAD_PARAMS] = params * 4,
		  [UNPU_HEAD_LOGITS] = floats(s->logit_rows, s->vocab),
		  [UNPU_HEAD_MAXIMA] = floats(s->logit_rows, pad(s->vocab) / 32 * 2) },
		{ pad(s->vocab) / 32, 1, 1 },
	};
	matrix(z, UNPU_HEAD_QUANTS, s->layout, s->vocab, s->hidden);
}

static void embed_sizes(struct sizes *z, const struct unpu_embed_spec *s)
{
	*z = (struct sizes){
		{ [UNPU_EMBED_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_EMBED_POSITIONS] = floats(s->positions, pad(s->hidden)),
		  [UNPU_EMBED_X] = floats(s->rows, pad(s->hidden)) },
		{ s->rows, 1, 1 },
	};
	matrix(z, UNPU_EMBED_QUANTS, s->layout, s->vocab, s->hidden);
}

static void sample_sizes(struct sizes *z, const struct unpu_sample_spec *s)
{
	*z = (struct sizes){
		{ [UNPU_SAMPLE_STATE] = state_bytes(s->rows, s->slots),
		  [UNPU_SAMPLE_LOGITS] = floats(s->logit_rows, s->vocab),
		  [UNPU_SAMPLE_MAXIMA] = floats(s->logit_rows, pad(s->vocab) / 32 * 2),
		  [UNPU_SAMPLE_HISTORY] = floats(s->slots, s->cells),
		  [UNPU_SAMPLE_POSITIONS] = floats(s->positions, pad(s->hidden)),
		  [UNPU_SAMPLE_X] = floats(s->rows, pad(s->hidden)) },
		{ 1, 1, 1 },
	};
	matrix(z, UNPU_SAMPLE_QUANTS, s->layout, s->vocab, s->hidden);
}

static void copy_sizes(struct sizes *z, const struct unpu_copy_const *c)
{
	uint64_t bytes = (uint64_t)c->bytes_hi << 32 | c->bytes_lo;

	FUZZ_CHECK(bytes && bytes % 4 == 0 && bytes >> 48 == 0);
	*z = (struct sizes){
		{ [UNPU_COPY_SRC] = bytes, [UNPU_COPY_DST] = bytes },
		{ bytes / 65536 + (bytes % 65536 != 0), 1, 1 },
	};
}

static void sizes_of(struct sizes *z, uint32_t kind, const void *spec, const uint32_t constants[2])
{
	switch (kind) {
	case UNPU_SHADER_EMBED:
		embed_sizes(z, spec);
		break;
	case UNPU_SHADER_QKV:
		qkv_sizes(z, spec);
		break;
	case UNPU_SHADER_ATTN:
		attn_sizes(z, spec, constants[0]);
		break;
	case UNPU_SHADER_ATTN_OUT:
		attn_out_sizes(z, spec);
		break;
	case UNPU_SHADER_FFN_IN:
		ffn_in_sizes(z, spec);
		break;
	case UNPU_SHADER_FFN_OUT:
		ffn_out_sizes(z, spec);
		break;
	case UNPU_SHADER_HEAD:
		head_sizes(z, spec);
		break;
	case UNPU_SHADER_SAMPLE:
		sample_sizes(z, spec);
		break;
	default:
		copy_sizes(z, (const void *)constants);
	}
}

static void check_sizes(const struct sizes *z, const struct unpu_shader_need *need)
{
	uint32_t i;

	for (i = 0; i < UNPU_SHADER_MAX_BINDINGS; i++)
		FUZZ_CHECK(z->bytes[i] == need->bytes[i] && need->bytes[i] % 4 <= 2);
	for (i = 0; i < 3; i++)
		FUZZ_CHECK(z->grid[i] == need->grid[i] && need->grid[i]);
}

/* ---- words from the input --------------------------------------------------------------- */

/* A number of 0 .. n - 1, now and then any. */
static uint32_t below(struct fuzz_input *in, uint32_t n)
{
	uint32_t byte = fuzz_u8(in);

	return byte == 0xff ? fuzz_u32(in) : n ? byte % n : 0;
}

static float positive(struct fuzz_input *in)
{
	float f = 1e-5f;
	uint32_t bits;

	if (fuzz_u8(in) < 0xf0)
		return f;
	bits = fuzz_u32(in);
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Most often what a layout takes, where groups of blocks share their scales. */
static uint32_t whole(uint32_t layout, uint32_t k)
{
	if (layout < DRM_UNPU_LAYOUT_Q4K_R8_K16 || layout > DRM_UNPU_LAYOUT_Q6K_R16_K4)
		return k;
	return k % 16 == 15 ? k : k % 16 == 14 ? 512 : 256;
}

/* Words that most often pass. */
static void make_spec(struct fuzz_input *in, uint32_t kind, uint32_t spec[])
{
	uint32_t rows = 1 + below(in, 3), slots = 1 + below(in, 2), cells = 64 + 64 * below(in, 3);
	uint32_t hidden = 8 + below(in, 96), heads = 1 + below(in, 4);
	uint32_t kv_heads = fuzz_u8(in) & 1 ? heads : 1, dim = 8 + 8 * below(in, 9);
	uint32_t layout = below(in, DRM_UNPU_LAYOUT_COUNT), numeric = below(in, 2);
	uint32_t norm = below(in, 2), flags = below(in, 16), ffn = 1 + below(in, 96);
	uint32_t vocab = 1 + below(in, 128), kv_type = below(in, 3), act = below(in, 3);
	uint32_t positions = below(in, 64), rope = below(in, 3), out = 1 + below(in, 3);
	uint32_t turn = rope ? 2 + 2 * below(in, dim / 2) : 0;
	float f = positive(in);

	if (kind == UNPU_SHADER_FFN_OUT) {
		ffn = whole(layout, ffn);
	} else if (kind != UNPU_SHADER_ATTN_OUT) {
		hidden = whole(layout, hidden);
	} else if (whole(layout, 0) && hidden % 16 != 15) {
		heads = 4;
		dim = 64;
	}
	switch (kind) {
	case UNPU_SHADER_EMBED:
		*(struct unpu_embed_spec *)spec = (struct unpu_embed_spec){
			rows, slots, vocab, hidden, layout, positions };
		break;
	case UNPU_SHADER_QKV:
		*(struct unpu_qkv_spec *)spec = (struct unpu_qkv_spec){
			rows, slots, cells, hidden, heads, kv_heads, dim, layout, numeric, kv_type,
			norm, flags & 7, f, rope, turn, rope ? positions + 1 : 0 };
		break;
	case UNPU_SHADER_ATTN:
		*(struct unpu_attn_spec *)spec = (struct unpu_attn_spec){
			rows, slots, cells, heads, kv_heads, dim, kv_type, f };
		break;
	case UNPU_SHADER_ATTN_OUT:
		*(struct unpu_attn_out_spec *)spec = (struct unpu_attn_out_spec){
			rows, slots, cells, hidden, heads, dim, layout, numeric, flags & 2 };
		break;
	case UNPU_SHADER_FFN_IN:
		*(struct unpu_ffn_in_spec *)spec = (struct unpu_ffn_in_spec){
			rows, slots, hidden, ffn, layout, numeric, norm, flags & 11, act, f };
		break;
	case UNPU_SHADER_FFN_OUT:
		*(struct unpu_ffn_out_spec *)spec = (struct unpu_ffn_out_spec){
			rows, slots, hidden, ffn, layout, numeric, flags & 2 };
		break;
	case UNPU_SHADER_HEAD:
		*(struct unpu_head_spec *)spec = (struct unpu_head_spec){
			rows, slots, hidden, vocab, layout, numeric, norm, flags & 3, f, out };
		break;
	case UNPU_SHADER_SAMPLE:
		*(struct unpu_sample_spec *)spec = (struct unpu_sample_spec){
			rows, slots, cells, vocab, hidden, out, layout, positions };
		break;
	}
}

/* ---- a run ------------------------------------------------------------------------------ */

/*
 * Memory of exactly some bytes: what is behind it is poisoned, which finds more than a guard page
 * does, as it needs no alignment of the end. It begins where a binding on the cpu may, at a
 * multiple of 32 and none of 64.
 */
struct arena {
	_Alignas(64) uint8_t memory[32 + ROOM + 64];
	uint64_t bytes;
};

static uint8_t *arena_take(struct arena *a, uint64_t bytes, uint32_t align)
{
	uint8_t *at = a->memory + (align == 64 ? 64 : 32);

	FUZZ_CHECK(bytes <= ROOM);
	a->bytes = bytes;
	ASAN_UNPOISON_MEMORY_REGION(a->memory, sizeof(a->memory));
	ASAN_POISON_MEMORY_REGION(at + bytes, a->memory + sizeof(a->memory) - (at + bytes));
	ASAN_POISON_MEMORY_REGION(a->memory, at - a->memory);
	return at;
}

static uint32_t random_word(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* Small numbers or any bits; floats of any bits are NaN and infinite too. */
static void fill(uint8_t *data, uint64_t bytes, bool any, uint64_t *state)
{
	uint32_t word;
	float f;
	uint64_t i;

	for (i = 0; i + 4 <= bytes; i += 4) {
		word = random_word(state);
		f = (float)(int32_t)word * 0x1p-31f;
		memcpy(data + i, any ? (const void *)&word : &f, 4);
	}
	for (; i < bytes; i++)
		data[i] = (uint8_t)random_word(state);
}

static uint64_t hash(const uint8_t *data, uint64_t bytes)
{
	uint64_t h = 1469598103934665603u, word, i;

	for (i = 0; i + 8 <= bytes; i += 8) {
		memcpy(&word, data + i, 8);
		h = (h ^ word) * 1099511628211u;
	}
	for (; i < bytes; i++)
		h = (h ^ data[i]) * 1099511628211u;
	return h;
}

static void run_threads(struct unpu_twin_args *args, uint8_t *locals[], unpu_twin_fn *fn)
{
	uint32_t t;

	for (t = 0; t < args->threads; t++) {
		args->thread = t;
		args->local = locals[t];
		fn(args);
	}
}

static const struct unpu_cpu_ops *ops_of(uint32_t which)
{
	static const char *const names[] = { "c", "avx2", "avx512vnni", "neon", "neon_dotprod" };
	static struct unpu_cpu_ops ops[5];
	uint32_t mask;

	which %= 5;
	if (!ops[which].name) {
		/* A name that this machine has not leaves what is below it. */
		if (unpu_cpu_mask_parse(names[which], &mask))
			mask = 0;
		unpu_cpu_ops_init(&ops[which], mask & unpu_cpu_detect());
	}
	return &ops[which];
}

struct run {
	uint32_t kind;
	const uint32_t *spec, *constants;
	const struct unpu_shader_need *need;
	const struct unpu_cpu_ops *ops;
	uint32_t threads;
	void *bindings[UNPU_SHADER_MAX_BINDINGS];
};

/* As the engine runs it, thread after thread. */
static void run_twin(struct run *r)
{
	static struct arena shared, locals[MAX_THREADS];
	const struct unpu_twin *twin = unpu_twin_get(r->kind);
	struct unpu_twin_need need = { 0 };
	struct unpu_view_bounds bounds;
	static struct unpu_view view;
	uint8_t *local[MAX_THREADS];
	struct unpu_twin_args args = {
		.ops = r->ops, .view = &view, .spec = r->spec, .constants = r->constants,
		.bindings = r->bindings, .threads = r->threads,
	};
	uint32_t t;

	if (twin->need)
		twin->need(r->spec, r->threads, &need);
	if (need.shared > ROOM || need.local > ROOM)
		return;
	args.shared = arena_take(&shared, need.shared, 64);
	for (t = 0; t < r->threads; t++)
		local[t] = arena_take(&locals[t], need.local, 64);
	unpu_twin_bounds(twin, r->spec, &bounds);
	memset(&view, 0, sizeof(view));
	if (!twin->stateless)
		unpu_view_read(&view, r->bindings[0], &bounds);
	if (twin->staged && twin->staged(r->spec, &view, r->threads))
		run_threads(&args, local, twin->prepare);
	run_threads(&args, local, twin->run);
}

/* A state buffer as a run finds it, or with what the input says for words. */
static void fill_state(struct fuzz_input *in, uint8_t *data, uint64_t bytes, uint32_t slots,
		       bool hostile)
{
	struct unpu_state_header *state = (void *)data;
	struct unpu_state_row *row = (void *)(data + unpu_state_rows_offset(slots));

	memset(data, 0, bytes);
	state->rows_live = 1;
	row->flags = UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE;
	if (hostile)
		memcpy(data, in->at, in->left < bytes ? in->left : (size_t)bytes);
}

/* The layout and class that a spec names; false where it multiplies by no matrix. */
static bool multiplies(uint32_t kind, const void *spec, uint32_t *layout, uint32_t *numeric)
{
	switch (kind) {
	case UNPU_SHADER_QKV:
		*layout = ((const struct unpu_qkv_spec *)spec)->layout;
		*numeric = ((const struct unpu_qkv_spec *)spec)->numeric;
		return true;
	case UNPU_SHADER_ATTN_OUT:
		*layout = ((const struct unpu_attn_out_spec *)spec)->layout;
		*numeric = ((const struct unpu_attn_out_spec *)spec)->numeric;
		return true;
	case UNPU_SHADER_FFN_IN:
		*layout = ((const struct unpu_ffn_in_spec *)spec)->layout;
		*numeric = ((const struct unpu_ffn_in_spec *)spec)->numeric;
		return true;
	case UNPU_SHADER_FFN_OUT:
		*layout = ((const struct unpu_ffn_out_spec *)spec)->layout;
		*numeric = ((const struct unpu_ffn_out_spec *)spec)->numeric;
		return true;
	case UNPU_SHADER_HEAD:
		*layout = ((const struct unpu_head_spec *)spec)->layout;
		*numeric = ((const struct unpu_head_spec *)spec)->numeric;
		return true;
	}
	return false;
}

static void run(struct fuzz_input *in, struct run *r)
{
	static struct arena arenas[UNPU_SHADER_MAX_BINDINGS];
	const struct unpu_shader_info *info = unpu_shader_info(r->kind);
	uint64_t state = fuzz_u32(in), hashes[UNPU_SHADER_MAX_BINDINGS];
	uint32_t how = fuzz_u8(in), layout, numeric, b;

	r->threads = 1 + how % MAX_THREADS;
	r->ops = ops_of(how >> 2 & 7);
	if (multiplies(r->kind, r->spec, &layout, &numeric) && !r->ops->mm[layout][numeric])
		return;
	for (b = 0; b < info->num_bindings; b++) {
		r->bindings[b] = NULL;
		if (!r->need->bytes[b])
			continue;
		r->bindings[b] = arena_take(&arenas[b], r->need->bytes[b], 32);
		if (b == 0 && !unpu_twin_get(r->kind)->stateless)
			fill_state(in, r->bindings[b], r->need->bytes[b], r->spec[1], how & 64);
		else
			fill(r->bindings[b], r->need->bytes[b], how & 128, &state);
		hashes[b] = hash(r->bindings[b], r->need->bytes[b]);
	}
	run_twin(r);
	for (b = 0; b < info->num_bindings; b++)
		if (r->bindings[b] && !(info->write_mask >> b & 1))
			FUZZ_CHECK(hash(r->bindings[b], r->need->bytes[b]) == hashes[b]);
}

/* What the cpu takes, small enough to be run a thousand times a second. */
static bool runs(uint32_t kind, const uint32_t *spec, const struct unpu_shader_need *need)
{
	uint64_t sum = 0;
	uint32_t b;

	for (b = 0; b < UNPU_SHADER_MAX_BINDINGS; b++) {
		if (need->bytes[b] > ROOM)
			return false;
		sum += need->bytes[b];
	}
	return sum <= 2 * ROOM && (kind == UNPU_SHADER_COPY || spec[0] <= 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t spec[UNPU_SHADER_MAX_SPEC_WORDS] = { 0 }, constants[2] = { 0 }, changes, i;
	struct fuzz_input in = { data, size };
	uint32_t kind = fuzz_u8(&in) % UNPU_SHADER_COUNT;
	const struct unpu_shader_info *info = unpu_shader_info(kind);
	struct unpu_shader_need need;
	struct run r = { .kind = kind, .spec = spec, .constants = constants, .need = &need };
	struct sizes sizes;

	make_spec(&in, kind, spec);
	changes = fuzz_u8(&in);
	for (i = 0; changes >= 0xf0 && i < changes - 0xf0; i++)
		spec[fuzz_u8(&in) % UNPU_SHADER_MAX_SPEC_WORDS] = fuzz_u32(&in);
	constants[0] = kind == UNPU_SHADER_COPY ? fuzz_u32(&in) : 1 + below(&in, 3);
	constants[1] = below(&in, 1);
	if (unpu_shader_check_spec(kind, spec, info->spec_words) ||
	    unpu_shader_need(kind, spec, constants, info->const_bytes, &need))
		return 0;
	sizes_of(&sizes, kind, spec, constants);
	check_sizes(&sizes, &need);
	if (runs(kind, spec, &need))
		run(&in, &r);
	return 0;
}
