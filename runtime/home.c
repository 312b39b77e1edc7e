/* SPDX-License-Identifier: MIT */
/* The devices a model has lived on: the first is asked for, the next is always the cpu. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core.h"

static bool is_cpu(const char *id)
{
	return !strcmp(id, "cpu");
}

/* Where devices and weights of a home log, from any thread. */
static void home_log(void *arg, enum unpu_log_level level, const char *text)
{
	struct unpu_home *home = arg;
	bool kept = false;

	pthread_mutex_lock(&home->said_lock);
	if (level == UNPU_LOG_ERROR && home->keeps) {
		kept = true;
		if (!home->said[0])
			snprintf(home->said, sizeof(home->said), "%s", text);
	}
	pthread_mutex_unlock(&home->said_lock);
	if (!kept)
		unpu_log(&home->model->log, level, "%s", text);
}

static void home_keep(struct unpu_home *home, bool keeps)
{
	pthread_mutex_lock(&home->said_lock);
	home->keeps = keeps;
	pthread_mutex_unlock(&home->said_lock);
}

void unpu_home_said(struct unpu_home *home, char said[256])
{
	pthread_mutex_lock(&home->said_lock);
	memcpy(said, home->said, sizeof(home->said));
	home->said[0] = '\0';
	pthread_mutex_unlock(&home->said_lock);
}

/* ---- birth and death ----------------------------------------------------------------------- */

static struct unpu_home *home_create(struct unpu_model *m)
{
	struct unpu_home *home = calloc(1, sizeof(*home));

	if (!home) {
		unpu_fail(&m->log, -ENOMEM, "no memory for a device");
		return NULL;
	}
	home->model = m;
	pthread_mutex_init(&home->said_lock, NULL);
	atomic_init(&home->left, false);
	return home;
}

static void home_close(struct unpu_home *home)
{
	unpu_weights_destroy(home->weights);
	if (home->dev)
		home->dev->ops->close(home->dev);
	home->weights = NULL;
	home->dev = NULL;
}

static void home_destroy(struct unpu_home *home)
{
	home_close(home);
	pthread_mutex_destroy(&home->said_lock);
	free(home);
}

/* ---- opening ------------------------------------------------------------------------------- */

static int open_device(struct unpu_home *home, const char *id)
{
	struct unpu_model *m = home->model;
	struct unpu_device_shape shape;
	const struct unpu_device_params params = {
		.threads = m->threads, .clamp_threads = m->clamp, .shape = &shape,
		.log = { home_log, home },
	};

	unpu_core_shape(m, m->class_f32, &shape);
	return unpu_device_open(id, &params, &home->dev);
}

static int pack(struct unpu_home *home, unpu_progress_fn *progress, void *arg)
{
	struct unpu_model *m = home->model;
	const struct unpu_log log = { home_log, home };
	const struct unpu_pack_params params = {
		.class_f32 = m->class_f32,
		.mapping = m->map,
		.mapping_bytes = m->map_bytes,
		.gguf = m->gguf,
		.stamp = m->stamp,
		.isa = m->pack_for,
		.packed = m->packed,
		.packed_fd = m->packed_fd,
		.progress = progress,
		.progress_arg = arg,
	};
	int ret = unpu_weights_create(home->dev, m->arch, &params, &log, &home->weights);

	if (ret)
		return ret;
	snprintf(home->id, sizeof(home->id), "%s", home->dev->id);
	snprintf(home->name, sizeof(home->name), "%.*s", (int)sizeof(home->weights->info.name),
		 (const char *)home->weights->info.name);
	return 0;
}

/* With the device there. *why: what stands in the way, when it is not the caller. */
static int settle(struct unpu_home *home, unpu_progress_fn *progress, void *arg, char why[256])
{
	struct unpu_model *m = home->model;
	int ret;

	home->last = is_cpu(home->dev->id);
	home_keep(home, !home->last);
	ret = pack(home, progress, arg);
	unpu_home_said(home, why);
	if (ret)
		return ret;
	pthread_mutex_lock(&m->lock);
	home->next = m->home;
	m->home = home;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

int unpu_home_settle(struct unpu_model *m, struct unpu_device *dev, unpu_progress_fn *progress,
		     void *arg)
{
	struct unpu_home *home = home_create(m);
	char why[256];
	int ret;

	if (!home) {
		dev->ops->close(dev);
		return -ENOMEM;
	}
	home->dev = dev;
	dev->log = (struct unpu_log){ home_log, home };
	ret = settle(home, progress, arg, why);
	if (ret)
		home_destroy(home);
	if (ret && why[0])
		unpu_fail(&m->log, ret, "%s", why);
	return ret;
}

static bool asks_for_any(const char *id)
{
	return !id || !strcmp(id, "auto") || !strncmp(id, "auto:", 5);
}

int unpu_home_find(struct unpu_model *m, const char *id, unpu_progress_fn *progress, void *arg)
{
	struct unpu_home *home = home_create(m);
	char why[256];
	bool again;
	int ret;

	if (!home)
		return -ENOMEM;
	ret = open_device(home, id);
	if (ret) {
		home_destroy(home);
		return ret;
	}
	ret = settle(home, progress, arg, why);
	if (!ret)
		return 0;
	again = asks_for_any(id) && !home->last && ret != -ECANCELED;
	home_destroy(home);
	if (again) {
		unpu_log(&m->log, UNPU_LOG_WARN, "%s; going on on cpu", why);
		return unpu_home_find(m, "cpu", progress, arg);
	}
	if (why[0])
		unpu_fail(&m->log, ret, "%s", why);
	return ret;
}

void unpu_home_finish(struct unpu_model *m)
{
	struct unpu_home *home;

	while ((home = m->home)) {
		m->home = home->next;
		home_destroy(home);
	}
}

/* ---- sessions come and go ------------------------------------------------------------------ */

struct unpu_home *unpu_home_get(struct unpu_model *m)
{
	struct unpu_home *home;

	pthread_mutex_lock(&m->lock);
	home = m->home;
	home->users++;
	pthread_mutex_unlock(&m->lock);
	return home;
}

/* Nobody comes to a home that the model has left. */
void unpu_home_put(struct unpu_home *home)
{
	struct unpu_model *m = home->model;
	bool close;

	pthread_mutex_lock(&m->lock);
	close = !--home->users && home != m->home;
	pthread_mutex_unlock(&m->lock);
	if (close)
		home_close(home);
}

bool unpu_home_is_shared(struct unpu_home *home)
{
	bool shared;

	pthread_mutex_lock(&home->model->lock);
	shared = home->users > 1;
	pthread_mutex_unlock(&home->model->lock);
	return shared;
}

/*
 * Buffers go before the next device's are made, as far as sessions do not hold them yet; their jobs
 * do not count from here on, whatever they read.
 */
static int move(struct unpu_home *home)
{
	atomic_store(&home->left, true);
	unpu_weights_release(home->weights);
	return unpu_home_find(home->model, "cpu", NULL, NULL);
}

int unpu_home_leave(struct unpu_home *home, const char *why)
{
	struct unpu_model *m = home->model;
	bool moved = false;
	int ret = 0;

	pthread_mutex_lock(&m->moving);
	if (home == m->home) {	/* which changes under both locks */
		ret = move(home);
		moved = !ret;
	}
	pthread_mutex_unlock(&m->moving);
	if (moved)
		unpu_log(&m->log, UNPU_LOG_WARN, "%s; going on on cpu", why);
	return ret;
}
