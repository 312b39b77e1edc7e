/* SPDX-License-Identifier: MIT */
/*
 * A conversation, one line a message: chat MODEL [TEMPLATE]
 *
 * Each message is put into the form that the model was trained on and appended to the session, so
 * what was said before is never run again. Ctrl-C ends the answer, not the program.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unpu.h>

#define MAX_ANSWER	256

struct chat {
	struct unpu_model *model;
	struct unpu_session *session;
	const char *form;	/* NULL: the one that the file names */
	uint32_t continues;	/* flags of unpu_chat_tokens(): 0 before the first answer */
};

static struct unpu_session *volatile answering;

/* unpu_session_cancel() is the one call that a signal handler may make. */
static void stop_answer(int number)
{
	(void)number;
	if (answering)
		unpu_session_cancel(answering);
}

static void say(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level <= UNPU_LOG_WARN)
		fprintf(stderr, "chat: %s\n", text);
}

static int write_text(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)id;
	return fwrite(text, 1, length, stdout) != length || fflush(stdout);
}

/* Appends a message and the beginning of its answer. */
static int append(struct chat *chat, const char *text)
{
	const struct unpu_chat_message message = { "user", text, strlen(text) };
	uint32_t flags = UNPU_CHAT_ANSWER | chat->continues;
	int64_t count;
	uint32_t *ids;
	int err;

	count = unpu_chat_tokens(chat->model, chat->form, &message, 1, flags, NULL, 0);
	if (count < 0)
		return (int)count;
	ids = (uint32_t *)malloc((size_t)count * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	unpu_chat_tokens(chat->model, chat->form, &message, 1, flags, ids, (size_t)count);
	err = unpu_session_prompt(chat->session, ids, (size_t)count);
	free(ids);
	return err;
}

static int answer(struct chat *chat, const char *text)
{
	int ret = append(chat, text);

	if (ret == -ENOSPC && chat->continues) {
		fprintf(stderr, "chat: the context is full, we begin anew\n");
		unpu_session_rollback(chat->session, 0);
		chat->continues = 0;
		ret = append(chat, text);
	}
	if (ret == 0)
		ret = unpu_session_generate(chat->session, MAX_ANSWER, write_text, NULL);
	if (ret < 0)
		return ret;
	unpu_session_flush(chat->session, write_text, NULL);
	putchar('\n');
	chat->continues = UNPU_CHAT_CONTINUE;
	if (ret != UNPU_REASON_END)
		chat->continues |= UNPU_CHAT_UNENDED;
	return 0;
}

static int talk(struct chat *chat)
{
	char line[4096];
	int err = 0;

	while (!err) {
		fputs("> ", stderr);
		if (!fgets(line, sizeof(line), stdin))
			break;
		line[strcspn(line, "\n")] = '\0';
		if (!*line)
			continue;
		answering = chat->session;
		signal(SIGINT, stop_answer);
		err = answer(chat, line);
		signal(SIGINT, SIG_DFL);
		answering = NULL;
		/* Ctrl-C may have come after the last token, or in the prompt. */
		unpu_session_uncancel(chat->session);
		if (err == -ECANCELED)
			err = 0;
	}
	return err;
}

int main(int argc, char **argv)
{
	struct unpu_model_params model = UNPU_MODEL_PARAMS_INIT;
	struct unpu_session_params session = UNPU_SESSION_PARAMS_INIT;
	struct chat chat = { NULL, NULL, NULL, 0 };
	int err;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: chat MODEL [TEMPLATE]\ntemplates:");
		for (uint32_t i = 0; unpu_chat_template(i); i++)
			fprintf(stderr, " %s", unpu_chat_template(i));
		fprintf(stderr, "\n");
		return 2;
	}
	chat.form = argv[2];
	model.log = say;
	err = unpu_model_load(argv[1], &model, &chat.model);
	if (!err)
		err = unpu_session_create(chat.model, &session, &chat.session);
	if (!err)
		err = talk(&chat);
	unpu_session_destroy(chat.session);
	unpu_model_destroy(chat.model);
	return err != 0;
}
