// SPDX-License-Identifier: GPL-2.0-only
#include <linux/dma-fence.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "unpu_drv.h"

struct unpu_fence {
	struct dma_fence base;
	/* Its own: the fence outlives every object whose lock it could share. */
	spinlock_t lock;
};

static struct unpu_fence *to_unpu_fence(struct dma_fence *fence)
{
	return container_of(fence, struct unpu_fence, base);
}

/* Read for signalled fences, too, as long as somebody holds one: nothing but constants. */
static const char *unpu_fence_name(struct dma_fence *fence)
{
	return "unpu";
}

static void unpu_fence_free_rcu(struct rcu_head *rcu)
{
	struct dma_fence *fence = container_of(rcu, struct dma_fence, rcu);

	kfree(to_unpu_fence(fence));
	module_put(THIS_MODULE);
}

static void unpu_fence_release(struct dma_fence *fence)
{
	/* Nobody outside can cause this: each job ends both its fences. */
	WARN_ON_ONCE(!test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->flags));
	call_rcu(&fence->rcu, unpu_fence_free_rcu);
}

static const struct dma_fence_ops unpu_fence_ops = {
	.get_driver_name = unpu_fence_name,
	.get_timeline_name = unpu_fence_name,
	.release = unpu_fence_release,
};

struct dma_fence *unpu_fence_create(void)
{
	struct unpu_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL_ACCOUNT);

	if (!fence)
		return NULL;
	spin_lock_init(&fence->lock);
	/* An open file pins the module while this runs. */
	__module_get(THIS_MODULE);
	return &fence->base;
}

void unpu_fence_init(struct dma_fence *fence, u64 context, u64 seqno)
{
	dma_fence_init(fence, &unpu_fence_ops, &to_unpu_fence(fence)->lock, context, seqno);
}

void unpu_fence_end(struct dma_fence *fence, int error)
{
	struct unpu_fence *ufence = to_unpu_fence(fence);
	unsigned long flags;

	spin_lock_irqsave(&ufence->lock, flags);
	if (!test_bit(DMA_FENCE_FLAG_SIGNALED_BIT, &fence->flags)) {
		if (error)
			dma_fence_set_error(fence, error);
		dma_fence_signal_locked(fence);
	}
	spin_unlock_irqrestore(&ufence->lock, flags);
}

void unpu_fence_free(struct dma_fence *fence)
{
	if (!fence)
		return;
	kfree(to_unpu_fence(fence));
	module_put(THIS_MODULE);
}
