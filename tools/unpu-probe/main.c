/* SPDX-License-Identifier: MIT */
/*
 * unpu-probe: what a GPU's driver must be able to do before it is let into a process that matters.
 * This one may crash or hang: runtime/device/probe.c starts it, reads its lines and judges its end.
 *
 *   unpu-probe list
 *   unpu-probe test INDEX THREADS LAYERS HIDDEN FFN HEADS KV_HEADS HEAD_DIM VOCAB TYPE F32 BYTES
 *
 * What is written is the business of these two alone and changes with them.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "runtime/device/kat.h"
#include "runtime/device/trial.h"
#include "runtime/device/vulkan/vk.h"

#define MAX_TUNINGS	16
/* Seconds of processor time, all threads together: compilers of shaders take most of it. */
#define MAX_CPU		240
#define MAX_FILE	(64ul << 20)	/* a driver's cache of shaders */
/* After this no other tuning is begun when one is right: a slow compiler must not cost the verdict,
 * for the parent waits three times as long. */
#define ENOUGH_NS	20000000000ull

static char first_error[160];

static void keep_error(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level == UNPU_LOG_ERROR && !first_error[0])
		snprintf(first_error, sizeof(first_error), "%s", text);
}

static const struct unpu_log probe_log = { keep_error, NULL };

static const char *reason(int err)
{
	return first_error[0] ? first_error : strerror(-err);
}

/* A line is there before what comes after it can crash. */
static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void tell(const char *format, ...)
{
	char line[400];
	va_list args;
	size_t i;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (i = 0; line[i]; i++)
		if (line[i] < ' ' || line[i] > '~')
			line[i] = '?';
	puts(line);
	fflush(stdout);
}

static void limit(int resource, rlim_t value)
{
	const struct rlimit limits = { value, value };

	setrlimit(resource, &limits);
}

static int list(void)
{
	struct unpu_vulkan_info info;
	uint32_t count = 0, i;
	int err = unpu_vulkan_count(&probe_log, &count);

	for (i = 0; i < count && !err; i++) {
		info = (struct unpu_vulkan_info){ 0 };
		first_error[0] = '\0';
		err = unpu_vulkan_describe(i, &probe_log, &info);
		if (err) {
			snprintf(info.why, sizeof(info.why), "%.120s", reason(err));
			err = 0;
		}
		tell("device %u %u %llu %s", i, (unsigned int)info.type,
		     (unsigned long long)info.heap_bytes, info.key[0] ? info.key : "-");
		tell("name %u %s", i, info.name);
		tell("driver %u %s", i, info.driver);
		if (info.why[0])
			tell("why %u %s", i, info.why);
	}
	tell("end");
	return err ? 1 : 0;
}

/* ---- one device ---------------------------------------------------------------------------- */

struct test {
	uint32_t index, threads;
	struct unpu_device_shape shape;
	struct unpu_device *cpu;
	uint64_t began, best;	/* ns a token of the best tuning that is right; 0: none is yet */
};

static struct unpu_device_params device_params(const struct test *t, const char *tuning)
{
	return (struct unpu_device_params){ .threads = t->threads, .tuning = tuning,
					    .log = probe_log };
}

/* What is right is timed; a tuning that cannot be the best need not be right. */
static int try_tuning(struct test *t, const char *tuning, struct unpu_device *dev)
{
	const struct unpu_kat_params kat = {
		.shape = &t->shape, .half = !strncmp(tuning, "f16", 3), .matrices = t->best != 0,
	};
	char why[160] = "";
	uint64_t ns = 0;
	int err = t->best ? unpu_trial_run(dev, &t->shape, &ns) : 0;

	if (!err && ns && ns >= t->best) {
		tell("slower %s %llu", tuning, (unsigned long long)ns);
		return 0;
	}
	if (!err && unpu_kat_run(dev, t->cpu, &kat, why, sizeof(why))) {
		tell("wrong %s %s", tuning, why);
		return -EBADMSG;
	}
	if (!err && !ns)
		err = unpu_trial_run(dev, &t->shape, &ns);
	if (err) {
		tell("wrong %s the timed trial fails: %s", tuning, reason(err));
		return err;
	}
	tell("right %s %llu", tuning, (unsigned long long)ns);
	t->best = ns;
	return 0;
}

static int test_tuning(struct test *t, const char *tuning)
{
	const struct unpu_device_params params = device_params(t, tuning);
	struct unpu_device *dev;
	int err;

	tell("begin %s", tuning);
	first_error[0] = '\0';
	err = unpu_vulkan_device_open(t->index, &params, &dev);
	if (err) {
		tell("wrong %s %s", tuning, reason(err));
		return err;
	}
	unpu_vk_hook_probe();
	err = try_tuning(t, tuning, dev);
	dev->ops->close(dev);
	return err;
}

/* In which class the device would run such weights. */
static int ask_class(const struct test *t, uint32_t *numeric)
{
	const struct unpu_device_params params = device_params(t, NULL);
	struct drm_unpu_matrix matrix;
	struct unpu_device *dev;
	struct unpu_rig rig;
	int err = unpu_vulkan_device_open(t->index, &params, &dev);

	if (err)
		return err;
	err = unpu_rig_init(&rig, dev);
	if (!err) {
		err = unpu_rig_matrix(&rig.info, &t->shape, true, &matrix);
		*numeric = matrix.numeric;
		unpu_rig_finish(&rig);
	}
	dev->ops->close(dev);
	return err;
}

static int test_device(struct test *t)
{
	char tunings[MAX_TUNINGS][UNPU_VULKAN_TUNING];
	uint32_t count = 0, numeric = 0, i;
	uint64_t ns;
	int err = unpu_trial_run(t->cpu, &t->shape, &ns);

	if (err) {
		tell("refused the cpu's trial fails: %s", reason(err));
		return 1;
	}
	tell("cpu %llu", (unsigned long long)ns);
	err = ask_class(t, &numeric);
	err = err ? err : unpu_vulkan_tunings(t->index, t->shape.type, numeric, &probe_log,
					      tunings, MAX_TUNINGS, &count);
	if (err || !count) {
		tell("refused %s", err ? reason(err) : "no shader for such weights");
		return 1;
	}
	for (i = 0; i < count; i++)
		if (!t->best || unpu_rig_now() - t->began < ENOUGH_NS)
			test_tuning(t, tunings[i]);
	tell("end");
	return 0;
}

static int read_number(const char *text, unsigned long long most, unsigned long long *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || end == text || *end || *text == '-' || *value > most ? -EINVAL : 0;
}

static int test(char **argv)
{
	struct test t = { .began = unpu_rig_now() };
	uint32_t *const words[] = {
		&t.index, &t.threads, &t.shape.layers, &t.shape.hidden, &t.shape.ffn,
		&t.shape.heads, &t.shape.kv_heads, &t.shape.head_dim, &t.shape.vocab,
		&t.shape.type, &t.shape.class_f32,
	};
	const size_t count = sizeof(words) / sizeof(words[0]);
	struct unpu_device_params params;
	unsigned long long value;
	size_t i;
	int err;

	for (i = 0; i < count; i++) {
		if (!argv[i] || read_number(argv[i], UINT32_MAX, &value))
			return 2;
		*words[i] = (uint32_t)value;
	}
	if (!argv[i] || read_number(argv[i], UINT64_MAX, &value) || argv[i + 1])
		return 2;
	t.shape.bytes = value;
	if (!t.shape.layers || !t.shape.kv_heads || t.shape.heads < t.shape.kv_heads)
		return 2;
	params = device_params(&t, NULL);
	err = unpu_cpu_device_open(&params, &t.cpu);
	if (err) {
		tell("refused the cpu: %s", reason(err));
		return 1;
	}
	err = test_device(&t);
	t.cpu->ops->close(t.cpu);
	return err;
}

int main(int argc, char **argv)
{
	/* Nobody is left to read the lines when the parent goes. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_CPU, MAX_CPU);
	limit(RLIMIT_FSIZE, MAX_FILE);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		tell("unpu-probe 1");
		return list();
	}
	if (argc > 2 && !strcmp(argv[1], "test")) {
		tell("unpu-probe 1");
		return test(argv + 2);
	}
	fputs("unpu-probe is for libunpu: `unpu devices` lists what it finds\n", stderr);
	return 2;
}
