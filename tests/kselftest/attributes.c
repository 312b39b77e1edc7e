// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mapping of a window buffer: works, and says what kind of memory the processor takes it for (by
 * the module pageattr of tests/vm), as "mapped PHYSICAL KIND"; after a line on its input the same
 * again, as "again PHYSICAL KIND BYTE". tests/vm/guest/15_attributes.sh judges. For root.
 */
#include <stdio.h>
#include <string.h>

#include "tests/kselftest/lib/node.h"

#define QUESTION	"/sys/module/pageattr/parameters/address"

static void say_kind(const char *word, const volatile uint8_t *at)
{
	char answer[64] = "";
	uint8_t byte = *at;
	FILE *file = fopen(QUESTION, "w");

	if (!file || fprintf(file, "user %p", (void *)at) < 0 || fclose(file))
		die("%s takes no address", QUESTION);
	file = fopen(QUESTION, "r");
	if (!file || !fgets(answer, sizeof(answer), file))
		die("%s has no answer", QUESTION);
	fclose(file);
	printf("%s %.*s %u\n", word, (int)strcspn(answer, "\n"), answer, byte);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct counter counter;
	struct client c;
	char line[8];

	node_argument(&argc, argv);
	c = client_open();
	counter = counter_create(&c, NULL, 0);
	run(&c, ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0), counter.program, 3);
	if (counter_read(counter.map) != 3)
		die("a job's results are not in the mapping");
	say_kind("mapped", counter.map);
	if (fgets(line, sizeof(line), stdin))
		say_kind("again", counter.map);
	return 0;
}
