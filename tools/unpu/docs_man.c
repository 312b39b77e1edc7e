/* SPDX-License-Identifier: MIT */
/* Manual pages in mdoc(7). */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/unpu/docs.h"
#include "tools/unpu/out.h"

/* When the texts were changed last: a date of the build would differ each day. */
#define DATE	"November 22, 2026"
#define WIDTH	78

/* ---- roff -------------------------------------------------------------------------------- */

/* verbatim: what is to be typed, with straight quotes. */
static void put_escaped(const char *text, size_t length, bool verbatim)
{
	static const struct {
		char plain;
		bool always;
		const char *escaped;
	} escapes[] = {
		{ '\\', true, "\\e" }, { '-', true, "\\-" }, { '`', true, "\\(ga" },
		{ '\'', false, "\\(aq" }, { '"', false, "\\(dq" }, { '^', true, "\\(ha" },
		{ '~', true, "\\(ti" },
	};
	size_t i, k;

	for (i = 0; i < length; i++) {
		for (k = 0; k < sizeof(escapes) / sizeof(escapes[0]); k++) {
			if (text[i] == escapes[k].plain && (escapes[k].always || verbatim))
				break;
		}
		if (k < sizeof(escapes) / sizeof(escapes[0]))
			out_text(escapes[k].escaped);
		else
			out_write(text + i, 1);
	}
}

static bool ends_sentence(const char *word, size_t n)
{
	return n > 1 && strchr(".:;", word[n - 1]);
}

/* Paragraphs; a sentence begins a line, as mdoc wants it. */
static void put_prose(const char *text)
{
	size_t at = 0, n, paragraph;

	while (*text) {
		paragraph = strspn(text, "\n");
		if (paragraph)
			out_text(at ? "\n.Pp\n" : ".Pp\n");
		at = paragraph ? 0 : at;
		text += strspn(text, " \n");
		n = strcspn(text, " \n");
		if (at && at + 1 + n > WIDTH) {
			out_text("\n");
			at = 0;
		} else if (at) {
			out_text(" ");
			at++;
		}
		if (!at && (*text == '.' || *text == '\''))
			out_text("\\&");
		put_escaped(text, n, false);
		at += n;
		if (ends_sentence(text, n) && text[n] == ' ') {
			out_text("\n");
			at = 0;
		}
		text += n;
	}
	if (at)
		out_text("\n");
}

/* What is in capitals in a usage is replaced, what begins with "-" is typed. */
static void put_usage(const char *usage)
{
	size_t n;

	while (*usage) {
		n = strspn(usage, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (n) {
			out_text("\\fI");
		} else if (*usage == '-') {
			n = 1 + strspn(usage + 1, "-abcdefghijklmnopqrstuvwxyz");
			out_text("\\fB");
		} else {
			out_write(usage++, 1);
			continue;
		}
		put_escaped(usage, n, true);
		out_text("\\fR");
		usage += n;
	}
	out_text("\n");
}

/* ---- parts of a page --------------------------------------------------------------------- */

static void put_head(const char *name, const char *brief)
{
	const char *c;

	out_text(".\\\" SPDX-License-Identifier: MIT\n"
		 ".\\\" Made by `make docs` from the tables of the command.\n"
		 ".Dd " DATE "\n.Dt UNPU");
	for (c = name; *c; c++)
		out_printf("%s%c", c == name ? "-" : "", toupper((unsigned char)*c));
	out_printf(" 1\n.Os\n.Sh NAME\n.Nm unpu%s%s\n.Nd %s\n", *name ? "-" : "", name, brief);
}

static void put_option(const struct option *o)
{
	char remark[128], text[512];

	out_text(".It");
	if (o->letter)
		out_printf(" Fl %c", o->letter);
	if (o->name)
		out_printf("%s Fl -%s", o->letter ? " ," : "", o->name);
	if (o->value)
		out_printf(" Ar %s", o->value);
	out_text("\n");
	options_remark(o, remark, sizeof(remark));
	snprintf(text, sizeof(text), "%c%s%s.", toupper((unsigned char)o->help[0]), o->help + 1,
		 remark);
	put_prose(text);
}

static void put_options(const struct command *command)
{
	const struct option *o;
	bool open = false;

	out_text(".Sh OPTIONS\n");
	for (o = command->options; o < command->options + command->num_options; o++) {
		if (!o->help)
			continue;
		if (o->kind == OPTION_GROUP) {
			out_printf("%s.Ss %s\n", open ? ".El\n" : "", o->help);
			open = false;
			continue;
		}
		if (!open)
			out_text(".Bl -tag -width Ds\n");
		open = true;
		put_option(o);
	}
	out_text(open ? ".El\n" : "");
	out_printf("%s.Bl -tag -width Ds\n.It Fl h , Fl -help\nA short form of this page.\n"
		   ".It Fl -\nWhat follows is no option.\n.El\n",
		   command->num_options && command->options->kind == OPTION_GROUP ?
		   ".Ss Help\n" : "");
}

static void put_items(const char *heading, const struct doc_item *item)
{
	if (!item || !item->term)
		return;
	out_printf(".Sh %s\n.Bl -tag -width Ds\n", heading);
	for (; item->term; item++) {
		out_text(".It ");
		put_escaped(item->term, strlen(item->term), true);
		out_text("\n");
		put_prose(item->text);
	}
	out_text(".El\n");
}

static void put_examples(const struct doc_item *item)
{
	if (!item || !item->term)
		return;
	out_text(".Sh EXAMPLES\n");
	for (; item->term; item++) {
		put_prose(item->text);
		out_text(".Bd -literal -offset indent\n");
		put_escaped(item->term, strlen(item->term), true);
		out_printf("\n.Ed\n%s", item[1].term ? ".Pp\n" : "");
	}
}

static void put_exit_status(void)
{
	static const struct doc_item statuses[] = {
		{ "0", "All went well." },
		{ "1", "An error, said in one line on standard error." },
		{ "2", "The command line is wrong." },
		{ "130", "Ctrl-C." },
		{ NULL, NULL },
	};

	put_items("EXIT STATUS", statuses);
}

static void put_environment(void)
{
	static const struct doc_item environment[] = {
		{ "UNPU_CPUMASK", "The highest instruction set that the device cpu may use: c, "
		  "avx2, avx512vnni, neon or neon_dotprod. Not set: what the processor has. What "
		  "is in use is shown by `unpu devices`." },
		{ "XDG_CACHE_HOME", "What was found out of devices, and shaders that were compiled "
		  "for them, lie in the folder unpu there, and what --cache keeps: files packed.*, "
		  "as large as a model's weights, which may be removed. Not set: ~/.cache." },
		{ "UNPU_PROBE", "The program unpu-probe, where it is neither beside unpu nor in "
		  "../libexec/unpu from there." },
		{ "TERM", "On a terminal that is not dumb, long steps show on standard error how "
		  "far they are." },
		{ NULL, NULL },
	};

	put_items("ENVIRONMENT", environment);
}

/* command NULL: none is left out. */
static void put_see_also(const struct command_list *list, const struct command *command)
{
	const struct command *other;
	const char *names[64];
	size_t n = 0, i, k;

	for (i = 0; i < list->count && n < 63; i++) {
		other = list->command[i];
		/* Sorted, as mdoc wants it. */
		for (k = n; other != command && k && strcmp(names[k - 1], other->name) > 0; k--)
			names[k] = names[k - 1];
		if (other != command) {
			names[k] = other->name;
			n++;
		}
	}
	out_text(".Sh SEE ALSO\n");
	if (command)
		out_text(".Xr unpu 1 ,\n");
	for (i = 0; i < n; i++)
		out_printf(".Xr unpu-%s 1 ,\n", names[i]);
	out_text(".Xr libunpu 3\n");
}

/* ---- pages ------------------------------------------------------------------------------- */

static void man_command(const struct command_list *list, const struct command *command)
{
	put_head(command->name, command->brief);
	out_printf(".Sh SYNOPSIS\n.Nm unpu %s\n", command->name);
	put_usage(command->usage);
	out_text(".Sh DESCRIPTION\n");
	put_prose(command->details);
	if (command->more) {
		out_text(".Pp\n");
		put_prose(command->more);
	}
	put_options(command);
	put_environment();
	put_items("FILES", command->files);
	put_exit_status();
	put_examples(command->examples);
	put_see_also(list, command);
}

static void man_all(const struct command_list *list)
{
	static const struct doc_item examples[] = {
		{ "unpu info model.gguf", "See what a file holds." },
		{ "unpu run model.gguf -p 'Once upon a time'", "Have it continue a text." },
		{ "unpu bench model.gguf", "Measure it." },
		{ NULL, NULL },
	};
	size_t i;

	put_head("", "run micro language models");
	out_text(".Sh SYNOPSIS\n.Nm unpu\n");
	put_usage("COMMAND MODEL [OPTIONS]");
	out_text(".Nm unpu\n.Fl -help | Fl -version\n.Sh DESCRIPTION\n");
	put_prose("Runs language models of 5 million to 1.5 billion parameters from GGUF files, on "
		  "processors as small boards have them. The same model, text, seed and options "
		  "give the same text with any number of threads.\n\n"
		  "Results go to standard output, all else to standard error. Options and MODEL "
		  "may stand in any order; when an option is given twice, the last one counts. A "
		  "value may follow its option as the next argument, after = or, after a single "
		  "letter, at once.");
	out_text(".Sh COMMANDS\nEach has a page of its own.\n.Bl -tag -width Ds\n");
	for (i = 0; i < list->count; i++) {
		out_printf(".It Xr unpu-%s 1\n", list->command[i]->name);
		put_prose(list->command[i]->brief);
	}
	out_text(".El\n.Sh OPTIONS\n.Bl -tag -width Ds\n.It Fl h , Fl -help\nThe commands.\n"
		 ".It Fl -version\nWhich version this is.\n.El\n");
	put_environment();
	put_exit_status();
	put_examples(examples);
	put_see_also(list, NULL);
}

void docs_man(const struct command_list *list, const struct command *command)
{
	if (command)
		man_command(list, command);
	else
		man_all(list);
}
