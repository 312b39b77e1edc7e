/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#version 450
/*
 * The sampler; runtime/device/cpu/twin_sample.c says what it does. One work-group, rows in turn.
 *
 * Candidates are in order: logit, descending, then id. Top-k, min-p and top-p each leave a prefix
 * of that order, so all that is known of them is one pair (key, id), the cut. The last candidate of
 * a prefix and the draw are found by the same search: candidates are counted, by number or by
 * probability, into 256 bins that divide the order, and the bin in which the sum reaches its target
 * is divided again, until one candidate is left in it. Sums are integers and so do not depend on
 * the order in which invocations come.
 *
 * A group of 32 logits whose maximum lies behind the part of the order that is searched is passed
 * over, so most passes read little more than the maxima.
 */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "common.glsl"

layout(constant_id = 2) const uint CELLS = 64u;
layout(constant_id = 3) const uint VOCAB = 32u;
layout(constant_id = 4) const uint HIDDEN = 32u;
layout(constant_id = 5) const uint LOGIT_ROWS = 1u;
layout(constant_id = 6) const uint LAYOUT = 15u;
layout(constant_id = 7) const uint POSITIONS = 0u;
layout(constant_id = 31) const uint NO_EMBED = 0u;	/* `embed` writes x, behind this */

layout(std430, binding = 1) readonly buffer Logits { float logits[]; };
layout(std430, binding = 2) readonly buffer Maxima { uvec2 maxima[]; };	/* float bits, id */
layout(std430, binding = 3) coherent buffer History { uint history[]; };
layout(std430, binding = 4) readonly buffer Quants { uint quants[]; };
layout(std430, binding = 5) readonly buffer Scales { uint scales[]; };
layout(std430, binding = 6) readonly buffer Positions { float positions[]; };
layout(std430, binding = 7) writeonly buffer X { float x[]; };

#include "embed.glsl"

/* Words of struct unpu_state_sampler. */
const uint SET_TEMPERATURE = 0u;
const uint SET_TOP_K = 1u;
const uint SET_TOP_P = 2u;
const uint SET_MIN_P = 3u;
const uint SET_REPEAT = 4u;
const uint SET_LAST_N = 5u;
const uint SET_FREQUENCY = 6u;
const uint SET_PRESENCE = 7u;
const uint SET_SEED = 8u;
const uint SET_NUM_EOG = 10u;
const uint SET_EOG = 11u;
const uint SET_NUM_BIAS = 19u;
const uint SET_WORDS = 20u;
const uint SET_BIAS = 32u;
const uint MAX_EOG = 8u;
const uint MAX_BIAS = 64u;

const uint STOP_END = 2u;
const uint STOP_FULL = 3u;
const uint FAILED = 0xffffffffu;

const uint LANES = gl_WorkGroupSize.x;
const uint GROUPS = (VOCAB + 31u) / 32u;
const uint BINS = 256u;
const uint ITEM = 8u;			/* logits that an invocation takes at once */
const uint TILE_BITS = 32768u;		/* tokens, by a bit or by 16 bits each */
const uint TILE_COUNTS = 2048u;
const uint INFINITY = 0x7f800000u;

/* What a bin adds up. */
const uint BY_NUMBER = 0u;
const uint BY_SHARE = 1u;		/* of the probability at temperature 1 */
const uint BY_DRAW = 2u;		/* at the temperature set */

/* In this order. */
const uint LIMIT_MOST = 0u;
const uint MOST = 1u;
const uint LIMIT_TOP_K = 2u;
const uint TOP_K = 3u;
const uint TOP_P = 4u;
const uint DRAW = 5u;
const uint DONE = 6u;
const uint MAX_TURNS = 64u;		/* 6 stages of at most 9 passes */

/* How bins divide what is searched. */
const uint BY_LOGIT = 0u;		/* eighths below `top` */
const uint BY_KEY = 1u;
const uint BY_ID = 2u;
const uint BY_NONE = 3u;		/* the stage has yet to begin */

shared uint row_words[6];
shared uint set[20];
shared uint best_key, best_group, nan_seen;

/* Tokens of the tile at hand: how often, or that, they are among the latest; which are biased. */
shared uint latest[1024];
shared uint biased[1024];

shared uint bin_number[256];
shared uint bin_high[256];		/* probabilities in units of 2^-12, */
shared uint bin_middle[256];		/* what is left of them in units of 2^-24 */
shared uint bin_low[256];		/* and of 2^-36 */
shared uint bin_id[256];		/* of one candidate in the bin */
shared uint bin_key[256];
shared uvec2 sums[16];			/* {high, low} words, each of 16 bins */

/*
 * Where the row's sampling is. The first invocation alone writes these, behind a barrier and before
 * one; they are shared, not private, for few registers hold that many.
 */
shared uint window, num_bias;		/* of the latest tokens, 0 without penalties; of biases */
shared bool counts, changes;
shared float temperature;
shared float top;			/* largest logit as `head` left it */
shared float most;			/* largest logit of a candidate */
shared uint cut_key, cut_id;
shared uint last_bin;			/* by logit; no candidate is behind it */
shared uint by, within, low_key, high_key, low_id, shift;	/* the part that is searched */
shared uint stage, answer;
shared uvec2 target;

uint history_at()
{
	return row_words[ROW_SLOT] * CELLS + row_words[ROW_CELL] + 1u - window;
}

uint maxima_at()
{
	return row_words[ROW_OUT] * GROUPS;
}

bool first()
{
	return gl_LocalInvocationID.x == 0u;
}

/* ---- order ---------------------------------------------------------------------------------- */

bool finite(float value)
{
	return (floatBitsToUint(value) & 0x7fffffffu) < INFINITY;
}

/* Integers in the order of floats; -0 is 0. */
uint key_of(float value)
{
	uint bits = floatBitsToUint(value);

	if (bits == 0x80000000u)
		bits = 0u;
	return bits >= 0x80000000u ? ~bits : bits | 0x80000000u;
}

float key_float(uint key)
{
	return uintBitsToFloat(key >= 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* Never less for a smaller logit, whatever the rounding. */
uint bin_of(float logit)
{
	return uint(clamp((top - logit) * 8.0, 0.0, 255.0));
}

/* ---- 64 bits -------------------------------------------------------------------------------- */

uvec2 add64(uvec2 a, uvec2 b)
{
	uint low = a.y + b.y;

	return uvec2(a.x + b.x + (low < b.y ? 1u : 0u), low);
}

uvec2 sub64(uvec2 a, uvec2 b)
{
	return uvec2(a.x - b.x - (a.y < b.y ? 1u : 0u), a.y - b.y);
}

bool less64(uvec2 a, uvec2 b)
{
	return a.x < b.x || (a.x == b.x && a.y < b.y);
}

/* (value * factor + add) / 2^24, for a value below 2^57 and a factor below 2^24. */
uvec2 scale64(uvec2 value, uint factor, uint add)
{
	uint a, b, c, d, low, middle;

	umulExtended(value.y, factor, b, a);
	umulExtended(value.x, factor, d, c);
	low = a + add;
	b += low < add ? 1u : 0u;
	middle = b + c;
	d += middle < b ? 1u : 0u;
	return uvec2(middle >> 24 | d << 8, low >> 24 | middle << 8);
}

/* ---- what changes a logit ------------------------------------------------------------------- */

uint count_of(uint t)
{
	if (counts)
		return latest[t / 2u] >> t % 2u * 16u & 0xffffu;
	return latest[t / 32u] >> t % 32u & 1u;
}

/* Tokens from to from + tile; called by all. */
void mark(uint from, uint tile)
{
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < 1024u; i += LANES) {
		latest[i] = 0u;
		biased[i] = 0u;
	}
	barrier();
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < window; i += LANES) {
		uint t = state_clamp(history[history_at() + i], VOCAB) - from;

		if (t < tile && counts)
			atomicAdd(latest[t / 2u], 1u << t % 2u * 16u);
		else if (t < tile)
			atomicOr(latest[t / 32u], 1u << t % 32u);
	}
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < num_bias; i += LANES) {
		uint at = STATE_SAMPLERS + row_words[ROW_SLOT] * STATE_SAMPLER_WORDS + SET_BIAS;
		uint token = state[at + 2u * i];

		if (token < VOCAB && token - from < tile)
			atomicOr(biased[(token - from) / 32u], 1u << (token - from) % 32u);
	}
	barrier();
}

/* Of entries alike the last counts. */
float bias_of(uint token)
{
	uint at = STATE_SAMPLERS + row_words[ROW_SLOT] * STATE_SAMPLER_WORDS + SET_BIAS;
	float bias = 0.0;

	[[dont_unroll]] for (uint i = 0u; i < num_bias; i++)
		if (state[at + 2u * i] == token)
			bias = uintBitsToFloat(state[at + 2u * i + 1u]);
	return bias;
}

/* The logit of token from + t. */
float changed(uint from, uint t, float logit)
{
	float repeat = uintBitsToFloat(set[SET_REPEAT]);
	uint count = count_of(t);
	precise float l = logit;

	if ((biased[t / 32u] >> t % 32u & 1u) != 0u)
		l += bias_of(from + t);
	if (count == 0u)
		return l;
	if (l > 0.0)
		l /= repeat;
	else
		l *= repeat;
	precise float minus = float(count) * uintBitsToFloat(set[SET_FREQUENCY]);
	l -= minus;
	l -= uintBitsToFloat(set[SET_PRESENCE]);
	return l;
}

/* ---- passes over the candidates ------------------------------------------------------------- */

void add_share(uint bin, float share)
{
	float high, middle;

	share = min(share, 0.999999940395355224609375) * 4096.0;	/* below 1: 12 bits each */
	high = floor(share);
	share = (share - high) * 4096.0;
	middle = floor(share);
	share = (share - middle) * 4096.0;
	if (high > 0.0)
		atomicAdd(bin_high[bin], uint(high));
	if (middle > 0.0)
		atomicAdd(bin_middle[bin], uint(middle));
	if (share >= 1.0)
		atomicAdd(bin_low[bin], uint(share));
}

void add_candidate(float logit, uint id, uint what)
{
	uint key = key_of(logit), bin = bin_of(logit);

	if (bin > last_bin || key < cut_key || (key == cut_key && id > cut_id))
		return;
	if (by != BY_LOGIT) {
		if (bin != within || key > high_key || key < low_key)
			return;
		bin = high_key - key >> shift;
		if (by == BY_ID) {
			if (id < low_id || id - low_id >> shift >= BINS)
				return;
			bin = id - low_id >> shift;
		}
	}
	atomicAdd(bin_number[bin], 1u);
	atomicMin(bin_id[bin], id);
	atomicMax(bin_key[bin], key);
	if (what != BY_NUMBER)
		add_share(bin, exp((logit - most) / (what == BY_DRAW ? temperature : 1.0)));
}

/* Tokens id to id + ITEM, of the tile that begins at `from`. */
void add_item(uint from, uint id, uint what)
{
	uint end = min(id + ITEM, VOCAB), t = id - from, bits = 0u;
	uint behind = by == BY_LOGIT ? last_bin : within;

	if (counts)
		bits = 0xffu;
	else if (changes)
		bits = (latest[t / 32u] | biased[t / 32u]) >> t % 32u & 0xffu;
	if (bits == 0u && bin_of(uintBitsToFloat(maxima[maxima_at() + id / 32u].x)) > behind)
		return;
	[[dont_unroll]] for (; id < end; id++, bits >>= 1) {
		float logit = logits[row_words[ROW_OUT] * VOCAB + id];

		if ((bits & 1u) != 0u)
			logit = changed(from, id - from, logit);
		if (finite(logit))
			add_candidate(logit, id, what);
	}
}

void clear_bins()
{
	[[dont_unroll]] for (uint i = gl_LocalInvocationID.x; i < BINS; i += LANES) {
		bin_number[i] = 0u;
		bin_high[i] = 0u;
		bin_middle[i] = 0u;
		bin_low[i] = 0u;
		bin_id[i] = 0xffffffffu;
		bin_key[i] = 0u;
	}
	barrier();
}

/* Every candidate of the part that is searched, into its bin. */
void add_candidates(uint what)
{
	uint tile = counts ? TILE_COUNTS : changes ? TILE_BITS : GROUPS * 32u;

	[[dont_unroll]] for (uint from = 0u; from < VOCAB; from += tile) {
		uint end = min(from + tile, VOCAB);

		if (changes)
			mark(from, tile);
		[[dont_unroll]] for (uint id = from + gl_LocalInvocationID.x * ITEM; id < end;
				     id += LANES * ITEM)
			add_item(from, id, what);
		barrier();
	}
}

/* Only the largest of each group. */
void add_groups()
{
	[[dont_unroll]] for (uint g = gl_LocalInvocationID.x; g < GROUPS; g += LANES) {
		float max = uintBitsToFloat(maxima[maxima_at() + g].x);

		if (finite(max))
			atomicAdd(bin_number[bin_of(max)], 1u);
	}
	barrier();
}

/* ---- bins ----------------------------------------------------------------------------------- */

uvec2 bin_sum(uint bin, uint what)
{
	if (what == BY_NUMBER)
		return uvec2(0u, bin_number[bin]);
	return add64(add64(uvec2(bin_high[bin] >> 8, bin_high[bin] << 24),
			   uvec2(bin_middle[bin] >> 20, bin_middle[bin] << 12)),
		     uvec2(0u, bin_low[bin]));
}

/* Each 16 bins. */
void sum_bins(uint what)
{
	uvec2 sum = uvec2(0u);

	if (gl_LocalInvocationID.x >= 16u)
		return;
	[[dont_unroll]] for (uint i = 0u; i < 16u; i++)
		sum = add64(sum, bin_sum(gl_LocalInvocationID.x * 16u + i, what));
	sums[gl_LocalInvocationID.x] = sum;
}

uvec2 total()
{
	uvec2 sum = sums[0];

	[[dont_unroll]] for (uint i = 1u; i < 16u; i++)
		sum = add64(sum, sums[i]);
	return sum;
}

/* The bin in which the sum reaches `target` (> 0), BINS when it never does; target becomes what is
 * missing when that bin begins. */
uint find_bin(uint what)
{
	uint i = 0u, end;

	[[dont_unroll]] for (; i < 16u && less64(sums[i], target); i++)
		target = sub64(target, sums[i]);
	end = min(i * 16u + 16u, BINS);
	[[dont_unroll]] for (i *= 16u; i < end; i++) {
		uvec2 sum = bin_sum(i, what);

		if (!less64(sum, target))
			break;
		target = sub64(target, sum);
	}
	return i;
}

/* What a bin by logit stands for, as keys, and a little more. */
void narrow_logits(uint bin)
{
	float slack = (abs(top) + 32.0) * 1e-6;

	low_key = bin == BINS - 1u ? 0u : key_of(top - float(bin + 1u) * 0.125 - slack);
	high_key = bin == 0u ? 0xffffffffu : key_of(top - float(bin) * 0.125 + slack);
	if (bin == 0u && !changes)
		high_key = key_of(top);
	high_key = min(high_key, key_of(most));
	within = bin;
	low_key = max(low_key, cut_key);
	by = BY_KEY;
}

/* Divide this bin. */
void narrow(uint bin)
{
	uint span = (1u << shift) - 1u;

	if (by == BY_LOGIT) {
		narrow_logits(bin);
	} else if (by == BY_KEY) {
		high_key -= bin << shift;
		if (high_key - low_key > span)
			low_key = high_key - span;
		if (high_key == low_key) {
			by = BY_ID;
			low_id = 0u;
			shift = uint(max(findMSB(VOCAB - 1u) - 7, 0));
			return;
		}
	} else {
		low_id += bin << shift;
		shift = uint(max(int(shift) - 8, 0));
		return;
	}
	shift = uint(max(findMSB(high_key - low_key) - 7, 0));
}

/* The prefix of the order ends with this candidate at the latest. */
void cut(uint key, uint id)
{
	if (key < cut_key || (key == cut_key && id >= cut_id))
		return;
	cut_key = key;
	cut_id = id;
	last_bin = min(last_bin, bin_of(key_float(key)));
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* The largest maximum, in `best_key`, and the first group that has it; a NaN is seen. */
void find_top()
{
	uint best = 0u, group = 0u;
	bool not_a_number = false;

	[[dont_unroll]] for (uint g = gl_LocalInvocationID.x; g < GROUPS; g += LANES) {
		uint bits = maxima[maxima_at() + g].x, key;

		if ((bits & 0x7fffffffu) > INFINITY)
			not_a_number = true;
		key = key_of(uintBitsToFloat(bits));
		if (key > best) {
			best = key;
			group = g;
		}
	}
	if (not_a_number)
		atomicOr(nan_seen, 1u);
	atomicMax(best_key, best);
	barrier();
	if (best == best_key)
		atomicMin(best_group, group);
	barrier();
}

/* Philox4x32-10 (Salmon et al., SC'11): the first word of the block at the row's place. */
uint philox()
{
	uvec4 c = uvec4(row_words[ROW_CELL] + 1u, row_words[ROW_SLOT], 0u, 0u);
	uint k0 = set[SET_SEED], k1 = set[SET_SEED + 1u];

	[[dont_unroll]] for (uint round = 0u; round < 10u; round++) {
		uint a_high, a_low, b_high, b_low;

		umulExtended(0xd2511f53u, c.x, a_high, a_low);
		umulExtended(0xcd9e8d57u, c.z, b_high, b_low);
		c = uvec4(b_high ^ c.y ^ k0, b_low, a_high ^ c.w ^ k1, a_low);
		k0 += 0x9e3779b9u;
		k1 += 0xbb67ae85u;
	}
	return c.x;
}

void cut_min_p(float p)
{
	cut(key_of(min(most + log(min(p, 1.0)), most)), 0xffffffffu);
}

bool is_wanted()
{
	uint k = set[SET_TOP_K];

	switch (stage) {
	case LIMIT_MOST:
	case MOST:
		return changes;
	case LIMIT_TOP_K:
	case TOP_K:
		return k != 0u && k < VOCAB;
	case TOP_P:
		return uintBitsToFloat(set[SET_TOP_P]) < 1.0;
	}
	return true;
}

bool is_limit()
{
	return stage == LIMIT_MOST || stage == LIMIT_TOP_K;
}

uint summed()
{
	return stage == DRAW ? BY_DRAW : stage == TOP_P ? BY_SHARE : BY_NUMBER;
}

/* The next stage that is wanted. */
void begin_stage()
{
	float min_p = uintBitsToFloat(set[SET_MIN_P]);

	[[dont_unroll]] while (!is_wanted())
		stage++;
	by = BY_LOGIT;
	if (stage == DRAW && min_p > 0.0)
		cut_min_p(min_p);
	if (is_limit())
		last_bin = BINS - 1u;
}

/*
 * What the sum has to reach. Of groups as many as candidates are wanted, and as many more as may
 * have lost their largest: behind the last of these in order is nothing that is wanted.
 */
uvec2 first_target()
{
	float p = clamp(uintBitsToFloat(set[SET_TOP_P]), 0.0, 1.0);
	uint number = stage <= MOST ? 1u : set[SET_TOP_K];
	uvec2 sum;

	if (is_limit() && changes)
		number += window + num_bias;
	if (stage <= TOP_K)
		return uvec2(0u, number);
	/* The draw is of the first above its share of the total, top-p of the first that has it. */
	sum = scale64(total(), stage == DRAW ? philox() >> 8 : uint(p * 16777216.0),
		      stage == DRAW ? 0u : 0xffffffu);
	if (stage == DRAW || (sum.x | sum.y) == 0u)
		sum = add64(sum, uvec2(0u, 1u));
	return sum;
}

/* The search of this stage has found the candidate in this bin, or none. */
void end_stage(uint bin)
{
	bool none = bin == BINS, greedy = !(uintBitsToFloat(set[SET_TEMPERATURE]) > 0.0);

	if (stage == DRAW || (stage == MOST && (greedy || none))) {
		answer = none ? FAILED : bin_id[bin];
		stage = DONE;
		return;
	}
	if (stage == MOST) {
		most = key_float(bin_key[bin]);
		last_bin = BINS - 1u;
	} else if (!none) {
		cut(bin_key[bin], bin_id[bin]);
	}
	stage++;
	by = BY_NONE;
}

/* After a pass. */
void next_pass()
{
	uint bin;

	if (by == BY_LOGIT)
		target = first_target();
	bin = find_bin(summed());
	if (is_limit()) {
		last_bin = min(bin, BINS - 1u);
		stage++;
		by = BY_NONE;
	} else if (bin < BINS && bin_number[bin] > 1u) {
		narrow(bin);
	} else {
		end_stage(bin);
	}
}

/*
 * One search after another: the largest changed logit, the last of top-k, the last of top-p, the
 * draw. All of them share one loop, for compilers put every function where it is called.
 */
void search()
{
	[[dont_unroll]] for (uint turn = 0u; turn < MAX_TURNS; turn++) {
		if (first()) {
			if (turn > 0u)
				next_pass();
			if (stage != DONE && by == BY_NONE)
				begin_stage();
		}
		barrier();
		if (stage == DONE)
			break;
		clear_bins();
		if (is_limit())
			add_groups();
		else
			add_candidates(summed());
		sum_bins(summed());
		barrier();
	}
}

/* The token, in `answer`: FAILED without a finite logit. */
void choose()
{
	find_top();
	if (first()) {
		top = key_float(best_key);
		answer = FAILED;
		stage = LIMIT_MOST;
		if (nan_seen != 0u || !finite(top)) {
			stage = DONE;
		} else if (!(temperature > 0.0) && !changes) {
			answer = state_clamp(maxima[maxima_at() + best_group].y, VOCAB);
			stage = DONE;
		}
		cut_key = 0u;
		cut_id = 0xffffffffu;
		last_bin = BINS - 1u;
		most = changes ? key_float(0xff7fffffu) : top;
		/* Below this it makes no difference, but to hardware that takes it for 0. */
		temperature = max(temperature, 1e-30);
		by = BY_NONE;
	}
	search();
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* By the first invocation, from the settings. */
void begin_row()
{
	float frequency = uintBitsToFloat(set[SET_FREQUENCY]);

	window = min(set[SET_LAST_N], row_words[ROW_CELL] + 1u);
	if (uintBitsToFloat(set[SET_REPEAT]) == 1.0 && frequency == 0.0 &&
	    uintBitsToFloat(set[SET_PRESENCE]) == 0.0)
		window = 0u;
	num_bias = set[SET_NUM_BIAS];
	/* Counted in 16 bits: more than 65535 tokens alike among the latest are beyond any use. */
	counts = window != 0u && frequency != 0.0;
	changes = window != 0u || num_bias != 0u;
	temperature = uintBitsToFloat(set[SET_TEMPERATURE]);
	best_key = 0u;
	best_group = 0xffffffffu;
	nan_seen = 0u;
}

/* Words of the row and settings of its slot, each read once, for all invocations. */
void read_row(uint row)
{
	uint lane = gl_LocalInvocationID.x;

	barrier();
	if (lane == 0u) {
		row_words[ROW_TOKEN] = 0u;
		row_words[ROW_POSITION] = row_word(row, ROW_POSITION);
		row_words[ROW_FLAGS] = row_word(row, ROW_FLAGS);
		row_words[ROW_CELL] = row_word(row, ROW_CELL);
		row_words[ROW_SLOT] = row_word(row, ROW_SLOT);
		row_words[ROW_OUT] = row_word(row, ROW_OUT);
		if ((row_words[ROW_FLAGS] & FLAG_SAMPLE) != 0u) {
			row_words[ROW_CELL] = state_clamp(row_words[ROW_CELL], CELLS);
			row_words[ROW_SLOT] = state_clamp(row_words[ROW_SLOT], SLOTS);
			row_words[ROW_OUT] = state_clamp(row_words[ROW_OUT], LOGIT_ROWS);
		}
	}
	barrier();
	if ((row_words[ROW_FLAGS] & FLAG_SAMPLE) == 0u)
		return;
	if (lane < SET_WORDS)
		set[lane] = state[STATE_SAMPLERS + row_words[ROW_SLOT] * STATE_SAMPLER_WORDS +
				  lane];
	barrier();
	if (lane == 0u) {
		set[SET_NUM_EOG] = state_clamp(set[SET_NUM_EOG], MAX_EOG + 1u);
		set[SET_NUM_BIAS] = state_clamp(set[SET_NUM_BIAS], MAX_BIAS + 1u);
		begin_row();
	}
	memoryBarrierBuffer();
	barrier();
}

bool is_end(uint token)
{
	bool end = false;

	[[dont_unroll]] for (uint i = 0u; i < MAX_EOG; i++)
		end = end || (i < set[SET_NUM_EOG] && set[SET_EOG + i] == token);
	return end;
}

/* The row that was at hand goes on as live row `to`. */
void advance(uint token, uint to)
{
	uint at = STATE_ROWS + to * ROW_WORDS, position = row_words[ROW_POSITION] + 1u;

	if (gl_LocalInvocationID.x == 0u) {
		state[at + ROW_TOKEN] = token;
		state[at + ROW_POSITION] = position;
		state[at + ROW_CELL] = row_words[ROW_CELL] + 1u;
		state[at + ROW_SLOT] = row_words[ROW_SLOT];
		state[at + ROW_FLAGS] = row_words[ROW_FLAGS];
		state[at + ROW_OUT] = row_words[ROW_OUT];
	}
	if (NO_EMBED != 0u)
		return;
	if (POSITIONS > 0u)
		position = state_clamp(position, POSITIONS);
	embed_row(to, token, position, 0u);
}

/* 0: the row goes on as live row `to`; else why it does not: STOP_* or FAILED. */
uint sample_row(uint to)
{
	uint token, next = row_words[ROW_CELL] + 1u;

	choose();
	token = answer;
	if (token == FAILED) {
		state_fault(FAULT_VALUE);
		return FAILED;
	}
	if (gl_LocalInvocationID.x == 0u) {
		state[STATE_RING_HEAD]++;
		if (next < CELLS)
			history[row_words[ROW_SLOT] * CELLS + next] = token;
	}
	if (is_end(token))
		return STOP_END;
	if (next >= CELLS)
		return STOP_FULL;
	advance(token, to);
	return 0u;
}

void main()
{
	uint live = state_live(), left = 0u, stop = STOP_END;
	bool failed = false;

	[[dont_unroll]] for (uint row = 0u; row < live; row++) {
		uint why;

		read_row(row);
		if ((row_words[ROW_FLAGS] & FLAG_SAMPLE) == 0u)
			continue;
		why = sample_row(left);
		if (why == 0u)
			left++;
		else if (why == STOP_FULL)
			stop = STOP_FULL;
		failed = failed || why == FAILED;
	}
	if (gl_LocalInvocationID.x != 0u || (live == 0u && state[STATE_STOP] != 0u))
		return;
	state[STATE_LIVE] = left;
	/* Without a finite logit the text ends for all rows; the host's own word stays. */
	if (left == 0u || failed)
		atomicCompSwap(state[STATE_STOP], 0u, stop);
}
