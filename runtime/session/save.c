/* SPDX-License-Identifier: MIT */
/* A session becomes a file: whole and on the disk under its name, or not there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/session/kv.h"

/* ---- what is written ----------------------------------------------------------------------- */

static uint32_t stop_bytes(const struct unpu_session_params *p)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < p->num_stop; i++)
		bytes += 4 + strlen(p->stop[i]);
	return (uint32_t)bytes;
}

static void fill_head(struct unpu_session *s, uint32_t flags, struct unpu_session_head *head)
{
	const struct unpu_session_params *p = &s->set;

	*head = (struct unpu_session_head){
		.magic = UNPU_FILE_MAGIC,
		.version = UNPU_FILE_VERSION,
		.vocab = s->model->arch->hp.vocab,
		.num_tokens = s->used,
		.num_bias = p->num_bias,
		.num_stop = p->num_stop,
		.stop_bytes = stop_bytes(p),
		.session_flags = p->flags,
		.seed = p->seed,
		.temperature = p->temperature,
		.top_k = p->top_k,
		.top_p = p->top_p,
		.min_p = p->min_p,
		.repeat_penalty = p->repeat_penalty,
		.repeat_last_n = p->repeat_last_n,
		.frequency_penalty = p->frequency_penalty,
		.presence_penalty = p->presence_penalty,
	};
	unpu_model_id(s->model->gguf, head->model);
	if (flags & UNPU_SAVE_KV) {
		head->flags = UNPU_FILE_KV;
		unpu_kv_describe(s, head);
		head->positions = s->evaluated;
	}
}

static int put_stops(struct unpu_file *f, const struct unpu_session_params *p)
{
	int ret = 0;

	for (uint32_t i = 0; i < p->num_stop && !ret; i++) {
		uint32_t length = (uint32_t)strlen(p->stop[i]);

		ret = unpu_file_put(f, &length, sizeof(length));
		ret = ret ? ret : unpu_file_put(f, p->stop[i], length);
	}
	return ret;
}

static int put_all(struct unpu_session *s, struct unpu_file *f, uint32_t flags, int *file_err)
{
	const struct unpu_session_params *p = &s->set;
	struct unpu_session_head head;
	int ret;

	fill_head(s, flags, &head);
	ret = unpu_file_put(f, &head, sizeof(head));
	ret = ret ? ret : unpu_file_end(f);
	ret = ret ? ret : unpu_file_put(f, s->tokens, 4ull * s->used);
	ret = ret ? ret : unpu_file_put(f, p->bias, p->num_bias * sizeof(*p->bias));
	ret = ret ? ret : put_stops(f, p);
	ret = ret ? ret : unpu_file_end(f);
	*file_err = ret;
	return ret || !(flags & UNPU_SAVE_KV) ? 0 : unpu_kv_save(s, head.positions, f, file_err);
}

/* A cache of as many tokens as the session had evaluated, on whatever device it is by now. */
static int have_kv(struct unpu_session *s, uint32_t want)
{
	int ret = unpu_session_ready(s);

	return ret < 0 || s->evaluated >= want ? ret : unpu_session_evaluate(s, false);
}

/* Where writing may begin once more; negative: nowhere, for what was written is gone. */
static off_t place_in(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || flags & O_APPEND ? -1 : lseek(fd, 0, SEEK_CUR);
}

/* All from the start again when a device failed on the way: its cells are not mixed with others. */
static int put_at(struct unpu_session *s, struct unpu_file *f, int fd, uint32_t flags,
		  int *file_err)
{
	uint32_t evaluated = s->evaluated;
	off_t start = place_in(fd);
	int ret;

	do {
		*file_err = 0;
		ret = flags & UNPU_SAVE_KV ? have_kv(s, evaluated) : 0;
		if (ret < 0)
			return ret;
		unpu_file_init(f, fd);
		ret = put_all(s, f, flags, file_err);
	} while (ret == UNPU_MOVED && start >= 0 && lseek(fd, start, SEEK_SET) == start);
	return ret;
}

/* Errors of the fd are said with its name. */
static int save(struct unpu_session *s, int fd, const char *name, uint32_t flags)
{
	const struct unpu_log *log = &s->model->log;
	struct unpu_file *f;
	int ret, file_err;

	if (flags & ~UNPU_SAVE_KV)
		return unpu_fail(log, -EINVAL, "unknown flags of saving 0x%x", flags);
	f = malloc(sizeof(*f));
	if (!f)
		return unpu_fail(log, -ENOMEM, "no memory for saving a session");
	ret = put_at(s, f, fd, flags, &file_err);
	free(f);
	if (ret == UNPU_MOVED)
		return unpu_fail(log, -EIO, "%s: the device failed while it was written, and it "
				 "cannot be written anew", name);
	if (!ret && file_err)
		ret = unpu_fail(log, file_err, "%s: %s", name, strerror(-file_err));
	return ret;
}

int unpu_session_save_fd(struct unpu_session *s, int fd, uint32_t flags)
{
	char name[32];

	snprintf(name, sizeof(name), "file descriptor %d", fd);
	return save(s, fd, name, flags);
}

/* ---- where --------------------------------------------------------------------------------- */

/* What is at the path before, and the file that is to take its place. */
struct place {
	char *path;		/* without symbolic links at its end */
	char *temp;		/* beside it */
	bool replaces;
	mode_t mode;		/* of what it replaces */
};

/*
 * A name that no other process or thread takes: O_EXCL says so. A new file has the permissions that
 * the umask leaves, as any file that a program writes; one that takes another's place has that
 * one's, so that a conversation which was made private stays so.
 */
static int open_temp(struct place *p)
{
	const char *slash = strrchr(p->path, '/');
	int length = slash ? (int)(slash - p->path) + 1 : 0;
	size_t size = (size_t)length + sizeof(".unpu-0123456789abcdef");

	p->temp = malloc(size);
	if (!p->temp)
		return -ENOMEM;
	for (int try = 0; try < 100; try++) {
		uint64_t random = (uint64_t)try << 32 ^ (uint64_t)getpid() ^ unpu_now_ns() << 8;
		int fd;

		(void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
		snprintf(p->temp, size, "%.*s.unpu-%016llx", length, p->path,
			 (unsigned long long)random);
		fd = open(p->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			  p->replaces ? 0600 : 0666);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : -errno;
	}
	return -EEXIST;
}

/* Makes the name's change last, where the file system and its permissions let it. */
static void sync_directory(const struct place *p)
{
	char *slash = strrchr(p->path, '/');
	int fd;

	if (slash)
		slash[slash == p->path] = 0;
	fd = open(slash ? p->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!fsync(fd);
		close(fd);
	}
}

static int save_beside(struct unpu_session *s, struct place *p, const char *name, uint32_t flags)
{
	const struct unpu_log *log = &s->model->log;
	int fd = open_temp(p), ret;

	if (fd < 0)
		return unpu_fail(log, fd, "%s: %s", name, strerror(-fd));
	ret = save(s, fd, name, flags);
	if (p->replaces)
		(void)!fchmod(fd, p->mode & 0777);	/* where it cannot, the file is private */
	if (!ret && fsync(fd))
		ret = unpu_fail(log, -errno, "%s: %s", name, strerror(errno));
	if (close(fd) && !ret)
		ret = unpu_fail(log, -errno, "%s: %s", name, strerror(errno));
	if (!ret && rename(p->temp, p->path))
		ret = unpu_fail(log, -errno, "%s: %s", name, strerror(errno));
	if (ret)
		unlink(p->temp);
	else
		sync_directory(p);
	return ret;
}

/*
 * fd is what stands at the path, open for writing: the kernel has judged whether this process may
 * write it and follow the links there. A device or a pipe is written to; a file is replaced.
 */
static int save_over(struct unpu_session *s, int fd, const char *name, uint32_t flags)
{
	const struct unpu_log *log = &s->model->log;
	struct place p = { .replaces = true };
	struct stat at, named;
	int ret;

	if (fstat(fd, &at))
		return unpu_fail(log, -errno, "%s: %s", name, strerror(errno));
	if (!S_ISREG(at.st_mode))
		return save(s, fd, name, flags);
	p.mode = at.st_mode;
	p.path = realpath(name, NULL);
	/* Through /proc a file without a name can be opened, too. */
	if (!p.path || stat(p.path, &named) || named.st_ino != at.st_ino ||
	    named.st_dev != at.st_dev)
		ret = unpu_fail(log, -ENOENT, "%s: the file has no name that could be replaced",
				name);
	else
		ret = save_beside(s, &p, name, flags);
	free(p.temp);
	free(p.path);
	return ret;
}

static int save_new(struct unpu_session *s, const char *name, uint32_t flags)
{
	const struct unpu_log *log = &s->model->log;
	struct place p = { .path = strdup(name) };
	struct stat at;
	int ret;

	if (!p.path)
		ret = unpu_fail(log, -ENOMEM, "no memory for the name of a file");
	else if (!lstat(name, &at) && S_ISLNK(at.st_mode))
		ret = unpu_fail(log, -ENOENT, "%s is a link to nowhere", name);
	else
		ret = save_beside(s, &p, name, flags);
	free(p.temp);
	free(p.path);
	return ret;
}

int unpu_session_save(struct unpu_session *s, const char *path, uint32_t flags)
{
	/* O_NONBLOCK: a FIFO that nobody reads is an error, not a wait. */
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), ret;

	if (fd < 0 && errno == ENOENT)
		return save_new(s, path, flags);
	if (fd < 0)
		return unpu_fail(&s->model->log, -errno, "%s: %s", path, strerror(errno));
	ret = save_over(s, fd, path, flags);
	close(fd);
	return ret;
}
