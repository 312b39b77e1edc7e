/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The norm of the rows of x, taken by the reader. After mm.glsl; HIDDEN, NORM, FLAGS, EPS are the
 * shader's constants, and params begins with the norm's weight [H] and bias [H]. */

const uint NORM_WORDS = BLOCKS * 32u;	/* of x, and of the weight */

/* Mean and 1 / deviation of each token of the tile. */
shared vec2 norms[TOKENS];

/* The sum over all invocations, for all of them. */
tokens_t lanes_sum(tokens_t v)
{
	uint slots = 4u, first = 32u;
	tokens_t sum;

#ifdef MATH_F32S
	slots = gl_NumSubgroups;
	first = 0u;
#if TOKENS == 8
	sum = mat2x4(subgroupAdd(v[0]), subgroupAdd(v[1]));
#else
	sum = subgroupAdd(v);
#endif
	if (subgroupElect())
		slot_put(gl_SubgroupID, sum);
#else
	sum = splits_sum(v);
	if (lane() < 32u)
		slot_put(lane(), sum);
	barrier();
	if (lane() < 4u) {
		sum = slot_get(lane() * 8u);
		for (uint i = 1u, end = live_only(8u); i < end; i++)
			sum += slot_get(lane() * 8u + i);
		slot_put(32u + lane(), sum);
	}
#endif
	barrier();
	sum = slot_get(first);
	for (uint i = 1u, end = live_only(slots); i < end; i++)
		sum += slot_get(first + i);
	return sum;
}

/* 0 where an input is past the last. */
vec2 norm_cut(uint k2, vec2 x)
{
	if (HIDDEN % 32u != 0u)
		x = mix(vec2(0.0), x, lessThan(uvec2(k2 * 2u, k2 * 2u + 1u), uvec2(HIDDEN)));
	return x;
}

/* 2 inputs less the mean. */
vec2 norm_centred(uint row, uint k2, float mean)
{
	vec2 x = source2[row * (NORM_WORDS / 2u) + k2];

	if (NORM == NORM_LAYER)
		x = norm_cut(k2, x - mean);
	return x;
}

/* sum + the elements or, less the mean, their squares. */
float norm_total(uint t, float sum, uint k2, bool squares)
{
	vec2 x = norm_centred(tile_row(t), k2, squares ? norms[t].x : 0.0);
	vec2 y = squares ? x : vec2(1.0);
	precise float s = fma(x.x, y.x, sum);

	return fma(x.y, y.y, s);
}

void norm_put_mean(uint t, float sum)
{
	norms[t].x = sum / float(HIDDEN);
}

void norm_put_scale(uint t, float sum)
{
	norms[t].y = 1.0 / sqrt(sum / float(HIDDEN) + EPS);
}

/* Called by all, after tile_init() and before x is asked for. */
void norm_init()
{
	tokens_t sum;

	if (NORM == NORM_LAYER) {
		sum = tokens_t(0.0);
		for (uint k2 = lane(), end = live_only(NORM_WORDS / 2u); k2 < end;
		     k2 += gl_WorkGroupSize.x)
			MAP_TOKENS(sum, norm_total, k2, false);
		sum = lanes_sum(sum);
		if (lane() == 0u)
			EACH_TOKEN(norm_put_mean, sum);
		barrier();
	}
	sum = tokens_t(0.0);
	for (uint k2 = lane(), end = live_only(NORM_WORDS / 2u); k2 < end; k2 += gl_WorkGroupSize.x)
		MAP_TOKENS(sum, norm_total, k2, true);
	sum = lanes_sum(sum);
	if (lane() == 0u)
		EACH_TOKEN(norm_put_scale, sum);
	barrier();
}

vec2 mm_input(uint t, uint row, uint k2)
{
	vec2 x = norm_centred(row, k2, norms[t].x) * norms[t].y * params2[k2];

	if ((FLAGS & FLAG_NORM_BIAS) != 0u)
		x += params2[NORM_WORDS / 2u + k2];
	return norm_cut(k2, x);
}

/* What follows in params. */
const uint PARAMS_NEXT = (FLAGS & FLAG_NORM_BIAS) != 0u ? 2u * NORM_WORDS : NORM_WORDS;
