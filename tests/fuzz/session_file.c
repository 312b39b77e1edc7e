/* SPDX-License-Identifier: MIT */
/*
 * Session files. The input is one without its sums, which are put in and made right (anybody can),
 * with the model's own id and shape where it says so: parsed from memory, then loaded into a
 * session of a small model, which goes on afterwards as far as the numbers let it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/model/gguf.h"
#include "runtime/session/file.h"
#include "tests/lib/fuzz.h"
#include "tests/lib/session_file.h"
#include "tests/lib/tiny.h"

#define CONTEXT		64u
#define FILE_MAX	(1u << 16)

/* ---- the sessions that files are loaded into ---------------------------------------------- */

static struct unpu_model *model;
static struct unpu_session *sessions[3];	/* by enum unpu_kv - 1 */
static struct unpu_session_head heads[3];	/* of files that they write */
static struct fuzz_log said;

static int new_file(void)
{
	int fd = memfd_create("fuzz", 0);

	FUZZ_CHECK(fd >= 0);
	return fd;
}

static void make_session(uint32_t i)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	const uint32_t ids[] = { 1, 300, 5 };
	int fd = new_file();

	params.context = CONTEXT;
	params.batch = 4;
	params.kv = (enum unpu_kv)(i + 1);
	params.seed = 1;
	FUZZ_CHECK(!unpu_session_create(model, &params, &sessions[i]));
	FUZZ_CHECK(!unpu_session_prompt(sessions[i], ids, 3));
	FUZZ_CHECK(!unpu_session_save_fd(sessions[i], fd, UNPU_SAVE_KV));
	FUZZ_CHECK(pread(fd, &heads[i], sizeof(heads[i]), 0) == sizeof(heads[i]));
	close(fd);
}

static void make_sessions(void)
{
	struct tiny_params tiny = {
		.arch = "llama", .type = UNPU_TYPE_F32, .hidden = 16, .ffn = 32, .layers = 1,
		.heads = 1, .kv_heads = 1, .head_dim = 8, .vocab = 320, .context = CONTEXT,
		.tied = -1, .seed = 3,
	};
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	size_t size;
	uint8_t *data = tiny_model(&tiny, &size);
	uint32_t i;

	FUZZ_CHECK(data);
	fuzz_log_init(&said);
	params.threads = 1;
	params.log = said.log.fn;
	params.log_arg = said.log.arg;
	FUZZ_CHECK(!unpu_model_load_memory(data, size, &params, &model));
	for (i = 0; i < 3; i++)
		make_session(i);
}

/* ---- files ------------------------------------------------------------------------------ */

/* A part of the input, and after it room for a sum. */
static size_t add_part(uint8_t *file, size_t at, struct fuzz_input *in, uint64_t bytes)
{
	size_t n = bytes < in->left ? (size_t)bytes : in->left;

	memcpy(file + at, in->at, n);
	in->at += n;
	in->left -= n;
	return at + n + (n == bytes ? 8 : 0);
}

static size_t make_file(uint8_t *file, struct fuzz_input *in, uint32_t how)
{
	uint32_t kv = how >> 4 & 3;
	struct unpu_session_head head;
	size_t at = 0;

	memset(file, 0, FILE_MAX);
	if (how & 8)	/* as it is */
		return add_part(file, 0, in, FILE_MAX);
	at = add_part(file, 0, in, sizeof(head));
	memcpy(&head, file, sizeof(head));
	if (how & 1)	/* what stands before the settings, the number of tokens apart */
		memcpy(&head, &heads[kv % 3], offsetof(struct unpu_session_head, num_tokens));
	if (how & 2) {	/* the cache's shape */
		memcpy(&head.kv_type, &heads[kv % 3].kv_type,
		       offsetof(struct unpu_session_head, positions) -
		       offsetof(struct unpu_session_head, kv_type));
		memset(head.reserved, 0, sizeof(head.reserved));
	}
	if (how & 4)
		head.positions = head.num_tokens ? head.num_tokens - 1 : 0;
	memcpy(file, &head, sizeof(head));
	at = add_part(file, at, in, 4ull * head.num_tokens + 8ull * head.num_bias +
		      head.stop_bytes);
	at = add_part(file, at, in, in->left);
	session_file_seal(file, at);
	return at;
}

static void check_parse(const uint8_t *file, size_t size)
{
	struct fuzz_log log;
	int ret;

	fuzz_log_init(&log);
	ret = unpu_session_file_parse(file, size, &log.log);
	FUZZ_CHECK(ret == 0 || ret == 1 || ret == -EINVAL || ret == -ENOSPC || ret == -ENOMEM);
	FUZZ_CHECK(log.errors == (ret < 0));
}

/* ---- loading ---------------------------------------------------------------------------- */

/* Tokens, and one after them when there is room. */
static void check_session(struct unpu_session *session)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;
	uint32_t ids[CONTEXT];
	int64_t num = unpu_session_tokens(session, 0, ids, CONTEXT), i;
	int ret;

	FUZZ_CHECK(num >= 0 && num <= CONTEXT);
	for (i = 0; i < num; i++)
		FUZZ_CHECK(ids[i] < 320);
	FUZZ_CHECK(!unpu_session_info(session, &info) && info.used == num);
	ret = unpu_session_generate(session, 1, NULL, NULL);
	FUZZ_CHECK(ret >= 0 || ret == -EIO || (ret == -EINVAL && num == 0));
	unpu_session_flush(session, NULL, NULL);
}

/* What was there before a file was refused. */
static void make_known(struct unpu_session *session)
{
	const uint32_t ids[] = { 1, 7 };

	FUZZ_CHECK(unpu_session_replace(session, ids, 2) >= 0);
}

static void check_load(struct unpu_session *session, const uint8_t *file, size_t size)
{
	static int fd = -1;
	uint32_t ids[3];
	int ret;

	if (fd < 0)
		fd = new_file();
	FUZZ_CHECK(!ftruncate(fd, 0) && pwrite(fd, file, size, 0) == (ssize_t)size);
	FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0);
	make_known(session);
	said.errors = said.others = 0;
	ret = unpu_session_load_fd(session, fd);
	FUZZ_CHECK(ret <= 1 && said.errors == (ret < 0));
	if (ret < 0) {
		FUZZ_CHECK(ret == -EINVAL || ret == -ENOSPC || ret == -EIO || ret == -ENOMEM);
		FUZZ_CHECK(unpu_session_tokens(session, 0, ids, 3) == 2);
		FUZZ_CHECK(ids[0] == 1 && ids[1] == 7);
	}
	check_session(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[FILE_MAX];
	struct fuzz_input in = { data, size };
	uint32_t how = fuzz_u8(&in);
	uint8_t *exact;
	size_t length;

	if (!model)
		make_sessions();
	if (size > FILE_MAX / 2)
		return 0;
	length = make_file(file, &in, how);
	exact = fuzz_copy(file, length);
	check_parse(exact, length);
	check_load(sessions[(how >> 6) % 3], exact, length);
	free(exact);
	return 0;
}
