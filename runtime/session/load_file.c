/* SPDX-License-Identifier: MIT */
/* A file becomes a session's state. Until all of it is good, the session keeps what it has. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/session/kv.h"

/* A log whose messages begin with the file's name. */
struct named_log {
	struct unpu_log log;
	const struct unpu_log *to;
	const char *name;
};

static void log_named(void *arg, enum unpu_log_level level, const char *text)
{
	const struct named_log *named = arg;

	unpu_log(named->to, level, "%s: %s", named->name, text);
}

/* What is read of one file. */
struct loading {
	struct unpu_session *s;
	struct unpu_file f;
	struct unpu_session_file file;
	struct unpu_session_params params;	/* the file's, checked */
	struct named_log log;
};

/* The settings, as any caller's; what a file does not say stays as it is. */
static int check_params(struct loading *l)
{
	const struct unpu_session_params *set = &l->s->set;
	int ret = unpu_sampler_read(l->s->model, &l->log.log, &l->file.params, &l->params);

	l->params.context = set->context;
	l->params.kv = set->kv;
	l->params.batch = set->batch;
	l->params.speculate = set->speculate;
	l->params.progress = set->progress;
	l->params.progress_arg = set->progress_arg;
	return ret;
}

static const char *kv_name(uint32_t kv_type)
{
	switch (kv_type) {
	case DRM_UNPU_KV_F32:
		return "f32";
	case DRM_UNPU_KV_F16:
		return "f16";
	case DRM_UNPU_KV_INT8:
		return "int8";
	}
	return "unknown";
}

/* Whether the file's cache would be the session's own; the log says why not. */
static bool kv_fits(struct loading *l)
{
	const struct unpu_session_head *head = &l->file.head;
	struct unpu_session_head own = { 0 };
	const struct unpu_log *log = &l->log.log;

	unpu_model_id(l->s->model->gguf, own.model);
	unpu_kv_describe(l->s, &own);
	if (memcmp(head->model, own.model, sizeof(own.model)))
		unpu_log(log, UNPU_LOG_WARN, "saved with another model: its tokens run again");
	else if (!(head->flags & UNPU_FILE_KV))
		unpu_log(log, UNPU_LOG_INFO, "without a KV cache: its tokens run again");
	else if (head->kv_type != own.kv_type)
		unpu_log(log, UNPU_LOG_WARN, "its KV cache is of type %s, not %s: its tokens run "
			 "again", kv_name(head->kv_type), kv_name(own.kv_type));
	else if (head->classes != own.classes)
		unpu_log(log, UNPU_LOG_WARN, "its KV cache is of another numeric class: its tokens "
			 "run again");
	else if (head->layers != own.layers || head->kv_heads != own.kv_heads ||
		 head->head_dim != own.head_dim)
		unpu_log(log, UNPU_LOG_WARN, "its KV cache has another shape: its tokens run "
			 "again");
	else
		return true;
	return false;
}

static const char *why_not(int file_err)
{
	switch (file_err) {
	case UNPU_FILE_CUT:
		return "is cut short";
	case UNPU_FILE_DAMAGED:
		return "is damaged";
	case -ERANGE:
		return "holds values that are no numbers";
	}
	return strerror(-file_err);
}

/* 1: the cells are in the cache; 0: they are not, nor is anything else, on whatever device. */
static int load_kv(struct loading *l)
{
	const struct unpu_session_head *head = &l->file.head;
	int ret, file_err;

	/* The session's own tokens stay; they run again when somebody wants them. */
	l->s->evaluated = 0;
	l->s->logits_ready = false;
	l->s->row_ready = false;
	unpu_file_begin(&l->f, unpu_session_file_kv_bytes(head));
	ret = unpu_kv_load(l->s, head->positions, &l->f, &file_err);
	if (ret)
		return ret == UNPU_MOVED ? 0 : ret;
	if (file_err)
		unpu_log(&l->log.log, UNPU_LOG_WARN, "its KV cache %s: its tokens run again",
			 why_not(file_err));
	return !file_err;
}

static void take_tokens(struct loading *l)
{
	const struct unpu_session_head *head = &l->file.head;
	struct unpu_session *s = l->s;

	unpu_session_put(s, 0, l->file.tokens, head->num_tokens);
	s->used = head->num_tokens;
	s->evaluated = head->positions;
}

static int load(struct loading *l)
{
	struct unpu_session *s = l->s;
	const struct unpu_session_head *head = &l->file.head;
	int64_t kept;
	int ret = unpu_session_file_read(&l->file, &l->f, s->model->arch->hp.vocab, s->context,
					 &l->log.log);

	ret = ret ? ret : check_params(l);
	ret = ret ? ret : unpu_session_ready(s);
	if (ret < 0)
		return ret;
	ret = kv_fits(l) ? load_kv(l) : 0;
	if (ret < 0)
		return ret;
	if (ret) {
		take_tokens(l);
	} else {
		kept = unpu_session_replace(s, l->file.tokens, head->num_tokens);
		if (kept < 0)
			return (int)kept;
	}
	unpu_text_drop(s);
	unpu_sampler_write(s, &l->params);
	return ret;
}

static int load_named(struct unpu_session *s, int fd, const char *name)
{
	const struct unpu_log *log = &s->model->log;
	struct loading *l = calloc(1, sizeof(*l));
	int ret;

	if (!l)
		return unpu_fail(log, -ENOMEM, "no memory for loading a session");
	l->s = s;
	l->log = (struct named_log){ { log_named, &l->log }, log, name };
	unpu_file_init(&l->f, fd);
	ret = load(l);
	unpu_session_file_finish(&l->file);
	free(l);
	return ret;
}

int unpu_session_load_fd(struct unpu_session *s, int fd)
{
	char name[32];

	snprintf(name, sizeof(name), "file descriptor %d", fd);
	return load_named(s, fd, name);
}

int unpu_session_load(struct unpu_session *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC), ret;

	if (fd < 0)
		return unpu_fail(&s->model->log, -errno, "%s: %s", path, strerror(errno));
	ret = load_named(s, fd, path);
	close(fd);
	return ret;
}
