/* SPDX-License-Identifier: MIT */
/*
 * The pipeline cache on disk: one file for each device and driver, below $XDG_CACHE_HOME/unpu or
 * ~/.cache/unpu. A driver parses what it is given back, so a file that is not whole does not reach
 * it; all that goes wrong here costs a compilation and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/device/vulkan/engine.h"

#define MAGIC		"unpuvkc1"
#define MAX_BYTES	(64u << 20)
#define MAX_PATH	4096

struct header {
	char magic[8];
	char key[80];		/* of the device, as in the file's name */
	uint64_t size;		/* of what follows */
	uint64_t hash;
};

/* FNV-1a: against accidents, not against people, who could as well write the driver's files. */
uint64_t unpu_vk_cache_hash(const void *data, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325u;
	const uint8_t *p = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * 0x100000001b3u;
	return hash;
}

/* ---- where ----------------------------------------------------------------------------------- */

/* The XDG base directory specification: a relative path is to be ignored. */
static int folder(char path[MAX_PATH], bool make)
{
	const char *base = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	int n;

	if (base && *base == '/')
		n = snprintf(path, MAX_PATH, "%s", base);
	else if (home && *home == '/')
		n = snprintf(path, MAX_PATH, "%s/.cache", home);
	else
		return -ENOENT;
	if (n >= MAX_PATH - 16)
		return -ENAMETOOLONG;
	if (make)
		mkdir(path, 0700);
	strcat(path, "/unpu");
	if (make)
		mkdir(path, 0700);
	return 0;
}

static int file_name(const struct unpu_vk *vk, char path[MAX_PATH], bool make)
{
	const char *key = vk->caps.info.key;
	size_t n;
	int err = folder(path, make);

	if (err)
		return err;
	n = strlen(path);
	if (!*key || n + strlen(key) + 40 > MAX_PATH)
		return -ENOENT;
	n += (size_t)snprintf(path + n, MAX_PATH - n, "/vulkan-");
	for (; *key; key++)
		path[n++] = *key == '/' || *key == '.' ? '_' : *key;
	snprintf(path + n, MAX_PATH - n, ".cache");
	return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_all(int fd, void *to, size_t size)
{
	uint8_t *p = to;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EINVAL;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

static int header_check(const struct unpu_vk *vk, const struct header *header, off_t file)
{
	if (memcmp(header->magic, MAGIC, sizeof(header->magic)) ||
	    memcmp(header->key, vk->caps.info.key, sizeof(header->key)))
		return -EINVAL;
	if (!header->size || header->size > MAX_BYTES ||
	    (uint64_t)file != sizeof(*header) + header->size)
		return -EINVAL;
	return 0;
}

static int load(const struct unpu_vk *vk, int fd, void **data, size_t *size)
{
	struct header header;
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	err = S_ISREG(st.st_mode) ? read_all(fd, &header, sizeof(header)) : -EINVAL;
	if (!err)
		err = header_check(vk, &header, st.st_size);
	if (err)
		return err;
	*size = (size_t)header.size;
	*data = malloc(*size);
	if (!*data)
		return -ENOMEM;
	err = read_all(fd, *data, *size);
	if (!err && unpu_vk_cache_hash(*data, *size) != header.hash)
		err = -EINVAL;
	if (err) {
		free(*data);
		*data = NULL;
	}
	return err;
}

void *unpu_vk_cache_load(const struct unpu_vk *vk, size_t *size)
{
	char path[MAX_PATH];
	void *data = NULL;
	int fd, err;

	*size = 0;
	if (file_name(vk, path, false))
		return NULL;
	/* Not blocking: a name may turn out to be a pipe's. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	err = load(vk, fd, &data, size);
	close(fd);
	if (!err)
		return data;
	*size = 0;
	unpu_log(&vk->log, UNPU_LOG_WARN, "vulkan: the pipeline cache %s is ignored: %s", path,
		 err == -EINVAL ? "it is damaged" : strerror(-err));
	return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_all(int fd, const void *from, size_t size)
{
	const uint8_t *p = from;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

static int store(const struct unpu_vk *vk, int fd, const void *data, size_t size)
{
	struct header header = { .magic = MAGIC, .size = size };
	int err;

	memcpy(header.key, vk->caps.info.key, sizeof(header.key));
	header.hash = unpu_vk_cache_hash(data, size);
	err = write_all(fd, &header, sizeof(header));
	if (!err)
		err = write_all(fd, data, size);
	/* Before the name points to it: after a power cut there is the old file or the new. */
	return !err && fsync(fd) ? -errno : err;
}

void unpu_vk_cache_store(const struct unpu_vk *vk, const void *data, size_t size)
{
	char path[MAX_PATH], temporary[MAX_PATH + 32];
	int fd, err;

	if (size > MAX_BYTES || file_name(vk, path, true))
		return;
	snprintf(temporary, sizeof(temporary), "%s.%ld", path, syscall(SYS_gettid));
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : store(vk, fd, data, size);
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	if (!err && rename(temporary, path))
		err = -errno;
	if (!err)
		return;
	if (fd >= 0)
		unlink(temporary);
	unpu_log(&vk->log, UNPU_LOG_DEBUG, "vulkan: the pipeline cache is not kept: %s: %s", path,
		 strerror(-err));
}
