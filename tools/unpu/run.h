/* SPDX-License-Identifier: MIT */
/* What the files of `unpu run` share. */
#ifndef UNPU_TOOL_RUN_H
#define UNPU_TOOL_RUN_H

#include "tools/unpu/commands.h"

struct run {
	const struct settings *settings;
	struct unpu_model *model;
	struct unpu_session *session;
	struct input input, loaded, cache;
	struct output saved, cached;
	char *text;		/* the prompt */
	size_t length;
	uint32_t *ids;
	size_t count;
	char *made;		/* generated text, where it is not written at once */
	size_t made_length, made_room;
	uint64_t seed, load_ns;
	uint32_t context;
	uint32_t kept;		/* tokens of the prompt that did not run again */
	uint32_t first;		/* the session's tokens before the first that is generated */
	bool generated;		/* as far as `reason` says */
	int reason;		/* enum unpu_reason */
};

/* Steps that `unpu chat` has too; exit statuses. */
int run_choose_seed(struct run *run);
int run_open_model(struct run *run);
int run_save(struct run *run, struct output *file);

/* What is written at the end: --stats to stderr, --json to stdout. */
void run_stats(const struct run *run);
int run_json(const struct run *run);

#endif
