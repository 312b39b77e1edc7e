/* SPDX-License-Identifier: MIT */
/*
 * What may wait for the device itself, with a limit. Calls that a device which stands still does
 * not answer can only be ended with the thread that is in them, and that only with the process: so
 * it is a thread of its own, which is left behind and ends by itself when the device does answer.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/accel/accel.h"
#include "runtime/device/kat.h"
#include "runtime/device/trial.h"

#define SIGN_OF_LIFE_NS	5000000000ull
/* A processor under emulation, as in tests, is a hundred times slower than a board. */
#define TEST_NS		300000000000ull
/* Of a job in a test: some milliseconds of work. */
#define TEST_JOB_NS	20000000000ull

struct errand {
	int (*fn)(struct errand *errand);
	uint32_t index, threads;
	struct unpu_device_shape shape;
	/* What comes of it. */
	struct unpu_device *dev;
	struct unpu_verdict verdict;
	char said[200];		/* the first error */
	int err;

	pthread_mutex_t lock;	/* these two */
	bool ended, left;
	pthread_cond_t end;
};

static void errand_free(struct errand *e)
{
	if (e->dev)
		e->dev->ops->close(e->dev);
	pthread_cond_destroy(&e->end);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void *errand_thread(void *arg)
{
	struct errand *e = arg;
	bool left;

	e->err = e->fn(e);
	pthread_mutex_lock(&e->lock);
	e->ended = true;
	left = e->left;
	pthread_cond_signal(&e->end);
	pthread_mutex_unlock(&e->lock);
	if (left)
		errand_free(e);
	return NULL;
}

/* Nobody's log is called from a thread that may be left behind. */
static void keep_why(void *arg, enum unpu_log_level level, const char *text)
{
	struct unpu_verdict *verdict = arg;

	if (level == UNPU_LOG_ERROR && !verdict->why[0])
		snprintf(verdict->why, sizeof(verdict->why), "%s", text);
}

static void keep_said(void *arg, enum unpu_log_level level, const char *text)
{
	struct errand *e = arg;

	if (level == UNPU_LOG_ERROR && !e->said[0])
		snprintf(e->said, sizeof(e->said), "%s", text);
}

static struct errand *errand_create(int (*fn)(struct errand *), uint32_t index)
{
	struct errand *e = calloc(1, sizeof(*e));
	pthread_condattr_t attr;

	if (!e)
		return NULL;
	if (pthread_condattr_init(&attr)) {
		free(e);
		return NULL;
	}
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->end, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&e->lock, NULL);
	e->fn = fn;
	e->index = index;
	return e;
}

/* 0: it has ended, and is the caller's again; -ETIMEDOUT: it is not; -ENOMEM: it never began. */
static int errand_run(struct errand *e, uint64_t limit_ns)
{
	uint64_t until = unpu_rig_now() + limit_ns;
	const struct timespec at = { (time_t)(until / 1000000000), (long)(until % 1000000000) };
	sigset_t all, old;
	pthread_t thread;
	bool ended;
	int err;

	/* The process's signals are for the threads of its program. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, NULL, errand_thread, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err)
		return -ENOMEM;
	pthread_mutex_lock(&e->lock);
	while (!e->ended && !err)
		err = pthread_cond_timedwait(&e->end, &e->lock, &at);
	ended = e->ended;
	e->left = !ended;
	pthread_mutex_unlock(&e->lock);
	if (ended)
		pthread_join(thread, NULL);
	else
		pthread_detach(thread);
	return ended ? 0 : -ETIMEDOUT;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* A context is the least that the device itself is asked for. */
static int open_and_ask(struct errand *e)
{
	const struct unpu_log log = { keep_said, e };
	struct drm_unpu_ctx_create create = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	struct drm_unpu_ctx_destroy destroy = { 0 };
	int err = unpu_accel_client_create(e->index, 0, &log, &e->dev);

	if (err)
		return err;
	err = e->dev->ops->ctx_create(e->dev, &create);
	destroy.ctx_id = create.ctx_id;
	return err ? err : e->dev->ops->ctx_destroy(e->dev, &destroy);
}

/* A node whose device is alive. -errno: why is said to log. */
static int open_alive(uint32_t index, const struct unpu_log *log, struct unpu_device **dev)
{
	struct errand *e = errand_create(open_and_ask, index);
	int err = e ? errand_run(e, SIGN_OF_LIFE_NS) : -ENOMEM;

	if (err == -ETIMEDOUT)
		return unpu_fail(log, err, "accel:%u does not answer: the device process stands "
				 "still", index);
	if (err)
		unpu_fail(log, err, "no memory for accel:%u", index);
	else if ((err = e->err))
		unpu_fail(log, err, "%s", e->said[0] ? e->said : strerror(-err));
	if (!err) {
		*dev = e->dev;
		e->dev = NULL;
	}
	if (e)
		errand_free(e);
	return err;
}

int unpu_accel_device_open(uint32_t index, const struct unpu_device_params *params,
			   struct unpu_device **dev)
{
	int err = open_alive(index, &params->log, dev);

	if (!err)
		(*dev)->log = params->log;
	return err;
}

/* ---- trying out ---------------------------------------------------------------------------- */

/* Right: 0. A wrong answer is a verdict, what the device could not do today is none. */
static int compare(struct errand *e, struct unpu_device *cpu)
{
	const struct unpu_kat_params kat = { .shape = &e->shape };
	struct unpu_verdict *v = &e->verdict;
	int err = unpu_trial_run(cpu, &e->shape, &v->cpu_ns);

	err = err ? err : unpu_kat_run(e->dev, cpu, &kat, v->why, sizeof(v->why));
	if (err == -EBADMSG)
		return 0;
	err = err ? err : unpu_trial_run(e->dev, &e->shape, &v->device_ns);
	if (err) {
		snprintf(v->why, sizeof(v->why), "%.120s", e->said[0] ? e->said : strerror(-err));
		return err == -ENOTSUP ? 0 : err;
	}
	v->why[0] = '\0';
	v->use = v->device_ns < v->cpu_ns;
	if (!v->use)
		snprintf(v->why, sizeof(v->why), "not faster than the cpu: %.2f ms a token, the "
			 "cpu %.2f", (double)v->device_ns / 1e6, (double)v->cpu_ns / 1e6);
	return 0;
}

static int test(struct errand *e)
{
	const struct unpu_log log = { keep_said, e };
	const struct unpu_device_params params = { .threads = e->threads, .log = log };
	struct unpu_device *cpu;
	int err = unpu_accel_client_create(e->index, TEST_JOB_NS, &log, &e->dev);

	err = err ? err : unpu_cpu_device_open(&params, &cpu);
	if (err) {
		snprintf(e->verdict.why, sizeof(e->verdict.why), "%.120s",
			 e->said[0] ? e->said : strerror(-err));
		return err;
	}
	err = compare(e, cpu);
	cpu->ops->close(cpu);
	return err;
}

int unpu_accel_test(uint32_t index, uint32_t threads, const struct unpu_device_shape *shape,
		    struct unpu_verdict *verdict)
{
	const struct unpu_log log = { keep_why, verdict };
	struct unpu_device *dev;
	struct errand *e;
	int err;

	*verdict = (struct unpu_verdict){ 0 };
	err = open_alive(index, &log, &dev);
	if (err)
		return err;
	dev->ops->close(dev);
	e = errand_create(test, index);
	if (!e)
		return unpu_fail(&log, -ENOMEM, "%s", strerror(ENOMEM));
	e->threads = threads;
	e->shape = *shape;
	err = errand_run(e, TEST_NS);
	if (err == -ETIMEDOUT)	/* it is the thread's from here on */
		return unpu_fail(&log, err, "did not come to the end of its trial within %llu s",
				 (unsigned long long)(TEST_NS / 1000000000));
	if (!err) {
		*verdict = e->verdict;
		err = e->err;
	} else {
		unpu_fail(&log, err, "%s", strerror(-err));
	}
	errand_free(e);
	return err;
}
