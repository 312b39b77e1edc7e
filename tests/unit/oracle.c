/* SPDX-License-Identifier: MIT */
/*
 * The reference against outputs of other implementations (../shared/golden), and without them
 * against numbers that it gave when it agreed with those.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/oracle.h"
#include "tests/lib/tiny.h"

static void log_print(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	print_message("log %d: %s\n", level, text);
}

struct model {
	uint8_t *data;
	struct unpu_gguf *gguf;
	struct unpu_arch *arch;
};

static void model_open(struct model *m, uint8_t *data, size_t size)
{
	struct unpu_log log = { log_print, NULL };

	m->data = data;
	assert_int_equal(unpu_gguf_create(data, size, &log, &m->gguf), 0);
	assert_int_equal(unpu_arch_create(m->gguf, &log, &m->arch), 0);
}

static void model_tiny(struct model *m, const struct tiny_params *params)
{
	size_t size;
	uint8_t *data = tiny_model(params, &size);

	assert_non_null(data);
	model_open(m, data, size);
}

static void model_close(struct model *m)
{
	unpu_arch_destroy(m->arch);
	unpu_gguf_destroy(m->gguf);
	free(m->data);
}

/* ---- golden outputs --------------------------------------------------------------------- */

static void *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	long length;

	if (!file)
		return NULL;
	fseek(file, 0, SEEK_END);
	length = ftell(file);
	rewind(file);
	data = malloc(length + 1);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, length, file), length);
	data[length] = 0;
	fclose(file);
	*size = length;
	return data;
}

/* A path below ../shared; the test is skipped when it is not there. */
static void shared_path(char path[512], const char *rest)
{
	const char *root = getenv("UNPU_SHARED");

	snprintf(path, 512, "%s/%s", root ? root : "../shared", rest);
	if (access(path, R_OK)) {
		print_message("needs %s (UNPU_SHARED or ../shared)\n", rest);
		skip();
	}
}

static size_t read_ids(const char *text, uint32_t *ids, size_t max)
{
	size_t n = 0;
	char *end;

	for (; n < max; text = end) {
		ids[n] = strtoul(text, &end, 10);
		if (end == text)
			break;
		n++;
	}
	return n;
}

static uint32_t argmax(const double *x, uint32_t n)
{
	uint32_t best = 0, i;

	for (i = 1; i < n; i++) {
		if (x[i] > x[best])
			best = i;
	}
	return best;
}

/* The ids of file, each the likeliest after the prompt and those before it. */
static void check_greedy(const struct unpu_arch *arch, const char *file, const uint32_t *prompt,
			 size_t num_prompt)
{
	uint32_t ids[128], vocab = arch->hp.vocab;
	char path[512], *text;
	double *logits;
	size_t n, i;

	shared_path(path, file);
	text = read_file(path, &n);
	assert_non_null(text);
	memcpy(ids, prompt, num_prompt * sizeof(*ids));
	n = num_prompt + read_ids(text, ids + num_prompt, 128 - num_prompt);
	assert_true(n >= num_prompt + 16);
	free(text);
	logits = calloc(n * vocab, sizeof(*logits));
	assert_non_null(logits);
	assert_int_equal(oracle_logits(arch, ids, n, logits), 0);
	for (i = num_prompt; i < n; i++)
		assert_int_equal(argmax(logits + (i - 1) * vocab, vocab), ids[i]);
	free(logits);
}

static void test_aidreams(void **state)
{
	static const uint32_t prompt[] = { 1, 303, 281, 269, 435, 447, 275 };
	struct model m;
	char path[512];
	size_t size;
	uint8_t *data;

	(void)state;
	shared_path(path, "golden/aidreams260k.greedy");
	shared_path(path, "models/aidreams260k.gguf");
	data = read_file(path, &size);
	assert_non_null(data);
	model_open(&m, data, size);
	check_greedy(m.arch, "golden/aidreams260k.greedy", prompt, 7);
	model_close(&m);
}

/* The model that mkmodel.py writes; skips where there is no python3 with numpy. */
static uint8_t *make_model(const char *name, size_t *size)
{
	char dir[] = "/tmp/unpu-oracle-XXXXXX", tool[512], command[1200], path[64];
	uint8_t *data = NULL;
	int status;

	shared_path(tool, "tools/mkmodel.py");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/model.gguf", dir);
	snprintf(command, sizeof(command), "'%s' '%s' %s %s --type f32 --seed 1",
		 access("/usr/bin/python3", X_OK) ? "python3" : "/usr/bin/python3", tool, name,
		 path);
	status = system(command);
	if (!status)
		data = read_file(path, size);
	unlink(path);
	rmdir(dir);
	if (!data) {
		print_message("mkmodel.py failed (python3 with numpy?)\n");
		skip();
	}
	return data;
}

/* Worst difference from the golden logits, as a share of the largest. */
static double off_by(const struct unpu_arch *arch, const char *file, const uint32_t *ids, size_t n,
		     oracle_gelu_fn *gelu)
{
	double max = 0, worst = 0, *logits;
	char path[512];
	size_t size, i;
	uint8_t *raw;
	float golden;
	int err;

	shared_path(path, file);
	raw = read_file(path, &size);
	assert_non_null(raw);
	assert_int_equal(size, n * arch->hp.vocab * 4);
	logits = calloc(n * arch->hp.vocab, sizeof(*logits));
	assert_non_null(logits);
	err = gelu ? oracle_logits_gelu(arch, ids, n, gelu, logits) :
		     oracle_logits(arch, ids, n, logits);
	assert_int_equal(err, 0);
	for (i = 0; i < n * arch->hp.vocab; i++) {
		memcpy(&golden, raw + 4 * i, 4);
		assert_true(isfinite(logits[i]));
		max = fmax(max, fabs(golden));
		worst = fmax(worst, fabs(golden - logits[i]));
	}
	free(logits);
	free(raw);
	print_message("%s: off by %.2g of max|logit|\n", file, worst / max);
	return worst / max;
}

static const uint32_t golden_prompt[] = {
	1, 72, 104, 111, 111, 114, 35, 122, 114, 117, 111, 103, 301, 402, 17, 509,
};

static void check_golden(const char *name, oracle_gelu_fn *gelu, double tolerance)
{
	struct model m;
	char file[64];
	size_t size;
	uint8_t *data = make_model(name, &size);

	model_open(&m, data, size);
	snprintf(file, sizeof(file), "golden/%s-f32.logits", name);
	assert_true(off_by(m.arch, file, golden_prompt, 16, gelu) <= tolerance);
	snprintf(file, sizeof(file), "golden/%s-f32.greedy", name);
	check_greedy(m.arch, file, golden_prompt, 16);
	model_close(&m);
}

static void test_golden_llama(void **state)
{
	(void)state;
	check_golden("tiny-llama", NULL, 2e-4);
}

/* llama.cpp takes GELU from a table with f16 in and out, as did the golden logits. */
static double gelu_table(double x)
{
	if (fabs(x) >= 10)
		return x > 0 ? x : 0;
	x = oracle_f16(x);
	return oracle_f16(0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))));
}

static void test_golden_gpt2(void **state)
{
	(void)state;
	check_golden("tiny-gpt2", gelu_table, 2e-4);
}

/* Exact, it is as far off as two roundings of 2^-11 in each of two layers make it. */
static void test_golden_gpt2_exact(void **state)
{
	(void)state;
	check_golden("tiny-gpt2", NULL, 4 * 0x1p-11);
}

static void test_golden_qwen2(void **state)
{
	(void)state;
	check_golden("tiny-qwen2", NULL, 2e-4);
}

static void test_golden_qwen3(void **state)
{
	(void)state;
	check_golden("tiny-qwen3", NULL, 5e-3);
}

/* ---- without ../shared ------------------------------------------------------------------ */

static const char *const archs[] = { "llama", "qwen2", "qwen3", "gpt2" };
static const uint32_t types[] = {
	UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0,
};

static uint64_t fnv1a(const uint8_t *data, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; size; size--)
		hash = (hash ^ *data++) * 0x100000001b3;
	return hash;
}

/* Tests on other machines compare numbers with those of this one: the bytes must be the same. */
static void test_tiny_bytes(void **state)
{
	static const uint64_t hashes[4][5] = {
		{ 0xbafa7421df87ff0d, 0x37266d4e8c557419,
		  0x2c0a70133534d02d, 0x554c1b30e9032c84,
		  0x6e2b5747314ca544 },
		{ 0x887b4082039d6050, 0xdba5927b18778d71,
		  0x1027605c004536e9, 0xc4aae4a49122278f,
		  0xd3d28c78ce282462 },
		{ 0x8bab077d7e497e61, 0x777b6a97d5cea91a,
		  0x1cc5949e6ce6839e, 0x4b22067b0fd0db7f,
		  0xe5e9c68b2b6f11c3 },
		{ 0x75c99f1b1111337c, 0xaa5fd3d14acbe70a,
		  0x569f22683a9b81eb, 0x592a4cf1407b4527,
		  0x9f302116800926f9 },
	};
	size_t a, t, size;
	uint8_t *data;

	(void)state;
	for (a = 0; a < 4; a++) {
		for (t = 0; t < 5; t++) {
			struct tiny_params p = { .arch = archs[a], .type = types[t], .tied = -1,
						 .seed = 1 };

			data = tiny_model(&p, &size);
			assert_non_null(data);
			if (fnv1a(data, size) != hashes[a][t])
				fail_msg("%s %s: 0x%016llx", archs[a], unpu_type_name(types[t]),
					 (unsigned long long)fnv1a(data, size));
			free(data);
		}
	}
}

/* What quantisation may change: half a step of the type, and the rounding of the step to f16. */
static double allowed(uint32_t type, const double *block)
{
	double max = 0;
	int i;

	for (i = 0; i < 32; i++)
		max = fmax(max, fabs(block[i]));
	switch (type) {
	case UNPU_TYPE_F16:
		return max * 0x1p-11;
	case UNPU_TYPE_BF16:
		return max * 0x1p-8;
	case UNPU_TYPE_Q8_0:
		return max / 127 * 0.5 + max * 0x1p-10;
	case UNPU_TYPE_Q4_0:
		return max / 8 + max * 0x1p-10;	/* 8 is cut to 7 at the far end */
	default:
		return 0;
	}
}

static void check_rows(const struct unpu_tensor *exact, const struct unpu_tensor *t)
{
	double *a = calloc(2 * t->dims[0], sizeof(*a)), *b = a + t->dims[0];
	uint64_t r, i;

	assert_non_null(a);
	for (r = 0; r < t->dims[1]; r++) {
		oracle_row(exact, r, a);
		oracle_row(t, r, b);
		for (i = 0; i < t->dims[0] / 32 * 32; i++)
			assert_true(fabs(a[i] - b[i]) <= allowed(t->type, a + i / 32 * 32));
	}
	free(a);
}

/* The same seed gives the same values before they become a type. */
static void test_rows(void **state)
{
	struct tiny_params p = { .arch = "llama", .seed = 7, .hidden = 64, .ffn = 160, .heads = 4,
				 .kv_heads = 2, .head_dim = 16 };
	struct model exact, m;
	const struct unpu_tensor *t;
	uint32_t i;
	size_t k;

	(void)state;
	model_tiny(&exact, &p);
	for (k = 0; k < 5; k++) {
		p.type = types[k];
		model_tiny(&m, &p);
		assert_int_equal(m.arch->layers[1].down->type, types[k]);
		for (i = 0; (t = unpu_gguf_tensor_at(m.gguf, i)); i++)
			check_rows(unpu_gguf_tensor_at(exact.gguf, i), t);
		model_close(&m);
	}
	model_close(&exact);
}

/* By hand: values, extremes and layout of each type. */
static void test_row_values(void **state)
{
	uint8_t q8[34] = { 0x00, 0x38, 0x80, 0x7f, 0xff }, q4[18] = { 0x00, 0xb8, 0x0f, 0x80 };
	uint8_t f16[12] = { 0x00, 0x3c, 0x01, 0x00, 0xff, 0x7b, 0x00, 0x80, 0x00, 0xfc, 1, 0x7c };
	uint8_t bf16[4] = { 0x80, 0x3f, 0x49, 0xc0 };
	struct unpu_tensor t = { .type = UNPU_TYPE_Q8_0, .dims = { 32, 1, 1, 1 }, .data = q8 };
	double x[32];

	(void)state;
	oracle_row(&t, 0, x);
	assert_true(x[0] == -64 && x[1] == 63.5 && x[2] == -0.5 && x[3] == 0);
	t = (struct unpu_tensor){ .type = UNPU_TYPE_Q4_0, .dims = { 32, 1, 1, 1 }, .data = q4 };
	oracle_row(&t, 0, x);
	assert_true(x[0] == -3.5 && x[16] == 4 && x[1] == 4 && x[17] == 0);
	t = (struct unpu_tensor){ .type = UNPU_TYPE_F16, .dims = { 6, 1, 1, 1 }, .data = f16 };
	oracle_row(&t, 0, x);
	assert_true(x[0] == 1 && x[1] == 0x1p-24 && x[2] == 65504 && x[3] == 0 && signbit(x[3]));
	assert_true(isinf(x[4]) && x[4] < 0 && isnan(x[5]));
	t = (struct unpu_tensor){ .type = UNPU_TYPE_BF16, .dims = { 2, 1, 1, 1 }, .data = bf16 };
	oracle_row(&t, 0, x);
	assert_true(x[0] == 1 && x[1] == -3.140625);
}

#define PROMPT	12

static double *tiny_logits(const struct model *m, size_t n)
{
	static const uint32_t prompt[PROMPT] = { 1, 100, 265, 7, 330, 42, 42, 0, 259, 300, 12, 5 };
	double *logits = calloc(n * m->arch->hp.vocab, sizeof(*logits));

	assert_non_null(logits);
	assert_int_equal(oracle_logits(m->arch, prompt, n, logits), 0);
	return logits;
}

/* What the reference gave when it agreed with the golden outputs: the sum of squares of the last
 * logits and one of them. */
static void test_unchanged(void **state)
{
	static const double expect[4][5][2] = {
		{ { 332.573257815584, -0.391607824034 },
		  { 332.546542920359, -0.391995837835 }, { 332.788043287585, -0.388564653558 },
		  { 346.654699922144, 1.623970069662 }, { 320.289445427937, 1.481774189496 } },
		{ { 330.539177562230, -0.242053593217 },
		  { 330.571760413853, -0.239902791845 }, { 330.119364780873, -0.246973367871 },
		  { 349.135514312915, 0.166450616329 }, { 338.142229406153, -0.164651761334 } },
		{ { 282.076916262260, -0.342030923641 },
		  { 282.065577222239, -0.341063830248 }, { 281.757830522047, -0.321144871134 },
		  { 345.490830296659, 0.380816973145 }, { 350.215026954518, 0.273755982210 } },
		{ { 334.212867740771, 0.682537993348 },
		  { 334.261904545345, 0.682537809840 }, { 334.096711934646, 0.680119533467 },
		  { 376.825643065657, -1.644977330470 }, { 364.637661653806, -1.106286055258 } },
	};
	double *logits, *last, sum;
	struct model m;
	size_t a, t, i;

	(void)state;
	for (a = 0; a < 4; a++) {
		for (t = 0; t < 5; t++) {
			struct tiny_params p = { .arch = archs[a], .type = types[t], .tied = -1,
						 .seed = 1 };

			model_tiny(&m, &p);
			logits = tiny_logits(&m, PROMPT);
			last = logits + (PROMPT - 1) * m.arch->hp.vocab;
			for (i = 0, sum = 0; i < m.arch->hp.vocab; i++)
				sum += last[i] * last[i];
			if (fabs(sum - expect[a][t][0]) > 1e-9 * sum ||
			    fabs(last[33] - expect[a][t][1]) > 1e-9)
				fail_msg("%s %s: { %.12f, %.12f }", archs[a],
					 unpu_type_name(types[t]), sum, last[33]);
			free(logits);
			model_close(&m);
		}
	}
}

/* What follows a token does not reach it. */
static void test_causal(void **state)
{
	struct model m;
	double *few, *all;
	size_t a, i;

	(void)state;
	for (a = 0; a < 4; a++) {
		struct tiny_params p = { .arch = archs[a], .tied = a & 1, .seed = 3 };

		model_tiny(&m, &p);
		few = tiny_logits(&m, 5);
		all = tiny_logits(&m, PROMPT);
		for (i = 0; i < 5 * m.arch->hp.vocab; i++)
			assert_true(few[i] == all[i]);
		free(few);
		free(all);
		model_close(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aidreams),
		cmocka_unit_test(test_golden_llama),
		cmocka_unit_test(test_golden_gpt2),
		cmocka_unit_test(test_golden_gpt2_exact),
		cmocka_unit_test(test_golden_qwen2),
		cmocka_unit_test(test_golden_qwen3),
		cmocka_unit_test(test_tiny_bytes),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_row_values),
		cmocka_unit_test(test_unchanged),
		cmocka_unit_test(test_causal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
