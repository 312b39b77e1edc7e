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
#include "shaders/layout.h"

#define K	96u	/* an odd number of blocks */

static uint64_t rng = 1;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 33);
}

static uint32_t row_bytes(uint32_t type)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	return K / info->block * info->bytes;
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* Random bytes, with scales and floats that are finite. */
static void random_row(uint32_t type, uint8_t *row)
{
	const struct unpu_type_info *info = unpu_type_info(type);

	for (uint32_t i = 0; i < row_bytes(type); i++)
		row[i] = (uint8_t)rnd();
	for (uint32_t b = 0; b < K / info->block; b++) {
		uint8_t *p = row + b * info->bytes;
		float f = (float)(rnd() % 4001) / 1000 - 2;

		switch (type) {
		case UNPU_TYPE_F32:
			memcpy(p, &f, 4);
			break;
		case UNPU_TYPE_BF16:
			put16(p, 0x3f80 + rnd() % 128);
			break;
		default:
			put16(p, (rnd() & 0x8000) | (0x2000 + rnd() % 0x2000));
		}
	}
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

/* The file's value, by the format's own description. */
static double file_value(uint32_t type, const uint8_t *row, uint32_t i)
{
	uint32_t bits;
	float f;

	switch (type) {
	case UNPU_TYPE_F32:
		memcpy(&f, row + 4 * i, 4);
		return (double)f;
	case UNPU_TYPE_F16:
		return half(row + 2 * i);
	case UNPU_TYPE_BF16:
		bits = (uint32_t)row[2 * i] << 16 | (uint32_t)row[2 * i + 1] << 24;
		memcpy(&f, &bits, 4);
		return (double)f;
	case UNPU_TYPE_Q8_0:
		row += i / 32 * 34;
		return half(row) * (int8_t)row[2 + i % 32];
	default:
		row += i / 32 * 18;
		bits = row[2 + i % 16];
		return half(row) * ((int)(i % 32 < 16 ? bits & 15 : bits >> 4) - 8);
	}
}

static int nibble_signed(uint32_t n)
{
	return n < 8 ? (int)n : (int)n - 16;
}

/* The panel's value, by the comment in shaders/layout.h. */
static double panel_value(uint32_t layout, const uint8_t *q, const uint8_t *s, uint32_t r,
			  uint32_t i)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint32_t R = info->panel, b = i / 32, k = i % 32, n;
	const uint8_t *block = q + (uint64_t)b * R * info->bits * 4;
	float f;

	if (!info->scales) {
		n = i * R + r;
		if (layout == DRM_UNPU_LAYOUT_F32_R32)
			n = b * 32 * R + k / 4 * 4 * R + r * 4 + k % 4;
		if (layout == DRM_UNPU_LAYOUT_F16_R32)
			n = b * 32 * R + k / 8 * 8 * R + r * 8 + k % 8;
		if (info->bits == 32) {
			memcpy(&f, q + 4 * n, 4);
			return (double)f;
		}
		if (info->bits == 16 && layout != DRM_UNPU_LAYOUT_BF16_R16)
			return half(q + 2 * n);
		return file_value(UNPU_TYPE_BF16, q, n);
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

static void check_layout(uint32_t layout, const uint32_t *types, uint32_t num_types)
{
	const struct unpu_layout_info *info = unpu_layout_info(layout);
	uint8_t file[UNPU_PANEL_MAX][K * 4], *quants, *scales;
	struct unpu_pack_row rows[UNPU_PANEL_MAX] = { 0 };

	quants = calloc(1, unpu_panel_bytes(layout, K));
	scales = calloc(K / 32 * UNPU_PANEL_MAX, 2);
	for (uint32_t r = 0; r < info->panel; r++) {
		if (r == 3)
			continue;	/* a row of zeros */
		rows[r].type = types[r % num_types];
		rows[r].data = file[r];
		random_row(rows[r].type, file[r]);
	}
	unpu_pack_panel(layout, rows, K, quants, scales);
	for (uint32_t r = 0; r < info->panel; r++)
		for (uint32_t i = 0; i < K; i++) {
			double want = r == 3 ? 0 : file_value(rows[r].type, file[r], i);

			assert_true(panel_value(layout, quants, scales, r, i) == want);
		}
	free(quants);
	free(scales);
}

static const uint32_t all_types[] = { UNPU_TYPE_F32, UNPU_TYPE_F16, UNPU_TYPE_BF16, UNPU_TYPE_Q8_0,
				      UNPU_TYPE_Q4_0 };

static void packed_is_exact(void **state)
{
	uint32_t checked = 0;

	(void)state;
	for (uint32_t layout = 0; layout < DRM_UNPU_LAYOUT_COUNT; layout++) {
		uint32_t types[5], n = 0;

		for (uint32_t i = 0; i < 5; i++)
			if (unpu_layout_holds(layout, all_types[i]))
				types[n++] = all_types[i];
		assert_true(n > 0);
		if (!unpu_layout_info(layout)->packed)
			continue;
		for (uint32_t i = 0; i < n; i++)
			check_layout(layout, &types[i], 1);
		check_layout(layout, types, n);
		checked++;
	}
	assert_int_equal(checked, 14);
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

		random_row(all_types[i], file);
		assert_int_equal(unpu_panel_bytes(layouts[i], K), row_bytes(all_types[i]));
		unpu_pack_panel(layouts[i], &row, K, out, NULL);
		assert_memory_equal(file, out, row_bytes(all_types[i]));
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
		cmocka_unit_test(gguf_rows_are_copied),
		cmocka_unit_test(halves_are_exact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
