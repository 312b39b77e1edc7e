/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "runtime/text/merge.h"

int unpu_merge_work_reset(struct unpu_merge_work *work, size_t num)
{
	struct unpu_symbol *symbols;

	work->queue.num = 0;
	work->num = num;
	if (num <= work->room)
		return 0;
	if (num > INT32_MAX || num > SIZE_MAX / 2 / sizeof(*symbols))
		return -EFBIG;
	if (num < 64)
		num = 64;
	symbols = realloc(work->symbols, num * sizeof(*symbols));
	if (!symbols)
		return -ENOMEM;
	work->symbols = symbols;
	work->room = num;
	return 0;
}

void unpu_merge_work_finish(struct unpu_merge_work *work)
{
	free(work->queue.items);
	free(work->symbols);
}

void unpu_merge_work_link(struct unpu_merge_work *work)
{
	size_t i;

	for (i = 0; i < work->num; i++) {
		work->symbols[i].prev = i ? (uint32_t)i - 1 : UNPU_SYMBOL_NONE;
		work->symbols[i].next = (uint32_t)i + 1;
	}
	if (work->num)
		work->symbols[work->num - 1].next = UNPU_SYMBOL_NONE;
}

void unpu_merge_work_join(struct unpu_merge_work *work, uint32_t left)
{
	struct unpu_symbol *symbol = &work->symbols[left];

	symbol->next = work->symbols[symbol->next].next;
	if (symbol->next != UNPU_SYMBOL_NONE)
		work->symbols[symbol->next].prev = left;
}

static int grow(struct unpu_merge_queue *queue)
{
	size_t room = queue->room ? 2 * queue->room : 64;
	uint64_t *items;

	if (room > SIZE_MAX / 2 / sizeof(*items))
		return -EFBIG;
	items = realloc(queue->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	queue->items = items;
	queue->room = room;
	return 0;
}

/* Four children to a node: half the depth of a binary heap, and fewer misses of the cache. */
#define CHILDREN	4

static void sift_up(uint64_t *items, size_t at, uint64_t item)
{
	size_t parent;

	for (; at > 0; at = parent) {
		parent = (at - 1) / CHILDREN;
		if (items[parent] <= item)
			break;
		items[at] = items[parent];
	}
	items[at] = item;
}

int unpu_merge_queue_push(struct unpu_merge_queue *queue, uint32_t key, uint32_t left)
{
	int err;

	if (queue->num == queue->room) {
		err = grow(queue);
		if (err)
			return err;
	}
	sift_up(queue->items, queue->num++, (uint64_t)key << 32 | left);
	return 0;
}

static inline size_t least_child(const uint64_t *items, size_t num, size_t first)
{
	size_t best = first, end = first + CHILDREN < num ? first + CHILDREN : num, i;
	uint64_t least = items[first];

	for (i = first + 1; i < end; i++) {
		best = items[i] < least ? i : best;
		least = items[i] < least ? items[i] : least;
	}
	return best;
}

/* The last item mostly belongs near the leaves, so the gap goes down all the way before it is put
 * there, and seldom up again: that saves a comparison a level. */
int unpu_merge_queue_pop(struct unpu_merge_queue *queue, uint32_t *key, uint32_t *left)
{
	uint64_t *items = queue->items;
	size_t at = 0, child;

	if (queue->num == 0)
		return 0;
	*key = (uint32_t)(items[0] >> 32);
	*left = (uint32_t)items[0];
	queue->num--;
	while (CHILDREN * at + 1 < queue->num) {
		child = least_child(items, queue->num, CHILDREN * at + 1);
		items[at] = items[child];
		at = child;
	}
	sift_up(items, at, items[queue->num]);
	return 1;
}
