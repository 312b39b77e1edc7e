/* SPDX-License-Identifier: MIT */
/* What a session file says. It may have been made to harm: nothing is believed for its sum. */
#include <stdlib.h>
#include <string.h>

#include "runtime/session/file.h"
#include "runtime/session/session.h"

#define MAX_TOKENS	(1u << 20)	/* of any context: the most cells a device has */

static int fail_read(const struct unpu_log *log, int err)
{
	if (err == UNPU_FILE_CUT)
		return unpu_fail(log, -EINVAL, "the file is cut short");
	if (err == UNPU_FILE_DAMAGED)
		return unpu_fail(log, -EINVAL, "the file is damaged");
	return unpu_fail(log, err, "%s", strerror(-err));
}

static int check_head(const struct unpu_session_head *head, uint32_t max_tokens,
		      const struct unpu_log *log)
{
	if (head->flags & ~UNPU_FILE_KV || head->reserved[0] || head->reserved[1])
		return unpu_fail(log, -EINVAL, "the file has flags that are not known");
	if (head->num_bias > UNPU_MAX_BIAS || head->num_stop > UNPU_MAX_STOP ||
	    head->stop_bytes > head->num_stop * (4 + UNPU_MAX_STOP_LENGTH))
		return unpu_fail(log, -EINVAL, "the file has more settings than there are");
	if (head->positions > head->num_tokens)
		return unpu_fail(log, -EINVAL, "the file's KV cache has more tokens than its text");
	if (head->num_tokens > max_tokens)
		return unpu_fail(log, -ENOSPC, "%u tokens do not fit a context of %u",
				 head->num_tokens, max_tokens);
	return 0;
}

static int read_head(struct unpu_session_head *head, struct unpu_file *f, uint32_t max_tokens,
		     const struct unpu_log *log)
{
	int ret;

	unpu_file_begin(f, sizeof(*head));
	ret = unpu_file_get(f, head, sizeof(*head));
	if (ret == UNPU_FILE_CUT || (!ret && memcmp(head->magic, UNPU_FILE_MAGIC, 8)))
		return unpu_fail(log, -EINVAL, "not a session file");
	if (!ret && head->version != UNPU_FILE_VERSION)
		return unpu_fail(log, -EINVAL, "a session file of version %u; this library reads "
				 "version %u", head->version, UNPU_FILE_VERSION);
	ret = ret ? ret : unpu_file_check(f);
	return ret ? fail_read(log, ret) : check_head(head, max_tokens, log);
}

static int read_body(struct unpu_session_file *file, struct unpu_file *f,
		     const struct unpu_log *log)
{
	const struct unpu_session_head *head = &file->head;
	size_t tokens = sizeof(*file->tokens) * head->num_tokens;
	size_t bias = sizeof(file->bias[0]) * head->num_bias;
	int ret;

	file->tokens = malloc(tokens + 1);
	if (!file->tokens)
		return unpu_fail(log, -ENOMEM, "no memory for %u tokens", head->num_tokens);
	unpu_file_begin(f, tokens + bias + head->stop_bytes);
	ret = unpu_file_get(f, file->tokens, tokens);
	ret = ret ? ret : unpu_file_get(f, file->bias, bias);
	ret = ret ? ret : unpu_file_get(f, file->stop_bytes, head->stop_bytes);
	ret = ret ? ret : unpu_file_check(f);
	return ret ? fail_read(log, ret) : 0;
}

/* Of stop_bytes bytes, each string's length before it; the strings take the lengths' places. */
static int take_stops(struct unpu_session_file *file, const struct unpu_log *log)
{
	uint32_t left = file->head.stop_bytes, length;
	char *at = file->stop_bytes;

	for (uint32_t i = 0; i < file->head.num_stop; i++) {
		if (left < sizeof(length))
			return unpu_fail(log, -EINVAL, "a stop string is missing");
		memcpy(&length, at, sizeof(length));
		left -= sizeof(length);
		if (!length || length > UNPU_MAX_STOP_LENGTH || length > left)
			return unpu_fail(log, -EINVAL, "a stop string is %u bytes long", length);
		if (memchr(at + sizeof(length), 0, length))
			return unpu_fail(log, -EINVAL, "a stop string has a NUL in it");
		memmove(at, at + sizeof(length), length);
		at[length] = 0;
		file->stop[i] = at;
		at += sizeof(length) + length;
		left -= length;
	}
	return left ? unpu_fail(log, -EINVAL, "more stop strings than there are") : 0;
}

static void set_params(struct unpu_session_file *file)
{
	const struct unpu_session_head *head = &file->head;

	file->params = (struct unpu_session_params){
		.size = sizeof(file->params),
		.flags = head->session_flags,
		.seed = head->seed,
		.temperature = head->temperature,
		.top_k = head->top_k,
		.top_p = head->top_p,
		.min_p = head->min_p,
		.repeat_penalty = head->repeat_penalty,
		.repeat_last_n = head->repeat_last_n,
		.frequency_penalty = head->frequency_penalty,
		.presence_penalty = head->presence_penalty,
		.bias = file->bias,
		.num_bias = head->num_bias,
		.stop = file->stop,
		.num_stop = head->num_stop,
	};
}

static int check_tokens(const struct unpu_session_file *file, uint32_t vocab,
			const struct unpu_log *log)
{
	if (file->head.vocab < vocab)
		vocab = file->head.vocab;
	for (uint32_t i = 0; i < file->head.num_tokens; i++)
		if (file->tokens[i] >= vocab)
			return unpu_fail(log, -EINVAL, "token %u is outside the vocabulary of %u",
					 file->tokens[i], vocab);
	return 0;
}

int unpu_session_file_read(struct unpu_session_file *file, struct unpu_file *f, uint32_t vocab,
			   uint32_t max_tokens, const struct unpu_log *log)
{
	int ret;

	memset(file, 0, sizeof(*file));
	ret = read_head(&file->head, f, max_tokens, log);
	if (ret)
		return ret;
	ret = read_body(file, f, log);
	if (ret)
		return ret;
	set_params(file);
	ret = take_stops(file, log);
	return ret ? ret : check_tokens(file, vocab, log);
}

void unpu_session_file_finish(struct unpu_session_file *file)
{
	free(file->tokens);
	file->tokens = NULL;
}

/* ---- the KV cache -------------------------------------------------------------------------- */

uint64_t unpu_session_file_kv_bytes(const struct unpu_session_head *head)
{
	return head->layers * unpu_kv_bytes(head->kv_type, head->kv_heads, 1, head->positions,
					    head->head_dim);
}

bool unpu_kv_values_fit(uint32_t kv_type, const void *values, size_t bytes)
{
	const uint8_t *at = values;
	uint32_t bad = 0;

	for (size_t i = 0; i < bytes; i += 4) {
		uint32_t word;

		memcpy(&word, at + i, 4);
		switch (kv_type) {
		case DRM_UNPU_KV_F32:
			bad |= (word & 0x7f800000) == 0x7f800000;
			break;
		case DRM_UNPU_KV_F16:
			bad |= (word & 0x7c00) == 0x7c00 || (word & 0x7c000000) == 0x7c000000;
			break;
		default:	/* a byte of -128 */
			bad |= at[i] == 0x80 || at[i + 1] == 0x80 || at[i + 2] == 0x80 ||
			       at[i + 3] == 0x80;
		}
	}
	return !bad;
}

/* Shapes that some device might have, so that no size overflows. */
static bool kv_known(const struct unpu_session_head *head)
{
	return head->kv_type <= DRM_UNPU_KV_INT8 && head->layers <= 1u << 16 &&
	       head->kv_heads <= 1024 && head->head_dim % 8 == 0 && head->head_dim <= 256;
}

/* Values and scales of K or V of one layer. */
static int parse_half(const struct unpu_session_head *head, struct unpu_file *f)
{
	uint64_t cells = (uint64_t)head->kv_heads * head->positions;
	uint64_t values = cells * unpu_kv_cell_bytes(head->kv_type, head->head_dim);
	uint64_t left = values + cells * unpu_kv_scale_bytes(head->kv_type, head->head_dim);
	uint64_t until = left - values;		/* what is left where the scales begin */
	uint32_t type = head->kv_type;
	uint8_t bytes[4096];

	while (left) {
		uint64_t most = left > until ? left - until : left;
		size_t n = most < sizeof(bytes) ? (size_t)most : sizeof(bytes);
		int ret = unpu_file_get(f, bytes, n);

		if (left <= until)
			type = DRM_UNPU_KV_F16;
		if (ret || !unpu_kv_values_fit(type, bytes, n))
			return ret ? ret : UNPU_FILE_DAMAGED;
		left -= n;
	}
	return 0;
}

static int parse_kv(const struct unpu_session_head *head, struct unpu_file *f)
{
	int ret = 0;

	if (!kv_known(head))
		return 0;
	unpu_file_begin(f, unpu_session_file_kv_bytes(head));
	for (uint64_t i = 0; i < 2ull * head->layers && !ret; i++)
		ret = parse_half(head, f);
	ret = ret ? ret : unpu_file_check(f);
	return !ret;
}

int unpu_session_file_parse(const void *data, size_t size, const struct unpu_log *log)
{
	struct unpu_session_file *file = malloc(sizeof(*file));
	struct unpu_file *f = malloc(sizeof(*f));
	int ret = -ENOMEM;

	if (!file || !f) {
		unpu_fail(log, ret, "no memory for a session file");
		goto out;
	}
	unpu_file_init_memory(f, data, size);
	ret = unpu_session_file_read(file, f, UINT32_MAX, MAX_TOKENS, log);
	if (!ret && file->head.flags & UNPU_FILE_KV)
		ret = parse_kv(&file->head, f);
	unpu_session_file_finish(file);
out:
	free(f);
	free(file);
	return ret;
}
