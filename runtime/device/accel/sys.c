/* SPDX-License-Identifier: MIT */
#include "runtime/device/accel/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int unpu_accel_sys_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

void unpu_accel_sys_close(int fd)
{
	close(fd);
}

int unpu_accel_sys_ioctl(int fd, unsigned long request, void *arg)
{
	/* musl's takes an int. */
	return ioctl(fd, (__typeof__(_IOC(0, 0, 0, 0)))request, arg) < 0 ? -errno : 0;
}

int unpu_accel_sys_mmap(int fd, uint64_t offset, uint64_t size, void **ptr)
{
	if (size > SIZE_MAX)
		return -ENOMEM;
	*ptr = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	return *ptr == MAP_FAILED ? -errno : 0;
}

void unpu_accel_sys_munmap(void *ptr, uint64_t size)
{
	munmap(ptr, (size_t)size);
}

int unpu_accel_sys_driver(const char *path, char *name, size_t size)
{
	const char *node = strrchr(path, '/') + 1, *last;
	const char *class = strncmp(node, "accel", 5) ? "drm" : "accel";
	char link[96], target[256];
	ssize_t n;

	if (access(path, F_OK))
		return -ENOENT;
	snprintf(link, sizeof(link), "/sys/class/%s/%s/device/driver", class, node);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	target[n] = '\0';
	last = strrchr(target, '/');
	snprintf(name, size, "%s", last ? last + 1 : target);
	return 0;
}
