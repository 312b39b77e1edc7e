/* SPDX-License-Identifier: MIT */
/*
 * The vulkan engine's ground: a loader that is there or not, what a device reports and what of that
 * is too little, memory in blocks, errors. Linked with tests/hooks. What needs a device is skipped
 * where there is none.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/device/vulkan/vk.h"

#define MIB	(1ull << 20)

/* ---- what was said --------------------------------------------------------------------------- */

static struct said {
	char text[512];			/* the last sentence */
	unsigned int errors, lines;	/* of level error, of all but debug */
} said;

static void listen(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level == UNPU_LOG_DEBUG)
		return;
	snprintf(said.text, sizeof(said.text), "%s", text);
	said.lines++;
	said.errors += level == UNPU_LOG_ERROR;
}

static const struct unpu_log test_log = { .fn = listen };

static void assert_said(const char *piece)
{
	if (strstr(said.text, piece))
		return;
	print_error("'%s' is not in '%s'\n", piece, said.text);
	fail();
}

static int set_up(void **state)
{
	static const char *const names[] = {
		"UNPU_FAULT", "UNPU_VK_LIMITS", "UNPU_VK_RANGE", "UNPU_VK_TYPE",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
	memset(&said, 0, sizeof(said));
	return 0;
}

/* ---- a device, if there is one --------------------------------------------------------------- */

static void open_or_skip(struct unpu_vk *vk)
{
	uint32_t count;

	assert_int_equal(unpu_vulkan_count(&test_log, &count), 0);
	if (!count) {
		print_message("no Vulkan device: %s\n", said.text);
		skip();
	}
	assert_int_equal(unpu_vk_open(vk, 0, &test_log), 0);
}

static bool all_zero(const struct unpu_vk_buffer *buffer)
{
	for (uint64_t i = 0; i < buffer->size; i++)
		if (buffer->ptr[i])
			return false;
	return true;
}

/* ---- VkResult -------------------------------------------------------------------------------- */

static void results_become_errnos(void **state)
{
	static const struct {
		VkResult result;
		int err;
		const char *name;
	} cases[] = {
		{ VK_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM, "VK_ERROR_OUT_OF_HOST_MEMORY" },
		{ VK_ERROR_OUT_OF_DEVICE_MEMORY, -ENOMEM, "VK_ERROR_OUT_OF_DEVICE_MEMORY" },
		{ VK_ERROR_OUT_OF_POOL_MEMORY, -ENOMEM, "VK_ERROR_OUT_OF_POOL_MEMORY" },
		{ VK_ERROR_TOO_MANY_OBJECTS, -ENOMEM, "VK_ERROR_TOO_MANY_OBJECTS" },
		{ VK_ERROR_INITIALIZATION_FAILED, -EIO, "VK_ERROR_INITIALIZATION_FAILED" },
		{ VK_ERROR_FEATURE_NOT_PRESENT, -EIO, "VK_ERROR_FEATURE_NOT_PRESENT" },
		{ VK_ERROR_UNKNOWN, -EIO, "VK_ERROR_UNKNOWN" },
		{ (VkResult)-1234567, -EIO, "-1234567" },
		{ VK_ERROR_DEVICE_LOST, -ENODEV, "VK_ERROR_DEVICE_LOST" },
	};
	static const VkResult fine[] = { VK_SUCCESS, VK_NOT_READY, VK_TIMEOUT, VK_INCOMPLETE };
	struct unpu_vk vk = { .log = test_log };

	(void)state;
	snprintf(vk.caps.info.name, sizeof(vk.caps.info.name), "Toy GPU");
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		assert_int_equal(unpu_vk_result(&vk, "vkToy", fine[i]), 0);
	assert_int_equal(said.lines, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_false(atomic_load(&vk.lost));
		assert_int_equal(unpu_vk_result(&vk, "vkToy", cases[i].result), cases[i].err);
		assert_said("vkToy");
		assert_said("Toy GPU");
		assert_said(cases[i].name);
		assert_int_equal(said.lines, i + 1);
	}
	assert_true(atomic_load(&vk.lost));
}

/* ---- what a device reports ------------------------------------------------------------------- */

static void read_caps(struct unpu_vk_caps *caps)
{
	static struct unpu_vk_instance vki;

	if (unpu_vk_instance_init(&vki, &test_log)) {
		print_message("no Vulkan device: %s\n", vki.why);
		skip();
	}
	assert_int_equal(unpu_vk_caps_read(&vki, 0, caps), 0);
	assert_int_equal(unpu_vk_caps_read(&vki, vki.num_devices, &(struct unpu_vk_caps){ 0 }),
			 -ENODEV);
	unpu_vk_instance_finish(&vki);
}

/* Of any implementation on which these tests run. */
static void caps_hold_together(void **state)
{
	struct unpu_vk_caps caps;
	struct unpu_vulkan_info info;

	(void)state;
	read_caps(&caps);
	assert_string_equal(caps.info.why, "");
	assert_true(caps.info.name[0] && caps.info.driver[0]);
	assert_true(strlen(caps.info.key) >= 2 * VK_UUID_SIZE);
	assert_true(strlen(caps.info.key) == strspn(caps.info.key, "0123456789abcdef-"));
	assert_in_range(caps.api_version, VK_API_VERSION_1_0, VK_API_VERSION_1_3);
	assert_true(caps.storage_buffers >= 8 && caps.max_invocations >= 256);
	assert_true(caps.shared_bytes >= 16384 && caps.push_bytes >= UNPU_VK_PUSH_BYTES);
	assert_true(caps.max_range >= 32 * MIB && caps.info.heap_bytes && caps.max_alloc);
	assert_in_range(caps.buffer_align, 1, 256);
	assert_true(!caps.subgroup_add || caps.subgroup_size);
	assert_true(caps.dot || (!caps.dot_signed && !caps.dot_mixed));
	assert_int_equal(unpu_vulkan_describe(0, &test_log, &info), 0);
	assert_memory_equal(&info, &caps.info, sizeof(info));
}

static void profiles_clamp(void **state)
{
	static const char *const names[] = { "v3d42", "v3d71", "mali-g31", "adreno6xx-low" };
	struct unpu_vk_caps real, caps;
	struct unpu_vk vk;

	(void)state;
	read_caps(&real);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		setenv("UNPU_VK_LIMITS", names[i], 1);
		read_caps(&caps);
		assert_string_equal(caps.info.why, "");
		assert_int_equal(caps.info.type, UNPU_VULKAN_INTEGRATED);
		assert_false(caps.subgroup_add || caps.f16 || caps.dot);
		assert_true(caps.max_range <= real.max_range);
		assert_true(caps.shared_bytes <= real.shared_bytes);
		assert_string_not_equal(caps.info.key, real.info.key);
		assert_int_equal(unpu_vk_open(&vk, 0, &test_log), 0);
		assert_true(vk.caps.storage_buffers <= real.storage_buffers);
		unpu_vk_close(&vk);
	}
	setenv("UNPU_VK_LIMITS", "v3d42", 1);
	read_caps(&caps);
	assert_int_equal(caps.storage_buffers, 8);
	assert_int_equal(caps.max_invocations, 256);
	assert_int_equal(caps.shared_bytes, 16384);
	setenv("UNPU_VK_LIMITS", "mali-g31", 1);
	read_caps(&caps);
	assert_int_equal(caps.api_version, VK_API_VERSION_1_0);
	assert_int_equal(caps.subgroup_size, 0);
	assert_int_equal(said.errors, 0);
}

static void disguises(void **state)
{
	struct unpu_vk_caps caps;

	(void)state;
	setenv("UNPU_VK_RANGE", "65536", 1);
	setenv("UNPU_VK_TYPE", "integrated", 1);
	read_caps(&caps);
	assert_int_equal(caps.max_range, 65536);
	assert_int_equal(caps.info.type, UNPU_VULKAN_INTEGRATED);
	assert_string_equal(caps.info.why, "");
	setenv("UNPU_VK_TYPE", "discrete", 1);
	read_caps(&caps);
	assert_int_equal(caps.info.type, UNPU_VULKAN_DISCRETE);
	assert_false(caps.unified);
}

/* ---- devices that are too small: a driver of our own, which is all numbers ------------------- */

static VkPhysicalDeviceProperties toy_properties;
static VkMemoryPropertyFlags toy_memory;
static VkQueueFlags toy_queue;

static VKAPI_ATTR void VKAPI_CALL toy_get_properties(VkPhysicalDevice physical,
						     VkPhysicalDeviceProperties *p)
{
	(void)physical;
	*p = toy_properties;
}

static VKAPI_ATTR void VKAPI_CALL toy_get_memory(VkPhysicalDevice physical,
						 VkPhysicalDeviceMemoryProperties *m)
{
	(void)physical;
	*m = (VkPhysicalDeviceMemoryProperties){
		.memoryHeapCount = 2,
		.memoryHeaps = { { .size = 16ull << 30 },
				 { .size = 1ull << 30,
				   .flags = VK_MEMORY_HEAP_DEVICE_LOCAL_BIT } },
		.memoryTypeCount = 1,
		.memoryTypes = { { .propertyFlags = toy_memory, .heapIndex = 1 } },
	};
}

static VKAPI_ATTR void VKAPI_CALL toy_get_queues(VkPhysicalDevice physical, uint32_t *count,
						 VkQueueFamilyProperties *families)
{
	(void)physical;
	memset(families, 0, 2 * sizeof(*families));
	families[0].queueCount = families[1].queueCount = 1;
	families[0].queueFlags = VK_QUEUE_GRAPHICS_BIT | toy_queue;
	families[1].queueFlags = toy_queue;
	*count = 2;
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_get_extensions(VkPhysicalDevice physical,
							 const char *layer, uint32_t *count,
							 VkExtensionProperties *list)
{
	(void)physical, (void)layer, (void)list;
	*count = 0;
	return VK_SUCCESS;
}

/* The least of everything that unpu takes. */
static void toy_caps(struct unpu_vk_caps *caps)
{
	struct unpu_vk_instance vki = {
		.api_version = VK_API_VERSION_1_0,
		.GetPhysicalDeviceProperties = toy_get_properties,
		.GetPhysicalDeviceMemoryProperties = toy_get_memory,
		.GetPhysicalDeviceQueueFamilyProperties = toy_get_queues,
		.EnumerateDeviceExtensionProperties = toy_get_extensions,
		.num_devices = 1,
	};

	assert_int_equal(unpu_vk_caps_read(&vki, 0, caps), 0);
}

static void toy_reset(void)
{
	VkPhysicalDeviceLimits *l = &toy_properties.limits;

	memset(&toy_properties, 0, sizeof(toy_properties));
	toy_properties.apiVersion = VK_API_VERSION_1_3;
	toy_properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
	/* No end: a name is what fits. */
	memset(toy_properties.deviceName, 'n', sizeof(toy_properties.deviceName));
	memset(toy_properties.pipelineCacheUUID, 0xfe, VK_UUID_SIZE);
	l->maxPerStageDescriptorStorageBuffers = l->maxDescriptorSetStorageBuffers = 8;
	l->maxComputeWorkGroupInvocations = l->maxComputeWorkGroupSize[0] = 256;
	l->maxComputeSharedMemorySize = 16384;
	l->maxStorageBufferRange = 1u << 25;
	l->maxPushConstantsSize = 128;
	l->minStorageBufferOffsetAlignment = 256;
	l->nonCoherentAtomSize = 256;
	toy_memory = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
		     VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
	toy_queue = VK_QUEUE_COMPUTE_BIT;
}

static void refused(const char *why)
{
	struct unpu_vk_caps caps;

	toy_caps(&caps);
	if (!strstr(caps.info.why, why)) {
		print_error("'%s' is not in '%s'\n", why, caps.info.why);
		fail();
	}
	toy_reset();
}

static void small_devices_are_refused(void **state)
{
	VkPhysicalDeviceLimits *l = &toy_properties.limits;
	struct unpu_vk_caps caps;

	(void)state;
	toy_reset();
	toy_caps(&caps);
	assert_string_equal(caps.info.why, "");
	assert_int_equal(strlen(caps.info.name), sizeof(caps.info.name) - 1);
	assert_int_equal(caps.api_version, VK_API_VERSION_1_0);
	assert_int_equal(caps.queue_family, 1);
	assert_int_equal(caps.info.heap_bytes, 1ull << 30);
	assert_true(caps.unified);

	l->maxPerStageDescriptorStorageBuffers = 7;
	refused("storage buffers per shader: 7, unpu needs 8");
	l->maxDescriptorSetStorageBuffers = 4;
	refused("storage buffers per shader: 4");
	l->maxComputeWorkGroupInvocations = 128;
	refused("invocations of a work-group: 128");
	l->maxComputeWorkGroupSize[0] = 64;
	refused("invocations of a work-group: 64");
	l->maxComputeSharedMemorySize = 8192;
	refused("shared memory: 8192");
	l->maxStorageBufferRange = (1u << 25) - 1;
	refused("range: 33554431");
	l->maxPushConstantsSize = 16;
	refused("push constants: 16");
	l->minStorageBufferOffsetAlignment = 512;
	refused("more than 256");
	l->minStorageBufferOffsetAlignment = 1ull << 32;
	refused("more than 256");
	toy_queue = VK_QUEUE_TRANSFER_BIT;
	refused("no queue that computes");
}

static void unified_is_judged_by_memory_and_type(void **state)
{
	struct unpu_vk_caps caps;

	(void)state;
	toy_reset();
	toy_memory = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
	toy_caps(&caps);
	assert_false(caps.unified);
	toy_reset();
	toy_properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
	toy_caps(&caps);
	assert_false(caps.unified);
	assert_int_equal(caps.info.type, UNPU_VULKAN_DISCRETE);
}

/* A driver that is a little different is another one to the caches. */
static void the_key_knows_drivers_apart(void **state)
{
	struct unpu_vk_caps a, b;

	(void)state;
	toy_reset();
	toy_caps(&a);
	toy_caps(&b);
	assert_string_equal(a.info.key, b.info.key);
	toy_properties.driverVersion++;
	toy_caps(&b);
	assert_string_not_equal(a.info.key, b.info.key);
	toy_reset();
	toy_properties.pipelineCacheUUID[15] ^= 1;
	toy_caps(&b);
	assert_string_not_equal(a.info.key, b.info.key);
	toy_reset();
	toy_properties.deviceID++;
	toy_caps(&b);
	assert_string_not_equal(a.info.key, b.info.key);
	toy_reset();
	toy_properties.deviceName[0] = 'N';	/* lavapipe names its compiler there */
	toy_caps(&b);
	assert_string_not_equal(a.info.key, b.info.key);
}

/* ---- loaders that are broken: one sentence, no device, no crash ------------------------------ */

static char folder[] = "/tmp/unpu-vulkan-XXXXXX";

static const char *in_folder(const char *name, const char *text)
{
	static char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (text) {
		file = fopen(path, "w");
		assert_non_null(file);
		assert_true(fputs(text, file) >= 0);
		assert_int_equal(fclose(file), 0);
	}
	return path;
}

/* In the child: what a machine of this environment says. Its exit status is what was wrong. */
static int look(void)
{
	struct unpu_vulkan_info info;
	uint32_t count = 77;
	struct unpu_vk vk;

	if (unpu_vulkan_count(&test_log, &count) || count)
		return 1;
	if (said.lines != 1 || said.errors || !said.text[0])
		return 2;
	said.lines = 0;
	if (unpu_vk_open(&vk, 0, &test_log) != -ENODEV)
		return 3;
	if (said.lines != 1 || said.errors != 1 || !strstr(said.text, "vulkan:0"))
		return 4;
	unpu_vk_close(&vk);
	if (unpu_vulkan_describe(0, &test_log, &info) != -ENODEV)
		return 5;
	return 0;
}

/* The loader looks at its environment once, so each of these is a process. */
static void nothing_with(const char *name, const char *value)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		unsetenv("VK_DRIVER_FILES");	/* newer loaders look at it first */
		setenv(name, value, 1);
		/* A loader may have its say on stderr; here it would be noise. */
		if (dup2(open("/dev/null", O_WRONLY), 2) < 0)
			_exit(99);
		_exit(look());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		print_error("%s=%s: status %#x\n", name, value, status);
		fail();
	}
}

static void broken_drivers(void **state)
{
	(void)state;
	nothing_with("VK_ICD_FILENAMES", "/nowhere/icd.json");
	nothing_with("VK_ICD_FILENAMES", in_folder("not.json", "this is not json"));
	nothing_with("VK_ICD_FILENAMES", in_folder("empty.json", ""));
	nothing_with("VK_ICD_FILENAMES", in_folder("gone.json",
		"{ \"file_format_version\": \"1.0.0\", \"ICD\": { \"library_path\": "
		"\"/nowhere/lib.so\", \"api_version\": \"1.0.0\" } }"));
	nothing_with("VK_ICD_FILENAMES", in_folder("libc.json",
		"{ \"file_format_version\": \"1.0.0\", \"ICD\": { \"library_path\": "
		"\"libc.so.6\", \"api_version\": \"1.0.0\" } }"));
}

/* A loader of our own: dlopen() and its like are wrapped by the linker, in this program alone. */
static struct toy {
	bool on, absent;
	const char *lacks;		/* an entry point */
	uint32_t version;		/* 0: of 1.0, which does not tell */
	uint32_t devices;
	VkResult instance, enumerate, device;
	uint32_t asked;			/* the version that the instance was created with */
	int open;			/* libraries, instances and devices */
} toy;

void *__real_dlopen(const char *name, int flags);
void *__real_dlsym(void *library, const char *name);
int __real_dlclose(void *library);
void *__wrap_dlopen(const char *name, int flags);
void *__wrap_dlsym(void *library, const char *name);
int __wrap_dlclose(void *library);

static VKAPI_ATTR void VKAPI_CALL toy_anything(void)
{
	fail_msg("an entry point that is not for this test");
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_version(uint32_t *version)
{
	*version = toy.version;
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_no_extensions(const char *layer, uint32_t *count,
							VkExtensionProperties *list)
{
	(void)layer, (void)list;
	*count = 0;
	return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_create_instance(const VkInstanceCreateInfo *info,
							  const VkAllocationCallbacks *allocator,
							  VkInstance *instance)
{
	(void)allocator;
	assert_int_equal(info->enabledLayerCount, 0);
	assert_int_equal(info->enabledExtensionCount, 0);
	toy.asked = info->pApplicationInfo->apiVersion;
	if (!toy.version && toy.asked != VK_API_VERSION_1_0)
		return VK_ERROR_INCOMPATIBLE_DRIVER;
	if (toy.instance)
		return toy.instance;
	toy.open++;
	*instance = (VkInstance)&toy;
	return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL toy_destroy_instance(VkInstance instance,
						       const VkAllocationCallbacks *allocator)
{
	(void)allocator;
	assert_ptr_equal(instance, &toy);
	toy.open--;
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_devices(VkInstance instance, uint32_t *count,
						  VkPhysicalDevice *devices)
{
	uint32_t room = *count;

	(void)instance;
	if (toy.enumerate)
		return toy.enumerate;
	*count = toy.devices < room ? toy.devices : room;
	for (uint32_t i = 0; i < *count; i++)
		devices[i] = (VkPhysicalDevice)&toy;
	return toy.devices > room ? VK_INCOMPLETE : VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL toy_create_device(VkPhysicalDevice physical,
							const VkDeviceCreateInfo *info,
							const VkAllocationCallbacks *allocator,
							VkDevice *device)
{
	(void)physical, (void)allocator;
	/* No feature that the baseline does not use. */
	assert_null(info->pNext);
	assert_null(info->pEnabledFeatures);
	assert_int_equal(info->enabledExtensionCount, 0);
	assert_int_equal(info->queueCreateInfoCount, 1);
	if (toy.device)
		return toy.device;
	toy.open++;
	*device = (VkDevice)&toy;
	return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL toy_destroy_device(VkDevice device,
						     const VkAllocationCallbacks *allocator)
{
	(void)allocator;
	assert_ptr_equal(device, &toy);
	toy.open--;
}

static VKAPI_ATTR void VKAPI_CALL toy_queue_of(VkDevice device, uint32_t family, uint32_t index,
					       VkQueue *queue)
{
	(void)device;
	assert_int_equal(family, 1);
	assert_int_equal(index, 0);
	*queue = (VkQueue)&toy;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL toy_device_proc(VkDevice device, const char *name)
{
	(void)device;
	if (toy.lacks && !strcmp(name, toy.lacks))
		return NULL;
	if (!strcmp(name, "vkDestroyDevice"))
		return (PFN_vkVoidFunction)toy_destroy_device;
	if (!strcmp(name, "vkGetDeviceQueue"))
		return (PFN_vkVoidFunction)toy_queue_of;
	return (PFN_vkVoidFunction)toy_anything;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL toy_proc(VkInstance instance, const char *name)
{
#define TOY(__name, __function) { "vk" __name, (PFN_vkVoidFunction)(__function) }
	static const struct {
		const char *name;
		PFN_vkVoidFunction function;
	} table[] = {
		TOY("EnumerateInstanceVersion", toy_version),
		TOY("EnumerateInstanceExtensionProperties", toy_no_extensions),
		TOY("CreateInstance", toy_create_instance),
		TOY("DestroyInstance", toy_destroy_instance),
		TOY("EnumeratePhysicalDevices", toy_devices),
		TOY("GetPhysicalDeviceProperties", toy_get_properties),
		TOY("GetPhysicalDeviceMemoryProperties", toy_get_memory),
		TOY("GetPhysicalDeviceQueueFamilyProperties", toy_get_queues),
		TOY("EnumerateDeviceExtensionProperties", toy_get_extensions),
		TOY("GetPhysicalDeviceFeatures", toy_anything),
		TOY("CreateDevice", toy_create_device),
		TOY("GetDeviceProcAddr", toy_device_proc),
	};

	(void)instance;
	if ((toy.lacks && !strcmp(name, toy.lacks)) ||
	    (!toy.version && !strcmp(name, "vkEnumerateInstanceVersion")))
		return NULL;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcmp(table[i].name, name))
			return table[i].function;
	return NULL;
}

void *__wrap_dlopen(const char *name, int flags)
{
	if (!toy.on)
		return __real_dlopen(name, flags);
	if (toy.absent)
		return NULL;
	toy.open++;
	return &toy;
}

void *__wrap_dlsym(void *library, const char *name)
{
	PFN_vkGetInstanceProcAddr function = toy_proc;
	void *address;

	if (library != &toy)
		return __real_dlsym(library, name);
	assert_string_equal(name, "vkGetInstanceProcAddr");
	if (toy.lacks && !strcmp(name, toy.lacks))
		return NULL;
	memcpy(&address, &function, sizeof(address));
	return address;
}

int __wrap_dlclose(void *library)
{
	if (library != &toy)
		return __real_dlclose(library);
	toy.open--;
	return 0;
}

static void toy_on(void)
{
	toy = (struct toy){ .on = true, .devices = 1 };
	toy_reset();
	memset(&said, 0, sizeof(said));
}

static int toy_off(void **state)
{
	(void)state;
	toy.on = false;
	return 0;
}

/* 0 with the sentences that there are, one from count and one from open. */
static void nothing_in_toy(const char *sentence)
{
	uint32_t count = 77;
	struct unpu_vk vk;

	assert_int_equal(unpu_vulkan_count(&test_log, &count), 0);
	assert_int_equal(count, 0);
	assert_said(sentence);
	assert_int_equal(said.lines, 1);
	assert_int_equal(said.errors, 0);
	assert_int_equal(unpu_vk_open(&vk, 0, &test_log), -ENODEV);
	assert_said(sentence);
	assert_int_equal(said.errors, 1);
	unpu_vk_close(&vk);
	assert_int_equal(toy.open, 0);
}

static void broken_loaders(void **state)
{
	static const char *const needed[] = {
		"vkGetInstanceProcAddr", "vkCreateInstance", "vkEnumeratePhysicalDevices",
		"vkDestroyInstance", "vkGetDeviceProcAddr",
	};

	(void)state;
	toy_on();
	toy.absent = true;
	nothing_in_toy("no Vulkan loader");
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		toy_on();
		toy.lacks = needed[i];
		if (!strcmp(needed[i], "vkDestroyInstance"))
			toy.open = -2;	/* nothing destroys the two instances */
		nothing_in_toy(needed[i]);
	}
	toy_on();
	toy.instance = VK_ERROR_INCOMPATIBLE_DRIVER;
	nothing_in_toy("no Vulkan driver");
	toy_on();
	toy.instance = VK_ERROR_INITIALIZATION_FAILED;
	nothing_in_toy("vkCreateInstance failed");
	toy_on();
	toy.enumerate = VK_ERROR_INITIALIZATION_FAILED;
	nothing_in_toy("vkEnumeratePhysicalDevices failed");
	toy_on();
	toy.devices = 0;
	nothing_in_toy("knows no device");
}

static void old_and_new_loaders(void **state)
{
	static const struct {
		uint32_t version, asked;
	} cases[] = {
		{ 0, VK_API_VERSION_1_0 },
		{ VK_API_VERSION_1_0, VK_API_VERSION_1_0 },
		{ VK_MAKE_API_VERSION(0, 1, 1, 70), VK_API_VERSION_1_1 },
		{ VK_MAKE_API_VERSION(0, 1, 3, 239), VK_API_VERSION_1_3 },
		{ VK_MAKE_API_VERSION(0, 1, 4, 1), VK_API_VERSION_1_3 },
	};
	struct unpu_vk vk;
	uint32_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		toy_on();
		toy_properties.apiVersion = VK_API_VERSION_1_0;
		toy.version = cases[i].version;
		assert_int_equal(unpu_vk_open(&vk, 0, &test_log), 0);
		assert_int_equal(toy.asked, cases[i].asked);
		assert_int_equal(vk.caps.api_version, VK_API_VERSION_1_0);
		assert_false(vk.caps.subgroup_add || vk.caps.f16 || vk.caps.dot);
		unpu_vk_close(&vk);
		unpu_vk_close(&vk);
		assert_int_equal(toy.open, 0);
	}
	toy_on();
	toy.devices = 3 * UNPU_VULKAN_MAX_DEVICES;
	assert_int_equal(unpu_vulkan_count(&test_log, &count), 0);
	assert_int_equal(count, UNPU_VULKAN_MAX_DEVICES);
	assert_int_equal(said.lines, 0);
}

static void devices_that_do_not_open(void **state)
{
	struct unpu_vk vk;

	(void)state;
	toy_on();
	toy.device = VK_ERROR_INITIALIZATION_FAILED;
	assert_int_equal(unpu_vk_open(&vk, 0, &test_log), -EIO);
	assert_said("vkCreateDevice failed");
	assert_int_equal(toy.open, 0);
	toy_on();
	toy.device = VK_ERROR_OUT_OF_DEVICE_MEMORY;
	assert_int_equal(unpu_vk_open(&vk, 0, &test_log), -ENOMEM);
	assert_int_equal(toy.open, 0);
	toy_on();
	toy.lacks = "vkCmdDispatch";
	assert_int_equal(unpu_vk_open(&vk, 0, &test_log), -EIO);
	assert_said("has no vkCmdDispatch");
	assert_int_equal(toy.open, 0);
	toy_on();
	toy_properties.limits.maxComputeSharedMemorySize = 8192;
	assert_int_equal(unpu_vk_open(&vk, 0, &test_log), -ENOTSUP);
	assert_said("shared memory: 8192");
	assert_int_equal(said.lines, 1);
	assert_int_equal(toy.open, 0);
}

static void no_such_device(void **state)
{
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	unpu_vk_close(&vk);
	assert_int_equal(unpu_vk_open(&vk, 4000, &test_log), -ENODEV);
	assert_said("vulkan:4000");
	unpu_vk_close(&vk);
}

/* ---- modules --------------------------------------------------------------------------------- */

/* Whole instructions from the header to the end: a word that came out wrong moves all of them. */
static bool is_spirv(const uint32_t *words, uint32_t num)
{
	uint32_t at = 5;

	if (num < 5 || words[0] != 0x07230203 || words[4])
		return false;
	while (at < num && words[at] >> 16)
		at += words[at] >> 16;
	return at == num;
}

static void modules_are_whole(void **state)
{
	uint64_t packed = 0, bytes = 0;

	(void)state;
	assert_true(unpu_vk_num_modules > 0);
	for (uint32_t i = 0; i < unpu_vk_num_modules; i++) {
		const struct unpu_vk_module *m = &unpu_vk_modules[i];
		uint32_t *words;

		assert_true(m->kind < UNPU_SHADER_COUNT && m->math < UNPU_VK_MATHS);
		assert_true(!m->tokens || m->tokens == 1 || m->tokens == UNPU_VK_TOKENS);
		for (uint32_t k = 0; k < i; k++)
			assert_true(unpu_vk_modules[k].kind != m->kind ||
				    unpu_vk_modules[k].math != m->math ||
				    unpu_vk_modules[k].tokens != m->tokens);
		assert_int_equal(unpu_vk_module_read(m, &words), 0);
		assert_true(is_spirv(words, m->bytes / 4));
		free(words);
		bytes += m->bytes;
		packed += m->begin ? 0 : m->packed_bytes;
	}
	print_message("%u modules: %llu bytes, %llu packed\n", unpu_vk_num_modules,
		      (unsigned long long)bytes, (unsigned long long)packed);
}

static int read_bytes(const uint8_t *packed, uint32_t size, uint32_t words, uint32_t *out)
{
	const struct unpu_vk_module m = { .bytes = words * 4, .packed_bytes = size,
					  .packed = packed };
	uint32_t *read;
	int err = unpu_vk_module_read(&m, &read);

	if (!err)
		memcpy(out, read, words * 4);
	free(read);
	return err;
}

static void streams_are_read_as_written(void **state)
{
	static const uint8_t good[] = { 2, 5, 0x80, 0x01, 5, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f };
	static const uint32_t said_so[] = { 5, 128, 128, 128, 128, 128, UINT32_MAX };
	static const uint8_t too_far[] = { 0, 1, 1, 2 }, nowhere[] = { 0, 1, 1, 0 };
	uint32_t words[8];

	(void)state;
	assert_int_equal(read_bytes(good, sizeof(good), 7, words), 0);
	assert_memory_equal(words, said_so, sizeof(said_so));
	assert_int_equal(read_bytes(good, sizeof(good), 4, words), 0);
	assert_memory_equal(words, said_so, 16);
	assert_int_equal(read_bytes(good, sizeof(good), 8, words), -EIO);
	assert_int_equal(read_bytes(good, sizeof(good) - 1, 7, words), -EIO);
	assert_int_equal(read_bytes(too_far, sizeof(too_far), 3, words), -EIO);
	assert_int_equal(read_bytes(nowhere, sizeof(nowhere), 3, words), -EIO);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void check_buffer(const struct unpu_vk *vk, const struct unpu_vk_buffer *b, uint64_t size)
{
	assert_true(b->handle != VK_NULL_HANDLE);
	assert_int_equal(b->size, size);
	assert_int_equal(b->offset % vk->caps.buffer_align, 0);
	assert_true(!b->ptr || (uintptr_t)b->ptr % 64 == 0);
}

/* What comes back is reused, by others and dirty, and is zeros again. */
static void buffers_share_blocks_and_are_zero(void **state)
{
	enum { COUNT = 64 };
	struct unpu_vk_buffer b[COUNT];
	uint64_t allocations, size;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			size = 1 + (i * 7919u + (uint32_t)round * 131) % 20000;
			assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, size, &b[i]),
					 0);
			check_buffer(&vk, &b[i], size);
			assert_non_null(b[i].ptr);
			assert_true(all_zero(&b[i]));
			memset(b[i].ptr, 0xa5, size);
		}
		for (uint32_t i = 0; i < COUNT; i++)
			for (uint64_t k = 0; k < b[i].size; k++)
				assert_int_equal(b[i].ptr[k], 0xa5);
		/* The first one stays and keeps the block. */
		for (uint32_t i = 1; i < COUNT; i++)
			unpu_vk_buffer_destroy(&vk, &b[i * 29 % COUNT]);
		unpu_vk_buffer_destroy(&vk, &b[0]);
		assert_null(vk.blocks);
	}
	allocations = vk.counters.allocations;
	assert_int_equal(allocations, 3);
	assert_int_equal(said.errors, 0);
	unpu_vk_close(&vk);
}

static void assert_apart(const struct unpu_vk_buffer *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < i; k++)
			if (b[i].handle && b[k].handle && b[i].block == b[k].block)
				assert_true(b[i].offset + b[i].size <= b[k].offset ||
					    b[k].offset + b[k].size <= b[i].offset);
}

static void random_order(void **state)
{
	enum { COUNT = 24, STEPS = 400 };
	struct unpu_vk_buffer b[COUNT] = { 0 };
	uint32_t seed = 12345;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	for (uint32_t step = 0; step < STEPS; step++) {
		struct unpu_vk_buffer *one;

		seed = seed * 1664525 + 1013904223;
		one = &b[(seed >> 8) % COUNT];
		if (one->handle) {
			unpu_vk_buffer_destroy(&vk, one);
			continue;
		}
		assert_int_equal(unpu_vk_buffer_create(&vk, seed >> 30 & 1,
						       1 + (seed >> 4) % 70000, one), 0);
		assert_true(!one->ptr || all_zero(one));
		assert_apart(b, COUNT);
	}
	for (uint32_t i = 0; i < COUNT; i++)
		unpu_vk_buffer_destroy(&vk, &b[i]);
	assert_null(vk.blocks);
	unpu_vk_buffer_destroy(&vk, &b[0]);
	unpu_vk_buffer_destroy(&vk, NULL);
	unpu_vk_close(&vk);
}

static void gaps_are_filled(void **state)
{
	struct unpu_vk_buffer a, b, c, d;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 4096, &a), 0);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 8192, &b), 0);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 4096, &c), 0);
	assert_ptr_equal(a.block, c.block);
	unpu_vk_buffer_destroy(&vk, &b);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 16384, &d), 0);
	assert_true(d.offset > c.offset);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 8192, &b), 0);
	assert_true(b.offset > a.offset && b.offset < c.offset);
	/* Larger than a block: a block of its own. */
	unpu_vk_buffer_destroy(&vk, &d);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 80 * MIB, &d), 0);
	assert_ptr_not_equal(d.block, a.block);
	assert_int_equal(d.offset, 0);
	unpu_vk_buffer_destroy(&vk, &d);
	assert_int_equal(vk.counters.allocations, 2);
	/* What is left goes with the device. */
	unpu_vk_memory_finish(&vk);
	vk.fn.DestroyBuffer(vk.device, a.handle, NULL);
	vk.fn.DestroyBuffer(vk.device, b.handle, NULL);
	vk.fn.DestroyBuffer(vk.device, c.handle, NULL);
	unpu_vk_close(&vk);
}

static void copy(struct unpu_vk *vk, const struct unpu_vk_buffer *from,
		 const struct unpu_vk_buffer *to);

/* On a card the host sees the window alone, and what it does not see is zero all the same. */
static void memory_of_its_own(void **state)
{
	struct unpu_vk_buffer own, window;
	struct unpu_vk vk;

	(void)state;
	setenv("UNPU_VK_TYPE", "discrete", 1);
	open_or_skip(&vk);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, 40001, &window), 0);
	memset(window.ptr, 0x5a, window.size);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 40001, &own), 0);
	assert_null(own.ptr);
	assert_ptr_not_equal(own.block, window.block);
	copy(&vk, &window, &own);
	/* The same memory again. */
	unpu_vk_buffer_destroy(&vk, &own);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 40001, &own), 0);
	copy(&vk, &own, &window);
	assert_true(all_zero(&window));
	unpu_vk_buffer_destroy(&vk, &own);
	unpu_vk_buffer_destroy(&vk, &window);
	unpu_vk_close(&vk);
}

/* With an entry point that the engine has no use for. */
static void copy(struct unpu_vk *vk, const struct unpu_vk_buffer *from,
		 const struct unpu_vk_buffer *to)
{
	PFN_vkCmdCopyBuffer cmd_copy = (PFN_vkCmdCopyBuffer)
		vk->instance.GetDeviceProcAddr(vk->device, "vkCmdCopyBuffer");
	const VkCommandPoolCreateInfo pool_info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.queueFamilyIndex = vk->caps.queue_family,
	};
	VkCommandBufferAllocateInfo allocate = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandBufferCount = 1,
	};
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT |
				 VK_ACCESS_TRANSFER_WRITE_BIT,
	};
	const VkBufferCopy region = { .size = from->size };
	VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1 };
	VkCommandBuffer commands;
	VkCommandPool pool;

	assert_non_null(cmd_copy);
	assert_int_equal(VK(vk, CreateCommandPool, vk->device, &pool_info, NULL, &pool), 0);
	allocate.commandPool = pool;
	assert_int_equal(VK(vk, AllocateCommandBuffers, vk->device, &allocate, &commands), 0);
	assert_int_equal(VK(vk, BeginCommandBuffer, commands, &begin), 0);
	cmd_copy(commands, from->handle, to->handle, 1, &region);
	vk->fn.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
				  VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
				  0, 1, &barrier, 0, NULL, 0, NULL);
	assert_int_equal(VK(vk, EndCommandBuffer, commands), 0);
	submit.pCommandBuffers = &commands;
	assert_int_equal(unpu_vk_queue_submit(vk, &submit, VK_NULL_HANDLE), VK_SUCCESS);
	assert_int_equal(VK(vk, DeviceWaitIdle, vk->device), 0);
	vk->fn.DestroyCommandPool(vk->device, pool, NULL);
}

static void too_much_is_refused_with_sizes(void **state)
{
	struct unpu_vk_buffer b;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 1ull << 50, &b), -ENOMEM);
	assert_said("1073741824.0 MiB");
	assert_null(b.ptr);
	assert_true(b.handle == VK_NULL_HANDLE);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, UINT64_MAX, &b), -ENOMEM);
	assert_int_equal(said.errors, 2);
	assert_null(vk.blocks);
	assert_false(atomic_load(&vk.lost));
	unpu_vk_close(&vk);
}

/* Where 64 MiB are not to be had, what is asked for may be. */
static void allocations_that_fail(void **state)
{
	struct unpu_vk_buffer a, b;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	setenv("UNPU_FAULT", "vulkan:oom-alloc@1", 1);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, 5000, &a), 0);
	assert_int_equal(vk.counters.allocations, 2);
	assert_int_equal(said.errors, 0);
	/* The next one does not fit, and is a large one, which has no smaller form. */
	setenv("UNPU_FAULT", "vulkan:oom-alloc@3", 1);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, 100 * MIB, &b), -ENOMEM);
	assert_int_equal(said.errors, 1);
	assert_said("100.0 MiB");
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, 100 * MIB, &b), 0);
	unpu_vk_buffer_destroy(&vk, &b);
	unpu_vk_buffer_destroy(&vk, &a);
	assert_null(vk.blocks);
	unpu_vk_close(&vk);
}

/* Of a leak sanitizer, where there is one. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

/* Nothing of a lost device is given back, but all of ours is. */
static void a_lost_device_is_left_alone(void **state)
{
	struct unpu_vk_buffer a, b;
	struct unpu_vk vk;

	(void)state;
	open_or_skip(&vk);
	if (__lsan_disable)
		__lsan_disable();
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_WINDOW, 5000, &a), 0);
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 80 * MIB, &b), 0);
	if (__lsan_enable)
		__lsan_enable();
	assert_int_equal(unpu_vk_result(&vk, "vkToy", VK_ERROR_DEVICE_LOST), -ENODEV);
	memset(a.ptr, 1, a.size);
	vk.fn.FreeMemory = NULL;	/* a call would be the end */
	vk.fn.DestroyBuffer = NULL;
	vk.fn.DestroyDevice = NULL;
	vk.instance.DestroyInstance = NULL;
	unpu_vk_buffer_destroy(&vk, &b);
	unpu_vk_buffer_destroy(&vk, &a);
	assert_null(vk.blocks);
	unpu_vk_close(&vk);
}

static VkResult VKAPI_PTR no_memory_to_wait(VkDevice device, uint32_t count, const VkFence *fences,
					    VkBool32 all, uint64_t timeout)
{
	(void)device;
	(void)count;
	(void)fences;
	(void)all;
	(void)timeout;
	return VK_ERROR_OUT_OF_HOST_MEMORY;
}

/* What was submitted may still run, so nothing that it uses is freed. */
static void a_wait_that_fails(void **state)
{
	struct unpu_vk_buffer b;
	struct unpu_vk vk;

	(void)state;
	setenv("UNPU_VK_TYPE", "discrete", 1);
	open_or_skip(&vk);
	vk.fn.WaitForFences = no_memory_to_wait;
	vk.fn.FreeMemory = NULL;
	vk.fn.DestroyBuffer = NULL;
	if (__lsan_disable)
		__lsan_disable();
	assert_int_equal(unpu_vk_buffer_create(&vk, UNPU_VK_DEVICE, 5000, &b), -ENODEV);
	if (__lsan_enable)
		__lsan_enable();
	assert_non_null(strstr(said.text, "vkWaitForFences"));
	assert_true(atomic_load(&vk.lost));
	unpu_vk_close(&vk);
	unsetenv("UNPU_VK_TYPE");
}

/* ---- hooks ----------------------------------------------------------------------------------- */

static void faults_come_when_told(void **state)
{
	static const struct {
		const char *name;
		enum unpu_vk_fault fault;
	} cases[] = {
		{ "vulkan:lost@3", UNPU_VK_FAULT_LOST }, { "vulkan:hang@3", UNPU_VK_FAULT_HANG },
		{ "vulkan:oom@3", UNPU_VK_FAULT_OOM },
		{ "vulkan:corrupt@3", UNPU_VK_FAULT_CORRUPT },
		{ "vulkan:oom-alloc@3", UNPU_VK_FAULT_NONE }, { "cpu:lost@3", UNPU_VK_FAULT_NONE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setenv("UNPU_FAULT", cases[i].name, 1);
		for (uint64_t n = 1; n < 6; n++)
			assert_int_equal(unpu_vk_hook_submit(n),
					 n == 3 ? cases[i].fault : UNPU_VK_FAULT_NONE);
		assert_int_equal(unpu_vk_hook_allocate(3), i == 4);
	}
}

/* 1: ended by abort(). */
static int aborts(const char *name, const char *value)
{
	struct unpu_vk_caps caps = { 0 };
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (dup2(open("/dev/null", O_WRONLY), 2) < 0)
			_exit(99);
		/* cmocka would make a failed test of it. */
		signal(SIGABRT, SIG_DFL);
		setenv(name, value, 1);
		unpu_vk_hook_caps(&caps);
		unpu_vk_hook_range(&caps);
		unpu_vk_hook_submit(1);
		unpu_vk_hook_probe();
		/* Faults are not for a probe. */
		_exit(unpu_vk_hook_submit(1) != UNPU_VK_FAULT_NONE);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(!WIFEXITED(status) || !WEXITSTATUS(status));
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void probes_and_typing_errors_abort(void **state)
{
	(void)state;
	assert_int_equal(aborts("UNPU_FAULT", "vulkan:crash-in-probe"), 1);
	assert_int_equal(aborts("UNPU_FAULT", "vulkan:lost@1"), 0);
	assert_int_equal(aborts("UNPU_FAULT", "vulkan:lots@1"), 1);
	assert_int_equal(aborts("UNPU_FAULT", "vulkan:lost@"), 1);
	assert_int_equal(aborts("UNPU_FAULT", "vulkan:lost@1x"), 1);
	assert_int_equal(aborts("UNPU_VK_LIMITS", "v3d99"), 1);
	assert_int_equal(aborts("UNPU_VK_LIMITS", "v3d71"), 0);
	assert_int_equal(aborts("UNPU_VK_TYPE", "toaster"), 1);
	assert_int_equal(aborts("UNPU_VK_RANGE", "many"), 1);
}

int main(void)
{
#define TEST(__name) cmocka_unit_test_setup(__name, set_up)
#define TOY_TEST(__name) cmocka_unit_test_setup_teardown(__name, set_up, toy_off)
	const struct CMUnitTest tests[] = {
		TEST(results_become_errnos),
		TEST(caps_hold_together),
		TEST(profiles_clamp),
		TEST(disguises),
		TEST(small_devices_are_refused),
		TEST(unified_is_judged_by_memory_and_type),
		TEST(the_key_knows_drivers_apart),
		TEST(broken_drivers),
		TOY_TEST(broken_loaders),
		TOY_TEST(old_and_new_loaders),
		TOY_TEST(devices_that_do_not_open),
		TEST(no_such_device),
		TEST(modules_are_whole),
		TEST(streams_are_read_as_written),
		TEST(buffers_share_blocks_and_are_zero),
		TEST(random_order),
		TEST(gaps_are_filled),
		TEST(memory_of_its_own),
		TEST(too_much_is_refused_with_sizes),
		TEST(allocations_that_fail),
		TEST(a_lost_device_is_left_alone),
		TEST(a_wait_that_fails),
		TEST(faults_come_when_told),
		TEST(probes_and_typing_errors_abort),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	for (const char *const *name = (const char *const[]){ "not.json", "empty.json",
	     "gone.json", "libc.json", NULL }; *name; name++)
		unlink(in_folder(*name, NULL));
	rmdir(folder);
	return failed;
}
