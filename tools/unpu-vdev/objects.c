/* SPDX-License-Identifier: MIT */
/* Buffers, shaders and programs of the guest, and the thread that makes and ends them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu-vdev/worker.h"
#include "uapi/unpu_check.h"

static const uint32_t max_objects[VDEV_NUM_KINDS] = {
	[VDEV_BO] = VDEV_MAX_BOS, [VDEV_SHADER] = VDEV_MAX_SHADERS,
	[VDEV_PROGRAM] = VDEV_MAX_PROGRAMS,
};

static const char *const names[VDEV_NUM_KINDS] = { "buffer", "shader", "program" };

/* ---- pages of the heap ---------------------------------------------------------------------- */

static bool pages_free(const struct vdev_worker *w, uint64_t offset, uint64_t size)
{
	uint64_t page;

	for (page = offset / VDEV_PAGE; page < (offset + size) / VDEV_PAGE; page++)
		if (w->pages[page / 8] >> page % 8 & 1)
			return false;
	return true;
}

static void pages_set(struct vdev_worker *w, uint64_t offset, uint64_t size, bool used)
{
	uint64_t page;

	for (page = offset / VDEV_PAGE; page < (offset + size) / VDEV_PAGE; page++) {
		w->pages[page / 8] &= (uint8_t)~(1u << page % 8);
		w->pages[page / 8] |= (uint8_t)(used << page % 8);
	}
}

static void punch(const struct vdev_worker *w, uint64_t offset, uint64_t size)
{
	if (fallocate(w->fds.window, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)size))
		vdev_log_rarely("memory is not given back: %s", strerror(errno));
}

/* ---- the table ------------------------------------------------------------------------------ */

struct vdev_object *vdev_object_get(const struct vdev_worker *w, enum vdev_kind kind, uint32_t id)
{
	struct vdev_object *object = id < UNPU_PROTO_MAX_IDS ? w->objects[kind][id] : NULL;

	return object && object->handle ? object : NULL;
}

void vdev_object_put(struct vdev_worker *w, struct vdev_object *object)
{
	if (--object->refs)
		return;
	w->host_bytes -= object->host_bytes;
	free(object->command);
	free(object);
}

/* Out of the table: its id and its pages are free. */
static void object_remove(struct vdev_worker *w, struct vdev_object *object)
{
	w->objects[object->kind][object->id] = NULL;
	w->num_objects[object->kind]--;
	if (object->kind == VDEV_BO && object->offset)
		pages_set(w, object->offset, object->size, false);
	object->ended = true;
}

static void queue_add(struct vdev_worker *w, struct vdev_task *task)
{
	task->next = NULL;
	*w->queue_tail = task;
	w->queue_tail = &task->next;
	pthread_cond_signal(&w->work);
}

static void object_end(struct vdev_worker *w, struct vdev_object *object)
{
	object_remove(w, object);
	object->end = (struct vdev_task){ .object = object, .end = true };
	queue_add(w, &object->end);
}

/* ---- creating: what the main thread does ---------------------------------------------------- */

static int check_bo(const struct vdev_worker *w, const struct unpu_proto_bo *bo)
{
	bool window = bo->flags & DRM_UNPU_BO_MMAP;

	if (bo->flags & ~DRM_UNPU_BO_MMAP || bo->pad)
		return -EINVAL;
	if (!bo->size || bo->size % VDEV_PAGE || bo->size > w->info.max_bo_bytes)
		return -EINVAL;
	if (!window)
		return bo->offset ? -EINVAL : 0;
	if (bo->offset % VDEV_PAGE || !vdev_link_in_heap(&w->link, bo->offset, bo->size))
		return -EINVAL;
	return pages_free(w, bo->offset, bo->size) ? 0 : -EEXIST;
}

static int check_shader(const struct unpu_proto_shader *shader)
{
	return shader->spec_words > UNPU_PROTO_MAX_SPEC ? -EINVAL : 0;
}

static int check(const struct vdev_worker *w, const struct unpu_proto_command *command,
		 enum vdev_kind kind, uint64_t *host_bytes)
{
	*host_bytes = sizeof(struct vdev_object) + sizeof(*command) + 256;
	switch (kind) {
	case VDEV_BO:
		return check_bo(w, &command->bo);
	case VDEV_SHADER:
		return check_shader(&command->shader);
	default:
		return vdev_program_check(w, &command->program, host_bytes);
	}
}

static int full(const struct vdev_worker *w, enum vdev_kind kind, uint64_t host_bytes)
{
	if (w->num_objects[kind] < max_objects[kind] &&
	    w->host_bytes + host_bytes <= VDEV_MAX_HOST_BYTES)
		return 0;
	vdev_log_rarely("no more %ss: there are %u, of at most %u, and %llu MiB of the host's "
			"memory taken, of at most %llu", names[kind], w->num_objects[kind],
			max_objects[kind], (unsigned long long)w->host_bytes >> 20,
			VDEV_MAX_HOST_BYTES >> 20);
	return kind == VDEV_BO ? -ENOSPC : -ENOMEM;
}

static struct vdev_object *object_alloc(const struct unpu_proto_command *command,
					enum vdev_kind kind)
{
	struct vdev_object *object = calloc(1, sizeof(*object));
	struct unpu_proto_command *copy = malloc(sizeof(*copy));

	if (!object || !copy) {
		free(object);
		free(copy);
		return NULL;
	}
	*copy = *command;
	object->command = copy;
	object->kind = kind;
	object->id = command->id;
	object->refs = 1;
	if (kind == VDEV_BO) {
		object->offset = command->bo.offset;
		object->size = command->bo.size;
	}
	return object;
}

static enum vdev_kind kind_of(uint32_t op)
{
	return op == UNPU_PROTO_BO_CREATE ? VDEV_BO :
	       op == UNPU_PROTO_SHADER_CREATE ? VDEV_SHADER : VDEV_PROGRAM;
}

int vdev_object_create(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	enum vdev_kind kind = kind_of(command->op);
	struct vdev_object *object;
	uint64_t host_bytes;
	int err;

	if (!command->id || command->id >= UNPU_PROTO_MAX_IDS)
		return -EINVAL;
	if (w->objects[kind][command->id])
		return -EEXIST;
	err = check(w, command, kind, &host_bytes);
	if (!err)
		err = full(w, kind, host_bytes);
	if (err)
		return err;
	object = object_alloc(command, kind);
	if (!object)
		return -ENOMEM;
	object->generation = w->generation;
	object->host_bytes = host_bytes;
	w->host_bytes += host_bytes;
	w->objects[kind][object->id] = object;
	w->num_objects[kind]++;
	if (kind == VDEV_BO && object->offset)
		pages_set(w, object->offset, object->size, true);
	object->make = (struct vdev_task){ .object = object };
	queue_add(w, &object->make);
	return 0;
}

void vdev_object_destroy(struct vdev_worker *w, enum vdev_kind kind, uint32_t id)
{
	struct vdev_object *object = id < UNPU_PROTO_MAX_IDS ? w->objects[kind][id] : NULL;

	if (!object)
		return;
	if (kind == VDEV_BO && object->offset)
		punch(w, object->offset, object->size);
	object_end(w, object);
}

void vdev_objects_forget(struct vdev_worker *w)
{
	uint32_t kind, id;

	for (kind = VDEV_NUM_KINDS; kind--;)
		for (id = 1; w->num_objects[kind] && id < UNPU_PROTO_MAX_IDS; id++)
			if (w->objects[kind][id])
				object_end(w, w->objects[kind][id]);
}

/* ---- the maker ------------------------------------------------------------------------------ */

/* What programs still hold of destroyed buffers counts, too, shadows of those in the window among
 * it: so the device is asked. Where it works in the window itself it counts nothing there. */
static uint64_t device_used(struct vdev_worker *w)
{
	struct drm_unpu_dev_stats stats = { 0 };
	struct drm_unpu_dev_query query = {
		.type = DRM_UNPU_QUERY_DEV_STATS, .size = sizeof(stats),
		.pointer = (uintptr_t)&stats,
	};

	if (w->dev->ops->dev_query(w->dev, &query))
		return UINT64_MAX;
	return stats.device_used_bytes + stats.window_used_bytes;
}

static int device_room(struct vdev_worker *w, uint64_t size)
{
	uint64_t limit = w->info.heap_device_bytes, used = device_used(w);

	if (size <= limit && used <= limit - size)
		return 0;
	vdev_log_rarely("no room for a buffer of %llu bytes: %llu are taken of %llu (--memory)",
			(unsigned long long)size, (unsigned long long)used,
			(unsigned long long)limit);
	return -ENOSPC;
}

/* Whether there is a shadow, and how large, is known when it is made. */
static int import_bo(struct vdev_worker *w, const struct unpu_proto_bo *bo, uint32_t *handle)
{
	int err = w->dev->ops->bo_import(w->dev, w->link.window + bo->offset, bo->size, 1, handle);

	if (err || device_used(w) <= w->info.heap_device_bytes)
		return err;
	vdev_log_rarely("no room to shadow a buffer of %llu bytes (--memory)",
			(unsigned long long)bo->size);
	w->dev->ops->bo_close(w->dev, *handle);
	return -ENOSPC;
}

static int make_bo(struct vdev_worker *w, const struct unpu_proto_bo *bo, uint32_t *handle)
{
	struct drm_unpu_bo_create args = { .size = bo->size };
	int err;

	if (bo->flags & DRM_UNPU_BO_MMAP)
		return import_bo(w, bo, handle);
	err = device_room(w, bo->size);
	if (!err)
		err = w->dev->ops->bo_create(w->dev, &args);
	*handle = args.handle;
	return err;
}

static int make_shader(struct vdev_worker *w, const struct unpu_proto_shader *shader,
		       uint32_t *handle)
{
	struct drm_unpu_shader_create args = {
		.spec = (uintptr_t)shader->spec, .spec_words = shader->spec_words,
	};
	int err;

	memcpy(args.name, shader->name.name, sizeof(args.name));
	err = w->dev->ops->shader_create(w->dev, &args);
	*handle = args.shader_id;
	return err;
}

/* What its shaders take is known when they are compiled. */
static int make_program(struct vdev_worker *w, const struct unpu_proto_program *program,
			uint32_t *handle, uint64_t *error_index)
{
	struct drm_unpu_program_destroy args;
	int err = vdev_program_make(w, program, handle, error_index);

	if (err || device_used(w) <= w->info.heap_device_bytes)
		return err;
	vdev_log_rarely("no room for a program and its shaders (--memory)");
	args = (struct drm_unpu_program_destroy){ .program_id = *handle };
	w->dev->ops->program_destroy(w->dev, &args);
	return -ENOMEM;
}

static void object_make(struct vdev_worker *w, struct vdev_object *object)
{
	const struct unpu_proto_command *command = object->command;
	uint64_t value = 0;
	uint32_t handle = 0;
	int err;

	if (object->kind == VDEV_BO)
		err = make_bo(w, &command->bo, &handle);
	else if (object->kind == VDEV_SHADER)
		err = make_shader(w, &command->shader, &handle);
	else
		err = make_program(w, &command->program, &handle, &value);
	vdev_lock(w);
	object->handle = err ? 0 : handle;
	if (object->generation == w->generation)
		vdev_answer(w, command->tag, err, value);
	object->command = NULL;
	if (err && !object->ended) {
		object_remove(w, object);
		vdev_object_put(w, object);
	}
	vdev_unlock(w);
	free((void *)command);
}

static void close_handle(struct vdev_worker *w, const struct vdev_object *object)
{
	struct drm_unpu_shader_destroy shader = { .shader_id = object->handle };
	struct drm_unpu_program_destroy program = { .program_id = object->handle };

	if (!object->handle)
		return;
	if (object->kind == VDEV_BO)
		w->dev->ops->bo_close(w->dev, object->handle);
	else if (object->kind == VDEV_SHADER)
		w->dev->ops->shader_destroy(w->dev, &shader);
	else
		w->dev->ops->program_destroy(w->dev, &program);
}

static struct vdev_task *queue_take(struct vdev_worker *w)
{
	struct vdev_task *task = w->queue;

	w->queue = task->next;
	if (!w->queue)
		w->queue_tail = &w->queue;
	return task;
}

bool vdev_objects_make(struct vdev_worker *w)
{
	struct vdev_object *object;
	uint64_t used;
	bool end;

	if (!w->queue)
		return false;
	end = w->queue->end;
	object = queue_take(w)->object;
	vdev_unlock(w);
	/* What could not be made is gone with its task. */
	if (end)
		close_handle(w, object);
	else
		object_make(w, object);
	used = device_used(w);
	vdev_lock(w);
	w->report.device_bytes = used;
	if (end)
		vdev_object_put(w, object);
	return true;
}

static void *maker(void *arg)
{
	struct vdev_worker *w = arg;

	vdev_lock(w);
	while (!w->maker_stop)
		if (!vdev_objects_make(w))
			pthread_cond_wait(&w->work, &w->lock);
	vdev_unlock(w);
	return NULL;
}

/* ---- begin and end -------------------------------------------------------------------------- */

int vdev_objects_init(struct vdev_worker *w, bool alone)
{
	sigset_t all, old;
	uint32_t kind;

	w->queue_tail = &w->queue;
	w->pages = calloc(1, w->config->window / VDEV_PAGE / 8);
	for (kind = 0; kind < VDEV_NUM_KINDS; kind++)
		w->objects[kind] = calloc(UNPU_PROTO_MAX_IDS, sizeof(*w->objects[kind]));
	if (!w->pages || !w->objects[0] || !w->objects[1] || !w->objects[2])
		return -ENOMEM;
	if (alone)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	w->maker_started = !pthread_create(&w->maker, NULL, maker, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return w->maker_started ? 0 : -ENOMEM;
}

/* What is in the queue still has its tables' or the maker's reference. */
static void queue_free(struct vdev_worker *w)
{
	struct vdev_task *task;

	while ((task = w->queue)) {
		w->queue = task->next;
		if (task->end)
			vdev_object_put(w, task->object);
	}
	w->queue_tail = &w->queue;
}

void vdev_objects_finish(struct vdev_worker *w)
{
	uint32_t kind;

	vdev_lock(w);
	w->maker_stop = true;
	pthread_cond_signal(&w->work);
	vdev_unlock(w);
	if (w->maker_started)
		pthread_join(w->maker, NULL);
	if (w->objects[0] && w->objects[1] && w->objects[2])
		vdev_objects_forget(w);
	queue_free(w);
	for (kind = 0; kind < VDEV_NUM_KINDS; kind++)
		free(w->objects[kind]);
	free(w->pages);
}
