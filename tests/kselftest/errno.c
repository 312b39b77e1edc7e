// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every row of the errno table in unpu_accel.h on a node: all as an ordinary user and a tenth as
 * root, where root runs this; the 32-bit build runs another tenth. UNPU_ROWS=all: all of them,
 * tenth: a tenth for all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"
#include "tests/kselftest/lib/faults.h"
#include "tests/kselftest/lib/node.h"
#include "tests/lib/errno_rows.h"

struct node {
	struct errno_device base;
	struct client c;
	int parent;		/* asked for what takes root */
};

enum word { WORD_UNBIND = 1, WORD_DONE, WORD_RESULT };

struct result {
	enum word word;
	int code;		/* KSFT_* */
	char why[240];
};

static struct node *to_node(struct errno_device *device)
{
	return (struct node *)device;
}

static int node_call(struct errno_device *device, enum errno_call which, void *args)
{
	static const unsigned long requests[] = {
		DRM_IOCTL_UNPU_DEV_QUERY, DRM_IOCTL_UNPU_BO_CREATE, DRM_IOCTL_UNPU_BO_MMAP_OFFSET,
		DRM_IOCTL_UNPU_CTX_CREATE, DRM_IOCTL_UNPU_CTX_DESTROY, DRM_IOCTL_UNPU_CTX_QUERY,
		DRM_IOCTL_UNPU_SHADER_CREATE, DRM_IOCTL_UNPU_SHADER_DESTROY,
		DRM_IOCTL_UNPU_PROGRAM_CREATE, DRM_IOCTL_UNPU_PROGRAM_DESTROY,
		DRM_IOCTL_UNPU_SUBMIT, DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_SYNCOBJ_DESTROY,
		DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, DRM_IOCTL_SYNCOBJ_CREATE,
	};

	return call(to_node(device)->c.fd, requests[which], args);
}

static void node_close(struct errno_device *device)
{
	client_close(&to_node(device)->c);
	faults_end();
}

static int node_hold(struct errno_device *device, uint32_t ctx)
{
	struct client *c = &to_node(device)->c;

	if (!has_words(c))
		return -EOPNOTSUPP;
	submit(c, ctx, word_program(c, "SLOW"), 200, 0);
	return 0;
}

static int node_guilty(struct errno_device *device, uint32_t *ctx)
{
	struct client *c = &to_node(device)->c;
	uint64_t seqno;

	if (!has_words(c))
		return -EOPNOTSUPP;
	*ctx = ctx_create(c, DRM_UNPU_PRIORITY_NORMAL, 100 * MS);
	seqno = submit(c, *ctx, word_program(c, "HANG"), 1, 0);
	return ctx_wait(c, *ctx, seqno, PATIENCE_MS) ? 0 : -ETIME;
}

static int node_gone(struct errno_device *device)
{
	struct result say = { .word = WORD_UNBIND };
	int parent = to_node(device)->parent;

	if (parent < 0)
		return -EOPNOTSUPP;
	if (write(parent, &say, sizeof(say)) != sizeof(say) ||
	    TEMP_FAILURE_RETRY(read(parent, &say, sizeof(say))) != sizeof(say))
		return -EPIPE;
	return 0;
}

/* The job that ends the worker is not answered for; another worker serves contexts soon after. */
static int node_lose(struct errno_device *device)
{
	struct client *c = &to_node(device)->c;
	uint64_t seqno, end;
	uint32_t ctx;

	if (!has_words(c))
		return -EOPNOTSUPP;
	ctx = ctx_create(c, DRM_UNPU_PRIORITY_NORMAL, 0);
	seqno = submit(c, ctx, word_program(c, "EXIT"), 1, 0);
	end = now_ns() + PATIENCE_MS * MS;
	if (!ctx_wait(c, ctx, seqno, PATIENCE_MS))
		return -ETIME;
	while (ctx_try(c, DRM_UNPU_PRIORITY_NORMAL, 0, &ctx)) {
		if (now_ns() > end)
			return -ETIME;
		sleep_ms(10);
	}
	return ctx_destroy(c, ctx);
}

/* The device process needs none of this kernel's; closing works without, too. */
static int node_no_memory(struct errno_device *device, struct errno_rig *rig)
{
	rig->calls = 1u << ERRNO_CALL_BO_CREATE | 1u << ERRNO_CALL_CTX_CREATE |
		     1u << ERRNO_CALL_SHADER_CREATE | 1u << ERRNO_CALL_PROGRAM_CREATE |
		     1u << ERRNO_CALL_SUBMIT;
	faults_starve();
	return 0;
}

/* A page that nobody may read, or more bits than a pointer of this program has. */
static uint64_t no_address(void)
{
	void *page;

	if (sizeof(page) == 4)
		return 1ull << 32;
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return (uintptr_t)page;
}

static void node_init(struct node *node, int parent)
{
	*node = (struct node){
		.base = {
			.call = node_call, .close = node_close, .hold = node_hold,
			.guilty = node_guilty, .gone = node_gone, .lose = node_lose,
			.no_memory = node_no_memory,
			.no_address = no_address(),
		},
		.c = client_open(),
		.parent = parent,
	};
}

/* ---- one row, in a process of its own ------------------------------------------------------- */

static bool takes_faults(const struct errno_row *row)
{
	return row->err == ENOMEM;
}

static void run_row(const struct errno_row *row, int parent, struct result *result)
{
	struct node node;
	int variant, variants = 1;
	char why[160];

	for (variant = 0; variant < variants && result->code == KSFT_PASS; variant++) {
		node_init(&node, parent);
		if (!errno_row_check(row, variant, &node.base, &variants, why, sizeof(why)))
			continue;
		if (variants == -EOPNOTSUPP) {
			result->code = KSFT_SKIP;
			strcpy(result->why, NO_WORDS);
			return;
		}
		result->code = KSFT_FAIL;
		snprintf(result->why, sizeof(result->why), "variant %d: %s", variant, why);
	}
	if (!variants) {
		result->code = KSFT_SKIP;
		snprintf(result->why, sizeof(result->why), "this device has all of it");
	}
}

static void child(const struct errno_row *row, int as_root, int parent)
{
	struct result result = { .word = WORD_RESULT };
	const char *missing = takes_faults(row) ? faults_missing() : NULL;
	int may_unbind = !geteuid();

	if (takes_faults(row) && !missing)
		faults_choose();
	if (!as_root)
		become_nobody();
	if (missing) {
		result.code = KSFT_SKIP;
		strcpy(result.why, missing);
	} else if (row->err == ENODEV && !may_unbind) {
		result.code = KSFT_SKIP;
		strcpy(result.why, "root alone unbinds the device");
	} else {
		run_row(row, parent, &result);
	}
	if (write(parent, &result, sizeof(result)) != sizeof(result))
		_exit(KSFT_FAIL);
	_exit(KSFT_PASS);
}

static void serve(int fd, struct result *result)
{
	bool unbound = false;

	while (read(fd, result, sizeof(*result)) == sizeof(*result)) {
		if (result->word == WORD_RESULT) {
			if (unbound)
				bus_bind();
			return;
		}
		bus_unbind();
		unbound = true;
		result->word = WORD_DONE;
		if (write(fd, result, sizeof(*result)) != sizeof(*result))
			break;
	}
	if (unbound)
		bus_bind();
	*result = (struct result){ WORD_RESULT, KSFT_FAIL, "its process ended, see above" };
}

static void test_row(const struct errno_row *row, int as_root)
{
	const char *who = sizeof(void *) == 4 ? "32-bit" : as_root ? "root" : "user";
	struct result result;
	int pair[2], status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		ksft_exit_fail_perror("socketpair");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		ksft_exit_fail_perror("fork");
	if (!pid) {
		close(pair[0]);
		child(row, as_root, pair[1]);
	}
	close(pair[1]);
	serve(pair[0], &result);
	close(pair[0]);
	waitpid(pid, &status, 0);
	faults_end();
	if (result.code == KSFT_SKIP)
		ksft_test_result_skip("%s: %s: %s\n", who, row->name, result.why);
	else if (result.code == KSFT_PASS)
		ksft_test_result_pass("%s: %s\n", who, row->name);
	else
		ksft_test_result_fail("%s: %s: %s\n", who, row->name, result.why);
}

/* ---- all that are wanted --------------------------------------------------------------------- */

/* Root may do what this row is about. */
static bool for_user_only(const struct errno_row *row)
{
	return row->err == EACCES;
}

static bool wanted(size_t i, int as_root)
{
	const char *rows = getenv("UNPU_ROWS");

	if (errno_rows[i].flags & ERRNO_IN_PROCESS || (as_root && for_user_only(&errno_rows[i])))
		return false;
	if (rows && !strcmp(rows, "all"))
		return true;
	if (sizeof(void *) == 4)
		return i % 10 == 5;
	if (rows && !strcmp(rows, "tenth"))
		return i % 10 == (as_root ? 0 : 3);
	return as_root ? i % 10 == 0 : true;
}

static unsigned int for_all(void (*test)(const struct errno_row *row, int as_root))
{
	const int last = sizeof(void *) == 4 || geteuid() ? 0 : 1;
	unsigned int count = 0;
	int as_root;
	size_t i;

	for (as_root = 0; as_root <= last; as_root++) {
		for (i = 0; i < errno_num_rows; i++) {
			if (!wanted(i, as_root))
				continue;
			count++;
			if (test)
				test(&errno_rows[i], as_root);
		}
	}
	return count;
}

static void in_child(int (*check)(struct errno_device *, char *, size_t), const char *name)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct node node;
		char why[160];

		become_nobody();
		node_init(&node, -1);
		if (!check(&node.base, why, sizeof(why)))
			_exit(KSFT_PASS);
		die("%s", why);
	}
	waitpid(pid, &status, 0);
	ksft_test_result(pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "%s\n", name);
}

static int check_valid(struct errno_device *device, char *why, size_t bytes)
{
	int which, err = 0;

	for (which = 0; !err && which < ERRNO_CALLS; which++) {
		if (which)
			node_init(to_node(device), -1);
		err = errno_valid_check((enum errno_call)which, device, why, bytes);
	}
	return err;
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	if (!faults_missing())
		faults_setup();
	ksft_print_header();
	ksft_set_plan(2 + for_all(NULL));
	in_child(check_valid, "valid calls");
	in_child(errno_index_check, "error_index");
	for_all(test_row);
	ksft_finished();
}
