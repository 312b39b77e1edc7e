/* SPDX-License-Identifier: MIT */
/* Where sessions are saved to: pipes, folders, disks that are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/faulty.h"
#include "tests/lib/saved.h"

/* ---- pipes ---------------------------------------------------------------------------------- */

struct pipe_end {
	int fd;
	uint8_t *data;
	size_t size, step;	/* bytes at once */
};

static void *fill_pipe(void *arg)
{
	struct pipe_end *p = arg;

	for (size_t at = 0; at < p->size;) {
		size_t n = p->size - at < p->step ? p->size - at : p->step;
		ssize_t done = write(p->fd, p->data + at, n);

		if (done < 0)
			break;
		at += (size_t)done;
	}
	close(p->fd);
	return NULL;
}

static void *drain_pipe(void *arg)
{
	struct pipe_end *p = arg;
	size_t at = 0;

	for (;;) {
		size_t n = p->size - at < p->step ? p->size - at : p->step;
		ssize_t done = n ? read(p->fd, p->data + at, n) : 0;

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			break;
		at += (size_t)done;
	}
	p->size = at;
	return NULL;
}

static void nothing(int signal)
{
	(void)signal;
}

/* The calls of this thread are interrupted all the time. */
static void interrupt(bool on)
{
	const struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = nothing };

	sigaction(SIGALRM, &action, NULL);
	assert_int_equal(setitimer(ITIMER_REAL, on ? &often : &never, NULL), 0);
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	sigset_t alarm, old;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, &old);
	assert_int_equal(pthread_create(thread, NULL, run, arg), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void check_pipes(struct unpu_session *source, struct unpu_session *loaded, int flags)
{
	struct pipe_end reader = { 0 }, writer = { 0 };
	size_t size;
	uint8_t *want = saved_bytes(source, UNPU_SAVE_KV, &size), rest[3];
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[1], F_SETPIPE_SZ, 4096);
	fcntl(fds[1], F_SETFL, flags);
	reader = (struct pipe_end){ fds[0], malloc(size + 1), size + 1, 100 };
	start_thread(&thread, drain_pipe, &reader);
	interrupt(true);
	assert_int_equal(unpu_session_save_fd(source, fds[1], UNPU_SAVE_KV), 0);
	interrupt(false);
	close(fds[1]);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(reader.size, size);
	assert_memory_equal(reader.data, want, size);
	free(reader.data);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[0], F_SETFL, flags);
	want = realloc(want, size + 3);
	memcpy(want + size, "abc", 3);
	writer = (struct pipe_end){ fds[1], want, size + 3, 41 };
	start_thread(&thread, fill_pipe, &writer);
	interrupt(true);
	assert_int_equal(unpu_session_load_fd(loaded, fds[0]), 1);
	interrupt(false);
	pthread_join(thread, NULL);
	assert_int_equal(read(fds[0], rest, 3), 3);	/* what follows is still there */
	assert_memory_equal(rest, "abc", 3);
	close(fds[0]);
	free(want);
}

static void pipes_are_files(void **state)
{
	struct unpu_session *source, *loaded;
	struct saved_future want;
	struct subject s;

	(void)state;
	subject_open(&s, "gpt2", UNPU_TYPE_F32, 1, 0);
	source = saved_rich_session(&s, UNPU_KV_F32);
	loaded = saved_other_session(&s, UNPU_KV_F32, 4);
	saved_prompt(source, &s);
	check_pipes(source, loaded, 0);
	assert_int_equal(unpu_session_rollback(loaded, 0), 0);
	check_pipes(source, loaded, O_NONBLOCK);
	saved_look_ahead(source, &want);
	saved_assert_future(loaded, &want);
	unpu_session_destroy(source);
	unpu_session_destroy(loaded);
	subject_close(&s);
}

static void write_errors_are_said(void **state)
{
	struct unpu_session *source;
	struct subject s;
	int fds[2], fd;

	(void)state;
	saved_open_smallest(&s, 3);
	source = saved_rich_session(&s, UNPU_KV_F16);
	saved_prompt(source, &s);
	fd = open("/dev/full", O_WRONLY);
	assert_true(fd >= 0);
	saved_clear_log();
	assert_int_equal(unpu_session_save_fd(source, fd, UNPU_SAVE_KV), -ENOSPC);
	close(fd);
	assert_int_equal(unpu_session_save(source, "/dev/full", 0), -ENOSPC);
	assert_non_null(strstr(subject_log, "/dev/full"));
	assert_int_equal(unpu_session_save_fd(source, -1, 0), -EBADF);
	assert_int_equal(unpu_session_load_fd(source, -1), -EBADF);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fds), 0);
	close(fds[0]);
	assert_int_equal(unpu_session_save_fd(source, fds[1], 0), -EPIPE);
	close(fds[1]);
	signal(SIGPIPE, SIG_DFL);
	assert_int_equal(unpu_session_save(source, "/dev/null", 8), -EINVAL);
	assert_int_equal(subject_errors, 6);
	assert_int_equal(unpu_session_save(source, "/dev/null", UNPU_SAVE_KV), 0);
	assert_int_equal(unpu_session_load(source, "/dev/null"), -EINVAL);
	assert_int_equal(unpu_session_load(source, "/dev/zero"), -EINVAL);
	assert_int_equal(unpu_session_load(source, "/tmp"), -EISDIR);
	assert_int_equal(subject_errors, 9);
	assert_int_equal(subject_info(source).used, SAVED_IDS);
	unpu_session_destroy(source);
	subject_close(&s);
}

/* ---- files in a folder ---------------------------------------------------------------------- */

static char place[256];

static const char *in_place(const char *name)
{
	static char path[2][300];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", place, name);
	return path[turn];
}

static void make_place(void)
{
	snprintf(place, sizeof(place), "/tmp/unpu-session-file-XXXXXX");
	assert_non_null(mkdtemp(place));
}

/* Removes the named files, then the folder: it has no others. */
static void remove_place(const char *const *names)
{
	for (; *names; names++)
		unlink(in_place(*names));
	assert_int_equal(rmdir(place), 0);
}

static void put_text(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "precious", 8), 8);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_precious(const char *path)
{
	char text[16];
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 8);
	assert_memory_equal(text, "precious", 8);
	close(fd);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode;
}

static void files_are_whole_or_not_there(void **state)
{
	static const char *const names[] = { "new", "old", "link", "nowhere", "fifo", NULL };
	static const mode_t modes[] = { 0600, 0664 };	/* less and more than the umask leaves */
	struct unpu_session *source, *loaded;
	struct subject s;
	mode_t mask = umask(027);

	(void)state;
	make_place();
	saved_open_smallest(&s, 3);
	source = saved_rich_session(&s, UNPU_KV_F16);
	loaded = saved_other_session(&s, UNPU_KV_F16, 0);
	saved_prompt(source, &s);
	assert_int_equal(unpu_session_save(source, in_place("new"), UNPU_SAVE_KV), 0);
	assert_int_equal(mode_of(in_place("new")), S_IFREG | 0640);
	assert_int_equal(unpu_session_load(loaded, in_place("new")), 1);
	/* what it replaces keeps its permissions, and its name when that is a link's target */
	assert_int_equal(symlink("old", in_place("link")), 0);
	for (int i = 0; i < 2; i++) {
		put_text(in_place("old"), modes[i]);
		assert_int_equal(unpu_session_save(source, in_place("link"), 0), 0);
		assert_true(S_ISLNK(mode_of(in_place("link"))));
		assert_int_equal(mode_of(in_place("old")), S_IFREG | modes[i]);
	}
	assert_int_equal(unpu_session_load(loaded, in_place("old")), 0);
	saved_clear_log();
	assert_int_equal(symlink("missing/file", in_place("nowhere")), 0);
	assert_int_equal(unpu_session_save(source, in_place("nowhere"), 0), -ENOENT);
	assert_int_equal(unpu_session_save(source, in_place("missing/file"), 0), -ENOENT);
	assert_int_equal(unpu_session_save(source, place, 0), -EISDIR);
	assert_int_equal(unpu_session_save(source, "", 0), -ENOENT);
	assert_int_equal(mkfifo(in_place("fifo"), 0600), 0);
	assert_int_equal(unpu_session_save(source, in_place("fifo"), 0), -ENXIO);
	assert_int_equal(subject_errors, 5);
	assert_int_equal(unpu_session_load(loaded, in_place("missing")), -ENOENT);
	umask(mask);
	unpu_session_destroy(source);
	unpu_session_destroy(loaded);
	subject_close(&s);
	remove_place(names);
}

/* The limit lets the first bytes through: the file that was there stays, no other is left. */
static void a_file_that_stays_is_whole(void **state)
{
	static const char *const names[] = { "old", NULL };
	struct unpu_session *source;
	struct rlimit all, little;
	struct subject s;

	(void)state;
	make_place();
	saved_open_smallest(&s, 3);
	source = saved_rich_session(&s, UNPU_KV_F16);
	saved_prompt(source, &s);
	put_text(in_place("old"), 0644);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &all), 0);
	little = (struct rlimit){ 300, all.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	saved_clear_log();
	assert_int_equal(unpu_session_save(source, in_place("old"), UNPU_SAVE_KV), -EFBIG);
	assert_int_equal(unpu_session_save(source, in_place("new"), UNPU_SAVE_KV), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(subject_errors, 2);
	assert_precious(in_place("old"));
	assert_int_equal(unpu_session_save(source, in_place("old"), UNPU_SAVE_KV), 0);
	unpu_session_destroy(source);
	subject_close(&s);
	remove_place(names);
}

/* Nor does a device that fails at any of its calls. */
static void a_device_may_fail_while_saving(void **state)
{
	static const char *const names[] = { "file", NULL };
	struct unpu_session *session, *other;
	struct saved_future want;
	struct subject s;
	int ret = -1;

	(void)state;
	subject_needs_cpu();
	make_place();
	saved_open_smallest(&s, 3);
	session = saved_other_session(&s, UNPU_KV_F16, 6);
	other = saved_other_session(&s, UNPU_KV_F16, 6);
	saved_look_ahead(other, &want);
	put_text(in_place("file"), 0600);
	for (uint32_t nth = 1; ret; nth++) {
		faulty_begin(s.model);
		faulty_fail(nth, -ENOSPC);
		ret = unpu_session_save(session, in_place("file"), UNPU_SAVE_KV);
		faulty_end();
		assert_true(ret == -ENOMEM || ret == -EIO || (!ret && nth > 6));
		if (ret)
			assert_precious(in_place("file"));
	}
	saved_assert_future(session, &want);
	unpu_session_destroy(session);
	unpu_session_destroy(other);
	subject_close(&s);
	remove_place(names);
}

/* In a process of its own, whose mounts nobody else sees. */
static void child_fills_disk(void)
{
	const struct tiny_params tiny = { .arch = "llama", .tied = 1, .context = 512 };
	const struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	uint32_t ids[400] = { 0 };
	struct unpu_session *session;
	struct subject s;
	struct stat st;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", place, "tmpfs", 0, "size=32k"))
		_exit(77);
	subject_open_tiny(&s, &tiny, 1, 0);
	SAVED_MUST(!unpu_session_create(s.model, &params, &session));
	SAVED_MUST(!unpu_session_prompt(session, ids, 400));
	SAVED_MUST(!unpu_session_save(session, in_place("file"), 0));
	SAVED_MUST(!stat(in_place("file"), &st) && st.st_size < 16384);
	SAVED_MUST(unpu_session_save(session, in_place("file"), UNPU_SAVE_KV) == -ENOSPC);
	SAVED_MUST(strstr(subject_log, "/file: No space left"));
	SAVED_MUST(!unlink(in_place("file")));
	SAVED_MUST(unpu_session_save(session, in_place("file"), UNPU_SAVE_KV) == -ENOSPC);
	SAVED_MUST(stat(in_place("file"), &st) && errno == ENOENT);
	/* nothing takes up the room */
	SAVED_MUST(!unpu_session_save(session, in_place("file"), 0));
	_exit(0);
}

static void a_full_disk_is_named(void **state)
{
	static const char *const none[] = { NULL };
	int status;
	pid_t child;

	(void)state;
	make_place();
	child = fork();
	assert_true(child >= 0);
	if (!child)
		child_fills_disk();
	assert_int_equal(waitpid(child, &status, 0), child);
	remove_place(none);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no right to mount a small disk\n");
		skip();
	}
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_disk_is_named),		/* first: no thread yet */
		cmocka_unit_test(pipes_are_files),
		cmocka_unit_test(write_errors_are_said),
		cmocka_unit_test(files_are_whole_or_not_there),
		cmocka_unit_test(a_file_that_stays_is_whole),
		cmocka_unit_test(a_device_may_fail_while_saving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
