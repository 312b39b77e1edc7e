/* SPDX-License-Identifier: MIT */
#include "runtime/model/id.h"
#include "runtime/text/hash.h"

#define SAMPLE	64u	/* bytes of a tensor at each end */

static void add(uint64_t id[2], const void *data, size_t length)
{
	for (int i = 0; i < 2; i++) {
		const uint64_t key[2] = { id[i], (uint64_t)i };

		id[i] = unpu_hash_bytes(key, data, length);
	}
}

/* What comes before the data of all tensors: key-values and the table of tensors. */
static size_t header_bytes(const struct unpu_gguf *gguf)
{
	const uint8_t *data = unpu_gguf_data(gguf);
	uint64_t first = unpu_gguf_size(gguf);

	for (uint32_t i = 0; i < unpu_gguf_num_tensors(gguf); i++) {
		const struct unpu_tensor *t = unpu_gguf_tensor_at(gguf, i);

		if ((uint64_t)(t->data - data) < first)
			first = (uint64_t)(t->data - data);
	}
	return (size_t)first;
}

void unpu_model_id(const struct unpu_gguf *gguf, uint64_t id[2])
{
	uint64_t size = unpu_gguf_size(gguf);

	id[0] = id[1] = 0;
	add(id, &size, sizeof(size));
	add(id, unpu_gguf_data(gguf), header_bytes(gguf));
	for (uint32_t i = 0; i < unpu_gguf_num_tensors(gguf); i++) {
		const struct unpu_tensor *t = unpu_gguf_tensor_at(gguf, i);
		size_t n = t->bytes < SAMPLE ? (size_t)t->bytes : SAMPLE;

		add(id, t->data, n);
		add(id, t->data + t->bytes - n, n);
	}
}
