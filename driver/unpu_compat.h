/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows differences between kernels, as conftest.sh has found them. What every
 * kernel does alike is preferred: no drm_sched_start(), no .timedout_job, no own namespace imports.
 */
#ifndef UNPU_COMPAT_H
#define UNPU_COMPAT_H

#include <linux/kconfig.h>

#include <drm/drm_file.h>
#include <drm/gpu_scheduler.h>

#include "unpu_conftest.h"

/* DRIVER_COMPUTE_ACCEL excludes DRIVER_RENDER: a build makes one kind of node. */
#if IS_ENABLED(CONFIG_DRM_ACCEL) && !defined(UNPU_RENDER_NODE)
#define UNPU_ACCEL_NODE 1
#else
#define UNPU_ACCEL_NODE 0
#endif

/*
 * A scheduler whose jobs have no time limit of its own: 6.12 takes a job off its list when a
 * time-out finds it healthy, and has lost it then.
 */
static inline int unpu_sched_init(struct drm_gpu_scheduler *sched,
				  const struct drm_sched_backend_ops *ops,
				  struct workqueue_struct *submit_wq,
				  struct workqueue_struct *timeout_wq, u32 credits,
				  const char *name, struct device *dev)
{
#ifdef UNPU_HAVE_SCHED_INIT_ARGS
	const struct drm_sched_init_args args = {
		.ops = ops,
		.submit_wq = submit_wq,
		.timeout_wq = timeout_wq,
#ifdef UNPU_HAVE_SCHED_INIT_NUM_RQS
		.num_rqs = 1,
#endif
		.credit_limit = credits,
		.timeout = MAX_SCHEDULE_TIMEOUT,
		.name = name,
		.dev = dev,
	};

	return drm_sched_init(sched, &args);
#else
	return drm_sched_init(sched, ops, submit_wq, 1, credits, 0, MAX_SCHEDULE_TIMEOUT,
			      timeout_wq, NULL, name, dev);
#endif
}

static inline int unpu_sched_job_init(struct drm_sched_job *job, struct drm_sched_entity *entity,
				      const struct drm_file *file)
{
#ifdef UNPU_HAVE_SCHED_JOB_CLIENT_ID
	return drm_sched_job_init(job, entity, 1, NULL, file->client_id);
#else
	return drm_sched_job_init(job, entity, 1, NULL);
#endif
}

#endif
