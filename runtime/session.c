/* SPDX-License-Identifier: MIT */
/*
 * A conversation: KV cells, token history, sampler, and the programs that move it on.
 *
 * history[0..used) are the session's tokens, of which [0..evaluated) have their K and V in the
 * cache. A token that was just sampled is not evaluated yet; the device holds its row and embedding
 * while `row_ready`, else the host sends it with the next prompt rows.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/core.h"
#include "runtime/plan/compile.h"

#define DEFAULT_CONTEXT	2048u
/*
 * Prompt rows at once. SmolLM2-135M Q8_0, 512 tokens, 2 threads of a Xeon: 16 rows give 795
 * tokens/s, 32 914, 64 950; 64 cost twice the scratch.
 */
#define DEFAULT_BATCH	32u
#define SLOT		0u	/* one sequence a session today */

enum { PROGRAM_PROMPT, PROGRAM_PROMPT_HEAD, PROGRAM_SAMPLE, PROGRAM_DECODE, PROGRAM_LOGITS,
	NUM_PROGRAMS };

static const uint32_t program_parts[NUM_PROGRAMS] = {
	[PROGRAM_PROMPT] = UNPU_PART_EMBED | UNPU_PART_LAYERS,
	[PROGRAM_PROMPT_HEAD] = UNPU_PART_EMBED | UNPU_PART_LAYERS | UNPU_PART_HEAD,
	[PROGRAM_SAMPLE] = UNPU_PART_SAMPLE,
	[PROGRAM_DECODE] = UNPU_PART_LAYERS | UNPU_PART_HEAD | UNPU_PART_SAMPLE,
	[PROGRAM_LOGITS] = UNPU_PART_EMBED | UNPU_PART_LAYERS | UNPU_PART_HEAD,
};

/* A buffer that several ranges share; ptr only when it is mapped. */
struct area {
	uint32_t handle;
	uint64_t bytes;
	uint8_t *ptr;
};

struct unpu_session {
	struct unpu_model *model;
	struct unpu_device *dev;
	uint32_t context, batch, flags;
	uint64_t seed;
	struct unpu_work work;
	struct unpu_compiler compiler;
	struct area window, scratch, kv;
	/* the path that hands out logits of every row; made on first use */
	struct unpu_work logits_work;
	struct unpu_compiler logits_compiler;
	struct area logits_area;
	uint32_t programs[NUM_PROGRAMS];	/* 0: not made yet */
	uint32_t ctx_id, syncobj, decode_dispatches;
	uint32_t used, evaluated;
	bool logits_ready;	/* of the last token, in work.logits[0] */
	bool row_ready;		/* the device holds the last token's row and embedding */
	uint64_t prompt_tokens, prompt_ns, generated_tokens, generate_ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static volatile struct unpu_state_header *state_header(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset);
}

static volatile struct unpu_state_row *state_rows(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.state.offset +
			unpu_state_rows_offset(s->work.shape.slots));
}

static uint32_t *history(struct unpu_session *s)
{
	return (void *)(s->window.ptr + s->work.history.offset);
}

/* ---- buffers ------------------------------------------------------------------------------ */

static void area_add(struct area *area, struct unpu_range *range, uint32_t align)
{
	area->bytes = (area->bytes + align - 1) / align * align;
	range->offset = area->bytes;
	area->bytes += range->bytes;
}

static int area_create(struct unpu_session *s, struct area *area, bool mapped)
{
	struct drm_unpu_bo_create bo = { .size = area->bytes,
					 .flags = mapped ? DRM_UNPU_BO_MMAP : 0 };
	void *ptr;
	int ret;

	if (!area->bytes)
		return 0;
	ret = s->dev->ops->bo_create(s->dev, &bo);
	if (ret)
		return ret;
	area->handle = bo.handle;
	if (!mapped)
		return 0;
	ret = s->dev->ops->bo_map(s->dev, bo.handle, &ptr);
	area->ptr = ret ? NULL : ptr;
	return ret;
}

static void area_destroy(struct unpu_session *s, struct area *area)
{
	if (area->ptr)
		s->dev->ops->bo_unmap(s->dev, area->handle, area->ptr, area->bytes);
	if (area->handle)
		s->dev->ops->bo_close(s->dev, area->handle);
}

static int create_buffers(struct unpu_session *s)
{
	struct unpu_work *w = &s->work;
	uint32_t align = unpu_part_align(&s->model->weights->info);
	struct unpu_range *window[] = { &w->state, &w->history, &w->rope, &w->logits };
	struct unpu_range *scratch[] = { &w->maxima, &w->x, &w->q, &w->partials, &w->h };
	int ret;

	for (size_t i = 0; i < sizeof(window) / sizeof(window[0]); i++)
		area_add(&s->window, window[i], align);
	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		area_add(&s->scratch, scratch[i], align);
	area_add(&s->kv, &w->kv, align);
	ret = area_create(s, &s->window, true);
	ret = ret ? ret : area_create(s, &s->scratch, false);
	ret = ret ? ret : area_create(s, &s->kv, false);
	if (ret)
		return ret;
	for (size_t i = 0; i < sizeof(window) / sizeof(window[0]); i++)
		window[i]->handle = s->window.handle;
	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		scratch[i]->handle = s->scratch.handle;
	w->kv.handle = s->kv.handle;
	if (w->rope.bytes)
		unpu_rope_fill(&s->model->arch->hp, w->shape.cells,
			       (float *)(void *)(s->window.ptr + w->rope.offset));
	return 0;
}

/* As many logit rows as a program has rows; only callers who want all logits pay for them. */
static int create_logits_path(struct unpu_session *s)
{
	struct unpu_shape shape = s->work.shape;
	struct unpu_work *w = &s->logits_work;
	uint32_t align = unpu_part_align(&s->model->weights->info);
	struct unpu_work sizes;
	int ret;

	if (s->logits_area.handle)
		return 0;
	shape.logit_rows = s->batch;
	unpu_work_sizes(s->model->arch, &shape, &sizes);
	*w = s->work;
	w->shape = shape;
	w->logits = sizes.logits;
	w->maxima = sizes.maxima;
	area_add(&s->logits_area, &w->logits, align);
	area_add(&s->logits_area, &w->maxima, align);
	ret = area_create(s, &s->logits_area, true);
	if (ret) {
		area_destroy(s, &s->logits_area);
		s->logits_area = (struct area){ 0 };
		return ret;
	}
	w->logits.handle = w->maxima.handle = s->logits_area.handle;
	unpu_compiler_init(&s->logits_compiler, s->model->weights, w);
	return 0;
}

static int get_program(struct unpu_session *s, int which, uint32_t *id)
{
	struct unpu_compiler *c = &s->compiler;
	uint32_t dispatches;
	int ret = 0;

	if (which == PROGRAM_LOGITS) {
		ret = create_logits_path(s);
		c = &s->logits_compiler;
	}
	if (!ret && !s->programs[which]) {
		ret = unpu_compile(c, program_parts[which], &s->programs[which], &dispatches);
		if (!ret && which == PROGRAM_DECODE)
			s->decode_dispatches = dispatches;
	}
	*id = s->programs[which];
	return ret;
}

/* ---- running ------------------------------------------------------------------------------ */

static int check_job(struct unpu_session *s, uint64_t seqno)
{
	struct drm_unpu_ctx_query query = { .ctx_id = s->ctx_id };
	uint32_t fault = state_header(s)->fault;
	int ret = s->dev->ops->ctx_query(s->dev, &query);

	if (ret || query.failed_seqno >= seqno || query.state != DRM_UNPU_CTX_OK)
		return unpu_fail(&s->model->log, -EIO, "%s failed: %s", s->dev->id,
				 strerror(ret ? -ret : -query.failed_errno));
	if (fault & UNPU_STATE_FAULT_VALUE)
		return unpu_fail(&s->model->log, -EIO,
				 "the model gives logits that are not finite numbers");
	if (fault)
		return unpu_fail(&s->model->log, -EIO, "%s met a word out of range in the session",
				 s->dev->id);
	return 0;
}

static int run_program(struct unpu_session *s, int which, uint32_t repeat)
{
	struct drm_unpu_run run = { .repeat = repeat };
	struct drm_unpu_sync sync = { .handle = s->syncobj, .flags = DRM_UNPU_SYNC_SIGNAL };
	struct drm_unpu_submit submit = {
		.ctx_id = s->ctx_id,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	int ret = get_program(s, which, &run.program_id);

	ret = ret ? ret : s->dev->ops->submit(s->dev, &submit);
	ret = ret ? ret : s->dev->ops->syncobj_wait(s->dev, s->syncobj, 0, UINT64_MAX);
	if (ret == -EBUSY || ret == -ETIME)
		return unpu_fail(&s->model->log, -EIO, "%s does not run: %s", s->dev->id,
				 strerror(-ret));
	if (ret)
		return ret == -ENOMEM ? ret : -EIO;
	return check_job(s, submit.seqno);
}

static void set_row(struct unpu_session *s, uint32_t i, uint32_t at, uint32_t flags, uint32_t out)
{
	volatile struct unpu_state_row *row = &state_rows(s)[i];

	row->token = history(s)[at];
	row->position = at;
	row->cell = at;
	row->slot = SLOT;
	row->flags = flags;
	row->out = out;
}

static void begin_rows(struct unpu_session *s, uint32_t count)
{
	volatile struct unpu_state_header *header = state_header(s);

	header->rows_live = count;
	header->stop = 0;
	header->fault = 0;
}

/* Evaluate all of history that is not yet; the last token's logits are ready afterwards. */
static int evaluate(struct unpu_session *s)
{
	s->row_ready = false;
	while (s->evaluated < s->used) {
		uint32_t left = s->used - s->evaluated, count = left < s->batch ? left : s->batch;
		bool last = count == left;
		int ret;

		begin_rows(s, count);
		for (uint32_t i = 0; i < count; i++)
			set_row(s, i, s->evaluated + i, last && i + 1 == count ?
				UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE : 0, 0);
		ret = run_program(s, last ? PROGRAM_PROMPT_HEAD : PROGRAM_PROMPT, 1);
		if (ret)
			return ret;
		s->evaluated += count;
		s->logits_ready = last;
	}
	return 0;
}

static int append(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	const struct unpu_log *log = &s->model->log;
	uint32_t vocab = s->model->arch->hp.vocab;

	if (count > s->context - s->used)
		return unpu_fail(log, -ENOSPC,
				 "%zu tokens do not fit the context: %u of %u tokens are used",
				 count, s->used, s->context);
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= vocab)
			return unpu_fail(log, -EINVAL, "token %u is outside the vocabulary of %u",
					 ids[i], vocab);
	memcpy(history(s) + s->used, ids, count * sizeof(*ids));
	s->used += (uint32_t)count;
	if (count)
		s->logits_ready = false;
	return 0;
}

/* What a call that failed had appended; cells past the end are written again before use. */
static void take_back(struct unpu_session *s, uint32_t used)
{
	s->used = used;
	if (s->evaluated > used)
		s->evaluated = used;
	s->logits_ready = false;
	s->row_ready = false;
}

int unpu_session_prompt(struct unpu_session *s, const uint32_t *ids, size_t count)
{
	uint64_t start = now_ns();
	uint32_t before = s->used;
	int ret = append(s, ids, count);

	if (!ret) {
		ret = evaluate(s);
		if (ret)
			take_back(s, before);
	}
	s->prompt_ns += now_ns() - start;
	s->prompt_tokens += ret ? 0 : count;
	return ret;
}

int unpu_session_logits(struct unpu_session *s, const uint32_t *ids, size_t count, float *logits)
{
	uint64_t vocab = s->model->arch->hp.vocab;
	uint32_t id, first = s->used;
	int ret = get_program(s, PROGRAM_LOGITS, &id);

	if (ret)	/* before a token is appended; -ENOSPC would mean those */
		return ret == -ENOSPC ? -ENOMEM : ret;
	ret = append(s, ids, count);
	if (ret)
		return ret;
	s->row_ready = false;
	while (!ret && s->evaluated < s->used) {
		uint32_t left = s->used - s->evaluated, rows = left < s->batch ? left : s->batch;
		uint32_t out = 0;

		begin_rows(s, rows);
		for (uint32_t i = 0; i < rows; i++) {
			bool wanted = s->evaluated + i >= first;

			set_row(s, i, s->evaluated + i, wanted ? UNPU_ROW_LOGITS : 0, out);
			out += wanted;
		}
		ret = run_program(s, PROGRAM_LOGITS, 1);
		if (ret)
			break;
		memcpy(logits, s->logits_area.ptr + s->logits_work.logits.offset,
		       out * vocab * sizeof(*logits));
		logits += out * vocab;
		s->evaluated += rows;
	}
	/* Generation samples from the other path's buffer: the last token goes through it again. */
	if (ret)
		take_back(s, first);
	else if (count)
		s->evaluated = s->used - 1;
	return ret;
}

/* ---- generating --------------------------------------------------------------------------- */

/* Text of tokens as they come, whole characters at a time. */
struct stream {
	struct unpu_session *s;
	unpu_token_fn *fn;
	void *arg;
	struct unpu_utf8_stream utf8;
	bool begins;	/* SentencePiece: the space before the first word is no text */
};

#define SHORT_TEXT	256	/* bytes of text that want no memory: nearly all tokens have less */

/* The first max bytes of the token's text; how many there are, or -errno. */
static int64_t token_text(const struct stream *st, uint32_t id, char *text, size_t max)
{
	const struct unpu_tokenizer *tok = st->s->model->tok;

	if (id >= unpu_tokenizer_vocab(tok))
		return 0;	/* an embedding row without a token, as padded vocabularies have */
	if (st->begins)
		return unpu_tokenizer_decode(tok, &id, 1, text, max);
	return unpu_tokenizer_piece(tok, id, text, max);
}

static bool has_text(const struct unpu_tokenizer *tok, uint32_t id)
{
	return id < unpu_tokenizer_vocab(tok) && unpu_tokenizer_piece(tok, id, NULL, 0) > 0;
}

/* 0 to go on, UNPU_REASON_CALLBACK or -errno. */
static int stream_token(struct stream *st, uint32_t id)
{
	char small[4 * SHORT_TEXT + 9], *text = small, *large = NULL, *out;
	int64_t n;
	size_t length;
	int stop;

	if (!st->fn)
		return 0;
	n = token_text(st, id, small, SHORT_TEXT);
	if (n > SHORT_TEXT) {
		text = large = malloc(4 * (size_t)n + 9);
		if (!large)
			return unpu_fail(&st->s->model->log, -ENOMEM,
					 "no memory for the text of token %u", id);
		n = token_text(st, id, large, (size_t)n);
	}
	if (n < 0) {
		free(large);
		return (int)n;
	}
	if (st->begins)
		st->begins = !has_text(st->s->model->tok, id);
	out = text + n;
	length = unpu_utf8_stream_push(&st->utf8, text, (size_t)n, out);
	stop = st->fn(st->arg, id, out, length);
	free(large);
	return stop ? UNPU_REASON_CALLBACK : 0;
}

static void stream_flush(struct stream *st)
{
	char out[4];
	size_t n = unpu_utf8_stream_flush(&st->utf8, out);

	if (n && st->fn)
		st->fn(st->arg, UINT32_MAX, out, n);
}

static bool no_text_yet(struct unpu_session *s)
{
	for (uint32_t i = 0; i < s->used; i++)
		if (has_text(s->model->tok, history(s)[i]))
			return false;
	return true;
}

/* Have the device sample up to `want` tokens more; *made is how many stand in history now. */
static int sample_some(struct unpu_session *s, uint32_t want, uint32_t *made)
{
	volatile struct unpu_state_header *header = state_header(s);
	uint32_t before = header->ring_head;
	int ret = 0;

	if (!s->row_ready && !s->logits_ready) {
		if (s->evaluated == s->used)
			s->evaluated--;	/* logits were given up: the last token again */
		ret = evaluate(s);
	}
	if (ret)
		return ret;
	if (s->row_ready) {
		uint32_t best = s->model->weights->info.tokens_per_submit;

		ret = run_program(s, PROGRAM_DECODE, want < best ? want : best);
	} else {
		ret = run_program(s, PROGRAM_SAMPLE, 1);
	}
	*made = header->ring_head - before;
	if (!ret && (*made == 0 || *made > s->context - s->used))
		ret = unpu_fail(&s->model->log, -EIO,
				"%s sampled %u tokens where up to %u were due", s->dev->id, *made,
				want);
	/* Of what stands in history now, all but the newest token has been through the layers. */
	s->logits_ready = false;
	s->row_ready = !ret && header->stop == 0;
	return ret;
}

static bool ends_text(const struct unpu_session *s, uint32_t id)
{
	return !(s->flags & UNPU_SESSION_NO_END) && unpu_tokenizer_is_eog(s->model->tok, id);
}

static int generate(struct unpu_session *s, size_t max, struct stream *st)
{
	for (size_t done = 0; done < max;) {
		uint32_t room = s->context - s->used, made, id;
		uint32_t want = max - done < room ? (uint32_t)(max - done) : room;
		int ret;

		if (!room)
			return UNPU_REASON_CONTEXT;
		ret = sample_some(s, want, &made);
		if (ret)
			return ret;
		for (uint32_t i = 0; i < made; i++) {
			id = history(s)[s->used];
			s->evaluated = s->used++;
			done++;
			s->generated_tokens++;
			ret = ends_text(s, id) ? UNPU_REASON_END : stream_token(st, id);
			if (ret) {
				/* The device may have gone on from the tokens after this one. */
				s->row_ready = s->row_ready && i + 1 == made;
				return ret;
			}
		}
	}
	return UNPU_REASON_LENGTH;
}

int unpu_session_generate(struct unpu_session *s, size_t max, unpu_token_fn *fn, void *arg)
{
	struct stream st = { .s = s, .fn = fn, .arg = arg };
	uint64_t start = now_ns();
	int ret;

	if (!s->used)
		return unpu_fail(&s->model->log, -EINVAL,
				 "there is nothing to continue: the session has no tokens");
	st.begins = unpu_tokenizer_space_prefix(s->model->tok) && no_text_yet(s);
	ret = generate(s, max, &st);
	if (ret >= 0)
		stream_flush(&st);
	s->generate_ns += now_ns() - start;
	return ret;
}

/* ---- settings ----------------------------------------------------------------------------- */

static bool between(float v, float low, float high)
{
	return v >= low && v <= high;	/* false for NaN */
}

static int check_size(const struct unpu_log *log, size_t size, size_t want)
{
	return size == want ? 0 : unpu_fail(log, -EINVAL, "a params struct is %zu bytes long, not "
					    "%zu: its header is of another version", size, want);
}

static int check_sampler(const struct unpu_log *log, const struct unpu_session_params *p)
{
	int ret = check_size(log, p->size, sizeof(*p));

	if (ret)
		return ret;
	if (!between(p->temperature, 0, 100))
		return unpu_fail(log, -EINVAL, "temperature must be 0 to 100");
	if (!between(p->top_p, 0, 1) || p->top_p == 0)
		return unpu_fail(log, -EINVAL, "top-p must be above 0 and up to 1");
	if (!between(p->min_p, 0, 1))
		return unpu_fail(log, -EINVAL, "min-p must be 0 to 1");
	if (!between(p->repeat_penalty, 0.01f, 100))
		return unpu_fail(log, -EINVAL, "repeat penalty must be 0.01 to 100");
	if (p->flags & ~UNPU_SESSION_NO_END)
		return unpu_fail(log, -EINVAL, "unknown session flags 0x%x", p->flags);
	return 0;
}

static void write_sampler(struct unpu_session *s, const struct unpu_session_params *p)
{
	struct unpu_state_sampler *sampler = (void *)(s->window.ptr + s->work.state.offset +
						      unpu_state_samplers_offset());

	memset(sampler, 0, sizeof(*sampler));
	sampler->temperature = p->temperature;
	sampler->top_k = p->top_k;
	sampler->top_p = p->top_p;
	sampler->min_p = p->min_p;
	sampler->repeat_penalty = p->repeat_penalty;
	sampler->repeat_last_n = p->repeat_last_n;
	sampler->seed[0] = (uint32_t)p->seed;
	sampler->seed[1] = (uint32_t)(p->seed >> 32);
	if (!(p->flags & UNPU_SESSION_NO_END))
		sampler->num_eog = unpu_tokenizer_eog(s->model->tok, sampler->eog, UNPU_MAX_EOG);
	s->seed = p->seed;
	s->flags = p->flags;
}

int unpu_session_set_sampler(struct unpu_session *s, const struct unpu_session_params *params)
{
	int ret = check_sampler(&s->model->log, params);

	if (!ret)
		write_sampler(s, params);
	return ret;
}

/* A quarter of what the kernel says is available; 1 GiB where it does not say. */
static uint64_t memory_for_kv(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 4ull << 20;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024 / 4;
}

static uint32_t default_context(const struct unpu_hparams *hp, uint32_t kv_type)
{
	uint64_t per_cell = hp->layers * unpu_kv_bytes(kv_type, hp->kv_heads, 1, 1, hp->head_dim);
	uint64_t room = memory_for_kv() / per_cell;
	uint32_t context = hp->context < DEFAULT_CONTEXT ? hp->context : DEFAULT_CONTEXT;

	if (room < UNPU_CHUNK)
		room = UNPU_CHUNK;
	return context < room ? context : (uint32_t)room / UNPU_CHUNK * UNPU_CHUNK;
}

static int set_shape(struct unpu_session *s, const struct unpu_session_params *p)
{
	const struct unpu_hparams *hp = &s->model->arch->hp;
	const struct drm_unpu_dev_info *info = &s->model->weights->info;
	struct unpu_shape *shape = &s->work.shape;
	struct unpu_shape want = { .slots = 1, .logit_rows = 1 };

	if ((uint32_t)p->kv > UNPU_KV_F32)
		return unpu_fail(&s->model->log, -EINVAL, "there is no KV type %u",
				 (uint32_t)p->kv);
	want.kv_type = p->kv == UNPU_KV_F32 ? DRM_UNPU_KV_F32 : DRM_UNPU_KV_F16;
	if (!(info->kv_types >> want.kv_type & 1))
		return unpu_fail(&s->model->log, -ENOTSUP, "%s has no %s KV cache", s->dev->id,
				 p->kv == UNPU_KV_F32 ? "f32" : "f16");
	if (p->context > hp->context)
		return unpu_fail(&s->model->log, -EINVAL,
				 "a context of %u is above the model's %u", p->context,
				 hp->context);
	s->context = p->context ? p->context : default_context(hp, want.kv_type);
	want.cells = (s->context + UNPU_CHUNK - 1) / UNPU_CHUNK * UNPU_CHUNK;
	want.chunks = want.cells / UNPU_CHUNK;
	s->batch = p->batch ? p->batch : DEFAULT_BATCH;
	if (s->batch > info->max_rows)
		s->batch = info->max_rows;
	if (s->batch > s->context)
		s->batch = s->context;
	want.rows = s->batch;
	*shape = want;
	unpu_work_sizes(s->model->arch, &want, &s->work);
	return 0;
}

/* ---- life --------------------------------------------------------------------------------- */

static int create(struct unpu_session *s, const struct unpu_session_params *params)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	uint32_t id;
	int ret = check_sampler(&s->model->log, params);

	ret = ret ? ret : set_shape(s, params);
	ret = ret ? ret : create_buffers(s);
	if (ret)
		return ret;
	write_sampler(s, params);
	unpu_compiler_init(&s->compiler, s->model->weights, &s->work);
	ret = s->dev->ops->ctx_create(s->dev, &ctx);
	if (ret)
		return ret;
	s->ctx_id = ctx.ctx_id;
	ret = s->dev->ops->syncobj_create(s->dev, &s->syncobj);
	for (int i = 0; i < PROGRAM_LOGITS && !ret; i++)
		ret = get_program(s, i, &id);
	return ret;
}

int unpu_session_create(struct unpu_model *model, const struct unpu_session_params *params,
			struct unpu_session **session)
{
	struct unpu_session *s;
	int ret;

	if (!model->weights)
		return unpu_fail(&model->log, -EINVAL,
				 "the model was loaded for its tokenizer only");
	s = calloc(1, sizeof(*s));
	if (!s)
		return unpu_fail(&model->log, -ENOMEM, "no memory for a session");
	s->model = model;
	s->dev = model->dev;
	ret = create(s, params);
	if (ret)
		unpu_session_destroy(s);
	else
		*session = s;
	return ret;
}

void unpu_session_destroy(struct unpu_session *s)
{
	if (!s)
		return;
	for (int i = 0; i < NUM_PROGRAMS; i++) {
		struct drm_unpu_program_destroy args = { .program_id = s->programs[i] };

		if (s->programs[i])
			s->dev->ops->program_destroy(s->dev, &args);
	}
	if (s->compiler.weights)
		unpu_compiler_finish(&s->compiler);
	if (s->logits_compiler.weights)
		unpu_compiler_finish(&s->logits_compiler);
	if (s->ctx_id) {
		struct drm_unpu_ctx_destroy args = { .ctx_id = s->ctx_id };

		s->dev->ops->ctx_destroy(s->dev, &args);
	}
	if (s->syncobj)
		s->dev->ops->syncobj_destroy(s->dev, s->syncobj);
	area_destroy(s, &s->logits_area);
	area_destroy(s, &s->kv);
	area_destroy(s, &s->scratch);
	area_destroy(s, &s->window);
	free(s);
}

int unpu_session_info(const struct unpu_session *s, struct unpu_session_info *info)
{
	int ret = check_size(&s->model->log, info->size, sizeof(*info));

	if (ret)
		return ret;
	info->context = s->context;
	info->used = s->used;
	info->seed = s->seed;
	info->kv_bytes = s->kv.bytes;
	info->work_bytes = s->window.bytes + s->scratch.bytes + s->logits_area.bytes;
	info->prompt_tokens = s->prompt_tokens;
	info->prompt_ns = s->prompt_ns;
	info->generated_tokens = s->generated_tokens;
	info->generate_ns = s->generate_ns;
	info->dispatches = s->decode_dispatches;
	return 0;
}
