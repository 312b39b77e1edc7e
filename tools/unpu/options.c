/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/options.h"
#include "tools/unpu/out.h"

struct parser {
	const struct command *command;
	struct settings *settings;
	char **arg;		/* the next argument, NULL-terminated */
	bool help;
	char shown[48];		/* the option being parsed, as typed */
};

/* ---- values ------------------------------------------------------------------------------ */

/* Decimal digits only: strtoull() alone takes blanks, signs and what follows the number. */
static bool parse_u64(const char *text, uint64_t most, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !*end && !errno && *value <= most;
}

/* Not hexadecimal, NaN or infinity, which strtod() takes too. */
static bool parse_float(const char *text, double *value)
{
	char *end;

	if (!*text || strspn(text, "+-.0123456789eE") != strlen(text))
		return false;
	*value = strtod(text, &end);
	return !*end && isfinite(*value);
}

static int bad_value(const struct parser *p, const char *value, const char *allowed)
{
	return fail_usage("%s: %s must be %s, not '%s'", p->command->name, p->shown, allowed,
			  value);
}

static int set_count(const struct parser *p, const struct option *o, const char *value)
{
	uint32_t *field = (uint32_t *)((char *)p->settings + o->field);
	char allowed[80];
	uint64_t n;

	if (!parse_u64(value, (uint64_t)o->most, &n) || n < (uint64_t)o->least) {
		snprintf(allowed, sizeof(allowed), "%sa whole number from %.0f to %.0f",
			 o->kind == OPTION_TEAM ? "auto or " : "", o->least,
			 o->most);
		return bad_value(p, value, allowed);
	}
	*field = (uint32_t)n;
	return EXIT_OK;
}

static int set_team(const struct parser *p, const struct option *o, const char *value)
{
	if (strcmp(value, "auto"))
		return set_count(p, o, value);
	*(uint32_t *)((char *)p->settings + o->field) = 0;
	return EXIT_OK;
}

static int set_float(const struct parser *p, const struct option *o, const char *value)
{
	float *field = (float *)((char *)p->settings + o->field);
	char allowed[80];
	double x;

	if (!parse_float(value, &x) || x < o->least || x > o->most) {
		snprintf(allowed, sizeof(allowed), "a number from %g to %g", o->least, o->most);
		return bad_value(p, value, allowed);
	}
	*field = (float)x;
	return EXIT_OK;
}

static int set_seed(const struct parser *p, const struct option *o, const char *value)
{
	uint64_t *field = (uint64_t *)((char *)p->settings + o->field);

	if (!parse_u64(value, UINT64_MAX, field))
		return bad_value(p, value, "a whole number from 0 to 18446744073709551615");
	return EXIT_OK;
}

#define TEXT_OF_(x)	#x
#define TEXT_OF(x)	TEXT_OF_(x)

static const struct {
	const char *name;
	enum unpu_kv kv;
} kv_types[] = { { "f16", UNPU_KV_F16 }, { "f32", UNPU_KV_F32 }, { "int8", UNPU_KV_INT8 } };

const char *kv_name(enum unpu_kv kv)
{
	size_t i;

	for (i = 0; i < sizeof(kv_types) / sizeof(kv_types[0]); i++) {
		if (kv_types[i].kv == kv)
			return kv_types[i].name;
	}
	return kv_types[0].name;
}

static int set_kv(const struct parser *p, const struct option *o, const char *value)
{
	enum unpu_kv *field = (enum unpu_kv *)((char *)p->settings + o->field);

	size_t i;

	for (i = 0; i < sizeof(kv_types) / sizeof(kv_types[0]); i++) {
		if (!strcmp(value, kv_types[i].name)) {
			*field = kv_types[i].kv;
			return EXIT_OK;
		}
	}
	return bad_value(p, value, "f16, f32 or int8");
}

static int set_stop(const struct parser *p, const struct option *o, const char *value)
{
	struct stop_list *list = (void *)((char *)p->settings + o->field);

	if (!*value || strlen(value) > UNPU_MAX_STOP_LENGTH)
		return bad_value(p, value, "1 to " TEXT_OF(UNPU_MAX_STOP_LENGTH) " bytes");
	if (list->count == UNPU_MAX_STOP)
		return fail_usage("%s: %s may be given " TEXT_OF(UNPU_MAX_STOP) " times",
				  p->command->name, p->shown);
	list->text[list->count++] = value;
	return EXIT_OK;
}

/* ID=X; the last one of an id counts. */
static int set_bias(const struct parser *p, const struct option *o, const char *value)
{
	struct bias_list *list = (void *)((char *)p->settings + o->field);
	size_t digits = strspn(value, "0123456789");
	double x = -INFINITY;
	char id_text[16];
	uint32_t i = 0;
	uint64_t id;

	snprintf(id_text, sizeof(id_text), "%.*s", (int)(digits < 15 ? digits : 15), value);
	if (value[digits] != '=' || !parse_u64(id_text, UINT32_MAX, &id) ||
	    (strcmp(value + digits + 1, "-inf") &&
	     (!parse_float(value + digits + 1, &x) || x < o->least || x > o->most)))
		return bad_value(p, value, "ID=X, a token id and -100 to 100 or -inf");
	while (i < list->count && list->bias[i].id != id)
		i++;
	if (i == UNPU_MAX_BIAS)
		return fail_usage("%s: %s may name " TEXT_OF(UNPU_MAX_BIAS) " ids",
				  p->command->name, p->shown);
	list->bias[i] = (struct unpu_logit_bias){ .id = (uint32_t)id, .bias = (float)x };
	list->count += i == list->count;
	return EXIT_OK;
}

static int set_value(const struct parser *p, const struct option *o, const char *value)
{
	switch (o->kind) {
	case OPTION_FLAG:
		*(bool *)((char *)p->settings + o->field) = true;
		return EXIT_OK;
	case OPTION_TEXT:
		*(const char **)((char *)p->settings + o->field) = value;
		return EXIT_OK;
	case OPTION_TEAM:
		return set_team(p, o, value);
	case OPTION_COUNT:
		return set_count(p, o, value);
	case OPTION_FLOAT:
		return set_float(p, o, value);
	case OPTION_SEED:
		return set_seed(p, o, value);
	case OPTION_KV:
		return set_kv(p, o, value);
	case OPTION_STOP:
		return set_stop(p, o, value);
	case OPTION_BIAS:
		return set_bias(p, o, value);
	case OPTION_GROUP:
		break;
	}
	return EXIT_USAGE;
}

/* ---- options ----------------------------------------------------------------------------- */

static const struct option *find_option(const struct command *c, char letter, const char *name,
					size_t length)
{
	const struct option *o;

	for (o = c->options; o < c->options + c->num_options; o++) {
		if (letter ? o->letter == letter : o->name && !strncmp(o->name, name, length) &&
						     !o->name[length])
			return o;
	}
	return NULL;
}

bool options_given(const struct settings *settings, size_t field)
{
	for (size_t i = 0; i < settings->num_given; i++)
		if (settings->given[i] == field)
			return true;
	return false;
}

/* No command has as many options as there is room for. */
static void note_given(struct settings *settings, size_t field)
{
	if (!options_given(settings, field))
		settings->given[settings->num_given++] = field;
}

/* value is what stood behind "=" or the letter, NULL: the next argument is. */
static int take_option(struct parser *p, const struct option *o, const char *value)
{
	const char *name = p->command->name;

	if (!o)
		return fail_usage("%s: unknown option %s (unpu %s --help lists them)", name,
				  p->shown, name);
	if (o->kind == OPTION_FLAG && value)
		return fail_usage("%s: %s takes no value", name, p->shown);
	if (o->kind != OPTION_FLAG && !value)
		value = *p->arg ? *p->arg++ : NULL;
	if (o->kind != OPTION_FLAG && !value)
		return fail_usage("%s: %s needs a value: %s", name, p->shown, o->value);
	note_given(p->settings, o->field);
	return set_value(p, o, value);
}

static int parse_option(struct parser *p, const char *arg)
{
	const char *value;
	size_t length;

	if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
		p->help = true;
		return EXIT_OK;
	}
	if (arg[1] != '-') {
		snprintf(p->shown, sizeof(p->shown), "-%c", arg[1]);
		return take_option(p, find_option(p->command, arg[1], NULL, 0),
				   arg[2] ? arg + 2 : NULL);
	}
	value = strchr(arg, '=');
	length = value ? (size_t)(value - arg) : strlen(arg);
	snprintf(p->shown, sizeof(p->shown), "%.*s", (int)(length < 40 ? length : 40), arg);
	return take_option(p, find_option(p->command, 0, arg + 2, length - 2),
			   value ? value + 1 : NULL);
}

static int take_argument(struct parser *p, char *arg)
{
	struct settings *s = p->settings;

	if (p->command->takes_model && !s->model) {
		s->model = arg;
		return EXIT_OK;
	}
	if (!p->command->takes_rest)
		return fail_usage("%s: unexpected argument '%s' (usage: unpu %s %s)",
				  p->command->name, arg, p->command->name, p->command->usage);
	s->rest[s->num_rest++] = arg;
	return EXIT_OK;
}

static int set_initial(struct parser *p)
{
	const struct option *o;
	int status = EXIT_OK;

	for (o = p->command->options; o < p->command->options + p->command->num_options; o++) {
		if (o->initial && !status)
			status = set_value(p, o, o->initial);
	}
	return status;
}

int options_parse(const struct command *command, int argc, char **argv, struct settings *settings,
		  bool *help)
{
	struct parser p = { .command = command, .settings = settings, .arg = argv };
	bool only_arguments = false;
	int status;
	char *arg;

	memset(settings, 0, sizeof(*settings));
	/* Arguments only move towards the front: they are gathered where they stood. */
	settings->rest = argv;
	status = set_initial(&p);
	while (!status && !p.help && p.arg < argv + argc) {
		arg = *p.arg++;
		if (!only_arguments && !strcmp(arg, "--"))
			only_arguments = true;
		else if (!only_arguments && arg[0] == '-' && arg[1])
			status = parse_option(&p, arg);
		else
			status = take_argument(&p, arg);
	}
	*help = p.help;
	if (!status && !p.help && command->takes_model && !settings->model)
		return fail_usage("%s: MODEL is missing (usage: unpu %s %s)", command->name,
				  command->name, command->usage);
	return status;
}

/* ---- --help ------------------------------------------------------------------------------ */

#define HELP_WIDTH	79
#define HELP_COLUMN	29	/* where the texts of options stand */

/* Words of text from column `at` on, the next lines from column `indent`; ends the line. */
static void put_wrapped(const char *text, size_t at, size_t indent)
{
	size_t n;

	while (*(text += strspn(text, " "))) {
		n = strcspn(text, " ");
		if (at > indent && at + 1 + n > HELP_WIDTH) {
			out_printf("\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			out_text(" ");
			at++;
		}
		out_write(text, n);
		at += n;
		text += n;
	}
	out_text("\n");
}

/* Paragraphs, each of them wrapped. */
static void put_paragraphs(const char *text)
{
	char paragraph[1024];
	const char *end;

	while (*text) {
		end = strstr(text, "\n\n");
		end = end ? end : text + strlen(text);
		snprintf(paragraph, sizeof(paragraph), "%.*s", (int)(end - text), text);
		put_wrapped(paragraph, 0, 0);
		text = *end ? end + 2 : end;
		if (*text)
			out_text("\n");
	}
}

void options_remark(const struct option *o, char *text, size_t size)
{
	bool again = o->kind == OPTION_STOP || o->kind == OPTION_BIAS;
	char range[64] = "";

	if (o->kind == OPTION_FLOAT)
		snprintf(range, sizeof(range), " (%g to %g)", o->least, o->most);
	snprintf(text, size, "%s%s%s%s", range, o->initial ? "; default: " : "",
		 o->initial ? o->initial : "", again ? "; may be given again" : "");
}

static void help_option(const struct option *o)
{
	char left[64], remark[128], text[512];
	int n;

	if (o->kind == OPTION_GROUP) {
		out_printf("\n%s:\n", o->help);
		return;
	}
	n = snprintf(left, sizeof(left), "  %c%c%s%s%s%s%s", o->letter ? '-' : ' ',
		     o->letter ? o->letter : ' ', o->letter && o->name ? ", " : "  ",
		     o->name ? "--" : "", o->name ? o->name : "", o->value ? " " : "",
		     o->value ? o->value : "");
	options_remark(o, remark, sizeof(remark));
	snprintf(text, sizeof(text), "%s%s", o->help, remark);
	if (n + 2 > HELP_COLUMN)
		out_printf("%s\n%*s", left, HELP_COLUMN, "");
	else
		out_printf("%-*s", HELP_COLUMN, left);
	put_wrapped(text, HELP_COLUMN, HELP_COLUMN);
}

void options_help(const struct command *command)
{
	const struct option *o = command->options;

	out_printf("Usage: unpu %s", command->name);
	put_wrapped(command->usage, strlen("Usage: unpu ") + strlen(command->name), 0);
	out_text("\n");
	put_paragraphs(command->details);
	if (command->num_options && o->kind != OPTION_GROUP)
		out_text("\n");
	for (; o < command->options + command->num_options; o++) {
		if (o->help)
			help_option(o);
	}
}

/* ---- ids --------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',';
}

/* The id at *at, which is moved behind it. */
static bool parse_id(const char *text, size_t length, size_t *at, uint32_t *id)
{
	uint64_t n = 0;
	size_t i;

	for (i = *at; i < length && isdigit((unsigned char)text[i]); i++) {
		n = n * 10 + (uint64_t)(text[i] - '0');
		if (n > UINT32_MAX)
			return false;
	}
	if (i == *at || (i < length && !is_blank(text[i])))
		return false;
	*at = i;
	*id = (uint32_t)n;
	return true;
}

static bool append_id(uint32_t **ids, size_t *count, uint32_t id)
{
	uint32_t *more = *ids;

	/* Room doubles: it is used up when the count is a power of two. */
	if (!(*count & (*count - 1)))
		more = realloc(*ids, (*count ? *count * 2 : 1) * sizeof(**ids));
	if (!more)
		return false;
	*ids = more;
	more[(*count)++] = id;
	return true;
}

static int bad_id(const char *subject, const char *text, size_t length)
{
	size_t n = 0;

	while (n < length && n < 24 && !is_blank(text[n]))
		n++;
	return fail_usage("%s must be whole numbers below 4294967296 and blanks, not '%.*s'",
			  subject, (int)n, text);
}

int options_ids(const char *subject, const char *text, size_t length, uint32_t **ids, size_t *count)
{
	size_t at = 0;
	uint32_t id;

	while (at < length) {
		if (is_blank(text[at])) {
			at++;
			continue;
		}
		if (!parse_id(text, length, &at, &id))
			return bad_id(subject, text + at, length - at);
		if (!append_id(ids, count, id))
			return fail("%s: %s", subject, strerror(ENOMEM));
	}
	return EXIT_OK;
}
