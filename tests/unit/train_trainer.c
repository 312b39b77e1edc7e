/* SPDX-License-Identifier: MIT */
/* Lines become samples; a training learns them, and goes on from a checkpoint to the bit. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/model/gguf.h"
#include "runtime/text/tokenizer.h"
#include "train/jsonl.h"
#include "train/model.h"
#include "train/trainer.h"

#define MOST	60u

static const char lines[] =
	"{\"prompt\":\"light on\",\"answer\":{\"do\" : \"on\", \"n\": [1, 2]}}\n"
	"\n"
	"{\"prompt\":\"light off\",\"answer\":{\"do\":\"off\"}}\r\n"
	"{\"answer\":\"a \\\"b\\\" \\u00e4\",\"other\":[{}],\"prompt\":\"\\ud83d\\ude00 x\"}\n"
	"{\"prompt\":\"door open\",\"answer\":{\"do\":\"open\"}}";

/* Everything from lines to a training. */
struct rig {
	struct unpu_texts texts;
	struct unpu_samples train, valid;
	struct unpu_ggufw *w;
	struct unpu_gguf *gguf;
	struct unpu_tokenizer *tok;
	struct unpu_net *net;
	struct unpu_trainer *trainer;
	struct unpu_net_shape shape;
};

static const struct unpu_trainer_settings settings = {
	.seed = 9, .steps = 120, .warmup = 5, .batch = 3, .accumulate = 2, .rate = 1e-2f,
	.final_rate = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.01f,
	.clip = 1, .dropout = 0.05f,
};

static void setup(struct rig *r, const struct unpu_trainer_settings *set)
{
	struct unpu_model_text text = { .name = "t", .pre = "smollm" };
	struct unpu_merge_pair pairs[MOST];
	struct unpu_merges *merges;
	const void *data;
	size_t size;

	memset(r, 0, sizeof(*r));
	assert_int_equal(unpu_texts_init(&r->texts, "lines", strdup(lines), strlen(lines), NULL),
			 0);
	assert_int_equal(r->texts.num_pairs, 4);
	assert_int_equal(unpu_merges_create("smollm", NULL, &merges), 0);
	for (uint32_t i = 0; i < 4; i++)
		unpu_merges_add(merges, r->texts.pairs[i].answer,
				r->texts.pairs[i].answer_length);
	text.merges = pairs;
	text.num_merges = (uint32_t)unpu_merges_find(merges, MOST, pairs);
	unpu_merges_destroy(merges);
	r->shape = (struct unpu_net_shape){ 1, 32, 2, 1, 16, 48, text.num_merges + 257, 48,
					    1e-5f, 10000, true };
	assert_int_equal(unpu_ggufw_create(NULL, &r->w), 0);
	unpu_model_write_keys(r->w, &r->shape, &text);
	assert_int_equal(unpu_ggufw_finish(r->w, &data, &size), 0);
	assert_int_equal(unpu_gguf_create(data, size, NULL, &r->gguf), 0);
	assert_int_equal(unpu_tokenizer_create(r->gguf, NULL, &r->tok), 0);
	assert_int_equal(unpu_samples_init(&r->train, &r->texts, r->tok, UNPU_MODEL_EOS,
					   r->shape.context, NULL), 0);
	assert_int_equal(r->train.count, 4);
	assert_int_equal(unpu_samples_split(&r->train, 4, &r->valid), 0);
	assert_int_equal(unpu_net_create(&r->shape, 2, ~0u, NULL, &r->net), 0);
	unpu_net_init_weights(r->net, 1);
	assert_int_equal(unpu_trainer_create(r->net, &r->train, &r->valid, set, NULL,
					     &r->trainer), 0);
}

static void teardown(struct rig *r)
{
	unpu_trainer_destroy(r->trainer);
	unpu_net_destroy(r->net);
	unpu_samples_finish(&r->train);
	unpu_samples_finish(&r->valid);
	unpu_tokenizer_destroy(r->tok);
	unpu_gguf_destroy(r->gguf);
	unpu_ggufw_destroy(r->w);
	unpu_texts_finish(&r->texts);
}

static bool pair_is(const struct unpu_text_pair *p, const char *prompt, const char *answer)
{
	return p->prompt_length == strlen(prompt) && p->answer_length == strlen(answer) &&
	       !memcmp(p->prompt, prompt, p->prompt_length) &&
	       !memcmp(p->answer, answer, p->answer_length);
}

static void test_lines(void **state)
{
	struct rig r;
	uint32_t targets = 0;

	(void)state;
	setup(&r, &settings);
	assert_true(pair_is(&r.texts.pairs[0], "light on", "{\"do\":\"on\",\"n\":[1,2]}"));
	assert_true(pair_is(&r.texts.pairs[1], "light off", "{\"do\":\"off\"}"));
	assert_true(pair_is(&r.texts.pairs[2], "\xf0\x9f\x98\x80 x", "a \"b\" \xc3\xa4"));
	assert_int_equal(r.texts.pairs[3].line, 5);
	assert_int_equal(r.train.count, 3);
	assert_int_equal(r.valid.count, 1);
	for (size_t i = 0; i < r.train.rows; i++)
		targets += r.train.targets[i] >= 0;
	assert_int_equal(targets, r.train.num_targets);
	/* What follows the prompt's newline is learned, the last target is the end of text. */
	assert_int_equal(r.train.targets[0], -1);
	assert_int_equal(r.train.targets[r.train.starts[1] - 1], UNPU_MODEL_EOS);
	teardown(&r);
}

static void test_wrong_lines(void **state)
{
	static const char *const wrong[] = {
		"{", "{\"prompt\":\"a\"}", "{\"prompt\":1,\"answer\":\"b\"}", "{\"answer\":2}",
		"{\"prompt\":\"a\",\"answer\":[1,]}", "{\"prompt\":\"a\",\"answer\":{\"x\"}}",
		"{\"prompt\":\"a\",\"answer\":\"b\"} c", "{\"prompt\":\"\\u12\",\"answer\":\"\"}",
		"{\"prompt\":\"\\q\",\"answer\":\"\"}", "{\"prompt\":\"a\",\"answer\":\"b",
		"{\"prompt\":\"a\nb\",\"answer\":\"b\"}", "", "  \n \n", "[1]\n\x01{}",
		"{\"prompt\":\"a\",\"answer\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1",
	};
	struct unpu_texts texts;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		/* Plain text is anything that does not begin with a brace; an empty one is none. */
		int want = wrong[i][0] == '{' || !wrong[i][0] ? -EINVAL : 0;

		assert_int_equal(unpu_texts_init(&texts, "x", strdup(wrong[i]),
						 strlen(wrong[i]), NULL), want);
		if (!want)
			unpu_texts_finish(&texts);
	}
	assert_int_equal(unpu_texts_init(&texts, "x", calloc(4, 1), 4, NULL), -EINVAL);
}

static double walk(struct unpu_trainer *t, uint32_t steps)
{
	struct unpu_trainer_step step = { 0 };

	for (uint32_t i = 0; i < steps; i++)
		assert_int_equal(unpu_trainer_step(t, &step), 1);
	return step.loss;
}

static void test_learns(void **state)
{
	struct unpu_trainer_step step;
	struct rig r;
	double first;
	bool best;

	(void)state;
	setup(&r, &settings);
	first = walk(r.trainer, 1);
	assert_true(walk(r.trainer, 119) < first / 10);
	assert_int_equal(unpu_trainer_step(r.trainer, &step), 0);
	assert_int_equal(unpu_trainer_validate(r.trainer, &step, &best), 0);
	assert_true(best);
	assert_memory_equal(unpu_trainer_weights(r.trainer), unpu_net_weights(r.net),
			    unpu_net_floats(r.net) * sizeof(float));
	teardown(&r);
}

static void test_resumes(void **state)
{
	char path[] = "/tmp/unpu-train-XXXXXX";
	int fd = mkstemp(path);
	struct unpu_trainer_step step;
	struct rig a, b;
	bool best;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	setup(&a, &settings);
	walk(a.trainer, 20);
	assert_int_equal(unpu_trainer_validate(a.trainer, &step, &best), 0);
	walk(a.trainer, 2);
	assert_int_equal(unpu_trainer_save(a.trainer, path), 0);
	walk(a.trainer, 20);
	setup(&b, &settings);
	assert_int_equal(unpu_trainer_load(b.trainer, path), 0);
	assert_int_equal(unpu_trainer_at(b.trainer), 22);
	walk(b.trainer, 20);
	assert_memory_equal(unpu_net_weights(a.net), unpu_net_weights(b.net),
			    unpu_net_floats(a.net) * sizeof(float));
	assert_memory_equal(unpu_trainer_weights(a.trainer), unpu_trainer_weights(b.trainer),
			    unpu_net_floats(a.net) * sizeof(float));
	teardown(&a);
	teardown(&b);
	unlink(path);
}

/* One byte after the other, the length too: refused, and nothing has changed. */
static void test_damaged(void **state)
{
	char path[] = "/tmp/unpu-train-XXXXXX";
	int fd = mkstemp(path);
	struct unpu_trainer_settings other = settings;
	float before;
	struct rig r;
	long size;
	FILE *file;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	setup(&r, &settings);
	walk(r.trainer, 3);
	assert_int_equal(unpu_trainer_save(r.trainer, path), 0);
	walk(r.trainer, 1);
	before = unpu_net_weights(r.net)[7];
	file = fopen(path, "r+");
	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	for (long at = 0; at < size; at += at < 200 ? 1 : size / 10) {
		int c;

		fseek(file, at, SEEK_SET);
		c = fgetc(file);
		fseek(file, at, SEEK_SET);
		fputc(c ^ 0x41, file);
		fflush(file);
		assert_int_equal(unpu_trainer_load(r.trainer, path), -EINVAL);
		fseek(file, at, SEEK_SET);
		fputc(c, file);
		fflush(file);
	}
	assert_int_equal(ftruncate(fileno(file), size - 1), 0);
	assert_int_equal(unpu_trainer_load(r.trainer, path), -EINVAL);
	assert_int_equal(ftruncate(fileno(file), 10), 0);
	assert_int_equal(unpu_trainer_load(r.trainer, path), -EINVAL);
	fclose(file);
	assert_true(unpu_net_weights(r.net)[7] == before);
	assert_int_equal(unpu_trainer_at(r.trainer), 4);
	assert_int_equal(unpu_trainer_save(r.trainer, "/proc/none/x"), -ENOENT);
	assert_int_equal(unpu_trainer_save(r.trainer, path), 0);
	teardown(&r);
	other.rate = 2e-2f;
	setup(&r, &other);
	assert_int_equal(unpu_trainer_load(r.trainer, path), -EINVAL);
	teardown(&r);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines), cmocka_unit_test(test_wrong_lines),
		cmocka_unit_test(test_learns), cmocka_unit_test(test_resumes),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
