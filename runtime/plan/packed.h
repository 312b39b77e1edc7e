/* SPDX-License-Identifier: MIT */
/*
 * Packed weights in a file: the banks of struct unpu_weights as they lie in memory, behind a head
 * that says of which model they are and where each matrix is. Mapped and shared, nothing is packed
 * and nothing is copied. Weights are numbers: a file made to harm can give nonsense, no more.
 */
#ifndef UNPU_PACKED_H
#define UNPU_PACKED_H

#include <stdint.h>

#include "runtime/log.h"
#include "runtime/model/gguf.h"

#define UNPU_MAX_BANKS	64

/* Which file the model was read from: where this is the same, its content is not looked at. All 0:
 * nobody knows. */
struct unpu_packed_stamp {
	uint64_t offset, size, mtime_ns, ctime_ns, device, inode;
};

struct unpu_cpu_isa;

/* What a file must say of itself. */
struct unpu_packed_key {
	const struct unpu_gguf *gguf;
	struct unpu_packed_stamp stamp;
	const struct unpu_cpu_isa *isa;	/* that has these layouts; NULL: nobody knows */
	uint64_t places[2];	/* hash of what lies where: layouts, shapes, ranges */
	uint32_t num_banks;
	uint64_t bank_bytes[UNPU_MAX_BANKS];
};

struct unpu_packed {
	uint8_t *map;		/* NULL: none */
	uint64_t bytes;
	uint64_t bank_at[UNPU_MAX_BANKS];
	char why[UNPU_PACKED_WHY];
};

/*
 * By its head alone: 1: of this very file and for this instruction set; 0: perhaps, the model has
 * another stamp; -EINVAL and why.
 */
int unpu_packed_look(int fd, const struct unpu_packed_stamp *stamp,
		     const struct unpu_cpu_isa *isa, char why[UNPU_PACKED_WHY]);
/* Map the file if it is the key's; else NULL or, not logged, why it is not. */
const char *unpu_packed_map(int fd, const struct unpu_packed_key *key, struct unpu_packed *packed);
void unpu_packed_unmap(struct unpu_packed *packed);

/* Write one at the fd's offset, which may be a pipe's; errors of write(2). */
int unpu_packed_write(int fd, const struct unpu_packed_key *key,
		      const uint8_t *const bank[UNPU_MAX_BANKS]);

#endif
