/* SPDX-License-Identifier: MIT */
/* What stands behind struct unpu_model; shared by load.c, unpu.c and session/ only. */
#ifndef UNPU_CORE_H
#define UNPU_CORE_H

#include <stdatomic.h>

#include "runtime/device/device.h"
#include "runtime/log.h"
#include "runtime/model/arch.h"
#include "runtime/plan/pack.h"
#include "runtime/text/tokenizer.h"

struct unpu_model {
	struct unpu_log log;
	bool only_warn;			/* nothing that is said of the file is an error */
	void *map;			/* the file's pages; NULL: the caller's memory */
	uint64_t map_bytes;
	struct unpu_gguf *gguf;
	struct unpu_tokenizer *tok;
	struct unpu_arch *arch;		/* these three NULL: tokenizer only */
	struct unpu_device *dev;
	struct unpu_weights *weights;
	char *name, *arch_name;		/* NUL-terminated copies for unpu_model_info() */
	char **tensor_names;		/* likewise, one a tensor */
};

/* The name of the file's chat form; NULL: none that is known. */
const char *unpu_model_chat_form(const struct unpu_model *m);

#endif
