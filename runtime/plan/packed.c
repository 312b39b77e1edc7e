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
static const struct unpu_cpu_isa *isa_of(const struct head *head)
{
	char name[sizeof(head->isa) + 1] = { 0 };

	memcpy(name, head->isa, sizeof(head->isa));
	return unpu_cpu_isa_find(name);
}

static bool same_places(const struct head *head, const struct unpu_packed_key *key)
{
	return head->num_banks == key->num_banks &&
	       !memcmp(head->places, key->places, sizeof(key->places)) &&
	       !memcmp(head->bank_bytes, key->bank_bytes, sizeof(key->bank_bytes));
}

static const char *not_for(const struct unpu_cpu_isa *of, const struct unpu_cpu_isa *isa,
			   char why[UNPU_PACKED_WHY])
{
	snprintf(why, UNPU_PACKED_WHY, "is packed for %s, which is not %s", of->name, isa->name);
	return why;
}

/* What it says of itself; it is believed no further than the file is long. */
static const char *read_head(int fd, struct head *head)
{
	uint64_t bytes = PAGE, check[2];
	struct stat st;
	int err = fstat(fd, &st) ? -errno :
		  S_ISREG(st.st_mode) ? unpu_read_first(fd, head, sizeof(*head)) : -ENODATA;

	if (err)
		return err == -ENODATA ? "is no file of packed weights" : strerror(-err);
	if (memcmp(head->magic, magic, sizeof(magic)))
		return "is no file of packed weights";
	if (head->version != VERSION)
		return "is of another version of unpu";
	add_check(head, check);
	if (memcmp(check, head->check, sizeof(check)) || head->num_banks > UNPU_MAX_BANKS)
		return "is damaged";
	for (uint32_t i = 0; i < head->num_banks; i++) {
		if (head->bank_bytes[i] > (uint64_t)st.st_size)
			return "is cut short";
		bytes += up(head->bank_bytes[i]);
	}
	if ((uint64_t)st.st_size < bytes)
		return "is cut short";
	return (uint64_t)st.st_size > bytes ? "is longer than what was written" : NULL;
}

static const char *judge(const struct head *head, const struct unpu_packed_key *key,
			 char why[UNPU_PACKED_WHY])
{
	const struct unpu_cpu_isa *isa;

	if (!same_model(head, key))
		return "is packed for another model";
	if (same_places(head, key))
		return NULL;
	isa = isa_of(head);
	if (!isa || !key->isa || isa == key->isa)
		return "is packed in another way";
	return not_for(isa, key->isa, why);
}

int unpu_packed_look(int fd, const struct unpu_packed_stamp *stamp,
		     const struct unpu_cpu_isa *isa, char why[UNPU_PACKED_WHY])
{
	struct head head;
	const char *wrong = read_head(fd, &head);

	if (!wrong && isa_of(&head) != isa)
		wrong = isa_of(&head) ? not_for(isa_of(&head), isa, why) : "is damaged";
	if (!wrong)
		return same_stamp(&head.stamp, stamp);
	if (wrong != why)
		snprintf(why, UNPU_PACKED_WHY, "%s", wrong);
	return -EINVAL;
}

const char *unpu_packed_map(int fd, const struct unpu_packed_key *key, struct unpu_packed *packed)
{
	uint64_t bytes = bank_places(key, packed->bank_at);
	struct head head;
	const char *why = read_head(fd, &head);
	void *map;

	packed->map = NULL;
	why = why ? why : judge(&head, key, packed->why);
	if (why)
		return why;
	if (bytes > SIZE_MAX / 2)
		return "is too large for this machine";
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
