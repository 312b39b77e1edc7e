/* SPDX-License-Identifier: MIT */
#include "runtime/device/verdict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * One file of lines "name, tab, value", the newest last, written anew each time: it is some
 * kilobytes, and that happens when something was tried out.
 */
#define FILE_NAME	"verdicts"
#define MARKER		"first-use."
#define SHADERS		"vulkan-"	/* runtime/device/vulkan/cache.c */
#define MAX_LINES	64
#define MAX_LINE	512

struct lines {
	uint32_t count;
	char text[MAX_LINES][MAX_LINE];
};

/* ---- the folder ---------------------------------------------------------------------------- */

static int folder_name(char *path, size_t size)
{
	const char *base = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	int n;

	/* The specification has relative ones ignored. */
	if (base && base[0] == '/')
		n = snprintf(path, size, "%s/unpu", base);
	else if (home && home[0] == '/')
		n = snprintf(path, size, "%s/.cache/unpu", home);
	else
		return -ENOENT;
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

/* The caches and this one: a home that is not there is not there on purpose. */
static int make_folder(char *path)
{
	char *slash = strrchr(path, '/');

	*slash = '\0';
	mkdir(path, 0700);
	*slash = '/';
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* A descriptor of it, or -errno. */
static int folder_open(bool make)
{
	char path[PATH_MAX];
	int fd, err = folder_name(path, sizeof(path));

	if (!err && make)
		err = make_folder(path);
	if (err)
		return err;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A small file, NUL-terminated; -errno. What is no file, as a pipe without a writer, is none. */
static int read_small(int folder, const char *name, char *text, size_t size)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	struct stat st;
	ssize_t n = 0;
	size_t used = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	while (used < size - 1 && (n = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	text[used] = '\0';
	return n < 0 ? -EIO : 0;
}

/* Of this thread alone. */
static void temporary(char *name, size_t size)
{
	snprintf(name, size, ".new.%ld", syscall(SYS_gettid));
}

/* Complete under its name or not there. flags: of renameat2(). */
static int write_small(int folder, const char *name, const char *text, bool sync,
		       unsigned int flags)
{
	char new[32];
	size_t length = strlen(text);
	ssize_t n;
	int fd, err = 0;

	temporary(new, sizeof(new));
	unlinkat(folder, new, 0);
	fd = openat(folder, new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	n = write(fd, text, length);
	if (n != (ssize_t)length)
		err = n < 0 ? -errno : -ENOSPC;
	if (!err && sync && fsync(fd))
		err = -errno;
	close(fd);
	if (!err && renameat2(folder, new, folder, name, flags)) {
		err = -errno;
		/* Not all file systems can refuse to replace; to look first has to do there. */
		if (err == -EINVAL && flags && faccessat(folder, name, F_OK, 0))
			err = renameat(folder, new, folder, name) ? -errno : 0;
	}
	if (err)
		unlinkat(folder, new, 0);
	else if (sync)
		fsync(folder);
	return err;
}

/* ---- lines --------------------------------------------------------------------------------- */

static bool is_line(const char *line, size_t length)
{
	size_t i, tabs = 0;

	if (length == 0 || length >= MAX_LINE)
		return false;
	for (i = 0; i < length; i++) {
		tabs += line[i] == '\t';
		if (line[i] != '\t' && (line[i] < ' ' || line[i] > '~'))
			return false;
	}
	return tabs == 1 && line[0] != '\t' && line[length - 1] != '\t';
}

/* Good lines of the file; the last ones when there are too many. */
static void take_lines(const char *text, struct lines *lines, bool *bad)
{
	const char *end;

	for (; *text; text = end + 1) {
		end = strchr(text, '\n');
		if (!end) {	/* cut off */
			*bad = true;
			break;
		}
		if (!is_line(text, (size_t)(end - text)) || lines->count == MAX_LINES) {
			*bad = true;
			continue;
		}
		memcpy(lines->text[lines->count], text, (size_t)(end - text));
		lines->text[lines->count++][end - text] = '\0';
	}
}

static char *join(const struct lines *lines, uint32_t first, const char *without, size_t *used)
{
	size_t length = without ? strlen(without) : 0;
	char *text = malloc((MAX_LINES + 1) * MAX_LINE + 1);

	*used = 0;
	if (!text)
		return NULL;
	text[0] = '\0';
	for (; first < lines->count; first++) {
		const char *line = lines->text[first];

		if (!without || strncmp(line, without, length) || line[length] != '\t')
			*used += (size_t)sprintf(text + *used, "%s\n", line);
	}
	return text;
}

/* What is damaged is said once, and gone then. */
static struct lines *read_lines(const struct unpu_log *log, int folder)
{
	struct lines *lines = calloc(1, sizeof(*lines));
	char *text = malloc(MAX_LINES * MAX_LINE + 1);
	bool bad = false;
	size_t used;

	if (lines && text && !read_small(folder, FILE_NAME, text, MAX_LINES * MAX_LINE + 1))
		take_lines(text, lines, &bad);
	free(text);
	if (!bad)
		return lines;
	unpu_log(log, UNPU_LOG_WARN, "the file of verdicts on devices is damaged: what is not a "
		 "line of it is ignored");
	text = join(lines, 0, NULL, &used);
	if (text)
		write_small(folder, FILE_NAME, text, false, 0);
	free(text);
	return lines;
}

/* The build is part of every name: shaders of another one are others. */
static int find_build_id(struct dl_phdr_info *object, size_t size, void *arg)
{
	uintptr_t here = (uintptr_t)find_build_id, at, end;
	const ElfW(Nhdr) *note;
	bool ours = false;
	char *text = arg;
	uint32_t i, j;

	(void)size;
	for (i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];

		ours |= p->p_type == PT_LOAD && here - object->dlpi_addr - p->p_vaddr < p->p_memsz;
	}
	for (i = 0; ours && i < object->dlpi_phnum; i++) {
		if (object->dlpi_phdr[i].p_type != PT_NOTE)
			continue;
		at = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
		end = at + object->dlpi_phdr[i].p_memsz;
		for (; at + sizeof(*note) <= end;
		     at += sizeof(*note) + ((note->n_namesz + 3) & ~3u) +
			   ((note->n_descsz + 3) & ~3u)) {
			note = (const void *)at;
			if (note->n_type != NT_GNU_BUILD_ID || note->n_namesz != 4 ||
			    note->n_descsz < 8)
				continue;
			for (j = 0; j < 8; j++)
				snprintf(text + 2 * j, 3, "%02x",
					 ((const uint8_t *)(note + 1))[4 + j]);
			return 1;
		}
	}
	return ours;
}

static int name_of(char name[MAX_LINE], const char *kind, const char *rest)
{
	char build[17] = "";
	int n;

	dl_iterate_phdr(find_build_id, build);
	n = snprintf(name, MAX_LINE, "%s " UNPU_VERSION_STRING "-%s %s", kind, build, rest);
	return n < MAX_LINE ? 0 : -ENAMETOOLONG;
}

static int get(const struct unpu_log *log, const char *kind, const char *rest, char *value,
	       size_t size)
{
	char name[MAX_LINE];
	struct lines *lines;
	int folder, err = name_of(name, kind, rest);
	size_t length = strlen(name);
	uint32_t i;

	folder = err ? err : folder_open(false);
	if (folder < 0)
		return -ENOENT;
	lines = read_lines(log, folder);
	close(folder);
	err = -ENOENT;
	for (i = lines ? lines->count : 0; i-- > 0 && err;) {
		const char *line = lines->text[i];

		if (strncmp(line, name, length) || line[length] != '\t' ||
		    strlen(line + length + 1) >= size)
			continue;
		strcpy(value, line + length + 1);
		err = 0;
	}
	free(lines);
	return err;
}

/* The lines that are not called so, then this one; the oldest goes when there are too many. */
static char *changed(const struct lines *lines, const char *name, const char *value)
{
	size_t used;
	char *text = join(lines, lines->count == MAX_LINES ? 1 : 0, name, &used);

	/* One that would not be read again is not written. */
	if (text && snprintf(text + used, MAX_LINE, "%s\t%s\n", name, value) >= MAX_LINE)
		text[used] = '\0';
	return text;
}

static void put(const struct unpu_log *log, const char *kind, const char *rest, const char *value)
{
	char name[MAX_LINE], *text = NULL;
	struct lines *lines;
	int folder, err = name_of(name, kind, rest);

	folder = err ? err : folder_open(true);
	if (folder >= 0) {
		lines = read_lines(log, folder);
		text = lines ? changed(lines, name, value) : NULL;
		err = text ? write_small(folder, FILE_NAME, text, false, 0) : -ENOMEM;
		free(lines);
		free(text);
		close(folder);
	}
	if (folder < 0 || err)
		unpu_log(log, UNPU_LOG_DEBUG, "cannot remember what was found out of devices: %s",
			 strerror(folder < 0 ? -folder : -err));
}

/* ---- verdicts ------------------------------------------------------------------------------ */

void unpu_verdict_shape(const struct unpu_device_shape *s, char text[UNPU_VERDICT_SHAPE])
{
	snprintf(text, UNPU_VERDICT_SHAPE, "%ux%u+%u:%u/%ux%u:%u:%u.%u", s->layers, s->hidden,
		 s->ffn, s->heads, s->kv_heads, s->head_dim, s->vocab, s->type,
		 s->class_f32 ? 1 : 0);
}

/* Words of a name have no blanks in them, and an empty one would be none. */
static void put_word(char *to, size_t size, const char *from)
{
	size_t i;

	snprintf(to, size, "%s", from[0] ? from : "-");
	for (i = 0; to[i]; i++)
		if (to[i] <= ' ' || to[i] > '~')
			to[i] = '_';
}

static int names(char *rest, size_t size, const char *a, const char *b, const char *c)
{
	char words[3][128];
	int n;

	put_word(words[0], sizeof(words[0]), a);
	put_word(words[1], sizeof(words[1]), b);
	put_word(words[2], sizeof(words[2]), c);
	n = snprintf(rest, size, "%s %s %s", words[0], words[1], words[2]);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int unpu_verdict_get(const struct unpu_log *log, const char *id, const char *key,
		     const char *shape, struct unpu_verdict *verdict)
{
	char rest[400], value[MAX_LINE], use[8];
	int at = -1;

	*verdict = (struct unpu_verdict){ 0 };
	if (names(rest, sizeof(rest), id, key, shape) || get(log, "verdict", rest, value,
							     sizeof(value)))
		return -ENOENT;
	/* A blank must follow a number: the rest of a longer one would be the next. */
	if (sscanf(value, "%7s %31s %15" SCNu64 "%*1[ ]%15" SCNu64 "%*1[ ]%n", use,
		   verdict->tuning, &verdict->device_ns, &verdict->cpu_ns, &at) != 4 || at < 0 ||
	    verdict->device_ns > UINT64_MAX / 2 || verdict->cpu_ns > UINT64_MAX / 2)
		return -ENOENT;	/* sscanf() takes a minus for any number */
	verdict->use = !strcmp(use, "use");
	if ((!verdict->use && strcmp(use, "cpu")) || strlen(value + at) >= sizeof(verdict->why))
		return -ENOENT;
	if (!strcmp(verdict->tuning, "-"))
		verdict->tuning[0] = '\0';
	strcpy(verdict->why, value + at);
	return 0;
}

void unpu_verdict_put(const struct unpu_log *log, const char *id, const char *key,
		      const char *shape, const struct unpu_verdict *verdict)
{
	char rest[400], value[MAX_LINE / 2], tuning[UNPU_VERDICT_TUNING];
	size_t i;

	put_word(tuning, sizeof(tuning), verdict->tuning);
	snprintf(value, sizeof(value), "%s %s %" PRIu64 " %" PRIu64 " %s",
		 verdict->use ? "use" : "cpu", tuning, verdict->device_ns, verdict->cpu_ns,
		 verdict->why[0] ? verdict->why : ".");
	for (i = 0; value[i]; i++)
		if (value[i] < ' ' || value[i] > '~')
			value[i] = '?';
	if (!names(rest, sizeof(rest), id, key, shape))
		put(log, "verdict", rest, value);
}

int unpu_verdict_auto_get(const struct unpu_log *log, const char *fingerprint, const char *shape,
			  char id[16])
{
	char rest[400];

	return names(rest, sizeof(rest), fingerprint, shape, "") ? -ENOENT :
	       get(log, "auto", rest, id, 16);
}

void unpu_verdict_auto_put(const struct unpu_log *log, const char *fingerprint, const char *shape,
			   const char *id)
{
	char rest[400];

	if (!names(rest, sizeof(rest), fingerprint, shape, ""))
		put(log, "auto", rest, id);
}

int unpu_verdict_good_get(const struct unpu_log *log, const char *id, char key[UNPU_VERDICT_KEY])
{
	return get(log, "good", id, key, UNPU_VERDICT_KEY);
}

void unpu_verdict_good_put(const struct unpu_log *log, const char *id, const char *key)
{
	char word[UNPU_VERDICT_KEY];

	put_word(word, sizeof(word), key);
	put(log, "good", id, word);
}

bool unpu_verdict_remembers(void)
{
	int folder = folder_open(true);
	bool can = folder >= 0 && !faccessat(folder, ".", W_OK | X_OK, 0);

	if (folder >= 0)
		close(folder);
	return can;
}

/* Compiled shaders too: a driver may crash of them. */
static bool is_ours(const char *name)
{
	return !strcmp(name, FILE_NAME) || !strncmp(name, MARKER, strlen(MARKER)) ||
	       !strncmp(name, SHADERS, strlen(SHADERS));
}

void unpu_verdict_forget(const struct unpu_log *log)
{
	int fd = folder_open(false);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!folder) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(folder))) {
		if (!is_ours(entry->d_name))
			continue;
		if (unlinkat(fd, entry->d_name, 0))
			unpu_log(log, UNPU_LOG_WARN, "cannot forget %s: %s", entry->d_name,
				 strerror(errno));
	}
	closedir(folder);
}

/* ---- markers ------------------------------------------------------------------------------- */

/*
 * When a process began, in the kernel's ticks since the boot; -ENOENT: it is gone. -EACCES: it is
 * there, but a sandbox, which looks after the name was found, lets nobody see more of it.
 */
static int start_of(long pid, unsigned long long *start)
{
	char path[48], text[1024], *at;
	int err;

	*start = 0;
	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	err = read_small(AT_FDCWD, path, text, sizeof(text));
	if (err)
		return err;
	/* The name, in brackets, may hold anything; the 20th word behind it is meant. */
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %*c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %llu",
			  start) != 1)
		return -ENOENT;
	return 0;
}

/* A process of before the last boot is gone, whoever has its number now. */
static void boot_id(char id[40])
{
	char text[64] = "";

	read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));
	if (sscanf(text, "%39s", id) != 1)
		strcpy(id, "-");
}

/* Opened for its name alone: what is in the folder is not to be made here. */
static void marker_name(const char *id, char name[64])
{
	snprintf(name, 64, MARKER "%s", id);
}

/* 1: this process's own, 0: none or of one that lives, -EBUSY */
static int marker_judge(int folder, const char *name)
{
	char text[256], boot[40], here[40];
	unsigned long long start, now;
	long pid;
	int err = read_small(folder, name, text, sizeof(text));

	if (err)
		return err == -ENOENT || err == -EACCES ? 0 : -EBUSY;
	boot_id(here);
	/* One that is damaged is what a crash leaves, too. */
	if (sscanf(text, "%ld %llu %39s", &pid, &start, boot) != 3 || strcmp(boot, here) ||
	    pid <= 0)
		return -EBUSY;
	err = start_of(pid, &now);
	if (err != -EACCES && (err || now != start))
		return -EBUSY;
	return pid == (long)getpid();
}

int unpu_marker_look(const char *id)
{
	char name[64];
	int folder = folder_open(false), err;

	if (folder < 0)
		return 0;
	marker_name(id, name);
	err = marker_judge(folder, name);
	close(folder);
	return err;
}

int unpu_marker_set(const char *id)
{
	char name[64], text[128], boot[40];
	unsigned long long start;
	int folder = folder_open(true), err;

	if (folder < 0)
		return 0;
	marker_name(id, name);
	boot_id(boot);
	start_of(getpid(), &start);
	snprintf(text, sizeof(text), "%ld %llu %s\n", (long)getpid(), start, boot);
	err = marker_judge(folder, name);
	/* Synced: what follows may take the machine with it. */
	if (!err)
		err = write_small(folder, name, text, true, RENAME_NOREPLACE) ? 0 : 1;
	close(folder);
	return err;
}

void unpu_marker_clear(const char *id)
{
	char name[64];
	int folder = folder_open(false);

	if (folder < 0)
		return;
	marker_name(id, name);
	unlinkat(folder, name, 0);
	close(folder);
}
