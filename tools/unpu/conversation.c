/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/unpu/conversation.h"

/* Tokens at the end of the context in which generation stops as soon as no text waits for the next
 * token: a character has at most 4, and few stop strings more. */
#define SEAM	8u

struct ids {
	uint32_t *id;
	size_t count;
};

/* ---- tokens ------------------------------------------------------------------------------ */

static int chat_ids(const struct conversation *c, const struct unpu_chat_message *messages,
		    size_t count, uint32_t flags, struct ids *ids)
{
	size_t room = 64;
	int64_t n;

	*ids = (struct ids){ 0 };
	for (;;) {
		free(ids->id);
		ids->id = malloc(room * sizeof(*ids->id));
		if (!ids->id)
			return -ENOMEM;
		n = unpu_chat_tokens(c->model, c->form, messages, count, flags, ids->id, room);
		if (n <= (int64_t)room)
			break;
		room = (size_t)n;
	}
	if (n < 0) {
		free(ids->id);
		*ids = (struct ids){ 0 };
		return (int)n;
	}
	ids->count = (size_t)n;
	return 0;
}

/* A conversation that begins with this message. */
static int first_ids(const struct conversation *c, const char *system, const char *text,
		     size_t length, struct ids *ids)
{
	struct unpu_chat_message messages[2] = {
		{ "system", system, system ? strlen(system) : 0 }, { "user", text, length },
	};
	size_t skip = !system;

	return chat_ids(c, messages + skip, 2 - skip, UNPU_CHAT_ANSWER, ids);
}

/* A message after an answer. */
static int next_ids(const struct conversation *c, const char *text, size_t length, bool unended,
		    struct ids *ids)
{
	struct unpu_chat_message message = { "user", text, length };

	return chat_ids(c, &message, 1, UNPU_CHAT_ANSWER | UNPU_CHAT_CONTINUE |
			(unended ? UNPU_CHAT_UNENDED : 0), ids);
}

static uint32_t used(const struct conversation *c)
{
	return (uint32_t)unpu_session_tokens(c->session, 0, NULL, 0);
}

/* ids grows by count, which are written to what it returns; NULL without memory. */
static uint32_t *append(struct ids *ids, size_t count)
{
	uint32_t *grown = realloc(ids->id, (ids->count + count + 1) * sizeof(*grown));

	if (!grown)
		return NULL;
	ids->id = grown;
	ids->count += count;
	return grown + ids->count - count;
}

/* Appends the session's tokens from `first` on. */
static int append_held(const struct conversation *c, uint32_t first, struct ids *ids)
{
	size_t count = used(c) - first;
	uint32_t *to = append(ids, count);

	if (!to)
		return -ENOMEM;
	unpu_session_tokens(c->session, first, to, count);
	return 0;
}

/* ---- turns ------------------------------------------------------------------------------- */

static int add_turn(struct conversation *c, const char *text, size_t length, uint32_t answer)
{
	size_t room = c->room ? c->room * 2 : 8;
	struct turn *turns = c->turns;
	char *copy = malloc(length + 1);

	if (c->num_turns == c->room) {
		turns = realloc(c->turns, room * sizeof(*turns));
		c->turns = turns ? turns : c->turns;
		c->room = turns ? room : c->room;
	}
	if (!turns || !copy) {
		free(copy);
		return -ENOMEM;
	}
	if (text)
		memcpy(copy, text, length);
	turns[c->num_turns++] = (struct turn){ copy, length, answer };
	return 0;
}

static void drop_turns(struct conversation *c, size_t first, size_t count)
{
	size_t i;

	for (i = first; i < first + count; i++)
		free(c->turns[i].text);
	c->num_turns -= count;
	for (i = first; i < c->num_turns; i++)
		c->turns[i] = c->turns[i + count];
}

/*
 * The tokens of a conversation that begins with turn `first`: its message anew, as other tokens
 * stand before it (some forms say the system message in the first message), then what the session
 * holds from its answer on. fresh: the ids of the newest turn's message, which the session does not
 * hold yet; NULL: it holds all. *begin is where the first answer begins.
 */
static int ids_from(const struct conversation *c, size_t first, const struct ids *fresh,
		    struct ids *ids, size_t *begin)
{
	const struct turn *turn = &c->turns[first];
	uint32_t *to;
	int err;

	err = first_ids(c, c->system, turn->text, turn->length, ids);
	*begin = ids->count;
	if (err || (fresh && first + 1 == c->num_turns))
		return err;
	err = append_held(c, turn->answer, ids);
	if (err || !fresh)
		return err;
	to = append(ids, fresh->count);
	if (!to)
		return -ENOMEM;
	memcpy(to, fresh->id, fresh->count * sizeof(*to));
	return 0;
}

/* Let the session begin with turn `first`; ids and begin are what ids_from() said. */
static int begin_with(struct conversation *c, size_t first, const struct ids *ids, size_t begin)
{
	int64_t kept = unpu_session_replace(c->session, ids->id, ids->count);
	size_t shift = begin - c->turns[first].answer, i;

	if (kept < 0)
		return (int)kept;
	for (i = first; i < c->num_turns; i++)
		c->turns[i].answer += (uint32_t)shift;
	drop_turns(c, 0, first);
	c->dropped += first;
	return 0;
}

/* Let the oldest turns go, those before `least` in any case; fresh as for ids_from(). -ENOSPC: the
 * newest alone has no room. */
static int make_room(struct conversation *c, size_t least, const struct ids *fresh)
{
	uint32_t most = c->context - c->context / 4;
	size_t first, begin;
	int err = -ENOSPC;

	for (first = least; first < c->num_turns && err == -ENOSPC; first++) {
		struct ids ids = { 0 };
		bool last = first + 1 == c->num_turns;

		err = ids_from(c, first, fresh, &ids, &begin);
		c->need = ids.count + 1;
		if (!err && ids.count > most && !(last && ids.count < c->context))
			err = -ENOSPC;
		else if (!err)
			err = begin_with(c, first, &ids, begin);
		free(ids.id);
	}
	return err;
}

/* ---- asking ------------------------------------------------------------------------------ */

/* The newest turn's message goes after what there is, or instead of the oldest turns. */
static int add_message(struct conversation *c, const struct turn *turn)
{
	struct ids ids = { 0 };
	int err = 0;

	if (c->num_turns > 1)
		err = next_ids(c, turn->text, turn->length, c->unended, &ids);
	if (!err && c->num_turns > 1 && used(c) + ids.count < c->context)
		err = unpu_session_prompt(c->session, ids.id, ids.count);
	else if (!err)
		err = make_room(c, c->num_turns > 1, &ids);
	free(ids.id);
	return err < 0 ? err : 0;
}

int conversation_ask(struct conversation *c, const char *text, size_t length)
{
	int err = add_turn(c, text, length, 0);

	if (err)
		return err;
	err = add_message(c, &c->turns[c->num_turns - 1]);
	if (err)
		drop_turns(c, c->num_turns - 1, 1);
	else
		c->turns[c->num_turns - 1].answer = used(c);
	c->unended = err ? c->unended : true;
	return err;
}

/* ---- answering --------------------------------------------------------------------------- */

struct answer {
	struct conversation *c;
	unpu_token_fn *fn;
	void *arg;
	size_t left;		/* tokens that may still be generated */
	int64_t text;		/* bytes that the session's tokens stood for at the beginning */
	int64_t given;		/* bytes given since */
};

static int64_t text_length(const struct conversation *c)
{
	struct ids ids = { 0 };
	int64_t length = -ENOMEM;

	if (!append_held(c, 0, &ids))
		length = unpu_detokenize(c->model, ids.id, ids.count, NULL, 0);
	free(ids.id);
	return length;
}

static int on_token(void *arg, uint32_t id, const char *text, size_t length)
{
	struct answer *a = arg;

	a->given += (int64_t)length;
	return a->fn(a->arg, id, text, length);
}

/* Part of a character, or of what may become a stop string, waits for the next token. */
static bool text_waits(const struct answer *a)
{
	return text_length(a->c) - a->text > a->given;
}

/* Text that waits would be lost with the tokens that are dropped. */
static int go_on(struct answer *a)
{
	int err;

	unpu_session_flush(a->c->session, on_token, a);
	err = make_room(a->c, 1, NULL);
	a->text = text_length(a->c);
	a->given = 0;
	return err;
}

/* enum unpu_reason, or -errno; LENGTH: there is more to come unless nothing is left. */
static int generate_some(struct answer *a)
{
	struct conversation *c = a->c;
	uint32_t room = c->context - used(c);
	size_t most = room > SEAM ? room - SEAM : 1;
	int err;

	if (room <= SEAM && (!room || !text_waits(a))) {
		err = go_on(a);
		if (err == -ECANCELED)
			return UNPU_REASON_CANCELLED;
		if (err && err != -ENOSPC)
			return err;
		if (!err)
			return UNPU_REASON_LENGTH;
		if (!room)
			return UNPU_REASON_CONTEXT;
		most = room;
	}
	return unpu_session_generate(c->session, most < a->left ? most : a->left, on_token, a);
}

static uint64_t generated(const struct conversation *c)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;

	unpu_session_info(c->session, &info);
	return info.generated_tokens;
}

int conversation_answer(struct conversation *c, size_t max, unpu_token_fn *fn, void *arg)
{
	struct answer a = { c, fn, arg, max, text_length(c), 0 };
	int reason = UNPU_REASON_LENGTH;

	while (a.left && reason == UNPU_REASON_LENGTH) {
		uint64_t before = generated(c);

		reason = generate_some(&a);
		a.left -= (size_t)(generated(c) - before);
	}
	unpu_session_flush(c->session, on_token, &a);
	c->unended = reason != UNPU_REASON_END;
	return reason;
}

/* ---- beginning --------------------------------------------------------------------------- */

/* What the next first message begins with too is kept: a system message is run once. */
static int keep_beginning(struct conversation *c)
{
	struct ids want, have = { 0 };
	size_t same = 0;
	int err;

	err = first_ids(c, c->system, "", 0, &want);
	if (err)
		return err;
	err = append_held(c, 0, &have);
	while (!err && same < have.count && same < want.count && have.id[same] == want.id[same])
		same++;
	free(want.id);
	free(have.id);
	return err ? err : unpu_session_rollback(c->session, (uint32_t)same);
}

int conversation_reset(struct conversation *c)
{
	int err = keep_beginning(c);

	if (err)
		return err;
	drop_turns(c, 0, c->num_turns);
	c->unended = false;
	return 0;
}

int conversation_set_system(struct conversation *c, const char *system)
{
	char *before = c->system, *copy = system ? strdup(system) : NULL;
	int err;

	if (system && !copy)
		return -ENOMEM;
	c->system = copy;
	err = conversation_reset(c);
	if (err)
		c->system = before;
	free(err ? copy : before);
	return err;
}

int conversation_open(struct conversation *c, struct unpu_model *model,
		      struct unpu_session *session, const char *form, const char *system)
{
	struct unpu_session_info info = UNPU_SESSION_INFO_INIT;

	unpu_session_info(session, &info);
	*c = (struct conversation){
		.model = model, .session = session, .form = form, .context = info.context,
	};
	return conversation_set_system(c, system);
}

void conversation_close(struct conversation *c)
{
	drop_turns(c, 0, c->num_turns);
	free(c->turns);
	free(c->system);
	*c = (struct conversation){ 0 };
}

/* ---- messages in a session's tokens ------------------------------------------------------ */

/* What stands around messages, as one finds by what is the same for different ones. */
struct marks {
	struct ids begin;	/* before the first message */
	struct ids system;	/* before a system message */
	struct ids after_system;	/* before the first message when there is one */
	struct ids answer;	/* between a message and its answer */
	struct ids next;	/* between an answer and the next message */
};

static size_t same_first(const struct ids *a, const struct ids *b)
{
	size_t n = 0;

	while (n < a->count && n < b->count && a->id[n] == b->id[n])
		n++;
	return n;
}

static size_t same_last(const struct ids *a, const struct ids *b)
{
	size_t n = 0;

	while (n < a->count && n < b->count &&
	       a->id[a->count - 1 - n] == b->id[b->count - 1 - n])
		n++;
	return n;
}

/* mark becomes count ids of from. */
static int take(struct ids *mark, const struct ids *from, size_t at, size_t count)
{
	uint32_t *to = append(mark, count);

	if (!to)
		return -ENOMEM;
	memcpy(to, from->id + at, count * sizeof(*to));
	return 0;
}

static int find_message_marks(const struct conversation *c, struct marks *marks)
{
	struct ids a = { 0 }, b = { 0 };
	size_t last;
	int err;

	err = first_ids(c, NULL, "a", 1, &a);
	err = err ? err : first_ids(c, NULL, "b", 1, &b);
	if (!err) {
		last = same_last(&a, &b);
		err = take(&marks->begin, &a, 0, same_first(&a, &b));
		err = err ? err : take(&marks->answer, &a, a.count - last, last);
	}
	free(a.id);
	free(b.id);
	if (err)
		return err;
	err = next_ids(c, "a", 1, false, &a);
	if (err)
		return err;
	err = next_ids(c, "b", 1, false, &b);
	err = err ? err : take(&marks->next, &a, 0, same_first(&a, &b));
	free(a.id);
	free(b.id);
	return err;
}

static int find_system_marks(const struct conversation *c, struct marks *marks)
{
	struct ids aa = { 0 }, ab = { 0 }, ba = { 0 };
	size_t first, last;
	int err;

	err = first_ids(c, "a", "a", 1, &aa);
	err = err ? err : first_ids(c, "a", "b", 1, &ab);
	err = err ? err : first_ids(c, "b", "a", 1, &ba);
	if (!err) {
		/* system "a" mark | mark "a" answer: what they share is the mark */
		first = same_first(&aa, &ab);
		last = same_last(&aa, &ba);
		err = take(&marks->system, &aa, 0, same_first(&aa, &ba));
		if (!err && first + last > aa.count)
			err = take(&marks->after_system, &aa, aa.count - last,
				   first + last - aa.count);
	}
	free(aa.id);
	free(ab.id);
	free(ba.id);
	return err;
}

static void free_marks(struct marks *marks)
{
	free(marks->begin.id);
	free(marks->system.id);
	free(marks->after_system.id);
	free(marks->answer.id);
	free(marks->next.id);
}

static bool stands_at(const struct ids *ids, size_t at, const struct ids *mark)
{
	return mark->count && mark->count <= ids->count - at &&
	       !memcmp(ids->id + at, mark->id, mark->count * sizeof(*mark->id));
}

/* Where mark stands first, from `at` on; ids->count when it does not. */
static size_t find(const struct ids *ids, size_t at, const struct ids *mark)
{
	while (at < ids->count && !stands_at(ids, at, mark))
		at++;
	return at;
}

static char *text_of(const struct conversation *c, const uint32_t *id, size_t count, size_t *length)
{
	int64_t n = unpu_detokenize(c->model, id, count, NULL, 0);
	char *text = n < 0 ? NULL : malloc((size_t)n + 1);

	if (!text)
		return NULL;
	unpu_detokenize(c->model, id, count, text, (size_t)n);
	text[n] = 0;
	*length = (size_t)n;
	return text;
}

/*
 * The system message that ids begin with, and where the first message begins; 0 when it does not.
 * Of the two beginnings the longer is meant: there are forms whose system message begins like a
 * conversation without, and forms that have one of their own where none is given. Where they are
 * the same, as in gemma's, what could be a system message is taken for one.
 */
static int take_system(const struct conversation *c, const struct marks *marks,
		       const struct ids *ids, char **system, size_t *at)
{
	size_t from = marks->system.count, to = find(ids, from, &marks->after_system), length;
	bool has_own = stands_at(ids, 0, &marks->begin);

	*system = NULL;
	*at = has_own ? marks->begin.count : 0;
	if (!stands_at(ids, 0, &marks->system) || (has_own && from < marks->begin.count) ||
	    to >= find(ids, from, &marks->answer))
		return 0;
	*at = to + marks->after_system.count;
	*system = text_of(c, ids->id + from, to - from, &length);
	return *system ? 0 : -ENOMEM;
}

/* Turns of ids whose first message begins at `at`. */
static int take_turns(struct conversation *c, const struct marks *marks, const struct ids *ids,
		      size_t at)
{
	size_t answer, length;
	int err = 0;
	char *text;

	while (!err && at < ids->count) {
		answer = find(ids, at, &marks->answer);
		if (answer == ids->count)
			break;
		text = text_of(c, ids->id + at, answer - at, &length);
		if (!text)
			return -ENOMEM;
		answer += marks->answer.count;
		err = add_turn(c, text, length, (uint32_t)answer);
		free(text);
		at = find(ids, answer, &marks->next) + marks->next.count;
	}
	return err;
}

/* The turns of a session that has just been loaded. */
static int take_conversation(struct conversation *c, const struct marks *marks)
{
	struct ids ids = { 0 };
	char *system = NULL;
	size_t at = 0;
	int err;

	err = append_held(c, 0, &ids);
	err = err ? err : take_system(c, marks, &ids, &system, &at);
	if (!err && at)
		err = take_turns(c, marks, &ids, at);
	if (!err && c->num_turns) {
		free(c->system);
		c->system = system;
		system = NULL;
	} else if (!err && ids.count) {
		err = add_turn(c, NULL, 0, (uint32_t)ids.count);
	}
	c->unended = ids.count && !unpu_token_is_end(c->model, ids.id[ids.count - 1]);
	free(system);
	free(ids.id);
	return err;
}

int conversation_load(struct conversation *c, int fd)
{
	struct marks marks = { 0 };
	int ret;

	ret = find_message_marks(c, &marks);
	ret = ret ? ret : find_system_marks(c, &marks);
	ret = ret ? ret : unpu_session_load_fd(c->session, fd);
	if (ret >= 0) {
		drop_turns(c, 0, c->num_turns);
		ret = take_conversation(c, &marks);
		if (ret) {
			drop_turns(c, 0, c->num_turns);
			unpu_session_rollback(c->session, 0);
		}
	}
	free_marks(&marks);
	return ret;
}
