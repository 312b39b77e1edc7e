/* SPDX-License-Identifier: MIT */
/* Completion for bash and zsh. */
#include <string.h>

#include "tools/unpu/docs.h"
#include "tools/unpu/out.h"

static const char made[] =
	"# SPDX-License-Identifier: MIT\n"
	"# Completion of unpu's command line; made by `make docs` from the tables of the "
	"command.\n";

/* ---- bash -------------------------------------------------------------------------------- */

static void put_names(const struct option *o, const char *between)
{
	if (o->letter)
		out_printf("-%c", o->letter);
	if (o->letter && o->name)
		out_text(between);
	if (o->name)
		out_printf("--%s", o->name);
}

/* The words that begin with "-". */
static void bash_options(const struct command *c)
{
	const struct option *o;

	out_printf("\t%s) options='", c->name);
	for (o = c->options; o < c->options + c->num_options; o++) {
		if (docs_skips(o))
			continue;
		put_names(o, " ");
		out_text(" ");
	}
	out_text("-h --help' ;;\n");
}

/* How the value behind an option of a command is completed. */
static void bash_values(const struct command *c)
{
	const struct option *o;
	char words[256];

	for (o = c->options; o < c->options + c->num_options; o++) {
		enum docs_value value = docs_skips(o) ? DOCS_NONE :
					docs_value(o, words, sizeof(words));

		if (value == DOCS_NONE)
			continue;
		if (o->letter)
			out_printf("\t'%s -%c'%s", c->name, o->letter, o->name ? " | " : "");
		if (o->name)
			out_printf("%s'%s --%s'", o->letter ? "" : "\t", c->name, o->name);
		if (value == DOCS_WORDS)
			out_printf(") kind=words words='%s' ;;\n", words);
		else
			out_printf(") kind=%s ;;\n", value == DOCS_FILE ? "file" : "any");
	}
}

static void bash_takes_no_model(const struct command_list *list)
{
	size_t i;

	out_text("\tcase $command in\n");
	for (i = 0; i < list->count; i++) {
		if (!list->command[i]->takes_model)
			out_printf("\t%s) return ;;\n", list->command[i]->name);
	}
	out_text("\tesac\n");
}

void docs_bash(const struct command_list *list)
{
	size_t i;

	out_text(made);
	out_text("# shellcheck shell=bash\n\n"
		 "# Sets kind (none, any, file or words) and words of the value behind option $2\n"
		 "# of command $1.\n"
		 "_unpu_value()\n{\n\tkind=none words=\n\tcase \"$1 $2\" in\n");
	for (i = 0; i < list->count; i++)
		bash_values(list->command[i]);
	out_text("\tesac\n}\n\n"
		 "# COMPREPLY of what compgen finds for the options given.\n"
		 "_unpu_reply()\n{\n\tmapfile -t COMPREPLY < <(compgen \"$@\")\n}\n\n"
		 "_unpu_files()\n{\n"
		 "\tcompopt -o filenames 2>/dev/null\n"
		 "\t_unpu_reply \"$@\"\n}\n\n"
		 "_unpu()\n{\n"
		 "\tlocal current=${COMP_WORDS[COMP_CWORD]} before= command=${COMP_WORDS[1]}\n"
		 "\tlocal kind words options= model= i\n\n"
		 "\tCOMPREPLY=()\n"
		 "\tif ((COMP_CWORD == 1)); then\n"
		 "\t\t_unpu_reply -W '");
	for (i = 0; i < list->count; i++)
		out_printf("%s ", list->command[i]->name);
	out_text("--help --version' -- \"$current\"\n\t\treturn\n\tfi\n"
		 "\t# readline takes \"=\" for a word of its own.\n"
		 "\tbefore=${COMP_WORDS[COMP_CWORD - 1]}\n"
		 "\tif [ \"$current\" = = ]; then\n"
		 "\t\tcurrent=\n"
		 "\telif [ \"$before\" = = ]; then\n"
		 "\t\tbefore=${COMP_WORDS[COMP_CWORD - 2]}\n"
		 "\tfi\n"
		 "\t_unpu_value \"$command\" \"$before\"\n"
		 "\tcase $kind in\n"
		 "\tany) return ;;\n"
		 "\tfile) _unpu_files -f -- \"$current\"; return ;;\n"
		 "\twords) _unpu_reply -W \"$words\" -- \"$current\"; return ;;\n"
		 "\tesac\n"
		 "\tcase $command in\n");
	for (i = 0; i < list->count; i++)
		bash_options(list->command[i]);
	out_text("\tesac\n"
		 "\tif [[ $current == -* ]]; then\n"
		 "\t\t_unpu_reply -W \"$options\" -- \"$current\"\n"
		 "\t\treturn\n"
		 "\tfi\n");
	bash_takes_no_model(list);
	out_text("\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
		 "\t\t_unpu_value \"$command\" \"${COMP_WORDS[i]}\"\n"
		 "\t\tif [ \"$kind\" != none ]; then\n"
		 "\t\t\t[ \"${COMP_WORDS[i + 1]}\" = = ] && i=$((i + 1))\n"
		 "\t\t\ti=$((i + 1))\n"
		 "\t\telif [[ ${COMP_WORDS[i]} != -* ]]; then\n"
		 "\t\t\tmodel=${COMP_WORDS[i]}\n"
		 "\t\tfi\n"
		 "\tdone\n"
		 "\t[ -n \"$model\" ] && return\n"
		 "\t_unpu_files -f -X '!*.gguf' -o plusdirs -- \"$current\"\n"
		 "}\n\n"
		 "complete -F _unpu unpu\n");
}

/* ---- zsh --------------------------------------------------------------------------------- */

/* Inside '...' of an _arguments specification. */
static void put_zsh(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			out_text("'\\''");
		else if (strchr("[]:\\", *text))
			out_printf("\\%c", *text);
		else
			out_write(text, 1);
	}
}

static void zsh_value(const struct option *o)
{
	char words[256];

	switch (docs_value(o, words, sizeof(words))) {
	case DOCS_NONE:
		return;
	case DOCS_FILE:
		out_text(":file:_files");
		return;
	case DOCS_WORDS:
		out_text(":");
		put_zsh(o->value);
		out_printf(":(%s)", words);
		return;
	case DOCS_ANY:
		out_text(":");
		put_zsh(o->value);
		out_text(": ");
		return;
	}
}

static void zsh_option(const struct option *o)
{
	bool again = o->kind == OPTION_STOP || o->kind == OPTION_BIAS;

	out_text("\t\t\t'");
	if (again) {
		out_text("*'");
	} else {
		out_text("(");
		put_names(o, " ");
		out_text(")'");
	}
	if (o->letter && o->name)
		out_printf("{-%c%s,--%s%s}", o->letter, o->value ? "+" : "", o->name,
			   o->value ? "=" : "");
	else
		out_printf("--%s%s", o->name, o->value ? "=" : "");
	out_text("'[");
	put_zsh(o->help);
	out_text("]");
	zsh_value(o);
	out_text("' \\\n");
}

static void zsh_command(const struct command *c)
{
	const struct option *o;

	out_printf("\t%s)\n\t\t_arguments -s \\\n", c->name);
	for (o = c->options; o < c->options + c->num_options; o++) {
		if (!docs_skips(o))
			zsh_option(o);
	}
	if (c->takes_model)
		out_text("\t\t\t'1:model:_files -g \"*.gguf\"' \\\n");
	if (c->takes_rest)
		out_text("\t\t\t'*:ids: ' \\\n");
	out_text("\t\t\t'(-h --help)'{-h,--help}'[a list of the options]'\n\t\t;;\n");
}

void docs_zsh(const struct command_list *list)
{
	size_t i;

	out_text("#compdef unpu\n");
	out_text(made);
	out_text("\n_unpu()\n{\n\tlocal -a commands\n\n\tcommands=(\n");
	for (i = 0; i < list->count; i++) {
		out_printf("\t\t'%s:", list->command[i]->name);
		put_zsh(list->command[i]->brief);
		out_text("'\n");
	}
	out_text("\t)\n\tif ((CURRENT == 2)); then\n"
		 "\t\t_describe command commands\n"
		 "\t\tcompadd -- --help --version\n"
		 "\t\treturn\n\tfi\n"
		 "\tlocal command=$words[2]\n"
		 "\tshift words\n"
		 "\t((CURRENT--))\n"
		 "\tcase $command in\n");
	for (i = 0; i < list->count; i++)
		zsh_command(list->command[i]);
	out_text("\tesac\n}\n\n_unpu \"$@\"\n");
}
