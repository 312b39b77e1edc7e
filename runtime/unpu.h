/* SPDX-License-Identifier: MIT */
/*
 * unpu: micro language models on small machines. The public API; what is not here is not API.
 *
 * Calls return 0 or a count on success and a negative errno on failure, after one sentence to the
 * log callback. Params structs begin with their size and are made by their UNPU_*_PARAMS_INIT;
 * they and what they point to need to live until the call returns, except where said otherwise.
 * Destroyers take NULL. Strings are UTF-8.
 */
#ifndef UNPU_H
#define UNPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UNPU_VERSION_MAJOR	0
#define UNPU_VERSION_MINOR	1
#define UNPU_VERSION_PATCH	0
#define UNPU_VERSION_STRING	"0.1.0"

/* 0xMMmmpp of the library that runs, to be compared with the header's. Thread-safe. */
uint32_t unpu_version(void);

/* ---- log -------------------------------------------------------------------------------- */

enum unpu_log_level {
	UNPU_LOG_ERROR = 0,
	UNPU_LOG_WARN,
	UNPU_LOG_INFO,
	UNPU_LOG_DEBUG,
};

/* One message, without a newline; text lives until the call returns. Called by the thread that
 * called the library. */
typedef void unpu_log_fn(void *arg, enum unpu_log_level level, const char *text);

/* ---- devices ---------------------------------------------------------------------------- */

struct unpu_device_info {
	char id[16];		/* "cpu" */
	char name[64];		/* "cpu avx512vnni, 2 threads" */
	int usable;		/* 0: why[] says why not */
	char why[128];
};

/* Calls fn once a device of this machine, in the order of preference. -errno of fn ends it. */
int unpu_devices(int (*fn)(void *arg, const struct unpu_device_info *info), void *arg);

/* ---- model ------------------------------------------------------------------------------ */

struct unpu_model;

#define UNPU_MODEL_VOCAB_ONLY	(1u << 0)	/* tokenizer only: no sessions, no device */
#define UNPU_MODEL_CLASS_F32	(1u << 1)	/* keep activations in f32 for quantised weights */
/*
 * For unpu_model_info() and unpu_model_tensor() only: no device, no weights. A well-formed file
 * loads even when its tokenizer or architecture is not supported; the log says so at level warn,
 * and what is not known is 0 or "none". Nothing but the two calls and unpu_model_destroy() may be
 * used.
 */
#define UNPU_MODEL_INFO_ONLY	(1u << 2)

struct unpu_model_params {
	size_t size;		/* sizeof(struct unpu_model_params); another: -EINVAL, unsaid */
	uint32_t flags;		/* UNPU_MODEL_* */
	uint32_t threads;	/* 0: as many as there are usable processors, up to 8 */
	const char *device;	/* "auto" or NULL, "cpu" */
	unpu_log_fn *log;	/* kept for the life of the model and its sessions; may be NULL */
	void *log_arg;
};
#define UNPU_MODEL_PARAMS_INIT { .size = sizeof(struct unpu_model_params) }

/*
 * Load a GGUF file. On success *model is the caller's and ends with unpu_model_destroy(); on error
 * it is not touched. The file may be closed or unlinked afterwards but must not be changed or
 * truncated while the model lives. -ENOENT, -EACCES, ...: as open(2); -EINVAL: not a model unpu can
 * run, the log names the key or tensor; -ENOMEM; -ENODEV: no such device.
 * unpu_model_load_memory() uses data in place: it must live as long as the model.
 */
int unpu_model_load(const char *path, const struct unpu_model_params *params,
		    struct unpu_model **model);
int unpu_model_load_fd(int fd, uint64_t offset, uint64_t size,
		       const struct unpu_model_params *params, struct unpu_model **model);
int unpu_model_load_memory(const void *data, uint64_t size,
			   const struct unpu_model_params *params, struct unpu_model **model);
/* Sessions of the model must be gone. */
void unpu_model_destroy(struct unpu_model *model);

struct unpu_model_info {
	size_t size;		/* sizeof(struct unpu_model_info), set by the caller */
	const char *name;	/* general.name or ""; strings live as long as the model */
	const char *architecture;
	const char *weight_type;	/* of most weights: "Q8_0" */
	uint64_t parameters;
	uint64_t file_bytes;
	uint64_t weight_bytes;	/* packed, on the device */
	uint32_t context;	/* trained length */
	uint32_t layers, hidden, ffn, heads, kv_heads, head_dim;
	uint32_t vocab;
	uint32_t threads;
	const char *device;	/* "cpu" */
	const char *device_name;
};
int unpu_model_info(const struct unpu_model *model, struct unpu_model_info *info);

/* A tensor of the file, i from 0; -ENOENT past the last. */
struct unpu_tensor_info {
	const char *name;
	const char *type;
	uint32_t num_dims;
	uint64_t dims[4];	/* dims[0] runs fastest */
	uint64_t bytes;
};
int unpu_model_tensor(const struct unpu_model *model, uint32_t i, struct unpu_tensor_info *info);

/* ---- tokens ----------------------------------------------------------------------------- */

#define UNPU_TOKENIZE_ADD_SPECIAL	(1u << 0)	/* BOS and EOS as the model says */
#define UNPU_TOKENIZE_PARSE_SPECIAL	(1u << 1)	/* special tokens in the text count */

/*
 * Text to ids. Returns how many there are; the first max of them are written to ids (which may be
 * NULL when max is 0). Bytes that are not UTF-8 are tokenized as bytes. Thread-safe.
 */
int64_t unpu_tokenize(const struct unpu_model *model, const char *text, size_t length,
		      uint32_t flags, uint32_t *ids, size_t max);
/*
 * Ids to text: returns its length in bytes, writes the first max of them and no NUL. The text may
 * end within a UTF-8 character. Control tokens give no text. -EINVAL: an id outside the vocabulary.
 * Thread-safe.
 */
int64_t unpu_detokenize(const struct unpu_model *model, const uint32_t *ids, size_t count,
			char *text, size_t max);
/* 1 when the id ends a text, else 0. */
int unpu_token_is_end(const struct unpu_model *model, uint32_t id);

/* ---- sessions --------------------------------------------------------------------------- */

struct unpu_session;

enum unpu_kv { UNPU_KV_DEFAULT = 0, UNPU_KV_F16, UNPU_KV_F32 };

struct unpu_session_params {
	size_t size;
	uint32_t context;	/* tokens; 0: min(model's, 2048, KV in a quarter of free memory) */
	enum unpu_kv kv;	/* default f16 */
	uint32_t batch;		/* prompt rows at once, 0: the device's choice */
	float temperature;	/* 0: greedy */
	uint32_t top_k;		/* 0: off */
	float top_p;		/* 1: off */
	float min_p;		/* 0: off */
	float repeat_penalty;	/* 1: off */
	uint32_t repeat_last_n;
	uint64_t seed;
	uint32_t flags;		/* UNPU_SESSION_* */
};
#define UNPU_SESSION_NO_END	(1u << 0)	/* end-of-text tokens are tokens like any other */
#define UNPU_SESSION_PARAMS_INIT { .size = sizeof(struct unpu_session_params), \
	.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, \
	.repeat_penalty = 1.0f, .repeat_last_n = 64 }

/*
 * A conversation on a model: its KV cache, history and sampler. -EINVAL: context above the model's,
 * a setting out of range (the log names it); -ENOSPC: memory, or sessions (cpu: 64), are no more to
 * be had from the device; -ENOMEM. A session is used by one thread at a time; several sessions of
 * one model may be used by several threads.
 */
int unpu_session_create(struct unpu_model *model, const struct unpu_session_params *params,
			struct unpu_session **session);
void unpu_session_destroy(struct unpu_session *session);

/*
 * Append tokens; all, or none on error. -ENOSPC: they do not fit the context; -EINVAL: bad id;
 * -EIO: the device failed; -ENOMEM.
 */
int unpu_session_prompt(struct unpu_session *session, const uint32_t *ids, size_t count);

/*
 * Append tokens and write the logits that follow each of them: count x vocab floats. Errors as
 * unpu_session_prompt(); the first call takes the memory for it.
 */
int unpu_session_logits(struct unpu_session *session, const uint32_t *ids, size_t count,
			float *logits);

enum unpu_reason {
	UNPU_REASON_LENGTH = 0,	/* as many tokens as asked for */
	UNPU_REASON_END,	/* an end-of-text token */
	UNPU_REASON_CONTEXT,	/* the context is full */
	UNPU_REASON_CALLBACK,	/* the callback said so */
};

/* A new token and the text that became complete with it, whole UTF-8 characters only (length may be
 * 0). Not 0 ends the generation after this token. */
typedef int unpu_token_fn(void *arg, uint32_t id, const char *text, size_t length);

/*
 * Generate up to max tokens and append them. At the end, text held back for an incomplete
 * character is given as U+FFFD with the last token again being id UINT32_MAX. Returns the reason
 * (enum unpu_reason) or -errno; -EINVAL: nothing was prompted; -EIO: the device failed or the model
 * gives values that are not finite.
 */
int unpu_session_generate(struct unpu_session *session, size_t max, unpu_token_fn *fn, void *arg);

/* Change the seed and sampler settings for what follows; context, kv and batch are not read. */
int unpu_session_set_sampler(struct unpu_session *session,
			     const struct unpu_session_params *params);

struct unpu_session_info {
	size_t size;
	uint32_t context;	/* tokens there is room for */
	uint32_t used;		/* tokens in it */
	uint64_t seed;
	uint64_t kv_bytes;
	uint64_t work_bytes;	/* buffers besides KV */
	uint64_t prompt_tokens, prompt_ns;
	uint64_t generated_tokens, generate_ns;
	uint64_t dispatches;	/* of one generated token */
};
int unpu_session_info(const struct unpu_session *session, struct unpu_session_info *info);

#ifdef __cplusplus
}
#endif
#endif
