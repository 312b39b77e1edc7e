/* SPDX-License-Identifier: MIT */
/* The life of a session. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/session/session.h"

#define DEFAULT_CONTEXT	2048u
/*
 * Prompt rows at once. SmolLM2-135M Q8_0, 512 tokens, 2 threads of a Xeon: 16 rows give 795
 * tokens/s, 32 914, 64 950; 64 cost twice the scratch.
 */
#define DEFAULT_BATCH	32u

/* A quarter of what the kernel says is available; 1 GiB where it does not say. */
static uint64_t memory_for_kv(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 4ull << 20;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * 1024 / 4;
}

static uint32_t default_context(const struct unpu_hparams *hp, uint32_t kv_type)
{
	uint64_t per_cell = hp->layers * unpu_kv_bytes(kv_type, hp->kv_heads, 1, 1, hp->head_dim);
	uint64_t room = memory_for_kv() / per_cell;
	uint32_t context = hp->context < DEFAULT_CONTEXT ? hp->context : DEFAULT_CONTEXT;

	if (room < UNPU_CHUNK)
		room = UNPU_CHUNK;
	return context < room ? context : (uint32_t)room / UNPU_CHUNK * UNPU_CHUNK;
}

static int set_shape(struct unpu_session *s, const struct unpu_session_params *p)
{
	const struct unpu_hparams *hp = &s->model->arch->hp;
	const struct drm_unpu_dev_info *info = &s->model->weights->info;
	struct unpu_shape *shape = &s->work.shape;
	struct unpu_shape want = { .slots = 1, .logit_rows = 1 };

	if ((uint32_t)p->kv > UNPU_KV_F32)
		return unpu_fail(&s->model->log, -EINVAL, "there is no KV type %u",
				 (uint32_t)p->kv);
	want.kv_type = p->kv == UNPU_KV_F32 ? DRM_UNPU_KV_F32 : DRM_UNPU_KV_F16;
	if (!(info->kv_types >> want.kv_type & 1))
		return unpu_fail(&s->model->log, -ENOTSUP, "%s has no %s KV cache", s->dev->id,
				 p->kv == UNPU_KV_F32 ? "f32" : "f16");
	if (p->context > hp->context)
		return unpu_fail(&s->model->log, -EINVAL,
				 "a context of %u is above the model's %u", p->context,
				 hp->context);
	s->context = p->context ? p->context : default_context(hp, want.kv_type);
	want.cells = (s->context + UNPU_CHUNK - 1) / UNPU_CHUNK * UNPU_CHUNK;
	want.chunks = want.cells / UNPU_CHUNK;
	s->batch = p->batch ? p->batch : DEFAULT_BATCH;
	if (s->batch > info->max_rows)
		s->batch = info->max_rows;
	if (s->batch > s->context)
		s->batch = s->context;
	want.rows = s->batch;
	*shape = want;
	unpu_work_sizes(s->model->arch, &want, &s->work);
	return 0;
}

static int create(struct unpu_session *s, const struct unpu_session_params *params)
{
	struct drm_unpu_ctx_create ctx = { .priority = DRM_UNPU_PRIORITY_NORMAL };
	int ret = unpu_sampler_check(&s->model->log, params);

	ret = ret ? ret : set_shape(s, params);
	ret = ret ? ret : unpu_session_buffers(s);
	if (ret)
		return ret;
	unpu_sampler_write(s, params);
	unpu_compiler_init(&s->compiler, s->model->weights, &s->work);
	ret = s->dev->ops->ctx_create(s->dev, &ctx);
	if (ret)
		return ret;
	s->ctx_id = ctx.ctx_id;
	ret = s->dev->ops->syncobj_create(s->dev, &s->syncobj);
	for (int i = 0; i < UNPU_PROGRAM_LOGITS && !ret; i++)
		ret = unpu_session_program(s, i);
	return ret;
}

int unpu_session_create(struct unpu_model *model, const struct unpu_session_params *params,
			struct unpu_session **session)
{
	struct unpu_session *s;
	int ret;

	if (!model->weights)
		return unpu_fail(&model->log, -EINVAL,
				 "the model was loaded for its tokenizer only");
	s = calloc(1, sizeof(*s));
	if (!s)
		return unpu_fail(&model->log, -ENOMEM, "no memory for a session");
	s->model = model;
	s->dev = model->dev;
	ret = create(s, params);
	if (ret)
		unpu_session_destroy(s);
	else
		*session = s;
	return ret;
}

void unpu_session_destroy(struct unpu_session *s)
{
	if (!s)
		return;
	for (int i = 0; i < UNPU_NUM_PROGRAMS; i++) {
		struct drm_unpu_program_destroy args = { .program_id = s->programs[i] };

		if (s->programs[i])
			s->dev->ops->program_destroy(s->dev, &args);
	}
	if (s->compiler.weights)
		unpu_compiler_finish(&s->compiler);
	if (s->logits_compiler.weights)
		unpu_compiler_finish(&s->logits_compiler);
	if (s->ctx_id) {
		struct drm_unpu_ctx_destroy args = { .ctx_id = s->ctx_id };

		s->dev->ops->ctx_destroy(s->dev, &args);
	}
	if (s->syncobj)
		s->dev->ops->syncobj_destroy(s->dev, s->syncobj);
	unpu_area_destroy(s, &s->logits_area);
	unpu_area_destroy(s, &s->kv);
	unpu_area_destroy(s, &s->scratch);
	unpu_area_destroy(s, &s->window);
	free(s);
}

int unpu_session_info(const struct unpu_session *s, struct unpu_session_info *info)
{
	int ret = unpu_check_size(&s->model->log, info->size, sizeof(*info));

	if (ret)
		return ret;
	info->context = s->context;
	info->used = s->used;
	info->seed = s->seed;
	info->kv_bytes = s->kv.bytes;
	info->work_bytes = s->window.bytes + s->scratch.bytes + s->logits_area.bytes;
	info->prompt_tokens = s->prompt_tokens;
	info->prompt_ns = s->prompt_ns;
	info->generated_tokens = s->generated_tokens;
	info->generate_ns = s->generate_ns;
	info->dispatches = s->decode_dispatches;
	return 0;
}
