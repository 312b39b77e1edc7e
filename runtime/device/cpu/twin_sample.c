/* SPDX-License-Identifier: MIT */
/*
 * The sampler. A bias is added to its token's logit first, then come the penalties; a logit that is
 * not finite after them is no candidate. Candidates are in order of logit, descending, then of id.
 * Top-p takes the shortest prefix that reaches p of the probability (at temperature 1) of the
 * candidates left by top-k; min-p drops logits below max + ln(p); the draw is by the first
 * candidate whose sum of probabilities, at the temperature set, exceeds u. u comes from
 * Philox4x32-10 with the seed as key and {cell + 1, slot, 0, 0} as counter, so a draw depends on
 * the seed and the place alone.
 */
#include "runtime/device/cpu/twin.h"

#include <math.h>
#include <string.h>

#include "runtime/half.h"

struct maximum {
	float max;
	uint32_t id;
};

struct candidate {
	float logit;
	uint32_t id;
};

struct sample {
	const struct unpu_twin_args *args;
	const struct unpu_sample_spec *s;
	struct unpu_state_header *state;
	uint32_t groups;
	/* scratch */
	uint32_t *recent;		/* [cells] tokens that penalties look at */
	uint32_t *changed;		/* [groups] bit i: token 32 * group + i is added apart */
	struct candidate *candidates;	/* [vocab] */
	/* of the row at hand */
	struct unpu_state_row row;
	struct unpu_state_sampler set;
	const float *logits;
	const struct maximum *maxima;
	uint32_t num_candidates;
	int not_finite;			/* of any row so far */
};

static void sample_bounds(const void *spec, struct unpu_view_bounds *bounds)
{
	const struct unpu_sample_spec *s = spec;

	bounds->cells = s->cells;
	bounds->slots = s->slots;
	bounds->out = s->logit_rows;
	bounds->flags = UNPU_ROW_SAMPLE;
}

/* Pages that no sampler setting needs are never touched, so they cost no memory. */
static void sample_need(const void *spec, uint32_t threads, struct unpu_twin_need *need)
{
	const struct unpu_sample_spec *s = spec;

	(void)threads;
	need->shared = unpu_align64(unpu_pad32(s->vocab) / 8) + unpu_align64(s->cells * 4ul) +
		       unpu_align64(s->vocab * sizeof(struct candidate));
}

static void sample_init(struct sample *c, const struct unpu_twin_args *args)
{
	const struct unpu_sample_spec *s = args->spec;
	uint8_t *scratch = args->shared;

	*c = (struct sample){ .args = args, .s = s };
	c->state = args->bindings[UNPU_SAMPLE_STATE];
	c->groups = unpu_pad32(s->vocab) / 32;
	c->changed = (uint32_t *)scratch;
	scratch += unpu_align64(unpu_pad32(s->vocab) / 8);
	c->recent = (uint32_t *)scratch;
	scratch += unpu_align64(s->cells * 4ul);
	c->candidates = (struct candidate *)scratch;
}

/*
 * Logits and maxima too may be somebody else's to write: what is compared is what is kept. A plain
 * load may be made twice by the compiler.
 */
static float load_float(const float *p)
{
	uint32_t bits = __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED);

	return unpu_bits_float(bits);
}

/* Settings are read once, like every word that somebody else may write. */
static void sample_row(struct sample *c, const struct unpu_state_row *row)
{
	const struct unpu_sample_spec *s = c->s;
	const uint32_t *from = (const void *)((const uint8_t *)c->state +
			       unpu_state_samplers_offset() +
			       row->slot * sizeof(struct unpu_state_sampler));
	uint32_t words[sizeof(c->set) / 4];

	for (size_t i = 0; i < sizeof(c->set) / 4; i++)
		words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	memcpy(&c->set, words, sizeof(c->set));
	c->set.num_eog = unpu_state_clamp(c->state, c->set.num_eog, UNPU_MAX_EOG + 1);
	c->set.num_bias = unpu_state_clamp(c->state, c->set.num_bias, UNPU_STATE_MAX_BIAS + 1);
	if (c->set.repeat_last_n > row->cell + 1)
		c->set.repeat_last_n = row->cell + 1;
	c->row = *row;
	c->logits = (const float *)c->args->bindings[UNPU_SAMPLE_LOGITS] +
		    (size_t)row->out * s->vocab;
	c->maxima = (const struct maximum *)c->args->bindings[UNPU_SAMPLE_MAXIMA] +
		    (size_t)row->out * c->groups;
	c->num_candidates = 0;
}

/* ---- heaps ------------------------------------------------------------------------------ */

/* a comes before b in the order of candidates. */
static int before(const struct candidate *a, const struct candidate *b)
{
	if (a->logit != b->logit)
		return a->logit > b->logit;
	return a->id < b->id;
}

/* A heap's root is the first in order, or the last when `worst`. */
static void sift(struct candidate *heap, uint32_t n, uint32_t i, int worst)
{
	struct candidate moved = heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && before(&heap[child + 1], &heap[child]) != worst)
			child++;
		if (before(&heap[child], &moved) == worst)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

static void heapify(struct candidate *heap, uint32_t n, int worst)
{
	for (uint32_t i = n / 2; i-- > 0;)
		sift(heap, n, i, worst);
}

static void sort_tokens(uint32_t *tokens, uint32_t n)
{
	for (uint32_t end = n, start = n / 2; end > 1;) {
		uint32_t i, child, moved;

		if (start) {
			moved = tokens[--start];
			i = start;
		} else {
			moved = tokens[--end];
			tokens[end] = tokens[0];
			i = 0;
		}
		while ((child = 2 * i + 1) < end) {
			if (child + 1 < end && tokens[child + 1] > tokens[child])
				child++;
			if (tokens[child] <= moved)
				break;
			tokens[i] = tokens[child];
			i = child;
		}
		tokens[i] = moved;
	}
}

/* ---- candidates ------------------------------------------------------------------------- */

/* Keeps the `most` first; the heap's root is the worst of them once they are `most`. */
static void add_candidate(struct sample *c, float logit, uint32_t id, uint32_t most)
{
	const struct candidate new = { logit, id };

	if (!(fabsf(logit) < INFINITY))
		return;
	if (c->num_candidates < most) {
		c->candidates[c->num_candidates++] = new;
		if (c->num_candidates == most)
			heapify(c->candidates, most, 1);
	} else if (before(&new, &c->candidates[0])) {
		c->candidates[0] = new;
		sift(c->candidates, most, 0, 1);
	}
}

static int has_penalties(const struct sample *c)
{
	return c->set.repeat_last_n && (c->set.repeat_penalty != 1.0f ||
	       c->set.frequency_penalty != 0.0f || c->set.presence_penalty != 0.0f);
}

static float penalise(const struct sample *c, float logit, uint32_t count)
{
	if (logit > 0.0f)
		logit /= c->set.repeat_penalty;
	else
		logit *= c->set.repeat_penalty;
	return logit - (float)count * c->set.frequency_penalty - c->set.presence_penalty;
}

/* Of entries alike the last counts. */
static float biased(const struct sample *c, uint32_t token)
{
	float logit = load_float(&c->logits[token]);

	for (uint32_t i = c->set.num_bias; i-- > 0;)
		if (c->set.bias[i].token == token)
			return logit + c->set.bias[i].bias;
	return logit;
}

/* Marks a token in c->changed; 0 when it was. */
static int mark(struct sample *c, uint32_t token)
{
	uint32_t bit = 1u << token % 32, *word = &c->changed[token / 32];

	if (*word & bit)
		return 0;
	*word |= bit;
	return 1;
}

/* Tokens of the last cells, up to the row's own. */
static void add_penalised(struct sample *c, uint32_t most)
{
	const uint32_t *history = c->args->bindings[UNPU_SAMPLE_HISTORY];
	uint32_t n = c->set.repeat_last_n, run;

	history += (size_t)c->row.slot * c->s->cells + (c->row.cell + 1 - n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t token = __atomic_load_n(&history[i], __ATOMIC_RELAXED);

		c->recent[i] = unpu_state_clamp(c->state, token, c->s->vocab);
	}
	sort_tokens(c->recent, n);
	for (uint32_t i = 0; i < n; i += run) {
		uint32_t token = c->recent[i];

		for (run = 1; i + run < n && c->recent[i + run] == token; run++)
			;
		mark(c, token);
		add_candidate(c, penalise(c, biased(c, token), run), token, most);
	}
}

/* What is biased and not penalised. */
static void add_biased(struct sample *c, uint32_t most)
{
	for (uint32_t i = c->set.num_bias; i-- > 0;) {
		uint32_t token = c->set.bias[i].token;

		if (token < c->s->vocab && mark(c, token))
			add_candidate(c, biased(c, token), token, most);
	}
}

/* A group whose maximum is below the worst that is kept has nothing to give. */
static void collect(struct sample *c, uint32_t most)
{
	int changes = has_penalties(c) || c->set.num_bias;

	if (changes)
		memset(c->changed, 0, c->groups * sizeof(*c->changed));
	if (has_penalties(c))
		add_penalised(c, most);
	add_biased(c, most);
	for (uint32_t g = 0; g < c->groups; g++) {
		uint32_t skip = changes ? c->changed[g] : 0, id = g * 32;
		uint32_t last = id + 32 < c->s->vocab ? id + 32 : c->s->vocab;

		if (c->num_candidates == most &&
		    load_float(&c->maxima[g].max) < c->candidates[0].logit)
			continue;
		for (; id < last; id++, skip >>= 1)
			if (!(skip & 1))
				add_candidate(c, load_float(&c->logits[id]), id, most);
	}
}

/* ---- the draw --------------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., SC'11): the first word of the block at counter. */
static uint32_t philox(const uint32_t seed[2], uint32_t c0, uint32_t c1)
{
	uint32_t c[4] = { c0, c1, 0, 0 }, k0 = seed[0], k1 = seed[1];

	for (int round = 0; round < 10; round++) {
		uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
		uint32_t next[4] = {
			(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
			(uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a,
		};

		memcpy(c, next, sizeof(c));
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
	return c[0];
}

static double uniform(const struct sample *c)
{
	return (double)(philox(c->set.seed, c->row.cell + 1, c->row.slot) >> 8) * 0x1p-24;
}

static double mass(const struct candidate *list, uint32_t n, float max, double temperature)
{
	double sum = 0.0;

	for (uint32_t i = 0; i < n; i++)
		sum += exp(((double)list[i].logit - max) / temperature);
	return sum;
}

/* The first in order, moved behind those left: candidates[*n]. */
static const struct candidate *pop(struct sample *c, uint32_t *n)
{
	struct candidate first = c->candidates[0];

	c->candidates[0] = c->candidates[--*n];
	c->candidates[*n] = first;
	if (*n)
		sift(c->candidates, *n, 0, 0);
	return &c->candidates[*n];
}

static float best_logit(const struct sample *c)
{
	float max = -INFINITY;

	for (uint32_t i = 0; i < c->num_candidates; i++)
		max = fmaxf(max, c->candidates[i].logit);
	return max;
}

static void keep_min_p(struct sample *c, float max)
{
	float min_p = c->set.min_p < 1.0f ? c->set.min_p : 1.0f;
	float least = max + logf(min_p);
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->num_candidates; i++)
		if (c->candidates[i].logit >= least)
			c->candidates[n++] = c->candidates[i];
	c->num_candidates = n;
}

/* Of a heap: the shortest prefix that reaches the share of `total`. */
static void keep_top_p(struct sample *c, float max, double total)
{
	uint32_t left = c->num_candidates;
	double sum = 0.0;

	while (left) {
		sum += exp((double)pop(c, &left)->logit - max);
		if (sum >= c->set.top_p * total)
			break;
	}
	memmove(c->candidates, c->candidates + left,
		(c->num_candidates - left) * sizeof(*c->candidates));
	c->num_candidates -= left;
	heapify(c->candidates, c->num_candidates, 0);
}

/* From at least one candidate. Pops no more than it needs: a vocabulary is seldom sorted whole. */
static uint32_t draw(struct sample *c)
{
	float max = best_logit(c);
	double temperature = c->set.temperature, total = 0.0, target, sum = 0.0;
	uint32_t left;

	if (c->set.top_p < 1.0f)
		total = mass(c->candidates, c->num_candidates, max, 1.0);
	if (c->set.min_p > 0.0f)
		keep_min_p(c, max);
	heapify(c->candidates, c->num_candidates, 0);
	if (c->set.top_p < 1.0f)
		keep_top_p(c, max, total);
	target = uniform(c) * mass(c->candidates, c->num_candidates, max, temperature);
	left = c->num_candidates;
	while (left > 1) {
		const struct candidate *first = pop(c, &left);

		sum += exp(((double)first->logit - max) / temperature);
		if (sum > target)
			return first->id;
	}
	return c->candidates[0].id;
}

/* ---- rows ------------------------------------------------------------------------------- */

/* The group with the largest maximum; -1 when that is not finite. */
static int best_group(const struct sample *c, uint32_t *best)
{
	float max = -INFINITY;

	*best = 0;
	for (uint32_t g = 0; g < c->groups; g++) {
		float m = load_float(&c->maxima[g].max);

		if (m != m)
			return -1;
		if (m > max) {
			max = m;
			*best = g;
		}
	}
	return fabsf(max) < INFINITY ? 0 : -1;
}

/* 0, or -1 without a finite logit. Greedy without changes to them looks at the maxima alone. */
static int choose(struct sample *c, uint32_t *token)
{
	int greedy = !(c->set.temperature > 0.0f);
	uint32_t best, most = c->s->vocab;

	if (best_group(c, &best))
		return -1;
	if (greedy && !has_penalties(c) && !c->set.num_bias) {
		*token = unpu_state_clamp(c->state, __atomic_load_n(&c->maxima[best].id,
					  __ATOMIC_RELAXED), c->s->vocab);
		return 0;
	}
	if (greedy)
		most = 1;
	else if (c->set.top_k && c->set.top_k < most)
		most = c->set.top_k;
	collect(c, most);
	if (!c->num_candidates)
		return -1;
	*token = greedy ? c->candidates[0].id : draw(c);
	return 0;
}

static int is_end(const struct sample *c, uint32_t token)
{
	for (uint32_t i = 0; i < c->set.num_eog; i++)
		if (c->set.eog[i] == token)
			return 1;
	return 0;
}

/* The row that was at hand goes on as live row `to`. */
static void advance(const struct sample *c, uint32_t token, uint32_t to)
{
	const struct unpu_sample_spec *s = c->s;
	struct unpu_state_row *row = (void *)((uint8_t *)c->state +
					      unpu_state_rows_offset(s->slots));
	uint32_t position = c->row.position + 1;
	float *x = c->args->bindings[UNPU_SAMPLE_X];

	row += to;
	row->token = token;
	row->position = position;
	row->cell = c->row.cell + 1;
	row->slot = c->row.slot;
	row->flags = c->row.flags;
	row->out = c->row.out;
	if (s->positions)
		position = unpu_state_clamp(c->state, position, s->positions);
	unpu_twin_embed_row(s->layout, c->args->bindings[UNPU_SAMPLE_QUANTS],
			    c->args->bindings[UNPU_SAMPLE_SCALES], s->vocab, s->hidden,
			    s->positions ? c->args->bindings[UNPU_SAMPLE_POSITIONS] : NULL,
			    token, position, x + (size_t)to * unpu_pad32(s->hidden));
}

/* 0: the row goes on as live row `to`; else why it does not: UNPU_STOP_*. */
static uint32_t sample_one(struct sample *c, uint32_t to)
{
	uint32_t *history = c->args->bindings[UNPU_SAMPLE_HISTORY];
	uint32_t token, next = c->row.cell + 1;
	int end;

	if (choose(c, &token)) {
		unpu_state_fault(c->state, UNPU_STATE_FAULT_VALUE);
		c->not_finite = 1;
		return UNPU_STOP_END;
	}
	/* Who waited for the job before this one reads it meanwhile. */
	__atomic_fetch_add(&c->state->ring_head, 1, __ATOMIC_RELAXED);
	end = is_end(c, token);
	if (next < c->s->cells)
		history[(size_t)c->row.slot * c->s->cells + next] = token;
	if (end)
		return UNPU_STOP_END;
	if (next >= c->s->cells)
		return UNPU_STOP_FULL;
	advance(c, token, to);
	return 0;
}

/* One unit: the rows of the next token depend on how many this one leaves. */
static void sample_run(const struct unpu_twin_args *args)
{
	uint32_t left = 0, stop = UNPU_STOP_END, none = 0;
	struct unpu_twin_part part = { 0 };
	struct sample c;

	if (!unpu_twin_take(args, 1, &part))
		return;
	sample_init(&c, args);
	for (uint32_t i = 0; i < args->view->live; i++) {
		uint32_t why;

		if (!(args->view->rows[i].flags & UNPU_ROW_SAMPLE))
			continue;
		sample_row(&c, &args->view->rows[i]);
		why = sample_one(&c, left);
		if (!why)
			left++;
		else if (why == UNPU_STOP_FULL)
			stop = UNPU_STOP_FULL;
	}
	c.state->rows_live = left;
	/* Without a finite logit the text ends for all rows; the host's own word stays. */
	if (!left || c.not_finite)
		__atomic_compare_exchange_n(&c.state->stop, &none, stop, 0, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
}

static uint32_t sample_units(const struct unpu_twin_args *args)
{
	(void)args;
	return 1;
}

const struct unpu_twin unpu_twin_sample = {
	.bounds = sample_bounds,
	.need = sample_need,
	.run = sample_run,
	.units = sample_units,
};
