/* SPDX-License-Identifier: MIT */
/*
 * unpu-vdev: the other end of the unpu virtual NPU. Its processes:
 *
 *   broker   holds the socket, makes each guest's memory and event counters, watches (broker.c,
 *            socket.c, ivshmem.c)
 *   nursery  forked before the broker gives its rights away; forks workers, kills and reaps them
 *            (nursery.c)
 *   worker   one a guest, maps that guest's window and nothing else, runs its jobs (worker.c)
 */
#ifndef UNPU_VDEV_H
#define UNPU_VDEV_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/log.h"

#define VDEV_MAX_GUESTS	64u
#define VDEV_MAX_WINDOW	(1ull << 34)

struct vdev_config {
	const char *socket;
	const char *device;	/* "cpu", "vulkan:N" */
	uint32_t threads;	/* 0: the device's choice */
	uint64_t window;	/* bytes, a power of two */
	uint64_t memory;	/* of the device, for one guest */
	uint32_t guests;	/* at once */
	gid_t group;		/* of the socket */
	bool has_group;
	bool stats;		/* a line each second */
	bool no_sandbox;
};

/* All that a worker has of its guest. */
struct vdev_fds {
	int window;	/* memfd of config.window bytes */
	int doorbell;	/* eventfd: the driver has published something */
	int interrupt;	/* eventfd: the guest's vector 0 */
	int report;	/* pipe: a struct vdev_report each heartbeat; hanging up ends the worker */
};

#define VDEV_NUM_FDS	4

enum vdev_state { VDEV_BOOT = 0, VDEV_SERVES, VDEV_FAILED };

/* What a worker says of itself; sums are since it began. */
struct vdev_report {
	uint32_t state;		/* enum vdev_state */
	uint32_t contexts;
	uint64_t jobs, failed;
	uint64_t busy_ns;
	uint64_t device_bytes;
};

/* ---- log.c: one line an event, to stderr ---------------------------------------------------- */

/* Begins each line from now on: "unpu-vdev: ", "unpu-vdev: guest 3: ". */
void vdev_log_name(const char *name);
void vdev_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What a guest can cause as often as it likes: most of many lines are left out, and counted. A
 * process of which there may be many begins with fewer. */
void vdev_log_rarely(const char *format, ...) __attribute__((format(printf, 1, 2)));
void vdev_log_few(void);
/* For struct unpu_log: errors and warnings of the library, rarely. */
unpu_log_fn vdev_log_library;

uint64_t vdev_now(void);

/* ---- the processes -------------------------------------------------------------------------- */

/* Until SIGTERM or SIGINT; an exit status. */
int vdev_broker_run(const struct vdev_config *config);

/*
 * The worker of one guest: returns, with an exit status, when the reports' other end is closed;
 * ends the process when the engine is dead or does not stop.
 */
int vdev_worker_run(const struct vdev_config *config, const struct vdev_fds *fds);

/* Whether the device opens at all, in a process of its own: 0, or -errno after a line. */
int vdev_worker_try(const struct vdev_config *config);

enum vdev_exit {
	VDEV_EXIT_OK = 0, VDEV_EXIT_ERROR, VDEV_EXIT_USAGE,
	VDEV_EXIT_STUCK,	/* the engine did not stop when told to */
	VDEV_EXIT_LOST,		/* the engine is dead */
};

/* ---- nursery.c ------------------------------------------------------------------------------ */

struct vdev_nursery {
	pid_t pid;
	int fd;			/* SOCK_SEQPACKET to it */
};

struct vdev_exited {
	uint32_t key;
	int32_t status;		/* of waitpid(); -1: it could not be forked */
};

int vdev_nursery_create(const struct vdev_config *config, struct vdev_nursery *nursery);
/* A worker that is called key from now on; guest, and whether it is another one of that guest, are
 * for its log. The fds stay the caller's. */
int vdev_nursery_fork(struct vdev_nursery *nursery, uint32_t key, uint32_t guest, bool again,
		      const struct vdev_fds *fds);
/* Nothing happens when it has ended already. */
int vdev_nursery_kill(struct vdev_nursery *nursery, uint32_t key);
/* One worker that has ended; -EAGAIN: none, -EPIPE: the nursery itself. Does not wait. */
int vdev_nursery_exited(struct vdev_nursery *nursery, struct vdev_exited *exited);
/* Kills all workers and waits for it. */
void vdev_nursery_finish(struct vdev_nursery *nursery);

/* ---- socket.c ------------------------------------------------------------------------------- */

struct vdev_socket {
	int fd;
	const char *path;
	dev_t dev;
	ino_t ino;
};

/* Listens on config->socket: takes the place of one that nobody serves, refuses one that is served
 * and whatever is no socket. -errno after a line. */
int vdev_socket_open(struct vdev_socket *sock, const struct vdev_config *config);
/* A connection, or -errno. */
int vdev_socket_accept(const struct vdev_socket *sock);
/* Takes the name away if it is still its own. */
void vdev_socket_close(struct vdev_socket *sock);

/* Sends one number and, unless -1, a descriptor with it. */
int vdev_send_fd(int fd, const void *data, size_t size, const int *fds, uint32_t num_fds);

/* ---- ivshmem.c ------------------------------------------------------------------------------ */

/* What a guest is given at once; all of it its own. */
struct vdev_shared {
	int window;
	int doorbell;
	int interrupts[2];	/* one a vector */
};

int vdev_shared_create(struct vdev_shared *shared, uint64_t window);
void vdev_shared_finish(struct vdev_shared *shared);
/* The whole greeting of an ivshmem server: the peer of the connection becomes peer 1. */
int vdev_shared_send(const struct vdev_shared *shared, int fd);

#endif
