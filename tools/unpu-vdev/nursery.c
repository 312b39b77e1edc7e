/* SPDX-License-Identifier: MIT */
/*
 * A process that does nothing but fork workers: seccomp and Landlock only ever grow, and a worker
 * that drives a GPU needs what the broker gives away.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/unpu-vdev/vdev.h"

enum { ASK_FORK = 1, ASK_KILL };

struct ask {
	uint32_t what, key, guest, again;
};

struct child {
	pid_t pid;	/* 0: none */
	uint32_t key;
};

struct nursery {
	const struct vdev_config *config;
	int fd;
	sigset_t signals;	/* of the worker: as they were */
	/* Twice the guests: the old worker of one may still be on its way out. */
	struct child children[2 * VDEV_MAX_GUESTS];
};

#define NUM_CHILDREN	(2 * VDEV_MAX_GUESTS)

static struct child *find(struct nursery *n, uint32_t key)
{
	uint32_t i;

	for (i = 0; i < NUM_CHILDREN; i++)
		if (n->children[i].pid && n->children[i].key == key)
			return &n->children[i];
	return NULL;
}

static struct child *find_free(struct nursery *n)
{
	uint32_t i;

	for (i = 0; i < NUM_CHILDREN; i++)
		if (!n->children[i].pid)
			return &n->children[i];
	return NULL;
}

static void tell(struct nursery *n, uint32_t key, int status)
{
	const struct vdev_exited exited = { key, status };

	if (send(n->fd, &exited, sizeof(exited), MSG_NOSIGNAL) < 0)
		return;		/* the broker went: the next look at the socket tells */
}

static void __attribute__((noreturn)) become_worker(struct nursery *n, const struct ask *ask,
						    const int *fds, pid_t parent)
{
	const struct vdev_fds own = { fds[0], fds[1], fds[2], fds[3] };
	char name[40];

	/* Dies with the nursery, and that with the broker; a terminal's Ctrl-C is the broker's. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(VDEV_EXIT_ERROR);
	signal(SIGINT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &n->signals, NULL);
	close(n->fd);
	snprintf(name, sizeof(name), "unpu-vdev: guest %u: ", ask->guest);
	vdev_log_name(name);
	if (ask->again)
		vdev_log_few();
	prctl(PR_SET_NAME, "unpu-vdev-guest");
	_exit(vdev_worker_run(n->config, &own));
}

static void ask_fork(struct nursery *n, const struct ask *ask, const int *fds, int signals)
{
	struct child *child = find_free(n);
	pid_t parent = getpid(), pid = child ? fork() : -1;

	if (!pid) {
		close(signals);
		become_worker(n, ask, fds, parent);
	}
	if (pid < 0)
		tell(n, ask->key, -1);
	else
		*child = (struct child){ pid, ask->key };
}

static void ask_kill(struct nursery *n, uint32_t key)
{
	struct child *child = find(n, key);

	if (child)
		kill(child->pid, SIGKILL);
}

/* 0, or -EPIPE when the broker is gone; fds are closed by the caller. */
static int receive(int fd, struct ask *ask, int *fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VDEV_NUM_FDS * sizeof(int))];
	} control;
	struct iovec part = { ask, sizeof(*ask) };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *with;
	ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

	if (got < 0 && errno == EINTR)
		return -EINTR;
	if (got != sizeof(*ask))
		return -EPIPE;
	with = CMSG_FIRSTHDR(&message);
	memset(fds, 0xff, VDEV_NUM_FDS * sizeof(int));
	if (with && with->cmsg_type == SCM_RIGHTS && with->cmsg_len <= CMSG_LEN(4 * sizeof(int)))
		memcpy(fds, CMSG_DATA(with), with->cmsg_len - CMSG_LEN(0));
	return 0;
}

static int answer(struct nursery *n, int signals)
{
	int fds[VDEV_NUM_FDS], err, i;
	struct ask ask;

	err = receive(n->fd, &ask, fds);
	if (err)
		return err == -EINTR ? 0 : err;
	if (ask.what == ASK_FORK)
		ask_fork(n, &ask, fds, signals);
	else
		ask_kill(n, ask.key);
	for (i = 0; i < VDEV_NUM_FDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return 0;
}

static void reap(struct nursery *n)
{
	int status;
	pid_t pid;
	uint32_t i;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (i = 0; i < NUM_CHILDREN; i++)
			if (n->children[i].pid == pid) {
				n->children[i].pid = 0;
				tell(n, n->children[i].key, status);
			}
}

static void kill_all(struct nursery *n)
{
	uint32_t i;

	for (i = 0; i < NUM_CHILDREN; i++)
		if (n->children[i].pid)
			kill(n->children[i].pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

/* Signals that end it are the broker's to hear; it ends with the broker. */
static void __attribute__((noreturn)) nursery_run(struct nursery *n)
{
	struct signalfd_siginfo info;
	struct pollfd fds[2] = { { .fd = n->fd, .events = POLLIN }, { .events = POLLIN } };
	sigset_t children;
	int err = 0;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	fds[1].fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	while (!err) {
		poll(fds, 2, -1);
		while (read(fds[1].fd, &info, sizeof(info)) > 0)
			;
		reap(n);
		if (fds[0].revents)
			err = answer(n, fds[1].fd);
	}
	kill_all(n);
	_exit(VDEV_EXIT_OK);
}

/* ---- the broker's side ---------------------------------------------------------------------- */

int vdev_nursery_create(const struct vdev_config *config, struct vdev_nursery *nursery)
{
	static struct nursery n;
	int pair[2];

	n.config = config;
	sigprocmask(SIG_SETMASK, NULL, &n.signals);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	nursery->pid = fork();
	if (!nursery->pid) {
		close(pair[0]);
		n.fd = pair[1];
		prctl(PR_SET_NAME, "unpu-vdev-nurse");
		nursery_run(&n);
	}
	close(pair[1]);
	nursery->fd = pair[0];
	if (nursery->pid > 0)
		return 0;
	close(pair[0]);
	return -EAGAIN;
}

int vdev_nursery_fork(struct vdev_nursery *nursery, uint32_t key, uint32_t guest, bool again,
		      const struct vdev_fds *fds)
{
	const struct ask ask = { ASK_FORK, key, guest, again };
	const int list[VDEV_NUM_FDS] = {
		fds->window, fds->doorbell, fds->interrupt, fds->report,
	};

	return vdev_send_fd(nursery->fd, &ask, sizeof(ask), list, VDEV_NUM_FDS);
}

int vdev_nursery_kill(struct vdev_nursery *nursery, uint32_t key)
{
	const struct ask ask = { ASK_KILL, key, 0, 0 };

	return vdev_send_fd(nursery->fd, &ask, sizeof(ask), NULL, 0);
}

int vdev_nursery_exited(struct vdev_nursery *nursery, struct vdev_exited *exited)
{
	/* Not recv(): the broker's filter knows recvmsg() alone. */
	struct iovec part = { exited, sizeof(*exited) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t got = recvmsg(nursery->fd, &message, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	return got == sizeof(*exited) ? 0 : -EPIPE;
}

void vdev_nursery_finish(struct vdev_nursery *nursery)
{
	close(nursery->fd);
	while (waitpid(nursery->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
