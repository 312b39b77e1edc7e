/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"

/* Logits held at once; with a vocabulary of 150,000 it is a hundred positions. */
#define MAX_LOGITS	((size_t)16 << 20)

struct eval {
	const struct settings *settings;
	struct unpu_model *model;
	struct unpu_session *session;
	uint32_t vocab;
	uint32_t *ids;
	size_t count;
	float *logits;
	struct output file;
	uint32_t *greedy;
	size_t num_greedy;
};

static const struct option options[] = {
	{ 0, "tokens", OPTION_TEXT, OPTION_FIELD(tokens), "IDS", NULL, 0, 0,
	  "the tokens, ids separated by blanks" },
	{ 0, "logits", OPTION_TEXT, OPTION_FIELD(logits), "FILE", NULL, 0, 0,
	  "write the logits after each token, float32, little-endian" },
	{ 0, "greedy", OPTION_COUNT, OPTION_FIELD(greedy), "N", NULL, 1, INT32_MAX,
	  "write the N likeliest ids that follow to stdout" },
	OPTION_THREADS,
	OPTION_DEVICE,
	OPTION_CONTEXT("tokens there is room for; default: the model's, but not above 2048"),
	OPTION_KV_TYPE,
	OPTION_BATCH,
};

static int check_options(struct eval *e)
{
	const struct settings *s = e->settings;
	int status;

	if (!s->tokens)
		return fail_usage("eval: --tokens is missing");
	if (!s->logits && !s->greedy)
		return fail_usage("eval: give --logits FILE, --greedy N or both");
	status = options_ids("eval: --tokens", s->tokens, strlen(s->tokens), &e->ids, &e->count);
	if (!status && !e->count)
		return fail_usage("eval: --tokens holds no id");
	if (!status && s->logits)
		status = output_open(&e->file, s->logits);
	return status;
}

static int open_model(struct eval *e)
{
	struct unpu_model_info info = { .size = sizeof(info) };
	int status;

	status = model_open(e->settings, 0, &e->model);
	if (status)
		return status;
	unpu_model_info(e->model, &info);
	e->vocab = info.vocab;
	return EXIT_OK;
}

static int open_session(struct eval *e)
{
	struct unpu_session_info info = { .size = sizeof(info) };
	int status;

	status = session_open(e->model, e->settings, 0, 0, UNPU_SESSION_NO_END, &e->session);
	if (status)
		return status;
	unpu_session_info(e->session, &info);
	if (e->count > info.context)
		return fail("there are %zu tokens, the context has room for %" PRIu32
			    " (-c sets it)", e->count, info.context);
	return EXIT_OK;
}

static int put_logits(struct eval *e, const uint32_t *ids, size_t n)
{
	int err;

	err = unpu_session_logits(e->session, ids, n, e->logits);
	if (err < 0)
		return fail_library(err, e->settings->model);
	return output_write(&e->file, e->logits, n * e->vocab * sizeof(float));
}

static int write_logits(struct eval *e)
{
	size_t chunk = e->vocab ? MAX_LOGITS / e->vocab : 0, at, n;
	int status = EXIT_OK;

	chunk = chunk > e->settings->batch ? chunk : e->settings->batch;
	chunk = chunk < e->count ? chunk : e->count;
	chunk = chunk ? chunk : 1;
	e->logits = calloc(chunk, e->vocab * sizeof(float));
	if (!e->logits)
		return fail("the logits: %s", strerror(ENOMEM));
	for (at = 0; at < e->count && !status; at += n) {
		n = e->count - at < chunk ? e->count - at : chunk;
		status = put_logits(e, e->ids + at, n);
	}
	return status ? status : output_commit(&e->file);
}

static int prompt(struct eval *e)
{
	int err;

	if (e->settings->logits)
		return write_logits(e);
	err = unpu_session_prompt(e->session, e->ids, e->count);
	return err < 0 ? fail_library(err, e->settings->model) : EXIT_OK;
}

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct eval *e = arg;

	(void)text;
	(void)length;
	/* Text that is held back comes last, with an id that is none. */
	if (id != UINT32_MAX && e->num_greedy < e->settings->greedy)
		e->greedy[e->num_greedy++] = id;
	return 0;
}

static int generate(struct eval *e)
{
	uint32_t want = e->settings->greedy;
	size_t i;
	int err;

	if (!want)
		return EXIT_OK;
	e->greedy = calloc(want, sizeof(*e->greedy));
	if (!e->greedy)
		return fail("--greedy %" PRIu32 ": %s", want, strerror(ENOMEM));
	err = unpu_session_generate(e->session, want, on_token, e);
	if (err < 0)
		return fail_library(err, e->settings->model);
	if (e->num_greedy < want)
		return fail("the context is full after %zu of %" PRIu32 " tokens (-c sets it)",
			    e->num_greedy, want);
	for (i = 0; i < e->num_greedy; i++)
		out_printf("%s%" PRIu32, i ? " " : "", e->greedy[i]);
	out_text("\n");
	return EXIT_OK;
}

static void finish(struct eval *e)
{
	unpu_session_destroy(e->session);
	unpu_model_destroy(e->model);
	output_discard(&e->file);
	free(e->ids);
	free(e->logits);
	free(e->greedy);
}

static int eval_main(const struct settings *settings)
{
	static int (*const steps[])(struct eval *e) = {
		check_options, open_model, open_session, prompt, generate,
	};
	struct eval e = { .settings = settings };
	int status = EXIT_OK;
	size_t i;

	interrupt_catch();
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](&e);
	finish(&e);
	return status;
}

const struct command cmd_eval = {
	.name = "eval",
	.usage = "MODEL --tokens IDS [--logits FILE] [--greedy N] [OPTIONS]",
	.brief = "logits and greedy ids of given tokens",
	.details = "Computes what the model says after given tokens, to compare it with others.\n"
		   "FILE gets vocabulary x tokens values; it is complete or not there at all.\n"
		   "Tokens that end a text do not end the greedy ids.\n",
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = eval_main,
};
