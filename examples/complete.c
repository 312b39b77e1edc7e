/* SPDX-License-Identifier: MIT */
/*
 * Goes on with a text: complete MODEL [TEXT]
 *
 * The shortest way through unpu.h: load a model, make a session, append the text's tokens and
 * generate. What can go wrong is said by the library through the log callback; the program only has
 * to stop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unpu.h>

#define MAX_TOKENS	64

static void say(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level <= UNPU_LOG_WARN)
		fprintf(stderr, "complete: %s\n", text);
}

/* The text is never half a character, and is not followed by a NUL. */
static int write_text(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)id;
	return fwrite(text, 1, length, stdout) != length || fflush(stdout);
}

/* The first call asks how many tokens there are, the second gets them. */
static int prompt(const struct unpu_model *model, struct unpu_session *session, const char *text)
{
	size_t length = strlen(text);
	int64_t count = unpu_tokenize(model, text, length, UNPU_TOKENIZE_ADD_SPECIAL, NULL, 0);
	uint32_t *ids;
	int err;

	if (count < 0)
		return (int)count;
	ids = (uint32_t *)malloc((size_t)count * sizeof(*ids));
	if (!ids)
		return -1;
	unpu_tokenize(model, text, length, UNPU_TOKENIZE_ADD_SPECIAL, ids, (size_t)count);
	err = unpu_session_prompt(session, ids, (size_t)count);
	free(ids);
	return err;
}

static int complete(struct unpu_model *model, const char *text)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	int ret;

	params.temperature = 0;
	ret = unpu_session_create(model, &params, &session);
	if (ret < 0)
		return ret;
	fputs(text, stdout);
	ret = prompt(model, session, text);
	if (ret == 0)
		ret = unpu_session_generate(session, MAX_TOKENS, write_text, NULL);
	/* An incomplete character or a half stop string may wait for more tokens. */
	if (ret >= 0)
		unpu_session_flush(session, write_text, NULL);
	putchar('\n');
	unpu_session_destroy(session);
	return ret;
}

int main(int argc, char **argv)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;
	int ret;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: complete MODEL [TEXT]\n");
		return 2;
	}
	params.log = say;
	if (unpu_model_load(argv[1], &params, &model))
		return 1;
	ret = complete(model, argc == 3 ? argv[2] : "Once upon a time");
	unpu_model_destroy(model);
	return ret < 0;
}
