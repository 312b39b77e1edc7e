/* SPDX-License-Identifier: MIT */
/*
 * What a program that was compiled with unpu.h has fixed in itself: where the fields of public
 * structs are and what the constants are. A line here that fails is a change that such a program
 * would not notice: a field goes to the end of its struct, a constant gets the next free number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/unpu.h"

struct place {
	const char *what;
	size_t here;
	size_t at64, at32;	/* 32: where 64-bit integers are aligned to 8, as on arm */
};

#define SIZE(type, at64, at32) { "sizeof(struct " #type ")", sizeof(struct type), at64, at32 }
#define FIELD(type, field, at64, at32) \
	{ #type "." #field, offsetof(struct type, field), at64, at32 }

static const struct place places[] = {
	SIZE(unpu_device_info, 408, 408),
	FIELD(unpu_device_info, id, 0, 0),
	FIELD(unpu_device_info, name, 16, 16),
	FIELD(unpu_device_info, usable, 80, 80),
	FIELD(unpu_device_info, why, 84, 84),
	FIELD(unpu_device_info, driver, 212, 212),
	FIELD(unpu_device_info, verdict, 276, 276),
	FIELD(unpu_device_info, preferred, 404, 404),
	SIZE(unpu_model_params, 72, 40),
	FIELD(unpu_model_params, size, 0, 0),
	FIELD(unpu_model_params, flags, 8, 4),
	FIELD(unpu_model_params, threads, 12, 8),
	FIELD(unpu_model_params, device, 16, 12),
	FIELD(unpu_model_params, log, 24, 16),
	FIELD(unpu_model_params, log_arg, 32, 20),
	FIELD(unpu_model_params, progress, 40, 24),
	FIELD(unpu_model_params, progress_arg, 48, 28),
	FIELD(unpu_model_params, packed_fd, 56, 32),
	FIELD(unpu_model_params, pack_for, 64, 36),
	SIZE(unpu_model_info, 128, 96),
	FIELD(unpu_model_info, size, 0, 0),
	FIELD(unpu_model_info, name, 8, 4),
	FIELD(unpu_model_info, architecture, 16, 8),
	FIELD(unpu_model_info, weight_type, 24, 12),
	FIELD(unpu_model_info, parameters, 32, 16),
	FIELD(unpu_model_info, file_bytes, 40, 24),
	FIELD(unpu_model_info, weight_bytes, 48, 32),
	FIELD(unpu_model_info, context, 56, 40),
	FIELD(unpu_model_info, layers, 60, 44),
	FIELD(unpu_model_info, hidden, 64, 48),
	FIELD(unpu_model_info, ffn, 68, 52),
	FIELD(unpu_model_info, heads, 72, 56),
	FIELD(unpu_model_info, kv_heads, 76, 60),
	FIELD(unpu_model_info, head_dim, 80, 64),
	FIELD(unpu_model_info, vocab, 84, 68),
	FIELD(unpu_model_info, threads, 88, 72),
	FIELD(unpu_model_info, device, 96, 76),
	FIELD(unpu_model_info, device_name, 104, 80),
	FIELD(unpu_model_info, chat_template, 112, 84),
	FIELD(unpu_model_info, packed, 120, 88),
	SIZE(unpu_tensor_info, 72, 56),
	FIELD(unpu_tensor_info, size, 0, 0),
	FIELD(unpu_tensor_info, name, 8, 4),
	FIELD(unpu_tensor_info, type, 16, 8),
	FIELD(unpu_tensor_info, num_dims, 24, 12),
	FIELD(unpu_tensor_info, dims, 32, 16),
	FIELD(unpu_tensor_info, bytes, 64, 48),
	SIZE(unpu_chat_message, 24, 12),
	FIELD(unpu_chat_message, role, 0, 0),
	FIELD(unpu_chat_message, text, 8, 4),
	FIELD(unpu_chat_message, length, 16, 8),
	SIZE(unpu_logit_bias, 8, 8),
	FIELD(unpu_logit_bias, id, 0, 0),
	FIELD(unpu_logit_bias, bias, 4, 4),
	SIZE(unpu_session_params, 120, 88),
	FIELD(unpu_session_params, size, 0, 0),
	FIELD(unpu_session_params, context, 8, 4),
	FIELD(unpu_session_params, kv, 12, 8),
	FIELD(unpu_session_params, batch, 16, 12),
	FIELD(unpu_session_params, temperature, 20, 16),
	FIELD(unpu_session_params, top_k, 24, 20),
	FIELD(unpu_session_params, top_p, 28, 24),
	FIELD(unpu_session_params, min_p, 32, 28),
	FIELD(unpu_session_params, repeat_penalty, 36, 32),
	FIELD(unpu_session_params, repeat_last_n, 40, 36),
	FIELD(unpu_session_params, seed, 48, 40),
	FIELD(unpu_session_params, flags, 56, 48),
	FIELD(unpu_session_params, frequency_penalty, 60, 52),
	FIELD(unpu_session_params, presence_penalty, 64, 56),
	FIELD(unpu_session_params, bias, 72, 60),
	FIELD(unpu_session_params, num_bias, 80, 64),
	FIELD(unpu_session_params, num_stop, 84, 68),
	FIELD(unpu_session_params, stop, 88, 72),
	FIELD(unpu_session_params, progress, 96, 76),
	FIELD(unpu_session_params, progress_arg, 104, 80),
	FIELD(unpu_session_params, speculate, 112, 84),
	SIZE(unpu_session_info, 112, 104),
	FIELD(unpu_session_info, size, 0, 0),
	FIELD(unpu_session_info, context, 8, 4),
	FIELD(unpu_session_info, used, 12, 8),
	FIELD(unpu_session_info, seed, 16, 16),
	FIELD(unpu_session_info, kv_bytes, 24, 24),
	FIELD(unpu_session_info, work_bytes, 32, 32),
	FIELD(unpu_session_info, prompt_tokens, 40, 40),
	FIELD(unpu_session_info, prompt_ns, 48, 48),
	FIELD(unpu_session_info, generated_tokens, 56, 56),
	FIELD(unpu_session_info, generate_ns, 64, 64),
	FIELD(unpu_session_info, dispatches, 72, 72),
	FIELD(unpu_session_info, kv, 80, 80),
	FIELD(unpu_session_info, device, 88, 84),
	FIELD(unpu_session_info, drafted_tokens, 96, 88),
	FIELD(unpu_session_info, accepted_tokens, 104, 96),
};

static void check_places(const struct place *place, size_t count)
{
	size_t bad = 0;

	for (size_t i = 0; i < count; i++) {
		size_t want = sizeof(void *) == 8 ? place[i].at64 : place[i].at32;

		if (place[i].here == want)
			continue;
		print_error("%s is %zu, not %zu\n", place[i].what, place[i].here, want);
		bad++;
	}
	assert_int_equal(bad, 0);
}

static void test_structs(void **state)
{
	(void)state;
	struct {
		char byte;
		uint64_t word;
	} align;

	if (sizeof(void *) == 4 && offsetof(__typeof__(align), word) != 8) {
		print_message("64-bit integers are aligned to 4 here, offsets are listed for 8\n");
		skip();
	}
	check_places(places, sizeof(places) / sizeof(places[0]));
}

#define VALUE(name, value) { #name, (size_t)(name), value, value }

static const struct place values[] = {
	VALUE(UNPU_LOG_ERROR, 0), VALUE(UNPU_LOG_WARN, 1), VALUE(UNPU_LOG_INFO, 2),
	VALUE(UNPU_LOG_DEBUG, 3),
	VALUE(UNPU_MODEL_VOCAB_ONLY, 1), VALUE(UNPU_MODEL_CLASS_F32, 2),
	VALUE(UNPU_MODEL_INFO_ONLY, 4), VALUE(UNPU_MAX_SHAPE, 128),
	VALUE(UNPU_TOKENIZE_ADD_SPECIAL, 1), VALUE(UNPU_TOKENIZE_PARSE_SPECIAL, 2),
	VALUE(UNPU_CHAT_ANSWER, 1), VALUE(UNPU_CHAT_CONTINUE, 2), VALUE(UNPU_CHAT_UNENDED, 4),
	VALUE(UNPU_KV_DEFAULT, 0), VALUE(UNPU_KV_F16, 1), VALUE(UNPU_KV_F32, 2),
	VALUE(UNPU_KV_INT8, 3),
	VALUE(UNPU_MAX_BIAS, 64), VALUE(UNPU_MAX_STOP, 16), VALUE(UNPU_MAX_STOP_LENGTH, 256),
	VALUE(UNPU_SESSION_NO_END, 1),
	VALUE(UNPU_REASON_LENGTH, 0), VALUE(UNPU_REASON_END, 1), VALUE(UNPU_REASON_CONTEXT, 2),
	VALUE(UNPU_REASON_CALLBACK, 3), VALUE(UNPU_REASON_STOP, 4),
	VALUE(UNPU_REASON_CANCELLED, 5),
	VALUE(UNPU_SAVE_KV, 1),
	{ "sizeof(enum unpu_kv)", sizeof(enum unpu_kv), 4, 4 },
	{ "sizeof(enum unpu_log_level)", sizeof(enum unpu_log_level), 4, 4 },
};

static void test_constants(void **state)
{
	(void)state;
	check_places(values, sizeof(values) / sizeof(values[0]));
}

/* The initialisers name no fields, for C++: each value must have met the field it is for. */
static void test_defaults(void **state)
{
	(void)state;
	const struct unpu_model_params model = UNPU_MODEL_PARAMS_INIT;
	const struct unpu_model_info model_info = UNPU_MODEL_INFO_INIT;
	const struct unpu_session_params s = UNPU_SESSION_PARAMS_INIT;
	const struct unpu_session_info session_info = UNPU_SESSION_INFO_INIT;
	const struct unpu_model_params no_model = { .size = sizeof(no_model) };
	const struct unpu_model_info no_model_info = { .size = sizeof(no_model_info) };
	const struct unpu_session_info no_session_info = { .size = sizeof(no_session_info) };
	const struct unpu_session_params defaults = {
		.size = sizeof(defaults), .temperature = 0.8f, .top_k = 40, .top_p = 0.95f,
		.min_p = 0.05f, .repeat_penalty = 1.0f, .repeat_last_n = 64,
	};

	assert_memory_equal(&model, &no_model, sizeof(model));
	assert_int_equal(model_info.size, no_model_info.size);
	assert_null(model_info.chat_template);
	assert_int_equal(session_info.size, no_session_info.size);
	assert_int_equal(s.size, defaults.size);
	assert_true(s.temperature == defaults.temperature && s.top_k == defaults.top_k);
	assert_true(s.top_p == defaults.top_p && s.min_p == defaults.min_p);
	assert_true(s.repeat_penalty == defaults.repeat_penalty);
	assert_int_equal(s.repeat_last_n, defaults.repeat_last_n);
	assert_true(s.context == 0 && s.kv == UNPU_KV_DEFAULT && s.batch == 0 && s.seed == 0);
	assert_true(s.frequency_penalty == 0 && s.presence_penalty == 0 && s.flags == 0);
	assert_true(!s.bias && !s.num_bias && !s.stop && !s.num_stop && !s.progress);
}

static void test_version(void **state)
{
	(void)state;
	char text[32];

	snprintf(text, sizeof(text), "%d.%d.%d", UNPU_VERSION_MAJOR, UNPU_VERSION_MINOR,
		 UNPU_VERSION_PATCH);
	assert_string_equal(text, UNPU_VERSION_STRING);
	assert_int_equal(unpu_version(), UNPU_VERSION_MAJOR << 16 | UNPU_VERSION_MINOR << 8 |
			 UNPU_VERSION_PATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structs), cmocka_unit_test(test_constants),
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_version),
	};

	return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
