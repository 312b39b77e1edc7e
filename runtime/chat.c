/* SPDX-License-Identifier: MIT */
/* Conversations in a model's form: the public calls over text/template. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core.h"
#include "runtime/text/template.h"

const char *unpu_chat_template(uint32_t i)
{
	const struct unpu_template *t = unpu_template_at(i);

	return t ? t->name : NULL;
}

const char *unpu_model_chat_form(const struct unpu_model *m)
{
	struct unpu_str text = { "", 0 };
	struct unpu_form form;

	unpu_gguf_str(m->gguf, "tokenizer.chat_template", &text);
	return unpu_form_find(text, NULL, &form) ? NULL : form.template->name;
}

struct names {
	char text[128];
};

static struct names all_names(void)
{
	struct names names = { "" };
	size_t at = 0;

	for (uint32_t i = 0; unpu_chat_template(i) && at < sizeof(names.text); i++)
		at += (size_t)snprintf(names.text + at, sizeof(names.text) - at, "%s%s",
				       i ? ", " : "", unpu_chat_template(i));
	return names;
}

static int find_form(const struct unpu_model *m, const char *name, struct unpu_form *form)
{
	struct unpu_str text = { "", 0 };
	int err = unpu_gguf_str(m->gguf, "tokenizer.chat_template", &text);

	if (err && err != -ENOENT)
		return err;
	err = unpu_form_find(text, name, form);
	if (err == -EINVAL)
		return unpu_fail(&m->log, err, "no chat template is called '%.32s'; there are: %s",
				 name, all_names().text);
	if (err)
		return unpu_fail(&m->log, err, "the file %s; name one of: %s", text.len ?
				 "has a chat template that is not known" : "has no chat template",
				 all_names().text);
	return 0;
}

int64_t unpu_chat_tokens(const struct unpu_model *m, const char *name,
			 const struct unpu_chat_message *messages, size_t count, uint32_t flags,
			 uint32_t *ids, size_t max)
{
	bool begins = !(flags & UNPU_CHAT_UNENDED);
	struct unpu_rendered out;
	struct unpu_form form;
	int64_t ret = find_form(m, name, &form);

	if (ret)
		return ret;
	ret = unpu_form_render(&form, m->tok, messages, count, flags, &m->log, &out);
	if (!ret)
		ret = unpu_tokenizer_encode_spans(m->tok, out.text, out.length, out.spans,
						  out.num_spans, begins, ids, max);
	unpu_rendered_finish(&out);
	return ret;
}

int64_t unpu_chat_text(const struct unpu_model *m, const char *name,
		       const struct unpu_chat_message *messages, size_t count, uint32_t flags,
		       char *text, size_t max)
{
	struct unpu_rendered out;
	struct unpu_form form;
	int64_t ret = find_form(m, name, &form);

	if (ret)
		return ret;
	ret = unpu_form_render(&form, m->tok, messages, count, flags, &m->log, &out);
	if (!ret) {
		ret = (int64_t)out.length;
		if (out.length && max)
			memcpy(text, out.text, out.length < max ? out.length : max);
	}
	unpu_rendered_finish(&out);
	return ret;
}
