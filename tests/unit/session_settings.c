/* SPDX-License-Identifier: MIT */
/* Structs of other headers; settings, their ranges and what they do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/params.h"
#include "tests/lib/subject.h"

#define PROMPT	10
#define TOKENS	30

/* ---- structs of other headers ------------------------------------------------------------- */

/* The struct as a header of another size has it, alone in its memory; the caller frees it. */
static void *resized(const void *from, size_t size, size_t new_size, uint8_t tail)
{
	uint8_t *to = malloc(new_size);

	assert_non_null(to);
	memset(to, tail, new_size);
	memcpy(to, from, size < new_size ? size : new_size);
	memcpy(to, &new_size, sizeof(new_size));
	return to;
}

/* As version 0.1 had it, with rubbish where it had padding. */
static void *first_version(const struct unpu_struct *is, const void *from)
{
	uint8_t *to = resized(from, is->size, is->first_size, 0);

	memset(to + is->first_fields, 0xff, is->first_size - is->first_fields);
	return to;
}

static const size_t no_sizes[] = { 0, 1, 4097, SIZE_MAX };
#define NUM_NO_SIZES	(sizeof(no_sizes) / sizeof(no_sizes[0]))

static void generate(const struct subject *s, const struct unpu_session_params *params,
		     struct subject_text *out)
{
	struct unpu_session *session = subject_session(s, params);
	uint32_t ids[PROMPT];

	memset(out, 0, sizeof(*out));
	subject_ids(s, ids, PROMPT);
	assert_int_equal(unpu_session_prompt(session, ids, PROMPT), 0);
	assert_in_range(unpu_session_generate(session, TOKENS, subject_collect, out),
			UNPU_REASON_LENGTH, UNPU_REASON_STOP);
	unpu_session_destroy(session);
}

static void session_params_of_any_header(void **state)
{
	const struct unpu_struct *is = &unpu_session_params_struct;
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct subject_text want, got;
	struct unpu_session *session = NULL;
	struct subject s;
	void *other;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.seed = 5;
	params.temperature = 3;
	generate(&s, &params, &want);
	other = first_version(is, &params);
	generate(&s, other, &got);
	assert_memory_equal(&want, &got, sizeof(want));
	free(other);
	other = resized(&params, sizeof(params), sizeof(params) + 24, 0);
	generate(&s, other, &got);
	assert_memory_equal(&want, &got, sizeof(want));
	((uint8_t *)other)[sizeof(params) + 23] = 1;
	subject_errors = 0;
	assert_int_equal(unpu_session_create(s.model, other, &session), -E2BIG);
	assert_int_equal(subject_errors, 1);
	assert_non_null(strstr(subject_log, "newer"));
	free(other);
	for (size_t i = 0; i < NUM_NO_SIZES; i++) {
		params.size = no_sizes[i];
		assert_int_equal(unpu_session_create(s.model, &params, &session),
				 no_sizes[i] < 8 ? -EINVAL : -E2BIG);
		assert_non_null(strstr(subject_log, "unpu_session_params"));
	}
	params.size = is->first_size - 1;
	assert_int_equal(unpu_session_create(s.model, &params, &session), -EINVAL);
	assert_null(session);
	assert_int_equal(subject_errors, 2 + NUM_NO_SIZES);
	subject_close(&s);
}

static void model_params_of_any_header(void **state)
{
	const struct unpu_struct *is = &unpu_model_params_struct;
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model = NULL;
	struct subject s;
	void *other;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, UNPU_MODEL_VOCAB_ONLY);
	params.flags = UNPU_MODEL_VOCAB_ONLY;
	params.log = subject_log_line;
	other = first_version(is, &params);
	assert_int_equal(unpu_model_load_memory(s.file, s.size, other, &model), 0);
	unpu_model_destroy(model);
	free(other);
	other = resized(&params, sizeof(params), sizeof(params) + 8, 1);
	model = NULL;
	subject_errors = 0;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, other, &model), -E2BIG);
	assert_int_equal(unpu_model_load("/none", other, &model), -E2BIG);
	assert_int_equal(unpu_model_load_fd(-1, 0, 1, other, &model), -E2BIG);
	assert_int_equal(subject_errors, 3);
	free(other);
	/* too short to say where its log is */
	params.size = is->first_size - 1;
	assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &model), -EINVAL);
	assert_int_equal(subject_errors, 3);
	assert_null(model);
	subject_close(&s);
}

static void infos_of_any_header(void **state)
{
	struct unpu_session_info session_info = UNPU_SESSION_INFO_INIT, *si;
	struct unpu_model_info model_info = UNPU_MODEL_INFO_INIT, *mi;
	struct unpu_tensor_info tensor = UNPU_TENSOR_INFO_INIT;
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	session = subject_session(&s, NULL);
	assert_int_equal(unpu_session_info(session, &session_info), 0);
	assert_int_equal(unpu_model_info(s.model, &model_info), 0);

	si = first_version(&unpu_session_info_struct, &session_info);
	si->dispatches = 0;
	assert_int_equal(unpu_session_info(session, si), 0);
	assert_int_equal(si->size, unpu_session_info_struct.first_size);
	assert_int_equal(si->dispatches, session_info.dispatches);
	free(si);
	mi = first_version(&unpu_model_info_struct, &model_info);
	mi->device_name = NULL;
	assert_int_equal(unpu_model_info(s.model, mi), 0);
	assert_string_equal(mi->device_name, model_info.device_name);
	free(mi);

	mi = resized(&model_info, sizeof(model_info), sizeof(model_info) + 16, 0xff);
	assert_int_equal(unpu_model_info(s.model, mi), 0);
	assert_int_equal(mi->size, sizeof(model_info) + 16);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(((uint8_t *)mi)[sizeof(model_info) + i], 0);
	free(mi);
	for (size_t i = 0; i < NUM_NO_SIZES; i++) {
		tensor.size = no_sizes[i];
		assert_int_equal(unpu_model_tensor(s.model, 0, &tensor),
				 no_sizes[i] < 8 ? -EINVAL : -E2BIG);
		session_info.size = model_info.size = no_sizes[i];
		assert_int_equal(unpu_session_info(session, &session_info),
				 no_sizes[i] < 8 ? -EINVAL : -E2BIG);
		assert_int_equal(unpu_model_info(s.model, &model_info),
				 no_sizes[i] < 8 ? -EINVAL : -E2BIG);
	}
	unpu_session_destroy(session);
	subject_close(&s);
}

/* ---- ranges ------------------------------------------------------------------------------- */

#define X16	"xxxxxxxxxxxxxxxx"
#define X64	X16 X16 X16 X16
static const char long_text[] = X64 X64 X64 X64 "x";
_Static_assert(sizeof(long_text) == UNPU_MAX_STOP_LENGTH + 2, "one byte more than is taken");
static const char *const no_text[] = { "a", "" }, *const null_text[] = { NULL },
			 *const too_long[] = { long_text }, *const not_utf8[] = { "a\xc3" };
static const struct unpu_logit_bias twice[] = { { 7, 1 }, { 8, 1 }, { 7, -1 } },
				     outside[] = { { UINT32_MAX, 1 } },
				     too_much[] = { { 1, 101 } }, no_number[] = { { 1, NAN } },
				     for_ever[] = { { 1, INFINITY } };

static const struct {
	const char *word;
	struct unpu_session_params params;
} refused[] = {
	{ "frequency", { .frequency_penalty = 101 } },
	{ "frequency", { .frequency_penalty = NAN } },
	{ "presence", { .presence_penalty = -101 } },
	{ "presence", { .presence_penalty = -INFINITY } },
	{ "temperature", { .temperature = 101 } },
	{ "repeat", { .repeat_penalty = 101 } },
	{ "flags", { .flags = 2 } },
	{ "bias", { .num_bias = 1 } },
	{ "bias", { .num_bias = UNPU_MAX_BIAS + 1, .bias = twice } },
	{ "two", { .num_bias = 3, .bias = twice } },
	{ "vocabulary", { .num_bias = 1, .bias = outside } },
	{ "bias", { .num_bias = 1, .bias = too_much } },
	{ "bias", { .num_bias = 1, .bias = no_number } },
	{ "bias", { .num_bias = 1, .bias = for_ever } },
	{ "stop", { .num_stop = 1 } },
	{ "stop", { .num_stop = UNPU_MAX_STOP + 1, .stop = no_text } },
	{ "stop", { .num_stop = 2, .stop = no_text } },
	{ "stop", { .num_stop = 1, .stop = null_text } },
	{ "stop", { .num_stop = 1, .stop = too_long } },
	{ "UTF-8", { .num_stop = 1, .stop = not_utf8 } },
};

/* Each is refused by its name, at birth and later; then nothing has changed. */
static void settings_out_of_range(void **state)
{
	static const char *const stop[] = { "zzz" };
	const struct unpu_logit_bias bias = { 9, 2 };
	struct unpu_session_params good = UNPU_SESSION_PARAMS_INIT;
	struct subject_text want, got = { 0 };
	struct unpu_session *session, *none = NULL;
	uint32_t ids[PROMPT];
	struct subject s;

	(void)state;
	subject_open(&s, "qwen2", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, PROMPT);
	good.temperature = 2;
	good.seed = 1;
	good.flags = UNPU_SESSION_NO_END;
	good.bias = &bias;
	good.num_bias = 1;
	good.stop = stop;
	good.num_stop = 1;
	good.presence_penalty = 1;
	generate(&s, &good, &want);
	session = subject_session(&s, &good);
	assert_int_equal(unpu_session_prompt(session, ids, PROMPT), 0);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct unpu_session_params params = refused[i].params;

		params.size = sizeof(params);
		params.seed = 77;
		params.top_p = 1;
		if (params.repeat_penalty == 0)
			params.repeat_penalty = 1;
		subject_errors = 0;
		assert_int_equal(unpu_session_create(s.model, &params, &none), -EINVAL);
		assert_null(none);
		assert_int_equal(unpu_session_set_sampler(session, &params), -EINVAL);
		assert_int_equal(subject_errors, 2);
		assert_non_null(strstr(subject_log, refused[i].word));
	}
	assert_int_equal(subject_info(session).seed, 1);
	assert_int_equal(unpu_session_generate(session, TOKENS, subject_collect, &got),
			 UNPU_REASON_LENGTH);
	assert_memory_equal(want.ids, got.ids, sizeof(want.ids));
	unpu_session_destroy(session);
	subject_close(&s);
}

/* What only a birth reads is not looked at later, and the bounds themselves are taken. */
static void settings_in_range(void **state)
{
	struct unpu_logit_bias bias[UNPU_MAX_BIAS];
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	session = subject_session(&s, NULL);
	for (uint32_t i = 0; i < UNPU_MAX_BIAS; i++)
		bias[i] = (struct unpu_logit_bias){ i, i % 2 ? -100 : 100 };
	bias[3].bias = -INFINITY;
	params.context = UINT32_MAX;
	params.batch = UINT32_MAX;
	params.kv = 77;
	params.temperature = 100;
	params.repeat_penalty = 100;
	params.frequency_penalty = -100;
	params.presence_penalty = 100;
	params.repeat_last_n = UINT32_MAX;
	params.top_k = UINT32_MAX;
	params.min_p = 1;
	params.bias = bias;
	params.num_bias = UNPU_MAX_BIAS;
	assert_int_equal(unpu_session_set_sampler(session, &params), 0);
	params.repeat_penalty = 0.01f;
	params.frequency_penalty = 100;
	params.presence_penalty = -100;
	assert_int_equal(unpu_session_set_sampler(session, &params), 0);
	assert_int_equal(unpu_session_prompt(session, &bias[0].id, 1), 0);
	assert_int_equal(unpu_session_generate(session, 2, NULL, NULL), UNPU_REASON_LENGTH);
	unpu_session_destroy(session);
	subject_close(&s);
}

/* ---- what they do ------------------------------------------------------------------------- */

static bool has(const struct subject_text *c, uint32_t id)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->ids[i] == id)
			return true;
	return false;
}

static void bias_draws_and_bans(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject_text plain, biased;
	struct unpu_logit_bias bias;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	generate(&s, &params, &plain);
	params.bias = &bias;
	params.num_bias = 1;
	for (int t = 0; t < 2; t++) {
		params.temperature = (float)t;
		bias = (struct unpu_logit_bias){ plain.ids[0], -INFINITY };
		generate(&s, &params, &biased);
		assert_int_equal(biased.count, TOKENS);
		assert_false(has(&biased, plain.ids[0]));
		bias = (struct unpu_logit_bias){ 77, 100 };
		generate(&s, &params, &biased);
		for (uint32_t i = 0; i < TOKENS; i++)
			assert_int_equal(biased.ids[i], 77);
	}
	subject_close(&s);
}

/* The logits of a tiny model are far below 100: what was said is not said again, as far back as
 * the penalties look. */
static void penalties_look_back(void **state)
{
	struct unpu_session_params params = subject_params();
	struct subject_text c;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (int kind = 0; kind < 2; kind++) {
		struct unpu_logit_bias bias = { 77, 50 };

		params.presence_penalty = kind ? 100 : 0;
		params.frequency_penalty = kind ? 0 : 100;
		params.bias = &bias;
		params.num_bias = 1;
		params.repeat_last_n = 7;
		generate(&s, &params, &c);
		for (uint32_t i = 0; i < TOKENS; i++)
			assert_int_equal(c.ids[i] == 77, i % 8 == 0);
		params.repeat_last_n = 0;
		generate(&s, &params, &c);
		for (uint32_t i = 0; i < TOKENS; i++)
			assert_int_equal(c.ids[i], 77);
	}
	subject_close(&s);
}

/* The caller's lists may go once the call is over. */
static void settings_are_copied(void **state)
{
	struct unpu_session_params params = subject_params();
	struct unpu_logit_bias *bias = malloc(2 * sizeof(*bias));
	char *text = strdup("bb");
	const char **stop = malloc(sizeof(*stop));
	struct unpu_session *session;
	struct subject_text c = { 0 };
	uint32_t ids[PROMPT];
	struct subject s;

	(void)state;
	assert_true(bias && text && stop);
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	subject_ids(&s, ids, PROMPT);
	bias[0] = (struct unpu_logit_bias){ 'b' + 3, 100 };
	bias[1] = (struct unpu_logit_bias){ 1, -INFINITY };
	stop[0] = text;
	params.bias = bias;
	params.num_bias = 2;
	params.stop = stop;
	params.num_stop = 1;
	session = subject_session(&s, &params);
	memset(bias, 0, 2 * sizeof(*bias));
	memset(text, 'x', 2);
	free(bias);
	free(text);
	free(stop);
	assert_int_equal(unpu_session_prompt(session, ids, PROMPT), 0);
	assert_int_equal(unpu_session_generate(session, 9, subject_collect, &c), UNPU_REASON_STOP);
	assert_int_equal(c.count, 2);
	unpu_session_destroy(session);
	subject_close(&s);
}

static void kv_types_are_told(void **state)
{
	static const enum unpu_kv kvs[] = { UNPU_KV_INT8, UNPU_KV_F16, UNPU_KV_F32 };
	struct unpu_session_params params = subject_params();
	struct unpu_session *session;
	uint64_t bytes = 0;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (int i = 0; i < 3; i++) {
		params.kv = kvs[i];
		session = subject_session(&s, &params);
		assert_int_equal(subject_info(session).kv, kvs[i]);
		assert_true(subject_info(session).kv_bytes > bytes);
		bytes = subject_info(session).kv_bytes;
		unpu_session_destroy(session);
	}
	params.kv = UNPU_KV_DEFAULT;
	session = subject_session(&s, &params);
	assert_int_equal(subject_info(session).kv, UNPU_KV_F16);
	unpu_session_destroy(session);
	subject_close(&s);
}

static void tokenizer_flags_are_known(void **state)
{
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, UNPU_MODEL_VOCAB_ONLY);
	subject_errors = 0;
	for (uint32_t bit = 2; bit < 32; bit++)
		assert_int_equal(unpu_tokenize(s.model, "a", 1, 1u << bit, NULL, 0), -EINVAL);
	assert_int_equal(subject_errors, 30);
	assert_true(unpu_tokenize(s.model, "a", 1, 3, NULL, 0) > 0);
	subject_close(&s);
}

/* ---- progress of a load ------------------------------------------------------------------- */

struct progress {
	uint64_t done, total;
	uint32_t calls, end_at;
};

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;

	assert_true(done > p->done && done <= total);
	assert_true(!p->total || p->total == total);
	p->done = done;
	p->total = total;
	return ++p->calls == p->end_at;
}

static void loading_reports(void **state)
{
	static const uint32_t types[] = { UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16,
					  UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0 };

	(void)state;
	for (size_t t = 0; t < 5; t++) {
		/* a matrix of several MiB, so that there is more to tell than its end */
		struct tiny_params tiny = { .arch = "llama", .type = types[t], .tied = t % 2,
					    .vocab = 16000, .hidden = 256 };
		struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
		struct progress whole = { 0 }, part;
		struct subject s;

		s.file = tiny_model(&tiny, &s.size);
		assert_non_null(s.file);
		params.threads = 1;
		params.log = subject_log_line;
		params.progress = on_progress;
		params.progress_arg = &whole;
		subject_errors = 0;
		assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
		assert_true(whole.calls > 4);
		assert_int_equal(whole.done, whole.total);
		unpu_model_destroy(s.model);
		for (uint32_t at = 1; at <= whole.calls; at += 1 + at / 3) {
			part = (struct progress){ .end_at = at };
			params.progress_arg = &part;
			s.model = NULL;
			assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model),
					 -ECANCELED);
			assert_null(s.model);
			assert_int_equal(part.calls, at);
		}
		part = (struct progress){ 0 };
		params.flags = UNPU_MODEL_VOCAB_ONLY;
		assert_int_equal(unpu_model_load_memory(s.file, s.size, &params, &s.model), 0);
		assert_int_equal(part.calls, 0);
		assert_int_equal(subject_errors, 0);
		subject_close(&s);
	}
}

/* What is told is what was set, and may be given back as it is. */
static void settings_are_told(void **state)
{
	struct unpu_session_params params = subject_params(), told = UNPU_SESSION_PARAMS_INIT;
	const struct unpu_logit_bias bias[] = { { 3, 1.5f }, { 7, -INFINITY } };
	const char *const stop[] = { "one", "\n\n" };
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.temperature = 0.25f;
	params.seed = 1ull << 40 | 5;
	params.presence_penalty = -2;
	params.bias = bias;
	params.num_bias = 2;
	params.stop = stop;
	params.num_stop = 2;
	session = subject_session(&s, &params);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(unpu_session_sampler(session, &told), 0);
		assert_int_equal(told.size, sizeof(told));
		assert_true(told.temperature == 0.25f && told.presence_penalty == -2);
		assert_true(told.seed == params.seed && told.top_k == params.top_k);
		assert_int_equal(told.num_bias, 2);
		assert_memory_equal(told.bias, bias, sizeof(bias));
		assert_int_equal(told.num_stop, 2);
		assert_string_equal(told.stop[0], "one");
		assert_string_equal(told.stop[1], "\n\n");
		assert_int_equal(unpu_session_set_sampler(session, &told), 0);
	}
	told.size = 4;
	assert_int_equal(unpu_session_sampler(session, &told), -EINVAL);
	unpu_session_destroy(session);
	subject_close(&s);
}

/* Settings that were told may be given back in another order, as parts, among others. */
static void told_settings_are_given_back(void **state)
{
	struct unpu_session_params params = subject_params(), told = UNPU_SESSION_PARAMS_INIT;
	const struct unpu_logit_bias bias[] = { { 3, 1 }, { 4, 2 } };
	const char *const stop[] = { "one", "two", "three" };
	const char *other[4];
	struct unpu_session *session;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	params.bias = bias;
	params.num_bias = 2;
	params.stop = stop;
	params.num_stop = 3;
	session = subject_session(&s, &params);
	assert_int_equal(unpu_session_sampler(session, &told), 0);
	other[0] = "new";
	for (int i = 0; i < 3; i++)
		other[1 + i] = told.stop[2 - i];
	told.stop = other;
	told.num_stop = 4;
	told.bias++;
	told.num_bias = 1;
	assert_int_equal(unpu_session_set_sampler(session, &told), 0);
	assert_int_equal(unpu_session_sampler(session, &told), 0);
	assert_int_equal(told.num_stop, 4);
	assert_string_equal(told.stop[0], "new");
	for (int i = 0; i < 3; i++)
		assert_string_equal(told.stop[1 + i], stop[2 - i]);
	assert_int_equal(told.num_bias, 1);
	assert_memory_equal(told.bias, &bias[1], sizeof(*bias));
	told.stop++;
	told.num_stop = 2;
	assert_int_equal(unpu_session_set_sampler(session, &told), 0);
	assert_int_equal(unpu_session_sampler(session, &told), 0);
	assert_string_equal(told.stop[0], "three");
	assert_string_equal(told.stop[1], "two");
	unpu_session_destroy(session);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(session_params_of_any_header),
		cmocka_unit_test(model_params_of_any_header),
		cmocka_unit_test(infos_of_any_header),
		cmocka_unit_test(settings_out_of_range),
		cmocka_unit_test(settings_in_range),
		cmocka_unit_test(bias_draws_and_bans),
		cmocka_unit_test(penalties_look_back),
		cmocka_unit_test(settings_are_copied),
		cmocka_unit_test(settings_are_told),
		cmocka_unit_test(told_settings_are_given_back),
		cmocka_unit_test(kv_types_are_told),
		cmocka_unit_test(tokenizer_flags_are_known),
		cmocka_unit_test(loading_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
