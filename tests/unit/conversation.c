/* SPDX-License-Identifier: MIT */
/* Conversations: which tokens a session has after each turn, and which turns go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/model/gguf.h"
#include "tests/lib/tiny.h"
#include "tools/unpu/conversation.h"

#define MAX_IDS		2048
#define MAX_ANSWER	1024
#define MAX_SAID	64
#define VOCAB		331

static int num_errors;

static void log_line(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	(void)text;
	num_errors += level == UNPU_LOG_ERROR;
}

/* What was said, turn for turn, whatever the conversation still holds of it. */
struct said {
	const char *text;
	uint32_t answer[MAX_ANSWER];
	size_t count;
	bool ended;
};

/* A model with ChatML, a session and a conversation in it. */
struct talk {
	uint8_t *file;
	size_t size;
	struct unpu_model *model;
	struct unpu_session *session;
	struct unpu_session_params params;
	struct unpu_logit_bias bias[8];	/* the first: of the token that ends an answer */
	struct conversation c;
	struct said said[MAX_SAID];
	size_t num_said;
	/* the last answer, as it was given */
	char text[MAX_ANSWER * 16];
	size_t length, num_ids;
	size_t cancel_after;	/* tokens; 0: never */
};

/* All tokens that end a text are never sampled, unless set_bias() says so of the form's own. */
static void find_ends(struct talk *t)
{
	uint32_t id = VOCAB;

	while (id-- > 0) {
		if (!unpu_token_is_end(t->model, id))
			continue;
		assert_in_range(t->params.num_bias, 0, 4);
		t->bias[t->params.num_bias++] = (struct unpu_logit_bias){ id, -INFINITY };
	}
	assert_in_range(t->params.num_bias, 1, 4);
}

static void open_talk(struct talk *t, const char *tokenizer, const char *form, const char *system,
		      uint32_t context)
{
	struct tiny_params tiny = { .arch = "llama", .type = UNPU_TYPE_F32, .tied = -1, .seed = 7,
		.chat = 1, .context = 2048, .tokenizer = tokenizer, .vocab = VOCAB,
		.hidden = 24, .ffn = 32, .layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 24 };
	struct unpu_model_params params = UNPU_MODEL_PARAMS_INIT;
	struct unpu_session_params defaults = UNPU_SESSION_PARAMS_INIT;

	memset(t, 0, sizeof(*t));
	t->file = tiny_model(&tiny, &t->size);
	assert_non_null(t->file);
	params.threads = 1;
	params.log = log_line;
	assert_int_equal(unpu_model_load_memory(t->file, t->size, &params, &t->model), 0);
	t->params = defaults;
	t->params.context = context;
	t->params.seed = 5;
	t->params.temperature = 1.5f;
	t->params.top_k = 0;
	t->params.bias = t->bias;
	find_ends(t);
	assert_int_equal(unpu_session_create(t->model, &t->params, &t->session), 0);
	assert_int_equal(conversation_open(&t->c, t->model, t->session, form, system), 0);
	num_errors = 0;
}

static void close_talk(struct talk *t)
{
	conversation_close(&t->c);
	unpu_session_destroy(t->session);
	unpu_model_destroy(t->model);
	free(t->file);
}

/* -INFINITY: answers never end; 100: the next token ends the answer. */
static void set_bias(struct talk *t, float bias)
{
	t->bias[0].bias = bias;
	assert_int_equal(unpu_session_set_sampler(t->session, &t->params), 0);
}

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct talk *t = arg;

	t->num_ids += id != UINT32_MAX;
	assert_true(t->length + length <= sizeof(t->text));
	memcpy(t->text + t->length, text, length);
	t->length += length;
	if (t->cancel_after && t->num_ids == t->cancel_after)
		unpu_session_cancel(t->session);
	return 0;
}

static int ask(struct talk *t, const char *text)
{
	int err = conversation_ask(&t->c, text, strlen(text));

	if (!err) {
		assert_true(t->num_said < MAX_SAID);
		t->said[t->num_said++] = (struct said){ .text = text };
	}
	return err;
}

static int answer(struct talk *t, size_t max)
{
	struct said *said = &t->said[t->num_said - 1];
	int reason = conversation_answer(&t->c, max, on_token, t);

	said->count = (size_t)unpu_session_tokens(t->session,
						  t->c.turns[t->c.num_turns - 1].answer,
						  said->answer, MAX_ANSWER);
	assert_true(said->count <= MAX_ANSWER);
	said->ended = reason == UNPU_REASON_END;
	assert_int_equal(t->c.unended, !said->ended);
	return reason;
}

/* A turn whose answer has that many tokens with the one that ends it. */
static void exchange(struct talk *t, const char *text, size_t tokens)
{
	assert_int_equal(ask(t, text), 0);
	t->length = t->num_ids = 0;
	if (tokens > 1)
		assert_int_equal(answer(t, tokens - 1), UNPU_REASON_LENGTH);
	set_bias(t, 100);
	assert_int_equal(answer(t, 1), UNPU_REASON_END);
	set_bias(t, -INFINITY);
}

struct tokens {
	uint32_t ids[MAX_IDS];
	size_t count;
};

static void add_message(const struct talk *t, const char *system, const char *text, uint32_t flags,
			struct tokens *out)
{
	struct unpu_chat_message messages[2] = {
		{ "system", system, system ? strlen(system) : 0 }, { "user", text, strlen(text) },
	};
	size_t skip = !system;
	int64_t n = unpu_chat_tokens(t->model, t->c.form, messages + skip, 2 - skip,
				     flags | UNPU_CHAT_ANSWER, out->ids + out->count,
				     MAX_IDS - out->count);

	assert_in_range(n, 1, MAX_IDS - out->count);
	out->count += (size_t)n;
}

/* In byte-level BPE the blank before a message, as in llama2's "[INST] ", is part of its first
 * token: it is in a text that was found again, and a form that has one takes it off. */
static void check_text(const struct turn *turn, const char *text)
{
	size_t blank = turn->length == strlen(text) + 1 && turn->text[0] == ' ';

	assert_int_equal(turn->length, strlen(text) + blank);
	assert_memory_equal(turn->text + blank, text, strlen(text));
}

/* The session holds the last turns that were said and the system message, and nothing else. */
static void check_tokens(const struct talk *t, const char *system)
{
	size_t first = t->num_said - t->c.num_turns, i;
	struct tokens want = { .count = 0 }, have;

	assert_true(t->c.num_turns <= t->num_said);
	for (i = first; i < t->num_said; i++) {
		const struct said *said = &t->said[i], *before = said - 1;

		if (i == first)
			add_message(t, system, said->text, 0, &want);
		else
			add_message(t, NULL, said->text, UNPU_CHAT_CONTINUE |
				    (before->ended ? 0 : UNPU_CHAT_UNENDED), &want);
		assert_int_equal(t->c.turns[i - first].answer, want.count);
		check_text(&t->c.turns[i - first], said->text);
		assert_true(want.count + said->count <= MAX_IDS);
		memcpy(want.ids + want.count, said->answer, said->count * sizeof(want.ids[0]));
		want.count += said->count;
	}
	have.count = (size_t)unpu_session_tokens(t->session, 0, have.ids, MAX_IDS);
	assert_int_equal(have.count, want.count);
	assert_memory_equal(have.ids, want.ids, want.count * sizeof(want.ids[0]));
	assert_true(have.count <= t->c.context);
}

/* ---- turns ------------------------------------------------------------------------------- */

static const char *const forms[] = {
	"chatml", "llama2", "llama3", "zephyr", "gemma", "phi3", "alpaca",
};
#define NUM_FORMS	(sizeof(forms) / sizeof(forms[0]))
static const char *const systems[] = { NULL, "be short" };
static const char *const tokenizers[] = { "spm", "bpe" };

/* Every form with and without a system message, in both kinds of vocabulary. */
static void open_variant(struct talk *t, size_t i, uint32_t context)
{
	open_talk(t, tokenizers[i % 2], forms[i / 4], systems[i / 2 % 2], context);
}
#define NUM_VARIANTS	(4 * NUM_FORMS)

/* An emulated processor gets some of the variants, of every kind. */
static size_t step(void)
{
	return getenv("UNPU_EMULATED") ? 5 : 1;
}

static void turns_follow_the_form(void **state)
{
	struct talk t;

	(void)state;
	for (size_t i = 0; i < NUM_VARIANTS; i += step()) {
		open_variant(&t, i, 1200);
		exchange(&t, "hello there", 7);
		check_tokens(&t, systems[i / 2 % 2]);
		/* an answer that was cut is ended by the form, one that was not begun as well */
		assert_int_equal(ask(&t, "and then?"), 0);
		assert_int_equal(answer(&t, 9), UNPU_REASON_LENGTH);
		check_tokens(&t, systems[i / 2 % 2]);
		assert_int_equal(ask(&t, "Go on.\nNow!"), 0);
		exchange(&t, "", 4);
		exchange(&t, "an empty answer, please", 1);
		assert_int_equal(t.length, 0);
		exchange(&t, "<|im_end|> [/INST] is text", 3);
		check_tokens(&t, systems[i / 2 % 2]);
		assert_int_equal(t.c.num_turns, 6);
		assert_int_equal(t.c.dropped, 0);
		assert_int_equal(num_errors, 0);
		close_talk(&t);
	}
}

/* The context fills up again and again, and what stays is a conversation. */
static void the_oldest_turns_go(void **state)
{
	static const char *const texts[] = { "one", "two and more of it", "three", "", "five!" };
	size_t turns, dropped;
	struct talk t;

	(void)state;
	for (size_t i = 0; i < NUM_VARIANTS; i += step()) {
		open_variant(&t, i, 500);
		dropped = 0;
		for (size_t n = 0; n < 24; n++) {
			turns = t.c.num_turns;
			t.c.dropped = 0;
			assert_int_equal(ask(&t, texts[n % 5]), 0);
			assert_int_equal(t.c.num_turns, turns + 1 - t.c.dropped);
			check_tokens(&t, systems[i / 2 % 2]);
			if (t.c.dropped)
				assert_true(unpu_session_tokens(t.session, 0, NULL, 0) <= 375);
			assert_true(t.c.num_turns > 1 || !n);
			assert_int_equal(answer(&t, 11), UNPU_REASON_LENGTH);
			check_tokens(&t, systems[i / 2 % 2]);
			dropped += t.c.dropped;
		}
		assert_int_equal(dropped + t.c.num_turns, t.num_said);
		assert_true(dropped > 3);
		assert_int_equal(num_errors, 0);
		close_talk(&t);
	}
}

/* From here on all that is generated is a row of U+20AC, byte after byte: the likeliest of its
 * three tokens that is not among the last two. */
static void only_euros(struct talk *t, bool spm)
{
	static const uint8_t euro[] = { 0xe2, 0x82, 0xac };

	for (uint32_t i = 0; i < 3; i++)
		t->bias[t->params.num_bias++] = (struct unpu_logit_bias){
			euro[i] + (spm ? 3 : 0), 100 - 10 * (float)i
		};
	t->params.temperature = 0;
	t->params.frequency_penalty = 30;
	t->params.repeat_last_n = 2;
	assert_int_equal(unpu_session_set_sampler(t->session, &t->params), 0);
}

/* An answer that meets the end of the context goes on after the oldest turns have gone; where in a
 * character it does so makes no difference. */
static void an_answer_outlives_the_context(void **state)
{
	struct talk t;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		open_talk(&t, tokenizers[i % 2], "chatml", "be short", 300);
		for (size_t n = 0; n < 4; n++)
			exchange(&t, "hello there", 10 + (n ? 0 : i / 2));
		assert_int_equal(t.c.dropped, 0);
		only_euros(&t, i % 2 == 0);
		assert_int_equal(ask(&t, "tell me a story"), 0);
		assert_int_equal(t.c.dropped, 0);
		t.length = t.num_ids = 0;
		assert_int_equal(answer(&t, 180), UNPU_REASON_LENGTH);
		assert_int_equal(t.num_ids, 180);
		assert_int_equal(t.said[t.num_said - 1].count, 180);
		assert_true(t.c.dropped > 0);
		check_tokens(&t, "be short");
		assert_int_equal(t.length, 180);
		for (size_t n = 0; n < t.length; n += 3)
			assert_memory_equal(t.text + n, "\xe2\x82\xac", 3);
		assert_int_equal(num_errors, 0);
		close_talk(&t);
	}
}

/* Nothing is left to drop: the answer ends, and the conversation goes on. */
static void an_answer_may_fill_the_context(void **state)
{
	struct talk t;

	(void)state;
	open_talk(&t, "spm", "chatml", NULL, 128);
	exchange(&t, "hi", 4);
	assert_int_equal(ask(&t, "a story"), 0);
	assert_int_equal(answer(&t, SIZE_MAX), UNPU_REASON_CONTEXT);
	assert_int_equal(t.c.dropped, 1);
	assert_int_equal(unpu_session_tokens(t.session, 0, NULL, 0), 128);
	check_tokens(&t, NULL);
	assert_int_equal(ask(&t, "and now?"), 0);
	assert_int_equal(t.c.dropped, 2);
	assert_int_equal(answer(&t, 5), UNPU_REASON_LENGTH);
	check_tokens(&t, NULL);
	assert_int_equal(num_errors, 0);
	close_talk(&t);
}

/* ---- what goes wrong --------------------------------------------------------------------- */

static void a_message_too_large(void **state)
{
	char large[600];
	struct talk t;
	size_t most;

	(void)state;
	memset(large, '#', sizeof(large));
	large[sizeof(large) - 1] = 0;
	for (size_t i = 0; i < NUM_VARIANTS; i += step()) {
		open_variant(&t, i, 500);
		assert_int_equal(ask(&t, large), -ENOSPC);
		assert_true(t.c.need > 600);
		assert_int_equal(t.c.num_turns, 0);
		assert_int_equal(unpu_session_tokens(t.session, 0, NULL, 0), 0);
		exchange(&t, "hi", 7);
		assert_int_equal(ask(&t, large), -ENOSPC);
		assert_int_equal(t.c.num_turns, 1);
		assert_int_equal(t.c.dropped, 0);
		check_tokens(&t, systems[i / 2 % 2]);
		exchange(&t, "and a small one", 7);
		check_tokens(&t, systems[i / 2 % 2]);
		assert_int_equal(num_errors, 0);
		close_talk(&t);
	}
	/* the largest that has room, and the token that its answer must have */
	open_talk(&t, "spm", "chatml", NULL, 500);
	assert_int_equal(conversation_ask(&t.c, large, 599), -ENOSPC);
	most = 599 - (t.c.need - 500);
	assert_int_equal(conversation_ask(&t.c, large, most + 1), -ENOSPC);
	assert_int_equal(t.c.need, 501);
	large[most] = 0;
	assert_int_equal(ask(&t, large), 0);
	assert_int_equal(answer(&t, SIZE_MAX), UNPU_REASON_CONTEXT);
	assert_int_equal(t.num_ids, 1);
	close_talk(&t);
}

static void cancelled(void **state)
{
	struct talk t;

	(void)state;
	open_talk(&t, "spm", "llama3", "be short", 256);
	exchange(&t, "hi", 9);
	/* a message that was not taken is as never said */
	unpu_session_cancel(t.session);
	assert_int_equal(ask(&t, "hello there"), -ECANCELED);
	check_tokens(&t, "be short");
	/* an answer that was stopped is one */
	assert_int_equal(ask(&t, "hello there"), 0);
	t.length = t.num_ids = 0;
	t.cancel_after = 6;
	assert_int_equal(answer(&t, SIZE_MAX), UNPU_REASON_CANCELLED);
	assert_in_range(t.num_ids, 6, 7);
	check_tokens(&t, "be short");
	t.cancel_after = 0;
	/* while turns are dropped for it as well */
	while (!t.c.dropped) {
		exchange(&t, "more of it", 20);
		check_tokens(&t, "be short");
	}
	unpu_session_cancel(t.session);
	assert_int_equal(ask(&t, "hello there"), -ECANCELED);
	check_tokens(&t, "be short");
	assert_int_equal(num_errors, 0);
	close_talk(&t);
}

static void forms_that_are_not(void **state)
{
	struct conversation c;
	struct talk t;

	(void)state;
	open_talk(&t, "spm", NULL, NULL, 256);
	assert_int_equal(conversation_open(&c, t.model, t.session, "no-such-form", NULL), -EINVAL);
	assert_int_equal(num_errors, 1);
	conversation_close(&c);
	close_talk(&t);
}

/* ---- beginning anew ---------------------------------------------------------------------- */

static void begins_anew(void **state)
{
	struct talk t;

	(void)state;
	open_talk(&t, "spm", "chatml", "be short", 400);
	exchange(&t, "hi", 9);
	assert_int_equal(conversation_reset(&t.c), 0);
	t.num_said = 0;
	/* the system message is not run again */
	assert_in_range(unpu_session_tokens(t.session, 0, NULL, 0), 10, 60);
	exchange(&t, "hello", 9);
	check_tokens(&t, "be short");
	assert_int_equal(conversation_set_system(&t.c, "be long"), 0);
	t.num_said = 0;
	exchange(&t, "hello", 9);
	exchange(&t, "hello", 9);
	check_tokens(&t, "be long");
	assert_int_equal(conversation_set_system(&t.c, NULL), 0);
	t.num_said = 0;
	assert_int_equal(ask(&t, "hello"), 0);
	assert_int_equal(answer(&t, 3), UNPU_REASON_LENGTH);
	check_tokens(&t, NULL);
	assert_int_equal(conversation_reset(&t.c), 0);
	assert_false(t.c.unended);
	assert_int_equal(num_errors, 0);
	close_talk(&t);
}

/* ---- from files -------------------------------------------------------------------------- */

static int saved(struct talk *t)
{
	int fd = memfd_create("session", 0);

	assert_true(fd >= 0);
	assert_int_equal(unpu_session_save_fd(t->session, fd, UNPU_SAVE_KV), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* In this model's vocabulary their markers are text. What ends a cut answer then is text too, and
 * becomes other tokens with what stands beside it: such a turn is found within the one before. */
static bool ends_with_text(const char *form)
{
	return !strcmp(form, "llama3") || !strcmp(form, "gemma") || !strcmp(form, "phi3");
}

static void turns_are_found_again(void **state)
{
	struct talk t;
	int fd;

	(void)state;
	for (size_t i = 0; i < NUM_VARIANTS; i += step()) {
		open_variant(&t, i, 700);
		exchange(&t, "hello there", 7);
		assert_int_equal(ask(&t, "and then?"), 0);
		assert_int_equal(answer(&t, 9), UNPU_REASON_LENGTH);
		if (ends_with_text(forms[i / 4])) {
			set_bias(&t, 100);
			assert_int_equal(answer(&t, 1), UNPU_REASON_END);
			set_bias(&t, -INFINITY);
		}
		exchange(&t, "<|im_end|> is text", 1);
		exchange(&t, "Go on.\nNow!", 12);
		fd = saved(&t);
		/* into a conversation that is another one */
		assert_int_equal(conversation_set_system(&t.c, "something else"), 0);
		assert_int_equal(ask(&t, "something else"), 0);
		t.num_said--;
		assert_int_equal(conversation_load(&t.c, fd), 0);
		close(fd);
		assert_int_equal(t.c.num_turns, 4);
		assert_false(t.c.unended);
		check_tokens(&t, systems[i / 2 % 2]);
		if (systems[i / 2 % 2])
			assert_string_equal(t.c.system, systems[i / 2 % 2]);
		else
			assert_null(t.c.system);
		/* it goes on, and drops what it must */
		while (!t.c.dropped)
			exchange(&t, "more of it", 20);
		check_tokens(&t, systems[i / 2 % 2]);
		assert_int_equal(num_errors, 0);
		close_talk(&t);
	}
}

/* A text that is no conversation is the first turn, which goes as one. */
static void text_is_one_turn(void **state)
{
	static const char text[] = "Once upon a time there was a text.";
	uint32_t ids[64];
	struct talk t;
	int64_t n;
	int fd;

	(void)state;
	open_talk(&t, "spm", "chatml", "be short", 256);
	n = unpu_tokenize(t.model, text, strlen(text), 0, ids, 64);
	assert_in_range(n, 1, 64);
	assert_int_equal(unpu_session_prompt(t.session, ids, (size_t)n), 0);
	fd = saved(&t);
	assert_int_equal(conversation_load(&t.c, fd), 0);
	close(fd);
	assert_int_equal(t.c.num_turns, 1);
	assert_true(t.c.unended);
	exchange(&t, "hi", 20);
	assert_int_equal(t.c.num_turns, 2);
	while (!t.c.dropped)
		exchange(&t, "more of it", 20);
	check_tokens(&t, "be short");
	assert_int_equal(num_errors, 0);
	close_talk(&t);
}

static void a_wrong_file_changes_nothing(void **state)
{
	struct talk t;
	int fd;

	(void)state;
	open_talk(&t, "spm", "chatml", "be short", 256);
	exchange(&t, "hi", 9);
	fd = memfd_create("wrong", 0);
	assert_int_equal(write(fd, "no session at all", 17), 17);
	lseek(fd, 0, SEEK_SET);
	assert_true(conversation_load(&t.c, fd) < 0);
	close(fd);
	assert_int_equal(num_errors, 1);
	check_tokens(&t, "be short");
	exchange(&t, "more of it", 20);
	check_tokens(&t, "be short");
	close_talk(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(turns_follow_the_form),
		cmocka_unit_test(the_oldest_turns_go),
		cmocka_unit_test(an_answer_outlives_the_context),
		cmocka_unit_test(an_answer_may_fill_the_context),
		cmocka_unit_test(a_message_too_large),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(forms_that_are_not),
		cmocka_unit_test(begins_anew),
		cmocka_unit_test(turns_are_found_again),
		cmocka_unit_test(text_is_one_turn),
		cmocka_unit_test(a_wrong_file_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
