/* SPDX-License-Identifier: MIT */
/*
 * The files of a command, its model's apart. All are opened before the model is loaded, those to
 * be written too: what reads a file that somebody else has made needs no right to open one, and a
 * wrong path is said before any work.
 */
#ifndef UNPU_TOOL_FILES_H
#define UNPU_TOOL_FILES_H

#include <stdbool.h>
#include <stddef.h>

struct input {
	const char *name;	/* as errors call it */
	int fd;
	bool open;
};

/* path NULL or "-": stdin. All return an exit status after one line on error. */
int input_open(struct input *in, const char *path);
/* The same, but a path that is not there is no error: in->open stays false. */
int input_open_if_there(struct input *in, const char *path);
/* All bytes, to be freed with free(); closes it. */
int input_read(struct input *in, char **text, size_t *length);
/* Takes one that is not open. */
void input_close(struct input *in);

/*
 * A file that is complete or not there: a temporary file beside it is renamed once it is whole. A
 * device or a pipe is written as it is, renaming over /dev/full would replace it.
 */
struct output {
	const char *path;	/* NULL: not open */
	int fd;
	int dir;		/* the folder that the file is in; O_PATH */
	char *tmp;		/* names in it; NULL: written as it is */
	const char *name;
};

int output_open(struct output *out, const char *path);
/* Writes all bytes. */
int output_write(struct output *out, const void *data, size_t length);
/* Closes it; the file is there afterwards. */
int output_commit(struct output *out);
/* Closes it without a trace; takes one that is not open or was committed. */
void output_discard(struct output *out);

/*
 * The folder of the i-th open output with a temporary file, -1 past the last: from the command's
 * start to its end, files are renamed and removed there and nowhere else.
 */
int output_folder(size_t i);

#endif
