/* SPDX-License-Identifier: MIT */
/*
 * A session comes to a device and leaves one that fails. The first of a model's sessions to notice
 * takes the model along (home.c), the others follow when they next look.
 */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/session/session.h"

void unpu_session_enter(struct unpu_session *s)
{
	s->home = unpu_home_get(s->model);
	s->dev = s->home->dev;
	s->weights = s->home->weights;
}

/* ---- what a session has on a device ---------------------------------------------------------- */

static int create_ctx(struct unpu_session *s)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	int ret = s->dev->ops->ctx_create(s->dev, &ctx);

	if (ret)
		return ret;
	s->ctx_id = ctx.ctx_id;
	s->ctx_failed = false;
	s->busy_ns = 0;
	for (uint32_t i = 0; i < UNPU_MAX_FLIGHTS && !ret; i++)
		ret = s->dev->ops->syncobj_create(s->dev, &s->syncobjs[i]);
	return ret;
}

static void forget_device(struct unpu_session *s)
{
	s->evaluated = 0;
	s->logits_ready = false;
	s->row_ready = false;
}

int unpu_session_attach(struct unpu_session *s)
{
	int ret;

	forget_device(s);
	ret = unpu_session_shape(s);
	ret = ret ? ret : unpu_session_buffers(s);
	if (!ret) {
		s->attached = true;
		unpu_sampler_put(s);
		unpu_session_put(s, 0, s->tokens, s->used);
		s->decode_work = s->work;
		s->decode_work.shape.rows = 1;
		unpu_compiler_init(&s->compiler, s->weights, &s->work);
		unpu_compiler_init(&s->decode_compiler, s->weights, &s->decode_work);
		ret = create_ctx(s);
	}
	for (int i = 0; i < UNPU_PROGRAM_LOGITS && !ret; i++)
		ret = unpu_session_program(s, i, unpu_session_bucket(s, s->used));
	if (!ret && s->set.speculate && !s->pure)
		unpu_log(&s->model->log, UNPU_LOG_WARN, "%s: without drafts, for there a token's "
			 "logits depend on the tokens that run beside it", s->home->id);
	if (ret)
		unpu_session_detach(s);
	else
		atomic_store(&s->stop_word, (uint32_t *)&unpu_session_state(s)->stop);
	return ret;
}

/* A signal handler may have interrupted this thread at the stop word, but not the other way. */
static void take_stop_word(struct unpu_session *s)
{
	atomic_store(&s->stop_word, NULL);
	while (atomic_load(&s->at_stop))
		sched_yield();
}

static void destroy_programs(struct unpu_session *s)
{
	struct unpu_compiler *compilers[] = { &s->compiler, &s->decode_compiler,
					      &s->logits.compiler, &s->speculation.compiler };

	for (uint32_t i = 0; i < UNPU_NUM_PROGRAMS * UNPU_NUM_BUCKETS; i++) {
		uint32_t *id = &s->programs[i / UNPU_NUM_BUCKETS][i % UNPU_NUM_BUCKETS];
		struct drm_unpu_program_destroy args = { .program_id = *id };

		if (*id)
			s->dev->ops->program_destroy(s->dev, &args);
		*id = 0;
	}
	for (size_t i = 0; i < sizeof(compilers) / sizeof(compilers[0]); i++) {
		if (compilers[i]->weights)
			unpu_compiler_finish(compilers[i]);
		compilers[i]->weights = NULL;
	}
}

void unpu_session_detach(struct unpu_session *s)
{
	take_stop_word(s);
	destroy_programs(s);
	if (s->ctx_id) {
		struct drm_unpu_ctx_destroy args = { .ctx_id = s->ctx_id };

		s->dev->ops->ctx_destroy(s->dev, &args);
	}
	for (uint32_t i = 0; i < UNPU_MAX_FLIGHTS; i++) {
		if (s->syncobjs[i])
			s->dev->ops->syncobj_destroy(s->dev, s->syncobjs[i]);
		s->syncobjs[i] = 0;
	}
	s->ctx_id = s->in_flight = 0;
	unpu_area_destroy(s, &s->logits.area);
	unpu_area_destroy(s, &s->speculation.area);
	unpu_area_destroy(s, &s->kv);
	unpu_area_destroy(s, &s->scratch);
	unpu_area_destroy(s, &s->window);
	s->attached = false;
	forget_device(s);
}

/* ---- leaving --------------------------------------------------------------------------------- */

/* What an engine says of itself, "vulkan: ...", with which one it is. */
static void keep_said(struct unpu_session *s, const char *said)
{
	const char *id = s->home->id;
	size_t family = strcspn(id, ":"), length = strlen(id);

	if (!strncmp(said, id, length))
		snprintf(s->why, sizeof(s->why), "%s", said);
	else if (!strncmp(said, id, family) && said[family] == ':')
		snprintf(s->why, sizeof(s->why), "%s%s", id, said + family);
	else
		snprintf(s->why, sizeof(s->why), "%s: %s", id, said);
}

/* The first reason is the one: others follow from it. */
int unpu_session_blame(struct unpu_session *s, int err, const char *format, ...)
{
	char said[256], text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (s->home->last)
		return unpu_fail(&s->model->log, err, "%s", text);
	unpu_home_said(s->home, said);
	if (!s->blamed && said[0])
		keep_said(s, said);
	else if (!s->blamed)
		snprintf(s->why, sizeof(s->why), "%s", text);
	s->blamed = true;
	return err;
}

/* What the API says of devices that fail. */
static int as_job_error(int err)
{
	return err == -ENOMEM || err == -ENOSPC ? -ENOMEM : -EIO;
}

/* Errors of the next device were said; nothing is lost, and the next call tries it again. */
static int move(struct unpu_session *s)
{
	struct unpu_home *old = s->home;
	int ret = 0;

	unpu_session_detach(s);
	if (s->blamed || unpu_session_is_left(s))
		ret = unpu_home_leave(old, s->why);
	if (ret)
		return as_job_error(ret);
	if (s->blamed || unpu_session_is_left(s)) {
		unpu_session_enter(s);
		unpu_home_put(old);
	}
	s->blamed = false;
	ret = unpu_session_attach(s);
	return ret ? as_job_error(ret) : UNPU_MOVED;
}

int unpu_session_ready(struct unpu_session *s)
{
	return s->attached && !s->blamed && !unpu_session_is_left(s) ? 0 : move(s);
}

int unpu_session_settle(struct unpu_session *s, int ret)
{
	return s->blamed || unpu_session_is_left(s) ? move(s) : ret;
}

/*
 * A device that has room for none of the model's sessions is of no use to it. One that has no more
 * of it is, to those that have come.
 */
static bool may_leave(struct unpu_session *s, int err)
{
	if (unpu_session_is_left(s) || err == -ENODEV || err == -EIO || err == -ESTALE)
		return true;
	return (err == -ENOMEM || err == -ENOSPC || err == -EINVAL || err == -E2BIG ||
		err == -EOPNOTSUPP) && !unpu_home_is_shared(s->home);
}

int unpu_session_attach_first(struct unpu_session *s)
{
	char said[256];
	/* What the caller asks for and the device lacks is said, and is no reason to leave. */
	int ret = unpu_session_shape(s);

	if (ret)
		return ret;
	ret = unpu_session_attach(s);
	if (!ret || s->home->last)
		return ret;
	if (may_leave(s, ret)) {
		unpu_session_blame(s, ret, "%s failed: %s", s->dev->id, strerror(-ret));
		ret = move(s);
		return ret == UNPU_MOVED ? 0 : ret;
	}
	unpu_home_said(s->home, said);
	return unpu_fail(&s->model->log, ret, "%s", said[0] ? said : strerror(-ret));
}
