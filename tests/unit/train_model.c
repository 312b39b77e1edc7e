/* SPDX-License-Identifier: MIT */
/*
 * What the trainer writes is what the runtime reads: the tokenizer gives every text back, the
 * network's loss is that of the loaded model.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/model/blocks.h"
#include "runtime/model/gguf.h"
#include "runtime/text/tokenizer.h"
#include "runtime/unpu.h"
#include "train/model.h"
#include "train/quantize.h"

static const char *const texts[] = {
	"turn the lights on in the kitchen\n{\"action\":\"on\",\"device\":\"light\"}",
	"turn the lights off in the kitchen\n{\"action\":\"off\",\"device\":\"light\"}",
	"the heating in the kitchen, please: 21 degrees",
	"\xc3\xa4\xc3\xb6\xc3\xbc \xe2\x82\xac \xff\xfe\x01\x7f  \t\r\n",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"",
};
#define NUM_TEXTS	(sizeof(texts) / sizeof(texts[0]))
#define MOST		200u

struct made {
	struct unpu_ggufw *w;
	const void *data;
	size_t size;
	struct unpu_net *net;
	struct unpu_merge_pair merges[MOST];
	uint32_t num_merges;
};

static void find_merges(struct made *m)
{
	struct unpu_merges *merges;
	int64_t found;

	assert_int_equal(unpu_merges_create("smollm", NULL, &merges), 0);
	for (size_t i = 0; i < NUM_TEXTS; i++)
		assert_int_equal(unpu_merges_add(merges, texts[i], strlen(texts[i])), 0);
	found = unpu_merges_find(merges, MOST, m->merges);
	assert_true(found > 20 && found <= MOST);
	m->num_merges = (uint32_t)found;
	unpu_merges_destroy(merges);
}

static void make(struct made *m, uint32_t type)
{
	struct unpu_net_shape shape = {
		.layers = 2, .hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 96,
		.context = 64, .eps = 1e-5f, .rope_base = 10000, .tied = true,
	};
	struct unpu_model_text text = { .name = "test", .pre = "smollm", .merges = m->merges };

	find_merges(m);
	text.num_merges = m->num_merges;
	shape.vocab = m->num_merges + 257;
	assert_int_equal(unpu_net_create(&shape, 1, ~0u, NULL, &m->net), 0);
	unpu_net_init_weights(m->net, 3);
	for (size_t i = 0; i < unpu_net_floats(m->net); i++)
		unpu_net_weights(m->net)[i] *= 3;
	assert_int_equal(unpu_ggufw_create(NULL, &m->w), 0);
	unpu_model_write_keys(m->w, &shape, &text);
	assert_int_equal(unpu_model_write_tensors(m->w, m->net, unpu_net_weights(m->net), type),
			 0);
	assert_int_equal(unpu_ggufw_finish(m->w, &m->data, &m->size), 0);
}

static void finish(struct made *m)
{
	unpu_ggufw_destroy(m->w);
	unpu_net_destroy(m->net);
}

static void test_tokenizer(void **state)
{
	struct unpu_tokenizer *tok;
	struct unpu_gguf *gguf;
	struct made m;

	(void)state;
	make(&m, UNPU_TYPE_F32);
	assert_int_equal(unpu_gguf_create(m.data, m.size, NULL, &gguf), 0);
	assert_int_equal(unpu_tokenizer_create(gguf, NULL, &tok), 0);
	for (size_t i = 0; i < NUM_TEXTS; i++) {
		size_t length = strlen(texts[i]);
		uint32_t ids[256];
		char back[256];
		int64_t n = unpu_tokenizer_encode(tok, texts[i], length, 0, ids, 256), bytes;

		assert_in_range(n, length ? 1 : 0, length);
		bytes = unpu_tokenizer_decode(tok, ids, (size_t)n, back, sizeof(back));
		if (i != 3) {	/* which is no UTF-8 */
			assert_int_equal(bytes, length);
			assert_memory_equal(back, texts[i], length);
		}
		if (i < 2)	/* seen twice as good as whole */
			assert_true((size_t)n < length / 3);
	}
	unpu_tokenizer_destroy(tok);
	unpu_gguf_destroy(gguf);
	finish(&m);
}

/* The same pairs from the same texts, whatever order they came in. */
static void test_order(void **state)
{
	struct unpu_merge_pair other[MOST];
	struct unpu_merges *merges;
	struct made m;

	(void)state;
	find_merges(&m);
	assert_int_equal(unpu_merges_create("smollm", NULL, &merges), 0);
	for (size_t i = NUM_TEXTS; i-- > 0;)
		assert_int_equal(unpu_merges_add(merges, texts[i], strlen(texts[i])), 0);
	assert_int_equal(unpu_merges_find(merges, MOST, other), m.num_merges);
	assert_memory_equal(m.merges, other, m.num_merges * sizeof(*other));
	unpu_merges_destroy(merges);
}

/* Errors within half a step (Q8_0), or those of the best of the scales tried (Q4_0). */
static void test_quantize(void **state)
{
	static const uint32_t types[] = {
		UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0,
	};
	static const float bound[] = { 0, 1 / 2048.f, 0.51f / 127, 0.57f / 7 };
	float x[64], zero[64] = { 0 };
	uint8_t out[256];

	(void)state;
	for (int i = 0; i < 64; i++)
		x[i] = sinf((float)(i * i)) * (i < 32 ? 1 : 100);
	for (size_t t = 2; t < 4; t++) {
		struct unpu_block b;

		assert_true(unpu_quantize_type(types[t], 64));
		assert_false(unpu_quantize_type(types[t], 48));
		unpu_quantize_row(types[t], x, 64, out);
		for (uint32_t i = 0; i < 64; i++) {
			unpu_block_read(types[t], out, i / 32, &b);
			assert_true(fabsf(unpu_block_weight(&b, i % 32) - x[i]) <=
				    bound[t] * (i < 32 ? 1 : 100));
		}
		unpu_quantize_row(types[t], zero, 64, out);
		unpu_block_read(types[t], out, 1, &b);
		for (uint32_t i = 0; i < 32; i++)
			assert_true(unpu_block_weight(&b, i) == 0);
	}
	unpu_quantize_row(UNPU_TYPE_F32, x, 64, out);
	assert_memory_equal(out, x, 256);
}

/* Loss of one text, by the network and by a session on the file that was made of it. */
static double net_loss(struct made *m, const uint32_t *ids, uint32_t n)
{
	const uint32_t starts[] = { 0, n };
	int32_t tokens[64], targets[64];
	struct unpu_net_batch batch = { tokens, targets, n, starts, 1 };
	struct unpu_net_pass pass = { .scale = 1 };
	double loss;

	for (uint32_t i = 0; i < n; i++) {
		tokens[i] = (int32_t)ids[i];
		targets[i] = i + 1 < n ? (int32_t)ids[i + 1] : -1;
	}
	assert_int_equal(unpu_net_run(m->net, &batch, &pass, &loss, NULL), 0);
	return loss;
}

static double session_loss(struct unpu_model *model, const uint32_t *ids, uint32_t n,
			   uint32_t vocab)
{
	struct unpu_session_params params = UNPU_SESSION_PARAMS_INIT;
	float *logits = malloc((size_t)n * vocab * sizeof(*logits));
	struct unpu_session *session;
	double loss = 0;

	params.kv = UNPU_KV_F32;
	assert_int_equal(unpu_session_create(model, &params, &session), 0);
	assert_int_equal(unpu_session_logits(session, ids, n, logits), 0);
	for (uint32_t i = 0; i + 1 < n; i++) {
		const float *row = logits + (size_t)i * vocab;
		double sum = 0;

		for (uint32_t j = 0; j < vocab; j++)
			sum += exp((double)row[j]);
		loss += log(sum) - row[ids[i + 1]];
	}
	unpu_session_destroy(session);
	free(logits);
	return loss;
}

static void test_runs(void **state)
{
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_model *model;
	uint32_t ids[64];
	struct made m;
	int64_t n;

	(void)state;
	params.device = "cpu";
	params.threads = 1;
	make(&m, UNPU_TYPE_F32);
	assert_int_equal(unpu_model_load_memory(m.data, m.size, &params, &model), 0);
	n = unpu_tokenize(model, texts[0], strlen(texts[0]), 0, ids, 64);
	assert_in_range(n, 8, 64);
	assert_true(fabs(net_loss(&m, ids, (uint32_t)n) -
			 session_loss(model, ids, (uint32_t)n, m.num_merges + 257)) < 1e-3);
	unpu_model_destroy(model);
	finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokenizer), cmocka_unit_test(test_order),
		cmocka_unit_test(test_quantize), cmocka_unit_test(test_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
