/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The norm of the rows of x, taken by the reader. After mm.glsl; HIDDEN, NORM, FLAGS, EPS are the
 * shader's constants, and params begins with the norm's weight [H] and bias [H]. */

const uint NORM_WORDS = BLOCKS * 32u;	/* of x, and of the weight */

/* Mean and 1 / deviation of each token of the tile. */
shared vec2 norms[TOKENS];

/* The sum over all invocations, in lane 0. */
tokens_t lanes_sum(tokens_t v)
{
	uint slots = 4u, first = 32u;
	sum_t sum = sum_t(v);

#ifdef MATH_F32S
	slots = gl_NumSubgroups;
	first = 0u;
#if TOKENS == 8
	sum = mat2x4(subgroupAdd(v[0]), subgroupAdd(v[1]));
#else
	sum = sum_t(subgroupAdd(v));
#endif
	if (subgroupElect())
		slot_put(gl_SubgroupID, sum);
#else
	sum = splits_sum(sum);
	if (lane() < 32u)
		slot_put(lane(), sum);
	barrier();
	if (lane() < 4u) {
		sum = slot_get(lane() * 8u);
		for (uint i = 1u; i < 8u; i++)
			sum += slot_get(lane() * 8u + i);
		slot_put(32u + lane(), sum);
	}
#endif
	barrier();
	if (lane() == 0u) {
		sum = slot_get(first);
		for (uint i = 1u; i < slots; i++)
			sum += slot_get(first + i);
	}
#if PANELS == 2
	return sum.x;
#else
	return sum;
#endif
}

/* 4 inputs less the mean, 0 past the last. */
vec4 norm_centred(uint row, uint k4, float mean)
{
	vec4 x = source[row * (NORM_WORDS / 4u) + k4];

	if (NORM == NORM_LAYER)
		x -= mean;
	if (HIDDEN % 32u != 0u)
		x = mix(vec4(0.0), x, lessThan(uvec4(k4 * 4u) + uvec4(0u, 1u, 2u, 3u),
					       uvec4(HIDDEN)));
	return x;
}

float norm_total(uint t, uint k4, bool squares, float sum)
{
	vec4 x = norm_centred(tile_row(t), k4, squares ? norms[t].x : 0.0);
	vec4 y = squares ? x : vec4(1.0);
	precise float s = sum;

	s = fma(x.x, y.x, s);
	s = fma(x.y, y.y, s);
	s = fma(x.z, y.z, s);
	s = fma(x.w, y.w, s);
	return s;
}

#if TOKENS > 1
vec4 norm_total4(uint t, uint k4, bool squares, vec4 sum)
{
	return vec4(norm_total(t, k4, squares, sum.x), norm_total(t + 1u, k4, squares, sum.y),
		    norm_total(t + 2u, k4, squares, sum.z), norm_total(t + 3u, k4, squares, sum.w));
}
#endif

/* Of the elements or of their squares, in lane 0. */
tokens_t norm_totals(bool squares)
{
	tokens_t sum = tokens_t(0.0);

	for (uint k4 = lane(); k4 < NORM_WORDS / 4u; k4 += gl_WorkGroupSize.x) {
#if TOKENS == 1
		sum = norm_total(0u, k4, squares, sum);
#elif TOKENS == 4
		sum = norm_total4(0u, k4, squares, sum);
#else
		sum[0] = norm_total4(0u, k4, squares, sum[0]);
		sum[1] = norm_total4(4u, k4, squares, sum[1]);
#endif
	}
	return lanes_sum(sum);
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
		sum = norm_totals(false);
		if (lane() == 0u)
			EACH_TOKEN(norm_put_mean, sum);
		barrier();
	}
	sum = norm_totals(true);
	if (lane() == 0u)
		EACH_TOKEN(norm_put_scale, sum);
	barrier();
}

vec4 mm_input(uint t, uint row, uint k4)
{
	vec4 x = norm_centred(row, k4, norms[t].x) * norms[t].y * params4[k4];

	if ((FLAGS & FLAG_NORM_BIAS) != 0u)
		x += params4[NORM_WORDS / 4u + k4];
	return x;
}

/* What follows in params. */
const uint PARAMS_NEXT = (FLAGS & FLAG_NORM_BIAS) != 0u ? 2u * NORM_WORDS : NORM_WORDS;
