/* SPDX-License-Identifier: MIT */
/*
 * What the frame does before a run to make it fail on request: nothing. A program of the tests is
 * linked with an object of tests/hooks before the library, and this file stays in the archive.
 */
#include "runtime/device/inproc.h"

void unpu_inproc_hook_run(const struct unpu_program *program, const atomic_uint *cancel)
{
	(void)program;
	(void)cancel;
}
