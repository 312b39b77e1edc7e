/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "tools/unpu-vdev/worker.h"

static bool is_answered(uint32_t op)
{
	switch (op) {
	case UNPU_PROTO_BO_DESTROY:
	case UNPU_PROTO_SHADER_DESTROY:
	case UNPU_PROTO_PROGRAM_DESTROY:
		return false;
	}
	return true;	/* a JOB by its own event, an unknown one by an error */
}

static void create(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	int err;

	vdev_lock(w);
	err = command->pad ? -EINVAL : vdev_object_create(w, command);
	if (err)
		vdev_answer(w, command->tag, err,
			    command->op == UNPU_PROTO_PROGRAM_CREATE ? UINT32_MAX : 0);
	vdev_unlock(w);
}

static void destroy(struct vdev_worker *w, enum vdev_kind kind, uint32_t id)
{
	vdev_lock(w);
	vdev_object_destroy(w, kind, id);
	vdev_unlock(w);
}

static void ctx_create(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	int err = command->pad ? -EINVAL : vdev_ctx_create(w, command->id, &command->ctx);

	vdev_lock(w);
	vdev_answer(w, command->tag, err, 0);
	vdev_unlock(w);
}

static void unknown(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	vdev_log_rarely("unknown command %u", command->op);
	vdev_lock(w);
	vdev_answer(w, command->tag, -EOPNOTSUPP, 0);
	vdev_unlock(w);
}

static void dispatch(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	switch (command->op) {
	case UNPU_PROTO_BO_CREATE:
	case UNPU_PROTO_SHADER_CREATE:
	case UNPU_PROTO_PROGRAM_CREATE:
		create(w, command);
		break;
	case UNPU_PROTO_BO_DESTROY:
		destroy(w, VDEV_BO, command->id);
		break;
	case UNPU_PROTO_SHADER_DESTROY:
		destroy(w, VDEV_SHADER, command->id);
		break;
	case UNPU_PROTO_PROGRAM_DESTROY:
		destroy(w, VDEV_PROGRAM, command->id);
		break;
	case UNPU_PROTO_CTX_CREATE:
		ctx_create(w, command);
		break;
	case UNPU_PROTO_CTX_DESTROY:
		vdev_ctx_destroy(w, command->id, command->tag);
		break;
	case UNPU_PROTO_JOB:
		vdev_job_submit(w, command->id, &command->job);
		break;
	default:
		unknown(w, command);
	}
}

void vdev_command(struct vdev_worker *w, const struct unpu_proto_command *command)
{
	/* The slot of its event is kept before anything can make one; that it is taken is told when
	 * all is done that the driver must not see undone. */
	vdev_lock(w);
	w->link.due += is_answered(command->op);
	vdev_unlock(w);
	dispatch(w, command);
	vdev_lock(w);
	vdev_link_take(&w->link);
	vdev_unlock(w);
}
