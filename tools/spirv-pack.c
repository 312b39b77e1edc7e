/* SPDX-License-Identifier: MIT */
/*
 * Packs SPIR-V into C: spirv-pack <list >out.c. A line of the list is STEM KIND MATH TOKENS FILE;
 * modules of one stem stand together and become one stream, in which each is made of pieces of
 * those before it: 40 % of their size. Runs where the library is built, not where it is used;
 * runtime/device/vulkan/module.c says what the stream is and reads it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS	(1u << 20)	/* of one stem */
#define MAX_MODULES	64
#define HASH_BITS	17
#define MAX_TRIES	512		/* places that are looked at for the longest match */

struct module {
	char kind[64], math[64];
	unsigned int tokens;
	uint32_t begin, words;
};

static struct stem {
	char name[64];
	uint32_t num_words, num_modules;
	struct module modules[MAX_MODULES];
	uint32_t words[MAX_WORDS];
	int32_t head[1 << HASH_BITS], before[MAX_WORDS];
	uint32_t bytes;			/* written */
} stem;

static void fail(const char *what)
{
	fprintf(stderr, "spirv-pack: %s\n", what);
	exit(1);
}

/* ---- the stream ------------------------------------------------------------------------------ */

static uint32_t varint_bytes(uint32_t n)
{
	uint32_t bytes = 1;

	for (; n >= 128; n >>= 7)
		bytes++;
	return bytes;
}

static void put_byte(uint32_t byte)
{
	printf("%u,%s", byte, ++stem.bytes % 24 ? "" : "\n");
}

static void put(uint32_t n)
{
	for (; n >= 128; n >>= 7)
		put_byte((n & 127) | 128);
	put_byte(n);
}

static uint32_t hash(const uint32_t *w)
{
	return (w[0] * 2654435761u ^ w[1] * 2246822519u) >> (32 - HASH_BITS);
}

static void remember(uint32_t at)
{
	uint32_t h;

	if (at + 1 >= stem.num_words)
		return;
	h = hash(stem.words + at);
	stem.before[at] = stem.head[h];
	stem.head[h] = (int32_t)at;
}

/* The longest piece before `at` that is what follows; the nearest of equals. */
static uint32_t longest(uint32_t at, uint32_t *distance)
{
	uint32_t best = 0;
	int32_t from;
	int tries = 0;

	if (at + 1 >= stem.num_words)
		return 0;
	for (from = stem.head[hash(stem.words + at)]; from >= 0 && tries++ < MAX_TRIES;
	     from = stem.before[from]) {
		uint32_t n = 0;

		while (at + n < stem.num_words && stem.words[from + n] == stem.words[at + n])
			n++;
		if (n > best) {
			best = n;
			*distance = at - (uint32_t)from;
		}
	}
	return best;
}

static void put_literals(uint32_t from, uint32_t to)
{
	if (from == to)
		return;
	put((to - from - 1) << 1);
	for (; from < to; from++)
		put(stem.words[from]);
}

static void put_words(void)
{
	uint32_t at = 0, literals = 0, distance = 0;

	memset(stem.head, -1, sizeof(stem.head));
	while (at < stem.num_words) {
		uint32_t n = longest(at, &distance), plain = 0;

		for (uint32_t i = 0; i < n; i++)
			plain += varint_bytes(stem.words[at + i]);
		if (n < 2 || plain <= varint_bytes((n - 2) << 1 | 1) + varint_bytes(distance)) {
			remember(at++);
			continue;
		}
		put_literals(literals, at);
		put((n - 2) << 1 | 1);
		put(distance);
		while (n--)
			remember(at++);
		literals = at;
	}
	put_literals(literals, at);
}

/* ---- modules --------------------------------------------------------------------------------- */

static void finish_stem(FILE *table)
{
	if (!stem.num_modules)
		return;
	stem.bytes = 0;
	printf("static const uint8_t spirv_%s[] = {\n", stem.name);
	put_words();
	printf("};\n");
	for (uint32_t i = 0; i < stem.num_modules; i++) {
		const struct module *m = &stem.modules[i];

		fprintf(table, "\t{ UNPU_SHADER_%s, UNPU_VK_%s, %u, %u, %u, sizeof(spirv_%s), "
			"spirv_%s },\n", m->kind, m->math, m->tokens, m->words * 4, m->begin,
			stem.name, stem.name);
	}
	stem.num_modules = stem.num_words = 0;
}

static void read_module(struct module *m, const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file)
		fail(path);
	m->begin = stem.num_words;
	m->words = (uint32_t)fread(stem.words + m->begin, 4, MAX_WORDS - m->begin, file);
	if (!m->words || fgetc(file) != EOF || fclose(file))
		fail(path);
	stem.num_words += m->words;
}

int main(void)
{
	char line[1024], name[64], path[768];
	FILE *table = tmpfile();
	int c;

	if (!table)
		fail("no temporary file");
	printf("/* Made by tools/spirv from shaders/. */\n"
	       "#include \"runtime/device/vulkan/vk.h\"\n");
	while (fgets(line, sizeof(line), stdin)) {
		struct module m;

		if (sscanf(line, "%63s %63s %63s %u %767s", name, m.kind, m.math, &m.tokens,
			   path) != 5)
			fail("a line of the list");
		if (strcmp(name, stem.name))
			finish_stem(table);
		strcpy(stem.name, name);
		if (stem.num_modules == MAX_MODULES)
			fail("too many modules of one stem");
		read_module(&m, path);
		stem.modules[stem.num_modules++] = m;
	}
	finish_stem(table);
	printf("const struct unpu_vk_module unpu_vk_modules[] = {\n");
	rewind(table);
	while ((c = fgetc(table)) != EOF)
		putchar(c);
	printf("};\nconst uint32_t unpu_vk_num_modules =\n"
	       "\tsizeof(unpu_vk_modules) / sizeof(unpu_vk_modules[0]);\n");
	return fflush(stdout) || ferror(stdout) || ferror(table);
}
