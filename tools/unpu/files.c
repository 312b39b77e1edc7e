/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/unpu/files.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"

/* ---- input ------------------------------------------------------------------------------- */

static bool is_stdin(const char *path)
{
	return !path || !strcmp(path, "-");
}

int input_open_if_there(struct input *in, const char *path)
{
	in->name = is_stdin(path) ? "standard input" : path;
	in->fd = is_stdin(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	in->open = in->fd >= 0;
	if (!in->open && errno != ENOENT)
		return fail("cannot open %s: %s", path, strerror(errno));
	return EXIT_OK;
}

int input_open(struct input *in, const char *path)
{
	int status = input_open_if_there(in, path);

	if (!status && !in->open)
		return fail("cannot open %s: %s", path, strerror(ENOENT));
	return status;
}

int input_read(struct input *in, char **text, size_t *length)
{
	int err = read_fd(in->fd, text, length);

	input_close(in);
	return err ? fail("cannot read %s: %s", in->name, strerror(-err)) : EXIT_OK;
}

void input_close(struct input *in)
{
	if (in->open && in->fd != STDIN_FILENO)
		close(in->fd);
	in->open = false;
}

/* ---- output ------------------------------------------------------------------------------ */

/* A command writes two files at most. */
static struct output *outputs[4];

static void remember(struct output *out, struct output *instead)
{
	size_t i;

	for (i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++) {
		if (outputs[i] == out) {
			outputs[i] = instead;
			return;
		}
	}
}

int output_folder(size_t i)
{
	size_t at;

	for (at = 0; at < sizeof(outputs) / sizeof(outputs[0]); at++) {
		if (outputs[at] && outputs[at]->tmp && !i--)
			return outputs[at]->dir;
	}
	return -1;
}

static int cannot_write(const char *path, int err)
{
	return fail("cannot write %s: %s", path, strerror(err));
}

static int open_folder(struct output *out)
{
	const char *slash = strrchr(out->path, '/');
	char *folder = slash ? strndup(out->path, (size_t)(slash - out->path) + 1) : strdup(".");

	if (!folder)
		return -ENOMEM;
	out->name = slash ? slash + 1 : out->path;
	out->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	return out->dir < 0 ? -errno : *out->name ? 0 : -EISDIR;
}

/* A name of its own: another process may be writing the same file, or have died doing so. */
static int open_beside(struct output *out)
{
	int turn, err = open_folder(out);

	for (turn = 0; !err && turn < 100; turn++) {
		if (asprintf(&out->tmp, "%s.%ld-%d.tmp", out->name, (long)getpid(), turn) < 0) {
			out->tmp = NULL;
			return -ENOMEM;
		}
		out->fd = openat(out->dir, out->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (out->fd >= 0)
			break;
		err = errno == EEXIST ? 0 : -errno;
		free(out->tmp);
		out->tmp = NULL;
	}
	if (out->fd >= 0)
		interrupt_add_file(out->dir, out->tmp);
	return out->fd >= 0 ? 0 : err ? err : -EEXIST;
}

int output_open(struct output *out, const char *path)
{
	struct stat st;
	int err = 0;

	*out = (struct output){ .path = path, .fd = -1, .dir = -1 };
	remember(NULL, out);
	if (stat(path, &st) || S_ISREG(st.st_mode)) {
		err = open_beside(out);
	} else {
		out->fd = open(path, O_WRONLY | O_CLOEXEC);
		err = out->fd < 0 ? -errno : 0;
	}
	if (err)
		output_discard(out);
	return err ? cannot_write(path, -err) : EXIT_OK;
}

int output_write(struct output *out, const void *data, size_t length)
{
	int err = write_all(out->fd, data, length);

	return err ? cannot_write(out->path, -err) : EXIT_OK;
}

int output_commit(struct output *out)
{
	const char *path = out->path;
	int err = out->tmp && fsync(out->fd) ? errno : 0;

	if (close(out->fd) && !err)
		err = errno;
	out->fd = -1;
	if (!err && out->tmp && renameat(out->dir, out->tmp, out->dir, out->name))
		err = errno;
	if (!err && out->tmp) {
		interrupt_drop_file(out->tmp);
		free(out->tmp);
		out->tmp = NULL;
	}
	output_discard(out);
	return err ? cannot_write(path, err) : EXIT_OK;
}

void output_discard(struct output *out)
{
	if (!out->path)
		return;
	if (out->fd >= 0)
		close(out->fd);
	if (out->tmp) {
		unlinkat(out->dir, out->tmp, 0);
		interrupt_drop_file(out->tmp);
	}
	if (out->dir >= 0)
		close(out->dir);
	free(out->tmp);
	remember(out, NULL);
	*out = (struct output){ .fd = -1, .dir = -1 };
}
