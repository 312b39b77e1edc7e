/* SPDX-License-Identifier: MIT */
/*
 * The client of the kernel driver, against a kernel in the process (tests/hooks/accel.c): which
 * nodes it takes, what it says when there is none, every call, and what becomes of waits, of
 * interrupts and of a node that goes away. The tests of sessions run through it, too
 * (build/tests/accel).
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/core.h"
#include "runtime/device/accel/accel.h"
#include "runtime/device/choose.h"
#include "tests/hooks/accel.h"
#include "tests/lib/errno_rows.h"
#include "tests/lib/fake.h"
#include "tests/lib/subject.h"

static char said[512], folder[] = "/tmp/unpu-accel-XXXXXX";
static int errors;

static void listen(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level == UNPU_LOG_ERROR && !errors++)
		snprintf(said, sizeof(said), "%s", text);
}

static const struct unpu_log to_test = { listen, NULL };

static int open_device(const char *id, struct unpu_device **dev)
{
	const struct unpu_device_params params = { .log = to_test };

	errors = 0;
	said[0] = '\0';
	*dev = NULL;
	return unpu_device_open(id, &params, dev);
}

static void good_node(struct node *node, const char *path)
{
	node->path = path;
	node->gpuish = (struct gpuish_params){ .tokens_per_submit = 8 };
}

static int start(void **state)
{
	(void)state;
	nodes_reset();
	unpu_devices_forget(NULL, NULL);
	return 0;
}

/* Whatever a test did: no file and no mapping of a node is left. */
static int check_all_closed(void **state)
{
	(void)state;
	for (int i = 0; i < NODES; i++)
		if (nodes[i].files || nodes[i].mappings) {
			print_error("node %d: %u files and %u mappings are left\n", i,
				    nodes[i].files, nodes[i].mappings);
			return -1;
		}
	return 0;
}

static void assert_says(const char *words)
{
	assert_int_equal(errors, 1);
	if (!strstr(said, words))
		fail_msg("\"%s\" does not say \"%s\"", said, words);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void nodes_are_counted(void **state)
{
	struct unpu_accel_info infos[UNPU_ACCEL_MAX_NODES];
	struct unpu_device *dev;

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].driver = "habanalabs";
	good_node(&nodes[1], "/dev/dri/renderD128");
	nodes[1].driver = "i915";
	good_node(&nodes[2], "/dev/dri/renderD129");
	good_node(&nodes[3], "/dev/accel/accel17");
	assert_int_equal(unpu_accel_list(infos), 2);
	assert_string_equal(infos[0].path, "/dev/accel/accel17");
	assert_string_equal(infos[1].path, "/dev/dri/renderD129");
	assert_string_equal(infos[0].name, "like a GPU");
	assert_string_equal(infos[0].driver, "unpu 1.0.0");
	assert_string_equal(infos[0].why, "");
	assert_string_equal(infos[0].key, infos[1].key);
	assert_int_equal(nodes[0].opens + nodes[1].opens, 0);
	assert_int_equal(open_device("accel:1", &dev), 0);
	assert_string_equal(dev->id, "accel:1");
	assert_int_equal(nodes[2].files, 1);
	assert_null(dev->ops->bo_import);
	dev->ops->close(dev);
	assert_int_equal(open_device("accel:2", &dev), -ENODEV);
	assert_says("there is no accel:2: the driver unpu has 2 nodes");
}

/* Where /sys is out of sight the driver's name is asked for. */
static void nobody_says_whose(void **state)
{
	struct unpu_device *dev;

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].driver = "rocket";
	good_node(&nodes[1], "/dev/accel/accel1");
	nodes[0].hidden = nodes[1].hidden = true;
	assert_int_equal(open_device("accel:0", &dev), 0);
	assert_int_equal(nodes[0].opens, 1);
	assert_int_equal(nodes[1].files, 1);
	dev->ops->close(dev);
	/* A render node that may not be opened is a GPU's rather than ours. */
	nodes[1].path = "/dev/dri/renderD128";
	nodes[1].err = -EACCES;
	assert_int_equal(open_device("accel:0", &dev), -ENODEV);
	nodes[1].path = "/dev/accel/accel1";
	assert_int_equal(open_device("accel:0", &dev), -EACCES);
}

static void what_is_missing_is_said(void **state)
{
	struct unpu_device *dev;

	(void)state;
	assert_int_equal(open_device("accel:0", &dev), -ENODEV);
	if (access("/sys/module/unpu", F_OK))
		assert_says("not loaded (modprobe unpu)");
	else
		assert_says("has found no device");
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].err = -EACCES;
	assert_int_equal(open_device("accel:0", &dev), -EACCES);
	assert_says("the group render");
	assert_says("60-unpu.rules");
	assert_says("/dev/accel/accel0");
	nodes[0].err = -EBUSY;
	assert_int_equal(open_device("accel:0", &dev), -EBUSY);
	assert_says("/dev/accel/accel0 does not open");
	nodes[0].err = 0;
	nodes[0].gone = true;
	assert_int_equal(open_device("accel:0", &dev), -ENODEV);
	assert_int_equal(open_device("accel:100", &dev), -ENODEV);
	assert_says("no device is called");
	assert_says("accel:N");
}

static void of_version_2(struct drm_unpu_dev_info *info)
{
	info->version_major = 2;
	info->version_minor = 7;
}

static void of_minor_9(struct drm_unpu_dev_info *info)
{
	info->version_minor = 9;
}

static void without_align(struct drm_unpu_dev_info *info)
{
	info->binding_align = 0;
}

static void with_odd_align(struct drm_unpu_dev_info *info)
{
	info->binding_align = 96;
}

static void with_many_matrices(struct drm_unpu_dev_info *info)
{
	info->num_matrices = DRM_UNPU_MAX_MATRICES + 1;
}

static void with_long_name(struct drm_unpu_dev_info *info)
{
	memset(info->name, 'x', sizeof(info->name));
}

static void strange_devices_are_refused(void **state)
{
	static const struct {
		void (*change)(struct drm_unpu_dev_info *info);
		int err;
		const char *words;
	} cases[] = {
		{ of_version_2, -ENOTSUP, "version 2.7 of the device interface" },
		{ of_minor_9, 0, "" },
		{ without_align, -EPROTO, "make no sense" },
		{ with_odd_align, -EPROTO, "make no sense" },
		{ with_many_matrices, -EPROTO, "make no sense" },
		{ with_long_name, -EPROTO, "make no sense" },
	};
	struct unpu_device *dev;

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		nodes[0].info = cases[i].change;
		assert_int_equal(open_device("accel:0", &dev), cases[i].err);
		if (cases[i].err)
			assert_says(cases[i].words);
		else
			dev->ops->close(dev);
	}
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The rows of the errno table, with the engine of the frame's own tests behind the node. */
struct behind {
	struct errno_device base;
	struct unpu_device *dev;
};

static struct fake *behind_fake;

static int open_fake(struct node *node, struct unpu_device **dev)
{
	(void)node;
	*dev = fake_device_threaded(&behind_fake);
	return 0;
}

static int open_without_memory(struct node *node, struct unpu_device **dev)
{
	(void)node;
	*dev = fake_device_without_memory();
	return 0;
}

static int core_call(struct unpu_device *dev, enum errno_call call, void *args)
{
	const struct drm_syncobj_timeline_wait *wait = args;

	switch (call) {
	case ERRNO_CALL_GEM_CLOSE:
		return dev->ops->bo_close(dev, ((struct drm_gem_close *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_CREATE:
		return dev->ops->syncobj_create(dev, &((struct drm_syncobj_create *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_DESTROY:
		return dev->ops->syncobj_destroy(dev,
						 ((struct drm_syncobj_destroy *)args)->handle);
	case ERRNO_CALL_SYNCOBJ_WAIT:
		return dev->ops->syncobj_wait(dev, *(uint32_t *)(uintptr_t)wait->handles,
					      *(uint64_t *)(uintptr_t)wait->points,
					      (uint64_t)wait->timeout_nsec);
	default:
		return -ENOSYS;
	}
}

static int behind_call(struct errno_device *device, enum errno_call call, void *args)
{
	struct unpu_device *dev = ((struct behind *)device)->dev;
	const struct unpu_device_ops *ops = dev->ops;

	switch (call) {
	case ERRNO_CALL_DEV_QUERY:
		return ops->dev_query(dev, args);
	case ERRNO_CALL_BO_CREATE:
		return ops->bo_create(dev, args);
	case ERRNO_CALL_BO_MMAP_OFFSET:
		return ops->bo_mmap_offset(dev, args);
	case ERRNO_CALL_CTX_CREATE:
		return ops->ctx_create(dev, args);
	case ERRNO_CALL_CTX_DESTROY:
		return ops->ctx_destroy(dev, args);
	case ERRNO_CALL_CTX_QUERY:
		return ops->ctx_query(dev, args);
	case ERRNO_CALL_SHADER_CREATE:
		return ops->shader_create(dev, args);
	case ERRNO_CALL_SHADER_DESTROY:
		return ops->shader_destroy(dev, args);
	case ERRNO_CALL_PROGRAM_CREATE:
		return ops->program_create(dev, args);
	case ERRNO_CALL_PROGRAM_DESTROY:
		return ops->program_destroy(dev, args);
	case ERRNO_CALL_SUBMIT:
		return ops->submit(dev, args);
	default:
		return core_call(dev, call, args);
	}
}

static void behind_close(struct errno_device *device)
{
	struct behind *b = (struct behind *)device;

	b->dev->ops->close(b->dev);
}

static int behind_hold(struct errno_device *device, uint32_t ctx)
{
	(void)device;
	(void)ctx;
	behind_fake->hold = true;
	return 0;
}

static int behind_guilty(struct errno_device *device, uint32_t *ctx)
{
	struct unpu_device *dev = ((struct behind *)device)->dev;
	uint32_t window = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP), syncobj = fake_syncobj(dev);
	int err;

	*ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	behind_fake->fail = EIO;
	err = fake_submit(dev, *ctx, fake_program(dev, window, window, 1, false), 1, syncobj, 0);
	err = err ? err : dev->ops->syncobj_wait(dev, syncobj, 0, UINT64_MAX);
	behind_fake->fail = 0;
	return err;
}

static int behind_no_memory(struct errno_device *device, struct errno_rig *rig)
{
	struct behind *b = (struct behind *)device;

	b->dev->ops->close(b->dev);
	nodes[0].open = open_without_memory;
	rig->calls = 1u << ERRNO_CALL_BO_CREATE;
	return unpu_accel_client_create(0, 0, NULL, &b->dev);
}

static int behind_gone(struct errno_device *device)
{
	(void)device;
	nodes[0].gone = true;
	return 0;
}

static struct errno_device *open_behind(struct behind *b)
{
	*b = (struct behind){ .base = {
		.call = behind_call,
		.close = behind_close,
		.hold = behind_hold,
		.guilty = behind_guilty,
		.no_memory = behind_no_memory,
		.gone = behind_gone,
		.no_address = UINTPTR_MAX == UINT32_MAX ? 1ull << 32 : 0,
	} };
	nodes[0].open = open_fake;
	nodes[0].gone = false;
	assert_int_equal(unpu_accel_client_create(0, 0, NULL, &b->dev), 0);
	return &b->base;
}

/* Of those for nodes alone, the kernel here has one; a node takes nobody's memory for a buffer. */
static bool has_row(const struct errno_row *row)
{
	return !row->flags || strstr(row->name, "gone");
}

static void calls_succeed_and_fail_as_the_table_says(void **state)
{
	int variant, variants, tested = 0;
	struct behind b;
	char why[200];

	(void)state;
	nodes[0].path = "/dev/accel/accel0";
	for (int call = 0; call < ERRNO_CALLS; call++)
		if (errno_valid_check((enum errno_call)call, open_behind(&b), why, sizeof(why)))
			fail_msg("%s", why);
	for (size_t i = 0; i < errno_num_rows; i++) {
		const struct errno_row *row = &errno_rows[i];

		variants = has_row(row) ? 1 : 0;
		for (variant = 0; variant < variants; variant++)
			if (errno_row_check(row, variant, open_behind(&b), &variants, why,
					    sizeof(why)))
				fail_msg("%s, variant %d: %s", row->name, variant, why);
		tested += variants;
	}
	assert_true(tested > 100);
	if (errno_index_check(open_behind(&b), why, sizeof(why)))
		fail_msg("%s", why);
}

/* Buffers: mapped more than once, beyond their handle, and never with a wrong size. */
static void mappings_are_kept(void **state)
{
	struct drm_unpu_bo_create bo = { .size = 10000, .flags = DRM_UNPU_BO_MMAP };
	struct unpu_device *dev;
	void *a, *b, *c;

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	assert_int_equal(open_device("accel:0", &dev), 0);
	assert_int_equal(dev->ops->bo_create(dev, &bo), 0);
	assert_int_equal(bo.size, 12288);
	assert_int_equal(dev->ops->bo_map(dev, bo.handle, &a), 0);
	assert_int_equal(dev->ops->bo_map(dev, bo.handle, &b), 0);
	memset(a, 1, 12288);
	assert_int_equal(dev->ops->bo_close(dev, bo.handle), 0);
	assert_int_equal(nodes[0].mappings, 2);
	assert_int_equal(dev->ops->bo_unmap(dev, bo.handle, b, 4096), -EINVAL);
	assert_int_equal(dev->ops->bo_unmap(dev, bo.handle, b, 10000), 0);
	((uint8_t *)a)[12287] = 2;
	assert_int_equal(dev->ops->bo_unmap(dev, bo.handle, (uint8_t *)a + 4096, 8192), -EINVAL);
	assert_int_equal(dev->ops->bo_map(dev, bo.handle, &c), -ENOENT);
	assert_int_equal(dev->ops->bo_map(dev, 77, &c), -ENOENT);
	bo.flags = 0;
	assert_int_equal(dev->ops->bo_create(dev, &bo), 0);
	assert_int_equal(dev->ops->bo_map(dev, bo.handle, &c), -EINVAL);
	assert_int_equal(nodes[0].mappings, 1);
	dev->ops->close(dev);	/* ends the other one */
}

/* ---- waits ----------------------------------------------------------------------------------- */

static struct unpu_device *open_slow(uint32_t *ctx, uint32_t *program, uint32_t *syncobj)
{
	struct unpu_device *dev;
	uint32_t window;

	nodes[0].path = "/dev/accel/accel0";
	nodes[0].open = open_fake;
	assert_int_equal(open_device("accel:0", &dev), 0);
	*ctx = fake_ctx(dev, DRM_UNPU_PRIORITY_NORMAL, 0);
	*syncobj = fake_syncobj(dev);
	window = fake_bo(dev, 4096, DRM_UNPU_BO_MMAP);
	*program = fake_program(dev, window, window, 1, false);
	return dev;
}

static void waits_end_in_time(void **state)
{
	uint32_t ctx, program, syncobj, every;
	struct unpu_device *dev = open_slow(&ctx, &program, &syncobj);
	const struct unpu_device_ops *ops = dev->ops;

	(void)state;
	assert_int_equal(ops->syncobj_wait(dev, syncobj, 0, 0), -EINVAL);
	assert_int_equal(ops->syncobj_wait(dev, syncobj, 3, UINT64_MAX), -EINVAL);
	assert_int_equal(ops->syncobj_wait(dev, 99, 0, UINT64_MAX), -ENOENT);
	for (every = 0; every < 3; every++) {	/* 1: the kernel itself sees to it alone */
		uint64_t begin = fake_now();

		nodes_interrupt(every == 1 ? 0 : every);
		behind_fake->hold = true;
		assert_int_equal(fake_submit(dev, ctx, program, 1, syncobj, 2 * every + 1), 0);
		errors = 0;
		assert_int_equal(ops->syncobj_wait(dev, syncobj, 2 * every + 1, 0), -ETIME);
		assert_int_equal(ops->syncobj_wait(dev, syncobj, 2 * every + 1, begin + 50000000),
				 -ETIME);
		assert_true(fake_now() - begin >= 50000000);
		assert_int_equal(errors, 0);
		behind_fake->hold = false;
		assert_int_equal(ops->syncobj_wait(dev, syncobj, 2 * every + 1, UINT64_MAX), 0);
	}
	assert_int_equal(ops->syncobj_wait(dev, syncobj, 2, 0), 0);
	nodes_interrupt(0);
	ops->close(dev);
}

struct waiter {
	struct unpu_device *dev;
	uint32_t syncobj;
	int ret;
};

static void *wait_on(void *arg)
{
	struct waiter *w = arg;

	w->ret = w->dev->ops->syncobj_wait(w->dev, w->syncobj, 0, UINT64_MAX);
	return NULL;
}

/* Closing a descriptor alone would leave it in its call. */
static void closing_wakes_who_waits(void **state)
{
	const struct timespec nap = { 0, 30000000 };
	uint32_t ctx, program;
	struct waiter w = { .ret = 1 };
	pthread_t thread;

	(void)state;
	w.dev = open_slow(&ctx, &program, &w.syncobj);
	behind_fake->hold = true;
	assert_int_equal(fake_submit(w.dev, ctx, program, 1, w.syncobj, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_on, &w), 0);
	nanosleep(&nap, NULL);
	w.dev->ops->close(w.dev);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.ret, 0);
}

/* ---- texts ----------------------------------------------------------------------------------- */

static const struct tiny_params tiny = { .arch = "llama", .type = 8, .tied = -1, .seed = 7 };

static void text_on(const char *device, struct subject_text *text)
{
	struct unpu_session *session;
	uint32_t ids[9];
	struct subject s;

	subject_device = device;
	subject_errors = subject_warnings = 0;
	subject_open_tiny(&s, &tiny, 1, 0);
	session = subject_session(&s, NULL);
	subject_ids(&s, ids, 9);
	memset(text, 0, sizeof(*text));
	assert_int_equal(unpu_session_prompt(session, ids, 9), 0);
	assert_int_equal(unpu_session_generate(session, 30, subject_collect, text),
			 UNPU_REASON_LENGTH);
	unpu_session_destroy(session);
	subject_close(&s);
	subject_device = NULL;
}

static void assert_same_text(const struct subject_text *a, const struct subject_text *b)
{
	assert_int_equal(a->count, b->count);
	assert_memory_equal(a->ids, b->ids, a->count * sizeof(a->ids[0]));
	assert_int_equal(a->length, b->length);
	assert_memory_equal(a->text, b->text, a->length);
}

static void interrupts_change_nothing(void **state)
{
	static struct subject_text want, got;

	(void)state;
	text_on("cpu", &want);
	good_node(&nodes[0], "/dev/accel/accel0");
	for (uint32_t every = 2; every < 6; every++) {
		nodes_interrupt(every);
		text_on("accel:0", &got);
		assert_same_text(&got, &want);
		assert_int_equal(subject_warnings, 0);
	}
}

/* From the moment that the session is there; what fails before that is the caller's to know. */
static uint32_t text_with_fault(struct subject_text *text, uint32_t nth, int err)
{
	struct unpu_session *session;
	uint32_t ids[9], calls;
	struct subject s;

	subject_device = "accel:0";
	subject_errors = subject_warnings = 0;
	subject_open_tiny(&s, &tiny, 1, 0);
	session = subject_session(&s, NULL);
	subject_ids(&s, ids, 9);
	memset(text, 0, sizeof(*text));
	nodes_fail(nth, err);
	assert_int_equal(unpu_session_prompt(session, ids, 9), 0);
	assert_int_equal(unpu_session_generate(session, 30, subject_collect, text),
			 UNPU_REASON_LENGTH);
	calls = nodes_calls();
	unpu_session_destroy(session);
	nodes_fail(0, 0);
	subject_close(&s);
	subject_device = NULL;
	return calls;
}

/* Whichever call it is that the device is gone at, or refuses. */
static void the_conversation_goes_on_on_the_cpu(void **state)
{
	static const int errs[] = { -ENODEV, -EIO, -ENOMEM, -ESTALE };
	static struct subject_text want, got;
	uint32_t calls;

	(void)state;
	text_on("cpu", &want);
	good_node(&nodes[0], "/dev/accel/accel0");
	calls = text_with_fault(&got, 0, 0);
	assert_same_text(&got, &want);
	assert_int_equal(subject_warnings, 0);
	assert_true(calls > 10);
	for (size_t e = 0; e < sizeof(errs) / sizeof(errs[0]); e++) {
		for (uint32_t nth = 1; nth <= calls; nth++) {
			text_with_fault(&got, nth, errs[e]);
			assert_same_text(&got, &want);
			if (subject_errors || subject_warnings != 1 ||
			    !strstr(subject_warning, "going on on cpu"))
				fail_msg("call %u gives %d: %d errors, %d warnings: %s", nth,
					 errs[e], subject_errors, subject_warnings,
					 subject_warning);
		}
	}
}

static void lost_and_hung_jobs_are_left(void **state)
{
	static struct subject_text want, got;
	uint32_t runs;

	(void)state;
	text_on("cpu", &want);
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].gpuish.timeout_ns = 100000000;
	text_on("accel:0", &got);
	assert_same_text(&got, &want);
	runs = nodes[0].runs;	/* the last 30 are tokens */
	assert_true(runs > 30);
	for (uint32_t i = 0; i < 18; i++) {
		uint32_t at = runs - 30 + i / 3 * 5;

		nodes[0].fault = i % 3 == 0 ? GPUISH_LOST : GPUISH_HANG;
		nodes[0].fault_at = i % 3 < 2 ? at : 0;
		nodes[0].gone_at = i % 3 < 2 ? 0 : at;
		nodes[0].gone = false;
		text_on("accel:0", &got);
		assert_same_text(&got, &want);
		if (subject_errors || subject_warnings != 1 || !strstr(subject_warning, "accel:0"))
			fail_msg("run %u: %d errors, %d warnings: %s", at, subject_errors,
				 subject_warnings, subject_warning);
	}
}

/* ---- auto ------------------------------------------------------------------------------------ */

static void choose_with(const struct unpu_device_shape *shape, char id[16])
{
	const struct unpu_device_params params = { .threads = 1, .shape = shape };

	unpu_choose(&params, id);
}

static const struct unpu_device_shape small = {
	.layers = 2, .hidden = 72, .ffn = 112, .heads = 6, .kv_heads = 2, .head_dim = 16,
	.vocab = 300, .type = 8, .bytes = 1 << 20,
};

/* As if a trial had found it. */
static void remember(bool faster, const char *why)
{
	struct unpu_accel_info infos[UNPU_ACCEL_MAX_NODES];
	struct unpu_verdict verdict = { .use = faster, .device_ns = 1000, .cpu_ns = 2000 };
	char words[UNPU_VERDICT_SHAPE];

	assert_int_equal(unpu_accel_list(infos), 1);
	unpu_verdict_shape(&small, words);
	snprintf(verdict.why, sizeof(verdict.why), "%s", why);
	unpu_verdict_put(&to_test, "accel:0", infos[0].key, words, &verdict);
}

static void trials_judge(void **state)
{
	struct unpu_verdict verdict;

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	assert_int_equal(unpu_accel_test(0, 1, &small, &verdict), 0);
	assert_true(verdict.cpu_ns && verdict.device_ns);
	assert_int_equal(verdict.use, verdict.device_ns < verdict.cpu_ns);
	assert_int_equal(!verdict.use, !!verdict.why[0]);
	nodes[0].wrong = true;
	assert_int_equal(unpu_accel_test(0, 1, &small, &verdict), 0);
	assert_false(verdict.use);
	assert_non_null(strstr(verdict.why, "copy.1"));
	nodes[0].wrong = false;
	nodes[0].fault = GPUISH_LOST;
	nodes[0].fault_at = 5;
	assert_true(unpu_accel_test(0, 1, &small, &verdict) < 0);
	assert_false(verdict.use);
	assert_string_not_equal(verdict.why, "");
	assert_true(unpu_accel_test(3, 1, &small, &verdict) < 0);
	assert_non_null(strstr(verdict.why, "no accel:3"));
}

static void auto_takes_what_is_faster(void **state)
{
	struct unpu_device *dev;
	const struct unpu_device_params params = { .threads = 1, .shape = &small, .log = to_test };
	char id[16];

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	remember(true, "");
	choose_with(&small, id);
	assert_string_equal(id, "accel:0");
	assert_int_equal(unpu_device_open("auto", &params, &dev), 0);
	assert_string_equal(dev->id, "accel:0");
	dev->ops->close(dev);
	/* Gone since: the cpu, and no error. */
	errors = 0;
	nodes[0].err = -ENODEV;
	assert_int_equal(unpu_device_open("auto", &params, &dev), 0);
	assert_string_equal(dev->id, "cpu");
	dev->ops->close(dev);
	nodes[0].err = 0;
	unpu_devices_forget(NULL, NULL);
	remember(false, "wrong");
	choose_with(&small, id);
	assert_string_equal(id, "cpu");
	/* Another device behind the node is tried anew: what it is, is part of the name. */
	nodes[0].info = of_minor_9;
	choose_with(&small, id);
	assert_string_equal(id, "cpu");
}

static void failed_trials_are_not_remembered(void **state)
{
	uint32_t opens;
	char id[16];

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].fault = GPUISH_LOST;
	nodes[0].fault_at = 3;
	choose_with(&small, id);
	assert_string_equal(id, "cpu");
	opens = nodes[0].opens;
	nodes[0].fault_at = 0;
	remember(true, "");
	choose_with(&small, id);
	assert_string_equal(id, "accel:0");
	assert_true(nodes[0].opens > opens);
}

/* A device process that stands still: no call comes back. */
static void auto_does_not_hang(void **state)
{
	static struct subject_text want, got;
	uint64_t begin = fake_now();
	struct unpu_device *dev;
	char id[16];

	(void)state;
	text_on("cpu", &want);
	good_node(&nodes[0], "/dev/accel/accel0");
	nodes[0].stuck = true;
	assert_int_equal(open_device("accel:0", &dev), -ETIMEDOUT);
	assert_says("does not answer");
	choose_with(&small, id);
	assert_string_equal(id, "cpu");
	remember(true, "");
	text_on("auto", &got);
	assert_same_text(&got, &want);
	assert_true(fake_now() - begin < 60000000000ull);
	/* What was left behind ends by itself, and closes what it had opened. */
	nodes[0].stuck = false;
	while (nodes[0].files && fake_now() - begin < 70000000000ull)
		usleep(1000);
	assert_int_equal(nodes[0].files, 0);
}

struct seen {
	int count;
	struct unpu_device_info infos[8];
};

static int collect(void *arg, const struct unpu_device_info *info)
{
	struct seen *seen = arg;

	if (strncmp(info->id, "vulkan", 6))
		seen->infos[seen->count++] = *info;
	return 0;
}

static void devices_are_listed(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	good_node(&nodes[0], "/dev/accel/accel0");
	good_node(&nodes[1], "/dev/accel/accel1");
	nodes[1].err = -EACCES;
	assert_int_equal(unpu_devices(collect, &seen), 0);
	assert_int_equal(seen.count, 3);
	for (int i = 0; i < seen.count; i++) {
		const struct unpu_device_info *is = &seen.infos[i];

		if (!strcmp(is->id, "accel:0")) {
			assert_int_equal(is->usable, 1);
			assert_string_equal(is->driver, "unpu 1.0.0");
			assert_string_equal(is->name, "like a GPU");
			assert_string_not_equal(is->verdict, "");
		} else if (!strcmp(is->id, "accel:1")) {
			assert_int_equal(is->usable, 0);
			assert_non_null(strstr(is->why, "group render"));
			assert_non_null(strstr(is->why, "60-unpu.rules"));
		} else {
			assert_string_equal(is->id, "cpu");
		}
	}
}

static int begin_group(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	setenv("XDG_CACHE_HOME", folder, 1);
	unsetenv("UNPU_SUBJECT_DEVICE");
	return 0;
}

static int end_group(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

#define TEST(name)	cmocka_unit_test_setup_teardown(name, start, check_all_closed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nodes_are_counted),
		TEST(nobody_says_whose),
		TEST(what_is_missing_is_said),
		TEST(strange_devices_are_refused),
		TEST(calls_succeed_and_fail_as_the_table_says),
		TEST(mappings_are_kept),
		TEST(waits_end_in_time),
		TEST(closing_wakes_who_waits),
		TEST(interrupts_change_nothing),
		TEST(the_conversation_goes_on_on_the_cpu),
		TEST(lost_and_hung_jobs_are_left),
		TEST(trials_judge),
		TEST(auto_takes_what_is_faster),
		TEST(failed_trials_are_not_remembered),
		TEST(auto_does_not_hang),
		TEST(devices_are_listed),
	};

	return cmocka_run_group_tests(tests, begin_group, end_group);
}
