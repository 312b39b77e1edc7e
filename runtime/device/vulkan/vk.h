/* SPDX-License-Identifier: MIT */
/*
 * Inside the vulkan engine, cut by object: loader.c (libvulkan, instance), device.c (what a device
 * reports, opening one), memory.c (a few large allocations, buffers in them), pipeline.c (shaders
 * and variants become pipelines; the cache on disk), program.c (recording), run.c (submitting,
 * waiting, canary), canary.c, module.c (SPIR-V as it is packed into the library), engine.c (struct
 * unpu_engine_ops), hooks.c (faults and limits that tests put in).
 */
#ifndef UNPU_VK_H
#define UNPU_VK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "runtime/device/vulkan/vulkan.h"

/* ---- what a device reports, after hooks have clamped it -------------------------------------- */

struct unpu_vk_caps {
	struct unpu_vulkan_info info;
	uint32_t api_version;			/* to use: the instance's or the device's */
	uint32_t queue_family;			/* with compute */
	uint32_t max_invocations;		/* of a work-group, and of its x */
	uint32_t max_groups[3];
	uint32_t shared_bytes;
	uint32_t storage_buffers;		/* per stage */
	uint32_t push_bytes;
	uint64_t max_range;			/* of one binding */
	uint64_t max_alloc;
	uint32_t buffer_align;			/* of a binding's offset */
	uint32_t atom;				/* nonCoherentAtomSize */
	uint32_t subgroup_size;			/* 0: below 1.1 */
	bool subgroup_add;			/* ARITHMETIC in compute */
	bool f16;				/* shaderFloat16 */
	bool dot, dot_signed, dot_mixed;	/* integer dot products; which kinds are fast */
	bool unified;				/* host-visible memory is as fast as any */
	uint64_t timeout_ns;			/* what takes longer hangs */
	bool ext_driver, ext_f16, ext_dot;	/* as extensions: not in the core of api_version */
};

/* ---- entry points ---------------------------------------------------------------------------- */

/* Of the loader, of an instance and of a device; Vulkan 1.0 but for those marked optional. */
#define UNPU_VK_GLOBAL(X) \
	X(EnumerateInstanceExtensionProperties) X(CreateInstance)
#define UNPU_VK_INSTANCE(X) \
	X(DestroyInstance) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties) \
	X(GetPhysicalDeviceFeatures) X(GetPhysicalDeviceQueueFamilyProperties) \
	X(GetPhysicalDeviceMemoryProperties) X(EnumerateDeviceExtensionProperties) \
	X(CreateDevice) X(GetDeviceProcAddr)
#define UNPU_VK_DEVICE(X) \
	X(DestroyDevice) X(GetDeviceQueue) X(DeviceWaitIdle) \
	X(AllocateMemory) X(FreeMemory) X(MapMemory) X(UnmapMemory) \
	X(FlushMappedMemoryRanges) X(InvalidateMappedMemoryRanges) \
	X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements) X(BindBufferMemory) \
	X(CreateShaderModule) X(DestroyShaderModule) X(CreateDescriptorSetLayout) \
	X(DestroyDescriptorSetLayout) X(CreatePipelineLayout) X(DestroyPipelineLayout) \
	X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData) \
	X(CreateComputePipelines) X(DestroyPipeline) \
	X(CreateDescriptorPool) X(DestroyDescriptorPool) X(AllocateDescriptorSets) \
	X(UpdateDescriptorSets) \
	X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers) \
	X(FreeCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer) \
	X(CmdBindPipeline) X(CmdBindDescriptorSets) X(CmdPushConstants) X(CmdDispatch) \
	X(CmdPipelineBarrier) X(CmdFillBuffer) \
	X(CreateFence) X(DestroyFence) X(ResetFences) X(GetFenceStatus) X(WaitForFences) \
	X(QueueSubmit)

#define UNPU_VK_POINTER(__name) PFN_vk##__name __name;
struct unpu_vk_instance {
	void *lib;
	VkInstance handle;
	uint32_t api_version;		/* of the instance: 1.0 to 1.3 */
	char why[128];			/* after -ENOENT: what is missing */
	PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
	PFN_vkGetPhysicalDeviceProperties2 GetPhysicalDeviceProperties2;	/* optional */
	PFN_vkGetPhysicalDeviceFeatures2 GetPhysicalDeviceFeatures2;		/* optional */
	UNPU_VK_GLOBAL(UNPU_VK_POINTER)
	UNPU_VK_INSTANCE(UNPU_VK_POINTER)
	uint32_t num_devices;
	VkPhysicalDevice devices[UNPU_VULKAN_MAX_DEVICES];
};

/* loader.c. One instance per caller; no state outside of it. -ENOENT: no loader or no driver, which
 * may be well: it stands in vki->why and is the caller's to say. All else is said. */
int unpu_vk_instance_init(struct unpu_vk_instance *vki, const struct unpu_log *log);
void unpu_vk_instance_finish(struct unpu_vk_instance *vki);

/* ---- a device that is open ------------------------------------------------------------------- */

struct unpu_vk_block;

struct unpu_vk {
	struct unpu_vk_instance instance;
	struct unpu_vk_caps caps;
	struct unpu_log log;
	VkPhysicalDevice physical;
	VkDevice device;
	VkQueue queue;
	pthread_mutex_t queue_lock;		/* held by unpu_vk_queue_submit() alone */
	struct unpu_vk_fn { UNPU_VK_DEVICE(UNPU_VK_POINTER) } fn;
	VkPhysicalDeviceMemoryProperties memory;
	struct unpu_vk_block *blocks;		/* memory.c */
	struct unpu_vulkan_counters counters;
	/* The device is gone, or what it still does is unknown: nothing of it is freed, for it may
	 * yet write there, and its objects are left to the end of the process. */
	atomic_bool lost;
};

/* 0 for a VkResult that is no error, else -errno and a sentence that names the call: -ENOMEM,
 * -ENODEV (lost; vk->lost is set) or -EIO. */
int unpu_vk_result(struct unpu_vk *vk, const char *call, VkResult result);
#define VK(__vk, __name, ...) \
	unpu_vk_result((__vk), "vk" #__name, (__vk)->fn.__name(__VA_ARGS__))
/* A wait for a fence that fails, be it for want of host memory: what was submitted may still run,
 * so vk->lost is set. -ENODEV, said. */
int unpu_vk_wait_failed(struct unpu_vk *vk, VkResult result);

/* device.c */
int unpu_vk_caps_read(const struct unpu_vk_instance *vki, uint32_t index,
		      struct unpu_vk_caps *caps);
/* -ENODEV: no such device; -ENOTSUP: caps.info.why; both said, as every error. close() takes what
 * open() left half-built, and zeros. */
int unpu_vk_open(struct unpu_vk *vk, uint32_t index, const struct unpu_log *log);
void unpu_vk_close(struct unpu_vk *vk);
/* The only way to the queue: buffers are zeroed on it while a job runs on another thread. */
VkResult unpu_vk_queue_submit(struct unpu_vk *vk, const VkSubmitInfo *submit, VkFence fence);

/* ---- memory.c -------------------------------------------------------------------------------- */

/* A VkBuffer in a piece of a block. ptr: where the host sees it, or NULL. */
struct unpu_vk_buffer {
	VkBuffer handle;
	struct unpu_vk_block *block;
	uint64_t offset, size;
	uint8_t *ptr;
};

enum unpu_vk_memory {
	UNPU_VK_DEVICE = 0,	/* shaders alone; on unified memory the host sees it all the same */
	UNPU_VK_WINDOW,		/* host-visible and coherent, cached if there is such */
};

/* Zeroed. -ENOMEM, said. */
int unpu_vk_buffer_create(struct unpu_vk *vk, enum unpu_vk_memory kind, uint64_t size,
			  struct unpu_vk_buffer *buffer);
void unpu_vk_buffer_destroy(struct unpu_vk *vk, struct unpu_vk_buffer *buffer);
/* All blocks; after the last buffer. */
void unpu_vk_memory_finish(struct unpu_vk *vk);

/* ---- shaders --------------------------------------------------------------------------------- */

/*
 * How the arithmetic of a shader is built; each is a module of its own, since a capability that is
 * declared must be there even where it is not used. F32 needs Vulkan 1.0 alone; the others also
 * subgroup adds.
 */
enum unpu_vk_math {
	UNPU_VK_F32 = 0,	/* the baseline */
	UNPU_VK_F32S,		/* with subgroup adds */
	UNPU_VK_F16,		/* products in f16, sums in f32: quantised and F16 weights only */
	UNPU_VK_SDOT,		/* class a8 by signed dot products */
	UNPU_VK_SUDOT,		/* class a8 by mixed dot products */
	UNPU_VK_MATHS,
};

/* One module of SPIR-V; tools/spirv makes the table from shaders/ when the library is built. */
struct unpu_vk_module {
	uint32_t kind;		/* enum unpu_shader_kind */
	uint32_t math;
	uint32_t tokens;	/* rows that one work-group takes: 1 or UNPU_VK_TOKENS; 0: any */
	uint32_t bytes;
	/* Packed, with all others of its shader: `begin` words of them before it. */
	uint32_t begin, packed_bytes;
	const uint8_t *packed;
};
extern const struct unpu_vk_module unpu_vk_modules[];
extern const uint32_t unpu_vk_num_modules;

/* module.c. Its SPIR-V, to be freed. -ENOMEM; -EIO: not what tools/spirv-pack.c writes. */
int unpu_vk_module_read(const struct unpu_vk_module *module, uint32_t **words);

#define UNPU_VK_TOKENS	4	/* of the modules for several rows; TOKENS of shaders/ */

/*
 * Specialization constants: constant_id i is word i of the shader's spec (shaders.h), then
 */
#define UNPU_VK_ID_LOCAL	30	/* local_size_x: a multiple of 32, 256 in the baseline */
/*
 * Push constants, set once when recorded: u32 base, first unit of grid[0] of this vkCmdDispatch
 * (weights in several banks); u32 limit, the first unit that is not its; then up to 6 words: the
 * constants of the dispatch (shaders.h).
 * Bindings: set 0, binding i is binding i of shaders.h, all storage buffers. A bank's quants and
 * scales are bound from the panel of unit `base` on.
 * vkCmdDispatch: x = units of grid[0] (base..limit); y = grid[1], or tiles of `tokens` rows; z =
 * grid[2]. attn: x = kv head x tiles of its query heads, y = chunk, z = row.
 */
#define UNPU_VK_PUSH_BYTES	32
#define UNPU_VK_HEADS	4	/* of a tile; shaders/attn.comp says it too */

/* What the engine chose among modules and sizes; text form: unpu_vulkan_tunings(). */
struct unpu_vk_tuning {
	uint32_t math;
	uint32_t local;		/* invocations of a work-group of the matrix shaders */
};

/* ---- hooks.c --------------------------------------------------------------------------------- */

/* Empty in the library; tests/hooks/vulkan.c, linked before it, replaces all of them. */
void unpu_vk_hook_caps(struct unpu_vk_caps *caps);
/* After the judgement: max_range may become as small as a test needs it. */
void unpu_vk_hook_range(struct unpu_vk_caps *caps);
/* Before submit number n (from 1): what has to go wrong with it. */
enum unpu_vk_fault {
	UNPU_VK_FAULT_NONE = 0, UNPU_VK_FAULT_LOST, UNPU_VK_FAULT_HANG, UNPU_VK_FAULT_CORRUPT,
	UNPU_VK_FAULT_OOM,
};
enum unpu_vk_fault unpu_vk_hook_submit(uint64_t n);
/* Before allocation number n (from 1) of device memory: true when it has to fail. */
bool unpu_vk_hook_allocate(uint64_t n);
/* Where a probe calls it, a test may end the process. */
void unpu_vk_hook_probe(void);

#endif
