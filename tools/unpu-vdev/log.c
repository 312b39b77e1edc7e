/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/unpu-vdev/vdev.h"

/* So many lines at once that a guest can cause, and then one each so many ns. */
#define BURST		20u
#define REFILL_NS	1000000000ull

static struct {
	pthread_mutex_t lock;
	char name[64];
	uint32_t left;
	uint32_t left_out;
	uint64_t filled;
} state = { .lock = PTHREAD_MUTEX_INITIALIZER, .name = "unpu-vdev: ", .left = BURST };

uint64_t vdev_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vdev_log_name(const char *name)
{
	snprintf(state.name, sizeof(state.name), "%s", name);
}

/* A terminal that is held (Ctrl-S), or a pipe that nobody empties, must not hold up guests: lines
 * are lost instead. */
static bool is_read(void)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&fd, 1, 0) == 1 && fd.revents & POLLOUT;
}

/* One write a line: lines of several processes do not mix. */
static void line(const char *format, va_list args)
{
	char text[640];
	size_t length = strlen(state.name), i;
	int more;

	memcpy(text, state.name, length);
	more = vsnprintf(text + length, sizeof(text) - length - 1, format, args);
	if (more < 0)
		return;
	length += (size_t)more;
	if (length > sizeof(text) - 2)
		length = sizeof(text) - 2;
	for (i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	text[length] = '\n';
	if (!is_read() || write(STDERR_FILENO, text, length + 1) < 0)
		return;		/* nobody is left to be told */
}

void vdev_log(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	line(format, args);
	va_end(args);
}

void vdev_log_few(void)
{
	state.left = 1;
	state.filled = vdev_now();
}

static bool line_allowed(uint32_t *left_out)
{
	uint64_t now = vdev_now(), more;
	bool allowed;

	pthread_mutex_lock(&state.lock);
	more = state.filled ? (now - state.filled) / REFILL_NS : 0;
	if (!state.filled || more)
		state.filled = now;
	state.left = more > BURST - state.left ? BURST : state.left + (uint32_t)more;
	allowed = state.left;
	*left_out = allowed ? state.left_out : 0;
	if (allowed) {
		state.left--;
		state.left_out = 0;
	} else {
		state.left_out++;
	}
	pthread_mutex_unlock(&state.lock);
	return allowed;
}

static void rarely(const char *format, va_list args)
{
	uint32_t left_out;

	if (!line_allowed(&left_out))
		return;
	if (left_out)
		vdev_log("%u lines like this were left out", left_out);
	line(format, args);
}

void vdev_log_rarely(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	rarely(format, args);
	va_end(args);
}

void vdev_log_library(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	if (level <= UNPU_LOG_WARN)
		vdev_log_rarely("%s", text);
}
