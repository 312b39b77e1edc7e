/* SPDX-License-Identifier: MIT */
/* Files of packed weights: --packed and --cache. */
#ifndef UNPU_TOOL_PACKED_H
#define UNPU_TOOL_PACKED_H

#include <sys/stat.h>

#include "tools/unpu/commands.h"

/*
 * Before the sandbox: the file of --packed, or that of --cache for the model, whose file st is of;
 * *fd is -1 where there is none. What --cache cannot do is said and no error.
 */
int packed_open(const struct settings *settings, int model, const struct stat *st, int *fd);
/* The model is loaded, or NULL, not: the file that --cache is to make. */
void packed_keep(struct unpu_model *model);

#endif
