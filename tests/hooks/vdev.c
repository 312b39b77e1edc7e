/* SPDX-License-Identifier: MIT */
/*
 * Programs that go wrong by what they copy, linked before the library in place of
 * runtime/device/hooks.c. The first dispatch is `copy` and its source, which this process can read,
 * begins with the four bytes
 *
 *   HANG  never ends, but when it is cancelled
 *   LATE  does, but 700 ms later
 *   STUK  never ends
 *   EXIT  the process ends
 *   SLOW  each run takes 20 ms longer
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/device/inproc.h"

static void sleep_ms(long ms)
{
	const struct timespec time = { 0, ms * 1000000 };

	nanosleep(&time, NULL);
}

static void nap(void)
{
	sleep_ms(1);
}

void unpu_inproc_hook_run(const struct unpu_program *program, const atomic_uint *cancel)
{
	const struct unpu_job_dispatch *first = &program->dispatches[0];
	const struct unpu_job_binding *source = &first->bindings[UNPU_COPY_SRC];
	char word[4];
	int turns;

	if (first->kind != UNPU_SHADER_COPY || !source->bo->ptr || source->size < sizeof(word))
		return;
	memcpy(word, (const char *)source->bo->ptr + source->offset, sizeof(word));
	if (!memcmp(word, "EXIT", sizeof(word)))
		_exit(3);
	if (!memcmp(word, "SLOW", sizeof(word)))
		for (turns = 0; turns < 20 && !atomic_load(cancel); turns++)
			nap();
	while ((!memcmp(word, "HANG", sizeof(word)) || !memcmp(word, "LATE", sizeof(word))) &&
	       !atomic_load(cancel))
		nap();
	if (!memcmp(word, "LATE", sizeof(word)))
		sleep_ms(700);
	while (!memcmp(word, "STUK", sizeof(word)))
		nap();
}
