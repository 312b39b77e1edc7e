/* SPDX-License-Identifier: MIT */
#include "runtime/device/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef UNPU_LIBEXECDIR
#define UNPU_LIBEXECDIR	"/usr/local/libexec/unpu"
#endif

#define PROGRAM		"unpu-probe"
#define MAX_OUTPUT	16384
/* A first compilation of all shaders takes a Raspberry Pi some seconds; ten times that. */
#define TIMEOUT_MS	60000

/* ---- where it is --------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/*
 * Of root, of who runs this or of whose program this is: where others may put files, as in /tmp,
 * a probe of theirs is none.
 */
static bool is_trusted(const char *path)
{
	struct stat st, self;

	return is_program(path) && !stat(path, &st) &&
	       (!st.st_uid || st.st_uid == geteuid() ||
		(!stat("/proc/self/exe", &self) && st.st_uid == self.st_uid));
}

/*
 * Beside the program, as a build leaves it; below its prefix, as an installation does; where the
 * library was told. The environment is last: it names one where there is no other, and puts none in
 * the place of another.
 */
static int find_program(char *path, size_t size)
{
	static const char *const places[] = { "", "../libexec/unpu/" };
	const char *name = secure_getenv("UNPU_PROBE");
	char self[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t i;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++)
		if (snprintf(path, size, "%.*s%s" PROGRAM, (int)(slash + 1 - self), self,
			     places[i]) < (int)size && is_trusted(path))
			return 0;
	if (snprintf(path, size, "%s/" PROGRAM, UNPU_LIBEXECDIR) < (int)size && is_trusted(path))
		return 0;
	if (!name || snprintf(path, size, "%s", name) >= (int)size || !is_program(path))
		return -ENOENT;
	return 0;
}

/* ---- running it ---------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* No signal of the terminal reaches it, for its death would be a verdict; it dies with us. */
static int start(const char *path, char *const *argv, int out, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
				 POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
#if __GLIBC_PREREQ(2, 34)
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
#endif
	err = posix_spawn(pid, path, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -err;
}

/* To its end, the deadline, or more than it should write; the last ends it. */
static void collect(int fd, char *text, uint64_t deadline)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	size_t used = 0;
	uint64_t now;
	ssize_t n;

	while (used < MAX_OUTPUT - 1 && (now = now_ms()) < deadline) {
		int ready = poll(&poll_fd, 1, (int)(deadline - now));

		if (ready < 0 && errno != EINTR)
			break;
		if (ready <= 0)
			continue;
		n = read(fd, text + used, MAX_OUTPUT - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	/* A NUL would hide what is behind it. */
	for (n = 0; n < (ssize_t)used; n++)
		text[n] = text[n] ? text[n] : '?';
	text[used] = '\0';
}

/* Its status, or -1 when it had to be ended. */
static int finish(pid_t pid, uint64_t deadline)
{
	const struct timespec tick = { .tv_nsec = 2000000 };
	int status = 0;
	pid_t got;

	for (;;) {
		got = waitpid(pid, &status, WNOHANG);
		if (got == pid)
			return status;
		/* Who ignores SIGCHLD is told nothing; what was written has an end of its own. */
		if (got < 0 && errno == ECHILD)
			return 0;
		if (now_ms() >= deadline)
			break;
		nanosleep(&tick, NULL);
	}
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return -1;
}

static int say(char *why, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int say(char *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, UNPU_VERDICT_WHY, format, args);
	va_end(args);
	return err;
}

/* What it wrote, also when it ended badly: -EIO and why. */
static int run(const struct unpu_probe *probe, char *const *argv, char text[MAX_OUTPUT], char *why)
{
	uint32_t timeout = probe->timeout_ms ? probe->timeout_ms : TIMEOUT_MS;
	uint64_t deadline = now_ms() + timeout;
	char path[PATH_MAX];
	int out[2], status, err = 0;
	pid_t pid;

	text[0] = '\0';
	if (probe->program)
		snprintf(path, sizeof(path), "%s", probe->program);
	else
		err = find_program(path, sizeof(path));
	if (err)
		return say(why, err, "the program " PROGRAM " is not there, without which no GPU "
			   "is tried out");
	if (pipe2(out, O_CLOEXEC))
		return say(why, -EPERM, "a pipe: %s", strerror(errno));
	err = start(path, argv, out[1], &pid);
	close(out[1]);
	if (err) {
		close(out[0]);
		return say(why, err == -ENOENT ? -ENOENT : -EPERM, PROGRAM " does not start: %s",
			   strerror(-err));
	}
	collect(out[0], text, deadline);
	close(out[0]);
	status = finish(pid, deadline);
	if (status == -1)
		return say(why, -EIO, "probe hung: no end within %u ms", timeout);
	if (WIFSIGNALED(status))
		return say(why, -EIO, "probe died: signal %d (%s)", WTERMSIG(status),
			   strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		return say(why, -EIO, "probe ended with status %d", WEXITSTATUS(status));
	return 0;
}

/* ---- reading it ---------------------------------------------------------------------------- */

/* The next line, ended by a NUL in place; NULL after the last whole one. */
static char *next_line(char **at)
{
	char *line = *at, *end = strchr(line, '\n');
	size_t i;

	if (!end)
		return NULL;
	*end = '\0';
	*at = end + 1;
	for (i = 0; line[i]; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	return line;
}

/* What is behind "word ", or NULL when the line begins otherwise. */
static const char *after(const char *line, const char *word)
{
	size_t length = strlen(word);

	return !strncmp(line, word, length) && line[length] == ' ' ? line + length + 1 : NULL;
}

/* A decimal number and the blank behind it, or the end. */
static int take_number(const char **at, uint64_t most, uint64_t *value)
{
	char *end;

	if (**at < '0' || **at > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoull(*at, &end, 10);
	if (errno || *value > most || (*end && *end != ' '))
		return -EINVAL;
	*at = *end ? end + 1 : end;
	return 0;
}

static int take_word(const char **at, char *word, size_t size)
{
	size_t length = strcspn(*at, " ");

	if (!length || length >= size)
		return -EINVAL;
	memcpy(word, *at, length);
	word[length] = '\0';
	*at += length + ((*at)[length] == ' ');
	return 0;
}

/* "device I TYPE HEAP KEY", I the next one; or a text of the last: "name I TEXT". */
static int read_device(struct unpu_probe_list *list, const char *line)
{
	const char *at = after(line, "device");
	struct unpu_probe_device *d;
	uint64_t index, type, heap;

	if (at) {
		if (list->count == UNPU_PROBE_MAX_DEVICES ||
		    take_number(&at, UINT32_MAX, &index) || index != list->count ||
		    take_number(&at, UNPU_PROBE_TYPE_CPU, &type) ||
		    take_number(&at, UINT64_MAX, &heap))
			return -EINVAL;
		d = &list->devices[list->count];
		*d = (struct unpu_probe_device){ .type = (uint32_t)type, .heap_bytes = heap };
		if (take_word(&at, d->key, sizeof(d->key)) || *at)
			return -EINVAL;
		list->count++;
		return 0;
	}
	if (!list->count)
		return -EINVAL;
	d = &list->devices[list->count - 1];
	if ((at = after(line, "name")) && !take_number(&at, list->count - 1, &index))
		snprintf(d->name, sizeof(d->name), "%s", at);
	else if ((at = after(line, "driver")) && !take_number(&at, list->count - 1, &index))
		snprintf(d->driver, sizeof(d->driver), "%s", at);
	else if ((at = after(line, "why")) && !take_number(&at, list->count - 1, &index))
		snprintf(d->why, sizeof(d->why), "%s", *at ? at : "for no reason it gives");
	else
		return -EINVAL;
	return 0;
}

#define STRANGE	"probe wrote what cannot be understood"

int unpu_probe_list(const struct unpu_probe *probe, struct unpu_probe_list *list, char *why)
{
	char *const argv[] = { PROGRAM, "list", NULL };
	char *text = malloc(MAX_OUTPUT), *at = text, *line;
	int err;

	list->count = 0;
	why[0] = '\0';
	if (!text)
		return say(why, -ENOMEM, "%s", strerror(ENOMEM));
	err = run(probe, argv, text, why);
	if (!err) {
		line = next_line(&at);
		if (!line || strcmp(line, "unpu-probe 1"))
			err = -EINVAL;
		while (!err && (line = next_line(&at)) && strcmp(line, "end"))
			err = read_device(list, line);
		if (err || !line || *at)
			err = say(why, -EIO, STRANGE);
	}
	if (err)
		list->count = 0;
	free(text);
	return err;
}

struct reading {
	struct unpu_verdict *verdict;
	char begun[UNPU_VERDICT_TUNING];
	char wrong[UNPU_VERDICT_WHY];	/* of the first tuning that was wrong */
	bool ended;
};

static int read_test(struct reading *r, const char *line)
{
	struct unpu_verdict *v = r->verdict;
	char tuning[UNPU_VERDICT_TUNING];
	const char *at;
	uint64_t ns;

	if (r->ended)
		return -EINVAL;
	if ((at = after(line, "cpu")))
		return take_number(&at, UINT64_MAX / 2, &v->cpu_ns) || *at ? -EINVAL : 0;
	if ((at = after(line, "begin")))
		return take_word(&at, r->begun, sizeof(r->begun)) || *at ? -EINVAL : 0;
	if ((at = after(line, "right"))) {
		if (take_word(&at, tuning, sizeof(tuning)) || strcmp(tuning, r->begun) ||
		    take_number(&at, UINT64_MAX / 2, &ns) || *at || !ns)
			return -EINVAL;
		if (!v->device_ns || ns < v->device_ns) {
			v->device_ns = ns;
			memcpy(v->tuning, tuning, sizeof(v->tuning));
		}
		return 0;
	}
	if ((at = after(line, "slower")))
		return take_word(&at, tuning, sizeof(tuning)) || strcmp(tuning, r->begun) ||
		       take_number(&at, UINT64_MAX / 2, &ns) || *at ? -EINVAL : 0;
	if ((at = after(line, "wrong"))) {
		if (take_word(&at, tuning, sizeof(tuning)) || strcmp(tuning, r->begun))
			return -EINVAL;
		if (!r->wrong[0])
			say(r->wrong, 0, "%.24s: %.90s", tuning, at);
		return 0;
	}
	if ((at = after(line, "refused"))) {
		say(r->wrong, 0, "%.120s", at);
		return 0;
	}
	r->ended = !strcmp(line, "end");
	return r->ended ? 0 : -EINVAL;
}

/* From what was right and how long it took. */
static void judge(struct reading *r)
{
	struct unpu_verdict *v = r->verdict;

	if (!v->device_ns) {
		say(v->why, 0, "%s", r->wrong[0] ? r->wrong : STRANGE);
	} else if (v->device_ns < v->cpu_ns) {
		v->use = true;
	} else {
		say(v->why, 0, "not faster than the cpu: %.2f ms a token, the cpu %.2f",
		    (double)v->device_ns / 1e6, (double)v->cpu_ns / 1e6);
	}
}

static void make_args(char words[14][24], char *argv[16], uint32_t index, uint32_t threads,
		      const struct unpu_device_shape *s)
{
	const unsigned long long values[] = {
		index, threads, s->layers, s->hidden, s->ffn, s->heads, s->kv_heads, s->head_dim,
		s->vocab, s->type, s->class_f32 ? 1 : 0, s->bytes,
	};
	size_t i, count = sizeof(values) / sizeof(values[0]);

	argv[0] = PROGRAM;
	argv[1] = "test";
	for (i = 0; i < count; i++) {
		snprintf(words[i], 24, "%llu", values[i]);
		argv[2 + i] = words[i];
	}
	argv[2 + i] = NULL;
}

int unpu_probe_test(const struct unpu_probe *probe, uint32_t index, uint32_t threads,
		    const struct unpu_device_shape *shape, struct unpu_verdict *verdict)
{
	char words[14][24], *argv[16], why[UNPU_VERDICT_WHY] = "";
	char *text = malloc(MAX_OUTPUT), *at = text, *line;
	struct reading r = { .verdict = verdict };
	int err;

	*verdict = (struct unpu_verdict){ 0 };
	if (!text)
		return say(verdict->why, -ENOMEM, "%s", strerror(ENOMEM));
	make_args(words, argv, index, threads, shape);
	err = run(probe, argv, text, why);
	if (err == -ENOENT || err == -EPERM) {
		free(text);
		return say(verdict->why, err, "%s", why);
	}
	line = next_line(&at);
	if (line && !strcmp(line, "unpu-probe 1"))
		while ((line = next_line(&at)))
			if (read_test(&r, line))
				break;
	free(text);
	if (r.ended && !line && !err) {
		judge(&r);
		return 0;
	}
	/* Answers of a driver that crashes later are worth nothing. */
	verdict->tuning[0] = '\0';
	verdict->device_ns = 0;
	if (!err || (r.wrong[0] && !strncmp(why, "probe ended", 11)))
		say(verdict->why, 0, "%s", r.wrong[0] ? r.wrong : STRANGE);
	else if (r.begun[0])
		say(verdict->why, 0, "%.90s, at %.24s", why, r.begun);
	else
		say(verdict->why, 0, "%s", why);
	return 0;
}

/* ---- drivers ------------------------------------------------------------------------------- */

static void mix(uint64_t *hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t i;

	for (i = 0; i < size; i++)	/* FNV-1a */
		*hash = (*hash ^ bytes[i]) * 0x100000001b3ull;
}

/* Whatever the order in which a folder gives its entries. */
static void mix_folder(uint64_t *hash, const char *path)
{
	DIR *folder = opendir(path);
	uint64_t sum = 0, one;
	struct dirent *entry;
	struct stat st;

	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.' ||
		    fstatat(dirfd(folder), entry->d_name, &st, 0))
			continue;
		one = 0xcbf29ce484222325ull;
		mix(&one, entry->d_name, strlen(entry->d_name));
		if (S_ISREG(st.st_mode)) {
			mix(&one, &st.st_mtim.tv_sec, sizeof(st.st_mtim.tv_sec));
			mix(&one, &st.st_size, sizeof(st.st_size));
		}
		sum += one;
	}
	if (folder)
		closedir(folder);
	mix(hash, &sum, sizeof(sum));
}

bool unpu_probe_worthwhile(void)
{
	/* The kernel's own drivers; those of NVIDIA, whose nodes come late; of Tegra, ARM,
	 * Qualcomm, Imagination, Vivante and WSL. */
	static const char *const nodes[] = {
		"/dev/dri", "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/nvhost-gpu",
		"/dev/nvgpu", "/dev/mali0", "/dev/kgsl-3d0", "/dev/pvrsrvkm", "/dev/galcore",
		"/dev/dxg",
	};
	char path[PATH_MAX];
	size_t i;

	if (find_program(path, sizeof(path)))
		return false;
	if (secure_getenv("UNPU_PROBE"))
		return true;
	for (i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		if (!access(nodes[i], F_OK))
			return true;
	return false;
}

/* The loader's list of drivers, where it looks for it, and the nodes of GPUs. */
void unpu_probe_fingerprint(char text[17])
{
	static const char *const folders[] = {
		"/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d",
		"/dev/dri",
	};
	static const char *const variables[] = {
		"VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES",
		"VK_LOADER_DRIVERS_SELECT", "VK_LOADER_DRIVERS_DISABLE", "MESA_VK_DEVICE_SELECT",
	};
	uint64_t hash = 0xcbf29ce484222325ull;
	struct utsname system;
	const char *value;
	size_t i;

	for (i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		mix_folder(&hash, folders[i]);
	for (i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		value = getenv(variables[i]);
		mix(&hash, value ? value : "", value ? strlen(value) + 1 : 1);
	}
	if (!uname(&system))
		mix(&hash, system.release, strlen(system.release));
	snprintf(text, 17, "%016llx", (unsigned long long)hash);
}
