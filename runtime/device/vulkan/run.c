/* SPDX-License-Identifier: MIT */
/* Programs on their way: one submit with a canary behind it, and the wait for its fence. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "runtime/device/cpu/twin.h"
#include "runtime/device/vulkan/engine.h"

/* Between two looks at `cancel`. */
#define SLICE_NS	20000000u
/* Drivers and kernels end what takes longer than about half a second. */
#define SUBMIT_NS	200000000u
/* After a cancel, besides what the work at hand may well take. */
#define GRACE_NS	1000000000u
/* Where there is no cancel: lavapipe compiles at the first dispatch, which on a busy machine took
 * half a minute. */
#define ANSWER_NS	180000000000u

/* Weights that are spoiled on request: finite as floats of both sizes. */
#define SPOILT	0x3c3c3c3cu

uint64_t unpu_vk_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- waiting --------------------------------------------------------------------------------- */

int unpu_vk_fence(struct unpu_vk *vk, VkFence *fence)
{
	const VkFenceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };

	return VK(vk, CreateFence, vk->device, &info, NULL, fence);
}

/*
 * What the host asks the work at hand to do: skip what is left. The word belongs to the session, so
 * it is taken back when the fence has signalled; had somebody written the same meanwhile, it was
 * for this job. Loads and stores alone: where the memory is not cached, as on VideoCore, ARM's
 * exclusive and atomic instructions may never succeed, or fault.
 */
static void stop(_Atomic uint32_t *word, uint32_t from, uint32_t to)
{
	if (word && atomic_load(word) == from)
		atomic_store(word, to);
}

static int hung(struct unpu_vk *vk, uint64_t ns)
{
	atomic_store(&vk->lost, true);
	return unpu_fail(&vk->log, -ENODEV, "vulkan: %s hangs: no end after %llu ms",
			 vk->caps.info.name, (unsigned long long)(ns / 1000000));
}

/* 0 or -ECANCELED when the fence has signalled, else the device is lost. */
static int wait(struct unpu_vk *vk, VkFence fence, uint64_t expected_ns, const atomic_uint *cancel,
		struct unpu_vk_imports *imports)
{
	_Atomic uint32_t *stop_word = imports ? imports->stop : NULL;
	uint64_t begin = unpu_vk_now_ns(), ends = cancel ? 0 : begin + ANSWER_NS;
	bool cancelled = false;

	for (;;) {
		VkResult result = vk->fn.WaitForFences(vk->device, 1, &fence, VK_TRUE, SLICE_NS);
		uint64_t now;

		if (result != VK_TIMEOUT) {
			if (cancelled)
				stop(stop_word, UNPU_STOP_CANCEL, 0);
			if (result < 0)
				return unpu_vk_wait_failed(vk, result);
			return cancelled ? -ECANCELED : 0;
		}
		if (imports)
			unpu_vk_imports_look(imports);
		now = unpu_vk_now_ns();
		if (ends && now >= ends)
			return hung(vk, now - begin);
		if (!cancelled && cancel && atomic_load(cancel)) {
			cancelled = true;
			ends = now + GRACE_NS + 2 * expected_ns;
			stop(stop_word, 0, UNPU_STOP_CANCEL);
		}
	}
}

int unpu_vk_submit(struct unpu_vk_engine *e, VkFence fence, const VkCommandBuffer *commands,
		   uint32_t count, uint64_t expected_ns, const atomic_uint *cancel,
		   struct unpu_vk_imports *imports)
{
	const VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.commandBufferCount = count, .pCommandBuffers = commands,
	};
	struct unpu_vk *vk = &e->vk;
	int err;

	if (atomic_load(&vk->lost))
		return -ENODEV;
	err = VK(vk, ResetFences, vk->device, 1, &fence);
	if (!err)
		err = unpu_vk_result(vk, "vkQueueSubmit", unpu_vk_queue_submit(vk, &submit, fence));
	return err ? err : wait(vk, fence, expected_ns, cancel, imports);
}

/* ---- faults that a test asks for ------------------------------------------------------------- */

/* The quants of a dispatch; NULL: it has none. */
static const struct unpu_job_binding *quants_of(const struct unpu_job_dispatch *d)
{
	struct unpu_vk_matrix m;

	unpu_vk_matrix_get(d->kind, d->spec, &m);
	return m.layout == DRM_UNPU_LAYOUT_COUNT ? NULL : &d->bindings[m.quants];
}

/* All weights that the program reads, on the device: the host may not see them. */
static int record_spoil(struct unpu_vk *vk, const struct unpu_program *program,
			VkCommandBuffer commands)
{
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
	};
	int err = VK(vk, BeginCommandBuffer, commands, &begin);

	for (uint32_t i = 0; !err && i < program->num_dispatches; i++) {
		const struct unpu_job_binding *quants = quants_of(&program->dispatches[i]);
		const struct unpu_vk_buffer *buffer = quants ? quants->bo->priv : NULL;

		if (!buffer)
			continue;
		vk->fn.CmdFillBuffer(commands, buffer->handle, quants->offset,
				     quants->size & ~3ull, SPOILT);
		vk->fn.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
					  VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
					  VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &barrier, 0, NULL,
					  0, NULL);
	}
	return err ? err : VK(vk, EndCommandBuffer, commands);
}

static int spoil(struct unpu_vk_engine *e, const struct unpu_program *program)
{
	VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1,
	};
	struct unpu_vk *vk = &e->vk;
	VkCommandBuffer commands;
	int err = unpu_vk_command_pool(vk, &info.commandPool);

	if (err)
		return err;
	err = VK(vk, AllocateCommandBuffers, vk->device, &info, &commands);
	if (!err)
		err = record_spoil(vk, program, commands);
	if (!err)
		err = unpu_vk_submit(e, e->fence, &commands, 1, 0, NULL, NULL);
	if (!atomic_load(&vk->lost))
		vk->fn.DestroyCommandPool(vk->device, info.commandPool, NULL);
	return err;
}

/* 0 to go on. */
static int fault(struct unpu_vk_engine *e, struct unpu_program *program, const atomic_uint *cancel)
{
	struct unpu_vk_program *p = program->priv;
	struct unpu_vk *vk = &e->vk;

	switch (unpu_vk_hook_submit(vk->counters.submits + 1)) {
	case UNPU_VK_FAULT_LOST:
		return unpu_vk_result(vk, "vkQueueSubmit", VK_ERROR_DEVICE_LOST);
	case UNPU_VK_FAULT_OOM:
		return unpu_vk_result(vk, "vkQueueSubmit", VK_ERROR_OUT_OF_DEVICE_MEMORY);
	case UNPU_VK_FAULT_HANG:
		/* Of a fence that nothing was submitted with. */
		VK(vk, ResetFences, vk->device, 1, &e->fence);
		return wait(vk, e->fence, 0, cancel, &p->imports);
	case UNPU_VK_FAULT_CORRUPT:
		if (p->canary)
			unpu_vk_canary_spoil(p->canary);
		return spoil(e, program);
	case UNPU_VK_FAULT_NONE:
		break;
	}
	return 0;
}

/* ---- one submit ------------------------------------------------------------------------------ */

/* Shaders that know no state do not look at the stop word between two rounds of a recording. */
static bool looks_between(const struct unpu_program *program)
{
	for (uint32_t i = 0; program->stop && i < program->num_dispatches; i++)
		if (unpu_twin_get(program->dispatches[i].kind)->stateless)
			return false;
	return true;
}

/* How many rounds go into this one. */
static uint32_t rounds_of(const struct unpu_vk_engine *e, const struct unpu_program *program,
			  uint32_t repeat)
{
	const struct unpu_vk_program *p = program->priv;
	uint64_t most = e->slice_ns ? e->slice_ns : SUBMIT_NS;

	if (!looks_between(program))
		return 1;
	return repeat >= UNPU_VK_ROUNDS && p->round_ns && p->round_ns * UNPU_VK_ROUNDS <= most ?
	       UNPU_VK_ROUNDS : 1;
}

static void count(struct unpu_vk *vk, const struct unpu_vk_program *p, uint32_t rounds)
{
	unpu_vk_count(&vk->counters.submits, 1);
	unpu_vk_count(&vk->counters.dispatches, (uint64_t)rounds * p->num_calls);
	if (!p->canary)
		return;
	unpu_vk_count(&vk->counters.dispatches, 1);
	unpu_vk_count(&vk->counters.canaries, 1);
}

static int submit(struct unpu_vk_engine *e, struct unpu_program *program, uint32_t rounds,
		  const atomic_uint *cancel)
{
	struct unpu_vk_program *p = program->priv;
	VkCommandBuffer commands[2] = { rounds == 1 ? p->one : p->rounds };
	uint64_t begin = unpu_vk_now_ns();
	int err;

	if (p->canary) {
		commands[1] = p->canary->commands;
		unpu_vk_canary_clear(p->canary);
	}
	count(&e->vk, p, rounds);
	unpu_vk_imports_in(&p->imports);
	err = unpu_vk_submit(e, e->fence, commands, p->canary ? 2 : 1, rounds * p->round_ns,
			     cancel, &p->imports);
	if (err)
		return err;
	p->round_ns = (unpu_vk_now_ns() - begin) / rounds;
	if (!p->canary || !unpu_vk_canary_check(e, p->canary)) {
		unpu_vk_imports_out(&p->imports);
		return 0;
	}
	/* The session asks another device; nothing of this one's is believed any more. */
	atomic_store(&e->bad, true);
	return -ENODEV;
}

int unpu_vk_run(struct unpu_vk_engine *e, struct unpu_program *program, uint32_t repeat,
		const atomic_uint *cancel, uint32_t *done)
{
	struct unpu_vk_program *p = program->priv;
	uint32_t rounds = rounds_of(e, program, repeat);
	int err = 0;

	*done = 0;
	if (atomic_load(&e->vk.lost) || atomic_load(&e->bad))
		return -ENODEV;
	if (cancel && atomic_load(cancel))
		return -ECANCELED;
	if (rounds > 1)
		err = unpu_vk_program_rounds(e, p);
	if (!err)
		err = fault(e, program, cancel);
	if (!err)
		err = submit(e, program, rounds, cancel);
	if (!err)
		*done = rounds;
	return err;
}
