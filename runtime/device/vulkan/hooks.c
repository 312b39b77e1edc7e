/* SPDX-License-Identifier: MIT */
/*
 * What the library does instead of failing on request: nothing. A program of the tests is linked
 * with tests/hooks/vulkan.o before the library, and this file stays in the archive.
 */
#include "runtime/device/vulkan/vk.h"

void unpu_vk_hook_caps(struct unpu_vk_caps *caps)
{
	(void)caps;
}

void unpu_vk_hook_range(struct unpu_vk_caps *caps)
{
	(void)caps;
}

enum unpu_vk_fault unpu_vk_hook_submit(uint64_t n)
{
	(void)n;
	return UNPU_VK_FAULT_NONE;
}

bool unpu_vk_hook_allocate(uint64_t n)
{
	(void)n;
	return false;
}

void unpu_vk_hook_probe(void)
{
}
