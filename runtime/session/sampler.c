/* SPDX-License-Identifier: MIT */
/* Sampler settings, checked and written where the device reads them. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "runtime/session/session.h"
#include "runtime/text/utf8.h"

_Static_assert(UNPU_MAX_BIAS == UNPU_STATE_MAX_BIAS, "the state buffer holds what the API takes");

static bool between(float v, float low, float high)
{
	return v >= low && v <= high;	/* false for NaN */
}

static int check_numbers(const struct unpu_log *log, const struct unpu_session_params *p)
{
	if (!between(p->temperature, 0, 100))
		return unpu_fail(log, -EINVAL, "temperature must be 0 to 100");
	if (!between(p->top_p, 0, 1) || p->top_p == 0)
		return unpu_fail(log, -EINVAL, "top-p must be above 0 and up to 1");
	if (!between(p->min_p, 0, 1))
		return unpu_fail(log, -EINVAL, "min-p must be 0 to 1");
	if (!between(p->repeat_penalty, 0.01f, 100))
		return unpu_fail(log, -EINVAL, "repeat penalty must be 0.01 to 100");
	if (!between(p->frequency_penalty, -100, 100))
		return unpu_fail(log, -EINVAL, "frequency penalty must be -100 to 100");
	if (!between(p->presence_penalty, -100, 100))
		return unpu_fail(log, -EINVAL, "presence penalty must be -100 to 100");
	if (p->speculate > UNPU_MAX_SPECULATE)
		return unpu_fail(log, -EINVAL, "%u speculated tokens are more than %u",
				 p->speculate, UNPU_MAX_SPECULATE);
	if (p->flags & ~UNPU_SESSION_NO_END)
		return unpu_fail(log, -EINVAL, "unknown session flags 0x%x", p->flags);
	return 0;
}

static int check_bias(const struct unpu_log *log, uint32_t vocab,
		      const struct unpu_session_params *p)
{
	if (p->num_bias > UNPU_MAX_BIAS)
		return unpu_fail(log, -EINVAL, "%u logit biases are more than %d", p->num_bias,
				 UNPU_MAX_BIAS);
	if (p->num_bias && !p->bias)
		return unpu_fail(log, -EINVAL, "%u logit biases without a list of them",
				 p->num_bias);
	for (uint32_t i = 0; i < p->num_bias; i++) {
		uint32_t id = p->bias[i].id;

		if (id >= vocab)
			return unpu_fail(log, -EINVAL,
					 "logit bias of token %u is outside the vocabulary of %u",
					 id, vocab);
		if (!between(p->bias[i].bias, -100, 100) && p->bias[i].bias != -INFINITY)
			return unpu_fail(log, -EINVAL,
					 "logit bias of token %u must be -100 to 100 or -infinity",
					 id);
		for (uint32_t j = 0; j < i; j++)
			if (p->bias[j].id == id)
				return unpu_fail(log, -EINVAL,
						 "token %u has two logit biases", id);
	}
	return 0;
}

static bool is_utf8(const char *text, size_t length)
{
	uint32_t code;

	for (size_t n; length; text += n, length -= n) {
		n = unpu_utf8_decode(text, length, &code);
		if (!n)
			return false;
	}
	return true;
}

static int check_stop(const struct unpu_log *log, const struct unpu_session_params *p)
{
	if (p->num_stop > UNPU_MAX_STOP)
		return unpu_fail(log, -EINVAL, "%u stop strings are more than %d", p->num_stop,
				 UNPU_MAX_STOP);
	if (p->num_stop && !p->stop)
		return unpu_fail(log, -EINVAL, "%u stop strings without a list of them",
				 p->num_stop);
	for (uint32_t i = 0; i < p->num_stop; i++) {
		const char *text = p->stop[i];
		size_t length = text ? strnlen(text, UNPU_MAX_STOP_LENGTH + 1) : 0;

		if (!length || length > UNPU_MAX_STOP_LENGTH)
			return unpu_fail(log, -EINVAL, "a stop string must be 1 to %d bytes long",
					 UNPU_MAX_STOP_LENGTH);
		if (!is_utf8(text, length))
			return unpu_fail(log, -EINVAL, "a stop string is not UTF-8");
	}
	return 0;
}

int unpu_sampler_read(const struct unpu_model *m, const struct unpu_log *log,
		      const struct unpu_session_params *from, struct unpu_session_params *p)
{
	int ret;

	*p = (struct unpu_session_params)UNPU_SESSION_PARAMS_INIT;
	ret = unpu_struct_read(log, &unpu_session_params_struct, p, from);
	ret = ret ? ret : check_numbers(log, p);
	ret = ret ? ret : check_bias(log, m->arch->hp.vocab, p);
	return ret ? ret : check_stop(log, p);
}

/* What p points to may be what the session has already, in another order. */
static void keep_params(struct unpu_session *s, const struct unpu_session_params *p)
{
	char text[UNPU_MAX_STOP][UNPU_MAX_STOP_LENGTH + 1];

	s->set = *p;
	if (p->num_bias)
		memmove(s->bias, p->bias, p->num_bias * sizeof(*p->bias));
	s->set.bias = s->bias;
	for (uint32_t i = 0; i < p->num_stop; i++) {
		s->stop_length[i] = strlen(p->stop[i]);
		memcpy(text[i], p->stop[i], s->stop_length[i] + 1);
	}
	for (uint32_t i = 0; i < p->num_stop; i++)
		s->stop[i] = memcpy(s->stop_text[i], text[i], s->stop_length[i] + 1);
	s->set.stop = s->stop;
}

/* The device ends a text at as many of them as it holds, the host at all (generate.c). */
static uint32_t write_eog(const struct unpu_session *s, uint32_t eog[UNPU_MAX_EOG])
{
	uint32_t count = unpu_tokenizer_eog(s->model->tok, eog, UNPU_MAX_EOG);

	return count < UNPU_MAX_EOG ? count : UNPU_MAX_EOG;
}

void unpu_sampler_put(struct unpu_session *s)
{
	const struct unpu_session_params *p = &s->set;
	struct unpu_state_sampler *sampler = (void *)(s->window.ptr + s->work.state.offset +
						      unpu_state_samplers_offset());

	memset(sampler, 0, sizeof(*sampler));
	sampler->temperature = p->temperature;
	sampler->top_k = p->top_k;
	sampler->top_p = p->top_p;
	sampler->min_p = p->min_p;
	sampler->repeat_penalty = p->repeat_penalty;
	sampler->repeat_last_n = p->repeat_last_n;
	sampler->frequency_penalty = p->frequency_penalty;
	sampler->presence_penalty = p->presence_penalty;
	sampler->seed[0] = (uint32_t)p->seed;
	sampler->seed[1] = (uint32_t)(p->seed >> 32);
	if (!(p->flags & UNPU_SESSION_NO_END))
		sampler->num_eog = write_eog(s, sampler->eog);
	sampler->num_bias = p->num_bias;
	for (uint32_t i = 0; i < p->num_bias; i++)
		sampler->bias[i] = (struct unpu_state_bias){ s->bias[i].id, s->bias[i].bias };
}

void unpu_sampler_write(struct unpu_session *s, const struct unpu_session_params *p)
{
	keep_params(s, p);
	if (s->attached)
		unpu_sampler_put(s);
}

int unpu_session_set_sampler(struct unpu_session *s, const struct unpu_session_params *params)
{
	struct unpu_session_params p;
	int ret = unpu_sampler_read(s->model, &s->model->log, params, &p);

	if (ret)
		return ret;
	p.context = s->set.context;
	p.kv = s->set.kv;
	p.batch = s->set.batch;
	p.speculate = s->set.speculate;
	p.progress = s->set.progress;
	p.progress_arg = s->set.progress_arg;
	unpu_sampler_write(s, &p);
	return 0;
}

int unpu_session_sampler(const struct unpu_session *s, struct unpu_session_params *params)
{
	return unpu_struct_write(&s->model->log, &unpu_session_params_struct, params, &s->set);
}
