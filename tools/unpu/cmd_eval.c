/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/perplexity.h"

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
	OPTION_HEADING("Perplexity"),
	{ 0, "text", OPTION_TEXT, OPTION_FIELD(corpus), "FILE", NULL, 0, 0,
	  "perplexity of the text in FILE, - is stdin" },
	{ 0, "window", OPTION_COUNT, OPTION_FIELD(window), "N", NULL, 4, INT32_MAX,
	  "tokens of a window; default: 512, or the context if that is smaller" },
	{ 0, "against", OPTION_TEXT, OPTION_FIELD(against), "FILE", NULL, 0, 0,
	  "also compare with the logits in FILE, which --logits wrote for the same text" },
	OPTION_JSON("the result as JSON"),
	OPTION_HEADING("Comparison"),
	{ 0, "tokens", OPTION_TEXT, OPTION_FIELD(tokens), "IDS", NULL, 0, 0,
	  "the tokens, ids separated by blanks" },
	{ 0, "logits", OPTION_TEXT, OPTION_FIELD(logits), "FILE", NULL, 0, 0,
	  "write the logits after each token, float32, little-endian; with --text those that "
	  "are scored" },
	{ 0, "greedy", OPTION_COUNT, OPTION_FIELD(greedy), "N", NULL, 1, INT32_MAX,
	  "write the N likeliest ids that follow to stdout" },
	OPTION_HEADING("Machine"),
	OPTION_THREADS,
	OPTION_DEVICE,
	OPTION_CONTEXT("tokens there is room for; default: the model's, but not above 2048"),
	OPTION_KV_TYPE,
	{ 0, "class-f32", OPTION_FLAG, OPTION_FIELD(class_f32), NULL, NULL, 0, 0,
	  "keep activations in float32, where quantised weights would meet 8 bits" },
	OPTION_BATCH,
	OPTIONS_PACKED,
	OPTION_NO_SANDBOX,
};

static int check_options(struct eval *e)
{
	const struct settings *s = e->settings;
	int status;

	if (!s->tokens)
		return fail_usage("eval: --text FILE or --tokens IDS is missing");
	if (s->window || s->json || s->against)
		return fail_usage("eval: %s needs --text", s->window ? "--window" :
				  s->json ? "--json" : "--against");
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

	status = model_open(e->settings, e->settings->class_f32 ? UNPU_MODEL_CLASS_F32 : 0,
			    &e->model);
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

static int eval_tokens(const struct settings *settings)
{
	static int (*const steps[])(struct eval *e) = {
		check_options, open_model, open_session, prompt, generate,
	};
	struct eval e = { .settings = settings };
	int status = EXIT_OK;
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](&e);
	finish(&e);
	return status;
}

static int eval_text(const struct settings *s)
{
	struct input text = { 0 };
	int status;

	if (s->tokens || s->greedy)
		return fail_usage("eval: --text and %s exclude each other",
				  s->tokens ? "--tokens" : "--greedy");
	status = input_open(&text, s->corpus);
	if (!status)
		status = perplexity_main(s, &text);
	input_close(&text);
	return status;
}

static int eval_main(const struct settings *settings)
{
	interrupt_catch();
	return settings->corpus ? eval_text(settings) : eval_tokens(settings);
}

static const struct doc_item examples[] = {
	{ "unpu eval model.gguf --text wiki.test.raw", "Perplexity of a text." },
	{ "unpu eval model.gguf --text wiki.test.raw --kv int8 --json",
	  "The same with a smaller cache, for a program to read." },
	{ "unpu eval f32.gguf --text wiki.test.raw --class-f32 --kv f32 --logits base.f32 && "
	  "unpu eval q4_0.gguf --text wiki.test.raw --against base.f32",
	  "What quantisation costs: perplexities, and how far the two differ." },
	{ "unpu eval model.gguf --tokens '1 15043 3186' --logits logits.f32 --greedy 8",
	  "What the model says after three tokens." },
	{ NULL, NULL },
};

const struct command cmd_eval = {
	.name = "eval",
	.usage = "MODEL --text FILE [--against FILE] | --tokens IDS [--greedy N] "
		 "[--logits FILE] [OPTIONS]",
	.brief = "perplexity of a text; logits of given tokens",
	.details = "With --text: how well the model foresees a text, as perplexity, the lower the "
		   "better. The text is cut into windows of 512 tokens, each of them begins with "
		   "the token that begins a text if the model has one, and the second half of each "
		   "is scored. A text shorter than a window is one window; what is left after the "
		   "last whole window is not scored. With --against also how far what it says "
		   "of the next token is from what another model or another setting said: the "
		   "mean Kullback-Leibler divergence, in nats, and how often both have the same "
		   "likeliest token.\n\n"
		   "With --tokens: what the model says after given tokens, to compare it with "
		   "others. FILE gets vocabulary x tokens values; it is complete or not there at "
		   "all. Tokens that end a text do not end the greedy ids.",
	.more = "The token that begins a text takes the place of a window's first token. Of "
		"a window of N tokens, those after position N/2 (counted from 0) are scored, "
		"each from all that stand before it in the window. What follows +- is the "
		"standard error. Perplexities compare only between models with the same "
		"vocabulary, and with the same window.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = eval_main,
};
