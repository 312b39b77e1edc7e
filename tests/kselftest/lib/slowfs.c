// SPDX-License-Identifier: GPL-2.0-only
#include "tests/kselftest/lib/slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kselftest/lib/node.h"

#define PAGE		4096u
#define REQUEST_BYTES	(64u << 10)
#define FILE_INODE	2u
#define FOLDER		"/tmp/unpu-slowfs"

static struct {
	int fd;
	pthread_t server;
	void *memory;
	uint8_t content[PAGE] __attribute__((aligned(8)));
	volatile bool asked;
	bool given;
	pthread_mutex_t lock;
	pthread_cond_t cond;
} fs = { .fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void answer(uint64_t unique, int error, const void *data, uint32_t size)
{
	uint8_t out[sizeof(struct fuse_out_header) + PAGE] __attribute__((aligned(8)));
	struct fuse_out_header header = { sizeof(header) + size, error, unique };

	memcpy(out, &header, sizeof(header));
	memcpy(out + sizeof(header), data, size);
	/* Who was killed waits no more. */
	if (write(fs.fd, out, header.len) < 0 && errno != ENOENT)
		die("FUSE takes no answer: %s", strerror(errno));
}

static struct fuse_attr attr_of(uint64_t inode)
{
	return (struct fuse_attr){
		.ino = inode, .nlink = 1, .blksize = PAGE,
		.size = inode == FILE_INODE ? PAGE : 0,
		.mode = inode == FILE_INODE ? S_IFREG | 0600 : S_IFDIR | 0700,
	};
}

static void wait_until_given(void)
{
	fs.asked = true;
	pthread_mutex_lock(&fs.lock);
	while (!fs.given)
		pthread_cond_wait(&fs.cond, &fs.lock);
	pthread_mutex_unlock(&fs.lock);
}

static void serve_one(const struct fuse_in_header *in)
{
	const struct fuse_init_in *asked = (const void *)(in + 1);
	struct fuse_init_out init = { .major = 7, .max_write = PAGE };
	struct fuse_attr_out attr = { .attr_valid = 3600, .attr = attr_of(in->nodeid) };
	struct fuse_entry_out entry = {
		.nodeid = FILE_INODE, .attr_valid = 3600, .attr = attr_of(FILE_INODE),
	};
	struct fuse_open_out opened = { 0 };

	switch (in->opcode) {
	case FUSE_INIT:
		init.minor = asked->minor < 31 ? asked->minor : 31;
		answer(in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		answer(in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		answer(in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		wait_until_given();
		answer(in->unique, 0, fs.content, PAGE);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(in->unique, -ENOSYS, NULL, 0);
	}
}

static void *serve(void *arg)
{
	static uint8_t request[REQUEST_BYTES] __attribute__((aligned(8)));

	for (;;) {
		if (read(fs.fd, request, sizeof(request)) >= (ssize_t)sizeof(struct fuse_in_header))
			serve_one((const void *)request);
		else if (errno != EINTR && errno != ENOENT)
			return NULL;	/* unmounted */
	}
}

void *slowfs_begin(void)
{
	char options[100];
	int fd;

	fs.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fs.fd < 0)
		return NULL;
	mkdir(FOLDER, 0700);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fs.fd);
	if (mount("unpu", FOLDER, "fuse", MS_NODEV | MS_NOSUID, options))
		die("FUSE cannot be mounted: %s", strerror(errno));
	fs.asked = false;
	fs.given = false;
	memset(fs.content, 0, PAGE);
	if (pthread_create(&fs.server, NULL, serve, NULL))
		die("no thread");
	fd = open(FOLDER "/page", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("a file of FUSE: %s", strerror(errno));
	fs.memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (fs.memory == MAP_FAILED)
		die("a mapping of FUSE: %s", strerror(errno));
	close(fd);
	return fs.memory;
}

void *slowfs_content(void)
{
	return fs.content;
}

bool slowfs_asked(uint32_t ms)
{
	uint64_t deadline = now_ns() + ms * MS;

	while (!fs.asked && now_ns() < deadline)
		sleep_ms(1);
	return fs.asked;
}

void slowfs_give(void)
{
	pthread_mutex_lock(&fs.lock);
	fs.given = true;
	pthread_cond_broadcast(&fs.cond);
	pthread_mutex_unlock(&fs.lock);
}

void slowfs_end(void)
{
	munmap(fs.memory, PAGE);
	if (umount2(FOLDER, MNT_DETACH))
		die("FUSE cannot be unmounted: %s", strerror(errno));
	pthread_join(fs.server, NULL);
	close(fs.fd);
	rmdir(FOLDER);
}
