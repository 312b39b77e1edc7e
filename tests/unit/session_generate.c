/* SPDX-License-Identifier: MIT */
/* Generation through the public API, on tiny models of every architecture and type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "runtime/text/tokenizer.h"
#include "tests/lib/subject.h"

#define NUM_IDS	21

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const uint32_t types[] = { UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16, UNPU_TYPE_Q8_0,
				  UNPU_TYPE_Q4_0 };

static struct unpu_session *new_session(const struct subject *s, enum unpu_kv kv, uint32_t batch)
{
	struct unpu_session_params params = subject_params();

	params.kv = kv;
	params.batch = batch;
	return subject_session(s, &params);
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
			struct subject_text c = { 0 };
			struct unpu_session *one, *two;
			uint32_t vocab, ids[NUM_IDS + 12];
			struct subject s;
			float *logits;

			subject_open(&s, archs[a], types[t], 2, 0);
			vocab = s.vocab;
			subject_ids(&s, ids, NUM_IDS);
			one = new_session(&s, UNPU_KV_F16, 0);
			assert_int_equal(unpu_session_prompt(one, ids, NUM_IDS), 0);
			assert_int_equal(unpu_session_generate(one, 12, subject_collect, &c),
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
			subject_close(&s);
		}
}

/* Any way of cutting a conversation into calls gives the same tokens. */
static void cuts_do_not_matter(void **state)
{
	struct subject_text whole = { 0 }, parts = { 0 }, stopped = { .stop_after = 9 };
	struct unpu_session *a, *b, *c;
	uint32_t ids[NUM_IDS];
	float logits[4096];
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	subject_ids(&s, ids, NUM_IDS);
	assert_true(s.vocab <= 4096);
	a = new_session(&s, UNPU_KV_F16, 0);
	b = new_session(&s, UNPU_KV_F16, 4);
	c = new_session(&s, UNPU_KV_F16, 0);
	assert_int_equal(unpu_session_prompt(a, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(a, 20, subject_collect, &whole), UNPU_REASON_LENGTH);
	assert_int_equal(unpu_session_prompt(a, ids, 2), 0);
	assert_int_equal(unpu_session_generate(a, 20, subject_collect, &whole), UNPU_REASON_LENGTH);

	assert_int_equal(unpu_session_prompt(b, ids, 1), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 1, 9), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 10, 0), 0);
	assert_int_equal(unpu_session_prompt(b, ids + 10, NUM_IDS - 10), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(unpu_session_generate(b, 1, subject_collect, &parts),
				 UNPU_REASON_LENGTH);
	assert_int_equal(unpu_session_prompt(b, ids, 1), 0);
	assert_int_equal(unpu_session_logits(b, ids + 1, 1, logits), 0);
	assert_int_equal(unpu_session_generate(b, 20, subject_collect, &parts), UNPU_REASON_LENGTH);
	assert_int_equal(whole.count, 40);
	assert_int_equal(parts.count, 40);
	assert_memory_equal(whole.ids, parts.ids, sizeof(whole.ids));
	assert_int_equal(whole.length, parts.length);

	assert_int_equal(unpu_session_prompt(c, ids, NUM_IDS), 0);
	assert_int_equal(unpu_session_generate(c, 20, subject_collect, &stopped),
			 UNPU_REASON_CALLBACK);
	assert_int_equal(stopped.count, 9);
	stopped.stop_after = 0;
	assert_int_equal(unpu_session_generate(c, 11, subject_collect, &stopped),
			 UNPU_REASON_LENGTH);
	assert_memory_equal(whole.ids, stopped.ids, 20 * sizeof(*ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	unpu_session_destroy(c);
	subject_close(&s);
}

static void sessions_share_a_model(void **state)
{
	struct subject_text alone = { 0 }, first = { 0 }, second = { 0 };
	struct unpu_session *a, *b;
	uint32_t ids[NUM_IDS];
	struct subject s;

	(void)state;
	subject_open(&s, "qwen3", UNPU_TYPE_Q4_0, 2, 0);
	subject_ids(&s, ids, NUM_IDS);
	a = new_session(&s, UNPU_KV_F16, 0);
	assert_int_equal(unpu_session_prompt(a, ids, 10), 0);
	assert_int_equal(unpu_session_generate(a, 16, subject_collect, &alone), UNPU_REASON_LENGTH);
	unpu_session_destroy(a);

	a = new_session(&s, UNPU_KV_F16, 0);
	b = new_session(&s, UNPU_KV_F32, 0);
	assert_int_equal(unpu_session_prompt(b, ids + 5, 10), 0);
	assert_int_equal(unpu_session_prompt(a, ids, 10), 0);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(unpu_session_generate(b, 1, subject_collect, &second),
				 UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_generate(a, 1, subject_collect, &first),
				 UNPU_REASON_LENGTH);
	}
	assert_memory_equal(alone.ids, first.ids, sizeof(alone.ids));
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	subject_close(&s);
}

static void the_context_has_an_end(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
	struct subject_text c = { 0 };
	struct unpu_session *session;
	struct unpu_model_info model = UNPU_MODEL_INFO_INIT;
	uint32_t ids[200] = { 0 };
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.context = 50;
	params.temperature = 0;
	params.flags = UNPU_SESSION_NO_END;
	assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
	subject_errors = 0;
	assert_int_equal(unpu_session_prompt(session, ids, 51), -ENOSPC);
	assert_int_equal(subject_errors, 1);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 0);
	assert_int_equal(unpu_session_generate(session, 1, subject_collect, &c), -EINVAL);
	assert_int_equal(unpu_session_prompt(session, ids, 40), 0);
	assert_int_equal(unpu_session_generate(session, 100, subject_collect, &c),
			 UNPU_REASON_CONTEXT);
	assert_int_equal(c.count, 10);
	assert_int_equal(unpu_session_generate(session, 100, subject_collect, &c),
			 UNPU_REASON_CONTEXT);
	assert_int_equal(unpu_session_prompt(session, ids, 1), -ENOSPC);
	assert_int_equal(unpu_session_info(session, &info), 0);
	assert_int_equal(info.used, 50);
	unpu_session_destroy(session);

	assert_int_equal(unpu_model_info(s.model, &model), 0);
	params.context = model.context + 1;
	subject_errors = 0;
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "context"));
	subject_close(&s);
}

static void end_tokens_end(void **state)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[] = { 3, 4, 5 }, ends = 0, others = 0;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.temperature = 100;	/* near uniform: an end token comes along */
	params.top_k = 0;
	params.top_p = 1;
	params.min_p = 0;
	for (uint64_t seed = 0; seed < 200 && (!ends || !others); seed++) {
		struct subject_text c = { 0 }, again = { 0 };
		struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
		struct unpu_session *session;
		int reason;

		params.seed = seed;
		assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
		assert_int_equal(unpu_session_prompt(session, ids, 3), 0);
		reason = unpu_session_generate(session, 100, subject_collect, &c);
		assert_int_equal(unpu_session_info(session, &info), 0);
		for (uint32_t i = 0; i < c.count; i++)
			assert_false(unpu_token_is_end(s.model, c.ids[i]));
		if (reason == UNPU_REASON_END) {
			ends++;
			assert_int_equal(info.used, 3 + c.count + 1);
			/* the conversation goes on after it */
			reason = unpu_session_generate(session, 2, subject_collect, &again);
			assert_true(reason >= 0);
		} else {
			others++;
			assert_int_equal(reason, UNPU_REASON_LENGTH);
		}
		unpu_session_destroy(session);
	}
	assert_true(ends > 0);
	subject_close(&s);
}

/* The file's tokens from `first` on get other texts, as long as the old ones taken together. */
static void rename_tokens(struct subject *s, const char *first, const char *const *texts, size_t n)
{
	const size_t length = strlen(first);
	uint8_t *at = memmem(s->file, s->size, first, length), *end;

	assert_non_null(at);
	at -= sizeof(uint64_t);
	end = at + n * (sizeof(uint64_t) + length);
	for (size_t i = 0; i < n; i++) {
		uint64_t bytes = strlen(texts[i]);

		memcpy(at, &bytes, sizeof(bytes));
		memcpy(at + sizeof(bytes), texts[i], bytes);
		at += sizeof(bytes) + bytes;
	}
	assert_ptr_equal(at, end);
}

/* A device holds 8 (UNPU_MAX_EOG); the text ends at each of these 10. */
static void any_number_of_ends(void **state)
{
	static const char *const texts[] = {
		"<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>",
		"<end_of_turn>", "<|end|>", "<|EOT|>", "<EOT>", "~1", "~2", "~3", "~", "^",
	};
	struct unpu_model_params model_params = UNPU_MODEL_PARAMS_INIT;
	uint32_t ids[NUM_IDS], ends = 0;
	struct subject s;

	(void)state;
	subject_open_tiny(&s, &(struct tiny_params){ .arch = "llama", .type = UNPU_TYPE_F32,
						     .tied = -1, .vocab = 512 }, 1, 0);
	unpu_model_destroy(s.model);
	rename_tokens(&s, "word400", texts, sizeof(texts) / sizeof(texts[0]));
	model_params.log = subject_log_line;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &model_params, &s.model), 0);
	subject_ids(&s, ids, NUM_IDS);
	for (uint32_t id = 0; id < s.vocab; id++) {
		struct unpu_session_params params = subject_params();
		const struct unpu_logit_bias bias = { id, 100 };
		struct subject_text c = { 0 };
		struct unpu_session *session;

		if (!unpu_token_is_end(s.model, id))
			continue;
		ends++;
		params.flags = 0;
		params.bias = &bias;
		params.num_bias = 1;
		session = subject_session(&s, &params);
		assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
		assert_int_equal(unpu_session_generate(session, 3, subject_collect, &c),
				 UNPU_REASON_END);
		assert_int_equal(c.count, 0);
		unpu_session_destroy(session);
	}
	assert_int_equal(ends, 10);
	subject_close(&s);
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
		       const struct subject_text *c, uint32_t vocab)
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
	load.log = subject_log_line;
	load.threads = 1;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &load, &s.model), 0);
	params.temperature = 100;
	params.top_k = 0;
	params.top_p = 1;
	params.min_p = 0;
	params.flags = UNPU_SESSION_NO_END;
	subject_errors = 0;
	for (params.seed = 0; params.seed < 12; params.seed++) {
		const uint32_t *prompt = prompts[params.seed % 3];
		struct subject_text c = { 0 };
		struct unpu_session *session;

		assert_int_equal(unpu_session_create(s.model, &params, &session), 0);
		assert_int_equal(unpu_session_prompt(session, prompt, 2), 0);
		assert_int_equal(unpu_session_generate(session, 100, subject_collect, &c),
				 UNPU_REASON_LENGTH);
		unpu_session_flush(session, subject_collect, &c);
		for (uint32_t i = 0; i < c.count; i++) {
			padded += c.ids[i] >= 400;
			large += c.ids[i] == 390;
		}
		check_text(&s, prompt, 2, &c, 400);
		unpu_session_destroy(session);
	}
	assert_true(padded && large);
	assert_int_equal(subject_errors, 0);
	subject_close(&s);
}

struct talker {
	pthread_t thread;
	const struct subject *s;
	uint32_t first;
	struct subject_text c;
};

static void *talk(void *arg)
{
	struct talker *t = arg;
	struct unpu_session *session = new_session(t->s, UNPU_KV_F16, 4);
	uint32_t ids[NUM_IDS];

	subject_ids(t->s, ids, NUM_IDS);
	unpu_session_prompt(session, ids + t->first, 10);
	unpu_session_generate(session, 24, subject_collect, &t->c);
	unpu_session_destroy(session);
	return NULL;
}

/* Sessions made, used and ended by threads at the same time say what they say alone. */
static void sessions_have_their_threads(void **state)
{
	struct talker alone[3] = { { 0 } }, together[3] = { { 0 } };
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
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
	subject_close(&s);
}

static void sample_run(const struct subject *s, uint64_t seed, struct subject_text *c)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	uint32_t ids[] = { 3, 4, 5 };

	params.seed = seed;
	params.temperature = 2;
	params.flags = UNPU_SESSION_NO_END;
	assert_int_equal(unpu_session_create(s->model, &params, &session), 0);
	assert_int_equal(unpu_session_prompt(session, ids, 3), 0);
	assert_int_equal(unpu_session_generate(session, 30, subject_collect, c),
			 UNPU_REASON_LENGTH);
	unpu_session_destroy(session);
}

static void seeds_repeat(void **state)
{
	struct subject_text a = { 0 }, b = { 0 }, c = { 0 };
	struct subject s, other_threads;

	(void)state;
	subject_open(&s, "qwen2", UNPU_TYPE_Q8_0, 1, 0);
	subject_open(&other_threads, "qwen2", UNPU_TYPE_Q8_0, 3, 0);
	sample_run(&s, 1, &a);
	sample_run(&other_threads, 1, &b);
	sample_run(&s, 2, &c);
	assert_memory_equal(a.ids, b.ids, sizeof(a.ids));
	assert_true(memcmp(a.ids, c.ids, sizeof(a.ids)) != 0);
	subject_close(&s);
	subject_close(&other_threads);
}

/* Stopped, with other settings, a little back and to the context's end. */
static void talk_in_parts(const struct subject *s, struct subject_text *c)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	uint32_t ids[NUM_IDS];

	subject_ids(s, ids, NUM_IDS);
	params.context = 60;
	params.temperature = 2;
	params.flags = UNPU_SESSION_NO_END;
	session = subject_session(s, &params);
	assert_int_equal(unpu_session_prompt(session, ids, NUM_IDS), 0);
	for (uint32_t i = 0; i < 9; i++) {
		c->stop_after = c->count + 1 + i % 3;
		assert_int_equal(unpu_session_generate(session, 9, subject_collect, c),
				 UNPU_REASON_CALLBACK);
		params.seed++;
		assert_int_equal(unpu_session_set_sampler(session, &params), 0);
		if (i % 4 == 3)
			assert_int_equal(unpu_session_rollback(session, subject_info(session).used
							       - 2), 0);
	}
	c->stop_after = 0;
	assert_int_equal(unpu_session_generate(session, 99, subject_collect, c),
			 UNPU_REASON_CONTEXT);
	unpu_session_destroy(session);
}

/* However many tokens a submit carries, what was sampled past a stop is forgotten. */
static void submits_of_several_tokens(void **state)
{
	struct subject_text alone = { 0 };
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	talk_in_parts(&s, &alone);
	assert_int_equal(alone.count, 60 - NUM_IDS + 4);
	for (uint32_t n = 2; n < 10; n++) {
		struct subject_text c = { 0 };

		s.model->home->weights->info.tokens_per_submit = n;
		talk_in_parts(&s, &c);
		assert_memory_equal(&c, &alone, sizeof(c));
	}
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decode_equals_prompt),
		cmocka_unit_test(cuts_do_not_matter),
		cmocka_unit_test(sessions_share_a_model),
		cmocka_unit_test(the_context_has_an_end),
		cmocka_unit_test(end_tokens_end),
		cmocka_unit_test(any_number_of_ends),
		cmocka_unit_test(the_stream_is_the_text),
		cmocka_unit_test(sessions_have_their_threads),
		cmocka_unit_test(seeds_repeat),
		cmocka_unit_test(submits_of_several_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
