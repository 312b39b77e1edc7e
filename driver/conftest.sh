#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# conftest.sh OUTPUT CC FLAGS...: what the kernel's headers offer, one compilation each, into
# OUTPUT. Version numbers say nothing here: distributions and stable kernels bring later interfaces
# to earlier versions.
set -eu

out=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
: >"$dir/out"

compiles() {
	"$@" -Werror -fsyntax-only "$dir/conftest.c" >"$dir/log" 2>&1
}

# probe NAME WHEN <<END: where what follows compiles, UNPU_HAVE_NAME is defined.
probe() {
	name=$1 when=$2
	shift 2
	{
		echo '#include <linux/module.h>'
		cat
	} >"$dir/conftest.c"
	if compiles "$@"; then
		echo "#define UNPU_HAVE_$name 1 /* $when */" >>"$dir/out"
	else
		echo "/* no UNPU_HAVE_$name: $when */" >>"$dir/out"
	fi
}

need() {
	message=$1
	shift
	{
		echo '#include <linux/module.h>'
		cat
	} >"$dir/conftest.c"
	if ! compiles "$@"; then
		cat "$dir/log" >&2
		echo "unpu: $message" >&2
		exit 1
	fi
}

# Without this a broken compiler would read as a kernel that has nothing.
need 'the kernel headers do not compile; are they whole, and for this compiler?' "$@" <<'END'
END

need 'this kernel lacks what the driver needs: 6.12 or later, with CONFIG_DRM' "$@" <<'END'
#include <linux/workqueue.h>
#include <drm/drm_drv.h>
#include <drm/gpu_scheduler.h>
#if !IS_ENABLED(CONFIG_DRM)
#error CONFIG_DRM is off
#endif
void f(struct drm_gpu_scheduler *sched);
void f(struct drm_gpu_scheduler *sched)
{
	/* 6.8: work items in place of a thread; 6.12: offsets of files are unsigned. */
	drm_sched_wqueue_stop(sched);
	(void)FOP_UNSIGNED_OFFSET;
}
END

probe SCHED_INIT_ARGS '6.15 and some 6.12.y: arguments of drm_sched_init() in a struct' "$@" <<'END'
#include <drm/gpu_scheduler.h>
int f(struct drm_gpu_scheduler *sched);
int f(struct drm_gpu_scheduler *sched)
{
	const struct drm_sched_init_args args = { .credit_limit = 1 };

	return drm_sched_init(sched, &args);
}
END

probe SCHED_INIT_NUM_RQS 'gone after 6.18: number of run queues' "$@" <<'END'
#include <drm/gpu_scheduler.h>
struct drm_sched_init_args f(void);
struct drm_sched_init_args f(void)
{
	return (struct drm_sched_init_args){ .num_rqs = 1 };
}
END

probe SCHED_JOB_CLIENT_ID '6.17 and some 6.12.y: drm_sched_job_init() says for whom' "$@" <<'END'
#include <drm/gpu_scheduler.h>
int f(struct drm_sched_job *job);
int f(struct drm_sched_job *job)
{
	return drm_sched_job_init(job, NULL, 1, NULL, 7ULL);
}
END

{
	echo '/* Made by conftest.sh. */'
	cat "$dir/out"
} >"$out"
