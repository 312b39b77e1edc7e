/* SPDX-License-Identifier: MIT */
/* What stands behind struct unpu_model; shared by load.c, home.c, unpu.c and session/ only. */
#ifndef UNPU_CORE_H
#define UNPU_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/device/device.h"
#include "runtime/log.h"
#include "runtime/model/arch.h"
#include "runtime/plan/pack.h"
#include "runtime/text/tokenizer.h"

/*
 * Where a model's programs run: a device and the weights packed for it. When the device fails, the
 * model leaves for a home on the cpu. Sessions follow one by one, each when it notices; the last
 * one closes the old device.
 */
struct unpu_home {
	struct unpu_model *model;
	struct unpu_home *next;		/* those before it */
	struct unpu_device *dev;	/* NULL: closed */
	struct unpu_weights *weights;
	uint32_t users;			/* sessions; under model->lock */
	atomic_bool left;		/* nothing that the device does from now on counts */
	bool last;			/* there is no other device to leave for */
	/* What a device says that may yet be left is no error: the first sentence is kept. */
	pthread_mutex_t said_lock;
	bool keeps;
	char said[256];
	char id[16], name[64];		/* of the device, live as long as the model */
};

struct unpu_model {
	struct unpu_log log;
	bool only_warn;			/* nothing that is said of the file is an error */
	void *map;			/* the file's pages; NULL: the caller's memory */
	uint64_t map_bytes;
	struct unpu_packed_stamp stamp;
	bool packed;			/* only while it is loaded: */
	int packed_fd;
	struct unpu_gguf *gguf;
	struct unpu_tokenizer *tok;
	struct unpu_arch *arch;		/* these three NULL: tokenizer only */
	uint32_t threads;
	bool clamp;
	const struct unpu_cpu_isa *pack_for;
	bool class_f32;
	pthread_mutex_t lock;		/* `home`, homes' users; nothing is called under it */
	pthread_mutex_t moving;		/* held while the model leaves a device */
	struct unpu_home *home;		/* where it is now; NULL: not loaded to run */
	char *name, *arch_name;		/* NUL-terminated copies for unpu_model_info() */
	char **tensor_names;		/* likewise, one a tensor */
};

/* What devices are compared by. The model has an architecture. choose.c */
void unpu_core_shape(const struct unpu_model *m, bool class_f32, struct unpu_device_shape *shape);

/* The name of the file's chat form; NULL: none that is known. */
const char *unpu_model_chat_form(const struct unpu_model *m);

/* ---- home.c ---- */

/*
 * The model's home on a device that was opened for it (which is taken over, on error too), or on
 * the one that `id` names: m->home. Progress may be NULL. Errors as unpu_device_open() and
 * unpu_weights_create(), said.
 */
int unpu_home_settle(struct unpu_model *m, struct unpu_device *dev, unpu_progress_fn *progress,
		     void *arg);
int unpu_home_find(struct unpu_model *m, const char *id, unpu_progress_fn *progress, void *arg);
/* All of them, when no session is left. */
void unpu_home_finish(struct unpu_model *m);

/* Where the model is now, for one more session; ends with unpu_home_put(). */
struct unpu_home *unpu_home_get(struct unpu_model *m);
void unpu_home_put(struct unpu_home *home);
/* By more than one session. */
bool unpu_home_is_shared(struct unpu_home *home);
/*
 * The device of this home failed: the model leaves it, once, whoever asks, with `why` as the one
 * warning. 0: it is elsewhere; else the error of what was to be the next home, said.
 */
int unpu_home_leave(struct unpu_home *home, const char *why);
/* Takes what the device has said, as far as it was kept; "": nothing. */
void unpu_home_said(struct unpu_home *home, char said[256]);

#endif
