/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/out.h"

int model_open(const struct settings *settings, uint32_t flags, struct unpu_model **model)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	int err;

	params.flags = flags;
	params.threads = settings->threads;
	params.device = settings->device;
	params.log = log_library;
	err = unpu_model_load(settings->model, &params, model);
	return err < 0 ? fail_library(err, settings->model) : EXIT_OK;
}

int session_open(struct unpu_model *model, const struct settings *settings, float temperature,
		 uint64_t seed, uint32_t flags, struct unpu_session **session)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	int err;

	params.context = settings->context;
	params.kv = settings->kv;
	params.batch = settings->batch;
	params.temperature = temperature;
	params.seed = seed;
	params.flags = flags;
	/* The greedy commands have no sampler options, their settings are zero. */
	if (temperature > 0) {
		params.top_k = settings->top_k;
		params.top_p = settings->top_p;
		params.min_p = settings->min_p;
	}
	if (settings->repeat_penalty > 0) {
		params.repeat_penalty = settings->repeat_penalty;
		params.repeat_last_n = settings->repeat_last_n;
	}
	err = unpu_session_create(model, &params, session);
	return err < 0 ? fail_library(err, settings->model) : EXIT_OK;
}

int model_tokenize(const struct unpu_model *model, const char *text, size_t length, uint32_t flags,
		   uint32_t **ids, size_t *count)
{
	/* A token a byte is more than nearly all texts need; the second turn is for the others. */
	size_t room = length + 8;
	int64_t n;

	*ids = NULL;
	for (;;) {
		free(*ids);
		*ids = malloc(room * sizeof(**ids));
		n = *ids ? unpu_tokenize(model, text, length, flags, *ids, room) : -ENOMEM;
		if (n <= (int64_t)room)
			break;
		room = (size_t)n;
	}
	if (n < 0) {
		free(*ids);
		*ids = NULL;
		return fail_library((int)n, "the text");
	}
	*count = (size_t)n;
	return EXIT_OK;
}

int text_check(const char *command, const struct settings *settings)
{
	if (!!settings->text + !!settings->file + !!settings->tokens > 1)
		return fail_usage("%s: the text comes from -p or from -f, not from both", command);
	return EXIT_OK;
}

int text_read(const struct settings *settings, char **text, size_t *length)
{
	if (!settings->text)
		return read_all(settings->file, text, length);
	*text = strdup(settings->text);
	if (!*text)
		return fail("the text: %s", strerror(ENOMEM));
	*length = strlen(*text);
	return EXIT_OK;
}

const char *kv_name(enum unpu_kv kv)
{
	return kv == UNPU_KV_F32 ? "f32" : "f16";
}
