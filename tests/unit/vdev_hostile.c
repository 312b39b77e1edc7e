/* SPDX-License-Identifier: MIT */
/*
 * unpu-vdev with one guest that does whatever it can think of, from three threads, and one that
 * works. The first sends right sequences with one field changed, moves ring indices, rewrites
 * commands, images, states and weights while they are read, makes its worker exit, stick and stand
 * still; the second gets the same results as before, in time, and never sees a byte of the other's.
 * What a sanitizer finds ends a worker, which is told in the log; it is read at the end.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shaders/shaders.h"
#include "tests/lib/guest.h"
#include "tools/unpu-vdev/vdev.h"

#define WINDOW		(4u << 20)
#define MEMORY		(16u << 20)
#define HEAP		UNPU_PROTO_HEAP
#define WAIT_MS		20000u
#define SECRET		0x5ec2e75eu	/* the hostile guest's memory is full of it */

/* Where both guests have their things. */
enum {
	AT_SRC = HEAP, AT_DST = HEAP + 4096, AT_IMAGE = HEAP + 2 * 4096, AT_STOP = HEAP + 4 * 4096,
	AT_LAYER = HEAP + 8 * 4096, AT_REST = HEAP + 8 * 4096 + GUEST_LAYER_BYTES,
};
enum { SRC = 1, DST, LAYER, OWN, STOP };
enum { COPY = 1, TO_OWN, FROM_OWN, LAYERS, STOPPED };
#define COPY_SHADER	1u
#define LAYER_SHADER	10u

static char folder[] = "/tmp/unpu-hostile-XXXXXX";
static char path[64], log_path[64];
static pid_t broker;

static bool is_long(void)
{
	return getenv("UNPU_TEST_LONG");
}

static uint64_t now_ms(void)
{
	return vdev_now() / 1000000u;
}

static void nap(void)
{
	const struct timespec time = { 0, 1000000 };

	nanosleep(&time, NULL);
}

static uint32_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 32);
}

/* ---- the broker ------------------------------------------------------------------------------ */

static void begin(void)
{
	const struct vdev_config config = {
		.socket = path, .device = "cpu", .threads = 1, .window = WINDOW, .memory = MEMORY,
		.guests = 3,
	};
	struct stat st;
	int turns;

	fflush(NULL);
	broker = fork();
	assert_true(broker >= 0);
	if (!broker) {
		if (!freopen(log_path, "w", stderr))
			_exit(9);
		_exit(vdev_broker_run(&config));
	}
	for (turns = 0; turns < 10000 && stat(path, &st); turns++)
		nap();
	assert_int_equal(stat(path, &st), 0);
}

/* All that was said. */
static char *read_log(void)
{
	static char text[1 << 20];
	FILE *file = fopen(log_path, "re");
	size_t got;

	assert_non_null(file);
	got = fread(text, 1, sizeof(text) - 1, file);
	text[got] = '\0';
	fclose(file);
	return text;
}

static void said_nothing_of(const char *words)
{
	char *text = strstr(read_log(), words);

	if (text)
		fail_msg("said: %.2000s", text);
}

static void end(void)
{
	int status;

	kill(broker, SIGTERM);
	assert_int_equal(waitpid(broker, &status, 0), broker);
	broker = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	said_nothing_of("AddressSanitizer");
	said_nothing_of("runtime error");
	said_nothing_of("Segmentation");
	said_nothing_of("Aborted");
	said_nothing_of("Bus error");
	said_nothing_of("stands still");
	said_nothing_of("guest 1: worker");	/* the one who works */
}

/* ---- both guests ----------------------------------------------------------------------------- */

static bool answer(struct guest *g, struct unpu_proto_command command)
{
	uint32_t tag = guest_send(g, &command);
	struct unpu_proto_event event;

	while (guest_event(g, &event, WAIT_MS))
		if (event.type == UNPU_PROTO_EVENT_ANSWER && event.tag == tag)
			return !event.status;
	return false;
}

static void make_all(struct guest *g)
{
	uint32_t i;

	assert_true(answer(g, guest_bo(SRC, AT_SRC, 4096)));
	assert_true(answer(g, guest_bo(DST, AT_DST, 4096)));
	assert_true(answer(g, guest_bo(STOP, AT_STOP, 4096)));
	assert_true(answer(g, guest_bo(LAYER, AT_LAYER, GUEST_LAYER_BYTES)));
	assert_true(answer(g, guest_bo(OWN, 0, 1u << 20)));
	assert_true(answer(g, guest_shader(COPY_SHADER, "copy.1")));
	for (i = 0; i < GUEST_LAYER_SHADERS; i++)
		assert_true(answer(g, guest_layer_shader(LAYER_SHADER, i)));
	assert_true(answer(g, guest_copy(g, COPY, AT_IMAGE, COPY_SHADER, SRC, DST, 0)));
	assert_true(answer(g, guest_copy(g, TO_OWN, AT_IMAGE, COPY_SHADER, SRC, OWN, 0)));
	assert_true(answer(g, guest_copy(g, FROM_OWN, AT_IMAGE, COPY_SHADER, OWN, DST, 0)));
	assert_true(answer(g, guest_layer(g, LAYERS, AT_IMAGE, LAYER_SHADER, LAYER)));
	assert_true(answer(g, guest_ctx(1, DRM_UNPU_PRIORITY_NORMAL, 0)));
}

/* ---- the one who works ----------------------------------------------------------------------- */

struct worker {
	struct guest_client c;
	uint64_t expected;		/* of what the layer leaves */
	uint64_t seqno;
	uint32_t epoch;
	uint64_t slowest;		/* job, in ms */
	uint32_t jobs;
};

static uint64_t hash(const uint8_t *data, size_t size)
{
	uint64_t h = 1469598103934665603u;
	size_t i;

	for (i = 0; i < size; i++)
		h = (h ^ data[i]) * 1099511628211u;
	return h;
}

static void works_once(struct worker *w, uint32_t program)
{
	struct unpu_proto_command job = guest_job(1, ++w->seqno, program, 1);
	uint64_t begun = now_ms();
	struct unpu_proto_event event;

	guest_send(&w->c.g, &job);
	assert_true(guest_event(&w->c.g, &event, WAIT_MS));
	assert_int_equal(event.type, UNPU_PROTO_EVENT_JOB);
	assert_int_equal(event.value, w->seqno);
	assert_int_equal(event.status, 0);
	if (now_ms() - begun > w->slowest)
		w->slowest = now_ms() - begun;
	w->jobs++;
}

/* Through the device's memory, and the same layer as ever. */
static void works(struct worker *w)
{
	uint8_t *window = w->c.g.window;
	uint32_t i;
	uint64_t left;

	for (i = 0; i < 4096; i += 4)
		memcpy(window + AT_SRC + i, &w->jobs, 4);
	memset(window + AT_DST, 0, 4096);
	works_once(w, TO_OWN);
	works_once(w, FROM_OWN);
	assert_memory_equal(window + AT_SRC, window + AT_DST, 4096);
	guest_layer_fill(&w->c.g, AT_LAYER, 7);
	works_once(w, LAYERS);
	left = hash(window + AT_LAYER, GUEST_LAYER_BYTES);
	if (!w->expected)
		w->expected = left;
	assert_true(left == w->expected);
	assert_int_equal(GUEST_WORD(&w->c.g, epoch), w->epoch);
}

static void worker_begin(struct worker *w)
{
	uint64_t before;
	uint32_t i;

	*w = (struct worker){ 0 };
	guest_greet(&w->c, path, WINDOW);
	guest_attach(&w->c.g);
	make_all(&w->c.g);
	w->epoch = GUEST_WORD(&w->c.g, epoch);
	guest_layer_fill(&w->c.g, AT_LAYER, 7);
	before = hash(w->c.g.window + AT_LAYER, GUEST_LAYER_BYTES);
	for (i = 0; i < 20; i++)
		works(w);
	/* The layer does something, and does not stop halfway. */
	assert_true(w->expected != before);
	assert_int_equal(guest_word(&w->c.g, AT_LAYER +
				    offsetof(struct unpu_state_header, fault)), 0);
	assert_int_equal(guest_word(&w->c.g, AT_LAYER +
				    offsetof(struct unpu_state_header, ring_head)), 1);
}

/* What it has not written is as it was given. */
static void worker_end(struct worker *w, uint64_t alone)
{
	const uint8_t *window = w->c.g.window;
	uint32_t secret = SECRET, at;

	works(w);
	for (at = AT_REST; at < WINDOW; at++)
		assert_int_equal(window[at], 0);
	for (at = 0; at + 4 <= WINDOW; at += 4)
		assert_int_not_equal(memcmp(window + at, &secret, 4), 0);
	print_message("%u jobs, the slowest alone %llu ms, beside the other one %llu ms\n", w->jobs,
		      (unsigned long long)alone, (unsigned long long)w->slowest);
	assert_true(w->slowest < 5000 + 50 * alone);
	guest_leave(&w->c);
}

/* ---- the one who does not -------------------------------------------------------------------- */

struct hostile {
	struct guest_client c;
	uint64_t seed;
	uint32_t attempts, attached;	/* how often it attached, and how often that was answered */
	atomic_bool stop;
	atomic_bool rings;		/* the driver's page is rewritten, too */
	uint32_t sent, events, good;
};

struct attack {
	struct hostile *h;
	uint64_t seed;
	bool rings;
};

static void poke(struct hostile *h, uint64_t at, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(h->c.g.window + at), value, __ATOMIC_RELAXED);
}

static uint32_t odd_value(uint64_t *seed)
{
	static const uint32_t edges[] = {
		0, 1, 2, 3, 63, 64, 128, 4095, 4096, 65535, 65536, HEAP, WINDOW - 4096, WINDOW,
		INT32_MAX, UINT32_MAX, UINT32_MAX - 4095, 0x7fc00000, 0x7f800000, 0xff800000,
		SECRET,
	};
	uint32_t n = draw(seed);

	return n % 3 ? edges[n / 3 % (sizeof(edges) / sizeof(edges[0]))] :
	       n % 2 ? draw(seed) : draw(seed) % 256;
}

/* Images while they are checked, states while they are read, all that a program reads. */
static void poke_heap(struct attack *a)
{
	uint32_t n = draw(&a->seed), at;

	switch (n % 4) {
	case 0:
		at = AT_IMAGE + draw(&a->seed) % 4096;
		break;
	case 1:
		at = AT_LAYER + draw(&a->seed) % 1024;
		break;
	case 2:
		at = AT_LAYER + draw(&a->seed) % GUEST_LAYER_BYTES;
		break;
	default:
		at = HEAP + draw(&a->seed) % (WINDOW - HEAP);
	}
	/* Not where a word stands that the tests' device obeys. */
	if (at < AT_SRC + 4096 || (at >= AT_STOP && at < AT_STOP + 4096))
		return;
	poke(a->h, at & ~3u, odd_value(&a->seed));
}

/* Words of the rings and what is in them; and of the device's own page, which nobody may trust. */
static void poke_rings(struct attack *a)
{
	uint32_t n = draw(&a->seed);

	switch (n % 6) {
	case 0:
		poke(a->h, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, commands_made),
		     a->h->c.g.commands_made + (n & 64 ? odd_value(&a->seed) : n % 8));
		break;
	case 1:
		poke(a->h, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, events_taken),
		     a->h->c.g.events_taken + (n & 64 ? odd_value(&a->seed) : n % 8));
		break;
	case 2:
		poke(a->h, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, attach), n % 16);
		break;
	case 3:
		poke(a->h, UNPU_PROTO_DEVICE + n / 6 % 1032 / 4 * 4, odd_value(&a->seed));
		break;
	default:
		n = draw(&a->seed) % (HEAP - UNPU_PROTO_SHADERS);
		poke(a->h, UNPU_PROTO_SHADERS + n / 4 * 4, odd_value(&a->seed));
	}
	guest_ring(&a->h->c.g);
}

static void *attack_main(void *arg)
{
	struct attack *a = arg;
	int i;

	while (!atomic_load(&a->h->stop)) {
		for (i = 0; i < 32; i++)
			if (!a->rings)
				poke_heap(a);
		if (a->rings && atomic_load(&a->h->rings))
			poke_rings(a);
		nap();
	}
	return NULL;
}

/* As guest_attach(), but it need not come to anything. */
static void try_to_attach(struct hostile *h)
{
	struct guest *g = &h->c.g;
	uint64_t until = now_ms() + 300;

	h->attempts++;
	memset(g->window + UNPU_PROTO_DRIVER, 0, sizeof(struct unpu_proto_driver));
	g->commands_made = 0;
	g->events_taken = 0;
	poke(h, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, version),
	     UNPU_PROTO_VERSION);
	poke(h, UNPU_PROTO_DRIVER + offsetof(struct unpu_proto_driver, attach), ++g->attach);
	guest_ring(g);
	while (GUEST_WORD(g, attached) != g->attach && now_ms() < until)
		nap();
	h->attached += GUEST_WORD(g, attached) == g->attach;
}

/* One command that is right for what ids there are, or nearly. */
static struct unpu_proto_command next_command(struct hostile *h)
{
	struct guest *g = &h->c.g;
	uint32_t n = draw(&h->seed), id = 1 + n / 32 % 6;
	uint64_t page = AT_REST + draw(&h->seed) % 64 * 4096ull;
	static uint64_t seqno;

	switch (n % 14) {
	case 0:
		return guest_bo(id, n & 1024 ? page : 0, 4096ull << draw(&h->seed) % 12);
	case 1:
		return n & 1024 ? guest_shader(id, "copy.1") :
		       guest_layer_shader(LAYER_SHADER, n / 2048 % GUEST_LAYER_SHADERS);
	case 2:
		return guest_copy(g, id, AT_IMAGE, COPY_SHADER, 1 + draw(&h->seed) % 5,
				  1 + draw(&h->seed) % 5, n & 1024 ? STOP : 0);
	case 3:
		return guest_layer(g, id, AT_IMAGE, LAYER_SHADER, 1 + draw(&h->seed) % 5);
	case 4:
		return guest_ctx(1 + n / 1024 % 3, draw(&h->seed) % 3,
				 n & 8192 ? 20000000 : 0);
	case 5:
	case 6:
	case 7:
		return guest_job(1 + n / 1024 % 3, ++seqno, 1 + draw(&h->seed) % 5,
				 1 + draw(&h->seed) % 4);
	case 8:
		return guest_bo(LAYER, AT_LAYER, GUEST_LAYER_BYTES);
	case 9:
		return guest_plain(UNPU_PROTO_CTX_DESTROY, 1 + n / 1024 % 3);
	default:
		return guest_plain(draw(&h->seed) % (UNPU_PROTO_JOB + 1), id);
	}
}

static void send_changed(struct hostile *h)
{
	struct unpu_proto_command command = next_command(h);
	uint32_t value = odd_value(&h->seed), times = 1 + (draw(&h->seed) % 8 == 0);

	/* One field in two of three. */
	if (draw(&h->seed) % 3)
		memcpy(command.bytes + 4 * (draw(&h->seed) % 14), &value, 4);
	/* Whatever was changed: no job of minutes. Long ones are another test's. */
	if (command.op == UNPU_PROTO_JOB && command.job.runs[0].repeat > 4)
		command.job.runs[0].repeat |= 0x10000;
	/* Once more: ids that are there, or are gone. */
	for (; times; times--, h->sent++)
		guest_send(&h->c.g, &command);
}

static void take_events(struct hostile *h, uint32_t wait_ms)
{
	struct unpu_proto_event event;
	uint32_t i;

	/* By what stands there, which the other thread may have written, there may be more. */
	for (i = 0; i < UNPU_PROTO_NUM_EVENTS && guest_event(&h->c.g, &event, wait_ms); i++) {
		h->events++;
		h->good += !event.status;
		wait_ms = 0;
	}
}

static void hostile_round(struct hostile *h)
{
	uint32_t i, batch;

	try_to_attach(h);
	for (batch = 0; batch < 12 && GUEST_WORD(&h->c.g, attached) == h->c.g.attach; batch++) {
		for (i = 0; i < 16; i++)
			send_changed(h);
		take_events(h, 5);
	}
}

static void spread_secret(struct hostile *h)
{
	uint32_t at;

	for (at = HEAP; at < WINDOW; at += 4)
		poke(h, at, SECRET);
}

static void hostile_begin(struct hostile *h)
{
	memset(h, 0, sizeof(*h));
	h->seed = 11;
	guest_greet(&h->c, path, WINDOW);
	guest_attach(&h->c.g);
	spread_secret(h);
	make_all(&h->c.g);
}

/* With all others of its threads gone it is served as anybody. */
static void hostile_end(struct hostile *h)
{
	struct unpu_proto_command job = guest_job(1, 1, COPY, 1);
	struct unpu_proto_event event;

	memset(h->c.g.window + AT_SRC, 0x77, 4096);
	/* This word, too, was rewritten; the device says it once. */
	poke(h, UNPU_PROTO_DEVICE + offsetof(struct unpu_proto_device, state),
	     UNPU_PROTO_STATE_READY);
	guest_attach(&h->c.g);
	make_all(&h->c.g);
	guest_send(&h->c.g, &job);
	assert_true(guest_event(&h->c.g, &event, WAIT_MS));
	assert_int_equal(event.status, 0);
	assert_memory_equal(h->c.g.window + AT_SRC, h->c.g.window + AT_DST, 4096);
	guest_leave(&h->c);
}

/* ---- tests ----------------------------------------------------------------------------------- */

struct hostile_thread {
	struct hostile *h;
	uint64_t until;
	void (*round)(struct hostile *h);
};

static void *hostile_main(void *arg)
{
	struct hostile_thread *t = arg;

	while (now_ms() < t->until)
		t->round(t->h);
	return NULL;
}

/* The one does `round` over and over for so long, the other works meanwhile. */
static void beside(struct hostile *h, struct worker *w, void (*round)(struct hostile *h),
		   uint32_t ms)
{
	struct hostile_thread t = { h, now_ms() + (is_long() ? 20 * ms : ms), round };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, hostile_main, &t), 0);
	while (now_ms() < t.until)
		works(w);
	pthread_join(thread, NULL);
}

/* A sanitizer of threads finds, rightly, that two of the test's write to the same memory. */
#if defined(__SANITIZE_THREAD__)
#define RACES	true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES	true
#endif
#endif
#ifndef RACES
#define RACES	false
#endif

static void changed_commands_and_memory(void **state)
{
	struct attack attacks[2] = { { .seed = 1 }, { .seed = 2, .rings = true } };
	pthread_t threads[2];
	static struct hostile h;
	static struct worker w;
	uint64_t alone;
	int i;

	(void)state;
	if (RACES) {
		print_message("SKIP: a race on purpose, under a sanitizer that reports them\n");
		skip();
	}
	begin();
	worker_begin(&w);
	alone = w.slowest;
	w.slowest = 0;
	hostile_begin(&h);
	for (i = 0; i < 2; i++) {
		attacks[i].h = &h;
		assert_int_equal(pthread_create(&threads[i], NULL, attack_main, &attacks[i]), 0);
	}
	beside(&h, &w, hostile_round, 3000);
	print_message("%u commands, %u events, %u without an error\n", h.sent, h.events, h.good);
	assert_true(h.good > 50);
	atomic_store(&h.rings, true);
	beside(&h, &w, hostile_round, 3000);
	print_message("%u commands, attached %u times of %u\n", h.sent, h.attached, h.attempts);
	atomic_store(&h.stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	hostile_end(&h);
	worker_end(&w, alone);
	end();
}

/* A worker that exits, hangs or sticks by what it copies; the next one is there in time. */
static void die_once(struct hostile *h)
{
	static const char *const words[] = { "EXIT", "HANG", "EXIT", "STUK", "SLOW" };
	struct unpu_proto_command end_of_it = guest_plain(UNPU_PROTO_CTX_DESTROY, 1);
	struct unpu_proto_command job = guest_job(1, 1, COPY, 1);
	struct unpu_proto_event event;
	struct guest *g = &h->c.g;
	uint32_t epoch;

	guest_attach(g);
	make_all(g);
	epoch = GUEST_WORD(g, epoch);
	memcpy(g->window + AT_SRC, words[h->sent++ % 5], 4);
	guest_send(g, &job);
	guest_send(g, &end_of_it);
	/* Answered, or nobody is there to do so. */
	while (GUEST_WORD(g, epoch) == epoch && !guest_event(g, &event, 20))
		;
	memset(g->window + AT_SRC, 0, 4);
	nap();
}

static void workers_that_die(void **state)
{
	static struct hostile h;
	static struct worker w;
	uint64_t alone;

	(void)state;
	begin();
	worker_begin(&w);
	alone = w.slowest;
	w.slowest = 0;
	hostile_begin(&h);
	beside(&h, &w, die_once, 5000);
	assert_non_null(strstr(read_log(), "guest 2: worker replaced"));
	hostile_end(&h);
	worker_end(&w, alone);
	end();
}

/* Memory as much as there is, kept by programs; ids as many as there are. */
static void take_all(struct hostile *h)
{
	struct unpu_proto_command gone = guest_plain(UNPU_PROTO_BO_DESTROY, 0);
	struct guest *g = &h->c.g;
	uint32_t id, turn;

	guest_attach(g);
	for (id = 1; id < 64; id++)
		answer(g, guest_bo(id, 0, 1u << 20));
	answer(g, guest_shader(1, "copy.1"));
	for (turn = 0; turn < 32; turn++) {
		gone.id = 1 + turn;
		answer(g, guest_copy(g, 100 + turn, AT_IMAGE, 1, gone.id, gone.id, 0));
		guest_send(g, &gone);
		answer(g, guest_bo(1000 + turn, 0, 1u << 20));
	}
	h->good++;
}

/* The last figure of "device memory N MiB". */
static unsigned long said_memory(void)
{
	static const char words[] = "device memory ";
	char *at = read_log(), *last = NULL;

	while ((at = strstr(at, words)))
		last = at += sizeof(words) - 1;
	return last ? strtoul(last, NULL, 10) : 0;
}

static void memory_has_its_limit(void **state)
{
	unsigned long most = 0, now;
	static struct hostile h;
	static struct worker w;
	uint64_t alone;
	int turns;

	(void)state;
	begin();
	worker_begin(&w);
	alone = w.slowest;
	w.slowest = 0;
	hostile_begin(&h);
	beside(&h, &w, take_all, 1500);
	assert_true(h.good);
	for (turns = 0; turns < 4; turns++) {
		assert_true(GUEST_WAIT_NOT(&h.c.g, heartbeat, GUEST_WORD(&h.c.g, heartbeat)));
		kill(broker, SIGUSR1);
		for (now = 0; !now;) {
			nap();
			now = said_memory();
		}
		most = now > most ? now : most;
	}
	/* That of the one who works is 1 MiB, and scratch. */
	assert_in_range(most, 16, 2 * (MEMORY >> 20));
	hostile_end(&h);
	worker_end(&w, alone);
	end();
}

/* ---- before and after ------------------------------------------------------------------------ */

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/vdev.sock", folder);
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	return 0;
}

/* What a test that failed has left must not fail the next one. */
static int clean_up(void **state)
{
	(void)state;
	if (broker && !kill(broker, SIGKILL))
		waitpid(broker, NULL, 0);
	broker = 0;
	unlink(path);
	unlink(log_path);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

#define TEST(__name)	cmocka_unit_test_teardown(__name, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(changed_commands_and_memory),
		TEST(workers_that_die),
		TEST(memory_has_its_limit),
	};

	/* How long a worker may be silent is a matter of real time. */
	if (getenv("UNPU_EMULATED")) {
		print_message("SKIP time-outs of workers, on an emulated processor\n");
		print_message("0 passed, 0 failed, 1 skipped\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
