// SPDX-License-Identifier: GPL-2.0-only
#include "tests/kselftest/lib/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/sync_file.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "shaders/shaders.h"
#include "tests/kselftest/lib/storm.h"

#define NOBODY	65534

const char *node_path(void)
{
	const char *path = getenv("UNPU_NODE");

	return path ? path : "/dev/accel/accel0";
}

void node_argument(int *argc, char **argv)
{
	if (*argc < 2 || argv[*argc - 1][0] != '/')
		return;
	setenv("UNPU_NODE", argv[*argc - 1], 1);
	argv[--*argc] = NULL;
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
	_exit(KSFT_FAIL);
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

void sleep_ms(uint32_t ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

uint32_t node_slowed(uint32_t ms)
{
	const char *text = getenv("UNPU_SLOW");
	int times = text ? atoi(text) : 1;

	return times > 1 ? times * ms : ms;
}

int call(int fd, unsigned long request, void *args)
{
	int result;

	storm_join();
	do {
		result = ioctl(fd, request, args);
	} while (result && errno == EINTR);
	return result ? -errno : 0;
}

/* ---- the node ------------------------------------------------------------------------------ */

int node_open(void)
{
	int fd = open(node_path(), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", node_path(), strerror(errno));
	return fd;
}

/* Without udev a node is root's alone: what the driver's rule does. */
static gid_t node_group(void)
{
	struct stat st;

	if (stat(node_path(), &st))
		die("%s: %s", node_path(), strerror(errno));
	if ((st.st_mode & 0060) == 0060)
		return st.st_gid;
	if (chown(node_path(), 0, NOBODY) || chmod(node_path(), 0660))
		die("%s: its mode cannot be set", node_path());
	return NOBODY;
}

void become_nobody(void)
{
	gid_t group;

	if (geteuid())
		return;
	group = node_group();
	if (setgroups(1, &group) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		die("root cannot become nobody: %s", strerror(errno));
}

struct client client_open(void)
{
	struct client c = { .fd = node_open() };
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_INFO, sizeof(c.info), (uintptr_t)&c.info,
	};
	int err = call(c.fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);

	if (err)
		die("DEV_QUERY: %s", strerror(-err));
	c.copy = shader_create(&c, "copy.1", NULL, 0);
	return c;
}

struct client user_open(void)
{
	become_nobody();
	return client_open();
}

void client_close(struct client *c)
{
	if (close(c->fd))
		die("close: %s", strerror(errno));
	c->fd = -1;
}

/* ---- objects ------------------------------------------------------------------------------- */

uint32_t bo_create(struct client *c, uint64_t size, uint32_t flags)
{
	struct drm_unpu_bo_create args = { .size = size, .flags = flags };
	int err = call(c->fd, DRM_IOCTL_UNPU_BO_CREATE, &args);

	if (err)
		die("BO_CREATE of %llu bytes: %s", (unsigned long long)size, strerror(-err));
	if (args.size < size)
		die("BO_CREATE makes less than was asked for");
	return args.handle;
}

int bo_close(struct client *c, uint32_t handle)
{
	struct drm_gem_close args = { .handle = handle };

	return call(c->fd, DRM_IOCTL_GEM_CLOSE, &args);
}

int bo_offset(struct client *c, uint32_t handle, uint64_t *offset)
{
	struct drm_unpu_bo_mmap_offset args = { .handle = handle };
	int err = call(c->fd, DRM_IOCTL_UNPU_BO_MMAP_OFFSET, &args);

	*offset = args.offset;
	return err;
}

void *bo_map(struct client *c, uint32_t handle, uint64_t size)
{
	uint64_t offset;
	int err = bo_offset(c, handle, &offset);
	void *map;

	if (err)
		die("BO_MMAP_OFFSET: %s", strerror(-err));
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, offset);
	if (map == MAP_FAILED)
		die("mmap of %llu bytes: %s", (unsigned long long)size, strerror(errno));
	return map;
}

void *bo_mapped(struct client *c, uint64_t size, uint32_t *handle)
{
	*handle = bo_create(c, size, WINDOW);
	return bo_map(c, *handle, size);
}

int ctx_try(struct client *c, uint32_t priority, uint64_t timeout_ns, uint32_t *ctx)
{
	struct drm_unpu_ctx_create args = { .priority = priority, .timeout_ns = timeout_ns };
	int err = call(c->fd, DRM_IOCTL_UNPU_CTX_CREATE, &args);

	*ctx = args.ctx_id;
	return err;
}

uint32_t ctx_create(struct client *c, uint32_t priority, uint64_t timeout_ns)
{
	uint32_t ctx;
	int err = ctx_try(c, priority, timeout_ns, &ctx);

	if (err)
		die("CTX_CREATE: %s", strerror(-err));
	return ctx;
}

int ctx_destroy(struct client *c, uint32_t ctx)
{
	struct drm_unpu_ctx_destroy args = { .ctx_id = ctx };

	return call(c->fd, DRM_IOCTL_UNPU_CTX_DESTROY, &args);
}

struct drm_unpu_ctx_query ctx_query(struct client *c, uint32_t ctx)
{
	struct drm_unpu_ctx_query args = { .ctx_id = ctx };
	int err = call(c->fd, DRM_IOCTL_UNPU_CTX_QUERY, &args);

	if (err)
		die("CTX_QUERY: %s", strerror(-err));
	return args;
}

bool ctx_wait(struct client *c, uint32_t ctx, uint64_t seqno, uint32_t ms)
{
	uint64_t deadline = now_ns() + ms * MS;

	while (ctx_query(c, ctx).completed_seqno < seqno) {
		if (now_ns() > deadline)
			return false;
		sleep_ms(1);
	}
	return true;
}

uint32_t shader_create(struct client *c, const char *name, const void *spec, uint32_t words)
{
	struct drm_unpu_shader_create args = { .spec = (uintptr_t)spec, .spec_words = words };
	int err;

	memcpy(args.name, name, strlen(name));
	err = call(c->fd, DRM_IOCTL_UNPU_SHADER_CREATE, &args);
	if (err)
		die("SHADER_CREATE of %s: %s", name, strerror(-err));
	return args.shader_id;
}

int program_destroy(struct client *c, uint32_t program)
{
	struct drm_unpu_program_destroy args = { .program_id = program };

	return call(c->fd, DRM_IOCTL_UNPU_PROGRAM_DESTROY, &args);
}

/* ---- programs ------------------------------------------------------------------------------ */

uint32_t copies_row(struct copies *p, uint32_t handle, uint64_t offset, uint64_t size)
{
	p->buffers[p->num_buffers] = (struct drm_unpu_buffer){
		handle, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE, offset, size,
	};
	return p->num_buffers++;
}

void copies_add(struct copies *p, uint32_t from, uint32_t to, uint32_t bytes)
{
	p->copies[p->num_copies].from = from;
	p->copies[p->num_copies].to = to;
	p->copies[p->num_copies++].bytes = bytes;
}

int copies_try(struct client *c, const struct copies *p, uint32_t *program)
{
	struct drm_unpu_dispatch dispatches[16];
	struct drm_unpu_binding bindings[32];
	struct unpu_copy_const constants[16];
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(p->buffers[0]), p->num_buffers, (uintptr_t)p->buffers },
		.dispatches = { sizeof(dispatches[0]), p->num_copies, (uintptr_t)dispatches },
		.bindings = { sizeof(bindings[0]), 2 * p->num_copies, (uintptr_t)bindings },
		.constants = (uintptr_t)constants,
		.const_bytes = p->num_copies * sizeof(constants[0]),
		.flags = p->flags, .stop_buffer = p->stop_buffer, .stop_offset = p->stop_offset,
	};
	uint32_t i;
	int err;

	for (i = 0; i < p->num_copies; i++) {
		bindings[2 * i + UNPU_COPY_SRC].buffer = p->copies[i].from;
		bindings[2 * i + UNPU_COPY_DST].buffer = p->copies[i].to;
		constants[i] = (struct unpu_copy_const){ p->copies[i].bytes, 0 };
		dispatches[i] = (struct drm_unpu_dispatch){
			.shader_id = c->copy,
			.first_binding = 2 * i, .num_bindings = 2,
			.const_offset = i * sizeof(constants[0]),
			.const_bytes = sizeof(constants[0]),
			.grid = { (p->copies[i].bytes + 0xffff) >> 16, 1, 1 },
		};
	}
	err = call(c->fd, DRM_IOCTL_UNPU_PROGRAM_CREATE, &args);
	*program = args.program_id;
	return err;
}

uint32_t copies_create(struct client *c, const struct copies *p)
{
	uint32_t program;
	int err = copies_try(c, p, &program);

	if (err)
		die("PROGRAM_CREATE: %s", strerror(-err));
	return program;
}

int copy_try(struct client *c, uint32_t from, uint32_t to, uint32_t bytes, uint32_t *program)
{
	struct copies p = { 0 };

	copies_add(&p, copies_row(&p, from, 0, bytes), copies_row(&p, to, 0, bytes), bytes);
	return copies_try(c, &p, program);
}

uint32_t copy_create(struct client *c, uint32_t from, uint32_t to, uint32_t bytes)
{
	uint32_t program;
	int err = copy_try(c, from, to, bytes, &program);

	if (err)
		die("PROGRAM_CREATE: %s", strerror(-err));
	return program;
}

/* Not mapped any longer: a mapping is a user of the file. */
static uint32_t bo_with_word(struct client *c, const char *word)
{
	uint32_t bo;
	void *map = bo_mapped(c, 4096, &bo);

	memcpy(map, word, 4);
	munmap(map, 4096);
	return bo;
}

uint32_t word_program(struct client *c, const char *word)
{
	return copy_create(c, bo_with_word(c, word), bo_create(c, 4096, WINDOW), 64);
}

bool has_words(struct client *c)
{
	uint32_t ctx = ctx_create(c, DRM_UNPU_PRIORITY_NORMAL, 0);
	bool slow;

	run(c, ctx, word_program(c, "SLOW"), 1);
	slow = ctx_query(c, ctx).busy_ns >= 20 * MS;
	ctx_destroy(c, ctx);
	return slow;
}

struct counter counter_create(struct client *c, const char *word, uint32_t stop_at)
{
	const uint32_t most = (COUNTER_BLOCKS - 1) * COUNTER_BLOCK;
	struct counter counter;
	struct copies p = { 0 };
	uint32_t all, from, to, between, bo;

	counter.map = bo_mapped(c, COUNTER_BLOCKS * COUNTER_BLOCK, &counter.bo);
	counter.between = bo_create(c, most, 0);
	memset((void *)counter.map, 1, COUNTER_BLOCK);
	if (word) {
		bo = bo_with_word(c, word);
		from = copies_row(&p, bo, 0, 4);
		copies_add(&p, from, copies_row(&p, bo, 2048, 4), 4);
	}
	from = copies_row(&p, counter.bo, 0, most);
	between = copies_row(&p, counter.between, 0, most);
	to = copies_row(&p, counter.bo, COUNTER_BLOCK, most);
	all = copies_row(&p, counter.bo, 0, COUNTER_BLOCKS * COUNTER_BLOCK);
	copies_add(&p, from, between, most);
	copies_add(&p, between, to, most);
	if (stop_at) {
		p.flags = DRM_UNPU_PROGRAM_STOP;
		p.stop_buffer = all;
		p.stop_offset = stop_at * COUNTER_BLOCK;
	}
	counter.program = copies_create(c, &p);
	return counter;
}

uint32_t counter_read(const volatile uint8_t *map)
{
	uint32_t i = 0;

	while (i + 1 < COUNTER_BLOCKS && map[(i + 1) * COUNTER_BLOCK])
		i++;
	return i;
}

void device_works(void)
{
	struct client c = client_open();
	struct counter counter = counter_create(&c, NULL, 0);

	run(&c, ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0), counter.program, 3);
	if (counter_read(counter.map) != 3)
		die("the device works no more");
	/* A mapping is a user of the file. */
	munmap((void *)counter.map, COUNTER_BLOCKS * COUNTER_BLOCK);
	client_close(&c);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

struct drm_unpu_sync sync_wait(uint32_t handle, uint64_t point)
{
	return (struct drm_unpu_sync){ handle, DRM_UNPU_SYNC_WAIT, point };
}

struct drm_unpu_sync sync_signal(uint32_t handle, uint64_t point)
{
	return (struct drm_unpu_sync){ handle, DRM_UNPU_SYNC_SIGNAL, point };
}

int submit_try(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
	       const struct drm_unpu_sync *syncs, uint32_t num_syncs, uint64_t *seqno)
{
	struct drm_unpu_run one = { program, repeat };
	struct drm_unpu_submit args = {
		.ctx_id = ctx,
		.runs = { sizeof(one), 1, (uintptr_t)&one },
		.syncs = { sizeof(*syncs), num_syncs, (uintptr_t)syncs },
	};
	int err = call(c->fd, DRM_IOCTL_UNPU_SUBMIT, &args);

	*seqno = args.seqno;
	return err;
}

uint64_t submit_syncs(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
		      const struct drm_unpu_sync *syncs, uint32_t num_syncs)
{
	uint64_t seqno;
	int err = submit_try(c, ctx, program, repeat, syncs, num_syncs, &seqno);

	if (err)
		die("SUBMIT: %s", strerror(-err));
	return seqno;
}

uint64_t submit(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
		uint32_t syncobj)
{
	struct drm_unpu_sync sync = sync_signal(syncobj, 0);

	return submit_syncs(c, ctx, program, repeat, &sync, syncobj ? 1 : 0);
}

void run(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat)
{
	uint32_t syncobj = syncobj_create(c);
	uint64_t seqno = submit(c, ctx, program, repeat, syncobj);
	int err = syncobj_wait(c, syncobj, 0, PATIENCE_MS);
	struct drm_unpu_ctx_query query;

	if (err)
		die("waiting for a job: %s", strerror(-err));
	query = ctx_query(c, ctx);
	if (query.completed_seqno < seqno || query.failed_errno)
		die("a job ended with %s", strerror(-query.failed_errno));
	syncobj_destroy(c, syncobj);
}

uint32_t syncobj_create(struct client *c)
{
	struct drm_syncobj_create args = { 0 };
	int err = call(c->fd, DRM_IOCTL_SYNCOBJ_CREATE, &args);

	if (err)
		die("SYNCOBJ_CREATE: %s", strerror(-err));
	return args.handle;
}

int syncobj_destroy(struct client *c, uint32_t handle)
{
	struct drm_syncobj_destroy args = { .handle = handle };

	return call(c->fd, DRM_IOCTL_SYNCOBJ_DESTROY, &args);
}

int syncobj_wait(struct client *c, uint32_t handle, uint64_t point, uint32_t ms)
{
	struct drm_syncobj_timeline_wait args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point,
		.timeout_nsec = now_ns() + ms * MS, .count_handles = 1,
	};

	return call(c->fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &args);
}

uint64_t syncobj_point(struct client *c, uint32_t handle)
{
	uint64_t point = 0;
	struct drm_syncobj_timeline_array args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point, .count_handles = 1,
	};
	int err = call(c->fd, DRM_IOCTL_SYNCOBJ_QUERY, &args);

	if (err)
		die("SYNCOBJ_QUERY: %s", strerror(-err));
	return point;
}

int syncobj_to_fd(struct client *c, uint32_t handle, uint32_t flags, int *fd)
{
	struct drm_syncobj_handle args = { .handle = handle, .flags = flags, .fd = -1 };
	int err = call(c->fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &args);

	*fd = args.fd;
	return err;
}

int sync_file_export(struct client *c, uint32_t syncobj)
{
	int fd, err = syncobj_to_fd(c, syncobj, DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE,
				    &fd);

	if (err)
		die("export of a sync_file: %s", strerror(-err));
	return fd;
}

int sync_file_status(int fd, uint32_t ms)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };
	const uint64_t deadline = now_ns() + ms * MS;
	struct sync_fence_info fence = { 0 };
	struct sync_file_info args = {
		.num_fences = 1, .sync_fence_info = (uintptr_t)&fence,
	};
	int err;

	/* It is never restarted, and must come to an end under signals, too. */
	while (poll(&one, 1, ms) < 0 && errno == EINTR && ms)
		ms = now_ns() < deadline ? (deadline - now_ns()) / MS + 1 : 0;
	err = call(fd, SYNC_IOC_FILE_INFO, &args);
	if (err)
		die("SYNC_IOC_FILE_INFO: %s", strerror(-err));
	if (args.num_fences != 1 || args.status != fence.status)
		die("a sync_file of one fence has %u, status %d and %d", args.num_fences,
		    args.status, fence.status);
	return fence.status;
}

int bo_export(struct client *c, uint32_t handle, int *fd)
{
	struct drm_prime_handle args = { .handle = handle, .flags = O_CLOEXEC | O_RDWR, .fd = -1 };
	int err = call(c->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &args);

	*fd = args.fd;
	return err;
}

int bo_import(struct client *c, int fd, uint32_t *handle)
{
	struct drm_prime_handle args = { .fd = fd };
	int err = call(c->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &args);

	*handle = args.handle;
	return err;
}

/* ---- the device ---------------------------------------------------------------------------- */

struct drm_unpu_dev_stats dev_stats(struct client *c)
{
	struct drm_unpu_dev_stats stats;
	struct drm_unpu_dev_query query = {
		DRM_UNPU_QUERY_DEV_STATS, sizeof(stats), (uintptr_t)&stats,
	};
	int err = call(c->fd, DRM_IOCTL_UNPU_DEV_QUERY, &query);

	if (err)
		die("DEV_QUERY: %s", strerror(-err));
	return stats;
}

bool memory_is(struct client *c, const struct drm_unpu_dev_stats *stats)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;

	for (;;) {
		struct drm_unpu_dev_stats now = dev_stats(c);

		if (now.window_used_bytes == stats->window_used_bytes &&
		    now.device_used_bytes == stats->device_used_bytes)
			return true;
		if (now_ns() > deadline) {
			printf("# window: %lld, device: %lld bytes more than before\n",
			       (long long)(now.window_used_bytes - stats->window_used_bytes),
			       (long long)(now.device_used_bytes - stats->device_used_bytes));
			return false;
		}
		sleep_ms(10);
	}
}

/* $link of the node's device in sysfs, resolved. */
static void sysfs_of_node(const char *link, char *path)
{
	char name[64];
	struct stat st;

	if (stat(node_path(), &st))
		die("%s: %s", node_path(), strerror(errno));
	snprintf(name, sizeof(name), "/sys/dev/char/%u:%u/%s", major(st.st_rdev),
		 minor(st.st_rdev), link);
	if (!realpath(name, path))
		die("%s: %s", name, strerror(errno));
}

bool node_is_mock(void)
{
	char path[PATH_MAX];

	sysfs_of_node("device", path);
	return strstr(path, "/platform/");
}

static char bus_device[128], bus_driver[PATH_MAX];

void bus_remember(void)
{
	char path[PATH_MAX];

	if (bus_device[0])
		return;
	sysfs_of_node("device", path);
	snprintf(bus_device, sizeof(bus_device), "%s", strrchr(path, '/') + 1);
	sysfs_of_node("device/driver", bus_driver);
}

int bus_file(const char *name)
{
	char path[PATH_MAX + 200];
	int fd;

	bus_remember();
	snprintf(path, sizeof(path), "%s/%s", bus_driver, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

const char *bus_name(void)
{
	bus_remember();
	return bus_device;
}

bool bus_is_bound(void)
{
	char path[PATH_MAX + 200];

	snprintf(path, sizeof(path), "%s/%s", bus_driver, bus_device);
	return !access(path, F_OK);
}

static void bus_write(const char *file)
{
	int fd = bus_file(file);

	if (write(fd, bus_device, strlen(bus_device)) < 0)
		die("%s to %s of its driver: %s", bus_device, file, strerror(errno));
	close(fd);
}

void bus_unbind(void)
{
	bus_write("unbind");
}

/* The node of the bus device in one of the two classes. */
static bool find_in(const char *class, const char *folder)
{
	char path[PATH_MAX + 200], link[512];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s/%s", bus_driver, bus_device, class);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "accel", 5) && strncmp(entry->d_name, "renderD", 7))
			continue;
		snprintf(link, sizeof(link), "/dev/%s/%s", folder, entry->d_name);
		found = !access(link, F_OK);
	}
	if (dir)
		closedir(dir);
	if (found)
		setenv("UNPU_NODE", link, 1);
	return found;
}

bool bus_has_node(void)
{
	return find_in("accel", "accel") || find_in("drm", "dri");
}

static void wait_for_node(void)
{
	uint64_t deadline = now_ns() + PATIENCE_MS * MS;

	while (!bus_has_node()) {
		if (now_ns() > deadline)
			die("%s is bound and has no node", bus_device);
		sleep_ms(10);
	}
}

void bus_bind(void)
{
	bus_write("bind");
	wait_for_node();
}

void bus_ensure_bound(void)
{
	if (access(bus_driver, F_OK) && module_insert())
		die("the module is gone, and does not load");
	if (!bus_is_bound())
		bus_write("bind");
	wait_for_node();
}

int module_remove(void)
{
	bus_remember();
	return syscall(SYS_delete_module, "unpu", O_NONBLOCK) ? -errno : 0;
}

int module_insert(void)
{
	const char *path = getenv("UNPU_MODULE");
	const char *params = strstr(bus_driver, "/platform/") ? "mock=1" : "";
	int fd, err;

	fd = open(path ? path : "/lib/modules/unpu.ko", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = syscall(SYS_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	if (!err)
		wait_for_node();
	return err;
}
