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

static const struct {
	uint32_t type;	/* enum drm_unpu_kv_type */
	const char *name;
} kv_types[] = {
	[UNPU_KV_F16] = { DRM_UNPU_KV_F16, "f16" },
	[UNPU_KV_F32] = { DRM_UNPU_KV_F32, "f32" },
	[UNPU_KV_INT8] = { DRM_UNPU_KV_INT8, "int8" },
};

static int set_shape(struct unpu_session *s, const struct unpu_session_params *p)
{
	const struct unpu_hparams *hp = &s->model->arch->hp;
	const struct drm_unpu_dev_info *info = &s->model->weights->info;
	struct unpu_shape *shape = &s->work.shape;
	struct unpu_shape want = { .slots = 1, .logit_rows = 1 };

	if ((uint32_t)p->kv >= sizeof(kv_types) / sizeof(kv_types[0]))
		return unpu_fail(&s->model->log, -EINVAL, "there is no KV type %u",
				 (uint32_t)p->kv);
	s->kv_type = p->kv ? p->kv : UNPU_KV_F16;
	want.kv_type = kv_types[s->kv_type].type;
	if (!(info->kv_types >> want.kv_type & 1))
		return unpu_fail(&s->model->log, -ENOTSUP, "%s has no %s KV cache", s->dev->id,
				 kv_types[s->kv_type].name);
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
	struct unpu_session_params p;
	int ret = unpu_sampler_read(s->model, params, &p);

	ret = ret ? ret : set_shape(s, &p);
	ret = ret ? ret : unpu_session_buffers(s);
	if (ret)
		return ret;
	unpu_sampler_write(s, &p);
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
	free(s->text.bytes);
	free(s);
}

int unpu_session_info(const struct unpu_session *s, struct unpu_session_info *info)
{
	const struct unpu_session_info full = {
		.context = s->context,
		.used = s->used,
		.seed = s->set.seed,
		.kv_bytes = s->kv.bytes,
		.work_bytes = s->window.bytes + s->scratch.bytes + s->logits_area.bytes,
		.prompt_tokens = s->prompt_tokens,
		.prompt_ns = s->prompt_ns,
		.generated_tokens = s->generated_tokens,
		.generate_ns = s->generate_ns,
		.dispatches = s->decode_dispatches,
		.kv = s->kv_type,
	};

	return unpu_struct_write(&s->model->log, &unpu_session_info_struct, info, &full);
}
