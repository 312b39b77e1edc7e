/* SPDX-License-Identifier: MIT */
/*
 * The calls of the system that the client of the kernel driver makes, each once and as it is: who
 * is interrupted tries again elsewhere. A program of the tests is linked with tests/hooks/accel.o,
 * which has a kernel of its own; accel/sys.c stays in the archive then.
 */
#ifndef UNPU_ACCEL_SYS_H
#define UNPU_ACCEL_SYS_H

#include <stddef.h>
#include <stdint.h>

/* A descriptor that programs started from here do not inherit, or -errno. */
int unpu_accel_sys_open(const char *path);
void unpu_accel_sys_close(int fd);
/* 0 or -errno */
int unpu_accel_sys_ioctl(int fd, unsigned long request, void *arg);
int unpu_accel_sys_mmap(int fd, uint64_t offset, uint64_t size, void **ptr);
void unpu_accel_sys_munmap(void *ptr, uint64_t size);
/* The name of the kernel driver behind a node, which takes no permission for the node. -ENOENT:
 * there is no such node, -errno: it is not known. */
int unpu_accel_sys_driver(const char *path, char *name, size_t size);

#endif
