/* SPDX-License-Identifier: MIT */
/*
 * A file becomes keys, tensors, a tokenizer, layer plans, packed weights and a session that says
 * something: as far as the file lets it. What is refused is refused with one sentence.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core.h"
#include "tests/lib/fuzz.h"

/* ---- keys and tensors ------------------------------------------------------------------- */

static void check_string(const struct unpu_gguf *gguf, struct unpu_str str, const uint8_t *data)
{
	const uint8_t *at = (const uint8_t *)str.ptr;

	FUZZ_CHECK(at >= data && at <= data + unpu_gguf_size(gguf));
	FUZZ_CHECK(str.len <= (size_t)(data + unpu_gguf_size(gguf) - at));
}

static void check_tensor(const struct unpu_gguf *gguf, const struct unpu_tensor *t,
			 const uint8_t *data)
{
	const struct unpu_type_info *type = unpu_type_info(t->type);
	uint64_t elements = 1, bytes = 0;
	char name[128];
	uint32_t i;

	FUZZ_CHECK(t->num_dims >= 1 && t->num_dims <= 4);
	for (i = 0; i < 4; i++) {
		FUZZ_CHECK(t->dims[i] && (i < t->num_dims || t->dims[i] == 1));
		FUZZ_CHECK(!__builtin_mul_overflow(elements, t->dims[i], &elements));
		FUZZ_CHECK(elements >> 63 == 0);
	}
	FUZZ_CHECK(t->data >= data && t->data <= data + unpu_gguf_size(gguf));
	FUZZ_CHECK(t->bytes <= (size_t)(data + unpu_gguf_size(gguf) - t->data));
	if (type)
		FUZZ_CHECK(!__builtin_mul_overflow(elements / type->block, type->bytes, &bytes));
	FUZZ_CHECK(t->bytes == bytes);
	check_string(gguf, t->name, data);
	FUZZ_CHECK(t->name.len >= 1 && t->name.len < sizeof(name));
	memcpy(name, t->name.ptr, t->name.len);
	name[t->name.len] = 0;
	FUZZ_CHECK(unpu_gguf_tensor(gguf, name) == t);
}

static void check_strings(const struct unpu_gguf *gguf, const uint8_t *data)
{
	struct unpu_gguf_strings strings;
	struct unpu_str str;
	uint64_t count;

	if (unpu_gguf_strings(gguf, "tokenizer.ggml.tokens", &strings, &count))
		return;
	for (; unpu_gguf_strings_next(&strings, &str); count--)
		check_string(gguf, str, data);
	FUZZ_CHECK(count == 0);
}

/* Every tensor lies in the file, no two share a byte, and each is found by its name. */
static bool check_file(const uint8_t *data, size_t size)
{
	struct unpu_gguf *gguf = NULL;
	struct unpu_str str;
	struct fuzz_log log;
	uint32_t i, j, n;
	int err;

	fuzz_log_init(&log);
	err = unpu_gguf_create(data, size, &log.log, &gguf);
	FUZZ_CHECK(log.errors == (err != 0) && (err != 0) == !gguf);
	if (err)
		return false;
	n = unpu_gguf_num_tensors(gguf);
	FUZZ_CHECK(n <= size);
	for (i = 0; i < n; i++) {
		const struct unpu_tensor *a = unpu_gguf_tensor_at(gguf, i), *b;

		check_tensor(gguf, a, data);
		for (j = 0; j < i; j++) {
			b = unpu_gguf_tensor_at(gguf, j);
			FUZZ_CHECK(a->data >= b->data + b->bytes || b->data >= a->data + a->bytes);
		}
	}
	FUZZ_CHECK(!unpu_gguf_tensor_at(gguf, n));
	if (!unpu_gguf_str(gguf, "general.architecture", &str))
		check_string(gguf, str, data);
	check_strings(gguf, data);
	unpu_gguf_destroy(gguf);
	return true;
}

/* ---- info ------------------------------------------------------------------------------- */

static struct unpu_model *load(const uint8_t *data, size_t size, uint32_t flags, uint32_t *errors)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model = NULL;
	struct fuzz_log log;
	int err;

	fuzz_log_init(&log);
	params.flags = flags;
	params.threads = 1;
	params.log = log.log.fn;
	params.log_arg = log.log.arg;
	err = unpu_model_load_memory(data, size, &params, &model);
	FUZZ_CHECK((err != 0) == !model && log.errors == (err != 0));
	*errors = log.errors;
	/* The log goes with this function. */
	if (model)
		model->log = (struct unpu_log){ 0 };
	return model;
}

/* A well-formed file loads for info, whatever is in it. */
static void check_info(const uint8_t *data, size_t size)
{
	struct unpu_model_info info = { .size = sizeof(info) };
	struct unpu_tensor_info tensor = UNPU_TENSOR_INFO_INIT;
	struct unpu_model *model;
	uint32_t i, errors;

	model = load(data, size, UNPU_MODEL_INFO_ONLY, &errors);
	FUZZ_CHECK(model);
	FUZZ_CHECK(!unpu_model_info(model, &info));
	FUZZ_CHECK(strlen(info.name) < size && strlen(info.architecture) < size);
	FUZZ_CHECK(info.file_bytes == size && strlen(info.weight_type) < 16);
	for (i = 0; !unpu_model_tensor(model, i, &tensor); i++)
		FUZZ_CHECK(strlen(tensor.name) < 128 && strlen(tensor.type) < 16);
	unpu_model_destroy(model);
}

/* ---- use -------------------------------------------------------------------------------- */

static int count_tokens(void *arg, uint32_t id, const char *text, size_t length)
{
	uint32_t *count = arg;

	*count += id != UINT32_MAX;
	return length > 1 << 20 || (length && !text);
}

/* A model that loads runs; only its numbers may be such that it says so and stops. */
static void check_session(struct unpu_model *model)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	struct unpu_session *session = NULL;
	uint32_t ids[4], count = 0;
	int64_t num;
	int ret;

	/* The least there is: 64 cells. */
	params.context = 1;
	params.batch = 2;
	params.seed = 1;
	ret = unpu_session_create(model, &params, &session);
	if (ret)
		return;
	num = unpu_tokenize(model, "a", 1, UNPU_TOKENIZE_ADD_SPECIAL, ids, 4);
	FUZZ_CHECK(num >= 0);
	if (num == 0)
		ids[num++] = 0;
	if (num <= 4 && !unpu_session_prompt(session, ids, (size_t)num)) {
		ret = unpu_session_generate(session, 2, count_tokens, &count);
		FUZZ_CHECK(ret == -EIO || (ret >= 0 && count <= 2));
	}
	unpu_session_destroy(session);
}

static void check_use(const uint8_t *data, size_t size)
{
	struct unpu_model *model;
	uint32_t errors;

	model = load(data, size, 0, &errors);
	if (!model)
		return;
	/* Within what a test can wait for. */
	if ((uint64_t)model->arch->hp.layers * model->arch->hp.hidden <= 4096 &&
	    model->arch->hp.vocab <= 4096 && model->arch->hp.ffn <= 4096)
		check_session(model);
	unpu_model_destroy(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!check_file(data, size))
		return 0;
	check_info(data, size);
	check_use(data, size);
	return 0;
}
