/* SPDX-License-Identifier: MIT */
/*
 * liar SOCKET: serves one guest on SOCKET until stdin ends. A line of stdin is a lie, as `mute job`
 * or `flip rings` (lies.c); each is answered by a line that begins with "ok" or "error". `honest`
 * and `info N` begin a new epoch, the others change what goes on. Besides:
 *
 *   report   how many commands it has seen, and how many with bytes that are not 0 and should be
 *   infos    how many `info N` there are
 *   seed N   of random numbers
 *   exit     at once, without a word to the guest
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vm/liar/liar.h"

#define MAX_COMMANDS	64u

uint32_t liar_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* ---- its life ------------------------------------------------------------------------------- */

void liar_begin(struct liar *liar)
{
	struct drm_unpu_shader_name names[UNPU_PROTO_MAX_SHADERS] = { { "copy.1" } };
	struct drm_unpu_dev_info info = liar_info();
	uint32_t num_shaders = 1;

	engine_forget();
	if (liar->lie.how == LIAR_OFF) {
		memset(liar->window, 0, UNPU_PROTO_DRIVER);
		return;
	}
	vdev_link_init(&liar->link, liar->window, LIAR_WINDOW, liar->shared.interrupts[0]);
	if (liar->lie.how == LIAR_INFO)
		lie_info(&info, &num_shaders, names, liar->lie.arg);
	vdev_link_ready(&liar->link, &info, names, 1);
	((volatile struct unpu_proto_device *)(void *)liar->window)->num_shaders = num_shaders;
	lie_page(liar);
}

static bool is_zero(const void *bytes, size_t from, size_t size)
{
	const uint8_t *at = bytes;

	for (; from < size; from++)
		if (at[from])
			return false;
	return true;
}

/* What an op does not use of its command. */
static bool leaks(const struct unpu_proto_command *command)
{
	size_t used = 0;

	switch (command->op) {
	case UNPU_PROTO_BO_CREATE:
		used = sizeof(command->bo);
		break;
	case UNPU_PROTO_SHADER_CREATE:
		if (command->shader.spec_words <= UNPU_PROTO_MAX_SPEC)
			used = sizeof(command->shader.name) + sizeof(uint32_t) +
			       command->shader.spec_words * sizeof(uint32_t);
		break;
	case UNPU_PROTO_PROGRAM_CREATE:
		used = sizeof(command->program);
		break;
	case UNPU_PROTO_CTX_CREATE:
		used = sizeof(command->ctx);
		break;
	case UNPU_PROTO_JOB:
		if (command->job.num_runs <= UNPU_PROTO_MAX_RUNS)
			used = 16 + command->job.num_runs * sizeof(command->job.runs[0]);
		break;
	}
	return command->pad || !is_zero(command->bytes, used, sizeof(command->bytes));
}

static bool is_answered(uint32_t op)
{
	return op != UNPU_PROTO_BO_DESTROY && op != UNPU_PROTO_SHADER_DESTROY &&
	       op != UNPU_PROTO_PROGRAM_DESTROY;
}

static void take_commands(struct liar *liar)
{
	struct unpu_proto_command command;
	uint32_t i;

	for (i = 0; i < MAX_COMMANDS && !liar->back_at; i++) {
		if (vdev_link_peek(&liar->link, &command) <= 0)
			return;
		liar->commands++;
		liar->leaks += leaks(&command);
		if (lie_before(liar, &command))
			return;
		liar->link.due += is_answered(command.op);
		engine_command(liar, &command);
		vdev_link_take(&liar->link);
	}
}

static void serve(struct liar *liar)
{
	uint32_t number = vdev_link_asked(&liar->link);

	if (number && lie_attach(liar, number)) {
		vdev_link_refuse(&liar->link, number);
	} else if (number) {
		engine_forget();
		vdev_link_attach(&liar->link, number);
	}
	if (liar->link.attached)
		take_commands(liar);
}

/* ---- what it is told ------------------------------------------------------------------------ */

static void obey(struct liar *liar, const char *text)
{
	struct liar_lie lie;

	if (!strcmp(text, "exit")) {
		printf("ok\n");
		exit(0);
	}
	if (!strcmp(text, "report")) {
		printf("ok %llu commands, %llu leaks\n", (unsigned long long)liar->commands,
		       (unsigned long long)liar->leaks);
	} else if (!strcmp(text, "infos")) {
		printf("ok %u\n", lie_num_infos());
	} else if (!strncmp(text, "seed ", 5)) {
		liar->random = (uint32_t)strtoul(text + 5, NULL, 10) | 1;
		printf("ok %u\n", liar->random);
	} else if (lie_parse(text, &lie)) {
		printf("error no such lie: %s\n", text);
	} else if (!liar->window) {
		printf("error there is no guest\n");
	} else {
		lie_stop(liar);
		liar->lie = lie;
		if (lie.how <= LIAR_INFO)
			liar_begin(liar);
		lie_start(liar);
		printf("ok %s\n", text);
	}
	fflush(stdout);
}

static bool hear(struct liar *liar)
{
	char text[200];
	size_t length;

	if (!fgets(text, sizeof(text), stdin))
		return false;
	length = strcspn(text, "\n");
	text[length] = '\0';
	obey(liar, text);
	return true;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void welcome(struct liar *liar)
{
	int guest = vdev_socket_accept(&liar->sock);
	void *window;

	if (guest < 0)
		return;
	if (liar->guest >= 0 || vdev_shared_create(&liar->shared, LIAR_WINDOW)) {
		close(guest);
		return;
	}
	window = mmap(NULL, LIAR_WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, liar->shared.window,
		      0);
	if (window == MAP_FAILED || vdev_shared_send(&liar->shared, guest)) {
		vdev_log("no window for the guest");
		exit(1);
	}
	liar->guest = guest;
	liar->window = window;
	liar->lie.how = LIAR_OFF;
}

static void clear(int counter)
{
	uint64_t value;

	if (read(counter, &value, sizeof(value)) < 0)
		return;
}

static int ms_until(uint64_t until, uint64_t now)
{
	return until <= now ? 0 : (int)((until - now) / LIAR_MS) + 1;
}

/* One turn of what an honest device does, and what not. */
static uint64_t live(struct liar *liar)
{
	uint64_t now = vdev_now(), until;

	if (!liar->window || liar->lie.how == LIAR_OFF)
		return now + 1000 * LIAR_MS;
	if (liar->back_at && now < liar->back_at)
		return liar->back_at;
	if (liar->back_at) {
		liar->back_at = 0;
		if (liar->lie.how == LIAR_DIE || liar->lie.how == LIAR_STOP)
			liar->lie.how = LIAR_HONEST;
		liar_begin(liar);
	}
	if (now >= liar->beat_at) {
		vdev_link_beat(&liar->link);
		liar->beat_at = now + UNPU_PROTO_HEARTBEAT_MS * LIAR_MS;
	}
	until = lie_now_and_then(liar, now);
	if (liar->back_at)
		return liar->back_at;
	serve(liar);
	if (!liar->back_at && !vdev_link_sleeps(&liar->link))
		return now;
	return until < liar->beat_at ? until : liar->beat_at;
}

static bool turn(struct liar *liar)
{
	struct pollfd fds[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = liar->sock.fd, .events = POLLIN },
		{ .fd = liar->window ? liar->shared.doorbell : -1, .events = POLLIN },
		{ .fd = liar->guest },
	};
	uint64_t until = live(liar);

	/* A ring that says what cannot be stays so: not in a circle. */
	poll(fds, 4, ms_until(until, vdev_now()) ? ms_until(until, vdev_now()) : 1);
	if (fds[2].revents)
		clear(liar->shared.doorbell);
	if (liar->link.attached)
		vdev_link_wakes(&liar->link);
	if (fds[1].revents)
		welcome(liar);
	if (fds[3].revents)
		return false;
	return !fds[0].revents || hear(liar);
}

int main(int argc, char **argv)
{
	static struct liar liar = { .guest = -1, .random = 1 };
	struct vdev_config config = { 0 };

	if (argc != 2) {
		fprintf(stderr, "usage: liar SOCKET\n");
		return 2;
	}
	vdev_log_name("liar: ");
	signal(SIGPIPE, SIG_IGN);
	config.socket = argv[1];
	if (vdev_socket_open(&liar.sock, &config))
		return 1;
	while (turn(&liar))
		;
	lie_stop(&liar);
	vdev_socket_close(&liar.sock);
	return 0;
}
