/* SPDX-License-Identifier: MIT */
/*
 * Runs the files of a fuzz target's corpus, each a test: <target> [FILE or FOLDER...], without
 * arguments tests/fuzz/corpus/<target>. A finding ends the program; the last name printed is the
 * file's.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/lib/fuzz.h"
#include "tests/lib/vocab.h"

static uint32_t num_done;

static int run_file(const char *path)
{
	size_t size;
	char *text = vocab_read(path, &size);
	uint8_t *data;

	if (!text) {
		printf("FAIL %s: cannot be read\n", path);
		return 1;
	}
	printf("%s\n", path);
	fflush(stdout);
	data = fuzz_copy(text, size);
	free(text);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	num_done++;
	return 0;
}

static int not_hidden(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int run_path(const char *path)
{
	struct dirent **entries;
	struct stat st;
	char name[4096];
	int n, i, bad = 0;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_file(path);
	n = scandir(path, &entries, not_hidden, alphasort);
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		bad += run_file(name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return bad;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	char corpus[4096];
	int i, bad = 0;

	snprintf(corpus, sizeof(corpus), "tests/fuzz/corpus/%s", slash ? slash + 1 : argv[0]);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	if (argc < 2)
		bad = run_path(corpus);
	for (i = 1; i < argc; i++)
		bad += run_path(argv[i]);
	printf("%u passed, %d failed, 0 skipped\n", num_done, bad);
	return bad != 0;
}
