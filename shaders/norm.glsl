/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The norm of the rows of x, taken by the reader. After mm.glsl; HIDDEN, NORM, FLAGS, EPS are the
 * shader's constants, and params begins with the norm's weight [H] and bias [H]. */

const uint NORM_WORDS = BLOCKS * 32u;	/* of x, and of the weight */

/* Mean and 1 / deviation of each token of the tile. */
shared vec2 norms[TOKENS];

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

/* What invocations have summed, 256 for each row of the tile, where x will lie. */
float part_get(uint t, uint i)
{
	return uintBitsToFloat(xs[t * 256u + i].x);
}

void part_put(uint t, uint i, float sum)
{
	xs[t * 256u + i].x = floatBitsToUint(sum);
}

/* Elements t * 256 + first + i * step, i < n. */
float parts_sum(uint t, uint first, uint step, uint n)
{
	precise float sum = part_get(t, first);

	for (uint i = 1u, end = live_only(n); i < end; i++)
		sum += part_get(t, first + i * step);
	return sum;
}

void norm_part(uint t, bool squares)
{
	uint row = tile_row(t);
	float mean = squares && NORM == NORM_LAYER ? norms[t].x : 0.0;
	precise float sum = 0.0;

	for (uint k2 = lane(), end = live_only(NORM_WORDS / 2u); k2 < end;
	     k2 += gl_WorkGroupSize.x) {
		vec2 x = norm_centred(row, k2, mean);
		vec2 y = squares ? x : vec2(1.0);

		sum = fma(x.x, y.x, sum);
		sum = fma(x.y, y.y, sum);
	}
#ifdef MATH_F32S
	sum = subgroupAdd(sum);
	if (subgroupElect())
		part_put(t, gl_SubgroupID, sum);
#else
	part_put(t, lane(), sum);
#endif
}

/*
 * Sums of the elements or, less the mean, of their squares; row t's in lane t. By steps, in an
 * order that the number of rows does not change: over splits, over eighths, over the rest.
 */
float norm_total(bool squares)
{
	uint first = 32u, parts = 4u;

	barrier();
#if TOKENS == 1
	norm_part(0u, squares);
#else
	for (uint t = 0u; t < tile_rows; t++)
		norm_part(t, squares);
#endif
	barrier();
#ifdef MATH_F32S
	first = 0u;
	parts = gl_NumSubgroups;
#elif TOKENS == 1
	if (lane() < 32u)
		part_put(0u, lane(), parts_sum(0u, lane(), 32u, KS));
	barrier();
	if (lane() < 4u)
		part_put(0u, 32u + lane(), parts_sum(0u, lane() * 8u, 1u, 8u));
	barrier();
#else
	for (uint i = lane(); i < tile_rows * 32u; i += gl_WorkGroupSize.x)
		part_put(i / 32u, i % 32u, parts_sum(i / 32u, i % 32u, 32u, KS));
	barrier();
	for (uint i = lane(); i < tile_rows * 4u; i += gl_WorkGroupSize.x)
		part_put(i / 4u, 32u + i % 4u, parts_sum(i / 4u, i % 4u * 8u, 1u, 8u));
	barrier();
#endif
	return parts_sum(min(lane(), uint(TOKENS) - 1u), first, 1u, parts);
}

/* Called by all, after tile_init() and before x is asked for. */
void norm_init()
{
	float sum;

	if (NORM == NORM_LAYER) {
		sum = norm_total(false) / float(HIDDEN);
		if (lane() < uint(TOKENS))
			norms[lane()].x = sum;
	}
	sum = 1.0 / sqrt(norm_total(true) / float(HIDDEN) + EPS);
	if (lane() < uint(TOKENS))
		norms[lane()].y = sum;
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
