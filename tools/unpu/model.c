/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/interrupt.h"
#include "tools/unpu/out.h"
#include "tools/unpu/packed.h"
#include "tools/unpu/progress.h"
#include "tools/lib/sandbox.h"

/* O_NONBLOCK: a FIFO without a writer must not hang the open; the library refuses it. */
int model_file_open(const struct settings *settings, struct model_file *file)
{
	struct stat st;
	int err = 0, status;

	file->packed = -1;
	file->fd = open(settings->model, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0)
		return fail("%s: %s", settings->model, strerror(errno));
	if (fstat(file->fd, &st)) {
		err = errno;
		close(file->fd);
		return fail("%s: %s", settings->model, strerror(err));
	}
	file->size = (uint64_t)st.st_size;
	status = packed_open(settings, file->fd, &st, &file->packed);
	if (status)
		model_file_close(file);
	return status;
}

void model_file_close(struct model_file *file)
{
	close(file->fd);
	if (file->packed >= 0)
		close(file->packed);
}

/* ---- the device, before the sandbox -------------------------------------------------------- */

static void say_nothing(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	(void)level;
	(void)text;
}

/* In a process that has the narrowest sandbox, whatever the file may make of it. */
static void tell_shape(const struct model_file *file, int to)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;
	char text[UNPU_MAX_SHAPE];
	int64_t length;

	sandbox_enter();
	params.flags = UNPU_MODEL_INFO_ONLY;
	params.log = say_nothing;
	if (unpu_model_load_fd(file->fd, 0, file->size, &params, &model))
		return;
	length = unpu_model_shape(model, 0, text, sizeof(text));
	if (length > 0 && length < (int64_t)sizeof(text))
		write_all(to, text, (size_t)length);
}

/* The shape, which says nothing but numbers; "" for a file that has none. */
static void ask_shape(const struct model_file *file, char text[UNPU_MAX_SHAPE])
{
	size_t used = 0;
	ssize_t n;
	int ends[2];
	pid_t pid;

	text[0] = '\0';
	if (pipe2(ends, O_CLOEXEC))
		return;
	pid = fork();
	if (pid == 0) {
		tell_shape(file, ends[1]);
		_exit(0);
	}
	close(ends[1]);
	while (pid > 0 && used < UNPU_MAX_SHAPE - 1) {
		n = read(ends[0], text + used, UNPU_MAX_SHAPE - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	text[used] = '\0';
	close(ends[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/*
 * The library's marker of a first use says that the device took the process with it. An interrupt
 * is no such end. One that is there already is somebody else's.
 */
static void drop_marker_when_interrupted(const char *id)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	static char path[PATH_MAX];
	int n = -1;

	if (path[0])
		return;
	if (base && base[0] == '/')
		n = snprintf(path, sizeof(path), "%s/unpu/first-use.%s", base, id);
	else if (home && home[0] == '/')
		n = snprintf(path, sizeof(path), "%s/.cache/unpu/first-use.%s", home, id);
	if (n > 0 && n < (int)sizeof(path) && access(path, F_OK))
		interrupt_add_file(AT_FDCWD, path);
}

/* What the device of this id needs; the cpu needs nothing. */
static void allow_device(const char *id)
{
	if (!strncmp(id, "accel:", 6))
		sandbox_allow_accel();
	if (strncmp(id, "vulkan:", 7))
		return;
	sandbox_allow_gpu();
	drop_marker_when_interrupted(id);
}

static bool is_cpu(const char *id)
{
	return !strcmp(id, "cpu");
}

/*
 * What the load is told, and the sandbox: "auto" is decided here, where programs can be started
 * yet; when that is the cpu, the file's parser has nothing that another needs. Once a process: the
 * sandbox of the first model is that of all.
 */
static const char *choose_device(const struct settings *settings, const struct model_file *file,
				 uint32_t flags)
{
	static char id[16], chosen[sizeof("auto:") + sizeof(id)];
	char shape[UNPU_MAX_SHAPE];

	if (flags & (UNPU_MODEL_VOCAB_ONLY | UNPU_MODEL_INFO_ONLY) || !settings->device)
		return settings->device;
	if (strcmp(settings->device, "auto")) {
		allow_device(settings->device);
		return settings->device;
	}
	if (!id[0] && unpu_device_choose(NULL, settings->threads, log_library, NULL, id) > 0) {
		ask_shape(file, shape);
		if (!shape[0] || unpu_device_choose(shape, settings->threads, log_library, NULL,
						    id) < 0)
			strcpy(id, "cpu");
	}
	if (is_cpu(id))
		return id;
	allow_device(id);
	snprintf(chosen, sizeof(chosen), "auto:%s", id);
	return chosen;
}

/*
 * All files that the command needs are open when this is called: from the first byte of the model
 * on, it opens none but a device's.
 */
int model_load(const struct settings *settings, const struct model_file *file, uint32_t flags,
	       struct unpu_model **model)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	int err;

	if (settings->no_sandbox)
		sandbox_off();
	params.device = choose_device(settings, file, flags);
	sandbox_enter();
	params.flags = flags;
	/* What --cache has made is for the cpu, which another device may be taken for. */
	if (file->packed >= 0 && (settings->packed || (params.device && is_cpu(params.device))))
		params.flags |= UNPU_MODEL_PACKED;
	params.packed_fd = file->packed;
	params.pack_for = settings->pack_for;
	params.threads = settings->threads;
	if (settings->clamp)
		params.flags |= UNPU_MODEL_CLAMP;
	params.log = log_library;
	params.progress = progress_show;
	log_subject(settings->model);
	progress_begin("loading");
	err = unpu_model_load_fd(file->fd, 0, file->size, &params, model);
	progress_end();
	packed_keep(err ? NULL : *model);
	log_subject(NULL);
	return err < 0 ? fail_library(err, settings->model) : EXIT_OK;
}

int model_open(const struct settings *settings, uint32_t flags, struct unpu_model **model)
{
	struct model_file file;
	int status = model_file_open(settings, &file);

	if (status)
		return status;
	status = model_load(settings, &file, flags, model);
	model_file_close(&file);
	return status;
}

void session_settings(const struct settings *settings, float temperature, uint64_t seed,
		      uint32_t flags, struct unpu_session_params *params)
{
	*params = (struct unpu_session_params)UNPU_SESSION_PARAMS_INIT;
	params->context = settings->context;
	params->kv = settings->kv;
	params->batch = settings->batch;
	params->speculate = settings->speculate;
	params->temperature = temperature;
	params->seed = seed;
	params->flags = flags;
	params->progress = progress_show;
	/* The greedy commands have no sampler options, their settings are zero. */
	if (temperature > 0) {
		params->top_k = settings->top_k;
		params->top_p = settings->top_p;
		params->min_p = settings->min_p;
	}
	if (settings->repeat_penalty > 0) {
		params->repeat_penalty = settings->repeat_penalty;
		params->repeat_last_n = settings->repeat_last_n;
	}
	params->frequency_penalty = settings->frequency_penalty;
	params->presence_penalty = settings->presence_penalty;
	params->bias = settings->bias.bias;
	params->num_bias = settings->bias.count;
	params->stop = settings->stop.text;
	params->num_stop = settings->stop.count;
}

#define TAKE_GIVEN(member) do { \
	if (options_given(settings, OPTION_FIELD(member))) \
		params.member = settings->member; \
	} while (0)

int session_settings_given(struct unpu_session *session, const struct settings *settings,
			   uint64_t *seed)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;

	unpu_session_sampler(session, &params);
	TAKE_GIVEN(temperature);
	TAKE_GIVEN(top_k);
	TAKE_GIVEN(top_p);
	TAKE_GIVEN(min_p);
	TAKE_GIVEN(repeat_penalty);
	TAKE_GIVEN(repeat_last_n);
	TAKE_GIVEN(frequency_penalty);
	TAKE_GIVEN(presence_penalty);
	TAKE_GIVEN(seed);
	if (options_given(settings, OPTION_FIELD(bias))) {
		params.bias = settings->bias.bias;
		params.num_bias = settings->bias.count;
	}
	if (options_given(settings, OPTION_FIELD(stop))) {
		params.stop = settings->stop.text;
		params.num_stop = settings->stop.count;
	}
	*seed = params.seed;
	return unpu_session_set_sampler(session, &params);
}

int session_open(struct unpu_model *model, const struct settings *settings, float temperature,
		 uint64_t seed, uint32_t flags, struct unpu_session **session)
{
	struct unpu_session_params params;
	int err;

	session_settings(settings, temperature, seed, flags, &params);
	err = unpu_session_create(model, &params, session);
	return err < 0 ? fail_library(err, settings->model) : EXIT_OK;
}

/*
 * Calls what until its ids have room: a token a byte is more than nearly all texts need, the second
 * turn is for the others.
 */
static int take_ids(int64_t (*what)(const void *arg, uint32_t *ids, size_t max), const void *arg,
		    size_t room, uint32_t **ids, size_t *count)
{
	int64_t n;

	*ids = NULL;
	for (;;) {
		free(*ids);
		*ids = malloc(room * sizeof(**ids));
		n = *ids ? what(arg, *ids, room) : -ENOMEM;
		if (n <= (int64_t)room)
			break;
		room = (size_t)n;
	}
	if (n < 0) {
		free(*ids);
		*ids = NULL;
		return fail_library((int)n, "the text");
	}
	*count = (size_t)n;
	return EXIT_OK;
}

struct text_arg {
	const struct unpu_model *model;
	const char *text;
	size_t length;
	uint32_t flags;
};

static int64_t text_ids(const void *arg, uint32_t *ids, size_t max)
{
	const struct text_arg *a = arg;

	return unpu_tokenize(a->model, a->text, a->length, a->flags, ids, max);
}

int model_tokenize(const struct unpu_model *model, const char *text, size_t length, uint32_t flags,
		   uint32_t **ids, size_t *count)
{
	const struct text_arg arg = { model, text, length, flags };

	return take_ids(text_ids, &arg, length + 8, ids, count);
}

struct chat_arg {
	const struct unpu_model *model;
	const char *form;
	const struct unpu_chat_message *messages;
	size_t count;
	uint32_t flags;
};

static int64_t message_ids(const void *arg, uint32_t *ids, size_t max)
{
	const struct chat_arg *a = arg;

	return unpu_chat_tokens(a->model, a->form, a->messages, a->count, a->flags, ids, max);
}

int model_chat(const struct unpu_model *model, const char *form,
	       const struct unpu_chat_message *messages, size_t num_messages, uint32_t flags,
	       uint32_t **ids, size_t *count)
{
	const struct chat_arg arg = { model, form, messages, num_messages, flags };
	size_t room = 64, i;

	for (i = 0; i < num_messages; i++)
		room += messages[i].length + 16;
	return take_ids(message_ids, &arg, room, ids, count);
}

int text_open(const char *command, const struct settings *settings, struct input *in)
{
	if (!!settings->text + !!settings->file + !!settings->tokens > 1)
		return fail_usage("%s: the text comes from -p or from -f, not from both", command);
	if (settings->text || settings->tokens)
		return EXIT_OK;
	return input_open(in, settings->file);
}

int text_read(const struct settings *settings, struct input *in, char **text, size_t *length)
{
	if (!settings->text)
		return input_read(in, text, length);
	*text = strdup(settings->text);
	if (!*text)
		return fail("the text: %s", strerror(ENOMEM));
	*length = strlen(*text);
	return EXIT_OK;
}
