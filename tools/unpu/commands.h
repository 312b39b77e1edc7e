/* SPDX-License-Identifier: MIT */
#ifndef UNPU_TOOL_COMMANDS_H
#define UNPU_TOOL_COMMANDS_H

#include "tools/unpu/files.h"
#include "tools/unpu/options.h"

extern const struct command cmd_run, cmd_eval, cmd_tokenize, cmd_detokenize, cmd_bench, cmd_info,
	cmd_devices, cmd_chat, cmd_pack;

struct model_file {
	int fd;
	uint64_t size;
	int packed;	/* -1: its weights are packed as they are loaded */
};

/* What several commands do with a model; all return an exit status after one line on error. */
int model_open(const struct settings *settings, uint32_t flags, struct unpu_model **model);
/* The same in two steps, for a model that is loaded several times: from the first on, the process
 * opens no file. */
int model_file_open(const struct settings *settings, struct model_file *file);
void model_file_close(struct model_file *file);
int model_load(const struct settings *settings, const struct model_file *file, uint32_t flags,
	       struct unpu_model **model);
int session_open(struct unpu_model *model, const struct settings *settings, float temperature,
		 uint64_t seed, uint32_t flags, struct unpu_session **session);
/* What the options say of a session; params points into settings. */
void session_settings(const struct settings *settings, float temperature, uint64_t seed,
		      uint32_t flags, struct unpu_session_params *params);
/* What the command line says itself goes over the settings of a session that was loaded; 0 or the
 * library's error. *seed: the one in force. */
int session_settings_given(struct unpu_session *session, const struct settings *settings,
			   uint64_t *seed);
/* Ids of a text, to be freed with free(). */
int model_tokenize(const struct unpu_model *model, const char *text, size_t length, uint32_t flags,
		   uint32_t **ids, size_t *count);
/* The same of messages in a form of chats, NULL: the model's own. */
int model_chat(const struct unpu_model *model, const char *form,
	       const struct unpu_chat_message *messages, size_t num_messages, uint32_t flags,
	       uint32_t **ids, size_t *count);
/* The text of -p, -f or stdin, to be freed with free(). Opened before the model is loaded and read
 * after, so that a wrong MODEL is said before someone types a text. */
int text_open(const char *command, const struct settings *settings, struct input *in);
int text_read(const struct settings *settings, struct input *in, char **text, size_t *length);

#endif
