/* SPDX-License-Identifier: MIT */
/* Sessions through the public API, on tiny models of every architecture and type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/model/arch.h"
#include "runtime/text/tokenizer.h"
#include "runtime/unpu.h"
#include "tests/lib/edit.h"
#include "tests/lib/oracle.h"
#include "tests/lib/tiny.h"

#define NUM_IDS	21

#if defined(__has_feature)
#define FEATURE(x)	__has_feature(x)
#else
#define FEATURE(x)	0
#endif

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const struct {
	uint32_t type;
	const char *name;
	double bound;	/* x max |logit|, class the device's own, f32 KV; design.md §8 */
} types[] = {
	{ UNPU_TYPE_F32, "F32", 2e-4 }, { UNPU_TYPE_F16, "F16", 2e-4 },
	{ UNPU_TYPE_BF16, "BF16", 2e-4 }, { UNPU_TYPE_Q8_0, "Q8_0", 5e-2 },
	{ UNPU_TYPE_Q4_0, "Q4_0", 5e-2 },
};

static char last_log[512];
static int num_errors;

static void log_line(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level != UNPU_LOG_ERROR)
		return;
	num_errors++;
	snprintf(last_log, sizeof(last_log), "%s", text);
}

/* A model and the file's bytes that it uses in place. */
struct subject {
	uint8_t *file;
	size_t size;
	struct unpu_model *model;
};

static void open_subject(struct subject *s, const char *arch, uint32_t type, uint32_t threads,
			 uint32_t flags)
{
	struct tiny_params tiny = { .arch = arch, .type = type, .tied = -1, .seed = 7 };
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;

	params.threads = threads;
	params.flags = flags;
	params.log = log_line;
	s->file = tiny_model(&tiny, &s->size);
	assert_non_null(s->file);
	assert_int_equal(unpu_model_load_memory(s->file, s->size, &params, &s->model), 0);
}

static void close_subject(struct subject *s)
{
	unpu_model_destroy(s->model);
	free(s->file);
}

static uint32_t vocab_of(const struct subject *s)
{
	struct unpu_model_info info = { .size = sizeof(info) };

	assert_int_equal(unpu_model_info(s->model, &info), 0);
	return info.vocab;
}

static uint32_t context_of(const struct subject *s)
{
	struct unpu_model_info info = { .size = sizeof(info) };

	assert_int_equal(unpu_model_info(s->model, &info), 0);
	return info.context;
}

static void make_ids(uint32_t vocab, uint32_t *ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		ids[i] = (i * 37 + 5) % vocab;
}

static struct unpu_session *new_session(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;

	params.kv = kv;
	params.batch = batch;
	params.temperature = 0;
	params.flags = UNPU_SESSION_NO_END;
	assert_int_equal(unpu_session_create(s->model, &params, &session), 0);
	return session;
}

static float *logits_of(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	uint32_t vocab = vocab_of(s), ids[NUM_IDS];
	float *logits = malloc(sizeof(float) * NUM_IDS * vocab);
	struct unpu_session *session = new_session(s, kv, batch);

	make_ids(vocab, ids, NUM_IDS);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	return logits;
}

/* The reference's logits of the same ids. */
static double *reference(const struct subject *s)
{
	uint32_t vocab = vocab_of(s), ids[NUM_IDS];
	double *logits = malloc(sizeof(double) * NUM_IDS * vocab);
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;

	make_ids(vocab, ids, NUM_IDS);
	assert_int_equal(unpu_gguf_create(s->file, s->size, NULL, &gguf), 0);
	assert_int_equal(unpu_arch_create(gguf, NULL, &arch), 0);
	assert_int_equal(oracle_logits(arch, ids, NUM_IDS, logits), 0);
	unpu_arch_destroy(arch);
	unpu_gguf_destroy(gguf);
	return logits;
}

/* Largest difference, as a share of the largest logit. */
static double distance(const float *got, const double *want, size_t n)
{
	double diff = 0, max = 0;

	for (size_t i = 0; i < n; i++) {
		max = fmax(max, fabs(want[i]));
		if (!(fabs(got[i] - want[i]) <= diff))
			diff = fabs(got[i] - want[i]);
	}
	return diff / max;
}

static void check_model(const char *arch, size_t t, uint32_t flags, enum unpu_kv kv, double bound)
{
	struct subject s;
	double *want, far;
	float *got;

	open_subject(&s, arch, types[t].type, 2, flags);
	want = reference(&s);
	got = logits_of(&s, kv, 0);
	far = distance(got, want, (size_t)NUM_IDS * vocab_of(&s));
	if (!(far <= bound))
		print_error("%s %s flags %u kv %d: %g, bound %g\n", arch, types[t].name, flags, kv,
			    far, bound);
	assert_true(far <= bound);
	free(got);
	free(want);
	close_subject(&s);
}

static void logits_match_the_reference(void **state)
{
	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 5; t++) {
			double f16_kv = fmax(types[t].bound, 5e-3);

			check_model(archs[a], t, 0, UNPU_KV_F32, types[t].bound);
			check_model(archs[a], t, 0, UNPU_KV_F16, f16_kv);
			check_model(archs[a], t, UNPU_MODEL_CLASS_F32, UNPU_KV_F32, 2e-4);
		}
}

static void check_purity(const char *arch, uint32_t type, enum unpu_kv kv)
{
	static const uint32_t batches[] = { 1, 3, 7, 32 }, threads[] = { 1, 2, 3, 7 };
	int step = getenv("UNPU_EMULATED") ? 2 : 1;
	float *first = NULL;

	for (int i = 0; i < 4; i += step) {
		struct subject s;
		size_t bytes;

		open_subject(&s, arch, type, threads[i], 0);
		bytes = sizeof(float) * NUM_IDS * vocab_of(&s);
		for (int b = 0; b < 4; b++) {
			float *got = logits_of(&s, kv, batches[b]);

			if (!first)
				first = got;
			assert_memory_equal(first, got, bytes);
			if (first != got)
				free(got);
		}
		close_subject(&s);
	}
	free(first);
}

/* Emulated, every fma is a call on some machines: a third of the models do. */
static bool thin(size_t a, size_t t)
{
	return getenv("UNPU_EMULATED") && (a + 2 * t) % 3;
}

static void rows_are_pure(void **state)
{
	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 5; t++) {
			if (thin(a, t))
				continue;
			check_purity(archs[a], types[t].type, UNPU_KV_F16);
			check_purity(archs[a], types[t].type, UNPU_KV_F32);
		}
}

/* ---- generation --------------------------------------------------------------------------- */

struct collected {
	uint32_t ids[512], count, stop_after;
	char text[8192];
	size_t length;
};

static int collect(void *arg, uint32_t id, const char *text, size_t length)
{
	struct collected *c = arg;

	assert_true(c->length + length < sizeof(c->text));
	memcpy(c->text + c->length, text, length);
	c->length += length;
	if (id == UINT32_MAX)
		return 0;
	assert_true(c->count < 512);
	c->ids[c->count++] = id;
	return c->stop_after && c->count == c->stop_after;
}

static uint32_t argmax(const float *x, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* What decoding one token a step says is what the prompt path says about the same tokens. */
static void decode_equals_prompt(void **state)
{
	(void)state;
	for (size_t a = 0; a < 4; a++)
		for (size_t t = 0; t < 5; t++) {
			struct collected c = { 0 };
			struct unpu_session *one, *two;
			uint32_t vocab, ids[NUM_IDS + 12];
			struct subject s;
			float *logits;

			open_subject(&s, archs[a], types[t].type, 2, 0);
			vocab = vocab_of(&s);
			make_ids(vocab, ids, NUM_IDS);
			one = new_session(&s, UNPU_KV_F16, 0);
			assert_int_equal(unpu_session_prompt(one, ids, NUM_IDS), 0);
			assert_int_equal(unpu_session_generate(one, 12, collect, &c),
					 UNPU_REASON_LENGTH);
			assert_int_equal(c.count, 12);
			memcpy(ids + NUM_IDS, c.ids, 12 * sizeof(*ids));
			logits = malloc(sizeof(float) * (NUM_IDS + 12) * vocab);
			two = new_session(&s, UNPU_KV_F16, 5);
			assert_int_equal(unpu_session_logits(two, ids, NUM_IDS + 12, logits), 0);
			for (uint32_t i = 0; i < 12; i++)
				assert_int_equal(argmax(logits + (NUM_IDS - 1 + i) * vocab, vocab),
						 c.ids[i]);
			free(logits);
			unpu_session_destroy(one);
			unpu_session_destroy(two);
			close_subject(&s);
		}
}

/* Any way of cutting a conversation into calls gives the same tokens. */
static void cuts_do_not_matter(void **state)
{
	struct collected whole = { 0 }, parts = { 0 }, stopped = { .stop_after = 9 };
	struct unpu_session *a, *b, *c;
	uint32_t ids[NUM_IDS];
	float logits[4096];
	struct subject s;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	make_ids(vocab_of(&s), ids, NUM_IDS);
	assert_true(vocab_of(&s) <= 4096);
	a = new_session(&s, UNPU_KV_F16, 0);
	b = new_session(&s, UNPU_KV_F16, 4);
	c = new_session(&s, UNPU_KV_F16, 0);
	assert_int_equal(unpu_session_prompt(a, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(a, 20, collect, &whole), UNPU_REASON_LENGTH);
	assert_int_equal(unpu_session_prompt(a, ids, 2), 0);
	assert_int_equal(unpu_session_generate(a, 20, collect, &whole), UNPU_REASON_LENGTH);

	assert_int_equal(unpu_session_prompt(b, ids, 1), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 1, 9), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 10, 0), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 10, NUM_IDS - 10), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(unpu_session_generate(b, 1, collect, &parts), UNPU_REASON_LENGTH);
	assert_int_equal(unpu_session_prompt(b, ids, 1), 0);
	assert_int_equal(unpu_session_logits(b, ids + 1, 1, logits), 0);
	assert_int_equal(unpu_session_generate(b, 20, collect, &parts), UNPU_REASON_LENGTH);
	assert_int_equal(whole.count, 40);
	assert_int_equal(parts.count, 40);
	assert_memory_equal(whole.ids, parts.ids, sizeof(whole.ids));
	assert_int_equal(whole.length, parts.length);

	assert_int_equal(unpu_session_prompt(c, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(c, 20, collect, &stopped), UNPU_REASON_CALLBACK);
	assert_int_equal(stopped.count, 9);
	stopped.stop_after = 0;
	assert_int_equal(unpu_session_generate(c, 11, collect, &stopped), UNPU_REASON_LENGTH);
	assert_memory_equal(whole.ids, stopped.ids, 20 * sizeof(*ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	unpu_session_destroy(c);
	close_subject(&s);
}

static void sessions_share_a_model(void **state)
{
	struct collected alone = { 0 }, first = { 0 }, second = { 0 };
	struct unpu_session *a, *b;
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	open_subject(&s, "qwen3", UNPU_TYPE_Q4_0, 2, 0);
	make_ids(vocab_of(&s), ids, NUM_IDS);
	a = new_session(&s, UNPU_KV_F16, 0);
	assert_int_equal(unpu_session_prompt(a, ids, 10), 0);
	assert_int_equal(unpu_session_generate(a, 16, collect, &alone), UNPU_REASON_LENGTH);
	unpu_session_destroy(a);

	a = new_session(&s, UNPU_KV_F16, 0);
	b = new_session(&s, UNPU_KV_F32, 0);
	assert_int_equal(unpu_session_prompt(b, ids + 5, 10), 0);
	assert_int_equal(unpu_session_prompt(a, ids, 10), 0);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(unpu_session_generate(b, 1, collect, &second), UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_generate(a, 1, collect, &first), UNPU_REASON_LENGTH);
	}
	assert_memory_equal(alone.ids, first.ids, sizeof(alone.ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	close_subject(&s);
}

static void the_context_has_an_end(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session_info info = { .size = sizeof(info) };
	struct collected c = { 0 };
	struct unpu_session *session;
	uint32_t ids[200] = { 0 };
	struct subject s;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.context = 50;
	params.temperature = 0;
	params.flags = UNPU_SESSION_NO_END;
	assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
	num_errors = 0;
	assert_int_equal(unpu_session_prompt(session, ids, 51), -ENOSPC);
	assert_int_equal(num_errors, 1);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 0);
	assert_int_equal(unpu_session_generate(session, 1, collect, &c), -EINVAL);
	assert_int_equal(unpu_session_prompt(session, ids, 40), 0);
	assert_int_equal(unpu_session_generate(session, 100, collect, &c), UNPU_REASON_CONTEXT);
	assert_int_equal(c.count, 10);
	assert_int_equal(unpu_session_generate(session, 100, collect, &c), UNPU_REASON_CONTEXT);
	assert_int_equal(unpu_session_prompt(session, ids, 1), -ENOSPC);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 50);
	unpu_session_destroy(session);

	params.context = context_of(&s) + 1;
	num_errors = 0;
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	assert_int_equal(num_errors, 1);
	assert_non_null(strstr(last_log, "context"));
	close_subject(&s);
}

static void end_tokens_end(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[] = { 3, 4, 5 }, ends = 0, others = 0;
	struct subject s;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.temperature = 100;	/* near uniform: an end token comes along */
	params.top_k = 0;
	params.top_p = 1;
	params.min_p = 0;
	for (uint64_t seed = 0; seed < 200 && (!ends || !others); seed++) {
		struct collected c = { 0 }, again = { 0 };
		struct unpu_session_info info = { .size = sizeof(info) };
		struct unpu_session *session;
		int reason;

		params.seed = seed;
		assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
		assert_int_equal(unpu_session_prompt(session, ids, 3), 0);
		reason = unpu_session_generate(session, 100, collect, &c);
		assert_int_equal(unpu_session_info(session, &info), 0);
		for (uint32_t i = 0; i < c.count; i++)
			assert_false(unpu_token_is_end(s.model, c.ids[i]));
		if (reason == UNPU_REASON_END) {
			ends++;
			assert_int_equal(info.used, 3 + c.count + 1);
			/* the conversation goes on after it */
			assert_true(unpu_session_generate(session, 2, collect, &again) >= 0);
		} else {
			others++;
			assert_int_equal(reason, UNPU_REASON_LENGTH);
		}
		unpu_session_destroy(session);
	}
	assert_true(ends > 0);
	close_subject(&s);
}

/* A token of the file gets the text of its last byte 1504 times more, which moves the rest of the
 * file by a multiple of its alignment. */
static void lengthen_token(struct subject *s, const char *token)
{
	const size_t more = 1504, length = strlen(token);
	uint8_t *at = memmem(s->file, s->size, token, length);
	size_t end;

	assert_non_null(at);
	at[-8] = (length + more) & 0xff;
	at[-7] = (length + more) >> 8;
	end = (size_t)(at - s->file) + length;
	s->file = realloc(s->file, s->size + more);
	assert_non_null(s->file);
	memmove(s->file + end + more, s->file + end, s->size - end);
	memset(s->file + end, s->file[end - 1], more);
	s->size += more;
}

static size_t whole_characters(const char *bytes, size_t length, char *out)
{
	struct unpu_utf8_stream stream = { .num_held = 0 };
	size_t n = unpu_utf8_stream_push(&stream, bytes, length, out);

	return n + unpu_utf8_stream_flush(&stream, out + n);
}

/* Prompt and generated tokens, but for ids without a token, as one text: its last `count` tokens'
 * part is what the callback got. */
static void check_text(const struct subject *s, const uint32_t *ids, uint32_t prompt,
		       const struct collected *c, uint32_t vocab)
{
	static char bytes[1 << 16], text[3 << 16];
	uint32_t all[512];
	uint32_t n = prompt;
	int64_t begin, end;

	memcpy(all, ids, prompt * sizeof(*ids));
	for (uint32_t i = 0; i < c->count; i++)
		if (c->ids[i] < vocab)
			all[n++] = c->ids[i];
	begin = unpu_detokenize(s->model, all, prompt, NULL, 0);
	end = unpu_detokenize(s->model, all, n, bytes, sizeof(bytes));
	assert_true(begin >= 0 && end >= begin && end <= (int64_t)sizeof(bytes));
	assert_int_equal(whole_characters(bytes + begin, (size_t)(end - begin), text), c->length);
	assert_memory_equal(text, c->text, c->length);
}

/* Tokens of any length, rows of the table that are no token, and texts that begin with a space
 * that is none: what is streamed is what unpu_detokenize() says of the same ids. */
static void the_stream_is_the_text(void **state)
{
	const struct tiny_params tiny = { .arch = "llama", .vocab = 400, .padding = 64,
					   .tied = 1, .seed = 7 };
	const uint32_t prompts[][2] = { { 1, 1 }, { 1, 259 }, { 1, 'a' + 3 } };
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_model_params load = UNPU_MODEL_PARAMS_INIT;
	uint32_t padded = 0, large = 0;
	struct subject s;

	(void)state;
	s.file = tiny_model(&tiny, &s.size);
	assert_non_null(s.file);
	lengthen_token(&s, "word390");
	load.log = log_line;
	load.threads = 1;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &load, &s.model), 0);
	assert_int_equal(vocab_of(&s), 400 + 64);
	params.temperature = 100;
	params.top_k = 0;
	params.top_p = 1;
	params.min_p = 0;
	params.flags = UNPU_SESSION_NO_END;
	num_errors = 0;
	for (params.seed = 0; params.seed < 12; params.seed++) {
		const uint32_t *prompt = prompts[params.seed % 3];
		struct collected c = { 0 };
		struct unpu_session *session;

		assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
		assert_int_equal(unpu_session_prompt(session, prompt, 2), 0);
		assert_int_equal(unpu_session_generate(session, 100, collect, &c),
				 UNPU_REASON_LENGTH);
		unpu_session_flush(session, collect, &c);
		for (uint32_t i = 0; i < c.count; i++) {
			padded += c.ids[i] >= 400;
			large += c.ids[i] == 390;
		}
		check_text(&s, prompt, 2, &c, 400);
		unpu_session_destroy(session);
	}
	assert_true(padded && large);
	assert_int_equal(num_errors, 0);
	close_subject(&s);
}

struct talker {
	pthread_t thread;
	const struct subject *s;
	uint32_t first;
	struct collected c;
};

static void *talk(void *arg)
{
	struct talker *t = arg;
	struct unpu_session *session = new_session(t->s, UNPU_KV_F16, 4);
	uint32_t ids[NUM_IDS];

	make_ids(vocab_of(t->s), ids, NUM_IDS);
	unpu_session_prompt(session, ids + t->first, 10);
	unpu_session_generate(session, 24, collect, &t->c);
	unpu_session_destroy(session);
	return NULL;
}

/* Sessions made, used and ended by threads at the same time say what they say alone. */
static void sessions_have_their_threads(void **state)
{
	struct talker alone[3] = { { 0 } }, together[3] = { { 0 } };
	struct subject s;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	for (uint32_t i = 0; i < 3; i++) {
		alone[i].s = together[i].s = &s;
		alone[i].first = together[i].first = i;
		talk(&alone[i]);
		assert_int_equal(alone[i].c.count, 24);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&together[i].thread, NULL, talk, &together[i]), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(together[i].thread, NULL);
		assert_memory_equal(&alone[i].c, &together[i].c, sizeof(alone[i].c));
	}
	close_subject(&s);
}

static void sample_run(const struct subject *s, uint64_t seed, struct collected *c)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	uint32_t ids[] = { 3, 4, 5 };

	params.seed = seed;
	params.temperature = 2;
	params.flags = UNPU_SESSION_NO_END;
	assert_int_equal(unpu_session_create(s->model, &params, &session), 0);
	assert_int_equal(unpu_session_prompt(session, ids, 3), 0);
	assert_int_equal(unpu_session_generate(session, 30, collect, c), UNPU_REASON_LENGTH);
	unpu_session_destroy(session);
}

static void seeds_repeat(void **state)
{
	struct collected a = { 0 }, b = { 0 }, c = { 0 };
	struct subject s, other_threads;

	(void)state;
	open_subject(&s, "qwen2", UNPU_TYPE_Q8_0, 1, 0);
	open_subject(&other_threads, "qwen2", UNPU_TYPE_Q8_0, 3, 0);
	sample_run(&s, 1, &a);
	sample_run(&other_threads, 1, &b);
	sample_run(&s, 2, &c);
	assert_memory_equal(a.ids, b.ids, sizeof(a.ids));
	assert_true(memcmp(a.ids, c.ids, sizeof(a.ids)) != 0);
	close_subject(&s);
	close_subject(&other_threads);
}

static void bad_settings_are_named(void **state)
{
	static const struct {
		const char *word;
		struct unpu_session_params params;
	} cases[] = {
		{ "temperature", { .temperature = -1, .top_p = 1, .repeat_penalty = 1 } },
		{ "temperature", { .temperature = NAN, .top_p = 1, .repeat_penalty = 1 } },
		{ "top-p", { .top_p = 0, .repeat_penalty = 1 } },
		{ "top-p", { .top_p = 1.5f, .repeat_penalty = 1 } },
		{ "min-p", { .top_p = 1, .min_p = -0.5f, .repeat_penalty = 1 } },
		{ "repeat", { .top_p = 1, .repeat_penalty = 0 } },
		{ "flags", { .top_p = 1, .repeat_penalty = 1, .flags = 2 } },
		{ "KV", { .top_p = 1, .repeat_penalty = 1, .kv = UNPU_KV_INT8 + 1 } },
		{ "size", { .size = 8 } },
	};
	struct subject s;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct unpu_session_params params = cases[i].params;
		struct unpu_session *session = NULL;

		params.size = params.size ? params.size : sizeof(params);
		num_errors = 0;
		assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
		assert_null(session);
		assert_int_equal(num_errors, 1);
		assert_non_null(strstr(last_log, cases[i].word));
	}
	close_subject(&s);
}

/* The memory for logits is asked for at the first call: without it nothing has happened. */
static void logits_want_memory(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	FEATURE(address_sanitizer) || FEATURE(thread_sanitizer)
	(void)state;
	print_message("a sanitizer itself ends without memory\n");
	skip();
#else
	struct unpu_session_info info = { .size = sizeof(info) };
	struct rlimit all, none;
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];
	uint64_t work_bytes;
	struct subject s;
	float *logits;
	void *page;
	int ret;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_F32, 1, 0);
	make_ids(vocab_of(&s), ids, NUM_IDS);
	session = new_session(&s, UNPU_KV_F16, 0);
	logits = calloc(NUM_IDS * (size_t)vocab_of(&s), sizeof(*logits));
	assert_int_equal(unpu_session_info(session, &info), 0);
	work_bytes = info.work_bytes;
	assert_int_equal(getrlimit(RLIMIT_AS, &all), 0);
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = all.rlim_max };
	num_errors = 0;
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ret = unpu_session_logits(session, ids, NUM_IDS, logits);
	assert_int_equal(setrlimit(RLIMIT_AS, &all), 0);
	if (page != MAP_FAILED) {
		munmap(page, 4096);
		unpu_session_destroy(session);
		free(logits);
		close_subject(&s);
		print_message("under qemu RLIMIT_AS does not limit the program\n");
		skip();
	}
	assert_int_equal(ret, -ENOMEM);
	assert_int_equal(num_errors, 1);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 0);
	assert_int_equal(info.work_bytes, work_bytes);
	assert_int_equal(unpu_session_logits(session, ids, NUM_IDS, logits), 0);
	unpu_session_destroy(session);
	free(logits);
	close_subject(&s);
#endif
}

static void bad_tokens_are_refused(void **state)
{
	struct unpu_session *session;
	uint32_t ids[2] = { 1, 0 };
	struct subject s;

	(void)state;
	open_subject(&s, "gpt2", UNPU_TYPE_F16, 1, 0);
	session = new_session(&s, UNPU_KV_F16, 0);
	ids[1] = vocab_of(&s);
	num_errors = 0;
	assert_int_equal(unpu_session_prompt(session, ids, 2), -EINVAL);
	assert_int_equal(num_errors, 1);
	ids[1] = UINT32_MAX;
	assert_int_equal(unpu_session_prompt(session, ids, 2), -EINVAL);
	unpu_session_destroy(session);
	close_subject(&s);
}

static void vocab_only_has_no_sessions(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	struct subject s;
	uint32_t ids[16];

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_F32, 1, UNPU_MODEL_VOCAB_ONLY);
	assert_true(unpu_tokenize(s.model, "abc", 3, 0, ids, 16) > 0);
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	close_subject(&s);
}

/* Looking at a file needs neither a device nor an architecture that runs. */
static void any_file_can_be_looked_at(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model_info info = { .size = sizeof(info) };
	struct unpu_tensor_info tensor;
	struct subject s;
	struct edit edit;
	uint8_t *arch;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	unpu_model_destroy(s.model);
	params.flags = UNPU_MODEL_INFO_ONLY;
	params.log = log_line;
	num_errors = 0;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_int_equal(info.weight_bytes, 0);
	assert_string_equal(info.device, "none");
	assert_true(info.layers > 0 && info.context > 0 && info.vocab > 0);
	assert_string_equal(info.weight_type, "Q8_0");
	/* a type of other runtimes, smaller */
	edit = (struct edit){ s.file, s.size };
	for (uint32_t i = 0; !unpu_model_tensor(s.model, i, &tensor); i++)
		if (!strcmp(tensor.type, "Q8_0"))
			edit_type(&edit, tensor.name, 20);
	unpu_model_destroy(s.model);
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_string_equal(info.weight_type, "IQ4_NL");
	unpu_model_destroy(s.model);

	/* the value of general.architecture follows its key, type and length */
	arch = memmem(s.file, s.size, "general.architecture", 20);
	assert_non_null(arch);
	memcpy(arch + 20 + 4 + 8, "lambd", 5);
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
	assert_int_equal(unpu_model_info(s.model, &info), 0);
	assert_int_equal(info.layers, 0);
	assert_string_equal(info.architecture, "lambd");
	assert_int_equal(unpu_model_tensor(s.model, 0, &tensor), 0);
	assert_int_equal(num_errors, 0);
	close_subject(&s);
}

/* An offset inside a file, not a multiple of a page or of the file's alignment. */
static void files_may_lie_in_files(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	char path[] = "/tmp/unpu-session-XXXXXX";
	struct subject s, in_file = { 0 };
	float *want, *got;
	int fd;

	(void)state;
	open_subject(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, s.file, s.size, 4096 + 13), (ssize_t)s.size);
	assert_int_equal(unpu_model_load_fd(fd, 4096 + 13, s.size, &params, &in_file.model), 0);
	close(fd);
	want = logits_of(&s, UNPU_KV_F16, 0);
	got = logits_of(&in_file, UNPU_KV_F16, 0);
	assert_memory_equal(want, got, sizeof(float) * NUM_IDS * vocab_of(&s));
	free(want);
	free(got);
	close_subject(&s);
	unpu_model_destroy(in_file.model);
}

/* A name that comes from elsewhere neither commands a terminal nor begins a line. */
static void messages_are_text(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;

	(void)state;
	params.log = log_line;
	assert_int_equal(unpu_model_load("/none/a\x1b[2J\nb\xc2\x9b" "2J\xc3\x9b\x7f", &params,
					 &model), -ENOENT);
	assert_ptr_equal(strstr(last_log, "/none/a?[2J?b??2J\xc3\x9b?: "), last_log);
}

/* 3 GiB of nothing: more than 32 bits map, and no model anywhere. */
static void large_files_are_named(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	char path[] = "/tmp/unpu-session-XXXXXX";
	struct unpu_model *model;
	int fd = mkstemp(path), ret;

	(void)state;
	params.log = log_line;
	num_errors = 0;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 3ll << 30), 0);
	ret = unpu_model_load(path, &params, &model);
	unlink(path);
	close(fd);
	assert_int_equal(ret, sizeof(void *) == 4 ? -EFBIG : -EINVAL);
	assert_int_equal(num_errors, 1);
}

static int temporary_file(const struct subject *s)
{
	char path[] = "/tmp/unpu-session-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, s->file, s->size, 0), (ssize_t)s->size);
	return fd;
}

/* A table that no head shares stays in the file's pages, and gives what a packed one gives. */
static void untied_embeddings_stay_in_the_file(void **state)
{
	(void)state;
	for (size_t t = 0; t < 5; t++) {
		struct tiny_params tiny = { .arch = "llama", .type = types[t].type, .tied = 0 };
		struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
		struct unpu_model_info packed = { .size = sizeof(packed) };
		struct unpu_model_info mapped = { .size = sizeof(mapped) };
		struct subject memory, file;
		float *want, *got;
		int fd;

		memory.file = tiny_model(&tiny, &memory.size);
		fd = temporary_file(&memory);
		file = memory;
		assert_int_equal(unpu_model_load_memory(memory.file, memory.size, &params,
							&memory.model), 0);
		assert_int_equal(unpu_model_load_fd(fd, 0, file.size, &params, &file.model), 0);
		close(fd);
		assert_int_equal(unpu_model_info(memory.model, &packed), 0);
		assert_int_equal(unpu_model_info(file.model, &mapped), 0);
		assert_true(mapped.weight_bytes < packed.weight_bytes);
		want = logits_of(&memory, UNPU_KV_F16, 0);
		got = logits_of(&file, UNPU_KV_F16, 0);
		assert_memory_equal(want, got, sizeof(float) * NUM_IDS * packed.vocab);
		free(want);
		free(got);
		unpu_model_destroy(file.model);
		close_subject(&memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(logits_match_the_reference),
		cmocka_unit_test(rows_are_pure),
		cmocka_unit_test(decode_equals_prompt),
		cmocka_unit_test(cuts_do_not_matter),
		cmocka_unit_test(sessions_share_a_model),
		cmocka_unit_test(the_context_has_an_end),
		cmocka_unit_test(end_tokens_end),
		cmocka_unit_test(the_stream_is_the_text),
		cmocka_unit_test(sessions_have_their_threads),
		cmocka_unit_test(seeds_repeat),
		cmocka_unit_test(bad_settings_are_named),
		cmocka_unit_test(bad_tokens_are_refused),
		cmocka_unit_test(logits_want_memory),
		cmocka_unit_test(vocab_only_has_no_sessions),
		cmocka_unit_test(any_file_can_be_looked_at),
		cmocka_unit_test(files_may_lie_in_files),
		cmocka_unit_test(messages_are_text),
		cmocka_unit_test(large_files_are_named),
		cmocka_unit_test(untied_embeddings_stay_in_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
