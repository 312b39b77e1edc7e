/* SPDX-License-Identifier: MIT */
/* Byte-level BPE: a vocabulary, its merges and a text, all from the input. */
#include "tests/lib/fuzztok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzztok t;

	fuzztok_init(&t, &in, false);
	if (t.tok)
		fuzztok_use(&t, &in, true);
	fuzztok_finish(&t);
	return 0;
}
