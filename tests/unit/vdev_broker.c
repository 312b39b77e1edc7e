/* SPDX-License-Identifier: MIT */
/*
 * unpu-vdev as a whole, with guests that are clients of its socket: what it says to them, that they
 * have nothing in common, and what becomes of workers and sockets that end.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/guest.h"
#include "tools/unpu-vdev/vdev.h"

#define WINDOW	(4u << 20)
#define HEAP	UNPU_PROTO_HEAP
#define WAIT_MS	10000u
#define MAX_PIDS	8

static char folder[] = "/tmp/unpu-vdev-XXXXXX";
static char path[64];
static pid_t broker;
static int said = -1;	/* what the broker writes */

static void nap(void)
{
	const struct timespec time = { 0, 2000000 };

	nanosleep(&time, NULL);
}

/* ---- the broker ------------------------------------------------------------------------------ */

static struct vdev_config usual(void)
{
	return (struct vdev_config){
		.socket = path, .device = "cpu", .threads = 1, .window = WINDOW,
		.memory = 16u << 20, .guests = 4,
	};
}

static pid_t start(struct vdev_config config, int *log)
{
	int pipes[2];
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		_exit(vdev_broker_run(&config));
	}
	close(pipes[1]);
	*log = pipes[0];
	return pid;
}

static int wait_for(pid_t pid)
{
	int status, turns;

	for (turns = 0; turns < 10000; turns++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		nap();
	}
	fail_msg("unpu-vdev does not end");
	return -1;
}

/* Reads what is said until it has these words; all of that. */
static const char *says(int log, const char *words)
{
	static char text[16384];
	struct pollfd fd = { .fd = log, .events = POLLIN };
	size_t length = 0;
	ssize_t got;

	text[0] = '\0';
	while (!strstr(text, words)) {
		if (poll(&fd, 1, WAIT_MS) != 1 || length > sizeof(text) - 1024)
			fail_msg("not said: %s; but: %s", words, text);
		got = read(log, text + length, 1);
		if (got <= 0)
			fail_msg("not said before the end: %s; but: %s", words, text);
		length += (size_t)got;
		text[length] = '\0';
	}
	return text;
}

static void begin_with(struct vdev_config config)
{
	broker = start(config, &said);
	says(said, "serves up to");
}

static void begin(void)
{
	begin_with(usual());
}

static void end(void)
{
	kill(broker, SIGTERM);
	assert_int_equal(wait_for(broker), 0);
	close(said);
	broker = 0;
	/* Nothing is left of it. */
	assert_int_equal(access(path, F_OK), -1);
}

/* Processes whose parent this is. */
static uint32_t children(pid_t parent, pid_t *pids)
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	uint32_t count = 0;
	char name[300];
	int pid, of;
	FILE *stat;

	assert_non_null(proc);
	while ((entry = readdir(proc)) && count < MAX_PIDS) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(name, sizeof(name), "/proc/%s/stat", entry->d_name);
		stat = fopen(name, "re");
		if (!stat)
			continue;
		if (fscanf(stat, "%d (%*[^)]) %*c %d", &pid, &of) == 2 && of == parent)
			pids[count++] = pid;
		fclose(stat);
	}
	closedir(proc);
	return count;
}

static pid_t nursery(void)
{
	pid_t pids[MAX_PIDS];

	assert_int_equal(children(broker, pids), 1);
	return pids[0];
}

/* Waits until there are so many workers; any of them. */
static pid_t workers(uint32_t count)
{
	pid_t pids[MAX_PIDS], parent = nursery();
	int turns;

	for (turns = 0; turns < 5000; turns++) {
		if (children(parent, pids) == count)
			return count ? pids[0] : 0;
		nap();
	}
	fail_msg("there are not %u workers", count);
	return 0;
}

/* ---- guests ---------------------------------------------------------------------------------- */

static void greet(struct guest_client *c)
{
	guest_greet(c, path, WINDOW);
}

static void ok(struct guest_client *c, struct unpu_proto_command command)
{
	assert_int_equal(guest_ask_for(&c->g, &command, NULL), 0);
}

/* Attaches and makes ready to copy what is at HEAP. */
static void prepare(struct guest_client *c)
{
	guest_attach(&c->g);
	ok(c, guest_bo(1, HEAP, 4096));
	ok(c, guest_bo(2, HEAP + 4096, 4096));
	ok(c, guest_shader(1, "copy.1"));
	ok(c, guest_copy(&c->g, 1, HEAP + 8192, 1, 1, 2, 0));
	ok(c, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0));
}

static void copies(struct guest_client *c, const char *text)
{
	struct unpu_proto_command job = guest_job(1, 1, 1, 1);
	struct unpu_proto_event event;

	memset(c->g.window + HEAP, 0, 2 * 4096);
	memcpy(c->g.window + HEAP, text, strlen(text));
	guest_send(&c->g, &job);
	assert_true(guest_event(&c->g, &event, WAIT_MS));
	assert_int_equal(event.status, 0);
	assert_string_equal((const char *)c->g.window + HEAP + 4096, text);
}

/* ---- the protocol ---------------------------------------------------------------------------- */

static void the_greeting_is_that_of_an_ivshmem_server(void **state)
{
	struct pollfd more;
	struct guest_client c;
	struct stat st;

	(void)state;
	begin();
	greet(&c);
	assert_int_equal(fstat(c.window, &st), 0);
	assert_int_equal(st.st_size, WINDOW);
	assert_int_equal(fcntl(c.window, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	assert_int_equal(ftruncate(c.window, 4096), -1);
	/* And not a word more, of other guests least of all. */
	more = (struct pollfd){ .fd = c.fd, .events = POLLIN };
	assert_int_equal(poll(&more, 1, 50), 0);
	prepare(&c);
	copies(&c, "a program of the guest's");
	guest_leave(&c);
	end();
}

static void guests_have_nothing_in_common(void **state)
{
	struct guest_client a, b;
	struct stat sta, stb;
	struct pollfd more;
	uint64_t count;

	(void)state;
	begin();
	greet(&a);
	greet(&b);
	more = (struct pollfd){ .fd = a.fd, .events = POLLIN };
	assert_int_equal(poll(&more, 1, 50), 0);
	assert_int_equal(fstat(a.window, &sta), 0);
	assert_int_equal(fstat(b.window, &stb), 0);
	assert_int_not_equal(sta.st_ino, stb.st_ino);
	prepare(&a);
	prepare(&b);
	memset(a.g.window + HEAP, 0x11, WINDOW - HEAP);
	assert_int_equal(b.g.window[HEAP + 65536], 0);
	ok(&a, guest_copy(&a.g, 2, HEAP + 8192, 1, 1, 2, 0));
	copies(&a, "of the first");
	copies(&b, "of the second");
	assert_string_equal((const char *)a.g.window + HEAP + 4096, "of the first");
	/* Who rings at one does not wake the other. */
	while (read(b.doorbell, &count, sizeof(count)) > 0)
		;
	guest_ring(&a.g);
	assert_int_equal(read(b.doorbell, &count, sizeof(count)), -1);
	guest_leave(&a);
	says(said, "guest 1 gone");
	workers(1);
	copies(&b, "goes on");
	guest_leave(&b);
	end();
}

static void a_guest_that_speaks_is_shown_out(void **state)
{
	struct guest_client c;
	char byte;

	(void)state;
	begin();
	greet(&c);
	assert_int_equal(write(c.fd, "hello", 5), 5);
	says(said, "out of turn");
	/* Its words were not read: the end of it may be a reset. */
	assert_true(read(c.fd, &byte, 1) <= 0);
	workers(0);
	guest_leave(&c);
	end();
}

static void there_is_room_for_so_many(void **state)
{
	struct vdev_config config = usual();
	struct guest_client c;
	char byte;
	int fd;

	(void)state;
	config.guests = 1;
	begin_with(config);
	greet(&c);
	fd = guest_connect(path);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
	says(said, "turned away");
	guest_leave(&c);
	says(said, "guest 1 gone");
	greet(&c);
	prepare(&c);
	guest_leave(&c);
	end();
}

/* ---- workers --------------------------------------------------------------------------------- */

static void a_worker_ends_with_its_guest(void **state)
{
	struct guest_client c;

	(void)state;
	begin();
	greet(&c);
	prepare(&c);
	workers(1);
	guest_leave(&c);
	workers(0);
	end();
}

static void a_killed_worker_is_replaced(void **state)
{
	struct guest_client c;
	uint32_t epoch;
	int turn;

	(void)state;
	begin();
	greet(&c);
	for (turn = 0; turn < 3; turn++) {
		prepare(&c);
		copies(&c, "by this one");
		epoch = GUEST_WORD(&c.g, epoch);
		kill(workers(1), SIGKILL);
		says(said, "worker replaced (Killed)");
		assert_true(GUEST_WAIT_NOT(&c.g, epoch, epoch));
		assert_string_equal((const char *)c.g.window + HEAP + 4096, "by this one");
	}
	prepare(&c);
	copies(&c, "by the next one");
	guest_leave(&c);
	end();
}

static void a_worker_that_stands_still_is_replaced(void **state)
{
	struct guest_client c;
	uint32_t epoch;

	(void)state;
	begin();
	greet(&c);
	prepare(&c);
	epoch = GUEST_WORD(&c.g, epoch);
	kill(workers(1), SIGSTOP);
	says(said, "it stands still");
	assert_true(GUEST_WAIT_NOT(&c.g, epoch, epoch));
	prepare(&c);
	copies(&c, "by the next one");
	guest_leave(&c);
	end();
}

/* A guest that ends its worker as often as it can gets a few at once, then some a second. */
static void replacing_has_its_limits(void **state)
{
	struct unpu_proto_command job = guest_job(1, 1, 1, 1);
	uint64_t begun = vdev_now();
	uint32_t epoch, turn;
	struct guest_client c;

	(void)state;
	begin();
	greet(&c);
	for (turn = 0; turn < 14; turn++) {
		prepare(&c);
		memcpy(c.g.window + HEAP, "EXIT", 4);
		epoch = GUEST_WORD(&c.g, epoch);
		guest_send(&c.g, &job);
		assert_true(GUEST_WAIT_NOT(&c.g, epoch, epoch));
	}
	/* 8 at once, the others a quarter of a second each. */
	assert_true(vdev_now() - begun > 1000000000u);
	prepare(&c);
	copies(&c, "at last");
	guest_leave(&c);
	end();
}

static void everything_ends_with_the_broker(void **state)
{
	pid_t pids[MAX_PIDS], parent, worker;
	struct guest_client c;
	int turns;

	(void)state;
	begin();
	greet(&c);
	prepare(&c);
	parent = nursery();
	worker = workers(1);
	kill(broker, SIGKILL);
	assert_int_equal(wait_for(broker), -SIGKILL);
	for (turns = 0; turns < 5000 && (!kill(parent, 0) || !kill(worker, 0)); turns++)
		nap();
	assert_int_equal(children(parent, pids), 0);
	assert_int_equal(kill(worker, 0), -1);
	guest_leave(&c);
	close(said);
	/* Its socket is still there, and served by nobody. */
	begin();
	greet(&c);
	prepare(&c);
	guest_leave(&c);
	end();
}

/* ---- sockets --------------------------------------------------------------------------------- */

static void a_socket_that_is_served_is_left_alone(void **state)
{
	struct guest_client c;
	int log;

	(void)state;
	begin();
	assert_int_equal(wait_for(start(usual(), &log)), VDEV_EXIT_ERROR);
	says(log, "is served by another process");
	close(log);
	greet(&c);
	prepare(&c);
	guest_leave(&c);
	end();
}

static void what_is_no_socket_is_left_alone(void **state)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600), log;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(wait_for(start(usual(), &log)), VDEV_EXIT_ERROR);
	says(log, "no socket");
	close(log);
	assert_int_equal(unlink(path), 0);
}

static void wrong_places_are_told(void **state)
{
	struct vdev_config config = usual();
	char text[200];
	int log;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	config.socket = text;
	assert_int_equal(wait_for(start(config, &log)), VDEV_EXIT_ERROR);
	says(log, "at most 107 bytes");
	close(log);
	config.socket = "/nonexistent/vdev.sock";
	assert_int_equal(wait_for(start(config, &log)), VDEV_EXIT_ERROR);
	says(log, "cannot open the folder of /nonexistent/vdev.sock");
	close(log);
}

static void the_mode_says_who_may_connect(void **state)
{
	struct vdev_config config = usual();
	struct stat st;

	(void)state;
	begin();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	end();
	config.has_group = true;
	config.group = getgid();
	begin_with(config);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(st.st_gid, getgid());
	end();
}

/* ---- what it says and what it may ------------------------------------------------------------ */

static void it_tells_what_it_does(void **state)
{
	struct guest_client c;

	(void)state;
	begin();
	greet(&c);
	prepare(&c);
	ok(&c, guest_bo(3, 0, 5u << 20));
	copies(&c, "one job");
	/* As soon as the next report has come. */
	assert_true(GUEST_WAIT_NOT(&c.g, heartbeat, GUEST_WORD(&c.g, heartbeat)));
	assert_true(GUEST_WAIT_NOT(&c.g, heartbeat, GUEST_WORD(&c.g, heartbeat)));
	kill(broker, SIGUSR1);
	says(said, "1 guests, 1 contexts, 1 jobs, 0 failed, busy ");
	says(said, "device memory 5 MiB");
	guest_leave(&c);
	end();
}

/* In a terminal of some kind U+009B begins a command as ESC [ does. */
static void a_guest_does_not_command_the_terminal(void **state)
{
	struct unpu_proto_command shader = guest_shader(1, "\xc2\x9b" "31m\x1b[31m");
	struct guest_client c;
	const char *text;

	(void)state;
	begin();
	greet(&c);
	prepare(&c);
	shader.id = 2;
	assert_int_not_equal(guest_ask_for(&c.g, &shader, NULL), 0);
	for (text = says(said, "refused"); *text; text++)
		assert_true(*text == '\n' || (*text >= ' ' && *text <= '~'));
	guest_leave(&c);
	end();
}

/* However often it begins anew, to be heard of. */
static void replaced_workers_say_little(void **state)
{
	struct unpu_proto_command unknown = guest_plain(99, 1);
	struct guest_client c;
	uint32_t turn, i, lines = 0;
	const char *text;

	(void)state;
	begin();
	greet(&c);
	for (turn = 0; turn < 4; turn++) {
		guest_attach(&c.g);
		for (i = 0; i < 30; i++)
			guest_ask_for(&c.g, &unknown, NULL);
		i = GUEST_WORD(&c.g, epoch);
		kill(workers(1), SIGKILL);
		assert_true(GUEST_WAIT_NOT(&c.g, epoch, i));
	}
	guest_leave(&c);
	for (text = says(said, "guest 1 gone"); (text = strstr(text, "unknown command")); text++)
		lines++;
	/* 20 at first, and one each second. */
	assert_true(lines < 50);
	end();
}

/* A guest that comes now is served. */
static void serves_one(void)
{
	struct guest_client c;

	greet(&c);
	prepare(&c);
	copies(&c, "nobody reads the log");
	guest_leave(&c);
}

static void who_reads_the_log_may_go(void **state)
{
	(void)state;
	begin();
	close(said);
	said = -1;
	serves_one();
	serves_one();
	end();
}

static void a_log_that_nobody_reads_holds_nobody_up(void **state)
{
	uint32_t lines;

	(void)state;
	begin();
	assert_true(fcntl(said, F_SETPIPE_SZ, 4096) >= 0);
	for (lines = 0; lines < 300; lines++) {
		assert_int_equal(kill(broker, SIGUSR1), 0);
		nap();
	}
	serves_one();
	serves_one();
	end();
}

static void few_open_files_are_no_end(void **state)
{
	struct rlimit was, few;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	begin();
	serves_one();
	end();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

/* Mode 2 is a filter. */
static bool is_filtered(pid_t pid)
{
	char name[64], line[128];
	bool filtered = false;
	FILE *status;

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	status = fopen(name, "re");
	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		filtered |= !strcmp(line, "Seccomp:\t2\n");
	fclose(status);
	return filtered;
}

static void broker_and_workers_are_held(void **state)
{
	struct guest_client c;
	const char *how;

	(void)state;
	begin();
	how = says(said, "\n");
	if (!strstr(how, "seccomp") || strstr(how, "no seccomp") || strstr(how, "neither")) {
		print_message("%s", how);
		end();
		skip();
	}
	greet(&c);
	prepare(&c);
	assert_true(is_filtered(broker));
	assert_true(is_filtered(workers(1)));
	assert_false(is_filtered(nursery()));
	guest_leave(&c);
	end();
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/vdev.sock", folder);
	return 0;
}

/* What a test that failed has left must not fail the next one. */
static int clean_up(void **state)
{
	(void)state;
	if (broker && !kill(broker, SIGKILL))
		waitpid(broker, NULL, 0);
	broker = 0;
	unlink(path);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

#define TEST(__name)	cmocka_unit_test_teardown(__name, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_greeting_is_that_of_an_ivshmem_server),
		TEST(guests_have_nothing_in_common),
		TEST(a_guest_that_speaks_is_shown_out),
		TEST(there_is_room_for_so_many),
		TEST(a_worker_ends_with_its_guest),
		TEST(a_killed_worker_is_replaced),
		TEST(a_worker_that_stands_still_is_replaced),
		TEST(replacing_has_its_limits),
		TEST(everything_ends_with_the_broker),
		TEST(a_socket_that_is_served_is_left_alone),
		TEST(what_is_no_socket_is_left_alone),
		TEST(wrong_places_are_told),
		TEST(the_mode_says_who_may_connect),
		TEST(it_tells_what_it_does),
		TEST(a_guest_does_not_command_the_terminal),
		TEST(replaced_workers_say_little),
		TEST(few_open_files_are_no_end),
		TEST(who_reads_the_log_may_go),
		TEST(a_log_that_nobody_reads_holds_nobody_up),
		TEST(broker_and_workers_are_held),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
