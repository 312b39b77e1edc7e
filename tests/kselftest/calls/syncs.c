// SPDX-License-Identifier: GPL-2.0-only
/* The DRM core's calls for syncobjs and PRIME, and what goes on beside calls. */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/kselftest/calls/ops.h"
#include "tests/kselftest/lib/node.h"

/* Younger than some libdrm. */
struct syncobj_eventfd {
	uint32_t handle, flags;
	uint64_t point;
	int32_t fd;
	uint32_t pad;
};
#define SYNCOBJ_EVENTFD	DRM_IOWR(0xCF, struct syncobj_eventfd)

/* Whatever became of the number. */
static uint64_t wait_ms(uint64_t ms)
{
	return ms & 63;
}

/* ---- syncobjs ------------------------------------------------------------------------------ */

OP(syncobj_create)
{
	struct drm_syncobj_create args = { .flags = a[2] };
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_CREATE, &args);

	if (!err)
		made_value(r, KIND_SYNCOBJ, a[1], args.handle);
	return err;
}

OP(syncobj_destroy)
{
	struct drm_syncobj_destroy args = { .handle = arg_value(r, KIND_SYNCOBJ, a[1]) };

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_DESTROY, &args);
}

OP(syncobj_wait)
{
	uint32_t handles[2] = {
		arg_value(r, KIND_SYNCOBJ, a[1]), arg_value(r, KIND_SYNCOBJ, a[2]),
	};
	struct drm_syncobj_wait args = {
		.handles = (uintptr_t)handles, .count_handles = 2, .flags = a[3],
		.timeout_nsec = now_ns() + wait_ms(a[4]) * MS,
	};

	op_takes(r, wait_ms(a[4]));
	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_WAIT, &args);
}

OP(timeline_wait)
{
	uint32_t handle = arg_value(r, KIND_SYNCOBJ, a[1]);
	struct drm_syncobj_timeline_wait args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&a[2], .count_handles = 1,
		.flags = a[3], .timeout_nsec = now_ns() + wait_ms(a[4]) * MS,
	};

	op_takes(r, wait_ms(a[4]));
	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &args);
}

OP(syncobj_set)
{
	uint32_t handle = arg_value(r, KIND_SYNCOBJ, a[1]);
	struct drm_syncobj_array args = { .handles = (uintptr_t)&handle, .count_handles = 1 };

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]),
			a[2] ? DRM_IOCTL_SYNCOBJ_SIGNAL : DRM_IOCTL_SYNCOBJ_RESET, &args);
}

OP(timeline_signal)
{
	uint32_t handle = arg_value(r, KIND_SYNCOBJ, a[1]);
	struct drm_syncobj_timeline_array args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&a[2], .count_handles = 1,
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, &args);
}

OP(syncobj_query)
{
	uint32_t handle = arg_value(r, KIND_SYNCOBJ, a[1]);
	uint64_t point;
	struct drm_syncobj_timeline_array args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point, .count_handles = 1,
		.flags = a[2],
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_QUERY, &args);
}

OP(syncobj_transfer)
{
	struct drm_syncobj_transfer args = {
		.src_handle = arg_value(r, KIND_SYNCOBJ, a[1]), .src_point = a[2],
		.dst_handle = arg_value(r, KIND_SYNCOBJ, a[3]), .dst_point = a[4],
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_TRANSFER, &args);
}

OP(syncobj_eventfd)
{
	struct syncobj_eventfd args = {
		.handle = arg_value(r, KIND_SYNCOBJ, a[1]), .point = a[2], .flags = a[3],
		.fd = eventfd(0, EFD_CLOEXEC),
	};
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), SYNCOBJ_EVENTFD, &args);

	close(args.fd);
	return err;
}

OP(syncobj_export)
{
	struct drm_syncobj_handle args = {
		.handle = arg_value(r, KIND_SYNCOBJ, a[1]), .flags = a[3], .fd = -1,
	};
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &args);

	if (!err)
		made_fd(r, KIND_SYNC, a[2], args.fd);
	return err;
}

OP(syncobj_import)
{
	struct drm_syncobj_handle args = { .fd = arg_fd(r, KIND_SYNC, a[2]) };
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args);

	if (!err)
		made_value(r, KIND_SYNCOBJ, a[1], args.handle);
	return err;
}

OP(sync_import)
{
	struct drm_syncobj_handle args = {
		.handle = arg_value(r, KIND_SYNCOBJ, a[1]), .fd = arg_fd(r, KIND_SYNC, a[2]),
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args);
}

OP(sync_use)
{
	struct sync_fence_info fences[4];
	struct sync_file_info args = {
		.num_fences = a[1] & 1 ? 4 : 0, .sync_fence_info = (uintptr_t)fences,
	};
	struct pollfd one = { .fd = arg_fd(r, KIND_SYNC, a[0]), .events = POLLIN };

	op_takes(r, wait_ms(a[2]));
	if (poll(&one, 1, wait_ms(a[2])) < 0)
		return -errno;
	return op_ioctl(one.fd, SYNC_IOC_FILE_INFO, &args);
}

OP(sync_merge)
{
	struct sync_merge_data args = { .name = "calls", .fd2 = arg_fd(r, KIND_SYNC, a[1]) };
	int err = op_ioctl(arg_fd(r, KIND_SYNC, a[0]), SYNC_IOC_MERGE, &args);

	if (!err)
		made_fd(r, KIND_SYNC, a[2], args.fence);
	return err;
}

OP(sync_close)
{
	int fd = take_fd(r, KIND_SYNC, a[0]);

	return fd < 0 ? -EBADF : close(fd);
}

/* ---- PRIME --------------------------------------------------------------------------------- */

OP(bo_export)
{
	struct drm_prime_handle args = {
		.handle = arg_value(r, KIND_BO, a[1]), .flags = a[3], .fd = -1,
	};
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_PRIME_HANDLE_TO_FD, &args);

	if (!err)
		made_fd(r, KIND_DMABUF, a[2], args.fd);
	return err;
}

OP(bo_import)
{
	struct drm_prime_handle args = { .fd = arg_fd(r, KIND_DMABUF, a[2]) };
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_PRIME_FD_TO_HANDLE, &args);

	if (!err)
		made_value(r, KIND_BO, a[1], args.handle);
	return err;
}

OP(dmabuf_use)
{
	int fd = arg_fd(r, KIND_DMABUF, a[0]);
	struct pollfd one = { .fd = fd, .events = POLLIN | POLLOUT };
	struct dma_buf_sync sync = { .flags = a[2] };
	struct dma_buf_export_sync_file export = { .flags = a[2], .fd = -1 };
	void *map;
	int err;

	switch (a[1] % 5) {
	case 0: return lseek(fd, 0, a[2] & 2) < 0 ? -errno : 0;
	case 1: return poll(&one, 1, 0) < 0 ? -errno : 0;
	case 2: return op_ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
	case 3:
		map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			return -errno;
		return munmap(map, 4096);
	default:
		err = op_ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export);
		if (!err)
			close(export.fd);
		return err;
	}
}

OP(dmabuf_close)
{
	int fd = take_fd(r, KIND_DMABUF, a[0]);

	return fd < 0 ? -EBADF : close(fd);
}

/* ---- besides ------------------------------------------------------------------------------- */

OP(sleep)
{
	op_takes(r, wait_ms(a[0]));
	sleep_ms(wait_ms(a[0]));
	return 0;
}

/* The child does the next ops, too, with what it has inherited. */
static int forked(struct calls_runner *parent, uint32_t which, uint32_t left)
{
	struct calls_runner r = *parent;
	uint32_t op;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r.watch = &r.state->shared->watches[CALLS_MAX_THREADS + which];
	r.forked = true;
	r.watch->pid = r.watch->tid = getpid();
	for (op = r.op + 1; op < r.sequence->num_ops && left; op++) {
		if (r.sequence->ops[op].thread != r.thread)
			continue;
		calls_run_op(&r, op);
		left--;
	}
	_exit(0);
}

OP(fork)
{
	uint32_t which;
	pid_t pid;

	if (r->forked)
		return -EPERM;
	which = atomic_fetch_add(&r->state->forks, 1);
	if (which >= CALLS_MAX_FORKS)
		return -EAGAIN;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		forked(r, which, a[0]);
	r->state->pids[which] = pid;
	return 0;
}

/* Whoever waits in a call is interrupted. */
OP(signal)
{
	struct calls_watch *watch = &r->state->shared->watches[a[0] % CALLS_MAX_THREADS];

	if (r->forked || !watch->tid)
		return -EPERM;
	return syscall(SYS_tgkill, getpid(), watch->tid, SIGUSR1) ? -errno : 0;
}
