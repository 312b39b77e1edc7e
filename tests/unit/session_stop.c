/* SPDX-License-Identifier: MIT */
/* The text of a generation: whole characters, stop strings across tokens and calls, what waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/text/tokenizer.h"
#include "tests/lib/subject.h"
#include "tests/lib/vocab.h"

#define TOKENS		40
#define BYTE(c)		((uint8_t)(c) + 3u)	/* a SentencePiece byte token of tests/lib/tiny.c */

/* ---- what it should be, said another way -------------------------------------------------- */

struct text {
	char bytes[4096];
	size_t length;
};

static struct text text_of(const struct subject *s, const uint32_t *ids, uint32_t prompt,
			   uint32_t count)
{
	struct unpu_utf8_stream stream = { .num_held = 0 };
	struct text text = { .length = 0 };
	char bytes[1024];
	int64_t begin, end;

	begin = unpu_detokenize(s->model, ids, prompt, NULL, 0);
	end = unpu_detokenize(s->model, ids, prompt + count, bytes, sizeof(bytes));
	assert_true(begin >= 0 && end >= begin && end <= (int64_t)sizeof(bytes));
	text.length = unpu_utf8_stream_push(&stream, bytes + begin, (size_t)(end - begin),
					    text.bytes);
	return text;
}

/* Where the stop string that is completed first begins, the longest of those; -1: none is. */
static long find_stop(const struct text *text, const struct unpu_session_params *p)
{
	for (size_t end = 1; end <= text->length; end++)
		for (size_t begin = 0; begin < end; begin++)
			for (uint32_t i = 0; i < p->num_stop; i++)
				if (strlen(p->stop[i]) == end - begin &&
				    !memcmp(text->bytes + begin, p->stop[i], end - begin))
					return (long)begin;
	return -1;
}

/* How much of a text without a stop string cannot become a part of one. */
static size_t certain(const struct text *text, const struct unpu_session_params *p)
{
	for (size_t begin = 0; begin < text->length; begin++)
		for (uint32_t i = 0; i < p->num_stop; i++)
			if (!strncmp(p->stop[i], text->bytes + begin, text->length - begin))
				return begin;
	return text->length;
}

/* ---- random texts and random stop strings ------------------------------------------------- */

/* A sampler that chooses among a few bytes, parts of characters among them. */
static const struct unpu_logit_bias letters[] = {
	{ BYTE('a'), 100 }, { BYTE('b'), 100 }, { BYTE('c'), 100 }, { BYTE(0xc3), 100 },
	{ BYTE(0xa9), 100 }, { BYTE(' '), 100 },
};
static const char *const characters[] = { "a", "b", "c", "\xc3\xa9", " ", "\xef\xbf\xbd" };

static struct unpu_session_params letter_params(uint64_t seed)
{
	struct unpu_session_params params = subject_params();

	params.temperature = 3;
	params.top_k = 0;
	params.top_p = 1;
	params.min_p = 0;
	params.seed = seed;
	params.bias = letters;
	params.num_bias = sizeof(letters) / sizeof(letters[0]);
	return params;
}

static void draw_stops(uint64_t *random, char (*stops)[32], uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		stops[i][0] = 0;
		for (uint32_t n = 1 + vocab_random(random, 4); n; n--)
			strcat(stops[i], characters[vocab_random(random, 6)]);
	}
}

/* As many tokens a call as `step` says (0: at once); after each, what was given is what is certain
 * by then. */
static void check_steps(const struct subject *s, const struct unpu_session_params *p,
			const uint32_t *ids, uint32_t prompt, uint32_t step)
{
	struct unpu_session *session = subject_session(s, p);
	struct subject_text c = { 0 };
	struct text all;
	long stop = -1;
	int reason = 0;

	assert_int_equal(unpu_session_prompt(session, ids, prompt), 0);
	while (c.count < TOKENS && stop < 0) {
		uint32_t left = TOKENS - c.count, n = step && step < left ? step : left;

		reason = unpu_session_generate(session, n, subject_collect, &c);
		all = text_of(s, ids, prompt, c.count);
		stop = find_stop(&all, p);
		assert_int_equal(reason, stop < 0 ? UNPU_REASON_LENGTH : UNPU_REASON_STOP);
		assert_int_equal(c.length, stop < 0 ? certain(&all, p) : (size_t)stop);
		assert_memory_equal(c.text, all.bytes, c.length);
		assert_memory_equal(c.ids, ids + prompt, c.count * sizeof(*ids));
	}
	/* not a token later than needed */
	if (stop >= 0) {
		all = text_of(s, ids, prompt, c.count - 1);
		assert_true(find_stop(&all, p) < 0);
	}
	assert_int_equal(c.flushed, 0);
	assert_int_equal(unpu_session_tokens(session, 0, NULL, 0), prompt + c.count);
	unpu_session_destroy(session);
}

static void stop_strings_are_found(void **state)
{
	const uint32_t prompts[][2] = { { 1, 1 }, { 1, BYTE('a') } };
	bool slow = getenv("UNPU_EMULATED") || getenv("UNPU_SANITIZED");
	uint64_t rounds = slow ? 20 : 150, random = 1, stopped = 0;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	for (uint64_t seed = 0; seed < rounds; seed++) {
		struct unpu_session_params p = letter_params(seed);
		uint32_t ids[2 + TOKENS];
		struct unpu_session *plain = subject_session(&s, &p);
		char stops[4][32];
		const char *list[4] = { stops[0], stops[1], stops[2], stops[3] };
		struct text all;

		memcpy(ids, prompts[seed % 2], sizeof(prompts[0]));
		assert_int_equal(unpu_session_prompt(plain, ids, 2), 0);
		assert_int_equal(unpu_session_generate(plain, TOKENS, NULL, NULL),
				 UNPU_REASON_LENGTH);
		assert_int_equal(unpu_session_tokens(plain, 2, ids + 2, TOKENS), TOKENS);
		unpu_session_destroy(plain);
		p.num_stop = 1 + vocab_random(&random, 4);
		p.stop = list;
		draw_stops(&random, stops, p.num_stop);
		for (uint32_t step = 0; step < 4; step++)
			check_steps(&s, &p, ids, 2, step);
		all = text_of(&s, ids, 2, TOKENS);
		stopped += find_stop(&all, &p) >= 0;
	}
	assert_in_range(stopped, rounds / 4, rounds - 1);
	subject_close(&s);
}

/* ---- texts by dictation ------------------------------------------------------------------- */

/* Greedy, and the next token is the one that a bias names. */
struct dictation {
	struct unpu_session_params params;
	struct unpu_logit_bias bias;
	struct unpu_session *session;
	struct subject_text text;
};

static void dictation_begin(struct dictation *d, const struct subject *s, uint32_t context,
			    const char *const *stop, uint32_t num_stop)
{
	const uint32_t prompt[] = { 1, BYTE('a') };

	*d = (struct dictation){ .params = subject_params() };
	d->params.context = context;
	d->params.stop = stop;
	d->params.num_stop = num_stop;
	d->session = subject_session(s, &d->params);
	assert_int_equal(unpu_session_prompt(d->session, prompt, 2), 0);
}

static int say(struct dictation *d, uint32_t id, unpu_token_fn *fn)
{
	d->bias = (struct unpu_logit_bias){ id, 100 };
	d->params.bias = &d->bias;
	d->params.num_bias = 1;
	assert_int_equal(unpu_session_set_sampler(d->session, &d->params), 0);
	return unpu_session_generate(d->session, 1, fn, &d->text);
}

static int say_text(struct dictation *d, const char *text)
{
	int reason = 0;

	for (; *text; text++)
		reason = say(d, BYTE(*text), subject_collect);
	return reason;
}

static void assert_text(struct dictation *d, const char *text)
{
	assert_int_equal(d->text.length, strlen(text));
	assert_memory_equal(d->text.text, text, strlen(text));
}

static void text_that_waits_is_flushed(void **state)
{
	const char *const stop[] = { "abcd", "\xc3\xa9x" };
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	dictation_begin(&d, &s, 0, stop, 2);
	assert_int_equal(say_text(&d, "xabc"), UNPU_REASON_LENGTH);
	assert_text(&d, "x");
	unpu_session_flush(d.session, subject_collect, &d.text);
	assert_text(&d, "xabc");
	assert_int_equal(d.text.flushed, 1);
	unpu_session_flush(d.session, subject_collect, &d.text);
	assert_int_equal(d.text.flushed, 1);
	/* what was flushed is no beginning any more */
	assert_int_equal(say_text(&d, "dab"), UNPU_REASON_LENGTH);
	assert_text(&d, "xabcd");
	assert_int_equal(say_text(&d, "a\xc3"), UNPU_REASON_LENGTH);
	assert_text(&d, "xabcdab");
	unpu_session_flush(d.session, subject_collect, &d.text);
	assert_text(&d, "xabcdaba\xef\xbf\xbd");
	assert_int_equal(say_text(&d, "\xc3\xa9"), UNPU_REASON_LENGTH);
	unpu_session_flush(d.session, NULL, NULL);
	assert_text(&d, "xabcdaba\xef\xbf\xbd");
	assert_int_equal(d.text.flushed, 2);
	unpu_session_destroy(d.session);
	subject_close(&s);
}

/* A stop string is found, too, where nobody looks at the text, and the text goes on after it. */
static void texts_go_on_after_a_stop(void **state)
{
	const char *const stop[] = { "ab" };
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	dictation_begin(&d, &s, 0, stop, 1);
	assert_int_equal(say(&d, BYTE('a'), NULL), UNPU_REASON_LENGTH);
	assert_int_equal(say(&d, BYTE('b'), NULL), UNPU_REASON_STOP);
	assert_int_equal(say_text(&d, "bcab"), UNPU_REASON_STOP);
	assert_text(&d, "bc");
	assert_int_equal(d.text.count, 4);
	assert_int_equal(subject_info(d.session).used, 2 + 6);
	unpu_session_flush(d.session, subject_collect, &d.text);
	assert_int_equal(d.text.flushed, 0);
	unpu_session_destroy(d.session);
	subject_close(&s);
}

/* The end of a text, and of the context, give what was held back. */
static void ends_give_what_waits(void **state)
{
	const char *const stop[] = { "abcd" };
	uint32_t end = 0, ids[4];
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	while (!unpu_token_is_end(s.model, end))
		end++;
	dictation_begin(&d, &s, 0, stop, 1);
	d.params.flags = 0;
	assert_int_equal(say_text(&d, "ab\xc3"), UNPU_REASON_LENGTH);
	assert_text(&d, "");	/* until the character is whole */
	assert_int_equal(say_text(&d, "\xa9" "abc"), UNPU_REASON_LENGTH);
	assert_text(&d, "ab\xc3\xa9");
	assert_int_equal(say(&d, end, subject_collect), UNPU_REASON_END);
	assert_text(&d, "ab\xc3\xa9" "abc");
	assert_int_equal(d.text.flushed, 1);
	assert_int_equal(unpu_session_tokens(d.session, 2 + 7, ids, 4), 1);
	assert_int_equal(ids[0], end);
	unpu_session_destroy(d.session);

	dictation_begin(&d, &s, 6, stop, 1);
	assert_int_equal(say_text(&d, "xab\xc3"), UNPU_REASON_LENGTH);
	assert_text(&d, "x");
	assert_int_equal(say(&d, BYTE('a'), subject_collect), UNPU_REASON_CONTEXT);
	assert_text(&d, "xab\xef\xbf\xbd");
	assert_int_equal(d.text.flushed, 1);
	unpu_session_destroy(d.session);
	subject_close(&s);
}

/* Held back after an end the callback asked for, until the call that goes on. */
static void callbacks_leave_what_waits(void **state)
{
	const char *const stop[] = { "abcd" };
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	dictation_begin(&d, &s, 0, stop, 1);
	d.text.stop_after = 2;
	assert_int_equal(say_text(&d, "ab"), UNPU_REASON_CALLBACK);
	assert_text(&d, "");
	unpu_session_cancel(d.session);
	assert_int_equal(say_text(&d, "c"), UNPU_REASON_CANCELLED);
	assert_text(&d, "");
	assert_int_equal(say_text(&d, "cx"), UNPU_REASON_LENGTH);
	assert_text(&d, "abcx");
	unpu_session_destroy(d.session);
	subject_close(&s);
}

static void save_and_load(struct unpu_session *session, uint32_t flags)
{
	int fd = memfd_create("session", 0);

	assert_true(fd >= 0);
	assert_int_equal(unpu_session_save_fd(session, fd, flags), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(unpu_session_load_fd(session, fd), flags == UNPU_SAVE_KV);
	close(fd);
}

/* Whatever changes the tokens drops what waits; what fails or changes nothing does not. */
static void other_changes_drop_what_waits(void **state)
{
	const char *const stop[] = { "abcd" };
	uint32_t ids[64], bad = UINT32_MAX;
	struct dictation d;
	struct subject s;
	float *logits;
	int64_t n;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	logits = calloc(s.vocab, sizeof(*logits));
	for (int change = 0; change < 10; change++) {
		dictation_begin(&d, &s, 0, stop, 1);
		assert_int_equal(say_text(&d, "ab\xc3"), UNPU_REASON_LENGTH);
		assert_int_equal(say_text(&d, "\xa9" "a\xc3"), UNPU_REASON_LENGTH);
		n = unpu_session_tokens(d.session, 0, ids, 64);
		switch (change) {
		case 0:
			ids[n++] = 5;
			assert_int_equal(unpu_session_replace(d.session, ids, (size_t)n), n - 1);
			break;
		case 1:
			assert_int_equal(unpu_session_prompt(d.session, ids, 1), 0);
			break;
		case 2:
			assert_int_equal(unpu_session_rollback(d.session, (uint32_t)n - 1), 0);
			break;
		case 3:
			assert_int_equal(unpu_session_logits(d.session, ids, 1, logits), 0);
			break;
		case 4:
		case 5:
			save_and_load(d.session, change == 4 ? UNPU_SAVE_KV : 0);
			break;
		case 6:
			assert_int_equal(unpu_session_replace(d.session, ids, (size_t)n), n);
			break;
		case 7:
			assert_int_equal(unpu_session_prompt(d.session, ids, 0), 0);
			assert_int_equal(unpu_session_prompt(d.session, &bad, 1), -EINVAL);
			assert_int_equal(unpu_session_replace(d.session, &bad, 1), -EINVAL);
			break;
		case 8:
			assert_int_equal(unpu_session_rollback(d.session, (uint32_t)n), 0);
			assert_int_equal(unpu_session_rollback(d.session, 1000), -EINVAL);
			break;
		case 9:
			assert_int_equal(unpu_session_set_sampler(d.session, &d.params), 0);
			break;
		}
		assert_text(&d, "ab\xc3\xa9");
		unpu_session_flush(d.session, subject_collect, &d.text);
		assert_text(&d, change < 6 ? "ab\xc3\xa9" : "ab\xc3\xa9" "a\xef\xbf\xbd");
		unpu_session_destroy(d.session);
	}
	free(logits);
	subject_close(&s);
}

/* New stop strings count for what comes, with what waits before it. */
static void stop_strings_may_change(void **state)
{
	const char *const first[] = { "abcd" }, *const second[] = { "bce", "bc", "x" };
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open(&s, "llama", UNPU_TYPE_F32, 1, 0);
	dictation_begin(&d, &s, 0, first, 1);
	assert_int_equal(say_text(&d, "abc"), UNPU_REASON_LENGTH);
	d.params.stop = second;
	d.params.num_stop = 3;
	assert_int_equal(say_text(&d, "e"), UNPU_REASON_STOP);
	assert_text(&d, "a");
	d.params.stop = NULL;
	d.params.num_stop = 0;
	assert_int_equal(say_text(&d, "xabc"), UNPU_REASON_LENGTH);
	assert_text(&d, "axabc");
	unpu_session_destroy(d.session);
	subject_close(&s);
}

static void stop_strings_may_be_long(void **state)
{
	const struct tiny_params tiny = { .arch = "llama", .tied = -1, .seed = 7, .context = 512 };
	char longest[UNPU_MAX_STOP_LENGTH + 1], given[UNPU_MAX_STOP_LENGTH + 1];
	const char *stop[UNPU_MAX_STOP];
	struct dictation d;
	struct subject s;

	(void)state;
	subject_open_tiny(&s, &tiny, 1, 0);
	memset(longest, 'a', UNPU_MAX_STOP_LENGTH);
	longest[UNPU_MAX_STOP_LENGTH - 1] = 'b';
	longest[UNPU_MAX_STOP_LENGTH] = 0;
	for (int i = 0; i < UNPU_MAX_STOP; i++)
		stop[i] = longest;
	dictation_begin(&d, &s, 0, stop, UNPU_MAX_STOP);
	memset(given, 'a', sizeof(given));
	given[UNPU_MAX_STOP_LENGTH] = 0;
	assert_int_equal(say_text(&d, given), UNPU_REASON_LENGTH);
	assert_text(&d, "a");	/* one more than may begin it */
	assert_int_equal(say_text(&d, "b"), UNPU_REASON_STOP);
	assert_text(&d, "a");
	unpu_session_destroy(d.session);
	subject_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stop_strings_are_found),
		cmocka_unit_test(text_that_waits_is_flushed),
		cmocka_unit_test(texts_go_on_after_a_stop),
		cmocka_unit_test(ends_give_what_waits),
		cmocka_unit_test(callbacks_leave_what_waits),
		cmocka_unit_test(other_changes_drop_what_waits),
		cmocka_unit_test(stop_strings_may_change),
		cmocka_unit_test(stop_strings_may_be_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
