// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every call, with each allocation and each copy from or to user memory in it failing in turn, by
 * /proc/self/fail-nth: what fails has changed nothing and works when it is made again, what
 * succeeds all the same is whole, and in the end all is as it was. What other tasks allocate is not
 * reached by that: there, allocations fail by chance.
 *
 * One failure changes something: that of the copy of a call's results to its caller, which the DRM
 * core makes when the call is over. It leaves an object whose number the caller does not have; it
 * goes with its file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"
#include "shaders/shaders.h"
#include "tests/kselftest/lib/faults.h"
#include "tests/kselftest/lib/node.h"

#define PAGE	4096u
#define BYTES	(2 * PAGE)
#define LOW	DRM_UNPU_PRIORITY_LOW
#define NORMAL	DRM_UNPU_PRIORITY_NORMAL
#define HIGH	DRM_UNPU_PRIORITY_HIGH
#define NUM	16u	/* of what a program, or a job, may have several */

/* What a call works on, made anew for each of its failures. */
struct scene {
	struct client c, other;
	uint32_t window, device, ctx, program, slow;
	uint32_t binary, line;	/* syncobjs of jobs that have ended; 4 is the last point */
	uint32_t pending;	/* of one that takes a while */
	int pending_fd;
	uint8_t *map;
	uint64_t seqno;		/* of the last job */
	uint64_t point;		/* that nothing has signalled */

	uint32_t many[NUM];	/* buffers, syncobjs */
	int fd;			/* what a call takes */
	uint64_t made;		/* the number of what a call has made */
	void *mapping;
	bool closed;
};

struct nth_case {
	const char *name;
	void (*prepare)(struct scene *s);
	/* 0 or -errno, and s->made. */
	int (*call)(struct scene *s);
	/* After a success: what was made does what it should. */
	void (*whole)(struct scene *s);
	unsigned int flags;
};

#define CREATES		1u	/* s->made counts up with each */
#define MAKES_FD	2u
#define NEEDS_NO_MEMORY	4u	/* it never fails for lack of it */
#define COPIES_BACK	8u	/* it ends something, and then its argument is copied back */
#define MAY_BE_EINVAL	16u	/* the core's word for no memory */

static struct client stays;
static const struct nth_case *current;
static unsigned int current_n;
static bool words;

__attribute__((noreturn, format(printf, 1, 2))) static void bad(const char *format, ...)
{
	char why[200];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	die("%s, failure %u: %s", current->name, current_n, why);
}

/* ---- the scene ----------------------------------------------------------------------------- */

static void wait_for_all(struct scene *s)
{
	if (!ctx_wait(&s->c, s->ctx, s->seqno, PATIENCE_MS))
		bad("a job does not end");
}

static void scene_begin(struct scene *s)
{
	struct drm_unpu_sync syncs[2];

	*s = (struct scene){ .c = client_open(), .other = { .fd = -1 }, .fd = -1,
			     .pending_fd = -1, .mapping = MAP_FAILED };
	s->map = bo_mapped(&s->c, BYTES, &s->window);
	s->device = bo_create(&s->c, BYTES, 0);
	s->ctx = ctx_create(&s->c, NORMAL, 0);
	s->program = copy_create(&s->c, s->window, s->device, BYTES);
	s->binary = syncobj_create(&s->c);
	s->line = syncobj_create(&s->c);
	syncs[0] = sync_signal(s->binary, 0);
	syncs[1] = sync_signal(s->line, 4);
	s->seqno = submit_syncs(&s->c, s->ctx, s->program, 1, syncs, 2);
	s->point = 4;
	wait_for_all(s);
}

/* before: NULL, or what it was when there was no scene. */
static void scene_end(struct scene *s, const struct drm_unpu_dev_stats *before)
{
	if (s->pending_fd >= 0) {
		if (s->closed && !sync_file_status(s->pending_fd, PATIENCE_MS))
			bad("a fence does not signal");
		close(s->pending_fd);
	}
	if (s->mapping != MAP_FAILED)
		munmap(s->mapping, BYTES);
	if (!s->closed) {
		munmap(s->map, BYTES);
		client_close(&s->c);
	}
	if (s->other.fd >= 0)
		client_close(&s->other);
	if (s->fd >= 0)
		close(s->fd);
	if (before && !memory_is(&stays, before))
		bad("memory is left");
}

/* Jobs run in the file, and the last of its context has ended well. */
static void still_works(struct scene *s)
{
	if (s->closed)
		return;
	wait_for_all(s);
	run(&s->c, s->ctx, s->program, 1);
}

/* ---- cases: the file ----------------------------------------------------------------------- */

static int call_open(struct scene *s)
{
	int fd = open(node_path(), O_RDWR | O_CLOEXEC);

	s->made = fd;
	return fd < 0 ? -errno : 0;
}

static void opened(struct scene *s)
{
	struct client c = { .fd = s->made };

	dev_stats(&c);
	shader_create(&c, "copy.1", NULL, 0);
	client_close(&c);
}

/* With all that a file can have, and work to do. */
static void slow_job(struct scene *s)
{
	s->slow = word_program(&s->c, "SLOW");
	s->pending = syncobj_create(&s->c);
	s->seqno = submit(&s->c, s->ctx, s->slow, 3, s->pending);
	s->pending_fd = sync_file_export(&s->c, s->pending);
}

static void nothing_mapped(struct scene *s)
{
	munmap(s->map, BYTES);
	s->closed = true;
}

static void many_jobs(struct scene *s)
{
	slow_job(s);
	for (int i = 0; i < 4; i++)
		s->seqno = submit(&s->c, s->ctx, s->program, 3, 0);
	nothing_mapped(s);
}

static int call_close(struct scene *s)
{
	return close(s->c.fd) ? -errno : 0;
}

static int call_dev_info(struct scene *s)
{
	static struct drm_unpu_dev_info info;
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_INFO, sizeof(info), (uintptr_t)&info,
	};
	int err = call(s->c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);

	if (!err && memcmp(&info, &s->c.info, sizeof(info)))
		bad("the answer is another");
	return err;
}

static int call_dev_stats(struct scene *s)
{
	struct drm_unpu_dev_stats stats;
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_STATS, sizeof(stats), (uintptr_t)&stats,
	};

	return call(s->c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);
}

static int call_dev_shaders(struct scene *s)
{
	static struct drm_unpu_shader_name names[64];
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_SHADERS, sizeof(names), (uintptr_t)names,
	};

	return call(s->c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);
}

/* From opening it to its last byte. */
static int call_fdinfo(struct scene *s)
{
	char path[64], text[2048];
	int fd, bytes, err = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->c.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	bytes = read(fd, text, sizeof(text) - 1);
	if (bytes < 0)
		err = -errno;
	close(fd);
	if (!err) {
		text[bytes] = '\0';
		if (!strstr(text, "unpu-jobs:"))
			bad("fdinfo is not whole");
	}
	return err;
}

/* ---- cases: buffers ------------------------------------------------------------------------ */

static int bo_try(struct scene *s, uint64_t size, uint32_t flags)
{
	struct drm_unpu_bo_create args = { .size = size, .flags = flags };
	int err = call(s->c.fd, DRM_IOCTL_UNPU_BO_CREATE, &args);

	s->made = args.handle;
	return err;
}

static int call_bo_window(struct scene *s) { return bo_try(s, BYTES, WINDOW); }
static int call_bo_device(struct scene *s) { return bo_try(s, BYTES, 0); }
static int call_bo_large(struct scene *s) { return bo_try(s, 2 << 20, WINDOW); }
static int call_bo_large_device(struct scene *s) { return bo_try(s, 6 << 20, 0); }

/* Into it and out again. */
static void bo_whole(struct scene *s)
{
	uint32_t in = copy_create(&s->c, s->window, s->made, BYTES);
	uint32_t out = copy_create(&s->c, s->made, s->window, BYTES);

	memset(s->map, 0x5a, BYTES);
	run(&s->c, s->ctx, in, 1);
	memset(s->map, 0, BYTES);
	run(&s->c, s->ctx, out, 1);
	if (s->map[0] != 0x5a || s->map[BYTES - 1] != 0x5a)
		bad("the buffer does not keep what is written");
}

static void window_whole(struct scene *s)
{
	uint8_t *map = bo_map(&s->c, s->made, BYTES);

	map[BYTES - 1] = 1;
	munmap(map, BYTES);
	bo_whole(s);
}

static void fresh_bo(struct scene *s)
{
	s->many[0] = bo_create(&s->c, BYTES, WINDOW);
}

static int call_mmap_offset(struct scene *s)
{
	return bo_offset(&s->c, s->many[0], &s->made);
}

static int call_gem_close(struct scene *s)
{
	return bo_close(&s->c, s->many[0]);
}

static void gem_closed(struct scene *s)
{
	uint64_t offset;

	if (bo_offset(&s->c, s->many[0], &offset) != -ENOENT)
		bad("a handle is closed and there");
}

/* Where no table of pages is yet: all levels of it are allocations. */
static void *nowhere(void)
{
	static uintptr_t at = 0x100000000000;

	at += 1ull << 39;
	return (void *)at;
}

static int call_mmap(struct scene *s)
{
	uint64_t offset;
	int err = bo_offset(&s->c, s->window, &offset);

	if (err)
		return err;
	s->mapping = mmap(nowhere(), BYTES, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED_NOREPLACE, s->c.fd, offset);
	return s->mapping == MAP_FAILED ? -errno : 0;
}

static void map_it(struct scene *s)
{
	if (call_mmap(s))
		bad("mmap: %s", strerror(errno));
}

/* The kernel makes the access again until there is memory: the caller sees nothing of it. */
static int call_first_fault(struct scene *s)
{
	((volatile uint8_t *)s->mapping)[PAGE] = 7;
	return 0;
}

static int call_first_read(struct scene *s)
{
	(void)*(volatile uint8_t *)s->mapping;
	return 0;
}

static void mapping_whole(struct scene *s)
{
	call_first_fault(s);
	if (s->map[PAGE] != 7)
		bad("the mapping shows something else");
}

static int call_export(struct scene *s)
{
	int fd, err = bo_export(&s->c, s->window, &fd);

	s->made = fd;
	return err;
}

static void exported(struct scene *s)
{
	uint32_t again;

	if (bo_import(&s->c, s->made, &again) || again != s->window)
		bad("what was exported is something else");
	close(s->made);
}

static void from_another(struct scene *s)
{
	s->other = client_open();
	if (bo_export(&s->other, bo_create(&s->other, BYTES, WINDOW), &s->fd))
		bad("nothing is exported");
}

static int call_import(struct scene *s)
{
	uint32_t handle;
	int err = bo_import(&s->c, s->fd, &handle);

	s->made = handle;
	return err;
}

/* ---- cases: contexts, shaders, programs ----------------------------------------------------- */

static int ctx_of(struct scene *s, uint32_t priority)
{
	uint32_t ctx;
	int err = ctx_try(&s->c, priority, 0, &ctx);

	s->made = ctx;
	return err;
}

static int call_ctx_low(struct scene *s) { return ctx_of(s, LOW); }
static int call_ctx_normal(struct scene *s) { return ctx_of(s, NORMAL); }
static int call_ctx_high(struct scene *s) { return ctx_of(s, HIGH); }

static void ctx_whole(struct scene *s)
{
	run(&s->c, s->made, s->program, 2);
}

static int call_ctx_query(struct scene *s)
{
	struct drm_unpu_ctx_query args = { .ctx_id = s->ctx };
	int err = call(s->c.fd, DRM_IOCTL_UNPU_CTX_QUERY, &args);

	if (!err && args.completed_seqno != s->seqno)
		bad("CTX_QUERY tells of %llu jobs", (unsigned long long)args.completed_seqno);
	return err;
}

/* Another context than that which has to work afterwards. */
static void idle_ctx(struct scene *s)
{
	s->many[0] = ctx_create(&s->c, NORMAL, 0);
	run(&s->c, s->many[0], s->program, 1);
}

static void busy_ctx(struct scene *s)
{
	s->slow = word_program(&s->c, "SLOW");
	s->pending = syncobj_create(&s->c);
	s->many[0] = ctx_create(&s->c, NORMAL, 0);
	submit(&s->c, s->many[0], s->slow, 1000, 0);
	submit(&s->c, s->many[0], s->slow, 1000, s->pending);
	s->pending_fd = sync_file_export(&s->c, s->pending);
}

static int call_ctx_destroy(struct scene *s)
{
	return ctx_destroy(&s->c, s->many[0]);
}

static void ctx_destroyed(struct scene *s)
{
	struct drm_unpu_ctx_query query = { .ctx_id = s->many[0] };
	int status;

	if (call(s->c.fd, DRM_IOCTL_UNPU_CTX_QUERY, &query) != -ENOENT)
		bad("a context is destroyed and there");
	if (s->pending_fd < 0 || !words)
		return;
	status = sync_file_status(s->pending_fd, PATIENCE_MS);
	if (status != -ECANCELED)
		bad("a job of a destroyed context ends with %d", status);
}

static int call_shader(struct scene *s)
{
	struct drm_unpu_shader_create args = { .name = "copy.1" };
	int err = call(s->c.fd, DRM_IOCTL_UNPU_SHADER_CREATE, &args);

	s->made = args.shader_id;
	return err;
}

/* One with words, which are copied from the caller. */
static int call_shader_with_spec(struct scene *s)
{
	struct unpu_attn_spec spec = { 5, 3, 128, 6, 2, 24, 0, 0.25f };
	struct drm_unpu_shader_create args = {
		.name = "attn.1", .spec = (uintptr_t)&spec, .spec_words = sizeof(spec) / 4,
	};
	int err;

	while (!(s->c.info.kv_types & 1u << spec.kv_type))
		spec.kv_type++;
	err = call(s->c.fd, DRM_IOCTL_UNPU_SHADER_CREATE, &args);
	s->made = args.shader_id;
	return err;
}

static void shader_whole(struct scene *s)
{
	uint32_t copy = s->c.copy;

	s->c.copy = s->made;
	run(&s->c, s->ctx, copy_create(&s->c, s->device, s->window, PAGE), 1);
	s->c.copy = copy;
}

static void fresh_shader(struct scene *s)
{
	s->many[0] = shader_create(&s->c, "copy.1", NULL, 0);
}

static int call_shader_destroy(struct scene *s)
{
	struct drm_unpu_shader_destroy args = { .shader_id = s->many[0] };

	return call(s->c.fd, DRM_IOCTL_UNPU_SHADER_DESTROY, &args);
}

static int call_program(struct scene *s)
{
	uint32_t program;
	int err = copy_try(&s->c, s->window, s->device, BYTES, &program);

	s->made = program;
	return err;
}

static void many_bos(struct scene *s)
{
	for (uint32_t i = 0; i < NUM; i++)
		s->many[i] = bo_create(&s->c, PAGE, i % 2 ? 0 : WINDOW);
}

/* As many buffers and dispatches, and a stop word. */
static int call_large_program(struct scene *s)
{
	struct copies p = { .flags = DRM_UNPU_PROGRAM_STOP, .stop_offset = PAGE - 4 };
	uint32_t program, i;
	int err;

	for (i = 0; i < NUM; i++)
		copies_row(&p, s->many[i], 0, PAGE);
	for (i = 0; i < NUM; i++)
		copies_add(&p, i, (i + 1) % NUM, PAGE);
	err = copies_try(&s->c, &p, &program);
	s->made = program;
	return err;
}

static void program_whole(struct scene *s)
{
	run(&s->c, s->ctx, s->made, 2);
}

static void fresh_program(struct scene *s)
{
	s->many[0] = copy_create(&s->c, s->window, s->device, PAGE);
}

static int call_program_destroy(struct scene *s)
{
	return program_destroy(&s->c, s->many[0]);
}

/* ---- cases: jobs --------------------------------------------------------------------------- */

static int submit_these(struct scene *s, const struct drm_unpu_sync *syncs, uint32_t count)
{
	uint64_t seqno;
	int err = submit_try(&s->c, s->ctx, s->program, 1, syncs, count, &seqno);

	s->made = seqno;
	return err;
}

static int call_submit(struct scene *s) { return submit_these(s, NULL, 0); }

static int call_submit_binary(struct scene *s)
{
	struct drm_unpu_sync syncs[] = { sync_wait(s->binary, 0), sync_signal(s->binary, 0) };

	return submit_these(s, syncs, 2);
}

/* A point each: the one failure that leaves its job queued has taken it. */
static int call_submit_timeline(struct scene *s)
{
	struct drm_unpu_sync syncs[] = {
		sync_wait(s->line, 2), sync_signal(s->line, ++s->point),
	};

	return submit_these(s, syncs, 2);
}

/* What it waits for has not signalled yet. */
static int call_submit_behind(struct scene *s)
{
	struct drm_unpu_sync sync = sync_wait(s->pending, 0);

	return submit_these(s, &sync, 1);
}

static void many_syncobjs(struct scene *s)
{
	slow_job(s);
	for (uint32_t i = 0; i < NUM; i++)
		s->many[i] = syncobj_create(&s->c);
}

/* As many runs and syncobjs as there may be, of each kind. */
static int call_submit_many(struct scene *s)
{
	struct drm_unpu_run runs[NUM];
	struct drm_unpu_sync syncs[NUM];
	struct drm_unpu_submit args = {
		.ctx_id = s->ctx,
		.runs = { sizeof(runs[0]), NUM, (uintptr_t)runs },
		.syncs = { sizeof(syncs[0]), NUM, (uintptr_t)syncs },
	};
	uint32_t i;
	int err;

	s->point++;
	for (i = 0; i < NUM; i++) {
		runs[i] = (struct drm_unpu_run){ s->program, i + 1 };
		syncs[i] = sync_signal(s->many[i], i % 2 ? s->point : 0);
	}
	syncs[3] = sync_wait(s->pending, 0);
	syncs[7] = sync_wait(s->line, 2);
	err = call(s->c.fd, DRM_IOCTL_UNPU_SUBMIT, &args);
	s->made = args.seqno;
	return err;
}

static void submitted(struct scene *s)
{
	s->seqno = s->made;
	wait_for_all(s);
	if (ctx_query(&s->c, s->ctx).failed_errno)
		bad("a job ends with %d", ctx_query(&s->c, s->ctx).failed_errno);
}

static void all_signalled(struct scene *s)
{
	uint32_t i;

	submitted(s);
	for (i = 0; i < NUM; i++)
		if (i != 3 && i != 7 &&
		    syncobj_wait(&s->c, s->many[i], i % 2 ? s->point : 0, PATIENCE_MS))
			bad("syncobj %u is not signalled", i);
}

/* ---- cases: what others do with our fences -------------------------------------------------- */

static int wait_pending(struct scene *s, bool timeline)
{
	uint64_t point = 0;
	struct drm_syncobj_timeline_wait points = {
		.handles = (uintptr_t)&s->pending, .points = (uintptr_t)&point,
		.timeout_nsec = INT64_MAX, .count_handles = 1,
	};
	struct drm_syncobj_wait binary = {
		.handles = (uintptr_t)&s->pending, .timeout_nsec = INT64_MAX, .count_handles = 1,
	};

	return timeline ? call(s->c.fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &points) :
			  call(s->c.fd, DRM_IOCTL_SYNCOBJ_WAIT, &binary);
}

static int call_wait(struct scene *s) { return wait_pending(s, false); }
static int call_timeline_wait(struct scene *s) { return wait_pending(s, true); }

static void waited(struct scene *s)
{
	if (sync_file_status(s->pending_fd, 0) != 1)
		bad("a wait ends before its job");
}

static int call_query(struct scene *s)
{
	uint64_t point = 0;
	struct drm_syncobj_timeline_array args = {
		.handles = (uintptr_t)&s->line, .points = (uintptr_t)&point, .count_handles = 1,
	};
	int err = call(s->c.fd, DRM_IOCTL_SYNCOBJ_QUERY, &args);

	if (!err && point != 4)
		bad("the last point is %llu", (unsigned long long)point);
	return err;
}

static void to_transfer(struct scene *s)
{
	slow_job(s);
	s->many[0] = syncobj_create(&s->c);
}

static int call_transfer(struct scene *s)
{
	struct drm_syncobj_transfer args = {
		.src_handle = s->pending, .dst_handle = s->many[0], .dst_point = ++s->point,
	};

	return call(s->c.fd, DRM_IOCTL_SYNCOBJ_TRANSFER, &args);
}

static void transferred(struct scene *s)
{
	if (syncobj_wait(&s->c, s->many[0], s->point, PATIENCE_MS))
		bad("what was transferred does not signal");
}

/* Younger than the headers of some machines that build this. */
struct syncobj_eventfd {
	uint32_t handle, flags;
	uint64_t point;
	int32_t fd;
	uint32_t pad;
};

static int call_eventfd(struct scene *s)
{
	struct syncobj_eventfd args = { .handle = s->pending, .fd = s->fd };

	return call(s->c.fd, DRM_IOWR(0xcf, struct syncobj_eventfd), &args);
}

static void to_eventfd(struct scene *s)
{
	slow_job(s);
	s->fd = eventfd(0, EFD_CLOEXEC);
}

static void event_comes(struct scene *s)
{
	struct pollfd one = { .fd = s->fd, .events = POLLIN };

	if (poll(&one, 1, PATIENCE_MS) != 1)
		bad("the eventfd is not signalled");
}

static int call_sync_file(struct scene *s)
{
	int fd, err = syncobj_to_fd(&s->c, s->pending,
				    DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE, &fd);

	s->made = fd;
	return err;
}

static void sync_file_whole(struct scene *s)
{
	if (sync_file_status(s->made, PATIENCE_MS) != 1)
		bad("the sync_file has not the job's end");
	close(s->made);
}

static int call_import_sync_file(struct scene *s)
{
	struct drm_syncobj_handle args = {
		.handle = s->many[0], .fd = s->pending_fd,
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
	};

	return call(s->c.fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args);
}

static void sync_file_imported(struct scene *s)
{
	if (syncobj_wait(&s->c, s->many[0], 0, PATIENCE_MS))
		bad("what was imported does not signal");
}

static int call_share(struct scene *s)
{
	int fd, err = syncobj_to_fd(&s->c, s->pending, 0, &fd);

	s->made = fd;
	return err;
}

static void shared(struct scene *s)
{
	struct drm_syncobj_handle args = { .fd = s->made };
	int err = call(s->c.fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args);

	if (err || syncobj_wait(&s->c, args.handle, 0, PATIENCE_MS))
		bad("what was shared is something else");
	close(s->made);
}

static int call_merge(struct scene *s)
{
	struct sync_merge_data args = { .name = "both", .fd2 = s->fd };
	int err = call(s->pending_fd, SYNC_IOC_MERGE, &args);

	s->made = args.fence;
	return err;
}

static void two_sync_files(struct scene *s)
{
	slow_job(s);
	s->fd = sync_file_export(&s->c, s->binary);
}

static void merged(struct scene *s)
{
	struct pollfd one = { .fd = s->made, .events = POLLIN };

	if (poll(&one, 1, PATIENCE_MS) != 1)
		bad("what was merged does not signal");
	close(s->made);
}

static int call_file_info(struct scene *s)
{
	struct sync_fence_info fences[2] = { 0 };
	struct sync_file_info args = {
		.num_fences = 2, .sync_fence_info = (uintptr_t)fences,
	};
	int err = call(s->pending_fd, SYNC_IOC_FILE_INFO, &args);

	if (!err && (args.num_fences != 1 || strcmp(fences[0].driver_name, "unpu")))
		bad("the sync_file tells of %u fences of %s", args.num_fences,
		    fences[0].driver_name);
	return err;
}

static int call_poll(struct scene *s)
{
	struct pollfd one = { .fd = s->pending_fd, .events = POLLIN };

	return poll(&one, 1, PATIENCE_MS) < 0 ? -errno : 0;
}

static int call_syncobj_destroy(struct scene *s)
{
	return syncobj_destroy(&s->c, s->pending);
}

static const struct nth_case cases[] = {
	{ "open", NULL, call_open, opened, 0 },
	{ "close", nothing_mapped, call_close, NULL, NEEDS_NO_MEMORY },
	{ "close with jobs", many_jobs, call_close, NULL, NEEDS_NO_MEMORY },
	{ "DEV_QUERY DEV_INFO", NULL, call_dev_info, NULL, NEEDS_NO_MEMORY },
	{ "DEV_QUERY DEV_STATS", NULL, call_dev_stats, NULL, NEEDS_NO_MEMORY },
	{ "DEV_QUERY DEV_SHADERS", NULL, call_dev_shaders, NULL, NEEDS_NO_MEMORY },
	{ "fdinfo", NULL, call_fdinfo, NULL, 0 },
	{ "BO_CREATE with MMAP", NULL, call_bo_window, window_whole, CREATES },
	{ "BO_CREATE", NULL, call_bo_device, bo_whole, CREATES },
	{ "BO_CREATE large, with MMAP", NULL, call_bo_large, window_whole, CREATES },
	{ "BO_CREATE large", NULL, call_bo_large_device, bo_whole, CREATES },
	{ "BO_MMAP_OFFSET", fresh_bo, call_mmap_offset, NULL, NEEDS_NO_MEMORY },
	{ "mmap", NULL, call_mmap, mapping_whole, 0 },
	{ "first write", map_it, call_first_fault, mapping_whole, NEEDS_NO_MEMORY },
	{ "first read", map_it, call_first_read, mapping_whole, NEEDS_NO_MEMORY },
	{ "GEM_CLOSE", fresh_bo, call_gem_close, gem_closed, NEEDS_NO_MEMORY },
	{ "PRIME export", NULL, call_export, exported, CREATES | MAKES_FD },
	{ "PRIME import", from_another, call_import, window_whole, CREATES },
	{ "CTX_CREATE LOW", NULL, call_ctx_low, ctx_whole, CREATES },
	{ "CTX_CREATE NORMAL", NULL, call_ctx_normal, ctx_whole, CREATES },
	{ "CTX_CREATE HIGH", NULL, call_ctx_high, ctx_whole, CREATES },
	{ "CTX_QUERY", NULL, call_ctx_query, NULL, NEEDS_NO_MEMORY },
	{ "CTX_DESTROY", idle_ctx, call_ctx_destroy, ctx_destroyed, NEEDS_NO_MEMORY },
	{ "CTX_DESTROY with jobs", busy_ctx, call_ctx_destroy, ctx_destroyed, NEEDS_NO_MEMORY },
	{ "SHADER_CREATE", NULL, call_shader, shader_whole, CREATES },
	{ "SHADER_CREATE with words", NULL, call_shader_with_spec, NULL, CREATES },
	{ "SHADER_DESTROY", fresh_shader, call_shader_destroy, NULL, NEEDS_NO_MEMORY },
	{ "PROGRAM_CREATE", NULL, call_program, program_whole, CREATES },
	{ "PROGRAM_CREATE large", many_bos, call_large_program, program_whole, CREATES },
	{ "PROGRAM_DESTROY", fresh_program, call_program_destroy, NULL, NEEDS_NO_MEMORY },
	{ "SUBMIT", NULL, call_submit, submitted, CREATES },
	{ "SUBMIT with syncobjs", NULL, call_submit_binary, submitted, CREATES },
	{ "SUBMIT with points", NULL, call_submit_timeline, submitted, CREATES },
	{ "SUBMIT behind a job", slow_job, call_submit_behind, submitted, CREATES },
	{ "SUBMIT of the most", many_syncobjs, call_submit_many, all_signalled, CREATES },
	{ "SYNCOBJ_WAIT", slow_job, call_wait, waited, 0 },
	{ "SYNCOBJ_TIMELINE_WAIT", slow_job, call_timeline_wait, waited, 0 },
	{ "SYNCOBJ_QUERY", NULL, call_query, NULL, 0 },
	{ "SYNCOBJ_TRANSFER", to_transfer, call_transfer, transferred, 0 },
	{ "SYNCOBJ_EVENTFD", to_eventfd, call_eventfd, event_comes, 0 },
	{ "SYNCOBJ_HANDLE_TO_FD", slow_job, call_share, shared, CREATES | MAKES_FD },
	{ "SYNCOBJ_DESTROY", slow_job, call_syncobj_destroy, NULL,
	  NEEDS_NO_MEMORY | COPIES_BACK },
	{ "sync_file export", slow_job, call_sync_file, sync_file_whole,
	  CREATES | MAKES_FD | MAY_BE_EINVAL },
	{ "sync_file import", to_transfer, call_import_sync_file, sync_file_imported, 0 },
	{ "sync_file merge", two_sync_files, call_merge, merged, CREATES | MAKES_FD },
	{ "sync_file info", slow_job, call_file_info, NULL, 0 },
	{ "sync_file poll", slow_job, call_poll, NULL, 0 },
};

/* ---- one case ------------------------------------------------------------------------------ */

struct tally {
	unsigned int failures, enomem, efault, survived;
	unsigned int left;	/* the first that has left something; 0: none */
};

/*
 * The copy of the results is the last of a call's failures, but how many come before it varies: the
 * core keeps a few allocations in store.
 */
#define LAST_FEW	8u

static void tell(const struct tally *tally, uint64_t began)
{
	printf("# %-28s %3u failures: %3u ENOMEM, %3u EFAULT, %3u survived, %llu ms\n",
	       current->name, tally->failures, tally->enomem, tally->efault, tally->survived,
	       (unsigned long long)((now_ns() - began) / MS));
}

static bool same_stats(const struct drm_unpu_dev_stats *a, const struct drm_unpu_dev_stats *b)
{
	return a->window_used_bytes == b->window_used_bytes &&
	       a->device_used_bytes == b->device_used_bytes &&
	       a->jobs_submitted == b->jobs_submitted;
}

/* True: its result is there, and only its number was lost. */
static bool left_something(struct scene *s, const struct nth_case *nth, uint64_t number)
{
	if (!(nth->flags & CREATES) || s->made == number)
		return false;
	if (s->made != number + 1)
		bad("after it the next number is %llu, not %llu", (unsigned long long)s->made,
		    (unsigned long long)number);
	if (nth->flags & MAKES_FD)
		close(number);
	return true;
}

/* What has failed is made again, and nothing is seen of the failure. */
static bool make_again(struct scene *s, const struct nth_case *nth, uint64_t number, int failed,
		       const struct drm_unpu_dev_stats *before)
{
	struct drm_unpu_dev_stats after = dev_stats(&stays);
	bool left;
	int err;

	if (failed != -EFAULT && (failed != -ENOMEM || nth->flags & NEEDS_NO_MEMORY) &&
	    (failed != -EINVAL || !(nth->flags & MAY_BE_EINVAL)))
		bad("%s", strerror(-failed));
	err = nth->call(s);
	if (err && (err != -EINVAL || failed != -EFAULT || !(nth->flags & COPIES_BACK)))
		bad("made again: %s", strerror(-err));
	left = left_something(s, nth, number);
	if (left && failed != -EFAULT)
		bad("%s, and something was made", strerror(-failed));
	if (!left && !same_stats(before, &after))
		bad("%s, and it has changed something", strerror(-failed));
	return left;
}

/* False: there are no more failures. */
static bool one_failure(const struct nth_case *nth, uint64_t number, struct tally *tally)
{
	struct drm_unpu_dev_stats first = dev_stats(&stays), before;
	struct scene s;
	bool reached;
	int err;

	scene_begin(&s);
	if (nth->prepare)
		nth->prepare(&s);
	before = dev_stats(&stays);
	fault_arm(current_n);
	err = nth->call(&s);
	reached = fault_disarm();
	if (err && !reached)
		bad("without one: %s", strerror(-err));
	tally->failures += reached;
	tally->survived += reached && !err;
	tally->enomem += err == -ENOMEM;
	tally->efault += err == -EFAULT;
	if (err && make_again(&s, nth, number, err, &before)) {
		if (!tally->left)
			tally->left = current_n;
	} else if (!err && nth->flags & CREATES && s.made != number) {
		bad("the number is %llu, not %llu", (unsigned long long)s.made,
		    (unsigned long long)number);
	}
	if (nth->whole)
		nth->whole(&s);
	still_works(&s);
	scene_end(&s, &first);
	return reached;
}

static uint64_t without_failure(const struct nth_case *nth)
{
	struct drm_unpu_dev_stats first = dev_stats(&stays);
	struct scene s;
	int err;

	scene_begin(&s);
	if (nth->prepare)
		nth->prepare(&s);
	err = nth->call(&s);
	if (err)
		bad("%s", strerror(-err));
	if (nth->whole)
		nth->whole(&s);
	still_works(&s);
	scene_end(&s, &first);
	return s.made;
}

static void run_case(const void *arg)
{
	const struct nth_case *nth = arg;
	uint64_t began = now_ns(), number;
	struct tally tally = { 0 };

	current = nth;
	stays = client_open();
	/* It takes a number of a file, too. */
	fault_arm(0);
	number = without_failure(nth);
	do {
		current_n++;
	} while (one_failure(nth, number, &tally));
	if (tally.left && current_n - tally.left > LAST_FEW)
		bad("failure %u has left something", tally.left);
	device_works();
	tell(&tally, began);
}

/* ---- binding, unbinding, loading ------------------------------------------------------------ */

static const struct nth_case bind_case = { .name = "bind" }, unbind_case = { .name = "unbind" },
	dead_case = { .name = "fault after unbind" }, load_case = { .name = "insmod" };

static bool write_failing(int fd, int *err)
{
	const char *name = bus_name();
	size_t length = strlen(name);

	fault_arm(current_n);
	*err = write(fd, name, length) == (ssize_t)length ? 0 : -errno;
	return fault_disarm();
}

static void count(struct tally *tally, bool reached, int err)
{
	tally->failures += reached;
	tally->survived += reached && !err;
	tally->enomem += err == -ENOMEM;
	tally->efault += err == -EFAULT;
}

/*
 * A node whose name in /dev could not be made has none: the core does not say so. It is there all
 * the same, and goes as every other.
 */
static void bound_works(void)
{
	struct client c;

	if (!bus_is_bound())
		bad("it succeeds, and nothing is bound");
	if (!bus_has_node()) {
		bus_unbind();
		bus_bind();
	}
	c = client_open();
	client_close(&c);
}

/*
 * What fails in a probe: what one function calls, without what another one does. These are 6.12's
 * own: drm_minor_alloc() keeps the error of drm_sysfs_minor_alloc() where a device should be, and
 * puts that when it cleans up, an Oops; and an interrupt whose folder in /proc could not be made is
 * a WARNING when it goes. A range of each kind is all that there is, so a probe has several passes.
 */
struct probe_pass {
	const char *within, *outside;
};

static const struct probe_pass passes_of_mock[] = { { NULL, "drm_sysfs_minor_alloc" } };
static const struct probe_pass passes_of_pci[] = {
	{ "pcim_enable_device", NULL },
	{ "devm_memremap", NULL },
	{ "__devm_drm_dev_alloc", "drm_sysfs_minor_alloc" },
	{ "unpu_proto_create", NULL },
	{ "pci_alloc_irq_vectors", "register_irq_proc" },
	{ "devm_request_threaded_irq", "register_irq_proc" },
	{ "unpu_device_register", NULL },
};

static void bind_pass(const struct probe_pass *pass, struct tally *tally)
{
	unsigned int failures = tally->failures;
	int fd = bus_file("bind"), err;
	bool reached;

	current_n = 0;
	if (!faults_within(pass->within) || !faults_outside(pass->outside))
		bad("%s or %s is no function here", pass->within, pass->outside);
	do {
		current_n++;
		bus_unbind();
		reached = write_failing(fd, &err);
		/* The cores have other numbers than -ENOMEM: a range of addresses is -EBUSY. */
		count(tally, reached, err);
		if (err) {
			if (bus_is_bound())
				bad("%s, and it is bound", strerror(-err));
			bus_bind();
		}
		bound_works();
	} while (reached);
	close(fd);
	if (tally->failures == failures)
		bad("nothing can fail in %s", pass->within);
	printf("#   %-28s %3u failures\n", pass->within ? pass->within : "all",
	       tally->failures - failures);
}

static void run_bind(const void *arg)
{
	const struct probe_pass *passes = node_is_mock() ? passes_of_mock : passes_of_pci;
	size_t i, count = node_is_mock() ? 1 : sizeof(passes_of_pci) / sizeof(passes_of_pci[0]);
	uint64_t began = now_ns();
	struct tally tally = { 0 };

	current = arg;
	for (i = 0; i < count; i++)
		bind_pass(&passes[i], &tally);
	device_works();
	tell(&tally, began);
}

static void run_unbind(const void *arg)
{
	uint64_t began = now_ns();
	struct tally tally = { 0 };
	int fd = bus_file("unbind"), err;
	struct scene s;
	bool reached;

	current = arg;
	do {
		current_n++;
		scene_begin(&s);
		slow_job(&s);
		reached = write_failing(fd, &err);
		count(&tally, reached, err);
		if (err && err != -ENOMEM && err != -EFAULT)
			bad("%s", strerror(-err));
		if (bus_is_bound() != !!err)
			bad("it gives %d, and does something else", err);
		if (err)
			bus_unbind();
		s.closed = true;
		if (sync_file_status(s.pending_fd, PATIENCE_MS) == 0)
			bad("a fence does not signal");
		close(s.pending_fd);
		munmap(s.map, BYTES);
		close(s.c.fd);
		bus_bind();
		bound_works();
	} while (reached);
	device_works();
	tell(&tally, began);
}

/* The pages that a mapping has when the device is gone. */
static void run_dead_page(const void *arg)
{
	uint64_t began = now_ns();
	struct tally tally = { 0 };
	struct scene s;
	bool reached;

	current = arg;
	do {
		current_n++;
		scene_begin(&s);
		map_it(&s);
		bus_unbind();
		fault_arm(current_n);
		call_first_fault(&s);
		reached = fault_disarm();
		count(&tally, reached, 0);
		if (s.map[PAGE] != 7)
			bad("mappings of one buffer differ");
		munmap(s.mapping, BYTES);
		munmap(s.map, BYTES);
		close(s.c.fd);
		bus_bind();
		bound_works();
	} while (reached);
	tell(&tally, began);
}

static bool module_is_loaded(void)
{
	return !access("/sys/module/unpu", F_OK);
}

static void unload(void)
{
	uint32_t tries = 0;
	int err;

	/* What was closed may still be on its way. */
	while ((err = module_remove())) {
		if (err != -EAGAIN && err != -EBUSY)
			bad("rmmod: %s", strerror(-err));
		if (tries++ > PATIENCE_MS / 10)
			bad("the module is held for ever");
		sleep_ms(10);
	}
}

/* Whether a driver that comes gets its devices at once. */
static void set_autoprobe(const char *value)
{
	static const char *const files[] = {
		"/sys/bus/pci/drivers_autoprobe", "/sys/bus/platform/drivers_autoprobe",
	};
	size_t i;
	int fd;

	for (i = 0; i < 2; i++) {
		fd = open(files[i], O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && write(fd, value, 1) != 1)
			die("%s: %s", files[i], strerror(errno));
		close(fd);
	}
}

static int load(int fd, const char *params)
{
	return syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
}

/*
 * Only what the module does itself when it begins: before that, loading is the kernel's, and what
 * comes with a device is seen at binding.
 */
static void run_load(const void *arg)
{
	const char *path = getenv("UNPU_MODULE"), *params = node_is_mock() ? "mock=1" : "";
	uint64_t began = now_ns();
	struct tally tally = { 0 };
	bool reached;
	int fd, err;

	current = arg;
	fd = open(path ? path : "/lib/modules/unpu.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		bad("the module: %s", strerror(errno));
	bus_remember();
	set_autoprobe("0");
	faults_within("do_one_initcall");
	do {
		current_n++;
		unload();
		fault_arm(current_n);
		err = load(fd, params);
		reached = fault_disarm();
		count(&tally, reached, err);
		if (module_is_loaded() != !err)
			bad("it gives %d, and does something else", err);
		if (err && load(fd, params))
			bad("it does not load without failures: %s", strerror(errno));
	} while (reached);
	unload();
	set_autoprobe("1");
	if (module_insert())
		bad("it does not load in the end");
	device_works();
	tell(&tally, began);
}

/* ---- failures by chance, in whoever allocates ------------------------------------------------ */

#define STORM_PERCENT	10
#define STORM_NS	(4 * SECOND)

static const struct nth_case chance_case = { .name = "jobs, failures by chance" },
	loss_case = { .name = "losses, failures by chance" };
static _Atomic uint64_t storm_ends;
static atomic_uint tries, refusals;

/* All threads are there when it begins. */
static bool storm_goes_on(void)
{
	while (!storm_ends)
		sleep_ms(1);
	return now_ns() < storm_ends;
}

/* What a caller may be told while there is no memory. */
static bool may_go_on(int err)
{
	atomic_fetch_add(&tries, 1);
	if (!err)
		return true;
	atomic_fetch_add(&refusals, 1);
	if (err != -ENOMEM)
		bad("%s", strerror(-err));
	return false;
}

/* Jobs one after the other, some at once. */
static void *keeps_busy(void *arg)
{
	struct scene *s = arg;
	struct drm_unpu_sync sync = sync_signal(s->binary, 0);
	uint64_t seqno;

	while (storm_goes_on()) {
		if (may_go_on(submit_try(&s->c, s->ctx, s->program, 2, &sync, 1, &seqno)))
			s->seqno = seqno;
		if (s->seqno % 8 == 0)
			wait_for_all(s);
	}
	return NULL;
}

/* New files with new objects, left in the midst of their work. */
static void *comes_and_goes(void *arg)
{
	struct client c = { .info = ((struct scene *)arg)->c.info };
	struct drm_unpu_shader_create shader = { .name = "copy.1" };
	struct drm_unpu_bo_create bo = { .size = BYTES, .flags = WINDOW };
	uint32_t ctx, program;
	uint64_t seqno;

	while (storm_goes_on()) {
		c.fd = open(node_path(), O_RDWR | O_CLOEXEC);
		if (!may_go_on(c.fd < 0 ? -errno : 0))
			continue;
		if (may_go_on(call(c.fd, DRM_IOCTL_UNPU_SHADER_CREATE, &shader)) &&
		    may_go_on(call(c.fd, DRM_IOCTL_UNPU_BO_CREATE, &bo)) &&
		    may_go_on(ctx_try(&c, LOW, 0, &ctx))) {
			c.copy = shader.shader_id;
			if (may_go_on(copy_try(&c, bo.handle, bo.handle, PAGE / 2, &program)))
				may_go_on(submit_try(&c, ctx, program, 5, NULL, 0, &seqno));
		}
		close(c.fd);
		bo.size = BYTES;
	}
	return NULL;
}

/* Hangs, which end for all that with their context and a dump. */
static void *hangs(void *arg)
{
	struct scene *s = arg;
	uint64_t seqno;
	uint32_t ctx;

	while (storm_goes_on()) {
		if (!may_go_on(ctx_try(&s->c, NORMAL, 100 * MS, &ctx)))
			continue;
		if (may_go_on(submit_try(&s->c, ctx, s->slow, 1, NULL, 0, &seqno)) &&
		    !ctx_wait(&s->c, ctx, seqno, PATIENCE_MS))
			bad("a job that hangs does not end");
		ctx_destroy(&s->c, ctx);
	}
	return NULL;
}

static void scenes_begin(struct scene *scenes, uint32_t count, struct drm_unpu_dev_stats *first)
{
	/* Nothing is anybody's, but what tests before this have left may take a moment. */
	*first = (struct drm_unpu_dev_stats){ 0 };
	if (!memory_is(&stays, first))
		bad("the device was in use before");
	for (uint32_t i = 0; i < count; i++)
		scene_begin(&scenes[i]);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		die("mlockall: %s", strerror(errno));
}

static void told(uint64_t began)
{
	if (!refusals)
		bad("nothing has failed in %u calls", tries);
	printf("# %-28s %u of %u calls failed, %llu ms\n", current->name, refusals, tries,
	       (unsigned long long)((now_ns() - began) / MS));
}

static void run_chance(const void *arg)
{
	static void *(*const works[])(void *) = { keeps_busy, comes_and_goes, hangs, keeps_busy };
	struct drm_unpu_dev_stats first;
	uint64_t began = now_ns();
	struct scene scenes[4];
	pthread_t threads[4];
	uint32_t i;

	current = arg;
	stays = client_open();
	scenes_begin(scenes, 4, &first);
	scenes[2].slow = word_program(&scenes[2].c, words ? "HANG" : "none");
	for (i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, works[i], &scenes[i]))
			bad("no thread");
	/* 6.12 frees a dump twice when it cannot make its device. */
	faults_outside("dev_coredumpm_timeout");
	faults_storm(STORM_PERCENT);
	storm_ends = now_ns() + STORM_NS;
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	faults_end();
	for (i = 0; i < 4; i++) {
		still_works(&scenes[i]);
		scene_end(&scenes[i], i == 3 ? &first : NULL);
	}
	device_works();
	told(began);
}

/* The device is lost, and attached again, where nothing can be had. */
static void run_losses(const void *arg)
{
	struct drm_unpu_dev_stats first;
	uint64_t began = now_ns(), end;
	uint32_t i, program, ctx;
	struct scene s;

	current = arg;
	stays = client_open();
	for (i = 0; i < 4; i++) {
		scenes_begin(&s, 1, &first);
		program = word_program(&s.c, "EXIT");
		faults_storm(STORM_PERCENT);
		end = now_ns() + PATIENCE_MS * MS;
		while (!may_go_on(submit_try(&s.c, s.ctx, program, 1, NULL, 0, &s.seqno)))
			;
		wait_for_all(&s);
		while (ctx_try(&s.c, NORMAL, 0, &ctx)) {
			atomic_fetch_add(&refusals, 1);
			if (now_ns() > end)
				bad("the device does not come back");
			sleep_ms(1);
		}
		faults_end();
		s.closed = true;
		munmap(s.map, BYTES);
		close(s.c.fd);
		scene_end(&s, &first);
		device_works();
	}
	told(began);
}

/* ---- the program --------------------------------------------------------------------------- */

static void in_child(void (*test)(const void *), const void *arg, const char *name)
{
	int status = 0;
	pid_t pid;

	bus_ensure_bound();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		test(arg);
		fflush(stdout);
		_exit(KSFT_PASS);
	}
	waitpid(pid, &status, 0);
	faults_end();
	faults_within(NULL);
	faults_outside(NULL);
	set_autoprobe("1");
	ksft_test_result(pid > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "%s\n", name);
}

int main(int argc, char **argv)
{
	const size_t num_cases = sizeof(cases) / sizeof(cases[0]);
	const char *missing = faults_missing();
	struct client c;
	size_t i;

	node_argument(&argc, argv);
	ksft_print_header();
	if (missing)
		ksft_exit_skip("%s\n", missing);
	faults_setup();
	c = client_open();
	words = has_words(&c);
	client_close(&c);
	bus_remember();
	ksft_set_plan(num_cases + 6);
	for (i = 0; i < num_cases; i++)
		in_child(run_case, &cases[i], cases[i].name);
	if (faults_outside(NULL))
		in_child(run_bind, &bind_case, bind_case.name);
	else
		ksft_test_result_skip("%s: the core's own bug cannot be left out\n",
				      bind_case.name);
	in_child(run_unbind, &unbind_case, unbind_case.name);
	in_child(run_dead_page, &dead_case, dead_case.name);
	in_child(run_chance, &chance_case, chance_case.name);
	if (words)
		in_child(run_losses, &loss_case, loss_case.name);
	else
		ksft_test_result_skip("%s: %s\n", loss_case.name, NO_WORDS);
	if (faults_within(NULL))
		in_child(run_load, &load_case, load_case.name);
	else
		ksft_test_result_skip("%s: faults cannot be kept to the module\n", load_case.name);
	ksft_finished();
}
