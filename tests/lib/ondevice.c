/* SPDX-License-Identifier: MIT */
#include "tests/lib/ondevice.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/device/device.h"
#if UNPU_VULKAN
#include "runtime/device/vulkan/vulkan.h"
#endif
#include "runtime/model/gguf.h"

#define GUARD		4096u		/* bytes on each side of a binding */
#define GUARD_BYTE	0xff		/* as f32 and as f16 a NaN, as an index far outside */
#define UNREAD		256u		/* bytes of a binding that the shader does not read */
#define WAIT_NS		120000000000ull	/* for one dispatch: a driver of Vulkan may compile */

struct ondevice {
	struct unpu_device *dev;
	struct drm_unpu_dev_info info;
	char name[64], tuning[ONDEVICE_TUNING];
	uint32_t ctx, syncobj;
	uint64_t point;
	uint8_t can[DRM_UNPU_LAYOUT_COUNT][2];	/* [layout][class] */
	char why[160];
};

struct ondevice_program {
	struct ondevice *device;
	const struct unpu_shader_info *info;
	uint32_t bo, shader, program;
	uint8_t *map;
	uint64_t bytes, offset[UNPU_SHADER_MAX_BINDINGS], size[UNPU_SHADER_MAX_BINDINGS];
};

static int fail(struct ondevice *device, int ret, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct ondevice *device, int ret, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(device->why, sizeof(device->why), format, args);
	va_end(args);
	return ret;
}

#if UNPU_VULKAN
static void log_line(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	/* The calls that fail here are looked at one by one. */
	if (level == UNPU_LOG_WARN)
		fprintf(stderr, "%s\n", text);
}

static const struct unpu_log to_stderr = { .fn = log_line };

static int index_of(const char *id)
{
	char *end;
	long n;

	if (strncmp(id, "vulkan:", 7))
		return -1;
	n = strtol(id + 7, &end, 10);
	return *end || end == id + 7 || n < 0 || n >= UNPU_VULKAN_MAX_DEVICES ? -1 : (int)n;
}

static int open_engine(const char *id, const char *tuning, struct unpu_device **dev)
{
	const struct unpu_device_params params = { .tuning = tuning, .log = to_stderr };
	struct unpu_engine *engine;
	int err = unpu_vulkan_engine_create((uint32_t)index_of(id), &params, &engine);

	return err ? err : unpu_inproc_create(engine, id, &to_stderr, NULL, dev);
}
#else
static int open_engine(const char *id, const char *tuning, struct unpu_device **dev)
{
	(void)id;
	(void)tuning;
	(void)dev;
	return -ENODEV;
}
#endif

/* ---- the device --------------------------------------------------------------------------- */

static int make_context(struct ondevice *device)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	int err = device->dev->ops->ctx_create(device->dev, &ctx);

	device->ctx = ctx.ctx_id;
	return err;
}

/*
 * A tuning of dot products is for class a8 and one of f16 for weights that are not f32; what the
 * device reports is only what it would choose, so it is asked for a shader of each.
 */
static void look_at_matrices(struct ondevice *device)
{
	const struct unpu_device_ops *ops = device->dev->ops;
	struct unpu_ffn_out_spec spec = { .rows = 1, .slots = 1, .hidden = 32, .ffn = 32 };
	struct drm_unpu_shader_create args = {
		.spec = (uintptr_t)&spec, .spec_words = sizeof(spec) / 4,
	};
	int dot = !!strstr(device->tuning, "dot");

	strcpy((char *)args.name, unpu_shader_info(UNPU_SHADER_FFN_OUT)->name);
	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++) {
		spec.layout = layout;
		spec.numeric = dot ? DRM_UNPU_CLASS_A8 : DRM_UNPU_CLASS_F32;
		if (ondevice_half(device) && layout == DRM_UNPU_LAYOUT_F32_R32)
			continue;
		if (ops->shader_create(device->dev, &args))
			continue;
		device->can[layout][spec.numeric] = 1;
		ops->shader_destroy(device->dev, &(struct drm_unpu_shader_destroy){
						 .shader_id = args.shader_id });
	}
}

struct ondevice *ondevice_open(const char *id, const char *tuning)
{
	struct ondevice *device = calloc(1, sizeof(*device));
	struct drm_unpu_dev_query query = {
		.type = DRM_UNPU_QUERY_DEV_INFO, .size = sizeof(device->info),
		.pointer = (uintptr_t)&device->info,
	};

	snprintf(device->name, sizeof(device->name), "%s%s%s", id, tuning ? "-" : "",
		 tuning ? tuning : "");
	snprintf(device->tuning, sizeof(device->tuning), "%s", tuning ? tuning : "");
	if (open_engine(id, tuning, &device->dev)) {
		printf("FAIL %s: does not open\n", device->name);
		free(device);
		return NULL;
	}
	if (device->dev->ops->dev_query(device->dev, &query) || make_context(device) ||
	    device->dev->ops->syncobj_create(device->dev, &device->syncobj)) {
		printf("FAIL %s: no information, context or syncobj\n", device->name);
		ondevice_close(device);
		return NULL;
	}
	look_at_matrices(device);
	return device;
}

void ondevice_close(struct ondevice *device)
{
	if (!device)
		return;
	device->dev->ops->close(device->dev);
	free(device);
}

const char *ondevice_name(const struct ondevice *device)
{
	return device->name;
}

int ondevice_matrix(const struct ondevice *device, uint32_t layout, uint32_t numeric)
{
	return device->can[layout][numeric];
}

int ondevice_kv(const struct ondevice *device, uint32_t kv_type)
{
	return device->info.kv_types >> kv_type & 1;
}

int ondevice_pure(const struct ondevice *device)
{
	return !!(device->info.features & DRM_UNPU_FEATURE_PURE_ROWS);
}

const char *ondevice_why(const struct ondevice *device)
{
	return device->why;
}

int ondevice_half(const struct ondevice *device)
{
	return !strncmp(device->tuning, "f16", 3);
}

/* ---- tunings ------------------------------------------------------------------------------ */

#if UNPU_VULKAN
static void add_tuning(const char *tuning, char (*tunings)[ONDEVICE_TUNING], uint32_t *count)
{
	for (uint32_t i = 0; i < *count; i++)
		if (!strcmp(tunings[i], tuning))
			return;
	if (*count < ONDEVICE_MAX_TUNINGS)
		snprintf(tunings[(*count)++], ONDEVICE_TUNING, "%s", tuning);
}

/* A device says so when it is opened with a tuning that it cannot run. */
static int runs(const char *id, const char *tuning)
{
	struct unpu_device *dev;

	if (open_engine(id, tuning, &dev))
		return 0;
	dev->ops->close(dev);
	return 1;
}

int ondevice_tunings(const char *id, char (*tunings)[ONDEVICE_TUNING], uint32_t *count)
{
	static const uint32_t types[] = {
		UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0
	};
	/* Dot products that are not accelerated work all the same; other sizes of work-groups. */
	static const char *const others[] = {
		"sdot/256", "sudot/256", "sdot/64", "sudot/64", "f16/256", "f32/32", "f32s/32",
	};
	char some[16][UNPU_VULKAN_TUNING];
	int index = index_of(id);
	uint32_t have, n;

	*count = 0;
	if (index < 0) {
		printf("FAIL no device is called \"%s\"\n", id);
		return -1;
	}
	if (unpu_vulkan_count(&to_stderr, &have) || (uint32_t)index >= have) {
		printf("skip %s: this machine has no such device\n", id);
		return 1;
	}
	for (uint32_t i = 0; i < 8; i++) {
		if (unpu_vulkan_tunings((uint32_t)index, types[i / 2], i % 2, &to_stderr, some, 16,
					&n)) {
			printf("FAIL %s: no tunings\n", id);
			return -1;
		}
		for (uint32_t j = 0; j < n; j++)
			add_tuning(some[j], tunings, count);
	}
	for (uint32_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (runs(id, others[i]))
			add_tuning(others[i], tunings, count);
	return 0;
}
#else
int ondevice_tunings(const char *id, char (*tunings)[ONDEVICE_TUNING], uint32_t *count)
{
	(void)tunings;
	*count = 0;
	printf("skip %s: this build has no vulkan\n", id);
	return 1;
}
#endif

/* ---- a program of one dispatch ------------------------------------------------------------ */

static uint64_t align(const struct ondevice *device, uint64_t n)
{
	uint64_t to = device->info.binding_align > 256 ? device->info.binding_align : 256;

	return (n + to - 1) / to * to;
}

static void place(struct ondevice_program *p, const struct unpu_shader_need *need)
{
	uint64_t at = align(p->device, GUARD);

	for (uint32_t b = 0; b < p->info->num_bindings; b++) {
		p->offset[b] = at;
		p->size[b] = need->bytes[b];
		at = align(p->device, at + (p->size[b] ? p->size[b] : UNREAD) + GUARD);
	}
	p->bytes = at;
}

static int make_buffer(struct ondevice_program *p)
{
	const struct unpu_device_ops *ops = p->device->dev->ops;
	struct drm_unpu_bo_create bo = { .size = p->bytes, .flags = DRM_UNPU_BO_MMAP };
	void *map;
	int err = ops->bo_create(p->device->dev, &bo);

	if (err)
		return err;
	p->bo = bo.handle;
	err = ops->bo_map(p->device->dev, p->bo, &map);
	if (!err)
		p->map = map;
	return err;
}

static int make_shader(struct ondevice_program *p, const void *spec)
{
	struct drm_unpu_shader_create shader = {
		.spec = (uintptr_t)spec, .spec_words = p->info->spec_words,
	};
	int err;

	memcpy(shader.name, p->info->name, strlen(p->info->name));
	err = p->device->dev->ops->shader_create(p->device->dev, &shader);
	p->shader = shader.shader_id;
	return err;
}

static int make_program(struct ondevice_program *p, const void *constants, const __u32 *grid)
{
	uint32_t n = p->info->num_bindings;
	struct drm_unpu_buffer buffers[UNPU_SHADER_MAX_BINDINGS];
	struct drm_unpu_binding bindings[UNPU_SHADER_MAX_BINDINGS];
	struct drm_unpu_dispatch dispatch = {
		.shader_id = p->shader, .num_bindings = n, .const_bytes = p->info->const_bytes,
		.grid = { grid[0], grid[1], grid[2] },
	};
	struct drm_unpu_program_create args = {
		.buffers = { sizeof(*buffers), n, (uintptr_t)buffers },
		.dispatches = { sizeof(dispatch), 1, (uintptr_t)&dispatch },
		.bindings = { sizeof(*bindings), n, (uintptr_t)bindings },
		.constants = (uintptr_t)constants, .const_bytes = p->info->const_bytes,
	};
	int err;

	for (uint32_t b = 0; b < n; b++) {
		bindings[b].buffer = b;
		buffers[b] = (struct drm_unpu_buffer){
			.handle = p->bo, .flags = DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE,
			.offset = p->offset[b], .size = p->size[b] ? p->size[b] : UNREAD,
		};
	}
	err = p->device->dev->ops->program_create(p->device->dev, &args);
	p->program = args.program_id;
	return err;
}

struct ondevice_program *ondevice_program_create(struct ondevice *device, uint32_t kind,
					   const void *spec, const void *constants,
					   const struct unpu_shader_need *need)
{
	struct ondevice_program *p = calloc(1, sizeof(*p));

	p->device = device;
	p->info = unpu_shader_info(kind);
	place(p, need);
	if (make_buffer(p) || make_shader(p, spec) || make_program(p, constants, need->grid)) {
		fail(device, 0, "%s is refused", p->info->name);
		ondevice_program_destroy(p);
		return NULL;
	}
	return p;
}

void ondevice_program_destroy(struct ondevice_program *p)
{
	const struct unpu_device_ops *ops;
	struct unpu_device *dev;

	if (!p)
		return;
	dev = p->device->dev;
	ops = dev->ops;
	if (p->program)
		ops->program_destroy(dev, &(struct drm_unpu_program_destroy){
					     .program_id = p->program });
	if (p->shader)
		ops->shader_destroy(dev, &(struct drm_unpu_shader_destroy){
					    .shader_id = p->shader });
	if (p->map)
		ops->bo_unmap(dev, p->bo, p->map, p->bytes);
	if (p->bo)
		ops->bo_close(dev, p->bo);
	free(p);
}

static uint64_t deadline(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + WAIT_NS;
}

static int submit_and_wait(struct ondevice_program *p, struct drm_unpu_ctx_query *query)
{
	struct ondevice *device = p->device;
	const struct unpu_device_ops *ops = device->dev->ops;
	struct drm_unpu_run run = { .program_id = p->program, .repeat = 1 };
	struct drm_unpu_sync sync = {
		.handle = device->syncobj, .flags = DRM_UNPU_SYNC_SIGNAL, .point = ++device->point,
	};
	struct drm_unpu_submit submit = {
		.ctx_id = device->ctx,
		.runs = { sizeof(run), 1, (uintptr_t)&run },
		.syncs = { sizeof(sync), 1, (uintptr_t)&sync },
	};
	int err = ops->submit(device->dev, &submit);

	if (!err)
		err = ops->syncobj_wait(device->dev, device->syncobj, device->point, deadline());
	return err ? err : ops->ctx_query(device->dev, query);
}

/* A context that failed is replaced. */
static int run_job(struct ondevice_program *p)
{
	struct ondevice *device = p->device;
	struct drm_unpu_ctx_query query = { .ctx_id = device->ctx };
	int err = submit_and_wait(p, &query);

	if (!err && query.state == DRM_UNPU_CTX_OK)
		return 0;
	device->dev->ops->ctx_destroy(device->dev, &(struct drm_unpu_ctx_destroy){
						   .ctx_id = device->ctx });
	return fail(device, query.state == DRM_UNPU_CTX_LOST || make_context(device) ? -2 : -1,
		    "%s: the job failed: %d, its context is %u, %d", p->info->name, err,
		    query.state, query.failed_errno);
}

static int check_guards(const struct ondevice_program *p)
{
	uint32_t n = p->info->num_bindings;
	uint64_t at = 0;

	for (uint32_t b = 0; b <= n; b++) {
		uint64_t end = b < n ? p->offset[b] : p->bytes;

		for (; at < end; at++)
			if (p->map[at] != GUARD_BYTE)
				return fail(p->device, -1, "%s: %lld bytes %s binding %u: written",
					    p->info->name, (long long)(b < n ? end - at :
					    at - p->offset[n - 1] - p->size[n - 1]),
					    b < n ? "before" : "after", b < n ? b : n - 1);
		at = end + (b < n ? p->size[b] : 0);
	}
	return 0;
}

int ondevice_program_run(struct ondevice_program *p, void *const *data)
{
	int err;

	memset(p->map, GUARD_BYTE, p->bytes);
	for (uint32_t b = 0; b < p->info->num_bindings; b++)
		if (p->size[b])
			memcpy(p->map + p->offset[b], data[b], p->size[b]);
	err = run_job(p);
	if (!err)
		err = check_guards(p);
	for (uint32_t b = 0; !err && b < p->info->num_bindings; b++) {
		if (!p->size[b])
			continue;
		if (!(p->info->write_mask >> b & 1) &&
		    memcmp(data[b], p->map + p->offset[b], p->size[b]))
			err = fail(p->device, -1, "%s: binding %u was written",
				   p->info->name, b);
		memcpy(data[b], p->map + p->offset[b], p->size[b]);
	}
	return err;
}
