/* SPDX-License-Identifier: MIT */
/* Drafts change how long a text takes and nothing of the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "tests/lib/gpuish.h"
#include "tests/lib/subject.h"

#define LENGTH	96

static uint64_t drafted, accepted;

/* A prompt that says things twice, so that there are drafts from the start. */
static void prompt(const struct subject *s, struct unpu_session *session)
{
	uint32_t ids[24];

	subject_ids(s, ids, 12);
	memcpy(ids + 12, ids, 12 * sizeof(*ids));
	assert_int_equal(unpu_session_prompt(session, ids, 20), 0);
}

/* The same text without drafts and with up to `most`, in calls of `cut` tokens. */
static void compare(const struct subject *s, struct unpu_session_params params, uint32_t most,
		    uint32_t cut)
{
	struct subject_text plain = { 0 }, fast = { 0 };
	struct unpu_session *a = subject_session(s, &params), *b;
	int reason = 0;

	params.speculate = most;
	b = subject_session(s, &params);
	prompt(s, a);
	prompt(s, b);
	assert_int_equal(unpu_session_generate(a, LENGTH, subject_collect, &plain), 0);
	while (fast.count < LENGTH && !reason)
		reason = unpu_session_generate(b, cut < LENGTH - fast.count ? cut :
					       LENGTH - fast.count, subject_collect, &fast);
	assert_int_equal(reason, 0);
	assert_int_equal(fast.count, LENGTH);
	assert_memory_equal(fast.ids, plain.ids, sizeof(plain.ids));
	assert_int_equal(fast.length, plain.length);
	assert_memory_equal(fast.text, plain.text, plain.length);
	drafted += subject_info(b).drafted_tokens;
	accepted += subject_info(b).accepted_tokens;
	assert_int_equal(subject_info(a).drafted_tokens, 0);
	assert_int_equal(subject_info(b).generated_tokens, LENGTH);
	subject_assert_equal(a, b, s->vocab);
	unpu_session_destroy(a);
	unpu_session_destroy(b);
}

/* Greedy; drawn, where a draw is the place's; with penalties, which look at what was drafted. */
static void all_settings(const struct subject *s, enum unpu_kv kv)
{
	struct unpu_session_params params = subject_params();

	params.kv = kv;
	compare(s, params, 4, LENGTH);
	compare(s, params, 15, 7);
	params.temperature = 0.3f;
	params.seed = 5;
	compare(s, params, 3, LENGTH);
	params.repeat_penalty = 1.1f;
	params.frequency_penalty = 0.2f;
	params.repeat_last_n = 6;
	compare(s, params, 5, 13);
	params.temperature = 0;
	compare(s, params, 5, LENGTH);
}

static void the_text_is_the_same(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
	static const uint32_t types[] = { UNPU_TYPE_F32, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0,
					  UNPU_TYPE_F16 };
	struct subject s;

	(void)state;
	drafted = accepted = 0;
	for (size_t i = 0; i < 4; i++) {
		subject_open(&s, archs[i], types[i], 1 + i % 3, 0);
		all_settings(&s, UNPU_KV_F16);
		if (!getenv("UNPU_SUBJECT_DEVICE"))
			all_settings(&s, UNPU_KV_INT8);
		subject_close(&s);
	}
	/* Both ways of a draft were gone. */
	assert_true(accepted > 100);
	assert_true(drafted > accepted + 100);
}

static void a_batch_bounds_the_drafts(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	for (params.batch = 1; params.batch <= 4; params.batch++) {
		drafted = 0;
		compare(&s, params, 15, LENGTH);
		assert_true(params.batch > 1 ? drafted > 0 : !drafted);
	}
	subject_close(&s);
}

static void the_context_has_an_end(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 2, 0);
	for (params.context = 40; params.context < 46; params.context++) {
		struct subject_text plain = { 0 }, fast = { 0 };
		struct unpu_session *a, *b;

		params.speculate = 0;
		a = subject_session(&s, &params);
		params.speculate = 7;
		b = subject_session(&s, &params);
		prompt(&s, a);
		prompt(&s, b);
		assert_int_equal(unpu_session_generate(a, 99, subject_collect, &plain),
				 UNPU_REASON_CONTEXT);
		assert_int_equal(unpu_session_generate(b, 99, subject_collect, &fast),
				 UNPU_REASON_CONTEXT);
		assert_int_equal(plain.count, params.context - 20);
		assert_memory_equal(&plain, &fast, sizeof(plain));
		unpu_session_destroy(a);
		unpu_session_destroy(b);
	}
	subject_close(&s);
}

/* In the midst of a step's tokens: what comes after them was not. */
static void a_text_ends_anywhere(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject_text all = { 0 };
	struct unpu_session *whole;
	uint64_t right = 0;
	struct subject s;

	(void)state;
	subject_open(&s, "qwen2", UNPU_TYPE_Q4_0, 2, 0);
	params.speculate = 6;
	whole = subject_session(&s, &params);
	prompt(&s, whole);
	assert_int_equal(unpu_session_generate(whole, 60, subject_collect, &all), 0);
	for (uint32_t end = 1; end < 60; end++) {
		struct subject_text c = { .stop_after = end };
		struct unpu_session *b = subject_session(&s, &params);

		prompt(&s, b);
		assert_int_equal(unpu_session_generate(b, 60, subject_collect, &c),
				 UNPU_REASON_CALLBACK);
		assert_int_equal(c.count, end);
		assert_int_equal(subject_info(b).used, 20 + end);
		/* A token more is a draft more or none: what the text has not is not counted. */
		assert_in_range(subject_info(b).accepted_tokens - right, 0, 1);
		right = subject_info(b).accepted_tokens;
		c.stop_after = 0;
		assert_int_equal(unpu_session_generate(b, 60 - end, subject_collect, &c), 0);
		assert_memory_equal(c.ids, all.ids, 60 * sizeof(*c.ids));
		subject_assert_equal(whole, b, s.vocab);
		unpu_session_destroy(b);
	}
	unpu_session_destroy(whole);
	assert_true(right > 4);
	subject_close(&s);
}

/* Learned positions from `first` on are no numbers: so are the logits of tokens there. */
static void spoil_positions(struct subject *s, uint32_t first)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	const uint32_t hidden = s->model->arch->hp.hidden;
	const struct unpu_tensor *t = s->model->arch->positions;
	size_t at = (size_t)(t->data - s->file);

	assert_int_equal(t->type, UNPU_TYPE_F32);
	memset(s->file + at + 4ul * hidden * first, 0xff, t->bytes - 4ul * hidden * first);
	unpu_model_destroy(s->model);
	params.device = "cpu";
	params.threads = 1;
	params.log = subject_log_line;
	assert_int_equal(unpu_model_load_memory(s->file, s->size, &params, &s->model), 0);
	subject_errors = 0;
}

/* A text that ends before them never knows; one that comes there fails with drafts and without. */
static void drafts_without_finite_logits(void **state)
{
	struct unpu_session_params params = subject_params();
	uint64_t drafts = 0;

	(void)state;
	for (uint32_t end = 2; end < 30; end++) {
		struct subject_text want = { .stop_after = end }, got = { .stop_after = end };
		struct unpu_session *a, *b;
		struct subject s;

		subject_device = "cpu";
		subject_open(&s, "gpt2", UNPU_TYPE_F32, 1, 0);
		subject_device = NULL;
		spoil_positions(&s, 20 + end - 1);
		params.speculate = 0;
		a = subject_session(&s, &params);
		params.speculate = 8;
		b = subject_session(&s, &params);
		prompt(&s, a);
		prompt(&s, b);
		assert_int_equal(unpu_session_generate(a, 60, subject_collect, &want),
				 UNPU_REASON_CALLBACK);
		assert_int_equal(unpu_session_generate(b, 60, subject_collect, &got),
				 UNPU_REASON_CALLBACK);
		assert_memory_equal(&want, &got, sizeof(want));
		assert_int_equal(subject_errors, 0);
		drafts += subject_info(b).drafted_tokens;
		assert_int_equal(unpu_session_generate(a, 60, NULL, NULL), -EIO);
		assert_int_equal(unpu_session_generate(b, 60, NULL, NULL), -EIO);
		assert_int_equal(subject_errors, 2);
		assert_int_equal(subject_info(b).used, subject_info(a).used);
		unpu_session_destroy(a);
		unpu_session_destroy(b);
		subject_close(&s);
	}
	assert_true(drafts > 0);
}

/* Ends of text by a token and by a string, found among tokens of one step. */
static void texts_that_end_by_themselves(void **state)
{
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (uint64_t seed = 1; seed < 12; seed++) {
		struct unpu_session_params params = subject_params();
		struct subject_text plain = { 0 }, fast = { 0 };
		struct unpu_logit_bias bias = { 2, 4.0f };	/* the end of text */
		const char *stop = "e";
		struct unpu_session *a, *b;
		int reason;

		params.flags = 0;
		params.temperature = 1.0f;
		params.seed = seed;
		params.bias = &bias;
		params.num_bias = 1;
		params.stop = &stop;
		params.num_stop = seed % 2;
		a = subject_session(&s, &params);
		params.speculate = 5;
		b = subject_session(&s, &params);
		prompt(&s, a);
		prompt(&s, b);
		reason = unpu_session_generate(a, 100, subject_collect, &plain);
		assert_int_equal(unpu_session_generate(b, 100, subject_collect, &fast), reason);
		assert_memory_equal(&plain, &fast, sizeof(plain));
		subject_assert_equal(a, b, s.vocab);
		unpu_session_destroy(a);
		unpu_session_destroy(b);
	}
	subject_close(&s);
}

static int cancel_after(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)id;
	(void)text;
	(void)length;
	unpu_session_cancel(arg);
	return 0;
}

static void cancel_and_go_on(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject_text rest = { 0 };
	struct unpu_session *a, *b;
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_Q8_0, 2, 0);
	a = subject_session(&s, &params);
	params.speculate = 8;
	b = subject_session(&s, &params);
	prompt(&s, a);
	prompt(&s, b);
	assert_int_equal(unpu_session_generate(a, 40, NULL, NULL), 0);
	for (uint32_t i = 1; i <= 15; i++) {
		assert_int_equal(unpu_session_generate(b, 40, cancel_after, b),
				 UNPU_REASON_CANCELLED);
		assert_int_equal(subject_info(b).used, 20 + i);
	}
	assert_int_equal(unpu_session_generate(b, 25, subject_collect, &rest), 0);
	subject_assert_equal(a, b, s.vocab);
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	subject_close(&s);
}

/* On a device that does what `params` say, beside the cpu; returns how many drafts there were. */
static uint64_t on_gpuish(const struct gpuish_params *params, enum gpuish_fault fault, uint32_t nth)
{
	struct unpu_session_params settings = subject_params();
	struct subject_text want = { 0 }, got = { 0 };
	struct unpu_session *a, *b;
	struct subject right, s;
	struct gpuish *g;
	uint64_t drafts;

	subject_device = "cpu";
	subject_open(&right, "llama", UNPU_TYPE_Q8_0, 1, 0);
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	subject_device = NULL;
	assert_int_equal(gpuish_move_in(s.model, params, &g), 0);
	subject_errors = subject_warnings = 0;
	a = subject_session(&right, &settings);
	settings.speculate = 5;
	b = subject_session(&s, &settings);
	prompt(&right, a);
	prompt(&s, b);
	g->fault = fault;
	g->fault_at = nth ? atomic_load(&g->runs) + nth : 0;
	assert_int_equal(unpu_session_generate(a, LENGTH, subject_collect, &want), 0);
	assert_int_equal(unpu_session_generate(b, LENGTH, subject_collect, &got), 0);
	assert_memory_equal(&want, &got, sizeof(want));
	assert_int_equal(subject_errors, 0);
	assert_string_equal(subject_info(b).device, nth ? "cpu" : "gpuish:0");
	drafts = subject_info(b).drafted_tokens;
	subject_assert_equal(a, b, s.vocab);
	unpu_session_destroy(a);
	unpu_session_destroy(b);
	subject_close(&right);
	subject_close(&s);
	return drafts;
}

static void a_device_fails_at_a_draft(void **state)
{
	static const enum gpuish_fault faults[] = { GPUISH_LOST, GPUISH_OOM, GPUISH_CORRUPT };
	const struct gpuish_params params = { .tokens_per_submit = 8, .rounds = 4 };

	(void)state;
	assert_true(on_gpuish(&params, GPUISH_NONE, 0) > 0);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (uint32_t nth = 1; nth < 9; nth += 2)
			assert_true(on_gpuish(&params, faults[i], nth) > 0);
	assert_int_equal(subject_warnings, 1);	/* of the last one: that it moved */
}

static void rows_that_depend_on_each_other(void **state)
{
	const struct gpuish_params params = { .impure = true };

	(void)state;
	assert_int_equal(on_gpuish(&params, GPUISH_NONE, 0), 0);
	assert_int_equal(subject_warnings, 1);
	assert_non_null(strstr(subject_warning, "gpuish:0: without drafts"));
}

static void more_than_there_may_be(void **state)
{
	struct unpu_session_params params = subject_params();
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.speculate = UNPU_MAX_SPECULATE + 1;
	subject_errors = 0;
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "16 speculated tokens"));
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_text_is_the_same),
		cmocka_unit_test(a_batch_bounds_the_drafts),
		cmocka_unit_test(the_context_has_an_end),
		cmocka_unit_test(a_text_ends_anywhere),
		cmocka_unit_test(drafts_without_finite_logits),
		cmocka_unit_test(texts_that_end_by_themselves),
		cmocka_unit_test(cancel_and_go_on),
		cmocka_unit_test(a_device_fails_at_a_draft),
		cmocka_unit_test(rows_that_depend_on_each_other),
		cmocka_unit_test(more_than_there_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
