/* SPDX-License-Identifier: MIT */
/* Whole reads and writes of any kind of file descriptor. */
#ifndef UNPU_IO_H
#define UNPU_IO_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* All of it, of an fd that does not block too; 0 or the -errno of write(2). */
int unpu_write_all(int fd, const void *bytes, size_t count);
/* The same of read(2); -ENODATA: the file ends before. */
int unpu_read_all(int fd, void *bytes, size_t count);
/* From its beginning, wherever the fd is. */
int unpu_read_first(int fd, void *bytes, size_t count);

#endif
