/* SPDX-License-Identifier: MIT */
/*
 * A model inside a program: embed MODEL DOCUMENT STATE QUESTION [SECONDS]
 *
 * Answers questions about one document. The document is read by the model once: later questions
 * keep its tokens in the session, and a later run of the program takes them from the file STATE. A
 * thread of its own ends an answer that takes longer than SECONDS.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unpu.h>

#define MAX_DOCUMENT	(1 << 20)
#define MAX_ANSWER	128

struct tokens {
	uint32_t *ids;
	size_t count;
};

struct watch {
	struct unpu_session *session;
	struct timespec until;
	mtx_t lock;
	cnd_t changed;
	int done;
};

static void say(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level <= UNPU_LOG_WARN)
		fprintf(stderr, "embed: %s\n", text);
}

static int write_text(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)id;
	return fwrite(text, 1, length, stdout) != length || fflush(stdout);
}

static char *read_file(const char *path)
{
	char *text = (char *)malloc(MAX_DOCUMENT + 1);
	FILE *file = fopen(path, "rb");
	size_t length = 0;

	if (text && file)
		length = fread(text, 1, MAX_DOCUMENT, file);
	if (!text || !file || ferror(file)) {
		fprintf(stderr, "embed: %s: %s\n", path, strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[length] = '\0';
	}
	if (file)
		fclose(file);
	return text;
}

/* Appends the tokens of a text to those there are. */
static int add_tokens(const struct unpu_model *model, const char *text, uint32_t flags,
		      struct tokens *to)
{
	size_t length = strlen(text);
	int64_t count = unpu_tokenize(model, text, length, flags, NULL, 0);
	uint32_t *ids;

	if (count < 0)
		return (int)count;
	ids = (uint32_t *)realloc(to->ids, (to->count + (size_t)count + 1) * sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	to->ids = ids;
	unpu_tokenize(model, text, length, flags, ids + to->count, (size_t)count);
	to->count += (size_t)count;
	return 0;
}

/* In parts: tokens of the whole could join the document's end with the question's beginning. */
static int make_tokens(const struct unpu_model *model, const char *document, const char *question,
		       struct tokens *tokens)
{
	int err = add_tokens(model, document, UNPU_TOKENIZE_ADD_SPECIAL, tokens);

	if (!err)
		err = add_tokens(model, "\nQuestion: ", 0, tokens);
	if (!err)
		err = add_tokens(model, question, 0, tokens);
	if (!err)
		err = add_tokens(model, "\nAnswer:", 0, tokens);
	return err;
}

/* Waits until the answer is there or the time is over. */
static int watch_time(void *arg)
{
	struct watch *watch = (struct watch *)arg;
	int ret = thrd_success;

	mtx_lock(&watch->lock);
	while (!watch->done && ret == thrd_success)
		ret = cnd_timedwait(&watch->changed, &watch->lock, &watch->until);
	if (!watch->done)
		unpu_session_cancel(watch->session);
	mtx_unlock(&watch->lock);
	return 0;
}

/* Generates; the thread never lives longer than this call. */
static int generate(struct watch *watch)
{
	thrd_t thread;
	int reason;

	if (thrd_create(&thread, watch_time, watch) != thrd_success)
		return -ENOMEM;
	reason = unpu_session_generate(watch->session, MAX_ANSWER, write_text, NULL);
	mtx_lock(&watch->lock);
	watch->done = 1;
	cnd_signal(&watch->changed);
	mtx_unlock(&watch->lock);
	thrd_join(thread, NULL);
	/* It may have been cancelled after its last token: that is not for the next call. */
	unpu_session_uncancel(watch->session);
	return reason;
}

static int answer(struct unpu_session *session, int seconds)
{
	struct watch watch;
	int reason;

	watch.session = session;
	watch.done = 0;
	timespec_get(&watch.until, TIME_UTC);
	watch.until.tv_sec += seconds;
	mtx_init(&watch.lock, mtx_timed);
	cnd_init(&watch.changed);
	reason = generate(&watch);
	cnd_destroy(&watch.changed);
	mtx_destroy(&watch.lock);
	if (reason >= 0)
		unpu_session_flush(session, write_text, NULL);
	putchar('\n');
	if (reason == UNPU_REASON_CANCELLED)
		fprintf(stderr, "embed: stopped after %d s\n", seconds);
	return reason;
}

/* Asks one question; what the session has in common with it is not run again. */
static int ask(struct unpu_model *model, struct unpu_session *session, const char *document,
	       const char *question, int seconds)
{
	struct tokens tokens = { NULL, 0 };
	int64_t kept = make_tokens(model, document, question, &tokens);

	if (!kept)
		kept = unpu_session_replace(session, tokens.ids, tokens.count);
	free(tokens.ids);
	if (kept < 0)
		return (int)kept;
	fprintf(stderr, "embed: %lld of %zu tokens were there already\n", (long long)kept,
		tokens.count);
	return answer(session, seconds);
}

static int run(struct unpu_model *model, char **argv, const char *document, int seconds)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session;
	int ret;

	params.temperature = 0;
	ret = unpu_session_create(model, &params, &session);
	if (ret < 0)
		return ret;
	/* No file yet, or a damaged one: the model reads the document again, nothing else. */
	ret = unpu_session_load(session, argv[3]);
	if (ret == 0)
		fprintf(stderr, "embed: %s had no KV cache to use\n", argv[3]);
	ret = ask(model, session, document, argv[4], seconds);
	if (ret >= 0)
		ret = unpu_session_save(session, argv[3], UNPU_SAVE_KV);
	unpu_session_destroy(session);
	return ret;
}

int main(int argc, char **argv)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;
	char *document;
	int ret = -1;

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: embed MODEL DOCUMENT STATE QUESTION [SECONDS]\n");
		return 2;
	}
	params.log = say;
	document = read_file(argv[2]);
	if (document && !unpu_model_load(argv[1], &params, &model)) {
		ret = run(model, argv, document, argc == 6 ? atoi(argv[5]) : 60);
		unpu_model_destroy(model);
	}
	free(document);
	return ret < 0;
}
