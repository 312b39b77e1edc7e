/* SPDX-License-Identifier: MIT */
#include "runtime/plan/packed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "runtime/device/cpu/isa.h"
#include "runtime/io.h"
#include "runtime/model/id.h"
#include "runtime/text/hash.h"

/* Another one where a layout's content, or this file's, means something else than before. */
#define VERSION		2u
/* Banks begin at pages of any machine. */
#define PAGE		65536u

static const char magic[8] = { 'u', 'n', 'p', 'u', 'p', 'a', 'c', 'k' };

/* Little-endian, like all that unpu runs on. */
struct head {
	char magic[8];
	uint32_t version, num_banks;
	char isa[16];		/* for people; what counts are the places */
	uint64_t model[2];	/* unpu_model_id() */
	struct unpu_packed_stamp stamp;
	uint64_t places[2];
	uint64_t bank_bytes[UNPU_MAX_BANKS];
	uint64_t check[2];	/* of all before it */
};

static void add_check(const struct head *head, uint64_t check[2])
{
	for (uint64_t i = 0; i < 2; i++) {
		const uint64_t key[2] = { i, VERSION };

		check[i] = unpu_hash_bytes(key, head, offsetof(struct head, check));
	}
}

static uint64_t up(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* Where banks begin; returns the file's size. */
static uint64_t bank_places(const struct unpu_packed_key *key, uint64_t at[UNPU_MAX_BANKS])
{
	uint64_t bytes = PAGE;

	for (uint32_t i = 0; i < key->num_banks; i++) {
		at[i] = bytes;
		bytes += up(key->bank_bytes[i]);
	}
	return bytes;
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool same_stamp(const struct unpu_packed_stamp *a, const struct unpu_packed_stamp *b)
{
	return a->inode && !memcmp(a, b, sizeof(*a));
}

/* The same file, or, at the price of a look at each of its tensors, the same content. */
static bool same_model(const struct head *head, const struct unpu_packed_key *key)
{
	uint64_t id[2];

	if (same_stamp(&head->stamp, &key->stamp))
		return true;
	unpu_model_id(key->gguf, id);
	return !memcmp(id, head->model, sizeof(id));
}

/* The name comes from the file: one of ours, or none. */
static const char *other_isa(const struct head *head, const struct unpu_packed_key *key)
{
	char name[sizeof(head->isa) + 1] = { 0 };
	const struct unpu_cpu_isa *isa;

	memcpy(name, head->isa, sizeof(head->isa));
	isa = unpu_cpu_isa_find(name);
	return isa && key->isa && isa != key->isa ? isa->name : NULL;
}

static bool same_places(const struct head *head, const struct unpu_packed_key *key)
{
	return head->num_banks == key->num_banks &&
	       !memcmp(head->places, key->places, sizeof(key->places)) &&
	       !memcmp(head->bank_bytes, key->bank_bytes, sizeof(key->bank_bytes));
}

static const char *judge(const struct head *head, const struct unpu_packed_key *key, char why[96])
{
	const char *isa;
	uint64_t check[2];

	if (memcmp(head->magic, magic, sizeof(magic)))
		return "is no file of packed weights";
	if (head->version != VERSION)
		return "is of another version of unpu";
	add_check(head, check);
	if (memcmp(check, head->check, sizeof(check)))
		return "is damaged";
	if (!same_model(head, key))
		return "is packed for another model";
	if (same_places(head, key))
		return NULL;
	isa = other_isa(head, key);
	if (!isa)
		return "is packed in another way";
	snprintf(why, 96, "is packed for %s, which is not %s", isa, key->isa->name);
	return why;
}

const char *unpu_packed_map(int fd, const struct unpu_packed_key *key, struct unpu_packed *packed)
{
	uint64_t bytes = bank_places(key, packed->bank_at);
	struct head head;
	struct stat st;
	const char *why;
	void *map;
	int err = fstat(fd, &st) ? -errno :
		  S_ISREG(st.st_mode) ? unpu_read_first(fd, &head, sizeof(head)) : -ENODATA;

	packed->map = NULL;
	if (err)
		return err == -ENODATA ? "is no file of packed weights" : strerror(-err);
	why = judge(&head, key, packed->why);
	if (why)
		return why;
	if (st.st_size < 0 || (uint64_t)st.st_size < bytes || bytes > SIZE_MAX / 2)
		return "is cut short";
	if ((uint64_t)st.st_size > bytes)
		return "is longer than what was written";
	map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return strerror(errno);
	/* All of it is read for every token. */
	madvise(map, (size_t)bytes, MADV_WILLNEED);
	packed->map = map;
	packed->bytes = bytes;
	return NULL;
}

void unpu_packed_unmap(struct unpu_packed *packed)
{
	if (packed->map)
		munmap(packed->map, (size_t)packed->bytes);
	packed->map = NULL;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int pad(int fd, uint64_t bytes)
{
	static const uint8_t zeros[4096];
	int ret = 0;

	for (uint64_t left = up(bytes) - bytes; left && !ret;) {
		uint64_t n = left < sizeof(zeros) ? left : sizeof(zeros);

		ret = unpu_write_all(fd, zeros, n);
		left -= n;
	}
	return ret;
}

int unpu_packed_write(int fd, const struct unpu_packed_key *key,
		      const uint8_t *const bank[UNPU_MAX_BANKS])
{
	struct head head = { .version = VERSION, .num_banks = key->num_banks,
			     .stamp = key->stamp };
	int ret;

	memcpy(head.magic, magic, sizeof(magic));
	if (key->isa)
		memcpy(head.isa, key->isa->name, strlen(key->isa->name));
	memcpy(head.places, key->places, sizeof(head.places));
	memcpy(head.bank_bytes, key->bank_bytes, sizeof(head.bank_bytes));
	unpu_model_id(key->gguf, head.model);
	add_check(&head, head.check);
	ret = unpu_write_all(fd, &head, sizeof(head));
	ret = ret ? ret : pad(fd, sizeof(head));
	for (uint32_t i = 0; i < key->num_banks && !ret; i++) {
		ret = unpu_write_all(fd, bank[i], (size_t)key->bank_bytes[i]);
		ret = ret ? ret : pad(fd, key->bank_bytes[i]);
	}
	return ret;
}
