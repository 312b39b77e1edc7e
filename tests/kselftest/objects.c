// SPDX-License-Identifier: GPL-2.0-only
/* Buffers, programs and contexts: whose they are, how long they live, what can be mapped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tests/kselftest/lib/node.h"

#define PAGE	4096u

static bool is_byte(const void *map, size_t bytes, uint8_t value)
{
	const uint8_t *p = map;

	return !bytes || (p[0] == value && !memcmp(p, p + 1, bytes - 1));
}

/* ---- two files ----------------------------------------------------------------------------- */

/* Ids that another file has and this one has not. */
TEST(ids_of_another_file)
{
	struct client a = user_open(), b = client_open();
	uint32_t from = bo_create(&a, PAGE, WINDOW), to = bo_create(&a, PAGE, WINDOW);
	uint32_t ctx = ctx_create(&a, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint32_t program = copy_create(&a, from, to, PAGE), mine;
	uint32_t syncobj = syncobj_create(&a), own_ctx, own;
	struct drm_unpu_ctx_query query = { .ctx_id = ctx };
	struct drm_unpu_sync sync = sync_signal(syncobj, 0);
	uint64_t offset, seqno;

	ASSERT_EQ(bo_offset(&b, from, &offset), -ENOENT);
	ASSERT_EQ(bo_close(&b, from), -EINVAL);
	ASSERT_EQ(copy_try(&b, from, to, PAGE, &mine), -ENOENT);
	ASSERT_EQ(call(b.fd, DRM_IOCTL_UNPU_CTX_QUERY, &query), -ENOENT);
	ASSERT_EQ(ctx_destroy(&b, ctx), -ENOENT);
	ASSERT_EQ(program_destroy(&b, program), -ENOENT);
	ASSERT_EQ(syncobj_destroy(&b, syncobj), -EINVAL);
	own_ctx = ctx_create(&b, DRM_UNPU_PRIORITY_NORMAL, 0);
	ASSERT_EQ(submit_try(&b, own_ctx, program, 1, NULL, 0, &seqno), -ENOENT);
	own = bo_create(&b, PAGE, WINDOW);
	mine = copy_create(&b, own, own, PAGE / 2);
	ASSERT_EQ(submit_try(&b, own_ctx + 1, mine, 1, NULL, 0, &seqno), -ENOENT);
	ASSERT_EQ(submit_try(&b, own_ctx, mine, 1, &sync, 1, &seqno), -ENOENT);
	/* Nothing of it has touched the first file's. */
	run(&a, ctx, program, 1);
}

/* Where another file's buffer would be mapped is no secret, but it is of no use. */
TEST(mapping_of_another_file)
{
	struct client a = user_open(), b = client_open();
	uint32_t handle = bo_create(&a, 4 * PAGE, WINDOW);
	uint64_t offset, page;

	ASSERT_EQ(bo_offset(&a, handle, &offset), 0);
	for (page = 0; page < 4; page++) {
		void *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, b.fd, offset + page * PAGE);

		ASSERT_EQ(map, MAP_FAILED);
		ASSERT_TRUE(errno == EACCES || errno == EINVAL);
	}
}

/* Another process, with its own file, beside this one at the same time: own ids, own memory. */
static void copies_its_own(uint8_t value)
{
	struct client c = client_open();
	uint32_t from, to, ctx = ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0), program;
	uint8_t *source = bo_mapped(&c, 64 * PAGE, &from), *target = bo_mapped(&c, 64 * PAGE, &to);
	int i;

	program = copy_create(&c, from, to, 64 * PAGE);
	for (i = 0; i < 40; i++) {
		memset(source, value + i, 64 * PAGE);
		run(&c, ctx, program, 1);
		if (!is_byte(target, 64 * PAGE, value + i))
			die("copy %d of process %d has other bytes", i, value);
	}
	_exit(KSFT_PASS);
}

TEST(two_processes_at_once)
{
	int i, status;

	become_nobody();
	for (i = 0; i < 2; i++)
		if (!fork())
			copies_its_own(100 * i);
	for (i = 0; i < 2; i++) {
		ASSERT_GT(TEMP_FAILURE_RETRY(wait(&status)), 0);
		ASSERT_EQ(status, 0);
	}
}

/* ---- memory of others ---------------------------------------------------------------------- */

/* All that the heap has, in pieces; how many there were. */
static uint32_t all_of_window(struct client *c, uint8_t **maps, uint32_t most, uint64_t piece)
{
	uint32_t i;

	for (i = 0; i < most; i++) {
		struct drm_unpu_bo_create args = { .size = piece, .flags = WINDOW };
		int err = call(c->fd, DRM_IOCTL_UNPU_BO_CREATE, &args);

		if (err == -ENOSPC)
			break;
		if (err)
			die("BO_CREATE: %s", strerror(-err));
		maps[i] = bo_map(c, args.handle, piece);
	}
	return i;
}

TEST(window_is_zeroed)
{
	struct client stays = user_open(), c = client_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays);
	uint64_t piece = c.info.heap_window_bytes / 24 & ~(uint64_t)(PAGE - 1);
	uint32_t i, count, again;
	uint8_t *maps[32];

	count = all_of_window(&c, maps, 32, piece);
	ASSERT_GE(count, 20);
	for (i = 0; i < count; i++)
		memset(maps[i], 0xa5, piece);
	for (i = 0; i < count; i++)
		munmap(maps[i], piece);
	client_close(&c);
	ASSERT_TRUE(memory_is(&stays, &before));
	c = client_open();
	again = all_of_window(&c, maps, 32, piece);
	ASSERT_EQ(again, count);
	for (i = 0; i < again; i++)
		ASSERT_TRUE(is_byte(maps[i], piece, 0));
}

/* What was taken is whole pages, and the rest of the last is nobody's old bytes either. */
TEST(window_tail_is_zeroed)
{
	struct client c = user_open();
	struct drm_unpu_bo_create args = { .size = 100, .flags = WINDOW };
	uint8_t *map;
	int i;

	for (i = 0; i < 8; i++) {
		args.size = 100;
		ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_BO_CREATE, &args), 0);
		ASSERT_EQ(args.size, PAGE);
		map = bo_map(&c, args.handle, PAGE);
		ASSERT_TRUE(is_byte(map, PAGE, 0));
		memset(map, 0x5a, PAGE);
		munmap(map, PAGE);
		ASSERT_EQ(bo_close(&c, args.handle), 0);
	}
}

TEST(device_memory_is_zeroed)
{
	const uint32_t bytes = 1 << 20;
	struct client c = user_open();
	uint32_t ctx = ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0), staging, device, in, out;
	uint8_t *map = bo_mapped(&c, bytes, &staging);
	int i;

	for (i = 0; i < 4; i++) {
		device = bo_create(&c, bytes, 0);
		out = copy_create(&c, device, staging, bytes);
		in = copy_create(&c, staging, device, bytes);
		memset(map, 0xff, bytes);
		run(&c, ctx, out, 1);
		ASSERT_TRUE(is_byte(map, bytes, 0));
		memset(map, 0xa5, bytes);
		run(&c, ctx, in, 1);
		ASSERT_EQ(program_destroy(&c, in), 0);
		ASSERT_EQ(program_destroy(&c, out), 0);
		ASSERT_EQ(bo_close(&c, device), 0);
	}
}

/* ---- lifetimes ----------------------------------------------------------------------------- */

/* What ends something has no results: it need not be able to write them. */
TEST(ended_from_memory_that_is_read_only)
{
	struct client c = user_open();
	uint32_t bo = bo_create(&c, PAGE, WINDOW), *args;
	const struct { unsigned long request; uint32_t id; } ends[] = {
		{ DRM_IOCTL_UNPU_CTX_DESTROY, ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0) },
		{ DRM_IOCTL_UNPU_PROGRAM_DESTROY, copy_create(&c, bo, bo, PAGE / 2) },
		{ DRM_IOCTL_UNPU_SHADER_DESTROY, c.copy },
	};
	size_t i;

	args = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(args, MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		args[2 * i] = ends[i].id;
	ASSERT_EQ(mprotect(args, PAGE, PROT_READ), 0);
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		ASSERT_EQ(call(c.fd, ends[i].request, &args[2 * i]), 0);
		ASSERT_EQ(call(c.fd, ends[i].request, &args[2 * i]), -ENOENT);
	}
}

TEST(dropped_while_in_use)
{
	struct client c = user_open();
	uint32_t from, to, program, ctx = ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint8_t *source = bo_mapped(&c, PAGE, &from), *target = bo_mapped(&c, PAGE, &to);
	struct drm_unpu_shader_destroy shader = { .shader_id = c.copy };
	uint64_t seqno;

	memcpy(source, "SLOWly", 6);
	program = copy_create(&c, from, to, PAGE);
	seqno = submit(&c, ctx, program, 5, 0);
	ASSERT_EQ(bo_close(&c, from), 0);
	ASSERT_EQ(bo_close(&c, to), 0);
	ASSERT_EQ(call(c.fd, DRM_IOCTL_UNPU_SHADER_DESTROY, &shader), 0);
	ASSERT_EQ(program_destroy(&c, program), 0);
	/* Ids go at once; a handle that is free again may be another's. */
	ASSERT_EQ(program_destroy(&c, program), -ENOENT);
	ASSERT_EQ(bo_close(&c, from), -EINVAL);
	ASSERT_TRUE(ctx_wait(&c, ctx, seqno, PATIENCE_MS));
	ASSERT_EQ(ctx_query(&c, ctx).failed_errno, 0);
	ASSERT_EQ(memcmp(source, target, PAGE), 0);
}

TEST(context_dropped_while_in_use)
{
	struct client c = user_open();
	uint32_t slow = word_program(&c, "SLOW"), ctx, syncobj = syncobj_create(&c);
	int i;

	if (!has_words(&c))
		SKIP(return, NO_WORDS);
	for (i = 0; i < 5; i++) {
		ctx = ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0);
		submit(&c, ctx, slow, 1000, 0);
		submit(&c, ctx, slow, 1000, syncobj);
		ASSERT_EQ(ctx_destroy(&c, ctx), 0);
		ASSERT_EQ(ctx_destroy(&c, ctx), -ENOENT);
		ASSERT_EQ(syncobj_wait(&c, syncobj, 0, PATIENCE_MS), 0);
		ASSERT_EQ(sync_file_status(sync_file_export(&c, syncobj), 0), -ECANCELED);
	}
}

TEST(mapping_outlives_handle_and_file)
{
	struct client stays = user_open(), c = client_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays);
	uint32_t handle;
	uint8_t *map = bo_mapped(&c, 8 * PAGE, &handle);

	memset(map, 1, 4 * PAGE);
	ASSERT_EQ(bo_close(&c, handle), 0);
	client_close(&c);
	ASSERT_TRUE(is_byte(map, 4 * PAGE, 1));
	ASSERT_TRUE(is_byte(map + 4 * PAGE, 4 * PAGE, 0));
	map[5 * PAGE] = 7;
	ASSERT_GT(dev_stats(&stays).window_used_bytes, before.window_used_bytes);
	/* A page of it in use is all of it in use. */
	ASSERT_EQ(munmap(map, 7 * PAGE), 0);
	ASSERT_GT(dev_stats(&stays).window_used_bytes, before.window_used_bytes);
	ASSERT_EQ(map[7 * PAGE], 0);
	ASSERT_EQ(munmap(map + 7 * PAGE, PAGE), 0);
	ASSERT_TRUE(memory_is(&stays, &before));
}

/* ---- mmap ---------------------------------------------------------------------------------- */

static sigjmp_buf fault;

static void on_fault(int sig)
{
	siglongjmp(fault, sig);
}

/* The signal that the access raises, 0: none. */
static int touch(volatile uint8_t *p, bool write)
{
	struct sigaction action = { .sa_handler = on_fault };
	int sig;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sig = sigsetjmp(fault, 1);
	if (sig)
		return sig;
	if (write)
		*p = 1;
	else
		(void)*p;
	return 0;
}

TEST(mmap_bounds)
{
	struct client c = user_open();
	uint32_t handle = bo_create(&c, 4 * PAGE, WINDOW);
	uint64_t offset;
	void *map;

	ASSERT_EQ(bo_offset(&c, handle, &offset), 0);
	ASSERT_EQ(mmap(NULL, 5 * PAGE, PROT_READ, MAP_SHARED, c.fd, offset), MAP_FAILED);
	ASSERT_EQ(errno, EINVAL);
	ASSERT_EQ(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, c.fd, offset + 4 * PAGE), MAP_FAILED);
	ASSERT_EQ(mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, c.fd, offset - PAGE), MAP_FAILED);
	ASSERT_EQ(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, c.fd, 0), MAP_FAILED);
	map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, c.fd, offset);
	ASSERT_NE(map, MAP_FAILED);
	ASSERT_EQ(mremap(map, 2 * PAGE, 6 * PAGE, MREMAP_MAYMOVE), MAP_FAILED);
	ASSERT_EQ(touch(map, true), 0);
}

/* A read-only mapping stays one, and a private one would be a copy that the device never sees. */
TEST(mmap_protection)
{
	struct client c = user_open();
	uint32_t handle = bo_create(&c, PAGE, WINDOW);
	uint64_t offset;
	void *map;

	ASSERT_EQ(bo_offset(&c, handle, &offset), 0);
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, c.fd, offset);
	ASSERT_NE(map, MAP_FAILED);
	ASSERT_EQ(touch(map, false), 0);
	ASSERT_EQ(touch(map, true), SIGSEGV);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, c.fd, offset);
	if (map != MAP_FAILED) {
		ASSERT_EQ(touch(map, false), 0);
		touch(map, true);
	}
	ASSERT_EQ(touch(bo_map(&c, handle, PAGE), true), 0);
}

TEST(fork_shares)
{
	struct client c = user_open();
	uint32_t from, to, ctx = ctx_create(&c, DRM_UNPU_PRIORITY_NORMAL, 0);
	uint8_t *source = bo_mapped(&c, PAGE, &from), *target = bo_mapped(&c, PAGE, &to);
	int status;
	pid_t pid = fork();

	if (!pid) {
		memset(source, 9, PAGE);
		run(&c, ctx, copy_create(&c, from, to, PAGE), 1);
		_exit(is_byte(target, PAGE, 9) ? KSFT_PASS : KSFT_FAIL);
	}
	ASSERT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
	ASSERT_EQ(status, 0);
	/* One file, one memory; the child's end has closed nothing. */
	ASSERT_TRUE(is_byte(target, PAGE, 9));
	run(&c, ctx, copy_create(&c, to, from, PAGE), 1);
}

/* ---- PRIME --------------------------------------------------------------------------------- */

TEST(prime_between_files)
{
	struct client stays = user_open(), a = client_open(), b = client_open();
	struct drm_unpu_dev_stats before = dev_stats(&stays);
	uint32_t handle, theirs, again, other, ctx, program;
	uint8_t *map = bo_mapped(&a, 2 * PAGE, &handle), *there;
	int fd;

	memset(map, 3, 2 * PAGE);
	ASSERT_EQ(bo_export(&a, handle, &fd), 0);
	ASSERT_EQ(bo_import(&b, fd, &theirs), 0);
	ASSERT_EQ(bo_import(&b, fd, &again), 0);
	ASSERT_EQ(theirs, again);
	ASSERT_EQ(bo_import(&a, fd, &again), 0);
	ASSERT_EQ(again, handle);
	munmap(map, 2 * PAGE);
	client_close(&a);
	close(fd);
	there = bo_map(&b, theirs, 2 * PAGE);
	ASSERT_TRUE(is_byte(there, 2 * PAGE, 3));
	ctx = ctx_create(&b, DRM_UNPU_PRIORITY_NORMAL, 0);
	other = bo_create(&b, 2 * PAGE, WINDOW);
	program = copy_create(&b, theirs, other, 2 * PAGE);
	run(&b, ctx, program, 1);
	ASSERT_TRUE(is_byte(bo_map(&b, other, 2 * PAGE), 2 * PAGE, 3));
	munmap(there, 2 * PAGE);
	client_close(&b);
	ASSERT_LE(before.window_used_bytes, dev_stats(&stays).window_used_bytes);
}

/* Memory of the device's own has no mapping, but others may use it. */
TEST(prime_of_device_memory)
{
	struct client a = user_open(), b = client_open();
	uint32_t handle = bo_create(&a, PAGE, 0), theirs, staging, ctx;
	uint8_t *map = bo_mapped(&a, PAGE, &staging);
	uint64_t offset;
	int fd;

	memset(map, 5, PAGE);
	ctx = ctx_create(&a, DRM_UNPU_PRIORITY_NORMAL, 0);
	run(&a, ctx, copy_create(&a, staging, handle, PAGE), 1);
	ASSERT_EQ(bo_export(&a, handle, &fd), 0);
	ASSERT_EQ(bo_import(&b, fd, &theirs), 0);
	ASSERT_EQ(bo_offset(&b, theirs, &offset), -EINVAL);
	ctx = ctx_create(&b, DRM_UNPU_PRIORITY_NORMAL, 0);
	map = bo_mapped(&b, PAGE, &staging);
	run(&b, ctx, copy_create(&b, theirs, staging, PAGE), 1);
	ASSERT_TRUE(is_byte(map, PAGE, 5));
}

/* It could not be taken back when the device goes. */
TEST(dma_buf_is_not_mapped)
{
	struct client c = user_open();
	uint32_t handle = bo_create(&c, PAGE, WINDOW);
	int fd;

	ASSERT_EQ(bo_export(&c, handle, &fd), 0);
	ASSERT_EQ(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), MAP_FAILED);
	close(fd);
}

/* A dma-buf of somebody else's; -1: nobody here makes one. */
static int foreign_dma_buf(void)
{
	int memfd = memfd_create("foreign", MFD_ALLOW_SEALING), fd;
	int maker = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	struct udmabuf_create args = { .memfd = memfd, .size = PAGE };

	if (memfd >= 0 && maker >= 0 && !ftruncate(memfd, PAGE) &&
	    !fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		fd = ioctl(maker, UDMABUF_CREATE, &args);
		if (fd >= 0)
			return fd;
	}
	maker = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
	if (maker >= 0) {
		struct client vgem = { .fd = maker };
		struct { uint32_t height, width, bpp, flags, handle, pitch; uint64_t size; }
			dumb = { .height = 16, .width = 64, .bpp = 32 };

		if (!call(maker, DRM_IOWR(0xb2, dumb), &dumb) &&
		    !bo_export(&vgem, dumb.handle, &fd))
			return fd;
	}
	return -1;
}

TEST(foreign_dma_buf_is_refused)
{
	/* Root makes it, and an ordinary user tries. */
	int foreign = foreign_dma_buf();
	struct client c = user_open();
	uint32_t handle;

	if (foreign < 0)
		SKIP(return, "neither udmabuf nor vgem is here");
	ASSERT_EQ(bo_import(&c, foreign, &handle), -EOPNOTSUPP);
	ASSERT_EQ(bo_import(&c, c.fd, &handle), -EINVAL);
	ASSERT_EQ(bo_import(&c, -1, &handle), -EBADF);
	close(foreign);
}

int main(int argc, char **argv)
{
	node_argument(&argc, argv);
	return test_harness_run(argc, argv);
}
