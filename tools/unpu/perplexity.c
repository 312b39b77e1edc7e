/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/unpu/interrupt.h"
#include "tools/unpu/json.h"
#include "tools/unpu/out.h"
#include "tools/unpu/perplexity.h"
#include "tools/unpu/progress.h"

#define WINDOW	512
#define LEAST	4	/* a window of 4 scores one token */
#define ROWS	32	/* logits held at once: 19 MB with a vocabulary of 150,000 */

struct perplexity {
	const struct settings *settings;
	struct settings sized;	/* with a context of one window */
	struct unpu_model *model;
	struct unpu_session *session;
	struct unpu_model_info info;
	uint32_t *ids;
	size_t count;
	bool has_begin;
	uint32_t begin;		/* the token that begins a text */
	uint32_t window;
	size_t windows;
	float *logits, *base;	/* base: of --against */
	struct output save;
	struct input against;
	/* of the tokens scored: how many, the sums of -log p and of its squares */
	size_t scored;
	double sum, squares;
	/* against `base`: sums of the divergence and its squares, positions with the same first */
	double apart, apart_squares;
	size_t same;
};

/* ---- the text ---------------------------------------------------------------------------- */

static int read_text(struct perplexity *p, struct input *file)
{
	size_t length;
	char *text;
	int status;

	status = input_read(file, &text, &length);
	if (status)
		return status;
	status = model_tokenize(p->model, text, length, UNPU_TOKENIZE_ADD_SPECIAL, &p->ids,
				&p->count);
	free(text);
	return status;
}

/* Special tokens around "a" are more than "a"; what stands before it begins a text. */
static void find_begin(struct perplexity *p)
{
	uint32_t bare[8], special[8];
	int64_t n, m;

	n = unpu_tokenize(p->model, "a", 1, 0, bare, 8);
	m = unpu_tokenize(p->model, "a", 1, UNPU_TOKENIZE_ADD_SPECIAL, special, 8);
	p->has_begin = n > 0 && m > n && m <= 8 &&
		       !memcmp(special + 1, bare, (size_t)n * sizeof(*bare));
	p->begin = special[0];
}

static int choose_window(struct perplexity *p)
{
	const struct settings *s = p->settings;
	uint32_t most = s->context ? s->context : p->info.context;

	p->window = s->window ? s->window : WINDOW;
	if (s->window > most)
		return fail("--window %" PRIu32 " is above the context of %" PRIu32, s->window,
			    most);
	p->window = p->window < most ? p->window : most;
	if (p->window < LEAST)
		return fail("a context of %" PRIu32 " is too small for a window", p->window);
	if (p->count < LEAST)
		return fail("%s: %zu tokens are too few to score any", s->corpus, p->count);
	if (p->count < p->window) {
		say("%s has %zu tokens, less than a window of %" PRIu32 ": they are one window",
		    s->corpus, p->count, p->window);
		p->window = (uint32_t)p->count;
	}
	p->windows = p->count / p->window;
	p->sized = *s;
	p->sized.context = p->window;
	return EXIT_OK;
}

/* ---- scores ------------------------------------------------------------------------------ */

static uint32_t first_of(const float *logits, uint32_t vocab)
{
	uint32_t most = 0, i;

	for (i = 1; i < vocab; i++)
		most = logits[i] > logits[most] ? i : most;
	return most;
}

/* log of the sum of e^logit. */
static double log_sum(const float *logits, uint32_t vocab)
{
	float most = logits[first_of(logits, vocab)];
	double sum = 0;
	uint32_t i;

	for (i = 0; i < vocab; i++)
		sum += expf(logits[i] - most);
	return log(sum) + most;
}

/* sum of p log(p / q), p being what `base` says. */
static double divergence(const float *base, const float *logits, uint32_t vocab)
{
	double p_sum = log_sum(base, vocab), q_sum = log_sum(logits, vocab), sum = 0;
	uint32_t i;

	for (i = 0; i < vocab; i++) {
		double p = base[i] - p_sum;

		sum += exp(p) * (p - (logits[i] - q_sum));
	}
	return sum;
}

static void compare(struct perplexity *p, const float *base, const float *logits)
{
	double x = divergence(base, logits, p->info.vocab);

	p->apart += x;
	p->apart_squares += x * x;
	p->same += first_of(base, p->info.vocab) == first_of(logits, p->info.vocab);
}

/* -log p of the token after softmax. */
static void score(struct perplexity *p, const float *logits, uint32_t id)
{
	double x = log_sum(logits, p->info.vocab) - logits[id];

	p->sum += x;
	p->squares += x * x;
	p->scored++;
}

static double value(const struct perplexity *p)
{
	return exp(p->sum / (double)p->scored);
}

/* Standard error of the mean of all that was scored. */
static double mean_error(const struct perplexity *p, double sum, double squares)
{
	double n = (double)p->scored, mean = sum / n, variance = squares / n - mean * mean;

	if (p->scored < 2 || variance < 0)
		return 0;
	return sqrt(variance / (n - 1));
}

/* That of the mean of -log p, carried through exp(). */
static double error(const struct perplexity *p)
{
	return value(p) * mean_error(p, p->sum, p->squares);
}

/* ---- the logits of --logits and --against -------------------------------------------------- */

/* A file of another size is of another text, window or vocabulary. */
static int check_base(const struct perplexity *p)
{
	uint64_t tokens = (uint64_t)p->windows * (p->window - 1 - p->window / 2);
	uint64_t want = tokens * p->info.vocab * sizeof(float);
	struct stat st;

	if (!p->against.open || fstat(p->against.fd, &st) || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size == want)
		return EXIT_OK;
	return fail("%s holds %" PRIu64 " bytes, the logits of %" PRIu64 " tokens are %" PRIu64
		    ": --logits writes them, with the same text and --window",
		    p->against.name, (uint64_t)st.st_size, tokens, want);
}

static int read_base(struct perplexity *p, size_t n)
{
	size_t bytes = n * p->info.vocab * sizeof(float), at = 0;
	ssize_t got;

	while (at < bytes) {
		got = read(p->against.fd, (char *)p->base + at, bytes - at);
		if (got < 0 && errno == EINTR && !interrupted())
			continue;
		if (got < 0)
			return fail("cannot read %s: %s", p->against.name, strerror(errno));
		if (!got)
			return fail("%s ends before the text does", p->against.name);
		at += (size_t)got;
	}
	return EXIT_OK;
}

/* n rows of p->logits, which ids[0..n) follow. */
static int score_rows(struct perplexity *p, const uint32_t *ids, uint32_t n)
{
	uint32_t vocab = p->info.vocab, i;
	int status = EXIT_OK;

	if (p->against.open)
		status = read_base(p, n);
	for (i = 0; i < n && !status; i++) {
		score(p, p->logits + (size_t)i * vocab, ids[i]);
		if (p->against.open)
			compare(p, p->base + (size_t)i * vocab, p->logits + (size_t)i * vocab);
	}
	if (!status && p->save.path)
		status = output_write(&p->save, p->logits, (size_t)n * vocab * sizeof(float));
	return status;
}

/* ---- the windows --------------------------------------------------------------------------- */

static int library_error(const struct perplexity *p, int err)
{
	return interrupted() ? EXIT_INTERRUPTED : fail_library(err, p->settings->model);
}

/* ids: of one window; the progress is counted in tokens of all. */
static int score_window(struct perplexity *p, size_t which, uint32_t *ids)
{
	uint64_t total = (uint64_t)p->windows * p->window, before = (uint64_t)which * p->window;
	uint32_t at = p->window / 2, n;
	int err, status;

	if (p->has_begin)
		ids[0] = p->begin;
	err = unpu_session_rollback(p->session, 0);
	if (err >= 0)
		err = unpu_session_prompt(p->session, ids, at);
	for (; err >= 0 && at < p->window - 1; at += n) {
		if (progress_show(NULL, before + at, total))
			return EXIT_INTERRUPTED;
		n = p->window - 1 - at;
		n = n < ROWS ? n : ROWS;
		err = unpu_session_logits(p->session, ids + at, n, p->logits);
		status = err < 0 ? EXIT_OK : score_rows(p, ids + at + 1, n);
		if (status)
			return status;
	}
	if (err < 0)
		return library_error(p, err);
	progress_note("perplexity %.3f", value(p));
	return EXIT_OK;
}

static int score_all(struct perplexity *p)
{
	int status = EXIT_OK;
	size_t i;

	p->logits = calloc(ROWS, (size_t)p->info.vocab * sizeof(float));
	p->base = p->against.open ? calloc(ROWS, (size_t)p->info.vocab * sizeof(float)) : NULL;
	if (!p->logits || (p->against.open && !p->base))
		return fail("the logits: %s", strerror(ENOMEM));
	interrupt_cancels(p->session);
	progress_begin("scoring");
	for (i = 0; i < p->windows && !status; i++)
		status = score_window(p, i, p->ids + i * p->window);
	progress_end();
	interrupt_cancels(NULL);
	if (!status && p->save.path)
		status = output_commit(&p->save);
	return status;
}

/* ---- results ----------------------------------------------------------------------------- */

static void put_lines(const struct perplexity *p)
{
	double n = (double)p->scored;

	out_printf("perplexity %.4f +- %.4f, %zu tokens scored in %zu windows\n", value(p),
		   error(p), p->scored, p->windows);
	if (p->against.open)
		out_printf("divergence %.6f +- %.6f, the same likeliest token in %.2f %%\n",
			   p->apart / n, mean_error(p, p->apart, p->apart_squares),
			   100 * (double)p->same / n);
}

static void put_result(const struct perplexity *p)
{
	if (!p->settings->json) {
		put_lines(p);
		return;
	}
	json_open(NULL, '{');
	json_exact("perplexity", value(p));
	json_exact("error", error(p));
	if (p->against.open) {
		json_exact("divergence", p->apart / (double)p->scored);
		json_exact("divergence_error", mean_error(p, p->apart, p->apart_squares));
		json_exact("same_first", (double)p->same / (double)p->scored);
	}
	json_count("tokens", p->scored);
	json_count("windows", p->windows);
	json_count("window", p->window);
	json_text("model", p->settings->model);
	json_text("text", p->settings->corpus);
	json_text("kv", kv_name(p->settings->kv));
	json_text("device_name", p->info.device_name);
	json_close('}');
}

/* Before the model is loaded. */
static int open_files(struct perplexity *p)
{
	const struct settings *s = p->settings;
	int status = EXIT_OK;

	if (s->against && !strcmp(s->against, "-") && !strcmp(s->corpus, "-"))
		return fail_usage("eval: stdin is either --text or --against");
	if (s->against)
		status = input_open(&p->against, s->against);
	if (!status && s->logits)
		status = output_open(&p->save, s->logits);
	return status;
}

static int measure(struct perplexity *p, struct input *text)
{
	uint32_t flags = p->settings->class_f32 ? UNPU_MODEL_CLASS_F32 : 0;
	int status = open_files(p);

	if (!status)
		status = model_open(p->settings, flags, &p->model);
	if (!status) {
		unpu_model_info(p->model, &p->info);
		find_begin(p);
		status = read_text(p, text);
	}
	if (!status)
		status = choose_window(p);
	if (!status)
		status = check_base(p);
	if (!status)
		status = session_open(p->model, &p->sized, 0, 0, UNPU_SESSION_NO_END, &p->session);
	if (!status)
		status = score_all(p);
	if (!status)
		put_result(p);
	return status;
}

int perplexity_main(const struct settings *settings, struct input *text)
{
	struct perplexity p = { .settings = settings, .info = UNPU_MODEL_INFO_INIT };
	int status = measure(&p, text);

	unpu_session_destroy(p.session);
	unpu_model_destroy(p.model);
	output_discard(&p.save);
	input_close(&p.against);
	free(p.ids);
	free(p.logits);
	free(p.base);
	return status;
}
