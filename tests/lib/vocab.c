/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/vocab.h"

/* Magic, version 3, no tensors; the number of keys is at byte 16. */
static void put(struct vocab_file *file, const void *data, size_t size)
{
	/* Always to the exact size, so that ASan sees a read past the file. */
	file->data = realloc(file->data, file->size + size + !size);
	if (!file->data)
		abort();
	memcpy(file->data + file->size, data, size);
	file->size += size;
}

static void put_u32(struct vocab_file *file, uint32_t value)
{
	put(file, &value, sizeof(value));
}

static void put_u64(struct vocab_file *file, uint64_t value)
{
	put(file, &value, sizeof(value));
}

static void put_str(struct vocab_file *file, const char *text)
{
	put_u64(file, strlen(text));
	put(file, text, strlen(text));
}

void vocab_file_init(struct vocab_file *file)
{
	memset(file, 0, sizeof(*file));
	put(file, "GGUF", 4);
	put_u32(file, 3);
	put_u64(file, 0);
	put_u64(file, 0);
}

void vocab_file_finish(struct vocab_file *file)
{
	free(file->data);
	memset(file, 0, sizeof(*file));
}

static void begin_key(struct vocab_file *file, const char *key, uint32_t type)
{
	uint64_t count;

	memcpy(&count, file->data + 16, sizeof(count));
	count++;
	memcpy(file->data + 16, &count, sizeof(count));
	put_str(file, key);
	put_u32(file, type);
}

static void begin_array(struct vocab_file *file, const char *key, uint32_t type, uint64_t count)
{
	begin_key(file, key, UNPU_GGUF_ARRAY);
	put_u32(file, type);
	put_u64(file, count);
}

void vocab_add_str(struct vocab_file *file, const char *key, const char *value)
{
	begin_key(file, key, UNPU_GGUF_STRING);
	put_str(file, value);
}

void vocab_add_u32(struct vocab_file *file, const char *key, uint32_t value)
{
	begin_key(file, key, UNPU_GGUF_U32);
	put_u32(file, value);
}

void vocab_add_bool(struct vocab_file *file, const char *key, bool value)
{
	begin_key(file, key, UNPU_GGUF_BOOL);
	put(file, &(uint8_t){ value }, 1);
}

void vocab_add_strings(struct vocab_file *file, const char *key, uint64_t count,
		       const char *const *values)
{
	uint64_t i;

	begin_array(file, key, UNPU_GGUF_STRING, count);
	for (i = 0; i < count; i++)
		put_str(file, values[i]);
}

void vocab_add_i32s(struct vocab_file *file, const char *key, uint64_t count,
		    const int32_t *values)
{
	begin_array(file, key, UNPU_GGUF_I32, count);
	put(file, values, count * sizeof(*values));
}

void vocab_add_f32s(struct vocab_file *file, const char *key, uint64_t count, const float *values)
{
	begin_array(file, key, UNPU_GGUF_F32, count);
	put(file, values, count * sizeof(*values));
}

struct vocab_char vocab_byte_char(uint32_t byte)
{
	uint32_t code = 0x100, b;
	struct vocab_char c = { "" };

	/* The plain definition: those that are not printable in Latin-1 count up from U+0100. */
	for (b = 0; b < byte; b++)
		code += !((b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
	if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae)
		code = byte;
	if (code < 0x80) {
		c.text[0] = (char)code;
	} else {
		c.text[0] = (char)(0xc0 | code >> 6);
		c.text[1] = (char)(0x80 | (code & 0x3f));
	}
	return c;
}

static void keep_line(void *arg, enum unpu_log_level level, const char *text)
{
	struct vocab_log *log = arg;

	if (level != UNPU_LOG_ERROR)
		return;
	snprintf(log->last, sizeof(log->last), "%s", text);
	log->errors++;
}

void vocab_log_init(struct vocab_log *log)
{
	memset(log, 0, sizeof(*log));
	log->log = (struct unpu_log){ keep_line, log };
}

char *vocab_read(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	char *data = NULL;
	long end;

	if (!file)
		return NULL;
	if (fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) >= 0) {
		rewind(file);
		data = malloc((size_t)end + 1);
		*size = data ? fread(data, 1, (size_t)end, file) : 0;
		if (data)
			data[*size] = 0;
	}
	fclose(file);
	return data;
}

char *vocab_read_shared(const char *name, size_t *size)
{
	const char *shared = getenv("UNPU_SHARED");
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", shared ? shared : "../shared", name);
	return vocab_read(path, size);
}

uint32_t vocab_random(uint64_t *state, uint32_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1du) >> 33) % below;
}
