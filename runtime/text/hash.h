/* SPDX-License-Identifier: MIT */
/* Keyed hashes: a hostile file must not turn tables into lists. */
#ifndef UNPU_HASH_H
#define UNPU_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Random where the system has random numbers. */
void unpu_hash_key(uint64_t key[2]);

/* SipHash-1-3 of the bytes. */
uint64_t unpu_hash_bytes(const uint64_t key[2], const void *data, size_t length);

/* Vector multiply-shift, the upper half of it is universal (Dietzfelbinger, 1996). */
static inline uint64_t unpu_hash_pair(const uint64_t key[2], uint32_t a, uint32_t b)
{
	return (key[0] | 1) * a + (key[1] | 1) * b + (key[0] >> 7 ^ key[1] << 9);
}

/* The slot of a table of num slots, from the upper half of the hash. */
static inline uint32_t unpu_hash_slot(uint64_t hash, uint32_t num)
{
	return (uint32_t)((hash >> 32) * num >> 32);
}

#endif
