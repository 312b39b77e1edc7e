/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/json.h"
#include "tools/unpu/out.h"

static const struct option options[] = {
	{ 0, "tensors", OPTION_FLAG, OPTION_FIELD(tensors), NULL, NULL, 0, 0,
	  "the tensors of the file as well" },
	OPTION_JSON("JSON instead of a table"),
	OPTION_NO_SANDBOX,
};

static void print_text(const char *key, const char *text)
{
	out_printf("%-14s ", key);
	out_escaped(text ? text : "none");
	out_text("\n");
}

static void print_count(const char *key, uint64_t value)
{
	out_printf("%-14s %" PRIu64 "\n", key, value);
}

/* The same keys in both forms. */
static void put_info(const struct unpu_model_info *m,
		     void (*text)(const char *key, const char *text),
		     void (*count)(const char *key, uint64_t value))
{
	text("name", m->name ? m->name : "");
	text("architecture", m->architecture ? m->architecture : "");
	text("weight_type", m->weight_type ? m->weight_type : "");
	count("parameters", m->parameters);
	count("file_bytes", m->file_bytes);
	count("context", m->context);
	count("layers", m->layers);
	count("hidden", m->hidden);
	count("ffn", m->ffn);
	count("heads", m->heads);
	count("kv_heads", m->kv_heads);
	count("head_dim", m->head_dim);
	count("vocab", m->vocab);
	text("chat_template", m->chat_template);
}

static void print_tensor(const struct unpu_tensor_info *t)
{
	uint32_t i;

	out_printf("%-6s %12" PRIu64 "  ", t->type, t->bytes);
	out_escaped(t->name);
	out_text(" [");
	for (i = 0; i < t->num_dims && i < 4; i++)
		out_printf("%s%" PRIu64, i ? ", " : "", t->dims[i]);
	out_text("]\n");
}

static void print_tensor_json(const struct unpu_tensor_info *t)
{
	uint32_t i;

	json_open(NULL, '{');
	json_text("name", t->name);
	json_text("type", t->type);
	json_open("dims", '[');
	for (i = 0; i < t->num_dims && i < 4; i++)
		json_count(NULL, t->dims[i]);
	json_close(']');
	json_count("bytes", t->bytes);
	json_close('}');
}

static void put_tensors(const struct unpu_model *model, bool json)
{
	struct unpu_tensor_info tensor = UNPU_TENSOR_INFO_INIT;
	uint32_t i;

	if (json)
		json_open("tensors", '[');
	else
		out_text("\ntype          bytes  name [dimensions, the fastest first]\n");
	for (i = 0; !unpu_model_tensor(model, i, &tensor); i++) {
		if (json)
			print_tensor_json(&tensor);
		else
			print_tensor(&tensor);
	}
	if (json)
		json_close(']');
}

static void put_model(const struct unpu_model *model, const struct settings *settings)
{
	struct unpu_model_info info = { .size = sizeof(info) };

	unpu_model_info(model, &info);
	if (settings->json)
		json_open(NULL, '{');
	put_info(&info, settings->json ? json_text : print_text,
		 settings->json ? json_count : print_count);
	if (settings->tensors)
		put_tensors(model, settings->json);
	if (settings->json)
		json_close('}');
}

static int info_main(const struct settings *settings)
{
	struct unpu_model *model = NULL;
	int status = model_open(settings, UNPU_MODEL_INFO_ONLY, &model);

	if (!status)
		put_model(model, settings);
	unpu_model_destroy(model);
	return status;
}

static const struct doc_item examples[] = {
	{ "unpu info model.gguf", "Architecture, sizes, form of chats." },
	{ "unpu info model.gguf --tensors", "Each tensor with its type and dimensions." },
	{ NULL, NULL },
};

const struct command cmd_info = {
	.name = "info",
	.usage = "MODEL [--tensors] [--json]",
	.brief = "what a model file holds",
	.details = "Shows what a model file says about itself.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = info_main,
};
