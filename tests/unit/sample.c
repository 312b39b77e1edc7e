/* SPDX-License-Identifier: MIT */
/*
 * What `sample` chooses, against a sampler that sorts everything, and what it does to the rows: the
 * twin, or with UNPU_TEST_DEVICE=vulkan:N the shader of that device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/cpu/twin.h"
#include "tests/lib/ondevice.h"

#define ROWS	4u
#define SLOTS	4u
#define CELLS	128u
#define HIDDEN	32u
#define VOCAB	301u
#define GROUPS	10u

static struct {
	_Alignas(64) uint8_t state[4096];
	float logits[ROWS][VOCAB];
	struct { float max; uint32_t id; } maxima[ROWS][GROUPS];
	uint32_t history[SLOTS][CELLS];
	float table[VOCAB][HIDDEN];
	float x[ROWS][HIDDEN];
} b;

static struct unpu_cpu_ops ops;
static uint64_t rng = 7;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 32);
}

static float uniform(float low, float high)
{
	return low + (high - low) * (float)(rnd() >> 8) * 0x1p-24f;
}

static struct unpu_state_header *header(void)
{
	return (void *)b.state;
}

static struct unpu_state_sampler *sampler(uint32_t slot)
{
	return (struct unpu_state_sampler *)(b.state + unpu_state_samplers_offset()) + slot;
}

static struct unpu_state_row *row(uint32_t i)
{
	return (struct unpu_state_row *)(b.state + unpu_state_rows_offset(SLOTS)) + i;
}

static void set_maxima(void)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		for (uint32_t g = 0; g < GROUPS; g++) {
			float lane[32];

			for (uint32_t i = 0; i < 32; i++)
				lane[i] = g * 32 + i < VOCAB ? b.logits[r][g * 32 + i] : -INFINITY;
			ops.max(lane, 32, &b.maxima[r][g].max, &b.maxima[r][g].id);
			b.maxima[r][g].id += g * 32;
		}
	}
}

/* `live` rows in slots of their own, greedy, at cells 10, 11, ... */
static int setup(void **state)
{
	(void)state;
	unpu_cpu_ops_init(&ops, 0);
	memset(&b, 0, sizeof(b));
	for (uint32_t r = 0; r < ROWS; r++) {
		for (uint32_t i = 0; i < VOCAB; i++)
			b.logits[r][i] = uniform(-4, 4);
		*row(r) = (struct unpu_state_row){
			.token = 1, .position = 20 + r, .cell = 10 + r, .slot = r, .out = r,
			.flags = UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE,
		};
		*sampler(r) = (struct unpu_state_sampler){
			.top_p = 1, .repeat_penalty = 1, .seed = { 11, 22 + r },
		};
		for (uint32_t i = 0; i < CELLS; i++)
			b.history[r][i] = 1000 + i;	/* to be seen by none but penalties */
	}
	for (uint32_t t = 0; t < VOCAB; t++)
		for (uint32_t i = 0; i < HIDDEN; i++)
			b.table[t][i] = (float)(t * 100 + i);
	header()->rows_live = 1;
	set_maxima();
	return 0;
}

/* ---- on a device -------------------------------------------------------------------------- */

static struct ondevice *device;
static struct ondevice_program *program;

static int open_device(void **state)
{
	static const struct unpu_sample_spec spec = {
		ROWS, SLOTS, CELLS, VOCAB, HIDDEN, ROWS, DRM_UNPU_LAYOUT_F32_R32, 0
	};
	const char *id = getenv("UNPU_TEST_DEVICE");
	struct unpu_shader_need need;

	(void)state;
	if (!id)
		return 0;
	device = ondevice_open(id, NULL);
	if (!device)
		return -1;
	unpu_shader_need(UNPU_SHADER_SAMPLE, (const uint32_t *)&spec, NULL, 0, &need);
	program = ondevice_program_create(device, UNPU_SHADER_SAMPLE, &spec, NULL, &need);
	if (!program)
		print_error("%s\n", ondevice_why(device));
	return program ? 0 : -1;
}

static int close_device(void **state)
{
	(void)state;
	ondevice_program_destroy(program);
	ondevice_close(device);
	return 0;
}

static void run_device(void)
{
	static float table[(VOCAB + 31) / 32 * 32 * HIDDEN];
	void *data[] = { b.state, b.logits, b.maxima, b.history, table, NULL, NULL, b.x };
	int err;

	for (uint32_t t = 0; t < VOCAB; t++)
		for (uint32_t i = 0; i < HIDDEN; i++)
			table[t / 32 * 32 * HIDDEN + i / 4 * 128 + t % 32 * 4 + i % 4] =
				b.table[t][i];
	err = ondevice_program_run(program, data);
	if (err)
		print_error("%s\n", ondevice_why(device));
	assert_int_equal(err, 0);
}

/* ---- on the cpu --------------------------------------------------------------------------- */

static void run_twin(void)
{
	static const struct unpu_sample_spec spec = {
		ROWS, SLOTS, CELLS, VOCAB, HIDDEN, ROWS, DRM_UNPU_LAYOUT_GGUF_F32, 0
	};
	void *bindings[] = { b.state, b.logits, b.maxima, b.history, b.table, NULL, NULL, b.x };
	struct unpu_twin_need need = { 0 };
	struct unpu_view_bounds bounds;
	struct unpu_view view;
	struct unpu_twin_args args = {
		.ops = &ops, .view = &view, .spec = &spec, .bindings = bindings, .threads = 2,
	};

	unpu_twin_sample.need(&spec, 2, &need);
	args.shared = aligned_alloc(64, need.shared);
	memset(args.shared, 0xee, need.shared);
	unpu_twin_bounds(&unpu_twin_sample, &spec, &bounds);
	unpu_view_read(&view, header(), &bounds);
	for (; args.thread < 2; args.thread++)
		unpu_twin_sample.run(&args);
	free(args.shared);
}

static void run(void)
{
	if (device)
		run_device();
	else
		run_twin();
}

/* ---- the reference ------------------------------------------------------------------------ */

struct item {
	double logit;
	uint32_t id;
};

static int by_logit(const void *pa, const void *pb)
{
	const struct item *x = pa, *y = pb;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* As in the paper, all four words. */
static void philox(uint32_t c[4], uint32_t k0, uint32_t k1)
{
	for (int i = 0; i < 10; i++) {
		uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
		uint32_t c1 = c[1], c3 = c[3];

		c[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c[1] = (uint32_t)p1;
		c[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c[3] = (uint32_t)p0;
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
}

static double random_of(const struct unpu_state_row *r)
{
	uint32_t c[4] = { r->cell + 1, r->slot, 0, 0 };

	philox(c, sampler(r->slot)->seed[0], sampler(r->slot)->seed[1]);
	return (c[0] >> 8) * 0x1p-24;
}

/* The logit of one token after its bias, if any, and its penalties. */
static float changed_logit(const struct unpu_state_row *r, uint32_t token)
{
	const struct unpu_state_sampler *s = sampler(r->slot);
	uint32_t count = 0, back = s->repeat_last_n;
	float logit = b.logits[r->out][token], bias = 0;

	for (uint32_t i = 0; i < s->num_bias && i < UNPU_STATE_MAX_BIAS; i++)
		if (s->bias[i].token == token)
			bias = s->bias[i].bias;
	logit += bias;
	for (uint32_t c = r->cell + 1; c-- > 0 && back-- > 0;)
		count += b.history[r->slot][c] == token;
	if (!count)
		return logit;
	logit = logit > 0 ? logit / s->repeat_penalty : logit * s->repeat_penalty;
	return logit - (float)count * s->frequency_penalty - s->presence_penalty;
}

/* The kept candidates in order; returns how many. */
static uint32_t keep(const struct unpu_state_row *r, struct item *list)
{
	const struct unpu_state_sampler *s = sampler(r->slot);
	uint32_t n = 0, kept = 0;
	double total = 0, sum = 0;

	for (uint32_t i = 0; i < VOCAB; i++) {
		float logit = changed_logit(r, i);

		if (isfinite(logit))
			list[n++] = (struct item){ (double)logit, i };
	}
	qsort(list, n, sizeof(*list), by_logit);
	if (s->top_k && s->top_k < n)
		n = s->top_k;
	for (uint32_t i = 0; i < n; i++)
		total += exp(list[i].logit - list[0].logit);
	while (kept < n && (s->top_p >= 1 || sum < s->top_p * total))
		sum += exp(list[kept++].logit - list[0].logit);
	while (kept > 1 && s->min_p > 0 &&
	       list[kept - 1].logit < list[0].logit + (double)logf(s->min_p))
		kept--;
	return kept;
}

static uint32_t want(const struct unpu_state_row *r)
{
	double t = (double)sampler(r->slot)->temperature, total = 0, sum = 0;
	struct item list[VOCAB];
	uint32_t n = keep(r, list), i;

	if (!(t > 0))
		return list[0].id;
	for (i = 0; i < n; i++)
		total += exp((list[i].logit - list[0].logit) / t);
	for (i = 0; i + 1 < n; i++) {
		sum += exp((list[i].logit - list[0].logit) / t);
		if (sum > random_of(r) * total)
			break;
	}
	return list[i].id;
}

/* One token by the row as it stands; the row is put back. */
static uint32_t token_of(uint32_t cell)
{
	struct unpu_state_row saved = *row(0);
	uint32_t token;

	row(0)->cell = cell;
	header()->rows_live = 1;
	run();
	assert_int_equal(header()->rows_live, 1);
	token = row(0)->token;
	*row(0) = saved;
	return token;
}

static void same_as_reference(int tries)
{
	for (int i = 0; i < tries; i++) {
		struct unpu_state_row r = *row(0);

		r.cell = rnd() % (CELLS - 1);
		assert_int_equal(token_of(r.cell), want(&r));
	}
	assert_int_equal(header()->fault, 0);
}

/* ---- choosing ------------------------------------------------------------------------------ */

/* The known answers of the authors' test vectors: the reference is Philox. */
static void test_philox(void **state)
{
	uint32_t zero[4] = { 0 };
	uint32_t pi[4] = { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 };

	(void)state;
	philox(zero, 0, 0);
	assert_int_equal(zero[0], 0x6627e8d5);
	assert_int_equal(zero[3], 0x9b00dbd8);
	philox(pi, 0xa4093822, 0x299f31d0);
	assert_int_equal(pi[0], 0xd16cfe09);
	assert_int_equal(pi[1], 0x94fdcceb);
	assert_int_equal(pi[2], 0x5001e420);
	assert_int_equal(pi[3], 0x24126ea1);
}

static void test_greedy(void **state)
{
	(void)state;
	same_as_reference(3);
	b.logits[0][300] = 9;
	set_maxima();
	assert_int_equal(token_of(5), 300);
	b.logits[0][77] = 9;	/* the first of equals */
	set_maxima();
	assert_int_equal(token_of(5), 77);
	b.logits[0][64] = 9;
	set_maxima();
	assert_int_equal(token_of(5), 64);
	/* Without penalties the logits themselves are not read. */
	b.maxima[0][2].id = 65;
	assert_int_equal(token_of(5), 65);
	sampler(0)->temperature = -1;
	assert_int_equal(token_of(5), 65);
	sampler(0)->temperature = NAN;
	assert_int_equal(token_of(5), 65);
}

/* Entries alike, entries past the vocabulary, and biases that are no numbers to add. */
static void random_biases(struct unpu_state_sampler *s)
{
	static const float odd[] = { -INFINITY, INFINITY, NAN, 3e38f, -3e38f, 0 };

	s->num_bias = rnd() % 4 ? rnd() % (UNPU_STATE_MAX_BIAS + 1) : 0;
	for (uint32_t i = 0; i < s->num_bias; i++) {
		s->bias[i].token = rnd() % (rnd() & 1 ? VOCAB + 9 : 8);
		s->bias[i].bias = rnd() % 4 ? uniform(-9, 6) : odd[rnd() % 6];
	}
}

static void test_draws(void **state)
{
	(void)state;
	for (int n = 0; n < 1000; n++) {
		*sampler(0) = (struct unpu_state_sampler){
			.temperature = n % 5 == 4 ? 0 : rnd() & 1 ? uniform(0.05f, 3) : 1,
			.top_k = rnd() & 1 ? 1 + rnd() % (rnd() & 1 ? 8 : 400) : 0,
			.top_p = rnd() & 1 ? uniform(0.01f, 1) : 1,
			.min_p = rnd() & 1 ? uniform(0, 0.3f) : 0,
			.repeat_penalty = rnd() & 1 ? uniform(0.5f, 2) : 1,
			.repeat_last_n = rnd() & 1 ? rnd() % 200 : 0,
			.frequency_penalty = rnd() & 1 ? uniform(-1, 1) : 0,
			.presence_penalty = rnd() & 1 ? uniform(-1, 1) : 0,
			.seed = { rnd(), rnd() },
		};
		if (n % 3)
			random_biases(sampler(0));
		for (uint32_t i = 0; i < CELLS; i++)
			b.history[0][i] = rnd() % (rnd() & 1 ? VOCAB : 5);
		for (uint32_t i = 0; i < VOCAB; i++) {
			b.logits[0][i] = uniform(-5, 5);
			if (n & 1)	/* many ties */
				b.logits[0][i] = rintf(b.logits[0][i]);
		}
		set_maxima();
		same_as_reference(4);
	}
}

/* 20,000 draws follow the distribution: chi^2 of 9 degrees is below 40 but once in 100,000 times,
 * and the seed is fixed. */
static void test_distribution(void **state)
{
	const uint32_t draws = 20000;
	uint32_t counts[VOCAB] = { 0 };
	struct item list[VOCAB];
	double total = 0, chi = 0;

	(void)state;
	sampler(0)->temperature = 1.5f;
	sampler(0)->top_k = 10;
	for (uint32_t i = 0; i < draws; i++) {
		sampler(0)->seed[0] = i;
		counts[token_of(i % 100)]++;
	}
	assert_int_equal(keep(row(0), list), 10);
	for (uint32_t i = 0; i < 10; i++)
		total += exp(list[i].logit / 1.5);
	for (uint32_t i = 0; i < 10; i++) {
		double expected = draws * exp(list[i].logit / 1.5) / total;

		chi += pow(counts[list[i].id] - expected, 2) / expected;
		counts[list[i].id] = 0;
	}
	assert_true(chi < 40);
	for (uint32_t i = 0; i < VOCAB; i++)
		assert_int_equal(counts[i], 0);	/* none but the ten */
}

static void test_seed(void **state)
{
	uint32_t first[64], differ = 0;

	(void)state;
	sampler(0)->temperature = 2;
	for (uint32_t i = 0; i < 64; i++)
		first[i] = token_of(i);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(token_of(i), first[i]);
	sampler(0)->seed[1]++;
	for (uint32_t i = 0; i < 64; i++)
		differ += token_of(i) != first[i];
	assert_true(differ > 40);
}

static void test_truncation(void **state)
{
	static const float logits[] = { 4, 3, 2, 1 };	/* .64 .24 .09 .03 */

	(void)state;
	for (uint32_t i = 0; i < VOCAB; i++)
		b.logits[0][i] = i < 4 ? logits[i] : -50;
	set_maxima();
	sampler(0)->temperature = 1000;	/* everything kept is as likely */
	for (uint32_t kept = 1; kept <= 3; kept++) {
		static const float p[] = { 0, 0.6f, 0.8f, 0.9f }, min[] = { 0, 0.5f, 0.2f, 0.1f };
		uint32_t seen[3] = { 0 };

		for (int kind = 0; kind < 3; kind++) {
			sampler(0)->top_k = kind == 0 ? kept : 0;
			sampler(0)->top_p = kind == 1 ? p[kept] : 1;
			sampler(0)->min_p = kind == 2 ? min[kept] : 0;
			for (uint32_t cell = 0; cell < 100; cell++) {
				uint32_t token = token_of(cell);

				assert_true(token < kept);
				seen[kind] |= 1u << token;
			}
			assert_int_equal(seen[kind], (1u << kept) - 1);
		}
	}
}

static void test_penalties(void **state)
{
	(void)state;
	b.logits[0][100] = 8;
	b.logits[0][200] = 7;
	b.logits[0][5] = 6.5f;
	set_maxima();
	b.history[0][9] = 100;
	b.history[0][10] = 200;
	sampler(0)->repeat_penalty = 2;
	sampler(0)->repeat_last_n = 0;
	assert_int_equal(token_of(10), 100);
	sampler(0)->repeat_last_n = 1;	/* the row's own token only */
	assert_int_equal(token_of(10), 100);
	assert_int_equal(header()->fault, 0);
	b.history[0][10] = 100;
	assert_int_equal(token_of(10), 200);
	b.history[0][9] = 200;
	sampler(0)->repeat_last_n = 2;
	assert_int_equal(token_of(10), 5);
	sampler(0)->repeat_penalty = 1;
	sampler(0)->presence_penalty = 1.2f;
	assert_int_equal(token_of(10), 100);
	b.history[0][9] = 100;	/* twice: 8 - 2 x 0.9 < 7 */
	sampler(0)->presence_penalty = 0;
	sampler(0)->frequency_penalty = 0.9f;
	assert_int_equal(token_of(10), 200);
	sampler(0)->frequency_penalty = -1;	/* a reward lifts what was seen */
	b.history[0][9] = b.history[0][10] = 5;
	assert_int_equal(token_of(10), 5);
	assert_int_equal(header()->fault, 0);
	b.history[0][9] = VOCAB;
	token_of(10);
	assert_int_equal(header()->fault, UNPU_STATE_FAULT_INDEX);
}

static void put_bias(uint32_t i, uint32_t token, float bias)
{
	sampler(0)->bias[i] = (struct unpu_state_bias){ token, bias };
	sampler(0)->num_bias = i + 1;
}

static void test_bias(void **state)
{
	(void)state;
	b.logits[0][100] = 8;
	b.logits[0][200] = 7;
	b.logits[0][5] = 6.5f;
	set_maxima();
	put_bias(0, 100, -1.25f);
	assert_int_equal(token_of(10), 200);
	put_bias(1, 5, 1);
	assert_int_equal(token_of(10), 5);
	put_bias(2, 5, -INFINITY);	/* the last of two alike */
	assert_int_equal(token_of(10), 200);
	put_bias(3, 5, 30);
	assert_int_equal(token_of(10), 5);
	put_bias(4, VOCAB, 1000);	/* no token: passed over */
	put_bias(5, 0xffffffff, 1000);
	assert_int_equal(token_of(10), 5);
	put_bias(6, 5, NAN);		/* no number: never drawn */
	put_bias(7, 100, INFINITY);
	assert_int_equal(token_of(10), 200);
	sampler(0)->num_bias = 0;
	assert_int_equal(token_of(10), 100);
	assert_int_equal(header()->fault, 0);
}

/* The bias comes first: it can turn a logit's sign, and with it what the penalty does. */
static void test_bias_penalised(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VOCAB; i++)
		b.logits[0][i] = -20;
	b.logits[0][100] = 4;
	b.logits[0][200] = 1.5f;
	set_maxima();
	b.history[0][10] = 100;
	sampler(0)->repeat_penalty = 2;
	sampler(0)->repeat_last_n = 1;
	assert_int_equal(token_of(10), 100);	/* 4 / 2 */
	put_bias(0, 100, -1.2f);
	assert_int_equal(token_of(10), 200);	/* 2.8 / 2; a penalty before it gave 0.8 */
	put_bias(1, 200, -7);
	put_bias(0, 100, -6);
	sampler(0)->num_bias = 2;
	assert_int_equal(token_of(10), 100);	/* -2 x 2 */
	put_bias(0, 100, -7);
	sampler(0)->num_bias = 2;
	assert_int_equal(token_of(10), 200);	/* -3 x 2 */
	put_bias(0, 100, -INFINITY);
	assert_int_equal(token_of(10), 200);
	assert_int_equal(header()->fault, 0);
}

/* What is banned is never drawn, whatever the temperature; with all of them banned nothing is. */
static void test_bans(void **state)
{
	static const float temperatures[] = { 0, 1000 };

	(void)state;
	for (uint32_t i = 0; i < VOCAB; i++)
		b.logits[0][i] = i <= UNPU_STATE_MAX_BIAS ? 3 : -INFINITY;
	set_maxima();
	for (uint32_t i = 0; i < UNPU_STATE_MAX_BIAS; i++)
		put_bias(i, i, -INFINITY);
	for (int t = 0; t < 2; t++) {
		sampler(0)->temperature = temperatures[t];
		for (uint32_t cell = 0; cell < 20; cell++)
			assert_int_equal(token_of(cell), UNPU_STATE_MAX_BIAS);
	}
	assert_int_equal(header()->fault, 0);
	for (int t = 0; t < 2; t++) {
		setup(NULL);
		for (uint32_t i = 0; i < VOCAB; i++)
			b.logits[0][i] = i < UNPU_STATE_MAX_BIAS ? 3 : -INFINITY;
		set_maxima();
		for (uint32_t i = 0; i < UNPU_STATE_MAX_BIAS; i++)
			put_bias(i, i, t ? INFINITY : -INFINITY);
		sampler(0)->temperature = temperatures[t];
		run();
		assert_int_equal(header()->fault, UNPU_STATE_FAULT_VALUE);
		assert_int_equal(header()->stop, UNPU_STOP_END);
		assert_int_equal(header()->rows_live, 0);
	}
}

/* A count past the array is a fault, and what lies behind the array is not read as a bias. */
static void test_bias_count(void **state)
{
	static const uint32_t counts[] = { UNPU_STATE_MAX_BIAS + 1, 0x7fffffff, 0xffffffff };

	(void)state;
	put_bias(UNPU_STATE_MAX_BIAS - 1, 7, 50);
	for (uint32_t i = 0; i < UNPU_STATE_MAX_BIAS - 1; i++)
		put_bias(i, 300, -INFINITY);
	for (int i = 0; i < 3; i++) {
		/* the next slot's first words, as if they went on */
		memcpy(sampler(1), &(struct unpu_state_bias){ 9, 1000 },
		       sizeof(struct unpu_state_bias));
		sampler(0)->num_bias = counts[i];
		header()->fault = 0;
		assert_int_equal(token_of(10), 7);
		assert_int_equal(header()->fault, UNPU_STATE_FAULT_INDEX);
	}
	sampler(0)->num_bias = UNPU_STATE_MAX_BIAS;
	header()->fault = 0;
	assert_int_equal(token_of(10), 7);
	assert_int_equal(header()->fault, 0);
}

/* ---- rows ---------------------------------------------------------------------------------- */

static void test_advance(void **state)
{
	uint32_t token;

	(void)state;
	token = want(row(0));
	run();
	assert_int_equal(header()->rows_live, 1);
	assert_int_equal(header()->ring_head, 1);
	assert_int_equal(header()->stop, 0);
	assert_int_equal(row(0)->token, token);
	assert_int_equal(row(0)->position, 21);
	assert_int_equal(row(0)->cell, 11);
	assert_int_equal(row(0)->flags, UNPU_ROW_LOGITS | UNPU_ROW_SAMPLE);
	assert_int_equal(b.history[0][11], token);
	assert_int_equal(b.history[0][12], 1012);
	assert_memory_equal(b.x[0], b.table[token], sizeof(b.x[0]));
}

/* Row 0 is not to be sampled, row 1 ends, row 2 is full: row 3 goes on, as the first. */
static void test_compaction(void **state)
{
	uint32_t ends = want(row(1)), goes_on = want(row(3));

	(void)state;
	header()->rows_live = 4;
	row(0)->flags = UNPU_ROW_LOGITS;
	sampler(1)->num_eog = 2;
	sampler(1)->eog[0] = VOCAB;
	sampler(1)->eog[1] = ends;
	row(2)->cell = CELLS - 1;
	run();
	assert_int_equal(header()->rows_live, 1);
	assert_int_equal(header()->ring_head, 3);
	assert_int_equal(header()->stop, 0);
	assert_int_equal(header()->fault, 0);
	assert_int_equal(row(0)->token, goes_on);
	assert_int_equal(row(0)->slot, 3);
	assert_int_equal(row(0)->out, 3);
	assert_int_equal(row(0)->cell, 14);
	assert_int_equal(b.history[0][11], 1011);
	assert_int_equal(b.history[1][12], ends);
	assert_int_equal(b.history[3][14], goes_on);
	assert_memory_equal(b.x[0], b.table[goes_on], sizeof(b.x[0]));
	assert_true(b.x[1][1] == 0.0f);
}

static void test_stops(void **state)
{
	(void)state;
	sampler(0)->num_eog = 1;
	sampler(0)->eog[0] = want(row(0));
	run();
	assert_int_equal(header()->rows_live, 0);
	assert_int_equal(header()->stop, UNPU_STOP_END);
	assert_int_equal(b.history[0][11], sampler(0)->eog[0]);

	setup(NULL);
	row(0)->cell = CELLS - 2;	/* room for this token, not for one after it */
	run();
	assert_int_equal(header()->stop, 0);
	assert_int_equal(row(0)->cell, CELLS - 1);
	run();
	assert_int_equal(header()->stop, UNPU_STOP_FULL);
	assert_int_equal(header()->rows_live, 0);
	assert_int_equal(b.history[1][0], 1000);

	setup(NULL);
	row(0)->cell = CELLS - 1;
	header()->stop = UNPU_STOP_CANCEL;	/* the host's word stays */
	run();
	assert_int_equal(header()->stop, UNPU_STOP_CANCEL);

	setup(NULL);
	header()->rows_live = 0;
	run();
	assert_int_equal(header()->stop, UNPU_STOP_END);
	assert_int_equal(header()->ring_head, 0);
}

static void test_not_finite(void **state)
{
	static const float bad[] = { NAN, INFINITY };

	(void)state;
	for (int i = 0; i < 2; i++) {
		setup(NULL);
		b.logits[0][200] = bad[i];
		set_maxima();
		header()->rows_live = 2;
		run();
		assert_int_equal(header()->fault, UNPU_STATE_FAULT_VALUE);
		assert_int_equal(header()->stop, UNPU_STOP_END);
		assert_int_equal(header()->rows_live, 1);
		assert_int_equal(row(0)->slot, 1);
		assert_int_equal(header()->ring_head, 1);
		assert_int_equal(b.history[0][11], 1011);
	}
	setup(NULL);
	for (uint32_t t = 0; t < VOCAB; t++)
		b.logits[0][t] = -INFINITY;
	set_maxima();
	run();
	assert_int_equal(header()->fault, UNPU_STATE_FAULT_VALUE);

	setup(NULL);	/* a token that cannot be is no fault while others can */
	sampler(0)->temperature = 5;
	for (uint32_t t = 0; t < VOCAB; t++)
		if (t != 33)
			b.logits[0][t] = -INFINITY;
	set_maxima();
	assert_int_equal(token_of(3), 33);
	assert_int_equal(header()->fault, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_philox),
		cmocka_unit_test_setup(test_greedy, setup),
		cmocka_unit_test_setup(test_draws, setup),
		cmocka_unit_test_setup(test_distribution, setup),
		cmocka_unit_test_setup(test_seed, setup),
		cmocka_unit_test_setup(test_truncation, setup),
		cmocka_unit_test_setup(test_penalties, setup),
		cmocka_unit_test_setup(test_bias, setup),
		cmocka_unit_test_setup(test_bias_penalised, setup),
		cmocka_unit_test_setup(test_bans, setup),
		cmocka_unit_test_setup(test_bias_count, setup),
		cmocka_unit_test_setup(test_advance, setup),
		cmocka_unit_test_setup(test_compaction, setup),
		cmocka_unit_test_setup(test_stops, setup),
		cmocka_unit_test_setup(test_not_finite, setup),
	};

	return cmocka_run_group_tests(tests, open_device, close_device);
}
