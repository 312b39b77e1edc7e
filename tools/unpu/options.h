/* SPDX-License-Identifier: MIT */
/* One table per command drives parsing, defaults, error lines and --help. */
#ifndef UNPU_TOOL_OPTIONS_H
#define UNPU_TOOL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/unpu.h"

struct settings {
	const char *model;
	char **rest;		/* arguments after MODEL */
	int num_rest;

	const char *text, *file, *tokens, *logits, *device;
	uint32_t count, prompt_count, greedy, repeats;
	uint32_t threads, context, batch;
	enum unpu_kv kv;
	float temperature, top_p, min_p, repeat_penalty;
	uint32_t top_k, repeat_last_n;
	uint64_t seed;
	bool seed_given;
	bool special, stats, no_echo, tensors, json;
};

enum option_kind {
	OPTION_FLAG,	/* bool */
	OPTION_TEXT,	/* const char * */
	OPTION_COUNT,	/* uint32_t */
	OPTION_FLOAT,	/* float */
	OPTION_SEED,	/* uint64_t; sets seed_given */
	OPTION_KV,	/* enum unpu_kv */
};

struct option {
	char letter;		/* 0: none */
	const char *name;	/* without "--", NULL: none */
	enum option_kind kind;
	size_t field;		/* offset in struct settings */
	const char *value;	/* what --help calls the value */
	const char *initial;	/* default, parsed like a value; NULL: zero */
	double least, most;	/* OPTION_COUNT, OPTION_FLOAT */
	const char *help;	/* NULL: for unpu itself, not shown */
};

struct command {
	const char *name;
	const char *usage;	/* what follows the name: "MODEL [OPTIONS]" */
	const char *brief;	/* one line of `unpu --help` */
	const char *details;	/* above the options in the command's --help; ends with a newline */
	bool takes_model, takes_rest;
	const struct option *options;
	size_t num_options;
	int (*run)(const struct settings *settings);
};

/* EXIT_OK, with *help set when --help was among the arguments, or EXIT_USAGE after one line. */
int options_parse(const struct command *command, int argc, char **argv, struct settings *settings,
		  bool *help);
void options_help(const struct command *command);

/* Token ids separated by blanks or commas, appended to *ids, which grows and ends with free().
 * EXIT_OK, or EXIT_USAGE after one line that begins with subject. */
int options_ids(const char *subject, const char *text, size_t length, uint32_t **ids,
		size_t *count);

/* Options that several commands have. */
#define OPTION_FIELD(member) offsetof(struct settings, member)
#define OPTION_THREADS \
	{ 't', "threads", OPTION_COUNT, OPTION_FIELD(threads), "N", NULL, 1, 64, \
	  "threads; default: one per usable processor, up to 8" }
#define OPTION_DEVICE \
	{ 'd', "device", OPTION_TEXT, OPTION_FIELD(device), "NAME", "auto", 0, 0, \
	  "a device that `unpu devices` lists" }
#define OPTION_CONTEXT(what) \
	{ 'c', "context", OPTION_COUNT, OPTION_FIELD(context), "N", NULL, 1, INT32_MAX, what }
#define OPTION_KV_TYPE \
	{ 0, "kv", OPTION_KV, OPTION_FIELD(kv), "f16|f32", "f16", 0, 0, "type of the KV cache" }
#define OPTION_BATCH \
	{ 0, "batch", OPTION_COUNT, OPTION_FIELD(batch), "N", NULL, 1, 512, \
	  "prompt tokens computed at once; default: the device's choice" }
#define OPTION_JSON \
	{ 0, "json", OPTION_FLAG, OPTION_FIELD(json), NULL, NULL, 0, 0, "JSON instead of a table" }
#define OPTION_PROMPT(what) \
	{ 'p', "prompt", OPTION_TEXT, OPTION_FIELD(text), "TEXT", NULL, 0, 0, what }
#define OPTION_FILE(what) \
	{ 'f', "file", OPTION_TEXT, OPTION_FIELD(file), "FILE", NULL, 0, 0, what }

#endif
