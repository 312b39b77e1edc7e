/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM unpu

#if !defined(UNPU_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define UNPU_TRACE_H

#include <linux/tracepoint.h>

#include "unpu_drv.h"

/*
 * The life of a job: submit, run, then done or, before it, timeout. The device's: lost, reset.
 * `ctx` is the number that the device knows the context by.
 */
DECLARE_EVENT_CLASS(unpu_job,
		    TP_PROTO(const struct unpu_ctx *ctx, u64 seqno, int error, u64 ns),
		    TP_ARGS(ctx, seqno, error, ns),
		    TP_STRUCT__entry(__string(dev, dev_name(ctx->udev->drm.dev))
				     __field(u32, ctx)
				     __field(int, error)
				     __field(u64, seqno)
				     __field(u64, ns)),
		    TP_fast_assign(__assign_str(dev);
				   __entry->ctx = ctx->hw_id;
				   __entry->error = error;
				   __entry->seqno = seqno;
				   __entry->ns = ns;),
		    TP_printk("dev=%s ctx=%u seqno=%llu error=%d ns=%llu", __get_str(dev),
			      __entry->ctx, __entry->seqno, __entry->error, __entry->ns));

/* ns: 0 */
DEFINE_EVENT(unpu_job, unpu_job_submit,
	     TP_PROTO(const struct unpu_ctx *ctx, u64 seqno, int error, u64 ns),
	     TP_ARGS(ctx, seqno, error, ns));

/* ns: from SUBMIT until now */
DEFINE_EVENT(unpu_job, unpu_job_run,
	     TP_PROTO(const struct unpu_ctx *ctx, u64 seqno, int error, u64 ns),
	     TP_ARGS(ctx, seqno, error, ns));

/* ns: time that the job has run */
DEFINE_EVENT(unpu_job, unpu_job_done,
	     TP_PROTO(const struct unpu_ctx *ctx, u64 seqno, int error, u64 ns),
	     TP_ARGS(ctx, seqno, error, ns));

/* ns: from when it was the device's turn until now */
DEFINE_EVENT(unpu_job, unpu_job_timeout,
	     TP_PROTO(const struct unpu_ctx *ctx, u64 seqno, int error, u64 ns),
	     TP_ARGS(ctx, seqno, error, ns));

DECLARE_EVENT_CLASS(unpu_device,
		    TP_PROTO(const struct unpu_device *udev, int epoch, int error),
		    TP_ARGS(udev, epoch, error),
		    TP_STRUCT__entry(__string(dev, dev_name(udev->drm.dev))
				     __field(int, epoch)
				     __field(int, error)),
		    TP_fast_assign(__assign_str(dev);
				   __entry->epoch = epoch;
				   __entry->error = error;),
		    TP_printk("dev=%s epoch=%d error=%d", __get_str(dev), __entry->epoch,
			      __entry->error));

/* epoch: the new one; error: -ENODEV when the device is removed */
DEFINE_EVENT(unpu_device, unpu_device_lost,
	     TP_PROTO(const struct unpu_device *udev, int epoch, int error),
	     TP_ARGS(udev, epoch, error));

/* error: 0 when it works again */
DEFINE_EVENT(unpu_device, unpu_device_reset,
	     TP_PROTO(const struct unpu_device *udev, int epoch, int error),
	     TP_ARGS(udev, epoch, error));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE unpu_trace
#include <trace/define_trace.h>
