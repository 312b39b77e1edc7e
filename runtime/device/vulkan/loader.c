/* SPDX-License-Identifier: MIT */
/* libvulkan, opened when somebody asks for it, and an instance without layers of our own. */
#include "runtime/device/vulkan/vk.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROPERTIES2	VK_KHR_GET_PHYSICAL_DEVICE_PROPERTIES_2_EXTENSION_NAME

/* Of what there is no use for; a loader of 1.0 refuses every other version than its own. */
#define MAX_API		VK_API_VERSION_1_3

static int missing(struct unpu_vk_instance *vki, const char *what, int result)
{
	if (result)
		snprintf(vki->why, sizeof(vki->why), "%s (VkResult %d)", what, result);
	else
		snprintf(vki->why, sizeof(vki->why), "%s", what);
	return -ENOENT;
}

static int open_library(struct unpu_vk_instance *vki)
{
	static const char *const names[] = { "libvulkan.so.1", "libvulkan.so" };
	void *entry;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !vki->lib; i++)
		vki->lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!vki->lib)
		return missing(vki, "no Vulkan loader (libvulkan.so.1) on this machine", 0);
	entry = dlsym(vki->lib, "vkGetInstanceProcAddr");
	if (!entry)
		return missing(vki, "libvulkan has no vkGetInstanceProcAddr", 0);
	/* POSIX wants what ISO C has no cast for. */
	memcpy(&vki->GetInstanceProcAddr, &entry, sizeof(entry));
	return 0;
}

#define LOAD_GLOBAL(__name) \
	vki->__name = (PFN_vk##__name)vki->GetInstanceProcAddr(NULL, "vk" #__name); \
	if (!vki->__name) \
		return missing(vki, "libvulkan has no vk" #__name, 0);
#define LOAD_INSTANCE(__name) \
	vki->__name = (PFN_vk##__name)vki->GetInstanceProcAddr(vki->handle, "vk" #__name); \
	if (!vki->__name) \
		return missing(vki, "the Vulkan instance has no vk" #__name, 0);

static int load_global(struct unpu_vk_instance *vki)
{
	PFN_vkEnumerateInstanceVersion version = (PFN_vkEnumerateInstanceVersion)
		vki->GetInstanceProcAddr(NULL, "vkEnumerateInstanceVersion");

	UNPU_VK_GLOBAL(LOAD_GLOBAL)
	/* Absent in loaders of 1.0. */
	if (!version || version(&vki->api_version) != VK_SUCCESS ||
	    vki->api_version < VK_API_VERSION_1_0)
		vki->api_version = VK_API_VERSION_1_0;
	if (vki->api_version > MAX_API)
		vki->api_version = MAX_API;
	vki->api_version = VK_MAKE_API_VERSION(0, VK_API_VERSION_MAJOR(vki->api_version),
					       VK_API_VERSION_MINOR(vki->api_version), 0);
	return 0;
}

static bool has_properties2(struct unpu_vk_instance *vki)
{
	VkExtensionProperties *list;
	uint32_t count = 0;
	bool found = false;

	if (vki->EnumerateInstanceExtensionProperties(NULL, &count, NULL) < 0 || !count)
		return false;
	list = calloc(count, sizeof(*list));
	if (!list || vki->EnumerateInstanceExtensionProperties(NULL, &count, list) < 0)
		count = 0;
	for (uint32_t i = 0; i < count && !found; i++)
		found = !strncmp(list[i].extensionName, PROPERTIES2, sizeof(PROPERTIES2));
	free(list);
	return found;
}

/* The extension's names, where there is one: they also serve devices below 1.1. */
static void load_optional(struct unpu_vk_instance *vki, bool extension)
{
	const char *properties = extension ? "vkGetPhysicalDeviceProperties2KHR" :
					     "vkGetPhysicalDeviceProperties2";
	const char *features = extension ? "vkGetPhysicalDeviceFeatures2KHR" :
					   "vkGetPhysicalDeviceFeatures2";

	if (!extension && vki->api_version < VK_API_VERSION_1_1)
		return;
	vki->GetPhysicalDeviceProperties2 = (PFN_vkGetPhysicalDeviceProperties2)
		vki->GetInstanceProcAddr(vki->handle, properties);
	vki->GetPhysicalDeviceFeatures2 = (PFN_vkGetPhysicalDeviceFeatures2)
		vki->GetInstanceProcAddr(vki->handle, features);
}

static int create_instance(struct unpu_vk_instance *vki)
{
	const VkApplicationInfo app = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pApplicationName = "unpu",
		.apiVersion = vki->api_version,
	};
	const char *const extension = PROPERTIES2;
	bool properties2 = has_properties2(vki);
	const VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &app,
		.enabledExtensionCount = properties2,
		.ppEnabledExtensionNames = &extension,
	};
	VkResult result = vki->CreateInstance(&info, NULL, &vki->handle);

	if (result < 0) {
		vki->handle = VK_NULL_HANDLE;
		return missing(vki, result == VK_ERROR_INCOMPATIBLE_DRIVER ?
			       "no Vulkan driver on this machine" : "vkCreateInstance failed",
			       result);
	}
	UNPU_VK_INSTANCE(LOAD_INSTANCE)
	load_optional(vki, properties2);
	return 0;
}

static int find_devices(struct unpu_vk_instance *vki)
{
	uint32_t count = UNPU_VULKAN_MAX_DEVICES;
	/* More of them: VK_INCOMPLETE, and the first ones. */
	VkResult result = vki->EnumeratePhysicalDevices(vki->handle, &count, vki->devices);

	if (result < 0)
		return missing(vki, "no Vulkan device: vkEnumeratePhysicalDevices failed", result);
	if (!count)
		return missing(vki, "the Vulkan loader knows no device", 0);
	vki->num_devices = count < UNPU_VULKAN_MAX_DEVICES ? count : UNPU_VULKAN_MAX_DEVICES;
	return 0;
}

int unpu_vk_instance_init(struct unpu_vk_instance *vki, const struct unpu_log *log)
{
	int err;

	memset(vki, 0, sizeof(*vki));
	err = open_library(vki);
	if (!err)
		err = load_global(vki);
	if (!err)
		err = create_instance(vki);
	if (!err)
		err = find_devices(vki);
	if (err) {
		unpu_log(log, UNPU_LOG_DEBUG, "vulkan: %s", vki->why);
		unpu_vk_instance_finish(vki);
	}
	return err;
}

void unpu_vk_instance_finish(struct unpu_vk_instance *vki)
{
	if (vki->handle && vki->DestroyInstance)
		vki->DestroyInstance(vki->handle, NULL);
	vki->handle = VK_NULL_HANDLE;
	vki->num_devices = 0;
	if (vki->lib)
		dlclose(vki->lib);
	vki->lib = NULL;
}
