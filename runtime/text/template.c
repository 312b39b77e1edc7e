/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/template.h"
#include "runtime/text/utf8.h"

/* A template's text is searched no further: published ones have up to 20,000 bytes. */
#define MAX_SEARCH	(128u << 10)
/* A text longer than this is no default system message. */
#define MAX_PREAMBLE	1024

#define BOS	"\1"
#define EOS	"\2"

/*
 * As published by the models' makers (tokenizer_config.json beside SmolLM2 and Qwen2.5, Llama 2 and
 * 3, TinyLlama, Gemma 2 and 3, Phi-3; the training code of Stanford's Alpaca, for several turns as
 * Unsloth writes it). Where they differ or depend on more than the messages:
 *
 * chatml: answers stay as they were given, Qwen3's thoughts too.
 * llama3: without the system message that Llama 3.1 and later add, which tells the date.
 * zephyr: in TinyLlama's vocabulary <|user|> and its like are no tokens but text. A message can
 * write them too; EOS, which ends each, it cannot.
 * gemma: a system message as Gemma 3 has it; Gemma 2 has none.
 * phi3: without the EOS after a conversation that wants no answer, so that it can go on.
 *
 * The most specific come first: others mention <|user|> as well.
 */
static const struct unpu_template templates[] = {
	{
		.name = "chatml",
		.marks = { "<|im_start|>", "<|im_end|>" },
		.without = "<|im_sep|>",
		.begin = "",
		.system = { "<|im_start|>system\n", "<|im_end|>\n" },
		.user = { "<|im_start|>user\n", "<|im_end|>\n" },
		.answer = "<|im_start|>assistant\n",
		.lead = "", .end = "<|im_end|>", .next = "\n",
		.preamble_after = "<|im_start|>system", .preamble_until = "<|im_end|>",
	}, {
		.name = "llama2",
		.marks = { "bos_token+'[INST]", "<<SYS>>", "[/INST]" },
		.begin = "",
		.system = { "<<SYS>>\n", "\n<</SYS>>\n\n" },
		.user = { BOS "[INST] ", " [/INST]" },
		.answer = "",
		.lead = " ", .end = " " EOS, .next = "",
		.system_in_user = true, .trim = true, .trim_both = true, .alternate = true,
	}, {
		.name = "llama3",
		.marks = { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" },
		.begin = BOS,
		.system = { "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>" },
		.user = { "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>" },
		.answer = "<|start_header_id|>assistant<|end_header_id|>\n\n",
		.lead = "", .end = "<|eot_id|>", .next = "",
		.trim = true, .trim_system = true,
	}, {
		.name = "zephyr",
		.marks = { "'<|user|>'+message['content']+eos_token", "<|assistant|>" },
		.begin = "",
		.system = { "<|system|>\n", EOS "\n" },
		.user = { "<|user|>\n", EOS "\n" },
		.answer = "<|assistant|>\n",
		.lead = "", .end = EOS, .next = "\n",
	}, {
		.name = "gemma",
		.marks = { "<start_of_turn>model", "<end_of_turn>" },
		.begin = BOS,
		.system = { "", "\n\n" },
		.user = { "<start_of_turn>user\n", "<end_of_turn>\n" },
		.answer = "<start_of_turn>model\n",
		.lead = "", .end = "<end_of_turn>", .next = "\n",
		.system_in_user = true, .trim = true, .alternate = true,
	}, {
		.name = "phi3",
		.marks = { "<|user|>", "<|assistant|>", "<|end|>" },
		.begin = "",
		.system = { "<|system|>\n", "<|end|>\n" },
		.user = { "<|user|>\n", "<|end|>\n" },
		.answer = "<|assistant|>\n",
		.lead = "", .end = "<|end|>", .next = "\n",
	}, {
		.name = "alpaca",
		.marks = { "###Instruction:", "###Response:" },
		.without = "<|EOT|>",
		.begin = BOS,
		.system = { "", "\n\n" },
		.user = { "### Instruction:\n", "\n\n" },
		.answer = "### Response:\n",
		.lead = "", .end = EOS, .next = "\n\n",
		.preamble_begins = "Below ",
		.preamble = "Below is an instruction that describes a task. Write a response that "
			    "appropriately completes the request.",
	},
};

#define NUM_TEMPLATES	(sizeof(templates) / sizeof(templates[0]))

const struct unpu_template *unpu_template_at(uint32_t i)
{
	return i < NUM_TEMPLATES ? &templates[i] : NULL;
}

/* ---- which form a text is --------------------------------------------------------------- */

/* The next character from *at on that is no blank, \n as jinja writes it included; 0 at the end. */
static char next_solid(struct unpu_str text, size_t *at)
{
	while (*at < text.len) {
		char c = text.ptr[(*at)++];

		if (c == '\\' && *at < text.len && text.ptr[*at] == 'n')
			(*at)++;
		else if (c == '"')
			return '\'';
		else if (c && !strchr(" \t\r\n", c))
			return c;
	}
	return 0;
}

/* In time linear in the text: a match begins at what is no blank. */
static bool contains(struct unpu_str text, const char *mark)
{
	size_t at = 0, behind, i;
	char c;

	while ((c = next_solid(text, &at))) {
		behind = at;
		for (i = 0; mark[i] == c; c = next_solid(text, &behind))
			if (!mark[++i])
				return true;
	}
	return false;
}

static bool is_of(struct unpu_str text, const struct unpu_template *t)
{
	for (size_t i = 0; i < sizeof(t->marks) / sizeof(t->marks[0]); i++)
		if (t->marks[i] && !contains(text, t->marks[i]))
			return false;
	return !t->without || !contains(text, t->without);
}

/* What a string of jinja may hold and mean itself; a newline is written as one or as \n. */
static size_t plain_run(struct unpu_str text, size_t at)
{
	size_t i = at, end = text.len - at < MAX_PREAMBLE ? text.len : at + MAX_PREAMBLE;

	while (i < end && (uint8_t)text.ptr[i] >= 0x20 && text.ptr[i] != 0x7f &&
	       !strchr("'\"\\{}", text.ptr[i]))
		i++;
	return i - at;
}

static size_t skip_newline(struct unpu_str text, size_t at)
{
	if (text.len - at >= 2 && memcmp(text.ptr + at, "\\n", 2) == 0)
		return at + 2;
	return at < text.len && text.ptr[at] == '\n' ? at + 1 : at;
}

/* A template that puts the message together of parts has none that is found. */
static struct unpu_str find_preamble(struct unpu_str text, const struct unpu_template *t)
{
	const char *key = t->preamble_after ? t->preamble_after : t->preamble_begins;
	const char *from = text.ptr, *found, *end;
	size_t at, run;

	while (key && (found = memmem(from, text.len - (size_t)(from - text.ptr), key,
				      strlen(key)))) {
		at = (size_t)(found - text.ptr);
		if (t->preamble_after)
			at = skip_newline(text, at + strlen(key));
		run = plain_run(text, at);
		end = text.ptr + at + run;
		if (t->preamble_until)
			end = memmem(text.ptr + at, run, t->preamble_until,
				     strlen(t->preamble_until));
		if (end && end > text.ptr + at)
			return (struct unpu_str){ text.ptr + at, (size_t)(end - text.ptr) - at };
		from = found + 1;
	}
	return (struct unpu_str){ NULL, 0 };
}

static const struct unpu_template *template_of(struct unpu_str text)
{
	for (size_t i = 0; text.len && i < NUM_TEMPLATES; i++)
		if (is_of(text, &templates[i]))
			return &templates[i];
	return NULL;
}

static const struct unpu_template *template_named(const char *name)
{
	for (size_t i = 0; i < NUM_TEMPLATES; i++)
		if (strcmp(name, templates[i].name) == 0)
			return &templates[i];
	return NULL;
}

int unpu_form_find(struct unpu_str text, const char *name, struct unpu_form *form)
{
	const struct unpu_template *own, *t;

	if (text.len > MAX_SEARCH)
		text.len = MAX_SEARCH;
	own = template_of(text);
	t = name ? template_named(name) : own;
	if (!t)
		return name ? -EINVAL : -ENOENT;
	form->template = t;
	form->begin = t->begin;
	form->preamble = (struct unpu_str){ t->preamble, t->preamble ? strlen(t->preamble) : 0 };
	if (t != own)
		return 0;
	form->preamble = find_preamble(text, t);
	if (t->user.before[0] != BOS[0] && contains(text, "bos_token"))
		form->begin = BOS;
	return 0;
}

/* ---- a conversation as text ------------------------------------------------------------- */

/* room is enough for need more items of that size. */
static int grow(void **items, size_t size, size_t num, size_t need, size_t *room)
{
	size_t most = SIZE_MAX / 4 / size, want;
	void *more;

	if (need <= *room - num)
		return 0;
	if (num > most || need > most - num)
		return -ENOMEM;
	want = 2 * (num + need);
	more = realloc(*items, want * size);
	if (!more)
		return -ENOMEM;
	*items = more;
	*room = want;
	return 0;
}

static int put_text(struct unpu_rendered *out, const char *text, size_t length)
{
	int err = grow((void **)&out->text, 1, out->length, length, &out->room);

	if (err || length == 0)
		return err;
	memcpy(out->text + out->length, text, length);
	out->length += length;
	return 0;
}

/* The last length bytes are a span. */
static int put_span(struct unpu_rendered *out, size_t length, uint32_t token)
{
	size_t at = out->length - length;
	struct unpu_span *last;
	int err;

	if (out->num_spans && length && token == UNPU_SPAN_PARSE) {
		last = &out->spans[out->num_spans - 1];
		if (last->token == token && last->at + last->length == at) {
			last->length += length;
			return 0;
		}
	}
	err = grow((void **)&out->spans, sizeof(*out->spans), out->num_spans, 1,
		   &out->spans_room);
	if (err)
		return err;
	out->spans[out->num_spans++] = (struct unpu_span){ at, length, token };
	return 0;
}

struct render {
	const struct unpu_form *form;
	const struct unpu_tokenizer *tok;
	struct unpu_rendered *out;
	int err;		/* the first: what follows it does nothing */
};

static void put_message(struct render *r, struct unpu_str text)
{
	if (!r->err)
		r->err = put_text(r->out, text.ptr, text.len);
}

/* BOS or EOS; nothing when the vocabulary has none. */
static void put_token(struct render *r, char which)
{
	struct unpu_str text;
	uint32_t id;

	if (!(which == BOS[0] ? unpu_tokenizer_bos(r->tok, &id, &text) :
				unpu_tokenizer_eos(r->tok, &id, &text)))
		return;
	put_message(r, text);
	if (!r->err)
		r->err = put_span(r->out, text.len, id);
}

/* A string of the form itself, in which special tokens count. */
static void put_form(struct render *r, const char *text)
{
	size_t length;

	while (!r->err && *text) {
		length = strcspn(text, BOS EOS);
		if (length == 0) {
			put_token(r, *text++);
			continue;
		}
		r->err = put_text(r->out, text, length);
		if (!r->err)
			r->err = put_span(r->out, length, UNPU_SPAN_PARSE);
		text += length;
	}
}

/* What Python's str.strip() takes off, and so jinja's trim. */
static bool is_blank(uint32_t code)
{
	return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
	       code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
	       code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
	       code == 0x3000;
}

static struct unpu_str trim_end(struct unpu_str text)
{
	uint32_t code, step;

	while (text.len) {
		for (step = 1; step < 3 && step < text.len; step++)
			if ((text.ptr[text.len - step] & 0xc0) != 0x80)
				break;
		if (unpu_utf8_decode(text.ptr + text.len - step, step, &code) != step ||
		    !is_blank(code))
			break;
		text.len -= step;
	}
	return text;
}

static struct unpu_str trim_begin(struct unpu_str text)
{
	uint32_t code, step;

	while ((step = unpu_utf8_decode(text.ptr, text.len, &code)) && is_blank(code)) {
		text.ptr += step;
		text.len -= step;
	}
	return text;
}

static struct unpu_str text_of(const struct unpu_chat_message *message)
{
	return (struct unpu_str){ message->text, message->length };
}

static void put_system(struct render *r, struct unpu_str text)
{
	const struct unpu_template *t = r->form->template;

	put_form(r, t->system.before);
	put_message(r, t->trim_system ? trim_begin(trim_end(text)) : text);
	put_form(r, t->system.after);
}

/* The newlines at the end, which are the form's. */
static void drop_newlines(struct unpu_rendered *out)
{
	while (out->num_spans && out->spans[out->num_spans - 1].length &&
	       out->text[out->length - 1] == '\n') {
		out->spans[out->num_spans - 1].length--;
		out->length--;
	}
}

static void put_user(struct render *r, const struct unpu_chat_message *system,
		     struct unpu_str text)
{
	const struct unpu_template *t = r->form->template;
	bool as_one = t->trim_both && system;

	if (t->trim)
		text = as_one ? trim_end(text) : trim_begin(trim_end(text));
	put_form(r, t->user.before);
	if (system)
		put_system(r, text_of(system));
	if (as_one && text.len == 0 && !r->err)
		drop_newlines(r->out);
	put_message(r, text);
	put_form(r, t->user.after);
}

static void put_answer(struct render *r, struct unpu_str text)
{
	const struct unpu_template *t = r->form->template;

	put_form(r, t->answer);
	put_form(r, t->lead);
	put_message(r, t->trim ? trim_begin(trim_end(text)) : text);
	put_form(r, t->end);
	put_form(r, t->next);
}

/* What comes before the first message. */
static void put_begin(struct render *r, uint32_t flags, bool system)
{
	const struct unpu_form *form = r->form;
	struct unpu_str text;
	uint32_t id;

	if (flags & UNPU_CHAT_CONTINUE) {
		if (flags & UNPU_CHAT_UNENDED)
			put_form(r, form->template->end);
		put_form(r, form->template->next);
		return;
	}
	put_form(r, form->begin);
	if (!*form->begin && form->template->user.before[0] != BOS[0] &&
	    unpu_tokenizer_adds_bos(r->tok) && unpu_tokenizer_bos(r->tok, &id, &text) && !r->err)
		r->err = put_span(r->out, 0, id);
	if (!system && form->preamble.ptr)
		put_system(r, form->preamble);
}

static void put_messages(struct render *r, const struct unpu_chat_message *messages, size_t count,
			 uint32_t flags)
{
	const struct unpu_template *t = r->form->template;
	bool system = count && strcmp(messages[0].role, "system") == 0;
	const struct unpu_chat_message *held = system && t->system_in_user ? messages : NULL;
	size_t i;

	put_begin(r, flags, system);
	if (system && !held)
		put_system(r, text_of(messages));
	for (i = system; i < count; i++) {
		if (strcmp(messages[i].role, "user"))
			put_answer(r, text_of(&messages[i]));
		else
			put_user(r, held, text_of(&messages[i]));
		held = NULL;
	}
	if (flags & UNPU_CHAT_ANSWER)
		put_form(r, t->answer);
}

/* ---- what a form can say ---------------------------------------------------------------- */

static int check_flags(uint32_t flags, size_t count, const struct unpu_log *log)
{
	const uint32_t known = UNPU_CHAT_ANSWER | UNPU_CHAT_CONTINUE | UNPU_CHAT_UNENDED;

	if (flags & ~known)
		return unpu_fail(log, -EINVAL, "unknown chat flags 0x%x", flags & ~known);
	if ((flags & UNPU_CHAT_UNENDED) && !(flags & UNPU_CHAT_CONTINUE))
		return unpu_fail(log, -EINVAL,
				 "the chat flag UNENDED is for conversations that CONTINUE");
	if (count == 0 && !(flags & UNPU_CHAT_CONTINUE))
		return unpu_fail(log, -EINVAL, "a conversation without messages");
	return 0;
}

static int check_roles(const struct unpu_chat_message *messages, size_t count, uint32_t flags,
		       const struct unpu_log *log)
{
	size_t i;

	for (i = 0; i < count; i++) {
		const char *role = messages[i].role ? messages[i].role : "";

		if (strcmp(role, "system") == 0) {
			if (i || flags & UNPU_CHAT_CONTINUE)
				return unpu_fail(log, -EINVAL, "message %zu: only the first of a "
						 "conversation can be the system's", i + 1);
		} else if (strcmp(role, "user") && strcmp(role, "assistant")) {
			return unpu_fail(log, -EINVAL, "message %zu: role '%.32s' is none of "
					 "system, user, assistant", i + 1, role);
		}
	}
	return 0;
}

/* Forms that take turns have no words for anything else. */
static int check_turns(const struct unpu_template *t, const struct unpu_chat_message *messages,
		       size_t count, uint32_t flags, const struct unpu_log *log)
{
	bool system = count && strcmp(messages[0].role, "system") == 0;
	bool user = true;
	size_t i;

	if (!t->alternate)
		return 0;
	if (system && count == 1)
		return unpu_fail(log, -EINVAL, "the chat form %s has a system message only with "
				 "a user's", t->name);
	for (i = system; i < count; i++, user = !user)
		if ((strcmp(messages[i].role, "user") == 0) != user)
			return unpu_fail(log, -EINVAL, "message %zu: in the chat form %s user and "
					 "assistant take turns, the user first", i + 1, t->name);
	if ((flags & UNPU_CHAT_ANSWER) && user)
		return unpu_fail(log, -EINVAL, "in the chat form %s an answer follows a user's "
				 "message", t->name);
	return 0;
}

int unpu_form_render(const struct unpu_form *form, const struct unpu_tokenizer *tok,
		     const struct unpu_chat_message *messages, size_t count, uint32_t flags,
		     const struct unpu_log *log, struct unpu_rendered *out)
{
	struct render r = { .form = form, .tok = tok, .out = out };
	int err;

	memset(out, 0, sizeof(*out));
	err = check_flags(flags, count, log);
	if (!err)
		err = check_roles(messages, count, flags, log);
	if (!err)
		err = check_turns(form->template, messages, count, flags, log);
	if (err)
		return err;
	put_messages(&r, messages, count, flags);
	if (r.err)
		return unpu_fail(log, r.err, "no memory for a conversation of %zu messages", count);
	return 0;
}

void unpu_rendered_finish(struct unpu_rendered *out)
{
	free(out->text);
	free(out->spans);
}
