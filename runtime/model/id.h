/* SPDX-License-Identifier: MIT */
/* Which model a file holds. */
#ifndef UNPU_MODEL_ID_H
#define UNPU_MODEL_ID_H

#include "runtime/model/gguf.h"

/*
 * Which model: the file's size, header (key-values, names and shapes) and both ends of each
 * tensor's data. An identity, not a signature: who wants two files to be alike can make them so.
 */
void unpu_model_id(const struct unpu_gguf *gguf, uint64_t id[2]);

#endif
