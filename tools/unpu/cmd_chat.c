/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/conversation.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/line.h"
#include "tools/unpu/out.h"
#include "tools/unpu/progress.h"
#include "tools/unpu/run.h"
#include "tools/lib/sandbox.h"

#define BLANKS	" \t\n"

struct chat {
	struct run run;
	struct conversation talk;
	struct line *line;
	bool typed;		/* somebody types, and reads */
	bool quit;
	bool answered;		/* the next answer comes after an empty line */
	size_t written;		/* bytes of the answer */
	bool at_begin;		/* of a line of output */
	int clears;		/* Ctrl-C at an empty line, in a row */
	int status;
};

static const struct option options[] = {
	OPTION_HEADING("Conversation"),
	OPTION_SYSTEM,
	OPTION_TEMPLATE,
	{ 0, "load", OPTION_TEXT, OPTION_FIELD(load), "FILE", NULL, 0, 0,
	  "go on with a conversation that /save has written" },
	OPTION_HEADING("Answers"),
	{ 'n', "count", OPTION_COUNT, OPTION_FIELD(count), "N", "0", 0, INT32_MAX,
	  "tokens that an answer has at most; 0: as many as have room" },
	{ 0, "stop", OPTION_STOP, OPTION_FIELD(stop), "TEXT", NULL, 0, 0,
	  "an answer ends before this text, which is not written" },
	OPTIONS_SAMPLER,
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
	{ 0, "stats", OPTION_FLAG, OPTION_FIELD(stats), NULL, NULL, 0, 0,
	  "speed, memory and seed on stderr at the end" },
};

/* What is no error and no answer; stdout has answers only. */
static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...)
{
	va_list args;

	fputs("[", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("]\n", stderr);
}

/* Goes on after an error. Who reads it sees it; a script learns it from the exit status. */
static void failed(struct chat *chat, int status)
{
	log_again();
	if (!chat->typed && !chat->status)
		chat->status = status;
}

/* ---- messages and answers ---------------------------------------------------------------- */

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct chat *chat = arg;

	(void)id;
	if (!length)
		return 0;
	chat->written += length;
	chat->at_begin = text[length - 1] == '\n';
	out_model(text, length);
	return !out_flush();
}

static void note_dropped(struct chat *chat)
{
	if (chat->talk.dropped)
		note("the context is full: the oldest %zu %s dropped", chat->talk.dropped,
		     chat->talk.dropped == 1 ? "turn was" : "turns were");
	chat->talk.dropped = 0;
}

static void note_end(struct chat *chat, int reason)
{
	note_dropped(chat);
	if (reason == UNPU_REASON_LENGTH)
		note("cut after %" PRIu32 " tokens", chat->run.settings->count);
	else if (reason == UNPU_REASON_CONTEXT)
		note("the context of %" PRIu32 " tokens is full, the answer ends here",
		     chat->talk.context);
	else if (reason == UNPU_REASON_END && !chat->written)
		note("an empty answer");
}

static void answer(struct chat *chat)
{
	uint32_t count = chat->run.settings->count;
	int reason;

	chat->written = 0;
	chat->at_begin = false;
	if (chat->answered && !chat->typed)
		out_text("\n");
	chat->answered = true;
	reason = conversation_answer(&chat->talk, count ? count : SIZE_MAX, on_token, chat);
	if (!chat->at_begin)
		out_text("\n");
	if (!out_flush() && !interrupted())
		chat->quit = true;
	if (reason < 0) {
		failed(chat, fail_library(reason, chat->run.settings->model));
		return;
	}
	chat->run.reason = reason;
	chat->run.generated = true;
	note_end(chat, reason);
}

static void say_message(struct chat *chat, const char *text, size_t length)
{
	int err;

	/* One that came when nothing ran to be cancelled. */
	if (!interrupted())
		unpu_session_uncancel(chat->run.session);
	progress_begin("reading");
	err = conversation_ask(&chat->talk, text, length);
	progress_end();
	if (!err) {
		note_dropped(chat);
		answer(chat);
	} else if (err == -ENOSPC) {
		failed(chat, fail("the message has no room: it needs %zu tokens, the context has "
				  "%" PRIu32 " (-c sets it)", chat->talk.need, chat->talk.context));
	} else if (err != -ECANCELED) {
		failed(chat, fail_library(err, "the message"));
	} else if (chat->typed) {
		/* Behind the terminal's ^C. */
		out_text("\n");
		out_flush();
		note("the message was not read");
	}
}

/* ---- commands ---------------------------------------------------------------------------- */

static int do_help(struct chat *chat, const char *arg);

static int do_reset(struct chat *chat, const char *arg)
{
	int err = conversation_reset(&chat->talk);

	(void)arg;
	if (err < 0)
		return fail_library(err, "/reset");
	note("the conversation begins anew");
	return EXIT_OK;
}

static int do_save(struct chat *chat, const char *arg)
{
	struct output out;
	int status;

	if (!chat->talk.num_turns)
		return fail("/save: nothing has been said yet");
	status = output_open(&out, arg);
	if (status)
		return status;
	status = run_save(&chat->run, &out);
	output_discard(&out);
	if (!status)
		note("saved: %" PRId64 " tokens",
		     unpu_session_tokens(chat->run.session, 0, NULL, 0));
	return status;
}

static int load(struct chat *chat, struct input *in)
{
	int err;

	log_subject(in->name);
	progress_begin("loading");
	err = conversation_load(&chat->talk, in->fd);
	progress_end();
	log_subject(NULL);
	input_close(in);
	if (err >= 0)
		err = session_settings_given(chat->run.session, chat->run.settings,
					     &chat->run.seed);
	if (err == -ECANCELED)
		return interrupted() ? EXIT_INTERRUPTED : EXIT_OK;
	if (err < 0)
		return fail_library(err, in->name);
	note("loaded: %zu %s, %" PRId64 " tokens", chat->talk.num_turns,
	     chat->talk.num_turns == 1 ? "turn" : "turns",
	     unpu_session_tokens(chat->run.session, 0, NULL, 0));
	return EXIT_OK;
}

static int do_load(struct chat *chat, const char *arg)
{
	struct input in;
	int status;

	if (!strcmp(arg, "-"))
		return fail("/load: messages come from standard input, not sessions");
	status = input_open(&in, arg);
	return status ? status : load(chat, &in);
}

static int do_stats(struct chat *chat, const char *arg)
{
	(void)arg;
	run_stats(&chat->run);
	return EXIT_OK;
}

static int do_system(struct chat *chat, const char *arg)
{
	int err = conversation_set_system(&chat->talk, *arg ? arg : NULL);

	if (err < 0)
		return fail_library(err, "/system");
	note("the conversation begins anew, with %s system message", *arg ? "this" : "no");
	return EXIT_OK;
}

static int do_quit(struct chat *chat, const char *arg)
{
	(void)arg;
	chat->quit = true;
	return EXIT_OK;
}

static const struct {
	const char *name;
	const char *arg;	/* NULL: it takes none */
	bool may_miss;
	const char *help;
	int (*run)(struct chat *chat, const char *arg);
} commands[] = {
	{ "/help", NULL, false, "this list", do_help },
	{ "/reset", NULL, false, "begin the conversation anew", do_reset },
	{ "/save", "FILE", false, "write the conversation to FILE", do_save },
	{ "/load", "FILE", false, "go on with the conversation in FILE", do_load },
	{ "/stats", NULL, false, "speed, memory, how much of the context is used", do_stats },
	{ "/system", "TEXT", true, "begin anew and tell the model TEXT before all messages",
	  do_system },
	{ "/quit", NULL, false, "leave, as does Ctrl-D", do_quit },
};
#define NUM_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static int do_help(struct chat *chat, const char *arg)
{
	size_t i;

	(void)chat;
	(void)arg;
	for (i = 0; i < NUM_COMMANDS; i++)
		fprintf(stderr, "%-8s %-5s %s\n", commands[i].name,
			commands[i].arg ? commands[i].arg : "", commands[i].help);
	fputs("A message that begins with / is written with //. A line that ends with \\ goes on "
	      "in\nthe next one. Ctrl-C stops an answer.\n", stderr);
	return EXIT_OK;
}

static int run_command(struct chat *chat, char *text)
{
	char *arg = text + strcspn(text, BLANKS), *end = arg + strlen(arg);
	size_t length = (size_t)(arg - text), i;

	arg += strspn(arg, BLANKS);
	while (end > arg && strchr(BLANKS, end[-1]))
		*--end = 0;
	for (i = 0; i < NUM_COMMANDS; i++) {
		if (strlen(commands[i].name) == length && !memcmp(commands[i].name, text, length))
			break;
	}
	if (i == NUM_COMMANDS)
		return fail("there is no command %.*s; /help lists them, //... is a message",
			    (int)(length < 40 ? length : 40), text);
	if (*arg && !commands[i].arg)
		return fail("%s stands alone", commands[i].name);
	if (!*arg && commands[i].arg && !commands[i].may_miss)
		return fail("%s needs a %s", commands[i].name, commands[i].arg);
	unpu_session_uncancel(chat->run.session);
	return commands[i].run(chat, arg);
}

/* ---- lines ------------------------------------------------------------------------------- */

/* One that ends with a backslash goes on with the next, until the input ends. */
static enum line_result read_message(struct line *line, char **text, size_t *length)
{
	enum line_result got = line_read(line, "> ", text, length);
	char *more, *grown;
	size_t n;

	while (got == LINE_TEXT && *length && (*text)[*length - 1] == '\\') {
		(*text)[--*length] = 0;
		got = line_read(line, ". ", &more, &n);
		if (got == LINE_END)
			return LINE_TEXT;
		grown = got == LINE_TEXT ? realloc(*text, *length + n + 2) : *text;
		if (!grown) {
			fail("the message: %s", strerror(ENOMEM));
			got = LINE_FAILED;
		}
		*text = grown ? grown : *text;
		if (got == LINE_TEXT) {
			(*text)[(*length)++] = '\n';
			memcpy(*text + *length, more, n + 1);
			*length += n;
			free(more);
		}
	}
	return got;
}

static void take_message(struct chat *chat, char *text, size_t length)
{
	if (strspn(text, BLANKS) == length)
		return;
	if (text[0] == '/' && text[1] != '/') {
		int status = run_command(chat, text);

		if (status)
			failed(chat, status);
		return;
	}
	if (text[0] == '/')
		say_message(chat, text + 1, length - 1);
	else
		say_message(chat, text, length);
}

static void take_clear(struct chat *chat)
{
	chat->clears = line_was_empty(chat->line) ? chat->clears + 1 : 0;
	if (chat->clears == 2)
		note("/quit or Ctrl-D leaves");
}

static int talk(struct chat *chat)
{
	enum line_result got;
	size_t length = 0;

	while (!chat->quit && !interrupted()) {
		char *text = NULL;

		got = read_message(chat->line, &text, &length);
		if (got == LINE_CLEARED)
			take_clear(chat);
		else
			chat->clears = 0;
		if (got == LINE_TEXT)
			take_message(chat, text, length);
		free(text);
		if (got == LINE_END)
			break;
		if (got == LINE_FAILED)
			return EXIT_ERROR;
	}
	return chat->status;
}

/* ---- the command ------------------------------------------------------------------------- */

static int open_files(struct chat *chat)
{
	const struct settings *s = chat->run.settings;
	int status;

	if (s->load && !strcmp(s->load, "-"))
		return fail_usage("chat: messages come from standard input, not --load");
	status = line_open(&chat->line);
	if (status)
		return status;
	chat->typed = line_is_typed(chat->line);
	sandbox_allow_folder();
	return s->load ? input_open(&chat->run.loaded, s->load) : EXIT_OK;
}

static int choose_seed(struct chat *chat)
{
	return run_choose_seed(&chat->run);
}

static int open_model(struct chat *chat)
{
	return run_open_model(&chat->run);
}

static int open_session(struct chat *chat)
{
	const struct settings *s = chat->run.settings;
	struct run *run = &chat->run;
	int status;

	status = session_open(run->model, s, s->temperature, run->seed, 0, &run->session);
	if (status)
		return status;
	if (chat->typed)
		interrupt_only_cancels(run->session);
	else
		interrupt_cancels(run->session);
	return EXIT_OK;
}

static int open_talk(struct chat *chat)
{
	const struct settings *s = chat->run.settings;
	int err;

	err = conversation_open(&chat->talk, chat->run.model, chat->run.session, s->form,
				s->system);
	return err < 0 ? fail_library(err, s->model) : EXIT_OK;
}

static int load_first(struct chat *chat)
{
	return chat->run.loaded.open ? load(chat, &chat->run.loaded) : EXIT_OK;
}

static int chat_steps(struct chat *chat)
{
	static int (*const steps[])(struct chat *chat) = {
		open_files, choose_seed, open_model, open_session, open_talk, load_first, talk,
	};
	int status = EXIT_OK;
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](chat);
	return status;
}

static int chat_main(const struct settings *settings)
{
	struct chat chat = { .run.settings = settings };
	int status, saved, signal = 0;

	interrupt_catch();
	status = chat_steps(&chat);
	if (settings->stats && chat.run.generated)
		run_stats(&chat.run);
	interrupt_cancels(NULL);
	conversation_close(&chat.talk);
	unpu_session_destroy(chat.run.session);
	unpu_model_destroy(chat.run.model);
	input_close(&chat.run.loaded);
	if (chat.line)
		signal = line_signal(chat.line);
	saved = line_close(chat.line);
	if (signal) {
		/* The parent is to see what ended it. */
		out_flush();
		raise(signal);
	}
	status = status ? status : saved;
	return !status && interrupted() ? EXIT_INTERRUPTED : status;
}

static const struct doc_item examples[] = {
	{ "unpu chat model.gguf --system 'Answer in one sentence.'", "Talk, on a terminal." },
	{ "printf 'Hello\\nAnd now shorter\\n' | unpu chat model.gguf",
	  "Two messages; the answers, with an empty line between, go to stdout." },
	{ "unpu chat model.gguf --load talk.session", "Go on where /save talk.session left off." },
	{ NULL, NULL },
};

const struct command cmd_chat = {
	.name = "chat",
	.usage = "MODEL [OPTIONS]",
	.brief = "talk with a model",
	.details = "Each line is a message; what the model answers is written. On a terminal lines "
		   "can be edited and come back with the arrow keys, else stdout has nothing but "
		   "the answers, with an empty line between two. A line that ends with a backslash "
		   "goes on in the next one.\n\n"
		   "Lines that begin with / are commands, /help lists them; // at the beginning "
		   "is a / of the message. Ctrl-C stops an answer, Ctrl-D or /quit ends the "
		   "conversation.",
	.more = "When the context is full the oldest turns, a message and its answer, are dropped "
		"until a quarter of it is free; a line on stderr says how many. The system message "
		"is never dropped.\n\n"
		"/save writes a session file, /load takes one, of `unpu run --save` as well. The "
		"system message and the sampler's settings are the file's then, but for what the "
		"command line says itself. Where the file is not in the form of chats it is one "
		"turn.\n\n"
		"While a model is loaded, files are opened beneath the folder that unpu was "
		"started in and nowhere else: /save and /load take no others, unless --no-sandbox "
		"is given.\n\n"
		"Control characters in an answer are shown as \\xNN on a terminal, so that a model "
		"cannot do to the terminal what a program could.\n\n"
		"The history of lines is forgotten at the end, unless UNPU_HISTORY names a file "
		"to keep it in.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = chat_main,
};
