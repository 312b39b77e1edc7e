/* SPDX-License-Identifier: MIT */
/*
 * Any text for a chat template, any messages in the form that is found: spans lie in the text and
 * in order, and no message makes a token that ends or begins anything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/template.h"
#include "tests/lib/fuzz.h"
#include "tests/lib/vocab.h"

#define MAX_MESSAGES	6

/* ---- two vocabularies with the marks of all forms ----------------------------------------- */

static const char *const marks[] = {
	"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
	"<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>",
	"<|system|>", "<|end|>", "[INST]", "[/INST]",
};
#define NUM_MARKS	(sizeof(marks) / sizeof(marks[0]))
#define NUM_TOKENS	(256 + NUM_MARKS + 2)

static struct unpu_tokenizer *make_tokenizer(bool spm)
{
	static struct vocab_char names[256];
	static struct vocab_file files[2];
	const char *tokens[NUM_TOKENS];
	float scores[NUM_TOKENS] = { 0 };
	int32_t types[NUM_TOKENS];
	struct vocab_file *file = &files[spm];
	static char bytes[256][8];
	struct unpu_tokenizer *tok;
	struct unpu_gguf *gguf;
	uint32_t i;

	for (i = 0; i < 256; i++) {
		static const char digits[] = "0123456789ABCDEF";
		const char name[] = { '<', '0', 'x', digits[i >> 4], digits[i & 15], '>', 0 };

		memcpy(bytes[i], name, sizeof(name));
		names[i] = vocab_byte_char(i);
		tokens[i] = spm ? bytes[i] : names[i].text;
		types[i] = spm ? 6 : 1;
	}
	for (i = 0; i < NUM_MARKS; i++) {
		tokens[256 + i] = marks[i];
		types[256 + i] = 3;
	}
	tokens[256 + NUM_MARKS] = "\xe2\x96\x81";
	tokens[257 + NUM_MARKS] = "##";
	types[256 + NUM_MARKS] = 1;
	types[257 + NUM_MARKS] = 4;
	vocab_file_init(file);
	vocab_add_str(file, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	vocab_add_strings(file, "tokenizer.ggml.tokens", NUM_TOKENS, tokens);
	vocab_add_i32s(file, "tokenizer.ggml.token_type", NUM_TOKENS, types);
	vocab_add_f32s(file, "tokenizer.ggml.scores", NUM_TOKENS, scores);
	vocab_add_strings(file, "tokenizer.ggml.merges", 0, NULL);
	vocab_add_u32(file, "tokenizer.ggml.bos_token_id", 256);
	vocab_add_u32(file, "tokenizer.ggml.eos_token_id", 257);
	FUZZ_CHECK(!unpu_gguf_create(file->data, file->size, NULL, &gguf));
	FUZZ_CHECK(!unpu_tokenizer_create(gguf, NULL, &tok));
	unpu_gguf_destroy(gguf);
	return tok;
}

static const struct unpu_tokenizer *tokenizer(bool spm)
{
	static struct unpu_tokenizer *made[2];

	if (!made[spm])
		made[spm] = make_tokenizer(spm);
	return made[spm];
}

/* ---- a conversation --------------------------------------------------------------------- */

struct talk {
	struct unpu_chat_message messages[MAX_MESSAGES], harmless[MAX_MESSAGES];
	uint32_t count, flags;
	const char *name;
};

static void make_talk(struct talk *t, struct fuzz_input *in)
{
	static const char *const roles[] = { "user", "assistant", "system", "nobody" };
	static const char *const names[] = {
		"chatml", "llama2", "llama3", "zephyr", "gemma", "phi3", "alpaca", "none",
	};
	uint32_t name = fuzz_u8(in), flags = fuzz_u8(in), i, role;

	t->name = name < 8 ? names[name] : NULL;
	t->flags = flags < 0xf0 ? flags & 7 : fuzz_u32(in);
	t->count = fuzz_u8(in) % (MAX_MESSAGES + 1);
	for (i = 0; i < t->count; i++) {
		size_t length = fuzz_u8(in);

		role = fuzz_u8(in);
		/* In turn, now and then any. */
		role = role < 0xc0 ? i & 1 : role & 3;
		length = length < in->left ? length : in->left;
		t->messages[i] = (struct unpu_chat_message){
			roles[role], fuzz_copy(in->at, length), length };
		t->harmless[i] = (struct unpu_chat_message){ roles[role], "x", 1 };
		in->at += length;
		in->left -= length;
	}
}

static void check_spans(const struct unpu_rendered *out)
{
	size_t end = 0, i;

	FUZZ_CHECK(out->length <= out->room && out->num_spans <= out->spans_room);
	for (i = 0; i < out->num_spans; i++) {
		const struct unpu_span *span = &out->spans[i];

		FUZZ_CHECK(span->at >= end && span->length <= out->length - span->at);
		FUZZ_CHECK(span->token == UNPU_SPAN_PARSE || span->token < NUM_TOKENS);
		end = span->at + span->length;
	}
}

static void check_ids(const struct unpu_tokenizer *tok, const uint32_t *ids, int64_t num,
		      uint32_t controls[NUM_TOKENS])
{
	int64_t i;

	for (i = 0; i < num; i++) {
		FUZZ_CHECK(ids[i] < NUM_TOKENS);
		if (!unpu_tokenizer_piece(tok, ids[i], NULL, 0))
			controls[ids[i]]++;
	}
}

/* Ids of a conversation; which control tokens are among them, and how often. */
static int render(const struct unpu_form *form, const struct unpu_tokenizer *tok,
		  const struct talk *t, const struct unpu_chat_message *messages,
		  uint32_t controls[NUM_TOKENS])
{
	struct unpu_rendered out;
	struct fuzz_log log;
	uint32_t *ids;
	int64_t num;
	int err;

	fuzz_log_init(&log);
	memset(controls, 0, NUM_TOKENS * sizeof(*controls));
	err = unpu_form_render(form, tok, messages, t->count, t->flags, &log.log, &out);
	FUZZ_CHECK(log.errors == (err != 0) && (!err || err == -EINVAL));
	if (!err) {
		bool begins = !(t->flags & UNPU_CHAT_UNENDED);

		check_spans(&out);
		num = unpu_tokenizer_encode_spans(tok, out.text, out.length, out.spans,
						  out.num_spans, begins, NULL, 0);
		FUZZ_CHECK(num >= 0 && (uint64_t)num <= 4 * out.length + 5 + out.num_spans);
		ids = malloc(((size_t)num + !num) * sizeof(*ids));
		FUZZ_CHECK(ids);
		FUZZ_CHECK(unpu_tokenizer_encode_spans(tok, out.text, out.length, out.spans,
						       out.num_spans, begins, ids,
						       (size_t)num) == num);
		check_ids(tok, ids, num, controls);
		free(ids);
	}
	unpu_rendered_finish(&out);
	return err;
}

static void check_form(const struct unpu_form *form, struct unpu_str text)
{
	const char *at = form->preamble.ptr;

	FUZZ_CHECK(form->template && form->begin);
	FUZZ_CHECK(!at || at == form->template->preamble ||
		   (at >= text.ptr && at <= text.ptr + text.len &&
		    form->preamble.len <= (size_t)(text.ptr + text.len - at)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	const struct unpu_tokenizer *tok = tokenizer(fuzz_u8(&in) & 1);
	uint32_t real[NUM_TOKENS], plain[NUM_TOKENS], i;
	struct talk t;
	struct unpu_form form;
	struct unpu_str text;
	char *copy;
	int err;

	make_talk(&t, &in);
	copy = fuzz_copy(in.at, in.left);
	text = (struct unpu_str){ copy, in.left };
	err = unpu_form_find(text, t.name, &form);
	FUZZ_CHECK(!err || err == (t.name ? -EINVAL : -ENOENT));
	if (!err) {
		check_form(&form, text);
		err = render(&form, tok, &t, t.messages, real);
		FUZZ_CHECK(render(&form, tok, &t, t.harmless, plain) == err);
		FUZZ_CHECK(err || !memcmp(real, plain, sizeof(real)));
	}
	for (i = 0; i < t.count; i++)
		free((char *)t.messages[i].text);
	free(copy);
	return 0;
}
