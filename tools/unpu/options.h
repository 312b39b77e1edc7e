/* SPDX-License-Identifier: MIT */
/* One table per command drives parsing, defaults, error lines and --help. */
#ifndef UNPU_TOOL_OPTIONS_H
#define UNPU_TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/unpu.h"

struct stop_list {
	const char *text[UNPU_MAX_STOP];
	uint32_t count;
};

struct bias_list {
	struct unpu_logit_bias bias[UNPU_MAX_BIAS];
	uint32_t count;
};

struct settings {
	const char *model;
	char **rest;		/* arguments after MODEL */
	int num_rest;

	const char *text, *file, *tokens, *logits, *device;
	const char *system, *form, *load, *save, *prompt_cache, *corpus;
	const char *packed, *output, *pack_for;
	const char *against;
	uint32_t count, prompt_count, greedy, repeats, window;
	uint32_t threads, context, batch, speculate;
	enum unpu_kv kv;
	bool class_f32;
	float temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
	uint32_t top_k, repeat_last_n;
	struct bias_list bias;
	struct stop_list stop;
	uint64_t seed;
	size_t given[64];	/* fields that the command line says itself */
	size_t num_given;
	bool special, no_sandbox, stats, clamp, no_echo, tensors, json, chat, retry, cache;
};

enum option_kind {
	OPTION_FLAG,	/* bool */
	OPTION_TEXT,	/* const char * */
	OPTION_COUNT,	/* uint32_t */
	OPTION_TEAM,	/* uint32_t, or "auto": 0 */
	OPTION_FLOAT,	/* float */
	OPTION_SEED,	/* uint64_t */
	OPTION_KV,	/* enum unpu_kv */
	OPTION_STOP,	/* struct stop_list; may be given again */
	OPTION_BIAS,	/* struct bias_list; may be given again */
	OPTION_GROUP,	/* no option: help is the heading of those that follow */
};

struct option {
	char letter;		/* 0: none */
	const char *name;	/* without "--", NULL: none */
	enum option_kind kind;
	size_t field;		/* offset in struct settings */
	/*
	 * What --help calls the value; completion knows FILE, FORM, DEVICE and words with | between
	 * them.
	 */
	const char *value;
	const char *initial;	/* default, parsed like a value; NULL: zero */
	double least, most;	/* OPTION_COUNT, OPTION_TEAM, OPTION_FLOAT */
	const char *help;	/* NULL: for unpu itself, not shown */
};

/* A term and what it means: examples, environment, files. Lists end with a NULL term. */
struct doc_item {
	const char *term, *text;
};

/* Texts are paragraphs with an empty line between them and no other newline. */
struct command {
	const char *name;
	const char *usage;	/* what follows the name: "MODEL [OPTIONS]" */
	const char *brief;	/* one line of `unpu --help` */
	const char *details;	/* above the options in --help, and in the manual page */
	const char *more;	/* in the manual page only; may be NULL */
	const struct doc_item *files;	/* for the manual page; may be NULL */
	const struct doc_item *examples;	/* a command line and what it does */
	bool takes_model, takes_rest;
	const struct option *options;
	size_t num_options;
	int (*run)(const struct settings *settings);
};

/* EXIT_OK, with *help set when --help was among the arguments, or EXIT_USAGE after one line. */
int options_parse(const struct command *command, int argc, char **argv, struct settings *settings,
		  bool *help);
/* Whether the command line says the field (OPTION_FIELD) itself. */
bool options_given(const struct settings *settings, size_t field);
void options_help(const struct command *command);
/* Range, default and whether it may be given again, as --help says it behind the option's text. */
void options_remark(const struct option *option, char *text, size_t size);
const char *kv_name(enum unpu_kv kv);

/* Token ids separated by blanks or commas, appended to *ids, which grows and ends with free().
 * EXIT_OK, or EXIT_USAGE after one line that begins with subject. */
int options_ids(const char *subject, const char *text, size_t length, uint32_t **ids,
		size_t *count);

/* Options that several commands have. */
#define OPTION_FIELD(member) offsetof(struct settings, member)
#define OPTION_THREADS \
	{ 't', "threads", OPTION_TEAM, OPTION_FIELD(threads), "N", NULL, 1, 64, \
	  "threads; auto, the default: one per usable processor, up to 8, of which as many " \
	  "decode as are measured to be fastest" }, \
	{ 0, "clamp", OPTION_FLAG, OPTION_FIELD(clamp), NULL, NULL, 0, 0, \
	  "with -t N: no more threads than usable processors" }
#define OPTION_DEVICE \
	{ 'd', "device", OPTION_TEXT, OPTION_FIELD(device), "DEVICE", "auto", 0, 0, \
	  "a device that `unpu devices` lists" }
#define OPTION_CONTEXT(what) \
	{ 'c', "context", OPTION_COUNT, OPTION_FIELD(context), "N", NULL, 1, INT32_MAX, what }
#define OPTION_KV_TYPE \
	{ 0, "kv", OPTION_KV, OPTION_FIELD(kv), "f16|f32|int8", "f16", 0, 0, \
	  "type of the KV cache; int8 takes about half of f16's memory" }
#define OPTION_BATCH \
	{ 0, "batch", OPTION_COUNT, OPTION_FIELD(batch), "N", NULL, 1, 512, \
	  "prompt tokens computed at once; default: the device's choice" }
#define OPTIONS_PACKED \
	{ 0, "packed", OPTION_TEXT, OPTION_FIELD(packed), "FILE", NULL, 0, 0, \
	  "map the weights from FILE, which unpu pack made; for the cpu" }, \
	{ 0, "cache", OPTION_FLAG, OPTION_FIELD(cache), NULL, NULL, 0, 0, \
	  "the same with a file in the user's caches, which is made where there is none that " \
	  "fits" }
#define OPTION_SPECULATE \
	{ 0, "speculate", OPTION_COUNT, OPTION_FIELD(speculate), "N", "0", 0, 15, \
	  "guess up to N tokens from the text so far and check them at once: the same text, " \
	  "sooner where it repeats itself" }
#define OPTION_NO_SANDBOX \
	{ 0, "no-sandbox", OPTION_FLAG, OPTION_FIELD(no_sandbox), NULL, NULL, 0, 0, \
	  "let the model's file be read without Landlock and seccomp, which else take away all " \
	  "files, sockets and programs" }
#define OPTION_JSON(what) \
	{ 0, "json", OPTION_FLAG, OPTION_FIELD(json), NULL, NULL, 0, 0, what }
#define OPTION_PROMPT(what) \
	{ 'p', "prompt", OPTION_TEXT, OPTION_FIELD(text), "TEXT", NULL, 0, 0, what }
#define OPTION_FILE(what) \
	{ 'f', "file", OPTION_TEXT, OPTION_FIELD(file), "FILE", NULL, 0, 0, what }
#define OPTION_HEADING(text) \
	{ 0, NULL, OPTION_GROUP, 0, NULL, NULL, 0, 0, text }
#define OPTION_SYSTEM \
	{ 0, "system", OPTION_TEXT, OPTION_FIELD(system), "TEXT", NULL, 0, 0, \
	  "what the model is told before the first message" }
#define OPTION_TEMPLATE \
	{ 0, "template", OPTION_TEXT, OPTION_FIELD(form), "FORM", NULL, 0, 0, \
	  "form of chats; default: the model's own" }
/* What chooses the next token: for a command that samples. */
#define OPTIONS_SAMPLER \
	{ 0, "temp", OPTION_FLOAT, OPTION_FIELD(temperature), "X", "0.8", 0, 100, \
	  "temperature, 0 takes the likeliest token" }, \
	{ 0, "top-k", OPTION_COUNT, OPTION_FIELD(top_k), "N", "40", 0, INT32_MAX, \
	  "choose among the N likeliest tokens, 0: all" }, \
	{ 0, "top-p", OPTION_FLOAT, OPTION_FIELD(top_p), "X", "0.95", 0.001, 1, \
	  "choose among the likeliest that have X together, 1: all" }, \
	{ 0, "min-p", OPTION_FLOAT, OPTION_FIELD(min_p), "X", "0.05", 0, 1, \
	  "drop tokens below X times the likeliest, 0: none" }, \
	{ 0, "repeat-penalty", OPTION_FLOAT, OPTION_FIELD(repeat_penalty), "X", "1.0", 0.01, 100, \
	  "above 1: against repetition" }, \
	{ 0, "frequency-penalty", OPTION_FLOAT, OPTION_FIELD(frequency_penalty), "X", "0", -100, \
	  100, "taken off a token's logit for each time that it occurred" }, \
	{ 0, "presence-penalty", OPTION_FLOAT, OPTION_FIELD(presence_penalty), "X", "0", -100, \
	  100, "taken off a token's logit once when it occurred" }, \
	{ 0, "repeat-last-n", OPTION_COUNT, OPTION_FIELD(repeat_last_n), "N", "64", 0, INT32_MAX, \
	  "tokens that the three penalties look back on" }, \
	{ 0, "bias", OPTION_BIAS, OPTION_FIELD(bias), "ID=X", NULL, -100, 100, \
	  "add X to the logit of token ID; -inf: never" }, \
	{ 0, "seed", OPTION_SEED, OPTION_FIELD(seed), "N", NULL, 0, 0, \
	  "same seed, same text; default: random, --stats shows it" }

#endif
