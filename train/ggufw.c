/* SPDX-License-Identifier: MIT */
#include "train/ggufw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"

#define ALIGN	32u	/* general.alignment where a file does not say another */

struct bytes {
	uint8_t *data;
	size_t size, max;
};

struct unpu_ggufw {
	struct unpu_log log;
	struct bytes head, keys, infos, data;
	uint64_t num_keys, num_tensors;
	int err;
};

static void put(struct unpu_ggufw *w, struct bytes *b, const void *data, size_t size)
{
	size_t max = b->max ? b->max : 4096;

	if (w->err || !size)
		return;
	while (max - b->size < size)
		max *= 2;
	if (max != b->max) {
		uint8_t *p = realloc(b->data, max);

		if (!p) {
			w->err = -ENOMEM;
			return;
		}
		b->data = p;
		b->max = max;
	}
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

/* All machines that this runs on are little-endian, as the file is. */
static void put_u32(struct unpu_ggufw *w, struct bytes *b, uint32_t value)
{
	put(w, b, &value, sizeof(value));
}

static void put_u64(struct unpu_ggufw *w, struct bytes *b, uint64_t value)
{
	put(w, b, &value, sizeof(value));
}

static void put_text(struct unpu_ggufw *w, struct bytes *b, const char *text, size_t length)
{
	put_u64(w, b, length);
	put(w, b, text, length);
}

static void put_key(struct unpu_ggufw *w, const char *key, enum unpu_gguf_type type)
{
	put_text(w, &w->keys, key, strlen(key));
	put_u32(w, &w->keys, type);
	w->num_keys++;
}

static void put_array(struct unpu_ggufw *w, const char *key, enum unpu_gguf_type type,
		      uint32_t count)
{
	put_key(w, key, UNPU_GGUF_ARRAY);
	put_u32(w, &w->keys, type);
	put_u64(w, &w->keys, count);
}

/* Zeros up to the next multiple of ALIGN. */
static void pad(struct unpu_ggufw *w, struct bytes *b)
{
	static const uint8_t zeros[ALIGN];

	put(w, b, zeros, (ALIGN - b->size % ALIGN) % ALIGN);
}

int unpu_ggufw_create(const struct unpu_log *log, struct unpu_ggufw **out)
{
	struct unpu_ggufw *w = calloc(1, sizeof(*w));

	if (!w)
		return unpu_fail(log, -ENOMEM, "no memory for a file");
	if (log)
		w->log = *log;
	*out = w;
	return 0;
}

void unpu_ggufw_destroy(struct unpu_ggufw *w)
{
	if (!w)
		return;
	free(w->head.data);
	free(w->keys.data);
	free(w->infos.data);
	free(w->data.data);
	free(w);
}

void unpu_ggufw_fail(struct unpu_ggufw *w, int err)
{
	if (!w->err)
		w->err = err;
}

void unpu_ggufw_u32(struct unpu_ggufw *w, const char *key, uint32_t value)
{
	put_key(w, key, UNPU_GGUF_U32);
	put_u32(w, &w->keys, value);
}

void unpu_ggufw_f32(struct unpu_ggufw *w, const char *key, float value)
{
	put_key(w, key, UNPU_GGUF_F32);
	put(w, &w->keys, &value, sizeof(value));
}

void unpu_ggufw_bool(struct unpu_ggufw *w, const char *key, bool value)
{
	uint8_t byte = value;

	put_key(w, key, UNPU_GGUF_BOOL);
	put(w, &w->keys, &byte, 1);
}

void unpu_ggufw_str(struct unpu_ggufw *w, const char *key, const char *text, size_t length)
{
	put_key(w, key, UNPU_GGUF_STRING);
	put_text(w, &w->keys, text, length);
}

void unpu_ggufw_strings(struct unpu_ggufw *w, const char *key, const char *texts, uint32_t count)
{
	put_array(w, key, UNPU_GGUF_STRING, count);
	for (uint32_t i = 0; i < count; i++) {
		size_t length = strlen(texts);

		put_text(w, &w->keys, texts, length);
		texts += length + 1;
	}
}

void unpu_ggufw_i32s(struct unpu_ggufw *w, const char *key, const int32_t *values, uint32_t count)
{
	put_array(w, key, UNPU_GGUF_I32, count);
	put(w, &w->keys, values, (size_t)count * sizeof(*values));
}

void unpu_ggufw_copy(struct unpu_ggufw *w, const void *pair, size_t bytes)
{
	put(w, &w->keys, pair, bytes);
	w->num_keys++;
}

void unpu_ggufw_tensor(struct unpu_ggufw *w, const char *name, uint32_t type, uint32_t columns,
		       uint32_t rows, const void *data, size_t bytes)
{
	put_text(w, &w->infos, name, strlen(name));
	put_u32(w, &w->infos, rows > 1 ? 2 : 1);
	put_u64(w, &w->infos, columns);
	if (rows > 1)
		put_u64(w, &w->infos, rows);
	put_u32(w, &w->infos, type);
	put_u64(w, &w->infos, w->data.size);
	put(w, &w->data, data, bytes);
	pad(w, &w->data);
	w->num_tensors++;
}

int unpu_ggufw_finish(struct unpu_ggufw *w, const void **data, size_t *size)
{
	static const uint8_t magic[] = { 'G', 'G', 'U', 'F', 3, 0, 0, 0 };

	w->head.size = 0;
	put(w, &w->head, magic, sizeof(magic));
	put_u64(w, &w->head, w->num_tensors);
	put_u64(w, &w->head, w->num_keys);
	put(w, &w->head, w->keys.data, w->keys.size);
	put(w, &w->head, w->infos.data, w->infos.size);
	pad(w, &w->head);
	put(w, &w->head, w->data.data, w->data.size);
	if (w->err)
		return unpu_fail(&w->log, w->err, "no memory for a file of %zu bytes",
				 w->head.size + w->data.size);
	*data = w->head.data;
	*size = w->head.size;
	return 0;
}
