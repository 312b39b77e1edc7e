/* SPDX-License-Identifier: MIT */
#include "runtime/device/first_use.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Stands between a device and its caller; ops is what dev->ops points to, so that the calls which
 * are not looked at cost nothing. Every submit ends with a canary: a job that ended well was right.
 */
struct watch {
	struct unpu_device_ops ops;
	const struct unpu_device_ops *inner;
	struct unpu_first_use use;
	char key[UNPU_VERDICT_KEY];
	atomic_bool good, failed;
};

static struct watch *to_watch(const struct unpu_device *dev)
{
	return (struct watch *)(uintptr_t)dev->ops;	/* ops is the first member */
}

static int watch_query(struct unpu_device *dev, struct drm_unpu_ctx_query *args)
{
	struct watch *w = to_watch(dev);
	int err = w->inner->ctx_query(dev, args);

	if (err || args->failed_seqno || args->state != DRM_UNPU_CTX_OK) {
		/* What the caller asked wrongly, or took back, says nothing of the device. */
		if (!err && args->failed_errno != -ECANCELED)
			atomic_store(&w->failed, true);
		return err;
	}
	if (args->completed_seqno && !atomic_exchange(&w->good, true)) {
		unpu_verdict_good_put(&dev->log, w->use.id, w->key);
		unpu_marker_clear(w->use.id);
	}
	return 0;
}

/* Left alone it did no harm; after a failure the marker stays. */
static void watch_close(struct unpu_device *dev)
{
	struct watch *w = to_watch(dev);

	if (!atomic_load(&w->good) && !atomic_load(&w->failed))
		unpu_marker_clear(w->use.id);
	dev->ops = w->inner;
	w->inner->close(dev);
	free(w);
}

int unpu_first_use_watch(const struct unpu_first_use *use, const char *key,
			 struct unpu_device *dev)
{
	struct watch *w;

	if (!use->marked)
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->ops = *dev->ops;
	w->inner = dev->ops;
	w->ops.ctx_query = watch_query;
	w->ops.close = watch_close;
	w->use = *use;
	snprintf(w->key, sizeof(w->key), "%s", key);
	dev->ops = &w->ops;
	return 0;
}

static int mark(struct unpu_first_use *use, const struct unpu_log *log)
{
	int ret = unpu_marker_set(use->id);

	if (ret == -EBUSY)
		return unpu_fail(log, -ENODEV, "%s did not come back from its first use; "
				 "`unpu devices --retry` tests it again", use->id);
	use->marked = ret > 0;
	return 0;
}

int unpu_first_use_begin(struct unpu_first_use *use, const struct unpu_log *log, const char *id)
{
	char key[UNPU_VERDICT_KEY];

	*use = (struct unpu_first_use){ .marked = false };
	snprintf(use->id, sizeof(use->id), "%s", id);
	/* A good answer once given does not hide what came after it. */
	if (!unpu_verdict_good_get(log, id, key) && !unpu_marker_look(id))
		return 0;
	return mark(use, log);
}

int unpu_first_use_key(struct unpu_first_use *use, const struct unpu_log *log, const char *key)
{
	char known[UNPU_VERDICT_KEY];

	if (!unpu_verdict_good_get(log, use->id, known) && !strcmp(known, key)) {
		unpu_first_use_end(use);
		return 0;
	}
	return use->marked ? 0 : mark(use, log);
}

void unpu_first_use_end(struct unpu_first_use *use)
{
	if (use->marked)
		unpu_marker_clear(use->id);
	use->marked = false;
}
