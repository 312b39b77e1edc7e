/* SPDX-License-Identifier: MIT */
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALID_BATCH	64u	/* sequences at once: their sums are added up in order */

struct unpu_trainer {
	struct unpu_net *net;
	const struct unpu_samples *train, *valid;
	struct unpu_trainer_settings set;
	struct unpu_log log;
	uint64_t step, epoch, place;	/* place: in the order of the epoch */
	struct unpu_order order;
	struct unpu_batch batch;
	uint32_t *next;			/* the sequences of a step */
	double best_loss;
	uint32_t waited;		/* validations since the best */
	float *best;
};

/* ---- creation ------------------------------------------------------------------------------ */

static int check_settings(const struct unpu_trainer_settings *s, const struct unpu_log *log)
{
	if (!s->batch || !s->accumulate || s->accumulate > s->batch)
		return unpu_fail(log, -EINVAL, "a batch of %u cannot be computed in %u parts",
				 s->batch, s->accumulate);
	if (!(s->rate > 0) || !(s->final_rate >= 0) || s->rate > 1)
		return unpu_fail(log, -EINVAL, "a rate of %g is not within 0 to 1",
				 (double)s->rate);
	if (!(s->dropout >= 0 && s->dropout < 1))
		return unpu_fail(log, -EINVAL, "dropout of %g is not within 0 to 1",
				 (double)s->dropout);
	return 0;
}

int unpu_trainer_create(struct unpu_net *net, const struct unpu_samples *train,
			const struct unpu_samples *valid,
			const struct unpu_trainer_settings *settings, const struct unpu_log *log,
			struct unpu_trainer **out)
{
	struct unpu_trainer *t;
	int err = check_settings(settings, log);

	if (err)
		return err;
	t = calloc(1, sizeof(*t));
	if (!t)
		return unpu_fail(log, -ENOMEM, "no memory for a training");
	t->net = net;
	t->train = train;
	t->valid = valid;
	t->set = *settings;
	if (log)
		t->log = *log;
	t->best_loss = INFINITY;
	t->best = calloc(unpu_net_floats(net), sizeof(float));
	t->next = malloc((settings->batch > VALID_BATCH ? settings->batch : VALID_BATCH) *
			 sizeof(*t->next));
	if (!t->best || !t->next || unpu_order_init(&t->order, train->count)) {
		unpu_trainer_destroy(t);
		return unpu_fail(log, -ENOMEM, "no memory for a training");
	}
	unpu_order_shuffle(&t->order, settings->seed, 0);
	*out = t;
	return 0;
}

void unpu_trainer_destroy(struct unpu_trainer *t)
{
	if (!t)
		return;
	unpu_order_finish(&t->order);
	unpu_batch_finish(&t->batch);
	free(t->next);
	free(t->best);
	free(t);
}

/* ---- steps --------------------------------------------------------------------------------- */

static float rate_at(const struct unpu_trainer_settings *s, uint64_t step)
{
	double part;

	if (step < s->warmup)
		return s->rate * (float)(step + 1) / (float)s->warmup;
	part = s->steps > s->warmup ?
	       (double)(step - s->warmup) / (double)(s->steps - s->warmup) : 1;
	return (float)(s->final_rate +
		       (s->rate - s->final_rate) * 0.5 * (1 + cos(3.141592653589793 * part)));
}

/* A batch may reach over the end of an epoch. */
static void next_sequences(struct unpu_trainer *t)
{
	for (uint32_t i = 0; i < t->set.batch; i++) {
		if (t->place == t->order.count) {
			t->place = 0;
			unpu_order_shuffle(&t->order, t->set.seed, ++t->epoch);
		}
		t->next[i] = t->order.index[t->place++];
	}
}

static uint64_t targets_of(const struct unpu_trainer *t)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < t->set.batch; i++)
		for (uint32_t r = t->train->starts[t->next[i]];
		     r < t->train->starts[t->next[i] + 1]; r++)
			count += t->train->targets[r] >= 0;
	return count;
}

/* Sums of loss and of right ones over the parts of a batch. */
static int run_parts(struct unpu_trainer *t, float scale, struct unpu_trainer_step *step)
{
	const uint32_t parts = t->set.accumulate;

	unpu_net_zero_grads(t->net);
	for (uint32_t i = 0; i < parts; i++) {
		uint32_t first = (uint32_t)((uint64_t)t->set.batch * i / parts);
		uint32_t last = (uint32_t)((uint64_t)t->set.batch * (i + 1) / parts), right;
		struct unpu_net_pass pass = {
			.dropout = t->set.dropout, .scale = scale, .grads = true,
			.seed = t->set.seed * 0x9e3779b97f4a7c15 + t->step * parts + i,
		};
		double loss;
		int err = unpu_batch_fill(&t->batch, t->train, t->next + first, last - first);

		if (!err)
			err = unpu_net_run(t->net, &t->batch.view, &pass, &loss, &right);
		if (err)
			return err;
		step->loss += loss;
		step->right += right;
		step->tokens += t->batch.view.rows;
	}
	return 0;
}

int unpu_trainer_step(struct unpu_trainer *t, struct unpu_trainer_step *step)
{
	struct unpu_net_update update = {
		.rate = rate_at(&t->set, t->step), .beta1 = t->set.beta1, .beta2 = t->set.beta2,
		.eps = t->set.eps, .decay = t->set.decay, .clip = t->set.clip,
		.step = t->step + 1,
	};
	uint64_t targets;
	int err;

	if (t->step >= t->set.steps || (t->set.patience && t->waited >= t->set.patience))
		return 0;
	next_sequences(t);
	targets = targets_of(t);
	*step = (struct unpu_trainer_step){ .step = ++t->step, .epoch = t->epoch,
					    .rate = update.rate };
	err = run_parts(t, targets ? 1 / (float)targets : 0, step);
	if (err)
		return err;
	step->loss /= targets ? (double)targets : 1;
	step->right /= targets ? (double)targets : 1;
	step->norm = unpu_net_update(t->net, &update);
	if (!isfinite(step->norm))
		return unpu_fail(&t->log, -EDOM, "the gradient of step %llu is not finite",
				 (unsigned long long)t->step);
	return 1;
}

int unpu_trainer_validate(struct unpu_trainer *t, struct unpu_trainer_step *step, bool *best)
{
	const struct unpu_net_pass pass = { .scale = 0 };

	*step = (struct unpu_trainer_step){ .step = t->step, .epoch = t->epoch };
	for (uint32_t i = 0; i < t->valid->count; i += VALID_BATCH) {
		uint32_t count = t->valid->count - i, right;
		double loss;
		int err;

		count = count < VALID_BATCH ? count : VALID_BATCH;
		for (uint32_t j = 0; j < count; j++)
			t->next[j] = i + j;
		err = unpu_batch_fill(&t->batch, t->valid, t->next, count);
		if (!err)
			err = unpu_net_run(t->net, &t->batch.view, &pass, &loss, &right);
		if (err)
			return err;
		step->loss += loss;
		step->right += right;
		step->tokens += t->batch.view.rows;
	}
	step->loss /= (double)t->valid->num_targets;
	step->right /= (double)t->valid->num_targets;
	*best = step->loss < t->best_loss;
	t->waited = *best ? 0 : t->waited + 1;
	if (!*best)
		return 0;
	t->best_loss = step->loss;
	memcpy(t->best, unpu_net_weights(t->net), unpu_net_floats(t->net) * sizeof(float));
	return 0;
}

const float *unpu_trainer_weights(const struct unpu_trainer *t)
{
	return isfinite(t->best_loss) ? t->best : unpu_net_weights(t->net);
}

uint64_t unpu_trainer_at(const struct unpu_trainer *t)
{
	return t->step;
}

/* ---- checkpoints --------------------------------------------------------------------------- */

#define MAGIC	"unpu training 1\n"

/* All that has to be the same, then where the training stands; behind it weights, both moments and
 * the best weights. No padding: it is compared and summed as bytes. */
struct head {
	char magic[16];
	uint64_t floats, seed, steps, warmup, rows, sequences, data_sum;
	uint32_t batch, accumulate;
	float rate, final_rate, beta1, beta2, eps, decay, clip, dropout;
	uint64_t step, epoch, place, waited;
	double best_loss;
	uint64_t sum;
};
_Static_assert(sizeof(struct head) == 16 + 7 * 8 + 2 * 4 + 8 * 4 + 6 * 8, "no padding");

/* FNV-1a over words: damage, not malice. */
static uint64_t add_sum(uint64_t sum, const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint32_t word;

	for (size_t i = 0; i + 4 <= bytes; i += 4) {
		memcpy(&word, p + i, 4);
		sum = (sum ^ word) * 1099511628211u;
	}
	return sum;
}

static void fill_head(const struct unpu_trainer *t, struct head *h)
{
	const struct unpu_trainer_settings *s = &t->set;

	*h = (struct head){
		.floats = unpu_net_floats(t->net), .seed = s->seed, .steps = s->steps,
		.warmup = s->warmup, .rows = t->train->rows, .sequences = t->train->count,
		.data_sum = add_sum(add_sum(14695981039346656037u, t->train->tokens,
					    t->train->rows * 4),
				    unpu_net_shape(t->net), sizeof(struct unpu_net_shape)),
		.batch = s->batch, .accumulate = s->accumulate, .rate = s->rate,
		.final_rate = s->final_rate, .beta1 = s->beta1, .beta2 = s->beta2, .eps = s->eps,
		.decay = s->decay, .clip = s->clip, .dropout = s->dropout, .step = t->step,
		.epoch = t->epoch, .place = t->place, .waited = t->waited,
		.best_loss = t->best_loss,
	};
	memcpy(h->magic, MAGIC, sizeof(h->magic));
}

#define NUM_PARTS	4u

static float *part_of(const struct unpu_trainer *t, uint32_t i)
{
	return i == 0 ? unpu_net_weights(t->net) : i == 3 ? t->best :
						   unpu_net_moments(t->net, i - 1);
}

static int write_all(FILE *file, const struct unpu_trainer *t)
{
	const size_t floats = unpu_net_floats(t->net);
	struct head h;

	fill_head(t, &h);
	h.sum = add_sum(14695981039346656037u, &h, offsetof(struct head, sum));
	for (uint32_t i = 0; i < NUM_PARTS; i++)
		h.sum = add_sum(h.sum, part_of(t, i), floats * sizeof(float));
	if (fwrite(&h, sizeof(h), 1, file) != 1)
		return -errno;
	for (uint32_t i = 0; i < NUM_PARTS; i++)
		if (fwrite(part_of(t, i), sizeof(float), floats, file) != floats)
			return -errno;
	return fflush(file) || fsync(fileno(file)) ? -errno : 0;
}

int unpu_trainer_save(const struct unpu_trainer *t, const char *path)
{
	size_t length = strlen(path) + 8;
	char *beside = malloc(length);
	FILE *file;
	int err;

	if (!beside)
		return unpu_fail(&t->log, -ENOMEM, "%s: no memory for its name", path);
	snprintf(beside, length, "%s.new", path);
	file = fopen(beside, "we");
	err = file ? write_all(file, t) : -errno;
	if (file && fclose(file) && !err)
		err = -errno;
	if (!err && rename(beside, path))
		err = -errno;
	if (err) {
		unlink(beside);
		unpu_fail(&t->log, err, "%s: cannot be written: %s", path, strerror(-err));
	}
	free(beside);
	return err;
}

static int check_head(const struct unpu_trainer *t, const struct head *h, const char *path)
{
	struct head want;

	fill_head(t, &want);
	if (memcmp(h->magic, want.magic, sizeof(h->magic)))
		return unpu_fail(&t->log, -EINVAL, "%s: is no checkpoint", path);
	if (h->floats != want.floats)
		return unpu_fail(&t->log, -EINVAL,
				 "%s: is of a network of %llu weights, this one has %llu", path,
				 (unsigned long long)h->floats, (unsigned long long)want.floats);
	if (h->rows != want.rows || h->data_sum != want.data_sum)
		return unpu_fail(&t->log, -EINVAL, "%s: is of other data or another shape", path);
	if (memcmp(&h->seed, &want.seed, offsetof(struct head, rows) -
		   offsetof(struct head, seed)) ||
	    memcmp(&h->batch, &want.batch, offsetof(struct head, step) -
		   offsetof(struct head, batch)))
		return unpu_fail(&t->log, -EINVAL, "%s: is of a training with other settings",
				 path);
	if (h->place > t->order.count)
		return unpu_fail(&t->log, -EINVAL, "%s: is damaged", path);
	return 0;
}

/* Into a buffer of its own: a checkpoint that is damaged changes nothing. */
static int read_parts(struct unpu_trainer *t, FILE *file, const struct head *h, const char *path)
{
	const size_t floats = unpu_net_floats(t->net);
	float *all = malloc(NUM_PARTS * floats * sizeof(float));
	uint64_t sum = add_sum(14695981039346656037u, h, offsetof(struct head, sum));
	int err = 0;

	if (!all)
		return unpu_fail(&t->log, -ENOMEM, "%s: no memory for it", path);
	if (fread(all, sizeof(float), NUM_PARTS * floats, file) != NUM_PARTS * floats ||
	    add_sum(sum, all, NUM_PARTS * floats * sizeof(float)) != h->sum)
		err = unpu_fail(&t->log, -EINVAL, "%s: is damaged", path);
	for (uint32_t i = 0; !err && i < NUM_PARTS; i++)
		memcpy(part_of(t, i), all + i * floats, floats * sizeof(float));
	free(all);
	return err;
}

int unpu_trainer_load(struct unpu_trainer *t, const char *path)
{
	FILE *file = fopen(path, "re");
	struct head h;
	int err;

	if (!file)
		return unpu_fail(&t->log, -errno, "%s: %s", path, strerror(errno));
	err = fread(&h, sizeof(h), 1, file) == 1 ? check_head(t, &h, path) :
	      unpu_fail(&t->log, -EINVAL, "%s: is no checkpoint", path);
	if (!err)
		err = read_parts(t, file, &h, path);
	fclose(file);
	if (err)
		return err;
	t->step = h.step;
	t->epoch = h.epoch;
	t->place = h.place;
	t->waited = (uint32_t)h.waited;
	t->best_loss = h.best_loss;
	unpu_order_shuffle(&t->order, t->set.seed, t->epoch);
	return 0;
}
