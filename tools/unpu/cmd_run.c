/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/progress.h"
#include "tools/unpu/run.h"

static const struct option options[] = {
	OPTION_HEADING("Prompt"),
	OPTION_PROMPT("the text to continue"),
	OPTION_FILE("the text to continue is in FILE, - is stdin"),
	{ 0, "tokens", OPTION_TEXT, OPTION_FIELD(tokens), "IDS", NULL, 0, 0, NULL },
	{ 0, "chat", OPTION_FLAG, OPTION_FIELD(chat), NULL, NULL, 0, 0,
	  "the text is a user's message, the model's answer is written and nothing else" },
	OPTION_SYSTEM,
	OPTION_TEMPLATE,
	OPTION_HEADING("Generation"),
	{ 'n', "count", OPTION_COUNT, OPTION_FIELD(count), "N", "128", 0, INT32_MAX,
	  "tokens to generate at most" },
	{ 0, "stop", OPTION_STOP, OPTION_FIELD(stop), "TEXT", NULL, 0, 0,
	  "end before this text, which is not written" },
	OPTIONS_SAMPLER,
	OPTION_HEADING("Sessions"),
	{ 0, "load", OPTION_TEXT, OPTION_FIELD(load), "FILE", NULL, 0, 0,
	  "begin with a saved session and its settings, as far as options do not "
	  "say others; the prompt, if there is one, is appended" },
	{ 0, "save", OPTION_TEXT, OPTION_FIELD(save), "FILE", NULL, 0, 0,
	  "save the session at the end" },
	{ 0, "prompt-cache", OPTION_TEXT, OPTION_FIELD(prompt_cache), "FILE", NULL, 0, 0,
	  "keep the prompt's work in FILE: what the next prompt begins with in common does not "
	  "run again" },
	OPTION_HEADING("Machine"),
	OPTION_THREADS,
	OPTION_DEVICE,
	OPTION_CONTEXT("tokens there is room for; default: the model's, but not above 2048"),
	OPTION_KV_TYPE,
	OPTION_BATCH,
	OPTION_SPECULATE,
	OPTIONS_PACKED,
	OPTION_NO_SANDBOX,
	OPTION_HEADING("Output"),
	{ 0, "no-echo", OPTION_FLAG, OPTION_FIELD(no_echo), NULL, NULL, 0, 0,
	  "do not write the prompt before its continuation" },
	OPTION_JSON("at the end, one JSON object instead of text: text (without the prompt), ids, "
		    "reason, stats"),
	{ 0, "stats", OPTION_FLAG, OPTION_FIELD(stats), NULL, NULL, 0, 0,
	  "speed, memory and seed on stderr at the end" },
};

/* ---- before the model ------------------------------------------------------------------- */

static int check_options(struct run *run)
{
	const struct settings *s = run->settings;

	if (s->load && s->prompt_cache)
		return fail_usage("run: --load begins with a session and --prompt-cache with a "
				  "prompt: give one of them");
	if (!s->chat && (s->system || s->form))
		return fail_usage("run: %s needs --chat", s->system ? "--system" : "--template");
	if (s->chat && s->tokens)
		return fail_usage("run: --chat needs a text, not --tokens");
	if (!s->tokens)
		return EXIT_OK;
	return options_ids("run: --tokens", s->tokens, strlen(s->tokens), &run->ids, &run->count);
}

static bool has_prompt(const struct run *run)
{
	const struct settings *s = run->settings;

	return s->text || s->file || s->tokens || !s->load;
}

static int open_files(struct run *run)
{
	const struct settings *s = run->settings;
	int status = EXIT_OK;

	if (has_prompt(run))
		status = text_open("run", s, &run->input);
	if (!status && s->load)
		status = input_open(&run->loaded, s->load);
	if (!status && s->prompt_cache)
		status = input_open_if_there(&run->cache, s->prompt_cache);
	if (!status && s->prompt_cache)
		status = output_open(&run->cached, s->prompt_cache);
	if (!status && s->save)
		status = output_open(&run->saved, s->save);
	return status;
}

int run_choose_seed(struct run *run)
{
	run->seed = run->settings->seed;
	if (options_given(run->settings, OPTION_FIELD(seed)))
		return EXIT_OK;
	if (getrandom(&run->seed, sizeof(run->seed), 0) != sizeof(run->seed))
		return fail("cannot draw a seed: %s (give one with --seed)", strerror(errno));
	/* 53 bits: what reads the JSON may keep numbers as doubles. */
	run->seed >>= 11;
	return EXIT_OK;
}

int run_open_model(struct run *run)
{
	uint64_t start = now_ns();
	int status;

	status = model_open(run->settings, 0, &run->model);
	run->load_ns = now_ns() - start;
	return status;
}

/* ---- the prompt -------------------------------------------------------------------------- */

static int read_prompt(struct run *run)
{
	if (!has_prompt(run) || run->settings->tokens)
		return EXIT_OK;
	return text_read(run->settings, &run->input, &run->text, &run->length);
}

static int open_session(struct run *run)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
	int status;

	status = session_open(run->model, run->settings, run->settings->temperature, run->seed, 0,
			      &run->session);
	if (status)
		return status;
	unpu_session_info(run->session, &info);
	run->context = info.context;
	/* From here on Ctrl-C leaves what was made so far. */
	interrupt_cancels(run->session);
	return EXIT_OK;
}

static int load_session(struct run *run, struct input *file)
{
	int ret;

	log_subject(file->name);
	progress_begin("prompt");
	ret = unpu_session_load_fd(run->session, file->fd);
	progress_end();
	log_subject(NULL);
	input_close(file);
	return ret;
}

static int begin_loaded(struct run *run)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
	int err;

	if (!run->loaded.open)
		return EXIT_OK;
	err = load_session(run, &run->loaded);
	if (err >= 0)
		err = session_settings_given(run->session, run->settings, &run->seed);
	if (err < 0)
		return interrupted() ? EXIT_INTERRUPTED : fail_library(err, run->settings->load);
	unpu_session_info(run->session, &info);
	run->first = info.used;
	return EXIT_OK;
}

/* Whether the last token of a loaded session ends an answer. */
static bool is_ended(const struct run *run)
{
	uint32_t id;

	return unpu_session_tokens(run->session, run->first - 1, &id, 1) == 1 &&
	       unpu_token_is_end(run->model, id);
}

static int chat_ids(struct run *run)
{
	struct unpu_model_info info = UNPU_MODEL_INFO_INIT;
	const struct settings *s = run->settings;
	struct unpu_chat_message messages[2];
	uint32_t flags = UNPU_CHAT_ANSWER;
	size_t n = 0;

	unpu_model_info(run->model, &info);
	if (!s->form && !info.chat_template)
		return fail("%s has no chat template that is known (--template names a form)",
			    s->model);
	/* An editor's or echo's last newline is not part of what somebody says. */
	if (run->length && !s->text && run->text[run->length - 1] == '\n')
		run->length--;
	if (run->first)
		flags |= UNPU_CHAT_CONTINUE | (is_ended(run) ? 0 : UNPU_CHAT_UNENDED);
	if (s->system)
		messages[n++] = (struct unpu_chat_message){ "system", s->system,
							    strlen(s->system) };
	messages[n++] = (struct unpu_chat_message){ "user", run->text, run->length };
	return model_chat(run->model, s->form, messages, n, flags, &run->ids, &run->count);
}

static int prompt_ids(struct run *run)
{
	uint32_t flags = run->first ? 0 : UNPU_TOKENIZE_ADD_SPECIAL;
	int status = EXIT_OK;

	if (run->text && run->settings->chat)
		status = chat_ids(run);
	else if (run->text)
		status = model_tokenize(run->model, run->text, run->length, flags, &run->ids,
					&run->count);
	if (status)
		return status;
	if (!run->count && !run->first)
		return fail("the prompt is empty, and %s has no token that begins a text",
			    run->settings->model);
	if (run->first && run->count > run->context - run->first)
		return fail("the prompt has %zu tokens and the session %" PRIu32 ", the context "
			    "has room for %" PRIu32 " (-c sets it)", run->count, run->first,
			    run->context);
	if (run->count > run->context)
		return fail("the prompt has %zu tokens, the context has room for %" PRIu32
			    " (-c sets it)", run->count, run->context);
	return EXIT_OK;
}

int run_save(struct run *run, struct output *file)
{
	const char *path = file->path;
	int err;

	log_subject(path);
	err = unpu_session_save_fd(run->session, file->fd, UNPU_SAVE_KV);
	log_subject(NULL);
	return err < 0 ? fail_library(err, path) : output_commit(file);
}

/* The tokens of the cache file; the settings are the command line's. 1: with their work. */
static int load_cache(struct run *run)
{
	const struct settings *s = run->settings;
	struct unpu_session_params params;
	int ret, err;

	log_only_warns(true);
	ret = load_session(run, &run->cache);
	log_only_warns(false);
	session_settings(s, s->temperature, run->seed, 0, &params);
	err = unpu_session_set_sampler(run->session, &params);
	return err < 0 ? err : ret;
}

/* A cache that is no good is a prompt that runs. */
static int64_t replace_prompt(struct run *run, bool *ran)
{
	int good = run->cache.open ? load_cache(run) : 1;
	int64_t kept;

	progress_begin("prompt");
	kept = interrupted() ? -ECANCELED :
	       unpu_session_replace(run->session, run->ids, run->count);
	progress_end();
	*ran = good != 1 || kept < (int64_t)run->count;
	return kept;
}

static int evaluate_prompt(struct run *run)
{
	bool ran = false;
	int64_t ret;

	if (run->settings->prompt_cache) {
		ret = replace_prompt(run, &ran);
	} else {
		progress_begin("prompt");
		ret = unpu_session_prompt(run->session, run->ids, run->count);
		progress_end();
	}
	if (ret < 0 && interrupted()) {
		run->reason = UNPU_REASON_CANCELLED;
		run->generated = true;
		return EXIT_INTERRUPTED;
	}
	if (ret < 0)
		return fail_library((int)ret, run->settings->model);
	run->kept = (uint32_t)ret;
	run->first += (uint32_t)run->count;
	return ran ? run_save(run, &run->cached) : EXIT_OK;
}

/* ---- generation -------------------------------------------------------------------------- */

static int keep_text(struct run *run, const char *text, size_t length)
{
	size_t want = run->made_room ? run->made_room : 1024;
	char *more = run->made;

	while (want - run->made_length < length)
		want *= 2;
	if (want > run->made_room)
		more = realloc(run->made, want);
	if (!more)
		return fail("the text: %s", strerror(ENOMEM));
	run->made = more;
	run->made_room = want;
	memcpy(more + run->made_length, text, length);
	run->made_length += length;
	return EXIT_OK;
}

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct run *run = arg;

	(void)id;
	/* The cancel of a Ctrl-C may have ended an earlier call that was over anyway. */
	if (run->settings->json)
		return (length ? keep_text(run, text, length) : 0) || interrupted();
	out_model(text, length);
	return !out_flush() || interrupted();
}

static int generate(struct run *run)
{
	const struct settings *s = run->settings;

	if (!s->no_echo && !s->json && !s->chat)
		out_write(run->text, run->length);
	if (!s->json && !out_flush() && !interrupted())
		return EXIT_OK;
	run->reason = unpu_session_generate(run->session, s->count, on_token, run);
	if (run->reason >= 0)
		unpu_session_flush(run->session, on_token, run);
	if (!s->json) {
		out_text("\n");
		out_flush();
	}
	if (run->reason < 0)
		return fail_library(run->reason, s->model);
	/* The write that Ctrl-C broke off ends the text, not a reader that went. */
	if (run->reason == UNPU_REASON_CALLBACK && interrupted())
		run->reason = UNPU_REASON_CANCELLED;
	run->generated = true;
	if (run->reason == UNPU_REASON_CONTEXT)
		say("the context of %" PRIu32 " tokens is full, the text ends here", run->context);
	return EXIT_OK;
}

static int save_session(struct run *run)
{
	/* A Ctrl-C that came when the text had ended is for nobody. */
	unpu_session_uncancel(run->session);
	return run->settings->save ? run_save(run, &run->saved) : EXIT_OK;
}

static int run_steps(struct run *run)
{
	static int (*const steps[])(struct run *run) = {
		check_options, open_files, run_choose_seed, run_open_model, read_prompt,
		open_session, begin_loaded, prompt_ids, evaluate_prompt, generate, save_session,
	};
	int status = EXIT_OK;
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](run);
	return status;
}

static void finish(struct run *run)
{
	interrupt_cancels(NULL);
	unpu_session_destroy(run->session);
	unpu_model_destroy(run->model);
	input_close(&run->input);
	input_close(&run->loaded);
	input_close(&run->cache);
	output_discard(&run->saved);
	output_discard(&run->cached);
	free(run->ids);
	free(run->text);
	free(run->made);
}

static int run_main(const struct settings *settings)
{
	struct run run = { .settings = settings };
	int status, said = EXIT_OK;

	interrupt_catch();
	status = run_steps(&run);
	/* What was generated is shown even when it could not be saved. */
	if (run.generated && settings->json)
		said = run_json(&run);
	if (run.generated && settings->stats)
		run_stats(&run);
	finish(&run);
	status = status ? status : said;
	return !status && interrupted() ? EXIT_INTERRUPTED : status;
}

static const struct doc_item examples[] = {
	{ "unpu run model.gguf -p 'Once upon a time' -n 64", "Continue a text by 64 tokens." },
	{ "unpu run model.gguf --chat -f question.txt --temp 0",
	  "Answer a question, always in the same way." },
	{ "unpu run model.gguf -p 'A list: ' --stop '.' --json",
	  "Up to the first full stop, for a program to read." },
	{ "unpu run model.gguf -f rules.txt --save rules.session -n 0",
	  "Read a long text once..." },
	{ "unpu run model.gguf --load rules.session -p 'In short:'",
	  "...and go on from it as often as needed." },
	{ NULL, NULL },
};

const struct command cmd_run = {
	.name = "run",
	.usage = "MODEL [-p TEXT | -f FILE] [OPTIONS]",
	.brief = "continue a text",
	.details = "Continues a text, taken byte for byte from -p, from a file or from stdin, and "
		   "writes both. With --chat the text is one message of a user, put into the form "
		   "of chats that the model knows, and the answer is written alone.",
	.more = "With --json nothing but one object is written to stdout, when all is done. "
		"text is what was generated, without the prompt; bytes that are no UTF-8 are "
		"U+FFFD. ids are all generated tokens, with those that ended the text. "
		"reason is one of length (as many tokens as asked for), end (an end-of-text "
		"token), stop (the text of a --stop), context (the context is full) and "
		"cancelled (Ctrl-C). stats are the numbers of --stats.\n\n"
		"With --load nothing is read from stdin: without a prompt the session goes "
		"on from where it was. The prompt that is appended gets no token that begins "
		"a text, and only it is written before its continuation. The sampler's "
		"settings are those that were saved, but what the command line says itself "
		"goes over them.\n\n"
		"With --prompt-cache the file is read if it is there, and written again "
		"after the prompt if any of it had to run. One that is damaged or of another "
		"model is made anew, with a warning.\n\n"
		"Ctrl-C ends the text; what was made so far stays and is saved. A second "
		"Ctrl-C ends the program at once.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = run_main,
};
