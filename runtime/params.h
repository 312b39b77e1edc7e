/* SPDX-License-Identifier: MIT */
/*
 * Structs of the public API that begin with their size, from callers that were compiled with
 * another header. A field is only ever added at the end.
 */
#ifndef UNPU_PARAMS_H
#define UNPU_PARAMS_H

#include "runtime/log.h"

struct unpu_struct {
	const char *name;
	size_t size;		/* today's */
	/* What the first version had: fields added since may lie in what padded it. */
	size_t first_size, first_fields;
};

extern const struct unpu_struct unpu_model_params_struct, unpu_model_info_struct,
				unpu_tensor_info_struct, unpu_session_params_struct,
				unpu_session_info_struct;

/*
 * Fields that the caller's struct has go over those of `to`, which is today's and keeps its size.
 * -EINVAL: shorter than the first version; -E2BIG: it has fields that are not known here and say
 * something.
 */
int unpu_struct_read(const struct unpu_log *log, const struct unpu_struct *is, void *to,
		     const void *from);
/* `from` is today's; the caller's gets what it has room for, and 0 in fields not known here. */
int unpu_struct_write(const struct unpu_log *log, const struct unpu_struct *is, void *to,
		      const void *from);

#endif
