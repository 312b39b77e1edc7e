/* SPDX-License-Identifier: MIT */
/* mktiny ARCH TYPE OUTFILE [key=value ...]: a tiny model with random weights, as tiny.h says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/model/gguf.h"
#include "tests/lib/tiny.h"

static const char usage[] =
	"mktiny: usage: mktiny ARCH TYPE OUTFILE [key=value ...]\n"
	"ARCH: llama, qwen2, qwen3, gpt2; TYPE: f32, f16, bf16, q8_0, q4_0\n"
	"keys: hidden ffn layers heads kv_heads head_dim vocab context seed tied=0|1\n"
	"tokenizer=spm|bpe chat=0|1\n";

static int parse_type(const char *name, uint32_t *type)
{
	for (*type = 0; *type < 64; ++*type) {
		if (unpu_type_info(*type) && !strcasecmp(unpu_type_info(*type)->name, name))
			return 0;
	}
	return -1;
}

static int parse_arch(const char *name)
{
	return strcmp(name, "llama") && strcmp(name, "qwen2") && strcmp(name, "qwen3") &&
	       strcmp(name, "gpt2") ? -1 : 0;
}

static int parse_number(struct tiny_params *p, const char *key, size_t len, const char *text)
{
	const struct {
		const char *key;
		uint32_t *value;
	} numbers[] = {
		{ "hidden", &p->hidden }, { "ffn", &p->ffn }, { "layers", &p->layers },
		{ "heads", &p->heads }, { "kv_heads", &p->kv_heads },
		{ "head_dim", &p->head_dim }, { "vocab", &p->vocab }, { "context", &p->context },
	};
	unsigned long long value;
	char *end;
	size_t i;

	value = strtoull(text, &end, 10);
	if (end == text || *end)
		return -1;
	if (len == 4 && !memcmp(key, "seed", 4))
		p->seed = value;
	else if (len == 4 && !memcmp(key, "tied", 4))
		p->tied = value != 0;
	else if (len == 4 && !memcmp(key, "chat", 4))
		p->chat = value != 0;
	else
		goto sizes;
	return 0;
sizes:
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strlen(numbers[i].key) == len && !memcmp(numbers[i].key, key, len)) {
			*numbers[i].value = value;
			return value && value <= 1 << 20 ? 0 : -1;
		}
	}
	return -1;
}

static int parse_option(struct tiny_params *p, const char *arg)
{
	const char *equals = strchr(arg, '=');

	if (!equals)
		return -1;
	if (!strncmp(arg, "tokenizer=", 10)) {
		p->tokenizer = equals + 1;
		return strcmp(p->tokenizer, "spm") && strcmp(p->tokenizer, "bpe") ? -1 : 0;
	}
	return parse_number(p, arg, equals - arg, equals + 1);
}

int main(int argc, char **argv)
{
	struct tiny_params p = { .tied = -1, .seed = 1 };
	uint8_t *data;
	size_t size;
	FILE *out;
	int i, bad;

	bad = argc < 4 || parse_arch(argv[1]) || parse_type(argv[2], &p.type);
	for (i = 4; i < argc && !bad; i++)
		bad = parse_option(&p, argv[i]);
	if (bad) {
		fputs(usage, stderr);
		return 2;
	}
	p.arch = argv[1];
	data = tiny_model(&p, &size);
	if (!data) {
		fputs("mktiny: no memory, or fewer than 262 tokens\n", stderr);
		return 1;
	}
	out = fopen(argv[3], "wb");
	bad = !out || fwrite(data, 1, size, out) != size;
	if (out && fclose(out))
		bad = 1;
	free(data);
	if (bad)
		perror(argv[3]);
	return bad;
}
