/* SPDX-License-Identifier: MIT */
/* Changes to a GGUF file in memory, for tests that need one that is wrong in one place. */
#ifndef UNPU_TESTS_EDIT_H
#define UNPU_TESTS_EDIT_H

#include <stddef.h>
#include <stdint.h>

/* A file of alignment 32, its bytes from malloc(). */
struct edit {
	uint8_t *data;
	size_t size;
};

/* Where the record of a key or tensor that is there begins: the length of its name. */
uint8_t *edit_find(const struct edit *e, const char *name);
/* The same after its name: a key's type and value, a tensor's dimensions, type and offset. */
uint8_t *edit_after(const struct edit *e, const char *name);
/* A key or tensor is gone: its name's first letter becomes another. */
void edit_hide(struct edit *e, const char *name);

/* A key before all others; one that is there under that name is hidden. */
void edit_key_u32(struct edit *e, const char *key, uint32_t value);
void edit_key_f32(struct edit *e, const char *key, float value);
void edit_key_str(struct edit *e, const char *key, const char *value);
/* A tensor of type F32 with zeros for data, before all others. d1 of 0: a vector. */
void edit_tensor(struct edit *e, const char *name, uint64_t d0, uint64_t d1);
/* Other dimensions for a tensor of as many. */
void edit_dims(struct edit *e, const char *name, uint64_t d0, uint64_t d1);
void edit_type(struct edit *e, const char *name, uint32_t type);

#endif
