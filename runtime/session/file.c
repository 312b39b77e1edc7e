/* SPDX-License-Identifier: MIT */
/* Bytes of session files and their sums, through file descriptors of any kind. */
#include <string.h>

#include "runtime/io.h"
#include "runtime/session/file.h"
#include "runtime/text/hash.h"

void unpu_file_init(struct unpu_file *f, int fd)
{
	memset(f, 0, sizeof(*f));
	f->fd = fd;
}

void unpu_file_init_memory(struct unpu_file *f, const void *data, uint64_t size)
{
	unpu_file_init(f, -1);
	f->in_memory = true;
	f->data = data;
	f->data_left = size;
}

static int read_data(struct unpu_file *f, void *bytes, size_t count)
{
	if (f->data_left < count)
		return UNPU_FILE_CUT;
	memcpy(bytes, f->data, count);
	f->data += count;
	f->data_left -= count;
	return 0;
}

static int read_all(struct unpu_file *f, void *bytes, size_t count)
{
	return f->in_memory ? read_data(f, bytes, count) : unpu_read_all(f->fd, bytes, count);
}

static void add_block(struct unpu_file *f)
{
	const uint64_t key[2] = { f->sum, UNPU_FILE_KEY };

	f->sum = unpu_hash_bytes(key, f->block, f->fill);
}

static int put_block(struct unpu_file *f)
{
	int ret = unpu_write_all(f->fd, f->block, f->fill);

	add_block(f);
	f->fill = 0;
	return ret;
}

int unpu_file_put(struct unpu_file *f, const void *bytes, size_t count)
{
	const uint8_t *at = bytes;

	while (count) {
		size_t room = UNPU_FILE_BLOCK - f->fill, n = count < room ? count : room;
		int ret;

		memcpy(f->block + f->fill, at, n);
		f->fill += (uint32_t)n;
		at += n;
		count -= n;
		ret = f->fill == UNPU_FILE_BLOCK ? put_block(f) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

int unpu_file_end(struct unpu_file *f)
{
	int ret = f->fill ? put_block(f) : 0;

	return ret ? ret : unpu_write_all(f->fd, &f->sum, sizeof(f->sum));
}

void unpu_file_begin(struct unpu_file *f, uint64_t bytes)
{
	f->left = bytes;
	f->at = f->fill = 0;
}

static int get_block(struct unpu_file *f)
{
	uint32_t n = f->left < UNPU_FILE_BLOCK ? (uint32_t)f->left : UNPU_FILE_BLOCK;
	int ret = n ? read_all(f, f->block, n) : UNPU_FILE_CUT;

	if (ret)
		return ret;
	f->left -= n;
	f->fill = n;
	f->at = 0;
	add_block(f);
	return 0;
}

int unpu_file_get(struct unpu_file *f, void *bytes, size_t count)
{
	uint8_t *at = bytes;

	while (count) {
		int ret = f->at == f->fill ? get_block(f) : 0;
		size_t room, n;

		if (ret)
			return ret;
		room = f->fill - f->at;
		n = count < room ? count : room;
		memcpy(at, f->block + f->at, n);
		f->at += (uint32_t)n;
		at += n;
		count -= n;
	}
	return 0;
}

int unpu_file_check(struct unpu_file *f)
{
	uint64_t sum;
	int ret = read_all(f, &sum, sizeof(sum));

	if (ret)
		return ret;
	return sum == f->sum ? 0 : UNPU_FILE_DAMAGED;
}
