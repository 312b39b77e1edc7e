/* SPDX-License-Identifier: MIT */
/* The device for a model, for callers who must know it before the model's file is looked at. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core.h"
#include "runtime/device/choose.h"

/* The type that most bytes of the weights have. */
static uint32_t main_type(const struct unpu_gguf *gguf, uint64_t *bytes)
{
	uint64_t of_type[64] = { 0 };
	uint32_t best = 0;

	*bytes = 0;
	for (uint32_t i = 0; i < unpu_gguf_num_tensors(gguf); i++) {
		const struct unpu_tensor *t = unpu_gguf_tensor_at(gguf, i);

		*bytes += t->bytes;
		if (t->type < 64)
			of_type[t->type] += t->bytes;
	}
	for (uint32_t i = 1; i < 64; i++)
		if (of_type[i] > of_type[best])
			best = i;
	return best;
}

void unpu_core_shape(const struct unpu_model *m, bool class_f32, struct unpu_device_shape *shape)
{
	const struct unpu_hparams *hp = &m->arch->hp;

	*shape = (struct unpu_device_shape){
		.layers = hp->layers, .hidden = hp->hidden, .ffn = hp->ffn, .heads = hp->heads,
		.kv_heads = hp->kv_heads, .head_dim = hp->head_dim, .vocab = hp->vocab,
		.class_f32 = class_f32,
	};
	shape->type = main_type(m->gguf, &shape->bytes);
}

int64_t unpu_model_shape(const struct unpu_model *m, uint32_t flags, char *text, size_t max)
{
	struct unpu_device_shape shape;
	char words[UNPU_VERDICT_SHAPE], all[128];
	int n;

	if (flags & ~UNPU_MODEL_CLASS_F32)
		return unpu_fail(&m->log, -EINVAL, "unknown flags 0x%x of a shape", flags);
	if (!m->arch)
		return unpu_fail(&m->log, -ENOTSUP, "the model has no shape that is known");
	unpu_core_shape(m, flags & UNPU_MODEL_CLASS_F32, &shape);
	unpu_verdict_shape(&shape, words);
	n = snprintf(all, sizeof(all), "%s %llu", words, (unsigned long long)shape.bytes);
	if (max)
		snprintf(text, max, "%s", all);
	return n;
}

/* What unpu_model_shape() writes, and nothing else. */
static int read_shape(const char *text, struct unpu_device_shape *s)
{
	unsigned long long bytes;
	char words[UNPU_VERDICT_SHAPE], again[128];

	if (sscanf(text, "%10ux%10u+%10u:%10u/%10ux%10u:%10u:%10u.%1u %20llu", &s->layers,
		   &s->hidden, &s->ffn, &s->heads, &s->kv_heads, &s->head_dim, &s->vocab, &s->type,
		   &s->class_f32, &bytes) != 10)
		return -EINVAL;
	s->bytes = bytes;
	unpu_verdict_shape(s, words);
	snprintf(again, sizeof(again), "%s %llu", words, bytes);
	if (strcmp(text, again) || !s->layers || !s->hidden || !s->ffn || !s->kv_heads ||
	    s->heads < s->kv_heads || s->heads % s->kv_heads || !s->head_dim || !s->vocab)
		return -EINVAL;
	return 0;
}

int unpu_device_choose(const char *shape, uint32_t threads, unpu_log_fn *fn, void *arg,
		       char id[16])
{
	struct unpu_device_shape is;
	const struct unpu_device_params params = {
		.threads = threads, .shape = &is, .log = { fn, arg },
	};

	strcpy(id, "cpu");
	if (!UNPU_VULKAN && !UNPU_ACCEL)
		return 0;
	if (!shape)
		return unpu_choose_remembered(&params.log, NULL, id) ? 1 : 0;
	if (read_shape(shape, &is))
		return unpu_fail(&params.log, -EINVAL, "\"%s\" is not the shape of a model", shape);
	unpu_choose(&params, id);
	return 0;
}
