/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"

struct run {
	const struct settings *settings;
	struct unpu_model *model;
	struct unpu_session *session;
	struct input input;
	char *text;
	size_t length;
	uint32_t *ids;
	size_t count;
	uint64_t seed;
	uint64_t load_ns;
	uint32_t context;
	int reason;	/* enum unpu_reason */
};

static const struct option options[] = {
	OPTION_PROMPT("the text to continue"),
	OPTION_FILE("the text to continue is in FILE, - is stdin"),
	{ 0, "tokens", OPTION_TEXT, OPTION_FIELD(tokens), "IDS", NULL, 0, 0, NULL },
	{ 'n', "count", OPTION_COUNT, OPTION_FIELD(count), "N", "128", 0, INT32_MAX,
	  "tokens to generate at most" },
	{ 0, "temp", OPTION_FLOAT, OPTION_FIELD(temperature), "X", "0.8", 0, 100,
	  "temperature, 0 takes the likeliest token" },
	{ 0, "top-k", OPTION_COUNT, OPTION_FIELD(top_k), "N", "40", 0, INT32_MAX,
	  "choose among the N likeliest tokens, 0: all" },
	{ 0, "top-p", OPTION_FLOAT, OPTION_FIELD(top_p), "X", "0.95", 0.001, 1,
	  "choose among the likeliest that have X together, 1: all" },
	{ 0, "min-p", OPTION_FLOAT, OPTION_FIELD(min_p), "X", "0.05", 0, 1,
	  "drop tokens below X times the likeliest, 0: none" },
	{ 0, "repeat-penalty", OPTION_FLOAT, OPTION_FIELD(repeat_penalty), "X", "1.0", 0.01, 100,
	  "above 1: against repetition" },
	{ 0, "repeat-last-n", OPTION_COUNT, OPTION_FIELD(repeat_last_n), "N", "64", 0, INT32_MAX,
	  "tokens that the penalty looks back on" },
	{ 0, "seed", OPTION_SEED, OPTION_FIELD(seed), "N", NULL, 0, 0,
	  "same seed, same text; default: random, --stats shows it" },
	OPTION_THREADS,
	OPTION_DEVICE,
	OPTION_CONTEXT("tokens there is room for; default: the model's, but not above 2048"),
	OPTION_KV_TYPE,
	OPTION_BATCH,
	{ 0, "stats", OPTION_FLAG, OPTION_FIELD(stats), NULL, NULL, 0, 0,
	  "speed, memory and seed on stderr at the end" },
	{ 0, "no-echo", OPTION_FLAG, OPTION_FIELD(no_echo), NULL, NULL, 0, 0,
	  "do not write the prompt before its continuation" },
};

static int choose_seed(struct run *run)
{
	run->seed = run->settings->seed;
	if (run->settings->seed_given)
		return EXIT_OK;
	if (getrandom(&run->seed, sizeof(run->seed), 0) != sizeof(run->seed))
		return fail("cannot draw a seed: %s (give one with --seed)", strerror(errno));
	return EXIT_OK;
}

static int check_options(struct run *run)
{
	const struct settings *s = run->settings;
	int status = text_open("run", s, &run->input);

	if (status || !s->tokens)
		return status;
	return options_ids("run: --tokens", s->tokens, strlen(s->tokens), &run->ids, &run->count);
}

static int open_model(struct run *run)
{
	uint64_t start = now_ns();
	int status;

	status = model_open(run->settings, 0, &run->model);
	run->load_ns = now_ns() - start;
	return status;
}

static int read_prompt(struct run *run)
{
	int status = EXIT_OK;

	if (!run->settings->tokens)
		status = text_read(run->settings, &run->input, &run->text, &run->length);
	if (!run->settings->tokens && !status)
		status = model_tokenize(run->model, run->text, run->length,
					UNPU_TOKENIZE_ADD_SPECIAL, &run->ids, &run->count);
	if (!status && !run->count)
		return fail("the prompt is empty, and %s has no token that begins a text",
			    run->settings->model);
	return status;
}

static int open_session(struct run *run)
{
	struct unpu_session_info info = { .size = sizeof(info) };
	int status;

	status = session_open(run->model, run->settings, run->settings->temperature, run->seed, 0,
			      &run->session);
	if (status)
		return status;
	unpu_session_info(run->session, &info);
	run->context = info.context;
	if (run->count > info.context)
		return fail("the prompt has %zu tokens, the context has room for %" PRIu32
			    " (-c sets it)", run->count, info.context);
	return EXIT_OK;
}

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	(void)arg;
	(void)id;
	out_write(text, length);
	return !out_flush() || interrupted();
}

static int generate(struct run *run)
{
	int err;

	if (!run->settings->no_echo)
		out_write(run->text, run->length);
	if (!out_flush())
		return EXIT_OK;
	err = unpu_session_prompt(run->session, run->ids, run->count);
	if (err < 0)
		return fail_library(err, run->settings->model);
	interrupt_handle_softly(true);
	run->reason = unpu_session_generate(run->session, run->settings->count, on_token, run);
	unpu_session_flush(run->session, on_token, run);
	out_text("\n");
	out_flush();
	if (run->reason < 0)
		return fail_library(run->reason, run->settings->model);
	if (run->reason == UNPU_REASON_CONTEXT)
		say("the context of %" PRIu32 " tokens is full, the text ends here", run->context);
	return interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
}

static double per_second(uint64_t count, uint64_t ns)
{
	return ns ? (double)count * 1e9 / (double)ns : 0;
}

static const char *reason_name(int reason)
{
	switch (reason) {
	case UNPU_REASON_LENGTH:
		return "as many tokens as asked for";
	case UNPU_REASON_END:
		return "end of text";
	case UNPU_REASON_CONTEXT:
		return "context full";
	default:
		return interrupted() ? "interrupted" : "stdout closed";
	}
}

static void print_stats(const struct run *run)
{
	struct unpu_session_info s = { .size = sizeof(s) };
	struct unpu_model_info m = { .size = sizeof(m) };

	unpu_session_info(run->session, &s);
	unpu_model_info(run->model, &m);
	fprintf(stderr, "load     %.1f ms\n", (double)run->load_ns / 1e6);
	fprintf(stderr, "prompt   %" PRIu64 " tokens, %.1f tokens/s\n", s.prompt_tokens,
		per_second(s.prompt_tokens, s.prompt_ns));
	fprintf(stderr, "decode   %" PRIu64 " tokens, %.1f tokens/s\n", s.generated_tokens,
		per_second(s.generated_tokens, s.generate_ns));
	fprintf(stderr, "memory   %.1f MiB at most, of it weights %.1f, kv %.1f, work %.1f\n",
		mebibytes(peak_memory()), mebibytes(m.weight_bytes), mebibytes(s.kv_bytes),
		mebibytes(s.work_bytes));
	fprintf(stderr, "context  %" PRIu32 " of %" PRIu32 " tokens, model's %" PRIu32 "\n", s.used,
		s.context, m.context);
	fprintf(stderr, "kv       %s, %" PRIu64 " bytes\n", kv_name(run->settings->kv), s.kv_bytes);
	fprintf(stderr, "seed     %" PRIu64 "\n", run->seed);
	fprintf(stderr, "device   %s, %s\n", m.device, m.device_name);
	fprintf(stderr, "end      %s\n", reason_name(run->reason));
}

static int run_steps(struct run *run)
{
	static int (*const steps[])(struct run *run) = {
		check_options, choose_seed, open_model, read_prompt, open_session, generate,
	};
	int status = EXIT_OK;
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](run);
	return status;
}

static int run_main(const struct settings *settings)
{
	struct run run = { .settings = settings };
	int status;

	interrupt_catch();
	status = run_steps(&run);
	if (settings->stats && (status == EXIT_OK || status == EXIT_INTERRUPTED))
		print_stats(&run);
	unpu_session_destroy(run.session);
	unpu_model_destroy(run.model);
	input_close(&run.input);
	free(run.ids);
	free(run.text);
	return status;
}

const struct command cmd_run = {
	.name = "run",
	.usage = "MODEL [-p TEXT | -f FILE] [OPTIONS]",
	.brief = "continue a text",
	.details = "Continues a text, taken byte for byte from -p, from a file or from stdin, and\n"
		   "writes both. There is no chat template.\n",
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = run_main,
};
