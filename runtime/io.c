/* SPDX-License-Identifier: MIT */
#include "runtime/io.h"

#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

/* Of an fd that does not block: wait for it. */
static int wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

/* After a call that gave n: 0 to go on. `none` is what 0 bytes mean. */
static int after(int fd, short events, ssize_t n, int none)
{
	if (n > 0)
		return 0;
	if (n == 0)
		return none;
	if (errno == EAGAIN)
		return wait_for(fd, events);
	return errno == EINTR ? 0 : -errno;
}

int unpu_write_all(int fd, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;

	while (count) {
		ssize_t n = write(fd, at, count);
		/* Of a device that takes nothing and does not say why. */
		int ret = after(fd, POLLOUT, n, -EIO);

		if (ret)
			return ret;
		at += n > 0 ? n : 0;
		count -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int unpu_read_all(int fd, void *bytes, size_t count)
{
	uint8_t *at = bytes;

	while (count) {
		ssize_t n = read(fd, at, count);
		int ret = after(fd, POLLIN, n, -ENODATA);

		if (ret)
			return ret;
		at += n > 0 ? n : 0;
		count -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int unpu_read_first(int fd, void *bytes, size_t count)
{
	size_t have = 0;

	while (have < count) {
		ssize_t n = pread(fd, (uint8_t *)bytes + have, count - have, (off_t)have);
		int ret = after(fd, POLLIN, n, -ENODATA);

		if (ret)
			return ret;
		have += n > 0 ? (size_t)n : 0;
	}
	return 0;
}
