/* SPDX-License-Identifier: MIT */
/* Forms found by a template's text, hostile texts too; special tokens within spans of a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/text/template.h"
#include "runtime/text/vocab.h"
#include "tests/lib/vocab.h"

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))
#define PARSE		UNPU_SPAN_PARSE

/* ---- finding ---------------------------------------------------------------------------- */

static struct unpu_str str(const char *text)
{
	return (struct unpu_str){ text, strlen(text) };
}

/* Published templates of other forms, which share words with those that are known. */
static void unknown(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"{{ messages }}",
		/* Mistral */
		"{{ bos_token }}{% if message['role'] == 'user' %}"
		"{{ '[INST] ' + message['content'] + ' [/INST]' }}",
		/* DeepSeek Coder */
		"{{'### Instruction:\\n' + message['content'] + '\\n'}}{%- else %}"
		"{{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}",
		/* Falcon 3: as Zephyr, but without EOS after the user */
		"{{- '<|user|>\\n' + message['content'] + '\\n' }}"
		"{{- '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}",
		/* Phi-4 */
		"{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}",
		/* Phi-4-mini: no newlines */
		"{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
		"{% if add_generation_prompt %}{{ '<|assistant|>' }}",
		/* GLM */
		"[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>{{ item['content'] }}",
		/* Marks that are not whole. */
		"<|im_start|", "<|im_start|><|im_end|", "<|start_header_id|><|end_header_id|>",
	};
	struct unpu_form form;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++)
		if (unpu_form_find(str(texts[i]), NULL, &form) != -ENOENT)
			fail_msg("'%s' is taken for %s", texts[i], form.template->name);
	assert_int_equal(unpu_form_find(str(""), "ChatML", &form), -EINVAL);
	assert_int_equal(unpu_form_find(str(""), "", &form), -EINVAL);
}

/* Blanks, newlines and quotes are the template writer's. */
static void written_otherwise(void **state)
{
	static const struct {
		const char *name, *text;
	} same[] = {
		{ "zephyr", "{{ \"<|user|>\n\"+message[ \"content\" ]\n + eos_token }}"
			    "<|assistant|>" },
		{ "llama2", "bos_token  +  \"[INST] \"... \"[/INST]\" \"<<SYS>>\"" },
		{ "alpaca", "### Instruction:\\n\\n ### Response:\n" },
		{ "gemma", "<start_of_turn>\\nmodel <end_of_turn>" },
		/* The most specific one counts. */
		{ "chatml", "<|im_start|><|im_end|><|user|><|assistant|><|end|>" },
		{ "llama3", "<|user|><|assistant|><|end|><|start_header_id|><|end_header_id|>"
			    "<|eot_id|>" },
	};
	struct unpu_form form;

	(void)state;
	for (size_t i = 0; i < COUNT(same); i++) {
		assert_int_equal(unpu_form_find(str(same[i].text), NULL, &form), 0);
		assert_string_equal(form.template->name, same[i].name);
	}
}

static void check_preamble(const char *text, const char *name, const char *want, bool bos)
{
	struct unpu_form form;

	assert_int_equal(unpu_form_find(str(text), name, &form), 0);
	if (!want)
		assert_null(form.preamble.ptr);
	else if (!form.preamble.ptr || form.preamble.len != strlen(want) ||
		 memcmp(form.preamble.ptr, want, form.preamble.len))
		fail_msg("'%s': '%.*s'", text, (int)form.preamble.len, form.preamble.ptr);
	assert_int_equal(form.begin[0] != 0, bos);
}

static void preambles(void **state)
{
	(void)state;
	check_preamble("<|im_start|>system\\nAhoy.<|im_end|>", NULL, "Ahoy.", false);
	check_preamble("<|im_start|>system\nAhoy.<|im_end|>", NULL, "Ahoy.", false);
	check_preamble("<|im_start|>system\\n' + s + '<|im_end|>", NULL, NULL, false);
	check_preamble("<|im_start|>system\\n' + s + '<|im_end|><|im_start|>system\\nb<|im_end|>",
		       NULL, "b", false);
	check_preamble("<|im_start|>system\\n<|im_end|>", NULL, NULL, false);
	check_preamble("<|im_start|>system\\na\\b<|im_end|>", NULL, NULL, false);
	check_preamble("<|im_start|>system\\n{{ a }}<|im_end|>", NULL, NULL, false);
	check_preamble("{{bos_token}}<|im_start|><|im_end|><|im_start|>system", NULL, NULL, true);
	/* A name takes what the text says of its own form only. */
	check_preamble("<|im_start|>system\\nAhoy.<|im_end|>bos_token", "chatml", "Ahoy.", true);
	check_preamble("<|im_start|>system\\nAhoy.<|im_end|>bos_token", "zephyr", NULL, false);
	check_preamble("'Below is it.\\n\\n' ### Instruction: ### Response:", NULL, "Below is it.",
		       true);
	check_preamble("### Instruction: ### Response:", NULL, NULL, true);
}

/* Texts that are quadratic to search without care; what is not linear meets the alarm. */
static void hostile(void **state)
{
	static const char *const units[] = {
		"<", " ", "\\n", "\\", "<|im_start|>system", "<|im_start|>system\\n<|im_end|>",
		"<|user|> \n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", "b o s _ t o k e", "", "Below ",
		"\xff", "###Instruction:###Response",
	};
	const size_t size = 32 << 20;
	char *text = malloc(size);
	struct unpu_form form;
	size_t i, at, length;

	(void)state;
	assert_non_null(text);
	alarm(120);
	for (i = 0; i < COUNT(units); i++) {
		length = strlen(units[i]) ? strlen(units[i]) : 1;
		for (at = 0; at < size; at++)
			text[at] = units[i][at % length];
		for (at = 0; at < 7; at++)
			unpu_form_find((struct unpu_str){ text, size }, unpu_template_at(
				       (uint32_t)at)->name, &form);
		unpu_form_find((struct unpu_str){ text, size }, NULL, &form);
	}
	alarm(0);
	/* A text is not read past its end: ASan watches the byte behind. */
	free(text);
	for (i = 0; i < 64; i++) {
		char *exact = malloc(i + !i);

		assert_non_null(exact);
		memcpy(exact, "<|im_start|>system\\n<|im_end|>'Below ### Instruction:\\n### Res"
			      "ponse:", i);
		unpu_form_find((struct unpu_str){ exact, i }, NULL, &form);
		free(exact);
	}
}

/* ---- spans ------------------------------------------------------------------------------ */

enum {
	T_UNK, T_BOS, T_EOS, T_BYTE, T_SPACE = T_BYTE + 256, T_A, T_B, T_AB, T_SPACE_A, T_MARK,
	T_MARKS, T_USER, T_LONG, NUM_TOKENS,
};

static const struct {
	const char *text;
	int32_t type;
} words[] = {
	{ "\xe2\x96\x81", 1 }, { "a", 1 }, { "b", 1 }, { "ab", 1 }, { "\xe2\x96\x81" "a", 1 },
	{ "<m>", 3 }, { "<m><m>", 3 }, { "\n\n", 4 }, { "\n\n\n<", 4 },
};

struct fixture {
	struct vocab_file file;
	struct vocab_log log;
	struct unpu_tokenizer *tok;
};

static void open_vocab(struct fixture *f)
{
	const char *tokens[NUM_TOKENS] = { "<unk>", "<s>", "</s>" };
	int32_t types[NUM_TOKENS] = { 2, 3, 3 };
	float scores[NUM_TOKENS] = { 0 };
	char names[256][8];
	struct unpu_gguf *gguf;

	for (uint32_t i = T_BYTE; i < NUM_TOKENS; i++) {
		if (i < T_SPACE)
			snprintf(names[i - T_BYTE], 8, "<0x%02X>", i - T_BYTE);
		tokens[i] = i < T_SPACE ? names[i - T_BYTE] : words[i - T_SPACE].text;
		types[i] = i < T_SPACE ? 6 : words[i - T_SPACE].type;
	}
	vocab_file_init(&f->file);
	vocab_log_init(&f->log);
	vocab_add_str(&f->file, "tokenizer.ggml.model", "llama");
	vocab_add_strings(&f->file, "tokenizer.ggml.tokens", NUM_TOKENS, tokens);
	vocab_add_i32s(&f->file, "tokenizer.ggml.token_type", NUM_TOKENS, types);
	vocab_add_f32s(&f->file, "tokenizer.ggml.scores", NUM_TOKENS, scores);
	assert_int_equal(unpu_gguf_create(f->file.data, f->file.size, &f->log.log, &gguf), 0);
	assert_int_equal(unpu_tokenizer_create(gguf, &f->log.log, &f->tok), 0);
	unpu_gguf_destroy(gguf);
}

static void finish(struct fixture *f)
{
	unpu_tokenizer_destroy(f->tok);
	vocab_file_finish(&f->file);
}

static void check_spans(const struct fixture *f, const char *text, const struct unpu_span *spans,
			size_t num_spans, bool begins, const uint32_t *want, size_t num)
{
	uint32_t ids[64];
	size_t length = strlen(text);
	char *exact = malloc(length + !length);

	assert_non_null(exact);
	memcpy(exact, text, length);
	assert_int_equal(unpu_tokenizer_encode_spans(f->tok, exact, length, spans, num_spans,
						     begins, ids, 64), num);
	for (size_t i = 0; i < num; i++)
		assert_int_equal(ids[i], want[i]);
	free(exact);
}

#define IDS(...) (const uint32_t[]){ __VA_ARGS__ }, sizeof((uint32_t[]){ __VA_ARGS__ }) / 4
#define SPANS(...) (const struct unpu_span[]){ __VA_ARGS__ }, \
	sizeof((struct unpu_span[]){ __VA_ARGS__ }) / sizeof(struct unpu_span)
#define BYTE(c) (T_BYTE + (c))
#define TEXT_M BYTE('<'), BYTE('m'), BYTE('>')

static void spans(void **state)
{
	struct fixture f;

	(void)state;
	open_vocab(&f);
	check_spans(&f, "", NULL, 0, true, NULL, 0);
	check_spans(&f, "ab", NULL, 0, false, IDS(T_AB));
	check_spans(&f, "a", NULL, 0, true, IDS(T_SPACE_A));
	check_spans(&f, "<m>", NULL, 0, true, IDS(T_SPACE, TEXT_M));
	check_spans(&f, "<m>", SPANS({ 0, 3, PARSE }), true, IDS(T_MARK));
	/* The span must hold all of it; the longest counts. */
	check_spans(&f, "<m>", SPANS({ 0, 2, PARSE }), true, IDS(T_SPACE, TEXT_M));
	check_spans(&f, "<m>", SPANS({ 1, 2, PARSE }), true, IDS(T_SPACE, TEXT_M));
	check_spans(&f, "<m><m>", SPANS({ 0, 6, PARSE }), true, IDS(T_MARKS));
	check_spans(&f, "<m><m>", SPANS({ 0, 5, PARSE }), true, IDS(T_MARK, T_SPACE, TEXT_M));
	check_spans(&f, "<m><m>", SPANS({ 0, 3, PARSE }, { 3, 3, PARSE }), true,
		    IDS(T_MARK, T_MARK));
	check_spans(&f, "<m><m>", SPANS({ 3, 3, PARSE }), false, IDS(TEXT_M, T_MARK));
	/* Text inside and outside of spans is one. */
	check_spans(&f, "ab", SPANS({ 0, 1, PARSE }), false, IDS(T_AB));
	check_spans(&f, "<m>aba<m>", SPANS({ 0, 4, PARSE }, { 5, 4, PARSE }), true,
		    IDS(T_MARK, T_SPACE_A, T_B, T_A, T_MARK));
	/* A token stands for its text, or for none. */
	check_spans(&f, "a</s>b", SPANS({ 1, 4, T_EOS }), false, IDS(T_A, T_EOS, T_SPACE, T_B));
	check_spans(&f, "ab", SPANS({ 0, 0, T_BOS }, { 2, 0, T_EOS }), false,
		    IDS(T_BOS, T_SPACE_A, T_B, T_EOS));
	check_spans(&f, "", SPANS({ 0, 0, T_BOS }, { 0, 0, T_EOS }), false, IDS(T_BOS, T_EOS));
	check_spans(&f, "ab", SPANS({ 0, 2, T_UNK }), false, IDS(T_UNK));
	/* User-defined ones count everywhere, across the ends of spans but not into a token. */
	check_spans(&f, "a\n\nb", NULL, 0, false, IDS(T_A, T_USER, T_SPACE, T_B));
	check_spans(&f, "\n\n", SPANS({ 1, 1, PARSE }), false, IDS(T_USER));
	check_spans(&f, "\n\n", SPANS({ 0, 1, PARSE }), false, IDS(T_USER));
	check_spans(&f, "\n\n", SPANS({ 1, 1, T_EOS }), false, IDS(BYTE('\n'), T_EOS));
	check_spans(&f, "\n\n\n<m>", SPANS({ 1, 2, PARSE }), false,
		    IDS(T_LONG, T_SPACE, BYTE('m'), BYTE('>')));
	check_spans(&f, "\n<m>\n\n\n<m>", SPANS({ 0, 4, PARSE }, { 7, 3, T_MARK }), false,
		    IDS(BYTE('\n'), T_MARK, T_USER, T_SPACE, BYTE('\n'), T_MARK));
	finish(&f);
}

/* Where every marker of a text lies in a span, it is as if all of the text did. */
static void spans_of_markers(void **state)
{
	static const char *const pieces[] = { "<m>", "a", "b", " ", "\n", "\n\n", "m>", "\xff" };
	uint32_t want[128], got[128];
	struct unpu_span span[16];
	uint64_t seed = 3;
	struct fixture f;
	char text[64];

	(void)state;
	open_vocab(&f);
	for (uint32_t round = 0; round < 20000; round++) {
		size_t num_spans = 0, length = 0, n, from;
		int64_t num;

		for (n = vocab_random(&seed, 12); n; n--) {
			uint32_t piece = vocab_random(&seed, 2) * vocab_random(&seed, 8);

			from = length;
			length += strlen(strcpy(text + length, pieces[piece]));
			if (piece && vocab_random(&seed, 3))
				continue;
			if (num_spans && span[num_spans - 1].at + span[num_spans - 1].length ==
			    from)
				span[num_spans - 1].length += length - from;
			else
				span[num_spans++] = (struct unpu_span){ from, length - from,
									PARSE };
		}
		num = unpu_tokenizer_encode(f.tok, text, length, UNPU_TOKENIZE_PARSE_SPECIAL,
					    want, 128);
		assert_true(num >= 0 && num <= 128);
		assert_int_equal(unpu_tokenizer_encode_spans(f.tok, text, length, span, num_spans,
							     true, got, 128), num);
		assert_int_equal(memcmp(got, want, (size_t)num * sizeof(*got)), 0);
	}
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown),
		cmocka_unit_test(written_otherwise),
		cmocka_unit_test(preambles),
		cmocka_unit_test(hostile),
		cmocka_unit_test(spans),
		cmocka_unit_test(spans_of_markers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
