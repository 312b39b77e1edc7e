/* SPDX-License-Identifier: MIT */
#include "runtime/params.h"

#include <errno.h>
#include <string.h>

/* Room for many versions; a size above it is no size, and nothing that far away is read. */
#define MAX_SIZE	4096

#define UP_TO(type, field) \
	((offsetof(struct type, field) + _Alignof(struct type) - 1) / _Alignof(struct type) * \
	 _Alignof(struct type))
#define VERSIONED(type, added) \
	const struct unpu_struct type##_struct = { \
		.name = "struct " #type, \
		.size = sizeof(struct type), \
		.first_size = UP_TO(type, added), \
		.first_fields = offsetof(struct type, added), \
	}

/* With the first field that version 0.1 did not have. */
VERSIONED(unpu_model_params, progress);
VERSIONED(unpu_model_info, chat_template);
VERSIONED(unpu_session_params, frequency_penalty);
VERSIONED(unpu_session_info, kv);
/* Without a size in 0.1: it begins with this version. */
const struct unpu_struct unpu_tensor_info_struct = {
	.name = "struct unpu_tensor_info",
	.size = sizeof(struct unpu_tensor_info),
	.first_size = sizeof(struct unpu_tensor_info),
	.first_fields = sizeof(struct unpu_tensor_info),
};

static size_t size_of(const void *params)
{
	size_t size;

	memcpy(&size, params, sizeof(size));
	return size;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int check_size(const struct unpu_log *log, const struct unpu_struct *is, size_t size)
{
	if (size < is->first_size)
		return unpu_fail(log, -EINVAL, "%s is %zu bytes long and was never below %zu: its "
				 "first field must be its size", is->name, size, is->first_size);
	if (size > MAX_SIZE)
		return unpu_fail(log, -E2BIG, "%s is %zu bytes long and is %zu here: its first "
				 "field must be its size", is->name, size, is->size);
	return 0;
}

int unpu_struct_read(const struct unpu_log *log, const struct unpu_struct *is, void *to,
		     const void *from)
{
	size_t size = size_of(from), have = size;
	const char *bytes = from;
	int ret = check_size(log, is, size);

	if (ret)
		return ret;
	for (size_t i = is->size; i < size; i++)
		if (bytes[i])
			return unpu_fail(log, -E2BIG, "%s is of a newer header and says what this "
					 "library, version " UNPU_VERSION_STRING
					 ", does not know", is->name);
	if (size == is->first_size)
		have = is->first_fields;
	have = smaller(have, is->size);
	memcpy((char *)to + sizeof(size), bytes + sizeof(size), have - sizeof(size));
	return 0;
}

int unpu_struct_write(const struct unpu_log *log, const struct unpu_struct *is, void *to,
		      const void *from)
{
	size_t size = size_of(to), have = smaller(size, is->size);
	int ret = check_size(log, is, size);

	if (ret)
		return ret;
	memcpy((char *)to + sizeof(size), (const char *)from + sizeof(size), have - sizeof(size));
	memset((char *)to + have, 0, size - have);
	return 0;
}
