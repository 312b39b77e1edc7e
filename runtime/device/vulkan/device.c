/* SPDX-License-Identifier: MIT */
/* What a device reports, whether that is enough, and opening it. */
#include "runtime/device/vulkan/vk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB	(1ull << 20)

/* The least that every shader is written for; Vulkan itself promises 4 buffers, 128 and 128 MiB. */
#define MIN_BUFFERS	8u
#define MIN_INVOCATIONS	256u
#define MIN_SHARED	16384u
#define MIN_RANGE	(32 * MIB)
/* A submit is about 200 ms once its program has been measured; the first round of a long prompt
 * with the largest models may take a small GPU 20 s. */
#define TIMEOUT_NS	60000000000ull
#define MAX_ALIGN	256u	/* of a piece of a buffer: what DEV_QUERY promises at most */

/* ---- errors ---------------------------------------------------------------------------------- */

static const char *result_name(VkResult result)
{
	switch (result) {
#define NAME(__name) case __name: return #__name;
	NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
	NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
	NAME(VK_ERROR_INITIALIZATION_FAILED)
	NAME(VK_ERROR_DEVICE_LOST)
	NAME(VK_ERROR_MEMORY_MAP_FAILED)
	NAME(VK_ERROR_LAYER_NOT_PRESENT)
	NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
	NAME(VK_ERROR_FEATURE_NOT_PRESENT)
	NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
	NAME(VK_ERROR_TOO_MANY_OBJECTS)
	NAME(VK_ERROR_FRAGMENTED_POOL)
	NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
	NAME(VK_ERROR_INVALID_SHADER_NV)
	NAME(VK_ERROR_UNKNOWN)
#undef NAME
	default:
		return "VkResult";
	}
}

int unpu_vk_result(struct unpu_vk *vk, const char *call, VkResult result)
{
	int err;

	if (result >= 0)
		return 0;
	switch (result) {
	case VK_ERROR_OUT_OF_HOST_MEMORY:
	case VK_ERROR_OUT_OF_DEVICE_MEMORY:
	case VK_ERROR_TOO_MANY_OBJECTS:
	case VK_ERROR_FRAGMENTED_POOL:
	case VK_ERROR_OUT_OF_POOL_MEMORY:
		err = -ENOMEM;
		break;
	case VK_ERROR_DEVICE_LOST:
		atomic_store(&vk->lost, true);
		err = -ENODEV;
		break;
	default:
		err = -EIO;
	}
	return unpu_fail(&vk->log, err, "vulkan: %s failed on %s: %s (%d)", call,
			 vk->caps.info.name, result_name(result), result);
}

int unpu_vk_wait_failed(struct unpu_vk *vk, VkResult result)
{
	unpu_vk_result(vk, "vkWaitForFences", result);
	atomic_store(&vk->lost, true);
	return -ENODEV;
}

/* ---- what a device reports ------------------------------------------------------------------- */

/* A driver's text: of at most `max` bytes, perhaps without an end. */
static void copy_text(char *to, size_t size, const char *from, size_t max)
{
	size_t n = strnlen(from, max);

	n = n < size ? n : size - 1;
	memcpy(to, from, n);
	to[n] = '\0';
}

static enum unpu_vulkan_type type_of(VkPhysicalDeviceType type)
{
	switch (type) {
	case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
		return UNPU_VULKAN_INTEGRATED;
	case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
		return UNPU_VULKAN_DISCRETE;
	case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
		return UNPU_VULKAN_VIRTUAL;
	case VK_PHYSICAL_DEVICE_TYPE_CPU:
		return UNPU_VULKAN_CPU;
	default:
		return UNPU_VULKAN_OTHER;
	}
}

static void read_limits(const VkPhysicalDeviceProperties *p, struct unpu_vk_caps *caps)
{
	const VkPhysicalDeviceLimits *l = &p->limits;

	caps->max_invocations = l->maxComputeWorkGroupInvocations;
	if (caps->max_invocations > l->maxComputeWorkGroupSize[0])
		caps->max_invocations = l->maxComputeWorkGroupSize[0];
	memcpy(caps->max_groups, l->maxComputeWorkGroupCount, sizeof(caps->max_groups));
	caps->shared_bytes = l->maxComputeSharedMemorySize;
	caps->storage_buffers = l->maxPerStageDescriptorStorageBuffers;
	if (caps->storage_buffers > l->maxDescriptorSetStorageBuffers)
		caps->storage_buffers = l->maxDescriptorSetStorageBuffers;
	caps->push_bytes = l->maxPushConstantsSize;
	caps->max_range = l->maxStorageBufferRange;
	caps->buffer_align = (uint32_t)l->minStorageBufferOffsetAlignment;
	if (!caps->buffer_align || l->minStorageBufferOffsetAlignment > MAX_ALIGN)
		caps->buffer_align = MAX_ALIGN + 1;	/* refused below */
	caps->atom = l->nonCoherentAtomSize > MAX_ALIGN ? MAX_ALIGN :
							   (uint32_t)l->nonCoherentAtomSize;
}

static void read_identity(const VkPhysicalDeviceProperties *p, struct unpu_vulkan_info *info)
{
	copy_text(info->name, sizeof(info->name), p->deviceName, sizeof(p->deviceName));
	snprintf(info->driver, sizeof(info->driver), "version %#x", p->driverVersion);
	info->type = type_of(p->deviceType);
}

static uint64_t fnv1a(uint64_t hash, const void *data, size_t size)
{
	for (const uint8_t *byte = data; size--; byte++)
		hash = (hash ^ *byte) * 0x100000001b3;
	return hash;
}

/* pipelineCacheUUID and driverVersion ought to say it all, but lavapipe's are the same in every
 * version: the texts, which name its compiler's too, are there as a sum. */
static void make_key(const VkPhysicalDeviceProperties *p, struct unpu_vulkan_info *info)
{
	uint64_t hash = 0xcbf29ce484222325;
	size_t n = 0;

	hash = fnv1a(hash, &p->vendorID, sizeof(p->vendorID));
	hash = fnv1a(hash, &p->deviceID, sizeof(p->deviceID));
	hash = fnv1a(hash, info->name, strlen(info->name) + 1);
	hash = fnv1a(hash, info->driver, strlen(info->driver) + 1);
	for (size_t i = 0; i < VK_UUID_SIZE; i++)
		n += (size_t)snprintf(info->key + n, sizeof(info->key) - n, "%02x",
				      p->pipelineCacheUUID[i]);
	snprintf(info->key + n, sizeof(info->key) - n, "-%x-%016llx", p->driverVersion,
		 (unsigned long long)hash);
}

/*
 * Unified: the largest heap of the device has a type that the host sees and need not flush. A
 * discrete card's window into its memory (resizable BAR) is slow to read and does not count.
 */
static void read_memory(const VkPhysicalDeviceMemoryProperties *m, struct unpu_vk_caps *caps)
{
	const VkMemoryPropertyFlags all = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
	uint32_t heap = 0;

	for (uint32_t i = 0; i < m->memoryHeapCount; i++) {
		if (!(m->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) ||
		    m->memoryHeaps[i].size <= caps->info.heap_bytes)
			continue;
		caps->info.heap_bytes = m->memoryHeaps[i].size;
		heap = i;
	}
	for (uint32_t i = 0; i < m->memoryTypeCount; i++)
		if (m->memoryTypes[i].heapIndex == heap &&
		    (m->memoryTypes[i].propertyFlags & all) == all)
			caps->unified = true;
	if (caps->info.type == UNPU_VULKAN_DISCRETE)
		caps->unified = false;
	caps->max_alloc = caps->info.heap_bytes;
}

/* A queue family of compute alone keeps a desktop's own drawing out of the way of long jobs. */
static int read_queues(const struct unpu_vk_instance *vki, VkPhysicalDevice physical,
		       struct unpu_vk_caps *caps)
{
	VkQueueFamilyProperties families[32];
	uint32_t count = 32;
	int best = -1;

	vki->GetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
	for (uint32_t i = 0; i < count && i < 32; i++) {
		VkQueueFlags flags = families[i].queueFlags;

		if (!(flags & VK_QUEUE_COMPUTE_BIT) || !families[i].queueCount)
			continue;
		if (best < 0 || (!(flags & VK_QUEUE_GRAPHICS_BIT) &&
				 (families[best].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
			best = (int)i;
	}
	caps->queue_family = best < 0 ? 0 : (uint32_t)best;
	return best < 0 ? -ENOTSUP : 0;
}

static bool in_list(const VkExtensionProperties *list, uint32_t count, const char *name)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strncmp(list[i].extensionName, name, sizeof(list[i].extensionName)))
			return true;
	return false;
}

/* A device whose list cannot be read has none. */
static void read_extensions(const struct unpu_vk_instance *vki, VkPhysicalDevice physical,
			    struct unpu_vk_caps *caps)
{
	VkExtensionProperties *list;
	uint32_t count = 0, core = caps->api_version;

	if (vki->EnumerateDeviceExtensionProperties(physical, NULL, &count, NULL) < 0 || !count)
		return;
	list = calloc(count, sizeof(*list));
	if (list && vki->EnumerateDeviceExtensionProperties(physical, NULL, &count, list) >= 0) {
		caps->ext_driver = core < VK_API_VERSION_1_2 &&
			in_list(list, count, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
		caps->ext_f16 = core < VK_API_VERSION_1_2 &&
			in_list(list, count, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
		caps->ext_dot = core < VK_API_VERSION_1_3 &&
			in_list(list, count, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
	}
	free(list);
}

/* All of these structs begin alike. */
static void chain(void *head, void *link)
{
	VkBaseOutStructure *h = head, *l = link;

	l->pNext = h->pNext;
	h->pNext = l;
}

static void read_properties2(const struct unpu_vk_instance *vki, VkPhysicalDevice physical,
			     struct unpu_vk_caps *caps)
{
	VkPhysicalDeviceSubgroupProperties subgroup = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
	};
	VkPhysicalDeviceMaintenance3Properties maintenance = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES,
	};
	VkPhysicalDeviceDriverProperties driver = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
	};
	VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES,
	};
	VkPhysicalDeviceProperties2 p = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
	};

	if (caps->api_version >= VK_API_VERSION_1_1) {
		chain(&p, &subgroup);
		chain(&p, &maintenance);
	}
	if (caps->api_version >= VK_API_VERSION_1_2 || caps->ext_driver)
		chain(&p, &driver);
	if (caps->api_version >= VK_API_VERSION_1_3 || caps->ext_dot)
		chain(&p, &dot);
	vki->GetPhysicalDeviceProperties2(physical, &p);

	caps->subgroup_size = subgroup.subgroupSize;
	caps->subgroup_add = subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT &&
			     subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
	if (maintenance.maxMemoryAllocationSize)
		caps->max_alloc = maintenance.maxMemoryAllocationSize;
	caps->dot_signed = dot.integerDotProduct4x8BitPackedSignedAccelerated;
	caps->dot_mixed = dot.integerDotProduct4x8BitPackedMixedSignednessAccelerated;
	if (driver.driverName[0]) {
		char name[28], info[28];

		copy_text(name, sizeof(name), driver.driverName, sizeof(driver.driverName));
		copy_text(info, sizeof(info), driver.driverInfo, sizeof(driver.driverInfo));
		snprintf(caps->info.driver, sizeof(caps->info.driver), "%s%s%s", name,
			 info[0] ? " " : "", info);
	}
}

static void read_features2(const struct unpu_vk_instance *vki, VkPhysicalDevice physical,
			   struct unpu_vk_caps *caps)
{
	VkPhysicalDeviceShaderFloat16Int8Features f16 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
	};
	VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
	};
	VkPhysicalDeviceFeatures2 f = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
	};

	if (caps->api_version >= VK_API_VERSION_1_2 || caps->ext_f16)
		chain(&f, &f16);
	if (caps->api_version >= VK_API_VERSION_1_3 || caps->ext_dot)
		chain(&f, &dot);
	vki->GetPhysicalDeviceFeatures2(physical, &f);
	caps->f16 = f16.shaderFloat16;
	caps->dot = dot.shaderIntegerDotProduct;
}

/* ---- whether that is enough ------------------------------------------------------------------ */

static bool short_of(struct unpu_vk_caps *caps, const char *what, uint64_t has, uint64_t needs)
{
	if (has >= needs)
		return false;
	snprintf(caps->info.why, sizeof(caps->info.why), "%s: %llu, unpu needs %llu", what,
		 (unsigned long long)has, (unsigned long long)needs);
	return true;
}

static void judge(struct unpu_vk_caps *caps)
{
	if (short_of(caps, "storage buffers per shader", caps->storage_buffers, MIN_BUFFERS) ||
	    short_of(caps, "invocations of a work-group", caps->max_invocations,
		     MIN_INVOCATIONS) ||
	    short_of(caps, "bytes of shared memory", caps->shared_bytes, MIN_SHARED) ||
	    short_of(caps, "bytes of one storage buffer's range", caps->max_range, MIN_RANGE) ||
	    short_of(caps, "bytes of push constants", caps->push_bytes, UNPU_VK_PUSH_BYTES))
		return;
	if (caps->buffer_align > MAX_ALIGN || caps->buffer_align & (caps->buffer_align - 1))
		snprintf(caps->info.why, sizeof(caps->info.why),
			 "offsets of storage buffers have to be multiples of more than %u bytes",
			 MAX_ALIGN);
	else if (!caps->info.heap_bytes)
		snprintf(caps->info.why, sizeof(caps->info.why), "no memory of its own");
}

int unpu_vk_caps_read(const struct unpu_vk_instance *vki, uint32_t index,
		      struct unpu_vk_caps *caps)
{
	VkPhysicalDeviceMemoryProperties memory;
	VkPhysicalDeviceProperties properties;
	VkPhysicalDevice physical;
	int err;

	memset(caps, 0, sizeof(*caps));
	if (index >= vki->num_devices)
		return -ENODEV;
	physical = vki->devices[index];
	vki->GetPhysicalDeviceProperties(physical, &properties);
	vki->GetPhysicalDeviceMemoryProperties(physical, &memory);
	caps->api_version = properties.apiVersion < vki->api_version ? properties.apiVersion :
								       vki->api_version;
	caps->timeout_ns = TIMEOUT_NS;
	read_limits(&properties, caps);
	read_identity(&properties, &caps->info);
	read_memory(&memory, caps);
	err = read_queues(vki, physical, caps);
	read_extensions(vki, physical, caps);
	if (vki->GetPhysicalDeviceProperties2)
		read_properties2(vki, physical, caps);
	if (vki->GetPhysicalDeviceFeatures2)
		read_features2(vki, physical, caps);
	make_key(&properties, &caps->info);
	unpu_vk_hook_caps(caps);
	judge(caps);
	unpu_vk_hook_range(caps);
	if (err)
		snprintf(caps->info.why, sizeof(caps->info.why), "no queue that computes");
	return 0;
}

/* ---- to the rest of the runtime -------------------------------------------------------------- */

int unpu_vulkan_count(const struct unpu_log *log, uint32_t *count)
{
	struct unpu_vk_instance *vki = malloc(sizeof(*vki));

	*count = 0;
	if (!vki)
		return unpu_fail(log, -ENOMEM, "out of memory for a Vulkan instance");
	if (unpu_vk_instance_init(vki, log))
		unpu_log(log, UNPU_LOG_INFO, "vulkan: %s", vki->why);
	*count = vki->num_devices;
	unpu_vk_instance_finish(vki);
	free(vki);
	return 0;
}

static int no_device(const struct unpu_log *log, uint32_t index,
		     const struct unpu_vk_instance *vki)
{
	if (!vki->num_devices)
		return unpu_fail(log, -ENODEV, "no device vulkan:%u: %s", index, vki->why);
	return unpu_fail(log, -ENODEV, "no device vulkan:%u: this machine has %u", index,
			 vki->num_devices);
}

int unpu_vulkan_describe(uint32_t index, const struct unpu_log *log, struct unpu_vulkan_info *info)
{
	struct unpu_vk_instance *vki = malloc(sizeof(*vki));
	struct unpu_vk_caps caps = { 0 };
	int err = -ENODEV;

	if (!vki)
		return unpu_fail(log, -ENOMEM, "out of memory for a Vulkan instance");
	if (!unpu_vk_instance_init(vki, log))
		err = unpu_vk_caps_read(vki, index, &caps);
	if (err)
		no_device(log, index, vki);
	unpu_vk_instance_finish(vki);
	free(vki);
	*info = caps.info;
	return err;
}

/* ---- opening one ----------------------------------------------------------------------------- */

/* The features of the maths that the caps allow, and no other. */
struct wanted {
	VkPhysicalDeviceShaderFloat16Int8Features f16;
	VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
	const char *extensions[2];
	VkDeviceCreateInfo info;
};

static void want(const struct unpu_vk_caps *caps, struct wanted *w)
{
	w->f16.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
	w->f16.shaderFloat16 = VK_TRUE;
	w->dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES;
	w->dot.shaderIntegerDotProduct = VK_TRUE;
	w->info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
	w->info.ppEnabledExtensionNames = w->extensions;
	/* All but the baseline use subgroup adds. */
	if (!caps->subgroup_add)
		return;
	if (caps->f16) {
		chain(&w->info, &w->f16);
		if (caps->ext_f16)
			w->extensions[w->info.enabledExtensionCount++] =
				VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;
	}
	if (caps->dot) {
		chain(&w->info, &w->dot);
		if (caps->ext_dot)
			w->extensions[w->info.enabledExtensionCount++] =
				VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
	}
}

#define LOAD_DEVICE(__name) \
	vk->fn.__name = (PFN_vk##__name) \
		vk->instance.GetDeviceProcAddr(vk->device, "vk" #__name); \
	if (!vk->fn.__name) \
		return unpu_fail(&vk->log, -EIO, "vulkan: %s has no vk" #__name, \
				 vk->caps.info.name);

static int create_device(struct unpu_vk *vk)
{
	const float priority = 1;
	const VkDeviceQueueCreateInfo queue = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueFamilyIndex = vk->caps.queue_family,
		.queueCount = 1,
		.pQueuePriorities = &priority,
	};
	struct wanted w = { 0 };
	VkResult result;

	want(&vk->caps, &w);
	w.info.queueCreateInfoCount = 1;
	w.info.pQueueCreateInfos = &queue;
	result = vk->instance.CreateDevice(vk->physical, &w.info, NULL, &vk->device);
	if (result < 0) {
		vk->device = VK_NULL_HANDLE;
		return unpu_vk_result(vk, "vkCreateDevice", result);
	}
	UNPU_VK_DEVICE(LOAD_DEVICE)
	vk->fn.GetDeviceQueue(vk->device, vk->caps.queue_family, 0, &vk->queue);
	return 0;
}

int unpu_vk_open(struct unpu_vk *vk, uint32_t index, const struct unpu_log *log)
{
	int err;

	memset(vk, 0, sizeof(*vk));
	if (log)
		vk->log = *log;
	pthread_mutex_init(&vk->queue_lock, NULL);
	err = unpu_vk_instance_init(&vk->instance, &vk->log);
	if (!err)
		err = unpu_vk_caps_read(&vk->instance, index, &vk->caps);
	if (err) {
		err = no_device(&vk->log, index, &vk->instance);
	} else if (vk->caps.info.why[0]) {
		err = unpu_fail(&vk->log, -ENOTSUP, "unpu cannot use vulkan:%u (%s): %s", index,
				vk->caps.info.name, vk->caps.info.why);
	} else {
		vk->physical = vk->instance.devices[index];
		vk->instance.GetPhysicalDeviceMemoryProperties(vk->physical, &vk->memory);
		err = create_device(vk);
	}
	if (err)
		unpu_vk_close(vk);
	return err;
}

void unpu_vk_close(struct unpu_vk *vk)
{
	unpu_vk_memory_finish(vk);
	if (atomic_load(&vk->lost))
		return;
	if (vk->device && vk->fn.DestroyDevice)
		vk->fn.DestroyDevice(vk->device, NULL);
	vk->device = VK_NULL_HANDLE;
	unpu_vk_instance_finish(&vk->instance);
}

VkResult unpu_vk_queue_submit(struct unpu_vk *vk, const VkSubmitInfo *submit, VkFence fence)
{
	VkResult result;

	pthread_mutex_lock(&vk->queue_lock);
	result = vk->fn.QueueSubmit(vk->queue, 1, submit, fence);
	pthread_mutex_unlock(&vk->queue_lock);
	return result;
}
