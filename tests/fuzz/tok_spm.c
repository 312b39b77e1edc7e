/* SPDX-License-Identifier: MIT */
/* SentencePiece: a vocabulary, its scores and a text, all from the input. */
#include <string.h>

#include "tests/lib/fuzztok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzztok t;

	fuzztok_init(&t, &in, true);
	/* U+2581 in a text comes back as the space that it stands for in tokens. */
	if (t.tok)
		fuzztok_use(&t, &in, !memmem(in.at, in.left, "\xe2\x96\x81", 3));
	fuzztok_finish(&t);
	return 0;
}
