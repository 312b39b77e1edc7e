// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device process that lies (tests/vm/liar): whatever it says, calls return, fences signal when
 * they should, the kernel says little, nothing is lost, and with an honest one all is well again.
 *
 *   liar BUS_DEVICE [LIE]
 *
 * binds and unbinds the driver itself and tells the liar what to do through /dev/ttyS1, as
 * tests/vm/guest/host does. With LIE it does only that one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"
#include "tests/kselftest/lib/node.h"

#define TIMEOUT_MS	200u
#define MAX_JOB_MS	2000u	/* of the liar's info */
#define PROMISE_MS	1000u	/* after a job's deadline its fence signals */
#define CANCEL_MS	500u	/* for a job of another context that is told to stop */
#define VERDICT_MS	20000u	/* the module's verdict_ms, as 68_liar.sh sets it */
#define QUICK_MS	1000u	/* calls that wait for nothing */
#define LOAD_MS		2000u	/* that the machine may be busy with something else */
#define HEAL_MS		8000u	/* until a device that is honest again works */
#define BYTES		8192u
#define MAX_LINES	60u	/* of the kernel's log, for one lie */

enum {
	WORKS = 1,		/* all calls and jobs succeed in spite of it */
	BEFORE = 2,		/* it is told before the driver is bound */
	UNBOUND = 4,		/* and the driver does not bind */
	MUTE_JOBS = 8,		/* no job ends by itself */
	LONG_JOBS = 16,		/* and none stands still */
	RUN_LONG = 32,		/* in the long run only */
	SLOW_BIND = 64,
};

struct lie {
	const char *words;	/* for the liar */
	uint32_t flags;
	uint32_t ms;		/* so long there is work; 0: DEFAULT_MS */
};

#define DEFAULT_MS	250u

static const struct lie lies[] = {
	{ "honest" },	/* which is another process in its place */
	{ "attach never", BEFORE | UNBOUND }, { "attach wrong", BEFORE | UNBOUND },
	{ "attach failed", BEFORE | UNBOUND }, { "attach magic", BEFORE | UNBOUND },
	{ "attach version", BEFORE | UNBOUND }, { "attach size", BEFORE | UNBOUND },
	{ "attach boot", BEFORE | UNBOUND | RUN_LONG | SLOW_BIND },
	{ "attach forgets", 0, 600 }, { "attach never" }, { "attach wrong" },
	{ "attach failed" }, { "attach magic" }, { "attach boot" },
	/* The answers. */
	{ "double", WORKS }, { "stray", WORKS }, { "kind", WORKS }, { "early", 0 },
	{ "absurd bo" }, { "absurd shader" }, { "absurd program" }, { "absurd ctx" },
	{ "absurd end", WORKS }, { "absurd job" },
	{ "late 30", WORKS }, { "late 300 bo", WORKS }, { "late 300 shader", WORKS },
	{ "late 300 program", WORKS }, { "late 300 ctx", WORKS }, { "late 450 end", 0 },
	{ "late 700 end", 0 }, { "late 300 job" }, { "late 1000 job", MUTE_JOBS },
	{ "mute job", MUTE_JOBS }, { "mute end" }, { "mute job end", MUTE_JOBS },
	/* Rings, epochs, words that change while they are read. */
	{ "index bo" }, { "index shader" }, { "index program" }, { "index ctx" },
	{ "index end" }, { "index job" },
	{ "epoch back bo" }, { "epoch jump shader" }, { "epoch zero program" },
	{ "epoch back ctx" }, { "epoch jump end" }, { "epoch zero job" }, { "epoch back" },
	{ "flip rings", 0, 600 }, { "flip bells", WORKS }, { "flip head", 0, 600 },
	{ "flip heart", WORKS }, { "flip limits", WORKS }, { "flip events", 0, 600 },
	{ "flip ctxs", WORKS }, { "flip epochs", 0, 600 }, { "flip all", 0, 1000 },
	{ "progress", MUTE_JOBS | LONG_JOBS },
	/* Interrupts. */
	{ "storm 0", WORKS, 1500 }, { "storm 1", WORKS }, { "silent", WORKS },
	/* It stands still, or is dead, and another comes. */
	{ "die bo" }, { "die shader" }, { "die program" }, { "die ctx" }, { "die end" },
	{ "die job" }, { "stop bo" }, { "stop shader" }, { "stop program" }, { "stop ctx" },
	{ "stop end" }, { "stop job" }, { "stop 4500 job", RUN_LONG },
};

/* ---- outside -------------------------------------------------------------------------------- */

static char slot[64];
static uint32_t slow = 1;
static bool is_long;

static bool host(const char *words, char *answer, size_t size)
{
	char text[256] = "";
	size_t length = 0;
	int fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);

	fflush(stdout);
	if (fd < 0)
		die("/dev/ttyS1: %s", strerror(errno));
	dprintf(fd, "@host liar %s\n", words);
	while (length < sizeof(text) - 1 && read(fd, text + length, 1) == 1 &&
	       text[length] != '\n')
		length++;
	text[length] = '\0';
	close(fd);
	if (answer)
		snprintf(answer, size, "%s", strchr(text, ' ') ? strchr(text, ' ') + 1 : text);
	return !strncmp(text, "ok", 2);
}

static void tell(const char *words)
{
	char answer[256];

	if (!host(words, answer, sizeof(answer)))
		die("the liar does not take '%s': %s", words, answer);
}

/* ---- the driver ----------------------------------------------------------------------------- */

static bool is_bound(void)
{
	char path[200];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/unpu/%s", slot);
	return !access(path, F_OK);
}

/* The node, which has another number each time. */
static bool find_node(void)
{
	char path[200], name[300];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/accel", slot);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "accel", 5))
			continue;
		snprintf(name, sizeof(name), "/dev/accel/%s", entry->d_name);
		found = !access(name, F_OK);
	}
	if (dir)
		closedir(dir);
	if (found)
		setenv("UNPU_NODE", name, 1);
	return found && !chmod(name, 0666);
}

/* What it took, in ms; UINT32_MAX: it was refused. */
static uint32_t set_bound(bool bound)
{
	uint64_t began = now_ns();
	char path[100];
	int fd, length;

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/unpu/%s", bound ? "bind" : "unbind");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	length = write(fd, slot, strlen(slot));
	close(fd);
	if (length < 0)
		return UINT32_MAX;
	while (bound && !find_node() && now_ns() - began < HEAL_MS * slow * MS)
		sleep_ms(5);
	return (now_ns() - began) / MS;
}

static int kernel_log = -1;

static void log_begin(void)
{
	if (kernel_log < 0)
		kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(kernel_log, 0, SEEK_END);
}

static uint32_t log_lines(bool show)
{
	char record[2048];
	uint32_t lines = 0;
	ssize_t length;

	for (;;) {
		length = read(kernel_log, record, sizeof(record) - 1);
		if (length < 0 && errno == EPIPE)
			continue;
		if (length <= 0)
			return lines;
		record[length] = '\0';
		if (!strstr(record, slot))
			continue;
		lines++;
		if (show && lines < 8)
			ksft_print_msg("%.*s\n", (int)strcspn(record, "\n"), record);
	}
}

/* ---- work ----------------------------------------------------------------------------------- */

/* What the worker is at, for who waits for it; of several the last one. */
static struct shared {
	volatile uint64_t since;
	char doing[32];
	char wrong[160];
	uint32_t rounds, good;
} *shared;
static pid_t parent;
static uint64_t since;

__attribute__((noreturn, format(printf, 1, 2)))
static void wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(shared->wrong, sizeof(shared->wrong), format, args);
	va_end(args);
	if (getpid() == parent)
		die("%s", shared->wrong);
	_exit(KSFT_FAIL);
}

static void begin(const char *what)
{
	snprintf(shared->doing, sizeof(shared->doing), "%s", what);
	since = now_ns();
	shared->since = since;
}

/* What a call may say for which only the device is to blame. */
static bool is_known(int err)
{
	switch (err) {
	case 0:
	case -ENODEV:
	case -ESTALE:
	case -EIO:
	case -EINVAL:
	case -ENOENT:
	case -ENOMEM:
	case -ENOSPC:
	case -EFAULT:
	case -EOPNOTSUPP:
		return true;
	}
	return false;
}

static bool must_work;

static int end(int err, uint32_t limit_ms)
{
	uint64_t ms = (now_ns() - since) / MS;

	if (ms > (limit_ms + LOAD_MS) * slow)
		wrong("%s took %llu ms", shared->doing, (unsigned long long)ms);
	if (!is_known(err) || (must_work && err))
		wrong("%s: %s", shared->doing, strerror(-err));
	return err;
}

struct round {
	struct client c;
	uint32_t from, between, to, program, ctxs[2];
	uint8_t *maps[2];
	int fences[3];
	uint64_t submitted;
};

static int make_bo(struct round *r, uint32_t flags, uint32_t *handle, uint8_t **map)
{
	struct drm_unpu_bo_create args = { .size = BYTES, .flags = flags };
	uint64_t offset;
	void *at;
	int err;

	begin("BO_CREATE");
	err = end(call(r->c.fd, DRM_IOCTL_UNPU_BO_CREATE, &args), VERDICT_MS);
	*handle = args.handle;
	if (err || !map)
		return err;
	begin("mmap");
	err = bo_offset(&r->c, args.handle, &offset);
	if (!err) {
		at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r->c.fd, offset);
		err = at == MAP_FAILED ? -errno : 0;
		*map = err ? NULL : at;
	}
	return end(err, QUICK_MS);
}

static int make_program(struct round *r)
{
	struct drm_unpu_shader_create shader = { .name = "copy.1" };
	struct copies p = { 0 };
	uint32_t rows[3];
	int err;

	begin("SHADER_CREATE");
	err = end(call(r->c.fd, DRM_IOCTL_UNPU_SHADER_CREATE, &shader), VERDICT_MS);
	if (err)
		return err;
	r->c.copy = shader.shader_id;
	rows[0] = copies_row(&p, r->from, 0, BYTES);
	rows[1] = copies_row(&p, r->between, 0, BYTES);
	rows[2] = copies_row(&p, r->to, 0, BYTES);
	copies_add(&p, rows[0], rows[1], BYTES);
	copies_add(&p, rows[1], rows[2], BYTES);
	begin("PROGRAM_CREATE");
	return end(copies_try(&r->c, &p, &r->program), VERDICT_MS);
}

static int make_ctx(struct round *r, uint32_t i)
{
	begin("CTX_CREATE");
	return end(ctx_try(&r->c, DRM_UNPU_PRIORITY_NORMAL, TIMEOUT_MS * MS, &r->ctxs[i]),
		   VERDICT_MS);
}

static int make_all(struct round *r)
{
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_INFO, sizeof(r->c.info), (uintptr_t)&r->c.info,
	};
	int err;

	begin("DEV_QUERY");
	err = end(call(r->c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query), QUICK_MS);
	if (!err)
		err = make_bo(r, WINDOW, &r->from, &r->maps[0]);
	if (!err)
		err = make_bo(r, 0, &r->between, NULL);
	if (!err)
		err = make_bo(r, WINDOW, &r->to, &r->maps[1]);
	if (!err)
		err = make_program(r);
	if (!err)
		err = make_ctx(r, 0);
	return err ? err : make_ctx(r, 1);
}

static int start(struct round *r, uint32_t ctx, int *fence)
{
	uint32_t syncobj = syncobj_create(&r->c);
	struct drm_unpu_sync sync = sync_signal(syncobj, 0);
	uint64_t seqno;
	int err;

	begin("SUBMIT");
	err = end(submit_try(&r->c, r->ctxs[ctx], r->program, 1, &sync, 1, &seqno), QUICK_MS);
	*fence = err ? -1 : sync_file_export(&r->c, syncobj);
	syncobj_destroy(&r->c, syncobj);
	return err;
}

/* The second job's time begins after the first, that of the second context when the other's end. */
static uint32_t deadline_ms(const struct lie *lie, uint32_t i)
{
	uint32_t one = lie->flags & LONG_JOBS ? MAX_JOB_MS + TIMEOUT_MS : TIMEOUT_MS;

	return (i == 1 ? 2 : 1) * one + (i == 2 ? one + CANCEL_MS : 0);
}

static void await(struct round *r, const struct lie *lie, uint32_t i)
{
	uint32_t limit = (deadline_ms(lie, i) + PROMISE_MS + LOAD_MS) * slow;
	uint64_t end_at = r->submitted + limit * MS, now = now_ns();
	int status;

	begin("a fence");
	status = sync_file_status(r->fences[i], now < end_at ? (end_at - now) / MS + 1 : 0);
	if (!status)
		wrong("fence %u has not signalled after %u ms", i, limit);
	if (status != 1 && status != -ETIME && status != -ECANCELED && status != -EIO &&
	    status != -ENODEV)
		wrong("fence %u: status %d", i, status);
	if (must_work && status != 1)
		wrong("job %u: %s", i, strerror(-status));
	if (lie->flags & MUTE_JOBS && status == 1)
		wrong("job %u ended well", i);
}

static void look_at(struct round *r, uint32_t i)
{
	struct drm_unpu_ctx_query query = { .ctx_id = r->ctxs[i] };

	begin("CTX_QUERY");
	if (end(call(r->c.fd, DRM_IOCTL_UNPU_CTX_QUERY, &query), QUICK_MS))
		return;
	if (query.state > DRM_UNPU_CTX_LOST || query.completed_seqno > 2 ||
	    query.failed_seqno > query.completed_seqno || query.busy_ns > 60 * SECOND ||
	    query.queued_ns > 60 * SECOND)
		wrong("context: state %u, completed %llu, failed %llu, busy %llu ns, queued %llu",
		      query.state, (unsigned long long)query.completed_seqno,
		      (unsigned long long)query.failed_seqno, (unsigned long long)query.busy_ns,
		      (unsigned long long)query.queued_ns);
}

/* What it could not make it does not end. */
static void drop(struct round *r)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (!r->ctxs[i])
			continue;
		begin("CTX_DESTROY");
		end(ctx_destroy(&r->c, r->ctxs[i]), QUICK_MS);
	}
	for (i = 0; i < 2; i++)
		if (r->maps[i])
			munmap(r->maps[i], BYTES);
	begin("close");
	close(r->c.fd);
	end(0, QUICK_MS);
}

static int run_jobs(struct round *r, const struct lie *lie, uint32_t seed)
{
	uint32_t i;
	int err;

	for (i = 0; i < BYTES; i++)
		r->maps[0][i] = (i * 7 + seed) >> (i >> 8 & 3);
	r->submitted = now_ns();
	err = start(r, 0, &r->fences[0]);
	if (!err)
		err = start(r, 0, &r->fences[1]);
	if (!err)
		err = start(r, 1, &r->fences[2]);
	for (i = 0; i < 3; i++)
		if (r->fences[i] >= 0)
			await(r, lie, i);
	look_at(r, 0);
	look_at(r, 1);
	for (i = 0; i < 3; i++)
		if (r->fences[i] >= 0)
			close(r->fences[i]);
	if (!err && must_work && memcmp(r->maps[0], r->maps[1], BYTES))
		wrong("a copy has other bytes");
	return err;
}

/* 0: all of it went well */
static int round_once(const struct lie *lie, uint32_t seed)
{
	struct round r = { .fences = { -1, -1, -1 } };
	int err;

	begin("open");
	r.c.fd = open(node_path(), O_RDWR | O_CLOEXEC);
	err = end(r.c.fd < 0 ? -errno : 0, QUICK_MS);
	if (err)
		return err;
	err = make_all(&r);
	if (!err)
		err = run_jobs(&r, lie, seed);
	drop(&r);
	return err;
}

static pid_t worker(const struct lie *lie, uint32_t ms, uint32_t seed)
{
	uint64_t until = now_ns() + ms * slow * MS;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid)
		return pid;
	become_nobody();
	must_work = lie->flags & WORKS;
	do {
		shared->good += !round_once(lie, seed++);
		shared->rounds++;
	} while (now_ns() < until);
	_exit(KSFT_PASS);
}

/* 0; 1: a failure, 2: it did not end; which was said. */
static int reap(pid_t pid, const char *what, uint32_t ms)
{
	uint64_t until = now_ns() + ms * slow * MS;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (now_ns() > until) {
			ksft_print_msg("%s: %s for %llu ms\n", what, shared->doing,
				       (unsigned long long)(now_ns() - shared->since) / MS);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return 2;
		}
		sleep_ms(2);
	}
	if (!status)
		return 0;
	ksft_print_msg("%s: %s (status %x)\n", what, shared->wrong, status);
	return 1;
}

static int work(const struct lie *lie)
{
	memset(shared, 0, sizeof(*shared));
	return reap(worker(lie, lie->ms ? lie->ms : DEFAULT_MS, 1), lie->words,
		    VERDICT_MS + 10000);
}

/* ---- one lie -------------------------------------------------------------------------------- */

static const struct lie honest = { "honest", WORKS };

/* A device that tells the truth again gets there by itself. */
static int heal(const char *what)
{
	static const struct lie patient = { "healing" };
	uint64_t until = now_ns() + HEAL_MS * slow * MS;

	do {
		memset(shared, 0, sizeof(*shared));
		if (reap(worker(&patient, 0, 2), what, VERDICT_MS))
			return 1;
		if (shared->good)
			return 0;
		sleep_ms(50);
	} while (now_ns() < until);
	ksft_print_msg("%s: the device does not work %u ms after it, at %s\n", what, HEAL_MS,
		       shared->doing);
	return 1;
}

/* Nobody has anything. */
static int memory_back(const char *what)
{
	static const struct drm_unpu_dev_stats nothing;
	struct client c = { .fd = node_open() };
	bool back = memory_is(&c, &nothing);

	close(c.fd);
	if (!back)
		ksft_print_msg("%s: memory is missing\n", what);
	return !back;
}

static int unbound(const char *what)
{
	uint32_t took = set_bound(false);

	if (took <= (QUICK_MS + LOAD_MS) * slow)
		return 0;
	ksft_print_msg("%s: unbind took %u ms\n", what, took);
	return 1;
}

static int bound(const char *what)
{
	uint32_t took = set_bound(true);

	if (took != UINT32_MAX)
		return 0;
	ksft_print_msg("%s: an honest device is not bound\n", what);
	return 1;
}

/* It is told to a driver that is there; `under`: which goes while it is told. */
static int lie_to_bound(const struct lie *lie, bool under)
{
	pid_t pid;
	int bad;

	tell(lie->words);
	bad = work(lie);
	if (under) {
		pid = worker(lie, DEFAULT_MS, 3);
		sleep_ms(30);
		bad += unbound(lie->words);
		/* What it says of a device that is gone is another matter. */
		bad += reap(pid, lie->words, VERDICT_MS) == 2;
		tell("honest");
	} else {
		tell("honest");
		bad += heal(lie->words);
		bad += work(&honest);
		bad += memory_back(lie->words);
		bad += unbound(lie->words);
	}
	return bad + bound(lie->words);
}

/* It is what the driver finds. */
static int lie_to_probe(const struct lie *lie)
{
	uint32_t took;
	int bad = unbound(lie->words);

	tell(lie->words);
	took = set_bound(true);
	if (took == UINT32_MAX && !(lie->flags & UNBOUND) && lie->flags & WORKS) {
		ksft_print_msg("%s: not bound\n", lie->words);
		bad++;
	}
	if (took != UINT32_MAX && lie->flags & UNBOUND) {
		ksft_print_msg("%s: bound\n", lie->words);
		bad++;
	}
	if (is_bound()) {
		bad += work(lie);
		bad += unbound(lie->words);
	}
	tell("honest");
	return bad + bound(lie->words);
}

static int one_lie(const struct lie *lie, bool under)
{
	uint64_t began = now_ns();
	uint32_t lines;
	int bad;

	log_begin();
	bad = lie->flags & BEFORE ? lie_to_probe(lie) : lie_to_bound(lie, under);
	bad += work(&honest);
	lines = log_lines(bad);
	if (lines > MAX_LINES * slow) {
		ksft_print_msg("%s: %u lines of the kernel's log\n", lie->words, lines);
		bad++;
	}
	ksft_test_result(!bad, "%s%s: %u lines, %llu ms\n", lie->words, under ? ", unbound" : "",
			 lines, (unsigned long long)(now_ns() - began) / MS);
	return bad;
}

/* ---- others --------------------------------------------------------------------------------- */

/* Absurd limits and names: all of them, or some. */
static void all_infos(void)
{
	uint32_t num, i, seen = 0, was_bound = 0, bad = 0;
	struct lie lie = { NULL, BEFORE };
	char answer[64], words[64];

	if (!host("infos", answer, sizeof(answer)))
		die("how many infos? %s", answer);
	num = strtoul(answer, NULL, 10);
	bad += unbound("info");
	for (i = 0; i < num; i += is_long ? 1 : 11) {
		snprintf(words, sizeof(words), "info %u", i);
		lie.words = words;
		tell(words);
		seen++;
		if (set_bound(true) == UINT32_MAX)
			continue;
		was_bound++;
		memset(shared, 0, sizeof(*shared));
		bad += reap(worker(&lie, 0, i), words, VERDICT_MS);
		bad += unbound(words);
	}
	tell("honest");
	bad += bound("info");
	bad += work(&honest);
	ksft_test_result(!bad && num > 100 && was_bound && was_bound < seen,
			 "info: %u of %u, %u bound\n", seen, num, was_bound);
}

/* A device that was known says something else of itself: it is not attached. */
static void other_info(void)
{
	static const struct lie lie = { "info 30" };
	int bad;

	tell(lie.words);
	bad = work(&lie);
	tell("honest");
	bad += heal(lie.words);
	ksft_test_result(!bad, "it is another now\n");
}

/* All kinds of questions at once, as none is answered before the driver gives up. */
static void mute_verdicts(void)
{
	static const struct lie some[] = {
		{ "mute bo" }, { "mute shader" }, { "mute program" }, { "mute ctx" },
	};
	uint64_t began = now_ns();
	pid_t pids[8];
	uint32_t i;
	int bad = 0;

	memset(shared, 0, sizeof(*shared));
	tell("mute bo shader program ctx");
	for (i = 0; i < 8; i++)
		pids[i] = worker(&some[i % 4], 0, i);
	for (i = 0; i < 8; i++)
		bad += reap(pids[i], "mute", VERDICT_MS + LOAD_MS);
	tell("honest");
	/* Nobody was to give up before. */
	bad += now_ns() - began < VERDICT_MS * MS / 2;
	bad += heal("mute");
	ksft_test_result(!bad, "mute: verdicts time out, %llu ms\n",
			 (unsigned long long)(now_ns() - began) / MS);
}

/* Many that are found out at the same time, each stopped as late as may be. */
static void many_hung(void)
{
	static const struct lie lie = { "progress 450", LONG_JOBS | MUTE_JOBS };
	struct round r = { .c = { -1 } };
	uint32_t i, limit = (MAX_JOB_MS + PROMISE_MS + LOAD_MS) * slow;
	int fences[12], bad = 0, status;
	uint64_t ms = 0;

	memset(shared, 0, sizeof(*shared));
	r.c.fd = node_open();
	if (make_all(&r))
		die("an honest device does not work");
	tell(lie.words);
	r.submitted = now_ns();
	for (i = 0; i < ARRAY_SIZE(fences); i++) {
		r.ctxs[1] = ctx_create(&r.c, DRM_UNPU_PRIORITY_NORMAL, TIMEOUT_MS * MS);
		if (start(&r, 1, &fences[i]))
			die("SUBMIT fails");
	}
	for (i = 0; i < ARRAY_SIZE(fences); i++) {
		ms = (now_ns() - r.submitted) / MS;
		status = sync_file_status(fences[i], ms < limit ? limit - ms : 0);
		bad += !status || status == 1;
		close(fences[i]);
	}
	ms = (now_ns() - r.submitted) / MS;
	bad += ms < MAX_JOB_MS;
	tell("honest");
	drop(&r);
	bad += heal("many");
	ksft_test_result(!bad, "many hang at once: the last ends after %llu ms\n",
			 (unsigned long long)ms);
}

/* Several at once, while it says anything. */
static void random_lies(void)
{
	static const struct lie lie = { "random", 0 };
	uint32_t seed = now_ns() / 1000 % 100000, seconds = is_long ? 120 : 5, lines, i;
	char words[64];
	pid_t pids[3];
	int bad = 0;

	log_begin();
	memset(shared, 0, sizeof(*shared));
	snprintf(words, sizeof(words), "seed %u", seed);
	tell(words);
	tell(lie.words);
	for (i = 0; i < 3; i++)
		pids[i] = worker(&lie, seconds * 1000 / slow, seed + i);
	for (i = 0; i < 3; i++)
		bad += reap(pids[i], words, seconds * 1000 + VERDICT_MS);
	tell("honest");
	i = shared->rounds;
	bad += heal(words);
	bad += memory_back(words);
	bad += unbound(words);
	bad += bound(words);
	bad += work(&honest);
	lines = log_lines(bad);
	ksft_test_result(!bad && lines < MAX_LINES * (1 + seconds / 5) * slow,
			 "random: seed %u, %u s, %u rounds, %u lines\n", seed, seconds, i, lines);
}

static void leaks(void)
{
	char answer[128];

	host("report", answer, sizeof(answer));
	ksft_test_result(strstr(answer, " 0 leaks"), "nothing but zeroes beside what is said: %s\n",
			 answer);
}

/* The process itself ends, with jobs in flight and others to come. */
static void gone(void)
{
	static const struct lie lie = { "gone" };
	pid_t pid;
	int bad;

	memset(shared, 0, sizeof(*shared));
	tell("mute job");
	pid = worker(&lie, 500, 9);
	sleep_ms(50);
	tell("exit");
	bad = reap(pid, "gone", VERDICT_MS + 10000);
	bad += unbound("gone");
	bad += set_bound(true) != UINT32_MAX;
	ksft_test_result(!bad, "the process is gone\n");
}

static const struct {
	const char *name;
	void (*run)(void);
} others[] = {
	{ "infos", all_infos }, { "another", other_info }, { "mute", mute_verdicts },
	{ "many", many_hung }, { "random", random_lies }, { "leaks", leaks }, { "gone", gone },
};

static bool wanted(const char *words, uint32_t flags, const char *only)
{
	if (only)
		return !strcmp(words, only);
	return is_long || !(flags & RUN_LONG);
}

static uint32_t run_lies(const char *only, bool count)
{
	uint32_t i, num = 0;

	for (i = 0; i < ARRAY_SIZE(lies); i++) {
		bool both = is_long && !(lies[i].flags & BEFORE);

		if (!wanted(lies[i].words, lies[i].flags, only))
			continue;
		num += 1 + both;
		if (count)
			continue;
		one_lie(&lies[i], i & 1);
		if (both)
			one_lie(&lies[i], !(i & 1));
	}
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		if (!wanted(others[i].name, 0, only))
			continue;
		num++;
		if (!count)
			others[i].run();
	}
	return num;
}

int main(int argc, char **argv)
{
	const char *only = argc > 2 ? argv[2] : NULL, *text = getenv("UNPU_SLOW");

	if (argc < 2)
		die("which device of the PCI bus?");
	snprintf(slot, sizeof(slot), "%s", argv[1]);
	is_long = getenv("UNPU_TEST_LONG");
	if (text && *text)
		slow = strtoul(text, NULL, 10);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	parent = getpid();
	ksft_print_header();
	ksft_set_plan(run_lies(only, true));
	tell("honest");
	if (set_bound(true) == UINT32_MAX)
		die("%s is not bound", slot);
	run_lies(only, false);
	ksft_finished();
}
