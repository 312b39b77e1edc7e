/* SPDX-License-Identifier: MIT */
/*
 * A module of faults: insmod faults.ko fault=NAME makes that one while it loads, and does not stay.
 * tests/vm/selftest proves with it that the debug kernel finds them and that the judge sees it.
 * None of them does any harm to the machine. Lockdep's must be the first.
 */
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

static char *fault = "";
module_param(fault, charp, 0);

static void outside(void)
{
	volatile char *bytes = kmalloc(40, GFP_KERNEL);

	pr_info("faults: %d\n", bytes[40]);
	kfree((void *)bytes);
}

static void after_free(void)
{
	volatile char *bytes = kmalloc(40, GFP_KERNEL);

	kfree((void *)bytes);
	pr_info("faults: %d\n", bytes[8]);
}

static void shift(void)
{
	volatile int bits = 40;

	pr_info("faults: %d\n", 1 << bits);
}

static void leak(void)
{
	volatile char *bytes = kmalloc(4000, GFP_KERNEL);

	bytes[0] = 1;
	bytes = NULL;
}

static void circle(void)
{
	static DEFINE_MUTEX(first);
	static DEFINE_MUTEX(second);

	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void asleep(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

static void nothing(struct timer_list *timer)
{
}

static void active(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	timer_setup(timer, nothing, 0);
	mod_timer(timer, jiffies + 60 * HZ);
	kfree(timer);
}

static void count(void)
{
	static refcount_t ref = REFCOUNT_INIT(1);

	refcount_set(&ref, 0);
	refcount_inc(&ref);
}

static void twice(void)
{
	static LIST_HEAD(head);
	static LIST_HEAD(entry);

	list_add(&entry, &head);
	list_add(&entry, &head);
}

static void warn(void)
{
	WARN_ON(1);
}

static const struct {
	const char *name;
	void (*make)(void);
} faults[] = {
	{ "outside", outside }, { "after_free", after_free }, { "shift", shift }, { "leak", leak },
	{ "circle", circle }, { "asleep", asleep }, { "active", active }, { "count", count },
	{ "twice", twice }, { "warn", warn },
};

static int __init faults_init(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(faults); i++)
		if (!strcmp(faults[i].name, fault))
			faults[i].make();
	return -ECANCELED;
}
module_init(faults_init);

MODULE_DESCRIPTION("faults for tests");
MODULE_LICENSE("Dual MIT/GPL");
