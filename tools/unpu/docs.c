/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "tools/unpu/docs.h"
#include "tools/unpu/out.h"

bool docs_skips(const struct option *o)
{
	return o->kind == OPTION_GROUP || !o->help;
}

static void put_forms(char *words, size_t size)
{
	const char *name;
	size_t at = 0;
	uint32_t i;

	for (i = 0; (name = unpu_chat_template(i)) && at < size; i++)
		at += (size_t)snprintf(words + at, size - at, "%s%s", i ? " " : "", name);
}

enum docs_value docs_value(const struct option *o, char *words, size_t size)
{
	char *at;

	if (!o->value)
		return DOCS_NONE;
	if (!strcmp(o->value, "FILE"))
		return DOCS_FILE;
	if (!strcmp(o->value, "FORM")) {
		put_forms(words, size);
		return DOCS_WORDS;
	}
	if (!strcmp(o->value, "DEVICE")) {
		snprintf(words, size, "auto cpu");
		return DOCS_WORDS;
	}
	if (!strchr(o->value, '|'))
		return DOCS_ANY;
	snprintf(words, size, "%s", o->value);
	while ((at = strchr(words, '|')))
		*at = ' ';
	return DOCS_WORDS;
}

static int man(const struct command_list *list, const char *name)
{
	size_t i;

	if (!name) {
		docs_man(list, NULL);
		return EXIT_OK;
	}
	for (i = 0; i < list->count; i++) {
		if (!strcmp(name, list->command[i]->name)) {
			docs_man(list, list->command[i]);
			return EXIT_OK;
		}
	}
	return fail_usage("--print-docs man: unknown command '%s'", name);
}

int docs_main(const struct command_list *list, int argc, char **argv)
{
	const char *kind = argc ? argv[0] : "";
	size_t i;

	if (!strcmp(kind, "man") && argc <= 2)
		return man(list, argv[1]);
	if (argc != 1)
		return fail_usage("--print-docs needs man [COMMAND], bash, zsh or names");
	if (!strcmp(kind, "bash"))
		docs_bash(list);
	else if (!strcmp(kind, "zsh"))
		docs_zsh(list);
	else if (!strcmp(kind, "names"))
		for (i = 0; i < list->count; i++)
			out_printf("%s\n", list->command[i]->name);
	else
		return fail_usage("--print-docs needs man [COMMAND], bash, zsh or names, not '%s'",
				  kind);
	return EXIT_OK;
}
