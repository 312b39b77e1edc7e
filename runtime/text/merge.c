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

static inline int before(const struct unpu_merge *a, const struct unpu_merge *b)
{
	return a->key != b->key ? a->key < b->key : a->left < b->left;
}

static int grow(struct unpu_merge_queue *queue)
{
	size_t room = queue->room ? 2 * queue->room : 64;
	struct unpu_merge *items;

	if (room > SIZE_MAX / 2 / sizeof(*items))
		return -EFBIG;
	items = realloc(queue->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	queue->items = items;
	queue->room = room;
	return 0;
}

int unpu_merge_queue_push(struct unpu_merge_queue *queue, struct unpu_merge item)
{
	size_t at = queue->num;
	int err;

	if (queue->num == queue->room) {
		err = grow(queue);
		if (err)
			return err;
	}
	queue->num++;
	while (at > 0 && before(&item, &queue->items[(at - 1) / 2])) {
		queue->items[at] = queue->items[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	queue->items[at] = item;
	return 0;
}

int unpu_merge_queue_pop(struct unpu_merge_queue *queue, struct unpu_merge *item)
{
	struct unpu_merge *items = queue->items;
	struct unpu_merge last;
	size_t at = 0, child;

	if (queue->num == 0)
		return 0;
	*item = items[0];
	last = items[--queue->num];
	for (child = 1; child < queue->num; child = 2 * at + 1) {
		if (child + 1 < queue->num && before(&items[child + 1], &items[child]))
			child++;
		if (!before(&items[child], &last))
			break;
		items[at] = items[child];
		at = child;
	}
	items[at] = last;
	return 1;
}
