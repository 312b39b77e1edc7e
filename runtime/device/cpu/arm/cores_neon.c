/* SPDX-License-Identifier: MIT */
/* Whether the cores that this process may use issue in order, by their MIDR. */
#include <sched.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <asm/hwcap.h>

#include "runtime/device/cpu/arm/neon.h"

/* Arm's: Cortex-A34, A53, A35, A55, A510, A520; manuals, "MIDR_EL1, part number". */
static int in_order(uint64_t midr)
{
	static const uint16_t parts[] = { 0xd02, 0xd03, 0xd04, 0xd05, 0xd46, 0xd80 };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (midr >> 24 == 0x41 && (midr >> 4 & 0xfff) == parts[i])
			return 1;
	return 0;
}

/* Of the core that runs this, by the kernel's emulation of the register; 0: there is none. */
static uint64_t midr_here(void)
{
	uint64_t midr = 0;

	if (getauxval(AT_HWCAP) & HWCAP_CPUID)
		__asm__("mrs %0, midr_el1" : "=r" (midr));
	return midr & 0xffffffff;
}

static uint64_t midr_of(int cpu)
{
	unsigned long long midr = 0;
	char path[80];
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/devices/system/cpu/cpu%d/regs/identification/midr_el1", cpu);
	f = fopen(path, "re");
	if (!f)
		return midr_here();
	if (fscanf(f, "%llx", &midr) != 1)
		midr = 0;
	fclose(f);
	return midr;
}

int unpu_cpu_in_order(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return in_order(midr_here());
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && !in_order(midr_of(cpu)))
			return 0;
	return 1;
}
