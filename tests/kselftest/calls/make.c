// SPDX-License-Identifier: GPL-2.0-only
/* Sequences made of nothing, and of others. */
#include <stdio.h>
#include <string.h>

#include "tests/kselftest/calls/calls.h"

#define FILES	3	/* slots of these that are used */

/* Which slots hold something when an op begins, and of which file. */
struct state {
	bool alive[KINDS][CALLS_SLOTS];
	uint8_t owner[KINDS][CALLS_SLOTS];
};

/* Ops being made: they come with what they need before them. */
struct draft {
	struct calls_random random;
	struct state state;
	uint32_t num_ops, threads, depth;
	bool wild;	/* the op that is made */
	struct calls_op ops[CALLS_MAX_OPS];
};

static bool arg_is(uint8_t arg, uint8_t base)
{
	return (arg & ~ARG_MAYBE) >= base && (arg & ~ARG_MAYBE) < base + KINDS;
}

/* With a file goes what belongs to it. */
static void state_end_file(struct state *state, uint32_t file)
{
	uint32_t kind, slot;

	for (kind = 0; kind < KIND_DMABUF; kind++)
		for (slot = 0; slot < CALLS_SLOTS; slot++)
			if (state->owner[kind][slot] == file)
				state->alive[kind][slot] = false;
}

static void state_apply(struct state *state, const struct calls_op *op)
{
	const struct calls_call *call = &calls_table[op->call];
	uint32_t file = op->args[0] % CALLS_SLOTS, i, slot, kind;

	for (i = 0; i < CALLS_MAX_ARGS; i++) {
		slot = op->args[i] % CALLS_SLOTS;
		if (call->args[i] == ARG_MAKE + KIND_FILE || call->args[i] == ARG_DROP + KIND_FILE)
			state_end_file(state, slot);
		if (arg_is(call->args[i], ARG_DROP))
			state->alive[call->args[i] - ARG_DROP][slot] = false;
		if (!arg_is(call->args[i], ARG_MAKE) ||
		    (op->wild && call->args[i] != ARG_MAKE + KIND_FILE))
			continue;
		kind = call->args[i] - ARG_MAKE;
		state->alive[kind][slot] = true;
		state->owner[kind][slot] = file;
	}
}

/* A slot that holds something, of this file if there is one: false when nothing is there. */
static bool find_alive(struct draft *d, uint32_t kind, uint32_t file, uint32_t *slot)
{
	uint32_t found[CALLS_SLOTS], n = 0, i;
	bool shared = kind == KIND_DMABUF || kind == KIND_SYNC || kind == KIND_MAP;

	for (i = 0; i < CALLS_SLOTS; i++)
		if (d->state.alive[kind][i] && (shared || d->state.owner[kind][i] == file))
			found[n++] = i;
	if (!n)
		return false;
	*slot = found[random_below(&d->random, n)];
	return true;
}

static void draft_add(struct draft *d, uint32_t which, uint32_t file);

static uint64_t pick_value(struct draft *d, uint32_t index)
{
	const struct calls_values *values = &calls_values[index];
	uint32_t count = d->wild ? values->count : values->good;
	uint64_t value = values->values[random_below(&d->random, count)];

	if (d->depth > 1 && random_percent(&d->random, 70))
		value = values->values[0];
	else if (d->wild && random_percent(&d->random, 10))
		value ^= 1ull << random_below(&d->random, 64);
	return value == CALLS_SEED ? random_next(&d->random) : value;
}

static uint64_t pick_use(struct draft *d, uint32_t kind, uint32_t file)
{
	static const uint32_t odd[] = { 0, 1, 2, 17, 0x7fffffff, 0x80000000, 0xffffffff };
	uint32_t way = random_below(&d->random, 100), slot;

	if (!d->wild)
		way = way < 90 ? 50 : 90;
	if (way < 3)
		return ARG_LITERAL | (uint64_t)odd[random_below(&d->random, 7)] << 32;
	if (way < 5)
		return ARG_OTHER | random_below(&d->random, KINDS) << 8 |
		       random_below(&d->random, CALLS_SLOTS);
	if (way < 10)
		return random_below(&d->random, CALLS_SLOTS);
	if (way > 85 || !find_alive(d, kind, file, &slot)) {
		if (d->depth < 5)
			draft_add(d, calls_maker(kind), file);
		if (!find_alive(d, kind, file, &slot))
			slot = random_below(&d->random, CALLS_SLOTS);
	}
	return slot;
}

static uint64_t pick_make(struct draft *d, uint32_t kind)
{
	uint32_t slots = kind == KIND_FILE ? FILES : CALLS_SLOTS, i;

	for (i = 0; i < slots; i++)
		if (!d->state.alive[kind][i])
			return i;
	return random_below(&d->random, slots);
}

static uint32_t pick_file(struct draft *d, uint8_t arg)
{
	uint32_t slot = random_below(&d->random, FILES);

	if (arg == ARG_MAKE + KIND_FILE)
		return pick_make(d, KIND_FILE);
	if (random_percent(&d->random, 70))
		slot = 0;
	if (!d->state.alive[KIND_FILE][slot] && d->depth < 6)
		draft_add(d, calls_maker(KIND_FILE), slot);
	return slot;
}

static uint64_t pick_arg(struct draft *d, uint8_t arg, uint32_t file)
{
	if (arg_is(arg, ARG_USE))
		return pick_use(d, (arg & ~ARG_MAYBE) - ARG_USE, file);
	if (arg_is(arg, ARG_DROP))
		return pick_use(d, arg - ARG_DROP, file);
	if (arg_is(arg, ARG_MAKE))
		return pick_make(d, arg - ARG_MAKE);
	return arg == ARG_NONE ? 0 : pick_value(d, arg - ARG_VALUES);
}

static void draft_add(struct draft *d, uint32_t which, uint32_t file)
{
	const struct calls_call *call = &calls_table[which];
	struct calls_op op = { .call = which };
	bool outer = d->wild;
	uint32_t i;

	d->depth++;
	/* What is only needed for something else should be good for it. */
	op.wild = random_percent(&d->random, d->depth > 1 ? 5 : 30);
	if (file == ~0u)
		file = pick_file(d, call->args[0]);
	op.args[0] = file;
	for (i = 0; i < CALLS_MAX_ARGS; i++) {
		if ((call->args[i] & ARG_MAYBE) && !op.args[i - 1])
			continue;
		/* What is made for it in between has its own. */
		d->wild = op.wild;
		/* The first of most is their file; what it makes belongs to no other. */
		if (i || (call->args[0] != ARG_USE + KIND_FILE &&
			  call->args[0] != ARG_MAKE + KIND_FILE))
			op.args[i] = pick_arg(d, call->args[i], file);
	}
	d->wild = outer;
	op.thread = random_below(&d->random, d->threads);
	if (random_percent(&d->random, 8))
		op.delay_us = 1u << random_below(&d->random, 13);
	if (d->num_ops < CALLS_MAX_OPS) {
		state_apply(&d->state, &op);
		d->ops[d->num_ops++] = op;
	}
	d->depth--;
}

static uint32_t pick_call(struct calls_random *random)
{
	uint32_t total = 0, i, n;

	for (i = 0; i < calls_count; i++)
		total += calls_table[i].weight;
	n = random_below(random, total);
	for (i = 0; n >= calls_table[i].weight; i++)
		n -= calls_table[i].weight;
	return i;
}

static void pick_shape(struct calls_sequence *s, struct calls_random *random)
{
	uint32_t ending = random_below(random, 64);

	s->threads = random_percent(random, 40) ? 1 : 2 + random_below(random, 3);
	s->rounds = random_percent(random, 70) ? 1 : 2 + random_below(random, 6);
	s->ending = ending == 1 ? ENDING_EXIT : ending == 2 ? ENDING_KILL : ENDING_CLOSE;
	s->kill_us = random_below(random, 30000);
}

static void pick_split(struct calls_sequence *s, struct calls_random *random)
{
	s->split = s->threads > 1 ? s->num_ops * (30 + random_below(random, 60)) / 100 : s->num_ops;
}

void calls_make(struct calls_sequence *s, uint64_t seed)
{
	struct draft d = { .random = { seed }, .num_ops = 0 };
	uint32_t wanted;

	memset(s, 0, sizeof(*s));
	pick_shape(s, &d.random);
	d.threads = s->threads;
	wanted = 4 + random_below(&d.random, CALLS_MAX_OPS - 12);
	while (d.num_ops < wanted)
		draft_add(&d, pick_call(&d.random), ~0u);
	s->num_ops = d.num_ops;
	memcpy(s->ops, d.ops, sizeof(s->ops));
	pick_split(s, &d.random);
}

/* ---- mutations ----------------------------------------------------------------------------- */

static void draft_before(struct draft *d, const struct calls_sequence *s, uint32_t at)
{
	uint32_t i;

	memset(&d->state, 0, sizeof(d->state));
	for (i = 0; i < at; i++)
		state_apply(&d->state, &s->ops[i]);
	d->num_ops = 0;
	d->threads = s->threads;
}

static void insert_ops(struct calls_sequence *s, uint32_t at, const struct calls_op *ops,
		       uint32_t count)
{
	uint32_t rest;

	if (count > CALLS_MAX_OPS - s->num_ops)
		count = CALLS_MAX_OPS - s->num_ops;
	rest = s->num_ops - at;
	memmove(&s->ops[at + count], &s->ops[at], rest * sizeof(*ops));
	memcpy(&s->ops[at], ops, count * sizeof(*ops));
	s->num_ops += count;
	if (at <= s->split)
		s->split += count;
}

static void mutate_insert(struct calls_sequence *s, struct draft *d)
{
	uint32_t at = random_below(&d->random, s->num_ops + 1);

	draft_before(d, s, at);
	draft_add(d, pick_call(&d->random), ~0u);
	insert_ops(s, at, d->ops, d->num_ops);
}

static void mutate_delete(struct calls_sequence *s, struct draft *d)
{
	uint32_t at;

	if (s->num_ops < 3)
		return;
	at = random_below(&d->random, s->num_ops);
	memmove(&s->ops[at], &s->ops[at + 1], (s->num_ops - at - 1) * sizeof(s->ops[0]));
	s->num_ops--;
	if (at < s->split)
		s->split--;
}

static void mutate_argument(struct calls_sequence *s, struct draft *d)
{
	uint32_t at = random_below(&d->random, s->num_ops), tries, i;
	struct calls_op *op = &s->ops[at];
	const struct calls_call *call = &calls_table[op->call];

	draft_before(d, s, at);
	d->depth = 9;	/* nothing is made for it */
	op->wild = random_percent(&d->random, 50);
	d->wild = op->wild;
	for (tries = 0; tries < 20; tries++) {
		i = random_below(&d->random, CALLS_MAX_ARGS);
		if (call->args[i] == ARG_NONE)
			continue;
		op->args[i] = i || call->args[0] != ARG_USE + KIND_FILE ?
			      pick_arg(d, call->args[i], op->args[0]) :
			      random_below(&d->random, FILES);
		break;
	}
	d->depth = 0;
}

static void mutate_order(struct calls_sequence *s, struct draft *d)
{
	uint32_t a = random_below(&d->random, s->num_ops), b = random_below(&d->random, s->num_ops);
	struct calls_op op = s->ops[a];

	s->ops[a] = s->ops[b];
	s->ops[b] = op;
}

static void mutate_threads(struct calls_sequence *s, struct draft *d)
{
	uint32_t i;

	pick_shape(s, &d->random);
	for (i = 0; i < s->num_ops; i++) {
		if (s->ops[i].thread >= s->threads || random_percent(&d->random, 30))
			s->ops[i].thread = random_below(&d->random, s->threads);
		if (random_percent(&d->random, 10))
			s->ops[i].delay_us = random_below(&d->random, 2) <<
					     random_below(&d->random, 13);
	}
	pick_split(s, &d->random);
}

/* What the other ends with, behind a part of this. */
static void mutate_splice(struct calls_sequence *s, const struct calls_sequence *other,
			  struct draft *d)
{
	uint32_t at = random_below(&d->random, s->num_ops + 1);
	uint32_t from = random_below(&d->random, other->num_ops), i;

	insert_ops(s, at, &other->ops[from], other->num_ops - from);
	for (i = 0; i < s->num_ops; i++)
		s->ops[i].thread %= s->threads;
}

void calls_mutate(struct calls_sequence *s, const struct calls_sequence *parent,
		  const struct calls_sequence *other, uint64_t seed)
{
	struct draft d = { .random = { seed }, .num_ops = 0 };
	uint32_t n = 1 + random_below(&d.random, 4);

	*s = *parent;
	while (n--) {
		switch (random_below(&d.random, 10)) {
		case 0 ... 2: mutate_insert(s, &d); break;
		case 3: mutate_delete(s, &d); break;
		case 4 ... 6: mutate_argument(s, &d); break;
		case 7: mutate_order(s, &d); break;
		case 8: mutate_threads(s, &d); break;
		default: mutate_splice(s, other, &d); break;
		}
	}
}

/* ---- for people ---------------------------------------------------------------------------- */

static void print_arg(uint8_t arg, uint64_t value)
{
	static const char *const names[KINDS] = {
		"file", "bo", "ctx", "shader", "program", "syncobj", "dmabuf", "sync", "map",
	};
	uint8_t kind;

	arg &= ~ARG_MAYBE;
	kind = (arg - ARG_USE) % KINDS;
	if (arg >= ARG_VALUES)
		printf(" %s=%#llx", calls_values[arg - ARG_VALUES].name, (unsigned long long)value);
	else if (arg_is(arg, ARG_MAKE))
		printf(" ->%s%u", names[kind], (uint32_t)value % CALLS_SLOTS);
	else if (value & ARG_LITERAL)
		printf(" %s:%#x", names[kind], (uint32_t)(value >> 32));
	else if (value & ARG_OTHER)
		printf(" %s:%s%u", names[kind], names[(value >> 8 & 0xff) % KINDS],
		       (uint32_t)value % CALLS_SLOTS);
	else
		printf(" %s%u", names[kind], (uint32_t)value % CALLS_SLOTS);
}

void calls_print(const struct calls_sequence *s)
{
	static const char *const endings[] = { "close", "exit", "kill" };
	const struct calls_call *call;
	uint32_t i, j;

	printf("# threads %u, rounds %u, at once from %u, ending %s", s->threads, s->rounds,
	       s->split, endings[s->ending % 3]);
	if (s->ending == ENDING_KILL)
		printf(" after %u us", s->kill_us);
	printf("\n");
	for (i = 0; i < s->num_ops; i++) {
		call = &calls_table[s->ops[i].call];
		printf("# %2u t%u ", i, s->ops[i].thread);
		if (s->ops[i].delay_us)
			printf("+%u us ", s->ops[i].delay_us);
		printf("%s", call->name);
		for (j = 0; j < CALLS_MAX_ARGS && call->args[j] != ARG_NONE; j++)
			print_arg(call->args[j], s->ops[i].args[j]);
		printf("\n");
	}
}
