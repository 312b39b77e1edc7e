/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of devices: verdicts that come back as they were put, files that somebody has
 * damaged, markers of processes that live, died and were never there, and a first use that ends
 * well, badly or not at all.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/first_use.h"
#include "runtime/device/rig.h"

static char folder[] = "/tmp/unpu-verdict-XXXXXX";
static int warnings, errors;
static char said[256];

static void listen(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	warnings += level == UNPU_LOG_WARN;
	errors += level == UNPU_LOG_ERROR;
	snprintf(said, sizeof(said), "%s", text);
}

static const struct unpu_log test_log = { listen, NULL };

static const char *path_of(const char *name)
{
	static char path[96];

	snprintf(path, sizeof(path), "%s/unpu/%s", folder, name);
	return path;
}

static void write_file(const char *name, const char *text, size_t length)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *name, char *text, size_t size)
{
	FILE *file = fopen(path_of(name), "r");
	size_t n;

	assert_non_null(file);
	n = fread(text, 1, size - 1, file);
	text[n] = '\0';
	fclose(file);
	return n;
}

static int begin(void **state)
{
	(void)state;
	unpu_verdict_forget(&test_log);
	warnings = errors = 0;
	return 0;
}

/* ---- verdicts ------------------------------------------------------------------------------ */

static const struct unpu_verdict right = { .use = true, .tuning = "f16/256", .device_ns = 7,
					   .cpu_ns = 9, .why = "" };

static void test_verdicts(void **state)
{
	struct unpu_verdict wrong = { .cpu_ns = 5, .why = "a  b\tc\n\303\244 %s" };
	struct unpu_verdict got;
	char id[16], key[UNPU_VERDICT_KEY];

	(void)state;
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	unpu_verdict_put(&test_log, "vulkan:0", "k2", "s", &wrong);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), 0);
	assert_true(got.use && got.device_ns == 7 && got.cpu_ns == 9);
	assert_string_equal(got.tuning, "f16/256");
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k2", "s", &got), 0);
	assert_true(!got.use && got.device_ns == 0 && got.cpu_ns == 5 && !got.tuning[0]);
	assert_string_equal(got.why, "a  b?c??? %s");
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:1", "k", "s", &got), -ENOENT);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s2", &got), -ENOENT);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "", "s", &got), -ENOENT);
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &wrong);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), 0);
	assert_false(got.use);
	unpu_verdict_auto_put(&test_log, "f", "s", "vulkan:0");
	assert_int_equal(unpu_verdict_auto_get(&test_log, "f", "s", id), 0);
	assert_string_equal(id, "vulkan:0");
	assert_int_equal(unpu_verdict_good_get(&test_log, "vulkan:0", key), -ENOENT);
	unpu_verdict_good_put(&test_log, "vulkan:0", "a key");
	assert_int_equal(unpu_verdict_good_get(&test_log, "vulkan:0", key), 0);
	assert_string_equal(key, "a_key");
	unpu_verdict_forget(&test_log);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	assert_int_equal(warnings + errors, 0);
}

/* The oldest go first, and the file does not grow. */
static void test_many(void **state)
{
	struct unpu_verdict got;
	struct stat st;
	char shape[24];
	int i;

	(void)state;
	for (i = 0; i < 100; i++) {
		snprintf(shape, sizeof(shape), "shape%d", i);
		unpu_verdict_put(&test_log, "vulkan:0", "k", shape, &right);
	}
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "shape99", &got), 0);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "shape40", &got), 0);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "shape0", &got), -ENOENT);
	assert_int_equal(stat(path_of("verdicts"), &st), 0);
	assert_true(st.st_size < 64 * 128);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(warnings + errors, 0);
}

/* Each byte of the file changed, and the file cut at each: a verdict, none, but never a crash. */
static void test_damaged(void **state)
{
	char good[1024], bad[1024];
	struct unpu_verdict got;
	size_t length, i;
	int found = 0;

	(void)state;
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	unpu_verdict_good_put(&test_log, "vulkan:0", "k");
	length = read_file("verdicts", good, sizeof(good));
	for (i = 0; i < length; i++) {
		memcpy(bad, good, length);
		bad[i] = (char)(bad[i] ^ (i % 2 ? 0x80 : 0x01));
		write_file("verdicts", bad, length);
		found += !unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got);
		write_file("verdicts", good, i);
		unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got);
	}
	assert_true(found > 0 && found < (int)length);
	assert_true(warnings > 0);
	assert_int_equal(errors, 0);
}

static void test_hostile(void **state)
{
	static const char *const values[] = {
		"", "use", "use a 1", "use a -1 2 .", "no a 1 2 .", "use a x 2 .",
		"use aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 2 .",
		"use a 99999999999999999999999 2 .",
	};
	char good[1024], bad[4096], *tab;
	struct unpu_verdict got;
	size_t i;

	(void)state;
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	read_file("verdicts", good, sizeof(good));
	tab = strchr(good, '\t');
	assert_non_null(tab);
	*tab = '\0';
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(bad, sizeof(bad), "%s\t%s\n", good, values[i]);
		write_file("verdicts", bad, strlen(bad));
		if (!unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got))
			fail_msg("taken: \"%s\"", values[i]);
	}
	snprintf(bad, sizeof(bad), "%s\tuse a 1 2 %0200d\n", good, 1);
	write_file("verdicts", bad, strlen(bad));
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	warnings = 0;
	memset(bad, 'x', sizeof(bad));
	write_file("verdicts", bad, sizeof(bad));
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	assert_int_equal(warnings, 1);	/* one line, whatever is in it, and once */
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	warnings = 0;
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), 0);
	assert_int_equal(warnings, 0);
}

/* Names that are no files do not stop anybody. */
static void test_no_file(void **state)
{
	struct unpu_verdict got;

	(void)state;
	unlink(path_of("verdicts"));
	assert_int_equal(mkfifo(path_of("verdicts"), 0600), 0);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	unlink(path_of("verdicts"));
	assert_int_equal(symlink("/dev/zero", path_of("verdicts")), 0);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	unlink(path_of("verdicts"));
	setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), -ENOENT);
	assert_int_equal(unpu_marker_set("vulkan:0"), 0);
	assert_false(unpu_verdict_remembers());
	setenv("XDG_CACHE_HOME", folder, 1);
	assert_true(unpu_verdict_remembers());
	assert_int_equal(warnings + errors, 0);
}

/* What is written first may have been left by anybody. */
static void test_left_behind(void **state)
{
	struct unpu_verdict got;
	char name[32];

	(void)state;
	snprintf(name, sizeof(name), ".new.%ld", (long)getpid());
	assert_int_equal(mkfifo(path_of(name), 0600), 0);
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	assert_int_equal(unpu_verdict_get(&test_log, "vulkan:0", "k", "s", &got), 0);
	assert_int_equal(access(path_of(name), F_OK), -1);
}

/* A home that is not there stays so; compiled shaders go with the verdicts, other files stay. */
static void test_home_and_shaders(void **state)
{
	char home[64];

	(void)state;
	unsetenv("XDG_CACHE_HOME");
	snprintf(home, sizeof(home), "%s/home", folder);
	setenv("HOME", home, 1);
	unpu_verdict_put(&test_log, "vulkan:0", "k", "s", &right);
	assert_int_equal(access(home, F_OK), -1);
	setenv("XDG_CACHE_HOME", folder, 1);
	write_file("vulkan-1.cache", "x", 1);
	write_file("other", "x", 1);
	unpu_verdict_forget(&test_log);
	assert_int_equal(access(path_of("vulkan-1.cache"), F_OK), -1);
	assert_int_equal(unlink(path_of("other")), 0);
	assert_int_equal(warnings + errors, 0);
}

/* ---- markers ------------------------------------------------------------------------------- */

static void test_marker(void **state)
{
	char text[256];
	pid_t child;
	int ends[2];

	(void)state;
	if (getenv("UNPU_EMULATED")) {
		print_message("qemu-user makes up /proc/self/stat\n");
		skip();
	}
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
	assert_int_equal(unpu_marker_set("vulkan:0"), 1);
	assert_int_equal(unpu_marker_set("vulkan:0"), 1);
	assert_int_equal(unpu_marker_look("vulkan:1"), 0);
	/* A process that lives has it: another one is not refused, and leaves it alone. */
	child = fork();
	if (!child)
		_exit(unpu_marker_look("vulkan:0") != 0 || unpu_marker_set("vulkan:0") != 0);
	assert_int_equal(waitpid(child, ends, 0), child);
	assert_int_equal(ends[0], 0);
	unpu_marker_clear("vulkan:0");
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
	/* One that is gone. */
	child = fork();
	if (!child)
		_exit(unpu_marker_set("vulkan:0") != 1);
	assert_int_equal(waitpid(child, ends, 0), child);
	assert_int_equal(ends[0], 0);
	assert_int_equal(unpu_marker_look("vulkan:0"), -EBUSY);
	assert_int_equal(unpu_marker_set("vulkan:0"), -EBUSY);
	/* This process's number, but begun at another time: somebody of before. */
	snprintf(text, sizeof(text), "%ld 1 x\n", (long)getpid());
	write_file("first-use.vulkan:0", text, strlen(text));
	assert_int_equal(unpu_marker_look("vulkan:0"), -EBUSY);
	write_file("first-use.vulkan:0", "", 0);
	assert_int_equal(unpu_marker_look("vulkan:0"), -EBUSY);
	write_file("first-use.vulkan:0", "-1 0 -\n", 7);
	assert_int_equal(unpu_marker_look("vulkan:0"), -EBUSY);
	unpu_verdict_forget(&test_log);
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
}

/* ---- first use ----------------------------------------------------------------------------- */

static struct unpu_device *open_watched(struct unpu_first_use *use, const char *key)
{
	const struct unpu_device_params params = { .threads = 1 };
	struct unpu_device *dev;

	assert_int_equal(unpu_first_use_begin(use, &test_log, "vulkan:0"), 0);
	assert_int_equal(unpu_first_use_key(use, &test_log, key), 0);
	assert_int_equal(unpu_cpu_device_open(&params, &dev), 0);
	assert_int_equal(unpu_first_use_watch(use, key, dev), 0);
	return dev;
}

/* Jobs that copy some bytes. */
static void run_job(struct unpu_device *dev)
{
	const struct unpu_copy_const constants = { 64, 0 };
	struct unpu_rig_dispatch d = { UNPU_SHADER_COPY, (const uint32_t[1]){ 0 }, &constants,
				       { { 0 } } };
	struct unpu_rig_range buffer;
	struct unpu_rig rig;

	assert_int_equal(unpu_rig_init(&rig, dev), 0);
	assert_int_equal(unpu_rig_alloc(&rig, 4096, DRM_UNPU_BO_MMAP, &buffer), 0);
	d.bindings[0] = unpu_rig_part(&buffer, 0, 64);
	d.bindings[1] = unpu_rig_part(&buffer, 1024, 64);
	assert_int_equal(unpu_rig_once(&rig, &d), 0);
	unpu_rig_free(&rig, &buffer);
	unpu_rig_finish(&rig);
}

static void test_first_use(void **state)
{
	struct unpu_first_use use;
	struct unpu_device *dev = open_watched(&use, "key");
	char key[UNPU_VERDICT_KEY];

	(void)state;
	assert_true(use.marked);
	assert_int_equal(unpu_marker_look("vulkan:0"), 1);
	/* Nothing ran: nothing is known. */
	dev->ops->close(dev);
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
	assert_int_equal(unpu_verdict_good_get(&test_log, "vulkan:0", key), -ENOENT);
	dev = open_watched(&use, "key");
	run_job(dev);
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
	assert_int_equal(unpu_verdict_good_get(&test_log, "vulkan:0", key), 0);
	run_job(dev);
	dev->ops->close(dev);
	/* The second time there is no marker, but for another key. */
	assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:0"), 0);
	assert_false(use.marked);
	assert_int_equal(unpu_first_use_key(&use, &test_log, "key"), 0);
	assert_false(use.marked);
	assert_int_equal(unpu_first_use_key(&use, &test_log, "other"), 0);
	assert_true(use.marked);
	unpu_first_use_end(&use);
	assert_int_equal(unpu_marker_look("vulkan:0"), 0);
	assert_int_equal(errors, 0);
}

/* A device that says its context is lost, as after a job that hung. */
static const struct unpu_device_ops *real;

static int lost_query(struct unpu_device *dev, struct drm_unpu_ctx_query *args)
{
	int err = real->ctx_query(dev, args);

	args->state = DRM_UNPU_CTX_LOST;
	args->failed_seqno = 1;
	args->failed_errno = -ENODEV;
	return err;
}

static void test_first_use_fails(void **state)
{
	const struct unpu_device_params params = { .threads = 1 };
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_ctx_query query = { 0 };
	struct unpu_first_use use;
	struct unpu_device_ops ops;
	struct unpu_device *dev;
	pid_t child = fork();
	int status;

	(void)state;
	if (!child) {
		assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:0"), 0);
		assert_int_equal(unpu_cpu_device_open(&params, &dev), 0);
		real = dev->ops;
		ops = *real;
		ops.ctx_query = lost_query;
		dev->ops = &ops;
		assert_int_equal(unpu_first_use_watch(&use, "key", dev), 0);
		assert_int_equal(dev->ops->ctx_create(dev, &ctx), 0);
		query.ctx_id = ctx.ctx_id;
		assert_int_equal(dev->ops->ctx_query(dev, &query), 0);
		dev->ops->close(dev);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:0"), -ENODEV);
	assert_int_equal(errors, 1);
	assert_non_null(strstr(said, "unpu devices --retry"));
	assert_false(use.marked);
	assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:1"), 0);
	unpu_first_use_end(&use);
	/* Good answers of before do not hide it. */
	unpu_verdict_good_put(&test_log, "vulkan:0", "key");
	assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:0"), -ENODEV);
	unpu_verdict_forget(&test_log);
	assert_int_equal(unpu_first_use_begin(&use, &test_log, "vulkan:0"), 0);
	unpu_first_use_end(&use);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_verdicts, begin),
		cmocka_unit_test_setup(test_many, begin),
		cmocka_unit_test_setup(test_damaged, begin),
		cmocka_unit_test_setup(test_hostile, begin),
		cmocka_unit_test_setup(test_no_file, begin),
		cmocka_unit_test_setup(test_left_behind, begin),
		cmocka_unit_test_setup(test_home_and_shaders, begin),
		cmocka_unit_test_setup(test_marker, begin),
		cmocka_unit_test_setup(test_first_use, begin),
		cmocka_unit_test_setup(test_first_use_fails, begin),
	};
	char command[64];
	int failed;

	if (!mkdtemp(folder))
		return 1;
	setenv("XDG_CACHE_HOME", folder, 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) || failed;
}
