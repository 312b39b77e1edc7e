/* SPDX-License-Identifier: MIT */
/*
 * Manual pages and shell completion, made of the tables that --help prints: `make docs` keeps them
 * in tools/packaging, and a test compares.
 */
#ifndef UNPU_TOOL_DOCS_H
#define UNPU_TOOL_DOCS_H

#include "tools/unpu/options.h"

struct command_list {
	const struct command *const *command;
	size_t count;
};

/* argv: man [COMMAND], bash, zsh, or names: the commands that have a page of their own. */
int docs_main(const struct command_list *list, int argc, char **argv);

/* command NULL: of unpu itself */
void docs_man(const struct command_list *list, const struct command *command);
void docs_bash(const struct command_list *list);
void docs_zsh(const struct command_list *list);

/* What may stand where an option's value does. */
enum docs_value {
	DOCS_NONE,	/* the option takes none */
	DOCS_ANY,
	DOCS_FILE,
	DOCS_WORDS,
};
/* For DOCS_WORDS they are in words, with blanks between. */
enum docs_value docs_value(const struct option *option, char *words, size_t size);
/* A heading or an option that is not shown. */
bool docs_skips(const struct option *option);

#endif
