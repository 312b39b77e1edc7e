/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "runtime/device/table.h"

static int table_grow(struct unpu_table *table)
{
	uint32_t size = table->size ? 2 * table->size : 16;
	void **slots = size > table->size ? realloc(table->slots, size * sizeof(*slots)) : NULL;
	uint32_t i;

	if (!slots)
		return -ENOMEM;
	for (i = table->size; i < size; i++)
		slots[i] = NULL;
	table->slots = slots;
	table->size = size;
	return 0;
}

int unpu_table_add(struct unpu_table *table, void *object, uint32_t *id)
{
	uint32_t i = table->free;
	int err;

	while (i < table->size && table->slots[i])
		i++;
	if (i == table->size) {
		err = table_grow(table);
		if (err)
			return err;
	}
	table->slots[i] = object;
	table->free = i + 1;
	table->used++;
	*id = i + 1;
	return 0;
}

void *unpu_table_get(const struct unpu_table *table, uint32_t id)
{
	return id && id <= table->size ? table->slots[id - 1] : NULL;
}

void *unpu_table_remove(struct unpu_table *table, uint32_t id)
{
	void *object = unpu_table_get(table, id);

	if (!object)
		return NULL;
	table->slots[id - 1] = NULL;
	table->used--;
	if (id - 1 < table->free)
		table->free = id - 1;
	return object;
}

void *unpu_table_pop(struct unpu_table *table)
{
	uint32_t id = 1;

	if (!table->used)
		return NULL;
	while (!table->slots[id - 1])
		id++;
	return unpu_table_remove(table, id);
}

void unpu_table_finish(struct unpu_table *table)
{
	free(table->slots);
	*table = (struct unpu_table){ 0 };
}
