/* SPDX-License-Identifier: MIT */
/* unpu.h as a program sees it that includes nothing else; compiled as C and as C++ by header.sh. */
#include <unpu.h>

struct all {
	struct unpu_model_params model;
	struct unpu_model_info model_info;
	struct unpu_session_params session;
	struct unpu_session_info session_info;
	struct unpu_tensor_info tensor;
};

static int stop(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)text;
	return id == UINT32_MAX || length > 0;
}

static int ready(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	return done > total;
}

static void quiet(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	(void)level;
	(void)text;
}

int main(void)
{
	static const char *const stops[] = { "\n", "END" };
	struct all all = {
		UNPU_MODEL_PARAMS_INIT, UNPU_MODEL_INFO_INIT,
		UNPU_SESSION_PARAMS_INIT, UNPU_SESSION_INFO_INIT, UNPU_TENSOR_INFO_INIT,
	};
	struct unpu_chat_message message = { "user", "hello", 5 };
	struct unpu_logit_bias bias = { 1, -1.5f };
	unpu_token_fn *on_token = stop;
	struct unpu_model *model = 0;

	all.model.log = quiet;
	all.model.progress = ready;
	all.model.flags = UNPU_MODEL_VOCAB_ONLY | UNPU_MODEL_CLASS_F32;
	all.session.kv = UNPU_KV_INT8;
	all.session.stop = stops;
	all.session.num_stop = sizeof(stops) / sizeof(stops[0]);
	all.session.bias = &bias;
	all.session.num_bias = 1;
	if (unpu_version() != (UNPU_VERSION_MAJOR << 16 | UNPU_VERSION_MINOR << 8 |
			       UNPU_VERSION_PATCH))
		return 1;
	if (unpu_model_load("/nonexistent", &all.model, &model) >= 0 || model)
		return 2;
	unpu_model_destroy(model);
	unpu_session_destroy(0);
	return message.length != 5 || on_token(0, 0, "", 0);
}
