// SPDX-License-Identifier: GPL-2.0-only
/*
 * For what kind of memory the processor takes an address. "user ADDRESS", of who writes it, or
 * "kernel ADDRESS" is written to /sys/module/pageattr/parameters/address; what is read there is
 * then "PHYSICAL KIND": wb is memory like any other, all else is not.
 */
#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static char answer[64] = "none\n";	/* under the lock of the module's parameters */

#ifdef CONFIG_X86

/* What the bits of an entry mean, the processor keeps in a table: MSR_IA32_CR_PAT. */
static const char *kind_of(u64 flags, u64 pat_bit)
{
	static const char * const kinds[8] = { "uc", "wc", "2", "3", "wt", "wp", "wb", "uc-" };
	unsigned int index = (flags & _PAGE_PWT ? 1 : 0) + (flags & _PAGE_PCD ? 2 : 0) +
			     (flags & pat_bit ? 4 : 0);
	u64 table;

	rdmsrl(MSR_IA32_CR_PAT, table);
	return kinds[table >> index * 8 & 7];
}

static int ask_user(unsigned long at, const struct follow_pfnmap_args *found)
{
	u64 flags = pgprot_val(found->pgprot);

	return scnprintf(answer, sizeof(answer), "0x%016llx %s\n", (u64)PFN_PHYS(found->pfn),
			 kind_of(flags, _PAGE_PAT));
}

static int ask_kernel(unsigned long at)
{
	unsigned int level;
	pte_t *pte = lookup_address(at, &level);
	const char *kind;

	if (!pte)
		return -EFAULT;
	kind = kind_of(pte_flags(*pte), level == PG_LEVEL_4K ? _PAGE_PAT : _PAGE_PAT_LARGE);
	return scnprintf(answer, sizeof(answer), "0x%016llx %s\n",
			 (u64)slow_virt_to_phys((void *)at), kind);
}

#else

/* A byte of MAIR_EL1: inner and outer write-back, allocating on reads and writes; else the byte. */
static int say(u64 phys, unsigned int table, unsigned int mmu)
{
	if (table == 0xff && mmu == 0xff)
		return scnprintf(answer, sizeof(answer), "0x%016llx wb\n", phys);
	return scnprintf(answer, sizeof(answer), "0x%016llx 0x%02x 0x%02x\n", phys, table, mmu);
}

/* What the MMU itself makes of an address. */
#define translate(instruction, at) ({				\
	asm volatile("at " instruction ", %0" : : "r" (at));	\
	isb();							\
	read_sysreg(par_el1);					\
})
#define PAR_FAULT	BIT_ULL(0)
#define PAR_PHYS	GENMASK_ULL(47, 12)
#define PAR_ATTR	56

static int ask_user(unsigned long at, const struct follow_pfnmap_args *found)
{
	unsigned int index = FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(found->pgprot));
	unsigned int table = read_sysreg(mair_el1) >> index * 8 & 0xff;
	u64 par;

	/* Without PAN of the processor's own, user addresses are hidden from the kernel. */
	preempt_disable();
	uaccess_ttbr0_enable();
	par = translate("s1e0r", at);
	uaccess_ttbr0_disable();
	preempt_enable();
	if (par & PAR_FAULT || (par & PAR_PHYS) != PFN_PHYS(found->pfn))
		return -EFAULT;
	return say(par & PAR_PHYS, table, par >> PAR_ATTR);
}

static int ask_kernel(unsigned long at)
{
	u64 par;

	preempt_disable();
	par = translate("s1e1r", at);
	preempt_enable();
	if (par & PAR_FAULT)
		return -EFAULT;
	return say(par & PAR_PHYS, par >> PAR_ATTR, par >> PAR_ATTR);
}

#endif

/* The page must have been touched. */
static int ask_process(unsigned long at)
{
	struct follow_pfnmap_args found = { .address = at };
	int err = -EFAULT;

	mmap_read_lock(current->mm);
	found.vma = vma_lookup(current->mm, at);
	if (found.vma)
		err = follow_pfnmap_start(&found);
	if (!err) {
		err = ask_user(at, &found);
		follow_pfnmap_end(&found);
	}
	mmap_read_unlock(current->mm);
	return err;
}

static int address_set(const char *text, const struct kernel_param *param)
{
	unsigned long at;
	char whose[8];
	int err;

	if (sscanf(text, "%7s %lx", whose, &at) != 2)
		return -EINVAL;
	err = strcmp(whose, "user") ? ask_kernel(at) : ask_process(at);
	return err < 0 ? err : 0;
}

static int address_get(char *text, const struct kernel_param *param)
{
	return scnprintf(text, PAGE_SIZE, "%s", answer);
}

static const struct kernel_param_ops address_ops = { .set = address_set, .get = address_get };

module_param_cb(address, &address_ops, NULL, 0600);
MODULE_PARM_DESC(address, "user ADDRESS or kernel ADDRESS");
MODULE_DESCRIPTION("Memory type of an address, for the tests of unpu");
MODULE_LICENSE("GPL");
