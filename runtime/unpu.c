/* SPDX-License-Identifier: MIT */
/* The small calls of the public API. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/core.h"
#include "runtime/params.h"

uint32_t unpu_version(void)
{
	return UNPU_VERSION_MAJOR << 16 | UNPU_VERSION_MINOR << 8 | UNPU_VERSION_PATCH;
}

int64_t unpu_tokenize(const struct unpu_model *m, const char *text, size_t length, uint32_t flags,
		      uint32_t *ids, size_t max)
{
	const uint32_t known = UNPU_TOKENIZE_ADD_SPECIAL | UNPU_TOKENIZE_PARSE_SPECIAL;

	if (flags & ~known)
		return unpu_fail(&m->log, -EINVAL, "unknown tokenizer flags 0x%x", flags & ~known);
	return unpu_tokenizer_encode(m->tok, text, length, flags, ids, max);
}

int64_t unpu_detokenize(const struct unpu_model *m, const uint32_t *ids, size_t count, char *text,
			size_t max)
{
	return unpu_tokenizer_decode(m->tok, ids, count, text, max);
}

int unpu_token_is_end(const struct unpu_model *m, uint32_t id)
{
	return unpu_tokenizer_is_eog(m->tok, id);
}

int unpu_model_pack_fd(struct unpu_model *m, int fd)
{
	struct unpu_home *home;
	int ret;

	if (!m->home)
		return unpu_fail(&m->log, -ENOTSUP, "the model was loaded without its weights");
	/* The model may leave the device meanwhile. */
	home = unpu_home_get(m);
	ret = unpu_weights_write(home->weights, fd);
	unpu_home_put(home);
	return ret;
}

/* The type that most weights have, of all the format knows; params counts all elements. */
static const char *main_type(const struct unpu_gguf *gguf, uint64_t *params)
{
	uint64_t best = 0, of_type[64] = { 0 };
	const char *name = NULL;

	*params = 0;
	for (uint32_t i = 0; i < unpu_gguf_num_tensors(gguf); i++) {
		const struct unpu_tensor *t = unpu_gguf_tensor_at(gguf, i);
		uint64_t count = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];

		*params += count;
		if (t->type >= 64)
			continue;
		of_type[t->type] += count;
		if (of_type[t->type] > best) {
			best = of_type[t->type];
			name = unpu_type_name(t->type);
		}
	}
	return name ? name : "none";
}

/* The model may leave a device while it is asked, which its lock keeps from being closed. */
static void fill_home(const struct unpu_model *m, struct unpu_model_info *info)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&m->lock;

	pthread_mutex_lock(lock);
	if (m->home) {
		info->weight_bytes = m->home->weights->bytes;
		info->threads = m->home->weights->info.units;
		info->device = m->home->id;
		info->device_name = m->home->name;
		info->packed = !!m->home->weights->packed.map;
	}
	pthread_mutex_unlock(lock);
}

static void fill_info(const struct unpu_model *m, struct unpu_model_info *info)
{
	info->name = m->name;
	info->architecture = m->arch_name;
	info->weight_type = main_type(m->gguf, &info->parameters);
	info->file_bytes = unpu_gguf_size(m->gguf);
	info->vocab = m->tok ? unpu_tokenizer_vocab(m->tok) : 0;
	info->device = "none";
	info->device_name = "none";
	info->chat_template = unpu_model_chat_form(m);
	if (!m->arch)
		return;
	info->vocab = m->arch->hp.vocab;
	info->context = m->arch->hp.context;
	info->layers = m->arch->hp.layers;
	info->hidden = m->arch->hp.hidden;
	info->ffn = m->arch->hp.ffn;
	info->heads = m->arch->hp.heads;
	info->kv_heads = m->arch->hp.kv_heads;
	info->head_dim = m->arch->hp.head_dim;
	fill_home(m, info);
}

int unpu_model_info(const struct unpu_model *m, struct unpu_model_info *info)
{
	struct unpu_model_info full = UNPU_MODEL_INFO_INIT;

	fill_info(m, &full);
	return unpu_struct_write(&m->log, &unpu_model_info_struct, info, &full);
}

int unpu_model_tensor(const struct unpu_model *m, uint32_t i, struct unpu_tensor_info *info)
{
	struct unpu_tensor_info full = UNPU_TENSOR_INFO_INIT;
	const struct unpu_tensor *t;
	const char *type;

	if (i >= unpu_gguf_num_tensors(m->gguf))
		return -ENOENT;
	t = unpu_gguf_tensor_at(m->gguf, i);
	type = unpu_type_name(t->type);
	full.name = m->tensor_names[i];
	full.type = type ? type : "unknown";
	full.num_dims = t->num_dims;
	memcpy(full.dims, t->dims, sizeof(full.dims));
	full.bytes = t->bytes;
	return unpu_struct_write(&m->log, &unpu_tensor_info_struct, info, &full);
}
