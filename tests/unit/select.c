/* SPDX-License-Identifier: MIT */
/*
 * Which device an id means, what is said of one that is not there, and what is made of probes that
 * lie, crash or hang. No GPU is needed: the probes are scripts.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/device/choose.h"
#include "tests/lib/subject.h"

static char said[512];
static int lines;
static char folder[] = "/tmp/unpu-select-XXXXXX";

static void listen(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level > UNPU_LOG_WARN)
		return;
	snprintf(said, sizeof(said), "%s", text);
	lines++;
}

static int open_device(const char *id, const struct unpu_device_shape *shape)
{
	const struct unpu_device_params params = { .threads = 1, .shape = shape,
						   .log = { listen, NULL } };
	struct unpu_device *dev = NULL;
	int err;

	said[0] = '\0';
	lines = 0;
	err = unpu_device_open(id, &params, &dev);
	if (err) {
		assert_null(dev);
		return err;
	}
	assert_string_equal(dev->id, "cpu");
	dev->ops->close(dev);
	return 0;
}

static void test_open(void **state)
{
	(void)state;
	assert_int_equal(open_device(NULL, NULL), 0);
	assert_int_equal(open_device("auto", NULL), 0);
	assert_int_equal(open_device("cpu", NULL), 0);
	assert_int_equal(lines, 0);
}

/* Chosen already: what does not open is told, and the cpu takes its place. */
static void test_chosen(void **state)
{
	static const char *const ids[] = { "auto:vulkan:99", "auto:accel:99" };

	(void)state;
	assert_int_equal(open_device("auto:cpu", NULL), 0);
	assert_int_equal(lines, 0);
	for (size_t i = UNPU_VULKAN ? 0 : 1; i < (UNPU_ACCEL ? 2 : 1); i++) {
		assert_int_equal(open_device(ids[i] + 5, NULL), -ENODEV);
		assert_int_equal(open_device(ids[i], NULL), 0);
		assert_non_null(strstr(said, ids[i] + 5));
		assert_non_null(strstr(said, "the cpu takes its place"));
	}
}

static void test_unknown(void **state)
{
	static const char *const ids[] = {
		"", "CPU", "cpu:0", "gpu", "vulkan", "vulkan:", "vulkan:x", "vulkan:-1",
		"vulkan:00", "vulkan:100", "vulkan:0 ", "accel", "accel:x", "accel:00", "auto ",
		"auto:", "auto:gpu", "auto:auto", "auto:vulkan:x",
		"%s%n",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(open_device(ids[i], NULL), -ENODEV);
		assert_int_equal(lines, 1);
		assert_non_null(strstr(said, ids[i]));
		assert_non_null(strstr(said, "auto, cpu"));
	}
}

/* ---- probes -------------------------------------------------------------------------------- */

/* A script that does this when it is asked to list, and that when it is asked to test. */
static const char *script(const char *list, const char *test)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/probe", folder);
	unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\nif test \"$1\" = list; then\n%s\nelse\n%s\nfi\n", list, test);
	fclose(file);
	assert_int_equal(chmod(path, 0755), 0);
	setenv("UNPU_PROBE", path, 1);
	return path;
}

#define HELLO	"echo unpu-probe 1\n"
#define GPU	HELLO "echo device 0 1 1000000000 aa-1\necho name 0 G\necho driver 0 D 1\n"
#define LIST	GPU "echo end\n"

static int list(const char *commands, struct unpu_probe_list *to, char *why)
{
	const struct unpu_probe probe = { script(commands, "exit 9"), 2000 };

	return unpu_probe_list(&probe, to, why);
}

static void test_list(void **state)
{
	struct unpu_probe_list got;
	char why[UNPU_VERDICT_WHY];

	(void)state;
	assert_int_equal(list(HELLO "echo end", &got, why), 0);
	assert_int_equal(got.count, 0);
	assert_int_equal(list(GPU "echo device 1 4 5 b\necho name 1 'x  y'\n"
			      "echo why 1 'too \303\244 old'\necho end", &got, why), 0);
	assert_int_equal(got.count, 2);
	assert_int_equal(got.devices[0].type, 1);
	assert_int_equal(got.devices[0].heap_bytes, 1000000000);
	assert_string_equal(got.devices[0].key, "aa-1");
	assert_string_equal(got.devices[0].driver, "D 1");
	assert_string_equal(got.devices[1].name, "x  y");
	assert_string_equal(got.devices[1].why, "too ?? old");
}

static void test_list_hostile(void **state)
{
	static const char *const commands[] = {
		"true",
		"echo unpu-probe 2\necho end",
		HELLO,					/* no end */
		HELLO "printf end",			/* cut off */
		HELLO "echo end\necho more",
		HELLO "echo name 0 X\necho end",	/* before there is one */
		HELLO "echo device 1 1 1 k\necho end",	/* out of order */
		HELLO "echo device 0 5 1 k\necho end",
		HELLO "echo device 0 -1 1 k\necho end",
		HELLO "echo device 0 1 99999999999999999999 k\necho end",
		HELLO "echo device 0 1 1\necho end",
		HELLO "echo device 0 1 1 k k\necho end",
		HELLO "echo device 0 1 1 $(seq -s x 60)\necho end",
		GPU "echo name 1 X\necho end",
		GPU "echo name\necho end",
		HELLO "for i in $(seq 0 16); do echo device $i 1 1 k; done\necho end",
		HELLO "head -c 100000 /dev/zero\necho end",
		HELLO "yes device",
	};
	struct unpu_probe_list got;
	char why[UNPU_VERDICT_WHY];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (list(commands[i], &got, why) != -EIO || !why[0] || got.count)
			fail_msg("taken: %s", commands[i]);
	}
	assert_int_equal(list(LIST "kill -SEGV $$", &got, why), -EIO);
	assert_non_null(strstr(why, "probe died: signal 11"));
	assert_int_equal(list(LIST "exit 3", &got, why), -EIO);
	assert_string_equal(why, "probe ended with status 3");
}

static void test_hang(void **state)
{
	const struct unpu_probe probe = { script("sleep 100 & sleep 100", LIST "sleep 100"), 200 };
	struct unpu_probe_list got;
	struct unpu_verdict verdict;
	char why[UNPU_VERDICT_WHY];

	(void)state;
	assert_int_equal(unpu_probe_list(&probe, &got, why), -EIO);
	assert_non_null(strstr(why, "probe hung"));
	assert_int_equal(unpu_probe_test(&probe, 0, 1, &unpu_choose_typical, &verdict), 0);
	assert_non_null(strstr(verdict.why, "probe hung"));
}

/* As some service managers start their programs: no child leaves a status. */
static void test_ignored_child(void **state)
{
	struct unpu_probe_list got;
	char why[UNPU_VERDICT_WHY];

	(void)state;
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(list(LIST, &got, why), 0);
	assert_int_equal(got.count, 1);
	assert_int_equal(list(GPU "kill -SEGV $$", &got, why), -EIO);
	signal(SIGCHLD, SIG_DFL);
}

static void test_absent(void **state)
{
	const struct unpu_probe probe = { "/nonexistent/unpu-probe", 200 };
	struct unpu_probe_list got;
	struct unpu_verdict verdict;
	char why[UNPU_VERDICT_WHY];

	(void)state;
	if (getenv("UNPU_EMULATED")) {
		print_message("qemu-user has no vfork(): a failed exec is a child that died\n");
		skip();
	}
	assert_int_equal(unpu_probe_list(&probe, &got, why), -ENOENT);
	assert_true(why[0]);
	assert_int_equal(unpu_probe_test(&probe, 0, 1, &unpu_choose_typical, &verdict), -ENOENT);
	assert_false(verdict.use);
}

/* ---- verdicts ------------------------------------------------------------------------------ */

#define BEGIN(t)	"echo begin " t "\n"
#define RIGHT(t, ns)	BEGIN(t) "echo right " t " " #ns "\n"
#define WRONG(t, why)	BEGIN(t) "echo wrong " t " " why "\n"

static struct unpu_verdict judge(const char *commands)
{
	const struct unpu_probe probe = { script(LIST, commands), 2000 };
	struct unpu_verdict verdict;

	assert_int_equal(unpu_probe_test(&probe, 0, 1, &unpu_choose_typical, &verdict), 0);
	assert_true(verdict.use != (verdict.why[0] != '\0'));
	return verdict;
}

static void test_judge(void **state)
{
	struct unpu_verdict v = judge(HELLO "echo cpu 900\n" RIGHT("a/1", 800) RIGHT("b/1", 700)
				      RIGHT("c/1", 750) "echo end");

	(void)state;
	assert_true(v.use);
	assert_string_equal(v.tuning, "b/1");
	assert_int_equal(v.device_ns, 700);
	assert_int_equal(v.cpu_ns, 900);
	v = judge(HELLO "echo cpu 900\n" RIGHT("a", 800) BEGIN("b") "echo slower b 850\necho end");
	assert_string_equal(v.tuning, "a");
	v = judge(HELLO "echo cpu 900\n" WRONG("a", "7 is not 8") RIGHT("b", 800) "echo end");
	assert_true(v.use);
	assert_string_equal(v.tuning, "b");
	v = judge(HELLO "echo cpu 600\n" RIGHT("a", 800) "echo end");
	assert_false(v.use);
	assert_string_equal(v.tuning, "a");
	assert_non_null(strstr(v.why, "not faster"));
	v = judge(HELLO "echo cpu 600\n" WRONG("a", "7 is not 8") WRONG("b", "no") "echo end");
	assert_string_equal(v.why, "a: 7 is not 8");
	v = judge(HELLO "echo refused no shader\nexit 1");
	assert_string_equal(v.why, "no shader");
	v = judge(HELLO "echo cpu 900\n" RIGHT("a", 800) BEGIN("b") "kill -SEGV $$");
	assert_non_null(strstr(v.why, "probe died: signal 11"));
	assert_non_null(strstr(v.why, "at b"));
	assert_string_equal(v.tuning, "");
}

static void test_judge_hostile(void **state)
{
	static const char *const commands[] = {
		HELLO "echo cpu 900\n" RIGHT("a", 1),				/* no end */
		HELLO "echo cpu 900\n" RIGHT("a", 1) "echo end\necho end",
		HELLO "echo cpu 900\n" RIGHT("a", 0) "echo end",
		HELLO "echo cpu 900\n" RIGHT("a", -1) "echo end",
		HELLO "echo cpu 900\n" RIGHT("a", 1x) "echo end",
		HELLO "echo cpu 900\necho right a 1\necho end",			/* not begun */
		HELLO "echo cpu 900\n" BEGIN("b") "echo right a 1\necho end",
		HELLO "echo cpu 900 1\n" RIGHT("a", 1) "echo end",
		HELLO "echo cpu 900\n" RIGHT("$(seq -s x 60)", 1) "echo end",
		HELLO RIGHT("a", 1) "echo end",					/* no cpu */
		HELLO "echo cpu 900\necho end",
		"echo cpu 900\n" RIGHT("a", 1) "echo end",
		"head -c 100000 /dev/urandom",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (judge(commands[i]).use)
			fail_msg("used: %s", commands[i]);
}

/* ---- choosing ------------------------------------------------------------------------------ */

static int runs(const char *what)
{
	char command[160], path[80];
	FILE *file;
	int n = 0;

	snprintf(path, sizeof(path), "%s/%s", folder, what);
	snprintf(command, sizeof(command), "wc -l <%s 2>/dev/null", path);
	file = access(path, F_OK) ? NULL : popen(command, "r");
	if (file) {
		if (fscanf(file, "%d", &n) != 1)
			n = -1;
		pclose(file);
	}
	return n;
}

static void choose(const struct unpu_device_shape *shape, char id[16])
{
	const struct unpu_device_params params = { .threads = 1, .shape = shape,
						   .log = { listen, NULL } };

	unpu_choose(&params, id);
}

static void counted(const char *gpus, const char *result)
{
	char list_text[512], test_text[512];

	snprintf(list_text, sizeof(list_text), "echo >>%s/lists\n" HELLO "%s\necho end", folder,
		 gpus);
	snprintf(test_text, sizeof(test_text), "echo >>%s/tests\n" HELLO "echo cpu 900\n%s"
		 "echo end", folder, result);
	script(list_text, test_text);
}

static void test_choose(void **state)
{
	struct unpu_device_shape shape = unpu_choose_typical;
	char id[16];

	(void)state;
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 1 1000000000 k\necho device 1 2 1000000000 k\n"
		"echo device 2 4 9000000000 k\n", RIGHT("a", 800));
	choose(NULL, id);
	assert_string_equal(id, "cpu");
	assert_int_equal(runs("lists"), 0);
	choose(&shape, id);
	assert_string_equal(id, "vulkan:0");
	assert_int_equal(runs("lists"), 1);
	assert_int_equal(runs("tests"), 2);	/* never the third */
	choose(&shape, id);
	assert_string_equal(id, "vulkan:0");
	assert_int_equal(runs("lists"), 1);	/* remembered */
	shape.class_f32 = 1;
	choose(&shape, id);
	assert_int_equal(runs("tests"), 4);	/* a class, and a shape, of their own */
	setenv("VK_ICD_FILENAMES", "/nonexistent.json", 1);
	choose(&shape, id);
	assert_int_equal(runs("lists"), 3);	/* other drivers, perhaps; */
	assert_int_equal(runs("tests"), 4);	/* the devices say that they are the same */
	unsetenv("VK_ICD_FILENAMES");
	unpu_devices_forget(NULL, NULL);
	shape.bytes = 950 << 20;
	choose(&shape, id);
	assert_string_equal(id, "cpu");
	assert_int_equal(runs("tests"), 4);	/* too large to be tried */
}

static void test_choose_none(void **state)
{
	struct unpu_device_shape shape = unpu_choose_typical;
	int before = runs("lists");
	char id[16];

	(void)state;
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 4 9000000000 k", RIGHT("a", 800));
	choose(&shape, id);
	assert_string_equal(id, "cpu");
	shape.hidden *= 2;
	choose(&shape, id);
	assert_string_equal(id, "cpu");
	assert_int_equal(runs("lists"), before + 1);
	assert_int_equal(open_device("auto", &shape), 0);
	/* One that crashes is not asked again, either. */
	unpu_devices_forget(NULL, NULL);
	script("kill -ABRT $$", "exit 1");
	choose(&shape, id);
	assert_string_equal(id, "cpu");
	counted("echo device 0 1 9000000000 k", RIGHT("a", 800));
	choose(&shape, id);
	assert_string_equal(id, "cpu");
	assert_int_equal(runs("lists"), before + 1);
}

/* Neither a process nor a file without a GPU; no trial that every start would repeat. */
static void test_choose_not_worth_it(void **state)
{
	const struct unpu_device_shape *shape = &unpu_choose_typical;
	char id[16], cache[64];

	(void)state;
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 1 9000000000 k", RIGHT("a", 800));
	snprintf(cache, sizeof(cache), "%s/none/below", folder);
	setenv("XDG_CACHE_HOME", cache, 1);
	assert_int_equal(unpu_choose_remembered(&(struct unpu_log){ listen, NULL }, NULL, id), 0);
	choose(shape, id);
	assert_string_equal(id, "cpu");
	assert_int_equal(access(cache, F_OK), -1);
	setenv("XDG_CACHE_HOME", folder, 1);
	counted("echo device 0 1 9000000000 k", RIGHT("a", 800));
	choose(shape, id);
	assert_string_equal(id, "vulkan:0");
	unsetenv("UNPU_PROBE");
	unpu_devices_forget(NULL, NULL);
	if (unpu_probe_worthwhile())
		return;		/* this machine may have a GPU */
	choose(shape, id);
	assert_string_equal(id, "cpu");
	snprintf(cache, sizeof(cache), "%s/unpu/verdicts", folder);
	assert_int_equal(access(cache, F_OK), -1);
}

/* ---- enumeration --------------------------------------------------------------------------- */

struct seen {
	int count;
	struct unpu_device_info infos[8];
};

static int collect(void *arg, const struct unpu_device_info *info)
{
	struct seen *seen = arg;

	seen->infos[seen->count++] = *info;
	return seen->count == 8 ? -E2BIG : 0;
}

static int refuse(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	(void)info;
	return -EINTR;
}

static void assert_cpu(const struct unpu_device_info *info)
{
	assert_string_equal(info->id, "cpu");
	assert_int_equal(info->usable, 1);
	assert_int_equal(strncmp(info->name, "cpu ", 4), 0);
	assert_string_equal(info->why, "");
}

static void test_devices(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	unpu_devices_forget(NULL, NULL);
	counted("", "");
	assert_int_equal(unpu_devices(collect, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_cpu(&seen.infos[0]);
	assert_int_equal(unpu_devices(refuse, NULL), -EINTR);
	if (!UNPU_VULKAN)
		return;
	script("exit 7", "exit 7");
	seen.count = 0;
	assert_int_equal(unpu_devices(collect, &seen), 0);
	assert_int_equal(seen.count, 2);
	assert_cpu(&seen.infos[0]);
	assert_string_equal(seen.infos[1].id, "vulkan");
	assert_int_equal(seen.infos[1].usable, 0);
	assert_string_equal(seen.infos[1].why, "probe ended with status 7");
}

static void test_devices_judged(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	if (!UNPU_VULKAN) {
		print_message("skipped: a build without Vulkan lists no GPU\n");
		skip();
	}
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 4 9000000000 k\necho device 1 1 9000000000 k\necho name 1 G",
		RIGHT("a", 450));
	assert_int_equal(unpu_devices(collect, &seen), 0);
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.infos[0].id, "vulkan:1");
	assert_string_equal(seen.infos[0].name, "G");
	assert_int_equal(seen.infos[0].preferred, 1);
	assert_non_null(strstr(seen.infos[0].verdict, "faster"));
	assert_cpu(&seen.infos[1]);
	assert_string_equal(seen.infos[2].id, "vulkan:0");
	assert_int_equal(seen.infos[2].usable, 1);
	assert_non_null(strstr(seen.infos[2].verdict, "never"));
}

/* ---- for callers who give up rights -------------------------------------------------------- */

static void test_shape(void **state)
{
	static const char *const wrong[] = {
		"", "cpu", "2x72+172:3/1x24:331:0.0", "2x72+172:3/1x24:331:0.0 x",
		"2x72+172:3/1x24:331:0.0 1 ", " 2x72+172:3/1x24:331:0.0 1",
		"2x72+172:3/0x24:331:0.0 1", "2x72+172:3/2x24:331:0.0 1",
		"0x72+172:3/1x24:331:0.0 1", "2x072+172:3/1x24:331:0.0 1",
		"2x72+172:3/1x24:331:0.2 1", "-2x72+172:3/1x24:331:0.0 1",
		"2x99999999999+172:3/1x24:331:0.0 1",
	};
	char text[UNPU_MAX_SHAPE], words[UNPU_VERDICT_SHAPE], id[16];
	struct subject s;
	size_t i;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_Q8_0, 1, 0);
	assert_int_equal(unpu_model_shape(s.model, 0, NULL, 0),
			 unpu_model_shape(s.model, 0, text, sizeof(text)));
	assert_true(strlen(text) < UNPU_MAX_SHAPE);
	assert_true(unpu_model_shape(s.model, 1u << 7, text, sizeof(text)) < 0);
	unpu_model_shape(s.model, UNPU_MODEL_CLASS_F32, words, sizeof(words));
	assert_string_not_equal(words, text);
	subject_close(&s);
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 1 1000000000 k", RIGHT("a", 800));
	assert_int_equal(unpu_device_choose(NULL, 1, NULL, NULL, id), UNPU_VULKAN);
	assert_int_equal(unpu_device_choose(text, 1, NULL, NULL, id), 0);
	assert_string_equal(id, UNPU_VULKAN ? "vulkan:0" : "cpu");
	for (i = 0; UNPU_VULKAN && i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (unpu_device_choose(wrong[i], 1, NULL, NULL, id) != -EINVAL)
			fail_msg("taken: \"%s\"", wrong[i]);
		assert_string_equal(id, "cpu");
	}
	unpu_devices_forget(NULL, NULL);
	counted("echo device 0 4 1000000000 k", RIGHT("a", 800));
	assert_int_equal(unpu_device_choose(text, 1, NULL, NULL, id), 0);
	assert_string_equal(id, "cpu");
	assert_int_equal(unpu_device_choose(NULL, 1, NULL, NULL, id), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_chosen),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_list_hostile),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_ignored_child),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_judge_hostile),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_choose_none),
		cmocka_unit_test(test_choose_not_worth_it),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_devices_judged),
		cmocka_unit_test(test_shape),
	};
	char command[64];
	int failed;

	if (!mkdtemp(folder))
		return 1;
	setenv("XDG_CACHE_HOME", folder, 1);
	unsetenv("VK_ICD_FILENAMES");
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) || failed;
}
