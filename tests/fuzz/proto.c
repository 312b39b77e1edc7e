/* SPDX-License-Identifier: MIT */
/*
 * What a guest may say to a worker of unpu-vdev: commands, right ones and any words, in a window of
 * which any word may change between them. The worker is in this process, its maker's turn comes
 * when the input says so, and so each answer is compared with what unpu_proto.h promises, written
 * down here once more. Nothing is written outside of the guest's buffers and the device's own
 * pages.
 */
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "shaders/shaders.h"
#include "tests/lib/fuzz.h"
#include "tools/unpu-vdev/worker.h"

#define WINDOW		UNPU_PROTO_MIN_WINDOW
#define HEAP		UNPU_PROTO_HEAP
#define PAGE		4096u
#define PAGES		32u		/* of the heap that inputs mostly use */
#define MEMORY		(1u << 20)
#define MAX_BATCH	40u		/* commands before the worker has its turn */
#define MAX_RECORDS	200u
#define MAX_OBJECTS	512u
#define MAX_REPEAT	4u

/* ---- the worker, and the window as the guest sees it ----------------------------------------- */

static struct vdev_config config = {
	.device = "cpu", .threads = 1, .window = WINDOW, .memory = MEMORY, .no_sandbox = true,
};
static struct vdev_worker *worker;
static uint8_t *window;
static struct unpu_proto_device device;		/* as it was READY */
/* What only the guest writes, as it left it. */
static uint8_t page[PAGE], ring[UNPU_PROTO_EVENTS - UNPU_PROTO_COMMANDS], heap[PAGES * PAGE];
static bool writable[PAGES];			/* of the heap: a buffer has been there */
static uint32_t attach_number, commands_made, events_taken;

static uint32_t word(uint64_t offset)
{
	return __atomic_load_n((uint32_t *)(void *)(window + offset), __ATOMIC_SEQ_CST);
}

#define DEVICE(__field)	word(UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, __field))

static void put(uint32_t offset, uint32_t value)
{
	memcpy(page + offset, &value, sizeof(value));
	__atomic_store_n((uint32_t *)(void *)(window + UNPU_PROTO_DRIVER + offset), value,
			 __ATOMIC_SEQ_CST);
}

#define PUT(__field, __value)	put(offsetof(struct unpu_proto_driver, __field), __value)

static void begin(void)
{
	struct vdev_shared shared;
	struct vdev_fds fds;

	FUZZ_CHECK(!vdev_shared_create(&shared, WINDOW));
	fds = (struct vdev_fds){
		.window = shared.window, .doorbell = shared.doorbell,
		.interrupt = shared.interrupts[0], .report = shared.interrupts[1],
	};
	window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, shared.window, 0);
	FUZZ_CHECK(window != MAP_FAILED);
	vdev_log_few();
	worker = vdev_worker_begin(&config, &fds, true);
	FUZZ_CHECK(worker && DEVICE(state) == UNPU_PROTO_STATE_READY);
	memcpy(&device, window + UNPU_PROTO_DEVICE, sizeof(device));
}

/* ---- what should be there -------------------------------------------------------------------- */

enum kind { BO, SHADER, PROGRAM, CTX, NUM_KINDS };
enum expect { FAILS, PASSES, MAY_PASS };

struct object {
	enum kind kind;
	bool there, made;
	bool sure;			/* nothing but what was promised decides that it is there */
	uint32_t id;
	uint64_t offset, size;		/* offset 0: in the device's memory */
};

struct command {
	struct unpu_proto_command command;
	enum expect expect;
	struct object *object;		/* what it makes */
	bool due;
};

static struct object objects[MAX_OBJECTS];
static struct command batch[MAX_BATCH];
static uint32_t num_objects, num_batch, num_jobs;
static bool astray;		/* the rings were moved: who knows what was taken for a command */

/* One that commands can name. */
static const struct object *named(enum kind kind, uint32_t id)
{
	const struct object *o;

	for (o = objects; o < objects + num_objects; o++)
		if (o->there && o->made && o->kind == kind && o->id == id)
			return o;
	return NULL;
}

/* Whether an id is free, or may be. */
static enum expect expect_id(enum kind kind, uint32_t id)
{
	enum expect expect = PASSES;
	const struct object *o;

	for (o = objects; o < objects + num_objects; o++)
		if (o->there && o->kind == kind && o->id == id)
			expect = o->sure || expect == FAILS ? FAILS : MAY_PASS;
	return expect;
}

static enum expect expect_pages(uint64_t offset, uint64_t size)
{
	enum expect expect = PASSES;
	const struct object *o;

	for (o = objects; o < objects + num_objects; o++)
		if (o->there && o->kind == BO && o->offset && offset < o->offset + o->size &&
		    o->offset < offset + size)
			expect = o->sure || expect == FAILS ? FAILS : MAY_PASS;
	return expect;
}

static uint64_t device_bytes(void)
{
	const struct object *o;
	uint64_t sum = 0;

	for (o = objects; o < objects + num_objects; o++)
		if (o->there && o->made && o->kind == BO && !o->offset)
			sum += o->size;
	return sum;
}

/* [at, at + size) within [0, bytes), in numbers that cannot wrap. */
static bool inside(uint64_t at, uint64_t size, uint64_t bytes)
{
	uint64_t end;

	return !__builtin_add_overflow(at, size, &end) && end <= bytes;
}

static enum expect expect_bo(const struct unpu_proto_bo *bo)
{
	if (bo->flags > DRM_UNPU_BO_MMAP || bo->pad || !bo->size || bo->size % PAGE ||
	    bo->size > device.info.max_bo_bytes)
		return FAILS;
	if (!bo->flags)
		return bo->offset ? FAILS : MAY_PASS;
	return bo->offset % PAGE == 0 && bo->offset >= HEAP &&
	       inside(bo->offset, bo->size, WINDOW) ? expect_pages(bo->offset, bo->size) : FAILS;
}

static enum expect expect_shader(const struct unpu_proto_shader *shader)
{
	static const uint8_t copy[DRM_UNPU_SHADER_NAME] = "copy.1";
	uint32_t i;

	if (!memcmp(shader->name.name, copy, sizeof(copy)))
		return shader->spec_words ? FAILS : PASSES;
	for (i = 0; i < UNPU_SHADER_COPY; i++)
		if (!strncmp((const char *)shader->name.name, unpu_shader_info(i)->name,
			     sizeof(copy)))
			return shader->spec_words == unpu_shader_info(i)->spec_words ? MAY_PASS :
			       FAILS;
	return FAILS;
}

static uint64_t image_bytes(const struct unpu_proto_program *p)
{
	return p->num_buffers * 24ull + p->num_dispatches * 32ull + p->num_bindings * 4ull +
	       p->const_bytes;
}

static enum expect expect_program(const struct unpu_proto_program *p)
{
	return p->pad || p->offset % 8 || p->offset < HEAP || !inside(p->offset, p->size, WINDOW) ||
	       p->size != image_bytes(p) || !p->num_buffers || !p->num_dispatches ||
	       !p->num_bindings || p->flags > DRM_UNPU_PROGRAM_STOP ||
	       (p->flags ? p->stop_buffer >= p->num_buffers : p->stop_buffer || p->stop_offset) ?
	       FAILS : MAY_PASS;
}

static enum expect expect_ctx(const struct unpu_proto_command *c)
{
	return !c->ctx.pad && c->ctx.priority <= DRM_UNPU_PRIORITY_HIGH &&
	       c->ctx.timeout_ns <= device.info.max_timeout_ns ? MAY_PASS : FAILS;
}

static enum expect expect_job(const struct unpu_proto_command *c)
{
	const struct unpu_proto_job *job = &c->job;
	uint32_t i;

	if (!named(CTX, c->id) || !job->num_runs || job->num_runs > UNPU_PROTO_MAX_RUNS || job->pad)
		return FAILS;
	for (i = 0; i < job->num_runs; i++)
		if (!named(PROGRAM, job->runs[i].program_id) || !job->runs[i].repeat ||
		    job->runs[i].repeat > device.info.max_repeat)
			return FAILS;
	return MAY_PASS;
}

static bool makes(uint32_t op, enum kind *kind)
{
	static const enum kind kinds[UNPU_PROTO_JOB] = {
		[UNPU_PROTO_BO_CREATE] = BO, [UNPU_PROTO_SHADER_CREATE] = SHADER,
		[UNPU_PROTO_PROGRAM_CREATE] = PROGRAM, [UNPU_PROTO_CTX_CREATE] = CTX,
	};

	if (op != UNPU_PROTO_BO_CREATE && op != UNPU_PROTO_SHADER_CREATE &&
	    op != UNPU_PROTO_PROGRAM_CREATE && op != UNPU_PROTO_CTX_CREATE)
		return false;
	*kind = kinds[op];
	return true;
}

static enum expect expect_fields(const struct unpu_proto_command *c, enum kind kind)
{
	switch (kind) {
	case BO:
		return expect_bo(&c->bo);
	case SHADER:
		return expect_shader(&c->shader);
	case PROGRAM:
		return expect_program(&c->program);
	default:
		return expect_ctx(c);
	}
}

static enum expect expect_create(const struct unpu_proto_command *c, enum kind kind)
{
	uint32_t most = kind == CTX ? UNPU_PROTO_MAX_CTXS : UNPU_PROTO_MAX_IDS;
	enum expect expect, by_id;

	if (!c->id || c->id >= most || c->pad)
		return FAILS;
	by_id = expect_id(kind, c->id);
	expect = expect_fields(c, kind);
	if (expect == FAILS || by_id == FAILS)
		return FAILS;
	return by_id == PASSES ? expect : MAY_PASS;
}

/* From the moment that it is taken it has its id and its pages, until it turns out that it cannot
 * be made: so a wrong one, too, may keep its id from the next. */
static void note_create(struct command *c, enum kind kind)
{
	const struct unpu_proto_bo *bo = &c->command.bo;
	struct object *o = &objects[num_objects];
	uint64_t at;

	c->expect = expect_create(&c->command, kind);
	if (num_objects == MAX_OBJECTS)
		return;
	num_objects++;
	*o = (struct object){
		.kind = kind, .there = true, .made = kind == CTX, .sure = c->expect == PASSES,
		.id = c->command.id,
	};
	c->object = o;
	if (kind != BO || c->expect == FAILS)
		return;
	o->offset = bo->offset;
	o->size = bo->size;
	for (at = o->offset; o->offset && at < o->offset + o->size; at += PAGE)
		if ((at - HEAP) / PAGE < PAGES)
			writable[(at - HEAP) / PAGE] = true;
}

static void note_destroy(const struct unpu_proto_command *c)
{
	static const enum kind kinds[UNPU_PROTO_JOB] = {
		[UNPU_PROTO_BO_DESTROY] = BO, [UNPU_PROTO_SHADER_DESTROY] = SHADER,
		[UNPU_PROTO_PROGRAM_DESTROY] = PROGRAM, [UNPU_PROTO_CTX_DESTROY] = CTX,
	};
	struct object *o;

	/* A context with jobs keeps its id until they are over: another may be refused. */
	for (o = objects; o < objects + num_objects; o++)
		if (o->kind == kinds[c->op] && o->id == c->id)
			o->there = false;
}

static void note(struct command *c)
{
	enum kind kind;

	c->expect = FAILS;
	c->due = true;
	if (makes(c->command.op, &kind)) {
		note_create(c, kind);
		return;
	}
	switch (c->command.op) {
	case UNPU_PROTO_CTX_DESTROY:
		c->expect = MAY_PASS;
		note_destroy(&c->command);
		break;
	case UNPU_PROTO_BO_DESTROY:
	case UNPU_PROTO_SHADER_DESTROY:
	case UNPU_PROTO_PROGRAM_DESTROY:
		c->due = false;
		note_destroy(&c->command);
		break;
	case UNPU_PROTO_JOB:
		c->expect = expect_job(&c->command);
		num_jobs++;
		break;
	}
}

/* ---- answers --------------------------------------------------------------------------------- */

/* A program that was taken names what is there; nobody has written to its image meanwhile. */
static void check_program(const struct unpu_proto_program *p)
{
	const uint8_t *image = window + p->offset;
	struct drm_unpu_dispatch dispatch;
	struct drm_unpu_buffer buffer;
	const struct object *o;
	uint32_t i;

	for (i = 0; i < p->num_buffers; i++) {
		memcpy(&buffer, image + i * sizeof(buffer), sizeof(buffer));
		o = named(BO, buffer.handle);
		FUZZ_CHECK(o && inside(buffer.offset, buffer.size, o->size));
		if (p->flags && p->stop_buffer == i)
			FUZZ_CHECK(o->offset && inside(p->stop_offset, 4, buffer.size));
	}
	for (i = 0; i < p->num_dispatches; i++) {
		memcpy(&dispatch, image + p->num_buffers * sizeof(buffer) + i * sizeof(dispatch),
		       sizeof(dispatch));
		FUZZ_CHECK(named(SHADER, dispatch.shader_id));
		FUZZ_CHECK(inside(dispatch.first_binding, dispatch.num_bindings, p->num_bindings));
		FUZZ_CHECK(inside(dispatch.const_offset, dispatch.const_bytes, p->const_bytes));
	}
}

static struct command *command_of(const struct unpu_proto_event *e)
{
	struct command *c;

	for (c = batch; c < batch + num_batch; c++) {
		bool job = c->command.op == UNPU_PROTO_JOB;

		if (!c->due || job != (e->type == UNPU_PROTO_EVENT_JOB))
			continue;
		if (job ? c->command.id == e->id && c->command.job.seqno == e->value :
			  c->command.tag == e->tag)
			return c;
	}
	return NULL;
}

static void check_event(const struct unpu_proto_event *e)
{
	struct command *c = command_of(e);

	FUZZ_CHECK(e->type == UNPU_PROTO_EVENT_ANSWER || e->type == UNPU_PROTO_EVENT_JOB);
	FUZZ_CHECK(e->status <= 0 && e->status > -4096);
	if (astray)
		return;
	FUZZ_CHECK(c);
	c->due = false;
	FUZZ_CHECK(c->expect != FAILS || e->status);
	FUZZ_CHECK(c->expect != PASSES || !e->status);
	if (c->object && e->status) {
		c->object->there = false;
	} else if (c->object) {
		c->object->made = true;
		c->object->sure = c->object->kind != CTX;
		FUZZ_CHECK(device_bytes() <= MEMORY);
	}
	if (c->command.op == UNPU_PROTO_PROGRAM_CREATE && !e->status && !num_jobs)
		check_program(&c->command.program);
}

static void take_events(void)
{
	struct unpu_proto_event e;

	while (DEVICE(events_made) != events_taken) {
		memcpy(&e, window + UNPU_PROTO_EVENTS +
		       events_taken % UNPU_PROTO_NUM_EVENTS * sizeof(e), sizeof(e));
		PUT(events_taken, ++events_taken);
		check_event(&e);
	}
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void make_all(void)
{
	vdev_lock(worker);
	while (vdev_objects_make(worker))
		;
	vdev_unlock(worker);
}

static void wait_for_jobs(void)
{
	uint32_t left;

	for (;;) {
		vdev_lock(worker);
		left = worker->link.due;
		vdev_unlock(worker);
		if (!left)
			return;
		sched_yield();
	}
}

static void settle(void)
{
	uint32_t i;

	while (vdev_worker_turn(worker))
		;
	make_all();
	wait_for_jobs();
	take_events();
	for (i = 0; i < num_batch && !astray; i++)
		FUZZ_CHECK(!batch[i].due);
	num_batch = 0;
	num_jobs = 0;
}

static void attach(uint32_t version)
{
	uint32_t old = DEVICE(epoch);

	memset(page, 0, sizeof(page));
	memset(window + UNPU_PROTO_DRIVER, 0, PAGE);
	do
		attach_number++;
	while (!attach_number || attach_number == DEVICE(attached) ||
	       attach_number == worker->link.refused);
	PUT(version, version);
	PUT(attach, attach_number);
	vdev_worker_turn(worker);
	make_all();
	if (version != UNPU_PROTO_VERSION)
		return;
	while (DEVICE(attached) != attach_number) {
		/* Until its jobs are over. */
		sched_yield();
		vdev_worker_turn(worker);
	}
	FUZZ_CHECK(DEVICE(epoch) != old && DEVICE(epoch));
	FUZZ_CHECK(!DEVICE(commands_taken) && !DEVICE(events_made));
	FUZZ_CHECK(!worker->link.due && !worker->report.contexts);
	commands_made = 0;
	events_taken = 0;
	num_objects = 0;
	num_batch = 0;
	num_jobs = 0;
	astray = false;
}

/* A repeat more shows nothing new, and many take their time. */
static void limit(struct unpu_proto_command *c)
{
	uint32_t i;

	if (c->op != UNPU_PROTO_JOB)
		return;
	for (i = 0; i < UNPU_PROTO_MAX_RUNS; i++)
		if (c->job.runs[i].repeat > MAX_REPEAT &&
		    c->job.runs[i].repeat <= device.info.max_repeat)
			c->job.runs[i].repeat = MAX_REPEAT;
}

static void publish(struct unpu_proto_command *c)
{
	uint32_t at = commands_made % UNPU_PROTO_NUM_COMMANDS * sizeof(*c);
	static uint32_t number;

	limit(c);
	/* By these the answers are known. */
	c->tag = ++number;
	if (c->op == UNPU_PROTO_JOB)
		c->job.seqno = number;
	memcpy(ring + at, c, sizeof(*c));
	memcpy(window + UNPU_PROTO_COMMANDS + at, c, sizeof(*c));
	batch[num_batch] = (struct command){ .command = *c };
	note(&batch[num_batch++]);
	PUT(commands_made, ++commands_made);
	if (num_batch == MAX_BATCH)
		settle();
}

/* ---- what the input says --------------------------------------------------------------------- */

static uint64_t any(struct fuzz_input *in)
{
	static const uint64_t edges[] = {
		0, 1, 4, 8, PAGE - 1, PAGE, HEAP - PAGE, HEAP, WINDOW - PAGE, WINDOW, MEMORY,
		UNPU_PROTO_MAX_IDS - 1, UNPU_PROTO_MAX_IDS, UNPU_PROTO_MAX_CTXS, INT32_MAX,
		UINT32_MAX - 7, UINT32_MAX, UINT64_MAX - PAGE + 1, UINT64_MAX,
	};
	uint8_t n = fuzz_u8(in);

	if (n < 64)
		return edges[n % (sizeof(edges) / sizeof(edges[0]))];
	return n < 160 ? fuzz_u8(in) : n < 224 ? fuzz_u32(in) : fuzz_u64(in);
}

static uint64_t some_page(struct fuzz_input *in)
{
	uint8_t n = fuzz_u8(in);

	return n == 0xff ? WINDOW - PAGE : HEAP + (uint64_t)(n % PAGES) * PAGE;
}

static void write_heap(uint64_t at, const void *data, size_t size)
{
	if (at < HEAP || !inside(at, size, WINDOW))
		return;
	memcpy(window + at, data, size);
	if (inside(at - HEAP, size, sizeof(heap)))
		memcpy(heap + (at - HEAP), data, size);
}

/* Copies between two buffers, in one to three dispatches. */
static void make_program(struct fuzz_input *in, struct unpu_proto_command *c)
{
	struct {
		struct drm_unpu_buffer buffers[3];
		struct drm_unpu_dispatch dispatches[3];
		struct drm_unpu_binding bindings[6];
		struct unpu_copy_const constants[3];
	} image;
	uint32_t n = 1 + fuzz_u8(in) % 3, shader = fuzz_u8(in) % 6, i;
	uint32_t bytes = 4u + 4u * (fuzz_u16(in) % 3072);
	uint64_t at = some_page(in) + 8u * (fuzz_u8(in) % 8), to;

	for (i = 0; i < 3; i++) {
		image.buffers[i] = (struct drm_unpu_buffer){
			fuzz_u8(in) % 6, DRM_UNPU_ACCESS_READ | DRM_UNPU_ACCESS_WRITE,
			32u * (fuzz_u8(in) % 4), bytes };
		image.dispatches[i] = (struct drm_unpu_dispatch){
			shader, 2 * i, 2, 8 * i, 8, { (bytes + 65535) / 65536, 1, 1 } };
		image.bindings[2 * i].buffer = i % 3;
		image.bindings[2 * i + 1].buffer = (i + 1) % 3;
		image.constants[i] = (struct unpu_copy_const){ .bytes_lo = bytes };
	}
	c->program = (struct unpu_proto_program){
		.offset = at, .size = 3 * 24 + n * (32 + 8 + 8), .num_buffers = 3,
		.num_dispatches = n, .num_bindings = 2 * n, .const_bytes = 8 * n,
	};
	if (fuzz_u8(in) & 1) {
		c->program.flags = DRM_UNPU_PROGRAM_STOP;
		c->program.stop_buffer = fuzz_u8(in) % 3;
	}
	to = at + sizeof(image.buffers);
	write_heap(at, image.buffers, sizeof(image.buffers));
	write_heap(to, image.dispatches, n * 32);
	write_heap(to + n * 32, image.bindings, n * 8);
	write_heap(to + n * 40, image.constants, n * 8);
}

static void make_shader(struct fuzz_input *in, struct unpu_proto_command *c)
{
	uint8_t n = fuzz_u8(in);
	const struct unpu_shader_info *info = unpu_shader_info(n % UNPU_SHADER_COUNT);

	if (n < 128)
		info = unpu_shader_info(UNPU_SHADER_COPY);
	memcpy(c->shader.name.name, info->name, strlen(info->name));
	c->shader.spec_words = info->spec_words;
}

static void make_job(struct fuzz_input *in, struct unpu_proto_command *c)
{
	uint32_t n = 1 + fuzz_u8(in) % 4 * (fuzz_u8(in) % 6), i;
	c->id = fuzz_u8(in) % 4;
	c->job.num_runs = n;
	for (i = 0; i < n && i < UNPU_PROTO_MAX_RUNS; i++)
		c->job.runs[i] = (struct drm_unpu_run){ fuzz_u8(in) % 6, 1 + fuzz_u8(in) % 3 };
}

static void make_command(struct fuzz_input *in, uint32_t kind, struct unpu_proto_command *c)
{
	memset(c, 0, sizeof(*c));
	c->id = fuzz_u8(in) % 6;
	switch (kind) {
	case 0:
		c->op = UNPU_PROTO_BO_CREATE;
		c->bo.flags = fuzz_u8(in) % 4 ? DRM_UNPU_BO_MMAP : 0;
		c->bo.offset = c->bo.flags ? some_page(in) : 0;
		c->bo.size = PAGE * (1u + fuzz_u8(in) % 20);
		break;
	case 1:
		c->op = UNPU_PROTO_SHADER_CREATE;
		make_shader(in, c);
		break;
	case 2:
		c->op = UNPU_PROTO_PROGRAM_CREATE;
		make_program(in, c);
		break;
	case 3:
		c->op = UNPU_PROTO_CTX_CREATE;
		c->ctx.priority = fuzz_u8(in) % 3;
		break;
	case 4:
	case 5:
		c->op = UNPU_PROTO_JOB;
		make_job(in, c);
		break;
	default:
		c->op = fuzz_u8(in) % (UNPU_PROTO_JOB + 2);
		break;
	}
}

/* Any word of it, the pad of the command included; a tag is the driver's own. */
static void change_command(struct fuzz_input *in, struct unpu_proto_command *c)
{
	uint32_t changes = fuzz_u8(in), at;
	uint64_t value;

	for (changes = changes < 160 ? 0 : changes % 4; changes; changes--) {
		at = fuzz_u8(in) % (sizeof(*c) / 4);
		value = any(in);
		memcpy((uint8_t *)c + 4 * at, &value, at % 2 ? 4 : 8);
	}
}

static void change_heap(struct fuzz_input *in)
{
	uint64_t at = some_page(in) + 4u * fuzz_u8(in), value = any(in);

	write_heap(at, &value, 4);
}

/* What the driver says of the rings; then it has to attach again. */
static void change_rings(struct fuzz_input *in)
{
	uint32_t value = (uint32_t)any(in);

	settle();
	if (fuzz_u8(in) & 1)
		PUT(commands_made, value);
	else
		PUT(events_taken, value);
	if (fuzz_u8(in) & 1)
		PUT(attach, (uint32_t)any(in));
	/* Commands of before may be taken once more. */
	astray = true;
	memset(writable, true, sizeof(writable));
	vdev_worker_turn(worker);
	/* Not in 20 ms but now. */
	if (worker->broken_since)
		worker->broken_since = 1;
	if (fuzz_u8(in) & 1)
		vdev_worker_turn(worker);
	attach(UNPU_PROTO_VERSION);
}

static void attach_again(struct fuzz_input *in)
{
	uint32_t how = fuzz_u8(in);

	/* With commands in the ring, or jobs on their way. */
	if (how & 1)
		vdev_worker_turn(worker);
	if (how & 2)
		attach(UNPU_PROTO_VERSION + 1 + how);
	attach(UNPU_PROTO_VERSION);
}

static void record(struct fuzz_input *in)
{
	uint32_t kind = fuzz_u8(in) % 16;
	struct unpu_proto_command c;

	switch (kind) {
	case 12:
		change_heap(in);
		break;
	case 13:
		settle();
		break;
	case 14:
		change_rings(in);
		break;
	case 15:
		attach_again(in);
		break;
	default:
		make_command(in, kind, &c);
		change_command(in, &c);
		publish(&c);
	}
}

/* What only the guest writes is as it left it, and so is what is no buffer's. */
static void check_window(void)
{
	uint32_t i;

	FUZZ_CHECK(!memcmp(window + UNPU_PROTO_DRIVER, page, PAGE));
	FUZZ_CHECK(!memcmp(window + UNPU_PROTO_COMMANDS, ring, sizeof(ring)));
	for (i = 0; i < PAGES; i++)
		FUZZ_CHECK(writable[i] || !memcmp(window + HEAP + i * PAGE, heap + i * PAGE, PAGE));
	FUZZ_CHECK(!memcmp(window + UNPU_PROTO_DEVICE, &device,
			   offsetof(struct unpu_proto_device, state)));
}

static void forget(void)
{
	memset(window + UNPU_PROTO_COMMANDS, 0, sizeof(ring));
	memset(ring, 0, sizeof(ring));
	memset(window + HEAP, 0x5a, sizeof(heap));
	memset(heap, 0x5a, sizeof(heap));
	memset(writable, 0, sizeof(writable));
	memset(window + WINDOW - PAGE, 0, PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	uint32_t i;

	if (!worker)
		begin();
	attach(UNPU_PROTO_VERSION);
	forget();
	for (i = 0; in.left && i < MAX_RECORDS; i++)
		record(&in);
	settle();
	check_window();
	return 0;
}
