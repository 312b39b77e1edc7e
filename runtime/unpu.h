/* SPDX-License-Identifier: MIT */
/*
 * unpu: micro language models on small machines. The public API; what is not here is not API.
 *
 * Errors. Calls return 0 or a count on success and a negative errno on failure, after one sentence
 * to the log callback; -ECANCELED and the end of a list need none. -ENOMEM is possible wherever a
 * call makes something.
 *
 * Pointers. NULL is taken where it is said, for 0 elements or bytes, for unpu_token_fn, and by
 * destroyers.
 *
 * Structs. Those that the caller fills begin with their size and are made by their
 * UNPU_*_INIT; a struct of an older header is taken, fields it does not have keep their defaults.
 * One of a newer header is taken when the fields that the library does not know are 0, else -E2BIG.
 * -EINVAL: a size below the first version's. Info structs are filled as far as they go, fields that
 * the library does not know with 0. Structs and what they point to need to live until the call
 * returns, except where said otherwise. Strings are UTF-8.
 *
 * Threads. A model may be used by any number of threads at once, its destruction apart. A session
 * is used by one thread at a time; several sessions of one model may be used by several threads.
 * Only unpu_session_cancel() may be called while another call on the session runs. Callbacks are
 * called by the thread that called the library; from one, only calls that do not use the same
 * session may be made, unpu_session_cancel() apart.
 */
#ifndef UNPU_H
#define UNPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define UNPU_API __attribute__((visibility("default")))
#else
#define UNPU_API
#endif

#define UNPU_VERSION_MAJOR	0
#define UNPU_VERSION_MINOR	2
#define UNPU_VERSION_PATCH	0
#define UNPU_VERSION_STRING	"0.2.0"

/* 0xMMmmpp of the library that runs, to be compared with the header's. */
UNPU_API uint32_t unpu_version(void);

/* ---- log -------------------------------------------------------------------------------- */

enum unpu_log_level {
	UNPU_LOG_ERROR = 0,
	UNPU_LOG_WARN,
	UNPU_LOG_INFO,
	UNPU_LOG_DEBUG,
};

/* One message, without a newline; text lives until the call returns. */
typedef void unpu_log_fn(void *arg, enum unpu_log_level level, const char *text);

/* How much of a long call is done, in a unit of its own; not 0 ends the call with -ECANCELED. */
typedef int unpu_progress_fn(void *arg, uint64_t done, uint64_t total);

/* ---- devices ---------------------------------------------------------------------------- */

/* A later version may have more fields behind these. */
struct unpu_device_info {
	/* "cpu", "vulkan:0", "accel:0"; "vulkan": why[] says why GPUs are not known */
	char id[16];
	char name[64];		/* "cpu avx512vnni, 2 threads" */
	int usable;		/* 0: why[] says why not */
	char why[128];
	char driver[64];	/* and its version; "" for the cpu */
	char verdict[128];	/* beside the cpu, or why "auto" passes it by; "" for the cpu */
	int preferred;		/* "auto" takes it, not the cpu, for a model of 135M in Q8_0 */
};

/*
 * Calls fn once a device of this machine, in the order of preference. -errno of fn ends it. One
 * that was never tried is tried now, which takes seconds: a GPU's driver is loaded by the program
 * unpu-probe, never by this process.
 */
UNPU_API int unpu_devices(int (*fn)(void *arg, const struct unpu_device_info *info), void *arg);

/*
 * Forget what was found out of devices, and that one of them did not come back from its first use:
 * all of them are tried again when they are next asked for. fn may be NULL.
 */
UNPU_API void unpu_devices_forget(unpu_log_fn *fn, void *arg);

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
/*
 * Weights that unpu_model_pack_fd() has written for the same file, device and flags are mapped from
 * packed_fd and shared with others who do so: a load then takes no time and no memory of its own. A
 * file that is another's or damaged is passed over, the log says so at level warn; of a model that
 * was copied or written since, only both ends of each tensor are compared. It must not be changed
 * while the model lives; the descriptor may be closed after the load. On the cpu alone.
 */
#define UNPU_MODEL_PACKED	(1u << 3)
/* No more threads on the cpu than processors that the process may use. */
#define UNPU_MODEL_CLAMP	(1u << 4)

struct unpu_model_params {
	size_t size;		/* sizeof(struct unpu_model_params) */
	uint32_t flags;		/* UNPU_MODEL_* */
	/*
	 * 0: as many as there are usable processors, up to 8; how many of them decode is measured.
	 * Else so many: fewer of them work for as long as that is faster, because processors are
	 * busy with something else or too few. No result depends on it.
	 */
	uint32_t threads;
	const char *device;	/* "auto" or NULL, "cpu", "vulkan:0", "accel:0", ... */
	unpu_log_fn *log;	/* kept for the life of the model and its sessions; may be NULL */
	void *log_arg;
	unpu_progress_fn *progress;	/* of the load, in bytes of weights; may be NULL */
	void *progress_arg;
	int packed_fd;		/* with UNPU_MODEL_PACKED */
	/*
	 * "c", "avx2", "avx512vnni", "neon" or "neon_dotprod": the cpu's weights take the layouts
	 * of a machine with this instruction set, for unpu_model_pack_fd(). They run here, too,
	 * and slowly. NULL: this machine's.
	 */
	const char *pack_for;
};
#define UNPU_MODEL_PARAMS_INIT \
	{ sizeof(struct unpu_model_params), 0, 0, NULL, NULL, NULL, NULL, NULL, 0, NULL }

/*
 * Load a GGUF file. On success *model is the caller's and ends with unpu_model_destroy(); on error
 * it is not touched. The file may be closed or unlinked afterwards but must not be changed or
 * truncated while the model lives. -ENOENT, -EACCES, ...: as open(2); -EINVAL: not a model unpu can
 * run, the log names the key or tensor; -ENODEV: no such device; -ECANCELED: progress said so.
 * unpu_model_load_memory() uses data in place: it must live as long as the model.
 */
UNPU_API int unpu_model_load(const char *path, const struct unpu_model_params *params,
			     struct unpu_model **model);
UNPU_API int unpu_model_load_fd(int fd, uint64_t offset, uint64_t size,
				const struct unpu_model_params *params, struct unpu_model **model);
UNPU_API int unpu_model_load_memory(const void *data, uint64_t size,
				    const struct unpu_model_params *params,
				    struct unpu_model **model);
/* Its sessions must be gone, and no other thread may be using it. */
UNPU_API void unpu_model_destroy(struct unpu_model *model);

/*
 * Write the weights as they were packed for the model's device, for UNPU_MODEL_PACKED: at the fd's
 * offset, which has to be a file's begin or a pipe's. The file does not depend on which machine
 * wrote it, as long as the model's file is the same one. -ENOTSUP: the device is not the cpu, or
 * the model was loaded without one; else as write(2).
 */
UNPU_API int unpu_model_pack_fd(struct unpu_model *model, int fd);

/*
 * Whether packed_fd is what a load of this model on the cpu could map, from a look at its first
 * bytes and the times of the model's file, for who keeps such files: 1: yes; 0: only a load tells,
 * for the model was written or copied since; -EINVAL: no, with the rest of a sentence about it in
 * why, UNPU_PACKED_WHY bytes.
 */
#define UNPU_PACKED_WHY	96
UNPU_API int unpu_packed_check(int packed_fd, int fd, uint64_t offset, uint64_t size, char *why);

/*
 * Which device "auto" would be, for a program that gives up rights before it loads a file that it
 * does not trust: what the choice may need, starting unpu-probe above all, is done here. shape is
 * the text of unpu_model_shape(), which a process of its own can read from the file; NULL asks
 * whether the model matters: 0: no, *id is it; 1: yes. -EINVAL: no shape. As the device of a model,
 * "auto:" and the id: the cpu takes its place when it does not open, as with "auto".
 */
UNPU_API int unpu_device_choose(const char *shape, uint32_t threads, unpu_log_fn *fn, void *arg,
				char id[16]);
/*
 * Of a model that is loaded, with UNPU_MODEL_INFO_ONLY too: sizes and type of its weights in words.
 * Returns their length, below UNPU_MAX_SHAPE, and writes as snprintf() does. flags:
 * UNPU_MODEL_CLASS_F32 or 0. -ENOTSUP: an architecture that unpu does not run.
 */
#define UNPU_MAX_SHAPE	128
UNPU_API int64_t unpu_model_shape(const struct unpu_model *model, uint32_t flags, char *text,
				  size_t max);

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
	const char *chat_template;	/* its name, NULL: the file has none that is known */
	int packed;		/* its weights are the pages of a file of packed weights */
};
#define UNPU_MODEL_INFO_INIT \
	{ sizeof(struct unpu_model_info), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
	  NULL, NULL, NULL, 0 }
UNPU_API int unpu_model_info(const struct unpu_model *model, struct unpu_model_info *info);

/* A tensor of the file, i from 0; -ENOENT past the last. */
struct unpu_tensor_info {
	size_t size;		/* sizeof(struct unpu_tensor_info), set by the caller */
	const char *name;	/* strings live as long as the model */
	const char *type;
	uint32_t num_dims;
	uint64_t dims[4];	/* dims[0] runs fastest */
	uint64_t bytes;
};
#define UNPU_TENSOR_INFO_INIT \
	{ sizeof(struct unpu_tensor_info), NULL, NULL, 0, { 0, 0, 0, 0 }, 0 }
UNPU_API int unpu_model_tensor(const struct unpu_model *model, uint32_t i,
			       struct unpu_tensor_info *info);

/* ---- tokens ----------------------------------------------------------------------------- */

#define UNPU_TOKENIZE_ADD_SPECIAL	(1u << 0)	/* BOS and EOS as the model says */
#define UNPU_TOKENIZE_PARSE_SPECIAL	(1u << 1)	/* special tokens in the text count */

/*
 * Text to ids. Returns how many there are; the first max of them are written to ids (which may be
 * NULL when max is 0). Bytes that are not UTF-8 are tokenized as bytes. -EINVAL: unknown flags.
 */
UNPU_API int64_t unpu_tokenize(const struct unpu_model *model, const char *text, size_t length,
			       uint32_t flags, uint32_t *ids, size_t max);
/*
 * Ids to text: returns its length in bytes, writes the first max of them and no NUL. The text may
 * end within a UTF-8 character. Control tokens give no text. -EINVAL: an id outside the vocabulary.
 */
UNPU_API int64_t unpu_detokenize(const struct unpu_model *model, const uint32_t *ids, size_t count,
				 char *text, size_t max);
/* 1 when the id ends a text, else 0. */
UNPU_API int unpu_token_is_end(const struct unpu_model *model, uint32_t id);

/* ---- chat ------------------------------------------------------------------------------- */

/*
 * Conversations in the form a model was trained on. The form is found by the text of
 * tokenizer.chat_template, or named: "chatml", "llama2", "llama3", "zephyr", "gemma", "phi3",
 * "alpaca". Only the form's own markers become special tokens; what looks like one in a message
 * stays text.
 */
struct unpu_chat_message {
	const char *role;	/* "system" (only the first), "user" or "assistant" */
	const char *text;
	size_t length;
};

/* The conversation ends with the beginning of an answer, ready for unpu_session_generate(). */
#define UNPU_CHAT_ANSWER	(1u << 0)
/*
 * The messages go on from an answer that the session holds already: nothing that begins a text, and
 * first what closes that answer. With UNPU_CHAT_UNENDED also the token that should have ended it:
 * the generation stopped for another reason than UNPU_REASON_END.
 */
#define UNPU_CHAT_CONTINUE	(1u << 1)
#define UNPU_CHAT_UNENDED	(1u << 2)

/* Names of the forms, i from 0; NULL past the last. */
UNPU_API const char *unpu_chat_template(uint32_t i);

/*
 * Messages to ids, or to the text that the ids stand for; what is returned and written as in
 * unpu_tokenize(). name is a form or NULL for the model's own. -ENOENT: the model's is unknown or
 * there is none (the log says what to do); -EINVAL: unknown name, role or flag, or an order of
 * roles that the form cannot say.
 */
UNPU_API int64_t unpu_chat_tokens(const struct unpu_model *model, const char *name,
				  const struct unpu_chat_message *messages, size_t count,
				  uint32_t flags, uint32_t *ids, size_t max);
UNPU_API int64_t unpu_chat_text(const struct unpu_model *model, const char *name,
				const struct unpu_chat_message *messages, size_t count,
				uint32_t flags, char *text, size_t max);

/* ---- sessions --------------------------------------------------------------------------- */

struct unpu_session;

/* INT8: about half of f16's memory, one scale for 32 values. */
enum unpu_kv { UNPU_KV_DEFAULT = 0, UNPU_KV_F16, UNPU_KV_F32, UNPU_KV_INT8 };

#define UNPU_MAX_BIAS	64
struct unpu_logit_bias {
	uint32_t id;
	float bias;		/* added to the logit: -100 to 100, or -INFINITY: never */
};

#define UNPU_MAX_STOP		16
#define UNPU_MAX_STOP_LENGTH	256

struct unpu_session_params {
	size_t size;		/* sizeof(struct unpu_session_params) */
	uint32_t context;	/* tokens; 0: min(model's, 2048, KV in a quarter of free memory) */
	enum unpu_kv kv;	/* default f16 */
	uint32_t batch;		/* prompt rows at once, 0: the device's choice */
	float temperature;	/* 0: greedy; to 100 */
	uint32_t top_k;		/* 0: off */
	float top_p;		/* above 0 to 1; 1: off */
	float min_p;		/* 0 to 1; 0: off */
	float repeat_penalty;	/* 0.01 to 100; 1: off */
	uint32_t repeat_last_n;	/* tokens that all three penalties look back on; 0: off */
	uint64_t seed;
	uint32_t flags;		/* UNPU_SESSION_* */
	float frequency_penalty;	/* -100 to 100, taken off a logit per occurrence; 0: off */
	float presence_penalty;		/* -100 to 100, taken off once; 0: off */
	const struct unpu_logit_bias *bias;	/* copied */
	uint32_t num_bias;	/* up to UNPU_MAX_BIAS, ids all different */
	uint32_t num_stop;	/* up to UNPU_MAX_STOP */
	const char *const *stop;	/* text that ends a generation, 1 to 256 bytes; copied */
	unpu_progress_fn *progress;	/* of a prompt, in tokens, kept; may be NULL */
	void *progress_arg;
	/*
	 * Up to so many tokens of a step are drafts, guessed from the session's own tokens (prompt
	 * lookup) and checked by the model all at once. The text is the same; it comes sooner where
	 * it repeats what was said before and reading the weights is what takes the time. On
	 * devices where a row's logits depend on the rows beside it there are none. 0: off
	 */
	uint32_t speculate;	/* up to UNPU_MAX_SPECULATE */
};
#define UNPU_MAX_SPECULATE	15u
#define UNPU_SESSION_NO_END	(1u << 0)	/* end-of-text tokens are tokens like any other */
/* Temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, no penalties, which look back on 64. */
#define UNPU_SESSION_PARAMS_INIT \
	{ sizeof(struct unpu_session_params), 0, UNPU_KV_DEFAULT, 0, 0.8f, 40, 0.95f, 0.05f, 1.0f, \
	  64, 0, 0, 0.0f, 0.0f, NULL, 0, 0, NULL, NULL, NULL, 0 }

/*
 * A conversation on a model: its KV cache, history and sampler. On success *session is the caller's
 * and ends with unpu_session_destroy(), before its model does. -EINVAL: context above the model's,
 * a setting out of range (the log names it); -ENOTSUP: the device has no such KV type; -ENOSPC:
 * memory, or sessions (cpu: 64), are no more to be had from the device.
 */
UNPU_API int unpu_session_create(struct unpu_model *model,
				 const struct unpu_session_params *params,
				 struct unpu_session **session);
UNPU_API void unpu_session_destroy(struct unpu_session *session);

/*
 * Append tokens; all, or none on error. -ENOSPC: they do not fit the context; -EINVAL: bad id;
 * -EIO: the device failed; -ECANCELED.
 */
UNPU_API int unpu_session_prompt(struct unpu_session *session, const uint32_t *ids, size_t count);

/*
 * Make the session's tokens be ids. Those they begin with in common are kept as they are, only the
 * rest is run: a long prompt that stays the same costs nothing the second time. Returns how many
 * were kept. Errors as unpu_session_prompt(); on error the session has the tokens it had.
 */
UNPU_API int64_t unpu_session_replace(struct unpu_session *session, const uint32_t *ids,
				      size_t count);

/* Keep the first count tokens; 0 begins anew. -EINVAL: it has fewer. */
UNPU_API int unpu_session_rollback(struct unpu_session *session, uint32_t count);

/* The session's tokens from `first` on: returns how many there are, writes up to max of them. */
UNPU_API int64_t unpu_session_tokens(const struct unpu_session *session, uint32_t first,
				     uint32_t *ids, size_t max);

/*
 * Append tokens and write the logits that follow each of them: count x vocab floats. Errors as
 * unpu_session_prompt(); the first call takes the memory for it.
 */
UNPU_API int unpu_session_logits(struct unpu_session *session, const uint32_t *ids, size_t count,
				 float *logits);

enum unpu_reason {
	UNPU_REASON_LENGTH = 0,	/* as many tokens as asked for */
	UNPU_REASON_END,	/* an end-of-text token; it is among the session's tokens */
	UNPU_REASON_CONTEXT,	/* the context is full */
	UNPU_REASON_CALLBACK,	/* the callback said so */
	UNPU_REASON_STOP,	/* a stop string; its tokens are among the session's */
	UNPU_REASON_CANCELLED,	/* unpu_session_cancel() */
};

/*
 * A new token and the text that became certain with it: whole UTF-8 characters that are not part of
 * a stop string nor may become it (length may be 0). id UINT32_MAX: text that was held back. Not 0
 * ends the generation after this token.
 */
typedef int unpu_token_fn(void *arg, uint32_t id, const char *text, size_t length);

/*
 * Generate up to max tokens and append them. Returns the reason (enum unpu_reason) or -errno;
 * -EINVAL: nothing was prompted; -EIO: the device failed or the model gives values that are not
 * finite; tokens given to the callback before an error stay.
 *
 * Text held back (an incomplete character, the beginning of a stop string) is given at the end
 * for END and CONTEXT. After LENGTH, CALLBACK and CANCELLED it waits for the next call to go on;
 * who does not go on calls unpu_session_flush(), which gives it, an incomplete character as
 * U+FFFD. A stop string and what follows it are never given. Any other change of the session's
 * tokens drops text that waits.
 */
UNPU_API int unpu_session_generate(struct unpu_session *session, size_t max, unpu_token_fn *fn,
				   void *arg);
UNPU_API void unpu_session_flush(struct unpu_session *session, unpu_token_fn *fn, void *arg);

/*
 * End the call that runs on the session, or the next one, from any thread or signal handler:
 * generate returns UNPU_REASON_CANCELLED within one token, prompt, replace and logits -ECANCELED
 * within one batch of rows. One cancel ends one call, which may be one whose text ends by itself at
 * that moment; unpu_session_uncancel() takes back one that came too late.
 */
UNPU_API void unpu_session_cancel(struct unpu_session *session);
UNPU_API void unpu_session_uncancel(struct unpu_session *session);

/*
 * Change the seed, sampler settings, bias, stop strings and flags for what follows; context, kv,
 * batch, progress and speculate are not read. On error nothing changes.
 */
UNPU_API int unpu_session_set_sampler(struct unpu_session *session,
				      const struct unpu_session_params *params);

/*
 * The settings in force, as unpu_session_set_sampler() takes them: those of a session that was
 * loaded, say, to change one of them. bias and stop point into the session, until the next change.
 */
UNPU_API int unpu_session_sampler(const struct unpu_session *session,
				  struct unpu_session_params *params);

struct unpu_session_info {
	size_t size;		/* sizeof(struct unpu_session_info), set by the caller */
	uint32_t context;	/* tokens there is room for */
	uint32_t used;		/* tokens in it */
	uint64_t seed;
	uint64_t kv_bytes;
	uint64_t work_bytes;	/* buffers besides KV */
	uint64_t prompt_tokens, prompt_ns;	/* tokens run, not those kept by replace */
	uint64_t generated_tokens, generate_ns;
	uint64_t dispatches;	/* of one generated token */
	enum unpu_kv kv;
	const char *device;	/* where it runs now; lives as long as the model */
	uint64_t drafted_tokens, accepted_tokens;	/* guessed, and of these right */
};
#define UNPU_SESSION_INFO_INIT \
	{ sizeof(struct unpu_session_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, UNPU_KV_DEFAULT, NULL, \
	  0, 0 }
UNPU_API int unpu_session_info(const struct unpu_session *session, struct unpu_session_info *info);

/* ---- sessions on disk ------------------------------------------------------------------- */

#define UNPU_SAVE_KV	(1u << 0)	/* with the KV cache: larger, but nothing to run again */

/*
 * Write tokens, sampler settings and, if asked, the KV cache. The file is complete or not there:
 * it is written beside path, synced and renamed. A file that was there keeps its permissions, a
 * link its name; a device or pipe is written to. unpu_session_save_fd() writes at the fd's offset,
 * which may be a pipe's, and does not sync. -ENOSPC, -EACCES, ...: as open(2) and write(2), the log
 * names the file; -EIO: of the device, too.
 */
UNPU_API int unpu_session_save(struct unpu_session *session, const char *path, uint32_t flags);
UNPU_API int unpu_session_save_fd(struct unpu_session *session, int fd, uint32_t flags);

/*
 * Give the session the tokens and sampler settings of a file; those it had are lost on success and
 * kept on error. Returns 1 when the KV cache came from the file too; 0 when the tokens were run
 * again, because the file has no cache (the log says so at level info) or one of another model, KV
 * type, numeric class or is damaged (at level warn, which). -EINVAL: no session file, one whose
 * tokens or settings are damaged or out of range; -ENOSPC: more tokens than the context has room
 * for; -ECANCELED: while the tokens ran; else as read(2). A file is never trusted: one made to
 * harm can at worst give a session that talks nonsense.
 */
UNPU_API int unpu_session_load(struct unpu_session *session, const char *path);
UNPU_API int unpu_session_load_fd(struct unpu_session *session, int fd);

#ifdef __cplusplus
}
#endif
#endif
