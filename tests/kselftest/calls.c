// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random calls for a while: sequences that reach something new in the module, as KCOV tells, are
 * kept and changed. An ordinary user's process does them; this one watches it from outside. Before
 * each, a line of the kernel's log says how it was made, so that a kernel that dies leaves behind
 * what killed it:
 *
 *   calls [--seconds N] NODE            else for $UNPU_CALLS_SECONDS, 20 by default
 *   calls --seed N NODE                 with that seed
 *   calls --replay FILE NODE            the last sequence of a kernel's log, again; and with
 *         --exec N, --times N             another one of it, so often (10),
 *         --keep 0,3,4                    of its ops these only,
 *         --show                          and it is only printed
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "tests/kselftest/calls/calls.h"
#include "tests/kselftest/lib/node.h"

#define MAX_CORPUS	4096
#define BATCH		64	/* sequences between two looks at the counters */
#define DEFAULT_SECONDS	20

static struct {
	struct calls_shared *shared;
	struct calls_cover cover;
	struct calls_random random;
	struct client client;
	struct drm_unpu_dev_stats before;
	pid_t pid;		/* of the executor, 0: none */
	int kmsg;
	uint32_t execs, kept, kills, exits;
	atomic_uint alive;	/* counts what this process does */
	const char *trouble;
} calls;

static struct {
	struct calls_sequence sequence;
	uint32_t exec;
} *corpus;

/* ---- what goes wrong ----------------------------------------------------------------------- */

static void copy_lines(const char *path)
{
	char line[256];
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file))
		printf("#   %s", line);
	if (file)
		fclose(file);
}

static const char *op_name(uint32_t op)
{
	const struct calls_sequence *s = &calls.shared->sequence;

	return op < s->num_ops ? calls_table[s->ops[op].call].name : "the end";
}

static void show_runners(void)
{
	char path[64];
	int i;

	for (i = 0; i < CALLS_MAX_RUNNERS; i++) {
		struct calls_watch *watch = &calls.shared->watches[i];

		if (!watch->since)
			continue;
		printf("# runner %d: in op %u, %s, for %llu ms\n", i, watch->op,
		       op_name(watch->op), (unsigned long long)(now_ns() - watch->since) / 1000000);
		snprintf(path, sizeof(path), "/proc/%u/task/%u/stack", watch->pid, watch->tid);
		copy_lines(path);
	}
}

/* Whatever they are in. */
static void show_threads(pid_t pid)
{
	char path[300];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = pid ? opendir(path) : NULL;
	while (tasks && (entry = readdir(tasks))) {
		if (entry->d_name[0] == '.')
			continue;
		printf("# thread %s\n", entry->d_name);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/syscall", pid, entry->d_name);
		copy_lines(path);
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stack", pid, entry->d_name);
		copy_lines(path);
	}
	if (tasks)
		closedir(tasks);
}

static void trouble(const char *what)
{
	if (calls.trouble)
		return;
	calls.trouble = what;
	printf("# %s: sequence %u\n", what, calls.execs);
	show_runners();
	show_threads(calls.pid);
	calls_print(&calls.shared->sequence);
	fflush(stdout);
}

/*
 * This process makes calls, too, and has nobody else to tell that one does not end. All time-outs
 * here count their own short sleeps: who got no time for a while is not late.
 */
static void *watch_main(void *arg)
{
	uint32_t alive = 0, seconds = 0;

	for (;;) {
		sleep_ms(1000);
		seconds = alive == calls.alive ? seconds + 1 : 0;
		alive = calls.alive;
		if (seconds < calls_slowness() * 60)
			continue;
		printf("# the watching process stands still\n");
		show_threads(getpid());
		show_threads(calls.pid);
		die("after sequence %u", calls.execs);
	}
	return NULL;
}

static void watch_start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, watch_main, NULL))
		die("no thread");
}

/* ---- the executor -------------------------------------------------------------------------- */

static void executor_start(void)
{
	struct calls_watch *watch = calls.shared->watches;
	int i;

	for (i = 0; i < CALLS_MAX_RUNNERS; i++) {
		watch[i].since = 0;
		watch[i].tid = 0;
		watch[i].pid = 0;
	}
	sem_init(&calls.shared->start, 1, 0);
	sem_init(&calls.shared->done, 1, 0);
	fflush(stdout);
	calls.pid = fork();
	if (calls.pid < 0)
		die("fork: %s", strerror(errno));
	if (!calls.pid)
		calls_executor(calls.shared, calls.cover.fds);
}

/* Waits for its end, and for those that it has left behind; they have all been killed. */
static void executor_reap(void)
{
	uint32_t left_ms = calls_slowness() * 20000;
	pid_t pid;

	for (;;) {
		calls.alive++;
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0)
			break;
		if (pid)
			continue;
		if (!left_ms--) {
			trouble("a process that was killed does not go");
			break;
		}
		sleep_ms(1);
	}
	calls.pid = 0;
}

static void executor_kill(void)
{
	if (!calls.pid)
		return;
	kill(calls.pid, SIGKILL);
	executor_reap();
}

#define TICK_MS		100

/* How long each has been in the call that it is in, as far as this has seen it. */
struct seen {
	uint64_t since;
	uint32_t ticks;
};

static bool runner_is_late(struct seen *seen)
{
	struct calls_watch *watch;
	bool late = false;
	int i;

	for (i = 0; i < CALLS_MAX_RUNNERS; i++) {
		watch = &calls.shared->watches[i];
		seen[i].ticks = watch->since && watch->since == seen[i].since ?
				seen[i].ticks + 1 : 0;
		seen[i].since = watch->since;
		late |= seen[i].ticks * TICK_MS * MS > watch->limit_ns;
	}
	return late;
}

static bool wait_done(void)
{
	uint64_t end = now_ns() + TICK_MS * MS;
	struct timespec until = { end / SECOND, end % SECOND };

	return !sem_clockwait(&calls.shared->done, CLOCK_MONOTONIC, &until);
}

static void executor_watch(void)
{
	uint32_t left = calls_slowness() * 120 * 1000 / TICK_MS;
	struct seen seen[CALLS_MAX_RUNNERS] = { 0 };
	int status;

	while (!wait_done()) {
		calls.alive++;
		if (waitpid(calls.pid, &status, WNOHANG) == calls.pid) {
			calls.pid = 0;
			printf("# wait status %#x\n", status);
			trouble("the process that makes the calls died");
			return;
		}
		if (!runner_is_late(seen) && left--)
			continue;
		trouble(left == ~0u ? "a sequence does not end" :
			"a call takes longer than it may");
		executor_kill();
		return;
	}
}

static void execute(void)
{
	const struct calls_sequence *s = &calls.shared->sequence;

	calls.alive++;
	calls.execs++;
	if (!calls.pid)
		executor_start();
	sem_post(&calls.shared->start);
	if (s->ending == ENDING_KILL) {
		usleep(s->kill_us);
		executor_kill();
		calls.kills++;
		return;
	}
	executor_watch();
	if (s->ending == ENDING_EXIT && calls.pid) {
		executor_reap();
		calls.exits++;
	}
}

/* ---- how the device is --------------------------------------------------------------------- */

static bool is_quiet(void)
{
	struct drm_unpu_dev_stats now = dev_stats(&calls.client);
	uint32_t ctx;

	if (now.window_used_bytes != calls.before.window_used_bytes ||
	    now.device_used_bytes != calls.before.device_used_bytes ||
	    now.jobs_submitted != now.jobs_completed ||
	    ctx_try(&calls.client, DRM_UNPU_PRIORITY_NORMAL, 0, &ctx))
		return false;
	ctx_destroy(&calls.client, ctx);
	return true;
}

/* Everything that was made is gone again, and the device, if it was lost, is back. */
static void wait_quiet(void)
{
	uint32_t left = calls_slowness() * 20000 / 5;
	struct drm_unpu_dev_stats now;

	while (!is_quiet()) {
		calls.alive++;
		if (left--) {
			sleep_ms(5);
			continue;
		}
		now = dev_stats(&calls.client);
		printf("# window %+lld, device %+lld bytes, jobs %llu of %llu, epoch %llu\n",
		       (long long)(now.window_used_bytes - calls.before.window_used_bytes),
		       (long long)(now.device_used_bytes - calls.before.device_used_bytes),
		       (unsigned long long)now.jobs_completed,
		       (unsigned long long)now.jobs_submitted, (unsigned long long)now.epoch);
		trouble("something is left of the last sequences, or the device does not work");
		return;
	}
}

static bool works(void)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		device_works();
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && !status;
}

/* ---- sequences ----------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...)
{
	char line[128];
	va_list args;
	int n = sprintf(line, "<6>calls: ");

	va_start(args, format);
	n += vsnprintf(line + n, sizeof(line) - n, format, args);
	va_end(args);
	if (calls.kmsg >= 0 && write(calls.kmsg, line, n) < 0)
		calls.kmsg = -1;
}

static void keep(void)
{
	uint32_t at = calls.kept < MAX_CORPUS ? calls.kept :
		      random_below(&calls.random, MAX_CORPUS);

	corpus[at].sequence = calls.shared->sequence;
	corpus[at].exec = calls.execs;
	calls.kept++;
}

/* One of the latest, half of the time: there is more to be found near them. */
static uint32_t pick_kept(void)
{
	uint32_t n = calls.kept < MAX_CORPUS ? calls.kept : MAX_CORPUS;
	uint32_t recent = n < 32 ? n : 32;

	if (random_percent(&calls.random, 50))
		return n - 1 - random_below(&calls.random, recent);
	return random_below(&calls.random, n);
}

static void next_sequence(void)
{
	uint64_t seed = random_next(&calls.random);
	uint32_t parent, other;

	if (!calls.kept || random_percent(&calls.random, 20)) {
		say("%u new %llx", calls.execs + 1, (unsigned long long)seed);
		calls_make(&calls.shared->sequence, seed);
		return;
	}
	parent = pick_kept();
	other = pick_kept();
	say("%u of %u %u %llx", calls.execs + 1, corpus[parent].exec, corpus[other].exec,
	    (unsigned long long)seed);
	calls_mutate(&calls.shared->sequence, &corpus[parent].sequence, &corpus[other].sequence,
		     seed);
}

static void run_for(uint32_t seconds)
{
	uint64_t end = now_ns() + seconds * SECOND;

	while (now_ns() < end && !calls.trouble) {
		next_sequence();
		cover_begin(&calls.cover);
		execute();
		if (cover_end(&calls.cover))
			keep();
		if (calls.execs % BATCH == 0 && !calls.trouble)
			wait_quiet();
	}
}

/* ---- again --------------------------------------------------------------------------------- */

struct recipe {
	uint32_t parent, other;	/* 0: of nothing */
	uint64_t seed;
};

struct recipes {
	struct recipe *list;
	uint32_t last;
};

/* Of the last run in the log. */
static struct recipes read_recipes(const char *path)
{
	struct recipes all = { calloc(1, sizeof(struct recipe)), 0 };
	FILE *file = fopen(path, "r");
	struct recipe one;
	char line[512];
	const char *at;
	uint32_t exec;

	if (!file)
		die("%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		unsigned long long seed;

		at = strstr(line, "calls: ");
		if (!at)
			continue;
		one = (struct recipe){ 0 };
		if (sscanf(at, "calls: %u new %llx", &exec, &seed) != 2 &&
		    sscanf(at, "calls: %u of %u %u %llx", &exec, &one.parent, &one.other,
			   &seed) != 4)
			continue;
		one.seed = seed;
		if (exec > all.last + 1000 || one.parent >= exec || one.other >= exec)
			die("%s: not the log of a run, at sequence %u", path, exec);
		all.list = realloc(all.list, (exec + 1) * sizeof(one));
		if (exec > all.last + 1)
			memset(&all.list[all.last + 1], 0,
			       (exec - all.last - 1) * sizeof(one));
		all.list[exec] = one;
		all.last = exec;
	}
	fclose(file);
	return all;
}

static void remake(const struct recipes *all, uint32_t exec, struct calls_sequence *sequence)
{
	const struct recipe *one = &all->list[exec];
	struct calls_sequence *parents;

	if (!one->parent) {
		calls_make(sequence, one->seed);
		return;
	}
	parents = calloc(2, sizeof(*parents));
	if (!parents)
		die("no memory");
	remake(all, one->parent, &parents[0]);
	remake(all, one->other, &parents[1]);
	calls_mutate(sequence, &parents[0], &parents[1], one->seed);
	free(parents);
}

static void keep_ops(struct calls_sequence *s, const char *list)
{
	uint32_t n = 0, split = 0, op;

	for (; *list; list += strcspn(list, ","), list += *list == ',') {
		op = strtoul(list, NULL, 10);
		if (op >= s->num_ops || op < n)
			die("op %u is not there, or not in order", op);
		split += op < s->split;
		s->ops[n++] = s->ops[op];
	}
	s->num_ops = n;
	s->split = split;
}

/* ---- the program --------------------------------------------------------------------------- */

struct options {
	uint64_t seed;
	uint32_t seconds, exec, times;
	const char *replay, *keep;
	bool show;
};

static void replay(const struct options *o)
{
	struct recipes all = read_recipes(o->replay);
	uint32_t exec = o->exec ? o->exec : all.last, i;

	if (!exec || exec > all.last)
		die("%s: no sequence %u", o->replay, exec);
	remake(&all, exec, &calls.shared->sequence);
	if (o->keep)
		keep_ops(&calls.shared->sequence, o->keep);
	calls_print(&calls.shared->sequence);
	if (o->show)
		exit(0);
	for (i = 0; i < o->times && !calls.trouble; i++) {
		execute();
		if (!calls.trouble)
			wait_quiet();
	}
}

static void report(uint64_t seed, uint64_t began)
{
	uint32_t i;

	printf("# seed %llx: %u sequences in %llu s, %u killed, %u ended by exit; ",
	       (unsigned long long)seed, calls.execs,
	       (unsigned long long)((now_ns() - began) / SECOND), calls.kills, calls.exits);
	if (calls.cover.areas[0])
		printf("%u places of the module, %u ways between them, %u sequences kept\n",
		       calls.cover.pcs, calls.cover.edges, calls.kept);
	else
		printf("no KCOV here, so none was kept\n");
	for (i = 0; i < calls_count; i++)
		printf("#   %-16s %8llu done %8llu refused\n", calls_table[i].name,
		       (unsigned long long)calls.shared->good[i],
		       (unsigned long long)calls.shared->bad[i]);
}

static struct options read_options(int argc, char **argv)
{
	const char *seconds = getenv("UNPU_CALLS_SECONDS");
	struct options o = { .seed = now_ns(), .times = 10 };
	int i;

	o.seconds = seconds ? atoi(seconds) : DEFAULT_SECONDS;
	for (i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--show")) {
			o.show = true;
			continue;
		}
		if (!strcmp(argv[i], "--seed"))
			o.seed = strtoull(value, NULL, 16);
		else if (!strcmp(argv[i], "--seconds"))
			o.seconds = atoi(value);
		else if (!strcmp(argv[i], "--exec"))
			o.exec = atoi(value);
		else if (!strcmp(argv[i], "--times"))
			o.times = atoi(value);
		else if (!strcmp(argv[i], "--keep"))
			o.keep = value;
		else if (!strcmp(argv[i], "--replay"))
			o.replay = value;
		else
			die("no such option: %s", argv[i]);
		i++;
	}
	return o;
}

static void prepare(void)
{
	calls.shared = mmap(NULL, sizeof(*calls.shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	corpus = calloc(MAX_CORPUS, sizeof(*corpus));
	if (calls.shared == MAP_FAILED || !corpus)
		die("no memory");
	calls.kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	/* Those whom a killed executor leaves behind. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void judge(void)
{
	ksft_test_result(!calls.trouble, "sequences of calls%s%s\n", calls.trouble ? ": " : "",
			 calls.trouble ? calls.trouble : "");
	ksft_test_result(!calls.shared->killed_forks, "no forked process is killed\n");
	ksft_test_result(calls.execs > 0 && works(), "the device works after it\n");
	ksft_finished();
}

int main(int argc, char **argv)
{
	struct options o;
	uint64_t began;

	node_argument(&argc, argv);
	o = read_options(argc, argv);
	prepare();
	if (o.show)
		replay(&o);
	ksft_print_header();
	ksft_set_plan(3);
	/* What a test before this one has left goes first. */
	watch_start();
	calls.client = client_open();
	calls.before = dev_stats(&calls.client);
	cover_open(&calls.cover);
	calls.random.state = o.seed;
	began = now_ns();
	if (o.replay) {
		replay(&o);
	} else {
		say("begin %llx", (unsigned long long)o.seed);
		run_for(o.seconds);
	}
	executor_kill();
	if (!calls.trouble)
		wait_quiet();
	report(o.seed, began);
	judge();
}
