// SPDX-License-Identifier: GPL-2.0-only
#include "tests/kselftest/lib/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/kselftest/lib/node.h"

#define FOLDER	"/sys/kernel/debug"
/* A storm whose end nobody says any more ends by itself. */
#define STORM_TIMES	"200000"

static int nth = -1, filters[2] = { -1, -1 }, chances[2] = { -1, -1 };

const char *faults_missing(void)
{
	static const char *const files[] = {
		"/proc/self/fail-nth", "/proc/self/make-it-fail", FOLDER "/failslab",
		FOLDER "/fail_page_alloc", FOLDER "/fail_usercopy",
	};
	size_t i;

	if (geteuid())
		return "root alone injects faults";
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (access(files[i], F_OK))
			return "this kernel injects no faults";
	return NULL;
}

static int file_of(const char *kind, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), FOLDER "/%s/%s", kind, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

/* What fails may be the write itself. */
static void put(int fd, const char *value)
{
	int tries;

	for (tries = 0; write(fd, value, strlen(value)) < 0; tries++)
		if (tries > 1000 || (errno != EFAULT && errno != ENOMEM))
			die("setting up faults: %s", strerror(errno));
}

static void set(const char *kind, const char *name, const char *value)
{
	int fd = file_of(kind, name);

	put(fd, value);
	close(fd);
}

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

void faults_setup(void)
{
	size_t i;

	for (i = 0; i < 3; i++) {
		set(kinds[i], "probability", "0");
		set(kinds[i], "interval", "1");
		set(kinds[i], "times", "-1");
		set(kinds[i], "space", "0");
		set(kinds[i], "verbose", "0");
		set(kinds[i], "task-filter", "N");
	}
	set("failslab", "ignore-gfp-wait", "N");
	set("failslab", "cache-filter", "N");
	set("fail_page_alloc", "ignore-gfp-wait", "N");
	set("fail_page_alloc", "ignore-gfp-highmem", "N");
	set("fail_page_alloc", "min-order", "0");
	for (i = 0; i < 2; i++) {
		filters[i] = file_of(kinds[i], "task-filter");
		chances[i] = file_of(kinds[i], "probability");
	}
}

/*
 * From its first byte to that of the function behind it. The kernel's own come in order, slowly;
 * those of a module in no order, so that it may be a function further.
 */
static bool find_function(const char *name, unsigned long long *start, unsigned long long *end)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[256], symbol[128];
	unsigned long long at;
	bool sorted = false;

	*start = 0;
	*end = ULONG_MAX;
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx %*c %127s", &at, symbol) != 2)
			continue;
		if (!strcmp(symbol, name)) {
			*start = at;
			sorted = !strchr(line, '[');
		} else if (*start && at > *start && at < *end) {
			*end = at;
			if (sorted)
				break;
		}
	}
	if (file)
		fclose(file);
	return *start;
}

static bool filter(const char *which, unsigned long long start, unsigned long long end)
{
	char name[32], text[32];
	size_t i;

	if (access(FOLDER "/failslab/require-start", F_OK))
		return false;
	for (i = 0; i < 3; i++) {
		set(kinds[i], "stacktrace-depth", "32");
		snprintf(name, sizeof(name), "%s-start", which);
		snprintf(text, sizeof(text), "0x%llx", start);
		set(kinds[i], name, text);
		snprintf(name, sizeof(name), "%s-end", which);
		snprintf(text, sizeof(text), "0x%llx", end);
		set(kinds[i], name, text);
	}
	return true;
}

bool faults_within(const char *function)
{
	unsigned long long start = 0, end = ULONG_MAX;

	return (!function || find_function(function, &start, &end)) &&
	       filter("require", start, end);
}

bool faults_outside(const char *function)
{
	unsigned long long start = 0, end = 0;

	return (!function || find_function(function, &start, &end)) && filter("reject", start, end);
}

/* Of this task, not of the one that made it. */
static int file_of_self(const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

void fault_arm(unsigned int n)
{
	char text[16];
	int length;

	if (nth < 0) {
		nth = file_of_self("fail-nth");
		if (mlockall(MCL_CURRENT | MCL_FUTURE))
			die("mlockall: %s", strerror(errno));
	}
	length = snprintf(text, sizeof(text), "%u", n);
	if (write(nth, text, length) != length)
		die("fail-nth: %s", strerror(errno));
}

bool fault_disarm(void)
{
	char text[16] = "";
	bool reached;

	/* When one is left it is this copy that fails. */
	reached = pread(nth, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	put(nth, "0");
	return reached;
}

void faults_choose(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = file_of_self("make-it-fail");

	if (setrlimit(RLIMIT_MEMLOCK, &all) || mlockall(MCL_CURRENT | MCL_FUTURE))
		die("mlockall: %s", strerror(errno));
	put(fd, "1");
	close(fd);
	put(filters[0], "Y");
}

void faults_starve(void)
{
	put(chances[0], "100");
}

void faults_storm(unsigned int percent)
{
	char text[16];
	size_t i;

	set("failslab", "times", STORM_TIMES);
	set("fail_page_alloc", "times", STORM_TIMES);
	snprintf(text, sizeof(text), "%u", percent);
	for (i = 0; i < 2; i++)
		put(chances[i], text);
}

void faults_end(void)
{
	size_t i;

	for (i = 0; i < 2 && chances[i] >= 0; i++) {
		put(chances[i], "0");
		put(filters[i], "N");
	}
}
