/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "runtime/text/hash.h"

void unpu_hash_key(uint64_t key[2])
{
	struct timespec now;

	/* GRND_NONBLOCK: a board may run this before its kernel has gathered randomness. */
	if (getrandom(key, 16, GRND_NONBLOCK) == 16)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	key[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u + (uint64_t)now.tv_sec;
	key[1] = (uint64_t)(uintptr_t)key * 0xbf58476d1ce4e5b9u ^ key[0] >> 29;
}

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32) + v[3];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

uint64_t unpu_hash_bytes(const uint64_t key[2], const void *data, size_t length)
{
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
		key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u,
	};
	const uint8_t *at = data;
	uint64_t word;
	size_t left;

	for (left = length; left >= 8; left -= 8, at += 8) {
		memcpy(&word, at, 8);
		sip_word(v, word);
	}
	word = 0;
	memcpy(&word, at, left);
	sip_word(v, word | (uint64_t)length << 56);
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
