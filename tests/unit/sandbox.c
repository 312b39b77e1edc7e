/* SPDX-License-Identifier: MIT */
/*
 * The command's sandbox, from within: each attempt is made by a child that has entered it, and by
 * one that has not, so that a refusal is the sandbox's. What this machine has not is skipped.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/unpu/files.h"
#include "tools/lib/sandbox.h"
#include "uapi/unpu_accel.h"

/* Of the command's outputs the sandbox knows this only. */
static int folder_granted = -1;

int output_folder(size_t i)
{
	return i ? -1 : folder_granted;
}

static char there[] = "/tmp/unpu-sandbox-XXXXXX";	/* the current folder of all children */
static char outside[] = "/tmp/unpu-sandbox-XXXXXX";	/* and one that nobody was given */

enum how { FREE, HELD, HELD_BUT_FOLDER, HELD_BUT_OUTPUT, HELD_WITH_GPU,
	   HELD_WITH_GPU_ALONE, HELD_WITH_ACCEL, HELD_CLOSED, HELD_SERVING, SWITCHED_OFF };

/* 0: the attempt succeeded; else its errno, or 255 for a signal. */
static int try(int (*attempt)(void), enum how how)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (chdir(there))
			_exit(254);
		if (how == HELD_BUT_OUTPUT)
			folder_granted = open(outside, O_PATH | O_DIRECTORY);
		if (how == HELD_BUT_FOLDER)
			sandbox_allow_folder();
		if (how == HELD_WITH_GPU)
			sandbox_allow_gpu();
		if (how == HELD_WITH_GPU_ALONE)
			sandbox_allow_gpu_alone();
		if (how == HELD_WITH_ACCEL)
			sandbox_allow_accel();
		if (how == HELD_CLOSED || how == HELD_SERVING)
			sandbox_open_nothing();
		if (how == HELD_CLOSED)
			sandbox_allow_punching();
		if (how == HELD_SERVING)
			sandbox_allow_serving();
		if (how == SWITCHED_OFF)
			sandbox_off();
		if (how != FREE)
			sandbox_enter();
		errno = 0;
		_exit(attempt() ? errno ? errno : 253 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static bool is_refused(int err)
{
	return err == EPERM || err == EACCES;
}

/* Skips the test where the machine has no such thing ("landlock", "seccomp"). */
static void need(const char *what)
{
	const char *status = sandbox_status();
	const char *found = strstr(status, what);

	/* "no seccomp", "the kernel has no landlock", "none: the kernel has neither ..." */
	if (found && strncmp(status, "none", 4) &&
	    (found - status < 3 || memcmp(found - 3, "no ", 3)))
		return;
	print_message("sandbox: %s\n", status);
	skip();
}

/* ---- attempts ----------------------------------------------------------------------------- */

static int opens(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd < 0;
}

static char secret[64], made[64], moved[64], made_cache[64];

static int read_outside(void)
{
	return opens(secret, O_RDONLY);
}

static int read_etc(void)
{
	return opens("/etc/passwd", O_RDONLY);
}

static int list_outside(void)
{
	return opens(outside, O_RDONLY | O_DIRECTORY);
}

static int write_outside(void)
{
	return opens(secret, O_WRONLY);
}

static int make_outside(void)
{
	int bad = opens(made, O_WRONLY | O_CREAT | O_EXCL), err = errno;

	unlink(made);
	errno = err;
	return bad;
}

static int make_unnamed(void)
{
	return opens("/tmp", O_WRONLY | O_TMPFILE);
}

static int make_here(void)
{
	int bad = opens("here", O_WRONLY | O_CREAT | O_EXCL), err = errno;

	unlink("here");
	errno = err;
	return bad;
}

static int move_outside(void)
{
	return rename(secret, moved) || rename(moved, secret);
}

static int remove_outside(void)
{
	return unlink(moved);
}

static int inet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int local(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) < 0;
}

static int execute(void)
{
	char *const argv[] = { "true", NULL };

	execv("/bin/true", argv);
	return 1;
}

static int make_process(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid < 0;
}

static int signal_parent(void)
{
	return kill(getppid(), 0);
}

static int trace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0;
}

static int type_for_the_terminal(void)
{
	char c = 'x';

	return ioctl(STDIN_FILENO, TIOCSTI, &c) && errno != ENOTTY && errno != EIO;
}

static int raise_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CORE, &limit) || setrlimit(RLIMIT_CORE, &limit);
}

static int change_mode(void)
{
	return chmod(secret, 0644);
}

/* ---- what must go on working ---------------------------------------------------------------- */

static int read_needed(void)
{
	return opens("/proc/self/status", O_RDONLY) || opens("/proc/self/cgroup", O_RDONLY) ||
	       opens("/proc/meminfo", O_RDONLY);
}

static int read_processors(void)
{
	return opens("/sys/devices/system/cpu/online", O_RDONLY);
}

static void *touch(void *arg)
{
	*(int *)arg = 1;
	return NULL;
}

static int make_thread(void)
{
	pthread_t thread;
	int touched = 0, err = pthread_create(&thread, NULL, touch, &touched);

	errno = err;
	return err || pthread_join(thread, NULL) || !touched;
}

/* The sandbox holds the threads that are made in it. */
static void *open_in_thread(void *arg)
{
	*(int *)arg = read_etc() ? errno : 0;
	return NULL;
}

static int read_in_thread(void)
{
	pthread_t thread;
	int err = 0;

	if (pthread_create(&thread, NULL, open_in_thread, &err) || pthread_join(thread, NULL))
		return 1;
	errno = err;
	return err;
}

static volatile sig_atomic_t caught;

static void on_signal(int signal)
{
	caught = signal;
}

static int signal_itself(void)
{
	signal(SIGUSR1, on_signal);
	return raise(SIGUSR1) || caught != SIGUSR1 || kill(getpid(), 0);
}

static int map_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED || munmap(p, 4096);
}

static int use_open_file(void)
{
	struct stat st;
	char byte;

	/* STDIN_FILENO is the secret: see prepare(). */
	return fstat(STDIN_FILENO, &st) || pread(STDIN_FILENO, &byte, 1, 0) != 1 || byte != 's';
}

/* ---- what a GPU's driver does --------------------------------------------------------------- */

static int read_libraries(void)
{
	return opens("/usr/lib", O_RDONLY | O_DIRECTORY) || opens("/dev/null", O_RDWR);
}

/* Beneath XDG_CACHE_HOME, which is `outside`: see prepare(). */
static int make_cache(void)
{
	char file[80], other[80];
	int bad;

	snprintf(file, sizeof(file), "%s/unpu/one", outside);
	snprintf(other, sizeof(other), "%s/unpu/two", outside);
	bad = opens(file, O_WRONLY | O_CREAT | O_EXCL) || rename(file, other) || unlink(other);
	return bad;
}

static int share_memory(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 || ftruncate(fd, 4096) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
}

/* Where the machine has it. */
static int name_shared(void)
{
	char file[80];

	snprintf(file, sizeof(file), "/dev/shm/unpu-sandbox-%d", (int)getpid());
	return opens(file, O_WRONLY | O_CREAT | O_EXCL) || unlink(file);
}

/* Any number that a driver may have; here there is none behind it. */
static int ask_device(void)
{
	char about[256];
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd < 0 || (ioctl(fd, _IOWR('d', 0, about), about) && errno != ENOTTY);
}

/* What is open takes no folder: these are numbers alone. */
static int ask_accel(void)
{
	struct drm_unpu_submit args = { 0 };

	return ioctl(STDIN_FILENO, DRM_IOCTL_UNPU_SUBMIT, &args) && errno != ENOTTY;
}

static int ask_other_driver(void)
{
	char about[256];

	return ioctl(STDIN_FILENO, _IOWR('d', 0x7f, about), about) && errno != ENOTTY;
}

static int read_parent(void)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%ld/environ", (long)getppid());
	return opens(path, O_RDONLY);
}

/* ---- tests ---------------------------------------------------------------------------------- */

#define REFUSED(__attempt) \
	do { \
		assert_int_equal(try(__attempt, FREE), 0); \
		assert_true(is_refused(try(__attempt, HELD))); \
	} while (0)
#define WORKS(__attempt) assert_int_equal(try(__attempt, HELD), 0)

static void files_are_out_of_reach(void **state)
{
	(void)state;
	need("landlock");
	REFUSED(read_outside);
	REFUSED(read_etc);
	REFUSED(list_outside);
	REFUSED(read_in_thread);
}

/* Without Landlock as well: no call that opens for writing is let through. */
static void nothing_is_written(void **state)
{
	(void)state;
	need("seccomp");
	REFUSED(write_outside);
	REFUSED(make_outside);
	REFUSED(make_here);
	REFUSED(move_outside);
	REFUSED(change_mode);
	assert_true(is_refused(try(remove_outside, HELD)));
	assert_true(is_refused(try(make_unnamed, HELD)));
}

static void no_sockets_programs_or_signals(void **state)
{
	(void)state;
	need("seccomp");
	REFUSED(inet);
	REFUSED(local);
	REFUSED(execute);
	REFUSED(make_process);
	REFUSED(signal_parent);
	REFUSED(trace);
	REFUSED(raise_limit);
	assert_true(is_refused(try(type_for_the_terminal, HELD)));
}

/* As a server makes for those who connect. */
static int make_shared(void)
{
	int fd = memfd_create("shared", MFD_ALLOW_SEALING);

	return fd < 0 || ftruncate(fd, 8192) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
}

static int punch(void)
{
	/* Of stdin, which is a file, behind its end. */
	int bad = fallocate(STDIN_FILENO, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536,
			    4096);

	return bad && errno == EPERM;
}

/* Device processes: unpu-vdev's broker and its workers. */
static void nothing_is_opened_where_that_is_asked(void **state)
{
	(void)state;
	need("seccomp");
	WORKS(read_needed);
	assert_true(is_refused(try(read_needed, HELD_CLOSED)));
	assert_true(is_refused(try(read_needed, HELD_SERVING)));
	assert_true(is_refused(try(execute, HELD_SERVING)));
	assert_true(is_refused(try(make_process, HELD_SERVING)));
	assert_true(is_refused(try(inet, HELD_SERVING)));
	assert_int_equal(try(make_thread, HELD_CLOSED), 0);
	assert_int_equal(try(punch, HELD_CLOSED), 0);
	assert_true(is_refused(try(punch, HELD)));
	assert_int_equal(try(make_shared, HELD_SERVING), 0);
	assert_true(is_refused(try(make_shared, HELD_CLOSED)));
}

static void what_is_needed_works(void **state)
{
	(void)state;
	WORKS(read_needed);
	if (!access("/sys/devices/system/cpu/online", R_OK))
		WORKS(read_processors);
	WORKS(make_thread);
	WORKS(signal_itself);
	WORKS(map_code);
	WORKS(use_open_file);
}

static void outputs_come_to_their_places(void **state)
{
	(void)state;
	need("landlock");
	assert_int_equal(try(move_outside, HELD_BUT_OUTPUT), 0);
	assert_true(is_refused(try(read_outside, HELD_BUT_OUTPUT)));
	assert_true(is_refused(try(write_outside, HELD_BUT_OUTPUT)));
	assert_true(is_refused(try(make_here, HELD_BUT_OUTPUT)));
}

static void a_folder_can_be_given(void **state)
{
	(void)state;
	need("landlock");
	assert_int_equal(try(make_here, HELD_BUT_FOLDER), 0);
	assert_true(is_refused(try(read_outside, HELD_BUT_FOLDER)));
	assert_true(is_refused(try(make_outside, HELD_BUT_FOLDER)));
	assert_true(is_refused(try(move_outside, HELD_BUT_FOLDER)));
	assert_true(is_refused(try(inet, HELD_BUT_FOLDER)));
	assert_true(is_refused(try(execute, HELD_BUT_FOLDER)));
}

/* What its driver does, and what it has no business with. */
static void a_gpu_can_be_given(void **state)
{
	(void)state;
	need("landlock");
	need("seccomp");
	assert_int_equal(try(read_etc, HELD_WITH_GPU), 0);
	assert_int_equal(try(read_libraries, HELD_WITH_GPU), 0);
	assert_int_equal(try(make_cache, HELD_WITH_GPU), 0);
	assert_int_equal(try(share_memory, HELD_WITH_GPU), 0);
	assert_int_equal(try(make_thread, HELD_WITH_GPU), 0);
	assert_int_equal(try(map_code, HELD_WITH_GPU), 0);
	assert_int_equal(try(ask_device, HELD_WITH_GPU), 0);
	assert_true(is_refused(try(make_cache, HELD)));
	assert_true(is_refused(try(read_outside, HELD_WITH_GPU)));
	assert_true(is_refused(try(write_outside, HELD_WITH_GPU)));
	assert_true(is_refused(try(make_outside, HELD_WITH_GPU)));
	assert_true(is_refused(try(make_here, HELD_WITH_GPU)));
	assert_true(is_refused(try(move_outside, HELD_WITH_GPU)));
	assert_true(is_refused(try(change_mode, HELD_WITH_GPU)));
	assert_true(is_refused(try(inet, HELD_WITH_GPU)));
	assert_true(is_refused(try(local, HELD_WITH_GPU)));
	assert_true(is_refused(try(execute, HELD_WITH_GPU)));
	assert_true(is_refused(try(make_process, HELD_WITH_GPU)));
	assert_true(is_refused(try(signal_parent, HELD_WITH_GPU)));
	assert_true(is_refused(try(trace, HELD_WITH_GPU)));
	assert_true(is_refused(try(type_for_the_terminal, HELD_WITH_GPU)));
	assert_true(is_refused(try(read_parent, HELD_WITH_GPU)));
}

/* Between processes that it serves, nothing on disk or in shared memory. */
static void a_gpu_can_be_given_alone(void **state)
{
	(void)state;
	need("landlock");
	need("seccomp");
	assert_int_equal(try(read_libraries, HELD_WITH_GPU_ALONE), 0);
	assert_int_equal(try(make_thread, HELD_WITH_GPU_ALONE), 0);
	assert_int_equal(try(map_code, HELD_WITH_GPU_ALONE), 0);
	assert_int_equal(try(ask_device, HELD_WITH_GPU_ALONE), 0);
	if (!access("/dev/shm", W_OK))
		assert_int_equal(try(name_shared, HELD_WITH_GPU), 0);
	assert_true(access("/dev/shm", F_OK) || is_refused(try(name_shared, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(make_cache, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(read_outside, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(make_here, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(inet, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(execute, HELD_WITH_GPU_ALONE)));
	assert_true(is_refused(try(make_process, HELD_WITH_GPU_ALONE)));
}

static void accel_nodes_are_asked_what_they_have(void **state)
{
	(void)state;
	need("landlock");
	need("seccomp");
	assert_int_equal(try(ask_accel, HELD_WITH_ACCEL), 0);
	assert_int_equal(try(make_thread, HELD_WITH_ACCEL), 0);
	assert_true(is_refused(try(ask_accel, HELD)));
	assert_true(is_refused(try(ask_other_driver, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(read_etc, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(write_outside, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(make_outside, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(make_here, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(inet, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(execute, HELD_WITH_ACCEL)));
	assert_true(is_refused(try(make_process, HELD_WITH_ACCEL)));
}

static void it_can_be_switched_off(void **state)
{
	(void)state;
	assert_int_equal(try(read_etc, SWITCHED_OFF), 0);
	assert_int_equal(try(make_here, SWITCHED_OFF), 0);
	assert_int_equal(try(inet, SWITCHED_OFF), 0);
	assert_int_equal(try(execute, SWITCHED_OFF), 0);
}

static int says(void)
{
	const char *status = sandbox_status();

	return strcmp(status, "none: --no-sandbox");
}

static void the_status_tells(void **state)
{
	const char *status = sandbox_status();

	(void)state;
	print_message("%s\n", status);
	assert_true(!strncmp(status, "landlock ", 9) || !strncmp(status, "seccomp; ", 9) ||
		    !strncmp(status, "none: ", 6));
	if (strcmp(status, "none: built with sanitizers"))
		assert_int_equal(try(says, SWITCHED_OFF), 0);
}

static int prepare(void **state)
{
	int fd;

	(void)state;
	if (!mkdtemp(there) || !mkdtemp(outside))
		return -1;
	snprintf(secret, sizeof(secret), "%s/secret", outside);
	snprintf(made, sizeof(made), "%s/made", outside);
	snprintf(moved, sizeof(moved), "%s/moved", outside);
	snprintf(made_cache, sizeof(made_cache), "%s/unpu", outside);
	if (mkdir(made_cache, 0700) || setenv("XDG_CACHE_HOME", outside, 1))
		return -1;
	fd = open(secret, O_RDWR | O_CREAT | O_EXCL, 0600);
	return fd < 0 || write(fd, "s", 1) != 1 || dup2(fd, STDIN_FILENO) != STDIN_FILENO ||
	       close(fd);
}

static int clean_up(void **state)
{
	(void)state;
	unlink(secret);
	rmdir(made_cache);
	snprintf(made_cache, sizeof(made_cache), "%s/mesa_shader_cache", outside);
	rmdir(made_cache);
	return rmdir(there) || rmdir(outside);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_out_of_reach),
		cmocka_unit_test(nothing_is_written),
		cmocka_unit_test(no_sockets_programs_or_signals),
		cmocka_unit_test(nothing_is_opened_where_that_is_asked),
		cmocka_unit_test(what_is_needed_works),
		cmocka_unit_test(outputs_come_to_their_places),
		cmocka_unit_test(a_folder_can_be_given),
		cmocka_unit_test(a_gpu_can_be_given),
		cmocka_unit_test(a_gpu_can_be_given_alone),
		cmocka_unit_test(accel_nodes_are_asked_what_they_have),
		cmocka_unit_test(it_can_be_switched_off),
		cmocka_unit_test(the_status_tells),
	};

	return cmocka_run_group_tests(tests, prepare, clean_up);
}
