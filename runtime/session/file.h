/* SPDX-License-Identifier: MIT */
/*
 * Session files. All numbers are little-endian, floats are IEEE; nothing is compressed. In order:
 *
 *   head      struct unpu_session_head
 *   sum       u64
 *   tokens    [num_tokens] u32
 *   bias      [num_bias]{u32 token, f32 bias}
 *   stop      [num_stop]{u32 length, length bytes}
 *   sum       u64
 * and with UNPU_FILE_KV, the KV cache of the first `positions` tokens:
 *   values    [layer][K, V]{[kv_head][position][head_dim] of kv_type,
 *             if int8 then [kv_head][position][S] f16 scales}
 *   sum       u64
 *
 * S is ceil(head_dim / 32), made even; the scale past the last block is 0 (shaders/shaders.h says
 * what a value is). head_dim runs in the order of the rows of the model file's own matrices and K
 * has been turned by its position, whatever order a device keeps inside.
 *
 * A sum is SipHash-1-3 and finds damage; anybody can compute it, so nothing is believed for it. It
 * runs on through the file: each part is cut in blocks of 64 KiB, the last one shorter, and each
 * block is hashed under the key {sum so far, UNPU_FILE_KEY}. So a cache belongs to its tokens.
 *
 * A file can be written to and read from a pipe. What comes after its end is left unread.
 */
#ifndef UNPU_SESSION_FILE_H
#define UNPU_SESSION_FILE_H

#include <errno.h>
#include <stdbool.h>

#include "runtime/log.h"

#define UNPU_FILE_MAGIC		"unpu.ses"
#define UNPU_FILE_VERSION	1u
#define UNPU_FILE_BLOCK		65536u
#define UNPU_FILE_KEY		0x756e707573657373u

#define UNPU_FILE_KV		(1u << 0)

struct unpu_session_head {
	char magic[8];
	uint32_t version, flags;	/* UNPU_FILE_* */
	uint64_t model[2];		/* unpu_model_id() */
	uint32_t vocab;			/* above every token */
	uint32_t num_tokens, num_bias, num_stop;
	uint32_t stop_bytes;		/* of the part `stop`, lengths included */
	/* fields of struct unpu_session_params */
	uint32_t session_flags;
	uint64_t seed;
	float temperature;
	uint32_t top_k;
	float top_p, min_p, repeat_penalty;
	uint32_t repeat_last_n;
	float frequency_penalty, presence_penalty;
	/* 0 without UNPU_FILE_KV */
	uint32_t kv_type;		/* enum drm_unpu_kv_type */
	uint32_t classes;		/* of the weights: bits 1 << enum drm_unpu_class */
	uint32_t layers, kv_heads, head_dim, positions;
	uint32_t reserved[2];		/* 0 */
};
_Static_assert(sizeof(struct unpu_session_head) == 128, "the file's head");

/* ---- file.c: bytes and their sums --------------------------------------------------------- */

/* A file on its way in or out, or one in memory on its way in. */
struct unpu_file {
	int fd;
	bool in_memory;		/* what is read is this, not an fd's */
	const uint8_t *data;
	uint64_t data_left;
	uint64_t sum;
	uint64_t left;		/* of the part that is read, not yet in block */
	uint32_t at, fill;	/* of block */
	uint8_t block[UNPU_FILE_BLOCK];
};

/* What unpu_file_get() and unpu_file_check() say of a file, besides the errno of read(2). */
#define UNPU_FILE_CUT		(-ENODATA)
#define UNPU_FILE_DAMAGED	(-EBADMSG)

void unpu_file_init(struct unpu_file *f, int fd);
void unpu_file_init_memory(struct unpu_file *f, const void *data, uint64_t size);
/* Bytes of the part that is written; 0 or the -errno of write(2). */
int unpu_file_put(struct unpu_file *f, const void *bytes, size_t count);
/* The part ends: its sum. */
int unpu_file_end(struct unpu_file *f);

/* A part of so many bytes is to be read; it ends with unpu_file_check(). */
void unpu_file_begin(struct unpu_file *f, uint64_t bytes);
int unpu_file_get(struct unpu_file *f, void *bytes, size_t count);
int unpu_file_check(struct unpu_file *f);

/* ---- parse.c: what a file says ------------------------------------------------------------ */

struct unpu_session_file {
	struct unpu_session_head head;
	uint32_t *tokens;
	struct unpu_session_params params;	/* points into what follows */
	struct unpu_logit_bias bias[UNPU_MAX_BIAS];
	const char *stop[UNPU_MAX_STOP];
	char stop_bytes[UNPU_MAX_STOP * (4 + UNPU_MAX_STOP_LENGTH)];
};

/*
 * All before the KV cache. Counts, lengths and tokens are checked, what the settings say is not: a
 * session takes them as it takes any caller's. -EINVAL: no session file, or a damaged one, or a
 * token outside the vocabulary; -ENOSPC: more than max_tokens tokens; the log says what. Ends with
 * unpu_session_file_finish() on error too.
 */
int unpu_session_file_read(struct unpu_session_file *file, struct unpu_file *f, uint32_t vocab,
			   uint32_t max_tokens, const struct unpu_log *log);
void unpu_session_file_finish(struct unpu_session_file *file);

/* Bytes of the part with the KV cache, for a head that was read. */
uint64_t unpu_session_file_kv_bytes(const struct unpu_session_head *head);

/*
 * False when a value is no number, or no int8 that rounding gives. bytes is a multiple of 4.
 * kv_type DRM_UNPU_KV_F16 also for the scales of an int8 cache.
 */
bool unpu_kv_values_fit(uint32_t kv_type, const void *values, size_t bytes);

/*
 * A whole file in memory, without a model: 1 with a good KV cache, 0 without one, -EINVAL, -ENOSPC
 * (2^20 tokens at most) or -ENOMEM.
 */
int unpu_session_file_parse(const void *data, size_t size, const struct unpu_log *log);

#endif
