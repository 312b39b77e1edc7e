/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <string.h>

#include "runtime/text/hash.h"
#include "tests/lib/session_file.h"

/* Offsets of the head's numbers. */
enum {
	FLAGS = 12, NUM_TOKENS = 36, NUM_BIAS = 40, STOP_BYTES = 48, KV_TYPE = 96, LAYERS = 104,
	KV_HEADS = 108, HEAD_DIM = 112, POSITIONS = 116, HEAD_BYTES = 128,
};

struct sealing {
	uint8_t *data;
	uint64_t size, at, sum;
};

static uint32_t number(const struct sealing *s, uint32_t at)
{
	uint32_t v = 0;

	if (at + 4 <= s->size)
		memcpy(&v, s->data + at, 4);
	return v;
}

static void seal_part(struct sealing *s, uint64_t bytes)
{
	while (bytes && s->at < s->size) {
		uint64_t n = bytes < 65536 ? bytes : 65536;
		const uint64_t key[2] = { s->sum, 0x756e707573657373u };

		if (n > s->size - s->at) {
			s->at = s->size;
			return;
		}
		s->sum = unpu_hash_bytes(key, s->data + s->at, (size_t)n);
		s->at += n;
		bytes -= n;
	}
	if (s->size - s->at >= 8)
		memcpy(s->data + s->at, &s->sum, 8);
	s->at += 8;
}

static uint64_t kv_bytes(const struct sealing *s)
{
	uint64_t d = number(s, HEAD_DIM), cell;

	switch (number(s, KV_TYPE)) {
	case 0:
		cell = 4 * d;
		break;
	case 1:
		cell = 2 * d;
		break;
	default:
		cell = d + ((d + 31) / 32 + 1) / 2 * 2 * 2;
	}
	if (d > 256 || number(s, LAYERS) > 65536 || number(s, KV_HEADS) > 1024)
		return UINT64_MAX;
	if (number(s, POSITIONS) > 1u << 20)
		return UINT64_MAX;
	return 2 * cell * number(s, LAYERS) * number(s, KV_HEADS) * number(s, POSITIONS);
}

uint64_t session_file_seal(uint8_t *data, size_t size)
{
	struct sealing s = { data, size, 0, 0 };
	uint64_t body = 4ull * number(&s, NUM_TOKENS) + 8ull * number(&s, NUM_BIAS) +
			number(&s, STOP_BYTES);
	uint64_t total = HEAD_BYTES + 8 + body + 8;
	bool has_kv = number(&s, FLAGS) & 1;
	uint64_t kv = has_kv ? kv_bytes(&s) : 0;

	seal_part(&s, HEAD_BYTES);
	if (s.at < s.size)
		seal_part(&s, body);
	if (s.at < s.size && has_kv)
		seal_part(&s, kv);
	if (!has_kv)
		return total;
	return kv == UINT64_MAX ? kv : total + kv + 8;
}
