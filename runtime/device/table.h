/* SPDX-License-Identifier: MIT */
/* Handles of one file: small numbers from 1, the lowest free one first. The owner locks. */
#ifndef UNPU_TABLE_H
#define UNPU_TABLE_H

#include <stdint.h>

struct unpu_table {
	void **slots;
	uint32_t size;
	uint32_t free;		/* no slot below it is free */
	uint32_t used;
};

/* -ENOMEM; *id is not touched then. */
int unpu_table_add(struct unpu_table *table, void *object, uint32_t *id);
/* NULL: no such id. */
void *unpu_table_get(const struct unpu_table *table, uint32_t id);
void *unpu_table_remove(struct unpu_table *table, uint32_t id);
/* Any object, removed; NULL when the table is empty. */
void *unpu_table_pop(struct unpu_table *table);
void unpu_table_finish(struct unpu_table *table);

#endif
