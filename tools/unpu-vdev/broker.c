/* SPDX-License-Identifier: MIT */
/*
 * The broker: hands each guest its own memory and event counters, and sees to it that a worker
 * serves it. It maps no guest's memory and opens no file once it serves.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/lib/sandbox.h"
#include "tools/unpu-vdev/vdev.h"

#define TICK_MS		500
#define SECOND_NS	1000000000ull
#define MAX_REPORTS	64u		/* of one worker, which may not be itself, in a turn */
/* Without a report a worker is taken for dead: reports come ten times a second. Opening a GPU may
 * take its time. */
#define SILENCE_NS	(3 * SECOND_NS)
#define BOOT_NS		(60 * SECOND_NS)
#define END_NS		SECOND_NS	/* for a worker whose guest went, to end by itself */
/* Workers of one guest that are replaced at once, and how often after that. */
#define RESTARTS	8u
#define RESTART_NS	250000000ull
/* poll() takes no more than there may be descriptors; a guest has six, and a few are open. */
#define NUM_POLLED	(3 + 2 * VDEV_MAX_GUESTS)
#define MIN_FILES	(32 + 6 * VDEV_MAX_GUESTS)

struct guest {
	bool used;
	uint32_t number;		/* from 1, never again */
	int fd;				/* to QEMU */
	struct vdev_shared shared;
	uint32_t key;			/* of its worker; 0: none */
	int report;			/* from it; -1: none */
	bool killed;			/* and not reaped yet */
	uint64_t heard;			/* when its last report came */
	uint64_t restart;		/* when another one is due; 0: not */
	bool replaced;			/* its first worker is gone */
	uint32_t restarts;		/* left of RESTARTS */
	uint64_t restarts_filled;
	struct vdev_report now;		/* of this worker */
	uint64_t jobs, failed, busy_ns;	/* of those before */
};

/* A worker whose guest is gone. */
struct ending {
	uint32_t key;			/* 0: none */
	uint64_t deadline;
};

struct broker {
	const struct vdev_config *config;
	struct vdev_nursery nursery;
	struct vdev_socket sock;
	int signals;
	uint32_t num_guests, last_number, last_key;
	struct guest guests[VDEV_MAX_GUESTS];
	struct ending endings[VDEV_MAX_GUESTS];
	uint64_t looked;		/* when it last judged who is silent */
	uint64_t deaf;			/* until then nobody can be taken in */
	uint64_t stats_at, stats_busy;	/* of the last line */
	uint64_t gone_jobs, gone_failed, gone_busy;	/* of guests that went */
	int status;
	bool over;
};

/* The sandbox asks: the broker removes its socket at the end. */
static int socket_folder = -1;

int output_folder(size_t i)
{
	return i ? -1 : socket_folder;
}

/* ---- workers -------------------------------------------------------------------------------- */

static void set_aside(struct broker *b, uint32_t key)
{
	uint32_t i;

	for (i = 0; i < VDEV_MAX_GUESTS; i++)
		if (!b->endings[i].key) {
			b->endings[i] = (struct ending){ key, vdev_now() + END_NS };
			return;
		}
	vdev_nursery_kill(&b->nursery, key);
}

static void worker_begin(struct broker *b, struct guest *guest)
{
	struct vdev_fds fds = {
		.window = guest->shared.window, .doorbell = guest->shared.doorbell,
		.interrupt = guest->shared.interrupts[0],
	};
	int pipes[2], err;

	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK)) {
		vdev_log("guest %u: no worker: %s", guest->number, strerror(errno));
		guest->restart = vdev_now() + SECOND_NS;
		return;
	}
	fds.report = pipes[1];
	if (!++b->last_key)
		++b->last_key;
	err = vdev_nursery_fork(&b->nursery, b->last_key, guest->number, guest->replaced, &fds);
	close(pipes[1]);
	if (err) {
		vdev_log("guest %u: no worker: %s", guest->number, strerror(-err));
		close(pipes[0]);
		guest->restart = vdev_now() + SECOND_NS;
		return;
	}
	guest->key = b->last_key;
	guest->report = pipes[0];
	guest->killed = false;
	guest->heard = vdev_now();
	guest->restart = 0;
	guest->now = (struct vdev_report){ .state = VDEV_BOOT };
}

static void reports_close(struct guest *guest)
{
	if (guest->report >= 0)
		close(guest->report);
	guest->report = -1;
}

static const char *why(int status)
{
	if (status == -1)
		return "could not be started";
	if (WIFSIGNALED(status))
		return strsignal(WTERMSIG(status));
	switch (WEXITSTATUS(status)) {
	case VDEV_EXIT_STUCK:
		return "its engine did not stop";
	case VDEV_EXIT_LOST:
		return "its engine was lost";
	}
	return "it ended";
}

static bool may_restart(struct guest *guest, uint64_t now)
{
	uint64_t more = (now - guest->restarts_filled) / RESTART_NS;

	if (more) {
		guest->restarts_filled = now;
		guest->restarts = more > RESTARTS - guest->restarts ? RESTARTS :
				  guest->restarts + (uint32_t)more;
	}
	if (!guest->restarts)
		return false;
	guest->restarts--;
	return true;
}

static void worker_ended(struct broker *b, struct guest *guest, int status)
{
	uint64_t now = vdev_now();

	guest->jobs += guest->now.jobs;
	guest->failed += guest->now.failed;
	guest->busy_ns += guest->now.busy_ns;
	guest->now = (struct vdev_report){ .state = VDEV_BOOT };
	guest->key = 0;
	guest->replaced = true;
	reports_close(guest);
	if (status != -1 && may_restart(guest, now)) {
		vdev_log_rarely("guest %u: worker replaced (%s)", guest->number, why(status));
		worker_begin(b, guest);
		return;
	}
	vdev_log_rarely("guest %u: worker gone (%s), the next one in a while", guest->number,
			why(status));
	guest->restart = now + RESTART_NS;
}

static void exited(struct broker *b, const struct vdev_exited *exited)
{
	uint32_t i;

	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		if (b->endings[i].key == exited->key)
			b->endings[i].key = 0;
		if (b->guests[i].used && b->guests[i].key == exited->key)
			worker_ended(b, &b->guests[i], exited->status);
	}
}

static void hear_nursery(struct broker *b)
{
	struct vdev_exited one;
	int err;

	while (!(err = vdev_nursery_exited(&b->nursery, &one)))
		exited(b, &one);
	if (err == -EAGAIN)
		return;
	vdev_log("the process that starts workers is gone");
	b->status = VDEV_EXIT_ERROR;
	b->over = true;
}

static void hear_report(struct guest *guest)
{
	struct vdev_report report;
	ssize_t got = -1;
	uint32_t i;

	for (i = 0; i < MAX_REPORTS; i++) {
		got = read(guest->report, &report, sizeof(report));
		if (got != sizeof(report))
			break;
		guest->now = report;
		guest->heard = vdev_now();
	}
	/* Its end: what it was will be told by the nursery. */
	if (!got)
		reports_close(guest);
}

/* ---- guests --------------------------------------------------------------------------------- */

static struct guest *guest_free(struct broker *b)
{
	uint32_t i;

	for (i = 0; i < b->config->guests; i++)
		if (!b->guests[i].used)
			return &b->guests[i];
	return NULL;
}

/* Its memory goes with the last who maps it. */
static void guest_end(struct broker *b, struct guest *guest)
{
	if (guest->key)
		set_aside(b, guest->key);
	b->gone_jobs += guest->jobs + guest->now.jobs;
	b->gone_failed += guest->failed + guest->now.failed;
	b->gone_busy += guest->busy_ns + guest->now.busy_ns;
	reports_close(guest);
	vdev_shared_finish(&guest->shared);
	close(guest->fd);
	guest->used = false;
	b->num_guests--;
}

static void guest_begin(struct broker *b, int fd)
{
	struct guest *guest = guest_free(b);
	int err;

	if (!guest) {
		vdev_log_rarely("a guest is turned away: there are %u (--guests)", b->num_guests);
		close(fd);
		return;
	}
	*guest = (struct guest){
		.used = true, .fd = fd, .number = ++b->last_number, .report = -1,
		.restarts = RESTARTS, .restarts_filled = vdev_now(),
	};
	b->num_guests++;
	err = vdev_shared_create(&guest->shared, b->config->window);
	if (!err) {
		/* The worker first: a driver that is quick finds the window laid out sooner. */
		worker_begin(b, guest);
		err = vdev_shared_send(&guest->shared, fd);
	}
	if (err) {
		vdev_log("guest %u: cannot be served: %s", guest->number, strerror(-err));
		guest_end(b, guest);
		return;
	}
	vdev_log("guest %u connected, window %llu MiB", guest->number,
		 (unsigned long long)b->config->window >> 20);
}

static void hear_guest(struct broker *b, struct guest *guest)
{
	char text[8];
	ssize_t got = read(guest->fd, text, sizeof(text));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A peer has nothing to say in this protocol. */
	vdev_log("guest %u %s", guest->number, got > 0 ? "speaks out of turn: ended" : "gone");
	guest_end(b, guest);
}

static void hear_socket(struct broker *b)
{
	int fd;

	while ((fd = vdev_socket_accept(&b->sock)) >= 0)
		guest_begin(b, fd);
	if (fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED)
		return;
	/* Who waits there stays, and poll() would not wait a moment. */
	vdev_log_rarely("no guest can be taken in: %s", strerror(-fd));
	b->deaf = vdev_now() + SECOND_NS;
}

/* ---- stats ---------------------------------------------------------------------------------- */

static uint64_t resident(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static void say_stats(struct broker *b)
{
	uint64_t jobs = b->gone_jobs, failed = b->gone_failed, busy = b->gone_busy;
	uint64_t window = 0, memory = 0, now = vdev_now();
	uint32_t contexts = 0, i;

	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		const struct guest *guest = &b->guests[i];

		if (!guest->used)
			continue;
		jobs += guest->jobs + guest->now.jobs;
		failed += guest->failed + guest->now.failed;
		busy += guest->busy_ns + guest->now.busy_ns;
		window += resident(guest->shared.window);
		memory += guest->now.device_bytes;
		contexts += guest->now.contexts;
	}
	vdev_log("%u guests, %u contexts, %llu jobs, %llu failed, busy %llu %%, "
		 "windows %llu MiB, device memory %llu MiB", b->num_guests, contexts,
		 (unsigned long long)jobs, (unsigned long long)failed,
		 (unsigned long long)((busy - b->stats_busy) * 100 / (now - b->stats_at + 1)),
		 (unsigned long long)window >> 20, (unsigned long long)memory >> 20);
	b->stats_at = now;
	b->stats_busy = busy;
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* Not by the clock alone: when this process itself was held up, nobody was heard. */
static void judge(struct broker *b)
{
	uint64_t now = vdev_now();
	bool held_up = now - b->looked > SECOND_NS;
	uint32_t i;

	b->looked = now;
	if (now > b->deaf)
		b->deaf = 0;
	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		struct guest *guest = &b->guests[i];
		uint64_t limit = guest->now.state == VDEV_BOOT ? BOOT_NS : SILENCE_NS;

		if (b->endings[i].key && now > b->endings[i].deadline) {
			if (!vdev_nursery_kill(&b->nursery, b->endings[i].key))
				b->endings[i].deadline = UINT64_MAX;
		}
		if (!guest->used)
			continue;
		if (held_up)
			guest->heard = now;
		if (guest->key && !guest->killed && now - guest->heard > limit) {
			vdev_log("guest %u: worker killed: it stands still", guest->number);
			guest->killed = !vdev_nursery_kill(&b->nursery, guest->key);
		}
		if (guest->restart && now >= guest->restart && !guest->key) {
			guest->restarts_filled = now;	/* the wait was for this one */
			worker_begin(b, guest);
		}
	}
	if (b->config->stats && now - b->stats_at >= SECOND_NS)
		say_stats(b);
}

static void hear_signals(struct broker *b)
{
	struct signalfd_siginfo info;

	while (read(b->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1) {
			say_stats(b);
		} else if (info.ssi_signo != SIGCHLD) {
			vdev_log("%s: all guests end", strsignal((int)info.ssi_signo));
			b->over = true;
		}
	}
}

static int timeout_ms(const struct broker *b)
{
	uint32_t i;
	int ms = b->num_guests || b->config->stats || b->deaf ? TICK_MS : -1;

	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		if (b->guests[i].used && b->guests[i].restart)
			ms = (int)(RESTART_NS / 1000000u / 2);
		if (b->endings[i].key && b->endings[i].deadline != UINT64_MAX && ms < 0)
			ms = TICK_MS;
	}
	return ms;
}

static void turn(struct broker *b)
{
	struct pollfd fds[NUM_POLLED] = {
		{ .fd = b->signals, .events = POLLIN }, { .fd = b->nursery.fd, .events = POLLIN },
		{ .fd = b->deaf ? -1 : b->sock.fd, .events = POLLIN },
	};
	struct pollfd *of = fds + 3;
	uint32_t i;

	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		const struct guest *guest = &b->guests[i];

		/* poll() passes over what is negative. */
		of[2 * i] = (struct pollfd){ .fd = guest->used ? guest->fd : -1, .events = POLLIN };
		of[2 * i + 1] = (struct pollfd){ .fd = guest->used ? guest->report : -1,
						 .events = POLLIN };
	}
	poll(fds, NUM_POLLED, timeout_ms(b));
	for (i = 0; i < VDEV_MAX_GUESTS; i++) {
		if (of[2 * i + 1].revents)
			hear_report(&b->guests[i]);
		if (of[2 * i].revents)
			hear_guest(b, &b->guests[i]);
	}
	if (fds[0].revents)
		hear_signals(b);
	if (fds[1].revents)
		hear_nursery(b);
	if (fds[2].revents)
		hear_socket(b);
	judge(b);
}

/* ---- begin and end -------------------------------------------------------------------------- */

static int open_folder(const char *path)
{
	char copy[PATH_MAX];

	strncpy(copy, path, sizeof(copy) - 1);
	copy[sizeof(copy) - 1] = '\0';
	return open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Who starts it may have been given fewer; the rest is his to take. */
static int allow_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= MIN_FILES)
		return 0;
	limit.rlim_cur = limit.rlim_max < MIN_FILES ? limit.rlim_max : MIN_FILES;
	if (limit.rlim_cur == MIN_FILES && !setrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	vdev_log("needs %u open files, ulimit -n allows %llu", MIN_FILES,
		 (unsigned long long)limit.rlim_cur);
	return -EMFILE;
}

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void hold(const struct vdev_config *config)
{
	if (config->no_sandbox)
		sandbox_off();
	socket_folder = open_folder(config->socket);
	sandbox_open_nothing();
	sandbox_allow_serving();
	sandbox_enter();
}

static void end_all(struct broker *b)
{
	uint32_t i;

	for (i = 0; i < VDEV_MAX_GUESTS; i++)
		if (b->guests[i].used)
			guest_end(b, &b->guests[i]);
	vdev_socket_close(&b->sock);
	vdev_nursery_finish(&b->nursery);
	close(b->signals);
}

int vdev_broker_run(const struct vdev_config *config)
{
	struct broker *b = calloc(1, sizeof(*b));
	int status;

	if (!b || allow_files()) {
		free(b);
		return VDEV_EXIT_ERROR;
	}
	b->config = config;
	b->stats_at = vdev_now();
	b->looked = vdev_now();
	/* Who reads what is said may go: the guests stay. */
	signal(SIGPIPE, SIG_IGN);
	/* Signals are taken first, and given back to the nursery's children: none is lost. */
	if (vdev_nursery_create(config, &b->nursery)) {
		vdev_log("cannot fork: %s", strerror(errno));
		free(b);
		return VDEV_EXIT_ERROR;
	}
	b->signals = signals_open();
	if (vdev_socket_open(&b->sock, config)) {
		b->status = VDEV_EXIT_ERROR;
		b->over = true;
	} else {
		hold(config);
		vdev_log("%s serves up to %u guests on %s (%s)", config->device, config->guests,
			 config->socket, sandbox_status());
	}
	while (!b->over)
		turn(b);
	end_all(b);
	status = b->status;
	free(b);
	return status;
}
