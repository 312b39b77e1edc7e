/* SPDX-License-Identifier: MIT */
#include "tools/unpu-vdev/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shaders/shaders.h"
#include "tools/lib/sandbox.h"
#if UNPU_VULKAN
#include "runtime/device/vulkan/vulkan.h"
#endif

#define BEAT_NS		(UNPU_PROTO_HEARTBEAT_MS * 1000000ull)
#define FULL_NS		10000000ull	/* until a ring without room is looked at again */
/* A driver that begins anew zeroes its page, in whatever order, before it says so. */
#define BROKEN_NS	20000000ull
#define SLICE_NS	50000000ull	/* of work in one submission to a GPU */
/* A repeat a submission would be a doorbell and an interrupt each. */
#define LEAST_TOKENS	8u
/* Between two looks at the clock. */
#define MAX_COMMANDS	64u

/* ---- what the other parts call -------------------------------------------------------------- */

void vdev_event(struct vdev_worker *w, const struct unpu_proto_event *event)
{
	if (w->link.attached && !w->attaching && vdev_link_event(&w->link, event))
		vdev_link_ring(&w->link);
}

void vdev_answer(struct vdev_worker *w, uint32_t tag, int status, uint64_t value)
{
	const struct unpu_proto_event event = {
		.type = UNPU_PROTO_EVENT_ANSWER, .tag = tag, .status = status, .value = value,
	};

	vdev_event(w, &event);
}

static void counter_add(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return;		/* at its end: it wakes already */
}

static void counter_clear(int fd)
{
	uint64_t value;

	if (read(fd, &value, sizeof(value)) < 0)
		return;
}

void vdev_wake(struct vdev_worker *w)
{
	counter_add(w->wake);
}

void vdev_die(enum vdev_exit how, const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	vdev_log("%s: the worker ends", text);
	_exit(how);
}

/* ---- the device ----------------------------------------------------------------------------- */

static bool is_cpu(const struct vdev_config *config)
{
	return !strcmp(config->device, "cpu");
}

/*
 * Not by unpu_device_open(): that keeps a device which did not come back from its first use from
 * this user's programs. A worker may die of its guest, and takes nobody with it.
 */
static int open_device(const struct vdev_config *config, const struct unpu_device_watch *watch,
		       struct unpu_device **dev)
{
	const struct unpu_device_params params = {
		.threads = config->threads, .watch = watch, .slice_ns = SLICE_NS,
		.log = { vdev_log_library, NULL },
	};

	if (is_cpu(config))
		return unpu_cpu_device_open(&params, dev);
#if UNPU_VULKAN
	return unpu_vulkan_device_open((uint32_t)strtoul(config->device + 7, NULL, 10), &params,
				       dev);
#else
	return -ENODEV;
#endif
}

int vdev_worker_try(const struct vdev_config *config)
{
	struct unpu_device *dev;
	int err = open_device(config, NULL, &dev);

	if (!err)
		dev->ops->close(dev);
	return err;
}

/*
 * Landlock holds who enters and what they start later, seccomp all threads: a GPU's driver is let
 * in after both, the threads of the cpu are there before and read what the machine has.
 */
static int open_held(struct vdev_worker *w, const struct unpu_device_watch *watch)
{
	int err;

	sandbox_allow_punching();
	if (w->config->no_sandbox)
		sandbox_off();
	if (!is_cpu(w->config)) {
		sandbox_allow_gpu_alone();
		sandbox_enter();
		return open_device(w->config, watch, &w->dev);
	}
	err = open_device(w->config, watch, &w->dev);
	sandbox_open_nothing();
	sandbox_enter();
	return err;
}

static int query(struct vdev_worker *w, uint32_t type, void *answer, uint32_t *size)
{
	struct drm_unpu_dev_query args = {
		.type = type, .size = *size, .pointer = (uintptr_t)answer,
	};
	int err = w->dev->ops->dev_query(w->dev, &args);

	*size = args.size;
	return err;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The device's limits, and those of the protocol and of this guest. */
static void limit_info(struct vdev_worker *w)
{
	struct drm_unpu_dev_info *info = &w->info;
	uint64_t window = w->config->window - UNPU_PROTO_HEAP;

	/* What is mappable is the window, however near it is to the device. */
	info->features &= ~(DRM_UNPU_FEATURE_UNIFIED | DRM_UNPU_FEATURE_WAIT_RUNS);
	info->heap_window_bytes = window;
	info->heap_device_bytes = least(info->heap_device_bytes, w->config->memory);
	info->max_bo_bytes = least(info->max_bo_bytes, window > info->heap_device_bytes ?
				   window : info->heap_device_bytes);
	info->max_spec_words = (uint32_t)least(info->max_spec_words, UNPU_PROTO_MAX_SPEC);
	info->max_programs = (uint32_t)least(info->max_programs, UNPU_PROTO_MAX_RUNS);
	info->max_contexts = (uint32_t)least(info->max_contexts, UNPU_PROTO_MAX_CTXS - 1);
	if (info->tokens_per_submit < LEAST_TOKENS)
		info->tokens_per_submit = LEAST_TOKENS;
}

static int device_begin(struct vdev_worker *w, bool alone)
{
	struct drm_unpu_shader_name names[UNPU_PROTO_MAX_SHADERS];
	struct unpu_device_watch watch = vdev_watch;
	uint32_t size = sizeof(w->info);
	int err;

	memset(names, 0, sizeof(names));
	watch.arg = w;
	err = open_held(w, &watch);
	if (!err)
		err = query(w, DRM_UNPU_QUERY_DEV_INFO, &w->info, &size);
	size = sizeof(names);
	if (!err)
		err = query(w, DRM_UNPU_QUERY_DEV_SHADERS, names, &size);
	limit_info(w);
	if (!err)
		err = vdev_objects_init(w, alone);
	if (!err)
		vdev_link_ready(&w->link, &w->info, names, size / (uint32_t)sizeof(names[0]));
	return err;
}

/* ---- attaching ------------------------------------------------------------------------------ */

/* Everything of the driver before ends; what its answers were is not told any more. */
static void forget(struct vdev_worker *w)
{
	w->generation++;
	vdev_objects_forget(w);
}

static void attach_begin(struct vdev_worker *w, uint32_t number)
{
	uint32_t version = vdev_link_version(&w->link);

	vdev_lock(w);
	if (version == UNPU_PROTO_VERSION) {
		w->attaching = true;
		forget(w);
	} else {
		vdev_link_refuse(&w->link, number);
	}
	vdev_unlock(w);
	if (version == UNPU_PROTO_VERSION)
		vdev_ctxs_cancel(w);
	else
		vdev_log_rarely("a driver of protocol version %u is refused, this is %u", version,
				UNPU_PROTO_VERSION);
}

/* The driver may have asked again meanwhile, or gone. */
static void attach_end(struct vdev_worker *w)
{
	uint32_t number = 0;

	vdev_lock(w);
	if (vdev_ctxs_gone(w)) {
		w->attaching = false;
		number = vdev_link_asked(&w->link);
		if (number)
			vdev_link_attach(&w->link, number);
	}
	vdev_unlock(w);
	if (number)
		vdev_log_rarely("a driver attached, epoch %u", w->link.epoch);
}

static void attach(struct vdev_worker *w)
{
	uint32_t number;

	if (w->report.state != VDEV_SERVES)
		return;
	number = vdev_link_asked(&w->link);
	if (number && !w->attaching)
		attach_begin(w, number);
	if (w->attaching)
		attach_end(w);
}

/* Rings that cannot be: nothing of this driver is believed any more. */
static void detach(struct vdev_worker *w)
{
	vdev_log_rarely("the driver's rings are broken: it has to attach again");
	vdev_lock(w);
	vdev_link_detach(&w->link);
	forget(w);
	vdev_unlock(w);
	vdev_ctxs_cancel(w);
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* True: there may be more. */
static bool take_commands(struct vdev_worker *w)
{
	struct unpu_proto_command command;
	uint32_t i;
	int got = 0;

	for (i = 0; i < MAX_COMMANDS; i++) {
		vdev_lock(w);
		got = w->link.attached && !w->attaching ? vdev_link_peek(&w->link, &command) : 0;
		vdev_unlock(w);
		if (got <= 0)
			break;
		vdev_command(w, &command);
	}
	if (got >= 0)
		w->broken_since = 0;
	else if (!w->broken_since)
		w->broken_since = vdev_now();
	else if (vdev_now() - w->broken_since > BROKEN_NS)
		detach(w);
	return got > 0;
}

/* False: nobody hears it. */
static bool beat(struct vdev_worker *w)
{
	struct vdev_report report;

	vdev_lock(w);
	vdev_link_beat(&w->link);
	report = w->report;
	vdev_unlock(w);
	return write(w->fds.report, &report, sizeof(report)) == sizeof(report) || errno == EAGAIN;
}

static void check_deadline(struct vdev_worker *w, uint64_t now)
{
	uint64_t deadline;

	vdev_lock(w);
	deadline = vdev_ctxs_deadline(w);
	vdev_unlock(w);
	if (now >= deadline)
		vdev_die(VDEV_EXIT_STUCK, "a job does not stop");
}

/*
 * A job that hung, or was cancelled, ends as such also when its device was lost by it: that only
 * the device's counters tell.
 */
static void check_lost(struct vdev_worker *w)
{
	struct drm_unpu_dev_stats stats = { 0 };
	uint32_t size = sizeof(stats);
	bool suspect;

	vdev_lock(w);
	suspect = w->suspect;
	w->suspect = false;
	vdev_unlock(w);
	if (suspect && !query(w, DRM_UNPU_QUERY_DEV_STATS, &stats, &size) && stats.resets)
		vdev_die(VDEV_EXIT_LOST, "the device is lost");
}

/* Until the doorbell, a thread of this process, `until`, or the end: then false. */
static bool sleep_until(struct vdev_worker *w, uint64_t until)
{
	struct pollfd fds[] = {
		{ .fd = w->fds.doorbell, .events = POLLIN }, { .fd = w->wake, .events = POLLIN },
		{ .fd = w->fds.report },
	};
	uint64_t now = vdev_now();
	struct timespec time = { 0, 0 };
	bool sleeps;

	vdev_lock(w);
	sleeps = w->attaching || w->report.state != VDEV_SERVES || vdev_link_sleeps(&w->link);
	until = least(until, vdev_ctxs_deadline(w));
	if (w->link.full)
		until = least(until, now + FULL_NS);
	vdev_unlock(w);
	if (sleeps && until > now) {
		time.tv_sec = (time_t)((until - now) / 1000000000u);
		time.tv_nsec = (long)((until - now) % 1000000000u);
	}
	ppoll(fds, 3, &time, NULL);
	vdev_link_wakes(&w->link);
	if (fds[0].revents)
		counter_clear(w->fds.doorbell);
	if (fds[1].revents)
		counter_clear(w->wake);
	return !(fds[2].revents & (POLLERR | POLLNVAL));
}

bool vdev_worker_turn(struct vdev_worker *w)
{
	attach(w);
	return take_commands(w);
}

static void serve(struct vdev_worker *w)
{
	uint64_t beats = vdev_now();
	bool on = true;

	while (on) {
		uint64_t now = vdev_now();

		check_deadline(w, now);
		check_lost(w);
		if (vdev_worker_turn(w))
			beats = least(beats, now + BEAT_NS);
		else
			on = sleep_until(w, beats);
		if (vdev_now() >= beats) {
			on = beat(w) && on;
			beats = vdev_now() + BEAT_NS;
		}
	}
}

/* ---- its life ------------------------------------------------------------------------------- */

static int worker_init(struct vdev_worker *w)
{
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return w->wake < 0 ? -errno : 0;
}

void vdev_worker_end(struct vdev_worker *w)
{
	vdev_objects_finish(w);
	if (w->dev)
		w->dev->ops->close(w->dev);
	if (w->wake >= 0)
		close(w->wake);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	munmap(w->link.window, w->config->window);
	free(w);
}

struct vdev_worker *vdev_worker_begin(const struct vdev_config *config,
				      const struct vdev_fds *fds, bool alone)
{
	struct vdev_worker *w = calloc(1, sizeof(*w));
	void *window = mmap(NULL, config->window, PROT_READ | PROT_WRITE, MAP_SHARED, fds->window,
			    0);
	int err;

	if (!w || window == MAP_FAILED) {
		vdev_log("no memory for a window of %llu bytes",
			 (unsigned long long)config->window);
		free(w);
		return NULL;
	}
	w->config = config;
	w->fds = *fds;
	vdev_link_init(&w->link, window, config->window, fds->interrupt);
	err = worker_init(w);
	beat(w);
	if (!err)
		err = device_begin(w, alone);
	w->report.state = err ? VDEV_FAILED : VDEV_SERVES;
	if (err) {
		vdev_log("%s does not open: %s", config->device, strerror(-err));
		vdev_link_fail(&w->link);
	}
	return w;
}

int vdev_worker_run(const struct vdev_config *config, const struct vdev_fds *fds)
{
	struct vdev_worker *w;

	signal(SIGPIPE, SIG_IGN);
	w = vdev_worker_begin(config, fds, false);
	if (!w)
		return VDEV_EXIT_ERROR;
	serve(w);
	vdev_worker_end(w);
	return VDEV_EXIT_OK;
}
