/* SPDX-License-Identifier: MIT */
/* Sampler settings, checked and written where the device reads them. */
#include <errno.h>
#include <string.h>

#include "runtime/session/session.h"

static bool between(float v, float low, float high)
{
	return v >= low && v <= high;	/* false for NaN */
}

int unpu_check_size(const struct unpu_log *log, size_t size, size_t want)
{
	return size == want ? 0 : unpu_fail(log, -EINVAL, "a params struct is %zu bytes long, not "
					    "%zu: its header is of another version", size, want);
}

int unpu_sampler_check(const struct unpu_log *log, const struct unpu_session_params *p)
{
	int ret = unpu_check_size(log, p->size, sizeof(*p));

	if (ret)
		return ret;
	if (!between(p->temperature, 0, 100))
		return unpu_fail(log, -EINVAL, "temperature must be 0 to 100");
	if (!between(p->top_p, 0, 1) || p->top_p == 0)
		return unpu_fail(log, -EINVAL, "top-p must be above 0 and up to 1");
	if (!between(p->min_p, 0, 1))
		return unpu_fail(log, -EINVAL, "min-p must be 0 to 1");
	if (!between(p->repeat_penalty, 0.01f, 100))
		return unpu_fail(log, -EINVAL, "repeat penalty must be 0.01 to 100");
	if (p->flags & ~UNPU_SESSION_NO_END)
		return unpu_fail(log, -EINVAL, "unknown session flags 0x%x", p->flags);
	return 0;
}

void unpu_sampler_write(struct unpu_session *s, const struct unpu_session_params *p)
{
	struct unpu_state_sampler *sampler = (void *)(s->window.ptr + s->work.state.offset +
						      unpu_state_samplers_offset());

	memset(sampler, 0, sizeof(*sampler));
	sampler->temperature = p->temperature;
	sampler->top_k = p->top_k;
	sampler->top_p = p->top_p;
	sampler->min_p = p->min_p;
	sampler->repeat_penalty = p->repeat_penalty;
	sampler->repeat_last_n = p->repeat_last_n;
	sampler->seed[0] = (uint32_t)p->seed;
	sampler->seed[1] = (uint32_t)(p->seed >> 32);
	if (!(p->flags & UNPU_SESSION_NO_END))
		sampler->num_eog = unpu_tokenizer_eog(s->model->tok, sampler->eog, UNPU_MAX_EOG);
	s->seed = p->seed;
	s->flags = p->flags;
}

int unpu_session_set_sampler(struct unpu_session *s, const struct unpu_session_params *params)
{
	int ret = unpu_sampler_check(&s->model->log, params);

	if (!ret)
		unpu_sampler_write(s, params);
	return ret;
}
