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

static int choose_kv(struct unpu_session *s, const struct unpu_session_params *p)
{
	if ((uint32_t)p->kv >= sizeof(kv_types) / sizeof(kv_types[0]))
		return unpu_fail(&s->model->log, -EINVAL, "there is no KV type %u",
				 (uint32_t)p->kv);
	s->kv_type = p->kv ? p->kv : UNPU_KV_F16;
	return 0;
}

static int choose_context(struct unpu_session *s, const struct unpu_session_params *p)
{
	const struct unpu_hparams *hp = &s->model->arch->hp;

	if (p->context > hp->context)
		return unpu_fail(&s->model->log, -EINVAL,
				 "a context of %u is above the model's %u", p->context,
				 hp->context);
	s->context = p->context ? p->context : default_context(hp, kv_types[s->kv_type].type);
	s->tokens = calloc(s->context, sizeof(*s->tokens));
	return s->tokens ? 0 : unpu_fail(&s->model->log, -ENOMEM, "no memory for %u tokens",
					 s->context);
}

int unpu_session_shape(struct unpu_session *s)
{
	const struct drm_unpu_dev_info *info = &s->weights->info;
	struct unpu_shape want = { .slots = 1, .logit_rows = 1 };

	want.kv_type = kv_types[s->kv_type].type;
	if (!(info->kv_types >> want.kv_type & 1))
		return unpu_fail(&s->model->log, -ENOTSUP, "%s has no %s KV cache; it takes%s%s%s",
				 s->dev->id, kv_types[s->kv_type].name,
				 info->kv_types >> DRM_UNPU_KV_F32 & 1 ? " f32" : "",
				 info->kv_types >> DRM_UNPU_KV_F16 & 1 ? " f16" : "",
				 info->kv_types >> DRM_UNPU_KV_INT8 & 1 ? " int8" : "");
	want.cells = (s->context + UNPU_CHUNK - 1) / UNPU_CHUNK * UNPU_CHUNK;
	want.chunks = want.cells / UNPU_CHUNK;
	s->batch = s->set.batch ? s->set.batch : DEFAULT_BATCH;
	if (s->batch > info->max_rows)
		s->batch = info->max_rows;
	if (s->batch > s->context)
		s->batch = s->context;
	want.rows = s->batch;
	s->pure = info->features & DRM_UNPU_FEATURE_PURE_ROWS;
	unpu_work_sizes(s->model->arch, &want, &s->work);
	return 0;
}

static int create(struct unpu_session *s, const struct unpu_session_params *params)
{
	struct unpu_session_params p;
	int ret = unpu_sampler_read(s->model, &s->model->log, params, &p);

	ret = ret ? ret : choose_kv(s, &p);
	ret = ret ? ret : choose_context(s, &p);
	if (ret)
		return ret;
	unpu_sampler_write(s, &p);
	s->draft_count = p.speculate;
	return unpu_session_attach_first(s);
}

int unpu_session_create(struct unpu_model *model, const struct unpu_session_params *params,
			struct unpu_session **session)
{
	struct unpu_session *s;
	int ret;

	if (!model->home)
		return unpu_fail(&model->log, -EINVAL,
				 "the model was loaded for its tokenizer only");
	s = calloc(1, sizeof(*s));
	if (!s)
		return unpu_fail(&model->log, -ENOMEM, "no memory for a session");
	s->model = model;
	s->burst = 1;
	unpu_session_enter(s);
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
	unpu_session_detach(s);
	unpu_home_put(s->home);
	free(s->text.bytes);
	free(s->tokens);
	free(s);
}

int unpu_session_info(const struct unpu_session *s, struct unpu_session_info *info)
{
	const struct unpu_session_info full = {
		.context = s->context,
		.used = s->used,
		.seed = s->set.seed,
		.kv_bytes = s->kv.bytes,
		.work_bytes = s->window.bytes + s->scratch.bytes + s->logits.area.bytes +
			      s->speculation.area.bytes,
		.prompt_tokens = s->prompt_tokens,
		.prompt_ns = s->prompt_ns,
		.generated_tokens = s->generated_tokens,
		.generate_ns = s->generate_ns,
		.dispatches = s->decode_dispatches,
		.kv = s->kv_type,
		.device = s->home->id,
		.drafted_tokens = s->drafted,
		.accepted_tokens = s->drafts_right,
	};

	return unpu_struct_write(&s->model->log, &unpu_session_info_struct, info, &full);
}
