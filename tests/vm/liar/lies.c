/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/vm/liar/liar.h"

static volatile struct unpu_proto_device *page(const struct liar *liar)
{
	return (void *)(liar->window + UNPU_PROTO_DEVICE);
}

static uint32_t *word_at(const struct liar *liar, uint32_t offset)
{
	return (uint32_t *)(void *)(liar->window + offset);
}

static void put(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

#define AT(member)	((uint32_t)(UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, member)))

/* ---- what it is told ------------------------------------------------------------------------ */

static const char *const hows[] = {
	[LIAR_HONEST] = "honest", [LIAR_OFF] = "off", [LIAR_ATTACH] = "attach",
	[LIAR_INFO] = "info", [LIAR_MUTE] = "mute", [LIAR_DOUBLE] = "double",
	[LIAR_STRAY] = "stray", [LIAR_KIND] = "kind", [LIAR_ABSURD] = "absurd",
	[LIAR_EARLY] = "early", [LIAR_LATE] = "late", [LIAR_INDEX] = "index",
	[LIAR_EPOCH] = "epoch", [LIAR_DIE] = "die", [LIAR_STOP] = "stop", [LIAR_FLIP] = "flip",
	[LIAR_STORM] = "storm", [LIAR_SILENT] = "silent", [LIAR_PROGRESS] = "progress",
	[LIAR_RANDOM] = "random",
};

static const char *const ops[] = { "bo", "shader", "program", "ctx", "end", "job" };

/* Numbers with names, of how they are lied with. */
static const struct {
	const char *name;
	uint32_t arg;
} args[] = {
	{ "never", LIAR_NEVER }, { "wrong", LIAR_WRONG }, { "boot", LIAR_BOOT },
	{ "failed", LIAR_FAILED }, { "magic", LIAR_MAGIC }, { "version", LIAR_VERSION },
	{ "size", LIAR_SIZE }, { "forgets", LIAR_FORGETS },
	{ "back", LIAR_BACK }, { "jump", LIAR_JUMP }, { "zero", LIAR_ZERO },
	{ "rings", LIAR_RINGS }, { "bells", LIAR_BELLS }, { "head", LIAR_HEAD },
	{ "heart", LIAR_HEART }, { "limits", LIAR_LIMITS }, { "events", LIAR_EVENTS },
	{ "ctxs", LIAR_CTXS }, { "epochs", LIAR_EPOCHS }, { "all", LIAR_ALL },
};

#define NUM(array)	(sizeof(array) / sizeof((array)[0]))

static int parse_word(const char *word, struct liar_lie *lie)
{
	char *end;
	size_t i;

	for (i = 0; i < NUM(ops); i++) {
		if (!strcmp(word, ops[i])) {
			lie->ops |= 1u << i;
			return 0;
		}
	}
	for (i = 0; i < NUM(args); i++) {
		if (!strcmp(word, args[i].name)) {
			lie->arg = args[i].arg;
			return 0;
		}
	}
	lie->arg = (uint32_t)strtoul(word, &end, 10);
	return *end ? -EINVAL : 0;
}

int lie_parse(const char *text, struct liar_lie *lie)
{
	char copy[200], *word, *rest;
	size_t i;
	int err = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	word = strtok_r(copy, " ", &rest);
	for (i = 0; word && i < NUM(hows) && strcmp(word, hows[i]); i++)
		;
	if (!word || i == NUM(hows))
		return -EINVAL;
	*lie = (struct liar_lie){ .how = (enum liar_how)i };
	while (!err && (word = strtok_r(NULL, " ", &rest)))
		err = parse_word(word, lie);
	if (!lie->ops)
		lie->ops = (1u << LIAR_NUM_OPS) - 1;
	return err;
}

/* ---- events --------------------------------------------------------------------------------- */

static void say(struct liar *liar, const struct unpu_proto_event *event)
{
	if (vdev_link_event(&liar->link, event))
		vdev_link_ring(&liar->link);
}

/* One that no command has asked for. */
static void say_more(struct liar *liar, struct unpu_proto_event event)
{
	liar->link.due++;
	say(liar, &event);
}

static uint32_t odd_word(uint32_t *random, uint32_t truth)
{
	uint32_t r = liar_random(random);

	switch (r % 8) {
	case 0:
		return 0;
	case 1:
		return UINT32_MAX;
	case 2:
		return truth + 1;
	case 3:
		return truth - 1;
	case 4:
		return truth ^ 1u << (r >> 8) % 32;
	case 5:
		return r >> 20;
	default:
		return r;
	}
}

/* Of nobody's: whose tags and numbers are not among those that are due. */
static void say_strays(struct liar *liar, const struct unpu_proto_event *truth)
{
	static const uint32_t ids[] = { 0, 127, 128, 0xffff, UINT32_MAX };
	struct unpu_proto_event event = *truth;
	uint32_t i;

	event.type = UNPU_PROTO_EVENT_JOB;
	for (i = 0; i < NUM(ids); i++) {
		event.id = ids[i];
		event.value = i;
		say_more(liar, event);
	}
	event.id = truth->type == UNPU_PROTO_EVENT_JOB ? truth->id : 1;
	event.value = truth->value + 1000;
	say_more(liar, event);
	event.value = 0;
	say_more(liar, event);
	event = *truth;
	event.type = UNPU_PROTO_EVENT_ANSWER;
	event.tag = truth->tag + 128 * 77;
	say_more(liar, event);
	event.tag = 0;
	say_more(liar, event);
}

static void say_kinds(struct liar *liar, const struct unpu_proto_event *truth)
{
	static const uint32_t types[] = { 0, 3, 77, UINT32_MAX };
	struct unpu_proto_event event = *truth;
	uint32_t i;

	for (i = 0; i < NUM(types); i++) {
		event.type = types[i];
		say_more(liar, event);
	}
	event.type = truth->type == UNPU_PROTO_EVENT_JOB ? UNPU_PROTO_EVENT_ANSWER :
		     UNPU_PROTO_EVENT_JOB;
	say_more(liar, event);
}

static void say_absurd(struct liar *liar, struct unpu_proto_event event)
{
	static const int32_t errors[] = {
		INT32_MIN, INT32_MAX, 12, 1, -1, -4, -11, -512, -516, -4095, -4096, -62, -125, -19,
	};

	event.status = errors[liar_random(&liar->random) % NUM(errors)];
	event.value = event.type == UNPU_PROTO_EVENT_JOB ? event.value : UINT64_MAX;
	event.busy_ns = UINT64_MAX;
	say(liar, &event);
}

static void say_later(struct liar *liar, const struct unpu_proto_event *event, uint32_t ms)
{
	uint32_t i;

	for (i = 0; i < LIAR_MAX_LATE && liar->late[i].at; i++)
		;
	if (i == LIAR_MAX_LATE)
		return;
	liar->late[i].at = vdev_now() + ms * LIAR_MS;
	liar->late[i].event = *event;
}

static void say_anyhow(struct liar *liar, enum liar_how how,
		       const struct unpu_proto_event *event, uint32_t arg)
{
	switch (how) {
	case LIAR_MUTE:
		liar->link.due--;
		break;
	case LIAR_DOUBLE:
		say(liar, event);
		say_more(liar, *event);
		break;
	case LIAR_STRAY:
		say_strays(liar, event);
		say(liar, event);
		break;
	case LIAR_KIND:
		say_kinds(liar, event);
		say(liar, event);
		break;
	case LIAR_ABSURD:
		say_absurd(liar, *event);
		break;
	case LIAR_LATE:
		say_later(liar, event, arg);
		break;
	default:
		say(liar, event);
	}
}

/* Mostly the truth, or nothing is ever begun. */
static enum liar_how any_how(struct liar *liar)
{
	static const enum liar_how some[] = {
		LIAR_MUTE, LIAR_DOUBLE, LIAR_STRAY, LIAR_KIND, LIAR_ABSURD, LIAR_LATE,
	};
	uint32_t r = liar_random(&liar->random) % 40;

	return r < NUM(some) ? some[r] : LIAR_HONEST;
}

void liar_tell(struct liar *liar, enum liar_op op, const struct unpu_proto_event *event)
{
	enum liar_how how = liar->lie.how;
	uint32_t arg = liar->lie.arg;

	if (how == LIAR_RANDOM) {
		how = any_how(liar);
		arg = liar_random(&liar->random) % 700;
	} else if (how == LIAR_PROGRESS) {
		how = op == LIAR_JOB ? LIAR_MUTE : op == LIAR_END ? LIAR_LATE : LIAR_HONEST;
	} else if (!(liar->lie.ops >> op & 1)) {
		how = LIAR_HONEST;
	}
	say_anyhow(liar, how, event, arg);
}

/* ---- commands ------------------------------------------------------------------------------- */

static int op_of(const struct unpu_proto_command *command)
{
	switch (command->op) {
	case UNPU_PROTO_BO_CREATE:
		return LIAR_BO;
	case UNPU_PROTO_SHADER_CREATE:
		return LIAR_SHADER;
	case UNPU_PROTO_PROGRAM_CREATE:
		return LIAR_PROGRAM;
	case UNPU_PROTO_CTX_CREATE:
		return LIAR_CTX;
	case UNPU_PROTO_CTX_DESTROY:
		return LIAR_END;
	case UNPU_PROTO_JOB:
		return LIAR_JOB;
	}
	return -1;
}

static void lie_index(struct liar *liar)
{
	if (liar_random(&liar->random) & 1)
		put(word_at(liar, AT(events_made)),
		    odd_word(&liar->random, liar->link.events_made));
	else
		put(word_at(liar, AT(commands_taken)),
		    odd_word(&liar->random, liar->link.commands_taken));
	vdev_link_ring(&liar->link);
}

static void lie_epoch(struct liar *liar, uint32_t which)
{
	if (which == LIAR_BACK)
		liar->link.epoch--;
	else
		liar->link.epoch = which == LIAR_ZERO ? 0 : liar_random(&liar->random);
	put(word_at(liar, AT(epoch)), liar->link.epoch);
}

/* It is silent from now on, and honest when it comes back. */
static void lie_dead(struct liar *liar, bool seen, uint32_t ms)
{
	if (seen) {
		put(word_at(liar, AT(state)), UNPU_PROTO_STATE_BOOT);
		put(word_at(liar, AT(attached)), 0);
		put(word_at(liar, AT(epoch)), 0);
	}
	liar->back_at = vdev_now() + (ms ? ms : 300) * LIAR_MS;
}

static bool lie_sometimes(struct liar *liar)
{
	uint32_t r = liar_random(&liar->random) % 400;

	if (r < 4)
		lie_index(liar);
	else if (r < 6)
		lie_epoch(liar, r % LIAR_NUM_EPOCHS);
	else if (r < 8)
		lie_dead(liar, r & 1, 100 + liar_random(&liar->random) % 500);
	return r == 6 || r == 7;
}

bool lie_before(struct liar *liar, const struct unpu_proto_command *command)
{
	int op = op_of(command);

	if (liar->lie.how == LIAR_RANDOM)
		return lie_sometimes(liar);
	if (op < 0 || !(liar->lie.ops >> op & 1))
		return false;
	switch (liar->lie.how) {
	case LIAR_INDEX:
		lie_index(liar);
		return false;
	case LIAR_EPOCH:
		lie_epoch(liar, liar->lie.arg);
		return false;
	case LIAR_DIE:
	case LIAR_STOP:
		lie_dead(liar, liar->lie.how == LIAR_DIE, liar->lie.arg);
		return true;
	default:
		return false;
	}
}

/* ---- attaching ------------------------------------------------------------------------------ */

bool lie_attach(struct liar *liar, uint32_t number)
{
	if (liar->lie.how != LIAR_ATTACH)
		return false;
	if (liar->lie.arg == LIAR_WRONG)
		put(word_at(liar, AT(attached)), number + 1);
	return liar->lie.arg == LIAR_NEVER || liar->lie.arg == LIAR_WRONG;
}

void lie_page(struct liar *liar)
{
	if (liar->lie.how != LIAR_ATTACH)
		return;
	switch (liar->lie.arg) {
	case LIAR_BOOT:
		page(liar)->state = UNPU_PROTO_STATE_BOOT;
		break;
	case LIAR_FAILED:
		page(liar)->state = UNPU_PROTO_STATE_FAILED;
		break;
	case LIAR_MAGIC:
		page(liar)->magic = UNPU_PROTO_MAGIC + 1;
		break;
	case LIAR_VERSION:
		page(liar)->version = UNPU_PROTO_VERSION + 1;
		break;
	case LIAR_SIZE:
		page(liar)->window_bytes = UINT64_MAX;
		break;
	}
}

/* Answers that are lost keep callers for long: another process comes, and they go on. */
static bool is_mortal(const struct liar *liar)
{
	return liar->lie.how == LIAR_RANDOM ||
	       (liar->lie.how == LIAR_FLIP &&
		(liar->lie.arg == LIAR_ALL || liar->lie.arg == LIAR_EVENTS));
}

static uint64_t say_late(struct liar *liar, uint64_t now)
{
	uint64_t until = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < LIAR_MAX_LATE; i++) {
		struct liar_late *late = &liar->late[i];

		if (late->at && late->at <= now) {
			late->at = 0;
			say(liar, &late->event);
		} else if (late->at && late->at < until) {
			until = late->at;
		}
	}
	return until;
}

uint64_t lie_now_and_then(struct liar *liar, uint64_t now)
{
	uint64_t until = say_late(liar, now);

	if (is_mortal(liar)) {
		if (liar->dies_at && now > liar->dies_at)
			lie_dead(liar, liar_random(&liar->random) & 1, 50);
		if (now > liar->dies_at)
			liar->dies_at = now + (400 + liar_random(&liar->random) % 1000) * LIAR_MS;
	}
	if (liar->lie.how != LIAR_ATTACH || liar->lie.arg != LIAR_FORGETS)
		return until;
	if (now > liar->forgets_at) {
		put(word_at(liar, AT(attached)), 0);
		liar->forgets_at = now + 150 * LIAR_MS;
	}
	return liar->forgets_at < until ? liar->forgets_at : until;
}

/* ---- words that change all the time --------------------------------------------------------- */

static uint32_t pick(uint32_t *random, const uint32_t *offsets, size_t num)
{
	return offsets[liar_random(random) % num];
}

static uint32_t flip_place(enum liar_words words, uint32_t *random)
{
	static const uint32_t rings[] = { AT(events_made), AT(commands_taken) };
	static const uint32_t head[] = { AT(magic), AT(version), AT(state), AT(attached) };
	const uint32_t any = liar_random(random);

	switch (words) {
	case LIAR_RINGS:
		return pick(random, rings, NUM(rings));
	case LIAR_BELLS:
		return AT(wants_doorbell);
	case LIAR_HEAD:
		return pick(random, head, NUM(head));
	case LIAR_HEART:
		return AT(heartbeat);
	case LIAR_LIMITS:
		if (any & 1)
			return UNPU_PROTO_SHADERS + any / 2 % 64 * 4;
		return AT(num_shaders) + any / 2 % (sizeof(struct drm_unpu_dev_info) / 4) * 4;
	case LIAR_EVENTS:
		return UNPU_PROTO_EVENTS + any % (UNPU_PROTO_NUM_EVENTS * 8) * 4;
	case LIAR_CTXS:
		return UNPU_PROTO_CTXS + any % UNPU_PROTO_MAX_CTXS *
		       (uint32_t)sizeof(struct unpu_proto_ctx);
	case LIAR_EPOCHS:
		return AT(epoch);
	default:
		return flip_place((enum liar_words)(any % LIAR_ALL), random);
	}
}

/* What an honest device would have there; 0 where it says nothing yet. */
static uint32_t flip_truth(const struct liar *liar, uint32_t offset, uint32_t was)
{
	switch (offset) {
	case AT(magic):
		return UNPU_PROTO_MAGIC;
	case AT(version):
		return UNPU_PROTO_VERSION;
	case AT(state):
		return UNPU_PROTO_STATE_READY;
	case AT(attached):
		return __atomic_load_n(&liar->link.attached, __ATOMIC_RELAXED);
	case AT(epoch):
		return __atomic_load_n(&liar->link.epoch, __ATOMIC_RELAXED);
	case AT(events_made):
		return __atomic_load_n(&liar->link.events_made, __ATOMIC_RELAXED);
	case AT(commands_taken):
		return __atomic_load_n(&liar->link.commands_taken, __ATOMIC_RELAXED);
	}
	return was;
}

static void flip(struct liar *liar, enum liar_words words, uint32_t *random)
{
	uint32_t offset = flip_place(words, random);
	uint32_t *word = word_at(liar, offset);
	uint32_t was = __atomic_load_n(word, __ATOMIC_RELAXED);

	put(word, odd_word(random, was));
	/* Events stay wrong: their slots are written anew before they count. */
	if (offset < UNPU_PROTO_EVENTS || offset >= UNPU_PROTO_HEAP)
		put(word, flip_truth(liar, offset, was));
}

static void nap(long us)
{
	const struct timespec time = { 0, us * 1000 };

	nanosleep(&time, NULL);
}

/* By hundreds: on one processor the others want to run, too. */
static void flip_on(struct liar *liar, enum liar_words words, uint32_t *random)
{
	uint32_t i;

	for (i = 0; i < 200; i++)
		flip(liar, words, random);
	nap(20);
}

/* Never back, or who looks now and then may see no change. */
static void progress_on(struct liar *liar)
{
	uint32_t i;

	for (i = 1; i < UNPU_PROTO_MAX_CTXS; i++)
		vdev_link_progress(&liar->link, i, liar_random(&liar->beside));
	nap(1000);
}

static void storm(struct liar *liar, uint32_t vector)
{
	const uint64_t one = 1;
	uint32_t i;

	for (i = 0; i < 20; i++)
		if (write(liar->shared.interrupts[vector & 1], &one, sizeof(one)) < 0)
			break;
	nap(100);
}

/* A while of one kind, a while of nothing. */
static void flip_sometimes(struct liar *liar, uint32_t *random)
{
	uint32_t r = liar_random(random), i;
	enum liar_words words = (enum liar_words)(r % (LIAR_ALL + 8));

	for (i = 0; i < (r >> 16 & 7); i++) {
		if (words == LIAR_ALL + 1)
			storm(liar, r >> 12 & 1);
		else if (words <= LIAR_ALL)
			flip(liar, words, random);
		nap(1000 + (long)(r >> 20));
	}
	nap(2000);
}

static void *flipper(void *arg)
{
	struct liar *liar = arg;
	uint32_t random = liar->random + 7;

	liar->beside = random;
	while (!atomic_load(&liar->flip_stop)) {
		if (liar->lie.how == LIAR_STORM)
			storm(liar, liar->lie.arg);
		else if (liar->lie.how == LIAR_RANDOM)
			flip_sometimes(liar, &random);
		else if (liar->lie.how == LIAR_PROGRESS)
			progress_on(liar);
		else
			flip_on(liar, (enum liar_words)liar->lie.arg, &random);
	}
	return NULL;
}

void lie_start(struct liar *liar)
{
	switch (liar->lie.how) {
	case LIAR_SILENT:
		liar->link.interrupt = -1;
		return;
	case LIAR_STORM:
	case LIAR_FLIP:
	case LIAR_PROGRESS:
	case LIAR_RANDOM:
		atomic_store(&liar->flip_stop, false);
		liar->flips = !pthread_create(&liar->flipper, NULL, flipper, liar);
		return;
	default:
		return;
	}
}

void lie_stop(struct liar *liar)
{
	atomic_store(&liar->flip_stop, true);
	if (liar->flips)
		pthread_join(liar->flipper, NULL);
	liar->flips = false;
	memset(liar->late, 0, sizeof(liar->late));
	liar->back_at = 0;
	liar->dies_at = 0;
}

/* ---- what it says of itself ----------------------------------------------------------------- */

#define FIELD(member) { \
	(uint32_t)offsetof(struct drm_unpu_dev_info, member), \
	(uint32_t)sizeof(((struct drm_unpu_dev_info *)0)->member) }

static const struct {
	uint32_t offset, bytes;
} fields[] = {
	FIELD(version_major), FIELD(version_minor), FIELD(features), FIELD(heap_window_bytes),
	FIELD(heap_device_bytes), FIELD(max_bo_bytes), FIELD(max_binding_bytes),
	FIELD(binding_align), FIELD(max_rows), FIELD(max_dispatches), FIELD(max_bindings),
	FIELD(max_buffers), FIELD(max_spec_words), FIELD(max_const_bytes), FIELD(max_programs),
	FIELD(max_repeat), FIELD(max_job_dispatches), FIELD(max_syncs), FIELD(max_contexts),
	FIELD(max_queued_jobs), FIELD(tokens_per_submit), FIELD(default_timeout_ns),
	FIELD(max_timeout_ns), FIELD(max_job_time_ns), FIELD(kv_types), FIELD(num_matrices),
	FIELD(units), FIELD(pad),
};

static const uint64_t values[] = {
	0, 1, 0xfff, 1ull << 31, UINT64_MAX, 1ull << 63, UINT64_MAX - 0xfff,
};

#define NUM_FIELDS	((uint32_t)(NUM(fields) * NUM(values)))

enum { ALL_0, ALL_1, NAME_OPEN, NAME_ODD, NO_SHADERS, MANY_SHADERS, MOST_SHADERS, SHADER_OPEN,
       SHADER_EMPTY, SHADER_BLANK, SHADER_TAIL, MATRICES, NUM_SPECIALS };

uint32_t lie_num_infos(void)
{
	return NUM_FIELDS + NUM_SPECIALS;
}

static void special_shaders(uint32_t which, uint32_t *num, struct drm_unpu_shader_name *name)
{
	switch (which) {
	case NO_SHADERS:
		*num = 0;
		break;
	case MANY_SHADERS:
		*num = UNPU_PROTO_MAX_SHADERS + 1;
		break;
	case MOST_SHADERS:
		*num = UINT32_MAX;
		break;
	case SHADER_OPEN:
		memset(name->name, 'x', sizeof(name->name));
		break;
	case SHADER_EMPTY:
		memset(name->name, 0, sizeof(name->name));
		break;
	case SHADER_BLANK:
		name->name[1] = ' ';
		break;
	case SHADER_TAIL:
		name->name[sizeof(name->name) - 2] = 'x';
		break;
	}
}

void lie_info(struct drm_unpu_dev_info *info, uint32_t *num_shaders,
	      struct drm_unpu_shader_name *names, uint32_t which)
{
	uint32_t field = which / NUM(values);

	if (which < NUM_FIELDS) {
		memcpy((uint8_t *)info + fields[field].offset, &values[which % NUM(values)],
		       fields[field].bytes);
		return;
	}
	which -= NUM_FIELDS;
	if (which == ALL_0)
		memset(info, 0, sizeof(*info));
	else if (which == ALL_1)
		memset(info, 0xff, sizeof(*info));
	else if (which == NAME_OPEN)
		memset(info->name, 'x', sizeof(info->name));
	else if (which == NAME_ODD)
		memset(info->name, '\n', sizeof(info->name) - 1);
	else if (which == MATRICES)
		memset(info->matrices, 0xff, sizeof(info->matrices));
	special_shaders(which, num_shaders, &names[0]);
}
