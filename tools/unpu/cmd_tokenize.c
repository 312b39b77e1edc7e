/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/out.h"

static const struct option tokenize_options[] = {
	OPTION_PROMPT("the text"),
	OPTION_FILE("the text is in FILE, - is stdin"),
	{ 0, "special", OPTION_FLAG, OPTION_FIELD(special), NULL, NULL, 0, 0,
	  "BOS and EOS as the model says, and special tokens in the text are such" },
	OPTION_NO_SANDBOX,
};

static int tokenize_main(const struct settings *settings)
{
	uint32_t flags = settings->special ? UNPU_TOKENIZE_ADD_SPECIAL |
					     UNPU_TOKENIZE_PARSE_SPECIAL : 0;
	struct unpu_model *model = NULL;
	struct input input = { 0 };
	uint32_t *ids = NULL;
	char *text = NULL;
	size_t length, count = 0, i;
	int status;

	status = text_open("tokenize", settings, &input);
	if (!status)
		status = model_open(settings, UNPU_MODEL_VOCAB_ONLY, &model);
	if (!status)
		status = text_read(settings, &input, &text, &length);
	if (!status)
		status = model_tokenize(model, text, length, flags, &ids, &count);
	for (i = 0; i < count; i++)
		out_printf("%s%" PRIu32, i ? " " : "", ids[i]);
	if (!status)
		out_text("\n");
	unpu_model_destroy(model);
	input_close(&input);
	free(ids);
	free(text);
	return status;
}

static const struct doc_item tokenize_examples[] = {
	{ "unpu tokenize model.gguf -p 'Hello world'", "The ids of two words." },
	{ "unpu tokenize model.gguf -f text.txt | wc -w", "How many tokens a text has." },
	{ NULL, NULL },
};

const struct command cmd_tokenize = {
	.name = "tokenize",
	.usage = "MODEL [-p TEXT | -f FILE] [--special]",
	.brief = "text to token ids",
	.details = "Writes the token ids of a text, taken byte for byte from -p, from a file "
		   "or from stdin, on one line. MODEL may be a file that holds only a "
		   "tokenizer.",
	.examples = tokenize_examples,
	.takes_model = true,
	.options = tokenize_options,
	.num_options = sizeof(tokenize_options) / sizeof(tokenize_options[0]),
	.run = tokenize_main,
};

static int argument_ids(const struct settings *settings, uint32_t **ids, size_t *count)
{
	int status = EXIT_OK, i;

	for (i = 0; i < settings->num_rest && !status; i++)
		status = options_ids("detokenize: ids", settings->rest[i],
				     strlen(settings->rest[i]), ids, count);
	return status;
}

static int stdin_ids(uint32_t **ids, size_t *count)
{
	struct input input;
	char *text = NULL;
	size_t length;
	int status;

	status = input_open(&input, NULL);
	if (!status)
		status = input_read(&input, &text, &length);
	/* These are data: a wrong one is an error, not a wrong command line. */
	if (!status && options_ids("detokenize: ids", text, length, ids, count))
		status = EXIT_ERROR;
	free(text);
	return status;
}

static int write_text(const struct unpu_model *model, const uint32_t *ids, size_t count)
{
	int64_t length = unpu_detokenize(model, ids, count, NULL, 0);
	char *text;

	if (length < 0)
		return fail_library((int)length, "the ids");
	text = malloc((size_t)length + 1);
	if (!text)
		return fail("the text: %s", strerror(ENOMEM));
	unpu_detokenize(model, ids, count, text, (size_t)length);
	out_write(text, (size_t)length);
	if (isatty(STDOUT_FILENO))
		out_text("\n");
	free(text);
	return EXIT_OK;
}

static int detokenize_main(const struct settings *settings)
{
	struct unpu_model *model = NULL;
	uint32_t *ids = NULL;
	size_t count = 0;
	int status;

	status = argument_ids(settings, &ids, &count);
	if (!status)
		status = model_open(settings, UNPU_MODEL_VOCAB_ONLY, &model);
	if (!status && !settings->num_rest)
		status = stdin_ids(&ids, &count);
	if (!status)
		status = write_text(model, ids, count);
	unpu_model_destroy(model);
	free(ids);
	return status;
}

static const struct option detokenize_options[] = { OPTION_NO_SANDBOX };

static const struct doc_item detokenize_examples[] = {
	{ "unpu detokenize model.gguf 9707 1879", "The text of two ids." },
	{ "unpu tokenize model.gguf -f a | unpu detokenize model.gguf | cmp - a",
	  "Nothing gets lost." },
	{ NULL, NULL },
};

const struct command cmd_detokenize = {
	.name = "detokenize",
	.usage = "MODEL [IDS...] [--no-sandbox]",
	.brief = "token ids to text",
	.details = "Writes exactly the bytes of the ids, given as arguments or on stdin; a "
		   "newline follows only on a terminal. MODEL may be a file that holds only "
		   "a tokenizer.",
	.examples = detokenize_examples,
	.takes_model = true,
	.takes_rest = true,
	.options = detokenize_options,
	.num_options = 1,
	.run = detokenize_main,
};
