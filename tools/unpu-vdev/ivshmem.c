/* SPDX-License-Identifier: MIT */
/*
 * The server's side of QEMU's ivshmem protocol: 64-bit little-endian numbers, some with a
 * descriptor beside them. Version 0, the peer's own number, -1 with the memory; then a peer's
 * number with an event counter for each vector it can be interrupted by, its own last.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/unpu-vdev/vdev.h"
#include "uapi/unpu_proto.h"

#define IVSHMEM_VERSION	0

int vdev_send_fd(int fd, const void *data, size_t size, const int *fds, uint32_t num_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VDEV_NUM_FDS * sizeof(int))];
	} control;
	struct iovec part = { (void *)data, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *with;

	if (num_fds) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		with = CMSG_FIRSTHDR(&message);
		with->cmsg_level = SOL_SOCKET;
		with->cmsg_type = SCM_RIGHTS;
		with->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(with), fds, num_fds * sizeof(int));
	}
	/* What does not fit at once is a peer that does not read. */
	if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size)
		return 0;
	return errno ? -errno : -EIO;
}

static int send_number(int fd, int64_t number, int with)
{
	uint8_t bytes[8];
	uint32_t i;

	for (i = 0; i < 8; i++)
		bytes[i] = (uint8_t)((uint64_t)number >> 8 * i);
	return vdev_send_fd(fd, bytes, sizeof(bytes), &with, with >= 0);
}

int vdev_shared_send(const struct vdev_shared *shared, int fd)
{
	int err;

	err = send_number(fd, IVSHMEM_VERSION, -1);
	if (!err)
		err = send_number(fd, UNPU_PROTO_PEER_DRIVER, -1);
	if (!err)
		err = send_number(fd, -1, shared->window);
	if (!err)
		err = send_number(fd, UNPU_PROTO_PEER_DEVICE, shared->doorbell);
	if (!err)
		err = send_number(fd, UNPU_PROTO_PEER_DRIVER, shared->interrupts[0]);
	if (!err)
		err = send_number(fd, UNPU_PROTO_PEER_DRIVER, shared->interrupts[1]);
	return err;
}

/* Nobody can take memory away beneath who maps it, and the size is what was said. */
static int window_create(uint64_t size)
{
	int fd = memfd_create("unpu-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, (off_t)size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int vdev_shared_create(struct vdev_shared *shared, uint64_t window)
{
	int err = 0;

	*shared = (struct vdev_shared){ -1, -1, { -1, -1 } };
	shared->window = window_create(window);
	if (shared->window < 0)
		err = shared->window;
	shared->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	shared->interrupts[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	shared->interrupts[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!err && (shared->doorbell < 0 || shared->interrupts[0] < 0 ||
		     shared->interrupts[1] < 0))
		err = -EMFILE;
	if (err)
		vdev_shared_finish(shared);
	return err;
}

void vdev_shared_finish(struct vdev_shared *shared)
{
	const int fds[] = {
		shared->window, shared->doorbell, shared->interrupts[0], shared->interrupts[1],
	};
	size_t i;

	for (i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	*shared = (struct vdev_shared){ -1, -1, { -1, -1 } };
}
