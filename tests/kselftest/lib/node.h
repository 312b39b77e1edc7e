/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs share: a node, and objects on it. Functions that return no error end the test
 * as failed when they cannot, with a line that says why.
 */
#ifndef UNPU_KSELFTEST_NODE_H
#define UNPU_KSELFTEST_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "uapi/unpu_accel.h"

#define MS		1000000ull	/* in nanoseconds */
#define SECOND		1000000000ull
#define WINDOW		DRM_UNPU_BO_MMAP
/* What the device may take longer than promised because its machine is slow. */
#define PATIENCE_MS	node_slowed(10000)

/* $UNPU_NODE, else the first of /dev/accel. */
const char *node_path(void);
/* The first argument that is no option names the node; it is taken away. */
void node_argument(int *argc, char **argv);
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
uint64_t now_ns(void);
void sleep_ms(uint32_t ms);
/* A limit for a machine in good health, on this one: $UNPU_SLOW times as much. */
uint32_t node_slowed(uint32_t ms);

/* 0 or -errno; a call that a signal has interrupted is made again, as libdrm does. */
int call(int fd, unsigned long request, void *args);

struct client {
	int fd;
	uint32_t copy;		/* the shader */
	struct drm_unpu_dev_info info;
};

int node_open(void);
/* As client_open(), which becomes nobody first, where root runs it. */
struct client user_open(void);
struct client client_open(void);
void client_close(struct client *c);
/* The node's group is kept: what the udev rule gives to the members of render. */
void become_nobody(void);

/* ---- objects ---- */

uint32_t bo_create(struct client *c, uint64_t size, uint32_t flags);
/* 0 or -errno */
int bo_close(struct client *c, uint32_t handle);
int bo_offset(struct client *c, uint32_t handle, uint64_t *offset);
void *bo_map(struct client *c, uint32_t handle, uint64_t size);
/* Both at once. */
void *bo_mapped(struct client *c, uint64_t size, uint32_t *handle);

uint32_t ctx_create(struct client *c, uint32_t priority, uint64_t timeout_ns);
int ctx_try(struct client *c, uint32_t priority, uint64_t timeout_ns, uint32_t *ctx);
int ctx_destroy(struct client *c, uint32_t ctx);
struct drm_unpu_ctx_query ctx_query(struct client *c, uint32_t ctx);
/* Until the job, and those before it, has ended: false when that takes longer. */
bool ctx_wait(struct client *c, uint32_t ctx, uint64_t seqno, uint32_t ms);

uint32_t shader_create(struct client *c, const char *name, const void *spec, uint32_t words);
int program_destroy(struct client *c, uint32_t program);

/* A program of copies. */
struct copies {
	uint32_t num_buffers, num_copies, flags, stop_buffer, stop_offset;
	struct drm_unpu_buffer buffers[16];
	struct { uint32_t from, to, bytes; } copies[16];
};

/* Index of the buffer table's new row. */
uint32_t copies_row(struct copies *p, uint32_t handle, uint64_t offset, uint64_t size);
void copies_add(struct copies *p, uint32_t from, uint32_t to, uint32_t bytes);
int copies_try(struct client *c, const struct copies *p, uint32_t *program);
uint32_t copies_create(struct client *c, const struct copies *p);
/* One copy. */
uint32_t copy_create(struct client *c, uint32_t from, uint32_t to, uint32_t bytes);
int copy_try(struct client *c, uint32_t from, uint32_t to, uint32_t bytes, uint32_t *program);
/*
 * One copy from a source that begins with four letters, by which device processes made for tests,
 * and the mock, do something else: HANG runs until it is cancelled, STUK for ever, EXIT kills the
 * worker, SLOW takes 20 ms longer.
 */
uint32_t word_program(struct client *c, const char *word);
/* Another device runs these as copies. */
bool has_words(struct client *c);
#define NO_WORDS	"this device process is not one for tests"

/*
 * Counts its repeats: each moves the bytes of blocks up by one block, the first stays. Blocks of
 * COUNTER_BLOCK bytes; the first byte of block i is 1 after i repeats.
 */
#define COUNTER_BLOCK	4096u
#define COUNTER_BLOCKS	64u
struct counter {
	uint32_t bo, between, program;
	volatile uint8_t *map;
};
/* first: NULL, or the word that makes it slow; stop_at: 0, or it stops itself after as many. */
struct counter counter_create(struct client *c, const char *word, uint32_t stop_at);
uint32_t counter_read(const volatile uint8_t *map);
/* A new file, a few repeats of a new program, and nothing of it is left. */
void device_works(void);

/* ---- jobs ---- */

struct drm_unpu_sync sync_wait(uint32_t handle, uint64_t point);
struct drm_unpu_sync sync_signal(uint32_t handle, uint64_t point);
int submit_try(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
	       const struct drm_unpu_sync *syncs, uint32_t num_syncs, uint64_t *seqno);
/* Signals the syncobj, if it is not 0. */
uint64_t submit(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
		uint32_t syncobj);
uint64_t submit_syncs(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat,
		      const struct drm_unpu_sync *syncs, uint32_t num_syncs);
/* Submits, waits, and the job has no error. */
void run(struct client *c, uint32_t ctx, uint32_t program, uint32_t repeat);

uint32_t syncobj_create(struct client *c);
int syncobj_destroy(struct client *c, uint32_t handle);
/* 0, -ETIME or another error */
int syncobj_wait(struct client *c, uint32_t handle, uint64_t point, uint32_t ms);
int syncobj_to_fd(struct client *c, uint32_t handle, uint32_t flags, int *fd);
/* The last point that has signalled. */
uint64_t syncobj_point(struct client *c, uint32_t handle);
int sync_file_export(struct client *c, uint32_t syncobj);
/* 0: active, 1: signalled, else its error; waits up to ms for its end. */
int sync_file_status(int fd, uint32_t ms);

/* PRIME: 0 or -errno */
int bo_export(struct client *c, uint32_t handle, int *fd);
int bo_import(struct client *c, int fd, uint32_t *handle);

/* ---- the device ---- */

struct drm_unpu_dev_stats dev_stats(struct client *c);
/* Waits until the counters of memory are what they were: what closes, closes later. */
bool memory_is(struct client *c, const struct drm_unpu_dev_stats *stats);

/* Whether the node is the mock's, and so without a device process. */
bool node_is_mock(void);
/* The bus device of the node, for root. The first call, by whatever of these, takes its name. */
void bus_remember(void);
void bus_unbind(void);
/* Waits for the node, which may have another number, and names it from then on. */
void bus_bind(void);
/* For those who write themselves: the driver's file "bind" or "unbind", and what to write. */
int bus_file(const char *name);
const char *bus_name(void);
bool bus_is_bound(void);
/* And names it from then on. */
bool bus_has_node(void);
/* Whatever a test before this one has left. */
void bus_ensure_bound(void);
/* rmmod, and insmod of $UNPU_MODULE, else /lib/modules/unpu.ko, as it was loaded before: 0 or
 * -errno; the module's absence is -ENOENT. */
int module_remove(void);
int module_insert(void);

#ifdef __KSELFTEST_HARNESS_H
/* The harness gives each test 30 s, however slow the machine is. */
static inline void node_slow_tests(void)
{
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			t->timeout = node_slowed(t->timeout);
}

#define test_harness_run(argc, argv) (node_slow_tests(), test_harness_run(argc, argv))
#endif

#endif
