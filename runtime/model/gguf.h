/* SPDX-License-Identifier: MIT */
/*
 * A GGUF v2/v3 file in memory: key-values and named tensors, every count, offset, dimension and
 * string checked against the file before use. Nothing is copied; the bytes must outlive the object.
 */
#ifndef UNPU_GGUF_H
#define UNPU_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/log.h"

/* Tensor types, numbered as in the file format. */
enum unpu_type {
	UNPU_TYPE_F32 = 0,
	UNPU_TYPE_F16 = 1,
	UNPU_TYPE_Q4_0 = 2,
	UNPU_TYPE_Q4_1 = 3,
	UNPU_TYPE_Q5_0 = 6,
	UNPU_TYPE_Q5_1 = 7,
	UNPU_TYPE_Q8_0 = 8,
	UNPU_TYPE_Q4_K = 12,
	UNPU_TYPE_Q5_K = 13,
	UNPU_TYPE_Q6_K = 14,
	UNPU_TYPE_IQ4_NL = 20,
	UNPU_TYPE_BF16 = 30,
};

/* All that unpu_type_info() knows. */
#define UNPU_TYPES	"F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL"

struct unpu_type_info {
	const char *name;	/* "Q8_0" */
	uint32_t block;		/* elements of a block */
	uint32_t bytes;		/* of a block */
};
/* NULL for a type that is not supported. */
const struct unpu_type_info *unpu_type_info(uint32_t type);
/* The format's own name of any type number it knows ("Q6_K"), else NULL. */
const char *unpu_type_name(uint32_t type);

enum unpu_gguf_type {
	UNPU_GGUF_U8 = 0, UNPU_GGUF_I8, UNPU_GGUF_U16, UNPU_GGUF_I16, UNPU_GGUF_U32, UNPU_GGUF_I32,
	UNPU_GGUF_F32, UNPU_GGUF_BOOL, UNPU_GGUF_STRING, UNPU_GGUF_ARRAY, UNPU_GGUF_U64,
	UNPU_GGUF_I64, UNPU_GGUF_F64,
};

/* A string of the file: not NUL-terminated. */
struct unpu_str {
	const char *ptr;
	size_t len;
};
bool unpu_str_is(struct unpu_str str, const char *text);

/* A string of the file for a message: what is not printable ASCII is '?', a long one is cut. */
struct unpu_str_text {
	char text[68];
};
struct unpu_str_text unpu_str_text(struct unpu_str str);

struct unpu_tensor {
	struct unpu_str name;
	uint32_t type;		/* enum unpu_type, or a number unpu_type_info() has not */
	uint32_t num_dims;
	uint64_t dims[4];	/* dims[0] runs fastest; unused ones are 1 */
	const uint8_t *data;	/* aligned as the mapping is, if at all */
	uint64_t bytes;		/* 0 when the type is not supported */
};

struct unpu_gguf;

/* -EINVAL names the key or tensor and what is wrong with it; -ENOMEM. */
int unpu_gguf_create(const void *data, uint64_t size, const struct unpu_log *log,
		     struct unpu_gguf **gguf);
void unpu_gguf_destroy(struct unpu_gguf *gguf);

/* The bytes it was made from, and how many. */
const uint8_t *unpu_gguf_data(const struct unpu_gguf *gguf);
uint64_t unpu_gguf_size(const struct unpu_gguf *gguf);
uint32_t unpu_gguf_num_tensors(const struct unpu_gguf *gguf);
/* In the file's order, one array; NULL past the last. */
const struct unpu_tensor *unpu_gguf_tensor_at(const struct unpu_gguf *gguf, uint32_t i);
const struct unpu_tensor *unpu_gguf_tensor(const struct unpu_gguf *gguf, const char *name);

/*
 * Values by key. 0; -ENOENT: no such key; -EINVAL (logged): another type, or out of the range that
 * is asked for. Integers of every width are taken.
 */
int unpu_gguf_u32(const struct unpu_gguf *gguf, const char *key, uint32_t min, uint32_t max,
		  uint32_t *value);
int unpu_gguf_f32(const struct unpu_gguf *gguf, const char *key, float *value);
int unpu_gguf_bool(const struct unpu_gguf *gguf, const char *key, bool *value);
int unpu_gguf_str(const struct unpu_gguf *gguf, const char *key, struct unpu_str *value);

/* An array of fixed-width elements of one type in place (may be unaligned), and its length. */
int unpu_gguf_array(const struct unpu_gguf *gguf, const char *key, enum unpu_gguf_type type,
		    const void **data, uint64_t *count);

/* An array of strings, walked in order. */
struct unpu_gguf_strings {
	const uint8_t *at;
	uint64_t left;
};
int unpu_gguf_strings(const struct unpu_gguf *gguf, const char *key,
		      struct unpu_gguf_strings *strings, uint64_t *count);
/* False after the last; the array was checked when the file was opened. */
bool unpu_gguf_strings_next(struct unpu_gguf_strings *strings, struct unpu_str *value);

#endif
