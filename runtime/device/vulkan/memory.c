/* SPDX-License-Identifier: MIT */
/*
 * Device memory from a few large allocations: drivers allow few (4,096 at least), and some lock
 * every one of them for each submit.
 */
#include "runtime/device/vulkan/vk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB		(1ull << 20)
#define MAX_BLOCK	(64 * MIB)
#define MIN_BLOCK	(4 * MIB)
/* Of a piece: nonCoherentAtomSize and minStorageBufferOffsetAlignment are at most this. */
#define PIECE_ALIGN	256u
/* A driver that has not filled a buffer with zeros by then will not do so; besides what a job may
 * take that another thread has put into the queue before. */
#define FILL_NS		10000000000ull

/* What of a block is in use, in order. Freeing takes a piece out, so it cannot fail. */
struct piece {
	struct piece *next;
	uint64_t offset, size;
};

struct unpu_vk_block {
	struct unpu_vk_block *next;
	VkDeviceMemory memory;
	uint64_t size;
	uint32_t type;
	bool mapped;
	uint8_t *ptr;		/* NULL: not mapped */
	struct piece *pieces;
};

static uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

/* ---- which memory ---------------------------------------------------------------------------- */

#define HOST	(VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define LOCAL	VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define CACHED	VK_MEMORY_PROPERTY_HOST_CACHED_BIT

/*
 * How well a type serves, 0: not at all. Bits beyond these (lazy, protected, AMD's uncached) need
 * features or have other uses.
 */
static unsigned int fitness(const struct unpu_vk *vk, uint32_t type, enum unpu_vk_memory kind)
{
	VkMemoryPropertyFlags flags = vk->memory.memoryTypes[type].propertyFlags;
	VkMemoryPropertyFlags must = kind == UNPU_VK_WINDOW ? HOST : LOCAL;
	unsigned int fit = 1;

	if (vk->caps.unified)
		must |= HOST;
	if (flags & ~(HOST | LOCAL | CACHED) || (flags & must) != must)
		return 0;
	if (kind == UNPU_VK_WINDOW) {
		fit += flags & CACHED ? 4 : 0;
		/* A discrete card's own memory is scarce where the host sees it. */
		fit += !(flags & LOCAL) == !vk->caps.unified ? 2 : 0;
	} else {
		fit += !(flags & HOST) == !vk->caps.unified ? 4 : 0;
		/* Snooping the host's caches is not free. */
		fit += flags & CACHED ? 0 : 2;
	}
	return fit;
}

/* The best of `types`, the first of equals: drivers list the faster first. -1: none. */
static int choose_type(const struct unpu_vk *vk, uint32_t types, enum unpu_vk_memory kind,
		       uint64_t size)
{
	unsigned int best = 0;
	int choice = -1;

	for (uint32_t i = 0; i < vk->memory.memoryTypeCount; i++) {
		uint32_t heap = vk->memory.memoryTypes[i].heapIndex;
		unsigned int fit = types & 1u << i ? fitness(vk, i, kind) : 0;

		if (fit <= best || vk->memory.memoryHeaps[heap].size < size)
			continue;
		best = fit;
		choice = (int)i;
	}
	return choice;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A 32nd of the heap, so that a board of 1 GiB does not lose 64 MiB to a block's end. */
static uint64_t block_size(const struct unpu_vk *vk, uint32_t type, uint64_t size)
{
	uint64_t heap = vk->memory.memoryHeaps[vk->memory.memoryTypes[type].heapIndex].size;
	uint64_t block = align_up(heap / 32, MIB);

	if (block > MAX_BLOCK)
		block = MAX_BLOCK;
	if (block < MIN_BLOCK)
		block = MIN_BLOCK;
	if (block > vk->caps.max_alloc)
		block = vk->caps.max_alloc;
	return block < size ? size : block;
}

static VkResult allocate(struct unpu_vk *vk, uint32_t type, uint64_t size, VkDeviceMemory *memory)
{
	const VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.allocationSize = size,
		.memoryTypeIndex = type,
	};

	/* Atomic, for it is read while a job runs. */
	if (unpu_vk_hook_allocate(__atomic_add_fetch(&vk->counters.allocations, 1,
						     __ATOMIC_RELAXED)))
		return VK_ERROR_OUT_OF_DEVICE_MEMORY;
	return vk->fn.AllocateMemory(vk->device, &info, NULL, memory);
}

static void block_destroy(struct unpu_vk *vk, struct unpu_vk_block *block)
{
	if (block->memory && !atomic_load(&vk->lost))
		vk->fn.FreeMemory(vk->device, block->memory, NULL);	/* and unmaps it */
	free(block);
}

/* A block of the usual size or, where that is too much, of what is asked for. */
static VkResult block_create(struct unpu_vk *vk, uint32_t type, bool mapped, uint64_t size,
			     struct unpu_vk_block **created)
{
	struct unpu_vk_block *block = calloc(1, sizeof(*block));
	VkResult result;

	if (!block)
		return VK_ERROR_OUT_OF_HOST_MEMORY;
	block->type = type;
	block->mapped = mapped;
	block->size = block_size(vk, type, size);
	result = allocate(vk, type, block->size, &block->memory);
	if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY && block->size > size) {
		block->size = size;
		result = allocate(vk, type, size, &block->memory);
	}
	if (result < 0)
		block->memory = VK_NULL_HANDLE;
	else if (mapped)
		result = vk->fn.MapMemory(vk->device, block->memory, 0, VK_WHOLE_SIZE, 0,
					  (void **)&block->ptr);
	if (result < 0) {
		block_destroy(vk, block);
		return result;
	}
	block->next = vk->blocks;
	vk->blocks = block;
	*created = block;
	return VK_SUCCESS;
}

/* The first gap in which `piece` has room; it is put there. */
static bool block_take(struct unpu_vk_block *block, uint64_t align, struct piece *piece)
{
	struct piece **link = &block->pieces;
	uint64_t from = 0;

	for (;; link = &(*link)->next) {
		uint64_t to = *link ? (*link)->offset : block->size;

		if (from <= to && to - from >= piece->size)
			break;
		if (!*link)
			return false;
		from = align_up((*link)->offset + (*link)->size, align);
	}
	piece->offset = from;
	piece->next = *link;
	*link = piece;
	return true;
}

static void block_give(struct unpu_vk *vk, struct unpu_vk_block *block, uint64_t offset)
{
	struct unpu_vk_block **link = &vk->blocks;
	struct piece **p = &block->pieces, *piece;

	while (*p && (*p)->offset != offset)
		p = &(*p)->next;
	piece = *p;
	if (piece)
		*p = piece->next;
	free(piece);
	if (block->pieces)
		return;
	while (*link && *link != block)
		link = &(*link)->next;
	if (*link)
		*link = block->next;
	block_destroy(vk, block);
}

/* ---- zeros where the host cannot write ------------------------------------------------------- */

struct fill {
	VkCommandPool pool;
	VkCommandBuffer commands;
	VkFence fence;
};

static int fill_begin(struct unpu_vk *vk, struct fill *fill)
{
	const VkCommandPoolCreateInfo pool = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
		.queueFamilyIndex = vk->caps.queue_family,
	};
	const VkFenceCreateInfo fence = { .sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO };
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
		.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
	};
	VkCommandBufferAllocateInfo commands = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};
	int err = VK(vk, CreateFence, vk->device, &fence, NULL, &fill->fence);

	if (!err)
		err = VK(vk, CreateCommandPool, vk->device, &pool, NULL, &fill->pool);
	commands.commandPool = fill->pool;
	if (!err)
		err = VK(vk, AllocateCommandBuffers, vk->device, &commands, &fill->commands);
	if (!err)
		err = VK(vk, BeginCommandBuffer, fill->commands, &begin);
	return err;
}

static void fill_finish(struct unpu_vk *vk, struct fill *fill)
{
	if (atomic_load(&vk->lost))
		return;
	vk->fn.DestroyCommandPool(vk->device, fill->pool, NULL);
	vk->fn.DestroyFence(vk->device, fill->fence, NULL);
}

static int fill_run(struct unpu_vk *vk, const struct fill *fill)
{
	const VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.commandBufferCount = 1,
		.pCommandBuffers = &fill->commands,
	};
	uint64_t most = FILL_NS + vk->caps.timeout_ns;
	VkResult result;
	int err = VK(vk, EndCommandBuffer, fill->commands);

	if (!err)
		err = unpu_vk_result(vk, "vkQueueSubmit",
				     unpu_vk_queue_submit(vk, &submit, fill->fence));
	if (err)
		return err;
	result = vk->fn.WaitForFences(vk->device, 1, &fill->fence, VK_TRUE, most);
	if (result != VK_TIMEOUT)
		return result < 0 ? unpu_vk_wait_failed(vk, result) : 0;
	atomic_store(&vk->lost, true);
	return unpu_fail(&vk->log, -ENODEV, "vulkan: %s does not answer: no zeros after %llu s",
			 vk->caps.info.name, (unsigned long long)most / 1000000000);
}

static int zero(struct unpu_vk *vk, const struct unpu_vk_buffer *buffer)
{
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
				 VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
	};
	struct fill fill = { 0 };
	int err;

	if (buffer->ptr) {
		memset(buffer->ptr, 0, buffer->size);
		return 0;
	}
	err = fill_begin(vk, &fill);
	if (!err) {
		vk->fn.CmdFillBuffer(fill.commands, buffer->handle, 0, VK_WHOLE_SIZE, 0);
		vk->fn.CmdPipelineBarrier(fill.commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
					  VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
					  VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &barrier,
					  0, NULL, 0, NULL);
		err = fill_run(vk, &fill);
	}
	fill_finish(vk, &fill);
	return err;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static int too_large(struct unpu_vk *vk, uint64_t size, VkResult result)
{
	uint64_t held = 0;

	if (result == VK_ERROR_DEVICE_LOST)
		return unpu_vk_result(vk, "vkAllocateMemory", result);
	for (const struct unpu_vk_block *b = vk->blocks; b; b = b->next)
		held += b->size;
	return unpu_fail(&vk->log, -ENOMEM,
			 "vulkan: no memory for a buffer of %.1f MiB on %s: %.1f MiB are taken by "
			 "this process, the device has %.1f MiB", (double)size / MIB,
			 vk->caps.info.name, (double)held / MIB,
			 (double)vk->caps.info.heap_bytes / MIB);
}

/* Room for the piece in a block of this type, in a new one if need be. */
static VkResult find_room(struct unpu_vk *vk, uint32_t type, bool mapped, uint64_t align,
			  struct piece *piece, struct unpu_vk_block **block)
{
	VkResult result;

	for (*block = vk->blocks; *block; *block = (*block)->next)
		if ((*block)->type == type && (*block)->mapped == mapped &&
		    block_take(*block, align, piece))
			return VK_SUCCESS;
	result = block_create(vk, type, mapped, piece->size, block);
	if (result >= 0)
		block_take(*block, align, piece);
	return result;
}

static int place(struct unpu_vk *vk, enum unpu_vk_memory kind, struct unpu_vk_buffer *buffer)
{
	/* Where a card's own memory happens to be in reach, writing there is still slow. */
	bool mapped = kind == UNPU_VK_WINDOW || vk->caps.unified;
	VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
	VkMemoryRequirements needs;
	struct piece *piece;
	uint32_t types;
	int type;

	vk->fn.GetBufferMemoryRequirements(vk->device, buffer->handle, &needs);
	if (needs.alignment < PIECE_ALIGN)
		needs.alignment = PIECE_ALIGN;
	if (needs.size > vk->caps.max_alloc)
		return too_large(vk, buffer->size, result);
	piece = calloc(1, sizeof(*piece));
	if (!piece)
		return unpu_fail(&vk->log, -ENOMEM, "out of memory for a Vulkan buffer");
	piece->size = needs.size;
	for (types = needs.memoryTypeBits; result < 0; types &= ~(1u << type)) {
		type = choose_type(vk, types, kind, needs.size);
		if (type < 0 || result == VK_ERROR_DEVICE_LOST)
			break;
		result = find_room(vk, (uint32_t)type, mapped, needs.alignment, piece,
				   &buffer->block);
	}
	if (result < 0) {
		buffer->block = NULL;
		free(piece);
		return too_large(vk, buffer->size, result);
	}
	buffer->offset = piece->offset;
	buffer->ptr = buffer->block->ptr ? buffer->block->ptr + piece->offset : NULL;
	return VK(vk, BindBufferMemory, vk->device, buffer->handle, buffer->block->memory,
		  piece->offset);
}

int unpu_vk_buffer_create(struct unpu_vk *vk, enum unpu_vk_memory kind, uint64_t size,
			  struct unpu_vk_buffer *buffer)
{
	const VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.size = align_up(size ? size : 1, 4),	/* vkCmdFillBuffer writes words */
		.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
			 VK_BUFFER_USAGE_TRANSFER_DST_BIT,
		.sharingMode = VK_SHARING_MODE_EXCLUSIVE,
	};
	int err;

	memset(buffer, 0, sizeof(*buffer));
	buffer->size = size;
	if (size > vk->caps.info.heap_bytes)
		return too_large(vk, size, VK_ERROR_OUT_OF_DEVICE_MEMORY);
	err = VK(vk, CreateBuffer, vk->device, &info, NULL, &buffer->handle);
	if (err)
		buffer->handle = VK_NULL_HANDLE;
	else
		err = place(vk, kind, buffer);
	if (!err)
		err = zero(vk, buffer);
	if (err)
		unpu_vk_buffer_destroy(vk, buffer);
	return err;
}

void unpu_vk_buffer_destroy(struct unpu_vk *vk, struct unpu_vk_buffer *buffer)
{
	if (!buffer)
		return;
	if (buffer->handle && !atomic_load(&vk->lost))
		vk->fn.DestroyBuffer(vk->device, buffer->handle, NULL);
	if (buffer->block)
		block_give(vk, buffer->block, buffer->offset);
	memset(buffer, 0, sizeof(*buffer));
}

void unpu_vk_memory_finish(struct unpu_vk *vk)
{
	struct unpu_vk_block *block;

	while ((block = vk->blocks)) {
		vk->blocks = block->next;
		while (block->pieces) {
			struct piece *piece = block->pieces;

			block->pieces = piece->next;
			free(piece);
		}
		block_destroy(vk, block);
	}
}
