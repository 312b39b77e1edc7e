/* SPDX-License-Identifier: MIT */
/*
 * Modules as the library holds them: 1.6 MB of SPIR-V, of which most repeats. The modules of one
 * stem are one stream of words; tools/spirv-pack.c writes it as numbers of 7 bits a byte, the low
 * ones first, and 128 for "goes on":
 *
 *   2n       n + 1 words follow
 *   2n + 1   n + 2 words as they stand d words back, d follows; they may overlap
 */
#include "runtime/device/vulkan/vk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct stream {
	const uint8_t *at, *end;
	uint32_t *words;
	uint32_t num, max;
	bool cut;	/* the end came too early */
};

static uint32_t take(struct stream *s)
{
	uint32_t n = 0;

	for (unsigned int shift = 0; shift < 32 && s->at < s->end; shift += 7) {
		uint8_t byte = *s->at++;

		n |= (uint32_t)(byte & 127) << shift;
		if (byte < 128)
			return n;
	}
	s->cut = true;
	return 0;
}

static bool take_words(struct stream *s)
{
	uint32_t head = take(s), n = (head >> 1) + 1 + (head & 1), back = 0;

	if (head & 1) {
		back = take(s);
		if (!back || back > s->num)
			return false;
	}
	if (n > s->max - s->num)
		n = s->max - s->num;
	for (; n; n--, s->num++)
		s->words[s->num] = back ? s->words[s->num - back] : take(s);
	return true;
}

int unpu_vk_module_read(const struct unpu_vk_module *module, uint32_t **words)
{
	struct stream s = {
		.at = module->packed, .end = module->packed + module->packed_bytes,
		.max = module->begin + module->bytes / 4,
	};

	*words = NULL;
	s.words = malloc((size_t)s.max * 4);
	if (!s.words)
		return -ENOMEM;
	while (s.num < s.max) {
		if (!take_words(&s) || s.cut) {
			free(s.words);
			return -EIO;
		}
	}
	memmove(s.words, s.words + module->begin, module->bytes);
	*words = s.words;
	return 0;
}
