/* SPDX-License-Identifier: MIT */
/* Layer plans and hyper-parameters of each architecture, and each sentence of refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "tests/lib/edit.h"
#include "tests/lib/tiny.h"

struct heard {
	int errors, others;
	char text[512];
};

static void hear(void *arg, enum unpu_log_level level, const char *text)
{
	struct heard *heard = arg;

	if (level == UNPU_LOG_ERROR)
		heard->errors++;
	else
		heard->others++;
	snprintf(heard->text, sizeof(heard->text), "%s", text);
}

static struct heard heard;
static const struct unpu_log log_heard = { hear, &heard };

static struct edit tiny(const char *arch, uint32_t type)
{
	struct tiny_params p = { .arch = arch, .type = type, .tied = -1, .seed = 1 };
	struct edit e;

	e.data = tiny_model(&p, &e.size);
	assert_non_null(e.data);
	return e;
}

static struct unpu_gguf *open_file(const struct edit *e)
{
	struct unpu_gguf *gguf;

	memset(&heard, 0, sizeof(heard));
	if (unpu_gguf_create(e->data, e->size, &log_heard, &gguf))
		fail_msg("refused: %s", heard.text);
	return gguf;
}

/* One sentence, and what it says. Frees the file. */
static void refused(struct edit e, const char *says)
{
	struct unpu_gguf *gguf = open_file(&e);
	struct unpu_arch *arch = (void *)&heard;

	assert_int_equal(unpu_arch_create(gguf, &log_heard, &arch), -EINVAL);
	assert_ptr_equal(arch, &heard);
	assert_int_equal(heard.errors, 1);
	assert_int_equal(heard.others, 0);
	if (!strstr(heard.text, says))
		fail_msg("'%s' does not say '%s'", heard.text, says);
	assert_null(strchr(heard.text, '\n'));
	unpu_gguf_destroy(gguf);
	free(e.data);
}

struct model {
	struct edit e;
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;
};

static struct model accepted(struct edit e)
{
	struct model m = { .e = e, .gguf = open_file(&e) };

	if (unpu_arch_create(m.gguf, &log_heard, &m.arch))
		fail_msg("refused: %s", heard.text);
	assert_int_equal(heard.errors + heard.others, 0);
	return m;
}

static void drop(struct model *m)
{
	unpu_arch_destroy(m->arch);
	unpu_gguf_destroy(m->gguf);
	free(m->e.data);
}

/* ---- what is accepted ------------------------------------------------------------------- */

static void test_llama(void **state)
{
	struct model m = accepted(tiny("llama", UNPU_TYPE_F16));
	const struct unpu_hparams *hp = &m.arch->hp;
	const struct unpu_layer *l = &m.arch->layers[1];

	(void)state;
	assert_string_equal(m.arch->name, "llama");
	assert_true(hp->context == 128 && hp->layers == 2 && hp->hidden == 72 && hp->ffn == 172);
	assert_true(hp->heads == 3 && hp->kv_heads == 1 && hp->head_dim == 24 && hp->vocab == 331);
	assert_true(hp->norm_eps == 1e-5f && hp->rope_base == 1e4f && hp->rope_scale == 1);
	assert_int_equal(hp->rope_dims, 24);
	assert_true(fabs(hp->attn_scale - 1 / sqrt(24)) < 1e-7);
	assert_true(m.arch->plan.norm == UNPU_NORM_RMS && m.arch->plan.rope == UNPU_ROPE_PAIRS);
	assert_true(m.arch->plan.gated && m.arch->plan.act == UNPU_ACT_SILU);
	assert_false(m.arch->plan.attn_bias || m.arch->plan.out_bias || m.arch->plan.ffn_bias);
	assert_false(m.arch->plan.qk_norm || m.arch->plan.fused_qkv);
	assert_true(unpu_str_is(l->k->name, "blk.1.attn_k.weight"));
	assert_true(unpu_str_is(l->gate->name, "blk.1.ffn_gate.weight"));
	assert_null(l->q_b);
	assert_null(l->q_norm);
	assert_null(l->attn_norm_b);
	assert_ptr_not_equal(m.arch->head, m.arch->embed);
	assert_null(m.arch->positions);
	drop(&m);
}

static void test_qwen(void **state)
{
	struct model m = accepted(tiny("qwen2", UNPU_TYPE_Q8_0));

	(void)state;
	assert_true(m.arch->plan.attn_bias && m.arch->plan.rope == UNPU_ROPE_HALVES);
	assert_int_equal(m.arch->layers[0].v_b->dims[0], 32);
	assert_ptr_equal(m.arch->head, m.arch->embed);
	assert_true(m.arch->hp.rope_base == 1e6f);
	drop(&m);
	m = accepted(tiny("qwen3", UNPU_TYPE_Q4_0));
	assert_true(m.arch->plan.qk_norm && !m.arch->plan.attn_bias);
	assert_int_equal(m.arch->layers[1].k_norm->dims[0], 16);
	assert_int_equal(m.arch->layers[1].down->type, UNPU_TYPE_Q4_0);
	drop(&m);
}

static void test_gpt2(void **state)
{
	struct model m = accepted(tiny("gpt2", UNPU_TYPE_BF16));
	const struct unpu_layer *l = &m.arch->layers[0];

	(void)state;
	assert_true(m.arch->plan.norm == UNPU_NORM_LAYER && m.arch->plan.norm_bias);
	assert_true(m.arch->plan.fused_qkv && m.arch->plan.learned_positions);
	assert_true(!m.arch->plan.gated && m.arch->plan.act == UNPU_ACT_GELU);
	assert_true(m.arch->plan.rope == UNPU_ROPE_NONE && !m.arch->hp.rope_dims);
	assert_true(m.arch->plan.attn_bias && m.arch->plan.out_bias && m.arch->plan.ffn_bias);
	assert_int_equal(l->q->dims[1], 3 * 72);
	assert_int_equal(l->q_b->dims[0], 3 * 72);
	assert_null(l->k);
	assert_null(l->gate);
	assert_non_null(l->down_b);
	assert_non_null(m.arch->out_norm_b);
	assert_int_equal(m.arch->positions->dims[1], 128);
	drop(&m);
}

static void test_biases(void **state)
{
	static const char *const names[][2] = {
		{ "attn_q.bias", "H" }, { "attn_k.bias", "K" }, { "attn_v.bias", "K" },
		{ "attn_output.bias", "" }, { "ffn_gate.bias", "F" }, { "ffn_up.bias", "F" },
		{ "ffn_down.bias", "" },
	};
	struct edit e = tiny("llama", UNPU_TYPE_F32);
	struct model m;
	char name[64];
	size_t i;
	int l;

	(void)state;
	for (l = 0; l < 2; l++) {
		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			snprintf(name, sizeof(name), "blk.%d.%s", l, names[i][0]);
			edit_tensor(&e, name, names[i][1][0] == 'K' ? 24 :
				    names[i][1][0] == 'F' ? 172 : 72, 0);
		}
	}
	m = accepted(e);
	assert_true(m.arch->plan.attn_bias && m.arch->plan.out_bias && m.arch->plan.ffn_bias);
	assert_non_null(m.arch->layers[1].gate_b);
	assert_non_null(m.arch->layers[1].k_b);
	assert_non_null(m.arch->layers[1].down_b);
	drop(&m);
}

static void test_optional_keys(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_Q8_0);
	struct model m;

	(void)state;
	edit_hide(&e, "llama.attention.key_length");
	edit_hide(&e, "llama.attention.value_length");
	edit_hide(&e, "llama.rope.freq_base");
	edit_key_u32(&e, "llama.rope.dimension_count", 8);
	edit_key_u32(&e, "llama.expert_count", 0);
	m = accepted(e);
	assert_int_equal(m.arch->hp.head_dim, 16);
	assert_int_equal(m.arch->hp.rope_dims, 8);
	assert_true(m.arch->hp.rope_base == 10000);
	drop(&m);
	e = tiny("gpt2", UNPU_TYPE_F32);
	edit_hide(&e, "gpt2.attention.head_count_kv");
	m = accepted(e);
	assert_int_equal(m.arch->hp.kv_heads, 3);
	drop(&m);
}

static void test_rope_scaling(void **state)
{
	static const struct {
		const char *type;
		float factor, legacy, want;
	} cases[] = {
		{ NULL, 0, 0, 1 }, { "none", 4, 0, 1 }, { "linear", 4, 0, 4 }, { NULL, 4, 0, 4 },
		{ NULL, 0, 2.5f, 2.5f }, { "linear", 4, 2, 4 }, { "linear", 0, 0, 1 },
	};
	struct edit e;
	struct model m;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		e = tiny("qwen2", UNPU_TYPE_F32);
		if (cases[i].type)
			edit_key_str(&e, "qwen2.rope.scaling.type", cases[i].type);
		if (cases[i].factor > 0)
			edit_key_f32(&e, "qwen2.rope.scaling.factor", cases[i].factor);
		if (cases[i].legacy > 0)
			edit_key_f32(&e, "qwen2.rope.scale_linear", cases[i].legacy);
		m = accepted(e);
		assert_true(m.arch->hp.rope_scale == cases[i].want);
		drop(&m);
	}
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_str(&e, "llama.rope.scaling.type", "yarn");
	refused(e, "rope scaling 'yarn' (llama.rope.scaling.type) is not supported; none and "
		"linear are");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_f32(&e, "llama.rope.scaling.factor", 0);
	refused(e, "key 'llama.rope.scaling.factor' is 0; it must be above 0");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_tensor(&e, "rope_freqs.weight", 12, 0);
	refused(e, "tensor 'rope_freqs.weight' (rope scaled by frequency");
}

static void test_context(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);
	struct model m;

	(void)state;
	edit_key_u32(&e, "llama.context_length", UINT32_MAX);
	m = accepted(e);
	assert_int_equal(m.arch->hp.context, 1 << 20);
	drop(&m);
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_u32(&e, "llama.attention.sliding_window", 100);
	m = accepted(e);
	assert_int_equal(m.arch->hp.context, 100);
	drop(&m);
	e = tiny("gpt2", UNPU_TYPE_F32);
	edit_key_u32(&e, "gpt2.context_length", 127);
	refused(e, "tensor 'position_embd.weight' is 72 x 128 x 1 x 1; 72 x 127 is needed");
}

/* ---- what is refused -------------------------------------------------------------------- */

static void test_architecture(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);

	(void)state;
	edit_hide(&e, "general.architecture");
	refused(e, "key 'general.architecture' is missing");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_str(&e, "general.architecture", "mamba\n");
	refused(e, "architecture 'mamba?' is not supported; supported are llama, qwen2, qwen3, "
		"gpt2");
}

static void test_missing_keys(void **state)
{
	static const char *const keys[] = {
		"context_length", "embedding_length", "block_count", "feed_forward_length",
		"attention.head_count", "attention.layer_norm_rms_epsilon",
	};
	char key[64], says[128];
	struct edit e;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		e = tiny("qwen3", UNPU_TYPE_F32);
		snprintf(key, sizeof(key), "qwen3.%s", keys[i]);
		snprintf(says, sizeof(says), "key '%s' is missing", key);
		edit_hide(&e, key);
		refused(e, says);
	}
	e = tiny("gpt2", UNPU_TYPE_F32);
	edit_hide(&e, "gpt2.attention.layer_norm_epsilon");
	refused(e, "key 'gpt2.attention.layer_norm_epsilon' is missing");
}

static void refused_u32(const char *key, uint32_t value, const char *says)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);

	edit_key_u32(&e, key, value);
	refused(e, says);
}

static void test_numbers(void **state)
{
	struct edit e;

	(void)state;
	refused_u32("llama.embedding_length", 0, "is 0; 1 to 65536 are allowed");
	refused_u32("llama.embedding_length", 65537, "is 65537; 1 to 65536 are allowed");
	refused_u32("llama.embedding_length", 4, "llama.embedding_length is 4; the least is 8");
	refused_u32("llama.block_count", 0, "key 'llama.block_count' is 0;");
	refused_u32("llama.feed_forward_length", 1 << 19, "'llama.feed_forward_length' is 524288");
	refused_u32("llama.context_length", 0, "key 'llama.context_length' is 0;");
	refused_u32("llama.attention.head_count", 0, "head_count' is 0; 1 to 1024 are allowed");
	refused_u32("llama.attention.head_count", 2000, "head_count' is 2000;");
	refused_u32("llama.attention.head_count_kv", 2, "3 heads cannot share 2 KV heads");
	refused_u32("llama.attention.head_count_kv", 0, "head_count_kv' is 0;");
	refused_u32("llama.attention.value_length", 16, "value_length is 16; it must be "
		    "key_length, 24");
	refused_u32("llama.rope.dimension_count", 23, "dimension_count is 23; it must be even");
	refused_u32("llama.rope.dimension_count", 26, "at most the head's 24");
	refused_u32("llama.expert_count", 8, "llama.expert_count is 8; mixtures of experts are "
		    "not supported");
	refused_u32("llama.rope.freq_base", 8, "'llama.rope.freq_base' is of type u32, not f32");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_u32(&e, "llama.attention.key_length", 20);
	edit_key_u32(&e, "llama.attention.value_length", 20);
	refused(e, "heads of 20 values are not supported; multiples of 8 up to 256 are");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_u32(&e, "llama.attention.key_length", 264);
	edit_key_u32(&e, "llama.attention.value_length", 264);
	refused(e, "heads of 264 values are not supported");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_f32(&e, "llama.attention.layer_norm_rms_epsilon", -1e-5f);
	refused(e, "epsilon' is -1e-05; it must be above 0");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_f32(&e, "llama.rope.freq_base", NAN);
	refused(e, "key 'llama.rope.freq_base' is");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_f32(&e, "llama.rope.freq_base", INFINITY);
	refused(e, "key 'llama.rope.freq_base' is inf");
}

static struct edit copy_of(const struct edit *e)
{
	struct edit copy = { malloc(e->size), e->size };

	assert_non_null(copy.data);
	memcpy(copy.data, e->data, e->size);
	return copy;
}

/* Every tensor of every architecture, one at a time: gone, and of another shape. */
static void test_every_tensor(void **state)
{
	static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
	const struct unpu_tensor *t;
	char name[128], says[200];
	struct unpu_gguf *gguf;
	struct edit e, copy;
	size_t a, i, n;

	(void)state;
	for (a = 0; a < 4; a++) {
		e = tiny(archs[a], UNPU_TYPE_F32);
		gguf = open_file(&e);
		n = unpu_gguf_num_tensors(gguf);
		for (i = 0; i < n; i++) {
			t = unpu_gguf_tensor_at(gguf, i);
			snprintf(name, sizeof(name), "%.*s", (int)t->name.len, t->name.ptr);
			copy = copy_of(&e);
			edit_dims(&copy, name, t->dims[0] - 1, t->dims[1]);
			snprintf(says, sizeof(says), "tensor '%s' is %d x", name,
				 (int)t->dims[0] - 1);
			refused(copy, says);
			copy = copy_of(&e);
			edit_hide(&copy, name);
			snprintf(says, sizeof(says), "tensor '%s' is missing", name);
			if (!strcmp(name, "output.weight"))
				strcpy(says, "tensor 'Output.weight' has no place in a llama");
			refused(copy, says);
		}
		unpu_gguf_destroy(gguf);
		free(e.data);
	}
}

static void test_other_tensors(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);

	(void)state;
	edit_tensor(&e, "blk.0.attn_sub_norm.weight", 72, 0);
	refused(e, "tensor 'blk.0.attn_sub_norm.weight' has no place in a llama model");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_u32(&e, "llama.block_count", 1);
	refused(e, "tensor 'blk.1.attn_norm.weight' has no place");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_key_u32(&e, "llama.block_count", UINT32_MAX);
	refused(e, "tensor 'blk.2.attn_norm.weight' is missing");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_tensor(&e, "blk.0.attn_k.bias", 24, 0);
	refused(e, "tensor 'blk.0.attn_q.bias' is missing");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_tensor(&e, "blk.0.attn_output.bias", 72, 0);
	refused(e, "tensor 'blk.1.attn_output.bias' is missing");
	e = tiny("llama", UNPU_TYPE_F32);
	edit_tensor(&e, "blk.1.attn_output.bias", 72, 0);
	refused(e, "tensor 'blk.1.attn_output.bias' has no place");
	e = tiny("qwen2", UNPU_TYPE_F32);
	edit_tensor(&e, "blk.0.ffn_down.bias", 72, 0);
	refused(e, "tensor 'blk.0.ffn_down.bias' has no place in a qwen2 model");
}

static void test_kinds(void **state)
{
	struct tiny_params p = { .arch = "llama", .hidden = 256, .seed = 1 };
	struct edit e;

	(void)state;
	e.data = tiny_model(&p, &e.size);
	edit_type(&e, "blk.1.ffn_up.weight", 10);
	refused(e, "tensor 'blk.1.ffn_up.weight' has type Q2_K; supported there are F32, F16, "
		"BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL: make the file "
		"anew with one of them");
	e.data = tiny_model(&p, &e.size);
	edit_type(&e, "token_embd.weight", 11);
	refused(e, "tensor 'token_embd.weight' has type Q3_K; supported there are F32");
	e.data = tiny_model(&p, &e.size);
	edit_type(&e, "output.weight", 23);
	refused(e, "tensor 'output.weight' has type IQ4_XS;");
	e.data = tiny_model(&p, &e.size);
	edit_type(&e, "blk.0.attn_norm.weight", 14);
	refused(e, "tensor 'blk.0.attn_norm.weight' has type Q6_K; supported there are F32, F16, "
		"BF16: ");
	e.data = tiny_model(&p, &e.size);
	edit_type(&e, "blk.0.attn_norm.weight", UNPU_TYPE_Q8_0);
	refused(e, "tensor 'blk.0.attn_norm.weight' has type Q8_0; supported there are "
		"F32, F16, BF16");
}

static void test_vocab(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);

	(void)state;
	edit_hide(&e, "token_embd.weight");
	edit_tensor(&e, "token_embd.weight", 1, (1 << 20) + 1);
	refused(e, "tensor 'token_embd.weight' has 1048577 rows; at most 1048576 are supported");
}

static void test_vocab_only(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);
	struct unpu_gguf *gguf = open_file(&e);
	const struct unpu_tensor *t = unpu_gguf_tensor_at(gguf, 0);

	(void)state;
	e.size = (const uint8_t *)t->name.ptr - 8 - e.data;
	unpu_gguf_destroy(gguf);
	memset(e.data + 8, 0, 8);
	refused(e, "the file holds no tensors, only keys");
}

static void test_nobody_listens(void **state)
{
	struct edit e = tiny("llama", UNPU_TYPE_F32);
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;

	(void)state;
	assert_int_equal(unpu_gguf_create(e.data, e.size, NULL, &gguf), 0);
	assert_int_equal(unpu_arch_create(gguf, NULL, &arch), 0);
	unpu_arch_destroy(arch);
	unpu_arch_destroy(NULL);
	unpu_gguf_destroy(gguf);
	free(e.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llama),
		cmocka_unit_test(test_qwen),
		cmocka_unit_test(test_gpt2),
		cmocka_unit_test(test_biases),
		cmocka_unit_test(test_optional_keys),
		cmocka_unit_test(test_rope_scaling),
		cmocka_unit_test(test_context),
		cmocka_unit_test(test_architecture),
		cmocka_unit_test(test_missing_keys),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_every_tensor),
		cmocka_unit_test(test_other_tensors),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_vocab),
		cmocka_unit_test(test_vocab_only),
		cmocka_unit_test(test_nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
