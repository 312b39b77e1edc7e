/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "tests/lib/edit.h"

#define ALIGN	32

static void store(uint8_t *p, uint64_t value, int size)
{
	int i;

	for (i = 0; i < size; i++)
		p[i] = value >> 8 * i;
}

static uint64_t load(const uint8_t *p, int size)
{
	uint64_t value = 0;

	while (size--)
		value = value << 8 | p[size];
	return value;
}

static uint8_t *find(const struct edit *e, const char *name)
{
	uint8_t want[8 + 256];
	size_t len = strlen(name);

	store(want, len, 8);
	memcpy(want + 8, name, len);
	return memmem(e->data, e->size, want, 8 + len);
}

uint8_t *edit_find(const struct edit *e, const char *name)
{
	uint8_t *at = find(e, name);

	if (!at)
		abort();
	return at;
}

uint8_t *edit_after(const struct edit *e, const char *name)
{
	return edit_find(e, name) + 8 + strlen(name);
}

void edit_hide(struct edit *e, const char *name)
{
	edit_find(e, name)[8] ^= 0x20;
}

/* Bytes of a record that is inserted, and where counts are raised. */
struct record {
	uint8_t data[512];
	size_t size;
};

static void put_int(struct record *r, uint64_t value, int size)
{
	store(r->data + r->size, value, size);
	r->size += size;
}

static void put_str(struct record *r, const char *text)
{
	put_int(r, strlen(text), 8);
	memcpy(r->data + r->size, text, strlen(text));
	r->size += strlen(text);
}

static void insert(struct edit *e, size_t at, const struct record *r)
{
	e->data = realloc(e->data, e->size + r->size);
	if (!e->data)
		abort();
	memmove(e->data + at + r->size, e->data + at, e->size - at);
	memcpy(e->data + at, r->data, r->size);
	e->size += r->size;
}

static void raise_count(struct edit *e, size_t at)
{
	store(e->data + at, load(e->data + at, 8) + 1, 8);
}

/* A key that makes what was inserted a multiple of the alignment: the data moves by as much. */
static void insert_padding(struct edit *e, size_t inserted)
{
	static const char zeros[2 * ALIGN];
	struct record r = { .size = 0 };
	char key[32] = "edit.pad.0000000000000000";
	uint64_t count = load(e->data + 16, 8);
	size_t i, need;

	for (i = 0; i < 16; i++)
		key[9 + i] = 'a' + (count >> 4 * i & 15);
	put_str(&r, key);
	put_int(&r, UNPU_GGUF_STRING, 4);
	need = (2 * ALIGN - (inserted + r.size + 8) % ALIGN) % ALIGN;
	put_int(&r, need, 8);
	memcpy(r.data + r.size, zeros, need);
	r.size += need;
	insert(e, 24, &r);
	raise_count(e, 16);
}

static void insert_key(struct edit *e, const char *key, const struct record *r)
{
	if (find(e, key))
		edit_hide(e, key);
	insert(e, 24, r);
	raise_count(e, 16);
	insert_padding(e, r->size);
}

static struct record key_record(const char *key, uint32_t type)
{
	struct record r = { .size = 0 };

	put_str(&r, key);
	put_int(&r, type, 4);
	return r;
}

void edit_key_u32(struct edit *e, const char *key, uint32_t value)
{
	struct record r = key_record(key, UNPU_GGUF_U32);

	put_int(&r, value, 4);
	insert_key(e, key, &r);
}

void edit_key_f32(struct edit *e, const char *key, float value)
{
	struct record r = key_record(key, UNPU_GGUF_F32);
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_int(&r, bits, 4);
	insert_key(e, key, &r);
}

void edit_key_str(struct edit *e, const char *key, const char *value)
{
	struct record r = key_record(key, UNPU_GGUF_STRING);

	put_str(&r, value);
	insert_key(e, key, &r);
}

/* The data of a file begins where its first tensor says. */
static void tensor_section(const struct edit *e, size_t *table, size_t *data)
{
	struct unpu_gguf *gguf;
	const struct unpu_tensor *t;
	const uint8_t *offset;

	if (unpu_gguf_create(e->data, e->size, NULL, &gguf))
		abort();
	t = unpu_gguf_tensor_at(gguf, 0);
	if (!t)
		abort();
	offset = (const uint8_t *)t->name.ptr + t->name.len + 4 + 8 * t->num_dims + 4;
	*table = (const uint8_t *)t->name.ptr - 8 - e->data;
	*data = t->data - load(offset, 8) - e->data;
	unpu_gguf_destroy(gguf);
}

void edit_tensor(struct edit *e, const char *name, uint64_t d0, uint64_t d1)
{
	struct record r = { .size = 0 };
	size_t table, data, end, bytes = d0 * (d1 ? d1 : 1) * 4;

	tensor_section(e, &table, &data);
	end = (e->size + ALIGN - 1) / ALIGN * ALIGN;
	e->data = realloc(e->data, end + bytes);
	if (!e->data)
		abort();
	memset(e->data + e->size, 0, end + bytes - e->size);
	e->size = end + bytes;
	put_str(&r, name);
	put_int(&r, d1 ? 2 : 1, 4);
	put_int(&r, d0, 8);
	if (d1)
		put_int(&r, d1, 8);
	put_int(&r, UNPU_TYPE_F32, 4);
	put_int(&r, end - data, 8);
	insert(e, table, &r);
	raise_count(e, 8);
	insert_padding(e, r.size);
}

void edit_dims(struct edit *e, const char *name, uint64_t d0, uint64_t d1)
{
	uint8_t *at = edit_after(e, name);

	store(at + 4, d0, 8);
	if (load(at, 4) > 1)
		store(at + 12, d1, 8);
}

void edit_type(struct edit *e, const char *name, uint32_t type)
{
	uint8_t *at = edit_after(e, name);

	store(at + 4 + 8 * load(at, 4), type, 4);
}
