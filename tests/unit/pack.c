/* SPDX-License-Identifier: MIT */
/* Every packed layout, read back by the words of shaders/layout.h, holds the file's values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/half.h"
#include "runtime/model/gguf.h"
#include "runtime/plan/panels.h"
#include "runtime/device/cpu/c.h"
#include "shaders/layout.h"
#include "tests/lib/oracle.h"

#define K	96u	/* an odd number of blocks */
#define K_SUPER	768u	/* and of superblocks */

static uint64_t rng = 1;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 33);
}

static uint32_t row_bytes(uint32_t type, uint32_t k)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	return k / info->block * info->bytes;
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* Of both signs, from 2^-7 to 2. */
static uint32_t random_half(void)
{
	return (rnd() & 0x8000) | (0x2000 + rnd() % 0x2000);
}

static void random_scales(uint32_t type, uint8_t *p)
{
	float f = (float)(rnd() % 4001) / 1000 - 2;

	switch (type) {
	case UNPU_TYPE_F32:
		memcpy(p, &f, 4);
		break;
	case UNPU_TYPE_BF16:
		put16(p, 0x3f80 + rnd() % 128);
		break;
	case UNPU_TYPE_Q6_K:
		put16(p + 208, random_half());
		break;
	case UNPU_TYPE_Q4_1:
	case UNPU_TYPE_Q5_1:
	case UNPU_TYPE_Q4_K:
	case UNPU_TYPE_Q5_K:
		put16(p + 2, random_half());
		put16(p, random_half());
		break;
	default:
		put16(p, random_half());
	}
}

/* Random bytes, with scales and floats that are finite. */
static void random_row(uint32_t type, uint32_t k, uint8_t *row)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	for (uint32_t i = 0; i < row_bytes(type, k); i++)
		row[i] = (uint8_t)rnd();
	for (uint32_t b = 0; b < k / info->block; b++)
		random_scales(type, row + b * info->bytes);
}

static double half(const uint8_t *p)
{
	uint32_t h = (uint32_t)p[0] | (uint32_t)p[1] << 8, e = h >> 10 & 31, m = h & 1023;
	double v = e ? (1024.0 + m) / 1024 : m / 512.0;

	for (uint32_t i = e; i < 15; i++)
		v /= 2;
	for (uint32_t i = 15; i < e; i++)
		v *= 2;
	return h & 0x8000 ? -v : v;
}

static int nibble_signed(uint32_t n)
{
	return n < 8 ? (int)n : (int)n - 16;
}

static double f32_value(const uint8_t *p)
{
	float f;

	memcpy(&f, p, 4);
	return (double)f;
}

/* Which nibble of a block, two a byte, low first. */
static uint32_t nibble_at(uint32_t layout, uint32_t R, uint32_t r, uint32_t k)
{
	uint32_t i = k % 16;

	if (layout == DRM_UNPU_LAYOUT_Q4K_R8_K16 || layout == DRM_UNPU_LAYOUT_Q6K_R8_K16)
		return 2 * (r * 16 + i) + k / 16;
	return 2 * (i / 4 * 4 * R + r * 4 + i % 4) + k / 16;
}

static double q4k_value(uint32_t layout, const uint8_t *block, const uint8_t *s, uint32_t r,
			uint32_t i)
{
	uint32_t R = unpu_layout_info(layout)->panel, n = nibble_at(layout, R, r, i % 32);
	const uint8_t *sub = s + 4 * R + i / 32 % 8 * 2 * R;
	int q = block[n / 2] >> n % 2 * 4 & 15;

	if (layout == DRM_UNPU_LAYOUT_Q4K_R8_K16)
		q = nibble_signed((uint32_t)q) + 8;
	return half(s + 2 * r) * sub[r] * q - half(s + 2 * R + 2 * r) * sub[R + r];
}

static double q6k_value(uint32_t layout, const uint8_t *block, const uint8_t *s, uint32_t r,
			uint32_t i)
{
	uint32_t R = unpu_layout_info(layout)->panel, n = nibble_at(layout, R, r, i % 32);
	uint32_t at = n / 2, bit = n % 2 * 2;
	int low = block[at] >> n % 2 * 4 & 15;

	if (at >= 8 * R) {
		at -= 8 * R;
		bit += 4;
	}
	low += (block[16 * R + at] >> bit & 3) * 16;
	return half(s + 2 * r) * (int8_t)s[2 * R + i / 16 % 16 * R + r] * (low - 32);
}

static double q8a_value(uint32_t layout, const uint8_t *block, const uint8_t *s, uint32_t r,
			uint32_t i)
{
	uint32_t R = unpu_layout_info(layout)->panel, k = i % 32, n = k / 4 * 4 * R + r * 4 + k % 4;
	int q = (int8_t)block[layout == DRM_UNPU_LAYOUT_Q8A_R8_K16 ? r * 32 + k : n];

	if (layout == DRM_UNPU_LAYOUT_Q8A_R16_K4U)
		q = block[n] - 128;
	return f32_value(s + 4 * (k / 16 * R + r)) * q + f32_value(s + 4 * (2 * R + r));
}

static double k_value(uint32_t layout, const uint8_t *q, const uint8_t *s, uint32_t r, uint32_t i)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);

	q += (uint64_t)(i / 32) * info->panel * info->bits * 4;
	s += (uint64_t)(i / info->group) * info->panel * info->scales;
	if (info->family == UNPU_FAMILY_Q4K)
		return q4k_value(layout, q, s, r, i);
	if (info->family == UNPU_FAMILY_Q6K)
		return q6k_value(layout, q, s, r, i);
	return q8a_value(layout, q, s, r, i);
}

/* The panel's value, by the comment in shaders/layout.h. */
static double panel_value(uint32_t layout, const uint8_t *q, const uint8_t *s, uint32_t r,
			  uint32_t i)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint32_t R = info->panel, b = i / 32, k = i % 32, n;
	const uint8_t *block = q + (uint64_t)b * R * info->bits * 4;

	if (info->family > UNPU_FAMILY_Q)
		return k_value(layout, q, s, r, i);
	if (!info->scales) {
		n = i * R + r;
		if (layout == DRM_UNPU_LAYOUT_F32_R32)
			n = b * 32 * R + k / 4 * 4 * R + r * 4 + k % 4;
		if (layout == DRM_UNPU_LAYOUT_F16_R32)
			n = b * 32 * R + k / 8 * 8 * R + r * 8 + k % 8;
		if (info->bits == 32)
			return f32_value(q + 4 * n);
		if (info->bits == 16 && layout != DRM_UNPU_LAYOUT_BF16_R16)
			return half(q + 2 * n);
		return oracle_value(UNPU_TYPE_BF16, q, n);
	}
	switch (layout) {
	case DRM_UNPU_LAYOUT_Q8_R8_K16:
		n = (uint32_t)(int8_t)block[r * 32 + k];
		break;
	case DRM_UNPU_LAYOUT_Q8_R8_K4:
		n = (uint32_t)(int8_t)block[k / 4 * 4 * R + r * 4 + k % 4];
		break;
	case DRM_UNPU_LAYOUT_Q8_R16_K4U:
		n = (uint32_t)block[k / 4 * 4 * R + r * 4 + k % 4] - 128;
		break;
	case DRM_UNPU_LAYOUT_Q4_R8_K16:
		n = block[r * 16 + k % 16] >> (k < 16 ? 0 : 4) & 15;
		n = (uint32_t)nibble_signed(n);
		break;
	case DRM_UNPU_LAYOUT_Q8_R32:
		n = (uint32_t)(int8_t)block[k / 16 * 16 * R + r * 16 + k % 16];
		break;
	case DRM_UNPU_LAYOUT_Q4_R32:
		n = (block[r * 16 + k % 16] >> (k < 16 ? 0 : 4) & 15u) - 8;
		break;
	default:
		n = block[k % 16 / 4 * 4 * R + r * 4 + k % 4] >> (k < 16 ? 0 : 4) & 15;
		n = layout == DRM_UNPU_LAYOUT_Q4_R8_K4 ? (uint32_t)nibble_signed(n) : n - 8;
	}
	return half(s + 2 * (b * R + r)) * (int)n;
}

/* A row of zeros, what else is there in its panel notwithstanding. */
#define ZERO_ROW	3u

struct panel {
	uint8_t file[UNPU_PANEL_MAX][K_SUPER * 4];
	struct unpu_pack_row rows[UNPU_PANEL_MAX];
	uint8_t *quants, *scales;
	uint32_t k;
};

/* A panel of rows of these types in turn. */
static struct panel *panel_create(uint32_t layout, const uint32_t *types, uint32_t num_types)
{
	struct panel *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->k = K;
	for (uint32_t i = 0; i < num_types; i++)
		p->k = unpu_type_info(types[i])->block > 32 ? K_SUPER : p->k;
	p->quants = calloc(1, unpu_panel_bytes(layout, p->k));
	p->scales = calloc(1, unpu_panel_scale_bytes(layout, p->k) + 1);
	for (uint32_t r = 0; r < unpu_layout_info(layout)->panel; r++) {
		if (r == ZERO_ROW)
			continue;
		p->rows[r].type = types[r % num_types];
		p->rows[r].data = p->file[r] + r % 2;	/* the file's alignment is none */
		random_row(p->rows[r].type, p->k, p->file[r] + r % 2);
	}
	unpu_pack_panel(layout, p->rows, p->k, p->quants, p->scales);
	return p;
}

static void panel_destroy(struct panel *p)
{
	free(p->quants);
	free(p->scales);
	free(p);
}

static double row_value(const struct panel *p, uint32_t r, uint32_t i)
{
	return p->rows[r].data ? oracle_value(p->rows[r].type, p->rows[r].data, i) : 0;
}

static void check_layout(uint32_t layout, const uint32_t *types, uint32_t num_types)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	struct panel *p = panel_create(layout, types, num_types);
	float *row = calloc(p->k, sizeof(*row));

	for (uint32_t r = 0; r < info->panel; r++) {
		if (info->family > UNPU_FAMILY_Q)
			unpu_mm_k_row_c(layout, p->quants, p->scales, p->k, r, row);
		for (uint32_t i = 0; i < p->k; i++) {
			double all = row_value(p, r, i), want = info->scales ? all : (float)all;
			double have = panel_value(layout, p->quants, p->scales, r, i);

			if (have != want)
				fail_msg("%s, %s: row %u, %u: %.9g, not %.9g", info->name,
					 unpu_type_name(types[r % num_types]), r, i, have, want);
			/* Plain C has it rounded once. */
			if (info->family > UNPU_FAMILY_Q && (double)row[i] != (double)(float)want)
				fail_msg("%s: plain C: row %u, %u: %.9g, not %.9g", info->name, r,
					 i, (double)row[i], want);
		}
	}
	free(row);
	panel_destroy(p);
}

static const uint32_t all_types[] = {
	UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16, UNPU_TYPE_Q8_0, UNPU_TYPE_Q4_0,
	UNPU_TYPE_Q4_1, UNPU_TYPE_Q5_0, UNPU_TYPE_Q5_1, UNPU_TYPE_IQ4_NL, UNPU_TYPE_Q4_K,
	UNPU_TYPE_Q5_K, UNPU_TYPE_Q6_K,
};
#define NUM_TYPES	(sizeof(all_types) / sizeof(all_types[0]))

static void packed_is_exact(void **state)
{
	uint32_t checked = 0, pairs = 0;

	(void)state;
	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++) {
		uint32_t types[NUM_TYPES], n = 0;

		for (uint32_t i = 0; i < NUM_TYPES; i++)
			if (unpu_layout_holds(layout, all_types[i]))
				types[n++] = all_types[i];
		assert_true(n > 0);
		if (!unpu_layout_info(layout)->packed)
			continue;
		for (uint32_t i = 0; i < n; i++)
			check_layout(layout, &types[i], 1);
		check_layout(layout, types, n);
		checked++;
		pairs += n;
	}
	assert_int_equal(checked, 23);
	/* f32 12 each of 2, f16 and bf16 1 each of 3, q8 4 of 4, q4 1 of 5, q4k and q6k 1 of 6, q8a
	 * 9 of 3. */
	assert_int_equal(pairs, 24 + 3 + 16 + 5 + 6 + 27);
}

/* What no layout of a device holds is rounded to f16, each value on its own. */
static void rounded_is_nearest(void **state)
{
	static const uint32_t layouts[] = { DRM_UNPU_LAYOUT_F16_R16, DRM_UNPU_LAYOUT_F16_R32 };
	uint32_t checked = 0;

	(void)state;
	for (uint32_t i = 0; i < 2 * NUM_TYPES; i++) {
		uint32_t layout = layouts[i % 2], type = all_types[i / 2];
		struct panel *p;

		if (!unpu_layout_takes(layout, type))
			continue;
		p = panel_create(layout, &type, 1);
		for (uint32_t r = 0; r < unpu_layout_info(layout)->panel; r++)
			for (uint32_t j = 0; j < p->k; j++)
				assert_true(panel_value(layout, p->quants, NULL, r, j) ==
					    oracle_f16((double)(float)row_value(p, r, j)));
		panel_destroy(p);
		checked++;
	}
	assert_int_equal(checked, 20);
}

static void gguf_rows_are_copied(void **state)
{
	static const uint32_t layouts[] = { DRM_UNPU_LAYOUT_GGUF_F32, DRM_UNPU_LAYOUT_GGUF_F16,
					    DRM_UNPU_LAYOUT_GGUF_BF16, DRM_UNPU_LAYOUT_GGUF_Q8_0,
					    DRM_UNPU_LAYOUT_GGUF_Q4_0 };

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		uint8_t file[K * 4], out[K * 4];
		struct unpu_pack_row row = { file, all_types[i] };

		random_row(all_types[i], K, file);
		assert_int_equal(unpu_panel_bytes(layouts[i], K), row_bytes(all_types[i], K));
		unpu_pack_panel(layouts[i], &row, K, out, NULL);
		assert_memory_equal(file, out, row_bytes(all_types[i], K));
	}
}

static void halves_are_exact(void **state)
{
	(void)state;
	for (uint32_t h = 0; h < 65536; h++) {
		uint8_t bytes[2] = { (uint8_t)h, (uint8_t)(h >> 8) };

		if ((h >> 10 & 31) == 31)
			continue;
		assert_true((double)unpu_f16_float((uint16_t)h) == half(bytes));
	}
	assert_true(unpu_f16_float(0x7c00) > 3.4e38f);
	assert_true(unpu_f16_float(0xfc00) < -3.4e38f);
	assert_true(unpu_f16_float(0x7e00) != unpu_f16_float(0x7e00));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_is_exact),
		cmocka_unit_test(rounded_is_nearest),
		cmocka_unit_test(gguf_rows_are_copied),
		cmocka_unit_test(halves_are_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
