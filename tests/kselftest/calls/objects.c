// SPDX-License-Identifier: GPL-2.0-only
/* The calls of the device, and mappings. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "shaders/shaders.h"
#include "tests/kselftest/calls/ops.h"
#include "tests/kselftest/lib/node.h"

/* ---- files --------------------------------------------------------------------------------- */

OP(open)
{
	int fd = open(node_path(), O_RDWR | O_CLOEXEC | (a[1] & O_NONBLOCK));

	if (fd < 0)
		return -errno;
	made_fd(r, KIND_FILE, a[0], fd);
	return 0;
}

OP(close)
{
	int fd = take_fd(r, KIND_FILE, a[0]);

	return fd < 0 ? -EBADF : close(fd) ? -errno : 0;
}

OP(query)
{
	uint8_t answer[4096];
	struct drm_unpu_dev_query args = { .type = a[1], .size = a[2] };

	switch (a[3]) {
	case 0: args.pointer = (uintptr_t)answer; break;
	case 1: args.pointer = (uintptr_t)arg_map(r, a[4]); break;
	case 2: args.pointer = 8; break;
	default: break;
	}
	/* No more than is there. */
	if (args.size > sizeof(answer))
		args.pointer = 0;
	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_DEV_QUERY, &args);
}

OP(fdinfo)
{
	char text[2048];
	int fd;

	snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", arg_fd(r, KIND_FILE, a[0]));
	fd = open(text, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (read(fd, text, sizeof(text)) > 0)
		;
	return close(fd);
}

/*
 * Any number, direction and size, with anything in it: the bytes are small numbers, so that what
 * they point to, if they do, is no memory of this process.
 */
OP(raw)
{
	struct calls_random random = { a[2] };
	uint64_t words[64];
	uint32_t i, nr = (DRM_COMMAND_BASE + a[1]) & 0xff, size = a[3] % sizeof(words);

	for (i = 0; i < 64; i++)
		words[i] = random_percent(&random, 60) ? 0 :
			   random_next(&random) >> (48 + random_below(&random, 16)) << 32 |
			   random_below(&random, 4);
	return op_ioctl(arg_fd(r, KIND_FILE, a[0]),
			_IOC(a[4] & 3, DRM_IOCTL_BASE, nr, size), words);
}

OP(core)
{
	int fd = arg_fd(r, KIND_FILE, a[0]);
	char text[64];
	struct drm_version version = {
		.name = text, .name_len = 16, .desc = text + 16, .desc_len = a[2] & 15,
	};
	struct drm_get_cap cap = { .capability = a[2] };
	struct drm_set_client_cap client = { .capability = a[2], .value = 1 };
	struct drm_set_version set = { 1, 4, -1, -1 };

	switch (a[1] % 4) {
	case 0: return op_ioctl(fd, DRM_IOCTL_VERSION, &version);
	case 1: return op_ioctl(fd, DRM_IOCTL_GET_CAP, &cap);
	case 2: return op_ioctl(fd, DRM_IOCTL_SET_CLIENT_CAP, &client);
	default: return op_ioctl(fd, DRM_IOCTL_SET_VERSION, &set);
	}
}

/* ---- buffers ------------------------------------------------------------------------------- */

OP(bo_create)
{
	struct drm_unpu_bo_create args = { .size = a[2], .flags = a[3] };
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_BO_CREATE, &args);

	if (!err)
		made_value(r, KIND_BO, a[1], args.handle);
	return err;
}

static int bo_where(struct calls_runner *r, const uint64_t *a, uint32_t pad, uint64_t *offset)
{
	struct drm_unpu_bo_mmap_offset args = {
		.handle = arg_value(r, KIND_BO, a[1]), .pad = pad,
	};
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_BO_MMAP_OFFSET, &args);

	*offset = args.offset;
	return err;
}

OP(bo_offset)
{
	uint64_t offset;

	return bo_where(r, a, a[2], &offset);
}

OP(bo_close)
{
	struct drm_gem_close args = { .handle = arg_value(r, KIND_BO, a[1]) };

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_GEM_CLOSE, &args);
}

/* What makes jobs that copy from it go wrong. */
OP(bo_word)
{
	uint32_t word = a[2];
	uint64_t offset;
	int err = bo_where(r, a, 0, &offset);
	void *map;

	if (err)
		return err;
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, arg_fd(r, KIND_FILE, a[0]),
		   offset);
	if (map == MAP_FAILED)
		return -errno;
	err = GUARDED(memcpy(map, &word, sizeof(word))) ? -EFAULT : 0;
	munmap(map, 4096);
	return err;
}

/* ---- mappings ------------------------------------------------------------------------------ */

/* First anywhere, then in its place: in between nothing else can come there. */
OP(map)
{
	uint32_t size = a[3] ? (a[3] - 1) % CALLS_MAP_BYTES + 1 : 0;
	uint64_t offset;
	int err = bo_where(r, a, 0, &offset);
	void *map;

	if (err)
		return err;
	map = mmap(NULL, size, a[4], a[5], arg_fd(r, KIND_FILE, a[0]), offset + a[6]);
	if (map == MAP_FAILED)
		return -errno;
	if (mremap(map, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, arg_map(r, a[2])) == MAP_FAILED)
		err = -errno;
	if (err)
		munmap(map, size);
	return err;
}

OP(unmap)
{
	char *map = arg_map(r, a[0]);

	/* Nobody else's mapping shall come there. */
	map = mmap(map + (a[1] & (CALLS_MAP_BYTES - 4096)), CALLS_MAP_BYTES / (a[2] ? 256 : 1) -
		   (a[2] ? 0 : a[1] & (CALLS_MAP_BYTES - 4096)), PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	return map == MAP_FAILED ? -errno : 0;
}

static void touch(volatile uint32_t *word, uint32_t how)
{
	switch (how) {
	case 0: (void)*word; break;
	case 1: *word = 1; break;
	case 2: *word = 0; break;
	case 3: getrandom((void *)word, 4, 0); break;
	default: *word = how; break;
	}
}

OP(touch)
{
	char *at = (char *)arg_map(r, a[0]) + (a[1] & (CALLS_MAP_BYTES - 4));

	return GUARDED(touch((void *)at, a[2])) ? -EFAULT : 0;
}

OP(advise)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_WILLNEED, MADV_DONTFORK, MADV_DOFORK, MADV_PAGEOUT,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD, MADV_HUGEPAGE,
	};
	char *map = arg_map(r, a[0]);
	uint32_t bytes = (a[2] & (CALLS_MAP_BYTES / 2 - 4096)) + 4096;
	void *moved;

	switch (a[1] % 6) {
	case 0: return mprotect(map, bytes, a[3] & 7) ? -errno : 0;
	case 1: return mlock(map, bytes) ? -errno : 0;
	case 2: return munlock(map, bytes) ? -errno : 0;
	case 3: return msync(map, bytes, MS_SYNC) ? -errno : 0;
	case 4:
		/* It must not grow; where it does it would, within its place. */
		moved = mremap(map, 4096, 8192, 0);
		return moved == MAP_FAILED ? -errno : 0;
	default: return madvise(map, bytes, advice[a[3] % 9]) ? -errno : 0;
	}
}

/* ---- contexts ------------------------------------------------------------------------------ */

OP(ctx_create)
{
	struct drm_unpu_ctx_create args = {
		.priority = a[2], .timeout_ns = a[3], .flags = a[4],
	};
	int err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_CTX_CREATE, &args);

	if (!err)
		made_value(r, KIND_CTX, a[1], args.ctx_id);
	return err;
}

OP(ctx_destroy)
{
	struct drm_unpu_ctx_destroy args = {
		.ctx_id = arg_value(r, KIND_CTX, a[1]), .pad = a[2],
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_CTX_DESTROY, &args);
}

OP(ctx_query)
{
	struct drm_unpu_ctx_query args = { .ctx_id = arg_value(r, KIND_CTX, a[1]), .pad = a[2] };

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_CTX_QUERY, &args);
}

/* ---- shaders and programs ------------------------------------------------------------------ */

OP(shader_create)
{
	static const char *const names[] = {
		"copy.1", "embed.1", "qkv.1", "attn.1", "attn_out.1", "ffn_in.1", "ffn_out.1",
		"head.1", "sample.1", "copy.2", "", "copy",
	};
	struct calls_random random = { a[4] };
	struct drm_unpu_shader_create args = { .spec_words = a[3] };
	uint32_t spec[64], i;
	int err;

	for (i = 0; i < 64; i++)
		spec[i] = random_below(&random, 1u << random_below(&random, 12));
	args.spec = a[3] > 64 ? 8 : (uintptr_t)spec;
	strcpy((char *)args.name, names[a[2] % 12]);
	damage(a[5], args.name, sizeof(args.name));
	err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_SHADER_CREATE, &args);
	if (!err)
		made_value(r, KIND_SHADER, a[1], args.shader_id);
	return err;
}

OP(shader_destroy)
{
	struct drm_unpu_shader_destroy args = {
		.shader_id = arg_value(r, KIND_SHADER, a[1]), .pad = a[2],
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_SHADER_DESTROY, &args);
}

#define MAX_COPIES	4
struct tables {
	struct drm_unpu_buffer buffers[2 * MAX_COPIES];
	struct drm_unpu_dispatch dispatches[MAX_COPIES];
	struct drm_unpu_binding bindings[2 * MAX_COPIES];
	struct unpu_copy_const constants[MAX_COPIES];
};

static uint64_t pick(struct calls_random *random, const uint64_t *values, uint32_t count)
{
	return values[random_below(random, count)];
}

static uint64_t least(uint64_t a, uint64_t b, uint64_t c)
{
	a = a < b ? a : b;
	return a < c ? a : c;
}

/* Copies between two buffers, as `shape` says; 0: one of a few bytes. */
static uint32_t fill_tables(struct tables *t, uint32_t shader, uint32_t from, uint32_t to,
			    uint64_t shape)
{
	static const uint64_t sizes[] = { 4096, 4096, 4096, 4096, 2048, 64, 4, 8192, 65536 };
	static const uint64_t offsets[] = { 0, 0, 0, 0, 0, 256, 2048, 4096 };
	struct calls_random random = { shape };
	uint32_t n = shape ? 1 + random_below(&random, MAX_COPIES) : 1, i;
	uint64_t bytes;

	memset(t, 0, sizeof(*t));
	for (i = 0; i < 2 * n; i++) {
		t->buffers[i] = (struct drm_unpu_buffer){
			.handle = i & 1 ? to : from, .flags = 3,
			.offset = shape ? pick(&random, offsets, 8) : 0,
			.size = shape ? pick(&random, sizes, 9) : 4096,
		};
		/* Most buffers have a page. */
		if (t->buffers[i].offset && random_percent(&random, 80))
			t->buffers[i].size = 2048;
		t->bindings[i].buffer = i;
	}
	for (i = 0; i < n; i++) {
		bytes = shape ? pick(&random, sizes, 9) : 64;
		if (random_percent(&random, 90))
			bytes = least(bytes, t->buffers[2 * i].size, t->buffers[2 * i + 1].size);
		t->constants[i].bytes_lo = bytes;
		t->dispatches[i] = (struct drm_unpu_dispatch){
			.shader_id = shader, .first_binding = 2 * i, .num_bindings = 2,
			.const_offset = i * sizeof(t->constants[0]),
			.const_bytes = sizeof(t->constants[0]),
			.grid = { (bytes + 0xffff) >> 16, 1, 1 },
		};
	}
	return n;
}

/* Elements in a mapping of the device's are read by the device's own fault handler. */
static void *place(struct calls_runner *r, uint64_t where, uint64_t map, void *data, size_t bytes)
{
	void *at = arg_map(r, map);

	if (where != 1)
		return where == 2 ? (void *)8 : data;
	(void)GUARDED(memcpy(at, data, bytes));
	return at;
}

OP(program_create)
{
	struct tables tables;
	uint32_t n = fill_tables(&tables, arg_value(r, KIND_SHADER, a[2]),
				 arg_value(r, KIND_BO, a[3]), arg_value(r, KIND_BO, a[4]), a[5]);
	struct drm_unpu_program_create args;
	struct tables *at;
	int err;

	damage(a[7], &tables, sizeof(tables));
	at = place(r, a[9], a[10], &tables, sizeof(tables));
	args = (struct drm_unpu_program_create){
		.buffers = { sizeof(at->buffers[0]), 2 * n, (uintptr_t)at->buffers },
		.dispatches = { sizeof(at->dispatches[0]), n, (uintptr_t)at->dispatches },
		.bindings = { sizeof(at->bindings[0]), 2 * n, (uintptr_t)at->bindings },
		.constants = (uintptr_t)at->constants,
		.const_bytes = n * sizeof(at->constants[0]),
		.flags = a[6], .stop_buffer = a[6] >> 32 & 0xffff, .stop_offset = a[6] >> 48,
	};
	damage(a[8], &args, sizeof(args));
	err = op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_PROGRAM_CREATE, &args);
	if (!err)
		made_value(r, KIND_PROGRAM, a[1], args.program_id);
	return err;
}

OP(program_destroy)
{
	struct drm_unpu_program_destroy args = {
		.program_id = arg_value(r, KIND_PROGRAM, a[1]), .pad = a[2],
	};

	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_PROGRAM_DESTROY, &args);
}

struct job {
	struct drm_unpu_run runs[2];
	struct drm_unpu_sync syncs[2];
};

/* how: 0: none; else flags in the lowest byte, the point above. */
static uint32_t add_sync(struct calls_runner *r, struct job *job, uint32_t n, uint64_t syncobj,
			 uint64_t how)
{
	if (!how)
		return n;
	job->syncs[n] = (struct drm_unpu_sync){
		.handle = arg_value(r, KIND_SYNCOBJ, syncobj), .flags = how & 0xff,
		.point = how >> 8,
	};
	return n + 1;
}

OP(submit)
{
	struct job job = {
		.runs = { { arg_value(r, KIND_PROGRAM, a[2]), a[4] },
			  { arg_value(r, KIND_PROGRAM, a[3]), a[4] } },
	};
	struct drm_unpu_submit args = {
		.ctx_id = arg_value(r, KIND_CTX, a[1]),
		.runs = { sizeof(job.runs[0]), a[4] >> 32 ? 2 : 1, 0 },
		.syncs = { sizeof(job.syncs[0]), 0, 0 },
	};
	struct job *at;

	args.syncs.count = add_sync(r, &job, 0, a[6], a[5]);
	args.syncs.count = add_sync(r, &job, args.syncs.count, a[8], a[7]);
	damage(a[9] >> 32, &job, sizeof(job));
	at = place(r, a[10], a[11], &job, sizeof(job));
	args.runs.ptr = (uintptr_t)at->runs;
	args.syncs.ptr = (uintptr_t)at->syncs;
	damage((uint32_t)a[9], &args, sizeof(args));
	return op_ioctl(arg_fd(r, KIND_FILE, a[0]), DRM_IOCTL_UNPU_SUBMIT, &args);
}
