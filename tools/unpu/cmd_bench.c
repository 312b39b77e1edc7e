/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/unpu/commands.h"
#include "tools/unpu/json.h"
#include "tools/unpu/out.h"

/* The sandbox starts no programs: a process that was made before it does. */
struct starter {
	int to, from;
	pid_t pid;
};

#define FIRST_PROMPT	8	/* tokens before the first token that is timed */
#define MAX_REPEATS	1000

extern char **environ;

struct series {
	const char *key;
	double values[MAX_REPEATS];
	size_t count;
};

struct bench {
	const struct settings *settings;
	struct settings sized;	/* with tokens and context that fit the model */
	struct model_file file;
	struct starter starter;
	struct unpu_model *model;
	uint32_t *ids;
	struct unpu_model_info info;
	uint64_t kv_bytes;
	struct series load, first, prefill, decode;
};

static const struct option options[] = {
	{ 'p', "prompt-tokens", OPTION_COUNT, OPTION_FIELD(prompt_count), "N", NULL, 1, 1 << 24,
	  "tokens of the prompt; default: 128, or half the model's context" },
	{ 'n', "count", OPTION_COUNT, OPTION_FIELD(count), "N", NULL, 1, 1 << 24,
	  "tokens generated after it; default: 64, or what is left" },
	{ 'r', "repeats", OPTION_COUNT, OPTION_FIELD(repeats), "N", "3", 1, MAX_REPEATS,
	  "times that everything is measured" },
	OPTION_THREADS,
	OPTION_DEVICE,
	OPTION_CONTEXT("tokens there is room for; default: what -p and -n need"),
	OPTION_KV_TYPE,
	OPTION_BATCH,
	OPTIONS_PACKED,
	OPTION_NO_SANDBOX,
	OPTION_JSON("JSON instead of a table"),
};

static void series_add(struct series *s, double value)
{
	s->values[s->count++] = value;
}

static double milliseconds_since(uint64_t start)
{
	return (double)(now_ns() - start) / 1e6;
}

/* ---- the first token, in a process of its own -------------------------------------------- */

/* Reads to the end, or the child would meet a closed pipe; *first is when the first byte came. */
static bool read_first(int fd, uint64_t *first)
{
	char bytes[256];
	bool any = false;
	ssize_t n;

	for (;;) {
		n = read(fd, bytes, sizeof(bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return any;
		if (!any)
			*first = now_ns();
		any = true;
	}
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return status;
}

/* Under an emulator /proc/self/exe is the emulator, but its link reads as this program. */
static const char *own_path(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	if (n <= 0)
		return "/proc/self/exe";
	path[n] = 0;
	return access(path, X_OK) ? "/proc/self/exe" : path;
}

static int spawn(char **argv, int out, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char path[4096];
	int err;

	err = posix_spawn_file_actions_init(&actions);
	if (err)
		return err;
	err = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	/* Its one line would come before the one that says that the bench failed. */
	if (!err)
		err = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
						       O_WRONLY, 0);
	if (!err)
		err = posix_spawn(pid, own_path(path, sizeof(path)), &actions, NULL, argv,
				  environ);
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

static int time_first(struct bench *b, char **argv)
{
	uint64_t start = now_ns(), first = 0;
	int ends[2], err, status;
	bool any;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return fail("bench: cannot make a pipe: %s", strerror(errno));
	err = spawn(argv, ends[1], &pid);
	close(ends[1]);
	any = !err && read_first(ends[0], &first);
	close(ends[0]);
	if (err)
		return fail("bench: cannot start unpu run: %s", strerror(err));
	status = wait_for(pid);
	if (!any || !WIFEXITED(status) || WEXITSTATUS(status))
		return fail("bench: unpu run, started for the first token, failed");
	series_add(&b->first, (double)(first - start) / 1e6);
	return EXIT_OK;
}

struct request {
	char ids[FIRST_PROMPT * 12];
	uint32_t context;
};

static int start_first(struct bench *b, struct request *request)
{
	const struct settings *s = b->settings;
	char threads[16] = "--no-echo", context[16];
	char *argv[] = {
		"unpu", "run", "--tokens", request->ids, "--no-echo", "-n", "1", "--temp", "0",
		threads, "-c", context, "--kv", (char *)kv_name(s->kv), "-d", (char *)s->device,
		s->no_sandbox ? "--no-sandbox" : "--no-echo", s->clamp ? "--clamp" : "--no-echo",
		s->packed ? "--packed" : "--no-echo", (char *)(s->packed ? s->packed : "--no-echo"),
		s->cache ? "--cache" : "--no-echo", "--", (char *)s->model, NULL,
	};

	/* Not given, it is the device's choice there as here: the flag twice is as good as once. */
	if (s->threads)
		snprintf(threads, sizeof(threads), "-t%" PRIu32, s->threads);
	snprintf(context, sizeof(context), "%" PRIu32, request->context);
	return time_first(b, argv);
}

/* The starter's life: a request, a time; what fails it says itself. */
static void start_all(struct bench *b, int from, int to)
{
	struct request request;

	while (read(from, &request, sizeof(request)) == sizeof(request)) {
		request.ids[sizeof(request.ids) - 1] = 0;
		b->first.count = 0;
		if (start_first(b, &request) ||
		    write(to, b->first.values, sizeof(double)) != sizeof(double))
			break;
	}
}

static int make_starter(struct bench *b)
{
	int there[2], back[2];

	if (pipe2(there, O_CLOEXEC))
		return fail("bench: cannot make a pipe: %s", strerror(errno));
	if (pipe2(back, O_CLOEXEC))
		return fail("bench: cannot make a pipe: %s", strerror(errno));
	b->starter = (struct starter){ there[1], back[0], fork() };
	if (b->starter.pid < 0)
		return fail("bench: cannot make a process: %s", strerror(errno));
	if (!b->starter.pid) {
		close(there[1]);
		close(back[0]);
		start_all(b, there[0], back[1]);
		free(b);
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	return EXIT_OK;
}

/* Without its end of the pipe it goes. */
static void end_starter(struct bench *b)
{
	if (b->starter.pid <= 0)
		return;
	close(b->starter.to);
	close(b->starter.from);
	wait_for(b->starter.pid);
}

static int first_token(struct bench *b)
{
	struct request request = { .context = b->sized.context };
	size_t at = 0;
	double ms;
	uint32_t i;

	for (i = 0; i < FIRST_PROMPT; i++)
		at += (size_t)sprintf(request.ids + at, "%" PRIu32 " ", b->ids[i]);
	for (i = 0; i < b->settings->repeats; i++) {
		if (write(b->starter.to, &request, sizeof(request)) != sizeof(request) ||
		    read(b->starter.from, &ms, sizeof(ms)) != sizeof(ms))
			return EXIT_ERROR;	/* the starter has said why */
		series_add(&b->first, ms);
	}
	return EXIT_OK;
}

/* ---- in this process --------------------------------------------------------------------- */

static int open_files(struct bench *b)
{
	int status = model_file_open(b->settings, &b->file);

	return status ? status : make_starter(b);
}

static int load(struct bench *b)
{
	int status = EXIT_OK;
	uint64_t start;
	uint32_t i;

	for (i = 0; i < b->settings->repeats && !status; i++) {
		unpu_model_destroy(b->model);
		b->model = NULL;
		start = now_ns();
		status = model_load(b->settings, &b->file, 0, &b->model);
		series_add(&b->load, milliseconds_since(start));
	}
	b->info.size = sizeof(b->info);
	if (!status)
		unpu_model_info(b->model, &b->info);
	return status;
}

static uint64_t next_random(uint64_t *state)
{
	/* Knuth's MMIX multiplier and increment; the low bits repeat soon, the high ones do not. */
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* The same ids each time, so that two runs measure the same work. */
static int draw_ids(struct bench *b)
{
	uint32_t n = b->sized.prompt_count, i;
	uint64_t state = 1;

	n = n > FIRST_PROMPT ? n : FIRST_PROMPT;
	b->ids = calloc(n, sizeof(*b->ids));
	if (!b->ids || !b->info.vocab)
		return fail("bench: %s", strerror(b->ids ? EINVAL : ENOMEM));
	for (i = 0; i < n; i++)
		b->ids[i] = (uint32_t)(next_random(&state) % b->info.vocab);
	return EXIT_OK;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* What is not given is made to fit; the context is whole chunks of 64 positions if it can be. */
static int choose_sizes(struct bench *b)
{
	uint32_t have = b->settings->context ? b->settings->context : b->info.context;
	struct settings *s = &b->sized;
	uint32_t need;

	*s = *b->settings;
	if (!s->prompt_count)
		s->prompt_count = smaller(128, have / 2 ? have / 2 : 1);
	if (!s->count)
		s->count = smaller(64, have > s->prompt_count ? have - s->prompt_count : 1);
	need = s->prompt_count + s->count;
	need = need > FIRST_PROMPT + 1 ? need : FIRST_PROMPT + 1;
	if (need > have)
		return fail("bench: a context of %" PRIu32 " is too small: %" PRIu32
			    " prompt tokens and %" PRIu32 " generated need %" PRIu32, have,
			    s->prompt_count, s->count, need);
	if (!s->context)
		s->context = smaller((need + 63) / 64 * 64, have);
	return EXIT_OK;
}

static int count_token(void *arg, uint32_t id, const char *text, size_t length)
{
	uint32_t *count = arg;

	(void)text;
	(void)length;
	*count += id != UINT32_MAX;
	return 0;
}

/* One turn; what it takes is kept where keep says so. */
static int turn(struct bench *b, struct unpu_session *session, uint32_t count, bool keep)
{
	const struct settings *s = &b->sized;
	uint32_t generated = 0;
	uint64_t start = now_ns();
	double prefill;
	int err;

	err = unpu_session_prompt(session, b->ids, s->prompt_count);
	prefill = milliseconds_since(start);
	start = now_ns();
	if (err >= 0)
		err = unpu_session_generate(session, count, count_token, &generated);
	if (err < 0)
		return fail_library(err, s->model);
	if (generated < count)
		return fail("bench: %" PRIu32 " of %" PRIu32 " tokens were generated", generated,
			    count);
	if (keep) {
		series_add(&b->prefill, s->prompt_count * 1e3 / prefill);
		series_add(&b->decode, count * 1e3 / milliseconds_since(start));
	}
	return EXIT_OK;
}

static int turns(struct bench *b)
{
	struct unpu_session_info info = { .size = sizeof(info) };
	struct unpu_session *session = NULL;
	int status = EXIT_OK;
	uint32_t i;

	/* The first turn touches the memory and wakes the processors: it does not count. */
	for (i = 0; i <= b->sized.repeats && !status; i++) {
		status = session_open(b->model, &b->sized, 0, 0, UNPU_SESSION_NO_END, &session);
		if (!status)
			status = turn(b, session, i ? b->sized.count : 1, i);
		if (!status)
			unpu_session_info(session, &info);
		unpu_session_destroy(session);
		session = NULL;
	}
	b->kv_bytes = info.kv_bytes;
	return status;
}

/* ---- results ----------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(struct series *s)
{
	size_t half = s->count / 2;

	qsort(s->values, s->count, sizeof(s->values[0]), compare);
	return s->count % 2 ? s->values[half] : (s->values[half - 1] + s->values[half]) / 2;
}

static void json_series(struct series *s)
{
	double middle = median(s);

	json_open(s->key, '{');
	json_number("median", middle);
	json_number("min", s->values[0]);
	json_number("max", s->values[s->count - 1]);
	json_close('}');
}

static void print_series(struct series *s)
{
	double middle = median(s);

	out_printf("%-14s %10.1f  (%.1f to %.1f)\n", s->key, middle, s->values[0],
		   s->values[s->count - 1]);
}

static void print_json(struct bench *b)
{
	const struct unpu_model_info *m = &b->info;

	json_open(NULL, '{');
	json_text("version", UNPU_VERSION_STRING);
	json_text("model", b->settings->model);
	json_text("name", m->name);
	json_text("architecture", m->architecture);
	json_text("weight_type", m->weight_type);
	json_count("parameters", m->parameters);
	json_text("device", m->device);
	json_text("device_name", m->device_name);
	json_count("threads", m->threads);
	json_count("context", b->sized.context);
	json_text("kv", kv_name(b->settings->kv));
	json_count("prompt_tokens", b->sized.prompt_count);
	json_count("generated_tokens", b->sized.count);
	json_count("repeats", b->sized.repeats);
	json_series(&b->load);
	json_series(&b->first);
	json_series(&b->prefill);
	json_series(&b->decode);
	json_number("rss_mb", mebibytes(peak_memory()));
	json_number("weights_mb", mebibytes(m->weight_bytes));
	json_number("kv_mb", mebibytes(b->kv_bytes));
	json_close('}');
}

static void print_table(struct bench *b)
{
	const struct unpu_model_info *m = &b->info;

	out_escaped(m->name);
	out_printf(" %s %s, %s, context %" PRIu32 ", kv %s\n", m->architecture, m->weight_type,
		   m->device_name, b->sized.context, kv_name(b->settings->kv));
	out_printf("%" PRIu32 " prompt tokens, %" PRIu32 " generated, %" PRIu32 " times: median "
		   "(least to most)\n", b->sized.prompt_count, b->sized.count, b->sized.repeats);
	print_series(&b->load);
	print_series(&b->first);
	print_series(&b->prefill);
	print_series(&b->decode);
	out_printf("%-14s %10.1f\n", "rss_mb", mebibytes(peak_memory()));
	out_printf("%-14s %10.1f\n", "weights_mb", mebibytes(m->weight_bytes));
	out_printf("%-14s %10.1f\n", "kv_mb", mebibytes(b->kv_bytes));
}

static int measure(struct bench *b)
{
	static int (*const steps[])(struct bench *b) = {
		open_files, load, choose_sizes, draw_ids, turns, first_token,
	};
	int status = EXIT_OK;
	size_t i;

	for (i = 0; i < sizeof(steps) / sizeof(steps[0]) && !status; i++)
		status = steps[i](b);
	return status;
}

static int bench_main(const struct settings *settings)
{
	struct bench *b = calloc(1, sizeof(*b));
	int status;

	if (!b)
		return fail("bench: %s", strerror(ENOMEM));
	b->settings = settings;
	b->file.fd = -1;
	b->load.key = "load_ms";
	b->first.key = "first_token_ms";
	b->prefill.key = "prefill_tps";
	b->decode.key = "decode_tps";
	status = measure(b);
	if (!status && settings->json)
		print_json(b);
	else if (!status)
		print_table(b);
	end_starter(b);
	unpu_model_destroy(b->model);
	if (b->file.fd >= 0)
		model_file_close(&b->file);
	free(b->ids);
	free(b);
	return status;
}

static const struct doc_item examples[] = {
	{ "unpu bench model.gguf", "What can be expected here." },
	{ "unpu bench model.gguf -t 2 -p 512 -n 32 -r 5 --json", "A measurement to be kept." },
	{ NULL, NULL },
};

const struct command cmd_bench = {
	.name = "bench",
	.usage = "MODEL [-p N] [-n N] [-r N] [OPTIONS]",
	.brief = "speed and memory of a model",
	.details = "Measures loading, the time from process start to the first byte of text "
		   "after a prompt of 8 tokens, prompt and decode speed in tokens a second, "
		   "and the peak memory of the process. Sizes are in MiB; of repeated "
		   "measures the median counts.",
	.examples = examples,
	.takes_model = true,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = bench_main,
};
